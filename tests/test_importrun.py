"""importrun: files of exported runs, plain and compressed, all of them or none."""

import gzip
from pathlib import Path

import pytest
from client import Ran
from commands import typed
from exported import CHIP_RUN, dbinfo, imfile
from places import data_store, environment_of

from server.catalogue import catalogue
from server.runs.imported import RunRow, select
from server.site import CATALOGUE, Place, SqliteFile


class Importrun:
    """The command in this process, for a site without a catalogue."""

    def __init__(self, directory: Path, place: Place, capsys: pytest.CaptureFixture[str]) -> None:
        self.directory = directory
        self.place = place
        self._capsys = capsys

    def __call__(self, *arguments: str) -> Ran:
        """Exit status, standard output, standard error."""
        return typed(self._capsys, "importrun", *arguments)

    def write(self, name: str, data: bytes) -> str:
        """A file to import."""
        (self.directory / name).write_bytes(data)
        return name

    def runs(self) -> list[RunRow]:
        """The chip runs in the database."""
        with catalogue(self.place, create=True) as database:
            return select(database, "chipRun")


@pytest.fixture
def importrun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Importrun:
    """The command, in a directory with nothing in it but the Data Store."""
    root = data_store(tmp_path)
    monkeypatch.setenv("DATA_STORE_ROOT", str(root))
    monkeypatch.chdir(tmp_path)
    return Importrun(tmp_path, SqliteFile(root / CATALOGUE), capsys)


CHIPS = dbinfo(CHIP_RUN, *(imfile(5, f"XY{number:02d}") for number in range(60)))
CAMERA = dbinfo(("camRun", "cam_id S64 9", "chip_id S64 5"))


def test_each_file_is_told(importrun: Importrun) -> None:
    files = [importrun.write("chip.mdc", CHIPS), importrun.write("cam.mdc", CAMERA)]
    assert importrun(*files) == (
        0,
        "imported chip 5 from chip.mdc: 61 rows in 2 tables\n"
        "imported camera 9 from cam.mdc: 1 row in 1 table\n",
        "",
    )
    assert importrun(*files)[0] == 0
    assert [run["chip_id"] for run in importrun.runs()] == [5]


def test_over_either_database(
    place: Place, importrun: Importrun, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment_of(place).items():
        monkeypatch.setenv(name, value)
    importrun.place = place
    assert importrun(importrun.write("chip.mdc", CHIPS))[0] == 0
    assert len(importrun.runs()) == 1


@pytest.mark.parametrize("name", ["chip.mdc.gz", "chip.mdc"])
def test_compressed(importrun: Importrun, name: str) -> None:
    assert importrun(importrun.write(name, gzip.compress(CHIPS)))[0] == 0
    assert len(importrun.runs()) == 1


def test_kinds_and_numbers_of_runs(importrun: Importrun) -> None:
    both = dbinfo(("vrRun", "vr_id S64 1"), ("vrRun", "vr_id S64 2"))
    assert importrun(importrun.write("vr.mdc", both)) == (
        0, "imported vrRun 1 and 1 more from vr.mdc: 2 rows in 1 table\n", "",
    )  # fmt: skip


def test_all_or_none_and_every_problem(importrun: Importrun) -> None:
    good = importrun.write("good.mdc", CHIPS)
    bad = importrun.write("bad.mdc", dbinfo(("camRun", "cam_id S64 NULL")))
    worse = importrun.write("worse.mdc", b"chipRun METADATA\n")
    code, said, complaint = importrun(good, bad, worse)
    assert (code, said) == (5, "")
    assert "bad.mdc:10: table camRun: column cam_id" in complaint
    assert "worse.mdc:1: METADATA chipRun: an END expected" in complaint
    assert importrun.runs() == []


def test_what_is_left_out_and_what_changes_is_told(importrun: Importrun) -> None:
    other = ("warpRun", "warp_id S64 1")
    first = importrun.write("1.mdc", dbinfo((*CHIP_RUN, "label S32 1"), other, ("foo", "n S32 1")))
    second = importrun.write("2.mdc", dbinfo((*CHIP_RUN, "label STR a")))
    assert importrun(first, second) == (
        0,
        "imported chip 5 from 1.mdc: 1 row in 1 table; left out: warpRun, which has no chip_id;"
        " left out: foo, which has no chip_id\n"
        "imported chip 5 from 2.mdc: 1 row in 1 table\n"
        "column label of chipRun: STR from now on, S32 before\n",
        "",
    )
    assert [run["label"] for run in importrun.runs()] == ["a"]


def test_a_later_file_may_not_contradict_an_earlier_one(importrun: Importrun) -> None:
    first = importrun.write("1.mdc", dbinfo(("vrRun", "vr_id S32 1")))
    second = importrun.write("2.mdc", dbinfo(CHIP_RUN, version="") + dbinfo(imfile(6, "XY01")))
    third = importrun.write("3.mdc", dbinfo(("vrRun", "vr_id STR a")))
    code, _, complaint = importrun(first, second, third)
    assert code == 5
    assert "2.mdc:18: table chipProcessedImfile: column chip_id: the id of a run" in complaint
    assert "3.mdc:10: table vrRun: column vr_id: S32 expected in a key" in complaint
    assert importrun.runs() == []


REFUSALS = {
    "no file": ([], None, 2, "FILE.mdc"),
    "no such file": (["a.mdc"], None, 2, "a.mdc: No such file"),
    "a directory": (["datastore"], None, 2, "datastore: Is a directory"),
    "empty": (["a.mdc"], b"", 5, "a.mdc:1: an exported run expected; it has no table"),
    "a text": (["a.mdc"], b"what is this\n", 5, "a.mdc:1: an exported run (mdc) expected"),
    "cut gzip": (["a.mdc"], gzip.compress(CHIPS)[:-9], 5, "a.mdc: damaged gzip"),
    "damaged inside": (
        ["a.mdc"],
        gzip.compress(CHIPS)[:10] + b"\xff" * 99,
        5,
        "a.mdc: damaged gzip",
    ),
    "damaged gzip": (["a.mdc"], b"\x1f\x8b" + b"x" * 40, 5, "a.mdc: damaged gzip"),
    "no such option": (["a.mdc", "--pretend"], CHIPS, 2, "--pretend"),
    "no store": (["a.mdc", "--dsroot", "/nowhere"], CHIPS, 3, "/nowhere is none"),
}


@pytest.mark.parametrize(("arguments", "data", "code", "told"), REFUSALS.values(), ids=REFUSALS)
def test_refused(
    importrun: Importrun, arguments: list[str], data: bytes | None, code: int, told: str
) -> None:
    if data is not None:
        importrun.write("a.mdc", data)
    status, said, complaint = importrun(*arguments)
    assert (status, said) == (code, "")
    assert told in complaint
    assert importrun.runs() == []
