"""`disttool -run`: all pending work, from components without bundles to registered filesets.

One coordinator owns the database; bundles are written by workers, several runs at once so that
none is idle. A run is held while it is worked on: another coordinator leaves it alone. What is
recorded is done and durable, so whatever instant this is killed at, the next one goes on from
there (PROTOCOL section 4; DESIGN, "When one machine is not enough").
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TypeVar

from mirror.errors import ConfigError, MirrorError
from server.command import interruptible
from server.database import Database, Unavailable
from server.distribution.advance import advance, made_outdir, rows_of
from server.distribution.bundle import (
    GZIP_LEVEL,
    Bundled,
    BundleTask,
    bundle_component,
    scratch_files,
)
from server.distribution.filesets import fileset_name, record_fault, register_fileset
from server.distribution.posts import RUNS
from server.distribution.queue import (
    DistRun,
    PendingFileset,
    Selection,
    held_as,
    list_faults,
    pending_components,
    pending_filesets,
    pending_runs,
    to_advance,
)
from server.distribution.report import Report, tell_standing
from server.distribution.tasks import plan_tasks
from server.executor import check_scheduler, workers
from server.faults import Fault, fault_of
from server.run_posts import RunPosts
from server.runs.resolve import file_resolve
from server.site import Site
from server.store_lock import HeldError, Holds, holds

BATCH = 20
"""Results that are recorded in one transaction: each one waits for the disk."""

BATCH_SECONDS = 1.0
"""How long a result waits for others at most, while any come."""

T = TypeVar("T")


def main_run(
    site: Site,
    database: Database,
    labels: Sequence[str] = (),
    limit: int | None = None,
    jobs: int | None = None,
    gzip_level: int | None = None,
    scheduler: str | None = None,
) -> int:
    """Do what is pending for the runs with these labels, or all; at most `limit` of them.

    `jobs` processes here (default: one a core), or those of the Dask cluster at `scheduler`;
    `gzip_level` 1 to 9. Prints a line of what was done, if anything was, and a line on standard
    error for each fault, and one if some stand from earlier; returns the exit status, 1 if there
    are any. Raises ConfigError for options that are none and where no outdir has a meaning any
    more, and what the database and the workers raise. SIGTERM and Ctrl-C end it after what is done
    has been recorded and told.
    """
    level = GZIP_LEVEL if gzip_level is None else gzip_level
    _check(jobs, level)
    check_scheduler(scheduler)
    selection = Selection(labels=tuple(labels))
    runs = pending_runs(database, selection, limit)
    standing = len(list_faults(database, selection))
    _check_outdirs(site, database, selection, runs)
    if runs:
        _work_off(site, database, runs, level, jobs, scheduler)
    if standing:
        tell_standing(standing)
    return 1 if list_faults(database, selection, 1) else 0


def _work_off(
    site: Site,
    database: Database,
    runs: Sequence[DistRun],
    level: int,
    jobs: int | None,
    scheduler: str | None,
) -> None:
    report = Report(len(runs))
    with interruptible(), holds(site.root) as held:
        coordinator = _Coordinator(site, database, level, report, held)
        try:
            with workers(jobs, scheduler) as pool:
                tasks = coordinator.tasks(runs)
                for task, result in pool.each(bundle_component, tasks):
                    coordinator.take(task, result)
        except MirrorError:
            # What went wrong first is told; this would be no more than its consequence.
            with suppress(MirrorError):
                coordinator.record()
            with suppress(MirrorError):
                report.end()
            raise
        except BaseException:
            coordinator.sweep()
            _end(coordinator, report)
            raise
        _end(coordinator, report)


def _end(coordinator: "_Coordinator", report: Report) -> None:
    try:
        coordinator.record()
    finally:
        report.end()


def _check_outdirs(
    site: Site, database: Database, selection: Selection, runs: Sequence[DistRun]
) -> None:
    """Raises ConfigError where no outdir has a meaning any more: the site's fault, not a run's."""
    # A limit may have left only those runs whose own fault it is.
    if _any_outdir(site, runs) or _any_outdir(site, pending_runs(database, selection)):
        return
    problems = [problem for run in runs[:10] for problem in _outdir_problems(site, run)]
    more = [f"and {len(runs) - 10} runs more"] if len(runs) > 10 else []
    raise ConfigError(
        [*problems, *more, "is this the right site configuration? nothing was changed"]
    )


def _any_outdir(site: Site, runs: Sequence[DistRun]) -> bool:
    return not runs or not all(_outdir_problems(site, run) for run in runs)


def _outdir_problems(site: Site, run: DistRun) -> list[str]:
    try:
        file_resolve(run.outdir, site.roots)
    except ConfigError as error:
        return [f"run {run.dist_id}: {problem}" for problem in error.problems]
    return []


def _check(jobs: int | None, level: int) -> None:
    problems = []
    if not 1 <= level <= 9:
        problems.append(f"-gzip_level: 1 to 9 expected, not {level}")
    if jobs is not None and jobs < 1:
        problems.append(f"-jobs: at least 1 expected, not {jobs}")
    if problems:
        raise ConfigError(problems)


class _Coordinator:
    """The one that knows the database: gives out the tasks of runs, and takes in results."""

    def __init__(
        self, site: Site, database: Database, level: int, report: Report, held: Holds
    ) -> None:
        self._site = site
        self._database = database
        self._level = level
        self._report = report
        self._held = held
        self._left: dict[int, int] = {}
        self._outdirs: dict[int, Path] = {}
        self._results: list[tuple[BundleTask, Bundled | Fault]] = []
        self._recorded = time.monotonic()
        self._posts = RunPosts(site, database, RUNS, "disttool")

    def tasks(self, runs: Iterable[DistRun]) -> Iterator[BundleTask]:
        """The tasks of all runs; a run is begun when the first of its tasks is asked for."""
        for run in runs:
            yield from self._begin(run.dist_id)

    def take(self, task: BundleTask, result: Bundled | Fault) -> None:
        """Take in a result; with that of the last component a run goes on to its filesets."""
        self._results.append((task, result))
        self._left[task.dist_id] -= 1
        is_last = not self._left[task.dist_id]
        late = time.monotonic() - self._recorded > BATCH_SECONDS
        if is_last or late or len(self._results) >= BATCH:
            self.record()
        if is_last:
            del self._left[task.dist_id], self._outdirs[task.dist_id]
            self._finish(task.dist_id)
            self._posts.sometimes()
        self._report.draw()

    def sweep(self) -> None:
        """Remove what workers that were ended have left of bundles they had just begun."""
        for outdir in self._outdirs.values():
            with suppress(OSError):
                for left in scratch_files(outdir):
                    left.unlink(missing_ok=True)

    def _begin(self, dist_id: int) -> list[BundleTask]:
        """Hold a run and plan it; what needs no bundling is done at once."""
        try:
            self._held.take(held_as(dist_id))
        except HeldError:
            # Another coordinator is at it, and will do all of it.
            self._report.runs_left -= 1
            return []
        tasks = self._plan(dist_id)
        if tasks:
            self._left[dist_id] = len(tasks)
            self._outdirs[dist_id] = tasks[0].outdir
        else:
            self._finish(dist_id)
        return tasks

    def _plan(self, dist_id: int) -> list[BundleTask]:
        # Before it was held, another coordinator may have done some of it, or all.
        selection = Selection(dist_id=dist_id)
        names = [one.component for one in pending_components(self._database, selection)]
        current = pending_runs(self._database, selection, 1)
        if not (names and current):
            return []
        planned = _attempt(partial(self._planned, current[0], names))
        if isinstance(planned, Fault):
            self._fault_run(current[0], planned)
            return []
        tasks, faults = planned
        for name, fault in faults.items():
            self._fault_component(dist_id, name, fault)
        return tasks

    def _planned(
        self, dist: DistRun, names: Sequence[str]
    ) -> tuple[list[BundleTask], dict[str, Fault]]:
        stage, run, rows = rows_of(self._database, dist)
        roots = self._site.roots
        outdir = made_outdir(dist, roots)
        return plan_tasks(stage, dist, run, rows, names, outdir, roots, self._level)

    def record(self) -> None:
        """Record the results that have come, in one transaction."""
        self._recorded = time.monotonic()
        if not self._results:
            return
        with self._database.write():
            for task, result in self._results:
                _record_component(self._database, task.dist_id, task.component, result)
        for task, result in self._results:
            if isinstance(result, Fault):
                self._report.component_fault(task.dist_id, task.component, result)
            else:
                self._report.bundled(task.dist_id, result)
        self._results.clear()

    def _fault_component(self, dist_id: int, name: str, fault: Fault) -> None:
        with self._database.write():
            _record_component(self._database, dist_id, name, fault)
        self._report.component_fault(dist_id, name, fault)

    def _fault_run(self, run: DistRun, fault: Fault) -> None:
        with self._database.write():
            self._database.change(
                "UPDATE distRun SET fault = ?, message = ? WHERE dist_id = ?",
                fault.code, fault.message, run.dist_id,
            )  # fmt: skip
        self._report.fault(f"run {run.dist_id}", fault)

    def _finish(self, dist_id: int) -> None:
        """Advance a run if all its components are bundled, and register its filesets."""
        selection = Selection(dist_id=dist_id)
        for run in to_advance(self._database, selection):
            if fault := _attempt(partial(advance, self._database, run, self._site.roots)):
                self._fault_run(run, fault)
            else:
                self._report.advanced += 1
        for pending in pending_filesets(self._database, selection):
            self._register(pending)
        self._held.drop(held_as(dist_id))
        self._report.runs_left -= 1

    def _register(self, pending: PendingFileset) -> None:
        try:
            fault = _attempt(partial(register_fileset, self._site, self._database, pending))
        except HeldError:
            # It stays pending, for the next call.
            self._report.held += 1
            return
        if fault:
            record_fault(self._database, pending, fault)
            name = f"{pending.product}/{fileset_name(pending.run, pending.dest_id)}"
            self._report.fault(f"run {pending.run.dist_id}, fileset {name}", fault)
        else:
            self._report.registered += 1


def _attempt(work: Callable[[], T]) -> T | Fault:
    """Do some work for a run; what goes wrong is a fault of its own and stops no other."""
    try:
        return work()
    except (Unavailable, HeldError):
        # Not the run's fault; and without a database nothing can be recorded.
        raise
    except Exception as error:
        return fault_of(error)


def _record_component(
    database: Database, dist_id: int, component: str, result: Bundled | Fault
) -> None:
    values: tuple[object, ...] = (
        ("full", result.name, result.bytes, result.md5, 0, None)
        if isinstance(result, Bundled)
        else ("new", None, None, None, result.code, result.message)
    )
    database.change(
        """UPDATE distComponent SET state = ?, name = ?, bytes = ?, md5sum = ?, fault = ?,
        message = ? WHERE dist_id = ? AND component = ?""",
        *values, dist_id, component,
    )  # fmt: skip
