"""OPUS stage files: the stages of a pipeline, which are the columns of its blackboard, and what
each letter in them means (OPUS, "Stage files").
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from formats.keywords import Keyword, Keywords, read_keyword_file
from mirror.errors import ConfigError

NOT_SET = "_"
"""The letter of a stage that nothing was said about yet; every stage has it."""

_STAGE = re.compile(r"STAGE([0-9]{2}|[1-9][0-9]{2})\.(TITLE|DESCRIPTION|([NPCT])STATUS\.(.))")
_TITLE = re.compile(r"[A-Za-z][A-Za-z0-9]")
_COUNT = re.compile(r"[0-9]{1,3}")


@dataclass(frozen=True, slots=True)
class Letter:
    """A state: kind N (not yet), P (in progress), C (complete) or T (trouble), and its text."""

    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage: its title of two letters, the name of the column; `letters` are in upper case."""

    title: str
    description: str
    letters: Mapping[str, Letter]

    def meaning(self, letter: str) -> Letter | None:
        """What a letter means, compared without case; None of one that the file does not have."""
        return self.letters.get(letter.upper())

    def knows(self, letter: str) -> bool:
        """Whether an entry of the blackboard may be expected to have `letter` in this column."""
        return letter == NOT_SET or letter.upper() in self.letters


@dataclass(frozen=True, slots=True)
class StageFile:
    """A stage file: its stages in their order."""

    path: Path
    stages: tuple[Stage, ...]
    warnings: tuple[str, ...]

    def titles(self) -> list[str]:
        """The columns of the blackboard."""
        return [stage.title for stage in self.stages]

    def stage(self, title: str) -> Stage | None:
        """The stage of a column, if there is one."""
        return next((stage for stage in self.stages if stage.title == title), None)


def read_stage_file(path: str | os.PathLike[str]) -> StageFile:
    """Read a stage file. Raises ConfigError with every problem of it."""
    stages, problems = examine_stage_file(path)
    if problems:
        raise ConfigError(problems)
    return stages


def examine_stage_file(path: str | os.PathLike[str]) -> tuple[StageFile, list[str]]:
    """As read_stage_file, but returns what could be read, and every problem.

    Raises ConfigError only if the file cannot be opened.
    """
    path = Path(path)
    read = read_keyword_file(path, "a stage file")
    problems = list(read.problems)
    warnings = list(read.warnings)
    numbers = _numbers(read, problems, warnings)
    stages = [_stage(read.source, number, numbers[number], problems) for number in sorted(numbers)]
    problems += _count_problems(read, sorted(numbers))
    problems += _title_problems(
        read.source, stages, [numbers[number] for number in sorted(numbers)]
    )
    return StageFile(path, tuple(stages), tuple(warnings)), problems


def _numbers(
    read: Keywords, problems: list[str], warnings: list[str]
) -> dict[int, dict[str, Keyword]]:
    """The keywords of each stage, by what comes after its STAGEnn."""
    numbers: dict[int, dict[str, Keyword]] = {}
    for name, keyword in read.by_name.items():
        match = _STAGE.fullmatch(name)
        where = f"{read.source}:{keyword.line}: {name}"
        if match:
            numbers.setdefault(int(match[1]), {})[match[2]] = keyword
        elif name.startswith("STAGE"):
            problems.append(
                f"{where}: STAGEnn.TITLE, STAGEnn.DESCRIPTION or STAGEnn.NSTATUS.W (PSTATUS,"
                " CSTATUS, TSTATUS; one letter) expected, nn of two digits"
            )
        elif name != "NSTAGE":
            warnings.append(f"{where}: no keyword of a stage file; nothing reads it")
    return numbers


def _stage(source: str, number: int, given: Mapping[str, Keyword], problems: list[str]) -> Stage:
    title = given.get("TITLE")
    if title is None:
        problems.append(f"{source}: STAGE{number:02}.TITLE: required, two letters")
    elif not _TITLE.fullmatch(title.value):
        problems.append(
            f"{source}:{title.line}: {title.name}: two letters, such as FI, expected, not"
            f" {title.value!r}"
        )
    description = given.get("DESCRIPTION")
    letters: dict[str, Letter] = {}
    for keyword in given.values():
        match = _STAGE.fullmatch(keyword.name)
        if not match or not match[3]:
            continue
        problem = _letter_problem(match[4], letters)
        if problem:
            problems.append(f"{source}:{keyword.line}: {keyword.name}: {problem}")
        letters.setdefault(match[4].upper(), Letter(match[3], keyword.value))
    return Stage(title.value if title else "", description.value if description else "", letters)


def _letter_problem(letter: str, letters: Mapping[str, Letter]) -> str:
    if letter == NOT_SET:
        return f"{NOT_SET} means not set in every stage; another letter expected"
    before = letters.get(letter.upper())
    if before:
        return (
            f"one meaning of a letter expected, upper and lower case are the same; it means"
            f" {before.text!r} ({before.kind}STATUS) too"
        )
    return ""


def _count_problems(read: Keywords, numbers: list[int]) -> list[str]:
    """NSTAGE must agree with the stages there are, and these have no gaps."""
    count = read.by_name.get("NSTAGE")
    if count is None:
        return [f"{read.source}: NSTAGE: required, the number of stages"]
    where = f"{read.source}:{count.line}: NSTAGE"
    if not _COUNT.fullmatch(count.value) or int(count.value) == 0:
        return [f"{where}: the number of stages, 1 to 999, expected, not {count.value!r}"]
    expected = set(range(1, int(count.value) + 1))
    problems = []
    if missing := sorted(expected - set(numbers)):
        problems.append(f"{where}: {count.value} stages expected, there is no {_list(missing)}")
    if more := sorted(set(numbers) - expected):
        problems.append(f"{where}: {count.value} stages expected, there is {_list(more)} too")
    return problems


def _list(numbers: list[int]) -> str:
    names = [f"STAGE{number:02}" for number in numbers[:5]]
    return ", ".join(names) + (" …" if len(numbers) > len(names) else "")


def _title_problems(source: str, stages: list[Stage], given: list[dict[str, Keyword]]) -> list[str]:
    """Of two stages with one title, nobody could tell the columns apart."""
    seen: dict[str, Keyword] = {}
    problems = []
    for stage, keywords in zip(stages, given, strict=True):
        title = keywords.get("TITLE")
        if title is None:
            continue
        before = seen.setdefault(stage.title.upper(), title)
        if before is not title:
            problems.append(
                f"{source}:{title.line}: {title.name}: a title of its own expected,"
                f" {stage.title!r} is that of line {before.line} too"
            )
    return problems
