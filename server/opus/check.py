"""`python -m server opus-check PATH…`: what is wrong in path, resource and stage files, and what
every keyword means with where that comes from (OPUS, "Path files", "What value does a process
see").
"""

import argparse
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from formats import definitions
from formats.path_file import OBSERVATIONS, PathFile, examine_path_file, named_path_file
from formats.resolution import ENV, Resource, Rule, resolve
from formats.resource_file import ResourceFile, examine_resource_file
from formats.stage_file import StageFile, examine_stage_file
from mirror.errors import ConfigError
from server.blackboard import observations_of
from server.command import show
from server.opus.columns import check_columns
from server.opus.doubts import doubts, unbound_directories


@dataclass(slots=True)
class Report:
    """What a check found: lines for the reader, and problems and warnings as FILE:LINE: KEYWORD."""

    lines: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    observations: dict[str, PathFile] = field(default_factory=dict)

    def title(self, text: str) -> None:
        """Begin a file."""
        self.lines += [*([""] if self.lines else []), text]

    def value(self, keyword: str, ask: Callable[[], tuple[str, str]]) -> str | None:
        """Tell a keyword's value and its origin; returns it, or None if it has none now."""
        try:
            value, origin = ask()
        except ConfigError as error:
            self.problems += error.problems
            return None
        shown = value or "''"
        self.lines.append(f"  {keyword} = {shown}    ({origin})")
        return value


def main(argv: Sequence[str]) -> int:
    """Check what `argv` names and print what was found; returns 0.

    Raises ConfigError with all problems, if there are any, after the values were printed.
    """
    options = _parser().parse_args(argv)
    report = check(options.paths, os.environ, options.processes)
    warnings = [f"warning: {warning}" for warning in report.warnings]
    gap = [""] if report.lines and warnings else []
    if lines := [*report.lines, *gap, *warnings]:
        show("\n".join(lines))
    if report.problems:
        count = len(report.problems)
        said = "1 problem:" if count == 1 else f"{count} problems:"
        raise ConfigError([said, *report.problems])
    return 0


def check(names: Sequence[str], environ: Mapping[str, str], only: Sequence[str] = ()) -> Report:
    """Check paths, by name or file, and resource and stage files, in the order given.

    `only`: of a path, the processes that are checked; none: all that are found. Reads files and
    changes nothing.
    """
    report = Report()
    for name in names:
        try:
            if name.endswith(".resource"):
                check_resource(report, Path(name), None, None, environ)
            elif name.endswith(".stage"):
                check_stages(report, Path(name))
            else:
                check_path(report, named_path_file(name, environ), environ, only)
        except ConfigError as error:
            report.problems += error.problems
    report.problems = list(dict.fromkeys(report.problems))
    report.warnings = list(dict.fromkeys(report.warnings))
    return report


def check_path(
    report: Report, file: Path, environ: Mapping[str, str], only: Sequence[str] = ()
) -> None:
    """Check a path file, its stage file, and the resource files that are found for it.

    These are looked for along OPUS_DEFINITIONS_DIR, then beside the path file.
    """
    paths, problems = examine_path_file(file, environ)
    report.title(f"path {paths.name}: {file}")
    report.problems += problems
    report.warnings += [*paths.warnings, *_other_path_files(paths, environ)]
    for name in paths.keywords():
        value = report.value(name, partial(_path_value, paths, name))
        if name == OBSERVATIONS and value is not None:
            _check_observations(report, paths, value)
    stages = _stages_of(report, paths)
    checked = []
    for resource_file in _resource_files(report, paths, environ, only):
        try:
            checked.append(check_resource(report, resource_file, paths, stages, environ))
        except ConfigError as error:
            report.problems += error.problems
    report.warnings += _idle_overrides(paths, checked, complete=not only)


def check_stages(report: Report, file: Path) -> StageFile:
    """Check a stage file, and tell its stages."""
    stages, problems = examine_stage_file(file)
    report.title(f"stages: {file}")
    report.problems += problems
    report.warnings += stages.warnings
    for stage in stages.stages:
        letters = ", ".join(
            f"{letter} {meaning.text} ({meaning.kind})" for letter, meaning in stage.letters.items()
        )
        report.lines.append(f"  {stage.title} {stage.description}: {letters}")
    return stages


def check_resource(
    report: Report,
    file: Path,
    paths: PathFile | None,
    stages: StageFile | None,
    environ: Mapping[str, str],
) -> ResourceFile:
    """Check a resource file, with a path file as its process sees it there.

    Raises ConfigError if it cannot be opened.
    """
    resource, problems = examine_resource_file(file, paths, environ)
    report.title(f"process {resource.name}{f' on {paths.name}' if paths else ''}: {file}")
    report.problems += problems
    report.warnings += resource.warnings
    for name in resource.by_name:
        report.value(name, partial(_seen, resource, paths, name, environ))
    if paths:
        report.problems += unbound_directories(resource, paths, environ)
        report.warnings += doubts(resource, paths, environ)
    if stages:
        problems, warnings = check_columns(resource, stages)
        report.problems += problems
        report.warnings += warnings
    return resource


def _path_value(paths: PathFile, name: str) -> tuple[str, str]:
    return paths.value(name), f"line {paths.by_name[name].line}"


def _seen(
    resource: Resource, paths: PathFile | None, name: str, environ: Mapping[str, str]
) -> tuple[str, str]:
    found = resolve(resource, paths, name, environ)
    if found.origin.path != resource.path:
        return found.value, str(found.origin)
    rule = found.origin.rule
    how = "" if rule is Rule.UNALTERED else f", {rule.value}"
    return found.value, f"line {found.origin.line}{how}"


def _other_path_files(paths: PathFile, environ: Mapping[str, str]) -> list[str]:
    """Path files do not override each other (seed 003): there should be one of a name."""
    others = definitions.named(paths.path.name, environ, paths.path.parent)
    mine = paths.path.resolve()
    return [
        f"{paths.path}: {other} has the same name; of path files the first one found counts alone"
        for other in dict.fromkeys(others)
        if other.resolve() != mine
    ]


def _check_observations(report: Report, paths: PathFile, value: str) -> None:
    """Each path must use a directory of its own for its entries (seed 003)."""
    try:
        observations_of(paths)
    except ConfigError as error:
        report.problems += error.problems
        return
    before = report.observations.setdefault(os.path.abspath(value), paths)
    if before.path.resolve() != paths.path.resolve():
        report.problems.append(
            f"{paths.path}:{paths.by_name[OBSERVATIONS].line}: {OBSERVATIONS}: a directory of its"
            f" own expected, {before.path} uses {value} too"
        )


def _stages_of(report: Report, paths: PathFile) -> StageFile | None:
    try:
        return check_stages(report, paths.stage_file())
    except ConfigError as error:
        report.problems += error.problems
        return None


def _resource_files(
    report: Report, paths: PathFile, environ: Mapping[str, str], only: Sequence[str]
) -> list[Path]:
    beside = paths.path.parent
    if not only:
        return definitions.every(".resource", environ, beside)
    found = []
    for process in only:
        try:
            found.append(definitions.find(process, ".resource", environ, beside))
        except ConfigError as error:
            report.problems += error.problems
    return found


def _idle_overrides(
    paths: PathFile, resources: Sequence[ResourceFile], *, complete: bool
) -> list[str]:
    """`PROC.KEY` and `*.KEY` for which no process has a KEY; the latter if all were looked at."""
    keys: dict[str, set[str]] = {}
    for resource in resources:
        own = {name.removeprefix("ENV.") for name in resource.by_name}
        keys[resource.name.casefold()] = own
    if complete and resources:
        keys["*"] = set().union(*keys.values())
    warnings = []
    for name, keyword in paths.by_name.items():
        process, dot, key = name.partition(".")
        if dot and key not in keys.get(process.casefold(), {key}):
            who = "no process has" if process == "*" else f"{process}.resource has no"
            why = f"{who} {key}; it changes nothing"
            if key.startswith(ENV):
                why = f"{process}.{key.removeprefix(ENV)} expected: without {ENV} in front"
            warnings.append(f"{paths.path}:{keyword.line}: {name}: {why}")
    return warnings


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="opus-check",
        description="Check path, resource and stage files, and tell what every keyword means.",
        epilog="Exit status: 0 without problems, 3 with problems.",
    )
    parser.add_argument(
        "paths",
        nargs="+",
        metavar="PATH",
        help="the name of a path, looked for along OPUS_DEFINITIONS_DIR, or a file that ends in"
        " .path, .resource or .stage",
    )
    parser.add_argument(
        "-r",
        dest="processes",
        action="append",
        default=[],
        metavar="PROC",
        help="of a path, check this process only; may be repeated",
    )
    return parser
