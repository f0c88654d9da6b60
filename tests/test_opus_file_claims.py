"""What the board knows of files: whose FILE_ACTION is due to whom, and names of any length (OPUS,
"After the command")."""

import random
from pathlib import Path

import pytest
from boards import BoardSite, board_site, join
from places import NewDatabase

from server.blackboard import Blackboard
from server.opus import board_schema
from server.site import Place, PostgresServer

# FILE_ACTION


def dead_over_an_action(board: Blackboard, file: Path, name: str = "fetch") -> int:
    """A process that has died when its file was settled and FILE_ACTION ran."""
    holder = join(board, name)
    with board.hold_alive(holder):
        claimed = file.with_name(f"{file.name}_proc")
        board.note_file(holder, file, claimed)
        done = file.with_name(f"{file.name}_ok")
        board.note_action(holder, claimed, done)
        file.rename(done)
        board.begin_action(holder, claimed, done)
    return holder


@pytest.fixture
def file(tmp_path: Path) -> Path:
    name = tmp_path / "raw.fits"
    name.write_text("raw")
    return name


def test_an_action_is_due_again_for_the_next_of_the_name_alone(
    board: Blackboard, file: Path
) -> None:
    dead_over_an_action(board, file)
    assert board.reap() == []
    assert board.take_actions(join(board, "other"), "other") == []
    after = join(board)
    done = file.with_name("raw.fits_ok")
    assert board.take_actions(after, "fetch") == [done]
    assert board.take_actions(join(board), "fetch") == [], "one has it"
    assert board.held(after) == ([], []), "it is no claim that could be returned"
    board.forget_file(after, done)
    assert board.file_rows(after) == []


def test_who_lives_keeps_its_action(board: Blackboard, file: Path) -> None:
    holder = join(board)
    with board.hold_alive(holder):
        board.note_file(holder, file, file)
        board.begin_action(holder, file, file)
        assert board.take_actions(join(board), "fetch") == []


def test_an_action_whose_file_is_gone_is_over(board: Blackboard, file: Path) -> None:
    """As after `rm ^f`."""
    holder = dead_over_an_action(board, file)
    file.with_name("raw.fits_ok").unlink()
    assert board.take_actions(join(board), "fetch") == []
    assert board.file_rows(holder) == []


def test_an_action_waits_for_a_directory_that_is_away(board: Blackboard, tmp_path: Path) -> None:
    directory = tmp_path / "in"
    directory.mkdir()
    (directory / "raw.fits").touch()
    dead_over_an_action(board, directory / "raw.fits")
    away = directory.rename(tmp_path / "away")
    after = join(board)
    assert board.take_actions(after, "fetch") == []
    away.rename(directory)
    assert board.take_actions(after, "fetch") == [directory / "raw.fits_ok"]


@pytest.mark.parametrize("renamed", [False, True], ids=["not renamed", "renamed"])
def test_killed_between_the_rename_and_the_action(
    board: Blackboard, file: Path, renamed: bool
) -> None:
    holder = join(board)
    claimed, done = file.with_name("raw.fits_proc"), file.with_name("raw.fits_ok")
    with board.hold_alive(holder):
        board.note_file(holder, file, claimed)
        file.rename(claimed)
        board.note_action(holder, claimed, done)
        if renamed:
            claimed.rename(done)
    (said,) = board.reap()
    assert ("FILE_ACTION is due" in said) is renamed
    assert file.exists() is not renamed
    assert board.take_actions(join(board), "fetch") == ([done] if renamed else [])
    assert board.reap() == []


# The table


def test_a_path_may_be_as_long_as_the_system_takes(board: Blackboard) -> None:
    # What repeats itself takes less room in an index.
    words = random.Random(1)
    name = Path("/" + "/".join(words.randbytes(120).hex() for _ in range(15)))
    holder = join(board)
    with board.hold_alive(holder):
        board.note_file(holder, name, Path(f"{name}_proc"))
        assert board.held(holder)[1] == [(name, Path(f"{name}_proc"))]
        board.forget_file(holder, Path(f"{name}_proc"))
        assert board.held(holder)[1] == []


def test_claims_of_an_earlier_version_are_returned(
    site: BoardSite,
    board_place: Place,
    file: Path,
    monkeypatch: pytest.MonkeyPatch,
    postgres: NewDatabase,
) -> None:
    if isinstance(board_place, PostgresServer):
        site = board_site(site.directory, postgres())
    with monkeypatch.context() as before:
        before.setattr(board_schema, "STEPS", board_schema.STEPS[:1])
        before.setattr(board_schema, "VERSION", 1)
        with site.board() as board:
            holder = join(board)
            claimed = file.rename(file.with_name("raw.fits_proc"))
            with board._write() as database:
                database.change(
                    "INSERT INTO opusFile (holder_id, claimed, original) VALUES (?, ?, ?)",
                    holder, str(claimed), str(file),
                )  # fmt: skip
    with site.board() as board:
        assert len(board.reap()) == 1
        assert board.file_rows(holder) == []
    assert file.read_text() == "raw"
