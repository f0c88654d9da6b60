"""The SQLite file behind the state: its tables, how it is opened, what its errors mean.

A rollback journal and full synchronisation, because mirrors live on network file systems, where a
write-ahead log does not work, and because what a commit here says must survive a power cut.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mirror.errors import LocalError

_BEGIN = """
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

# imported: its rows are in catalogue.db. reports: the number of its last report to the status
# product, reporting: what that says while nobody knows whether it was registered (a fault, 0: it
# is done), reported: what the last one that was registered says.
_AFTERCARE = """
ALTER TABLE fileset ADD COLUMN imported INTEGER NOT NULL DEFAULT 0;
ALTER TABLE fileset ADD COLUMN reports INTEGER NOT NULL DEFAULT 0;
ALTER TABLE fileset ADD COLUMN reporting INTEGER;
ALTER TABLE fileset ADD COLUMN reported INTEGER;
CREATE INDEX fileset_import ON fileset (id) WHERE imported = 0 AND state = 'done';
CREATE INDEX fileset_untold ON fileset (id) WHERE state = 'done' AND reported IS NOT 0;
CREATE INDEX fileset_reporting ON fileset (id) WHERE reporting IS NOT NULL;
"""

# failed_step: at which step the fault was met. posted: what the blackboard knows of it (-1: nothing
# that holds any more, 0 listed, 1 to 4 the step that failed, 5 done). full_name: whether its entry
# there has the product in its name. The index has what the blackboard does not know.
_BLACKBOARD = """
ALTER TABLE fileset ADD COLUMN failed_step INTEGER NOT NULL DEFAULT 1;
ALTER TABLE fileset ADD COLUMN posted INTEGER;
ALTER TABLE fileset ADD COLUMN full_name INTEGER;
CREATE INDEX fileset_unposted ON fileset (id) WHERE posted IS NOT CASE
    WHEN state = 'done' THEN 5
    WHEN state <> 'queued' OR gone <> 0 THEN posted
    WHEN attempts > 0 AND fault IS NOT NULL THEN failed_step
    ELSE 0 END;
"""

_STEPS = (_BEGIN, _AFTERCARE, _BLACKBOARD)
"""What leads from each format to the next; a file that ran all of them is of the newest."""

VERSION = len(_STEPS)
"""The format of the tables; a file with a higher one was written by a newer program."""


def open_database(path: Path, *, upgrade: bool = True) -> sqlite3.Connection:
    """Open the file, or begin it; one of an older format is brought up to date in place.

    `upgrade`: False leaves an older one as it is, for those who only look. Raises LocalError where
    it is damaged or too new.
    """
    database = _connect(str(path))
    try:
        with told(path):
            _prepare(database, path, upgrade)
    except BaseException:
        database.close()
        raise
    return database


def _prepare(database: sqlite3.Connection, path: Path, upgrade: bool) -> None:
    version = _check_version(database, path)
    if version == 0 and database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        raise LocalError(f"{path} is not a state of this program; move it away")
    if version == 0 or (upgrade and version < VERSION):
        _upgrade(database, version)
    # Touch what a truncated file has lost, before anything relies on it.
    database.execute("SELECT max(id) FROM fileset").fetchone()


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
    with told(path):
        version = _check_version(database, path)
        if version < VERSION:
            _upgrade(database, version)
    return database


def _upgrade(database: sqlite3.Connection, version: int) -> None:
    """All the steps that are missing, or none: a killed upgrade was never begun."""
    steps = "".join(_STEPS[version:])
    database.executescript(f"BEGIN IMMEDIATE;{steps}PRAGMA user_version = {VERSION};COMMIT")


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
        # The code is SQLite's alone; its text is the same in all versions.
        return LocalError(f"{path}: {error}", full="disk is full" in str(error))
    return LocalError(
        f"{path} is damaged ({error}); move it away and run update_mirror.py --verify --repair,"
        " which builds it anew from the tree"
    )
