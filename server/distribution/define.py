"""Which finished runs are to be distributed, and their distRuns (disttool -definebyquery).

A run is finished in state full or cleaned. A target takes it if stage and dist_group are equal and
the run's filter matches as SQL LIKE does, upper and lower case being one; a run whose filter is
not known matches only `%`. Of a run in state cleaned the large images are gone: only a clean
target takes it. A target takes a run once, unless asked to do it again.

Everything is found by one query over the run's table, whatever was distributed before: the
exposures' rows, too, are joined there, and not asked for one by one.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from mirror.errors import ConfigError
from server.database import Database
from server.distribution.matching import (
    Query,
    Which,
    groupless,
    is_whole,
    matching,
    same_run,
    usable_rows,
)
from server.distribution.queue import DistRun, outdir_of
from server.runs.facts import Cache, facts_of
from server.runs.imported import columns_of, quoted
from server.runs.resolve import HOST, file_resolve, host_name
from server.runs.stages import Stage, component
from server.site import Site

__all__ = ["NewRun", "Query", "check_workdir", "define_runs", "left_out", "plan_runs"]

_AT_ONCE = 500
"""Runs whose components are in memory at a time."""

_OF_THE_SKY = ("stack", "SSdiff", "sky", "skycal", "ff")
"""Stages of many exposures: their runs are named by stage and id alone (PROTOCOL section 3)."""


_WITH_SLASHES = re.compile(r"([a-z]+://)?(.*?)/*", re.DOTALL)


@dataclass(frozen=True, slots=True)
class NewRun:
    """A distRun before it has a number."""

    target_id: int
    stage: str
    stage_id: int
    label: str | None
    clean: bool
    exp_name: str | None
    data_group: str | None
    filter: str | None


@dataclass(frozen=True, slots=True)
class _Match:
    stage_id: int
    target_id: int
    clean: bool


def check_workdir(site: Site, workdir: str | None) -> str:
    """Where bundles go: `workdir`, else the site's DISTRIBUTION_ROOT, without slashes at its end.

    Those of a scheme stay: `neb://` is all of NEB_ROOT, whatever the volume. `@HOST@` becomes this
    host's name, for it is another one's elsewhere. Raises ConfigError, which names path and key,
    where neither is given or it cannot be resolved.
    """
    given = workdir if workdir is not None else site.distribution_root
    if given is None:
        raise ConfigError(
            ["-definebyquery: -workdir is missing, and the site key DISTRIBUTION_ROOT is not set"]
        )
    matched = _WITH_SLASHES.fullmatch(given.replace(HOST, host_name()))
    assert matched
    kept = (matched[1] or "") + matched[2]
    try:
        file_resolve(given, site.roots)
        file_resolve(outdir_of(kept, "stage", 1, 1), site.roots)
    except ConfigError as error:
        source = "-workdir" if workdir is not None else "DISTRIBUTION_ROOT"
        raise ConfigError([f"{source}: {problem}" for problem in error.problems]) from None
    return kept


def define_runs(database: Database, query: Query, workdir: str) -> list[DistRun]:
    """Make the distRuns, and their components, of every run that is asked for and matches.

    All or none; two that do it at once do not double a run. The directory of a run is
    WORKDIR/STAGE.STAGE_ID.DIST_ID.
    """
    with database.write():
        # Whoever comes next waits here, and finds what was made.
        database.change("UPDATE distTarget SET state = state WHERE stage = ?", query.stage.name)
        return [
            run
            for planned in _plans(database, query)
            for run in _insert(database, query.stage, planned, workdir)
        ]


def plan_runs(database: Database, query: Query) -> list[NewRun]:
    """What `define_runs` would make now."""
    with database.read():
        return [run for planned in _plans(database, query) for run in planned]


def left_out(database: Database, query: Query) -> list[str]:
    """What keeps finished runs that are asked for from being distributed, one line a reason."""
    stage, table = query.stage, query.stage.run_table
    columns = columns_of(database, table)
    if not columns:
        return []
    if "state" not in columns:
        return [f"{table} has no column state: none of its runs is known to be finished"]
    if not is_whole(columns.get(stage.id_column)):
        return [f"{table} has no column {stage.id_column} of whole numbers: none can be named"]
    told = []
    if no_group := _count(database, *groupless(database, query, columns)):
        told.append(
            f"{_counted(no_group, stage)} left out: without a dist_group no target takes a run"
        )
    if empty := _matching_count(database, query, Which(bundled=False)):
        told.append(
            f"{_counted(empty, stage)} left out: {stage.component_table} has no good row of a run"
        )
    if query.rerun and (new := _matching_count(database, query, Which(still_new=True))):
        told.append(
            f"{_counted(new, stage)} left out: defined before and still new; disttool -droprun"
            " forgets what nobody has yet"
        )
    return told


def _matching_count(database: Database, query: Query, which: Which) -> int:
    """How many runs match, whatever the number of their targets."""
    found = matching(database, query, which)
    if found is None:
        return 0
    sql, values = found
    return _count(database, f"SELECT DISTINCT r.{quoted(query.stage.id_column)} {sql}", values)


def _count(database: Database, sql: str, values: Sequence[object]) -> int:
    row = database.row(f"SELECT count(*) FROM ({sql}) counted", *values)
    return int(row[0]) if row else 0


def _counted(count: int, stage: Stage) -> str:
    return f"{count} finished {stage.name} run{'' if count == 1 else 's'}"


# Finding


def _plans(database: Database, query: Query) -> Iterator[list[NewRun]]:
    """What is to be made, oldest run first, so many at a time as are made together."""
    matches = _matches(database, query)
    for first in range(0, len(matches), _AT_ONCE):
        known: Cache = {}
        yield [_planned(database, query, m, known) for m in matches[first : first + _AT_ONCE]]


def _planned(database: Database, query: Query, match: _Match, known: Cache) -> NewRun:
    stage = query.stage
    facts = facts_of(database, stage, match.stage_id, known)
    named = facts.exposures and stage.name not in _OF_THE_SKY
    return NewRun(
        match.target_id, stage.name, match.stage_id, query.set_label or facts.label, match.clean,
        facts.exposures[0] if named else None, facts.data_group, facts.filter,
    )  # fmt: skip


def _matches(database: Database, query: Query) -> list[_Match]:
    found = matching(database, query, Which())
    if found is None:
        return []
    sql, values = found
    run_id = f"r.{quoted(query.stage.id_column)}"
    text = f"SELECT {run_id}, t.target_id, t.clean {sql} ORDER BY {run_id}, t.target_id"
    if query.limit is not None:
        text, values = f"{text} LIMIT ?", [*values, query.limit]
    return [_Match(row[0], row[1], bool(row[2])) for row in database.rows(text, *values)]


# Making


def _insert(
    database: Database, stage: Stage, planned: Sequence[NewRun], workdir: str
) -> list[DistRun]:
    made = []
    for run in planned:
        row = database.row(
            """INSERT INTO distRun
            (target_id, stage, stage_id, label, outdir, clean, state, exp_name, data_group, filter)
            VALUES (?, ?, ?, ?, ?, ?, 'new', ?, ?, ?) RETURNING dist_id""",
            run.target_id, run.stage, run.stage_id, run.label, workdir, int(run.clean),
            run.exp_name, run.data_group, run.filter,
        )  # fmt: skip
        assert row is not None
        outdir = outdir_of(workdir, run.stage, run.stage_id, row[0])
        made.append(
            DistRun(
                row[0], run.target_id, run.stage, run.stage_id, run.label, outdir, run.clean,
                "new", 0, None, run.exp_name, run.data_group, run.filter,
            )
        )  # fmt: skip
    database.change_many(
        "UPDATE distRun SET outdir = ? WHERE dist_id = ?",
        [(run.outdir, run.dist_id) for run in made],
    )
    _insert_components(database, stage, {run.dist_id: run.outdir for run in made})
    return made


def _insert_components(database: Database, stage: Stage, outdirs: Mapping[int, str]) -> None:
    usable = usable_rows(database, stage)
    assert usable is not None
    own = quoted(stage.id_column)
    rows = {"r": _named(database, stage.run_table), "c": _named(database, stage.component_table)}
    if stage.component_column is not None:
        rows = {"r": [], "c": [stage.component_column]}
    same = same_run(database, stage, stage.component_table, "c", "o.stage_id")
    columns = [f"{alias}.{quoted(name)}" for alias, names in rows.items() for name in names]
    found = database.rows(
        f"""SELECT {", ".join(["o.dist_id", *columns])} FROM distRun o
        JOIN {quoted(stage.run_table)} r ON r.{own} = o.stage_id
        JOIN {quoted(stage.component_table)} c ON {same}
        WHERE o.dist_id BETWEEN ? AND ? AND o.stage = ? AND {usable}""",
        min(outdirs), max(outdirs), stage.name,
    )  # fmt: skip
    split = 1 + len(rows["r"])
    components = {
        (row[0], component(stage, dict(zip(rows["r"], row[1:split], strict=True)),
            dict(zip(rows["c"], row[split:], strict=True))))
        for row in found
        # Between two of ours another transaction may have had a number.
        if row[0] in outdirs
    }  # fmt: skip
    database.change_many(
        """INSERT INTO distComponent (dist_id, component, outdir, state)
        VALUES (?, ?, ?, 'new')""",
        [(dist_id, name, outdirs[dist_id]) for dist_id, name in sorted(components)],
    )


def _named(database: Database, table: str) -> list[str]:
    """The column that names the component of a stage with one a run, if the table has it."""
    return ["skycell_id"] if "skycell_id" in columns_of(database, table) else []
