"""The blackboard of a path: where its datasets are, each with a letter a stage, and its processes
(OPUS, "The blackboard").

Many processes on many hosts read and change it at once. What changes it is alone on it for a few
milliseconds, so a claim is won by exactly one. A claim records the letters that were there: what
the process dies over, or gives back, is as it was before.
"""

import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from formats.path_file import OBSERVATIONS, PathFile
from formats.stage_file import NOT_SET, StageFile, read_stage_file
from formats.triggers import OsfMatch
from mirror.disk import told
from mirror.errors import ConfigError
from server.catalogue import utc_now
from server.database import Database, Duplicate, Row
from server.opus import board_records as records
from server.opus import history
from server.opus.board_records import (
    NO_DCF,
    STATES,
    WISHES,
    Entry,
    Filter,
    History,
    Key,
    Post,
    Process,
    check_key,
    check_stages,
    check_states,
)
from server.opus.liveness import Life
from server.opus.matching import matching
from server.opus.reclaim import OF_KEY, SELECT_ENTRY, Reclaim
from server.site import Place, SqliteFile, read_server
from server.store_lock import ConflictError

__all__ = [
    "BOARD_FILE", "NO_DCF", "STATES", "WISHES", "Blackboard", "Entry", "Filter", "History", "Key",
    "Post", "Process", "observations_of", "open_blackboard",
]  # fmt: skip

BOARD_FILE = ".blackboard.db"
"""The blackboard's file below OPUS_OBSERVATIONS_DIR, where the site has no PostgreSQL."""

PAGE = 1000
"""Entries that are read at a time."""


@contextmanager
def open_blackboard(
    paths: PathFile,
    environ: Mapping[str, str] = os.environ,
    *,
    create: bool = True,
    ended: Callable[[], bool] = lambda: False,
) -> Iterator["Blackboard"]:
    """The blackboard of a path for the length of a `with`.

    It is a file below OPUS_OBSERVATIONS_DIR, which is made if it is missing; or, where the
    environment or the site configuration names a DS_DBSERVER, in that PostgreSQL. `create`:
    begin one that is not there; `ended`: whether this process is to end, asked while it waits for
    another one that writes. Raises ConfigError for a path without a fit stage file or directory,
    and where there is no board; Unavailable where the database does not answer.
    """
    stages = read_stage_file(paths.stage_file())
    directory = _directory(paths, create=create)
    place, key = board_place(directory, environ)
    if not create and isinstance(place, SqliteFile) and not place.path.exists():
        raise ConfigError(
            [f"path {paths.name}: no blackboard at {place.path}; its first entry makes one"]
        )
    board = Blackboard(place, directory, key, stages, ended)
    try:
        yield board
    finally:
        board.close()


def board_place(directory: Path, environ: Mapping[str, str]) -> tuple[Place, str]:
    """The database that has the board of an OPUS_OBSERVATIONS_DIR, and the board's name in it."""
    server = read_server(environ)
    # A file is the board of one path, and may be moved with its directory. In a server it is that
    # of the directory, however this is spelt.
    if server:
        return server, os.path.realpath(directory)
    return SqliteFile(directory / BOARD_FILE), "."


def observations_of(paths: PathFile) -> Path:
    """OPUS_OBSERVATIONS_DIR of a path. Raises ConfigError for one that is not absolute: each
    process would have a board where it was started."""
    given = paths.value(OBSERVATIONS)
    if not os.path.isabs(given):
        line = paths.by_name[OBSERVATIONS].line
        raise ConfigError(
            [f"{paths.path}:{line}: {OBSERVATIONS}: an absolute directory expected, not {given!r}"]
        )
    return Path(os.path.abspath(given))


def _directory(paths: PathFile, *, create: bool) -> Path:
    directory = observations_of(paths)
    with told(directory):
        if create:
            directory.mkdir(parents=True, exist_ok=True)
        elif not directory.is_dir():
            raise ConfigError([f"{paths.path}: {OBSERVATIONS}: there is no directory {directory}"])
    return directory


class Blackboard(Reclaim):
    """The board of one path. One thread at a time; see `open_blackboard`.

    Stages and letters must be those of the stage file: else ConfigError. Letters are compared
    without case and kept as given.
    """

    def __init__(
        self,
        place: Place,
        directory: Path,
        key: str,
        stages: StageFile,
        ended: Callable[[], bool] = lambda: False,
    ) -> None:
        super().__init__(place, directory, key, ended)
        self.stages = stages
        self._titles = stages.titles()

    # Entries

    def create(self, key: Key, states: Mapping[str, str], process: str = "osf") -> Entry:
        """Make an entry; stages that are not in `states` are not set.

        Raises ConfigError for a key that cannot be one, ConflictError if the entry is there.
        """
        check_key(key)
        self.check(states)
        try:
            with self._write() as database:
                return self._make(database, key, states, process)
        except Duplicate:
            raise ConflictError(f"{key}: the entry is there already; update or delete it") from None

    def post(
        self,
        posts: Sequence[Post],
        process: str = "osf",
        check: Callable[[], None] = lambda: None,
    ) -> list[str]:
        """Bring entries to the letters of these posts, all of them in one transaction.

        Returns for each what was done: `created` where there was no entry; `updated`;
        `unchanged` where it has the letters, whatever their case, of which the history says
        nothing. Raises ConfigError, nothing written, for a key or states that no entry may have,
        and whatever `check` raises, which is called when nobody else can write any more.
        """
        for post in posts:
            check_key(post.key)
            self.check(post.states)
        with self._write() as database:
            check()
            return [self._bring(database, post, process) for post in posts]

    def _bring(self, database: Database, post: Post, process: str) -> str:
        row = self._row(database, post.key)
        if row and post.anew:
            self._remove(database, row, process)
        if row is None or post.anew:
            self._make(database, post.key, post.states, process)
            return "created"
        there = records.unpacked(row[5], post.states)
        new = {one: to for one, to in post.states.items() if to.upper() != there[one].upper()}
        if not new:
            return "unchanged"
        self._change(database, row, new, process, "updated")
        return "updated"

    def _make(self, database: Database, key: Key, states: Mapping[str, str], process: str) -> Entry:
        now, kept = utc_now(), records.packed(states)
        database.change(
            """INSERT INTO osfEntry (path_id, dataset, data_id, dcf, start_time, states,
                pattern) VALUES (?, ?, ?, ?, ?, ?, ?)""",
            self._path_id, *key, now, kept, records.pattern_of(key.data_id, kept),
        )  # fmt: skip
        changes = [(one, NOT_SET, letter) for one, letter in states.items() if letter != NOT_SET]
        self._note(database, process, key, "created", changes or [(None, None, None)])
        return Entry(key, now, records.unpacked(kept, self._titles))

    def _remove(self, database: Database, row: Row, process: str) -> None:
        database.change("DELETE FROM osfEntry WHERE entry_id = ?", row[0])
        self._note(database, process, Key(*row[1:4]), "deleted", [(None, None, None)])

    def check(self, states: Mapping[str, str]) -> None:
        """Raises ConfigError, with all problems, for states that no entry of this path may have."""
        check_states(self.stages, states)

    def find(self, key: Key) -> Entry | None:
        """The entry of this key, if there is one."""
        rows = self._read(f"{SELECT_ENTRY} WHERE {OF_KEY}", self._path_id, *key)
        return self._entry(rows[0]) if rows else None

    def entries(self, wanted: Filter | None = None) -> Iterator[Entry]:
        """The entries that are wanted (default: all), in the order in which they were made.

        Read in pages: one that is made or changed meanwhile may be there or not.
        """
        wanted = wanted or Filter()
        self.check(wanted.states)
        given = {"data_id": wanted.data_id, "dcf": wanted.dcf}
        if wanted.dataset is not None and not set(wanted.dataset) & set("*?["):
            given["dataset"] = wanted.dataset
        exact = {column: value for column, value in given.items() if value is not None}
        also = "".join(f" AND {column} = ?" for column in exact)
        last = 0
        while rows := self._read(
            f"{SELECT_ENTRY} WHERE path_id = ? AND entry_id > ?{also} ORDER BY entry_id LIMIT ?",
            self._path_id, last, *exact.values(), PAGE,
        ):  # fmt: skip
            last = rows[-1][0]
            for row in rows:
                entry = self._entry(row)
                if wanted.accepts(entry):
                    yield entry

    def update(self, key: Key, states: Mapping[str, str], process: str = "osf") -> Entry:
        """Set the letters of stages. Raises ConflictError if there is no such entry.

        A claim on one of them ends if its process is dead, or nobody can say whether it lives; a
        living one goes on, and writes its own letters when it is done: see `claimants`.
        """
        self.check(states)
        with self._write() as database:
            row = self._change(database, self._held_row(database, key), states, process, "updated")
            ended = [
                (row[0], stage)
                for stage, *_, life in self._claims_on(database, row, states)
                if life in (Life.DEAD, Life.UNKNOWN)
            ]
            database.change_many("DELETE FROM osfClaim WHERE entry_id = ? AND stage = ?", ended)
        return self._entry(row)

    def claimants(self, key: Key, stages: Collection[str]) -> list[str]:
        """Who has these stages of an entry in work, a line a stage."""
        with self._connection() as database:
            row = self._row(database, key)
            claims = self._claims_on(database, row, stages) if row else []
        return [
            f"{stage}: held by process {name} ({number}) on {host}"
            for stage, number, name, host, _ in claims
        ]

    def delete(self, key: Key, process: str = "osf") -> None:
        """Remove an entry, even one in work. Raises ConflictError if there is no such entry."""
        with self._write() as database:
            self._remove(database, self._held_row(database, key), process)

    def history(self, of: Key | Filter | None = None, limit: int = PAGE) -> list[History]:
        """The last `limit` changes, the oldest first: of an entry; of those with the names of a
        filter, its dataset being a name and no glob; or (None) of the board."""
        with self._connection() as database:
            return history.changes(database, self._path_id, of, limit)

    def prune(self, before: str) -> int:
        """Remove the changes before a time (UTC) from the history; returns how many."""
        removed = 0
        while True:
            with self._write() as database:
                step = history.prune(database, self._path_id, before)
            if not step:
                return removed
            removed += step

    # Claims

    def claim(
        self,
        match: OsfMatch,
        processing: Mapping[str, str],
        limit: int,
        holder: int,
        skip: Collection[Key] = (),
        after: int = 0,
    ) -> list[Entry]:
        """Claim at most `limit` entries that match, the oldest first, for the process `holder`.

        Returned as they are then: with the letters of `processing`. An entry that is claimed
        for one of the same stages already is left out, and so are the keys of `skip`, each of
        which costs a look every time; and entries up to the number `after`, which cost nothing. To
        find none costs no lock.
        """
        check_stages(self.stages, match.columns)
        self.check(processing)
        if not processing:
            raise ConfigError([f"OSF_TRIGGER{match.number}: OSF_PROCESSING.XX is missing"])
        self._process(holder)
        with self._connection() as database:
            if not matching(database, self._path_id, match, processing, 1, skip, after):
                return []
        with self._write() as database:
            number, name = self._own(database, holder)[:2]
            rows = matching(database, self._path_id, match, processing, limit, skip, after)
            return [
                self._entry(self._take(database, row, processing, number, name)) for row in rows
            ]

    def _take(
        self, database: Database, row: Row, processing: Mapping[str, str], holder: int, name: str
    ) -> Row:
        before = records.unpacked(row[5], processing)
        database.change_many(
            """INSERT INTO osfClaim (entry_id, stage, holder_id, letter_before, letter_during)
            VALUES (?, ?, ?, ?, ?)""",
            [
                (row[0], stage, holder, before[stage], letter)
                for stage, letter in processing.items()
            ],
        )
        return self._change(database, row, processing, name, "claimed")

    def settle(self, holder: int, key: Key, updates: Mapping[str, str]) -> None:
        """Write what became of a claimed entry, and end the claim, at once.

        Raises ConflictError, nothing written, if the process has no claim on it any more (the
        entry was deleted meanwhile, or the whole board replaced).
        """
        self.check(updates)
        self._process(holder)
        with self._write() as database:
            number, name = self._own(database, holder)[:2]
            row = self._held_row(database, key)
            if not self._end_claim(database, number, row):
                raise ConflictError(f"{key}: process {name} ({number}) has no claim on it any more")
            self._change(database, row, updates, name, "updated")

    # What all of them do

    def _entry(self, row: Row) -> Entry:
        return Entry(Key(*row[1:4]), row[4], records.unpacked(row[5], self._titles), row[0])
