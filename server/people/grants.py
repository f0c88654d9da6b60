"""Who may have what of a product, in SQL: users with their passwords, grants, networks.

A product without grants and without networks is everybody's. Whoever takes away the last grant
or the last network of a product therefore opens it, and is refused unless that is meant.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from mirror.errors import ConfigError
from mirror.listing import check_name
from server.catalogue import Product, find_product
from server.database import Database

USER_NAME = re.compile(r"[A-Za-z0-9_.@-]{1,64}")
"""What a user can be called; no colon, which ends a name in HTTP (RFC 7617)."""

_SHOWN = 20
"""How many of the known names a message tells."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What decides whether a visitor may have a product.

    `networks`: those of which the address must lie in one, if there are any. `by_user`: only users
    may have it. `password` is what is stored of the asked user's, None for an unknown one, and
    `granted` says whether the product is theirs.
    """

    product: str
    networks: tuple[str, ...] = ()
    by_user: bool = False
    password: str | None = None
    granted: bool = False


@dataclass(frozen=True, slots=True)
class Saved:
    """What became of a user: whether it is new, and the products it did not have before."""

    new: bool
    granted: tuple[str, ...]


# What a request asks


def rules_of(database: Database, product: Product, user: str | None) -> Rules:
    """The rules of a product, for a visitor that says to be `user` (None: says nothing).

    One query for a product that is everybody's, at most three for any other.
    """
    kinds = database.row(
        """SELECT EXISTS (SELECT 1 FROM dsNetwork WHERE prod_id = ?),
        EXISTS (SELECT 1 FROM dsGrant WHERE prod_id = ?)""",
        product.id, product.id,
    )  # fmt: skip
    assert kinds is not None
    by_network, by_user = map(bool, kinds)
    networks = _networks_of(database, product.id) if by_network else ()
    password, granted = None, False
    if by_user and user is not None:
        password, granted = _standing(database, product.id, user)
    return Rules(product.name, networks, by_user, password, granted)


def _networks_of(database: Database, product: int) -> tuple[str, ...]:
    rows = database.rows("SELECT network FROM dsNetwork WHERE prod_id = ?", product)
    return tuple(row[0] for row in rows)


def _standing(database: Database, product: int, user: str) -> tuple[str | None, bool]:
    """What is stored of a user's password, and whether it has a grant for the product."""
    row = database.row(
        """SELECT password, EXISTS (SELECT 1 FROM dsGrant
            WHERE dsGrant.prod_id = ? AND dsGrant.user_name = dsUser.user_name)
        FROM dsUser WHERE user_name = ?""",
        product, user,
    )  # fmt: skip
    return (row[0], bool(row[1])) if row else (None, False)


def count_restrictions(database: Database, product: Product) -> tuple[int, int]:
    """How many users and how many networks a product is restricted to."""
    row = database.row(
        """SELECT (SELECT count(*) FROM dsGrant WHERE prod_id = ?),
        (SELECT count(*) FROM dsNetwork WHERE prod_id = ?)""",
        product.id, product.id,
    )  # fmt: skip
    assert row is not None
    return int(row[0]), int(row[1])


# Users


def has_user(database: Database, name: str) -> bool:
    """Say whether there is a user of this name."""
    return database.row("SELECT 1 FROM dsUser WHERE user_name = ?", name) is not None


def check_user(database: Database, name: str) -> None:
    """Raises ConfigError, with the known names, where there is no such user."""
    if has_user(database, name):
        return
    rows = database.rows("SELECT user_name FROM dsUser ORDER BY user_name LIMIT ?", _SHOWN + 1)
    raise ConfigError([f"no user {name!r}; {_known(row[0] for row in rows)}"])


def product_named(database: Database, name: str) -> Product:
    """The product of this name. Raises ConfigError, with the known names, where there is none."""
    # A name from a command line need not even be text that a database takes.
    product = None if check_name(name) else find_product(database, name)
    if product:
        return product
    rows = database.rows("SELECT prod_name FROM dsProduct ORDER BY prod_id LIMIT ?", _SHOWN + 1)
    raise ConfigError([f"no product {name!r}; {_known(row[0] for row in rows)}"])


def _known(names: Iterable[str]) -> str:
    told = list(names)
    if len(told) > _SHOWN:
        told[_SHOWN:] = ["and more"]
    return f"known are: {', '.join(told)}" if told else "there are none yet"


def users(database: Database, product: Product | None = None) -> dict[str, list[str]]:
    """The products of each user; only of those that may have `product`, if it is given."""
    chosen, values = "", []
    if product:
        chosen = "WHERE dsUser.user_name IN (SELECT user_name FROM dsGrant WHERE prod_id = ?)"
        values = [product.id]
    rows = database.rows(
        f"""SELECT dsUser.user_name, prod_name FROM dsUser
        LEFT JOIN dsGrant ON dsGrant.user_name = dsUser.user_name
        LEFT JOIN dsProduct ON dsProduct.prod_id = dsGrant.prod_id {chosen}
        ORDER BY dsUser.user_name, dsProduct.prod_id""",
        *values,
    )
    found: dict[str, list[str]] = {}
    for name, granted in rows:
        found.setdefault(name, []).extend([granted] if granted else [])
    return found


def save_user(
    database: Database, name: str, password: str | None, products: Sequence[str]
) -> Saved:
    """Grant products to a user, new or not. `password`: a hash to store, None keeps what is there.

    Raises ConfigError for an unknown product, or an unknown user without a password.
    """
    with _alone(database):
        owners = [product_named(database, product) for product in dict.fromkeys(products)]
        new = not has_user(database, name)
        if password is None:
            check_user(database, name)
        elif new:
            database.change(
                "INSERT INTO dsUser (user_name, password) VALUES (?, ?)", name, password
            )
        else:
            _store_password(database, name, password)
        granted = tuple(owner.name for owner in owners if _grant(database, owner, name))
    return Saved(new, granted)


def _grant(database: Database, product: Product, user: str) -> bool:
    touched = database.change(
        "INSERT INTO dsGrant (prod_id, user_name) VALUES (?, ?) ON CONFLICT DO NOTHING",
        product.id, user,
    )  # fmt: skip
    return touched == 1


def set_password(database: Database, name: str, password: str) -> None:
    """Store another hash for a user. Raises ConfigError where there is no such user."""
    with _alone(database):
        check_user(database, name)
        _store_password(database, name, password)


def _store_password(database: Database, name: str, password: str) -> None:
    database.change("UPDATE dsUser SET password = ? WHERE user_name = ?", password, name)


def revoke(
    database: Database, name: str, products: Sequence[str], *, may_open: bool = False
) -> list[str]:
    """Take products from a user. Returns those that have no users any more.

    Raises ConfigError for an unknown user or product, one that was not granted, and for any that
    this would open unless `may_open`; then nothing is changed.
    """
    with _alone(database):
        check_user(database, name)
        owners = [product_named(database, product) for product in dict.fromkeys(products)]
        problems = [
            f"user {name} has no grant for {owner.name}"
            for owner in owners
            if not database.change(
                "DELETE FROM dsGrant WHERE prod_id = ? AND user_name = ?", owner.id, name
            )
        ]
        if problems:
            raise ConfigError(problems)
        return _opened(database, owners, f"user {name}", "dsGrant", may_open=may_open)


def remove_user(
    database: Database, name: str, *, may_open: bool = False
) -> tuple[list[str], list[str]]:
    """Remove a user with all its grants. Returns those, and of them what has no users any more.

    Raises ConfigError for an unknown user, and where this would open a product unless `may_open`.
    """
    with _alone(database):
        check_user(database, name)
        rows = database.rows(
            """SELECT prod_name FROM dsProduct WHERE prod_id IN
            (SELECT prod_id FROM dsGrant WHERE user_name = ?) ORDER BY prod_id""",
            name,
        )
        owners = [product_named(database, row[0]) for row in rows]
        database.change("DELETE FROM dsUser WHERE user_name = ?", name)
        opened = _opened(database, owners, f"user {name}", "dsGrant", may_open=may_open)
    return [owner.name for owner in owners], opened


# Networks


def networks(database: Database, product: Product | None = None) -> list[tuple[str, str]]:
    """Product and network of each entry, or of those of one product."""
    chosen, values = ("WHERE dsProduct.prod_id = ?", [product.id]) if product else ("", [])
    rows = database.rows(
        f"""SELECT prod_name, network FROM dsNetwork
        JOIN dsProduct ON dsProduct.prod_id = dsNetwork.prod_id {chosen}
        ORDER BY dsProduct.prod_id, network""",
        *values,
    )
    return [(row[0], row[1]) for row in rows]


def add_network(database: Database, product: str, network: str) -> bool:
    """Let a network have a product. Returns whether that is new.

    Raises ConfigError for an unknown product.
    """
    with _alone(database):
        touched = database.change(
            "INSERT INTO dsNetwork (prod_id, network) VALUES (?, ?) ON CONFLICT DO NOTHING",
            product_named(database, product).id, network,
        )  # fmt: skip
    return touched == 1


def remove_network(
    database: Database, product: str, network: str, *, may_open: bool = False
) -> bool:
    """Take a product from a network. Returns whether the product has no network any more.

    Raises ConfigError for an unknown product, one that has no such network, and for one that this
    would open unless `may_open`.
    """
    with _alone(database):
        owner = product_named(database, product)
        if not database.change(
            "DELETE FROM dsNetwork WHERE prod_id = ? AND network = ?", owner.id, network
        ):
            known = _known(_networks_of(database, owner.id))
            raise ConfigError([f"product {product} has no network {network}; {known}"])
        what = f"network {network}"
        return bool(_opened(database, [owner], what, "dsNetwork", may_open=may_open))


@contextmanager
def _alone(database: Database) -> Iterator[None]:
    """A transaction that changes who may have what, one at a time.

    Two that take away the last two grants of a product would else both see the other's.
    """
    with database.write():
        # Held to the end by whoever changes anything here; in both databases a row will do.
        database.change("UPDATE dsVersion SET version = version")
        yield


def _opened(
    database: Database, owners: Sequence[Product], what: str, table: str, *, may_open: bool
) -> list[str]:
    """Those of `owners` that have nothing left in `table`. Raises ConfigError unless `may_open`."""
    opened = [owner for owner in owners if not _has_any(database, table, owner)]
    if opened and not may_open:
        raise ConfigError(
            [
                f"nothing was changed: {what} is the last one that {owner.name} is restricted to;"
                f" without it {_who(database, table, owner)} may have it: give --open if that is"
                " meant"
                for owner in opened
            ]
        )
    return [owner.name for owner in opened]


def _who(database: Database, table: str, product: Product) -> str:
    """Who may have a product that has nothing left in `table`."""
    if table == "dsGrant":
        return "everybody" + (" in its networks" * _has_any(database, "dsNetwork", product))
    return "its users, from anywhere," if _has_any(database, "dsGrant", product) else "everybody"


def _has_any(database: Database, table: str, product: Product) -> bool:
    return bool(database.row(f"SELECT 1 FROM {table} WHERE prod_id = ? LIMIT 1", product.id))
