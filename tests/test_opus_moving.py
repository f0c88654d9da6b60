"""What becomes of a file after the command: renamed, or moved anywhere, never over another one, and
found again whenever the process is killed (OPUS, "Process resource files")."""

import errno
import os
from pathlib import Path

import pytest
from boards import join

from mirror.errors import LocalError
from server.blackboard import Blackboard
from server.opus import moving
from server.opus.events import ClaimedFile
from server.opus.moving import add_suffix, finish_move, move_file, return_file


@pytest.fixture
def claimed(tmp_path: Path) -> ClaimedFile:
    """A file in work."""
    file = ClaimedFile(tmp_path / "in" / "a.in", tmp_path / "in" / "a.in_proc")
    file.claimed.parent.mkdir()
    file.claimed.write_text("a.in")
    return file


class Told:
    """What was said of a move: the steps, each with the files that were there."""

    def __init__(self) -> None:
        self.steps: list[str] = []
        self.final: Path | None = None
        self.hidden: Path | None = None

    def renaming(self, path: Path) -> None:
        assert not path.exists()
        self.steps.append(f"renaming {path.name}")

    def copying(self, hidden: Path) -> None:
        assert not hidden.exists()
        self.hidden = hidden
        self.steps.append("copying")

    def copied(self, final: Path, hidden: Path) -> None:
        assert hidden == self.hidden
        self.final = final
        self.steps.append("copied")

    def removed(self) -> None:
        self.steps.append("removed")


# Within a file system


def test_a_suffix_replaces_the_processing_suffix(claimed: ClaimedFile) -> None:
    assert add_suffix(claimed, "_ok").name == "a.in_ok"
    assert os.listdir(claimed.original.parent) == ["a.in_ok"]


def test_the_suffix_that_it_has_changes_nothing(claimed: ClaimedFile) -> None:
    told = Told()
    assert add_suffix(claimed, "_proc", told.renaming) == claimed.claimed
    assert os.listdir(claimed.original.parent) == ["a.in_proc"]
    assert told.steps == []


def test_a_move_keeps_the_processing_suffix(claimed: ClaimedFile, tmp_path: Path) -> None:
    told = Told()
    path = move_file(claimed, tmp_path / "new" / "done", told)
    assert path == tmp_path / "new" / "done" / "a.in_proc"
    assert path.read_text() == "a.in"
    assert told.steps == ["renaming a.in_proc"]


@pytest.mark.parametrize("link", [False, True], ids=["by its name", "by another name"])
def test_a_move_into_its_own_directory_changes_nothing(
    claimed: ClaimedFile, tmp_path: Path, link: bool
) -> None:
    directory = claimed.original.parent
    if link:
        directory = tmp_path / "link"
        directory.symlink_to(claimed.original.parent)
    assert move_file(claimed, directory, Told()) == directory / "a.in_proc"
    assert os.listdir(claimed.original.parent) == ["a.in_proc"]


@pytest.mark.usefixtures("either_rename")
def test_what_stands_there_is_not_overwritten(claimed: ClaimedFile) -> None:
    claimed.original.with_name("a.in_ok").write_text("other")
    path = add_suffix(claimed, "_ok")
    assert path.name.startswith("a.in.2")
    assert path.name.endswith("_ok")
    assert path.read_text() == "a.in"
    assert claimed.original.with_name("a.in_ok").read_text() == "other"


def test_without_the_system_call_a_rename_that_fails_leaves_one_name(
    claimed: ClaimedFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.unlink

    def unlink(path: Path) -> None:
        if path == claimed.claimed:
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), str(path))
        real(path)

    monkeypatch.setattr(moving, "_renameat2", lambda: None)
    monkeypatch.setattr(os, "unlink", unlink)
    with pytest.raises(LocalError, match="not permitted"):
        add_suffix(claimed, "_ok")
    assert os.listdir(claimed.original.parent) == ["a.in_proc"]


def test_a_file_is_given_back(claimed: ClaimedFile) -> None:
    assert return_file(claimed) == claimed.original
    assert os.listdir(claimed.original.parent) == ["a.in"]


def test_a_file_is_given_back_beside_a_new_one(claimed: ClaimedFile) -> None:
    claimed.original.write_text("new")
    assert return_file(claimed).read_text() == "a.in"
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
    real = moving._rename

    def rename(source: Path, target: Path) -> None:
        if (place in source.parents) != (place in target.parents):
            raise moving._OtherFileSystem
        real(source, target)

    monkeypatch.setattr(moving, "_rename", rename)
    return place


def test_a_move_to_another_file_system(claimed: ClaimedFile, elsewhere: Path) -> None:
    os.utime(claimed.claimed, ns=(10**18, 10**18))

    class Looking(Told):
        def copied(self, final: Path, hidden: Path) -> None:
            # Complete, and what it is a copy of is still there: either may be the file.
            assert hidden.read_text() == claimed.claimed.read_text() == "a.in"
            assert not final.exists()
            super().copied(final, hidden)

        def removed(self) -> None:
            assert not claimed.claimed.exists()
            super().removed()

    told = Looking()
    path = move_file(claimed, elsewhere, told)
    assert path == told.final == elsewhere / "a.in_proc"
    # The first rename was tried before it was known that it cannot be.
    assert told.steps[1:] == ["copying", "copied", "removed", "renaming a.in_proc"]
    assert os.listdir(elsewhere) == ["a.in_proc"]
    assert os.listdir(claimed.original.parent) == []
    assert path.stat().st_mtime_ns == 10**18


def test_any_name_that_fits_can_be_moved(tmp_path: Path, elsewhere: Path) -> None:
    name = "a" * 250
    file = ClaimedFile(tmp_path / name, tmp_path / f"{name}_proc")
    file.claimed.touch()
    assert move_file(file, elsewhere, Told()) == elsewhere / f"{name}_proc"


@pytest.mark.parametrize("stem", ["a", "ä"], ids=["letters", "of two bytes"])
def test_a_long_name_that_is_taken_leaves_room_for_the_time(
    tmp_path: Path, elsewhere: Path, stem: str
) -> None:
    name = stem * (240 // len(os.fsencode(stem))) + ".in"
    file = ClaimedFile(tmp_path / name, tmp_path / f"{name}_proc")
    elsewhere.mkdir()
    for directory in (tmp_path, elsewhere):
        (directory / f"{name}_proc").write_text(directory.name)
    path = move_file(file, elsewhere, Told())
    assert (path.read_text(), path.name[:90]) == (tmp_path.name, stem * 90)
    assert path.name.endswith("_proc")
    assert sorted(os.listdir(elsewhere)) == sorted([path.name, f"{name}_proc"])


def test_a_name_that_cannot_be_had_there_is_known_before_the_copy(
    tmp_path: Path, elsewhere: Path
) -> None:
    """Beside the time the suffix would be too long."""
    name = f"a.in{'_' * 250}"
    file = ClaimedFile(tmp_path / "a.in", tmp_path / name)
    elsewhere.mkdir()
    for directory in (tmp_path, elsewhere):
        (directory / name).touch()

    class Unasked(Told):
        def renaming(self, path: Path) -> None:
            self.steps.append("renaming")

    told = Unasked()
    with pytest.raises(LocalError, match="too long"):
        move_file(file, elsewhere, told)
    assert file.claimed.exists()
    assert "copying" not in told.steps


def test_what_does_not_fit_is_not_copied(
    claimed: ClaimedFile, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(moving, "free_bytes", lambda directory: 3)
    told = Told()
    with pytest.raises(LocalError, match=f"^{elsewhere}: No space left on device: 3 bytes are"):
        move_file(claimed, elsewhere, told)
    assert "copying" not in told.steps


def test_a_link_is_moved_as_a_link(claimed: ClaimedFile, elsewhere: Path) -> None:
    claimed.claimed.rename(claimed.original.with_name("content"))
    claimed.claimed.symlink_to("content")
    assert os.readlink(move_file(claimed, elsewhere, Told())) == "content"
    assert os.listdir(claimed.original.parent) == ["content"]


def test_a_copy_that_fails_leaves_the_file_and_nothing_else(
    claimed: ClaimedFile, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(source: Path, target: Path, **how: bool) -> None:
        target.write_text("a")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("shutil.copyfile", full)
    told = Told()
    with pytest.raises(LocalError, match="No space left"):
        move_file(claimed, elsewhere, told)
    assert told.steps[1:] == ["copying"]
    assert os.listdir(elsewhere) == []
    assert claimed.claimed.read_text() == "a.in"


def test_the_end_of_a_move_touches_no_other_file(
    claimed: ClaimedFile, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two tries a new file of the name may have come, and be in work."""

    def ill(source: Path, target: Path) -> None:
        raise OSError(errno.EXDEV if elsewhere not in source.parents else errno.EIO, "ill")

    told = Told()
    with monkeypatch.context() as once:
        real = moving._rename
        once.setattr(
            moving,
            "_rename",
            lambda source, target: (ill if elsewhere in source.parents else real)(source, target),
        )
        with pytest.raises(LocalError, match="ill"):
            move_file(claimed, elsewhere, told)
    assert told.steps[-2:] == ["removed", "renaming a.in_proc"]
    claimed.claimed.write_text("new")
    assert told.hidden
    path = finish_move(claimed, elsewhere, told.hidden, told, removed=True)
    assert (path.read_text(), claimed.claimed.read_text()) == ("a.in", "new")


# What the board knows of it


class Killed(BaseException):
    """Stands for SIGKILL."""


class Recorded:
    """What xpoll tells the board of a move with a FILE_ACTION to come; killed before a step."""

    def __init__(self, board: Blackboard, holder: int, claimed: Path, killed: str) -> None:
        self.board, self.holder, self.noted, self.killed = board, holder, claimed, killed

    def renaming(self, path: Path) -> None:
        self.board.note_action(self.holder, self.noted, path)
        self._die("rename")

    def copying(self, hidden: Path) -> None:
        self.board.note_copy(self.holder, self.noted, hidden)

    def copied(self, final: Path, hidden: Path) -> None:
        self._die("record")
        self.board.move_file(self.holder, self.noted, final, hidden, final)
        self.noted = hidden
        self._die("removal")

    def removed(self) -> None:
        self.killed = self.killed.removeprefix("last ")

    def _die(self, step: str) -> None:
        if step == self.killed:
            raise Killed


def killed_in_move(
    board: Blackboard, file: ClaimedFile, directory: Path, step: str,
    recorded: type[Recorded] = Recorded,
) -> int:  # fmt: skip
    """A process that is killed before this step of a move; returns its number."""
    holder = join(board)
    with board.hold_alive(holder):
        board.note_file(holder, file.original, file.claimed)
        with pytest.raises(Killed):
            move_file(file, directory, recorded(board, holder, file.claimed, step))
    return holder


@pytest.mark.parametrize(
    ("killed", "where"),
    [
        pytest.param("record", "in/a.in", id="copied, not recorded: it is returned"),
        pytest.param("removal", "elsewhere/a.in_proc", id="recorded: it arrives"),
        pytest.param("last rename", "elsewhere/a.in_proc", id="removed: it arrives"),
    ],
)
def test_killed_in_a_move_to_another_file_system(
    board: Blackboard, claimed: ClaimedFile, elsewhere: Path, killed: str, where: str
) -> None:
    """Of both names and the hidden one, one is left."""
    holder = killed_in_move(board, claimed, elsewhere, killed)
    board.reap()
    assert board.held(holder)[1] == []
    root = elsewhere.parent
    files = [one for place in ("in", "elsewhere") for one in (root / place).iterdir()]
    assert [str(one.relative_to(root)) for one in files] == [where]
    assert files[0].read_text() == "a.in"
    after = join(board)
    expected = [] if where.startswith("in") else [root / where]
    assert board.take_actions(after, "fetch") == expected


@pytest.mark.parametrize("same", [True, False], ids=["the link", "another link since"])
def test_killed_in_the_move_of_a_link(
    board: Blackboard, claimed: ClaimedFile, elsewhere: Path, same: bool
) -> None:
    claimed.claimed.unlink()
    claimed.claimed.symlink_to("content")
    killed_in_move(board, claimed, elsewhere, "removal")
    if not same:
        claimed.claimed.unlink()
        claimed.claimed.symlink_to("contents")
    board.reap()
    assert os.listdir(elsewhere) == ["a.in_proc"]
    assert os.path.lexists(claimed.claimed) is not same


def test_killed_in_the_copy(board: Blackboard, claimed: ClaimedFile, elsewhere: Path) -> None:
    """What was written of it does not stay."""

    class Dying(Recorded):
        def copying(self, hidden: Path) -> None:
            super().copying(hidden)
            hidden.write_text("a.")
            raise Killed

    killed_in_move(board, claimed, elsewhere, "", Dying)
    assert len(os.listdir(elsewhere)) == 1
    board.reap()
    assert os.listdir(elsewhere) == []
    assert claimed.original.read_text() == "a.in"


def test_a_new_file_with_the_name_of_the_old_one_stays(
    board: Blackboard, claimed: ClaimedFile, elsewhere: Path
) -> None:
    killed_in_move(board, claimed, elsewhere, "last rename")
    claimed.claimed.write_text("another")
    board.reap()
    assert claimed.claimed.read_text() == "another"
    assert (elsewhere / "a.in_proc").read_text() == "a.in"


def test_an_action_is_not_due_for_a_file_that_was_returned(
    board: Blackboard, claimed: ClaimedFile, elsewhere: Path
) -> None:
    """What stands where it would have gone is another one."""
    holder = killed_in_move(board, claimed, elsewhere, "record")
    (elsewhere / "a.in_proc").write_text("another")
    assert board.reap() == [
        f"file {claimed.original}: returned by process fetch ({holder}) on {board.host}, dead"
    ]
    assert board.take_actions(join(board), "fetch") == []
