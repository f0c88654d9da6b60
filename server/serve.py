"""`python -m server serve`: a Data Store over HTTP, until SIGTERM."""

import argparse
import math
import os
import resource
import select
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mirror.errors import ConfigError, LocalError
from server.tree import Tree
from server.web import SPARE, Limits, Server

_BACKLOG = 1024
_OTHER_FILES = 64
"""Descriptors for everything that is neither a connection nor the file it is sent."""


def main(argv: list[str]) -> int:
    """Serve until SIGTERM or SIGINT; returns the exit status.

    Raises ConfigError without a usable DATA_STORE_ROOT, LocalError where the port is taken.
    """
    options = _options(argv)
    root = _store_root(options.dsroot)
    limits = Limits(options.header_timeout, options.idle_timeout, options.max_connections)
    _raise_file_limit(2 * (limits.max_connections + SPARE) + _OTHER_FILES)
    server = Server(Tree(root), limits, access_log=options.access_log)
    with _listener(options.host, options.port) as listener, _signals() as called:
        host, port = listener.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        print(f"serving {root} at http://{shown}:{port}/", flush=True)
        _accept(listener, called, server)
    # The listener is closed: who comes now is refused by the kernel, who is here is served.
    server.close()
    return 0


def _options(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m server serve", description=__doc__)
    add = parser.add_argument
    add("--dsroot", metavar="DIR", help="the Data Store (default: $DATA_STORE_ROOT)")
    add("--host", default="127.0.0.1", help="address to listen at (default: %(default)s)")
    add("--port", type=_port, default=8080, help="0: the system picks (default: %(default)s)")
    add("--header-timeout", type=_seconds, default=10.0, metavar="S",
        help="a request's head must come within S seconds (default: %(default)g)")  # fmt: skip
    add("--idle-timeout", type=_seconds, default=30.0, metavar="S",
        help="an idle connection is closed after S seconds (default: %(default)g)")  # fmt: skip
    add("--max-connections", type=_count, default=1000, metavar="N",
        help="further ones get a 503 (default: %(default)d)")  # fmt: skip
    add("--access-log", action="store_true",
        help="a line for each request to standard error, combined format")  # fmt: skip
    return parser.parse_args(argv)


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"a port from 0 to 65535 expected, not {text}")
    return int(text)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value <= 86400:
        raise argparse.ArgumentTypeError(f"seconds above 0, at most a day, expected, not {text}")
    return value


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"a number, at least 1, expected, not {text}")
    return int(text)


def _store_root(given: str | None) -> Path:
    root = given or os.environ.get("DATA_STORE_ROOT")
    if not root:
        raise ConfigError(["no Data Store named: give --dsroot DIR or set DATA_STORE_ROOT"])
    if not os.path.isdir(root):
        raise ConfigError([f"DATA_STORE_ROOT: a directory expected, but {root} is none"])
    return Path(os.path.abspath(root))


def _raise_file_limit(wanted: int) -> None:
    """Take as many open files as the connections can need, as far as the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _listener(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as fault:
        raise LocalError(
            f"cannot listen at {host} port {port}: {fault.strerror}; "
            "end what holds it or choose another --port"
        ) from fault
    listener.setblocking(False)
    return listener


@contextmanager
def _signals() -> Iterator[socket.socket]:
    """A socket that becomes readable with the first SIGTERM or SIGINT; a second one kills."""
    called, caller = socket.socketpair()
    caller.setblocking(False)
    numbers = (signal.SIGTERM, signal.SIGINT)
    with called, caller:
        before = signal.set_wakeup_fd(caller.fileno())
        handlers = [signal.signal(number, _nothing) for number in numbers]
        try:
            yield called
        finally:
            signal.set_wakeup_fd(before)
            for number, handler in zip(numbers, handlers, strict=True):
                signal.signal(number, handler)


def _nothing(*_: object) -> None:
    """The byte on the wake-up socket says it all."""


def _accept(listener: socket.socket, called: socket.socket, server: Server) -> None:
    """Hand connections to the server until `called` is readable."""
    waiting = select.poll()
    waiting.register(called, select.POLLIN)
    waiting.register(listener, select.POLLIN)
    while called.fileno() not in [number for number, _ in waiting.poll()]:
        _take_one(listener, server)
    # Who has connected before the end is served as well: the kernel would reset them.
    for _ in range(_BACKLOG):
        if not _take_one(listener, server):
            break


def _take_one(listener: socket.socket, server: Server) -> bool:
    """Take one connection that waits. Returns whether another one may be waiting."""
    try:
        client, address = listener.accept()
    except BlockingIOError:
        return False
    except ConnectionError:
        # It has gone again before we came to it.
        return True
    except OSError:
        # Out of descriptors: those in work give theirs back before long.
        time.sleep(0.05)
        return False
    client.setblocking(True)
    server.take(client, address[0])
    return True
