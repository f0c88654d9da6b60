"""The coordinator: takes filesets from the queue through their tasks into the tree.

It runs in the main thread, owns the state, and reacts to one finished task at a time. Transfers,
unpacking and moving in have a pool of threads each, so that the network, the processors and the
disk work at the same time on different filesets.
"""

import os
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mirror import disk, manifest
from mirror.aftercare import Aftercare
from mirror.errors import IntegrityError, LocalError, MirrorError, RefusedError, TransportError
from mirror.halt import HaltedError
from mirror.job import (
    Context,
    Job,
    Opened,
    assemble_job,
    batches,
    fetch_group,
    open_and_fetch,
    unpack_file,
)
from mirror.loop import Loop
from mirror.mover import Mover
from mirror.plan import Kind, PlannedFile
from mirror.records import MOVING, Fileset
from mirror.report import Report
from mirror.state import State

if TYPE_CHECKING:
    from mirror.blackboard import Poster
    from mirror.unpack import Member

PAGE = 64
"""Filesets taken from the queue at a time."""


@dataclass(slots=True)
class Settings:
    """How this run transfers."""

    connections: int
    min_free: int
    limit: int | None
    hook: tuple[str, ...]
    import_runs: bool
    poster: "Poster | None"
    keep_bundles: bool
    unpack: bool
    products: frozenset[str]
    """The products of this run; what is queued of others stays queued."""

    only: frozenset[int] | None
    """The only filesets to fetch: those that are repaired."""


class Transfer:
    """One run over the queue."""

    def __init__(
        self, context: Context, settings: Settings, state: State, report: Report, run: int
    ) -> None:
        self._context = context
        self._settings = settings
        self._state = state
        self._report = report
        self._run = run
        self._tree = context.rules.tree
        self._halt = context.halt
        self._processors = os.cpu_count() or 1
        self._loop = Loop()
        self._transfers = ThreadPoolExecutor(settings.connections, "transfer")
        self._unpackers = ThreadPoolExecutor(max(2, self._processors), "unpack")
        self._movers = ThreadPoolExecutor(1, "commit")
        self._page: deque[Fileset] = deque()
        self._after = (-1, 0)
        self._exhausted = False
        self._jobs: dict[int, Job] = {}
        self._mover = Mover(
            self._loop,
            self._movers,
            self._tree.root,
            state,
            self._moved,
            self._not_moved,
            hook=bool(settings.hook),
            keep_bundles=settings.keep_bundles,
        )
        self._aftercare = Aftercare(
            self._loop, self._tree.root, state, report, self._halt,
            hook=settings.hook, import_runs=settings.import_runs, poster=settings.poster,
        )  # fmt: skip
        self._transferring = 0
        self._arriving: dict[int, tuple[Path | None, int]] = {}
        self._unfit = 0
        self._flowing = True
        self._begun = 0
        self._tasks = 0
        self._failing = 0
        self._blocked: set[str] = set()

    def run(self) -> None:
        """Work until nothing is left to do, or nothing new is to be started."""
        try:
            self._aftercare.begin()
            while True:
                self._start_more()
                if not self._loop.under_way:
                    break
                self._flowing = self._loop.step()
                self._context.progress.draw()
        finally:
            for pool in (self._transfers, self._unpackers, self._movers):
                pool.shutdown(wait=False, cancel_futures=True)
            self._aftercare.close()

    # Starting

    def _start_more(self) -> None:
        """Keep the transfers busy, and not many more filesets open than that takes."""
        # Where a near server answers at once, processor time is the limit, and more threads only
        # cost more of it.
        near = self._flowing and self._context.store.is_near()
        room = self._processors + 1 if near else 2 * self._settings.connections
        for job in list(self._jobs.values()):
            while job.waiting and self._transferring < room:
                self._fetch(job, job.waiting.popleft())
        most = 4 * self._settings.connections
        opening = 2 if near else room
        opening -= sum(job.plan is None for job in self._jobs.values())
        while (
            opening > 0
            and self._transferring < room
            and len(self._jobs) < most
            and not self._halt.reason
        ):
            opening -= 1
            fileset = self._next_fileset()
            if fileset is None or self._is_full(0):
                break
            self._begin(fileset)
        self._mover.start(patient=self._transferring > 0)
        self._aftercare.start()

    def _next_fileset(self) -> Fileset | None:
        limit = self._settings.limit
        if limit is not None and self._begun >= limit:
            return None
        while True:
            if not self._page and not self._exhausted:
                self._page.extend(self._state.queue(self._run, self._after, PAGE))
                self._exhausted = len(self._page) < PAGE
            if not self._page:
                return None
            fileset = self._page.popleft()
            self._after = (fileset.attempts, fileset.id)
            only = self._settings.only
            if fileset.product in self._blocked or (only is not None and fileset.id not in only):
                continue
            if fileset.product in self._settings.products:
                return fileset

    def _begin(self, fileset: Fileset) -> None:
        self._begun += 1
        own = tuple(manifest.unpack(self._state.manifest(fileset.id)))
        job = Job(fileset, self._tree.stage(fileset.id), own)
        self._jobs[fileset.id] = job
        self._open(job)

    def _open(self, job: Job) -> None:
        self._task(
            self._transfers,
            job,
            partial(open_and_fetch, self._context, job),
            partial(self._opened, job),
            transfer=True,
        )

    def _task(
        self,
        pool: ThreadPoolExecutor,
        job: Job,
        work: Callable[[], Any],
        done: Callable[[Any], None],
        *,
        file: str | None = None,
        transfer: bool = False,
        size: int = 0,
    ) -> None:
        """One task of a fileset; `size` bytes of the disk are spoken for while it runs."""
        job.pending += 1
        self._transferring += transfer
        self._tasks += 1
        number = self._tasks
        if size:
            self._arriving[number] = (job.stage.partial / "files" / file if file else None, size)

        def ended() -> None:
            job.pending -= 1
            self._transferring -= transfer
            self._arriving.pop(number, None)

        def succeeded(result: Any) -> None:
            ended()
            done(result)
            self._advance(job)

        def failed(error: MirrorError) -> None:
            ended()
            self._failed(job, error, file)
            self._advance(job)

        self._loop.submit(pool, work, succeeded, failed)

    # A fileset's own way

    def _opened(self, job: Job, opened: Opened) -> None:
        if job.suspect and not opened.changed:
            job.give_up(*job.suspect)
            return
        job.suspect = None
        job.plan = opened.plan
        for warning in opened.plan.warnings:
            self._report.notice(f"{job.name}: {warning}")
        self._context.progress.opened(sum(file.row.size for file in opened.missing))
        for file in opened.present:
            self._fetched(job, file)
        if opened.failed is None:
            job.waiting.extend(batches(opened.missing))
        else:
            self._fetched_group(job, opened.missing, opened.failed)
            job.assembled = opened.assembled

    def _fetch(self, job: Job, group: tuple[PlannedFile, ...]) -> None:
        size = sum(file.row.size for file in group)
        if self._halt.reason or self._is_full(size):
            job.give_up(HaltedError(self._halt.reason or ""))
            self._advance(job)
            return
        self._task(
            self._transfers,
            job,
            partial(fetch_group, self._context, job, group),
            partial(self._fetched_group, job, group),
            file=group[0].row.name if len(group) == 1 else None,
            transfer=True,
            size=size,
        )

    def _is_full(self, size: int) -> bool:
        """Whether `size` bytes more would leave less than min_free.

        A file that does not fit keeps none from being fetched that does; only where several in a
        row do not, or not one byte would, nothing new is started.
        """
        free = disk.free_bytes(self._tree.root) - self._still_to_come()
        if free - size >= self._settings.min_free:
            self._unfit = 0 if size else self._unfit
            return False
        if not self._unfit:
            self._report.local(
                LocalError(
                    f"{self._tree.root}: {max(0, free)} bytes free, and {size} to come would leave "
                    f"less than min_free ({self._settings.min_free}); free some space, what is "
                    "left stays queued",
                    full=True,
                )
            )
        self._unfit += 1
        if not size or self._unfit > self._settings.connections:
            self._halt.stop("there is no room for more")
        return True

    def _still_to_come(self) -> int:
        """Bytes of the files in work that are not on the disk yet."""
        left = 0
        for path, size in self._arriving.values():
            try:
                left += max(0, size - path.stat().st_size) if path else size
            except OSError:
                left += size
        return left

    def _fetched_group(
        self, job: Job, group: Iterable[PlannedFile], failed: list[tuple[str, MirrorError]]
    ) -> None:
        bad = dict(failed)
        for file in group:
            if file.row.name in bad:
                self._failed(job, bad[file.row.name], file.row.name)
            else:
                self._failing = 0
                job.bytes += file.row.size
                self._fetched(job, file)

    def _fetched(self, job: Job, file: PlannedFile) -> None:
        if file.kind is not Kind.BUNDLE or not self._settings.unpack or job.error:
            return

        def unpacked(members: "list[Member]") -> None:
            job.members[file.row.name] = members

        self._task(
            self._unpackers,
            job,
            partial(unpack_file, self._context, job, file),
            unpacked,
            file=file.row.name,
        )

    def _failed(self, job: Job, error: MirrorError, file: str | None) -> None:
        """Judge a fault: the run's, the product's, a changed list's, or this fileset's."""
        if isinstance(error, LocalError):
            self._local(error)
            job.give_up(HaltedError(str(error)), file)
            return
        if isinstance(error, RefusedError) and error.status in (401, 403):
            self._blocked.add(job.fileset.product)
        explained = isinstance(error, RefusedError | IntegrityError) and file is not None
        if explained and job.plan is not None and not job.relisted and not job.error:
            job.suspect = job.suspect or (error, file or "")
            job.waiting.clear()
            return
        if isinstance(error, TransportError):
            self._unreachable()
        if isinstance(error, RefusedError) and error.status in (404, 410) and job.plan is None:
            # Perhaps it was withdrawn: only the whole list can tell.
            product = self._state.product(job.fileset.product)
            self._state.set_product(product.id, relist=1)
        job.give_up(error, file)

    def _unreachable(self) -> None:
        """A server that answers nothing is not asked for every fileset of a long queue."""
        self._failing += 1
        if self._failing > max(3, self._settings.connections):
            self._halt.stop("the server cannot be reached")

    def _local(self, error: LocalError) -> None:
        """This machine is in the way: told once, and nothing new is started."""
        if not self._halt.reason:
            self._report.local(error)
        self._halt.stop(str(error))

    def _advance(self, job: Job) -> None:
        """What comes next for a fileset, now that one of its tasks has ended."""
        if job.pending or (job.waiting and not job.error):
            return
        if job.error:
            self._end(job)
        elif job.suspect:
            job.relisted = True
            self._open(job)
        elif job.assembled:
            self._mover.add(job)
        elif job.plan:
            self._task(
                self._unpackers,
                job,
                partial(assemble_job, self._context, job),
                partial(setattr, job, "assembled"),
            )

    def _end(self, job: Job) -> None:
        """A fileset that did not get through: it stays queued, with its fault."""
        del self._jobs[job.fileset.id]
        self._context.progress.finished()
        if job.error is None or isinstance(job.error, HaltedError):
            return
        count = self._report.count(job.fileset.product)
        count.failed += 1
        count.seconds += time.monotonic() - job.started
        self._state.fail(job.fileset.id, self._run, str(job.error), job.faulty_file, job.error.step)
        self._report.fault(str(job.error), job.fileset.product, job.fileset.name, job.faulty_file)

    def _moved(self, job: Job) -> None:
        """A fileset is done: durable in the tree, and recorded."""
        fileset = job.fileset
        del self._jobs[fileset.id]
        count = self._report.count(fileset.product)
        count.done += 1
        count.bytes += job.bytes
        count.seconds += time.monotonic() - job.started
        self._context.progress.finished()
        self._report.detail(f"{job.name}: mirrored, {job.bytes} bytes fetched")
        self._aftercare.add(fileset.id)

    def _not_moved(self, job: Job, error: MirrorError) -> None:
        error.step = MOVING
        self._failed(job, error, None)
        self._end(job)
