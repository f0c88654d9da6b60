"""The commands as an ordinary user runs them, with streams closed or full, and paths shut."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from client import PATIENCE, PROJECT, Ran
from places import data_store

NOBODY = 65534
ADD = ("dsprodtool", "--add", "gpc1", "--type", "ipp-dist", "--description", "Exposures")
REGISTER = ("dsreg", "--add", "o1", "--product", "gpc1", "--type", "IPP-DIST", "--empty")


class User:
    """Whoever is not root, with a store of their own in `directory`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.root = data_store(directory)
        self.python = sys.executable
        self.shut = directory / "shut"
        self.shut.mkdir()
        self.own(directory, self.root, self.shut)
        self.shut.chmod(0)

    def own(self, *paths: Path) -> None:
        """Give files to the user."""
        for path in paths:
            if os.geteuid() == 0:
                os.chown(path, NOBODY, NOBODY)

    def command(self, *arguments: str, shell: str = 'exec "$@"') -> Ran:
        """Run `python -m server …` by a line of shell in which it is `$@`."""
        return self.run(shell, "-m", "server", *arguments)

    def run(self, shell: str, *arguments: str, may_fail: bool = False) -> Ran:
        """Run Python by a line of shell in which it is `$@`."""
        who = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}
        kept = {name: value for name, value in os.environ.items() if not name.startswith("DS_")}
        ended = subprocess.run(
            ["/bin/sh", "-c", shell, "sh", self.python, *arguments],
            cwd=self.directory,
            env={
                **kept, "DATA_STORE_ROOT": str(self.root), "PYTHONPATH": str(PROJECT),
                "PYTHONDONTWRITEBYTECODE": "1",
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
            **who,  # type: ignore[call-overload]
        )  # fmt: skip
        assert may_fail or "Traceback" not in ended.stderr
        assert "Exception ignored" not in ended.stderr
        return Ran(ended.returncode, ended.stdout, ended.stderr)

    def finds_python(self) -> bool:
        """Look for a Python that the user may run: root's own often stands in root's home."""
        code = "import sys, server; sys.exit(sys.version_info < (3, 11))"
        for python in (sys.executable, "/usr/local/bin/python3", "/usr/bin/python3"):
            self.python = python
            if self.run('exec "$@"', "-c", code, may_fail=True).exit == 0:
                return True
        return False

    def must(self, *arguments: str) -> None:
        """Run a command that has to succeed."""
        ran = self.command(*arguments)
        assert ran.exit == 0, ran.stderr


@pytest.fixture
def user() -> Iterator[User]:
    """A user and an empty store; pytest's own directories are shut for all but their owner."""
    with tempfile.TemporaryDirectory(prefix="user.") as directory:
        someone = User(Path(directory))
        if not someone.finds_python():
            pytest.skip("an ordinary user can run no Python 3.11 here, or not read this checkout")
        yield someone


# --- closed streams --------------------------------------------------------------------------


CLOSED = [">&-", "2>&-", "<&-", "<&- >&- 2>&-"]


@pytest.mark.parametrize("closed", CLOSED)
def test_closed_streams_are_as_dev_null(user: User, closed: str) -> None:
    shell = f'exec "$@" {closed}'
    assert user.command(*ADD, shell=shell).exit == 0
    assert user.command(*REGISTER, shell=shell).exit == 0
    told = user.command(*REGISTER, shell=shell)
    assert told.exit == 1
    assert ("registered already" in told.stderr) == ("2>" not in closed)
    assert user.command("user", "list", shell=shell).exit == 0
    assert user.command("dsprodtool", "--del", "gpc1", shell=shell).exit == 3
    assert user.command(shell=shell).exit == 2
    assert user.command("--help", shell=shell).exit == 0


@pytest.mark.parametrize("closed", CLOSED)
def test_the_installed_commands_can_do_without_streams(user: User, closed: str) -> None:
    for name, *options in (ADD, REGISTER):
        code = (
            "import sys; from server.__main__ import installed;"
            f" sys.argv[0] = '/usr/bin/{name}'; sys.exit(installed())"
        )
        assert user.run(f'exec "$@" {closed}', "-c", code, *options).exit == 0


def test_no_file_of_ours_takes_the_number_of_a_closed_stream(user: User) -> None:
    code = (
        "import os, sys; from server.__main__ import main; main(['--help']);"
        " sys.exit(min(os.open('/', os.O_RDONLY), 3))"
    )
    assert user.run('exec "$@" <&- >&- 2>&-', "-c", code).exit == 3


def test_a_list_on_a_closed_standard_input_is_empty(user: User) -> None:
    user.must(*ADD)
    told = user.command(*REGISTER[:-1], "--list", "-", shell='exec "$@" <&-')
    assert (told.exit, told.stdout) == (3, "")
    assert "the list names no file" in told.stderr


# --- output that nobody takes ----------------------------------------------------------------


DONE: dict[str, tuple[Sequence[str], str]] = {
    "product": ((*ADD[:2], "gpc2", *ADD[3:]), "added product gpc2"),
    "fileset": (REGISTER, "registered gpc1/o1: 0 files"),
    "network": (("network", "add", "::1", "--product", "gpc1"), "network ::1/128 added to gpc1"),
}


@pytest.mark.parametrize(("command", "done"), DONE.values(), ids=DONE)
def test_what_is_done_but_cannot_be_printed_is_told(
    user: User, command: Sequence[str], done: str
) -> None:
    user.must(*ADD)
    told = user.command(*command, shell='exec "$@" >/dev/full')
    assert told.exit == 2
    (line,) = told.stderr.splitlines()
    assert "done, but it could not be printed (No space left on device): " in line
    assert done in line


@pytest.mark.parametrize("command", [("user", "list"), ("network", "list"), ("nginx-conf",)])
def test_what_cannot_be_shown_is_told(user: User, command: Sequence[str]) -> None:
    user.must(*ADD)
    told = user.command(*command, shell='exec "$@" >/dev/full')
    assert (told.exit, told.stderr) == (
        2, f"{command[0]}: standard output: No space left on device\n",
    )  # fmt: skip


@pytest.mark.parametrize("command", [(), ("dsreg",), ("nginx-conf",)], ids=str)
def test_help_that_nobody_takes_is_told(user: User, command: Sequence[str]) -> None:
    told = user.command(*command, "--help", shell='exec "$@" >/dev/full')
    assert told.exit == 2
    (line,) = told.stderr.splitlines()
    assert line.endswith(": No space left on device")


def test_a_name_that_standard_output_cannot_spell(user: User) -> None:
    root = os.fsdecode(os.fsencode(user.directory) + b"/\xff")
    Path(root).mkdir()
    user.own(Path(root))
    shell = 'export PYTHONIOENCODING=utf-8:strict; exec "$@"'
    told = user.command(*ADD, "--dsroot", root, shell=shell)
    assert (told.exit, told.stdout) == (2, "")
    assert "done, but it could not be printed" in told.stderr
    assert (Path(root) / "gpc1").is_dir()


def test_messages_that_nobody_takes_change_no_status(user: User) -> None:
    assert user.command(*REGISTER, shell='exec "$@" 2>/dev/full').exit == 3
    assert user.command("what", shell='exec "$@" 2>/dev/full').exit == 2


# --- directories that are shut, gone or no paths at all --------------------------------------


@pytest.mark.parametrize("command", [ADD, REGISTER, ("user", "list")], ids=lambda one: one[0])
def test_a_directory_that_may_not_be_read_is_told_in_a_line(
    user: User, command: Sequence[str]
) -> None:
    user.must(*ADD)
    for option in ("--dsroot", "--dbname", "--site"):
        told = user.command(*command, option, f"{user.shut}/inner")
        assert (told.exit, told.stdout) in ((2, ""), (3, ""))
        (line,) = told.stderr.splitlines()
        assert f"{user.shut}/inner" in line


def test_a_path_longer_than_any_is_told_in_a_line(user: User) -> None:
    told = user.command(*ADD, "--dsroot", "/" + "x" * 5000)
    assert (told.exit, told.stdout) == (2, "")
    assert told.stderr.endswith(": File name too long\n")


def test_a_name_longer_than_any_is_refused(user: User) -> None:
    user.must(*ADD)
    for name, product in (("x" * 300, "gpc1"), ("o1", "x" * 300)):
        told = user.command("dsreg", "--del", name, "--product", product)
        assert (told.exit, told.stdout) == (3, "")
        assert "a name of 300 bytes (at most 255)" in told.stderr


def test_a_current_directory_that_is_gone_is_told(user: User) -> None:
    code = "import sys; from server.__main__ import main; sys.exit(main(sys.argv[1:]))"
    for option in ("--dsroot", "--dbname"):
        gone = 'mkdir gone && cd gone && rmdir ../gone && exec "$@"'
        told = user.run(gone, "-c", code, *ADD, option, "there")
        assert (told.exit, told.stdout) == (2, "")
        assert "there" in told.stderr
        assert "No such file or directory" in told.stderr
    user.must(*ADD)
    told = user.run(
        gone, "-c", code, *REGISTER[:-1], "--list", "/dev/null", "--copy", "--datapath", "there"
    )
    assert (told.exit, told.stdout) == (2, "")
    assert "there" in told.stderr


# --- directories that cannot be removed ------------------------------------------------------


def stuck(user: User) -> Path:
    """A product with a fileset whose directory the user may not empty."""
    user.must(*ADD)
    user.must(*REGISTER)
    directory = user.root / "gpc1/o1/inner"
    directory.mkdir()
    (directory / "a").write_bytes(b"")
    user.own(directory)
    directory.chmod(0o500)
    return directory


def test_a_fileset_withdrawn_but_not_removed_is_told_and_finished(user: User) -> None:
    inner = stuck(user)
    command = ("dsreg", "--del", "o1", "--product", "gpc1", "--rm")
    told = user.command(*command)
    assert (told.exit, told.stdout) == (2, "")
    assert "gpc1/o1 is withdrawn already" in told.stderr
    assert f"its directory {user.root}/gpc1/o1 could not be removed" in told.stderr
    assert "Permission denied" in told.stderr
    assert "dsreg --del o1 --product gpc1 --rm --force" in told.stderr
    inner.chmod(0o700)
    assert user.command(*command, "--force") == Ran(
        0, "gpc1/o1 was not registered; removed its directory\n", ""
    )
    assert user.command(*command, "--force") == Ran(0, "gpc1/o1 was not registered\n", "")


def test_a_product_deleted_but_not_removed_is_told_and_finished(user: User) -> None:
    inner = stuck(user)
    command = ("dsprodtool", "--del", "gpc1", "--rm", "--yes")
    told = user.command(*command)
    assert (told.exit, told.stdout) == (2, "")
    assert "product gpc1 is deleted already" in told.stderr
    assert f"its directory {user.root}/gpc1 could not be removed" in told.stderr
    assert "Permission denied" in told.stderr
    assert "dsprodtool --del gpc1 --rm --force" in told.stderr
    told = user.command(*command)
    assert told.exit == 1
    assert "--rm --force" in told.stderr
    inner.chmod(0o700)
    assert user.command(*command, "--force") == Ran(
        0, "product gpc1 was not in the catalogue; removed its directory\n", ""
    )
    assert not (user.root / "gpc1").exists()
    assert user.command(*command, "--force") == Ran(
        0, "product gpc1 was not in the catalogue\n", ""
    )
