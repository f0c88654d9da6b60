"""Talking to a Data Store: addresses, requests, redirects, retries (PROTOCOL section 1).

The one seam to the network. A caller hands in an operation on an address and gets its result, or
the error that is left when every address has been tried often enough; what an operation may meet
on the way (a status, a cut, a stall) is judged here, so that lists and files are judged alike.
"""

import random
import re
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from mirror import __version__
from mirror.address import Address, read_address
from mirror.body import Body, RateLimit
from mirror.errors import ListError, MirrorError, RefusedError, TransportError
from mirror.halt import Halt, HaltedError
from mirror.wire import ClosedError, Connection, WireAnswer, request_bytes

if TYPE_CHECKING:
    from formats.mirror_yaml import Config
    from mirror.session import Session, SessionAnswer

T = TypeVar("T")

MAX_HOPS = 5
"""Redirects that one request may go through."""

FIRST_PAUSE = 0.5
"""Seconds before the first repetition; every further one waits twice as long, with jitter."""

MAX_CUT_BURSTS = 3
"""Bursts cut in a row after which a server is taken for one that does not pipeline."""

NEAR = 0.002
"""Seconds to the first byte of an answer, below which a server is on this machine or beside it."""

LONGEST_PAUSE = 60.0
LONGEST_RETRY_AFTER = 3600.0
"""Seconds that a server may make us wait before we rather come back with the next run."""


class DataStore:
    """A Data Store at one or several addresses. Safe to be used from several threads."""

    def __init__(self, config: "Config", halt: Halt) -> None:
        self._config = config
        self._halt = halt
        self._rate = RateLimit(config.rate_limit)
        self.addresses = [read_address(uri, config) for uri in config.top_uri]
        self._current = 0
        self._cut_bursts = 0
        self._session: Session | None = None
        self._local = threading.local()
        self._connections: set[Connection] = set()
        # A signal handler may want it while this very thread holds it.
        self._lock = threading.RLock()
        agent = config.user_agent or f"update_mirror/{__version__}"
        # The sums are of the raw bytes, so nothing may be compressed on the way.
        self._headers = {"User-Agent": agent, "Accept": "*/*", "Accept-Encoding": "identity"}

    def attempt(self, operation: Callable[[Address], T]) -> T:
        """Do `operation` on an address until it succeeds, or the tries are used up.

        One round tries every address once; there are `retries` rounds after the first, with
        pauses that double, or as long as the server asked for. Raises what the last try raised:
        TransportError, or RefusedError and IntegrityError at once, HaltedError if the run ends.
        """
        failures = refusals = 0
        asked = 0.0
        count = len(self.addresses)
        while True:
            self._halt.check()
            at = self._current
            address = self.addresses[at]
            try:
                return operation(address)
            except (RefusedError, ListError):
                # Another address may have what this one has not, or may let us in.
                refusals += 1
                self._current = (at + 1) % count
                if refusals >= count:
                    raise
                continue
            except TransportError as error:
                self._halt.check()
                failures += 1
                asked = max(asked, error.retry_after or 0.0)
                self._current = (at + 1) % count
                rounds, within = divmod(failures, count)
                tries = f", tried {failures} times" if failures > 1 else ""
                left = TransportError(
                    f"{error} ({address.name}{tries})", permanent=error.permanent, late=error.late
                )
                last = rounds > self._config.retries
                last = last or (within == 0 and asked > LONGEST_RETRY_AFTER)
                if last or (error.permanent and failures >= count):
                    raise left from None
            if within == 0:
                self._wait(max(asked, _pause(rounds)), left)
                asked = 0.0

    def _wait(self, seconds: float, left: TransportError) -> None:
        """Pause before the next round; if the run ends before that, `left` is what it was."""
        try:
            self._halt.sleep(seconds)
        except HaltedError:
            if self._halt.interrupted:
                raise
            raise left from None

    def get(
        self,
        address: Address,
        segments: Sequence[str],
        *,
        query: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> Body:
        """One GET below an address; `segments` are names, unquoted. Follows redirects.

        Returns the answer's body for status 200, and where a range was asked for, 206 and 416.
        Raises TransportError for what may pass, RefusedError for what will not.
        """
        target = "/".join(quote(one, safe="+:") for one in segments)
        if query:
            target += "?" + quote(query, safe="+:")
        url = address.url + target
        for _ in range(MAX_HOPS + 1):
            answer = self._answer(address, url, headers or {})
            if answer.status not in (301, 302, 303, 307, 308):
                break
            answer.close()
            url = self._redirected(url, answer.headers.get("location", ""))
        else:
            raise RefusedError(f"more than {MAX_HOPS} redirects", answer.status)
        ranged = "Range" in (headers or {})
        if answer.status == 200 or (ranged and answer.status in (206, 416)):
            return Body(answer, self._config, self._halt, self._rate)
        answer.close()
        raise _refusal(answer, address)

    def read_list(
        self, segments: Sequence[str], consume: Callable[[Body], T], *, query: str = ""
    ) -> T:
        """Read the list below `segments` with `consume`, from the start again after every cut.

        `consume` takes the answer and returns what it made of it; it must stand being called
        again. Raises as `attempt`.
        """

        def operation(address: Address) -> T:
            with self.get(address, [*segments, "index.txt"], query=query) as body:
                return consume(body)

        return self.attempt(operation)

    def turn(self) -> None:
        """Ask the next address from now on, if there is one: this one sends wrong bytes."""
        self._current = (self._current + 1) % len(self.addresses)

    def can_burst(self) -> bool:
        """Whether this thread's connection is open, has answered before, and takes bursts."""
        address = self.addresses[self._current]
        if not address.direct or self._cut_bursts >= MAX_CUT_BURSTS:
            return False
        connection = self._connection(address)
        return connection.is_open and connection.served > 0

    def burst(self, paths: Sequence[Sequence[str]]) -> Generator[Body, None, None]:
        """Ask for several small files at once on one connection and yield the answers in order.

        The caller reads every body to its end before it takes the next, and stops at the first
        oddity: this is a short cut for what goes well, without redirects and repetitions. A
        server that cuts bursts is asked for one file at a time after a few of them.
        Raises TransportError.
        """
        address = self.addresses[self._current]
        targets = [
            address.path + "/".join(quote(one, safe="+:") for one in segments) for segments in paths
        ]
        connection = self._connection(address)
        try:
            connection.send(request_bytes(address.host, targets, self._headers))
            for _ in targets:
                answer = connection.answer()
                yield Body(answer, self._config, self._halt, self._rate)
                answer.close()
        except BaseException:
            self._cut_bursts += 1
            connection.close()
            raise
        self._cut_bursts = 0

    def is_near(self) -> bool:
        """Whether answers come so fast that waiting for several at once gains nothing."""
        with self._lock:
            return any(connection.fastest < NEAR for connection in self._connections)

    def abort(self) -> None:
        """Break every connection, so that threads that wait for bytes come to their end."""
        with self._lock:
            for connection in self._connections:
                connection.abort()

    def _answer(
        self, address: Address, url: str, headers: Mapping[str, str]
    ) -> "WireAnswer | SessionAnswer":
        if not (address.direct and url.startswith(address.url)):
            return self._through_requests().get(url, {**self._headers, **headers})
        target = address.path + url[len(address.url) :]
        request = request_bytes(address.host, [target], {**self._headers, **headers})
        connection = self._connection(address)
        if connection.is_open:
            # A kept connection may have been closed by the server in the meantime: that is no
            # failure of the request, which then goes over a fresh one.
            try:
                connection.send(request)
                return connection.answer()
            except ClosedError:
                connection.close()
                self._halt.check()
            except BaseException:
                connection.close()
                raise
        connection.open()
        try:
            connection.send(request)
            return connection.answer()
        except BaseException:
            connection.close()
            raise

    def _connection(self, address: Address) -> Connection:
        """This thread's own connection to an address."""
        mine: dict[str, Connection] = self._local.__dict__.setdefault("connections", {})
        if address.url not in mine:
            parts = urlsplit(address.url)
            made = Connection(parts.hostname or "", parts.port or 80, self._config.timeout)
            mine[address.url] = made
            with self._lock:
                self._connections.add(made)
        return mine[address.url]

    def _through_requests(self) -> "Session":
        from mirror.session import Session

        with self._lock:
            if self._session is None:
                self._session = Session(self._config)
            return self._session

    def _redirected(self, url: str, location: str) -> str:
        """Where a redirect leads, or RefusedError (FAULTS N7, N8)."""
        try:
            new = urljoin(url, location)
            was, to = urlsplit(url), urlsplit(new)
            same = (to.hostname, _port(to)) == (was.hostname, _port(was))
            upgraded = (was.scheme, to.scheme) == ("http", "https") and to.hostname == was.hostname
        except ValueError:
            raise RefusedError("a redirect to no valid address", 302) from None
        if not location or to.scheme not in ("http", "https"):
            raise RefusedError(f"a redirect to {location[:80]!r}, which is no http address", 302)
        if was.scheme == "https" and to.scheme == "http":
            raise RefusedError("a redirect from https to http", 302)
        if not (same or upgraded or to.hostname in self._config.redirect_hosts):
            raise RefusedError(
                f"a redirect to {to.hostname}; put it into redirect_hosts to allow it", 302
            )
        return new


def _port(parts: SplitResult) -> int:
    return parts.port or (443 if parts.scheme == "https" else 80)


def _pause(rounds: int) -> float:
    """Seconds to wait before round `rounds` + 1, with jitter so that clients spread out."""
    pause: float = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** (rounds - 1))
    return pause * random.uniform(0.5, 1.5)


def _refusal(answer: "WireAnswer | SessionAnswer", address: Address) -> MirrorError:
    """What a status that is no success means for the one who asked."""
    status = answer.status
    if status in (401, 403):
        hint = "; check the credentials (netrc, client_cert) and whether this host is allowed"
        return RefusedError(f"HTTP {status} from {address.name}{hint}", status)
    if status in (408, 429) or status >= 500 or status < 300:
        wait = read_retry_after(answer.headers.get("retry-after"), time.time())
        return TransportError(f"HTTP {status}", retry_after=wait)
    return RefusedError(f"HTTP {status} from {address.name}", status)


def read_retry_after(text: str | None, now: float) -> float | None:
    """Seconds that a Retry-After header asks for (a number or a date), or None for junk."""
    if text is None:
        return None
    if re.fullmatch(r"\s*[0-9]{1,9}\s*", text):
        return float(text)
    from email.utils import parsedate_to_datetime

    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now)
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
