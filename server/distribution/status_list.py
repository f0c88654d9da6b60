"""The list of a status product, fetched from another site's Data Store.

The standard library's HTTP, with what it leaves out: an end to waiting, a bound on the size, and
a check that the whole answer came. Nothing of a list is used before it is here as a whole; it
grows without bound, so it goes into a temporary file.
"""

import http.client
import os
import re
import tempfile
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from mirror import __version__
from mirror.disk import told
from mirror.errors import ConfigError, ListError, RefusedError, TransportError
from mirror.listing import INDEX
from mirror.report import printable
from server.distribution.clock import Clock, OverdueError, clocked

MAX_BYTES = 1 << 30
"""Bytes of a list: some ten million reports."""

MAX_SECONDS = 600.0
"""Seconds that an exchange may take at most, however steadily it drips."""

PATIENCE = 10
"""An exchange may take so many times as long as a silence in it."""

CHUNK = 1 << 16

_CREDENTIALS = re.compile(r"^([a-z]+://)?.*@", re.DOTALL | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Source:
    """A status product's list: its URL without credentials, and these as a header, if any."""

    url: str
    authorization: str | None = field(repr=False)


def read_source(uri: str) -> Source:
    """The list at a status_uri: `…/PRODUCT`, `…/PRODUCT/` or `…/PRODUCT/index.txt`.

    Raises ConfigError for what is no http or https address of a product.
    """
    try:
        parts = urlsplit(uri)
        named = parts.scheme in ("http", "https") and bool(parts.hostname)
        _ = parts.port
    except ValueError:
        named = False
    path = parts.path.removesuffix(INDEX).rstrip("/") if named else ""
    plain = uri.isascii() and uri.isprintable() and " " not in uri
    if not (path and plain) or parts.query or parts.fragment:
        raise ConfigError(
            ["status_uri: an address like http://host/ds/PRODUCT/index.txt expected, without a"
             f" query, not {printable(masked(uri))}"]
        )  # fmt: skip
    credentials, _, host = parts.netloc.rpartition("@")
    authorization = None
    if credentials:
        authorization = "Basic " + b64encode(unquote(credentials).encode()).decode()
    return Source(urlunsplit((parts.scheme, host, f"{path}/{INDEX}", "", "")), authorization)


def masked(uri: str) -> str:
    """A status_uri as people may see it: `***` for the credentials in it, or what may be some."""
    return _CREDENTIALS.sub(r"\1***@", uri)


@contextmanager
def fetched(source: Source, last: str | None, timeout: float) -> Iterator[IO[bytes]]:
    """The list after the fileset `last`, or all of it, in a file for the length of a `with`.

    All of it comes, too, where the server does not know `last` any more, or ignores what it is
    asked. What was cut is asked for once more. `timeout`: seconds of silence that are borne; all
    of it, whatever is asked for again, takes PATIENCE times as long, and MAX_SECONDS, at most.
    Raises TransportError, RefusedError or ListError; LocalError if it cannot be kept here.
    """
    clock = Clock(timeout, min(PATIENCE * timeout, MAX_SECONDS))
    with told(tempfile.gettempdir()), tempfile.TemporaryFile() as file:
        try:
            _fetch(source, last, clock, file)
        except RefusedError as error:
            # The last one may have been withdrawn (PROTOCOL section 1); or it is the product.
            if error.status != 404 or last is None:
                raise
            _fetch(source, None, clock, file)
        yield file


def _fetch(source: Source, last: str | None, clock: Clock, file: IO[bytes]) -> None:
    for final in (False, True):
        file.seek(0)
        file.truncate()
        try:
            _receive(source, last, clock, file)
        except TransportError as error:
            if final or error.permanent:
                raise
            continue
        # A last line without its end is a cut list, or a writer's slip: the rows will tell.
        file.seek(-1, os.SEEK_END)
        if file.read(1) == b"\n":
            return


def _receive(source: Source, last: str | None, clock: Clock, file: IO[bytes]) -> None:
    """One answer into the file, whole."""
    url = source.url + (f"?{quote(last, safe='')}" if last else "")
    came = 0
    try:
        with _opener(clock).open(_request(url, source), timeout=clock.left()) as answer:
            _check_kind(answer.headers.get("content-type", ""), source.url)
            while chunk := answer.read1(CHUNK):
                came += len(chunk)
                if came > MAX_BYTES:
                    raise ListError(f"{source.url}: the list is longer than {MAX_BYTES} bytes")
                with told(tempfile.gettempdir()):
                    file.write(chunk)
            if answer.length:
                raise TransportError(f"{source.url}: {answer.length} bytes of the list are missing")
    except OverdueError:
        raise TransportError(
            f"{source.url}: the answer did not end within {clock.total:g} s", permanent=True
        ) from None
    except urllib.error.HTTPError as error:
        error.close()
        raise _refused(source.url, error) from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        text = str(reason) or type(error).__name__
        raise TransportError(f"{source.url}: {text}") from None
    if not came:
        raise ListError(f"{source.url}: an empty answer; even a list without news has its header")


def _request(url: str, source: Source) -> urllib.request.Request:
    request = urllib.request.Request(
        url, headers={"User-Agent": f"update_mirror/{__version__}", "Accept-Encoding": "identity"}
    )
    if source.authorization:
        # Wherever a redirect leads, nobody else is told.
        request.add_unredirected_header("Authorization", source.authorization)
    return request


def _check_kind(kind: str, url: str) -> None:
    if "html" in kind.lower():
        raise ListError(f"{url}: a list expected, not an answer of type {kind!r}")


def _refused(url: str, error: urllib.error.HTTPError) -> RefusedError | TransportError:
    if error.code >= 500:
        return TransportError(f"{url}: HTTP {error.code}")
    hint = "; has the site made its status product yet?" if error.code == 404 else ""
    if 300 <= error.code < 400:
        hint = ", a redirect that is not followed"
    return RefusedError(f"{url}: HTTP {error.code}{hint}", error.code)


class _Http(urllib.request.HTTPHandler):
    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock

    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(clocked(http.client.HTTPConnection, self._clock), req)


class _Https(urllib.request.HTTPSHandler):
    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(clocked(http.client.HTTPSConnection, self._clock), req)


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, to http and https alone, and never from the latter to the former."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        scheme = urlsplit(newurl).scheme
        if scheme not in ("http", "https") or (req.type == "https" and scheme == "http"):
            raise TransportError(f"a redirect to {scheme}, which is not followed", permanent=True)
        # What comes with a redirect is not read: it may never end.
        fp.close()
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener(clock: Clock) -> urllib.request.OpenerDirector:
    """What knows http, https, proxies and redirects, and no files and no ftp."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        _Http(clock),
        _Https(clock),
        urllib.request.HTTPDefaultErrorHandler(),
        _Redirects(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.UnknownHandler(),
    ):
        opener.add_handler(handler)
    return opener
