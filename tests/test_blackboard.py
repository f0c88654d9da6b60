"""The blackboard in both databases: entries, claims, history, and the processes on it (OPUS, "The
blackboard")."""

import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from boards import FETCHING, STAGES, TYPE, WAITING, BoardSite, board_site, fill, join, letters
from client import PATIENCE
from places import NewDatabase

from formats.triggers import OsfMatch
from mirror.errors import ConfigError, LocalError
from server.blackboard import BOARD_FILE, Blackboard, Filter, Key, open_blackboard
from server.database import Unavailable, connect
from server.opus import matching
from server.opus.board_records import fits, merged, packed, pattern_of, unpacked
from server.opus.board_schema import migrate
from server.opus.liveness import LOCK_FILE
from server.site import Place, PostgresServer, SqliteFile
from server.store_lock import ConflictError

PROCESSES = 12
ENTRIES = 600
KILLS = 12
SEED = 19980417
KEY = Key("fs0", TYPE)


@pytest.fixture
def file_site(tmp_path: Path) -> BoardSite:
    """A path whose board is a file."""
    return board_site(tmp_path, SqliteFile(tmp_path))


def match(data_id: str | None = None, dcf: str | None = None, **columns: str) -> OsfMatch:
    return OsfMatch(1, columns, data_id, dcf, 1)


class TestEntries:
    def test_an_entry_has_every_stage(self, board: Blackboard) -> None:
        made = board.create(KEY, {"FE": "w"})
        assert made.states == {"LI": "_", "FE": "w", "DN": "_"}
        assert list(made.states) == ["LI", "FE", "DN"]
        assert board.find(KEY) == made
        assert made.start.endswith("Z")
        assert made.key.dcf == "000"

    def test_there_is_one_of_each_key(self, board: Blackboard) -> None:
        board.create(KEY, {})
        board.create(Key("fs0", TYPE, "001"), {})
        board.create(Key("fs0", "other"), {})
        with pytest.raises(ConflictError, match="fs0 fst 000: the entry is there already"):
            board.create(KEY, {"FE": "c"})
        assert [letters(entry) for entry in board.entries()] == ["___"] * 3

    def test_letters_are_kept_as_given(self, board: Blackboard) -> None:
        board.create(KEY, {"FE": "W"})
        assert letters(board.update(KEY, {"LI": "c"})) == "cW_"
        assert letters(board.update(KEY, {"FE": "_"})) == "c__"
        assert letters(board.find(KEY)) == "c__"

    @pytest.mark.parametrize("act", ["update", "delete"])
    def test_what_is_not_there_is_not_changed(self, board: Blackboard, act: str) -> None:
        with pytest.raises(ConflictError, match="fs0 fst 000: there is no such entry"):
            board.update(KEY, {"FE": "c"}) if act == "update" else board.delete(KEY)
        assert board.find(KEY) is None
        assert board.history() == []

    @pytest.mark.parametrize(
        ("key", "problem"),
        [
            (("", TYPE), "dataset: a name without blanks"),
            (("a b", TYPE), "dataset: a name without blanks"),
            (("a\n", TYPE), "dataset: a name without blanks"),
            (("a\x00", TYPE), "dataset: a name without blanks"),
            (("a\udcff", TYPE), "dataset: a name without blanks"),
            (("a\u2003b", TYPE), "dataset: a name without blanks"),
            (("a" * 256, TYPE), "dataset: at most 255 characters"),
            (("a", "t t"), "data_id: a name without blanks"),
            (("a", "t" * 65), "data_id: at most 64 characters"),
            (("a", TYPE, ""), "dcf: a name without blanks"),
        ],
        ids=lambda value: repr(value)[:20],
    )
    def test_names_are_checked(self, board: Blackboard, key: tuple[str, ...], problem: str) -> None:
        with pytest.raises(ConfigError, match=problem):
            board.create(Key(*key), {})
        assert list(board.entries()) == []

    def test_names_of_other_scripts_are_names(self, board: Blackboard) -> None:
        key = Key("Überflug*[1]%?_'\"", "ä")
        board.create(key, {"FE": "w"})
        holder = join(board)
        assert [e.key for e in board.claim(match("ä", FE="w"), FETCHING, 1, holder)] == [key]

    @pytest.mark.parametrize(
        ("states", "problem"),
        [
            ({"XX": "c"}, "XX: a stage of .*blue.stage expected; it has LI, FE, DN"),
            ({"fe": "c"}, "fe: a stage of"),
            ({"FE": "z"}, "FE=z: a letter of .*blue.stage expected, one of W, P, C, X, _"),
            ({"FE": "cc"}, "FE=cc: a letter of"),
            ({"FE": ""}, "FE=: a letter of"),
            ({"DN": "w"}, "DN=w: a letter of .* one of C, _"),
        ],
        ids=str,
    )
    def test_states_are_those_of_the_stage_file(
        self, board: Blackboard, states: dict[str, str], problem: str
    ) -> None:
        board.create(KEY, {"FE": "w"})
        holder = join(board)
        (entry,) = board.claim(WAITING, FETCHING, 1, holder)
        attempts: list[Callable[[], object]] = [
            lambda: board.create(Key("new", TYPE), states),
            lambda: board.update(KEY, states),
            lambda: board.settle(holder, entry.key, states),
            lambda: board.claim(WAITING, states, 1, holder),
        ]
        for attempt in attempts:
            with pytest.raises(ConfigError, match=problem):
                attempt()
        assert letters(board.find(KEY)) == "_p_"

    def test_all_wrong_states_are_told(self, board: Blackboard) -> None:
        with pytest.raises(ConfigError) as told:
            board.create(KEY, {"LI": "q", "DN": "q"})
        assert len(told.value.problems) == 2

    @pytest.mark.parametrize(
        ("wanted", "found"),
        [
            (Filter(), "abcd"),
            (Filter("fs*"), "abc"),
            (Filter("fs[12]"), "bc"),
            (Filter("fs1"), "b"),
            (Filter(data_id="raw"), "d"),
            (Filter(dcf="001"), "c"),
            (Filter(states={"FE": "C"}), "bc"),
            (Filter(states={"FE": "c", "LI": "_"}), "c"),
            (Filter("FS*"), ""),
        ],
        ids=str,
    )
    def test_filters(self, board: Blackboard, wanted: Filter, found: str) -> None:
        board.create(Key("fs0", TYPE), {"FE": "w"})
        board.create(Key("fs1", TYPE), {"FE": "c", "LI": "c"})
        board.create(Key("fs2", TYPE, "001"), {"FE": "C"})
        board.create(Key("other", "raw"), {"LI": "x"})
        names = {"fs0": "a", "fs1": "b", "fs2": "c", "other": "d"}
        assert "".join(names[entry.key.dataset] for entry in board.entries(wanted)) == found

    def test_many_entries_come_in_order(
        self, board: Blackboard, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("server.blackboard.PAGE", 7)
        keys = fill(board, 30)
        assert [entry.key for entry in board.entries()] == keys

    def test_stages_may_come_and_go(self, site: BoardSite) -> None:
        with site.board() as board:
            board.create(KEY, {"LI": "c", "FE": "w"})
        more = STAGES.replace("= 3", "= 2").replace("STAGE01.TITLE = LI", "STAGE01.TITLE = ZZ")
        lines = [line for line in more.splitlines() if not line.startswith("STAGE03")]
        (site.directory / "blue.stage").write_text("\n".join(lines))
        with site.board() as board:
            assert letters(board.find(KEY)) == "_w"
            assert letters(board.update(KEY, {"ZZ": "c"})) == "cw"
        (site.directory / "blue.stage").write_text(STAGES)
        with site.board() as board:
            assert letters(board.find(KEY)) == "cw_"


class TestClaims:
    def test_the_oldest_are_claimed_first(self, board: Blackboard) -> None:
        keys = fill(board, 5)
        board.update(keys[0], {"LI": "c"})
        holder = join(board)
        claimed = board.claim(WAITING, FETCHING, 3, holder)
        assert [entry.key for entry in claimed] == keys[:3]
        assert [letters(entry) for entry in claimed] == ["cp_", "_p_", "_p_"]
        assert [entry.key for entry in board.claim(WAITING, FETCHING, 9, holder)] == keys[3:]
        assert board.claim(WAITING, FETCHING, 9, holder) == []

    def test_keys_may_be_left_out(self, board: Blackboard) -> None:
        keys = fill(board, 4)
        claimed = board.claim(WAITING, FETCHING, 2, join(board), skip=keys[:2])
        assert [entry.key for entry in claimed] == keys[2:]

    @pytest.mark.parametrize(
        ("wanted", "found"),
        [
            (match(FE="W"), "abd"),
            (match(FE="w", LI="C"), "b"),
            (match(FE="w", LI="_"), "ad"),
            (match(LI="c"), "bc"),
            (match("fst", FE="w"), "ab"),
            (match("fs", FE="w"), ""),
            (match("fst2", FE="w"), "d"),
            (match(None, "001", FE="w"), "b"),
            (match("fst", "001", FE="w"), "b"),
            (match("fst2", "001", FE="w"), ""),
            (match(FE="x"), ""),
        ],
        ids=str,
    )
    def test_all_named_columns_must_match(
        self, board: Blackboard, wanted: OsfMatch, found: str
    ) -> None:
        board.create(Key("a", TYPE), {"FE": "w"})
        board.create(Key("b", TYPE, "001"), {"FE": "W", "LI": "c"})
        board.create(Key("c", TYPE), {"FE": "c", "LI": "c"})
        board.create(Key("d", "fst2"), {"FE": "w"})
        claimed = board.claim(wanted, {"DN": "c"}, 9, join(board))
        assert "".join(entry.key.dataset for entry in claimed) == found

    def test_a_trigger_of_no_stage_here_is_told(self, board: Blackboard) -> None:
        with pytest.raises(ConfigError, match="XX: a stage of"):
            board.claim(match(XX="w"), FETCHING, 1, join(board))

    def test_a_claim_sets_something(self, board: Blackboard) -> None:
        with pytest.raises(ConfigError, match=r"OSF_PROCESSING\.XX is missing"):
            board.claim(WAITING, {}, 1, join(board))

    def test_many_keys_may_be_left_out(
        self, board: Blackboard, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(matching, "_PAGE", 3)
        keys = fill(board, 20)
        skip = {*keys[:11], *keys[12:17]}
        claimed = board.claim(WAITING, FETCHING, 2, join(board), skip=skip)
        assert [entry.key for entry in claimed] == [keys[11], keys[17]]

    def test_numbers_may_be_left_out(self, board: Blackboard) -> None:
        """To pass over many entries costs no look at each of them, every time."""
        keys = fill(board, 4, {"FE": "w"})
        board.update(keys[2], {"LI": "c"})
        holder, after, found = join(board), 0, []
        while claimed := board.claim(WAITING, FETCHING, 1, holder, after=after):
            found.append(claimed[0].key)
            board.give_back(holder, claimed[0].key)
            assert claimed[0].number > after
            after = claimed[0].number
        assert found == keys

    def test_only_a_process_claims(self, board: Blackboard) -> None:
        with pytest.raises(ConfigError, match="process 77: there is none"):
            board.claim(WAITING, FETCHING, 1, 77)

    def test_settled(self, board: Blackboard) -> None:
        fill(board, 1)
        holder = join(board)
        board.claim(WAITING, FETCHING, 1, holder)
        assert [letters(entry) for entry in board.held(holder)[0]] == ["_p_"]
        board.settle(holder, KEY, {"FE": "c", "DN": "c"})
        assert letters(board.find(KEY)) == "_cc"
        assert board.held(holder) == ([], [])
        with pytest.raises(ConflictError, match="no claim on it any more"):
            board.settle(holder, KEY, {})
        with pytest.raises(ConflictError, match="no claim on it any more"):
            board.give_back(holder, KEY)

    def test_given_back(self, board: Blackboard) -> None:
        board.create(KEY, {"FE": "W"})
        holder = join(board)
        board.claim(WAITING, {"FE": "p", "LI": "p"}, 1, holder)
        assert letters(board.find(KEY)) == "pp_"
        board.give_back(holder, KEY)
        assert letters(board.find(KEY)) == "_W_"
        assert [entry.key for entry in board.claim(WAITING, FETCHING, 1, holder)] == [KEY]

    def test_what_somebody_changed_since_stays(self, board: Blackboard) -> None:
        fill(board, 1)
        holder = join(board)
        board.claim(WAITING, {"FE": "p", "LI": "p"}, 1, holder)
        board.update(KEY, {"FE": "x"})
        board.give_back(holder, KEY)
        assert letters(board.find(KEY)) == "_x_"

    def test_the_claim_of_a_deleted_entry_ends(self, board: Blackboard) -> None:
        fill(board, 1)
        holder = join(board)
        board.claim(WAITING, FETCHING, 1, holder)
        board.delete(KEY)
        with pytest.raises(ConflictError, match="there is no such entry"):
            board.settle(holder, KEY, {"FE": "c"})
        board.create(KEY, {"FE": "w"})
        with pytest.raises(ConflictError, match="no claim on it any more"):
            board.settle(holder, KEY, {"FE": "c"})
        assert letters(board.find(KEY)) == "_w_"

    def test_two_processes_may_have_two_stages_of_an_entry(self, board: Blackboard) -> None:
        board.create(KEY, {"LI": "w", "FE": "w"})
        first, second = join(board, "list"), join(board, "fetch")
        assert board.claim(match(LI="w"), {"LI": "p"}, 1, first)
        assert board.claim(match(FE="w"), {"FE": "p"}, 1, second)
        board.settle(first, KEY, {"LI": "c"})
        assert letters(board.find(KEY)) == "cp_"
        board.give_back(second, KEY)
        assert letters(board.find(KEY)) == "cw_"

    def test_a_claimed_entry_is_not_claimed_again_even_if_it_matches(
        self, board: Blackboard
    ) -> None:
        fill(board, 1)
        first, second = join(board), join(board)
        assert board.claim(WAITING, {"LI": "p"}, 1, first)
        assert board.claim(WAITING, {"LI": "p"}, 1, second) == []
        assert board.claim(WAITING, {"LI": "p"}, 1, first) == []

    def test_nothing_due_changes_nothing(self, site: BoardSite) -> None:
        with site.board() as board, site.board() as other:
            fill(board, 3, {"FE": "c"})
            holder = join(board)
            with other._write():
                assert board.claim(WAITING, FETCHING, 1, holder) == []

    def test_every_entry_is_claimed_exactly_once(self, site: BoardSite) -> None:
        with site.board() as board:
            keys = fill(board, ENTRIES)
        said = site.at_once("claim", *([str(number % 3 + 1)] for number in range(PROCESSES)))
        claimed = Counter(name for names in said for name in names.split())
        assert claimed == Counter(key.dataset for key in keys)
        with site.board() as board:
            assert {letters(entry) for entry in board.entries()} == {"_c_"}
            changes = Counter(one.what for one in board.history(limit=9 * ENTRIES))
            assert changes == {"created": ENTRIES, "claimed": ENTRIES, "updated": ENTRIES}

    def test_killed_in_the_middle_of_claims(self, site: BoardSite) -> None:
        """After SIGKILL at any instant a reap leaves every entry waiting, or fetched once."""
        random_ = random.Random(SEED)
        with site.board() as board:
            fill(board, 150)
            for _ in range(KILLS):
                with site.running("work") as process:
                    assert process.stdin
                    process.stdin.write("\n")
                    process.stdin.flush()
                    time.sleep(random_.uniform(0, 0.03))
                    os.kill(process.pid, signal.SIGKILL)
                    process.wait()
                board.reap()
                assert {letters(entry) for entry in board.entries()} <= {"_w_", "_c_"}
            done = Counter(
                change.key for change in board.history(limit=99999) if change.what == "updated"
            )
            fetched = {entry.key for entry in board.entries(Filter(states={"FE": "c"}))}
            assert done == Counter(fetched)
            assert _replayed(board) == {entry.key: letters(entry) for entry in board.entries()}


def _replayed(board: Blackboard) -> dict[Key, str]:
    """The letters of every entry, told by the history alone."""
    states: dict[Key, dict[str, str]] = {}
    for change in board.history(limit=99999):
        if change.what == "deleted":
            del states[change.key]
            continue
        entry = states.setdefault(change.key, dict.fromkeys(("LI", "FE", "DN"), "_"))
        if change.stage and change.after:
            assert entry[change.stage] == change.before
            entry[change.stage] = change.after
    return {key: "".join(entry.values()) for key, entry in states.items()}


class TestHistory:
    def test_every_change_is_there(self, board: Blackboard) -> None:
        board.create(KEY, {"FE": "w", "LI": "c"}, "disttool")
        holder = join(board, "fetch")
        board.claim(WAITING, FETCHING, 1, holder)
        board.give_back(holder, KEY)
        board.claim(WAITING, FETCHING, 1, holder)
        board.settle(holder, KEY, {"FE": "c"})
        board.update(KEY, {"DN": "c"}, "operator")
        board.delete(KEY)
        seen = [
            (one.what, one.process, one.stage, one.before, one.after) for one in board.history(KEY)
        ]
        assert seen == [
            ("created", "disttool", "FE", "_", "w"),
            ("created", "disttool", "LI", "_", "c"),
            ("claimed", "fetch", "FE", "w", "p"),
            ("returned", "fetch", "FE", "p", "w"),
            ("claimed", "fetch", "FE", "w", "p"),
            ("updated", "fetch", "FE", "p", "c"),
            ("updated", "operator", "DN", "_", "c"),
            ("deleted", "osf", None, None, None),
        ]
        assert {one.host for one in board.history(KEY)} == {board.host}
        assert all(one.at.endswith("Z") for one in board.history(KEY))

    def test_the_last_changes_of_one_or_all(self, board: Blackboard) -> None:
        first, second = fill(board, 2, {})
        board.update(first, {"FE": "w"})
        assert [one.key for one in board.history()] == [first, second, first]
        assert [one.key for one in board.history(limit=2)] == [second, first]
        assert [one.what for one in board.history(first, 1)] == ["updated"]
        assert board.history(Key("other", TYPE)) == []


class TestProcesses:
    def test_a_process_is_seen(self, board: Blackboard) -> None:
        holder = board.join("fetch", "blue", "node1", 123, "python fetch.py \udcff")
        (seen,) = board.processes()
        assert (seen.holder, seen.name, seen.path) == (holder, "fetch", "blue")
        assert (seen.host, seen.pid, seen.state) == ("node1", 123, "idle")
        assert seen.working_on is None
        assert seen.wish is None
        assert seen.since == seen.started
        board.report(holder, "busy", "fs0 fst 000")
        board.wish(holder, "suspend")
        (seen,) = board.processes()
        assert (seen.state, seen.working_on, seen.wish) == ("busy", "fs0 fst 000", "suspend")
        assert board.wishes(holder) == "suspend"

    def test_numbers_are_never_given_twice(self, board: Blackboard) -> None:
        numbers = []
        for _ in range(3):
            holder = join(board)
            with board.hold_alive(holder):
                board.leave(holder, "halted")
            numbers.append(holder)
        assert numbers == sorted(set(numbers))
        assert [one.holder for one in board.processes()] == numbers[-1:]

    def test_the_names_of_the_dead_are_kept_while_they_hold_something(
        self, board: Blackboard
    ) -> None:
        fill(board, 1)
        holder = join(board)
        with board.hold_alive(holder):
            board.claim(WAITING, FETCHING, 1, holder)
        other = join(board)
        assert [one.holder for one in board.processes()] == [holder, other]
        assert [one.state for one in board.processes()] == ["absent", "idle"]
        board.reap()
        assert [one.holder for one in board.processes()] == [holder, other]
        last = join(board)
        assert [one.holder for one in board.processes()] == [other, last]

    def test_who_left_is_what_it_said(self, board: Blackboard) -> None:
        holder = join(board)
        with board.hold_alive(holder):
            board.leave(holder, "halted")
        assert board.processes()[0].state == "halted"

    def test_another_process_lives_until_it_is_killed(self, site: BoardSite) -> None:
        with site.board() as board, site.running("hold", "0") as process:
            (seen,) = board.processes()
            assert (seen.pid, seen.state) == (process.pid, "idle")
            process.kill()
            process.wait()
            assert board.processes()[0].state == "absent"
            board.wish(seen.holder, "halt")

    def test_a_command_that_outlives_its_process_does_not_keep_it_alive(
        self, board: Blackboard, site: BoardSite
    ) -> None:
        with site.board() as other:
            join(other)
            command = subprocess.Popen(["sleep", "60"], close_fds=False)
            assert board.processes()[0].state == "idle"
        assert board.processes()[0].state == "absent"
        command.kill()
        command.wait()

    @pytest.mark.parametrize(
        ("attempt", "problem"),
        [
            (lambda board, holder: board.wish(holder, "dance"), "dance: a wish expected"),
            (lambda board, holder: board.wish(holder + 1, "halt"), "there is none"),
            (lambda board, holder: board.report(holder, "asleep", None), "a state expected"),
            (lambda board, holder: board.report(holder + 1, "idle", None), "there is none"),
        ],
        ids=["wish", "wish of nobody", "state", "state of nobody"],
    )
    def test_what_nobody_is(self, board: Blackboard, attempt: object, problem: str) -> None:
        holder = join(board)
        assert callable(attempt)
        with pytest.raises(ConfigError, match=problem):
            attempt(board, holder)

    def test_files_are_noted(self, board: Blackboard, tmp_path: Path) -> None:
        holder = join(board)
        name = tmp_path / os.fsdecode(b"a b\xff%41\n'?.fits")
        claimed = Path(f"{name}_proc")
        board.note_file(holder, name, claimed)
        board.note_file(holder, name, claimed)
        assert board.held(holder) == ([], [(name, claimed)])
        board.forget_file(holder, claimed)
        board.forget_file(holder, claimed)
        assert board.held(holder) == ([], [])

    def test_the_present_work_may_have_any_name(self, board: Blackboard) -> None:
        holder = join(board)
        board.report(holder, "busy", os.fsdecode(b"\xff\x00.fits"))
        assert board.processes()[0].working_on == "\\udcff.fits"


def made(directory: Path) -> Path:
    """A directory, made."""
    directory.mkdir()
    return directory


class TestPlaces:
    def test_a_file_below_the_observations(self, file_site: BoardSite) -> None:
        with file_site.board() as board:
            fill(board, 1)
            join(board)
        assert {BOARD_FILE, LOCK_FILE} <= set(os.listdir(file_site.observations))

    def test_the_directory_may_be_moved(self, file_site: BoardSite, tmp_path: Path) -> None:
        with file_site.board() as board:
            fill(board, 1)
        file_site.observations.rename(tmp_path / "moved")
        path = tmp_path / "blue.path"
        path.write_text(path.read_text().replace("/obs", "/moved"))
        with file_site.board(create=False) as board:
            assert [entry.key for entry in board.entries()] == [KEY]

    def test_paths_share_a_server_and_see_their_own(
        self, tmp_path: Path, board_place: Place
    ) -> None:
        sites = []
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
            sites.append(board_site(tmp_path / name, board_place))
        with sites[0].board() as one, sites[1].board() as two:
            fill(one, 2)
            two.create(KEY, {"FE": "w"})
            holder, other = join(one), join(two)
            assert len(two.claim(WAITING, FETCHING, 9, other)) == 1
            assert len(one.claim(WAITING, FETCHING, 9, holder)) == 2
            assert [len(board.processes()) for board in (one, two)] == [1, 1]
            assert [len(list(board.entries())) for board in (one, two)] == [2, 1]
            assert {change.key for change in two.history()} == {KEY}
            one.delete(KEY)
            assert letters(two.find(KEY)) == "_p_"

    def test_one_directory_of_two_names_has_one_board_in_a_server(
        self, tmp_path: Path, board_server: PostgresServer
    ) -> None:
        real, linked = (board_site(made(tmp_path / name), board_server) for name in ("one", "two"))
        real.observations.mkdir()
        linked.observations.symlink_to(real.observations)
        with real.board() as one, linked.board() as two:
            fill(one, 1)
            assert two.find(KEY)

    def test_a_board_begun_under_another_name_is_found(
        self, tmp_path: Path, board_server: PostgresServer
    ) -> None:
        site = board_site(tmp_path, board_server)
        (tmp_path / "real").mkdir()
        site.observations.symlink_to(tmp_path / "real")
        with site.board() as board, board._write() as database:
            board._make(database, KEY, {}, "osf")
            database.change(
                "UPDATE opusPath SET directory = ? WHERE path_id = ?",
                str(site.observations), board._path_id,
            )  # fmt: skip
        with site.board() as board:
            assert board.find(KEY)

    def test_the_site_configuration_may_name_the_server(
        self, tmp_path: Path, postgres: NewDatabase
    ) -> None:
        place = postgres()
        site = board_site(tmp_path, SqliteFile(tmp_path))
        (tmp_path / "site.mdc").write_text(
            f"DS_DBSERVER STR {place.host}\nDS_DBNAME STR {place.name}\n"
            f"DS_DBUSER STR {place.user}\n"
        )
        environ = {"SITE_CONFIG": str(tmp_path / "site.mdc")}
        with open_blackboard(site.paths, environ) as board:
            fill(board, 1)
        assert not (site.observations / BOARD_FILE).exists()
        with open_blackboard(site.paths, environ, create=False) as board:
            assert board.find(KEY)

    def test_without_create_nothing_is_made(self, file_site: BoardSite) -> None:
        with (
            pytest.raises(ConfigError, match="there is no directory"),
            file_site.board(create=False),
        ):
            pass
        file_site.observations.mkdir()
        with (
            pytest.raises(ConfigError, match="path blue: no blackboard at"),
            file_site.board(create=False),
        ):
            pass
        assert os.listdir(file_site.observations) == []

    def test_a_relative_directory_is_refused(self, file_site: BoardSite) -> None:
        path = file_site.directory / "blue.path"
        path.write_text(path.read_text().replace(f"{file_site.directory}/obs", "obs"))
        with pytest.raises(ConfigError, match="an absolute directory expected"), file_site.board():
            pass

    @pytest.mark.parametrize("kind", ["sqlite", "postgres"])
    def test_many_may_begin_a_board(
        self, tmp_path: Path, request: pytest.FixtureRequest, kind: str
    ) -> None:
        new = request.getfixturevalue("postgres") if kind == "postgres" else None
        site = board_site(tmp_path, new() if new else SqliteFile(tmp_path))
        processes = [site.start("claim", "1") for _ in range(4)]
        said = [process.communicate("\n", timeout=PATIENCE)[0] for process in processes]
        assert said == ["ready\n"] * 4

    def test_a_board_of_a_newer_version_is_left_alone(self, file_site: BoardSite) -> None:
        with file_site.board() as board, board._write() as database:
            database.change("UPDATE opusVersion SET version = 99")
        with pytest.raises(LocalError, match="newer version"), file_site.board():
            pass

    def test_migrating_twice_is_nothing(self, board_place: Place) -> None:
        database = connect(board_place, create=True)
        migrate(database)
        migrate(database)
        database.close()

    def test_after_a_fault_the_next_call_connects_anew(self, board: Blackboard) -> None:
        fill(board, 1)
        with pytest.raises(Unavailable):
            board._read("SELECT nothing FROM nowhere")
        assert board.find(KEY)
        with pytest.raises(Unavailable), board._write() as database:
            database.change("INSERT INTO nowhere VALUES (1)")
        assert letters(board.update(KEY, {"FE": "c"})) == "_c_"


class TestHowStatesAreKept:
    @pytest.mark.parametrize(
        ("states", "text"),
        [({}, ""), ({"FE": "_"}, ""), ({"LI": "c", "FE": "p"}, "FEpLIc")],
        ids=str,
    )
    def test_packed(self, states: dict[str, str], text: str) -> None:
        assert packed(states) == text
        assert unpacked(text, ("LI", "FE")) == {"LI": "_", "FE": "_"} | states

    def test_merged_keeps_the_rest(self) -> None:
        assert merged("FEpLIc", {"FE": "_", "AA": "x"}) == "AAxLIc"

    def test_patterns_compare_without_case(self) -> None:
        assert pattern_of("fst", "FEpLIc") == pattern_of("fst", "FEPLIC") == "fst FEPLIC"
        assert fits("fst FEPLIC", {"FE": "p", "DN": "_"})
        assert not fits("fst FEPLIC", {"LI": "_"})
