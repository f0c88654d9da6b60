"""What an exit status means for the items of an event; nothing here touches disk or board (OPUS,
"After the command"; seed 004).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from formats.outcomes import (
    CHECK_FILE,
    FATAL,
    FILE_ACTION,
    NULL,
    SUCCESS,
    XPOLL_ERROR,
    FileChange,
    Outcome,
)
from formats.resource_file import ResourceFile

FILE_SUCCESS, FILE_ERROR = "FILE_SUCCESS", "FILE_ERROR"

NOT_STARTED = 127
"""The status of a command that could not be started, as a shell has it: a fatal one."""

_STATUS_LINE = re.compile(r"\s*(?:OSF|EVENT)_STATUS([0-9]{0,6})\s*=\s*'?([0-9]{1,3})'?\s*(?:!.*)?")
_NOTHING = Outcome({}, None)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of one item.

    `letters`: what is written to its entry; `change`: what becomes of its file; None: nothing.
    `back`: it is left as it was before. `action`: FILE_ACTION is run. `error`: why this is an
    error; empty if it is none.
    """

    letters: Mapping[str, str]
    change: FileChange | None = None
    back: bool = False
    action: bool = False
    error: str = ""


@dataclass(frozen=True, slots=True)
class Rules:
    """What a resource file says about exit statuses."""

    states: Mapping[int, str]
    outcomes: Mapping[str, Outcome]

    @classmethod
    def of(cls, resource: ResourceFile) -> "Rules":
        """The rules of a process."""
        return cls(resource.states, resource.outcomes)

    def checks_file(self, status: int) -> bool:
        """Whether the command has written a status for each item."""
        return status not in FATAL and self.states.get(status) == CHECK_FILE

    def verdict(self, status: int) -> Verdict:
        """What a status, of the command or of an item alone, means for an item.

        A negative status is the signal that ended the command. A fatal one is not looked up; that
        xpoll stops for it is its caller's business, see `is_fatal`.
        """
        name = None if is_fatal(status) else self.states.get(status)
        if name is None:
            return self.failed(f"{said(status)} is in no XPOLL_STATE")
        if name == XPOLL_ERROR:
            return self.failed(f"{said(status)} is an XPOLL_ERROR")
        if name == CHECK_FILE:
            return self.failed(f"{said(status)} of an item is CHECK_FILE again")
        if name == NULL:
            return Verdict({}, back=True)
        if name in (SUCCESS, FILE_ACTION):
            return Verdict({}, action=name == FILE_ACTION)
        outcome = self.outcomes.get(name, _NOTHING)
        return Verdict(outcome.osf, outcome.file, action=name == FILE_SUCCESS)

    def failed(self, why: str) -> Verdict:
        """An error: every XPOLL_ERROR.XX is written; for files FILE_ERROR applies.

        Where XPOLL_ERROR itself says what becomes of a file, that comes first.
        """
        general = self.outcomes.get(XPOLL_ERROR, _NOTHING)
        of_files = self.outcomes.get(FILE_ERROR, _NOTHING)
        return Verdict(general.osf, general.file or of_files.file, error=why)


def is_fatal(status: int) -> bool:
    """Whether a status stops xpoll at once."""
    return status in FATAL


def said(status: int) -> str:
    """A status for people."""
    return f"exit status {status}" if status >= 0 else f"end by signal {-status}"


def item_statuses(text: str, items: int) -> list[int | None]:
    """What the command has written into EVENT_STATE_FILE: of each item its status, None where
    there is no line of it, or one that is no status.

    A line is `OSF_STATUS = s` or `EVENT_STATUS = s` for the first item, `…_STATUS1 = s` for the
    second, and so on. A last line without an end is one too; of two for an item the last counts.
    """
    statuses: list[int | None] = [None] * items
    for line in text.splitlines():
        match = _STATUS_LINE.fullmatch(line)
        if not match:
            continue
        number, status = int(match[1] or 0), int(match[2])
        if number < items and status < 256:
            statuses[number] = status
    return statuses


def verdicts(rules: Rules, statuses: list[int | None]) -> list[Verdict]:
    """What becomes of each item after CHECK_FILE."""
    return [
        rules.failed(f"EVENT_STATE_FILE has no status of it, EVENT_STATUS{number or ''} = NN")
        if status is None
        else rules.verdict(status)
        for number, status in enumerate(statuses)
    ]


def substituted(words: list[str], file: str) -> list[str]:
    """FILE_ACTION's words with `^f` and `^F` replaced by a file's name, which stays part of one
    argument whatever is in it."""
    return [re.sub(r"\^[fF]", lambda _: file, word) for word in words]
