"""A store into which filesets are registered, and files that lie ready for that."""

from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import md5
from pathlib import Path

from places import data_store

from server.catalogue import (
    Fileset,
    NewFile,
    NewFileset,
    add_product,
    catalogue,
    find_fileset,
    find_product,
)
from server.contents import files_after
from server.database import Database
from server.fileset_files import Mode
from server.register import Wanted, register
from server.site import Place, Site
from server.store_lock import LOCK_FILE

CONTENT = {"a.fits": b"SIMPLE  =" * 999, "b.tgz": b"\x1f\x8b" * 70000, "c.text": b""}
O1 = NewFileset("o1", "IPP-DIST", ("3", None, "11955"))
MODES = {"copy": Mode.COPY, "link": Mode.LINK}


class Store:
    """A site with the product gpc1, files that lie ready, and its catalogue."""

    def __init__(self, site: Site, database: Database, source: Path) -> None:
        self.site = site
        self.database = database
        self.source = source
        self.directory = site.root / "gpc1" / "o1"

    def register(self, mode: Mode = Mode.COPY, fileset: NewFileset = O1) -> None:
        """Register the files that lie ready."""
        done = register(self.site, self.database, "gpc1", fileset, self.wanted(), mode=mode)
        assert (done.files, done.bytes) == (3, sum(map(len, CONTENT.values())))

    def wanted(self) -> list[Wanted]:
        """The files that lie ready, by absolute paths."""
        values = {"tgz": ("XY01",)}
        kinds = [(name, name.partition(".")[2]) for name in CONTENT]
        return [Wanted(f"{self.source}/{name}", k, values.get(k, ())) for name, k in kinds]

    def put(self) -> None:
        """Place the files in the fileset's directory, as one does who registers in place."""
        self.directory.mkdir(parents=True)
        for name, data in CONTENT.items():
            (self.directory / name).write_bytes(data)

    def in_place(self, *names: str) -> None:
        """Register files by their names in place."""
        files = [Wanted(name, name.partition(".")[2]) for name in names or CONTENT]
        register(self.site, self.database, "gpc1", O1, files)

    def found(self) -> Fileset | None:
        """The fileset in the catalogue."""
        product = find_product(self.database, "gpc1")
        assert product
        return find_fileset(self.database, product, "o1")

    def rows(self) -> list[NewFile]:
        """Its files in the catalogue."""
        fileset = self.found()
        assert fileset
        return [entry.file for entry in files_after(self.database, fileset, 0, 100)]

    def held(self) -> dict[str, bytes]:
        """What a reader finds in the directory."""
        return {path.name: path.read_bytes() for path in self.directory.iterdir()}

    def whole(self) -> None:
        """The fileset is registered with everything that was asked for."""
        assert self.held() == CONTENT
        assert {file.name: (file.size, file.md5) for file in self.rows()} == {
            name: (len(data), md5(data).hexdigest()) for name, data in CONTENT.items()
        }
        assert [file.name for file in self.rows()] == list(CONTENT)

    def nothing_begun(self) -> None:
        """Not even a lock was taken."""
        assert self.found() is None
        assert [path.name for path in self.site.root.rglob("*")] == ["gpc1"]

    def nothing(self) -> None:
        """The fileset is in no list and nothing of it is on disk."""
        assert self.found() is None
        assert sorted(path.name for path in self.site.root.rglob("*")) == [LOCK_FILE, "gpc1"]


@contextmanager
def new_store(place: Place, directory: Path) -> Iterator[Store]:
    """A store with the product gpc1 and nothing in it."""
    source = directory / "source"
    source.mkdir()
    for name, data in CONTENT.items():
        (source / name).write_bytes(data)
    site = Site(data_store(directory), place, None)
    (site.root / "gpc1").mkdir()
    with catalogue(place, create=True) as database:
        add_product(database, "gpc1", "ipp-dist", "Exposures", ("target_id", "stage", "stage_id"))
        yield Store(site, database, source)
