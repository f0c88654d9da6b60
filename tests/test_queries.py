"""docs/queries.md: every query on the page runs, and finds what the page says."""

import re
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from mirror.report import utc_now
from mirror.run_tables import import_run
from mirror.runs_database import opened

PAGE = Path(__file__).resolve().parent.parent / "docs" / "queries.md"
NIGHT = "sample.20090415"

Row = Mapping[str, str]


def row(table: str, **columns: object) -> str:
    """A row as a dbinfo has it."""
    kinds = {int: "S32", float: "F32", str: "STR"}
    lines = "".join(f"   {name} {kinds[type(v)]} {v}\n" for name, v in columns.items())
    return f"{table} METADATA\n{lines}END\n"


def document(*tables: tuple[str, Sequence[str]]) -> bytes:
    return "".join(f"{name} MULTI\n{''.join(rows)}" for name, rows in tables).encode()


def chip(number: int) -> bytes:
    base = f"/mirror/data/{number}.ch"
    rows = [
        row("chipProcessedImfile", chip_id=number, class_id=class_id, quality=quality,
            uri="NULL" if quality else f"{base}.{class_id}.fits", bg=400.5)
        for class_id, quality in (("XY10", 0), ("XY33", 8006))
    ]  # fmt: skip
    run = row("chipRun", chip_id=number, workdir="/mirror/data", data_group=NIGHT)
    return document(("chipRun", [run]), ("chipProcessedImfile", rows))


def camera(number: int, zero_point: float) -> bytes:
    run = row("camRun", cam_id=number, workdir="/mirror/data", data_group=NIGHT)
    exposure = row("camProcessedExp", cam_id=number, zpt_obs=zero_point, quality=0, fault=0)
    return document(("camRun", [run]), ("camProcessedExp", [exposure]))


WARP = document(
    ("warpRun", [row("warpRun", warp_id=7040, workdir="/mirror/data", tess_id="RINGS.V3")]),
    ("warpSkyfile", [row("warpSkyfile", warp_id=7040, skycell_id="skycell.1", quality=0)]),
)
STACK = document(
    ("stackRun", [row("stackRun", stack_id=421, skycell_id="skycell.1", workdir="/mirror/data")]),
    (
        "stackInputSkyfile",
        [row("stackInputSkyfile", stack_id=421, warp_id=n) for n in (7040, 7041)],
    ),
    ("stackSumSkyfile", [row("stackSumSkyfile", stack_id=421, uri="/mirror/s.fits")]),
)
DOCUMENTS = {
    "o1.chip.1.2.1": chip(1), "o2.chip.2.2.1": chip(2), "o1.camera.1.3.1": camera(1, 24.5),
    "o2.camera.2.3.1": camera(2, 24.75), "o1.warp.7040.4.1": WARP, "stack.421.5.1": STACK,
}  # fmt: skip

EXPECTED: Sequence[tuple[str, Sequence[tuple[Any, ...]]]] = (
    ("What came since yesterday", [("gpc1", name) for name in sorted(DOCUMENTS)]),
    ("How good the chips are", [(NIGHT, 2, 4, 2, 2)]),
    ("Where the files are", [
        (1, "/mirror/data/1.ch.XY10.fits", 400.5), (2, "/mirror/data/2.ch.XY10.fits", 400.5),
    ]),
    ("How the zero point moves", [(NIGHT, 2, 24.625, 0.25)]),
    ("What a stack was made of", [
        (421, "skycell.1", 7040, "/mirror/data"), (421, "skycell.1", 7041, None),
    ]),
)  # fmt: skip


def queries() -> dict[str, str]:
    """The queries of the page, by the bold words in front of each."""
    text = PAGE.read_text(encoding="utf-8")
    found = re.findall(r"\*\*([^*]+)\*\*[^`]*?```sql\n(.+?)```", text, re.DOTALL)
    return dict(found)


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("queries") / "catalogue.db"
    now = utc_now()
    with opened(path) as database, database.write():
        for name, data in DOCUMENTS.items():
            import_run(database, [data], name)
            database.note("gpc1", name, now, f"info/gpc1/{name}/dbinfo.mdc", now)
        database.note("gpc1", "o0.chip.0.2.1", now, "info", "2009-04-15T01:22:12Z")
    return path


def test_the_page_has_these_queries_and_no_other() -> None:
    assert list(queries()) == [title for title, _ in EXPECTED]
    assert PAGE.read_text(encoding="utf-8").count("```sql") == len(EXPECTED)


@pytest.mark.parametrize(("title", "expected"), EXPECTED, ids=[title for title, _ in EXPECTED])
def test_a_query_of_the_page_finds_what_it_says(
    catalogue: Path, title: str, expected: Sequence[tuple[Any, ...]]
) -> None:
    with closing(sqlite3.connect(f"{catalogue.as_uri()}?mode=ro", uri=True)) as database:
        found = database.execute(queries()[title]).fetchall()
    if title == "What came since yesterday":
        found = [columns[1:] for columns in found]  # the first one is the time
    assert found == list(expected)
