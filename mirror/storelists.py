"""The lists of store/: what was mirrored, as a Data Store of its own (with keep_bundles).

A downstream client asks for what comes after the last fileset it saw, so these lists only grow at
their end, by whole batches in upstream's order; a fileset is listed after it stands complete in
store/. Each list is replaced by rename.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from mirror import disk
from mirror.listing import FILESET_COLUMNS, PRODUCT_COLUMNS, format_list, product_values
from mirror.records import Fileset
from mirror.report import utc_now
from mirror.state import State
from mirror.tree import Tree


def update_lists(tree: Tree, state: State, hidden: Sequence[str]) -> None:
    """Add what was done since the last time to the lists; nothing is written without news.

    `hidden` products keep their own list, and are not in the root list here, either.
    Raises LocalError.
    """
    listed: list[int] = []
    for product in state.products():
        filesets = state.to_list(product.id)
        if not filesets:
            continue
        listed += [one.id for one in filesets]
        directory = tree.root / "store" / product.name
        _extend(directory / "index.txt", filesets, tree.private / "index.txt.new")
        last = filesets[-1]
        state.set_product(product.id, stored_last=last.name, stored_time=last.registered)
    if listed or not (tree.root / "store" / "index.txt").exists():
        _write_root(tree, state, hidden)
    if listed:
        # Last of all: after a kill before this, the same filesets are put at the end again.
        with state.transaction():
            state.listed(listed)


def _write_root(tree: Tree, state: State, hidden: Sequence[str]) -> None:
    rows = [
        product_values(
            one.name, one.stored_last, one.stored_time or utc_now(), one.type, one.description
        )
        for one in state.products()
        if one.stored_last and one.name not in hidden
    ]
    path = tree.root / "store" / "index.txt"
    with disk.told(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    disk.replace_file(
        path, format_list(PRODUCT_COLUMNS, rows).encode(), tree.private / "index.txt.new"
    )


def _extend(path: Path, filesets: Iterable[Fileset], new: Path) -> None:
    """Write the list anew with `filesets` at its end, in constant memory, first at `new`."""
    added = {one.name: one for one in filesets}
    with disk.told(new):
        with new.open("w", encoding="utf-8", newline="\n") as out:
            header = ""
            for line in _kept(path, set(added)):
                header = line if line.startswith("#") else header
                out.write(line)
            names = _names(header)
            for one in added.values():
                if _names(_header(one)) != names:
                    out.write(_header(one))
                    names = _names(_header(one))
                out.write(one.row + "\n")
            out.flush()
            os.fsync(out.fileno())
        os.replace(new, path)
    disk.flush([path.parent])


def _kept(path: Path, replaced: set[str]) -> Iterator[str]:
    """The lines of the old list, without rows of filesets that are listed anew."""
    if not path.exists():
        return
    with path.open(encoding="utf-8", newline="\n") as old:
        for line in old:
            if line.startswith("#") or line.split("|", 1)[0].strip() not in replaced:
                yield line


def _header(fileset: Fileset) -> str:
    if fileset.header:
        return fileset.header.strip() + "\n"
    return format_list(FILESET_COLUMNS, [])


def _names(header: str) -> list[str]:
    return [name.strip() for name in header.lstrip("# ").split("|")]
