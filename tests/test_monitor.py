"""The monitor of `serve --monitor`: what its pages show, the picture of the night, and who may
see them."""

import re
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from contextlib import ExitStack
from html.parser import HTMLParser
from pathlib import Path

import pytest
from boards import TYPE, BoardSite, board_site, fill, join
from browser import browse
from served import Process, run_server, serving

from formats.stage_file import read_stage_file
from mirror.errors import ConfigError
from server.blackboard import BOARD_FILE, History, Key
from server.http.front import Front, at_home
from server.http.request import Request, parse_head
from server.opus.monitor import NIGHT, Monitor, changes_of, night_of, parse
from server.opus.monitor_pages import Chosen
from server.opus.night import KINDS, STEPS, Change, Picture, draw, picture
from server.opus.overview import look
from server.site import Place, SqliteFile
from server.views.answers import Absent, Answer, Moved, Stream, Visitor
from server.views.tree import Tree

HERE = Visitor("127.0.0.1")
END = 1_800_000_000.0
"""2027-01-15T08:00:00Z."""


class Page(HTMLParser):
    """A page as it is read: its tables by their first head, and its tags."""

    def __init__(self, body: bytes) -> None:
        super().__init__()
        self.text = body.decode()
        self.tags: list[str] = []
        self.tables: list[list[list[str]]] = []
        self._cell = False
        self.feed(self.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
            self._cell = True

    def handle_endtag(self, tag: str) -> None:
        self._cell = self._cell and tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        if self._cell:
            self.tables[-1][-1][-1] += data

    def table(self, head: str) -> list[list[str]]:
        """The rows of the table whose first head is `head`."""
        return next((rows[1:] for rows in self.tables if rows[0][0] == head), [])


@pytest.fixture
def site(tmp_path: Path, place: Place) -> BoardSite:
    return board_site(tmp_path, place)


@pytest.fixture
def files(tmp_path: Path) -> BoardSite:
    """A path whose board is a file, with two datasets, one of them in trouble."""
    made = board_site(tmp_path, SqliteFile(tmp_path))
    with made.board() as board:
        fill(board, 2)
        board.update(Key("fs1", TYPE), {"LI": "c", "FE": "x"})
    return made


def monitor_of(site: BoardSite) -> Monitor:
    environ = {**site.environ, "OPUS_DEFINITIONS_DIR": str(site.directory)}
    return Monitor([], environ)


def ask(monitor: Monitor, path: str, query: str = "") -> Answer:
    with monitor.find(path, query, HERE) as answer:
        return answer


def page(monitor: Monitor, path: str, query: str = "") -> Page:
    answer = ask(monitor, path, query)
    assert isinstance(answer, Stream)
    body = b"".join(answer.chunks)
    assert len(body) == answer.length
    return Page(body)


# --- what the pages show ---------------------------------------------------------------------


def test_the_page_of_a_path(site: BoardSite) -> None:
    with site.board() as board:
        holder = join(board)
        board.report(holder, "busy", "fs0 <fst> 000")
        board.wish(holder, "halt")
        fill(board, 3)
        board.update(Key("fs1", TYPE), {"LI": "c", "FE": "P"})
        shown = page(monitor_of(site), "/monitor/blue/")
    assert [row[0] for row in shown.table("Dataset")] == ["fs2", "fs1", "fs0"]
    assert shown.table("Dataset")[1][4:] == ["c", "P", "_"]
    assert shown.table("Stage")[1] == ["FE", "", "W 2 WaitingP 1 Fetching"]
    (process,) = shown.table("Process")
    assert [process[at] for at in (0, 1, 2, 4, 6, 7)] == [
        f"fetch {holder}", "PRO", "busy", board.host, "halt", "fs0 <fst> 000",
    ]  # fmt: skip
    assert '<b class="kP" title="Fetching">P</b>' in shown.text
    assert "processes 1: 1 busy" in shown.text


def test_the_page_of_all_paths(files: BoardSite) -> None:
    """One that is wrong keeps nobody from seeing the others."""
    (files.directory / "amber.path").write_text("NOTHING = <b>\n")
    shown = page(monitor_of(files), "/monitor/")
    assert '<h2><a href="blue/">blue</a></h2>' in shown.text
    assert "<h2>amber</h2>" in shown.text
    assert "OPUS_OBSERVATIONS_DIR: required" in shown.text
    assert "2 datasets" in shown.text
    wrong = page(monitor_of(files), "/monitor/amber/")
    assert "OPUS_OBSERVATIONS_DIR: required" in wrong.text


@pytest.mark.parametrize("path", ["/monitor/", "/monitor/blue/"])
def test_a_damaged_board_is_told(files: BoardSite, path: str) -> None:
    (files.observations / BOARD_FILE).write_bytes(b"no database" * 999)
    assert "file is not a database; it is damaged" in page(monitor_of(files), path).text


@pytest.mark.parametrize("path", ["/monitor/", "/monitor/blue/"])
def test_pages_run_nothing_and_fetch_nothing(files: BoardSite, path: str) -> None:
    shown = page(monitor_of(files), path)
    assert not {"script", "img", "link", "iframe", "object", "use", "image"} & set(shown.tags)
    assert not re.search(r"\bon\w+=|url\(|@import|https?:", shown.text)
    assert shown.text.startswith("<!DOCTYPE html>")
    assert shown.text.endswith("</html>\n")


def test_names_that_are_markup_are_shown_as_they_are(files: BoardSite) -> None:
    with files.board() as board:
        board.create(Key("<b>&\"'x", TYPE), {"FE": "w"})
    shown = page(monitor_of(files), "/monitor/blue/", "f=%3Cb%3E*&t=%22%3E%3Ci%3E")
    assert 'value="&lt;b&gt;*"' in shown.text
    assert 'value="&quot;&gt;&lt;i&gt;"' in shown.text
    shown = page(monitor_of(files), "/monitor/blue/")
    assert shown.table("Dataset")[0][0] == "<b>&\"'x"
    assert "<b>&" not in shown.text


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("", ["fs1", "fs0"]),
        ("f=*0", ["fs0"]),
        ("t=raw", []),
        ("s=FE%3Dx", ["fs1"]),
        ("s=FE=w,LI=_", ["fs0"]),
        ("s=ZZ%3Dx", ["fs1", "fs0"]),
        ("s=nonsense", ["fs1", "fs0"]),
        ("f=+&t=&s=", ["fs1", "fs0"]),
        ("every=30", ["fs1", "fs0"]),
        ("%ff&=&f", ["fs1", "fs0"]),
    ],
)
def test_filters(files: BoardSite, query: str, names: list[str]) -> None:
    """What is wrong is told, and all is shown."""
    shown = page(monitor_of(files), "/monitor/blue/", query)
    assert [row[0] for row in shown.table("Dataset")] == names
    assert ('class="bad"' in shown.text) == ("ZZ" in query or "nonsense" in query)
    # The stages and the picture are of everything, whatever is chosen.
    assert shown.table("Stage")[1][2] == "W 1 WaitingX 1 Trouble"


@pytest.mark.parametrize(
    ("query", "refresh"), [("", "5"), ("every=30", "30"), ("every=0", None), ("every=1", "5")]
)
def test_how_often_the_browser_asks_again(
    files: BoardSite, query: str, refresh: str | None
) -> None:
    shown = page(monitor_of(files), "/monitor/blue/", query)
    found = re.search(r'http-equiv="refresh" content="(\d+)"', shown.text)
    assert (found and found[1]) == refresh


@pytest.mark.parametrize(
    "chosen", [Chosen(), Chosen("a b&c=+é", "t", "FE=x", 30), Chosen(every=0), Chosen(states="x")]
)
def test_what_is_chosen_stays_in_the_address(chosen: Chosen) -> None:
    assert parse(chosen.query(chosen.every).removeprefix("./").removeprefix("?")) == chosen


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("/monitor", Moved("/monitor/")),
        ("/monitor/blue", Moved("/monitor/blue/")),
        ("/monitor/green", Absent("no path of this name")),
        ("/monitor/green/", Absent("no path of this name")),
        ("/monitor/blue/x", Absent("no path of this name")),
        ("/monitor/../blue/", Absent("no path of this name")),
        ("/monitor//", Absent("no path of this name")),
    ],
)
def test_addresses(files: BoardSite, path: str, answer: Answer) -> None:
    assert ask(monitor_of(files), path) == answer


def test_a_path_without_a_board_is_empty_and_stays_so(tmp_path: Path) -> None:
    site = board_site(tmp_path, SqliteFile(tmp_path))
    shown = page(monitor_of(site), "/monitor/blue/")
    assert "No such datasets" in shown.text
    assert "No processes yet" in shown.text
    assert not site.observations.exists()


def test_many_browsers_cost_no_more_than_one(files: BoardSite) -> None:
    monitor = monitor_of(files)
    first = page(monitor, "/monitor/blue/").text
    with files.board() as board:
        board.create(Key("late", TYPE), {})
    assert page(monitor, "/monitor/blue/").text == first
    assert "late" in page(monitor, "/monitor/blue/", "every=0").text


# --- the picture of the night ----------------------------------------------------------------


def layers(shown: Picture, title: str, kind: str) -> list[int]:
    """Of how many datasets a stage was of this kind, each number once as long as it lasts."""
    band = next(band for band in shown.bands if band.stage.title == title)
    layer = band.layers[KINDS.index(kind)]
    return [n for at, n in enumerate(layer) if at == 0 or n != layer[at - 1]]


def test_a_picture_is_worked_out_backwards(files: BoardSite) -> None:
    stages = read_stage_file(files.directory / "blue.stage").stages
    changes = [
        Change(END - 10, "FE", "P", "c"), Change(END - 20, "FE", "w", "p"),
        Change(END - 30, "FE", "_", "w"), Change(END - 40, "ZZ", "_", "w"),
        Change(END - 50, "DN", "c", "_"), Change(END - 900, "LI", "_", "c"),
    ]  # fmt: skip
    counts = {"LI": {"C": 3}, "FE": {"C": 2, "?": 7, "_": 1}, "DN": {}}
    shown = picture(stages, counts, changes, END - 100, END)
    assert layers(shown, "LI", "C") == [3]
    assert layers(shown, "FE", "C") == [1, 2]
    assert layers(shown, "FE", "P") == [0, 1, 0]
    assert layers(shown, "FE", "N") == [0, 1, 0]
    assert layers(shown, "DN", "C") == [1, 0]
    assert shown.most == 3
    band = shown.bands[1]
    assert [len(layer) for layer in band.layers] == [STEPS + 1] * len(KINDS)
    # At END - 25, three quarters of the way, it waits.
    assert band.layers[KINDS.index("N")][STEPS * 3 // 4] == 1


KEY = Key("fs0", TYPE)


def _history(seconds: float, stage: str | None, before: str | None, after: str | None, what: str
) -> History:  # fmt: skip
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(END - seconds))
    return History(at, "h", "p", KEY, stage, before, after, what)


def test_what_was_deleted_was_there_before(files: BoardSite) -> None:
    stages = read_stage_file(files.directory / "blue.stage")
    history = [
        _history(30, None, None, None, "created"), _history(30, "FE", "_", "w", "created"),
        _history(20, "FE", "w", "c", "updated"), _history(10, None, None, None, "deleted"),
        _history(5, "FE", "_", "w", "created"),
    ]  # fmt: skip
    assert changes_of(history, stages) == [
        Change(END - 5, "FE", "_", "w"), Change(END - 10, "FE", "c", "_"),
        Change(END - 20, "FE", "w", "c"), Change(END - 30, "FE", "_", "w"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("ages", "begin"),
    [
        ([], NIGHT * 1.02),
        ([1000, 10], 1020),
        ([2 * NIGHT, 10], NIGHT * 1.02),
        ([3, 1], 10),
    ],
    ids=["nothing", "a short night", "older", "just begun"],
)
def test_when_a_picture_begins(files: BoardSite, ages: list[float], begin: float) -> None:
    """The first change of the last day."""
    history = [_history(age, "FE", "w", "w", "updated") for age in ages]
    shown = night_of(history, look(files.directory / "blue.path", {}), END)
    assert END - shown.begin == pytest.approx(begin, abs=0.1)
    assert shown.end == END


def test_the_board_and_its_history_agree(site: BoardSite) -> None:
    """Undone to its beginning, a night has nothing in it."""
    with site.board() as board:
        fill(board, 5)
        board.update(Key("fs1", TYPE), {"FE": "P", "DN": "c"})
        board.update(Key("fs1", TYPE), {"FE": "x", "LI": "_"})
        board.delete(Key("fs2", TYPE))
        board.delete(Key("fs1", TYPE))
        board.create(Key("fs1", TYPE), {"FE": "c"})
        changes = changes_of(board.history(), board.stages)
        seen = look(site.directory / "blue.path", site.environ)
    since = min(change.at for change in changes) - 10
    shown = picture(seen.stages.stages, seen.counts, changes, since, since + 3600)
    assert [sum(layer[0] for layer in band.layers) for band in shown.bands] == [0, 0, 0]
    assert layers(shown, "FE", "C") == [0, 1]
    assert layers(shown, "FE", "N")[-1] == 3


def test_an_svg_fits_its_frame(files: BoardSite) -> None:
    stages = read_stage_file(files.directory / "blue.stage").stages
    changes = [Change(END - n, "FE", "w", "c") for n in range(0, 3000, 7)]
    counts = {"FE": {"C": len(changes), "X": 3}, "LI": {}, "DN": {}}
    text = draw(picture(stages, counts, changes, END - 3600, END))
    svg = ET.fromstring(text)
    width, height = map(float, svg.attrib["viewBox"].split()[2:])
    drawn = [path.attrib["d"] for path in svg.iter("path")]
    assert {path.attrib["class"] for path in svg.iter("path")} == {"kC", "kT", "kN", "tick"}
    for path in drawn:
        for command, numbers in re.findall(r"([MLHV])([\d. ]+)", path):
            values = [float(number) for number in numbers.split()]
            across, down = (values[:1], values[1:]) if command in "ML" else (
                (values, []) if command == "H" else ([], values)
            )  # fmt: skip
            assert all(0 <= value <= width for value in across)
            assert all(0 <= value <= height for value in down)
    assert [one.text for one in svg.iter("text") if one.get("class") == "time"] == [
        "07:00", "07:10", "07:20", "07:30", "07:40", "07:50", "08:00",
    ]  # fmt: skip


# --- who may see it --------------------------------------------------------------------------


def request(*fields: str, path: str = "/monitor/") -> Request:
    head = "\r\n".join((f"GET {path} HTTP/1.1", *fields))
    return parse_head(head.encode())


@pytest.mark.parametrize(
    ("address", "fields", "home"),
    [
        ("127.0.0.1", ("Host: localhost:8080",), True),
        ("127.0.0.1", ("Host: 127.0.0.1:8080",), True),
        ("127.9.8.7", ("Host: LOCALHOST",), True),
        ("::1", ("Host: [::1]:8080",), True),
        ("::ffff:127.0.0.1", ("Host: localhost",), True),
        ("192.0.2.7", ("Host: localhost",), False),
        ("::2", ("Host: localhost",), False),
        ("junk", ("Host: localhost",), False),
        ("127.0.0.1", ("Host: store.example.org",), False),
        ("127.0.0.1", ("Host: localhost.example.org",), False),
        ("127.0.0.1", ("Host: 192.0.2.7",), False),
        ("127.0.0.1", ("Host:",), False),
        ("127.0.0.1", ("Host: localhost", "X-Forwarded-For: 127.0.0.1"), False),
        ("127.0.0.1", ("Host: localhost", "Forwarded: for=127.0.0.1"), False),
        ("127.0.0.1", ("Host: localhost", "Via: 1.1 proxy"), False),
        ("127.0.0.1", ("Host: localhost", "X-Real-IP: 192.0.2.7"), False),
    ],
)
def test_who_is_at_home(address: str, fields: tuple[str, ...], home: bool) -> None:
    assert at_home(address, request(*fields)) is home


@pytest.mark.parametrize(
    ("path", "base", "everyone", "there", "address", "status"),
    [
        ("/monitor/", (), False, True, "127.0.0.1", 200),
        ("/monitor", (), False, True, "127.0.0.1", 301),
        ("/monitor/", ("ds",), False, True, "127.0.0.1", 200),
        ("/monitor/", (), False, True, "192.0.2.7", 403),
        ("/monitor", (), False, True, "192.0.2.7", 403),
        ("/monitor/", (), True, True, "192.0.2.7", 200),
        ("/monitors/", (), True, True, "192.0.2.7", 404),
        ("/monitor/", (), False, False, "127.0.0.1", 404),
    ],
)
def test_where_and_for_whom(
    files: BoardSite, path: str, base: tuple[str, ...], everyone: bool, there: bool,
    address: str, status: int,
) -> None:  # fmt: skip
    (files.directory / "store").mkdir()
    store = Tree(files.directory / "store")
    front = Front(store, base, monitor=monitor_of(files) if there else None, monitor_open=everyone)
    with ExitStack() as held:
        reply = front.reply(request("Host: localhost", path=path), Visitor(address), held)
    assert reply.status == status
    fields = dict(reply.fields)
    if status == 200:
        assert fields["Content-Security-Policy"].startswith("default-src 'none'; style-src")
        assert fields["Cache-Control"] == "no-store"
    if status == 301:
        assert fields["Location"] == "/monitor/"


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("--host", "0.0.0.0", "--monitor"), "--monitor is for this host alone"),
        (("--host", "::", "--monitor", "blue"), "--monitor is for this host alone"),
        (("--host", "store.example.org", "--monitor"), "--monitor is for this host alone"),
        (("--monitor-open",), "--monitor-open goes with --monitor"),
        (("--monitor", "--base-path", "/monitor"), "the server has a page at /monitor"),
    ],
)
def test_wrong_usage(tmp_path: Path, words: tuple[str, ...], problem: str) -> None:
    status, _, errors = run_server("serve", "--static", str(tmp_path), "--port", "0", *words)
    assert (status, problem in errors) == (2, True)


def test_without_a_path_nothing_is_served(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no path: name one"):
        Monitor([], {})
    with pytest.raises(ConfigError, match=r"green\.path expected"):
        Monitor(["green"], {"OPUS_DEFINITIONS_DIR": str(tmp_path)})


@pytest.fixture
def served(files: BoardSite) -> Iterator[Process]:
    """A server with a monitor, which must have had nothing to complain of."""
    store = files.directory / "store"
    store.mkdir()
    environ = {"OPUS_DEFINITIONS_DIR": str(files.directory)}
    with serving(store, "--monitor", "--workers", "2", environ=environ) as running:
        yield running
    assert (running.process.returncode, running.errors) == (0, "")


def test_served(served: Process) -> None:
    assert served.get("/monitor").status == 301
    answer = served.get("/monitor/blue/")
    assert answer.status == 200
    assert b"<svg" in answer.body
    assert served.get("/monitor/blue/", "HEAD").fields["Content-Length"] == str(len(answer.body))
    assert served.get("/monitor/blue/", Host="store.example.org").status == 403
    assert served.get("/monitor/blue/", X_Forwarded_For="127.0.0.1").status == 403
    assert served.get("/monitor/green/").status == 404


# --- in a browser ----------------------------------------------------------------------------


def test_chromium_renders_a_path(served: Process, tmp_path: Path) -> None:
    address = f"http://127.0.0.1:{served.port}/monitor/blue/?every=0&f=*1"
    shown = Page(browse(tmp_path, "--dump-dom", address))
    assert [row[0] for row in shown.table("Dataset")] == ["fs1"]
    assert "script" not in shown.tags


@pytest.mark.parametrize(
    "options", [[], ["--blink-settings=preferredColorScheme=0"]], ids=["light", "dark"]
)
def test_chromium_draws_the_night(served: Process, tmp_path: Path, options: list[str]) -> None:
    shot = tmp_path / "shot.png"
    address = f"http://127.0.0.1:{served.port}/monitor/blue/?every=0"
    browse(tmp_path, *options, "--window-size=1000,1200", f"--screenshot={shot}", address)
    data = shot.read_bytes()
    assert data.startswith(b"\x89PNG")
    # An empty page of this size packs into 6 kB.
    assert len(data) > 20_000
