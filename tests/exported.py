"""Exported runs (dbinfo documents), written as short as a test can read them."""

from collections.abc import Iterable
from contextlib import suppress

from mirror.run_tables import Imported, import_run
from server.database import Database

VERSION = "dbversion MULTI\n\ndbversion METADATA\n   schema_version STR 1.1.53\nEND\n\n"

CHIP_RUN = ("chipRun", "chip_id S64 5", "state STR full", "workdir STR neb://any/gpc1")

Table = tuple[str, ...]
"""A row: the name of its table, and its lines."""


def dbinfo(*rows: Table, version: str = VERSION) -> bytes:
    """A document with these rows; each table is declared where its first row is."""
    text = version
    declared: set[str] = set()
    for name, *lines in rows:
        if name not in declared:
            text += f"{name} MULTI\n\n"
            declared.add(name)
        text += "\n   ".join((f"{name} METADATA", *lines)) + "\nEND\n\n"
    return text.encode()


def imfile(chip_id: int, class_id: str, *lines: str) -> Table:
    """A row of chipProcessedImfile."""
    return ("chipProcessedImfile", f"chip_id S64 {chip_id}", f"class_id STR {class_id}", *lines)


def imports(database: Database, *documents: bytes) -> list[Imported]:
    """Import documents, a transaction each."""
    done = []
    for number, document in enumerate(documents, 1):
        with database.write():
            done.append(import_run(database, [document], f"{number}.mdc"))
    return done


def tables(database: Database) -> set[str]:
    """The tables that imports have made."""
    return {row[0] for row in database.rows("SELECT DISTINCT table_name FROM runColumn")}


def has_table(database: Database, name: str) -> bool:
    """Whether the database has this table, whatever our own notes say."""
    with suppress(Exception):
        database.rows(f'SELECT count(*) FROM "{name}"')
        return True
    return False


def joined(pieces: Iterable[str]) -> bytes:
    """A document that comes in pieces."""
    return "".join(pieces).encode()
