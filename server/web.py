"""HTTP/1.1 over sockets: a bounded number of connections, a thread each (FAULTS S1-S5).

What is asked and what is answered is decided elsewhere (`server.request`, `server.reply`, a
store); here bytes come and go, and every wait has its limit. The kernel keeps the time of each
read and write (SO_RCVTIMEO, SO_SNDTIMEO), which spares a poll before each of them.
"""

import os
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from http import HTTPStatus

from mirror.errors import MirrorError
from server.answers import Store, Visitor
from server.reply import Reply, Span, http_date, plain, reply_to
from server.request import RefusedRequest, Request, parse_head, take_head

SPARE = 32
"""Connections beyond the limit that get their 503 with care; further ones get it in passing."""

LINGER = 2.0
"""Seconds in which a client may still read what it was told before its connection is closed."""

_READ = 16384
_MORE: int = getattr(socket, "MSG_MORE", 0)


@dataclass(frozen=True, slots=True)
class Limits:
    """How long, in seconds, and how much a client may keep us waiting."""

    header_timeout: float = 10.0
    """From the first byte of a request (or the connection) to the end of its head."""
    idle_timeout: float = 30.0
    """Between two requests, and for a reader that takes nothing of its answer."""
    max_connections: int = 1000


@dataclass(slots=True)
class _Connection:
    """A client's socket, its address, and what it has sent ahead."""

    client: socket.socket
    host: str
    buffer: bytearray = field(default_factory=bytearray)

    def read(self, until: float) -> bytes | None:
        """What has come, `b""` at the end, or None if nothing does before `until` (monotonic)."""
        seconds = until - time.monotonic()
        if seconds <= 0:
            return None
        self.client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _timeval(seconds))
        try:
            return self.client.recv(_READ)
        except BlockingIOError:
            return None


def _timeval(seconds: float) -> bytes:
    # Zero would mean for ever.
    micro = max(1, int(seconds * 1e6))
    return struct.pack("@ll", *divmod(micro, 1_000_000))


class Server:
    """Serves a store to the connections it is given, until `close`.

    `access_log`: write a line for each request to standard error, in the combined format.
    """

    def __init__(self, store: Store, limits: Limits, *, access_log: bool = False) -> None:
        self._store = store
        self._limits = limits
        self._access_log = access_log
        self._open: set[socket.socket] = set()
        self._changed = threading.Condition()
        self._closing = False

    def take(self, client: socket.socket, host: str) -> None:
        """Serve a new connection in a thread of its own, or refuse it if there are too many."""
        with self._changed:
            others = len(self._open)
            taken = others < self._limits.max_connections + SPARE
            if taken:
                self._open.add(client)
        if not taken:
            _turn_away(client)
            return
        full = others >= self._limits.max_connections
        connection = _Connection(client, host)
        try:
            threading.Thread(target=self._serve, args=(connection, full), daemon=True).start()
        except RuntimeError:
            self._leave(client)
            _turn_away(client)

    def close(self) -> None:
        """Let every request that has come be answered, then end the connections and return."""
        with self._changed:
            self._closing = True
            for client in self._open:
                # What the client has sent already can still be read; after it comes the end.
                _shut(client, socket.SHUT_RD)
            self._changed.wait_for(lambda: not self._open)

    def _leave(self, client: socket.socket) -> None:
        with self._changed:
            self._open.discard(client)
            self._changed.notify_all()

    def _serve(self, connection: _Connection, full: bool) -> None:
        client = connection.client
        try:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            patience = _timeval(self._limits.idle_timeout)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, patience)
            if full:
                self._refuse(connection, RefusedRequest(503, "too many connections"))
            else:
                self._converse(connection)
            _linger(connection)
        except OSError:
            # The client has gone, or takes nothing: there is nobody left to tell.
            pass
        except Exception as fault:
            _report(connection, repr(fault))
        finally:
            client.close()
            self._leave(client)

    def _converse(self, connection: _Connection) -> None:
        """Answer one request after the other, in their order, until one side has had enough."""
        fresh = True
        while True:
            try:
                head = self._receive(connection, fresh)
                if head is None:
                    return
                request = parse_head(head)
            except RefusedRequest as refused:
                self._refuse(connection, refused)
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
            data = connection.read(until)
            if data is None and connection.buffer:
                raise RefusedRequest(408, f"no whole request in {limits.header_timeout:g} s")
            if not data:
                return None
            if not begun:
                begun = True
                until = time.monotonic() + limits.header_timeout
            connection.buffer += data
        return head

    def _refuse(self, connection: _Connection, refused: RefusedRequest) -> None:
        self._send(connection, None, plain(refused.status, refused.reason), keep=False)

    def _exchange(self, connection: _Connection, request: Request) -> bool:
        """Answer one request. Returns whether the connection can go on."""
        with ExitStack() as held:
            try:
                visitor = Visitor(connection.host, request.fields.get("authorization"))
                found = self._store.find(request.path, request.query, visitor)
                answer = held.enter_context(found)
                reply = reply_to(request, answer)
            except MirrorError as fault:
                _report(connection, f"{request.line}: {fault}")
                reply = plain(500, str(fault).partition("\n")[0])
            except Exception as fault:
                _report(connection, f"{request.line}: {fault!r}")
                reply = plain(500, "this server has failed; the fault is in its log")
            keep = request.keep_alive() and not self._closing
            return self._send(connection, request, reply, keep=keep)

    def _send(
        self, connection: _Connection, request: Request | None, reply: Reply, *, keep: bool
    ) -> bool:
        """Send a reply. Returns whether the connection can go on after it."""
        unbounded = reply.length is None and reply.status != 304
        # HTTP/1.0 knows no chunks: there the end of the connection is the end of the body.
        old = request is not None and request.old
        keep = keep and not (unbounded and old)
        head = _head(reply, chunked=unbounded and not old, keep=keep, old=old)
        empty = reply.length == 0 or reply.status == 304
        if empty or (request is not None and request.method == "HEAD"):
            connection.client.sendall(head)
            sent, complete = 0, True
        else:
            sent = _send_body(connection.client, head, reply, chunked=unbounded and not old)
            complete = unbounded or sent == reply.length
        if self._access_log:
            _write_error(_combined(connection.host, request, reply.status, sent))
        return keep and complete


def _head(reply: Reply, *, chunked: bool, keep: bool, old: bool) -> bytes:
    lines = [
        f"HTTP/1.1 {reply.status} {HTTPStatus(reply.status).phrase}",
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


def _send_body(client: socket.socket, head: bytes, reply: Reply, *, chunked: bool) -> int:
    """Send head and body; returns the bytes of the body that were sent."""
    body = reply.body
    if isinstance(body, bytes):
        client.sendall(head + body)
        return len(body)
    client.sendall(head, _MORE)
    if isinstance(body, Span):
        return _send_span(client, body)
    return _send_chunks(client, body, chunked=chunked)


def _send_span(client: socket.socket, span: Span) -> int:
    sent = 0
    while sent < span.count:
        count = os.sendfile(client.fileno(), span.descriptor, span.offset + sent, span.count - sent)
        if not count:
            # The file has become shorter under us: the connection ends where it does.
            break
        sent += count
    return sent


def _send_chunks(client: socket.socket, chunks: Iterator[bytes], *, chunked: bool) -> int:
    sent = 0
    for chunk in chunks:
        client.sendall(b"%x\r\n%b\r\n" % (len(chunk), chunk) if chunked else chunk)
        sent += len(chunk)
    if chunked:
        client.sendall(b"0\r\n\r\n")
    return sent


def _linger(connection: _Connection) -> None:
    """End our side and wait for the client's end.

    To close with something unread would reset the connection, and the client might never see the
    answer that told it why (RFC 9112 section 9.6).
    """
    _shut(connection.client, socket.SHUT_WR)
    until = time.monotonic() + LINGER
    while connection.read(until):
        pass


def _shut(client: socket.socket, side: int) -> None:
    try:
        client.shutdown(side)
    except OSError:
        # Already closed from the other end.
        pass


def _turn_away(client: socket.socket) -> None:
    """Say 503 without waiting for anything, and close."""
    reply = plain(503, "too many connections")
    head = _head(reply, chunked=False, keep=False, old=False)
    try:
        client.setblocking(False)
        client.send(head + bytes(reply.body if isinstance(reply.body, bytes) else b""))
    except OSError:
        pass
    client.close()


def _combined(host: str, request: Request | None, status: int, sent: int) -> str:
    """A line of the access log, in the combined format; what a client wrote is made harmless."""
    fields = request.fields if request else {}
    asked = (request.line if request else "-", fields.get("referer"), fields.get("user-agent"))
    line, referer, agent = (_quoted(text or "-") for text in asked)
    moment = time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime())
    return f"{host} - - [{moment}] {line} {status} {sent} {referer} {agent}"


def _quoted(text: str) -> str:
    harmless = text.replace("\\", r"\x5c").replace('"', r"\x22")
    return f'"{harmless.encode("ascii", "backslashreplace").decode()}"'


def _report(connection: _Connection, fault: str) -> None:
    """One line for the operator about a fault on our side."""
    _write_error(f"server serve: {connection.host}: {fault}".replace("\n", " "))


def _write_error(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()
