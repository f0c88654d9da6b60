"""examples/opus: what a site copies is right as it stands."""

import os
import stat
import subprocess
from datetime import time
from pathlib import Path

import pytest
from client import PROJECT

from formats.resource_file import ResourceFile, read_resource_file
from formats.stage_file import read_stage_file
from formats.triggers import OsfTrigger, TimeTrigger
from parse_config import PathFile, read_path_file
from server.opus.check import check

EXAMPLES = PROJECT / "examples" / "opus"
ENVIRON = {
    "OPUS_DEFINITIONS_DIR": str(EXAMPLES), "OPUS_WORK": "/data/opus", "OPUS_SOFTWARE": "/opt/um",
    "OPUS_PYTHON": "/opt/python",
}  # fmt: skip


@pytest.fixture
def paths() -> PathFile:
    return read_path_file(EXAMPLES / "mirror.path", ENVIRON)


def process(paths: PathFile, name: str) -> ResourceFile:
    return read_resource_file(EXAMPLES / f"{name}.resource", paths)


def test_nothing_is_wrong_with_them() -> None:
    report = check(["mirror"], ENVIRON)
    assert (report.problems, report.warnings) == ([], [])
    assert [line.partition(":")[0] for line in report.lines if line.startswith("process")] == [
        f"process {name} on mirror" for name in ("ingest", "nightly", "publish")
    ]


def test_they_wake_as_they_say(paths: PathFile) -> None:
    nightly, publish, ingest = (process(paths, name) for name in ("nightly", "publish", "ingest"))
    assert nightly.triggers == (TimeTrigger(1, None, time(18, 30), 86400),)
    assert nightly.min_blocks == 200_000_000
    assert publish.triggers == (TimeTrigger(1, None, None, 900),)
    (trigger,) = ingest.triggers
    assert isinstance(trigger, OsfTrigger)
    (match,) = trigger.matches
    assert (match.data_id, dict(match.columns)) == ("fst", {"DN": "c", "IN": "w"})
    assert dict(trigger.processing) == {"IN": "p"}


def test_the_nightly_mirror_bears_what_passes(paths: PathFile) -> None:
    """Of the client's exit statuses, those that the next run mends."""
    assert process(paths, "nightly").states == dict.fromkeys((0, 1, 4, 75), "SUCCESS")


def test_posting_and_ingesting_a_fileset(tmp_path: Path) -> None:
    """post_fileset and ingest as they are run: a name with blanks in it is one name."""
    info = tmp_path / "data" / "info" / "gpc1" / "o1 a"
    info.mkdir(parents=True)
    (info / "dbinfo.mdc").write_text("")
    environ = {
        **os.environ, "INBOX": str(tmp_path / "in"), "DATA": str(tmp_path / "data"),
        "OSF_DATASET": "gpc1.o1 a",
    }  # fmt: skip
    for _ in range(2):
        subprocess.run([EXAMPLES / "ingest"], env=environ, check=True)
    assert [one.name for one in (tmp_path / "in").iterdir()] == ["gpc1.o1 a"]
    assert (tmp_path / "in" / "gpc1.o1 a").read_text() == f"{info}/dbinfo.mdc\n"


@pytest.mark.parametrize("name", ["ingest", "post_fileset"])
def test_they_can_be_run(name: str) -> None:
    assert (EXAMPLES / name).stat().st_mode & stat.S_IXUSR


def test_a_fileset_that_comes_twice_is_one_entry(tmp_path: Path) -> None:
    """After a kill the mirror calls post_fileset again: nothing else has changed by it."""
    calls = tmp_path / "calls"
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\necho "$@" >> {calls}\n[ "$4" = update ]\n')
    python.chmod(0o755)
    environ = {
        **os.environ, "OPUS_PYTHON": str(python), "OPUS_SOFTWARE": str(PROJECT),
        "MIRROR_PRODUCT": "gpc1", "MIRROR_FILESET": "o1",
    }  # fmt: skip
    subprocess.run([EXAMPLES / "post_fileset"], env=environ, check=True)
    key = "-p mirror -f gpc1.o1 -t fst"
    created, updated = calls.read_text().splitlines()
    assert created.startswith("-m server osf create -s ")
    assert created.endswith(key)
    assert updated == f"-m server osf update -s DN=c {key}"
    stages = read_stage_file(EXAMPLES / "mirror_pipeline.stage")
    given = dict(pair.split("=") for pair in created.split()[5].split(","))
    assert list(given) == stages.titles()
    assert all(stage.knows(given[stage.title]) for stage in stages.stages)
