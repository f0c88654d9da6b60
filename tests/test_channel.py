"""A connection's bytes: TLS and what is no TLS, readers that are slow and that are too slow."""

import os
import socket
import ssl
import struct
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Thread

import pytest
from client import PATIENCE, wait_for
from served import (
    FILE,
    GET_FILE,
    HOST,
    Pair,
    Process,
    make_pair,
    one_file,
    read_all,
    serving,
    status_of,
)

from server.http.channel import Channel, Pace, SecureChannel, Span
from server.samples.sample import SampleFile, write_fileset
from server.web import SPARE

DATA = os.urandom(300_000)
ROWS = 20_000


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A product with a file, and one whose list is long."""
    root = one_file(tmp_path_factory.mktemp("store"), DATA)
    (root / "long").mkdir()
    rows = "".join(f"o{number}.x|2009-04-15T03:02:11Z|notset|\n" for number in range(ROWS))
    (root / "long/index.txt").write_text(f"# filesetID|time registered|type|\n{rows}")
    return root


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return make_pair(tmp_path_factory.mktemp("certificate"), "localhost")


@pytest.fixture(scope="module")
def secure(store: Path, pair: Pair) -> Iterator[Process]:
    """A server that speaks TLS, must end in order, and have had nothing to complain of."""
    with serving(store, *pair.options, "--max-connections", "50", tls=pair.client()) as running:
        yield running
    assert running.process.returncode == 0
    assert running.errors == ""


# --- TLS -------------------------------------------------------------------------------------


def test_first_line_names_an_https_address(secure: Process, store: Path) -> None:
    assert secure.line == f"serving {store} at https://127.0.0.1:{secure.port}/\n"


def test_lists_pages_and_files_come_through_tls(secure: Process, store: Path) -> None:
    assert secure.get("/gpc1/index.txt").body == (store / "gpc1/index.txt").read_bytes()
    assert secure.get("/long/index.txt").body == (store / "long/index.txt").read_bytes()
    assert secure.get("/gpc1/").body.endswith(b"</html>\n")
    assert secure.get(FILE).body == DATA
    part = secure.get(FILE, Range="bytes=1000-299998")
    assert (part.status, part.body) == (206, DATA[1000:299_999])


def test_many_requests_go_over_one_connection(secure: Process) -> None:
    answer = secure.ask((GET_FILE + b"\r\n") * 3 + GET_FILE
                        + b"Connection: close\r\n\r\n")  # fmt: skip
    assert answer.count(b"HTTP/1.1 200 ") == 4
    assert answer.count(DATA) == 4


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_both_versions_of_tls_are_spoken(
    secure: Process, pair: Pair, version: ssl.TLSVersion
) -> None:
    context = pair.client()
    context.minimum_version = context.maximum_version = version
    with (
        secure.connect() as plain,
        context.wrap_socket(
            plain, server_hostname="localhost", suppress_ragged_eofs=False
        ) as client,
    ):
        client.sendall(b"GET /gpc1/ HTTP/1.0\r\n\r\n")
        # Without close_notify this would raise: nobody can cut an answer without our seeing it.
        assert read_all(client).endswith(b"</html>\n")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_older_versions_are_refused(secure: Process, pair: Pair) -> None:
    context = pair.client()
    # What OpenSSL would not offer by itself.
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    with secure.connect() as client, pytest.raises(ssl.SSLError):
        context.wrap_socket(client, server_hostname="localhost")


REFUSED: list[tuple[str, bytes, int]] = [
    ("405", b"PUT / HTTP/1.1\r\n" + HOST + b"Content-Length: 3\r\n\r\nabc", 405),
    ("414", b"G" * 100_000, 414),
    ("431", b"GET / HTTP/1.1\r\n" + HOST + b"A: " + b"b" * 60_000 + b"\r\n\r\n", 431),
    ("400", b"GET / HTTP/1.1\r\n\r\n", 400),
]


@pytest.mark.parametrize(("data", "status"), [r[1:] for r in REFUSED], ids=[r[0] for r in REFUSED])
def test_refusals_are_told_in_tls(secure: Process, data: bytes, status: int) -> None:
    with secure.speak() as client:
        client.sendall(data)
        answer = read_all(client)
    assert status_of(answer) == status
    assert (b"\r\nAllow: GET, HEAD\r\n" in answer) == (status == 405)


GARBAGE: list[tuple[str, bytes]] = [
    ("plain HTTP", GET_FILE + b"\r\n"),
    ("zeros", bytes(1000)),
    ("noise", os.urandom(5000)),
    ("half a hello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
    ("record too long", b"\x16\x03\x01\xff\xff" + bytes(70_000)),
    ("an alert", b"\x15\x03\x03\x00\x02\x02\x28"),
    ("nothing", b""),
]


@pytest.mark.parametrize("data", [g[1] for g in GARBAGE], ids=[g[0] for g in GARBAGE])
def test_what_is_no_tls_ends_the_connection_alone(secure: Process, data: bytes) -> None:
    with secure.connect() as client:
        try:
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)
            answer = read_all(client)
        except TimeoutError:
            raise
        except OSError:
            # Reset, or not even connected any more: that depends on who was faster.
            answer = b""
    # At most an alert, and nothing of the store.
    assert len(answer) < 100
    assert b"HTTP/" not in answer
    assert secure.get("/gpc1/index.txt").status == 200


def test_garbage_within_tls_ends_the_connection_alone(secure: Process) -> None:
    plain = secure.connect()
    assert secure.tls
    client = secure.tls.wrap_socket(plain, server_hostname="localhost")
    with socket.socket(fileno=os.dup(client.fileno())) as beneath, client:
        client.sendall(GET_FILE[:10])
        beneath.sendall(b"\x17\x03\x03\x00\x20" + bytes(32))
        beneath.settimeout(PATIENCE)
        read_all(beneath)
    assert secure.get("/gpc1/index.txt").status == 200


def test_handshake_that_stalls_is_dropped(store: Path, pair: Pair) -> None:
    # Enough for a handshake, however busy the machine is.
    options = (*pair.options, "--header-timeout", "3", "--idle-timeout", "1000")
    with serving(store, *options, tls=pair.client()) as server:
        with server.connect() as silent, server.connect() as slow, server.speak() as late:
            slow.sendall(b"\x16\x03\x01\x02\x00")
            late.sendall(b"GET /")
            assert read_all(silent) == b""
            assert read_all(slow) == b""
            assert status_of(read_all(late)) == 408
        wait_for(lambda: server.threads() == 1)
    assert server.errors == ""


def test_beyond_the_limit_503_in_tls(store: Path, pair: Pair) -> None:
    with serving(store, *pair.options, "--max-connections", "1", tls=pair.client()) as server:
        with server.speak() as held:
            held.sendall(b"HEAD / HTTP/1.1\r\n" + HOST + b"\r\n")
            assert status_of(held.recv(4096)) == 200
            with server.speak() as refused:
                assert status_of(read_all(refused)) == 503
            # Far beyond it there is not even a handshake: nothing that is no TLS is said.
            flood = [server.connect() for _ in range(100)]
            assert [read_all(client) for client in flood[SPARE:]] == [b""] * (100 - SPARE)
            for client in flood:
                client.close()
        wait_for(lambda: server.get(FILE).status == 200)
    assert server.errors == ""


def test_sigterm_finishes_what_is_in_work_in_tls(tmp_path: Path, pair: Pair) -> None:
    size = big_file(tmp_path)
    with serving(tmp_path, *pair.options, tls=pair.client()) as server:
        with server.speak() as client, server.speak() as idle:
            client.sendall(b"GET /p/f/big.fits HTTP/1.1\r\n" + HOST + b"\r\n")
            count = len(client.recv(1000).partition(b"\r\n\r\n")[2])
            server.process.terminate()
            assert read_all(idle) == b""
            while chunk := client.recv(1 << 20):
                count += len(chunk)
        assert count == size
        assert server.process.wait(PATIENCE) == 0


def big_file(root: Path) -> int:
    write_fileset(root, "p", "f", [SampleFile("big.fits", b"", "fits")])
    size = 32 * 1024 * 1024
    os.truncate(root / "p/f/big.fits", size)
    return size


# --- slow readers ----------------------------------------------------------------------------


@pytest.fixture(params=["plain", "TLS"])
def kind(request: pytest.FixtureRequest, pair: Pair) -> Pair | None:
    return pair if request.param == "TLS" else None


@pytest.mark.parametrize("target", ["/p/f/big.fits", "/long/index.txt"])
def test_reader_that_takes_too_little_is_ended_though_it_never_stops(
    store: Path, tmp_path: Path, kind: Pair | None, target: str
) -> None:
    root = tmp_path / "store"
    root.mkdir()
    big_file(root)
    (root / "long").mkdir()
    (root / "long/index.txt").write_bytes((store / "long/index.txt").read_bytes() * 10)
    options = (*kind.options,) if kind else ()
    limits = ("--idle-timeout", "0.15", "--min-speed", "50e6")
    with (
        serving(root, *options, *limits, tls=kind.client() if kind else None) as server,
        server.speak(receive_buffer=8192) as client,
    ):
        client.sendall(f"GET {target} HTTP/1.1\r\n".encode() + HOST + b"\r\n")
        # Cut short by a reset, and not by an end that could be taken for the answer's.
        with pytest.raises((ConnectionResetError, ssl.SSLEOFError)):
            take_slowly(client)
        wait_for(lambda: server.threads() == 1)
    assert server.errors == ""


def take_slowly(client: socket.socket) -> None:
    while client.recv(4096):
        time.sleep(0.01)


def test_slow_but_honest_reader_gets_everything(store: Path, kind: Pair | None) -> None:
    options = (*kind.options,) if kind else ()
    limits = ("--idle-timeout", "1.5", "--min-speed", "1000")
    with (
        serving(store, *options, *limits, tls=kind.client() if kind else None) as server,
        server.speak(receive_buffer=8192) as client,
    ):
        client.sendall(GET_FILE + b"Connection: close\r\n\r\n")
        received = bytearray()
        while chunk := client.recv(3000):
            received += chunk
            time.sleep(0.03)
    assert received.endswith(DATA)


def test_reader_that_takes_nothing_is_ended_even_without_a_least_speed(
    tmp_path: Path, kind: Pair | None
) -> None:
    big_file(tmp_path)
    options = (*kind.options,) if kind else ()
    limits = ("--idle-timeout", "0.1", "--min-speed", "0")
    with (
        serving(tmp_path, *options, *limits, tls=kind.client() if kind else None) as server,
        server.speak() as client,
    ):
        client.sendall(b"GET /p/f/big.fits HTTP/1.1\r\n" + HOST + b"\r\n")
        client.recv(1)
        wait_for(lambda: server.threads() == 1)


# --- the channel by itself -------------------------------------------------------------------


@contextmanager
def connected(*, send: int = 0, receive: int = 0) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Both ends of a connection, with send and receive buffers of these sizes."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        peer = socket.socket()
        if receive:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
        peer.settimeout(PATIENCE)
        peer.connect(listener.getsockname())
        ours, _ = listener.accept()
    if send:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send)
    with ours, peer:
        yield ours, peer


def test_bytes_that_flow_count_though_the_queue_has_no_room() -> None:
    # A queue far beyond what is allowed by now: for several windows nothing can be written, and
    # all the while the peer takes what there is.
    with connected(send=1 << 18, receive=8192) as (ours, peer):
        channel = Channel(ours, Pace(1.0, 0.0))
        channel.open(time.monotonic() + PATIENCE)
        channel.send(bytes(120_000))
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        received = bytearray()

        def take() -> None:
            while chunk := peer.recv(1500):
                received.extend(chunk)
                time.sleep(0.03)

        reader = Thread(target=take)
        reader.start()
        channel.send(bytes(70_000))
        ours.shutdown(socket.SHUT_WR)
        reader.join(PATIENCE)
        assert len(received) == 190_000


def test_time_that_we_take_is_not_the_peers_fault() -> None:
    with connected(send=8192, receive=8192) as (ours, peer):
        # All that comes before the last piece would be far too little, if our time counted.
        channel = Channel(ours, Pace(0.5, 100_000.0))
        channel.open(time.monotonic() + PATIENCE)

        def take() -> None:
            while peer.recv(65536):
                pass

        reader = Thread(target=take)
        reader.start()
        for _ in range(4):
            channel.send(bytes(10_000))
            time.sleep(0.25)
        channel.send(bytes(400_000))
        ours.shutdown(socket.SHUT_WR)
        reader.join(PATIENCE)
        assert channel.handed == 440_000


def test_little_is_written_ahead() -> None:
    with connected(receive=8192) as (ours, _):
        channel = Channel(ours, Pace(0.1, 0.0))
        channel.open(time.monotonic() + PATIENCE)
        with pytest.raises(TimeoutError):
            channel.send(bytes(10_000_000))
        assert channel.handed == 0
        held = struct.unpack("@i", fcntl_outq(ours))[0]
        assert held < 500_000


def fcntl_outq(client: socket.socket) -> bytes:
    import fcntl
    import termios

    return fcntl.ioctl(client.fileno(), termios.TIOCOUTQ, bytes(4))


def test_aborted_connection_is_reset() -> None:
    with connected() as (ours, peer):
        channel = Channel(ours, Pace(1.0, 0.0))
        channel.abort()
        ours.close()
        with pytest.raises(ConnectionResetError):
            peer.recv(1)


def test_file_that_became_shorter_is_sent_as_far_as_it_goes(tmp_path: Path, pair: Pair) -> None:
    path = tmp_path / "file"
    path.write_bytes(DATA)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.cert, pair.key)
    with path.open("rb") as file, connected() as (ours, peer):
        span = Span(file.fileno(), 100_000, 1_000_000)
        until = time.monotonic() + PATIENCE
        channel = SecureChannel(ours, Pace(PATIENCE, 0.0), context)
        sent: list[int] = []

        def serve() -> None:
            channel.open(until)
            sent.append(channel.send_file(span))
            channel.finish(0.1)

        server = Thread(target=serve)
        server.start()
        with closing(pair.client().wrap_socket(peer, server_hostname="localhost")) as client:
            assert read_all(client) == DATA[100_000:]
        server.join(PATIENCE)
        assert sent == [200_000]
