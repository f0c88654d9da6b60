"""status_product: what the client reports in its own Data Store, and `addstatus`, which does it."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from urllib.request import urlopen

import faults
import pytest
from client import PATIENCE, PROJECT, MirrorSite, Ran
from places import environment_of
from publisher import Publisher
from simulator import Product, Simulator
from states import queue

from mirror.listing import FilesetRow, read_filesets
from mirror.records import QUEUED, NewFileset
from mirror.state import State
from server.addstatus import read_statuses
from server.site import Place, PostgresServer

SILENT = Ran(0, "", "")
STATUS = "mirror-status"


def reported(publisher: Publisher) -> list[tuple[str, ...]]:
    """The status product as others read it: status fileset, fileset, fault."""
    with publisher.serving() as url, urlopen(f"{url}{STATUS}/index.txt") as answer:
        rows = list(read_filesets([answer.read()]))
    return [(row.name, *row.extra()) for row in rows if isinstance(row, FilesetRow)]


# addstatus


@pytest.fixture
def own(tmp_path: Path, place: Place) -> Publisher:
    """The mirror's own Data Store, on each database."""
    environ: Mapping[str, str] = {}
    if isinstance(place, PostgresServer):
        environ = environment_of(place)
    return Publisher(tmp_path / "own", environ)


def add(publisher: Publisher, lines: str, *options: str) -> Ran:
    return publisher.command("addstatus", "--product", STATUS, "--list", "-", *options, stdin=lines)


def test_addstatus_makes_the_product_and_a_fileset_a_line(own: Publisher) -> None:
    lines = "# ours\n\no1.chip.1.2.1|o1.chip.1.2.1|0|\no2|o2|1|\n"
    assert add(own, lines) == Ran(0, f"registered 2 reports in {STATUS}\n", "")
    assert reported(own) == [("o1.chip.1.2.1", "o1.chip.1.2.1", "0"), ("o2", "o2", "1")]


def test_addstatus_takes_what_is_there_with_the_same_values_for_done(own: Publisher) -> None:
    assert add(own, "o1|o1|0|\n").exit == 0
    again = add(own, "o1|o1|0|\no2|o2|0|\no2|o2|0|\n")
    assert again == Ran(0, f"registered 1 report in {STATUS} (1 more was there)\n", "")
    assert [name for name, *_ in reported(own)] == ["o1", "o2"]


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        pytest.param("o2|o2|0\n", "line 1: STATUS_FILESET|FILESET|FAULT| expected", id="no end"),
        pytest.param("o2|0|\n", "line 1: STATUS_FILESET|FILESET|FAULT| expected", id="columns"),
        pytest.param("o2|o2|-1|\n", "line 1: a fault from 0", id="negative"),
        pytest.param("o2|o2||\n", "line 1: a fault from 0", id="no fault"),
        pytest.param("o2|o2|99999999999|\n", "line 1: a fault from 0", id="too large"),
        pytest.param("o 2|o 2|0|\n", "a name with blanks", id="blank"),
        pytest.param("../x|o2|0|\n", "line 1: fileset: a name with characters", id="traversal"),
        pytest.param(f"{'o' * 256}|o2|0|\n", "a name of 256 bytes", id="too long"),
        pytest.param("o2|o2|0|\nO2|o2|1|\n", "line 2: O2: line 1 has another", id="twice"),
        pytest.param("o2||0|\n", "column fileset name is empty", id="of nothing"),
    ],
)
def test_addstatus_registers_nothing_of_a_list_with_a_wrong_line(
    tmp_path: Path, lines: str, told: str
) -> None:
    publisher = Publisher(tmp_path)
    assert add(publisher, "o1|o1|0|\n").exit == 0
    ran = add(publisher, f"{lines}o9|o9|0|\n")
    assert (ran.exit, ran.stdout) == (3, "")
    assert told in ran.stderr
    assert [name for name, *_ in reported(publisher)] == ["o1"]


def test_addstatus_refuses_a_name_that_says_something_else(own: Publisher) -> None:
    assert add(own, "o1|o1|0|\n").exit == 0
    for line in ("o1|o1|1|\n", "O1|o1|0|\n"):
        ran = add(own, line)
        assert ran.exit == 1
        assert f"{STATUS}/o1: registered already, and says something else" in ran.stderr


def test_addstatus_says_of_each_line_what_became_of_it(own: Publisher) -> None:
    assert add(own, "o1|o1|0|\n").exit == 0
    ran = add(own, "o1|o1|0|\no1|o1|1|\no 2|o 2|0|\no3|o3|0|\n", "--each")
    assert (ran.exit, ran.stderr) == (1, "")
    answers = [line.split("|")[:2] for line in ran.stdout.splitlines()]
    assert answers == [
        ["o1", "registered"], ["o1", "taken"], ["o 2", "refused"], ["o3", "registered"],
    ]  # fmt: skip
    assert [name for name, *_ in reported(own)] == ["o1", "o3"]


def test_addstatus_finds_its_columns_by_their_labels(own: Publisher) -> None:
    own.product(STATUS, "ipp-misc", "fault", "site", "fileset name")
    assert add(own, "o1|o1|5|\n").exit == 0
    assert reported(own) == [("o1", "5", "null", "o1")]


def test_addstatus_refuses_a_product_that_is_something_else(tmp_path: Path) -> None:
    publisher = Publisher(tmp_path)
    publisher.product(STATUS, "ipp-dist", "stage")
    ran = add(publisher, "o1|o1|0|\n")
    assert ran.exit == 3
    assert "is no status product: its columns are 'stage'" in ran.stderr


def test_a_list_may_come_from_a_file(tmp_path: Path) -> None:
    publisher = Publisher(tmp_path)
    path = tmp_path / "list"
    path.write_text("o1|o1|0|\n", encoding="utf-8")
    assert publisher.must("addstatus", "--product", STATUS, "--list", str(path))
    assert "No such file" in add(publisher, "", "--list", str(tmp_path / "no")).stderr
    assert read_statuses(b"\xef\xbb\xbfo1|o1|0|\r\n")[1] == []


# The client


@pytest.fixture
def ours(tmp_path: Path) -> Publisher:
    """The mirror's own Data Store."""
    return Publisher(tmp_path / "own")


@pytest.fixture
def gpc1(simulator: Simulator) -> Product:
    product = simulator.product("gpc1")
    product.add("o1", {"a.fits": b"SIMPLE"})
    product.add("o2", {"a.fits": b"SIMPLE"})
    return product


class ReportingSite:
    """A mirror that reports in a Data Store of its own."""

    def __init__(self, site: MirrorSite, simulator: Simulator, own: Publisher) -> None:
        self.site = site
        self.own = own
        self.url = simulator.url
        self.configure()

    def configure(self, **keys: object) -> None:
        self.site.configure(self.url, **{"status_product": STATUS} | keys)

    def run(self, *options: str, **environ: str) -> Ran:
        """Run from a directory without our modules, as cron does."""
        return self.site.run(*options, environ={"DATA_STORE_ROOT": str(self.own.root)} | environ)

    def reported(self) -> list[tuple[str, ...]]:
        return reported(self.own)


@pytest.fixture
def mirror(
    mirror_site: MirrorSite, simulator: Simulator, gpc1: Product, ours: Publisher
) -> ReportingSite:
    return ReportingSite(mirror_site, simulator, ours)


def test_each_mirrored_fileset_is_reported_once(mirror: ReportingSite, gpc1: Product) -> None:
    assert mirror.run() == SILENT
    assert mirror.reported() == [("o1", "o1", "0"), ("o2", "o2", "0")]
    gpc1.add("o3", {"a.fits": b"SIMPLE"})
    assert mirror.run() == SILENT
    assert mirror.run() == SILENT
    assert [name for name, *_ in mirror.reported()] == ["o1", "o2", "o3"]


def test_what_was_mirrored_before_the_key_was_set_is_reported_too(mirror: ReportingSite) -> None:
    mirror.configure(status_product=None)
    assert mirror.run() == SILENT
    mirror.configure()
    assert mirror.run() == SILENT
    assert [name for name, *_ in mirror.reported()] == ["o1", "o2"]


def test_a_fault_is_reported_once_and_its_end_too(
    mirror: ReportingSite, simulator: Simulator
) -> None:
    simulator.fault("/gpc1/o1/a.fits", faults.status(500), times=None)
    for _ in range(2):
        assert mirror.run().exit == 1
    assert mirror.reported() == [("o1", "o1", "1"), ("o2", "o2", "0")]
    simulator.mend()
    assert mirror.run() == SILENT
    assert mirror.reported()[2:] == [("o1.2", "o1", "0")]


def test_a_fileset_registered_again_is_reported_again(mirror: ReportingSite, gpc1: Product) -> None:
    assert mirror.run() == SILENT
    gpc1.register_again("o1", {"a.fits": b"XTENSION"})
    assert mirror.run().exit == 0
    assert mirror.reported()[2:] == [("o1.2", "o1", "0")]


def test_a_store_that_is_out_of_reach_is_one_line_and_owed(mirror: ReportingSite) -> None:
    ran = mirror.run(DATA_STORE_ROOT=str(mirror.own.root / "no"))
    assert ran.exit == 1
    assert len(ran.stderr.splitlines()) == 1
    assert f"status_product {STATUS}: addstatus: " in ran.stderr
    assert "a directory expected" in ran.stderr
    assert mirror.run() == SILENT
    assert [name for name, *_ in mirror.reported()] == ["o1", "o2"]


def test_status_site_says_where_that_store_is(mirror: ReportingSite, tmp_path: Path) -> None:
    site = tmp_path / "site.mdc"
    site.write_text(f"DATA_STORE_ROOT STR {mirror.own.root}\n", encoding="utf-8")
    mirror.configure(status_site=str(site))
    assert mirror.run(DATA_STORE_ROOT="") == SILENT
    assert [name for name, *_ in mirror.reported()] == ["o1", "o2"]


def test_killed_after_registering_the_same_name_is_sent_again(mirror: ReportingSite) -> None:
    assert mirror.run() == SILENT
    mirror.site.change_state("UPDATE fileset SET reporting = 0, reported = NULL WHERE name = 'o1'")
    assert mirror.run() == SILENT
    assert [name for name, *_ in mirror.reported()] == ["o1", "o2"]


def test_killed_before_registering_a_fault_it_is_told_before_its_end(
    mirror: ReportingSite,
) -> None:
    mirror.configure(status_product=None)
    assert mirror.run() == SILENT
    mirror.configure()
    mirror.site.change_state("UPDATE fileset SET reporting = 1, reports = 1 WHERE name = 'o1'")
    assert mirror.run() == SILENT
    assert sorted(mirror.reported()) == [
        ("o1", "o1", "1"), ("o1.2", "o1", "0"), ("o2", "o2", "0"),
    ]  # fmt: skip


def test_a_state_built_anew_repeats_no_report(mirror: ReportingSite) -> None:
    assert mirror.run() == SILENT
    (mirror.site.private / "state.db").unlink()
    assert mirror.run("--verify", "--repair").exit == 0
    assert mirror.run() == SILENT
    assert [name for name, *_ in mirror.reported()] == ["o1", "o2"]


def test_a_name_that_is_taken_is_passed_over(
    mirror: ReportingSite, simulator: Simulator, gpc1: Product
) -> None:
    assert add(mirror.own, "o1|somebody else|0|\no1.2|somebody else|0|\n").exit == 0
    simulator.product("gpc2").add("o2", {"a.fits": b"SIMPLE"})
    mirror.configure(products=["gpc1", "gpc2"])
    assert mirror.run() == SILENT
    assert sorted(mirror.reported()[2:]) == [
        ("o1.3", "o1", "0"), ("o2", "o2", "0"), ("o2.2", "o2", "0"),
    ]  # fmt: skip


def test_a_name_that_no_store_takes_is_trouble_and_stops_no_other(
    mirror: ReportingSite, gpc1: Product
) -> None:
    gpc1.add("o 3", {"a.fits": b"SIMPLE"})
    gpc1.add("o4", {"a.fits": b"SIMPLE"})
    for _ in range(2):
        ran = mirror.run()
        assert ran.exit == 1
        assert len(ran.stderr.splitlines()) == 1
        assert f"gpc1/o 3: status_product {STATUS}: fileset: a name with blanks" in ran.stderr
    assert [name for name, *_ in mirror.reported()] == ["o1", "o2", "o4"]


def test_more_than_a_page_is_reported_in_one_run(
    mirror: ReportingSite, gpc1: Product, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mirror import status_product

    assert status_product.PAGE == 500
    for number in range(3, 10):
        gpc1.add(f"o{number}", {"a.fits": b"SIMPLE"})
    script = (
        "import sys; from mirror import status_product; status_product.PAGE = 4;"
        "import update_mirror; sys.exit(update_mirror.main())"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script, "-c", str(mirror.site.config)],
        env=mirror.site.environment(
            {"DATA_STORE_ROOT": str(mirror.own.root), "PYTHONPATH": str(PROJECT)}
        ),
        capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert (ran.returncode, ran.stderr) == (0, "")
    assert [name for name, *_ in mirror.reported()] == [f"o{n}" for n in range(1, 10)]


@pytest.mark.parametrize("options", [["--verify"], ["--dry-run"], ["--status"]], ids=" ".join)
def test_who_only_looks_reports_nothing(mirror: ReportingSite, options: list[str]) -> None:
    mirror.configure(status_product=None)
    assert mirror.run() == SILENT
    mirror.configure()
    assert mirror.run(*options).exit == 0
    assert not (mirror.own.root / ".datastore.db").exists()


def test_without_the_server_half_it_says_what_to_install(
    mirror: ReportingSite, tmp_path: Path
) -> None:
    alone = tmp_path / "alone"
    alone.mkdir()
    for name in ("update_mirror.py", "parse_config.py", "mirror", "formats"):
        os.symlink(PROJECT / name, alone / name)
    script = (
        "import sys; sys.modules['__editable__'] = None;"
        f"sys.path[:] = [p for p in sys.path if p != {str(PROJECT)!r}];"
        "sys.meta_path[:] = [m for m in sys.meta_path if '__editable__' not in repr(m)];"
        f"sys.path.insert(0, {str(alone)!r}); import update_mirror; sys.exit(update_mirror.main())"
    )
    ran = subprocess.run(
        [sys.executable, "-P", "-c", script, "-c", str(mirror.site.config)],
        cwd=tmp_path, env=mirror.site.environment(), capture_output=True, text=True,
        timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert ran.returncode == 1
    assert "needs the server half, which is not installed here" in ran.stderr
    assert "pip install update-mirror" in ran.stderr


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ("import_runs: 1", "import_runs: true or false expected, not 1"),
        ("status_product: [a, b]", "status_product: a text expected"),
        ("status_product: a b", "status_product: the name of a product expected, not 'a b'"),
        ("status_product: ../x", "status_product: the name of a product expected, not '../x'"),
        ("status_product: .x", "status_product: the name of a product expected, not '.x'"),
        ("status_product: s\nstatus_site: no.mdc", "status_site: an existing file expected"),
        ("status_site: mirror.yaml", "status_site: status_product, whose site this is, expected"),
    ],
)
def test_keys_that_are_wrong_are_refused(mirror_site: MirrorSite, lines: str, told: str) -> None:
    assert told in mirror_site.refusal(lines)


# What is owed


def owed(state: State) -> list[tuple[str, int]]:
    state.owed.prepare_reports(10)
    return [(report.status_name, report.fault) for report in state.owed.reports(10)]


def settle(state: State) -> None:
    state.owed.settle_reports(state.owed.reports(10), [])


def test_what_is_queued_and_never_failed_is_not_reported(state: State) -> None:
    queue(state, "o1")
    assert owed(state) == []


def test_one_fault_is_one_report_until_it_is_mended(state: State) -> None:
    (number,) = queue(state, "o1")
    state.fail(number, 1, "no such host", None)
    assert owed(state) == [("o1", 1)]
    settle(state)
    state.fail(number, 2, "another", None)
    assert owed(state) == []
    state.set_states([("done", number)])
    assert owed(state) == [("o1.2", 0)]
    assert owed(state) == [("o1.2", 0)], "until it is known to be registered"
    settle(state)
    assert owed(state) == []


def test_what_upstream_withdrew_is_not_reported_as_a_failure(state: State) -> None:
    (number,) = queue(state, "o1")
    state.fail(number, 1, "gone", None)
    state.mark_gone([number])
    assert owed(state) == []


def test_a_later_registration_makes_a_report_on_its_way_void(state: State) -> None:
    (number,) = queue(state, "o1")
    state.set_states([("done", number)])
    assert owed(state) == [("o1", 0)]
    header = state.header_id("")
    state.replace(number, NewFileset(9, "o1", "later", "", header, "", QUEUED))
    assert owed(state) == []
    state.set_states([("done", 9)])
    assert owed(state) == [("o1.2", 0)]
