"""`serve --monitor` where there is no Data Store: a site that mirrors has none to serve."""

from pathlib import Path

import pytest
from boards import board_site
from served import run_server, serving

from server.site import SqliteFile


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    board_site(tmp_path, SqliteFile(tmp_path / "unused.db"))
    return {"OPUS_DEFINITIONS_DIR": str(tmp_path)}


def test_the_monitor_alone(environ: dict[str, str], tmp_path: Path) -> None:
    with serving(Path("blue"), as_option="--monitor", environ=environ) as running:
        assert running.line == f"serving the monitor at http://127.0.0.1:{running.port}/monitor/\n"
        assert running.get("/monitor/blue/").status == 200
        answer = running.get("/")
        assert answer.status == 404
        assert b"the monitor is at /monitor/" in answer.body
        assert running.get("/healthz").status == 200
    assert (running.process.returncode, running.errors) == (0, "")


def test_a_store_that_is_named_is_served_too_or_refused(
    environ: dict[str, str], tmp_path: Path
) -> None:
    gone = str(tmp_path / "gone")
    for given in ({"DATA_STORE_ROOT": gone}, {}):
        words = () if given else ("--dsroot", gone)
        status, _, errors = run_server(
            "serve", "--monitor", "--port", "0", *words, **environ | given
        )
        assert (status, "a directory expected" in errors) == (3, True)


def test_without_a_monitor_a_store_must_be_named() -> None:
    status, _, errors = run_server("serve", "--port", "0")
    assert (status, "DATA_STORE_ROOT: not set" in errors) == (3, True)
