"""FAULTS D1 to D10: what this machine may do to a run: disks, permissions, kills, clocks, pipes.

The loops over every call of a run go through `inject`; real full disks, real other users and real
other file systems stand beside them. After each the next run must converge unaided.
"""

import fcntl
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import faults
import pytest
from client import PATIENCE
from expected import flip
from inject import EVERY, FLUSHES, NAMES, Ended, Forks, Plan
from runs import chip_run, noise
from simulator import Product, Simulator
from trial import WORKERS, Outcome, Trial, ground, read_told

from mirror.database import VERSION
from mirror.halt import Halt
from mirror.run import deadline_from
from server.samples.store_writer import make_bundle

FINE, HOLD, LOCAL = Outcome.FINE, Outcome.HOLD, Outcome.LOCAL

NOBODY = 65534
SIZE = 300_000
"""Bytes of an image that goes through .mirror/partial."""


@pytest.fixture(scope="module")
def forks() -> Iterator[Forks]:
    with Forks() as forks:
        yield forks


@contextmanager
def small_trial(forks: Forks, directory: Path | None = None, **keys: object) -> Iterator[Trial]:
    """A trial of a store with a run of one component, its bundle large, and a plain fileset."""
    with ground() as place, Simulator() as store:
        gpc1 = store.product("gpc1")
        gpc1.add(*chip_run(1, ("XY01",), size=SIZE))
        gpc1.add("plain", {"a.fits": b"SIMPLE", "b.fits": b"XTENSION"})
        trial = Trial(store, directory or place, forks, **keys)
        trial.learn()
        yield trial


def gpc1(trial: Trial) -> Product:
    return trial.store.products["gpc1"]


def until(condition: Callable[[], object], what: str) -> None:
    """Wait for something that another process does."""
    limit = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < limit, f"waited in vain until {what}"
        time.sleep(0.005)


# The loops: one run for every call that could change something (D1, D3, D5).


@dataclass(frozen=True, slots=True)
class Loop:
    """A loop over the calls of a run, `step` by `step` from the first until none is left.

    `exits` are the statuses that a run may have which met the fault.
    """

    id: str
    calls: Sequence[str]
    error: str
    exits: tuple[int, ...]
    forever: bool = False
    step: int = 1
    where: str = ""
    keys: Mapping[str, object] = field(default_factory=dict)


KILLED = -signal.SIGKILL
GROWS = ("open", "write", "pwrite", "replace", "mkdir", "fsync", "sqlite")
"""The calls that may need more room."""

LOOPS = (
    Loop("D3 SIGKILL at every call", EVERY, "kill", (KILLED,)),
    Loop("D3 SIGKILL, bundles kept", NAMES, "kill", (KILLED,), keys={"keep_bundles": True}),
    Loop("D1 disk full for one call", GROWS, "ENOSPC", (0, 1, 5), step=2),
    Loop("D1 disk full from one call on", GROWS, "ENOSPC", (5,), forever=True, step=2),
    Loop("D1 quota", GROWS, "EDQUOT", (5,), forever=True, step=9),
    Loop("D5 fsync fails", FLUSHES, "EIO", (5,)),
    Loop("D5 close fails", ("close",), "EIO", (0, 1, 5)),
    Loop("D5 writes fail", ("write", "pwrite"), "EIO", (5,)),
)


def verified(trial: Trial) -> set[str]:
    """The names of files that were fetched and verified, and wait in staging."""
    held = {
        name: len(file.data)
        for fileset in gpc1(trial).listed()
        for name, file in fileset.files.items()
    }
    staged = (trial.site.private / "staging").glob("*/fetched/*")
    return {path.name for path in staged if path.stat().st_size == held[path.name]}


def loop_store(store: Simulator) -> None:
    """A run with a large bundle, and a small plain fileset."""
    product = store.product("gpc1")
    product.add(*chip_run(1, ("XY01",), size=SIZE))
    product.add("plain", {"a.fits": b"SIMPLE"})


def one_of_loop(loop: Loop, at: int, forks: Forks) -> tuple[str | None, str | None]:
    """One run that meets the fault at call `at`, and the next one.

    Gives the call, if it came to that, and what did not hold, if anything.
    """
    with ground() as directory, Simulator() as store:
        loop_store(store)
        trial = Trial(store, directory, forks, **loop.keys)
        trial.incomplete = True
        trial.keeps = bool(loop.keys.get("keep_bundles"))
        trial.learn()
        note = directory.parent / f"{directory.name}.note"
        plan = Plan(loop.calls, at, loop.error, str(directory), loop.forever, str(note))
        try:
            ended = trial.start(plan=plan).wait()
            call = note.read_text(encoding="utf-8").splitlines()[0] if note.exists() else None
        finally:
            note.unlink(missing_ok=True)
        try:
            hold_loop(loop, trial, ended, met=call is not None)
        except AssertionError as error:
            told = f"call {at} ({call}), exit {ended.exit}: {error}"
            return call, told.strip().replace(f"{directory}/mirror", "")
        return call, None


def hold_loop(loop: Loop, trial: Trial, ended: Ended, *, met: bool) -> None:
    """What must hold after a run of a loop, and after the next one."""
    told = trial.examine(ended)
    if not met:
        assert told.exit == 0
        return
    assert told.exit in loop.exits, f"exit {told.exit}: {told.lines}"
    assert len(told.lines) <= 2, f"more than one line: {told.lines}"
    assert told.exit == KILLED or bool(told.lines) == (told.exit != 0), told.lines
    have = verified(trial) if loop.error == "kill" else set()
    trial.store.clear()
    trial.incomplete = False
    trial.converges()
    again = {name for name in have if trial.store.count(f"/*/{name}")}
    assert not again, f"{again} were verified, and fetched again"


@pytest.mark.parametrize("loop", LOOPS, ids=lambda loop: loop.id)
def test_loop(loop: Loop, forks: Forks) -> None:
    met: list[str | None] = []
    broken: list[str] = []
    first = 1
    with ThreadPoolExecutor(WORKERS) as pool:
        while None not in met:
            numbers = range(first, first + 2 * WORKERS * loop.step, loop.step)
            for call, fault in pool.map(lambda at: one_of_loop(loop, at, forks), numbers):
                met.append(call)
                broken += [fault] if fault else []
            first = numbers[-1] + loop.step
    assert not broken, f"{len(broken)} of {len(met)} runs:\n" + "\n".join(broken[:10])
    kinds = {call.split("\t")[0] for call in met if call}
    assert kinds, "the loop met no call at all"
    if loop.calls is EVERY and loop.step == 1:
        assert kinds >= {"open", "write", "replace", "mkdir", "fsync", "sqlite", "unlink"}


# D4: what is durable when


def test_d4_files_then_directories_then_the_record(forks: Forks) -> None:
    """Every file is flushed before it is moved, its directory after that, then it is recorded."""
    with small_trial(forks) as trial:
        trace = trial.site.directory.parent / f"{trial.site.directory.name}.trace"
        try:
            told = trial.examine(trial.start(plan=Plan(trace=str(trace))).wait())
            lines = trace.read_text(encoding="utf-8").splitlines()
        finally:
            trace.unlink(missing_ok=True)
        assert told.exit == 0
        calls = [tuple(line.split("\t", 1)) for line in lines]
        root = str(trial.site.root)
        moves = {
            at: call[1].split(" -> ")
            for at, call in enumerate(calls)
            if call[0] in ("replace", "rename") and ".mirror" not in call[1].split(" -> ")[1]
        }
        assert {path.removeprefix(root + "/") for _, path in moves.values()} == set(
            trial.site.visible()
        )
        begins = [at for at, call in enumerate(calls) if "'committing'" in call[1]]
        ends = [at for at, call in enumerate(calls) if "'done'" in call[1]]
        for at, (source, target) in moves.items():
            begun = max(n for n in begins if n < at)
            done = min(n for n in ends if n > at)
            flushed = [n for n, call in enumerate(calls[:at]) if call == ("fsync", source)]
            assert flushed, f"{target} was moved before it was flushed"
            assert flushed[-1] < begun, f"{target} was recorded as moving before it was flushed"
            written = [n for n, call in enumerate(calls) if call == ("write", source)]
            assert not written or written[-1] < flushed[-1]
            parent = os.path.dirname(target)
            assert ("fsync", parent) in calls[at:done], f"{parent} was not flushed in time"


# D5: what could not be flushed is not believed


def test_d5_what_could_not_be_flushed_is_fetched_again(forks: Forks) -> None:
    """After a failed fsync the kernel may hold clean pages that never reached the disk."""
    with small_trial(forks) as trial:
        plan = Plan(FLUSHES, 1, "EIO", "staging")
        told = trial.run(plan=plan)
        assert told.exit == 5
        assert len(told.lines) == 1
        trial.store.clear()
        trial.converges()
        files = [one.path for one in trial.store.requests if not one.path.endswith("index.txt")]
        assert files, "what may never have reached the disk was taken as it was"


# D1: full


FULL = r".*: \d+ bytes free, and \d+ to come would leave less than min_free \(\d+\); .*"


def test_d1_less_than_min_free(forks: Forks) -> None:
    with small_trial(forks) as trial:
        trial.configure(min_free="1000TB", resume_free="1000TB")
        told = trial.run()
        line = (
            r".*: \d+ bytes free, less than resume_free \(\d+\); nothing is fetched, 2 filesets .*"
        )
        trial.ends(told, LOCAL, (line,), None)
        assert trial.store.count() == 2, "only lists were asked for"
        assert told.count("queued") == 2
        trial.converges()


@contextmanager
def tmpfs(directory: Path, options: str) -> Iterator[None]:
    """A file system of its own at `directory`, or the test is skipped where that is forbidden."""
    directory.mkdir(exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(directory)]
    if not shutil.which("mount") or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("this user may not mount a small file system: no really full disk")
    try:
        yield
    finally:
        subprocess.run(["umount", str(directory)], check=True)


def grow(directory: Path, options: str) -> None:
    """Mount a file system again with other options."""
    command = ["mount", "-o", f"remount,{options}", str(directory)]
    subprocess.run(command, check=True, capture_output=True)


def test_d1_a_disk_that_is_full_in_advance(forks: Forks) -> None:
    with small_trial(forks) as trial, tmpfs(trial.site.root, "size=250k"):
        told = trial.run()
        trial.ends(told, LOCAL, (FULL,), None)
        assert trial.store.count("/gpc1/*.tgz") == 0
        grow(trial.site.root, "size=20m")
        trial.converges()


def test_d1_a_disk_that_fills_while_a_bundle_is_unpacked(forks: Forks) -> None:
    with small_trial(forks) as trial, tmpfs(trial.site.root, "size=1m"):
        name, files = chip_run(2, ("XY01",))
        image = b"".join(noise(at, 200) + bytes(9800) for at in range(300))
        bundle = make_bundle({"o2.ch.fits": image})
        gpc1(trial).add(name, {n: bundle if n.endswith("tgz") else d for n, d in files.items()})
        trial.learn()
        told = trial.run()
        assert told.exit == 5
        assert len(told.lines) == 1
        assert re.search("No space left on device|disk is full", told.lines[0])
        grow(trial.site.root, "size=20m")
        trial.converges()


@pytest.mark.parametrize("pages", range(1, 36, 5))
def test_d1_a_disk_with_a_few_pages_left(forks: Forks, pages: int) -> None:
    """Full at the state, at its journal, at directories: wherever those pages end."""
    with small_trial(forks) as trial, tmpfs(trial.site.root, f"nr_blocks={pages}"):
        told = trial.run()
        assert told.exit == 5
        # Whoever is next to have no room, the guard, the state or its journal: it is one trouble.
        assert len(told.lines) == 1
        assert all(re.search("No space|disk is full|bytes free", line) for line in told.lines)
        grow(trial.site.root, "nr_blocks=5000")
        trial.converges()


def test_d1_a_limit_on_the_size_of_files(forks: Forks) -> None:
    with small_trial(forks) as trial:
        told = trial.run(plan=Plan(limit=200_000))
        assert told.exit == 5
        assert len(told.lines) == 1
        assert re.search("File too large", told.lines[0])
        trial.converges()


# D2: a place that will not do


def other_user(trial: Trial) -> int | None:
    """Somebody who is not root, whom permissions stop; None: this process's own user is one."""
    if os.geteuid():
        return None
    os.chmod(trial.site.config, 0o644)
    return NOBODY


@pytest.mark.parametrize(
    "closed",
    [".", "data", "info", ".mirror", ".mirror/partial", ".mirror/staging", ".mirror/state.db"],
)
def test_d2_a_directory_that_this_user_may_not_write(forks: Forks, closed: str) -> None:
    with small_trial(forks) as trial:
        user = other_user(trial)
        trial.site.root.mkdir()
        if user is not None:
            os.chown(trial.site.root, user, user)
        assert trial.run(user=user).exit == 0
        gpc1(trial).add("later", {"later.fits": b"SIMPLE"})
        trial.learn()
        trial.store.clear()
        path = trial.site.root / closed
        mode = path.stat().st_mode
        path.chmod(0o444 if path.is_file() else 0o555)
        if closed == ".":  # what is below it may be written: only new directories cannot be made
            shutil.rmtree(trial.site.private / "staging")
            (trial.site.private).chmod(0o555)
        told = trial.run(user=user)
        assert told.exit == 5
        assert len(told.lines) == 1
        assert str(trial.site.root) in told.lines[0]
        assert trial.store.count() == 0, "something was asked for before the disk was looked at"
        path.chmod(mode)
        trial.site.private.chmod(0o755)
        assert trial.run(user=user).exit == 0
        assert trial.site.visible() == trial.expected()
        trial.is_tidy()


@pytest.mark.parametrize("name", ["data", ".mirror", ".mirror/staging"])
def test_d2_a_file_where_a_directory_belongs(forks: Forks, name: str) -> None:
    with small_trial(forks) as trial:
        path = trial.site.root / name
        path.parent.mkdir(parents=True)
        path.write_bytes(b"a file")
        trial.incomplete = True
        told = read_told(trial.start().wait())
        assert told.exit == 5
        (line,) = told.lines
        assert str(path) in line
        assert trial.store.count() == 0
        path.unlink()
        trial.converges()


def test_d2_a_read_only_file_system(forks: Forks) -> None:
    with small_trial(forks) as trial, tmpfs(trial.site.root, "size=20m"):
        grow(trial.site.root, "ro")
        trial.ends(
            trial.run(), LOCAL, (f"{trial.site.root}.*(Read-only file|cannot be written).*",), None
        )
        assert trial.store.count() == 0
        grow(trial.site.root, "rw")
        trial.converges()


@pytest.mark.parametrize("part", ["data", "info", ".mirror", ".mirror/staging"])
def test_d2_parts_on_different_file_systems(forks: Forks, part: str, tmp_path: Path) -> None:
    with small_trial(forks) as trial:
        other = tmp_path / "other"
        other.mkdir()
        place = trial.site.root / part
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(other)
        if other.stat().st_dev == trial.site.root.stat().st_dev:
            pytest.skip("this machine has one file system for /dev/shm and the temporary directory")
        told = trial.run()
        line = r"the directories below .* are on different file systems.*; put .* on one"
        trial.ends(told, LOCAL, (line,), None)
        assert trial.store.count() == 0
        place.unlink()
        trial.converges()


# D6: two at once


@contextmanager
def stalled(trial: Trial) -> Iterator[int]:
    """A run that waits for a silent server: gives its process id, and lets it end by SIGTERM."""
    trial.configure(timeout=60)
    trial.store.fault("/gpc1/*.tgz", faults.stall(60, after=100_000), times=None)
    running = trial.start()
    try:
        until(lambda: trial.store.count("/gpc1/*.tgz"), "the bundle was asked for")
        yield running.pid
    finally:
        os.kill(running.pid, signal.SIGTERM)
        trial.examine(running.wait())
        trial.store.mend()


def test_d6_the_second_run_leaves_and_names_the_first(forks: Forks) -> None:
    with small_trial(forks) as trial:
        with stalled(trial) as pid:
            told = trial.run()
            assert told.exit == 75
            since = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"
            held = rf".*/lock is held by pid {pid} on {socket.gethostname()} since {since}; .*"
            (line,) = told.lines
            assert re.fullmatch(held, line)
        trial.converges()


def test_d6_a_lock_of_a_dead_process_is_no_lock(forks: Forks) -> None:
    with small_trial(forks) as trial:
        trial.site.private.mkdir(parents=True)
        lock = trial.site.private / "lock"
        lock.write_text("pid 1 on elsewhere since 2009-04-15T01:22:12Z\n" * 3, encoding="ascii")
        trial.converges()
        with lock.open("r+b") as held:
            fcntl.lockf(held, fcntl.LOCK_EX)
            assert trial.run().exit == 75
        trial.converges()


# D7: clocks


def test_d7_a_clock_that_jumps_ends_no_run(forks: Forks) -> None:
    with small_trial(forks) as trial:
        trial.configure(deadline="1h")
        told = trial.run(plan=Plan(clock=86_400.0))
        trial.ends(told, FINE)
        trial.converges()


def test_d7_times_are_utc_wherever_the_site_is(forks: Forks) -> None:
    with small_trial(forks) as trial:
        for zone in ("Pacific/Auckland", "America/Los_Angeles"):
            told = trial.run(environ={"TZ": zone})
            started = datetime.strptime(told.document["started"], "%Y-%m-%dT%H:%M:%SZ")
            assert abs(datetime.now(UTC) - started.replace(tzinfo=UTC)) < timedelta(minutes=30)
        trial.converges()


def test_d7_the_deadline_is_monotonic(monkeypatch: pytest.MonkeyPatch) -> None:
    halt = Halt(time.monotonic() + 3600)
    monkeypatch.setattr(time, "time", lambda: 2e10)
    assert halt.reason is None
    assert 3500 < halt.seconds_left() <= 3600


@pytest.mark.parametrize(
    ("now", "deadline", "hours"),
    [
        ("2026-03-28 23:00", "06:00", 6),
        ("2026-10-24 23:00", "06:00", 8),
        ("2026-07-01 23:00", "06:00", 7),
        ("2026-07-01 05:00", "06:00", 1),
        ("2026-07-01 06:00", "06:00", 24),
    ],
    ids=["into summer time", "out of summer time", "over night", "today", "just now"],
)
def test_d7_a_local_deadline_counts_changes_of_the_clock(
    monkeypatch: pytest.MonkeyPatch, now: str, deadline: str, hours: int
) -> None:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        wanted = datetime.strptime(deadline, "%H:%M").time()
        assert deadline_from(wanted, datetime.fromisoformat(now), 1000.0) == 1000 + hours * 3600
    finally:
        monkeypatch.undo()
        time.tzset()


# D8: a state that will not do


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def overwrite(path: Path) -> None:
    path.write_bytes(b"not a database" * 1000)


def scramble(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[4096:8192] = noise("state", 4096)
    path.write_bytes(data)


def newer(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 99")


def foreign(path: Path) -> None:
    path.unlink()
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE recipe (title TEXT)")


STATES: Mapping[str, tuple[Callable[[Path], None], str, bool]] = {
    "empty": (lambda path: os.truncate(path, 0), r".*--verify --repair.*", False),
    "missing": (Path.unlink, r".*--verify --repair.*", False),
    "truncated": (truncate, r".*move it away and run .* --verify --repair.*", True),
    "overwritten": (overwrite, r".*move it away and run .* --verify --repair.*", True),
    "scrambled": (scramble, r".*move it away and run .* --verify --repair.*", True),
    "of another program": (foreign, r".*is not a state of this program; move it away.*", True),
}


@pytest.mark.parametrize("what", STATES)
def test_d8_a_damaged_state_is_refused_and_built_anew(forks: Forks, what: str) -> None:
    damage, advice, away = STATES[what]
    with small_trial(forks) as trial:
        trial.converges()
        trial.store.clear()
        path = trial.site.private / "state.db"
        damage(path)
        told = trial.run()
        trial.ends(told, LOCAL, (rf"{path}{advice}",))
        assert trial.store.count() == 0, "it began from zero"
        if away:
            path.unlink()
        told = trial.run("--verify", "--repair")
        trial.ends(told, FINE, (r"the state was built anew from the tree: 2 filesets",))
        trial.converges()
        assert trial.store.count("/gpc1/*.tgz") == trial.store.count("/gpc1/*.fits") == 0
        gpc1(trial).add("later", {"later.fits": b"SIMPLE"})
        trial.converges()


def test_d8_a_state_from_a_newer_version(forks: Forks) -> None:
    with small_trial(forks) as trial:
        trial.converges()
        trial.store.clear()
        path = trial.site.private / "state.db"
        newer(path)
        before = path.read_bytes()
        line = rf"{path} was written by a newer version .*; install that version, .*"
        trial.ends(trial.run(), LOCAL, (line,))
        trial.ends(trial.run("--verify", "--repair"), LOCAL, (line,))
        assert path.read_bytes() == before
        assert trial.store.count() == 0
        with closing(sqlite3.connect(path)) as db:
            db.execute(f"PRAGMA user_version = {VERSION}")
        trial.converges()


# D9: what the operator or the disk did to the tree


def lengthen(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"more")


DAMAGE: Mapping[str, tuple[Callable[[Path], None], str]] = {
    "deleted": (Path.unlink, "is missing"),
    "bit rot": (flip, r"has other content than was mirrored \(.* expected\)"),
    "longer": (lengthen, r"has \d+ bytes, \d+ expected"),
    "emptied": (lambda path: os.truncate(path, 0), r"has 0 bytes, \d+ expected"),
}
TARGETS = (
    "data/gpc1/plain/a.fits",
    "data/*.ch.fits",
    "info/*/dbinfo.*",
    "info/gpc1/plain/index.txt",
)


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("target", TARGETS, ids=["plain", "member", "dbinfo", "list"])
def test_d9_a_file_that_is_not_what_was_mirrored(forks: Forks, damage: str, target: str) -> None:
    spoil, reason = DAMAGE[damage]
    with small_trial(forks) as trial:
        trial.converges()
        trial.incomplete = True
        pattern = target if "*" not in target else target.replace("/*", "/**/*")
        (path,) = trial.site.root.glob(pattern)
        spoil(path)
        name = path.relative_to(trial.site.root)
        if path.exists():
            trial.allow(str(name), path.read_bytes())
        line = rf"gpc1/[^/]+/{re.escape(str(name))}: {reason}"
        trial.ends(trial.run("--verify"), HOLD, (line,), None)
        trial.ends(trial.run("--verify", "--repair"), FINE, (f"{line}; fetched again",))
        trial.ends(trial.run("--verify"), FINE)
        trial.converges()


# D10: interrupted, and nobody there to be told


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_d10_a_signal_ends_the_run_in_order(forks: Forks, number: signal.Signals) -> None:
    with small_trial(forks, timeout=60) as trial:
        trial.store.fault("/gpc1/*.tgz", faults.stall(60, after=100_000), times=None)
        running = trial.start()
        until(lambda: trial.store.count("/gpc1/*.tgz"), "the bundle was asked for")
        os.kill(running.pid, number)
        told = trial.examine(running.wait())
        line = f"interrupted by {number.name}; what is not done stays queued"
        trial.ends(told, HOLD, (line,), None)
        assert told.document["exit"] == 1
        assert told.count("queued") + told.count("done") == 2
        trial.store.mend()
        trial.converges()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_d10_a_signal_while_a_list_is_read(forks: Forks, number: signal.Signals) -> None:
    with small_trial(forks, timeout=60) as trial:
        trial.store.fault("/gpc1/index.txt", faults.stall(60, after=20), times=None)
        running = trial.start()
        until(lambda: trial.store.count("/gpc1/index.txt"), "the list was asked for")
        os.kill(running.pid, number)
        told = trial.examine(running.wait())
        assert told.exit in (1, 4)
        assert told.lines[0].startswith(f"interrupted by {number.name}")
        trial.store.mend()
        trial.converges()


def test_d10_a_signal_while_the_next_try_is_waited_for(forks: Forks) -> None:
    with small_trial(forks) as trial:
        trial.store.fault("/gpc1/*.tgz", faults.retry_after("600"), times=None)
        running = trial.start()
        until(lambda: trial.store.count("/gpc1/*.tgz"), "the bundle was asked for")
        os.kill(running.pid, signal.SIGTERM)
        told = trial.examine(running.wait())
        assert told.exit == 1
        trial.store.mend()
        trial.converges()


def run_into(trial: Trial, stream: str, *options: str) -> Ended:
    """Run the client, `stdout` or `stderr` being a pipe that nobody reads any more."""
    reader, writer = os.pipe()
    os.close(reader)
    site = trial.site
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | {stream: writer}
    try:
        ended = subprocess.run(
            site.command(*options),
            cwd=site.directory,
            env=site.environment(),
            stdin=subprocess.DEVNULL,
            stdout=streams["stdout"],
            stderr=streams["stderr"],
            text=True,
            timeout=PATIENCE,
        )
    finally:
        os.close(writer)
    return Ended(ended.returncode, ended.stdout or "", ended.stderr or "", 0)


def test_d10_nobody_reads_the_document(forks: Forks) -> None:
    with small_trial(forks) as trial:
        told = read_told(run_into(trial, "stdout", "--json", "-"))
        assert told.exit == LOCAL.status
        (line,) = told.lines
        assert re.fullmatch("--json standard output: Broken pipe", line)
        assert trial.site.visible() == trial.expected()
        trial.converges()


@pytest.mark.parametrize("options", [("--dry-run",), ("--status",)], ids=" ".join)
def test_d10_nobody_reads_the_plan_or_the_status(forks: Forks, options: tuple[str, ...]) -> None:
    with small_trial(forks) as trial:
        trial.converges()
        gpc1(trial).add("later", {"later.fits": b"SIMPLE"})
        trial.learn()
        ended = run_into(trial, "stdout", *options)
        assert "Traceback" not in ended.stderr
        assert "fault of this program" not in ended.stderr
        assert len(ended.stderr.splitlines()) <= 1
        trial.converges()


def test_d10_nobody_reads_of_the_trouble(forks: Forks) -> None:
    with small_trial(forks) as trial:
        trial.store.fault("/gpc1/plain/*", faults.status(404), times=None)
        ended = run_into(trial, "stderr")
        assert ended.exit == 1, "the trouble is in the exit status all the same"
        trial.check_tree()
        trial.store.mend()
        trial.converges()
