"""`disttool -run`: from runs with pending components to filesets that can be mirrored."""

import io
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from pwd import getpwuid

import pytest
from client import PATIENCE, PROJECT
from finished_runs import WORKDIR, Component, Finished, finished, members, usual

from formats import mdc
from mirror.dirinfo import read_dirinfo
from mirror.errors import ConfigError
from mirror.rewrite import rewrite_dbinfo, rewrite_dump
from mirror.unpack import Limits, unpack
from server.database import Database, Unavailable
from server.distribution import run as run_room
from server.distribution.bundle import Bundled, BundleTask, bundle_component
from server.distribution.queue import DistRun, Selection, pending_runs
from server.distribution.revert import (
    move_runs,
    revert_components,
    revert_filesets,
    revert_runs,
)
from server.distribution.run import main_run
from server.executor import KILLED
from server.faults import DATA
from server.site import Place, Roots, SqliteFile
from server.store_lock import hold_fileset, hold_product, hold_work

CHIPS = ("XY01", "XY02", "XY10")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Finished]:
    """A site whose catalogue is a file."""
    with finished(tmp_path, SqliteFile(tmp_path / "catalogue.db")) as ready:
        yield ready


@pytest.fixture
def any_site(place: Place, tmp_path: Path) -> Iterator[Finished]:
    """A site, once for each database."""
    with finished(tmp_path, place) as ready:
        yield ready


def run(site: Finished, *labels: str, jobs: int = 1, limit: int | None = None) -> int:
    """Do what is pending, with one worker unless more are asked for."""
    return main_run(site.site, site.database, labels, limit, jobs)


# The whole way


def test_runs_become_filesets(any_site: Finished, capsys: pytest.CaptureFixture[str]) -> None:
    dist_ids = any_site.night([11, 12, 13], CHIPS)
    assert run(any_site, jobs=2) == 0
    for number, dist_id in zip([11, 12, 13], dist_ids, strict=True):
        any_site.is_whole(number, dist_id, CHIPS)
    assert len(any_site.filesets("one")) == len(any_site.filesets("two")) == 3
    assert any_site.litter() == []
    out, err = capsys.readouterr()
    assert out.startswith("bundled 9 components of 3 runs (")
    assert out.endswith(" kB), registered 6 filesets\n")
    assert err == ""
    states = any_site.database.rows(
        """SELECT f.state, f.fault, r.state, r.fault FROM rcDSFileset f
        JOIN rcRun r ON r.fs_id = f.fs_id AND r.dest_id = f.dest_id"""
    )
    assert states == [("full", 0, "new", 0)] * 6


def test_the_row_and_the_documents_of_a_fileset(site: Finished) -> None:
    (dist_id,) = site.night([11], CHIPS)
    run(site)
    columns = ", ".join(f"prod_col_{number}" for number in range(7))
    row = site.database.row(f"SELECT type, {columns} FROM dsFileset")
    assert row == ("IPP-DIST", "1", "chip", "11", "o1", None, "r.00000", None)
    directory = site.site.root / "one" / f"o1.chip.11.{dist_id}.1"
    assert (directory / "dirinfo.chip.11.mdc").read_text() == (
        "destdir METADATA\n\tdestdir\tSTR\tgpc1/night\nEND\n\n"
        "components METADATA\n\tXY01\tSTR\to1.11\n\tXY02\tSTR\to1.11\n\tXY10\tSTR\to1.11\nEND\n"
    )
    dbinfo = (directory / "dbinfo.chip.11.mdc").read_text()
    assert dbinfo.count("chipProcessedImfile METADATA") == 3
    assert f"{WORKDIR}/o1.11/o1.ch.11" in dbinfo


def test_a_mirror_finds_a_place_for_every_path(site: Finished, tmp_path: Path) -> None:
    some = [usual("XY01"), Component("XY33", (), quality=8), usual("XY10")]
    site.chip_run(11, some)
    target = site.target()
    site.destination("one", target)
    dist_id = site.define(11, some, target)
    assert run(site) == 0
    fileset = site.site.root / "one" / f"o1.chip.11.{dist_id}.1"
    places = read_dirinfo((fileset / "dirinfo.chip.11.mdc").read_bytes(), "dirinfo", "/mirror")
    local = io.BytesIO()
    with open(fileset / "dbinfo.chip.11.mdc", "rb") as dbinfo:
        rewrite_dbinfo(dbinfo, local, places, "dbinfo")
    rows = mdc.load(local.getvalue())["chipProcessedImfile"]
    assert [row["path_base"] for row in rows] == ["/mirror/gpc1/night/o1.11/o1.ch.11"] * 3
    bundles = sorted(fileset.glob("*.tgz"))
    assert [path.name for path in bundles] == ["o1.ch.11.XY01.tgz", "o1.ch.11.XY10.tgz"]
    for path in bundles:
        unpack(path, tmp_path / path.stem, Limits(10**6))
        dump = next((tmp_path / path.stem).glob("*.mdc"))
        with open(dump, "rb") as source:
            rewrite_dump(source, io.BytesIO(), "/mirror", dump.name)


def test_a_cluster_bundles_as_well(site: Finished) -> None:
    distributed = pytest.importorskip("distributed")
    (dist_id,) = site.night([11], CHIPS)
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None,
        host="127.0.0.1", silence_logs=50,
    ) as cluster:  # fmt: skip
        address = cluster.scheduler_address
        assert main_run(site.site, site.database, scheduler=address) == 0
    site.is_whole(11, dist_id, CHIPS)


def test_nothing_pending_says_nothing(site: Finished, capsys: pytest.CaptureFixture[str]) -> None:
    site.night([11], CHIPS)
    assert run(site, "other label") == 0
    assert capsys.readouterr() == ("", "")
    assert run(site, "nightly", "other label") == 0
    assert capsys.readouterr().out
    assert run(site) == 0
    assert capsys.readouterr() == ("", "")


def test_a_limit_is_one_of_runs(site: Finished) -> None:
    site.night([11, 12], CHIPS)
    run(site, limit=1)
    assert len(site.filesets("one")) == 1
    run(site, limit=1)
    assert len(site.filesets("one")) == 2


def test_a_run_for_which_nobody_asks_is_still_made_full(
    site: Finished, capsys: pytest.CaptureFixture[str]
) -> None:
    site.chip_run(11, [])
    dist_id = site.define(11, [], site.target())
    assert run(site) == 0
    assert site.state(dist_id) == ("full", 0)
    assert capsys.readouterr().out == "advanced 1 run\n"
    # A destination that becomes interested later, gets it: documents without any bundle.
    site.destination("one", 1)
    assert run(site) == 0
    assert capsys.readouterr().out == "registered 1 fileset\n"
    assert [name for name, *_ in site.files("one", f"o1.chip.11.{dist_id}.1")] == [
        "dbinfo.chip.11.mdc",
        "dirinfo.chip.11.mdc",
    ]


def test_a_clean_distribution_leaves_the_large_images_out(site: Finished) -> None:
    some = [usual("XY01"), Component("XY02", (("PPIMAGE.CHIP", "o1.XY02.ch.fits"),))]
    site.chip_run(11, some)
    target = site.target(clean=True)
    site.destination("one", target)
    dist_id = site.define(11, some, target, clean=True)
    assert run(site) == 0
    fileset = f"o1.chip.11.{dist_id}.1"
    assert [file for file in site.files("one", fileset) if file[1] == "tgz"] == [
        ("o1.ch.11.XY01.tgz", "tgz", "XY01")
    ]
    names = list(members(site.bundles / "chip.11" / "o1.ch.11.XY01.tgz"))
    assert names == ["o1.XY01.cmf", "o1.XY01.log", "o1.ch.11.XY01.mdc"]
    documents = site.site.root / "one" / fileset
    assert "cleaned" in (documents / "dbinfo.chip.11.mdc").read_text()
    # Its row has a path, for which a mirror needs a directory.
    assert "XY02" in (documents / "dirinfo.chip.11.mdc").read_text()


# Faults


def test_a_faulty_component_stops_no_other(
    site: Finished, capsys: pytest.CaptureFixture[str]
) -> None:
    dist_ids = site.night([11, 12], CHIPS)
    lost = site.work(11) / "o1.XY02.cmf"
    content = lost.read_bytes()
    lost.unlink()
    assert run(site, jobs=2) == 1
    site.is_whole(12, dist_ids[1], CHIPS)
    assert site.state(dist_ids[0]) == ("new", 0)
    ((component, (code, message)),) = site.faults(dist_ids[0]).items()
    assert (component, code) == ("XY02", DATA)
    assert message.endswith(f"PSPHOT.OUTPUT {WORKDIR}/o1.11/o1.XY02.cmf: no such file: {lost}")
    out, err = capsys.readouterr()
    assert "bundled 5 components of 2 runs" in out
    assert out.endswith("; 1 fault\n")
    told = message.removeprefix("component XY02: ")
    assert err == f"disttool: run {dist_ids[0]}, component XY02: {told}\n"
    assert run(site) == 1
    assert capsys.readouterr() == (
        "",
        "disttool: 1 fault stands from before; disttool -listfaults shows what, disttool"
        " -revertcomponent, -revertrun and -revertfileset let it be tried again\n",
    )
    assert run(site, "another label") == 0
    assert site.faults(dist_ids[0])
    lost.write_bytes(content)
    assert revert_components(site.database, Selection(fault=DATA)) == 1
    assert run(site) == 0
    site.is_whole(11, dist_ids[0], CHIPS)


def test_a_faulty_run_stops_no_other(site: Finished, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = site.night([11, 12], CHIPS)
    with site.database.write():
        site.database.change("UPDATE chipRun SET workdir = 'neb://x/gpc2' WHERE chip_id = 11")
    assert run(site) == 1
    site.is_whole(12, second, CHIPS)
    assert site.state(first) == ("new", 3)
    assert f"{WORKDIR}/o1.11/o1.ch.11 is in no directory below" in capsys.readouterr().err
    with site.database.write():
        site.database.change("UPDATE chipRun SET workdir = ? WHERE chip_id = 11", WORKDIR)
    assert run(site) == 1
    assert site.state(first) == ("new", 3)
    revert_runs(site.database, Selection(dist_id=first))
    assert run(site) == 0
    site.is_whole(11, first, CHIPS)
    assert site.litter() == []


def test_a_directory_that_cannot_be_made_is_the_fault_of_the_run(site: Finished) -> None:
    first, second = site.night([11, 12], CHIPS)
    site.bundles.mkdir()
    (site.bundles / "chip.11").write_bytes(b"in the way")
    assert run(site) == 1
    assert site.state(first) == ("new", 2)
    site.is_whole(12, second, CHIPS)


def test_a_wrong_workdir_is_mended_by_another_one(site: Finished) -> None:
    first, second = site.night([11, 12], CHIPS)
    assert run(site, limit=1) == 0
    with site.database.write():
        site.database.change("UPDATE distRun SET state = 'new', fault = 2 WHERE dist_id = ?", first)
        site.database.change("DELETE FROM rcRun")
        site.database.change("DELETE FROM rcDSFileset")
    chosen, elsewhere = Selection(dist_id=first), "neb://any/elsewhere"
    assert move_runs(site.database, site.site.root, chosen, elsewhere).done == 1
    row = site.database.row("SELECT outdir FROM distRun WHERE dist_id = ?", first)
    assert row == (f"neb://any/elsewhere/chip.11.{first}",)
    components = site.database.rows(
        "SELECT outdir, state, name FROM distComponent WHERE dist_id = ?", first
    )
    assert set(components) == {(row[0], "new", None)}
    other = site.database.row("SELECT outdir FROM distRun WHERE dist_id = ?", second)
    assert other is not None
    assert "elsewhere" not in other[0]


def test_another_site_configuration_is_the_fault_of_no_run(
    site: Finished, capsys: pytest.CaptureFixture[str]
) -> None:
    first, _ = site.night([11, 12], CHIPS)
    elsewhere = replace(site.site, roots=Roots())
    with pytest.raises(ConfigError) as caught:
        main_run(elsewhere, site.database, jobs=1)
    assert f"run {first}: path " in caught.value.problems[0]
    assert "NEB_ROOT is not set" in caught.value.problems[0]
    assert caught.value.problems[-1].endswith("nothing was changed")
    assert site.state(first) == ("new", 0)


@pytest.mark.parametrize("limit", [None, 1])
def test_an_outdir_that_cannot_be_resolved_stops_no_other_run(
    site: Finished, limit: int | None
) -> None:
    first, second = site.night([11, 12], CHIPS)
    with site.database.write():
        site.database.change(
            "UPDATE distRun SET outdir = 'path://GONE/chip.11' WHERE dist_id = ?", first
        )
    assert run(site, limit=limit) == 1
    assert site.state(first) == ("new", 3)
    row = site.database.row("SELECT message FROM distRun WHERE dist_id = ?", first)
    assert row
    assert "DATAPATH has no 'GONE'" in row[0]
    run(site)
    site.is_whole(12, second, CHIPS)


def test_an_outdir_of_another_user_is_the_fault_of_the_run_and_says_whose(
    site: Finished, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = site.night([11, 12], CHIPS)
    outdir = site.bundles / "chip.11"
    outdir.mkdir(parents=True)
    access = os.access

    def asked(path: Path, mode: int) -> bool:
        return path != outdir and access(path, mode)

    monkeypatch.setattr(os, "access", asked)
    assert run(site) == 1
    assert site.state(first) == ("new", 2)
    site.is_whole(12, second, CHIPS)
    row = site.database.row("SELECT message FROM distRun WHERE dist_id = ?", first)
    assert row
    assert row[0].startswith(f"{outdir}: belongs to user {getpwuid(os.getuid()).pw_name}, and")
    assert row[0].endswith("or make the directory writable")


def test_an_outdir_that_may_not_be_made_says_whose_its_parent_is(
    site: Finished, monkeypatch: pytest.MonkeyPatch
) -> None:
    (first,) = site.night([11], CHIPS)

    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "mkdir", refuse)
    assert run(site) == 1
    row = site.database.row("SELECT message FROM distRun WHERE dist_id = ?", first)
    assert row
    assert row[0].startswith(f"{site.neb}: belongs to user ")


def killed_at_one(task: BundleTask) -> Bundled:
    """As `bundle_component` with too little memory for one component."""
    if (task.dist_id, task.component) == (1, "XY02"):
        os.kill(os.getpid(), signal.SIGKILL)
    return bundle_component(task)


def test_a_component_that_kills_its_worker_stops_no_other(
    site: Finished, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first, *others = site.night([11, 12, 13], CHIPS)
    monkeypatch.setattr(run_room, "bundle_component", killed_at_one)
    assert run(site, jobs=2) == 1
    assert site.faults(first) == {"XY02": (KILLED.code, KILLED.message)}
    for number, dist_id in zip([12, 13], others, strict=True):
        site.is_whole(number, dist_id, CHIPS)
    out, err = capsys.readouterr()
    assert err == f"disttool: run {first}, component XY02: {KILLED.message}\n"
    assert out.startswith("bundled 8 components of 3 runs")
    monkeypatch.undo()
    assert revert_components(site.database, Selection(dist_id=first)) == 1
    assert run(site) == 0
    site.is_whole(11, first, CHIPS)
    assert site.litter() == []


@pytest.mark.parametrize("holder", ["fileset", "product"])
def test_a_fileset_that_another_one_holds_is_registered_by_the_next_call(
    site: Finished, capsys: pytest.CaptureFixture[str], holder: str
) -> None:
    first, second = site.night([11, 12], CHIPS)
    hold = (
        hold_product(site.site.root, "one")
        if holder == "product"
        else hold_fileset(site.site.root, "one", f"o1.chip.11.{first}.1")
    )
    with hold:
        assert run(site) == 0
    left = "1 fileset is" if holder == "fileset" else "2 filesets are"
    them = "it" if holder == "fileset" else "them"
    out, err = capsys.readouterr()
    assert err == (
        f"disttool: {left} worked on by another process; the next call registers {them}\n"
    )
    assert out.endswith(f"registered {3 if holder == 'fileset' else 2} filesets\n")
    assert site.database.row("SELECT count(*) FROM rcDSFileset WHERE fault <> 0") == (0,)
    assert run(site) == 0
    assert capsys.readouterr().err == ""
    site.is_whole(11, first, CHIPS)
    site.is_whole(12, second, CHIPS)


def test_a_database_that_is_lost_is_told_and_so_is_what_was_done(
    site: Finished, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    site.night([11, 12], CHIPS)
    changes = 0
    change = site.database.change

    def failing(sql: str, *values: object) -> int:
        nonlocal changes
        changes += "UPDATE distComponent" in sql
        if changes > len(CHIPS):
            raise Unavailable("no connection" if changes > len(CHIPS) + 1 else "terminated")
        return change(sql, *values)

    monkeypatch.setattr(run_room, "BATCH", 1)
    monkeypatch.setattr(site.database, "change", failing)
    with pytest.raises(Unavailable, match="terminated"):
        run(site)
    assert changes > len(CHIPS) + 1
    assert capsys.readouterr().out.startswith("bundled 3 components of 1 run (")
    monkeypatch.undo()
    assert run(site) == 0
    assert len(site.filesets("one")) == 2


FEW_FILES = """
import resource, sys
from server.__main__ import main
if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_NOFILE, (56, 56))
    sys.exit(main(["disttool", "-run", "-jobs", "3"]))
"""


def test_many_runs_in_work_are_not_many_open_files(site: Finished, tmp_path: Path) -> None:
    """Runs of one component: as many are held as there are tasks handed out."""
    numbers = range(11, 71)
    dist_ids = site.night(numbers, CHIPS[:1])
    script = tmp_path / "few_files.py"
    script.write_text(FEW_FILES)
    done = subprocess.run(
        [sys.executable, str(script)], env={**site.environ, "PYTHONPATH": str(PROJECT)},
        capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    for number, dist_id in zip(numbers, dist_ids, strict=True):
        site.is_whole(number, dist_id, CHIPS[:1])


@pytest.mark.parametrize("address", ["8786", "http://127.0.0.1:8786"])
def test_an_odd_scheduler_is_refused_even_with_nothing_to_do(site: Finished, address: str) -> None:
    with pytest.raises(ConfigError, match="tcp://HOST:PORT expected"):
        main_run(site.site, site.database, scheduler=address)


def test_a_run_that_is_no_longer_imported(site: Finished) -> None:
    first, _ = site.night([11, 12], CHIPS)
    with site.database.write():
        site.database.change("DELETE FROM chipRun WHERE chip_id = 11")
        site.database.change("DELETE FROM chipProcessedImfile WHERE class_id = 'XY10'")
    assert run(site) == 1
    assert site.state(first) == ("new", 3)
    assert [*site.faults(first + 1)] == ["XY10"]


def test_a_faulty_fileset_stops_no_other(
    site: Finished, capsys: pytest.CaptureFixture[str]
) -> None:
    (dist_id,) = site.night([11], CHIPS)
    (site.site.root / "one").rename(site.site.root / "away")
    (site.site.root / "one").symlink_to("away")
    assert run(site) == 1
    assert site.filesets("one") == []
    assert site.filesets("two") == [f"o1.chip.11.{dist_id}.2"]
    err = capsys.readouterr().err
    assert err.startswith(f"disttool: run {dist_id}, fileset one/o1.chip.11.{dist_id}.1: ")
    row = site.database.row("SELECT state, fault, name FROM rcDSFileset WHERE dest_id = 1")
    assert row == ("new", 2, f"o1.chip.11.{dist_id}.1")
    (site.site.root / "one").unlink()
    (site.site.root / "away").rename(site.site.root / "one")
    assert run(site) == 1
    assert site.filesets("one") == []
    assert revert_filesets(site.database, Selection()) == 1
    assert run(site) == 0
    site.is_whole(11, dist_id, CHIPS)


def test_a_bundle_that_was_changed_is_not_registered(site: Finished) -> None:
    target = site.target()
    site.chip_run(11, [usual("XY01")])
    site.define(11, [usual("XY01")], target)
    run(site)
    (site.bundles / "chip.11" / "o1.ch.11.XY01.tgz").write_bytes(b"short")
    site.destination("one", target)
    assert run(site) == 1
    row = site.database.row("SELECT fault, message FROM rcDSFileset")
    assert row
    assert row[0] == DATA
    assert "has 5 bytes" in row[1]


def test_bundles_are_not_read_again_to_register_them(site: Finished) -> None:
    target = site.target()
    site.chip_run(11, [usual("XY01")])
    site.define(11, [usual("XY01")], target)
    run(site)
    with site.database.write():
        site.database.change("UPDATE distComponent SET md5sum = ?", "0" * 32)
    site.destination("one", target)
    assert run(site) == 0
    assert site.database.row("SELECT md5sum FROM dsFile WHERE type = 'tgz'") == ("0" * 32,)


@pytest.mark.parametrize(
    ("jobs", "level", "reason"), [(0, 6, "-jobs"), (1, 0, "-gzip_level"), (1, 10, "-gzip_level")]
)
def test_odd_options_are_refused(site: Finished, jobs: int, level: int, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        main_run(site.site, site.database, (), None, jobs, level)


# Others, and those that were killed


def test_what_was_registered_but_not_recorded_is_adopted(site: Finished) -> None:
    (dist_id,) = site.night([11], CHIPS)
    run(site)
    with site.database.write():
        site.database.change("DELETE FROM rcRun")
        site.database.change("DELETE FROM rcDSFileset")
    assert run(site) == 0
    site.is_whole(11, dist_id, CHIPS)
    assert len(site.filesets("one")) == 1
    assert site.database.row("SELECT count(*) FROM rcRun") == (2,)


def test_a_fileset_of_that_name_with_other_bundles_is_not_adopted(site: Finished) -> None:
    (dist_id,) = site.night([11], CHIPS)
    run(site)
    with site.database.write():
        site.database.change("DELETE FROM rcRun")
        site.database.change("DELETE FROM rcDSFileset")
        site.database.change(
            "UPDATE distComponent SET md5sum = ? WHERE component = 'XY01'", "0" * 32
        )
    assert run(site) == 1
    row = site.database.row("SELECT message FROM rcDSFileset")
    assert row
    assert f"dsreg --del o1.chip.11.{dist_id}.1 --product one" in row[0]


def test_a_run_that_another_one_holds_is_left_alone(
    site: Finished, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = site.night([11, 12], CHIPS)
    with hold_work(site.site.root, f"disttool run {first}"):
        assert run(site) == 0
        site.is_whole(12, second, CHIPS)
        assert site.filesets("one") == [f"o1.chip.12.{second}.1"]
        assert "bundled 3 components of 1 run" in capsys.readouterr().out
    assert run(site) == 0
    site.is_whole(11, first, CHIPS)


def test_what_another_one_did_meanwhile_is_not_done_again(
    site: Finished, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the list of what is pending and the hold, another coordinator does it all."""
    dist_ids = site.night([11, 12], CHIPS)
    asked = pending_runs(site.database)
    assert run(site) == 0
    before = {path: path.stat().st_ino for path in site.bundles.rglob("*.tgz")}

    def late(database: Database, selection: Selection, limit: int | None = None) -> list[DistRun]:
        return asked if selection.dist_id is None else pending_runs(database, selection, limit)

    monkeypatch.setattr(run_room, "pending_runs", late)
    assert run(site) == 0
    assert {path: path.stat().st_ino for path in site.bundles.rglob("*.tgz")} == before
    assert len(before) == len(dist_ids) * len(CHIPS)


def test_two_coordinators_share_the_work(site: Finished) -> None:
    numbers = range(11, 23)
    dist_ids = site.night(numbers, CHIPS)
    processes = [site.start("-jobs", "1") for _ in range(2)]
    told = [process.communicate(timeout=PATIENCE) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], told
    for number, dist_id in zip(numbers, dist_ids, strict=True):
        site.is_whole(number, dist_id, CHIPS)
    words = [out.split() for out, _ in told if out]
    assert sum(int(line[1]) for line in words) == len(numbers) * len(CHIPS)
    assert sum(int(line[line.index("registered") + 1]) for line in words) == 2 * len(numbers)
    assert [err for _, err in told] == ["", ""]
    assert len(site.filesets("one")) == len(set(site.filesets("one"))) == len(numbers)


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)], ids=["TERM", "INT"]
)
def test_a_signal_ends_it_in_order(site: Finished, number: int, status: int) -> None:
    dist_ids = site.night(range(11, 31), CHIPS)
    process = site.start("-jobs", "2")
    while process.poll() is None and not list(site.bundles.glob("*/*.tgz")):
        pass
    process.send_signal(number)
    out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, err) == (status, "")
    done = site.database.row("SELECT count(*) FROM distComponent WHERE state = 'full'")
    assert done
    assert out.startswith("bundled ") == bool(done[0])
    assert list(site.bundles.rglob(".*")) == []
    assert run(site, jobs=2) == 0
    for run_id, dist_id in zip(range(11, 31), dist_ids, strict=True):
        site.is_whole(run_id, dist_id, CHIPS)
    assert site.litter() == []


def test_what_came_before_an_interruption_is_recorded(
    site: Finished, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.night([11, 12], CHIPS)
    take = run_room._Coordinator.take

    def interrupted(self: "run_room._Coordinator", task: BundleTask, result: Bundled) -> None:
        take(self, task, result)
        raise KeyboardInterrupt

    monkeypatch.setattr(run_room._Coordinator, "take", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(site)
    monkeypatch.undo()
    assert site.database.row("SELECT count(*) FROM distComponent WHERE state = 'full'") == (1,)
    assert run(site) == 0
    assert len(site.filesets("two")) == 2
