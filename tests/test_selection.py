"""`select` and `since`: which filesets a site mirrors, and what follows when they change."""

from datetime import UTC, datetime

import pytest
from client import MirrorSite, Ran
from holdings import Product
from simulator import Simulator

SILENT = Ran(0, "", "")


@pytest.fixture
def gpc1(simulator: Simulator) -> Product:
    """A product of five filesets with further columns, one value missing."""
    product = simulator.product("gpc1", columns=("stage", "filter"))
    cells = [("chip", "g"), ("camera", "g"), ("chip", "r"), ("stack", None), ("chip_bg", "g")]
    for number, columns in enumerate(cells):
        product.add(f"f{number}", {"a.fits": b"SIMPLE"}, columns=columns)
    return product


def names(site: MirrorSite, product: str = "gpc1") -> list[str]:
    """The filesets of a product that stand in data/."""
    directory = site.root / "data" / product
    return sorted(path.name for path in directory.iterdir()) if directory.is_dir() else []


@pytest.mark.parametrize(
    ("select", "wanted"),
    [
        pytest.param({"stage": "chip"}, ["f0", "f2"], id="name"),
        pytest.param({"stage": "c*"}, ["f0", "f1", "f2", "f4"], id="glob"),
        pytest.param({"stage": ["chip", "stack"]}, ["f0", "f2", "f3"], id="list"),
        pytest.param({"stage": "chip*", "filter": ["g", "i"]}, ["f0", "f4"], id="two columns"),
        pytest.param({"filter": "null"}, ["f3"], id="missing value"),
        pytest.param({"stage": "Chip"}, [], id="case counts"),
    ],
)
def test_select(
    mirror_site: MirrorSite, simulator: Simulator, gpc1: Product, select: object, wanted: list[str]
) -> None:
    mirror_site.configure(simulator.url, select=select)
    assert mirror_site.run() == SILENT
    assert names(mirror_site) == wanted
    assert simulator.count("/gpc1/*/index.txt") == len(wanted)


def test_select_by_a_column_that_is_not_there(
    mirror_site: MirrorSite, simulator: Simulator, gpc1: Product
) -> None:
    simulator.product("gpc2", columns=("stage", "camera")).add(
        "other", {"a.fits": b"SIMPLE"}, columns=("chip", "gpc2")
    )
    mirror_site.configure(simulator.url, products=["gpc1", "gpc2"], select={"camera": "gpc*"})
    ran = mirror_site.run()
    assert ran.exit == 1
    assert ran.stderr.count("\n") == 1
    assert "gpc1: its list has no column camera" in ran.stderr
    assert "stage, filter" in ran.stderr
    assert (names(mirror_site), names(mirror_site, "gpc2")) == ([], ["other"])
    assert mirror_site.run().exit == 1


@pytest.mark.parametrize(
    "since",
    [
        pytest.param("2009-04-15T01:22:14Z", id="text"),
        pytest.param(datetime(2009, 4, 15, 1, 22, 14, tzinfo=UTC), id="yaml timestamp"),
        pytest.param("2009-04-15T03:22:14+02:00", id="another zone"),
        pytest.param("f1", id="fileset"),
    ],
)
def test_since(mirror_site: MirrorSite, simulator: Simulator, gpc1: Product, since: object) -> None:
    assert gpc1.filesets["f1"].registered == "2009-04-15T01:22:14Z"
    mirror_site.configure(simulator.url, since=since)
    assert mirror_site.run() == SILENT
    first = ["f2", "f3", "f4"] if since == "f1" else ["f1", "f2", "f3", "f4"]
    assert names(mirror_site) == first
    gpc1.add("f5", {"a.fits": b"SIMPLE"}, columns=("chip", "g"))
    assert mirror_site.run() == SILENT
    assert names(mirror_site) == [*first, "f5"]


def test_since_a_fileset_that_a_product_does_not_hold(
    mirror_site: MirrorSite, simulator: Simulator, gpc1: Product
) -> None:
    simulator.product("gpc2").add("other", {"a.fits": b"SIMPLE"})
    mirror_site.configure(simulator.url, products=["gpc1", "gpc2"], since="f3")
    ran = mirror_site.run()
    assert ran.exit == 1
    assert ran.stderr.count("\n") == 1
    assert "gpc2: it does not hold the fileset f3 that `since` names" in ran.stderr
    assert (names(mirror_site), names(mirror_site, "gpc2")) == (["f4"], [])


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param({"select": {"stage": "chip"}}, {}, id="no select any more"),
        pytest.param({"select": {"stage": "chip"}}, {"select": {"stage": "*"}}, id="wider select"),
        pytest.param({"since": "f3"}, {}, id="no since any more"),
        pytest.param(
            {"since": "2009-04-15T01:22:17Z"}, {"since": "2001-01-01"}, id="earlier since"
        ),
    ],
)
def test_wider_selection_picks_up_the_older_ones(
    mirror_site: MirrorSite,
    simulator: Simulator,
    gpc1: Product,
    before: dict[str, object],
    after: dict[str, object],
) -> None:
    mirror_site.configure(simulator.url, **before)
    assert mirror_site.run() == SILENT
    had = names(mirror_site)
    assert 0 < len(had) < 5
    simulator.clear()
    mirror_site.configure(simulator.url, **after)
    assert mirror_site.run() == SILENT
    assert names(mirror_site) == ["f0", "f1", "f2", "f3", "f4"]
    for name in had:
        assert simulator.count(f"/gpc1/{name}/*") == 0


def test_narrower_selection_keeps_what_is_mirrored(
    mirror_site: MirrorSite, simulator: Simulator, gpc1: Product
) -> None:
    mirror_site.configure(simulator.url)
    assert mirror_site.run("--limit", "3") == SILENT
    mirror_site.configure(simulator.url, select={"stage": "stack"})
    assert mirror_site.run() == SILENT
    assert names(mirror_site) == ["f0", "f1", "f2", "f3"]
