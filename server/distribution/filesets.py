"""A run that is full, as a fileset of a destination's product (PROTOCOL sections 3 and 4).

The files stay where they are, in the run's outdir, and the fileset has links to them. What was
registered by a coordinator that was killed before it could say so is found and adopted.
"""

from dataclasses import dataclass
from pathlib import Path

from server.catalogue import NewFileset, find_fileset, find_product
from server.database import Database
from server.distribution.documents import document_name
from server.distribution.queue import DistRun, PendingFileset
from server.faults import Fault
from server.fileset_files import Mode
from server.register import Wanted, register
from server.runs.resolve import file_resolve
from server.site import Site
from server.store_lock import ConflictError

FILESET_TYPE = "IPP-DIST"

_RECORD = """INSERT INTO rcDSFileset (dist_id, dest_id, name, state, fault, message)
    VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (dist_id, dest_id) DO UPDATE SET name = excluded.name,
    state = excluded.state, fault = excluded.fault, message = excluded.message RETURNING fs_id"""


@dataclass(frozen=True, slots=True)
class _Bundle:
    """A bundle as it was recorded: `size` in bytes."""

    component: str
    name: str
    size: int
    md5: str


def origin(run: DistRun) -> str:
    """What a run is called where an exposure's name is expected (the column exp_name)."""
    return run.exp_name or f"{run.stage}.{run.stage_id}"


def fileset_name(run: DistRun, dest_id: int) -> str:
    """EXP_NAME.STAGE.STAGE_ID.DIST_ID.DEST_ID, without exposure STAGE.STAGE_ID.DIST_ID.DEST_ID."""
    parts = f"{run.stage}.{run.stage_id}.{run.dist_id}.{dest_id}"
    return f"{run.exp_name}.{parts}" if run.exp_name else parts


def register_fileset(site: Site, database: Database, pending: PendingFileset) -> None:
    """Register a run's fileset for a destination, or adopt it if that was done before.

    Raises what `server.register.register` raises, and ConflictError where the product holds a
    fileset of this name with other bundles.
    """
    name = fileset_name(pending.run, pending.dest_id)
    bundles = _bundles(database, pending.run.dist_id)
    if not _is_registered(database, pending.product, name, bundles):
        outdir = file_resolve(pending.run.outdir, site.roots)
        run = pending.run
        values = (
            str(run.target_id), run.stage, str(run.stage_id), origin(run), run.data_group,
            run.filter,
        )  # fmt: skip
        register(
            site, database, pending.product, NewFileset(name, FILESET_TYPE, values),
            _wanted(run, outdir, bundles), mode=Mode.LINK,
        )  # fmt: skip
    _record(database, pending, name)


def _bundles(database: Database, dist_id: int) -> list[_Bundle]:
    rows = database.rows(
        """SELECT component, name, bytes, md5sum FROM distComponent
        WHERE dist_id = ? AND name IS NOT NULL ORDER BY component""",
        dist_id,
    )
    return [_Bundle(*row) for row in rows]


def _wanted(run: DistRun, outdir: Path, bundles: list[_Bundle]) -> list[Wanted]:
    """The files in the order of PROTOCOL section 3; bundles were summed up when written."""
    documents = [
        Wanted(str(outdir / document_name(kind, run.stage, run.stage_id)), "text", (kind,))
        for kind in ("dbinfo", "dirinfo")
    ]
    return documents + [
        Wanted(str(outdir / one.name), "tgz", (one.component,), one.size, one.md5, trusted=True)
        for one in bundles
    ]


def _is_registered(database: Database, product: str, name: str, bundles: list[_Bundle]) -> bool:
    owner = find_product(database, product)
    there = find_fileset(database, owner, name) if owner else None
    if there is None:
        return False
    rows = database.rows(
        """SELECT type_col_0, file_name, bytes, md5sum FROM dsFile
        WHERE fileset_id = ? AND type = 'tgz' ORDER BY file_id""",
        there.id,
    )
    if [_Bundle(*row) for row in rows] != bundles:
        raise ConflictError(
            f"{product}/{name}: registered already, with other bundles; withdraw that one: dsreg"
            f" --del {name} --product {product}, then disttool -revertfileset"
        )
    return True


def _record(database: Database, pending: PendingFileset, name: str) -> None:
    with database.write():
        row = database.row(_RECORD, pending.run.dist_id, pending.dest_id, name, "full", 0, None)
        assert row is not None
        database.change(
            "INSERT INTO rcRun (fs_id, dest_id, state) VALUES (?, ?, 'new')"
            " ON CONFLICT (fs_id) DO NOTHING",
            row[0], pending.dest_id,
        )  # fmt: skip


def record_fault(database: Database, pending: PendingFileset, fault: Fault) -> None:
    """Record that a fileset could not be registered: it is pending again when reverted."""
    name = fileset_name(pending.run, pending.dest_id)
    values = (pending.run.dist_id, pending.dest_id, name, "new", fault.code, fault.message)
    with database.write():
        database.row(_RECORD, *values)
