"""One run at a time: an advisory lock that the kernel drops with the process (FAULTS D6)."""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from mirror import disk
from mirror.errors import LocalError, LockedError


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock at `path` while the block runs.

    Raises LockedError that names the holder. A lock file that a dead process left is no lock:
    what counts is the kernel's, and the file only says who has it.
    """
    with disk.told(path):
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            holder = os.pread(file, 4096, 0).decode("utf-8", "replace").strip() or "another run"
            raise LockedError(f"{path} is held by {holder}; this run does nothing") from None
        except OSError as error:
            raise LocalError(f"{path} cannot be locked: {error.strerror}") from None
        since = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        with disk.told(path):
            os.ftruncate(file, 0)
            os.pwrite(
                file, f"pid {os.getpid()} on {socket.gethostname()} since {since}\n".encode(), 0
            )
        yield
    finally:
        with suppress(OSError):  # nothing was written that could be lost
            os.close(file)
