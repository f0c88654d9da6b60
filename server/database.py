"""One connection to the catalogue's database, SQLite or PostgreSQL, behind the same few calls.

SQL is written once, with `?` for values; what the two do differently is here and in
`server.schema`. SQLite runs with a write-ahead log, so that readers never wait for a writer, and
full synchronisation: what a commit says survives a power cut. That log needs a local file system:
several hosts share a PostgreSQL.
"""

import re
import sqlite3
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, LiteralString

from mirror.disk import told
from mirror.errors import ConfigError, LocalError
from server.site import Place, PostgresServer, SqliteFile
from server.sqlite_file import forsake, identity, is_logless, log_of

BUSY = 60.0
"""Seconds to wait for another writer before giving up."""

GRACE = 2.0
"""Seconds that whoever is to end waits for another writer, at most."""

# What SQLite waits by itself, deaf to signals.
_AT_ONCE = 0.1

_STALE = 1.0
"""Seconds after which a server is asked whether a connection to it still works."""

Row = tuple[Any, ...]


class Unavailable(LocalError):
    """No answer now, whoever asks, and perhaps one in a moment: what a 503 says.

    The message is for the operator; visitors are told nothing of it.
    """


class Duplicate(Exception):
    """A row with this key is there already."""


class Database(ABC):
    """A connection. One thread at a time; transactions do not nest.

    Raises Unavailable where the database fails, Duplicate where a key is taken.
    """

    kind: str
    """`sqlite` or `postgres`."""

    @contextmanager
    def read(self) -> Iterator[None]:
        """Everything read inside is of one moment."""
        with self._transaction(self._begin_read):
            yield

    @contextmanager
    def write(self) -> Iterator[None]:
        """Everything changed inside becomes visible at once and durable, or not at all."""
        with self._transaction(self._begin_write):
            yield

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[None]:
        self._run(begin)
        try:
            yield
            self._run("COMMIT")
        except BaseException:
            self._give_up()
            raise

    def rows(self, sql: str, *values: object) -> list[Row]:
        """Every row of a query, in memory: bound it with LIMIT."""
        found: list[Row] = self._run(sql, values).fetchall()
        return found

    def row(self, sql: str, *values: object) -> Row | None:
        """The first row of a query (or of RETURNING), or None."""
        cursor = self._run(sql, values)
        rows: list[Row] = cursor.fetchall()
        return rows[0] if rows else None

    def change(self, sql: str, *values: object) -> int:
        """Run a statement; returns the number of rows it touched."""
        return int(self._run(sql, values).rowcount)

    @abstractmethod
    def change_many(self, sql: str, rows: Iterable[Sequence[object]]) -> None:
        """Run a statement once for each of `rows`."""

    @abstractmethod
    def alive(self) -> bool:
        """Say whether the connection still works."""

    @abstractmethod
    def close(self) -> None:
        """End the connection."""

    _begin_read: str
    _begin_write: str

    @abstractmethod
    def _run(self, sql: str, values: Sequence[object] = ()) -> Any: ...

    @abstractmethod
    def _give_up(self) -> None:
        """Roll back, whatever state the connection is in."""


def _never() -> bool:
    return False


def connect(
    place: Place,
    *,
    create: bool = False,
    noun: str = "catalogue",
    ended: Callable[[], bool] = _never,
) -> Database:
    """Connect to the database at `place`; its tables are the business of `server.schema`.

    `create`: begin a SQLite file that is not there; `noun`: what messages call it; `ended`: whether
    this process is to end, asked while another one writes. Raises ConfigError where there is no
    such database or no driver for it, Unavailable where it does not answer.
    """
    if isinstance(place, SqliteFile):
        return Sqlite(place.path, create=create, noun=noun, ended=ended)
    return Postgres(place, noun)


class Sqlite(Database):
    """A connection to a catalogue, or a blackboard, in a file."""

    kind = "sqlite"
    _begin_read = "BEGIN"
    # A transaction that begins by reading could find at its first write that another one was
    # faster, and would have to begin anew.
    _begin_write = "BEGIN IMMEDIATE"

    def __init__(
        self, path: Path, *, create: bool, noun: str, ended: Callable[[], bool] = _never
    ) -> None:
        self._path = path
        self._what = f"{noun} {path}"
        self._ended = ended
        with told(path):
            there = path.exists()
        if not create and not there:
            raise ConfigError(
                [f"no catalogue at {path}; dsprodtool --add makes one with its first product"]
            )
        if is_logless(identity(path)):
            raise Unavailable(
                f"{self._what}: its -wal was removed while this process had it open; end this"
                " process and start it again"
            )
        with self._told():
            self._open = sqlite3.connect(
                path, isolation_level=None, timeout=_AT_ONCE, check_same_thread=False
            )
            try:
                self._set_up()
            except BaseException:
                self._open.close()
                raise

    def _set_up(self) -> None:
        self._patiently("PRAGMA journal_mode = WAL")
        self._open.execute("PRAGMA synchronous = FULL")
        self._open.execute("PRAGMA foreign_keys = ON")
        # To read opens the log.
        self._patiently("SELECT count(*) FROM sqlite_master")
        self._identity, self._log = identity(self._path), identity(log_of(self._path))

    def change_many(self, sql: str, rows: Iterable[Sequence[object]]) -> None:
        """See Database."""
        with self._told():
            self._open.executemany(sql, rows)

    def alive(self) -> bool:
        """See Database. A file that was removed, or replaced by a copy, is another catalogue; so
        is one without the log that belongs to it."""
        return identity(self._path) == self._identity and identity(log_of(self._path)) == self._log

    def close(self) -> None:
        """See Database."""
        if self.alive():
            self._open.close()
        else:
            logless = identity(self._path) == self._identity
            forsake(self._open, self._identity, logless=logless)

    def _run(self, sql: str, values: Sequence[object] = ()) -> Any:
        with self._told():
            return self._patiently(sql, values)

    def _patiently(self, sql: str, values: Sequence[object] = ()) -> Any:
        """Run a statement, again and again while another process writes; signals are heard."""
        until = time.monotonic() + BUSY
        while True:
            try:
                return self._open.execute(sql, values)
            except sqlite3.OperationalError as error:
                now = time.monotonic()
                if self._ended():
                    until = min(until, now + GRACE)
                if not _is_busy(error) or now > until:
                    raise
                time.sleep(0.01)

    def _give_up(self) -> None:
        if self._open.in_transaction:
            self._open.rollback()

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.IntegrityError as error:
            if error.sqlite_errorname in (
                "SQLITE_CONSTRAINT_UNIQUE",
                "SQLITE_CONSTRAINT_PRIMARYKEY",
            ):
                raise Duplicate(str(error)) from None
            raise Unavailable(f"{self._what}: {error}") from None
        except sqlite3.Error as error:
            raise Unavailable(f"{self._what}: {_advice(error)}") from None


def _is_busy(error: sqlite3.Error) -> bool:
    name: str = getattr(error, "sqlite_errorname", "")
    # SQLITE_BUSY_SNAPSHOT is no matter of waiting.
    return name.startswith("SQLITE_BUSY") and name != "SQLITE_BUSY_SNAPSHOT"


def _advice(error: sqlite3.Error) -> str:
    name = getattr(error, "sqlite_errorname", "")
    if _is_busy(error):
        return f"another process has been writing for {BUSY:g} s; try again"
    if name.startswith(("SQLITE_CANTOPEN", "SQLITE_READONLY", "SQLITE_PERM")):
        return f"{error}; this user needs to write the file and its directory"
    if name.startswith(("SQLITE_FULL", "SQLITE_IOERR")):
        return f"{error}; is the disk full, or ill? nothing was changed"
    if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
        return f"{error}; it is damaged: remove its -wal and -shm, and bring back a copy of it"
    return str(error)


class Postgres(Database):
    """A connection to a catalogue in PostgreSQL."""

    kind = "postgres"
    _begin_read = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
    _begin_write = "BEGIN"

    def __init__(self, place: PostgresServer, noun: str = "catalogue") -> None:
        self._psycopg = _driver()
        self._what = f"{noun} {place.name} at {place.host}"
        host, port = _address(place.host)
        with self._told():
            self._open = self._psycopg.connect(
                host=host, port=port, dbname=place.name, user=place.user,
                password=place.password, autocommit=True, connect_timeout=10,
            )  # fmt: skip

    def change_many(self, sql: str, rows: Iterable[Sequence[object]]) -> None:
        """See Database."""
        with self._told(), self._open.cursor() as cursor:
            cursor.executemany(_percent(sql), rows)

    def alive(self) -> bool:
        """See Database."""
        try:
            self._run("SELECT 1")
        except Unavailable:
            return False
        return True

    def close(self) -> None:
        """See Database."""
        self._open.close()

    def _run(self, sql: str, values: Sequence[object] = ()) -> Any:
        with self._told():
            return self._open.execute(_percent(sql), values or None)

    def _give_up(self) -> None:
        try:
            self._open.rollback()
        except self._psycopg.Error:
            # The connection is gone, and its transaction with it.
            self._open.close()

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except self._psycopg.errors.UniqueViolation as error:
            raise Duplicate(str(error)) from None
        except self._psycopg.Error as error:
            said = " ".join(str(error).split())
            raise Unavailable(f"{self._what}: {said}") from None


class Pool:
    """Connections that threads borrow for a moment, at most `size` of them.

    A thread that asks for one more waits until another one is given back. By default they are few
    for a file, whose readers compute and do not wait: sixteen threads at once, each handing the
    interpreter to another with every statement, answer a third of what two do. A server is waited
    for, and gets more.
    """

    def __init__(self, place: Place, size: int | None = None) -> None:
        self._place = place
        self._free: list[tuple[float, Database]] = []
        if size is None:
            size = 2 if isinstance(place, SqliteFile) else 16
        self._turns = threading.BoundedSemaphore(size)
        self._lock = threading.Lock()

    @contextmanager
    def borrow(self) -> Iterator[Database]:
        """A connection for the length of a `with`. Raises what `connect` raises."""
        if not self._turns.acquire(timeout=BUSY):
            raise Unavailable(f"the catalogue has been busy for {BUSY:g} s; try again")
        try:
            database = self._take()
            try:
                yield database
            except BaseException:
                # Whatever state it is in, the next one shall not have it.
                database.close()
                raise
            with self._lock:
                self._free.append((time.monotonic(), database))
        finally:
            self._turns.release()

    def _take(self) -> Database:
        with self._lock:
            last, database = self._free.pop() if self._free else (0.0, None)
        if database is None:
            return connect(self._place)
        # To look at a file costs nothing.
        asked = database.kind == "sqlite" or time.monotonic() - last > _STALE
        if asked and not database.alive():
            database.close()
            return connect(self._place)
        return database

    def close(self) -> None:
        """End the connections that nobody has borrowed."""
        with self._lock:
            while self._free:
                self._free.pop()[1].close()


def _driver() -> ModuleType:
    try:
        import psycopg
    except ImportError:
        raise ConfigError(
            ["DS_DBSERVER asks for PostgreSQL, which needs: pip install 'update-mirror[postgres]'"]
        ) from None
    return psycopg


def _address(server: str) -> tuple[str, str | None]:
    """Host and port of HOST, HOST:PORT, [IPV6], [IPV6]:PORT, a bare IPv6 address, a directory."""
    matched = re.fullmatch(r"(?:\[([^\]/]+)\]|([^:/]+))(?::([0-9]+))?", server)
    if not matched:
        return server, None
    return matched[1] or matched[2], matched[3]


def _percent(sql: LiteralString | str) -> Any:
    # No statement of ours holds either character for anything else.
    return sql.replace("?", "%s")
