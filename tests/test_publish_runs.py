"""Publish runs: what is defined, what is pending, attempts; on either database."""

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import pytest
from client import PATIENCE
from pubruns import store_diffs, store_exposure, store_rows

from mirror.errors import ConfigError
from server.catalogue import catalogue
from server.database import Database
from server.publishing import define
from server.publishing.clients import (
    ClientQuery,
    NewClient,
    add_client,
    find_clients,
    restrict,
    update_clients,
)
from server.publishing.define import RunQuery, define_runs, like_pattern
from server.publishing.runs import (
    PendingQuery,
    PublishRun,
    RevertQuery,
    UpdateQuery,
    add_attempt,
    find_run,
    pending_runs,
    revert,
    update_runs,
)
from server.site import Place
from server.store_lock import ConflictError

MOPS = NewClient("IPP-MOPS", "diff", "neb://any/where/", "an aid to memory", "MOPS", "2")
OTHER = NewClient("other", "diff", "/any/where", "100% of it")
CAMERA = NewClient("stars", "camera", "/any/where")


@pytest.fixture
def database(place: Place) -> Iterator[Database]:
    with catalogue(place, create=True) as opened:
        yield opened


@pytest.fixture
def diffs(database: Database) -> Database:
    """A database with two clients of differences, and none defined yet of five runs."""
    add_client(database, MOPS)
    add_client(database, OTHER)
    store_diffs(database, 11, 12)
    store_diffs(database, 13, state="cleaned", label="M", data_group="H")
    store_diffs(database, 14, state="new")
    store_diffs(database, 15, label=None, data_group=None)
    return database


@pytest.fixture
def cameras(database: Database) -> Database:
    """A database with a client of camera runs, and none defined yet of four with exposures."""
    add_client(database, CAMERA)
    store_exposure(database, 1, "2009-04-15T01:22:12Z", "r.00000", "SS")
    store_exposure(database, 2, "2009-04-15T03:02:11.500000Z", "g.00000", "3PI", "H")
    store_exposure(database, 3, "2009-04-16T00:00:00Z", "R_new", "SS")
    store_exposure(database, 4, None, None, None, None)
    return database


def made(runs: Sequence[PublishRun]) -> list[tuple[int, int]]:
    """Client and run of the pipeline."""
    return [(run.client_id, run.stage_id) for run in runs]


def publish(database: Database, *numbers: int, fault: int = 0) -> None:
    for number in numbers:
        add_attempt(database, number, f"p{number}", "host", 1.5, fault, "why" if fault else None)


# Clients


def test_a_client_starts_active_and_is_there_once(database: Database) -> None:
    first, added = add_client(database, MOPS)
    assert (first.client_id, first.active, first.asked, added) == (1, True, MOPS, True)
    update_clients(database, ClientQuery(1), active=False)
    again, added = add_client(database, MOPS)
    assert (again.client_id, again.active, added) == (1, False, False)
    assert add_client(database, OTHER)[1]
    assert [client.asked for client in find_clients(database)] == [MOPS, OTHER]


PATTERNS = [
    ("an aid%", "an aid to memory", True), ("AN AID TO MEMORY", "an aid to memory", True),
    ("aid", "an aid to memory", False), ("%", "", True), ("_", "a", True), ("_", "ab", False),
    ("a%c", "a\nc", True), ("a.c", "abc", False), ("100\\%", "100%", True),
    ("100\\%", "1000", False), ("r\\_", "r_", True), ("r\\_", "rx", False),
    ("a\\\\b", "a\\b", True), ("r.%", "r.00000", True), ("[r]", "r", False),
]  # fmt: skip


@pytest.mark.parametrize(("pattern", "text", "fits"), PATTERNS)
def test_a_pattern_is_the_same_in_sql_and_outside(
    database: Database, pattern: str, text: str, fits: bool
) -> None:
    add_client(database, NewClient("p", "diff", "/w", text))
    assert len(find_clients(database, ClientQuery(comment=pattern))) == fits
    assert bool(like_pattern(pattern).fullmatch(text)) == fits


def test_what_is_not_given_restricts_nothing() -> None:
    assert restrict(("a = ?", None), ("b IN (?)", ()), ("c = ?", 0), ("d IN (?)", (1, 2))) == (
        " AND c = ? AND d IN (?, ?)",
        [0, 1, 2],
    )


# Defining


def test_every_finished_run_is_defined_for_every_active_client(diffs: Database) -> None:
    runs = define_runs(diffs, RunQuery())
    assert made(runs) == [(1, 11), (1, 12), (1, 13), (1, 15), (2, 11), (2, 12), (2, 13), (2, 15)]
    assert [run.pub_id for run in runs] == list(range(1, 9))
    assert [run.label for run in runs[:4]] == ["L", "L", "M", None]
    assert pending_runs(diffs, PendingQuery()) == runs


def test_nothing_is_defined_twice(diffs: Database) -> None:
    first = define_runs(diffs, RunQuery())
    assert define_runs(diffs, RunQuery()) == []
    publish(diffs, 1, 2)
    publish(diffs, 3, fault=4)
    assert define_runs(diffs, RunQuery()) == []
    store_diffs(diffs, 16)
    assert made(define_runs(diffs, RunQuery())) == [(1, 16), (2, 16)]
    assert len(pending_runs(diffs, PendingQuery())) == len(first) - 3 + 2


def test_what_was_published_is_defined_again_only_if_asked_for(diffs: Database) -> None:
    define_runs(diffs, RunQuery())
    publish(diffs, 1, 2)
    publish(diffs, 3, fault=4)
    again = define_runs(diffs, RunQuery(rerun=True))
    assert [(run.pub_id, run.client_id, run.stage_id) for run in again] == [(9, 1, 11), (10, 1, 12)]
    assert define_runs(diffs, RunQuery(rerun=True)) == []


CHOICES: dict[str, tuple[RunQuery, Sequence[tuple[int, int]]]] = {
    "a client": (RunQuery(client_id=2, labels=("M",)), [(2, 13)]),
    "an unknown client": (RunQuery(client_id=9), []),
    "a client's comment": (RunQuery(comment="100\\%%", labels=("M",)), [(2, 13)]),
    "a label": (RunQuery(labels=("L",)), [(1, 11), (1, 12), (2, 11), (2, 12)]),
    "labels": (RunQuery(client_id=1, labels=("M", "L", "X")), [(1, 11), (1, 12), (1, 13)]),
    "a label that none has": (RunQuery(labels=("X",)), []),
    "a data group": (RunQuery(data_groups=("H",)), [(1, 13), (2, 13)]),
    "data groups": (RunQuery(client_id=1, data_groups=("H", "G")), [(1, 11), (1, 12), (1, 13)]),
    "both": (RunQuery(labels=("L",), data_groups=("H",)), []),
    "a limit over all": (RunQuery(limit=5), [(1, 11), (1, 12), (1, 13), (1, 15), (2, 11)]),
    "a limit of none": (RunQuery(limit=0), []),
    "a filter that is not known": (RunQuery(filter="%"), []),
}


@pytest.mark.parametrize(("query", "expected"), CHOICES.values(), ids=CHOICES)
def test_runs_are_chosen(
    diffs: Database, query: RunQuery, expected: Sequence[tuple[int, int]]
) -> None:
    shown = define_runs(diffs, query, pretend=True)
    assert pending_runs(diffs, PendingQuery()) == []
    assert {run.pub_id for run in shown} <= {0}
    assert made(shown) == list(expected)
    assert made(define_runs(diffs, query)) == list(expected)


ORIGINS: dict[str, tuple[RunQuery, Sequence[int]]] = {
    "everything": (RunQuery(), [1, 2, 3, 4]),
    "a filter": (RunQuery(filter="r.%"), [1]),
    "a filter in any case": (RunQuery(filter="r%"), [1, 3]),
    "a filter with an escape": (RunQuery(filter="r\\_new"), [3]),
    "a mode": (RunQuery(obs_mode="SS"), [1, 3]),
    "a mode is no pattern": (RunQuery(obs_mode="S_"), []),
    "a begin": (RunQuery(dateobs_begin="2009-04-15T03:02:11Z"), [2, 3]),
    "a begin of its own": (RunQuery(dateobs_begin="2009-04-16T00:00:00Z"), [3]),
    "an end": (RunQuery(dateobs_end="2009-04-15T01:22:12Z"), [1]),
    "a day": (RunQuery(dateobs_begin="2009-04-15", dateobs_end="2009-04-16"), [1, 2, 3]),
    "another zone": (RunQuery(dateobs_begin="2009-04-14T18:00:00-10:00"), [3]),
    "a data group of what it comes from": (RunQuery(data_groups=("H", "X")), [2]),
    "several": (RunQuery(filter="r%", obs_mode="SS", dateobs_begin="2009-04-15T12:00:00"), [3]),
    "a limit on those that fit": (RunQuery(obs_mode="SS", limit=2), [1, 3]),
}


@pytest.mark.parametrize(("query", "expected"), ORIGINS.values(), ids=ORIGINS)
def test_runs_are_chosen_by_what_they_come_from(
    cameras: Database, query: RunQuery, expected: Sequence[int]
) -> None:
    assert [run.stage_id for run in define_runs(cameras, query)] == list(expected)


def test_nothing_is_looked_up_that_is_not_asked_for(
    diffs: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*arguments: object) -> object:
        raise AssertionError(arguments)

    monkeypatch.setattr(define, "facts_of", never)
    query = RunQuery(labels=("L", "M"), data_groups=("G", "H"), limit=9)
    assert len(define_runs(diffs, query)) == 6


@pytest.mark.parametrize(
    "query",
    [
        RunQuery(dateobs_begin="15.4.2009"),
        RunQuery(dateobs_end=""),
        RunQuery(dateobs_begin="2009-04-16", dateobs_end="2009-04-15"),
    ],
    ids=["no time", "empty", "end before begin"],
)
def test_a_time_that_is_none_is_refused(diffs: Database, query: RunQuery) -> None:
    with pytest.raises(ConfigError, match="dateobs"):
        define_runs(diffs, query)


def test_an_inactive_client_gets_nothing(diffs: Database) -> None:
    define_runs(diffs, RunQuery(labels=("M",)))
    update_clients(diffs, ClientQuery(1), active=False)
    query = RunQuery(labels=("L",))
    assert made(define_runs(diffs, query, pretend=True)) == [(2, 11), (2, 12)]
    assert made(define_runs(diffs, query)) == [(2, 11), (2, 12)]
    assert {run.client_id for run in pending_runs(diffs, PendingQuery())} == {2}
    update_clients(diffs, ClientQuery(1), active=True)
    assert {run.client_id for run in pending_runs(diffs, PendingQuery())} == {1, 2}


@pytest.mark.parametrize(
    ("columns", "row", "count"),
    [
        ({"diff_id": "S64"}, (1,), 0),
        ({"diff_id": "S64", "state": "STR"}, (1, "full"), 1),
        ({"diff_id": "S64", "state": "STR", "label": "S32"}, (1, "full", 7), 1),
    ],
    ids=["no state", "no label", "a number as label"],
)
def test_a_table_may_lack_columns(
    database: Database, columns: dict[str, str], row: Sequence[object], count: int
) -> None:
    add_client(database, MOPS)
    assert define_runs(database, RunQuery()) == []
    store_rows(database, "diffRun", columns, [row])
    assert define_runs(database, RunQuery(labels=("L",))) == []
    assert len(define_runs(database, RunQuery())) == count


def test_many_runs_are_defined_in_order(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(define, "_PAGE", 7)
    monkeypatch.setattr("server.publishing.runs._BATCH", 3)
    add_client(database, MOPS)
    store_diffs(database, *range(0, 60, 2))
    assert made(define_runs(database, RunQuery(limit=10))) == [(1, n) for n in range(0, 20, 2)]
    store_diffs(database, *range(1, 60, 2))
    runs = define_runs(database, RunQuery())
    assert made(runs) == [(1, n) for n in range(60) if n % 2 or n >= 20]
    assert [run.pub_id for run in runs] == list(range(11, 61))


@dataclass(slots=True)
class Definer:
    """Somebody who defines on a connection of their own, having chosen as early as all others."""

    place: Place
    query: RunQuery
    runs: list[PublishRun] = field(default_factory=list)
    thread: threading.Thread = field(init=False)

    def __post_init__(self) -> None:
        self.thread = threading.Thread(target=self._define)

    def _define(self) -> None:
        with catalogue(self.place) as database:
            self.runs = define_runs(database, self.query)


@pytest.mark.parametrize("rerun", [False, True], ids=["first", "again"])
def test_two_who_define_at_once_make_every_run_once(
    diffs: Database, place: Place, monkeypatch: pytest.MonkeyPatch, rerun: bool
) -> None:
    if rerun:
        publish(diffs, *(run.pub_id for run in define_runs(diffs, RunQuery())))
    both = threading.Barrier(2, timeout=PATIENCE)
    choose: Callable[..., object] = define._choose

    def together(*arguments: object) -> object:
        chosen = choose(*arguments)
        both.wait()
        return chosen

    monkeypatch.setattr(define, "_choose", together)
    definers = [Definer(place, RunQuery(rerun=rerun)) for _ in range(2)]
    for definer in definers:
        definer.thread.start()
    for definer in definers:
        definer.thread.join(PATIENCE)
    waiting = pending_runs(diffs, PendingQuery())
    assert len(waiting) == len(set(made(waiting))) == 8
    assert sorted(run.pub_id for definer in definers for run in definer.runs) == [
        run.pub_id for run in waiting
    ]


def test_a_client_switched_off_meanwhile_gets_nothing(
    diffs: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold = define._hold

    def switched_off(database: Database, client_id: int) -> bool:
        database.change("UPDATE publishClient SET active = 0 WHERE client_id = 1")
        return hold(database, client_id)

    monkeypatch.setattr(define, "_hold", switched_off)
    assert {run.client_id for run in define_runs(diffs, RunQuery())} == {2}


# PostgreSQL decides by the size of its tables.
@pytest.mark.parametrize("place", ["sqlite"], indirect=True)
def test_what_is_published_is_found_by_the_index(diffs: Database) -> None:
    """A night's definition must not look through all that was published for each run."""
    asked: list[tuple[str, Sequence[object]]] = []
    rows = diffs.rows

    def heard(sql: str, *values: object) -> list[tuple[object, ...]]:
        asked.append((sql, values))
        return rows(sql, *values)

    diffs.rows = heard  # type: ignore[method-assign]
    define_runs(diffs, RunQuery())
    publish(diffs, 1, fault=4)
    pending_runs(diffs, PendingQuery(labels=("L",)))
    plans = [
        " ".join(str(row[3]) for row in rows(f"EXPLAIN QUERY PLAN {sql}", *values))
        for sql, values in asked
        if "publishRun" in sql and sql.lstrip().startswith("SELECT")
    ]
    assert any("publishRun_of" in plan for plan in plans)
    assert any("publishRun_state" in plan for plan in plans)
    assert not any("SCAN p" in plan or "SCAN publish" in plan for plan in plans)


# Pending

PENDING: dict[str, tuple[PendingQuery, Sequence[int]]] = {
    "all": (PendingQuery(), [1, 2, 3, 4, 5, 6, 7, 8]),
    "a client": (PendingQuery(client_id=2), [5, 6, 7, 8]),
    "a stage": (PendingQuery(stage="diff", limit=3), [1, 2, 3]),
    "another stage": (PendingQuery(stage="camera"), []),
    "a comment": (PendingQuery(comment="%aid%"), [1, 2, 3, 4]),
    "a name": (PendingQuery(name="MOPS"), [1, 2, 3, 4]),
    "labels": (PendingQuery(labels=("M", "X")), [3, 7]),
    "everything": (PendingQuery(2, "diff", "100%", None, ("L", "M"), 2), [5, 6]),
}


@pytest.mark.parametrize(("query", "expected"), PENDING.values(), ids=PENDING)
def test_pending_runs_are_chosen(
    diffs: Database, query: PendingQuery, expected: Sequence[int]
) -> None:
    define_runs(diffs, RunQuery())
    assert [run.pub_id for run in pending_runs(diffs, query)] == list(expected)


def test_a_pending_run_tells_all_that_is_needed_to_do_it(cameras: Database) -> None:
    define_runs(cameras, RunQuery(limit=1))
    run = PublishRun(1, 1, "stars", "camera", 1, "/any/where", "GPC1", "L", None, None, "new", None)
    assert pending_runs(cameras, PendingQuery()) == [run]
    assert find_run(cameras, 1) == run
    assert find_run(cameras, 2) is None


# Attempts


def test_a_run_is_full_with_an_attempt_without_a_fault(diffs: Database) -> None:
    define_runs(diffs, RunQuery(client_id=1))
    publish(diffs, 1)
    publish(diffs, 2, fault=5)
    first, second = find_run(diffs, 1), find_run(diffs, 2)
    assert first
    assert second
    assert first.attempt
    assert second.attempt
    assert (first.state, second.state) == ("full", "new")
    assert (first.attempt.fault, second.attempt.fault) == (0, 5)
    assert (second.attempt.path_base, second.attempt.hostname) == ("p2", "host")
    assert (second.attempt.seconds, second.attempt.message) == (1.5, "why")
    assert [run.pub_id for run in pending_runs(diffs, PendingQuery())] == [3, 4]


@pytest.mark.parametrize(
    ("number", "reason"),
    [(99, "not there"), (1, "full already"), (2, "-revert -pub_id 2")],
    ids=["unknown", "full", "with an attempt"],
)
def test_an_attempt_that_does_not_fit_is_refused(diffs: Database, number: int, reason: str) -> None:
    define_runs(diffs, RunQuery())
    publish(diffs, 1)
    publish(diffs, 2, fault=5)
    before = find_run(diffs, number)
    with pytest.raises(ConflictError, match=reason):
        publish(diffs, number)
    assert find_run(diffs, number) == before


REVERTS: dict[str, tuple[RevertQuery, Sequence[int]]] = {
    "all": (RevertQuery(), [2, 3, 5]),
    "a run": (RevertQuery(pub_id=3), [3]),
    "a full one": (RevertQuery(pub_id=1), []),
    "a fault": (RevertQuery(fault=5), [2, 5]),
    "a client": (RevertQuery(client_id=1), [2, 3]),
    "a comment": (RevertQuery(comment="100%"), [5]),
    "labels": (RevertQuery(labels=("M", "X")), [3]),
    "old ones": (RevertQuery(older_than="2009-04-15T01:22:12Z"), [2]),
    "old ones of another fault": (RevertQuery(older_than="2009-04-15T01:22:12Z", fault=4), []),
    "older ones": (RevertQuery(older_than="2009-04-15T01:22:11Z"), []),
}


@pytest.mark.parametrize(("query", "expected"), REVERTS.values(), ids=REVERTS)
def test_failed_attempts_are_forgotten(
    diffs: Database, query: RevertQuery, expected: Sequence[int]
) -> None:
    define_runs(diffs, RunQuery())
    publish(diffs, 1)
    publish(diffs, 2, 5, fault=5)
    publish(diffs, 3, fault=4)
    publish(diffs, 6, fault=6)
    update_runs(diffs, UpdateQuery(pub_id=6), "full")
    diffs.change(
        "UPDATE publishDone SET attempted = ? WHERE pub_id IN (1, 2)", "2009-04-15T01:22:12Z"
    )
    assert revert(diffs, query) == len(expected)
    assert [run.pub_id for run in pending_runs(diffs, PendingQuery())] == sorted(
        {4, 7, 8, *expected}
    )


def test_an_attempt_without_a_fault_is_not_forgotten(diffs: Database) -> None:
    define_runs(diffs, RunQuery(limit=1))
    publish(diffs, 1)
    diffs.change("UPDATE publishRun SET state = 'new'")
    assert revert(diffs, RevertQuery()) == 0


UPDATES: dict[str, tuple[UpdateQuery, str, int, Sequence[int]]] = {
    "a run given up": (UpdateQuery(pub_id=4), "full", 1, []),
    "what failed given up": (UpdateQuery(fault=5), "full", 1, [4]),
    "what failed otherwise": (UpdateQuery(fault=4), "full", 0, [4]),
    "what was published anew": (UpdateQuery(state="full"), "new", 2, [1, 2, 4]),
    "what is new already": (UpdateQuery(pub_id=3), "new", 0, [4]),
    "a client": (UpdateQuery(client_id=1, fault=0), "new", 2, [1, 2, 4]),
    "a label": (UpdateQuery(labels=("M",)), "full", 1, [4]),
}


@pytest.mark.parametrize(("query", "state", "count", "left"), UPDATES.values(), ids=UPDATES)
def test_states_are_changed(
    diffs: Database, query: UpdateQuery, state: str, count: int, left: Sequence[int]
) -> None:
    define_runs(diffs, RunQuery(client_id=1))
    publish(diffs, 1, 2)
    publish(diffs, 3, fault=5)
    assert update_runs(diffs, query, state) == count
    assert [run.pub_id for run in pending_runs(diffs, PendingQuery())] == list(left)
    failed = find_run(diffs, 3)
    assert failed
    assert failed.attempt
    assert failed.attempt.fault == 5
