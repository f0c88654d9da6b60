"""Where path, resource and stage files are: along OPUS_DEFINITIONS_DIR, a search path like PATH
(OPUS, "Path files"; seed 003).

Of resource files of one name the first that is found counts, so a directory of one's own may come
before the system's. Path files of one name are not meant to be there twice.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path

from mirror.errors import ConfigError

DEFINITIONS = "OPUS_DEFINITIONS_DIR"
"""The environment variable that holds the search path."""

KINDS = {".path": "path", ".resource": "process", ".stage": "stage file"}
"""What each ending is the file of."""

_ROOT_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


def places(environ: Mapping[str, str], beside: Path | None = None) -> list[Path]:
    """The directories to look in: those of the definitions path, then `beside`."""
    along = [Path(part) for part in environ.get(DEFINITIONS, "").split(os.pathsep) if part]
    return along if beside is None else [*along, beside]


def first(file: str, environ: Mapping[str, str], beside: Path | None = None) -> Path | None:
    """The first `file` there is, or None."""
    return next(iter(named(file, environ, beside)), None)


def named(file: str, environ: Mapping[str, str], beside: Path | None = None) -> list[Path]:
    """Every `file` there is, in the order of the places."""
    return [place / file for place in places(environ, beside) if (place / file).is_file()]


def find(
    name: str, ending: str, environ: Mapping[str, str] = os.environ, beside: Path | None = None
) -> Path:
    """Where the file `name` + `ending` is; the ending may be part of the name.

    If it is nowhere, its name in lower case is looked for in the same places, as BLUE may stand
    for blue.path. Raises ConfigError, with the directories, if there is none.
    """
    root, kind = name.removesuffix(ending), KINDS[ending]
    if not _ROOT_NAME.fullmatch(root):
        raise ConfigError([f"{name}: the name of a {kind} expected, like blue or blue{ending}"])
    for file in dict.fromkeys((f"{root}{ending}", f"{root.lower()}{ending}")):
        if found := first(file, environ, beside):
            return found
    there = ", ".join(dict.fromkeys(map(str, places(environ, beside))))
    where = there or f"the directories of {DEFINITIONS}, which is not set"
    raise ConfigError([f"{name}: {root}{ending} expected in {where}, but it is not there"])


def every(ending: str, environ: Mapping[str, str], beside: Path | None = None) -> list[Path]:
    """All files with the ending, the first of each name, sorted by name.

    A place that is not there, or that may not be read, has none.
    """
    found: dict[str, Path] = {}
    for place in places(environ, beside):
        try:
            files = [entry.name for entry in os.scandir(place) if entry.is_file()]
        except OSError:
            continue
        for file in files:
            if file.endswith(ending) and file != ending:
                found.setdefault(file, place / file)
    return [found[file] for file in sorted(found)]
