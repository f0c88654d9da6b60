"""What the server tells about itself: the access log, /healthz, /metrics, and options refused."""

import base64
import os
import re
import shutil
from pathlib import Path

import pytest
from client import wait_for
from served import FILE, HOST, Pair, make_pair, one_file, run_server, serving, status_of

from server.http.access_log import AccessLog, combined
from server.http.metrics import Board
from server.http.request import Request
from server.samples.sample import SampleFile, write_fileset

DATA = bytes(range(256)) * 4


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A product with a fileset of one file."""
    return one_file(tmp_path_factory.mktemp("store"), DATA)


# --- the access log --------------------------------------------------------------------------


def basic(user: bytes) -> str:
    return "Basic " + base64.b64encode(user + b":secret:too").decode()


@pytest.mark.parametrize(
    ("authorization", "user"),
    [
        (basic(b"jan"), "jan"),
        (basic(b"jan").replace("Basic", "bAsIc"), "jan"),
        (basic("j\u00f6".encode()), r"j\xf6"),
        (basic(b'a b"]\\ - [x'), r"a\x20b\x22]\x5c\x20-\x20[x"),
        (basic(b"a\nb\r\x00\x7f"), r"a\x0ab\x0d\x00\x7f"),
        (basic("\u2028\U0001f600\u00a0".encode()), r"\u2028\U0001f600\xa0"),
        (basic(b"\xff"), r"\x5cxff"),
        (basic(b""), "-"),
        ("Basic", "-"),
        ("Basic !!!!", "-"),
        ("Basic a", "-"),
        ("Bearer amFuOmo=", "-"),
    ],
)
def test_user_in_the_log_is_harmless(authorization: str, user: str) -> None:
    request = Request("GET / HTTP/1.1", "GET", "/", "", {"authorization": authorization}, False)
    line = combined("192.0.2.7", request, 401, 0)
    assert line.startswith(f"192.0.2.7 - {user} [")
    assert line.isprintable()
    assert "secret" not in line


def test_log_goes_to_a_file_that_is_appended_to(store: Path, tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    log.write_text("what was there\n")
    with serving(store, "--access-log", str(log)) as server:
        server.get(FILE, Authorization=basic(b"jan"))
    first, second = log.read_text().splitlines()
    assert first == "what was there"
    assert re.fullmatch(
        rf'127\.0\.0\.1 - jan \[.*\] "GET {FILE} HTTP/1\.1" 200 {len(DATA)} "-" "-"', second
    )
    assert server.output == server.errors == ""


def test_log_is_made_anew_after_it_was_moved(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    log = AccessLog(str(path))
    log.write("one")
    path.rename(tmp_path / "access.log.1")
    path.touch()
    log.write("two")
    path.unlink()
    log.write("three")
    assert (tmp_path / "access.log.1").read_text() == "one\n"
    assert path.read_text() == "three\n"


def test_log_that_fails_is_told_once_and_taken_up_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = tmp_path / "log"
    directory.mkdir()
    log = AccessLog(str(directory / "access.log"))
    shutil.rmtree(directory)
    log.write("lost")
    log.write("lost")
    directory.mkdir()
    log.write("kept")
    assert (directory / "access.log").read_text() == "kept\n"
    shutil.rmtree(directory)
    log.write("lost")
    said = capsys.readouterr().err
    assert said.count("\n") == said.count("cannot be written") == 2


@pytest.mark.parametrize("given", [["--access-log"], ["--access-log", "-"]])
def test_log_without_a_file_is_standard_output(store: Path, given: list[str]) -> None:
    with serving(store, *given, "--trusted-proxy", "127.0.0.0/8") as server:
        server.get(FILE, X_Forwarded_For="2001:db8::7", User_Agent="test")
    assert re.fullmatch(r'2001:db8::7 - - .* 200 1024 "-" "test"\n', server.output)


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "TLS"])
def test_answer_that_was_not_taken_is_logged_with_what_was_sent(
    tmp_path: Path, secure: bool
) -> None:
    write_fileset(tmp_path, "p", "f", [SampleFile("big.fits", b"", "fits")])
    size, taken = 1 << 26, 5_000_000
    os.truncate(tmp_path / "p/f/big.fits", size)
    pair = make_pair(tmp_path, "localhost") if secure else None
    options = pair.options if pair else ()
    tls = pair.client() if pair else None
    with serving(tmp_path, "--access-log", "--metrics", *options, tls=tls) as server:
        with server.speak() as client:
            client.sendall(b"GET /p/f/big.fits HTTP/1.1\r\n" + HOST + b"\r\n")
            received = 0
            while received < taken:
                received += len(client.recv(65536))
        wait_for(lambda: server.threads() == 1)
        counted = numbers(server.get("/metrics").body.decode())["datastore_sent_bytes_total"]
    found = re.search(r'/p/f/big\.fits HTTP/1\.1" 200 (\d+) "-"', server.output)
    assert found
    # What the client has taken, and at most what the kernels of both have held besides.
    assert taken - 1000 < int(found[1]) < size
    assert counted == int(found[1])


# --- health and numbers ----------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_health(store: Path, tmp_path: Path, method: str) -> None:
    root = tmp_path / "store"
    shutil.copytree(store, root)
    with serving(root) as server:
        well = server.get("/healthz", method)
        assert (well.status, well.body) == (200, b"ok\n" if method == "GET" else b"")
        assert well.fields["Cache-Control"] == "no-store"
        assert well.fields.get_content_type() == "text/plain"


def numbers(text: str) -> dict[str, float]:
    """The samples of Prometheus's text format, every one of which must have its type before it."""
    types = set(re.findall(r"^# TYPE (\w+) (?:counter|gauge|histogram)$", text, re.MULTILINE))
    told = {}
    for line in text.splitlines():
        if line.startswith("# "):
            continue
        found = re.fullmatch(r'(([a-z_]+)(?:\{\w+="[^"]+"(?:,\w+="[^"]+")*\})?) ([0-9.]+)', line)
        assert found, line
        assert {found[2], re.sub("_(bucket|sum|count)$", "", found[2])} & types, line
        told[found[1]] = float(found[3])
    return told


def test_numbers_tell_what_was_done(store: Path) -> None:
    with serving(store, "--metrics") as server:
        for _ in range(3):
            server.get(FILE)
        server.get(FILE, "HEAD")
        server.get("/nope")
        server.ask(b"junk\r\n\r\n")
        wait_for(lambda: server.threads() == 1)
        answer = server.get("/metrics")
    assert answer.fields["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert answer.fields["Cache-Control"] == "no-store"
    told = numbers(answer.body.decode())
    assert told['datastore_requests_total{method="GET",code="2xx"}'] == 3
    assert told['datastore_requests_total{method="HEAD",code="2xx"}'] == 1
    assert told['datastore_requests_total{method="GET",code="4xx"}'] == 1
    assert told['datastore_requests_total{method="other",code="4xx"}'] == 1
    assert told["datastore_sent_bytes_total"] >= 3 * len(DATA)
    assert told["datastore_connections_open"] == 1
    assert told["datastore_connections_accepted_total"] == 7
    assert told["datastore_connections_refused_total"] == 0
    assert told["datastore_workers"] == 1
    assert told['datastore_request_duration_seconds_bucket{le="+Inf"}'] == 6
    assert told["datastore_request_duration_seconds_count"] == 6
    assert told["datastore_request_duration_seconds_sum"] > 0
    assert told["process_start_time_seconds"] > 1.6e9


def test_buckets_hold_what_is_at_most_their_bound() -> None:
    board = Board(2)
    first, second = board.counts(0), board.counts(1)
    first.answered("GET", 200, 7, 0.005)
    first.answered("GET", 206, 1, 0.0051)
    second.answered("PUT", 405, 0, 61.0)
    told = numbers(board.text())
    buckets = [value for name, value in told.items() if "_bucket" in name]
    assert buckets == [1, 2, 2, 2, 2, 2, 2, 3]
    assert told["datastore_sent_bytes_total"] == 8
    assert told['datastore_requests_total{method="other",code="4xx"}'] == 1


def test_row_of_a_worker_that_died_keeps_all_but_its_connections() -> None:
    board = Board(2)
    for counts in (board.counts(0), board.counts(1)):
        counts.opened()
        counts.opened()
    again = board.counts(1)
    assert again.open_everywhere() == 2
    assert numbers(board.text())["datastore_connections_accepted_total"] == 4


def test_numbers_are_not_told_unless_asked_for(store: Path) -> None:
    with serving(store) as server:
        assert server.get("/metrics").status == 404


def test_refused_connections_are_counted(store: Path) -> None:
    with serving(store, "--metrics", "--max-connections", "1") as server:
        with server.connect() as held:
            held.sendall(b"HEAD / HTTP/1.1\r\n" + HOST + b"\r\n")
            assert status_of(held.recv(4096)) == 200
            assert status_of(server.ask(b"GET / HTTP/1.1\r\n" + HOST + b"\r\n")) == 503
        wait_for(lambda: server.threads() == 1)
        told = numbers(server.get("/metrics").body.decode())
    assert told["datastore_connections_refused_total"] == 1


# --- options that are refused ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--min-speed", "-1"], "0 or more"),
        (["--min-speed", "inf"], "0 or more"),
        (["--workers", "0"], "at least 1"),
        (["--workers", "257"], "at most 256"),
        (["--workers", "9" * 5000], "at least 1"),
        (["--base-path", "ds"], "begins with /"),
        (["--base-path", "/ds//x"], "an empty name"),
        (["--base-path", "/../x"], "'..' as a name"),
        (["--base-path", "/d%2fs"], "a name with characters"),
        (["--trusted-proxy", "everybody"], "192.0.2.0/24 expected"),
        (["--trusted-proxy", "10.0.0.1/8"], "host bits set"),
        (["--accel", "files"], "argument --accel"),
        (["--accel", "/a b"], "argument --accel"),
        (["--accel", "/a\r\nX: y"], "argument --accel"),
        (["--key", "key.pem"], "--key FILE needs --cert FILE"),
        (["--dsroot", "/"], "not with --dsroot"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_wrong_option_is_told(store: Path, options: list[str], says: str) -> None:
    code, output, errors = run_server("serve", "--static", str(store), *options)
    assert (code, output) == (2, "")
    assert says in errors
    assert "Traceback" not in errors


def test_log_that_cannot_be_opened_is_told(store: Path) -> None:
    where = str(store / "no" / "log")
    code, output, errors = run_server("serve", "--static", str(store), "--access-log", where)
    assert (code, output) == (2, "")
    assert errors.count("\n") == 1
    assert f"the access log {where} cannot be written" in errors


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Pair, Pair]:
    directory = tmp_path_factory.mktemp("certificates")
    return make_pair(directory, "one"), make_pair(directory, "other")


@pytest.mark.parametrize("case", ["mismatch", "missing cert", "missing key", "no key", "not PEM"])
def test_certificate_that_cannot_be_used_is_told_before_listening(
    store: Path, pairs: tuple[Pair, Pair], case: str
) -> None:
    cert, key = str(pairs[0].cert), str(pairs[0].key)
    options = {
        "mismatch": ["--cert", cert, "--key", str(pairs[1].key)],
        "missing cert": ["--cert", f"{cert}x", "--key", key],
        "missing key": ["--cert", cert, "--key", f"{key}x"],
        "no key": ["--cert", cert],
        "not PEM": ["--cert", cert, "--key", str(store / "index.txt")],
    }[case]
    # A port that is no port of ours: it must not come to that.
    code, output, errors = run_server(
        "serve", "--static", str(store), "--host", "192.0.2.1", *options
    )
    assert (code, output) == (3, "")
    assert errors.count("\n") == 1
    assert "--cert" in errors or "--key" in errors


def test_key_with_a_passphrase_is_refused_and_not_asked_for(
    store: Path, pairs: tuple[Pair, Pair], tmp_path: Path
) -> None:
    import subprocess

    locked = tmp_path / "locked.key"
    subprocess.run(
        ["openssl", "ec", "-aes256", "-passout", "pass:x", "-in", str(pairs[0].key),
         "-out", str(locked)],
        check=True, capture_output=True,
    )  # fmt: skip
    code, output, errors = run_server(
        "serve", "--static", str(store), "--cert", str(pairs[0].cert), "--key", str(locked)
    )
    assert (code, output) == (3, "")
    assert "without a passphrase" in errors
