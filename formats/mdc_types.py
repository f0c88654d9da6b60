"""The types of mdc values: one table that the reader and the writer share (PROTOCOL section 5).

A type reads the text between its name and the comment, already stripped of blanks, and writes a
value so that reading it again gives an equal one. Both raise ValueError for what the type cannot
hold; `Type.expects` then says what it can.
"""

import datetime as dt
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from mirror.errors import ConfigError

MAX_DEPTH = 64
"""Blocks within blocks; real documents have a handful."""

NULL = "NULL"
"""What stands for no value, for any type."""

_F32_LIMIT = 3.4028235677973366e38
"""The smallest number that is rounded to infinity in 32 bits: half a step above the largest."""

_F64_LIMIT = math.inf

_REAL = r"(?:(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|inf|nan)"
_COMPLEX = re.compile(
    rf"([+-]?{_REAL})(?:([+-]{_REAL})[ij])?|([+-]?{_REAL})[ij]", re.ASCII | re.IGNORECASE
)
_TIME = re.compile(
    r"(\d{4}-\d\d-\d\d)"
    r"(?:[T ](?:([01]\d|2[0-3]):([0-5]\d))(?::([0-5]\d|60)(?:[.,](\d+))?)?"
    r"(Z|[+-](?:[01]\d|2[0-3]):?[0-5]\d)?)?",
    re.ASCII,
)
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_RESERVED = ("METADATA", "END", "TYPE")
_BOOLS = {"t": True, "true": True, "f": False, "false": False}


class MdcError(ConfigError):
    """A document has problems: all of them, each `SOURCE:LINE: what was expected, what came`."""


@dataclass(frozen=True, slots=True)
class Time:
    """A moment as it was written, no digit lost. `scale` is UTC, UT1, TAI or TT.

    Two times are equal if scale and text are.
    """

    text: str
    scale: str = "UTC"

    def __str__(self) -> str:
        return self.text

    def datetime(self) -> dt.datetime:
        """The moment to the microsecond (further digits cut).

        UTC is an aware datetime in UTC. The other scales differ from UTC by seconds that change
        over the years, so they are naive: comparing them with a UTC time raises TypeError instead
        of being wrong by half a minute. A leap second, which datetime has not, is the first
        second after it. Raises ValueError where `text` is no time.
        """
        match = _TIME.fullmatch(self.text)
        if not match:
            raise ValueError(f"an ISO 8601 time expected, not {self.text!r}")
        day, hour, minute, second, fraction, zone = match.groups()
        moment = dt.datetime.fromisoformat(day) + dt.timedelta(
            hours=int(hour or 0),
            minutes=int(minute or 0),
            seconds=int(second or 0),
            microseconds=int((fraction or "")[:6].ljust(6, "0")),
        )
        if self.scale != "UTC":
            return moment
        return (moment - _offset(zone)).replace(tzinfo=dt.UTC)

    @classmethod
    def of(cls, moment: dt.datetime) -> "Time":
        """The UTC time of an aware datetime; raises ValueError for a naive one."""
        if moment.tzinfo is None:
            raise ValueError(f"a datetime with a time zone expected, not {moment!r}")
        text = moment.astimezone(dt.UTC).replace(tzinfo=None).isoformat()
        return cls(text + "Z")


Value = Any
"""None, bool, int, float, complex, str, Time, a tuple of numbers or bools, a dict of texts (a
record), a tuple of names (a TYPE declaration) or a Block."""


@dataclass(frozen=True, slots=True)
class Type:
    """A type of values: its name, what its text looks like, and how to read and write it."""

    name: str
    expects: str
    read: Callable[[str], Value]
    write: Callable[[Value], str]


def _offset(zone: str | None) -> dt.timedelta:
    if zone is None or zone == "Z":
        return dt.timedelta()
    minutes = int(zone[1:3]) * 60 + int(zone[-2:])
    return dt.timedelta(minutes=-minutes if zone[0] == "-" else minutes)


def _integer(name: str) -> Type:
    """S8 to U64: decimal digits within the range."""
    bits = int(name[1:])
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if name[0] == "S" else (0, 2**bits - 1)

    def read(text: str) -> int:
        value = int(text)
        # int() would also take 1_000 and the digits of other scripts.
        if low <= value <= high and "_" not in text and text.isascii():
            return value
        raise ValueError

    def write(value: Value) -> str:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ValueError
        return str(value)

    return Type(name, f"a whole number from {low} to {high}", read, write)


def _real(text: str, limit: float) -> float:
    """A number below `limit`, or inf, -inf, nan where the text says so."""
    value = float(text)
    if -limit < value < limit and "_" not in text and text.isascii():
        return value
    if value != value:
        # One nan for all, so that lists and tuples that hold it compare equal.
        return math.nan
    if math.isinf(value) and "inf" in text.lower():
        return value
    raise ValueError


def _float(name: str, limit: float) -> Type:
    """F32 and F64. A F32 keeps the digits as written, it is not rounded to 32 bits."""

    def read(text: str) -> float:
        return _real(text, limit)

    def write(value: Value) -> str:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError
        text = repr(float(value))
        _real(text, limit)
        return text

    return Type(name, f"a number of {name[1:]} bits, inf, -inf or nan", read, write)


def _complex(name: str, limit: float) -> Type:
    """C32 and C64: `1.5`, `2i`, `1.5-2e3i`; j for i is accepted."""

    def read(text: str) -> complex:
        match = _COMPLEX.fullmatch(text)
        if not match:
            raise ValueError
        real, imaginary, alone = match.groups(default="0")
        return complex(_real(real, limit), _real(imaginary if alone == "0" else alone, limit))

    def write(value: Value) -> str:
        if isinstance(value, bool) or not isinstance(value, int | float | complex):
            raise ValueError
        value = complex(value)
        text = f"{value.real!r}{value.imag:+}i"
        read(text)
        return text

    return Type(name, "a complex number like 1.5-2i", read, write)


def _bool() -> Type:
    def read(text: str) -> bool:
        if (value := _BOOLS.get(text.lower())) is None:
            raise ValueError
        return value

    def write(value: Value) -> str:
        if not isinstance(value, bool):
            raise ValueError
        return "T" if value else "F"

    return Type("BOOL", "T, F, TRUE or FALSE", read, write)


def _text() -> Type:
    def write(value: Value) -> str:
        if not isinstance(value, str) or value == NULL or "#" in value or "\n" in value:
            raise ValueError
        if value != value.strip(" \t") or value.endswith("\r"):
            raise ValueError
        value.encode()
        return value

    # A text without a comment behind it is any text.
    return Type("STR", "a text of one line, without # and blanks at its ends, not NULL", str, write)


@lru_cache(maxsize=4096)
def _check_day(day: str) -> None:
    dt.date.fromisoformat(day)


def _time(scale: str) -> Type:
    """UTC, UT1, TAI, TT. An offset from UTC has a meaning for UTC alone."""

    def read(text: str) -> Time:
        match = _TIME.fullmatch(text)
        if not match or (match[6] not in (None, "Z") and scale != "UTC"):
            raise ValueError
        _check_day(match[1])
        return Time(text, scale)

    def write(value: Value) -> str:
        if isinstance(value, dt.datetime):
            value = Time.of(value)
        if not isinstance(value, Time) or value.scale != scale:
            raise ValueError
        return read(value.text).text

    return Type(scale, "an ISO 8601 time like 2009-04-15T01:22:12.5Z", read, write)


def _vector(of: Type) -> Type:
    """`@NAME TYPE V, V V,V`: at least one value, each separated by blanks or one comma."""

    def read(text: str) -> tuple[Value, ...]:
        return tuple(map(of.read, re.split(r"[ \t]*,[ \t]*|[ \t]+", text)))

    def write(value: Value) -> str:
        if not isinstance(value, tuple | list) or not value:
            raise ValueError
        return " ".join(map(of.write, value))

    return Type(
        f"@{of.name}", f"values separated by blanks or commas, each {of.expects}", read, write
    )


def _table() -> dict[str, Type]:
    whole = [_integer(sign + bits) for sign in "SU" for bits in ("8", "16", "32", "64")]
    real = [_float("F32", _F32_LIMIT), _float("F64", _F64_LIMIT)]
    imaginary = [_complex("C32", _F32_LIMIT), _complex("C64", _F64_LIMIT)]
    numbers = [*whole, *real, *imaginary, _bool()]
    others = [_text(), *(_time(scale) for scale in ("UTC", "UT1", "TAI", "TT"))]
    table = {one.name: one for one in [*numbers, *others, *map(_vector, numbers)]}
    table["STRING"] = table["STR"]
    return table


TYPES: Mapping[str, Type] = _table()
"""Every type by the name it is written with; vectors as `@S32`, STRING the same as STR."""


def find_type(word: str, kind: str) -> Type:
    """The type of an entry, by its name (`@` in front for a vector) and its type's name.

    Raises ValueError, with the types there are, where there is none.
    """
    vector = word.startswith("@")
    found = TYPES.get(f"@{kind}" if vector else kind)
    if found and not kind.startswith("@"):
        return found
    names = [name for name in TYPES if name[0] != "@" and (not vector or f"@{name}" in TYPES)]
    more = "" if vector else ", METADATA, MULTI or a record that TYPE declares in this block"
    raise ValueError(f"{word}: a type expected ({' '.join(names)}{more}), not {kind!r}")


def check_name(name: str) -> None:
    """Raise ValueError unless `name` can be that of an entry."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"a name of A-Z a-z 0-9 _ . - expected, not {name[:60]!r}")
    if name.upper() in _RESERVED:
        raise ValueError(f"a name expected, not the keyword {name}")


def check_record(name: str, fields: tuple[str, ...]) -> None:
    """Raise ValueError unless `TYPE name fields…` declares a record."""
    check_name(name)
    if name in TYPES or name.upper() == "MULTI":
        raise ValueError(f"TYPE {name}: a new name expected, this one is taken")
    if fields in ((), ("",)) or len(set(fields)) < len(fields):
        raise ValueError(f"TYPE {name}: field names expected, each once, not {' '.join(fields)!r}")
    for one in fields:
        check_name(one)


def read_record(name: str, fields: tuple[str, ...], text: str) -> dict[str, str | None] | None:
    """A record's values by field. NULL is no value, for a field as for the whole record.

    Raises ValueError, with the `name` of the entry, for the wrong number of values.
    """
    if text == NULL:
        return None
    values = re.split(r"[ \t]+", text) if text else []
    if len(values) != len(fields):
        expected = f"{len(fields)} values expected ({' '.join(fields)})"
        raise ValueError(f"{name}: {expected}, not {len(values)}")
    pairs = zip(fields, values, strict=True)
    return {field: None if value == NULL else value for field, value in pairs}


def write_record(fields: tuple[str, ...], value: Value) -> str:
    """The text of a record; raises ValueError unless read_record reads it as `value`."""
    if value is None:
        return NULL
    if not isinstance(value, Mapping) or set(value) != set(fields):
        raise ValueError
    text = " ".join(NULL if value[field] is None else str(value[field]) for field in fields)
    if "\n" in text or "#" in text or text.endswith("\r"):
        raise ValueError
    if read_record("", fields, text) != value:
        raise ValueError
    text.encode()
    return text


def infer(value: Value) -> str:
    """The type that a Python value is written with; raises ValueError if there is none.

    bool is BOOL, int S64 (U64 beyond it), float F64, complex C64, str STR, an aware datetime
    UTC, a Time its scale, a tuple of these (but of no str or time) a vector; None is a STR.
    """
    if isinstance(value, Time):
        return value.scale
    if isinstance(value, tuple) and value:
        kinds = {infer(one) for one in value}
        for kind in ("BOOL", "S64", "U64", "F64", "C64"):
            if kinds <= _FITS[kind]:
                return f"@{kind}"
    if isinstance(value, int) and value > 2**63 - 1:
        return "U64"
    for python, kind in _INFERRED:
        if isinstance(value, python):
            return kind
    raise ValueError(f"a value that mdc has a type for expected, not {value!r}")


_INFERRED: tuple[tuple[type, str], ...] = (
    (bool, "BOOL"), (int, "S64"), (float, "F64"), (complex, "C64"),
    (str, "STR"), (dt.datetime, "UTC"), (type(None), "STR"),
)  # fmt: skip
_FITS = {
    "BOOL": {"BOOL"},
    "S64": {"S64"},
    "U64": {"S64", "U64"},
    "F64": {"S64", "U64", "F64"},
    "C64": {"S64", "U64", "F64", "C64"},
}
