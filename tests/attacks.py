"""Requests that nobody who means well sends, and what a server may say to each (FAULTS S1-S5)."""

import base64
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from served import HOST
from traps import FILE, GET_FILE, PASSWORD

END = b" HTTP/1.1\r\n" + HOST + b"\r\n"
TRAPS = "/gpc1/traps"


@dataclass(frozen=True)
class Attack:
    """What is sent and the statuses it gets from a catalogue's store, and from plain files.

    `closes`: the server ends the connection after the last one. `plain` is None where only a
    catalogue has what is asked for.
    """

    name: str
    data: bytes
    statuses: tuple[int, ...]
    plain: tuple[int, ...] | None
    closes: bool = False


def _targets(status: int, targets: Iterable[str], *, plain: int | None = 0) -> Iterator[Attack]:
    """A GET of each target, that gets this status; `plain`: another one, or None, as Attack's."""
    other = None if plain is None else (plain or status,)
    for target in targets:
        yield Attack(target[:60], f"GET {target}".encode() + END, (status,), other)


def _heads(status: int, *targets: str, plain: int | None = 0) -> Iterator[Attack]:
    for row in _targets(status, targets, plain=plain):
        yield Attack(f"HEAD {row.name}", b"HEAD" + row.data[3:], row.statuses, row.plain)


def _fields(status: int, target: str, rows: dict[str, str], *, plain: bool = True) -> list[Attack]:
    """A GET of a target with each of these header fields, that leaves the connection open."""
    return [
        Attack(name, f"GET {target} HTTP/1.1\r\nHost: x\r\n{given}\r\n\r\n".encode("latin-1"),
               (status,), (status,) if plain else None)
        for name, given in rows.items()
    ]  # fmt: skip


def _refused(status: int, rows: dict[str, bytes]) -> list[Attack]:
    """What is no request, or none that may be followed by another."""
    return [Attack(name, data, (status,), (status,), closes=True) for name, data in rows.items()]


PATHS = [
    "/../etc/passwd", "/gpc1/../../etc/passwd", "/gpc1/traps/../../../etc/passwd", "/..", "/../",
    "/%2e%2e/etc/passwd", "/gpc1/%2e%2e/index.txt", "/gpc1/%2E%2E/index.txt", "/gpc1/.%2e/",
    "/gpc1/%2e%2e%2findex.txt", "/gpc1/..%2findex.txt", "/gpc1/%252e%252e/index.txt",
    "/gpc1/%25252e%25252e/index.txt", "/gpc1/..%252findex.txt", "/gpc1/..%5cindex.txt",
    "/gpc1/..\\index.txt", "/gpc1/%2e%2e%5c", "/gpc1/..;/index.txt", "/gpc1/..;x=y/index.txt",
    "/gpc1;/index.txt", "/gpc1/%c0%ae%c0%ae/index.txt", "/gpc1/%e0%80%ae%e0%80%ae/index.txt",
    "/gpc1/..%c0%afindex.txt", "/gpc1/%u002e%u002e/index.txt", "/gpc1/%uff0e%uff0e/index.txt",
    "/gpc1/%fe%ff%00.%00./index.txt", "/gpc1/...", "/gpc1/.../index.txt", "/gpc1/....//index.txt",
    f"{FILE[:-5]}%252efits", f"{FILE}.", f"{FILE}%20", f"{FILE}%2e", f"{FILE}::$DATA", f"{FILE}~",
    "/gpc1./index.txt", "/gpc1%20/index.txt", "/%20gpc1/index.txt", "/gpc1/o1.chip.1.1.1%20/",
    "/gpc1/o1.chip.1.1.1./", "/gpc1%09/index.txt", "/gpc1+/index.txt", "/gpc1/index.txt%20",
    "//", "///", "//etc/passwd", "//evil.example/", "//evil.example", "//evil.example/..",
    "/%2f%2fevil.example/", "/%2fetc%2fpasswd", "/\\evil.example/", "/\\evil.example",
    "/gpc1//index.txt", "//gpc1/index.txt", "/gpc1//", "/./gpc1/index.txt", "/gpc1/./index.txt",
    "/gpc1/%2e/index.txt", "/gpc1%2findex.txt", "/%2findex.txt", "/gpc1/o1.chip.1.1.1%2fimage.fits",
    "/gpc1%2fo1.chip.1.1.1/image.fits", "/index.txt/", "/index.txt/index.txt", "/gpc1/index.txt/",
    "/gpc1/index.txt/image.fits", "/gpc1/o1.chip.1.1.1/index.txt/", f"{FILE}/",
    f"{FILE}/index.txt", f"{FILE}/../image.fits", "/%00", "/%00/index.txt", "/gpc1%00/index.txt",
    "/gpc1/%00index.txt", "/gpc1/index.txt%00", "/gpc1/o1.chip.1.1.1%00/", f"{FILE}%00",
    f"{FILE}%00.txt", f"{TRAPS}/%00", f"{TRAPS}/blank.txt%00.fits", "/gpc1/%0d%0aX:y/",
    "/gpc1%0d%0aLocation:%20http:%2f%2fevil.example%2f", "/gpc1%0a", "/%zz", "/%", "/%2", "/%g0",
    "/.datastore.db", "/%2edatastore.db", "/.datastore.db-wal", "/.datastore.db-shm",
    "/.datastore.db-journal", "/.datastore.lock", "/gpc1/.datastore.db", "/gpc1/../.datastore.db",
    "/gpc1/o1.chip.1.1.1/.dsreg.new", "/.", "/.git/config", "/.htpasswd", f"{TRAPS}/.dot",
    f"{TRAPS}/escape.fits", f"{TRAPS}/unlisted.fits", f"{TRAPS}/dir.fits/", f"{TRAPS}/dir.fits/x",
    "/gpc1/outside/index.txt", "/gpc1/outside/", "/gpc1/outside", "/gpc1/outside/secret.fits",
    "/away/index.txt", "/away/", "/away", "/away?x", "/-rf", "/~root/", "/*", "/gpc1/*", "/$HOME",
    f"/{'a' * 256}/", f"/{'a' * 256}", f"/gpc1/{'a' * 256}/index.txt", f"{TRAPS}/{'a' * 256}",
    f"/{'a' * 8100}", f"/{'a/' * 2000}", f"/{'%61' * 2700}", f"/{'../' * 2000}etc/passwd",
    "/%ff%fe/", "/%c3%a9/", "/%e2%80%ae/", "/GPC1/index.txt", "/Gpc1/", "/gpc1/INDEX.TXT",
    FILE.upper(), FILE.replace("image", "Image"), "/gpc1/index.txt%3Fo1.chip.1.1.1", "/gpc1#x",
    "/nope/index.txt", "/gpc1/nope/index.txt", "/gpc1/nope/image.fits", "/favicon.ico",
    "/hidden/o1.chip.1.1.1/image.fits", "/gpc1/h1/image.fits", "/metrics", "/metrics/",
    "/metrics/index.txt", "/healthz/", "/healthz/index.txt", "/%68ealthz", "/HEALTHZ", "//healthz",
    "http://x/../etc/passwd", "http://x/gpc1/../index.txt", "http://x/%2e%2e/", "http://x//",
    "https://evil.example/away/", "http://x:1/.datastore.db",
]  # fmt: skip
"""Nothing is there, for whoever asks and however."""

SPOILED = [f"{TRAPS}/{name}.fits" for name in ("pipe", "dir", "gone")]
"""Registered, and no file of this name any more."""

LAST = [
    "nope", "o1", "h1", "b", "s1", "%", "%25", "_", "o1.chip.1.1.%25", "o_.chip.1.1.1",
    "o1.chip.1.1.1%20", "%20o1.chip.1.1.1", "o1.chip.1.1.1%00", "%00o1.chip.1.1.1", "%00",
    "o1%252Echip.1.1.1", "O1.CHIP.1.1.1", "o1.chip.1.1.1%7C", "o1.chip.1.1.1%0A", "%23", ".*",
    "'", "%27%20OR%201=1--", "%27%20OR%20%271%27=%271", "%27;DROP%20TABLE%20dsFileset;--", "%22",
    "1%20UNION%20SELECT%20*%20FROM%20dsUser", "o1.chip.1.1.1&o1.chip.1.1.1", "o1.chip.1.1.1/..",
    "../../etc/passwd", "IPP-DIST", "%ff", "%c0%ae", "$ne", "x" * 300, "x" * 8000,
    "last=o1.chip.1.1.1", "o1.chip.1.1.1?o1.chip.1.1.1", "OBJECT", "null", "1", "-1", "0",
]  # fmt: skip
"""Filesets that product gpc1 does not list."""

VIEWS = [
    "sort=password", "sort=name;drop%20table%20dsProduct", "sort=name%27", "sort=1", "sort=-",
    "sort=--name", "sort=-%00", "sort=rowid", "sort=prod_name", "sort=(select%201)", "sort=%ff",
    "sort=time,name", "page=-1", "page=0", "page=99999999999999999999", "page=999999999",
    "page=1e9", "page=%00", "page=%2b1", "page=%d9%a1", "page=1;2", "page=&sort=", "sort", "=",
    "&&&", "%", "x" * 8000, "&".join(["sort=name"] * 500), "sort=" + "a" * 5000, "<script>", "%00",
]  # fmt: skip
"""Pages are for people: whatever the query, they show something."""

RANGES = {
    f"range {name}": f"Range: {value}"
    for name, value in {
        "many": "bytes=" + ",".join(["0-0"] * 5000), "overlapping": "bytes=0-,0-,0-,1-,0-",
        "negative": "bytes=--5", "minus": "bytes=-5--1", "other unit": "pages=1-2",
        "no unit": "0-9", "backwards": "bytes=9-0", "huge, backwards": f"bytes={'9' * 9000}-1",
        "other digits": "bytes=\xb2-\xb3", "hex": "bytes=0x0-0x9", "blank": "bytes=",
        "blank inside": "bytes=0 - 9", "float": "bytes=0.0-9.0", "plus": "bytes=+0-9",
    }.items()
}  # fmt: skip


def basic(given: bytes) -> str:
    return "Authorization: Basic " + base64.b64encode(given).decode()


JUNK = {
    "no authorization": "X: y",
    "authorization blank": "Authorization:",
    "authorization without a scheme": "Authorization: jan",
    "authorization of another scheme": "Authorization: Bearer amFuOmNvcnJlY3QgaG9yc2U=",
    "authorization digest": 'Authorization: Digest username="jan"',
    "authorization not base64": "Authorization: Basic !!!!",
    "authorization cut base64": "Authorization: Basic amFuOmNvcnJlY3QgaG9yc2",
    "authorization 8 bits": "Authorization: Basic \xff\xfe\xfd",
    "authorization 20 kB": "Authorization: Basic " + "QUFB" * 5000,
    "authorization 20 kB password": basic(b"jan:" + b"x" * 15_000),
    "authorization NUL inside": basic(f"jan:{PASSWORD[:7]}\0{PASSWORD[7:]}".encode()),
    "authorization NUL behind": basic(f"jan:{PASSWORD}\0".encode()),
    "authorization NUL in the name": basic(f"jan\0:{PASSWORD}".encode()),
    "authorization SQL": basic(b"' OR 1=1--:x"),
    "authorization LIKE": basic(f"j%:{PASSWORD}".encode()),
    "authorization other case": basic(f"Jan:{PASSWORD}".encode()),
    "authorization no colon": basic(b"jan"),
    "authorization no password": basic(b"jan:"),
    "authorization wrong password": basic(b"jan:wrong horse"),
    "authorization not UTF-8": basic(b"jan:\xff\xff\xff\xff\xff\xff\xff\xff"),
    "authorization twice": f"{basic(f'jan:{PASSWORD}'.encode())}\r\n{basic(b'jan:x')}",
    "authorization forged address": "X-Forwarded-For: 192.0.2.1\r\nX-Real-IP: 192.0.2.1",
}

FORGED = {
    "forwarded": "X-Forwarded-For: 192.0.2.1",
    "forwarded chain": "X-Forwarded-For: 192.0.2.1, 127.0.0.1",
    "forwarded junk": "X-Forwarded-For: " + ",".join(["junk"] * 1000),
    "forwarded as in RFC 7239": "Forwarded: for=192.0.2.1",
    "real IP": "X-Real-IP: 192.0.2.1",
    "client IP": "Client-IP: 192.0.2.1\r\nTrue-Client-IP: 192.0.2.1",
}

HARMLESS = {
    "other URL": "X-Original-URL: /.datastore.db\r\nX-Rewrite-URL: /.datastore.db",
    "other method": "X-HTTP-Method-Override: DELETE\r\nX-Method-Override: PUT",
    "other host": "X-Forwarded-Host: evil.example\r\nX-Forwarded-Proto: gopher",
    "accel": "X-Accel-Redirect: /etc/passwd\r\nX-Sendfile: /etc/passwd",
    "upgrade": "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk",
    "expect": "Expect: 100-continue",
    "long field": "A: " + "b" * 30_000,
    "8 bits": "A: \xe9\xff",
    "hundred fields": "\r\n".join(["A: b"] * 99),
    "many dates": "If-Modified-Since: " + "Wed, " * 2000,
    "date out of bounds": "If-Modified-Since: Wed, 15 Apr 99999999999 03:02:11 GMT",
    "many tags": "If-None-Match: " + ",".join(['"a"'] * 3000),
    "open tag": 'If-None-Match: "' + 'W/"' * 5000,
    "no length": "Content-Length: 0",
    "close not said": "Connection: closed, keep-alive, , ,",
}


def _wrong(fields: bytes) -> bytes:
    return GET_FILE + fields + b"\r\n\r\n"


SMUGGLED = {
    "length and coding": _wrong(b"Content-Length: 0\r\nTransfer-Encoding: chunked"),
    "coding and length": _wrong(b"Transfer-Encoding: chunked\r\nContent-Length: 4"),
    "coding on GET": _wrong(b"Transfer-Encoding: chunked") + b"0\r\n\r\n",
    "xchunked": _wrong(b"Transfer-Encoding: xchunked"),
    "coding twice": _wrong(b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked"),
    "coding blank": _wrong(b"Transfer-Encoding:"),
    "coding behind a tab": _wrong(b"Transfer-Encoding:\tchunked"),
    "coding before a blank": _wrong(b"Transfer-Encoding : chunked"),
    "coding behind a blank": _wrong(b" Transfer-Encoding: chunked"),
    "two lengths": _wrong(b"Content-Length: 0\r\nContent-Length: 0"),
    "two other lengths": _wrong(b"Content-Length: 0\r\nContent-Length: 5"),
    "list of lengths": _wrong(b"Content-Length: 0, 0"),
    "plus length": _wrong(b"Content-Length: +1"),
    "plus nought": _wrong(b"Content-Length: +0"),
    "negative length": _wrong(b"Content-Length: -1"),
    "hex length": _wrong(b"Content-Length: 0x0"),
    "length with a line": _wrong(b"Content-Length: 0_0"),
    "length in other digits": _wrong(b"Content-Length: \xb2"),
    "blank length": _wrong(b"Content-Length:"),
    "huge length": _wrong(b"Content-Length: " + b"9" * 5000),
    "body on GET": _wrong(b"Content-Length: 5") + b"hello",
    "body on HEAD": b"HEAD" + _wrong(b"Content-Length: 5")[3:] + b"hello",
    "request as a body": _wrong(b"Content-Length: %d" % len(_wrong(b"A: b"))) + _wrong(b"A: b"),
    "folded field": _wrong(b"A: b\r\n c"),
    "folded by a tab": _wrong(b"A: b\r\n\tc"),
    "folded length": _wrong(b"Content-Length:\r\n 5"),
    "folded first field": b"GET / HTTP/1.1\r\n A: b\r\n" + HOST + b"\r\n",
    "blank before the colon": _wrong(b"A : b"),
    "no colon": _wrong(b"A"),
    "no name": _wrong(b": b"),
    "name with a bracket": _wrong(b"A(b): c"),
    "name of 8 bits": _wrong(b"\xff: c"),
    "NUL in a field": _wrong(b"A: \0"),
    "NUL in a name": _wrong(b"A\0: b"),
    "NUL in authorization": _wrong(b"Authorization: Basic amFu\0Ong="),
    "DEL in a field": _wrong(b"A: \x7f"),
    "bare line feeds": b"GET / HTTP/1.0\n\n",
    "bare line feed in a field": _wrong(b"A: b\nC: d"),
    "bare line feed at the end": GET_FILE + b"\n\r\n\r\n",
    "bare carriage return": _wrong(b"A: b\rTransfer-Encoding: chunked"),
    "two carriage returns": b"GET / HTTP/1.1\r\r\n" + HOST + b"\r\n",
    "carriage return in the line": b"GET /\r HTTP/1.1\r\n" + HOST + b"\r\n",
    "both on PUT": b"PUT / HTTP/1.1\r\n"
    + HOST
    + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
    "other digits on PUT": b"PUT / HTTP/1.1\r\n" + HOST + b"Content-Length: \xb2\r\n\r\n",
}

MISSHAPEN = {
    "HTTP/0.9": b"GET /\r\n",
    "no version": b"GET /\r\n\r\n",
    "no target": b"GET HTTP/1.1\r\n" + HOST + b"\r\n",
    "no line": b"Host: x\r\n\r\n",
    "blank in the target": b"GET /a b" + END,
    "tab for a blank": b"GET\t/\tHTTP/1.1\r\n" + HOST + b"\r\n",
    "two blanks": b"GET  /" + END,
    "blank before": b" GET /" + END,
    "blank behind": b"GET / HTTP/1.1 \r\n" + HOST + b"\r\n",
    "NUL in the target": b"GET /\0" + END,
    "NUL in the query": b"GET /gpc1/index.txt?\0" + END,
    "8 bits in the target": b"GET /\xff" + END,
    "relative target": b"GET gpc1/" + END,
    "dots for a target": b"GET .." + END,
    "file URL": b"GET file:///etc/passwd" + END,
    "other scheme": b"GET gopher://x/" + END,
    "authority": b"GET evil.example:80" + END,
    "asterisk": b"GET *" + END,
    "query alone": b"GET ?x" + END,
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500) + b"\r\n\r\n",
    "SSH": b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
    "RTSP": b"OPTIONS / RTSP/1.0\r\n\r\n",
    "version in small letters": b"GET / http/1.1\r\n" + HOST + b"\r\n",
    "long version": b"GET / HTTP/1.1111\r\n" + HOST + b"\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "two hosts": b"GET / HTTP/1.1\r\n" + HOST + HOST + b"\r\n",
    "host with a path": b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
    "host with a user": b"GET / HTTP/1.1\r\nHost: a@b\r\n\r\n",
    "host with a blank": b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
    "list of hosts": b"GET / HTTP/1.1\r\nHost: a, b\r\n\r\n",
}

LONG = {
    "endless line": b"G" * 100_000,
    "long target": b"GET /" + b"a" * 9000 + END,
    "long query": b"GET /gpc1/index.txt?" + b"a" * 10_000 + END,
    "endless query": b"GET /?" + b"%00" * 400_000 + END,
    "long method": b"A" * 9000 + b" /" + END,
}

BOMBS = {
    "long head": _wrong(b"A: " + b"b" * 60_000),
    "giant field": _wrong(b"A: " + b"b" * 2_000_000),
    "field without an end": GET_FILE + b"A" * 2_000_000,
    "long authorization": _wrong(basic(b"jan:" + b"x" * 75_000).encode()),
    "a field too many": _wrong(b"\r\n".join([b"A: b"] * 100)),
    "many fields": _wrong(b"\r\n".join([b"A: b"] * 300_000)),
    "many names": _wrong(b"\r\n".join(b"A%d: b" % n for n in range(3000))),
}

METHODS = {
    "PUT": b"PUT / HTTP/1.1\r\n" + HOST + b"Content-Length: 3\r\n\r\nabc",
    "PUT without a body": b"PUT /gpc1/index.txt" + END,
    "POST in chunks": b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n",
    "POST": b"POST /gpc1/index.txt" + END,
    "PATCH": b"PATCH /" + END,
    "DELETE": f"DELETE {FILE}".encode() + END,
    "OPTIONS": b"OPTIONS *" + END,
    "OPTIONS of a path": b"OPTIONS /" + END,
    "TRACE": b"TRACE /" + END,
    "CONNECT": b"CONNECT evil.example:443" + END,
}

UNKNOWN = {
    "unknown method": b"BREW /" + END,
    "method in small letters": b"get /" + END,
    "method of WebDAV": b"PROPFIND /" + END,
    "odd method": b"#$&'*+-.^_`|~ /" + END,
    "method of 8000": b"A" * 8000 + b" /" + END,
}

_GOOD, _BAD, _PUT = GET_FILE + b"\r\n", _wrong(b"A"), METHODS["PUT"]
_NOPE, _LAST = b"GET /../x" + END, _wrong(b"Connection: close")


def _line(name: str, data: bytes, *statuses: int, closes: bool = True) -> Attack:
    return Attack(name, data, statuses, statuses, closes)


PIPELINED = [
    _line("pipelined", _GOOD * 40, *[200] * 40, closes=False),
    _line("pipelined, nothing there", (_GOOD + _NOPE) * 20, *[200, 404] * 20, closes=False),
    _line("pipelined, bad one", _GOOD + _BAD + _GOOD * 3, 200, 400),
    _line("pipelined, bad one first", _BAD + _GOOD * 3, 400),
    _line("pipelined, PUT", _GOOD + _NOPE + _PUT + _GOOD, 200, 404, 405),
    _line("pipelined, smuggled", _GOOD + SMUGGLED["request as a body"] + _GOOD, 200, 400),
    _line("pipelined, closed", _GOOD + _LAST + _GOOD, 200, 200),
    _line("pipelined, old", _GOOD + b"GET / HTTP/1.0\r\n\r\n" + _GOOD, 200, 200),
    _line("pipelined, too long", _GOOD * 3 + LONG["long target"] + _GOOD, 200, 200, 200, 414),
    _line("pipelined, empty lines", (b"\r\n" * 100 + _GOOD) * 5, *[200] * 5, closes=False),
    _line("empty lines alone", b"\r\n" * 50_000, closes=False),
    _line("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    _line("HTTP/3.0", b"GET / HTTP/3.0\r\n" + HOST + b"\r\n", 505),
]

ATTACKS = [
    *_targets(404, PATHS),
    *_targets(500, SPOILED, plain=404),
    *_targets(500, [f"{TRAPS}/moved.fits", f"{TRAPS}/chained.fits", "/gpc1/swapped/image.fits"],
              plain=None),
    *_targets(404, [f"/gpc1/index.txt?{last}" for last in LAST]),
    *_targets(200, [f"{page}?{view}" for page in ("/", "/gpc1/") for view in VIEWS]),
    *_targets(200, [f"/gpc1/o1.chip.1.1.1/?{view}" for view in VIEWS[:5]]),
    *_targets(200, ["/healthz?x", "/index.txt?%00", "/index.txt?'", "/hidden/index.txt?", "/?",
                    f"{FILE}?%00", f"{FILE}?../../etc/passwd", "http://evil.example/gpc1/",
                    "HTTP://x", "http://user@x:99999/index.txt", "http://?x", "https:///index.txt"]),
    *_targets(301, ["/gpc1?//evil.example", "http://evil.example/gpc1", "/hidden"]),
    *_targets(401, ["/closed/", "/closed", "/closed/index.txt", "/closed/index.txt?c1",
                    "/closed/c1/", "/closed/c1/index.txt", "/closed/c1/image.fits", "/closed/nope",
                    "/%63losed/index.txt", "/closed/index.txt?%00"], plain=None),
    *_targets(403, ["/fenced/", "/fenced/index.txt", "/fenced/f1/image.fits"], plain=None),
    *_heads(200, "/", "/index.txt", "/gpc1/", "/gpc1/index.txt", "/gpc1/o1.chip.1.1.1/index.txt",
            "/gpc1/index.txt?o1.chip.1.1.1", FILE, "/healthz"),
    *_heads(301, "/gpc1"),
    *_heads(404, "/nope", "/../x", "/gpc1/index.txt?nope", f"{TRAPS}/escape.fits"),
    *_heads(401, "/closed/c1/image.fits", plain=None),
    *_heads(403, "/fenced/", plain=None),
    *_heads(500, f"{TRAPS}/moved.fits", plain=None),
    *_fields(200, FILE, RANGES),
    *_fields(206, FILE, {"range huge": f"Range: bytes=0-{'9' * 20_000}",
                         "range of many noughts": f"Range: bytes={'0' * 9000}-9"}),
    *_fields(416, FILE, {"range far away": f"Range: bytes={'9' * 20_000}-",
                         "range of nothing": "Range: bytes=-0"}),
    *_fields(200, "/gpc1/index.txt", {"range of a list": "Range: bytes=0-9"}),
    *_fields(200, "/", {"range of a page": "Range: bytes=-1"}),
    *_fields(401, "/closed/c1/image.fits", JUNK, plain=False),
    *_fields(200, "/closed/c1/image.fits",
             {"authorization": basic(f"jan:{PASSWORD}".encode())}, plain=False),
    *_fields(403, "/fenced/f1/image.fits", FORGED, plain=False),
    *_fields(200, FILE, HARMLESS),
    *_refused(400, SMUGGLED | MISSHAPEN),
    *_refused(414, LONG),
    *_refused(431, BOMBS),
    *_refused(405, METHODS),
    *_refused(501, UNKNOWN),
    *PIPELINED,
]  # fmt: skip
