"""Files over real sockets: whole and in parts, conditions, HEAD (RFC 9110; FAULTS S4)."""

import hashlib
import re
from pathlib import Path

import pytest
from served import Process, serving
from traps import DATA, ETAG, FILE

from server.samples.sample import SampleFile, write_fileset

LAST_MODIFIED = "Wed, 15 Apr 2009 03:02:11 GMT"
EARLIER, LATER = "Wed, 15 Apr 2009 03:02:10 GMT", "Wed, 15 Apr 2009 03:02:12 GMT"


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
