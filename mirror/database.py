"""The SQLite file behind the state: its tables, how it is opened, what its errors mean.

A rollback journal and full synchronisation, because mirrors live on network file systems, where a
write-ahead log does not work, and because what a commit here says must survive a power cut.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mirror.errors import LocalError

VERSION = 1
"""The format of the tables; a file with a higher one was written by a newer program."""

_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;
CREATE TABLE product (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    last_fileset TEXT,          -- what ?NAME asks for
    modified TEXT,              -- Last-Modified of its list
    selection TEXT,             -- select and since under which its rows were judged
    relist INTEGER NOT NULL DEFAULT 0,         -- ask for the whole list next time
    ignores_query INTEGER NOT NULL DEFAULT 0,  -- the server answers ?NAME with the whole list
    newest TEXT,                -- the newest registration time seen
    listed_at TEXT,
    type TEXT NOT NULL DEFAULT 'ipp-dist',
    description TEXT NOT NULL DEFAULT '',
    stored_last TEXT,           -- the last fileset that store/'s list shows
    stored_time TEXT
);
CREATE TABLE header (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE);
CREATE TABLE fileset (
    id INTEGER PRIMARY KEY,     -- in the order in which the lists showed them
    product INTEGER NOT NULL REFERENCES product (id),
    name TEXT NOT NULL,
    registered TEXT NOT NULL,
    type TEXT NOT NULL,
    header INTEGER NOT NULL REFERENCES header (id),
    row TEXT NOT NULL,          -- as the product's list shows it
    state TEXT NOT NULL,
    fault TEXT,
    faulty_file TEXT,
    attempts INTEGER NOT NULL DEFAULT 0,
    failed_run INTEGER NOT NULL DEFAULT 0,
    files INTEGER,
    bytes INTEGER,
    seconds REAL,
    done_at TEXT,
    info_dir TEXT,
    data_dir TEXT,
    held INTEGER NOT NULL DEFAULT 0,           -- the lists contradict each other about it
    gone INTEGER NOT NULL DEFAULT 0,           -- the list has lost it; what we have stays
    repair TEXT,                -- files to be fetched again; all of them if NULL
    hook INTEGER NOT NULL DEFAULT 0,           -- after_fileset has still to run
    to_list INTEGER NOT NULL DEFAULT 0,        -- has still to be added to store/'s lists
    UNIQUE (product, name)
);
CREATE INDEX fileset_queue ON fileset (attempts, id) WHERE state = 'queued';
CREATE INDEX fileset_committing ON fileset (id) WHERE state = 'committing';
CREATE INDEX fileset_held ON fileset (product) WHERE held = 1;
CREATE INDEX fileset_hook ON fileset (id) WHERE hook = 1;
CREATE INDEX fileset_list ON fileset (product, id) WHERE to_list = 1;
CREATE TABLE manifest (fileset INTEGER PRIMARY KEY, entries BLOB NOT NULL);
"""


def open_database(path: Path) -> sqlite3.Connection:
    """Open the file, or begin it. Raises LocalError where it is damaged or too new."""
    database = _connect(str(path))
    with told(path):
        if _check_version(database, path) == 0:
            if database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                raise LocalError(f"{path} is not a state of this program; move it away")
            database.executescript(
                f"BEGIN IMMEDIATE;{_SCHEMA}PRAGMA user_version = {VERSION};COMMIT"
            )
        # Touch what a truncated file has lost, before anything relies on it.
        database.execute("SELECT max(id) FROM fileset").fetchone()
    return database


def scratch_copy(path: Path) -> sqlite3.Connection:
    """A private copy of the file (empty if there is none), gone when it is closed."""
    database = _connect("")
    if path.exists():
        with told(path):
            source = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
            try:
                source.backup(database)
            finally:
                source.close()
    if database.execute("PRAGMA user_version").fetchone()[0] == 0:
        database.executescript(f"{_SCHEMA}PRAGMA user_version = {VERSION}")
    with told(path):
        _check_version(database, path)
    return database


def _check_version(database: sqlite3.Connection, path: Path) -> int:
    version = int(database.execute("PRAGMA user_version").fetchone()[0])
    if version > VERSION:
        raise LocalError(
            f"{path} was written by a newer version of this program (format {version}, "
            f"known is {VERSION}); install that version, nothing was changed"
        )
    return version


def _connect(name: str) -> sqlite3.Connection:
    try:
        database = sqlite3.connect(name, isolation_level=None, timeout=60)
        database.execute("PRAGMA foreign_keys = ON")
        database.execute("PRAGMA journal_mode = TRUNCATE")
        database.execute("PRAGMA synchronous = FULL")
    except sqlite3.Error as error:
        raise _trouble(Path(name), error) from None
    return database


@contextmanager
def told(path: Path) -> Iterator[None]:
    """Turn what SQLite raises about a damaged or unreadable file into what to do about it."""
    try:
        yield
    except sqlite3.Error as error:
        raise _trouble(path, error) from None


def _trouble(path: Path, error: sqlite3.Error) -> LocalError:
    if isinstance(error, sqlite3.OperationalError):
        return LocalError(f"{path}: {error}")
    return LocalError(
        f"{path} is damaged ({error}); move it away and run update_mirror.py --verify --repair,"
        " which builds it anew from the tree"
    )
