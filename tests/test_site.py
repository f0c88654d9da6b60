"""Where things are: options before the environment before the site configuration."""

import argparse
from pathlib import Path

import pytest

from mirror.errors import ConfigError
from server.site import PostgresServer, Site, SqliteFile, add_site_options, read_site


@pytest.fixture
def root(tmp_path: Path) -> Path:
    directory = tmp_path / "datastore"
    directory.mkdir()
    return directory


def site_of(*options: str, **environ: str) -> Site:
    parser = argparse.ArgumentParser()
    add_site_options(parser)
    return read_site(parser.parse_args(options), environ)


def problems_of(*options: str, **environ: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        site_of(*options, **environ)
    return caught.value.problems


def test_the_catalogue_is_a_hidden_file_of_the_store(root: Path) -> None:
    site = site_of(DATA_STORE_ROOT=str(root))
    assert site == Site(root, SqliteFile(root / ".datastore.db"), None)


def test_options_come_before_the_environment_before_the_configuration(
    root: Path, tmp_path: Path
) -> None:
    config = tmp_path / "site.config"
    config.write_text(
        "# of this site\n"
        f"DATA_STORE_ROOT STR {tmp_path / 'nowhere'}\n"
        f"DS_DBNAME STR {tmp_path / 'config.db'}\n"
        f"LINK_ROOTS STR {tmp_path / 'links'}\n"
        "CAMERA STR GPC1   # something of another program\n"
    )
    site = site_of(
        "--dsroot", str(root), "--site", str(config), DATA_STORE_ROOT=str(tmp_path / "elsewhere")
    )
    assert site == Site(root, SqliteFile(tmp_path / "config.db"), (tmp_path / "links",))
    again = site_of(
        "--dsroot", str(root),
        SITE_CONFIG=str(config), DS_DBNAME=str(tmp_path / "environ.db"),
    )  # fmt: skip
    assert again.database == SqliteFile(tmp_path / "environ.db")
    last = site_of("--dsroot", str(root), "--dbname", "own.db", SITE_CONFIG=str(config))
    assert last.database == SqliteFile(Path("own.db").absolute())


@pytest.mark.parametrize(
    "text",
    ["LINK_ROOTS STR /a:/b/c\n", "LINK_ROOTS MULTI\nLINK_ROOTS STR /a\nLINK_ROOTS STR /b/c\n"],
    ids=["colon", "multi"],
)
def test_link_roots_are_one_text_or_several(root: Path, tmp_path: Path, text: str) -> None:
    config = tmp_path / "site.config"
    config.write_text(text)
    site = site_of("--dsroot", str(root), "--site", str(config))
    assert site.link_roots == (Path("/a"), Path("/b/c"))


def test_a_server_makes_it_postgresql(root: Path) -> None:
    site = site_of(
        DATA_STORE_ROOT=str(root), DS_DBSERVER="db.site", DS_DBNAME="datastore",
        DS_DBUSER="reader", DS_DBPASSWORD="x",
    )  # fmt: skip
    assert site.database == PostgresServer("db.site", "datastore", "reader", "x")


def test_an_empty_value_is_none(root: Path) -> None:
    site = site_of("--dsroot", str(root), DS_DBSERVER="", DS_DBNAME="", LINK_ROOTS="")
    assert site == Site(root, SqliteFile(root / ".datastore.db"), None)


def test_nothing_said_names_the_three_places() -> None:
    (problem,) = problems_of()
    assert "DATA_STORE_ROOT" in problem
    assert "option" in problem
    assert "environment" in problem


def test_every_problem_is_told_at_once(tmp_path: Path) -> None:
    config = tmp_path / "site.config"
    config.write_text(
        "DATA_STORE_ROOT STR relative/dir\nLINK_ROOTS S32 5\nDS_DBSERVER STR db.site\n"
    )
    problems = problems_of("--site", str(config))
    assert len(problems) == 3
    assert any("DATA_STORE_ROOT" in text and "absolute" in text for text in problems)
    assert any("DS_DBNAME" in text for text in problems)
    assert any("LINK_ROOTS" in text for text in problems)


@pytest.mark.parametrize(
    ("write", "said"),
    [(None, "a file that can be read"), ("DATA_STORE_ROOT\n", "site.config:1")],
    ids=["missing", "malformed"],
)
def test_a_configuration_that_cannot_be_read_is_named(
    root: Path, tmp_path: Path, write: str | None, said: str
) -> None:
    config = tmp_path / "site.config"
    if write is not None:
        config.write_text(write)
    (problem,) = problems_of("--dsroot", str(root), "--site", str(config))
    assert str(config) in problem
    assert said in problem


def test_a_root_that_is_no_directory_is_told(tmp_path: Path) -> None:
    (problem,) = problems_of("--dsroot", str(tmp_path / "mistyped"))
    assert "mistyped" in problem


def test_where_files_of_runs_are_is_told_by_blocks(root: Path, tmp_path: Path) -> None:
    config = tmp_path / "site.config"
    config.write_text(
        f"NEB_ROOT STR {tmp_path}/neb\n"
        "DISTRIBUTION_ROOT STR neb://@HOST@.0/dist\n"
        "DATAPATH METADATA\n  DETRENDS STR /data/detrends\n  TESS STR /data/tess\nEND\n"
        "TRANSLATE METADATA\n  IPP-MOPS STR python -m server ppmops --zp '25 .0'\nEND\n"
    )
    site = site_of("--dsroot", str(root), "--site", str(config))
    assert site.roots.neb_root == tmp_path / "neb"
    assert site.roots.datapath == {
        "DETRENDS": Path("/data/detrends"), "TESS": Path("/data/tess"),
    }  # fmt: skip
    assert site.distribution_root == "neb://@HOST@.0/dist"
    assert site.translate == {"IPP-MOPS": ("python", "-m", "server", "ppmops", "--zp", "25 .0")}


def test_everything_wrong_with_the_blocks_is_told(root: Path, tmp_path: Path) -> None:
    config = tmp_path / "site.config"
    config.write_text(
        "DATAPATH METADATA\n  A STR data/a\n  B S32 5\nEND\n"
        "TRANSLATE METADATA\n  P STR say 'this\nEND\n"
    )
    assert problems_of("--dsroot", str(root), "--site", str(config)) == [
        f"{config}: DATAPATH: B: one STR expected",
        "DATAPATH A: an absolute path expected, not data/a",
        "TRANSLATE P: No closing quotation: say 'this",
    ]
    config.write_text("DATAPATH STR /data\n")
    assert problems_of("--dsroot", str(root), "--site", str(config)) == [
        f"{config}: DATAPATH: a block expected, DATAPATH METADATA … END"
    ]
