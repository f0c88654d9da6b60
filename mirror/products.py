"""Which products a run is about, and the reading of their lists."""

import time
from collections.abc import Sequence
from fnmatch import fnmatchcase

from mirror.backlog import Listing, queue_product
from mirror.body import Body
from mirror.datastore import DataStore
from mirror.errors import IntegrityError, ListError, MirrorError, RefusedError, TransportError
from mirror.listing import Malformed, ProductRow, read_products
from mirror.plan import Selection, is_glob, wanted_products
from mirror.report import EXIT_UNLISTED, Report
from mirror.runkit import Run


def list_products(one: Run) -> list[str]:
    """Queue what is new of every wanted product; EXIT_UNLISTED if not one could be listed.

    Returns the products to be mirrored: the wanted ones that `select` and `since` fit.
    """
    report, state = one.report, one.state
    names, unlisted = choose_products(one)
    selection = Selection(one.config.select, one.config.since)
    listed = 0
    refused: set[str] = set()
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
            refused.add(name)
            listed += 1
            continue
        listed += 1
        _tell(report, name, listing, time.monotonic() - started)
        state.set_product(state.product(name).id, listed_at=report.started)
    if not listed and (names or unlisted):
        report.status = max(report.status, EXIT_UNLISTED)
    return [name for name in names if name not in refused]


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
    if any(bad.cut for bad in malformed):
        rows, malformed = store.read_list([], consume)
    for bad in malformed:
        report.fault(f"line {bad.line} of the root list is malformed: {bad.reason}")
    return rows
