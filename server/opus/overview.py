"""What the boards of a path show at one moment: its datasets stage by stage, and its processes.

The original's two managers, of observations (OMG) and of processes (PMG), show the same; here the
`status` command prints it, and the monitor's pages do. Nothing is changed by looking.
"""

import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from formats import definitions
from formats.path_file import PathFile, named_path_file, read_path_file
from formats.resource_file import DEFAULT_CLASS, Display, examine_resource_file
from formats.stage_file import StageFile, read_stage_file
from mirror.disk import told
from mirror.errors import ConfigError
from server.blackboard import (
    Blackboard,
    Entry,
    Filter,
    Process,
    board_place,
    observations_of,
    open_blackboard,
)
from server.opus.board_records import check_states
from server.site import SqliteFile


@dataclass(frozen=True, slots=True)
class Worker:
    """A process on the board, and how its resource file wants it shown."""

    process: Process
    display: Display

    @property
    def asked(self) -> str | None:
        """What the process was asked to do and has not done yet."""
        wish, state = self.process.wish, self.process.state
        waiting = (
            (wish == "halt" and state not in ("halted", "absent"))
            or (wish == "suspend" and state in ("idle", "busy", "iowait"))
            or (wish == "resume" and state == "suspended")
        )
        return wish if waiting else None


@dataclass(frozen=True, slots=True)
class Overview:
    """A path at the time `at` (UTC): of all datasets that fit the filter, `total`, the last ones.

    `counts`: title of a stage → letter in upper case → how many of `total` have it.
    """

    paths: PathFile
    stages: StageFile
    at: str
    total: int
    counts: Mapping[str, Mapping[str, int]]
    entries: tuple[Entry, ...]
    workers: tuple[Worker, ...]


def path_files(names: Sequence[str], environ: Mapping[str, str]) -> list[Path]:
    """The path files that `names` mean, or without names all along OPUS_DEFINITIONS_DIR.

    Raises ConfigError if a name means none, or there are none at all.
    """
    if names:
        return [named_path_file(name, environ) for name in names]
    found = definitions.every(".path", environ)
    if not found:
        where = environ.get(definitions.DEFINITIONS) or "which is not set"
        raise ConfigError(
            [f"no path: name one, or have NAME.path along {definitions.DEFINITIONS} ({where})"]
        )
    return found


def look(
    file: Path, environ: Mapping[str, str], chosen: Filter | None = None, limit: int | None = None
) -> Overview:
    """What the boards of the path `file` show now; the last `limit` datasets, None: all of them.

    Raises ConfigError for files that are wrong, LocalError for a board that cannot be read.
    """
    paths = read_path_file(file, environ)
    with opened(paths, environ) as board:
        return overview(board, paths, chosen or Filter(), limit)


@contextmanager
def opened(paths: PathFile, environ: Mapping[str, str]) -> Iterator[Blackboard | None]:
    """The board of a path, or None if there is none yet: looking makes no board."""
    directory = observations_of(paths)
    place, _ = board_place(directory, environ)
    with told(directory):
        there = place.path.exists() if isinstance(place, SqliteFile) else directory.is_dir()
    if not there:
        yield None
        return
    with open_blackboard(paths, environ, create=False) as board:
        yield board


def overview(
    board: Blackboard | None, paths: PathFile, chosen: Filter, limit: int | None
) -> Overview:
    """As `look`, of a board that is open; of None an empty one."""
    stages = board.stages if board else read_stage_file(paths.stage_file())
    check_states(stages, chosen.states)
    counts: dict[str, Counter[str]] = {title: Counter() for title in stages.titles()}
    kept: deque[Entry] = deque(maxlen=limit)
    total = 0
    for entry in board.entries(chosen) if board else ():
        total += 1
        kept.append(entry)
        for title, counted in counts.items():
            counted[entry.states.get(title, "_").upper()] += 1
    workers = sorted(_workers(board.processes() if board else (), paths), key=_order)
    return Overview(paths, stages, utc(time.time()), total, counts, tuple(kept), tuple(workers))


def utc(seconds: float) -> str:
    """A time as everything here tells it: UTC, to the second."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def _workers(processes: Sequence[Process], paths: PathFile) -> list[Worker]:
    # Of one process there may be many copies.
    shown = {name: _display(name, paths) for name in {process.name for process in processes}}
    return [Worker(process, shown[process.name]) for process in processes]


def _display(name: str, paths: PathFile) -> Display:
    """How the process is shown; a resource file that is gone or wrong keeps nobody from looking."""
    try:
        file = definitions.find(name, ".resource", paths.environ, paths.path.parent)
        return examine_resource_file(file, paths)[0].display
    except ConfigError:
        return Display(DEFAULT_CLASS, "", 0, "", name)


def _order(worker: Worker) -> tuple[str, int, str, int]:
    """By SYSTEM, DISPLAY_ORDER and name (OPUS, "Process resource files")."""
    display, process = worker.display, worker.process
    return display.system, display.order, process.name, process.holder
