"""`osf`: entries of a blackboard by hand (OPUS, "The blackboard")."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from boards import TIME, TYPE, BoardSite, board_site, letters, named_site

from formats.stage_file import read_stage_file
from mirror.errors import ConfigError
from server.blackboard import Key
from server.opus import history, manage, osf, reap, status
from server.site import Place, SqliteFile
from server.store_lock import ConflictError

ENTRY = ("-f", "fs0", "-t", TYPE)


class Osf:
    """The command on the path blue, as a shell would call it; `said` is what it has printed."""

    def __init__(self, site: BoardSite, capsys: pytest.CaptureFixture[str]) -> None:
        self.site = site
        self._capsys = capsys

    def __call__(self, action: str, *words: str) -> str:
        assert osf.main([action, "-p", "blue", *words]) == 0
        said = self._capsys.readouterr()
        assert said.err == ""
        return said.out

    def letters(self, key: Key) -> str:
        with self.site.board() as board:
            return letters(board.find(key))


@pytest.fixture
def command(
    tmp_path: Path,
    board_place: Place,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Osf:
    """`osf` where blue.path is on the definitions path; once a database."""
    return Osf(named_site(tmp_path, board_place, monkeypatch), capsys)


class TestActions:
    def test_an_entry_from_its_making_to_its_end(self, command: Osf) -> None:
        assert command("create", *ENTRY, "-s", "cw_") == "created fs0 fst 000: LI=c FE=w DN=_\n"
        assert command("update", *ENTRY, "-s", "FE=P,DN=c") == (
            "updated fs0 fst 000: LI=c FE=P DN=c\n"
        )
        assert command("update", *ENTRY, "-s", "cc_") == "updated fs0 fst 000: LI=c FE=c DN=_\n"
        assert command("delete", *ENTRY) == "deleted fs0 fst 000\n"
        assert command("list") == "# start dataset DATA_ID DCF LI FE DN\n"

    def test_without_states_none_is_set(self, command: Osf) -> None:
        command("create", *ENTRY)
        assert command.letters(Key("fs0", TYPE)) == "___"

    def test_the_dcf_number_is_part_of_the_key(self, command: Osf) -> None:
        command("create", *ENTRY, "-s", "w__")
        command("create", *ENTRY, "-n", "001", "-s", "c__")
        command("update", *ENTRY, "-n", "001", "-s", "FE=w")
        assert command.letters(Key("fs0", TYPE)) == "w__"
        assert command.letters(Key("fs0", TYPE, "001")) == "cw_"

    def test_list_prints_a_line_an_entry(self, command: Osf) -> None:
        command("create", *ENTRY, "-s", "cw_")
        command("create", "-f", "fs1", "-t", "raw", "-n", "7", "-s", "LI=x")
        head, first, second = command("list").splitlines()
        assert head == "# start dataset DATA_ID DCF LI FE DN"
        assert re.fullmatch(f"{TIME} fs0 fst 000 c w _", first)
        assert re.fullmatch(f"{TIME} fs1 raw 7 x _ _", second)

    @pytest.mark.parametrize(
        ("words", "found"),
        [
            (("-f", "fs*"), ["fs0", "fs1"]),
            (("-f", "fs1"), ["fs1"]),
            (("-t", "raw"), ["other"]),
            (("-n", "7"), ["fs1"]),
            (("-s", "FE=W"), ["fs0", "fs1"]),
            (("-s", "cw_"), ["fs0"]),
            (("-t", "fst", "-s", "LI=_"), ["fs1"]),
        ],
        ids=str,
    )
    def test_list_shows_what_is_wanted(
        self, command: Osf, words: tuple[str, ...], found: list[str]
    ) -> None:
        command("create", *ENTRY, "-s", "cw_")
        command("create", "-f", "fs1", "-t", TYPE, "-n", "7", "-s", "_w_")
        command("create", "-f", "other", "-t", "raw")
        lines = command("list", *words).splitlines()[1:]
        assert [line.split()[1] for line in lines] == found

    def test_history(self, command: Osf) -> None:
        command("create", *ENTRY, "-s", "w__")
        command("update", *ENTRY, "-s", "LI=c")
        command("create", "-f", "fs1", "-t", TYPE)
        command("delete", *ENTRY)
        head, *lines = command("history", *ENTRY).splitlines()
        assert head == "# at host process what dataset DATA_ID DCF stage before after"
        assert [line.split()[2:] for line in lines] == [
            ["osf", "created", "fs0", "fst", "000", "LI", "_", "w"],
            ["osf", "updated", "fs0", "fst", "000", "LI", "w", "c"],
            ["osf", "deleted", "fs0", "fst", "000", "-", "-", "-"],
        ]
        assert all(re.match(TIME, line) for line in lines)
        assert len(command("history").splitlines()) == 1 + 4
        assert command("history", "-l", "1").split()[-7:-3] == ["deleted", "fs0", "fst", "000"]

    @pytest.mark.parametrize(
        ("words", "changed"),
        [
            (("-f", "fs0"), ["fs0 fst", "fs0 raw", "fs0 fst"]),
            (("-f", "fs0", "-t", TYPE), ["fs0 fst"]),
            (("-t", "raw"), ["fs0 raw", "fs1 raw"]),
            (("-n", "7"), ["fs0 fst"]),
            (("-f", "fs"), []),
        ],
        ids=str,
    )
    def test_the_history_of_what_is_named(
        self, command: Osf, words: tuple[str, ...], changed: list[str]
    ) -> None:
        for name, kind in (("fs0", TYPE), ("fs0", "raw"), ("fs1", "raw")):
            command("create", "-f", name, "-t", kind)
        command("create", *ENTRY, "-n", "7")
        lines = command("history", *words).splitlines()[1:]
        assert [" ".join(line.split()[4:6]) for line in lines] == changed

    def test_the_history_may_be_pruned(self, command: Osf, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(history, "STEP", 2)
        for number in range(5):
            command("create", "-f", f"fs{number}", "-t", TYPE)
        with command.site.board() as board, board._write() as database:
            database.change(
                "UPDATE osfHistory SET at = '2020-01-01T00:00:00Z' WHERE dataset < 'fs3'"
            )
        said = "removed {} changes older than 30 days; no entry was touched\n"
        assert command("history", "--prune", "30") == said.format(3)
        assert command("history", "--prune", "30") == said.format(0)
        assert [line.split()[4] for line in command("history").splitlines()[1:]] == ["fs3", "fs4"]
        assert len(command("list").splitlines()) == 1 + 5

    def test_a_path_file_may_be_named(
        self, command: Osf, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert osf.main(["create", "-p", str(tmp_path / "blue.path"), *ENTRY]) == 0
        assert capsys.readouterr().out.startswith("created")
        assert reap.main(["-p", "blue.path", "-p", "blue"]) == 0
        assert capsys.readouterr().out == ""


class TestRefusals:
    @pytest.mark.parametrize(
        ("words", "problem"),
        [
            (("create", "-t", TYPE), "create: -f is missing"),
            (("update", "-f", "fs0", "-s", "c__"), "update: -t is missing"),
            (("delete", "-f", "fs0"), "delete: -t is missing"),
            (("update", *ENTRY), "update: -s is missing"),
            (("delete", *ENTRY, "-s", "c__"), "-s does not go with it"),
            (("history", *ENTRY, "-s", "c__"), "-s does not go with it"),
            (("history", "--prune", "1", "-f", "fs0"), "--prune goes without -f, -t and -n"),
            (("list", "--prune", "1"), "list: --prune does not go with it"),
            (("list", "-s", "FE=q"), "FE=q: a letter of .* one of W, P, C, X, _"),
            (("create", *ENTRY, "-s", "c_"), "one letter for each of the 3 stages LI FE DN"),
            (("create", *ENTRY, "-s", ""), "one letter for each of the 3 stages"),
            (("create", *ENTRY, "-s", "LI=c,LI=w"), "each stage once"),
            (("create", *ENTRY, "-s", "XX=c"), "XX: a stage of"),
            (("create", *ENTRY, "-s", "qw_"), "LI=q: a letter of .* one of W, P, C, X, _"),
            (("create", "-f", "a b", "-t", TYPE), "dataset: a name without blanks"),
            (("list", "-s", "XX=c"), "XX: a stage of"),
        ],
        ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
    )
    def test_what_has_no_meaning(self, command: Osf, words: tuple[str, ...], problem: str) -> None:
        command("create", "-f", "first", "-t", TYPE)
        with pytest.raises(ConfigError, match=problem):
            command(*words)
        assert len(command("list").splitlines()) == 2

    def test_what_is_there_or_is_not(self, command: Osf) -> None:
        command("create", *ENTRY)
        with pytest.raises(ConflictError, match="is there already"):
            command("create", *ENTRY)
        for words in (("update", "-s", "c__"), ("delete",)):
            with pytest.raises(ConflictError, match="there is no such entry"):
                command(words[0], "-f", "fs1", "-t", TYPE, *words[1:])

    def test_a_path_that_is_not_there(self, command: Osf) -> None:
        with pytest.raises(ConfigError, match=r"green\.path expected in"):
            osf.main(["list", "-p", "green"])


@pytest.mark.parametrize("action", ["list", "update", "delete", "history"])
def test_only_create_begins_a_board(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, action: str
) -> None:
    site = named_site(tmp_path, SqliteFile(tmp_path), monkeypatch)
    with pytest.raises(ConfigError, match="no directory"):
        osf.main([action, "-p", "blue", *ENTRY])
    assert not site.observations.exists()


def test_a_closed_pipe_is_no_traceback(tmp_path: Path) -> None:
    site = board_site(tmp_path, SqliteFile(tmp_path))
    with site.board() as board:
        for number in range(2000):
            board.create(Key(f"fs{number}", TYPE), {})
    done = subprocess.run(
        f"{sys.executable} -c 'import sys; from server.opus import osf;"
        f" from server.__main__ import _guarded;"
        f' sys.exit(_guarded("osf", lambda: osf.main(["list", "-p", "{tmp_path}/blue.path"])))\''
        " | head -n 1",
        shell=True, cwd=Path(osf.__file__).parents[2], capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout.startswith("# start")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("text", "states"),
    [
        ("cw_", {"LI": "c", "FE": "w", "DN": "_"}),
        ("FE=w", {"FE": "w"}),
        ("DN=c,LI=W", {"DN": "c", "LI": "W"}),
    ],
)
def test_both_forms_of_states(tmp_path: Path, text: str, states: dict[str, str]) -> None:
    board_site(tmp_path, SqliteFile(tmp_path))
    assert osf.parse_states(text, read_stage_file(tmp_path / "blue.stage")) == states


@pytest.mark.parametrize("action", ["create", "list", "update", "delete", "history", "post"])
def test_each_action_has_its_own_help(action: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        osf.main([action, "--help"])
    said = capsys.readouterr().out
    assert ended.value.code == 0
    assert said.startswith(f"usage: osf {action} [-h] -p PATH")
    assert ("--list" in said) == (action == "post")
    assert ("-s STATES" in said) == (action in ("create", "list", "update"))


@pytest.mark.parametrize(
    "command",
    [osf.main, reap.main, status.main, manage.start, manage.halt, manage.suspend, manage.resume],
    ids=["osf", "reap", "status", "start", "halt", "suspend", "resume"],
)
def test_help_tells_the_exit_statuses(
    command: Callable[[list[str]], int], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        command(["--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert "Exit status: 0 " in said
    assert "seed" not in said


def test_a_directory_that_is_looked_into_twice_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPUS_DEFINITIONS_DIR", f"{tmp_path}:{tmp_path}")
    with pytest.raises(ConfigError) as told:
        osf.main(["list", "-p", "green"])
    assert str(told.value).count(str(tmp_path)) == 1
