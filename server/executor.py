"""Work that touches files only, done by processes of this machine or of a Dask cluster.

A piece of work is a function of plain data that returns plain data (DESIGN, "When one machine is
not enough"). One coordinator hands tasks out and takes results in; what a task raises comes back
as a fault. Nothing here knows of a database: whatever a killed process had in work is just not
done.
"""

import multiprocessing
import os
import re
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Executor, Future, wait
from concurrent.futures.process import BrokenProcessPool, ProcessPoolExecutor
from contextlib import contextmanager
from importlib import import_module
from itertools import chain, islice
from multiprocessing.connection import wait as wait_for_end
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import NoReturn, TypeVar

from mirror.errors import ConfigError, LocalError
from server.faults import SYSTEM, Fault, fault_of

T = TypeVar("T")
R = TypeVar("R")

AHEAD = 16
"""Tasks a worker that are handed out at once: of small ones so many that none waits for the
coordinator while that registers a run of many components."""

KILLED = Fault(
    SYSTEM, "a worker process was killed while it worked on it (out of memory? dmesg may tell)"
)
"""What becomes of a task whose worker does not outlive it."""

PATIENCE = 10
"""Seconds in which a scheduler has to answer."""

_TERMINATED = 128 + signal.SIGTERM

_ADDRESS = re.compile(r"(?:tcp|tls|ucx)://[^/\s]+:[0-9]+")


class Workers:
    """Processes that do tasks; `count` of them at once.

    `killed`: what a task raises that has ended its workers; `lost`: what it raises where nothing
    is known of it any more.
    """

    def __init__(
        self,
        executor: Executor,
        count: int,
        killed: tuple[type[BaseException], ...] = (),
        lost: tuple[type[BaseException], ...] = (CancelledError,),
    ):
        self.count = count
        self._executor = executor
        self._killed = killed
        self._lost = lost

    def each(self, work: Callable[[T], R], tasks: Iterable[T]) -> Iterator[tuple[T, R | Fault]]:
        """Do every task; yields each with its result, or its fault, as they are done.

        `work` is a function that can be imported. A task is asked for only when a worker will
        soon be free: of `tasks`, however long, a few a worker are in work at once. A worker that
        is killed is the fault of the task that it had in work, and of that alone. Raises
        LocalError where workers cannot be started or reached.
        """
        source = iter(tasks)
        again: deque[T] = deque()
        handed: dict[Future[R | Fault], T] = {}
        try:
            self._hand_out(work, again, source, handed)
            while handed:
                done = wait(handed, return_when=FIRST_COMPLETED).done
                lost = any(self._is_broken(future) for future in done)
                if lost:
                    self._end_broken()
                    done = {one for one in handed if one.done() and not self._is_broken(one)}
                # Of those done together, in the order in which they were handed out.
                for future in [one for one in handed if one in done]:
                    yield handed.pop(future), self._result(future)
                if lost:
                    tasks_lost = list(handed.values())
                    handed.clear()
                    # They were begun in the order in which they were handed out.
                    yield from self._each_alone(work, tasks_lost[: self.count])
                    again.extend(tasks_lost[self.count :])
                self._hand_out(work, again, source, handed)
        finally:
            for future in handed:
                future.cancel()

    def _hand_out(
        self,
        work: Callable[[T], R],
        again: deque[T],
        source: Iterator[T],
        handed: dict[Future[R | Fault], T],
    ) -> None:
        upcoming = chain(_drained(again), source)
        for task in islice(upcoming, self.count * AHEAD - len(handed)):
            handed[self._submit(work, task)] = task

    def _submit(self, work: Callable[[T], R], task: T) -> "Future[R | Fault]":
        try:
            return self._executor.submit(_guarded, work, task)
        except self._lost as error:
            raise _worker_lost(error) from None

    def _result(self, future: "Future[R | Fault]") -> R | Fault:
        try:
            return future.result()
        except self._killed:
            return KILLED
        except self._lost as error:
            raise _worker_lost(error) from None

    def _is_broken(self, future: "Future[R | Fault]") -> bool:
        """Whether a task was lost, perhaps by the doing of another one."""
        return False

    def _end_broken(self) -> None:
        """Wait until nothing that was handed out is in work any more."""
        raise NotImplementedError

    def _each_alone(
        self, work: Callable[[T], R], tasks: Sequence[T]
    ) -> Iterator[tuple[T, R | Fault]]:
        """Do what was lost, one after the other, to see which of the tasks it was."""
        raise NotImplementedError


def _drained(waiting: deque[T]) -> Iterator[T]:
    while waiting:
        yield waiting.popleft()


def _worker_lost(error: BaseException) -> LocalError:
    why = f"{type(error).__name__}: {error}".removesuffix(": ")
    return LocalError(
        f"the workers are gone ({why}); look into the scheduler's log; what they had in work is"
        " done again by the next run"
    )


def _guarded(work: Callable[[T], R], task: T) -> R | Fault:
    """Do a task in a worker. Errors of several arguments would not survive the way back."""
    try:
        return work(task)
    except Exception as error:
        return fault_of(error)
    except _Leaving:
        # The pool would take this for a result, and give the process its next task.
        os._exit(_TERMINATED)


@contextmanager
def workers(jobs: int | None = None, scheduler: str | None = None) -> Iterator[Workers]:
    """Workers for the length of a `with`: `jobs` processes here (default: one a core), even if
    that is one, or those of the Dask cluster whose scheduler is at `scheduler`, tcp://HOST:PORT.

    Raises ConfigError for an address that is none and where `distributed` is not installed,
    LocalError where the scheduler does not answer. An exception inside ends the workers at once.
    """
    if scheduler is not None:
        with _cluster(scheduler, jobs) as ready:
            yield ready
    else:
        with _processes(jobs or len(os.sched_getaffinity(0))) as ready:
            yield ready


# Processes of this machine


class _Processes(Workers):
    """Processes of this machine; where one is killed, all are replaced.

    Which of the tasks in work had killed it is seen when each of them is done alone.
    """

    def __init__(self, count: int) -> None:
        self._others = multiprocessing.active_children()
        super().__init__(_pool(count), count)

    def end(self) -> None:
        """Wait until all processes have ended, having nothing to do any more."""
        self._executor.shutdown()

    def end_now(self) -> None:
        """End all processes; what they had begun is undone."""
        for child in self._children():
            child.terminate()
        self._executor.shutdown(cancel_futures=True)

    def _children(self) -> list[BaseProcess]:
        return [one for one in multiprocessing.active_children() if one not in self._others]

    def _submit(self, work: Callable[[T], R], task: T) -> "Future[R | Fault]":
        try:
            return self._executor.submit(_guarded, work, task)
        except BrokenProcessPool as error:
            future: Future[R | Fault] = Future()
            future.set_exception(error)
            return future
        except (OSError, RuntimeError) as error:
            raise _not_started(str(error)) from None

    def _is_broken(self, future: "Future[R | Fault]") -> bool:
        return future.done() and isinstance(future.exception(), BrokenProcessPool)

    def _each_alone(
        self, work: Callable[[T], R], tasks: Sequence[T]
    ) -> Iterator[tuple[T, R | Fault]]:
        up = False
        for task in tasks:
            if not up:
                self._start_one()
            future = self._submit(work, task)
            wait([future])
            up = not self._is_broken(future)
            yield task, future.result() if up else KILLED
        self._executor.shutdown()
        self._executor = _pool(self.count)

    def _end_broken(self) -> None:
        self._executor.shutdown()

    def _start_one(self) -> None:
        """Have one process instead of all; raises LocalError where it does not come up."""
        self._executor.shutdown()
        self._executor = _pool(1)
        ready = self._submit(_is_ready, None)
        started = self._children()
        wait([ready])
        if self._is_broken(ready):
            self._executor.shutdown()
            codes = [one.exitcode for one in started if one.exitcode]
            raise _not_started(f"exit status {codes[0]}" if codes else "")


def _pool(count: int) -> ProcessPoolExecutor:
    # Spawned, not forked: they have none of the coordinator's open files, and so none of its locks.
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(count, mp_context=context, initializer=_begin)


def _is_ready(nothing: None) -> bool:
    return True


def _not_started(why: str) -> LocalError:
    return LocalError(
        f"worker processes could not be started{f' ({why})' if why else ''}; look at what they say"
        " above, and at the limits of processes, memory and open files (ulimit -a)"
    )


@contextmanager
def _processes(count: int) -> Iterator[Workers]:
    ready = _Processes(count)
    try:
        yield ready
        ready.end()
    except BaseException:
        ready.end_now()
        raise


def _begin() -> None:
    """Make this process a worker: Ctrl-C is the coordinator's, and so is the worker's life."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _leave)
    threading.Thread(target=_end_with_parent, daemon=True).start()


class _Leaving(SystemExit):
    """A worker is told to end: what it had begun is undone on the way."""


def _leave(number: int, frame: FrameType | None) -> NoReturn:
    # The pool asks again as soon as one of the others has ended, and must not disturb the undoing.
    signal.signal(number, _stay)
    raise _Leaving(128 + number)


def _stay(number: int, frame: FrameType | None) -> None:
    """A worker that leaves already is told to: not SIG_IGN, which what it starts would inherit."""


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait_for_end([parent.sentinel])
        os._exit(1)


# A Dask cluster


def check_scheduler(address: str | None) -> None:
    """Raises ConfigError where `address` is neither None nor like tcp://HOST:PORT."""
    if address is not None and not _ADDRESS.fullmatch(address):
        raise ConfigError([f"scheduler: an address tcp://HOST:PORT expected, not {address!r}"])


@contextmanager
def _cluster(address: str, count: int | None) -> Iterator[Workers]:
    check_scheduler(address)
    try:
        # The package's own types are half there: as a module it has none.
        distributed = import_module("distributed")
    except ImportError:
        raise ConfigError(
            ["a Dask scheduler needs: pip install 'update-mirror[cluster]'"]
        ) from None
    try:
        client = distributed.Client(address, timeout=PATIENCE, set_as_default=False)
    except (OSError, TimeoutError, ValueError) as error:
        raise LocalError(
            f"the scheduler at {address} does not answer ({error or type(error).__name__}); is it"
            " running, and of the same version of distributed?"
        ) from None
    try:
        with client.get_executor(pure=False) as executor:
            # Workers may still come: with none yet, a few tasks wait for the first one.
            threads = count or sum(client.nthreads().values()) or 1
            try:
                # What tasks raise comes back as a fault: all else is of the cluster. It has
                # many words for its end; one is a TypeError where a result is lost half-way.
                yield Workers(
                    executor, threads, killed=(distributed.KilledWorker,), lost=(Exception,)
                )
            except BaseException:
                executor.shutdown(wait=False)
                raise
    finally:
        client.close(timeout=PATIENCE)
