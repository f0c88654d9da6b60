"""What is new and wanted (mirror/plan.py): rows in, decisions out."""

from datetime import UTC, datetime

import pytest

from mirror.errors import IntegrityError
from mirror.listing import FileRow, FilesetRow, Malformed, format_list, read_files, read_filesets
from mirror.plan import (
    FilesetPlan,
    Kind,
    Known,
    Selection,
    Verdict,
    is_glob,
    judge,
    plan_fileset,
    wanted_products,
)

COLUMNS = ("filesetID", "time registered", "type", "stage", "filter")


def fileset(name: str = "fs", time: str = "2009-04-15T03:02:11Z", *values: str) -> FilesetRow:
    cells = [(name, time, "IPP-DIST", *(values or ("chip", "g.00000")))]
    (row,) = read_filesets([format_list(COLUMNS, cells).encode()])
    assert isinstance(row, FilesetRow)
    return row


def files(text: str) -> list[FileRow | Malformed]:
    return list(read_files([b"# fileID|bytes|md5sum|type|component|\n" + text.encode()]))


def kinds(plan: FilesetPlan) -> list[tuple[str, Kind, str | None]]:
    return [(file.row.name, file.kind, file.component) for file in plan.files]


@pytest.mark.parametrize(
    ("patterns", "hidden", "names", "unmatched"),
    [
        (["gpc1"], [], ["gpc1"], []),
        (["gpc?"], [], ["gpc1", "gpc2"], []),
        (["gpc2", "gpc*"], [], ["gpc2", "gpc1"], []),
        (["megacam"], [], [], ["megacam"]),
        (["gpc1"], ["secret"], ["gpc1", "secret"], []),
        (["secret"], ["secret"], ["secret"], []),
        (["x*", "gpc1"], [], ["gpc1"], ["x*"]),
    ],
)
def test_wanted_products(
    patterns: list[str], hidden: list[str], names: list[str], unmatched: list[str]
) -> None:
    assert wanted_products(["gpc1", "gpc2"], patterns, hidden) == (names, unmatched)


def test_globs() -> None:
    assert [name for name in ("a", "a*", "a?", "[ab]") if is_glob(name)] == ["a*", "a?", "[ab]"]


@pytest.mark.parametrize(
    ("select", "wanted"),
    [
        ({}, True),
        ({"stage": ("chip",)}, True),
        ({"stage": ("camera", "ch*")}, True),
        ({"stage": ("camera",)}, False),
        ({"stage": ("chip",), "filter": ("r.*",)}, False),
        ({"type": ("IPP-*",)}, True),
        ({"filesetID": ("fs",)}, True),
    ],
)
def test_select(select: dict[str, tuple[str, ...]], wanted: bool) -> None:
    assert Selection(select, None).wants(fileset()) is wanted


def test_select_of_a_missing_value_and_of_a_missing_column() -> None:
    row = fileset("fs", "2009-04-15T03:02:11Z", "null", "")
    assert Selection({"stage": ("null",)}, None).wants(row)
    assert not Selection({"stage": ("chip",)}, None).wants(row)
    assert Selection({"camera": ("x",)}, None).missing_columns(row.header) == ["camera"]


def test_since_is_at_or_after() -> None:
    since = Selection({}, datetime(2009, 4, 15, 3, 2, 11, tzinfo=UTC))
    assert since.wants(fileset(time="2009-04-15T03:02:11Z"))
    assert not since.wants(fileset(time="2009-04-15T03:02:10Z"))
    assert Selection({}, "fs").since_name == "fs"


@pytest.mark.parametrize(
    ("registered", "kind", "verdict"),
    [
        ("2009-04-15T03:02:11Z", "IPP-DIST", Verdict.SAME),
        ("2009-04-15T03:02:10Z", "IPP-DIST", Verdict.AGAIN),
        ("2009-04-15T03:02:12Z", "IPP-DIST", Verdict.CONFLICT),
        ("2009-04-15T03:02:11Z", "notset", Verdict.CONFLICT),
        ("", "", Verdict.FOUND),
    ],
)
def test_judge(registered: str, kind: str, verdict: Verdict) -> None:
    assert judge(fileset(), Known(1, registered, kind, "done", False, False)) is verdict
    assert judge(fileset(), None) is Verdict.NEW


def test_a_distribution_fileset() -> None:
    plan = plan_fileset(
        files(
            "dbinfo.chip.1.mdc|1||text|dbinfo|\ndirinfo.chip.1.mdc|2||text|dirinfo|\n"
            "a.XY01.tgz|3||tgz|XY01|\nnotes.txt|4||text|notes|\n"
        )
    )
    assert plan.has_dirinfo
    assert plan.size == 10
    assert kinds(plan) == [
        ("dbinfo.chip.1.mdc", Kind.DBINFO, "dbinfo"),
        ("dirinfo.chip.1.mdc", Kind.DIRINFO, "dirinfo"),
        ("a.XY01.tgz", Kind.BUNDLE, "XY01"),
        ("notes.txt", Kind.BESIDE, "notes"),
    ]


def test_without_dirinfo_everything_is_plain_even_a_bundle() -> None:
    plan = plan_fileset(files("a.tgz|3||tgz|XY01|\nb.fits|4||fits|\n"))
    assert not plan.has_dirinfo
    assert [file.kind for file in plan.files] == [Kind.PLAIN, Kind.PLAIN]


def test_dirinfo_is_known_by_its_name_where_there_is_no_component() -> None:
    rows = read_files(
        [b"# fileID|bytes|md5sum|type|\ndirinfo.x.1.mdc|1||text|\ndbinfo.x.1.mdc|1||text|\n"]
    )
    assert [file.kind for file in plan_fileset(rows).files] == [Kind.DIRINFO, Kind.DBINFO]


def test_a_row_that_is_listed_twice_counts_once() -> None:
    plan = plan_fileset(files("a|3||t|x|\na|3||t|x|\n"))
    assert len(plan.files) == 1
    assert plan.warnings == ("a is listed twice (lines 2 and 3)",)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a|3||t|x|\na|4||t|x|\n", "a is listed twice with different contents .lines 2 and 3"),
        ("a|-3||t|x|\n", "malformed rows in index.txt: line 2: a size in bytes"),
        ("../a|3||t|x|\n" * 5, "line 4: .*; and 2 more"),
        ("d|1||text|dirinfo|\na.tgz|3||tgz|\n", "a.tgz: a bundle without a component"),
        ("d|1||text|dirinfo|\na|3||tgz|X|\nb|3||tgz|X|\n", "bundles of the same component X"),
        ("d|1||text|dirinfo|\ne|1||text|dirinfo|\n", "lists 2 files that are dirinfo"),
    ],
)
def test_filesets_that_are_refused(text: str, told: str) -> None:
    with pytest.raises(IntegrityError, match=told):
        plan_fileset(files(text))
