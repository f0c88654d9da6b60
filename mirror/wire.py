"""Plain HTTP/1.1 over a socket: the hot path to a Data Store.

Two thousand small files are two thousand requests, and there a general HTTP library costs ten
times what the request itself does (benchmarks/mirror.py). So GET over plain http is spoken here,
with kept-alive connections, pipelining, and hard bounds on everything the other end may send;
proxies, credentials and TLS go through mirror.session. Every failure is a TransportError.
"""

import re
import socket
import time
from collections.abc import Mapping, Sequence

from mirror.errors import TransportError

MAX_HEAD = 65536
"""Bytes of status line and headers that we read before we take the answer for an attack."""

MAX_INTERIM = 8
"""Interim answers (1xx) that may precede an answer."""

_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;.*)?")
_STATUS = re.compile(r"HTTP/(1\.[01]) ([1-9][0-9][0-9])(?: .*)?")
_NO_BODY = (204, 304)
_QUICKACK = getattr(socket, "TCP_QUICKACK", None)


class ClosedError(TransportError):
    """The other end had closed the connection before it answered anything."""


class WireAnswer:
    """One answer: status, headers by lower-case name, and the body to be read into buffers.

    `length` is what Content-Length says of the body, in bytes, or None where it says nothing.
    """

    def __init__(self, connection: "Connection", status: int, headers: Mapping[str, str]) -> None:
        self.status = status
        self.headers = headers
        self.length = _content_length(headers) if status not in _NO_BODY else 0
        self._chunked = "transfer-encoding" in headers and status not in _NO_BODY
        if self._chunked:
            if headers["transfer-encoding"].strip().lower() != "chunked" or self.length is not None:
                raise TransportError("the answer's framing is ambiguous")
            self._chunk = 0
        self._left = self.length
        self._connection = connection
        self._ended = self.length == 0

    def readinto(self, buffer: memoryview) -> int:
        """Read what has come of the body, at most `len(buffer)` bytes; 0 at its end.

        Raises TransportError where the connection ends before the body does.
        """
        if self._ended:
            return 0
        if self._chunked:
            return self._read_chunked(buffer)
        if self._left is None:
            count = self._connection.recv_into(buffer)
            self._ended = count == 0
            return count
        count = self._connection.recv_into(buffer[: self._left])
        if not count:
            raise TransportError(f"the connection ended {self._left} bytes before the body did")
        self._left -= count
        self._ended = self._left == 0
        return count

    def _read_chunked(self, buffer: memoryview) -> int:
        connection = self._connection
        if self._chunk == 0:
            match = _CHUNK_SIZE.fullmatch(connection.line(1024))
            if not match:
                raise TransportError("a chunk of the body has no valid size")
            self._chunk = int(match[1], 16)
            if self._chunk == 0:
                budget = MAX_HEAD
                while trailer := connection.line(budget):
                    budget -= len(trailer)
                self._ended = True
                return 0
        count = connection.recv_into(buffer[: self._chunk])
        if not count:
            raise TransportError("the connection ended within a chunk of the body")
        self._chunk -= count
        if self._chunk == 0 and connection.line(2):
            raise TransportError("a chunk of the body is longer than its size")
        return count

    def close(self) -> None:
        """Give the connection back for the next answer if this one was read to its end."""
        framed = self._chunked or self._left is not None
        if not (self._ended and framed and _keeps_alive(self.headers)):
            self._connection.close()


def _content_length(headers: Mapping[str, str]) -> int | None:
    text = headers.get("content-length")
    if text is None:
        return None
    given = {one.strip() for one in text.split(",")}
    if len(given) != 1 or not re.fullmatch(r"[0-9]{1,19}", text := given.pop()):
        raise TransportError(f"a length in bytes expected in Content-Length, not {text!r}")
    return int(text)


def _keeps_alive(headers: Mapping[str, str]) -> bool:
    said = headers.get("connection", "").lower()
    return "keep-alive" in said if headers[":version"] == "1.0" else "close" not in said


class Connection:
    """A connection to one host, reading through one buffer."""

    def __init__(self, host: str, port: int, timeout: float) -> None:
        self._peer = (host, port)
        self._timeout = timeout
        self._socket: socket.socket | None = None
        self._buffer = bytearray(MAX_HEAD + 2)
        self._view = memoryview(self._buffer)
        self._start = self._end = 0
        self._sent = 0.0
        self.served = 0
        self.fastest = float("inf")
        """Seconds that the fastest answer took to begin."""

    @property
    def is_open(self) -> bool:
        """Whether a request can be sent without connecting first."""
        return self._socket is not None

    def open(self) -> None:
        """Connect. Raises TransportError."""
        try:
            self._socket = socket.create_connection(self._peer, self._timeout)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            late = isinstance(error, TimeoutError)
            raise TransportError(_said(error, "cannot connect"), late=late) from None
        self._start = self._end = self.served = 0

    def close(self) -> None:
        """Drop the connection, whatever is under way on it."""
        opened, self._socket = self._socket, None
        if opened:
            opened.close()

    def abort(self) -> None:
        """Wake a thread that waits for this connection's bytes; it gets a TransportError."""
        if opened := self._socket:
            try:
                opened.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # it had ended by itself

    def send(self, request: bytes) -> None:
        """Send the bytes of one or more requests."""
        try:
            self._sent = time.monotonic()
            self._live().sendall(request)
        except OSError as error:
            raise ClosedError(_said(error, "cannot send")) from None

    def answer(self) -> WireAnswer:
        """Read the head of the next answer. Raises TransportError."""
        # A server that drips its head would satisfy any time-out of a single read.
        limit = time.monotonic() + 2 * self._timeout
        for _ in range(MAX_INTERIM):
            status, headers = _parse_head(self._head(limit))
            if status >= 200:
                self.served += 1
                self.fastest = min(self.fastest, time.monotonic() - self._sent)
                return WireAnswer(self, status, headers)
        raise TransportError("the server sends interim answers without end")

    def _head(self, limit: float) -> bytes:
        scanned = self._start
        while True:
            at = self._buffer.find(b"\r\n\r\n", scanned, self._end)
            if at >= 0:
                head = bytes(self._view[self._start : at])
                self._start = at + 4
                return head
            scanned = max(self._start, self._end - 3)
            if self._end - self._start >= MAX_HEAD:
                raise TransportError(f"the answer's head is longer than {MAX_HEAD} bytes")
            moved = self._start
            if not self._fill():
                raise ClosedError("the server closed the connection instead of answering")
            scanned -= moved - self._start
            if time.monotonic() > limit:
                raise TransportError("the answer's head took too long", late=True)

    def _fill(self) -> int:
        """Read more into the buffer; moves what is in it to the front if there is no room."""
        if self._start == self._end:
            self._start = self._end = 0
        elif self._end == len(self._buffer):
            held = self._end - self._start
            self._buffer[:held] = self._buffer[self._start : self._end]
            self._start, self._end = 0, held
        count = self._recv(self._view[self._end :])
        self._end += count
        return count

    def recv_into(self, buffer: memoryview) -> int:
        """Body bytes: first what came along with the head, then straight from the socket."""
        held = self._end - self._start
        if held:
            count = min(held, len(buffer))
            buffer[:count] = self._view[self._start : self._start + count]
            self._start += count
            return count
        return self._recv(buffer)

    def line(self, limit: int) -> bytes:
        """One line of the body's framing, without its end, of at most `limit` bytes."""
        while True:
            at = self._buffer.find(b"\r\n", self._start, self._end)
            if at >= 0 and at - self._start <= limit:
                line = bytes(self._view[self._start : at])
                self._start = at + 2
                return line
            if self._end - self._start > limit:
                raise TransportError("the body's framing is damaged")
            if not self._fill():
                raise TransportError("the connection ended before the body did")

    def _recv(self, buffer: memoryview) -> int:
        live = self._live()
        try:
            if _QUICKACK is not None:
                # Else the other end may hold back a short answer of a burst until we
                # acknowledge the one before, and we that for 40 ms. It does not last, so each time.
                live.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)
            return live.recv_into(buffer)
        except TimeoutError:
            raise TransportError(f"no bytes came for {self._timeout:g} s", late=True) from None
        except ConnectionError as error:
            raise ClosedError(_said(error, "the connection broke")) from None
        except OSError as error:
            raise TransportError(_said(error, "the connection broke")) from None

    def _live(self) -> socket.socket:
        if self._socket is None:
            raise TransportError("the connection was closed")
        return self._socket


def _parse_head(head: bytes) -> tuple[int, dict[str, str]]:
    first, *lines = head.decode("latin-1").split("\r\n")
    match = _STATUS.fullmatch(first)
    if not match:
        raise TransportError(f"an HTTP answer expected, not {first[:60]!r}")
    headers = {":version": match[1]}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            raise TransportError(f"a header expected, not {line[:60]!r}")
        key = name.lower()
        text = value.strip()
        headers[key] = f"{headers[key]}, {text}" if key in headers else text
    return int(match[2]), headers


def _said(error: OSError, doing: str) -> str:
    if isinstance(error, TimeoutError):
        return f"{doing}: no answer in time"
    return f"{doing}: {error.strerror or error}"


def request_bytes(host: str, targets: Sequence[str], headers: Mapping[str, str]) -> bytes:
    """The bytes of one GET for each of `targets` (path and query), to be sent at once."""
    common = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return "".join(
        f"GET {target} HTTP/1.1\r\nHost: {host}\r\n{common}\r\n" for target in targets
    ).encode("latin-1")
