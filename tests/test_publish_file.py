"""One publish run: what is registered and recorded, what is refused, and every way to fail."""

import gzip
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from client import PATIENCE, PROJECT, wait_for
from newsroom import COMMENT, Newsroom, is_gone

from server.catalogue import catalogue
from server.publishing.attempt import work_name
from server.site import Place, SqliteFile
from server.store_lock import hold_fileset, hold_product, hold_work

DIFF = "IPP-MOPS/pub.1.diff.456"
POSITIVE, NEGATIVE = "IPP-MOPS.1.positive.fits", "IPP-MOPS.1.negative.fits"
PATH_BASE = "neb://any/any/IPP-MOPS.1"
DONE = [(1, "full", PATH_BASE, 0, None)]


@pytest.fixture
def newsroom(
    tmp_path: Path,
    place: Place,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Newsroom:
    """A site with both databases in turn, and nothing to publish yet."""
    return Newsroom(tmp_path, place, monkeypatch, capsys)


@pytest.fixture
def small(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Newsroom:
    """A site with a catalogue in a file, that translates and has run 1 pending: diff run 456."""
    newsroom = Newsroom(tmp_path, SqliteFile(tmp_path / "catalogue.db"), monkeypatch, capsys)
    newsroom.translate()
    newsroom.diff(456)
    newsroom.client()
    return newsroom


def content(newsroom: Newsroom, fileset: str, name: str) -> str:
    return (newsroom.root / fileset / name).read_text()


# What is published


def test_the_command_of_the_seed(newsroom: Newsroom) -> None:
    newsroom.translate()
    newsroom.diff(456, poor=["skycell.9"])
    newsroom.client()
    said = newsroom.must(
        "publish_file", "--pub_id", "1", "--camera", "GPC1", "--workdir", "neb://any/any/",
        "--product", "IPP-MOPS", "--stage", "diff", "--stage_id", "456", "--redirect-output",
    )  # fmt: skip
    assert said == f"published {DIFF}: 2 files, 160 bytes\n"
    assert newsroom.registered() == {DIFF: [POSITIVE, NEGATIVE]}
    assert newsroom.attempts() == DONE
    assert content(newsroom, DIFF, POSITIVE) == (
        "for moving objects: RINGS.skycell.1.dif.456.cmf;RINGS.skycell.2.dif.456.cmf;"
    )
    assert "inv.cmf" in content(newsroom, DIFF, NEGATIVE)
    with catalogue(newsroom.place) as database:
        row = database.row("SELECT type, prod_col_0, prod_col_1 FROM dsFileset")
        types = database.rows("SELECT DISTINCT type FROM dsFile")
        host, seconds = database.row("SELECT hostname, dtime_script FROM publishDone") or ("", -1)
    assert row == ("IPP-MOPS", COMMENT, None)
    assert types == [("IPP-MOPS",)]
    assert host
    assert seconds >= 0


def test_one_way(newsroom: Newsroom) -> None:
    newsroom.translate()
    newsroom.diff(456, bothways=False)
    newsroom.client()
    newsroom.must("publish_file", "--pub_id", "1")
    assert newsroom.registered() == {DIFF: ["IPP-MOPS.1.fits"]}


def test_without_translation_the_files_themselves_go_out(newsroom: Newsroom) -> None:
    newsroom.diff(456, bothways=False)
    newsroom.client("transients")
    newsroom.must("publish_file", "--pub_id", "1")
    fileset = "transients/pub.1.diff.456"
    names = ["RINGS.skycell.1.dif.456.cmf", "RINGS.skycell.2.dif.456.cmf"]
    assert newsroom.registered() == {fileset: names}
    file = newsroom.root / fileset / names[0]
    assert file.read_text() == f"{names[0]};"
    # What cleans up after the pipeline takes nothing away.
    assert file.stat().st_nlink == 1
    assert not file.is_symlink()


def test_a_camera_run_with_its_exposure(newsroom: Newsroom) -> None:
    newsroom.camera(78)
    newsroom.client("IPP-PSPS", "camera")
    newsroom.must("publish_file", "--pub_id", "1", "--camera", "gpc1")
    assert newsroom.registered() == {"IPP-PSPS/pub.1.camera.78": ["o78o.cm.78.smf"]}
    with catalogue(newsroom.place) as database:
        row = database.row("SELECT type, prod_col_0, prod_col_1 FROM dsFileset")
    assert row == ("IPP_PSPS", COMMENT, "o78o")


def test_a_compressed_dump(small: Newsroom) -> None:
    for dump in small.neb.rglob("*.mdc"):
        dump.write_bytes(gzip.compress(dump.read_bytes()))
    small.must("publish_file", "--pub_id", "1")
    assert small.attempts() == DONE


def test_odd_names_arrive_at_the_translator_as_one_argument(small: Newsroom) -> None:
    odd = 'it\'s $(touch made); "two  words" & `touch made`'
    small.diff(7, [odd], volume="v")
    small.must("pubtool", "-definerun")
    small.must("publish_file", "--pub_id", "2")
    first = json.loads((small.directory / "seen").read_text().splitlines()[0])
    assert len(first) == 2
    assert first[0] == str(small.neb / f"d7/{odd}/RINGS.{odd}.dif.7.cmf")
    assert not list(small.directory.rglob("made"))


# What is said, and where


def test_output_that_is_redirected(small: Newsroom) -> None:
    small.must("publish_file", "--pub_id", "1", "--redirect-output")
    log = (small.work / "IPP-MOPS.1.log").read_text()
    assert log.count("read 2 files") == 2
    assert "skycell.1: positive: " in log
    assert "translating 2 files into IPP-MOPS.1.negative.fits" in log


def test_each_step_said(small: Newsroom) -> None:
    said = small.must("publish_file", "--pub_id", "1", "--verbose")
    assert said.count("read 2 files\n") == 2
    assert said.splitlines()[-1].startswith("published ")
    assert not list(small.work.glob("*.log"))


def test_nothing_else_stays_in_the_working_directory(small: Newsroom) -> None:
    small.must("publish_file", "--pub_id", "1")
    assert sorted(path.name for path in small.work.iterdir()) == sorted([POSITIVE, NEGATIVE])


def test_temporary_files_that_are_kept(small: Newsroom) -> None:
    small.translate("import tempfile; tempfile.mkstemp(prefix='mops'); sys.exit('tired')")
    for _ in "twice":
        # An attempt begins without what the one before has kept.
        ran = small("publish_file", "--pub_id", "1", "--save-temps")
        assert ran.stdout == f"temporary files are kept in {small.work / '.IPP-MOPS.1.work'}\n"
        names = [path.name[:4] for path in small.work.rglob("*") if path.is_file()]
        assert sorted(names) == ["mops", "tran"]
        small.must("pubtool", "-revert", "-pub_id", "1")
    small.translate()
    small.must("publish_file", "--pub_id", "1")
    assert sorted(path.name for path in small.work.iterdir()) == sorted([POSITIVE, NEGATIVE])


@pytest.mark.parametrize("translated", [True, False], ids=["translated", "as they are"])
def test_a_rehearsal_changes_nothing(
    newsroom: Newsroom, translated: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = newsroom.directory / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    if translated:
        newsroom.translate()
    newsroom.diff(456)
    newsroom.client()
    before = newsroom.rows(), newsroom.files(), newsroom.files(newsroom.neb)
    said = newsroom.must("publish_file", "--pub_id", "1", "--no-update", "--redirect-output")
    assert (newsroom.rows(), newsroom.files(), newsroom.files(newsroom.neb)) == before
    lines = said.splitlines()
    assert lines[0] == f"would register {DIFF}, type IPP-MOPS: '{COMMENT}'"
    assert lines[-1] == f"would record publish run 1: path_base {PATH_BASE}, fault 0"
    files = [line.split() for line in lines[1:-1]]
    if translated:
        assert files == [[POSITIVE, "76", "IPP-MOPS"], [NEGATIVE, "84", "IPP-MOPS"]]
    else:
        assert [file[0][:15] for file in files] == ["RINGS.skycell.1", "RINGS.skycell.2"] * 2
    assert newsroom.pending() == [1]
    assert not list(temporary.iterdir())
    said = newsroom.must("publish_file", "--pub_id", "1", "--no-update", "--save-temps")
    assert said.splitlines()[-1].startswith(f"temporary files are kept in {temporary}/")
    assert len(list(temporary.rglob("*.fits"))) == (2 if translated else 0)


def test_a_rehearsal_that_fails(small: Newsroom) -> None:
    small.translate("sys.exit('no SkyChip.psf')")
    before = small.rows(), small.files(), small.files(small.neb)
    ran = small("publish_file", "--pub_id", "1", "--no-update")
    assert ran.exit == 1
    assert ran.stderr.endswith("exit status 1: no SkyChip.psf\n")
    assert (small.rows(), small.files(), small.files(small.neb)) == before


def test_a_rehearsal_of_what_cannot_be_registered(small: Newsroom) -> None:
    small.must("dsprodtool", "--del", "IPP-MOPS", "--yes")
    ran = small("publish_file", "--pub_id", "1", "--no-update")
    assert (ran.exit, "product IPP-MOPS: not in the catalogue" in ran.stderr) == (1, True)


def test_a_rehearsal_finds_what_registering_would_refuse(small: Newsroom) -> None:
    sql("UPDATE publishClient SET comment = 'a|b'")(small)
    ran = small("publish_file", "--pub_id", "1", "--no-update")
    assert (ran.exit, "column comment holds '|' or '#'" in ran.stderr) == (3, True)


# What is refused

OTHERS = {
    "--stage": ("camera", "--stage is camera, but the database says diff"),
    "--stage_id": ("457", "--stage_id is 457, but the database says 456"),
    "--product": ("other", "--product is other, but the database says IPP-MOPS"),
    "--workdir": ("neb://x/y", "--workdir is neb://x/y, but the database says neb://any/any"),
}


@pytest.mark.parametrize(("option", "other"), OTHERS.items(), ids=OTHERS.keys())
def test_options_that_say_something_else(
    small: Newsroom, option: str, other: tuple[str, str]
) -> None:
    ran = small("publish_file", "--pub_id", "1", option, other[0])
    assert ran.exit == 3
    assert f"publish run 1: {other[1]}" in ran.stderr
    assert small.pending() == [1]


def test_the_camera_of_another_run(newsroom: Newsroom) -> None:
    newsroom.camera(78)
    newsroom.client("IPP-PSPS", "camera")
    ran = newsroom("publish_file", "--pub_id", "1", "--camera", "HSC")
    assert (ran.exit, "--camera is HSC, but the database says GPC1" in ran.stderr) == (3, True)


def test_a_run_that_is_not_there(small: Newsroom) -> None:
    ran = small("publish_file", "--pub_id", "99")
    assert ran.exit == 1
    assert ran.stderr.startswith("publish_file: publish run 99: not in the database")


def test_a_run_that_is_full(small: Newsroom) -> None:
    small.must("publish_file", "--pub_id", "1")
    before = small.rows(), small.files()
    ran = small("publish_file", "--pub_id", "1")
    assert ran.exit == 1
    assert ran.stderr.endswith(
        "publish run 1: full already; to publish it anew, withdraw its fileset first: dsreg --del"
        " pub.1.diff.456 --product IPP-MOPS, then pubtool -updaterun -set_state new -pub_id 1\n"
    )
    assert (small.rows(), small.files()) == before


def test_a_run_with_an_attempt_until_it_is_reverted(small: Newsroom) -> None:
    small.must("pubtool", "-add", "-pub_id", "1", "-path_base", PATH_BASE, "-fault", "5")
    ran = small("publish_file", "--pub_id", "1")
    assert ran.exit == 1
    assert "has an attempt already, with fault 5; pubtool -revert -pub_id 1" in ran.stderr
    small.must("pubtool", "-revert", "-pub_id", "1")
    small.must("publish_file", "--pub_id", "1")
    assert small.attempts() == DONE


def test_a_run_that_another_process_works_on(small: Newsroom) -> None:
    with hold_work(small.root, work_name(1)):
        ran = small("publish_file", "--pub_id", "1")
    assert ran.exit == 1
    assert "publish run 1: another process is working on it" in ran.stderr
    assert small.pending() == [1]


@pytest.mark.parametrize(
    "holding",
    [
        pytest.param(lambda root: hold_fileset(root, "IPP-MOPS", "pub.1.diff.456"), id="fileset"),
        pytest.param(lambda root: hold_product(root, "IPP-MOPS"), id="product"),
    ],
)
def test_a_fileset_that_another_process_works_on(
    small: Newsroom, holding: Callable[[Path], AbstractContextManager[None]]
) -> None:
    with holding(small.root):
        ran = small("publish_file", "--pub_id", "1", "--save-temps")
    assert (ran.exit, small.attempts(), small.pending()) == (1, [], [1])
    assert "another process is working on it" in ran.stderr
    assert ran.stdout.startswith("temporary files are kept in ")
    small.must("publish_file", "--pub_id", "1")
    assert small.attempts() == DONE


@pytest.mark.parametrize("number", ["1" * 19, "-1", "1.0", "one", "\u0661"])
@pytest.mark.parametrize("option", ["--pub_id", "--stage_id"])
def test_numbers_that_are_none(small: Newsroom, option: str, number: str) -> None:
    ran = small("publish_file", "--pub_id", "1", f"{option}={number}")
    assert (ran.exit, f"{option}: a whole number expected, not" in ran.stderr) == (2, True)


def test_a_run_of_a_long_number(small: Newsroom) -> None:
    ran = small("publish_file", "--pub_id", "9" * 18)
    assert (ran.exit, f"publish run {'9' * 18}: not in the database" in ran.stderr) == (1, True)


@pytest.mark.parametrize("limit", ["0", "-1", "nan", "inf", "1e9", "soon"])
def test_time_limits_that_are_none(small: Newsroom, limit: str) -> None:
    ran = small("publish_file", "--pub_id", "1", "--translate-timeout", limit)
    assert (ran.exit, "--translate-timeout: 0.1 seconds or more" in ran.stderr) == (2, True)


def test_a_translation_that_takes_too_long(small: Newsroom) -> None:
    small.translate("import time; print('still busy', flush=True); time.sleep(600)")
    ran = small("publish_file", "--pub_id", "1", "--translate-timeout", "0.5")
    assert ran.exit == 6
    assert "took longer than 0.5 s and was ended (--translate-timeout allows more)" in ran.stderr
    ((_, state, _, fault, message),) = small.attempts()
    assert (state, fault) == ("new", 6)
    assert message
    assert message in ran.stderr
    assert not list(small.work.iterdir())


def test_a_call_without_its_run(small: Newsroom) -> None:
    assert small("publish_file").exit == 2


# What fails


def remove(pattern: str) -> Callable[[Newsroom], None]:
    def spoil(newsroom: Newsroom) -> None:
        for path in newsroom.neb.rglob(pattern):
            path.unlink()

    return spoil


def replace(pattern: str, text: bytes) -> Callable[[Newsroom], None]:
    def spoil(newsroom: Newsroom) -> None:
        for path in newsroom.neb.rglob(pattern):
            path.write_bytes(text)

    return spoil


def sql(*statements: str) -> Callable[[Newsroom], None]:
    def spoil(newsroom: Newsroom) -> None:
        with catalogue(newsroom.place) as database:
            for statement in statements:
                database.change(statement)

    return spoil


def twist(code: str) -> Callable[[Newsroom], None]:
    return lambda newsroom: newsroom.translate(code)


def configure(*lines: str) -> Callable[[Newsroom], None]:
    return lambda newsroom: newsroom.configure(*lines)


def occupy(newsroom: Newsroom) -> None:
    newsroom.work.write_text("a file where a directory should be")


OTHER_FILE = b"FILES.OUTPUT METADATA\n PPSUB.OUTPUT.SOURCES STR %s\nEND\n"

FAULTS: dict[str, tuple[Callable[[Newsroom], None], int, str]] = {
    "a dump is missing": (
        remove("*skycell.2.dif.456.mdc"), 5, "RINGS.skycell.2.dif.456.mdc: not there, but it is"
        " the config dump of skycell.2",
    ),
    "a file is missing": (
        remove("*skycell.1.dif.456.inv.cmf"), 5, "456.inv.cmf: not there, but",
    ),
    "a dump that is none": (replace("*.mdc", b"\x00\xff"), 5, "a config dump expected"),
    "damaged gzip": (replace("*.mdc", b"\x1f\x8bno"), 5, "damaged gzip"),
    "no such rule": (
        replace("*.mdc", b"FILES.OUTPUT METADATA\nEND\n"), 5,
        "FILES.OUTPUT of skycell.1 has no PPSUB.OUTPUT.SOURCES",
    ),
    "a path of another kind": (
        replace("*.mdc", OTHER_FILE % b"http://host/a"), 3, "PPSUB.OUTPUT.SOURCES: path",
    ),
    "a path that climbs": (replace("*.mdc", OTHER_FILE % b"neb://v/../a"), 3, "'..'"),
    "a directory": (replace("*.mdc", OTHER_FILE % b"neb://v/d456"), 5, "a regular file expected"),
    "no component of good quality": (
        sql('UPDATE "diffSkyfile" SET quality = 8006'), 5,
        "diff run 456: no component of good quality among 2",
    ),
    "a run that is not imported": (
        sql('DELETE FROM "diffRun"'), 5, "diff run 456: not among the imported runs",
    ),
    "the product is gone": (
        sql("DELETE FROM dsProduct"), 1, "product IPP-MOPS: not in the catalogue",
    ),
    "a comment that no list can hold": (
        sql("UPDATE publishClient SET comment = 'a|b'"), 3,
        "column comment holds '|' or a number sign: 'a|b'",
    ),
    "no translator": (
        configure("TRANSLATE METADATA", "IPP-MOPS STR no-such-command", "END"), 3,
        "TRANSLATE: no-such-command: No such file or directory",
    ),
    "a translator that fails": (
        twist("print('first'); sys.exit('no SkyChip.psf in it')"), 1,
        "exit status 1: no SkyChip.psf in it",
    ),
    "one that fails at the second direction": (
        twist("if 'negative' in output: sys.exit(5)"), 5, "exit status 5: read 2 files",
    ),
    "one that leaves half an output": (
        twist("open(output, 'wb').write(b'half'); sys.exit(6)"), 6, "exit status 6",
    ),
    "one without output": (twist("sys.exit(0)"), 4, "left no IPP-MOPS.1.positive.fits"),
    "a working directory that is none": (occupy, 2, "any"),
}  # fmt: skip


@pytest.mark.parametrize(("spoil", "code", "said"), FAULTS.values(), ids=FAULTS.keys())
def test_faults(small: Newsroom, spoil: Callable[[Newsroom], None], code: int, said: str) -> None:
    spoil(small)
    # Translated, but not registered: the next attempt writes them anew.
    whole = [POSITIVE, NEGATIVE] if "catalogue" in said or "comment" in said else []
    ran = small("publish_file", "--pub_id", "1")
    assert (ran.exit, ran.stdout) == (code, "")
    assert ran.stderr.startswith("publish_file: publish run 1: ")
    assert said in ran.stderr
    assert len(ran.stderr.splitlines()) == 1
    ((_, state, path_base, fault, message),) = small.attempts()
    assert (state, path_base, fault) == ("new", PATH_BASE, code)
    assert message
    assert said in message
    assert small.registered() == {}
    assert not small.files()
    assert small.pending() == []
    left = {path.name for path in small.work.rglob("*")}
    assert left == set(whole), "half an output, or something temporary"


def test_a_working_directory_that_does_not_resolve(small: Newsroom) -> None:
    sql("UPDATE publishClient SET workdir = 'path://GONE/x'")(small)
    ran = small("publish_file", "--pub_id", "1")
    assert (ran.exit, "DATAPATH has no 'GONE'" in ran.stderr) == (3, True)
    assert small.attempts()[0][2:4] == ("path://GONE/x/IPP-MOPS.1", 3)


def test_names_that_are_there_twice(newsroom: Newsroom) -> None:
    newsroom.diff(456)
    for dump in newsroom.neb.rglob("*.mdc"):
        dump.write_text(dump.read_text().replace(".inv.cmf", ".cmf"))
    newsroom.client()
    ran = newsroom("publish_file", "--pub_id", "1")
    assert (ran.exit, "is there twice" in ran.stderr) == (5, True)


def test_a_fault_in_the_log(small: Newsroom) -> None:
    small.translate("sys.exit('no SkyChip.psf')")
    small("publish_file", "--pub_id", "1", "--redirect-output")
    lines = (small.work / "IPP-MOPS.1.log").read_text().splitlines()
    assert lines[-2] == "no SkyChip.psf"
    assert lines[-1].endswith("exit status 1: no SkyChip.psf")
    assert " fault 1: " in lines[-1]


# Killed

_KILLED = """\
import os, signal, sys
import server.publishing.attempt as attempt, server.publishing.work as work
import server.fileset_files as files
from server.__main__ import main

def kill(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

calls = iter(range(9))
def second(function):
    return lambda *given: kill() if next(calls) else function(*given)

{patch}
sys.exit(main(["publish_file", "--pub_id", "1", "--redirect-output"]))
"""

INSTANTS = {
    "before anything": "attempt.plan_publish = kill",
    "with an empty log": "work._publish = kill",
    "before the translation": "work.translate = kill",
    "before the second one": "work.translate = second(work.translate)",
    "before files have their names": "work.flush = kill",
    "between two names": "work.os.replace = second(os.replace)",
    "before registering": "attempt.register = kill",
    "while files are copied": "files.Shelf.settle = kill",
    "registered, and not recorded": "attempt.add_attempt = kill",
}


@pytest.mark.parametrize("patch", INSTANTS.values(), ids=INSTANTS.keys())
def test_killed_and_done_again(small: Newsroom, patch: str) -> None:
    killed = subprocess.run(
        [sys.executable, "-c", _KILLED.format(patch=patch)],
        cwd=PROJECT, env=small.environment(), timeout=PATIENCE, check=False, capture_output=True,
    )  # fmt: skip
    assert killed.returncode == -9, killed.stderr
    assert small.pending() == [1]
    assert small.attempts() == []
    said = small.must("publish_file", "--pub_id", "1", "--redirect-output")
    assert small.registered() == {DIFF: [POSITIVE, NEGATIVE]}
    assert small.attempts() == DONE
    assert ("which an attempt before had registered" in said) == ("add_attempt" in patch)
    assert set(small.files()) == {f"{DIFF}/{POSITIVE}", f"{DIFF}/{NEGATIVE}"}
    names = sorted(path.name for path in small.work.iterdir())
    assert names == sorted([POSITIVE, NEGATIVE, "IPP-MOPS.1.log"])


_ORPHAN = """\
import signal, time
open({pid!r}, "w").write(f"{{os.getpid()}} .")
os.kill(os.getppid(), signal.SIGKILL)
time.sleep(600)
"""


def test_a_translator_dies_with_its_caller(small: Newsroom) -> None:
    pid = small.directory / "pid"
    small.translate(_ORPHAN.format(pid=str(pid)))
    process = subprocess.Popen(
        [sys.executable, "-m", "server", "publish_file", "--pub_id", "1"],
        cwd=PROJECT, env=small.environment(),
    )  # fmt: skip
    assert process.wait(timeout=PATIENCE) == -9
    wait_for(lambda: is_gone(int(pid.read_text().split()[0])))
    assert len(list(small.work.glob(".IPP-MOPS.1.work/*"))) == 1
    small.translate()
    small.must("publish_file", "--pub_id", "1")
    assert small.attempts() == DONE
    assert sorted(path.name for path in small.work.iterdir()) == sorted([POSITIVE, NEGATIVE])


def test_a_fileset_of_that_name_with_other_files(small: Newsroom) -> None:
    small.must(
        "dsreg", "--add", "pub.1.diff.456", "--product", "IPP-MOPS", "--type", "IPP-MOPS",
        "--empty",
    )  # fmt: skip
    ran = small("publish_file", "--pub_id", "1")
    assert ran.exit == 1
    assert (
        f"{DIFF}: registered already, with other content; withdraw it first: dsreg --del"
        " pub.1.diff.456 --product IPP-MOPS (its files: none)"
    ) in ran.stderr
    assert small.attempts()[0][1:4] == ("new", PATH_BASE, 1)


def test_terminated_while_it_translates(small: Newsroom) -> None:
    small.translate("import time; os.kill(os.getppid(), 15); time.sleep(600)")
    process = subprocess.run(
        [sys.executable, "-m", "server", "publish_file", "--pub_id", "1"],
        cwd=PROJECT, env=small.environment(), timeout=PATIENCE, check=False, capture_output=True,
    )  # fmt: skip
    assert (process.returncode, process.stdout, process.stderr) == (143, b"", b"")
    assert small.pending() == [1]
    assert not list(small.work.iterdir())
    assert os.path.exists(small.directory / "seen")


# Published anew


def rewritten(newsroom: Newsroom) -> None:
    """A correction: the files of the run have other bytes, of the same number."""
    for path in newsroom.neb.rglob("*.cmf"):
        path.write_bytes(path.read_bytes().upper())


def longer(newsroom: Newsroom) -> None:
    """A correction: the files of the run are longer."""
    for path in newsroom.neb.rglob("*.cmf"):
        path.write_bytes(path.read_bytes() * 2)


ANEW = ("pubtool", "-updaterun", "-set_state", "new", "-pub_id", "1")
WITHDRAW = ("dsreg", "--del", "pub.1.diff.456", "--product", "IPP-MOPS")


@pytest.mark.parametrize("correct", [rewritten, longer])
def test_published_anew_once_the_fileset_is_withdrawn(
    newsroom: Newsroom, correct: Callable[[Newsroom], None]
) -> None:
    newsroom.translate()
    newsroom.diff(456)
    newsroom.client()
    newsroom.must("publish_file", "--pub_id", "1")
    before = newsroom.files()
    correct(newsroom)
    newsroom.must(*ANEW)
    ran = newsroom("publish_file", "--pub_id", "1")
    assert (ran.exit, ran.stdout, newsroom.files()) == (1, "", before)
    assert "registered already, with other content; withdraw it first: dsreg" in ran.stderr
    rehearsed = newsroom("publish_file", "--pub_id", "1", "--no-update")
    assert (rehearsed.exit, "with other content" in rehearsed.stderr) == (1, True)
    newsroom.must(*WITHDRAW)
    newsroom.must("pubtool", "-revert", "-pub_id", "1")
    newsroom.must("publish_file", "--pub_id", "1")
    assert newsroom.attempts() == DONE
    assert newsroom.registered() == {DIFF: [POSITIVE, NEGATIVE]}
    published = newsroom.files()
    assert published.keys() == before.keys()
    assert all(published[name] != before[name] for name in before)


def test_published_anew_with_the_same_content(small: Newsroom) -> None:
    small.must("publish_file", "--pub_id", "1")
    before = small.files()
    small.must(*ANEW)
    said = small.must("publish_file", "--pub_id", "1")
    assert said.startswith(f"published {DIFF}, which an attempt before had registered: 2 files")
    assert (small.attempts(), small.files()) == (DONE, before)


def test_what_is_said_of_publishing_anew_agrees(small: Newsroom) -> None:
    small.must("publish_file", "--pub_id", "1")
    said = [
        small("publish_file", "--pub_id", "1").stderr,
        small("pubtool", "-add", "-pub_id", "1", "-path_base", "p").stderr,
    ]
    assert len({text.partition(": ")[2] for text in said}) == 1
    helped = " ".join(small.must("pubtool", "-help").split())
    assert "withdraw its fileset first: dsreg --del FILESET --product PRODUCT" in helped
