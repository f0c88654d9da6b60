"""What of the distribution runs is pending, done or registered (PROTOCOL section 4).

A distRun is `new` until every component is bundled and its documents are written, then `full`. A
component is `new` until it is bundled. A fileset is pending for a run that is full, until it is
registered. What has a fault is pending no longer, until it is reverted; nothing is pending for a
target that is disabled, until it is enabled.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from server.database import Database, Row


@dataclass(frozen=True, slots=True)
class Selection:
    """Which distribution runs, or what belongs to them, is asked for; None, or no label: all.

    `labels`: any of them. `fault`: its code, of the component, run or fileset that is asked for.
    `dest_id`: only filesets of this destination, where filesets are asked for.
    """

    dist_id: int | None = None
    stage: str | None = None
    stage_id: int | None = None
    labels: Sequence[str] = ()
    fault: int | None = None
    dest_id: int | None = None

    def condition(self) -> tuple[str, list[object]]:
        """SQL that is true of a distRun `r` that is asked for, and its values."""
        where = {"dist_id": self.dist_id, "stage": self.stage, "stage_id": self.stage_id}
        given = {column: value for column, value in where.items() if value is not None}
        parts = [f"r.{column} = ?" for column in given]
        if self.labels:
            parts.append(f"r.label IN ({', '.join('?' * len(self.labels))})")
        return " AND ".join(parts) or "1 = 1", [*given.values(), *self.labels]


EVERYTHING = Selection()


@dataclass(frozen=True, slots=True)
class DistRun:
    """A run that is distributed for a target; `outdir` as it was given, its bundles' directory."""

    dist_id: int
    target_id: int
    stage: str
    stage_id: int
    label: str | None
    outdir: str
    clean: bool
    state: str
    fault: int
    message: str | None
    exp_name: str | None
    data_group: str | None
    filter: str | None


@dataclass(frozen=True, slots=True)
class PendingComponent:
    """A component that has no bundle yet."""

    dist_id: int
    component: str
    outdir: str
    stage: str
    stage_id: int
    clean: bool
    label: str | None


@dataclass(frozen=True, slots=True)
class ProcessedComponent:
    """A component that is done; without name, bytes (a number) and md5sum, it has no files."""

    dist_id: int
    component: str
    stage: str
    stage_id: int
    label: str | None
    outdir: str
    name: str | None
    bytes: int | None
    md5sum: str | None


@dataclass(frozen=True, slots=True)
class PendingFileset:
    """A run that is full, and a destination in whose product it is not registered yet."""

    run: DistRun
    dest_id: int
    destination: str
    product: str


@dataclass(frozen=True, slots=True)
class DistFileset:
    """A fileset that was registered for a destination, or whose registration has a fault.

    `received`: state of its rcRun, None before there is one; `receive_fault`: what the destination
    reported, 0 for none.
    """

    fs_id: int
    dist_id: int
    dest_id: int
    destination: str
    name: str
    stage: str
    stage_id: int
    label: str | None
    state: str
    fault: int
    received: str | None
    receive_fault: int | None
    message: str | None


@dataclass(frozen=True, slots=True)
class FaultyWork:
    """What has a fault and waits to be reverted. `kind`: component, run or fileset."""

    kind: str
    dist_id: int
    name: str | None
    stage: str
    stage_id: int
    label: str | None
    fault: int
    message: str | None


_RUN = ", ".join(f"r.{name}" for name in DistRun.__slots__)

# The run `r` has a target that is enabled.
_AIMED = """EXISTS (SELECT 1 FROM distTarget t
    WHERE t.target_id = r.target_id AND t.state = 'enabled')"""

WANTING = """rcInterest i
    JOIN rcDestination d ON d.dest_id = i.dest_id AND d.state = 'enabled'
    WHERE i.target_id = r.target_id AND i.state = 'enabled' AND NOT EXISTS (
        SELECT 1 FROM rcDSFileset f WHERE f.dist_id = r.dist_id AND f.dest_id = i.dest_id
        AND (f.state = 'full' OR f.fault <> 0))"""
"""SQL of who is interested in the run `r`, nothing being registered or wrong yet."""

_UNBUNDLED = """SELECT 1 FROM distComponent c
    WHERE c.dist_id = r.dist_id AND c.state = 'new'"""


def run_of(row: Row) -> DistRun:
    """The run in a row of DistRun's columns."""
    return DistRun(*(*row[:6], bool(row[6]), *row[7:]))


def pending_components(
    database: Database, selection: Selection = EVERYTHING, limit: int | None = None
) -> list[PendingComponent]:
    """Components to be bundled, oldest run first: new ones without a fault, of such runs."""
    condition, values = selection.condition()
    rows = _limited(
        database,
        f"""SELECT c.dist_id, c.component, c.outdir, r.stage, r.stage_id, r.clean, r.label
        FROM distComponent c JOIN distRun r ON r.dist_id = c.dist_id
        WHERE c.state = 'new' AND c.fault = 0 AND r.state = 'new' AND r.fault = 0
        AND {_AIMED} AND {condition} ORDER BY c.dist_id, c.component""",
        values,
        limit,
    )
    return [PendingComponent(*(*row[:5], bool(row[5]), row[6])) for row in rows]


def processed_components(
    database: Database, selection: Selection = EVERYTHING, limit: int | None = None
) -> list[ProcessedComponent]:
    """Components that are bundled, oldest run first."""
    condition, values = selection.condition()
    rows = _limited(
        database,
        f"""SELECT c.dist_id, c.component, r.stage, r.stage_id, r.label, c.outdir, c.name, c.bytes,
        c.md5sum FROM distComponent c JOIN distRun r ON r.dist_id = c.dist_id
        WHERE c.state = 'full' AND {condition} ORDER BY c.dist_id, c.component""",
        values,
        limit,
    )
    return [ProcessedComponent(*row) for row in rows]


def to_advance(
    database: Database, selection: Selection = EVERYTHING, limit: int | None = None
) -> list[DistRun]:
    """Runs whose components are all bundled and whose documents are to be written."""
    condition, values = selection.condition()
    rows = _limited(
        database,
        f"""SELECT {_RUN} FROM distRun r WHERE r.state = 'new' AND r.fault = 0 AND {condition}
        AND {_AIMED} AND NOT EXISTS ({_UNBUNDLED}) ORDER BY r.dist_id""",
        values,
        limit,
    )
    return [run_of(row) for row in rows]


def pending_filesets(
    database: Database, selection: Selection = EVERYTHING, limit: int | None = None
) -> list[PendingFileset]:
    """Filesets to be registered, oldest run first: one for each destination interested in a run."""
    condition, values = selection.condition()
    if selection.dest_id is not None:
        condition += " AND i.dest_id = ?"
        values.append(selection.dest_id)
    rows = _limited(
        database,
        f"""SELECT {_RUN}, d.dest_id, d.name, d.product FROM distRun r, {WANTING}
        AND r.state = 'full' AND {_AIMED} AND {condition} ORDER BY r.dist_id, d.dest_id""",
        values,
        limit,
    )
    return [PendingFileset(run_of(row[:-3]), *row[-3:]) for row in rows]


def pending_runs(
    database: Database, selection: Selection = EVERYTHING, limit: int | None = None
) -> list[DistRun]:
    """Runs with anything left to do, oldest first.

    They have a component to be bundled, or are to be advanced, or have a fileset to be registered.
    """
    condition, values = selection.condition()
    rows = _limited(
        database,
        f"""SELECT {_RUN} FROM distRun r WHERE {condition} AND {_AIMED} AND (
            (r.state = 'new' AND r.fault = 0
                AND (EXISTS ({_UNBUNDLED} AND c.fault = 0) OR NOT EXISTS ({_UNBUNDLED})))
            OR (r.state = 'full' AND EXISTS (SELECT 1 FROM {WANTING}))
        ) ORDER BY r.dist_id""",
        values,
        limit,
    )
    return [run_of(row) for row in rows]


def list_filesets(
    database: Database, selection: Selection = EVERYTHING, limit: int | None = None
) -> list[DistFileset]:
    """Filesets that are registered or have a fault, oldest first."""
    condition, values = selection.condition()
    if selection.dest_id is not None:
        condition += " AND f.dest_id = ?"
        values.append(selection.dest_id)
    rows = _limited(
        database,
        f"""SELECT f.fs_id, f.dist_id, f.dest_id, d.name, f.name, r.stage, r.stage_id, r.label,
        f.state, f.fault, rc.state, rc.fault, coalesce(f.message, rc.message)
        FROM rcDSFileset f JOIN distRun r ON r.dist_id = f.dist_id
        JOIN rcDestination d ON d.dest_id = f.dest_id LEFT JOIN rcRun rc ON rc.fs_id = f.fs_id
        WHERE {condition} ORDER BY f.fs_id""",
        values,
        limit,
    )
    return [DistFileset(*row) for row in rows]


def held_as(dist_id: int) -> str:
    """What a run that is worked on is held as (`server.store_lock.hold_work`)."""
    return f"disttool run {dist_id}"


def outdir_of(workdir: str, stage: str, stage_id: int, dist_id: int) -> str:
    """Where a run's bundles and documents are made below `workdir`: nowhere else are others'."""
    return f"{workdir}/{stage}.{stage_id}.{dist_id}"


def list_faults(
    database: Database, selection: Selection = EVERYTHING, limit: int | None = None
) -> list[FaultyWork]:
    """What of `selection` has a fault, oldest run first; a run goes by its outdir."""
    condition, values = selection.condition()
    code = "w.fault <> 0" if selection.fault is None else "w.fault <> 0 AND w.fault = ?"
    parts = []
    for kind, table, name in (
        ("component", "distComponent", "w.component"),
        ("run", "distRun", "w.outdir"),
        ("fileset", "rcDSFileset", "w.name"),
    ):
        parts.append(
            f"""SELECT '{kind}', w.dist_id, {name}, r.stage, r.stage_id, r.label, w.fault, w.message
            FROM {table} w JOIN distRun r ON r.dist_id = w.dist_id
            WHERE w.state = 'new' AND {code} AND {condition}"""
        )
    chosen = [*([] if selection.fault is None else [selection.fault]), *values]
    rows = _limited(database, f"{' UNION ALL '.join(parts)} ORDER BY 2, 1, 3", chosen * 3, limit)
    return [FaultyWork(*row) for row in rows]


def _limited(
    database: Database, sql: str, values: Sequence[object], limit: int | None
) -> list[Row]:
    if limit is None:
        return database.rows(sql, *values)
    return database.rows(f"{sql} LIMIT ?", *values, limit)
