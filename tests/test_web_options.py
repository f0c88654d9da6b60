"""What the options of `serve` change: where URLs stand, who is taken for whom, what is told."""

import os
import re
import socket
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, nullcontext
from ipaddress import IPv4Network, ip_network
from pathlib import Path

import pytest
from served import FILE, one_file, read_all, serving, status_of

from mirror.errors import LocalError
from server.http.front import Front, behind
from server.views.answers import TEXT, Absent, Answer, Denied, File, Moved, Stream, Visitor
from server.web import Limits, Server

DATA = bytes(range(256)) * 4
LASTING = "max-age=31536000, immutable"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A product with a fileset of one file."""
    return one_file(tmp_path_factory.mktemp("store"), DATA)


class Known:
    """A store that has one answer for every path, and remembers who asked for which."""

    def __init__(self, answer: Answer | Exception) -> None:
        self._answer = answer
        self.asked: list[tuple[str, Visitor]] = []

    def find(self, path: str, query: str, visitor: Visitor) -> AbstractContextManager[Answer]:
        self.asked.append((path, visitor))
        if isinstance(self._answer, Exception):
            raise self._answer
        return nullcontext(self._answer)


def answered(
    front: Front, target: str, *fields: str, method: str = "GET", version: str = "1.1"
) -> str:
    """What a server with this front says to one request, which comes from 192.0.2.7."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        theirs, _ = listener.accept()
    server = Server(front, Limits())
    with closing(ours):
        server.take(theirs, "192.0.2.7")
        lines = (f"{method} {target} HTTP/{version}", "Host: x", *fields)
        if version == "1.1":
            lines = (*lines, "Connection: close")
        lines = (*lines, "\r\n")
        ours.sendall("\r\n".join(lines).encode())
        told = read_all(ours).decode("latin-1")
    server.close()
    return told


def field(answer: str, name: str) -> str | None:
    found = re.search(rf"\r\n{name}: ([^\r]*)\r\n", answer)
    return found[1] if found else None


# --- what caches may keep --------------------------------------------------------------------


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[int]:
    path = tmp_path / "file"
    path.write_bytes(DATA)
    descriptor = os.open(path, os.O_RDONLY)
    yield descriptor
    os.close(descriptor)


def a_file(descriptor: int, *, private: bool = False) -> File:
    return File("/p/f/a%20b.fits", descriptor, len(DATA), 1e9, '"tag"', "image/fits", private)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    ("answer", "status", "challenge"),
    [
        (Stream(TEXT, iter([b"# list\n"]), 7, '"e"'), 200, None),
        (Moved("/gpc1/"), 301, None),
        (Absent("nothing"), 404, None),
        (Denied("say who you are", True), 401, 'Basic realm="Data Store", charset="UTF-8"'),
        (Denied("not for you", False), 403, None),
        (LocalError("the disk is gone"), 500, None),
    ],
    ids=lambda value: type(value).__name__,
)
def test_nothing_but_files_is_kept_by_caches(
    answer: Answer | Exception, status: int, challenge: str | None, method: str
) -> None:
    told = answered(Front(Known(answer)), "/", method=method)
    assert status_of(told.encode()) == status
    assert field(told, "Cache-Control") == "no-store"
    assert field(told, "WWW-Authenticate") == challenge
    assert told.endswith("\r\n\r\n") == (method == "HEAD")


@pytest.mark.parametrize(("private", "who"), [(False, "public"), (True, "private")])
@pytest.mark.parametrize(
    ("fields", "status", "lasts"),
    [
        ((), 200, True),
        (("Range: bytes=0-9",), 206, True),
        (('If-None-Match: "tag"',), 304, True),
        (('If-Match: "other"',), 412, False),
        (("Range: bytes=9999-",), 416, False),
    ],
    ids=["whole", "part", "same", "precondition", "beyond"],
)
def test_file_is_kept_for_ever_unless_it_is_an_error(
    opened: int, private: bool, who: str, fields: tuple[str, ...], status: int, lasts: bool
) -> None:
    told = answered(Front(Known(a_file(opened, private=private))), "/p/f/a", *fields)
    assert status_of(told.encode("latin-1")) == status
    assert field(told, "Cache-Control") == (f"{who}, {LASTING}" if lasts else "no-store")


@pytest.mark.parametrize("given", [None, "Basic eDp5"])
def test_store_is_told_who_asks(given: str | None) -> None:
    known = Known(Absent("nothing"))
    answered(Front(known), "/p/", *([f"Authorization: {given}"] if given else []))
    assert known.asked == [("/p/", Visitor("192.0.2.7", given))]


# --- answers whose length is not known -------------------------------------------------------


def test_unknown_length_goes_in_chunks_and_the_connection_stays() -> None:
    chunks = iter([b"one\n", b"two\n"])
    told = answered(Front(Known(Stream(TEXT, chunks))), "/")
    assert field(told, "Transfer-Encoding") == "chunked"
    assert field(told, "Content-Length") is None
    assert told.endswith("\r\n\r\n4\r\none\n\r\n4\r\ntwo\n\r\n0\r\n\r\n")


@pytest.mark.parametrize(
    "chunks",
    [[], [b""], [b"x"], [b"", b"x", b"", b"x", b""]],
    ids=["no chunk", "an empty chunk", "a chunk", "empty chunks between"],
)
@pytest.mark.parametrize("length", [None, 0])
def test_list_of_few_bytes_is_framed_as_well(chunks: list[bytes], length: int | None) -> None:
    if length is not None:
        length = sum(map(len, chunks))
    told = answered(Front(Known(Stream(TEXT, iter(chunks), length))), "/")
    # An empty chunk would be the last one.
    framed = "".join(f"1\r\n{chunk.decode()}\r\n" for chunk in chunks if chunk) + "0\r\n\r\n"
    body = framed if length is None else b"".join(chunks).decode()
    assert told.partition("\r\n\r\n")[2] == body


def test_unknown_length_for_http_1_0_ends_with_the_connection() -> None:
    known = Known(Stream(TEXT, iter([b"one\n", b"two\n"])))
    told = answered(Front(known), "/", "Connection: keep-alive", version="1.0")
    assert "chunked" not in told
    assert field(told, "Connection") == "close"
    assert told.endswith("\r\n\r\none\ntwo\n")


# --- X-Forwarded-For -------------------------------------------------------------------------

PROXIES = (ip_network("10.0.0.0/8"), ip_network("2001:db8::/32"))


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("10.1.1.1", "192.0.2.1", "192.0.2.1"),
        ("10.1.1.1", "192.0.2.1, 198.51.100.2", "198.51.100.2"),
        ("10.1.1.1", "192.0.2.1, 198.51.100.2, 10.2.2.2", "198.51.100.2"),
        ("10.1.1.1", "junk, 198.51.100.2,10.2.2.2", "198.51.100.2"),
        ("10.1.1.1", "192.0.2.1, junk", "10.1.1.1"),
        ("10.1.1.1", "192.0.2.1, junk, 10.2.2.2", "10.1.1.1"),
        ("10.1.1.1", "192.0.2.1:4711", "10.1.1.1"),
        ("10.1.1.1", "10.3.3.3, 10.2.2.2", "10.3.3.3"),
        ("10.1.1.1", ",", "10.1.1.1"),
        ("2001:db8::1", "2001:0DB9::0001", "2001:db9::1"),
        ("10.1.1.1", "::ffff:192.0.2.1", "192.0.2.1"),
        ("::ffff:10.1.1.1", "192.0.2.1", "192.0.2.1"),
        ("10.1.1.1", 'fe80::1%" forged', "10.1.1.1"),
        ("192.0.2.9", "198.51.100.2", "192.0.2.9"),
        ("", "198.51.100.2", ""),
    ],
)
def test_only_what_trusted_proxies_say_is_believed(peer: str, forwarded: str, address: str) -> None:
    assert behind(peer, forwarded, PROXIES) == address


@pytest.mark.parametrize(
    ("proxies", "address"), [((), "192.0.2.7"), ((IPv4Network("192.0.2.7"),), "203.0.113.5")]
)
def test_store_is_told_the_address_behind_a_trusted_proxy(
    proxies: tuple[IPv4Network, ...], address: str
) -> None:
    known = Known(Absent("nothing"))
    # A list in two fields is one list.
    told = ("X-Forwarded-For: 198.51.100.2", "X-Forwarded-For: 203.0.113.5")
    answered(Front(known, proxies=proxies), "/", *told)
    assert known.asked == [("/", Visitor(address))]


# --- the base path ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "status", "found"),
    [
        ("/ds/o%20s/", 200, "/"),
        ("/%64s/o%20s/p/index.txt?x", 200, "/p/index.txt"),
        ("/ds/o%20s/p%2F..", 200, "/p%2F.."),
        ("/ds/o%20s", 301, None),
        ("/ds/o%20s?x", 301, None),
        ("/ds/o%2520s/", 404, None),
        ("/ds/", 404, None),
        ("/", 404, None),
        ("/p/index.txt", 404, None),
        ("//ds/o%20s/", 404, None),
        ("/ds//o%20s/", 404, None),
        ("/ds/o%20s2/", 404, None),
        ("/ds%2Fo%20s/", 404, None),
        ("/x/../ds/o%20s/", 404, None),
    ],
)
def test_only_what_is_below_the_base_path_reaches_the_store(
    target: str, status: int, found: str | None
) -> None:
    known = Known(Stream(TEXT, iter([b"x"]), 1))
    told = answered(Front(known, ("ds", "o s")), target)
    assert status_of(told.encode()) == status
    assert [path for path, _ in known.asked] == ([found] if found else [])
    assert field(told, "Location") == ("/ds/o%20s/" if status == 301 else None)


@pytest.mark.parametrize("given", ["/ds", "/ds/"])
def test_base_path_of_a_real_store(store: Path, given: str) -> None:
    with serving(store, "--base-path", given) as server:
        assert server.line.endswith(f":{server.port}/ds/\n")
        assert server.get("/ds/gpc1/index.txt").body == (store / "gpc1/index.txt").read_bytes()
        assert server.get(f"/ds{FILE}").body == DATA
        assert server.get("/ds/gpc1").fields["Location"] == "/ds/gpc1/"
        assert server.get(FILE).status == 404
        assert server.get("/healthz").status == 200
        assert server.get("/ds/healthz").status == 404


def test_base_path_of_nothing_is_the_root(store: Path) -> None:
    with serving(store, "--base-path", "/", as_option="--static") as server:
        assert server.line == f"serving {store} at http://127.0.0.1:{server.port}/\n"
        assert server.get(FILE).body == DATA


# --- health ----------------------------------------------------------------------------------


def test_store_that_cannot_answer_is_told_as_ill(capsys: pytest.CaptureFixture[str]) -> None:
    known = Known(LocalError("the database is away\nmore of it"))
    told = answered(Front(known, ("ds",)), "/healthz")
    assert status_of(told.encode()) == 503
    assert field(told, "Cache-Control") == "no-store"
    assert field(told, "Retry-After") is not None
    assert "database" not in told
    assert "the database is away" in capsys.readouterr().err
    assert [path for path, _ in known.asked] == ["/index.txt"]


# --- files that a web server in front sends --------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    "fields",
    [(), ("Range: bytes=0-9",), ('If-Range: "x"', "Range: bytes=0-9")],
    ids=["whole", "part", "if-range"],
)
def test_file_is_left_to_the_server_in_front(
    opened: int, method: str, fields: tuple[str, ...]
) -> None:
    front = Front(Known(a_file(opened, private=True)), accel="/_files")
    told = answered(front, "/p/f/a%20b.fits", *fields, method=method)
    assert status_of(told.encode()) == 200
    assert field(told, "X-Accel-Redirect") == "/_files/p/f/a%20b.fits"
    assert field(told, "Content-Type") == "image/fits"
    assert field(told, "ETag") == '"tag"'
    assert field(told, "Last-Modified") == "Sun, 09 Sep 2001 01:46:40 GMT"
    # Under another name, or nginx would say it of its errors too.
    assert field(told, "X-Cache-Control") == f"private, {LASTING}"
    assert field(told, "Cache-Control") is None
    assert field(told, "Content-Length") == "0"
    assert told.endswith("\r\n\r\n")


@pytest.mark.parametrize(
    ("condition", "status"),
    [('If-None-Match: "tag"', 304), ('If-Match: "other"', 412), ("Range: bytes=99999-", 416)],
)
def test_conditions_are_answered_here_all_the_same(
    opened: int, condition: str, status: int
) -> None:
    told = answered(Front(Known(a_file(opened)), accel=""), "/p/f/a", condition)
    assert status_of(told.encode()) == status
    assert field(told, "X-Accel-Redirect") is None
