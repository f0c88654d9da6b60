"""What a poll of a trigger directory costs: `python benchmarks/triggers.py [--files N]`.

Puts N files (default 10,000) into a directory and prints, best of five: a poll that finds nothing
among them, against a bare os.scandir of the same directory; the claim of a file, beside a bare
os.rename; both for N/10 and N files, so that a cost that grows with their number shows. Then how
many events a second the real xpoll handles, 300 files with the command `true`, against how many
times a second `true` can be started alone.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from server.opus.files import Wanted, Watch, claim_files

EVENTS = 300
STAGES = "NSTAGE = 1\nSTAGE01.TITLE = GC\nSTAGE01.NSTATUS.W = waits\n"
RESOURCE = """\
POLLING_TIME = 1
TASK = < xpoll -p $PATH_FILE -r bench >
COMMAND = true
XPOLL_STATE.00 = FILE_SUCCESS
FILE_RANK = 1
FILE_DIRECTORY1 = {inbox}
FILE_OBJECT1 = *.in
FILE_PROCESSING = _proc
FILE_SUCCESS = _ok
FILE_ERROR = _bad
"""
XPOLL = "import sys; from server.process import main; sys.exit(main(sys.argv[1:]))"


class Unrecorded:
    """A board that remembers nothing: what is measured are files."""

    def note_file(self, holder: int, original: Path, claimed: Path) -> None:
        pass

    def forget_file(self, holder: int, claimed: Path) -> None:
        pass


def best(work: Callable[[], object], times: int = 5) -> float:
    """Seconds of the fastest of some runs."""
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def fill(directory: Path, count: int, ending: str) -> None:
    """Make empty files."""
    directory.mkdir()
    for number in range(count):
        (directory / f"o{number:06}{ending}").touch()


def bare(directory: Path) -> list[str]:
    """The names in a directory, as fast as Python can have them."""
    with os.scandir(directory) as entries:
        return [entry.name for entry in entries]


def poll(directory: Path) -> Watch:
    """A look with nothing left of the last one."""
    watch = Watch(10.0, 10.0)
    watch.look([Wanted(directory, "*.in", 1, ("_proc", "_ok"))], 0.0)
    return watch


def claims(directory: Path, events: int) -> float:
    """Seconds of the claim of one file, in a process that has work for many events."""
    watch, board = poll(directory), Unrecorded()
    start = time.perf_counter()
    for _ in range(events):
        watch.look([Wanted(directory, "*.in", 1, ("_proc", "_ok"))], 1.0)
        assert claim_files(watch, "_proc", board, 1)
    return (time.perf_counter() - start) / events


def renames(directory: Path, events: int) -> float:
    """Seconds of a bare rename."""
    names = sorted(bare(directory))[:events]
    start = time.perf_counter()
    for name in names:
        os.rename(directory / name, directory / f"{name}_proc")
    return (time.perf_counter() - start) / events


def looks(directory: Path, count: int) -> None:
    """Measure what is done to a directory with `count` files."""
    idle, busy, peer = (directory / f"{kind}{count}" for kind in ("idle", "busy", "peer"))
    fill(idle, count, ".out")
    fill(busy, count, ".in")
    fill(peer, count, ".in")
    nothing, listed = best(lambda: poll(idle)), best(lambda: bare(idle))
    found = best(lambda: poll(busy))
    events = min(count, 1000)
    claim, rename = claims(busy, events), renames(peer, events)
    print(
        f"{count:>8}{nothing * 1e3:>12.2f}{found * 1e3:>12.2f}{listed * 1e3:>12.2f}"
        f"{nothing / listed:>8.1f}{claim * 1e6:>12.1f}{rename * 1e6:>12.1f}{claim / rename:>8.1f}"
    )


def xpoll(directory: Path) -> float:
    """Events a second of the real process, its start included."""
    inbox = directory / "inbox"
    fill(inbox, EVENTS, ".in")
    (directory / "bench.path").write_text(
        f"OPUS_OBSERVATIONS_DIR = {directory}/obs\nSTAGE_FILE = {directory}/bench.stage\n"
    )
    (directory / "bench.stage").write_text(STAGES)
    (directory / "bench.resource").write_text(RESOURCE.format(inbox=inbox))
    environ = {
        **os.environ,
        "OPUS_DEFINITIONS_DIR": str(directory),
        "OPUS_HOME_DIR": str(directory),
        "PYTHONPATH": str(Path(__file__).resolve().parent.parent),
    }
    words = [sys.executable, "-c", XPOLL, "-p", "bench", "-r", "bench", "--once"]
    start = time.perf_counter()
    subprocess.run(words, env=environ, check=True)
    seconds = time.perf_counter() - start
    assert len(list(inbox.glob("*_ok"))) == EVENTS
    return EVENTS / seconds


def started() -> float:
    """How many times a second a command can be started and waited for."""

    def run() -> None:
        for _ in range(EVENTS):
            subprocess.run(["true"], check=True)

    return EVENTS / best(run, 1)


def main() -> None:
    """Make the directories, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=10_000, help="files (default 10000)")
    count = parser.parse_args().files
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        print(
            f"{'files':>8}{'idle ms':>12}{'found ms':>12}{'scandir ms':>12}{'ratio':>8}"
            f"{'claim us':>12}{'rename us':>12}{'ratio':>8}"
        )
        for number in (max(count // 10, 1), count):
            looks(directory, number)
        mine, alone = xpoll(directory), started()
        print(f"xpoll: {mine:.0f} events/s; `true` alone: {alone:.0f}/s; ratio {mine / alone:.2f}")


if __name__ == "__main__":
    main()
