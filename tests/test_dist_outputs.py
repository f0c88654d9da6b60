"""Which files a component has, what goes out of them, and where dirinfo says they belong."""

import gzip
from collections.abc import Mapping
from pathlib import Path

import pytest

from mirror.dirinfo import read_dirinfo
from mirror.errors import ConfigError, IntegrityError, MirrorError
from mirror.rewrite import without_volume
from server.distribution.documents import dirinfo, write_document
from server.distribution.outputs import (
    Output,
    bundle_name,
    dump_path,
    read_outputs,
    shipped,
)
from server.distribution.queue import DistRun
from server.distribution.tasks import plan_tasks
from server.faults import CONFIGURATION, DATA
from server.runs.resolve import host_name
from server.runs.stages import STAGES
from server.site import Roots

DUMP = """\
SITE METADATA
  NAME STR here
END
FILES.INPUT METADATA
  PPIMAGE.INPUT STR neb://a/raw.fits
END
FILES.OUTPUT METADATA
  PPIMAGE.CHIP MULTI
  PPIMAGE.CHIP STR neb://a/b/one.fits   # the image
  PPIMAGE.CHIP STR path://D/two.fits
  PPIMAGE.JPEG STR NULL
  LOG.IMFILE STR STDOUT
  ERRORS STR STDERR
  TRACE.IMFILE STR neb://a/b/one.trace
  PPIMAGE.STATS STR relative.stats
END
"""
OUTPUTS = [
    Output("PPIMAGE.CHIP", "neb://a/b/one.fits"),
    Output("PPIMAGE.CHIP", "path://D/two.fits"),
    Output("TRACE.IMFILE", "neb://a/b/one.trace"),
    Output("PPIMAGE.STATS", "relative.stats"),
]


@pytest.mark.parametrize(
    "dump",
    [DUMP.encode(), gzip.compress(DUMP.encode()), DUMP.replace("\n", "\r\n").encode()],
    ids=["plain", "gzip", "CRLF"],
)
def test_a_dump_tells_the_files(dump: bytes) -> None:
    assert read_outputs(dump, "d.mdc") == OUTPUTS


def test_a_block_may_stand_more_than_once_and_be_empty() -> None:
    block = "FILES.OUTPUT METADATA\n A STR /x\nEND\n"
    dump = f"FILES.OUTPUT MULTI\n{block}{block.replace('/x', '/y')}"
    assert [one.path for one in read_outputs(dump.encode(), "d")] == ["/x", "/y"]
    assert read_outputs(b"FILES.OUTPUT METADATA\nEND\n", "d") == []


@pytest.mark.parametrize(
    ("dump", "reason"),
    [
        (b"", "a block FILES.OUTPUT expected"),
        (b"FILES.OUTPUT STR /x\n", "a block FILES.OUTPUT expected"),
        (b"FILES.OUTPUT METADATA\nA STR /x\n", "a config dump expected: d.mdc"),
        (b"SIMPLE  =                    T", "a config dump expected: d.mdc"),
        (b"FILES.OUTPUT METADATA\nA S32 5\nEND\n", "line 2: FILES.OUTPUT: A STR PATH expected"),
        (b"FILES.OUTPUT METADATA\nA METADATA\nEND\nEND\n", "A STR PATH expected, not a METADATA"),
        (b"FILES.OUTPUT METADATA\nA STR /x\nA STR /y\nEND\n", "repeats without MULTI"),
        (gzip.compress(DUMP.encode())[:-9], "d.mdc: damaged gzip"),
        (gzip.compress(DUMP.encode()) + b"x", "d.mdc: damaged gzip"),
    ],
    ids=["empty", "no block", "cut", "no mdc", "number", "nested", "repeated", "cut gzip", "more"],
)
def test_what_is_no_dump_is_refused(dump: bytes, reason: str) -> None:
    with pytest.raises(IntegrityError, match=reason):
        read_outputs(dump, "d.mdc")


def test_a_repetition_elsewhere_or_of_the_same_path_loses_nothing() -> None:
    dump = b"A STR 1\nA STR 2\nFILES.OUTPUT METADATA\nB STR /x\nB STR /x\nEND\n"
    assert read_outputs(dump, "d") == [Output("B", "/x")]


LARGE = [
    rule + kind
    for rule in (
        "PPIMAGE.CHIP", "PPBACKGROUND.OUTPUT", "PSWARP.OUTPUT", "PPSUB.OUTPUT", "PPSUB.INVERSE",
        "PPSTACK.UNCONV",
    )
    for kind in ("", ".MASK", ".VARIANCE")
]  # fmt: skip
LARGE += ["PSASTRO.OUTPUT.MASK"] + [f"PPSTACK.UNCONV.{kind}" for kind in ("EXP", "EXPNUM", "EXPWT")]


@pytest.mark.parametrize("rule", LARGE)
def test_a_clean_distribution_leaves_out(rule: str) -> None:
    some = [Output(rule, "/a/x"), Output(f"{rule}.OTHER", "/a/y")]
    assert shipped(some, clean=True) == some[1:]
    assert shipped(some, clean=False) == some


@pytest.mark.parametrize(
    "rule", ["PSASTRO.OUTPUT", "PPSUB.OUTPUT.SOURCES", "PPIMAGE.CHIP.MASK.X", "PPSTACK.CONV"]
)
def test_a_clean_distribution_keeps(rule: str) -> None:
    assert shipped([Output(rule, "/x")], clean=True)


def test_traces_are_never_shipped() -> None:
    assert shipped([Output("TRACE.IMFILE", "/x"), Output("PP.TRACE", "/y")], clean=False) == []


@pytest.mark.parametrize(
    ("rule", "may"),
    [
        ("LOG.IMFILE", True), ("PPIMAGE.STATS", True), ("TRACE", True), ("PPIMAGE.BIN1", True),
        ("BIN", True), ("PPIMAGE.CATALOG", False), ("BINARY.X", False), ("PSPHOT.LOGS", False),
    ],
)  # fmt: skip
def test_which_may_be_missing(rule: str, may: bool) -> None:
    assert Output(rule, "/x").may_miss is may


def test_a_path_that_two_rules_name_goes_out_once() -> None:
    some = [Output("A", "/x/a"), Output("B", "/x/a")]
    assert shipped(some, clean=False) == some[:1]


@pytest.mark.parametrize(
    ("paths", "reason"),
    [
        (("/x/a", "/y/a"), "B /y/a: A /x/a has the same base name"),
        (("/x/a", "/y/A"), "has the same base name"),
        (("/x/", "/y"), "an empty name"),
        (("/x/..", "/y"), "'..' as a name"),
        (("/x/a|b", "/y"), "characters outside"),
        (("/x/-a", "/y"), "begins with '-'"),
    ],
)
def test_what_cannot_be_a_flat_member_is_refused(paths: tuple[str, str], reason: str) -> None:
    with pytest.raises(IntegrityError, match=reason):
        shipped([Output("A", paths[0]), Output("B", paths[1])], clean=False)


@pytest.mark.parametrize(
    ("stage", "dump", "bundle"),
    [
        ("chip", "neb://v/d/o1.ch.7.XY01.mdc", "o1.ch.7.XY01.tgz"),
        ("chip_bg", "neb://v/d/o1.ch.7.XY01.mdc", "o1.ch.7.XY01.tgz"),
        ("fake", "neb://v/d/o1.ch.7.XY01.mdc", "o1.ch.7.XY01.tgz"),
        ("camera", "neb://v/d/o1.ch.7.mdc", "o1.ch.7.XY01.tgz"),
        ("warp", "neb://v/d/o1.ch.7.mdc", "o1.ch.7.tgz"),
        ("stack", "neb://v/d/o1.ch.7.mdc", "o1.ch.7.tgz"),
    ],
)
def test_names_of_dumps_and_bundles(stage: str, dump: str, bundle: str) -> None:
    path_base = "neb://v/d/o1.ch.7"
    assert dump_path(STAGES[stage], "XY01", path_base) == dump
    assert bundle_name(STAGES[stage], "XY01", path_base, None) == bundle


@pytest.mark.parametrize(
    ("path_base", "uri", "bundle"),
    [
        ("neb://v/d/o1", "neb://v/d/o1.XY01.fits", "o1.XY01.tgz"),
        (None, "neb://v/d/o1.XY01.fits", "o1.XY01.tgz"),
        (None, "neb://v/d/o1.fits.fz", "o1.XY01.tgz"),
        (None, "neb://v/d/o1.dat", "o1.dat.XY01.tgz"),
    ],
)
def test_names_of_raw_bundles(path_base: str | None, uri: str, bundle: str) -> None:
    assert bundle_name(STAGES["raw"], "XY01", path_base, uri) == bundle


@pytest.mark.parametrize(
    ("stage", "path_base", "uri", "reason"),
    [
        ("chip", None, "neb://v/d/x.fits", "no path_base"),
        ("raw", None, None, "neither path_base nor uri"),
        ("warp", "neb://v/d/a b", None, "blanks"),
        ("warp", "neb://v/d/.a", None, "begins with '.'"),
        ("warp", "neb://v/d/a|", None, "characters outside"),
        ("warp", "neb://v/d/" + "a" * 252, None, "256 bytes"),
    ],
)
def test_names_that_cannot_be(
    stage: str, path_base: str | None, uri: str | None, reason: str
) -> None:
    with pytest.raises(ConfigError, match=f"component XY01: .*{reason}"):
        bundle_name(STAGES[stage], "XY01", path_base, uri)


# Tasks of a run

DIST = DistRun(
    3, 1, "warp", 5, None, "/out", True, "new", 0, None, None, None, None
)  # fmt: skip


def plan(rows: list[dict[str, object]], pending: list[str], stage: str = "warp") -> tuple[
    list[tuple[str, str | None]], dict[str, tuple[int, str]]
]:  # fmt: skip
    """Component and bundle of each task, and the faults."""
    run: dict[str, object] = {"warp_id": 5}
    tasks, faults = plan_tasks(
        STAGES[stage], DIST, run, rows, pending, Path("/out"), Roots(), 1
    )  # fmt: skip
    assert all(task.clean and task.gzip_level == 1 and task.dist_id == 3 for task in tasks)
    return (
        [(task.component, task.name) for task in tasks],
        {name: (fault.code, fault.message) for name, fault in faults.items()},
    )


def sky(cell: str, path_base: str | None, quality: int | None = 0) -> dict[str, object]:
    return {"skycell_id": cell, "path_base": path_base, "quality": quality}


def test_pending_components_become_tasks() -> None:
    rows = [sky("s.1", "/w/a/s.1"), sky("s.2", "/w/a/s.2"), sky("s.3", None, 8), sky("s.4", "/x/y")]
    assert plan(rows, ["s.1", "s.3"]) == ([("s.1", "s.1.tgz"), ("s.3", None)], {})


def test_faults_of_components_without_a_task() -> None:
    rows = [
        sky("s.1", "/w/a/same"),
        sky("s.2", "/w/b/Same", None),
        sky("s.3", None),
        sky("s.4", "/w/d"),
    ]
    tasks, faults = plan(rows, ["s.1", "s.3", "s.4", "s.5"])
    assert tasks == [("s.4", "d.tgz")]
    assert faults == {
        "s.1": (DATA, "its bundle same.tgz has the name of that of s.2"),
        "s.3": (CONFIGURATION, "component s.3: no path_base that names its bundle"),
        "s.5": (CONFIGURATION, "not in warpSkyfile of warp run 5"),
    }


# dirinfo


@pytest.mark.parametrize(
    ("path", "rest"),
    [
        ("neb://ipp009.0/gpc1/night", "gpc1/night"),
        ("neb:///gpc1/night/", "gpc1/night"),
        ("path://DATA/gpc1", "gpc1"),
        ("file:///data/ipp009.0/gpc1", "gpc1"),
        ("file://data/ipp009.0/gpc1", "gpc1"),
        ("/data/ipp009.0/gpc1", "gpc1"),
        ("file:///scratch/gpc1", "scratch/gpc1"),
        ("/scratch/gpc1", "scratch/gpc1"),
        ("neb://ipp009.0", ""),
    ],
)
def test_a_path_without_its_volume(path: str, rest: str) -> None:
    assert without_volume(path) == rest


def places(stage: str, workdir: str | None, *rows: Mapping[str, object]) -> tuple[
    str | None, dict[str, str]
]:  # fmt: skip
    """What a mirror reads in the dirinfo of a run."""
    run = {STAGES[stage].id_column: 5, "workdir": workdir}
    text = dirinfo(STAGES[stage], run, rows)
    found = read_dirinfo(text.encode(), "dirinfo", "/mirror")
    return found.destdir, dict(found.components)


def test_components_are_below_the_workdir_whatever_the_volumes() -> None:
    found = places(
        "warp", "neb://@HOST@.0/gpc1/night",
        sky("s.1", "neb://ipp010.0/gpc1/night/o1/s.1"),
        sky("s.2", "neb:///gpc1/night/o1/deep/s.2", 8),
        {"skycell_id": "s.3", "path_base": None, "uri": "neb://x/gpc1/night/o3/u.fits"},
        sky("s.4", None, 8),
    )  # fmt: skip
    assert found == ("gpc1/night", {"s.1": "o1", "s.2": "o1/deep", "s.3": "o3"})


def test_a_host_is_named_in_the_workdir() -> None:
    found = places("warp", "/data/@HOST@.0/x/@HOST@", sky("s", f"/data/a/x/{host_name()}/o1/s"))
    assert found == (f"x/{host_name()}", {"s": "o1"})


def test_a_workdir_that_is_a_volume() -> None:
    assert places("warp", "neb://v", sky("s", "neb://v/a/b/s")) == (None, {"s": "a/b"})


def test_raw_files_are_where_their_uri_says() -> None:
    row = {"class_id": "XY01", "uri": "neb://v/gpc1/raw/o1.fits", "path_base": "neb://v/other/o1"}
    assert places("raw", None, row) == (None, {"XY01": "gpc1/raw"})
    assert places("raw", None, {**row, "uri": None}) == (None, {"XY01": "other"})


@pytest.mark.parametrize(
    ("workdir", "path_base", "reason"),
    [
        (None, "neb://v/w/o/s", "warp run 5: has no workdir in warpRun"),
        ("neb://v/w", "neb://v/x/o/s", "component s: neb://v/x/o/s .* the run's workdir neb://v/w"),
        ("neb://v/w", "neb://v/ww/o/s", "component s: neb://v/ww/o/s is in no directory below"),
        ("neb://v/w", "neb://v/w/s", "component s: neb://v/w/s is in no directory below"),
        ("neb://v", "neb://v/s", "component s: neb://v/s has no directory"),
        ("neb://v/w", "neb://v/w/../s/t", "a relative directory expected"),
        ("neb://v/w", "neb://v/w/a//s", "a relative directory expected"),
        ("neb://v/w", "neb://v/w/a#b/s", "that mdc cannot carry"),
    ],
)
def test_places_that_no_mirror_would_take(workdir: str | None, path_base: str, reason: str) -> None:
    with pytest.raises(MirrorError, match=reason):
        places("warp", workdir, sky("s", path_base))


@pytest.mark.parametrize("cell", ["END", "a b", "x#y", "-"])
def test_components_whose_names_mdc_cannot_carry(cell: str) -> None:
    with pytest.raises(MirrorError):
        places("warp", "neb://v/w", sky(cell, "neb://v/w/o/s"))


@pytest.mark.parametrize("name", ["flush", "os.replace"])
def test_a_document_that_is_not_finished_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """SIGTERM and Ctrl-C come as exceptions, at any line."""

    def interrupted(*_: object) -> None:
        raise SystemExit(143)

    monkeypatch.setattr(f"server.distribution.documents.{name}", interrupted)
    with pytest.raises(SystemExit):
        write_document(tmp_path / "dbinfo", tmp_path / ".scratch", ["a"])
    assert list(tmp_path.iterdir()) == []
