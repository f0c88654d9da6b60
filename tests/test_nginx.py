"""nginx in front, as `nginx-conf` configures it: it sends the files, we decide."""

import base64
import hashlib
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import NamedTuple

import pytest
from client import PATIENCE, MirrorSite, Ran, wait_for
from publisher import Publisher

from mirror.errors import ConfigError
from server.__main__ import main
from server.nginx import ACCEL, configuration
from server.serve_options import parse

NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
needs_nginx = pytest.mark.skipif(NGINX is None, reason="nginx is not installed")

CONTENT = bytes(range(256)) * 40
MD5 = hashlib.md5(CONTENT).hexdigest()

AROUND = """\
daemon off;
worker_processes 1;
{user}
pid {directory}/pid;
error_log {directory}/error.log;
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    include {directory}/datastore.conf;
}}
"""


class Answer(NamedTuple):
    """What came back for a request."""

    status: int
    fields: Mapping[str, str]
    body: bytes


def ask(port: int, path: str, method: str = "GET", **fields: str) -> Answer:
    """Send one request; the names of header fields are written with `_`."""
    connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        headers = {name.replace("_", "-"): value for name, value in fields.items()}
        connection.request(method, path, headers=headers)
        response = connection.getresponse()
        return Answer(response.status, dict(response.getheaders()), response.read())
    finally:
        connection.close()


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def listens(process: "subprocess.Popen[bytes]", port: int) -> bool:
    """Say whether nginx came up at the port; False if it has ended, because the port was taken."""

    def settled() -> bool:
        if process.poll() is not None:
            return True
        with socket.socket() as caller:
            return caller.connect_ex(("127.0.0.1", port)) == 0

    wait_for(settled)
    return process.poll() is None


@contextmanager
def fronted(publisher: Publisher, upstream: str, *options: str) -> Iterator[int]:
    """nginx with the printed configuration in front of `upstream`; gives its port."""
    assert NGINX
    with tempfile.TemporaryDirectory(prefix="nginx.") as directory:
        user = f"user {pwd.getpwuid(0).pw_name};" if os.geteuid() == 0 else ""
        Path(directory, "nginx.conf").write_text(AROUND.format(directory=directory, user=user))
        for _ in range(5):
            port = free_port()
            printed = publisher.must(
                "nginx-conf", "--listen", f"127.0.0.1:{port}", "--upstream", upstream, *options
            )
            Path(directory, "datastore.conf").write_text(printed)
            command = [NGINX, "-p", directory, "-c", f"{directory}/nginx.conf",
                       "-e", f"{directory}/error.log"]  # fmt: skip
            with subprocess.Popen(command) as process:
                try:
                    if listens(process, port):
                        yield port
                        return
                finally:
                    process.terminate()
        raise AssertionError(Path(directory, "error.log").read_text())


@pytest.fixture(scope="module")
def publisher(tmp_path_factory: pytest.TempPathFactory) -> Publisher:
    """A store with an open product and one for a user; a file of each, one of them a link."""
    directory = tmp_path_factory.mktemp("nginx")
    made = Publisher(directory)
    (directory / "a+b.fits").write_bytes(CONTENT)
    (directory / "linked.fits").write_bytes(CONTENT)
    made.product("gpc1", "ipp-dist", "stage")
    made.register("gpc1", "o1", directory, "a+b.fits|||fits|\n", "--ps0", "chip", kind="IPP-DIST")
    made.must(
        "dsreg", "--add", "o2", "--product", "gpc1", "--type", "IPP-DIST", "--list", "-",
        "--link", "--datapath", str(directory), stdin="linked.fits|||fits|\n",
    )  # fmt: skip
    made.product("closed", "ipp-dist")
    made.register("closed", "o1", directory, "a+b.fits|||fits|\n", kind="IPP-DIST")
    made.must(
        "user", "add", "partner", "--product", "closed", "--password-file", "-",
        stdin="correct horse\n",
    )  # fmt: skip
    (made.root / "gpc1/o1/unregistered.txt").write_text("not to be had\n")
    return made


@pytest.fixture(scope="module")
def port(publisher: Publisher) -> Iterator[int]:
    """The port of an nginx in front of the store."""
    if NGINX is None:
        pytest.skip("nginx is not installed")
    options = ("--accel", ACCEL, "--trusted-proxy", "127.0.0.1/32", "--metrics")
    with publisher.serving(*options) as url, fronted(publisher, url.split("/")[2]) as port:
        yield port


def test_nginx_sends_the_bytes_under_our_fields(port: int) -> None:
    answer = ask(port, "/gpc1/o1/a+b.fits")
    assert answer.status == 200
    assert answer.body == CONTENT
    assert answer.fields["Server"].startswith("nginx")
    assert answer.fields["Content-Length"] == str(len(CONTENT))
    assert answer.fields["ETag"] == f'"{MD5}"'
    assert answer.fields["Content-Type"] == "image/fits"
    assert answer.fields["Accept-Ranges"] == "bytes"
    assert "immutable" in answer.fields["Cache-Control"]
    assert "Last-Modified" in answer.fields
    assert "X-Accel-Redirect" not in answer.fields


def test_each_field_stands_once_and_none_of_them_on_an_error(port: int) -> None:
    connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    connection.request("GET", "/gpc1/o1/a+b.fits")
    with connection.getresponse() as response:
        names = [name for name, _ in response.getheaders()]
        assert sorted(set(names)) == sorted(names)
    connection.close()
    beyond = ask(port, "/gpc1/o1/a+b.fits", Range="bytes=99999-")
    assert beyond.status == 416
    assert beyond.fields["Cache-Control"] == "no-store"
    assert ask(port, "/gpc1/o1/nothing.fits").fields["Cache-Control"] == "no-store"


def test_a_linked_file_is_sent_as_well(port: int) -> None:
    assert ask(port, "/gpc1/o2/linked.fits").body == CONTENT


@pytest.mark.parametrize(
    ("path", "method", "fields", "status", "body"),
    [
        ("/gpc1/o1/a+b.fits", "HEAD", {}, 200, b""),
        ("/gpc1/o1/a%2Bb.fits", "GET", {}, 200, CONTENT),
        ("/gpc1/o1/a+b.fits", "GET", {"Range": "bytes=10-19"}, 206, CONTENT[10:20]),
        ("/gpc1/o1/a+b.fits", "GET", {"Range": "bytes=-5"}, 206, CONTENT[-5:]),
        ("/gpc1/o1/a+b.fits", "GET", {"Range": "bytes=99999-"}, 416, None),
        (
            "/gpc1/o1/a+b.fits", "GET",
            {"Range": "bytes=10-19", "If_Range": f'"{MD5}"'}, 206, CONTENT[10:20],
        ),
        (
            "/gpc1/o1/a+b.fits", "GET",
            {"Range": "bytes=10-19", "If_Range": '"another"'}, 200, CONTENT,
        ),
        ("/gpc1/o1/a+b.fits", "GET", {"If_None_Match": f'"{MD5}"'}, 304, b""),
        ("/gpc1/o1/a+b.fits", "GET", {"If_None_Match": '"another"'}, 200, CONTENT),
        ("/gpc1/o1/a+b.fits", "GET", {"If_Match": '"another"'}, 412, None),
        ("/gpc1/o1/a+b.fits", "GET", {"If_Match": f'"{MD5}"'}, 200, CONTENT),
        ("/gpc1/o1/unregistered.txt", "GET", {}, 404, None),
        ("/gpc1/o1/nothing.fits", "GET", {}, 404, None),
        ("/_files/gpc1/o1/a+b.fits", "GET", {}, 404, None),
        ("/_files/.datastore.db", "GET", {}, 404, None),
        ("/.datastore.db", "GET", {}, 404, None),
        ("/gpc1/o1/..%2f..%2f.datastore.db", "GET", {}, 404, None),
        ("/closed/o1/a+b.fits", "GET", {}, 401, None),
        ("/closed/index.txt", "GET", {}, 401, None),
        ("/healthz", "GET", {}, 200, b"ok\n"),
        ("/metrics", "GET", {}, 404, None),
        ("/gpc1/o1/a+b.fits", "DELETE", {}, 405, None),
    ],
    ids=[
        "head", "escaped", "range", "suffix", "beyond", "if-range", "if-range changed",
        "unchanged", "changed", "if-match changed", "if-match", "not registered", "missing",
        "internal",
        "catalogue by prefix", "catalogue", "traversal", "closed file", "closed list", "healthz",
        "metrics", "method",
    ],
)  # fmt: skip
def test_each_request_gets_what_it_may_have(
    port: int, path: str, method: str, fields: dict[str, str], status: int, body: bytes | None
) -> None:
    answer = ask(port, path, method, **fields)
    assert answer.status == status
    if body is not None:
        assert answer.body == body


def test_a_user_is_let_in_and_no_shared_cache_keeps_it(port: int) -> None:
    secret = base64.b64encode(b"partner:correct horse").decode()
    answer = ask(port, "/closed/o1/a+b.fits", Authorization=f"Basic {secret}")
    assert answer.status == 200
    assert answer.body == CONTENT
    assert "private" in answer.fields["Cache-Control"]


def test_lists_pass_through(port: int) -> None:
    answer = ask(port, "/gpc1/index.txt?o1")
    assert answer.status == 200
    assert answer.body.splitlines()[1].startswith(b"o2 ")
    assert answer.fields["Cache-Control"] == "no-store"


def test_the_client_mirrors_through_nginx(port: int, mirror_site: MirrorSite) -> None:
    mirror_site.configure(f"http://127.0.0.1:{port}/", products=["gpc1"], keep_bundles=True)
    assert mirror_site.run() == Ran(0, "", "")
    store = mirror_site.root / "store/gpc1"
    assert (store / "o1/a+b.fits").read_bytes() == CONTENT
    assert (store / "o2/linked.fits").read_bytes() == CONTENT


@needs_nginx
def test_networks_are_those_of_the_visitor_not_of_nginx(publisher: Publisher) -> None:
    """Behind a proxy that is not trusted everybody comes from the proxy's own address."""
    publisher.must("network", "add", "127.0.0.2/32", "--product", "closed")
    try:
        for trusted, status in (("127.0.0.1/32", 403), ("192.0.2.0/24", 403)):
            options = ("--accel", ACCEL, "--trusted-proxy", trusted)
            with (
                publisher.serving(*options) as url,
                fronted(publisher, url.split("/")[2]) as port,
            ):
                forged = ask(port, "/closed/index.txt", X_Forwarded_For="127.0.0.2")
                assert forged.status == status
    finally:
        publisher.must("network", "del", "127.0.0.2/32", "--product", "closed", "--open")


@needs_nginx
def test_below_a_base_path(publisher: Publisher) -> None:
    options = ("--accel", ACCEL, "--trusted-proxy", "127.0.0.1/32", "--base-path", "/ds")
    with (
        publisher.serving(*options) as url,
        fronted(publisher, url.split("/")[2], "--base-path", "/ds") as port,
    ):
        assert ask(port, "/ds/gpc1/o1/a+b.fits").body == CONTENT
        assert ask(port, "/gpc1/o1/a+b.fits").status == 404
        moved = ask(port, "/ds/gpc1")
        assert moved.status == 301
        assert moved.fields["Location"].endswith("/ds/gpc1/")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"root": Path('/a"b')}, "DATA_STORE_ROOT"),
        ({"root": Path("/a$b")}, "DATA_STORE_ROOT"),
        ({"listen": "80; root /"}, "--listen"),
        ({"server_name": "x}"}, "--server-name"),
        ({"base": ("_files", "x")}, "--base-path: .* names begin with '_files'"),
        ({"upstreams": ["a;b"]}, "--upstream"),
        ({"certificate": ("/a.pem", None)}, "--cert"),
    ],
    ids=["quote", "variable", "listen", "name", "base", "upstream", "half a certificate"],
)
def test_what_would_break_the_configuration_is_refused(
    change: dict[str, object], said: str
) -> None:
    given: dict[str, object] = {
        "upstreams": ["127.0.0.1:8080"], "listen": "80", "server_name": "_", "base": (),
        "certificate": None,
    }  # fmt: skip
    root = change.pop("root", Path("/srv/datastore"))
    with pytest.raises(ConfigError, match=said):
        configuration(root, **(given | change))  # type: ignore[arg-type]


@pytest.fixture
def conf(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """`conf(OPTION, …)` prints the configuration for a store whose name has a blank."""
    root = tmp_path / "data store"
    root.mkdir()
    monkeypatch.chdir(tmp_path)

    def printed(*options: str) -> str:
        assert main(["nginx-conf", "--dsroot", str(root), *options]) == 0
        return capsys.readouterr().out

    return printed


def test_the_hint_can_be_typed_as_it_is(conf: Callable[..., str], tmp_path: Path) -> None:
    printed = conf("--base-path", "/a%20b/")
    assert f"--dsroot '{tmp_path}/data store' --accel" in printed
    assert "--base-path /a%20b " in printed
    assert 'location "/a b/" {' in printed


def test_certificates_are_where_they_are_for_whoever_reads(
    conf: Callable[..., str], tmp_path: Path
) -> None:
    printed = conf("--cert", "cert.pem", "--key", "sub/../key.pem")
    assert f'ssl_certificate "{tmp_path}/cert.pem";' in printed
    assert f'ssl_certificate_key "{tmp_path}/key.pem";' in printed


BASES = ("ds", "/..", "/a//b", "/a b?", "/.", "/healthz", "/metrics/", "/%68ealthz")


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("command", ["nginx-conf", "serve"])
def test_base_paths_are_refused(
    command: str, base: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--dsroot", str(tmp_path / "nowhere"), "--base-path", base])
    assert ended.value.code == 2
    assert "argument --base-path: " in capsys.readouterr().err


@pytest.mark.parametrize("given", ["/", "//x", "x", "", "/x//y", "/..", "/x/../y", "/x y", "/é"])
def test_prefixes_that_nginx_cannot_have_are_refused(
    given: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(["--accel", given])
    assert ended.value.code == 2
    assert "argument --accel: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "meant"), [("/x", "/x"), ("/x/", "/x"), ("/_files", "/_files"), ("/a/b.c", "/a/b.c")]
)
def test_prefixes_are_plain_names(given: str, meant: str) -> None:
    assert parse(["--accel", given]).accel == meant


@pytest.mark.parametrize("option", ["--dsroot", "--dbname", "--site"])
def test_a_tree_of_files_has_no_site(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(["--static", "tree", option, "x"])
    assert ended.value.code == 2
    assert "not with --dsroot, --dbname or --site" in capsys.readouterr().err
