"""OPUS path files: which directories a pipeline's, or a mirror's, symbolic names stand for (OPUS,
"Path files"; seed 003).

A value is resolved each time it is asked for, from the environment of that moment. Its form is
that of the text as written: what the environment puts in is never read as syntax again.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from formats.keywords import Keyword, Keywords, read_keywords
from mirror.errors import ConfigError

LONGEST_NAME = 9
"""Characters of a path's root name: what the original's observation manager shows (seed 003)."""

DEFINITIONS = "OPUS_DEFINITIONS_DIR"
"""The environment variable that holds the search path for path and stage files."""

MAX_STEPS = 32
"""References that a value may lead through."""

OBSERVATIONS = "OPUS_OBSERVATIONS_DIR"
STAGE = "STAGE_FILE"

_ROOT_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_REFERENCE = re.compile(r"\s*(\S+?)\s*->\s*(\S+)\s*")
_PREFIXED = re.compile(r"([A-Za-z_][A-Za-z0-9_]*):(.*)", re.DOTALL)
_SUB = re.compile(r"SUB\[([^\[\]]*)\]")
_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*")

_Trail = tuple[tuple[Path, str], ...]


class _Unresolved(Exception):
    """Why a value has no meaning now; becomes a ConfigError with file, line and keyword."""


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
        except _Unresolved as error:
            raise ConfigError([f"{text}: {error}"]) from None


def read_path_file(
    path: str | os.PathLike[str],
    environ: Mapping[str, str] = os.environ,
    longest_name: int = LONGEST_NAME,
) -> PathFile:
    """Read a path file and check that it is complete.

    `longest_name` is the most characters that its root name may have. Raises ConfigError with
    every problem of the file: its syntax, its name, a required keyword that is missing.
    """
    path = Path(path)
    read = _read(path)
    problems = [*read.problems, *_check_name(path, longest_name)]
    if OBSERVATIONS not in read.by_name:
        problems.append(f"{path}: {OBSERVATIONS}: required, the directory of this path's entries")
    stage = f"{path.name.removesuffix('.path')}_pipeline.stage"
    if STAGE not in read.by_name and not _along(environ, stage):
        problems.append(
            f"{path}: {STAGE}: required, because no {stage} stands on {DEFINITIONS}"
            f" ({environ.get(DEFINITIONS) or 'which is not set'})"
        )
    if problems:
        raise ConfigError(problems)
    return PathFile(path, environ, read.warnings, read.by_name)


def find_path_file(
    name: str, environ: Mapping[str, str] = os.environ, beside: Path | None = None
) -> Path:
    """Where NAME.path is, for `blue` or `blue.path`.

    Looked for along OPUS_DEFINITIONS_DIR, then in `beside`; if it is nowhere, name.path in lower
    case in the same places. Raises ConfigError, with the directories, if there is none.
    """
    root = name.removesuffix(".path")
    if not _ROOT_NAME.fullmatch(root):
        raise ConfigError([f"{name}: the name of a path expected, like blue or blue.path"])
    for file in dict.fromkeys((f"{root}.path", f"{root.lower()}.path")):
        if found := _along(environ, file, beside):
            return found
    places = ", ".join(map(str, _places(environ, beside)))
    where = places or f"the directories of {DEFINITIONS}, which is not set"
    raise ConfigError([f"{name}: {root}.path expected in {where}, but it is not there"])


def _places(environ: Mapping[str, str], beside: Path | None = None) -> list[Path]:
    along = [Path(part) for part in environ.get(DEFINITIONS, "").split(os.pathsep) if part]
    return along if beside is None else [*along, beside]


def _along(environ: Mapping[str, str], file: str, beside: Path | None = None) -> Path | None:
    """The first `file` on the definitions path, then in `beside`."""
    for place in _places(environ, beside):
        if (place / file).is_file():
            return place / file
    return None


def _read(path: Path) -> Keywords:
    try:
        return read_keywords(path.read_bytes(), str(path))
    except OSError as error:
        raise ConfigError([f"{path}: a path file expected: {error.strerror}"]) from error


def _check_name(path: Path, longest: int) -> list[str]:
    root = path.name.removesuffix(".path")
    if root == path.name or not root:
        return [f"{path}: a file name that ends in .path expected"]
    if len(root) > longest:
        return [
            f"{path}: a name of at most {longest} characters expected, {root!r} has {len(root)}"
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
    except _Unresolved as error:
        raise ConfigError([f"{where}: {error}"]) from None


def _resolve(text: str, paths: PathFile, trail: _Trail) -> str:
    """What a value means: OTHER->KEY, PREFIX:rest, or text; each with its SUB[VAR] replaced."""
    reference = _REFERENCE.fullmatch(text)
    if reference:
        other, keyword = (_substitute(part, paths.environ) for part in reference.groups())
        return _value(_other(other, paths), keyword, trail)
    prefixed = _PREFIXED.fullmatch(text)
    if prefixed:
        joined = _join(prefixed[1], _substitute(prefixed[2], paths.environ), paths.environ)
        if joined is not None:
            return joined
    return _substitute(text, paths.environ)


def _other(name: str, paths: PathFile) -> PathFile:
    """The path file that a reference names; only its syntax is checked, it lends a value."""
    try:
        path = find_path_file(name, paths.environ, paths.path.parent)
    except ConfigError as error:
        raise _Unresolved(str(error)) from None
    read = _read(path)
    if read.problems:
        raise ConfigError(list(read.problems))
    return PathFile(path, paths.environ, read.warnings, read.by_name)


def _substitute(text: str, environ: Mapping[str, str]) -> str:
    def replace(match: re.Match[str]) -> str:
        variable = match[1].strip()
        if variable not in environ:
            raise _Unresolved(f"{match[0]}: the environment variable {variable} is not set")
        return environ[variable]

    return _SUB.sub(replace, text)


def _join(prefix: str, rest: str, environ: Mapping[str, str]) -> str | None:
    """`PREFIX:rest` as a path, or None if it is something else, such as an address.

    Of a search path, the first directory that holds `rest`; if none does, the first.
    """
    if rest.startswith("//") or rest.isdigit():
        return None
    if prefix not in environ:
        # Left alone, a forgotten variable would make a directory named like `OPUS_WORK:obs`.
        if _VARIABLE.fullmatch(prefix):
            raise _Unresolved(f"{prefix}:{rest}: the environment variable {prefix} is not set")
        return None
    places = [place for place in environ[prefix].split(os.pathsep) if place]
    if not places:
        raise _Unresolved(f"{prefix}:{rest}: the environment variable {prefix} is empty")
    candidates = [os.path.join(place, rest.lstrip("/")) if rest else place for place in places]
    return next((one for one in candidates if os.path.exists(one)), candidates[0])
