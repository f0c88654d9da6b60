"""The syntax that .path, .resource and .stage files share: `KEYWORD = VALUE ! comment` (OPUS,
"Syntax shared"; seeds 003 and 004).

Only lines are read here; what a value means is for path_file and the readers of the other kinds.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mirror.errors import ConfigError

_KEYWORD = re.compile(r"[A-Za-z0-9_*][A-Za-z0-9_.*$-]*")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_BLANKS = " \t"
_ENDS = {"'": "'", "<": ">"}


@dataclass(frozen=True, slots=True)
class Keyword:
    """One `KEYWORD = VALUE ! comment`; a quoted value without its quotes, `<…>` without these."""

    name: str
    value: str
    comment: str | None
    line: int


@dataclass(frozen=True, slots=True)
class Keywords:
    """What a file says: by name the keyword that stands, in order of first mention.

    `problems` and `warnings` are `SOURCE:LINE: KEYWORD: text`. The caller raises the problems,
    together with what it finds missing or wrong itself.
    """

    source: str
    by_name: Mapping[str, Keyword]
    problems: tuple[str, ...]
    warnings: tuple[str, ...]


def read_keywords(data: bytes, source: str) -> Keywords:
    """Read a whole file. Of a keyword given twice the last stands, with a warning."""
    by_name: dict[str, Keyword] = {}
    problems: list[str] = []
    warnings: list[str] = []
    # Comments in old files are in whatever code their author had; only values must be UTF-8.
    lines = data.decode("utf-8", "surrogateescape").removeprefix("\ufeff").split("\n")
    for number, line in enumerate(lines, 1):
        try:
            keyword = read_line(line, number)
        except ValueError as error:
            problems.append(f"{source}:{number}: {error}")
            continue
        if keyword is None:
            continue
        before = by_name.get(keyword.name)
        if before:
            text = f"given in line {before.line} too; this one stands"
            warnings.append(f"{source}:{number}: {keyword.name}: {text}")
        by_name[keyword.name] = keyword
    return Keywords(source, by_name, tuple(problems), tuple(warnings))


def read_keyword_file(path: Path, kind: str) -> Keywords:
    """Read the file at `path`, `kind` for the message ("a path file").

    Raises ConfigError if it cannot be opened; what is wrong in it is returned.
    """
    try:
        return read_keywords(path.read_bytes(), str(path))
    except OSError as error:
        raise ConfigError([f"{path}: {kind} expected: {error.strerror}"]) from error


def read_line(text: str, number: int = 0) -> Keyword | None:
    """Read one line; None if it is blank or a comment.

    Tabs and blanks are the same and needed nowhere, a CR at the end is one of them. An unquoted
    value ends before the first `!`, and only a quoted one may hold blanks: what stands between
    the two is more often a comment whose `!` was forgotten. Raises ValueError with the keyword
    and what was expected.
    """
    text = text.removesuffix("\r").strip(_BLANKS)
    if not text or text.startswith("!"):
        return None
    before, equals, after = text.partition("=")
    name = before.strip(_BLANKS)
    if not equals or "!" in before:
        raise ValueError(f"KEYWORD = VALUE expected, not {_show(text)}")
    if not _KEYWORD.fullmatch(name):
        raise ValueError(f"a keyword of A-Z a-z 0-9 _ . * expected, not {_show(name)}")
    try:
        value, rest = _split_value(after.strip(_BLANKS))
        rest = rest.strip(_BLANKS)
        if rest and not rest.startswith("!"):
            raise ValueError(f"nothing but a ! comment expected after the value, not {_show(rest)}")
        _check_characters(value)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    return Keyword(name, value, rest[1:].strip(_BLANKS) if rest else None, number)


def _split_value(text: str) -> tuple[str, str]:
    """The value that begins `text`, and what comes after it; raises ValueError."""
    end = _ENDS.get(text[:1])
    if end:
        value, closed, rest = text[1:].partition(end)
        if not closed:
            raise ValueError(f"a closing {end} expected in {_show(text)}")
        return (value if end == "'" else value.strip(_BLANKS)), rest
    value = text.partition("!")[0].rstrip(_BLANKS)
    if not value:
        raise ValueError("a value expected ('' for an empty one)")
    if " " in value or "\t" in value:
        raise ValueError(f"a value with blanks in single quotes expected, not {_show(value)}")
    return value, text[len(value) :]


def _check_characters(value: str) -> None:
    if _CONTROL.search(value):
        raise ValueError(f"a value without control characters expected, not {_show(value)}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(f"a value in UTF-8 expected, not {_show(value)}") from None


def _show(text: str) -> str:
    return repr(text[:60])
