"""`disttool -run` killed at any instant: the next one completes it (FAULTS D3, S7)."""

import itertools
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import inject
import pytest
from client import PATIENCE
from finished_runs import Finished, finished

from server.catalogue import catalogue
from server.distribution import run as run_room
from server.distribution.run import main_run
from server.executor import Workers
from server.site import SqliteFile

CHIPS = ("XY01", "XY02", "XY10")
KILLS = 15
SEED = 20090415


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Finished]:
    """A site whose catalogue is a file."""
    with finished(tmp_path, SqliteFile(tmp_path / "catalogue.db")) as ready:
        yield ready


def twice(site: Finished) -> list[str]:
    """Filesets of which there is more than one, and those recorded and not registered."""
    rows = site.database.rows(
        """SELECT p.prod_name, f.fileset_name FROM dsFileset f
        JOIN dsProduct p ON p.prod_id = f.prod_id"""
    )
    listed = Counter(f"{product}/{name}" for product, name in rows)
    recorded = site.database.rows(
        """SELECT d.product, f.name FROM rcDSFileset f
        JOIN rcDestination d ON d.dest_id = f.dest_id JOIN rcRun r ON r.fs_id = f.fs_id"""
    )
    early = {f"{product}/{name}" for product, name in recorded} - set(listed)
    return [name for name, count in listed.items() if count > 1] + sorted(early)


def completed(site: Finished, runs: range, dist_ids: list[int], chips: tuple[str, ...]) -> None:
    """Everything was done, each thing once, and nothing else is left."""
    for number, dist_id in zip(runs, dist_ids, strict=True):
        site.is_whole(number, dist_id, chips)
    for product in ("one", "two"):
        assert len(site.filesets(product)) == len(runs)
    assert site.database.row("SELECT count(*) FROM rcRun") == (2 * len(runs),)
    assert twice(site) == []
    assert site.litter() == []


# As processes, at any time


def test_killed_at_random_instants_it_is_completed(site: Finished) -> None:
    chance = random.Random(SEED)
    runs = range(11, 51)
    dist_ids = site.night(runs, CHIPS)
    kills = 0
    while kills < KILLS:
        process = site.start("-jobs", "2")
        time.sleep(chance.uniform(0.1, 0.9))
        process.kill()
        process.communicate(timeout=PATIENCE)
        assert twice(site) == []
        if process.returncode == 0:
            break
        kills += 1
    process = site.start("-jobs", "2")
    out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, err) == (0, ""), out
    assert kills > 1
    completed(site, runs, dist_ids, CHIPS)


def workers_of(pid: int) -> list[int]:
    """The processes that a coordinator has started to work for it."""
    found = []
    for path in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        with_arguments = Path(f"/proc/{path}/cmdline").read_bytes()
        if b"spawn_main" in with_arguments:
            found.append(int(path))
    return found


def test_a_worker_that_is_killed_is_replaced(site: Finished) -> None:
    """What it had in work is done by another one: nothing says that it was killed by that."""
    runs = range(11, 41)
    dist_ids = site.night(runs, CHIPS)
    process = site.start("-jobs", "2")
    while process.poll() is None and not list(site.bundles.glob("*/*.tgz")):
        time.sleep(0.001)
    os.kill(workers_of(process.pid)[0], signal.SIGKILL)
    _, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, err) == (0, "")
    assert site.database.row("SELECT count(*) FROM distComponent WHERE fault <> 0") == (0,)
    completed(site, runs, dist_ids, CHIPS)


# In one process, before every call


class AtOnce(Executor):
    """Does what it is given at once, so that calls of the system come in one order."""

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> "Future[Any]":
        """See Executor."""
        future: Future[Any] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


@contextmanager
def at_once(jobs: int | None, scheduler: str | None) -> Iterator[Workers]:
    """Stands for `server.executor.workers`."""
    yield Workers(AtOnce(), 1)


def small_night(directory: Path) -> tuple[Finished, range, list[int]]:
    """A run of one component for two destinations."""
    directory.mkdir()
    place = SqliteFile(directory / "catalogue.db")
    with finished(directory, place) as site:
        return site, range(11, 12), site.night([11], CHIPS[:1])


def run_in_a_fork(site: Finished, plan: inject.Plan) -> int:
    """Do what is pending in a process with faults injected; its exit status."""
    pid = os.fork()
    if pid == 0:
        run_armed(site, plan)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def run_armed(site: Finished, plan: inject.Plan) -> NoReturn:
    code = 99
    try:
        sys.stdout = sys.stderr = (site.directory / "output").open("w")
        inject.arm(plan)
        with catalogue(site.site.database) as database:
            code = main_run(site.site, database)
        sys.stderr.flush()
    finally:
        os._exit(code)


@contextmanager
def reopened(site: Finished) -> Iterator[None]:
    """A connection for what is asked after a fork."""
    with catalogue(site.site.database) as site.database:
        yield


@pytest.fixture
def _one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_room, "workers", at_once)


@pytest.mark.usefixtures("_one_process")
def test_killed_before_every_call_of_the_system(tmp_path: Path) -> None:
    for number in itertools.count(1):
        site, runs, dist_ids = small_night(tmp_path / str(number))
        code = run_in_a_fork(site, inject.Plan(inject.EVERY, number))
        with reopened(site):
            assert twice(site) == []
            if code != 0:
                assert code == -signal.SIGKILL
                assert main_run(site.site, site.database) == 0
            completed(site, runs, dist_ids, CHIPS[:1])
        if code == 0:
            break
    # Directory, bundle, documents and links are made, flushed, and recorded.
    assert number > 60


@pytest.mark.usefixtures("_one_process")
def test_failing_at_every_call_of_the_system(tmp_path: Path) -> None:
    """A disk that is full at any call is told, without a traceback, and is no obstacle later."""
    for number in itertools.count(1):
        site, runs, dist_ids = small_night(tmp_path / str(number))
        note = site.directory / "note"
        run_in_a_fork(site, inject.Plan(inject.EVERY, number, "ENOSPC", note=str(note)))
        with reopened(site):
            assert twice(site) == []
            assert "Traceback" not in (site.directory / "output").read_text()
            with site.database.write():
                for table in ("distComponent", "distRun"):
                    site.database.change(f"UPDATE {table} SET fault = 0, message = NULL")
                site.database.change("DELETE FROM rcDSFileset WHERE fault <> 0")
            assert main_run(site.site, site.database) == 0
            completed(site, runs, dist_ids, CHIPS[:1])
        if not note.exists():
            break
    assert number > 60


@pytest.mark.usefixtures("_one_process")
def test_everything_is_durable_before_it_is_recorded(tmp_path: Path) -> None:
    site, _, _ = small_night(tmp_path / "site")
    trace = tmp_path / "trace"
    assert run_in_a_fork(site, inject.Plan(trace=str(trace))) == 0
    calls = trace.read_text().splitlines()

    def first(*words: str, after: int = 0) -> int:
        found = (n for n, call in enumerate(calls) if n >= after and all(w in call for w in words))
        return next(found)

    def flushed_around(name: str) -> int:
        """The file is flushed before it gets its name, and then its directory."""
        renamed = first("replace", f"-> {outdir / name}")
        scratch = calls[renamed].split("\t")[1].partition(" -> ")[0]
        assert first(f"fsync\t{scratch}") < renamed
        return first(f"fsync\t{outdir}", after=renamed)

    outdir = site.bundles / "chip.11"
    bundled = first("UPDATE distComponent")
    assert flushed_around("o1.ch.11.XY01.tgz") < bundled
    full = first("UPDATE distRun")
    for kind in ("dirinfo", "dbinfo"):
        assert bundled < flushed_around(f"{kind}.chip.11.mdc") < full
    assert full < first("INSERT INTO dsFileset") < first("INTO rcDSFileset")
