"""Runs of the client with faults injected into its calls of the system, forked from one process.

The server half is `python inject.py SOCKET`: it imports the client once and forks for every run,
so that a run costs a tenth of a start from nothing and a loop over every call of a run is
affordable. Each run is a process of its own, with its own directory, environment and user, and
enters the client where the installed command does. The tests' half is `Forks`.

A `Plan` counts the calls that could change something on disk (and the statements that SQLite
gets), and at a given one fails it, kills the process, or lets half of a write through before that.
"""

import errno
import io
import json
import os
import select
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NoReturn, Self

PROJECT = Path(__file__).parent.parent

FILES = ("open", "write", "close", "ftruncate", "pwrite")
NAMES = ("replace", "rename", "unlink", "rmdir", "mkdir", "utime")
FLUSHES = ("fsync",)
STATEMENTS = ("sqlite",)
EVERY = FILES + NAMES + FLUSHES + STATEMENTS

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_READS = ("SELECT", "PRAGMA")
_IMPORTS = (
    "_strptime", "concurrent.futures.thread", "ctypes", "difflib", "email.utils", "netrc",
    "requests", "traceback", "yaml",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to happen to a run: at call number `at` of `calls` (from 1) on a path that holds
    `where`, `error` (a name of errno) or SIGKILL ("kill"); with `forever` at all later ones too.

    `note`: a file that is told which call it was; `trace`: a file that gets every call; `limit`:
    the most bytes that a file may have; `clock`: seconds that the clock jumps with every look.
    """

    calls: Sequence[str] = ()
    at: int = 0
    error: str = "kill"
    where: str = ""
    forever: bool = False
    note: str = ""
    trace: str = ""
    limit: int = 0
    clock: float = 0.0


@dataclass(frozen=True, slots=True)
class Ended:
    """How a forked run ended: exit status (negative: the signal), output, peak memory in bytes."""

    exit: int
    stdout: str
    stderr: str
    peak: int


class Running:
    """A forked run under way."""

    def __init__(self, connection: socket.socket, output: Path) -> None:
        self._connection = connection
        self._lines = connection.makefile("r", encoding="utf-8")
        self._output = output
        self.pid = int(self._lines.readline())

    def wait(self) -> Ended:
        """Wait for its end; one that hangs is killed, and is a failure of the test."""
        try:
            exit_status, peak = map(int, self._lines.readline().split())
        except (TimeoutError, ValueError):
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            raise AssertionError(f"the run hung: {self._read('stderr')}") from None
        finally:
            self._lines.close()
            self._connection.close()
        return Ended(exit_status, self._read("stdout"), self._read("stderr"), peak)

    def _read(self, name: str) -> str:
        return (self._output / name).read_text(encoding="utf-8", errors="backslashreplace")


class Forks:
    """The process that runs are forked from. A context manager, for several threads."""

    PATIENCE = 180.0
    """Seconds after which a run is taken for hung."""

    def __init__(self) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="forks-")
        self._path = Path(self._directory.name)
        self._count = 0
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, __file__, str(self._path / "socket")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._process.stdout
        assert self._process.stdout.readline() == b"ready\n"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process; runs under way end by themselves."""
        self._process.communicate()
        self._directory.cleanup()

    def start(
        self,
        arguments: Sequence[str],
        directory: Path,
        environment: Mapping[str, str],
        plan: Plan | None = None,
        user: int | None = None,
    ) -> Running:
        """Start a run of `update_mirror.py ARGUMENTS` in `directory`, as `user` if that is given.

        Its output goes to files, which nobody can make it wait for.
        """
        with self._lock:
            self._count += 1
            output = self._path / str(self._count)
        output.mkdir()
        request = {
            "arguments": list(arguments),
            "directory": str(directory),
            "environment": dict(environment),
            "plan": asdict(plan) if plan else None,
            "user": user,
            "output": str(output),
        }
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(self.PATIENCE)
        connection.connect(str(self._path / "socket"))
        connection.sendall(json.dumps(request).encode() + b"\n")
        return Running(connection, output)

    def run(
        self,
        arguments: Sequence[str],
        directory: Path,
        environment: Mapping[str, str],
        plan: Plan | None = None,
        user: int | None = None,
    ) -> Ended:
        """Run `update_mirror.py ARGUMENTS` to its end."""
        return self.start(arguments, directory, environment, plan, user).wait()


# The server half.


def serve(path: str) -> None:
    """Import the client, then fork a run for every connection until standard input ends."""
    _import_client()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(64)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        print("ready", flush=True)
        while True:
            ready, _, _ = select.select([listener, sys.stdin], [], [])
            if sys.stdin in ready:
                return
            connection, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                _attend(connection)
            connection.close()


def _import_client() -> None:
    """Import all that a run may need: another user may not be able to read the installation."""
    import codecs
    import importlib

    sys.path.insert(0, str(PROJECT))
    modules = [f"mirror.{one.stem}" for one in (PROJECT / "mirror").glob("[!_]*.py")]
    for name in ("update_mirror", "formats.mirror_yaml", *_IMPORTS, *modules):
        importlib.import_module(name)
    with suppress(ImportError):
        importlib.import_module("isal.isal_zlib")
    for name in ("utf-8-sig", "latin-1", "ascii", "idna", "unicode_escape"):
        codecs.lookup(name)


def _attend(connection: socket.socket) -> NoReturn:
    """Fork the run that a connection asks for, wait for its end, and tell it."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    with connection.makefile("rw", encoding="utf-8") as peer:
        request = json.loads(peer.readline())
        pid = os.fork()
        if pid == 0:
            _run(request, connection)
        peer.write(f"{pid}\n")
        peer.flush()
        _, status, usage = os.wait4(pid, 0)
        with suppress(BrokenPipeError):
            peer.write(f"{os.waitstatus_to_exitcode(status)} {usage.ru_maxrss * 1024}\n")
            peer.flush()
    os._exit(0)


def _run(request: Mapping[str, Any], connection: socket.socket) -> NoReturn:
    """Become the client."""
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(f"{request['output']}/{name}", os.O_WRONLY | os.O_CREAT, 0o666), number)
    os.closerange(3, connection.fileno() + 8)
    try:
        os.chdir(request["directory"])
        os.environ.clear()
        os.environ.update(request["environment"])
        time.tzset()
        if request["user"] is not None:
            os.setgroups([])
            os.setgid(request["user"])
            os.setuid(request["user"])
        import update_mirror

        sys.argv = ["update_mirror.py", *request["arguments"]]
        if request["plan"]:
            arm(Plan(**request["plan"]))
        update_mirror.command()
    except BaseException:
        import traceback

        traceback.print_exc()
    os._exit(99)


# The injector, in the process of the run.


def arm(plan: Plan) -> None:
    """Put the plan's gate before the calls of the system."""
    gate = _Gate(plan)
    for name in (*FILES, *NAMES, *FLUSHES):
        setattr(os, name, _GUARDS.get(name, _guard)(gate, name, getattr(os, name)))
    io.open = _guard_open(gate, io.open)
    sqlite3.connect = _guard_connect(gate, sqlite3.connect)
    if plan.limit:
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (plan.limit, plan.limit))
    if plan.clock:
        _jump(plan.clock)


class _Gate:
    """Counts calls, and says at which one something happens."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._lock = threading.Lock()
        self._count = 0
        self._write, self._open, self._close = os.write, os.open, os.close
        self.written: set[int] = set()

    def trips(self, call: str, place: object) -> bool:
        """Whether this call is the one; if an error is planned, raises it."""
        where = self._name(place)
        plan = self._plan
        with self._lock:
            if plan.trace:
                self._append(plan.trace, call, where)
            if not plan.at or call not in plan.calls or plan.where not in where:
                return False
            self._count += 1
            if self._count < plan.at or (self._count > plan.at and not plan.forever):
                return False
            if plan.note and self._count == plan.at:
                self._append(plan.note, call, where)
        if plan.error == "kill":
            return True
        if call == "sqlite":
            full = plan.error == "ENOSPC"
            raise sqlite3.OperationalError("database or disk is full" if full else "disk I/O error")
        number = getattr(errno, plan.error)
        raise OSError(number, os.strerror(number), where or None)

    def _append(self, path: str, call: str, where: str) -> None:
        file = self._open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        self._write(file, f"{call}\t{where}\n".encode())
        self._close(file)

    @staticmethod
    def _name(place: object) -> str:
        if isinstance(place, int):
            try:
                return os.readlink(f"/proc/self/fd/{place}")
            except OSError:
                return ""
        return os.fspath(place) if isinstance(place, str | os.PathLike) else str(place)


def _die() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("SIGKILL came back")


def _guard(gate: _Gate, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **keywords: Any) -> Any:
        places = args[:2] if name in ("replace", "rename") else args[:1]
        if gate.trips(name, places[0] if len(places) == 1 else " -> ".join(map(str, places))):
            _die()
        return real(*args, **keywords)

    return call


def _guard_write(gate: _Gate, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
    """A write that dies has written half."""

    def call(file: int, data: Any, *rest: Any) -> Any:
        if gate.trips(name, file):
            real(file, memoryview(data)[: len(data) // 2], *rest)
            _die()
        return real(file, data, *rest)

    return call


def _guard_os_open(gate: _Gate, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
    def call(path: Any, flags: int, *args: Any, **keywords: Any) -> Any:
        if flags & _WRITES and gate.trips(name, path):
            _die()
        file = real(path, flags, *args, **keywords)
        if flags & _WRITES:
            gate.written.add(file)
        return file

    return call


def _guard_close(gate: _Gate, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
    """A close that fails has closed all the same, as on Linux."""

    def call(file: int) -> None:
        counts = file in gate.written
        gate.written.discard(file)
        try:
            if counts and gate.trips(name, file):
                _die()
        finally:
            real(file)

    return call


_GUARDS = {
    "open": _guard_os_open, "write": _guard_write, "pwrite": _guard_write, "close": _guard_close,
}  # fmt: skip


def _guard_open(gate: _Gate, real: Callable[..., Any]) -> Any:
    """Path.open and its kin: their writes are not counted, their opening is."""

    def call(file: Any, mode: str = "r", *args: Any, **keywords: Any) -> Any:
        if set(mode) & set("wax+") and gate.trips("open", file):
            _die()
        return real(file, mode, *args, **keywords)

    return call


def _guard_connect(gate: _Gate, real: Callable[..., Any]) -> Any:
    def look(path: str, sql: str) -> None:
        changes = not sql.lstrip().upper().startswith(_READS)
        if changes and gate.trips("sqlite", f"{path}: {sql.splitlines()[0]}"):
            _die()

    class Guarded(sqlite3.Connection):
        """A connection whose statements that change something pass the gate."""

        def __init__(self, path: str, *args: Any, **keywords: Any) -> None:
            self.path = path
            super().__init__(path, *args, **keywords)

        def execute(self, sql: str, *args: Any) -> Any:
            look(self.path, sql)
            return super().execute(sql, *args)

        def executemany(self, sql: str, *args: Any) -> Any:
            look(self.path, sql)
            return super().executemany(sql, *args)

        def executescript(self, sql: str) -> Any:
            look(self.path, sql)
            return super().executescript(sql)

    return lambda *args, **keywords: real(*args, factory=Guarded, **keywords)


def _jump(step: float) -> None:
    """Let the clock of the wall jump by `step` seconds more with every look at it."""
    real = time.time
    jumped = 0.0

    def now() -> float:
        nonlocal jumped
        jumped += step
        return real() + jumped

    time.time = now


if __name__ == "__main__":
    serve(sys.argv[1])
