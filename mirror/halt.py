"""When a run stops starting things: a deadline, a signal, a disk that is full, a server that is
gone. One object, asked before every transfer and in every wait.
"""

import threading
import time

from mirror.errors import MirrorError


class HaltedError(MirrorError):
    """Work was not started, or was given up, because the run is coming to its end.

    It is no fault of what it hit: that stays queued.
    """


class Halt:
    """Why nothing new is started any more, if so.

    `deadline` is in seconds of time.monotonic(), so that a clock that jumps moves nothing.
    """

    def __init__(self, deadline: float | None = None) -> None:
        self._deadline = deadline
        self._stop = threading.Event()
        self._interrupt = threading.Event()
        self._reason: str | None = None

    def stop(self, reason: str, *, interrupt: bool = False) -> None:
        """Start nothing new from now on; with `interrupt` also give up what is in work."""
        self._reason = self._reason or reason
        if interrupt:
            self._interrupt.set()
        self._stop.set()

    @property
    def reason(self) -> str | None:
        """Why nothing new is to be started, or None while work goes on."""
        if self._reason is None and self._deadline is not None and self.seconds_left() <= 0:
            self._reason = "the deadline has come"
        return self._reason

    @property
    def interrupted(self) -> bool:
        """Whether even what is in work is to be given up."""
        return self._interrupt.is_set()

    def seconds_left(self) -> float:
        """Seconds until the deadline; infinite without one."""
        return float("inf") if self._deadline is None else self._deadline - time.monotonic()

    def check(self) -> None:
        """Raise HaltedError if what is in work is to be given up."""
        if self._interrupt.is_set():
            raise HaltedError(self._reason or "interrupted")

    def sleep(self, seconds: float) -> None:
        """Wait before a new try. Raises HaltedError at once if the run would end before that."""
        if seconds >= self.seconds_left():
            raise HaltedError("the deadline comes before the next try")
        if self.reason is not None or self._stop.wait(seconds):
            raise HaltedError(self._reason or "interrupted")

    def pause(self, seconds: float) -> None:
        """Wait within a transfer, which a deadline lets finish. Raises HaltedError on a signal."""
        if self._interrupt.wait(seconds):
            raise HaltedError(self._reason or "interrupted")
