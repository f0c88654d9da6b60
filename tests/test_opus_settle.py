"""What becomes of files is applied in the end, whatever was in the way, and FILE_ACTION runs to its
end (OPUS, "After the command")."""

import errno
import os
import random
import resource
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from client import PATIENCE
from xpoll_here import xpoll
from xpolls import ENTRIES, FILES, SUCCESS, Pipeline, noted, stop

from mirror.errors import LocalError
from server.opus import moving

SEEN = "echo ${EVENT_NAME##*/} >> $OUT/seen"


def to_directory(directory: Path) -> str:
    """FILE_SUCCESS moves there."""
    return FILES.replace("FILE_SUCCESS = _ok", f"FILE_SUCCESS.DIRECTORY = {directory}")


# Files that keep no other


@pytest.mark.parametrize("target", ["b.in", "/etc/passwd/x"], ids=["to itself", "through a file"])
def test_a_broken_link_is_told_once_and_keeps_no_other(pipeline: Pipeline, target: str) -> None:
    pipeline.resource(SEEN, FILES + SUCCESS)
    pipeline.drop("a.in", "c.in")
    (pipeline.inbox / "b.in").symlink_to(target)
    assert xpoll(pipeline) == 0
    assert noted(pipeline) == ["a.in_proc", "c.in_proc"]
    assert pipeline.log().count(f"{pipeline.inbox}/b.in: cannot be had, the others go on: ") == 1


def test_a_name_that_is_too_long_in_work_is_told_once_and_keeps_no_other(
    pipeline: Pipeline,
) -> None:
    pipeline.resource(SEEN, FILES + SUCCESS)
    name = f"{'a' * 249}.in"
    pipeline.drop(name, "c.in")
    assert xpoll(pipeline) == 0
    assert noted(pipeline) == ["c.in_proc"]
    assert pipeline.log().count(f"{name}: cannot be had, the others go on: File name too long") == 1


def test_of_very_many_files_that_cannot_be_had_a_few_are_told(pipeline: Pipeline) -> None:
    pipeline.resource(SEEN, FILES + SUCCESS)
    for number in range(30):
        (pipeline.inbox / f"{number}.in").symlink_to(f"{number}.in")
    assert xpoll(pipeline) == 0
    assert pipeline.log().count("cannot be had, the others go on") == 10
    assert "20 more files cannot be had: Too many levels" in pipeline.log()


# Where a file goes


@pytest.mark.parametrize("own", ["suffix", "directory"])
def test_a_file_that_is_where_it_goes_stays_there(pipeline: Pipeline, own: str) -> None:
    """FILE_SUCCESS is FILE_PROCESSING, or FILE_SUCCESS.DIRECTORY the inbox."""
    files = FILES.replace("FILE_SUCCESS = _ok", "FILE_SUCCESS = _proc")
    pipeline.resource(SEEN, (files if own == "suffix" else to_directory(pipeline.inbox)) + SUCCESS)
    pipeline.drop("a.in")
    assert xpoll(pipeline) == 0
    assert pipeline.inboxed() == ["a.in_proc"]
    assert noted(pipeline) == ["a.in_proc"]


def test_what_the_process_has_made_is_no_event_of_once(pipeline: Pipeline) -> None:
    """FILE_OBJECT asks for FILE_ERROR's own suffix."""
    files = FILES.replace("*.in", "*_bad")
    pipeline.resource(f"{SEEN}; exit 9", files + SUCCESS)
    pipeline.drop("z_bad", "y_bad")
    assert xpoll(pipeline) == 0
    assert noted(pipeline) == ["y_bad_proc", "z_bad_proc"]
    assert pipeline.inboxed() == ["y_bad_bad", "z_bad_bad"]
    assert xpoll(pipeline) == 0
    assert pipeline.inboxed() == ["y_bad_bad_bad", "z_bad_bad_bad"]


# What is in the way


def test_an_outcome_is_applied_once_it_can_be(pipeline: Pipeline) -> None:
    """FILE_SUCCESS.DIRECTORY is a file, for a time."""
    target = pipeline.directory / "done"
    target.write_text("in the way")
    pipeline.resource(SEEN, to_directory(target) + SUCCESS)
    pipeline.drop("a.in")
    with pipeline.running() as process:
        pipeline.wait(lambda: noted(pipeline))
        pipeline.wait(lambda: "is tried again at every poll" in pipeline.said())
        pipeline.drop("b.in")
        pipeline.wait(lambda: len(noted(pipeline)) == 2)
        target.unlink()
        pipeline.wait(lambda: target.is_dir() and len(os.listdir(target)) == 2)
        pipeline.wait(lambda: pipeline.log().count("the outcome of its event is applied now") == 2)
        assert stop(process).exit == 0
    assert noted(pipeline) == ["a.in_proc", "b.in_proc"], "the command ran once for each"
    assert pipeline.log().count("is tried again at every poll") == 2
    assert pipeline.inboxed() == []


def test_what_is_in_the_way_to_the_end_is_returned(pipeline: Pipeline) -> None:
    target = pipeline.directory / "done"
    target.write_text("in the way")
    pipeline.resource(SEEN, to_directory(target) + SUCCESS)
    pipeline.drop("a.in")
    with pipeline.running() as process:
        pipeline.wait(lambda: "is tried again at every poll" in pipeline.said())
        assert stop(process).exit == 0
    assert pipeline.inboxed() == ["a.in"]
    assert f"{pipeline.inbox}/a.in: is returned" in pipeline.log()


def test_once_tells_what_could_not_be_applied(pipeline: Pipeline) -> None:
    """After the rest."""
    target = pipeline.directory / "done"
    target.write_text("in the way")
    pipeline.resource(SEEN, to_directory(target) + SUCCESS)
    pipeline.drop("a.in", "b.in")
    with pytest.raises(LocalError) as caught:
        xpoll(pipeline)
    assert str(caught.value).startswith(f"2 could not be brought to an end: {pipeline.inbox}/a.in:")
    assert f"{pipeline.inbox}/b.in: {target}: " in str(caught.value)
    assert pipeline.once().exit == 2
    assert noted(pipeline) == ["a.in_proc", "b.in_proc"] * 2
    assert pipeline.inboxed() == ["a.in", "b.in"]


def test_a_file_that_its_command_has_removed_is_not_waited_for(pipeline: Pipeline) -> None:
    pipeline.resource(f"{SEEN}; rm $EVENT_NAME", FILES + SUCCESS)
    pipeline.drop("a.in")
    assert xpoll(pipeline) == 0
    assert "nothing becomes of a file: " in pipeline.log()
    with pipeline.board() as board:
        assert [board.file_rows(one.holder) for one in board.processes()] == [[]]


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)], capture_output=True
    )
    if mounted.returncode != 0:
        pytest.skip("this user may not mount a file system")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_disk_that_gets_room_again(pipeline: Pipeline, small: Path) -> None:
    pipeline.resource(SEEN, to_directory(small) + SUCCESS)
    (small / "other").write_bytes(bytes(1 << 20))
    pipeline.drop("a.in")
    with pipeline.running() as process:
        pipeline.wait(lambda: "No space left on device" in pipeline.said())
        (small / "other").unlink()
        pipeline.wait(lambda: (small / "a.in_proc").exists())
        assert stop(process).exit == 0
    assert noted(pipeline) == ["a.in_proc"]
    assert (os.listdir(small), pipeline.inboxed()) == (["a.in_proc"], [])


def test_a_long_name_on_another_file_system(pipeline: Pipeline, small: Path) -> None:
    pipeline.resource(SEEN, to_directory(small) + SUCCESS)
    name = f"{'a' * 245}.in"
    pipeline.drop(name)
    assert xpoll(pipeline) == 0
    assert os.listdir(small) == [f"{name}_proc"]


# Very many items


@pytest.fixture
def short_of_arguments() -> Iterator[None]:
    """A system that gives 128 KiB to the arguments and the environment of a command."""
    before = resource.getrlimit(resource.RLIMIT_STACK)
    resource.setrlimit(resource.RLIMIT_STACK, (512 * 1024, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_STACK, before)


@pytest.mark.usefixtures("short_of_arguments")
def test_more_files_than_an_environment_takes(pipeline: Pipeline) -> None:
    files = f"FILE_MAXTARGS1 = 100000\n{FILES}"
    pipeline.resource("echo $EVENT_NUM >> $OUT/seen", files + SUCCESS)
    pipeline.drop(*(f"{number:0240}.in" for number in range(500)))
    assert pipeline.once() == (0, "", "")
    events = [int(line) for line in noted(pipeline)]
    assert len(events) > 1
    assert sum(events) == 500
    assert all(name.endswith("_ok") for name in pipeline.inboxed())


@pytest.mark.usefixtures("short_of_arguments")
def test_more_entries_than_an_environment_takes(pipeline: Pipeline) -> None:
    entries = f"OSF_TRIGGER1.MAXTARGS = 100000\n{ENTRIES}XPOLL_STATE.00 = OSF_DONE\n"
    pipeline.resource("echo $EVENT_NUM >> $OUT/seen", entries)
    names = [f"{number:0250}" for number in range(450)]
    pipeline.post(*names)
    assert pipeline.once() == (0, "", "")
    assert sum(int(line) for line in noted(pipeline)) == 450
    assert len(noted(pipeline)) > 1
    assert set(pipeline.letters().values()) == {"cw"}


# FILE_ACTION


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
    with pytest.raises(LocalError, match=r"2 could not be brought .*FILE_ACTION for .*a\.in_ok"):
        xpoll(pipeline)
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
        with pytest.raises(LocalError, match="1 could not be brought to an end"):
            xpoll(pipeline)
    assert pipeline.inboxed() == []
    assert xpoll(pipeline) == 0
    assert os.listdir(target) == ["a.in_proc"]
    assert noted(pipeline, "acts") == [str(target / "a.in_proc")]
    assert noted(pipeline) == ["a.in_proc"]
