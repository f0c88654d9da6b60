"""How long `disttool -run` takes: `python benchmarks/distribute.py [--runs N] [--profile]`.

Builds N finished runs of 60 components with three files of 20 kB each in a temporary directory,
imports them, has them distributed to two destinations, and prints the seconds of each command,
components a second, and the CPU of the coordinator and of its workers; and the seconds that
`tar | gzip` and md5sum, as many at once, take for the bundles alone. Then it bundles one large
file, at several gzip levels, in this process, and prints MB (10^6 bytes) of input a
second of wall clock and of CPU (the one to compare on a busy machine), beside `tar | gzip` and
md5sum.
"""

import argparse
import contextlib
import cProfile
import io
import os
import pstats
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from server.__main__ import main as server
from server.distribution.bundle import BundleTask, bundle_component
from server.site import Roots

WORKDIR = "neb://ipp009.0/gpc1/night"
RULES = {"PPIMAGE.CHIP": "ch.fits", "PSPHOT.OUTPUT": "cmf", "LOG.IMFILE": "log"}


def image(size: int) -> bytes:
    """`size` bytes like those of an image: 16-bit numbers, the lower half of each of them noise."""
    data = bytearray(size)
    data[1::2] = os.urandom(size // 2)
    return bytes(data)


def build_runs(neb: Path, exports: Path, runs: int, components: int, size: int) -> None:
    """Write the files of chip runs and their exported rows."""
    exports.mkdir()
    content = image(size)
    for run in range(runs):
        directory = neb / f"gpc1/night/o{run}"
        directory.mkdir(parents=True)
        path_base = f"{WORKDIR}/o{run}/o{run}.ch"
        rows = ""
        for number in range(components):
            name = f"XY{number:02d}"
            outputs = ""
            for rule, suffix in RULES.items():
                file = f"o{run}.ch.{name}.{suffix}"
                (directory / file).write_bytes(f"{run} {name} {suffix}".encode() + content)
                outputs += f"  {rule} STR {WORKDIR}/o{run}/{file}\n"
            dump = f"FILES.OUTPUT METADATA\n{outputs}END\n"
            (directory / f"o{run}.ch.{name}.mdc").write_text(dump)
            rows += (
                f"chipProcessedImfile METADATA\n  chip_id S64 {run + 1}\n  class_id STR {name}\n"
                f"  data_state STR full\n  path_base STR {path_base}\n  quality S16 0\nEND\n"
            )
        head = (
            "dbversion MULTI\ndbversion METADATA\n  schema_version STR 1.1.70\nEND\n"
            f"chipRun MULTI\nchipRun METADATA\n  chip_id S64 {run + 1}\n  state STR full\n"
            f"  workdir STR {WORKDIR}\n  label STR nightly\n  dist_group STR all\nEND\n"
            "chipProcessedImfile MULTI\n"
        )
        (exports / f"{run}.mdc").write_text(head + rows)


def timed(what: str, *words: str) -> float:
    """Seconds of wall clock that a command took."""
    began = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()) as said:
        status = server(list(words))
    seconds = time.perf_counter() - began
    assert status == 0, said.getvalue()
    lines = said.getvalue().splitlines()
    print(f"{what:<16}{seconds:>8.2f} s   {lines[-1] if len(lines) == 1 else ''}")
    return seconds


def cpu(who: int) -> float:
    """Seconds of CPU that this process, or its children that have ended, have taken."""
    used = resource.getrusage(who)
    return used.ru_utime + used.ru_stime


def distribute(directory: Path, options: argparse.Namespace) -> None:
    """Build, import, define, run."""
    neb, exports, store = directory / "neb", directory / "exports", directory / "store"
    store.mkdir()
    config = directory / "site.config"
    config.write_text(f"NEB_ROOT STR {neb}\nDATA_STORE_ROOT STR {store}\n")
    os.environ["SITE_CONFIG"] = str(config)
    build_runs(neb, exports, options.runs, options.components, options.size)
    timed("importrun", "importrun", *map(str, sorted(exports.iterdir())))
    timed("", "disttool", "-definetarget", "-dist_group", "all", "-filter", "%", "-stage", "chip")
    for name in ("one", "two"):
        timed("", "disttool", "-definedestination", "-name", name, "-product", name)
        timed("", "disttool", "-defineinterest", "-dest_name", name, "-target_id", "1")
    timed(
        "definebyquery", "disttool", "-definebyquery", "-stage", "chip",
        "-workdir", "neb://any/dist", "-simple",
    )  # fmt: skip
    before = cpu(resource.RUSAGE_SELF), cpu(resource.RUSAGE_CHILDREN)
    words = ["disttool", "-run", "-gzip_level", str(options.level)]
    words += ["-jobs", str(options.jobs)] if options.jobs else []
    profile = cProfile.Profile()
    if options.profile:
        profile.enable()
    seconds = timed("run", *words)
    profile.disable()
    coordinator = cpu(resource.RUSAGE_SELF) - before[0]
    workers = cpu(resource.RUSAGE_CHILDREN) - before[1]
    done = options.runs * options.components
    print(f"{done / seconds:.0f} components a second", end="; ")
    print(f"CPU: coordinator {coordinator:.1f} s, workers {workers:.1f} s")
    print(f"tar|gzip, md5sum{chained(directory, options):>8.2f} s")
    if options.profile:
        ours = "server|mirror|formats"
        pstats.Stats(profile).sort_stats("cumtime").print_stats(ours, 28)


# $1: the level, $2: the bundle, then its files; no name, no time, no owner in it, as in ours.
_TOOLS = """level=$1 bundle=$2; shift 2
tar --format=ustar --owner=0 --group=0 --mtime=@1230768000 -cf - "$@" |
    gzip -n -"$level" > "$bundle" && sync "$bundle" && md5sum "$bundle" > /dev/null"""


def chained(directory: Path, options: argparse.Namespace) -> float:
    """Seconds that tar, gzip and md5sum take for the same bundles, several at once."""
    neb = directory / "neb" / "gpc1/night"
    target = directory / "chained"
    target.mkdir()
    calls = b""
    for run in range(options.runs):
        for number in range(options.components):
            name = f"o{run}.ch.XY{number:02d}"
            files = [f"o{run}/{name}.{suffix}" for suffix in (*RULES.values(), "mdc")]
            words = (str(options.level), str(target / f"{name}.tgz"), *files)
            calls += "\0".join(words).encode() + b"\0"
    jobs = options.jobs or len(os.sched_getaffinity(0))
    each = 2 + len(RULES) + 1
    began = time.perf_counter()
    command = ["xargs", "-0", "-n", str(each), "-P", str(jobs), "sh", "-c", _TOOLS, "bundle"]
    subprocess.run(command, cwd=neb, input=calls, check=True)
    return time.perf_counter() - began


def large(directory: Path, size: int) -> None:
    """Bundle one large file at several levels."""
    content = image(10**6)
    with open(directory / "large.fits", "wb") as file:
        for _ in range(size // len(content)):
            file.write(content)
    for level in (1, 6, 9):
        task = BundleTask(
            1, "XY01", "raw", None, str(directory / "large.fits"), 0, False, directory, "b.tgz",
            Roots(), level,
        )  # fmt: skip
        began, used = time.perf_counter(), time.process_time()
        done = bundle_component(task)
        seconds, used = time.perf_counter() - began, time.process_time() - used
        assert done.bytes
        speeds = f"{size / seconds / 1e6:.1f} MB/s, {size / used / 1e6:.1f} MB/CPU s"
        words = ["sh", "-c", _TOOLS, "bundle", str(level), str(directory / "t.tgz"), "large.fits"]
        began = time.perf_counter()
        subprocess.run(words, cwd=directory, check=True)
        ratio = (time.perf_counter() - began) / seconds
        print(
            f"gzip {level}: {speeds}, to {done.bytes / size:.0%}; tar|gzip, md5sum take {ratio:.2f}"
        )


def main() -> None:
    """Make the runs, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument("--components", type=int, default=60)
    parser.add_argument("--size", type=int, default=20_000, help="bytes of a file (default 20000)")
    parser.add_argument("--large-mb", type=float, default=200, help="MB of the one large file")
    parser.add_argument("--level", type=int, default=1, help="gzip level of the many (default 1)")
    parser.add_argument("--jobs", type=int, help="workers (default: one a core)")
    parser.add_argument("--profile", action="store_true", help="say where the coordinator was")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        distribute(Path(directory), options)
        large(Path(directory), int(options.large_mb * 1e6))


if __name__ == "__main__":
    main()
