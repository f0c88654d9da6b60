"""From a request to its reply: who asks, below which path the store stands, and what stands beside.

What is beside the store: `/healthz`, which says whether it can answer, `/metrics`, and the pages of
the monitor below `/monitor/`. All are at the root, whatever the base path is.
"""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from mirror.errors import MirrorError
from server.database import Unavailable
from server.http.metrics import MEDIA
from server.http.reply import Reply, plain, reply_to, text
from server.http.request import Request
from server.views.answers import TEXT, Moved, Store, Visitor

if TYPE_CHECKING:
    from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

    Network = IPv4Network | IPv6Network

HEALTH = "/healthz"
METRICS = "/metrics"
MONITOR = "/monitor"

_FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip", "via")
"""Fields by which a request tells that somebody else has handed it on."""


@dataclass(frozen=True, slots=True)
class Front:
    """Where the store stands, and who stands in front of us.

    `base`: the names of the base path, none for the root. `accel`: see `http.reply.reply_to`.
    `proxies`: networks of the proxies whose X-Forwarded-For is believed. `numbers`: makes the text
    of `/metrics`; None: there is no such URL. `monitor`: has the pages of the monitor, if there is
    one; `monitor_open`: they are for everybody, not for this host alone.
    """

    store: Store
    base: tuple[str, ...] = ()
    accel: str | None = None
    proxies: "tuple[Network, ...]" = ()
    numbers: Callable[[], str] | None = None
    monitor: Store | None = None
    monitor_open: bool = False

    def visitor(self, peer: str, request: Request) -> Visitor:
        """Who asks, for a request that came over a connection from `peer`."""
        forwarded = request.fields.get("x-forwarded-for") if self.proxies else None
        address = behind(peer, forwarded, self.proxies) if forwarded else peer
        return Visitor(address, request.fields.get("authorization"))

    def reply(self, request: Request, visitor: Visitor, held: ExitStack) -> Reply:
        """The reply to a request. `held` keeps open what it needs; raises as `Store.find` does."""
        if request.path == HEALTH:
            return self._health(visitor)
        if request.path == METRICS and self.numbers is not None:
            return text(MEDIA, self.numbers())
        if self.monitor and (request.path == MONITOR or request.path.startswith(f"{MONITOR}/")):
            if not (self.monitor_open or at_home(visitor.address, request)):
                return plain(403, "the monitor is for this host alone")
            find = self.monitor.find(request.path, request.query, visitor)
            return reply_to(request, held.enter_context(find))
        path = self._below(request.path)
        if path is None:
            return plain(404, "nothing of this name")
        if not path:
            return reply_to(request, Moved(self._prefix() + "/"))
        answer = held.enter_context(self.store.find(path, request.query, visitor))
        if isinstance(answer, Moved):
            answer = Moved(self._prefix() + answer.location)
        return reply_to(request, answer, self.accel)

    def _health(self, visitor: Visitor) -> Reply:
        try:
            with self.store.find("/index.txt", "", visitor):
                return text(TEXT, "ok\n")
        except MirrorError as fault:
            raise Unavailable(str(fault)) from fault

    def _below(self, path: str) -> str | None:
        """The part of a path below the base, still encoded, or None for what is elsewhere."""
        if not self.base:
            return path
        _, *names = path.split("/")
        count = len(self.base)
        if tuple(unquote(name, "latin-1") for name in names[:count]) != self.base:
            return None
        return "".join(f"/{name}" for name in names[count:])

    def _prefix(self) -> str:
        return "".join(f"/{quote(name, safe='')}" for name in self.base)


def behind(peer: str, forwarded: str, proxies: "tuple[Network, ...]") -> str:
    """The address that the proxies nearest to us have seen.

    Each proxy adds to the right of X-Forwarded-For whom it was asked by, so only what trusted ones
    have added counts: from the right, the first address that is no trusted proxy's. A list with
    junk in that part is not believed at all.
    """
    found = _address(peer)
    if found is None or not _within(found, proxies):
        return peer
    for element in reversed(forwarded.split(",")):
        found = _address(element.strip(" \t"))
        if found is None:
            return peer
        if not _within(found, proxies):
            break
    return str(found)


def at_home(address: str, request: Request) -> bool:
    """Whether somebody on this host asks, and nobody else through a proxy or a browser on it.

    A page from elsewhere may lead a browser here by a name of its own: the Host field has it then.
    """
    found = _address(address)
    if found is None or not found.is_loopback or any(f in request.fields for f in _FORWARDED):
        return False
    host = request.fields.get("host", "")
    name = host.partition("]")[0][1:] if host.startswith("[") else host.partition(":")[0]
    named = _address(name)
    return name.lower() == "localhost" or (named is not None and named.is_loopback)


def _address(text: str) -> "IPv4Address | IPv6Address | None":
    from ipaddress import IPv6Address, ip_address

    # A zone after % may hold anything, and means nothing on another machine.
    if "%" in text:
        return None
    try:
        found = ip_address(text)
    except ValueError:
        return None
    mapped = found.ipv4_mapped if isinstance(found, IPv6Address) else None
    return mapped or found


def _within(address: "IPv4Address | IPv6Address", networks: "tuple[Network, ...]") -> bool:
    return any(address in network for network in networks)
