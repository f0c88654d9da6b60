"""An end to an HTTP exchange, however it drips: the standard library's timeout is one read's.

The socket's timeout is set anew before each read to what is left of the whole, so it holds for the
head, the sizes of chunks and trailers as for the body.
"""

import http.client
import io
import socket
import time
from collections.abc import Callable
from typing import Any


class OverdueError(Exception):
    """The exchange did not end in time."""


class Clock:
    """The seconds that a silence may last, and those that all of an exchange may take from now."""

    def __init__(self, silence: float, total: float) -> None:
        self.total = total
        self._silence = silence
        self._until = time.monotonic() + total

    def left(self) -> float:
        """The seconds that the next step may last. Raises OverdueError if there are none."""
        left = self._until - time.monotonic()
        if left <= 0:
            raise OverdueError
        return min(left, self._silence)


def clocked(
    kind: type[http.client.HTTPConnection], clock: Clock
) -> Callable[..., http.client.HTTPConnection]:
    """What makes connections of this kind, all of whose reading ends with the clock."""

    class Response(http.client.HTTPResponse):
        def __init__(self, sock: socket.socket, *args: Any, **options: Any) -> None:
            super().__init__(sock, *args, **options)
            # What it made for itself reads the socket as it is.
            self.fp.close()
            self.fp = io.BufferedReader(_Reader(sock, clock))

    def made(host: str, **options: Any) -> http.client.HTTPConnection:
        connection = kind(host, **{**options, "timeout": clock.left()})
        connection.response_class = Response
        return connection

    return made


class _Reader(io.RawIOBase):
    """A socket as a file that is read until the clock has run out."""

    def __init__(self, sock: socket.socket, clock: Clock) -> None:
        self._sock = sock
        self._clock = clock
        self._file = sock.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._sock.settimeout(self._clock.left())
        try:
            return self._file.readinto(buffer)
        except TimeoutError:
            # Silent for too long, or at the end of what it may take in all.
            self._clock.left()
            raise

    def close(self) -> None:
        self._file.close()
        super().close()
