"""Connections over real sockets: their requests, their time, their number; and the last of them."""

import http.client
import os
import re
import signal
import socket
from contextlib import ExitStack
from pathlib import Path

import pytest
from client import PATIENCE, wait_for
from served import HOST, Process, check_limit, read_all, run_server, serving, status_of
from traps import DATA, FILE, GET_FILE

from server.samples.sample import SampleFile, write_fileset

# --- connections -----------------------------------------------------------------------------


def test_pipelined_requests_are_answered_in_order(server: Process) -> None:
    paths = [FILE, "/gpc1/index.txt", "/nope", "/gpc1/o1.chip.1.1.1/empty.tgz", "/gpc1/", "/gpc1"]
    once = b"".join(f"GET {path} HTTP/1.1\r\n".encode() + HOST + b"\r\n" for path in paths)
    answer = server.ask(once * 20)
    statuses = re.findall(rb"HTTP/1\.1 (\d+) ", answer)
    assert statuses == [b"200", b"200", b"404", b"200", b"200", b"301"] * 20


def test_connection_stays_open_between_requests(server: Process) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
    connection.connect()
    first = connection.sock
    for path in (FILE, "/nope", "/gpc1/", "/gpc1/index.txt", FILE):
        connection.request("GET", path)
        connection.getresponse().read()
        assert connection.sock is first
    connection.close()


@pytest.mark.parametrize(
    ("line", "fields", "says"),
    [
        (b"HTTP/1.1", b"", None),
        (b"HTTP/1.1", b"Connection: close\r\n", b"close"),
        (b"HTTP/1.1", b"Connection: foo, Close\r\n", b"close"),
        (b"HTTP/1.0", b"", b"close"),
        (b"HTTP/1.0", b"Connection: Keep-Alive\r\n", b"keep-alive"),
    ],
)
def test_connection_field(server: Process, line: bytes, fields: bytes, says: bytes | None) -> None:
    answer = server.ask(b"GET /gpc1/index.txt " + line + b"\r\n" + HOST + fields + b"\r\n")
    found = re.search(rb"\r\nConnection: ([a-z-]+)\r\n", answer)
    assert (found[1] if found else None) == says


def test_empty_lines_before_a_request_and_whole_urls_are_taken(server: Process) -> None:
    target = f"http://elsewhere:1{FILE}".encode()
    answer = server.ask(b"\r\n\r\nGET " + target + b" HTTP/1.1\r\n" + HOST + b"\r\n")
    assert answer.endswith(b"\r\n\r\n" + DATA)


def test_request_in_pieces_is_put_together(server: Process) -> None:
    with server.connect() as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in GET_FILE + b"Connection: close\r\n\r\n":
            client.sendall(bytes([byte]))
        assert read_all(client).endswith(DATA)


# --- limits ----------------------------------------------------------------------------------


def test_slow_sender_is_told_and_silent_one_is_dropped(store: Path) -> None:
    with (
        serving(store, "--header-timeout", "0.2", "--idle-timeout", "1000") as server,
        ExitStack() as opened,
    ):
        with server.stopped():
            slow, silent, second, later = (opened.enter_context(server.connect()) for _ in range(4))
            later.sendall(b"HEAD / HTTP/1.1\r\n" + HOST + b"\r\n")
            slow.sendall(b"GET / HTTP/1.1\r\nHost:")
            second.sendall(b"HEAD / HTTP/1.1\r\n" + HOST + b"\r\nGET /")
        assert status_of(later.recv(4096)) == 200
        later.sendall(b"GET /")
        assert status_of(read_all(slow)) == 408
        assert read_all(silent) == b""
        assert re.findall(rb"HTTP/1.1 (\d+)", read_all(second)) == [b"200", b"408"]
        assert status_of(read_all(later)) == 408


def test_idle_connection_is_closed_without_a_word(store: Path) -> None:
    with serving(store, "--idle-timeout", "0.2") as server, server.connect() as client:
        client.sendall(b"HEAD / HTTP/1.1\r\n" + HOST + b"\r\n")
        assert read_all(client).count(b"HTTP/1.1") == 1


def test_reader_that_takes_nothing_does_not_hold_the_server(tmp_path: Path) -> None:
    big_file(tmp_path)
    with serving(tmp_path, "--idle-timeout", "0.1") as server, server.connect() as client:
        client.sendall(b"GET /p/f/big.fits HTTP/1.1\r\n" + HOST + b"\r\n")
        # The first byte, and then none: it is the server that gives up, before it is asked to end.
        client.recv(1)
        wait_for(lambda: server.threads() == 1)
    assert server.process.returncode == 0


def test_beyond_the_limit_503_and_room_again_afterwards(store: Path) -> None:
    with serving(store, "--max-connections", "2") as server:
        check_limit(server, 2, FILE)


def test_flood_of_connections_is_survived(store: Path) -> None:
    with serving(store, "--max-connections", "5") as server:
        flood = [server.connect() for _ in range(300)]
        for client in flood:
            client.close()
        wait_for(lambda: server.get(FILE).status == 200)
    assert server.errors == ""


def big_file(root: Path) -> int:
    write_fileset(root, "p", "f", [SampleFile("big.fits", b"", "fits")])
    size = 64 * 1024 * 1024
    os.truncate(root / "p/f/big.fits", size)
    return size


# --- the command -----------------------------------------------------------------------------


def test_sigterm_finishes_what_is_in_work(tmp_path: Path) -> None:
    size = big_file(tmp_path)
    with (
        serving(tmp_path, "--idle-timeout", "1000") as server,
        server.connect() as client,
        server.connect() as idle,
    ):
        client.sendall(b"GET /p/f/big.fits HTTP/1.1\r\n" + HOST + b"\r\n")
        received = client.recv(1000)
        server.process.send_signal(signal.SIGTERM)
        # Nobody new is let in, the idle one let go at once, the busy one gets all it was promised.
        wait_for(server.refuses)
        assert read_all(idle) == b""
        count = len(received.partition(b"\r\n\r\n")[2])
        while chunk := client.recv(1 << 20):
            count += len(chunk)
        assert count == size
        assert server.process.wait(PATIENCE) == 0
    assert server.errors == ""


def test_second_signal_ends_what_is_in_work(tmp_path: Path) -> None:
    big_file(tmp_path)
    with serving(tmp_path, "--idle-timeout", "1000") as server, server.connect() as client:
        client.sendall(b"GET /p/f/big.fits HTTP/1.1\r\n" + HOST + b"\r\n")
        client.recv(1)
        server.process.terminate()
        wait_for(server.refuses)
        server.process.terminate()
        assert server.process.wait(PATIENCE) == -signal.SIGTERM


def test_sigterm_serves_who_had_connected_before(store: Path) -> None:
    with serving(store) as server:
        # Stopped, it cannot have taken the connection when the end is asked for.
        server.process.send_signal(signal.SIGSTOP)
        with server.connect() as client:
            client.sendall(GET_FILE + b"\r\n")
            server.process.send_signal(signal.SIGTERM)
            server.process.send_signal(signal.SIGCONT)
            answer = read_all(client)
        assert answer.endswith(DATA)
        assert server.process.wait(PATIENCE) == 0


def test_file_that_shrinks_ends_the_connection_short(tmp_path: Path) -> None:
    size = big_file(tmp_path)
    with serving(tmp_path) as server, server.connect() as client:
        client.sendall((b"GET /p/f/big.fits HTTP/1.1\r\n" + HOST + b"\r\n") * 2)
        count = len(client.recv(1000))
        os.truncate(tmp_path / "p/f/big.fits", 1000)
        while chunk := client.recv(1 << 20):
            count += len(chunk)
        assert count < size


def test_access_log_is_combined_and_cannot_be_forged(store: Path) -> None:
    with serving(store, "--access-log") as server:
        server.get('/gpc1/"x', User_Agent='a"b\\', Referer="r\u00e9")
        server.get(FILE, Range="bytes=0-9")
        server.ask(b"junk\r\n\r\n")
    # One connection may log before another that was answered first.
    lines = server.output.splitlines()
    first, second, third = (
        next(line for line in lines if mark in line) for mark in (" 404 ", " 206 ", " 400 ")
    )
    moment = r"\[\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d \+0000\]"
    assert re.fullmatch(rf'127\.0\.0\.1 - - {moment} "GET /gpc1/\\x22x HTTP/1\.1" 404 \d+ '
                        r'"r\\xe9" "a\\x22b\\x5c"', first)  # fmt: skip
    assert re.fullmatch(rf'127.* "GET {re.escape(FILE)} HTTP/1\.1" 206 10 "-" "-"', second)
    assert re.fullmatch(r'127.* "-" 400 \d+ "-" "-"', third)


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        ([], 2, "usage: python -m server COMMAND"),
        (["nope"], 2, "no command 'nope'"),
        (["serve", "--nope"], 2, "--nope"),
        (["serve", "--port", "70000"], 2, "0 to 65535"),
        (["serve", "--port", "web"], 2, "0 to 65535"),
        (["serve", "--header-timeout", "nan"], 2, "above 0"),
        (["serve", "--header-timeout", "long"], 2, "above 0"),
        (["serve", "--idle-timeout", "0"], 2, "above 0"),
        (["serve", "--max-connections", "0"], 2, "at least 1"),
        (["serve"], 3, "DATA_STORE_ROOT: not set; give the option"),
        (["serve", "--dsroot", "/nowhere/at/all"], 3, "/nowhere/at/all"),
        (["serve", "--static", "/", "--host", "192.0.2.1"], 2, "cannot listen at 192.0.2.1"),
    ],
)
def test_wrong_usage_is_told_without_a_traceback(
    arguments: list[str], status: int, says: str
) -> None:
    code, output, errors = run_server(*arguments)
    assert (code, output) == (status, "")
    assert says in errors
    assert "Traceback" not in errors


def test_help_lists_the_commands() -> None:
    code, output, errors = run_server("--help")
    assert (code, errors) == (0, "")
    assert re.search(r"^  serve +\S", output, re.MULTILINE)


def test_port_that_is_taken_is_told(store: Path, server: Process) -> None:
    code, _, errors = run_server("serve", "--port", str(server.port), "--static", str(store))
    assert code == 2
    assert f"port {server.port}" in errors
