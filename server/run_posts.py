"""Runs on a blackboard: what is distributed or published has an entry there, a letter a step.

So processes wake on what a run has become, as they do on filesets that the client posts (OPUS,
"The blackboard"). The site's block BLACKBOARD says on which path. What the database says of a run
and the blackboard does not is posted; that it has been is noted after the blackboard has it. So
whatever instant this is killed at, the next call posts what is missing, and nothing is lost but
time: two that post at once do it one after the other. That a run is about to be posted again is
noted before, so one that changes back meanwhile is still owed.
"""

import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from mirror.errors import LocalError, MirrorError
from server.database import Database
from server.opus.board_records import Key, Post
from server.site import BoardPath, Site
from server.store_lock import ConflictError, HeldError, holds

if TYPE_CHECKING:
    from server.blackboard import Blackboard

PAGE = 500
"""Runs that are posted at once."""

EVERY = 10.0
"""Seconds between two posts while there is much to do."""

PATIENCE = 30.0
"""Seconds in which another one who posts must be done."""

BOARD_PATIENCE = 3.0
"""Seconds that writers of the blackboard are waited for: whoever calls has other things to do."""

COMPLETE = "c"

DOUBT = "?"
"""Before the letters that were posted, in what is noted: the blackboard may have others by now."""

_LOOK = 0.05


@dataclass(frozen=True, slots=True)
class Runs:
    """Runs of one kind.

    `kind`: the key of the block BLACKBOARD that has their type; they are in `table`, by `key`.
    `steps`: titles of the stages. `letters`: a SELECT of run_id, dataset, and letters, one a step.
    """

    kind: str
    table: str
    key: str
    steps: tuple[str, ...]
    letters: str


class RunPosts:
    """Posts the runs of a kind for a command; where the site names no blackboard, does nothing.

    Trouble with the blackboard is told on standard error once and stops nothing else: what is
    owed is posted by a later call.
    """

    def __init__(self, site: Site, database: Database, runs: Runs, command: str) -> None:
        self._site = site
        self._database = database
        self._runs = runs
        self._command = command
        board = site.blackboard
        self._board = board if board and runs.kind in board.types else None
        self._last = time.monotonic()

    def sometimes(self) -> None:
        """Post what is owed if that was not done for a while."""
        if time.monotonic() - self._last > EVERY:
            self.now()

    def now(self) -> None:
        """Post all that is owed."""
        if self._board is None:
            return
        try:
            with _alone(self._site, self._runs.kind):
                _post(self._database, self._runs, self._board, self._command)
        except MirrorError as error:
            why = "; ".join(str(error).splitlines())
            said = f"blackboard {self._board.path}: {why}; the next call posts what is owed"
            print(f"{self._command}: {said}", file=sys.stderr, flush=True)
            self._board = None
        self._last = time.monotonic()


@contextmanager
def _alone(site: Site, kind: str) -> Iterator[None]:
    """Be the only one who posts. Raises LocalError where another one is not done in time."""
    until = time.monotonic() + PATIENCE
    with holds(site.root) as held:
        while True:
            try:
                held.take(f"{kind} runs on the blackboard")
                break
            except HeldError:
                if time.monotonic() > until:
                    raise LocalError(f"another process has posted for {PATIENCE:g} s") from None
                time.sleep(_LOOK)
        yield


def _post(database: Database, runs: Runs, board: BoardPath, command: str) -> None:
    data_id = board.types[runs.kind]
    # Where it was posted is part of what is noted: on another board everything is owed.
    place = f"{data_id} {board.path}"
    gone = _gone(database, runs, place)
    if not gone and not _owed(database, runs, place, 0, 1):
        return
    from formats.path_file import named_path_file, read_path_file
    from server.blackboard import open_blackboard

    until = time.monotonic() + BOARD_PATIENCE
    paths = read_path_file(named_path_file(board.path))
    with open_blackboard(paths, os.environ, ended=lambda: time.monotonic() > until) as blackboard:
        for run_id, dataset in gone:
            with suppress(ConflictError):
                blackboard.delete(Key(dataset, data_id), command)
            database.change("DELETE FROM runPost WHERE kind = ? AND run_id = ?", runs.kind, run_id)
        last = 0
        while owed := _owed(database, runs, place, last, PAGE):
            last = owed[-1].run_id
            if again := [(one, DOUBT + one.before) for one in owed if one.before]:
                _note(database, runs, place, again)
            posts = [_post_of(blackboard, one, runs.steps, data_id) for one in owed]
            blackboard.post(posts, command)
            _note(database, runs, place, [(one, one.letters) for one in owed])


def _post_of(blackboard: "Blackboard", one: "_Owed", steps: Sequence[str], data_id: str) -> Post:
    key = Key(one.dataset, data_id)
    lost = [step for step, is_lost in zip(steps, one.lost(), strict=True) if is_lost]
    entry = blackboard.find(key) if lost else None
    # One killed before it was noted may have posted it anew, and work has begun since.
    anew = entry is not None and any(entry.states[step].lower() == COMPLETE for step in lost)
    return Post(key, dict(zip(steps, one.letters, strict=True)), anew)


class _Owed(NamedTuple):
    run_id: int
    dataset: str
    letters: str
    posted: str | None

    @property
    def before(self) -> str:
        """The letters that were posted last; none if it never was."""
        return (self.posted or "").removeprefix(DOUBT)

    def lost(self) -> list[bool]:
        """Of each step whether it was complete and is not any more: the run comes again, and
        nothing that was done with it holds."""
        before = self.before or self.letters
        return [old == COMPLETE != now for old, now in zip(before, self.letters, strict=True)]


def _owed(database: Database, runs: Runs, place: str, after: int, limit: int) -> list[_Owed]:
    """Runs whose letters are not those that were posted, in order of their ids."""
    rows = database.rows(
        f"""SELECT n.run_id, n.dataset, n.letters, p.letters FROM ({runs.letters}) n
        LEFT JOIN runPost p ON p.kind = ? AND p.run_id = n.run_id AND p.place = ?
        WHERE n.run_id > ? AND (p.letters IS NULL OR p.letters <> n.letters)
        ORDER BY n.run_id LIMIT ?""",
        runs.kind, place, after, limit,
    )  # fmt: skip
    return [_Owed(*row) for row in rows]


def _gone(database: Database, runs: Runs, place: str) -> list[tuple[int, str]]:
    """Runs that were posted and are not there any more."""
    rows = database.rows(
        f"""SELECT run_id, dataset FROM runPost p WHERE kind = ? AND place = ?
        AND NOT EXISTS (SELECT 1 FROM {runs.table} r WHERE r.{runs.key} = p.run_id)""",
        runs.kind, place,
    )  # fmt: skip
    return [(run_id, dataset) for run_id, dataset in rows]


def _note(database: Database, runs: Runs, place: str, noted: Sequence[tuple[_Owed, str]]) -> None:
    with database.write():
        database.change_many(
            """INSERT INTO runPost (kind, run_id, place, dataset, letters) VALUES (?, ?, ?, ?, ?)
            ON CONFLICT (kind, run_id) DO UPDATE SET place = excluded.place,
            dataset = excluded.dataset, letters = excluded.letters""",
            [(runs.kind, one.run_id, place, one.dataset, letters) for one, letters in noted],
        )
