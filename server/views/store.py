"""The store of a catalogue: what is registered, looked up by URL (PROTOCOL sections 1 and 2).

Everything that one answer says is of one moment (FAULTS S8), and the connection to the catalogue
is given back before the first byte goes out. Nothing is found by looking into directories: only
what is registered can be had, and only as it was registered (S1).
"""

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mirror.errors import LocalError
from server.catalogue import (
    Fileset,
    NewFile,
    Product,
    find_file,
    find_fileset,
    find_product,
    first_id,
)
from server.database import Database, Pool, Unavailable
from server.views import browse
from server.views.answers import Answer, File, Visitor
from server.views.grammar import (
    NOTHING,
    DirectoryUrl,
    FileUrl,
    ListUrl,
    PageUrl,
    Url,
    media_of,
    not_listed,
    parse_last,
    parse_url,
    quoted,
)
from server.views.lists import file_list, fileset_list, root_list

if TYPE_CHECKING:
    from server.people.access import Verdict

    Judge = Callable[[Database, Product, Visitor], Verdict | Callable[[], Verdict]]

_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
# A FIFO must not hold the request for ever.
_DATA = _FILE | os.O_NONBLOCK
_DIRECTORY = _FILE | os.O_DIRECTORY


@dataclass(frozen=True, slots=True)
class _Registered:
    """A file that the visitor may have, as the catalogue knows it."""

    names: tuple[str, str, str]
    file: NewFile
    private: bool


class RegisteredStore:
    """The store below `root` whose catalogue `pool` leads to. Safe to use from many threads.

    `link_roots`: the directories below which the targets of links must lie; None: anywhere.
    `judge` says who may have a product; what takes its time it returns as something to be called
    when the connection is given back. `pages`: connections for the pages alone, because to sort a
    long list takes a second in which lists and files must not wait; None: those of `pool`.
    """

    def __init__(
        self,
        root: Path,
        pool: Pool,
        link_roots: tuple[Path, ...] | None,
        judge: "Judge",
        pages: Pool | None = None,
    ) -> None:
        self._root = root
        self._pool = pool
        self._pages = pages or pool
        self._link_roots = link_roots
        self._judge = judge

    def find(self, path: str, query: str, visitor: Visitor) -> AbstractContextManager[Answer]:
        """See `server.views.answers.Store`.

        Raises LocalError where the catalogue does not answer, and for a registered file that is
        not there as it was registered.
        """
        return self._find(path, query, visitor)

    @contextmanager
    def _find(self, path: str, query: str, visitor: Visitor) -> Iterator[Answer]:
        url = parse_url(path)
        if url is None:
            yield NOTHING
            return
        found = self._look_up(url, query, visitor)
        if not isinstance(found, _Registered):
            yield found
            return
        with ExitStack() as opened:
            try:
                answer: Answer = self._open(found, opened)
            except Unavailable:
                raise
            except LocalError:
                # Withdrawn between the two looks, it is no fault that it has gone.
                again = self._look_up(url, query, visitor)
                if again == found:
                    raise
                answer = NOTHING
            yield answer

    def _look_up(self, url: Url, query: str, visitor: Visitor) -> Answer | _Registered:
        pool = self._pages if isinstance(url, PageUrl) else self._pool
        if not url.names:
            with pool.borrow() as database, database.read():
                is_list = isinstance(url, ListUrl)
                return root_list(database) if is_list else browse.root_page(database, query)
        with pool.borrow() as database, database.read():
            judged = find_product(database, url.names[0])
            if judged is None:
                return NOTHING
            verdict = self._judge(database, judged, visitor)
            if not callable(verdict):
                return self._allowed(database, judged, url, query, verdict)
        verdict = verdict()
        with pool.borrow() as database, database.read():
            product = find_product(database, url.names[0])
            # Another one of the same name may be for others.
            if product is None or product.id != judged.id:
                return NOTHING
            return self._allowed(database, product, url, query, verdict)

    def _allowed(
        self, database: Database, product: Product, url: Url, query: str, verdict: "Verdict"
    ) -> Answer | _Registered:
        if verdict.denied:
            return verdict.denied
        return self._below(database, product, url, query, private=verdict.private)

    def _below(
        self, database: Database, product: Product, url: Url, query: str, *, private: bool
    ) -> Answer | _Registered:
        if len(url.names) == 1:
            return self._of_product(database, product, url, query)
        fileset = find_fileset(database, product, url.names[1])
        if fileset is None:
            return NOTHING
        if isinstance(url, FileUrl):
            file = find_file(database, fileset, url.names[2])
            return _Registered(url.names, file, private) if file else NOTHING
        return self._of_fileset(database, product, fileset, url, query)

    def _of_product(self, database: Database, product: Product, url: Url, query: str) -> Answer:
        match url:
            case ListUrl():
                name = parse_last(url, query)
                last = find_fileset(database, product, name) if name else None
                if name and last is None:
                    return not_listed(product.name, name)
                after = first_id(database, product, last) if last else 0
                return fileset_list(database, self._pool, product, after)
            case PageUrl():
                return browse.product_page(database, product, query)
            case DirectoryUrl():
                return url.moved()
        return NOTHING

    def _of_fileset(
        self, database: Database, product: Product, fileset: Fileset, url: Url, query: str
    ) -> Answer:
        match url:
            case ListUrl():
                return file_list(database, self._pool, product, fileset)
            case PageUrl():
                return browse.fileset_page(database, product, fileset, query)
            case DirectoryUrl():
                return url.moved()
        return NOTHING

    def _open(self, found: _Registered, opened: ExitStack) -> File:
        """Open a registered file; LocalError unless it is there as it was registered."""
        file = found.file
        try:
            descriptor = self._descriptor(found.names, opened)
        except OSError as fault:
            if fault.errno in _EXHAUSTED:
                raise Unavailable(f"{'/'.join(found.names)}: {fault.strerror}") from fault
            reason = _REASONS.get(fault.errno or 0, fault.strerror)
            raise _spoiled(found, f"cannot be read ({reason})") from fault
        info = os.fstat(descriptor)
        if not stat.S_ISREG(info.st_mode):
            raise _spoiled(found, "is no regular file")
        if info.st_size != file.size:
            raise _spoiled(found, f"has {info.st_size} bytes, but {file.size} are registered")
        return File(
            quoted(found.names), descriptor, info.st_size, info.st_mtime, f'"{file.md5}"',
            media_of(file.name), found.private,
        )  # fmt: skip

    def _descriptor(self, names: tuple[str, str, str], opened: ExitStack) -> int:
        """Open ROOT/PRODUCT/FILESET/FILE; of these only the root and the file may be links."""
        with ExitStack() as passed:
            flags = _DIRECTORY & ~os.O_NOFOLLOW
            at: int | None = None
            for directory in (str(self._root), *names[:2]):
                at = os.open(directory, flags, dir_fd=at)
                passed.callback(os.close, at)
                flags = _DIRECTORY
            try:
                descriptor = os.open(names[2], _DATA, dir_fd=at)
            except OSError as fault:
                if fault.errno != errno.ELOOP:
                    raise
                descriptor = os.open(self._target(os.path.join(self._root, *names)), _DATA)
        opened.callback(os.close, descriptor)
        return descriptor

    def _target(self, link: str) -> str:
        """Where a link leads to, in the end. Raises OSError where it must not be followed."""
        target = os.path.realpath(link, strict=True)
        if self._link_roots is None:
            return target
        for root in map(os.path.realpath, self._link_roots):
            if target.startswith(root.rstrip("/") + "/"):
                return target
        raise OSError(errno.EXDEV, "it links to a place outside of LINK_ROOTS")


_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)

_REASONS = {
    errno.ELOOP: "the end of its link is a link",
    errno.ENOTDIR: "its product's or fileset's directory is none, or a link",
    errno.ENOENT: "it is not there",
}


def _spoiled(found: _Registered, what: str) -> LocalError:
    product, fileset, _ = found.names
    return LocalError(
        f"{'/'.join(found.names)}: {what}; bring it back as it was registered, or withdraw the"
        f" fileset with: dsreg --del {fileset} --product {product}"
    )
