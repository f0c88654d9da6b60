"""The demonstration: it runs through, and removes nothing but an earlier one."""

import subprocess
import sys
from pathlib import Path

import pytest
from client import PATIENCE, PROJECT

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


def test_processes_take_what_is_published_all_the_way(tmp_path: Path) -> None:
    """demo-opus, as it is typed; nothing of it goes on afterwards."""
    directory = tmp_path / "demo"
    ran = subprocess.run(
        [sys.executable, "-m", "server", "demo-opus", str(directory)],
        cwd=PROJECT, capture_output=True, text=True, timeout=2 * PATIENCE, check=False,
    )  # fmt: skip
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "IN     Ingested         C       Ingested      10" in ran.stdout
    assert "processes 4: 4 halted" in ran.stdout
    assert len(list((directory / "inbox").iterdir())) == 10
    assert b"<svg" in (directory / "monitor.html").read_bytes()
