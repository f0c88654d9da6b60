"""import_runs: every mirrored dbinfo in MIRROR_ROOT/catalogue.db, whatever happens in between."""

import os
import shutil
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from client import MirrorSite, Ran
from runs import chip_run
from simulator import Product, Simulator

from mirror import database as tables
from mirror.database import VERSION, open_database
from mirror.errors import IntegrityError, LocalError
from mirror.halt import Halt
from mirror.loop import Loop
from mirror.records import StatusReport
from mirror.report import Report
from mirror.runs_database import RunsDatabase, Stamp, opened
from mirror.state import State

SILENT = Ran(0, "", "")
CLASSES = ("XY01", "XY02")


def night(number: int, classes: Sequence[str] = CLASSES) -> tuple[str, dict[str, bytes]]:
    """A chip run whose rows name it, as the pipeline's do."""
    name, files = chip_run(number, classes, size=100)
    dbinfo = f"dbinfo.chip.{number}.mdc"
    files[dbinfo] = files[dbinfo].replace(
        b"   class_id ", b"   chip_id          S64     %d\n   class_id " % number
    )
    return name, files


@pytest.fixture
def gpc1(simulator: Simulator) -> Product:
    product = simulator.product("gpc1")
    for number in (1, 2):
        product.add(*night(number))
    product.add("plain", {"a.fits": b"SIMPLE"})
    return product


@pytest.fixture
def site(mirror_site: MirrorSite, simulator: Simulator, gpc1: Product) -> MirrorSite:
    mirror_site.configure(simulator.url, import_runs=True, data_prefix="path://MIRROR")
    return mirror_site


def catalogue(site: MirrorSite) -> Path:
    return site.root / "catalogue.db"


def ask(site: MirrorSite, sql: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(catalogue(site))) as database:
        return database.execute(sql).fetchall()


def state(site: MirrorSite, sql: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(site.private / "state.db")) as database:
        return database.execute(sql).fetchall()


def runs(site: MirrorSite) -> list[int]:
    return [row[0] for row in ask(site, "SELECT chip_id FROM chipRun ORDER BY chip_id")]


def serial(site: MirrorSite) -> int:
    return int(ask(site, "SELECT serial FROM runStamp")[0][0])


def test_every_mirrored_dbinfo_is_imported_with_its_local_paths(site: MirrorSite) -> None:
    assert site.run() == SILENT
    assert ask(site, "SELECT chip_id, workdir, tess_id FROM chipRun ORDER BY chip_id") == [
        (1, "path://MIRROR/gpc1/scitest.200807", "RINGS.V3"),
        (2, "path://MIRROR/gpc1/scitest.200807", "RINGS.V3"),
    ]
    sql = "SELECT chip_id, class_id FROM chipProcessedImfile ORDER BY chip_id, class_id"
    assert ask(site, sql) == [(1, "XY01"), (1, "XY02"), (2, "XY01"), (2, "XY02")]
    assert ask(site, "SELECT product, fileset, dbinfo FROM runFileset ORDER BY fileset") == [
        ("gpc1", f"o4642g000{number}o.chip.{number}.2.1",
         f"info/gpc1/o4642g000{number}o.chip.{number}.2.1/dbinfo.chip.{number}.mdc")
        for number in (1, 2)
    ]  # fmt: skip
    assert state(site, "SELECT DISTINCT imported FROM fileset") == [(1,)]


def test_the_file_is_one_for_network_file_systems_and_people(site: MirrorSite) -> None:
    assert site.run() == SILENT
    assert ask(site, "PRAGMA journal_mode") == [("delete",)]
    assert ask(site, "PRAGMA integrity_check") == [("ok",)]
    assert sorted(path.name for path in site.root.iterdir()) == [
        ".mirror", "catalogue.db", "data", "info",
    ]  # fmt: skip


def test_without_the_key_there_is_no_such_file(site: MirrorSite, simulator: Simulator) -> None:
    site.configure(simulator.url)
    assert site.run() == SILENT
    assert not catalogue(site).exists()


def test_what_was_mirrored_before_the_key_was_set_is_imported_too(
    site: MirrorSite, simulator: Simulator, gpc1: Product
) -> None:
    site.configure(simulator.url)
    assert site.run() == SILENT
    gpc1.add(*night(3))
    site.configure(simulator.url, import_runs=True)
    assert site.run() == SILENT
    assert runs(site) == [1, 2, 3]
    simulator.clear()
    before = serial(site)
    assert site.run() == SILENT
    assert (serial(site), simulator.count("*.mdc")) == (before, 0)


def test_a_fileset_registered_again_is_imported_again(site: MirrorSite, gpc1: Product) -> None:
    assert site.run() == SILENT
    name, files = night(1, (*CLASSES, "XY03"))
    gpc1.register_again(name, files)
    assert site.run().exit == 0
    sql = "SELECT class_id FROM chipProcessedImfile WHERE chip_id = 1 ORDER BY class_id"
    assert ask(site, sql) == [("XY01",), ("XY02",), ("XY03",)]


def test_a_later_registration_that_came_without_the_key_is_imported_with_it(
    site: MirrorSite, simulator: Simulator, gpc1: Product
) -> None:
    assert site.run() == SILENT
    site.configure(simulator.url)
    gpc1.register_again(*night(1, (*CLASSES, "XY03")))
    assert site.run().exit == 0
    site.configure(simulator.url, import_runs=True)
    assert site.run() == SILENT
    assert ask(site, "SELECT count(*) FROM chipProcessedImfile WHERE chip_id = 1") == [(3,)]


@pytest.mark.parametrize(
    ("known", "same"),
    [
        pytest.param("abc 3", True, id="then"),
        pytest.param("abc 2", True, id="later"),
        pytest.param("abc 4", False, id="an older copy"),
        pytest.param("xyz 3", False, id="another file"),
        pytest.param(None, False, id="never written"),
        pytest.param("abc", False, id="no number"),
    ],
)
def test_a_stamp_tells_whether_it_is_the_file_that_was_written(
    known: str | None, same: bool
) -> None:
    assert Stamp("abc", 3).follows(known) is same


def remove(path: Path) -> None:
    path.unlink()


def put_back_an_older_copy(path: Path) -> None:
    shutil.copy(path.with_name("older.db"), path)


@pytest.mark.parametrize(
    "lose", [pytest.param(remove, id="deleted"), pytest.param(put_back_an_older_copy, id="older")]
)
def test_a_lost_catalogue_is_built_anew_without_the_network(
    site: MirrorSite, simulator: Simulator, gpc1: Product, lose: Callable[[Path], None]
) -> None:
    assert site.run() == SILENT
    shutil.copy(catalogue(site), catalogue(site).with_name("older.db"))
    gpc1.add(*night(3))
    assert site.run() == SILENT
    lose(catalogue(site))
    simulator.clear()
    assert site.run() == SILENT
    assert runs(site) == [1, 2, 3]
    assert simulator.count("*.mdc") == simulator.count("*.tgz") == 0


def scramble(path: Path) -> None:
    path.write_bytes(b"not a database" * 1000)


def make_foreign(path: Path) -> None:
    path.unlink()
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE recipe (title TEXT)")


def make_newer(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA user_version = 99")


@pytest.mark.parametrize(
    ("damage", "advice"),
    [
        pytest.param(scramble, "is damaged", id="damaged"),
        pytest.param(make_foreign, "is not a catalogue of this program; move it away", id="other"),
        pytest.param(make_newer, "was written by a newer version", id="newer"),
    ],
)
def test_a_catalogue_that_will_not_do_is_told_once_and_left_as_it_is(
    site: MirrorSite, gpc1: Product, damage: Callable[[Path], None], advice: str
) -> None:
    assert site.run() == SILENT
    damage(catalogue(site))
    before = catalogue(site).read_bytes()
    gpc1.add(*night(3))
    ran = site.run()
    assert ran.exit == 1
    assert len(ran.stderr.splitlines()) == 1
    assert f"import_runs: {catalogue(site)} {advice}" in ran.stderr
    assert catalogue(site).read_bytes() == before
    assert (site.root / "info/gpc1" / night(3)[0]).is_dir(), "it is mirrored all the same"
    catalogue(site).unlink()
    assert site.run() == SILENT
    assert runs(site) == [1, 2, 3]


def test_a_document_that_does_not_fit_is_one_line_a_run_and_spoils_no_other(
    site: MirrorSite, gpc1: Product
) -> None:
    name, files = chip_run(7, CLASSES, size=100)  # its rows do not say of which run they are
    gpc1.add(name, files)
    gpc1.add(*night(8))
    for _ in range(2):
        ran = site.run()
        assert ran.exit == 1
        assert len(ran.stderr.splitlines()) == 1
        assert f"gpc1/{name}: import_runs: info/gpc1/{name}/dbinfo.chip.7.mdc:" in ran.stderr
        assert "chipProcessedImfile" in ran.stderr
    assert runs(site) == [1, 2, 8]
    assert (site.root / "info/gpc1" / name).is_dir()
    gpc1.register_again(*night(7))
    assert site.run().exit == 0
    assert runs(site) == [1, 2, 7, 8]


def test_bytes_that_no_database_takes_spoil_no_other(site: MirrorSite, gpc1: Product) -> None:
    name, files = night(7)
    files["dbinfo.chip.7.mdc"] = files["dbinfo.chip.7.mdc"].replace(b"RINGS.V3", b"RINGS\xff\xfe")
    gpc1.add(name, files)
    gpc1.add(*night(8))
    ran = site.run()
    assert ran.exit == 1
    assert len(ran.stderr.splitlines()) == 1
    assert f"gpc1/{name}: import_runs: " in ran.stderr
    assert runs(site) == [1, 2, 8]


def note_wrongly(database: RunsDatabase, wrong: object) -> None:
    with database.part():
        database.note("gpc1", "o2", "", "", "")
        database.change("UPDATE runFileset SET dbinfo = ?", wrong)


def test_what_sqlite_refuses_of_one_document_undoes_that_one_alone(tmp_path: Path) -> None:
    with opened(tmp_path / "catalogue.db") as database, database.write():
        database.note("gpc1", "o1", "", "", "")
        for wrong in (2**70, "\udcff", None):
            with pytest.raises(IntegrityError, match="does not take it"):
                note_wrongly(database, wrong)
    with opened(tmp_path / "catalogue.db") as database:
        assert database.rows("SELECT fileset, dbinfo FROM runFileset") == [("o1", "")]


def test_a_dbinfo_that_somebody_removed_is_told(site: MirrorSite, simulator: Simulator) -> None:
    site.configure(simulator.url)
    assert site.run() == SILENT
    gone = site.root / "info/gpc1" / night(1)[0] / "dbinfo.chip.1.mdc"
    gone.unlink()
    site.configure(simulator.url, import_runs=True)
    ran = site.run()
    assert ran.exit == 1
    assert f"{gone}: No such file" in ran.stderr
    assert runs(site) == [2]
    assert site.run("--verify", "--repair").exit == 0
    assert site.run() == SILENT
    assert runs(site) == [1, 2]


@pytest.mark.parametrize("options", [["--verify"], ["--dry-run"], ["--status"]], ids=" ".join)
def test_who_only_looks_imports_nothing(
    site: MirrorSite, simulator: Simulator, options: list[str]
) -> None:
    site.configure(simulator.url)
    assert site.run() == SILENT
    site.configure(simulator.url, import_runs=True)
    assert site.run(*options).exit == 0
    assert not catalogue(site).exists()


def test_killed_between_the_import_and_its_note_it_is_imported_once_more(
    site: MirrorSite,
) -> None:
    assert site.run() == SILENT
    stamp = state(site, "SELECT value FROM meta WHERE key = 'catalogue'")[0][0]
    token, _, number = stamp.partition(" ")
    site.change_state("UPDATE fileset SET imported = 0 WHERE id = 1")
    before = f"{token} {int(number) - 1}"
    site.change_state("UPDATE meta SET value = ? WHERE key = 'catalogue'", before)
    assert site.run() == SILENT
    assert runs(site) == [1, 2]
    assert serial(site) == int(number) + 1, "one more transaction, and not everything again"


def test_more_than_one_group_is_imported_in_one_run(
    site: MirrorSite, simulator: Simulator, gpc1: Product, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mirror import import_runs

    site.configure(simulator.url)
    assert site.run() == SILENT
    monkeypatch.setattr(import_runs, "MOST", 1)
    owner = State.open(site.private / "state.db")
    try:
        loop, report = Loop(), Report()
        importer = import_runs.Importer(loop, site.root, owner, report, Halt())
        importer.begin()
        while loop.under_way:
            loop.step()
            importer.start()
        importer.close()
        assert owner.owed.imports() == []
        assert report.faults == []
    finally:
        owner.close()
    assert runs(site) == [1, 2]
    assert serial(site) == 3


# The state's format


def first_format(path: Path) -> None:
    """A state as the first version of this program left it, with a fileset that is done."""
    path.unlink(missing_ok=True)
    with closing(sqlite3.connect(path)) as database:
        database.executescript(f"{tables._STEPS[0]}PRAGMA user_version = 1")
        database.executescript(
            "INSERT INTO product (id, name) VALUES (1, 'gpc1'); INSERT INTO header VALUES (1, '');"
            "INSERT INTO fileset (id, product, name, registered, type, header, row, state)"
            " VALUES (1, 1, 'o1', '', '', 1, '', 'done')"
        )


def test_a_state_of_the_first_format_is_brought_up_to_date_with_what_it_holds(
    tmp_path: Path,
) -> None:
    path = tmp_path / "state.db"
    first_format(path)
    one = State.open(path)
    assert one.owed.imports() == [1]
    one.owed.prepare_reports(10)
    assert one.owed.reports(10) == [StatusReport(1, "gpc1", "o1", 1, 0)]
    one.close()
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA user_version").fetchone() == (VERSION,)
        older = database.execute("SELECT sql FROM sqlite_master ORDER BY name").fetchall()
    new = tmp_path / "new.db"
    open_database(new).close()
    with closing(sqlite3.connect(new)) as database:
        assert older == database.execute("SELECT sql FROM sqlite_master ORDER BY name").fetchall()


def test_an_upgrade_that_fails_leaves_the_first_format(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "state.db"
    first_format(path)
    before = path.read_bytes()
    with monkeypatch.context() as patched:
        patched.setattr(tables, "_STEPS", (tables._STEPS[0], tables._STEPS[1] + "BROKEN;"))
        with pytest.raises(LocalError):
            open_database(path)
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA user_version").fetchone() == (1,)
    assert path.read_bytes() == before
    open_database(path).close()


def test_a_copy_for_a_dry_run_is_upgraded_and_not_the_file(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    first_format(path)
    before = path.read_bytes()
    copy = State.scratch(path)
    assert copy.owed.imports() == [1]
    copy.close()
    assert path.read_bytes() == before


def test_who_asks_for_the_status_upgrades_nothing(site: MirrorSite) -> None:
    site.private.mkdir(parents=True)
    path = site.private / "state.db"
    first_format(path)
    os.chmod(path, 0o444)
    before = path.read_bytes()
    ran = site.run("--status")
    assert (ran.exit, ran.stderr) == (0, "")
    assert path.read_bytes() == before
