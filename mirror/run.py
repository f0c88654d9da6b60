"""The line that joins the rooms: one run, from the lock to the exit status.

lock → recover → list and queue → transfer → reports and posts → lists of store/ → summary
"""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from datetime import time as time_of_day
from typing import TYPE_CHECKING, Any

from mirror import disk, recover
from mirror.database import told
from mirror.datastore import DataStore
from mirror.errors import LocalError
from mirror.halt import Halt, HaltedError
from mirror.lock import locked
from mirror.products import list_products
from mirror.records import QUEUED
from mirror.report import Report
from mirror.runkit import Options, Run
from mirror.state import State
from mirror.tree import Tree

if TYPE_CHECKING:
    from formats.mirror_yaml import Config
    from mirror.blackboard import Poster


def run(config: "Config", options: Options, report: Report) -> None:
    """Mirror once. What happened is in the report; LockedError and LocalError are raised."""
    tree = Tree(config.mirror_root)
    recover.prepare(tree, store=config.keep_bundles)
    with locked(tree.lock):
        if not (options.verify and options.repair):
            recover.check_not_lost(tree)
        with told(tree.state):
            state = State.open(tree.state)
            try:
                if not state.products() and not (options.verify and options.repair):
                    recover.check_not_lost(tree, begun=True)
                deadline = deadline_from(config.deadline, datetime.now(), time.monotonic())
                halt = Halt(deadline)
                store = DataStore(config, halt)
                _run_locked(Run(config, options, report, tree, state, store, halt))
            finally:
                state.close()


def _run_locked(one: Run) -> None:
    config, options, report, state = one.config, one.options, one.report, one.state
    state.set_meta("started", report.started)
    recover.doubt_after_boot(one.tree, state)
    hook, keep = bool(config.after_fileset), config.keep_bundles
    for name in recover.roll_forward(one.tree, state, hook=hook, store=keep):
        report.detail(f"{name}: completed what an interrupted run had begun to move in")
    recover.sweep(one.tree, state)
    with _signals(one):
        try:
            if options.verify:
                from mirror.verify import verify

                if only := verify(one):
                    products = frozenset(product.name for product in state.products())
                    _transfer(one, products, only)
                    _tell_unrepaired(one, only)
            else:
                poster = _poster(one)
                _transfer(one, frozenset(list_products(one)), None, poster)
                _report_back(one)
                if poster:
                    poster.finish()
        except HaltedError as error:
            report.detail(str(error))
        finally:
            if one.halt.interrupted:
                report.fault(f"{one.halt.reason}; what is not done stays queued")
            queued = state.queued()
            for name, count in report.products.items():
                count.queued = queued.get(name, 0)
                count.last_fileset = state.product(name).last_fileset
        if keep:
            from mirror.storelists import update_lists

            update_lists(one.tree, state, config.hidden_products)


def _poster(one: Run) -> "Poster | None":
    if one.config.blackboard is None:
        return None
    from mirror.blackboard import Poster

    return Poster(one.config.blackboard, one.state, one.report, one.halt)


def _report_back(one: Run) -> None:
    if one.config.status_product:
        from mirror.status_product import report_back

        report_back(one, one.config.status_product)


def _tell_unrepaired(one: Run, only: frozenset[int]) -> None:
    """What was to be repaired and is not, though nothing went wrong with it: it was not begun."""
    for number in only:
        fileset = one.state.by_id(number)
        if fileset.state == QUEUED and fileset.fault is None:
            one.report.fault(
                "is damaged and was not repaired; --verify --repair goes on with it",
                fileset.product,
                fileset.name,
            )


def deadline_from(
    deadline: "time_of_day | timedelta | None", now: datetime, monotonic: float
) -> float | None:
    """When to stop starting things, in time.monotonic(): a local time is its next occurrence."""
    if deadline is None:
        return None
    if isinstance(deadline, timedelta):
        return monotonic + deadline.total_seconds()
    then = now.replace(
        hour=deadline.hour, minute=deadline.minute, second=deadline.second, microsecond=0
    )
    if then <= now:
        then += timedelta(days=1)
    # Through UTC, so that a change to or from summer time before then is counted.
    return monotonic + (then.astimezone() - now.astimezone()).total_seconds()


@contextmanager
def _signals(one: Run) -> Iterator[None]:
    """SIGTERM, SIGINT, SIGHUP: give up what is in work, keep what is verified, then summarise."""

    def stop(number: int, _frame: Any) -> None:
        if not one.halt.interrupted:
            name = signal.Signals(number).name
            one.halt.stop(f"interrupted by {name}", interrupt=True)
            one.store.abort()

    handled = [
        number
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        if signal.getsignal(number) != signal.SIG_IGN  # nohup
    ]
    before = {number: signal.signal(number, stop) for number in handled}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _transfer(
    one: Run,
    products: frozenset[str],
    only: frozenset[int] | None,
    poster: "Poster | None" = None,
) -> None:
    """Fetch what is queued of these products, unless there is too little room to begin.

    The rooms behind this are loaded only when there is something for them to do.
    """
    config, options, state = one.config, one.options, one.state
    wanted = _wanted(one, products, only)
    importing = config.import_runs and only is None
    if not (wanted or state.hooks() or (importing and _has_imports(one))):
        return
    if _is_too_full(one, wanted):
        return
    from mirror.job import Context
    from mirror.progress import Progress
    from mirror.rules import Rules
    from mirror.transfer import Settings, Transfer

    number = int(state.meta("run") or 0) + 1
    state.set_meta("run", str(number))
    rules = Rules(
        one.tree,
        config.data_prefix,
        config.unpack,
        config.keep_bundles,
        config.max_expansion,
        config.max_unpacked,
    )
    settings = Settings(
        connections=config.connections,
        min_free=config.min_free,
        limit=options.limit,
        hook=config.after_fileset,
        import_runs=importing,
        poster=poster,
        keep_bundles=config.keep_bundles,
        unpack=config.unpack,
        products=products,
        only=only,
    )
    progress = Progress(wanted, visible=one.report.terminal)
    one.report.before_lines(progress.clear)
    context = Context(one.store, rules, one.halt, progress)
    try:
        Transfer(context, settings, state, one.report, number).run()
    finally:
        progress.close()
        one.report.before_lines(lambda: None)


def _wanted(one: Run, products: frozenset[str], only: frozenset[int] | None) -> int:
    """How many filesets this run is to fetch."""
    wanted = sum(left for name, left in one.state.queued().items() if name in products)
    if one.options.limit is not None:
        wanted = min(wanted, one.options.limit)
    return wanted if only is None else min(wanted, len(only))


def _has_imports(one: Run) -> bool:
    from mirror.import_runs import is_due

    return is_due(one.tree.root, one.state)


def _is_too_full(one: Run, wanted: int) -> bool:
    free = disk.free_bytes(one.tree.root)
    if not wanted or free >= one.config.resume_free:
        return False
    one.report.local(
        LocalError(
            f"{one.tree.root}: {free} bytes free, less than resume_free "
            f"({one.config.resume_free}); nothing is fetched, {wanted} filesets stay queued",
            full=True,
        )
    )
    return True
