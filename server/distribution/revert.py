"""Making pending again what has a fault, moving runs, forgetting them (PROTOCOL section 4).

Each returns the number of what it changed. A fault of another kind stays: a component that is
reverted is not bundled before its run's own fault is reverted too.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from server.catalogue import find_fileset, find_product
from server.database import Database, Row
from server.distribution.filesets import fileset_name
from server.distribution.queue import DistRun, Selection, held_as, outdir_of, run_of
from server.store_lock import HeldError, hold_work

_AT_ONCE = 50
"""Runs that are held, and changed in one transaction, at a time: each one is an open file."""

_RUN = ", ".join(f"r.{name}" for name in DistRun.__slots__)

# What was registered and withdrawn again is nobody's any more.
_DISTRIBUTED = """SELECT 1 FROM rcDSFileset f JOIN rcDestination d ON d.dest_id = f.dest_id
    WHERE f.dist_id = ? AND f.state = 'full' AND (
        NOT EXISTS (SELECT 1 FROM dsWithdrawn w
            WHERE w.prod_name = d.product AND w.fileset_name = f.name)
        OR EXISTS (SELECT 1 FROM dsFileset s JOIN dsProduct p ON p.prod_id = s.prod_id
            WHERE p.prod_name = d.product AND s.fileset_name = f.name))"""


@dataclass(slots=True)
class Changed:
    """How many runs were changed.

    `busy`: left, as another process works on them; `distributed`: left, as they have filesets.
    """

    done: int = 0
    busy: int = 0
    distributed: int = 0


def revert_components(database: Database, selection: Selection) -> int:
    """Let components with a fault be bundled again."""
    faulty, values = _faulty(selection)
    with database.write():
        return database.change(
            f"UPDATE distComponent SET state = 'new', fault = 0, message = NULL WHERE {faulty}",
            *values,
        )


def revert_runs(database: Database, selection: Selection) -> int:
    """Let runs with a fault be advanced again."""
    faulty, values = _faulty(selection)
    with database.write():
        return database.change(
            f"UPDATE distRun SET fault = 0, message = NULL WHERE {faulty}", *values
        )


def move_runs(database: Database, root: Path, selection: Selection, workdir: str) -> Changed:
    """Let runs that are not full, faulty or not, be done anew below another `workdir`.

    So a workdir that turned out wrong is mended: it has been through `define.check_workdir`. What
    is bundled already is bundled again. `root`: the DATA_STORE_ROOT, by which a run is held.
    """
    changed = Changed()
    condition, values = _chosen(selection)
    for page in _pages(database, f"r.state <> 'full' AND {condition}", values):
        with _held(root, page, changed) as mine, database.write():
            # Before it was held, another process may have finished it.
            for run in [run for run in _again(database, mine) if run.state != "full"]:
                _move(database, run, outdir_of(workdir, run.stage, run.stage_id, run.dist_id))
                changed.done += 1
    return changed


def _move(database: Database, run: DistRun, outdir: str) -> None:
    database.change(
        "UPDATE distRun SET fault = 0, message = NULL, outdir = ? WHERE dist_id = ?",
        outdir, run.dist_id,
    )  # fmt: skip
    database.change(
        """UPDATE distComponent SET outdir = ?, state = 'new', name = NULL, bytes = NULL,
        md5sum = NULL WHERE dist_id = ?""",
        outdir, run.dist_id,
    )  # fmt: skip


def drop_runs(database: Database, root: Path, selection: Selection) -> Changed:
    """Forget runs that nobody has, with their components and faulty filesets.

    So the query that defined them finds what they are of again. Their bundles stay where they
    are. `root`: the DATA_STORE_ROOT, by which a run is held.
    """
    changed = Changed()
    condition, values = _chosen(selection)
    for page in _pages(database, condition, values):
        with _held(root, page, changed) as mine, database.write():
            for run in _again(database, mine):
                if _is_distributed(database, run):
                    changed.distributed += 1
                else:
                    _drop(database, run)
                    changed.done += 1
    return changed


def _is_distributed(database: Database, run: DistRun) -> bool:
    if database.row(_DISTRIBUTED, run.dist_id):
        return True
    if run.state != "full":
        return False
    # Who registered it may have been killed before it could say so.
    wanting = database.rows(
        """SELECT d.dest_id, d.product FROM rcInterest i
        JOIN rcDestination d ON d.dest_id = i.dest_id WHERE i.target_id = ?""",
        run.target_id,
    )
    products = ((dest_id, find_product(database, name)) for dest_id, name in wanting)
    return any(
        product and find_fileset(database, product, fileset_name(run, dest_id))
        for dest_id, product in products
    )


def _drop(database: Database, run: DistRun) -> None:
    database.change(
        "DELETE FROM rcRun WHERE fs_id IN (SELECT fs_id FROM rcDSFileset WHERE dist_id = ?)",
        run.dist_id,
    )
    for table in ("rcDSFileset", "distComponent", "distRun"):
        database.change(f"DELETE FROM {table} WHERE dist_id = ?", run.dist_id)


def revert_filesets(database: Database, selection: Selection) -> int:
    """Forget the filesets whose registration has a fault, so that it is tried again."""
    faulty, values = _faulty(selection)
    if selection.dest_id is not None:
        faulty += " AND dest_id = ?"
        values.append(selection.dest_id)
    # What is registered has no fault of ours, and what it is known by must not go.
    faulty = f"state <> 'full' AND {faulty}"
    with database.write():
        # Its destination may have reported another one of this name, which was in its way.
        database.change(
            f"DELETE FROM rcRun WHERE fs_id IN (SELECT fs_id FROM rcDSFileset WHERE {faulty})",
            *values,
        )
        return database.change(f"DELETE FROM rcDSFileset WHERE {faulty}", *values)


def _chosen(selection: Selection) -> tuple[str, list[object]]:
    """What is true of a run `r` selected, by its own fault too."""
    condition, values = selection.condition()
    if selection.fault is None:
        return condition, values
    return f"r.fault = ? AND {condition}", [selection.fault, *values]


def _pages(database: Database, condition: str, values: Sequence[object]) -> Iterator[list[int]]:
    """The ids of the runs for which this is true, so many at a time as are held together."""
    rows = database.rows(
        f"SELECT r.dist_id FROM distRun r WHERE {condition} ORDER BY r.dist_id", *values
    )
    for first in range(0, len(rows), _AT_ONCE):
        yield [row[0] for row in rows[first : first + _AT_ONCE]]


@contextmanager
def _held(root: Path, dist_ids: Sequence[int], changed: Changed) -> Iterator[list[int]]:
    """Hold runs; those that another process works on are counted and left."""
    with ExitStack() as holds:
        mine = []
        for dist_id in dist_ids:
            try:
                holds.enter_context(hold_work(root, held_as(dist_id)))
            except HeldError:
                changed.busy += 1
            else:
                mine.append(dist_id)
        yield mine


def _again(database: Database, dist_ids: Sequence[int]) -> list[DistRun]:
    """These runs as they are now, those that are still there."""
    if not dist_ids:
        return []
    rows: list[Row] = database.rows(
        f"SELECT {_RUN} FROM distRun r WHERE dist_id IN ({', '.join('?' * len(dist_ids))})",
        *dist_ids,
    )
    return [run_of(row) for row in rows]


def _faulty(selection: Selection) -> tuple[str, list[object]]:
    """What is true of a row with a fault that belongs to the runs selected."""
    condition, values = selection.condition()
    # A run is found by its id as well as what belongs to it.
    faulty = f"fault <> 0 AND dist_id IN (SELECT r.dist_id FROM distRun r WHERE {condition})"
    if selection.fault is None:
        return faulty, values
    return f"fault = ? AND {faulty}", [selection.fault, *values]
