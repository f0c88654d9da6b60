"""Distribution filesets: bundles unpacked, dbinfo and config dumps made local (PROTOCOL 3).

Loaded only where a fileset has dirinfo: the rooms behind it take longer to load than a small
fileset takes to mirror.
"""

import os
from collections.abc import Mapping
from pathlib import Path

from mirror import disk
from mirror.dirinfo import Places, read_dirinfo
from mirror.errors import IntegrityError
from mirror.manifest import Entry, as_served
from mirror.plan import FilesetPlan, Kind, PlannedFile
from mirror.rewrite import rewrite_dbinfo, rewrite_dump
from mirror.rules import Rules
from mirror.sums import crc_of
from mirror.tree import Stage
from mirror.unpack import Member, limits_for, unpack

MAX_DIRINFO = 16 * 1024 * 1024
"""Bytes of a dirinfo; it has a line a component, and is read whole."""


def unpack_bundle(rules: Rules, stage: Stage, file: PlannedFile) -> list[Member]:
    """Unpack a verified bundle into staging, the paths in its config dumps made local.

    Returns its members as they stand there. Raises IntegrityError, and leaves nothing of it.
    """
    directory = stage.unpacked / _slot(file)
    disk.remove(directory)
    with disk.told(directory):
        directory.parent.mkdir(exist_ok=True)
    limits = limits_for(file.row.size, rules.max_expansion, rules.max_unpacked)
    try:
        members = unpack(stage.fetched / file.row.name, directory, limits)
    except IntegrityError as error:
        # Whoever tells of it names the file.
        raise IntegrityError(str(error).removeprefix(f"{file.row.name}: ")) from None
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
    size, total = crc_of(old)
    return Member(member.name, size, total)


def place(
    rules: Rules,
    stage: Stage,
    info: str,
    plan: FilesetPlan,
    members: Mapping[str, list[Member]],
) -> tuple[list[Entry], str]:
    """Where the files of a fileset go, and its data directory; dbinfo is written with local paths.

    `info` and what is returned are relative to MIRROR_ROOT. Raises IntegrityError where dirinfo
    does not fit the bundles.
    """
    places = _places(rules, stage, plan)
    entries: list[Entry] = []
    for file in plan.files:
        entries += _distributed(rules, stage, info, file, places, members)
    return entries, f"data/{places.destdir}" if places.destdir else "data"


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
    return [as_served(file.row, info)]


def _local_dbinfo(stage: Stage, info: str, file: PlannedFile, places: Places) -> Entry:
    old = stage.fetched / file.row.name
    new = stage.made / "info" / file.row.name
    with disk.told(new):
        new.parent.mkdir(parents=True, exist_ok=True)
        with old.open("rb") as source, new.open("wb") as target:
            rewrite_dbinfo(source, target, places, file.row.name)
    size, total = crc_of(new)
    name = file.row.name
    return Entry(f"made/info/{name}", f"{info}/{name}", size, f"crc32:{total:08x}", name)
