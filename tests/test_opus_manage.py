"""`start`, `halt`, `suspend`, `resume`: processes as the process manager has them (OPUS, "The
blackboard"), real ones where it matters."""

import os
import re
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from boards import NOBODY, BoardSite, board_site, join
from client import PATIENCE, PROJECT
from commands import printed

from formats.path_file import read_path_file
from formats.resource_file import ResourceFile, read_resource_file
from mirror.errors import ConfigError, LocalError
from server.blackboard import Process
from server.opus import manage
from server.opus.run_command import PASSWORD_FD
from server.site import SqliteFile
from server.store_lock import ConflictError

FETCH = """\
TASK = < xpoll -p $PATH_FILE -r fetch >
COMMAND = true
POLLING_TIME = 0.05
OSF_RANK = 1
OSF_TRIGGER1.FE = w
OSF_PROCESSING.FE = p
XPOLL_STATE.00 = OSF_OK
OSF_OK.FE = c
"""
XPOLL = """\
#!{python}
import sys
sys.path.insert(0, {project!r})
from server.__main__ import _guarded
from server.process import main
sys.exit(_guarded("xpoll", lambda: main(sys.argv[1:])))
"""
Command = Callable[..., str]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[BoardSite]:
    """A path blue with a process fetch, and xpoll as a command; whatever was started is ended."""
    made = board_site(tmp_path, SqliteFile(tmp_path))
    write_resource(made, "fetch", FETCH)
    program = tmp_path / "bin" / "xpoll"
    program.parent.mkdir()
    program.write_text(XPOLL.format(python=sys.executable, project=str(PROJECT)))
    program.chmod(0o755)
    monkeypatch.setenv("OPUS_DEFINITIONS_DIR", str(tmp_path))
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.delenv("OPUS_HOME_DIR", raising=False)
    yield made
    with made.board() as board:
        for process in board.processes():
            if process.state not in manage.ENDED and process.pid != os.getpid():
                os.kill(process.pid, signal.SIGKILL)


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Command:
    """A command as a shell would call it; what it prints."""
    return partial(printed, capsys)


def write_resource(site: BoardSite, name: str, text: str) -> ResourceFile:
    file = site.directory / f"{name}.resource"
    file.write_text(text)
    return read_resource_file(file, site.paths)


def states(site: BoardSite) -> list[str]:
    with site.board() as board:
        return [process.state for process in board.processes()]


def await_states(site: BoardSite, *expected: str) -> None:
    until = time.monotonic() + PATIENCE
    while states(site) != list(expected):
        assert time.monotonic() < until, states(site)
        time.sleep(0.05)


# Processes that run


def test_from_start_to_halt(site: BoardSite, said: Command) -> None:
    lines = said(manage.start, "blue", "fetch", "3").splitlines()
    log = site.observations / "blue-fetch.log"
    assert [re.sub(r"\d+", "N", line.partition(", log")[0]) for line in lines] == [
        "started fetch on blue: holder N, pid N"
    ] * 3
    assert {line.rpartition(" ")[2] for line in lines} == {str(log)}
    await_states(site, "idle", "idle", "idle")
    with site.board() as board:
        running = board.processes()
    assert {one.holder for one in running} == {1, 2, 3}
    # On their own: whatever becomes of the terminal, they go on.
    assert all(os.getsid(one.pid) == one.pid for one in running)

    wait = ("--wait", str(PATIENCE))
    assert "suspend: fetch 2" in said(manage.suspend, "-p", "blue", "2", *wait)
    assert states(site) == ["idle", "suspended", "idle"]
    assert said(manage.suspend, "-p", "blue", "-r", "FETCH", *wait).count("was asked") == 2
    assert states(site) == ["suspended"] * 3
    said(manage.resume, "-p", "blue", "1", "3", *wait)
    assert states(site) == ["idle", "suspended", "idle"]
    assert said(manage.halt, "-p", "blue", *wait).count("was asked") == 3
    assert states(site) == ["halted"] * 3
    assert "starts on path blue" in log.read_text()


def test_copies_that_run_already_are_told(site: BoardSite, said: Command) -> None:
    with site.board() as board:
        join(board), join(board, "clean")
        board.report(join(board), "halted", None)
        told = said(manage.start, "blue", "fetch")
        assert told.startswith("fetch on blue: one of them runs already\nstarted fetch on blue: ")
    said(manage.halt, "-p", "blue", "-r", "fetch", "--wait", str(PATIENCE))


def test_the_log_is_in_the_home_directory(
    site: BoardSite, said: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPUS_HOME_DIR", str(site.directory / "home"))
    assert f"log {site.directory}/home/blue-fetch.log" in said(manage.start, "blue", "fetch")
    assert (site.directory / "home" / "blue-fetch.log").is_file()
    said(manage.halt, "-p", "blue", "--wait", str(PATIENCE))


def test_a_process_that_ends_at_once_says_why(site: BoardSite) -> None:
    write_resource(site, "fetch", FETCH.replace("OSF_OK.FE = c", "OSF_OK.FE = q"))
    with pytest.raises(LocalError, match=r"pid \d+ ended at once, exit status 3: .*OSF_OK.FE: 'q'"):
        manage.start(["blue", "fetch"])


def test_a_command_that_is_not_there_is_told(site: BoardSite) -> None:
    write_resource(site, "fetch", FETCH.replace("< xpoll", "< /nowhere/xpoll"))
    with pytest.raises(LocalError, match="TASK /nowhere/xpoll: No such file"):
        manage.start(["blue", "fetch"])


def test_nothing_starts_if_one_resource_file_is_wrong(site: BoardSite) -> None:
    (site.directory / "wrong.resource").write_text("TASK = < xpoll -p x -r wrong >\n")
    with pytest.raises(ConfigError, match="POLLING_TIME: required"):
        manage.start(["blue", "fetch", "wrong"])
    assert states(site) == []


# Words of a call


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ("fetch", {"fetch": 1}),
        ("fetch 4", {"fetch": 4}),
        ("fetch 2 clean", {"fetch": 2, "clean": 1}),
        ("fetch clean 3 fetch", {"fetch": 2, "clean": 3}),
        ("2", None),
        ("fetch 0", None),
        ("fetch 1001", None),
        ("fetch 000000001999", None),
        ("fetch 0000000004", {"fetch": 4}),
        ("fetch 2 3", None),
        ("fetch 99999999999999999999999", None),
    ],
)
def test_copies(words: str, wanted: dict[str, int] | None) -> None:
    if wanted is None:
        with pytest.raises(ConfigError, match="PROC N expected"):
            manage.copies(words.split())
    else:
        assert manage.copies(words.split()) == wanted


@pytest.mark.parametrize(
    ("task", "program", "words"),
    [
        ("xpoll -p $PATH_FILE -r fetch", "/bin/xpoll", ["/bin/xpoll", "-p", "FILE", "-r", "fetch"]),
        ("xpoll -p ${PATH_FILE} -r fetch", None,
         [sys.executable, "-m", "server", "xpoll", "-p", "FILE", "-r", "fetch"]),
        ('own "two words" $HOME;x $(id)', "/bin/xpoll",
         ["own", "two words", "$HOME;x", "$(id)"]),
        ("/opt/xpoll -r fetch", "/bin/xpoll", ["/opt/xpoll", "-r", "fetch"]),
        ("SUB[BIN]/own", None, ["/opt/bin/own"]),
    ],
)  # fmt: skip
def test_task(tmp_path: Path, task: str, program: str | None, words: list[str]) -> None:
    """$PATH_FILE is the path file, one word whatever its name; no shell sees the others."""
    site = board_site(tmp_path, SqliteFile(tmp_path))
    (tmp_path / "with blanks").mkdir()
    file = (site.directory / "blue.path").rename(tmp_path / "with blanks" / "blue.path")
    paths = read_path_file(file, {"BIN": "/opt/bin"})
    written = tmp_path / "fetch.resource"
    written.write_text(FETCH.replace("xpoll -p $PATH_FILE -r fetch", task))
    resource = read_resource_file(written, paths)
    expected = [word.replace("FILE", str(paths.path)) for word in words]
    assert manage.task_of(resource, paths, program) == expected


def _process(holder: int, name: str, state: str) -> Process:
    return Process(holder, name, "blue", "h", 7, state, "T", None, "T")


RUNNING = [
    _process(1, "fetch", "idle"), _process(2, "fetch", "absent"), _process(3, "clean", "busy"),
    _process(4, "clean", "halted"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "holders", "chosen"),
    [
        (None, [], [1, 3]),
        ("fetch", [], [1]),
        ("Clean", [], [3]),
        (None, [4, 1, 4], [4, 1]),
        ("fetch", [2], [2]),
        ("fetch", [3], "no process fetch of number 3"),
        (None, [9], "no process of number 9"),
        ("other", [], "no process other is alive"),
    ],
)
def test_chosen_processes(name: str | None, holders: list[int], chosen: list[int] | str) -> None:
    if isinstance(chosen, str):
        with pytest.raises(ConfigError, match=f"path blue: {chosen}"):
            manage.chosen_processes(RUNNING, name, holders, "blue")
    else:
        found = manage.chosen_processes(RUNNING, name, holders, "blue")
        assert [one.holder for one in found] == chosen


def test_what_is_done_already_is_told_and_not_asked(site: BoardSite, said: Command) -> None:
    with site.board() as board:
        holder = join(board)
        board.report(holder, "suspended", None)
        assert "is suspended" in said(manage.suspend, "-p", "blue")
        assert board.wishes(holder) is None
        assert "was asked" in said(manage.resume, "-p", "blue", str(holder))
        assert board.wishes(holder) == "resume"


def test_who_has_ended_is_not_asked_to_go_on(
    site: BoardSite, capsys: pytest.CaptureFixture[str]
) -> None:
    with site.board() as board:
        gone, there = join(board, "clean"), join(board)
        board.leave(gone, "halted")
        board.report(there, "suspended", None)
        with pytest.raises(ConflictError, match="none of these processes is alive"):
            manage.resume(["-p", "blue", str(gone), "--wait", "60"])
        assert board.wishes(gone) is None
        assert f"clean {gone} (pid {NOBODY} on {board.host}) has ended, halted" in (
            capsys.readouterr().out
        )
        assert manage.resume(["-p", "blue", str(gone), str(there)]) == 0
        said = capsys.readouterr().out.splitlines()
        assert ["was asked" in line for line in said] == [True, False]
        assert manage.halt(["-p", "blue", str(gone)]) == 0


@pytest.mark.parametrize("seconds", ["nan", "-1", "inf", "soon", "1e9", ""])
def test_a_wait_is_of_seconds(seconds: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        manage.halt(["-p", "blue", f"--wait={seconds}"])
    assert ended.value.code == 2
    assert "seconds from 0 to 604800 expected" in capsys.readouterr().err


def test_wait_ends_if_a_process_does_not_do_it(site: BoardSite) -> None:
    with site.board() as board:
        join(board)
        with pytest.raises(LocalError, match=r"halt: asked, but not done after 0.1 s: fetch 1"):
            manage.halt(["-p", "blue", "--wait", "0.1"])


def test_a_path_without_a_board(site: BoardSite) -> None:
    with pytest.raises(ConfigError, match="no process is alive"):
        manage.halt(["-p", "blue"])
    assert not site.observations.exists()


# Passwords (OPUS: PASSWORD, PASSWORD_PROMPT)

READER = """\
import os, sys
with open(int(os.environ["OPUS_PASSWORD_FD"]), "rb") as secret, open(sys.argv[1], "wb") as file:
    file.write(secret.read() + b" " + open("/proc/self/cmdline", "rb").read())
os.rename(sys.argv[1], sys.argv[1] + ".done")
"""


def _asks(site: BoardSite, name: str, prompt: str | None) -> str:
    """A process that writes what it was handed; returns where."""
    told = site.directory / f"{name}.told"
    (site.directory / "reader.py").write_text(READER)
    task = shlex.join([sys.executable, str(site.directory / "reader.py"), str(told)])
    asked = "" if prompt is None else f"PASSWORD_PROMPT = '{prompt}'\n"
    write_resource(site, name, f"TASK = < {task} >\nPOLLING_TIME = 1\nPASSWORD = yes\n{asked}")
    return f"{told}.done"


def _read(path: str) -> bytes:
    until = time.monotonic() + PATIENCE
    while not os.path.exists(path):
        assert time.monotonic() < until
        time.sleep(0.02)
    return Path(path).read_bytes()


def test_a_password_is_asked_for_once_a_prompt(
    site: BoardSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts: list[str] = []

    def getpass(prompt: str) -> str:
        prompts.append(prompt)
        return f"secret of {prompt}"

    monkeypatch.setattr("getpass.getpass", getpass)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    files = [_asks(site, name, prompt) for name, prompt in (("a", "DB"), ("b", "DB"), ("c", None))]
    manage.start(["blue", "a", "b", "c"])
    assert prompts == ["Password: ", "DB: "]
    for file, prompt in zip(files, ("DB: ", "DB: ", "Password: "), strict=True):
        secret, _, command = _read(file).partition(b" /")
        assert secret == f"secret of {prompt}".encode()
        assert b"secret" not in command


def test_a_password_comes_by_a_descriptor(site: BoardSite, monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    os.write(writing, b"of the night\n")
    os.close(writing)
    monkeypatch.setenv(PASSWORD_FD, str(reading))
    file = _asks(site, "a", "DB")
    manage.start(["blue", "a"])
    assert _read(file).startswith(b"of the night /")


@pytest.mark.parametrize("descriptor", [None, "none", "-1", "987654"])
def test_a_password_that_nobody_gives(
    site: BoardSite, monkeypatch: pytest.MonkeyPatch, descriptor: str | None
) -> None:
    if descriptor is not None:
        monkeypatch.setenv(PASSWORD_FD, descriptor)
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    _asks(site, "a", "DB")
    with pytest.raises(ConfigError, match=PASSWORD_FD):
        manage.start(["blue", "a"])
