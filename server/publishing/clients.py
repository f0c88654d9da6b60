"""Clients of publishing: who wants the detections of which stage, in which product (seed 000).

Their table is publishClient (PROTOCOL section 4). They start active; of inactive ones no run is
defined and none is pending.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from mirror.errors import ConfigError
from server.accepted import PRODUCT_TYPES, product_problems, text_problem
from server.catalogue import Product
from server.database import Database
from server.runs.resolve import file_resolve
from server.site import Roots
from server.store_lock import ConflictError

PUBLISHED = ("diff", "camera")
"""The stages whose runs are published."""

PRODUCT_COLUMNS = ("comment", "exposure")
"""The columns of a product that is made for a client; one that is there has any two or more."""


@dataclass(frozen=True, slots=True)
class NewClient:
    """What is said of a client; `workdir` as it was given, to be resolved when it is used."""

    product: str
    stage: str
    workdir: str
    comment: str | None = None
    name: str | None = None
    output_format: str | None = None


@dataclass(frozen=True, slots=True)
class Client:
    """A client in the database."""

    client_id: int
    active: bool
    asked: NewClient


@dataclass(frozen=True, slots=True)
class ClientQuery:
    """Which clients are meant: those that fit all that is given. `comment` is an SQL LIKE."""

    client_id: int | None = None
    stage: str | None = None
    product: str | None = None
    comment: str | None = None


def stage_problems(stage: str | None) -> list[str]:
    """What is wrong with a client's stage; None was not given."""
    if stage is None or stage in PUBLISHED:
        return []
    return [f"-stage: {' or '.join(PUBLISHED)} expected, not {stage!r}"]


def client_problems(client: NewClient, roots: Roots) -> list[str]:
    """What is wrong with a new client, and with its product, were it to be made.

    Its comment becomes a column of every fileset: the product's list has to hold it.
    """
    problems = stage_problems(client.stage)
    kind, description = product_type(client.product), product_description(client)
    problems += product_problems(client.product, kind, description, PRODUCT_COLUMNS)
    if client.comment is not None and (reason := text_problem(client.comment)):
        problems.append(f"-comment: {reason}")
    try:
        file_resolve(client.workdir, roots)
    except ConfigError as error:
        problems += [f"-workdir: {problem}" for problem in error.problems]
    return problems


def product_type(product: str) -> str:
    """The type of a product that is made for a client: its own name if that is one (seed 000).

    `IPP-MOPS` and `IPP-PSPS` also for names that begin so, for all others `ipp-misc`.
    """
    if product in PRODUCT_TYPES:
        return product
    return next((kind for kind in ("IPP-MOPS", "IPP-PSPS") if product.startswith(kind)), "ipp-misc")


def product_description(client: NewClient) -> str:
    """What people read of a product that is made for a client."""
    return f"detections published from {client.stage} runs"


def check_columns(there: Product) -> None:
    """Raises ConflictError where a product has no room for what its filesets' rows tell."""
    if len(there.columns) >= len(PRODUCT_COLUMNS):
        return
    labels = " ".join(f"--ps{place} {label}" for place, label in enumerate(PRODUCT_COLUMNS))
    raise ConflictError(
        f"product {there.name}: it has {len(there.columns)} columns of its own, but"
        f" {' and '.join(PRODUCT_COLUMNS)} of a published fileset need two; choose another product,"
        f" or make it anew with dsprodtool --add {there.name} … {labels}"
    )


_COLUMNS = "product, stage, workdir, comment, name, output_format"
_SELECT = f"SELECT client_id, active, {_COLUMNS} FROM publishClient"


def find_clients(database: Database, query: ClientQuery = ClientQuery()) -> list[Client]:
    """The clients that fit, active or not, in the order of their ids."""
    condition, values = _chosen(query)
    rows = database.rows(f"{_SELECT} WHERE 1 = 1{condition} ORDER BY client_id", *values)
    return [Client(row[0], bool(row[1]), NewClient(*row[2:])) for row in rows]


def add_client(database: Database, asked: NewClient) -> tuple[Client, bool]:
    """Add a client, active; returns it and whether it was added.

    One that is there just as asked for stays the only one: to publish everything twice in the same
    form nobody needs, and a command may be repeated.
    """
    with database.write():
        if database.kind == "postgres":
            database.change("LOCK TABLE publishClient IN SHARE ROW EXCLUSIVE MODE")
        same = ClientQuery(stage=asked.stage, product=asked.product)
        for client in find_clients(database, same):
            if client.asked == asked:
                return client, False
        row = database.row(
            f"INSERT INTO publishClient (active, {_COLUMNS}) VALUES (1, ?, ?, ?, ?, ?, ?)"
            " RETURNING client_id",
            asked.product, asked.stage, asked.workdir, asked.comment, asked.name,
            asked.output_format,
        )  # fmt: skip
    assert row is not None
    return Client(row[0], True, asked), True


def update_clients(database: Database, query: ClientQuery, *, active: bool) -> list[int]:
    """Make the clients that fit active or inactive; returns their ids, in order."""
    condition, values = _chosen(query)
    with database.write():
        chosen = database.rows(
            f"UPDATE publishClient SET active = ? WHERE 1 = 1{condition} RETURNING client_id",
            int(active), *values,
        )  # fmt: skip
    return sorted(row[0] for row in chosen)


def _chosen(query: ClientQuery) -> tuple[str, list[object]]:
    return restrict(
        ("client_id = ?", query.client_id),
        ("stage = ?", query.stage),
        ("product = ?", query.product),
        (like("comment"), query.comment),
    )


# Conditions


def like(column: str) -> str:
    r"""SQL for a column that matches a pattern in any case: `%`, `_`, and `\` before either.

    Without the words said here the databases disagree on case and on the escape.
    """
    return rf"lower({column}) LIKE lower(?) ESCAPE '\'"


def like_problems(option: str, pattern: str | None) -> list[str]:
    r"""What is wrong with a pattern: a `\` at its end stands before nothing."""
    if pattern is None or (len(pattern) - len(pattern.rstrip("\\"))) % 2 == 0:
        return []
    return [f"-{option}: a pattern that ends in the middle of an escape: {pattern!r}"]


def restrict(*pairs: tuple[str, object]) -> tuple[str, list[object]]:
    """SQL to be put behind a condition, ` AND …`, and its values.

    Each pair has a condition with one `?`, and its value: None, and an empty tuple, restrict
    nothing; of a tuple each value will do (`column IN (?)`).
    """
    sql = ""
    values: list[object] = []
    for condition, value in pairs:
        if value is None or value == ():
            continue
        several: Sequence[object] = value if isinstance(value, tuple) else (value,)
        sql += " AND " + condition.replace("?", ", ".join("?" * len(several)))
        values += several
    return sql, values
