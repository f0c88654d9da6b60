"""--verify: everything that is done is read again and compared; --repair fetches it anew."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from mirror import manifest, recover
from mirror.assemble import matches
from mirror.datastore import DataStore
from mirror.errors import IntegrityError, ListError, RefusedError, TransportError
from mirror.halt import Halt
from mirror.job import read_raw_list
from mirror.listing import FileRow, read_files
from mirror.manifest import Entry
from mirror.report import Report
from mirror.state import DONE, Fileset, State
from mirror.tree import Tree

if TYPE_CHECKING:
    from formats.mirror_yaml import Config
    from mirror.run import Options


@dataclass(frozen=True, slots=True)
class _Bad:
    """A file of the tree that is not what it ought to be."""

    entry: Entry
    reason: str


def verify(
    config: "Config",
    options: "Options",
    report: Report,
    tree: Tree,
    state: State,
    store: DataStore,
    halt: Halt,
) -> frozenset[int]:
    """Read again what is done, and compare it with the manifests and with upstream's lists.

    Returns the filesets that were queued to be repaired (none without --repair). What is wrong is
    a fault of the run, unless it is repaired.
    """
    if options.repair and not state.products():
        found = recover.rebuild(tree, state)
        if found:
            report.notice(f"the state was built anew from the tree: {found} filesets")
    requeued: set[int] = set()
    upstream = True
    with ThreadPoolExecutor(os.cpu_count() or 1) as readers:
        for fileset in _done(state, options):
            halt.check()
            entries = manifest.unpack(state.manifest(fileset.id))
            checked = readers.map(lambda entry: _check(tree.root, entry), entries)
            bad = [one for one in checked if one]
            report.count(fileset.product).listed += 1
            if upstream:
                upstream = _agrees(report, tree, store, fileset)
            if bad and options.repair:
                _tell(bad, fileset, report.notice)
                state.requeue(fileset.id, {one.entry.origin for one in bad})
                requeued.add(fileset.id)
            elif bad:
                for one in bad:
                    report.fault(one.reason, fileset.product, fileset.name, one.entry.target)
    return frozenset(requeued)


def _done(state: State, options: "Options") -> Iterator[Fileset]:
    for product in state.products():
        wanted = options.products
        if not wanted or any(fnmatchcase(product.name, one) for one in wanted):
            yield from list(state.of_product(product.id, DONE))


def _check(root: Path, entry: Entry) -> _Bad | None:
    path = root / entry.target
    if not path.is_file():
        return _Bad(entry, "is missing")
    if path.stat().st_size != entry.size:
        return _Bad(entry, f"has {path.stat().st_size} bytes, {entry.size} expected")
    if not matches(path, entry):
        return _Bad(entry, f"has other content than was mirrored ({entry.sum} expected)")
    return None


def _tell(bad: list[_Bad], fileset: Fileset, tell: object) -> None:
    assert callable(tell)
    for one in bad:
        tell(f"{fileset.product}/{fileset.name}/{one.entry.target}: {one.reason}; fetched again")


def _agrees(report: Report, tree: Tree, store: DataStore, fileset: Fileset) -> bool:
    """Compare upstream's list of a fileset with ours (FAULTS L11). False if upstream is away."""
    ours = tree.root / tree.info_dir(fileset.product, fileset.name) / "index.txt"
    try:
        theirs = _rows(read_raw_list(store, fileset))
        mine = _rows(ours.read_bytes())
    except TransportError as error:
        report.notice(f"upstream's lists are not compared: {error}")
        return False
    except (RefusedError, ListError, OSError) as error:
        report.detail(f"{fileset.product}/{fileset.name}: not compared with upstream: {error}")
        return True
    if theirs != mine:
        report.fault(
            "upstream lists other files than were mirrored; if it was registered again, a later "
            "run mirrors it anew, otherwise what is here stays as it is",
            fileset.product,
            fileset.name,
        )
    return True


def _rows(raw: bytes) -> set[tuple[str, ...]]:
    try:
        return {row.cells for row in read_files([raw]) if isinstance(row, FileRow)}
    except IntegrityError:
        return set()
