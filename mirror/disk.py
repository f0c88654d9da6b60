"""The one seam to the disk: writing, flushing, moving, and saying what went wrong.

Every OSError becomes a LocalError that names the path and the reason. Data is flushed before it
is moved and directories after it, in groups, because one flush of a file system costs about as
much as one of a single file.
"""

import errno
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from mirror.errors import LocalError

FEW = 8
"""Up to this many files are flushed one by one; more, by flushing their file system."""

FULL = (errno.ENOSPC, errno.EDQUOT)
"""How the system says that a disk has no room, or this user none on it."""

_UNSUPPORTED = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS)


class told:
    """Turn an OSError inside into a LocalError that names the error's own path, or `path`.

    A class, because it stands around every small write, and a generator costs ten times as much.
    """

    __slots__ = ("_path",)

    def __init__(self, path: Path | str) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            raise LocalError(
                f"{error.filename or self._path}: {error.strerror or error}",
                full=error.errno in FULL,
            ) from None


def write_file(path: Path | str, data: bytes | memoryview) -> None:
    """Write a new file whole; what stood there is replaced. On failure nothing is left."""
    with told(path):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
        try:
            written = os.write(file, data)
            while written < len(data):
                written += os.write(file, memoryview(data)[written:])
        except OSError:
            os.unlink(path)
            raise
        finally:
            os.close(file)


def replace_file(path: Path, data: bytes, scratch: Path | None = None) -> None:
    """Put `data` at `path` at once and durably: readers see the old file or the new one.

    `scratch`: where it is written first, on the same file system; beside `path` if None.
    """
    new = scratch or path.with_name(f".{path.name}.new")
    with told(path):
        write_file(new, data)
        flush([new])
        os.replace(new, path)
        flush([path.parent])


def move(source: Path | str, target: Path | str) -> None:
    """Rename within the file system, making the target's directory."""
    with told(target):
        try:
            os.replace(source, target)
        except FileNotFoundError:
            os.makedirs(os.path.dirname(target), exist_ok=True)
            os.replace(source, target)


def copy(source: Path, target: Path) -> None:
    """Copy a file's bytes and times."""
    with told(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        seen = source.stat()
        os.utime(target, ns=(seen.st_atime_ns, seen.st_mtime_ns))


def flush(paths: Iterable[Path | str]) -> None:
    """Make files and directories, all on one file system, durable. Raises LocalError."""
    wanted = list(dict.fromkeys(paths))
    if len(wanted) > FEW and _flush_file_system(wanted[0]):
        return
    for path in wanted:
        with told(path):
            file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(file)
            except OSError as error:
                # Some network file systems flush at close and know no flushing of directories.
                if error.errno not in _UNSUPPORTED:
                    raise
            finally:
                os.close(file)


def _flush_file_system(path: Path | str) -> bool:
    """syncfs(2), which Python does not have. False where the system has none."""
    import ctypes

    call = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
    if call is None:
        return False
    with told(path):
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if call(file) != 0:
                code = ctypes.get_errno()
                if code in _UNSUPPORTED:
                    return False
                raise OSError(code, os.strerror(code), str(path))
        finally:
            os.close(file)
    return True


def free_bytes(path: Path) -> int:
    """Bytes that this user may still write on the file system of `path`."""
    with told(path):
        seen = os.statvfs(path)
        return seen.f_bavail * seen.f_frsize


def remove(path: Path) -> None:
    """Remove a file or a whole directory of ours, if it is there."""
    with told(path):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def same_file_system(paths: Iterable[Path]) -> bool:
    """Whether files can be renamed between all of these directories."""
    return len({os.stat(path).st_dev for path in paths}) == 1


def boot_id() -> str:
    """What tells one start of this machine from another; empty where the system does not say."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""
