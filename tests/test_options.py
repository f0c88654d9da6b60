"""The keys of mirror.yaml and the options of the command, each by what it does to a mirror."""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from client import MirrorSite, Ran
from expected import expected_tree, local_dump
from faults import stall
from holdings import Product
from runs import chip_run, noise
from simulator import Simulator
from wire import bound

SILENT = Ran(0, "", "")


@pytest.fixture
def gpc1(simulator: Simulator) -> Product:
    """A product of five plain filesets."""
    product = simulator.product("gpc1")
    for number in range(5):
        product.add(f"f{number}", {"a.fits": noise(number, 2000)})
    return product


def names(site: MirrorSite, product: str = "gpc1") -> list[str]:
    """The filesets of a product that stand in data/."""
    directory = site.root / "data" / product
    return sorted(path.name for path in directory.iterdir()) if directory.is_dir() else []


# Where from


def test_several_addresses_the_first_of_which_is_dead(
    mirror_site: MirrorSite, simulator: Simulator, gpc1: Product
) -> None:
    with bound(0) as nobody:
        dead = f"http://127.0.0.1:{nobody.getsockname()[1]}/ds/"
        mirror_site.configure([dead, simulator.url], retries=0)
        assert mirror_site.run() == SILENT
    assert names(mirror_site) == ["f0", "f1", "f2", "f3", "f4"]


def test_second_address_has_the_right_bytes(
    mirror_site: MirrorSite, simulator: Simulator, gpc1: Product
) -> None:
    with Simulator() as other:
        product = other.product("gpc1")
        for name, fileset in gpc1.filesets.items():
            product.add(name, fileset.files.values(), fileset.registered)
        simulator.override("/gpc1/f2/a.fits", noise("spoiled", 2000))
        mirror_site.configure([simulator.url, other.url])
        assert mirror_site.run() == SILENT
    assert (mirror_site.root / "data/gpc1/f2/a.fits").read_bytes() == noise(2, 2000)


def test_product_option(mirror_site: MirrorSite, simulator: Simulator, gpc1: Product) -> None:
    for product in ("gpc2", "other"):
        simulator.product(product).add("one", {"a.fits": b"SIMPLE"})
    mirror_site.configure(simulator.url, products=["*"])
    assert mirror_site.run("--product", "gpc2", "--product", "o*") == SILENT
    assert {path.name for path in (mirror_site.root / "data").iterdir()} == {"gpc2", "other"}
    ran = mirror_site.run("--product", "nothing")
    assert "--product nothing" in ran.stderr
    assert ran.exit in (1, 4)


# How much, how long, how fast


def test_limit(mirror_site: MirrorSite, simulator: Simulator, gpc1: Product) -> None:
    mirror_site.configure(simulator.url)
    ran, document = mirror_site.report("--limit", "2")
    assert ran == SILENT
    assert names(mirror_site) == ["f0", "f1"]
    counts = document["products"]["gpc1"]
    assert (counts["new"], counts["done"], counts["queued"]) == (5, 2, 3)
    assert simulator.count("/gpc1/f[234]/*") == 0
    assert mirror_site.run("--limit", "0") == SILENT
    assert names(mirror_site) == ["f0", "f1"]
    assert mirror_site.run() == SILENT
    assert names(mirror_site) == ["f0", "f1", "f2", "f3", "f4"]


def test_deadline_already_over(
    mirror_site: MirrorSite, simulator: Simulator, gpc1: Product
) -> None:
    mirror_site.configure(simulator.url, deadline="0.001s")
    ran, document = mirror_site.report()
    assert ran == SILENT
    assert document["products"]["gpc1"]["queued"] == 5
    assert simulator.count("/gpc1/f*") == 0
    mirror_site.configure(simulator.url, deadline="4h")
    assert mirror_site.run() == SILENT
    assert names(mirror_site) == ["f0", "f1", "f2", "f3", "f4"]


def test_deadline_lets_finish_what_is_in_work(
    mirror_site: MirrorSite, simulator: Simulator, gpc1: Product
) -> None:
    """The one file under way comes after the deadline; nothing is asked for after it."""
    # A busy machine takes its time to begin.
    simulator.fault("/gpc1/f0/a.fits", stall(6))
    mirror_site.configure(simulator.url, deadline="6s", connections=1)
    ran, document = mirror_site.report()
    assert ran == SILENT
    assert names(mirror_site) == ["f0"]
    assert document["products"]["gpc1"]["queued"] == 4
    assert simulator.count("/gpc1/*/a.fits") == 1


def test_rate_limit(mirror_site: MirrorSite, simulator: Simulator) -> None:
    """600 kB at 500 kB/s take more than a second, however many connections there are."""
    product = simulator.product("gpc1")
    for number in range(4):
        product.add(f"f{number}", {"a.fits": noise(number, 150_000)})
    mirror_site.configure(simulator.url, rate_limit="500kB")
    assert mirror_site.run() == SILENT
    ended = time.monotonic()
    first = next(one for one in simulator.requests if one.path.endswith("a.fits"))
    assert ended - first.time > 1.0


def test_min_free(mirror_site: MirrorSite, simulator: Simulator, gpc1: Product) -> None:
    mirror_site.configure(simulator.url, min_free="1000TB")
    ran, document = mirror_site.report()
    assert ran.exit == 5
    assert "resume_free" in ran.stderr
    assert document["exit"] == 5
    assert document["products"]["gpc1"]["queued"] == 5
    assert simulator.count("/gpc1/f*") == 0
    mirror_site.configure(simulator.url)
    assert mirror_site.run() == SILENT
    assert names(mirror_site) == ["f0", "f1", "f2", "f3", "f4"]


# What is kept, and under which paths


def test_unpack_false_keeps_bundles(mirror_site: MirrorSite, simulator: Simulator) -> None:
    gpc1 = simulator.product("gpc1")
    gpc1.add(*chip_run(1))
    gpc1.add("plain", {"a.fits": b"SIMPLE"})
    mirror_site.configure(simulator.url, unpack=False)
    assert mirror_site.run() == SILENT
    prefix = f"{mirror_site.root}/data"
    expected = expected_tree(simulator.read, ["gpc1"], prefix, keep=True, unpack=False)
    assert mirror_site.visible() == expected
    assert names(mirror_site) == ["plain"]


@pytest.mark.parametrize(
    ("given", "written"),
    [
        pytest.param("path://MIRROR", "path://MIRROR", id="path volume"),
        pytest.param("/export/ps1/", "/export/ps1", id="trailing slash"),
        pytest.param(r"/back\1slash", r"/back\1slash", id="backslash"),
    ],
)
def test_data_prefix(
    mirror_site: MirrorSite, simulator: Simulator, given: str, written: str
) -> None:
    simulator.product("gpc1").add(*chip_run(1, ["XY01"]))
    mirror_site.configure(simulator.url, data_prefix=given)
    assert mirror_site.run() == SILENT
    tree = mirror_site.visible()
    (dbinfo,) = [data for path, data in tree.items() if "dbinfo" in path]
    assert f"   workdir          STR     {written}/gpc1/scitest.200807\n".encode() in dbinfo
    (dump,) = [data for path, data in tree.items() if path.endswith("XY01.mdc")]
    assert f"STR   {written}/r.fits\n".encode() in dump


def test_path_file(mirror_site: MirrorSite, simulator: Simulator) -> None:
    simulator.product("gpc1").add(*chip_run(1))
    stage = mirror_site.directory / "site.stage"
    stage.write_text("STAGE.01 = MIRROR\n")
    paths = mirror_site.directory / "site.path"
    paths.write_text(
        "! where this site keeps things\n"
        f"STAGE_FILE            = {stage}\n"
        f"OPUS_OBSERVATIONS_DIR = {mirror_site.directory}/obs/\n"
        f"MIRROR_DIR            = {mirror_site.directory}/SUB[CAMERA]\n"
        "OUTPATH               = OPUS_EXPORT:gpc1/\n"
    )
    mirror_site.configure(
        simulator.url, path_file=str(paths), mirror_root="MIRROR_DIR", data_prefix="OUTPATH"
    )
    ran = mirror_site.run(environ={"CAMERA": "mirror", "OPUS_EXPORT": "/export"})
    assert ran == SILENT
    expected = expected_tree(simulator.read, ["gpc1"], "/export/gpc1")
    assert mirror_site.visible() == expected


def test_expectation_itself() -> None:
    """What this and other tests compare with is right for every form of a volume."""
    text = "FILES.INPUT METADATA\n   A   STR   {}/a/b\nEND\n   A   STR   neb://v/a\n"
    for volume in ("neb://v", "neb://", "path://N", "file://data/h", "file:///data/h", "/data/h"):
        expected = text.format("/here").encode()
        assert local_dump("x.mdc", text.format(volume).encode(), "/here") == expected


# after_fileset


HOOK = """\
import json, os, pathlib, sys
here = pathlib.Path(__file__).parent
names = ["MIRROR_PRODUCT", "MIRROR_FILESET", "MIRROR_INFO_DIR", "MIRROR_DATA_DIR"]
with (here / "calls").open("a") as calls:
    print(json.dumps([sys.argv[1:], [os.environ[name] for name in names]]), file=calls)
print("first line")
print("no room at the archive", file=sys.stderr)
sys.exit(3 if (here / "broken").exists() else 0)
"""

Calls = Callable[[], list[list[list[str]]]]


@pytest.fixture
def hook(tmp_path: Path) -> Path:
    """A command that notes how it is called, and fails as long as there is a file `broken`."""
    script = tmp_path / "hook.py"
    script.write_text(HOOK)
    return script


@pytest.fixture
def calls(hook: Path) -> Calls:
    """Takes the calls so far: arguments and variables of each."""

    def take() -> list[list[list[str]]]:
        path = hook.parent / "calls"
        lines = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return [json.loads(line) for line in lines]

    return take


@pytest.mark.parametrize("as_text", [False, True], ids=["list", "string"])
def test_after_fileset(
    mirror_site: MirrorSite, simulator: Simulator, hook: Path, calls: Calls, as_text: bool
) -> None:
    gpc1 = simulator.product("gpc1")
    run, _ = chip_run(1)
    gpc1.add(*chip_run(1))
    gpc1.add("plain", {"a.fits": b"SIMPLE"})
    command = [sys.executable, str(hook), "two words", "$HOME"]
    text = f"{sys.executable} {hook} 'two words' $HOME"
    mirror_site.configure(simulator.url, after_fileset=text if as_text else command)
    assert mirror_site.run() == SILENT
    root = mirror_site.root
    words = ["two words", "$HOME"]
    data = f"{root}/data/gpc1/scitest.200807"
    assert sorted(calls()) == [
        [words, ["gpc1", run, f"{root}/info/gpc1/{run}", data]],
        [words, ["gpc1", "plain", f"{root}/info/gpc1/plain", f"{root}/data/gpc1/plain"]],
    ]
    assert mirror_site.run() == SILENT
    assert calls() == []


def test_failed_after_fileset_is_told_and_tried_again(
    mirror_site: MirrorSite, simulator: Simulator, gpc1: Product, hook: Path, calls: Calls
) -> None:
    broken = hook.parent / "broken"
    broken.touch()
    mirror_site.configure(simulator.url, after_fileset=[sys.executable, str(hook)])
    ran, document = mirror_site.report("--limit", "1")
    assert ran.exit == 1
    assert ran.stderr.count("\n") == 1
    assert "gpc1/f0: after_fileset" in ran.stderr
    assert "ended with status 3: no room at the archive" in ran.stderr
    assert (document["products"]["gpc1"]["done"], names(mirror_site)) == (1, ["f0"])
    assert len(calls()) == 1
    simulator.clear()
    ran = mirror_site.run("--limit", "0")
    assert ran.exit == 1
    assert [variables[1] for _, variables in calls()] == ["f0"]
    assert simulator.count("/gpc1/f0/*") == 0
    assert names(mirror_site) == ["f0"]
    broken.unlink()
    assert mirror_site.run() == SILENT
    assert sorted(variables[1] for _, variables in calls()) == ["f0", "f1", "f2", "f3", "f4"]


def test_after_fileset_that_cannot_be_run(
    mirror_site: MirrorSite, simulator: Simulator, gpc1: Product
) -> None:
    mirror_site.configure(simulator.url, after_fileset=["/no/such/command"])
    ran = mirror_site.run("--limit", "1")
    assert ran.exit == 1
    assert "after_fileset /no/such/command: No such file or directory" in ran.stderr
    assert names(mirror_site) == ["f0"]
