"""Registrations that are killed, that fail, or that come all at once (FAULTS S6, S7, S9)."""

import itertools
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from multiprocessing.context import ForkContext
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import NoReturn

import inject
import pytest
from client import PATIENCE
from filesets import CONTENT, Store, new_store

from server.__main__ import main
from server.catalogue import NewFileset, catalogue, find_product
from server.contents import filesets_after
from server.fileset_files import SCRATCH, Mode
from server.register import Wanted, register, withdraw
from server.site import Place, Site, SqliteFile

PROJECT = Path(__file__).parent.parent
KILLS = 30
SEED = 20090415
FORK: ForkContext = multiprocessing.get_context("fork")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A store whose catalogue is a file."""
    with new_store(SqliteFile(tmp_path / "catalogue.db"), tmp_path) as ready:
        yield ready


def command(store: Store) -> list[str]:
    """The options that register the files that lie ready."""
    path = store.source.parent / "list"
    path.write_text("".join(f"{file.path}|||{file.type}|\n" for file in store.wanted()))
    assert isinstance(store.site.database, SqliteFile)
    return [
        "dsreg", "--add", "o1", "--product", "gpc1", "--type", "IPP-DIST", "--copy", "--abspath",
        "--list", str(path), "--dsroot", str(store.site.root),
        "--dbname", str(store.site.database.path), "--ps0", "3", "--ps2", "11955",
    ]  # fmt: skip


def all_or_nothing(store: Store) -> bool:
    """After a crash a fileset is whole, or in no list; whether it is whole."""
    if store.found() is None:
        product = find_product(store.database, "gpc1")
        assert product
        assert product.last_fileset is None
        return False
    store.whole()
    return True


def recovered(store: Store) -> None:
    """The next attempt registers what the crash has left, and leaves nothing else."""
    if not all_or_nothing(store):
        store.register()
    store.whole()


def forget(store: Store) -> None:
    """Make everything as it was before."""
    withdraw(store.site, store.database, "gpc1", "o1", remove=True, force=True)
    store.nothing()


# Killed


def test_killed_at_any_instant_all_or_nothing_is_there(store: Store) -> None:
    """Half of the kills come at any time of the process, half while it is at work."""
    chance = random.Random(SEED)
    arguments = [sys.executable, "-m", "server", *command(store)]
    began = time.monotonic()
    subprocess.run(arguments, cwd=PROJECT, check=True, stdout=subprocess.DEVNULL)
    lifetime = time.monotonic() - began
    forget(store)
    for number in range(KILLS):
        process = subprocess.Popen(arguments, cwd=PROJECT, stdout=subprocess.DEVNULL)
        span = lifetime * 1.1
        if number % 2:
            while process.poll() is None and not store.directory.exists():
                pass
            span = lifetime / 20
        time.sleep(chance.uniform(0, span))
        process.kill()
        process.wait()
        recovered(store)
        forget(store)


def in_a_fork(store: Store, plan: inject.Plan) -> int:
    """Run the command in a process with faults injected; its exit status, negative for a signal."""
    arguments = command(store)
    pid = os.fork()
    if pid == 0:
        run_armed(arguments, plan, store.source.parent / "stderr")
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def run_armed(arguments: list[str], plan: inject.Plan, output: Path) -> NoReturn:
    code = 99
    try:
        sys.stdout = sys.stderr = output.open("w")
        inject.arm(plan)
        code = main(arguments)
        sys.stderr.flush()
    finally:
        os._exit(code)


def test_killed_before_every_call_of_the_system(store: Store) -> None:
    outcomes = Counter[bool]()
    for number in itertools.count(1):
        code = in_a_fork(store, inject.Plan(inject.EVERY, number))
        if code == 0:
            break
        assert code == -signal.SIGKILL
        outcomes[all_or_nothing(store)] += 1
        recovered(store)
        forget(store)
    store.whole()
    # Each file is opened, written, closed, flushed, renamed; then come rows and the commit.
    assert outcomes[False] > 25


def test_everything_is_durable_before_it_can_be_seen(store: Store) -> None:
    trace = store.source.parent / "trace"
    assert in_a_fork(store, inject.Plan(trace=str(trace))) == 0
    calls = trace.read_text().splitlines()
    scratch = store.directory / SCRATCH
    committed = next(number for number, call in enumerate(calls) if "INSERT INTO ds" in call)
    for name in CONTENT:
        renamed = calls.index(f"replace\t{scratch} -> {store.directory / name}")
        assert renamed < committed
        # Opened, written and closed, then flushed, then renamed.
        assert calls[renamed - 1] == f"fsync\t{scratch}"
        assert calls[renamed - 2] == f"close\t{scratch}"
    for directory in (store.directory, store.directory.parent):
        assert renamed < calls.index(f"fsync\t{directory}") < committed


@pytest.mark.parametrize("error", ["ENOSPC", "EIO"])
def test_failing_at_every_call_of_the_system(store: Store, error: str) -> None:
    forget(store)
    for number in itertools.count(1):
        note = store.source.parent / f"note{number}"
        plan = inject.Plan(inject.EVERY, number, error, note=str(note))
        code = in_a_fork(store, plan)
        if not note.exists():
            break
        said = (store.source.parent / "stderr").read_text()
        assert "Traceback" not in said, note.read_text()
        assert code in (0, 2), (code, note.read_text(), said)
        if code == 0 or all_or_nothing(store):
            store.whole()
        else:
            store.nothing()
        recovered(store)
        forget(store)
    store.whole()
    assert number > 25


# All at once


def register_many(site: Site, who: int, count: int, start: Barrier) -> None:
    """One of the processes that register: tiny filesets of its own, one after the other."""
    files = [Wanted("a.fits", "fits")]
    source = site.root.parent / "source"
    with catalogue(site.database) as database:
        start.wait()
        for number in range(count):
            fileset = NewFileset(f"p{who}.{number}", "OBJECT")
            some = files if number % 10 == 0 else []
            register(site, database, "gpc1", fileset, some, mode=Mode.COPY, datapath=source)


def follow(site: Site, total: int, start: Barrier, seen: "Queue[list[str]]") -> None:
    """One of the readers: asks for what came after the last one it has seen, as a client does."""
    names: list[str] = []
    last = 0
    until = time.monotonic() + PATIENCE
    with catalogue(site.database) as database:
        start.wait()
        while len(names) < total and time.monotonic() < until:
            product = find_product(database, "gpc1")
            assert product
            for fileset in filesets_after(database, product, last, 50):
                names.append(fileset.name)
                last = fileset.id
            time.sleep(0.002)
    seen.put(names)


def at_once(site: Site, writers: int, count: int, readers: int) -> list[list[str]]:
    """Let them all run. Returns what each reader saw."""
    start = FORK.Barrier(writers + readers)
    seen: Queue[list[str]] = FORK.Queue()
    processes = [
        FORK.Process(target=register_many, args=(site, who, count, start)) for who in range(writers)
    ]
    processes += [
        FORK.Process(target=follow, args=(site, writers * count, start, seen))
        for _ in range(readers)
    ]
    for process in processes:
        process.start()
    lists = [seen.get(timeout=2 * PATIENCE) for _ in range(readers)]
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * len(processes)
    return lists


@pytest.mark.parametrize(("kind", "writers", "count"), [("sqlite", 20, 50), ("postgres", 8, 10)])
def test_many_register_at_once_and_readers_miss_nothing(
    tmp_path: Path, request: pytest.FixtureRequest, kind: str, writers: int, count: int
) -> None:
    place: Place = SqliteFile(tmp_path / "catalogue.db")
    if kind == "postgres":
        place = request.getfixturevalue("postgres")()
    with new_store(place, tmp_path) as store:
        lists = at_once(store.site, writers, count, readers=3)
        product = find_product(store.database, "gpc1")
        assert product
        final = [fileset.name for fileset in filesets_after(store.database, product, 0, 10_000)]
    expected = [[f"p{who}.{number}" for number in range(count)] for who in range(writers)]
    assert sorted(final) == sorted(itertools.chain(*expected))
    assert lists == [final] * 3
    assert product.last_fileset == final[-1]
    for who, own in enumerate(expected):
        assert [name for name in final if name.startswith(f"p{who}.")] == own
    directories = {path.name for path in (store.site.root / "gpc1").iterdir()}
    assert directories == set(final)


def test_of_two_processes_that_register_one_fileset_one_wins(store: Store) -> None:
    arguments = [sys.executable, "-m", "server", *command(store)]
    processes = [
        subprocess.Popen(
            arguments, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    ended = [(*process.communicate(timeout=PATIENCE), process.returncode) for process in processes]
    assert sorted(code for _, _, code in ended) == [0, 1, 1]
    for out, err, code in ended:
        assert (out == "") == (code == 1)
        assert ("another process" in err or "registered already" in err) == (code == 1)
    store.whole()
