"""What was seen, what is done, what failed: one SQLite file, `.mirror/state.db`.

The methods are the questions and answers of the run; the tables behind them are mirror.database's.
One thread uses a State: the run's coordinator.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from mirror.database import open_database, scratch_copy, told
from mirror.owed import ANEW, Owed
from mirror.plan import Known
from mirror.records import (
    COMMITTING,
    DONE,
    FETCHING,
    QUEUED,
    Done,
    Fileset,
    NewFileset,
    Product,
    Summary,
)

_FILESET = (
    "SELECT f.id, p.name, f.name, f.registered, h.text, f.row, f.state, f.fault, f.faulty_file,"
    " f.attempts, f.files, f.bytes, f.info_dir, f.data_dir, f.repair,"
    " f.held, f.gone FROM fileset f"
    " JOIN product p ON p.id = f.product JOIN header h ON h.id = f.header "
)
_PRODUCT = (
    "SELECT id, name, last_fileset, modified, selection, relist, ignores_query, newest, listed_at,"
    " type, description, stored_last, stored_time FROM product "
)


class State:
    """The state of one mirror."""

    def __init__(self, database: sqlite3.Connection, path: Path) -> None:
        self._db = database
        self._path = path
        self.owed = Owed(database, self.transaction)

    @classmethod
    def open(cls, path: Path, *, upgrade: bool = True) -> "State":
        """Open the state, or begin it. Raises LocalError where it is damaged or too new.

        `upgrade`: False leaves one of an older format as it is; then `owed` is not to be asked.
        """
        return cls(open_database(path, upgrade=upgrade), path)

    @classmethod
    def scratch(cls, path: Path) -> "State":
        """A private copy of the state at `path` (empty if there is none), gone when closed.

        For a dry run, which decides everything as a real one does and changes nothing on disk.
        """
        return cls(scratch_copy(path), path)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing of what is done inside, durable when it ends."""
        with told(self._path):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    def meta(self, key: str) -> str | None:
        """A single value kept under `key`."""
        found = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return found[0] if found else None

    def set_meta(self, key: str, value: str) -> None:
        """Keep a single value under `key`."""
        self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    # Products

    def product(self, name: str) -> Product:
        """What is known of a product; a new one is begun."""
        found = self._db.execute(_PRODUCT + "WHERE name = ?", (name,)).fetchone()
        if found is None:
            self._db.execute("INSERT INTO product (name) VALUES (?)", (name,))
            found = self._db.execute(_PRODUCT + "WHERE name = ?", (name,)).fetchone()
        return Product(*found)

    def products(self) -> list[Product]:
        """All products that were ever listed."""
        return [Product(*found) for found in self._db.execute(_PRODUCT + "ORDER BY id")]

    def is_known(self, name: str) -> bool:
        """Whether a product was listed before."""
        sql = "SELECT 1 FROM product WHERE name = ? AND listed_at IS NOT NULL"
        return self._db.execute(sql, (name,)).fetchone() is not None

    def set_product(self, product: int, **columns: object) -> None:
        """Change columns of a product."""
        names = ", ".join(f"{name} = ?" for name in columns)
        self._db.execute(f"UPDATE product SET {names} WHERE id = ?", (*columns.values(), product))

    # Filesets on their way in

    def header_id(self, text: str) -> int:
        """The number under which a header line is kept."""
        self._db.execute("INSERT OR IGNORE INTO header (text) VALUES (?)", (text,))
        found = self._db.execute("SELECT id FROM header WHERE text = ?", (text,)).fetchone()
        return int(found[0])

    def next_id(self) -> int:
        """The first free fileset number."""
        return int(self._db.execute("SELECT ifnull(max(id), 0) + 1 FROM fileset").fetchone()[0])

    def known(self, product: int, names: Sequence[str]) -> dict[str, Known]:
        """What is known of these filesets of a product, by name."""
        marks = ",".join("?" * len(names))
        rows = self._db.execute(
            "SELECT name, id, registered, type, state, held, gone FROM fileset"
            f" WHERE product = ? AND name IN ({marks})",
            (product, *names),
        )
        return {row[0]: Known(*row[1:]) for row in rows}

    def add(self, product: int, filesets: Iterable[NewFileset]) -> None:
        """Take in filesets that were not known."""
        self._db.executemany(
            "INSERT INTO fileset (id, product, name, registered, type, header, row, state)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                (
                    one.id,
                    product,
                    one.name,
                    one.registered,
                    one.type,
                    one.header,
                    one.row,
                    one.state,
                )
                for one in filesets
            ),
        )

    def replace(self, known: int, one: NewFileset) -> None:
        """Take in a later registration of a known fileset, which moves to the end of the order.

        The manifest of what is in the tree stays until the new one is done.
        """
        self._db.execute(
            "UPDATE fileset SET id = ?, registered = ?, type = ?, header = ?, row = ?, state = ?,"
            " fault = NULL, faulty_file = NULL, attempts = 0, failed_run = 0, repair = NULL,"
            " held = 0, gone = 0, reported = NULL, reporting = NULL, posted = ? WHERE id = ?",
            (one.id, one.registered, one.type, one.header, one.row, one.state, ANEW, known),
        )
        self._db.execute("UPDATE manifest SET fileset = ? WHERE fileset = ?", (one.id, known))

    def set_states(self, changes: Iterable[tuple[str, int]]) -> None:
        """Change the state of filesets: (state, fileset number)."""
        self._db.executemany("UPDATE fileset SET state = ? WHERE id = ?", changes)

    def hold(self, fileset: int, fault: str) -> None:
        """Keep a fileset as it is until the lists agree about it again."""
        self._db.execute("UPDATE fileset SET held = 1, fault = ? WHERE id = ?", (fault, fileset))

    def release(self, fileset: int) -> None:
        """The list shows a fileset as it should: it is neither held nor gone."""
        sql = "UPDATE fileset SET held = 0, gone = 0, fault = NULL WHERE id = ?"
        self._db.execute(sql, (fileset,))

    def mark_gone(self, filesets: Iterable[int]) -> None:
        """The list has lost these filesets: what is here stays, what is queued is not fetched."""
        self._db.executemany("UPDATE fileset SET gone = 1 WHERE id = ?", ((i,) for i in filesets))

    def numbers(self, product: int) -> Iterator[int]:
        """The numbers of all filesets of a product, from the index alone."""
        sql = "SELECT id FROM fileset WHERE product = ?"
        return (row[0] for row in self._db.execute(sql, (product,)))

    def is_gone(self, fileset: int) -> bool:
        """Whether the list had lost a fileset before."""
        sql = "SELECT gone FROM fileset WHERE id = ?"
        return bool(self._db.execute(sql, (fileset,)).fetchone()[0])

    def has_held(self, product: int) -> bool:
        """Whether a product has held filesets."""
        sql = "SELECT 1 FROM fileset WHERE product = ? AND held = 1"
        return self._db.execute(sql, (product,)).fetchone() is not None

    def of_product(self, product: int, *states: str) -> Iterator[Fileset]:
        """The filesets of a product in any of the given states, in the order of the list."""
        marks = ",".join("?" * len(states))
        sql = f"{_FILESET}WHERE f.product = ? AND f.state IN ({marks}) ORDER BY f.id"
        return (Fileset(*row) for row in self._db.execute(sql, (product, *states)))

    def by_id(self, fileset: int) -> Fileset:
        """One fileset."""
        found = self._db.execute(_FILESET + "WHERE f.id = ?", (fileset,)).fetchone()
        return Fileset(*found)

    # Filesets in work

    def queue(self, run: int, after: tuple[int, int], count: int) -> list[Fileset]:
        """The next queued filesets after (attempts, number): untried ones first.

        Those that failed in this run are left out, so that each is tried once a run.
        """
        sql = (
            f"{_FILESET}WHERE f.state = '{QUEUED}' AND f.failed_run < ?"
            " AND f.held = 0 AND f.gone = 0 AND (f.attempts, f.id) > (?, ?)"
            " ORDER BY f.attempts, f.id LIMIT ?"
        )
        return [Fileset(*row) for row in self._db.execute(sql, (run, *after, count))]

    def queued(self) -> dict[str, int]:
        """How many filesets of each product are queued."""
        sql = (
            "SELECT p.name, count(*) FROM fileset f JOIN product p ON p.id = f.product"
            f" WHERE f.state = '{QUEUED}' AND f.gone = 0 GROUP BY p.id"
        )
        return dict(self._db.execute(sql).fetchall())

    def adopt(self, known: int, one: NewFileset) -> None:
        """Take in the row of a fileset that was found in the tree when the state was rebuilt."""
        self._db.execute(
            "UPDATE fileset SET id = ?, registered = ?, type = ?, header = ?, row = ? WHERE id = ?",
            (one.id, one.registered, one.type, one.header, one.row, known),
        )
        self._db.execute("UPDATE manifest SET fileset = ? WHERE fileset = ?", (one.id, known))

    def committing(self) -> list[Fileset]:
        """The filesets that a killed run left on their way into the tree."""
        sql = f"{_FILESET}WHERE f.state = '{COMMITTING}' ORDER BY f.id"
        return [Fileset(*row) for row in self._db.execute(sql)]

    def is_queued(self, fileset: int) -> bool:
        """Whether a fileset is still to be fetched, so that what is fetched of it is of use."""
        sql = f"SELECT 1 FROM fileset WHERE id = ? AND state = '{QUEUED}' AND gone = 0"
        return self._db.execute(sql, (fileset,)).fetchone() is not None

    def fail(
        self, fileset: int, run: int, fault: str, file: str | None, step: int = FETCHING
    ) -> None:
        """Record the fault of a fileset, which stays queued, and the step that failed."""
        with self.transaction():
            self._db.execute(
                "UPDATE fileset SET fault = ?, faulty_file = ?, attempts = attempts + 1,"
                " failed_run = ?, failed_step = ? WHERE id = ?",
                (fault, file, run, step, fileset),
            )

    def begin_commit(self, entries: Iterable[tuple[int, bytes]]) -> None:
        """Record that these filesets, whose manifests are given, are moving into the tree.

        From here on a killed run is completed by the next one without asking the network.
        """
        with self.transaction():
            for fileset, manifest in entries:
                self._db.execute(
                    f"UPDATE fileset SET state = '{COMMITTING}' WHERE id = ?", (fileset,)
                )
                self._db.execute(
                    "INSERT OR REPLACE INTO manifest VALUES (?, ?)", (fileset, manifest)
                )

    def finish(self, done: Iterable[Done], done_at: str) -> None:
        """Record filesets that stand in the tree, durably, as done."""
        with self.transaction():
            self._db.executemany(
                f"UPDATE fileset SET state = '{DONE}', fault = NULL, faulty_file = NULL,"
                " attempts = 0, repair = NULL, files = ?, bytes = ?, seconds = ?, info_dir = ?,"
                " data_dir = ?, hook = ?, to_list = max(to_list, ?), done_at = ?, imported = 0"
                " WHERE id = ?",
                (
                    (
                        one.files, one.bytes, one.seconds, one.info_dir, one.data_dir,
                        one.hook, one.to_list, done_at, one.fileset,
                    )
                    for one in done
                ),
            )  # fmt: skip

    def rebuilt(self, fileset: int, manifest: bytes, info_dir: str) -> None:
        """Keep what is known of a fileset that was found in the tree."""
        self._db.execute("INSERT INTO manifest VALUES (?, ?)", (fileset, manifest))
        sql = "UPDATE fileset SET info_dir = ? WHERE id = ?"
        self._db.execute(sql, (info_dir, fileset))

    def manifest(self, fileset: int) -> bytes | None:
        """The packed manifest of a fileset."""
        sql = "SELECT entries FROM manifest WHERE fileset = ?"
        found = self._db.execute(sql, (fileset,)).fetchone()
        return found[0] if found else None

    def requeue(self, fileset: int, files: Iterable[str] | None) -> None:
        """Queue a done fileset again, to fetch `files` of it anew (all if None)."""
        repair = None if files is None else "\n".join(sorted(files))
        self._db.execute(
            f"UPDATE fileset SET state = '{QUEUED}', attempts = 0, failed_run = 0, repair = ?"
            " WHERE id = ?",
            (repair, fileset),
        )

    # Figures

    def summaries(self) -> list[Summary]:
        """Every product in figures."""
        sql = (
            "SELECT p.name, count(f.id), ifnull(sum(f.state = 'done'), 0),"
            " ifnull(sum(f.state = 'queued' AND f.gone = 0), 0),"
            " ifnull(sum(f.state = 'queued' AND f.gone = 0 AND f.fault IS NOT NULL), 0),"
            " ifnull(sum(f.bytes), 0), ifnull(sum(f.seconds), 0), p.newest, p.last_fileset"
            " FROM product p LEFT JOIN fileset f ON f.product = p.id GROUP BY p.id ORDER BY p.id"
        )
        return [Summary(*row) for row in self._db.execute(sql)]

    def faulty(self) -> list[Fileset]:
        """The filesets with a fault that is not mended yet."""
        sql = f"{_FILESET}WHERE f.fault IS NOT NULL AND f.gone = 0 ORDER BY f.id"
        return [Fileset(*row) for row in self._db.execute(sql)]

    def to_repair(self, product: int) -> list[Fileset]:
        """The filesets of a product that were found damaged and are not repaired yet."""
        sql = f"{_FILESET}WHERE f.product = ? AND f.state = '{QUEUED}' AND f.repair IS NOT NULL"
        return [Fileset(*row) for row in self._db.execute(sql, (product,))]

    # What is left to do after a fileset is done

    def hooks(self) -> list[Fileset]:
        """The done filesets for which after_fileset has still to run."""
        return [
            Fileset(*row)
            for row in self._db.execute(_FILESET + "WHERE f.hook = 1 AND f.state = 'done'")
        ]

    def hook_done(self, fileset: int) -> None:
        """after_fileset has run for this fileset."""
        self._db.execute("UPDATE fileset SET hook = 0 WHERE id = ?", (fileset,))

    def to_list(self, product: int) -> list[Fileset]:
        """The done filesets of a product that store/'s lists do not show yet, in upstream order."""
        sql = (
            f"{_FILESET}WHERE f.product = ? AND f.to_list = 1 AND f.state = '{DONE}' ORDER BY f.id"
        )
        return [Fileset(*row) for row in self._db.execute(sql, (product,))]

    def listed(self, filesets: Iterable[int]) -> None:
        """store/'s lists show these filesets now."""
        self._db.executemany(
            "UPDATE fileset SET to_list = 0 WHERE id = ?", ((one,) for one in filesets)
        )
