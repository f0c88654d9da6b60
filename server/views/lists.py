"""The catalogue's rows as the text of `index.txt` (PROTOCOL section 2), of any length.

A list of up to PIECE rows is one body. A longer one is made while it is sent, a piece at a time
and each from a connection of the moment: to hold one connection, and the moment it sees, for as
long as a slow reader takes would let a few of them stop everybody else, and would keep SQLite's
log from being cleared away. What the first moment showed is kept to all the same. Nothing newer
than its last row is sent; and rows are never changed, only withdrawn, which the count at the end
tells: then the answer breaks off, and the client reads again (FAULTS S8). How wide its columns are
is seen from its first rows and its last: to measure a million of them would keep everybody waiting.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b

from mirror.listing import (
    FILE_COLUMNS,
    FILESET_COLUMNS,
    NULL,
    PRODUCT_COLUMNS,
    header_line,
    product_values,
    row_line,
)
from server.catalogue import Fileset, NewFile, Product
from server.contents import (
    Window,
    files,
    files_after,
    filesets,
    filesets_after,
    measure_files,
    measure_filesets,
    products,
    type_columns,
)
from server.database import Database, Pool, Unavailable
from server.views.answers import TEXT, Stream

PIECE = 1000
"""Rows that are read, and sent, at a time."""

Printed = tuple[tuple[str, ...], tuple[str, ...]]
"""A row as it is printed: the names of its columns, and its values."""

Types = Mapping[str, tuple[str, ...]]
"""The labels of each file type's own columns."""


def print_products(shown: Iterable[Product]) -> Iterator[Printed]:
    """The rows of the root list."""
    for product in shown:
        yield (
            PRODUCT_COLUMNS,
            product_values(
                product.name, product.last_fileset, product.updated, product.type,
                product.description,
            ),
        )  # fmt: skip


def print_filesets(product: Product, shown: Iterable[Fileset]) -> Iterator[Printed]:
    """The rows of a product's list."""
    names = FILESET_COLUMNS + product.columns
    count = len(product.columns)
    for fileset in shown:
        own = _print_own(fileset.values, count)
        yield names, (fileset.name, fileset.registered, fileset.type, *own)


def print_files(types: Types, shown: Iterable[NewFile]) -> Iterator[Printed]:
    """The rows of a fileset's list. A type that is not in `types` has no columns of its own."""
    names = {kind: FILE_COLUMNS + labels for kind, labels in types.items()}
    for file in shown:
        columns = names.get(file.type, FILE_COLUMNS)
        own = _print_own(file.values, len(columns) - len(FILE_COLUMNS))
        yield columns, (file.name, str(file.size), file.md5, file.type, *own)


def _print_own(values: Sequence[str | None], count: int) -> list[str]:
    own = [NULL if value is None else value for value in values[:count]]
    return own + [NULL] * (count - len(own))


def text_of(names: tuple[str, ...], rows: Iterable[Printed]) -> str:
    """A short list; it begins with a header of `names`, unless its first row has another one."""
    rows = list(rows)
    longest = _longest(rows)
    return Writer(longest).text(rows) or header_line(names, _widths(names, longest))


def _longest(rows: Iterable[Printed]) -> list[int]:
    """The number of characters of the longest value in each column."""
    longest: list[int] = []
    for _, values in rows:
        longest += [0] * (len(values) - len(longest))
        for at, value in enumerate(values):
            longest[at] = max(longest[at], len(value))
    return longest


class Writer:
    """Writes rows in columns of the same widths throughout, with a header where they change.

    `longest`: the number of characters of the longest value in each column; a longer one that
    comes all the same takes the room it needs.
    """

    def __init__(self, longest: Sequence[int]) -> None:
        self._longest = longest
        self._names: tuple[str, ...] = ()
        self._widths: list[int] = []

    def text(self, rows: Iterable[Printed]) -> str:
        """The lines of `rows`, which follow those of the call before."""
        lines: list[str] = []
        for names, values in rows:
            if names is not self._names and names != self._names:
                self._names, self._widths = names, _widths(names, self._longest)
                lines.append(header_line(names, self._widths))
            lines.append(row_line(values, self._widths))
        return "".join(lines)


def _widths(names: Sequence[str], longest: Sequence[int]) -> list[int]:
    padded = (*longest, *(0,) * len(names))
    return [max(len(name), padded[at]) for at, name in enumerate((f"# {names[0]}", *names[1:]))]


def root_list(database: Database) -> Stream:
    """The root list: products are few, and all of them are in one body."""
    return whole(text_of(PRODUCT_COLUMNS, print_products(products(database))))


def fileset_list(database: Database, pool: Pool, product: Product, after: int) -> Stream:
    """The product's list beyond the fileset with id `after` (0: all of it).

    What it says is of the moment of this call, for which `database` is open; later ones borrow
    from `pool`. Its chunks raise Unavailable where something was withdrawn from it meanwhile.
    """
    first = filesets_after(database, product, after, PIECE + 1)
    if len(first) <= PIECE:
        names = FILESET_COLUMNS + product.columns
        return whole(text_of(names, print_filesets(product, first)))
    count, newest = measure_filesets(database, product, after)
    last = filesets(database, product, Window(descending=True, limit=1))

    def read(database: Database, last: int) -> _Piece:
        piece = filesets_after(database, product, last, PIECE, newest)
        return list(print_filesets(product, piece)), piece[-1].id if piece else last

    writer = Writer(_longest(print_filesets(product, first + last)))
    return Stream(TEXT, _pieces(product.name, pool, read, after, writer, count))


def file_list(database: Database, pool: Pool, product: Product, fileset: Fileset) -> Stream:
    """The fileset's list; of its moment and faults as in `fileset_list`."""
    types = type_columns(database)
    first = files_after(database, fileset, 0, PIECE + 1)
    shown = [entry.file for entry in first]
    if len(first) <= PIECE:
        return whole(text_of(FILE_COLUMNS, print_files(types, shown)))
    count, _ = measure_files(database, fileset)
    last = files(database, fileset, Window(descending=True, limit=1))

    def read(database: Database, last: int) -> _Piece:
        piece = files_after(database, fileset, last, PIECE)
        rows = print_files(types, (entry.file for entry in piece))
        return list(rows), piece[-1].id if piece else last

    writer = Writer(_longest(print_files(types, shown + last)))
    return Stream(TEXT, _pieces(f"{product.name}/{fileset.name}", pool, read, 0, writer, count))


def whole(text: str) -> Stream:
    """A list that is there already."""
    body = text.encode()
    etag = blake2b(body, digest_size=16).hexdigest()
    return Stream(TEXT, iter((body,)), len(body), f'"{etag}"')


_Piece = tuple[list[Printed], int]
_Read = Callable[[Database, int], _Piece]


def _pieces(
    name: str, pool: Pool, read: _Read, last: int, writer: Writer, count: int
) -> Iterator[bytes]:
    """Yield a list of `count` rows from the one after id `last` on."""
    sent = 0
    while sent < count:
        with pool.borrow() as database:
            rows, last = read(database, last)
        if not rows:
            raise Unavailable(
                f"the list of {name} broke off after {sent} of {count} rows: filesets were"
                " withdrawn while it was sent; to be read again"
            )
        yield writer.text(rows).encode()
        sent += len(rows)
