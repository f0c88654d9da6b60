"""The processes of a path on its blackboard: who there is, in what state, what it holds.

A process that is dead (see server/opus/liveness.py) is absent, whatever it said last.
"""

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote, unquote_to_bytes

from mirror.errors import ConfigError
from server.catalogue import utc_now
from server.database import Database, Row, Unavailable, connect
from server.opus import liveness
from server.opus.board_records import STATES, WISHES, Process
from server.opus.board_schema import lock_board, migrate, path_id_of
from server.site import Place

_STALE = 1.0
"""Seconds after which a server is asked whether the connection to it still works."""

_SELECT = """
SELECT holder_id, name, path_name, host, pid, state, since, working_on, started, command, wish,
    token, gone
FROM opusProcess"""


class ProcessBoard:
    """The board of one path, as far as it is about processes. One thread at a time."""

    def __init__(self, place: Place, directory: Path, key: str) -> None:
        self.directory = directory
        self.host = socket.gethostname()
        self._place = place
        self._key = key
        self._lock_file: int | None = None
        self._database: Database | None = None
        self._path_id = 0
        self._used = 0.0
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
        file = self._own_lock_file()
        word, now = liveness.word_of(file), utc_now()
        with self._write() as database:
            self._sweep(database, name)
            row = database.row(
                """INSERT INTO opusProcess (path_id, name, path_name, host, pid, command, token,
                    state, gone, since, started) VALUES (?, ?, ?, ?, ?, ?, ?, 'idle', 0, ?, ?)
                RETURNING holder_id""",
                self._path_id, name, path, host, pid, _shown(command), word, now, now,
            )  # fmt: skip
            assert row
            # Before anybody sees the row: who looked too early would take it for dead.
            liveness.hold(file, int(row[0]))
        return int(row[0])

    @contextmanager
    def hold_alive(self, holder: int) -> Iterator[None]:
        """Live for the length of a `with`, after `join` with this same board."""
        try:
            yield
        finally:
            if self._lock_file is not None:
                liveness.let_go(self._lock_file, holder)

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
        since = before[6] if before[5] == state else utc_now()
        with self._write() as database:
            database.change(
                "UPDATE opusProcess SET state = ?, working_on = ?, since = ? WHERE holder_id = ?",
                state, working_on, since, holder,
            )  # fmt: skip

    def wishes(self, holder: int) -> str | None:
        """What was asked of the process last: halt, suspend, resume, or None."""
        wish: str | None = self._process(holder)[10]
        return wish

    def wish(self, holder: int, wish: str) -> None:
        """Ask something of a process. Raises ConfigError if there is no such process or wish."""
        if wish not in WISHES:
            raise ConfigError([f"{wish}: a wish expected, one of {', '.join(WISHES)}"])
        self._process(holder)
        with self._write() as database:
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
            database.change("UPDATE opusProcess SET gone = 1 WHERE holder_id = ?", holder)

    # Files

    def note_file(self, holder: int, original: Path, claimed: Path) -> None:
        """Say, before it is done, that the process renames a file to claim it."""
        with self._write() as database:
            database.change(
                """INSERT INTO opusFile (holder_id, claimed, original) VALUES (?, ?, ?)
                ON CONFLICT (holder_id, claimed) DO UPDATE SET original = excluded.original""",
                holder, kept_path(claimed), kept_path(original),
            )  # fmt: skip

    def move_file(self, holder: int, claimed: Path, original: Path, copy: Path) -> None:
        """Say that from now on `copy` is what is claimed, to be called `original` in the end.

        In one step: whoever returns the claims of the dead sees one of the two.
        """
        with self._write() as database:
            database.change(
                "DELETE FROM opusFile WHERE holder_id = ? AND claimed = ?",
                holder, kept_path(claimed),
            )  # fmt: skip
            database.change(
                "INSERT INTO opusFile (holder_id, claimed, original) VALUES (?, ?, ?)",
                holder, kept_path(copy), kept_path(original),
            )  # fmt: skip

    def forget_file(self, holder: int, claimed: Path) -> None:
        """Say, after it was done, that the outcome was applied or the claim not won."""
        with self._write() as database:
            database.change(
                "DELETE FROM opusFile WHERE holder_id = ? AND claimed = ?",
                holder,
                kept_path(claimed),
            )

    def _files(self, holder: int) -> list[tuple[Path, Path]]:
        sql = "SELECT original, claimed FROM opusFile WHERE holder_id = ? ORDER BY claimed"
        return [(_path(row[0]), _path(row[1])) for row in self._read(sql, holder)]

    # The connection

    def _connected(self) -> Database:
        database, idle = self._database, time.monotonic() - self._used
        # Processes wait for days between two events; meanwhile the server may have been away.
        if database and database.kind == "postgres" and idle > _STALE and not database.alive():
            self._break()
        self._used = time.monotonic()
        if self._database is None:
            self._database = connect(self._place, create=True)
            migrate(self._database)
            self._path_id = path_id_of(self._database, self._key)
        return self._database

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

    def _process(self, holder: int) -> Row:
        rows = self._read(f"{_SELECT} WHERE path_id = ? AND holder_id = ?", self._path_id, holder)
        if not rows:
            raise ConfigError([f"process {holder}: there is none of this number on the board"])
        return rows[0]

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
    if not gone and witness.dead(holder, word):
        state = "absent"
    return Process(holder, name, path, host, pid, state, since, working_on, started, command, wish)


def _shown(text: str) -> str:
    # Names of files may be of bytes that no database takes as text.
    return text.encode("utf-8", "backslashreplace").decode("utf-8").replace("\0", "")


def kept_path(path: Path) -> str:
    """A path as the board keeps it: of any bytes, made absolute, in ASCII."""
    return quote(os.fsencode(os.path.abspath(path)))


def _path(text: str) -> Path:
    return Path(os.fsdecode(unquote_to_bytes(text)))
