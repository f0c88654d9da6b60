"""What is in xpoll's way for a while: it waits, says so once, and nothing is lost or done twice."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from client import PATIENCE
from xpolls import ENTRIES, FILES, GUARDED, SUCCESS, Pipeline, free_says, stop


@contextmanager
def changed(pipeline: Pipeline, change: str, *options: str) -> Iterator["subprocess.Popen[str]"]:
    """xpoll with a change of its rooms, in the words of Python; killed at the end."""
    process = pipeline.start(*options, program=f"{change}\n{GUARDED}")
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=PATIENCE)


# The command's own business


def test_a_copy_that_waits_for_its_turn_and_is_ended_leaves_the_state_file_alone(
    pipeline: Pipeline,
) -> None:
    """It is of the copy at work, which CHECK_FILE makes them take turns for."""
    checked = "XPOLL_STATE.01 = CHECK_FILE\nENV.EVENT_STATE_FILE = states\n"
    script = (
        'echo "EVENT_STATUS = 00" > "$OPUS_HOME_DIR/$EVENT_STATE_FILE"\n'
        "echo x >> $OUT/begun; while [ ! -e $OUT/go ]; do sleep 0.01; done; exit 1"
    )
    pipeline.resource(script, FILES + SUCCESS + checked)
    pipeline.drop("a.in", "b.in")
    with pipeline.running() as one:
        pipeline.wait(lambda: (pipeline.directory / "begun").exists())
        with pipeline.running() as other:
            pipeline.wait(lambda: pipeline.inboxed() == ["a.in_proc", "b.in_proc"])
            # It has asked for its turn by now, or is about to.
            with pytest.raises(subprocess.TimeoutExpired):
                other.wait(0.3)
            assert stop(other).exit == 0
        assert pipeline.inboxed() == ["a.in_proc", "b.in"]
        (pipeline.directory / "go").touch()
        pipeline.wait(lambda: pipeline.inboxed() == ["a.in_ok", "b.in_ok"])
        assert stop(one).exit == 0
    assert "error" not in pipeline.said()


def test_a_command_that_ends_no_line_has_the_next_one_begin_anew(pipeline: Pipeline) -> None:
    pipeline.resource("printf 'half a line'", FILES + SUCCESS)
    pipeline.drop("a.in")
    assert pipeline.once().exit == 0
    *_, said, ends = pipeline.said().splitlines()
    assert said == "half a line"
    assert ends.endswith("ends, halted")


# The log, the system, the board


def test_a_log_that_is_away_for_a_while_ends_nothing(pipeline: Pipeline) -> None:
    pipeline.resource("echo said", FILES + SUCCESS)
    with pipeline.running() as process:
        pipeline.wait_for_state("idle")
        pipeline.home.rename(pipeline.directory / "away")
        pipeline.drop("a.in")
        pipeline.wait(lambda: pipeline.inboxed() == ["a.in_ok"])
        (pipeline.directory / "away").rename(pipeline.home)
        pipeline.drop("b.in")
        pipeline.wait(lambda: pipeline.inboxed() == ["a.in_ok", "b.in_ok"])
        ran = stop(process)
    assert ran.exit == 0
    assert "said" in ran.stderr.splitlines()
    assert "said" in pipeline.said().splitlines()


@pytest.mark.parametrize("word", ["EAGAIN", "ENOMEM", "EMFILE", "E2BIG"])
def test_a_system_that_starts_nothing_now_is_waited_for(pipeline: Pipeline, word: str) -> None:
    pipeline.resource("echo x >> $OUT/ran", FILES + ENTRIES + SUCCESS + "XPOLL_STATE.01 = NULL\n")
    pipeline.drop("a.in")
    change = (
        "import errno, subprocess, pathlib; start = subprocess.Popen\n"
        f"mark = pathlib.Path({str(pipeline.directory / 'full')!r})\n"
        "def refuse(*given, **more):\n"
        f"    if mark.exists(): raise OSError(errno.{word}, 'no more of them')\n"
        "    return start(*given, **more)\n"
        "subprocess.Popen = refuse"
    )
    (pipeline.directory / "full").touch()
    with changed(pipeline, change) as process:
        pipeline.wait(lambda: "no more of them" in pipeline.said())
        pipeline.wait(lambda: pipeline.inboxed() == ["a.in"])
        (pipeline.directory / "full").unlink()
        pipeline.wait(lambda: pipeline.inboxed() == ["a.in_ok"])
        assert stop(process) == (0, "", "")
    assert (pipeline.directory / "ran").read_text() == "x\n"
    assert pipeline.said().count("no more of them") == 1
    assert pipeline.said().count("goes on") == 1


def test_a_board_that_fails_once_is_asked_again_soon(pipeline: Pipeline) -> None:
    """Not only after POLLING_TIME."""
    pipeline.resource("", FILES + SUCCESS, polling="3600")
    pipeline.drop("a.in")
    change = (
        "from server.blackboard import Blackboard; from server.database import Unavailable\n"
        "from server.opus import loop; loop.LOOK = 0.05; ask, asked = Blackboard.wishes, []\n"
        "def fail(*given):\n"
        "    asked.append(1)\n"
        "    if len(asked) == 1: raise Unavailable('it is started anew')\n"
        "    return ask(*given)\n"
        "Blackboard.wishes = fail"
    )
    with changed(pipeline, change) as process:
        pipeline.wait(lambda: pipeline.inboxed() == ["a.in_ok"])
        assert stop(process) == (0, "", "")
    assert "waiting for the board: it is started anew" in pipeline.said()


def test_signals_that_whoever_starts_it_has_blocked_are_heard(pipeline: Pipeline) -> None:
    pipeline.resource("", FILES + SUCCESS)
    pipeline.drop("a.in")
    change = (
        "import signal\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD, signal.SIGTERM])\n"
        "from server.opus import run_command; run_command._MOMENT = 3600"
    )
    with changed(pipeline, change) as process:
        pipeline.wait(lambda: pipeline.inboxed() == ["a.in_ok"])
        assert stop(process) == (0, "", "")


# Files that others write


def test_a_path_file_that_is_edited_meanwhile_stops_nobody(pipeline: Pipeline) -> None:
    """`OTHER->KEY` is looked up each time: what is half written is waited for."""
    other = pipeline.directory / "other.path"
    text = f"OPUS_OBSERVATIONS_DIR = /o\nSTAGE_FILE = {pipeline.directory}/night.stage\nPROGRAM = "
    other.write_text(f"{text}proc\n")
    pipeline.resource("", FILES + SUCCESS)
    resource = pipeline.directory / "proc.resource"
    resource.write_text(resource.read_text().replace("COMMAND = proc", "COMMAND = other->PROGRAM"))
    with pipeline.running() as process:
        pipeline.wait_for_state("idle")
        for half in (f"{text}it's\n", ""):
            other.write_text(half)
            before = pipeline.said().count("waiting, events stay where they are")
            pipeline.drop("a.in")
            pipeline.wait(lambda: pipeline.said().count("events stay where they are") > before)  # noqa: B023
            pipeline.wait(lambda: pipeline.inboxed() == ["a.in"])
            other.write_text(f"{text}proc\n")
            pipeline.wait(lambda: pipeline.inboxed() == ["a.in_ok"])
            (pipeline.inbox / "a.in_ok").unlink()
        assert stop(process) == (0, "", "")


def test_a_tick_waits_for_a_path_file_that_is_edited(pipeline: Pipeline) -> None:
    other, tick = pipeline.directory / "other.path", pipeline.directory / "tick"
    whole = (
        f"OPUS_OBSERVATIONS_DIR = /o\nSTAGE_FILE = {pipeline.directory}/night.stage\n"
        "PROGRAM = proc\n"
    )
    other.write_text(whole)
    daily = "TIME_RANK = 1\nDELTA_TIME = 001:00:00:00\nXPOLL_STATE.00 = SUCCESS\n"
    pipeline.resource("echo x >> $OUT/ran", daily)
    resource = pipeline.directory / "proc.resource"
    resource.write_text(resource.read_text().replace("COMMAND = proc", "COMMAND = other->PROGRAM"))
    change = (
        "import pathlib; from dataclasses import replace; from server.opus import waking\n"
        f"tick, look = pathlib.Path({str(tick)!r}), waking.look\n"
        "def once(ticks, now):\n"
        "    if not tick.exists(): return look(ticks, now)\n"
        "    tick.unlink()\n"
        "    return replace(ticks, pending=True)\n"
        "waking.look = once"
    )
    with changed(pipeline, change) as process:
        pipeline.wait_for_state("idle")
        other.write_text("")
        tick.touch()
        pipeline.wait(lambda: "events stay where they are" in pipeline.said())
        assert not (pipeline.directory / "ran").exists()
        other.write_text(whole)
        pipeline.wait(lambda: (pipeline.directory / "ran").exists())
        assert stop(process) == (0, "", "")


# The disk guard


def test_resume_blocks_are_waited_for_though_somebody_suspends_it(pipeline: Pipeline) -> None:
    free = pipeline.directory / "free"
    free.write_text("50")
    more = f"MINBLOCKS = 100\nRESUME_BLOCKS = 1000\nOUTPATH = {pipeline.directory}\n"
    pipeline.resource("", FILES + SUCCESS + more)
    pipeline.drop("a.in")
    with changed(pipeline, free_says(free)) as process:
        pipeline.wait_for_state("iowait")
        (shown,) = pipeline.processes()
        assert shown.working_on == f"less than 100 blocks free on {pipeline.directory}"
        free.write_text("500")
        for wish, state in (("suspend", "suspended"), ("resume", "iowait")):
            with pipeline.board() as board:
                board.wish(shown.holder, wish)
            pipeline.wait_for_state(state)
        assert pipeline.inboxed() == ["a.in"]
        free.write_text("1000")
        pipeline.wait(lambda: pipeline.inboxed() == ["a.in_ok"])
        assert stop(process) == (0, "", "")


def test_a_disk_that_is_in_the_way_for_another_reason_is_told_again(pipeline: Pipeline) -> None:
    place = pipeline.directory / "disk"
    pipeline.resource("", FILES + SUCCESS + f"MINBLOCKS = 999999999\nOUTPATH = {place}\n")
    with pipeline.running() as process:
        pipeline.wait(lambda: f"iowait: {place}: No such file or directory" in pipeline.said())
        place.mkdir()
        pipeline.wait(lambda: f"iowait: {place} has " in pipeline.said())
        assert stop(process) == (0, "", "")
    assert pipeline.said().count("iowait") == 2


# What is refused when it starts


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ("FILE_SUCCESS.DIRECTORY = nowhere\n", "FILE_SUCCESS.DIRECTORY: 'nowhere' is no keyword"),
        ("OUTPATH = nowhere\nMINBLOCKS = 1\n", "OUTPATH: 'nowhere' is no keyword of"),
    ],
    ids=["file", "disk"],
)  # fmt: skip
def test_directories_that_would_be_wherever_it_is_started(
    pipeline: Pipeline, more: str, told: str
) -> None:
    files = FILES.replace("FILE_SUCCESS = _ok\n", "") if "SUCCESS" in more else FILES
    pipeline.resource("", files + SUCCESS + more)
    pipeline.drop("a.in")
    ran = pipeline.once()
    assert ran.exit == 3
    assert told in ran.stderr
    assert "proc.resource:" in ran.stderr
    assert pipeline.inboxed() == ["a.in"]


def test_a_state_file_without_a_home_is_refused(pipeline: Pipeline) -> None:
    checked = "XPOLL_STATE.01 = CHECK_FILE\nENV.EVENT_STATE_FILE = states\n"
    pipeline.resource("exit 1", FILES + SUCCESS + checked)
    pipeline.drop("a.in")
    ran = pipeline.once(more={"OPUS_HOME_DIR": ""})
    assert ran.exit == 3
    assert "EVENT_STATE_FILE: OPUS_HOME_DIR is not set, the directory of states" in ran.stderr
    assert pipeline.inboxed() == ["a.in"]


def test_nobody_answers_when_a_password_is_asked_for(pipeline: Pipeline) -> None:
    """Ctrl-D on the terminal."""
    pipeline.resource("", FILES + SUCCESS + "PASSWORD = yes\n")
    master, terminal = os.openpty()
    try:
        process = pipeline.start("--once", program=GUARDED, stdin=terminal)
        assert process.stderr
        assert process.stderr.read(1)
        os.write(master, b"\x04")
        _, err = process.communicate(timeout=PATIENCE)
    finally:
        os.close(master)
        os.close(terminal)
    assert process.returncode == 3
    assert err.splitlines()[-1].endswith("PASSWORD: none was given")
