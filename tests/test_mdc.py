"""mdc: every type, every error, and that what is written reads back as it was."""

import gc
import math
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from io import BytesIO
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from formats import mdc
from formats.mdc import Block, Comment, Document, Entry, MdcError, Time, dump, load, stream
from formats.mdc_types import MAX_DEPTH, TYPES
from mirror.errors import ConfigError

DBINFO = """\
dbversion MULTI
dbversion METADATA
    version          STR       1.1.70
END

# the run
chipRun MULTI
chipRun METADATA   # one run
    chip_id          S64       11955
    state            STR       full
    workdir          STR       neb://ipp009.0/gpc1/scitest.200807
    magicked         BOOL      F
    zp               F32       NULL
END

chipProcessedImfile MULTI
chipProcessedImfile METADATA
    chip_id          S64       11955
    class_id         STR       XY01          # first
    bg               F64       5.25
    # nothing known of it
    bias             F32       nan
    epoch            UTC       2009-04-15T01:22:12.123456789Z
END
chipProcessedImfile METADATA
    chip_id          S64       11955
    class_id         STR       XY02
    bg               F64       -inf
    bias             F32       NULL
    epoch            UTC       2009-04-15T01:22:13Z
END
"""

DIRINFO = """\
destdir METADATA
	destdir	STR	gpc1/scitest.200807
END

components METADATA
	XY01	STR	o4642g0414o.19490
	XY02	STR	o4642g0414o.19490
END
"""


def problems_of(data: bytes | str) -> list[str]:
    with pytest.raises(MdcError) as raised:
        load(data, "f.mdc")
    return raised.value.problems


def same(one: object, other: object) -> bool:
    return type(one) is type(other) and (one == other or repr(one) == repr(other))


@pytest.mark.parametrize(
    ("written", "kind", "value"),
    [
        ("S8 -128", "S8", -128),
        ("S8 127", "S8", 127),
        ("S16 -32768", "S16", -32768),
        ("S16 32767", "S16", 32767),
        ("S32 -2147483648", "S32", -(2**31)),
        ("S32 2147483647", "S32", 2**31 - 1),
        ("S64 -9223372036854775808", "S64", -(2**63)),
        ("S64 9223372036854775807", "S64", 2**63 - 1),
        ("U8 255", "U8", 255),
        ("U16 65535", "U16", 65535),
        ("U32 4294967295", "U32", 2**32 - 1),
        ("U64 18446744073709551615", "U64", 2**64 - 1),
        ("U64 0", "U64", 0),
        ("S32 +7", "S32", 7),
        ("S32 007", "S32", 7),
        ("F32 1.5", "F32", 1.5),
        ("F32 3.40282347e+38", "F32", 3.40282347e38),
        ("F32 inf", "F32", math.inf),
        ("F32 -inf", "F32", -math.inf),
        ("F32 nan", "F32", math.nan),
        ("F64 -nan", "F64", math.nan),
        ("F64 1e308", "F64", 1e308),
        ("F64 .5", "F64", 0.5),
        ("F64 7", "F64", 7.0),
        ("F64 -0.0", "F64", -0.0),
        ("F64 INF", "F64", math.inf),
        ("C32 1.5-2i", "C32", 1.5 - 2j),
        ("C64 2", "C64", 2 + 0j),
        ("C64 -3e2i", "C64", -300j),
        ("C64 1+2j", "C64", 1 + 2j),
        ("C64 nan-infi", "C64", complex(math.nan, -math.inf)),
        ("BOOL T", "BOOL", True),
        ("BOOL t", "BOOL", True),
        ("BOOL True", "BOOL", True),
        ("BOOL TRUE", "BOOL", True),
        ("BOOL F", "BOOL", False),
        ("BOOL f", "BOOL", False),
        ("BOOL FALSE", "BOOL", False),
        ("BOOL false", "BOOL", False),
        ("STR text", "STR", "text"),
        ("STRING text", "STR", "text"),
        ("STR two  words\tthree \t", "STR", "two  words\tthree"),
        ("STR", "STR", ""),
        ("STR  \t ", "STR", ""),
        ("STR METADATA", "STR", "METADATA"),
        ("STR END", "STR", "END"),
        ("STR null", "STR", "null"),
        ("STR Größe\u00a0", "STR", "Größe\u00a0"),
        ("STR \x0b.\x1f", "STR", "\x0b.\x1f"),
        ("UTC 2009-04-15T01:22:12Z", "UTC", Time("2009-04-15T01:22:12Z", "UTC")),
        ("UTC 2009-04-15T01:22:12.123456789", "UTC", Time("2009-04-15T01:22:12.123456789")),
        ("UTC 2009-04-15T03:22+02:00", "UTC", Time("2009-04-15T03:22+02:00")),
        ("UTC 2009-04-15 01:22:12", "UTC", Time("2009-04-15 01:22:12")),
        ("UTC 2008-12-31T23:59:60Z", "UTC", Time("2008-12-31T23:59:60Z")),
        ("UT1 2009-04-15", "UT1", Time("2009-04-15", "UT1")),
        ("TAI 2009-04-15T01:22:12,5", "TAI", Time("2009-04-15T01:22:12,5", "TAI")),
        ("TT 2009-04-15T01:22:12", "TT", Time("2009-04-15T01:22:12", "TT")),
    ],
)
def test_scalar(written: str, kind: str, value: object) -> None:
    # Twice: a name that was seen before takes the shorter way.
    first, second = load(f"a MULTI\na {written}\na {written}\n").entries[1:]
    for entry in (first, second):
        assert (entry.name, entry.type, entry.comment) == ("a", kind, None)
        assert same(entry.value, value)


@pytest.mark.parametrize("kind", [name for name in TYPES if name[0] != "@"])
def test_null_is_no_value_for_any_type(kind: str) -> None:
    document = load(f"a MULTI\na {kind} NULL\na {kind} NULL \t # c\n")
    assert document["a"] == [None, None]


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("@v S32 1 2 3", (1, 2, 3)),
        ("@v S32 1, 2 3,4", (1, 2, 3, 4)),
        ("@v S32 1\t,\t2", (1, 2)),
        ("@v U8 7", (7,)),
        ("@v F32 inf, -inf 1e5", (math.inf, -math.inf, 1e5)),
        ("@v F64 nan 1 ", (math.nan, 1.0)),
        ("@v C64 1+2i,3", (1 + 2j, 3 + 0j)),
        ("@v BOOL T f,TRUE", (True, False, True)),
        ("@v S32 NULL", None),
    ],
)
def test_vector(written: str, value: object) -> None:
    (entry,) = load(written + " # c").entries
    assert (entry.name, entry.type, entry.comment) == ("v", "@" + written.split()[1], "c")
    assert same(entry.value, value)


def test_record() -> None:
    document = load("TYPE cell name ra dec  # fields\nx MULTI\nx cell a 1 2\nx cell b NULL 3 # c\n")
    assert document["x"] == [
        {"name": "a", "ra": "1", "dec": "2"},
        {"name": "b", "ra": None, "dec": "3"},
    ]
    declaration, _, _, last = document.entries
    assert declaration == Entry("cell", "TYPE", ("name", "ra", "dec"), "fields")
    assert (last.type, last.comment) == ("cell", "c")
    assert "cell" not in document
    assert load("TYPE t a b\nx t NULL").get("x", 0) is None


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a", "f.mdc:1: a: a type expected"),
        ("a S9 1", "f.mdc:1: a: a type expected (S8 S16"),
        ("a s32 1", "f.mdc:1: a: a type expected"),
        ("a @S32 1", "f.mdc:1: a: a type expected"),
        ("@a STR 1", "f.mdc:1: @a: a type expected (S8 S16"),
        ("@a UTC 2009-04-15", "f.mdc:1: @a: a type expected"),
        ("@a @S32 1", "f.mdc:1: @a: a type expected"),
        ("a S8 128", "f.mdc:1: a: a whole number from -128 to 127 expected, not '128'"),
        ("a S8 -129", "a whole number from -128 to 127"),
        ("a S16 32768", "a whole number from -32768 to 32767"),
        ("a S32 2147483648", "a whole number from -2147483648 to 2147483647"),
        ("a S64 9223372036854775808", "a whole number from -9223372036854775808 to"),
        ("a U8 -1", "a whole number from 0 to 255"),
        ("a U8 256", "a whole number from 0 to 255"),
        ("a U16 65536", "a whole number from 0 to 65535"),
        ("a U32 4294967296", "a whole number from 0 to 4294967295"),
        ("a U64 18446744073709551616", "a whole number from 0 to 18446744073709551615"),
        ("a S32 1.0", "a whole number"),
        ("a S32 1_0", "a whole number"),
        ("a S32 0x10", "a whole number"),
        ("a S32 \u0663", "a whole number"),
        ("a S32 1 2", "a whole number"),
        ("a S32 5\u00a0", "a whole number"),
        ("a S32 \x0b5", "a whole number"),
        ("a S32 " + "9" * 10_000, "a whole number"),
        ("a S32", "f.mdc:1: a: a whole number"),
        ("a S32 # 5", "f.mdc:1: a: a whole number"),
        ("a S32 null", "a whole number"),
        ("a F32 1e39", "a number of 32 bits, inf, -inf or nan expected, not '1e39'"),
        ("a F64 1e999", "a number of 64 bits"),
        ("a F64 1_0", "a number of 64 bits"),
        ("a F64 abc", "a number of 64 bits"),
        ("a F64 \u0661", "a number of 64 bits"),
        ("a C32 1e39i", "a complex number"),
        ("a C64 1 + 2i", "a complex number"),
        ("a C64 i", "a complex number"),
        ("a C64 1+2", "a complex number"),
        ("a BOOL 1", "T, F, TRUE or FALSE expected, not '1'"),
        ("a BOOL yes", "T, F, TRUE or FALSE"),
        ("a UTC 2009-02-29T01:22:12Z", "an ISO 8601 time like"),
        ("a UTC 2009-04-15T24:00:00Z", "an ISO 8601 time like"),
        ("a UTC 2009-04-15T01:60:00Z", "an ISO 8601 time like"),
        ("a UTC 15.4.2009", "an ISO 8601 time like"),
        ("a TAI 2009-04-15T01:22:12+02:00", "an ISO 8601 time like"),
        ("@a S32", "values separated by blanks or commas"),
        ("@a S32 1,,2", "values separated by blanks or commas"),
        ("@a S32 1,", "values separated by blanks or commas"),
        ("@a S32 1 NULL", "values separated by blanks or commas"),
        ("@a S8 1 128", "each a whole number from -128 to 127"),
        ("-a S32 1", "f.mdc:1: a name of A-Z a-z 0-9 _ . - expected, not '-a'"),
        ("ä S32 1", "a name of"),
        ("a/b S32 1", "a name of"),
        ("@ S32 1", "a name of"),
        ("a\u00a0S32 1", "a name of"),
        ("a\x0bS32 1", "a name of"),
        ("METADATA STR x", "a name expected, not the keyword METADATA"),
        ("metadata METADATA\nEND", "a name expected, not the keyword metadata"),
        ("a METADATA x\nEND", "nothing after METADATA expected, not 'x'"),
        ("a METADATA\nEND x", "f.mdc:2: nothing after END expected, not 'x'"),
        ("@a METADATA\nEND", "a name of"),
        ("a MULTI x", "nothing after MULTI expected, not 'x'"),
        ("a MULTI\na multi", "f.mdc:2: a: one MULTI in a block expected"),
        ("@a MULTI", "a name of"),
        ("END", "f.mdc:1: an entry expected, not an END"),
        ("x S32 1\nEND", "f.mdc:2: an entry expected, not an END"),
        ("a METADATA\nx S32 1", "f.mdc:1: METADATA a: an END expected, none came"),
        ("TYPE", "a name of"),
        ("TYPE t", "TYPE t: field names expected"),
        ("TYPE t a a", "TYPE t: field names expected, each once"),
        ("TYPE t a -b", "a name of"),
        ("TYPE t a END", "not the keyword END"),
        ("TYPE STR a b", "TYPE STR: a new name expected"),
        ("TYPE multi a b", "TYPE multi: a new name expected"),
        ("TYPE METADATA a", "not the keyword METADATA"),
        ("TYPE t a\nTYPE t b", "f.mdc:2: TYPE t: a new name expected"),
        ("TYPE t a b\nx t 1", "f.mdc:2: x: 2 values expected (a b), not 1"),
        ("TYPE t a b\nx t 1 2 3", "x: 2 values expected (a b), not 3"),
        ("TYPE t a b\nx t", "x: 2 values expected (a b), not 0"),
        ("TYPE t a\n@x t 1", "@x: a type expected"),
        ("TYPE t a\nx T 1", "x: a type expected"),
        ("TYPE t a\nb METADATA\nx t 1\nEND", "f.mdc:3: x: a type expected"),
        ("b METADATA\nTYPE t a\nEND\nx t 1", "f.mdc:4: x: a type expected"),
    ],
)
def test_problem(text: str, problem: str) -> None:
    (only,) = problems_of(text)
    assert problem in only
    # The shorter way for names that were seen before must refuse the same.
    (again,) = problems_of("a METADATA\na S64 0\nEND\n" * (text[0] == "a") + text)
    assert problem.partition(": ")[2] in again


def test_mdc_error_is_a_config_error_of_all_problems_in_order() -> None:
    text = b"a S8 300\nb METADATA\n\xff\xfe\nc F64 x\n\nd\n"
    with pytest.raises(ConfigError) as raised:
        load(text, "dbinfo.mdc")
    assert [line.split(": ")[0] for line in raised.value.problems] == [
        "dbinfo.mdc:1", "dbinfo.mdc:2", "dbinfo.mdc:3", "dbinfo.mdc:4", "dbinfo.mdc:6",
    ]  # fmt: skip
    assert "UTF-8 expected, not the byte 0xff" in raised.value.problems[2]


def test_problems_are_bounded() -> None:
    problems = problems_of("a b\n" * 100_000)
    assert len(problems) == mdc.MAX_PROBLEMS + 1
    assert "reading stopped after" in problems[-1]


def test_depth_is_bounded() -> None:
    deep = "a METADATA\n" * MAX_DEPTH + "END\n" * MAX_DEPTH
    document = load(deep)
    assert load(dump(document)) == document
    assert repr(document)
    problems = problems_of("a METADATA\n" * 1_000_000)
    assert "at most 64 blocks within each other" in problems[-1]


def test_line_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mdc, "MAX_LINE", 1000)
    chunks = [b"a S32 1\n", *[b"x" * 600] * 3]
    with pytest.raises(MdcError, match="2: a line of at most 1000 bytes"):
        list(stream(chunks))


@pytest.mark.parametrize("word", ["METADATA", "metadata", "Metadata"])
@pytest.mark.parametrize("end", ["END", "end", "End", "\tEND  # c", "END#"])
def test_keywords_in_any_case(word: str, end: str) -> None:
    document = load(f"a mUlTi\na {word} # c\n b S32 1\n{end}\ntype t f\nx t 1")
    (block,) = document["a"]
    assert block["b"] == 1
    assert document["x"] == {"f": "1"}


def test_comments() -> None:
    text = "# first\n\n a S32 1 # one # more\nb STR x#y\n#\n  # last \nc STR x#\n"
    document = load(text)
    assert [entry.comment for entry in document.entries] == ["one # more", "y", ""]
    assert document["b"] == "x"
    assert document.comments == (Comment("first"), Comment(""), Comment("last"))
    kinds = [type(line).__name__ for line in document.lines]
    assert kinds == ["Comment", "Entry", "Entry", "Comment", "Comment", "Entry"]
    assert [line.line for line in document.lines] == [1, 3, 4, 5, 6, 7]


def test_comment_of_an_end_is_kept() -> None:
    block = load("a METADATA # begin\nx S32 1\nEND # end\n")["a"]
    assert block.comments == (Comment("end"),)


def test_dbinfo() -> None:
    document = load(DBINFO, "dbinfo.mdc")
    assert document.names() == ["dbversion", "chipRun", "chipProcessedImfile"]
    assert [block["version"] for block in document["dbversion"]] == ["1.1.70"]
    (run,) = document["chipRun"]
    assert (run["state"], run["magicked"], run["zp"]) == ("full", False, None)
    first, second = document["chipProcessedImfile"]
    assert (first["class_id"], second["class_id"]) == ("XY01", "XY02")
    assert math.isnan(first["bias"])
    assert second["bg"] == -math.inf
    assert str(first["epoch"]) == "2009-04-15T01:22:12.123456789Z"
    assert document.source == "dbinfo.mdc"
    assert document.warnings == []
    assert [entry.line for entry in document.entries] == [1, 2, 7, 8, 16, 17, 25]
    assert [entry.line for entry in first.entries] == [18, 19, 20, 22, 23]


def test_dirinfo() -> None:
    document = load(DIRINFO)
    assert document["destdir"]["destdir"] == "gpc1/scitest.200807"
    assert [(entry.name, entry.value) for entry in document["components"].entries] == [
        ("XY01", "o4642g0414o.19490"),
        ("XY02", "o4642g0414o.19490"),
    ]


def test_block_as_a_mapping() -> None:
    document = load("a S32 1\nb MULTI\nb S32 2\nb S32 3\nc STR NULL\nd MULTI\n")
    assert (document["a"], document["b"], document["c"], document["d"]) == (1, [2, 3], None, [])
    assert [document.all(name) for name in "abcdx"] == [[1], [2, 3], [None], [], []]
    assert (document.get("a"), document.get("x"), document.get("x", 7)) == (1, None, 7)
    assert document.get("c", 7) is None
    assert "a" in document
    assert "x" not in document
    assert document.names() == list(document) == ["a", "b", "c", "d"]
    assert len(document) == 6
    with pytest.raises(KeyError):
        document["x"]


def test_multi_declared_after_the_first_value() -> None:
    document = load("a S32 1\na MULTI\na S32 2\n")
    assert document["a"] == [1, 2]
    assert document.warnings == []
    assert load(dump(document)) == document


def test_multi_is_not_inherited() -> None:
    document = load("a MULTI\nb METADATA\n a S32 1\n a S32 2\nEND\n", "f.mdc")
    assert document["b"]["a"] == 1
    assert document.warnings == ["f.mdc:4: a repeats without MULTI; line 3 stands"]


@pytest.mark.parametrize(
    ("overwrite", "values", "stands"), [(False, (1, 5), (1, 3)), (True, (4, 6), (6, 7))]
)
def test_repeated_name(overwrite: bool, values: tuple[int, int], stands: tuple[int, int]) -> None:
    text = "a S32 1 # x\n# c\nb S32 5\na S32 2\n# d\na S32 4\nb S32 6 # y\nc S32 0\n"
    document = load(text, "f.mdc", overwrite=overwrite)
    assert (document["a"], document["b"], document["c"]) == (*values, 0)
    assert sorted(e.line for e in document.entries if e.name in "ab") == sorted(stands)
    assert len(document.warnings) == 3
    assert document.comments == (Comment("c"), Comment("d"))
    comments = {entry.name: entry.comment for entry in document.entries}
    assert comments == ({"a": None, "b": "y", "c": None} if overwrite else
                        {"a": "x", "b": None, "c": None})  # fmt: skip
    assert load(dump(document)) == document


@pytest.mark.parametrize("text", [DBINFO, DIRINFO], ids=["dbinfo", "dirinfo"])
def test_line_ends_bom_and_missing_last_newline(text: str) -> None:
    document = load(text)
    for other in (text.replace("\n", "\r\n"), "\ufeff" + text, text.removesuffix("\n"),
                  text.replace("\n", " \t\n"), text.replace("\n", "\r\n").removesuffix("\n"),
                  text.encode()):  # fmt: skip
        assert load(other) == document


def test_empty_document() -> None:
    for text in ("", "\n", " \t\r\n\n", b""):
        assert load(text).entries == ()
        assert list(stream([text.encode() if isinstance(text, str) else text])) == []


def test_load_file(tmp_path: Path) -> None:
    path = tmp_path / "dbinfo.mdc"
    path.write_text(DBINFO)
    assert mdc.load_file(path) == load(DBINFO)
    path.write_text("a S8 300\n")
    with pytest.raises(MdcError, match=r"dbinfo\.mdc:1: a: a whole number"):
        mdc.load_file(path)
    with pytest.raises(MdcError, match="a file that can be read expected: No such file"):
        mdc.load_file(tmp_path / "none.mdc")


def chunks_of(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


@pytest.mark.parametrize("size", [1, 2, 7, 64, 10_000])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_stream_is_load(size: int, end: str) -> None:
    data = DBINFO.replace("\n", end).encode()
    expected = list(load(data).entries)
    assert list(stream(chunks_of(data, size))) == expected
    assert list(stream(BytesIO(data))) == expected


def test_stream_yields_a_row_before_it_reads_on() -> None:
    def chunks() -> Iterator[bytes]:
        yield b"chipRun MULTI\nchipRun METADATA\n x S32 1\n"
        yield b"END\nchipRun METADATA\n x S32 2\n"
        raise AssertionError("read on before the rows were taken")

    entries = stream(chunks())
    assert next(entries) == Entry("chipRun", "MULTI", None)
    assert next(entries).value["x"] == 1
    with pytest.raises(AssertionError, match="read on"):
        next(entries)


def test_stream_forgets_what_it_yielded() -> None:
    rows = (b"a METADATA\n forgotten S32 %d\nEND\n" % n for n in range(200))
    entries = stream(chain([b"a MULTI\n"], rows))
    last = [entry.value for entry in entries][-1]
    gc.collect()
    alive = [one for one in gc.get_objects() if isinstance(one, Block) and "forgotten" in one]
    assert alive == [last]


def test_stream_warns_of_repeated_names_between_chunks() -> None:
    warnings: list[str] = []
    chunks = [b"a S32 1\n", b"a S32 2\nb S32 1\n", b"b S32 3\n"]
    entries = list(stream(chunks, "f.mdc", warnings))
    assert [(entry.name, entry.value) for entry in entries] == [("a", 1), ("b", 1)]
    assert warnings == [
        "f.mdc:2: a repeats without MULTI; line 1 stands",
        "f.mdc:4: b repeats without MULTI; line 3 stands",
    ]


def test_stream_yields_nothing_after_a_problem_and_reports_all() -> None:
    chunks = [b"a S32 1\n", b"b S32 x\n", b"c S32 1\n", b"d S32 y\n"]
    entries = stream(chunks, "f.mdc")
    assert next(entries).name == "a"
    with pytest.raises(MdcError) as raised:
        next(entries)
    assert [line.split(": ")[0] for line in raised.value.problems] == ["f.mdc:2", "f.mdc:4"]


@pytest.mark.parametrize(
    ("time", "moment"),
    [
        (Time("2009-04-15T01:22:12.5Z"), datetime(2009, 4, 15, 1, 22, 12, 500000, UTC)),
        (Time("2009-04-15T01:22:12.123456789"), datetime(2009, 4, 15, 1, 22, 12, 123456, UTC)),
        (Time("2009-04-15T03:22+02:00"), datetime(2009, 4, 15, 1, 22, tzinfo=UTC)),
        (Time("2009-04-14T20:52:00-0430"), datetime(2009, 4, 15, 1, 22, tzinfo=UTC)),
        (Time("2008-12-31T23:59:60Z"), datetime(2009, 1, 1, tzinfo=UTC)),
        (Time("2009-04-15"), datetime(2009, 4, 15, tzinfo=UTC)),
        (Time("2009-04-15T01:22:12", "TAI"), datetime(2009, 4, 15, 1, 22, 12)),
        (Time("2009-04-15T01:22:12Z", "TT"), datetime(2009, 4, 15, 1, 22, 12)),
    ],
)
def test_time_as_datetime(time: Time, moment: datetime) -> None:
    assert time.datetime() == moment
    assert time.datetime().tzinfo == moment.tzinfo


def test_time_of_a_datetime() -> None:
    zone = timezone(timedelta(hours=-10))
    moment = datetime(2009, 4, 14, 15, 22, 12, 500000, zone)
    assert Time.of(moment) == Time("2009-04-15T01:22:12.500000Z")
    assert Time.of(moment).datetime() == moment
    with pytest.raises(ValueError, match="a datetime with a time zone"):
        Time.of(datetime(2009, 4, 15))


def test_from_items_infers_and_takes_types() -> None:
    block = Block.from_items(
        [
            Comment(" made by the server "),
            ("flag", True), ("count", 7), ("huge", 2**63), ("ratio", 0.5), ("wave", 1j),
            ("name", "text"), ("none", None), ("when", datetime(2009, 4, 15, tzinfo=UTC)),
            ("tai", Time("2009-04-15", "TAI")), ("vector", (1, 2.5)),
            ("small", "S8", 5), ("word", "STRING", "x"), ("list", "@U8", [1, 2]),
            ("inner", {"a": 1}), ("rows", [{"a": 1}, {"a": 2}]), ("values", "S16", [1, 2]),
            Entry("cell", "TYPE", ("ra", "dec")), ("spot", "cell", {"ra": "1", "dec": None}),
            Entry("last", "S32", 1, " why "),
        ]
    )  # fmt: skip
    types = {entry.name: entry.type for entry in block.entries}
    assert types == {
        "flag": "BOOL", "count": "S64", "huge": "U64", "ratio": "F64", "wave": "C64",
        "name": "STR", "none": "STR", "when": "UTC", "tai": "TAI", "vector": "@F64",
        "small": "S8", "word": "STR", "list": "@U8", "inner": "METADATA", "rows": "METADATA",
        "values": "S16", "cell": "TYPE", "spot": "cell", "last": "S32",
    }  # fmt: skip
    assert block["inner"]["a"] == 1
    assert [row["a"] for row in block["rows"]] == [1, 2]
    assert block["values"] == [1, 2]
    again = load(dump(block))
    assert again == block
    assert again.entries[-1].comment == "why"


def test_from_items_of_a_mapping_and_of_nothing() -> None:
    assert Block.from_items({"a": 1, "b": "x"})["b"] == "x"
    assert dump(Block.from_items([])) == ""
    with pytest.raises(ValueError, match="a value that mdc has a type for"):
        Block.from_items({"a": object()})
    with pytest.raises(ValueError, match="a value that mdc has a type for"):
        Block.from_items({"a": ("x", "y")})


def test_dump_looks_as_people_expect() -> None:
    block = Block.from_items(
        [("chipRun", [{"chip_id": 1, "state": "new"}]), Comment("end"), ("v", (1, 2))]
    )
    assert dump(block) == (
        "chipRun MULTI\n"
        "chipRun METADATA\n"
        "    chip_id          S64       1\n"
        "    state            STR       new\n"
        "END\n"
        "# end\n"
        "@v               S64       1 2\n"
    )


@pytest.mark.parametrize(
    ("item", "problem"),
    [
        (("a", "#"), "a text of one line"),
        (("a", "x\ny"), "a text of one line"),
        (("a", " x"), "a text of one line"),
        (("a", "x\t"), "a text of one line"),
        (("a", "x\r"), "a text of one line"),
        (("a", "NULL"), "a text of one line"),
        (("a", "\ud800"), "a text of one line"),
        (("a", "STR", 5), "a text of one line"),
        (("a", "S8", 128), "a whole number from -128 to 127 expected, not 128"),
        (("a", "S32", True), "a whole number"),
        (("a", "S32", 1.0), "a whole number"),
        (("a", "U8", -1), "a whole number from 0 to 255"),
        (("a", "F32", 1e39), "a number of 32 bits"),
        (("a", "F64", "1"), "a number of 64 bits"),
        (("a", "C32", complex(0, 1e39)), "a complex number"),
        (("a", "BOOL", 1), "T, F, TRUE or FALSE"),
        (("a", "UTC", Time("2009-04-15", "TAI")), "an ISO 8601 time"),
        (("a", "UTC", Time("yesterday")), "an ISO 8601 time"),
        (("a", "@S32", ()), "values separated by blanks"),
        (("a", "@STR", ("x",)), "a type expected"),
        (("a", "nosuch", 1), "a type expected"),
        (("a b", 1), "a name of"),
        (("end", 1), "not the keyword end"),
        (Entry("a", "S32", 1, "x\ny"), "a comment of one line"),
        (Entry("a", "METADATA", 1), "a Block expected"),
        (Entry("a", "MULTI", 1), "one MULTI of a name"),
        (Entry("STR", "TYPE", ("a",)), "a new name expected"),
    ],
)
def test_dump_refuses_what_could_not_be_read(item: Any, problem: str) -> None:
    block = Block.from_items([("row", Block.from_items([item]))])
    with pytest.raises(MdcError) as raised:
        dump(block)
    (only,) = raised.value.problems
    assert only.startswith("dump:row.")
    assert problem in only


@pytest.mark.parametrize(
    ("items", "problem"),
    [
        ([("a", 1), ("a", 2)], "a MULTI before a name that repeats"),
        ([Entry("a", "MULTI", None), Entry("a", "MULTI", None)], "one MULTI of a name"),
        ([Entry("t", "TYPE", ("a",)), Entry("t", "TYPE", ("b",))], "one TYPE of a name"),
        ([Entry("t", "TYPE", ("a", "b")), ("x", "t", {"a": "1"})], "a record of a, b"),
        ([Entry("t", "TYPE", ("a",)), ("x", "t", {"a": "1 2"})], "a record of a"),
        ([Entry("t", "TYPE", ("a",)), ("x", "t", {"a": None})], "a record of a"),
        ([Comment("x\ny")], "a comment of one line"),
    ],
)
def test_dump_refuses_blocks_against_the_rules(items: list[Any], problem: str) -> None:
    with pytest.raises(MdcError, match=problem):
        dump(Block.from_items(items))


def test_dump_refuses_endless_nesting() -> None:
    block = Block.from_items([])
    for _ in range(MAX_DEPTH + 1):
        block = Block.from_items([("a", block)])
    with pytest.raises(MdcError, match="at most 64 blocks"):
        dump(block)


@pytest.mark.parametrize(
    "other",
    [
        "a S32 2",
        "a S64 1",
        "b S32 1",
        "a S32 1 # c",
        "a S32 1\n# c",
        "# c\na S32 1",
        "",
        "@a S32 1",
    ],
)
def test_blocks_that_differ(other: str) -> None:
    assert load("a S32 1") != load(other)
    assert load("a S32 1") != "a S32 1"
    assert load("b METADATA\na S32 1\nEND") != load(f"b METADATA\n{other}\nEND")


def test_blocks_with_nan_are_equal() -> None:
    for text in ("a F32 nan", "a C64 nan+1i", "@a F64 1 nan", "@a C32 nani 1"):
        assert load(text) == load(text)
        assert load(text) == Block.from_items(load(text).entries)
    assert Block.from_items({"a": float("nan")}) == load("a F64 nan")


def test_warnings_are_bounded() -> None:
    assert len(load("a S32 1\n" * 5000).warnings) == mdc.MAX_PROBLEMS


names = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,6}", fullmatch=True).filter(
    lambda name: name.upper() not in ("METADATA", "END", "TYPE", "MULTI") and name not in TYPES
)
line_text = st.text(
    st.characters(exclude_characters="\n\r", exclude_categories=["Cs"]), max_size=12
)
texts = line_text.map(lambda text: text.replace("#", "").strip(" \t")).filter(
    lambda text: text != "NULL"
)
remarks = line_text.map(lambda text: text.strip(" \t"))
words = st.text("abcXYZ019._-/:é", min_size=1, max_size=5)
times = st.one_of(
    st.datetimes(timezones=st.just(UTC)).map(Time.of),
    st.sampled_from(["2009-04-15", "2009-04-15T01:22:12.1234567890Z"]).map(Time),
)


def whole(bits: int, signed: bool) -> st.SearchStrategy[int]:
    low = -(2 ** (bits - 1)) if signed else 0
    return st.integers(low, low + 2**bits - 1)


numbers: dict[str, st.SearchStrategy[Any]] = {
    **{f"S{bits}": whole(bits, True) for bits in (8, 16, 32, 64)},
    **{f"U{bits}": whole(bits, False) for bits in (8, 16, 32, 64)},
    "F32": st.floats(width=32), "F64": st.floats(),
    "C32": st.complex_numbers(width=64), "C64": st.complex_numbers(),
    "BOOL": st.booleans(),
}  # fmt: skip
scalars = {**numbers, "STR": texts, "UTC": times}
TIME_SCALES = ("UT1", "TAI", "TT")


@st.composite
def entries(draw: Callable[[Any], Any], name: str, inner: Any) -> Entry:
    comment = draw(st.none() | remarks)
    form = draw(st.sampled_from(["scalar", "scalar", "vector", "time", "block"]))
    if form == "block" and inner is not None:
        return Entry(name, "METADATA", draw(inner), comment)
    if form == "vector":
        kind = draw(st.sampled_from(sorted(numbers)))
        values = st.lists(numbers[kind], min_size=1, max_size=4).map(tuple)
        return Entry(name, f"@{kind}", draw(st.none() | values), comment)
    if form == "time":
        scale = draw(st.sampled_from(TIME_SCALES))
        return Entry(name, scale, Time("2009-04-15T01:22:12", scale), comment)
    kind = draw(st.sampled_from(sorted(scalars)))
    return Entry(name, kind, draw(st.none() | scalars[kind]), comment)


@st.composite
def blocks(draw: Callable[[Any], Any], depth: int = 3) -> Block:
    inner = blocks(depth - 1) if depth else None
    lines: list[Entry | Comment] = []
    for name in draw(st.lists(names, unique=True, max_size=5)):
        if draw(st.booleans()):
            lines.append(Comment(draw(remarks)))
        repeats = draw(st.integers(0, 2)) if draw(st.booleans()) else None
        if repeats is not None:
            lines.append(Entry(name, "MULTI", None, draw(st.none() | remarks)))
        lines += [draw(entries(name, inner)) for _ in range(1 if repeats is None else repeats)]
    if draw(st.booleans()):
        fields = tuple(draw(st.lists(names, unique=True, min_size=2, max_size=3)))
        record = draw(st.fixed_dictionaries(dict.fromkeys(fields, st.none() | words)))
        lines += [Entry("Rec", "TYPE", fields), Entry("rec-value", "Rec", record)]
    return Block.from_items(lines)


@given(blocks())
@settings(max_examples=300, deadline=None)
def test_what_is_written_reads_back(block: Block) -> None:
    text = dump(block)
    assert load(text) == block
    assert load(text.encode()) == block
    streamed = Block.from_items(stream(chunks_of(text.encode(), 50)))
    assert streamed == Block.from_items(block.entries)


def outcome(read: Callable[[], Document]) -> Document | list[str]:
    try:
        return read()
    except MdcError as error:
        return error.problems


def by_the_whole_grammar(data: bytes, monkeypatch: pytest.MonkeyPatch) -> Document | list[str]:
    """Read every line as if it held odd blanks, that is, without the shorter way."""
    with monkeypatch.context() as patch:
        patch.setattr(mdc, "_ASCII_BLANKS", ("",))
        return outcome(lambda: load(data))


SNIPPETS = st.sampled_from(
    ["a", "b", "@a", "TYPE", "METADATA", "END", "MULTI", "end", "S32", "STR", "F64", "BOOL", "UTC",
     "U8", "C32", "1", "-1", "nan", "300", "T", "NULL", "2009-04-15", "#", " ", "  ", "\t", "\n",
     "\r\n", "\r", "\x0b", "\u00a0", "é", "_", ",", "1_0", "+", "i", "inf"]
)  # fmt: skip


@given(st.lists(SNIPPETS, max_size=60).map("".join))
@settings(max_examples=500, deadline=None)
def test_both_ways_are_one_grammar(text: str) -> None:
    # The block makes the names known, so that the shorter way is taken after it.
    data = ("k METADATA\na S32 1\nb S32 1\nEND\n" + text).encode()
    with pytest.MonkeyPatch.context() as monkeypatch:
        assert outcome(lambda: load(data)) == by_the_whole_grammar(data, monkeypatch)


def read_any(data: bytes) -> None:
    document = outcome(lambda: load(data))
    if isinstance(document, Document):
        assert load(dump(document)) == document
        assert Block.from_items(stream([data])) == Block.from_items(document.entries)
    else:
        assert all(problem.startswith("mdc:") for problem in document)


@given(st.binary(max_size=200))
@settings(deadline=None)
def test_any_bytes(data: bytes) -> None:
    read_any(data)


@given(st.text(max_size=100))
@settings(deadline=None)
def test_any_text(text: str) -> None:
    outcome(lambda: load(text))
    read_any(text.encode("utf-8", "surrogatepass"))


@given(st.lists(SNIPPETS, max_size=60).map("".join))
@settings(max_examples=500, deadline=None)
def test_any_words(text: str) -> None:
    read_any(text.encode())


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_mutations_of_a_document(data: st.DataObject) -> None:
    document = bytearray((DBINFO + "TYPE t a b\nx t 1 2\n@v S32 1, 2\n").encode())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(document) - 1))
        length = data.draw(st.integers(0, 12))
        document[at : at + length] = data.draw(st.binary(max_size=6))
    read_any(bytes(document))
