"""Rows of imported runs, read by whatever columns they have.

Which columns a table has depends on the documents that were imported (`mirror.run_tables`): a
table, or a column, that never came is no error here, there is just nothing in it.
"""

from collections.abc import Mapping, Sequence

from mirror.run_tables import quoted
from server.database import Database

__all__ = ["RunRow", "columns_of", "find", "quoted", "select", "tables_of"]

RunRow = Mapping[str, object]
"""A row by its columns' names, in the document's order; None is NULL."""


def columns_of(database: Database, table: str) -> dict[str, str]:
    """The columns of an imported table and their types in mdc (S32, STR, …); none: no table."""
    rows = database.rows(
        "SELECT column_name, type FROM runColumn WHERE table_name = ? ORDER BY position", table
    )
    return {row[0]: row[1] for row in rows}


def tables_of(database: Database, run_table: str) -> list[str]:
    """The tables that a kind of run has, in the order of the documents."""
    rows = database.rows(
        "SELECT table_name FROM runTable WHERE run_table = ? ORDER BY position", run_table
    )
    return [row[0] for row in rows]


def select(database: Database, table: str, **where: object) -> list[RunRow]:
    """The rows of an imported table that have these values, in the order of its key.

    None where the table, or a column asked for, was never imported.
    """
    columns = columns_of(database, table)
    if not columns or not set(where) <= set(columns):
        return []
    return _select(database, table, list(columns), where)


def _select(
    database: Database, table: str, columns: Sequence[str], where: Mapping[str, object]
) -> list[RunRow]:
    conditions = " AND ".join(f"{quoted(name)} = ?" for name in where) or "1 = 1"
    keys = database.rows(
        "SELECT column_name FROM runColumn WHERE table_name = ? AND is_key = 1 ORDER BY position",
        table,
    )
    order = ", ".join(quoted(key[0]) for key in keys) or "1"
    shown = ", ".join(map(quoted, columns))
    rows = database.rows(
        f"SELECT {shown} FROM {quoted(table)} WHERE {conditions} ORDER BY {order}",
        *where.values(),
    )
    return [dict(zip(columns, row, strict=True)) for row in rows]


def find(database: Database, table: str, **where: object) -> RunRow | None:
    """The first of `select`'s rows."""
    rows = select(database, table, **where)
    return rows[0] if rows else None
