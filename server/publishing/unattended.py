"""`publish`: publish by itself whatever is finished, as the pipeline's task system did (seed 000).

Round by round: defines publish runs for the finished runs that have one of the labels, does all
that are pending, several at once, and lets failed ones be tried again after a while. Goes on until
it is stopped: at SIGTERM or Ctrl-C it finishes what is in work and exits 0, a second signal ends it
at once. With --once: until nothing is pending, then exit status 1 if there were faults. Several of
these, on one database, share the work.

Without a terminal it prints nothing but faults, one line each on standard error.
"""

import argparse
import math
import os
import select
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from types import FrameType

from mirror.errors import ConfigError, LocalError
from server.catalogue import catalogue
from server.command import about
from server.database import Database
from server.executor import check_scheduler, workers
from server.faults import UNKNOWN, Fault
from server.publishing.attempt import place_of, plan_or_record, record, work_name
from server.publishing.define import RunQuery, define_runs
from server.publishing.posts import RUNS
from server.publishing.runs import (
    PendingQuery,
    PublishRun,
    RevertQuery,
    faulty_runs,
    find_run,
    pending_runs,
    revert,
)
from server.publishing.translate import add_limit_option
from server.publishing.work import Manner, Outcome, PublishTask, publish_files
from server.run_posts import RunPosts
from server.runs.resolve import host_name
from server.site import Site, add_site_options, read_site
from server.store_lock import ConflictError, HeldError, hold_work

BATCH = 500
"""Pending runs that are asked for at once."""


def main(argv: list[str]) -> int:
    """Publish until stopped, or with --once until nothing is pending; returns the exit status."""
    options = _parser().parse_args(argv)
    _check(options)
    check_scheduler(options.scheduler)
    site = read_site(options)
    labels = tuple(options.label)
    with _stoppable() as stop:
        if options.once:
            new = _round(site, labels, options, stop)
            return 1 if _standing(site, labels, options, new) else 0
        while not stop.asked:
            try:
                _round(site, labels, options, stop)
            except LocalError as fault:
                # A database that is started anew comes back, and so does a disk with room.
                _complain(f"{fault}; next try in {options.poll:g} s")
            stop.wait(options.poll)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="publish", allow_abbrev=False, description=about(__doc__),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add = parser.add_argument
    add("--label", action="append", required=True, metavar="LABEL",
        help="publish runs that have this label; may be repeated")  # fmt: skip
    add("--once", action="store_true", help="end when nothing is pending")
    add("--poll", type=float, default=30.0, metavar="SECONDS",
        help="look for news this often (default: %(default)g)")  # fmt: skip
    add("--revert-after", type=float, default=3600.0, metavar="SECONDS",
        help="try what failed again after this time (default: %(default)g)")  # fmt: skip
    add("--jobs", type=int, metavar="N", help="processes at once (default: one a core)")
    add("--scheduler", metavar="tcp://HOST:PORT", help="work on a Dask cluster instead")
    add("-v", "--verbose", action="store_true", help="print each round's summary, terminal or not")
    add_limit_option(parser)
    add_site_options(parser)
    return parser


def _check(options: argparse.Namespace) -> None:
    problems = [
        f"--{name}: {least:g} seconds or more expected, not {value:g}"
        for name, value, least in (
            ("poll", options.poll, 0.1), ("revert-after", options.revert_after, 0.0),
        )
        if not least <= value < math.inf
    ]  # fmt: skip
    if options.jobs is not None and options.jobs < 1:
        problems.append(f"--jobs: 1 or more expected, not {options.jobs}")
    if problems:
        raise ConfigError(problems)


# Being stopped


class _Stop:
    """Whether an end was asked for, and a wait that this cuts short."""

    def __init__(self) -> None:
        self.asked = False
        self._called, self._caller = os.pipe()

    def ask(self, number: int, frame: FrameType | None) -> None:
        """Note a first signal; at the second one unwind, at a third the system ends us."""
        if self.asked:
            for one in (signal.SIGTERM, signal.SIGINT):
                signal.signal(one, signal.SIG_DFL)
            raise SystemExit(128 + number)
        self.asked = True
        os.write(self._caller, b".")

    def wait(self, seconds: float) -> None:
        """Wait so long, or until an end is asked for."""
        select.select([self._called], [], [], seconds)

    def close(self) -> None:
        """Give the descriptors back."""
        os.close(self._called)
        os.close(self._caller)


@contextmanager
def _stoppable() -> Iterator[_Stop]:
    stop = _Stop()
    before = {one: signal.signal(one, stop.ask) for one in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
        stop.close()


# A round


@dataclass(slots=True)
class _Tally:
    """What a round has done.

    `skipped`: runs that others work on, or have done meanwhile. `late`: those whose files are
    made, but whose fileset or product another process held.
    """

    pending: int = 0
    published: int = 0
    faults: int = 0
    skipped: set[int] = field(default_factory=set)
    late: list[tuple[PublishRun, Outcome]] = field(default_factory=list)

    def summary(self) -> str:
        """The round in one line."""
        runs = "1 run" if self.published == 1 else f"{self.published} runs"
        faults = "1 fault" if self.faults == 1 else f"{self.faults} faults"
        return f"published {runs}, {faults}"


def _round(site: Site, labels: tuple[str, ...], options: argparse.Namespace, stop: _Stop) -> int:
    """Define, revert, and do what is pending; returns the number of faults.

    Database and workers are opened for the round, so that neither has to outlive the other's
    troubles.
    """
    tally = _Tally()
    with catalogue(site.database) as database, ExitStack() as opened:
        posts = RunPosts(site, database, RUNS, "publish")
        before = _utc(time.time() - options.revert_after)
        revert(database, RevertQuery(labels=labels, older_than=before))
        define_runs(database, RunQuery(labels=labels))
        while not stop.asked and (runs := _pending(database, labels, tally)):
            if not tally.pending:
                crew = opened.enter_context(workers(options.jobs, options.scheduler))
            tally.pending += len(runs)
            with _Coordinator(database, site, options, stop, tally, posts) as work:
                for task, result in crew.each(publish_files, work.tasks(runs)):
                    work.take(task, result)
            define_runs(database, RunQuery(labels=labels))
        if tally.late:
            with _Coordinator(database, site, options, stop, tally, posts) as work:
                work.again()
        posts.now()
    _clear_progress()
    if tally.late:
        runs_stay = "1 run stays" if len(tally.late) == 1 else f"{len(tally.late)} runs stay"
        _complain(
            f"{runs_stay} pending: another process works on the fileset or the product; the next"
            " call or round tries again"
        )
    if (tally.published or tally.faults) and (options.verbose or sys.stderr.isatty()):
        _complain(tally.summary())
    return tally.faults


def _standing(site: Site, labels: tuple[str, ...], options: argparse.Namespace, new: int) -> bool:
    """Whether runs wait with a fault; tells of those before the `new` ones: nobody else will."""
    with catalogue(site.database) as database:
        standing = len(faulty_runs(database, PendingQuery(labels=labels)))
    if standing > new:
        earlier = standing - new
        runs = "1 run waits" if earlier == 1 else f"{earlier} runs wait"
        _complain(
            f"{runs} with a fault from before (pubtool -listfaults); a call tries it again"
            f" {options.revert_after:g} s after it failed, or after pubtool -revert"
        )
    return standing > 0


def _pending(database: Database, labels: tuple[str, ...], tally: _Tally) -> list[PublishRun]:
    query = PendingQuery(labels=labels, limit=BATCH + len(tally.skipped))
    return [run for run in pending_runs(database, query) if run.pub_id not in tally.skipped]


def _utc(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


class _Coordinator:
    """Holds each run from its planning until it is recorded; the only one with the database."""

    def __init__(
        self, database: Database, site: Site, options: argparse.Namespace, stop: _Stop,
        tally: _Tally, posts: RunPosts,
    ) -> None:  # fmt: skip
        self._database = database
        self._site = site
        # As the original's tasks call publish_file: with --redirect-output.
        self._manner = Manner(log=True, translate_timeout=options.translate_timeout)
        self._stop = stop
        self._tally = tally
        self._held: dict[int, tuple[PublishRun, ExitStack]] = {}
        self._posts = posts

    def __enter__(self) -> "_Coordinator":
        return self

    def __exit__(self, *_: object) -> None:
        for _run, lock in self._held.values():
            lock.close()

    def tasks(self, runs: list[PublishRun]) -> Iterator[PublishTask]:
        """The runs that can be worked on, each held; ends early if an end is asked for."""
        for listed in runs:
            if self._stop.asked:
                return
            if (run := self._hold(listed)) and (task := self._plan(run)):
                yield task

    def again(self) -> None:
        """Try once more to register what another process was in the way of."""
        late, self._tally.late = self._tally.late, []
        for listed, made in late:
            if run := self._hold(listed):
                self._record(run, made)

    def _hold(self, listed: PublishRun) -> PublishRun | None:
        """Hold a run and look again, now that nobody else can work on it; None: nothing to do."""
        pub_id, lock = listed.pub_id, ExitStack()
        try:
            lock.enter_context(hold_work(self._site.root, work_name(pub_id)))
        except HeldError:
            self._tally.skipped.add(pub_id)
            return None
        self._held[pub_id] = (listed, lock)
        run = find_run(self._database, pub_id)
        if run is None or run.state != "new" or run.attempt is not None:
            self._leave(pub_id)
            return None
        return run

    def _leave(self, pub_id: int) -> None:
        """Do no more about a run in this round."""
        self._tally.skipped.add(pub_id)
        self._held.pop(pub_id)[1].close()

    def _plan(self, run: PublishRun) -> PublishTask | None:
        """Plan a run that is held; None: what is wrong with it is recorded."""
        try:
            planned = plan_or_record(self._database, self._site, run, self._manner)
        except ConflictError as error:
            planned = _by_hand(error)
        if isinstance(planned, Fault):
            self._ended(run, planned)
            return None
        return planned

    def take(self, task: PublishTask, result: Outcome | Fault) -> None:
        """Register and record what a worker has made."""
        run = self._held[task.pub_id][0]
        if isinstance(result, Fault):
            result = Outcome(host_name(), 0.0, fault=result)
        self._record(run, result)

    def _record(self, run: PublishRun, result: Outcome) -> None:
        try:
            fault = record(self._database, self._site, run, result).fault
        except HeldError:
            self._tally.late.append((run, result))
            self._leave(run.pub_id)
            return
        except ConflictError as error:
            fault = _by_hand(error)
        self._ended(run, fault)

    def _ended(self, run: PublishRun, fault: Fault | None) -> None:
        if fault:
            self._tally.faults += 1
            _clear_progress()
            _complain(f"publish run {run.pub_id} ({place_of(run)}): {fault.message}")
        else:
            self._tally.published += 1
        self._held.pop(run.pub_id)[1].close()
        self._posts.sometimes()
        _show_progress(self._tally)


def _by_hand(error: ConflictError) -> Fault:
    """Somebody has recorded meanwhile, without the lock, how it went: that stays."""
    return Fault(UNKNOWN, str(error))


# What is said


def _complain(text: str) -> None:
    try:
        print(f"publish: {text}", file=sys.stderr, flush=True)
    except OSError:
        # Nobody listens any more: the work goes on.
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - for good


def _show_progress(tally: _Tally) -> None:
    if sys.stderr.isatty():
        done = tally.published + tally.faults
        print(f"\r\x1b[Kpublishing: {done}/{tally.pending} runs, {tally.faults} faults",
              end="", file=sys.stderr, flush=True)  # fmt: skip


def _clear_progress() -> None:
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)
