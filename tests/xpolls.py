"""A path with a blackboard and processes on it, run by the real xpoll."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from client import PATIENCE, PROJECT, Ran, wait_for

from formats.path_file import PathFile, read_path_file
from server.blackboard import Blackboard, Key, open_blackboard
from server.opus.board_records import Process

XPOLL = "import sys; from server.process import main; sys.exit(main(sys.argv[1:]))"
"""Not by the command's name: so a fault of these rooms alone fails these tests."""

GUARDED = (
    "import sys; from server.__main__ import COMMANDS, Command, main;"
    "COMMANDS.setdefault('xpoll', Command('server.process', ''));"
    "sys.exit(main(['xpoll', *sys.argv[1:]]))"
)

STAGES = """\
NSTAGE = 2
STAGE01.TITLE = GC
STAGE01.NSTATUS.W = waits
STAGE01.PSTATUS.P = works
STAGE01.CSTATUS.C = done
STAGE01.TSTATUS.X = failed
STAGE01.TSTATUS.A = absent
STAGE02.TITLE = CA
STAGE02.NSTATUS.W = waits
STAGE02.NSTATUS.N = needless
STAGE02.CSTATUS.C = done
"""

FILES = """\
FILE_RANK = 1
FILE_DIRECTORY1 = INDIR
FILE_OBJECT1 = *.in
FILE_PROCESSING = _proc
FILE_SUCCESS = _ok
FILE_ERROR = _bad
"""

ENTRIES = """\
OSF_RANK = 2
OSF_TRIGGER1.GC = w
OSF_TRIGGER1.DATA_ID = fst
OSF_PROCESSING.GC = p
OSF_DONE.GC = c
OSF_DONE.CA = w
XPOLL_ERROR.GC = x
"""

SUCCESS = "XPOLL_STATE.00 = FILE_SUCCESS\n"
DONE = "XPOLL_STATE.00 = OSF_DONE\n"
SEEN = "echo ${EVENT_NAME##*/} >> $OUT/seen"
"""A command that leaves the name of its file in $OUT/seen."""


@dataclass(frozen=True)
class Pipeline:
    """A path called `night` in a directory of its own, and its processes."""

    directory: Path
    database: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("in", "home", "bin"):
            (self.directory / name).mkdir(parents=True, exist_ok=True)
        (self.directory / "night.stage").write_text(STAGES)
        self.path("")

    @property
    def inbox(self) -> Path:
        """The directory where files arrive."""
        return self.directory / "in"

    @property
    def home(self) -> Path:
        """OPUS_HOME_DIR."""
        return self.directory / "home"

    def path(self, more: str) -> None:
        """Write the path file, with more keywords."""
        (self.directory / "night.path").write_text(
            f"OPUS_OBSERVATIONS_DIR = {self.directory}/obs\n"
            f"STAGE_FILE = {self.directory}/night.stage\nINDIR = {self.inbox}\n{more}"
        )

    def resource(self, script: str, more: str, name: str = "proc", polling: str = "0.05") -> None:
        """Write a resource file whose command is `script`, for sh."""
        program = self.directory / "bin" / name
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        (self.directory / f"{name}.resource").write_text(
            f"POLLING_TIME = {polling}\nTASK = < xpoll -p $PATH_FILE -r {name} >\n"
            f"COMMAND = {name}\n{more}"
        )

    def drop(self, *names: str) -> None:
        """Put files into the inbox, complete at once; each holds its name."""
        for name in names:
            (self.inbox / name).write_text(name)

    def inboxed(self) -> list[str]:
        """What is in the inbox."""
        return sorted(os.listdir(self.inbox))

    def log(self, name: str = "proc") -> str:
        """The process log."""
        return (self.home / f"night-{name}.log").read_text()

    def said(self) -> str:
        """The process log, as far as there is one."""
        return self.log() if (self.home / "night-proc.log").exists() else ""

    def environment(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        """The environment in which xpoll is started."""
        return {
            **os.environ,
            "PATH": f"{self.directory}/bin:{os.environ['PATH']}",
            "OPUS_DEFINITIONS_DIR": str(self.directory),
            "OPUS_HOME_DIR": str(self.home),
            "OUT": str(self.directory),
            **self.database,
            **(more or {}),
        }

    def start(
        self,
        *options: str,
        name: str = "proc",
        more: Mapping[str, str] | None = None,
        program: str = XPOLL,
        fds: Sequence[int] = (),
        stdin: int = subprocess.DEVNULL,
    ) -> "subprocess.Popen[str]":
        """Start a process of the path."""
        return subprocess.Popen(
            [sys.executable, "-c", program, "-p", "night", "-r", name, *options],
            cwd=PROJECT, env=self.environment(more), stdin=stdin,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, pass_fds=fds,
            start_new_session=True,
        )  # fmt: skip

    def once(
        self, name: str = "proc", more: Mapping[str, str] | None = None, fds: Sequence[int] = ()
    ) -> Ran:
        """`xpoll --once`, as the command does it."""
        process = self.start("--once", name=name, more=more, program=GUARDED, fds=fds)
        out, err = process.communicate(timeout=PATIENCE)
        return Ran(process.returncode, out, err)

    @contextmanager
    def running(self, name: str = "proc") -> Iterator["subprocess.Popen[str]"]:
        """A process for the length of a `with`; it is killed then if it has not ended."""
        process = self.start(name=name)
        try:
            yield process
        finally:
            process.kill()
            process.communicate(timeout=PATIENCE)

    def paths(self) -> PathFile:
        """The path file."""
        return read_path_file(self.directory / "night.path", self.environment())

    @contextmanager
    def board(self) -> Iterator[Blackboard]:
        """The blackboard."""
        with open_blackboard(self.paths(), self.environment()) as board:
            yield board

    def post(self, *datasets: str) -> None:
        """Make entries that wait."""
        with self.board() as board:
            for dataset in datasets:
                board.create(Key(dataset, "fst"), {"GC": "w"})

    def letters(self) -> dict[str, str]:
        """Of each dataset the letters of its stages."""
        with self.board() as board:
            return {one.key.dataset: "".join(one.states.values()) for one in board.entries()}

    def processes(self) -> list[Process]:
        """The processes on the board."""
        with self.board() as board:
            return board.processes()

    def wait(self, condition: Callable[[], object]) -> None:
        """Wait, with patience, until a condition holds."""
        wait_for(condition)

    def wait_for_state(self, state: str) -> None:
        """Wait until the last process is in a state."""
        wait_for(lambda: [one.state for one in self.processes()][-1:] == [state])


def stop(process: "subprocess.Popen[str]") -> Ran:
    """End a process in order."""
    process.terminate()
    out, err = process.communicate(timeout=PATIENCE)
    return Ran(process.returncode, out, err)


def noted(pipeline: Pipeline, name: str = "seen") -> list[str]:
    """The lines that commands have left in $OUT/NAME."""
    file = pipeline.directory / name
    return file.read_text().splitlines() if file.exists() else []


def to_directory(directory: Path) -> str:
    """FILE_SUCCESS moves there."""
    return FILES.replace("FILE_SUCCESS = _ok", f"FILE_SUCCESS.DIRECTORY = {directory}")


def free_says(file: Path) -> str:
    """A change of xpoll, in the words of Python: how many blocks are free is what a file says."""
    return (
        "import functools, pathlib, server.process as p, server.opus.loop as room\n"
        f"file = pathlib.Path({str(file)!r})\n"
        "p.Process = functools.partial(room.Process, free=lambda _: int(file.read_text() or 0))\n"
    )
