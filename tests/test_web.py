"""Lists and pages of plain files, over real sockets."""

import re
from pathlib import Path

import pytest
from served import Process, serving
from traps import TIME

from server.samples.sample import FilesetEntry, write_fileset, write_product_list

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
