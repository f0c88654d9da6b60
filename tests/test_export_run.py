"""A run exported as it was imported, and what the mirror makes of it."""

import io
from collections.abc import Iterator

import pytest
from exported import CHIP_RUN, Table, dbinfo, imfile, imports, joined

from mirror.dirinfo import Places
from mirror.errors import ConfigError, IntegrityError
from mirror.rewrite import rewrite_dbinfo
from parse_config import load_mdc
from server.catalogue import catalogue
from server.database import Database
from server.runs.export import component_first, export_run
from server.runs.imported import columns_of, select, tables_of
from server.runs.stages import STAGES
from server.site import Place, SqliteFile

BASE = "path_base STR neb://any/gpc1/o1.5/o1.5.ch.5"


@pytest.fixture
def database(place: Place) -> Iterator[Database]:
    """A catalogue without runs."""
    with catalogue(place, create=True) as opened:
        yield opened


@pytest.fixture
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """Another site's catalogue."""
    place = SqliteFile(tmp_path_factory.mktemp("elsewhere") / "catalogue.db")
    with catalogue(place, create=True) as opened:
        yield opened


def export(database: Database, stage: str, stage_id: int, *, clean: bool = False) -> bytes:
    """The document of a run."""
    return joined(export_run(database, STAGES[stage], stage_id, clean=clean))


def everything(database: Database, run_table: str) -> dict[str, object]:
    """All rows of a kind of run, and their types."""
    return {
        table: (select(database, table), columns_of(database, table))
        for table in ("dbversion", *tables_of(database, run_table))
    }


def test_the_document(database: Database) -> None:
    imports(database, dbinfo(CHIP_RUN, imfile(5, "XY01", "bg F64 1.50", "ok BOOL t", "x F32 NULL")))
    assert export(database, "chip", 5).decode() == (
        "dbversion MULTI\n\n"
        "dbversion METADATA\n"
        "   schema_version   STR     1.1.53\n"
        "END\n\n"
        "chipRun MULTI\n\n"
        "chipRun METADATA\n"
        "   chip_id          S64     5\n"
        "   state            STR     full\n"
        "   workdir          STR     neb://any/gpc1\n"
        "END\n\n"
        "chipProcessedImfile MULTI\n\n"
        "chipProcessedImfile METADATA\n"
        "   chip_id          S64     5\n"
        "   class_id         STR     XY01\n"
        "   bg               F64     1.5\n"
        "   ok               BOOL    T\n"
        "   x                F32     NULL\n"
        "END\n\n"
    )


EVERY_TYPE = (
    "a S8 -1", "b U64 9223372036854775807", "c F32 24.5312", "d F64 1e-300", "e F64 inf",
    "f BOOL T", "g BOOL F", "h STR two  words é", "i STR", "j UTC 2009-04-15T01:22:12.50Z",
    "k TAI 2009-04-15", "l BOOL NULL", "m STR NULL", "n S32 NULL", "o F32 5",
)  # fmt: skip


def test_what_comes_back_is_what_went_out(database: Database, elsewhere: Database) -> None:
    document = dbinfo((*CHIP_RUN, *EVERY_TYPE), *(imfile(5, f"XY{n}", BASE) for n in range(3)))
    imports(database, document)
    exported = export(database, "chip", 5)
    assert not load_mdc(exported).warnings
    imports(elsewhere, exported)
    assert everything(elsewhere, "chipRun") == everything(database, "chipRun")
    assert export(elsewhere, "chip", 5) == exported


def test_only_the_run_asked_for(database: Database) -> None:
    other = ("chipRun", "chip_id S64 6", "label STR six")
    imports(database, dbinfo(CHIP_RUN, imfile(5, "XY01")), dbinfo(other, imfile(6, "XY02")))
    text = export(database, "chip", 6).decode()
    assert "XY02" in text
    assert "XY01" not in text
    assert text.count("chipRun METADATA") == 1


def test_a_table_without_rows_or_without_the_run_is_left_out(database: Database) -> None:
    imports(
        database,
        dbinfo(CHIP_RUN, imfile(5, "XY01"), ("rawExp", "exp_id S64 5")),
        dbinfo(("chipRun", "chip_id S64 6")),
    )
    text = export(database, "chip", 6).decode()
    assert "chipProcessedImfile" not in text
    assert "rawExp" not in text


def test_what_is_of_other_runs_is_not_part_of_it(database: Database) -> None:
    imports(database, dbinfo(("rawExp", "exp_id S64 5")), dbinfo((*CHIP_RUN, "exp_id S64 5")))
    database.change("INSERT INTO runTable VALUES ('rawExp', 'chipRun', 1)")
    assert b"chipRun" not in export(database, "raw", 5)


def test_a_clean_export_says_cleaned(database: Database) -> None:
    rows = [imfile(5, "XY01", "data_state STR full"), imfile(5, "XY02", "data_state STR new")]
    imports(database, dbinfo((*CHIP_RUN, "note STR full"), *rows))
    document = load_mdc(export(database, "chip", 5, clean=True))
    (run,) = document["chipRun"]
    assert (run["state"], run["note"]) == ("cleaned", "full")
    assert [row["data_state"] for row in document["chipProcessedImfile"]] == ["cleaned", "new"]
    assert select(database, "chipRun")[0]["state"] == "full"


def test_of_both_kinds_of_difference(database: Database) -> None:
    imports(database, dbinfo(("diffRun", "diff_id S64 7"), ("diffSkyfile", "diff_id S64 7",
                             "skycell_id STR skycell.1")))  # fmt: skip
    assert export(database, "SSdiff", 7) == export(database, "diff", 7)


@pytest.mark.parametrize(
    ("columns", "order"),
    [
        pytest.param("a class_id uri", "a class_id uri", id="in order"),
        pytest.param("a uri b class_id", "a class_id uri b", id="behind"),
        pytest.param("path_base uri skycell_id", "skycell_id path_base uri", id="in front"),
        pytest.param("a class_id", "a class_id", id="no path"),
        pytest.param("uri a", "uri a", id="no component"),
    ],
)
def test_the_component_comes_before_the_paths(columns: str, order: str) -> None:
    assert component_first(columns.split()) == order.split()


MIRRORED = {
    "chip": (
        [CHIP_RUN, ("chipProcessedImfile", "chip_id S64 5", BASE, "class_id STR XY01")],
        Places("/data", "gpc1", {"XY01": "o1.5"}),
        "path_base        STR     /data/gpc1/o1.5/o1.5.ch.5",
    ),
    "camera": (
        [("camRun", "cam_id S64 5"), ("camProcessedExp", "cam_id S64 5", BASE)],
        Places("/data", "gpc1", {"exposure": "o1.5"}),
        "path_base        STR     /data/gpc1/o1.5/o1.5.ch.5",
    ),
    "stack": (
        [
            ("stackRun", "stack_id S64 5", "skycell_id STR skycell.1"),
            ("stackSumSkyfile", "stack_id S64 5", BASE),
        ],
        Places("/data", "gpc1", {"skycell.1": "o1.5"}),
        "path_base        STR     /data/gpc1/o1.5/o1.5.ch.5",
    ),
}


@pytest.mark.parametrize(("stage", "case"), MIRRORED.items(), ids=MIRRORED)
def test_the_mirror_finds_every_path(
    elsewhere: Database, stage: str, case: tuple[list[Table], Places, str]
) -> None:
    rows, places, line = case
    imports(elsewhere, dbinfo(*rows))
    target = io.BytesIO()
    rewrite_dbinfo(io.BytesIO(export(elsewhere, stage, 5)), target, places, "dbinfo.mdc")
    assert line in target.getvalue().decode()


@pytest.mark.parametrize("stage", STAGES)
def test_a_run_that_was_not_imported(elsewhere: Database, stage: str) -> None:
    imports(elsewhere, dbinfo(CHIP_RUN))
    with pytest.raises(ConfigError, match=f"{stage} 6: not imported; importrun reads it"):
        export(elsewhere, stage, 6)


@pytest.mark.parametrize(
    ("column", "value", "told"),
    [("state", "a # b", "state: a text"), ("ok", 2, "ok: T, F"), ("at", "now", "at: an ISO 8601")],
)
def test_what_people_wrote_into_the_tables(
    elsewhere: Database, column: str, value: object, told: str
) -> None:
    imports(elsewhere, dbinfo((*CHIP_RUN, "ok BOOL T", "at UTC 2009-04-15")))
    elsewhere.change(f'UPDATE "chipRun" SET {column} = ?', value)
    with pytest.raises(IntegrityError, match=f"chip 5: table chipRun: column {told}"):
        export(elsewhere, "chip", 5)
