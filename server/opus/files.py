"""Files that wake a process: finding and claiming them (OPUS, "Process resource files"; seed 004).

A file is claimed by adding FILE_PROCESSING to its name, a rename that fails where that name is
taken: of any number of copies of a process, on any hosts, one gets it, and nothing is overwritten.
The board is told before the rename, so that the claim of a process that dies can be returned.
"""

import errno
import os
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import translate
from pathlib import Path
from typing import Protocol

from server.opus.events import ClaimedFile
from server.opus.moving import rename_new

REFUSED_REST = 60.0
"""Seconds after which a file that could not be renamed is tried again, at least: each try costs
the board two transactions, and there may be thousands of such files."""

_OF_THE_WHOLE = (errno.EROFS, errno.ENOSPC, errno.EDQUOT)
_ALL_ARGUMENTS = 6 << 20  # what Linux takes at most, whatever the limit of the stack


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


def find_files(
    directory: Path, searches: Sequence[Wanted], broken: dict[str, str] | None = None
) -> list[list[str]]:
    """The names of the files of a directory that each search wants, sorted; one look for all.

    What nobody can say of whether it is a file, as a symbolic link to itself, is none; `broken`
    gets its name and the reason. Raises OSError where the directory cannot be read.
    """
    with os.scandir(directory) as entries:
        there = {entry.name: entry for entry in entries}

    def is_file(name: str) -> bool:
        try:
            return there[name].is_file()
        except OSError as error:
            if broken is not None:
                broken[name] = error.strerror or str(error)
            return False

    return [sorted(filter(is_file, search.of(there))) for search in searches]


@dataclass(slots=True)
class Watch:
    """Names that were seen and are not handled yet, so that a directory with many files is read
    once a poll and not once an event.

    `every`: seconds after which directories are read again though there is work. `passed`: files
    that were left as they were, and when (monotonic); they are not looked at for `rest` seconds.
    `refused`: files that cannot be had, each with the reason, and when it was tried. `ended`: says
    whether the process is to end, so that no more is to be claimed.
    """

    every: float
    rest: float
    queues: list[tuple[Wanted, deque[str]]] = field(default_factory=list)
    passed: dict[str, float] = field(default_factory=dict)
    looked: float = float("-inf")
    unreadable: dict[Path, str] = field(default_factory=dict)
    taken: list[Path] = field(default_factory=list)
    refused: dict[Path, tuple[str, float]] = field(default_factory=dict)
    ended: Callable[[], object] = lambda: False

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
        self.refused = {path: why for path, why in self.refused.items() if path.parent in groups}
        found: dict[int, deque[str]] = {}
        for directory, group in groups.items():
            for search, names in zip(group, self._names(directory, group), strict=True):
                found[id(search)] = deque(names)
        self.queues = [(search, found[id(search)]) for search in searches]

    def waiting(self) -> Iterator[tuple[Wanted, deque[str]]]:
        """The searches that have found something, in their order."""
        return ((wanted, names) for wanted, names in self.queues if names)

    def refuse(self, path: Path, why: str) -> None:
        """A file cannot be had; it is not looked at for `REFUSED_REST` seconds."""
        self.refused[path] = why, self.looked

    def _names(self, directory: Path, group: Sequence[Wanted]) -> list[list[str]]:
        broken: dict[str, str] = {}
        try:
            found = find_files(directory, group, broken)
        except OSError as error:
            self.unreadable[directory] = error.strerror or str(error)
            return [[] for _ in group]
        resting = self._still_refused(directory, {name for names in found for name in names})
        for name, why in broken.items():
            self.refuse(directory / name, why)
        if not self.passed and not resting:
            return found
        place = os.path.join(directory, "")
        return [
            [name for name in names if place + name not in self.passed and name not in resting]
            for names in found
        ]

    def _still_refused(self, directory: Path, there: set[str]) -> set[str]:
        """Forget what is no longer there; the names that are not to be tried again yet."""
        old = [path for path in self.refused if path.parent == directory]
        for path in old:
            if path.name not in there:
                del self.refused[path]
        return {
            path.name
            for path in old
            if path in self.refused and self.looked - self.refused[path][1] < REFUSED_REST
        }


# Claiming


def claim_files(
    watch: Watch, processing: str, board: FileClaims, holder: int
) -> tuple[ClaimedFile, ...]:
    """Claim files of the first search that has any; at most as many as it takes an event, and as
    fit into the environment of a command.

    Files that another process was faster to claim, or whose name in work is taken, are passed
    over. One that cannot be renamed is added to `watch.refused`; where none can, the reason is
    added to `watch.unreadable`. Raises Unavailable where the board does not answer.
    """
    for wanted, names in watch.waiting():
        claimed: list[ClaimedFile] = []
        room = environment_room()
        while names and len(claimed) < wanted.maxtargs and not watch.ended():
            path = wanted.directory / names[0]
            file = ClaimedFile(path, path.with_name(path.name + processing))
            needed = variable_size("EVENT_NAME000000", str(file.claimed))
            if claimed and needed > room:
                break
            names.popleft()
            if _has_won(file, watch, names, board, holder):
                claimed.append(file)
                room -= needed
        if claimed:
            return tuple(claimed)
    return ()


def _has_won(
    file: ClaimedFile, watch: Watch, names: deque[str], board: FileClaims, holder: int
) -> bool:
    """Claim one file, and note why if it cannot be had; `names`: what else there is."""
    path = file.original
    try:
        won = claim_file(file, board, holder)
    except OSError as error:
        why = error.strerror or str(error)
        if _is_of_all(error, path.parent):
            watch.unreadable[path.parent] = f"{path}: {why}"
            names.clear()
        else:
            watch.refuse(path, why)
        return False
    watch.refused.pop(path, None)
    if not won and os.path.lexists(path) and os.path.lexists(file.claimed):
        watch.taken.append(path)
    return won


def claim_file(file: ClaimedFile, board: FileClaims, holder: int) -> bool:
    """Claim one file; False where it is gone, or its name in work is taken.

    Raises OSError where it cannot be renamed, Unavailable where the board does not answer.
    """
    if not _is_there(file.original) or _is_there(file.claimed):
        return False
    board.note_file(holder, file.original, file.claimed)
    won = False
    try:
        won = rename_new(file.original, file.claimed)
    finally:
        if not won:
            board.forget_file(holder, file.claimed)
    return won


def _is_there(path: Path) -> bool:
    """As os.path.lexists, but raises OSError for a name that none can have."""
    try:
        os.lstat(path)
    except FileNotFoundError:
        return False
    return True


def _is_of_all(error: OSError, directory: Path) -> bool:
    """Whether no file of the directory can be renamed."""
    if error.errno in (errno.EACCES, errno.EPERM):
        return not os.access(directory, os.W_OK | os.X_OK)
    return error.errno in _OF_THE_WHOLE or not os.path.isdir(directory)


def environment_room() -> int:
    """Bytes that the items of one event may take in the environment of a command: a quarter of what
    the system gives to that and to the arguments, as others have something there too."""
    return min(max(os.sysconf("SC_ARG_MAX"), 1 << 17), _ALL_ARGUMENTS) // 4


def variable_size(name: str, value: str) -> int:
    """What a variable takes of that, in bytes: its text, with `=` and the end, and a pointer."""
    return len(name) + len(os.fsencode(value)) + 10
