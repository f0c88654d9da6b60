"""The blackboard of a busy path: what a claim costs on a board of many entries, and how long many
processes need to claim and settle every entry.

    python benchmarks/blackboard.py [--entries N] [--processes N] [--claims N] [--postgres]
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from boards import FETCHING, TYPE, WAITING, BoardSite, board_site, fill, join  # noqa: E402
from places import postgres_server  # noqa: E402

from formats.triggers import OsfMatch  # noqa: E402
from server.blackboard import Blackboard, Key  # noqa: E402
from server.opus.board_records import packed, pattern_of  # noqa: E402
from server.site import SqliteFile  # noqa: E402


@contextmanager
def site(*, postgres: bool) -> Iterator[BoardSite]:
    """A new path; its board in a file or in a PostgreSQL."""
    with tempfile.TemporaryDirectory() as directory:
        if not postgres:
            yield board_site(Path(directory), SqliteFile(Path(directory)))
            return
        with postgres_server() as new:
            yield board_site(Path(directory), new())


def load(board: Blackboard, count: int) -> None:
    """Entries of nights past: all listed, nearly all fetched and done, the last hundred not."""
    done, waiting = packed({"LI": "c", "FE": "c", "DN": "c"}), packed({"LI": "c", "FE": "w"})
    with board._write() as database:
        database.change_many(
            """INSERT INTO osfEntry (path_id, dataset, data_id, dcf, start_time, states, pattern)
            VALUES (?, ?, ?, '000', '2026-01-01T00:00:00Z', ?, ?)""",
            [
                (board._path_id, f"old{number}", TYPE, states, pattern_of(TYPE, states))
                for number in range(count)
                for states in [waiting if number >= count - 100 else done]
            ],
        )


def milliseconds(work: "Iterator[object]") -> list[float]:
    """How long each step of `work` takes."""
    taken = []
    start = time.perf_counter()
    for _ in work:
        taken.append((time.perf_counter() - start) * 1000)
        start = time.perf_counter()
    return taken


def tell(what: str, taken: list[float]) -> None:
    print(f"{what}: median {statistics.median(taken):.2f} ms, worst {max(taken):.2f} ms")


def measure_claims(board: Blackboard, entries: int) -> None:
    """A claim that wins, one that finds nothing, a settling, on a board of `entries`."""
    load(board, entries)
    holder = join(board)
    match = OsfMatch(1, {"LI": "c", "FE": "w"}, TYPE, None, 1)
    nothing = OsfMatch(2, {"LI": "c", "FE": "x"}, None, None, 1)
    claimed: list[Key] = []

    def claims() -> Iterator[None]:
        for _ in range(100):
            claimed.extend(entry.key for entry in board.claim(match, FETCHING, 1, holder))
            yield

    def settlings() -> Iterator[None]:
        for key in claimed:
            board.settle(holder, key, {"FE": "c"})
            yield

    tell("claim one", milliseconds(claims()))
    assert len(claimed) == 100
    tell("settle one", milliseconds(settlings()))
    empty = (board.claim(nothing, FETCHING, 1, holder) for _ in range(100))
    tell("claim, nothing due", milliseconds(empty))
    start = time.perf_counter()
    count = sum(1 for _ in board.entries())
    print(f"list all {count} entries: {time.perf_counter() - start:.2f} s")


def measure_processes(place: BoardSite, processes: int, claims: int) -> None:
    """`processes` claim and settle `claims` entries, one at a time."""
    with place.board() as board:
        fill(board, claims)
    start = time.perf_counter()
    workers = [place.start("claim", str(WAITING.maxtargs)) for _ in range(processes)]
    for worker in workers:
        assert worker.stdout
        worker.stdout.readline()
    print(f"start {processes} processes: {time.perf_counter() - start:.1f} s")
    start = time.perf_counter()
    for worker in workers:
        assert worker.stdin
        worker.stdin.write("\n")
        worker.stdin.flush()
    said = [worker.communicate()[0].split() for worker in workers]
    won = Counter(name for names in said for name in names)
    assert len(won) == claims
    assert set(won.values()) == {1}
    each = sorted(len(names) for names in said)
    print(
        f"{processes} processes claim and settle {claims} entries, each once:"
        f" {time.perf_counter() - start:.1f} s; a process won {each[0]} to {each[-1]}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--entries", type=int, default=100_000)
    parser.add_argument("--processes", type=int, default=100)
    parser.add_argument("--claims", type=int, default=10_000)
    parser.add_argument("--postgres", action="store_true", help="else SQLite")
    options = parser.parse_args()
    with site(postgres=options.postgres) as place, place.board() as board:
        measure_claims(board, options.entries)
    if options.processes:
        with site(postgres=options.postgres) as place:
            measure_processes(place, options.processes, options.claims)


if __name__ == "__main__":
    main()
