"""Files that wake a process: found, claimed once, never overwritten, moved anywhere; and the disk
guard (OPUS, "Process resource files")."""

import errno
import os
import subprocess
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from xpolls import Pipeline

from mirror.errors import LocalError
from server.opus import files as room
from server.opus.events import ClaimedFile
from server.opus.files import (
    Wanted,
    Watch,
    add_suffix,
    claim_file,
    claim_files,
    find_files,
    move_file,
    return_file,
)
from server.opus.guard import enough, free_blocks

HOLDER = 7


class Notes:
    """What the board was told of claims."""

    def __init__(self) -> None:
        self.held: dict[Path, Path] = {}

    def note_file(self, holder: int, original: Path, claimed: Path) -> None:
        assert holder == HOLDER
        self.held[claimed] = original

    def forget_file(self, holder: int, claimed: Path) -> None:
        self.held.pop(claimed, None)


@pytest.fixture
def notes() -> Notes:
    """A board that knows of no claim."""
    return Notes()


def put(directory: Path, *names: str) -> None:
    directory.mkdir(exist_ok=True)
    for name in names:
        (directory / name).write_text(name)


def wanted(directory: Path, pattern: str = "*.in", maxtargs: int = 1) -> Wanted:
    return Wanted(directory, pattern, maxtargs, ("_proc", "_ok"))


# Finding


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        pytest.param("*.in", ["a.in", "b.in"], id="what matches, by name"),
        pytest.param("?.in", ["a.in", "b.in"], id="a question mark"),
        pytest.param("[ac].*", ["a.in"], id="a set"),
        pytest.param("A.IN", [], id="case matters"),
        pytest.param("*", ["a.in", "b.in", "x"], id="not what the process has named itself"),
        pytest.param("*_ok", ["c.in_ok"], id="but what the pattern asks for"),
        pytest.param(".*", [".hidden.in"], id="a dot is matched by a dot"),
    ],
)
def test_which_files(tmp_path: Path, pattern: str, expected: list[str]) -> None:
    put(tmp_path, "b.in", "a.in", "c.in_ok", "d.in_proc", ".hidden.in", "x")
    (tmp_path / "directory.in").mkdir()
    assert find_files(tmp_path, [wanted(tmp_path, pattern)]) == [expected]


def test_one_look_serves_all_searches_of_a_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path, "a.in", "b.out")
    looks: list[Path] = []
    real = os.scandir

    def counted(place: Path) -> Any:
        looks.append(place)
        return real(place)

    monkeypatch.setattr(os, "scandir", counted)
    watch = Watch(10.0, 10.0)
    searches = [wanted(tmp_path), wanted(tmp_path, "*.out")]
    watch.look(searches, 0.0)
    assert [list(names) for _, names in watch.waiting()] == [["a.in"], ["b.out"]]
    assert looks == [tmp_path]
    watch.look(searches, 5.0)
    assert len(looks) == 1, "there is work left of the last look"
    watch.look(searches, 10.0)
    assert len(looks) == 2, "the last look is too old"


def test_a_directory_that_is_not_there_has_no_files(tmp_path: Path, notes: Notes) -> None:
    watch = Watch(10.0, 10.0)
    put(tmp_path / "there", "a.in")
    watch.look([wanted(tmp_path / "gone"), wanted(tmp_path / "there")], 0.0)
    assert watch.unreadable == {tmp_path / "gone": "No such file or directory"}
    assert [one.original.name for one in claim_files(watch, "_proc", notes, HOLDER)] == ["a.in"]


def test_a_file_that_was_left_rests(tmp_path: Path) -> None:
    put(tmp_path, "a.in", "b.in")
    watch = Watch(1.0, 10.0, passed={str(tmp_path / "a.in"): 100.0})
    for now, expected in ((101.0, ["b.in"]), (110.0, ["a.in", "b.in"])):
        watch.look([wanted(tmp_path)], now)
        assert [list(names) for _, names in watch.queues] == [expected]


# Claiming


def test_as_many_as_an_event_takes_of_the_first_search(tmp_path: Path, notes: Notes) -> None:
    put(tmp_path, "a.in", "b.in", "c.in", "d.out")
    watch = Watch(10.0, 10.0)
    watch.look([wanted(tmp_path, maxtargs=2), wanted(tmp_path, "*.out")], 0.0)
    events = []
    while found := claim_files(watch, "_proc", notes, HOLDER):
        events.append([one.claimed.name for one in found])
    assert events == [["a.in_proc", "b.in_proc"], ["c.in_proc"], ["d.out_proc"]]
    assert {path.name for path in notes.held.values()} == {"a.in", "b.in", "c.in", "d.out"}


def test_a_name_in_work_is_never_overwritten(tmp_path: Path, notes: Notes) -> None:
    put(tmp_path, "a.in", "a.in_proc", "b.in")
    watch = Watch(10.0, 10.0)
    watch.look([wanted(tmp_path, maxtargs=5)], 0.0)
    assert [one.original.name for one in claim_files(watch, "_proc", notes, HOLDER)] == ["b.in"]
    assert watch.taken == [tmp_path / "a.in"]
    assert (tmp_path / "a.in_proc").read_text() == "a.in_proc"
    assert list(notes.held) == [tmp_path / "b.in_proc"]


@pytest.fixture(params=["renameat2", "link"])
def either_rename(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways in which a file gets a name that must be free."""
    if request.param == "link":
        monkeypatch.setattr(room, "_renameat2", lambda: None)
    return str(request.param)


@pytest.mark.usefixtures("either_rename")
def test_of_many_copies_one_gets_a_file(tmp_path: Path) -> None:
    names = [f"{number:03}.in" for number in range(200)]
    put(tmp_path, *names)
    won: list[list[str]] = [[] for _ in range(8)]
    begin = threading.Barrier(8)

    def copy(mine: list[str]) -> None:
        begin.wait()
        for name in names:
            file = ClaimedFile(tmp_path / name, tmp_path / f"{name}_proc")
            if claim_file(file, Notes(), HOLDER):
                mine.append(name)

    threads = [threading.Thread(target=copy, args=(mine,)) for mine in won]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(name for mine in won for name in mine) == names
    assert sorted(os.listdir(tmp_path)) == [f"{name}_proc" for name in names]


def test_the_board_is_told_before_the_rename(tmp_path: Path) -> None:
    put(tmp_path, "a.in")
    file = ClaimedFile(tmp_path / "a.in", tmp_path / "a.in_proc")

    class Told(Notes):
        def note_file(self, holder: int, original: Path, claimed: Path) -> None:
            assert original.exists()
            assert not claimed.exists()
            super().note_file(holder, original, claimed)

    board = Told()
    assert claim_file(file, board, HOLDER)
    assert not claim_file(file, board, HOLDER)
    assert list(board.held) == [file.claimed]


def test_a_directory_that_cannot_be_changed_is_told(
    tmp_path: Path, notes: Notes, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path, "a.in")

    def refused(source: Path, target: Path) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(room, "_rename", refused)
    watch = Watch(10.0, 10.0)
    watch.look([wanted(tmp_path)], 0.0)
    assert claim_files(watch, "_proc", notes, HOLDER) == ()
    assert watch.unreadable == {tmp_path: f"{tmp_path}/a.in: Read-only file system"}
    assert not notes.held


# After the command


@pytest.fixture
def claimed(tmp_path: Path, notes: Notes) -> ClaimedFile:
    """A file in work."""
    put(tmp_path / "in", "a.in")
    file = ClaimedFile(tmp_path / "in" / "a.in", tmp_path / "in" / "a.in_proc")
    assert claim_file(file, notes, HOLDER)
    return file


def never(final: Path, hidden: Path) -> None:
    raise AssertionError("nothing has to be recorded within a file system")


def test_a_suffix_replaces_the_processing_suffix(claimed: ClaimedFile) -> None:
    assert add_suffix(claimed, "_ok").name == "a.in_ok"
    assert os.listdir(claimed.original.parent) == ["a.in_ok"]


def test_a_move_keeps_the_processing_suffix(claimed: ClaimedFile, tmp_path: Path) -> None:
    path, noted = move_file(claimed, tmp_path / "new" / "done", never)
    assert (path, noted) == (tmp_path / "new" / "done" / "a.in_proc", claimed.claimed)
    assert path.read_text() == "a.in"


@pytest.mark.usefixtures("either_rename")
def test_what_stands_there_is_not_overwritten(claimed: ClaimedFile, tmp_path: Path) -> None:
    put(tmp_path / "in", "a.in_ok")
    path = add_suffix(claimed, "_ok")
    assert path.name.startswith("a.in.2")
    assert path.name.endswith("_ok")
    assert path.read_text() == "a.in"
    assert (tmp_path / "in" / "a.in_ok").read_text() == "a.in_ok"


def test_a_file_is_given_back(claimed: ClaimedFile, notes: Notes) -> None:
    return_file(claimed, notes, HOLDER)
    assert os.listdir(claimed.original.parent) == ["a.in"]
    assert not notes.held


def test_a_file_is_given_back_beside_a_new_one(claimed: ClaimedFile, notes: Notes) -> None:
    claimed.original.write_text("new")
    return_file(claimed, notes, HOLDER)
    assert claimed.original.read_text() == "new"
    assert sorted(one.read_text() for one in claimed.original.parent.iterdir()) == ["a.in", "new"]


def test_a_file_that_the_command_has_removed_cannot_be_renamed(claimed: ClaimedFile) -> None:
    claimed.claimed.unlink()
    with pytest.raises(LocalError, match=r"a\.in_proc: it is gone"):
        add_suffix(claimed, "_ok")


# Another file system


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory into which nothing can be renamed from outside."""
    place = tmp_path / "elsewhere"
    real = room._rename

    def rename(source: Path, target: Path) -> None:
        if (place in source.parents) != (place in target.parents):
            raise room._OtherFileSystem
        real(source, target)

    monkeypatch.setattr(room, "_rename", rename)
    return place


def test_a_move_to_another_file_system(claimed: ClaimedFile, elsewhere: Path) -> None:
    os.utime(claimed.claimed, ns=(10**18, 10**18))
    recorded: list[tuple[Path, Path]] = []

    def record(final: Path, hidden: Path) -> None:
        # The copy is complete, and what it is a copy of is still there: either may be the file.
        assert hidden.read_text() == claimed.claimed.read_text() == "a.in"
        assert not final.exists()
        recorded.append((final, hidden))

    path, noted = move_file(claimed, elsewhere, record)
    assert path == elsewhere / "a.in_proc"
    assert recorded == [(path, noted)]
    assert os.listdir(elsewhere) == ["a.in_proc"]
    assert os.listdir(claimed.original.parent) == []
    assert path.stat().st_mtime_ns == 10**18


def test_a_copy_that_fails_leaves_the_file_and_nothing_else(
    claimed: ClaimedFile, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(source: Path, target: Path) -> None:
        target.write_text("a")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("shutil.copyfile", full)
    with pytest.raises(LocalError, match="No space left"):
        move_file(claimed, elsewhere, never)
    assert os.listdir(elsewhere) == []
    assert claimed.claimed.read_text() == "a.in"


class Killed(BaseException):
    """Stands for SIGKILL."""


@pytest.mark.parametrize(
    ("recorded", "removed", "where"),
    [
        pytest.param(False, False, "in/a.in", id="before the record: it is returned"),
        pytest.param(True, False, "elsewhere/a.in_proc", id="after the record: it arrives"),
        pytest.param(True, True, "elsewhere/a.in_proc", id="after the removal: it arrives"),
    ],
)
def test_killed_in_a_move_to_another_file_system(
    tmp_path: Path, elsewhere: Path, recorded: bool, removed: bool, where: str
) -> None:
    pipeline = Pipeline(tmp_path)
    pipeline.drop("a.in")
    file = ClaimedFile(pipeline.inbox / "a.in", pipeline.inbox / "a.in_proc")
    with pipeline.board() as board:
        holder = board.join("proc", "night", "here", 1, "xpoll")
        assert claim_file(file, board, holder)

        def killed(final: Path, hidden: Path) -> None:
            if recorded:
                board.move_file(holder, file.claimed, final, hidden)
            if removed:
                file.claimed.unlink()
            raise Killed

        with pytest.raises(Killed):
            move_file(file, elsewhere, killed)
    with pipeline.board() as board:
        board.reap()
        assert board.held(holder)[1] == []
    ends = [tmp_path / "in" / "a.in", elsewhere / "a.in_proc"]
    assert [one for one in ends if one.exists()] == [tmp_path / where]
    assert (tmp_path / where).read_text() == "a.in"


# The disk guard


@pytest.mark.parametrize(
    ("free", "waiting", "expected"),
    [
        pytest.param(99, False, False, id="below MINBLOCKS"),
        pytest.param(100, False, True, id="MINBLOCKS are enough"),
        pytest.param(199, True, False, id="once it waits, below RESUME_BLOCKS"),
        pytest.param(200, True, True, id="RESUME_BLOCKS are enough"),
    ],
)
def test_the_guard(free: int, waiting: bool, expected: bool) -> None:
    assert enough(free, 100, 200, waiting=waiting) is expected


def test_blocks_have_512_bytes_whatever_the_file_system_has() -> None:
    def look(path: Path) -> Any:
        return SimpleNamespace(f_bavail=10, f_bfree=99, f_frsize=4096, f_bsize=65536)

    assert free_blocks(Path("/anywhere"), look) == 80


def test_a_directory_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(LocalError, match="No such file"):
        free_blocks(tmp_path / "gone")


def test_the_blocks_of_a_small_file_system(tmp_path: Path) -> None:
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(tmp_path)], capture_output=True
    )
    if mounted.returncode != 0:
        pytest.skip("this user may not mount a file system")
    try:
        assert free_blocks(tmp_path) == 2048
        (tmp_path / "data").write_bytes(bytes(512 * 1024))
        assert free_blocks(tmp_path) == 1024
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)
