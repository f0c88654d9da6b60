"""An imported run as the document it came from: the dbinfo of a fileset (PROTOCOL section 3).

It is the `xxxtool -exportrun` of the original, its `-clean` included.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from formats.mdc_types import NULL, TYPES
from mirror.errors import ConfigError, IntegrityError
from mirror.run_columns import declared_key
from mirror.run_tables import VERSION_TABLE
from server.database import Database
from server.runs import imported
from server.runs.imported import RunRow
from server.runs.stages import Stage

_STATES = ("state", "data_state")
_COMPONENTS = ("class_id", "skycell_id")
_PATHS = ("uri", "path_base")


def export_run(database: Database, stage: Stage, stage_id: int, *, clean: bool) -> Iterator[str]:
    """The dbinfo document of a run, table by table: its text in pieces.

    dbversion comes first, then each table of its kind with the rows of the run, typed as they
    were imported, the component before the paths. `clean`: states `full` become `cleaned`, as the
    large images are left out (seed 001). Everything inside is of one moment if the caller reads
    it in one transaction.

    Raises ConfigError where the run was not imported; the iterator raises IntegrityError for a
    value that no mdc can hold, which nobody can have imported.
    """
    if imported.find(database, stage.run_table, **{stage.id_column: stage_id}) is None:
        raise ConfigError(
            [f"{stage.name} {stage_id}: not imported; importrun reads it from its dbinfo"]
        )
    return _pieces(database, stage, stage_id, clean)


def _pieces(database: Database, stage: Stage, stage_id: int, clean: bool) -> Iterator[str]:
    run = f"{stage.name} {stage_id}"
    version = imported.select(database, VERSION_TABLE)
    yield from _table(run, VERSION_TABLE, imported.columns_of(database, VERSION_TABLE), version)
    for table in imported.tables_of(database, stage.run_table):
        if declared_key(table)[:1] not in ((), (stage.id_column,)):
            # Older versions took the rows of another kind of run in with this one's.
            continue
        rows = imported.select(database, table, **{stage.id_column: stage_id})
        if clean:
            rows = [_cleaned(row) for row in rows]
        yield from _table(run, table, imported.columns_of(database, table), rows)


def _cleaned(row: RunRow) -> RunRow:
    changed = {column: "cleaned" for column in _STATES if row.get(column) == "full"}
    return {**row, **changed}


def _table(run: str, table: str, types: Mapping[str, str], rows: Sequence[RunRow]) -> Iterator[str]:
    """A table's declaration and rows; nothing for one without rows."""
    columns = component_first(types)
    if rows:
        yield f"{table} MULTI\n\n"
    for row in rows:
        fields = [
            f"   {column:<16} {types[column]:<7} {_text(run, table, column, types, row)}"
            for column in columns
        ]
        yield "\n".join((f"{table} METADATA", *fields, "END\n\n"))


def component_first(columns: Sequence[str] | Mapping[str, str]) -> list[str]:
    """The columns in their order, but what names the component before the first path."""
    order = list(columns)
    first = next((at for at, column in enumerate(order) if column in _PATHS), len(order))
    late = [column for column in order[first:] if column in _COMPONENTS]
    return [*order[:first], *late, *(column for column in order[first:] if column not in late)]


def _text(run: str, table: str, column: str, types: Mapping[str, str], row: RunRow) -> str:
    """A value as the document has it."""
    value: Any = row[column]
    kind = types[column]
    if value is None:
        return NULL
    try:
        if kind == "BOOL":
            return {0: "F", 1: "T"}[value]
        if kind in ("UTC", "UT1", "TAI", "TT"):
            return str(TYPES[kind].read(str(value)))
        return TYPES[kind].write(value)
    except (ValueError, KeyError):
        raise IntegrityError(
            f"{run}: table {table}: column {column}: {TYPES[kind].expects} expected, not {value!r}"
        ) from None
