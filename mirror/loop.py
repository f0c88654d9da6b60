"""Work in threads, decisions in one: tasks are handed to pools, their outcomes come back here."""

import queue
from collections.abc import Callable
from concurrent.futures import Executor, Future
from functools import partial
from typing import Any

from mirror.errors import IntegrityError, LocalError, MirrorError, RefusedError, TransportError
from mirror.halt import HaltedError

HANDLED = (IntegrityError, LocalError, RefusedError, TransportError, HaltedError)
"""What a task may fail with; anything else is a fault of this program and ends the run."""


class Loop:
    """Counts the tasks under way and calls back, in the coordinator's thread, as they end."""

    def __init__(self) -> None:
        self._events: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self.under_way = 0

    def submit(
        self,
        pool: Executor,
        work: Callable[[], Any],
        done: Callable[[Any], None],
        failed: Callable[[MirrorError], None],
    ) -> None:
        """Do `work` in `pool`, then `done` or `failed` with its outcome in this thread."""
        self.under_way += 1

        def finished(future: Future[Any]) -> None:
            self._events.put(partial(self._settle, future, done, failed))

        pool.submit(work).add_done_callback(finished)

    def step(self) -> bool:
        """Wait a tenth of a second for a task to end, and call back; whether one did."""
        try:
            event = self._events.get(timeout=0.1)
        except queue.Empty:
            return False
        event()
        return True

    def _settle(
        self,
        future: Future[Any],
        done: Callable[[Any], None],
        failed: Callable[[MirrorError], None],
    ) -> None:
        self.under_way -= 1
        try:
            result = future.result()
        except HANDLED as error:
            failed(error)
        else:
            done(result)
