"""Which finished runs are to be distributed, and their distRuns (disttool -definebyquery).

A run is finished in state full or cleaned. A target takes it if stage and dist_group are equal and
the run's filter matches as SQL LIKE does, upper and lower case being one; a run whose filter is
not known matches only `%`. Of a run in state cleaned the large images are gone: only a clean
target takes it. A target takes a run once, unless asked to do it again.

Everything is found by one query over the run's table, whatever was distributed before: the
exposures' rows, too, are joined there, and not asked for one by one.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial

from mirror.errors import ConfigError
from server.database import Database
from server.distribution.queue import DistRun, outdir_of
from server.runs.facts import ID_COLUMNS, WAYS, Cache, facts_of
from server.runs.imported import columns_of, quoted
from server.runs.resolve import HOST, file_resolve, host_name
from server.runs.stages import FINISHED, Stage, component
from server.site import Site

EVERY_FILTER = "%"
"""The filter of a target that takes runs whatever theirs is, known or not."""

_AT_ONCE = 500
"""Runs whose components are in memory at a time."""

_OF_THE_SKY = ("stack", "SSdiff", "sky", "skycal", "ff")
"""Stages of many exposures: their runs are named by stage and id alone (PROTOCOL section 3)."""


_TEXT = "STR"

_Columns = Callable[[str], Mapping[str, str]]
"""The columns of an imported table; none: there is no such table."""


@dataclass(frozen=True, slots=True)
class Query:
    """Which runs are asked for, and where they go.

    `labels`: any of these; none: whatever their label. `set_label`: the distRuns' label, else
    their run's. `dist_group`: only targets of it. `rerun`: those too that are distributed already.
    """

    stage: Stage
    labels: Sequence[str] = ()
    set_label: str | None = None
    dist_group: str | None = None
    rerun: bool = False
    limit: int | None = None


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
    """Where bundles go: `workdir`, else the site's DISTRIBUTION_ROOT, without a slash at its end.

    `@HOST@` becomes this host's name, for it is another one's elsewhere. Raises ConfigError, which
    names path and key, where neither is given or it cannot be resolved.
    """
    given = workdir if workdir is not None else site.distribution_root
    if given is None:
        raise ConfigError(
            ["-definebyquery: -workdir is missing, and the site key DISTRIBUTION_ROOT is not set"]
        )
    try:
        file_resolve(given, site.roots)
    except ConfigError as error:
        source = "-workdir" if workdir is not None else "DISTRIBUTION_ROOT"
        raise ConfigError([f"{source}: {problem}" for problem in error.problems]) from None
    return given.replace(HOST, host_name()).rstrip("/")


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
    groupless = _count(database, *_groupless(query, columns))
    told = []
    if groupless:
        told.append(
            f"{_counted(groupless, stage)} left out: without a dist_group no target takes a run"
        )
    if matching := _matching(database, query, bundled=False):
        sql, values = matching
        if empty := _count(database, f"SELECT DISTINCT r.{quoted(stage.id_column)} {sql}", values):
            told.append(
                f"{_counted(empty, stage)} left out: {stage.component_table} has no good row"
                " of a run"
            )
    return told


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
    matching = _matching(database, query, bundled=True)
    if matching is None:
        return []
    sql, values = matching
    run_id = f"r.{quoted(query.stage.id_column)}"
    text = f"SELECT {run_id}, t.target_id, t.clean {sql} ORDER BY {run_id}, t.target_id"
    if query.limit is not None:
        text, values = f"{text} LIMIT ?", [*values, query.limit]
    return [_Match(row[0], row[1], bool(row[2])) for row in database.rows(text, *values)]


def _matching(
    database: Database, query: Query, *, bundled: bool
) -> tuple[str, list[object]] | None:
    """FROM … WHERE …: runs `r` and targets `t` that take them; None: there can be none.

    `bundled`: those with a component to be bundled, or those without.
    """
    stage = query.stage
    columns = columns_of(database, stage.run_table)
    if not {stage.id_column, "state", "dist_group"} <= set(columns):
        return None
    finished, values = _finished(query, columns)
    usable = _usable(database, stage)
    filter_ = _filter_of(cache(partial(columns_of, database)), stage.run_table, "r")
    run_id = f"r.{quoted(stage.id_column)}"
    component_row = (
        f"EXISTS (SELECT 1 FROM {quoted(stage.component_table)} c"
        f" WHERE c.{quoted(stage.id_column)} = {run_id} AND {usable})"
        if usable
        else "1 = 0"
    )
    sql = f"""FROM distTarget t JOIN {quoted(stage.run_table)} r ON r."dist_group" = t.dist_group
        WHERE {finished} AND t.stage = ? AND t.state = 'enabled'
        AND (t.clean = 1 OR r."state" = 'full')
        AND (t.filter = ? OR lower({filter_}) LIKE lower(t.filter))
        AND EXISTS (SELECT 1 FROM rcInterest i JOIN rcDestination d ON d.dest_id = i.dest_id
            WHERE i.target_id = t.target_id AND i.state = 'enabled' AND d.state = 'enabled')
        AND NOT EXISTS (SELECT 1 FROM distRun o
            WHERE o.target_id = t.target_id AND o.stage_id = {run_id}
            {"AND o.state <> 'full'" if query.rerun else ""})
        AND {"" if bundled else "NOT "}{component_row}"""
    values += [stage.name, EVERY_FILTER]
    if query.dist_group is not None:
        sql += " AND t.dist_group = ?"
        values.append(query.dist_group)
    return sql, values


def _finished(query: Query, columns: Mapping[str, str]) -> tuple[str, list[object]]:
    """What is true of a finished run `r` with one of the labels."""
    sql = f'r."state" IN ({", ".join("?" * len(FINISHED))})'
    if not query.labels:
        return sql, [*FINISHED]
    if "label" not in columns:
        return "1 = 0", []
    return f'{sql} AND r."label" IN ({", ".join("?" * len(query.labels))})', [
        *FINISHED, *query.labels,
    ]  # fmt: skip


def _groupless(query: Query, columns: Mapping[str, str]) -> tuple[str, list[object]]:
    finished, values = _finished(query, columns)
    sql = f"SELECT 1 FROM {quoted(query.stage.run_table)} r WHERE {finished}"
    return f'{sql} AND r."dist_group" IS NULL' if "dist_group" in columns else sql, values


def _usable(database: Database, stage: Stage) -> str | None:
    """What is true of a row `c` of the component table that is distributed; None: no such table.

    It has no fault, and is full or cleaned if it says. A cleaned one of a run that is full stays:
    for a target that is not clean its images are missing, which is a fault that people should see
    and not a fileset that silently lacks them.
    """
    columns = columns_of(database, stage.component_table)
    if stage.id_column not in columns:
        return None
    if stage.component_column is not None and stage.component_column not in columns:
        return None
    conditions = ["1 = 1"]
    if "fault" in columns:
        conditions.append('(c."fault" IS NULL OR c."fault" = 0)')
    if "data_state" in columns:
        states = ", ".join(f"'{state}'" for state in FINISHED)
        conditions.append(f"""(c."data_state" IS NULL OR c."data_state" IN ({states}))""")
    return " AND ".join(conditions)


def _filter_of(columns: _Columns, table: str, alias: str) -> str:
    """SQL for the filter of the run in row `alias` of a run table: its own, else an earlier run's.

    The ways back are those of `server.runs.facts`.
    """
    own = quoted(ID_COLUMNS[table])
    found = [f'{alias}."filter"'] if columns(table).get("filter") == _TEXT else []
    for number, link in enumerate(link for way in WAYS.get(table, ()) for link in way):
        key = ID_COLUMNS[link.run_table]
        linking = columns(link.source or table)
        if (
            ID_COLUMNS[table] not in linking
            or linking.get(link.column, _TEXT) == _TEXT
            or key not in columns(link.run_table)
        ):
            continue
        name = f"{alias}{number}"
        inner = _filter_of(columns, link.run_table, name)
        earlier, same = f"{quoted(link.run_table)} {name}", f"{name}.{quoted(key)}"
        if link.source is None:
            where = f"FROM {earlier} WHERE {same} = {alias}.{quoted(link.column)}"
        else:
            where = (
                f"FROM {quoted(link.source)} {name}i"
                f" JOIN {earlier} ON {same} = {name}i.{quoted(link.column)}"
                f" WHERE {name}i.{own} = {alias}.{own} LIMIT 1"
            )
        found.append(f"(SELECT {inner} {where})")
    # A coalesce has at least two arguments.
    return f"coalesce({', '.join([*found, 'NULL', 'NULL'])})"


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
    usable = _usable(database, stage)
    assert usable is not None
    own = quoted(stage.id_column)
    rows = {"r": _named(database, stage.run_table), "c": _named(database, stage.component_table)}
    if stage.component_column is not None:
        rows = {"r": [], "c": [stage.component_column]}
    columns = [f"{alias}.{quoted(name)}" for alias, names in rows.items() for name in names]
    found = database.rows(
        f"""SELECT {", ".join(["o.dist_id", *columns])} FROM distRun o
        JOIN {quoted(stage.run_table)} r ON r.{own} = o.stage_id
        JOIN {quoted(stage.component_table)} c ON c.{own} = o.stage_id
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
