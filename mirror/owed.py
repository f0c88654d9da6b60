"""What is owed after a fileset has moved on: its import, its report, its post to a blackboard.

Part of the state (mirror.state): an import is noted after it is durable in catalogue.db, a report
before it is sent and again after it was registered, a post after the blackboard has it, so that a
kill at any instant repeats a step that does no harm when it is repeated.
"""

import sqlite3
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager

from mirror.records import DONE, QUEUED, Post, StatusReport

FAULTY = 1
"""The fault that a failed fileset is reported with; the status product has a number for it."""

_IMPORTS = f"SELECT id FROM fileset WHERE imported = 0 AND state = '{DONE}'"

# What was never reported as done, and what failed since it was last reported. A fault that lasts
# is one report, and not one every night.
_UNTOLD = f"""
SELECT id, 0 FROM fileset WHERE state = '{DONE}' AND reported IS NOT 0 AND reporting IS NULL
UNION ALL
SELECT id, {FAULTY} FROM fileset WHERE state = '{QUEUED}' AND attempts > 0 AND fault IS NOT NULL
AND gone = 0 AND reported IS NOT {FAULTY} AND reporting IS NULL
ORDER BY 1 LIMIT ?"""

# Two products may hold filesets of one name, and the status product has one for both.
_NEXT_NUMBER = """(SELECT max(other.reports) + 1 FROM fileset other
WHERE other.name = fileset.name AND other.product IN (SELECT id FROM product))"""

ANEW = -1
"""The blackboard has an entry of an earlier registration, if any."""

# As the index fileset_unposted has it, word by word: so SQLite finds what is owed without a look
# at the rest.
_STAND = """CASE
    WHEN state = 'done' THEN 5
    WHEN state <> 'queued' OR gone <> 0 THEN posted
    WHEN attempts > 0 AND fault IS NOT NULL THEN failed_step
    ELSE 0 END"""

_UNPOSTED = f"""
SELECT id, (SELECT p.name FROM product p WHERE p.id = product), name, full_name, {_STAND}, posted
FROM fileset WHERE posted IS NOT {_STAND} ORDER BY id LIMIT ?"""

_NAME = """UPDATE fileset SET full_name = EXISTS (SELECT 1 FROM fileset other
    WHERE other.name = fileset.name AND other.product IN (SELECT id FROM product)
    AND other.product <> fileset.product AND other.full_name = 0)
WHERE id = ?"""


class Owed:
    """Questions and answers about what is owed; `transaction` is the state's."""

    def __init__(
        self,
        database: sqlite3.Connection,
        transaction: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self._db = database
        self._transaction = transaction

    # Imports into catalogue.db

    def has_imports(self) -> bool:
        """Whether there are done filesets that are not in catalogue.db."""
        return self._db.execute(f"{_IMPORTS} LIMIT 1").fetchone() is not None

    def imports(self) -> list[int]:
        """The numbers of the done filesets that are not in catalogue.db, in the order of lists."""
        return [row[0] for row in self._db.execute(f"{_IMPORTS} ORDER BY id")]

    def imported(self, filesets: Iterable[int], stamp: str) -> None:
        """These filesets are in catalogue.db, which is at `stamp` now."""
        with self._transaction():
            self._db.executemany(
                "UPDATE fileset SET imported = 1 WHERE id = ?", ((one,) for one in filesets)
            )
            self._set_stamp(stamp)

    def import_again(self, stamp: str) -> None:
        """catalogue.db is another one than was written: nothing is known to be in it."""
        with self._transaction():
            self._db.execute("UPDATE fileset SET imported = 0 WHERE imported = 1")
            self._set_stamp(stamp)

    def stamp(self) -> str | None:
        """The catalogue.db that was written last, and how far it was then."""
        row = self._db.execute("SELECT value FROM meta WHERE key = 'catalogue'").fetchone()
        return row[0] if row else None

    def _set_stamp(self, stamp: str) -> None:
        self._db.execute("INSERT OR REPLACE INTO meta VALUES ('catalogue', ?)", (stamp,))

    # Reports to the status product

    def prepare_reports(self, count: int) -> None:
        """Settle up to `count` more reports, each with its number, before any of them is sent."""
        with self._transaction():
            found = self._db.execute(_UNTOLD, (count,)).fetchall()
            self._db.executemany(
                f"UPDATE fileset SET reporting = ?, reports = {_NEXT_NUMBER} WHERE id = ?",
                ((fault, fileset) for fileset, fault in found),
            )

    def reports(self, count: int) -> list[StatusReport]:
        """The first reports that are settled, and not known to be registered."""
        rows = self._db.execute(
            "SELECT f.id, p.name, f.name, f.reports, f.reporting FROM fileset f"
            " JOIN product p ON p.id = f.product WHERE f.reporting IS NOT NULL"
            " ORDER BY f.id LIMIT ?",
            (count,),
        )
        return [StatusReport(*row) for row in rows]

    def settle_reports(
        self, registered: Iterable[StatusReport], taken: Iterable[StatusReport]
    ) -> None:
        """Some reports are registered; of others the name is taken, and they get a new number."""
        with self._transaction():
            self._db.executemany(
                "UPDATE fileset SET reported = ?, reporting = NULL WHERE id = ?",
                ((one.fault, one.fileset) for one in registered),
            )
            self._db.executemany(
                f"UPDATE fileset SET reports = {_NEXT_NUMBER} WHERE id = ?",
                ((one.fileset,) for one in taken),
            )

    # Posts to a blackboard

    def begin_posts(self, board: str) -> None:
        """What is posted from now on goes to `board`; another one than before knows nothing."""
        known = self._db.execute("SELECT value FROM meta WHERE key = 'board'").fetchone()
        if known is not None and known[0] == board:
            return
        with self._transaction():
            self._db.execute("UPDATE fileset SET posted = NULL WHERE posted IS NOT NULL")
            self._db.execute("INSERT OR REPLACE INTO meta VALUES ('board', ?)", (board,))

    def posts(self, count: int) -> list[Post]:
        """The first `count` filesets that are not where the blackboard has them.

        One that was registered again is posted as listed first, whatever became of it: a post
        that is repeated after a kill must not have a done fileset begin anew.
        """
        rows = self._db.execute(_UNPOSTED, (count,)).fetchall()
        if unnamed := [(row[0],) for row in rows if row[3] is None]:
            with self._transaction():
                self._db.executemany(_NAME, unnamed)
            rows = self._db.execute(_UNPOSTED, (count,)).fetchall()
        return [
            Post(fileset, product, name, bool(full), 0 if posted == ANEW else stand, posted == ANEW)
            for fileset, product, name, full, stand, posted in rows
        ]

    def posted(self, posts: Iterable[Post]) -> None:
        """The blackboard has these posts."""
        with self._transaction():
            self._db.executemany(
                "UPDATE fileset SET posted = ? WHERE id = ?",
                ((one.stand, one.fileset) for one in posts),
            )
