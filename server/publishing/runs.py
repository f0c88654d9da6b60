"""Publish runs: one finished run of the pipeline for one client, and the attempts at it (seed 000).

A run is `new` until an attempt ends without a fault, then `full`. New and without an attempt it is
pending; one whose attempt failed waits until that is reverted (PROTOCOL section 4). The tables are
publishRun and publishDone. How runs come to be is in `server.publishing.define`.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from server.catalogue import utc_now
from server.database import Database, Row
from server.publishing.clients import like, restrict
from server.publishing.inputs import fileset_name
from server.runs.facts import Cache, facts_of
from server.runs.stages import STAGES
from server.store_lock import ConflictError

STATES = ("new", "full")
"""The states of a publish run."""

_BATCH = 500
"""Rows that one statement names: both databases take as many values, and none takes long."""

_Item = TypeVar("_Item")


@dataclass(frozen=True, slots=True)
class Attempt:
    """An attempt at a run: `seconds` is how long it took, `attempted` when it ended, in UTC."""

    path_base: str
    hostname: str | None
    seconds: float | None
    fault: int
    message: str | None
    attempted: str


@dataclass(frozen=True, slots=True)
class PublishRun:
    """A publish run with what its client asks for; one that is not made yet has the id 0.

    `camera` is told by `pending_runs` and `find_run` as far as the run's origin was imported,
    `attempt` by `find_run`.
    """

    pub_id: int
    client_id: int
    product: str
    stage: str
    stage_id: int
    workdir: str
    camera: str | None
    label: str | None
    comment: str | None
    output_format: str | None
    state: str = "new"
    attempt: Attempt | None = None


@dataclass(frozen=True, slots=True)
class PendingQuery:
    """Which pending runs are meant: those that fit all that is given.

    `comment`, the client's, is an SQL LIKE; of several labels each will do; at most `limit`.
    """

    client_id: int | None = None
    stage: str | None = None
    comment: str | None = None
    name: str | None = None
    labels: tuple[str, ...] = ()
    limit: int | None = None


@dataclass(frozen=True, slots=True)
class RevertQuery:
    """Which failed attempts are meant: those that fit all that is given.

    `older_than`: a UTC time as `utc_now` writes it; attempts that ended then or before.
    """

    pub_id: int | None = None
    fault: int | None = None
    client_id: int | None = None
    comment: str | None = None
    labels: tuple[str, ...] = ()
    older_than: str | None = None


@dataclass(frozen=True, slots=True)
class UpdateQuery:
    """Which runs are meant, in whatever state: those that fit all that is given."""

    pub_id: int | None = None
    client_id: int | None = None
    state: str | None = None
    labels: tuple[str, ...] = ()
    fault: int | None = None


# Looking

_SELECT = """
SELECT p.pub_id, p.client_id, c.product, c.stage, p.stage_id, c.workdir, p.label, c.comment,
c.output_format, p.state
FROM publishRun p JOIN publishClient c ON c.client_id = p.client_id"""


def pending_runs(database: Database, query: PendingQuery) -> list[PublishRun]:
    """The runs of active clients that are new and have no attempt, oldest first."""
    condition, values = restrict(
        ("p.client_id = ?", query.client_id),
        ("c.stage = ?", query.stage),
        (like("c.comment"), query.comment),
        ("c.name = ?", query.name),
        ("p.label IN (?)", query.labels),
    )
    limit = "" if query.limit is None else f" LIMIT {query.limit:d}"
    with database.read():
        rows = database.rows(
            f"""{_SELECT} WHERE p.state = 'new' AND c.active = 1 AND NOT EXISTS
            (SELECT 1 FROM publishDone d WHERE d.pub_id = p.pub_id){condition}
            ORDER BY p.pub_id{limit}""",
            *values,
        )
        return list(_runs(database, rows))


def find_run(database: Database, pub_id: int) -> PublishRun | None:
    """A run in whatever state, of whatever client, with its attempt."""
    rows = database.rows(f"{_SELECT} WHERE p.pub_id = ?", pub_id)
    attempt = database.row(
        """SELECT path_base, hostname, dtime_script, fault, message, attempted
        FROM publishDone WHERE pub_id = ?""",
        pub_id,
    )
    return next(_runs(database, rows, Attempt(*attempt) if attempt else None), None)


def _runs(
    database: Database, rows: Iterable[Row], attempt: Attempt | None = None
) -> Iterator[PublishRun]:
    # What they come from, many have in common.
    cache: Cache = {}
    for row in rows:
        pub_id, client_id, product, stage, stage_id, workdir, *rest, state = row
        camera = facts_of(database, STAGES[stage], stage_id, cache).camera
        label, comment, output_format = rest
        yield PublishRun(
            pub_id, client_id, product, stage, stage_id, workdir, camera, label, comment,
            output_format, state, attempt,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class FaultyRun:
    """A run whose attempt failed, and that waits to be reverted."""

    pub_id: int
    client_id: int
    product: str
    stage: str
    stage_id: int
    label: str | None
    path_base: str
    attempted: str
    fault: int
    message: str | None


def faulty_runs(
    database: Database, query: PendingQuery, fault: int | None = None
) -> list[FaultyRun]:
    """The runs that are still new and whose attempt failed, with this `fault` or any."""
    condition, values = restrict(
        ("p.client_id = ?", query.client_id),
        ("c.stage = ?", query.stage),
        (like("c.comment"), query.comment),
        ("c.name = ?", query.name),
        ("p.label IN (?)", query.labels),
        ("d.fault = ?", fault),
    )
    limit = "" if query.limit is None else f" LIMIT {query.limit:d}"
    rows = database.rows(
        f"""SELECT p.pub_id, p.client_id, c.product, c.stage, p.stage_id, p.label, d.path_base,
        d.attempted, d.fault, d.message
        FROM publishRun p JOIN publishClient c ON c.client_id = p.client_id
        JOIN publishDone d ON d.pub_id = p.pub_id
        WHERE p.state = 'new' AND c.active = 1 AND d.fault <> 0{condition}
        ORDER BY p.pub_id{limit}""",
        *values,
    )
    return [FaultyRun(*row) for row in rows]


# Attempts


def add_attempt(
    database: Database,
    pub_id: int,
    path_base: str,
    hostname: str | None,
    seconds: float | None,
    fault: int,
    message: str | None = None,
) -> None:
    """Record an attempt at a run; without a fault the run is full with it.

    Raises ConflictError where there is no such run, where it is full, and where it has an attempt
    already: what somebody else has recorded meanwhile stays.
    """
    with database.write():
        # Held to the end of the transaction: who records the same run as well, waits.
        run = database.row(
            """UPDATE publishRun SET state = state WHERE pub_id = ? RETURNING state,
            (SELECT product FROM publishClient c WHERE c.client_id = publishRun.client_id),
            (SELECT stage FROM publishClient c WHERE c.client_id = publishRun.client_id),
            stage_id""",
            pub_id,
        )
        there = database.row("SELECT fault FROM publishDone WHERE pub_id = ?", pub_id)
        _check_open(pub_id, run, there)
        database.change(
            """INSERT INTO publishDone
            (pub_id, path_base, hostname, dtime_script, fault, message, attempted)
            VALUES (?, ?, ?, ?, ?, ?, ?)""",
            pub_id, path_base, hostname, seconds, fault, message, utc_now(),
        )  # fmt: skip
        if not fault:
            database.change("UPDATE publishRun SET state = 'full' WHERE pub_id = ?", pub_id)


def _check_open(pub_id: int, run: Row | None, attempt: Row | None) -> None:
    if run is None:
        raise ConflictError(f"publish run {pub_id}: not there")
    state, product, stage, stage_id = run
    if state == "full":
        raise full_already(pub_id, product, stage, stage_id)
    if attempt is not None:
        raise ConflictError(
            f"publish run {pub_id}: it has an attempt already, with fault {attempt[0]}; first"
            f" pubtool -revert -pub_id {pub_id}"
        )


def full_already(pub_id: int, product: str, stage: str, stage_id: int) -> ConflictError:
    """The refusal of an attempt at a run that is full; it says how to publish it anew."""
    return ConflictError(
        f"publish run {pub_id}: full already; to publish it anew, withdraw its fileset first:"
        f" dsreg --del {fileset_name(pub_id, stage, stage_id)} --product {product}, then"
        f" pubtool -updaterun -set_state new -pub_id {pub_id}"
    )


def revert(database: Database, query: RevertQuery) -> int:
    """Forget failed attempts of runs that are still new: they are pending again.

    Returns how many.
    """
    condition, values = restrict(
        ("p.pub_id = ?", query.pub_id),
        ("p.client_id = ?", query.client_id),
        (like("c.comment"), query.comment),
        ("p.label IN (?)", query.labels),
    )
    attempts, more = restrict(("fault = ?", query.fault), ("attempted <= ?", query.older_than))
    with database.write():
        return database.change(
            f"""DELETE FROM publishDone WHERE pub_id IN
            (SELECT p.pub_id FROM publishRun p
            JOIN publishClient c ON c.client_id = p.client_id
            WHERE p.state = 'new'{condition}) AND fault <> 0{attempts}""",
            *values, *more,
        )  # fmt: skip


def update_runs(database: Database, query: UpdateQuery, state: str) -> int:
    """Set the state of runs; returns how many had another one.

    A run that is full and shall be new is to be published anew: its attempt is forgotten; its
    fileset is another matter (`full_already`). A new one that shall be full is given up: a failed
    attempt at it stays, as a note.
    """
    condition, values = restrict(
        ("p.pub_id = ?", query.pub_id),
        ("p.client_id = ?", query.client_id),
        ("p.state = ?", query.state),
        ("p.label IN (?)", query.labels),
        (
            "EXISTS (SELECT 1 FROM publishDone d WHERE d.pub_id = p.pub_id AND d.fault = ?)",
            query.fault,
        ),
    )
    with database.write():
        changed = database.rows(
            f"""UPDATE publishRun SET state = ? WHERE pub_id IN
            (SELECT p.pub_id FROM publishRun p WHERE p.state <> ?{condition})
            RETURNING pub_id""",
            state, state, *values,
        )  # fmt: skip
        if state == "new":
            for ids in batches([row[0] for row in changed]):
                marks = ", ".join("?" * len(ids))
                database.change(f"DELETE FROM publishDone WHERE pub_id IN ({marks})", *ids)
    return len(changed)


def batches(values: Sequence[_Item]) -> Iterator[Sequence[_Item]]:
    """`values`, a few hundred at a time."""
    for start in range(0, len(values), _BATCH):
        yield values[start : start + _BATCH]
