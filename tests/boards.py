"""A path with a blackboard, and other processes that work on it until told, done, or killed.

Run as a program it is such a process: `boards.py DIRECTORY ACT NAME…`.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from client import PATIENCE
from places import environment_of

from formats.triggers import OsfMatch
from parse_config import PathFile, read_path_file
from server.blackboard import Blackboard, Entry, Key, open_blackboard
from server.site import Place, PostgresServer

STAGES = """\
NSTAGE = 3
STAGE01.TITLE = LI
STAGE01.NSTATUS.W = 'Waiting'
STAGE01.PSTATUS.P = 'Listing'
STAGE01.CSTATUS.C = 'Listed'
STAGE01.TSTATUS.X = 'Trouble'
STAGE02.TITLE = FE
STAGE02.NSTATUS.W = 'Waiting'
STAGE02.PSTATUS.P = 'Fetching'
STAGE02.CSTATUS.C = 'Fetched'
STAGE02.TSTATUS.X = 'Trouble'
STAGE03.TITLE = DN
STAGE03.CSTATUS.C = 'Done'
"""
TYPE = "fst"
TIME = r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ"
"""A time as commands print it: a regular expression."""
WAITING = OsfMatch(1, {"FE": "w"}, None, None, 1)
FETCHING = {"FE": "p"}


@dataclass(frozen=True, slots=True)
class BoardSite:
    """A path `blue` in a directory, and the environment in which its commands run."""

    directory: Path
    environ: Mapping[str, str]

    @property
    def paths(self) -> PathFile:
        return read_path_file(self.directory / "blue.path", {})

    @property
    def observations(self) -> Path:
        return self.directory / "obs"

    def board(self, *, create: bool = True) -> AbstractContextManager[Blackboard]:
        return open_blackboard(self.paths, self.environ, create=create)

    def start(self, act: str, *words: str) -> "subprocess.Popen[str]":
        """Another process; its first line says that it has joined, or has claimed."""
        return subprocess.Popen(
            [sys.executable, __file__, str(self.directory), act, *words],
            env={**os.environ, **self.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    @contextmanager
    def running(self, act: str, *words: str) -> Iterator["subprocess.Popen[str]"]:
        """A process that is killed at the end if it still runs; it has said its first line."""
        process = self.start(act, *words)
        assert process.stdout
        try:
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()
            process.communicate()

    def at_once(self, act: str, *each: Sequence[str]) -> list[str]:
        """Processes that begin together, one with each of these words; what each has printed."""
        processes = [self.start(act, *words) for words in each]
        for process in processes:
            assert process.stdout
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            assert process.stdin
            process.stdin.write("\n")
            process.stdin.flush()
        said = [process.communicate(timeout=PATIENCE)[0] for process in processes]
        assert [process.returncode for process in processes] == [0] * len(each)
        return said


def board_site(directory: Path, place: Place, stages: str = STAGES) -> BoardSite:
    """A site whose path has `stages`, with its board in a file or in the PostgreSQL at `place`."""
    (directory / "blue.path").write_text(
        f"OPUS_OBSERVATIONS_DIR = {directory}/obs\nSTAGE_FILE = {directory}/blue.stage\n"
    )
    (directory / "blue.stage").write_text(stages)
    environ = environment_of(place) if isinstance(place, PostgresServer) else {}
    return BoardSite(directory, environ)


def named_site(directory: Path, place: Place, monkeypatch: pytest.MonkeyPatch) -> BoardSite:
    """Such a site whose path the commands of this process find by its name."""
    site = board_site(directory, place)
    monkeypatch.setenv("OPUS_DEFINITIONS_DIR", str(directory))
    for name, value in site.environ.items():
        monkeypatch.setenv(name, value)
    return site


NOBODY = 1 << 30
"""The number of no process."""


def join(board: Blackboard, name: str = "fetch", host: str | None = None, pid: int = NOBODY) -> int:
    """A process that lives as long as the board is open here; the system does not know it."""
    return board.join(name, "blue", host or board.host, pid, f"xpoll -r {name}")


def fill(board: Blackboard, count: int, states: Mapping[str, str] | None = None) -> list[Key]:
    """Entries fs0, fs1 … that wait to be fetched."""
    keys = [Key(f"fs{number}", TYPE) for number in range(count)]
    for key in keys:
        board.create(key, {"FE": "w"} if states is None else states)
    return keys


def letters(entry: Entry | None) -> str:
    """The letters of an entry in the order of the stages."""
    assert entry
    return "".join(entry.states.values())


def _ready() -> None:
    print("ready", flush=True)
    sys.stdin.readline()


def _claim_all(board: Blackboard, holder: int, limit: str) -> None:
    """Claim and settle until nothing is left; print what was claimed."""
    _ready()
    while entries := board.claim(WAITING, FETCHING, int(limit), holder):
        for entry in entries:
            board.settle(holder, entry.key, {"FE": "c"})
            print(entry.key.dataset)


def _work_forever(board: Blackboard, holder: int) -> None:
    """Claim and settle or give back, again and again, printing what was settled."""
    _ready()
    while True:
        for number, entry in enumerate(board.claim(WAITING, FETCHING, 3, holder)):
            if number == 2:
                board.give_back(holder, entry.key)
            else:
                board.settle(holder, entry.key, {"FE": "c"})
                print(entry.key.dataset, flush=True)


def _hold(board: Blackboard, holder: int, limit: str, file: str = "") -> None:
    """Claim entries, and a file, and wait for the end."""
    board.claim(WAITING, FETCHING, int(limit), holder)
    if file:
        claimed = Path(f"{file}_proc")
        board.note_file(holder, Path(file), claimed)
        os.rename(file, claimed)
    _ready()


def _reap(board: Blackboard, holder: int) -> None:
    """Reap, and print what was returned."""
    _ready()
    for line in board.reap():
        print(line)


_ACTS: dict[str, Callable[..., None]] = {
    "claim": _claim_all,
    "work": _work_forever,
    "hold": _hold,
    "reap": _reap,
}


def main() -> None:
    directory, act, *words = sys.argv[1:]
    paths = read_path_file(Path(directory) / "blue.path", {})
    with open_blackboard(paths, os.environ) as board:
        holder = join(board, act, pid=os.getpid())
        with board.hold_alive(holder):
            _ACTS[act](board, holder, *words)
            board.leave(holder, "halted")


if __name__ == "__main__":
    main()
