"""A SQLite file that is removed, or replaced by a copy, while a connection to it is open.

To close the connection would do harm: SQLite finds the log of a file by its name, so it would
remove the log of whatever has the name now, with what others have committed there; and where only
the log was removed, it would write the lost one over what has come since. So such a connection is
left as it is, until the process ends. Nothing is removed here: a file that was moved away may come
back, and its log may be all that there is of its last commits.
"""

import ctypes
import os
import sqlite3
from pathlib import Path

Identity = tuple[int, int]

_logless: set[Identity] = set()


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


def forsake(connection: sqlite3.Connection, file: Identity | None, *, logless: bool) -> None:
    """Leave a connection to `file` open until the process ends.

    `logless`: the log was removed. This process has its index still, and would read the next log
    by it: it must not open that file again, see `is_logless`.
    """
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))
    if logless and file:
        _logless.add(file)


def is_logless(file: Identity | None) -> bool:
    """Whether this process has lost the log of a file, and must end before that is opened again."""
    return file in _logless
