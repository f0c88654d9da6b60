"""Whom finished runs are distributed to: targets, destinations, interests (PROTOCOL section 4).

A target says which runs (stage, dist_group, filter) go out, and whether whole or clean; a
destination is a site with a product in the Data Store; an interest joins the two. What is
disabled stays known: nothing is made for it as long as it is.
"""

from dataclasses import dataclass

from mirror.errors import ConfigError
from server.accepted import product_problems
from server.catalogue import Product, find_product
from server.database import Database, Duplicate, Row
from server.distribution.status_list import masked, read_source
from server.dsprodtool import ensure_product
from server.site import Site
from server.store_lock import ConflictError

ENABLED = "enabled"
STATES = (ENABLED, "disabled")
"""States of targets, destinations and interests."""

NO_URI = "none"
"""Instead of a status_uri: the destination reports no more."""

PRODUCT_TYPE = "ipp-dist"
PRODUCT_COLUMNS = ("target_id", "stage", "stage_id", "exp_name", "data_group", "filter")
"""The columns that a fileset of a distribution product has of its own, in this order."""


@dataclass(frozen=True, slots=True)
class Target:
    """Which runs go out. `filter` is matched as SQL LIKE; `clean`: without the large images."""

    target_id: int
    dist_group: str
    filter: str
    stage: str
    clean: bool
    state: str
    comment: str | None

    def line(self) -> str:
        """The target in one line."""
        kind = "clean" if self.clean else "full"
        return (
            f"target {self.target_id}: {self.stage}, filter {self.filter},"
            f" dist_group {self.dist_group}, {kind}, {self.state}"
        )


@dataclass(frozen=True, slots=True)
class Destination:
    """A site and its product. `status_uri`: the product in which it reports what it received."""

    dest_id: int
    name: str
    product: str
    status_uri: str | None
    last_fileset: str | None
    state: str
    comment: str | None

    def line(self) -> str:
        """The destination in one line."""
        status = f"status at {self.shown_uri()}" if self.status_uri else "no status_uri"
        return (
            f"destination {self.dest_id}: {self.name}, product {self.product}, {status},"
            f" {self.state}"
        )

    def shown_uri(self) -> str | None:
        """The status_uri as people may see it: without the credentials in it."""
        return self.status_uri and masked(self.status_uri)


@dataclass(frozen=True, slots=True)
class Interest:
    """A destination that wants what a target takes."""

    destination: Destination
    target: Target
    state: str

    def line(self) -> str:
        """The interest in one line."""
        return (
            f"interest: destination {self.destination.dest_id} ({self.destination.name}) in"
            f" target {self.target.target_id} ({self.target.stage}), {self.state}"
        )


_TARGET = "t.target_id, t.dist_group, t.filter, t.stage, t.clean, t.state, t.comment"
_DESTINATION = "d.dest_id, d.name, d.product, d.status_uri, d.last_fileset, d.state, d.comment"


def _target(row: Row) -> Target:
    return Target(*(*row[:4], bool(row[4]), *row[5:]))


# Targets


def define_target(
    database: Database,
    dist_group: str,
    filter: str,
    stage: str,
    *,
    clean: bool,
    state: str,
    comment: str | None,
) -> Target:
    """Add a target. Raises ConflictError, which names it, where the same one is there already."""
    key = (dist_group, filter, stage, int(clean))
    try:
        with database.write():
            row = database.row(
                """INSERT INTO distTarget (dist_group, filter, stage, clean, state, comment)
                VALUES (?, ?, ?, ?, ?, ?) RETURNING target_id""",
                *key, state, comment,
            )  # fmt: skip
    except Duplicate:
        same = database.row(
            f"""SELECT {_TARGET} FROM distTarget t
            WHERE dist_group = ? AND filter = ? AND stage = ? AND clean = ?""",
            *key,
        )
        told = _target(same).line() if same else "target"
        raise ConflictError(
            f"{told}: there already; disttool -updatetarget changes its state"
        ) from None
    assert row is not None
    return Target(row[0], dist_group, filter, stage, clean, state, comment)


def find_target(database: Database, target_id: int) -> Target:
    """The target with this id. Raises ConflictError where there is none."""
    row = database.row(f"SELECT {_TARGET} FROM distTarget t WHERE target_id = ?", target_id)
    if row is None:
        raise ConflictError(
            f"target {target_id}: there is none with this id; disttool -listtargets shows them"
        )
    return _target(row)


def list_targets(database: Database) -> list[Target]:
    """Every target, by its id."""
    rows = database.rows(f"SELECT {_TARGET} FROM distTarget t ORDER BY target_id")
    return [_target(row) for row in rows]


def update_target(database: Database, target_id: int, state: str) -> Target:
    """Enable or disable a target. Raises ConflictError where there is none with this id."""
    with database.write():
        database.change("UPDATE distTarget SET state = ? WHERE target_id = ?", state, target_id)
        return find_target(database, target_id)


# Destinations


def check_status_uri(uri: str) -> list[str]:
    """What is wrong with the address of a status product; nothing if it can be read."""
    try:
        read_source(uri)
    except ConfigError as error:
        return error.problems
    return []


def check_product(database: Database, name: str, description: str) -> list[str]:
    """What is wrong with a product that a destination is to have, whether it is there or not."""
    there = find_product(database, name)
    if there is None:
        return product_problems(name, PRODUCT_TYPE, description, PRODUCT_COLUMNS)
    reason = _unfit(there)
    return [reason] if reason else []


def _unfit(product: Product) -> str | None:
    if product.columns[: len(PRODUCT_COLUMNS)] == PRODUCT_COLUMNS:
        return None
    shown = ", ".join(product.columns) or "none"
    return (
        f"product {product.name}: it is there with the columns {shown}; a distribution product"
        f" begins with {', '.join(PRODUCT_COLUMNS)}: name another -product, and it will be made"
    )


def _refuse_unfit(product: Product) -> None:
    if reason := _unfit(product):
        raise ConflictError(reason)


def define_destination(
    site: Site,
    database: Database,
    name: str,
    product: str,
    *,
    status_uri: str | None,
    state: str,
    comment: str | None,
) -> tuple[Destination, bool]:
    """Add a destination, and its product to the Data Store where that is not there.

    Returns it, and whether the product was made. Raises ConfigError for a product or status_uri
    that cannot be, ConflictError for a name that is taken or a product of other columns.
    """
    description = comment or f"distribution to {name}"
    problems = check_product(database, product, description)
    if status_uri is not None:
        problems += check_status_uri(status_uri)
    if problems:
        raise ConfigError(problems)
    _refuse_taken(database, name)
    # The product first: a destination without one could receive nothing, and interrupted here the
    # same call goes on where it stopped.
    made = ensure_product(
        site, database, product, PRODUCT_TYPE, description, PRODUCT_COLUMNS, _refuse_unfit
    )
    try:
        with database.write():
            row = database.row(
                """INSERT INTO rcDestination (name, product, status_uri, state, comment)
                VALUES (?, ?, ?, ?, ?) RETURNING dest_id""",
                name, product, status_uri, state, comment,
            )  # fmt: skip
    except Duplicate:
        _refuse_taken(database, name)
        raise
    assert row is not None
    return Destination(row[0], name, product, status_uri, None, state, comment), made


def _refuse_taken(database: Database, name: str) -> None:
    row = database.row(f"SELECT {_DESTINATION} FROM rcDestination d WHERE name = ?", name)
    if row:
        raise ConflictError(
            f"{Destination(*row).line()}: there already; name another one, or change it with"
            " disttool -updatedestination"
        )


def find_destination(database: Database, dest_id: int | None, name: str | None) -> Destination:
    """The destination with this id, or name, or both. Raises ConflictError where there is none."""
    where = {"dest_id": dest_id, "name": name}
    given = {column: value for column, value in where.items() if value is not None}
    row = database.row(
        f"SELECT {_DESTINATION} FROM rcDestination d"
        f" WHERE {' AND '.join(f'{column} = ?' for column in given)}",
        *given.values(),
    )
    if row is None:
        told = " ".join(str(value) for value in given.values())
        raise ConflictError(
            f"destination {told}: there is none; disttool -listdestinations shows them"
        )
    return Destination(*row)


def list_destinations(database: Database) -> list[Destination]:
    """Every destination, by its id."""
    rows = database.rows(f"SELECT {_DESTINATION} FROM rcDestination d ORDER BY dest_id")
    return [Destination(*row) for row in rows]


def update_destination(
    database: Database,
    dest_id: int | None,
    name: str | None,
    *,
    state: str | None,
    status_uri: str | None,
    comment: str | None,
) -> Destination:
    """Change what is given of a destination; a status_uri `none` is taken back.

    Raises ConfigError for a status_uri that cannot be, ConflictError where there is none.
    """
    if status_uri not in (None, NO_URI) and (problems := check_status_uri(status_uri)):
        raise ConfigError(problems)
    with database.write():
        found = find_destination(database, dest_id, name)
        database.change(
            """UPDATE rcDestination SET state = coalesce(?, state),
            status_uri = nullif(coalesce(?, status_uri), ?), comment = coalesce(?, comment)
            WHERE dest_id = ?""",
            state, status_uri, NO_URI, comment, found.dest_id,
        )  # fmt: skip
        return find_destination(database, found.dest_id, None)


# Interests


def define_interest(
    database: Database, dest_id: int | None, name: str | None, target_id: int, state: str
) -> Interest:
    """Let a destination have what a target takes.

    Raises ConflictError where either is unknown, or the interest is there already.
    """
    destination = find_destination(database, dest_id, name)
    made = Interest(destination, find_target(database, target_id), state)
    try:
        with database.write():
            database.change(
                "INSERT INTO rcInterest (dest_id, target_id, state) VALUES (?, ?, ?)",
                destination.dest_id, target_id, state,
            )  # fmt: skip
    except Duplicate:
        raise ConflictError(
            f"{_find_interest(database, made).line()}: there already; disttool -updateinterest"
            " changes its state"
        ) from None
    return made


def update_interest(
    database: Database, dest_id: int | None, name: str | None, target_id: int, state: str
) -> Interest:
    """Enable or disable an interest. Raises ConflictError where there is none."""
    destination = find_destination(database, dest_id, name)
    changed = Interest(destination, find_target(database, target_id), state)
    with database.write():
        _find_interest(database, changed)
        database.change(
            "UPDATE rcInterest SET state = ? WHERE dest_id = ? AND target_id = ?",
            state, destination.dest_id, target_id,
        )  # fmt: skip
    return changed


def _find_interest(database: Database, wanted: Interest) -> Interest:
    destination, target = wanted.destination, wanted.target
    row = database.row(
        "SELECT state FROM rcInterest WHERE dest_id = ? AND target_id = ?",
        destination.dest_id, target.target_id,
    )  # fmt: skip
    if row is None:
        raise ConflictError(
            f"destination {destination.dest_id} ({destination.name}): no interest in target"
            f" {target.target_id}; disttool -defineinterest makes it"
        )
    return Interest(destination, target, row[0])


def list_interests(database: Database) -> list[Interest]:
    """Every interest, by destination and target."""
    rows = database.rows(
        f"""SELECT {_DESTINATION}, {_TARGET}, i.state FROM rcInterest i
        JOIN rcDestination d ON d.dest_id = i.dest_id
        JOIN distTarget t ON t.target_id = i.target_id ORDER BY i.dest_id, i.target_id"""
    )
    return [Interest(Destination(*row[:7]), _target(row[7:14]), row[14]) for row in rows]
