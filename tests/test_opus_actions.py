"""FILE_ACTION runs to its end for every file that it is due for, whatever ends its process (OPUS,
"After the command")."""

import errno
import os
import random
import signal
import time
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import pytest
from boards import NOBODY, join
from client import PATIENCE
from xpoll_here import xpoll
from xpolls import FILES, SEEN, SUCCESS, Pipeline, noted, stop, to_directory

from mirror.errors import LocalError
from server.blackboard import Blackboard
from server.opus import moving, settle


def an_action(pipeline: Pipeline, script: str, more: str = FILES + SUCCESS) -> None:
    """A process whose FILE_ACTION is `script`, with the file as $1."""
    program = pipeline.directory / "bin" / "action"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    pipeline.resource(SEEN, f"{more}FILE_ACTION = 'action ^f'\n")


BEGIN = "echo $1 $EVENT_NUM $EVENT_NAME >> $OUT/acts; [ -e $OUT/go ] || exec sleep 60"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "ended"])
@pytest.mark.parametrize(
    ("more", "name"),
    [(FILES + SUCCESS, "a.in_ok"), (FILES + "XPOLL_STATE.00 = FILE_ACTION\n", "a.in_proc")],
    ids=["after FILE_SUCCESS", "alone"],
)
def test_an_action_over_which_its_process_ends_runs_at_the_next_start(
    pipeline: Pipeline, number: int, more: str, name: str
) -> None:
    an_action(pipeline, BEGIN, more)
    pipeline.drop("a.in")
    with pipeline.running() as process:
        pipeline.wait(lambda: noted(pipeline, "acts"))
        process.send_signal(number)
        process.communicate(timeout=PATIENCE)
    (pipeline.directory / "go").touch()
    path = f"{pipeline.inbox}/{name}"

    def acted() -> bool:
        # A killed one is not dead before its command is.
        assert pipeline.once() == (0, "", "")
        return len(noted(pipeline, "acts")) == 2

    pipeline.wait(acted)
    assert noted(pipeline, "acts") == [f"{path} 1 {pipeline.inbox}/a.in_proc", f"{path} 1 {path}"]
    assert pipeline.once() == (0, "", "")
    assert len(noted(pipeline, "acts")) == 2, "it has returned"
    assert noted(pipeline) == ["a.in_proc"], "the command ran once"
    assert pipeline.inboxed() == [name]


def test_killed_at_random_instants_no_action_is_lost(pipeline: Pipeline) -> None:
    chance = random.Random(19980417)
    names = [f"{number:03}.in" for number in range(60)]
    an_action(pipeline, "echo ${1##*/} >> $OUT/acts")
    pipeline.drop(*names)
    for _ in range(10):
        copies = [pipeline.start() for _ in range(2)]
        time.sleep(chance.uniform(0.15, 0.4))
        for copy in copies:
            copy.kill()
            copy.communicate(timeout=PATIENCE)

    def ended() -> bool:
        assert pipeline.once() == (0, "", "")
        with pipeline.board() as board:
            held = any(board.file_rows(one.holder) for one in board.processes())
        return not held and pipeline.inboxed() == [f"{name}_ok" for name in names]

    pipeline.wait(ended)
    assert set(noted(pipeline, "acts")) == {f"{name}_ok" for name in names}


def test_an_action_that_removes_the_file_is_not_due_again(pipeline: Pipeline) -> None:
    an_action(pipeline, "rm -f $1; echo $1 >> $OUT/acts; exec sleep 60")
    pipeline.drop("a.in")
    with pipeline.running() as process:
        pipeline.wait(lambda: noted(pipeline, "acts"))
        assert stop(process).exit == 0
    assert pipeline.once() == (0, "", "")
    assert len(noted(pipeline, "acts")) == 1
    with pipeline.board() as board:
        assert not any(board.file_rows(one.holder) for one in board.processes())


def test_an_action_over_which_an_orphan_works_is_taken_when_that_has_ended(
    pipeline: Pipeline,
) -> None:
    """By a process that was started before."""
    an_action(pipeline, "echo ${1##*/} >> $OUT/acts")
    pipeline.drop("a.in_ok")
    done = pipeline.inbox / "a.in_ok"
    with pipeline.board() as board:
        orphan = join(board, "proc")
        with board.hold_alive(orphan):
            board.begin_action(orphan, done, done)
            process = pipeline.start()
            pipeline.wait_for_state("idle")
            pipeline.wait(lambda: len(pipeline.processes()) == 2)
            pipeline.wait_for_state("idle")
            time.sleep(0.1)
            assert noted(pipeline, "acts") == []
        try:
            pipeline.wait(lambda: noted(pipeline, "acts") == ["a.in_ok"])
        finally:
            assert stop(process).exit == 0


def test_who_is_to_end_begins_no_other_action(pipeline: Pipeline) -> None:
    an_action(pipeline, BEGIN, f"FILE_MAXTARGS1 = 3\n{FILES}{SUCCESS}")
    pipeline.drop("a.in", "b.in", "c.in")

    def has_begun(times: int) -> bool:
        return len(noted(pipeline, "acts")) == times

    for begun in (1, 2):
        with pipeline.running() as process:
            pipeline.wait(partial(has_begun, begun))
            assert stop(process).exit == 0
        assert pipeline.log().count("was ended, and is due at the next start") == begun
        assert pipeline.inboxed() == ["a.in_ok", "b.in_ok", "c.in_ok"]
    (pipeline.directory / "go").touch()
    assert pipeline.once() == (0, "", "")
    assert len(noted(pipeline, "acts")) == 2 + 3
    assert len(noted(pipeline)) == 1


def test_a_directory_that_cannot_be_read_needs_no_flush(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A drop box."""
    target = pipeline.directory / "done"
    an_action(pipeline, "echo ${1##*/} >> $OUT/acts", to_directory(target) + SUCCESS)
    pipeline.drop("a.in")
    real = os.open

    def refused(path: Path, *how: int) -> int:
        if path == target:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return real(path, *how)

    monkeypatch.setattr(os, "open", refused)
    assert xpoll(pipeline) == 0
    assert noted(pipeline, "acts") == ["a.in_proc"]


def test_a_new_file_of_the_name_of_one_that_waits(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first is moved, but not for certain; of both the FILE_ACTION runs."""
    target = pipeline.directory / "done"
    an_action(pipeline, "cat $1 >> $OUT/acts; echo >> $OUT/acts", to_directory(target) + SUCCESS)
    script = f"[ -e $OUT/seen ] || printf new > {pipeline.inbox}/a.in\n{SEEN}"
    (pipeline.directory / "bin" / "proc").write_text(f"#!/bin/sh\n{script}\n")
    pipeline.drop("a.in")
    real = moving.flush_directories

    def ill(paths: Iterable[Path]) -> None:
        if len(noted(pipeline)) < 2:
            raise LocalError("ill")
        real(paths)

    monkeypatch.setattr(settle, "flush_directories", ill)
    assert xpoll(pipeline) == 0
    assert sorted(noted(pipeline, "acts")) == ["a.in", "new"]
    assert pipeline.inboxed() == []
    with pipeline.board() as board:
        assert not any(board.file_rows(one.holder) for one in board.processes())


def test_an_action_that_has_no_meaning_now_waits(pipeline: Pipeline) -> None:
    """The path that it refers to is being written; the other files of the event go on."""
    an_action(pipeline, "echo ${1##*/} >> $OUT/acts", f"FILE_MAXTARGS1 = 2\n{FILES}{SUCCESS}")
    other = pipeline.directory / "other.path"
    other.write_text((pipeline.directory / "night.path").read_text() + "ACT = 'action ^f'\n")
    text = (pipeline.directory / "proc.resource").read_text()
    (pipeline.directory / "proc.resource").write_text(text.replace("'action ^f'", "other->ACT"))
    away = "[ -e $OUT/away ] || mv $OUT/other.path $OUT/away\n"
    command = pipeline.directory / "bin" / "proc"
    command.write_text(f"#!/bin/sh\n{SEEN}\n{away}")
    pipeline.drop("a.in", "b.in")
    ran = pipeline.once()
    assert (ran.exit, "2 could not be brought to an end: FILE_ACTION for" in ran.stderr) == (
        2,
        True,
    )
    assert pipeline.inboxed() == ["a.in_ok", "b.in_ok"]
    (pipeline.directory / "away").rename(other)
    assert xpoll(pipeline) == 0
    assert noted(pipeline, "acts") == ["a.in_ok", "b.in_ok"]
    assert noted(pipeline) == ["a.in_proc"]


def test_an_action_after_a_move_to_another_file_system(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is due though the move was ended in its last step."""
    target = pipeline.directory / "done"
    an_action(pipeline, "echo $1 >> $OUT/acts", to_directory(target) + SUCCESS)
    pipeline.drop("a.in")
    real = moving._rename

    def rename(source: Path, path: Path) -> None:
        if target in source.parents:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        if target in path.parents:
            raise moving._OtherFileSystem
        real(source, path)

    with monkeypatch.context() as ill:
        ill.setattr(moving, "_rename", rename)
        # As if it had ended: the one that comes next is in the same process of the system.
        joined = Blackboard.join

        def join_as_nobody(
            board: Blackboard, process: str, path: str, host: str, pid: int, command: str
        ) -> int:
            return joined(board, process, path, host, NOBODY, command)

        ill.setattr(Blackboard, "join", join_as_nobody)
        with pytest.raises(LocalError, match="1 could not be brought to an end"):
            xpoll(pipeline)
    assert pipeline.inboxed() == []
    assert xpoll(pipeline) == 0
    assert os.listdir(target) == ["a.in_proc"]
    assert noted(pipeline, "acts") == [str(target / "a.in_proc")]
    assert noted(pipeline) == ["a.in_proc"]
