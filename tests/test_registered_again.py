"""Names that come back: a client that follows a product by its last fileset misses nothing."""

import time
from pathlib import Path

import pytest
from client import MirrorSite, Ran
from publisher import Publisher

SILENT = Ran(0, "", "")


@pytest.fixture
def publisher(tmp_path: Path) -> Publisher:
    made = Publisher(tmp_path / "origin")
    made.product("gpc1", "ipp-dist")
    return made


def add(publisher: Publisher, name: str, content: str) -> None:
    source = publisher.root.parent / "source"
    source.mkdir(exist_ok=True)
    (source / "a.txt").write_text(content)
    publisher.register("gpc1", name, source, "a.txt|||text||\n", kind="IPP-DIST")


def mirrored(site: MirrorSite) -> dict[str, str]:
    """The content of each mirrored fileset's one file."""
    data = site.root / "data/gpc1"
    return {path.name: (path / "a.txt").read_text() for path in sorted(data.iterdir())}


def test_the_last_fileset_withdrawn_and_registered_again(
    publisher: Publisher, mirror_site: MirrorSite
) -> None:
    add(publisher, "before", "0")
    add(publisher, "A", "1")
    with publisher.serving() as url:
        mirror_site.configure(url)
        assert mirror_site.run() == SILENT
        add(publisher, "B", "2")
        publisher.must("dsreg", "--del", "A", "--product", "gpc1", "--rm")
        wait_a_second()
        add(publisher, "A", "3")
        assert mirror_site.run().exit == 0
        assert mirrored(mirror_site) == {"before": "0", "A": "3", "B": "2"}
        # Now the last fileset is one that came again: nothing is taken for lost.
        assert mirror_site.run() == SILENT
        add(publisher, "C", "4")
        assert mirror_site.run() == SILENT
        assert mirror_site.run() == SILENT
    assert mirrored(mirror_site) == {"before": "0", "A": "3", "B": "2", "C": "4"}


def test_a_product_deleted_and_made_again(publisher: Publisher, mirror_site: MirrorSite) -> None:
    add(publisher, "X", "1")
    with publisher.serving() as url:
        mirror_site.configure(url)
        assert mirror_site.run() == SILENT
        publisher.must("dsprodtool", "--del", "gpc1", "--rm", "--yes")
        wait_a_second()
        publisher.product("gpc1", "ipp-dist")
        for name in ("Y", "X", "Z"):
            add(publisher, name, "2")
        assert mirror_site.run().exit == 0
    assert mirrored(mirror_site) == {"X": "2", "Y": "2", "Z": "2"}


def wait_a_second() -> None:
    """Registered again means: with a later time, and lists tell seconds."""

    moment = int(time.time())
    while int(time.time()) == moment:
        time.sleep(0.02)
