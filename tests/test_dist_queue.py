"""Which finished runs are distributed, and what of them is pending, done or faulty."""

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from distruns import (
    CAMERA,
    EXPOSURE,
    GROUP,
    STACK,
    WORKDIR,
    Part,
    content,
    store_chip,
)
from pubruns import store_rows

from server.catalogue import catalogue
from server.database import Database
from server.distribution.define import Query, define_runs, left_out, plan_runs
from server.distribution.queue import (
    DistRun,
    Selection,
    list_faults,
    list_filesets,
    pending_components,
    pending_filesets,
    pending_runs,
    processed_components,
    to_advance,
)
from server.distribution.revert import revert_components, revert_filesets, revert_runs
from server.runs.stages import STAGES
from server.site import Place, SqliteFile

CHIP = Query(STAGES["chip"])


def want(
    database: Database, *, stage: str = "chip", filter_: str = "%", clean: bool = False,
    dist_group: str = GROUP, states: Sequence[str] = ("enabled", "enabled", "enabled"),
) -> int:  # fmt: skip
    """A target, a destination of its own, its interest, in these states; returns the target."""
    with database.write():
        target = database.row(
            """INSERT INTO distTarget (dist_group, filter, stage, clean, state)
            VALUES (?, ?, ?, ?, ?) RETURNING target_id""",
            dist_group, filter_, stage, int(clean), states[0],
        )  # fmt: skip
        assert target
        destination = database.row(
            """INSERT INTO rcDestination (name, product, state) VALUES (?, 'gpc1', ?)
            RETURNING dest_id""",
            f"site{target[0]}", states[1],
        )  # fmt: skip
        assert destination
        database.change(
            "INSERT INTO rcInterest (dest_id, target_id, state) VALUES (?, ?, ?)",
            destination[0], target[0], states[2],
        )  # fmt: skip
    return int(target[0])


@pytest.fixture
def database(place: Place) -> Iterator[Database]:
    """A catalogue without anything in it."""
    with catalogue(place, create=True) as opened:
        yield opened


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Database]:
    """A catalogue in a file, for what SQL says in the same way everywhere."""
    with catalogue(SqliteFile(tmp_path / "small.db"), create=True) as opened:
        yield opened


def finish(database: Database, dist_id: int, *, run: str = "full") -> None:
    """Let every component of a run be bundled, and the run be in this state."""
    with database.write():
        database.change(
            "UPDATE distComponent SET state = 'full', name = component WHERE dist_id = ?", dist_id
        )
        database.change("UPDATE distRun SET state = ? WHERE dist_id = ?", run, dist_id)


def register(database: Database, dist_id: int, dest_id: int, fault: int = 0) -> None:
    """Record a fileset, registered or with a fault."""
    with database.write():
        database.change(
            """INSERT INTO rcDSFileset (dist_id, dest_id, name, state, fault, message)
            VALUES (?, ?, ?, ?, ?, ?)""",
            dist_id, dest_id, f"fs{dist_id}.{dest_id}", "new" if fault else "full", fault,
            "no room" if fault else None,
        )  # fmt: skip


# Which runs


MATCHES: dict[str, tuple[dict[str, Any], dict[str, Any], bool]] = {
    "finished": ({}, {}, True),
    "cleaned, to a clean target": ({"state": "cleaned"}, {"clean": True}, True),
    "full, to a clean target": ({}, {"clean": True}, True),
    "cleaned, to a full target": ({"state": "cleaned"}, {}, False),
    "not finished": ({"state": "new"}, {}, False),
    "to be cleaned": ({"state": "goto_cleaned"}, {"clean": True}, False),
    "another group": ({"dist_group": "Other"}, {}, False),
    "no group": ({"dist_group": None}, {}, False),
    "a group is no pattern": ({"dist_group": "SweetSpot"}, {"dist_group": "Sweet%"}, False),
    "filter": ({}, {"filter_": "r.00000"}, True),
    "filter as pattern": ({}, {"filter_": "r.%"}, True),
    "filter, one character": ({}, {"filter_": "_.00000"}, True),
    "filter, upper case": ({}, {"filter_": "R.%"}, True),
    "filter, its begin": ({}, {"filter_": "r"}, False),
    "another filter": ({}, {"filter_": "g.%"}, False),
    "unknown filter": ({"filter_": None}, {"filter_": "r.%"}, False),
    "unknown filter, to all": ({"filter_": None}, {}, True),
    "unknown filter, to any text": ({"filter_": None}, {"filter_": "%%"}, False),
    "another stage": ({}, {"stage": "camera"}, False),
    "target disabled": ({}, {"states": ("disabled", "enabled", "enabled")}, False),
    "destination disabled": ({}, {"states": ("enabled", "disabled", "enabled")}, False),
    "interest disabled": ({}, {"states": ("enabled", "enabled", "disabled")}, False),
    "no components": ({"parts": ()}, {}, False),
    "faulty components": ({"parts": (Part("XY01", fault=2),)}, {}, False),
}


@pytest.mark.parametrize(("run", "target", "matches"), MATCHES.values(), ids=MATCHES)
def test_a_target_takes_finished_runs(
    database: Database, run: dict[str, Any], target: dict[str, Any], matches: bool
) -> None:
    # Another run, so that every table and column is there.
    store_chip(database, 99, state="new")
    store_chip(database, 7, **run)
    want(database, **target)
    planned = plan_runs(database, CHIP)
    assert [new.stage_id for new in planned] == ([7] if matches else [])
    assert [made.stage_id for made in define_runs(database, CHIP, WORKDIR)] == [
        new.stage_id for new in planned
    ]


def test_a_run_nobody_is_interested_in_is_not_distributed(small: Database) -> None:
    store_chip(small, 7)
    target = want(small)
    with small.write():
        small.change("DELETE FROM rcInterest WHERE target_id = ?", target)
    assert define_runs(small, CHIP, WORKDIR) == []


def test_what_was_never_imported_is_not_distributed(database: Database) -> None:
    for stage in STAGES:
        want(database, stage=stage)
        query = Query(STAGES[stage])
        assert (define_runs(database, query, WORKDIR), left_out(database, query)) == ([], [])


def test_a_distribution_run_says_what_it_is_of(database: Database) -> None:
    store_chip(database, 7)
    target = want(database, filter_="r.%", clean=True)
    made = define_runs(database, CHIP, WORKDIR)
    assert made == [
        DistRun(
            1, target, "chip", 7, "L", f"{WORKDIR}/chip.7.1", True, "new", 0, None, "o7o", "G",
            "r.00000",
        )
    ]  # fmt: skip
    assert pending_runs(database) == made
    assert [(c.component, c.outdir) for c in pending_components(database)] == [
        ("XY01", f"{WORKDIR}/chip.7.1"), ("XY02", f"{WORKDIR}/chip.7.1"),
    ]  # fmt: skip


PARTS: dict[str, tuple[Sequence[Part], list[str]]] = {
    "full": ([Part("XY01")], ["XY01"]),
    "cleaned": ([Part("XY01", "cleaned")], ["XY01"]),
    "state unknown": ([Part("XY01", None)], ["XY01"]),
    "fault unknown": ([Part("XY01", fault=None)], ["XY01"]),
    "one faulty": ([Part("XY01"), Part("XY02", fault=4)], ["XY01"]),
    "one new": ([Part("XY01"), Part("XY02", "new")], ["XY01"]),
    "one scrubbed": ([Part("XY01"), Part("XY02", "scrubbed")], ["XY01"]),
}


@pytest.mark.parametrize(("parts", "expected"), PARTS.values(), ids=PARTS)
def test_components_that_are_distributed(
    small: Database, parts: Sequence[Part], expected: list[str]
) -> None:
    store_chip(small, 7, parts=parts)
    want(small)
    define_runs(small, CHIP, WORKDIR)
    assert [found.component for found in pending_components(small)] == expected


def test_stages_of_one_component_name_it(database: Database) -> None:
    store_chip(database, 7)
    store_rows(database, "camRun", CAMERA, [(8, 7, "full", "L", GROUP)])
    store_rows(database, "camProcessedExp", {"cam_id": "S64", "fault": "S16"}, [(8, 0)])
    store_rows(
        database, "stackRun", STACK, [(9, "skycell.1566.004", "full", "L", "r.00000", GROUP)]
    )
    store_rows(database, "stackSumSkyfile", {"stack_id": "S64", "fault": "S16"}, [(9, 0)])
    # It is made of an exposure, and yet is not called by its name.
    store_rows(database, "warpRun", {"warp_id": "S64", "exp_id": "S64"}, [(6, 7)])
    store_rows(database, "stackInputSkyfile", {"stack_id": "S64", "warp_id": "S64"}, [(9, 6)])
    for stage in ("camera", "stack"):
        want(database, stage=stage, filter_="r.%")
        define_runs(database, Query(STAGES[stage]), WORKDIR)
    assert [(found.stage, found.component) for found in pending_components(database)] == [
        ("camera", "exposure"), ("stack", "skycell.1566.004"),
    ]  # fmt: skip
    assert [(run.stage, run.exp_name, run.filter) for run in pending_runs(database)] == [
        ("camera", "o7o", "r.00000"), ("stack", None, "r.00000"),
    ]  # fmt: skip


FAKE = {"fake_id": "S64", "cam_id": "S64", "state": "STR", "dist_group": "STR"}
WARP = {"warp_id": "S64", "fake_id": "S64", "state": "STR", "dist_group": "STR"}
DIFF = {"diff_id": "S64", "state": "STR", "dist_group": "STR"}
INPUT = {"diff_id": "S64", "skycell_id": "STR", "warp1": "S64", "stack2": "S64"}


@pytest.mark.parametrize(("filter_", "count"), [("r.%", 1), ("g.%", 0), ("%", 1)])
def test_a_filter_is_found_through_the_runs_before(
    database: Database, filter_: str, count: int
) -> None:
    store_chip(database, 1)
    store_rows(database, "camRun", CAMERA, [(2, 1, "full", "L", GROUP)])
    store_rows(database, "fakeRun", FAKE, [(3, 2, "full", GROUP)])
    store_rows(database, "warpRun", WARP, [(4, 3, "full", GROUP)])
    store_rows(database, "diffRun", DIFF, [(5, "full", GROUP)])
    store_rows(database, "diffInputSkyfile", INPUT, [(5, "s.1", None, 9), (5, "s.2", 4, 9)])
    store_rows(
        database, "diffSkyfile", {"diff_id": "S64", "skycell_id": "STR"}, [(5, "s.1"), (5, "s.2")]
    )
    want(database, stage="diff", filter_=filter_)
    made = define_runs(database, Query(STAGES["diff"]), WORKDIR)
    assert [(run.stage_id, run.exp_name, run.filter) for run in made] == [
        (5, "o1o", "r.00000")
    ] * count  # fmt: skip
    assert len(pending_components(database)) == 2 * count


QUERIES: dict[str, tuple[dict[str, Any], list[int]]] = {
    "everything": ({}, [1, 2, 3, 4]),
    "label": ({"labels": ["A"]}, [1, 2]),
    "labels": ({"labels": ["A", "B"]}, [1, 2, 3]),
    "no such label": ({"labels": ["A' OR 1 = 1 --"]}, []),
    "limit": ({"limit": 2}, [1, 2]),
    "limit 0": ({"limit": 0}, []),
    "group": ({"dist_group": GROUP}, [1, 2, 3, 4]),
    "another group": ({"dist_group": "Other"}, []),
}


@pytest.mark.parametrize(("asked", "expected"), QUERIES.values(), ids=QUERIES)
def test_what_a_query_chooses(
    database: Database, asked: dict[str, Any], expected: list[int]
) -> None:
    # Not in the order of their ids.
    for number, label in ((4, None), (2, "A"), (3, "B"), (1, "A")):
        store_chip(database, number, label=label)
    want(database)
    want(database, dist_group="Other")
    made = define_runs(database, Query(STAGES["chip"], **asked), WORKDIR)
    assert [run.stage_id for run in made] == expected
    labels = {1: "A", 2: "A", 3: "B", 4: None}
    assert [run.label for run in made] == [labels[number] for number in expected]


def test_a_label_of_one_s_own(small: Database) -> None:
    store_chip(small, 7)
    want(small)
    query = Query(STAGES["chip"], set_label="dist.tonight")
    assert [run.label for run in define_runs(small, query, WORKDIR)] == ["dist.tonight"]


def test_a_run_goes_once_to_each_target(database: Database) -> None:
    store_chip(database, 7)
    full, clean = want(database), want(database, clean=True)
    made = define_runs(database, CHIP, WORKDIR)
    assert [run.target_id for run in made] == [full, clean]
    assert define_runs(database, CHIP, WORKDIR) == []
    store_chip(database, 8)
    assert [run.stage_id for run in define_runs(database, CHIP, WORKDIR)] == [8, 8]


def test_again_only_if_asked_and_never_beside_a_new_one(database: Database) -> None:
    store_chip(database, 7)
    want(database)
    again = Query(STAGES["chip"], rerun=True)
    first = define_runs(database, again, WORKDIR)
    assert define_runs(database, again, WORKDIR) == []
    finish(database, first[0].dist_id)
    assert define_runs(database, CHIP, WORKDIR) == []
    second = define_runs(database, again, WORKDIR)
    assert [run.stage_id for run in second] == [7]
    assert second[0].dist_id > first[0].dist_id
    assert second[0].outdir != first[0].outdir
    assert define_runs(database, again, WORKDIR) == []


def test_pretending_changes_nothing(database: Database) -> None:
    store_chip(database, 7)
    target = want(database)
    before = content(database)
    planned = plan_runs(database, CHIP)
    assert [(new.target_id, new.stage_id, new.exp_name) for new in planned] == [(target, 7, "o7o")]
    assert content(database) == before


def test_why_runs_are_left_out_is_told(database: Database) -> None:
    store_chip(database, 1, dist_group=None)
    store_chip(database, 2, dist_group=None, state="cleaned", label="M")
    store_chip(database, 3, dist_group=None, state="new")
    store_chip(database, 4, parts=[Part("XY01", fault=5)])
    store_chip(database, 5)
    want(database)
    want(database, clean=True)
    assert left_out(database, CHIP) == [
        "2 finished chip runs left out: without a dist_group no target takes a run",
        "1 finished chip run left out: chipProcessedImfile has no good row of a run",
    ]
    assert left_out(database, Query(STAGES["chip"], labels=["M"])) == [
        "1 finished chip run left out: without a dist_group no target takes a run"
    ]


COLUMNS: dict[str, tuple[dict[str, str], str]] = {
    "no dist_group": (
        {"exp_id": "S64", "state": "STR"},
        "1 finished raw run left out: without a dist_group no target takes a run",
    ),
    "no state": (
        {"exp_id": "S64", "dist_group": "STR"},
        "rawExp has no column state: none of its runs is known to be finished",
    ),
}


@pytest.mark.parametrize(("columns", "told"), COLUMNS.values(), ids=COLUMNS)
def test_a_kind_of_run_without_a_column_matches_nothing(
    database: Database, columns: dict[str, str], told: str
) -> None:
    store_rows(database, "rawExp", columns, [(1, "full")])
    want(database, stage="raw")
    query = Query(STAGES["raw"])
    assert left_out(database, query) == [told]
    assert define_runs(database, query, WORKDIR) == []


INPUTS = {
    "diff_id": "S64", "skycell_id": "STR", "warp1": "S64", "warp2": "S64", "stack1": "S64",
    "stack2": "S64",
}  # fmt: skip
KINDS: dict[str, tuple[Sequence[tuple[int | None, ...]], str]] = {
    "of warps": ([(1, 2, None, None)], "diff"),
    "of a warp and a stack": ([(1, None, None, 2)], "diff"),
    "of stacks": ([(None, None, 1, 2)], "SSdiff"),
    "of stacks, zeros": ([(0, 0, 1, 2)], "SSdiff"),
    "of stacks in every cell": ([(None, None, 1, 2), (None, None, 3, 4)], "SSdiff"),
    "of stacks in one cell": ([(None, None, 1, 2), (3, None, None, 4)], "diff"),
    "of one stack": ([(None, None, 1, None)], "diff"),
    "of nothing": ([], "diff"),
}


def store_diff(
    database: Database, number: int, inputs: Sequence[tuple[int | None, ...]],
    columns: dict[str, str] = INPUTS,
) -> None:  # fmt: skip
    """Import a difference run of one component, and its inputs if there are any."""
    store_rows(database, "diffRun", DIFF, [(number, "full", GROUP)])
    store_rows(database, "diffSkyfile", {"diff_id": "S64", "skycell_id": "STR"}, [(number, "s.0")])
    rows = [(number, f"s.{cell}", *ids) for cell, ids in enumerate(inputs)]
    if rows:
        store_rows(database, "diffInputSkyfile", columns, rows)


@pytest.mark.parametrize(("inputs", "expected"), KINDS.values(), ids=KINDS)
def test_differences_of_stacks_are_a_stage_of_their_own(
    database: Database, inputs: Sequence[tuple[int | None, ...]], expected: str
) -> None:
    store_diff(database, 9, [(1, 2, None, None)])
    with database.write():
        database.change('DELETE FROM "diffRun" WHERE diff_id = 9')
    store_diff(database, 5, inputs)
    for stage in ("diff", "SSdiff"):
        want(database, stage=stage)
    made = [define_runs(database, Query(STAGES[stage]), WORKDIR) for stage in ("diff", "SSdiff")]
    assert [(run.stage, run.stage_id) for runs in made for run in runs] == [(expected, 5)]


INPUT_COLUMNS: dict[str, tuple[dict[str, str], tuple[object, ...], str]] = {
    "no warps": ({"stack1": "S64", "stack2": "S64"}, (1, 2), "SSdiff"),
    "no stack": ({"warp1": "S64", "stack2": "S64"}, (None, 2), "diff"),
    "texts": ({"warp1": "STR", "stack1": "STR", "stack2": "STR"}, (None, "1", "2"), "SSdiff"),
}


@pytest.mark.parametrize(
    ("columns", "values", "expected"), INPUT_COLUMNS.values(), ids=INPUT_COLUMNS
)
def test_inputs_of_differences_may_lack_columns(
    database: Database, columns: dict[str, str], values: tuple[Any, ...], expected: str
) -> None:
    names = {"diff_id": "S64", "skycell_id": "STR", **columns}
    store_diff(database, 5, [values], names)
    for stage in ("diff", "SSdiff"):
        want(database, stage=stage)
    made = [plan_runs(database, Query(STAGES[stage])) for stage in ("diff", "SSdiff")]
    assert [run.stage for runs in made for run in runs] == [expected]


def test_without_their_inputs_differences_are_no_differences_of_stacks(database: Database) -> None:
    store_diff(database, 5, [])
    for stage in ("diff", "SSdiff"):
        want(database, stage=stage)
    made = [plan_runs(database, Query(STAGES[stage])) for stage in ("diff", "SSdiff")]
    assert [run.stage for runs in made for run in runs] == ["diff"]
    store_rows(database, "diffRun", DIFF, [(6, "full", None)])
    assert len(left_out(database, Query(STAGES["diff"]))) == 1
    assert left_out(database, Query(STAGES["SSdiff"])) == []


ODD: dict[str, tuple[dict[str, tuple[str, object]], list[int]]] = {
    "as usual": ({}, [7]),
    "label": ({"label": ("S32", 5)}, [7]),
    "another label": ({"label": ("S32", 6)}, []),
    "dist_group": ({"dist_group": ("S32", 5)}, [7]),
    "state": ({"state": ("S32", 1)}, []),
    "filter": ({"filter": ("S32", 5)}, [7]),
    "fault": ({"fault": ("STR", "0")}, [7]),
    "fault, none": ({"fault": ("STR", "x")}, []),
    "fault, real": ({"fault": ("F32", 0.0)}, [7]),
    "fault, real, not 0": ({"fault": ("F32", 0.5)}, []),
    "fault, truth": ({"fault": ("BOOL", False)}, [7]),
    "data_state": ({"data_state": ("S32", 1)}, []),
}


@pytest.mark.parametrize(("odd", "expected"), ODD.values(), ids=ODD)
def test_columns_of_odd_types_match_less_and_break_nothing(
    database: Database, odd: dict[str, tuple[str, Any]], expected: list[int]
) -> None:
    run: dict[str, tuple[str, Any]] = {
        "chip_id": ("S64", 7), "state": ("STR", "full"), "label": ("STR", "5"),
        "dist_group": ("STR", "5"), "filter": ("STR", "r"),
    }  # fmt: skip
    part: dict[str, tuple[str, Any]] = {
        "chip_id": ("S64", 7), "class_id": ("STR", "XY01"), "fault": ("S16", 0),
        "data_state": ("STR", "full"),
    }  # fmt: skip
    for row in (run, part):
        row |= {name: told for name, told in odd.items() if name in row}
    for table, row in (("chipRun", run), ("chipProcessedImfile", part)):
        types = {name: told[0] for name, told in row.items()}
        store_rows(database, table, types, [[told[1] for told in row.values()]])
    want(database, dist_group="5", filter_="%")
    want(database, dist_group="5", filter_="z%")
    query = Query(STAGES["chip"], labels=["5", "L"], rerun=True)
    left_out(database, query)
    assert [new.stage_id for new in plan_runs(database, query)] == expected
    assert [made.stage_id for made in define_runs(database, query, WORKDIR)] == expected
    assert [found.dist_id for found in pending_components(database)] == [1] * len(expected)


@pytest.mark.parametrize(
    ("table", "expected", "told"),
    [
        ("chipRun", [], ["chipRun has no column chip_id of whole numbers: none can be named"]),
        ("chipProcessedImfile", [7], []),
    ],
)
def test_ids_that_are_no_whole_numbers_break_nothing(
    database: Database, table: str, expected: list[int], told: list[str]
) -> None:
    store_chip(database, 7)
    want(database, filter_="%")
    with database.write():
        if database.kind == "postgres":
            database.change(f'ALTER TABLE "{table}" ALTER COLUMN chip_id TYPE TEXT')
        database.change(
            "UPDATE runColumn SET type = 'STR' WHERE table_name = ? AND column_name = 'chip_id'",
            table,
        )
    assert left_out(database, CHIP) == told
    assert [made.stage_id for made in define_runs(database, CHIP, WORKDIR)] == expected
    assert len(pending_components(database)) == 2 * len(expected)


def test_a_label_of_a_kind_of_run_without_labels_matches_nothing(small: Database) -> None:
    columns = {**EXPOSURE, "state": "STR", "dist_group": "STR"}
    row = (1, "o1o", "GPC1", "r", "2009-04-15T01:22:12Z", "full", GROUP)
    store_rows(small, "rawExp", columns, [row])
    store_rows(small, "rawImfile", {"exp_id": "S64", "class_id": "STR"}, [(1, "XY01")])
    want(small, stage="raw")
    assert define_runs(small, Query(STAGES["raw"], labels=["L"]), WORKDIR) == []
    assert len(define_runs(small, Query(STAGES["raw"]), WORKDIR)) == 1


def test_two_that_define_at_once_double_nothing(place: Place) -> None:
    with catalogue(place, create=True) as database:
        for number in range(20):
            store_chip(database, number)
        want(database)
    made: list[int] = []
    begin = threading.Barrier(3)

    def define() -> None:
        with catalogue(place) as mine:
            begin.wait()
            made.extend(run.stage_id for run in define_runs(mine, CHIP, WORKDIR))

    threads = [threading.Thread(target=define) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(made) == list(range(20))


# Cost


class Counting:
    """A database that counts what is asked of it."""

    def __init__(self, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
        self.statements: list[str] = []
        run = database._run

        def counted(sql: str, values: Sequence[object] = ()) -> Any:
            self.statements.append(sql)
            return run(sql, values)

        monkeypatch.setattr(database, "_run", counted)


def fill(database: Database, count: int, parts: Sequence[Part]) -> None:
    """Import one chip run, and copy it `count` times."""
    store_chip(database, 0, parts=parts)
    for table, key in (("rawExp", 0), ("chipRun", 0), ("chipProcessedImfile", 0)):
        names = [
            row[0]
            for row in database.rows(
                "SELECT column_name FROM runColumn WHERE table_name = ? ORDER BY position", table
            )
        ]
        rows = database.rows(f'SELECT {", ".join(names)} FROM "{table}"')
        ids = [name in ("exp_id", "chip_id") for name in names]
        with database.write():
            database.change_many(
                f'INSERT INTO "{table}" ({", ".join(names)})'
                f" VALUES ({', '.join('?' * len(names))})",
                [
                    [number if is_id else value for is_id, value in zip(ids, row, strict=True)]
                    for number in range(key + 1, count)
                    for row in rows
                ],
            )


@pytest.mark.parametrize("distributed", [0, 400], ids=["all are new", "most were distributed"])
def test_components_and_matches_are_found_by_the_set(
    small: Database, monkeypatch: pytest.MonkeyPatch, distributed: int
) -> None:
    fill(small, 420, [Part(f"XY{number:02d}") for number in range(12)])
    want(small, filter_="r.%")
    define_runs(small, Query(STAGES["chip"], limit=distributed), WORKDIR)
    counted = Counting(small, monkeypatch)
    made = define_runs(small, CHIP, WORKDIR)
    assert len(made) == 420 - distributed
    of_components = [sql for sql in counted.statements if sql.startswith("SELECT o.dist_id")]
    of_matches = [sql for sql in counted.statements if "distTarget t JOIN" in sql]
    assert (len(of_components), len(of_matches)) == (1, 1)
    # A row is made for each run, and its exposure's rows are asked for; nothing for a component.
    assert len(counted.statements) < 30 + 30 * len(made)
    assert len(pending_components(small)) == 420 * 12


def test_what_was_distributed_is_found_by_its_index(
    small: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    store_chip(small, 1)
    want(small, filter_="r.%")
    asked: list[tuple[str, Sequence[object]]] = []
    run = small._run

    def noted(sql: str, values: Sequence[object] = ()) -> Any:
        asked.append((sql, values))
        return run(sql, values)

    monkeypatch.setattr(small, "_run", noted)
    plan_runs(small, CHIP)
    sql, values = next(found for found in asked if "distTarget t JOIN" in found[0])
    steps = [str(row[3]) for row in small.rows(f"EXPLAIN QUERY PLAN {sql}", *values)]
    assert any("distRun_of (target_id=? AND stage_id=?)" in step for step in steps), steps
    # The runs, or the few targets, are gone through; nothing else is.
    scanned = [step for step in steps if step.startswith("SCAN")]
    assert len(scanned) <= 2, steps
    assert all(step.split()[1] in ("t", "r") for step in scanned), steps


# What is pending


@pytest.fixture
def queued(small: Database) -> Database:
    """Three chip runs of two components, to two targets: six distRuns, 1 to 6."""
    for number, label in ((1, "A"), (2, "B"), (3, "A")):
        store_chip(small, number, label=label)
    want(small)
    want(small, clean=True)
    assert [run.dist_id for run in define_runs(small, CHIP, WORKDIR)] == [1, 2, 3, 4, 5, 6]
    return small


def fault(database: Database, table: str, where: str, code: int = 5) -> None:
    """Record a fault."""
    with database.write():
        database.change(f"UPDATE {table} SET fault = ?, message = 'gone' WHERE {where}", code)


def test_the_life_of_a_run(queued: Database) -> None:
    chosen = Selection(dist_id=1)
    assert len(pending_components(queued, chosen)) == 2
    assert (to_advance(queued, chosen), pending_filesets(queued, chosen)) == ([], [])
    with queued.write():
        queued.change(
            "UPDATE distComponent SET state = 'full' WHERE dist_id = 1 AND component = 'XY01'"
        )
    assert [found.component for found in pending_components(queued, chosen)] == ["XY02"]
    assert [found.component for found in processed_components(queued, chosen)] == ["XY01"]
    assert to_advance(queued, chosen) == []
    finish(queued, 1, run="new")
    assert pending_components(queued, chosen) == []
    assert [run.dist_id for run in to_advance(queued, chosen)] == [1]
    assert [run.dist_id for run in pending_runs(queued, chosen)] == [1]
    assert pending_filesets(queued, chosen) == []
    finish(queued, 1)
    assert to_advance(queued, chosen) == []
    (pending,) = pending_filesets(queued, chosen)
    assert (pending.run.dist_id, pending.dest_id, pending.destination, pending.product) == (
        1, 1, "site1", "gpc1",
    )  # fmt: skip
    assert [run.dist_id for run in pending_runs(queued, chosen)] == [1]
    register(queued, 1, 1)
    assert (pending_filesets(queued, chosen), pending_runs(queued, chosen)) == ([], [])
    (listed,) = list_filesets(queued, chosen)
    assert (listed.name, listed.state, listed.received) == ("fs1.1", "full", None)


def test_every_interested_destination_gets_a_fileset(queued: Database) -> None:
    with queued.write():
        queued.change("INSERT INTO rcInterest (dest_id, target_id, state) VALUES (2, 1, 'enabled')")
    finish(queued, 1)
    assert [found.dest_id for found in pending_filesets(queued)] == [1, 2]
    register(queued, 1, 1)
    assert [found.dest_id for found in pending_filesets(queued)] == [2]
    assert [found.dest_id for found in pending_filesets(queued, Selection(dest_id=1))] == []
    for table in ("rcDestination", "rcInterest"):
        with queued.write():
            queued.change(f"UPDATE {table} SET state = 'disabled' WHERE dest_id = 2")
        assert pending_filesets(queued) == []
        with queued.write():
            queued.change(f"UPDATE {table} SET state = 'enabled' WHERE dest_id = 2")
    assert [found.dest_id for found in pending_filesets(queued)] == [2]


def test_nothing_is_pending_for_a_target_that_is_disabled(queued: Database) -> None:
    finish(queued, 3, run="new")
    finish(queued, 5)

    def pending() -> list[set[int]]:
        return [
            {found.dist_id for found in pending_components(queued)},
            {run.dist_id for run in to_advance(queued)},
            {found.run.dist_id for found in pending_filesets(queued)},
            {run.dist_id for run in pending_runs(queued)},
        ]

    before = [{1, 2, 4, 6}, {3}, {5}, {1, 2, 3, 4, 5, 6}]
    assert pending() == before
    with queued.write():
        queued.change("UPDATE distTarget SET state = 'disabled' WHERE target_id = 1")
    assert pending() == [{2, 4, 6}, set(), set(), {2, 4, 6}]
    with queued.write():
        queued.change("UPDATE distTarget SET state = 'enabled' WHERE target_id = 1")
    assert pending() == before


SELECTIONS: dict[str, tuple[Selection, int | None, list[int]]] = {
    "everything": (Selection(), None, [1, 2, 3, 4, 5, 6]),
    "run": (Selection(dist_id=3), None, [3]),
    "stage": (Selection(stage="chip"), None, [1, 2, 3, 4, 5, 6]),
    "another stage": (Selection(stage="warp"), None, []),
    "stage_id": (Selection(stage_id=2), None, [3, 4]),
    "label": (Selection(labels=("A",)), None, [1, 2, 5, 6]),
    "labels": (Selection(labels=("A", "B")), None, [1, 2, 3, 4, 5, 6]),
    "all at once": (Selection(1, "chip", 1, ("A",)), None, [1]),
    "limit": (Selection(labels=("A",)), 3, [1, 2, 5]),
    "limit 0": (Selection(), 0, []),
}


@pytest.mark.parametrize(("selection", "limit", "expected"), SELECTIONS.values(), ids=SELECTIONS)
def test_what_a_selection_chooses(
    queued: Database, selection: Selection, limit: int | None, expected: list[int]
) -> None:
    assert [run.dist_id for run in pending_runs(queued, selection, limit)] == expected
    found = {part.dist_id for part in pending_components(queued, selection)}
    assert found == set(expected) or limit is not None
    for number in range(1, 7):
        finish(queued, number, run="new")
    assert [run.dist_id for run in to_advance(queued, selection, limit)] == expected
    assert [run.dist_id for run in pending_runs(queued, selection, limit)] == expected
    for number in range(1, 7):
        finish(queued, number)
    assert [f.run.dist_id for f in pending_filesets(queued, selection, limit)] == expected
    for number in range(1, 7):
        register(queued, number, 1, 5)
    assert [f.dist_id for f in list_filesets(queued, selection, limit)] == expected
    assert [f.dist_id for f in list_faults(queued, selection, limit)] == expected


def test_what_has_a_fault_is_pending_no_longer(queued: Database) -> None:
    chosen = Selection(stage_id=1)
    fault(queued, "distComponent", "dist_id = 1 AND component = 'XY01'")
    assert [(c.dist_id, c.component) for c in pending_components(queued, chosen)] == [
        (1, "XY02"), (2, "XY01"), (2, "XY02"),
    ]  # fmt: skip
    assert [run.dist_id for run in pending_runs(queued, chosen)] == [1, 2]
    with queued.write():
        queued.change(
            "UPDATE distComponent SET state = 'full' WHERE dist_id = 1 AND component = 'XY02'"
        )
    # Nothing can be done for it: it waits.
    assert [run.dist_id for run in pending_runs(queued, chosen)] == [2]
    assert to_advance(queued, chosen) == []
    fault(queued, "distRun", "dist_id = 2")
    assert (pending_components(queued, chosen), pending_runs(queued, chosen)) == ([], [])


# Reverting


@pytest.fixture
def faulty(queued: Database) -> Database:
    """Run 1 with two faulty components, run 3 faulty itself, a faulty fileset of run 5."""
    fault(queued, "distComponent", "dist_id = 1 AND component = 'XY01'", 5)
    fault(queued, "distComponent", "dist_id = 1 AND component = 'XY02'", 2)
    finish(queued, 3, run="new")
    fault(queued, "distRun", "dist_id = 3", 4)
    finish(queued, 5)
    register(queued, 5, 1, 2)
    finish(queued, 6)
    register(queued, 6, 2)
    return queued


def test_faults_are_listed(faulty: Database) -> None:
    assert [(f.kind, f.dist_id, f.name, f.fault, f.message) for f in list_faults(faulty)] == [
        ("component", 1, "XY01", 5, "gone"), ("component", 1, "XY02", 2, "gone"),
        ("run", 3, f"{WORKDIR}/chip.2.3", 4, "gone"), ("fileset", 5, "fs5.1", 2, "no room"),
    ]  # fmt: skip
    assert [f.dist_id for f in list_faults(faulty, Selection(fault=2, labels=("A",)))] == [1, 5]
    assert [f.dist_id for f in list_faults(faulty, limit=1)] == [1]


REVERTS: dict[str, tuple[Selection, tuple[int, int, int]]] = {
    "everything": (Selection(), (2, 1, 1)),
    "run": (Selection(dist_id=1), (2, 0, 0)),
    "stage": (Selection(stage="chip"), (2, 1, 1)),
    "another stage": (Selection(stage="warp"), (0, 0, 0)),
    "stage_id": (Selection(stage_id=2), (0, 1, 0)),
    "label": (Selection(labels=("A",)), (2, 0, 1)),
    "fault": (Selection(fault=2), (1, 0, 1)),
    "fault of a run": (Selection(fault=2, dist_id=1), (1, 0, 0)),
    "no fault at all": (Selection(fault=0), (0, 0, 0)),
}


@pytest.mark.parametrize(("selection", "counts"), REVERTS.values(), ids=REVERTS)
def test_what_is_reverted(
    faulty: Database, selection: Selection, counts: tuple[int, int, int]
) -> None:
    listed = len(list_faults(faulty, selection)) if selection.fault != 0 else 0
    assert listed == sum(counts)
    assert counts == (
        revert_components(faulty, selection),
        revert_runs(faulty, selection),
        revert_filesets(faulty, selection),
    )
    assert len(list_faults(faulty)) == 4 - listed


def test_what_is_reverted_is_pending_again(faulty: Database) -> None:
    assert pending_components(faulty, Selection(dist_id=1)) == []
    revert_components(faulty, Selection(dist_id=1))
    assert len(pending_components(faulty, Selection(dist_id=1))) == 2
    assert to_advance(faulty) == []
    revert_runs(faulty, Selection())
    assert [run.dist_id for run in to_advance(faulty)] == [3]
    assert pending_filesets(faulty) == []
    # What is registered cannot be forgotten, whatever its row says.
    fault(faulty, "rcDSFileset", "dist_id = 6")
    assert revert_filesets(faulty, Selection()) == 1
    assert [found.run.dist_id for found in pending_filesets(faulty)] == [5]
    assert [found.dist_id for found in list_filesets(faulty)] == [6]


def test_reverting_does_the_same_on_either_database(database: Database) -> None:
    store_chip(database, 1)
    want(database)
    define_runs(database, CHIP, WORKDIR)
    fault(database, "distComponent", "component = 'XY01'")
    fault(database, "distRun", "dist_id = 1", 3)
    assert [f.kind for f in list_faults(database)] == ["component", "run"]
    assert revert_components(database, Selection(fault=5, labels=("L",))) == 1
    assert revert_runs(database, Selection(stage="chip")) == 1
    finish(database, 1)
    assert [found.dest_id for found in pending_filesets(database, Selection(dest_id=1))] == [1]
    register(database, 1, 1, 4)
    assert pending_runs(database) == []
    assert [found.fault for found in list_filesets(database, Selection(dest_id=1))] == [4]
    assert revert_filesets(database, Selection(dist_id=1)) == 1
    assert [run.dist_id for run in pending_runs(database, limit=5)] == [1]
    assert len(processed_components(database, Selection(stage_id=1))) == 2
