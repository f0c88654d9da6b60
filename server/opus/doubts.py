"""What a resource file says that can be read, and is likely not meant: for opus-check, and the
directories for xpoll too.
"""

import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from difflib import get_close_matches

from formats.outcomes import CHECK_FILE, XPOLL_ERROR
from formats.path_file import PathFile
from formats.resolution import ENV, environment_of, resolve
from formats.resource_file import ResourceFile, split_command
from formats.triggers import FileTrigger
from mirror.errors import ConfigError
from server.opus.waking import own_suffixes

HOME = "OPUS_HOME_DIR"
"""Where logs and EVENT_STATE_FILE are; the command sees it too."""

KNOWN = (
    "TASK", "COMMAND", "POLLING_TIME", "CLASS", "DESCRIPTION", "SYSTEM", "DISPLAY_ORDER",
    "PROCESS_NAME", "TIME_RANK", "START_TIME", "DELTA_TIME", "FILE_RANK", "FILE_DIRECTORY",
    "FILE_OBJECT", "FILE_PROCESSING", "FILE_SUCCESS", "FILE_ERROR", "FILE_MAXTARGS", "FILE_ABSENT",
    "FILE_ACTION", "FILE_ACTION_OK", "OSF_RANK", "OSF_TRIGGER", "OSF_PROCESSING", "OSF_ABSENT",
    "XPOLL_STATE", "XPOLL_ERROR", "XPOLL_ERROR_COUNT", "OUTPATH", "MINBLOCKS", "RESUME_BLOCKS",
    "PASSWORD", "PASSWORD_PROMPT",
)  # fmt: skip
"""The keywords that mean something here, without numbers (OPUS, "Process resource files")."""

_ALIKE = 0.85
_SET = re.compile(r"(?:OSF|FILE|XPOLL)_")


def doubts(resource: ResourceFile, paths: PathFile, environ: Mapping[str, str]) -> list[str]:
    """What is told as a warning, each with file, line and keyword."""
    said = [*_misspelt(resource), *_command(resource, paths, environ), *_made_again(resource)]
    with suppress(ConfigError):  # told as a problem already
        said += homeless_state_file(resource, paths, environ)
    for name, value in _directories(resource, paths, environ):
        if not os.path.isabs(value):
            if name.startswith(ENV) or os.path.isdir(value):
                said.append(f"{_where(resource, name)}: {_unbound(value, paths)}")
        elif name == "OUTPATH" and resource.min_blocks is not None and not os.path.isdir(value):
            said.append(
                f"{_where(resource, name)}: {value} is not there; with MINBLOCKS the process waits"
                " until it is"
            )
    return said


def unbound_directories(
    resource: ResourceFile, paths: PathFile, environ: Mapping[str, str]
) -> list[str]:
    """Directories that nothing has bound (OPUS, rule 4) and that are not there: a file would go to
    wherever the process was started."""
    return [
        f"{_where(resource, name)}: {_unbound(value, paths)}"
        for name, value in _directories(resource, paths, environ)
        if not (name.startswith(ENV) or os.path.isabs(value) or os.path.isdir(value))
    ]


def homeless_state_file(
    resource: ResourceFile, paths: PathFile, environ: Mapping[str, str]
) -> list[str]:
    """An EVENT_STATE_FILE of which nobody says where it is."""
    given = environment_of(resource, paths, environ)
    name, home = given.get("EVENT_STATE_FILE"), given.get(HOME) or environ.get(HOME)
    if CHECK_FILE not in resource.states.values() or not name or home or os.path.isabs(name):
        return []
    where = _where(resource, "ENV.EVENT_STATE_FILE")
    return [f"{where}: {HOME} is not set, the directory of {name}; set it, or give a full path"]


def _unbound(value: str, paths: PathFile) -> str:
    return f"{value!r} is no keyword of {paths.path} and no absolute directory"


def _directories(
    resource: ResourceFile, paths: PathFile, environ: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
    """Each keyword that stands for a directory, and its value; one without is a problem already."""
    for name in resource.by_name:
        key = name.removeprefix(ENV)
        place = key == "OUTPATH" or key.startswith("FILE_DIRECTORY")
        if not place and not key.endswith(".DIRECTORY"):
            continue
        try:
            yield name, resolve(resource, paths, name, environ).value
        except ConfigError:
            continue


def _misspelt(resource: ResourceFile) -> Iterator[str]:
    """Keywords that nothing reads: much like one that is read, or a set that no status names."""
    used = {*resource.states.values(), *KNOWN, XPOLL_ERROR}
    told = set()
    for name in resource.by_name:
        head, dot, _ = name.partition(".")
        plain = head.rstrip("0123456789")
        if name.startswith(ENV) or {head, plain} & used or head in told:
            continue
        told.add(head)
        if alike := get_close_matches(plain, KNOWN, 1, _ALIKE):
            yield f"{_where(resource, name)}: is {alike[0]} meant? nothing reads {head}"
        elif dot and _SET.match(head):
            yield f"{_where(resource, name)}: no XPOLL_STATE names {head}; it does nothing"


def _command(resource: ResourceFile, paths: PathFile, environ: Mapping[str, str]) -> Iterator[str]:
    """A COMMAND that cannot be run from here."""
    if not resource.external or resource.find("COMMAND") is None:
        return
    try:
        program = split_command(resolve(resource, paths, "COMMAND", environ).value)[0]
        along = environment_of(resource, paths, environ).get("PATH", environ.get("PATH"))
    except (ConfigError, ValueError):
        return
    where = _where(resource, "COMMAND")
    if os.sep in program and not os.path.isabs(program):
        yield f"{where}: {program} begins wherever the process is started; a full path expected"
    elif shutil.which(program, path=along) is None:
        yield f"{where}: {program} is not there, or cannot be run"


def _made_again(resource: ResourceFile) -> Iterator[str]:
    """A pattern that asks for what the process itself leaves."""
    for trigger in resource.triggers:
        if not isinstance(trigger, FileTrigger):
            continue
        for search in trigger.searches:
            for suffix in own_suffixes(resource, trigger):
                if search.pattern.endswith(suffix):
                    name = search.keyword.replace("DIRECTORY", "OBJECT")
                    yield (
                        f"{_where(resource, name)}: {search.pattern} asks for files that this"
                        f" process itself has given {suffix}; they come again and again"
                    )


def _where(resource: ResourceFile, name: str) -> str:
    keyword = resource.find(name)
    return resource.where(keyword) if keyword else f"{resource.path}: {name}"
