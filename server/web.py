"""HTTP/1.1 over sockets: a bounded number of connections, a thread each (FAULTS S1-S5).

What is asked and what is answered is decided elsewhere (`http.request`, `http.front`, a store),
bytes are moved by `http.channel`; here one follows the other, and every wait has its limit.
"""

import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import lru_cache
from http import HTTPStatus
from typing import TYPE_CHECKING

from mirror.errors import MirrorError
from server.database import Unavailable
from server.http.access_log import AccessLog, combined
from server.http.channel import Channel, Pace, SecureChannel, Span, shut
from server.http.front import Front
from server.http.metrics import Board, Counts
from server.http.reply import Reply, http_date, plain
from server.http.request import RefusedRequest, Request, parse_head, take_head

if TYPE_CHECKING:
    import ssl

SPARE = 32
"""Connections beyond the limit that get their 503 with care; further ones get it in passing."""

LINGER = 2.0
"""Seconds in which a client may still read what it was told before its connection is closed."""

_SMALL = 16384
"""Bytes that are sooner copied than sent by themselves."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How long, in seconds, and how much a client may keep us waiting."""

    header_timeout: float = 10.0
    """From the first byte of a request (or the connection) to the end of its head."""
    idle_timeout: float = 30.0
    """Between two requests; and the window in which `min_speed` is looked at."""
    max_connections: int = 1000
    """Of all workers together."""
    min_speed: float = 500.0
    """Bytes a second that a reader of an answer has to take; 0: a byte in each window will do."""


@dataclass(slots=True)
class _Connection:
    """A client's bytes, its address, and what it has sent ahead."""

    channel: Channel
    host: str
    buffer: bytearray = field(default_factory=bytearray)
    begun: float = 0.0
    """When the request in work had come whole, by the performance counter."""


class Server:
    """Serves a store to the connections it is given, until `close`.

    `counts`: where this process counts. `log`: gets a line for each request. `tls`: every
    connection speaks TLS by this context.
    """

    def __init__(
        self,
        front: Front,
        limits: Limits,
        counts: Counts | None = None,
        *,
        log: AccessLog | None = None,
        tls: "ssl.SSLContext | None" = None,
    ) -> None:
        self._front = front
        self._limits = limits
        self._pace = Pace(limits.idle_timeout, limits.min_speed)
        self._counts = counts or Board(1).counts(0)
        self._log = log
        self._tls = tls
        self._open: set[socket.socket] = set()
        self._changed = threading.Condition()
        self._closing = False

    def take(self, client: socket.socket, host: str) -> None:
        """Serve a new connection in a thread of its own, or refuse it if there are too many."""
        others = self._counts.open_everywhere()
        if others >= self._limits.max_connections + SPARE:
            self._turn_away(client)
            return
        with self._changed:
            self._open.add(client)
        self._counts.opened()
        full = others >= self._limits.max_connections
        try:
            threading.Thread(target=self._serve, args=(client, host, full), daemon=True).start()
        except RuntimeError:
            self._leave(client)
            self._turn_away(client)

    def close(self) -> None:
        """Let every request that has come be answered, then end the connections and return."""
        with self._changed:
            self._closing = True
            for client in self._open:
                # What the client has sent already can still be read; after it comes the end.
                shut(client, socket.SHUT_RD)
            self._changed.wait_for(lambda: not self._open)

    def _leave(self, client: socket.socket) -> None:
        self._counts.closed()
        with self._changed:
            self._open.discard(client)
            self._changed.notify_all()

    def _turn_away(self, client: socket.socket) -> None:
        """Say 503 without waiting for anything, and close."""
        self._counts.refused()
        try:
            client.setblocking(False)
            # A handshake would be waiting: in TLS the end of the connection has to say it.
            if self._tls is None:
                reply = plain(503, "too many connections")
                head = _head(reply, chunked=False, keep=False, old=False)
                client.send(head + bytes(reply.body if isinstance(reply.body, bytes) else b""))
        except OSError:
            pass
        client.close()

    def _channel(self, client: socket.socket) -> Channel:
        if self._tls is None:
            return Channel(client, self._pace)
        return SecureChannel(client, self._pace, self._tls)

    def _serve(self, client: socket.socket, host: str, full: bool) -> None:
        connection = _Connection(self._channel(client), host)
        channel = connection.channel
        try:
            channel.open(time.monotonic() + self._limits.header_timeout)
            if full:
                self._counts.refused()
                self._refuse(connection, RefusedRequest(503, "too many connections"))
            else:
                self._converse(connection)
            channel.finish(LINGER)
        except TimeoutError:
            # It takes next to nothing: what the kernel still holds for it would stay there.
            channel.abort()
        except OSError:
            # The client has gone, or speaks no TLS: there is nobody left to tell.
            pass
        except Exception as fault:
            _report(host, _told(fault))
            # Half an answer must not look like a whole one, not even to HTTP/1.0, where the end of
            # the connection is the end of the answer.
            channel.abort()
        finally:
            client.close()
            self._leave(client)

    def _converse(self, connection: _Connection) -> None:
        """Answer one request after the other, in their order, until one side has had enough."""
        fresh = True
        while True:
            head = None
            try:
                head = self._receive(connection, fresh)
                if head is None:
                    return
                connection.begun = time.perf_counter()
                request = parse_head(head)
            except RefusedRequest as refused:
                self._refuse(connection, refused, head or connection.buffer)
                return
            if not self._exchange(connection, request):
                return
            fresh = False

    def _receive(self, connection: _Connection, fresh: bool) -> bytes | None:
        """The next head, or None when the client sends no more or nothing in time."""
        begun = fresh or bool(connection.buffer)
        limits = self._limits
        until = time.monotonic() + (limits.header_timeout if begun else limits.idle_timeout)
        while (head := take_head(connection.buffer)) is None:
            data = connection.channel.read(until)
            if data is None and connection.buffer:
                raise RefusedRequest(408, f"no whole request in {limits.header_timeout:g} s")
            if not data:
                return None
            if not begun:
                begun = True
                until = time.monotonic() + limits.header_timeout
            connection.buffer += data
        return head

    def _refuse(
        self, connection: _Connection, refused: RefusedRequest, head: bytes | bytearray = b""
    ) -> None:
        connection.begun = time.perf_counter()
        reply = plain(refused.status, refused.reason)
        # What is no request may be a HEAD all the same (RFC 9110 section 9.3.2).
        if head.startswith(b"HEAD "):
            reply = replace(reply, body=b"")
        self._answer(connection, connection.host, None, reply, keep=False)

    def _exchange(self, connection: _Connection, request: Request) -> bool:
        """Answer one request. Returns whether the connection can go on."""
        visitor = self._front.visitor(connection.host, request)
        with ExitStack() as held:
            try:
                reply = self._front.reply(request, visitor, held)
            except Exception as fault:
                _report(visitor.address, f"{request.line}: {_told(fault)}")
                reply = _excuse(fault)
            keep = request.keep_alive() and not self._closing
            return self._answer(connection, visitor.address, request, reply, keep=keep)

    def _answer(
        self,
        connection: _Connection,
        address: str,
        request: Request | None,
        reply: Reply,
        *,
        keep: bool,
    ) -> bool:
        """Send a reply, count and log it. Returns whether the connection can go on after it."""
        unbounded = reply.length is None and reply.status != 304
        # HTTP/1.0 knows no chunks: there the end of the connection is the end of the body.
        old = request is not None and request.old
        keep = keep and not (unbounded and old)
        chunked = unbounded and not old
        head = _head(reply, chunked=chunked, keep=keep, old=old)
        channel = connection.channel
        before = channel.handed + len(head)
        try:
            empty = reply.length == 0 or reply.status == 304
            if empty or (request is not None and request.method == "HEAD"):
                channel.send(head)
                return keep
            sent = _send_body(channel, head, reply, chunked=chunked)
            if isinstance(reply.body, Span) and sent != reply.length and request:
                lack = f"only {sent} of {reply.length} bytes were there to send"
                _report(address, f"{request.line}: {lack}")
            return keep and (unbounded or sent == reply.length)
        finally:
            # Also of an answer that was not taken to its end.
            sent = max(0, channel.handed - before)
            seconds = time.perf_counter() - connection.begun
            self._counts.answered(request.method if request else "", reply.status, sent, seconds)
            if self._log:
                self._log.write(combined(address, request, reply.status, sent))


def _head(reply: Reply, *, chunked: bool, keep: bool, old: bool) -> bytes:
    lines = [
        _status_line(reply.status),
        f"Date: {http_date(int(time.time()))}",
        *(f"{name}: {value}" for name, value in reply.fields),
        "X-Content-Type-Options: nosniff",
    ]
    if reply.length is not None:
        lines.append(f"Content-Length: {reply.length}")
    elif chunked:
        lines.append("Transfer-Encoding: chunked")
    if not keep:
        lines.append("Connection: close")
    elif old:
        lines.append("Connection: keep-alive")
    return "\r\n".join((*lines, "\r\n")).encode("latin-1")


@lru_cache
def _status_line(status: int) -> str:
    return f"HTTP/1.1 {status} {HTTPStatus(status).phrase}"


def _send_body(channel: Channel, head: bytes, reply: Reply, *, chunked: bool) -> int:
    """Send head and body; returns the bytes of the body that were sent."""
    body = reply.body
    if isinstance(body, bytes):
        channel.send(head + body)
        return len(body)
    if isinstance(body, Span):
        channel.send(head, more=True)
        return channel.send_file(body)
    return _send_chunks(channel, head, body, chunked=chunked)


def _send_chunks(channel: Channel, head: bytes, chunks: Iterator[bytes], *, chunked: bool) -> int:
    """Send head and chunks, the head with the first of them if that is a small one."""
    sent = 0
    # An empty one would be taken for the last.
    for chunk in filter(None, chunks):
        framed = b"%x\r\n%b\r\n" % (len(chunk), chunk) if chunked else chunk
        if head and len(chunk) > _SMALL:
            channel.send(head, more=True)
            head = b""
        channel.send(head + framed if head else framed)
        head = b""
        sent += len(chunk)
    last = head + b"0\r\n\r\n" if chunked else head
    if last:
        channel.send(last)
    return sent


def _told(fault: Exception) -> str:
    return str(fault) if isinstance(fault, MirrorError) else repr(fault)


def _excuse(fault: Exception) -> Reply:
    """What a visitor is told of a fault of ours: names and paths are for the log."""
    if isinstance(fault, Unavailable):
        return plain(503, "not at this moment; try again later")
    return plain(500, "this server has failed; the fault is in its log")


def _report(host: str, fault: str) -> None:
    """One line for the operator about a fault on our side."""
    sys.stderr.write(f"server serve: {host}: {fault}".replace("\n", " ") + "\n")
    sys.stderr.flush()
