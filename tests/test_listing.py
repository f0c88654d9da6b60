"""The three lists (PROTOCOL section 2), read and written."""

from collections.abc import Callable, Iterable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror import listing
from mirror.errors import ListError
from mirror.listing import (
    FileRow,
    FilesetRow,
    Malformed,
    Row,
    check_name,
    check_time,
    format_list,
    read_files,
    read_filesets,
    read_products,
)

# The example of the seed 001_b2254f1f27f3148b.txt.
SEED = """\
# filesetID                |time registered     |type  |target_id|stage|stage_id|exp_name   |
o4741g0234o.fake.2799.11.1 |2009-04-15T01:22:12Z|notset|5        |fake |2799    |o4741g0234o|
o4741g0236o.chip.14519.33.1|2009-04-15T03:02:11Z|notset|1        |chip |14519   |o4741g0236o|
"""

Reader = Callable[[Iterable[bytes]], Iterator[Row | Malformed]]
MD5 = "d41d8cd98f00b204e9800998ecf8427e"


def rows(reader: Reader, text: str | bytes) -> list[Row | Malformed]:
    return list(reader([text.encode() if isinstance(text, str) else text]))


def reasons(reader: Reader, text: str | bytes) -> list[tuple[int, str]]:
    return [(row.line, row.reason) for row in rows(reader, text) if isinstance(row, Malformed)]


def test_seed_example_is_read() -> None:
    first, second = rows(read_filesets, SEED)
    assert isinstance(first, FilesetRow)
    assert (first.name, first.registered, first.type) == (
        "o4741g0234o.fake.2799.11.1",
        "2009-04-15T01:22:12Z",
        "notset",
    )
    assert first.columns() == {
        "filesetID": "o4741g0234o.fake.2799.11.1",
        "time registered": "2009-04-15T01:22:12Z",
        "type": "notset",
        "target_id": "5",
        "stage": "fake",
        "stage_id": "2799",
        "exp_name": "o4741g0234o",
    }
    assert first.extra() == ("5", "fake", "2799", "o4741g0234o")
    assert (first.line, second.line) == (2, 3)


def test_seed_example_is_written_as_it_stands() -> None:
    names = ["filesetID", "time registered", "type", "target_id", "stage", "stage_id", "exp_name"]
    values = [row.cells for row in rows(read_filesets, SEED) if isinstance(row, Row)]
    assert format_list(names, values) == SEED


def test_root_list() -> None:
    text = (
        "# productID  |Most recent |Time registered     |type     |Description                |\n"
        "gpc1         |o1.chip.1.1 |2009-04-15T01:22:12Z|ipp-dist |Giga Pixel Camera          |\n"
        "empty        |none        |2009-04-15T01:22:12Z|ipp-misc |                           |\n"
    )
    gpc1, empty = rows(read_products, text)
    assert isinstance(gpc1, listing.ProductRow)
    assert isinstance(empty, listing.ProductRow)
    assert (gpc1.most_recent, gpc1.description) == ("o1.chip.1.1", "Giga Pixel Camera")
    assert (empty.most_recent, empty.description) == (None, "")


def test_files_with_a_header_change_and_rows_of_other_lengths() -> None:
    text = (
        "# fileID|bytes|md5sum|type|component|\n"
        f"a.tgz|10|{MD5}|tgz|XY01|\n"
        "b.tgz|11||tgz|\n"
        "# fileID|bytes|md5sum|type|chipname|seeing|\n"
        f"c.fits|12|{MD5}|chip|XY02|1.1|more|\n"
    )
    a, b, c = rows(read_files, text)
    assert isinstance(a, FileRow)
    assert isinstance(b, FileRow)
    assert isinstance(c, FileRow)
    assert (a.size, a.md5, a.columns()["component"]) == (10, MD5, "XY01")
    assert (b.md5, b.columns()["component"]) == (None, None)
    assert c.columns()["chipname"] == "XY02"
    assert "component" not in c.columns()
    assert c.extra() == ("XY02", "1.1", "more")


def test_columns_are_found_by_name_wherever_they_stand() -> None:
    text = "# type|new|TIME registered|filesetid|\nX|?|2009-04-15T01:22:12Z|fs1|\n"
    (row,) = rows(read_filesets, text)
    assert isinstance(row, FilesetRow)
    assert (row.name, row.registered, row.type) == ("fs1", "2009-04-15T01:22:12Z", "X")
    assert row.columns()["new"] == "?"


@pytest.mark.parametrize(
    "text",
    [
        SEED.replace("\n", "\r\n"),
        "\ufeff" + SEED,
        "\n\n# a comment\n" + SEED + "   \n# end | of | it\n",
        SEED.replace("|", "  |  "),
    ],
    ids=["CRLF", "BOM", "comments and blank lines", "more padding"],
)
def test_tolerated_forms(text: str) -> None:
    names = [row.cells for row in rows(read_filesets, text) if isinstance(row, Row)]
    assert names == [row.cells for row in rows(read_filesets, SEED) if isinstance(row, Row)]


def test_a_list_without_header_has_the_columns_of_the_protocol() -> None:
    (row,) = rows(read_filesets, "fs1|2009-04-15T01:22:12Z|X|\n")
    assert isinstance(row, FilesetRow)
    assert row.name == "fs1"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("fs1|2009-04-15T01:22:12Z|X", "does not end with '|'"),
        ("fs1|2009-04-15T01:22:12Z|", "at least 3 columns expected, not 2"),
        ("fs1|2009-04-15T01:22:12Z|X|a#b|", "a field holds '#'"),
        ("fs1|2009-13-15T01:22:12Z|X|", "a time like"),
        ("fs1|2009-02-30T01:22:12Z|X|", "a time like"),
        ("fs1|2009-04-15T24:22:12Z|X|", "a time like"),
        ("fs1|2009-04-15 01:22:12|X|", "a time like"),
        ("fs1||X|", "a time like"),
        ("|2009-04-15T01:22:12Z|X|", "an empty name"),
        ("..|2009-04-15T01:22:12Z|X|", "'..' as a name"),
        (".|2009-04-15T01:22:12Z|X|", "'.' as a name"),
        ("../x|2009-04-15T01:22:12Z|X|", "characters outside"),
        ("/etc/passwd|2009-04-15T01:22:12Z|X|", "characters outside"),
        ("a%2e%2e%2fb|2009-04-15T01:22:12Z|X|", "characters outside"),
        ("a\\b|2009-04-15T01:22:12Z|X|", "characters outside"),
        ("a\x00b|2009-04-15T01:22:12Z|X|", "control character"),
        ("a\x1bb|2009-04-15T01:22:12Z|X|", "control character"),
        ("-rf|2009-04-15T01:22:12Z|X|", "begins with '-'"),
        ("~root|2009-04-15T01:22:12Z|X|", "characters outside"),
        ("é|2009-04-15T01:22:12Z|X|", "characters outside"),
        ("x" * 256 + "|2009-04-15T01:22:12Z|X|", "256 bytes"),
        (b"\xff\xfe|2009-04-15T01:22:12Z|X|", "not UTF-8"),
    ],
)
def test_malformed_fileset_rows(line: str | bytes, reason: str) -> None:
    raw = line.encode() if isinstance(line, str) else line
    (told,) = reasons(read_filesets, SEED.encode() + raw + b"\n")
    assert told[0] == 4
    assert reason in told[1]
    good = [row for row in rows(read_filesets, SEED.encode() + raw + b"\n") if isinstance(row, Row)]
    assert len(good) == 2, "the rows around a malformed one are read"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (f"a|-1|{MD5}|t|", "a size in bytes"),
        (f"a|1e3|{MD5}|t|", "a size in bytes"),
        (f"a||{MD5}|t|", "a size in bytes"),
        (f"a|{2**63}|{MD5}|t|", "a size in bytes"),
        (f"a|{'9' * 30}|{MD5}|t|", "a size in bytes"),
        (f"a|١٢|{MD5}|t|", "a size in bytes"),
        (f"a|1|{MD5[:-1]}|t|", "an md5 sum"),
        (f"a|1|{MD5.upper()}|t|", "an md5 sum"),
        (f"a|1|{MD5}|", "at least 4 columns"),
        (f"index.txt|1|{MD5}|t|", "the list's own name"),
    ],
)
def test_malformed_file_rows(line: str, reason: str) -> None:
    (told,) = reasons(read_files, f"# fileID|bytes|md5sum|type|\n{line}\n")
    assert told[0] == 2
    assert reason in told[1]


def test_the_largest_size_is_read() -> None:
    (row,) = rows(read_files, f"a|{2**63 - 1}||t|\n")
    assert isinstance(row, FileRow)
    assert row.size == 2**63 - 1


def test_a_last_line_without_its_end_is_a_cut_list() -> None:
    *_, last = rows(read_filesets, SEED.rstrip("\n"))
    assert isinstance(last, Malformed)
    assert last.cut
    assert last.line == 3


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("<html><body>login</body></html>\n", "not HTML"),
        ("# fileset |when |type |\nfs1|x|y|\n", "no column 'filesetID', 'time registered'"),
        ("# filesetID|type|\nfs1|y|\n", "no column 'time registered'"),
        ("x" * 70000, "longer than 65536 bytes"),
        (SEED + "y" * 70000 + "\n", "line 4 is longer"),
    ],
    ids=["HTML", "renamed columns", "missing column", "endless line", "long line"],
)
def test_what_is_no_list_at_all(text: str, reason: str) -> None:
    with pytest.raises(ListError, match=reason):
        rows(read_filesets, text)


def test_lines_are_put_together_from_any_chunks() -> None:
    whole = rows(read_filesets, SEED)
    for size in (1, 2, 7, 64):
        data = SEED.encode()
        parts = [data[at : at + size] for at in range(0, len(data), size)]
        assert list(read_filesets(parts)) == whole


def test_an_endless_line_is_noticed_before_it_fills_the_memory() -> None:
    def endless() -> Iterator[bytes]:
        for _ in range(10):
            yield b"x" * 60000
        raise AssertionError("read on and on")

    with pytest.raises(ListError):
        list(read_filesets(endless()))


def test_leap_seconds_are_times() -> None:
    assert check_time("2016-12-31T23:59:60Z") is None


NAMES = st.from_regex(r"[A-Za-z0-9_+.:][A-Za-z0-9_+.: -]{0,30}", fullmatch=True).filter(
    lambda name: check_name(name) is None
)
VALUES = st.text("ABCdef0123456789_.:+- ", max_size=12).map(str.strip)
TIMES = st.datetimes().map(lambda t: t.strftime("%Y").zfill(4) + t.strftime("-%m-%dT%H:%M:%SZ"))


@given(
    st.lists(st.tuples(NAMES, TIMES, VALUES, VALUES, VALUES), max_size=8),
    st.sampled_from(["\n", "\r\n"]),
)
def test_what_is_written_is_read_again(
    filesets: list[tuple[str, str, str, str, str]], end: str
) -> None:
    names = ["filesetID", "time registered", "type", "stage", "filter"]
    text = format_list(names, filesets).replace("\n", end)
    assert [row.cells for row in rows(read_filesets, text) if isinstance(row, Row)] == filesets
    assert not reasons(read_filesets, text)


@given(st.binary(max_size=400), st.integers(1, 50))
def test_arbitrary_bytes_are_rows_malformed_or_no_list(data: bytes, size: int) -> None:
    parts = [data[at : at + size] for at in range(0, len(data), size)]
    for reader in (read_products, read_filesets, read_files):
        try:
            for row in reader(parts):
                assert isinstance(row, Row | Malformed)
        except ListError:
            pass


@given(st.binary(max_size=60), st.integers(0, len(SEED)))
def test_a_damaged_list_never_yields_an_unsafe_name(data: bytes, at: int) -> None:
    raw = SEED.encode()
    try:
        for row in read_filesets([raw[:at] + data + raw[at:]]):
            if isinstance(row, FilesetRow):
                assert check_name(row.name) is None
                assert "/" not in row.name
    except ListError:
        pass
