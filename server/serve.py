"""`python -m server serve`: a Data Store over HTTP, until SIGTERM."""

import argparse
import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mirror.disk import told
from mirror.errors import ConfigError
from mirror.listing import INDEX
from server.http.access_log import AccessLog
from server.http.front import Front
from server.http.listen import accept, listening, raise_file_limit, signalled
from server.http.metrics import Board
from server.serve_options import parse
from server.site import Site, SqliteFile, names_store, read_site
from server.views.answers import Absent, Answer, Store, Visitor
from server.web import SPARE, Limits, Server

if TYPE_CHECKING:
    import ssl

_OTHER_FILES = 256
"""Descriptors for everything that is neither a connection nor the file it is sent: the catalogue's
connections, and directories on the way to a file."""


@dataclass(frozen=True, slots=True)
class _Service:
    """Everything that a process which serves is made of, checked before anything listens."""

    options: argparse.Namespace
    open_store: Callable[[], Store]
    limits: Limits
    board: Board
    log: AccessLog | None
    tls: "ssl.SSLContext | None"
    monitor: Store | None = None

    def server(self, number: int) -> Server:
        """A server in process `number`, with a store of its own."""
        options = self.options
        front = Front(
            self.open_store(),
            options.base_path,
            options.accel,
            tuple(options.trusted_proxy),
            self.board.text if options.metrics else None,
            self.monitor,
            options.monitor_open,
        )
        return Server(front, self.limits, self.board.counts(number), log=self.log, tls=self.tls)


def main(argv: list[str]) -> int:
    """Serve until SIGTERM or SIGINT; returns the exit status.

    With `--monitor`, and no Data Store named anywhere, the monitor alone is served. Raises
    ConfigError without a usable DATA_STORE_ROOT or certificate, LocalError where the port is
    taken or the access log cannot be written.
    """
    options = parse(argv)
    limits = Limits(
        options.header_timeout, options.idle_timeout, options.max_connections, options.min_speed
    )
    alone = options.monitor is not None and not (options.static or names_store(options))
    root, opener = ("the monitor", _NoStore) if alone else open_store(options)
    service = _Service(
        options,
        opener,
        limits,
        Board(options.workers),
        AccessLog(options.access_log) if options.access_log else None,
        _tls(options.cert, options.key) if options.cert else None,
        _monitor(options.monitor) if options.monitor is not None else None,
    )
    raise_file_limit(2 * (limits.max_connections + SPARE) + _OTHER_FILES)
    with listening(options.host, options.port) as listener:
        first = f"serving {root} at {_address(options, listener)}{'monitor/' if alone else ''}"
        if options.workers == 1:
            _serve_alone(service, listener, first)
        else:
            _serve_together(service, listener, first)
    return 0


class _NoStore:
    """What a monitor without a Data Store beside it has under all other URLs."""

    @contextmanager
    def find(self, path: str, query: str, visitor: Visitor) -> Iterator[Answer]:
        """See Store."""
        yield Absent("no Data Store is served here; the monitor is at /monitor/")


def open_store(options: argparse.Namespace) -> tuple[Path, Callable[[], Store]]:
    """The directory that the options name, and what opens it in each process that serves it.

    Raises ConfigError or LocalError for what keeps it from being served.
    """
    if options.static:
        return _tree(_directory(options.static))
    site = read_site(options)
    if _is_plain_tree(site):
        return _tree(site.root)
    return site.root, _registered(site)


def _directory(path: str) -> Path:
    if not os.path.isdir(path):
        raise ConfigError([f"--static: a directory expected, but {path} is none"])
    return Path(os.path.abspath(path))


def _is_plain_tree(site: Site) -> bool:
    """Say whether a directory without a catalogue has lists of its own, as a mirror's store/."""
    database = site.database
    with told(site.root):
        absent = isinstance(database, SqliteFile) and not database.path.exists()
        return absent and (site.root / INDEX).is_file()


def _tree(root: Path) -> tuple[Path, Callable[[], Store]]:
    from server.views.tree import Tree

    return root, lambda: Tree(root)


def _registered(site: Site) -> Callable[[], Store]:
    """Brings the catalogue's tables up to date, before any process relies on them."""
    from server.catalogue import open_catalogue
    from server.database import Pool
    from server.people.access import Gate
    from server.views.store import RegisteredStore

    # An empty directory may be served before its first product is made; any other one without a
    # catalogue is rather a mistake.
    with told(site.root):
        empty = not any(site.root.iterdir())
    open_catalogue(site.database, create=empty).close()

    def store() -> Store:
        pool, pages = Pool(site.database), Pool(site.database)
        return RegisteredStore(site.root, pool, site.link_roots, Gate().look_up, pages)

    return store


def _monitor(paths: list[str]) -> Store:
    """The pages of the boards of these paths. Raises ConfigError for one that is not there."""
    from server.opus.monitor import Monitor

    return Monitor(paths, os.environ)


def _tls(cert: str, key: str | None) -> "ssl.SSLContext":
    """What TLS is spoken with: version 1.2 at least. Raises ConfigError."""
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # Negotiating anew within a connection is work that a client gets for nothing.
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    for option, path in (("--cert", cert), ("--key", key)):
        if path and not os.access(path, os.R_OK):
            raise ConfigError([f"{option}: a file that can be read expected, but {path} is none"])
    named = f"--cert {cert}{f' --key {key}' if key else ''}"
    try:
        # Without an answer of ours OpenSSL would ask for a passphrase at the terminal.
        context.load_cert_chain(cert, key, password="")
    except (OSError, ValueError) as fault:
        raise ConfigError(
            [
                f"{named}: a certificate and its key, PEM and without a passphrase, expected "
                f"({fault}); name the two that belong together"
            ]
        ) from fault
    return context


def _address(options: argparse.Namespace, listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    base = "".join(f"/{name}" for name in options.base_path).replace(" ", "%20")
    return f"{'https' if options.cert else 'http'}://{shown}:{port}{base}/"


def _serve_alone(service: _Service, listener: socket.socket, first: str) -> None:
    server = service.server(0)
    with signalled(signal.SIGTERM, signal.SIGINT) as called:
        print(first, flush=True)
        accept(listener, server, called.fileno())
    # Closed, so that who comes now is refused by the kernel; who is here is served. From here on
    # another signal kills.
    listener.close()
    server.close()


def _serve_together(service: _Service, listener: socket.socket, first: str) -> None:
    from server.http.workers import supervise

    def work(number: int, until: tuple[int, ...], ready: Callable[[], None]) -> None:
        server = service.server(number)
        ready()
        accept(listener, server, *until)
        listener.close()
        server.close()

    supervise(service.options.workers, listener, work, lambda: print(first, flush=True))
