"""Several processes that serve one listening socket, and the parent that keeps them going.

The parent forks before any thread exists, serves nobody and opens no store. It restarts a worker
that has died, passes an asked-for end on, and waits for all. Workers outlive a parent that was
killed only until their requests in work are answered: each watches a pipe whose other end the
parent holds.
"""

import os
import select
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import ExitStack
from typing import NoReturn

from mirror.errors import ConfigError, LocalError, MirrorError
from server.http.listen import signalled

Work = Callable[[int, tuple[int, ...], Callable[[], None]], None]
"""What a worker does: called with its number from 0 on, descriptors of which one becomes readable
when it is to end, and what to call when it is ready."""

PAUSE = 1.0
"""Seconds at least between two starts of one worker."""

_ENDING = (signal.SIGTERM, signal.SIGINT)
_WATCHED = (*_ENDING, signal.SIGCHLD)
_REPORT = 4096
_READY = "ready"


def supervise(
    count: int, listener: socket.socket, work: Work, announce: Callable[[], None]
) -> None:
    """Run `count` workers until SIGTERM or SIGINT, and return when all have ended.

    `announce` is called when all are ready for the first time. The listener is closed here when the
    end is asked for. A second signal kills. Raises what a worker raised before it was ready, as
    ConfigError, LocalError or MirrorError.
    """
    with ExitStack() as opened:
        called = opened.enter_context(signalled(*_WATCHED))
        crew = _Crew(count, listener, work, opened)
        crew.start_due()
        waiting = select.poll()
        waiting.register(called, select.POLLIN)
        waiting.register(crew.reports, select.POLLIN)
        while not crew.done():
            waiting.poll(crew.patience())
            for number in _bytes_of(called):
                if number in _ENDING:
                    crew.end(number)
            crew.hear(announce)
            crew.reap()
            crew.start_due()
    if crew.fault is not None:
        raise crew.fault


def _bytes_of(called: socket.socket) -> bytes:
    try:
        return called.recv(4096)
    except BlockingIOError:
        return b""


class _Crew:
    """The workers: which run, which are due, what they have told."""

    def __init__(self, count: int, listener: socket.socket, work: Work, opened: ExitStack) -> None:
        self._listener = listener
        self._work = work
        self._lifeline, self._held = os.pipe()
        opened.callback(os.close, self._lifeline)
        opened.callback(os.close, self._held)
        self.reports, self._told = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        opened.enter_context(self.reports)
        opened.enter_context(self._told)
        self.reports.setblocking(False)
        self._running: dict[int, int] = {}
        self._due = dict.fromkeys(range(count), 0.0)
        self._started: dict[int, float] = {}
        self._unready = set(range(count))
        self._ending = False
        self.fault: MirrorError | None = None

    def done(self) -> bool:
        """Say whether the end was asked for and has come."""
        return self._ending and not self._running

    def patience(self) -> float | None:
        """Milliseconds until the next worker is due, None if none is."""
        if not self._due:
            return None
        return max(0.0, 1000 * (min(self._due.values()) - time.monotonic())) + 1

    def start_due(self) -> None:
        """Start the workers whose time has come."""
        now = time.monotonic()
        for number in [number for number, due in self._due.items() if due <= now]:
            del self._due[number]
            self._started[number] = now
            self._fork(number)

    def reap(self) -> None:
        """Take note of the workers that have ended, and when to start them again."""
        for pid, number in list(self._running.items()):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if not ended:
                continue
            del self._running[pid]
            if not self._ending:
                self._due[number] = max(time.monotonic(), self._started[number] + PAUSE)
                how = os.waitstatus_to_exitcode(status)
                said = f"signal {-how}" if how < 0 else f"status {how}"
                _complain(f"worker {number} (process {pid}) ended by {said}; starting it again")

    def end(self, number: int) -> None:
        """Ask all to end; the second time kill them, and this process by signal `number`."""
        if self._ending and self.fault is None:
            self._kill(signal.SIGKILL)
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self._stop()

    def hear(self, announce: Callable[[], None]) -> None:
        """Take the workers' reports; `announce` when the last of them is ready."""
        while True:
            try:
                told = self.reports.recv(_REPORT)
            except BlockingIOError:
                return
            number, kind, words = told.decode(errors="replace").split(" ", 2)
            if kind != _READY:
                self._hear_fault(kind, words)
            elif int(number) in self._unready:
                self._unready.remove(int(number))
                if not self._unready and not self._ending:
                    announce()

    def _hear_fault(self, kind: str, words: str) -> None:
        if not self._unready:
            # It has been well before, and may be again: a database that is away for a while.
            _complain(words)
        elif not self._ending:
            self.fault = _fault(kind, words)
            self._stop()

    def _stop(self) -> None:
        self._ending = True
        self._due.clear()
        self._listener.close()
        self._kill(signal.SIGTERM)

    def _kill(self, number: int) -> None:
        for pid in self._running:
            os.kill(pid, number)

    def _fork(self, number: int) -> None:
        # A signal between the fork and the worker's own handlers would be taken for the parent's.
        signal.pthread_sigmask(signal.SIG_BLOCK, _WATCHED)
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if not pid:
            self._be_worker(number)
        self._running[pid] = number
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _WATCHED)

    def _be_worker(self, number: int) -> NoReturn:
        """Work, and end this process whatever happens: nothing of the parent's may run here."""
        status = 1
        try:
            os.close(self._held)
            self.reports.close()
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            # From a terminal it comes to parent and workers alike, and the parent passes it on.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            # Any number of SIGTERMs ask for the same end: systemd sends one, and the parent too.
            with signalled(signal.SIGTERM) as called:
                until = (called.fileno(), self._lifeline)
                self._work(number, until, lambda: self._tell(number, _READY, ""))
            status = 0
        except MirrorError as fault:
            self._tell(number, type(fault).__name__, str(fault))
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)

    def _tell(self, number: int, kind: str, words: str) -> None:
        try:
            self._told.send(f"{number} {kind} {words}".encode()[:_REPORT])
        except OSError:
            # The parent has gone.
            pass


def _fault(kind: str, words: str) -> MirrorError:
    if kind == ConfigError.__name__:
        return ConfigError([words])
    return (LocalError if kind == LocalError.__name__ else MirrorError)(words)


def _complain(words: str) -> None:
    print(f"server serve: {words}", file=sys.stderr, flush=True)
