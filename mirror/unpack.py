"""A verified bundle into files, safely: whole and below its own directory, or not at all.

A bundle is one gzipped tar of plain files (PROTOCOL section 3). That its checksum fits says who
made it, not that it is harmless (FAULTS T1-T8), so nothing in it is believed: `tarstream` judges
every header, and what passes is written into a directory that this call made, relative to its
descriptor, with names that cannot leave it and modes that the archive has no say in. The bytes
pass once, in pieces, from the bundle through inflate and crc32 into the file: memory stays the
same whatever a bundle holds, and every large call leaves other threads free to run.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from mirror.disk import FULL
from mirror.errors import IntegrityError, LocalError
from mirror.inflate import Engine, InflateError, fastest, inflate
from mirror.tarstream import (
    BLOCK,
    EXTENDED,
    Entry,
    Extended,
    Header,
    TarError,
    effective,
    extend,
    folded,
    parse_header,
)

MAX_TAIL = 1 << 20
"""Bytes of zeros after the end of an archive: tar fills its last record, which is no longer."""

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_END = bytes(BLOCK)


@dataclass(frozen=True, slots=True)
class Limits:
    """How far a bundle may expand.

    `max_bytes` counts the archive as tar sees it: headers and padding as well as contents, but
    not the zeros that fill the last record. `max_members` counts files and entries for `./`.
    """

    max_bytes: int
    max_members: int = 100_000


@dataclass(frozen=True, slots=True)
class Member:
    """An unpacked file: its base name, bytes, and the crc32 of its content."""

    name: str
    size: int
    crc32: int


def limits_for(bundle_size: int, ratio: int = 200, ceiling: int = 100_000_000_000) -> Limits:
    """The limits of a bundle of `bundle_size` bytes: `ratio` times that, or `ceiling` if less."""
    return Limits(max_bytes=min(bundle_size * ratio, ceiling))


def unpack(
    bundle: Path, directory: Path, limits: Limits, engine: Engine | None = None
) -> list[Member]:
    """Unpack `bundle` into `directory`, which this call makes, and return its members in order.

    Files get mode 0666 less the umask, this process's owner, and the time of their member.
    Nothing is fsynced: who makes the files visible flushes them together. On any error, Ctrl-C
    included, the directory is gone again.

    Raises IntegrityError where the bundle is damaged or holds what it must not, LocalError where
    this machine is in the way (disk full, permission, `directory` exists already).
    """
    with _local(directory):
        os.mkdir(directory)
    try:
        return _fill(bundle, directory, limits, engine or fastest())
    except BaseException:
        _remove(directory)
        raise


def _fill(bundle: Path, directory: Path, limits: Limits, engine: Engine) -> list[Member]:
    """Write every member of `bundle` into the empty `directory`."""

    def read(count: int) -> bytes:
        with _local(bundle):
            return os.read(source, count)

    with _opened(bundle) as source, _opened(directory, os.O_DIRECTORY | os.O_NOFOLLOW) as target:
        archive = _Archive(inflate(read, engine), limits.max_bytes)
        try:
            return [
                _write(archive, entry, target, directory, engine)
                for entry in _entries(archive, limits.max_members)
            ]
        except (TarError, InflateError) as error:
            raise IntegrityError(f"{bundle.name}: {error}") from error


class _Archive:
    """The inflated archive, read once from its start to its end, at most `limit` bytes of it."""

    def __init__(self, pieces: Iterator[bytes], limit: int) -> None:
        self._pieces = pieces
        self._piece = memoryview(b"")
        self._limit = limit
        self._claimed = 0

    def claim(self, count: int) -> None:
        """Count bytes before they are read, so that what is too much is never begun."""
        self._claimed += count
        if self._claimed > self._limit:
            raise TarError(
                f"expands to {self._claimed} bytes or more, beyond the {self._limit} allowed"
            )

    def chunks(self, count: int) -> Iterator[memoryview]:
        """The next `count` bytes in as few pieces as they come in; fewer bytes at the end."""
        while count:
            if not self._piece:
                self._piece = memoryview(next(self._pieces, b""))
                if not self._piece:
                    return
            chunk = self._piece[:count]
            self._piece = self._piece[count:]
            count -= len(chunk)
            yield chunk

    def exactly(self, count: int, what: str) -> bytes:
        """The next `count` bytes; `what` they are, for the TarError if there are fewer."""
        self.claim(count)
        data = b"".join(self.chunks(count))
        if len(data) < count:
            raise TarError(f"the archive is cut: it ends where {what} should be")
        return data

    def tail(self) -> Iterable[memoryview | bytes]:
        """All that is left. To have taken it is to have checked the end of the gzip stream."""
        return chain((self._piece,), self._pieces)


def _entries(archive: _Archive, max_members: int) -> Iterator[Entry]:
    """The members of `archive`; the content of each is to be taken before the next is asked for."""
    extended = Extended()
    names: dict[str, str] = {}
    count = 0
    while header := _next_header(archive):
        if header.type in EXTENDED:
            extended = extend(extended, header, _content(archive, header.size))
            continue
        count += 1
        if count > max_members:
            raise TarError(f"more than the {max_members} members allowed")
        entry = effective(header, extended)
        extended = Extended(common=extended.common)
        if entry:
            _check_unique(entry.name, names)
            padding = -entry.size % BLOCK
            archive.claim(entry.size)
            yield entry
            archive.exactly(padding, f"the padding of member {entry.name!r}")
    if extended.types:
        raise TarError("the archive ends after an extended header, without its member")
    _check_tail(archive)


def _next_header(archive: _Archive) -> Header | None:
    """The next header, or None at the two blocks of zeros that end an archive."""
    block = archive.exactly(BLOCK, "a header or the end blocks")
    if block != _END:
        return parse_header(block)
    if archive.exactly(BLOCK, "the second end block") != _END:
        raise TarError("a lone block of zeros between members, where two end an archive")
    return None


def _content(archive: _Archive, size: int) -> bytes:
    """The content of an extended header, without its padding."""
    return archive.exactly(size + -size % BLOCK, "an extended header")[:size]


def _check_unique(name: str, names: dict[str, str]) -> None:
    """Add `name` to `names`, or TarError if it would fall on another one anywhere (T7)."""
    key = folded(name)
    if key in names:
        other = names[key]
        same = (
            "of that name"
            if other == name
            else f"with a name that differs by case or Unicode form: {other!r}"
        )
        raise TarError(f"member {name!r}: there is already one {same}")
    names[key] = name


def _check_tail(archive: _Archive) -> None:
    """TarError unless what follows the end blocks is the padding of tar's last record."""
    size = 0
    for piece in archive.tail():
        size += len(piece)
        if piece != bytes(len(piece)):
            raise TarError("something follows the two end blocks of the archive")
        if size > MAX_TAIL:
            raise TarError(f"more than {MAX_TAIL} bytes of padding follow the archive")


def _write(archive: _Archive, entry: Entry, target: int, directory: Path, engine: Engine) -> Member:
    """Write the content of `entry` to a new file in the directory open as `target`."""
    crc = 0
    size = 0
    with _local(directory / entry.name):
        output = _create(entry.name, target)
        try:
            for chunk in archive.chunks(entry.size):
                crc = engine.crc32(chunk, crc)
                size += len(chunk)
                while chunk:
                    chunk = chunk[os.write(output, chunk) :]
            os.utime(output, ns=(entry.mtime_ns, entry.mtime_ns))
        finally:
            os.close(output)
    if size < entry.size:
        raise TarError(f"the archive is cut: {size} of {entry.size} bytes of member {entry.name!r}")
    return Member(entry.name, size, crc)


def _create(name: str, target: int) -> int:
    """Open a new file for writing; its mode is the umask's affair alone."""
    try:
        return os.open(name, _CREATE, 0o666, dir_fd=target)
    except FileExistsError:
        # The directory is ours and new: the file system takes two names for one.
        raise TarError(f"member {name!r}: there is already one with a name like it") from None


@contextmanager
def _opened(path: Path, flags: int = 0) -> Iterator[int]:
    """A descriptor for reading `path`, closed at the end."""
    with _local(path):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | flags)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _local(path: Path) -> Iterator[None]:
    """Turn what the system refuses about `path` into a LocalError that names it."""
    try:
        yield
    except OSError as error:
        text = f"{path}: {error.strerror or error}"
        raise LocalError(text, full=error.errno in FULL) from error


def _remove(directory: Path) -> None:
    """Take away what a failed unpacking wrote; if even that fails, say so."""
    import shutil

    with _local(directory):
        shutil.rmtree(directory)
