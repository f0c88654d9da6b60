"""What value a process sees for a keyword of its resource file (OPUS, "What value does a process
see"; seed 003, the four precedence rules).

A value is resolved each time it is asked for, from the environment of that moment.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from formats.keywords import Keyword
from formats.path_file import PathFile, look_up
from formats.path_values import (
    UnresolvedError,
    has_sub,
    join,
    split_prefix,
    split_reference,
    substitute,
)
from mirror.errors import ConfigError

ENV = "ENV."
"""In front of a keyword: set it in the command's environment. It is not part of the name."""

SUBSTITUTED = ("COMMAND", "TASK", "FILE_ACTION")
"""The keywords of a resource file in whose values SUB[VAR] is replaced (seed 004)."""


class Rule(Enum):
    """By which rule a value was found; the text says it to people."""

    PROCESS = "PROC.KEY of the path file"
    ALL = "*.KEY of the path file"
    KEYWORD = "the value is a keyword of the path file"
    REFERENCE = "OTHER->KEY"
    UNALTERED = "as the resource file has it"
    SUBSTITUTED = "SUB[VAR] replaced"
    JOINED = "PREFIX:rest joined"
    PATH = "only the path file has it"


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a value stands: the file, its line, the keyword there, and by which rule."""

    path: Path
    line: int
    keyword: str
    rule: Rule

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.keyword}, {self.rule.value}"


@dataclass(frozen=True, slots=True)
class Resolved:
    """The value that a process sees, and where it comes from."""

    value: str
    origin: Origin


@dataclass(frozen=True, slots=True)
class Resource:
    """A resource file as it was written. `by_name`: its keywords, with ENV. where they have it."""

    path: Path
    by_name: Mapping[str, Keyword]
    warnings: tuple[str, ...]

    @property
    def name(self) -> str:
        """The name of the process: `g2f` for g2f.resource."""
        return self.path.name.removesuffix(".resource")

    def find(self, keyword: str) -> Keyword | None:
        """A keyword as it is written, else the one that ENV. stands in front of."""
        return self.by_name.get(keyword) or self.by_name.get(ENV + keyword)

    def where(self, keyword: Keyword) -> str:
        """FILE:LINE: KEYWORD, as every message begins."""
        return f"{self.path}:{keyword.line}: {keyword.name}"


def resolve(
    resource: Resource,
    paths: PathFile | None,
    keyword: str,
    environ: Mapping[str, str] | None = None,
) -> Resolved:
    """The value that the process sees for `keyword`, with or without its ENV., and its origin.

    1. PROC.KEY in the path file; 2. *.KEY there; 3. the resource value, if that is a keyword of
    the path file its value, one step; `OTHER->KEY` is KEY of OTHER.path; 4. the resource value
    unaltered, but for PREFIX:rest with PREFIX set. A keyword that only the path file has is its
    value there. `environ` is by default that of the path file. Without a path file (`paths` is
    None) only the rules that need none apply.

    Raises ConfigError, with file, line and keyword, if neither file has the keyword, or a file, a
    keyword or an environment variable that the value names is not there.
    """
    environ = _environment(paths, environ)
    if paths is not None:
        paths = paths.in_environment(environ)
    found = resource.find(keyword)
    key = keyword.removeprefix(ENV)
    override = paths.override(resource.name, key) if paths else None
    if paths and override:
        rule = Rule.ALL if override.name == f"*.{key}" else Rule.PROCESS
        return _of_path(paths, override.name, rule)
    if found is None:
        if paths and key in paths.by_name:
            return _of_path(paths, key, Rule.PATH)
        also = f", nor has {paths.path}" if paths else ""
        raise ConfigError([f"{resource.path}: {keyword}: no such keyword{also}"])
    if paths and found.value in paths.by_name:
        return _of_path(paths, found.value, Rule.KEYWORD)
    try:
        return _own(resource, found, key, environ)
    except (UnresolvedError, ConfigError) as error:
        raise ConfigError([f"{resource.where(found)}: {error}"]) from None


def environment_of(
    resource: Resource, paths: PathFile | None, environ: Mapping[str, str] | None = None
) -> dict[str, str]:
    """What `ENV.` keywords put into the command's environment, by their names without ENV.

    Raises ConfigError with every one that has no meaning now.
    """
    values: dict[str, str] = {}
    problems: list[str] = []
    for name in resource.by_name:
        if not name.startswith(ENV):
            continue
        try:
            values[name.removeprefix(ENV)] = resolve(resource, paths, name, environ).value
        except ConfigError as error:
            problems.extend(error.problems)
    if problems:
        raise ConfigError(problems)
    return values


def _environment(paths: PathFile | None, environ: Mapping[str, str] | None) -> Mapping[str, str]:
    if environ is not None:
        return environ
    return paths.environ if paths else os.environ


def _of_path(paths: PathFile, name: str, rule: Rule) -> Resolved:
    origin = Origin(paths.path, paths.by_name[name].line, name, rule)
    return Resolved(paths.value(name), origin)


def _own(resource: Resource, found: Keyword, key: str, environ: Mapping[str, str]) -> Resolved:
    """The value of the resource file itself: a reference, a prefix, or unaltered."""
    reference = split_reference(found.value)
    if reference:
        value, other = look_up(*reference, environ, resource.path.parent)
        line = other.by_name[reference[1]].line
        return Resolved(value, Origin(other.path, line, reference[1], Rule.REFERENCE))

    def own(value: str, rule: Rule) -> Resolved:
        return Resolved(value, Origin(resource.path, found.line, found.name, rule))

    replaced = key in SUBSTITUTED and has_sub(found.value)
    prefixed = split_prefix(found.value)
    if prefixed and prefixed[0] in environ:
        prefix, rest = prefixed
        return own(join(prefix, substitute(rest, environ) if replaced else rest, environ),
            Rule.JOINED)  # fmt: skip
    if replaced:
        return own(substitute(found.value, environ), Rule.SUBSTITUTED)
    return own(found.value, Rule.UNALTERED)
