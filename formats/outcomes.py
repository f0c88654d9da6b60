"""What becomes of an event after the command: its exit status names a set of keywords to apply
(OPUS, "After the command"; seed 004).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from formats.seen_values import TITLE, SeenValues

SUCCESS, NULL, CHECK_FILE = "SUCCESS", "NULL", "CHECK_FILE"
XPOLL_ERROR, FILE_ACTION = "XPOLL_ERROR", "FILE_ACTION"

SPECIAL = (SUCCESS, NULL, CHECK_FILE, XPOLL_ERROR, FILE_ACTION)
"""The values of XPOLL_STATE that mean something without a set of keywords of that name."""

FATAL = range(100, 128)
"""Exit statuses with which xpoll stops at once; they are not looked up."""

_STATUS = re.compile(r"[0-9]{2}|1[0-9]{2}|2[0-4][0-9]|25[0-5]")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True)
class FileChange:
    """A file gets `suffix` in place of its processing suffix, or moves to `directory` with it.

    One of the two is None. `directory` is what `keyword` stood for when the file was read;
    resolve(…, keyword) says it now.
    """

    keyword: str
    suffix: str | None
    directory: str | None


@dataclass(frozen=True, slots=True)
class Outcome:
    """A set of keywords: the letters for stages of an entry, and what becomes of a file."""

    osf: Mapping[str, str]
    file: FileChange | None


def read_states(values: SeenValues) -> dict[int, str]:
    """The name of the set that each exit status (0 to 255) maps to."""
    states: dict[int, str] = {}
    for name in values.names():
        head, _, number = name.partition(".")
        if head != "XPOLL_STATE":
            continue
        if not _STATUS.fullmatch(number):
            values.wrong(name, "XPOLL_STATE.NN expected, NN an exit status of two digits, 00 to 99")
            continue
        status, mapped = int(number), values.text(name)
        if status in FATAL:
            values.doubt(name, "statuses 100 to 127 stop xpoll at once; they are not looked up")
        if mapped is None:
            continue
        if _NAME.fullmatch(mapped):
            states[status] = mapped
        else:
            values.wrong(name, f"the name of a set of keywords expected, not {mapped!r}")
    return states


def read_outcomes(values: SeenValues, states: Mapping[int, str]) -> dict[str, Outcome]:
    """The sets that exit statuses map to, and XPOLL_ERROR, FILE_SUCCESS and FILE_ERROR if given.

    A set without any keyword does nothing: that is a warning.
    """
    parts: dict[str, list[str]] = {}
    for name in values.names():
        parts.setdefault(name.partition(".")[0], []).append(name)
    outcomes: dict[str, Outcome] = {}
    for name in dict.fromkeys((*states.values(), XPOLL_ERROR, "FILE_SUCCESS", "FILE_ERROR")):
        if name in SPECIAL and name != XPOLL_ERROR:
            continue
        outcome = _outcome(values, name, parts.get(name, []))
        if outcome:
            outcomes[name] = outcome
    for status, name in states.items():
        if name not in SPECIAL and not parts.get(name):
            values.doubt(
                f"XPOLL_STATE.{status:02}", f"{name} has no keyword: this status does nothing"
            )
    return outcomes


def file_change(values: SeenValues, name: str) -> FileChange | None:
    """`NAME = suffix`, the same written `NAME.DANGLE = suffix`, or `NAME.DIRECTORY = dir`."""
    given = [one for one in (name, f"{name}.DANGLE", f"{name}.DIRECTORY") if one in values]
    if not given:
        return None
    if len(given) > 1:
        values.wrong(given[-1], f"only one of {' and '.join(given)} expected")
    keyword = given[0]
    if keyword.endswith(".DIRECTORY"):
        directory = values.text(keyword)
        if directory == "":
            values.wrong(keyword, "a directory expected, not ''")
        return FileChange(keyword, None, directory) if directory else None
    suffix = values.suffix(keyword)
    return FileChange(keyword, suffix, None) if suffix else None


def _outcome(values: SeenValues, name: str, parts: list[str]) -> Outcome | None:
    """One set; None if it has no keyword."""
    osf: dict[str, str] = {}
    for part in parts:
        tail = part.partition(".")[2]
        if TITLE.fullmatch(tail):
            letter = values.letter(part)
            osf.update({tail: letter} if letter else {})
        elif part not in (name, f"{name}.DANGLE", f"{name}.DIRECTORY"):
            what = "the two letters of a stage, DANGLE or DIRECTORY"
            values.wrong(part, f"{what} expected after {name}")
    change = file_change(values, name)
    return Outcome(osf, change) if osf or change else None
