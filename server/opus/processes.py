"""The processes of a path on its blackboard: who there is, in what state, what it holds.

A process that is dead (see server/opus/liveness.py) is absent, whatever it said last. One that
is not on the board any more, because the board was replaced by a copy or begun anew, joins again by
itself, under a new number; whoever joined goes on calling it by the first one.
"""

import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from mirror.errors import ConfigError, LocalError
from server.catalogue import utc_now
from server.database import Database, Row, Unavailable, connect
from server.opus import liveness
from server.opus.board_records import STATES, WISHES, Process
from server.opus.board_schema import lock_board, migrate, path_id_of
from server.opus.liveness import Life
from server.site import Place, SqliteFile

_STALE = 1.0
"""Seconds after which a server is asked whether the connection to it still works."""

_SELECT = """
SELECT holder_id, name, path_name, host, pid, state, since, working_on, started, command, wish,
    token, gone
FROM opusProcess"""


@dataclass(slots=True)
class _Joined:
    """A process that joined here: what was given, what it said last, and its present number."""

    name: str
    path: str
    host: str
    pid: int
    command: str
    started: str
    token: str = ""
    number: int = 0
    state: str = "idle"
    working_on: str | None = None

    def is_of(self, row: Row | None) -> bool:
        return row is not None and row[1:5] + row[8:9] + row[11:12] == (
            self.name, self.path, self.host, self.pid, self.started, self.token,
        )  # fmt: skip


class ProcessBoard:
    """The board of one path, as far as it is about processes. One thread at a time.

    `ended`: whether this process is to end, asked while others write. `reconnected`: how often
    there was a new connection, perhaps to another board: what was in hand is to be looked at anew.
    """

    def __init__(
        self, place: Place, directory: Path, key: str, ended: Callable[[], bool] = lambda: False
    ) -> None:
        self.directory = directory
        self._ended = ended
        self._joined: dict[int, _Joined] = {}
        self.host = socket.gethostname()
        self._place = place
        self._key = key
        self._lock_file: int | None = None
        self._database: Database | None = None
        self._path_id = 0
        self._used = 0.0
        # -1: that connection which is the first is none anew.
        self.reconnected = -1
        try:
            self._connected()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the connection, and the lives of the processes that joined through it."""
        self._break()
        if self._lock_file is not None:
            os.close(self._lock_file)
            self._lock_file = None

    # Processes

    def join(self, name: str, path: str, host: str, pid: int, command: str) -> int:
        """Enter a process, idle, and return its number, which is never given twice.

        It lives until `hold_alive` ends or the board is closed, or this process ends. Rows of
        dead processes of the same name that hold nothing any more are removed.
        """
        joined = _Joined(name, path, host, pid, _shown(command), utc_now())
        with self._write() as database:
            self._sweep(database, name)
            self._enter(database, joined)
        self._joined[joined.number] = joined
        return joined.number

    @contextmanager
    def hold_alive(self, holder: int) -> Iterator[None]:
        """Live for the length of a `with`, after `join` with this same board."""
        try:
            yield
        finally:
            joined = self._joined.pop(holder, None)
            if self._lock_file is not None:
                liveness.let_go(self._lock_file, joined.number if joined else holder)

    def alive_descriptor(self) -> int:
        """The descriptor whose locks show who lives: a command that inherits it keeps the process
        that has started it alive on the board for as long as it works itself."""
        return self._own_lock_file()

    def report(self, holder: int, state: str, working_on: str | None) -> None:
        """Say what the process does now; `since` stays if its state does."""
        if state not in STATES:
            raise ConfigError([f"{state}: a state expected, one of {', '.join(STATES)}"])
        working_on = working_on and _shown(working_on)
        before = self._process(holder)
        if before[5] == state and before[7] == working_on:
            return
        with self._write() as database:
            before = self._own(database, holder)
            since = before[6] if before[5] == state else utc_now()
            database.change(
                "UPDATE opusProcess SET state = ?, working_on = ?, since = ? WHERE holder_id = ?",
                state, working_on, since, before[0],
            )  # fmt: skip
        if holder in self._joined:
            self._joined[holder].state, self._joined[holder].working_on = state, working_on

    def wishes(self, holder: int) -> str | None:
        """What was asked of the process last: halt, suspend, resume, or None."""
        wish: str | None = self._process(holder)[10]
        return wish

    def wish(self, holder: int, wish: str) -> None:
        """Ask something of a process. Raises ConfigError if there is no such process or wish."""
        if wish not in WISHES:
            raise ConfigError([f"{wish}: a wish expected, one of {', '.join(WISHES)}"])
        with self._write() as database:
            holder = self._own(database, holder)[0]
            database.change("UPDATE opusProcess SET wish = ? WHERE holder_id = ?", wish, holder)

    def processes(self) -> list[Process]:
        """Every process of the path, in the order in which they joined; the dead are absent."""
        rows = self._read(f"{_SELECT} WHERE path_id = ? ORDER BY holder_id", self._path_id)
        witness = liveness.Witness(self.directory)
        try:
            return [_process_of(row, witness) for row in rows]
        finally:
            witness.close()

    def leave(self, holder: int, state: str) -> None:
        """The last words of a process: it ends as halted, or absent."""
        self.report(holder, state, None)
        with self._write() as database:
            holder = self._own(database, holder)[0]
            database.change("UPDATE opusProcess SET gone = 1 WHERE holder_id = ?", holder)

    # The connection

    def _connected(self) -> Database:
        idle = time.monotonic() - self._used
        # Processes wait for days between two events; meanwhile the server may have been away. To
        # look at a file costs nothing.
        asked = self._database and (self._database.kind == "sqlite" or idle > _STALE)
        if self._database and asked and not self._database.alive():
            self._break()
        self._used = time.monotonic()
        if self._database is None:
            self._database = self._connect()
            self.reconnected += 1
        return self._database

    def _connect(self) -> Database:
        if self._path_id and isinstance(self._place, SqliteFile):
            # Whoever brings back a copy may not have finished; a new one would be in the way.
            size = 0
            with suppress(OSError):
                size = self._place.path.stat().st_size
            if not size:
                raise Unavailable(
                    f"blackboard {self._place.path}: it is gone; bring back a copy of it, or let"
                    " osf create or osf post begin a new one"
                )
        return self._opened()

    def _opened(self) -> Database:
        database = connect(self._place, create=True, noun="blackboard", ended=self._ended)
        try:
            migrate(database)
            self._path_id = path_id_of(database, self._key, str(self.directory))
        except BaseException:
            database.close()
            raise
        return database

    def _break(self) -> None:
        if self._database:
            self._database.close()
        self._database = None

    @contextmanager
    def _connection(self) -> Iterator[Database]:
        """The connection; after a fault of the database the next one is new."""
        try:
            yield self._connected()
        except Unavailable:
            self._break()
            raise

    @contextmanager
    def _write(self) -> Iterator[Database]:
        """A transaction that is alone on this board."""
        with self._connection() as database, database.write():
            lock_board(database, self._path_id)
            yield database

    def _read(self, sql: str, *values: object) -> list[Row]:
        with self._connection() as database:
            return database.rows(sql, *values)

    def _number(self, holder: int) -> int:
        """The present number of a process that joined here; any other number as it is."""
        joined = self._joined.get(holder)
        return joined.number if joined else holder

    def _process(self, holder: int) -> Row:
        """The row of a process."""
        self._follow_lock_file()
        with self._connection() as database:
            row = self._row_of(database, holder)
            joined = self._joined.get(holder)
            if row and (joined is None or joined.is_of(row)):
                return row
        with self._write() as database:
            return self._own(database, holder)

    def _own(self, database: Database, holder: int) -> Row:
        """The row of a process, in a transaction that may write; made anew if it joined here and
        is not on the board any more."""
        row, joined = self._row_of(database, holder), self._joined.get(holder)
        if joined and not joined.is_of(row):
            before = joined.number
            self._enter(database, joined)
            if before != joined.number:
                liveness.let_go(self._own_lock_file(), before)
            row = self._row_of(database, holder)
        if row is None:
            raise ConfigError([f"process {holder}: there is none of this number on the board"])
        return row

    def _row_of(self, database: Database, holder: int) -> Row | None:
        return database.row(
            f"{_SELECT} WHERE path_id = ? AND holder_id = ?", self._path_id, self._number(holder)
        )

    def _enter(self, database: Database, joined: _Joined) -> None:
        """Make the row of a process, and hold its byte."""
        file, now = self._own_lock_file(), utc_now()
        joined.token = liveness.token_of(self.directory, file, joined.host, joined.pid)
        others = {
            number
            for first, one in self._joined.items()
            if one is not joined
            for number in (first, one.number)
        }
        while True:
            row = database.row(
                """INSERT INTO opusProcess (path_id, name, path_name, host, pid, command, token,
                    state, working_on, gone, since, started)
                VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 0, ?, ?) RETURNING holder_id""",
                self._path_id, joined.name, joined.path, joined.host, joined.pid, joined.command,
                joined.token, joined.state, joined.working_on, now, joined.started,
            )  # fmt: skip
            assert row
            number = int(row[0])
            # Before anybody sees the row: who looked too early would take it for dead.
            if number not in others and liveness.hold(file, number):
                joined.number = number
                return
            # A process of a board that is no more has this number still.
            database.change("DELETE FROM opusProcess WHERE holder_id = ?", number)

    def _follow_lock_file(self) -> None:
        """Where a copy has replaced the lock file, live in that too: hosts that cannot ask the
        system here know no other."""
        file = self._lock_file
        if file is None or not self._joined or not liveness.is_replaced(self.directory, file):
            return
        new = -1
        try:
            new = liveness.open_lock_file(self.directory)
            tokens = self._tokens_of(new)
        except LocalError:
            # This system knows it as alive still.
            tokens = {}
        try:
            if tokens:
                self._tell_tokens(tokens)
                # The locks of the lost file go with this, and not before.
                os.dup2(new, file, inheritable=False)
        finally:
            if new >= 0:
                os.close(new)

    def _tokens_of(self, file: int) -> dict[int, str]:
        """Take the bytes of all who joined here; the new token of each, by what it is called here.
        Nothing where another process has one of them, of a board that is no more."""
        if not all(liveness.hold(file, one.number) for one in self._joined.values()):
            return {}
        return {
            first: liveness.token_of(self.directory, file, one.host, one.pid)
            for first, one in self._joined.items()
        }

    def _tell_tokens(self, tokens: Mapping[int, str]) -> None:
        changes = [
            (tokens[first], self._path_id, one.number, one.token)
            for first, one in self._joined.items()
        ]
        with self._write() as database:
            database.change_many(
                "UPDATE opusProcess SET token = ?"
                " WHERE path_id = ? AND holder_id = ? AND token = ?", changes
            )  # fmt: skip
        for first, token in tokens.items():
            self._joined[first].token = token

    def _own_lock_file(self) -> int:
        if self._lock_file is None:
            self._lock_file = liveness.open_lock_file(self.directory)
        return self._lock_file

    def _sweep(self, database: Database, name: str) -> None:
        """Remove what dead processes of a name have left, but not what is still theirs."""
        rows = database.rows(
            f"""{_SELECT} p WHERE path_id = ? AND name = ?
            AND NOT EXISTS (SELECT 1 FROM osfClaim c WHERE c.holder_id = p.holder_id)
            AND NOT EXISTS (SELECT 1 FROM opusFile f WHERE f.holder_id = p.holder_id)""",
            self._path_id, name,
        )  # fmt: skip
        witness = liveness.Witness(self.directory)
        try:
            dead = [(row[0],) for row in rows if witness.dead(row[0], row[11])]
        finally:
            witness.close()
        database.change_many("DELETE FROM opusProcess WHERE holder_id = ?", dead)


def _process_of(row: Row, witness: liveness.Witness) -> Process:
    holder, name, path, host, pid, state, since, working_on, started, command, wish, word, gone = (
        row
    )
    life = Life.LIVES if gone else witness.judge(holder, word)
    if life is Life.DEAD:
        state = "absent"
    elif life is Life.COMMAND:
        working_on = f"{working_on or 'an event'}, its command alone"
    return Process(holder, name, path, host, pid, state, since, working_on, started, command, wish)


def _shown(text: str) -> str:
    # Names of files may be of bytes that no database takes as text.
    return text.encode("utf-8", "backslashreplace").decode("utf-8").replace("\0", "")
