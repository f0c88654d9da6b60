"""Paths in dbinfo and config dumps (PROTOCOL sections 3 and 5)."""

import gzip
import io
import re
import zlib
from collections.abc import Callable, Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from formats import mdc
from mirror import rewrite
from mirror.errors import IntegrityError
from mirror.rewrite import (
    Places,
    base_name,
    local_path,
    local_value,
    rewrite_dbinfo,
    rewrite_dump,
)

DATA = "/mirror/data"
DESTDIR = "gpc1/scitest.200807"
CHIP = Places(DATA, DESTDIR, {"XY01": "o4642.1", "XY02": "o4642.2"})
STACK = Places(DATA, "gpc1/st", {"skycell.1566.004": "s/1566"})
ONE = Places(DATA, "gpc1/sky", {"skycell.7": "sky.7"})
VERSION = b"dbversion MULTI\n\ndbversion METADATA\n schema_version STR 1.1\nEND\n\n"


class Dribble(io.BytesIO):
    """A source that gives at most `most` bytes at a time, so that blocks end anywhere."""

    def __init__(self, data: bytes, most: int) -> None:
        super().__init__(data)
        self.most = most

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(self.most if size is None or size < 0 else min(size, self.most))


def dbinfo(data: bytes, places: Places = CHIP, most: int = 2**20) -> bytes:
    target = io.BytesIO()
    rewrite_dbinfo(Dribble(data, most), target, places, "dbinfo.mdc")
    return target.getvalue()


def dump(data: bytes, prefix: str = DATA, most: int = 2**20) -> bytes:
    target = io.BytesIO()
    rewrite_dump(Dribble(data, most), target, prefix, "o4642.mdc")
    return target.getvalue()


def run(table: str, *rows: str) -> bytes:
    """A dbinfo: dbversion, then the rows, each a table's name and its lines."""
    text = f"{table} MULTI\n"
    for row in rows:
        name, *lines = row.split("\n")
        text += f"{name} METADATA\n" + "".join(f"{line}\n" for line in lines) + "END\n"
    return VERSION + text.encode()


# --- one value ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (b"neb://ipp009.0/gpc1/o4642.ch.293", b"o4642.ch.293"),
        (b"o4642.fits", b"o4642.fits"),
        (b"a b/c d", b"c d"),
        (b"neb://ipp009.0/gpc1/x/", b"x"),
        (b"/x//", b"x"),
        (b"\xff\xfe/\xfd", b"\xfd"),
        (b"a/...", b"..."),
        (b"a/.hidden", b".hidden"),
    ],
)
def test_the_base_name_of_a_value(value: bytes, name: bytes) -> None:
    assert base_name(value) == name


@pytest.mark.parametrize(
    "value", [b"", b"/", b"//", b"..", b"a/..", b"a/.", b"neb://a/../", b"a/ b", b"b /", b"a/\t/"]
)
def test_values_without_a_base_name(value: bytes) -> None:
    with pytest.raises(IntegrityError, match="a base name expected"):
        base_name(value)


@pytest.mark.parametrize(
    ("column", "old", "new"),
    [
        (b"workdir", b"neb://ipp009.0/gpc1/scitest.200807", b"W"),
        (b"workdir", b"NULL", b"NULL"),
        (b"uri", b"neb://v/a/b.fits", b"D/b.fits"),
        (b"uri", b"NULL", b"NULL"),
        (b"path_base", b"neb://v/a/b.ch.1", b"D/b.ch.1"),
        (b"path_base", b"NULL", b"NULL"),
        (b"path_base", b"null", b"D/null"),
        (b"tess_id", b"/data/ipp009.0/tess/ALLSKY", b"ALLSKY"),
        (b"tess_id", b"ALLSKY", b"ALLSKY"),
        (b"tess_id", b"NULL", b"NULL"),
        (b"label", b"neb://v/a/b", b"neb://v/a/b"),
    ],
)
def test_the_new_value_of_a_column(column: bytes, old: bytes, new: bytes) -> None:
    assert local_value(column, old, b"W", b"D") == new


@pytest.mark.parametrize(
    ("path", "new"),
    [
        (b"neb://ipp009.0/a/b", b"/mirror/data/a/b"),
        (b"neb:///a/b", b"/mirror/data/a/b"),
        (b"neb://any", b"/mirror/data"),
        (b"path://NAME/a/b", b"/mirror/data/a/b"),
        (b"path:///a/b", b"/mirror/data/a/b"),
        (b"file://data/ipp009.0/a/b", b"/mirror/data/a/b"),
        (b"file:///data/ipp009.0/a/b", b"/mirror/data/a/b"),
        (b"/data/ipp009.0/a/b", b"/mirror/data/a/b"),
        (b"/data/ipp009.0", b"/mirror/data"),
        (b"/data/ipp009.0/", b"/mirror/data/"),
        (b"neb://v/a b/c", b"/mirror/data/a b/c"),
        (b"a/b.fits", b"a/b.fits"),
        (b"data/ipp009.0/a", b"data/ipp009.0/a"),
        (b"STDOUT", b"STDOUT"),
        (b"STDERR", b"STDERR"),
        (b"NULL", b"NULL"),
        (b"/home/panstarrs/a", b"/home/panstarrs/a"),
        (b"/database/a", b"/database/a"),
        (b"/data", b"/data"),
        (b"/data/", b"/data/"),
        (b"file:///home/a", b"file:///home/a"),
        (b"http://example.org/a", b"http://example.org/a"),
        (b"x neb://v/a", b"x neb://v/a"),
    ],
)
def test_the_volume_of_a_path(path: bytes, new: bytes) -> None:
    assert local_path(path, b"/mirror/data") == new


@pytest.mark.parametrize(
    ("prefix", "workdir", "path"),
    [
        ("path://MIRROR", "path://MIRROR/gpc1/scitest.200807", b"path://MIRROR/a"),
        ("/mirror/data/", "/mirror/data/gpc1/scitest.200807", b"/mirror/data/a"),
        ("/", "/gpc1/scitest.200807", b"/a"),
        ("/dôme", "/dôme/gpc1/scitest.200807", "/dôme/a".encode()),
    ],
)
def test_the_data_prefix_is_joined_with_one_slash(prefix: str, workdir: str, path: bytes) -> None:
    places = Places(prefix, DESTDIR, CHIP.components)
    assert places.workdir() == workdir
    assert workdir.encode() in dbinfo(run("chipRun", "chipRun\nworkdir STR neb://v/x"), places)
    assert local_path(b"neb://v/a", prefix.encode()) == path
    assert local_path(b"neb://v", prefix.encode()) == prefix.encode()


# --- dbinfo, whole examples --------------------------------------------------------------------


CHIP_OLD = b"""\
# written by chiptool
dbversion MULTI

dbversion METADATA
   schema_version   STR            1.1.60          # the schema
END

chipRun MULTI

chipRun METADATA
   chip_id          S64            293
   state            STR            full
   workdir          STR            neb://ipp009.0/gpc1/scitest.200807
   label            STR            neb://not.a/path
   dvodb            STR            NULL
   tess_id          STR            /data/ipp009.0/tess/ALLSKY
END

chipProcessedImfile MULTI

chipProcessedImfile METADATA
   chip_id          S64            293
   class_id         STR            XY01
   uri              STR            neb://ipp009.0/gpc1/a/o4642.ch.293.XY01.fits  # image
   bg               F32            nan
   path_base\tSTR\tneb://ipp009.0/gpc1/a/o4642.ch.293
END
chipProcessedImfile METADATA
   class_id         STR            XY02
   uri              STR            NULL
   path_base        STR            neb://ipp009.0/gpc1/a/o4642.ch.293   \t
END
"""
CHIP_NEW = b"""\
# written by chiptool
dbversion MULTI

dbversion METADATA
   schema_version   STR            1.1.60          # the schema
END

chipRun MULTI

chipRun METADATA
   chip_id          S64            293
   state            STR            full
   workdir          STR            /mirror/data/gpc1/scitest.200807
   label            STR            neb://not.a/path
   dvodb            STR            NULL
   tess_id          STR            ALLSKY
END

chipProcessedImfile MULTI

chipProcessedImfile METADATA
   chip_id          S64            293
   class_id         STR            XY01
   uri              STR            /mirror/data/gpc1/scitest.200807/o4642.1/o4642.ch.293.XY01.fits  # image
   bg               F32            nan
   path_base\tSTR\t/mirror/data/gpc1/scitest.200807/o4642.1/o4642.ch.293
END
chipProcessedImfile METADATA
   class_id         STR            XY02
   uri              STR            NULL
   path_base        STR            /mirror/data/gpc1/scitest.200807/o4642.2/o4642.ch.293   \t
END
"""  # noqa: E501

CAMERA = run(
    "camRun",
    "camRun\n workdir STR neb://v/gpc1\n tess_id STR ALLSKY",
    "camProcessedExp\n cam_id S64 5\n uri STR NULL\n path_base STR neb://v/gpc1/o.cm.5",
)
RAW = run(
    "rawExp",
    "rawExp\n exp_id S64 7\n exp_name STR o4642g0414o\n workdir STR neb://v/gpc1\n tess_id STR a/T",
    "rawImfile\n tmp_class_id STR ccd01\n class_id STR XY01\n uri STR neb://v/o4642.XY01.fits",
    "rawImfile\n tmp_class_id STR ccd02\n class_id STR XY02\n uri STR neb://v/o4642.XY02.fits",
)
WARP = run(
    "warpRun",
    "warpRun\n workdir STR neb://v/gpc1\n tess_id STR neb://v/tess/MD04.V2",
    "warpSkyCellMap\n skycell_id STR skycell.1\n tess_id STR neb://v/tess/MD04.V2\n class_id STR X",
    "warpSkyfile\n skycell_id STR skycell.1\n tess_id STR t/MD04.V2\n path_base STR neb://v/a/o.wrp",
    "warpSkyfile\n skycell_id STR skycell.2\n path_base STR neb://v/a/o.wrp.2",
)
STACKED = run(
    "stackRun",
    "stackRun\n workdir STR neb://v/st\n skycell_id STR skycell.1566.004\n tess_id STR NULL",
    "stackInputSkyfile\n stack_id S64 9\n warp_id S64 1",
    "stackSumSkyfile\n stack_id S64 9\n uri STR neb://v/st/s.fits\n path_base STR neb://v/st/s",
)
SKY = run(
    "staticskyRun",
    "staticskyRun\n workdir STR neb://v/sky",
    "staticskyResult\n path_base STR neb://v/sky/s.7",
)


def replaced(data: bytes, changes: Mapping[bytes, bytes]) -> bytes:
    for old, new in changes.items():
        assert old in data
        data = data.replace(old, new)
    return data


@pytest.mark.parametrize(
    ("old", "new", "places"),
    [
        pytest.param(CHIP_OLD, CHIP_NEW, CHIP, id="chip"),
        pytest.param(
            CAMERA,
            replaced(
                CAMERA,
                {
                    b"neb://v/gpc1/o.cm.5": b"/mirror/data/gpc1/exp.1/o.cm.5",
                    b"neb://v/gpc1": b"/mirror/data/gpc1",
                },
            ),
            Places(DATA, "gpc1", {"exposure": "exp.1"}),
            id="camera",
        ),
        pytest.param(
            RAW,
            replaced(
                RAW,
                {
                    b"neb://v/gpc1": b"/mirror/data",
                    b"STR a/T": b"STR T",
                    b"neb://v/o4642.XY01.fits": b"/mirror/data/gpc1/20080907/XY01/o4642.XY01.fits",
                    b"neb://v/o4642.XY02.fits": b"/mirror/data/gpc1/20080907/XY02/o4642.XY02.fits",
                },
            ),
            Places(DATA, None, {"XY01": "gpc1/20080907/XY01", "XY02": "gpc1/20080907/XY02"}),
            id="raw",
        ),
        pytest.param(
            WARP,
            replaced(
                WARP,
                {
                    b"neb://v/gpc1": b"/mirror/data/gpc1",
                    b"neb://v/tess/MD04.V2": b"MD04.V2",
                    b"t/MD04.V2": b"MD04.V2",
                    b"neb://v/a/o.wrp.2": b"/mirror/data/gpc1/o/2/o.wrp.2",
                    b"neb://v/a/o.wrp": b"/mirror/data/gpc1/o/1/o.wrp",
                },
            ),
            Places(DATA, "gpc1", {"skycell.1": "o/1", "skycell.2": "o/2"}),
            id="warp",
        ),
        pytest.param(
            STACKED,
            replaced(
                STACKED,
                {
                    b"neb://v/st/s": b"/mirror/data/gpc1/st/s/1566/s",
                    b"workdir STR neb://v/st": b"workdir STR /mirror/data/gpc1/st",
                },
            ),
            STACK,
            id="stack",
        ),
        pytest.param(
            SKY,
            replaced(
                SKY,
                {
                    b"neb://v/sky/s.7": b"/mirror/data/gpc1/sky/sky.7/s.7",
                    b"neb://v/sky": b"/mirror/data/gpc1/sky",
                },
            ),
            ONE,
            id="sky",
        ),
    ],
)
@pytest.mark.parametrize("ends", ["lf", "crlf", "no-last"])
@pytest.mark.parametrize("most", [2**20, 7])
def test_a_dbinfo_of_each_kind(
    old: bytes, new: bytes, places: Places, ends: str, most: int
) -> None:
    if ends == "crlf":
        old, new = (text.replace(b"\n", b"\r\n") for text in (old, new))
    elif ends == "no-last":
        old, new = old[:-1], new[:-1]
    assert dbinfo(old, places, most) == new


def test_the_result_reads_as_the_same_document_but_for_the_paths() -> None:
    old, new = mdc.load(CHIP_OLD, "old"), mdc.load(dbinfo(CHIP_OLD), "new")
    assert [row["path_base"] for row in new["chipProcessedImfile"]] == [
        "/mirror/data/gpc1/scitest.200807/o4642.1/o4642.ch.293",
        "/mirror/data/gpc1/scitest.200807/o4642.2/o4642.ch.293",
    ]
    assert new["chipRun"][0]["label"] == old["chipRun"][0]["label"]
    assert new["dbversion"] == old["dbversion"]


# --- dbinfo, rule by rule ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "column"),
    [
        ("rawExp", "class_id"),
        ("chipRun", "class_id"),
        ("chipBackgroundRun", "class_id"),
        ("fakeRun", "class_id"),
        ("warpRun", "skycell_id"),
        ("warpBackgroundRun", "skycell_id"),
        ("diffRun", "skycell_id"),
        ("stackRun", "skycell_id"),
    ],
)
def test_the_run_tells_which_column_names_the_component(table: str, column: str) -> None:
    other = {"class_id": "skycell_id", "skycell_id": "class_id"}[column]
    row = f"{table}\n{column} STR XY02\n{other} STR XY01\nuri STR a/x"
    assert b"uri STR /mirror/data/gpc1/scitest.200807/o4642.2/x\n" in dbinfo(run(table, row))
    alone = f"{table}\n{other} STR XY02\nuri STR a/x"
    with pytest.raises(IntegrityError, match=f"no {column} before it; dirinfo has XY01, XY02"):
        dbinfo(run(table, alone))


@pytest.mark.parametrize("table", ["staticskyRun", "skycalRun", "notYetKnownRun"])
def test_runs_of_one_component_that_dirinfo_alone_names(table: str) -> None:
    row = f"{table}\nclass_id STR other\nuri STR a/x"
    assert b"uri STR /mirror/data/gpc1/sky/sky.7/x\n" in dbinfo(run(table, row), ONE)
    with pytest.raises(IntegrityError, match=f"'{table}' needs exactly one component; dirinfo has"):
        dbinfo(run(table, row), CHIP)
    assert dbinfo(run(table, f"{table}\nuri STR NULL"), CHIP)


def test_a_camera_run_has_the_component_exposure_and_no_other() -> None:
    rows = run("camRun", "camProcessedExp\nclass_id STR XY01\nuri STR a/x")
    both = Places(DATA, None, {"XY01": "chip", "exposure": "exp"})
    assert b"uri STR /mirror/data/exp/x\n" in dbinfo(rows, both)
    with pytest.raises(IntegrityError, match="component 'exposure' is not in dirinfo, which has"):
        dbinfo(rows, Places(DATA, None, {"XY01": "chip"}))


def test_one_component_alone_does_not_stand_in_for_a_column() -> None:
    with pytest.raises(IntegrityError, match="names no class_id before it"):
        dbinfo(run("chipRun", "chipImfile\nuri STR a/x"), Places(DATA, None, {"XY01": "chip"}))


def test_the_rows_of_a_stack_have_the_skycell_of_its_run() -> None:
    two = Places(DATA, None, {"sky.1": "one", "sky.2": "two"})
    rows = run(
        "stackRun",
        "stackRun\nskycell_id STR sky.1",
        "stackSumSkyfile\nuri STR a/x",
        "stackSumSkyfile\nskycell_id STR sky.2\nuri STR a/y",
        "stackSumSkyfile\nuri STR a/z",
    )
    new = dbinfo(rows, two)
    assert re.findall(rb"uri STR (.*)", new) == [
        b"/mirror/data/one/x",
        b"/mirror/data/two/y",
        b"/mirror/data/one/z",
    ]


def test_a_component_goes_for_its_own_row_only() -> None:
    rows = run("chipRun", "chipRun\nclass_id STR XY01", "chipImfile\nuri STR a/x")
    with pytest.raises(IntegrityError, match="names no class_id before it"):
        dbinfo(rows)


@pytest.mark.parametrize(
    "line",
    [
        "uri STR ",
        "uri STR",
        "uri STR   # nothing",
        "uri STR NULL",
        "uri STR NULL  # none",
        "uri STRING NULL",
        "uri S32 5",
        "uri UTC 2009-04-15T01:22:12Z",
        "# uri STR a/x",
        "label STR x # uri STR a/x",
        "Uri STR a/x",
        "uri2 STR a/x",
        "my.uri STR a/x",
        "my_uri STR a/x",
        "note STR uri STR a/x",
        "workdir_state STR a/x",
        "workdir MULTI",
        "TYPE uri a b",
        "tess_id S64 NULL",
        "",
        "   ",
    ],
)
def test_lines_that_stay_as_they_are(line: str) -> None:
    data = run("chipRun", f"chipRun\n{line}\nlabel STR a/x")
    assert dbinfo(data) == data


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param("workdir STR a/x", "workdir STR W", id="plain"),
        pytest.param("workdir STRING a/x", "workdir STRING W", id="STRING"),
        pytest.param("\t workdir\t STR \t a/x", "\t workdir\t STR \t W", id="blanks-tabs"),
        pytest.param("workdir STR a x \t ", "workdir STR W \t ", id="inner-and-trailing-blanks"),
        pytest.param("workdir STR a/x#y", "workdir STR W#y", id="comment-at-once"),
        pytest.param("workdir STR a/x\t# y # z", "workdir STR W\t# y # z", id="comment"),
        pytest.param("workdir STR a/x\r", "workdir STR W\r", id="crlf"),
        pytest.param("workdir STR a/x \r", "workdir STR W \r", id="blank-crlf"),
        pytest.param("workdir STR x\nworkdir STR y", "workdir STR W\nworkdir STR W", id="twice"),
        pytest.param("tess_id STR /t/A # b/c", "tess_id STR A # b/c", id="tess"),
        pytest.param("uri STR x\tclass", "uri STR D/x\tclass", id="inner-tab"),
        pytest.param("path_base STR neb://v/x/", "path_base STR D/x", id="slash-at-end"),
    ],
)
def test_how_a_value_is_replaced(old: str, new: str) -> None:
    """After `class_id STR XY01`; W and D stand for the new workdir and directory."""
    directory = "/mirror/data/gpc1/scitest.200807/o4642.1"
    before = "chipRun\nclass_id STR XY01 # c\n"
    new = new.replace("STRING", "§").replace("W", "/mirror/data/gpc1/scitest.200807")
    new = re.sub(r"\bD\b", directory, new).replace("§", "STRING")
    assert dbinfo(run("chipRun", before + old)) == run("chipRun", before + new)


def test_keywords_may_be_written_in_any_case() -> None:
    old = b"chipRun Multi\nchipRun\tMetaData # m\nclass_id STR XY01\nuri STR a/x\n eNd # e\n"
    new = b"/mirror/data/gpc1/scitest.200807/o4642.1/x"
    assert dbinfo(old) == old.replace(b"a/x", new)


def test_a_document_may_begin_with_a_bom() -> None:
    old = b"\xef\xbb\xbfchipRun METADATA\nworkdir STR a/x\nEND\n"
    assert dbinfo(old) == old.replace(b"a/x", b"/mirror/data/gpc1/scitest.200807")


def test_blocks_in_a_row_are_no_columns_of_it() -> None:
    inner = "class_id STR XY02\nuri STR a/x\nworkdir STR a/x\ndeeper METADATA\nEND\n"
    rows = run("chipRun", f"chipRun\nclass_id STR XY01\nmore METADATA\n{inner}END\nuri STR a/y")
    new = b"/mirror/data/gpc1/scitest.200807/o4642.1/y"
    assert dbinfo(rows) == rows.replace(b"a/y", new)


def test_rows_of_dbversion_and_lines_outside_rows_are_no_columns() -> None:
    data = b"dbversion METADATA\nworkdir STR a/x\nuri STR a/x\nEND\nworkdir STR a/x\nuri STR a/x\n"
    assert dbinfo(data) == data


def test_the_first_of_two_components_of_a_row_stays() -> None:
    rows = run("chipRun", "chipImfile\nclass_id STR XY01\nclass_id STR XY02\nuri STR a/x")
    assert b"o4642.1/x" in dbinfo(rows)


@pytest.mark.parametrize("data", [b"", b"\n", b"\r\n", b"# nothing", VERSION])
def test_documents_without_rows(data: bytes) -> None:
    assert dbinfo(data) == data


@pytest.mark.parametrize(
    ("row", "parts"),
    [
        pytest.param(
            "chipImfile\nclass_id STR XY03\nuri STR neb://v/x",
            ["line 10", "chipImfile", "uri", "neb://v/x", "'XY03'", "dirinfo", "XY01, XY02"],
            id="unknown-component",
        ),
        pytest.param(
            "chipImfile\nuri STR neb://v/x\nclass_id STR XY01",
            ["line 9", "chipImfile", "uri", "neb://v/x", "no class_id", "XY01, XY02"],
            id="component-after-path",
        ),
        pytest.param(
            "chipImfile\nclass_id STR NULL\npath_base STR neb://v/x",
            ["line 10", "chipImfile", "path_base", "neb://v/x", "no class_id"],
            id="component-null",
        ),
        pytest.param(
            "chipImfile\nclass_id STR XY01\nuri STR neb://v/..",
            ["line 10", "chipImfile", "uri", "neb://v/..", "base name"],
            id="no-base-name",
        ),
        pytest.param(
            "chipImfile\ntess_id STR ///",
            ["line 9", "chipImfile", "tess_id", "///", "base name"],
            id="tess-without-base-name",
        ),
        pytest.param(
            "chipImfile\nclass_id STR XY03\nuri STR \x1b" + 5000 * "x",
            ["\\x1b"],
            id="hostile-value",
        ),
        pytest.param("chipImfile\nEND", ["line 10", "END"], id="end-too-many"),
        pytest.param("chipImfile\nmore METADATA", ["'chipImfile'", "no END"], id="end-missing"),
    ],
)
@pytest.mark.parametrize("most", [2**20, 3])
def test_what_is_refused(row: str, parts: list[str], most: int) -> None:
    with pytest.raises(IntegrityError) as caught:
        dbinfo(run("chipRun", row), CHIP, most)
    message = str(caught.value)
    assert [part for part in ["dbinfo.mdc", *parts] if part not in message] == []
    assert message.isascii()
    assert message.isprintable()
    assert len(message) < 1000


# The last of these lets a block begin with the line end of the longest line.
@pytest.mark.parametrize("most", [2**20, 2**17 - 1, 2**10, (2**20 + 8) // 12])
@pytest.mark.parametrize("end", [b"", b"\n", b"\nlabel STR x\n"])
@pytest.mark.parametrize(
    "call",
    [
        pytest.param(dbinfo, id="dbinfo"),
        pytest.param(lambda data, _, most: dump(data, DATA, most), id="dump"),
    ],
)
def test_a_line_has_a_longest_length(
    call: Callable[[bytes, Places, int], bytes], end: bytes, most: int
) -> None:
    longest = b"# first\n#" + b" " * (rewrite.MAX_LINE - 1)
    assert call(longest + end, CHIP, most) == longest + end
    with pytest.raises(IntegrityError, match="line 2: longer than 1048576 bytes"):
        call(longest + b" " + end, CHIP, most)


def test_odd_lines_take_no_longer_than_plain_ones() -> None:
    """Were the search to backtrack, these would take hours, not milliseconds."""
    blanks = b" " * (rewrite.MAX_LINE - 100)
    for line in (
        b"uri STR" + blanks,
        blanks,
        b"a" + blanks + b"METADATA x",
        b"END" + blanks + b"x",
    ):
        assert dbinfo(VERSION + line + b"\n") == VERSION + line + b"\n"
        assert dump(line) == line


def test_long_directories_do_not_make_a_document_grow_without_bound(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    places = Places(DATA, "d" * 255, {"XY01": "c" * 255})
    data = run("chipRun", "chipRun\nclass_id STR XY01" + "\nuri STR a" * 2000)
    assert len(dbinfo(data, places)) > 16 * len(data)
    monkeypatch.setattr(rewrite, "SMALL", 10**4)
    with pytest.raises(IntegrityError, match=r"dbinfo\.mdc: \d+ bytes become \d+ with their new"):
        dbinfo(data, places)


# --- dbinfo, against a slow reader -------------------------------------------------------------


COLUMN_OF_RUN = {b"rawExp": b"class_id", b"chipRun": b"class_id", b"warpRun": b"skycell_id"}


class Unfit(Exception):
    """What the slow reader says of a document that must be refused."""


def split_line(line: bytes) -> tuple[list[bytes], int]:
    """The words of a line, the value as the third, and where the value ends."""
    code = line.partition(b"#")[0].rstrip(b" \t\r")
    return re.split(rb"[ \t]+", code.lstrip(b" \t"), maxsplit=2), len(code)


def slow_new(column: bytes, value: bytes, component: bytes | None, places: Places) -> bytes:
    head = places.data_prefix + (f"/{places.destdir}" if places.destdir else "")
    if value == b"NULL" or column not in (b"workdir", b"tess_id", b"uri", b"path_base"):
        return value
    if column == b"workdir":
        return head.encode()
    while value.endswith(b"/"):
        value = value[:-1]
    base = value.split(b"/")[-1]
    if column != b"tess_id" and (component or b"").decode("latin-1") not in places.components:
        raise Unfit
    if base in (b"", b".", b"..") or base[:1] in b" \t\r" or base[-1:] in b" \t\r":
        raise Unfit
    if column == b"tess_id":
        return base
    return b"/".join([head.encode(), places.components[(component or b"").decode()].encode(), base])


def slow_dbinfo(data: bytes, places: Places) -> bytes:
    """The rules once more, line by line, for runs of COLUMN_OF_RUN."""
    lines = data.split(b"\n")
    open_blocks: list[bytes] = []
    run_table: bytes | None = None
    component: bytes | None = None
    for number, line in enumerate(lines):
        words, end = split_line(line)
        keyword = words[1].upper() if len(words) == 2 else b""
        if keyword in (b"METADATA", b"MULTI") and re.fullmatch(rb"\w[\w.-]*", words[0]):
            if not open_blocks:
                run_table = run_table or (words[0] if words[0] != b"dbversion" else None)
                component = None
            open_blocks += [words[0]] if keyword == b"METADATA" else []
        elif len(words) == 1 and words[0].upper() == b"END":
            if not open_blocks:
                raise Unfit
            open_blocks.pop()
        elif len(words) == 3 and words[1] in (b"STR", b"STRING") and len(open_blocks) == 1:
            if open_blocks == [b"dbversion"]:
                continue
            if words[0] == COLUMN_OF_RUN[run_table or b""]:
                component = component or words[2]
            new = slow_new(words[0], words[2], component, places)
            lines[number] = line[: end - len(words[2])] + new + line[end:]
    if open_blocks:
        raise Unfit
    return b"\n".join(lines)


BLANK = st.sampled_from([" ", "\t", "   ", " \t "])
NO_BLANK = st.just("")
COMMENT = st.sampled_from(["", "", "", " # note", "#", "# END", "#uri STR a/x"])
VALUES = (
    st.sampled_from(
        ["a", "XY01", "XY02", "neb://v/a/b c.fits", "neb://v/a/b/", "é/ü", "x\ry", "NULL"]
    )
    | st.sampled_from(["XY09", "//", "..", ""])
    | st.text(alphabet="ab/. \t", max_size=6)
)
COLUMNS = st.sampled_from(["uri", "path_base", "workdir", "tess_id"]) | st.sampled_from(
    ["class_id", "skycell_id", "label", "x.uri", "@uri"]
)
TYPES = st.just("STR") | st.sampled_from(["STR", "STRING", "S32", "STRX", "MULTI", "metadata2"])


@st.composite
def scalar(draw: st.DrawFn) -> list[str]:
    lead, one, two = draw(BLANK | NO_BLANK), draw(BLANK), draw(BLANK)
    line = lead + draw(COLUMNS) + one + draw(TYPES) + two + draw(VALUES)
    return [line + draw(BLANK | NO_BLANK) + draw(COMMENT)]


@st.composite
def block(draw: st.DrawFn, names: st.SearchStrategy[str], lines: list[list[str]]) -> list[str]:
    keyword = draw(st.sampled_from(["METADATA", "metadata", "MetaData"]))
    first = draw(names) + draw(BLANK) + keyword + draw(COMMENT)
    return [first, *(line for part in lines for line in part), draw(BLANK | NO_BLANK) + "END"]


NESTED = st.lists(scalar(), max_size=2).flatmap(lambda lines: block(st.just("more"), lines))
BOTH = st.just(["class_id STR XY01", "skycell_id STR XY02"])
NAMED = BOTH | BOTH | st.sampled_from([["class_id STR XY09"], []])
ROW = st.builds(
    lambda named, lines: [named, *lines],
    NAMED,
    st.lists(scalar() | scalar() | scalar() | NESTED | st.just([""]), min_size=1, max_size=5),
).flatmap(lambda lines: block(st.sampled_from(["chipImfile", "warpRun", "dbversion"]), lines))
SPOILT = st.sampled_from([["END"], ["chipRun METADATA"], ["# END"], ["workdir STR outside"]])


@st.composite
def documents(draw: st.DrawFn) -> bytes:
    kind = draw(st.sampled_from(sorted(COLUMN_OF_RUN)))
    parts = [
        ["dbversion MULTI"],
        [f"{kind.decode()} MULTI"],
        *draw(st.lists(ROW, min_size=1, max_size=4)),
    ]
    if draw(st.integers(0, 9)) == 0:
        parts.insert(draw(st.integers(2, len(parts))), draw(SPOILT))
    end = draw(st.sampled_from(["\n", "\n", "\r\n"]))
    text = end.join(line for part in parts for line in part)
    return (text + draw(st.sampled_from([end, ""]))).encode()


PLACES = st.sampled_from([CHIP, Places("path://MIRROR", None, {"XY01": "a/b", "XY02": "c"})])


@settings(max_examples=300)
@given(documents(), PLACES, st.integers(1, 40))
def test_a_dbinfo_is_what_a_slow_reader_makes_of_it(data: bytes, places: Places, most: int) -> None:
    try:
        expected = slow_dbinfo(data, places)
    except Unfit:
        with pytest.raises(IntegrityError):
            dbinfo(data, places, most)
        return
    assert dbinfo(data, places, most) == expected


@given(documents(), st.integers(1, 40))
def test_nothing_but_values_changes(data: bytes, most: int) -> None:
    try:
        new = dbinfo(data, CHIP, most)
    except IntegrityError:
        return
    old_lines, new_lines = data.split(b"\n"), new.split(b"\n")
    assert len(new_lines) == len(old_lines)
    column = rb"[ \t]*(?:workdir|uri|path_base|tess_id)[ \t]+STR(?:ING)?[ \t]+"
    shape = re.compile(rb"(" + column + rb")[^#]*?([ \t\r]*(?:#.*)?)", re.DOTALL)
    for one, other in zip(old_lines, new_lines, strict=True):
        if one != other:
            before, after = shape.fullmatch(one), shape.fullmatch(other)
            assert before
            assert after
            assert before.groups() == after.groups()


@given(documents(), st.data())
def test_damaged_bytes_raise_nothing_else(document: bytes, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(document)))
    damaged = document[:at] + data.draw(st.binary(max_size=20)) + document[at + 3 :]
    for call in (dbinfo, dump):
        try:
            call(damaged)
        except IntegrityError:
            pass


# --- config dumps ------------------------------------------------------------------------------


DUMP_OLD = b"""\
PPIMAGE METADATA
   LOCAL STR neb://ipp009.0/recipes/a
   FILES.INPUT METADATA
      X STR neb://ipp009.0/x
   END
END
FILES.INPUT METADATA # what came in
   PPIMAGE.INPUT   MULTI
   PPIMAGE.INPUT   STR  neb://ipp009.0/gpc1/o4642.XY01.fits   # first
   PPIMAGE.INPUT   STR  path://DATAPATH/gpc1/o4642.XY02.fits
   DETREND.FLAT    STR  file://data/ipp010.0/detrend/flat.fits
   DETREND.DARK    STRING  file:///data/ipp010.0/detrend/dark.fits
   COUNT           S32  4
   INNER METADATA
      PPIMAGE.MASK STR  /data/ipp010.0/mask.fits
   END
   DETREND.MASK    STR  /data/ipp010.0/detrend/mask.fits\t
END
files.output METADATA
   LOG STR neb://ipp009.0/no.log
END
FILES.OUTPUT METADATA
   PPIMAGE.CHIP    STR  neb:///gpc1/o4642.ch.fits
   LOG             STR  STDERR
   TRACE           STR  STDOUT
   STATS           STR  relative/o4642.stats
   OTHER           STR  /home/ipp/o4642.stats
   # OLD           STR  neb://ipp009.0/old
END
LAST STR neb://ipp009.0/last
"""
DUMP_NEW = b"""\
PPIMAGE METADATA
   LOCAL STR neb://ipp009.0/recipes/a
   FILES.INPUT METADATA
      X STR neb://ipp009.0/x
   END
END
FILES.INPUT METADATA # what came in
   PPIMAGE.INPUT   MULTI
   PPIMAGE.INPUT   STR  /mirror/data/gpc1/o4642.XY01.fits   # first
   PPIMAGE.INPUT   STR  /mirror/data/gpc1/o4642.XY02.fits
   DETREND.FLAT    STR  /mirror/data/detrend/flat.fits
   DETREND.DARK    STRING  /mirror/data/detrend/dark.fits
   COUNT           S32  4
   INNER METADATA
      PPIMAGE.MASK STR  /mirror/data/mask.fits
   END
   DETREND.MASK    STR  /mirror/data/detrend/mask.fits\t
END
files.output METADATA
   LOG STR neb://ipp009.0/no.log
END
FILES.OUTPUT METADATA
   PPIMAGE.CHIP    STR  /mirror/data/gpc1/o4642.ch.fits
   LOG             STR  STDERR
   TRACE           STR  STDOUT
   STATS           STR  relative/o4642.stats
   OTHER           STR  /home/ipp/o4642.stats
   # OLD           STR  neb://ipp009.0/old
END
LAST STR neb://ipp009.0/last
"""


@pytest.mark.parametrize("most", [2**20, 5, 1])
@pytest.mark.parametrize("ends", [b"\n", b"\r\n"])
def test_a_config_dump(ends: bytes, most: int) -> None:
    old, new = (text.replace(b"\n", ends) for text in (DUMP_OLD, DUMP_NEW))
    assert dump(old, DATA, most) == new
    assert dump(old[: -len(ends)], DATA, most) == new[: -len(ends)]


@pytest.mark.parametrize("data", [b"", b"\x1f", b"\n", b"no dump at all", bytes(range(9))])
def test_what_is_no_dump_stays_as_it_is(data: bytes) -> None:
    assert dump(data) == data


@pytest.mark.parametrize("text", [b"END\n", b"FILES.INPUT METADATA\n", b"A METADATA\nEND\nEND\n"])
def test_a_dump_whose_blocks_do_not_close_is_refused(text: bytes) -> None:
    with pytest.raises(IntegrityError, match=r"o4642\.mdc.*END"):
        dump(text)


@pytest.mark.parametrize("most", [2**20, 5, 1])
def test_a_compressed_dump_stays_compressed(most: int) -> None:
    packed = gzip.compress(DUMP_OLD, mtime=1234567890)
    new = dump(packed, DATA, most)
    assert gzip.decompress(new) == DUMP_NEW
    assert new == dump(gzip.compress(DUMP_OLD, compresslevel=1), DATA, 2**20)
    # The bytes of the time in a gzip header (RFC 1952), and no name flag.
    assert new[3:8] == bytes(5)


def test_a_compressed_dump_of_several_members() -> None:
    packed = b"".join(gzip.compress(line) for line in DUMP_OLD.splitlines(keepends=True))
    assert gzip.decompress(dump(packed + gzip.compress(b""))) == DUMP_NEW


PACKED = gzip.compress(DUMP_OLD, mtime=0)


@pytest.mark.parametrize(
    "packed",
    [
        pytest.param(PACKED[:2], id="magic-alone"),
        pytest.param(PACKED[:-1], id="trailer-cut"),
        pytest.param(PACKED[:-8], id="trailer-missing"),
        pytest.param(PACKED[:100], id="cut"),
        pytest.param(PACKED[:60] + b"\x00\x00\x00" + PACKED[63:], id="flipped"),
        pytest.param(PACKED[:-8] + bytes(4) + PACKED[-4:], id="checksum"),
        pytest.param(PACKED + b"garbage", id="garbage-after"),
        pytest.param(PACKED + b"\x1f", id="half-a-member-after"),
        pytest.param(PACKED + bytes(10), id="zeros-after"),
    ],
)
@pytest.mark.parametrize("most", [2**20, 3])
def test_damaged_gzip_is_refused(packed: bytes, most: int) -> None:
    with pytest.raises(IntegrityError, match=r"o4642\.mdc: damaged gzip"):
        dump(packed, DATA, most)


def test_a_dump_does_not_unpack_without_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = b"# nothing to see here\n" * 10**5
    packed = gzip.compress(lines)
    assert len(lines) > rewrite.MAX_RATIO * len(packed)
    assert gzip.decompress(dump(packed)) == lines
    monkeypatch.setattr(rewrite, "SMALL", 10**6)
    with pytest.raises(IntegrityError, match="at most 200 times"):
        dump(packed)
    monkeypatch.setattr(rewrite, "MAX_RATIO", 10**6)
    assert dump(packed)
    monkeypatch.setattr(rewrite, "MAX_DUMP", len(lines) - 1)
    with pytest.raises(IntegrityError, match="2199999 bytes are accepted"):
        dump(packed)


def test_a_bomb_is_refused_while_it_unpacks() -> None:
    packer = zlib.compressobj(9, wbits=31)
    packed = b"".join(packer.compress(b"#\n" * 2**20) for _ in range(32)) + packer.flush()
    with pytest.raises(IntegrityError, match="gzip unpack to more than"):
        dump(packed)


@given(st.binary(max_size=40), st.integers(0, len(PACKED)))
def test_arbitrary_bytes_as_dump(noise: bytes, at: int) -> None:
    for data in (noise, b"\x1f\x8b" + noise, PACKED[:at] + noise + PACKED[at + len(noise) :]):
        try:
            dump(data)
        except IntegrityError:
            pass
