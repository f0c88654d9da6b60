"""The client as cron runs it against real servers: first run, no news, catch-up, chains of mirrors.

What the tree must hold is worked out from the store by `expected`, not by the client's own code.
"""

import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from client import MirrorSite, Ran, serving
from expected import below, expected_fileset, expected_tree, opened
from runs import chip_run
from simulator import SimFile, Simulator
from watcher import TreeWatcher

from server.samples import sample
from server.samples.store_writer import MEMBER_TIME, make_bundle

SILENT = Ran(0, "", "")
PRODUCTS = tuple(sample.PRODUCTS)


@pytest.fixture(scope="module")
def built_url(built: Path) -> Iterator[str]:
    with serving(built) as url:
        yield url


@pytest.fixture
def store(built: Path, tmp_path: Path) -> Path:
    """A copy of the sample store, to add filesets to."""
    return Path(shutil.copytree(built, tmp_path / "store"))


def prefix_of(site: MirrorSite) -> str:
    return f"{site.root}/data"


def tree_of(store: Path, site: MirrorSite, *, keep: bool = True) -> dict[str, bytes]:
    return expected_tree(below(store), PRODUCTS, prefix_of(site), keep=keep)


def watching(site: MirrorSite, *trees: dict[str, bytes]) -> TreeWatcher:
    """Watches a mirror, of which each file may be as any of `trees` has it."""
    allowed: dict[str, set[bytes] | None] = {}
    for path in {path for tree in trees for path in tree}:
        contents = {tree[path] for tree in trees if path in tree}
        # How a gzipped dump is packed is free, so that its bytes are not known beforehand.
        allowed[path] = None if any(one.startswith(b"gzip:") for one in contents) else contents
    return TreeWatcher(site.root, allowed)


# First run


@pytest.mark.parametrize("keep", [True, False], ids=["keep_bundles", "unpacked alone"])
def test_first_run(mirror_site: MirrorSite, built: Path, built_url: str, keep: bool) -> None:
    mirror_site.configure(built_url, products=["*"], keep_bundles=keep)
    expected = tree_of(built, mirror_site, keep=keep)
    with watching(mirror_site, expected) as watcher:
        assert mirror_site.run() == SILENT
    assert watcher.violations == []
    assert opened(mirror_site.visible()) == expected
    assert mirror_site.litter() == []


@pytest.mark.parametrize("ending", ["", "/", "/index.txt"], ids=["bare", "slash", "index.txt"])
def test_top_uri_forms(mirror_site: MirrorSite, built_url: str, ending: str) -> None:
    mirror_site.configure(built_url.rstrip("/") + ending, products=["IPP-MOPS"])
    assert mirror_site.run() == SILENT
    assert len(list((mirror_site.root / "data/IPP-MOPS").iterdir())) == 2


@pytest.mark.parametrize("umask", [0o022, 0o027], ids=oct)
def test_modes_follow_the_umask(mirror_site: MirrorSite, simulator: Simulator, umask: int) -> None:
    gpc1 = simulator.product("gpc1")
    gpc1.add(*chip_run(1))
    gpc1.add("plain", {"a.fits": b"SIMPLE"})
    mirror_site.configure(simulator.url, keep_bundles=True)
    assert mirror_site.run(umask=umask) == SILENT
    modes = {
        path: stat.S_IMODE(mode)
        for path, (mode, *_) in mirror_site.stamps().items()
        if stat.S_ISREG(mode)
    }
    assert len(modes) == 18
    assert set(modes.values()) == {0o666 & ~umask}


def test_members_keep_their_times(mirror_site: MirrorSite, simulator: Simulator) -> None:
    simulator.product("gpc1").add(*chip_run(1))
    mirror_site.configure(simulator.url)
    assert mirror_site.run() == SILENT
    times = {name: time for name, (mode, _, _, time) in mirror_site.stamps("data").items()
             if stat.S_ISREG(mode)}  # fmt: skip
    assert len(times) == 4
    assert set(times.values()) == {MEMBER_TIME * 10**9}


GOLDEN_DBINFO = """\
dbversion MULTI

dbversion METADATA
   schema_version   STR     1.1.53
END

# the run
chipRun MULTI

chipRun METADATA
   chip_id          S64     293
   workdir          STR     {workdir}   # was on ipp009
   workdir_state    STR     NULL
   tess_id\tSTR\t{tess_id}
END

chipProcessedImfile MULTI

chipProcessedImfile METADATA
   class_id         STR     XY01
   uri              STR     {uri}
   path_base        STR     {path_base}
   hostname         STR     ipp009
END

chipProcessedImfile METADATA
   class_id         STR     XY02
   uri              STR     NULL
   path_base        STR     NULL
END
"""

GOLDEN_DIRINFO = """\
destdir METADATA
	destdir	STR	gpc1/scitest.200807
END

components METADATA
	XY01	STR	o4642g0414o.19490
END
"""

GOLDEN_DUMP = """\
CAMERA            STR     gpc1     # neb://ipp009.0/not/a/file
FILES.INPUT METADATA
   PPIMAGE.INPUT    STR     {a}/gpc1/raw/o4642g0414o.ota01.fits
   PPIMAGE.MASK     STR     {b}/mask/mask.XY01.fits
   PPIMAGE.DARK     STR     {c}/detrends/dark.XY01.fits
   PPIMAGE.FLAT     STR     {d}/detrends/flat.XY01.fits
   PPIMAGE.BIAS     STR     relative/bias.fits
   LOG              STR     STDERR
END
FILES.OUTPUT METADATA
   PPIMAGE.CHIP     STR     {a}/gpc1/scitest.200807/o4642g0414o.19490/o.fits
END
OTHER METADATA
   PPIMAGE.CHIP     STR     neb://ipp009.0/gpc1/stays.fits
END
"""


def test_golden_fileset(mirror_site: MirrorSite, simulator: Simulator) -> None:
    """Every byte of a small mirror, written out."""
    run = "o4642g0414o.19490.ch.293"
    served_dbinfo = GOLDEN_DBINFO.format(
        workdir="neb://ipp009.0/gpc1/scitest.200807",
        tess_id="neb://ipp004.0/tess/RINGS.V3",
        uri=f"neb://ipp009.0/gpc1/scitest.200807/o4642g0414o.19490/{run}.XY01.fits",
        path_base=f"neb://ipp009.0/gpc1/scitest.200807/o4642g0414o.19490/{run}",
    )
    served_dump = GOLDEN_DUMP.format(
        a="neb://ipp009.0", b="path://GPC1.DETRENDS", c="file://data/ipp005.0", d="/data/ipp006.0"
    )
    bundle = make_bundle({f"{run}.XY01.mdc": served_dump.encode(), f"{run}.XY01.fits": b"SIMPLE"})
    files = {
        "dbinfo.chip.293.mdc": served_dbinfo.encode(),
        "dirinfo.chip.293.mdc": GOLDEN_DIRINFO.encode(),
        f"{run}.XY01.tgz": bundle,
    }
    fileset = simulator.product("gpc1").add("o4642g0414o.chip.293.2.1", files)
    mirror_site.configure(simulator.url, data_prefix="path://MIRROR")
    assert mirror_site.run() == SILENT
    data = "data/gpc1/scitest.200807/o4642g0414o.19490"
    info = "info/gpc1/o4642g0414o.chip.293.2.1"
    assert mirror_site.visible() == {
        f"{data}/{run}.XY01.fits": b"SIMPLE",
        f"{data}/{run}.XY01.mdc": GOLDEN_DUMP.format(
            a="path://MIRROR", b="path://MIRROR", c="path://MIRROR", d="path://MIRROR"
        ).encode(),
        f"{info}/dbinfo.chip.293.mdc": GOLDEN_DBINFO.format(
            workdir="path://MIRROR/gpc1/scitest.200807",
            tess_id="RINGS.V3",
            uri=f"path://MIRROR/gpc1/scitest.200807/o4642g0414o.19490/{run}.XY01.fits",
            path_base=f"path://MIRROR/gpc1/scitest.200807/o4642g0414o.19490/{run}",
        ).encode(),
        f"{info}/dirinfo.chip.293.mdc": GOLDEN_DIRINFO.encode(),
        f"{info}/index.txt": simulator.read(fileset.path()),
    }


def test_file_beside_dbinfo_and_md5_left_out(mirror_site: MirrorSite, simulator: Simulator) -> None:
    name, files = chip_run(1, ["XY01"])
    served = [SimFile(file, data, "tgz", ("XY01",), md5="") if file.endswith("tgz")
              else SimFile(file, data, "text", (file.split(".")[0],))
              for file, data in files.items()]  # fmt: skip
    served.append(SimFile("notes.xml", b"<notes/>", "xml"))
    simulator.product("gpc1").add(name, served)
    mirror_site.configure(simulator.url)
    assert mirror_site.run() == SILENT
    assert (mirror_site.root / f"info/gpc1/{name}/notes.xml").read_bytes() == b"<notes/>"
    expected = expected_fileset(simulator.read, "gpc1", name, prefix_of(mirror_site))
    assert mirror_site.visible() == expected


@pytest.mark.parametrize("form", ["crlf", "bom", "arranged"])
def test_lists_of_other_servers(mirror_site: MirrorSite, simulator: Simulator, form: str) -> None:
    simulator.crlf, simulator.bom = form == "crlf", form == "bom"
    if form == "arranged":
        simulator.arrange = lambda names: [*names[1:], names[0]] if len(names) > 5 else names
    gpc1 = simulator.product("gpc1", columns=("target_id", "stage", "stage_id"))
    gpc1.add("one", {"a.fits": b"SIMPLE"}, columns=("1", "chip", "293"))
    mirror_site.configure(simulator.url)
    assert mirror_site.run() == SILENT
    assert (mirror_site.root / "data/gpc1/one/a.fits").read_bytes() == b"SIMPLE"


# No news


def test_no_news_is_one_request_a_product(mirror_site: MirrorSite, simulator: Simulator) -> None:
    for product in ("gpc1", "gpc2"):
        simulator.product(product).add(*chip_run(1))
    # The same run in two products is no conflict.
    mirror_site.configure(simulator.url, products=["gpc1", "gpc2"], keep_bundles=True)
    assert mirror_site.run() == SILENT
    simulator.clear()
    before = mirror_site.stamps()
    assert mirror_site.run() == SILENT
    last = chip_run(1)[0]
    asked = [(request.path, request.query) for request in simulator.requests]
    assert asked == [("/gpc1/index.txt", last), ("/gpc2/index.txt", last)]
    assert mirror_site.stamps() == before


def test_no_news_with_a_glob_asks_the_root_list_too(
    mirror_site: MirrorSite, simulator: Simulator
) -> None:
    simulator.product("gpc1").add("one", {"a.fits": b"SIMPLE"})
    mirror_site.configure(simulator.url, products=["gpc*"])
    assert mirror_site.run() == SILENT
    simulator.clear()
    assert mirror_site.run() == SILENT
    assert [request.path for request in simulator.requests] == ["/index.txt", "/gpc1/index.txt"]


# Catching up


def test_catch_up_of_a_backlog(mirror_site: MirrorSite, store: Path) -> None:
    with serving(store) as url:
        mirror_site.configure(url, products=["gpc1", "IPP-MOPS"], keep_bundles=True)
        assert mirror_site.run() == SILENT
        first = mirror_site.stamps()
        before = tree_of(store, mirror_site)
        sample.add(store, 5)
        expected = tree_of(store, mirror_site)
        with watching(mirror_site, before, expected) as watcher:
            assert mirror_site.run() == SILENT
        assert watcher.violations == []
        assert opened(mirror_site.visible()) == expected
    after = mirror_site.stamps()
    grown = {"store/index.txt", "store/gpc1/index.txt", "store/IPP-MOPS/index.txt"}
    for path, seen in first.items():
        if stat.S_ISREG(seen[0]) and path not in grown:
            assert after[path] == seen, f"{path} was touched"
    assert mirror_site.litter() == []


def test_catch_up_asks_for_new_filesets_alone(
    mirror_site: MirrorSite, simulator: Simulator
) -> None:
    gpc1 = simulator.product("gpc1")
    for number in range(3):
        gpc1.add(*chip_run(number))
    mirror_site.configure(simulator.url)
    assert mirror_site.run() == SILENT
    simulator.clear()
    names = [gpc1.add(*chip_run(number)).name for number in range(3, 6)]
    ran, document = mirror_site.report()
    assert ran == SILENT
    asked = {request.path.split("/")[2] for request in simulator.requests}
    assert asked == {"index.txt", *names}
    assert simulator.count("*") == 1 + 3 * (1 + 4)
    assert document["products"]["gpc1"]["new"] == 3
    assert opened(mirror_site.visible()) == expected_tree(
        simulator.read, ["gpc1"], prefix_of(mirror_site)
    )


# A mirror of a mirror


@pytest.mark.parametrize("static", [False, True], ids=["our server", "a static web server"])
def test_chain_of_mirrors(mirror_site: MirrorSite, store: Path, static: bool) -> None:
    third = MirrorSite(mirror_site.directory / "third")
    third.directory.mkdir()
    with serving(store) as url:
        mirror_site.configure(url, products=["*"], keep_bundles=True)
        assert mirror_site.run() == SILENT
        with serving(mirror_site.root / "store", static=static) as second:
            third.configure(
                second, products=["*"], keep_bundles=True, data_prefix=prefix_of(mirror_site)
            )
            assert third.run() == SILENT
            assert opened(third.visible()) == tree_of(store, mirror_site)
            sample.add(store, 4)
            assert mirror_site.run() == SILENT
            before = third.stamps("data", "info")
            assert third.run() == SILENT
            assert third.visible() == mirror_site.visible()
            assert third.run() == SILENT  # nothing new, and nothing lost, to a static server too
    after = third.stamps("data", "info")
    assert all(after[path] == seen for path, seen in before.items() if stat.S_ISREG(seen[0]))


def test_chain_keeps_what_is_hidden_hidden(mirror_site: MirrorSite, simulator: Simulator) -> None:
    simulator.product("gpc1").add("one", {"a.fits": b"SIMPLE"})
    simulator.product("secret").add("two", {"b.fits": b"SIMPLE"})
    simulator.products["secret"].hidden = True
    mirror_site.configure(simulator.url, hidden_products=["secret"], keep_bundles=True)
    assert mirror_site.run() == SILENT
    store = mirror_site.root / "store"
    assert b"secret" not in (store / "index.txt").read_bytes()
    assert b"two" in (store / "secret/index.txt").read_bytes()
    assert (store / "secret/two/b.fits").exists()


def test_relative_configuration(mirror_site: MirrorSite, built_url: str) -> None:
    """A relative -c starts where the command does, mirror_root at the configuration."""
    mirror_site.configure(built_url, products=["IPP-MOPS"], mirror_root="mirror")
    (mirror_site.directory / "etc").mkdir()
    mirror_site.config.rename(mirror_site.directory / "etc/site.yaml")
    mirror_site.config = Path("etc/site.yaml")
    assert mirror_site.run() == SILENT
    assert (mirror_site.directory / "etc/mirror/data/IPP-MOPS").is_dir()
