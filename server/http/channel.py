"""A connection's bytes, plain or in TLS, and how long its peer may take over them (FAULTS S2).

`Channel` moves them as they are, files by sendfile; `SecureChannel` puts TLS around the same socket
calls, so that every wait and every count is the same for both. Nothing here knows HTTP.
"""

import fcntl
import math
import os
import select
import socket
import struct
import termios
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ssl

_READ = 16384
_PIECE = 65536
"""Bytes that are encrypted at a time: what a slow reader costs us."""

_QUEUE = 131072
"""Bytes that wait in the kernel beyond what is on its way to the peer."""

# As numbers: to combine the named ones takes Python longer than the call.
_NOW = int(socket.MSG_DONTWAIT)
_MORE = _NOW | int(getattr(socket, "MSG_MORE", 0))

# Linux; elsewhere the kernel's own bounds do.
_NOTSENT_LOWAT: int | None = getattr(socket, "TCP_NOTSENT_LOWAT", None)
_RESET = struct.pack("@ii", 1, 0)


@dataclass(frozen=True, slots=True)
class Span:
    """`count` bytes of an open file, from byte `offset` on."""

    descriptor: int
    offset: int
    count: int


@dataclass(frozen=True, slots=True)
class Pace:
    """What a reader has to take: `min_speed` bytes a second over every `window` seconds of waiting.

    With a `min_speed` of 0 a single byte in each window will do.
    """

    window: float
    min_speed: float


class Channel:
    """The bytes of one connection, as they are. For one thread.

    The time that a read may take is kept by the kernel (SO_RCVTIMEO), which spares a poll before
    it. The time of writes is not: SO_SNDTIMEO ends a *write* that makes no progress, and that is
    wrong both ways. A reader that takes a byte now and then makes progress and could hold a thread
    for ever; and behind a slow link a large queue of the kernel's may take no more for longer than
    the time-out, although all the while bytes arrive. So what counts is what the peer has
    acknowledged: what we have written less what the kernel still holds (SIOCOUTQ). The clock runs
    only while we wait for the peer, so that a list that we are slow to make is not its fault.
    """

    def __init__(self, client: socket.socket, pace: Pace) -> None:
        self.client = client
        self.handed = 0
        """Bytes that were to be sent and have been taken from us, before any encryption."""
        self._pace = pace
        self._room: select.poll | None = None
        self._written = 0
        self._waited = 0.0
        self._judged = 0

    def open(self, until: float) -> None:
        """Make ready, by `until` (monotonic). Raises OSError where that cannot be."""
        self.client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if _NOTSENT_LOWAT is not None:
            # What is written ahead costs memory for as long as a slow peer likes.
            self.client.setsockopt(socket.IPPROTO_TCP, _NOTSENT_LOWAT, _QUEUE)

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

    def send(self, data: bytes, *, more: bool = False) -> None:
        """Send all of `data`; `more`: it may wait for what is sent next.

        Raises TimeoutError for a peer that takes too little, OSError for one that has gone.
        """
        self._push(data, more=more)
        self.handed += len(data)

    def send_file(self, span: Span) -> int:
        """Send a part of a file; returns how many bytes there were. Raises as `send` does."""
        sent = 0
        out, descriptor = self.client.fileno(), span.descriptor
        # sendfile knows no flag for "as much as there is room for", the socket does.
        self.client.setblocking(False)
        try:
            while sent < span.count:
                try:
                    count = os.sendfile(out, descriptor, span.offset + sent, span.count - sent)
                except BlockingIOError:
                    self._wait()
                    continue
                if not count:
                    # The file has become shorter under us.
                    break
                sent += count
                self._written += count
                self.handed += count
        finally:
            self.client.setblocking(True)
        return sent

    def finish(self, seconds: float) -> None:
        """End our side and wait for the peer's end, at most for `seconds`.

        To close with something unread would reset the connection, and the client might never see
        the answer that told it why (RFC 9112 section 9.6).
        """
        self._end()
        until = time.monotonic() + seconds
        # Read as they are: nobody wants these bytes any more.
        while Channel.read(self, until):
            pass

    def abort(self) -> None:
        """See to it that closing drops what the kernel still holds for this peer."""
        try:
            self.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        except OSError:
            # It has gone already, and the queue with it.
            pass

    def _end(self) -> None:
        shut(self.client, socket.SHUT_WR)

    def _push(self, data: bytes, *, more: bool = False) -> None:
        count = self._put(data, more=more)
        if count == len(data):
            return
        rest = memoryview(data)
        while rest := rest[count:]:
            self._wait()
            count = self._put(rest, more=more)

    def _put(self, data: bytes | memoryview, *, more: bool) -> int:
        """Write what there is room for; returns the number of bytes."""
        try:
            count = self.client.send(data, _MORE if more else _NOW)
        except BlockingIOError:
            return 0
        self._written += count
        return count

    def _wait(self) -> None:
        """Wait for room. Raises TimeoutError when the peer has had its time and took too little."""
        if self._room is None:
            self._room = select.poll()
            self._room.register(self.client, select.POLLOUT)
        begun = time.monotonic()
        self._room.poll(math.ceil(1000 * (self._pace.window - self._waited)))
        self._waited += time.monotonic() - begun
        if self._waited >= self._pace.window:
            self._judge()

    def _judge(self) -> None:
        taken = self._written - _unacknowledged(self.client)
        if taken - self._judged < max(1.0, self._pace.min_speed * self._waited):
            raise TimeoutError(f"{taken - self._judged} bytes taken in {self._waited:.0f} s")
        self._judged = taken
        self._waited = 0.0


class SecureChannel(Channel):
    """The bytes of one connection within TLS.

    TLS is made in memory and not around the socket (ssl.SSLSocket), whose waits know neither
    SO_RCVTIMEO nor what a peer has acknowledged.
    """

    def __init__(self, client: socket.socket, pace: Pace, context: "ssl.SSLContext") -> None:
        import ssl

        super().__init__(client, pace)
        self._wants = ssl.SSLWantReadError
        self._end_of_tls = ssl.SSLZeroReturnError
        self._fault = ssl.SSLError
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)

    def open(self, until: float) -> None:
        """Shake hands. Raises OSError where the peer does not, or not in time."""
        super().open(until)
        while True:
            try:
                self._tls.do_handshake()
                break
            except self._wants:
                pass
            except self._fault:
                # What was wrong is told to the peer.
                self._flush()
                raise
            self._flush()
            data = super().read(until)
            if not data:
                raise ConnectionError("no handshake")
            self._incoming.write(data)
        self._flush()

    def read(self, until: float) -> bytes | None:
        """See `Channel.read`. Raises OSError for what is no TLS."""
        while True:
            try:
                return self._tls.read(_READ)
            except self._wants:
                pass
            except self._end_of_tls:
                return b""
            # To change the keys asks for an answer.
            self._flush()
            data = super().read(until)
            if not data:
                # An end without close_notify cuts no request that is whole, and to tell OpenSSL
                # of it would keep us from sending what remains to be said.
                return data
            self._incoming.write(data)

    def send(self, data: bytes, *, more: bool = False) -> None:
        """See `Channel.send`."""
        rest = memoryview(data)
        while len(rest) > _PIECE:
            self._tls.write(rest[:_PIECE])
            self._flush()
            rest = rest[_PIECE:]
        if rest:
            self._tls.write(rest)
        if not more:
            self._flush()
        self.handed += len(data)

    def send_file(self, span: Span) -> int:
        """See `Channel.send_file`."""
        sent = 0
        while sent < span.count:
            piece = min(_PIECE, span.count - sent)
            data = os.pread(span.descriptor, piece, span.offset + sent)
            if not data:
                break
            self.send(data)
            sent += len(data)
        return sent

    def _flush(self) -> None:
        if self._outgoing.pending:
            self._push(self._outgoing.read())

    def _end(self) -> None:
        try:
            self._tls.unwrap()
        except self._fault:
            # The peer's end has not come yet: ours goes out all the same.
            pass
        self._flush()
        super()._end()


def shut(client: socket.socket, side: int) -> None:
    """End one side of a connection, if it is still there."""
    try:
        client.shutdown(side)
    except OSError:
        # Already closed from the other end.
        pass


def _unacknowledged(client: socket.socket) -> int:
    """Bytes written to a socket that its peer has not acknowledged (tcp(7), SIOCOUTQ)."""
    held: int = struct.unpack("@i", fcntl.ioctl(client.fileno(), termios.TIOCOUTQ, bytes(4)))[0]
    return held


def _timeval(seconds: float) -> bytes:
    # Zero would mean for ever.
    micro = max(1, int(seconds * 1e6))
    return struct.pack("@ll", *divmod(micro, 1_000_000))
