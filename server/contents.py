"""What the catalogue lists, in pieces of bounded size.

Lists grow without bound, so nothing here reads one whole: what goes out as `index.txt` is taken
piece by piece from the last id that was seen, which costs the same at the end of a list as at its
beginning; what people look at is one window of it, in whatever order they like.
"""

from dataclasses import dataclass

from server.catalogue import (
    SELECT_FILE,
    SELECT_FILESET,
    SELECT_PRODUCT,
    TYPE_COLS,
    Fileset,
    ListedFile,
    NewFile,
    Product,
    file_of,
    fileset_of,
    product_of,
    trimmed,
)
from server.database import Database, Row


@dataclass(frozen=True, slots=True)
class Window:
    """A part of a list for people: by which column, from where, how many; None: all of it.

    `column` is one of the fixed columns' names in SQL, or a number for a column of its own. Of
    files, such a column belongs to the types in `types` only: the others have no value in it.
    """

    column: str | int | None = None
    descending: bool = False
    offset: int = 0
    limit: int | None = None
    types: tuple[str, ...] = ()


EVERYTHING = Window()

NEWEST = 2**63 - 1
"""An id beyond all that are given."""


def products(database: Database, window: Window = EVERYTHING) -> list[Product]:
    """The products that are not hidden, in the order in which they were added."""
    rows = _cut(database, SELECT_PRODUCT, "hide = 0", (), window)
    return [product_of(row) for row in rows]


def count_products(database: Database) -> int:
    """How many products the root list shows."""
    row = database.row("SELECT count(*) FROM dsProduct WHERE hide = 0")
    return int(row[0]) if row else 0


# Both say the same. PostgreSQL would take the first for a way through the newer filesets of all
# products, expecting to meet enough of this one soon; compared as one, the three columns can only
# be found by their common index. SQLite uses no more than two of them when compared so.
_BEYOND = {
    "sqlite": "prod_id = ? AND hide = 0 AND fileset_id > ? AND prod_id = ? AND fileset_id <= ?"
    " ORDER BY fileset_id",
    "postgres": "(prod_id, hide, fileset_id) > (?, 0, ?)"
    " AND (prod_id, hide, fileset_id) <= (?, 0, ?) ORDER BY prod_id, hide, fileset_id",
}


def filesets_after(
    database: Database, product: Product, after: int, limit: int, until: int = NEWEST
) -> list[Fileset]:
    """At most `limit` filesets of the product's list, the first with ids beyond `after`.

    None has an id beyond `until`.
    """
    rows = database.rows(
        f"{SELECT_FILESET} WHERE {_BEYOND[database.kind]} LIMIT ?",
        product.id, after, product.id, until, limit,
    )  # fmt: skip
    return [fileset_of(row) for row in rows]


def filesets(database: Database, product: Product, window: Window) -> list[Fileset]:
    """A part of the product's list, for people."""
    rows = _cut(database, SELECT_FILESET, "prod_id = ? AND hide = 0", (product.id,), window)
    return [fileset_of(row) for row in rows]


def count_listed(database: Database, product: Product) -> int:
    """How many filesets the product's list shows."""
    row = database.row("SELECT count(*) FROM dsFileset WHERE prod_id = ? AND hide = 0", product.id)
    return int(row[0]) if row else 0


def measure_filesets(database: Database, product: Product, after: int) -> tuple[int, int]:
    """How many filesets the product's list has beyond id `after`, and the id of the last one."""
    row = database.row(
        "SELECT count(*), max(fileset_id) FROM dsFileset"
        " WHERE prod_id = ? AND hide = 0 AND fileset_id > ?",
        product.id, after,
    )  # fmt: skip
    return (int(row[0]), int(row[1] or 0)) if row else (0, 0)


def files_after(database: Database, fileset: Fileset, after: int, limit: int) -> list[ListedFile]:
    """At most `limit` files of the fileset's list, from the first one beyond id `after`."""
    rows = database.rows(
        f"{SELECT_FILE} WHERE fileset_id = ? AND file_id > ? ORDER BY file_id LIMIT ?",
        fileset.id, after, limit,
    )  # fmt: skip
    return [file_of(row) for row in rows]


def files(database: Database, fileset: Fileset, window: Window) -> list[NewFile]:
    """A part of the fileset's list, for people."""
    rows = _cut(database, SELECT_FILE, "fileset_id = ?", (fileset.id,), window)
    return [file_of(row).file for row in rows]


def measure_files(database: Database, fileset: Fileset) -> tuple[int, int]:
    """How many files a fileset has, and how many bytes they are together."""
    row = database.row(
        "SELECT count(*), coalesce(sum(bytes), 0) FROM dsFile WHERE fileset_id = ?", fileset.id
    )
    return (int(row[0]), int(row[1])) if row else (0, 0)


def type_columns(database: Database) -> dict[str, tuple[str, ...]]:
    """The labels of the own columns of each file type that has any."""
    rows = database.rows(f"SELECT type, {TYPE_COLS} FROM dsFileType WHERE type_col_0 IS NOT NULL")
    return {row[0]: tuple(str(label) for label in trimmed(row[1:])) for row in rows}


_TABLES = {
    SELECT_PRODUCT: ("dsProduct", "prod_id", "prod_col"),
    SELECT_FILESET: ("dsFileset", "fileset_id", "prod_col"),
    SELECT_FILE: ("dsFile", "file_id", "type_col"),
}

# In the order of bytes, whatever the database's own language is.
_COLLATION = {"sqlite": "BINARY", "postgres": '"C"'}


def _cut(
    database: Database, select: str, where: str, values: tuple[object, ...], window: Window
) -> list[Row]:
    """The rows of `select` that are in a window of those that `where` finds."""
    table, key, own = _TABLES[select]
    order, chosen = _order(window, key, own, _COLLATION[database.kind])
    if window.limit is None:
        return database.rows(f"{select} WHERE {where} ORDER BY {order}", *values, *chosen)
    # Only what is sorted by goes through the sorting, not the whole width of a million rows.
    return database.rows(
        f"{select} WHERE {key} IN (SELECT {key} FROM {table} WHERE {where} ORDER BY {order}"
        f" LIMIT ? OFFSET ?) ORDER BY {order}",
        *values, *chosen, window.limit, window.offset, *chosen,
    )  # fmt: skip


def _order(window: Window, key: str, own: str, collation: str) -> tuple[str, tuple[str, ...]]:
    """What follows ORDER BY for a window, and its values.

    Rows without a value come last in either direction. Of a list's own columns, which are texts,
    whole numbers come first and by their value.
    """
    down = "DESC" if window.descending else "ASC"
    column = window.column
    if column is None:
        return f"{key} {down}", ()
    if column == "bytes":
        return f"bytes {down}, {key} {down}", ()
    if isinstance(column, str):
        return f"{column} COLLATE {collation} {down} NULLS LAST, {key} {down}", ()
    text, types = f"{own}_{column}", window.types
    if types:
        text = f"CASE WHEN type IN ({', '.join('?' * len(types))}) THEN {text} END"
    by = (
        f"CASE WHEN {text} IS NULL THEN 1 ELSE 0 END",
        f"CASE WHEN ltrim({text}, '0123456789') = '' THEN length({text}) ELSE 1000 END {down}",
        f"({text}) COLLATE {collation} {down}",
        f"{key} {down}",
    )
    return ", ".join(by), types * 4
