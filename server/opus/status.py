"""`python -m server status`: both boards of a path as text, as the original's managers show them.

For each path its processes, how many datasets are how far, and the last datasets with a letter
for each stage. With --watch again and again, until Ctrl-C; on a terminal as much as it shows.

Exit status: 0 done; 2 usage, or a board cannot be read; 3 a path or stage file is refused, or a
stage or letter that was asked for. The boards of other paths are shown all the same.
"""

import argparse
import math
import os
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from formats.stage_file import NOT_SET, Stage
from mirror.errors import ConfigError, MirrorError
from server.blackboard import Filter
from server.command import about, show
from server.faults import code_of
from server.opus.overview import Overview, Worker, look, path_files

WATCH = 5.0
"""Seconds between two looks of --watch, unless it says otherwise."""

DATASETS = 40
"""Datasets of a path that are shown, the last ones, unless --limit says otherwise."""

_CLEAR = "\x1b[H\x1b[2J"
_PROCESSES = (
    "HOLDER", "PROCESS", "CLS", "STATE", "SINCE", "HOST", "PID", "ASKED", "WORKING ON",
)  # fmt: skip
_NUMBERS = ("HOLDER", "PID", "COUNT")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be shown: which datasets, at most how many (None: all), and which boards."""

    chosen: Filter
    limit: int | None
    datasets: bool = True
    processes: bool = True


def main(argv: Sequence[str]) -> int:
    """Print the boards; returns 0, or what is wrong with some of them as an exit status; with
    --watch until it is interrupted.

    Raises what is wrong with the only path, but with --watch it may be right in a moment.
    """
    options = _parser().parse_args(argv)
    wanted = Wanted(
        chosen_by(options.dataset, options.type, options.dcf, options.states),
        None if options.all else options.limit,
        not options.processes,
        not options.datasets,
    )
    while True:
        faults: list[MirrorError] = []
        text = "\n\n".join(boards(options.path, os.environ, wanted, faults))
        if options.watch is None:
            if faults and len(path_files(options.path, os.environ)) == 1:
                raise faults[0]
            show(text)
            return min(map(code_of, faults), default=0)
        if sys.stdout.isatty():
            size = shutil.get_terminal_size()
            show(f"{_CLEAR}{cut(text, size.columns, size.lines)}")
        else:
            show(f"{text}\n")
        time.sleep(options.watch)


def boards(
    names: Sequence[str],
    environ: Mapping[str, str],
    wanted: Wanted,
    faults: list[MirrorError],
) -> Iterator[str]:
    """The boards of each path as text; see `path_files` for `names`.

    A path that cannot be looked at says so, its fault is added to `faults`, and the others are
    shown.
    """
    for file in path_files(names, environ):
        try:
            seen = look(file, environ, wanted.chosen, wanted.limit)
        except MirrorError as error:
            faults.append(error)
            yield "\n".join((f"path {file.stem}: {file}", *(f"  {one}" for one in _lines(error))))
            continue
        yield as_text(seen, wanted)


def _lines(error: MirrorError) -> list[str]:
    return error.problems if isinstance(error, ConfigError) else str(error).splitlines()


def cut(text: str, columns: int, lines: int) -> str:
    """As much of a text as a terminal of this size shows without moving; its last line says how
    many there are more."""
    # The line end behind the last line needs a line too.
    there, room = text.splitlines(), max(lines - 1, 1)
    if len(there) > room:
        there = [*there[: room - 1], f"… {len(there) - room + 1} lines more"]
    return "\n".join(line[:columns] for line in there)


def as_text(seen: Overview, wanted: Wanted) -> str:
    """A path's boards, lines without an end."""
    where = seen.paths.value("OPUS_OBSERVATIONS_DIR")
    parts = [[f"path {seen.paths.name}: {where}    {seen.at}"]]
    if wanted.processes:
        parts.append(_process_lines(seen.workers))
    if wanted.datasets:
        parts += [_count_lines(seen), _dataset_lines(seen)]
    return "\n".join(line for part in parts for line in part)


def chosen_by(
    dataset: str | None, data_id: str | None, dcf: str | None, states: Sequence[str]
) -> Filter:
    """Which datasets are wanted; `states` are texts `XX=s` or `XX=s,YY=s`. Raises ConfigError."""
    wanted: dict[str, str] = {}
    problems = []
    for pair in (pair for text in states for pair in text.split(",")):
        title, equals, letter = pair.strip().partition("=")
        if not equals or len(title) != 2 or len(letter) != 1:
            problems.append(f"-s: XX=s expected, a stage and its letter, not {pair!r}")
        wanted[title] = letter
    if problems:
        raise ConfigError(problems)
    return Filter(dataset=dataset, data_id=data_id, dcf=dcf, states=wanted)


def kinds_of(workers: Sequence[Worker]) -> str:
    """How many processes are in which state: `4: 1 busy, 3 idle`."""
    states = Counter(worker.process.state for worker in workers)
    told = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
    return f"{len(workers)}{f': {told}' if told else ''}"


def letters_of(stage: Stage, counts: Mapping[str, int]) -> list[tuple[str, str, int]]:
    """Each letter that occurs in a stage, what it means, and how often, in the file's order."""
    order = list(stage.letters)
    known = [letter for letter in order if counts.get(letter)]
    others = sorted(letter for letter, count in counts.items() if count and letter not in order)
    return [(letter, meaning(stage, letter), counts[letter]) for letter in (*known, *others)]


def meaning(stage: Stage, letter: str) -> str:
    """What a letter means in a stage."""
    if letter == NOT_SET:
        return "not set"
    found = stage.meaning(letter)
    return found.text if found else "no letter of the stage file"


def _process_lines(workers: Sequence[Worker]) -> list[str]:
    rows = [
        (
            str(process.holder), process.name, worker.display.class_, process.state,
            process.since, process.host, str(process.pid), worker.asked or "-",
            process.working_on or "-",
        )
        for worker in workers
        for process in [worker.process]
    ]  # fmt: skip
    return ["", f"processes {kinds_of(workers)}", *(_table(_PROCESSES, rows) if rows else ())]


def _count_lines(seen: Overview) -> list[str]:
    rows = [
        (stage.title, stage.description or "-", letter, text, str(count))
        for stage in seen.stages.stages
        for letter, text, count in letters_of(stage, seen.counts[stage.title])
    ]
    heads = ("STAGE", "DESCRIPTION", "LETTER", "MEANING", "COUNT")
    return ["", f"datasets {seen.total}", *(_table(heads, rows) if rows else ())]


def _dataset_lines(seen: Overview) -> list[str]:
    titles = seen.stages.titles()
    rows = [
        (
            entry.start, entry.key.dataset, entry.key.data_id, entry.key.dcf,
            *(entry.states.get(title, NOT_SET) for title in titles),
        )
        for entry in seen.entries
    ]  # fmt: skip
    if not rows:
        return []
    left_out = seen.total - len(rows)
    more = [f"… {left_out} older datasets are not shown (--all)"] if left_out else []
    return ["", *_table(("START", "DATASET", "TYPE", "DCF", *titles), rows), *more]


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    lines = []
    for row in (heads, *rows):
        cells = (
            cell.rjust(width) if head in _NUMBERS else cell.ljust(width)
            for head, cell, width in zip(heads, row, widths, strict=True)
        )
        lines.append(f"  {'  '.join(cells).rstrip()}")
    return lines


# Options


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="status", allow_abbrev=False, description=about(__doc__),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add = parser.add_argument
    add("-p", dest="path", action="append", default=[], metavar="PATH",
        help="a path, by name or file; may be repeated (default: all along"
             " OPUS_DEFINITIONS_DIR)")  # fmt: skip
    add("-f", dest="dataset", metavar="GLOB", help="datasets whose names fit")
    add("-t", dest="type", metavar="TYPE", help="datasets of this type (DATA_ID)")
    add("-n", dest="dcf", metavar="DCF", help="datasets of this DCF number")
    add("-s", dest="states", action="append", default=[], metavar="XX=s",
        help="datasets in this state of stage XX; may be repeated, or XX=s,YY=s")  # fmt: skip
    add("--watch", type=_seconds, nargs="?", const=WATCH, metavar="SECONDS",
        help=f"look again every SECONDS (default: {WATCH:g}), until Ctrl-C")  # fmt: skip
    which = parser.add_mutually_exclusive_group().add_argument
    which("--limit", type=_count, default=DATASETS, metavar="N",
          help="show the last N datasets (default: %(default)d)")  # fmt: skip
    which("--all", action="store_true", help="show all datasets")
    board = parser.add_mutually_exclusive_group().add_argument
    board("--processes", action="store_true", help="show processes only")
    board("--datasets", action="store_true", help="show datasets only")
    return parser


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0.1 <= value <= 86400:
        raise argparse.ArgumentTypeError(f"seconds from 0.1 to 86400 expected, not {text}")
    return value


def _count(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise argparse.ArgumentTypeError(f"a number expected, not {text}")
    return int(text)
