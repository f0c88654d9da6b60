"""What is on the blackboard: its records, what may be put there, and how states are kept.

Nothing here touches disk or database.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import NamedTuple

from formats.stage_file import NOT_SET, StageFile
from mirror.errors import ConfigError

NO_DCF = "000"
"""The DCF number of an entry for which nobody says another one (OPUS, "The blackboard")."""

LENGTHS = {"dataset": 255, "data_id": 64, "dcf": 64}
"""The most characters of each part of a key."""

STATES = ("idle", "busy", "iowait", "suspended", "halted", "absent")
"""What a process may be (OPUS, "The blackboard")."""

WISHES = ("halt", "suspend", "resume")
"""What may be asked of a process."""

_LETTER = re.compile(r"[!-~]")
_TRIPLE = 3


class Key(NamedTuple):
    """What names an entry: a dataset, its data type, its DCF number."""

    dataset: str
    data_id: str
    dcf: str = NO_DCF

    def __str__(self) -> str:
        """The key as messages and lists have it."""
        return " ".join(self)


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry (OSF). `start`: when it was made, UTC; `states`: of each stage its letter, as it
    was given; "_" where nothing was said. `number`: greater than that of any made before it."""

    key: Key
    start: str
    states: Mapping[str, str]
    number: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Post:
    """Letters that an entry is to have, whether it is there or not. `anew`: one that is there is
    removed first, with every other letter and whoever has claimed it: the dataset came again."""

    key: Key
    states: Mapping[str, str]
    anew: bool = False


@dataclass(frozen=True, slots=True)
class History:
    """A change. `at` is UTC; `what`: created, updated, claimed, returned or deleted; stage and
    letters are None where the change was of no stage."""

    at: str
    host: str
    process: str
    key: Key
    stage: str | None
    before: str | None
    after: str | None
    what: str


@dataclass(frozen=True, slots=True)
class Filter:
    """Which entries: `dataset` is a glob; None: any. States are compared without case."""

    dataset: str | None = None
    data_id: str | None = None
    dcf: str | None = None
    states: Mapping[str, str] = field(default_factory=dict)

    def accepts(self, entry: Entry) -> bool:
        """Whether an entry is wanted."""
        key = entry.key
        return (
            (self.dataset is None or fnmatchcase(key.dataset, self.dataset))
            and self.data_id in (None, key.data_id)
            and self.dcf in (None, key.dcf)
            and all(
                entry.states.get(stage, NOT_SET).upper() == letter.upper()
                for stage, letter in self.states.items()
            )
        )


@dataclass(frozen=True, slots=True)
class Process:
    """A process of the path. `since`: when it came into its state, `started`: both UTC. `wish`:
    what was asked of it last."""

    holder: int
    name: str
    path: str
    host: str
    pid: int
    state: str
    since: str
    working_on: str | None
    started: str
    command: str = ""
    wish: str | None = None


def check_key(key: Key) -> None:
    """Raises ConfigError, with all problems, for a key that no entry may have."""
    problems = []
    for name, text in zip(LENGTHS, key, strict=True):
        if not text or not text.isprintable() or any(one.isspace() for one in text):
            problems.append(
                f"{name}: a name without blanks and control characters expected, not {text!r}"
            )
        elif len(text) > LENGTHS[name]:
            problems.append(
                f"{name}: at most {LENGTHS[name]} characters expected, {text[:40]!r}… has"
                f" {len(text)}"
            )
    if problems:
        raise ConfigError(problems)


def check_stages(stages: StageFile, titles: Iterable[str]) -> None:
    """Raises ConfigError, with all problems, for what is no stage of this path."""
    has = ", ".join(stages.titles()) or "none"
    if problems := [
        f"{title}: a stage of {stages.path} expected; it has {has}"
        for title in titles
        if stages.stage(title) is None
    ]:
        raise ConfigError(problems)


def check_states(stages: StageFile, states: Mapping[str, str]) -> None:
    """Raises ConfigError, with all problems, for stages and letters that this path does not have.

    A letter without a meaning would be waited for by nobody, and the entry stand still unseen.
    """
    check_stages(stages, states)
    problems = []
    for title, letter in states.items():
        stage = stages.stage(title)
        if stage and not (_LETTER.fullmatch(letter) and stage.knows(letter)):
            has = ", ".join((*stage.letters, NOT_SET))
            problems.append(f"{title}={letter}: a letter of {stages.path} expected, one of {has}")
    if problems:
        raise ConfigError(problems)


# How states are kept


def packed(states: Mapping[str, str]) -> str:
    """States as one text: two letters of a title and its state, by title; what is not set is
    left out, so that a stage that is new in the stage file changes no entry."""
    return "".join(
        f"{title}{letter}" for title, letter in sorted(states.items()) if letter != NOT_SET
    )


def unpacked(text: str, titles: Iterable[str]) -> dict[str, str]:
    """The states of all `titles`, in their order, out of the text that `packed` made."""
    kept = {text[at : at + 2]: text[at + 2] for at in range(0, len(text), _TRIPLE)}
    return {title: kept.get(title, NOT_SET) for title in titles}


def merged(text: str, changes: Mapping[str, str]) -> str:
    """The packed states after `changes`; a stage that the stage file has lost keeps its state."""
    kept = {text[at : at + 2]: text[at + 2] for at in range(0, len(text), _TRIPLE)}
    return packed(kept | dict(changes))


def pattern_of(data_id: str, states: str) -> str:
    """What entries of one type in the same states have in common, whatever the case of letters."""
    triples = (states[at : at + _TRIPLE] for at in range(0, len(states), _TRIPLE))
    return f"{data_id} " + "".join(f"{one[:2]}{one[2].upper()}" for one in triples)


def fits(pattern: str, columns: Mapping[str, str]) -> bool:
    """Whether entries of a pattern have these stages in these states."""
    text = pattern.rpartition(" ")[2]
    kept = {text[at : at + 2]: text[at + 2] for at in range(0, len(text), _TRIPLE)}
    return all(kept.get(title, NOT_SET) == letter.upper() for title, letter in columns.items())
