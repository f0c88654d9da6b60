"""status_product: one empty fileset for each mirrored one, in this site's own Data Store.

So a publisher learns what has arrived (PROTOCOL section 4, "Status that comes back"). The server
half registers them, in a process of its own: it says of each report what became of it, and only
that is recorded. A report that was sent and not recorded is sent again as it was, and found there.
"""

from typing import TYPE_CHECKING

from mirror.errors import LocalError
from mirror.halt import Halt
from mirror.records import StatusReport
from mirror.runkit import Run
from mirror.server_half import ask_server, read_answers

if TYPE_CHECKING:
    from formats.mirror_yaml import Config

PAGE = 500
"""Reports that are sent at once."""

MAX_REFUSED = 100
"""Refused reports of one run after which it gives up: something is wrong with all of them."""

REGISTERED, TAKEN, REFUSED = "registered", "taken", "refused"
"""What `addstatus --each` says of a report. Taken: another one has the name."""

Outcomes = list[tuple[StatusReport, str, str]]
"""Reports, what became of each, and why."""


def report_back(one: Run, product: str) -> None:
    """StatusReport what is done, or failed, and was not reported yet; trouble is told, not raised.

    A page is always sent, for a night that ends with its deadline is to be reported too; more of
    them while nothing ends the run. Raises HaltedError on a signal.
    """
    owed = one.state.owed
    refused: set[int] = set()
    while True:
        one.halt.check()
        owed.prepare_reports(PAGE)
        page = [it for it in owed.reports(PAGE + MAX_REFUSED) if it.fileset not in refused][:PAGE]
        if not page:
            return
        try:
            outcomes, trouble = _send(one.config, product, page, one.halt)
        except LocalError as error:
            one.report.fault(f"status_product {product}: {error}")
            return
        _record(one, product, outcomes, refused)
        if trouble:
            one.report.fault(f"status_product {product}: {trouble}; told with the next run")
        if trouble or one.halt.reason or len(refused) >= MAX_REFUSED:
            return


def _record(one: Run, product: str, outcomes: Outcomes, refused: set[int]) -> None:
    """Settle what became of a page; those refused are told."""

    one.state.owed.settle_reports(
        [it for it, what, _ in outcomes if what == REGISTERED],
        [it for it, what, _ in outcomes if what == TAKEN],
    )
    for it, what, reason in outcomes:
        if what == REFUSED:
            refused.add(it.fileset)
            one.report.fault(f"status_product {product}: {reason}", it.product, it.name)


def _send(
    config: "Config", product: str, page: list[StatusReport], halt: Halt
) -> tuple[Outcomes, str | None]:
    """Have a page registered; returns what became of it, and what went wrong beside that.

    Raises LocalError where the server half is not there, or cannot be run.
    """
    arguments = ["addstatus", "--product", product, "--list", "-", "--each"]
    arguments += ["--site", str(config.status_site)] if config.status_site else []
    lines = "".join(f"{it.status_name}|{it.name}|{it.fault}|\n" for it in page)
    answer = ask_server(arguments, lines, halt)
    outcomes = read_answers(answer.said, [(it.status_name, it) for it in page])
    if len(outcomes) == len(page):
        return outcomes, None
    return outcomes, answer.complaint or f"addstatus ended with status {answer.status}"
