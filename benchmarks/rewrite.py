"""How fast the paths of a dbinfo become local: `python benchmarks/rewrite.py [--size-mb N]`.

Makes a dbinfo of N MB (10⁶ bytes) that looks like a chip run's, rewrites it from file to file, and
prints seconds, MB/s and peak memory. The peers read and write the same file in the same run:
a plain copy, and sed with one substitution a column, which knows nothing of tables or components.
Runs are interleaved; the best of each counts.
"""

import argparse
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mirror.rewrite import Places, rewrite_dbinfo

COMPONENTS = [f"XY{x}{y}" for x in range(8) for y in range(8)]
WORKDIR = "neb://ipp009.0/gpc1/scitest.200807"
BASE = f"{WORKDIR}/o4642g0414o.19490/o4642g0414o.19490.ch.293"
SED = (
    "s!(workdir +STR +).*!\\1/mirror/data/gpc1/scitest.200807!",
    "s!((uri|path_base) +STR +)neb:.*/!\\1/mirror/data/gpc1/scitest.200807/o4642g0414o.19490/!",
)

HEAD = f"""dbversion MULTI

dbversion METADATA
   schema_version                  STR            1.1.60
END

chipRun MULTI

chipRun METADATA
   chip_id                         S64            293
   state                           STR            full
   workdir                         STR            {WORKDIR}
   tess_id                         STR            ALLSKY
END

chipProcessedImfile MULTI
"""


def row(number: int) -> str:
    """One chipProcessedImfile of about 50 columns."""
    component = COMPONENTS[number % len(COMPONENTS)]
    lines = [
        "",
        "chipProcessedImfile METADATA",
        f"   {'chip_id':<31} S64            {number}",
        f"   {'class_id':<31} STR            {component}",
        f"   {'uri':<31} STR            {BASE}.{component}.fits",
        *(f"   {f'statistic_{n}':<31} F32            {number * n / 7:g}" for n in range(45)),
        f"   {'path_base':<31} STR            {BASE}",
        "END",
    ]
    return "\n".join(lines) + "\n"


def make(path: Path, size: int) -> None:
    with path.open("w", encoding="ascii") as file:
        written = file.write(HEAD)
        number = 0
        while written < size:
            written += file.write(row(number))
            number += 1


def rewrite(source: Path, target: Path) -> None:
    components = dict.fromkeys(COMPONENTS, "o4642g0414o.19490")
    places = Places("/mirror/data", "gpc1/scitest.200807", components)
    with source.open("rb") as old, target.open("wb") as new:
        rewrite_dbinfo(old, new, places, source.name)


def sed(source: Path, target: Path) -> None:
    with target.open("wb") as new:
        subprocess.run(["sed", "-E", ";".join(SED), str(source)], stdout=new, check=True)


def seconds(work: Callable[[Path, Path], object], source: Path, target: Path) -> float:
    begin = time.perf_counter()
    work(source, target)
    return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size-mb", type=int, default=50, help="of the dbinfo, in 10⁶ bytes")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    peers: dict[str, Callable[[Path, Path], object]] = {"rewrite": rewrite, "copy": shutil.copyfile}
    if shutil.which("sed"):
        peers["sed"] = sed
    best = dict.fromkeys(peers, float("inf"))
    with tempfile.TemporaryDirectory() as directory:
        source, target = Path(directory, "dbinfo.mdc"), Path(directory, "new.mdc")
        make(source, args.size_mb * 10**6)
        megabytes = source.stat().st_size / 10**6
        for _ in range(args.rounds):
            for name, work in peers.items():
                best[name] = min(best[name], seconds(work, source, target))
    for name, best_seconds in best.items():
        ratio = best_seconds / best["rewrite"]
        rate = megabytes / best_seconds
        print(f"{name:<8} {best_seconds:7.3f} s {rate:8.0f} MB/s {ratio:6.2f} x rewrite")
    # Linux counts in KiB.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"peak memory of this process {peak:.0f} MiB, for a dbinfo of {megabytes:.0f} MB")


if __name__ == "__main__":
    main()
