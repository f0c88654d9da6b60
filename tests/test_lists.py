"""Lists that do what they should not: regress, empty, contradict themselves, hide, go wrong.

Whatever a list does, nothing that is mirrored is deleted or fetched again because of it, and what
the operator should know is told with product and line.
"""

from dataclasses import replace

import pytest
from client import MirrorSite, Ran
from holdings import Product
from simulator import Simulator

SILENT = Ran(0, "", "")


@pytest.fixture
def gpc1(simulator: Simulator) -> Product:
    """A product with three filesets of one file each."""
    product = simulator.product("gpc1")
    for name in ("one", "two", "three"):
        product.add(name, {f"{name}.fits": name.encode()})
    return product


@pytest.fixture
def site(mirror_site: MirrorSite, simulator: Simulator, gpc1: Product) -> MirrorSite:
    """A site that has mirrored the product."""
    mirror_site.configure(simulator.url, keep_bundles=True)
    assert mirror_site.run() == SILENT
    simulator.clear()
    return mirror_site


def files_asked_for(simulator: Simulator) -> list[str]:
    """The paths below filesets that were asked for, lists too."""
    return [request.path for request in simulator.requests if request.path.count("/") > 2]


def names(site: MirrorSite) -> set[str]:
    """The filesets that stand in data/."""
    return {path.name for path in (site.root / "data/gpc1").iterdir()}


# The last fileset withdrawn


def test_last_fileset_withdrawn(site: MirrorSite, simulator: Simulator, gpc1: Product) -> None:
    gpc1.withdraw("three")
    before = site.stamps()
    ran = site.run()
    assert (ran.exit, ran.stdout) == (1, "")
    assert ran.stderr.count("\n") == 1
    assert "gpc1: its list has lost 1 filesets that are known here (three)" in ran.stderr
    queries = [request.query for request in simulator.requests if request.path == gpc1.path]
    assert queries == ["three", ""]
    assert files_asked_for(simulator) == []
    assert site.stamps() == before


def test_after_a_withdrawal_the_next_ones_are_found(
    site: MirrorSite, simulator: Simulator, gpc1: Product
) -> None:
    gpc1.withdraw("three")
    gpc1.add("four", {"four.fits": b"four"})
    ran = site.run()
    assert ran.exit == 1
    assert "three" in ran.stderr
    assert files_asked_for(simulator) == ["/gpc1/four/index.txt", "/gpc1/four/four.fits"]
    assert names(site) == {"one", "two", "three", "four"}
    simulator.clear()
    gpc1.add("five", {"five.fits": b"five"})
    assert site.run() == SILENT
    assert simulator.count("/gpc1/index.txt?four") == 1
    assert names(site) == {"one", "two", "three", "four", "five"}


def test_withdrawn_fileset_that_comes_back(
    site: MirrorSite, simulator: Simulator, gpc1: Product
) -> None:
    kept = gpc1.withdraw("three")
    assert site.run().exit == 1
    gpc1.filesets["three"] = kept
    assert site.run() == SILENT
    assert files_asked_for(simulator) == []


def test_filesets_lost_in_mid_list(site: MirrorSite, simulator: Simulator, gpc1: Product) -> None:
    simulator.ignore_query = True
    gpc1.withdraw("one")
    gpc1.withdraw("two")
    before = site.stamps()
    ran = site.run()
    assert ran.exit == 1
    assert "gpc1: its list has lost 2 filesets that are known here (one, two)" in ran.stderr
    assert files_asked_for(simulator) == []
    assert site.stamps() == before


def test_queued_fileset_that_is_withdrawn_is_no_longer_tried(
    mirror_site: MirrorSite, simulator: Simulator, gpc1: Product
) -> None:
    mirror_site.configure(simulator.url)
    assert mirror_site.run("--limit", "2").exit == 0
    gpc1.withdraw("three")
    ran = mirror_site.run()
    assert ran.exit == 1
    assert "three" in ran.stderr
    simulator.clear()
    ran, document = mirror_site.report()
    assert ran == SILENT
    assert document["products"]["gpc1"]["queued"] == 0
    assert simulator.count("/gpc1/three/*") == 0


# Servers that do not heed the query


@pytest.mark.parametrize("switch", ["ignore_query", "whole_if_unknown"])
def test_server_of_whole_lists(
    site: MirrorSite, simulator: Simulator, gpc1: Product, switch: str
) -> None:
    setattr(simulator, switch, True)
    before = site.stamps()
    assert site.run() == SILENT
    assert files_asked_for(simulator) == []
    assert site.stamps() == before
    gpc1.add("four", {"four.fits": b"four"})
    assert site.run() == SILENT
    assert files_asked_for(simulator) == ["/gpc1/four/index.txt", "/gpc1/four/four.fits"]
    simulator.clear()
    gpc1.withdraw("four")
    ran = site.run()
    assert ran.exit == 1
    assert "its list has lost 1 filesets that are known here (four)" in ran.stderr
    assert files_asked_for(simulator) == []


# Sudden emptiness


@pytest.mark.parametrize("switch", ["", "ignore_query"])
def test_list_suddenly_empty_is_told_every_run(
    site: MirrorSite, simulator: Simulator, gpc1: Product, switch: str
) -> None:
    if switch:
        setattr(simulator, switch, True)
        assert site.run() == SILENT
    before = site.stamps()
    kept = dict(gpc1.filesets)
    gpc1.empty()
    for _ in range(2):
        ran = site.run()
        assert ran.exit == 1
        assert "gpc1: its list is empty, and had 3 filesets that are known here" in ran.stderr
        assert site.stamps() == before
    gpc1.filesets = kept
    gpc1.add("four", {"four.fits": b"four"})
    simulator.clear()
    assert site.run() == SILENT
    assert files_asked_for(simulator) == ["/gpc1/four/index.txt", "/gpc1/four/four.fits"]


def test_product_that_is_gone(site: MirrorSite, simulator: Simulator) -> None:
    del simulator.products["gpc1"]
    before = site.stamps()
    ran = site.run()
    assert ran.exit == 4
    assert "gpc1" in ran.stderr
    assert "404" in ran.stderr
    assert site.stamps() == before


# Registered again


def test_registered_again_is_mirrored_anew(
    site: MirrorSite, simulator: Simulator, gpc1: Product
) -> None:
    gpc1.register_again("two", {"two.fits": b"two, better", "more.fits": b"more"})
    ran = site.run()
    assert ran.exit == 0
    assert "two was registered again" in ran.stderr
    assert files_asked_for(simulator)[0] == "/gpc1/two/index.txt"
    assert simulator.count("/gpc1/one/*") == simulator.count("/gpc1/three/*") == 0
    tree = site.visible()
    assert tree["data/gpc1/two/two.fits"] == tree["store/gpc1/two/two.fits"] == b"two, better"
    assert tree["data/gpc1/two/more.fits"] == b"more"
    assert tree["info/gpc1/two/index.txt"] == simulator.read("/gpc1/two/index.txt")
    listed = [line.split("|")[0].strip() for line in tree["store/gpc1/index.txt"].decode()
              .splitlines()[1:] if not line.startswith("#")]  # fmt: skip
    assert listed == ["one", "three", "two"]
    assert site.run() == SILENT


def test_registered_again_leaves_the_old_one_until_the_new_is_complete(
    site: MirrorSite, simulator: Simulator, gpc1: Product
) -> None:
    gpc1.register_again("two", {"two.fits": b"two, better", "more.fits": b"more"})
    simulator.override("/gpc1/two/more.fits", b"something else")
    before = site.stamps("data", "info")
    ran = site.run()
    assert ran.exit == 1
    assert "gpc1/two/more.fits" in ran.stderr
    assert site.stamps("data", "info") == before
    simulator.mend()
    assert site.run() == SILENT
    assert site.visible()["data/gpc1/two/two.fits"] == b"two, better"


def test_other_content_at_the_same_time_is_left_and_seen_by_verify(
    site: MirrorSite, simulator: Simulator, gpc1: Product
) -> None:
    gpc1.alter("two", {"two.fits": b"other bytes"})
    before = site.stamps()
    assert site.run() == SILENT
    for _ in range(2):
        ran = site.run("--verify")
        assert ran.exit == 1
        assert "gpc1/two: upstream lists other files than were mirrored" in ran.stderr
    ran = site.run("--verify", "--repair")
    assert ran.exit == 1
    assert site.stamps() == before


def test_other_time_that_is_not_later_is_held(
    site: MirrorSite, simulator: Simulator, gpc1: Product
) -> None:
    simulator.ignore_query = True
    before = site.stamps()
    right = gpc1.filesets["two"]
    gpc1.filesets["two"] = replace(right, registered="2001-01-01T00:00:00Z")
    for _ in range(2):
        ran = site.run()
        assert ran.exit == 1
        assert "gpc1: two is listed with time 2001-01-01T00:00:00Z" in ran.stderr
        assert files_asked_for(simulator) == []
    gpc1.filesets["two"] = right
    assert site.run() == SILENT
    assert site.stamps() == before


# Malformed rows


MALFORMED = {
    "time": ("mal", "yesterday"),
    "name": ("-mal", None),
    "hash in a field": ("mal", "2009-04-15T01:22:13Z # late"),
}


@pytest.mark.parametrize(("name", "registered"), MALFORMED.values(), ids=MALFORMED)
def test_malformed_row_is_told_and_taken_when_mended(
    mirror_site: MirrorSite, simulator: Simulator, name: str, registered: str | None
) -> None:
    gpc1 = simulator.product("gpc1")
    gpc1.add("one", {"one.fits": b"one"})
    right = gpc1.add(name, {"mal.fits": b"mal"})
    if registered:
        gpc1.filesets[name] = replace(right, registered=registered)
    gpc1.add("three", {"three.fits": b"three"})
    mirror_site.configure(simulator.url)
    ran, document = mirror_site.report()
    assert ran.exit == 1
    assert ran.stderr.count("\n") == 1
    assert "gpc1: line 3 of its list is malformed" in ran.stderr
    assert document["products"]["gpc1"]["last_fileset"] == "one"
    assert names(mirror_site) == {"one", "three"}
    simulator.clear()
    ran = mirror_site.run()
    assert ran.exit == 1
    assert "gpc1: line 2 of its list is malformed" in ran.stderr
    assert files_asked_for(simulator) == []
    order = [key if key != name else "mended" for key in gpc1.filesets]
    held = {**gpc1.filesets, "mended": replace(right, name="mended")}
    gpc1.filesets = {key: held[key] for key in order}
    assert mirror_site.run() == SILENT
    assert names(mirror_site) == {"one", "mended", "three"}
    assert simulator.count("/gpc1/three/*") == simulator.count("/gpc1/one/*") == 0
    simulator.clear()
    assert mirror_site.run() == SILENT
    assert simulator.count("/gpc1/index.txt?three") == 1


def test_fileset_listed_twice(site: MirrorSite, simulator: Simulator, gpc1: Product) -> None:
    whole = simulator.read(gpc1.path)
    row = whole.splitlines(keepends=True)[2]
    simulator.override(gpc1.path, whole + row)
    ran = site.run()
    assert ran.exit == 0
    assert "two is listed twice" in ran.stderr
    assert files_asked_for(simulator) == []


def test_malformed_row_of_a_fileset_fails_it_alone(
    mirror_site: MirrorSite, simulator: Simulator, gpc1: Product
) -> None:
    path = "/gpc1/two/index.txt"
    simulator.override(path, simulator.read(path).replace(b"|3 ", b"|x ", 1))
    mirror_site.configure(simulator.url)
    ran = mirror_site.run()
    assert ran.exit == 1
    assert "gpc1/two: malformed rows in index.txt: line 2" in ran.stderr
    assert names(mirror_site) == {"one", "three"}


# Hidden products, products that are not there


def test_hidden_product(mirror_site: MirrorSite, simulator: Simulator, gpc1: Product) -> None:
    simulator.product("secret").add("four", {"four.fits": b"four"})
    simulator.products["secret"].hidden = True
    mirror_site.configure(simulator.url, products=["*"], hidden_products=["secret"])
    assert mirror_site.run() == SILENT
    assert (mirror_site.root / "data/secret/four/four.fits").read_bytes() == b"four"
    assert names(mirror_site) == {"one", "two", "three"}


def test_hidden_product_asked_for_as_a_shown_one(
    mirror_site: MirrorSite, simulator: Simulator, gpc1: Product
) -> None:
    simulator.product("secret").hidden = True
    mirror_site.configure(simulator.url, products=["gpc1", "secret"])
    ran = mirror_site.run()
    assert ran.exit == 1
    assert "secret: the root list has no such product (it has gpc1)" in ran.stderr
    assert "hidden_products" in ran.stderr
    assert names(mirror_site) == {"one", "two", "three"}


def test_glob_that_nothing_matches(
    mirror_site: MirrorSite, simulator: Simulator, gpc1: Product
) -> None:
    mirror_site.configure(simulator.url, products=["gpc[2-9]"])
    ran = mirror_site.run()
    assert ran.exit == 4
    assert "gpc[2-9]: the root list has no such product (it has gpc1)" in ran.stderr


def test_malformed_row_of_the_root_list(
    mirror_site: MirrorSite, simulator: Simulator, gpc1: Product
) -> None:
    simulator.override("/index.txt", simulator.read("/index.txt") + b"gpc2|none|never|\n")
    mirror_site.configure(simulator.url, products=["*"])
    ran = mirror_site.run()
    assert ran.exit == 1
    assert "line 3 of the root list is malformed" in ran.stderr
    assert names(mirror_site) == {"one", "two", "three"}
