"""Making pending again what has a fault (PROTOCOL section 4, the `-revert*` modes).

Each returns the number of what it reverted. A fault of another kind stays: a component that is
reverted is not bundled before its run's own fault is reverted too.
"""

from server.database import Database
from server.distribution.queue import Selection, outdir_of


def revert_components(database: Database, selection: Selection) -> int:
    """Let components with a fault be bundled again."""
    faulty, values = _faulty(selection)
    with database.write():
        return database.change(
            f"UPDATE distComponent SET state = 'new', fault = 0, message = NULL WHERE {faulty}",
            *values,
        )


def revert_runs(database: Database, selection: Selection, workdir: str | None = None) -> int:
    """Let runs with a fault be advanced again; with a `workdir`, all of it anew, below that.

    So a workdir that turned out wrong is mended. It has been through `define.check_workdir`.
    """
    faulty, values = _faulty(selection)
    with database.write():
        if workdir is None:
            return database.change(
                f"UPDATE distRun SET fault = 0, message = NULL WHERE {faulty}", *values
            )
        runs = database.rows(
            f"SELECT dist_id, stage, stage_id FROM distRun WHERE {faulty}", *values
        )
        for dist_id, stage, stage_id in runs:
            outdir = outdir_of(workdir, stage, stage_id, dist_id)
            database.change(
                "UPDATE distRun SET fault = 0, message = NULL, outdir = ? WHERE dist_id = ?",
                outdir, dist_id,
            )  # fmt: skip
            database.change(
                """UPDATE distComponent SET outdir = ?, state = 'new', name = NULL, bytes = NULL,
                md5sum = NULL WHERE dist_id = ?""",
                outdir, dist_id,
            )  # fmt: skip
    return len(runs)


def revert_filesets(database: Database, selection: Selection) -> int:
    """Forget the filesets whose registration has a fault, so that it is tried again."""
    faulty, values = _faulty(selection)
    with database.write():
        # What is registered has no fault of ours, and what it is known by must not go.
        return database.change(
            f"DELETE FROM rcDSFileset WHERE state <> 'full' AND {faulty}", *values
        )


def _faulty(selection: Selection) -> tuple[str, list[object]]:
    """What is true of a row with a fault that belongs to the runs selected."""
    condition, values = selection.condition()
    # A run is found by its id as well as what belongs to it.
    faulty = f"fault <> 0 AND dist_id IN (SELECT r.dist_id FROM distRun r WHERE {condition})"
    if selection.fault is None:
        return faulty, values
    return f"fault = ? AND {faulty}", [selection.fault, *values]
