"""One fileset in work: what its tasks are, each a function of plain data that touches files.

The tasks run in worker threads and return what they found; mirror.transfer, the coordinator,
decides what comes next and alone talks to the state.
"""

import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from mirror import disk
from mirror.assemble import Assembled, assemble
from mirror.body import Body
from mirror.datastore import DataStore
from mirror.download import Source
from mirror.errors import IntegrityError, ListError, MirrorError
from mirror.fetch import fetch_batch, verified
from mirror.halt import Halt, HaltedError
from mirror.listing import FileRow, read_files
from mirror.manifest import Entry
from mirror.plan import FilesetPlan, Kind, PlannedFile, plan_fileset
from mirror.progress import Progress
from mirror.records import REWRITING, UNPACKING, Fileset
from mirror.rules import Rules
from mirror.tree import DOUBT, Stage

if TYPE_CHECKING:
    from mirror.unpack import Member

MAX_LIST = 64 * 1024 * 1024
"""Bytes of a fileset's list; it is read whole, and has a line a file."""

BATCH = 32
"""Small files that are asked for in one go."""

BATCH_BYTES = 512 * 1024
BATCH_FILE = 128 * 1024
"""Bytes of a batch, and of a file that may be part of one."""


@dataclass(frozen=True, slots=True)
class Context:
    """What the tasks of all filesets share."""

    store: DataStore
    rules: Rules
    halt: Halt
    progress: Progress


@dataclass(slots=True)
class Job:
    """A fileset on its way from the queue into the tree."""

    fileset: Fileset
    stage: Stage
    own: tuple[Entry, ...]
    """What the tree has of an earlier registration of this fileset."""

    plan: FilesetPlan | None = None
    waiting: deque[tuple[PlannedFile, ...]] = field(default_factory=deque)
    members: "dict[str, list[Member]]" = field(default_factory=dict)
    pending: int = 0
    error: MirrorError | None = None
    faulty_file: str | None = None
    suspect: tuple[MirrorError, str] | None = None
    """A fault that a changed list would explain: the list is read again before it counts."""

    relisted: bool = False
    assembled: Assembled | None = None
    bytes: int = 0
    started: float = field(default_factory=time.monotonic)

    @property
    def name(self) -> str:
        """Product and fileset, for messages."""
        return f"{self.fileset.product}/{self.fileset.name}"

    def give_up(self, error: MirrorError, file: str | None = None) -> None:
        """Do nothing more for this fileset; the first error is the one that is told."""
        if self.error is None or isinstance(self.error, HaltedError):
            self.error, self.faulty_file = error, file
        self.waiting.clear()


@dataclass(frozen=True, slots=True)
class Opened:
    """What reading a fileset's list brought: the plan, and which files are still to be fetched."""

    plan: FilesetPlan
    missing: tuple[PlannedFile, ...]
    present: tuple[PlannedFile, ...]
    changed: bool
    failed: list[tuple[str, MirrorError]] | None = None
    """What failed of the missing files, if they were fetched right away; None if they were not."""

    assembled: Assembled | None = None
    """The whole fileset, if there was nothing to unpack either."""


def open_fileset(context: Context, job: Job) -> Opened:
    """Read a fileset's list and see what an earlier run has left of its files."""
    raw = read_raw_list(context.store, job.fileset)
    plan = plan_fileset(read_files([raw]))
    if job.fileset.repair_files is not None:
        _check_same(context, job, plan)
    before = _snapshot(job.stage.index)
    rows = {file.row.name: file.row.cells for file in plan.files}
    with disk.told(job.stage.base):
        job.stage.fetched.mkdir(parents=True, exist_ok=True)
    kept = [file for file in plan.files if before.get(file.row.name) == file.row.cells]
    doubt = job.stage.base / DOUBT
    names = verified(job.stage.fetched, (file.row for file in kept), not doubt.exists())
    if before:
        for path in job.stage.fetched.iterdir():
            if path.name not in names:
                disk.remove(path)
    new = job.stage.base / "index.new"
    disk.write_file(new, raw)
    disk.move(new, job.stage.index)
    disk.remove(doubt)
    wanted = wanted_files(plan, job.fileset.repair_files)
    return Opened(
        plan,
        tuple(file for file in wanted if file.row.name not in names),
        tuple(file for file in wanted if file.row.name in names),
        before != rows,
    )


def open_and_fetch(context: Context, job: Job) -> Opened:
    """Read a fileset's list, and fetch and assemble right away what is small.

    Of thousands of small filesets most of the cost would be handing them from thread to thread.
    """
    opened = open_fileset(context, job)
    groups = batches(opened.missing)
    if len(groups) > 1 or any(file.row.size > BATCH_FILE for file in opened.missing):
        return opened
    failed = fetch_group(context, job, opened.missing) if groups else []
    if failed or any(file.kind is Kind.BUNDLE for file in opened.plan.files):
        return replace(opened, failed=failed)
    job.plan = opened.plan
    return replace(opened, failed=failed, assembled=assemble_job(context, job))


def read_raw_list(store: DataStore, fileset: Fileset) -> bytes:
    """A fileset's list as served. Raises ListError if it is unreasonably long or cut."""

    def consume(body: Body) -> bytes:
        kind = body.headers.get("content-type", "")
        if "html" in kind.lower():
            raise ListError(f"a list of files expected, not an answer of type {kind!r}")
        data = bytearray()
        for chunk in body.chunks():
            data += chunk
            if len(data) > MAX_LIST:
                raise ListError(f"its list is longer than {MAX_LIST} bytes")
        return bytes(data)

    raw = store.read_list([fileset.product, fileset.name], consume)
    if raw and not raw.endswith(b"\n"):
        raw = store.read_list([fileset.product, fileset.name], consume)
    return raw


def _check_same(context: Context, job: Job, plan: FilesetPlan) -> None:
    """A repair takes nothing of another version: what is right stays, so the rest must fit it."""
    theirs = {file.row.name: file.row.cells for file in plan.files}
    sums = {file.row.name: f"md5:{file.row.md5}" for file in plan.files if file.row.md5}
    tree = context.rules.tree
    ours = tree.root / tree.info_dir(job.fileset.product, job.fileset.name) / "index.txt"
    changed = any(
        entry.sum.startswith("md5:") and sums.get(entry.origin) != entry.sum for entry in job.own
    )
    if "index.txt" not in (job.fileset.repair_files or ()):
        changed = changed or _snapshot(ours) != theirs
    if changed:
        raise IntegrityError(
            "upstream lists other files than were mirrored, so it cannot be repaired from there; "
            "what is here stays as it is"
        )


def _snapshot(index: Path) -> dict[str, tuple[str, ...]]:
    """The rows of a list that was kept, by name; none where there is none."""
    try:
        raw = index.read_bytes()
    except OSError:
        return {}
    return {row.name: row.cells for row in read_files([raw]) if isinstance(row, FileRow)}


def wanted_files(plan: FilesetPlan, repair: frozenset[str] | None) -> list[PlannedFile]:
    """The files to fetch: all, or those to be repaired and what their unpacking needs."""
    if repair is None:
        return list(plan.files)
    return [file for file in plan.files if file.row.name in repair or file.kind is Kind.DIRINFO]


def batches(files: Sequence[PlannedFile]) -> list[tuple[PlannedFile, ...]]:
    """Group files for fetching: small ones together, larger ones alone, in the list's order."""
    groups: list[tuple[PlannedFile, ...]] = []
    small: list[PlannedFile] = []
    size = 0
    for file in files:
        if file.row.size > BATCH_FILE:
            groups.append((file,))
            continue
        if len(small) == BATCH or size + file.row.size > BATCH_BYTES:
            groups.append(tuple(small))
            small, size = [], 0
        small.append(file)
        size += file.row.size
    if small:
        groups.append(tuple(small))
    return groups


def fetch_group(
    context: Context, job: Job, group: Sequence[PlannedFile]
) -> list[tuple[str, MirrorError]]:
    """Fetch a group of files, verified; returns the names that failed, and why."""
    if context.halt.reason:
        raise HaltedError(context.halt.reason)
    source = Source(
        context.store,
        job.fileset.product,
        job.fileset.name,
        job.stage.fetched,
        job.stage.partial,
        context.progress.add,
    )
    failed = fetch_batch(source, [file.row for file in group])
    return [(row.name, error) for row, error in failed]


def unpack_file(context: Context, job: Job, file: PlannedFile) -> "list[Member]":
    """Unpack a verified bundle. What cannot be unpacked is not kept, either."""
    from mirror.distribution import unpack_bundle

    with _at_step(UNPACKING):
        try:
            return unpack_bundle(context.rules, job.stage, file)
        except IntegrityError:
            disk.remove(job.stage.fetched / file.row.name)
            raise


def assemble_job(context: Context, job: Job) -> Assembled:
    """Put a fetched and unpacked fileset together: all of it, or what was repaired of it."""
    assert job.plan is not None
    files = tuple(wanted_files(job.plan, job.fileset.repair_files))
    plan = FilesetPlan(files, job.plan.has_dirinfo, ())
    with _at_step(REWRITING):
        return assemble(
            context.rules, job.stage, job.fileset.product, job.fileset.name, plan, job.members
        )


@contextmanager
def _at_step(step: int) -> Iterator[None]:
    """Note in what is raised inside at which step it was."""
    try:
        yield
    except MirrorError as error:
        error.step = step
        raise


def manifest_of(job: Job) -> list[Entry]:
    """The whole manifest of an assembled fileset: of a repaired one, also what was right."""
    assert job.assembled is not None
    new = job.assembled.entries
    if job.fileset.repair_files is None:
        return list(new)
    replaced = {entry.origin for entry in new}
    return [entry for entry in job.own if entry.origin not in replaced] + list(new)
