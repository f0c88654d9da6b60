"""The demonstration: it runs through, and removes nothing but an earlier one."""

from pathlib import Path

import pytest

from mirror.errors import ConfigError
from server.samples.demo import MARK, main


def test_it_goes_the_whole_circle(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    directory = tmp_path / "demo"
    directory.mkdir()
    (directory / MARK).touch()
    (directory / "left").write_text("by an earlier one")
    assert main([str(directory)]) == 0
    said = capfd.readouterr().out
    assert "registered 8 filesets" in said
    assert "north: 8 full" in said
    assert (directory / "mirror/catalogue.db").exists()
    assert (directory / MARK).exists()
    assert not (directory / "left").exists()


def test_it_removes_nothing_of_others(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ConfigError, match="a new or empty directory expected"):
        main([str(tmp_path)])
    assert (tmp_path / "thesis.tex").read_text() == "years of work"
    assert not (tmp_path / MARK).exists()
