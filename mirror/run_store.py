"""The database's side of an import: tables of runs are looked up, created, widened and written.

Everything here happens inside the transaction of `mirror.run_tables.import_run`.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from mirror.run_columns import (
    alike,
    converted,
    declared_key,
    known_names,
    quoted,
    sql_list,
    sql_type,
)

SCHEMA = """
CREATE TABLE runTable (
    run_table TEXT NOT NULL,
    table_name TEXT NOT NULL,
    position INTEGER NOT NULL,
    PRIMARY KEY (run_table, table_name)
);
CREATE TABLE runColumn (
    table_name TEXT NOT NULL,
    column_name TEXT NOT NULL,
    type TEXT NOT NULL,
    position INTEGER NOT NULL,
    is_key INTEGER NOT NULL,
    PRIMARY KEY (table_name, column_name)
)
"""
"""`run_table`: the table that names the kind of run (chipRun); `table_name`: one of its tables, in
the order of the documents. `type`: as the document has it (S32, STR, …); `is_key`: the column is
part of the table's key."""

_LOCK = 1129595220
_REBUILT = "runRebuilt"  # No document can have a table of this name (mirror.run_columns).


class SqlDatabase(Protocol):
    """A connection with a transaction open, SQLite or PostgreSQL; `?` stands for a value."""

    kind: str
    """`sqlite` or `postgres`."""

    def rows(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """Every row of a query."""
        ...

    def change(self, sql: str, *values: object) -> int:
        """Run a statement; returns the number of rows it touched."""
        ...

    def change_many(self, sql: str, rows: Iterable[Sequence[object]]) -> None:
        """Run a statement once for each of `rows`."""
        ...


@dataclass(slots=True)
class Table:
    """A table as it is in the database; `columns` with their types. Without a key: dbversion.

    `owners` are the kinds of runs that it came with before; `rows` is how many came now.
    """

    name: str
    key: tuple[str, ...] = ()
    columns: dict[str, str] = field(default_factory=dict)
    owners: frozenset[str] = frozenset()
    rows: int = 0


def lock(database: SqlDatabase) -> None:
    """Wait for other imports: two that create the same table would be in each other's way."""
    if database.kind == "postgres":
        database.rows(f"SELECT pg_advisory_xact_lock({_LOCK})")


def known_tables(database: SqlDatabase) -> dict[str, str]:
    """The tables that there are, or may be one day, by their names in lower case."""
    return known_names(row[0] for row in database.rows("SELECT DISTINCT table_name FROM runColumn"))


def find(database: SqlDatabase, name: str) -> Table:
    """A table as it was imported before; one without columns is new."""
    known = database.rows(
        "SELECT column_name, type, is_key FROM runColumn WHERE table_name = ? ORDER BY position",
        name,
    )
    owners = database.rows("SELECT run_table FROM runTable WHERE table_name = ?", name)
    key = declared_key(name) or tuple(row[0] for row in known if row[2])
    columns = {row[0]: row[1] for row in known}
    return Table(name, key if known else (), columns, frozenset(row[0] for row in owners))


def tables_of(database: SqlDatabase, run_table: str) -> list[Table]:
    """The tables that came with this kind of run before."""
    rows = database.rows("SELECT table_name FROM runTable WHERE run_table = ?", run_table)
    return [find(database, row[0]) for row in rows]


def is_of_kind(table: Table, run_table: str, id_column: str) -> bool:
    """Whether a table's rows are of the kind of run that `run_table` names.

    `id_column` holds the ids of its runs. What a new table is of, its columns tell.
    """
    if table.name == run_table:
        return True
    if key := declared_key(table.name):
        return key[:1] == declared_key(run_table)[:1]
    if not table.columns:
        return True
    return table.owners <= {run_table} and id_column in table.key


def define(
    database: SqlDatabase, table: Table, key: Collection[str], new: Mapping[str, str]
) -> None:
    """Create the table with these columns, or add them to it; notes them, but not in `table`."""
    if table.columns:
        for column, kind in new.items():
            sql = sql_type(kind, database.kind)
            database.change(f"ALTER TABLE {quoted(table.name)} ADD COLUMN {quoted(column)} {sql}")
    else:
        _create(database, table.name, key, new)
    database.change_many(
        "INSERT INTO runColumn (table_name, column_name, type, position, is_key)"
        " VALUES (?, ?, ?, ?, ?)",
        [
            (table.name, column, kind, position, int(column in key))
            for position, (column, kind) in enumerate(new.items(), len(table.columns))
        ],
    )


def _create(
    database: SqlDatabase, name: str, key: Collection[str], columns: Mapping[str, str]
) -> None:
    lines = [
        f"{quoted(column)} {sql_type(kind, database.kind)}{' NOT NULL' * (column in key)}"
        for column, kind in columns.items()
    ]
    lines += [f"PRIMARY KEY ({sql_list(key)})"] if key else []
    database.change(f"CREATE TABLE {quoted(name)} ({', '.join(lines)})")


def change_types(database: SqlDatabase, table: Table, changed: Mapping[str, str]) -> None:
    """Give columns that there are wider types, and their values with them; `table` stays."""
    for column, kind in changed.items():
        database.change(
            "UPDATE runColumn SET type = ? WHERE table_name = ? AND column_name = ?",
            kind, table.name, column,
        )  # fmt: skip
    other = {
        column: kind for column, kind in changed.items() if not alike(table.columns[column], kind)
    }
    if not other:
        return
    as_new = {
        column: converted(column, before, other.get(column, before), database.kind)
        for column, before in table.columns.items()
    }
    if database.kind == "sqlite":
        _rebuild(database, table, {**table.columns, **changed}, as_new)
        return
    name = quoted(table.name)
    for column, kind in other.items():
        to = f"TYPE {sql_type(kind, database.kind)} USING {as_new[column]}"
        database.change(f"ALTER TABLE {name} ALTER COLUMN {quoted(column)} {to}")


def _rebuild(
    database: SqlDatabase, table: Table, columns: Mapping[str, str], as_new: Mapping[str, str]
) -> None:
    """Copy a table of SQLite, whose columns cannot change their types.

    Left at INTEGER, a column would make the number 7 of the text 007.
    """
    more = database.rows(
        "SELECT sql FROM sqlite_master WHERE tbl_name = ? AND type <> 'table' AND sql IS NOT NULL",
        table.name,
    )
    _create(database, _REBUILT, table.key, columns)
    database.change(
        f"INSERT INTO {_REBUILT} ({sql_list(as_new)})"
        f" SELECT {', '.join(as_new.values())} FROM {quoted(table.name)}"
    )
    database.change(f"DROP TABLE {quoted(table.name)}")
    # Otherwise somebody's view of the table, which is not there for a moment, forbids the name.
    database.change("PRAGMA legacy_alter_table = ON")
    database.change(f"ALTER TABLE {_REBUILT} RENAME TO {quoted(table.name)}")
    database.change("PRAGMA legacy_alter_table = OFF")
    for (sql,) in more:
        database.change(sql)


def remove_runs(
    database: SqlDatabase, tables: Iterable[str], column: str, ids: Collection[object]
) -> None:
    """Remove what tables have of the runs that `column` names."""
    for table in tables:
        if ids:
            sql = f"DELETE FROM {quoted(table)} WHERE {quoted(column)} = ?"
            database.change_many(sql, [(one,) for one in ids])


def insert_rows(
    database: SqlDatabase, sql: str, rows: Sequence[Sequence[object]], table: Table,
    key: Sequence[int],
) -> list[int]:  # fmt: skip
    """Insert rows, all of them or none; returns which have a key that another one has.

    `key` is where a row has the table's key.
    """
    database.change("SAVEPOINT runRows")
    try:
        database.change_many(sql, rows)
    except Exception as error:
        try:
            database.change("ROLLBACK TO SAVEPOINT runRows")
            repeated = _repeated(database, rows, table, key)
        except Exception:
            raise error from None
        if not repeated:
            raise
        return repeated
    database.change("RELEASE SAVEPOINT runRows")
    return []


def _repeated(
    database: SqlDatabase, rows: Sequence[Sequence[object]], table: Table, key: Sequence[int]
) -> list[int]:
    conditions = " AND ".join(f"{quoted(column)} = ?" for column in table.key)
    sql = f"SELECT 1 FROM {quoted(table.name)} WHERE {conditions}"
    seen: set[tuple[object, ...]] = set()
    found = []
    for number, row in enumerate(rows):
        one = tuple(row[at] for at in key)
        if one in seen or (key and database.rows(sql, *one)):
            found.append(number)
        seen.add(one)
    return found


def enlist(database: SqlDatabase, run_table: str, names: Iterable[str]) -> None:
    """Remember that the kind of run has these tables."""
    known = database.rows(
        "SELECT table_name, position FROM runTable WHERE run_table = ?", run_table
    )
    there = {row[0] for row in known}
    position = max((row[1] for row in known), default=-1)
    for name in names:
        if name not in there:
            position += 1
            database.change(
                "INSERT INTO runTable (run_table, table_name, position) VALUES (?, ?, ?)",
                run_table, name, position,
            )  # fmt: skip
