"""A TCP relay that makes the wire longer: added latency, the bandwidth as it was."""

import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Self
from urllib.parse import urlsplit

from wire import bound

WINDOW = 64 << 20
"""Bytes under way in one direction of one connection; beyond it the sender has to wait."""

_CHUNK = 1 << 18
_RESET = struct.pack("ii", 1, 0)


class Relay:
    """Stands before a server; `url` is the server's with the relay's address in it.

    Every chunk from the server is handed on `delay` seconds after it came, every chunk to it
    `delay_up` seconds after, and no chunk waits for an earlier one's delay. Hang-ups and resets
    are delayed and handed on as what they are. The TCP handshake is not delayed, and there is no
    slow start. Use as a context manager.
    """

    def __init__(self, url: str, delay: float, delay_up: float = 0.0) -> None:
        parts = urlsplit(url)
        self._target = (parts.hostname or "", parts.port or 80)
        self._delay, self._delay_up = delay, delay_up
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._threads: set[threading.Thread] = set()
        self._pipes: set[_Pipe] = set()
        self._listener = bound(0)
        self._listener.listen(512)
        address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.url = parts._replace(netloc=address).geturl()
        self._start(self._accept)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End every connection and thread of the relay."""
        self._stop.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        while True:
            with self._lock:
                threads, pipes = list(self._threads), list(self._pipes)
            for pipe in pipes:
                pipe.abort()
            if not threads:
                return
            threads[0].join(0.1)

    def _start(self, work: Callable[[], None], after: Callable[[], None] | None = None) -> None:
        def run() -> None:
            try:
                work()
            finally:
                if after:
                    after()
                with self._lock:
                    self._threads.discard(threading.current_thread())

        thread = threading.Thread(target=run, daemon=True)
        with self._lock:
            self._threads.add(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._stop.is_set():
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self._target)
            except OSError:
                # What the client would have met without the relay is a refusal; this is nearest.
                _reset(client)
                continue
            for sock in (client, server):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._join(server, client, self._delay)
            self._join(client, server, self._delay_up)

    def _join(self, source: socket.socket, sink: socket.socket, delay: float) -> None:
        pipe = _Pipe(source, sink, delay, self._stop)
        with self._lock:
            self._pipes.add(pipe)

        self._start(pipe.read)
        self._start(pipe.write, partial(self._part, pipe))

    def _part(self, pipe: "_Pipe") -> None:
        """One direction has ended; after the second one the sockets are closed."""
        with self._lock:
            self._pipes.discard(pipe)
            if any(other.sink is pipe.source for other in self._pipes):
                return
        pipe.source.close()
        pipe.sink.close()


class _Pipe:
    """One direction of one connection: a reader that stamps chunks, a writer that waits."""

    def __init__(
        self, source: socket.socket, sink: socket.socket, delay: float, stop: threading.Event
    ) -> None:
        self.source, self.sink = source, sink
        self._delay = delay
        self._stop = stop
        self._queue: deque[tuple[float, bytes | None]] = deque()
        self._bytes = 0
        self._ended = False
        self._changed = threading.Condition()

    def read(self) -> None:
        """Take chunks as they come; an empty one stands for the end, None for a reset."""
        chunk: bytes | None = b"-"
        while chunk:
            try:
                chunk = self.source.recv(_CHUNK)
            except OSError:
                chunk = None
            with self._changed:
                self._queue.append((time.monotonic() + self._delay, chunk))
                self._bytes += len(chunk or b"")
                self._changed.notify_all()
                while self._bytes > WINDOW and not self._ended and not self._stop.is_set():
                    self._changed.wait()

    def write(self) -> None:
        """Hand each chunk on when its time has come, until the end or the relay's own."""
        while True:
            with self._changed:
                while not self._queue:
                    self._changed.wait()
                due, chunk = self._queue.popleft()
            if self._stop.wait(max(0.0, due - time.monotonic())) or chunk is None:
                return self._break()
            try:
                if not chunk:
                    return self.sink.shutdown(socket.SHUT_WR)
                self.sink.sendall(chunk)
            except OSError:
                return self._break()
            with self._changed:
                self._bytes -= len(chunk)
                self._changed.notify_all()

    def _break(self) -> None:
        """The sink left or the source broke: reset both sides."""
        for sock in (self.sink, self.source):
            _reset(sock)
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def abort(self) -> None:
        """Wake both threads, from another thread, so that they end."""
        for sock in (self.sink, self.source):
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        with self._changed:
            self._changed.notify_all()


def _reset(sock: socket.socket) -> None:
    with suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        # A thread that waits in recv would keep the descriptor alive past close.
        sock.shutdown(socket.SHUT_RD)
    sock.close()
