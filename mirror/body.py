"""The body of an answer on its way in: speed floor, rate limit, and an end when the run ends."""

import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from mirror.errors import TransportError
from mirror.halt import Halt

if TYPE_CHECKING:
    from formats.mirror_yaml import Config
    from mirror.session import SessionAnswer
    from mirror.wire import WireAnswer


class RateLimit:
    """Lets bytes through at a given mean rate, for all transfers together."""

    def __init__(self, bytes_per_second: int | None) -> None:
        self._rate = bytes_per_second
        self._lock = threading.Lock()
        self._free_at = 0.0

    @property
    def piece(self) -> int:
        """Bytes to read at once, so that the rate is even over a second."""
        return max(1024, self._rate // 8) if self._rate else 1 << 30

    def take(self, count: int) -> float:
        """Count `count` bytes and return the seconds to wait before reading on."""
        if self._rate is None:
            return 0.0
        with self._lock:
            now = time.monotonic()
            self._free_at = max(self._free_at, now) + count / self._rate
            return self._free_at - now


class Body:
    """The body of an answer: read with the speed floor, the rate limit and the halt applied."""

    def __init__(
        self, answer: "WireAnswer | SessionAnswer", config: "Config", halt: Halt, rate: RateLimit
    ) -> None:
        self.status = answer.status
        self.headers = answer.headers
        self.length = answer.length
        self._answer = answer
        self._config = config
        self._halt = halt
        self._rate = rate
        self._waited = 0.0
        self._came = 0

    def readinto(self, buffer: memoryview) -> int:
        """Read some of the body into `buffer`; 0 at its end.

        Raises TransportError on a cut, a stall, or less than min_speed over a time-out's length.
        """
        self._halt.check()
        started = time.monotonic()
        count = self._answer.readinto(buffer[: self._rate.piece])
        self._waited += time.monotonic() - started
        self._came += count
        if self._waited >= self._config.timeout:
            if self._came < self._config.min_speed * self._waited:
                raise TransportError(
                    f"only {self._came} bytes came in {self._waited:.0f} s "
                    f"(min_speed is {self._config.min_speed} bytes/s)",
                    late=True,
                )
            self._waited, self._came = 0.0, 0
        if pause := self._rate.take(count):
            self._halt.pause(pause)
        return count

    def chunks(self) -> Iterator[bytes]:
        """The body in pieces of at most 64 KiB."""
        buffer = bytearray(65536)
        view = memoryview(buffer)
        while count := self.readinto(view):
            yield bytes(view[:count])

    def close(self) -> None:
        """Release the connection. A body not read to its end costs the connection."""
        self._answer.close()

    def __enter__(self) -> "Body":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
