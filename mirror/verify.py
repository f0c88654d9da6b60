"""--verify: everything that is done is read again and compared; --repair fetches it anew."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from mirror import manifest, recover
from mirror.errors import (
    IntegrityError,
    ListError,
    LocalError,
    RefusedError,
    TransportError,
)
from mirror.job import read_raw_list
from mirror.listing import FileRow, read_files
from mirror.manifest import Entry
from mirror.records import DONE, Fileset
from mirror.runkit import Options, Run
from mirror.state import State
from mirror.sums import matches


@dataclass(frozen=True, slots=True)
class _Bad:
    """A file of the tree that is not what it ought to be."""

    entry: Entry
    reason: str


def verify(one: Run) -> frozenset[int]:
    """Read again what is done, and compare it with the manifests and with upstream's lists.

    Returns the filesets that were queued to be repaired (none without --repair). What is wrong is
    a fault of the run, unless it is repaired.
    """
    options, report, state = one.options, one.report, one.state
    if options.repair and not state.products():
        found = recover.rebuild(one.tree, state)
        if found:
            report.notice(f"the state was built anew from the tree: {found} filesets")
    names = [product.name for product in state.products()]
    if options.products and not any(
        fnmatchcase(name, glob) for name in names for glob in options.products
    ):
        report.fault(f"--product {', '.join(options.products)}: no such product is mirrored here")
    requeued: set[int] = set()
    filesets = files = 0
    upstream = True
    with ThreadPoolExecutor(os.cpu_count() or 1) as readers:
        for fileset in _done(state, options):
            one.halt.check()
            entries = manifest.unpack(state.manifest(fileset.id))
            checked = readers.map(lambda entry: _check(one.tree.root, entry), entries)
            bad = [file for file in checked if file]
            filesets += 1
            files += len(entries)
            report.count(fileset.product).listed += 1
            if upstream and not any(file.entry.origin == "index.txt" for file in bad):
                upstream = _agrees(one, fileset)
            if bad and options.repair and not (fileset.held or fileset.gone):
                for file in bad:
                    place = f"{fileset.product}/{fileset.name}/{file.entry.target}"
                    report.notice(f"{place}: {file.reason}; fetched again")
                state.requeue(fileset.id, {file.entry.origin for file in bad})
                requeued.add(fileset.id)
            elif bad:
                for file in bad:
                    report.fault(file.reason, fileset.product, fileset.name, file.entry.target)
    for fileset in _waiting(one):
        if options.repair:
            requeued.add(fileset.id)
        else:
            report.fault("is damaged and waits for --repair", fileset.product, fileset.name)
    report.detail(f"read again: {files} files of {filesets} filesets")
    return frozenset(requeued)


def _done(state: State, options: Options) -> Iterator[Fileset]:
    for product in state.products():
        wanted = options.products
        if not wanted or any(fnmatchcase(product.name, one) for one in wanted):
            yield from list(state.of_product(product.id, DONE))


def _waiting(one: Run) -> Iterator[Fileset]:
    """The filesets that an earlier --repair did not come to, or failed to repair."""
    for product in one.state.products():
        wanted = one.options.products
        if not wanted or any(fnmatchcase(product.name, glob) for glob in wanted):
            yield from one.state.to_repair(product.id)


def _check(root: Path, entry: Entry) -> _Bad | None:
    try:
        return _compare(root / entry.target, entry)
    except (LocalError, OSError) as error:
        return _Bad(entry, f"cannot be read: {error}")


def _compare(path: Path, entry: Entry) -> _Bad | None:
    if not path.is_file():
        return _Bad(entry, "is missing")
    if path.stat().st_size != entry.size:
        return _Bad(entry, f"has {path.stat().st_size} bytes, {entry.size} expected")
    if not matches(path, entry):
        return _Bad(entry, f"has other content than was mirrored ({entry.sum} expected)")
    return None


def _agrees(one: Run, fileset: Fileset) -> bool:
    """Compare upstream's list of a fileset with ours (FAULTS L11). False if upstream is away."""
    report = one.report
    ours = one.tree.root / one.tree.info_dir(fileset.product, fileset.name) / "index.txt"
    try:
        theirs = _rows(read_raw_list(one.store, fileset))
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
