"""--verify and --repair, and a state that is lost, damaged or from the future (FAULTS D8, D9)."""

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from client import MirrorSite, Ran
from expected import flip
from holdings import Product
from runs import chip_run
from simulator import Simulator

SILENT = Ran(0, "", "")
RUN = chip_run(1)[0]
PLACE = "data/gpc1/scitest.200807/o4642g0001o.19001"
BUNDLE = "o4642g0001o.19001.ch.1.XY01.tgz"

Damage = Callable[[Path], object]


def truncate(path: Path) -> None:
    """Take the last byte away."""
    os.truncate(path, path.stat().st_size - 1)


def make_directory(path: Path) -> None:
    """Put a directory where a file was."""
    path.unlink()
    path.mkdir()


@pytest.fixture
def gpc1(simulator: Simulator) -> Product:
    """A product of two chip runs and a plain fileset."""
    product = simulator.product("gpc1")
    product.add(*chip_run(1))
    product.add(*chip_run(2))
    product.add("plain", {"a.fits": b"SIMPLE", "b.fits": b"SIMPLE  ="})
    return product


@pytest.fixture
def site(mirror_site: MirrorSite, simulator: Simulator, gpc1: Product) -> MirrorSite:
    """A site that has mirrored everything."""
    mirror_site.configure(simulator.url, keep_bundles=True)
    assert mirror_site.run() == SILENT
    simulator.clear()
    return mirror_site


def files_asked_for(simulator: Simulator) -> list[str]:
    """The files that were asked for, lists not counted."""
    paths = [request.path for request in simulator.requests]
    return sorted(path for path in paths if not path.endswith("/index.txt"))


DAMAGES: dict[str, Damage] = {
    "flipped bit": flip, "missing": Path.unlink, "truncated": truncate,
}  # fmt: skip

TARGETS = {
    "unpacked member": (f"{PLACE}/o4642g0001o.19001.ch.1.XY01.ch.fits", RUN, [BUNDLE]),
    "local dump": (f"{PLACE}/o4642g0001o.19001.ch.1.XY01.mdc", RUN, [BUNDLE]),
    "local dbinfo": (f"info/gpc1/{RUN}/dbinfo.chip.1.mdc", RUN, ["dbinfo.chip.1.mdc"]),
    "dirinfo": (f"info/gpc1/{RUN}/dirinfo.chip.1.mdc", RUN, []),
    "kept bundle": (f"store/gpc1/{RUN}/{BUNDLE}", RUN, [BUNDLE]),
    "plain file": ("data/gpc1/plain/a.fits", "plain", ["a.fits"]),
    "list": ("info/gpc1/plain/index.txt", "plain", []),
}
"""The damaged file, its fileset, and the files that have to be fetched again besides dirinfo."""


def test_verify_of_what_is_right(site: MirrorSite, simulator: Simulator) -> None:
    before = site.stamps()
    assert site.run("--verify") == SILENT
    assert site.run("--verify", "--repair") == SILENT
    assert files_asked_for(simulator) == []
    assert site.stamps() == before


@pytest.mark.parametrize("target", TARGETS)
def test_repair_of_one_file(site: MirrorSite, simulator: Simulator, target: str) -> None:
    path, fileset, needed = TARGETS[target]
    good = site.visible()
    before = site.stamps()
    flip(site.root / path)
    ran, document = site.report("--verify")
    assert ran.exit == 1
    assert ran.stderr.count("\n") == 1
    assert f"gpc1/{fileset}/{path}: has other content" in ran.stderr
    assert [fault["file"] for fault in document["faults"]] == [path]
    assert files_asked_for(simulator) == []
    ran = site.run("--verify", "--repair")
    assert ran.exit == 0
    assert f"{path}: has other content" in ran.stderr
    dirinfo = ["dirinfo.chip.1.mdc"] if fileset == RUN else []
    asked = [name.rpartition("/")[2] for name in files_asked_for(simulator)]
    assert asked == sorted([*needed, *dirinfo])
    assert site.visible() == good
    assert site.run("--verify") == SILENT
    after = site.stamps()
    touched = {name for name in before if after[name] != before[name]}
    assert not any("plain" in name or "ch.2" in name for name in touched if fileset == RUN)
    assert site.litter() == []


@pytest.mark.parametrize("damage", DAMAGES)
def test_every_damage_is_found_and_mended(
    site: MirrorSite, simulator: Simulator, damage: str
) -> None:
    good = site.visible()
    damaged = [path for path, *_ in TARGETS.values()]
    for path in damaged:
        DAMAGES[damage](site.root / path)
    ran, document = site.report("--verify")
    assert ran.exit == 1
    assert sorted(fault["file"] for fault in document["faults"]) == sorted(damaged)
    assert ran.stderr.count("\n") == len(damaged)
    assert site.run("--verify", "--repair").exit == 0
    assert site.visible() == good
    assert not any("ch.2" in path or "/b.fits" in path for path in files_asked_for(simulator))
    assert site.run("--verify") == SILENT
    assert site.run() == SILENT
    assert site.litter() == []


def test_directory_in_the_place_of_a_file(site: MirrorSite) -> None:
    make_directory(site.root / "data/gpc1/plain/a.fits")
    ran = site.run("--verify")
    assert ran.exit == 1
    assert "gpc1/plain/data/gpc1/plain/a.fits" in ran.stderr
    ran = site.run("--verify", "--repair")
    assert ran.exit in (1, 5)
    assert "a.fits" in ran.stderr
    assert "Traceback" not in ran.stderr
    (site.root / "data/gpc1/plain/a.fits").rmdir()
    site.run("--verify", "--repair")
    assert site.run("--verify") == SILENT


def test_repair_that_is_interrupted_by_a_fault_stays_queued(
    site: MirrorSite, simulator: Simulator, gpc1: Product
) -> None:
    good = site.visible()
    path = "data/gpc1/plain/a.fits"
    (site.root / path).unlink()
    simulator.override("/gpc1/plain/a.fits", b"wrong!")
    ran = site.run("--verify", "--repair")
    assert ran.exit == 1
    assert "a.fits" in ran.stderr
    assert path not in site.visible()
    simulator.mend()
    assert site.run() == SILENT
    assert site.visible() == good


def test_verify_of_one_product(site: MirrorSite, simulator: Simulator) -> None:
    simulator.product("gpc2").add("other", {"a.fits": b"SIMPLE"})
    site.configure(simulator.url, products=["gpc1", "gpc2"], keep_bundles=True)
    assert site.run() == SILENT
    flip(site.root / "data/gpc1/plain/a.fits")
    assert site.run("--verify", "--product", "gpc2") == SILENT
    assert site.run("--verify", "--product", "gpc1").exit == 1


def test_verify_without_upstream(site: MirrorSite, simulator: Simulator) -> None:
    flip(site.root / "data/gpc1/plain/a.fits")
    with simulator.server.down():
        ran = site.run("--verify")
    assert ran.exit == 1
    assert "upstream's lists are not compared" in ran.stderr
    assert "data/gpc1/plain/a.fits: has other content" in ran.stderr


# The state lost, damaged, from the future


LOSSES: dict[str, Damage] = {
    "missing": Path.unlink, "empty": lambda path: os.truncate(path, 0),
}  # fmt: skip


@pytest.mark.parametrize("loss", LOSSES)
def test_lost_state_is_refused_and_rebuilt(
    site: MirrorSite, simulator: Simulator, gpc1: Product, loss: str
) -> None:
    good = site.stamps()
    LOSSES[loss](site.private / "state.db")
    for options in ([], ["--verify"], ["--limit", "1"]):
        ran = site.run(*options)
        assert (ran.exit, ran.stdout) == (5, "")
        assert "state.db" in ran.stderr
        assert "update_mirror.py --verify --repair" in ran.stderr
    assert simulator.requests == []
    ran = site.run("--verify", "--repair")
    assert ran.exit == 0
    assert "3 filesets" in ran.stderr
    assert site.stamps() == good
    simulator.clear()
    assert site.run() == SILENT
    assert [request.path for request in simulator.requests] == ["/index.txt", "/gpc1/index.txt"]
    assert site.stamps() == good
    gpc1.add("four", {"four.fits": b"SIMPLE"})
    simulator.clear()
    assert site.run() == SILENT
    assert files_asked_for(simulator) == ["/gpc1/four/four.fits"]
    lists = (site.root / "store/gpc1/index.txt").read_text().splitlines()
    names = [line.split("|")[0].strip() for line in lists if not line.startswith("#")]
    assert names == [RUN, chip_run(2)[0], "plain", "four"]


def test_rebuilding_mends_what_is_wrong_too(site: MirrorSite, simulator: Simulator) -> None:
    good = site.visible()
    flip(site.root / "data/gpc1/plain/a.fits")
    (site.private / "state.db").unlink()
    assert site.run("--verify", "--repair").exit == 0
    assert site.visible() == good
    assert files_asked_for(simulator) == ["/gpc1/plain/a.fits"]


def test_rebuilt_state_knows_what_store_lists(site: MirrorSite, simulator: Simulator) -> None:
    """News of one product does not drive another from the root list of store/."""
    other = simulator.product("gpc2", description="another camera")
    other.add("other", {"a.fits": b"SIMPLE"})
    site.configure(simulator.url, products=["gpc1", "gpc2"], keep_bundles=True)
    assert site.run() == SILENT
    (site.private / "state.db").unlink()
    assert site.run("--verify", "--repair").exit == 0
    simulator.products["gpc1"].add("four", {"four.fits": b"SIMPLE"})
    assert site.run() == SILENT
    assert (site.root / "store/index.txt").read_bytes() == simulator.read("/index.txt")


def test_lost_state_is_told_by_a_dry_run(site: MirrorSite) -> None:
    (site.private / "state.db").unlink()
    ran = site.run("--dry-run")
    assert ran.exit == 5
    assert "--verify --repair" in ran.stderr


def garble(path: Path) -> None:
    path.write_bytes(b"not a database " * 1000)


def halve(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def head_only(path: Path) -> None:
    os.truncate(path, 100)


def overwrite_middle(path: Path) -> None:
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(size // 4)
        file.write(b"\xa5" * (size // 2))


DAMAGED_STATES: dict[str, Damage] = {
    "garbage": garble, "half": halve, "100 bytes": head_only, "overwritten": overwrite_middle,
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGED_STATES)
@pytest.mark.parametrize("options", [[], ["--verify"], ["--dry-run"], ["--status"]], ids=" ".join)
def test_damaged_state_is_refused(
    site: MirrorSite, simulator: Simulator, damage: str, options: list[str]
) -> None:
    state = site.private / "state.db"
    DAMAGED_STATES[damage](state)
    before = state.read_bytes()
    ran = site.run(*options)
    assert ran.exit == 5
    assert f"{state} is damaged" in ran.stderr
    assert "--verify --repair" in ran.stderr
    assert "Traceback" not in ran.stderr
    assert files_asked_for(simulator) == []
    assert state.read_bytes() == before


def test_damaged_state_is_replaced_as_the_message_says(
    site: MirrorSite, simulator: Simulator
) -> None:
    good = site.stamps()
    state = site.private / "state.db"
    garble(state)
    assert site.run().exit == 5
    state.rename(site.directory / "state.db.damaged")
    assert site.run("--verify", "--repair").exit == 0
    simulator.clear()
    assert site.run() == SILENT
    assert files_asked_for(simulator) == []
    assert site.stamps() == good


@pytest.mark.parametrize("options", [[], ["--verify"], ["--dry-run"], ["--status"]], ids=" ".join)
def test_state_of_a_newer_version(
    site: MirrorSite, simulator: Simulator, options: list[str]
) -> None:
    state = site.private / "state.db"
    with sqlite3.connect(state) as database:
        database.execute("PRAGMA user_version = 99")
    database.close()
    ran = site.run(*options)
    assert (ran.exit, ran.stdout) == (5, "")
    assert f"{state} was written by a newer version" in ran.stderr
    assert files_asked_for(simulator) == []
