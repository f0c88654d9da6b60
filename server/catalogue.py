"""Products, filesets and files in SQL: what is registered, in the order of registration.

A fileset's place in its product's list is its fileset_id. It is given under the lock of the
product's row, so that no reader ever sees a later fileset before an earlier one: a client that
asks for what came after the last one it knows misses nothing (PROTOCOL sections 1 and 4).
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from mirror.errors import LocalError
from server.database import Database, Row, connect
from server.schema import COLUMNS, migrate
from server.site import Place

Values = tuple[str | None, ...]
"""Values of a product's or a type's own columns, without those missing at the end."""


@dataclass(frozen=True, slots=True)
class Product:
    """A product. `updated` is UTC, `columns` the labels of its own columns."""

    id: int
    name: str
    updated: str
    last_fileset: str | None
    type: str
    description: str
    hidden: bool
    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NewFileset:
    """What is said of a fileset that is to be registered."""

    name: str
    type: str
    values: Values = ()
    hidden: bool = False


@dataclass(frozen=True, slots=True)
class Fileset:
    """A registered fileset; `registered` is UTC."""

    id: int
    name: str
    registered: str
    type: str
    hidden: bool
    values: Values


@dataclass(frozen=True, slots=True)
class NewFile:
    """A file of a fileset. `size` in bytes, `md5` in lower-case hexadecimal digits."""

    name: str
    size: int
    md5: str
    type: str
    values: Values = ()


@dataclass(frozen=True, slots=True)
class ListedFile:
    """A registered file and its place in the list."""

    id: int
    file: NewFile


def open_catalogue(place: Place, *, create: bool = False) -> Database:
    """Connect to the catalogue at `place`, its tables brought up to date.

    `create`: begin one that is not there. Raises what `connect` and `migrate` raise.
    """
    database = connect(place, create=create)
    try:
        migrate(database)
    except BaseException:
        database.close()
        raise
    return database


@contextmanager
def catalogue(place: Place, *, create: bool = False) -> Iterator[Database]:
    """`open_catalogue` for the length of a `with`."""
    database = open_catalogue(place, create=create)
    try:
        yield database
    finally:
        database.close()


def utc_now() -> str:
    """The present as lists print it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _own(prefix: str) -> str:
    return ", ".join(f"{prefix}_{number}" for number in range(COLUMNS))


PROD_COLS = _own("prod_col")
TYPE_COLS = _own("type_col")
_OWN_MARKS = ", ".join("?" * COLUMNS)

SELECT_PRODUCT = f"""
SELECT prod_id, prod_name, last_update, last_fs, type, description, hide, {PROD_COLS}
FROM dsProduct"""
SELECT_FILESET = f"""
SELECT fileset_id, fileset_name, reg_time, type, hide, {PROD_COLS}
FROM dsFileset"""
SELECT_FILE = f"""
SELECT file_id, file_name, bytes, md5sum, type, {TYPE_COLS}
FROM dsFile"""


def _padded(values: Sequence[str | None]) -> tuple[str | None, ...]:
    return (*values, *(None,) * (COLUMNS - len(values)))


def trimmed(values: Sequence[str | None]) -> Values:
    """Values without those missing at the end."""
    count = len(values)
    while count and values[count - 1] is None:
        count -= 1
    return tuple(values[:count])


def product_of(row: Row) -> Product:
    """The product in a row of SELECT_PRODUCT."""
    columns = tuple(str(label) for label in trimmed(row[7:]))
    return Product(row[0], row[1], row[2], row[3], row[4], row[5], bool(row[6]), columns)


def fileset_of(row: Row) -> Fileset:
    """The fileset in a row of SELECT_FILESET."""
    return Fileset(row[0], row[1], row[2], row[3], bool(row[4]), trimmed(row[5:]))


def file_of(row: Row) -> ListedFile:
    """The file in a row of SELECT_FILE."""
    return ListedFile(row[0], NewFile(row[1], row[2], row[3], row[4], trimmed(row[5:])))


# Products


def add_product(
    database: Database,
    name: str,
    kind: str,
    description: str,
    columns: Sequence[str] = (),
    *,
    hidden: bool = False,
) -> None:
    """Add an empty product. Raises Duplicate where there is one of this name, in any case."""
    with database.write():
        database.change(
            f"""INSERT INTO dsProduct
            (prod_name, last_update, type, description, hide, {PROD_COLS})
            VALUES (?, ?, ?, ?, ?, {_OWN_MARKS})""",
            name, utc_now(), kind, description, int(hidden), *_padded(columns),
        )  # fmt: skip


def change_product(
    database: Database, name: str, *, description: str | None = None, hidden: bool | None = None
) -> bool:
    """Change what is given of a product. Returns whether there is such a product."""
    hide = None if hidden is None else int(hidden)
    with database.write():
        touched = database.change(
            """UPDATE dsProduct SET description = coalesce(?, description),
            hide = coalesce(?, hide) WHERE prod_name = ?""",
            description, hide, name,
        )  # fmt: skip
    return touched == 1


def remove_product(database: Database, name: str) -> bool:
    """Remove a product with all its filesets. Returns whether there was one."""
    with database.write():
        _note_withdrawn(database, "prod_name = ?", name)
        touched = database.change("DELETE FROM dsProduct WHERE prod_name = ?", name)
    return touched == 1


def find_product(database: Database, name: str) -> Product | None:
    """The product of this name, hidden or not."""
    row = database.row(f"{SELECT_PRODUCT} WHERE prod_name = ?", name)
    return product_of(row) if row else None


def count_filesets(database: Database, product: Product) -> int:
    """How many filesets a product holds, hidden ones among them."""
    row = database.row("SELECT count(*) FROM dsFileset WHERE prod_id = ?", product.id)
    return int(row[0]) if row else 0


# Filesets


def add_fileset(
    database: Database, product: str, fileset: NewFileset, files: Sequence[NewFile]
) -> Fileset:
    """Register a fileset with its files: with the return it is visible, whole and durable.

    Raises Duplicate where the product holds a fileset of this name, in any case; LocalError where
    there is no such product.
    """
    with database.write():
        owner = _hold(database, product)
        if owner is None:
            raise LocalError(f"product {product}: no longer there; dsprodtool --add makes it")
        now = utc_now()
        values = _padded(fileset.values)
        row = database.row(
            f"""INSERT INTO dsFileset
            (prod_id, fileset_name, reg_time, hide, type, {PROD_COLS})
            VALUES (?, ?, ?, ?, ?, {_OWN_MARKS}) RETURNING fileset_id""",
            owner[0], fileset.name, now, int(fileset.hidden), fileset.type, *values,
        )  # fmt: skip
        assert row is not None
        _add_files(database, row[0], files)
        if not fileset.hidden:
            database.change(
                "UPDATE dsProduct SET last_fs = ?, last_update = ? WHERE prod_id = ?",
                fileset.name, now, owner[0],
            )  # fmt: skip
    return Fileset(row[0], fileset.name, now, fileset.type, fileset.hidden, fileset.values)


def _hold(database: Database, product: str) -> Row | None:
    """Hold the product's row to the end of the transaction: whoever comes next, waits.

    Returns its prod_id and last_fs, or None if there is no such product.
    """
    return database.row(
        "UPDATE dsProduct SET prod_name = prod_name WHERE prod_name = ? RETURNING prod_id, last_fs",
        product,
    )


def _add_files(database: Database, fileset: int, files: Sequence[NewFile]) -> None:
    database.change_many(
        f"""INSERT INTO dsFile (fileset_id, file_name, bytes, md5sum, type, {TYPE_COLS})
        VALUES (?, ?, ?, ?, ?, {_OWN_MARKS})""",
        (
            (fileset, file.name, file.size, file.md5, file.type, *_padded(file.values))
            for file in files
        ),
    )


def remove_fileset(database: Database, product: str, name: str) -> bool:
    """Remove a fileset; if it was the newest, the one before is the newest again.

    Returns whether there was one.
    """
    with database.write():
        owner = _hold(database, product)
        _note_withdrawn(database, "prod_name = ? AND fileset_name = ?", product, name)
        if owner is None or not database.change(
            "DELETE FROM dsFileset WHERE prod_id = ? AND fileset_name = ?", owner[0], name
        ):
            return False
        if owner[1] == name:
            _move_last_back(database, owner[0])
    return True


def _note_withdrawn(database: Database, where: str, *values: object) -> None:
    database.change(
        f"""INSERT INTO dsWithdrawn (prod_name, fileset_name, fileset_id)
        SELECT prod_name, fileset_name, fileset_id FROM dsFileset
        JOIN dsProduct ON dsProduct.prod_id = dsFileset.prod_id WHERE {where}
        ON CONFLICT (prod_name, fileset_name) DO NOTHING""",
        *values,
    )


def _move_last_back(database: Database, product: int) -> None:
    newest = database.row(
        """SELECT fileset_name, reg_time FROM dsFileset WHERE prod_id = ? AND hide = 0
        ORDER BY fileset_id DESC LIMIT 1""",
        product,
    )
    name, moment = newest or (None, utc_now())
    database.change(
        "UPDATE dsProduct SET last_fs = ?, last_update = ? WHERE prod_id = ?",
        name, moment, product,
    )  # fmt: skip


def find_fileset(database: Database, product: Product, name: str) -> Fileset | None:
    """The fileset of this name, hidden or not."""
    row = database.row(f"{SELECT_FILESET} WHERE prod_id = ? AND fileset_name = ?", product.id, name)
    return fileset_of(row) if row else None


def first_id(database: Database, product: Product, fileset: Fileset) -> int:
    """The id under which a fileset was registered first: beyond it is what followed.

    Registered again, a fileset has a place further behind; but whoever saw it at its first one
    has not seen what came in between.
    """
    row = database.row(
        "SELECT fileset_id FROM dsWithdrawn WHERE prod_name = ? AND fileset_name = ?",
        product.name, fileset.name,
    )  # fmt: skip
    return int(row[0]) if row else fileset.id


# Files


def find_file(database: Database, fileset: Fileset, name: str) -> NewFile | None:
    """The file of this name."""
    row = database.row(f"{SELECT_FILE} WHERE fileset_id = ? AND file_name = ?", fileset.id, name)
    return file_of(row).file if row else None
