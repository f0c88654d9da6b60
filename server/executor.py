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
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, CancelledError, Executor, Future, wait
from concurrent.futures.process import BrokenProcessPool, ProcessPoolExecutor
from contextlib import contextmanager
from importlib import import_module
from itertools import islice
from multiprocessing.connection import wait as wait_for_end
from types import FrameType
from typing import NoReturn, TypeVar

from mirror.errors import ConfigError, LocalError
from server.faults import Fault, fault_of

T = TypeVar("T")
R = TypeVar("R")

AHEAD = 16
"""Tasks a worker that are handed out at once: of small ones so many that none waits for the
coordinator while that registers a run of many components."""

PATIENCE = 10
"""Seconds in which a scheduler has to answer."""

_ADDRESS = re.compile(r"(?:tcp|tls|ucx)://[^/\s]+:[0-9]+")


class Workers:
    """Processes that do tasks; `count` of them at once."""

    def __init__(self, executor: Executor, count: int, lost: tuple[type[BaseException], ...]):
        self.count = count
        self._executor = executor
        self._lost = lost

    def each(self, work: Callable[[T], R], tasks: Iterable[T]) -> Iterator[tuple[T, R | Fault]]:
        """Do every task; yields each with its result, or its fault, as they are done.

        `work` is a function that can be imported. A task is asked for only when a worker will
        soon be free: of `tasks`, however long, a few a worker are in work at once. Raises
        LocalError where a worker has ended before its task; what was in work then is not done.
        """
        source = iter(tasks)
        handed: dict[Future[R | Fault], T] = {}
        try:
            self._hand_out(work, source, handed)
            while handed:
                for future in wait(handed, return_when=FIRST_COMPLETED).done:
                    task = handed.pop(future)
                    yield task, self._result(future)
                self._hand_out(work, source, handed)
        finally:
            for future in handed:
                future.cancel()

    def _hand_out(
        self, work: Callable[[T], R], source: Iterator[T], handed: dict[Future[R | Fault], T]
    ) -> None:
        for task in islice(source, self.count * AHEAD - len(handed)):
            try:
                handed[self._executor.submit(_guarded, work, task)] = task
            except self._lost as error:
                raise _worker_lost(error) from None

    def _result(self, future: "Future[R | Fault]") -> R | Fault:
        try:
            return future.result()
        except self._lost as error:
            raise _worker_lost(error) from None


def _worker_lost(error: BaseException) -> LocalError:
    return LocalError(
        f"a worker has ended before its task was done ({type(error).__name__}); look whether the"
        " system was short of memory (dmesg), or a worker's log; what it had in work is done again"
        " by the next run"
    )


def _guarded(work: Callable[[T], R], task: T) -> R | Fault:
    """Do a task in a worker. Errors of several arguments would not survive the way back."""
    try:
        return work(task)
    except Exception as error:
        return fault_of(error)
    except _Leaving:
        # The pool would take this for a result, and give the process its next task.
        os._exit(128 + signal.SIGTERM)


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


@contextmanager
def _processes(count: int) -> Iterator[Workers]:
    # Spawned, not forked: they have none of the coordinator's open files, and so none of its locks.
    context = multiprocessing.get_context("spawn")
    others = multiprocessing.active_children()
    pool = ProcessPoolExecutor(count, mp_context=context, initializer=_begin)
    try:
        yield Workers(pool, count, (BrokenProcessPool, CancelledError))
        pool.shutdown()
    except BaseException:
        for child in multiprocessing.active_children():
            if child not in others:
                child.terminate()
        pool.shutdown(cancel_futures=True)
        raise


def _begin() -> None:
    """Make this process a worker: Ctrl-C is the coordinator's, and so is the worker's life."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _leave)
    threading.Thread(target=_end_with_parent, daemon=True).start()


class _Leaving(SystemExit):
    """A worker is told to end: what it had begun is undone on the way."""


def _leave(number: int, frame: FrameType | None) -> NoReturn:
    raise _Leaving(128 + number)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait_for_end([parent.sentinel])
        os._exit(1)


# A Dask cluster


@contextmanager
def _cluster(address: str, count: int | None) -> Iterator[Workers]:
    if not _ADDRESS.fullmatch(address):
        raise ConfigError([f"scheduler: an address tcp://HOST:PORT expected, not {address!r}"])
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
                yield Workers(executor, threads, (distributed.KilledWorker, CancelledError))
            except BaseException:
                executor.shutdown(wait=False)
                raise
    finally:
        client.close(timeout=PATIENCE)
