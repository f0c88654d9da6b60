"""The line that joins the rooms: one run, from the lock to the exit status.

lock → recover → list and queue → transfer → lists of store/ → summary
"""

import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from datetime import time as time_of_day
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from mirror import disk, recover
from mirror.backlog import Listing, queue_product
from mirror.body import Body
from mirror.database import told
from mirror.datastore import DataStore
from mirror.errors import (
    IntegrityError,
    ListError,
    MirrorError,
    RefusedError,
    TransportError,
)
from mirror.halt import Halt, HaltedError
from mirror.listing import Malformed, ProductRow, read_products
from mirror.lock import locked
from mirror.plan import Selection, is_glob, wanted_products
from mirror.report import EXIT_LOCAL, EXIT_UNLISTED, Report
from mirror.state import State
from mirror.tree import Tree

if TYPE_CHECKING:
    from formats.mirror_yaml import Config


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says of a run."""

    products: tuple[str, ...] = ()
    limit: int | None = None
    verify: bool = False
    repair: bool = False


@dataclass(frozen=True, slots=True)
class Run:
    """What one run works with."""

    config: "Config"
    options: Options
    report: Report
    tree: Tree
    state: State
    store: DataStore
    halt: Halt


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
                deadline = deadline_from(config.deadline, datetime.now(), time.monotonic())
                halt = Halt(deadline)
                store = DataStore(config, halt)
                _run_locked(Run(config, options, report, tree, state, store, halt))
            finally:
                state.close()


def _run_locked(one: Run) -> None:
    config, options, report, state = one.config, one.options, one.report, one.state
    state.set_meta("started", report.started)
    trusted = recover.is_same_boot(state)
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
                    _transfer(one, trusted, products, only)
            else:
                _transfer(one, trusted, frozenset(list_products(one)), None)
        except HaltedError as error:
            report.detail(str(error))
        if keep:
            from mirror.storelists import update_lists

            update_lists(one.tree, state, config.hidden_products)
    queued = state.queued()
    for name, count in report.products.items():
        count.queued = queued.get(name, 0)
        count.last_fileset = state.product(name).last_fileset


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
            one.report.fault(f"interrupted by {name}; what is not done stays queued")
            one.store.abort()

    handled = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    before = {number: signal.signal(number, stop) for number in handled}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


# Listing


def list_products(one: Run) -> list[str]:
    """Queue what is new of every wanted product; EXIT_UNLISTED if not one could be listed.

    Returns the wanted products.
    """
    report, state = one.report, one.state
    names, unlisted = choose_products(one)
    selection = Selection(one.config.select, one.config.since)
    listed = 0
    for name in names:
        report.count(name)
        started = time.monotonic()
        try:
            listing = queue_product(one.store, state, name, selection)
        except (TransportError, RefusedError, ListError) as error:
            report.fault(f"cannot be listed: {_advice(error)}", name)
            continue
        except IntegrityError as error:
            report.fault(str(error), name)
            listed += 1
            continue
        listed += 1
        _tell(report, name, listing, time.monotonic() - started)
        state.set_product(state.product(name).id, listed_at=report.started)
    if not listed and (names or unlisted):
        report.status = max(report.status, EXIT_UNLISTED)
    return names


def _advice(error: MirrorError) -> str:
    if isinstance(error, RefusedError) and error.status in (404, 410):
        return f"{error}; is the product's name right, and top_uri?"
    return str(error)


def _tell(report: Report, name: str, listing: Listing, seconds: float) -> None:
    count = report.count(name)
    count.listed, count.new, count.seconds = listing.listed, listing.new, seconds
    for problem in listing.problems:
        report.fault(problem, name)
    if listing.untold:
        report.fault(f"and {listing.untold} more problems of its list", name)
    for notice in listing.notices:
        report.notice(f"{name}: {notice}")
    for hint in listing.hints:
        report.detail(f"{name}: {hint}")


def choose_products(one: Run) -> tuple[list[str], bool]:
    """The products of this run, and whether some could not be had from the root list.

    The root list is asked only where it can tell something: for a glob, or for a product that
    was never listed. So a run without news is one request a product.
    """
    config, options, report, state = one.config, one.options, one.report, one.state
    asked = [name for name in config.products if name not in config.hidden_products]
    needed = any(is_glob(name) or not state.is_known(name) for name in asked)
    trouble = False
    shown: list[str] = [name for name in asked if not is_glob(name)]
    if needed:
        try:
            rows = read_root(one.store, report)
        except (TransportError, RefusedError, ListError) as error:
            report.fault(f"the root list cannot be read: {_advice(error)}")
            trouble = True
            shown = [name for name in shown if state.is_known(name)]
        else:
            shown = [row.name for row in rows]
            for row in rows:
                if any(fnmatchcase(row.name, pattern) for pattern in asked):
                    number = state.product(row.name).id
                    state.set_product(number, type=row.type, description=row.description)
    names, unmatched = wanted_products(shown, asked, config.hidden_products)
    for pattern in unmatched if not trouble else ():
        if state.is_known(pattern):
            names.append(pattern)
            continue
        report.fault(
            f"{pattern}: the root list has no such product (it has {_some(shown)}); a product "
            "that it does not show goes into hidden_products"
        )
        trouble = True
    if options.products:
        names = [n for n in names if any(fnmatchcase(n, glob) for glob in options.products)]
        if not names and not trouble:
            given = ", ".join(options.products)
            report.fault(f"--product {given}: none of the configured products is named so")
    return names, trouble


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:10]) + (", …" if len(names) > 10 else "") if names else "none"


def read_root(store: DataStore, report: Report) -> list[ProductRow]:
    """The rows of the root list; malformed ones are reported."""

    def consume(body: Body) -> tuple[list[ProductRow], list[Malformed]]:
        kind = body.headers.get("content-type", "")
        if "html" in kind.lower():
            raise ListError(f"a list of products expected, not an answer of type {kind!r}")
        rows: list[ProductRow] = []
        malformed: list[Malformed] = []
        for row in read_products(body.chunks()):
            if isinstance(row, Malformed):
                malformed.append(row)
            else:
                rows.append(row)
        return rows, malformed

    rows, malformed = store.read_list([], consume)
    for bad in malformed:
        report.fault(f"line {bad.line} of the root list is malformed: {bad.reason}")
    return rows


# Transfer


def _transfer(
    one: Run, trusted: bool, products: frozenset[str], only: frozenset[int] | None
) -> None:
    """Fetch what is queued of these products, unless there is too little room to begin.

    The rooms behind this are loaded only when there is something for them to do.
    """
    config, options, state = one.config, one.options, one.state
    wanted = sum(left for name, left in state.queued().items() if name in products)
    if options.limit is not None:
        wanted = min(wanted, options.limit)
    if only is not None:
        wanted = min(wanted, len(only))
    if not (wanted or state.hooks()) or _is_too_full(one, wanted):
        return
    from mirror.assemble import Rules
    from mirror.job import Context
    from mirror.progress import Progress
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
        config.connections,
        config.min_free,
        options.limit,
        config.after_fileset,
        config.keep_bundles,
        config.unpack,
        products,
        only,
    )
    progress = Progress(wanted, visible=one.report.terminal)
    one.report.before_lines(progress.clear)
    context = Context(one.store, rules, one.halt, progress, trusted)
    try:
        Transfer(context, settings, state, one.report, number).run()
    finally:
        progress.close()
        one.report.before_lines(lambda: None)


def _is_too_full(one: Run, wanted: int) -> bool:
    free = disk.free_bytes(one.tree.root)
    if not wanted or free >= one.config.resume_free:
        return False
    one.report.fault(
        f"{one.tree.root}: {free} bytes free, less than resume_free ({one.config.resume_free}); "
        f"nothing is fetched, {wanted} filesets stay queued",
        status=EXIT_LOCAL,
    )
    return True
