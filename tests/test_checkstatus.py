"""`checkstatus`: what destinations report, read from their Data Stores and marked here."""

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import faults
import pytest
from client import PATIENCE, Ran
from places import environment_of
from publisher import Publisher
from simulator import Action, Product, Simulator
from wire import Answer, Connection, Request

from mirror.errors import ConfigError
from server.catalogue import catalogue
from server.database import Database
from server.distribution import checkstatus
from server.distribution.status_list import read_source
from server.site import Place, SqliteFile
from server.store_lock import hold_work

COLUMNS = ("fileset name", "fault")


class Office:
    """A site that distributes o1, o2 … to destinations, and wants to know what arrived."""

    def __init__(self, directory: Path, database: Database, place: Place) -> None:
        self.publisher = Publisher(directory / "office", environment_of(place))
        self.database = database
        self.numbers: dict[str, int] = {}
        self.change("INSERT INTO distTarget (dist_group, filter, stage, clean, state)"
                    " VALUES ('g', '%', 'chip', 0, 'enabled')")  # fmt: skip
        for number in range(1, 6):
            self.change(
                "INSERT INTO distRun (target_id, stage, stage_id, outdir, clean, state)"
                " VALUES (1, 'chip', ?, '/out', 0, 'full')", number,
            )  # fmt: skip

    def change(self, sql: str, *values: object) -> None:
        with self.database.write():
            self.database.change(sql, *values)

    def destination(self, name: str, status_uri: str | None, state: str = "enabled") -> int:
        """A destination to which o1 to o5 were distributed; returns its number."""
        row = self.database.row(
            "INSERT INTO rcDestination (name, product, status_uri, state) VALUES (?, ?, ?, ?)"
            " RETURNING dest_id", name, name, status_uri, state,
        )  # fmt: skip
        assert row
        for number in range(1, 6):
            self.change(
                "INSERT INTO rcDSFileset (dist_id, dest_id, name, state) VALUES (?, ?, ?, 'full')",
                number, row[0], f"o{number}",
            )  # fmt: skip
        return int(row[0])

    def check(self, *options: str, **environ: str) -> Ran:
        before = dict(os.environ)
        os.environ.update(environ)
        try:
            return self.publisher.command("checkstatus", *options)
        finally:
            os.environ.clear()
            os.environ.update(before)

    def marks(self, destination: str = "north") -> dict[str, tuple[Any, ...]]:
        """Of each marked fileset: state, fault, the report."""
        rows = self.database.rows(
            "SELECT f.name, r.state, r.fault, r.status_fs_name FROM rcRun r"
            " JOIN rcDSFileset f ON f.fs_id = r.fs_id"
            " JOIN rcDestination d ON d.dest_id = r.dest_id WHERE d.name = ?", destination,
        )  # fmt: skip
        return {row[0]: row[1:] for row in rows}

    def last(self, destination: str = "north") -> str | None:
        row = self.database.row(
            "SELECT last_fileset FROM rcDestination WHERE name = ?", destination
        )
        assert row
        return None if row[0] is None else str(row[0])


@pytest.fixture
def any_office(tmp_path: Path, place: Place) -> Iterator[Office]:
    """The office on each database."""
    with catalogue(place, create=True) as database:
        yield Office(tmp_path, database, place)


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    place = SqliteFile(tmp_path / "office.db")
    with catalogue(place, create=True) as database:
        yield Office(tmp_path, database, place)


@pytest.fixture
def north(simulator: Simulator) -> Product:
    """The status product of the destination north."""
    return simulator.product("status", columns=COLUMNS)


def report(product: Product, name: str, fault: str = "0", called: str | None = None) -> None:
    product.add(called or name, columns=(name, fault), type="notset")


FULL, FAULTY = ("full", 0), ("new", 1)


def test_reports_mark_what_was_received_and_what_was_not(
    any_office: Office, simulator: Simulator, north: Product
) -> None:
    any_office.destination("north", f"{simulator.url}/status")
    for name, fault in (("o1", "0"), ("o2", "1"), ("o9", "0")):
        report(north, name, fault)
    assert any_office.check() == Ran(0, "north: 1 full, 1 faulty\n", "")
    assert any_office.marks() == {"o1": (*FULL, "o1"), "o2": (*FAULTY, "o2")}
    assert any_office.last() == "o9"
    message = any_office.database.row("SELECT message FROM rcRun WHERE fault <> 0")
    assert message == ("fault 1 reported by o2",)
    assert any_office.check("-v").stdout == "north: nothing new\n"
    assert simulator.requests[-1].query == "o9"


def test_a_later_report_overrides_an_earlier_one(
    any_office: Office, simulator: Simulator, north: Product
) -> None:
    any_office.destination("north", f"{simulator.url}/status")
    report(north, "o1", "1")
    report(north, "o2", "0")
    assert any_office.check().stdout == "north: 1 full, 1 faulty\n"
    report(north, "o1", "0", called="o1.2")
    report(north, "o2", "3", called="o2.2")
    report(north, "o2", "0", called="o2.3")
    assert any_office.check().stdout == "north: 2 full\n"
    assert any_office.marks() == {"o1": (*FULL, "o1.2"), "o2": (*FULL, "o2.3")}


def test_unknown_names_are_told_to_who_asks(
    office: Office, simulator: Simulator, north: Product
) -> None:
    office.destination("north", f"{simulator.url}/status")
    report(north, "elsewhere")
    assert office.check("-v").stdout == (
        "north: nothing new\nnorth: 1 reports of filesets that are not distributed to it\n"
    )
    assert office.last() == "elsewhere"


def test_columns_are_found_by_their_names(
    office: Office, simulator: Simulator, north: Product
) -> None:
    office.destination("north", f"{simulator.url}/status")
    simulator.arrange = lambda names: reversed(names)
    report(north, "o1")
    assert office.check().stdout == "north: 1 full\n"
    assert office.marks() == {"o1": (*FULL, "o1")}


def test_a_list_without_the_columns_is_trouble(office: Office, simulator: Simulator) -> None:
    office.destination("north", f"{simulator.url}/gpc1")
    simulator.product("gpc1", columns=("stage",)).add("o1", columns=("chip",))
    ran = office.check()
    assert (ran.exit, ran.stdout) == (1, "")
    assert "checkstatus: north: this is no status product: its list has no column" in ran.stderr
    assert office.last() is None


@pytest.mark.parametrize("end", ["/status", "/status/", "/status/index.txt"])
def test_every_form_of_an_address_will_do(
    office: Office, simulator: Simulator, north: Product, end: str
) -> None:
    office.destination("north", simulator.url + end)
    report(north, "o1")
    assert office.check().stdout == "north: 1 full\n"
    assert simulator.requests[-1].path == "/status/index.txt"


@pytest.mark.parametrize(
    "uri",
    ["", "status", "ftp://host/status", "http:///status", "http://host/", "http://host:x/status",
     "http://host/status?o1", "http://host/sta tus", "file:///etc/passwd"],
)  # fmt: skip
def test_other_addresses_are_refused(uri: str) -> None:
    with pytest.raises(ConfigError, match="an address like http"):
        read_source(uri)


def test_an_address_that_is_none_is_mended_by_the_operator(office: Office) -> None:
    office.destination("north", "ftp://me:secret@host/status")
    ran = office.check()
    assert (ran.exit, ran.stdout) == (1, "")
    assert "not ftp://***@host/status; disttool -updatedestination mends it" in ran.stderr


def test_credentials_are_sent_and_never_told(
    office: Office, simulator: Simulator, north: Product
) -> None:
    report(north, "o1")
    url = simulator.url.replace("//", "//me:se%40cret@")
    office.destination("north", f"{url}/status")
    assert office.check().stdout == "north: 1 full\n"
    assert simulator.requests[-1].headers["authorization"] == "Basic bWU6c2VAY3JldA=="
    simulator.fault("/status/*", faults.status(403), times=None)
    ran = office.check()
    assert ran.exit == 1
    assert "HTTP 403" in ran.stderr
    assert "cret" not in ran.stderr


def test_disabled_destinations_and_those_without_a_status_uri_are_not_asked(
    office: Office, simulator: Simulator, north: Product
) -> None:
    office.destination("north", f"{simulator.url}/status", "disabled")
    office.destination("south", None)
    report(north, "o1")
    assert office.check("-v") == Ran(0, "", "")
    assert simulator.requests == []


def withdraw_last(simulator: Simulator, north: Product) -> None:
    north.withdraw("o2")


def forget_to_look_at_queries(simulator: Simulator, north: Product) -> None:
    simulator.ignore_query = True


def answer_all_if_unknown(simulator: Simulator, north: Product) -> None:
    simulator.whole_if_unknown = True
    north.withdraw("o2")


@pytest.mark.parametrize(
    "change", [withdraw_last, forget_to_look_at_queries, answer_all_if_unknown]
)
def test_news_are_found_in_the_whole_list_too(
    office: Office,
    simulator: Simulator,
    north: Product,
    change: Callable[[Simulator, Product], None],
) -> None:
    office.destination("north", f"{simulator.url}/status")
    report(north, "o1")
    report(north, "o2")
    assert office.check().stdout == "north: 2 full\n"
    change(simulator, north)
    report(north, "o3")
    assert office.check() == Ran(0, "north: 1 full\n", "")
    assert office.last() == "o3"


def test_old_reports_of_a_server_that_ignores_the_query_are_not_marked_again(
    office: Office, simulator: Simulator, north: Product
) -> None:
    office.destination("north", f"{simulator.url}/status")
    report(north, "o1", "1")
    report(north, "o2")
    assert office.check().exit == 0
    office.change("UPDATE rcRun SET state = 'full', fault = 0")  # the operator knows better
    simulator.ignore_query = True
    assert office.check() == Ran(0, "", "")
    assert office.marks()["o1"] == (*FULL, "o1")


MALFORMED = [
    pytest.param(("o2", "minus one"), "a fault from 0", id="fault"),
    pytest.param(("o2", None), "a fault from 0", id="no fault"),
    pytest.param((None, "0"), "no 'fileset name'", id="no name"),
    pytest.param(("o#2", "0"), "a field holds '#'", id="row"),
]


@pytest.mark.parametrize(("columns", "told"), MALFORMED)
def test_a_malformed_row_is_told_until_it_is_mended(
    office: Office,
    simulator: Simulator,
    north: Product,
    columns: tuple[str | None, ...],
    told: str,
) -> None:
    office.destination("north", f"{simulator.url}/status")
    report(north, "o1")
    north.add("broken", columns=columns, type="notset")
    report(north, "o3")
    first = office.check()
    assert (first.exit, first.stdout) == (1, "north: 2 full\n")
    assert "checkstatus: north: line 3 of its list is malformed" in first.stderr
    assert told in first.stderr
    assert office.last() == "o1", "it stops before what it cannot read"
    second = office.check()
    assert (second.exit, second.stdout) == (1, "")
    north.filesets["broken"] = replace(north.filesets["broken"], columns=("o2", "0"))
    assert office.check() == Ran(0, "north: 1 full\n", "")
    assert office.last() == "o3"


TROUBLE = [
    pytest.param(faults.status(404), "HTTP 404; has the site made its status product", id="404"),
    pytest.param(faults.status(503), "HTTP 503", id="503"),
    pytest.param(faults.reset(20), "Connection reset", id="reset"),
    pytest.param(faults.hang_up(-1), "1 bytes of the list are missing", id="short"),
    pytest.param(faults.chunked(7, cut=3), "", id="chunks cut"),
    pytest.param(faults.bad_chunks(), "", id="bad chunks"),
    pytest.param(faults.drop(), "", id="dropped"),
    pytest.param(
        faults.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), "an empty answer", id="empty"
    ),
    pytest.param(faults.redirect_loop(), "HTTP 302, a redirect", id="redirect loop"),
    pytest.param(faults.header_bomb(), "", id="header bomb"),
    pytest.param(faults.raw(b"\x00\xff nonsense\r\n\r\n"), "", id="no http"),
    pytest.param(faults.html(), "a list expected", id="html"),
    pytest.param(faults.redirect("file:///etc/passwd"), "redirect", id="redirect to a file"),
    pytest.param(faults.redirect("ftp://127.0.0.1/x"), "redirect", id="redirect to ftp"),
]


@pytest.mark.parametrize(("action", "told"), TROUBLE)
def test_trouble_with_one_destination_does_not_stop_the_others(
    office: Office, simulator: Simulator, north: Product, action: Any, told: str
) -> None:
    other = simulator.product("other", columns=COLUMNS)
    report(north, "o1")
    report(other, "o2")
    office.destination("north", f"{simulator.url}/status")
    office.destination("south", f"{simulator.url}/other")
    simulator.fault("/status/*", action, times=None)
    ran = office.check()
    assert (ran.exit, ran.stdout) == (1, "south: 1 full\n")
    assert len(ran.stderr.splitlines()) == 1
    assert ran.stderr.startswith("checkstatus: north: ")
    assert told in ran.stderr
    assert (office.marks(), office.last()) == ({}, None)
    simulator.mend()
    assert office.check() == Ran(0, "north: 1 full\n", "")


def test_a_silent_server_is_not_waited_for(
    office: Office, simulator: Simulator, north: Product
) -> None:
    office.destination("north", f"{simulator.url}/status")
    simulator.fault("/status/*", faults.stall(PATIENCE), times=None)
    ran = office.check("--timeout", "0.1")
    assert ran.exit == 1
    assert "timed out" in ran.stderr


def dripping(begin: bytes, piece: bytes) -> Action:
    """An answer that begins like this and goes on with `piece`, steadily, until nobody reads it."""

    def act(connection: Connection, _request: Request, _answer: Answer) -> None:
        connection.write(begin)
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            connection.write(piece)
            connection.wait(0.02)

    return act


CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n"
ROW = b"# filesetID|time registered|type|fileset name|fault|\ns|2009-04-15T01:22:12Z|notset|o1|0|\n"
DRIPS: dict[str, tuple[bytes, bytes]] = {
    "status line": (b"HTTP/1.1 200 ", b"O"),
    "header": (b"HTTP/1.1 200 OK\r\nX-A: ", b"a"),
    "size of a chunk": (CHUNKED, b"0"),
    "trailers": (CHUNKED + b"%x\r\n%b\r\n0\r\n" % (len(ROW), ROW), b"X: y\r\n"),
    "body": (b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n", b"#"),
}  # fmt: skip


# All of an answer has no more time than each of its pieces. So a busy machine has enough for the
# list of another destination, and the test ends soon.
HASTY = """if True:
    import sys
    from server.__main__ import main
    from server.distribution import status_list
    status_list.PATIENCE = 1
    sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize(("begin", "piece"), DRIPS.values(), ids=DRIPS)
def test_an_answer_that_only_drips_is_given_up(
    office: Office, simulator: Simulator, north: Product, begin: bytes, piece: bytes
) -> None:
    other = simulator.product("other", columns=COLUMNS)
    report(other, "o2")
    office.destination("north", f"{simulator.url}/status")
    office.destination("south", f"{simulator.url}/other")
    simulator.fault("/status/*", dripping(begin, piece), times=None)
    ran = office.publisher.command("checkstatus", "--timeout", "2", program=("-c", HASTY))
    assert (ran.exit, ran.stdout) == (1, "south: 1 full\n")
    assert len(ran.stderr.splitlines()) == 1
    assert "/status/index.txt: the answer did not end within 2 s" in ran.stderr
    assert (office.marks(), office.last()) == ({}, None)


def test_what_comes_with_a_redirect_is_not_read(
    office: Office, simulator: Simulator, north: Product
) -> None:
    report(north, "o1")
    office.destination("north", f"{simulator.url}/moved")
    moved = b"HTTP/1.1 302 x\r\nLocation: /status/index.txt\r\nContent-Length: 1000000\r\n\r\n"
    simulator.fault("/moved/*", dripping(moved, b"x"), times=None)
    assert office.check() == Ran(0, "north: 1 full\n", "")


def test_what_was_cut_is_asked_for_once_more(
    office: Office, simulator: Simulator, north: Product
) -> None:
    office.destination("north", f"{simulator.url}/status")
    for number in (1, 2, 3):
        report(north, f"o{number}")
    simulator.fault("/status/*", faults.reset(150))
    assert office.check() == Ran(0, "north: 3 full\n", "")
    assert simulator.count("/status/*") == 2


def test_a_redirect_to_http_is_followed(
    office: Office, simulator: Simulator, north: Product
) -> None:
    report(north, "o1")
    office.destination("north", f"{simulator.url}/moved")
    target = f"{simulator.url}/status/index.txt"
    simulator.fault("/moved/*", faults.redirect(target), times=None)
    assert office.check() == Ran(0, "north: 1 full\n", "")


def test_more_than_a_page_is_marked_page_by_page(
    office: Office,
    simulator: Simulator,
    north: Product,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(checkstatus, "PAGE", 2)
    number = office.destination("north", f"{simulator.url}/status")
    for each in range(1, 6):
        report(north, f"o{each}", str(each % 2))
    news = checkstatus.News()
    destination = checkstatus.Destination(number, "north", f"{simulator.url}/status", None)
    checkstatus.check(office.database, destination, news)
    assert (news.full, news.faulty, office.last()) == (2, 3, "o5")
    assert len(office.marks()) == 5


def test_one_process_at_a_time(office: Office, simulator: Simulator, north: Product) -> None:
    office.destination("north", f"{simulator.url}/status")
    with hold_work(office.publisher.root, "checkstatus"):
        ran = office.check()
    assert ran.exit == 1
    assert "checkstatus: another process is working on it" in ran.stderr


def test_no_proxy_is_respected(office: Office, simulator: Simulator, north: Product) -> None:
    office.destination("north", f"{simulator.url}/status")
    report(north, "o1")
    dead = {"http_proxy": "http://127.0.0.1:1", "no_proxy": ""}
    assert office.check(**dead).exit == 1
    assert office.check(**dead | {"no_proxy": "127.0.0.1"}).stdout == "north: 1 full\n"


def test_what_a_mirror_reports_is_what_is_marked(tmp_path: Path, office: Office) -> None:
    own = Publisher(tmp_path / "own")
    lines = "o1|o1|1|\no2|o2|0|\no1.2|o1|0|\n"
    own.must("addstatus", "--product", "status", "--list", "-", stdin=lines)
    with own.serving() as url:
        office.destination("north", f"{url}status")
        assert office.check() == Ran(0, "north: 2 full\n", "")
    assert office.marks() == {"o1": (*FULL, "o1.2"), "o2": (*FULL, "o2")}
