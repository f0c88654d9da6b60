"""What wakes a process: time, files and entries of the blackboard (OPUS, "Process resource
files", the table of triggers; seed 004).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import time

from formats.outcomes import FileChange, file_change
from formats.seen_values import TITLE, SeenValues

_FILE = re.compile(r"FILE_(DIRECTORY|OBJECT|MAXTARGS)(.*)")
_OSF = re.compile(r"OSF_TRIGGER(?:([1-9][0-9]{0,3})\.(.+)|.*)")
_NUMBER = re.compile(r"[1-9][0-9]{0,3}")
_OTHER_FILE_KEYS = ("FILE_RANK", "FILE_PROCESSING", "FILE_PROCESSING.DANGLE", "FILE_ABSENT")


@dataclass(frozen=True, slots=True)
class TimeTrigger:
    """`delta` (seconds) alone: every delta from the start of the process. `start` alone: daily at
    that local time. Both: every delta from the start on.

    `day`, 1 to 366, is the day of the year on which `start` is first meant; None: any.
    """

    rank: int
    day: int | None
    start: time | None
    delta: int | None


@dataclass(frozen=True, slots=True)
class FileSearch:
    """Files of `directory` that match the glob `pattern`, at most `maxtargs` an event.

    `directory` is what `keyword` stood for when the file was read; resolve(…, keyword) says it now.
    """

    keyword: str
    directory: str
    pattern: str
    maxtargs: int


@dataclass(frozen=True, slots=True)
class FileTrigger:
    """A file appears. `processing`: the suffix while it is in work. `absent`: what becomes of it
    when the process goes absent; None: nothing."""

    rank: int
    searches: tuple[FileSearch, ...]
    processing: str
    absent: FileChange | None


@dataclass(frozen=True, slots=True)
class OsfMatch:
    """OSF_TRIGGERn, `number` its n: stages in states, and of which data; None: of any."""

    number: int
    columns: Mapping[str, str]
    data_id: str | None
    dcf_number: str | None
    maxtargs: int


@dataclass(frozen=True, slots=True)
class OsfTrigger:
    """An entry matches. `processing`: stages and letters that claim it. `absent`: the letter for
    the same stages when the process goes absent; None: nothing."""

    rank: int
    matches: tuple[OsfMatch, ...]
    processing: Mapping[str, str]
    absent: str | None


Trigger = TimeTrigger | FileTrigger | OsfTrigger


def read_triggers(values: SeenValues) -> tuple[Trigger, ...]:
    """The triggers of a process, lowest rank first; one that lacks a partner is left out.

    What is missing or wrong is added to the problems of `values`.
    """
    ranks = {name: values.whole(name, 1) for name in ("TIME_RANK", "FILE_RANK", "OSF_RANK")}
    seen: dict[int, str] = {}
    for name, rank in ranks.items():
        if rank is not None and (before := seen.setdefault(rank, name)) != name:
            values.wrong(name, f"a rank of its own expected, {before} is {rank} too")
    found = (
        _time_trigger(values, ranks["TIME_RANK"]),
        _file_trigger(values, ranks["FILE_RANK"]),
        _osf_trigger(values, ranks["OSF_RANK"]),
    )
    return tuple(sorted((one for one in found if one is not None), key=lambda one: one.rank))


def _required(values: SeenValues, trigger: str, names: Sequence[str]) -> bool:
    """Whether all `names` are there; each that is not becomes a problem."""
    absent = [name for name in names if name not in values]
    for name in absent:
        values.missing(name, f"a {trigger} trigger needs it")
    return not absent


def _time_trigger(values: SeenValues, rank: int | None) -> TimeTrigger | None:
    if not any(name in values for name in ("TIME_RANK", "START_TIME", "DELTA_TIME")):
        return None
    complete = _required(values, "time", ["TIME_RANK"])
    if "START_TIME" not in values and "DELTA_TIME" not in values:
        values.missing("DELTA_TIME", "or START_TIME: a time trigger needs one of them")
        complete = False
    moment, delta = values.moment("START_TIME"), values.span("DELTA_TIME")
    if not complete or rank is None or (moment is None and delta is None):
        return None
    day, start = moment or (None, None)
    return TimeTrigger(rank, day, start, delta)


def _file_trigger(values: SeenValues, rank: int | None) -> FileTrigger | None:
    numbers = _file_numbers(values)
    if not numbers and not any(name in values for name in _OTHER_FILE_KEYS):
        return None
    complete = _required(values, "file", ["FILE_RANK"])
    if not numbers:
        values.missing("FILE_DIRECTORY1", "with FILE_OBJECT1: a file trigger needs them")
    for name in ("FILE_SUCCESS", "FILE_ERROR"):
        if not _has_change(values, name):
            values.missing(name, f"or {name}.DIRECTORY: a file trigger needs one of them")
    processing = _processing_suffix(values)
    searches = [_search(values, number) for number in sorted(numbers)]
    absent = file_change(values, "FILE_ABSENT")
    whole = tuple(search for search in searches if search)
    if not complete or rank is None or processing is None or not whole:
        return None
    return FileTrigger(rank, whole, processing, absent)


def _has_change(values: SeenValues, name: str) -> bool:
    return any(one in values for one in (name, f"{name}.DANGLE", f"{name}.DIRECTORY"))


def _processing_suffix(values: SeenValues) -> str | None:
    """FILE_PROCESSING, or the same written FILE_PROCESSING.DANGLE."""
    given = [name for name in ("FILE_PROCESSING", "FILE_PROCESSING.DANGLE") if name in values]
    if not given:
        values.missing("FILE_PROCESSING", "a file trigger needs it: the suffix while in work")
        return None
    if len(given) > 1:
        values.wrong(given[1], "either FILE_PROCESSING or FILE_PROCESSING.DANGLE expected")
    return values.suffix(given[0])


def _file_numbers(values: SeenValues) -> set[int]:
    """The n of FILE_DIRECTORYn, FILE_OBJECTn and FILE_MAXTARGSn."""
    numbers: set[int] = set()
    for name in values.names():
        match = _FILE.fullmatch(name)
        if not match:
            continue
        if _NUMBER.fullmatch(match[2]):
            numbers.add(int(match[2]))
        else:
            values.wrong(name, f"a number from 1 to 9999 expected after FILE_{match[1]}")
    return numbers


def _search(values: SeenValues, number: int) -> FileSearch | None:
    directory, pattern = f"FILE_DIRECTORY{number}", f"FILE_OBJECT{number}"
    complete = _required(values, "file", [directory, pattern])
    maxtargs = values.whole(f"FILE_MAXTARGS{number}", 1)
    place, glob = values.text(directory), values.text(pattern)
    if place == "":
        values.wrong(directory, "a directory expected, not ''")
    if glob is not None and (not glob or "/" in glob):
        values.wrong(pattern, f"a name or a pattern of names, without /, expected, not {glob!r}")
        return None
    if not complete or not place or not glob:
        return None
    return FileSearch(directory, place, glob, maxtargs or 1)


def _osf_trigger(values: SeenValues, rank: int | None) -> OsfTrigger | None:
    numbers = _osf_numbers(values)
    processing = stage_letters(values, "OSF_PROCESSING")
    given = any(name in values for name in ("OSF_RANK", "OSF_ABSENT"))
    if not numbers and not processing and not given:
        return None
    complete = _required(values, "OSF", ["OSF_RANK"])
    if not numbers:
        values.missing("OSF_TRIGGER1.XX", "an OSF trigger needs a stage in a state")
    if not processing and not any(name.startswith("OSF_PROCESSING.") for name in values.names()):
        values.missing("OSF_PROCESSING.XX", "an OSF trigger needs it: the state while in work")
    found = [_match(values, number, numbers[number]) for number in sorted(numbers)]
    matches = tuple(match for match in found if match)
    for match in matches:
        _check_claim(values, match, processing)
    absent = values.letter("OSF_ABSENT")
    if not complete or rank is None or not matches or not processing:
        return None
    return OsfTrigger(rank, matches, processing, absent)


def stage_letters(values: SeenValues, name: str) -> dict[str, str]:
    """Every `NAME.XX = s`, by its stage XX. Another word after the dot is a problem."""
    letters: dict[str, str] = {}
    for full in values.names():
        head, dot, title = full.partition(".")
        if head != name or not dot:
            continue
        if not TITLE.fullmatch(title):
            values.wrong(full, f"{name}.XX expected, XX the two letters of a stage")
        elif letter := values.letter(full):
            letters[title] = letter
    return letters


def _osf_numbers(values: SeenValues) -> dict[int, list[str]]:
    """The n of OSF_TRIGGERn, with what stands after its dot."""
    numbers: dict[int, list[str]] = {}
    for name in values.names():
        match = _OSF.fullmatch(name)
        if match and match[1]:
            numbers.setdefault(int(match[1]), []).append(match[2])
        elif match:
            values.wrong(name, "OSF_TRIGGERn.XX expected, n from 1 to 9999")
    return numbers


def _match(values: SeenValues, number: int, given: Sequence[str]) -> OsfMatch | None:
    name = f"OSF_TRIGGER{number}"
    columns: dict[str, str] = {}
    complete = True
    for key in given:
        if TITLE.fullmatch(key):
            letter = values.letter(f"{name}.{key}")
            complete = complete and letter is not None
            columns[key] = letter or ""
        elif key not in ("DATA_ID", "DCF_NUMBER", "MAXTARGS"):
            what = "the two letters of a stage, DATA_ID, DCF_NUMBER or MAXTARGS"
            values.wrong(f"{name}.{key}", f"{what} expected after {name}")
            complete = False
    if not any(TITLE.fullmatch(key) for key in given):
        values.missing(f"{name}.XX", f"{name} needs a stage in a state")
    maxtargs = values.whole(f"{name}.MAXTARGS", 1)
    if not complete or not columns:
        return None
    data_id, dcf_number = (values.text(f"{name}.{key}") for key in ("DATA_ID", "DCF_NUMBER"))
    return OsfMatch(number, columns, data_id, dcf_number, maxtargs or 1)


def _check_claim(values: SeenValues, match: OsfMatch, processing: Mapping[str, str]) -> None:
    """A claimed entry must no longer match, or every copy of the process would take it too."""
    if processing and not any(
        title in match.columns and match.columns[title].upper() != letter.upper()
        for title, letter in processing.items()
    ):
        title = next(iter(match.columns))
        values.doubt(
            f"OSF_TRIGGER{match.number}.{title}",
            "OSF_PROCESSING changes no stage of this trigger, so a claimed entry matches again",
        )
