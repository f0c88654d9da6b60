"""The rules of the blackboard and of the managers: a test each, which quotes the rule (OPUS, "The
blackboard")."""

import os
import re
import signal
import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from boards import FETCHING, TIME, TYPE, WAITING, BoardSite, fill, join, letters, named_site
from client import PATIENCE, wait_for
from commands import printed
from xpolls import ENTRIES, Pipeline

from mirror.errors import ConfigError
from server.blackboard import Key
from server.opus import manage, osf, reap, status
from server.site import SqliteFile
from server.store_lock import ConflictError

Command = Callable[..., str]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BoardSite:
    """A path blue on the definitions path, with the stages LI, FE and DN."""
    return named_site(tmp_path, SqliteFile(tmp_path), monkeypatch)


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    """A command as a shell would call it; what it prints."""
    return partial(printed, capsys)


def test_an_entry(site: BoardSite) -> None:
    """Rule: One entry (OSF) per dataset: start time, dataset, DATA_ID (data type), DCF_NUM, one
    state letter per stage of the path."""
    with site.board() as board:
        entry = board.create(Key("fs0", TYPE), {"FE": "w"})
        assert re.fullmatch(TIME, entry.start)
        assert (entry.key.dataset, entry.key.data_id, entry.key.dcf) == ("fs0", TYPE, "000")
        assert entry.states == {"LI": "_", "FE": "w", "DN": "_"}
        assert board.find(Key("fs0", TYPE)) == entry
        with pytest.raises(ConflictError):
            board.create(Key("fs0", TYPE), {})


@pytest.mark.parametrize(("stored", "asked"), [("w", "W"), ("W", "w")])
def test_state_letters(site: BoardSite, stored: str, asked: str) -> None:
    """Rule: State letters are compared without case and written as given (OPUS, "Process resource
    files")."""
    match = WAITING.__class__(1, {"FE": asked}, None, None, 1)
    with site.board() as board:
        (key,) = fill(board, 1, {"FE": stored})
        assert letters(board.find(key)) == f"_{stored}_"
        (entry,) = board.claim(match, {"FE": "P"}, 1, join(board))
        assert letters(entry) == letters(board.find(key)) == "_P_"


def test_a_claim_is_won_by_exactly_one(site: BoardSite) -> None:
    """Rule: Many processes on many machines read and change it at once; a claim must be won by
    exactly one."""
    with site.board() as board:
        keys = fill(board, 60)
        running = [site.start("claim", "3") for _ in range(3)]
        mine: list[str] = []
        holder = join(board)
        while found := board.claim(WAITING, FETCHING, 2, holder):
            for entry in found:
                board.settle(holder, entry.key, {"FE": "c"})
                mine.append(entry.key.dataset)
        for process in running:
            out, _ = process.communicate(timeout=PATIENCE)
            assert process.returncode == 0
            mine += out.split()[1:]
    assert sorted(mine) == sorted(key.dataset for key in keys)


def test_osf(site: BoardSite, command: Command) -> None:
    """Rule: osf create|list|update|delete|history -p PATH [-f DATASET] [-t TYPE] [-n DCF]
    [-s STATES]: STATES is one letter per stage in stage order (cw____), or XX=s,YY=s in update;
    -f, -t, -n together name an entry, DCF defaults to 000; osf list prints one line an entry:
    start time, dataset, DATA_ID, DCF, then the letters of its stages, blank separated, under a #
    header."""

    def said(action: str, *words: str) -> list[str]:
        return command(osf.main, action, "-p", "blue", *words).splitlines()

    said("create", "-f", "fs0", "-t", TYPE, "-s", "cw_")
    said("create", "-f", "fs0", "-t", TYPE, "-n", "001", "-s", "w__")
    said("create", "-f", "fs0", "-t", "raw")
    said("update", "-f", "fs0", "-t", TYPE, "-s", "FE=P,DN=C")
    said("update", "-f", "fs0", "-t", TYPE, "-n", "001", "-s", "cx_")
    head, *lines = said("list")
    assert head == "# start dataset DATA_ID DCF LI FE DN"
    assert [line.split(" ")[1:] for line in lines] == [
        ["fs0", "fst", "000", "c", "P", "C"],
        ["fs0", "fst", "001", "c", "x", "_"],
        ["fs0", "raw", "000", "_", "_", "_"],
    ]
    assert all(re.match(f"{TIME} fs0 ", line) for line in lines)
    said("delete", "-f", "fs0", "-t", TYPE)
    assert [line.split()[2:4] for line in said("list")[1:]] == [["fst", "001"], ["raw", "000"]]
    changes = [line.split()[3:] for line in said("history", "-f", "fs0", "-t", TYPE)[1:]]
    entry = ["fs0", "fst", "000"]
    assert changes == [
        ["created", *entry, "LI", "_", "c"], ["created", *entry, "FE", "_", "w"],
        ["updated", *entry, "FE", "w", "P"], ["updated", *entry, "DN", "_", "C"],
        ["deleted", *entry, "-", "-", "-"],
    ]  # fmt: skip
    for words in (["-f", "fs0"], ["-t", TYPE]):
        with pytest.raises(ConfigError, match="name an entry"):
            said("delete", *words)


def test_what_the_managers_show(site: BoardSite, command: Command) -> None:
    """Rule: The observation manager (OMG) shows entries, the process manager (PMG) processes:
    state, host, pid, time, path."""
    with site.board() as board:
        fill(board, 1)
        board.report(join(board, "fetch", pid=os.getpid()), "iowait", None)
        text = re.sub(" {2,}", "  ", command(status.main, "-p", "blue"))
    assert re.search(r"^path blue: ", text, re.M)
    shown = f"fetch  PRO  iowait  {TIME}  {re.escape(socket.gethostname())}  {os.getpid()}  "
    assert re.search(shown, text)
    assert re.search(f"{TIME}  fs0  fst  000  _  w  _", text)


def test_what_the_process_manager_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Command
) -> None:
    """Rule: it can start, halt, suspend and resume them."""
    pipeline = Pipeline(tmp_path)
    for name, value in pipeline.environment().items():
        monkeypatch.setenv(name, value)
    pipeline.resource("", ENTRIES + "XPOLL_STATE.00 = OSF_DONE\n")
    wait = ("-p", "night", "--wait", str(PATIENCE))
    said = command(manage.start, "night", "proc")
    assert "started proc on night: holder 1, pid " in said
    try:
        pipeline.wait_for_state("idle")
        command(manage.suspend, *wait)
        pipeline.post("o1")
        assert (pipeline.processes()[0].state, pipeline.letters()) == ("suspended", {"o1": "w_"})
        command(manage.resume, *wait)
        wait_for(lambda: pipeline.letters() == {"o1": "cw"})
        command(manage.halt, *wait)
        assert [one.state for one in pipeline.processes()] == ["halted"]
    except BaseException:
        # It would go on by itself.
        os.kill(pipeline.processes()[0].pid, signal.SIGKILL)
        raise


def test_a_process_that_died_without_a_word(site: BoardSite, command: Command) -> None:
    """Rule: A process that died without a word is shown absent, and its claimed items can be
    returned."""
    file = site.directory / "a.in"
    file.touch()
    with site.board() as board:
        fill(board, 2)
        with site.running("hold", "1", str(file)) as process:
            assert [letters(one) for one in board.entries()] == ["_p_", "_w_"]
            assert command(reap.main, "-p", "blue") == ""
            process.kill()
            process.wait()
            assert " absent " in command(status.main, "-p", "blue", "--processes")
        said = command(reap.main, "-p", "blue")
        assert [line.split(":")[0] for line in said.splitlines()] == [
            "entry fs0 fst 000", f"file {file}",
        ]  # fmt: skip
        assert [letters(one) for one in board.entries()] == ["_w_", "_w_"]
    assert file.exists()
