"""The head of an HTTP/1.x request, parsed within hard bounds (RFC 9112; FAULTS S2, S3, S5).

Strict on purpose: whatever two parsers could read in two ways is refused and the connection
closed, so that nobody can hide a second request inside the first.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

MAX_LINE = 8192
"""Bytes in a request line; a longer one is 414."""

MAX_HEAD = 32768
"""Bytes in a whole head; a longer one is 431."""

MAX_FIELDS = 100
"""Header fields in a head; more are 431."""

ALLOWED = ("GET", "HEAD")
_KNOWN = ("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH")

_END = b"\r\n\r\n"
_BARE_LF = re.compile(rb"(?<!\r)\n")
_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_TOKEN_BYTE = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z\r-]")
_LINE = re.compile(rf"({_TOKEN}) ([!-~]+) HTTP/([0-9])\.([0-9])")
_FIELD = re.compile(rf"({_TOKEN}):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*)")
_HOST = re.compile(r"[^\s/?#@\\]*")


class RefusedRequest(Exception):
    """A request that is answered with an error, and its connection closed."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Request:
    """A request without a body. `fields` has lower-case names; `path` and `query` are encoded."""

    line: str
    method: str
    path: str
    query: str
    fields: Mapping[str, str]
    old: bool
    """HTTP/1.0: no chunked bodies, and closed after the answer unless asked otherwise."""

    def keep_alive(self) -> bool:
        """Say whether the connection stays open after the answer (RFC 9112 section 9.3)."""
        wishes = self.fields.get("connection", "").lower()
        if not wishes:
            return not self.old
        options = [wish.strip() for wish in wishes.split(",")]
        return "close" not in options and (not self.old or "keep-alive" in options)


def take_head(buffer: bytearray) -> bytes | None:
    """Cut the next head, without its empty line, off `buffer`; None if it has not all come.

    Raises RefusedRequest as soon as what has come cannot become a request within the bounds.
    """
    # RFC 9112 section 2.2: empty lines before a request line are skipped.
    while buffer.startswith(b"\r\n"):
        del buffer[:2]
    end = buffer.find(_END, 0, MAX_HEAD + len(_END))
    if end < 0:
        _check_growth(buffer)
        return None
    head = bytes(buffer[:end])
    del buffer[: end + len(_END)]
    return head


def _check_growth(buffer: bytearray) -> None:
    if buffer and not _TOKEN_BYTE.match(buffer):
        # A TLS handshake, say: nothing that follows can make a request of it.
        raise RefusedRequest(400, "the request line does not begin with a method")
    if _BARE_LF.search(buffer):
        raise RefusedRequest(400, "lines end with CR LF")
    if len(buffer) > MAX_LINE and buffer.find(b"\r\n", 0, MAX_LINE) < 0:
        raise RefusedRequest(414, f"the request line is longer than {MAX_LINE} bytes")
    if len(buffer) > MAX_HEAD:
        raise RefusedRequest(431, f"the request's head is longer than {MAX_HEAD} bytes")


def parse_head(head: bytes) -> Request:
    """Parse a head that `take_head` has cut. Raises RefusedRequest."""
    first, *rest = head.decode("latin-1").split("\r\n")
    if len(first) > MAX_LINE:
        raise RefusedRequest(414, f"the request line is longer than {MAX_LINE} bytes")
    matched = _LINE.fullmatch(first)
    if not matched:
        raise RefusedRequest(400, "the request line is not METHOD TARGET HTTP/1.1")
    method, target, major, minor = matched.groups()
    if major != "1":
        raise RefusedRequest(505, "HTTP/1.1 is spoken here")
    old = minor == "0"
    fields = _fields(rest)
    _check_host(fields, old)
    _check_body(method, fields)
    _check_method(method)
    path, _, query = _origin(target).partition("?")
    return Request(first, method, path, query, fields, old)


def _fields(lines: list[str]) -> dict[str, str]:
    if len(lines) > MAX_FIELDS:
        raise RefusedRequest(431, f"more than {MAX_FIELDS} header fields")
    fields: dict[str, str] = {}
    for line in lines:
        matched = _FIELD.fullmatch(line)
        if not matched:
            folded = line.startswith((" ", "\t"))
            raise RefusedRequest(400, "a folded header field" if folded else "a bad header field")
        name = matched[1].lower()
        value = matched[2].rstrip(" \t")
        # Two of a kind are one list (RFC 9110 section 5.3); a list of hosts or of lengths is then
        # refused as what it is, neither a host nor a length.
        fields[name] = f"{fields[name]}, {value}" if name in fields else value
    return fields


def _check_host(fields: Mapping[str, str], old: bool) -> None:
    host = fields.get("host")
    if host is None:
        if not old:
            raise RefusedRequest(400, "HTTP/1.1 asks for a Host field")
    elif not _HOST.fullmatch(host):
        raise RefusedRequest(400, "the Host field is not HOST or HOST:PORT")


def _check_body(method: str, fields: Mapping[str, str]) -> None:
    length = fields.get("content-length")
    coded = "transfer-encoding" in fields
    if length is not None and coded:
        raise RefusedRequest(400, "both Content-Length and Transfer-Encoding")
    if length is not None and not (length.isascii() and length.isdigit()):
        raise RefusedRequest(400, "Content-Length is not a number")
    if method in ALLOWED and (coded or (length or "0").strip("0")):
        raise RefusedRequest(400, f"a body on {method}")


def _check_method(method: str) -> None:
    if method in ALLOWED:
        return
    if method in _KNOWN:
        raise RefusedRequest(405, f"{' and '.join(ALLOWED)} only")
    raise RefusedRequest(501, "an unknown method")


def _origin(target: str) -> str:
    """The path and query of a target, which may be a whole URL (RFC 9112 section 3.2.2)."""
    if target.startswith("/"):
        return target
    scheme, separator, rest = target.partition("://")
    if not separator or scheme.lower() not in ("http", "https"):
        raise RefusedRequest(400, "the target is neither /PATH nor a URL")
    at = min((at for at in (rest.find("/"), rest.find("?")) if at >= 0), default=len(rest))
    origin = rest[at:]
    return origin if origin.startswith("/") else f"/{origin}"
