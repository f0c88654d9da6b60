"""What columns of runs become in SQL: names, types, keys and values, decided without a database.

| in the document | SQLite | PostgreSQL |
| --- | --- | --- |
| S8 … S64, U8 … U64 | INTEGER | BIGINT |
| BOOL | INTEGER, 0 or 1 | BIGINT, 0 or 1 |
| F32, F64 | REAL | DOUBLE PRECISION |
| STR | TEXT | TEXT |
| UTC, UT1, TAI, TT | TEXT, as it was written | TEXT, as it was written |

NULL is NULL, and so is `nan`, which SQLite has not. BOOL is a number in both, so that one
statement reads both.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from mirror.dirinfo import show

VERSION_TABLE = "dbversion"
"""The version of the database that a run was exported from: one row, of the newest import."""

MAX_KEY = 10
"""Columns of a key. With texts of MAX_KEY_TEXT bytes, PostgreSQL's indexes hold no more."""

MAX_KEY_TEXT = 255
"""Bytes of a text in a key: the names of components are parts of file names."""

MAX_NAME = 63
"""Bytes of a name in PostgreSQL."""

_MAX_WHOLE = 2**63 - 1

_KEYS: Mapping[str, tuple[str, ...]] = {
    "rawExp": ("exp_id",),
    "rawImfile": ("exp_id", "class_id"),
    "chipRun": ("chip_id",),
    "chipProcessedImfile": ("chip_id", "class_id"),
    "chipBackgroundRun": ("chip_bg_id",),
    "chipBackgroundImfile": ("chip_bg_id", "class_id"),
    "camRun": ("cam_id",),
    "camProcessedExp": ("cam_id",),
    "fakeRun": ("fake_id",),
    "fakeProcessedImfile": ("fake_id", "class_id"),
    "warpRun": ("warp_id",),
    "warpSkyfile": ("warp_id", "skycell_id"),
    "warpSkyCellMap": ("warp_id", "skycell_id", "class_id"),
    "warpImfile": ("warp_id", "class_id"),
    "warpBackgroundRun": ("warp_bg_id",),
    "warpBackgroundSkyfile": ("warp_bg_id", "skycell_id"),
    "diffRun": ("diff_id",),
    "diffSkyfile": ("diff_id", "skycell_id"),
    "diffInputSkyfile": ("diff_id", "skycell_id"),
    "stackRun": ("stack_id",),
    "stackSumSkyfile": ("stack_id",),
    "stackInputSkyfile": ("stack_id", "warp_id"),
    "staticskyRun": ("sky_id",),
    "staticskyResult": ("sky_id",),
    "staticskyInput": ("sky_id", "stack_id"),
    "skycalRun": ("skycal_id",),
    "skycalResult": ("skycal_id",),
    "fullForceRun": ("ff_id",),
    "fullForceSummary": ("ff_id",),
    "fullForceInput": ("ff_id", "warp_id"),
    "fullForceResult": ("ff_id", "warp_id"),
}
_NAMES = frozenset(("class_id", "skycell_id"))
_NUMBERS = frozenset(column for key in _KEYS.values() for column in key) - _NAMES

# Tables of ours, of the databases themselves, and what PostgreSQL calls the index of a key.
_OWN = re.compile(r"(?:ds|dist|rc|publish|run|sqlite_|pg_).*|.*_pkey[0-9]*", re.IGNORECASE)
_SYSTEM_COLUMNS = frozenset(("tableoid", "xmin", "cmin", "xmax", "cmax", "ctid"))

_WHOLE = re.compile(r"([SU])(8|16|32|64)")
_TIMES = ("UTC", "UT1", "TAI", "TT")
_SQL = {
    "sqlite": {"whole": "INTEGER", "real": "REAL", "text": "TEXT"},
    "postgres": {"whole": "BIGINT", "real": "DOUBLE PRECISION", "text": "TEXT"},
}


def quoted(name: str) -> str:
    """A table's or column's name as SQL text: case and odd characters stay."""
    return '"' + name.replace('"', '""') + '"'


class Refused(Exception):
    """Why a table, a column or a value is refused."""


def _family(kind: str) -> str | None:
    """What the types of a family have in common: each can become a wider one of it."""
    if _WHOLE.fullmatch(kind):
        return "whole"
    if kind in ("F32", "F64"):
        return "real"
    return kind if kind in ("STR", "BOOL", *_TIMES) else None


def sql_type(kind: str, database: str) -> str:
    """The type of a column in a database of the kind `sqlite` or `postgres`."""
    family = "whole" if kind == "BOOL" else _family(kind)
    return _SQL[database].get(family or "text", "TEXT")


def wider(one: str, other: str) -> str:
    """The type that holds the values of both: STR, as their text, where there is no other."""
    if one == other:
        return one
    families = {_family(one), _family(other)}
    if not families <= {"whole", "real"}:
        return "STR"
    if "real" in families:
        return "F64"
    if one[0] == other[0]:
        return max(one, other, key=lambda kind: int(kind[1:]))
    # A sign takes a bit; what a U64 has beyond S64 is refused anyway.
    bits = max(int(kind[1:]) * (2 if kind[0] == "U" else 1) for kind in (one, other))
    return f"S{min(bits, 64)}"


def alike(one: str, other: str) -> bool:
    """Whether the values of both types look the same in SQL: one is the wider of the two."""
    return _family(one) == _family(other)


def converted(column: str, before: str, after: str, database: str) -> str:
    """A column's values as SQL that makes the wider type `after` of `before`; see `wider`."""
    name = quoted(column)
    if sql_type(before, database) == sql_type(after, database):
        return name
    if before == "BOOL" and after == "STR":
        return f"CASE {name} WHEN 0 THEN 'F' WHEN 1 THEN 'T' END"
    cast = f"CAST({name} AS {sql_type(after, database)})"
    if database == "sqlite" and _family(before) == "real":
        # SQLite shows 15 digits, which may be another number.
        return (
            f"CASE WHEN CAST({cast} AS REAL) = {name} THEN {cast} ELSE printf('%!.17g', {name}) END"
        )
    return cast


def declared_key(table: str) -> tuple[str, ...]:
    """The key of a table that the pipeline is known to have; of any other, none."""
    return _KEYS.get(table, ())


def known_names(imported: Iterable[str]) -> dict[str, str]:
    """The tables that there are, or may be one day, by their names in lower case."""
    return {name.lower(): name for name in (*_KEYS, VERSION_TABLE, *imported)}


def check_table(table: str, folded: Mapping[str, str]) -> None:
    """Raise Refused for a name that no imported table may have; `folded`: see `known_names`."""
    if len(table) > MAX_NAME:
        raise Refused(f"a name of at most {MAX_NAME} bytes expected")
    if _OWN.fullmatch(table):
        raise Refused("the name is kept for tables of this program or of the database")
    known = folded.get(table.lower(), table)
    if known != table:
        raise Refused(f"differs from table {known} by case alone")


def check_column(column: str, kind: str, database: str) -> None:
    """Raise Refused for a column that no table may have."""
    if len(column) > MAX_NAME:
        raise Refused(f"a name of at most {MAX_NAME} bytes expected")
    if _family(kind) is None:
        raise Refused(f"a number, STR, BOOL or time expected, not {kind}")
    if database == "postgres" and column in _SYSTEM_COLUMNS:
        raise Refused("PostgreSQL keeps this name for itself")
    if column in _NUMBERS and _family(kind) != "whole":
        raise Refused(f"a whole number expected, not {kind}")
    if column in _NAMES and kind != "STR":
        raise Refused(f"a STR expected, not {kind}")


def column_problems(
    known: Mapping[str, str], key: Sequence[str], columns: Iterable[tuple[str, str]], database: str
) -> list[tuple[int, str]]:
    """Which columns of a row a table with the columns `known` cannot take, and why.

    A column is told by its place in `columns`, the row's names with their types.
    """
    folded = {column.lower(): column for column in known}
    problems = []
    for at, (column, kind) in enumerate(columns):
        other = folded.setdefault(column.lower(), column)
        try:
            if other != column:
                raise Refused(f"differs from column {other} by case alone")
            check_column(column, kind, database)
            before = known.get(column, kind)
            if column in key and not alike(before, kind):
                came = f"{before} expected in a key, as it was imported before, not {kind}"
                raise Refused(f"{came}; give it the type {before} in the document")
        except Refused as refused:
            problems.append((at, str(refused)))
    return problems


def wider_columns(known: Mapping[str, str], kinds: Mapping[str, str]) -> dict[str, str]:
    """The columns of a table that must become wider for these types, with what they become."""
    both = {column: wider(before, kinds[column]) for column, before in known.items()
            if column in kinds}  # fmt: skip
    return {column: kind for column, kind in both.items() if kind != known[column]}


def key_of(table: str, columns: Iterable[str], run_id: Sequence[str]) -> tuple[str, ...]:
    """The key of a new table: `run_id`, by which it is asked for, in front."""
    if table in _KEYS or table == VERSION_TABLE:
        return _KEYS.get(table, ())
    ids = [column for column in columns if column.endswith("_id") and column != "tess_id"]
    if not ids:
        raise Refused("a column *_id expected, which can be a key; there is none")
    if len(ids) > MAX_KEY:
        raise Refused(f"at most {MAX_KEY} columns *_id expected, not {len(ids)}")
    return tuple(sorted(ids, key=lambda column: column not in run_id))


def insert(table: str, columns: Sequence[str]) -> str:
    """The statement that writes a row."""
    marks = ", ".join("?" * len(columns))
    return f"INSERT INTO {quoted(table)} ({sql_list(columns)}) VALUES ({marks})"


def sql_list(columns: Iterable[str]) -> str:
    """Names as SQL lists them."""
    return ", ".join(map(quoted, columns))


Cast = Callable[[Any], object]
"""Makes of a value the one that is written, or raises Refused."""


def cast_of(kind: str, held: str, is_key: bool) -> Cast | None:
    """What makes of a value (never NULL) the one that is written; None if it is as it is.

    `kind`: its type; `held`: the type of the column, which is as wide or wider.
    """
    if held == "STR" and kind not in ("STR", *_TIMES):
        return _as_text
    if held == "F64" and _family(kind) == "whole":
        return float
    if kind == "STR":
        return _key_text if is_key else _text
    if kind in _TIMES:
        return str
    return _CASTS.get(kind)


def _as_text(value: bool | float) -> str | None:
    if isinstance(value, bool):
        return "T" if value else "F"
    return None if value != value else str(value)


def _text(value: str) -> str:
    if "\0" in value:
        raise Refused("a text without NUL expected")
    return value


def _key_text(value: str) -> str:
    if len(value.encode()) > MAX_KEY_TEXT:
        raise Refused(f"at most {MAX_KEY_TEXT} bytes expected in a key, not {show(value)}")
    return _text(value)


def _real(value: float) -> float | None:
    return None if value != value else value


def _whole(value: int) -> int:
    if value > _MAX_WHOLE:
        raise Refused(f"at most {_MAX_WHOLE} expected, not {value}")
    return value


_CASTS: Mapping[str, Cast] = {"F32": _real, "F64": _real, "BOOL": int, "U64": _whole}
