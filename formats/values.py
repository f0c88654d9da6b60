"""Values as people write them in mirror.yaml: sizes, durations, times, commands, addresses.

Every function takes the value that YAML made (and, where YAML's own reading loses something, the
text that was written) and returns what the program works with, or raises ValueError with what is
allowed. mirror_yaml puts file, line and key in front of it.
"""

import re
import shlex
from datetime import UTC, datetime, time, timedelta
from urllib.parse import urlsplit

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kKMGT]?)(i?)B?")
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd])")
_CLOCK = re.compile(r"(\d{1,2}):(\d\d)(?::(\d\d))?")
_POWERS = {"": 0, "k": 1, "K": 1, "M": 2, "G": 3, "T": 4}
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def read_size(value: object) -> int:
    """Bytes from `20MB` (20·10⁶), `1GiB` (2³⁰) or a plain number of bytes."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    match = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    if not match:
        raise ValueError(f"a size like 1GB, 500MB or 20kB expected, not {value!r}")
    number, prefix, binary = match.groups()
    base = 1024 if binary else 1000
    return int(float(number) * float(base ** _POWERS[prefix]))


def read_rate(value: object) -> int:
    """Bytes a second from `20MB` or `20MB/s`."""
    text = value.strip().removesuffix("/s") if isinstance(value, str) else value
    try:
        rate = read_size(text)
    except ValueError:
        rate = 0
    if rate <= 0:
        raise ValueError(f"bytes a second like 20MB expected, not {value!r}")
    return rate


def read_seconds(value: object) -> float:
    """Seconds from a number or a duration such as `90s`, `30m`, `4h`."""
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e9:
        return float(value)
    match = _DURATION.fullmatch(value.strip()) if isinstance(value, str) else None
    if not match or float(match[1]) <= 0:
        raise ValueError(f"seconds, or a duration like 90s, 30m or 4h, expected, not {value!r}")
    return float(match[1]) * _SECONDS[match[2]]


def read_deadline(text: str) -> time | timedelta:
    """A local time of day (`06:00`) or a duration from the start (`4h`).

    Takes the text as written, because YAML reads an unquoted 23:59 as the number 1439.
    """
    clock = _CLOCK.fullmatch(text.strip())
    try:
        if clock:
            return time(int(clock[1]), int(clock[2]), int(clock[3] or 0))
        if _DURATION.fullmatch(text.strip()):
            return timedelta(seconds=read_seconds(text))
    except ValueError:
        pass
    raise ValueError(f"a local time like 06:00, or a duration like 90s, 30m, 4h, not {text!r}")


def read_since(text: str) -> datetime | str:
    """A UTC time (registered at or after it) or, if it is none, a fileset name (after it)."""
    if not re.match(r"\d{4}-\d{1,2}-\d{1,2}(\D|$)", text.strip()):
        return text.strip()
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise ValueError(
            f"a UTC time like 2026-01-31T12:00:00Z, or a fileset name, not {text!r}"
        ) from None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def read_command(value: object) -> tuple[str, ...]:
    """A command as a list of arguments, from such a list or from a string split as a shell would.

    It is never run by a shell.
    """
    words: list[str] = []
    if isinstance(value, str):
        try:
            words = shlex.split(value)
        except ValueError as error:
            raise ValueError(f"a command that can be split into words: {error}") from None
    elif isinstance(value, list) and all(isinstance(word, str) for word in value):
        words = value
    if not words or any("\0" in word for word in words):
        raise ValueError(f"a command as a string or a list of strings expected, not {value!r}")
    return tuple(words)


def read_uri(value: object) -> str:
    """The root of a Data Store, with its trailing slash, from an address with or without
    index.txt."""
    if not isinstance(value, str):
        raise ValueError(f"an address like http://host/ds/index.txt expected, not {value!r}")
    uri = value.strip()
    try:
        parts = urlsplit(uri)
        named = parts.scheme in ("http", "https") and bool(parts.hostname)
        _ = parts.port
    except ValueError:
        named = False
    if not named or parts.query or parts.fragment or re.search(r"[\x00-\x20\x7f]", uri):
        shown = re.sub(r"//[^/@]*@", "//***@", value)  # credentials stay out of messages
        raise ValueError(f"an http:// or https:// address without a query expected, not {shown!r}")
    base = uri.removesuffix("index.txt") if parts.path.endswith("/index.txt") else uri
    return base if base.endswith("/") else base + "/"
