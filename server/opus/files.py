"""Files that wake a process: finding and claiming them, and what becomes of them after (OPUS,
"Process resource files"; seed 004).

A file is claimed by adding FILE_PROCESSING to its name, a rename that fails where that name is
taken: of any number of copies of a process, on any hosts, one gets it, and nothing is overwritten.
The board is told before the rename, so that the claim of a process that dies can be returned.

Nothing that stands where a file goes afterwards is overwritten either: the file then gets the time
into its name, before the suffix.
"""

import ctypes
import errno
import os
import re
import shutil
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fnmatch import translate
from functools import cache
from pathlib import Path
from typing import Protocol

from mirror.disk import flush, told
from mirror.errors import LocalError
from server.opus.events import ClaimedFile

_NOREPLACE = 1
_AT_FDCWD = -100
_NO_SUCH_CALL = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP)


class FileClaims(Protocol):
    """What the board must know of a claim."""

    def note_file(self, holder: int, original: Path, claimed: Path) -> None:
        """Said before the rename."""

    def forget_file(self, holder: int, claimed: Path) -> None:
        """Said after the outcome was applied, or where the claim was not won."""


# Looking


@dataclass(frozen=True, slots=True)
class Wanted:
    """One search: files of `directory` that match `pattern`, at most `maxtargs` an event.

    `suffixes`: what the process itself appends; a file that has one of them was here before, and
    is not wanted, unless the pattern asks for it.
    """

    directory: Path
    pattern: str
    maxtargs: int
    suffixes: tuple[str, ...]

    def of(self, names: Iterable[str]) -> list[str]:
        """The names that match; as for a shell, a dot in front is matched only by a dot."""
        matches = re.compile(translate(self.pattern)).match
        others = tuple(one for one in self.suffixes if not self.pattern.endswith(one))
        dots = self.pattern.startswith(".")
        return [
            name
            for name in filter(matches, names)
            if (dots or name[0] != ".") and not name.endswith(others)
        ]


def find_files(directory: Path, searches: Sequence[Wanted]) -> list[list[str]]:
    """The names of the files of a directory that each search wants, sorted; one look for all.

    Raises OSError where the directory cannot be read.
    """
    with os.scandir(directory) as entries:
        there = {entry.name: entry for entry in entries}
    return [
        sorted(name for name in search.of(there) if there[name].is_file()) for search in searches
    ]


@dataclass(slots=True)
class Watch:
    """Names that were seen and are not handled yet, so that a directory with many files is read
    once a poll and not once an event.

    `every`: seconds after which directories are read again though there is work. `passed`: files
    that were left as they were, and when (monotonic); they are not looked at for `rest` seconds.
    """

    every: float
    rest: float
    queues: list[tuple[Wanted, deque[str]]] = field(default_factory=list)
    passed: dict[str, float] = field(default_factory=dict)
    looked: float = float("-inf")
    unreadable: dict[Path, str] = field(default_factory=dict)
    taken: list[Path] = field(default_factory=list)

    def look(self, searches: Sequence[Wanted], now: float) -> None:
        """Read the directories, if nothing is left of the last look or it is too old.

        A directory that cannot be read has no files; `unreadable` has the reasons of this look.
        `taken`, of the claims since, has the files whose name in work stands for another file.
        """
        changed = [wanted for wanted, _ in self.queues] != list(searches)
        waiting = any(names for _, names in self.queues)
        if waiting and not changed and now - self.looked < self.every:
            return
        self.looked = now
        self.passed = {path: at for path, at in self.passed.items() if now - at < self.rest}
        self.unreadable.clear()
        self.taken.clear()
        groups: dict[Path, list[Wanted]] = {}
        for search in searches:
            groups.setdefault(search.directory, []).append(search)
        found: dict[int, deque[str]] = {}
        for directory, group in groups.items():
            for search, names in zip(group, self._names(directory, group), strict=True):
                found[id(search)] = deque(names)
        self.queues = [(search, found[id(search)]) for search in searches]

    def waiting(self) -> Iterator[tuple[Wanted, deque[str]]]:
        """The searches that have found something, in their order."""
        return ((wanted, names) for wanted, names in self.queues if names)

    def _names(self, directory: Path, group: Sequence[Wanted]) -> list[list[str]]:
        try:
            found = find_files(directory, group)
        except OSError as error:
            self.unreadable[directory] = error.strerror or str(error)
            return [[] for _ in group]
        if not self.passed:
            return found
        place = os.path.join(directory, "")
        return [[name for name in names if place + name not in self.passed] for names in found]


# Claiming


def claim_files(
    watch: Watch, processing: str, board: FileClaims, holder: int
) -> tuple[ClaimedFile, ...]:
    """Claim files of the first search that has any; at most as many as it takes an event.

    Files that another process was faster to claim, or whose name in work is taken, are passed
    over. Where none can be renamed the reason is added to `watch.unreadable`.
    """
    for wanted, names in watch.waiting():
        claimed: list[ClaimedFile] = []
        while names and len(claimed) < wanted.maxtargs:
            path = wanted.directory / names.popleft()
            file = ClaimedFile(path, path.with_name(path.name + processing))
            try:
                if claim_file(file, board, holder):
                    claimed.append(file)
                elif os.path.lexists(file.original) and os.path.lexists(file.claimed):
                    watch.taken.append(file.original)
            except LocalError as error:
                board.forget_file(holder, file.claimed)
                watch.unreadable[wanted.directory] = str(error)
                names.clear()
        if claimed:
            return tuple(claimed)
    return ()


def claim_file(file: ClaimedFile, board: FileClaims, holder: int) -> bool:
    """Claim one file; False where it is gone, or its name in work is taken."""
    if not os.path.lexists(file.original) or os.path.lexists(file.claimed):
        return False
    board.note_file(holder, file.original, file.claimed)
    if rename_new(file.original, file.claimed):
        return True
    board.forget_file(holder, file.claimed)
    return False


def return_file(file: ClaimedFile, board: FileClaims, holder: int) -> None:
    """Give a claimed file its name back, as if nothing had been.

    Where a new file has that name meanwhile, the old one gets the time into its own. Raises
    LocalError.
    """
    if os.path.lexists(file.claimed):
        _rename_free(file.claimed, file.original, "")
    board.forget_file(holder, file.claimed)


# After the command


def add_suffix(file: ClaimedFile, suffix: str) -> Path:
    """Give a file in work `suffix` in place of the processing suffix; returns its new path.

    Raises LocalError.
    """
    return _rename_free(file.claimed, file.original, suffix)


def move_file(
    file: ClaimedFile, directory: Path, commit: Callable[[Path, Path], None]
) -> tuple[Path, Path]:
    """Move a file in work into a directory, made if missing, with its processing suffix.

    To another file system it is copied and flushed under a hidden name; then `commit(final,
    hidden)` is called, to record that from now on the copy is the file, what was claimed is
    removed, and the copy gets its name. Returns its path, and the path that was recorded: the
    claimed one, or the hidden one. Raises LocalError.
    """
    suffix = file.claimed.name.removeprefix(file.original.name)
    target = directory / file.original.name
    with told(directory):
        os.makedirs(directory, exist_ok=True)
    try:
        return _rename_free(file.claimed, target, suffix), file.claimed
    except _OtherFileSystem:
        pass
    hidden = directory / f".{file.claimed.name}.{os.getpid()}.moving"
    final = next(path for path in _names(target, suffix) if not os.path.lexists(path))
    copy_durably(file.claimed, hidden)
    commit(final, hidden)
    with told(file.claimed):
        os.unlink(file.claimed)
    return _rename_free(hidden, target, suffix), hidden


def copy_durably(source: Path, target: Path) -> None:
    """Copy a file with its times and mode, and flush it; what stood at `target` is replaced, and
    on failure nothing is left there. Raises LocalError."""
    try:
        with told(target):
            shutil.copyfile(source, target)
            shutil.copystat(source, target)
        flush([target, target.parent])
    except BaseException:
        with suppress(OSError):
            target.unlink()
        raise


class _OtherFileSystem(Exception):
    """The two names are on two file systems."""


def rename_new(source: Path, target: Path) -> bool:
    """Rename a file unless `target` is there already, on any file system, in one step.

    False where it is, or `source` is gone. Raises LocalError for any other reason.
    """
    try:
        with told(source):
            _rename(source, target)
    except _Refused:
        return False
    return True


class _Refused(Exception):
    """The source is gone, or the target there."""


def _rename_free(source: Path, target: Path, suffix: str) -> Path:
    """Rename to the first name that is free; returns it."""
    for path in _names(target, suffix):
        with told(source):
            try:
                _rename(source, path)
            except _Refused:
                if os.path.lexists(source):
                    continue
                raise FileNotFoundError(errno.ENOENT, "it is gone", str(source)) from None
        return path
    raise AssertionError("there is always another name")


def _names(target: Path, suffix: str) -> Iterator[Path]:
    """The names that a file may get: its own, then with the time, always a later one."""
    yield target.with_name(target.name + suffix)
    while True:
        time = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%f")
        yield target.with_name(f"{target.name}.{time}{suffix}")


def _rename(source: Path, target: Path) -> None:
    """Rename; raises _Refused, _OtherFileSystem, or OSError."""
    try:
        if not _system_rename(source, target):
            # Where the system, or a network file system, has no such call, a second name does it:
            # it too can be made by one process only.
            os.link(source, target, follow_symlinks=False)
            os.unlink(source)
    except (FileExistsError, FileNotFoundError) as error:
        if isinstance(error, FileNotFoundError) and not os.path.lexists(target.parent):
            raise
        raise _Refused from None
    except OSError as error:
        if error.errno == errno.EXDEV:
            raise _OtherFileSystem from None
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
