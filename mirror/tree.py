"""Where everything stands below MIRROR_ROOT (DESIGN, "The mirror tree").

    data/                          the usable tree
    info/PRODUCT/FILESET/          index.txt as served, dirinfo, dbinfo with local paths
    store/                         with keep_bundles: a Data Store, ready to serve again
    .mirror/lock, state.db
    .mirror/partial/ID/            what has come of a file so far, and its validator
    .mirror/staging/ID/fetched/    files that are verified
    .mirror/staging/ID/unpacked/   a directory a component
    .mirror/staging/ID/made/       what is written here: dbinfo with local paths, copies

ID is the fileset's number in state.db.
"""

from dataclasses import dataclass
from pathlib import Path

DOUBT = "doubt"
"""A file in a fileset's staging directory: a power cut may have been since it was written."""


@dataclass(frozen=True, slots=True)
class Tree:
    """The directories of one mirror."""

    root: Path

    @property
    def private(self) -> Path:
        """What is never redistributed."""
        return self.root / ".mirror"

    @property
    def lock(self) -> Path:
        """The lock file of the run."""
        return self.private / "lock"

    @property
    def state(self) -> Path:
        """The state of the mirror."""
        return self.private / "state.db"

    @property
    def partial(self) -> Path:
        """Where files grow."""
        return self.private / "partial"

    @property
    def staging(self) -> Path:
        """Where filesets are put together."""
        return self.private / "staging"

    @property
    def visible(self) -> tuple[Path, Path, Path]:
        """data/, info/ and store/: all that users and downstream sites see."""
        return self.root / "data", self.root / "info", self.root / "store"

    def info_dir(self, product: str, fileset: str) -> str:
        """Where a fileset's lists and dbinfo stand, relative to the root."""
        return f"info/{product}/{fileset}"

    def store_dir(self, product: str, fileset: str) -> str:
        """Where a fileset stands in the kept Data Store, relative to the root."""
        return f"store/{product}/{fileset}"

    def plain_dir(self, product: str, fileset: str) -> str:
        """Where the files of a fileset without dirinfo stand, relative to the root."""
        return f"data/{product}/{fileset}"

    def stage(self, fileset: int) -> "Stage":
        """The private directories of a fileset in work."""
        return Stage(self.staging / str(fileset), self.partial / str(fileset))


@dataclass(frozen=True, slots=True)
class Stage:
    """The private directories of one fileset in work."""

    base: Path
    partial: Path

    @property
    def fetched(self) -> Path:
        """Verified files, by name."""
        return self.base / "fetched"

    @property
    def unpacked(self) -> Path:
        """A directory a component."""
        return self.base / "unpacked"

    @property
    def made(self) -> Path:
        """What is written here."""
        return self.base / "made"

    @property
    def dumps(self) -> Path:
        """Where a config dump is rewritten before it takes the old one's place."""
        return self.base / "dumps"

    @property
    def index(self) -> Path:
        """The fileset's list as served, which says what the verified files were verified by."""
        return self.base / "index.txt"
