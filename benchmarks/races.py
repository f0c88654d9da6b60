"""One race: runs in turn, each in a directory of its own, measured and checked; and its table."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Self

from benchmarks.runners import Runner
from benchmarks.servers import Server

HERE = Path(__file__).resolve().parent

Check = Callable[[Path, int], None]
"""Judges the tree that a run has left, given the number of the round."""

LIMIT = 1800.0
"""Seconds after which a run is taken for one that hangs."""

SHORT = 20 * 10**9
"""Bytes free on a disk below which what earlier runs have left is removed."""

PATIENCE = 6
"""How often a disturbed run is tried again where quiet ones are wanted."""

WAIT = 20
"""Seconds at most that are waited for others to have done, before every run and repetition."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What a run cost: seconds, seconds of processor, MiB of its largest process.

    `others`: seconds of processor that neither the run nor the server had in the meantime.
    """

    wall: float
    cpu: float
    memory: float
    others: float

    @property
    def disturbed(self) -> bool:
        """Whether others had more than a little of the machine."""
        return self.others > 0.06 + 0.05 * self.wall * (os.cpu_count() or 1)


@dataclass(slots=True)
class Result:
    """A runner and the costs of its runs."""

    runner: Runner
    costs: list[Cost] = field(default_factory=list)

    @property
    def wall(self) -> float:
        """The median, in seconds."""
        return median(cost.wall for cost in self.costs)

    @property
    def cpu(self) -> float:
        """The median, in seconds."""
        return median(cost.cpu for cost in self.costs)

    @property
    def memory(self) -> float:
        """The most of all runs, in MiB."""
        return max(cost.memory for cost in self.costs)


class Course:
    """Where the runs take place: a new directory below `work`, gone with the `with` statement.

    ext4 takes ten times as long for a new file where many have just been deleted, so on a disk
    the directories of the runs are removed at the end only, or when room gets short; in memory at
    once.
    """

    def __init__(self, work: Path) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="runs.", dir=work))
        self._in_memory = work.resolve().is_relative_to("/dev/shm")
        self._count = 0
        if shutil.which("chattr") and not self._in_memory:
            # New directories are spread over the disk, away from where others were deleted.
            command = ["chattr", "+T", str(self._directory)]
            subprocess.run(command, stderr=subprocess.DEVNULL, check=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self._directory)

    def fresh(self, runner: Runner) -> Path:
        """A new directory with the runner's files."""
        if self._in_memory or shutil.disk_usage(self._directory).free < SHORT:
            for spent in self._directory.iterdir():
                shutil.rmtree(spent)
        self._count += 1
        place = self._directory / str(self._count)
        place.mkdir()
        for name, text in runner.files.items():
            file = place / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        if not self._in_memory:
            os.sync()  # what others have left to be written is not this run's
        return place


def measure(runner: Runner, place: Path, server: Server) -> Cost:
    """Run in a prepared directory. Raises RuntimeError if it fails, with the end of its log."""
    result, log = place / ".cost", place / ".log"
    launcher = [sys.executable, "-I", "-S", str(HERE / "launch.py"), str(result)]
    environ = {**os.environ, **runner.environ}
    before = _busy() - server.cpu()
    with log.open("wb") as output:
        subprocess.run(
            [*launcher, *runner.command], cwd=place, env=environ, stdin=subprocess.DEVNULL,
            stdout=output, stderr=output, timeout=LIMIT, check=True,
        )  # fmt: skip
    after = _busy() - server.cpu()
    status, *used = result.read_text().split()
    wall, cpu, kilobytes = map(float, used)
    if status != "0":
        raise RuntimeError(f"{runner.name}: exit status {status}\n{log.read_text()[-2000:]}")
    return Cost(wall, cpu, kilobytes / 1024, after - before - cpu)


def _busy() -> float:
    """Seconds that the processors of this machine have worked for processes, or were taken away.

    What interrupts took is not in it: the system books it to nobody, and here it is the racers'.
    """
    ticks = Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    user, nice, system, stolen = (int(ticks[at]) for at in (0, 1, 2, 7))
    return (user + nice + system + stolen) / os.sysconf("SC_CLK_TCK")


def _wait_for_quiet() -> None:
    """Wait for half a second in which nobody has much to do, but not for ever."""
    limit = time.monotonic() + WAIT
    while time.monotonic() < limit:
        before = _busy()
        time.sleep(0.5)
        if _busy() - before < 0.05:
            return


def compete(
    results: Sequence[Result], runs: int, course: Course, server: Server, check: Check, quiet: bool
) -> None:
    """Let everybody run in turn, `runs` times; `check` judges what a run has left.

    `quiet`: wait for others to have done, and make a run again in which they were busy, but not
    for ever.
    """
    for number in range(runs):
        for result in results:
            for left in range(PATIENCE, -1, -1):
                place = course.fresh(result.runner)
                if quiet:
                    _wait_for_quiet()
                cost = measure(result.runner, place, server)
                check(place / result.runner.tree, number)
                if not (quiet and cost.disturbed and left):
                    break
            result.costs.append(cost)


def table(title: str, results: Sequence[Result]) -> str:
    """The results as text, with the ratios of each of ours to each of the others."""
    ours = [one for one in results if one.runner.ours]
    width = max(len(one.runner.name) for one in results)
    head = f"{'':<{width}} {'wall s (min-max)':>22} {'CPU s':>7} {'MiB':>5} {'quiet':>5}"
    for one in ours if len(ours) < len(results) else []:
        short = one.runner.name.removeprefix("this client").strip(", ") or "ours"
        head += f"  {short + '/it wall':>10} {'CPU':>5}"
    lines = [title, head]
    for one in results:
        walls = [cost.wall for cost in one.costs]
        spread = f"{one.wall:.2f} ({min(walls):.2f}-{max(walls):.2f})"
        line = f"{one.runner.name:<{width}} {spread:>22} {one.cpu:>7.2f} {one.memory:>5.0f}"
        quiet = sum(not cost.disturbed for cost in one.costs)
        line += f" {f'{quiet}/{len(walls)}':>5}"
        for our in ours if len(ours) < len(results) else []:
            line += f"  {our.wall / one.wall:>13.2f} {our.cpu / one.cpu:>5.2f}"
        lines.append(line)
    return "\n".join(lines)


def best(results: Iterable[Result], cost: str) -> Result:
    """The one with the least `cost` (wall, cpu)."""
    return min(results, key=lambda one: float(getattr(one, cost)))
