"""After a power cut, and repairs that must not make things worse (FAULTS D4, L8, L11)."""

from pathlib import Path

import pytest
from client import MirrorSite, wait_for
from faults import http10, stall, status
from simulator import Product, Simulator

SILENT = (0, "", "")


@pytest.fixture
def gpc1(simulator: Simulator) -> Product:
    product = simulator.product("gpc1")
    product.add("one", {"a.fits": b"A" * 5000, "b.fits": b"B" * 5000})
    return product


@pytest.fixture
def site(mirror_site: MirrorSite, simulator: Simulator, gpc1: Product) -> MirrorSite:
    mirror_site.configure(simulator.url, retries=0, timeout=5)
    return mirror_site


def forget_boot(site: MirrorSite) -> None:
    """Make the next run believe that the machine was started anew."""
    site.change_state("UPDATE meta SET value = 'before' WHERE key = 'boot'")


def test_what_a_power_cut_took_is_not_believed_by_any_later_run(
    site: MirrorSite, simulator: Simulator, gpc1: Product
) -> None:
    simulator.fault("/gpc1/one/b.fits", stall(20), times=None)
    process = site.start()
    staged = site.private / "staging/1/fetched/a.fits"
    wait_for(staged.exists)
    process.kill()
    process.communicate()
    staged.write_bytes(bytes(5000))  # the name and size survived, the contents did not
    forget_boot(site)
    simulator.mend()
    # This run does not come to the fileset; the doubt must outlast it.
    assert site.run("--limit", "0").exit == 0
    assert site.run().exit == 0
    assert (site.root / "data/gpc1/one/a.fits").read_bytes() == b"A" * 5000


def test_a_repair_takes_nothing_of_another_version(
    site: MirrorSite, simulator: Simulator, gpc1: Product
) -> None:
    assert site.run().exit == 0
    broken = site.root / "data/gpc1/one/a.fits"
    broken.write_bytes(b"rotten")
    gpc1.alter("one", {"a.fits": b"another a", "b.fits": b"another b"})
    ran = site.run("--verify", "--repair")
    assert ran.exit == 1
    assert "upstream lists other files than were mirrored" in ran.stderr
    assert broken.read_bytes() == b"rotten"
    again = site.run("--verify")
    assert again.exit == 1
    assert "gpc1/one: is damaged and waits for --repair" in again.stderr


def test_a_damaged_fileset_that_upstream_lost_stays_reported(
    site: MirrorSite, simulator: Simulator, gpc1: Product
) -> None:
    gpc1.add("two", {"c.fits": b"C"})
    assert site.run().exit == 0
    gpc1.withdraw("two")
    assert site.run().exit == 1
    (site.root / "data/gpc1/two/c.fits").write_bytes(b"rotten")
    for _ in range(2):
        ran = site.run("--verify", "--repair")
        assert ran.exit == 1
        assert "data/gpc1/two/c.fits" in ran.stderr


def test_a_repair_that_was_not_begun_is_not_forgotten(site: MirrorSite, gpc1: Product) -> None:
    assert site.run().exit == 0
    (site.root / "data/gpc1/one/a.fits").write_bytes(b"rotten")
    ran = site.run("--verify", "--repair", "--limit", "0")
    assert ran.exit == 1
    assert "was not repaired" in ran.stderr
    assert site.run("--verify").exit == 1
    assert site.run("--verify", "--repair").exit == 0
    assert site.run("--verify").exit == 0


def test_a_refusal_without_bursts_is_one_files_alone(
    site: MirrorSite, simulator: Simulator, gpc1: Product
) -> None:
    gpc1.add("two", {"c.fits": b"C"})
    simulator.fault("/gpc1/one/a.fits", status(404), times=None)
    simulator.fault("*", http10(), times=None)
    ran = site.run()
    assert ran.exit == 1
    assert "gpc1/one/a.fits: HTTP 404" in ran.stderr
    assert (site.root / "data/gpc1/two/c.fits").exists()


def test_an_unreadable_file_does_not_end_the_verification(
    site: MirrorSite, gpc1: Product, tmp_path: Path
) -> None:
    assert site.run().exit == 0
    for name in ("a.fits", "b.fits"):
        (site.root / "data/gpc1/one" / name).write_bytes(b"rotten")
    (site.root / "data/gpc1/one/a.fits").unlink()
    (site.root / "data/gpc1/one/a.fits").symlink_to("a.fits")  # a loop: no one can read it
    ran = site.run("--verify")
    assert ran.exit == 1
    assert ran.stderr.count("data/gpc1/one/") == 2
