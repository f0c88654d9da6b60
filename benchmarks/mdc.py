"""How fast a large dbinfo is read: `python benchmarks/mdc.py [--size-mb N]`.

Writes a dbinfo of N MB (10^6 bytes) into a temporary directory and prints, for load and for
stream, MB a second of wall clock and of CPU (the one to compare on a busy machine), and the memory
that the process gained at its peak. Each measurement is a process of its own; best of three.
"""

import argparse
import multiprocessing
import random
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from formats import mdc

ROW = """\
chipProcessedImfile METADATA
    chip_id          S64       {chip}
    exp_id           S64       {exp}
    class_id         STR       XY{ota:02d}
    data_state       STR       full
    uri              STR       neb://ipp009.0/gpc1/scitest/o{exp}.ch.{chip}.XY{ota:02d}.fits
    bg               F64       {bg!r}
    bg_stdev         F64       {stdev!r}
    bg_mean_stdev    F32       {mean:.7g}
    bias             F32       nan
    zp               F32       NULL
    n_stars          S32       {stars}
    n_extended       S32       {few}
    quality          S16       0
    dtime_phot       F32       {seconds:.6g}
    dtime_script     F32       {seconds:.6g}
    hostname         STR       ipp{few:03d}
    path_base        STR       neb://ipp009.0/gpc1/scitest/o{exp}.ch.{chip}
    magicked         BOOL      F
    epoch            UTC       2009-04-15T01:22:{few:02d}.000000Z
    fault            S16       0
END
"""


def write_dbinfo(path: Path, size: int, *, commented: bool = False) -> None:
    """Write a dbinfo of at least `size` bytes; `commented` puts a comment behind every value."""
    chance = random.Random(5)
    with open(path, "w", encoding="utf-8") as file:
        file.write("dbversion MULTI\ndbversion METADATA\n    version  STR  1.1.70\nEND\n\n")
        file.write("chipProcessedImfile MULTI\n")
        while file.tell() < size:
            for _ in range(500):
                file.write(_row(chance, commented))


def _row(chance: random.Random, commented: bool) -> str:
    row = ROW.format(
        chip=chance.randrange(10**6), exp=chance.randrange(10**7), ota=chance.randrange(77),
        bg=chance.uniform(0, 5000), stdev=chance.uniform(0, 50), mean=chance.uniform(0, 9),
        stars=chance.randrange(10**5), few=chance.randrange(60), seconds=chance.uniform(1, 99),
    )  # fmt: skip
    return row.replace("\n    ", "  # c\n    ") if commented else row


def load(path: Path) -> int:
    """Read all at once; returns the number of rows."""
    return len(mdc.load_file(path)["chipProcessedImfile"])


def stream(path: Path) -> int:
    """Read row by row; returns their number."""
    with open(path, "rb") as file:
        return sum(entry.type == "METADATA" for entry in mdc.stream(file)) - 1


def measure(read: Callable[[Path], int], path: Path) -> tuple[float, float, float, int]:
    """Seconds of wall clock, seconds of CPU, MB of memory gained at the peak, and rows."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start, cpu = time.perf_counter(), time.process_time()
    rows = read(path)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    gained = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return seconds, cpu, gained * 1024 / 1e6, rows


def runs(path: Path) -> Iterator[tuple[str, float, float, float, int]]:
    """Measure each way of reading in a fresh process, best of three."""
    context = multiprocessing.get_context("spawn")
    for read in (load, stream):
        results = []
        for _ in range(3):
            with context.Pool(1) as pool:
                results.append(pool.apply(measure, (read, path)))
        seconds, cpu, gained, rows = zip(*results, strict=True)
        yield read.__name__, min(seconds), min(cpu), max(gained), rows[0]


def main() -> None:
    """Make the documents, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size-mb", type=float, default=50, help="MB of dbinfo (default 50)")
    size = int(parser.parse_args().size_mb * 1e6)
    print(f"{'document':<12}{'read by':<10}{'MB/s':>8}{'MB/CPU s':>10}{'peak MB':>10}{'rows':>10}")
    with tempfile.TemporaryDirectory() as directory:
        for kind in ("plain", "commented"):
            path = Path(directory) / "dbinfo.mdc"
            write_dbinfo(path, size, commented=kind == "commented")
            mb = path.stat().st_size / 1e6
            for name, wall, cpu, peak, rows in runs(path):
                speeds = f"{mb / wall:>8.1f}{mb / cpu:>10.1f}"
                print(f"{kind:<12}{name:<10}{speeds}{peak:>10.1f}{rows:>10}")


if __name__ == "__main__":
    main()
