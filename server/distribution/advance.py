"""A run from the database to its directory: what its rows are, where its files go, its documents.

Only who holds the run (`server.store_lock.hold_work`) calls these: the coordinator.
"""

from contextlib import suppress
from pathlib import Path

from mirror.disk import flush, told
from mirror.errors import ConfigError
from server.database import Database
from server.distribution.bundle import SCRATCH, check_writable, scratch_files, writing
from server.distribution.documents import dirinfo, document_name, write_document
from server.distribution.queue import DistRun
from server.runs.imported import RunRow, find, select
from server.runs.resolve import file_resolve
from server.runs.stages import STAGES, Stage
from server.site import Roots


def rows_of(database: Database, dist: DistRun) -> tuple[Stage, RunRow, list[RunRow]]:
    """The stage of a run, its own row, and those of its components.

    Raises ConfigError for a run that is not imported (any more).
    """
    stage = STAGES[dist.stage]
    key = {stage.id_column: dist.stage_id}
    run = find(database, stage.run_table, **key)
    if run is None:
        where = f"{stage.name} run {dist.stage_id}: not in {stage.run_table}"
        raise ConfigError([f"{where}; importrun reads it"])
    return stage, run, select(database, stage.component_table, **key)


def made_outdir(dist: DistRun, roots: Roots) -> Path:
    """Make the directory of a run's bundles, durably; what killed attempts left there goes.

    Raises ConfigError where its path cannot be resolved, LocalError where it cannot be made
    or written to, which says whose it is.
    """
    outdir = file_resolve(dist.outdir, roots)
    with told(outdir):
        missing = [path for path in (outdir, *outdir.parents) if not path.is_dir()]
    for path in reversed(missing):
        with writing(path), suppress(FileExistsError):
            path.mkdir()
    check_writable(outdir)
    for left in scratch_files(outdir):
        with writing(left):
            left.unlink(missing_ok=True)
    flush(path.parent for path in missing)
    return outdir


def advance(database: Database, dist: DistRun, roots: Roots) -> None:
    """Write the documents of a run whose components are bundled, and make it full.

    Raises what `rows_of`, `made_outdir`, `documents.dirinfo` and `export_run` raise.
    """
    from server.runs.export import export_run

    outdir = made_outdir(dist, roots)
    # Both documents are of one moment, whatever is imported meanwhile.
    with database.read():
        stage, run, rows = rows_of(database, dist)
        for kind, pieces in (
            ("dirinfo", iter([dirinfo(stage, run, rows)])),
            ("dbinfo", export_run(database, stage, dist.stage_id, clean=dist.clean)),
        ):
            name = document_name(kind, dist.stage, dist.stage_id)
            write_document(outdir / name, outdir / "document".join(SCRATCH), pieces)
    with database.write():
        database.change(
            "UPDATE distRun SET state = 'full', fault = 0, message = NULL WHERE dist_id = ?",
            dist.dist_id,
        )
