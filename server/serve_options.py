"""The options of `python -m server serve`, each checked as far as its text allows."""

import argparse
import math
from typing import TYPE_CHECKING
from urllib.parse import unquote

from mirror.listing import check_name
from server.http.access_log import STANDARD_OUTPUT
from server.site import add_site_options

if TYPE_CHECKING:
    from server.http.front import Network

MAX_WORKERS = 256

_PAGES = (("healthz",), ("metrics",), ("monitor",))


def parse(argv: list[str]) -> argparse.Namespace:
    """The options; ends the process with status 2 for wrong usage, as argparse does."""
    parser = argparse.ArgumentParser(
        prog="python -m server serve", description="Serve a Data Store over HTTP, until SIGTERM."
    )
    _add_store(parser)
    _add_address(parser)
    _add_limits(parser)
    _add_records(parser)
    options = parser.parse_args(argv)
    if options.key and not options.cert:
        parser.error("--key FILE needs --cert FILE")
    if options.static and (options.dsroot or options.dbname or options.site):
        parser.error("--static DIR has no catalogue: not with --dsroot, --dbname or --site")
    if options.monitor_open and options.monitor is None:
        parser.error("--monitor-open goes with --monitor")
    if options.monitor is not None and not (options.monitor_open or _is_loopback(options.host)):
        parser.error(
            f"--monitor is for this host alone, and --host {options.host} for others too; add "
            "--monitor-open if everybody may see it, or serve it by another process"
        )
    return options


def _add_store(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what is served")
    add_site_options(group)
    group.add_argument(
        "--static", metavar="DIR", help="instead: a tree of plain files, such as a mirror's store/"
    )


def _add_address(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("where").add_argument
    add("--host", default="127.0.0.1", help="address to listen at (default: %(default)s)")
    add("--port", type=_port, default=8080, help="0: the system picks (default: %(default)s)")
    add("--cert", metavar="FILE", help="speak TLS with this certificate chain (PEM)")
    add("--key", metavar="FILE", help="the certificate's key, if it does not stand in its file")
    add("--base-path", type=base_path, default=(), metavar="/PATH",
        help="the path below which all URLs stand")  # fmt: skip
    add("--trusted-proxy", type=_network, action="append", default=[], metavar="NETWORK",
        help="believe X-Forwarded-For from there; may be repeated")  # fmt: skip
    add("--accel", type=_accel, metavar="/PREFIX",
        help="nginx sends the files, which it has under this prefix")  # fmt: skip


def _add_limits(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("limits").add_argument
    add("--workers", type=_workers, default=1, metavar="N",
        help="processes that serve (default: %(default)d)")  # fmt: skip
    add("--header-timeout", type=_seconds, default=10.0, metavar="S",
        help="a request's head must come within S seconds (default: %(default)g)")  # fmt: skip
    add("--idle-timeout", type=_seconds, default=30.0, metavar="S",
        help="an idle connection is closed after S seconds (default: %(default)g)")  # fmt: skip
    add("--min-speed", type=_speed, default=500.0, metavar="N",
        help="bytes a second that a reader has to take, over the idle time-out; "
             "0: any will do (default: %(default)g)")  # fmt: skip
    add("--max-connections", type=_count, default=1000, metavar="N",
        help="further ones get a 503 (default: %(default)d)")  # fmt: skip


def _add_records(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("records").add_argument
    add("--access-log", nargs="?", const=STANDARD_OUTPUT, metavar="FILE",
        help="a line for each request; without FILE, or -: to standard output")  # fmt: skip
    add("--metrics", action="store_true", help="numbers for Prometheus at /metrics")
    add("--monitor", nargs="*", metavar="PATH",
        help="pages of the boards of these paths at /monitor/ (default: of all along"
             " OPUS_DEFINITIONS_DIR), for this host alone")  # fmt: skip
    add("--monitor-open", action="store_true", help="the monitor is for everybody")


def _port(text: str) -> int:
    if not _is_number(text) or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"a port from 0 to 65535 expected, not {text}")
    return int(text)


def _seconds(text: str) -> float:
    value = _float(text)
    if not 0 < value <= 86400:
        raise argparse.ArgumentTypeError(f"seconds above 0, at most a day, expected, not {text}")
    return value


def _speed(text: str) -> float:
    value = _float(text)
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"bytes a second, 0 or more, expected, not {text}")
    return value


def _float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _count(text: str) -> int:
    if not _is_number(text) or int(text) < 1:
        raise argparse.ArgumentTypeError(f"a number, at least 1, expected, not {text}")
    return int(text)


def _workers(text: str) -> int:
    if _count(text) > MAX_WORKERS:
        raise argparse.ArgumentTypeError(f"at most {MAX_WORKERS} workers expected, not {text}")
    return int(text)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 10


def base_path(text: str) -> tuple[str, ...]:
    """The names of a base path; none for `/`. Raises ArgumentTypeError for what is none."""
    if not text.startswith("/"):
        raise argparse.ArgumentTypeError(f"a path that begins with / expected, not {text}")
    inner = text.strip("/")
    names = tuple(unquote(name, "latin-1") for name in inner.split("/")) if inner else ()
    for name in names:
        problem = check_name(name)
        if problem:
            raise argparse.ArgumentTypeError(f"{problem}, in {text}")
    if names in _PAGES:
        raise argparse.ArgumentTypeError(f"the server has a page at {text}; give another path")
    return names


def _is_loopback(host: str) -> bool:
    from ipaddress import ip_address

    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _accel(text: str) -> str:
    """A prefix of URLs, of names alone; without the slash at its end."""
    prefix = text.removesuffix("/")
    root, *names = prefix.split("/")
    if root or not names or " " in prefix or any(check_name(name) for name in names):
        raise argparse.ArgumentTypeError(f"a path of plain names, /NAME, expected, not {text}")
    return prefix


def _network(text: str) -> "Network":
    from ipaddress import ip_network

    try:
        return ip_network(text)
    except ValueError as fault:
        raise argparse.ArgumentTypeError(
            f"an address or a network such as 192.0.2.0/24 expected: {fault}"
        ) from fault
