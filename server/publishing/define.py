"""Defining publish runs: which finished runs of the pipeline a client has not been given yet.

First everything is looked up and chosen, which may take long and holds nobody up; then one
transaction makes the runs, leaving out what others have made meanwhile (seed 000, PROTOCOL
section 4).
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from mirror.errors import ConfigError
from server.database import Database
from server.publishing.clients import Client, ClientQuery, find_clients, restrict
from server.publishing.runs import PublishRun, batches
from server.runs.facts import Cache, Facts, facts_of
from server.runs.imported import columns_of, quoted
from server.runs.stages import FINISHED, STAGES

_PAGE = 20_000
"""Finished runs that are looked at in one go: more than there are, but in a first definition."""


@dataclass(frozen=True, slots=True)
class RunQuery:
    """Which finished runs are to be published: those that fit all that is given.

    `comment`, the client's, and `filter` are SQL LIKE; of several labels or data groups each will
    do; `dateobs_begin` and `dateobs_end` are UTC times, both included. `rerun`: also what was
    published before, unless a new run of it waits. `set_label` instead of the run's own label; at
    most `limit` in all. A run of which something asked for is not known does not fit.
    """

    client_id: int | None = None
    comment: str | None = None
    labels: tuple[str, ...] = ()
    data_groups: tuple[str, ...] = ()
    dateobs_begin: str | None = None
    dateobs_end: str | None = None
    filter: str | None = None
    obs_mode: str | None = None
    rerun: bool = False
    set_label: str | None = None
    limit: int | None = None


def define_runs(database: Database, query: RunQuery, *, pretend: bool = False) -> list[PublishRun]:
    """Make a publish run of every finished run that fits, for each active client that fits.

    Returns them in the order of clients and runs; with `pretend`, what would be made, without ids.
    However many processes define at once, none is made twice. Raises ConfigError for a time that
    is none.
    """
    wanted = _Wanted.of(query)
    with database.read():
        chosen = _choose(database, query, wanted)
    if pretend or not chosen:
        return [run for _, runs in chosen for run in runs]
    made = []
    with database.write():
        for client_id, runs in chosen:
            if _hold(database, client_id):
                for some in batches(_missing(database, client_id, runs, query)):
                    made += _insert(database, client_id, some)
    return made


# Choosing


def _choose(
    database: Database, query: RunQuery, wanted: "_Wanted"
) -> list[tuple[int, list[PublishRun]]]:
    clients = find_clients(database, ClientQuery(query.client_id, comment=query.comment))
    left = query.limit
    # What runs come from, those of a night have in common, and so have clients of one stage.
    cache: Cache = {}
    chosen = []
    for client in clients:
        if not client.active:
            continue
        runs: list[PublishRun] = []
        for run in _fitting(database, client, query, wanted, cache):
            if left is not None and len(runs) >= left:
                break
            runs.append(run)
        left = None if left is None else left - len(runs)
        if runs:
            chosen.append((client.client_id, runs))
    return chosen


def _fitting(
    database: Database,
    client: Client,
    query: RunQuery,
    wanted: "_Wanted",
    cache: Cache,
) -> Iterator[PublishRun]:
    """The runs to be made for a client, in the order of their ids."""
    asked = client.asked
    stage = STAGES[asked.stage]
    columns = columns_of(database, stage.run_table)
    groups = () if "data_group" in columns else query.data_groups
    for stage_id, label in _finished(database, client, query, set(columns)):
        if wanted or groups:
            facts = facts_of(database, stage, stage_id, cache)
            if not wanted.fits(facts) or (groups and facts.data_group not in groups):
                continue
        yield PublishRun(
            0, client.client_id, asked.product, asked.stage, stage_id, asked.workdir, None,
            query.set_label or label, asked.comment, asked.output_format,
        )  # fmt: skip


def _finished(
    database: Database, client: Client, query: RunQuery, columns: set[str]
) -> Iterator[tuple[int, str | None]]:
    """Id and label of finished runs that the client has not, as far as their own rows tell.

    `columns`: those of the runs' table that were imported. State and label are only in it; the data
    group, if it is there.
    """
    stage = STAGES[client.asked.stage]
    if not {stage.id_column, "state"} <= columns:
        return
    number = f"r.{quoted(stage.id_column)}"
    # A document may have given them any type.
    label = "CAST(r.label AS TEXT)" if "label" in columns else "CAST(NULL AS TEXT)"
    condition, values = restrict(
        ("CAST(r.state AS TEXT) IN (?)", FINISHED),
        (f"{label} IN (?)", query.labels),
        ("CAST(r.data_group AS TEXT) IN (?)", query.data_groups if "data_group" in columns else ()),
    )
    waiting = " AND p.state = 'new'" if query.rerun else ""
    sql = f"""SELECT {number}, {label} FROM {quoted(stage.run_table)} r
        WHERE {number} > ?{condition} AND NOT EXISTS
        (SELECT 1 FROM publishRun p WHERE p.client_id = ? AND p.stage_id = {number}{waiting})
        ORDER BY {number} LIMIT {_PAGE}"""
    last, found = -1, _PAGE
    while found == _PAGE:
        rows = database.rows(sql, last, *values, client.client_id)
        yield from ((int(row[0]), row[1]) for row in rows)
        last, found = rows[-1][0] if rows else last, len(rows)


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What has to be looked up, for the runs' own rows do not tell it; false: nothing."""

    begin: datetime | None
    end: datetime | None
    filter: re.Pattern[str] | None
    obs_mode: str | None

    @classmethod
    def of(cls, query: RunQuery) -> "_Wanted":
        begin = _asked_time("dateobs_begin", query.dateobs_begin)
        end = _asked_time("dateobs_end", query.dateobs_end)
        if begin and end and begin > end:
            raise ConfigError([f"dateobs_begin {begin} comes after dateobs_end {end}"])
        pattern = None if query.filter is None else like_pattern(query.filter)
        return cls(begin, end, pattern, query.obs_mode)

    def __bool__(self) -> bool:
        return any((self.begin, self.end, self.filter, self.obs_mode))

    def fits(self, facts: Facts) -> bool:
        if self.obs_mode is not None and facts.obs_mode != self.obs_mode:
            return False
        if self.filter and not (facts.filter and self.filter.fullmatch(facts.filter)):
            return False
        if not (self.begin or self.end):
            return True
        moment = _time(facts.dateobs)
        if moment is None or (self.begin and moment < self.begin):
            return False
        return not (self.end and moment > self.end)


def _asked_time(option: str, text: str | None) -> datetime | None:
    moment = _time(text)
    if text is not None and moment is None:
        raise ConfigError([f"{option}: a UTC time YYYY-MM-DDThh:mm:ssZ expected, not {text!r}"])
    return moment


def _time(text: str | None) -> datetime | None:
    """A time as ISO 8601, UTC if it says no zone; a date is its begin. None: it is no time."""
    try:
        moment = datetime.fromisoformat(text or "")
        return moment.replace(tzinfo=moment.tzinfo or UTC)
    except ValueError:
        return None


def like_pattern(pattern: str) -> re.Pattern[str]:
    r"""What an SQL LIKE matches, in any case: `%`, `_`, and `\` before either."""
    words = {"%": ".*", "_": "."}
    parts = re.findall(r"\\.|.", pattern, re.DOTALL)
    text = "".join(words.get(part) or re.escape(part[-1]) for part in parts)
    return re.compile(text, re.IGNORECASE | re.DOTALL)


# Making


def _hold(database: Database, client_id: int) -> bool:
    """Hold a client's row to the end of the transaction: who defines for it as well, waits.

    Returns whether it still is active.
    """
    row = database.row(
        "UPDATE publishClient SET active = active WHERE client_id = ? RETURNING active", client_id
    )
    return bool(row and row[0])


def _missing(
    database: Database, client_id: int, runs: Sequence[PublishRun], query: RunQuery
) -> list[PublishRun]:
    """Those of the runs, in the order of their ids, that still are to be made."""
    waiting = " AND state = 'new'" if query.rerun else ""
    # One look, and none for each batch: PostgreSQL may not know yet how large the table has become.
    rows = database.rows(
        "SELECT stage_id FROM publishRun"
        f" WHERE client_id = ? AND stage_id >= ? AND stage_id <= ?{waiting}",
        client_id, runs[0].stage_id, runs[-1].stage_id,
    )  # fmt: skip
    there = {row[0] for row in rows}
    return [run for run in runs if run.stage_id not in there]


def _insert(database: Database, client_id: int, runs: Sequence[PublishRun]) -> list[PublishRun]:
    """Make runs; the client's row is held. Returns them with their ids."""
    rows = database.rows(
        f"""INSERT INTO publishRun (client_id, stage_id, label, state)
        VALUES {", ".join(["(?, ?, ?, 'new')"] * len(runs))} RETURNING stage_id, pub_id""",
        *(value for run in runs for value in (client_id, run.stage_id, run.label)),
    )
    numbers: dict[int, int] = dict(rows)
    return [replace(run, pub_id=numbers[run.stage_id]) for run in runs]
