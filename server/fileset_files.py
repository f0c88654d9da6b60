"""A fileset's directory while its files come into it: copied, linked, or there already.

A file is read once, its bytes counted and its md5 sum taken on the way. Whatever has a listed
name is whole: a copy is written under a temporary name, flushed, then renamed (PROTOCOL
section 4). Sources that change meanwhile are found out and refused.
"""

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import Enum
from hashlib import md5
from pathlib import Path

from mirror import disk
from mirror.disk import flush, told
from mirror.errors import ConfigError, IntegrityError, LocalError

SCRATCH = ".dsreg.new"
"""What is not whole yet. One name is enough: whoever holds the fileset is alone in it."""

_CHUNK = 1 << 20


class Mode(Enum):
    """How files come into a fileset's directory."""

    COPY = "copy"
    LINK = "link"
    IN_PLACE = "in place"


@dataclass(frozen=True, slots=True)
class Step:
    """One file that is to come: its name in the fileset, where it is now, what was said of it.

    `size` in bytes and `md5` are None where they are to be computed; in place, `source` is the
    file itself. `trusted`: both are as they say, and the file is durable; only its kind and its
    size are looked at. For a link or in place.
    """

    name: str
    source: Path
    size: int | None
    md5: str | None
    trusted: bool = False


@dataclass(frozen=True, slots=True)
class Sum:
    """What a file turned out to be: `size` in bytes, `md5` in lower-case hexadecimal digits."""

    size: int
    md5: str


@dataclass(frozen=True, slots=True)
class _Seen:
    """A file as it was read; `real`: where a link led, None for what is no link."""

    path: Path
    identity: tuple[int, ...]
    real: Path | None


class Shelf:
    """The directory of one fileset that nobody can see yet, and what was put into it.

    `open`, then `put` each file, then `settle`; after a failure `clear` removes what was put
    there. The caller holds the fileset (`server.store_lock`) all the time. Raises LocalError
    where the disk is in the way, IntegrityError for a file that is not what it should be.
    """

    def __init__(self, directory: Path, mode: Mode, link_roots: Sequence[Path] | None) -> None:
        self.directory = directory
        self._mode = mode
        self._roots = None if link_roots is None else [_real(root) for root in link_roots]
        self._scratch = directory / SCRATCH
        self._home = directory
        self._made: list[Path] = []
        self._placed: list[Path] = []
        self._seen: list[_Seen] = []

    def open(self) -> None:
        """Make the directory; one that a crashed attempt has left is taken over."""
        with told(self.directory):
            for path in (self.directory.parent, self.directory):
                with suppress(FileExistsError):
                    path.mkdir()
                    self._made.append(path)
            for path in (self.directory.parent, self.directory):
                check_directory(path)
            self._home = _real(self.directory)
            self._scratch.unlink(missing_ok=True)

    def put(self, step: Step) -> Sum:
        """Bring one file in. Returns what it turned out to be."""
        if self._mode is Mode.COPY:
            return self._copy(step)
        if self._mode is Mode.LINK:
            return self._link(step)
        return self._take(step)

    def settle(self) -> None:
        """Make the directory durable, and look whether any file has changed meanwhile."""
        parents = [path.parent for path in self._made]
        flush([self.directory, self.directory.parent, *parents])
        for seen in self._seen:
            with told(seen.path):
                if _identity(os.stat(seen.path)) != seen.identity:
                    raise _changed(seen.path)
            if seen.real and Path(os.path.realpath(seen.path)) != seen.real:
                raise _changed(seen.path)

    def clear(self) -> None:
        """Remove what this attempt has put there; what it cannot, the next one takes over."""
        for path in (self._scratch, *self._placed):
            with suppress(OSError):
                path.unlink(missing_ok=True)
        for path in reversed(self._made):
            with suppress(OSError):
                path.rmdir()

    def _copy(self, step: Step) -> Sum:
        target = self.directory / step.name
        self._refuse_own(step.source, _real(step.source))
        with _regular(step.source) as (file, seen):
            found = self._write(target, lambda write: _sum(step, file, seen, write))
            _compare(step, found)
        self._seen.append(_Seen(step.source, _identity(seen), None))
        flush([self._scratch])
        self._rename(target)
        return found

    def _write(self, target: Path, fill: Callable[[Callable[[memoryview], None]], Sum]) -> Sum:
        with told(target):
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            file = os.open(self._scratch, flags, 0o666)

        def write(data: memoryview) -> None:
            with told(target):
                while data:
                    data = data[os.write(file, data) :]

        try:
            return fill(write)
        finally:
            with told(target):
                os.close(file)

    def _link(self, step: Step) -> Sum:
        real = self._allowed(step.source)
        self._refuse_own(real, real)
        found, seen = _read(step, real)
        target = self.directory / step.name
        with told(target):
            os.symlink(real, self._scratch)
        self._rename(target)
        self._seen.append(_Seen(target, _identity(seen), real))
        return found

    def _take(self, step: Step) -> Sum:
        with told(step.source):
            linked = stat.S_ISLNK(step.source.lstat().st_mode)
        real = self._allowed(step.source) if linked else None
        found, seen = _read(step, real or step.source)
        self._seen.append(_Seen(step.source, _identity(seen), real))
        return found

    def _rename(self, target: Path) -> None:
        # Noted before: what may be there is removed, should it fail.
        self._placed.append(target)
        with told(target):
            os.replace(self._scratch, target)

    def _refuse_own(self, source: Path, real: Path) -> None:
        """Whoever copies a file onto itself, and fails, would lose it."""
        if real.is_relative_to(self._home):
            raise ConfigError(
                [f"{source}: stands in the fileset's own directory; register it in place, without"
                 " --copy and --link"]
            )  # fmt: skip

    def _allowed(self, source: Path) -> Path:
        """The file behind every link, if links may lead there (LINK_ROOTS)."""
        with told(source):
            real = Path(os.path.realpath(source, strict=True))
        if self._roots is None or any(real.is_relative_to(root) for root in self._roots):
            return real
        roots = ", ".join(map(str, self._roots)) or "nothing"
        raise IntegrityError(f"{source}: leads to {real}, but LINK_ROOTS allows links to {roots}")


def check_directory(path: Path) -> None:
    """Raises LocalError where a product's or fileset's directory is none, or only a link to one.

    The server follows no such link: nothing below it would ever be served.
    """
    with told(path):
        mode = path.lstat().st_mode
    if stat.S_ISLNK(mode):
        raise LocalError(
            f"{path}: a directory expected, not a link; remove the link, and move the directory"
            " here or mount it here (mount --bind)"
        )
    if not stat.S_ISDIR(mode):
        raise LocalError(f"{path}: a directory expected; move away what is there")


def remove_directory(directory: Path, already: str, finish: str) -> bool:
    """Remove a directory of what is in no list any more. Returns whether there was one.

    Raises LocalError, which says what was done `already` and how to `finish`, where it stays.
    """
    try:
        with told(directory):
            if not (directory.is_symlink() or directory.is_dir()):
                return False
        disk.remove(directory)
        flush([directory.parent])
    except LocalError as fault:
        raise LocalError(
            f"{already}, but its directory {directory} could not be removed: {fault}; when that is"
            f" mended, {finish} finishes it"
        ) from None
    return True


def _real(path: Path) -> Path:
    # Not Path.resolve, which takes a loop of links for a fault of the program.
    return Path(os.path.realpath(path))


@contextmanager
def _regular(path: Path) -> Iterator[tuple[int, os.stat_result]]:
    """Open a regular file for reading, and nothing else: no pipe that would make us wait."""
    with told(path):
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        seen = os.fstat(file)
        if not stat.S_ISREG(seen.st_mode):
            raise IntegrityError(f"{path}: a regular file expected, not {_kind(seen.st_mode)}")
        yield file, seen
    finally:
        os.close(file)


def _kind(mode: int) -> str:
    return "a directory" if stat.S_ISDIR(mode) else "a pipe, a socket or a device"


def _read(step: Step, path: Path) -> tuple[Sum, os.stat_result]:
    """Sum up a file that stays where it is, and make it durable; or trust that this was done."""
    with _regular(path) as (file, seen):
        if step.trusted and step.md5 is not None:
            _compare_size(step, seen.st_size)
            return Sum(seen.st_size, step.md5), seen
        found = _sum(step, file, seen, None)
    _compare(step, found)
    flush([path])
    return found, seen


def _sum(
    step: Step, file: int, seen: os.stat_result, write: Callable[[memoryview], None] | None
) -> Sum:
    """Read a file to its end, handing every piece on to `write`."""
    _compare_size(step, seen.st_size)
    digest = md5(usedforsecurity=False)
    buffer = memoryview(bytearray(min(_CHUNK, seen.st_size + 1)))
    size = 0
    # One that grows without end must not keep us for ever.
    while size <= seen.st_size:
        with told(step.source):
            count = os.readv(file, [buffer])
        if not count:
            break
        size += count
        digest.update(buffer[:count])
        if write:
            write(buffer[:count])
    if size != seen.st_size or _identity(os.fstat(file)) != _identity(seen):
        raise _changed(step.source)
    return Sum(size, digest.hexdigest())


def _compare_size(step: Step, size: int) -> None:
    if step.size is not None and step.size != size:
        raise IntegrityError(f"{step.source}: has {size} bytes, but its line says {step.size}")


def _compare(step: Step, found: Sum) -> None:
    if step.md5 is not None and step.md5 != found.md5:
        raise IntegrityError(
            f"{step.source}: its md5 sum is {found.md5}, but its line says {step.md5}"
        )


def _identity(seen: os.stat_result) -> tuple[int, ...]:
    return seen.st_dev, seen.st_ino, seen.st_size, seen.st_mtime_ns


def _changed(path: Path) -> IntegrityError:
    return IntegrityError(f"{path}: changed while it was read; register it when it is finished")
