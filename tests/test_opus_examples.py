"""examples/opus: what a site copies is right as it stands."""

import os
import re
import stat
import subprocess
import sys
from datetime import time
from pathlib import Path

import pytest
from client import PROJECT

from formats.resource_file import ResourceFile, read_resource_file
from formats.stage_file import read_stage_file
from formats.triggers import OsfTrigger, TimeTrigger
from mirror.records import STEPS
from parse_config import PathFile, read_path_file
from server.opus.check import check
from server.process import main as xpoll
from server.publishing.posts import RUNS as PUB_RUNS

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


def test_nothing_is_wrong_with_them(tmp_path: Path) -> None:
    (tmp_path / "mirror").mkdir()
    here = {"OPUS_WORK": str(tmp_path), "OPUS_PYTHON": sys.executable}
    report = check(["mirror"], ENVIRON | here)
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
    assert (match.data_id, dict(match.columns)) == ("fst", {"DN": "c", "IN": "_"})
    assert dict(trigger.processing) == {"IN": "p"}


def test_the_nightly_mirror_bears_what_passes(paths: PathFile) -> None:
    """Of the client's exit statuses, those that the next run mends."""
    assert process(paths, "nightly").states == dict.fromkeys((0, 1, 4, 75), "SUCCESS")


@pytest.mark.parametrize("dirinfo", [True, False], ids=["with dirinfo", "without"])
def test_what_ingest_leaves(tmp_path: Path, *, dirinfo: bool) -> None:
    """As xpoll runs it; twice, as after a kill. A name with blanks in it is one name."""
    data = tmp_path / "the data"
    info = data / "info" / "gpc1" / "o1 a"
    info.mkdir(parents=True)
    if dirinfo:
        (info / "dirinfo.chip.1.mdc").write_text(
            "destdir METADATA\n\tdestdir\tSTR\tgpc1/a night\nEND\n\n"
            "components METADATA\n\tXY01\tSTR\to1\nEND\n"
        )
    environ = {
        **os.environ, "INBOX": str(tmp_path / "in"), "DATA": str(data),
        "OSF_DATASET": "o1 a@gpc1",
    }  # fmt: skip
    for _ in range(2):
        subprocess.run([EXAMPLES / "ingest"], env=environ, check=True)
    assert [one.name for one in (tmp_path / "in").iterdir()] == ["o1 a@gpc1"]
    place = "a night" if dirinfo else "o1 a"
    assert (tmp_path / "in" / "o1 a@gpc1").read_text() == f"{info}\n{data}/data/gpc1/{place}\n"


def test_ingest_can_be_run() -> None:
    assert (EXAMPLES / "ingest").stat().st_mode & stat.S_IXUSR


def test_the_stages_are_those_that_are_posted() -> None:
    """By the mirror (configuration.md, "blackboard") and by pubtool; one is ingest's own."""
    stages = read_stage_file(EXAMPLES / "mirror_pipeline.stage")
    assert stages.titles() == [*STEPS, "IN", *PUB_RUNS.steps]
    for title in (*STEPS, *PUB_RUNS.steps):
        stage = stages.stage(title)
        assert stage
        wanted = "wc_" if title == "LI" else "wcx_"
        assert all(stage.knows(letter) for letter in wanted)


def snippets(page: Path) -> dict[str, str]:
    """The files that a page shows, by the name in their first line, `! NAME` or `! NAME: …`."""
    blocks = re.findall(r"(?:^    .*\n|^\n(?=    ))+", page.read_text(), re.MULTILINE)
    texts = [re.sub(r"^    ", "", block, flags=re.MULTILINE) for block in blocks]
    parts = [part for text in texts for part in re.split(r"^(?=! \w+\.\w+)", text, flags=re.M)]
    heads = [re.match(r"! (\w+\.(?:path|stage|resource))\b", part) for part in parts]
    return {head[1]: part for head, part in zip(heads, parts, strict=True) if head}


def test_the_first_process_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = snippets(PROJECT / "docs" / "processes.md")
    assert set(files) == {"night.path", "night_pipeline.stage", "check.resource"}
    for name, text in files.items():
        here = text.replace("/data/night", str(tmp_path)).replace("/opt/check", "/bin/true")
        (tmp_path / name).write_text(here)
    environ = {"OPUS_DEFINITIONS_DIR": str(tmp_path), "OPUS_HOME_DIR": str(tmp_path)}
    report = check(["night"], environ)
    assert (report.problems, report.warnings) == ([], [])
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.fits").touch()
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert xpoll(["-p", "night", "-r", "check", "--once"]) == 0
    assert [one.name for one in (tmp_path / "in").iterdir()] == ["a.fits_done"]
