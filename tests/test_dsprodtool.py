"""dsprodtool: products added, changed, deleted, and what is refused."""

import io
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from commands import Tool
from places import data_store, tell_place

from server import dsprodtool
from server.catalogue import (
    NewFileset,
    Product,
    add_fileset,
    add_product,
    catalogue,
    find_product,
)
from server.database import Database, Duplicate
from server.people.grants import add_network, save_user
from server.site import CATALOGUE, Place, SqliteFile
from server.store_lock import LOCK_FILE, hold_fileset

ADD = ("--add", "gpc1", "--type", "ipp-dist", "--description", "Exposures")


class Dsprodtool(Tool):
    """The command, for a site whose place the environment tells."""

    name = "dsprodtool"

    def product(self, name: str = "gpc1") -> Product | None:
        """The product in the catalogue."""
        with catalogue(self.place) as database:
            return find_product(database, name)

    def fill(self) -> None:
        """Register a fileset."""
        with catalogue(self.place) as database:
            add_fileset(database, "gpc1", NewFileset("o1", "IPP-DIST"), [])
        (self.root / "gpc1" / "o1").mkdir()
        (self.root / "gpc1" / "o1" / "a").write_bytes(b"")

    def names(self) -> set[str]:
        """What is in DATA_STORE_ROOT beside the catalogue."""
        return {path.name for path in self.root.iterdir() if not path.name.startswith(CATALOGUE)}


@pytest.fixture
def command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Dsprodtool:
    """The command, for a site without a catalogue."""
    root = data_store(tmp_path)
    monkeypatch.setenv("DATA_STORE_ROOT", str(root))
    return Dsprodtool(root, SqliteFile(root / CATALOGUE), capsys)


@pytest.fixture
def gpc1(command: Dsprodtool) -> Dsprodtool:
    """The command, for a site with the product gpc1."""
    assert command(*ADD, "--ps0", "target_id", "--ps1", "stage")[0] == 0
    return command


def answer(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Let a person at a terminal type `text`."""
    terminal = io.StringIO(text)
    terminal.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr(sys, "stdin", terminal)


def test_a_product_s_life_over_either_database(
    place: Place,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    root = data_store(tmp_path)
    tell_place(monkeypatch, root, place)
    command = Dsprodtool(root, place, capsys)
    assert command(*ADD, "--hide", "--ps0", "target_id", "--ps1", "stage") == (
        0, f"added product gpc1, ipp-dist, in {root / 'gpc1'}\n", "",
    )  # fmt: skip
    product = command.product()
    assert product
    assert (product.type, product.description) == ("ipp-dist", "Exposures")
    assert (product.columns, product.hidden) == (("target_id", "stage"), True)
    assert (root / "gpc1").is_dir()
    command.fill()
    assert command("--del", "gpc1", "--rm", "--yes") == (
        0, "deleted product gpc1 with 1 fileset and its directory\n", "",
    )  # fmt: skip
    assert command.product() is None
    assert command.names() == {LOCK_FILE}


def test_adding_again_the_same_is_no_error(gpc1: Dsprodtool) -> None:
    (gpc1.root / "gpc1").rmdir()
    assert gpc1(*ADD, "--ps0", "target_id", "--ps1", "stage") == (
        0, "product gpc1 is there already, just as asked for\n", "",
    )  # fmt: skip
    assert (gpc1.root / "gpc1").is_dir()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("--ps2", "x"), "its columns: 'target_id|stage', not 'target_id|stage|x'"),
        (("--hide",), "its hidden: False, not True"),
        (("--type", "table"), "its type: 'ipp-dist', not 'table'"),
        (("--description", "other"), "its description: 'Exposures', not 'other'"),
    ],
)
def test_adding_again_another_is_refused(
    gpc1: Dsprodtool, change: Sequence[str], told: str
) -> None:
    before = gpc1.product()
    code, out, err = gpc1(*ADD, "--ps0", "target_id", "--ps1", "stage", *change)
    assert (code, out) == (1, "")
    assert told in err
    assert gpc1.product() == before


def test_names_that_differ_only_by_case_are_refused(gpc1: Dsprodtool) -> None:
    code, _, err = gpc1("--add", "GPC1", *ADD[2:])
    assert code == 1
    assert "differs only by case" in err
    assert gpc1.names() == {LOCK_FILE, "gpc1"}


def test_a_product_changes(gpc1: Dsprodtool) -> None:
    updated = (0, "updated product gpc1\n", "")
    assert gpc1("--update", "gpc1", "--hide") == updated
    product = gpc1.product()
    assert product
    assert (product.hidden, product.description) == (True, "Exposures")
    assert gpc1("--update", "gpc1", "--show", "--description", "x'; --") == updated
    product = gpc1.product()
    assert product
    assert (product.hidden, product.description) == (False, "x'; --")


REFUSALS: dict[str, tuple[Sequence[str], int, str]] = {
    "no action": ([], 3, "one of --add, --update, --del is missing"),
    "no action, an option": (["--rm"], 3, "one of --add, --update, --del is missing"),
    "unknown option": ([*ADD, "--what"], 2, "unrecognized arguments: --what"),
    "both actions": ([*ADD, "--del", "gpc1"], 2, "not allowed with argument"),
    "hide and show": (["--update", "gpc1", "--hide", "--show"], 2, "not allowed with argument"),
    "nothing": (["--add", "gpc2"], 3, "--type is missing\n--description is missing"),
    "no change": (["--update", "gpc1"], 3, "needs at least one of"),
    "yes": ([*ADD, "--yes"], 3, "--yes does not go with --add"),
    "type of it": (["--update", "gpc1", "--type", "x"], 3, "--type does not go with --update"),
    "label of it": (["--del", "gpc1", "--ps0", "x"], 3, "--ps0 does not go with --del"),
    "type": (["--add", "gpc2", "--type", "x", "--description", "x"], 3, "one of the types image"),
    "name": (["--add", "healthz", *ADD[2:]], 3, "a page of this name"),
    "prefix of nginx": (["--add", "_files", *ADD[2:]], 3, "product _files: "),
    "open": ([*ADD, "--open"], 3, "--open does not go with --add"),
    "force": (["--update", "gpc1", "--force"], 3, "--force does not go with --update"),
    "descending": (["--add", "gpc2", *ADD[2:], "--ps0=-a"], 3, "begins with '-'"),
    "path": (["--add", "../gpc2", *ADD[2:]], 3, "characters outside"),
    "del path": (["--del", "..", "--rm", "--yes"], 3, "'..' as a name"),
    "description": ([*ADD[:-1], "a|b"], 3, "the description holds '|' or '#'"),
    "new description": (["--update", "gpc1", "--description", ""], 3, "the description is empty"),
    "gap": (["--add", "gpc2", *ADD[2:], "--ps0", "a", "--ps2", "b"], 3, "column 1 is missing"),
    "update other": (["--update", "gpc2", "--hide"], 1, "gpc2: not in the catalogue"),
    "del other": (["--del", "gpc2", "--yes"], 1, "gpc2: not in the catalogue"),
    "no terminal": (["--del", "gpc1", "--rm"], 3, "--yes is missing"),
}  # fmt: skip


@pytest.mark.parametrize(("arguments", "code", "reason"), REFUSALS.values(), ids=REFUSALS)
def test_what_is_wrong_is_refused(
    gpc1: Dsprodtool, arguments: Sequence[str], code: int, reason: str
) -> None:
    before = gpc1.product()
    exit_status, out, err = gpc1(*arguments)
    assert (exit_status, out) == (code, "")
    assert reason in err
    assert gpc1.product() == before
    assert gpc1.names() == {LOCK_FILE, "gpc1"}


def test_a_person_confirms_a_deletion_by_the_name(
    gpc1: Dsprodtool, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpc1.fill()
    for text in ("", "y\n", "gpc2\n"):
        answer(monkeypatch, text)
        code, out, err = gpc1("--del", "gpc1")
        assert (code, out) == (1, "")
        assert "delete product gpc1 with 1 fileset?" in err
        assert "not confirmed, nothing was deleted" in err
    assert gpc1.product()
    answer(monkeypatch, "gpc1\n")
    code, out, _ = gpc1("--del", "gpc1")
    assert (code, out) == (
        0, f"deleted product gpc1 with 1 fileset (its directory stays: {gpc1.root / 'gpc1'})\n",
    )  # fmt: skip
    assert (gpc1.root / "gpc1" / "o1" / "a").exists()
    code, _, err = gpc1("--del", "gpc1", "--yes")
    assert code == 1
    assert "--rm --force removes it" in err


def test_a_product_in_which_someone_registers_is_not_deleted(gpc1: Dsprodtool) -> None:
    with hold_fileset(gpc1.root, "gpc1", "o1"):
        code, _, err = gpc1("--del", "gpc1", "--yes", "--rm")
    assert code == 1
    assert "another process is working on it" in err
    assert gpc1.product()
    assert (gpc1.root / "gpc1").is_dir()


def test_a_product_that_cannot_be_recorded_leaves_no_directory(
    command: Dsprodtool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def taken(database: Database, *args: object, **keywords: object) -> None:
        raise Duplicate

    monkeypatch.setattr(dsprodtool, "add_product", taken)
    assert command(*ADD)[0] == 1
    assert command.names() == {LOCK_FILE}


def test_no_link_is_followed_when_a_directory_is_removed(gpc1: Dsprodtool, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (gpc1.root / "gpc1" / "away").symlink_to(tmp_path / "elsewhere")
    assert gpc1("--del", "gpc1", "--yes", "--rm")[0] == 0
    assert (tmp_path / "elsewhere").is_dir()


def test_a_file_in_the_way_of_the_directory_is_told(command: Dsprodtool) -> None:
    (command.root / "gpc1").write_bytes(b"")
    code, _, err = command(*ADD)
    assert code == 2
    assert "gpc1: a directory expected; move away" in err
    assert command.product() is None


def test_columns_are_compared_one_by_one(command: Dsprodtool) -> None:
    assert command(*ADD, "--ps0", "a b", "--ps1", "c")[0] == 0
    code, out, err = command(*ADD, "--ps0", "a", "--ps1", "b c")
    assert (code, out) == (1, "")
    assert "its columns: 'a b|c', not 'a|b c'" in err


# Products that are not everybody's


def restrict(command: Dsprodtool, users: Sequence[str], networks: Sequence[str]) -> None:
    """Let only these have gpc1."""
    with catalogue(command.place) as database:
        for name in users:
            save_user(database, name, "hash", ["gpc1"])
        for network in networks:
            add_network(database, "gpc1", network)


@pytest.mark.parametrize(
    ("users", "networks", "told"),
    [
        (["a", "b"], [], "restricted to 2 users"),
        ([], ["192.0.2.0/24"], "restricted to 1 network"),
        (["a"], ["192.0.2.0/24", "::1/128"], "restricted to 1 user and 2 networks"),
    ],
    ids=["users", "network", "both"],
)
def test_a_product_that_is_not_everybody_s_is_deleted_only_if_that_is_meant(
    gpc1: Dsprodtool,
    monkeypatch: pytest.MonkeyPatch,
    users: Sequence[str],
    networks: Sequence[str],
    told: str,
) -> None:
    restrict(gpc1, users, networks)
    code, out, err = gpc1("--del", "gpc1", "--yes")
    assert (code, out) == (3, "")
    assert f"product gpc1: {told}" in err
    assert "made again under this name it would be everybody's: give --open" in err
    assert gpc1.product()
    answer(monkeypatch, "gpc1\n")
    code, out, err = gpc1("--del", "gpc1", "--open", "--rm")
    assert code == 0
    assert f"product gpc1 with 0 filesets, {told}, and " in err
    assert out == f"deleted product gpc1 with 0 filesets and its directory; it was {told}\n"
    assert gpc1.product() is None


def test_a_product_restricted_while_a_person_thinks_is_kept(
    gpc1: Dsprodtool, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer(monkeypatch, "gpc1\n")

    def slow(size: int = -1) -> str:
        restrict(gpc1, ["a"], [])
        return "gpc1\n"

    monkeypatch.setattr(sys.stdin, "readline", slow)
    code, out, err = gpc1("--del", "gpc1")
    assert (code, out) == (3, "")
    assert "restricted to 1 user" in err
    assert gpc1.product()


# Directories


def test_a_link_in_place_of_the_directory_is_refused(command: Dsprodtool, tmp_path: Path) -> None:
    (tmp_path / "large disk").mkdir()
    (command.root / "gpc1").symlink_to(tmp_path / "large disk")
    code, out, err = command(*ADD)
    assert (code, out) == (2, "")
    assert f"{command.root / 'gpc1'}: a directory expected, not a link" in err
    assert "mount" in err
    assert command.product() is None
    assert (command.root / "gpc1").is_symlink()


def test_what_is_left_of_a_product_is_removed_only_when_confirmed(
    command: Dsprodtool, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert command(*ADD)[0] == 0
    assert command("--del", "gpc1", "--yes")[0] == 0
    answer(monkeypatch, "y\n")
    code, out, err = command("--del", "gpc1", "--rm", "--force")
    assert (code, out) == (1, "")
    assert str(command.root / "gpc1") in err
    assert (command.root / "gpc1").is_dir()
    answer(monkeypatch, "gpc1\n")
    code, out, _ = command("--del", "gpc1", "--rm", "--force")
    assert (code, out) == (0, "product gpc1 was not in the catalogue; removed its directory\n")
    assert command.names() == {LOCK_FILE}


def test_no_terminal_is_no_confirmation(gpc1: Dsprodtool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    code, _, err = gpc1("--del", "gpc1")
    assert code == 3
    assert "--yes is missing" in err


def test_a_product_under_a_name_that_is_refused_by_now_can_be_deleted(command: Dsprodtool) -> None:
    with catalogue(command.place, create=True) as database:
        add_product(database, "_files", "ipp-dist", "older than nginx here")
    assert command("--del", "_files", "--yes", "--rm") == (
        0, "deleted product _files with 0 filesets (it had no directory)\n", "",
    )  # fmt: skip
