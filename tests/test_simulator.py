"""The harness itself: what the simulated store answers, how it lies, and what the watcher sees."""

import gzip
import os
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from email.utils import parsedate_to_datetime
from functools import partial
from http.client import HTTPConnection, HTTPResponse, IncompleteRead
from pathlib import Path
from urllib.parse import urlsplit

import faults
import pytest
from client import PATIENCE
from simulator import Action, Fileset, Product, Relay, Request, SimFile, Simulator
from watcher import TreeWatcher, snapshot
from wire import Answer, Connection

DATA = bytes(range(256)) * 64
CHIP = "o4741g0239o.chip.11955.2.1"
A_FITS = f"/gpc1/{CHIP}/a.fits"


@pytest.fixture
def store() -> Iterator[Simulator]:
    with Simulator() as store:
        yield store


@pytest.fixture
def gpc1(store: Simulator) -> Product:
    return store.product("gpc1", columns=("target_id", "stage"), description="chips")


@pytest.fixture
def chip(gpc1: Product) -> Fileset:
    time = "2009-04-15T03:02:14Z"
    return gpc1.add(CHIP, {"a.fits": DATA}, registered=time, columns=("1", "chip"))


def connect(store: Simulator) -> HTTPConnection:
    return HTTPConnection("127.0.0.1", store.server.port, timeout=PATIENCE)


def get(
    store: Simulator, path: str, method: str = "GET", **headers: str
) -> tuple[HTTPResponse, bytes]:
    """One request on a connection of its own; `_` in a header's keyword stands for `-`."""
    with closing(connect(store)) as http:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        http.request(method, store.base + path, headers=sent)
        response = http.getresponse()
        return response, response.read()


def lines(store: Simulator, path: str) -> list[str]:
    response, body = get(store, path)
    assert response.status == 200, body
    return body.decode().splitlines()


def until(condition: Callable[[], object]) -> None:
    """Wait for what another thread does. A thread that never does it fails the test."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def raw_exchange(store: Simulator, *paths: str, last: str = "close") -> bytes:
    """Send requests in one piece and read all that comes until the end of the connection."""
    sent = "".join(
        f"GET {store.base}{path} HTTP/1.1\r\nHost: x\r\n"
        + (f"Connection: {last}\r\n\r\n" if path is paths[-1] else "\r\n")
        for path in paths
    )
    with socket.create_connection(("127.0.0.1", store.server.port), timeout=PATIENCE) as sock:
        sock.sendall(sent.encode())
        return b"".join(iter(lambda: sock.recv(65536), b""))


# The lists of sections 1 and 2.


def test_root_list_shows_products_that_are_not_hidden(store: Simulator, chip: Fileset) -> None:
    store.product("secret").hidden = True
    store.product("empty", type="table")
    assert lines(store, "/index.txt") == [
        "# productID|Most recent               |Time registered     |type    |Description|",
        "gpc1       |o4741g0239o.chip.11955.2.1|2009-04-15T03:02:14Z|ipp-dist|chips      |",
        "empty      |none                      |2009-04-15T01:22:14Z|table   |a product  |",
    ]
    assert lines(store, "/secret/index.txt") == ["# filesetID|time registered|type|"]


def test_product_list_pads_columns_and_prints_null(gpc1: Product, store: Simulator) -> None:
    gpc1.add("a.chip.1.1.1", columns=("1", None), registered="2009-04-15T03:02:14Z")
    gpc1.add("b.camera.22.1.1", columns=("12", "camera"), registered="2009-04-15T03:02:15Z")
    assert lines(store, "/gpc1/index.txt") == [
        "# filesetID    |time registered     |type    |target_id|stage |",
        "a.chip.1.1.1   |2009-04-15T03:02:14Z|IPP-DIST|1        |null  |",
        "b.camera.22.1.1|2009-04-15T03:02:15Z|IPP-DIST|12       |camera|",
    ]


def ids(store: Simulator, path: str) -> list[str]:
    return [line.split("|")[0].strip() for line in lines(store, path)[1:]]


def test_query_lists_what_was_registered_after(gpc1: Product, store: Simulator) -> None:
    for name in "abc":
        gpc1.add(name)
    assert ids(store, "/gpc1/index.txt?a") == ["b", "c"]
    assert ids(store, "/gpc1/index.txt?c") == []
    response, body = get(store, "/gpc1/index.txt?x")
    assert (response.status, response.headers["Content-Type"]) == (404, "text/plain; charset=utf-8")
    assert body == b"product gpc1 holds no fileset x\n"
    store.whole_if_unknown = True
    assert ids(store, "/gpc1/index.txt?x") == ["a", "b", "c"]
    store.ignore_query = True
    assert ids(store, "/gpc1/index.txt?c") == ["a", "b", "c"]


def test_fileset_list_changes_its_header_with_the_type(gpc1: Product, store: Simulator) -> None:
    gpc1.add(
        CHIP,
        [
            SimFile("dbinfo.chip.11955.mdc", b"db", "text", ("dbinfo",)),
            SimFile("x.XY01.tgz", b"tar", "tgz", ("XY01",)),
            SimFile("a.fits", b"SIMPLE", "fits", ("XY01",), md5=""),
            SimFile("b.fits", b"SIMPLE", "fits", size=-1),
        ],
    )
    assert lines(store, f"/gpc1/{CHIP}/index.txt") == [
        "# fileID             |bytes|md5sum                          |type|component|",
        "dbinfo.chip.11955.mdc|2    |d77d5e503ad1439f585ac494268b351b|text|dbinfo   |",
        "x.XY01.tgz           |3    |db5570bf61464b46e2bde31ed61a7dc6|tgz |XY01     |",
        "# fileID|bytes|md5sum                          |type|",
        "a.fits  |6    |                                |fits|XY01|",
        "b.fits  |-1   |e5564829e2f85f6a6873a9d5c4f26d09|fits|",
    ]


@pytest.mark.parametrize(
    ("name", "type", "columns"),
    [
        ("dbinfo.chip.11955.mdc", "text", ("dbinfo",)),
        ("dirinfo.chip.11955.mdc", "text", ("dirinfo",)),
        ("o4741.ch.11955.XY01.tgz", "tgz", ("XY01",)),
        ("o4741.wrp.12.skycell.1566.004.tgz", "tgz", ("skycell.1566.004",)),
        ("a.fits", "fits", ()),
        ("notes", "notset", ()),
    ],
)
def test_type_and_component_come_from_the_name(
    gpc1: Product, name: str, type: str, columns: tuple[str, ...]
) -> None:
    file = gpc1.add(CHIP, {name: b""}).files[name]
    assert (file.type, file.columns) == (type, columns)


def test_directories_are_pages_with_links(store: Simulator, chip: Fileset) -> None:
    for path, link in [("/", "gpc1/"), ("/gpc1/", f"{CHIP}/"), (f"/gpc1/{CHIP}/", "a.fits")]:
        response, body = get(store, path)
        assert response.headers["Content-Type"].startswith("text/html")
        assert f'<a href="{link}">'.encode() in body


@pytest.mark.parametrize(
    "path",
    ["/nowhere/index.txt", "/gpc1/none/index.txt", f"/gpc1/{CHIP}/b.fits", "/gpc1", "/a/b/c/d"],
)
def test_unknown_is_404_with_a_reason(store: Simulator, chip: Fileset, path: str) -> None:
    response, body = get(store, path)
    assert (response.status, response.headers["Content-Type"][:10]) == (404, "text/plain")
    assert body.count(b"\n") == 1


# What can happen to a store at run time.


def test_withdrawn_fileset_is_gone(store: Simulator, gpc1: Product, chip: Fileset) -> None:
    gpc1.withdraw(CHIP)
    assert get(store, A_FITS)[0].status == 404
    assert get(store, f"/gpc1/index.txt?{CHIP}")[0].status == 404
    assert ids(store, "/gpc1/index.txt") == []


def test_registered_again_moves_to_the_end(store: Simulator, gpc1: Product, chip: Fileset) -> None:
    gpc1.add("later")
    again = gpc1.register_again(CHIP, {"a.fits": b"new"}, registered="2009-04-16T00:00:00Z")
    assert ids(store, "/gpc1/index.txt") == ["later", CHIP]
    assert (again.registered > chip.registered, again.columns) == (True, chip.columns)
    assert get(store, A_FITS)[1] == b"new"


def test_altered_keeps_place_and_time(store: Simulator, gpc1: Product, chip: Fileset) -> None:
    gpc1.add("later")
    before = lines(store, "/gpc1/index.txt")
    gpc1.alter(CHIP, {"a.fits": b"new"})
    assert lines(store, "/gpc1/index.txt") == before
    assert get(store, A_FITS)[1] == b"new"


def test_hidden_fileset_answers_and_is_not_listed(store: Simulator, gpc1: Product) -> None:
    for name in "ab":
        gpc1.add(name)
    gpc1.hide("b")
    assert ids(store, "/gpc1/index.txt") == ["a"]
    assert get(store, "/gpc1/b/index.txt")[0].status == 200
    assert " a " in lines(store, "/index.txt")[1].replace("|", " ")


def test_frozen_list_stands_still(store: Simulator, gpc1: Product, chip: Fileset) -> None:
    gpc1.freeze()
    gpc1.add("later", {"a.fits": b"x"})
    assert ids(store, "/gpc1/index.txt") == [CHIP]
    assert get(store, "/gpc1/later/a.fits")[0].status == 200
    gpc1.thaw()
    assert ids(store, "/gpc1/index.txt") == [CHIP, "later"]


def test_emptied_product_lists_its_header(store: Simulator, gpc1: Product, chip: Fileset) -> None:
    gpc1.empty()
    assert len(lines(store, "/gpc1/index.txt")) == 1
    assert "|none" in lines(store, "/index.txt")[1]


def test_override_answers_any_query_until_taken_back(store: Simulator, chip: Fileset) -> None:
    store.override("/gpc1/index.txt", store.read("/gpc1/index.txt") + b"half a ro")
    assert get(store, "/gpc1/index.txt?x")[1].endswith(b"half a ro")
    store.override("/gpc1/index.txt", None)
    assert get(store, "/gpc1/index.txt?x")[0].status == 404


def test_line_ends_mark_and_order_of_columns(store: Simulator, chip: Fileset) -> None:
    store.crlf = store.bom = True
    store.arrange = lambda names: names[::-1]
    assert store.read("/gpc1/index.txt").decode("utf-8").split("\r\n") == [
        "\ufeff# stage|target_id|type    |time registered     |filesetID                 |",
        "chip   |1        |IPP-DIST|2009-04-15T03:02:14Z|o4741g0239o.chip.11955.2.1|",
        "",
    ]


# Files over HTTP.


def test_file_has_validators_and_head_mirrors_get(store: Simulator, chip: Fileset) -> None:
    response, body = get(store, A_FITS)
    same, nothing = get(store, A_FITS, "HEAD")
    assert (body, nothing) == (DATA, b"")
    assert response.getheaders() == same.getheaders()
    assert response.headers["Content-Length"] == str(len(DATA))
    assert response.headers["ETag"] == chip.files["a.fits"].etag
    assert response.headers["Last-Modified"] == "Wed, 15 Apr 2009 03:02:14 GMT"
    assert get(store, A_FITS, "POST")[0].status == 405


@pytest.mark.parametrize(
    ("wanted", "status", "first", "last"),
    [
        ("bytes=0-0", 206, 0, 0),
        ("bytes=100-", 206, 100, 16383),
        ("bytes=-5", 206, 16379, 16383),
        ("bytes=-99999", 206, 0, 16383),
        ("bytes=16383-99999", 206, 16383, 16383),
        ("bytes=16384-", 416, None, None),
        ("bytes=-0", 416, None, None),
        ("bytes=5-3", 200, None, None),
        ("bytes=-", 200, None, None),
        ("bytes=0-1,5-6", 200, None, None),
        ("lines=1-2", 200, None, None),
    ],
)
def test_range(
    store: Simulator, chip: Fileset, wanted: str, status: int, first: int | None, last: int | None
) -> None:
    response, body = get(store, A_FITS, Range=wanted)
    assert response.status == status
    if first is not None and last is not None:
        assert response.headers["Content-Range"] == f"bytes {first}-{last}/{len(DATA)}"
        assert body == DATA[first : last + 1]
    elif status == 416:
        assert response.headers["Content-Range"] == f"bytes */{len(DATA)}"
    else:
        assert body == DATA


def test_if_range_decides_between_part_and_whole(store: Simulator, chip: Fileset) -> None:
    for validator in (chip.files["a.fits"].etag, "Wed, 15 Apr 2009 03:02:14 GMT"):
        response, _ = get(store, A_FITS, Range="bytes=9-", If_Range=validator)
        assert response.status == 206
    response, _ = get(store, A_FITS, Range="bytes=9-", If_Range='"other"')
    assert response.status == 200


def test_requests_are_recorded_with_their_connection(store: Simulator, chip: Fileset) -> None:
    with closing(connect(store)) as http:
        for path in ("/ds/gpc1/index.txt?a%2Bb", "/elsewhere"):
            http.request("GET", path, headers={"X-Test": "1"})
            http.getresponse().read()
    get(store, "/index.txt")
    first, second, third = store.requests
    assert (first.method, first.path, first.query) == ("GET", "/gpc1/index.txt", "a+b")
    assert (first.target, first.headers["x-test"]) == ("/ds/gpc1/index.txt?a%2Bb", "1")
    assert [each.connection for each in store.requests] == [1, 1, 2]
    assert (second.path, third.time >= first.time) == ("/elsewhere", True)
    assert (store.count(), store.count("/gpc1/*"), store.count("/index.txt")) == (3, 1, 1)
    assert (store.count("/gpc1/index.txt?a*"), store.count("/gpc1/index.txt?b*")) == (1, 0)
    assert store.count("/index.txt?*") == 0
    store.clear()
    assert store.count() == 0


def test_pipelined_requests_are_answered_in_order(store: Simulator, gpc1: Product) -> None:
    for name in "abc":
        gpc1.add(name, {"f": name.encode() * 3})
    answered = raw_exchange(store, "/gpc1/a/f", "/gpc1/b/f", "/gpc1/c/f")
    assert [each[-3:] for each in answered.split(b"HTTP/1.1 200 OK")] == [
        b"", *(name * 3 for name in (b"a", b"b", b"c")),
    ]  # fmt: skip


# The scripted faults.


def test_fault_waits_counts_and_ends(store: Simulator, chip: Fileset) -> None:
    fault = store.fault("/gpc1/*/a.fits", faults.status(500), times=2, after=1)
    assert [get(store, A_FITS)[0].status for _ in range(4)] == [200, 500, 500, 200]
    assert (fault.hits, get(store, "/index.txt")[0].status) == (2, 200)
    store.fault("*", faults.status(410), times=None)
    store.fault("*", faults.status(500), times=None)
    assert [get(store, "/index.txt")[0].status for _ in range(2)] == [410, 410]
    store.mend()
    assert get(store, "/index.txt")[0].status == 200


def test_what_a_fault_raises_fails_the_test() -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    store = Simulator()
    store.fault("*", broken)
    assert raw_exchange(store, "/index.txt") == b""
    with pytest.raises(ExceptionGroup) as caught:
        store.server.close()
    assert caught.group_contains(ZeroDivisionError)


def body_of(raw: bytes) -> bytes:
    return raw.partition(b"\r\n\r\n")[2]


@pytest.mark.parametrize(
    ("action", "length", "body"),
    [
        pytest.param(faults.hang_up(100), 16384, DATA[:100], id="hang-up"),
        pytest.param(faults.hang_up(-1), 16384, DATA[:-1], id="one byte short"),
        pytest.param(faults.resized(3), 16387, DATA + b"\0\0\0", id="longer than listed"),
        pytest.param(faults.resized(-3), 16381, DATA[:-3], id="shorter than listed"),
        pytest.param(faults.no_length(), None, DATA, id="no length"),
        pytest.param(faults.wrong_bytes(1), 16384, b"\0\xfe" + DATA[2:], id="wrong byte"),
        pytest.param(faults.cut(9), 9, DATA[:9], id="cut"),
        pytest.param(faults.labelled(), 16384, DATA, id="labelled"),
        pytest.param(faults.http10(), 16384, DATA, id="http/1.0"),
        pytest.param(faults.close_each(), 16384, DATA, id="connection: close"),
        pytest.param(faults.drip(8192, 0.001), 16384, DATA, id="drip"),
        pytest.param(faults.stall(0.001), 16384, DATA, id="stall"),
        pytest.param(faults.stall(0.001, after=5), 16384, DATA, id="stall in the body"),
    ],
)
def test_body_on_the_wire(
    store: Simulator, chip: Fileset, action: Action, length: int | None, body: bytes
) -> None:
    store.fault(A_FITS, action)
    raw = raw_exchange(store, A_FITS, "/index.txt")
    header = f"Content-Length: {length}\r\n".encode()
    assert (header in raw) if length else (b"Content-Length" not in raw.partition(body)[0])
    assert body_of(raw).startswith(body)
    if len(body) < len(DATA) and length == len(DATA):
        assert body_of(raw) == body


class Recorder(Connection):
    """A connection to nobody that notes what it is told: bytes written, seconds waited."""

    def __init__(self) -> None:
        self.told: list[int | float] = []

    def write(self, data: bytes) -> None:
        self.told.append(len(data))

    def wait(self, seconds: float) -> None:
        self.told.append(seconds)


@pytest.mark.parametrize(
    ("action", "told"),
    [
        pytest.param(faults.stall(2.5), [2.5, 29], id="before the head"),
        pytest.param(faults.stall(2.5, after=4), [23, 2.5, 6], id="in the body"),
        pytest.param(faults.drip(4, 0.5), [19, 4, 0.5, 4, 0.5, 2, 0.5], id="drip"),
    ],
)
def test_slow_answers_wait_where_they_say(action: Action, told: list[float]) -> None:
    request = Request("GET", "/", "/", "", {}, "HTTP/1.1", 1, 0.0)
    recorder = Recorder()
    action(recorder, request, Answer(200, (), b"0123456789"))
    assert recorder.told == told


@pytest.mark.parametrize("action", [faults.hang_up(-1), faults.html(), faults.gzipped()])
def test_head_has_no_body_whatever_the_fault(
    store: Simulator, chip: Fileset, action: Action
) -> None:
    store.fault(A_FITS, action)
    with socket.create_connection(("127.0.0.1", store.server.port), timeout=PATIENCE) as sock:
        sock.sendall(f"HEAD /ds{A_FITS} HTTP/1.1\r\nConnection: close\r\n\r\n".encode())
        assert body_of(b"".join(iter(lambda: sock.recv(65536), b""))) == b""


def test_reset_delivers_its_bytes_and_resets(store: Simulator, chip: Fileset) -> None:
    store.fault(A_FITS, faults.reset(100))
    received: list[bytes] = []
    with socket.create_connection(("127.0.0.1", store.server.port), timeout=PATIENCE) as sock:
        sock.sendall(f"GET /ds{A_FITS} HTTP/1.1\r\n\r\n".encode())
        with pytest.raises(ConnectionResetError):
            received.extend(iter(partial(sock.recv, 65536), b""))
    assert body_of(b"".join(received)) == DATA[:100]


def test_drop_ends_without_a_byte(store: Simulator) -> None:
    store.fault("*", faults.drop())
    assert raw_exchange(store, "/index.txt") == b""
    store.fault("*", faults.raw(b"HELLO 1\r\n"))
    assert raw_exchange(store, "/index.txt") == b"HELLO 1\r\n"


def test_overrun_leaves_bytes_before_the_next_answer(store: Simulator, chip: Fileset) -> None:
    store.fault(A_FITS, faults.overrun(b"left over"))
    assert DATA + b"left overHTTP/1.1 200 OK" in raw_exchange(store, A_FITS, "/index.txt")


@pytest.mark.parametrize("chunked", [False, True])
def test_endless_body_ends_with_its_reader(store: Simulator, chip: Fileset, chunked: bool) -> None:
    store.fault(A_FITS, faults.endless(chunked=chunked))
    with closing(connect(store)) as http:
        http.request("GET", store.base + A_FITS)
        response = http.getresponse()
        assert response.length is None
        assert response.read(3 * len(DATA)).startswith(DATA + b"\0" * len(DATA))
        response.close()
    # A server whose thread went on writing would not end.


def test_endless_body_ends_at_its_cap(
    store: Simulator, chip: Fileset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(faults, "CAP", 100_000)
    store.fault(A_FITS, faults.endless())
    assert 100_000 <= len(get(store, A_FITS)[1]) < 200_000


def test_chunked_is_whole(store: Simulator, chip: Fileset) -> None:
    store.fault(A_FITS, faults.chunked(1000))
    response, body = get(store, A_FITS)
    assert (response.headers["Transfer-Encoding"], body) == ("chunked", DATA)


@pytest.mark.parametrize(
    ("action", "kept"),
    [
        pytest.param(faults.chunked(1000, cut=2500), 2500, id="cut"),
        pytest.param(faults.bad_chunks(), 8192, id="bad size line"),
        pytest.param(faults.bad_chunks(b"-5"), 8192, id="negative"),
    ],
)
def test_broken_chunks_are_noticed(
    store: Simulator, chip: Fileset, action: Action, kept: int
) -> None:
    store.fault(A_FITS, action)
    with pytest.raises((IncompleteRead, ValueError)) as caught:
        get(store, A_FITS)
    if isinstance(caught.value, IncompleteRead):
        assert caught.value.partial == DATA[:kept]


@pytest.mark.parametrize(
    ("action", "status", "header", "value"),
    [
        (faults.status(404), 404, "Content-Type", "text/plain; charset=utf-8"),
        (faults.status(401, ("WWW-Authenticate", "Basic")), 401, "WWW-Authenticate", "Basic"),
        (faults.retry_after("3"), 503, "Retry-After", "3"),
        (faults.retry_after("-1", 429), 429, "Retry-After", "-1"),
        (faults.redirect("file:///etc/passwd"), 302, "Location", "file:///etc/passwd"),
        (faults.redirect("/x", 301), 301, "Location", "/x"),
        (faults.redirect_loop(), 302, "Location", f"/ds{A_FITS}"),
        (faults.html(), 200, "Content-Type", "text/html"),
        (faults.html(502), 502, "Content-Type", "text/html"),
        (faults.unsatisfiable(), 416, "Content-Range", f"bytes */{len(DATA)}"),
        (faults.labelled("x-gzip"), 200, "Content-Encoding", "x-gzip"),
        (faults.close_each(), 200, "Connection", "close"),
        (faults.close_silently(1), 200, "Connection", None),
        (faults.http10(), 200, "Connection", None),
        (faults.header_bomb(1000), 200, "X-Bomb-0", "x" * 1000),
    ],
)
def test_status_and_headers(
    store: Simulator, chip: Fileset, action: Action, status: int, header: str, value: str | None
) -> None:
    store.fault(A_FITS, action)
    response, _ = get(store, A_FITS)
    assert (response.status, response.headers[header]) == (status, value)


def test_retry_after_date_is_in_the_future() -> None:
    assert parsedate_to_datetime(faults.http_date(100)).timestamp() > time.time() + 90


def test_redirect_hops_end(store: Simulator, chip: Fileset) -> None:
    store.fault(A_FITS, faults.redirect_hops(2), times=None)
    path, seen = A_FITS, []
    for _ in range(3):
        response, body = get(store, path)
        seen.append(response.status)
        path = (response.headers["Location"] or "").removeprefix("/ds")
    assert (seen, body) == ([302, 302, 200], DATA)


@pytest.mark.parametrize(
    ("action", "status", "place", "body"),
    [
        pytest.param(faults.ignored_range(), 200, None, DATA, id="ignored"),
        pytest.param(faults.shifted_range(5), 206, "105-16383", DATA[105:], id="later"),
        pytest.param(faults.shifted_range(-5), 206, "95-16383", DATA[95:], id="overlap"),
        pytest.param(
            faults.shifted_range(-5, honest=False), 206, "100-16383", DATA[95:-5], id="lying"
        ),
        pytest.param(faults.changed(DATA[::-1]), 200, None, DATA[::-1], id="changed"),
        pytest.param(
            faults.changed(b"x" * 300, heeds_if_range=False), 206, "100-299/300", b"x" * 200,
            id="changed, If-Range ignored",
        ),
        pytest.param(faults.wrong_bytes(100), 206, "100-16383", b"\x9b" + DATA[101:], id="wrong"),
        pytest.param(faults.wrong_bytes(99), 206, "100-16383", DATA[100:], id="wrong before"),
    ],
)  # fmt: skip
def test_range_faults(
    store: Simulator, chip: Fileset, action: Action, status: int, place: str | None, body: bytes
) -> None:
    store.fault(A_FITS, action)
    etag = chip.files["a.fits"].etag
    response, came = get(store, A_FITS, Range="bytes=100-", If_Range=etag)
    assert (response.status, came) == (status, body)
    told = response.headers["Content-Range"]
    assert told is None if place is None else f"bytes {place}" in told


def test_changed_has_other_validators(store: Simulator, chip: Fileset) -> None:
    store.fault(A_FITS, faults.changed(DATA[::-1]))
    now, _ = get(store, A_FITS)
    before, _ = get(store, A_FITS)
    assert now.headers["ETag"] != before.headers["ETag"]
    assert now.headers["Last-Modified"] != before.headers["Last-Modified"]


def test_multipart_range(store: Simulator, chip: Fileset) -> None:
    store.fault(A_FITS, faults.multipart_range())
    response, body = get(store, A_FITS, Range="bytes=100-199")
    assert response.headers["Content-Type"].startswith("multipart/byteranges")
    assert response.headers["Content-Range"] is None
    assert b"Content-Range: bytes 100-199/16384\r\n\r\n" + DATA[100:200] in body


def test_gzipped_is_really_encoded(store: Simulator, chip: Fileset) -> None:
    store.fault(A_FITS, faults.gzipped())
    response, body = get(store, A_FITS)
    assert response.headers["Content-Encoding"] == "gzip"
    assert (body != DATA, gzip.decompress(body)) == (True, DATA)


def test_interim_flood_comes_before_the_answer(store: Simulator) -> None:
    store.fault("*", faults.interim_flood(500))
    raw = raw_exchange(store, "/index.txt")
    assert raw.startswith(b"HTTP/1.1 100 Continue\r\n\r\n" * 500 + b"HTTP/1.1 200 OK\r\n")


def test_duplicate_length_and_many_headers(store: Simulator, chip: Fileset) -> None:
    store.fault(A_FITS, faults.duplicate_length(5))
    assert get(store, A_FITS)[0].headers.get_all("Content-Length") == ["16384", "5"]
    store.fault(A_FITS, faults.header_bomb(10, lines=2000))
    assert raw_exchange(store, A_FITS).count(b"X-Bomb-") == 2000


def test_cut_lists_keep_an_honest_length(store: Simulator, chip: Fileset) -> None:
    whole = store.read("/gpc1/index.txt")
    store.fault("/gpc1/index.txt", faults.cut(-10))
    store.fault("/gpc1/index.txt", faults.no_final_newline())
    response, body = get(store, "/gpc1/index.txt")
    assert (body, response.headers["Content-Length"]) == (whole[:-10], str(len(whole) - 10))
    assert get(store, "/gpc1/index.txt")[1] == whole[:-1]


@pytest.mark.parametrize(
    ("action", "answered"),
    [
        pytest.param(faults.close_each(), 1, id="announced"),
        pytest.param(faults.close_silently(2), 2, id="silent"),
        pytest.param(faults.http10(), 1, id="http/1.0"),
    ],
)
def test_connection_ends_early(
    store: Simulator, chip: Fileset, action: Action, answered: int
) -> None:
    store.fault("*", action, times=None)
    raw = raw_exchange(store, *["/index.txt"] * 3, last="keep-alive")
    assert raw.count(b" 200 OK\r\n") == answered


def test_stall_ends_with_the_simulator() -> None:
    with Simulator() as store:
        store.fault("*", faults.stall(3600))
        sock = socket.create_connection(("127.0.0.1", store.server.port), timeout=PATIENCE)
        sock.sendall(b"GET /ds/index.txt HTTP/1.1\r\n\r\n")
        until(store.count)
    with closing(sock):
        assert sock.recv(100) == b""


def test_nothing_is_left_after_close() -> None:
    before = threading.active_count()
    with ExitStack() as clients:
        with Simulator() as store, Relay(store.url, 0.001) as relay:
            ports = (store.server.port, urlsplit(relay.url).port or 0)
            for port in ports:
                socket.create_connection(("127.0.0.1", port)).close()
            idle = [
                socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) for port in ports
            ]
            for sock in map(clients.enter_context, idle):
                sock.sendall(b"GET /ds/index.txt HTTP/1.1\r\n\r\n")
                assert sock.recv(15) == b"HTTP/1.1 200 OK"
        assert threading.active_count() == before
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", store.server.port))


def test_down_refuses_and_comes_back_at_the_same_port(store: Simulator, chip: Fileset) -> None:
    with closing(connect(store)) as kept:
        kept.request("GET", store.base + A_FITS)
        kept.getresponse().read()
        with store.server.down():
            with pytest.raises(ConnectionRefusedError):
                get(store, A_FITS)
            assert kept.sock.recv(1) == b""
    assert get(store, A_FITS)[1] == DATA


def test_tls(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += ["-nodes", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    try:
        subprocess.run(
            [*command, "-keyout", str(key), "-out", str(certificate)],
            check=True, capture_output=True,
        )  # fmt: skip
    except FileNotFoundError:
        pytest.skip("makes its certificate with openssl, which is not installed")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    trusting = ssl.create_default_context(cafile=str(certificate))
    with Simulator(tls=tls) as store:
        for context, trusted in ((trusting, True), (ssl.create_default_context(), False)):
            with socket.create_connection(("127.0.0.1", store.server.port)) as sock:
                try:
                    with context.wrap_socket(sock, server_hostname="127.0.0.1") as secure:
                        secure.sendall(b"GET /ds/index.txt HTTP/1.1\r\nConnection: close\r\n\r\n")
                        assert secure.recv(15) == b"HTTP/1.1 200 OK"
                        assert trusted
                except ssl.SSLCertVerificationError:
                    assert not trusted
        assert store.url.startswith("https://")


# The relay.


def test_relay_hands_on_answers_and_hang_ups(store: Simulator, chip: Fileset) -> None:
    with Relay(store.url, 0.005, 0.005) as relay:
        parts = urlsplit(relay.url)
        assert parts.path == "/ds"
        with closing(HTTPConnection("127.0.0.1", parts.port, timeout=PATIENCE)) as http:
            for _ in range(2):
                http.request("GET", store.base + A_FITS)
                assert http.getresponse().read() == DATA
        store.fault(A_FITS, faults.hang_up(100))
        store.fault(A_FITS, faults.reset(100))
        for ending in (IncompleteRead, ConnectionResetError):
            with closing(HTTPConnection("127.0.0.1", parts.port, timeout=PATIENCE)) as http:
                http.request("GET", store.base + A_FITS)
                with pytest.raises(ending):
                    http.getresponse().read()
    assert len({request.connection for request in store.requests}) == 3


def test_relay_delays_each_chunk_and_not_their_sum(store: Simulator) -> None:
    written = threading.Event()

    def act(connection: Connection, _request: Request, _answer: Answer) -> None:
        for _ in range(5):
            connection.write(b"x")
            connection.flush()
        written.set()
        connection.close()

    store.fault("*", act)
    with Relay(store.url, 1.0) as relay:
        address = ("127.0.0.1", urlsplit(relay.url).port or 0)
        with socket.create_connection(address, timeout=PATIENCE) as sock:
            asked = time.monotonic()
            sock.sendall(b"GET /ds/index.txt HTTP/1.1\r\n\r\n")
            first = sock.recv(1)
            # No chunk is early, and the last was on its way before the first arrived.
            assert (time.monotonic() - asked >= 1.0, written.is_set()) == (True, True)
            assert first + b"".join(iter(lambda: sock.recv(9), b"")) == b"xxxxx"


# The watcher.


def test_snapshot_holds_the_visible_tree_alone(tmp_path: Path) -> None:
    for path in ("data/a/f", "info/p/x", "store/index.txt", ".mirror/state.db", "other"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(path.encode())
    (tmp_path / "data/link").symlink_to("a")
    assert snapshot(tmp_path) == {
        "data/a/f": b"data/a/f",
        "info/p/x": b"info/p/x",
        "store/index.txt": b"store/index.txt",
        "data/link": b"symbolic link to a",
    }


def replace_file(data: Path) -> None:
    (data.parent / "new").write_bytes(b"version 2")
    (data.parent / "new").rename(data / "f")


def write_through(data: Path) -> None:
    (data / "f").write_bytes(b"version 3")


@pytest.mark.parametrize(
    ("change", "violations"),
    [
        pytest.param(lambda data: None, [], id="nothing happens"),
        pytest.param(replace_file, [], id="replaced by rename"),
        pytest.param(
            write_through, ["data/f: 9 bytes that are none of the contents allowed"], id="other"
        ),
        pytest.param(
            lambda data: os.truncate(data / "f", 4), ["data/f: seen with 4 of 9 bytes"], id="short"
        ),
        pytest.param(
            lambda data: (data / "g").touch(), ["data/g: not expected"], id="not expected"
        ),
        pytest.param(
            lambda data: (data / ".f.tmp").mkdir(),
            ["data/.f.tmp: a dot or temporary name"],
            id="temporary directory",
        ),
        pytest.param(
            lambda data: (data / "f.part").touch(),
            ["data/f.part: a dot or temporary name"],
            id="temporary file",
        ),
        pytest.param(
            lambda data: (data / "f").unlink(), ["data/f: was there and is gone"], id="gone"
        ),
        pytest.param(
            lambda data: os.mkfifo(data / "any"), ["data/any: not a regular file"], id="pipe"
        ),
        pytest.param(
            lambda data: (data / "any").symlink_to("f"),
            ["data/any: cannot be read as a file: Too many levels of symbolic links"],
            id="symbolic link",
        ),
        pytest.param(lambda data: (data / "any").write_bytes(b"x"), [], id="anything goes"),
    ],
)
def test_watcher_sees(
    tmp_path: Path, change: Callable[[Path], object], violations: list[str]
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "f").write_bytes(b"version 1")
    expected = {"data/f": (b"version 1", b"version 2"), "data/any": None}
    with TreeWatcher(tmp_path, expected) as watcher:
        until(lambda: watcher.scans)
        change(data)
        before = watcher.scans
        until(lambda: watcher.scans >= before + 2)
    assert watcher.violations == violations


def test_watcher_reads_a_content_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/f").write_bytes(b"x")
    opened: list[str] = []
    real = os.open

    def counted(path: str, flags: int) -> int:
        opened.append(path)
        return real(path, flags)

    watcher = TreeWatcher(tmp_path, {"data/f": b"x"})
    monkeypatch.setattr(os, "open", counted)
    for _ in range(3):
        watcher.scan()
    assert (len(opened), watcher.scans, watcher.violations) == (1, 3, [])


def test_watcher_lets_files_vanish_where_that_is_right(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/f").write_bytes(b"x")
    watcher = TreeWatcher(tmp_path, {"data/f": b"x"}, may_vanish=True)
    watcher.scan()
    (tmp_path / "data/f").unlink()
    watcher.scan()
    assert watcher.violations == []
