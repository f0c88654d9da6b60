"""Filesets that are ready together move into the tree together (the order is mirror.commit's)."""

import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from mirror import disk, manifest
from mirror.assemble import check_free
from mirror.commit import flush_sources, move_in
from mirror.errors import IntegrityError, LocalError, MirrorError
from mirror.job import Job, manifest_of
from mirror.loop import Loop
from mirror.manifest import Entry
from mirror.records import Done
from mirror.report import utc_now
from mirror.state import State

MOST = 64
"""Filesets that move together at most: what a kill in between leaves to the next run."""

PATIENCE = 0.1
"""Seconds that a fileset waits for others to move in with: a flush costs the same for all."""


@dataclass(slots=True)
class _Group:
    jobs: list[Job]
    refused: list[tuple[Job, MirrorError]] = field(default_factory=list)


class Mover:
    """Takes assembled filesets, tells which of them are done and which failed.

    While one group is being flushed and moved in a thread, the next one gathers.
    """

    def __init__(
        self,
        loop: Loop,
        pool: Executor,
        root: Path,
        state: State,
        done: Callable[[Job], None],
        failed: Callable[[Job, MirrorError], None],
        *,
        hook: bool,
        keep_bundles: bool,
    ) -> None:
        self._loop = loop
        self._pool = pool
        self._root = root
        self._state = state
        self._done = done
        self._failed = failed
        self._hook = hook
        self._keep_bundles = keep_bundles
        self._ready: deque[Job] = deque()
        self._busy = False
        self._since = 0.0

    def add(self, job: Job) -> None:
        """An assembled fileset that is to move in with the next group."""
        if not self._ready:
            self._since = time.monotonic()
        self._ready.append(job)

    def start(self, *, patient: bool) -> None:
        """Begin with those that are ready, if no group is under way.

        `patient`: more may be ready soon, so wait for a worthwhile group, though not for long.
        """
        if self._busy or not self._ready:
            return
        if patient and len(self._ready) < MOST and time.monotonic() < self._since + PATIENCE:
            return
        group = _Group([])
        targets: set[str] = set()
        for _ in range(min(MOST, len(self._ready))):
            job = self._ready.popleft()
            mine = {entry.target for entry in _entries(job)}
            if targets & mine:
                self._ready.append(job)  # when the first stands in the tree, they are compared
            else:
                targets |= mine
                group.jobs.append(job)
        self._busy = True
        work = partial(_flush, self._root, group)
        self._loop.submit(self._pool, work, self._flushed, partial(self._give_up, group))

    def _flushed(self, group: _Group) -> None:
        for job, error in group.refused:
            self._failed(job, error)
        group.refused = []
        if not group.jobs:
            self._busy = False
            return
        self._state.begin_commit(
            (job.fileset.id, manifest.pack(manifest_of(job))) for job in group.jobs
        )
        work = partial(_move, self._root, group)
        self._loop.submit(self._pool, work, self._moved, partial(self._give_up, group))

    def _give_up(self, group: _Group, error: MirrorError) -> None:
        """Flushing or moving failed; what is half-way in is completed by the next run."""
        self._busy = False
        for job, refusal in group.refused:
            self._failed(job, refusal)
        for job in group.jobs:
            self._failed(job, error)

    def _moved(self, group: _Group) -> None:
        self._busy = False
        self._state.finish([self._record(job) for job in group.jobs], utc_now())
        for job in group.jobs:
            self._done(job)

    def _record(self, job: Job) -> Done:
        assert job.assembled is not None
        entries = manifest_of(job)
        return Done(
            job.fileset.id,
            len(entries),
            sum(entry.size for entry in entries),
            time.monotonic() - job.started,
            job.assembled.info_dir,
            job.assembled.data_dir,
            self._hook,
            self._keep_bundles and job.fileset.repair is None,
        )


def _entries(job: Job) -> tuple[Entry, ...]:
    return job.assembled.entries if job.assembled else ()


def _flush(root: Path, group: _Group) -> _Group:
    """Refuse what would overwrite another's files; make the rest durable in staging."""
    good = []
    for job in group.jobs:
        try:
            check_free(root, _entries(job), job.own)
            good.append(job)
        except IntegrityError as error:
            group.refused.append((job, error))
    group.jobs = good
    try:
        flush_sources([(job.stage.base, _entries(job)) for job in good])
    except LocalError:
        # What could not be flushed may be lost from memory too, and the next flush would not
        # tell: it has to come anew (FAULTS D5).
        for job in good:
            with suppress(LocalError):
                disk.remove(job.stage.base)
        raise
    return group


def _move(root: Path, group: _Group) -> _Group:
    move_in(root, [(job.stage.base, _entries(job)) for job in group.jobs])
    for job in group.jobs:
        disk.remove(job.stage.base)
        disk.remove(job.stage.partial)
    return group
