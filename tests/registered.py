"""A registered store for tests: a catalogue, its files, and what is found under a URL."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from server.catalogue import (
    PROD_COLS,
    NewFile,
    NewFileset,
    Product,
    add_fileset,
    find_product,
)
from server.database import Database, Pool
from server.people.access import Verdict
from server.site import Place
from server.views.answers import Absent, Answer, File, Store, Stream, Visitor
from server.views.store import RegisteredStore

VISITOR = Visitor("192.0.2.1")
MOMENT = "2026-11-21T03:04:05Z"


def admit(database: Database, product: Product, visitor: Visitor) -> Callable[[], Verdict]:
    """Everything is everybody's."""
    return lambda: Verdict(None, private=False)


@dataclass(frozen=True)
class Registry:
    """A catalogue and the directory that its files stand in."""

    database: Database
    place: Place
    root: Path

    def register(
        self,
        product: str,
        fileset: str,
        contents: dict[str, bytes] | None = None,
        kind: str = "fits",
        *,
        hidden: bool = False,
    ) -> None:
        """Write files of one type, and register them as a fileset."""
        directory = self.root / product / fileset
        directory.mkdir(parents=True)
        files = []
        for name, data in (contents or {}).items():
            (directory / name).write_bytes(data)
            files.append(NewFile(name, len(data), hashlib.md5(data).hexdigest(), kind))
        new = NewFileset(fileset, "OBJECT", hidden=hidden)
        add_fileset(self.database, product, new, files)

    def fill(
        self, product: str, rows: Sequence[Sequence[str | None]], kind: str = "OBJECT"
    ) -> None:
        """Register filesets without files: their names and values, as many as there are columns."""
        found = find_product(self.database, product)
        assert found
        count = len(found.columns)
        marks = ", ".join("?" * (5 + count))
        columns = ", ".join(PROD_COLS.split(", ")[:count])
        sql = f"""INSERT INTO dsFileset (prod_id, fileset_name, reg_time, hide, type
            {"," if count else ""} {columns}) VALUES ({marks})"""
        with self.database.write():
            self.database.change_many(
                sql, [(found.id, row[0], MOMENT, 0, kind, *row[1:]) for row in rows]
            )

    @contextmanager
    def store(self, link_roots: tuple[Path, ...] | None = None) -> Iterator[RegisteredStore]:
        """The store of this catalogue, open to everybody."""
        pool = Pool(self.place, size=2)
        try:
            yield RegisteredStore(self.root, pool, link_roots, admit)
        finally:
            pool.close()


def answer_of(store: Store, path: str, query: str = "") -> Answer:
    """What is found, without what stays open inside the `with`."""
    with store.find(path, query, VISITOR) as answer:
        return answer


def body_of(store: Store, path: str, query: str = "") -> bytes:
    """The whole of a list or page, of as many bytes as it says."""
    with store.find(path, query, VISITOR) as answer:
        assert isinstance(answer, Stream), answer
        body = b"".join(answer.chunks)
        assert answer.length in (None, len(body))
        return body


def file_of(store: Store, path: str) -> tuple[File, bytes]:
    """A file as it is answered, and its bytes."""
    with store.find(path, "", VISITOR) as answer:
        assert isinstance(answer, File), answer
        with open(answer.descriptor, "rb", closefd=False) as opened:
            return answer, opened.read()


def reason_of(store: Store, path: str, query: str = "") -> str:
    """Why there is nothing."""
    answer = answer_of(store, path, query)
    assert isinstance(answer, Absent), answer
    return answer.reason
