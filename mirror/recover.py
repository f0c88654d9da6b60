"""What a run finds of the ones before it: half-moved filesets, leftovers, a lost state."""

import os
from collections.abc import Iterator
from pathlib import Path

from mirror import disk, manifest
from mirror.commit import is_there, move_in
from mirror.errors import IntegrityError, LocalError
from mirror.listing import ProductRow, read_files, read_products
from mirror.manifest import Entry
from mirror.plan import FilesetPlan, Kind, plan_fileset
from mirror.records import DONE, Done, NewFileset
from mirror.report import utc_now
from mirror.state import State
from mirror.tree import DOUBT, Tree


def prepare(tree: Tree, *, store: bool) -> None:
    """Make the directories and see that they will do. Raises LocalError before any download."""
    wanted = [tree.root, tree.private, tree.partial, tree.staging, *tree.visible[: 2 + store]]
    for path in wanted:
        with disk.told(path):
            path.mkdir(parents=True, exist_ok=True)
        if not os.access(path, os.W_OK | os.X_OK):
            raise LocalError(f"{path} cannot be written to: its permissions, or a read-only disk")
    if not disk.same_file_system(wanted):
        raise LocalError(
            f"the directories below {tree.root} are on different file systems, but files must be "
            "renamed between them; put data/, info/, store/ and .mirror/ on one"
        )
    probe = tree.private / "probe"
    disk.write_file(probe, b"")
    disk.remove(probe)


def check_not_lost(tree: Tree, *, begun: bool = False) -> None:
    """Refuse to begin a new state over a tree that has filesets (FAULTS D8).

    `begun`: the state was begun, and knows nothing: a rebuilding was killed.
    """
    there = not begun and tree.state.exists() and tree.state.stat().st_size > 0
    if there or not has_filesets(tree):
        return
    raise LocalError(
        f"{tree.state} is missing or empty, but {tree.root}/info holds filesets; put the file "
        "back, or run update_mirror.py --verify --repair, which builds it anew from the tree"
    )


def has_filesets(tree: Tree) -> bool:
    """Whether the tree holds filesets, whatever the state knows."""
    return next(_info_dirs(tree), None) is not None


def roll_forward(tree: Tree, state: State, *, hook: bool, store: bool) -> list[str]:
    """Complete what a killed run was moving into the tree; returns the filesets' names.

    Where neither staging nor the tree has a file any more, the fileset is queued again.
    """
    done = []
    for fileset in state.committing():
        entries = manifest.unpack(state.manifest(fileset.id))
        stage = tree.stage(fileset.id)
        try:
            move_in(tree.root, [(stage.base, entries)])
        except LocalError:
            gone = [entry for entry in entries if not is_there(tree.root / entry.target, entry)]
            if all(os.path.lexists(stage.base / entry.source) for entry in gone) and gone:
                raise
            state.requeue(fileset.id, None)
            continue
        info = tree.info_dir(fileset.product, fileset.name)
        data = _data_dir(tree, fileset.product, fileset.name, info, entries)
        size = sum(entry.size for entry in entries)
        one = Done(
            fileset.id, len(entries), size, 0.0, info, data, hook, store and fileset.repair is None
        )
        state.finish([one], utc_now())
        done.append(f"{fileset.product}/{fileset.name}")
    return done


def _data_dir(tree: Tree, product: str, name: str, info: str, entries: list[Entry]) -> str:
    """data/DESTDIR, read from the dirinfo that is in the tree, or data/PRODUCT/FILESET."""
    from mirror.dirinfo import read_dirinfo

    plan = _plan_in_tree(tree.root / info)
    for file in plan.files if plan else ():
        if file.kind is Kind.DIRINFO:
            data = (tree.root / info / file.row.name).read_bytes()
            destdir = read_dirinfo(data, file.row.name, "").destdir
            return f"data/{destdir}" if destdir else "data"
    return tree.plain_dir(product, name)


def sweep(tree: Tree, state: State) -> None:
    """Remove what is left in staging and partial of filesets that are no longer queued."""
    for directory in (tree.staging, tree.partial):
        with disk.told(directory):
            left = list(directory.iterdir())
        for path in left:
            if not path.name.isdigit() or not state.is_queued(int(path.name)):
                disk.remove(path)


def doubt_after_boot(tree: Tree, state: State) -> None:
    """Where the machine was started anew since the last run, doubt what that left in staging.

    A power cut may have taken the contents of files whose names are there; each fileset's are
    read again before they are believed, whichever run comes to it.
    """
    now = disk.boot_id()
    if not now or state.meta("boot") != now:
        for path in tree.staging.iterdir():
            if path.is_dir():
                disk.write_file(path / DOUBT, b"")
        state.set_meta("boot", now)


def rebuild(tree: Tree, state: State) -> int:
    """Build a lost state from the tree; returns how many filesets it found.

    A fileset's list in info/ is the last file that moves in, so where it stands the fileset is
    complete. What the list vouches for gets its sum from there; members of bundles and rewritten
    dbinfo were known to the lost state alone, and are not checked until they are fetched again.
    """
    count = 0
    with state.transaction():
        header = state.header_id("")
        for info in _info_dirs(tree):
            product = state.product(info.parent.name)
            plan = _plan_in_tree(info)
            if plan is None:
                continue
            number = state.next_id()
            new = NewFileset(number, info.name, "", "", header, "", DONE)
            state.add(product.id, [new])
            relative = str(info.relative_to(tree.root))
            entries = list(_vouched(tree, info, plan))
            state.rebuilt(number, manifest.pack(entries), relative)
            count += 1
        _find_listed(tree, state)
    return count


def _find_listed(tree: Tree, state: State) -> None:
    """What store/'s root list says of the products, which is to go on from there."""
    try:
        raw = (tree.root / "store" / "index.txt").read_bytes()
    except OSError:
        return
    for row in read_products([raw]):
        if isinstance(row, ProductRow):
            number = state.product(row.name).id
            state.set_product(
                number,
                type=row.type,
                description=row.description,
                stored_last=row.most_recent,
                stored_time=row.registered,
            )


def _vouched(tree: Tree, info: Path, plan: FilesetPlan) -> Iterator[Entry]:
    product, fileset = info.parent.name, info.name
    for file in plan.files:
        row = file.row
        places = []
        if file.kind is Kind.PLAIN:
            places.append(f"{tree.plain_dir(product, fileset)}/{row.name}")
        elif file.kind in (Kind.DIRINFO, Kind.BESIDE):
            places.append(f"{tree.info_dir(product, fileset)}/{row.name}")
        stored = f"{tree.store_dir(product, fileset)}/{row.name}"
        if (tree.root / stored).exists():
            places.append(stored)
        for place in places:
            yield Entry("", place, row.size, f"md5:{row.md5}" if row.md5 else "", row.name)


def _plan_in_tree(info: Path) -> FilesetPlan | None:
    try:
        return plan_fileset(read_files([(info / "index.txt").read_bytes()]))
    except (OSError, IntegrityError):
        return None


def _info_dirs(tree: Tree) -> Iterator[Path]:
    """The directories of info/ that hold a fileset."""
    root = tree.root / "info"
    if root.is_dir():
        yield from sorted(path.parent for path in root.glob("*/*/index.txt"))
