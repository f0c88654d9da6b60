"""Which processes of a path live: each holds a byte of one file for as long as it does.

The file is `.blackboard.lock` below OPUS_OBSERVATIONS_DIR, the byte that of its number. The
system lets go of it however the process ends; the lock belongs to the opened file (OFD locks),
which the command of an event inherits (`alive_descriptor`), and NFS knows it. The file holds a
random word: who sees another one there sees another file (not the shared one, or a new one),
whose locks say nothing.
"""

import errno
import fcntl
import os
import secrets
import struct
from contextlib import suppress
from pathlib import Path

from mirror.disk import told
from mirror.errors import LocalError

LOCK_FILE = ".blackboard.lock"
"""A dot file beside the entries."""

# struct flock: type, whence, start, length, pid.
_FLOCK = struct.Struct("hhqqi4x")
_WORD = 32


def open_lock_file(directory: Path) -> int:
    """The file's descriptor; the file is made if it is missing. Raises LocalError."""
    with told(directory / LOCK_FILE):
        return os.open(directory / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)


def word_of(file: int) -> str:
    """The word that tells this lock file from any other, written if it is new."""
    with told(LOCK_FILE):
        # Numbers of processes begin with 1.
        _set(file, fcntl.F_OFD_SETLKW, fcntl.F_WRLCK, 0)
        try:
            word = os.pread(file, _WORD, 0)
            if len(word) < _WORD:
                word = secrets.token_hex(_WORD // 2).encode("ascii")
                os.pwrite(file, word, 0)
                os.fsync(file)
        finally:
            _set(file, fcntl.F_OFD_SETLK, fcntl.F_UNLCK, 0)
    return word.decode("ascii", "replace")


def hold(file: int, holder: int) -> None:
    """Take the byte of `holder`. Raises LocalError where it cannot be locked."""
    try:
        _set(file, fcntl.F_OFD_SETLK, fcntl.F_WRLCK, holder)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):
            raise LocalError(f"{LOCK_FILE}: another process is number {holder}") from None
        raise LocalError(f"{LOCK_FILE}: no lock on it: {error.strerror}") from None


def let_go(file: int, holder: int) -> None:
    """Let go of the byte of `holder`."""
    # A process forked meanwhile may have the file open too: closing would not let go.
    with suppress(OSError):
        _set(file, fcntl.F_OFD_SETLK, fcntl.F_UNLCK, holder)


class Witness:
    """Who lives, as the lock file in `directory` says it. Close it after use."""

    def __init__(self, directory: Path) -> None:
        self._file: int | None = None
        self._word = ""
        with told(directory / LOCK_FILE), suppress(FileNotFoundError):
            # Whoever only looks need not be allowed to write.
            self._file = os.open(directory / LOCK_FILE, os.O_RDONLY | os.O_CLOEXEC)
            self._word = os.pread(self._file, _WORD, 0).decode("ascii", "replace")

    def dead(self, holder: int, word: str) -> bool:
        """Whether the process `holder`, which saw `word` in its lock file, is dead for certain."""
        if self._file is None or word != self._word:
            return False
        asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, holder, 1, 0)
        with told(LOCK_FILE):
            answer = fcntl.fcntl(self._file, fcntl.F_OFD_GETLK, asked)
        kind: int = _FLOCK.unpack(answer)[0]
        return kind == fcntl.F_UNLCK

    def close(self) -> None:
        """Close the file; locks that others hold on it stay."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _set(file: int, how: int, kind: int, offset: int) -> None:
    fcntl.fcntl(file, how, _FLOCK.pack(kind, os.SEEK_SET, offset, 1, 0))
