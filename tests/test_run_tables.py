"""Exported runs in SQL: tables as the documents have them, and documents that are refused."""

import re
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain

import pytest
from exported import CHIP_RUN, VERSION, Table, dbinfo, imfile, imports, tables

from mirror.errors import IntegrityError
from mirror.run_columns import key_of
from mirror.run_tables import BATCH, MAX_COLUMNS, MAX_PROBLEMS, MAX_TABLES, Imported, import_run
from server.catalogue import catalogue
from server.database import Database
from server.runs.imported import columns_of, select, tables_of
from server.schema import STEPS
from server.site import Place, SqliteFile

RUN_5 = {"chip_id": 5, "state": "full", "workdir": "neb://any/gpc1"}


@pytest.fixture
def database(place: Place) -> Iterator[Database]:
    """A catalogue without runs."""
    with catalogue(place, create=True) as opened:
        yield opened


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def empty(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Database]:
    """A catalogue for those that leave nothing in it."""
    place: Place = SqliteFile(tmp_path_factory.mktemp("empty") / "catalogue.db")
    if request.param == "postgres":
        place = request.getfixturevalue("postgres")()
    with catalogue(place, create=True) as opened:
        yield opened


def run(chip_id: int, *lines: str) -> Table:
    """A row of chipRun."""
    return ("chipRun", f"chip_id S64 {chip_id}", *lines)


# --- what is taken in


def test_a_run_becomes_tables(database: Database) -> None:
    document = dbinfo(CHIP_RUN, imfile(5, "XY01", "bg F64 1.5"), imfile(5, "XY02", "bg F64 NULL"))
    names = ("chipRun", "chipProcessedImfile")
    assert imports(database, document) == [Imported("chipRun", 3, names, 5, 1)]
    assert select(database, "chipRun") == [RUN_5]
    assert select(database, "chipProcessedImfile", class_id="XY02") == [
        {"chip_id": 5, "class_id": "XY02", "bg": None}
    ]
    assert tables_of(database, "chipRun") == list(names)
    assert columns_of(database, "chipRun") == {"chip_id": "S64", "state": "STR", "workdir": "STR"}


def test_importing_again_changes_nothing(database: Database) -> None:
    document = dbinfo(CHIP_RUN, imfile(5, "XY01", "bg F64 1.5"))
    once, again = imports(database, document, document)
    assert once == again
    assert select(database, "chipRun") == [RUN_5]
    assert len(select(database, "chipProcessedImfile")) == 1
    assert tables_of(database, "chipRun") == ["chipRun", "chipProcessedImfile"]


@pytest.mark.parametrize(
    ("line", "value"),
    [
        pytest.param("x S8 -128", -128, id="S8"),
        pytest.param("x S64 -9223372036854775808", -(2**63), id="S64"),
        pytest.param("x U32 4294967295", 2**32 - 1, id="U32"),
        pytest.param("x U64 9223372036854775807", 2**63 - 1, id="U64"),
        pytest.param("x F32 24.5312", 24.5312, id="F32"),
        pytest.param("x F64 -inf", float("-inf"), id="F64 without end"),
        pytest.param("x F64 nan", None, id="nan is NULL"),
        pytest.param("x F32 5", 5.0, id="F32 without a point"),
        pytest.param("x BOOL TRUE", 1, id="true"),
        pytest.param("x BOOL f", 0, id="false"),
        pytest.param("x STR two  words ' \" ? % ; -- é", "two  words ' \" ? % ; -- é", id="STR"),
        pytest.param("x STR", "", id="empty STR"),
        pytest.param("x STRING NULL", None, id="NULL"),
        pytest.param("x BOOL NULL", None, id="NULL BOOL"),
        pytest.param("x UTC 2009-04-15T01:22:12.50Z", "2009-04-15T01:22:12.50Z", id="UTC"),
        pytest.param("x TAI 2009-04-15", "2009-04-15", id="TAI"),
    ],
)
def test_values(database: Database, line: str, value: object) -> None:
    imports(database, dbinfo(run(5, line)))
    (row,) = select(database, "chipRun")
    assert (row["x"], type(row["x"])) == (value, type(value))


def test_sql_types(database: Database) -> None:
    lines = ["a S8 1", "b F32 1", "c STR x", "d BOOL T", "e UTC 2009-04-15"]
    imports(database, dbinfo(run(5, *lines)))
    if database.kind == "sqlite":
        rows = database.rows("SELECT name, type FROM pragma_table_info('chipRun')")
        expected = "INTEGER INTEGER REAL TEXT INTEGER TEXT"
    else:
        rows = database.rows(
            "SELECT column_name, upper(data_type) FROM information_schema.columns"
            " WHERE table_name = 'chipRun' ORDER BY ordinal_position"
        )
        expected = "BIGINT BIGINT DOUBLE_PRECISION TEXT BIGINT TEXT"
    assert [kind.replace(" ", "_") for _, kind in rows] == expected.split()


def test_columns_in_any_order_and_lacking(database: Database) -> None:
    imports(
        database,
        dbinfo(
            CHIP_RUN,
            ("chipProcessedImfile", "bg F32 1", "class_id STR XY01", "chip_id S64 5"),
            imfile(5, "XY02"),
            imfile(5, "XY03", "fault S16 0", "bg F32 3"),
            imfile(5, "XY04", "bg F32 2"),
        ),
    )
    rows = select(database, "chipProcessedImfile")
    assert [(row["class_id"], row["bg"], row["fault"]) for row in rows] == [
        ("XY01", 1, None), ("XY02", None, None), ("XY03", 3, 0), ("XY04", 2, None),
    ]  # fmt: skip


def test_new_columns_widen_the_table(database: Database) -> None:
    imports(database, dbinfo(run(4)), dbinfo(run(5, "label STR a", "data_group STR b")))
    assert select(database, "chipRun") == [
        {"chip_id": 4, "label": None, "data_group": None},
        {"chip_id": 5, "label": "a", "data_group": "b"},
    ]


@pytest.mark.parametrize(
    ("before", "after", "kind"),
    [
        ("S32", "S64", "S64"),
        ("S64", "S32", "S64"),
        ("F32", "F64", "F64"),
        ("F64", "F32", "F64"),
        ("U8", "S8", "S16"),
        ("U8", "S32", "S32"),
        ("S16", "U64", "S64"),
        ("U16", "U32", "U32"),
        ("STRING", "STR", "STR"),
        ("S64", "F32", "F64"),
        ("F32", "S64", "F64"),
    ],
)
def test_a_type_grows_to_what_holds_both(
    database: Database, before: str, after: str, kind: str
) -> None:
    imports(database, dbinfo(run(5, f"x {before} 1")), dbinfo(run(6, f"x {after} 2")))
    assert columns_of(database, "chipRun")["x"] == kind
    assert [str(row["x"])[0] for row in select(database, "chipRun")] == ["1", "2"]


def test_a_type_grows_within_a_document(database: Database) -> None:
    rows = [run(number, f"x {kind} 1") for number, kind in enumerate(("S16", "S64", "S32"))]
    imports(database, dbinfo(*rows))
    assert columns_of(database, "chipRun")["x"] == "S64"


def test_the_newest_version_stays(database: Database) -> None:
    newer = VERSION.replace("1.1.53", "1.1.70").replace("END", "   x S32 1\nEND")
    imports(database, dbinfo(CHIP_RUN), dbinfo(CHIP_RUN, version=newer))
    assert select(database, "dbversion") == [{"schema_version": "1.1.70", "x": 1}]
    imports(database, dbinfo(CHIP_RUN))
    assert select(database, "dbversion") == [{"schema_version": "1.1.53", "x": None}]


def test_a_document_may_lack_the_version(database: Database) -> None:
    imports(database, dbinfo(CHIP_RUN, version=""))
    assert select(database, "chipRun") == [RUN_5]


def test_an_unknown_kind_of_run_is_keyed_by_its_ids(database: Database) -> None:
    first = dbinfo(
        ("vrRun", "vr_id S64 9", "tess_id STR RINGS"),
        ("vrFile", "tess_id STR a", "part_id S32 1", "vr_id S64 9", "n S32 1"),
        ("vrFile", "tess_id STR b", "part_id S32 2", "vr_id S64 9", "n S32 2"),
    )
    assert imports(database, first)[0].run_id == 9
    assert [(row["part_id"], row["n"]) for row in select(database, "vrFile")] == [(1, 1), (2, 2)]


def test_a_key_is_that_of_the_first_document(database: Database) -> None:
    imports(database, dbinfo(("vrRun", "vr_id S64 9")))
    imports(database, dbinfo(("vrRun", "vr_id S64 9", "exp_id S64 1")))
    assert select(database, "vrRun") == [{"vr_id": 9, "exp_id": 1}]


def test_many_rows_in_batches(database: Database) -> None:
    count = 2 * BATCH + 1
    rows = [imfile(5, f"XY{number}", f"n S32 {number}") for number in range(count)]
    document = dbinfo(CHIP_RUN, *rows)
    with database.write():
        chunks = (document[at : at + 997] for at in range(0, len(document), 997))
        assert import_run(database, chunks, "x.mdc").rows == count + 1
    (found,) = database.rows('SELECT count(*), sum(n) FROM "chipProcessedImfile"')
    assert tuple(map(int, found)) == (count, count * (count - 1) // 2)


def test_no_more_than_a_batch_is_held(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    write = database.change_many

    def change_many(sql: str, rows: Iterable[Sequence[object]]) -> None:
        held = list(rows)
        sizes.append(len(held))
        write(sql, held)

    monkeypatch.setattr(database, "change_many", change_many)
    imports(database, dbinfo(CHIP_RUN, *(imfile(5, f"XY{n}") for n in range(BATCH + 1))))
    assert max(sizes) == BATCH


def test_the_run_s_id_leads_the_key_that_it_is_asked_by() -> None:
    columns = ["tess_id", "part_id", "n", "vr_id"]
    assert key_of("vrFile", columns, ["vr_id"]) == ("vr_id", "part_id")


def test_two_that_begin_the_same_tables_at_once(database: Database, place: Place) -> None:
    def begin(number: int) -> None:
        with catalogue(place) as own:
            imports(own, dbinfo(run(number, f"x{number} S32 1"), imfile(number, "XY01")))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(begin, range(8)))
    assert [row["chip_id"] for row in select(database, "chipRun")] == list(range(8))
    assert len(columns_of(database, "chipRun")) == 9


def test_several_runs_in_a_document(database: Database) -> None:
    (done,) = imports(database, dbinfo(run(7), run(8)))
    assert (done.run_id, done.runs) == (7, 2)


# --- what is refused

LONG = "x" * 64

REFUSALS = {
    "nothing": (b"", "1: an exported run expected; it has no table"),
    "version alone": (VERSION.encode(), "it has no table"),
    "no row of the run": (b"chipRun MULTI\n", "1: .* it has no row of chipRun"),
    "no mdc": (b"chipRun METADATA\n", "1: METADATA chipRun: an END expected"),
    "a scalar": (dbinfo(CHIP_RUN) + b"x S32 1\n", "table x: a table's row .* not S32"),
    "a vector": (dbinfo(CHIP_RUN) + b"@x S32 1 2\n", "table x: .* not @S32"),
    "a declared record": (b"TYPE T a b\n" + dbinfo(CHIP_RUN), "1: table T: .* not TYPE"),
    "two versions": (VERSION.encode() + dbinfo(CHIP_RUN, version=VERSION[17:]), "one row expected"),
    "an empty version": (b"dbversion METADATA\nEND\n" + dbinfo(CHIP_RUN, version=""), "columns"),
    "a dump": (b"FILES.INPUT METADATA\n A STR b\nEND\n", r"table FILES.INPUT: a column \*_id"),
    "no column": (dbinfo(("chipRun",)), "2[0-9]*: table chipRun: columns expected|chip_id"),
    "no MULTI": (
        b"chipRun METADATA\nchip_id S64 5\nEND\nchipRun METADATA\nchip_id S64 6\nEND\n",
        "x.mdc:4: chipRun repeats without MULTI",
    ),
    "a column twice": (dbinfo(run(5, "x S32 1", "x S32 2")), "x repeats without MULTI"),
    "no id": (dbinfo(("fooRun", "tess_id STR x")), r"table fooRun: a column \*_id expected"),
    "ids without end": (
        dbinfo(("fooRun", *(f"a{n}_id S64 1" for n in range(11)))), "at most 10 columns",
    ),
    "key missing": (dbinfo(run(5), ("chipProcessedImfile", "chip_id S64 5")), "class_id: ex"),
    "key NULL": (dbinfo(("chipRun", "chip_id S64 NULL")), "column chip_id: a value expected"),
    "key NULL below": (dbinfo(run(5), imfile(5, "NULL")), "column class_id: a value expected"),
    "key no number": (dbinfo(("chipRun", "chip_id STR 5")), "chip_id: a whole number .* not STR"),
    "id no number": (dbinfo(run(5, "exp_id F32 5")), "exp_id: a whole number expected, not F32"),
    "key no text": (
        dbinfo(run(5), ("chipProcessedImfile", "chip_id S64 5", "class_id S32 1")),
        "class_id: a STR expected",
    ),
    "key too long": (dbinfo(run(5), imfile(5, "é" * 128)), "at most 255 bytes expected in a key"),
    "a block in a row": (dbinfo(run(5, "x METADATA", "END")), "x: a number, .* not METADATA"),
    "a vector in a row": (dbinfo(run(5, "@x S32 1 2")), "column x: a number, .* not @S32"),
    "a MULTI in a row": (dbinfo(run(5, "x MULTI", "x S32 1")), "x: a number, .* not MULTI"),
    "a TYPE in a row": (dbinfo(run(5, "TYPE T a b")), "column T: a number, .* not TYPE"),
    "a record in a row": (dbinfo(run(5, "TYPE T a b", "x T 1 2")), "column x: a number, .* not T"),
    "complex": (dbinfo(run(5, "x C64 1+2i")), "column x: a number, .* not C64"),
    "U64 too large": (dbinfo(run(5, "x U64 9223372036854775808")), "x: at most 922337203685477580"),
    "NUL": (dbinfo(run(5, "x STR a\0b")), "column x: a text without NUL expected"),
    "NUL in a key": (dbinfo(run(5), imfile(5, "X\0Y")), "column class_id: a text without NUL"),
    "a long table": (dbinfo(CHIP_RUN, (LONG, "x_id S64 1")), "at most 63 bytes"),
    "a long column": (dbinfo(run(5, f"{LONG} S64 1")), f"column {LONG}: a name of at most 63"),
    "columns by case": (dbinfo(run(5, "Abc S32 1", "aBC S32 1")), "aBC: differs from column Abc"),
    "a table by case": (dbinfo(("ChipRun", "chip_id S64 5")), "differs from table chipRun"),
    "version by case": (dbinfo(CHIP_RUN, ("DBVersion", "x_id S64 5")), "from table dbversion"),
    "an index's name": (dbinfo(("chipRun_pkey", "chip_id S64 5")), "the name is kept"),
    "columns without end": (
        dbinfo(run(5, *(f"c{n} S8 1" for n in range(MAX_COLUMNS)))), "at most 500 columns",
    ),
    "tables without end": (
        dbinfo(*((f"t{n}", f"t{n}_id S64 1") for n in range(MAX_TABLES))), "at most 100 tables",
    ),
    "UTF-16": ("chipRun METADATA\n".encode("utf-16"), "UTF-8 expected"),
    "a text": (b"what is this\n", r"^x.mdc:1: an exported run \(mdc\) expected; .*\nx.mdc:1: what"),
    "a key twice": (
        dbinfo(run(5), imfile(5, "XY01"), imfile(5, "XY02"), imfile(5, "XY01", "bg F32 1")),
        "x.mdc:25: table chipProcessedImfile: one row with this key .*: chip_id 5, class_id 'XY01'",
    ),
    "a run twice": (dbinfo(run(5), run(5)), "13: table chipRun: one row with .*: chip_id 5$"),
    "a key twice, far apart": (
        dbinfo(run(5), *(imfile(5, f"XY{n % BATCH}") for n in range(BATCH + 1))), "'XY0'$",
    ),
    "another run's row": (
        dbinfo(run(5), imfile(5, "XY01"), imfile(6, "XY01")),
        r"x.mdc:21: table chipProcessedImfile: column chip_id: the id of a run that chipRun has"
        r" expected \(5 so far\), not 6$",
    ),
    "another run's row of an unknown table": (
        dbinfo(run(5), run(6), ("chipNote", "chip_id S64 7")), "chip_id: .*2 ids so far.*, not 7$",
    ),
    "a run's id as a text": (
        dbinfo(("vrRun", "vr_id S64 5"), ("vrFile", "vr_id STR 5")), "vr_id: .* not '5'$",
    ),
    "a row before its run": (
        b"vrRun MULTI\nvrFile METADATA\nvr_id S64 1\nEND\n", "a row of vrRun expected before",
    ),
    "a type that a key cannot have": (
        dbinfo(("vrRun", "vr_id S64 5"), ("vrRun", "vr_id STR a")),
        "vr_id: S64 expected in a key, as .*, not STR; give it the type S64",
    ),
    "a real key": (
        dbinfo(("vrRun", "vr_id S64 5"), ("vrRun", "vr_id F64 6")), "S64 expected in a key",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("document", "expected"), REFUSALS.values(), ids=REFUSALS)
def test_refused(empty: Database, document: bytes, expected: str) -> None:
    with pytest.raises(IntegrityError, match=expected) as caught, empty.write():
        import_run(empty, [document], "x.mdc")
    assert all(line.startswith("x.mdc:") for line in str(caught.value).split("\n"))
    assert tables(empty) == set()


OURS = sorted(set(re.findall(r"CREATE (?:TABLE|(?:UNIQUE )?INDEX) (\w+)", "".join(STEPS))))


@pytest.mark.parametrize(
    "name", [*OURS, "dsVersion", "DSPRODUCT", "RunTable", "sqlite_x", "SQLITE_X", "pg_class"]
)
def test_the_names_of_our_own_are_refused(empty: Database, name: str) -> None:
    with pytest.raises(IntegrityError, match=f"{name}: the name is kept"), empty.write():
        import_run(empty, [dbinfo(CHIP_RUN, (name, "x_id S64 1"))], "x.mdc")


def test_every_table_of_the_catalogue_was_found() -> None:
    assert {"dsProduct", "distRun", "rcRun", "publishDone", "runColumn"} <= set(OURS)


def test_what_was_imported_before_binds(database: Database) -> None:
    imports(database, dbinfo(run(5, "x S32 1")))
    later = dbinfo(("chiprun", "chip_id S64 6"), run(6, "x STR a", "X S32 1"))
    with pytest.raises(IntegrityError) as caught, database.write():
        import_run(database, [later], "x.mdc")
    assert str(caught.value).split("\n") == [
        "x.mdc:7: table chiprun: differs from table chipRun by case alone",
        "x.mdc:18: table chipRun: column X: differs from column x by case alone",
    ]
    assert select(database, "chipRun") == [{"chip_id": 5, "x": 1}]


def test_columns_are_bounded_over_all_documents(database: Database) -> None:
    imports(database, dbinfo(run(5, *(f"a{n} S8 1" for n in range(400)))))
    with pytest.raises(IntegrityError, match="at most 500 columns expected, not 501"):
        imports(database, dbinfo(run(5, *(f"b{n} S8 1" for n in range(100)))))


def test_every_problem_is_told_once_a_place(database: Database) -> None:
    rows = [imfile(5, f"XY{n}", "x C32 1") for n in range(5)]
    document = dbinfo(CHIP_RUN, *rows, imfile(5, "NULL"), run(6, "y U64 9999999999999999999"))
    with pytest.raises(IntegrityError) as caught, database.write():
        import_run(database, [document], "x.mdc")
    told = str(caught.value).split("\n")
    assert len(told) == 3
    assert "column x: a number" in told[0]
    assert "column class_id: a value expected" in told[1]
    assert "column y: at most" in told[2]


def test_problems_have_an_end(database: Database) -> None:
    rows = [imfile(5, "NULL") for _ in range(3000)]
    with pytest.raises(IntegrityError) as caught, database.write():
        import_run(database, [dbinfo(CHIP_RUN, *rows)], "x.mdc")
    assert len(str(caught.value).split("\n")) == MAX_PROBLEMS


def test_a_hopeless_document_is_not_read_to_its_end(database: Database) -> None:
    read = []

    def chunks() -> Iterator[bytes]:
        for number in range(3 * MAX_PROBLEMS):
            read.append(number)
            yield dbinfo(imfile(5, "NULL"), version="")[len("chipProcessedImfile MULTI") :]

    with pytest.raises(IntegrityError), database.write():
        import_run(database, chain([b"chipProcessedImfile MULTI\n"], chunks()), "x.mdc")
    assert len(read) < 2 * MAX_PROBLEMS


@pytest.mark.parametrize("name", ["xmin", "ctid"])
def test_system_columns(database: Database, name: str) -> None:
    document = dbinfo(run(5, f"{name} S32 1"))
    if database.kind == "sqlite":
        imports(database, document)
        assert columns_of(database, "chipRun")[name] == "S32"
    else:
        with pytest.raises(IntegrityError, match="PostgreSQL keeps this name"):
            imports(database, document)
