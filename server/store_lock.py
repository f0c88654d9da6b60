"""Who may work on a product or a fileset of a store: one process, on one of all hosts.

The locks are bytes of one file, `.datastore.lock` in DATA_STORE_ROOT, each at an offset made out
of the name it stands for: any number of them leave no more than that file behind, and the system
lets go of them when a process ends, however it ends. They belong to the opened file and not to
the process (OFD locks), so threads exclude each other too, and NFS knows them.
"""

import errno
import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import blake2b
from pathlib import Path

from mirror.disk import told
from mirror.errors import LocalError, MirrorError

LOCK_FILE = ".datastore.lock"
"""A dot file, so that it is never served."""

# struct flock: type, whence, start, length, pid.
_FLOCK = struct.Struct("hhqqi4x")

# Bytes of an offset: as many as a signed 64-bit one can have, less the sign's.
_OFFSET_BYTES = 7


class ConflictError(MirrorError):
    """What is asked for does not fit what is registered, or what another process is doing now."""


class HeldError(ConflictError):
    """Another process is working on it now: no fault of anything, to be tried again later."""


@contextmanager
def hold_product(root: Path, product: str) -> Iterator[None]:
    """Hold a product alone, none of its filesets being worked on.

    Raises HeldError at once where another process holds it or one of its filesets.
    """
    with _opened(root) as file:
        _lock(file, product, "", fcntl.F_WRLCK)
        yield


@contextmanager
def hold_fileset(root: Path, product: str, fileset: str) -> Iterator[None]:
    """Hold a fileset alone, registered or not; other filesets of its product go on.

    Raises HeldError at once where another process holds it, or the whole product.
    """
    with _opened(root) as file:
        _lock(file, product, "", fcntl.F_RDLCK)
        _lock(file, product, fileset, fcntl.F_WRLCK)
        yield


@contextmanager
def hold_work(root: Path, work: str) -> Iterator[None]:
    """Hold a piece of work alone, such as `disttool run 12`, on one of all hosts.

    Raises HeldError at once where another process holds it.
    """
    with _opened(root) as file:
        # No product has a blank at its begin.
        _lock(file, f" {work}", "", fcntl.F_WRLCK)
        yield


class Holds:
    """Pieces of work that are held with one opened file, each until it is dropped.

    However many they are, they are one of the files that a process may have open.
    """

    def __init__(self, file: int) -> None:
        self._file = file

    def take(self, work: str) -> None:
        """Hold a piece of work as `hold_work` does, which excludes it and is excluded by it.

        Raises HeldError at once where another process, or another one of these, holds it.
        """
        _lock(self._file, f" {work}", "", fcntl.F_WRLCK)

    def drop(self, work: str) -> None:
        """Let go of a piece of work that is held."""
        # What is not let go of now, is when the file is closed.
        with suppress(OSError):
            _set(self._file, f" {work}", "", fcntl.F_UNLCK)


@contextmanager
def holds(root: Path) -> Iterator[Holds]:
    """Hold pieces of work for the length of a `with` at most. Raises LocalError."""
    with _opened(root) as file:
        yield Holds(file)


@contextmanager
def _opened(root: Path) -> Iterator[int]:
    with told(root / LOCK_FILE):
        file = os.open(root / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        yield file
    finally:
        # What was done under the lock stays done, even if a network file system now complains.
        # A process forked meanwhile may still have the file open: closing would not let go.
        with suppress(OSError):
            fcntl.fcntl(file, fcntl.F_OFD_SETLK, _FLOCK.pack(fcntl.F_UNLCK, os.SEEK_SET, 0, 0, 0))
        with suppress(OSError):
            os.close(file)


def _lock(file: int, product: str, fileset: str, kind: int) -> None:
    try:
        _set(file, product, fileset, kind)
    except OSError as error:
        if error.errno not in (errno.EAGAIN, errno.EACCES):
            raise LocalError(f"{LOCK_FILE}: no lock on it: {error.strerror}") from None
        what = f"{product}/{fileset}" if fileset else f"product {product}"
        what = product.strip() if product.startswith(" ") else what
        raise HeldError(
            f"{what}: another process is working on it; nothing was changed, try again later"
        ) from None


def _set(file: int, product: str, fileset: str, kind: int) -> None:
    # Names that differ only by case are one name to the catalogue.
    key = f"{product}/{fileset}".lower().encode()
    offset = int.from_bytes(blake2b(key, digest_size=_OFFSET_BYTES).digest(), "big")
    fcntl.fcntl(file, fcntl.F_OFD_SETLK, _FLOCK.pack(kind, os.SEEK_SET, offset, 1, 0))
