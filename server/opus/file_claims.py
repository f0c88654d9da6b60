"""What the board knows of the files that processes have claimed: each step is written down before
it is done, so that whoever finds the claims of a dead process knows what is to be done.

A claim begins with the name that the file had and the one that it has in work. In a move to another
file system there is a second copy, one of the two being superfluous. A file for which FILE_ACTION
is due stays on the board, under its new name, until that has returned: if its process ends before,
the next one of its name runs it. So FILE_ACTION runs at least once.
"""

import hashlib
import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote_to_bytes

from server.database import Database, Row
from server.opus import liveness
from server.opus.moving import is_gone, is_hidden_copy
from server.opus.processes import ProcessBoard

LONGEST_MARK = 1000
"""A key of the table is no longer; of a longer path it is a hash."""

_SELECT = "SELECT mark, original, claimed, spare, due FROM opusFile"


@dataclass(frozen=True, slots=True)
class FileRow:
    """What the board knows of a file.

    `mark`: its key, of a holder. `spare`: a second copy, which is to be removed: first the new one,
    and once that is complete and `claimed`, the old one. `due`: what the file is called, or will
    be, when FILE_ACTION is due for it; None where none is. It is due once `claimed` is the same.
    """

    mark: str
    original: Path
    claimed: Path
    spare: Path | None
    due: Path | None

    @property
    def is_settled(self) -> bool:
        """Whether nothing is left to do but FILE_ACTION."""
        return self.due == self.claimed


class FileBoard(ProcessBoard):
    """The board of one path, as far as it is about claimed files."""

    def note_file(self, holder: int, original: Path, claimed: Path) -> None:
        """Say, before it is done, that the process renames a file to claim it."""
        with self._write() as database:
            own = self._own(database, holder)[0]
            _put(database, own, FileRow(mark_of(claimed), original, claimed, None, None))

    def note_copy(self, holder: int, claimed: Path, copy: Path) -> None:
        """Say, before it is done, that a claimed file is copied."""
        self._set(holder, claimed, "spare", copy)

    def note_action(self, holder: int, claimed: Path, path: Path) -> None:
        """Say, before it is done, that a claimed file gets the name `path`, and that FILE_ACTION is
        due for it then."""
        self._set(holder, claimed, "due", path)

    def move_file(
        self, holder: int, claimed: Path, original: Path, copy: Path, due: Path | None = None
    ) -> None:
        """Say that from now on `copy` is what is claimed, to be called `original` in the end, and
        what was claimed is to be removed.

        In one step: whoever returns the claims of the dead sees one of the two.
        """
        with self._write() as database:
            own = self._own(database, holder)[0]
            _remove(database, own, mark_of(claimed))
            _put(database, own, FileRow(mark_of(copy), original, copy, claimed, due))

    def begin_action(self, holder: int, claimed: Path, path: Path) -> None:
        """Say that a file is called `path` now, and FILE_ACTION is due for it."""
        with self._write() as database:
            _begin_action(database, self._own(database, holder)[0], mark_of(claimed), path)

    def forget_file(self, holder: int, claimed: Path) -> None:
        """Say, after it was done, that the outcome was applied, FILE_ACTION too, or the claim not
        won."""
        with self._write() as database:
            _remove(database, self._number(holder), mark_of(claimed))

    def take_actions(self, holder: int, name: str) -> list[Path]:
        """Take over, for the process `holder`, the files over whose FILE_ACTION processes of the
        same name have ended; those that are gone are forgotten. Cheap where there are none."""
        if not self._due_of(name, self._number(holder)):
            return []
        with self._write() as database:
            own = self._own(database, holder)[0]
            return self._taken(database, own, self._due_of(name, own))

    def file_rows(self, holder: int) -> list[FileRow]:
        """What the board knows of the files of a process."""
        sql = f"{_SELECT} WHERE holder_id = ? ORDER BY claimed"
        rows = self._read(sql, self._number(holder))
        return [_file_row(row) for row in rows]

    def _files(self, holder: int) -> list[tuple[Path, Path]]:
        """The claimed files as (original, claimed)."""
        return [(one.original, one.claimed) for one in self.file_rows(holder) if not one.is_settled]

    def _set(self, holder: int, claimed: Path, column: str, path: Path) -> None:
        with self._write() as database:
            database.change(
                f"UPDATE opusFile SET {column} = ? WHERE holder_id = ? AND mark = ?",
                kept_path(path), self._number(holder), mark_of(claimed),
            )  # fmt: skip

    def _due_of(self, name: str, own: int) -> list[Row]:
        """Mark, file, holder and host of the actions that other processes of a name have left,
        dead."""
        rows = self._read(
            """SELECT f.mark, f.due, p.holder_id, p.host, p.token FROM opusFile f
            JOIN opusProcess p ON p.holder_id = f.holder_id
            WHERE p.path_id = ? AND p.name = ? AND p.holder_id <> ? AND f.due = f.claimed
            ORDER BY f.holder_id, f.claimed""",
            self._path_id, name, own,
        )  # fmt: skip
        if not rows:
            return []
        witness = liveness.Witness(self.directory)
        try:
            return [
                row
                for row in rows
                if witness.dead(row[2], row[4]) and not witness.elsewhere(row[4])
            ]
        finally:
            witness.close()

    def _taken(self, database: Database, holder: int, rows: Iterable[Row]) -> list[Path]:
        taken = []
        for mark, due, dead, host, _ in rows:
            path = _path(due)
            there = os.path.lexists(path)
            # On another host the directory may be another one.
            if there or (host == self.host and is_gone(path)):
                _remove(database, dead, mark)
            if there:
                _put(database, holder, FileRow(mark, path, path, None, path))
                taken.append(path)
        return taken

    # What reaping does

    def _settle_dead(
        self, database: Database, holder: int, row: FileRow, *, done: bool, here: bool
    ) -> Path | None:
        """End the claim of a dead process, after what was claimed was put back (`done`) or was not
        there; returns the file for which FILE_ACTION is due now, if there is one."""
        file = row.due
        if done:
            # It goes back, but a copy to another file system goes on.
            file = row.original if row.due and is_hidden_copy(row.claimed) else None
        if file and os.path.lexists(file):
            _begin_action(database, holder, row.mark, file)
            return file
        # On another host the directory may be another one.
        if done or (here and (row.due is None or is_gone(row.due))):
            _remove(database, holder, row.mark)
        return None

    def _claimed_by_the_living(self, database: Database, mark: str) -> bool:
        rows = database.rows(
            """SELECT p.holder_id, p.token FROM opusFile f
            JOIN opusProcess p ON p.holder_id = f.holder_id WHERE f.mark = ?""",
            mark,
        )
        witness = liveness.Witness(self.directory)
        try:
            return any(not witness.dead(*row) for row in rows)
        finally:
            witness.close()

    def _remove_spare(self, database: Database, row: FileRow) -> None:
        """Remove the superfluous one of two copies of a dead process's file. Raises OSError."""
        if row.spare is None:
            return
        if not is_hidden_copy(row.spare):
            # By now this name may be that of another file.
            claimed = database.row("SELECT 1 FROM opusFile WHERE mark = ?", mark_of(row.spare))
            if claimed or not _is_copy(row.spare, row.claimed, row.original):
                return
        with suppress(FileNotFoundError):
            os.unlink(row.spare)


def _is_copy(file: Path, *copies: Path) -> bool:
    """Whether one of these was copied from a file: they have its length and its time, or are
    symbolic links that say the same."""
    with suppress(FileNotFoundError):
        seen = os.lstat(file)
        for copy in copies:
            with suppress(FileNotFoundError):
                other = os.lstat(copy)
                if stat.S_ISLNK(seen.st_mode) or stat.S_ISLNK(other.st_mode):
                    both = stat.S_IFMT(seen.st_mode) == stat.S_IFMT(other.st_mode)
                    return both and os.readlink(file) == os.readlink(copy)
                return (seen.st_size, seen.st_mtime_ns) == (other.st_size, other.st_mtime_ns)
    return False


def _put(database: Database, holder: int, row: FileRow) -> None:
    database.change(
        """INSERT INTO opusFile (holder_id, mark, original, claimed, spare, due)
        VALUES (?, ?, ?, ?, ?, ?)
        ON CONFLICT (holder_id, mark) DO UPDATE SET original = excluded.original,
            claimed = excluded.claimed, spare = excluded.spare, due = excluded.due""",
        holder, row.mark, kept_path(row.original), kept_path(row.claimed),
        row.spare and kept_path(row.spare), row.due and kept_path(row.due),
    )  # fmt: skip


def _remove(database: Database, holder: int, mark: str) -> None:
    database.change("DELETE FROM opusFile WHERE holder_id = ? AND mark = ?", holder, mark)


def _begin_action(database: Database, holder: int, mark: str, path: Path) -> None:
    _remove(database, holder, mark)
    _put(database, holder, FileRow(mark_of(path), path, path, None, path))


def _file_row(row: Row) -> FileRow:
    mark, original, claimed, spare, due = row
    return FileRow(
        mark, _path(original), _path(claimed), spare and _path(spare), due and _path(due)
    )


def mark_of(path: Path) -> str:
    """The key of a path in the table: an index takes no text of any length."""
    kept = kept_path(path)
    if len(kept) <= LONGEST_MARK:
        return kept
    return hashlib.sha256(kept.encode("ascii")).hexdigest()


def kept_path(path: Path) -> str:
    """A path as the board keeps it: of any bytes, made absolute, in ASCII."""
    return quote(os.fsencode(os.path.abspath(path)))


def _path(text: str) -> Path:
    return Path(os.fsdecode(unquote_to_bytes(text)))
