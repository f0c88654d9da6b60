"""The door: a listening socket, and its connections handed on until a signal comes."""

import resource
import select
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from mirror.errors import LocalError

_BACKLOG = 1024


class Taker(Protocol):
    """Who serves connections."""

    def take(self, client: socket.socket, host: str) -> None:
        """Serve a new connection from `host`, without keeping the caller waiting."""


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens, without waiting in accept; port 0: the system picks one.

    Raises LocalError where the address is not ours or the port is taken.
    """
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
def signalled(*numbers: int) -> Iterator[socket.socket]:
    """A socket that gets a byte, its number, for each of these signals while the block runs."""
    called, caller = socket.socketpair()
    called.setblocking(False)
    caller.setblocking(False)
    with called, caller:
        before = signal.set_wakeup_fd(caller.fileno())
        handlers = [signal.signal(number, _nothing) for number in numbers]
        signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)
        try:
            yield called
        finally:
            signal.set_wakeup_fd(before)
            for number, handler in zip(numbers, handlers, strict=True):
                signal.signal(number, handler)


def _nothing(*_: object) -> None:
    """The byte on the wake-up socket says it all."""


def accept(listener: socket.socket, taker: Taker, *until: int) -> None:
    """Hand connections on until one of the descriptors `until` is readable.

    Other processes may accept from the same socket.
    """
    waiting = select.poll()
    for descriptor in (*until, listener.fileno()):
        waiting.register(descriptor, select.POLLIN)
    while all(descriptor not in until for descriptor, _ in waiting.poll()):
        _take_one(listener, taker)
    # Who has connected before the end is served as well: the kernel would reset them.
    for _ in range(_BACKLOG):
        if not _take_one(listener, taker):
            break


def _take_one(listener: socket.socket, taker: Taker) -> bool:
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
    taker.take(client, address[0])
    return True


def raise_file_limit(wanted: int) -> None:
    """Allow this process `wanted` open files, as far as the system does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
