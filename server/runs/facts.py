"""What is known of a run: its exposures, camera, filter and groups.

A run's row names the run that it was made of, and so on back to the exposure (warp → fake →
camera → chip → raw). Which of these were imported is up to the site: what is not, is skipped
where there is another way, and else leaves a fact unknown (PROTOCOL section 4).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from server.database import Database
from server.runs import imported
from server.runs.imported import RunRow
from server.runs.stages import STAGES, Stage


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a run; None is unknown.

    `exposures`: the names of those that it was made of, each once, in the order of its inputs.
    `dateobs`: when the first of them began, as the document has it.
    """

    exposures: tuple[str, ...] = ()
    camera: str | None = None
    filter: str | None = None
    data_group: str | None = None
    dist_group: str | None = None
    label: str | None = None
    dateobs: str | None = None
    obs_mode: str | None = None


Cache = dict[tuple[str, int], Facts]
"""Facts by run table and id: given along with many runs, no run behind them is read twice."""


@dataclass(frozen=True, slots=True)
class Link:
    """A column that names a run before: of `source`'s rows of this run (None: its own row)."""

    source: str | None
    column: str
    run_table: str


WAYS: Mapping[str, tuple[tuple[Link, ...], ...]] = {
    "rawExp": (),
    "chipRun": ((Link(None, "exp_id", "rawExp"),),),
    "chipBackgroundRun": (
        (Link(None, "chip_id", "chipRun"),),
        (Link(None, "exp_id", "rawExp"),),
    ),
    "camRun": (
        (Link(None, "chip_id", "chipRun"),),
        (Link(None, "exp_id", "rawExp"),),
    ),
    "fakeRun": (
        (Link(None, "cam_id", "camRun"),),
        (Link(None, "chip_id", "chipRun"),),
        (Link(None, "exp_id", "rawExp"),),
    ),
    "warpRun": (
        (Link(None, "fake_id", "fakeRun"),),
        (Link(None, "cam_id", "camRun"),),
        (Link(None, "chip_id", "chipRun"),),
        (Link(None, "exp_id", "rawExp"),),
    ),
    "warpBackgroundRun": ((Link(None, "warp_id", "warpRun"),),),
    # The exposures of a difference are those of its warps; a stack is what they are compared to.
    "diffRun": (
        (
            Link("diffInputSkyfile", "warp1", "warpRun"),
            Link("diffInputSkyfile", "warp2", "warpRun"),
        ),
        (
            Link("diffInputSkyfile", "stack1", "stackRun"),
            Link("diffInputSkyfile", "stack2", "stackRun"),
        ),
    ),
    "stackRun": ((Link("stackInputSkyfile", "warp_id", "warpRun"),),),
    "staticskyRun": ((Link("staticskyInput", "stack_id", "stackRun"),),),
    "skycalRun": (
        (Link(None, "stack_id", "stackRun"),),
        (Link(None, "sky_id", "staticskyRun"),),
    ),
    "fullForceRun": (
        (Link("fullForceInput", "warp_id", "warpRun"),),
        (Link(None, "skycal_id", "skycalRun"),),
    ),
}
"""Ways back by run table, best first: the next one is gone only as long as no exposure was found.

They lead from later stages to earlier ones alone, so that no data can make them a circle.
"""

ID_COLUMNS = {stage.run_table: stage.id_column for stage in STAGES.values()}
"""The column by which a run table's rows are known, by the table."""

_OF_THE_RUN = ("data_group", "dist_group", "label")
_OF_THE_EXPOSURE = ("camera", "filter", "dateobs", "obs_mode")


def facts_of(database: Database, stage: Stage, stage_id: int, cache: Cache | None = None) -> Facts:
    """What is known of a run from its own row and, as far as imported, the runs before it.

    Groups and label are the run's own where its table has such a column, NULL or not: a run that
    was taken out of its group is not put back by the runs before it. Nothing is known of a run
    that was not imported. `cache` is filled; give the same one for many runs of one moment.
    """
    known: Cache = {} if cache is None else cache
    return _facts(database, stage.run_table, stage.id_column, stage_id, known)


def _facts(database: Database, run_table: str, id_column: str, run_id: int, known: Cache) -> Facts:
    key = (run_table, run_id)
    if key not in known:
        row = imported.find(database, run_table, **{id_column: run_id})
        known[key] = Facts() if row is None else _collected(database, run_table, row, known)
    return known[key]


def _collected(database: Database, run_table: str, row: RunRow, known: Cache) -> Facts:
    """The facts of a run that has this row."""
    found: list[Facts] = []
    for way in WAYS.get(run_table, ()):
        found += [
            _facts(database, link.run_table, ID_COLUMNS[link.run_table], run_id, known)
            for link, run_id in _before(database, run_table, row, way)
        ]
        if any(facts.exposures for facts in found):
            break
    name = _told(row, "exp_name")
    names = [name] if name else [one for facts in found for one in facts.exposures]
    inherited = {
        fact: next((value for facts in found if (value := getattr(facts, fact))), None)
        for fact in (*_OF_THE_RUN, *_OF_THE_EXPOSURE)
    }
    own = {fact: _told(row, fact) for fact in inherited}
    return Facts(
        tuple(dict.fromkeys(names)),
        **{
            fact: own[fact] if own[fact] or (fact in _OF_THE_RUN and fact in row) else value
            for fact, value in inherited.items()
        },
    )


def _before(
    database: Database, run_table: str, row: RunRow, way: tuple[Link, ...]
) -> Iterator[tuple[Link, int]]:
    """The runs that a way leads to, each once for every link that names it."""
    own = ID_COLUMNS[run_table]
    inputs = {
        link.source: imported.select(database, link.source, **{own: row[own]})
        for link in way
        if link.source
    }
    for link in way:
        rows = inputs[link.source] if link.source else [row]
        for run_id in dict.fromkeys(one.get(link.column) for one in rows):
            if isinstance(run_id, int):
                yield link, run_id


def _told(row: RunRow, column: str) -> str | None:
    value = row.get(column)
    return None if value is None else str(value)
