"""The server half as a process, spoken to over real sockets: lists, files, HTTP rules, attacks."""

import hashlib
import http.client
import os
import re
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from client import PATIENCE, wait_for
from served import HOST, Process, read_all, run_server, serving, status_of

from server.sample import (
    FilesetEntry,
    ProductEntry,
    SampleFile,
    write_fileset,
    write_product_list,
    write_root_list,
)

TIME = "2009-04-15T03:02:11Z"
LAST_MODIFIED = "Wed, 15 Apr 2009 03:02:11 GMT"
EARLIER, LATER = "Wed, 15 Apr 2009 03:02:10 GMT", "Wed, 15 Apr 2009 03:02:12 GMT"
DATA = bytes(range(256)) * 40
ETAG = f'"{hashlib.md5(DATA).hexdigest()}"'
FILE = "/gpc1/o1.chip.1.1.1/image.fits"
SECRET = b"not for the world"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two products, one of them hidden; filesets of plain files, links and traps."""
    outside = tmp_path_factory.mktemp("outside")
    (outside / "secret.fits").write_bytes(SECRET)
    (outside / "index.txt").write_bytes(SECRET)
    root = tmp_path_factory.mktemp("store")
    entries = [write_chip(root, number) for number in (1, 2, 3)]
    write_product_list(root, "gpc1", entries, ["exp_name"])
    empty = write_fileset(root, "hidden", "with blank+plus", [])
    write_product_list(root, "hidden", [empty, write_fileset(root, "hidden", "b", [])], [])
    write_root_list(root, [ProductEntry("gpc1", entries[-1].name, TIME, "ipp-dist", "<Camera> 1")])
    set_traps(root, outside)
    return root


def write_chip(root: Path, number: int) -> FilesetEntry:
    files = [
        SampleFile("dbinfo.mdc", b"x\n", "text", {"component": "dbinfo"}),
        SampleFile("image.fits", DATA, "fits"),
        SampleFile("empty.tgz", b"", "tgz", {"component": "XY01"}),
        SampleFile("odd name:1.bin", b"odd", "table"),
    ]
    name = f"o{number}.chip.{number}.1.1"
    return write_fileset(root, "gpc1", name, files, registered=TIME, columns={"exp_name": None})


def set_traps(root: Path, outside: Path) -> None:
    traps = root / "gpc1" / "traps"
    rows = ["escape.fits", "stays.fits", "blank.txt", ".dot", "pipe.fits", "dir.fits", "gone.fits"]
    # The size is wrong for all and the sum missing, so no file has the list's sum as its ETag.
    listed = "".join(f"{name}|1||fits|\n" for name in rows)
    traps.mkdir()
    (traps / "index.txt").write_text(f"# fileID|bytes|md5sum|type|\n{listed}")
    (traps / "escape.fits").symlink_to(outside / "secret.fits")
    (traps / "stays.fits").symlink_to("../o1.chip.1.1.1/image.fits")
    (traps / "blank.txt").write_bytes(b"text")
    (traps / ".dot").write_bytes(SECRET)
    (traps / "unlisted.fits").write_bytes(SECRET)
    (traps / "dir.fits").mkdir()
    os.mkfifo(traps / "pipe.fits")
    (root / "gpc1" / "outside").symlink_to(outside)
    (root / "away").symlink_to(outside)
    (root / ".datastore.db").write_bytes(SECRET)


@pytest.fixture(scope="module")
def server(store: Path) -> Iterator[Process]:
    """A server that must end in order, and have had nothing to complain of."""
    with serving(store) as running:
        yield running
    assert running.process.returncode == 0
    assert running.errors == ""


# --- lists -----------------------------------------------------------------------------------


def test_first_line_names_the_store_and_its_address(server: Process, store: Path) -> None:
    assert server.line == f"serving {store} at http://127.0.0.1:{server.port}/\n"


@pytest.mark.parametrize(
    "path",
    ["index.txt", "gpc1/index.txt", "hidden/index.txt", "gpc1/o1.chip.1.1.1/index.txt"],
)
def test_list_is_the_file_byte_for_byte(server: Process, store: Path, path: str) -> None:
    answer = server.get(f"/{path}")
    assert (answer.status, answer.body) == (200, (store / path).read_bytes())
    assert answer.fields.get_content_type() == "text/plain"
    assert answer.fields["Cache-Control"] == "no-store"
    assert "Last-Modified" not in answer.fields


LINES = [
    "# filesetID     |time registered     |type    |exp_name|",
    "o1.chip.1.1.1   |2009-04-15T03:02:11Z|IPP-DIST|null    |",
    "o2.chip.2.1.1   |2009-04-15T03:02:11Z|IPP-DIST|null    |",
    "o3.chip.3.1.1   |2009-04-15T03:02:11Z|IPP-DIST|null    |",
]


@pytest.mark.parametrize(
    ("query", "rows"),
    [
        ("o1.chip.1.1.1", [2, 3]),
        ("o2.chip.2.1.1", [3]),
        ("o3.chip.3.1.1", []),
        ("o2%2Echip.2.1.1", [3]),
    ],
    ids=["first", "middle", "last", "encoded"],
)
def test_query_answers_with_what_is_newer(server: Process, query: str, rows: list[int]) -> None:
    expected = [re.sub(" +", "", LINES[at]) for at in (0, *rows)]
    lines = server.get(f"/gpc1/index.txt?{query}").body.decode().splitlines()
    assert [re.sub(" +", "", line) for line in lines] == expected


@pytest.mark.parametrize(
    "query",
    [
        "nope", "o2", "o2.chip.2.1.1%20", "o2%252Echip.2.1.1", "o2.chip.2.1.1%7C", "%23", "%00",
        "o2.chip.2.1.1%0A", "IPP-DIST", ".*", "%ff", "x" * 300,
    ],
)  # fmt: skip
def test_query_for_what_is_not_listed_is_404_with_a_reason(server: Process, query: str) -> None:
    answer = server.get(f"/gpc1/index.txt?{query}")
    assert answer.status == 404
    assert answer.fields.get_content_type() == "text/plain"
    assert answer.body.count(b"\n") == 1


def test_plus_in_a_query_is_a_plus_and_a_blank_is_encoded(server: Process) -> None:
    answer = server.get("/hidden/index.txt?with%20blank+plus")
    assert answer.status == 200
    assert len(answer.body.splitlines()) == 2


def test_empty_query_is_the_whole_list(server: Process, store: Path) -> None:
    assert server.get("/gpc1/index.txt?").body == (store / "gpc1/index.txt").read_bytes()


def test_rows_after_keep_their_bytes_and_their_header(tmp_path: Path) -> None:
    odd = (
        b"\xef\xbb\xbf# filesetID|time registered|type|\r\n  a |t|x|\r\n# no header\r\n"
        b"# filesetID|time registered|type|more|\r\n\r\nb|t|x|y|\r\n# a |\n  ab|t|x|\n\xff|cut"
    )
    (tmp_path / "p").mkdir()
    (tmp_path / "p/index.txt").write_bytes(odd)
    first, second = odd.split(b"\r\n")[0], odd.split(b"\r\n")[3]
    with serving(tmp_path) as server:
        assert server.get("/p/index.txt?a").body == first + b"\r\n" + odd[odd.index(b"# no") :]
        assert server.get("/p/index.txt?b").body == second + b"\r\n" + odd[odd.index(b"# a |") :]
        last = server.get("/p/index.txt?ab").body
        assert last == b"# a |\n\xff|cut"


def test_long_list_is_answered_in_constant_memory(tmp_path: Path) -> None:
    count = 100_000
    rows = [f"o{n}.chip.{n}.1.1 |{TIME}|IPP-DIST|{n:60}|\n".encode() for n in range(count)]
    (tmp_path / "p").mkdir()
    (tmp_path / "p/index.txt").write_bytes(
        b"# filesetID|time registered|type|n|\n" + b"".join(rows)
    )
    with serving(tmp_path) as server:
        before = peak_memory(server.process.pid)
        for at in (0, 1, 77_777, count - 1):
            answer = server.get(f"/p/index.txt?o{at}.chip.{at}.1.1")
            assert answer.body.partition(b"\n")[2] == b"".join(rows[at + 1 :])
        assert server.get("/p/").status == 200
        assert peak_memory(server.process.pid) - before < 6_000_000


def peak_memory(pid: int) -> int:
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1]) * 1024


def test_replaced_list_changes_answer_and_etag(tmp_path: Path) -> None:
    entry = write_fileset(tmp_path, "p", "a", [])
    write_product_list(tmp_path, "p", [entry], [])
    with serving(tmp_path) as server:
        old = server.get("/p/index.txt")
        assert server.get("/p/index.txt", If_None_Match=old.fields["ETag"]).status == 304
        write_product_list(tmp_path, "p", [entry, FilesetEntry("b", TIME, "notset")], [])
        new = server.get("/p/index.txt", If_None_Match=old.fields["ETag"])
        assert (new.status, new.body.count(b"\n")) == (200, 3)
        with (tmp_path / "p/index.txt").open("a") as same_file:
            same_file.write("# written to, where it stands\n")
        assert server.get("/p/index.txt", If_None_Match=new.fields["ETag"]).status == 200
        tail = server.get("/p/index.txt?a")
        assert len({old.fields["ETag"], new.fields["ETag"], tail.fields["ETag"]}) == 3


def test_line_too_long_for_a_list_is_a_500_and_a_line_for_the_operator(tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    (tmp_path / "p/index.txt").write_bytes(b"x" * 400_000)
    with serving(tmp_path) as server:
        answer = server.get("/p/index.txt?a")
        assert (answer.status, answer.body.count(b"\n")) == (500, 1)
    assert server.errors.count("\n") == 1
    assert "Traceback" not in server.errors


# --- pages -----------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", "/gpc1/", "/gpc1/o1.chip.1.1.1/", "/hidden/"])
def test_page_links_to_everything_that_its_list_names(server: Process, path: str) -> None:
    page = server.get(path)
    assert page.fields.get_content_type() == "text/html"
    assert b"<script" not in page.body
    names = [
        line.split("|")[0].strip()
        for line in server.get(f"{path}index.txt").body.decode().splitlines()
        if not line.startswith("#")
    ]
    links = re.findall(r'<td><a href="([^"]+)">([^<]+)<', page.body.decode())
    assert set(names) <= {text for _, text in links}
    assert {server.get(path + href).status for href, _ in links} == {200}


def test_page_escapes_what_the_list_says(server: Process) -> None:
    page = server.get("/").body
    assert b"&lt;Camera&gt; 1" in page
    assert b"<Camera>" not in page
    names = server.get("/gpc1/o1.chip.1.1.1/").body
    assert b'<a href="odd%20name%3A1.bin">odd name:1.bin</a>' in names
    assert server.get("/gpc1/o1.chip.1.1.1/odd%20name%3A1.bin").body == b"odd"


def test_page_shows_sizes_for_people(server: Process) -> None:
    page = server.get("/gpc1/o1.chip.1.1.1/").body
    assert b'title="10,240 bytes">10.2 kB<' in page


@pytest.mark.parametrize("path", ["/gpc1", "/gpc1/o1.chip.1.1.1", "/hidden/with%20blank+plus"])
def test_directory_without_slash_moves_to_the_slash(server: Process, path: str) -> None:
    answer = server.get(path)
    assert answer.status == 301
    assert answer.fields["Location"] in (f"{path}/", "/hidden/with%20blank%2Bplus/")


# --- files -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "media"),
    [
        ("o1.chip.1.1.1/image.fits", "image/fits"),
        ("o1.chip.1.1.1/empty.tgz", "application/gzip"),
        ("o1.chip.1.1.1/dbinfo.mdc", "text/plain"),
        ("o1.chip.1.1.1/odd%20name:1.bin", "application/octet-stream"),
        ("traps/blank.txt", "text/plain"),
        ("traps/stays.fits", "image/fits"),
    ],
)
def test_file_comes_whole_with_its_type(
    server: Process, store: Path, name: str, media: str
) -> None:
    answer = server.get(f"/gpc1/{name}")
    assert answer.body == (store / "gpc1" / name.replace("%20", " ")).read_bytes()
    assert answer.fields.get_content_type() == media
    assert answer.fields["Content-Length"] == str(len(answer.body))
    assert answer.fields["Accept-Ranges"] == "bytes"
    assert "Content-Encoding" not in answer.fields


def test_etag_is_the_sum_of_the_list_unless_blank(server: Process) -> None:
    assert server.get(FILE).fields["ETag"] == ETAG
    assert server.get(f"{FILE}?compress").body == DATA
    assert re.fullmatch(r'"4-[0-9a-f]+"', server.get("/gpc1/traps/blank.txt").fields["ETag"])


def test_sum_beside_another_size_is_not_the_etag(tmp_path: Path) -> None:
    write_fileset(tmp_path, "p", "f", [SampleFile("a.fits", b"abc", "fits")])
    listed = hashlib.md5(b"abc").hexdigest()
    with serving(tmp_path) as server:
        assert server.get("/p/f/a.fits").fields["ETag"] == f'"{listed}"'
        (tmp_path / "p/f/a.fits").write_bytes(b"longer")
        assert server.get("/p/f/a.fits").fields["ETag"].startswith('"6-')
        (tmp_path / "p/f/index.txt").write_text("# fileID|bytes|md5sum|type|\n")
        assert server.get("/p/f/a.fits").status == 404


OTHER = '"0123456789abcdef0123456789abcdef"'
SIZE = len(DATA)

RANGES: list[tuple[str, dict[str, str], int, slice]] = [
    ("first bytes", {"Range": "bytes=0-9"}, 206, slice(0, 10)),
    ("one byte", {"Range": "bytes=5-5"}, 206, slice(5, 6)),
    ("from the middle on", {"Range": "bytes=10000-"}, 206, slice(10000, None)),
    ("past the end is cut", {"Range": "bytes=10000-99999999"}, 206, slice(10000, None)),
    ("huge end", {"Range": f"bytes=1-{'9' * 5000}"}, 206, slice(1, None)),
    ("last bytes", {"Range": "bytes=-7"}, 206, slice(-7, None)),
    ("more last bytes than there are", {"Range": "bytes=-99999999"}, 206, slice(0, None)),
    ("unit in capitals", {"Range": "BYTES=0-9"}, 206, slice(0, 10)),
    ("begins at the end", {"Range": f"bytes={SIZE}-"}, 416, slice(0)),
    ("begins beyond", {"Range": "bytes=99999999-"}, 416, slice(0)),
    ("huge begin", {"Range": f"bytes={'9' * 5000}-"}, 416, slice(0)),
    ("no last bytes", {"Range": "bytes=-0"}, 416, slice(0)),
    ("backwards", {"Range": "bytes=9-5"}, 200, slice(None)),
    ("nothing", {"Range": "bytes=-"}, 200, slice(None)),
    ("several", {"Range": "bytes=0-9,20-29"}, 200, slice(None)),
    ("junk", {"Range": "bytes=a-b"}, 200, slice(None)),
    ("other unit", {"Range": "lines=0-9"}, 200, slice(None)),
    ("if-range etag", {"Range": "bytes=0-9", "If-Range": ETAG}, 206, slice(0, 10)),
    ("if-range other", {"Range": "bytes=0-9", "If-Range": OTHER}, 200, slice(None)),
    ("if-range weak", {"Range": "bytes=0-9", "If-Range": f"W/{ETAG}"}, 200, slice(None)),
    ("if-range date", {"Range": "bytes=0-9", "If-Range": LAST_MODIFIED}, 206, slice(0, 10)),
    ("if-range later", {"Range": "bytes=0-9", "If-Range": LATER}, 200, slice(None)),
    ("if-range junk", {"Range": "bytes=0-9", "If-Range": "junk"}, 200, slice(None)),
    ("if-range other, beyond", {"Range": "bytes=99999-", "If-Range": OTHER}, 200, slice(None)),
    ("304 before range", {"Range": "bytes=0-9", "If-None-Match": ETAG}, 304, slice(0)),
]


@pytest.mark.parametrize(("fields", "status", "part"), [r[1:] for r in RANGES],
                         ids=[r[0] for r in RANGES])  # fmt: skip
def test_range(server: Process, fields: dict[str, str], status: int, part: slice) -> None:
    answer = server.get(FILE, **{name.replace("-", "_"): v for name, v in fields.items()})
    assert answer.status == status
    if status == 416:
        assert answer.fields["Content-Range"] == f"bytes */{SIZE}"
        return
    assert answer.body == DATA[part]
    if status == 206:
        start, stop, _ = part.indices(SIZE)
        assert answer.fields["Content-Range"] == f"bytes {start}-{stop - 1}/{SIZE}"


def test_ranges_of_an_empty_file(server: Process) -> None:
    path = "/gpc1/o1.chip.1.1.1/empty.tgz"
    assert server.get(path, Range="bytes=0-").status == 416
    assert server.get(path, Range="bytes=-5").status == 200


CONDITIONS: list[tuple[str, dict[str, str], int]] = [
    ("none-match same", {"If-None-Match": ETAG}, 304),
    ("none-match weak", {"If-None-Match": f"W/{ETAG}"}, 304),
    ("none-match among others", {"If-None-Match": f"{OTHER}, {ETAG}"}, 304),
    ("none-match any", {"If-None-Match": "*"}, 304),
    ("none-match other", {"If-None-Match": OTHER}, 200),
    ("none-match without quotes", {"If-None-Match": ETAG.strip('"')}, 200),
    ("none-match other beats date", {"If-None-Match": OTHER, "If-Modified-Since": LATER}, 200),
    ("modified-since same", {"If-Modified-Since": LAST_MODIFIED}, 304),
    ("modified-since later", {"If-Modified-Since": LATER}, 304),
    ("modified-since earlier", {"If-Modified-Since": EARLIER}, 200),
    ("modified-since rfc850", {"If-Modified-Since": "Wednesday, 15-Apr-09 03:02:11 GMT"}, 304),
    ("modified-since asctime", {"If-Modified-Since": "Wed Apr 15 03:02:11 2009"}, 304),
    ("modified-since junk", {"If-Modified-Since": "yesterday"}, 200),
    ("modified-since no such day", {"If-Modified-Since": "Wed, 99 Apr 2009 03:02:11 GMT"}, 200),
    ("match same", {"If-Match": ETAG}, 200),
    ("match any", {"If-Match": "*"}, 200),
    ("match other", {"If-Match": OTHER}, 412),
    ("match weak", {"If-Match": f"W/{ETAG}"}, 412),
    ("match beats date", {"If-Match": ETAG, "If-Unmodified-Since": EARLIER}, 200),
    ("unmodified-since same", {"If-Unmodified-Since": LAST_MODIFIED}, 200),
    ("unmodified-since earlier", {"If-Unmodified-Since": EARLIER}, 412),
    ("match before none-match", {"If-Match": OTHER, "If-None-Match": ETAG}, 412),
]


@pytest.mark.parametrize(("fields", "status"), [c[1:] for c in CONDITIONS],
                         ids=[c[0] for c in CONDITIONS])  # fmt: skip
def test_condition(server: Process, fields: dict[str, str], status: int) -> None:
    answer = server.get(FILE, **{name.replace("-", "_"): v for name, v in fields.items()})
    assert answer.status == status
    assert (answer.body == DATA) == (status == 200)
    if status != 412:
        assert (answer.fields["ETag"], answer.fields["Last-Modified"]) == (ETAG, LAST_MODIFIED)


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        (FILE, {}),
        (FILE, {"If_None_Match": ETAG}),
        (f"{FILE}?compress", {}),
        ("/gpc1/index.txt", {}),
        ("/gpc1/index.txt?o1.chip.1.1.1", {}),
        ("/gpc1/index.txt?nope", {}),
        ("/gpc1/", {}),
        ("/gpc1", {}),
        ("/nope", {}),
    ],
)
def test_head_says_what_get_would(server: Process, path: str, fields: dict[str, str]) -> None:
    got, head = server.get(path, **fields), server.get(path, "HEAD", **fields)
    assert (head.status, head.body) == (got.status, b"")
    for answer in (got, head):
        del answer.fields["Date"]
    assert head.fields.items() == got.fields.items()


def test_range_is_for_get_alone(server: Process) -> None:
    head = server.get(FILE, "HEAD", Range="bytes=0-9")
    assert (head.status, head.fields["Content-Length"]) == (200, str(SIZE))


# --- connections -----------------------------------------------------------------------------

GET_FILE = f"GET {FILE} HTTP/1.1\r\n".encode() + HOST


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


# --- attacks ---------------------------------------------------------------------------------

F = "/gpc1/traps"


@pytest.mark.parametrize(
    "target",
    [
        "/../etc/passwd", "/gpc1/../../etc/passwd", "/gpc1/traps/../../../etc/passwd",
        "/%2e%2e/etc/passwd", "/gpc1/%2e%2e/index.txt", "/gpc1/%2e%2e%2findex.txt",
        "/gpc1/%252e%252e/index.txt", "/gpc1/..%5cindex.txt", "/gpc1/..\\index.txt",
        f"{FILE[:-5]}%252efits",
        "//etc/passwd", "//evil.example/", "//evil.example", "/%2f%2fevil.example/",
        "/\\evil.example/", "/gpc1//index.txt", "/./gpc1/index.txt", "/gpc1/./index.txt",
        "/gpc1/%2e/index.txt", "/index.txt/", "/gpc1/index.txt/", f"{FILE}/", f"{FILE}/index.txt",
        "/%00", "/gpc1%00/index.txt", f"{F}/blank.txt%00.fits", "/gpc1/%0d%0aX:y/", "/%zz", "/%",
        "/.datastore.db", "/%2edatastore.db", f"{F}/.dot", f"{F}/escape.fits",
        f"{F}/unlisted.fits", f"{F}/pipe.fits", f"{F}/dir.fits", f"{F}/dir.fits/",
        f"{F}/gone.fits", "/gpc1/outside/index.txt", "/gpc1/outside/", "/gpc1/outside",
        "/gpc1/outside/secret.fits", "/away/index.txt", "/away/", "/away", "/away?x",
        "/-rf", "/~root/", "/gpc1/o1.chip.1.1.1%20/", f"/{'a' * 300}/", f"/{'a/' * 2000}",
        "/%ff%fe/", "/GPC1/index.txt", "/gpc1/index.txt%3Fo1.chip.1.1.1", "/gpc1#x",
        "/nope/index.txt", "/gpc1/nope/index.txt", "/gpc1/nope/image.fits", "/favicon.ico",
    ],
)  # fmt: skip
def test_nothing_but_the_store_can_be_reached(server: Process, target: str) -> None:
    answer = server.ask(f"GET {target} HTTP/1.1\r\n".encode() + HOST + b"\r\n")
    assert status_of(answer) == 404
    assert b"Location" not in answer
    assert SECRET not in answer


MALFORMED: list[tuple[str, bytes, int]] = [
    ("no version", b"GET /\r\n\r\n", 400),
    ("bare line feeds", b"GET / HTTP/1.0\n\n", 400),
    ("bare line feed in a field", b"GET / HTTP/1.1\r\n" + HOST + b"A: b\nC: d\r\n\r\n", 400),
    ("bare carriage return", b"GET / HTTP/1.1\r\n" + HOST + b"A: b\rC: d\r\n\r\n", 400),
    ("blank in the target", b"GET /a b HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    ("two blanks", b"GET  / HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    ("NUL in the target", b"GET /\0 HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    ("8 bits in the target", b"GET /\xff HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    ("relative target", b"GET gpc1/ HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    ("file URL", b"GET file:///etc/passwd HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    ("asterisk", b"GET * HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    ("binary", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
    ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    ("no host", b"GET / HTTP/1.1\r\n\r\n", 400),
    ("two hosts", b"GET / HTTP/1.1\r\n" + HOST + HOST + b"\r\n", 400),
    ("bad host", b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
    ("folded field", b"GET / HTTP/1.1\r\n" + HOST + b"A: b\r\n c\r\n\r\n", 400),
    ("folded first field", b"GET / HTTP/1.1\r\n A: b\r\n" + HOST + b"\r\n", 400),
    ("blank before the colon", b"GET / HTTP/1.1\r\n" + HOST + b"A : b\r\n\r\n", 400),
    ("no colon", b"GET / HTTP/1.1\r\n" + HOST + b"A\r\n\r\n", 400),
    ("NUL in a field", b"GET / HTTP/1.1\r\n" + HOST + b"A: \0\r\n\r\n", 400),
    ("length and coding", GET_FILE + b"Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n",
     400),
    ("coding on GET", GET_FILE + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    ("two lengths", GET_FILE + b"Content-Length: 0\r\nContent-Length: 0\r\n\r\n", 400),
    ("bad length", GET_FILE + b"Content-Length: +1\r\n\r\n", 400),
    ("negative length", GET_FILE + b"Content-Length: -1\r\n\r\n", 400),
    ("length in other digits", GET_FILE + b"Content-Length: \xb2\r\n\r\n", 400),
    ("body on GET", GET_FILE + b"Content-Length: 5\r\n\r\nhello", 400),
    ("request as a body", GET_FILE + b"Content-Length: 40\r\n\r\n" + GET_FILE + b"\r\n", 400),
    ("long target", b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n" + HOST + b"\r\n", 414),
    ("long query", b"GET /gpc1/index.txt?" + b"a" * 9000 + b" HTTP/1.1\r\n" + HOST + b"\r\n", 414),
    ("endless line", b"G" * 100_000, 414),
    ("long head", b"GET / HTTP/1.1\r\n" + HOST + b"A: " + b"b" * 60_000 + b"\r\n\r\n", 431),
    ("many fields", b"GET / HTTP/1.1\r\n" + HOST + b"A: b\r\n" * 200 + b"\r\n", 431),
    ("both on PUT", b"PUT / HTTP/1.1\r\n" + HOST
     + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
    ("other digits on PUT", b"PUT / HTTP/1.1\r\n" + HOST + b"Content-Length: \xb2\r\n\r\n", 400),
    ("PUT", b"PUT / HTTP/1.1\r\n" + HOST + b"Content-Length: 3\r\n\r\nabc", 405),
    ("POST in chunks", b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n", 405),
    ("DELETE", f"DELETE {FILE} HTTP/1.1\r\n".encode() + HOST + b"\r\n", 405),
    ("OPTIONS", b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n", 405),
    ("CONNECT", b"CONNECT evil.example:443 HTTP/1.1\r\n" + HOST + b"\r\n", 405),
    ("unknown method", b"BREW / HTTP/1.1\r\n" + HOST + b"\r\n", 501),
    ("method in small letters", b"get / HTTP/1.1\r\n" + HOST + b"\r\n", 501),
]  # fmt: skip


@pytest.mark.parametrize(("data", "status"), [m[1:] for m in MALFORMED],
                         ids=[m[0] for m in MALFORMED])  # fmt: skip
def test_malformed_request_is_refused_and_ends_the_connection(
    server: Process, data: bytes, status: int
) -> None:
    # What follows must never be taken for a second request.
    answer = server.ask(data + GET_FILE + b"\r\n")
    assert status_of(answer) == status
    assert len(re.findall(rb"HTTP/1\.1 \d", answer)) == 1
    assert b"\r\nConnection: close\r\n" in answer
    assert (b"\r\nAllow: GET, HEAD\r\n" in answer) == (status == 405)


def test_bare_line_feeds_are_refused_without_waiting_for_more(store: Path) -> None:
    with serving(store, "--header-timeout", "1000") as server, server.connect() as client:
        client.sendall(b"GET / HTTP/1.0\n\n")
        assert status_of(client.recv(4096)) == 400


def test_content_length_nought_is_no_body(server: Process) -> None:
    assert status_of(server.ask(GET_FILE + b"Content-Length: 0\r\n\r\n")) == 200


def test_slow_sender_is_told_and_silent_one_is_dropped(store: Path) -> None:
    with (
        serving(store, "--header-timeout", "0.2", "--idle-timeout", "1000") as server,
        server.connect() as slow,
        server.connect() as silent,
        server.connect() as second,
        server.connect() as later,
    ):
        later.sendall(b"HEAD / HTTP/1.1\r\n" + HOST + b"\r\n")
        assert status_of(later.recv(4096)) == 200
        later.sendall(b"GET /")
        slow.sendall(b"GET / HTTP/1.1\r\nHost:")
        second.sendall(b"HEAD / HTTP/1.1\r\n" + HOST + b"\r\nGET /")
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
    with serving(tmp_path, "--idle-timeout", "0.2") as server, server.connect() as client:
        client.sendall(b"GET /p/f/big.fits HTTP/1.1\r\n" + HOST + b"\r\n")
        # The first byte, and then none: it is the server that gives up, before it is asked to end.
        client.recv(1)
        wait_for(lambda: server.threads() == 1)
    assert server.process.returncode == 0


def test_beyond_the_limit_503_and_room_again_afterwards(store: Path) -> None:
    with serving(store, "--max-connections", "2") as server:
        held = [server.connect() for _ in range(2)]
        for client in held:
            client.sendall(b"HEAD / HTTP/1.1\r\n" + HOST + b"\r\n")
            assert status_of(client.recv(4096)) == 200
        refused = server.ask(GET_FILE + b"\r\n")
        assert status_of(refused) == 503
        assert re.search(rb"\r\nRetry-After: \d+\r\n", refused)
        for client in held:
            client.close()
        wait_for(lambda: server.get(FILE).status == 200)


def test_flood_of_connections_is_survived(store: Path) -> None:
    with serving(store, "--max-connections", "5") as server:
        flood = [server.connect() for _ in range(300)]
        for client in flood:
            client.close()
        wait_for(lambda: server.get(FILE).status == 200)
    assert server.errors == ""


# --- the command -----------------------------------------------------------------------------


def big_file(root: Path) -> int:
    write_fileset(root, "p", "f", [SampleFile("big.fits", b"", "fits")])
    size = 64 * 1024 * 1024
    os.truncate(root / "p/f/big.fits", size)
    return size


def test_sigterm_finishes_what_is_in_work(tmp_path: Path) -> None:
    size = big_file(tmp_path)
    with serving(tmp_path) as server, server.connect() as client, server.connect() as idle:
        client.sendall(b"GET /p/f/big.fits HTTP/1.1\r\n" + HOST + b"\r\n")
        received = client.recv(1000)
        server.process.send_signal(signal.SIGTERM)
        # The idle one is let go at once, the busy one gets all it was promised.
        assert read_all(idle) == b""
        body = received.partition(b"\r\n\r\n")[2]
        count = len(body)
        while chunk := client.recv(1 << 20):
            count += len(chunk)
        assert count == size
        assert server.process.wait(PATIENCE) == 0
        with pytest.raises(ConnectionRefusedError):
            server.connect()
    assert server.errors == ""


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
