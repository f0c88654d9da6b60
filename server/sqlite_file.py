"""A SQLite file that is removed, or replaced by a copy, while a connection to it is open.

SQLite finds the log of a file by its name. That of a lost file would be read into whatever has its
name now, and undo it; and to close the connection would remove the log of the new file.
"""

import ctypes
import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

Identity = tuple[int, int]


def identity(path: Path) -> Identity | None:
    """What tells the file of this name from any other that had the name; None if there is none."""
    try:
        seen = os.stat(path)
    except OSError:
        return None
    return seen.st_dev, seen.st_ino


def log_of(path: Path) -> Path:
    """Where SQLite keeps what is not yet in the file itself."""
    return path.with_name(f"{path.name}-wal")


def forsake(connection: sqlite3.Connection, path: Path, log: Identity | None) -> None:
    """Leave a lost file: its log, which was `log`, goes too, if it is still there by its name.

    The connection is not closed before the process ends.
    """
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))
    with suppress(OSError), _alone_in(path.parent):
        if log and identity(log_of(path)) == log:
            log_of(path).unlink()
            path.with_name(f"{path.name}-shm").unlink(missing_ok=True)


@contextmanager
def _alone_in(directory: Path) -> Iterator[None]:
    file = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)
