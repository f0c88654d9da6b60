"""`status`: both boards as text, with the filters and counts of the original's managers (OPUS,
"The blackboard")."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from boards import TIME, TYPE, BoardSite, board_site, fill, join, named_site
from client import PATIENCE, PROJECT

from formats.resource_file import Display
from mirror.errors import ConfigError, LocalError
from server.blackboard import BOARD_FILE, Filter, Key, Process
from server.opus import status
from server.opus.overview import Worker, look, path_files
from server.site import Place, SqliteFile

Status = Callable[..., str]


@pytest.fixture
def site(tmp_path: Path, place: Place, monkeypatch: pytest.MonkeyPatch) -> BoardSite:
    """A path blue on the definitions path; once a database."""
    return named_site(tmp_path, place, monkeypatch)


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str]) -> Status:
    """`status` as a shell would call it; what it prints, times and runs of blanks made alike."""

    def call(*words: str, exit: int = 0) -> str:
        assert status.main(words) == exit
        said = capsys.readouterr()
        assert said.err == ""
        return re.sub(r" {2,}", "  ", re.sub(TIME, "TIME", said.out))

    return call


def test_both_boards(site: BoardSite, told: Status) -> None:
    with site.board() as board:
        first, second = (join(board, name, pid=os.getpid()) for name in ("fetch", "clean"))
        board.report(first, "busy", "fs0 fst 000")
        board.wish(first, "halt")
        fill(board, 3)
        board.update(Key("fs1", TYPE), {"FE": "P", "LI": "c"})
        assert told() == (
            f"path blue: {site.observations}  TIME\n\n"
            "processes 2: 1 busy, 1 idle\n"
            "  HOLDER  PROCESS  CLS  STATE  SINCE  HOST  PID  ASKED  WORKING ON\n"
            f"  {second}  clean  PRO  idle  TIME  {board.host}  {os.getpid()}  -  -\n"
            f"  {first}  fetch  PRO  busy  TIME  {board.host}  {os.getpid()}  halt  fs0 fst 000\n\n"
            "datasets 3\n"
            "  STAGE  DESCRIPTION  LETTER  MEANING  COUNT\n"
            "  LI  -  C  Listed  1\n"
            "  LI  -  _  not set  2\n"
            "  FE  -  W  Waiting  2\n"
            "  FE  -  P  Fetching  1\n"
            "  DN  -  _  not set  3\n\n"
            "  START  DATASET  TYPE  DCF  LI  FE  DN\n"
            "  TIME  fs0  fst  000  _  w  _\n"
            "  TIME  fs1  fst  000  c  P  _\n"
            "  TIME  fs2  fst  000  _  w  _\n"
        )


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ((), "fs0 fs1 gs2"),
        (("-f", "fs*"), "fs0 fs1"),
        (("-f", "gs2"), "gs2"),
        (("-t", "raw"), "gs2"),
        (("-n", "001"), ""),
        (("-s", "FE=P"), "fs1"),
        (("-s", "fe=p"), "fe: a stage"),
        (("-s", "FE=q"), "FE=q: a letter"),
        (("-s", "FE=w,LI=_"), "fs0 gs2"),
        (("-s", "FE=w", "-t", TYPE), "fs0"),
        (("--limit", "1"), "gs2"),
        (("--limit", "0"), ""),
        (("--all",), "fs0 fs1 gs2"),
    ],
    ids=lambda value: " ".join(value) or "none" if isinstance(value, tuple) else "",
)
def test_filters(site: BoardSite, told: Status, words: tuple[str, ...], shown: str) -> None:
    with site.board() as board:
        fill(board, 2)
        board.create(Key("gs2", "raw"), {"FE": "W"})
        board.update(Key("fs1", TYPE), {"FE": "p"})
    if ":" in shown:
        with pytest.raises(ConfigError, match=shown):
            told(*words)
        return
    found = re.findall(r"TIME  ([fg]s\d)", told("--datasets", *words))
    assert found == shown.split()


@pytest.mark.parametrize(
    ("words", "head"), [("--processes", "processes 1: 1 idle"), ("--datasets", "datasets 2")]
)
def test_one_board_alone(site: BoardSite, told: Status, words: str, head: str) -> None:
    with site.board() as board:
        join(board)
        fill(board, 2)
        text = told(words)
    assert head in text
    assert ("processes" in text, "datasets" in text) == (
        words == "--processes", words == "--datasets",
    )  # fmt: skip


def test_what_is_left_out_is_told_and_counted(site: BoardSite, told: Status) -> None:
    with site.board() as board:
        fill(board, 60)
    text = told()
    assert "datasets 60\n" in text
    assert text.endswith(
        "TIME  fs59  fst  000  _  w  _\n… 20 older datasets are not shown (--all)\n"
    )


def test_a_process_that_was_killed_is_absent(site: BoardSite, told: Status) -> None:
    with site.running("work") as process:
        assert "1 idle" in told("--processes")
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert "1 absent" in told("--processes")


def test_processes_are_sorted_and_classed_by_their_resource_files(
    site: BoardSite, told: Status
) -> None:
    """SYSTEM, then DISPLAY_ORDER, then name; CLASS (OPUS, "Process resource files")."""
    for name, text in {
        "a": "SYSTEM = z\nCLASS = aaa\n", "b": "SYSTEM = m\nDISPLAY_ORDER = 2\n",
        "c": "SYSTEM = m\nDISPLAY_ORDER = 1\n",
    }.items():  # fmt: skip
        (site.directory / f"{name}.resource").write_text(text)
    with site.board() as board:
        for name in "abcd":
            join(board, name)
        rows = re.findall(r"^  \d+  (\w)  (\w{3})  idle", told("--processes"), re.MULTILINE)
    assert rows == [("d", "PRO"), ("c", "PRO"), ("b", "PRO"), ("a", "aaa")]


def test_looking_makes_nothing(site: BoardSite) -> None:
    before = sorted(site.directory.rglob("*"))
    seen = look(site.directory / "blue.path", site.environ)
    assert (seen.total, seen.entries, seen.workers) == (0, (), ())
    assert sorted(site.directory.rglob("*")) == before


@pytest.mark.parametrize(
    ("wish", "state", "asked"),
    [
        (None, "idle", False), ("halt", "busy", True), ("halt", "suspended", True),
        ("halt", "halted", False), ("halt", "absent", False), ("suspend", "iowait", True),
        ("suspend", "suspended", False), ("suspend", "halted", False),
        ("resume", "suspended", True), ("resume", "idle", False),
    ],
)  # fmt: skip
def test_what_was_asked_is_shown_until_it_is_done(
    wish: str | None, state: str, asked: bool
) -> None:
    process = Process(1, "fetch", "blue", "h", 7, state, "T", None, "T", wish=wish)
    assert Worker(process, Display("PRO", "", 0, "", "fetch")).asked == (wish if asked else None)


def test_all_paths_along_the_definitions_path(site: BoardSite, told: Status) -> None:
    """One that is wrong keeps nobody from seeing the others."""
    (site.directory / "amber.path").write_text("NOTHING = here\n")
    with site.board() as board:
        fill(board, 1)
    first, second = told(exit=3).split("\n\n\n")[0].split("\n\npath blue", 1)
    assert first.startswith(f"path amber: {site.directory}/amber.path\n  ")
    assert "OPUS_OBSERVATIONS_DIR: required" in first
    assert "datasets 1" in second
    with pytest.raises(ConfigError, match="required"):
        told("-p", "amber")


@pytest.mark.parametrize(
    ("environ", "names", "problem"),
    [
        ({}, [], "no path: name one, or have NAME.path along OPUS_DEFINITIONS_DIR (which is not"),
        ({"OPUS_DEFINITIONS_DIR": "/nowhere"}, [], "OPUS_DEFINITIONS_DIR (/nowhere)"),
        ({}, ["green"], "green.path expected"),
    ],
    ids=["not set", "empty", "no such path"],
)
def test_no_path(environ: dict[str, str], names: list[str], problem: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(problem)):
        path_files(names, environ)


@pytest.mark.parametrize("states", ["FE", "FE=", "=p", "FE=pp", "FET=p", "", "FE=p,"])
def test_a_wrong_state_is_told(states: str) -> None:
    with pytest.raises(ConfigError, match="-s: XX=s expected"):
        status.chosen_by(None, None, None, [states])


def test_states_may_be_given_apart_or_together() -> None:
    assert status.chosen_by("f*", None, None, ["FE=p", "LI=c,DN=_"]) == Filter(
        dataset="f*", states={"FE": "p", "LI": "c", "DN": "_"}
    )


def test_a_sick_board_keeps_nobody_from_seeing_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: Status
) -> None:
    sick = two_sites(tmp_path, monkeypatch)
    first, second = told(exit=2).split("\n\npath well", 1)
    assert first.startswith(f"path blue: {tmp_path}/sick/blue.path\n  blackboard {sick}: ")
    assert "datasets 1" in second
    with pytest.raises(LocalError, match=f"^blackboard {sick}"):
        told("-p", "blue")


def two_sites(directory: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A path blue whose board is garbage, and well with one entry; returns the garbage."""
    for name in ("sick", "well"):
        (directory / name).mkdir()
    sick = board_site(directory / "sick", SqliteFile(directory))
    well = board_site(directory / "well", SqliteFile(directory))
    with well.board() as board:
        fill(board, 1)
    (well.directory / "blue.path").rename(well.directory / "well.path")
    sick.observations.mkdir()
    (sick.observations / BOARD_FILE).write_text("garbage " * 200)
    monkeypatch.setenv("OPUS_DEFINITIONS_DIR", f"{sick.directory}:{well.directory}")
    return sick.observations / BOARD_FILE


def test_watch_goes_on_whatever_is_wrong_with_a_board(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sick = two_sites(tmp_path, monkeypatch)
    looks: list[float] = []

    def sleep(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr("time.sleep", sleep)
    for words in ((), ("-p", "blue")):
        looks.clear()
        with pytest.raises(KeyboardInterrupt):
            status.main([*words, "--watch", "7"])
        assert looks == [7, 7, 7]
        assert capsys.readouterr().out.count(f"blackboard {sick}: ") == 3


@pytest.mark.parametrize(
    ("text", "columns", "lines", "shown"),
    [
        ("a\nb\nc", 80, 24, "a\nb\nc"),
        ("a\nb\nc", 80, 4, "a\nb\nc"),
        ("a\nb\nc", 80, 3, "a\n… 2 lines more"),
        ("a\nb\nc", 80, 2, "… 3 lines more"),
        ("a\nb\nc", 80, 1, "… 3 lines more"),
        ("abcdef\nbc", 3, 24, "abc\nbc"),
        ("", 80, 24, ""),
    ],
)
def test_watch_shows_what_the_terminal_has_room_for(
    text: str, columns: int, lines: int, shown: str
) -> None:
    assert status.cut(text, columns, lines) == shown


def test_watch_looks_again_until_it_is_interrupted(tmp_path: Path) -> None:
    board_site(tmp_path, SqliteFile(tmp_path))
    program = "import sys; from server.opus.status import main; sys.exit(main(sys.argv[1:]))"
    with subprocess.Popen(
        [sys.executable, "-c", program, "-p", str(tmp_path / "blue.path"), "--watch", "0.1"],
        cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    ) as process:  # fmt: skip
        try:
            assert process.stdout
            looks = 0
            for line in process.stdout:
                looks += line.startswith("path blue")
                assert "\x1b" not in line
                if looks == 3:
                    break
            process.send_signal(signal.SIGINT)
            process.wait(PATIENCE)
        finally:
            process.kill()
    assert looks == 3


@pytest.mark.parametrize(
    "words",
    [("--watch", "0"), ("--watch", "x"), ("--limit", "-1"), ("--processes", "--datasets"),
     ("--all", "--limit", "3")],
)  # fmt: skip
def test_wrong_usage(words: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit) as ended:
        status.main(words)
    assert ended.value.code == 2
