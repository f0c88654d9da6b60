"""The client against what a site would otherwise chain together: `python benchmarks/mirror.py`.

Makes Data Stores, serves them with nginx if that is installed, and mirrors them in turn with this
client and with chains of wget, curl, aria2c and rclone, md5sum and tar, to the same end: fetched,
md5-checked, unpacked. Wall seconds, CPU seconds of the whole process tree, and memory of its
largest process, as a table of ratios; then what the targets are and what came out. The server's
own CPU is nobody's. What a run has left is checked, outside the clock.

Ratios are of medians of runs that took turns. Under a fifth, a difference is none.
"""

import argparse
import compileall
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import runners, servers
from benchmarks.races import Course, Result, best, compete, measure, table
from benchmarks.servers import Server
from benchmarks.stores import Store, check, prepare

ROOT = Path(__file__).resolve().parent.parent

DELAY = 0.1
"""Seconds by which the relay makes every answer late."""

ROOM = 10 * 10**9
"""Bytes that the stores and one run take, with something to spare."""


def main() -> None:
    """Race, print."""
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))  # servers end with us
    for part in ("mirror", "formats"):
        compileall.compile_dir(ROOT / part, quiet=2)
    with _workplace(options.where) as work:
        print(
            f"in {work}, served by {servers.best_server()}, {os.cpu_count()} processors, ", end=""
        )
        print(f"{options.connections} connections for everybody that can, {options.runs} runs")
        print("the client reads the lists and makes durable what it has; peers are given lists")
        verdicts = []
        for name in ("small", "bundles", "large"):
            if options.workload in (name, "all"):
                verdicts += _race(name, options, work)
        if options.workload in ("lists", "all"):
            _race_lists(options, work)
        print("\n".join(verdicts))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    kinds = ("small", "bundles", "large", "lists", "all")
    add("--workload", choices=kinds, default="all", help="which store (default: all)")
    add("--runs", type=int, default=3, metavar="N", help="of each, in turn (default: 3)")
    add("--relay", action="store_true", help="also with every answer 100 ms late")
    add("--where", type=Path, metavar="DIR", help="work there, and keep the stores for next time")
    add("--quiet", action="store_true", help="wait for a quiet machine; repeat disturbed runs")
    add("--connections", type=int, default=8, metavar="N", help="at once (default: 8)")
    return parser.parse_args()


@contextmanager
def _workplace(where: Path | None) -> Iterator[Path]:
    """The directory given, or a temporary one: in memory if there is room."""
    if where:
        where.mkdir(parents=True, exist_ok=True)
        yield where.resolve()
        return
    memory = Path("/dev/shm")
    roomy = memory.is_dir() and min(shutil.disk_usage(memory).free, _available()) > ROOM
    with tempfile.TemporaryDirectory(prefix="race.", dir=memory if roomy else None) as directory:
        yield Path(directory)


def _available() -> int:
    """Bytes of memory that can be had without taking them from anybody."""
    for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 0


# Stores of files


def _race(name: str, options: argparse.Namespace, work: Path) -> list[str]:
    """Race over a store, near and, if asked for, far; returns what became of the targets."""
    store = prepare(work / "stores", name)
    size = f"{len(store.served)} files, {store.bytes / 1e6:.0f} MB"
    verdicts = []
    with servers.serving(store.root) as server:
        results = _runs(store, server, options, work, far=False)
        print(f"\n{table(f'{name}: {size}', results)}", flush=True)
        verdicts += _verdicts(name, results)
        if options.relay and name != "large":
            with servers.delayed(server, DELAY) as distant:
                results = _runs(store, distant, options, work, far=True)
            print(f"\n{table(f'{name}, {DELAY:g} s away: {size}', results)}", flush=True)
            verdicts += _verdicts(f"{name}, far", results)
    return verdicts


def _runs(
    store: Store, server: Server, options: argparse.Namespace, work: Path, *, far: bool
) -> list[Result]:
    """Everybody's runs, in turn. Far away, one connection would be waiting most of the time."""
    url, connections = server.url, options.connections
    with tempfile.TemporaryDirectory(prefix="lists.", dir=work) as lists, Course(work) as course:
        everybody = runners.clients(store, url, connections)
        everybody += [
            peer
            for peer in runners.peers(store, url, connections, Path(lists))
            if peer.parallel or not far
        ]
        results = [Result(runner) for runner in everybody]
        compete(results, options.runs, course, server, partial(check, store), options.quiet)
    return results


def _verdicts(name: str, results: list[Result]) -> list[str]:
    """A line a target: which peer was the one to beat, and how it went."""
    lines = []
    for our in (one for one in results if one.runner.ours):
        rivals = [one for one in results if not one.runner.ours]
        target = _target(name, our.runner.name)
        if name == "large":
            rivals = [one for one in rivals if one.runner.name.startswith("curl")]
        if name == "small":
            rivals = [one for one in rivals if one.runner.name == "wget -i; md5sum -c"]
        for cost in ("wall", "cpu") if name == "bundles" else ("wall",):
            if not rivals:
                continue
            rival = best(rivals, cost)
            ratio = getattr(our, cost) / getattr(rival, cost)
            lines.append(
                f"{name}, {our.runner.name}: {cost} {ratio:.2f} of {rival.runner.name}"
                f" (target {target:g}), {our.memory:.0f} MiB"
            )
    return lines


def _target(name: str, our: str) -> float:
    """How much of the peer's cost may be ours."""
    if name == "bundles":
        return 0.5 if our.endswith("isal") else 0.75
    return 0.7 if name == "large" else 1.0


# A list of a million rows


def _race_lists(options: argparse.Namespace, work: Path) -> None:
    """The first reading of a long list, and runs without news: with ?LAST honoured and without."""
    store = prepare(work / "stores", "lists")
    results: dict[str, Result] = {}
    kinds = {"serve, ?LAST honoured": servers.own_server(store.root)}
    if servers.best_server() == "nginx":
        kinds["nginx, ?LAST ignored"] = servers.nginx(store.root)
    for kind, serving in kinds.items():
        with serving as server, Course(work) as course:
            select = "select: {stage: [none]}\n"
            nothing = runners.client(store, server.url, options.connections, select)
            for _ in range(options.runs):
                place = course.fresh(nothing)
                for news in ("first reading", "no news"):
                    name = f"{news} ({kind})"
                    results.setdefault(name, Result(_named(nothing, name)))
                    results[name].costs.append(measure(nothing, place, server))
    title = f"lists: {store.served[0].size / 1e6:.0f} MB, 1000000 filesets, none of them wanted"
    print(f"\n{table(title, list(results.values()))}", flush=True)


def _named(runner: runners.Runner, name: str) -> runners.Runner:
    return runners.Runner(name, runner.command, ours=True)


if __name__ == "__main__":
    main()
