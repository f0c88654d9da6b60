"""A Data Store that stands as plain files in a directory, looked up by URL (PROTOCOL section 1).

    ROOT/index.txt   ROOT/PRODUCT/index.txt   ROOT/PRODUCT/FILESET/index.txt
    ROOT/PRODUCT/FILESET/FILE

A list is read afresh for every request and from one open file, so that a list replaced by rename
is seen old or new, and whole (FAULTS S8). A URL is a grammar here and not a path: every segment
is decoded once and checked before the disk is touched, and what a symlink then leads to must
still lie below the root (S1).
"""

import errno
import os
import stat
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

from mirror.errors import LocalError
from mirror.listing import INDEX, FileRow, check_name, read_files
from server.http.lines import chunks_of, rows_after
from server.views.answers import HTML, TEXT, Answer, File, Stream, Visitor
from server.views.grammar import (
    NOTHING,
    DirectoryUrl,
    FileUrl,
    ListUrl,
    PageUrl,
    is_visible,
    media_of,
    not_listed,
    parse_last,
    parse_url,
    quoted,
)
from server.views.pages import page
from server.views.skim import part_of

_REMEMBERED = 64
"""Filesets whose file lists are kept parsed: as many as are being mirrored at one time."""

# Nothing there, or nothing that may be followed or opened as a file: all the same from outside.
_NO_SUCH = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENXIO)

_Signature = tuple[int, int, int]
_Sums = dict[str, tuple[int, str | None]]


class Tree:
    """The store below one directory. Safe to use from many threads.

    Raises LocalError from `find` where a file of the store cannot be read.
    """

    def __init__(self, root: Path) -> None:
        self._root = os.path.realpath(root).rstrip("/") + "/"
        self._sums: OrderedDict[str, tuple[_Signature, _Sums]] = OrderedDict()
        self._lock = threading.Lock()

    def find(self, path: str, query: str, visitor: Visitor) -> AbstractContextManager[Answer]:
        """See `answers.Store`. A tree is everybody's: the visitor makes no difference."""
        return self._find(path, query)

    @contextmanager
    def _find(self, path: str, query: str) -> Iterator[Answer]:
        with ExitStack() as opened:
            yield self._answer(path, query, opened)

    def _answer(self, path: str, query: str, opened: ExitStack) -> Answer:
        url = parse_url(path)
        match url:
            case PageUrl():
                return self._page(url.names, query, opened)
            case ListUrl():
                return self._list(url.names, parse_last(url, query), opened)
            case DirectoryUrl():
                there = self._open((*url.names, INDEX), opened) is not None
                return url.moved() if there else NOTHING
            case FileUrl():
                return self._file(url.names, opened)
        return NOTHING

    def _page(self, names: tuple[str, ...], query: str, opened: ExitStack) -> Answer:
        descriptor = self._open((*names, INDEX), opened)
        if descriptor is None:
            return NOTHING
        body = page(names, part_of(descriptor, len(names), query))
        return Stream(HTML, iter((body,)), len(body))

    def _list(self, names: tuple[str, ...], since: str, opened: ExitStack) -> Answer:
        descriptor = self._open((*names, INDEX), opened)
        if descriptor is None:
            return NOTHING
        info = os.fstat(descriptor)
        header, offset = b"", 0
        if since:
            found = (
                None if check_name(since) else rows_after(descriptor, info.st_size, since.encode())
            )
            if found is None:
                return not_listed(names[0], since)
            header, offset = found
        chunks = chunks_of(descriptor, offset, info.st_size, header)
        etag = f'"{"-".join(f"{part:x}" for part in (*_signature(info), offset))}"'
        return Stream(TEXT, chunks, len(header) + info.st_size - offset, etag)

    def _file(self, names: tuple[str, str, str], opened: ExitStack) -> Answer:
        listed = self._listed(names[:2], opened).get(names[2])
        if listed is None:
            return NOTHING
        descriptor = self._open(names, opened)
        if descriptor is None:
            return NOTHING
        info = os.fstat(descriptor)
        size, md5 = listed
        # A sum that stands beside another size is not this file's.
        trusted = md5 if size == info.st_size else None
        etag = trusted or f"{info.st_size:x}-{info.st_mtime_ns:x}"
        media = media_of(names[2])
        return File(quoted(names), descriptor, info.st_size, info.st_mtime, f'"{etag}"', media)

    def _listed(self, names: tuple[str, str], opened: ExitStack) -> _Sums:
        """Size and md5 by name of every file that the fileset lists; empty without a list."""
        key = "/".join(names)
        with self._lock:
            remembered = self._sums.get(key)
        if remembered and remembered[0] == self._signature_of(key):
            return remembered[1]
        descriptor = self._open((*names, INDEX), opened)
        if descriptor is None:
            return {}
        info = os.fstat(descriptor)
        rows = read_files(chunks_of(descriptor, 0, info.st_size))
        sums = {row.name: (row.size, row.md5) for row in rows if isinstance(row, FileRow)}
        with self._lock:
            self._sums[key] = (_signature(info), sums)
            self._sums.move_to_end(key)
            while len(self._sums) > _REMEMBERED:
                self._sums.popitem(last=False)
        return sums

    def _signature_of(self, key: str) -> _Signature | None:
        try:
            return _signature(os.stat(f"{self._root}{key}/{INDEX}"))
        except OSError:
            return None

    def _open(self, names: tuple[str, ...], opened: ExitStack) -> int | None:
        """Open a regular file below the root, or None if there is no such."""
        real = os.path.realpath(self._root + "/".join(names))
        inside = real.removeprefix(self._root)
        if inside == real or not all(map(is_visible, inside.split("/"))):
            return None
        # O_NONBLOCK: a FIFO in the store must not hold the request for ever.
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            descriptor = os.open(real, flags)
        except OSError as fault:
            if fault.errno in _NO_SUCH:
                return None
            where = "/".join(names)
            raise LocalError(
                f"{where}: cannot be read ({fault.strerror}); check its owner, mode and disk"
            ) from fault
        opened.callback(os.close, descriptor)
        return descriptor if stat.S_ISREG(os.fstat(descriptor).st_mode) else None


def _signature(info: os.stat_result) -> _Signature:
    """What differs between two versions of a list."""
    return info.st_ino, info.st_mtime_ns, info.st_size
