"""The catalogue's three pages: which rows a person wants to see, and what is told beside them."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import chain

from mirror.listing import (
    FILE_COLUMNS,
    FILESET_COLUMNS,
    PRODUCT_COLUMNS,
    read_files,
    read_filesets,
    read_products,
)
from server.catalogue import Fileset, Product
from server.contents import (
    Window,
    count_listed,
    count_products,
    files,
    filesets,
    measure_files,
    products,
    type_columns,
)
from server.database import Database
from server.views.answers import HTML, Stream
from server.views.lists import Printed, Types, print_files, print_filesets, print_products, text_of
from server.views.pages import page
from server.views.view import KEYS, PAGE, SORTED, Part, View, parse_view, settle, sortable_keys

_COLUMNS = (
    {"name": "prod_name", "recent": "last_fs", "time": "last_update"},
    {"name": "fileset_name", "time": "reg_time"},
    {"name": "file_name", "size": "bytes", "md5": "md5sum"},
)
"""What the fixed columns of the three lists are in SQL, where it is not their key."""

_INDEXED = frozenset({"name"})
"""The keys by which a product's list of any length can be sorted."""


def root_page(database: Database, query: str) -> Stream:
    """The page of the products."""
    keys = sortable_keys(0, ())
    total = count_products(database)
    view = settle(parse_view(query), total, keys)
    shown = print_products(products(database, _window(view, 0, {})))
    rows = list(read_products(_chunks(PRODUCT_COLUMNS, shown)))
    return _answer((), Part(view, rows, total, keys))


def product_page(database: Database, product: Product, query: str) -> Stream:
    """The page of a product's filesets."""
    total = count_listed(database, product)
    # Only what an index has in order costs the same for a million rows.
    keys = sortable_keys(1, product.columns) if total <= SORTED else _INDEXED
    view = settle(parse_view(query), total, keys)
    own = {label: at for at, label in enumerate(product.columns)}
    shown = filesets(database, product, _window(view, 1, own))
    chunks = _chunks(FILESET_COLUMNS + product.columns, print_filesets(product, shown))
    rows = list(read_filesets(chunks))
    about = f"{product.description} · {product.type}"
    return _answer((product.name,), Part(view, rows, total, keys, about=about))


def fileset_page(database: Database, product: Product, fileset: Fileset, query: str) -> Stream:
    """The page of a fileset's files."""
    types = type_columns(database)
    labels = sorted(set(chain(*types.values())))
    total, size = measure_files(database, fileset)
    keys = sortable_keys(2, labels) if total <= SORTED else _INDEXED
    view = settle(parse_view(query), total, keys)
    shown = files(database, fileset, _file_window(view, types))
    rows = list(read_files(_chunks(FILE_COLUMNS, print_files(types, shown))))
    about = f"{fileset.type} · registered {fileset.registered.replace('T', ' ').rstrip('Z')} UTC"
    return _answer((product.name, fileset.name), Part(view, rows, total, keys, size, about))


def _window(view: View, level: int, own: Mapping[str, int]) -> Window:
    """The window that a view shows; `own` are the numbers of the list's own columns by label."""
    column: str | int | None = None
    if view.key in KEYS[level]:
        column = _COLUMNS[level].get(view.key, view.key)
    elif view.key:
        column = own[view.key]
    return Window(column, view.descending, PAGE * (view.page - 1), PAGE)


def _file_window(view: View, types: Types) -> Window:
    """The window of a view of files, whose types have different columns."""
    places = {labels.index(view.key): kind for kind, labels in types.items() if view.key in labels}
    own = {view.key: min(places)} if places else {}
    window = _window(view, 2, own)
    if not isinstance(window.column, int):
        return window
    having = (kind for kind, labels in types.items() if view.key in labels[window.column :][:1])
    return replace(window, types=tuple(sorted(having)))


def _chunks(names: tuple[str, ...], shown: Iterable[Printed]) -> tuple[bytes]:
    return (text_of(names, shown).encode(),)


def _answer(names: tuple[str, ...], part: Part) -> Stream:
    body = page(names, part)
    return Stream(HTML, iter((body,)), len(body))
