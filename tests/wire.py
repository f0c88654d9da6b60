"""HTTP/1.1 over raw sockets, for tests that lie on the wire.

A web server's library would mend what the faults have to break: lengths, framing, the moment of a
hang-up. So the bytes are written here, one thread a connection, pipelined requests answered in
order. What is answered is the caller's: `Server` hands every request to one function.
"""

import fcntl
import re
import socket
import ssl
import struct
import termios
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from http.client import responses
from urllib.parse import unquote

Headers = tuple[tuple[str, str], ...]

MAX_HEAD = 1 << 20
"""Bytes of a request's head; a client of ours that sends more is broken."""

_RANGE = re.compile(r"bytes=(\d*)-(\d*)")
_CHUNK = 1 << 16
_RESET = struct.pack("ii", 1, 0)


class GoneError(Exception):
    """The peer hung up, or the server is being closed: end this connection quietly."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request as it came. Header names are lower case; `path` and `query` are decoded once.

    `target` is what stood in the request line, `connection` the number of the connection it came
    on (from 1), `time` its arrival in monotonic seconds.
    """

    method: str
    target: str
    path: str
    query: str
    headers: dict[str, str]
    version: str
    connection: int
    time: float

    @property
    def last(self) -> bool:
        """Whether the client wants the connection closed after the answer."""
        return self.version == "HTTP/1.0" or self.headers.get("connection", "").lower() == "close"


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer. `body` is `whole` from byte `start` on, or all of it, unless it is a range."""

    status: int
    headers: Headers
    body: bytes
    whole: bytes = b""
    start: int = 0

    def head(self, version: str = "HTTP/1.1") -> bytes:
        """The status line and the headers, with the blank line that ends them."""
        return head(self.status, self.headers, version)

    def with_headers(self, **changes: str | None) -> "Answer":
        """The same with headers set, or taken out by None; `_` in a keyword stands for `-`."""
        names = {name.replace("_", "-").lower(): name for name in changes}
        kept = [pair for pair in self.headers if pair[0].lower() not in names]
        for name, value in changes.items():
            if value is not None:
                kept.append((name.replace("_", "-"), value))
        return replace(self, headers=tuple(kept))

    def with_body(self, body: bytes) -> "Answer":
        """The same with another body and its honest Content-Length."""
        return replace(self, body=body).with_headers(Content_Length=str(len(body)))


def head(status: int, headers: Headers, version: str = "HTTP/1.1") -> bytes:
    """A status line and headers as bytes; names may repeat, nothing is checked."""
    lines = [f"{version} {status} {responses.get(status, 'Unknown')}"]
    lines += [f"{name}: {value}" for name, value in headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def plain(status: int, text: str, *headers: tuple[str, str]) -> Answer:
    """A short answer of one line of text."""
    body = text.encode() + b"\n"
    kind = ("Content-Type", "text/plain; charset=utf-8")
    return Answer(status, (kind, ("Content-Length", str(len(body))), *headers), body, body)


def represent(request: Request, whole: bytes, kind: str, etag: str, modified: str) -> Answer:
    """Answer with a resource, or with the one range of it that was asked for (RFC 9110, 14).

    A list of several ranges is answered with the whole, which the RFC allows.
    """
    headers = (
        ("Content-Type", kind), ("ETag", etag), ("Last-Modified", modified),
        ("Accept-Ranges", "bytes"),
    )  # fmt: skip
    wanted = request.headers.get("range") if request.method == "GET" else None
    if wanted and request.headers.get("if-range", etag) in (etag, modified):
        span = _span(wanted, len(whole))
        if span is None:
            answer = plain(416, "no such range", ("Content-Range", f"bytes */{len(whole)}"))
            return replace(answer, whole=whole)
        if span != (0, -1):
            first, last = span
            place = ("Content-Range", f"bytes {first}-{last}/{len(whole)}")
            length = ("Content-Length", str(last + 1 - first))
            part = whole[first : last + 1]
            return Answer(206, (*headers, place, length), part, whole, first)
    return Answer(200, (*headers, ("Content-Length", str(len(whole)))), whole, whole)


def _span(wanted: str, size: int) -> tuple[int, int] | None:
    """First and last byte of a Range; (0, -1) if it has no meaning, None if it has no bytes."""
    match = _RANGE.fullmatch(wanted)
    if not match or match[1] + match[2] == "":
        return 0, -1
    if not match[1]:
        count = min(int(match[2]), size)
        return (size - count, size - 1) if count else None
    first = int(match[1])
    last = min(int(match[2]), size - 1) if match[2] else size - 1
    if match[2] and int(match[2]) < first:
        return 0, -1
    return (first, last) if first < size else None


class Connection:
    """One client's connection, with what a fault may do to it. Used by its own thread only.

    `number` counts connections from 1, `served` the requests already answered on this one.
    """

    def __init__(self, sock: socket.socket, number: int, stop: threading.Event) -> None:
        self.sock = sock
        self.number = number
        self.served = 0
        self.open = True
        self._stop = stop

    def requests(self) -> Iterator[Request]:
        """The requests of this connection, in order, until the peer or a fault ends it."""
        buffer = b""
        while self.open:
            end = buffer.find(b"\r\n\r\n")
            if end < 0:
                chunk = self.sock.recv(_CHUNK)
                if not chunk or len(buffer) > MAX_HEAD:
                    return
                buffer += chunk
                continue
            request = _parse(buffer[:end], self.number)
            buffer = buffer[end + 4 :]
            body = int(request.headers.get("content-length", "0"))
            while len(buffer) < body:
                chunk = self.sock.recv(_CHUNK)
                if not chunk:
                    return
                buffer += chunk
            buffer = buffer[body:]
            yield request
            self.served += 1
            if self.open and request.last:
                self.close()

    def send(self, request: Request, answer: Answer, version: str = "HTTP/1.1") -> None:
        """Send `answer` as a good server would."""
        if request.last:
            answer = answer.with_headers(Connection="close")
        body = b"" if request.method == "HEAD" else answer.body
        if len(body) <= _CHUNK:
            self.write(answer.head(version) + body)
        else:
            self.write(answer.head(version))
            self.write(body)

    def write(self, data: bytes) -> None:
        """Write all of `data`. Raises GoneError when nobody is left to read it."""
        try:
            self.sock.sendall(data)
        except OSError as error:
            raise GoneError from error

    def wait(self, seconds: float) -> None:
        """Do nothing for `seconds`. Raises GoneError as soon as the server is being closed."""
        if self._stop.wait(seconds):
            raise GoneError

    def flush(self) -> None:
        """Wait, a second at most, until the peer's side has taken all that was written."""
        until = time.monotonic() + 1
        waiting = struct.pack("i", 1)
        while struct.unpack("i", waiting)[0] and time.monotonic() < until:
            try:
                waiting = fcntl.ioctl(self.sock.fileno(), termios.TIOCOUTQ, b"\0\0\0\0")
            except OSError as error:
                raise GoneError from error
            if waiting != b"\0\0\0\0":
                self.wait(0.001)

    def reset(self) -> None:
        """End the connection with a reset; what was written before has arrived."""
        self.flush()
        self.open = False
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.sock.close()

    def close(self) -> None:
        """End the connection in order: what was written arrives, then its end."""
        self.open = False
        with suppress(OSError):
            self.sock.shutdown(socket.SHUT_WR)
            # A close with requests unread would be a reset, and could overtake the answer.
            self.sock.settimeout(0.5)
            while self.sock.recv(_CHUNK):
                pass
        self.sock.close()

    def abort(self) -> None:
        """Wake the connection's thread, from another thread, so that it ends."""
        with suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)


def _parse(raw: bytes, number: int) -> Request:
    """Read the head of a request. Raises ValueError where it is none."""
    first, *lines = raw.decode("latin-1").split("\r\n")
    method, target, version = first.split(" ")
    headers: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        name = name.lower()
        headers[name] = f"{headers[name]}, {value.strip()}" if name in headers else value.strip()
    path, _, query = target.partition("?")
    if "%" in target:
        path, query = unquote(path), unquote(query)
    return Request(method, target, path, query, headers, version, number, time.monotonic())


class Server:
    """Accepts connections on a loopback port of its own and gives each a thread.

    `respond` answers one request on its connection. What it raises, other than GoneError, is kept
    and raised again by `close`: a broken test must not look like a broken network.
    `accepted` counts connections, `peak` is the most that were open at once.
    """

    def __init__(
        self,
        respond: Callable[[Connection, Request], None],
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.accepted = 0
        self.peak = 0
        self.errors: list[Exception] = []
        self._respond = respond
        self._tls = tls
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._live: dict[threading.Thread, Connection] = {}
        self._listener = bound(0)
        self.port: int = self._listener.getsockname()[1]
        self._acceptor = self._listen()

    def _listen(self) -> threading.Thread:
        self._listener.listen(512)
        thread = threading.Thread(target=self._accept, args=(self._listener,), daemon=True)
        thread.start()
        return thread

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            with self._lock:
                self.accepted += 1
                connection = Connection(sock, self.accepted, self._stop)
                thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
                self._live[thread] = connection
                self.peak = max(self.peak, len(self._live))
            thread.start()

    def _serve(self, connection: Connection) -> None:
        try:
            connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls:
                connection.sock = self._tls.wrap_socket(connection.sock, server_side=True)
            for request in connection.requests():
                self._respond(connection, request)
        except (GoneError, OSError):
            pass
        except Exception as error:
            self.errors.append(error)
        finally:
            connection.close()
            with self._lock:
                del self._live[threading.current_thread()]

    @contextmanager
    def down(self) -> Iterator[None]:
        """Refuse connections, and drop those that are open, for the length of a `with`."""
        self._stop_listening()
        # Bound and not listening: connections are refused, and nobody else gets the port.
        self._listener = bound(self.port)
        self._hang_up()
        try:
            yield
        finally:
            self._acceptor = self._listen()

    def close(self) -> None:
        """End every thread and socket, then raise what `respond` raised, if anything."""
        self._stop.set()
        self._stop_listening()
        self._hang_up()
        if self.errors:
            raise ExceptionGroup("raised while answering", self.errors)

    def _stop_listening(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._acceptor.join()

    def _hang_up(self) -> None:
        with self._lock:
            live = dict(self._live)
        for connection in live.values():
            connection.abort()
        for thread in live:
            thread.join()


def bound(port: int) -> socket.socket:
    """A socket bound to a loopback port (0: any), not yet listening."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("127.0.0.1", port))
    return sock
