"""Giving back what a process has claimed: because it wants to, or because it is dead."""

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from mirror.disk import told
from mirror.errors import LocalError
from server.catalogue import utc_now
from server.database import Database, Row
from server.opus import board_records as records
from server.opus import liveness
from server.opus.board_records import Entry, Key
from server.opus.events import ClaimedFile
from server.opus.file_claims import FileBoard, FileRow
from server.opus.liveness import Life
from server.opus.moving import flush_directories, is_gone, return_file
from server.store_lock import ConflictError

REAPER = "reap"
"""Who the history says returned the claims of a dead process."""

SELECT_ENTRY = "SELECT entry_id, dataset, data_id, dcf, start_time, states FROM osfEntry"

# An expression, because nearly all entries have one DCF number: before its statistics are there,
# PostgreSQL would go through all of them by the index of that.
OF_KEY = "path_id = ? AND dataset = ? AND data_id = ? AND dcf || '' = ?"

_Change = tuple[str | None, str | None, str | None]


def put_back(original: Path, claimed: Path) -> bool:
    """Give a claimed file its name back, durably; False if it is gone for certain.

    Raises FileExistsError where another file has the name by now: nothing is ever overwritten;
    LocalError also where the directory is not there.
    """
    with _told(claimed):
        try:
            os.link(claimed, original, follow_symlinks=False)
        except FileNotFoundError:
            if os.path.lexists(claimed):
                raise
            if not is_gone(claimed):
                raise LocalError(f"{claimed.parent}: its directory is not there") from None
            return False
        except FileExistsError:
            # Killed between the two steps below, it has both names.
            if not os.path.samestat(os.lstat(claimed), os.lstat(original)):
                raise
            os.unlink(claimed)
        except OSError:
            # A directory, or a file system without links.
            if os.path.lexists(original):
                raise FileExistsError(original) from None
            os.rename(claimed, original)
        else:
            os.unlink(claimed)
    flush_directories([original.parent])
    return True


class Reclaim(FileBoard):
    """The board of one path, as far as it is about ending claims."""

    _titles: list[str]

    def give_back(self, holder: int, key: Key) -> None:
        """End a claim; the letters are again those before it.

        A stage that somebody has changed since the claim stays as it is. Raises ConflictError
        if the process has no claim on the entry.
        """
        self._process(holder)
        with self._write() as database:
            number, name = self._own(database, holder)[:2]
            row = self._held_row(database, key)
            if self._restore(database, number, row, name) is None:
                raise ConflictError(f"{key}: process {name} ({number}) has no claim on it any more")

    def held(self, holder: int) -> tuple[list[Entry], list[tuple[Path, Path]]]:
        """What a process has claimed: entries, and files as (original, claimed)."""
        holder = self._number(holder)
        rows = self._read(
            f"""{SELECT_ENTRY} WHERE entry_id IN
                (SELECT entry_id FROM osfClaim WHERE holder_id = ?) ORDER BY entry_id""",
            holder,
        )
        entries = [
            Entry(Key(*row[1:4]), row[4], records.unpacked(row[5], self._titles)) for row in rows
        ]
        return entries, self._files(holder)

    def reap(self, force: int | None = None) -> list[str]:
        """Return what dead processes have claimed; says what was returned, a line an item.

        Any number may do this at once: each item is returned by one of them. `force`: a process
        that somebody knows to be dead; raises ConfigError where there is none of this number,
        ConflictError where it lives, or its command does.
        """
        if force is not None:
            self._bury(force)
        said: list[str] = []
        for holder, name, host, life, _, elsewhere in self._judged():
            if life is not Life.DEAD:
                continue
            who = f"process {name} ({holder}) on {host}"
            for entry in self.held(holder)[0]:
                said += self._return_entry(holder, who, entry.key)
            for file in self.file_rows(holder):
                if elsewhere:
                    said += self._keep_file(holder, who, file, elsewhere, here=host == self.host)
                else:
                    said += self._return_file(holder, who, file, here=host == self.host)
            with self._write() as database:
                database.change(
                    """UPDATE opusProcess SET state = 'absent', working_on = NULL, since = ?
                    WHERE holder_id = ? AND gone = 0 AND state <> 'absent'""",
                    utc_now(), holder,
                )  # fmt: skip
        return said

    def unreturned(self) -> list[str]:
        """What `reap` leaves with processes that are dead, or may be, and why: a line a process."""
        said = []
        for holder, name, host, life, holds, _ in self._judged():
            if life is Life.COMMAND:
                said.append(
                    f"process {name} ({holder}) on {host} is dead, its command still runs; its"
                    " items are returned when that has ended"
                )
            elif life is Life.UNKNOWN and holds:
                said.append(
                    f"claims of process {name} ({holder}) on {host} cannot be judged: its lock"
                    f" file is not the one here, and only its own host could tell whether it"
                    f" lives; reap --force {holder} returns them"
                )
        return said

    def _judged(self) -> list[tuple[int, str, str, Life, bool, Path | None]]:
        """Number, name, host and life of all who do not say that they have ended, or that hold
        something; whether they do; and the directory of another board on which they joined."""
        rows = self._read(
            """SELECT holder_id, name, host, token, holds FROM (
                SELECT holder_id, name, host, token, path_id, gone, state,
                    CASE WHEN EXISTS (SELECT 1 FROM osfClaim c WHERE c.holder_id = p.holder_id)
                    OR EXISTS (SELECT 1 FROM opusFile f WHERE f.holder_id = p.holder_id)
                    THEN 1 ELSE 0 END AS holds
                FROM opusProcess p WHERE path_id = ?) q
            WHERE gone = 0 AND state <> 'absent' OR holds = 1 ORDER BY holder_id""",
            self._path_id,
        )
        witness = liveness.Witness(self.directory)
        try:
            return [
                (*row[:3], witness.judge(row[0], row[3]), bool(row[4]), witness.elsewhere(row[3]))
                for row in rows
            ]
        finally:
            witness.close()

    def _bury(self, holder: int) -> None:
        """Somebody knows that a process is dead; if it is not, it joins again, claiming nothing."""
        with self._write() as database:
            row = self._own(database, holder)
            witness = liveness.Witness(self.directory)
            try:
                life = witness.judge(row[0], row[11])
            finally:
                witness.close()
            if life in (Life.LIVES, Life.COMMAND):
                who = f"process {row[1]} ({row[0]}), pid {row[4]} on {row[3]},"
                what = "lives; halt it" if life is Life.LIVES else "is dead, its command runs"
                raise ConflictError(f"{who} {what}; nothing was returned")
            database.change(
                "UPDATE opusProcess SET token = ? WHERE holder_id = ?",
                liveness.forced(row[11]), row[0],
            )  # fmt: skip

    def _claims_on(
        self, database: Database, row: Row, stages: Iterable[str]
    ) -> list[tuple[str, int, str, str, Life]]:
        """Who has claimed these stages of an entry: stage, number, name, host, and life."""
        wanted = set(stages)
        rows = database.rows(
            """SELECT c.stage, p.holder_id, p.name, p.host, p.token FROM osfClaim c
            JOIN opusProcess p ON p.holder_id = c.holder_id WHERE c.entry_id = ? ORDER BY stage""",
            row[0],
        )
        witness = liveness.Witness(self.directory)
        try:
            return [(*one[:4], witness.judge(one[1], one[4])) for one in rows if one[0] in wanted]
        finally:
            witness.close()

    def _return_entry(self, holder: int, who: str, key: Key) -> list[str]:
        with self._write() as database:
            row = self._row(database, key)
            restored = self._restore(database, holder, row, REAPER) if row else None
        if restored is None:
            return []
        letters = ", ".join(f"{stage}={after}" for stage, _, after in restored) or "unchanged"
        return [f"entry {key}: returned by {who}, dead: {letters}"]

    def _restore(
        self, database: Database, holder: int, row: Row, process: str
    ) -> list[_Change] | None:
        """End a claim and put its letters back; None if there is none."""
        before = self._end_claim(database, holder, row)
        if not before:
            return None
        now = records.unpacked(row[5], before)
        back = {
            stage: old for stage, (old, during) in before.items() if now[stage] == during != old
        }
        self._change(database, row, back, process, "returned")
        return [(stage, now[stage], letter) for stage, letter in back.items()]

    def _end_claim(self, database: Database, holder: int, row: Row) -> dict[str, tuple[str, str]]:
        """Remove a claim: of each stage the letters before and during it; {} if there is none."""
        claimed = database.rows(
            """DELETE FROM osfClaim WHERE entry_id = ? AND holder_id = ?
            RETURNING stage, letter_before, letter_during""",
            row[0], holder,
        )  # fmt: skip
        return {stage: (before, during) for stage, before, during in claimed}

    def _return_file(self, holder: int, who: str, file: FileRow, *, here: bool) -> list[str]:
        if file.is_settled:
            return []
        # Whoever notes a claim waits for the end of this transaction before it renames.
        with self._write() as database:
            if self._claimed_by_the_living(database, file.mark):
                return []
            try:
                with told(file.claimed):
                    self._remove_spare(database, file)
                file, done = _put_back(file)
            except LocalError as error:
                # Nobody else's items have to wait for it.
                return [f"file {file.claimed}: kept as {who}, dead, left it: {error}"]
            due = self._settle_dead(database, holder, file, done=done, here=here)
        if due:
            return [f"file {due}: left by {who}, dead: its FILE_ACTION is due"]
        return [f"file {file.original}: returned by {who}, dead"] if done else []

    def _keep_file(
        self, holder: int, who: str, file: FileRow, elsewhere: Path, *, here: bool
    ) -> list[str]:
        """Leave a file to the board of which this one is a copy; forget it once it is gone."""
        if file.is_settled:
            return []
        if not (here and is_gone(file.claimed)):
            return [
                f"file {file.claimed}: kept as {who}, dead, left it: it was claimed on a board in"
                f" {elsewhere}; reap that one, or rename it"
            ]
        self.forget_file(holder, file.claimed)
        return []

    # What changes an entry

    def _row(self, database: Database, key: Key) -> Row | None:
        return database.row(f"{SELECT_ENTRY} WHERE {OF_KEY}", self._path_id, *key)

    def _held_row(self, database: Database, key: Key) -> Row:
        row = self._row(database, key)
        if row is None:
            raise ConflictError(f"{key}: there is no such entry on the blackboard")
        return row

    def _change(
        self, database: Database, row: Row, states: Mapping[str, str], process: str, what: str
    ) -> Row:
        """Write letters, and what they were into the history; returns the row as it is now."""
        key, before = Key(*row[1:4]), records.unpacked(row[5], states)
        kept = records.merged(row[5], states)
        if kept != row[5]:
            database.change(
                "UPDATE osfEntry SET states = ?, pattern = ? WHERE entry_id = ?",
                kept, records.pattern_of(key.data_id, kept), row[0],
            )  # fmt: skip
        changes = [(title, before[title], letter) for title, letter in states.items()]
        self._note(database, process, key, what, changes)
        return (*row[:5], kept)

    def _note(
        self, database: Database, process: str, key: Key, what: str, changes: Iterable[_Change]
    ) -> None:
        now = utc_now()
        database.change_many(
            """INSERT INTO osfHistory (path_id, at, host, process, dataset, data_id, dcf, stage,
                letter_before, letter_after, what) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)""",
            [(self._path_id, now, self.host, process, *key, *change, what) for change in changes],
        )


def _put_back(file: FileRow) -> tuple[FileRow, bool]:
    """Put back what a dead process has claimed; where a new file has its name, with the time in its
    own, so that neither waits for the other. Returns it as it is called then, and whether it was
    there. Raises LocalError."""
    try:
        done = put_back(file.original, file.claimed)
    except FileExistsError:
        path = return_file(ClaimedFile(file.original, file.claimed))
        flush_directories([path.parent])
        return replace(file, original=path), True
    if not done and file.due and not os.path.lexists(file.due) and not is_gone(file.due):
        raise LocalError(f"{file.due.parent}: its directory is not there")
    return file, done


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """As `told`, but FileExistsError is an answer."""
    try:
        yield
    except FileExistsError:
        raise
    except OSError as error:
        raise LocalError(f"{path}: {error.strerror or error}") from None
