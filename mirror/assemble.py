"""Verified files made into what goes into the tree: unpacked, rewritten, with a manifest.

All of it happens in the fileset's staging directory. What this room returns is the complete list
of moves; carrying them out is mirror.commit's.
"""

import os
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from mirror import disk
from mirror.dirinfo import Places, read_dirinfo
from mirror.errors import IntegrityError
from mirror.fetch import md5_of
from mirror.manifest import Entry
from mirror.plan import FilesetPlan, Kind, PlannedFile
from mirror.rewrite import rewrite_dbinfo, rewrite_dump
from mirror.tree import Stage, Tree
from mirror.unpack import Member, limits_for, unpack

MAX_DIRINFO = 16 * 1024 * 1024
"""Bytes of a dirinfo; it has a line a component, and is read whole."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What the configuration says about putting filesets together."""

    tree: Tree
    data_prefix: str
    unpack: bool
    keep_bundles: bool
    max_expansion: int
    max_unpacked: int


@dataclass(frozen=True, slots=True)
class Assembled:
    """A fileset ready to move into the tree; the directories are relative to MIRROR_ROOT."""

    entries: tuple[Entry, ...]
    info_dir: str
    data_dir: str


def unpack_bundle(rules: Rules, stage: Stage, file: PlannedFile) -> list[Member]:
    """Unpack a verified bundle into staging, the paths in its config dumps made local.

    Returns its members as they stand there. Raises IntegrityError, and leaves nothing of it.
    """
    directory = stage.unpacked / _slot(file)
    disk.remove(directory)
    with disk.told(directory):
        directory.parent.mkdir(exist_ok=True)
    limits = limits_for(file.row.size, rules.max_expansion, rules.max_unpacked)
    members = unpack(stage.fetched / file.row.name, directory, limits)
    try:
        return [
            _localised(rules, stage, directory, member) if member.name.endswith(".mdc") else member
            for member in members
        ]
    except BaseException:
        disk.remove(directory)
        raise


def _slot(file: PlannedFile) -> str:
    """The directory in which a bundle is unpacked: file names are unique in a fileset."""
    return file.row.name


def _localised(rules: Rules, stage: Stage, directory: Path, member: Member) -> Member:
    """Rewrite a config dump in place, keeping its modification time."""
    old = directory / member.name
    new = stage.dumps / directory.name
    with disk.told(old):
        new.parent.mkdir(exist_ok=True)
        seen = old.stat()
        with old.open("rb") as source, new.open("wb") as target:
            rewrite_dump(source, target, rules.data_prefix, member.name)
        os.utime(new, ns=(seen.st_atime_ns, seen.st_mtime_ns))
        os.replace(new, old)
    size, total = _crc_of(old)
    return Member(member.name, size, total)


def assemble(
    rules: Rules,
    stage: Stage,
    product: str,
    fileset: str,
    plan: FilesetPlan,
    members: Mapping[str, list[Member]],
) -> Assembled:
    """Decide where every file of a fileset goes, and write what has to be written for that.

    `members` are those of each unpacked bundle, by the bundle's name. Raises IntegrityError
    where dirinfo does not fit the bundles, or two files would stand in one place.
    """
    tree = rules.tree
    disk.remove(stage.made)
    info = tree.info_dir(product, fileset)
    entries: list[Entry] = []
    if plan.has_dirinfo:
        places = _places(rules, stage, plan)
        for file in plan.files:
            entries += _distributed(rules, stage, info, file, places, members)
        data = f"data/{places.destdir}" if places.destdir else "data"
    else:
        data = tree.plain_dir(product, fileset)
        entries += [_as_served(file, data) for file in plan.files]
    if rules.keep_bundles:
        entries += _kept(stage, tree.store_dir(product, fileset), plan, entries)
    entries += _lists(rules, stage, info, tree.store_dir(product, fileset))
    _check_unique(entries)
    return Assembled(tuple(entries), info, data)


def _places(rules: Rules, stage: Stage, plan: FilesetPlan) -> Places:
    dirinfo = next(file.row for file in plan.files if file.kind is Kind.DIRINFO)
    if dirinfo.size > MAX_DIRINFO:
        raise IntegrityError(f"{dirinfo.name} is larger than {MAX_DIRINFO} bytes")
    with disk.told(stage.fetched):
        data = (stage.fetched / dirinfo.name).read_bytes()
    return read_dirinfo(data, dirinfo.name, rules.data_prefix)


def _distributed(
    rules: Rules,
    stage: Stage,
    info: str,
    file: PlannedFile,
    places: Places,
    members: Mapping[str, list[Member]],
) -> list[Entry]:
    """Where one file of a distribution fileset goes (PROTOCOL section 3)."""
    if file.kind is Kind.BUNDLE:
        directory = places.directory(file.component or "")
        return [
            Entry(
                f"unpacked/{_slot(file)}/{member.name}",
                f"data/{directory}/{member.name}",
                member.size,
                f"crc32:{member.crc32:08x}",
                file.row.name,
            )
            for member in members.get(file.row.name, ())
        ]
    if file.kind is Kind.DBINFO:
        return [_local_dbinfo(stage, info, file, places)]
    return [_as_served(file, info)]


def _local_dbinfo(stage: Stage, info: str, file: PlannedFile, places: Places) -> Entry:
    old = stage.fetched / file.row.name
    new = stage.made / "info" / file.row.name
    with disk.told(new):
        new.parent.mkdir(parents=True, exist_ok=True)
        with old.open("rb") as source, new.open("wb") as target:
            rewrite_dbinfo(source, target, places, file.row.name)
    size, total = _crc_of(new)
    name = file.row.name
    return Entry(f"made/info/{name}", f"{info}/{name}", size, f"crc32:{total:08x}", name)


def _as_served(file: PlannedFile, directory: str, source: str = "fetched") -> Entry:
    row = file.row
    total = f"md5:{row.md5}" if row.md5 else ""
    return Entry(f"{source}/{row.name}", f"{directory}/{row.name}", row.size, total, row.name)


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
            kept.append(_as_served(file, directory, "made/store"))
        else:
            kept.append(_as_served(file, directory))
    return kept


def _lists(rules: Rules, stage: Stage, info: str, store: str) -> list[Entry]:
    """The fileset's list as served; last of all, because it says that the fileset is there."""
    size, total = _crc_of(stage.index)
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
    for target, entry in places.items():
        above = target
        while above := above.rpartition("/")[0]:
            if above in places:
                raise IntegrityError(
                    f"{places[above].origin} has a file where {entry.origin} needs a directory: "
                    f"{above}"
                )


def check_free(root: Path, entries: Iterable[Entry], own: Iterable[Entry]) -> None:
    """Refuse a fileset that would overwrite what is not its own (FAULTS T7).

    `own` are the files of its earlier registration. A file that is there with the same content
    is no conflict: two products may carry the same run. Raises IntegrityError.
    """
    mine = {entry.target for entry in own}
    checked: set[Path] = set()
    for entry in entries:
        path = root / entry.target
        if path.parent not in checked:
            _check_parents(root, path.parent)
            checked.add(path.parent)
        if entry.target in mine or not os.path.lexists(path):
            continue
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


def matches(path: Path, entry: Entry) -> bool:
    """Whether the file at `path` is what the entry says, read whole. Raises LocalError."""
    with disk.told(path):
        if path.stat().st_size != entry.size:
            return False
    kind, _, value = entry.sum.partition(":")
    if kind == "md5":
        return md5_of(path) == value
    return not kind or _crc_of(path)[1] == int(value, 16)


def _crc_of(path: Path) -> tuple[int, int]:
    """Size and CRC-32 of a file."""
    size = total = 0
    with disk.told(path), path.open("rb", buffering=0) as file:
        while piece := file.read(1024 * 1024):
            total = zlib.crc32(piece, total)
            size += len(piece)
    return size, total
