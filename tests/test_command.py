"""The command: what it prints and writes, the plan, the status, and every exit status."""

import json
import os
import re
import socket
from pathlib import Path

import pytest
from client import MirrorSite, Ran, wait_for
from faults import stall, status
from holdings import Product
from runs import chip_run
from simulator import Simulator
from wire import bound

SILENT = Ran(0, "", "")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


@pytest.fixture
def gpc1(simulator: Simulator) -> Product:
    """A product of a chip run and two plain filesets, `two` with a file that cannot be had."""
    product = simulator.product("gpc1")
    product.add(*chip_run(1))
    product.add("two", {"two.fits": b"SIMPLE"})
    product.add("three", {"three.fits": b"SIMPLE  =", "more.fits": b"="})
    return product


@pytest.fixture
def site(mirror_site: MirrorSite, simulator: Simulator, gpc1: Product) -> MirrorSite:
    mirror_site.configure(simulator.url)
    return mirror_site


def everything(directory: Path) -> dict[str, tuple[int, int, bytes]]:
    """All below a directory: inode, mtime and content of each file."""
    return {
        str(path): (
            path.lstat().st_ino,
            path.lstat().st_mtime_ns,
            path.read_bytes() if path.is_file() else b"",
        )
        for path in sorted(directory.rglob("*"))
    }


# --dry-run


def plan_of(gpc1: Product, *names: str) -> str:
    """What --dry-run prints for these filesets."""
    filesets = [gpc1.filesets[name] for name in names]
    sizes = [[len(file.data) for file in fileset.files.values()] for fileset in filesets]
    lines = [
        f"gpc1 {name} {len(each)} {sum(each)}\n" for name, each in zip(names, sizes, strict=True)
    ]
    return "".join(lines)


def test_dry_run_of_a_first_run(site: MirrorSite, gpc1: Product) -> None:
    before = everything(site.directory)
    ran = site.run("--dry-run")
    run = chip_run(1)[0]
    *plan, total = ran.stdout.splitlines(keepends=True)
    assert "".join(plan) == plan_of(gpc1, run, "two", "three")
    size = sum(len(file.data) for one in gpc1.filesets.values() for file in one.files.values())
    assert re.fullmatch(rf"total: 3 filesets, 7 files, {size} bytes .*\n", total)
    assert (ran.exit, ran.stderr) == (0, "")
    assert everything(site.directory) == before
    assert not site.root.exists()


def test_dry_run_of_a_catch_up_changes_nothing(
    site: MirrorSite, simulator: Simulator, gpc1: Product
) -> None:
    assert site.run("--limit", "1") == SILENT
    gpc1.add("four", {"four.fits": b"SIMPLE"})
    before = everything(site.directory)
    simulator.clear()
    ran = site.run("--dry-run")
    assert ran.stdout.startswith(plan_of(gpc1, "two", "three", "four") + "total: 3 filesets")
    assert (ran.exit, ran.stderr) == (0, "")
    assert everything(site.directory) == before
    assert simulator.count("*.fits") == simulator.count("*.tgz") == 0
    assert site.run() == SILENT
    assert site.run("--dry-run").stdout.startswith("total: 0 filesets, 0 files, 0 bytes")


def test_dry_run_with_limit_and_product(site: MirrorSite, gpc1: Product) -> None:
    run = chip_run(1)[0]
    assert site.run("--dry-run", "--limit", "1").stdout.startswith(plan_of(gpc1, run) + "total: 1 ")
    ran = site.run("--dry-run", "--product", "other*")
    assert ran.stdout.startswith("total: 0 filesets")


# --json and --status


def fault_of(gpc1: Product, simulator: Simulator) -> None:
    """Let one file be away for good."""
    simulator.fault("/gpc1/two/two.fits", status(404), times=None)


def test_json_document(site: MirrorSite, simulator: Simulator, gpc1: Product) -> None:
    fault_of(gpc1, simulator)
    ran, document = site.report()
    assert ran.exit == 1
    assert list(document) == ["started", "finished", "exit", "products", "faults"]
    assert TIME.fullmatch(document["started"])
    assert TIME.fullmatch(document["finished"])
    assert document["started"] <= document["finished"]
    assert document["exit"] == 1
    seconds = document["products"]["gpc1"].pop("seconds")
    assert isinstance(seconds, float)
    assert seconds > 0
    done = [chip_run(1)[0], "three"]
    sizes = [len(file.data) for name in done for file in gpc1.filesets[name].files.values()]
    assert document["products"] == {
        "gpc1": {
            "listed": 3, "new": 3, "done": 2, "failed": 1, "queued": 1, "bytes": sum(sizes),
            "last_fileset": "three",
        }
    }  # fmt: skip
    (fault,) = document["faults"]
    told = fault.pop("fault")
    assert "404" in told
    assert fault == {"product": "gpc1", "fileset": "two", "file": "two.fits"}
    assert ran.stderr == f"update_mirror: gpc1/two/two.fits: {told}\n"


def test_json_to_standard_output(site: MirrorSite) -> None:
    ran = site.run("--json", "-")
    assert (ran.exit, ran.stderr) == (0, "")
    assert json.loads(ran.stdout)["products"]["gpc1"]["done"] == 3


def test_json_that_cannot_be_written(site: MirrorSite) -> None:
    ran = site.run("--json", "no/such/directory/report.json")
    assert ran.exit == 5
    assert "--json" in ran.stderr
    assert "no/such/directory" in ran.stderr
    assert (site.root / "data/gpc1/two/two.fits").exists()


def test_status_without_the_network(site: MirrorSite, simulator: Simulator, gpc1: Product) -> None:
    fault_of(gpc1, simulator)
    assert site.run().exit == 1
    simulator.clear()
    before = site.stamps()
    with simulator.server.down():
        ran = site.run("--status")
        table, document = ran.stdout, json.loads(site.run("--status", "--json", "-").stdout)
    assert (ran.exit, ran.stderr) == (0, "")
    header, row, failed = table.splitlines()
    assert header.split() == [
        "product", "listed", "done", "queued", "failed", "size", "newest", "last", "fileset",
    ]  # fmt: skip
    assert row.split()[:5] == ["gpc1", "3", "2", "1", "1"]
    assert row.split()[-1] == "three"
    assert failed.startswith("failed: gpc1/two/two.fits: ")
    assert "404" in failed
    assert list(document) == ["started", "finished", "exit", "products", "faults"]
    counts = document["products"]["gpc1"]
    assert (counts["listed"], counts["done"], counts["queued"]) == (3, 2, 1)
    assert counts["last_fileset"] == "three"
    assert [fault["fileset"] for fault in document["faults"]] == ["two"]
    assert simulator.count("/index.txt") + simulator.count("/*/index.txt") == 0
    assert site.stamps() == before


def test_status_before_the_first_run(site: MirrorSite) -> None:
    ran = site.run("--status")
    assert ran.exit == 5
    assert "nothing was mirrored yet" in ran.stderr
    assert not site.root.exists()


def test_status_while_a_run_works(site: MirrorSite, simulator: Simulator) -> None:
    simulator.fault("/gpc1/two/two.fits", stall(20))
    running = site.start()
    wait_for(lambda: simulator.count("/gpc1/two/two.fits"))
    ran = site.run("--status")
    running.kill()
    running.communicate()
    assert (ran.exit, ran.stderr) == (0, "")
    assert "gpc1" in ran.stdout


# -q and -v


def test_quiet_tells_trouble_only(site: MirrorSite, simulator: Simulator, gpc1: Product) -> None:
    fault_of(gpc1, simulator)
    ran = site.run("-q")
    assert (ran.exit, ran.stdout) == (1, "")
    assert ran.stderr.count("\n") == 1
    simulator.mend()
    assert site.run("-q") == SILENT


def test_verbose_tells_every_fileset_and_a_summary(site: MirrorSite) -> None:
    ran = site.run("-v")
    assert (ran.exit, ran.stdout) == (0, "")
    for name in (chip_run(1)[0], "two", "three"):
        assert re.search(rf"^update_mirror: gpc1/{re.escape(name)}: mirrored", ran.stderr, re.M)
    assert re.search(r"^gpc1: 3 done, 0 failed, 0 queued, ", ran.stderr, re.M)
    assert ran.stderr.endswith("mirrored 3 filesets, 0 queued, no faults; exit status 0\n")


# Exit statuses


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(["--repair"], id="--repair alone"),
        pytest.param(["--dry-run", "--verify"], id="--dry-run --verify"),
        pytest.param(["--dry-run", "--status"], id="--dry-run --status"),
        pytest.param(["--status", "--verify"], id="--status --verify"),
        pytest.param(["-q", "-v"], id="-q -v"),
        pytest.param(["--limit", "many"], id="--limit many"),
        pytest.param(["--limit", "-1"], id="--limit -1"),
        pytest.param(["--no-such-option"], id="unknown option"),
        pytest.param(["--prod", "gpc1"], id="abbreviated option"),
        pytest.param(["gpc1"], id="argument"),
        pytest.param(["--json"], id="--json without a file"),
    ],
)
def test_wrong_usage(mirror_site: MirrorSite, options: list[str]) -> None:
    ran = mirror_site.run(*options)
    assert (ran.exit, ran.stdout) == (2, "")
    assert ran.stderr.startswith("usage: update_mirror.py")


def test_version_and_help(mirror_site: MirrorSite) -> None:
    ran = mirror_site.run("--version")
    assert (ran.exit, ran.stderr) == (0, "")
    assert re.fullmatch(r"update_mirror \d+(\.\d+)+\S*\n", ran.stdout)
    ran = mirror_site.run("--help")
    assert ran.exit == 0
    assert "75" in ran.stdout


def test_configuration_with_problems(site: MirrorSite, simulator: Simulator) -> None:
    site.config.write_text(
        f"mirror_root: {site.root}\ntop_uri: ftp://host/ds\nproduct: gpc1\nconnections: many\n"
    )
    ran = site.run()
    assert (ran.exit, ran.stdout) == (3, "")
    for place in (":2: top_uri: ", ":3: product: ", ":4: connections: ", ": products: required"):
        assert f"{site.config}{place}" in ran.stderr
    assert ran.stderr.count("\n") == 4
    assert simulator.count("/index.txt") + simulator.count("/*/index.txt") == 0
    assert not site.root.exists()


def test_configuration_that_is_not_there(mirror_site: MirrorSite) -> None:
    ran = mirror_site.run()
    assert ran.exit == 3
    assert str(mirror_site.config) in ran.stderr


def test_unreachable(mirror_site: MirrorSite) -> None:
    with bound(0) as nobody:
        port = nobody.getsockname()[1]
        mirror_site.configure(f"http://127.0.0.1:{port}/ds/", retries=0)
        ran, document = mirror_site.report()
    assert (ran.exit, ran.stdout) == (4, "")
    assert f"127.0.0.1:{port}" in ran.stderr
    assert "Traceback" not in ran.stderr
    assert document["exit"] == 4


@pytest.mark.parametrize("code", [401, 403], ids=str)
def test_refused(site: MirrorSite, simulator: Simulator, code: int) -> None:
    simulator.fault("*", status(code), times=None)
    ran = site.run()
    assert ran.exit == 4
    assert f"HTTP {code}" in ran.stderr
    assert "credentials" in ran.stderr
    assert simulator.count() <= 2


def test_one_product_of_two_cannot_be_listed(site: MirrorSite, simulator: Simulator) -> None:
    simulator.product("gpc2").add("other", {"a.fits": b"SIMPLE"})
    simulator.fault("/gpc2/index.txt", status(403), times=None)
    site.configure(simulator.url, products=["gpc1", "gpc2"])
    ran = site.run()
    assert ran.exit == 1
    assert "gpc2: cannot be listed: HTTP 403" in ran.stderr
    assert (site.root / "data/gpc1/two").is_dir()


@pytest.mark.parametrize("way", ["a file", "no permission"])
def test_mirror_root_that_cannot_be_written(
    mirror_site: MirrorSite, simulator: Simulator, gpc1: Product, way: str
) -> None:
    blocked = mirror_site.directory / "blocked"
    if way == "a file":
        blocked.write_text("in the way")
    elif os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    else:
        blocked.mkdir(mode=0o555)
    mirror_site.configure(simulator.url, mirror_root=str(blocked / "mirror"))
    ran, document = mirror_site.report()
    assert (ran.exit, document["exit"]) == (5, 5)
    assert str(blocked) in ran.stderr
    assert ran.stderr.count("\n") == 1
    assert simulator.count("/index.txt") + simulator.count("/*/index.txt") == 0


def test_second_run_leaves_and_names_the_holder(site: MirrorSite, simulator: Simulator) -> None:
    simulator.fault("/gpc1/two/two.fits", stall(20))
    first = site.start()
    wait_for(lambda: simulator.count("/gpc1/two/two.fits"))
    simulator.clear()
    second = site.run()
    assert (second.exit, second.stdout) == (75, "")
    holder = rf"held by pid {first.pid} on {re.escape(socket.gethostname())} since {TIME.pattern}"
    assert re.search(holder, second.stderr)
    assert site.run("--verify").exit == 75
    assert not {one.path for one in simulator.requests} & {"/index.txt", "/gpc1/index.txt"}
    first.kill()
    first.communicate()
    # The lock of a dead process is none.
    assert site.run() == SILENT


@pytest.mark.parametrize("options", [["--dry-run"], ["--status"]], ids=" ".join)
def test_standard_output_that_is_closed(site: MirrorSite, options: list[str]) -> None:
    """`update_mirror.py --dry-run | head -1`: a line, and no traceback."""
    assert site.run("--limit", "1") == SILENT
    with site.start(*options) as process:
        assert process.stdout
        process.stdout.close()
        assert process.stderr
        told = process.stderr.read()
    assert told == "update_mirror: standard output was closed before everything was written\n"
    assert process.returncode == 1


def test_standard_error_that_is_closed_is_no_trouble(site: MirrorSite) -> None:
    with site.start("-v") as process:
        assert process.stderr
        process.stderr.close()
        assert process.stdout
        assert process.stdout.read() == ""
    assert process.returncode == 0
    assert (site.root / "data/gpc1/three/three.fits").exists()
