"""--status: the state as a table or as the JSON document, without the network."""

from collections.abc import Sequence
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from mirror.database import told
from mirror.errors import LocalError
from mirror.records import Summary
from mirror.report import Count, Fault, make_document, size_text, table, utc_now, write_json
from mirror.state import State
from mirror.tree import Tree

if TYPE_CHECKING:
    from formats.mirror_yaml import Config


def show_status(config: "Config", json: str | None, wanted: Sequence[str] = ()) -> int:
    """Print what is mirrored, queued and failing, of all or of the `wanted` products.

    Returns the exit status.
    """

    def is_wanted(product: str) -> bool:
        return not wanted or any(fnmatchcase(product, glob) for glob in wanted)

    tree = Tree(config.mirror_root)
    if not tree.state.exists():
        raise LocalError(f"{tree.state} is not there: nothing was mirrored yet")
    with told(tree.state):
        state = State.open(tree.state, upgrade=False)
        try:
            summaries = [one for one in state.summaries() if is_wanted(one.product)]
            faults = [
                Fault(one.product, one.name, one.faulty_file, one.fault or "")
                for one in state.faulty()
                if is_wanted(one.product)
            ]
            started = state.meta("started") or utc_now()
        finally:
            state.close()
    if json:
        counts = {one.product: _count(one) for one in summaries}
        write_json(json, make_document(started, utc_now(), 0, counts, faults))
    if json != "-":
        _print(summaries, faults)
    return 0


def _count(one: Summary) -> Count:
    return Count(
        listed=one.listed,
        done=one.done,
        failed=one.failed,
        queued=one.queued,
        bytes=one.bytes,
        seconds=one.seconds,
        last_fileset=one.last_fileset,
    )


def _print(summaries: list[Summary], faults: list[Fault]) -> None:
    header = ("product", "listed", "done", "queued", "failed", "size", "newest", "last fileset")
    rows = [
        (
            one.product, one.listed, one.done, one.queued, one.failed,
            size_text(one.bytes), _age(one.newest), one.last_fileset,
        )
        for one in summaries
    ]  # fmt: skip
    print(table(header, rows))
    for fault in faults:
        print(f"failed: {fault.line()}")


def _age(registered: str | None) -> str | None:
    """How long ago the newest fileset was registered: a list that stands still shows here."""
    if not registered:
        return None
    try:
        then = datetime.strptime(registered, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except ValueError:
        return registered
    days = (datetime.now(UTC) - then).days
    return f"{days} days ago" if days != 1 else "1 day ago"
