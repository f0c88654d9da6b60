"""OPUS path files: which directories a pipeline's, or a mirror's, symbolic names stand for (OPUS,
"Path files"; seed 003).

A value is resolved each time it is asked for, from the environment of that moment. Its form is
that of the text as written: what the environment puts in is never read as syntax again.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from formats import definitions
from formats.keywords import Keyword, read_keyword_file
from formats.path_values import (
    UnresolvedError,
    join,
    split_prefix,
    split_reference,
    substitute,
)
from mirror.errors import ConfigError

LONGEST_NAME = 9
"""Characters of a path's root name: what the original's observation manager shows (seed 003)."""

NAME_LENGTH = "OPUS_PATH_NAME_LENGTH"
"""The environment variable with which a site allows longer names, or only shorter ones."""

MAX_STEPS = 32
"""References that a value may lead through."""

OBSERVATIONS = "OPUS_OBSERVATIONS_DIR"
STAGE = "STAGE_FILE"

# No file system has names that are longer than 255 bytes, and NAME_pipeline.stage is one too.
_LENGTH = re.compile(r"[1-9]|[1-9][0-9]|1[0-9][0-9]")
_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*")

_Trail = tuple[tuple[Path, str], ...]


@dataclass(frozen=True, slots=True)
class PathFile:
    """A path file that was read: its keywords, and how they are resolved.

    `warnings` are about the file itself (a keyword given twice).
    """

    path: Path
    environ: Mapping[str, str]
    warnings: tuple[str, ...]
    by_name: Mapping[str, Keyword]

    @property
    def name(self) -> str:
        """The root name: `blue` for blue.path."""
        return self.path.name.removesuffix(".path")

    def keywords(self) -> list[str]:
        """The keywords, in the order of the file."""
        return list(self.by_name)

    def value(self, keyword: str) -> str:
        """What `keyword` stands for now.

        Raises ConfigError, with file, line and keyword, if there is no such keyword, or an
        environment variable, a file or a keyword that its value names is not there, or its
        value leads back to itself.
        """
        return _value(self, keyword, ())

    def resolve(self, text: str) -> str:
        """What a value that stands outside the path file means, in mirror.yaml say.

        A keyword of the path file is that keyword's value; `OTHER->KEY`, `SUB[VAR]` and
        `PREFIX:rest` are as in the path file itself; any other text is unaltered. Raises
        ConfigError as `value` does.
        """
        if text in self.by_name:
            return self.value(text)
        try:
            return _resolve(text, self, ())
        except UnresolvedError as error:
            raise ConfigError([f"{text}: {error}"]) from None

    def override(self, process: str, key: str) -> Keyword | None:
        """`PROC.KEY`, else `*.KEY`: what this path says of a keyword of a resource file.

        PROC is the name of the process, compared without case; of several, the one that is
        written as the process is comes first, then the last one.
        """
        exact = self.by_name.get(f"{process}.{key}")
        if exact:
            return exact
        wanted = process.casefold()
        for name in reversed(list(self.by_name)):
            head = name.removesuffix(f".{key}")
            if head != name and head.casefold() == wanted:
                return self.by_name[name]
        return self.by_name.get(f"*.{key}")

    def in_environment(self, environ: Mapping[str, str]) -> "PathFile":
        """The same file, resolved from another environment."""
        return replace(self, environ=environ)

    def stage_file(self) -> Path:
        """The stage file that belongs to this path: STAGE_FILE, else NAME_pipeline.stage.

        The latter is looked for along OPUS_DEFINITIONS_DIR. Raises ConfigError if there is
        neither, or the value of STAGE_FILE has no meaning now.
        """
        if STAGE in self.by_name:
            return Path(self.value(STAGE))
        found = definitions.first(f"{self.name}_pipeline.stage", self.environ)
        if found is None:
            raise ConfigError([_without_stage_file(self)])
        return found


def read_path_file(
    path: str | os.PathLike[str],
    environ: Mapping[str, str] = os.environ,
    longest_name: int | None = None,
) -> PathFile:
    """Read a path file and check that it is complete.

    `longest_name` is the most characters that its root name may have; by default what the
    variable OPUS_PATH_NAME_LENGTH of `environ` says, else 9. Raises ConfigError with every
    problem of the file: its syntax, its name, a required keyword that is missing.
    """
    paths, problems = examine_path_file(path, environ, longest_name)
    if problems:
        raise ConfigError(problems)
    return paths


def examine_path_file(
    path: str | os.PathLike[str],
    environ: Mapping[str, str] = os.environ,
    longest_name: int | None = None,
) -> tuple[PathFile, list[str]]:
    """As read_path_file, but returns what could be read, and every problem.

    Raises ConfigError only if the file cannot be opened.
    """
    path = Path(path)
    read = read_keyword_file(path, "a path file")
    paths = PathFile(path, environ, read.warnings, read.by_name)
    problems = [*read.problems, *_check_name(path, environ, longest_name)]
    if OBSERVATIONS not in read.by_name:
        problems.append(f"{path}: {OBSERVATIONS}: required, the directory of this path's entries")
    stage = f"{paths.name}_pipeline.stage"
    if STAGE not in read.by_name and not definitions.first(stage, environ):
        problems.append(_without_stage_file(paths))
    return paths, problems


def find_path_file(
    name: str, environ: Mapping[str, str] = os.environ, beside: Path | None = None
) -> Path:
    """Where NAME.path is, for `blue` or `blue.path`.

    Looked for along OPUS_DEFINITIONS_DIR, then in `beside`; if it is nowhere, name.path in lower
    case in the same places. Raises ConfigError, with the directories, if there is none.
    """
    return definitions.find(name, ".path", environ, beside)


def named_path_file(given: str, environ: Mapping[str, str] = os.environ) -> Path:
    """The path file that somebody means who types `given`: a file, or the name of a path.

    A file is what has a directory in front, or is there under that name. Raises ConfigError where
    a name has no file.
    """
    if os.sep in given or (given.endswith(".path") and os.path.isfile(given)):
        return Path(given)
    return find_path_file(given, environ)


def look_up(
    other: str, keyword: str, environ: Mapping[str, str], beside: Path
) -> tuple[str, PathFile]:
    """`OTHER->KEY`, written in a file of the directory `beside`: its value, and OTHER.path.

    Raises UnresolvedError if there is no OTHER.path, ConfigError if that has a fault or no KEY.
    """
    found = _open(other, environ, beside)
    return found.value(keyword), found


def _without_stage_file(paths: PathFile) -> str:
    where = paths.environ.get(definitions.DEFINITIONS) or "which is not set"
    return (
        f"{paths.path}: {STAGE}: required, because no {paths.name}_pipeline.stage stands on"
        f" {definitions.DEFINITIONS} ({where})"
    )


def _check_name(path: Path, environ: Mapping[str, str], longest: int | None) -> list[str]:
    root = path.name.removesuffix(".path")
    if root == path.name or not root:
        return [f"{path}: a file name that ends in .path expected"]
    if longest is None:
        allowed = environ.get(NAME_LENGTH) or str(LONGEST_NAME)
        if not _LENGTH.fullmatch(allowed):
            return [f"{NAME_LENGTH}: a number from 1 to 199 expected, not {allowed!r}"]
        longest = int(allowed)
    if len(root) > longest:
        return [
            f"{path}: a name of at most {longest} characters expected, {root!r} has {len(root)}"
            f" (the variable {NAME_LENGTH} may allow more)"
        ]
    return []


def _value(paths: PathFile, keyword: str, trail: _Trail) -> str:
    """Resolve a keyword; `trail` are the files and keywords that led here."""
    found = paths.by_name.get(keyword)
    if found is None:
        known = ", ".join(paths.by_name) or "none"
        raise ConfigError([f"{paths.path}: {keyword}: no such keyword; the file has {known}"])
    step = (paths.path.resolve(), keyword)
    where = f"{paths.path}:{found.line}: {keyword}"
    if step in trail:
        circle = " -> ".join(f"{path.name} {name}" for path, name in (*trail, step))
        raise ConfigError([f"{where}: a value expected, it leads back to itself: {circle}"])
    if len(trail) == MAX_STEPS:
        raise ConfigError([f"{where}: at most {MAX_STEPS} references in a row expected"])
    try:
        return _resolve(found.value, paths, (*trail, step))
    except UnresolvedError as error:
        raise ConfigError([f"{where}: {error}"]) from None


def _resolve(text: str, paths: PathFile, trail: _Trail) -> str:
    """What a value means: OTHER->KEY, PREFIX:rest, or text; each with its SUB[VAR] replaced."""
    environ = paths.environ
    reference = split_reference(text)
    if reference:
        other, keyword = (substitute(part, environ) for part in reference)
        return _value(_open(other, environ, paths.path.parent), keyword, trail)
    prefixed = split_prefix(text)
    if prefixed:
        prefix, rest = prefixed
        if prefix in environ:
            return join(prefix, substitute(rest, environ), environ)
        # Left alone, a forgotten variable would make a directory named like `OPUS_WORK:obs`.
        if _VARIABLE.fullmatch(prefix) and not rest.isdigit():
            raise UnresolvedError(f"{text}: the environment variable {prefix} is not set")
    return substitute(text, environ)


def _open(name: str, environ: Mapping[str, str], beside: Path) -> PathFile:
    """The path file that a reference names; only its syntax is checked, it lends a value."""
    try:
        path = find_path_file(name, environ, beside)
    except ConfigError as error:
        raise UnresolvedError(str(error)) from None
    read = read_keyword_file(path, "a path file")
    if read.problems:
        raise ConfigError(list(read.problems))
    return PathFile(path, environ, read.warnings, read.by_name)
