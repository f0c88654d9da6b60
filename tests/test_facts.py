"""What is known of a run, from its own row and the runs before it."""

from collections.abc import Iterator

import pytest
from exported import Table, dbinfo, imports

from server.catalogue import catalogue
from server.database import Database
from server.runs.facts import Cache, Facts, facts_of
from server.runs.stages import STAGES
from server.site import Place

EXPOSURE = Facts(
    ("o1g1o",), camera="GPC1", filter="r.00000", dateobs="2009-04-15T01:22:12Z", obs_mode="3PI"
)


@pytest.fixture
def database(place: Place) -> Iterator[Database]:
    """A catalogue without runs."""
    with catalogue(place, create=True) as opened:
        yield opened


def raw(exp_id: int) -> Table:
    """An exposure."""
    return (
        "rawExp", f"exp_id S64 {exp_id}", f"exp_name STR o1g{exp_id}o", "camera STR GPC1",
        "filter STR r.00000", "obs_mode STR 3PI", "dateobs UTC 2009-04-15T01:22:12Z",
    )  # fmt: skip


def of(table: str, *ids: str) -> Table:
    """A row with nothing in it but ids: `chip_id 1`."""
    return (table, *(f"{one.split()[0]} S64 {one.split()[1]}" for one in ids))


def cell(diff_id: int, skycell: str, *inputs: str) -> Table:
    """A row of diffInputSkyfile."""
    return (*of("diffInputSkyfile", f"diff_id {diff_id}", *inputs), f"skycell_id STR {skycell}")


def known(database: Database, rows: list[Table]) -> None:
    """Import rows, each table by itself: what a site has of what was before is up to it."""
    tables = dict.fromkeys(row[0] for row in rows)
    imports(database, *(dbinfo(*(row for row in rows if row[0] == name)) for name in tables))


CHAIN = [
    raw(1),
    of("chipRun", "chip_id 2", "exp_id 1"),
    of("camRun", "cam_id 3", "chip_id 2"),
    of("fakeRun", "fake_id 4", "cam_id 3"),
    of("warpRun", "warp_id 5", "fake_id 4"),
    of("warpBackgroundRun", "warp_bg_id 6", "warp_id 5"),
    of("chipBackgroundRun", "chip_bg_id 7", "chip_id 2"),
    of("diffRun", "diff_id 8"),
    cell(8, "skycell.1", "warp1 5"),
    cell(8, "skycell.2", "warp1 5"),
    of("stackRun", "stack_id 9"),
    of("stackInputSkyfile", "stack_id 9", "warp_id 5"),
    of("staticskyRun", "sky_id 10"),
    of("staticskyInput", "sky_id 10", "stack_id 9"),
    of("skycalRun", "skycal_id 11", "sky_id 10"),
    of("fullForceRun", "ff_id 12"),
    of("fullForceInput", "ff_id 12", "warp_id 5"),
]
RUNS = {
    "raw": 1, "chip": 2, "camera": 3, "fake": 4, "warp": 5, "warp_bg": 6, "chip_bg": 7, "diff": 8,
    "SSdiff": 8, "stack": 9, "sky": 10, "skycal": 11, "ff": 12,
}  # fmt: skip


def test_every_stage_leads_back_to_its_exposure(database: Database) -> None:
    known(database, CHAIN)
    cache: Cache = {}
    found = {stage: facts_of(database, STAGES[stage], RUNS[stage], cache) for stage in STAGES}
    assert found == dict.fromkeys(STAGES, EXPOSURE)
    assert found == {stage: facts_of(database, STAGES[stage], RUNS[stage]) for stage in STAGES}


WAYS: dict[str, tuple[str, int, list[Table]]] = {
    "warp, its camera run": (
        "warp", 5, [*CHAIN[:3], of("warpRun", "warp_id 5", "fake_id 4", "cam_id 3")],
    ),
    "warp, its chip run": ("warp", 5, [*CHAIN[:2], of("warpRun", "warp_id 5", "chip_id 2")]),
    "camera, its exposure": ("camera", 3, [raw(1), of("camRun", "cam_id 3", "exp_id 1")]),
    "skycal, its stack": ("skycal", 11, [
        *CHAIN[:5], *CHAIN[10:12], of("skycalRun", "skycal_id 11", "stack_id 9", "sky_id 99"),
    ]),
    "diff, its stacks": (
        "diff", 8, [*CHAIN[:5], *CHAIN[10:12], CHAIN[7], cell(8, "s", "stack1 9")],
    ),
    "chip, its own columns": (
        "chip", 2, [("chipRun", "chip_id S64 2", *(line for line in raw(1)[2:]))],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("stage", "run_id", "rows"), WAYS.values(), ids=WAYS)
def test_other_ways(database: Database, stage: str, run_id: int, rows: list[Table]) -> None:
    known(database, rows)
    assert facts_of(database, STAGES[stage], run_id) == EXPOSURE


def test_exposures_in_the_order_of_the_inputs_each_once(database: Database) -> None:
    for number in (3, 1, 2):
        known(database, [
            raw(number),
            of("chipRun", f"chip_id {number}", f"exp_id {number}"),
            of("warpRun", f"warp_id {number}", f"chip_id {number}"),
        ])  # fmt: skip
    known(database, [
        of("diffRun", "diff_id 8"),
        cell(8, "skycell.1", "warp1 2", "warp2 1"),
        cell(8, "skycell.2", "warp1 2", "warp2 1"),
        cell(8, "skycell.3", "warp1 3", "warp2 2"),
    ])  # fmt: skip
    assert facts_of(database, STAGES["diff"], 8).exposures == ("o1g2o", "o1g3o", "o1g1o")


def test_a_template_s_exposures_are_not_those_of_a_difference(database: Database) -> None:
    template = [
        raw(2), of("chipRun", "chip_id 2", "exp_id 2"), of("warpRun", "warp_id 2", "chip_id 2"),
        of("stackRun", "stack_id 9"), of("stackInputSkyfile", "stack_id 9", "warp_id 2"),
    ]  # fmt: skip
    input_ = [
        raw(1), of("chipRun", "chip_id 1", "exp_id 1"), of("warpRun", "warp_id 1", "chip_id 1"),
    ]  # fmt: skip
    diff = [of("diffRun", "diff_id 8"), cell(8, "skycell.1", "warp1 1", "stack2 9")]
    known(database, [*template, *input_, *diff])
    assert facts_of(database, STAGES["diff"], 8) == EXPOSURE


@pytest.mark.parametrize(
    ("lines", "label"),
    [
        pytest.param(["label STR own"], "own", id="its own"),
        pytest.param(["label STR NULL"], None, id="taken out"),
        pytest.param([], "nightly", id="of the run before"),
    ],
)
def test_groups_are_the_run_s_own_if_it_can_have_any(
    database: Database, lines: list[str], label: str | None
) -> None:
    chip = ("chipRun", "chip_id S64 2", "label STR nightly", "data_group STR a", "dist_group STR b")
    known(database, [chip, ("camRun", "cam_id S64 3", "chip_id S64 2", *lines)])
    expected = Facts(label=label, data_group="a", dist_group="b")
    assert facts_of(database, STAGES["camera"], 3) == expected


def test_what_was_not_imported_is_unknown(database: Database) -> None:
    assert facts_of(database, STAGES["warp"], 5) == Facts()
    known(database, [of("warpRun", "warp_id 5", "fake_id 4")])
    assert facts_of(database, STAGES["warp"], 5) == Facts()
    assert facts_of(database, STAGES["warp"], 6) == Facts()


def test_a_filter_of_its_own_goes_before(database: Database) -> None:
    stack = ("stackRun", "stack_id S64 9", "filter STR g.00000")
    known(database, [*CHAIN[:5], stack, CHAIN[11]])
    assert facts_of(database, STAGES["stack"], 9).filter == "g.00000"


def test_with_a_cache_no_run_is_read_twice(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    known(database, CHAIN)
    cache: Cache = {}
    facts_of(database, STAGES["stack"], 9, cache)
    read = []
    find = database.rows

    def rows(sql: str, *values: object) -> list[tuple[object, ...]]:
        read.append(sql)
        return find(sql, *values)

    monkeypatch.setattr(database, "rows", rows)
    assert facts_of(database, STAGES["ff"], 12, cache) == EXPOSURE
    assert not any('"warpRun"' in sql or '"rawExp"' in sql for sql in read)
