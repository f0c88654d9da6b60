"""The server against nginx and `python -m http.server`: `python benchmarks/serve.py`.

Registers a store with a product of ten filesets, one of a million, and a large file; then asks
every server in turn for the same things: a small list again and again, what is new in either
product, the large file. Last, 200 clients that hardly read hang on each of them. Rounds are
interleaved, figures are medians, and ratios are to nginx.

nginx and http.server serve the same directory with the lists as plain files; they ignore ?LAST.
"""

import argparse
import hashlib
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import servers
from benchmarks.load import megabytes_a_second, requests_a_second, slow_readers
from benchmarks.servers import Server
from server.catalogue import NewFile, NewFileset, add_fileset, add_product, catalogue
from server.database import Database
from server.site import CATALOGUE, SqliteFile

FEW, MANY = 10, 1_000_000
READERS = 200

LABELS = ("target_id", "stage", "stage_id", "exp_name")

Figures = dict[str, dict[str, list[float]]]


def main() -> None:
    """Build, ask, print."""
    options = _options()
    with tempfile.TemporaryDirectory(prefix="serve.", dir=options.where) as directory:
        root = Path(directory)
        print(
            f"products of {FEW} and {options.filesets:,} filesets,"
            f" a file of {options.megabytes} MB; {os.cpu_count()} processors",
            flush=True,
        )
        _build(root, options)
        with ExitStack() as opened:
            everybody = {
                name: opened.enter_context(start())
                for name, start in _servers(root, options.workers).items()
            }
            figures = _measure(everybody, options)
        _print(figures, list(everybody))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--runs", type=int, default=3, metavar="N", help="rounds (default: 3)")
    add("--seconds", type=float, default=2.0, metavar="S", help="of asking (default: 2)")
    add("--filesets", type=int, default=MANY, metavar="N", help="in the large product")
    add("--megabytes", type=int, default=512, metavar="MB", help="of the file (default: 512)")
    add("--workers", type=int, default=2, metavar="N", help="of the second server (default: 2)")
    add("--where", type=Path, metavar="DIR", help="build the store below DIR")
    return parser.parse_args()


# The store


def _build(root: Path, options: argparse.Namespace) -> None:
    """A catalogue and, for the others, the same lists as plain files."""
    with catalogue(SqliteFile(root / CATALOGUE), create=True) as database:
        _products(root, database, options)
    _plain_lists(root)


def _products(root: Path, database: Database, options: argparse.Namespace) -> None:
    for name, count in (("few", FEW), ("many", options.filesets)):
        add_product(database, name, "ipp-dist", f"{count} filesets", LABELS)
        first = [NewFile(f"f{n}.tgz", 1000, "0" * 32, "tgz", (f"XY{n:02}",)) for n in range(10)]
        add_fileset(
            database, name, NewFileset("first", "IPP-DIST", ("1", "chip", "1", "o1")), first
        )
        _fill(database, name, count - 2)
        add_fileset(database, name, NewFileset("last", "IPP-DIST", ("1", "chip", "9", "o9")), [])
    content = os.urandom(1 << 20) * options.megabytes
    target = root / "few/large"
    target.mkdir(parents=True)
    (target / "large.fits").write_bytes(content)
    large = NewFile("large.fits", len(content), hashlib.md5(content).hexdigest(), "fits")
    add_product(database, "large", "image", "one large file")
    add_fileset(database, "large", NewFileset("large", "OBJECT"), [large])
    (root / "large").mkdir()
    target.rename(root / "large/large")


def _fill(database: Database, product: str, count: int) -> None:
    """Filesets in one transaction, which no registration does: a million of them in seconds."""
    row = database.row("SELECT prod_id FROM dsProduct WHERE prod_name = ?", product)
    assert row
    with database.write():
        database.change_many(
            "INSERT INTO dsFileset (prod_id, fileset_name, reg_time, type,"
            " prod_col_0, prod_col_1, prod_col_2, prod_col_3) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                (row[0], f"o{n}g0239o.chip.{n}.2.1", "2026-01-02T03:04:05Z", "IPP-DIST",
                 "1", "chip", str(n), f"o{n}g0239o")
                for n in range(count)
            ),
        )  # fmt: skip
        last = f"o{count - 1}g0239o.chip.{count - 1}.2.1"
        database.change("UPDATE dsProduct SET last_fs = ? WHERE prod_id = ?", last, row[0])


def _plain_lists(root: Path) -> None:
    with servers.own_server(root) as server:
        for path in ("", "few/", "many/", "large/", "few/first/", "large/large/"):
            (root / path).mkdir(exist_ok=True)
            _fetch(f"{server.url}{path}index.txt", root / path / "index.txt")


def _fetch(url: str, target: Path) -> None:
    import requests

    with requests.get(url, stream=True, timeout=60) as answer, target.open("wb") as file:
        answer.raise_for_status()
        for chunk in answer.iter_content(1 << 20):
            file.write(chunk)


# The races


def _servers(root: Path, workers: int) -> dict[str, Callable[[], AbstractContextManager[Server]]]:
    everybody: dict[str, Callable[[], AbstractContextManager[Server]]] = {}
    if servers.best_server() == "nginx":
        everybody["nginx"] = lambda: servers.nginx(root)
    everybody["http.server"] = lambda: servers.http_server(root)
    everybody["serve"] = lambda: servers.own_server(root)
    everybody[f"serve --workers {workers}"] = lambda: servers.own_server(
        root, "--workers", str(workers)
    )
    everybody["serve --static"] = lambda: servers.own_server(root, kind="--static")
    return everybody


def _questions(options: argparse.Namespace) -> Iterator[tuple[str, Callable[[Server], float]]]:
    """What is measured, in the words of the table."""

    def asking(path: str, connections: int) -> Callable[[Server], float]:
        return lambda server: requests_a_second(server.url + path, options.seconds, connections)

    yield "small list, requests/s, 1 connection", asking("few/first/index.txt", 1)
    yield "small list, requests/s, 16 connections", asking("few/first/index.txt", 16)
    few, many = f"{FEW}", f"{options.filesets:,}"
    last_few = f"o{FEW - 3}g0239o.chip.{FEW - 3}.2.1"
    last_many = f"o{options.filesets - 3}g0239o.chip.{options.filesets - 3}.2.1"
    yield f"?LAST of {few}, requests/s", asking(f"few/index.txt?{last_few}", 1)
    yield f"?LAST of {many}, requests/s", asking(f"many/index.txt?{last_many}", 1)
    yield (
        f"whole list of {many}, MB/s",
        lambda server: megabytes_a_second(f"{server.url}many/index.txt"),
    )
    yield "file, MB/s", lambda server: megabytes_a_second(f"{server.url}large/large/large.fits")


def _measure(everybody: dict[str, Server], options: argparse.Namespace) -> Figures:
    figures: Figures = {}
    for _ in range(options.runs):
        for question, ask in _questions(options):
            for name, server in everybody.items():
                figures.setdefault(question, {}).setdefault(name, []).append(ask(server))
    question = f"MiB with {READERS} slow readers of the file"
    for name, server in everybody.items():
        with slow_readers(f"{server.url}large/large/large.fits", READERS) as served:
            if served == READERS:
                figures.setdefault(question, {}).setdefault(name, []).append(server.memory())
    return figures


def _print(figures: Figures, names: list[str]) -> None:
    print("\n| | " + " | ".join(names) + " |")
    print("| --- |" + " --- |" * len(names))
    for question, answers in figures.items():
        cells = []
        base = statistics.median(answers["nginx"]) if "nginx" in answers else None
        for name in names:
            if name not in answers:
                cells.append("-")
                continue
            value = statistics.median(answers[name])
            ratio = f" ({value / base:.2f})" if base else ""
            cells.append(f"{value:,.0f}{ratio}" if value >= 10 else f"{value:.2f}{ratio}")
        print(f"| {question} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
