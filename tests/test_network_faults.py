"""FAULTS N1 to N17: what the network and the server may do to a run, and how the run then ends.

Every row spoils requests of one fileset, or of the lists, of a small store. After it the fault is
taken away, and one more run must complete the tree without a word.
"""

import re
import shutil
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cache
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import faults
import pytest
from inject import Forks
from runs import chip_run, noise
from simulator import Action, Simulator
from trial import Outcome, Trial, ground, side_by_side
from wire import Answer, Connection, Request, Server, plain

FINE, RETRY, REJECT = Outcome.FINE, Outcome.RETRY, Outcome.REJECT
UNLISTED = Outcome.UNLISTED

ROOT, LIST = "/index.txt", "/gpc1/index.txt"
SIZE = 300_000
"""Bytes of the large file's image: more than what is fetched in one piece and never resumed."""


@cache
def target() -> tuple[str, dict[str, bytes]]:
    """The fileset whose requests are spoiled: dbinfo and dirinfo, small, and a bundle, large."""
    return chip_run(2, ("XY01",), size=SIZE)


TARGET = f"gpc1/{target()[0]}"
FILES = f"/{TARGET}/index.txt"
SMALL_NAME, _, BIG_NAME = target()[1]
SMALL, BIG = f"/{TARGET}/{SMALL_NAME}", f"/{TARGET}/{BIG_NAME}"
BIG_DATA = target()[1][BIG_NAME]
OTHER_DATA = noise("another", len(BIG_DATA))

IN_BIG, IN_SMALL = rf"{re.escape(BIG[1:])}: ", rf"{re.escape(SMALL[1:])}: "
IN_FILES = rf"{re.escape(TARGET)}: "
IN_LIST = "gpc1: cannot be listed: "
IN_ROOT = "the root list cannot be read: "
TRIED = r".*\(http://127\.0\.0\.1:\d+/ds/, tried 2 times\)"
BROKE = r".*(broke|ended|reset|closed|Remote end|Connection|IncompleteRead|Response ended).*"
LATE = r".*(no bytes came for 3 s|timed out|no answer in time|took too long|only \d+ bytes came).*"


def nothing(_trial: Trial) -> None:
    """No further look."""


def calm(_trial: Trial) -> AbstractContextManager[object]:
    return nullcontext()


@dataclass(frozen=True, slots=True)
class Row:
    """What is done to requests (path, action, times), and how the run ends.

    `told` are the lines of the run. `keys` go into its mirror.yaml, `around` surrounds it, `also`
    looks at what it did, `after` at the clean run. `both`: through requests too.
    """

    id: str
    spoiled: Sequence[tuple[str, Action, int | None]]
    outcome: Outcome
    told: tuple[str, ...] = ()
    keys: Mapping[str, object] = field(default_factory=dict)
    around: Callable[[Trial], AbstractContextManager[object]] = calm
    also: Callable[[Trial], None] = nothing
    after: Callable[[Trial], None] = nothing
    missing: tuple[str, ...] | None = ()
    both: bool = True


def once(path: str, action: Action) -> tuple[str, Action, int | None]:
    return path, action, 1


def always(path: str, action: Action) -> tuple[str, Action, int | None]:
    return path, action, None


# Looks at what a run asked for.


def asked(path: str, times: int) -> Callable[[Trial], None]:
    """The path was asked for that many times."""

    def look(trial: Trial) -> None:
        assert trial.store.count(path) == times, [one.target for one in trial.store.requests]

    return look


def resumed(*starts: int | None) -> Callable[[Trial], None]:
    """The bundle was asked for from these bytes on, one after the other; None: from its start."""
    wanted = [None if start is None else f"bytes={start}-" for start in starts]

    def look(trial: Trial) -> None:
        requests = [one for one in trial.store.requests if one.path == BIG]
        assert [one.headers.get("range") for one in requests] == wanted
        for one in requests:
            assert ("range" in one.headers) == ("if-range" in one.headers)
            assert one.headers["accept-encoding"] == "identity"

    return look


def both(*looks: Callable[[Trial], None]) -> Callable[[Trial], None]:
    def look(trial: Trial) -> None:
        for one in looks:
            one(trial)

    return look


def waited(path: str, seconds: float) -> Callable[[Trial], None]:
    """The second request for the path came no sooner than the server had asked for."""

    def look(trial: Trial) -> None:
        first, second = [one.time for one in trial.store.requests if one.path == path]
        assert second - first >= seconds

    return look


# Faults of this file's own.


def drip_head(interval: float) -> Action:
    """N4: a long head, a byte at a time so that no single read is late, then the right body."""

    def act(connection: Connection, _request: Request, answer: Answer) -> None:
        for byte in answer.with_headers(X_Drip="x" * 150).head():
            connection.write(bytes([byte]))
            connection.wait(interval)
        connection.write(answer.body)

    return act


def long_list(line: bytes) -> Action:
    """L7, N3: a list in order, with `line` after it again and again without end."""

    def act(connection: Connection, _request: Request, answer: Answer) -> None:
        connection.write(answer.with_headers(Content_Length=None, Connection="close").head())
        connection.write(answer.body)
        for _ in range(2000):
            connection.write(line * (65536 // len(line)))
        connection.close()

    return act


def elsewhere(host: str) -> Action:
    """N8: a redirect to the same path under another name of the host, which then answers."""

    def act(connection: Connection, request: Request, answer: Answer) -> None:
        name, _, port = request.headers["host"].partition(":")
        if name != host:
            there = f"http://{host}:{port}{request.target}"
            answer = plain(302, "there", ("Location", there))
        connection.send(request, answer)

    return act


def no_secrets_elsewhere(trial: Trial) -> None:
    """Credentials went to the host they are for, and to no other."""
    sent = {
        (one.headers["host"].partition(":")[0], "authorization" in one.headers)
        for one in trial.store.requests
    }
    assert ("localhost", False) in sent
    assert ("localhost", True) not in sent


def down(trial: Trial) -> AbstractContextManager[object]:
    return trial.store.server.down()


@contextmanager
def silent_first(trial: Trial) -> Iterator[None]:
    """N15: the first of two addresses refuses every connection."""
    with Simulator() as dead:
        refusing = dead.url
    trial.configure(top_uri=[refusing, trial.store.url], retries=0)
    yield


@contextmanager
def unknown_host(trial: Trial) -> Iterator[None]:
    trial.configure(top_uri="http://no-such-host.invalid/ds")
    yield


@contextmanager
def unanswered(trial: Trial) -> Iterator[None]:
    """N15: a host that takes no connections and does not refuse them either."""
    with ExitStack() as opened:
        listener = opened.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(3):
            waiting = opened.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        port = listener.getsockname()[1]
        trial.configure(top_uri=f"http://127.0.0.1:{port}/ds", timeout=1, retries=0)
        yield


@contextmanager
def twin(trial: Trial) -> Iterator[None]:
    """N10: a second address with the same content, and right bytes."""
    with Simulator() as good:
        good.products = trial.store.products
        trial.configure(top_uri=[trial.store.url, good.url])
        yield
        assert good.count(BIG) == 1


def refused_ports(trial: Trial) -> AbstractContextManager[object]:
    """N8: redirects to another port of the store's own host: a service that is not the store."""
    port = trial.store.server.port % 60000 + 1024
    trial.store.fault(BIG, faults.redirect(f"http://127.0.0.1:{port}/"), times=None)
    return nullcontext()


def credentialed(trial: Trial) -> AbstractContextManager[object]:
    """The site has credentials for the store, through netrc, whatever the transport."""
    trial.configure(**with_netrc(trial), redirect_hosts=["localhost"])
    return nullcontext()


def refused_credentials(trial: Trial) -> AbstractContextManager[object]:
    trial.configure(**with_netrc(trial), connections=1)
    for number in range(10, 18):
        trial.store.products["gpc1"].add(*chip_run(number, ("XY01",)))
    trial.learn()
    return nullcontext()


def stopped_early(trial: Trial) -> None:
    """After a refusal of the credentials, the product's other filesets were let be."""
    lists = trial.store.count("/gpc1/*/index.txt")
    assert lists < 8, f"{lists} filesets were asked for although the first was refused"


def outgrown(trial: Trial) -> AbstractContextManager[object]:
    """N13: what an earlier run has left of the bundle is all of it, though not yet its name."""
    trial.store.fault(BIG, faults.chunked(cut=len(BIG_DATA)), times=None)
    trial.configure(retries=0)
    told = trial.run()
    assert told.exit == 1
    assert (trial.site.private / "partial").is_dir()
    trial.store.mend()
    trial.store.clear()
    trial.configure()
    return nullcontext()


def grown_partial(trial: Trial) -> AbstractContextManager[object]:
    """N13: a partial file that is longer than the list says, from a list that was mended since."""
    outgrown(trial)
    for path in (trial.site.private / "partial").rglob(f"files/{BIG_NAME}"):
        path.write_bytes(BIG_DATA + b"more")
    return nullcontext()


EXPECTED = rf"{len(BIG_DATA)} bytes expected, "
TWICE = r"(.*; then .*)? ?\(twice in a row\)"
SUMS = r"md5 [0-9a-f]{32} expected, [0-9a-f]{32} came"
HTML = r".*text/html.*"

ROWS = (
    # N1: a reset
    Row(
        "N1 reset once, resumed",
        [once(BIG, faults.reset(100_000))],
        FINE,
        also=both(asked(BIG, 2), resumed(None, 100_000)),
    ),
    Row(
        "N1 reset always, resumed by the next run",
        [always(BIG, faults.reset(1000))],
        RETRY,
        (IN_BIG + BROKE + TRIED,),
        missing=(TARGET,),
        also=resumed(None, 1000),
        after=resumed(2000),
    ),
    Row("N1 small file, reset once", [once(SMALL, faults.reset(9))], FINE),
    Row(
        "N1 small file, reset always",
        [always(SMALL, faults.reset(9))],
        RETRY,
        (IN_SMALL + BROKE + TRIED,),
        missing=(TARGET,),
    ),
    Row("N1 product list, reset once", [once(LIST, faults.reset(100))], FINE),
    Row(
        "N1 product list, reset always",
        [always(LIST, faults.reset(100))],
        UNLISTED,
        (IN_LIST + BROKE + TRIED,),
        missing=None,
    ),
    Row(
        "N1 fileset list, reset always",
        [always(FILES, faults.reset(100))],
        RETRY,
        (IN_FILES + BROKE + TRIED,),
        missing=(TARGET,),
    ),
    # N2: too short
    Row("N2 one byte short, once", [once(BIG, faults.hang_up(-1))], FINE, also=asked(BIG, 2)),
    Row(
        "N2 one byte short of every answer",
        [always(SMALL, faults.hang_up(-1))],
        RETRY,
        (IN_SMALL + BROKE + TRIED,),
        missing=(TARGET,),
    ),
    Row(
        "N2 product list short",
        [always(LIST, faults.hang_up(-30))],
        UNLISTED,
        (IN_LIST + BROKE + TRIED,),
        missing=None,
    ),
    # N3: too long, endless, without length
    Row(
        "N3 longer than listed",
        [always(BIG, faults.resized(1))],
        REJECT,
        (IN_BIG + EXPECTED + f"{len(BIG_DATA) + 1} came" + TWICE,),
        missing=(TARGET,),
    ),
    Row(
        "N3 small file longer than listed",
        [always(SMALL, faults.resized(1))],
        REJECT,
        (IN_SMALL + r"\d+ bytes expected, \d+ came" + TWICE,),
        missing=(TARGET,),
    ),
    Row(
        "N3 endless",
        [always(BIG, faults.endless())],
        REJECT,
        (IN_BIG + f"more than the expected {len(BIG_DATA)} bytes came" + TWICE,),
        missing=(TARGET,),
    ),
    Row(
        "N3 endless in chunks",
        [always(SMALL, faults.endless(chunked=True))],
        REJECT,
        (IN_SMALL + r"\d+ bytes expected, more than \d+ came" + TWICE,),
        missing=(TARGET,),
    ),
    Row("N3 no length", [always(f"/{TARGET}/*", faults.no_length())], FINE),
    Row("N3 in chunks", [always("*", faults.chunked(1000))], FINE),
    Row("N3 beyond the length", [always(f"/{TARGET}/*", faults.overrun())], FINE, both=False),
    Row(
        "N3 fileset list endless",
        [always(FILES, long_list(b"# a comment without end\n"))],
        REJECT,
        (IN_FILES + r"its list is longer than \d+ bytes",),
        missing=(TARGET,),
    ),
    Row(
        "N3 product list endless in one line",
        [always(LIST, faults.endless())],
        UNLISTED,
        (IN_LIST + r".*line \d+ is longer than \d+ bytes",),
        missing=None,
    ),
    # N4: too late
    Row(
        "N4 stall before the head",
        [always(BIG, faults.stall(20))],
        RETRY,
        (IN_BIG + LATE + TRIED,),
        {"timeout": 3},
        missing=(TARGET,),
    ),
    Row(
        "N4 stall in the body",
        [always(BIG, faults.stall(20, after=1000))],
        RETRY,
        (IN_BIG + LATE + TRIED,),
        {"timeout": 3},
        missing=(TARGET,),
        also=resumed(None, 1000),
    ),
    Row(
        "N4 stall in a small file, once",
        [once(SMALL, faults.stall(20, after=10))],
        FINE,
        keys={"timeout": 3},
    ),
    Row(
        "N4 drip",
        [always(BIG, faults.drip(5, 0.2))],
        RETRY,
        (IN_BIG + r"only \d+ bytes came in \d+ s \(min_speed is 1000 bytes/s\)" + TRIED,),
        {"timeout": 3, "min_speed": 1000},
        missing=(TARGET,),
    ),
    Row(
        "N4 head in a drip",
        [always(BIG, drip_head(0.05))],
        RETRY,
        (IN_BIG + LATE + TRIED,),
        {"timeout": 3},
        missing=(TARGET,),
    ),
    Row(
        "N4 product list stalls",
        [always(LIST, faults.stall(20, after=50))],
        UNLISTED,
        (IN_LIST + LATE + TRIED,),
        {"timeout": 3},
        missing=None,
    ),
    # N5: refused
    *(
        Row(
            f"N5 {code} on a file",
            [always(path, faults.status(code))],
            REJECT,
            (rf"{re.escape(path[1:])}: HTTP {code} from http://.*",),
            missing=(TARGET,),
            also=both(asked(path, 1), asked(FILES, 2)),
            both=False,
        )
        for code, path in ((404, BIG), (410, BIG), (400, BIG))
    ),
    Row(
        "N5 404 on a fileset's list",
        [always(FILES, faults.status(404))],
        REJECT,
        (IN_FILES + r"HTTP 404 from http://.*",),
        missing=(TARGET,),
        also=asked(FILES, 1),
        both=False,
    ),
    *(
        Row(
            f"N5 {code}: no retry, product stopped, no secret told",
            [always("/gpc1/*/*", faults.status(code))],
            REJECT,
            (rf"gpc1/[^/]*: HTTP {code} from http://.*check the credentials.*",) * 2,
            around=refused_credentials,
            missing=None,
            also=stopped_early,
            both=False,
        )
        for code in (401, 403)
    ),
    Row(
        "N5 404 on the product's list",
        [always(LIST, faults.status(404))],
        UNLISTED,
        (IN_LIST + r"HTTP 404 from .*is the product's name right.*",),
        missing=None,
        also=asked(LIST, 1),
        both=False,
    ),
    Row(
        "N5 403 on the root list",
        [always(ROOT, faults.status(403))],
        UNLISTED,
        (IN_ROOT + r"HTTP 403 from .*check the credentials.*",),
        missing=None,
        also=asked(ROOT, 1),
        both=False,
    ),
    # N6: asked to wait
    Row(
        "N6 Retry-After in seconds",
        [once(BIG, faults.retry_after("2"))],
        FINE,
        also=waited(BIG, 2),
    ),
    Row(
        "N6 Retry-After as a date",
        [once(BIG, faults.retry_after(faults.http_date(3), 429))],
        FINE,
        also=asked(BIG, 2),
    ),
    Row(
        "N6 Retry-After huge",
        [always(BIG, faults.retry_after("999999999"))],
        RETRY,
        (IN_BIG + r"HTTP 503.*http://127.*",),
        missing=(TARGET,),
        also=asked(BIG, 1),
    ),
    Row(
        "N6 Retry-After beyond the deadline",
        [always(BIG, faults.retry_after("100"))],
        RETRY,
        (IN_BIG + r"HTTP 503.*http://127.*",),
        {"deadline": "30s"},
        missing=(TARGET,),
        also=asked(BIG, 1),
    ),
    *(
        Row(
            f"N6 Retry-After {value!r}",
            [once(BIG, faults.retry_after(value, 429))],
            FINE,
            also=asked(BIG, 2),
            both=False,
        )
        for value in ("-5", "soon", "1e9", "9" * 5000)
    ),
    Row(
        "N6 503 always",
        [always(BIG, faults.status(503))],
        RETRY,
        (IN_BIG + "HTTP 503" + TRIED,),
        missing=(TARGET,),
        also=asked(BIG, 2),
    ),
    # N7, N8: sent elsewhere
    Row(
        "N7 redirected to itself",
        [always(BIG, faults.redirect_loop())],
        REJECT,
        (IN_BIG + "more than 5 redirects",),
        missing=(TARGET,),
    ),
    Row("N7 five hops", [always(BIG, faults.redirect_hops(5))], FINE),
    Row(
        "N7 six hops",
        [always(BIG, faults.redirect_hops(6))],
        REJECT,
        (IN_BIG + "more than 5 redirects",),
        missing=(TARGET,),
    ),
    Row(
        "N8 to another host",
        [always(BIG, elsewhere("localhost"))],
        REJECT,
        (IN_BIG + "a redirect to localhost; put it into redirect_hosts to allow it",),
        missing=(TARGET,),
        also=asked(BIG, 1),
    ),
    Row(
        "N8 to another host that is allowed, without the credentials",
        [always(BIG, elsewhere("localhost"))],
        FINE,
        around=credentialed,
        also=no_secrets_elsewhere,
        both=False,
    ),
    Row(
        "N8 to another port",
        [],
        REJECT,
        (IN_BIG + "a redirect to 127.0.0.1.*",),
        around=refused_ports,
        missing=(TARGET,),
    ),
    *(
        Row(
            f"N8 to {location or 'nowhere'}",
            [always(BIG, faults.redirect(location))],
            REJECT,
            (IN_BIG + r"a redirect to .*",),
            missing=(TARGET,),
            also=asked(BIG, 1),
            both=False,
        )
        for location in ("file:///etc/passwd", "ftp://127.0.0.1/x", "", "http://[::1", "gopher:x")
    ),
    # N9: a page instead
    Row(
        "N9 page for a file",
        [always(BIG, faults.html())],
        REJECT,
        (IN_BIG + EXPECTED + r"\d+ came \(the answer is of type text/html\)" + TWICE,),
        missing=(TARGET,),
    ),
    Row(
        "N9 page for a small file",
        [always(SMALL, faults.html())],
        REJECT,
        (IN_SMALL + HTML,),
        missing=(TARGET,),
    ),
    Row(
        "N9 page for a fileset's list",
        [always(FILES, faults.html())],
        REJECT,
        (IN_FILES + HTML,),
        missing=(TARGET,),
    ),
    Row(
        "N9 page for the product's list",
        [always(LIST, faults.html())],
        UNLISTED,
        (IN_LIST + HTML,),
        missing=None,
    ),
    *(
        Row(
            f"N9 {code} for {what}",
            [always(path, faults.status(code, body=" "))],
            outcome,
            told,
            missing=missing,
        )
        for code, what, path, outcome, told, missing in (
            (204, "the product's list", LIST, UNLISTED, (IN_LIST + ".*",), None),
            (206, "the product's list", LIST, UNLISTED, (IN_LIST + ".*",), None),
            (204, "a fileset's list", FILES, RETRY, (IN_FILES + ".*",), (TARGET,)),
            (204, "a bundle", BIG, RETRY, (IN_BIG + ".*",), (TARGET,)),
        )
    ),
    # N10: wrong bytes
    Row(
        "N10 wrong md5 always",
        [always(BIG, faults.wrong_bytes(5))],
        REJECT,
        (IN_BIG + SUMS + TWICE,),
        missing=(TARGET,),
        also=both(asked(BIG, 2), asked(FILES, 2)),
    ),
    Row("N10 wrong md5 once", [once(BIG, faults.wrong_bytes(5))], FINE, also=asked(BIG, 2)),
    Row(
        "N10 small file, wrong md5 always",
        [always(SMALL, faults.wrong_bytes(5))],
        REJECT,
        (IN_SMALL + SUMS + TWICE,),
        missing=(TARGET,),
    ),
    Row("N10 small file, wrong md5 once", [once(SMALL, faults.wrong_bytes(5))], FINE),
    Row(
        "N10 shorter than listed",
        [always(BIG, faults.resized(-1))],
        REJECT,
        (IN_BIG + EXPECTED + f"{len(BIG_DATA) - 1} came" + TWICE,),
        missing=(TARGET,),
    ),
    Row(
        "N10 the other address is right",
        [always(BIG, faults.wrong_bytes(5))],
        FINE,
        around=twin,
        also=asked(BIG, 1),
    ),
    # N11: other ranges
    Row(
        "N11 Range ignored",
        [once(BIG, faults.reset(100_000)), always(BIG, faults.ignored_range())],
        FINE,
        also=resumed(None, 100_000),
    ),
    *(
        Row(
            f"N11 range {what}",
            [once(BIG, faults.reset(100_000)), always(BIG, action)],
            FINE,
            keys={"retries": 2},
            also=resumed(None, 100_000, None),
        )
        for what, action in (
            ("that begins too late", faults.shifted_range(7)),
            ("that overlaps", faults.shifted_range(-7)),
            ("of other bytes than it says", faults.shifted_range(7, honest=False)),
            ("in a multipart", faults.multipart_range()),
        )
    ),
    # N12: changed in between
    Row(
        "N12 changed while it was fetched, for once",
        [once(BIG, faults.reset(100_000)), once(BIG, faults.changed(OTHER_DATA))],
        FINE,
        also=resumed(None, 100_000, None),
    ),
    Row(
        "N12 changed, If-Range not heeded",
        [
            once(BIG, faults.reset(100_000)),
            once(BIG, faults.changed(OTHER_DATA, heeds_if_range=False)),
        ],
        FINE,
        also=resumed(None, 100_000, None),
    ),
    Row(
        "N12 changed for good, the list not",
        [once(BIG, faults.reset(100_000)), always(BIG, faults.changed(OTHER_DATA))],
        REJECT,
        (IN_BIG + SUMS + TWICE,),
        missing=(TARGET,),
    ),
    # N13: nothing left to ask for
    Row("N13 all of it is here", [], FINE, around=outgrown, also=asked(BIG, 0)),
    Row("N13 more than all of it is here", [], FINE, around=grown_partial, also=resumed(None)),
    Row(
        "N13 416 for what is missing",
        [once(BIG, faults.reset(100_000)), once(BIG, faults.unsatisfiable())],
        FINE,
        keys={"retries": 2},
        also=resumed(None, 100_000, None),
    ),
    # N14: encoded
    Row(
        "N14 compressed though not asked for",
        [always(BIG, faults.gzipped())],
        REJECT,
        (IN_BIG + EXPECTED + r"\d+ came \(the answer is encoded as gzip\)" + TWICE,),
        missing=(TARGET,),
    ),
    Row("N14 labelled as compressed, as tgz files are", [always(BIG, faults.labelled())], FINE),
    Row("N14 small file labelled", [always(SMALL, faults.labelled("gzip"))], FINE),
    # N15: nobody there
    Row("N15 refused", [], UNLISTED, (IN_ROOT + ".*refused.*",), around=down, missing=None),
    Row("N15 no such host", [], UNLISTED, (IN_ROOT + ".*",), around=unknown_host, missing=None),
    Row(
        "N15 no connection in time",
        [],
        UNLISTED,
        (IN_ROOT + ".*(no answer in time|timed out).*",),
        around=unanswered,
        missing=None,
    ),
    Row("N15 the first address is dead", [], FINE, around=silent_first),
    Row(
        "N15 captive portal",
        [always("*", faults.html())],
        UNLISTED,
        (IN_ROOT + HTML,),
        missing=None,
    ),
    Row(
        "N15 hang-up before the answer, once a path",
        [once(path, faults.drop()) for path in (ROOT, LIST, FILES, BIG, SMALL)],
        FINE,
    ),
    Row(
        "N15 hang-up before the answer, always",
        [always("*", faults.drop())],
        UNLISTED,
        (IN_ROOT + BROKE + TRIED,),
        missing=None,
    ),
    Row("N15 every connection closed after its answer", [always("*", faults.close_each())], FINE),
    Row(
        "N15 connections closed without a word",
        [always("*", faults.close_silently(2))],
        FINE,
        keys={"retries": 3},
    ),
    Row("N15 HTTP/1.0", [always("*", faults.http10())], FINE),
    # N17: framing
    *(
        Row(
            f"N17 {what}",
            [always(BIG, action)],
            RETRY,
            (IN_BIG + TRIED,),
            missing=(TARGET,),
            both=both,
        )
        for what, action, both in (
            ("chunk size that is none", faults.bad_chunks(), True),
            ("negative chunk size", faults.bad_chunks(b"-5"), True),
            ("endless chunk size", faults.bad_chunks(b"5" * 100_000), True),
            ("chunks cut", faults.chunked(1000, cut=0), True),
            ("a header of a megabyte", faults.header_bomb(), True),
            ("too many headers", faults.header_bomb(1000, 1000), True),
            ("two lengths", faults.duplicate_length(5), True),
            ("interim answers without end", faults.interim_flood(1_000_000), True),
            ("other interim answers without end", faults.interim_flood(1_000_000, 103), True),
            ("no HTTP", faults.raw(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"), True),
            ("half a status line", faults.raw(b"HTTP/1.1 2"), True),
            ("a status of no digits", faults.raw(b"HTTP/1.1 abc OK\r\n\r\n"), True),
            ("headers that are none", faults.raw(b"HTTP/1.1 200 OK\r\nno header\r\n\r\n"), True),
            ("NUL bytes", faults.raw(bytes(1000)), True),
        )
    ),
    Row("N17 chunks cut once", [once(BIG, faults.chunked(1000, cut=5000))], FINE),
)


@dataclass(frozen=True, slots=True)
class Case:
    """A row by one transport: mirror.wire, or requests, which credentials make necessary."""

    row: Row
    transport: str

    @property
    def id(self) -> str:
        """The row's id with the transport."""
        return f"{self.row.id} [{self.transport}]"


CASES = [
    Case(row, transport)
    for row in ROWS
    for transport in (("wire", "requests") if row.both else ("wire",))
]

SECRET = "correct-horse"


def with_netrc(trial: Trial) -> dict[str, object]:
    """Keys that give the site credentials for the store's host."""
    netrc = trial.site.directory / "netrc"
    netrc.write_text(f"machine 127.0.0.1 login mirror password {SECRET}\n", encoding="ascii")
    netrc.chmod(0o600)
    return {"netrc": str(netrc)}


def conduct(case: Case, directory: Path, forks: Forks) -> None:
    """One row: the run with the fault, what must hold, and the run without."""
    row = case.row
    with Simulator() as store:
        gpc1 = store.product("gpc1", columns=("target_id", "stage"))
        gpc1.add("o1.early", {"early.fits": noise(1, 2000)}, columns=("1", "chip"))
        gpc1.add(*target(), columns=("1", "chip"))
        gpc1.add("o3.late", {"late.fits": noise(3, 2000)}, columns=("1", "chip"))
        trial = Trial(store, directory, forks)
        if case.transport == "requests":
            trial.keys |= with_netrc(trial)
        trial.learn()
        trial.configure(**row.keys)
        with row.around(trial):
            for path, action, times in row.spoiled:
                store.fault(path, action, times)
            told = trial.run()
        trial.ends(told, row.outcome, row.told, row.missing)
        assert not any(SECRET in line for line in told.lines)
        if row.missing:
            assert told.count("queued") == len(row.missing)
            assert told.count("failed") == len(row.missing)
        assert all(one.headers["accept-encoding"] == "identity" for one in store.requests)
        row.also(trial)
        store.mend()
        store.clear()
        trial.converges()
        row.after(trial)


@pytest.fixture(scope="module")
def conducted(request: pytest.FixtureRequest) -> Iterator[Mapping[str, Future[None]]]:
    """All rows, under way."""
    with side_by_side(request, "case", lambda case: case.id, conduct) as futures:
        yield futures


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_network_fault(case: Case, conducted: Mapping[str, Future[None]]) -> None:
    conducted[case.id].result()


# N16: TLS. One authority for everything that is right, and another that nobody knows.


@dataclass(frozen=True, slots=True)
class Certificates:
    """A directory with an authority's certificate and what it has signed, made by openssl."""

    directory: Path

    def path(self, name: str) -> Path:
        return self.directory / name

    def sign(self, name: str, subject: str, *options: str, issuer: str = "authority") -> None:
        """Make NAME.key and NAME.pem, signed by the issuer, for a host or client `subject`."""
        (self.directory / "extensions").write_text(f"subjectAltName={subject}\n", "ascii")
        self._openssl(
            *("req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}"),
            *("-keyout", f"{name}.key", "-out", f"{name}.csr"),
        )
        self._openssl(
            *("x509", "-req", "-in", f"{name}.csr", "-out", f"{name}.pem"),
            *("-CA", f"{issuer}.pem", "-CAkey", f"{issuer}.key", "-CAcreateserial"),
            *("-extfile", "extensions", *(options or ("-days", "2"))),
        )

    def authority(self, name: str) -> None:
        """Make NAME.key and NAME.pem of an authority."""
        self._openssl(
            *("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}"),
            *("-keyout", f"{name}.key", "-out", f"{name}.pem", "-days", "2"),
            *("-addext", "basicConstraints=critical,CA:TRUE"),
        )

    def _openssl(self, *arguments: str) -> None:
        done = subprocess.run(
            ["openssl", *arguments], cwd=self.directory, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr

    def server(self, name: str, *, asks: bool = False) -> ssl.SSLContext:
        """What a server needs to show certificate NAME, and to ask its clients for one."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.path(f"{name}.pem"), self.path(f"{name}.key"))
        if asks:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(self.path("authority.pem"))
        return context


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    if not shutil.which("openssl"):
        pytest.skip("the command openssl is not installed: no certificates for the TLS faults")
    made = Certificates(tmp_path_factory.mktemp("certificates"))
    made.authority("authority")
    made.authority("stranger")
    made.sign("good", "IP:127.0.0.1")
    made.sign("expired", "IP:127.0.0.1", "-days", "-1")
    made.sign("elsewhere", "DNS:elsewhere.example")
    made.sign("unknown", "IP:127.0.0.1", issuer="stranger")
    made.sign("client", "DNS:client.example")
    return made


@pytest.fixture(scope="module")
def forks() -> Iterator[Forks]:
    with Forks() as forks:
        yield forks


@contextmanager
def tls_trial(forks: Forks, context: ssl.SSLContext, **keys: object) -> Iterator[Trial]:
    """A trial of a store with one fileset behind TLS."""
    with ground() as directory, Simulator(tls=context) as store:
        store.product("gpc1").add(*target())
        trial = Trial(store, directory, forks, **keys)
        trial.learn()
        yield trial


@pytest.mark.parametrize(
    ("certificate", "reason"),
    [
        ("expired", "(certificate has expired|certificate is not yet valid)"),
        ("elsewhere", "IP address mismatch"),
        ("unknown", "unable to get local issuer certificate"),
    ],
)
def test_n16_a_certificate_that_does_not_fit(
    forks: Forks, certificates: Certificates, certificate: str, reason: str
) -> None:
    context = certificates.server(certificate)
    with tls_trial(forks, context, retries=5, connections=8) as trial:
        trial.configure(ca_bundle=str(certificates.path("authority.pem")))
        told = trial.run()
        advice = "check the server's certificate, or ca_bundle"
        trial.ends(told, UNLISTED, (rf"{IN_ROOT}TLS: .*{reason}.*{advice}.*",), None)
        assert trial.store.server.accepted == 1, "tried again, or without TLS"
        assert trial.store.count() == 0
        assert not trial.site.visible()


def test_n16_without_ca_bundle_a_private_authority_is_unknown(
    forks: Forks, certificates: Certificates
) -> None:
    with tls_trial(forks, certificates.server("good")) as trial:
        trial.ends(trial.run(), UNLISTED, (rf"{IN_ROOT}TLS: .*issuer.*ca_bundle.*",), None)
        trial.keys["ca_bundle"] = str(certificates.path("authority.pem"))
        trial.converges()


def test_n16_ca_bundle_comes_before_the_environment(
    forks: Forks, certificates: Certificates
) -> None:
    bundle = str(certificates.path("authority.pem"))
    with tls_trial(forks, certificates.server("good"), ca_bundle=bundle) as trial:
        other = str(certificates.path("stranger.pem"))
        trial.ends(trial.run(environ={"REQUESTS_CA_BUNDLE": other}), FINE)
        trial.converges()


def test_n16_client_cert(forks: Forks, certificates: Certificates) -> None:
    context = certificates.server("good", asks=True)
    bundle = str(certificates.path("authority.pem"))
    with tls_trial(forks, context, ca_bundle=bundle, retries=0) as trial:
        trial.ends(trial.run(), UNLISTED, (f"{IN_ROOT}.*",), None)
        assert trial.store.count() == 0
        pair = [str(certificates.path(f"client.{end}")) for end in ("pem", "key")]
        trial.keys["client_cert"] = pair
        trial.converges()


def test_n8_from_https_to_http(forks: Forks, certificates: Certificates) -> None:
    bundle = str(certificates.path("authority.pem"))
    with (
        Simulator() as plain_store,
        tls_trial(forks, certificates.server("good"), ca_bundle=bundle) as trial,
    ):
        plain_store.products = trial.store.products
        there = plain_store.url + BIG
        trial.store.fault(BIG, faults.redirect(there), times=None)
        trial.configure(redirect_hosts=["127.0.0.1"])
        told = trial.run()
        line = rf"{IN_BIG}a redirect from https to http.*"
        trial.ends(told, REJECT, (line,), (TARGET,))
        assert plain_store.count() == 0
        trial.store.mend()
        trial.converges()


# Proxies


@contextmanager
def proxy() -> Iterator[tuple[str, list[str]]]:
    """A forwarding proxy: its address, and the URLs that it was asked for."""
    asked_for: list[str] = []

    def respond(connection: Connection, request: Request) -> None:
        asked_for.append(request.target)
        parts = urlsplit(request.target)
        origin = HTTPConnection(parts.hostname or "", parts.port, timeout=10)
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        origin.request("GET", path, headers={"Accept-Encoding": "identity"})
        response = origin.getresponse()
        headers = tuple(pair for pair in response.getheaders() if pair[0] != "Connection")
        connection.send(request, Answer(response.status, headers, response.read()))
        origin.close()

    server = Server(respond)
    try:
        yield f"http://127.0.0.1:{server.port}", asked_for
    finally:
        server.close()


@pytest.mark.parametrize("variable", ["http_proxy", "HTTP_PROXY", "all_proxy"])
def test_http_goes_through_the_proxy_of_the_environment(forks: Forks, variable: str) -> None:
    with ground() as directory, Simulator() as store, proxy() as (url, asked_for):
        store.product("gpc1").add(*target())
        trial = Trial(store, directory, forks)
        trial.learn()
        trial.ends(trial.run(environ={variable: url}), FINE)
        went = sorted(urlsplit(one).path for one in asked_for)
        assert went == sorted(one.target for one in store.requests)
        assert len(asked_for) == 6
        trial.converges()


def test_a_dead_proxy_is_not_gone_around(forks: Forks) -> None:
    with proxy() as (url, _):
        pass
    with ground() as directory, Simulator() as store:
        store.product("gpc1").add(*target())
        trial = Trial(store, directory, forks, retries=0)
        trial.learn()
        told = trial.run(environ={"http_proxy": url})
        trial.ends(told, UNLISTED, (IN_ROOT + ".*refused.*",), None)
        assert store.count() == 0
        told = trial.run(environ={"http_proxy": url, "no_proxy": "127.0.0.1"})
        trial.ends(told, FINE)
        trial.converges()
