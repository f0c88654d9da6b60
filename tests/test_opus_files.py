"""Files that wake a process: found, and claimed once; and the disk guard (OPUS, "Process resource
files"). What becomes of them then: test_opus_moving."""

import errno
import os
import subprocess
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mirror.errors import LocalError
from server.database import Unavailable
from server.opus import moving
from server.opus.events import ClaimedFile
from server.opus.files import (
    REFUSED_REST,
    Wanted,
    Watch,
    claim_file,
    claim_files,
    find_files,
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


@pytest.mark.parametrize(
    ("target", "why"),
    [
        pytest.param("x.in", "Too many levels of symbolic links", id="to itself"),
        pytest.param("/etc/passwd/x", "Not a directory", id="through a file"),
    ],
)
def test_a_broken_link_keeps_no_other(tmp_path: Path, notes: Notes, target: str, why: str) -> None:
    put(tmp_path, "a.in", "y.in")
    (tmp_path / "x.in").symlink_to(target)
    watch = Watch(10.0, 10.0)
    watch.look([wanted(tmp_path, maxtargs=5)], 0.0)
    found = claim_files(watch, "_proc", notes, HOLDER)
    assert [one.original.name for one in found] == ["a.in", "y.in"]
    assert not watch.unreadable
    assert watch.refused == {tmp_path / "x.in": (why, 0.0)}


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


@pytest.fixture
def refusing(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Names that cannot be renamed, and why."""
    reasons: dict[str, int] = {}
    real = moving._rename

    def rename(source: Path, target: Path) -> None:
        if source.name in reasons:
            code = reasons[source.name]
            raise OSError(code, os.strerror(code), str(source))
        real(source, target)

    monkeypatch.setattr(moving, "_rename", rename)
    return reasons


@pytest.mark.parametrize("code", [errno.EROFS, errno.ENOSPC, errno.EDQUOT], ids=errno.errorcode.get)
def test_a_directory_that_cannot_be_changed_is_told(
    tmp_path: Path, notes: Notes, refusing: dict[str, int], code: int
) -> None:
    put(tmp_path, "a.in", "b.in")
    refusing["a.in"] = code
    watch = Watch(10.0, 10.0)
    watch.look([wanted(tmp_path)], 0.0)
    assert claim_files(watch, "_proc", notes, HOLDER) == ()
    assert watch.unreadable == {tmp_path: f"{tmp_path}/a.in: {os.strerror(code)}"}
    assert not notes.held


@pytest.mark.parametrize(
    "code", [errno.EPERM, errno.EACCES, errno.ETXTBSY, errno.EBUSY], ids=errno.errorcode.get
)
def test_one_file_that_cannot_be_renamed_keeps_no_other(
    tmp_path: Path, notes: Notes, refusing: dict[str, int], code: int
) -> None:
    put(tmp_path, "a.in", "b.in")
    refusing["a.in"] = code
    watch = Watch(10.0, 10.0)
    watch.look([wanted(tmp_path)], 0.0)
    assert [one.original.name for one in claim_files(watch, "_proc", notes, HOLDER)] == ["b.in"]
    assert not watch.unreadable
    assert watch.refused == {tmp_path / "a.in": (os.strerror(code), 0.0)}
    assert list(notes.held) == [tmp_path / "b.in_proc"]
    watch.look([wanted(tmp_path)], REFUSED_REST - 1)
    assert claim_files(watch, "_proc", notes, HOLDER) == ()
    assert watch.refused == {tmp_path / "a.in": (os.strerror(code), 0.0)}, "it rests"
    refusing.clear()
    watch.look([wanted(tmp_path)], REFUSED_REST)
    assert [one.original.name for one in claim_files(watch, "_proc", notes, HOLDER)] == ["a.in"]
    assert not watch.refused


def test_a_refused_file_that_is_gone_is_forgotten(tmp_path: Path) -> None:
    put(tmp_path, "a.in")
    watch = Watch(10.0, 10.0)
    watch.look([wanted(tmp_path)], 0.0)
    watch.refuse(tmp_path / "a.in", "Operation not permitted")
    watch.queues.clear()
    (tmp_path / "a.in").unlink()
    watch.look([wanted(tmp_path)], 1.0)
    assert not watch.refused


def test_a_name_that_is_too_long_in_work_costs_the_board_nothing(tmp_path: Path) -> None:
    name = f"{'a' * 249}.in"
    put(tmp_path, name, "b.in")

    class Counting(Notes):
        calls = 0

        def note_file(self, holder: int, original: Path, claimed: Path) -> None:
            self.calls += 1
            super().note_file(holder, original, claimed)

    board, watch = Counting(), Watch(10.0, 10.0)
    watch.look([wanted(tmp_path, maxtargs=5)], 0.0)
    assert [one.original.name for one in claim_files(watch, "_proc", board, HOLDER)] == ["b.in"]
    assert watch.refused == {tmp_path / name: ("File name too long", 0.0)}
    assert board.calls == 1


def test_a_directory_that_is_gone_meanwhile_is_told(
    tmp_path: Path, notes: Notes, refusing: dict[str, int]
) -> None:
    put(tmp_path / "in", "a.in", "b.in")
    watch = Watch(10.0, 10.0)
    watch.look([wanted(tmp_path / "in")], 0.0)
    refusing["a.in"] = errno.ESTALE

    class Removing(Notes):
        def note_file(self, holder: int, original: Path, claimed: Path) -> None:
            (tmp_path / "in").rename(tmp_path / "away")

    assert claim_files(watch, "_proc", Removing(), HOLDER) == ()
    assert list(watch.unreadable) == [tmp_path / "in"]


def test_a_board_that_does_not_answer_is_no_fault_of_the_file(tmp_path: Path) -> None:
    put(tmp_path, "a.in")

    class Silent(Notes):
        def note_file(self, holder: int, original: Path, claimed: Path) -> None:
            raise Unavailable("no answer")

    watch = Watch(10.0, 10.0)
    watch.look([wanted(tmp_path)], 0.0)
    with pytest.raises(Unavailable):
        claim_files(watch, "_proc", Silent(), HOLDER)
    assert os.listdir(tmp_path) == ["a.in"]


def test_no_more_than_the_environment_of_a_command_takes(
    tmp_path: Path, notes: Notes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FILE_MAXTARGS is what is wanted at most; the next event has the rest."""
    monkeypatch.setattr(os, "sysconf", lambda name: 1 << 17)
    put(tmp_path, *(f"{number:0200}.in" for number in range(300)))
    watch = Watch(10.0, 10.0)
    watch.look([wanted(tmp_path, maxtargs=1000)], 0.0)
    events = []
    while found := claim_files(watch, "_proc", notes, HOLDER):
        events.append(sum(len(os.fsencode(one.claimed)) + 18 for one in found))
    assert len(notes.held) == 300
    assert len(events) > 1
    assert max(events) <= (1 << 17) // 4


def test_nothing_is_claimed_by_a_process_that_is_to_end(tmp_path: Path, notes: Notes) -> None:
    put(tmp_path, *(f"{number}.in" for number in range(5)))
    watch = Watch(10.0, 10.0, ended=lambda: len(notes.held) >= 2)
    watch.look([wanted(tmp_path, maxtargs=5)], 0.0)
    assert len(claim_files(watch, "_proc", notes, HOLDER)) == 2
    assert claim_files(watch, "_proc", notes, HOLDER) == ()
    assert len(notes.held) == 2


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
