"""What the catalogue lists, in pieces of bounded size.

Lists grow without bound, so nothing here reads one whole: what goes out as `index.txt` is taken
piece by piece from the last id that was seen, which costs the same at the end of a list as at its
beginning; what people look at is one window of it, in whatever order they like.
"""

from dataclasses import dataclass

from server.catalogue import (
    PROD_COLS,
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
from server.database import Database


@dataclass(frozen=True, slots=True)
class Window:
    """A part of a list for people: by which column, from where, how many; None: all of it.

    `column` is one of the fixed columns' names in SQL, or a number for a column of its own.
    """

    column: str | int | None = None
    descending: bool = False
    offset: int = 0
    limit: int | None = None


EVERYTHING = Window()


def products(database: Database, window: Window = EVERYTHING) -> list[Product]:
    """The products that are not hidden, in the order in which they were added."""
    order, values = _order(window, "prod_id", "prod_col")
    rows = database.rows(f"{SELECT_PRODUCT} WHERE hide = 0 {order}", *values)
    return [product_of(row) for row in rows]


def count_products(database: Database) -> int:
    """How many products the root list shows."""
    row = database.row("SELECT count(*) FROM dsProduct WHERE hide = 0")
    return int(row[0]) if row else 0


def filesets_after(database: Database, product: Product, after: int, limit: int) -> list[Fileset]:
    """At most `limit` filesets of the product's list, from the first one beyond id `after`."""
    rows = database.rows(
        f"{SELECT_FILESET} WHERE prod_id = ? AND hide = 0 AND fileset_id > ?"
        " ORDER BY fileset_id LIMIT ?",
        product.id, after, limit,
    )  # fmt: skip
    return [fileset_of(row) for row in rows]


def filesets(database: Database, product: Product, window: Window) -> list[Fileset]:
    """A part of the product's list, for people."""
    order, values = _order(window, "fileset_id", "prod_col")
    rows = database.rows(
        f"{SELECT_FILESET} WHERE prod_id = ? AND hide = 0 {order}", product.id, *values
    )
    return [fileset_of(row) for row in rows]


def fileset_shape(database: Database, product: Product, after: int) -> tuple[int, list[int]]:
    """How many filesets the list has beyond id `after`, and the longest text in each column.

    The columns are name, time, type, then the product's own.
    """
    longest = ", ".join(
        f"coalesce(max(length({column})), 0)"
        for column in ("fileset_name", "reg_time", "type", *PROD_COLS.split(", "))
    )
    row = database.row(
        f"SELECT count(*), {longest} FROM dsFileset"
        " WHERE prod_id = ? AND hide = 0 AND fileset_id > ?",
        product.id, after,
    )  # fmt: skip
    assert row is not None
    return row[0], list(row[1:])


def count_listed(database: Database, product: Product) -> int:
    """How many filesets the product's list shows."""
    row = database.row("SELECT count(*) FROM dsFileset WHERE prod_id = ? AND hide = 0", product.id)
    return int(row[0]) if row else 0


def files_after(database: Database, fileset: Fileset, after: int, limit: int) -> list[ListedFile]:
    """At most `limit` files of the fileset's list, from the first one beyond id `after`."""
    rows = database.rows(
        f"{SELECT_FILE} WHERE fileset_id = ? AND file_id > ? ORDER BY file_id LIMIT ?",
        fileset.id, after, limit,
    )  # fmt: skip
    return [file_of(row) for row in rows]


def files(database: Database, fileset: Fileset, window: Window) -> list[NewFile]:
    """A part of the fileset's list, for people."""
    order, values = _order(window, "file_id", "type_col")
    rows = database.rows(f"{SELECT_FILE} WHERE fileset_id = ? {order}", fileset.id, *values)
    return [file_of(row).file for row in rows]


def file_shape(database: Database, fileset: Fileset) -> tuple[int, list[int]]:
    """How many files a fileset has, and the longest text in each column.

    The columns are name, bytes, md5 sum, type, then the types' own.
    """
    longest = ", ".join(
        f"coalesce(max(length({column})), 0)"
        for column in (
            "file_name", "CAST(bytes AS TEXT)", "md5sum", "type", *TYPE_COLS.split(", ")
        )
    )  # fmt: skip
    row = database.row(f"SELECT count(*), {longest} FROM dsFile WHERE fileset_id = ?", fileset.id)
    assert row is not None
    return row[0], list(row[1:])


def type_columns(database: Database) -> dict[str, tuple[str, ...]]:
    """The labels of each file type's own columns."""
    rows = database.rows(f"SELECT type, {TYPE_COLS} FROM dsFileType")
    return {row[0]: tuple(str(label) for label in trimmed(row[1:])) for row in rows}


def _order(window: Window, key: str, own: str) -> tuple[str, list[object]]:
    """The end of a query that asks for a window, and its values."""
    down = "DESC" if window.descending else "ASC"
    column = window.column
    if isinstance(column, int):
        column = f"{own}_{column}"
    by = f"{column} {down}, {key} {down}" if column and column != key else f"{key} {down}"
    if window.limit is None:
        return f"ORDER BY {by}", []
    return f"ORDER BY {by} LIMIT ? OFFSET ?", [window.limit, window.offset]
