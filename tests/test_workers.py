"""Several processes behind one port: together one server, whatever happens to one of them."""

import os
import re
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from client import PATIENCE, PROJECT, wait_for
from served import (
    FILE,
    HOST,
    Process,
    check_limit,
    make_pair,
    one_file,
    read_all,
    run_server,
    serving,
    state_of,
    status_of,
)

from server.samples.sample import SampleFile, write_fileset

DATA = bytes(range(256)) * 4
SOON = "import server.http.workers; server.http.workers.PAUSE = 0.05"
HEAD = b"HEAD /index.txt HTTP/1.1\r\n" + HOST + b"\r\n"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A product with a fileset of one file."""
    return one_file(tmp_path_factory.mktemp("store"), DATA)


def workers_of(server: Process) -> list[int]:
    """The process ids of a server's workers."""
    pid = server.process.pid
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def runs(pid: int) -> bool:
    """Say whether a process is there and not just waiting to be reaped."""
    return state_of(pid) not in ("", "Z")


def asleep(server: Process) -> Callable[[], bool]:
    """Whether no worker has a connection: none has a thread besides its first."""
    return lambda: all(len(os.listdir(f"/proc/{pid}/task")) == 1 for pid in workers_of(server))


def numbers(server: Process) -> dict[str, float]:
    pairs = re.findall(r"^(\S+) ([0-9.]+)$", server.get("/metrics").body.decode(), re.MULTILINE)
    return {name: float(value) for name, value in pairs}


# --- together --------------------------------------------------------------------------------


def test_first_line_comes_once_and_all_serve(store: Path) -> None:
    with serving(store, "--workers", "3") as server:
        assert server.line == f"serving {store} at http://127.0.0.1:{server.port}/\n"
        workers = workers_of(server)
        assert len(workers) == 3
        for stopped in workers:
            others = [pid for pid in workers if pid != stopped]
            # Each answers while the others are stopped.
            for pid in others:
                os.kill(pid, signal.SIGSTOP)
            assert server.get(FILE).body == DATA
            for pid in others:
                os.kill(pid, signal.SIGCONT)
    assert (server.process.returncode, server.output, server.errors) == (0, "", "")
    assert not any(map(runs, workers))


def test_one_worker_is_no_other_process(store: Path) -> None:
    with serving(store, "--workers", "1") as server:
        assert workers_of(server) == []


def test_numbers_are_the_sum_of_all(store: Path) -> None:
    with serving(store, "--workers", "3", "--metrics") as server:
        held = []
        for stopped in workers_of(server):
            others = [pid for pid in workers_of(server) if pid != stopped]
            for pid in others:
                os.kill(pid, signal.SIGSTOP)
            held.append(server.connect())
            held[-1].sendall(HEAD)
            assert status_of(held[-1].recv(65536)) == 200
            for pid in others:
                os.kill(pid, signal.SIGCONT)
        # An answer is counted when it has been sent, which may be after it has come.
        heads = 'datastore_requests_total{method="HEAD",code="2xx"}'
        wait_for(lambda: numbers(server)[heads] == 3)
        wait_for(lambda: numbers(server)["datastore_connections_open"] == 4)
        assert numbers(server)["datastore_workers"] == 3
        for client in held:
            client.close()
        wait_for(asleep(server))
        assert numbers(server)["datastore_connections_open"] == 1


def test_limit_of_connections_holds_for_all_together(store: Path) -> None:
    with serving(store, "--workers", "2", "--max-connections", "4") as server:
        check_limit(server, 4, FILE)


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"PUT / HTTP/1.1\r\n" + HOST + b"\r\n", 405),
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n" + HOST + b"\r\n", 414),
        (b"GET / HTTP/1.1\r\n" + HOST + b"A: b\r\n" * 200 + b"\r\n", 431),
    ],
    ids=["405", "414", "431"],
)
def test_refusals_are_the_same(store: Path, data: bytes, status: int) -> None:
    with serving(store, "--workers", "2") as server:
        answers = [server.ask(data) for _ in range(8)]
    assert {status_of(answer) for answer in answers} == {status}
    assert all((b"\r\nAllow: GET, HEAD\r\n" in answer) == (status == 405) for answer in answers)
    assert server.errors == ""


def test_slow_sender_is_told(store: Path) -> None:
    options = ("--workers", "2", "--header-timeout", "0.2")
    with serving(store, *options) as server:
        with server.stopped():
            client = server.connect()
            client.sendall(b"GET / HTTP/1.1\r\nHost:")
        with client:
            assert status_of(read_all(client)) == 408


def test_all_write_to_one_log(store: Path, tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    pair = make_pair(tmp_path, "localhost")
    options = ("--workers", "2", "--access-log", str(log), *pair.options)
    with serving(store, *options, tls=pair.client()) as server:
        for number in range(20):
            assert server.get(FILE, User_Agent=f"{number:02}").body == DATA
    agents = sorted(re.findall(r' 200 1024 "-" "(\d\d)"\n', log.read_text()))
    assert agents == [f"{number:02}" for number in range(20)]
    assert log.read_text().count("\n") == 20


# --- one of them dies ------------------------------------------------------------------------


def test_worker_that_dies_is_started_again_and_told(store: Path) -> None:
    with serving(store, "--workers", "2", "--metrics", prelude=SOON) as server:
        client = server.connect()
        client.sendall(HEAD)
        assert status_of(client.recv(4096)) == 200
        before = workers_of(server)
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        wait_for(lambda: len(set(workers_of(server)) - set(before)) == 2)
        # The connections that have gone with them are no longer counted.
        wait_for(lambda: numbers(server)["datastore_connections_open"] == 1)
        assert server.get(FILE).body == DATA
        client.close()
    assert server.process.returncode == 0
    told = [
        f"server serve: worker {number} (process {pid}) ended by signal 9; starting it again"
        for number, pid in enumerate(before)
    ]
    assert sorted(server.errors.splitlines()) == told
    assert server.output == ""


def test_worker_that_is_ended_by_itself_finishes_and_is_started_again(store: Path) -> None:
    with serving(store, "--workers", "2", prelude=SOON) as server:
        first = workers_of(server)[0]
        os.kill(first, signal.SIGTERM)
        wait_for(lambda: first not in workers_of(server) and len(workers_of(server)) == 2)
        assert server.get(FILE).status == 200
    assert f"worker 0 (process {first}) ended by status 0" in server.errors


CREW = """if True:
    import os, socket, sys, time
    from server.http import workers
    workers.PAUSE = float(sys.argv[2])
    lines = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND)
    def say(words):
        os.write(lines, words.encode() + b"\\n")
    def work(number, until, ready):
{}
    listener = socket.create_server(("127.0.0.1", 0))
    say(f"begun {{time.monotonic()}}")
    workers.supervise(2, listener, work, lambda: say("announced"))
"""


_TIMED = re.compile(r"(begun|0|1) ")


@contextmanager
def crew(tmp_path: Path, work: str, pause: float) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """Two workers whose work this is, and a file with what they and their parent `say`."""
    said = tmp_path / "said"
    said.touch()
    program = CREW.format(textwrap.indent(textwrap.dedent(work), "        "))
    command = [sys.executable, "-c", program, str(said), str(pause)]
    process = subprocess.Popen(command, cwd=PROJECT, stderr=subprocess.DEVNULL)
    try:
        yield process, said
    finally:
        process.kill()
        process.wait()


def test_it_is_announced_when_the_last_one_is_ready_and_once(tmp_path: Path) -> None:
    late = """
        if number:
            time.sleep(0.1)
            say("late")
        ready()
        time.sleep(0.05)
    """
    with crew(tmp_path, late, 0.05) as (_, said):
        # Each of them ends, is started again, and is ready again.
        wait_for(lambda: said.read_text().count("late") >= 3)
        words = said.read_text().split()[2:]
    assert words[:2] == ["late", "announced"]
    assert words.count("announced") == 1


def test_worker_that_keeps_dying_is_not_started_again_at_once(tmp_path: Path) -> None:
    dying = """
        ready()
        say(f"{number} {time.monotonic()}")
        os._exit(1)
    """
    with crew(tmp_path, dying, 0.4) as (process, said):
        wait_for(lambda: said.read_text().count("\n1 ") >= 3)
        process.terminate()
        assert process.wait(PATIENCE) == 0
    times: dict[str, list[float]] = {"begun": [], "0": [], "1": []}
    for who, time in map(str.split, filter(_TIMED.match, said.read_text().splitlines())):
        times[who].append(float(time))
    (begun,) = times["begun"]
    for number in "01":
        # A worker may be slow to tell: what has to be is the pauses between all of its starts.
        pauses = [time - begun for time in times[number]]
        assert all(passed >= 0.4 * count for count, passed in enumerate(pauses))


def test_store_that_cannot_be_opened_is_told_once(store: Path) -> None:
    program = """if True:
        import sys
        from mirror.errors import ConfigError
        from server import __main__
        from server import serve
        def broken():
            raise ConfigError(["no such catalogue"])
        serve.open_store = lambda options: (None, broken)
        sys.exit(__main__.main(["serve", "--port", "0", "--workers", "3", "--static", sys.argv[1]]))
    """
    done = subprocess.run(
        [sys.executable, "-c", program, str(store)],
        cwd=PROJECT, capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == "serve: no such catalogue\n"


def test_port_that_is_taken_is_told(store: Path) -> None:
    with serving(store) as server:
        options = ("--port", str(server.port), "--workers", "2", "--static", str(store))
        code, output, errors = run_server("serve", *options)
    assert (code, output) == (2, "")
    assert f"port {server.port}" in errors


# --- the end ---------------------------------------------------------------------------------


def big_file(root: Path) -> int:
    write_fileset(root, "p", "f", [SampleFile("big.fits", b"", "fits")])
    size = 64 * 1024 * 1024
    os.truncate(root / "p/f/big.fits", size)
    return size


@pytest.mark.parametrize("to_all", [False, True], ids=["to the parent", "to all of them"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_what_is_in_work_is_finished(tmp_path: Path, number: signal.Signals, to_all: bool) -> None:
    size = big_file(tmp_path)
    with serving(tmp_path, "--workers", "2", "--idle-timeout", "1000") as server:
        with server.connect() as client, server.connect() as idle:
            client.sendall(b"GET /p/f/big.fits HTTP/1.1\r\n" + HOST + b"\r\n")
            count = len(client.recv(1000).partition(b"\r\n\r\n")[2])
            # As a terminal sends SIGINT, and systemd SIGTERM.
            for pid in (*(workers_of(server) if to_all else ()), server.process.pid):
                os.kill(pid, number)
            # Nobody has the port any more, while one of them is still at work.
            wait_for(server.refuses)
            assert read_all(idle) == b""
            while chunk := client.recv(1 << 20):
                count += len(chunk)
        assert count == size
        assert server.process.wait(PATIENCE) == 0
    assert server.errors == ""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_second_signal_kills(tmp_path: Path, number: signal.Signals) -> None:
    big_file(tmp_path)
    options = ("--workers", "2", "--idle-timeout", "1000")
    with serving(tmp_path, *options) as server, server.connect() as client:
        client.sendall(b"GET /p/f/big.fits HTTP/1.1\r\n" + HOST + b"\r\n")
        client.recv(1)
        workers = workers_of(server)
        server.process.send_signal(number)
        wait_for(lambda: sum(map(runs, workers)) == 1)
        server.process.send_signal(number)
        assert server.process.wait(PATIENCE) == -number
        # The one at work did not go by itself: its client has taken nothing.
        wait_for(lambda: not any(map(runs, workers)))


def test_workers_do_not_outlive_a_parent_that_was_killed(store: Path) -> None:
    with serving(store, "--workers", "3", prelude=SOON) as server:
        workers = workers_of(server)
        os.kill(workers[0], signal.SIGKILL)
        wait_for(lambda: workers[0] not in workers_of(server) and len(workers_of(server)) == 3)
        workers = workers_of(server)
        server.process.kill()
        wait_for(lambda: not any(map(runs, workers)))
        assert server.process.wait(PATIENCE) == -signal.SIGKILL
