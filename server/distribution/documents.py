"""The two documents of a distribution fileset: dbinfo and dirinfo (PROTOCOL section 3).

dirinfo says where the files of each component belong, and a mirror needs that for every path in
dbinfo: it has all components that have a path there, even one without a bundle.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from mirror.dirinfo import read_dirinfo
from mirror.disk import flush, told
from mirror.errors import ConfigError, IntegrityError
from mirror.rewrite import without_volume
from server.runs.imported import RunRow
from server.runs.resolve import HOST, host_name
from server.runs.stages import Stage, component

_NONE = "none"


def document_name(kind: str, stage: str, stage_id: int) -> str:
    """The file name of a run's `dbinfo` or `dirinfo`."""
    return f"{kind}.{stage}.{stage_id}.mdc"


def dirinfo(stage: Stage, run: RunRow, rows: Sequence[RunRow]) -> str:
    """The dirinfo of a run; `rows` are those of its component table.

    destdir is the run's workdir without its volume, and each component's directory that of its
    path_base (else of its uri) below that. For raw runs destdir is `none`, and the directories are
    those of uri, which is their file, without the volume.

    Raises ConfigError for a run without workdir and a path outside it, and IntegrityError for
    directories that no mirror would take.
    """
    first, second = ("uri", "path_base") if stage.name == "raw" else ("path_base", "uri")
    paths = {
        component(stage, run, row): str(path)
        for row in rows
        if (path := row.get(first) or row.get(second))
    }
    # A volume may be the whole of a workdir.
    destdir = None if stage.name == "raw" else _local(_workdir(stage, run)) or None
    found = {
        name: _directory(name, path, destdir, run.get("workdir")) for name, path in paths.items()
    }
    text = _text(destdir, found)
    # What is wrong with a directory or a component's name, a mirror would only find out later.
    source = document_name("dirinfo", stage.name, _id(stage, run))
    if read_dirinfo(text.encode("utf-8", "surrogateescape"), source, "/").components != found:
        raise IntegrityError(f"{source}: a name or directory that mdc cannot carry: {found}")
    return text


def _text(destdir: str | None, components: Mapping[str, str]) -> str:
    lines = "".join(f"\t{name}\tSTR\t{directory}\n" for name, directory in components.items())
    return (
        f"destdir METADATA\n\tdestdir\tSTR\t{_NONE if destdir is None else destdir}\nEND\n\n"
        f"components METADATA\n{lines}END\n"
    )


def _id(stage: Stage, run: RunRow) -> int:
    return int(str(run[stage.id_column]))


def _workdir(stage: Stage, run: RunRow) -> str:
    workdir = run.get("workdir")
    if not workdir:
        raise ConfigError(
            [f"{stage.name} run {_id(stage, run)}: has no workdir in {stage.run_table}"]
        )
    return str(workdir)


def _local(path: str) -> str:
    return without_volume(path.replace(HOST, host_name()))


def _directory(name: str, path: str, destdir: str | None, workdir: object) -> str:
    directory = _local(path).rpartition("/")[0]
    if destdir is None:
        if directory:
            return directory
        raise ConfigError([f"component {name}: {path} has no directory below its volume"])
    below = directory.removeprefix(f"{destdir}/")
    if below == directory:
        raise ConfigError(
            [f"component {name}: {path} is in no directory below the run's workdir {workdir}"]
        )
    return below


def write_document(path: Path, scratch: Path, pieces: Iterable[str]) -> None:
    """Write a document whole and durably, first as `scratch` beside it.

    Raises LocalError. Whatever ends it before its time, a signal too, `scratch` is not left.
    """
    try:
        with told(path):
            with open(scratch, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
                file.writelines(pieces)
            flush([scratch])
            os.replace(scratch, path)
    except BaseException:
        with suppress(OSError):
            scratch.unlink()
        raise
    flush([path.parent])
