"""Exported runs in SQL: what replaces what, what is left out, and types that change."""

from collections.abc import Iterator, Sequence

import pytest
from exported import CHIP_RUN, Table, dbinfo, imfile, imports, tables

from mirror.errors import IntegrityError
from server.catalogue import catalogue
from server.database import Database, Duplicate
from server.runs.imported import columns_of, select, tables_of
from server.site import Place

CHIP_NOTE = ("chipNote", "chip_id S64 5", "note_id S32 1")


@pytest.fixture
def database(place: Place) -> Iterator[Database]:
    """A catalogue without runs."""
    with catalogue(place, create=True) as opened:
        yield opened


def run(chip_id: int, *lines: str) -> Table:
    """A row of chipRun."""
    return ("chipRun", f"chip_id S64 {chip_id}", *lines)


# --- a run that comes again


def test_the_rows_of_a_run_are_those_of_its_newest_document(database: Database) -> None:
    first = dbinfo(CHIP_RUN, *(imfile(5, f"XY0{n}", "bg F32 1") for n in range(3)), CHIP_NOTE)
    other = dbinfo(run(6), imfile(6, "XY01"), ("chipNote", "chip_id S64 6", "note_id S32 1"))
    imports(database, first, other, dbinfo(run(5, "state STR NULL"), imfile(5, "XY02")))
    assert select(database, "chipRun", chip_id=5) == [
        {"chip_id": 5, "state": None, "workdir": None}
    ]
    assert select(database, "chipProcessedImfile") == [
        {"chip_id": 5, "class_id": "XY02", "bg": None},
        {"chip_id": 6, "class_id": "XY01", "bg": None},
    ]
    assert [row["chip_id"] for row in select(database, "chipNote")] == [6]


def test_what_was_imported_alone_is_replaced_by_the_whole_run(database: Database) -> None:
    imports(database, dbinfo(imfile(5, "XY01"), imfile(5, "XY02")))
    imports(database, dbinfo(CHIP_RUN, imfile(5, "XY03")))
    assert [row["class_id"] for row in select(database, "chipProcessedImfile")] == ["XY03"]


def test_rows_of_several_runs_in_turn(database: Database) -> None:
    document = dbinfo(run(5), imfile(5, "XY01"), run(6), imfile(6, "XY01"), imfile(5, "XY02"))
    once, again = imports(database, document, document)
    assert once == again
    assert len(select(database, "chipProcessedImfile")) == 3


# --- types that disagree


@pytest.mark.parametrize(
    ("lines", "values"),
    [
        pytest.param(["x S32 7", "x STR 007"], ["7", "007"], id="a text of digits"),
        pytest.param(["x STR 007", "x S32 7"], ["007", "7"], id="a number later"),
        pytest.param(["x BOOL T", "x STR a", "x BOOL F"], ["T", "a", "F"], id="BOOL"),
        pytest.param(["x F64 0.1", "x STR 1e3"], ["0.1", "1e3"], id="a real number"),
        pytest.param(
            ["x F64 0.30000000000000004", "x BOOL T"], ["0.30000000000000004", "T"], id="17 digits"
        ),
        pytest.param(["x S32 NULL", "x STR NULL"], [None, None], id="NULL"),
        pytest.param(
            ["x UTC 2009-04-15", "x S8 -1", "x UTC 2009-04-16"],
            ["2009-04-15", "-1", "2009-04-16"],
            id="a time",
        ),
        pytest.param(["x STR a", "x F32 nan", "x F32 2.5"], ["a", None, "2.5"], id="nan"),
    ],
)
@pytest.mark.parametrize("apart", [False, True], ids=["one document", "several"])
def test_types_that_disagree_become_text(
    database: Database, lines: Sequence[str], values: Sequence[object], apart: bool
) -> None:
    rows = [run(number, line, "y S32 1") for number, line in enumerate(lines)]
    for rows_together in [[row] for row in rows] if apart else [rows]:
        imports(database, dbinfo(*rows_together))
    assert columns_of(database, "chipRun") == {"chip_id": "S64", "x": "STR", "y": "S32"}
    assert [(row["x"], row["y"]) for row in select(database, "chipRun")] == [
        (value, 1) for value in values
    ]


def test_a_real_number_after_whole_ones(database: Database) -> None:
    documents = [dbinfo(run(n, f"x {text}")) for n, text in enumerate(("S32 1", "F32 2.5", "U8 3"))]
    told = [done.changed for done in imports(database, *documents)]
    assert told == [(), ("column x of chipRun: F64 from now on, S32 before",), ()]
    found = [row["x"] for row in select(database, "chipRun")]
    assert [(value, type(value)) for value in found] == [(1.0, float), (2.5, float), (3.0, float)]


def test_a_change_of_type_is_told_once(database: Database) -> None:
    first, second = dbinfo(run(5, "label S32 1")), dbinfo(run(6, "label STR a"))
    told = [done.changed for done in imports(database, first, second, second, first)]
    assert told == [(), ("column label of chipRun: STR from now on, S32 before",), (), ()]


def test_a_refused_document_changes_no_type(database: Database) -> None:
    imports(database, dbinfo(run(5, "x S32 7")))
    with pytest.raises(IntegrityError, match="one row with this key"):
        imports(database, dbinfo(run(6, "x STR a"), run(6, "x STR b")))
    assert columns_of(database, "chipRun")["x"] == "S32"
    assert select(database, "chipRun") == [{"chip_id": 5, "x": 7}]


def test_the_key_and_what_people_added_outlive_a_change_of_type(database: Database) -> None:
    imports(database, dbinfo(run(5, "x S32 7"), imfile(5, "XY01", "x S32 1")))
    database.change('CREATE INDEX mine ON "chipRun" (x)')
    if database.kind == "sqlite":
        database.change('CREATE VIEW also AS SELECT chip_id, x FROM "chipRun"')
    imports(database, dbinfo(run(6, "x STR a"), imfile(6, "XY01", "x STR 01")))
    with pytest.raises(Duplicate):
        database.change('INSERT INTO "chipRun" (chip_id) VALUES (5)')
    database.change("DROP INDEX mine")
    if database.kind == "sqlite":
        assert database.rows("SELECT x FROM also ORDER BY chip_id") == [("7",), ("a",)]


# --- what is left out

LEFT_OUT: dict[str, tuple[Table, Table, str]] = {
    "no id of a run": (CHIP_RUN, ("foo", "foo_id S64 1"), "foo, which has no chip_id"),
    "no id at all": (CHIP_RUN, ("FILES.INPUT", "a STR b"), "FILES.INPUT, which has no chip_id"),
    "another kind": (CHIP_RUN, ("warpRun", "warp_id S64 1"), "warpRun, which has no chip_id"),
    "the exposure": (CHIP_RUN, ("rawExp", "exp_id S64 1"), "rawExp, which has no chip_id"),
    "a later run": (
        CHIP_RUN, ("camRun", "cam_id S64 1", "chip_id S64 5"), "camRun, whose rows are of other ru",
    ),
    "a run of the exposure": (
        ("rawExp", "exp_id S64 1"), ("chipRun", "chip_id S64 5", "exp_id S64 1"), "chipRun, whose",
    ),
    "a run of a kind that is not known": (
        ("fooRun", "chip_id S64 5"), imfile(5, "XY01"), "chipProcessedImfile, whose",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("first", "second", "told"), LEFT_OUT.values(), ids=LEFT_OUT)
def test_what_is_of_other_runs_is_left_out(
    database: Database, first: Table, second: Table, told: str
) -> None:
    (done,) = imports(database, dbinfo(first, second, second))
    assert len(done.left_out) == 1
    assert done.left_out[0].startswith(told)
    assert (done.rows, done.tables) == (1, (first[0],))
    assert tables_of(database, first[0]) == [first[0]]
    assert tables(database) == {"dbversion", first[0]}


KEPT: dict[str, tuple[Table, Table]] = {
    "components of an exposure": (
        ("rawExp", "exp_id S64 1"), ("rawImfile", "exp_id S64 1", "class_id STR XY01"),
    ),
    "inputs of a stack": (
        ("stackRun", "stack_id S64 1"), ("stackInputSkyfile", "warp_id S64 9", "stack_id S64 1"),
    ),
    "a camera run": (
        ("camRun", "chip_id S64 9", "cam_id S64 1"), ("camProcessedExp", "cam_id S64 1"),
    ),
    "an unknown table": (CHIP_RUN, CHIP_NOTE),
    "an unknown kind": (
        ("vrRun", "vr_id S64 1", "exp_id S64 9"),
        ("vrFile", "n_id S32 1", "exp_id S64 8", "vr_id S64 1"),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("first", "second"), KEPT.values(), ids=KEPT)
def test_what_is_of_the_run_is_kept(database: Database, first: Table, second: Table) -> None:
    document = dbinfo(first, second)
    once, again = imports(database, document, document)
    assert once == again
    assert (once.left_out, once.tables) == ((), (first[0], second[0]))
    assert len(select(database, second[0])) == 1


def test_a_table_that_came_with_another_kind_stays_with_it(database: Database) -> None:
    note = ("note", "chip_id S64 5", "warp_id S64 7", "text STR chip")
    first = dbinfo(CHIP_RUN, note)
    second = dbinfo(("warpRun", "warp_id S64 7"), (*note[:3], "text STR warp"))
    _, done = imports(database, first, second)
    assert done.left_out == ("note, whose rows are of other runs",)
    assert [row["text"] for row in select(database, "note")] == ["chip"]
    with pytest.raises(IntegrityError, match=r"note: a kind of run expected; .* table of chipRun"):
        imports(database, dbinfo(note))
