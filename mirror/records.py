"""The records of the state: products, filesets, and what becomes of them."""

from dataclasses import dataclass

QUEUED = "queued"
COMMITTING = "committing"
DONE = "done"
SKIPPED = "skipped"

STEPS = ("LI", "FE", "UN", "RW", "DN")
"""The steps of a fileset, as a blackboard has them: listed, fetched, unpacked, rewritten, done."""

FETCHING, UNPACKING, REWRITING, MOVING = range(1, len(STEPS))
"""The steps at which a fileset may fail."""


@dataclass(frozen=True, slots=True)
class Product:
    """What is known of a product."""

    id: int
    name: str
    last_fileset: str | None
    modified: str | None
    selection: str | None
    relist: bool
    ignores_query: bool
    newest: str | None
    listed_at: str | None
    type: str
    description: str
    stored_last: str | None
    stored_time: str | None


@dataclass(frozen=True, slots=True)
class Fileset:
    """A fileset as the state holds it."""

    id: int
    product: str
    name: str
    registered: str
    header: str
    row: str
    state: str
    fault: str | None
    faulty_file: str | None
    attempts: int
    files: int | None
    bytes: int | None
    info_dir: str | None
    data_dir: str | None
    repair: str | None
    held: bool
    gone: bool

    @property
    def repair_files(self) -> frozenset[str] | None:
        """The names to fetch again, or None for the whole fileset."""
        return None if self.repair is None else frozenset(self.repair.split("\n"))


@dataclass(frozen=True, slots=True)
class NewFileset:
    """A row of a product's list on its way into the state."""

    id: int
    name: str
    registered: str
    type: str
    header: int
    row: str
    state: str


@dataclass(frozen=True, slots=True)
class Done:
    """A fileset that stands in the tree; `hook` and `to_list` tell what is still to be done.

    A repaired fileset is not `to_list`: store/'s list has it already, or it is still to come.
    """

    fileset: int
    files: int
    bytes: int
    seconds: float
    info_dir: str
    data_dir: str
    hook: bool
    to_list: bool


@dataclass(frozen=True, slots=True)
class Summary:
    """A product in figures; `bytes` and `seconds` are of what is done."""

    product: str
    listed: int
    done: int
    queued: int
    failed: int
    bytes: int
    seconds: float
    newest: str | None
    last_fileset: str | None


@dataclass(frozen=True, slots=True)
class StatusReport:
    """A report to the status product: what became of a fileset, 0 for done, else its fault.

    `number` counts the reports of filesets of this name.
    """

    fileset: int
    product: str
    name: str
    number: int
    fault: int

    @property
    def status_name(self) -> str:
        """The name of the status fileset: the first one is the fileset's own."""
        return self.name if self.number == 1 else f"{self.name}.{self.number}"


@dataclass(frozen=True, slots=True)
class Post:
    """What a blackboard is to be told of a fileset.

    `stand`: 0 listed, 5 done, and between them the step that failed. `anew`: it was registered
    again, so that its entry begins anew. `full_name`: another product's fileset has the short one.
    """

    fileset: int
    product: str
    name: str
    full_name: bool
    stand: int
    anew: bool

    @property
    def dataset(self) -> str:
        """What the entry is called."""
        return f"{self.name}@{self.product}" if self.full_name else self.name

    @property
    def states(self) -> dict[str, str]:
        """The letter of each step: c complete, x failed, w waiting."""
        done = max(1, self.stand)
        failed = "x" if 0 < self.stand < len(STEPS) else ""
        letters = ("c" * done + failed).ljust(len(STEPS), "w")
        return dict(zip(STEPS, letters, strict=True))
