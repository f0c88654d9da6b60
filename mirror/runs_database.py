"""MIRROR_ROOT/catalogue.db: the rows of all mirrored runs, in SQLite, for people to query.

Beside the tables of the runs (mirror.run_tables) it holds which filesets they came with, and a
stamp: which file this is, and how often it was written. So whoever wrote it last can tell whether
it is still that file, or a new one, or an older copy that somebody has put back.

A rollback journal, because mirrors live on network file systems; full synchronisation, because
what was imported is not imported again.
"""

import secrets
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mirror import run_tables
from mirror.errors import IntegrityError, LocalError

NAME = "catalogue.db"
"""The file's name in MIRROR_ROOT."""

VERSION = 1
"""The format of our own tables in it; a file with a higher one was written by a newer program."""

BUSY = 60.0
"""Seconds to wait for somebody who reads without end before giving up."""

# No document can have tables whose names begin so (mirror.run_columns).
_OURS = """
CREATE TABLE runFileset (
    product TEXT NOT NULL,
    fileset TEXT NOT NULL,
    registered TEXT NOT NULL,
    dbinfo TEXT NOT NULL,
    imported TEXT NOT NULL,
    PRIMARY KEY (product, fileset)
);
CREATE INDEX runFileset_imported ON runFileset (imported);
CREATE TABLE runStamp (token TEXT NOT NULL, serial INTEGER NOT NULL)
"""
"""`registered`: the time in upstream's list; `dbinfo`: the file below MIRROR_ROOT that the rows
came from; `imported`: when. Times are UTC."""


_CONTENT = (
    "SQLITE_ERROR", "SQLITE_TOOBIG", "SQLITE_CONSTRAINT", "SQLITE_MISMATCH", "SQLITE_RANGE",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Stamp:
    """Which file it is, and how often it was written."""

    token: str
    serial: int

    def __str__(self) -> str:
        return f"{self.token} {self.serial}"

    def follows(self, known: str | None) -> bool:
        """Whether this is the file of the stamp `known`, then or later."""
        token, _, serial = (known or "").partition(" ")
        return token == self.token and serial.isdecimal() and int(serial) <= self.serial


class RunsDatabase:
    """An open catalogue.db, as mirror.run_tables writes it. One thread uses it."""

    kind = "sqlite"

    def __init__(self, database: sqlite3.Connection) -> None:
        self._db = database

    def rows(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """Every row of a query."""
        return self._db.execute(sql, values).fetchall()

    def change(self, sql: str, *values: object) -> int:
        """Run a statement; returns the number of rows it touched."""
        return self._db.execute(sql, values).rowcount

    def change_many(self, sql: str, rows: Iterable[Sequence[object]]) -> None:
        """Run a statement once for each of `rows`."""
        self._db.executemany(sql, rows)

    @contextmanager
    def write(self) -> Iterator[None]:
        """Everything changed inside is durable, with a new stamp, or nothing is."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("UPDATE runStamp SET serial = serial + 1")
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    @contextmanager
    def part(self) -> Iterator[None]:
        """A part of a transaction that is undone alone if it fails.

        Raises IntegrityError for what no database of this kind takes, in whatever state it is.
        """
        self._db.execute("SAVEPOINT part")
        try:
            yield
        except BaseException as error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK TO part")
                self._db.execute("RELEASE part")
            if _is_of_content(error):
                raise IntegrityError(f"the database does not take it: {error}") from None
            raise
        self._db.execute("RELEASE part")

    def stamp(self) -> Stamp:
        """Which file this is, and how often it was written."""
        token, serial = self._db.execute("SELECT token, serial FROM runStamp").fetchone()
        return Stamp(token, serial)

    def note(self, product: str, fileset: str, registered: str, dbinfo: str, now: str) -> None:
        """Say which fileset rows came with."""
        self._db.execute(
            "INSERT INTO runFileset VALUES (?, ?, ?, ?, ?) ON CONFLICT (product, fileset)"
            " DO UPDATE SET registered = excluded.registered, dbinfo = excluded.dbinfo,"
            " imported = excluded.imported",
            (product, fileset, registered, dbinfo, now),
        )


def _is_of_content(error: BaseException) -> bool:
    """Whether an error is about what was to be written, and not about file, disk or locks."""
    if isinstance(error, UnicodeError | OverflowError):
        return True
    name = getattr(error, "sqlite_errorname", "")
    return isinstance(error, sqlite3.Error) and name.startswith(_CONTENT)


@contextmanager
def opened(path: Path) -> Iterator[RunsDatabase]:
    """The catalogue at `path`, begun if it is not there, for the length of a `with`.

    Raises LocalError, which says what to do, where it is damaged, somebody else's, written by a
    newer program, or cannot be written.
    """
    with _told(path):
        database = sqlite3.connect(path, isolation_level=None, timeout=BUSY)
        try:
            _set_up(database, path)
            yield RunsDatabase(database)
        finally:
            database.close()


def _set_up(database: sqlite3.Connection, path: Path) -> None:
    database.execute("PRAGMA journal_mode = DELETE")
    database.execute("PRAGMA synchronous = FULL")
    version = database.execute("PRAGMA user_version").fetchone()[0]
    if version > VERSION:
        raise LocalError(
            f"{path} was written by a newer version of this program (format {version}, known is"
            f" {VERSION}); install that version, or move the file away: it is then built anew"
        )
    if version == VERSION:
        # Touch what a truncated file has lost, before anything relies on it.
        if database.execute("SELECT count(*) FROM runStamp").fetchone()[0] == 1:
            return
        raise sqlite3.DatabaseError("its stamp is lost")
    if database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        raise LocalError(f"{path} is not a catalogue of this program; move it away")
    database.executescript(
        f"BEGIN IMMEDIATE;{run_tables.SCHEMA};{_OURS};"
        f"INSERT INTO runStamp VALUES ('{secrets.token_hex(8)}', 0);"
        f"PRAGMA user_version = {VERSION};COMMIT"
    )


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Turn what SQLite raises into what to do about it."""
    try:
        yield
    except sqlite3.Error as error:
        name = getattr(error, "sqlite_errorname", "")
        if name.startswith("SQLITE_BUSY"):
            raise LocalError(
                f"{path}: somebody has been reading or writing it for {BUSY:g} s; the filesets are"
                " imported by the next run"
            ) from None
        if isinstance(error, sqlite3.OperationalError):
            raise LocalError(f"{path}: {error}") from None
        raise LocalError(
            f"{path} is damaged ({error}); move it away: the next run builds it anew from info/"
        ) from None
