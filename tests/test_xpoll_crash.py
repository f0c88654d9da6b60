"""xpoll killed at any instant: every item ends processed or returned, none twice, and nobody works
on an item that an orphan still works on (OPUS, "The blackboard")."""

import os
import random
import shutil
import signal
import time
from collections import Counter
from pathlib import Path

import pytest
from client import PATIENCE
from newsroom import is_gone
from xpolls import ENTRIES, FILES, Pipeline

KILLS = 12
ITEMS = 60
SEED = 20261122

WORK = """\
item=${OSF_DATASET:-${EVENT_NAME##*/}}
exec 9> "$OUT/lock/$item"
flock -n 9 || echo "$item" >> $OUT/together
sleep 0.01
echo "$item" >> $OUT/ran
"""


@pytest.fixture
def pipeline(tmp_path: Path) -> Pipeline:
    """A path with an empty board and an empty inbox."""
    (tmp_path / "lock").mkdir()
    return Pipeline(tmp_path)


def completions(pipeline: Pipeline) -> Counter[str]:
    """How often each entry was completed."""
    with pipeline.board() as board:
        changes = board.history(limit=100_000)
    return Counter(
        one.key.dataset
        for one in changes
        if (one.what, one.stage, one.after) == ("updated", "GC", "c")
    )


def originals(pipeline: Pipeline) -> list[str]:
    """The files of the inbox by the names they arrived with."""
    return sorted(name.removesuffix("_proc").removesuffix("_ok") for name in pipeline.inboxed())


@pytest.mark.skipif(not shutil.which("flock"), reason="there is no flock command here")
def test_killed_at_random_instants(pipeline: Pipeline) -> None:
    chance = random.Random(SEED)
    files = [f"{number:03}.in" for number in range(ITEMS)]
    entries = [f"o{number:03}" for number in range(ITEMS)]
    # Two processes, so that files and entries are in work at once.
    pipeline.resource(WORK, FILES + "XPOLL_STATE.00 = FILE_SUCCESS\n", "files")
    pipeline.resource(WORK, ENTRIES + "XPOLL_STATE.00 = OSF_DONE\n", "entries")
    pipeline.drop(*files)
    pipeline.post(*entries)
    for _ in range(KILLS):
        copies = [pipeline.start(name=name) for name in ("files", "entries", "files")]
        time.sleep(chance.uniform(0.1, 0.45))
        for copy in copies:
            copy.kill()
            copy.communicate(timeout=PATIENCE)
        assert originals(pipeline) == files
        assert set(completions(pipeline).values()) <= {1}

    def ended() -> bool:
        assert (pipeline.once("files").exit, pipeline.once("entries").exit) == (0, 0)
        return set(pipeline.letters().values()) == {"cw"} and pipeline.inboxed() == [
            f"{name}_ok" for name in files
        ]

    pipeline.wait(ended)
    assert completions(pipeline) == Counter(entries)
    assert not (pipeline.directory / "together").exists()
    ran = set((pipeline.directory / "ran").read_text().split())
    assert ran == {*entries, *(f"{name}_proc" for name in files)}
    with pipeline.board() as board:
        assert [board.held(one.holder) for one in board.processes()] == [
            ([], []) for _ in board.processes()
        ]


def begun(pipeline: Pipeline) -> int:
    """The number of the command's process, once it has begun."""
    file = pipeline.directory / "begun"
    pipeline.wait(file.exists)
    return int(file.read_text())


def test_nobody_gets_what_an_orphan_works_on(pipeline: Pipeline) -> None:
    """An orphan that does not listen goes on alone; after its end the items are returned."""
    script = (
        "trap '' TERM\necho $$ > $OUT/new; mv $OUT/new $OUT/begun\n"
        "until [ -e $OUT/go ]; do [ -d $OUT ] || exit; sleep 0.01; done"
    )
    more = "XPOLL_STATE.00 = FILE_SUCCESS\n"
    pipeline.resource(script, FILES + ENTRIES + more)
    pipeline.drop("a.in")
    first = pipeline.start()
    orphan = begun(pipeline)
    first.kill()
    first.communicate(timeout=PATIENCE)
    try:
        assert pipeline.inboxed() == ["a.in_proc"]
        assert pipeline.once().exit == 0
        assert pipeline.inboxed() == ["a.in_proc"], "nobody has returned it"
    finally:
        (pipeline.directory / "go").touch()
    pipeline.wait(lambda: is_gone(orphan))
    assert pipeline.once().exit == 0
    assert pipeline.inboxed() == ["a.in_ok"]
    assert f"file {pipeline.inbox}/a.in: returned by process proc" in pipeline.log()


def test_an_orphan_is_asked_to_end(pipeline: Pipeline) -> None:
    script = "echo $$ > $OUT/new; mv $OUT/new $OUT/begun; exec sleep 60"
    pipeline.resource(script, ENTRIES + "XPOLL_STATE.00 = OSF_DONE\n")
    pipeline.post("o1")
    process = pipeline.start()
    orphan = begun(pipeline)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=PATIENCE)

    def returned() -> bool:
        with pipeline.board() as board:
            board.reap()
        return pipeline.letters() == {"o1": "w_"}

    pipeline.wait(returned)
    assert is_gone(orphan)


def test_what_could_not_be_settled_is_returned_when_the_process_ends(pipeline: Pipeline) -> None:
    """FILE_SUCCESS.DIRECTORY is a file: nothing can be moved there."""
    files = FILES.replace("FILE_SUCCESS = _ok", f"FILE_SUCCESS.DIRECTORY = {pipeline.directory}/no")
    (pipeline.directory / "no").write_text("a file")
    pipeline.resource("echo >> $OUT/ran", files + "XPOLL_STATE.00 = FILE_SUCCESS\n")
    pipeline.drop("a.in", "b.in")
    assert pipeline.once().exit == 2
    assert pipeline.inboxed() == ["a.in", "b.in"]
    assert pipeline.log().count("the file stays as it is, and is tried again at every poll") == 2
    assert len((pipeline.directory / "ran").read_text().splitlines()) == 2
