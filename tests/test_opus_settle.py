"""What becomes of files is applied in the end, whatever was in the way (OPUS, "After the
command"). FILE_ACTION: test_opus_actions."""

import os
import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from xpoll_here import xpoll
from xpolls import ENTRIES, FILES, SEEN, SUCCESS, Pipeline, noted, stop, to_directory

from mirror.errors import LocalError
from server.opus import settle

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
        pipeline.wait(lambda: pipeline.said().count("is tried again at every poll") == 2)
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


def test_a_directory_that_is_away_for_a_moment(pipeline: Pipeline) -> None:
    away = pipeline.directory / "away"
    pipeline.resource(f"{SEEN}; mv {pipeline.inbox} {away}", FILES + SUCCESS)
    pipeline.drop("a.in")
    with pipeline.running() as process:
        pipeline.wait(lambda: "is tried again at every poll" in pipeline.said())
        away.rename(pipeline.inbox)
        pipeline.wait(lambda: pipeline.inboxed() == ["a.in_ok"])
        assert stop(process).exit == 0
    assert noted(pipeline) == ["a.in_proc"]


def test_of_very_many_that_cannot_be_applied_a_few_are_told(pipeline: Pipeline) -> None:
    target = pipeline.directory / "done"
    target.write_text("in the way")
    pipeline.resource(SEEN, f"FILE_MAXTARGS1 = 15\n{to_directory(target)}{SUCCESS}")
    pipeline.drop(*(f"{number:02}.in" for number in range(15)))
    with pytest.raises(LocalError, match=r"^15 could not be .*09\.in: [^;]*; and 5 more$"):
        xpoll(pipeline)
    assert pipeline.log().count("the file stays as it is") == 10
    assert "5 more files stay as they are, and are tried again at every poll" in pipeline.log()


def test_a_full_directory_is_tried_once_a_round(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[Path] = []

    def full(file: object, directory: Path, diary: object) -> Path:
        tried.append(directory)
        raise LocalError(f"{directory}: No space left on device", full=True)

    monkeypatch.setattr(settle, "move_file", full)
    target = pipeline.directory / "done"
    files = f"FILE_MAXTARGS1 = 3\n{to_directory(target)}{SUCCESS}"
    pipeline.resource(SEEN, files, polling="60")
    pipeline.drop("a.in", "b.in", "c.in")
    with pytest.raises(LocalError, match="3 could not be"):
        xpoll(pipeline)
    assert len(tried) == 3 + 1


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
