"""A row of a fault table on trial: a store, a site, and what must hold whatever was done to them.

A row says what is done to the client and how its run ends; `Trial` holds after every run that the
visible tree has only complete and right filesets, that no cursor has passed what is not queued,
that nothing outside the mirror was touched, and that the output is one line a trouble. Rows run
side by side in threads, each with a store and a site of its own, because most of them wait.
"""

import json
import os
import re
import sqlite3
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

import pytest
from client import MirrorSite
from expected import Tree, expected_fileset, rows
from inject import Ended, Forks, Plan, Running
from simulator import Simulator

PREFIX = "path://MIRROR"
"""data_prefix of every trial, so that trees of different sites compare."""

HERE = "update_mirror: "
"""How every line on standard error begins."""

WORKERS = 6

MEMORY = 150 << 20
"""Bytes that a run may take at most, whatever it is sent."""

Case = TypeVar("Case")


class Outcome(Enum):
    """How a run may end, as the fault table defines it; the value is the exit status."""

    FINE = (0, "everything is mirrored, without a word of trouble")
    RETRY = (1, "tried within the budget; stays queued")
    REJECT = (1, "the fileset fails, the others proceed")
    HOLD = (1, "nothing is deleted or replaced, reported until it is settled")
    UNLISTED = (4, "nothing could be listed; the cursor is where it was")
    LOCAL = (5, "this machine is in the way")

    @property
    def status(self) -> int:
        """The exit status."""
        return self.value[0]


@dataclass(frozen=True, slots=True)
class Told:
    """What a run told: exit status, the lines of standard error without HERE, the document."""

    exit: int
    lines: tuple[str, ...]
    document: Mapping[str, Any]

    def count(self, what: str, product: str = "gpc1") -> int:
        """A figure of a product in the document."""
        found = self.document["products"].get(product, {}).get(what, 0)
        assert isinstance(found, int)
        return found


class Trial:
    """A site that mirrors a simulated store, with the invariants checked after each run.

    `keys` go into every mirror.yaml. `hostile` names filesets that the model leaves out: they
    must never become visible, unless they are taken off this set once they are mended.
    """

    def __init__(self, store: Simulator, directory: Path, forks: Forks, **keys: object) -> None:
        self.store = store
        self.forks = forks
        self.site = MirrorSite(directory)
        self.keys = {"data_prefix": PREFIX, "connections": 2, "netrc": False} | keys
        self.hostile: set[str] = set()
        self.incomplete = False
        """Filesets may be half moved in: the run was killed, or failed at the disk."""

        self.keeps = False
        """keep_bundles is set: store/ has its part of the model."""

        self._allowed: dict[str, set[bytes]] = {}
        (directory / "canary").write_bytes(b"not yours")
        self.configure()

    def configure(self, **keys: object) -> None:
        """Write mirror.yaml, with `keys` beside those of every run."""
        settled: dict[str, Any] = {"top_uri": self.store.url} | self.keys | keys
        self.site.configure(**settled)

    # The model

    def filesets(self) -> dict[str, Tree]:
        """What each fileset of the store has in the tree, by PRODUCT/FILESET."""
        found = {}
        for product in self.store.products.values():
            for fileset in product.listed():
                if fileset.name in self.hostile:
                    continue
                tree = expected_fileset(
                    self._read, product.name, fileset.name, PREFIX, keep=self.keeps
                )
                index = f"{product.name}/{fileset.name}/index.txt"
                for top in ("info", "store")[: 1 + self.keeps]:
                    tree[f"{top}/{index}"] = self.store.read(f"/{index}")
                found[f"{product.name}/{fileset.name}"] = tree
        return found

    def _read(self, path: str) -> bytes:
        """A file of the store; a list in the plain form that the model understands."""
        store = self.store
        with store.lock:
            switches = store.arrange, store.bom, store.crlf
            store.arrange, store.bom, store.crlf = None, False, False
            try:
                return store.read(path)
            finally:
                store.arrange, store.bom, store.crlf = switches

    def expected(self, *without: str) -> Tree:
        """The tree of a mirror of the whole store, but for some filesets (PRODUCT/FILESET)."""
        return {
            path: data
            for name, tree in self.filesets().items()
            if name not in without
            for path, data in tree.items()
        }

    def learn(self) -> None:
        """The store's content as it is now may be seen in the tree from now on."""
        for path, data in self.expected().items():
            self._allowed.setdefault(path, set()).add(data)

    def allow(self, path: str, data: bytes) -> None:
        """Something that is not of the store may be seen in the tree: the operator's own."""
        self._allowed.setdefault(path, set()).add(data)

    # Runs

    def run(
        self,
        *options: str,
        environ: Mapping[str, str] | None = None,
        plan: Plan | None = None,
        user: int | None = None,
    ) -> Told:
        """Run the client, with the invariants held; returns what it told."""
        before = self._outside()
        ended = self.start(*options, environ=environ, plan=plan, user=user).wait()
        told = self.examine(ended)
        assert self._outside() == before, "something outside the mirror was touched"
        return told

    def start(
        self,
        *options: str,
        environ: Mapping[str, str] | None = None,
        plan: Plan | None = None,
        user: int | None = None,
    ) -> Running:
        """Start a run whose end the caller hands to `examine`."""
        arguments = ["-c", str(self.site.config), "--json", "-", *options]
        clean = dict.fromkeys(("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"), "")
        environment = self.site.environment(clean | dict(environ or {}))
        return self.forks.start(arguments, self.site.directory, environment, plan, user)

    def examine(self, ended: Ended) -> Told:
        """Hold the invariants of a run that has ended."""
        told = read_told(ended)
        self.check_tree()
        self.check_cursor()
        assert ended.peak < MEMORY, f"the run took {ended.peak} bytes of memory"
        return told

    def _outside(self) -> dict[str, bytes]:
        """Every file beside the mirror."""
        return {
            str(path): path.read_bytes()
            for path in self.site.directory.rglob("*")
            if self.site.root not in path.parents and path.is_file()
        }

    def check_tree(self) -> None:
        """Only complete filesets are visible, every file of them as it ought to be."""
        seen = self._visible()
        for path, data in seen.items():
            assert path in self._allowed, f"{path} is visible and belongs to no good fileset"
            assert data in self._allowed[path], f"{path} is visible with wrong content"
        if self.incomplete:
            return
        for name, tree in self.filesets().items():
            there = [path for path in tree if path in seen]
            assert len(there) in (0, len(tree)), f"of {name} only {there} can be seen"

    def _visible(self) -> Tree:
        """What can be seen but for the lists of store/, which are looked at here.

        They are written anew as filesets come, and may only name what is complete.
        """
        seen = self.site.visible()
        if self.keeps:
            seen.pop("store/index.txt", None)
            for product in self.store.products:
                for name in _names(seen.pop(f"store/{product}/index.txt", b"")):
                    tree = self.filesets()[f"{product}/{name}"]
                    assert tree.keys() <= seen.keys(), f"store/ lists {name}, which is not whole"
        return seen

    def check_cursor(self) -> None:
        """No last fileset has passed one that the state does not hold."""
        cursors, held = self.state()
        for product, last in cursors.items():
            known = self.store.products.get(product)
            names = [one.name for one in known.listed() if not one.hidden] if known else []
            if last in names:
                passed = set(names[: names.index(last) + 1]) - self.hostile
                lost = passed - held[product]
                assert not lost, f"the cursor of {product}, {last}, passed {lost}, never queued"

    def state(self) -> tuple[dict[str, str | None], dict[str, set[str]]]:
        """The last fileset of each product, and the filesets that state.db holds of it."""
        path = self.site.private / "state.db"
        if not path.exists() or not path.stat().st_size:
            return {}, {}
        with closing(sqlite3.connect(path)) as db:
            try:
                cursors = dict(db.execute("SELECT name, last_fileset FROM product").fetchall())
                held: dict[str, set[str]] = {name: set() for name in cursors}
                sql = "SELECT p.name, f.name FROM fileset f JOIN product p ON p.id = f.product"
                for product, name in db.execute(sql):
                    held[product].add(name)
            except sqlite3.DatabaseError:
                return {}, {}
        return cursors, held

    # Outcomes

    def ends(
        self,
        told: Told,
        outcome: Outcome,
        lines: Sequence[str] = (),
        missing: Collection[str] | None = (),
    ) -> None:
        """A run ended so: exit status, its lines (regular expressions, in any order), the tree.

        `missing` are the filesets (PRODUCT/FILESET) that are not to be seen; None: whatever the
        invariants allow.
        """
        assert told.exit == outcome.status, f"{outcome.name}, not exit {told.exit}: {told.lines}"
        expect_lines(told, lines)
        if missing is not None:
            assert self.site.visible().keys() == self.expected(*missing).keys()

    def converges(self, *options: str) -> Told:
        """With the fault removed, one run without a word completes the tree and leaves nothing."""
        self.configure()
        self.learn()
        told = self.run(*options)
        assert (told.exit, told.lines) == (0, ()), f"one clean run does not converge: {told}"
        expected = self.expected()
        seen = self._visible()
        if self.keeps:
            for product in self.store.products.values():
                listed = _names((self.site.root / "store" / product.path[1:]).read_bytes())
                assert listed == [one.name for one in product.listed()]
        assert seen.keys() == expected.keys(), seen.keys() ^ expected.keys()
        assert seen == expected, "the tree is not that of a run without faults"
        self.is_tidy()
        return told

    def is_tidy(self) -> None:
        """No litter: not in .mirror, and no empty directories in the tree."""
        assert self.site.litter() == []
        for top in ("data", "info", "store"):
            for path in (self.site.root / top).rglob("*"):
                assert not path.is_dir() or any(path.iterdir()), f"{path} is left empty"


def _names(raw: bytes) -> list[str]:
    """The first cells of a list."""
    return [name for name, *_ in rows(raw)]


def read_told(ran: Ended) -> Told:
    """What a run with `--json -` told: no traceback, one line a trouble, all in the document."""
    assert "Traceback" not in ran.stderr, ran.stderr
    assert "fault of this program" not in ran.stderr, ran.stderr
    lines = ran.stderr.splitlines()
    assert all(line.startswith(HERE) for line in lines), ran.stderr
    told = tuple(line.removeprefix(HERE) for line in lines)
    assert len(set(told)) == len(told), f"told twice: {told}"
    empty: dict[str, Any] = {"exit": ran.exit, "products": {}, "faults": []}
    document: dict[str, Any] = json.loads(ran.stdout) if ran.stdout else empty
    assert document["exit"] == ran.exit
    for fault in document["faults"]:
        place = "/".join(filter(None, (fault["product"], fault["fileset"], fault["file"])))
        line = f"{place}: {fault['fault']}" if place else fault["fault"]
        assert line in told or not line.isprintable(), f"{line!r} is in the document alone"
    return Told(ran.exit, told, document)


def expect_lines(told: Told, patterns: Sequence[str]) -> None:
    """Every pattern matches a line of its own, whole, and no line is left."""
    left = list(told.lines)
    for pattern in patterns:
        match = next((line for line in left if re.fullmatch(pattern, line)), None)
        assert match is not None, f"no line is {pattern!r}: {told.lines}"
        left.remove(match)
    assert not left, f"more was told than expected: {left}"


# Running rows side by side


@contextmanager
def ground() -> Iterator[Path]:
    """A directory for one row, in memory where the system has such a place.

    What these rows look at are decisions; real disks get their share in the disk faults.
    """
    memory = Path("/dev/shm")
    where = memory if memory.is_dir() and os.access(memory, os.W_OK | os.X_OK) else None
    with tempfile.TemporaryDirectory(dir=where, prefix="mirror-trial-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        yield directory


@contextmanager
def side_by_side(
    request: pytest.FixtureRequest,
    parameter: str,
    key: Callable[[Case], str],
    conduct: Callable[[Case, Path, Forks], None],
) -> Iterator[Mapping[str, Future[None]]]:
    """Conduct all cases that this session has collected for `parameter`, several at once.

    Gives a future for each by its key; a test asks its own for the result.
    """

    def work(case: Case) -> None:
        with ground() as directory:
            conduct(case, directory, forks)

    with Forks() as forks, ThreadPoolExecutor(WORKERS) as pool:
        futures: dict[str, Future[None]] = {}
        for item in request.session.items:
            parameters = getattr(getattr(item, "callspec", None), "params", {})
            if item.path == request.path and parameter in parameters:
                case = parameters[parameter]
                futures[key(case)] = pool.submit(work, case)
        try:
            yield futures
        finally:
            pool.shutdown(cancel_futures=True)
