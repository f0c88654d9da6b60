"""What xpoll could not do at once: the event comes again, the outcome is applied later, an action
is due until it was run; and an orphan is waited for."""

import os
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from subprocess import Popen, TimeoutExpired

import pytest
from client import PATIENCE
from xpolls import ENTRIES, FILES, GUARDED, SUCCESS, XPOLL, Pipeline, noted, stop

from server.blackboard import BOARD_FILE

ONE_FAULT = """
from server.opus.processes import ProcessBoard
from server.database import Unavailable
report, asked = ProcessBoard.report, []
def fail(board, holder, state, *more):
    if state == "busy" and not asked:
        asked.append(1)
        raise Unavailable("it is started anew")
    report(board, holder, state, *more)
ProcessBoard.report = fail
"""
CHECKED = "XPOLL_STATE.01 = CHECK_FILE\nENV.EVENT_STATE_FILE = states\n"
ABSENT = "FILE_ABSENT = _absent\nOSF_ABSENT = a\n"


@contextmanager
def changed(pipeline: Pipeline, change: str, program: str = GUARDED) -> Iterator["Popen[str]"]:
    process = pipeline.start(program=f"{change}\n{program}")
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=PATIENCE)


def polls_go_by(process: "Popen[str]") -> None:
    with pytest.raises(TimeoutExpired):
        process.wait(0.4)


def test_items_are_absent_only_where_their_process_is(pipeline: Pipeline) -> None:
    """Not where the board was away for a moment, before their command was run."""
    more = "XPOLL_STATE.00 = FILE_SUCCESS\nXPOLL_STATE.03 = OSF_DONE\n"
    script = 'echo $EVENT_TYPE >> $OUT/seen; [ "$EVENT_TYPE" = EVENT_FILE_EVENT ] || exit 3'
    pipeline.resource(script, FILES + ENTRIES + ABSENT + more)
    pipeline.drop("a.in")
    with changed(pipeline, ONE_FAULT) as process:
        pipeline.wait(lambda: pipeline.inboxed() == ["a.in_ok"])
        assert stop(process) == (0, "", "")
    (pipeline.inbox / "a.in_ok").unlink()
    pipeline.post("o1")
    with changed(pipeline, ONE_FAULT) as process:
        pipeline.wait(lambda: pipeline.letters() == {"o1": "cw"})
        assert stop(process) == (0, "", "")
    assert noted(pipeline) == ["EVENT_FILE_EVENT", "EVENT_OSF_EVENT"]


def test_a_tick_is_not_lost_over_a_board_that_is_away(pipeline: Pipeline) -> None:
    daily = "TIME_RANK = 1\nSTART_TIME = 00:00:00\nXPOLL_STATE.00 = SUCCESS\n"
    pipeline.resource("echo x >> $OUT/seen", daily)
    due = (
        "from server.opus import waking; begin = waking.begin\n"
        "waking.begin = lambda *given, **more: begin(*given, once=True)\n"
    )
    with changed(pipeline, due + ONE_FAULT) as process:
        pipeline.wait(lambda: noted(pipeline) == ["x"])
        assert stop(process) == (0, "", "")


def test_what_has_no_meaning_now_is_told_once_and_claims_nothing(pipeline: Pipeline) -> None:
    other = pipeline.directory / "other.path"
    text = f"OPUS_OBSERVATIONS_DIR = /o\nSTAGE_FILE = {pipeline.directory}/night.stage\nKEY = 1\n"
    other.write_text(text)
    pipeline.resource(
        "echo $X >> $OUT/seen", ENTRIES + "ENV.X = other->KEY\nXPOLL_STATE.00 = OSF_DONE\n"
    )
    with pipeline.running() as process:
        pipeline.wait_for_state("idle")
        other.write_text("")
        pipeline.post("o1", "o2")
        pipeline.wait(lambda: "events stay where they are" in pipeline.said())
        with pipeline.board() as board:
            before = len(board.history())
        polls_go_by(process)
        with pipeline.board() as board:
            assert len(board.history()) == before
        other.write_text(text)
        pipeline.wait(lambda: pipeline.letters() == {"o1": "cw", "o2": "cw"})
        assert stop(process) == (0, "", "")
    assert pipeline.log().count("events stay where they are") == 1
    assert pipeline.log().count("goes on") == 1


def test_an_orphan_keeps_the_turn_at_the_state_file(pipeline: Pipeline) -> None:
    """What it writes late is not taken for the word of the next command."""
    script = (
        'trap "" TERM\n'
        "case $EVENT_NAME in\n*a.in*) touch $OUT/begun\n"
        "  while [ ! -e $OUT/go ]; do sleep 0.01; done\n"
        '  echo "EVENT_STATUS = 05" > $OPUS_HOME_DIR/states;;\n'
        '*) echo "EVENT_STATUS = 00" > $OPUS_HOME_DIR/states; echo b >> $OUT/seen;;\nesac; exit 1'
    )
    pipeline.resource(script, FILES + SUCCESS + CHECKED + "XPOLL_STATE.05 = FILE_ERROR\n")
    pipeline.drop("a.in")
    with pipeline.running() as first:
        pipeline.wait(lambda: (pipeline.directory / "begun").exists())
        first.kill()
        first.wait()
    pipeline.drop("b.in")
    with pipeline.running() as second:
        pipeline.wait(lambda: "b.in_proc" in pipeline.inboxed())
        polls_go_by(second)
        assert noted(pipeline) == []
        (pipeline.directory / "go").touch()
        pipeline.wait(lambda: "b.in_ok" in pipeline.inboxed())
        assert stop(second) == (0, "", "")


def test_a_home_that_is_away_for_a_while_makes_nothing_absent(pipeline: Pipeline) -> None:
    script = 'echo "EVENT_STATUS = 00" > $OPUS_HOME_DIR/states; exit 1'
    pipeline.resource(script, FILES + SUCCESS + CHECKED + "FILE_ABSENT = _absent\n")
    with pipeline.running() as process:
        pipeline.wait_for_state("idle")
        pipeline.home.rename(pipeline.directory / "away")
        pipeline.drop("a.in")
        polls_go_by(process)
        (pipeline.directory / "away").rename(pipeline.home)
        pipeline.wait(lambda: pipeline.inboxed() == ["a.in_ok"])
        assert stop(process).exit == 0


def test_an_action_whose_program_is_not_there_yet_is_due(pipeline: Pipeline) -> None:
    pipeline.resource("true", FILES + SUCCESS + "FILE_ACTION = 'act ^f'\n")
    pipeline.drop("a.in")
    with pipeline.running() as process:
        pipeline.wait(lambda: "act: cannot be started" in pipeline.said())
        program = pipeline.directory / "bin" / "act"
        program.with_name("new").write_text('#!/bin/sh\necho "$1" >> $OUT/acted\n')
        program.with_name("new").chmod(0o755)
        program.with_name("new").rename(program)
        pipeline.wait(lambda: noted(pipeline, "acted") == [f"{pipeline.inbox}/a.in_ok"])
        assert stop(process) == (0, "", "")


def test_outcomes_are_applied_while_it_is_suspended(pipeline: Pipeline) -> None:
    place = pipeline.directory / "archive"
    files = FILES.replace("FILE_SUCCESS = _ok", f"FILE_SUCCESS.DIRECTORY = {place}")
    place.write_text("in the way")
    pipeline.resource("true", files + SUCCESS)
    pipeline.drop("a.in")
    with pipeline.running() as process:
        pipeline.wait(lambda: "tried again at every poll" in pipeline.said())
        with pipeline.board() as board:
            board.wish(1, "suspend")
        pipeline.wait_for_state("suspended")
        place.unlink()
        pipeline.wait(lambda: (place / "a.in_proc").exists())
        assert stop(process) == (0, "", "")


def test_without_log_and_standard_error_it_works_all_the_same(pipeline: Pipeline) -> None:
    pipeline.resource("echo said", FILES + SUCCESS)
    change = "import os, sys; os.close(1); os.close(2); sys.stdout = sys.stderr = None"
    with changed(pipeline, change, XPOLL) as process:
        pipeline.wait_for_state("idle")
        pipeline.home.rename(pipeline.directory / "away")
        pipeline.drop("a.in")
        pipeline.wait(lambda: pipeline.inboxed() == ["a.in_ok"])
        os.kill(process.pid, signal.SIGTERM)
        assert process.wait(PATIENCE) == 0


def test_what_only_a_copy_of_the_board_says_we_have_is_returned(pipeline: Pipeline) -> None:
    """The copy was made while it was in work; nobody works on it now."""
    script = "echo x >> $OUT/seen; while [ ! -e $OUT/go ]; do sleep 0.01; done"
    pipeline.resource(script, ENTRIES + "XPOLL_STATE.00 = OSF_DONE\n")
    pipeline.post("o1")
    file, copy = pipeline.directory / "obs" / BOARD_FILE, pipeline.directory / "copy"
    with pipeline.running() as process:
        pipeline.wait(lambda: pipeline.letters() == {"o1": "p_"})
        with closing(sqlite3.connect(file)) as now, closing(sqlite3.connect(copy)) as then:
            now.backup(then)
        (pipeline.directory / "go").touch()
        pipeline.wait(lambda: pipeline.letters() == {"o1": "cw"})
        pipeline.wait_for_state("idle")
        for log in ("-wal", "-shm"):
            file.with_name(f"{BOARD_FILE}{log}").unlink(missing_ok=True)
        copy.replace(file)
        pipeline.wait(lambda: pipeline.letters() == {"o1": "cw"})
        pipeline.wait_for_state("idle")
        assert noted(pipeline) == ["x", "x"]
        assert stop(process).exit == 0
