"""An attempt at a publish run, as far as it touches database and Data Store (PROTOCOL section 4).

`plan_publish` reads what there is to do, `server.publishing.work.publish_files` does it, in a
worker if need be, and `record` registers the fileset and says how it went. Killed in between, the
run is still pending; a fileset that was registered, and not recorded, is taken over by the next
attempt.
"""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mirror.disk import told
from mirror.errors import ConfigError, IntegrityError, MirrorError
from server.catalogue import NewFile, NewFileset, find_fileset, find_product, trimmed
from server.contents import files_after, measure_files, type_columns
from server.database import Database, Unavailable
from server.faults import Fault, fault_of
from server.fileset_files import Mode
from server.publishing.inputs import (
    RULES,
    directions,
    exposure_text,
    file_type,
    fileset_name,
    fileset_type,
    good_sources,
)
from server.publishing.runs import PublishRun, add_attempt, full_already
from server.publishing.work import Manner, Outcome, PublishTask
from server.register import Wanted, check, register
from server.runs.facts import facts_of
from server.runs.imported import find, select
from server.runs.resolve import file_resolve, host_name
from server.runs.stages import STAGES
from server.site import Site
from server.store_lock import ConflictError, HeldError


@dataclass(frozen=True, slots=True)
class Recorded:
    """How an attempt was recorded: with a fault, or with a fileset of so many files and bytes.

    `adopted`: the fileset had been registered before, by an attempt that was killed.
    """

    fault: Fault | None
    files: int = 0
    bytes: int = 0
    adopted: bool = False


def base_of(run: PublishRun) -> str:
    """The path_base of a run's attempts: PRODUCT.PUB_ID in its client's workdir (seed 000)."""
    return f"{run.workdir.rstrip('/')}/{run.product}.{run.pub_id}"


def work_name(pub_id: int) -> str:
    """The work that is held (`server.store_lock`) while a run is published."""
    return f"publish run {pub_id}"


def place_of(run: PublishRun) -> str:
    """Where a run goes: PRODUCT/FILESET."""
    return f"{run.product}/{_name(run)}"


def check_open(run: PublishRun) -> None:
    """Raises ConflictError, which says what to do, where a run is full or has an attempt."""
    if run.state == "full":
        raise full_already(run.pub_id, run.product, run.stage, run.stage_id)
    if run.attempt is not None:
        raise ConflictError(
            f"publish run {run.pub_id}: has an attempt already, with fault {run.attempt.fault};"
            f" pubtool -revert -pub_id {run.pub_id} lets it be tried again"
        )


def _name(run: PublishRun) -> str:
    return fileset_name(run.pub_id, run.stage, run.stage_id)


def plan_publish(
    database: Database, site: Site, run: PublishRun, manner: Manner, below: Path | None = None
) -> PublishTask:
    """What there is to do for a run, read from the database.

    `below`: a directory to work in instead of the client's workdir. Raises ConfigError for a
    workdir that does not resolve, IntegrityError for a run that is not imported or has nothing to
    publish, LocalError where the database fails.
    """
    base = file_resolve(base_of(run), site.roots)
    stage = STAGES.get(run.stage)
    if stage is None or run.stage not in RULES:
        raise ConfigError(
            [f"publish run {run.pub_id}: stage {' or '.join(RULES)} expected, not {run.stage!r}"]
        )
    where = {stage.id_column: run.stage_id}
    row = find(database, stage.run_table, **where)
    if row is None:
        raise IntegrityError(
            f"{stage.name} run {run.stage_id}: not among the imported runs; importrun FILE.mdc"
            " brings it there"
        )
    rows = select(database, stage.component_table, **where)
    return PublishTask(
        run.pub_id, run.stage, below / base.name if below else base, site.roots,
        good_sources(stage, row, rows), directions(stage, row), site.translate.get(run.product),
        manner,
    )  # fmt: skip


def plan_or_record(
    database: Database, site: Site, run: PublishRun, manner: Manner
) -> PublishTask | Fault:
    """`plan_publish`; what keeps the run from being planned is recorded as a failed attempt.

    Raises LocalError where the database fails.
    """
    try:
        return plan_publish(database, site, run, manner)
    except Unavailable:
        raise
    except MirrorError as error:
        fault = fault_of(error)
        record(database, site, run, Outcome(host_name(), 0.0, fault=fault))
        return fault


def fileset_of(database: Database, run: PublishRun) -> NewFileset:
    """The fileset that a run becomes; its values: the client's comment, the exposures' names."""
    exposures = facts_of(database, STAGES[run.stage], run.stage_id).exposures
    values = trimmed([run.comment, exposure_text(exposures)])
    return NewFileset(_name(run), fileset_type(run.product), values)


def wanted_of(run: PublishRun, files: tuple[Path, ...]) -> list[Wanted]:
    """The files that go out, as they are registered."""
    kind = file_type(run.product)
    return [Wanted(str(path), kind) for path in files]


def check_registration(
    database: Database, run: PublishRun, files: tuple[Path, ...]
) -> tuple[NewFileset, list[Wanted]]:
    """What would be registered, without doing it. Raises what `record` makes a fault of."""
    product = find_product(database, run.product)
    if product is None:
        raise ConflictError(
            f"product {run.product}: not in the catalogue; dsprodtool --add makes it"
        )
    fileset, wanted = fileset_of(database, run), wanted_of(run, files)
    if problems := check(product, type_columns(database), fileset, wanted, Mode.COPY, None):
        raise ConfigError(problems)
    _registered(database, run, files)
    return fileset, wanted


def record(database: Database, site: Site, run: PublishRun, outcome: Outcome) -> Recorded:
    """Register what an attempt has made, and record the attempt with its fault, if any.

    The files are copied: whatever happens to the working directories later, what was published
    stays. Raises LocalError where the database fails, ConflictError where somebody else has
    recorded an attempt meanwhile, HeldError where another process works on the fileset or its
    product just now; then none is recorded here.
    """
    done = Recorded(outcome.fault)
    if outcome.fault is None:
        try:
            done = _register(database, site, run, outcome.files)
        except HeldError:
            raise
        except (MirrorError, OSError) as error:
            done = Recorded(fault_of(error))
    code, message = (done.fault.code, done.fault.message) if done.fault else (0, None)
    add_attempt(
        database, run.pub_id, base_of(run), outcome.hostname, outcome.seconds, code, message
    )
    return done


def _register(database: Database, site: Site, run: PublishRun, files: tuple[Path, ...]) -> Recorded:
    if found := _registered(database, run, files):
        return Recorded(None, *found, adopted=True)
    done = register(
        site, database, run.product, fileset_of(database, run), wanted_of(run, files),
        mode=Mode.COPY,
    )  # fmt: skip
    return Recorded(None, done.files, done.bytes)


def _registered(
    database: Database, run: PublishRun, files: tuple[Path, ...]
) -> tuple[int, int] | None:
    """Files and bytes of the run's fileset, if it is registered.

    Raises ConflictError where it has other files than this attempt has made, or other content.
    """
    product = find_product(database, run.product)
    there = product and find_fileset(database, product, _name(run))
    if not there:
        return None
    listed = [listed.file for listed in files_after(database, there, 0, len(files) + 1)]
    if difference := _difference(listed, files):
        raise ConflictError(
            f"{run.product}/{there.name}: registered already, with other content; withdraw it"
            f" first: dsreg --del {there.name} --product {run.product} ({difference})"
        )
    return measure_files(database, there)


def _difference(listed: Sequence[NewFile], files: Sequence[Path]) -> str | None:
    """What a fileset's list says else than files have: names, sizes, md5 sums; None: nothing."""
    names = [file.name for file in listed]
    if names != [path.name for path in files]:
        return f"its files: {', '.join(names) or 'none'}"
    for file, path in zip(listed, files, strict=True):
        with told(path), open(path, "rb") as opened:
            size = os.fstat(opened.fileno()).st_size
            if size != file.size:
                return f"{file.name} has {file.size} bytes there, {size} now"
            if hashlib.file_digest(opened, "md5").hexdigest() != file.md5:
                return f"{file.name} has another md5 sum"
    return None
