"""Workers: tasks come back as they are done, faults as faults; none outlives its coordinator."""

import fcntl
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from client import PATIENCE, PROJECT, wait_for
from newsroom import is_gone

from mirror.errors import ConfigError, LocalError, MirrorError, RefusedError
from server import executor as executor_room
from server.executor import AHEAD, KILLED, Workers, check_scheduler, workers
from server.faults import CONFIGURATION, PROGRAM, SYSTEM, UNKNOWN, Fault

# What the workers do: by name, so that they can import it.


def double(number: int) -> int:
    return 2 * number


def process_id(number: int) -> int:
    return os.getpid()


def failing(number: int) -> int:
    errors: list[Exception] = [
        RefusedError("no", 403), ConfigError(["a", "b"]), FileNotFoundError(2, "none", "/x"),
        ValueError("odd"),
    ]  # fmt: skip
    raise errors[number]


def killed(number: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return number


def double_but_for_two(number: int) -> int:
    return killed(number) if number in (5, 40) else 2 * number


def alone_or_killed(path: str) -> bool:
    """As one that needs more memory than there is for two."""
    with open(path, "w") as room:
        try:
            fcntl.flock(room, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.1)
    return True


def note_and_wait(path: str) -> None:
    """Note who is at work, and undo that when told to end, whoever is second taking its time."""
    file = Path(path) / str(os.getpid())
    try:
        file.touch()
        while True:
            time.sleep(0.01)
    finally:
        if len(list(Path(path).iterdir())) < 2:
            time.sleep(0.1)
        file.unlink()


def note_and_compute(path: str) -> None:
    """Note who is at work, and never look up from it."""
    (Path(path) / str(os.getpid())).touch()
    while True:
        pass


def signals(number: int) -> bool:
    return signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_every_task_comes_back_with_its_result() -> None:
    with workers(2) as pool:
        assert pool.count == 2
        assert sorted(pool.each(double, range(50))) == [(n, 2 * n) for n in range(50)]
        assert list(pool.each(double, [])) == []


@pytest.mark.parametrize("jobs", [1, 2])
def test_work_is_done_by_processes_that_leave_ctrl_c_to_the_coordinator(jobs: int) -> None:
    with workers(jobs) as pool:
        seen = {done for _, done in pool.each(process_id, range(30))}
        assert [done for _, done in pool.each(signals, [0])] == [True]
    assert os.getpid() not in seen
    assert len(seen) <= jobs


def test_by_default_there_is_a_worker_for_every_core() -> None:
    with workers() as pool:
        assert pool.count == len(os.sched_getaffinity(0))


def test_what_a_task_raises_is_a_fault() -> None:
    with workers(1) as pool:
        faults = dict(pool.each(failing, range(4)))
    assert faults == {
        0: Fault(UNKNOWN, "no"),
        1: Fault(CONFIGURATION, "a b"),
        2: Fault(SYSTEM, "[Errno 2] none: '/x'"),
        3: Fault(PROGRAM, "ValueError: odd"),
    }


def test_tasks_are_asked_for_when_they_are_needed() -> None:
    """However many there are, only a few more than were taken are ever begun."""
    asked = taken = 0

    def tasks() -> Iterator[int]:
        nonlocal asked
        for number in range(200):
            asked += 1
            assert asked - taken <= 2 * AHEAD
            yield number

    with ThreadPoolExecutor(2) as threads:
        pool = Workers(threads, 2)
        for _ in pool.each(double, tasks()):
            taken += 1
    assert taken == 200


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_task_that_kills_its_worker_stops_no_other(jobs: int) -> None:
    """Not in the same call, and not in one after that."""
    others = multiprocessing.active_children()
    with workers(jobs) as pool:
        expected = {n: KILLED if n in (5, 40) else 2 * n for n in range(60)}
        came = list(pool.each(double_but_for_two, range(60)))
        assert dict(came) == expected
        assert len(came) == 60
        assert list(pool.each(double, [1])) == [(1, 2)]
    assert KILLED.code == SYSTEM
    assert KILLED.message.startswith("a worker process was killed while it worked on it")
    assert set(multiprocessing.active_children()) <= set(others)


def test_tasks_that_cannot_be_done_together_are_done_alone(tmp_path: Path) -> None:
    with workers(2) as pool:
        tasks = [str(tmp_path / "room")] * 6
        assert [done for _, done in pool.each(alone_or_killed, tasks)] == [True] * 6


def test_a_worker_that_is_killed_while_it_has_nothing_to_do_is_replaced() -> None:
    others = multiprocessing.active_children()
    with workers(1) as pool:
        ((_, pid),) = pool.each(process_id, [0])
        # Before its end: once it has ended it is no active one any more.
        (child,) = set(multiprocessing.active_children()) - set(others)
        assert child.pid == pid
        child.kill()
        child.join()
        assert sorted(pool.each(double, range(9))) == [(n, 2 * n) for n in range(9)]


NO_START = """
from server.executor import workers
from mirror.errors import LocalError
import test_executor
if __name__ == "__main__":
    import sys
    sys.argv[0] = sys.modules["__main__"].__file__ = "/gone/coordinator.py"
    try:
        with workers(2) as pool:
            list(pool.each(test_executor.double, [1, 2, 3]))
    except LocalError as error:
        print(error)
"""


def test_workers_that_cannot_be_started_are_the_fault_of_no_task(tmp_path: Path) -> None:
    script = tmp_path / "coordinator.py"
    script.write_text(NO_START)
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join((str(PROJECT), str(PROJECT / "tests")))}
    done = subprocess.run(
        [sys.executable, str(script)], env=environ, capture_output=True, text=True, check=True,
        timeout=PATIENCE,
    )  # fmt: skip
    assert done.stdout.startswith("worker processes could not be started (exit status 1)")
    assert "/gone/coordinator.py" in done.stderr


def test_a_system_that_starts_no_process_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(multiprocessing.util, "spawnv_passfds", refuse)
    told = pytest.raises(LocalError, match=r"could not be started .*temporarily unavailable")
    with told, workers(2) as pool:
        list(pool.each(double, [1]))


def test_an_error_of_the_coordinator_ends_the_workers(tmp_path: Path) -> None:
    def once_begun() -> Iterator[str]:
        for _ in range(2):
            yield str(tmp_path)
        while len(list(tmp_path.iterdir())) < 2:
            time.sleep(0.01)
        raise MirrorError("enough")

    others = multiprocessing.active_children()
    with pytest.raises(MirrorError, match="enough"), workers(2) as pool:
        # The third task is asked for when the first ones are handed out.
        list(pool.each(note_and_wait, once_begun()))
    # They were told to, and have undone what they had begun, however long that took each of them.
    assert list(tmp_path.iterdir()) == []
    assert set(multiprocessing.active_children()) <= set(others)


COORDINATOR = """
import sys
from server.executor import workers
from test_executor import note_and_compute
if __name__ == "__main__":
    with workers(2) as pool:
        list(pool.each(note_and_compute, [sys.argv[1]] * 2))
"""


def test_workers_end_with_their_coordinator_even_while_they_compute(tmp_path: Path) -> None:
    script = tmp_path / "coordinator.py"
    script.write_text(COORDINATOR)
    notes = tmp_path / "notes"
    notes.mkdir()
    paths = os.pathsep.join((str(PROJECT), str(PROJECT / "tests")))
    environ = {**os.environ, "PYTHONPATH": paths}
    process = subprocess.Popen([sys.executable, str(script), str(notes)], env=environ)
    wait_for(lambda: len(list(notes.iterdir())) == 2)
    pids = [int(path.name) for path in notes.iterdir()]
    process.kill()
    process.wait()
    wait_for(lambda: all(map(is_gone, pids)))


# A cluster


def test_a_cluster_does_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    distributed = pytest.importorskip("distributed")
    # A task that kills its worker is given to others, a few times; once is enough here.
    monkeypatch.setitem(distributed.config["distributed"]["scheduler"], "allowed-failures", 0)
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None,
            host="127.0.0.1", silence_logs=50,
        ) as cluster,
        workers(None, cluster.scheduler_address) as pool,
    ):  # fmt: skip
        assert pool.count == 2
        assert sorted(pool.each(double, range(50))) == [(n, 2 * n) for n in range(50)]
        seen = {done for _, done in pool.each(process_id, range(20))}
        assert len(seen) == 2
        assert os.getpid() not in seen
        assert dict(pool.each(failing, [3])) == {3: Fault(PROGRAM, "ValueError: odd")}
        assert list(pool.each(killed, [1])) == [(1, KILLED)]
        assert list(pool.each(double, [1])) == [(1, 2)]


def test_a_cluster_that_is_gone_ends_it_all() -> None:
    distributed = pytest.importorskip("distributed")
    cluster = distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, processes=True, dashboard_address=None,
        host="127.0.0.1", silence_logs=50,
    )  # fmt: skip
    gone = pytest.raises(LocalError, match="the workers are gone")
    with gone, workers(None, cluster.scheduler_address) as pool:
        for _ in pool.each(double, range(10_000)):
            cluster.close()


@pytest.mark.parametrize("address", ["", "8786", "http://127.0.0.1:8786", "tcp://x", "tcp://x:1/y"])
def test_an_odd_address_is_refused(address: str) -> None:
    with pytest.raises(ConfigError, match="tcp://HOST:PORT expected"), workers(1, address):
        pass
    with pytest.raises(ConfigError, match="tcp://HOST:PORT expected"):
        check_scheduler(address)


@pytest.mark.parametrize("address", [None, "tcp://127.0.0.1:8786", "tls://head.example:1"])
def test_an_address_is_looked_at_without_asking_it(address: str | None) -> None:
    check_scheduler(address)


def test_a_scheduler_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed")
    monkeypatch.setattr(executor_room, "PATIENCE", 0.2)
    gone = pytest.raises(LocalError, match=r"tcp://127\.0\.0\.1:1 does not answer")
    with gone, workers(1, "tcp://127.0.0.1:1"):
        pass


def test_without_distributed_it_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    missing = pytest.raises(ConfigError, match=r"pip install 'update-mirror\[cluster\]'")
    with missing, workers(1, "tcp://127.0.0.1:1"):
        pass
