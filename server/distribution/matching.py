"""Which imported runs a target takes, in SQL (see `server.distribution.define`).

The imported tables have the columns and types of the documents that came. Where those are odd, a
run matches less, and nothing fails: texts are compared as texts, ids as whole numbers.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial

from server.database import Database
from server.runs.facts import ID_COLUMNS, WAYS
from server.runs.imported import columns_of, quoted
from server.runs.stages import FINISHED, Stage

EVERY_FILTER = "%"
"""The filter of a target that takes runs whatever theirs is, known or not."""

_INPUTS = "diffInputSkyfile"

_TEXT = "STR"
_TEXTS = (_TEXT, "UTC", "UT1", "TAI", "TT")
_WHOLE = re.compile(r"[SU]\d+")

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
class Which:
    """Which of the matching runs.

    `bundled`: those with a component to be bundled, or those without. `still_new`: those that are
    not taken, as what was defined before is not full yet, or those that are.
    """

    bundled: bool = True
    still_new: bool = False


def matching(database: Database, query: Query, which: Which) -> tuple[str, list[object]] | None:
    """FROM … WHERE …: runs `r` and targets `t` that take them; None: there can be none."""
    stage = query.stage
    columns = columns_of(database, stage.run_table)
    if not ({"state", "dist_group"} <= set(columns) and is_whole(columns.get(stage.id_column))):
        return None
    finished, values = _finished(database, query, columns)
    usable = usable_rows(database, stage)
    filter_ = _filter_of(cache(partial(columns_of, database)), stage.run_table, "r")
    run_id = f"r.{quoted(stage.id_column)}"
    component_row = (
        f"EXISTS (SELECT 1 FROM {quoted(stage.component_table)} c"
        f" WHERE {same_run(database, stage, stage.component_table, 'c', run_id)} AND {usable})"
        if usable
        else "1 = 0"
    )
    sql = f"""FROM distTarget t JOIN {quoted(stage.run_table)} r
        ON {_text("r", "dist_group", columns)} = t.dist_group
        WHERE {finished} AND t.stage = ? AND t.state = 'enabled'
        AND (t.clean = 1 OR {_text("r", "state", columns)} = 'full')
        AND (t.filter = ? OR lower({filter_}) LIKE lower(t.filter))
        AND EXISTS (SELECT 1 FROM rcInterest i JOIN rcDestination d ON d.dest_id = i.dest_id
            WHERE i.target_id = t.target_id AND i.state = 'enabled' AND d.state = 'enabled')
        AND {"" if which.still_new else "NOT "}EXISTS (SELECT 1 FROM distRun o
            WHERE o.target_id = t.target_id AND o.stage_id = {run_id}
            {"AND o.state <> 'full'" if query.rerun else ""})
        AND {"" if which.bundled else "NOT "}{component_row}"""
    values += [stage.name, EVERY_FILTER]
    if query.dist_group is not None:
        sql += " AND t.dist_group = ?"
        values.append(query.dist_group)
    return sql, values


def _finished(
    database: Database, query: Query, columns: Mapping[str, str]
) -> tuple[str, list[object]]:
    """What is true of a finished run `r` of the stage with one of the labels."""
    sql = f"{_text('r', 'state', columns)} IN ({', '.join('?' * len(FINISHED))})"
    sql = f"{sql} AND {_of_stage(database, query.stage)}"
    if not query.labels:
        return sql, [*FINISHED]
    if "label" not in columns:
        return "1 = 0", []
    marks = ", ".join("?" * len(query.labels))
    return f"{sql} AND {_text('r', 'label', columns)} IN ({marks})", [*FINISHED, *query.labels]


def _of_stage(database: Database, stage: Stage) -> str:
    """What is true of a run `r` of the stage, where two stages share a table.

    A run is SSdiff if its inputs are stacks alone, and diff if that is not known.
    """
    if stage.run_table != "diffRun":
        return "1 = 1"
    kinds = columns_of(database, _INPUTS)
    of_stacks = "1 = 0"
    if {stage.id_column, "stack1", "stack2"} <= set(kinds):
        # Without a warp, or without a stack, its id is NULL or 0.
        none = {
            column: f"coalesce(CAST(i.{quoted(column)} AS TEXT), '0') = '0'"
            for column in ("stack1", "stack2", "warp1", "warp2")
            if column in kinds
        }
        other = [none["stack1"], none["stack2"]]
        other += [f"NOT {none[column]}" for column in ("warp1", "warp2") if column in none]
        same = same_run(database, stage, _INPUTS, "i", f"r.{quoted(stage.id_column)}")
        rows = f"(SELECT 1 FROM {quoted(_INPUTS)} i WHERE {same}"
        of_stacks = f"EXISTS {rows}) AND NOT EXISTS {rows} AND ({' OR '.join(other)}))"
    return f"{'' if stage.name == 'SSdiff' else 'NOT '}({of_stacks})"


def groupless(
    database: Database, query: Query, columns: Mapping[str, str]
) -> tuple[str, list[object]]:
    """A query for the finished runs asked for that have no dist_group."""
    finished, values = _finished(database, query, columns)
    sql = f"SELECT 1 FROM {quoted(query.stage.run_table)} r WHERE {finished}"
    return f'{sql} AND r."dist_group" IS NULL' if "dist_group" in columns else sql, values


def usable_rows(database: Database, stage: Stage) -> str | None:
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
        fault = _text("c", "fault", columns)
        # A real number is text with a fraction in one database, and without in the other.
        conditions.append(f"""(c."fault" IS NULL OR {fault} IN ('0', '0.0'))""")
    if "data_state" in columns:
        states = ", ".join(f"'{state}'" for state in FINISHED)
        state = _text("c", "data_state", columns)
        conditions.append(f"""(c."data_state" IS NULL OR {state} IN ({states}))""")
    return " AND ".join(conditions)


def same_run(database: Database, stage: Stage, table: str, alias: str, run_id: str) -> str:
    """SQL that is true of a row `alias` of one of the stage's tables that is of this run."""
    own = f"{alias}.{quoted(stage.id_column)}"
    if is_whole(columns_of(database, table).get(stage.id_column)):
        return f"{own} = {run_id}"
    return f"CAST({own} AS TEXT) = CAST({run_id} AS TEXT)"


def _text(alias: str, column: str, columns: Mapping[str, str]) -> str:
    """SQL for an imported column as text: documents say which type it has, and they may be odd."""
    name = f"{alias}.{quoted(column)}"
    return name if columns[column] in _TEXTS else f"CAST({name} AS TEXT)"


def is_whole(kind: str | None) -> bool:
    """Say whether a column of this type in mdc holds whole numbers; None: there is no column."""
    return kind is not None and bool(_WHOLE.fullmatch(kind))


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
            not is_whole(linking.get(ID_COLUMNS[table]))
            or not is_whole(linking.get(link.column))
            or not is_whole(columns(link.run_table).get(key))
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
