"""dsreg: options, exit status, the one line of what was done."""

import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from client import PATIENCE, Ran
from commands import typed
from filesets import CONTENT, Store, new_store
from places import tell_place

from server.database import connect
from server.site import Place, SqliteFile

PROJECT = Path(__file__).parent.parent


class Dsreg:
    """The command in this process, for a store whose place the environment tells."""

    def __init__(self, store: Store, capsys: pytest.CaptureFixture[str]) -> None:
        self.store = store
        self._capsys = capsys

    def __call__(self, *arguments: str) -> Ran:
        """Exit status, standard output, standard error."""
        ran = typed(self._capsys, "dsreg", *arguments)
        assert "Traceback" not in ran.stderr
        return ran

    def add(self, *arguments: str) -> Ran:
        """Register o1 in gpc1."""
        return self("--add", "o1", "--product", "gpc1", "--type", "IPP-DIST", *arguments)

    def listed(self, base: str = "") -> str:
        """A file with the list of all files that lie ready, their paths below `base`."""
        path = self.store.source.parent / "list"
        lines = [f"{base}{name}|{len(data)}||fits|\n" for name, data in CONTENT.items()]
        path.write_text("# FILE|BYTES|MD5|TYPE|\n" + "".join(lines))
        return str(path)


@pytest.fixture
def dsreg(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Dsreg]:
    """The command and an empty product gpc1, in a catalogue that is a file."""
    with new_store(SqliteFile(tmp_path / "catalogue.db"), tmp_path) as store:
        tell_place(monkeypatch, store.site.root, store.site.database)
        yield Dsreg(store, capsys)


TOTAL = sum(map(len, CONTENT.values()))
DONE = f"registered gpc1/o1: 3 files, {TOTAL} bytes\n"


def test_copies_over_either_database(
    place: Place,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with new_store(place, tmp_path) as store:
        tell_place(monkeypatch, store.site.root, store.site.database)
        dsreg = Dsreg(store, capsys)
        data = str(store.source)
        assert dsreg.add("--list", dsreg.listed(), "--copy", "--datapath", data) == (0, DONE, "")
        store.whole()
        assert dsreg("--del", "o1", "--product", "gpc1", "--rm") == (
            0, "withdrew gpc1/o1 and removed its directory\n", "",
        )  # fmt: skip
        store.nothing()


def test_links_from_absolute_paths(dsreg: Dsreg) -> None:
    path = dsreg.listed(f"{dsreg.store.source}/")
    assert dsreg.add("--list", path, "--link", "--abspath") == (0, DONE, "")
    dsreg.store.whole()
    assert (dsreg.store.directory / "a.fits").is_symlink()


def test_in_place_with_the_list_on_standard_input(
    dsreg: Dsreg, monkeypatch: pytest.MonkeyPatch
) -> None:
    dsreg.store.put()
    data = Path(dsreg.listed()).read_bytes()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    assert dsreg.add("--list", "-", "--hide") == (0, DONE, "")
    dsreg.store.whole()
    found = dsreg.store.found()
    assert found
    assert found.hidden


def test_a_relative_data_path_is_below_the_current_directory(
    dsreg: Dsreg, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(dsreg.store.source.parent)
    assert dsreg.add("--list", dsreg.listed(), "--link", "--datapath", "source")[0] == 0
    dsreg.store.whole()


def test_empty_with_values_of_columns_and_single_dashes(dsreg: Dsreg) -> None:
    done = dsreg(
        "-add", "o1", "-product", "gpc1", "-type", "notset", "-empty",
        "-ps0", "3", "-ps1", "null", "--ps2", "x'; DROP TABLE dsFile; --",
    )  # fmt: skip
    assert done == (0, "registered gpc1/o1: 0 files, 0 bytes\n", "")
    found = dsreg.store.found()
    assert found
    assert found.values == ("3", None, "x'; DROP TABLE dsFile; --")


ADD = ("--add", "o1", "--product", "gpc1", "--type", "IPP-DIST")
DELETE = ("--del", "o1", "--product", "gpc1")
REFUSALS: dict[str, tuple[Sequence[str], int, str]] = {
    "no action": (["--product", "gpc1"], 3, "one of --add, --del is missing"),
    "no options": ([], 3, "one of --add, --del is missing"),
    "both actions": ([*ADD, "--del", "o1"], 2, "not allowed with argument"),
    "unknown option": ([*ADD, "--empty", "--copies"], 2, "unrecognized arguments: --copies"),
    "abbreviated": ([*ADD, "--empt"], 2, "unrecognized arguments: --empt"),
    "list and empty": ([*ADD, "--empty", "--list", "-"], 2, "not allowed with argument"),
    "copy and link": ([*ADD, "--copy", "--link"], 2, "not allowed with argument"),
    "both paths": ([*ADD, "--abspath", "--datapath", "."], 2, "not allowed with argument"),
    "no product": (["--add", "o1", "--type", "OBJECT", "--empty"], 3, "--product is missing"),
    "nothing": (["--add", "o1"], 3, "--product is missing\n--type is missing\n--list is missing"),
    "no path": ([*ADD, "--list", "-", "--copy"], 3, "--datapath DIR, or --abspath, is missing"),
    "path alone": ([*ADD, "--list", "-", "--abspath"], 3, "--copy or --link is missing"),
    "empty copy": ([*ADD, "--empty", "--copy"], 3, "--empty goes with none of --copy"),
    "rm": ([*ADD, "--empty", "--rm"], 3, "--rm does not go with --add"),
    "del type": ([*DELETE, "--type", "OBJECT"], 3, "--type does not go with --del"),
    "del value": ([*DELETE, "--ps3", "x"], 3, "--ps3 does not go with --del"),
    "type": ([*ADD[:-1], "IPP", "--empty"], 3, "fileset o1: one of the types OBJECT, BIAS"),
    "name": (["--add", "../o1", *ADD[2:], "--empty"], 3, "fileset: a name with characters"),
    "value": ([*ADD, "--empty", "--ps1", "a|b"], 3, "column stage holds '|' or '#'"),
    "too many": ([*ADD, "--empty", "--ps3", "x"], 3, "4 values, but its product has the columns"),
    "other product": ([*ADD[:3], "gpc2", *ADD[4:], "--empty"], 1, "product gpc2: not in the cat"),
    "not there": (DELETE, 1, "gpc1/o1: not registered"),
    "no list": ([*ADD, "--list", "/nowhere/list"], 2, "/nowhere/list: No such file"),
    "no store": ([*ADD, "--empty", "--dsroot", "/nowhere"], 3, "/nowhere is none"),
    "no catalogue": ([*ADD, "--empty", "--dbname", "/nowhere/db"], 3, "no catalogue at /nowhere"),
}  # fmt: skip


@pytest.mark.parametrize(("arguments", "code", "reason"), REFUSALS.values(), ids=REFUSALS)
def test_what_is_wrong_is_refused(
    dsreg: Dsreg, arguments: Sequence[str], code: int, reason: str
) -> None:
    exit_status, out, err = dsreg(*arguments)
    assert (exit_status, out) == (code, "")
    assert reason in err
    assert dsreg.store.found() is None
    assert not dsreg.store.directory.exists()


def test_every_wrong_line_of_the_list_is_told(dsreg: Dsreg) -> None:
    path = Path(dsreg.listed())
    path.write_text("a|1||fits\n/b|1||fit|\n/c.fits|x||fits|\n.d|1||fits|\n", encoding="utf-8")
    code, out, err = dsreg.add("--list", str(path), "--copy", "--abspath", "--ps7", "x")
    assert (code, out) == (3, "")
    for told in ("line 1: ", "line 2: ", "line 3: ", "line 4: ", "8 values"):
        assert told in err
    dsreg.store.nothing_begun()


def test_a_list_without_files_is_refused(dsreg: Dsreg) -> None:
    path = Path(dsreg.listed())
    path.write_text("# FILE|BYTES|MD5|TYPE|\n")
    code, _, err = dsreg.add("--list", str(path), "--copy", "--abspath")
    assert code == 3
    assert "--empty" in err


def test_a_file_that_differs_from_its_line_is_faulty_data(dsreg: Dsreg) -> None:
    path = Path(dsreg.listed(f"{dsreg.store.source}/"))
    path.write_text(path.read_text().replace("|0|", "|1|"))
    code, _, err = dsreg.add("--list", str(path), "--copy", "--abspath")
    assert code == 5
    assert "has 0 bytes, but its line says 1" in err
    dsreg.store.nothing()


def test_a_second_registration_is_a_conflict(dsreg: Dsreg) -> None:
    assert dsreg.add("--empty")[0] == 0
    code, _, err = dsreg.add("--empty")
    assert code == 1
    assert err == (
        "dsreg: gpc1/o1: registered already; register it under another name, or withdraw that one:"
        " dsreg --del o1 --product gpc1\n"
    )


def test_a_forced_withdrawal_of_nothing_is_no_error(dsreg: Dsreg) -> None:
    dsreg.store.put()
    done = dsreg(*DELETE, "--force", "--rm")
    assert done == (0, "gpc1/o1 was not registered; removed its directory\n", "")
    dsreg.store.nothing()
    assert dsreg(*DELETE, "--force") == (0, "gpc1/o1 was not registered\n", "")


def test_a_locked_catalogue_is_told(dsreg: Dsreg, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.database.BUSY", 0.05)
    other = connect(dsreg.store.site.database)
    with other.write():
        code, _, err = dsreg.add("--empty")
    other.close()
    assert code == 2
    assert "another process has been writing for 0.05 s; try again" in err
    dsreg.store.nothing()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda one: one.name)
def test_a_signal_undoes_what_was_begun(dsreg: Dsreg, number: signal.Signals) -> None:
    """The last source is so large that the signal comes while it is copied."""
    with (dsreg.store.source / "c.text").open("wb") as large:
        large.truncate(1 << 31)
    path = Path(dsreg.listed(f"{dsreg.store.source}/"))
    path.write_text(path.read_text().replace("|0|", "||"))
    process = subprocess.Popen(
        [sys.executable, "-m", "server", "dsreg", *ADD, "--list", path, "--copy", "--abspath"],
        cwd=PROJECT, env=dict(os.environ), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    while not (dsreg.store.directory / "b.tgz").exists():
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(number)
    assert process.communicate(timeout=PATIENCE) == (b"", b"")
    assert process.returncode == 128 + number
    dsreg.store.nothing()


def test_a_withdrawal_says_whether_there_was_a_directory(dsreg: Dsreg) -> None:
    assert dsreg.add("--empty")[0] == 0
    dsreg.store.directory.rmdir()
    assert dsreg(*DELETE, "--rm") == (0, "withdrew gpc1/o1, which had no directory\n", "")
