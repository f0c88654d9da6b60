"""From what the store answers to what HTTP says: status, fields and body (RFC 9110; FAULTS S4)."""

import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from email.utils import formatdate, parsedate_to_datetime
from functools import lru_cache
from http import HTTPStatus

from server.http.channel import Span
from server.http.request import ALLOWED, Request
from server.views.answers import HTML, TEXT, Absent, Answer, Denied, File, Moved, Stream

RETRY_AFTER = 10
"""Seconds after which a client that found no room may come again."""

# Pages hold names that other people chose: nothing in them is ever to be run or fetched.
_PAGE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'self'"
# What may change or be refused from one moment to the next, no cache keeps; a file never changes
# under its name.
_FLEETING = ("Cache-Control", "no-store")
_LASTING = "max-age=31536000, immutable"
_CHALLENGE = 'Basic realm="Data Store", charset="UTF-8"'
_RANGE = re.compile(r"bytes=[ \t]*(\d*)-(\d*)[ \t]*", re.ASCII | re.IGNORECASE)
_ETAG = re.compile(r'(?:W/)?"[^"]*"')


Body = bytes | Span | Iterator[bytes]


@dataclass(frozen=True, slots=True)
class Reply:
    """A status, the fields that belong to it, and the body that a GET gets.

    `length` is the body's in bytes; None: not known before it is sent. A 304 has no length.
    """

    status: int
    fields: tuple[tuple[str, str], ...]
    body: Body
    length: int | None


def reply_to(request: Request, answer: Answer, accel: str | None = None) -> Reply:
    """The reply to `request` for what the store has found.

    `accel`: the prefix under which a web server in front of us sends the files itself, when told
    so by X-Accel-Redirect; None: we send them.
    """
    match answer:
        case Stream():
            return _stream(request, answer)
        case File():
            return _file(request, answer, accel)
        case Moved(location):
            return plain(301, f"see {location}", (("Location", location),))
        case Absent(reason):
            return plain(404, reason)
        case Denied(reason, challenge):
            if challenge:
                return plain(401, reason, (("WWW-Authenticate", _CHALLENGE),))
            return plain(403, reason)


def plain(status: int, reason: str, fields: tuple[tuple[str, str], ...] = ()) -> Reply:
    """A reply whose body is one line of text."""
    body = f"{status} {HTTPStatus(status).phrase}: {reason}\n".encode("ascii", "replace")
    if status == 405:
        fields = (*fields, ("Allow", ", ".join(ALLOWED)))
    if status == 503:
        fields = (*fields, ("Retry-After", str(RETRY_AFTER)))
    return Reply(status, (*fields, _FLEETING, ("Content-Type", TEXT)), body, len(body))


def text(media: str, words: str) -> Reply:
    """A 200 with a short text of our own."""
    body = words.encode()
    return Reply(200, (("Content-Type", media), _FLEETING), body, len(body))


def _stream(request: Request, answer: Stream) -> Reply:
    fields = [("Content-Type", answer.media), _FLEETING]
    if answer.media == HTML:
        fields.append(("Content-Security-Policy", _PAGE_POLICY))
    if answer.etag:
        fields.append(("ETag", answer.etag))
    status = _precondition(request, answer.etag, None)
    if status:
        return _without_body(status, fields)
    return Reply(200, tuple(fields), answer.chunks, answer.length)


def _file(request: Request, answer: File, accel: str | None) -> Reply:
    # A time in the future would make every later If-Modified-Since come out wrong.
    modified = int(min(answer.modified, time.time()))
    cache = f"{'private' if answer.private else 'public'}, {_LASTING}"
    fields = [
        ("Content-Type", answer.media),
        ("Last-Modified", http_date(modified)),
        ("ETag", answer.etag),
        ("Cache-Control", cache),
        ("Accept-Ranges", "bytes"),
    ]
    status = _precondition(request, answer.etag, modified)
    if status:
        return _without_body(status, fields)
    part = _range(request, answer, modified)
    if part is not None and not part:
        whole = ("Content-Range", f"bytes */{answer.size}")
        return plain(416, f"the file has {answer.size} bytes", (whole,))
    # nginx judges If-Match before it has our ETag: such requests, which are rare, are ours alone.
    if accel is not None and "if-match" not in request.fields:
        # The body, its length and any part of it are the other server's to send. It would say what
        # we say of caches of its own errors, too: under this name it does not.
        told = [f for f in fields if f[0] not in ("Cache-Control", "Accept-Ranges")]
        kept = ("X-Cache-Control", cache)
        return Reply(200, (*told, kept, ("X-Accel-Redirect", accel + answer.path)), b"", 0)
    if part is None:
        span = Span(answer.descriptor, 0, answer.size)
        return Reply(200, tuple(fields), span, answer.size)
    fields.append(("Content-Range", f"bytes {part.start}-{part.stop - 1}/{answer.size}"))
    span = Span(answer.descriptor, part.start, len(part))
    return Reply(206, tuple(fields), span, span.count)


def _without_body(status: int, fields: list[tuple[str, str]]) -> Reply:
    if status == 304:
        # A 304 repeats what a cache needs, not what describes the body (RFC 9110 section 15.4.5).
        kept = tuple(field for field in fields if field[0] != "Content-Type")
        return Reply(304, kept, b"", None)
    return plain(status, "the precondition does not hold")


@lru_cache(maxsize=1024)
def http_date(seconds: int) -> str:
    """A time in seconds since 1970 as HTTP writes it."""
    return formatdate(seconds, usegmt=True)


def _parse_date(text: str) -> int | None:
    """Seconds since 1970, or None for what is no date (such a field is ignored)."""
    try:
        return int(parsedate_to_datetime(text).timestamp())
    except (ValueError, OverflowError):
        return None


def _precondition(request: Request, etag: str | None, modified: int | None) -> int | None:
    """304, 412, or None to go on; in the order of RFC 9110 section 13.2.2."""
    fields = request.fields
    if "if-match" in fields:
        if not _matches(fields["if-match"], etag, strong=True):
            return 412
    elif modified is not None and _since(fields, "if-unmodified-since", modified) is False:
        return 412
    if "if-none-match" in fields:
        return 304 if _matches(fields["if-none-match"], etag, strong=False) else None
    if modified is not None and _since(fields, "if-modified-since", modified):
        return 304
    return None


def _since(fields: Mapping[str, str], name: str, modified: int) -> bool | None:
    """Say whether nothing changed since the field's date; None without a usable date."""
    date = _parse_date(fields[name]) if name in fields else None
    return None if date is None else modified <= date


def _matches(value: str, etag: str | None, *, strong: bool) -> bool:
    if value.strip() == "*":
        return True
    tags = _ETAG.findall(value)
    if not strong:
        tags = [tag.removeprefix("W/") for tag in tags]
    return etag in tags


def _range(request: Request, answer: File, modified: int) -> range | None:
    """The bytes asked for, empty if there are none such, or None for the whole file.

    One range only: several, other units and bad syntax get the whole, as RFC 9110 section 14.2
    allows; so does an If-Range that no longer holds.
    """
    wanted = request.fields.get("range")
    if wanted is None or request.method != "GET" or not _still(request, answer.etag, modified):
        return None
    matched = _RANGE.fullmatch(wanted)
    if not matched or matched.group(1, 2) == ("", ""):
        return None
    first, last = matched.groups()
    if not first:
        return _suffix(_position(last), answer.size)
    start = _position(first)
    if last and _position(last) < start:
        return None
    stop = min(_position(last) + 1, answer.size) if last else answer.size
    return range(start, max(start, stop))


def _suffix(count: int, size: int) -> range | None:
    # The last bytes of an empty file are all of it, and a 206 of no bytes cannot be written down.
    if count and not size:
        return None
    return range(max(0, size - count), size)


def _position(digits: str) -> int:
    # Any number of twenty digits is beyond every file, and int() refuses some thousands of them.
    return int(digits.lstrip("0")[:20] or "0")


def _still(request: Request, etag: str, modified: int) -> bool:
    """Say whether an If-Range, if any, still names this file (RFC 9110 section 13.1.5)."""
    value = request.fields.get("if-range")
    if value is None or value == etag:
        return True
    return '"' not in value and _parse_date(value) == modified
