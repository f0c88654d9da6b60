"""Renaming and moving files that are in work: nothing is ever overwritten, and what happens if the
process is killed at any instant was recorded before (OPUS, "Process resource files").

Where something stands that a file would replace, the file gets the time into its name, before the
suffix.
"""

import ctypes
import errno
import os
import re
import secrets
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Protocol

from mirror.disk import flush, free_bytes, told
from mirror.errors import LocalError
from server.opus.events import ClaimedFile

_NOREPLACE = 1
_AT_FDCWD = -100
_NO_SUCH_CALL = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP)
_HIDDEN = re.compile(r"\.[0-9a-f]{16}\.moving")
_LONGEST_NAME = 255  # bytes, on the file systems of Linux


class Diary(Protocol):
    """What is recorded of a file, each before it is done."""

    def renaming(self, path: Path) -> None:
        """The file gets this name, if it is still free."""

    def copying(self, hidden: Path) -> None:
        """It is copied; the copy is to be removed if nothing more is recorded."""

    def copied(self, final: Path, hidden: Path) -> None:
        """The copy is complete: from now on it is the file, to be called `final`, and what it is a
        copy of is to be removed."""

    def removed(self) -> None:
        """That was removed, just now: its name may be that of another file from now on."""


def return_file(file: ClaimedFile) -> Path:
    """Give a claimed file its name back, as if nothing had been; returns its path.

    Where a new file has that name meanwhile, the old one gets the time into its own. One that is
    gone stays so. Raises LocalError, also where its directory is not there.
    """
    if is_gone(file.claimed):
        return file.original
    return _rename_free(file.claimed, file.original, "")


def add_suffix(
    file: ClaimedFile, suffix: str, renaming: Callable[[Path], None] = lambda path: None
) -> Path:
    """Give a file in work `suffix` in place of the processing suffix; returns its new path.

    Raises LocalError.
    """
    return _rename_free(file.claimed, file.original, suffix, renaming)


def move_file(file: ClaimedFile, directory: Path, diary: Diary) -> Path:
    """Move a file in work into a directory, made if missing, with its processing suffix.

    To another file system it is copied and flushed under a hidden name; then what was claimed is
    removed, and the copy gets its name. Returns its path. Raises LocalError, before anything is
    written if there is no room or no name for it; after `diary.copied` it is `finish_move` that is
    to be called again.
    """
    suffix = file.claimed.name.removeprefix(file.original.name)
    target = directory / file.original.name
    with told(directory):
        os.makedirs(directory, exist_ok=True)
    try:
        return _rename_free(file.claimed, target, suffix, diary.renaming)
    except _OtherFileSystem:
        pass
    # Short, because a name with something added may be longer than the file system takes.
    hidden = directory / f".{secrets.token_hex(8)}.moving"
    with told(directory):
        final = next(path for path in _names(target, suffix) if _is_free(path))
    _check_room(file.claimed, directory)
    diary.copying(hidden)
    copy_durably(file.claimed, hidden)
    diary.copied(final, hidden)
    return finish_move(file, directory, hidden, diary, removed=False)


def finish_move(
    file: ClaimedFile, directory: Path, hidden: Path, diary: Diary, *, removed: bool
) -> Path:
    """End a move whose copy, `hidden`, is the file by now; returns its path.

    `removed`: what it is a copy of is removed already. Raises LocalError.
    """
    suffix = file.claimed.name.removeprefix(file.original.name)
    if not removed:
        with told(file.claimed), suppress(FileNotFoundError):
            os.unlink(file.claimed)
        diary.removed()
    return _rename_free(hidden, directory / file.original.name, suffix, diary.renaming)


def is_hidden_copy(path: Path) -> bool:
    """Whether a name is one that `move_file` gives to a copy; nobody else has the same."""
    return bool(_HIDDEN.fullmatch(path.name))


def is_gone(path: Path) -> bool:
    """Whether a file is not there for certain: its directory is, and does not have it."""
    try:
        os.lstat(path)
    except FileNotFoundError:
        return os.path.isdir(path.parent)
    except OSError:
        pass
    return False


def flush_directories(paths: Iterable[Path]) -> None:
    """Make directories durable; one that may be written but not read cannot be flushed, and is
    passed over. Raises LocalError."""
    for path in paths:
        try:
            os.close(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
        except PermissionError:
            continue
        except OSError:
            pass  # flush says why
        flush([path])


def copy_durably(source: Path, target: Path) -> None:
    """Copy a file with its times and mode, and flush it; a symbolic link is copied as a link. What
    stood at `target` is replaced, and on failure nothing is left there. Raises LocalError."""
    try:
        with told(target):
            shutil.copyfile(source, target, follow_symlinks=False)
            shutil.copystat(source, target, follow_symlinks=False)
        if not target.is_symlink():
            flush([target])
        flush_directories([target.parent])
    except BaseException:
        with suppress(OSError):
            target.unlink()
        raise


class _OtherFileSystem(Exception):
    """The two names are on two file systems."""


class _Refused(Exception):
    """The source is gone, or the target there."""


def rename_new(source: Path, target: Path) -> bool:
    """Rename a file within a directory unless `target` is there already, in one step, on any file
    system.

    False where it is, or `source` is gone. Raises OSError for any other reason.
    """
    try:
        _rename(source, target)
    except _Refused:
        return False
    return True


def _rename_free(
    source: Path,
    target: Path,
    suffix: str,
    renaming: Callable[[Path], None] = lambda path: None,
) -> Path:
    """Rename to the first name that is free; returns it. The name that it has is free for it."""
    for path in _names(target, suffix):
        with told(source):
            if _is_same_name(source, path):
                return path
            if os.path.lexists(path):
                continue
            renaming(path)
            try:
                _rename(source, path)
            except _Refused:
                if os.path.lexists(source):
                    continue
                raise FileNotFoundError(errno.ENOENT, "it is gone", str(source)) from None
        return path
    raise AssertionError("there is always another name")


def _is_same_name(one: Path, other: Path) -> bool:
    if one.name != other.name or not os.path.lexists(one):
        return False
    return one.parent == other.parent or os.path.samefile(one.parent, other.parent)


def _is_free(path: Path) -> bool:
    """Whether there is nothing of this name. Raises OSError for a name that none can have there."""
    try:
        os.lstat(path)
    except FileNotFoundError:
        return True
    return False


def _check_room(file: Path, directory: Path) -> None:
    """A copy that will not fit would fill the disk for others, again at every try."""
    with told(file):
        seen = os.lstat(file)
    free = free_bytes(directory)
    if stat.S_ISREG(seen.st_mode) and seen.st_size > free:
        raise LocalError(
            f"{directory}: {os.strerror(errno.ENOSPC)}: {free} bytes are free, {file} has"
            f" {seen.st_size}"
        )


def _names(target: Path, suffix: str) -> Iterator[Path]:
    """The names that a file may get: its own, then with the time, always a later one; of a name
    that would be too long with that the end is left out."""
    yield target.with_name(target.name + suffix)
    while True:
        time = datetime.now(UTC).strftime(".%Y%m%dT%H%M%S.%f") + suffix
        stem = target.name
        while stem and len(os.fsencode(stem + time)) > _LONGEST_NAME:
            stem = stem[:-1]
        yield target.with_name(stem + time)


def _rename(source: Path, target: Path) -> None:
    """Rename; raises _Refused, _OtherFileSystem, or OSError."""
    try:
        if not _system_rename(source, target):
            # Where the system, or a network file system, has no such call, a second name does it:
            # it too can be made by one process only.
            os.link(source, target, follow_symlinks=False)
            _unlink_or_undo(source, target)
    except (FileExistsError, FileNotFoundError) as error:
        if isinstance(error, FileNotFoundError) and not os.path.lexists(target.parent):
            raise
        raise _Refused from None
    except OSError as error:
        if error.errno == errno.EXDEV and source.parent != target.parent:
            raise _OtherFileSystem from None
        raise


def _unlink_or_undo(source: Path, target: Path) -> None:
    try:
        os.unlink(source)
    except OSError:
        os.unlink(target)
        raise


def _system_rename(source: Path, target: Path) -> bool:
    """renameat2(2), which Python does not have; False where the system has none either."""
    call = _renameat2()
    if call is None:
        return False
    if call(_AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(target), _NOREPLACE) == 0:
        return True
    code = ctypes.get_errno()
    if code in _NO_SUCH_CALL:
        return False
    raise OSError(code, os.strerror(code), str(target))


@cache
def _renameat2() -> Callable[[int, bytes, int, bytes, int], int] | None:
    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if call is not None:
        call.argtypes = (
            ctypes.c_int,
            ctypes.c_char_p,
            ctypes.c_int,
            ctypes.c_char_p,
            ctypes.c_uint,
        )
    return call
