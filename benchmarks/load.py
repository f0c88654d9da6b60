"""Load for a server: requests as fast as it answers, a file at full speed, slow readers."""

import selectors
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

_BUFFER = 1 << 20


@dataclass(slots=True)
class _Caller:
    """One connection that asks the same thing again and again."""

    address: tuple[str, int]
    request: bytes
    client: socket.socket = field(init=False)
    buffer: bytearray = field(init=False)

    def __post_init__(self) -> None:
        self.call()

    def call(self) -> None:
        """Connect and ask."""
        self.client = socket.create_connection(self.address, 30)
        self.client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.ask()

    def ask(self) -> None:
        """Ask once more."""
        self.buffer = bytearray()
        self.client.sendall(self.request)

    def answered(self) -> bool | None:
        """Take what has come. True when the answer is whole, None when the connection has ended."""
        data = self.client.recv(_BUFFER)
        if not data:
            return None
        self.buffer += data
        return _whole(self.buffer)


def _whole(answer: bytearray) -> bool:
    head, separator, body = answer.partition(b"\r\n\r\n")
    if not separator:
        return False
    if not head.startswith((b"HTTP/1.1 200", b"HTTP/1.0 200")):
        raise RuntimeError(f"the server says {head.splitlines()[0]!r}")
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return len(body) >= int(line.split(b":")[1])
    return body.endswith(b"0\r\n\r\n")


def requests_a_second(url: str, seconds: float, connections: int) -> float:
    """Answers a second over so many connections, each of which has one request in flight."""
    address, request = _target(url)
    answers = 0
    with selectors.DefaultSelector() as ready, ExitStack() as opened:
        for _ in range(connections):
            caller = _Caller(address, request)
            ready.register(caller.client, selectors.EVENT_READ, caller)
        begun = time.monotonic()
        while (now := time.monotonic()) < begun + seconds:
            for key, _ in ready.select(1):
                caller = key.data
                state = caller.answered()
                if state is None:
                    # Without keep-alive the end of the connection is the end of the answer.
                    answers += bool(caller.buffer)
                    ready.unregister(caller.client)
                    caller.client.close()
                    caller.call()
                    ready.register(caller.client, selectors.EVENT_READ, caller)
                elif state and b"connection: close" not in caller.buffer[:400].lower():
                    answers += 1
                    caller.ask()
        for key in list(ready.get_map().values()):
            opened.callback(key.data.client.close)
    return answers / (now - begun)


def megabytes_a_second(url: str) -> float:
    """10^6 bytes a second of one file, read and dropped."""
    address, request = _target(url)
    space = bytearray(_BUFFER)
    total = 0
    with socket.create_connection(address, 30) as sock:
        begun = time.monotonic()
        sock.sendall(request.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        while count := sock.recv_into(space):
            total += count
        return total / 1e6 / (time.monotonic() - begun)


@contextmanager
def slow_readers(url: str, count: int) -> Iterator[int]:
    """So many clients that asked for `url` and take a little of it now and then.

    Gives the number of them that got an answer and are still being served.
    """
    address, request = _target(url)
    with ExitStack() as opened:
        readers = []
        for _ in range(count):
            reader = socket.socket()
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            reader.settimeout(30)
            reader.connect(address)
            opened.callback(reader.close)
            reader.sendall(request)
            readers.append(reader)
        heads = [reader.recv(4096) for reader in readers]
        for _ in range(10):
            time.sleep(0.1)
            pieces = [reader.recv(4096) for reader in readers]
        whole = zip(heads, pieces, strict=True)
        yield sum(b" 200 " in head[:13] and bool(piece) for head, piece in whole)


def _target(url: str) -> tuple[tuple[str, int], bytes]:
    parts = urlsplit(url)
    assert parts.hostname
    assert parts.port
    path = parts.path + (f"?{parts.query}" if parts.query else "")
    request = f"GET {path} HTTP/1.1\r\nHost: {parts.netloc}\r\n\r\n"
    return (parts.hostname, parts.port), request.encode()
