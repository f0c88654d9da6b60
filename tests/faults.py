"""Ready-made lies for `Simulator.fault`, each with its row of the fault table (N1 to N17, L1).

Every function returns an action: it gets the connection, the request and the answer that would
have been right, and writes what it likes. Bytes are bytes of the body, times are seconds.
A whole server that lies is the same action set with `store.fault("*", ..., times=None)`.
"""

import gzip
import hashlib
import time
from collections.abc import Callable
from dataclasses import replace
from email.utils import formatdate

from simulator import Action
from wire import Answer, Connection, Headers, Request, head, plain, represent

CAP = 1 << 30
"""Where an endless answer ends if the peer takes all of it."""


def http_date(seconds: float) -> str:
    """The time `seconds` from now (by this machine's clock), as Retry-After prints it."""
    return formatdate(time.time() + seconds, usegmt=True)


def raw(data: bytes) -> Action:
    """N17: `data` in place of an answer, then a hang-up. Good for status lines that are none."""

    def act(connection: Connection, _request: Request, _answer: Answer) -> None:
        connection.write(data)
        connection.close()

    return act


def drop() -> Action:
    """N15: a hang-up before the first byte of an answer."""
    return raw(b"")


def reset(after: int) -> Action:
    """N1: a reset after `after` bytes."""

    def act(connection: Connection, _request: Request, answer: Answer) -> None:
        connection.write(answer.head() + answer.body[:after])
        connection.reset()

    return act


def hang_up(after: int) -> Action:
    """N2: a hang-up in good order after `after` bytes; negative: that many are missing."""

    def act(connection: Connection, _request: Request, answer: Answer) -> None:
        connection.write(answer.head() + answer.body[:after])
        connection.close()

    return act


def resized(by: int) -> Action:
    """N3, N10: `by` bytes more than listed, or fewer if negative, with a Content-Length to match.

    A request for a range gets the whole.
    """

    def make(answer: Answer) -> Answer:
        return _whole(answer, answer.whole + b"\0" * by if by > 0 else answer.whole[:by])

    return _instead(make)


def overrun(extra: bytes = b"left over") -> Action:
    """N3: bytes beyond Content-Length, where the next answer on the connection should begin."""

    def act(connection: Connection, _request: Request, answer: Answer) -> None:
        connection.write(answer.head() + answer.body + extra)

    return act


def endless(*, chunked: bool = False) -> Action:
    """N3: a body that does not end before the peer hangs up, or CAP; its right bytes come first."""

    def act(connection: Connection, _request: Request, answer: Answer) -> None:
        connection.write(_unsized(answer, chunked=chunked).head())
        piece, sent = answer.body or b"\0", 0
        while sent < CAP:
            connection.write(_chunk(piece) if chunked else piece)
            piece, sent = b"\0" * 65536, sent + len(piece)
        connection.close()

    return act


def no_length() -> Action:
    """N3: the right body without a Content-Length, ended by a hang-up."""

    def act(connection: Connection, _request: Request, answer: Answer) -> None:
        connection.write(_unsized(answer).head() + answer.body)
        connection.close()

    return act


def chunked(piece: int = 4096, cut: int | None = None) -> Action:
    """N17: the right body in chunks of `piece` bytes; with `cut`, a hang-up after that many."""

    def act(connection: Connection, _request: Request, answer: Answer) -> None:
        connection.write(_unsized(answer, chunked=True).head())
        body = answer.body[:cut]
        for at in range(0, len(body), piece):
            connection.write(_chunk(body[at : at + piece]))
        if cut is None:
            connection.write(b"0\r\n\r\n")
        else:
            connection.close()

    return act


def bad_chunks(size_line: bytes = b"zz") -> Action:
    """N17: a first chunk in order, then one whose size line is `size_line`, then a hang-up."""

    def act(connection: Connection, _request: Request, answer: Answer) -> None:
        half = len(answer.body) // 2 or 1
        connection.write(_unsized(answer, chunked=True).head() + _chunk(answer.body[:half]))
        connection.write(size_line + b"\r\n" + answer.body[half:] + b"\r\n0\r\n\r\n")
        connection.close()

    return act


def stall(seconds: float, after: int | None = None) -> Action:
    """N4: nothing for `seconds`, before the head or after `after` bytes, then the right answer."""

    def act(connection: Connection, request: Request, answer: Answer) -> None:
        if after is None:
            connection.wait(seconds)
            connection.send(request, answer)
        else:
            connection.write(answer.head() + answer.body[:after])
            connection.wait(seconds)
            connection.write(answer.body[after:])

    return act


def drip(size: int, interval: float) -> Action:
    """N4: the right answer, `size` bytes every `interval` seconds."""

    def act(connection: Connection, _request: Request, answer: Answer) -> None:
        connection.write(answer.head())
        for at in range(0, len(answer.body), size):
            connection.write(answer.body[at : at + size])
            connection.wait(interval)

    return act


def status(code: int, *headers: tuple[str, str], body: str | None = None) -> Action:
    """N5, N6: another status, with further headers; `body` is text/plain."""

    return _instead(lambda _: plain(code, body or f"simulated {code}", *headers))


def retry_after(value: str, code: int = 503) -> Action:
    """N6: 503 or 429 with a Retry-After: seconds, `http_date(…)`, huge, negative or junk."""
    return status(code, ("Retry-After", value))


def redirect(location: str, code: int = 302) -> Action:
    """N7, N8: a redirect to `location`, sent as it stands: a path, a URL, `file:///etc/passwd`."""
    return status(code, ("Location", location))


def redirect_loop() -> Action:
    """N7: a redirect to the very same place."""

    def act(connection: Connection, request: Request, _answer: Answer) -> None:
        connection.send(request, plain(302, "here", ("Location", request.target)))

    return act


def redirect_hops(hops: int) -> Action:
    """N7: `hops` redirects, each to another query of the same file, then the right answer.

    For files only: a product's list takes its query for a name. Set it with `times=None`.
    """

    def act(connection: Connection, request: Request, answer: Answer) -> None:
        done = int(request.query.removeprefix("hop=") or "0")
        if done < hops:
            there = f"{request.target.partition('?')[0]}?hop={done + 1}"
            answer = plain(302, "further", ("Location", there))
        connection.send(request, answer)

    return act


def html(code: int = 200, text: str = "<html><body>Please log in.</body></html>\n") -> Action:
    """N9, N15: a page in place of a file or list: an error page or a captive portal's."""

    def make(answer: Answer) -> Answer:
        page = replace(_whole(answer, text.encode()), status=code)
        return page.with_headers(Content_Type="text/html", ETag=None, Accept_Ranges=None)

    return _instead(make)


def wrong_bytes(at: int = 0) -> Action:
    """N10: the byte at offset `at` of the file flipped, everything else as it should be."""

    def make(answer: Answer) -> Answer:
        body = bytearray(answer.body)
        if answer.start <= at < answer.start + len(body):
            body[at - answer.start] ^= 0xFF
        return replace(answer, body=bytes(body))

    return _instead(make)


def ignored_range() -> Action:
    """N11: 200 and the whole, whatever range was asked for."""

    return _instead(lambda answer: _whole(answer, answer.whole))


def shifted_range(by: int, *, honest: bool = True) -> Action:
    """N11: a range that begins `by` bytes after the wanted start (negative: overlapping it).

    Content-Range says so, unless not `honest`: then it says what was asked for. An answer that is
    no range is left as it should be.
    """

    def make(answer: Answer) -> Answer:
        if answer.status != 206:
            return answer
        size = len(answer.whole)
        start = min(max(answer.start + by, 0), size - 1)
        if not honest:
            body = (answer.whole[start:] + answer.whole)[: len(answer.body)]
            return replace(answer, body=body)
        place = f"bytes {start}-{size - 1}/{size}"
        return answer.with_body(answer.whole[start:]).with_headers(Content_Range=place)

    return _instead(make)


def multipart_range() -> Action:
    """N11: the wanted range as the one part of a multipart/byteranges answer."""

    def make(answer: Answer) -> Answer:
        if answer.status != 206:
            return answer
        place = dict(answer.headers)["Content-Range"]
        part = f"\r\n--part\r\nContent-Range: {place}\r\n\r\n".encode()
        answer = answer.with_body(part + answer.body + b"\r\n--part--\r\n")
        kind = "multipart/byteranges; boundary=part"
        return answer.with_headers(Content_Range=None, Content_Type=kind)

    return _instead(make)


def unsatisfiable() -> Action:
    """N13: 416, whatever was asked for."""

    def make(answer: Answer) -> Answer:
        return plain(416, "no such range", ("Content-Range", f"bytes */{len(answer.whole)}"))

    return _instead(make)


def changed(data: bytes, *, heeds_if_range: bool = True) -> Action:
    """N12: the file has become `data`, with another ETag and Last-Modified.

    A server that does not heed If-Range goes on with a range of the new content.
    """
    etag = f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"'

    def act(connection: Connection, request: Request, answer: Answer) -> None:
        if not heeds_if_range:
            kept = {name: v for name, v in request.headers.items() if name != "if-range"}
            request = replace(request, headers=kept)
        kind = dict(answer.headers)["Content-Type"]
        now = "Sun, 01 Aug 2010 00:00:00 GMT"
        connection.send(request, represent(request, data, kind, etag, now))

    return act


def gzipped() -> Action:
    """N14: the whole, really compressed, though nobody asked for it."""

    label = {"Content_Encoding": "gzip"}
    return _instead(lambda a: _whole(a, gzip.compress(a.whole, mtime=0)).with_headers(**label))


def labelled(encoding: str = "x-gzip") -> Action:
    """N14, section 1: the right bytes under a Content-Encoding that is not true of them."""

    return _instead(lambda answer: answer.with_headers(Content_Encoding=encoding))


def interim_flood(count: int = 10_000, code: int = 100) -> Action:
    """N17: `count` interim answers (100, 102, 103), then the right one."""

    def act(connection: Connection, request: Request, answer: Answer) -> None:
        for _ in range(0, count, 100):
            connection.write(head(code, ()) * 100)
        connection.send(request, answer)

    return act


def header_bomb(size: int = 1 << 20, lines: int = 1) -> Action:
    """N17: `lines` headers of `size` bytes each before the right body."""

    bomb: Headers = tuple((f"X-Bomb-{at}", "x" * size) for at in range(lines))
    return _instead(lambda answer: replace(answer, headers=(*bomb, *answer.headers)))


def duplicate_length(other: int) -> Action:
    """N17: a second Content-Length of `other` bytes after the true one."""

    second = ("Content-Length", str(other))
    return _instead(lambda answer: replace(answer, headers=(*answer.headers, second)))


def close_each() -> Action:
    """The right answer with `Connection: close`, and a hang-up after it."""

    def act(connection: Connection, request: Request, answer: Answer) -> None:
        connection.send(request, answer.with_headers(Connection="close"))
        connection.close()

    return act


def close_silently(served: int) -> Action:
    """Right answers, and a hang-up that was not announced after `served` on one connection."""

    def act(connection: Connection, request: Request, answer: Answer) -> None:
        connection.send(request, answer)
        if connection.served + 1 >= served:
            connection.close()

    return act


def http10() -> Action:
    """The right answer as HTTP/1.0 gives it, the connection closed after it."""

    def act(connection: Connection, request: Request, answer: Answer) -> None:
        connection.send(request, answer, "HTTP/1.0")
        connection.close()

    return act


def cut(at: int) -> Action:
    """L1: a list cut at byte `at` (negative: from its end), with a Content-Length to match."""

    return _instead(lambda answer: _whole(answer, answer.whole[:at]))


def no_final_newline() -> Action:
    """L1: a list whose last line has no end."""

    return _instead(lambda answer: _whole(answer, answer.whole.rstrip(b"\r\n")))


def _instead(make: Callable[[Answer], Answer]) -> Action:
    """Send, with no other fault, what `make` makes of the right answer."""

    def act(connection: Connection, request: Request, answer: Answer) -> None:
        connection.send(request, make(answer))

    return act


def _whole(answer: Answer, whole: bytes) -> Answer:
    """200 with all of `whole`, in place of an answer that may have been a range."""
    answer = replace(answer, status=200, whole=whole, start=0).with_body(whole)
    return answer.with_headers(Content_Range=None)


def _unsized(answer: Answer, *, chunked: bool = False) -> Answer:
    """The same without Content-Length: in chunks, or ended by a hang-up."""
    answer = answer.with_headers(Content_Length=None)
    if chunked:
        return answer.with_headers(Transfer_Encoding="chunked")
    return answer.with_headers(Connection="close")


def _chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"
