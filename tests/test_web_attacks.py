"""A server under attack: what it says to each request, and that it is the same afterwards.

Every attack goes to a catalogue's store and, as far as it applies, to plain files. It gets the
statuses it should, each in an answer that is framed without a doubt; then somebody else is served
at once, and the server has no more threads and descriptors than before.
"""

import re
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from attacks import ATTACKS, END, Attack
from client import PATIENCE, wait_for
from served import HOST, Process, read_all, serving, status_of
from traps import (
    DATA,
    FILE,
    GET_FILE,
    SECRET,
    plain_store,
    registered_store,
    serving_registered,
)

_LOGGED = re.compile(
    r'127\.0\.0\.1 - \S+ \[[^]"]+\] "[^"\\]*(\\x[0-9a-f]{2}[^"\\]*)*" [1-5]\d\d \d+ "-" "-"'
)


@dataclass(frozen=True)
class Target:
    """A server that is attacked, and what it has open while nobody asks it anything."""

    server: Process
    descriptors: int
    log: Path


def _at_rest(server: Process, log: Path) -> Target:
    # What is opened once and kept is there after the first of each.
    for path in ("/", "/gpc1/index.txt", FILE):
        assert server.get(path).status == 200
    wait_for(lambda: server.threads() == 1)
    return Target(server, server.descriptors(), log)


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """A catalogue's server; it complains of files that are spoiled, and of nothing else."""
    directory = tmp_path_factory.mktemp("catalogue")
    log = directory / "access.log"
    site = registered_store(directory)
    with serving_registered(site, "--access-log", str(log)) as server:
        yield _at_rest(server, log)
    assert server.process.returncode == 0
    spoiled = re.compile(r"server serve: 127\.0\.0\.1: (GET|HEAD) /gpc1/(traps|swapped)/\w+\.fits ")
    assert all(map(spoiled.match, server.errors.splitlines())), server.errors


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """A server of plain files, that has nothing to complain of."""
    directory = tmp_path_factory.mktemp("plain")
    log = directory / "access.log"
    with serving(plain_store(directory), "--access-log", str(log)) as server:
        yield _at_rest(server, log)
    assert server.process.returncode == 0
    assert server.errors == ""


@pytest.fixture(params=["catalogue", "plain"])
def target(request: pytest.FixtureRequest) -> Target:
    found: Target = request.getfixturevalue(request.param)
    return found


def withstand(target: Target, attack: Attack, statuses: tuple[int, ...]) -> None:
    server = target.server
    # One more request behind it: to be answered, or never seen at all.
    received = server.ask(attack.data + GET_FILE + b"Connection: close\r\n\r\n")
    answers = answers_in(received, head_first=attack.data.startswith(b"HEAD "))
    if not attack.closes:
        assert answers.pop()[1] == DATA
    assert tuple(status_of(head) for head, _ in answers) == statuses
    assert (b"\r\nConnection: close\r\n" in answers[-1][0] if answers else False) == attack.closes
    for head, body in answers:
        check_harmless(head, body)
    assert server.get(FILE).body == DATA
    server.rest(target.descriptors)
    assert "Traceback" not in server.told()


def answers_in(received: bytes, *, head_first: bool) -> list[tuple[bytes, bytes]]:
    """Head and body of each answer; the bytes must be exactly those that the heads announce."""
    answers: list[tuple[bytes, bytes]] = []
    while received:
        head, end, received = received.partition(b"\r\n\r\n")
        assert end, head
        head += end
        lengths = re.findall(rb"\r\nContent-Length: (\d+)\r\n", head)
        assert len(lengths) == 1, head
        count = 0 if head_first and not answers else int(lengths[0])
        assert len(received) >= count
        answers.append((head, received[:count]))
        received = received[count:]
    return answers


def check_harmless(head: bytes, body: bytes) -> None:
    """Nothing of what is not for the world, nor of our insides, and nobody led elsewhere."""
    assert SECRET not in body
    assert b"Traceback" not in body
    assert b"/outside" not in body
    assert b"<script" not in body
    assert re.fullmatch(rb"HTTP/1\.1 \d{3} [A-Za-z -]+\r\n([A-Za-z-]+: [ -~]*\r\n)+\r\n", head)
    assert (b"\r\nLocation: " in head) == head.startswith(b"HTTP/1.1 301 ")
    assert not re.search(rb"\r\nLocation: (?!/[A-Za-z0-9])", head)
    assert (b"\r\nAllow: GET, HEAD\r\n" in head) == head.startswith(b"HTTP/1.1 405 ")
    assert (b"\r\nWWW-Authenticate: Basic " in head) == head.startswith(b"HTTP/1.1 401 ")


@pytest.mark.parametrize("attack", ATTACKS, ids=[attack.name for attack in ATTACKS])
def test_catalogue_withstands(catalogue: Target, attack: Attack) -> None:
    withstand(catalogue, attack, attack.statuses)


PLAIN = [attack for attack in ATTACKS if attack.plain is not None]


@pytest.mark.parametrize("attack", PLAIN, ids=[attack.name for attack in PLAIN])
def test_plain_files_withstand(plain: Target, attack: Attack) -> None:
    assert attack.plain is not None
    withstand(plain, attack, attack.plain)


def test_log_of_all_this_is_one_clean_line_for_each(target: Target) -> None:
    lines = target.log.read_bytes().split(b"\n")[:-1]
    assert len(lines) > len(PLAIN)
    assert [line for line in lines if not _LOGGED.fullmatch(line.decode("ascii"))] == []


# --- bytes that come slowly, or not at all ---------------------------------------------------


def test_byte_by_byte_is_ended_while_others_are_served(tmp_path: Path) -> None:
    # Never idle, and never at an end.
    with serving(plain_store(tmp_path), "--header-timeout", "0.3") as server:
        assert server.get(FILE).body == DATA
        wait_for(lambda: server.threads() == 1)
        open_before = server.descriptors()
        with server.stopped():
            slow = [server.connect() for _ in range(20)]
            for client in slow:
                client.sendall(b"G")
        for byte in b"ET / HTTP/1.1\r\nHost: x\r\nA: ":
            for client in slow:
                client.sendall(bytes([byte]))
        assert server.get(FILE).body == DATA
        assert {status_of(drip(client)) for client in slow} == {408}
        server.rest(open_before)
    assert server.errors == ""


def drip(client: socket.socket) -> bytes:
    """Send a byte now and then until the server answers."""
    until = time.monotonic() + PATIENCE
    with client:
        client.setblocking(False)
        while True:
            assert time.monotonic() < until, "bytes are taken for ever"
            try:
                # First, as it may have been said long ago, and nobody would take a byte any more.
                received = client.recv(1)
            except BlockingIOError:
                client.sendall(b"b")
                time.sleep(0.02)
                continue
            client.setblocking(True)
            return received + read_all(client)


@pytest.mark.parametrize("ends", ["reset", "shut", "gone"])
def test_whoever_goes_before_the_answer_leaves_nothing(target: Target, ends: str) -> None:
    server = target.server
    for path in ("/", "/gpc1/index.txt", FILE, "/gpc1/../x"):
        for data in (f"GET {path}".encode() + END, f"GET {path} HTTP/1.1\r\nHos".encode(), b""):
            with server.connect() as client:
                client.sendall(data * 5)
                if ends == "reset":
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes([1] + [0] * 7))
                elif ends == "shut":
                    client.shutdown(socket.SHUT_RDWR)
    assert server.get(FILE).body == DATA
    server.rest(target.descriptors)
    assert "Traceback" not in server.told()


def test_bare_line_feeds_are_refused_without_waiting_for_more(target: Target) -> None:
    with target.server.connect() as client:
        client.sendall(b"GET / HTTP/1.0\n\n")
        assert status_of(client.recv(4096)) == 400
    target.server.rest(target.descriptors)


def test_half_a_line_that_is_too_long_is_refused_without_waiting_for_more(target: Target) -> None:
    with target.server.connect() as client:
        client.sendall(b"GET /" + b"a" * 9000)
        assert status_of(client.recv(4096)) == 414
    with target.server.connect() as client:
        client.sendall(b"GET / HTTP/1.1\r\n" + HOST + b"A: b\r\n" * 6000)
        assert status_of(client.recv(4096)) == 431
    target.server.rest(target.descriptors)
