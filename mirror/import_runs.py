"""import_runs: the dbinfo of every fileset that is done goes into MIRROR_ROOT/catalogue.db.

What is still to be imported is in the state, and follows the file: where catalogue.db is not the
one that was written last, or is an older copy of it, everything that is done is imported again.
"""

from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from mirror import disk
from mirror.errors import IntegrityError, LocalError, MirrorError
from mirror.halt import Halt, HaltedError
from mirror.listing import INDEX, read_files
from mirror.loop import Loop
from mirror.plan import Kind, plan_fileset
from mirror.records import Fileset
from mirror.report import Report, utc_now
from mirror.runs_database import NAME, RunsDatabase, Stamp, opened
from mirror.state import State

MOST = 64
"""Filesets that are imported in one transaction: a flush costs the same for all."""

ADVICE = "; it is tried again with the next run"


@dataclass(slots=True)
class _Group:
    """Filesets imported together; `same`: the catalogue is the one that was known."""

    stamp: Stamp
    same: bool
    done: list[int] = field(default_factory=list)
    failed: list[tuple[Fileset, str]] = field(default_factory=list)


def is_due(root: Path, state: State) -> bool:
    """Whether there is something to import, or to say about catalogue.db."""
    if state.owed.has_imports() or not (root / NAME).exists():
        return True
    try:
        with opened(root / NAME) as database:
            return not database.stamp().follows(state.owed.stamp())
    except LocalError:
        return True


class Importer:
    """Imports in a thread of its own, beside the transfers; the coordinator's thread calls it."""

    def __init__(self, loop: Loop, root: Path, state: State, report: Report, halt: Halt) -> None:
        self._loop = loop
        self._root = root
        self._state = state
        self._report = report
        self._halt = halt
        self._pool = ThreadPoolExecutor(1, "import")
        self._backlog: deque[int] = deque()
        self._fresh: deque[int] = deque()
        self._busy = self._begun = self._failed = False

    def begin(self) -> None:
        """See whether catalogue.db is the one that was written last, and what it does not have."""
        self._submit([])

    def add(self, fileset: int) -> None:
        """A fileset that is done now."""
        self._fresh.append(fileset)

    def start(self) -> None:
        """Import the next filesets, if none are under way.

        Those of this run come first, and after a deadline alone: they are work that was begun.
        """
        if self._busy or self._failed or self._halt.interrupted:
            return
        waiting = self._fresh or (None if self._halt.reason else self._backlog)
        if waiting:
            numbers = [waiting.popleft() for _ in range(min(MOST, len(waiting)))]
            self._submit([self._state.by_id(number) for number in numbers])

    def close(self) -> None:
        """Begin nothing more."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _submit(self, filesets: Sequence[Fileset]) -> None:
        self._busy = True
        work = partial(_import, self._root, filesets, self._state.owed.stamp(), self._halt)
        self._loop.submit(self._pool, work, self._imported, self._give_up)

    def _imported(self, group: _Group) -> None:
        self._busy = False
        owed = self._state.owed
        if not group.same:
            owed.import_again(str(group.stamp))
        elif group.done:
            owed.imported(group.done, str(group.stamp))
        for fileset, fault in group.failed:
            self._report.fault(fault, fileset.product, fileset.name)
        if not group.same or not self._begun:
            self._begun = True
            self._fresh.clear()
            self._backlog = deque(owed.imports())

    def _give_up(self, error: MirrorError) -> None:
        """The catalogue itself is in the way: told once, and tried again with the next run."""
        self._busy, self._failed = False, True
        if not isinstance(error, HaltedError):
            self._report.fault(f"import_runs: {error}")


def _import(root: Path, filesets: Sequence[Fileset], known: str | None, halt: Halt) -> _Group:
    """Import some filesets in one transaction; each is in it whole, or not at all."""
    path = root / NAME
    with disk.told(path), opened(path) as database:
        stamp = database.stamp()
        if not stamp.follows(known) or not filesets:
            return _Group(stamp, stamp.follows(known))
        group = _Group(stamp, same=True)
        with database.write():
            for fileset in filesets:
                if halt.interrupted:
                    break
                try:
                    _import_one(database, root, fileset)
                    group.done.append(fileset.id)
                except (IntegrityError, LocalError) as error:
                    group.failed.append((fileset, f"import_runs: {_first(error)}{ADVICE}"))
        group.stamp = database.stamp()
        return group


def _import_one(database: RunsDatabase, root: Path, fileset: Fileset) -> None:
    """Import the dbinfo of one fileset, if it has one."""
    info = fileset.info_dir or ""
    name = _dbinfo(root / info)
    if name is None:
        return
    from mirror.run_tables import import_run

    place = f"{info}/{name}"
    with disk.told(root / place), open(root / place, "rb") as source, database.part():
        import_run(database, source, place)
        database.note(fileset.product, fileset.name, fileset.registered, place, utc_now())


def _dbinfo(info: Path) -> str | None:
    """The name of a fileset's dbinfo, which its list tells; None where it has none."""
    with disk.told(info):
        plan = plan_fileset(read_files([(info / INDEX).read_bytes()]))
    return next((file.row.name for file in plan.files if file.kind is Kind.DBINFO), None)


def _first(error: MirrorError) -> str:
    """The first problem of a document: a line a fileset is enough, and all are found again."""
    lines = str(error).splitlines()
    more = f" (and {len(lines) - 1} more problems)" if len(lines) > 1 else ""
    return lines[0] + more
