"""How fast an exported run is imported: `python benchmarks/importrun.py [--rows N] [--postgres]`.

Writes the dbinfo of a chip run with N component rows of 20 columns into a temporary directory and
prints, for a new database, for the same run once more, and for the mere reading of the document,
rows a second of wall clock and of CPU (the one to compare on a busy machine), and the memory that
the process gained at its peak. Each measurement is a process of its own; best of three.
"""

import argparse
import math
import multiprocessing
import random
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from benchmarks.mdc import ROW
from parse_config import stream_mdc
from server.catalogue import catalogue
from server.runs.importrun import import_files
from server.site import Place, SqliteFile

WAYS = ("read only", "new", "again")


def write_run(path: Path, rows: int) -> None:
    """Write the dbinfo of chip run 293 with `rows` chips."""
    chance = random.Random(5)
    with open(path, "w", encoding="utf-8") as file:
        file.write("dbversion MULTI\ndbversion METADATA\n    version  STR  1.1.70\nEND\n\n")
        file.write("chipRun MULTI\n\nchipRun METADATA\n    chip_id  S64  293\nEND\n\n")
        file.write("chipProcessedImfile MULTI\n\n")
        for number in range(rows):
            file.write(_row(number, chance))


def _row(number: int, chance: random.Random) -> str:
    return ROW.format(
        chip=293, exp=68114, ota=number, bg=chance.uniform(0, 5000), stdev=chance.uniform(0, 50),
        mean=chance.uniform(0, 9), stars=chance.randrange(10**5), few=chance.randrange(60),
        seconds=chance.uniform(1, 99),
    )  # fmt: skip


def measure(way: str, path: Path, place: Place) -> tuple[float, float, float]:
    """Seconds of wall clock, seconds of CPU, MB of memory gained at the peak."""
    with catalogue(place, create=True) as database:
        before = _peak()
        start, cpu = time.perf_counter(), time.process_time()
        if way == "read only":
            with open(path, "rb") as file:
                assert sum(1 for _ in stream_mdc(file))
        else:
            import_files(database, [str(path)])
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    return seconds, cpu, _peak() - before


def _peak() -> float:
    """MB at the peak of this process, what it was before it began with its program left out."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) * 1024 / 1e6 if found else math.nan


def runs(path: Path, places: list[Place]) -> Iterator[tuple[str, float, float, float]]:
    """Measure each way in fresh processes, best of one for each of `places`, which are empty."""
    context = multiprocessing.get_context("spawn")
    for way in WAYS:
        results = []
        for place in places:
            with context.Pool(1) as pool:
                results.append(pool.apply(measure, (way, path, place)))
        seconds, cpu, gained = zip(*results, strict=True)
        yield way, min(seconds), min(cpu), max(gained)


def main() -> None:
    """Make the document, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000, help="chips (default 100000)")
    parser.add_argument("--postgres", action="store_true", help="into PostgreSQL (pgserver) too")
    options = parser.parse_args()
    print(f"{'database':<12}{'way':<12}{'rows/s':>10}{'rows/CPU s':>12}{'s':>8}{'peak MB':>10}")
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        path = directory / "dbinfo.mdc"
        write_run(path, options.rows)
        kinds: dict[str, list[Place]] = {
            "sqlite": [SqliteFile(directory / f"{number}.db") for number in range(3)]
        }
        if options.postgres:
            from places import postgres_server

            new = stack.enter_context(postgres_server())
            kinds["postgres"] = [new() for _ in range(3)]
        for kind, places in kinds.items():
            for way, wall, cpu, peak in runs(path, places):
                speeds = f"{options.rows / wall:>10.0f}{options.rows / cpu:>12.0f}{wall:>8.2f}"
                print(f"{kind:<12}{way:<12}{speeds}{peak:>10.1f}", flush=True)


if __name__ == "__main__":
    main()
