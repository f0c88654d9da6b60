"""A blackboard or its lock file that is removed or replaced under processes at work (OPUS, "The
blackboard")."""

import os
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from boards import FETCHING, TYPE, WAITING, BoardSite, fill, join, letters, named_site
from client import PATIENCE
from newsroom import is_gone
from xpolls import ENTRIES, Pipeline

from mirror.errors import ConfigError
from parse_config import read_path_file
from server.blackboard import BOARD_FILE, Blackboard, Key, open_blackboard
from server.database import Unavailable
from server.opus import osf, reap
from server.opus.liveness import LOCK_FILE, Birth, Life, Witness
from server.site import SqliteFile
from server.store_lock import ConflictError

KEY = Key("fs0", TYPE)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BoardSite:
    """A path blue on the definitions path; its board is a file."""
    return named_site(tmp_path, SqliteFile(tmp_path), monkeypatch)


def copied(site: BoardSite) -> Path:
    """A copy of the board as it is now."""
    copy = site.directory / "copy.db"
    with (
        closing(sqlite3.connect(site.observations / BOARD_FILE)) as now,
        closing(sqlite3.connect(copy)) as then,
    ):
        now.backup(then)
    return copy


def bring_back(site: BoardSite, copy: Path) -> None:
    """As docs/processes.md says, but for the processes that should have been halted."""
    for log in ("-wal", "-shm"):
        (site.observations / f"{BOARD_FILE}{log}").unlink(missing_ok=True)
    os.replace(copy, site.observations / BOARD_FILE)


def copy_lock_file(site: BoardSite) -> None:
    """Put a copy in its place, as an archive of the directory does that is unpacked over it."""
    file = site.observations / LOCK_FILE
    os.replace(shutil.copy2(file, site.directory / "copied"), file)


def seen(site: BoardSite) -> list[tuple[int, str, str]]:
    """The processes, as somebody else sees them."""
    with site.board() as board:
        return [(one.holder, one.name, one.state) for one in board.processes()]


class TestTheBoard:
    def test_who_is_not_on_the_copy_joins_it(self, board: Blackboard, site: BoardSite) -> None:
        copy = copied(site)
        holder = join(board)
        board.report(holder, "suspended", None)
        bring_back(site, copy)
        assert board.wishes(holder) is None
        assert seen(site) == [(1, "fetch", "suspended")]
        with site.board() as other:
            other.wish(1, "halt")
        assert board.wishes(holder) == "halt"

    def test_who_is_on_the_copy_keeps_its_number_and_its_claim(
        self, board: Blackboard, site: BoardSite
    ) -> None:
        fill(board, 1)
        holder = join(board)
        board.claim(WAITING, FETCHING, 1, holder)
        copy = copied(site)
        board.create(Key("later", TYPE), {})
        bring_back(site, copy)
        board.settle(holder, KEY, {"FE": "c"})
        assert [letters(one) for one in board.entries()] == ["_c_"]
        assert seen(site) == [(holder, "fetch", "idle")]

    @pytest.mark.parametrize("there", [True, False])
    def test_what_was_in_work_is_written_nowhere(
        self, board: Blackboard, site: BoardSite, there: bool
    ) -> None:
        if there:
            fill(board, 1)
        copy = copied(site)
        if not there:
            fill(board, 1)
        holder = join(board)
        board.claim(WAITING, FETCHING, 1, holder)
        bring_back(site, copy)
        problem = "no claim on it any more" if there else "there is no such entry"
        with pytest.raises(ConflictError, match=problem):
            board.settle(holder, KEY, {"FE": "c"})
        with pytest.raises(ConflictError, match=problem):
            board.give_back(holder, KEY)
        assert [letters(one) for one in board.entries()] == ["_w_"] * there
        assert board.held(holder) == ([], [])
        assert len(board.claim(WAITING, FETCHING, 9, holder)) == there

    def test_the_log_of_the_lost_file_is_not_read_into_the_copy(
        self, board: Blackboard, site: BoardSite
    ) -> None:
        copy = copied(site)
        fill(board, 200)
        with site.board() as other:
            bring_back(site, copy)
            assert [list(one.entries()) for one in (board, other)] == [[], []]
            keys = fill(other, 3)
        assert [one.key for one in board.entries()] == keys
        board.close()
        with site.board() as last, closing(last._connected()) as database:
            assert database.rows("PRAGMA integrity_check") == [("ok",)]
            assert [one.key for one in last.entries()] == keys

    def test_without_a_board_it_waits_and_makes_none(
        self, board: Blackboard, site: BoardSite
    ) -> None:
        holder = join(board)
        file = site.observations / BOARD_FILE
        file.unlink()
        for _ in range(2):
            with pytest.raises(Unavailable, match=f"blackboard {file}: it is gone; bring back"):
                board.wishes(holder)
        assert not file.exists()
        # What another process has that joined the lost board is not given to a new one.
        with site.board() as other:
            assert join(other, "clean") == 2
            board.report(holder, "busy", "fs0")
            assert seen(site) == [(2, "clean", "idle"), (3, "fetch", "busy")]

    def test_files_are_claimed_under_the_new_number(
        self, board: Blackboard, site: BoardSite, tmp_path: Path
    ) -> None:
        copy = copied(site)
        holder = join(board)
        with site.board() as other:
            bring_back(site, copy)
            join(other, "clean")
        names = (tmp_path / "a.fits", tmp_path / "a.fits_proc")
        board.note_file(holder, *names)
        assert board.held(holder)[1] == [names]
        with site.board() as other:
            assert [one.name for one in other.processes()] == ["clean", "fetch"]
            assert other.held(other.processes()[1].holder)[1] == [names]
        board.forget_file(holder, names[1])
        assert board.held(holder)[1] == []

    def test_who_has_joined_sees_that_it_is_another_one(
        self, board: Blackboard, site: BoardSite
    ) -> None:
        copy = copied(site)
        board.processes()
        assert board.reconnected == 0
        bring_back(site, copy)
        board.processes()
        assert board.reconnected == 1

    def test_who_has_left_does_not_come_back(self, board: Blackboard, site: BoardSite) -> None:
        copy = copied(site)
        holder = join(board)
        with board.hold_alive(holder):
            board.leave(holder, "halted")
        bring_back(site, copy)
        with pytest.raises(ConfigError, match="there is none"):
            board.wishes(holder)
        assert seen(site) == []


def test_a_running_xpoll_goes_on_with_a_new_board(tmp_path: Path) -> None:
    pipeline = Pipeline(tmp_path)
    pipeline.resource("true", ENTRIES + "XPOLL_STATE.00 = OSF_DONE\n")
    with pipeline.running():
        pipeline.wait_for_state("idle")
        (tmp_path / "obs" / BOARD_FILE).unlink()
        pipeline.wait(lambda: "waiting for the board" in pipeline.log())
        pipeline.post("o1")
        pipeline.wait(lambda: pipeline.letters() == {"o1": "cw"})
        pipeline.wait_for_state("idle")
        # The lock file is the one that there was: it has the number 1 still.
        assert [one.holder for one in pipeline.processes()] in ([1], [2])


class TestTheLockFile:
    def test_the_dead_are_known_without_it(self, board: Blackboard, site: BoardSite) -> None:
        fill(board, 1)
        with site.running("hold", "1") as process:
            (site.observations / LOCK_FILE).unlink()
            assert [one[2] for one in seen(site)] == ["idle"]
            assert board.reap() == []
            process.kill()
            process.wait()
            assert [one[2] for one in seen(site)] == ["absent"]
            assert [line.partition(":")[0] for line in board.reap()] == ["entry fs0 fst 000"]
        assert letters(board.find(KEY)) == "_w_"

    def test_another_one_says_nothing_of_the_living(
        self, board: Blackboard, site: BoardSite
    ) -> None:
        fill(board, 1)
        with site.running("hold", "1"):
            (site.observations / LOCK_FILE).unlink()
            join(board, "clean")
            assert [one[2] for one in seen(site)] == ["idle", "idle"]
            assert board.reap() == []
            assert board.unreturned() == []

    def test_a_copy_of_it_says_nothing_of_the_living(
        self, board: Blackboard, site: BoardSite
    ) -> None:
        fill(board, 1)
        with site.running("hold", "1") as process:
            copy_lock_file(site)
            assert [one[2] for one in seen(site)] == ["idle"]
            assert board.reap() == []
            assert board.claim(WAITING, FETCHING, 1, join(board)) == []
            process.kill()
            process.wait()
            assert [line.partition(":")[0] for line in board.reap()] == ["entry fs0 fst 000"]

    def test_the_living_take_their_place_in_a_copy_of_it(
        self, board: Blackboard, site: BoardSite
    ) -> None:
        """So other hosts, which know no more than the file says, can judge."""
        fill(board, 1)
        with site.board() as other:
            holder, second = (join(other, host="elsewhere") for _ in range(2))
            other.claim(WAITING, FETCHING, 1, holder)

            def lives() -> list[Life]:
                with closing(Witness(site.observations)) as witness:
                    rows = [board._process(one) for one in (holder, second)]
                    return [witness.judge(row[0], row[11]) for row in rows]

            copy_lock_file(site)
            assert lives() == [Life.UNKNOWN] * 2
            other.wishes(holder)
            assert lives() == [Life.LIVES] * 2
            assert board.reap() == []
            other.settle(holder, KEY, {"FE": "c"})
            assert [one[0] for one in seen(site)] == [holder, second]
        assert lives() == [Life.DEAD] * 2

    def test_who_has_lost_its_lock_but_lives_is_not_dead(
        self, board: Blackboard, site: BoardSite
    ) -> None:
        """As after a server of files that has forgotten its locks."""
        fill(board, 1)
        holder = join(board, pid=os.getpid())
        board.claim(WAITING, FETCHING, 1, holder)
        with board.hold_alive(holder):
            pass
        assert board.reap() == []
        assert [one[2] for one in seen(site)] == ["idle"]

    @pytest.mark.parametrize(
        ("changed", "life"),
        [
            ({}, Life.LIVES),
            ({"started": "1"}, Life.DEAD),
            ({"boot": "another"}, Life.DEAD),
            ({"boot": "another", "machine": "another"}, Life.UNKNOWN),
            ({"host": "elsewhere"}, Life.UNKNOWN),
            ({"space": "pid:[1]"}, Life.UNKNOWN),
        ],
        ids=str,
    )
    def test_what_decides_without_it(
        self, board: Blackboard, site: BoardSite, changed: dict[str, str], life: Life
    ) -> None:
        holder = join(board, pid=os.getpid())
        token = board._process(holder)[11]
        word, *birth = token.split("|")
        (site.observations / LOCK_FILE).unlink()
        board.close()
        token = "|".join((word, *Birth(*birth)._replace(**changed)))
        with closing(Witness(site.observations)) as witness:
            assert witness.judge(holder, token) is life
            assert witness.judge(holder, word) is Life.UNKNOWN


class TestACopyOfTheDirectory:
    @pytest.fixture
    def copy(self, site: BoardSite, board: Blackboard) -> Iterator[Blackboard]:
        """Another path, whose directory is a copy made while a process has a.fits and fs0."""
        fill(board, 1)
        (site.directory / "a.fits").write_text("old")
        with site.running("hold", "1", str(site.directory / "a.fits")) as process:
            shutil.copytree(site.observations, site.directory / "obs2")
            path = site.directory / "copy.path"
            path.write_text((site.directory / "blue.path").read_text().replace("/obs", "/obs2"))
            with open_blackboard(read_path_file(path, {}), site.environ) as copy:
                assert copy.reap() == []
                assert letters(copy.find(KEY)) == "_p_"
                process.kill()
                process.wait()
                yield copy

    def test_it_leaves_the_files_alone(
        self, site: BoardSite, board: Blackboard, copy: Blackboard
    ) -> None:
        entry, file = copy.reap()
        assert entry.startswith("entry fs0 fst 000: returned by process hold")
        assert file.startswith(f"file {site.directory}/a.fits_proc: kept as process hold")
        assert f"it was claimed on a board in {site.observations}; reap that one" in file
        assert [line.split()[1] for line in board.reap()] == ["fs0", f"{site.directory}/a.fits:"]
        assert copy.reap() == []
        assert (site.directory / "a.fits").read_text() == "old"
        assert copy.held(copy.processes()[0].holder) == ([], [])

    def test_force_does_not_change_that(self, copy: Blackboard) -> None:
        holder = copy.processes()[0].holder
        for _ in range(2):
            assert ": kept as process hold" in copy.reap(holder)[-1]

    def test_a_directory_that_was_moved_is_no_copy(
        self, site: BoardSite, board: Blackboard, copy: Blackboard
    ) -> None:
        board.close()
        shutil.rmtree(site.directory / "obs2")
        site.observations.rename(site.directory / "obs2")
        assert [line.split()[1] for line in copy.reap()] == ["fs0", f"{site.directory}/a.fits:"]


def test_actions_of_the_board_that_was_copied_are_its_own(
    site: BoardSite, board: Blackboard
) -> None:
    file = site.directory / "a.fits_done"
    file.touch()
    process = subprocess.Popen(["sleep", str(PATIENCE)])
    holder = join(board, pid=process.pid)
    claimed = site.directory / "a.fits_proc"
    board.note_file(holder, site.directory / "a.fits", claimed)
    board.begin_action(holder, claimed, file)
    shutil.copytree(site.observations, site.directory / "obs2")
    process.kill()
    process.wait()
    with board.hold_alive(holder):
        pass
    path = site.directory / "copy.path"
    path.write_text((site.directory / "blue.path").read_text().replace("/obs", "/obs2"))
    with open_blackboard(read_path_file(path, {}), site.environ) as copy:
        assert copy.take_actions(join(copy), "fetch") == []
        assert copy.reap() == []
    assert board.take_actions(join(board), "fetch") == [file]


@contextmanager
def unjudgeable(board: Blackboard, site: BoardSite) -> Iterator[int]:
    """A process of another host that has claimed fs0, and whose lock file is not the one here."""
    fill(board, 1)
    with site.board() as other:
        holder = join(other, host="elsewhere")
        assert other.claim(WAITING, FETCHING, 1, holder)
        (site.observations / LOCK_FILE).unlink()
        yield holder


Reap = Callable[..., list[str]]


@pytest.fixture
def reaped(capsys: pytest.CaptureFixture[str]) -> Reap:
    """`reap` as a shell would call it; what it says."""

    def call(*words: str) -> list[str]:
        assert reap.main(["-p", "blue", *words]) == 0
        said = capsys.readouterr()
        assert said.err == ""
        return said.out.splitlines()

    return call


class TestForce:
    def test_what_cannot_be_judged_is_told_and_returned_on_demand(
        self, board: Blackboard, site: BoardSite, reaped: Reap
    ) -> None:
        with unjudgeable(board, site) as holder:
            (said,) = reaped()
            assert said.startswith(f"claims of process fetch ({holder}) on elsewhere cannot be")
            assert said.endswith(f"reap --force {holder} returns them")
            assert letters(board.find(KEY)) == "_p_"
            (said,) = reaped("--force", str(holder))
            assert said.startswith("entry fs0 fst 000: returned by process fetch")
            assert letters(board.find(KEY)) == "_w_"
            assert [one[2] for one in seen(site)] == ["absent"]
            assert reaped() == []

    def test_who_lives_after_all_joins_again(self, site: BoardSite, reaped: Reap) -> None:
        with site.board() as board, site.board() as other:
            fill(board, 1)
            holder = join(other, host="elsewhere")
            other.claim(WAITING, FETCHING, 1, holder)
            (site.observations / LOCK_FILE).unlink()
            reaped("--force", str(holder))
            with pytest.raises(ConflictError, match="no claim on it any more"):
                other.settle(holder, KEY, {"FE": "c"})
            assert len(other.claim(WAITING, FETCHING, 1, holder)) == 1
            assert board.reap() == []
            other.settle(holder, KEY, {"FE": "c"})
            assert letters(board.find(KEY)) == "_c_"

    def test_the_living_are_left_alone(self, board: Blackboard, site: BoardSite) -> None:
        fill(board, 1)
        with site.running("hold", "1") as process:
            (one,) = board.processes()
            with pytest.raises(ConflictError, match=f"pid {process.pid} on .* lives; halt it"):
                reap.main(["-p", "blue", "--force", str(one.holder)])
            assert board.reap() == []
        with pytest.raises(ConfigError, match="process 77: there is none"):
            reap.main(["-p", "blue", "--force", "77"])
        with pytest.raises(ConfigError, match="one -p"):
            reap.main(["-p", "blue", "-p", "blue", "--force", "1"])


class TestUpdate:
    def test_it_ends_the_claim_of_the_dead(self, board: Blackboard) -> None:
        fill(board, 1)
        holder = join(board)
        with board.hold_alive(holder):
            board.claim(WAITING, {"FE": "p", "LI": "p"}, 1, holder)
        board.update(KEY, {"FE": "w"})
        assert board.claimants(KEY, ["FE", "LI"]) == [
            f"LI: held by process fetch (1) on {board.host}"
        ]
        board.update(KEY, {"LI": "_"})
        assert len(board.claim(WAITING, FETCHING, 1, join(board))) == 1

    def test_it_ends_a_claim_that_nobody_can_judge(
        self, board: Blackboard, site: BoardSite
    ) -> None:
        with unjudgeable(board, site):
            board.update(KEY, {"FE": "w"})
            assert len(board.claim(WAITING, FETCHING, 1, join(board))) == 1

    def test_who_holds_it_is_told(
        self, board: Blackboard, capsys: pytest.CaptureFixture[str]
    ) -> None:
        fill(board, 1)
        holder = join(board)
        board.claim(WAITING, FETCHING, 1, holder)
        assert osf.main(["update", "-p", "blue", "-f", "fs0", "-t", TYPE, "-s", "FE=w"]) == 0
        assert capsys.readouterr().out.splitlines() == [
            "updated fs0 fst 000: LI=_ FE=w DN=_",
            f"FE: held by process fetch ({holder}) on {board.host}, which writes its own letter"
            " when it is done",
        ]
        assert board.claim(WAITING, FETCHING, 1, join(board)) == []


@pytest.mark.parametrize("lost", [False, True], ids=["", "without the lock file"])
def test_a_command_alone_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], lost: bool
) -> None:
    pipeline = Pipeline(tmp_path)
    script = (
        "trap '' TERM\necho $$ > $OUT/new; mv $OUT/new $OUT/begun\n"
        "until [ -e $OUT/go ]; do [ -d $OUT ] || exit; sleep 0.01; done"
    )
    pipeline.resource(script, ENTRIES + "XPOLL_STATE.00 = OSF_DONE\n")
    pipeline.post("o1")
    monkeypatch.setenv("OPUS_DEFINITIONS_DIR", str(tmp_path))
    first = pipeline.start()
    try:
        pipeline.wait((tmp_path / "begun").exists)
        first.kill()
        first.communicate(timeout=PATIENCE)
        if lost:
            (tmp_path / "obs" / LOCK_FILE).unlink()
        (one,) = pipeline.processes()
        assert (one.state, str(one.working_on).endswith(", its command alone")) == ("busy", True)
        assert reap.main(["-p", "night"]) == 0
        assert capsys.readouterr().out == (
            f"process proc ({one.holder}) on {one.host} is dead, its command still runs; its items"
            " are returned when that has ended\n"
        )
        with pytest.raises(ConflictError, match="is dead, its command runs; nothing was"):
            reap.main(["-p", "night", "--force", str(one.holder)])
        assert pipeline.letters() == {"o1": "p_"}
    finally:
        (tmp_path / "go").touch()
    pipeline.wait(lambda: is_gone(int((tmp_path / "begun").read_text())))
    assert reap.main(["-p", "night"]) == 0
    assert "entry o1 fst 000: returned by process proc" in capsys.readouterr().out


class TestWhileAnotherOneWrites:
    class Heard(Exception):
        """A signal was heard."""

    def test_signals_are_heard(
        self, board: Blackboard, site: BoardSite, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("server.database.BUSY", 5.0)

        def hear(number: int, frame: object) -> None:
            raise self.Heard

        before = signal.signal(signal.SIGALRM, hear)
        try:
            with site.board() as other, other._write():
                signal.setitimer(signal.ITIMER_REAL, 0.05)
                with pytest.raises(self.Heard):
                    board.create(KEY, {})
        finally:
            signal.signal(signal.SIGALRM, before)

    def test_who_is_to_end_does_not_wait_for_long(
        self, site: BoardSite, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("server.database.GRACE", 0.0)
        monkeypatch.setattr("server.database.BUSY", PATIENCE)
        asked: list[float] = []

        def ended() -> bool:
            asked.append(time.monotonic())
            return len(asked) > 2

        with (
            open_blackboard(site.paths, site.environ, ended=ended) as board,
            site.board() as other,
            other._write(),
            pytest.raises(Unavailable, match="another process has been writing"),
        ):
            board.create(KEY, {})
        assert len(asked) <= 4

    def test_others_are_waited_for(self, site: BoardSite) -> None:
        with site.board() as other:
            with other._write():
                process = site.start("claim", "1")
            assert process.communicate("\n", timeout=PATIENCE)[0] == "ready\n"


def test_a_sick_board_is_called_a_blackboard(site: BoardSite) -> None:
    site.observations.mkdir()
    file = site.observations / BOARD_FILE
    file.write_text("garbage " * 200)
    with pytest.raises(Unavailable, match=f"^blackboard {file}: .*bring back a copy"), site.board():
        pass
