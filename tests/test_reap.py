"""What the dead have claimed is returned, once, and nobody else's (OPUS, "The blackboard")."""

import os
from pathlib import Path

import pytest
from boards import FETCHING, WAITING, BoardSite, fill, join, letters

from mirror.errors import LocalError
from server.blackboard import Blackboard, Key
from server.opus import reap, reclaim
from server.opus.liveness import LOCK_FILE
from server.opus.reclaim import put_back


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file that is to be claimed."""
    name = tmp_path / "raw.fits"
    name.write_text("old")
    return name


def claimed_name(file: Path) -> Path:
    return file.with_name(f"{file.name}_proc")


def dead(board: Blackboard, host: str | None = None, entries: int = 0) -> int:
    """A process that has claimed and died."""
    holder = join(board, host=host)
    with board.hold_alive(holder):
        board.claim(WAITING, FETCHING, entries, holder)
    return holder


def claim_file(board: Blackboard, holder: int, file: Path) -> Path:
    claimed = claimed_name(file)
    board.note_file(holder, file, claimed)
    os.rename(file, claimed)
    return claimed


class TestEntries:
    def test_a_killed_process_gives_back_what_it_held(
        self, board: Blackboard, site: BoardSite, file: Path
    ) -> None:
        fill(board, 3)
        with site.running("hold", "2", str(file)) as process:
            assert not file.exists()
            assert board.reap() == []
            process.kill()
            process.wait()
        said = board.reap()
        assert [line.split(":")[0] for line in said] == [
            "entry fs0 fst 000", "entry fs1 fst 000", f"file {file}",
        ]  # fmt: skip
        (holder,) = [one.holder for one in board.processes()]
        assert f"returned by process hold ({holder}) on {board.host}, dead: FE=w" in said[0]
        assert [letters(entry) for entry in board.entries()] == ["_w_"] * 3
        assert file.read_text() == "old"
        assert board.reap() == []
        assert [one.state for one in board.processes()] == ["absent"]
        returned = [one for one in board.history() if one.what == "returned"]
        assert [(one.process, one.before, one.after) for one in returned] == [
            ("reap", "p", "w")
        ] * 2

    def test_what_the_living_hold_is_theirs(self, board: Blackboard, site: BoardSite) -> None:
        fill(board, 2)
        with site.running("hold", "1"):
            dead(board, entries=1)
            assert len(board.reap()) == 1
            assert [letters(entry) for entry in board.entries()] == ["_p_", "_w_"]

    def test_what_was_changed_since_stays(self, board: Blackboard) -> None:
        (key,) = fill(board, 1)
        holder = join(board)
        with board.hold_alive(holder):
            board.claim(WAITING, FETCHING, 1, holder)
            board.update(key, {"FE": "x"})
        assert board.reap()[0].endswith("dead: unchanged")
        assert letters(board.find(key)) == "_x_"

    def test_what_was_deleted_since_is_gone(self, board: Blackboard) -> None:
        (key,) = fill(board, 1)
        dead(board, entries=1)
        board.delete(key)
        assert board.reap() == []
        assert board.find(key) is None

    def test_many_reapers_return_each_item_once(self, board: Blackboard, site: BoardSite) -> None:
        fill(board, 60)
        for _ in range(3):
            dead(board, entries=20)
        lines = "".join(site.at_once("reap", *[[]] * 4)).splitlines()
        assert sorted(line.split()[1] for line in lines) == sorted(f"fs{n}" for n in range(60))
        assert {letters(entry) for entry in board.entries()} == {"_w_"}

    def test_who_lives_on_an_unshared_directory_is_left_alone(
        self, board: Blackboard, site: BoardSite
    ) -> None:
        (key,) = fill(board, 1)
        dead(board, "elsewhere", entries=1)
        # What a host sees that does not share the directory, or after somebody removed the file.
        (site.observations / LOCK_FILE).unlink()
        (site.observations / LOCK_FILE).write_text("0" * 32)
        assert board.processes()[0].state == "idle"
        assert board.reap() == []
        assert letters(board.find(key)) == "_p_"

    def test_without_a_lock_file_nobody_is_known_to_be_dead(
        self, board: Blackboard, site: BoardSite
    ) -> None:
        dead(board)
        (site.observations / LOCK_FILE).unlink()
        assert board.processes()[0].state == "idle"


class TestFiles:
    def test_killed_before_the_rename(self, board: Blackboard, file: Path) -> None:
        holder = dead(board)
        board.note_file(holder, file, claimed_name(file))
        assert board.reap() == []
        assert file.read_text() == "old"
        assert board.held(holder) == ([], [])

    def test_killed_after_the_outcome(self, board: Blackboard, file: Path) -> None:
        holder = dead(board)
        claim_file(board, holder, file).rename(file.with_suffix(".done"))
        assert board.reap() == []
        assert not file.exists()
        assert board.held(holder) == ([], [])

    def test_killed_while_it_was_put_back(self, board: Blackboard, file: Path) -> None:
        holder = dead(board)
        os.link(claim_file(board, holder, file), file)
        assert len(board.reap()) == 1
        assert sorted(os.listdir(file.parent)).count("raw.fits_proc") == 0
        assert file.read_text() == "old"

    def test_a_new_file_of_the_name_is_not_overwritten(self, board: Blackboard, file: Path) -> None:
        """Nor do the two wait for each other: the old one gets the time into its name."""
        holder = dead(board)
        claimed = claim_file(board, holder, file)
        file.write_text("new")
        (said,) = board.reap()
        (old,) = file.parent.glob("raw.fits.2*")
        assert said == f"file {old}: returned by process fetch ({holder}) on {board.host}, dead"
        assert (file.read_text(), old.read_text()) == ("new", "old")
        assert not claimed.exists()
        assert board.file_rows(holder) == []

    def test_a_directory_that_is_away_for_a_moment(self, board: Blackboard, file: Path) -> None:
        holder = dead(board)
        directory = file.parent / "in"
        directory.mkdir()
        file = file.rename(directory / file.name)
        claimed = claim_file(board, holder, file)
        away = directory.rename(directory.with_name("away"))
        (said,) = board.reap()
        assert said.startswith(f"file {claimed}: kept as process fetch ({holder})")
        assert said.endswith(f"{directory}: its directory is not there")
        away.rename(directory)
        assert len(board.reap()) == 1
        assert file.read_text() == "old"

    def test_what_a_living_process_has_under_the_same_name_is_its_own(
        self, board: Blackboard, file: Path
    ) -> None:
        loser = dead(board)
        board.note_file(loser, file, claimed_name(file))
        winner = join(board)
        with board.hold_alive(winner):
            claim_file(board, winner, file)
            assert board.reap() == []
            assert not file.exists()
        assert len(board.reap()) == 1
        assert file.read_text() == "old"
        assert [board.held(one)[1] for one in (loser, winner)] == [[], []]

    def test_on_another_host_a_directory_may_be_missing(
        self, board: Blackboard, file: Path
    ) -> None:
        holder = dead(board, "elsewhere")
        claimed = claim_file(board, holder, file)
        away = file.with_name("away")
        claimed.rename(away)
        assert board.reap() == []
        away.rename(claimed)
        assert len(board.reap()) == 1
        assert file.exists()

    def test_one_that_cannot_be_returned_keeps_no_other(
        self, board: Blackboard, file: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        holder = dead(board)
        first, second = file.with_name("a.fits"), file
        first.write_text("first")
        for one in (first, second):
            claim_file(board, holder, one)

        def fail(original: Path, claimed: Path) -> bool:
            if original == first:
                raise LocalError("read-only")
            return put_back(original, claimed)

        monkeypatch.setattr(reclaim, "put_back", fail)
        said = board.reap()
        assert said[0].endswith("read-only")
        assert said[1].startswith(f"file {second}: returned")
        monkeypatch.undo()
        assert len(board.reap()) == 1

    def test_a_directory_gets_its_name_back(self, tmp_path: Path) -> None:
        name = tmp_path / "night"
        claimed = claimed_name(name)
        claimed.mkdir()
        assert put_back(name, claimed)
        assert os.listdir(tmp_path) == ["night"]
        claimed.mkdir()
        with pytest.raises(FileExistsError):
            put_back(name, claimed)

    def test_a_missing_directory_is_told(self, tmp_path: Path) -> None:
        claimed = tmp_path / "raw_proc"
        claimed.touch()
        with pytest.raises(LocalError, match="No such file"):
            put_back(tmp_path / "gone" / "raw", claimed)


def test_the_command_tells_what_was_returned(
    board: Blackboard,
    site: BoardSite,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fill(board, 1)
    dead(board, entries=1)
    for name, value in site.environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("OPUS_DEFINITIONS_DIR", str(site.directory))
    assert reap.main(["-p", "blue"]) == 0
    assert capsys.readouterr().out.startswith("entry fs0 fst 000: returned by process fetch (")
    assert reap.main(["-p", "blue"]) == 0
    assert capsys.readouterr() == ("", "")
    assert letters(board.find(Key("fs0", "fst"))) == "_w_"
