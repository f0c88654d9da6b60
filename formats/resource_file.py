"""OPUS process resource files: what wakes a process, what it runs, and what becomes of it after
(OPUS, "Process resource files"; seed 004).

Read with a path file, every value is the one that the process sees on that path; without one, as
it was written. What depends on the environment of the moment (directories, the command and what
is in its environment) is asked for when it is needed: resolution.resolve.
"""

import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from formats import definitions
from formats.keywords import read_keyword_file
from formats.outcomes import CHECK_FILE, FILE_ACTION, Outcome, read_outcomes, read_states
from formats.path_file import PathFile
from formats.resolution import ENV, Resource
from formats.seen_values import SeenValues, see_values
from formats.triggers import FileTrigger, Trigger, read_triggers
from mirror.errors import ConfigError

DEFAULT_CLASS = "PRO"
BLOCK = 512
"""Bytes of a block of MINBLOCKS and RESUME_BLOCKS."""


@dataclass(frozen=True, slots=True)
class Display:
    """How a process is shown: `class_` is the CLS column, the other texts may be empty."""

    class_: str
    system: str
    order: int
    description: str
    process_name: str


@dataclass(frozen=True, slots=True)
class ResourceFile(Resource):
    """A resource file that was read, and what it means.

    `external`: TASK runs xpoll, which runs COMMAND. `polling_time` in seconds. `triggers`: lowest
    rank first. `states`: exit status to the name of a set; `outcomes`: the sets. `error_count`:
    errors that are borne; None: any number. `min_blocks`, `resume_blocks`: 512-byte blocks, the
    latter by default the former; None: no guard. `action_ok`: what FILE_ACTION must return.
    `password_prompt`: None if no password is asked for. What only a path file can tell, and there
    is none, is None or left out too.
    """

    external: bool
    polling_time: float | None
    triggers: tuple[Trigger, ...]
    states: Mapping[int, str]
    outcomes: Mapping[str, Outcome]
    error_count: int | None
    min_blocks: int | None
    resume_blocks: int | None
    action_ok: int | None
    password_prompt: str | None
    display: Display

    def sort_key(self) -> tuple[str, int, str]:
        """Processes are shown by SYSTEM, then DISPLAY_ORDER, then name."""
        return self.display.system, self.display.order, self.name


def read_resource_file(
    path: str | os.PathLike[str],
    paths: PathFile | None = None,
    environ: Mapping[str, str] | None = None,
) -> ResourceFile:
    """Read a resource file, as its process sees it on the path `paths`, if that is given.

    `environ` is by default that of the path file. Raises ConfigError with every problem of the
    file: its syntax, what is missing, numbers, times, letters and ranks that are none, triggers
    without their partners, values that name what is not there.
    """
    resource, problems = examine_resource_file(path, paths, environ)
    if problems:
        raise ConfigError(problems)
    return resource


def examine_resource_file(
    path: str | os.PathLike[str],
    paths: PathFile | None = None,
    environ: Mapping[str, str] | None = None,
) -> tuple[ResourceFile, list[str]]:
    """As read_resource_file, but returns what could be read, and every problem.

    Raises ConfigError only if the file cannot be opened.
    """
    path = Path(path)
    read = read_keyword_file(path, "a process resource file")
    values = see_values(Resource(path, read.by_name, read.warnings), paths, environ)
    values.problems[:0] = read.problems
    if path.suffix != ".resource":
        values.problems.append(f"{path}: a file name that ends in .resource expected")
    return _meaning(values), list(dict.fromkeys(values.problems))


def find_resource_file(
    process: str, environ: Mapping[str, str] = os.environ, beside: Path | None = None
) -> Path:
    """Where PROC.resource is, for `g2f` or `g2f.resource`: along OPUS_DEFINITIONS_DIR, then in
    `beside`; if it is nowhere, proc.resource in lower case. The first one counts.

    Raises ConfigError, with the directories, if there is none.
    """
    return definitions.find(process, ".resource", environ, beside)


def split_command(text: str) -> list[str]:
    """A COMMAND, TASK or FILE_ACTION as its words, quoted as for a shell, which never sees them.

    Raises ValueError if there is none, or a quotation does not end.
    """
    words = shlex.split(text)
    if not words:
        raise ValueError("a command expected, there is none")
    return words


def _meaning(values: SeenValues) -> ResourceFile:
    triggers, states = read_triggers(values), read_states(values)
    outcomes = read_outcomes(values, states)
    external = _runs_xpoll(values)
    if external:
        _check_external(values, triggers)
    polling_time = _polling_time(values)
    min_blocks, resume_blocks = _blocks(values)
    action_ok = _action_status(values, triggers)
    prompt = _password_prompt(values)
    error_count = values.whole("XPOLL_ERROR_COUNT")
    display = _display(values)
    _check_environment(values)
    _check_state_file(values, states)
    written = values.resource
    return ResourceFile(
        written.path, written.by_name, tuple(dict.fromkeys((*written.warnings, *values.warnings))),
        external, polling_time, triggers, states, outcomes, error_count, min_blocks,
        resume_blocks, action_ok, prompt, display,
    )  # fmt: skip


def _command(values: SeenValues, name: str) -> list[str]:
    """The words of a command; what is wrong with it becomes a problem."""
    text = values.text(name)
    if text is None:
        return []
    try:
        return split_command(text)
    except ValueError as error:
        values.wrong(name, f"a command and its words expected, not {text!r}: {error}")
        return []


def _runs_xpoll(values: SeenValues) -> bool:
    """Whether TASK runs xpoll; if not, the process knows by itself what to do."""
    if "TASK" not in values:
        values.missing("TASK", "how the process starts: < xpoll -p $PATH_FILE -r PROC >")
        return False
    words = _command(values, "TASK")
    runs = any(os.path.basename(word) == "xpoll" for word in words)
    named = words[words.index("-r") + 1 :][:1] if runs and "-r" in words else []
    if named and named[0].casefold() != values.resource.name.casefold():
        values.doubt("TASK", f"-r {values.resource.name} expected, not -r {named[0]}")
    return runs


def _check_external(values: SeenValues, triggers: tuple[Trigger, ...]) -> None:
    """What xpoll needs besides: a command, what its exit statuses mean, and a trigger."""
    if "COMMAND" not in values:
        values.missing("COMMAND", "what xpoll runs")
    _command(values, "COMMAND")
    if not any(name.startswith("XPOLL_STATE.") for name in values.names()):
        values.missing("XPOLL_STATE.NN", "what the exit statuses of COMMAND mean")
    ranks = ("TIME_RANK", "FILE_RANK", "OSF_RANK")
    if not triggers and not any(rank in values for rank in ranks):
        values.missing(" or ".join(ranks), "nothing else wakes the process")


def _polling_time(values: SeenValues) -> float | None:
    if "POLLING_TIME" not in values:
        values.missing("POLLING_TIME", "seconds between two looks for an event")
    return values.seconds("POLLING_TIME")


def _blocks(values: SeenValues) -> tuple[int | None, int | None]:
    """MINBLOCKS and RESUME_BLOCKS, which go with OUTPATH."""
    least, resume = values.whole("MINBLOCKS"), values.whole("RESUME_BLOCKS")
    if "MINBLOCKS" in values and "OUTPATH" not in values:
        values.missing("OUTPATH", "on whose device MINBLOCKS must be free")
    if "RESUME_BLOCKS" in values and "MINBLOCKS" not in values:
        values.missing("MINBLOCKS", "without it RESUME_BLOCKS means nothing")
    if least is not None and resume is not None and resume < least:
        values.doubt("RESUME_BLOCKS", f"at least MINBLOCKS ({least}) expected, else it waits again")
    return least, least if resume is None else resume


def _action_status(values: SeenValues, triggers: tuple[Trigger, ...]) -> int | None:
    """FILE_ACTION_OK; FILE_ACTION itself must be a command, and wants a file trigger."""
    _command(values, FILE_ACTION)
    if FILE_ACTION in values and not any(isinstance(one, FileTrigger) for one in triggers):
        values.doubt(FILE_ACTION, "without a file trigger it is never run")
    if "FILE_ACTION_OK" in values and FILE_ACTION not in values:
        values.doubt("FILE_ACTION_OK", "means nothing without FILE_ACTION")
    return values.whole("FILE_ACTION_OK", 0, 255)


def _password_prompt(values: SeenValues) -> str | None:
    """The prompt, possibly empty, if a password is asked for."""
    if "PASSWORD" in values:
        return values.text("PASSWORD_PROMPT", "")
    if "PASSWORD_PROMPT" in values:
        values.doubt("PASSWORD_PROMPT", "means nothing without PASSWORD")
    return None


def _display(values: SeenValues) -> Display:
    return Display(
        class_=values.text("CLASS") or DEFAULT_CLASS,
        system=values.text("SYSTEM") or "",
        order=values.whole("DISPLAY_ORDER") or 0,
        description=values.text("DESCRIPTION") or "",
        process_name=values.text("PROCESS_NAME") or values.resource.name,
    )


def _check_environment(values: SeenValues) -> None:
    """ENV. is followed by the name of an environment variable."""
    for name in values.resource.by_name:
        if name == ENV:
            values.wrong(name, "the name of an environment variable expected after ENV.")


def _check_state_file(values: SeenValues, states: Mapping[int, str]) -> None:
    """CHECK_FILE reads the file that EVENT_STATE_FILE names in the command's environment."""
    for status, name in states.items():
        if name == CHECK_FILE and f"{ENV}EVENT_STATE_FILE" not in values.resource.by_name:
            values.doubt(
                f"XPOLL_STATE.{status:02}",
                "CHECK_FILE reads the file that ENV.EVENT_STATE_FILE names, which is not given",
            )
