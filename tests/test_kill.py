"""Runs that end at any instant: SIGKILL, SIGTERM, SIGINT, a cut in a large file (FAULTS D3, D10).

Every run has a name of its own as user_agent, so that each request is known to be of one run,
however late the simulator comes to it. What a killed run had verified is read from its staging
directory and its state; none of that may be asked for again.
"""

import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing
from itertools import count
from pathlib import Path

import pytest
from client import PATIENCE, MirrorSite, Ran, wait_for
from expected import expected_tree
from faults import stall
from runs import chip_run, noise
from simulator import Action, Simulator
from watcher import TreeWatcher
from wire import Answer, Connection, Request

SILENT = Ran(0, "", "")
PREFIX = "/data/ps1"
KILLS = 30
SEED = int(os.environ.get("KILL_SEED", "20090415"))

LARGE = 6_000_000
"""Bytes of the file that is long enough to be cut and resumed."""


def slowly(pause: float, piece: int = 1 << 18) -> Action:
    """The right answer after a pause, in pieces with a pause after each."""

    def act(connection: Connection, _request: Request, answer: Answer) -> None:
        connection.wait(pause)
        connection.write(answer.head() + answer.body[:piece])
        for at in range(piece, len(answer.body), piece):
            connection.wait(pause)
            connection.write(answer.body[at : at + piece])

    return act


def run_of(request: Request) -> int:
    """The number of the run that a request is of."""
    return int(request.headers["user-agent"].removeprefix("run "))


class Mirror:
    """One mirror through its runs, each of which may be killed."""

    def __init__(self, site: MirrorSite, store: Simulator) -> None:
        self.site = site
        self.store = store
        self.run = 0
        self.again: list[str] = []
        """What was asked for although an earlier run had left it verified."""

        self._kept: set[tuple[str, str]] = set()
        store.clear()

    def start(self) -> subprocess.Popen[str]:
        """Start the next run."""
        self.run += 1
        self.site.configure(
            self.store.url, keep_bundles=True, data_prefix=PREFIX, connections=3,
            user_agent=f"run {self.run}",
        )  # fmt: skip
        return self.site.start()

    def asked(self) -> bool:
        """Whether the last run has asked for anything yet."""
        return any(run_of(request) == self.run for request in self.store.requests)

    def ended(self) -> None:
        """Judge what the last run asked for, and see what it has left."""
        for request in self.store.requests:
            fileset, _, name = request.path.removeprefix("/gpc1/").partition("/")
            known = {(fileset, name), (fileset, "*")} & self._kept
            if run_of(request) == self.run and name and known:
                self.again.append(f"run {self.run}: {request.path}")
        self._kept |= self._verified()

    def _verified(self) -> set[tuple[str, str]]:
        """The files, as (fileset, name), that the mirror holds verified, wherever they stand.

        `*` is all of a fileset. The state is read from a copy: a killed run may have left it with
        a journal, and rolling that back is for the next run to do.
        """
        copy = self.site.directory / "state copy"
        shutil.rmtree(copy, ignore_errors=True)
        copy.mkdir()
        for path in self.site.private.glob("state.db*"):
            shutil.copy(path, copy)
        with closing(sqlite3.connect(copy / "state.db")) as database:
            begun = database.execute("PRAGMA user_version").fetchone()[0]
            sql = "SELECT id, name, state FROM fileset"
            rows = database.execute(sql).fetchall() if begun else []
        kept = {(name, "*") for _, name, state in rows if state in ("done", "committing")}
        for number, fileset, _ in rows:
            files = self.store.products["gpc1"].filesets[fileset].files
            for path in (self.site.private / f"staging/{number}/fetched").glob("*"):
                if path.stat().st_size == files[path.name].size:
                    kept.add((fileset, path.name))
        return kept


@pytest.fixture(scope="module")
def store() -> Iterator[Simulator]:
    """A store that answers slowly, so that a kill can hit it anywhere."""
    with Simulator() as made:
        product = made.product("gpc1")
        for number in range(4):
            product.add(*chip_run(number, ["XY01", "XY02", "XY03"], size=3000))
        product.add("large", {"large.fits": noise("large", LARGE), "small.fits": b"SIMPLE"})
        product.add(*chip_run(4, ["XY01", "XY02"], size=400_000))
        for number in range(3):
            files = {f"f{at}.fits": noise((number, at), 5000) for at in range(6)}
            product.add(f"plain{number}", files)
        made.fault("*", slowly(0.01), times=None)
        yield made


def test_killed_at_random_instants(tmp_path: Path, store: Simulator) -> None:
    """Mirrors are killed and started again, until KILLS kills were survived in all.

    A mirror is complete after a few kills; then the next one is begun, so that every phase of a
    run has its share of them.
    """
    print(f"seed {SEED}: KILL_SEED={SEED} repeats it")
    rng = random.Random(SEED)
    expected = expected_tree(store.read, ["gpc1"], PREFIX, keep=True)
    kills = 0
    for number in count():
        mirror = Mirror(MirrorSite(tmp_path / f"site{number}"), store)
        mirror.site.directory.mkdir()
        # On a busy machine a run takes longer: the pauses grow until one gets through.
        longest = 0.4
        with TreeWatcher(mirror.site.root, expected) as watcher:
            while kills < KILLS and killed(mirror, rng, longest):
                kills += 1
                longest *= 1.25
            last = mirror.start()
            assert last.communicate(timeout=PATIENCE) == ("", "")
            assert last.returncode == 0
            mirror.ended()
        assert watcher.violations == []
        assert mirror.again == []
        assert mirror.site.visible() == expected
        assert mirror.site.litter() == []
        if kills == KILLS:
            break
    assert number > 0, "the pauses are too long: not one mirror got through"


def killed(mirror: Mirror, rng: random.Random, longest: float) -> bool:
    """Start a run and kill it within `longest` seconds. False where it was through before that."""
    process = mirror.start()
    if rng.random() < 0.8:
        wait_for(lambda: mirror.asked() or process.poll() is not None)
    delay = rng.uniform(0, longest)
    try:
        process.wait(delay)
    except subprocess.TimeoutExpired:
        process.kill()
    assert process.communicate(timeout=PATIENCE) == ("", "")
    assert process.returncode in (0, -signal.SIGKILL)
    mirror.ended()
    return process.returncode != 0


# A cut in a large file


def test_large_file_is_resumed_after_a_kill(mirror_site: MirrorSite) -> None:
    """The next run asks for what is missing alone, byte for byte."""
    cut = 4_500_000
    reached = threading.Event()

    def hold(connection: Connection, _request: Request, answer: Answer) -> None:
        connection.write(answer.head() + answer.body[:cut])
        reached.set()
        connection.wait(PATIENCE)

    with Simulator() as store:
        store.product("gpc1").add("large", {"large.fits": noise("large", LARGE)})
        store.fault("/gpc1/large/large.fits", hold)
        mirror_site.configure(store.url)
        process = mirror_site.start()
        assert reached.wait(PATIENCE)
        wait_for(lambda: any(size(path) >= 4 << 20 for path in growing(mirror_site)))
        process.kill()
        assert process.communicate() == ("", "")
        (partial,) = growing(mirror_site)
        have = size(partial)
        assert have <= cut
        assert mirror_site.visible() == {}
        store.clear()
        assert mirror_site.run() == SILENT
        (request,) = [one for one in store.requests if one.path.endswith("large.fits")]
    assert request.headers["range"] == f"bytes={have}-"
    etag = store.products["gpc1"].filesets["large"].files["large.fits"].etag
    assert request.headers["if-range"] == etag
    assert mirror_site.visible()["data/gpc1/large/large.fits"] == noise("large", LARGE)
    assert mirror_site.litter() == []


def test_large_file_that_changed_after_a_kill(mirror_site: MirrorSite) -> None:
    """What was cut is of no use when the file is another one now."""
    reached = threading.Event()

    def hold(connection: Connection, _request: Request, answer: Answer) -> None:
        connection.write(answer.head() + answer.body[:4_500_000])
        reached.set()
        connection.wait(PATIENCE)

    with Simulator() as store:
        product = store.product("gpc1")
        product.add("large", {"large.fits": noise("large", LARGE)})
        store.fault("/gpc1/large/large.fits", hold)
        mirror_site.configure(store.url)
        process = mirror_site.start()
        assert reached.wait(PATIENCE)
        wait_for(lambda: any(size(p) for p in growing(mirror_site)))
        process.kill()
        process.communicate()
        product.alter("large", {"large.fits": noise("another", LARGE)})
        assert mirror_site.run() == SILENT
    assert mirror_site.visible()["data/gpc1/large/large.fits"] == noise("another", LARGE)


def growing(site: MirrorSite) -> list[Path]:
    """The files that have come in part."""
    return list(site.private.glob("partial/*/files/*"))


def size(path: Path) -> int:
    """The bytes of a file; none where it has just moved on."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


# Signals that ask


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signal_ends_a_run_in_order(mirror_site: MirrorSite, number: signal.Signals) -> None:
    """Exit 1 and a summary, soon, though a file is under way; the next run completes."""
    with Simulator() as store:
        product = store.product("gpc1")
        for name in ("one", "two", "three"):
            product.add(name, {"a.fits": name.encode()})
        product.add("large", {"large.fits": noise("large", LARGE)})
        store.fault("/gpc1/large/large.fits", stall(PATIENCE, after=2 << 20))
        mirror_site.configure(store.url, timeout=PATIENCE)
        report = mirror_site.directory / "report.json"
        process = mirror_site.start("--json", str(report))
        wait_for(lambda: len(list(mirror_site.root.glob("data/gpc1/*"))) == 3)
        wait_for(lambda: any(size(p) for p in growing(mirror_site)))
        process.send_signal(number)
        out, errors = process.communicate(timeout=PATIENCE / 2)
        assert (process.returncode, out) == (1, "")
        assert errors.count("\n") == 1
        assert f"interrupted by {number.name}" in errors
        document = json.loads(report.read_text())
        assert document["exit"] == 1
        counts = document["products"]["gpc1"]
        assert (counts["done"], counts["queued"]) == (3, 1)
        assert [fault["fileset"] for fault in document["faults"]] == [None]
        store.clear()
        assert mirror_site.run() == SILENT
        asked = [one for one in store.requests if one.path.endswith(".fits")]
        assert [one.path for one in asked] == ["/gpc1/large/large.fits"]
        assert "range" in asked[0].headers
    assert mirror_site.visible()["data/gpc1/large/large.fits"] == noise("large", LARGE)
    assert mirror_site.litter() == []


def test_signal_while_a_list_is_awaited(mirror_site: MirrorSite) -> None:
    with Simulator() as store:
        store.product("gpc1").add("one", {"a.fits": b"SIMPLE"})
        store.fault("/gpc1/index.txt", stall(PATIENCE))
        mirror_site.configure(store.url, timeout=PATIENCE)
        process = mirror_site.start()
        wait_for(lambda: bool(store.count("/gpc1/index.txt")))
        process.terminate()
        _, errors = process.communicate(timeout=PATIENCE / 2)
        assert process.returncode == 1
        assert "interrupted by SIGTERM" in errors
        assert mirror_site.run() == SILENT
