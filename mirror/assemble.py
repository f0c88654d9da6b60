"""Verified files made into what goes into the tree: unpacked, rewritten, with a manifest.

All of it happens in the fileset's staging directory. What this room returns is the complete list
of moves; carrying them out is mirror.commit's.
"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mirror import disk
from mirror.errors import IntegrityError
from mirror.manifest import Entry, as_served
from mirror.plan import FilesetPlan
from mirror.rules import Rules
from mirror.sums import crc_of, matches
from mirror.tree import Stage

if TYPE_CHECKING:
    from mirror.unpack import Member


@dataclass(frozen=True, slots=True)
class Assembled:
    """A fileset ready to move into the tree; the directories are relative to MIRROR_ROOT."""

    entries: tuple[Entry, ...]
    info_dir: str
    data_dir: str


def assemble(
    rules: Rules,
    stage: Stage,
    product: str,
    fileset: str,
    plan: FilesetPlan,
    members: "Mapping[str, list[Member]]",
) -> Assembled:
    """Decide where every file of a fileset goes, and write what has to be written for that.

    `members` are those of each unpacked bundle, by the bundle's name. Raises IntegrityError
    where dirinfo does not fit the bundles, or two files would stand in one place.
    """
    tree = rules.tree
    disk.remove(stage.made)
    info = tree.info_dir(product, fileset)
    if plan.has_dirinfo:
        from mirror.distribution import place

        entries, data = place(rules, stage, info, plan, members)
    else:
        data = tree.plain_dir(product, fileset)
        entries = [as_served(file.row, data) for file in plan.files]
    if rules.keep_bundles:
        entries += _kept(stage, tree.store_dir(product, fileset), plan, entries)
    entries += _lists(rules, stage, info, tree.store_dir(product, fileset))
    _check_unique(entries)
    return Assembled(tuple(entries), info, data)


def _kept(stage: Stage, directory: str, plan: FilesetPlan, entries: Iterable[Entry]) -> list[Entry]:
    """The files as served, for store/: moved there, or copied where the tree needs them too.

    A copy and no link: people edit FITS headers in place, and store/ must stay what was served.
    """
    moved = {entry.source for entry in entries}
    kept = []
    for file in plan.files:
        name = file.row.name
        if f"fetched/{name}" in moved:
            disk.copy(stage.fetched / name, stage.made / "store" / name)
            kept.append(as_served(file.row, directory, "made/store"))
        else:
            kept.append(as_served(file.row, directory))
    return kept


def _lists(rules: Rules, stage: Stage, info: str, store: str) -> list[Entry]:
    """The fileset's list as served; last of all, because it says that the fileset is there."""
    size, total = crc_of(stage.index)
    summed = f"crc32:{total:08x}"
    lists = [Entry("index.txt", f"{info}/index.txt", size, summed, "index.txt")]
    if rules.keep_bundles:
        disk.copy(stage.index, stage.made / "index.txt")
        lists.insert(0, Entry("made/index.txt", f"{store}/index.txt", size, summed, "index.txt"))
    return lists


def _check_unique(entries: Iterable[Entry]) -> None:
    """No two files in one place, and none where another needs a directory (FAULTS T7)."""
    places: dict[str, Entry] = {}
    for entry in entries:
        first = places.setdefault(entry.target, entry)
        if first is not entry:
            raise IntegrityError(
                f"{first.origin} and {entry.origin} both hold a file for {entry.target}"
            )
    for above in {target.rpartition("/")[0] for target in places}:
        while above:
            if above in places:
                raise IntegrityError(
                    f"{places[above].origin} has a file where another needs a directory: {above}"
                )
            above = above.rpartition("/")[0]


def check_free(root: Path, entries: Iterable[Entry], own: Iterable[Entry]) -> None:
    """Refuse a fileset that would overwrite what is not its own (FAULTS T7).

    `own` are the files of its earlier registration. A file that is there with the same content
    is no conflict: two products may carry the same run. Raises IntegrityError.
    """
    mine = {entry.target for entry in own}
    checked: set[str] = set()
    for entry in entries:
        place = f"{root}/{entry.target}"
        directory = os.path.dirname(place)
        if directory not in checked:
            _check_parents(root, Path(directory))
            checked.add(directory)
        if entry.target in mine or not os.path.lexists(place):
            continue
        path = Path(place)
        if path.is_symlink() or not path.is_file():
            raise IntegrityError(f"{entry.target} exists and is no plain file")
        if not matches(path, entry):
            raise IntegrityError(
                f"{entry.target} (from {entry.origin}) exists with other content and belongs to "
                "another fileset, or to nobody; move it away to let this one in"
            )


def _check_parents(root: Path, directory: Path) -> None:
    """Every directory on the way is a real one: a link could lead anywhere."""
    while directory != root:
        if directory.is_symlink():
            # data/, info/ and store/ themselves may be links: the operator's choice.
            if directory.parent == root:
                return
            raise IntegrityError(f"{directory} is a symbolic link, and a directory is expected")
        if os.path.lexists(directory) and not directory.is_dir():
            raise IntegrityError(f"{directory} is a file, and a directory is expected")
        directory = directory.parent
