"""Three sites in a row: the origin's Data Store, its mirror, and the mirror of the mirror."""

import os
from pathlib import Path

import pytest
from client import MirrorSite, Ran
from places import NewDatabase, environment_of
from publisher import Publisher, serving_process

from server.samples import sample

SILENT = Ran(0, "", "")
PRODUCTS = tuple(sample.PRODUCTS)


@pytest.fixture
def origin(tmp_path: Path, built: Path) -> Publisher:
    """A Data Store with everything of the tree registered."""
    publisher = Publisher(tmp_path / "origin")
    publisher.publish(built)
    return publisher


def served_files(root: Path) -> dict[str, bytes]:
    """Every file of a Data Store that is served, without the lists."""
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.name != "index.txt" and not path.name.startswith(".")
    }


def site_at(directory: Path) -> MirrorSite:
    directory.mkdir()
    return MirrorSite(directory)


def test_a_chain_of_three_sites_is_byte_identical(
    origin: Publisher, built: Path, tmp_path: Path
) -> None:
    near, far = site_at(tmp_path / "near"), site_at(tmp_path / "far")
    with origin.serving() as url:
        near.configure(url, products=list(PRODUCTS), keep_bundles=True, data_prefix="path://M")
        assert near.run() == SILENT
    static = ("--static", str(near.root / "store"))
    with serving_process(os.environ, *static) as (url, _):
        far.configure(url, products=list(PRODUCTS), keep_bundles=True, data_prefix="path://M")
        assert far.run() == SILENT
    assert served_files(near.root / "store") == served_files(built)
    assert far.visible() == near.visible()
    assert near.visible()


def test_news_pass_through_the_chain(origin: Publisher, built: Path, tmp_path: Path) -> None:
    near, far = site_at(tmp_path / "near"), site_at(tmp_path / "far")
    product = PRODUCTS[0]
    with origin.serving() as first:
        near.configure(first, products=[product], keep_bundles=True)
        assert near.run() == SILENT
        static = ("--static", str(near.root / "store"))
        with serving_process(os.environ, *static) as (second, _):
            far.configure(second, products=[product], keep_bundles=True)
            assert far.run() == SILENT
            (tmp_path / "news.txt").write_bytes(b"news\n")
            origin.register(product, "news.1", tmp_path, "news.txt|||text||\n", kind="notset")
            assert near.run() == SILENT
            assert far.run() == SILENT
    for site in (near, far):
        assert (site.root / "store" / product / "news.1/news.txt").read_bytes() == b"news\n"


def test_a_mirror_of_a_store_in_postgresql(
    postgres: NewDatabase, built: Path, tmp_path: Path
) -> None:
    origin = Publisher(tmp_path / "origin", environment_of(postgres()))
    origin.publish(built, PRODUCTS[0])
    site = site_at(tmp_path / "site")
    with origin.serving() as url:
        site.configure(url, products=["*"], keep_bundles=True)
        assert site.run() == SILENT
        assert site.run() == SILENT
    wanted = {
        path: data
        for path, data in served_files(built).items()
        if path.startswith(f"{PRODUCTS[0]}/")
    }
    assert served_files(site.root / "store") == wanted
