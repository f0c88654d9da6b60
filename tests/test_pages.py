"""The pages of a catalogue and of a tree: what they show, in what order, and how one gets about."""

import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from browser import browse
from client import PATIENCE
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from registered import VISITOR, Registry, body_of

from mirror.listing import Row, read_filesets
from server.catalogue import NewFile, NewFileset, add_fileset, add_product, catalogue
from server.http import lines
from server.site import Place, SqliteFile
from server.views.answers import File, Moved, Store, Stream
from server.views.pages import human_size
from server.views.skim import _read, _seek, part_of, skim
from server.views.store import RegisteredStore
from server.views.tree import Tree
from server.views.view import SORTED, View, parse_view

MD5 = "0123456789abcdef0123456789abcdef"
DASH = "\N{EN DASH}"
POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'self'"


class Page(HTMLParser):
    """A page as it is read: rows of cells, links, buttons, titles."""

    def __init__(self, body: bytes) -> None:
        super().__init__()
        self.text = body.decode()
        self.tags: list[str] = []
        self.links: dict[str, str] = {}
        self.buttons: dict[str, str] = {}
        self.heads: list[str] = []
        self.sorted: dict[str, str] = {}
        self.rows: list[list[str]] = []
        self._open = ""
        self._attributes: dict[str, str | None] = {}
        self.feed(self.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self._open, self._attributes = tag, dict(attrs)
        if tag == "tr":
            self.rows.append([])
        elif tag == "td":
            self.rows[-1].append("")
        elif tag == "th":
            self.heads.append("")
            if state := self._attributes.get("aria-sort"):
                self.sorted[str(len(self.heads) - 1)] = state

    def handle_endtag(self, tag: str) -> None:
        self._open = ""

    def handle_data(self, data: str) -> None:
        if self._open == "a":
            self.links[data] = str(self._attributes["href"])
        elif self._open == "button":
            self.buttons[data.strip()] = str(self._attributes["value"])
            if self.heads and self._attributes["value"]:
                self.heads[-1] += data.strip()
        elif self._open == "th":
            self.heads[-1] += data
        if self._open in ("td", "a", "time", "code") and self.rows and self.rows[-1]:
            self.rows[-1][-1] += data

    @property
    def names(self) -> list[str]:
        """The first cell of every row."""
        return [row[0] for row in self.rows if row]


def page_of(store: Store, path: str, query: str = "") -> Page:
    return Page(body_of(store, path, query))


@pytest.fixture
def registry(place: Place, tmp_path: Path) -> Iterator[Registry]:
    """A catalogue with gpc1 and another product; filesets and files of every kind."""
    root = tmp_path / "root"
    root.mkdir()
    with catalogue(place, create=True) as database:
        add_product(database, "gpc1", "ipp-dist", "Test exposures", ("stage", "stage_id", "time"))
        add_product(database, "empty", "table", "Nothing <b>yet</b> & so on")
        registry = Registry(database, place, root)
        registry.fill("gpc1", [
            ("o9", "warp", "9", "b"), ("o10", "chip", "100", None), ("P8", None, None, "a"),
            ("o8", "stack", "12a", "c"), ("o7", "chip", "20", "é"), ("_o", "Z", None, "B"),
        ])  # fmt: skip
        files = [
            NewFile("b.tgz", 10240, MD5, "tgz", ("XY02",)),
            NewFile("a.fits", 2**41, MD5[::-1], "fits"),
            NewFile("c d:e.txt", 0, MD5, "text", (None,)),
            NewFile("d.fits", 999, MD5, "chip", ("XY01",)),
        ]
        add_fileset(database, "gpc1", NewFileset("o1", "OBJECT", ("chip",)), files)
        yield registry


@pytest.fixture
def store(registry: Registry) -> Iterator[RegisteredStore]:
    with registry.store() as opened:
        yield opened


@pytest.fixture
def tree(store: RegisteredStore, tmp_path: Path) -> Tree:
    """The same lists as files."""
    copy = tmp_path / "copy"
    for path in ("", "gpc1/", "empty/", "gpc1/o1/"):
        (copy / path).mkdir(parents=True)
        (copy / path / "index.txt").write_bytes(body_of(store, f"/{path}index.txt"))
    return Tree(copy)


@pytest.fixture(params=["store", "tree"])
def either(request: pytest.FixtureRequest, store: RegisteredStore, tree: Tree) -> Store:
    return store if request.param == "store" else tree


# --- what a page shows -----------------------------------------------------------------------


def test_a_fileset_page_shows_all_columns_once(store: RegisteredStore) -> None:
    page = page_of(store, "/gpc1/o1/")
    assert page.heads == ["File", "Size", "MD5 sum", "Type", "component", "chipname"]
    assert [row for row in page.rows if row] == [
        ["b.tgz", "10.2 kB", MD5, "tgz", "XY02", DASH],
        ["a.fits", "2.2 TB", MD5[::-1], "fits", DASH, DASH],
        ["c d:e.txt", "0 B", MD5, "text", DASH, DASH],
        ["d.fits", "999 B", MD5, "chip", DASH, "XY01"],
    ]
    assert page.links["c d:e.txt"] == "c%20d%3Ae.txt"
    assert '<td class="number" title="10,240 bytes">10.2 kB</td>' in page.text
    assert '<span>4 files</span><span><span title="2,199,023,266,791 bytes">2.2 TB<' in page.text


def test_a_root_page_shows_products_for_people(store: RegisteredStore) -> None:
    page = page_of(store, "/")
    assert page.heads == ["Product", "Most recent", "Registered (UTC)", "Type", "Description"]
    rows = [row for row in page.rows if row]
    assert [row[:2] for row in rows] == [["gpc1", "o1"], ["empty", DASH]]
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", rows[0][2])
    assert rows[1][4] == "Nothing <b>yet</b> & so on"
    assert "Nothing &lt;b&gt;yet&lt;/b&gt; &amp; so on" in page.text
    assert page.links == {
        "gpc1": "gpc1/", "o1": "gpc1/o1/", "empty": "empty/", "index.txt": "index.txt",
    }  # fmt: skip


def test_a_product_page_shows_filesets_for_people(store: RegisteredStore) -> None:
    page = page_of(store, "/gpc1/")
    assert page.heads == ["Fileset", "Registered (UTC)", "Type", "stage", "stage_id", "time"]
    rows = [row for row in page.rows if row]
    assert rows[0] == ["o9", "2026-11-21 03:04:05", "OBJECT", "warp", "9", "b"]
    assert 'datetime="2026-11-21T03:04:05Z"' in page.text
    assert page.links["Data Store"] == "../"
    assert "<span>7 filesets</span>" in page.text
    assert "Test exposures · ipp-dist" in page.text


@pytest.mark.parametrize("path", ["/", "/gpc1/", "/empty/", "/gpc1/o1/"])
@pytest.mark.parametrize("query", ["", "sort=-type&page=1"])
def test_pages_run_nothing_and_fetch_nothing(store: RegisteredStore, path: str, query: str) -> None:
    page = page_of(store, path, query)
    assert not {"script", "img", "link", "iframe", "object"} & set(page.tags)
    assert not re.search(r"\bon\w+=|url\(|@import", page.text)
    assert page.text.startswith("<!DOCTYPE html>")
    assert page.text.endswith("</html>\n")


def test_an_empty_list_says_so(store: RegisteredStore) -> None:
    page = page_of(store, "/empty/", "sort=name&page=7")
    assert "No filesets yet" in page.text
    assert "table" not in page.tags


def test_a_tree_has_the_same_pages(store: RegisteredStore, tree: Tree) -> None:
    about = re.compile(r'<p class="about">.*</p>\n')
    for path in ("/", "/gpc1/", "/empty/", "/gpc1/o1/"):
        for query in ("", "sort=name", "sort=-type"):
            assert (
                about.sub("", page_of(store, path, query).text) == page_of(tree, path, query).text
            )


@pytest.mark.parametrize(
    ("size", "shown"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (999_949, "999.9 kB"), (999_950, "1.0 MB"),
     (2**63 - 1, "9223.4 PB")],
)  # fmt: skip
def test_sizes_for_people(size: int, shown: str) -> None:
    assert human_size(size) == shown


def test_rows_that_cannot_be_read_are_told_with_their_line(tmp_path: Path) -> None:
    good = "# fileID|bytes|md5sum|type|\na|1||fits|\n"
    (tmp_path / "p/f").mkdir(parents=True)
    (tmp_path / "p/f/index.txt").write_text(good + "<b>|x||fits|\nb|1||fits|left|over|\n")
    page = page_of(Tree(tmp_path), "/p/f/", "sort=-name")
    assert page.names[:2] == ["b", "a"]
    assert page.names[2].startswith("line 3: a name with characters")
    assert "<b>" not in page.text
    assert page.heads[-2:] == ["column 5", "column 6"]


def test_a_list_that_is_none_says_why(tmp_path: Path) -> None:
    (tmp_path / "index.txt").write_text("# productID|wrong|\n")
    assert "the header has no column" in page_of(Tree(tmp_path), "/").text


# --- order -----------------------------------------------------------------------------------

BY = {
    "": ["o9", "o10", "P8", "o8", "o7", "_o", "o1"],
    "name": ["P8", "_o", "o1", "o10", "o7", "o8", "o9"],
    "-name": ["o9", "o8", "o7", "o10", "o1", "_o", "P8"],
    "stage": ["_o", "o10", "o7", "o1", "o8", "o9", "P8"],
    "-stage": ["o9", "o8", "o1", "o7", "o10", "_o", "P8"],
    "stage_id": ["o9", "o7", "o10", "o8", "P8", "_o", "o1"],
    "-stage_id": ["o8", "o10", "o7", "o9", "o1", "_o", "P8"],
    "type": ["o9", "o10", "P8", "o8", "o7", "_o", "o1"],
    "-type": ["o1", "_o", "o7", "o8", "P8", "o10", "o9"],
}
"""Names of gpc1's filesets in each order: bytes, numbers by value, missing ones last."""


@pytest.mark.parametrize("sort", BY)
def test_filesets_are_sorted(either: Store, sort: str) -> None:
    page = page_of(either, "/gpc1/", f"sort={sort}")
    assert page.names == BY[sort]


@pytest.mark.parametrize(
    ("sort", "names"),
    [
        ("size", "cdba"),
        ("-size", "abdc"),
        ("-md5", "adcb"),
        ("component", "bacd"),
        ("-chipname", "dcab"),
    ],
)
def test_files_are_sorted(either: Store, sort: str, names: str) -> None:
    page = page_of(either, "/gpc1/o1/", f"sort={sort}")
    assert "".join(name[0] for name in page.names) == names


@pytest.mark.parametrize(
    ("sort", "names"),
    [
        ("name", ["empty", "gpc1"]),
        ("recent", ["gpc1", "empty"]),
        ("-recent", ["gpc1", "empty"]),
        ("-description", ["gpc1", "empty"]),
    ],
)
def test_products_are_sorted_with_empty_ones_last(
    either: Store, sort: str, names: list[str]
) -> None:
    assert page_of(either, "/", f"sort={sort}").names == names


def test_heads_are_buttons_that_turn_the_order_round(store: RegisteredStore) -> None:
    page = page_of(store, "/gpc1/")
    assert page.buttons == {
        "Fileset": "name", "Registered (UTC)": "-time", "Type": "type", "stage": "stage",
        "stage_id": "stage_id",
    }  # fmt: skip
    assert page.sorted == {}
    page = page_of(store, "/gpc1/", "sort=-stage")
    assert (page.buttons["stage"], page.buttons["Fileset"]) == ("stage", "name")
    assert page.buttons["as registered"] == ""
    assert page.sorted == {"3": "descending"}
    page = page_of(store, "/gpc1/", "sort=stage")
    assert page.buttons["stage"] == "-stage"
    assert page.sorted == {"3": "ascending"}


@pytest.mark.parametrize(
    "query",
    [
        "sort=nothing", "sort=-", "sort=--name", "sort=fileset_name%20DESC", "sort=%ff", "page=x",
        "page=-1", "page=0", "page=99999999999999999999", "page=%D9%A3", "page=2", "&&=&x", "sort",
        "o1", "sort=size", "sort=component",
    ],
)  # fmt: skip
def test_what_means_nothing_is_as_none_at_all(either: Store, query: str) -> None:
    assert body_of(either, "/gpc1/", query) == body_of(either, "/gpc1/")


# --- pages -----------------------------------------------------------------------------------


@pytest.fixture(params=["store", "tree"])
def long_list(
    request: pytest.FixtureRequest, registry: Registry, store: RegisteredStore, tmp_path: Path
) -> Store:
    """A store whose product gpc1 has 2507 filesets."""
    registry.fill("gpc1", [(f"f{n:04}", "chip", str(n), None) for n in range(2500)])
    if request.param == "store":
        return store
    (tmp_path / "long/gpc1").mkdir(parents=True)
    (tmp_path / "long/gpc1/index.txt").write_bytes(body_of(store, "/gpc1/index.txt"))
    return Tree(tmp_path / "long")


@pytest.mark.parametrize("query", ["", "sort=-name"])
def test_links_lead_through_all_pages(long_list: Store, query: str) -> None:
    names: list[str] = []
    page = page_of(long_list, "/gpc1/", query)
    assert page.text.count("rows 1&ndash;1,000") == 1
    assert {"First", "Previous"}.isdisjoint(page.links)
    counts = [len(page.names)]
    names += page.names
    while "Next" in page.links:
        page = page_of(long_list, "/gpc1/", page.links["Next"].removeprefix("?"))
        counts.append(len(page.names))
        names += page.names
    assert counts == [1000, 1000, 507]
    everything = [*BY[""], *(f"f{n:04}" for n in range(2500))]
    assert names == (sorted(everything, reverse=True) if query else everything)
    assert page.links["First"] == ("?sort=-name" if query else "./")
    assert page.links["Previous"].endswith("page=2")
    assert "Page 3 of 3" in page.text
    assert "rows 2,001&ndash;2,507" in page.text
    assert "Last" not in page.links


def test_beyond_the_last_page_is_the_last(long_list: Store) -> None:
    assert page_of(long_list, "/gpc1/", "page=900").names[-1] == "f2499"


def test_a_long_list_in_a_file_is_shown_as_registered(tmp_path: Path) -> None:
    rows = [f"o{n}|2026-11-21T03:04:05Z|OBJECT|\n" for n in range(SORTED + 1)]
    (tmp_path / "p").mkdir()
    path = tmp_path / "p/index.txt"
    header = "# filesetID|time registered|type|\n"
    path.write_text(header + "".join(rows))
    page = page_of(Tree(tmp_path), "/p/", "sort=-name&page=21")
    assert (page.names, page.buttons) == ([f"o{SORTED}"], {})
    path.write_text(header + "".join(rows[1:]))
    page = page_of(Tree(tmp_path), "/p/", "sort=-name")
    assert page.names[0] == "o9999"


_LINES = st.sampled_from(
    ["", " ", "\t \r", "# comment", " # x", "# filesetID|time registered|type|",
     "# filesetID|time registered|type|a|", "a|2026-11-21T03:04:05Z|OBJECT|",
     "  b|2026-11-21T03:04:05Z|OBJECT|x|", "c|bad|OBJECT|\r", "|", "wrong"]
)  # fmt: skip


@given(st.lists(_LINES, max_size=30), st.booleans(), st.integers(1, 60), st.data())
@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    max_examples=200,
)
def test_rows_in_a_file_are_found_where_they_are(
    tmp_path: Path, texts: list[str], ended: bool, chunk: int, data: st.DataObject
) -> None:
    body = ("\n".join(texts) + "\n" * ended).encode()
    path = tmp_path / "list"
    path.write_bytes(body)
    expected = list(read_filesets([body]))
    with pytest.MonkeyPatch.context() as patch, path.open("rb") as opened:
        patch.setattr(lines, "CHUNK", chunk)
        marks, total = skim(opened.fileno(), len(body))
        assert total == len(expected)
        if not expected:
            return
        at = data.draw(st.integers(0, total - 1))
        mark = _seek(opened.fileno(), len(body), marks, at)
        rows, _ = _read(opened.fileno(), len(body), 1, mark, total)
    assert [(row.text, row.line) for row in rows] == [(row.text, row.line) for row in expected[at:]]
    assert [row.columns() for row in rows if isinstance(row, Row)] == [
        row.columns() for row in expected[at:] if isinstance(row, Row)
    ]


def test_views_are_read_and_written_alike() -> None:
    for view in (View(), View("a b&c=+é", True, 7), View("time"), View(page=2)):
        assert parse_view(view.at(view.page).removeprefix("./").removeprefix("?")) == view


def test_a_part_of_a_short_list_knows_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "list"
    path.write_text("# fileID|bytes|md5sum|type|\na|5||fits|\nb|6||fits|\n")
    with path.open("rb") as opened:
        assert part_of(opened.fileno(), 2, "").size == 11


# --- programs that look at pages -------------------------------------------------------------


@contextmanager
def serving(store: Store) -> Iterator[str]:
    """Answer GET by a store over loopback, as far as a program that looks at pages needs it."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path, _, query = self.path.partition("?")
            with store.find(path, query, VISITOR) as answer:
                match answer:
                    case Stream(media, chunks):
                        self.reply(200, b"".join(chunks), ("Content-Type", media))
                    case File(descriptor=descriptor):
                        with open(descriptor, "rb", closefd=False) as opened:
                            self.reply(200, opened.read())
                    case Moved(location):
                        self.reply(301, b"", ("Location", location))
                    case _:
                        self.reply(404, b"")

        def reply(self, status: int, body: bytes, *fields: tuple[str, str]) -> None:
            self.send_response(status)
            fields += (("Content-Security-Policy", POLICY), ("Content-Length", str(len(body))))
            for name, value in fields:
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def small(tmp_path: Path) -> Iterator[str]:
    """The address of a store with two filesets of files, and one of 1200 without."""
    (tmp_path / "small").mkdir()
    place = SqliteFile(tmp_path / "small.db")
    with catalogue(place, create=True) as database:
        registry = Registry(database, place, tmp_path / "small")
        add_product(database, "gpc1", "ipp-dist", "Test exposures", ("stage",))
        for name in ("o1", "o2"):
            registry.register("gpc1", name, {"a.fits": b"1", "b c.fits": b"22"})
        registry.fill("gpc1", [(f"f{n}", "chip") for n in range(1200)])
        with registry.store() as store, serving(store) as address:
            yield address


def test_chromium_renders_a_page_in_the_order_asked_for(small: str, tmp_path: Path) -> None:
    page = Page(browse(tmp_path, "--dump-dom", f"{small}/gpc1/o1/?sort=-size"))
    assert page.names == ["b c.fits", "a.fits"]
    assert page.sorted == {"1": "descending"}
    assert "script" not in page.tags


@pytest.mark.parametrize(
    "options", [[], ["--blink-settings=preferredColorScheme=0"]], ids=["light", "dark"]
)
def test_chromium_draws_a_page(small: str, tmp_path: Path, options: list[str]) -> None:
    shot = tmp_path / "shot.png"
    browse(tmp_path, *options, "--window-size=800,600", f"--screenshot={shot}", f"{small}/gpc1/")
    data = shot.read_bytes()
    assert data.startswith(b"\x89PNG")
    # An empty page of this size packs into 3 kB.
    assert len(data) > 10_000


def test_wget_finds_everything_through_the_pages(small: str, tmp_path: Path) -> None:
    wget = shutil.which("wget")
    if wget is None:
        pytest.skip("no wget here")
    target = tmp_path / "got"
    command = [wget, "-q", "-r", "-np", "-nH", "-l", "9", "-e", "robots=off", "-P", str(target),
               "--reject-regex", "/f[0-9]+/", f"{small}/gpc1/"]  # fmt: skip
    subprocess.run(command, check=True, timeout=PATIENCE)
    got = {str(path.relative_to(target)) for path in target.rglob("*") if path.is_file()}
    files = {
        f"gpc1/{fileset}/{name}" for fileset in ("o1", "o2") for name in ("a.fits", "b c.fits")
    }
    assert files <= got
    assert (target / "gpc1/o2/b c.fits").read_bytes() == b"22"
    assert "gpc1/index.html?page=2" in got
    assert not [name for name in got if "sort" in name]
