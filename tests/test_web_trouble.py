"""Trouble of the server's own: what visitors are told, what the operator is, and who else waits."""

import os
import socket
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, closing, nullcontext
from pathlib import Path

import pytest
from client import wait_for
from publisher import Publisher
from served import HOST, read_all, serving, status_of

from mirror.errors import LocalError, MirrorError
from server.catalogue import NewFile, NewFileset, add_fileset, add_product, catalogue
from server.database import Unavailable
from server.http.front import Front
from server.samples.sample import SampleFile, write_fileset, write_product_list, write_root_list
from server.site import CATALOGUE, SqliteFile
from server.views.answers import TEXT, Answer, Stream, Visitor
from server.web import Limits, Server

SECRET = "/srv/secret/.datastore.db: unable to open"


class Troubled:
    """A store that raises for every path, or breaks off in the middle of every list."""

    def __init__(self, fault: Exception, *, halfway: bool = False) -> None:
        self._fault = fault
        self._halfway = halfway

    def find(self, path: str, query: str, visitor: Visitor) -> AbstractContextManager[Answer]:
        if not self._halfway:
            raise self._fault
        return nullcontext(Stream(TEXT, self._chunks()))

    def _chunks(self) -> Iterator[bytes]:
        yield b"# filesetID|time registered|type|\n"
        raise self._fault


def spoken(store: Troubled, request: bytes) -> bytes:
    """What a server of this store sends before the connection ends; raises if it was reset."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        theirs, _ = listener.accept()
    server = Server(Front(store), Limits())
    with closing(ours):
        server.take(theirs, "192.0.2.7")
        ours.sendall(request)
        try:
            return read_all(ours)
        finally:
            server.close()


@pytest.mark.parametrize(
    ("fault", "path", "status"),
    [
        (Unavailable(SECRET), "/index.txt", 503),
        (Unavailable(SECRET), "/healthz", 503),
        (LocalError(SECRET), "/healthz", 503),
        (LocalError(SECRET), "/index.txt", 500),
        (MirrorError(SECRET), "/index.txt", 500),
        (RuntimeError(SECRET), "/index.txt", 500),
    ],
    ids=["unavailable", "health", "ill", "local", "any", "unforeseen"],
)
def test_the_reason_is_for_the_log_alone(
    fault: Exception, path: str, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    request = f"GET {path} HTTP/1.1\r\nConnection: close\r\n".encode() + HOST + b"\r\n"
    told = spoken(Troubled(fault), request)
    assert status_of(told) == status
    assert b"secret" not in told
    assert (b"\r\nRetry-After: " in told) == (status == 503)
    assert SECRET in capsys.readouterr().err


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_a_list_that_breaks_off_does_not_look_whole(
    version: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """In HTTP/1.0 the end of the connection is the end of a list: only a reset is none."""
    store = Troubled(Unavailable("withdrawn meanwhile"), halfway=True)
    request = f"GET /gpc1/index.txt HTTP/{version}\r\n".encode() + HOST + b"\r\n"
    with pytest.raises(ConnectionResetError):
        spoken(store, request)
    assert "withdrawn meanwhile" in capsys.readouterr().err


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A store of plain files with one large file."""
    root = tmp_path / "store"
    root.mkdir()
    fileset = write_fileset(root, "gpc1", "f", [SampleFile("a.fits", bytes(1 << 24), "fits")])
    write_product_list(root, "gpc1", [fileset], [])
    write_root_list(root, [])
    return root


def test_a_file_that_became_shorter_while_it_was_sent_is_told(tree: Path) -> None:
    with serving(tree) as server:
        with server.connect(receive_buffer=4096) as client:
            client.sendall(b"GET /gpc1/f/a.fits HTTP/1.1\r\n" + HOST + b"\r\n")
            client.recv(1)
            os.truncate(tree / "gpc1/f/a.fits", 1000)
            while client.recv(1 << 20):
                pass
        wait_for(lambda: "bytes were there to send" in server.told())


def test_a_log_that_nobody_reads_stops_nobody(tree: Path, tmp_path: Path) -> None:
    pipe = tmp_path / "log"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        with serving(tree, "--access-log", str(pipe)) as server:
            for _ in range(40):
                assert server.get("/healthz", User_Agent="x" * 4000).status == 200
            assert server.told().count("access log") == 1
    finally:
        os.close(reader)


def test_downloads_hold_one_descriptor_each(tmp_path: Path) -> None:
    site = Publisher(tmp_path)
    site.product("gpc1", "ipp-dist")
    (tmp_path / "a.fits").write_bytes(bytes(1 << 24))
    site.register("gpc1", "o1", tmp_path, "a.fits|||fits|\n", kind="IPP-DIST")
    request = b"GET /gpc1/o1/a.fits HTTP/1.1\r\n" + HOST + b"\r\n"
    with serving(site.root, as_option="--dsroot") as server:
        server.get("/gpc1/o1/a.fits", "HEAD")
        before = server.descriptors()
        clients = [server.connect(receive_buffer=4096) for _ in range(20)]
        for client in clients:
            client.sendall(request)
        for client in clients:
            assert client.recv(12) == b"HTTP/1.1 200"
        # The connection, and the file that is sent over it.
        assert server.descriptors() <= before + 2 * len(clients)
        for client in clients:
            client.close()


def test_readers_who_stop_in_a_long_list_let_others_through(tmp_path: Path) -> None:
    """Every piece of a long list gives its connection back: eight readers do not keep two."""
    with catalogue(SqliteFile(tmp_path / CATALOGUE), create=True) as database:
        add_product(database, "gpc1", "ipp-dist", "one fileset of many files")
        many = [NewFile(f"f{n}", 1, "0" * 32, "fits") for n in range(20_000)]
        add_fileset(database, "gpc1", NewFileset("o1", "IPP-DIST"), many)
    with serving(tmp_path, as_option="--dsroot") as server, ExitStack() as held:
        for _ in range(8):
            client = held.enter_context(server.connect(receive_buffer=4096))
            client.sendall(b"GET /gpc1/o1/index.txt HTTP/1.1\r\n" + HOST + b"\r\n")
            assert client.recv(12) == b"HTTP/1.1 200"
        for path in ("/healthz", "/gpc1/index.txt", "/gpc1/"):
            assert server.get(path).status == 200
