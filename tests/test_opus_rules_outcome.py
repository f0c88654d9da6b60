"""The rules of what becomes of an event after the command, of the disk guard and of passwords, and
that nothing reaches a shell: a test each, which quotes the rule (OPUS, "Process resource files",
from "After the command" on)."""

import os
from functools import partial
from pathlib import Path
from unittest import mock

import pytest
from xpoll_here import xpoll
from xpolls import DONE, ENTRIES, FILES, SUCCESS, Pipeline, noted

from mirror.errors import LocalError
from server.blackboard import Key
from server.opus.check import check
from server.opus.loop import Process
from server.opus.manage import ask_passwords
from server.process import main, read_task

BY_NAME = 'name=${EVENT_NAME##*/}; exit "${name%%.*}"'
"""A command whose exit status is what its file is called."""


# The map


def test_what_becomes_of_a_file(pipeline: Pipeline) -> None:
    """Rule: its exit status NN is looked up as XPOLL_STATE.NN; the value names a set of keywords
    to apply, any name will do; for files the set is NAME = suffix, the same written NAME.DANGLE =
    suffix, or NAME.DIRECTORY = dir; SUCCESS: nothing more; NULL: the item left as it was before; a
    set without any keyword does nothing. A status not in the map, or mapped to XPOLL_ERROR, is an
    error: for files FILE_ERROR applies."""
    states = {
        1: "FILE_SUCCESS", 2: "FILE_ERROR", 3: "FILE_IGNORE", 4: "Dangled", 5: "FILE_ERROR2",
        6: "SUCCESS", 7: "NULL", 8: "EMPTY", 10: "XPOLL_ERROR", 200: "FILE_SUCCESS",
    }  # fmt: skip
    sets = f"FILE_IGNORE = _ign\nDangled.DANGLE = _dan\nFILE_ERROR2.DIRECTORY = {pipeline.home}\n"
    mapped = "".join(f"XPOLL_STATE.{status:02} = {name}\n" for status, name in states.items())
    pipeline.resource(BY_NAME, FILES + sets + mapped)
    pipeline.drop(*(f"{status}.in" for status in (*states, 9, 99)))
    assert xpoll(pipeline) == 0
    assert pipeline.inboxed() == sorted(
        ["1.in_ok", "2.in_bad", "3.in_ign", "4.in_dan", "6.in_proc", "7.in", "8.in_proc",
         "9.in_bad", "99.in_bad", "10.in_bad", "200.in_ok"]
    )  # fmt: skip
    assert (pipeline.home / "5.in_proc").read_text() == "5.in"
    log = pipeline.log()
    assert [f"{number}.in: error " in log for number in (2, 7, 8, 9, 10, 99)] == [
        False, False, False, True, True, True,
    ]  # fmt: skip


def test_what_becomes_of_an_entry(pipeline: Pipeline) -> None:
    """Rule: OSF_SUCCESS1: every OSF_SUCCESS1.XX = s is written to the entry; SUCCESS: nothing
    more; NULL: the item left as it was before. Not in the map, or XPOLL_ERROR: every
    XPOLL_ERROR.XX is written. State letters are … written as given."""
    more = (
        "XPOLL_STATE.01 = OSF_SUCCESS1\nOSF_SUCCESS1.GC = C\nOSF_SUCCESS1.CA = n\n"
        "XPOLL_STATE.02 = SUCCESS\nXPOLL_STATE.03 = NULL\nXPOLL_STATE.04 = XPOLL_ERROR\n"
        "XPOLL_STATE.05 = EMPTY\nXPOLL_ERROR.CA = W\n"
    )
    pipeline.resource("exit $OSF_DATASET", ENTRIES + more)
    with pipeline.board() as board:
        for status in (1, 2, 3, 4, 5, 99):
            board.create(Key(f"{status}", "fst"), {"GC": "W"})
    assert xpoll(pipeline) == 0
    assert pipeline.letters() == {
        "1": "Cn", "2": "p_", "3": "W_", "4": "xW", "5": "p_", "99": "xW",
    }  # fmt: skip


def test_a_set_without_any_keyword_is_warned_of(pipeline: Pipeline) -> None:
    """Rule: a set without any keyword does nothing (opus-check warns)."""
    pipeline.resource("", FILES + SUCCESS + "XPOLL_STATE.01 = OSF_SUCESS\n")
    report = check(["night"], pipeline.environment())
    assert report.problems == []
    (warning,) = report.warnings
    assert "proc.resource:11: XPOLL_STATE.01: OSF_SUCESS has no keyword" in warning


@pytest.mark.parametrize(
    ("kind", "left"),
    [("OSF", {"o0": "cw", "o1": "w_", "o2": "x_", "o3": "x_"}),
     ("EVENT", ["o0.in_ok", "o1.in", "o2.in_bad", "o3.in_bad"])],
)  # fmt: skip
def test_check_file(pipeline: Pipeline, kind: str, left: object) -> None:
    """Rule: CHECK_FILE: the command wrote one line an item into EVENT_STATE_FILE (a file name, in
    OPUS_HOME_DIR): OSF_STATUS = s0, OSF_STATUS1 = s1… or EVENT_STATUS…, each s mapped by
    XPOLL_STATE on its own."""
    more = "XPOLL_STATE.01 = CHECK_FILE\nXPOLL_STATE.02 = NULL\nENV.EVENT_STATE_FILE = states\n"
    triggers = ENTRIES + DONE if kind == "OSF" else FILES + SUCCESS
    most = "OSF_TRIGGER1.MAXTARGS = 4\n" if kind == "OSF" else "FILE_MAXTARGS1 = 4\n"
    lines = rf"{kind}_STATUS = 00\n{kind}_STATUS1 = 02\n{kind}_STATUS2 = 55\n"
    script = f'echo $EVENT_NUM >> $OUT/seen; printf "{lines}" > $OPUS_HOME_DIR/states; exit 1'
    pipeline.resource(script, triggers + more + most)
    names = [f"o{number}" for number in range(4)]
    pipeline.post(*names)
    pipeline.drop(*(f"{name}.in" for name in names))
    assert xpoll(pipeline) == 0
    assert noted(pipeline) == ["4"]
    assert (pipeline.letters() if kind == "OSF" else pipeline.inboxed()) == left


# Errors


@pytest.mark.parametrize(
    ("count", "handled"), [("", 5), ("XPOLL_ERROR_COUNT = 0\n", 1), ("XPOLL_ERROR_COUNT = 3\n", 4)]
)
def test_errors_are_borne(pipeline: Pipeline, count: str, handled: int) -> None:
    """Rule: XPOLL_ERROR_COUNT errors are borne; with the next one the process stops, that is, goes
    absent (without the keyword errors never stop it)."""
    pipeline.resource("exit 9", FILES + SUCCESS + count)
    pipeline.drop(*(f"{number}.in" for number in range(5)))
    assert xpoll(pipeline) == (1 if count else 0)
    assert [name.endswith("_bad") for name in pipeline.inboxed()] == [
        number < handled for number in range(5)
    ]
    assert pipeline.processes()[-1].state == ("absent" if count else "halted")


@pytest.mark.parametrize(
    ("status", "fatal"), [(99, False), (100, True), (127, True), (128, False), (255, False)]
)
def test_fatal_statuses(pipeline: Pipeline, status: int, fatal: bool) -> None:
    """Rule: Exit statuses 100-127 are fatal: xpoll stops at once."""
    # A fatal status is not looked up.
    mapped = f"XPOLL_STATE.{status} = FILE_SUCCESS\n"
    pipeline.resource(f"exit {status}", FILES + mapped)
    pipeline.drop("a.in", "b.in")
    assert xpoll(pipeline) == int(fatal)
    assert pipeline.inboxed() == (["a.in", "b.in"] if fatal else ["a.in_ok", "b.in_ok"])
    assert pipeline.processes()[-1].state == ("absent" if fatal else "halted")


@pytest.mark.parametrize(
    ("absent", "file", "letters"),
    [
        ("", "a.in", "w_"),
        ("FILE_ABSENT = _abs\nOSF_ABSENT = a\n", "in/a.in_abs", "a_"),
        ("FILE_ABSENT.DIRECTORY = {0}/gone\nOSF_ABSENT = X\n", "gone/a.in_proc", "X_"),
    ],
    ids=["nothing is said of it", "a suffix", "a directory"],
)
def test_going_absent_with_items(pipeline: Pipeline, absent: str, file: str, letters: str) -> None:
    """Rule: Going absent while it holds items applies OSF_ABSENT or FILE_ABSENT to them."""
    pipeline.resource("exit 101", FILES + ENTRIES + SUCCESS + absent.format(pipeline.directory))
    pipeline.drop("a.in")
    assert xpoll(pipeline) == 1
    assert [str(one.relative_to(pipeline.directory)) for one in pipeline.directory.rglob("a.in*")
        ] == [file if "/" in file else f"in/{file}"]  # fmt: skip
    for left in pipeline.inboxed():
        (pipeline.inbox / left).unlink()
    pipeline.post("o1")
    assert xpoll(pipeline) == 1
    assert pipeline.letters() == {"o1": letters}


# FILE_ACTION, and shells

NAMES = (
    "plain", "two words", " blanks at both ends ", "tab\there", "new\nline", "line end\n",
    "it's", 'say "it"', "'", '"', "a;touch PWNED", ";", "$(touch PWNED)", "`touch PWNED`",
    "${HOME}", "$HOME", "a|touch PWNED", "a&&touch PWNED&", "a>PWNED", "<PWNED", "*", "?[a]", "~",
    "-rf", "--help", "\\", "\\n", "a\\ b", "^f", "^F^f", "\\1", "\\g<0>", "%s", "{}", "#a", "!x",
    "é ü", "=", "a=b", "SUB[HOME]",
)  # fmt: skip
ARGUMENTS = """printf '%s\\0' $# "$@" end >> $OUT/"""
"""What an sh writes: how many arguments it has, and each of them."""


def arguments_in(pipeline: Pipeline, name: str) -> list[list[str]]:
    """What ARGUMENTS has left in $OUT/NAME, a list a call."""
    words = (pipeline.directory / name).read_text().split("\0")[:-1]
    calls = []
    while words:
        count = int(words[0])
        calls.append(words[1 : count + 1])
        assert words[count + 1] == "end"
        del words[: count + 2]
    return calls


def program(pipeline: Pipeline, name: str, more: str = "") -> None:
    """A program on the PATH that notes its arguments in $OUT/NAME.seen."""
    path = pipeline.directory / "bin" / name
    path.write_text(f"#!/bin/sh\n{ARGUMENTS}{name}.seen\n{more}")
    path.chmod(0o755)


def command(pipeline: Pipeline, text: str, more: str) -> None:
    """proc.resource with the COMMAND `text`."""
    pipeline.resource("", more)
    file = pipeline.directory / "proc.resource"
    file.write_text(file.read_text().replace("COMMAND = proc\n", f"COMMAND = {text}\n"))


def untouched(pipeline: Pipeline) -> bool:
    """Whether no name was run as a command of a shell."""
    return not list(pipeline.directory.rglob("PWNED"))


def test_the_file_of_an_action_is_one_argument(pipeline: Pipeline) -> None:
    """Rule: FILE_ACTION runs a command, ^f or ^F replaced by the file's name (as one argument:
    never through a shell with raw text in it), after FILE_SUCCESS."""
    program(pipeline, "act")
    program(pipeline, "run", "printf '%s\\0' 1 \"$EVENT_NAME\" end >> $OUT/event\n")
    action = "FILE_ACTION = 'act -v ^f ^F --in=^f.bak \"a ^F\" end'\nFILE_ACTION_OK = 0\n"
    command(pipeline, "'run \"$HOME\" `id` ; *'", FILES + SUCCESS + action)
    pipeline.drop(*(f"{name}.in" for name in NAMES))
    assert xpoll(pipeline) == 0
    names = sorted(f"{pipeline.inbox}/{name}.in" for name in NAMES)
    assert arguments_in(pipeline, "event") == [[f"{name}_proc"] for name in names]
    assert arguments_in(pipeline, "run.seen") == [["$HOME", "`id`", ";", "*"]] * len(NAMES)
    assert arguments_in(pipeline, "act.seen") == [
        ["-v", f"{name}_ok", f"{name}_ok", f"--in={name}_ok.bak", f"a {name}_ok", "end"]
        for name in names
    ]
    assert untouched(pipeline)


def test_the_name_of_a_dataset_is_one_text(pipeline: Pipeline) -> None:
    """The same rule for COMMAND and entries, whose names hold no blanks."""
    names = [name for name in NAMES if name.isprintable() and " " not in name]
    program(pipeline, "run", "printf '%s\\0' 1 \"$OSF_DATASET\" end >> $OUT/dataset\n")
    command(pipeline, "run", ENTRIES + DONE)
    pipeline.post(*names)
    assert xpoll(pipeline) == 0
    assert arguments_in(pipeline, "dataset") == [[name] for name in names]
    assert set(pipeline.letters().values()) == {"cw"}
    assert untouched(pipeline)


def test_the_name_of_a_directory_is_one_text(pipeline: Pipeline) -> None:
    """The same rule for a directory of a path file, whatever the environment puts into it."""
    program(pipeline, "act")
    place = pipeline.directory / "a 'b' \"c\"; touch PWNED $(touch PWNED) ^f\n"
    place.mkdir()
    (place / "a.in").touch()
    pipeline.path("hostile = SUB[PLACE]\n*.FILE_DIRECTORY1 = SUB[PLACE]\n")
    more = "ENV.WHERE = hostile\nFILE_ACTION = 'act ^f'\n"
    pipeline.resource('cp "$EVENT_NAME" "$WHERE/b.out"', FILES + SUCCESS + more)
    assert xpoll(pipeline, PLACE=str(place)) == 0
    assert sorted(os.listdir(place)) == ["a.in_ok", "b.out"]
    assert arguments_in(pipeline, "act.seen") == [[f"{place}/a.in_ok"]]
    assert untouched(pipeline)


@pytest.mark.parametrize(
    ("ok", "told"), [("", False), ("FILE_ACTION_OK = 3\n", False), ("FILE_ACTION_OK = 0\n", True)]
)
def test_the_status_of_an_action(pipeline: Pipeline, ok: str, told: bool) -> None:
    """Rule: FILE_ACTION_OK is the status it must return, otherwise an error goes to the process
    log."""
    action = "FILE_ACTION = 'sh -c \"echo >> $OUT/acts; exit 3\"'\n"
    more = "XPOLL_STATE.01 = FILE_ERROR\nXPOLL_STATE.02 = FILE_OTHER\nFILE_OTHER = _other\n"
    pipeline.resource(BY_NAME, FILES + SUCCESS + more + action + ok)
    pipeline.drop("00.in", "01.in", "02.in", "99.in")
    assert xpoll(pipeline) == 0
    assert noted(pipeline, "acts") == [""], "after FILE_SUCCESS alone"
    assert ("error: FILE_ACTION for " in pipeline.log()) is told


# The disk guard


def test_minblocks_before_every_event(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rule: MINBLOCKS: before every event, that many free 512-byte blocks on OUTPATH's device,
    otherwise the process waits in state iowait. Events stay queued; nothing is lost."""
    asked: list[Path] = []

    def free(place: Path) -> int:
        asked.append(place)
        return [100, 100, 99][len(asked) - 1]

    monkeypatch.setattr("server.process.Process", partial(Process, free=free))
    pipeline.path("products = /products\n")
    pipeline.resource("", FILES + SUCCESS + "MINBLOCKS = 100\nOUTPATH = products\n")
    pipeline.drop("a.in", "b.in", "c.in")
    with pytest.raises(LocalError, match=r"iowait: /products has 99 blocks of 512 bytes free"):
        xpoll(pipeline)
    assert asked == [Path("/products")] * 3
    assert pipeline.inboxed() == ["a.in_ok", "b.in_ok", "c.in"]


@pytest.mark.parametrize(
    ("resume", "free", "looks"),
    [("", [99, 100], 1), ("RESUME_BLOCKS = 200\n", [99, 150, 199, 200], 3)],
    ids=["default MINBLOCKS", "RESUME_BLOCKS"],
)
def test_iowait_until_resume_blocks(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, resume: str, free: list[int], looks: int
) -> None:
    """Rule: the process waits in state iowait until RESUME_BLOCKS (default MINBLOCKS) are free."""
    seen: list[tuple[str, list[str]]] = []

    def look(_: Path) -> int:
        (mine,) = pipeline.processes()
        seen.append((mine.state, pipeline.inboxed()))
        if len(seen) > len(free):
            with pipeline.board() as board:
                board.wish(mine.holder, "halt")
        return (free + [100] * 99)[len(seen) - 1]

    monkeypatch.setattr("server.process.Process", partial(Process, free=look))
    guard = f"MINBLOCKS = 100\nOUTPATH = {pipeline.directory}\n{resume}"
    pipeline.resource("", FILES + SUCCESS + guard, polling="0.01")
    pipeline.drop("a.in")
    with mock.patch.dict(os.environ, pipeline.environment(), clear=True):
        assert main(["-p", "night", "-r", "proc"]) == 0
    assert seen[:1] == [("idle", ["a.in"])]
    assert seen[1 : looks + 1] == [("iowait", ["a.in"])] * looks
    assert seen[looks + 1][1] == ["a.in_ok"]


# Passwords, and opus-check


def test_passwords_are_asked_for_once_a_prompt(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rule: PASSWORD / PASSWORD_PROMPT ask once per prompt and node when a group of processes is
    started."""
    asked: list[str] = []

    def getpass(prompt: str) -> str:
        asked.append(prompt)
        return f"for {prompt}"

    monkeypatch.setattr("getpass.getpass", getpass)
    monkeypatch.setattr("sys.stdin", mock.Mock(isatty=lambda: True))
    resources = []
    for name, prompt in (("a", "DB"), ("b", "DB"), ("c", ""), ("d", "Archive"), ("e", "")):
        more = f"PASSWORD = yes\nPASSWORD_PROMPT = '{prompt}'\n" if prompt else "PASSWORD = yes\n"
        pipeline.resource("", FILES + SUCCESS + more, name)
        task = read_task("night", name, pipeline.environment())
        resources.append(task.resource)
    given = ask_passwords(resources, {})
    assert len(asked) == len(given) == 3
    assert given["DB"] == b"for DB: "


def test_a_password_is_on_no_command_line(pipeline: Pipeline) -> None:
    """Rule: the answer goes to the command by file descriptor or environment, never on a command
    line that others can read."""
    script = (
        "cat /dev/fd/$OPUS_PASSWORD_FD > $OUT/secret; env > $OUT/seen\n"
        "cat /proc/$$/cmdline /proc/$PPID/cmdline >> $OUT/seen"
    )
    pipeline.resource(script, FILES + SUCCESS + "PASSWORD = yes\n")
    pipeline.drop("a.in")
    ear, mouth = os.pipe()
    os.write(mouth, b"ge heim;$x\n")
    os.close(mouth)
    assert xpoll(pipeline, OPUS_PASSWORD_FD=str(ear)) == 0
    assert (pipeline.directory / "secret").read_text() == "ge heim;$x"
    for text in ((pipeline.directory / "seen").read_text(), pipeline.log()):
        assert "ge heim" not in text


def test_opus_check_takes_paths_and_files(pipeline: Pipeline) -> None:
    """Rule: opus-check takes names of paths or files of the three kinds."""
    pipeline.resource("", FILES + SUCCESS)
    for name in ("night", *(f"{pipeline.directory}/{one}" for one in (
        "night.path", "proc.resource", "night.stage"))):  # fmt: skip
        report = check([name], pipeline.environment())
        assert report.problems == []
        assert report.lines
    (problem,) = check(["day"], pipeline.environment()).problems
    assert problem.startswith("day: day.path expected in ")
