"""The server half as a process with any options, and how tests speak to it."""

import errno
import http.client
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pytest
from client import PATIENCE, PROJECT, wait_for

from server.samples.sample import SampleFile, write_fileset, write_product_list, write_root_list

HOST = b"Host: x\r\n"
FILE = "/gpc1/f/image.fits"
GET_FILE = f"GET {FILE} HTTP/1.1\r\n".encode() + HOST


@dataclass
class Answer:
    """What came back for a request."""

    status: int
    fields: http.client.HTTPMessage
    body: bytes


@dataclass
class Process:
    """A server that runs: where it listens, and what it has said at its end."""

    port: int
    line: str
    process: subprocess.Popen[bytes]
    complaints: IO[bytes]
    tls: ssl.SSLContext | None = None
    output: str = ""
    errors: str = ""

    def connect(self, *, receive_buffer: int = 0) -> socket.socket:
        """A connection as it is; `receive_buffer`: bytes that the kernel takes for us at most."""
        client = socket.socket()
        client.settimeout(PATIENCE)
        if receive_buffer:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        client.connect(("127.0.0.1", self.port))
        return client

    def speak(self, *, receive_buffer: int = 0) -> socket.socket:
        """A connection on which HTTP can be spoken: in TLS where the server speaks it.

        In TLS an end that the server has not announced raises SSLEOFError.
        """
        client = self.connect(receive_buffer=receive_buffer)
        if not self.tls:
            return client
        return self.tls.wrap_socket(client, server_hostname="localhost", suppress_ragged_eofs=False)

    def ask(self, data: bytes) -> bytes:
        """Everything that comes back for `data`, until the server closes."""
        with self.speak() as client:
            client.sendall(data)
            if not self.tls:
                client.shutdown(socket.SHUT_WR)
            return read_all(client)

    def get(self, path: str, method: str = "GET", **fields: str) -> Answer:
        """The answer to one request on a connection of its own."""
        where = ("localhost" if self.tls else "127.0.0.1", self.port)
        connection = (
            http.client.HTTPSConnection(*where, timeout=PATIENCE, context=self.tls)
            if self.tls
            else http.client.HTTPConnection(*where, timeout=PATIENCE)
        )
        names = {name.replace("_", "-"): value for name, value in fields.items()}
        connection.request(method, path, headers=names)
        response = connection.getresponse()
        answer = Answer(response.status, response.headers, response.read())
        connection.close()
        return answer

    def threads(self) -> int:
        """How many threads the server has now."""
        return len(os.listdir(f"/proc/{self.process.pid}/task"))

    def descriptors(self) -> int:
        """How many files and sockets the server has open now.

        Not those of its catalogue: of its connections more are kept, the more were wanted at once.
        """
        opened = f"/proc/{self.process.pid}/fd"
        return sum(".datastore.db" not in _led(f"{opened}/{one}") for one in os.listdir(opened))

    def rest(self, descriptors: int) -> None:
        """Wait until nobody is served and no more than so many descriptors are open."""
        until = time.monotonic() + PATIENCE
        while self.threads() > 1 or self.descriptors() > descriptors:
            assert time.monotonic() < until, f"{self.threads()} threads, {self.descriptors()} open"
            time.sleep(0.0005)

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Let the server do nothing while the block runs: what comes meanwhile comes at once.

        Its time limits begin afterwards, however long it takes us to send.
        """
        pid = self.process.pid
        workers = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        pids = [pid, *map(int, workers)]
        for one in pids:
            os.kill(one, signal.SIGSTOP)
        until = time.monotonic() + PATIENCE
        while any(state_of(one) != "T" for one in pids):
            assert time.monotonic() < until, "the server does not stop"
            time.sleep(0.0005)
        try:
            yield
        finally:
            for one in pids:
                os.kill(one, signal.SIGCONT)

    def told(self) -> str:
        """What the server has written to its standard error up to now."""
        size = os.fstat(self.complaints.fileno()).st_size
        return os.pread(self.complaints.fileno(), size, 0).decode()

    def refuses(self) -> bool:
        """Say whether nobody listens any more at the server's port."""
        with socket.socket() as client:
            # Where nobody takes connections that can still be made, the queue of them fills up.
            client.settimeout(1)
            return client.connect_ex(("127.0.0.1", self.port)) == errno.ECONNREFUSED


def state_of(pid: int) -> str:
    """The state of a process, a letter (proc(5)); empty if it is not there."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _led(link: str) -> str:
    try:
        return os.readlink(link)
    except FileNotFoundError:
        return ""


def read_all(client: socket.socket) -> bytes:
    """What comes until the end."""
    received = bytearray()
    while chunk := client.recv(65536):
        received += chunk
    return bytes(received)


def status_of(answer: bytes) -> int:
    """The status of an answer as it came; 0 where none did."""
    found = re.match(rb"HTTP/1\.1 (\d{3}) ", answer)
    return int(found[1]) if found else 0


@contextmanager
def serving(
    store: Path,
    *options: str,
    tls: ssl.SSLContext | None = None,
    as_option: str = "--static",
    environ: Mapping[str, str] | None = None,
    prelude: str = "",
) -> Iterator[Process]:
    """Serve a store with these options, and end the server in order after the block.

    `tls`: how a client of it speaks TLS, for a server that has --cert among its options. `prelude`:
    statements that the server's process runs first.
    """
    words = ["serve", as_option, str(store), "--port", "0", *options]
    program = ["-c", f"{prelude}\n{_PROGRAM}"] if prelude else ["-m", "server"]
    with tempfile.TemporaryFile() as complaints:
        process = subprocess.Popen(
            [sys.executable, *program, *words],
            cwd=PROJECT, env=environ, stdout=subprocess.PIPE, stderr=complaints,
        )  # fmt: skip
        running = _begun(process, complaints, tls)
        try:
            yield running
            process.send_signal(signal.SIGTERM)
        except BaseException:
            process.kill()
            raise
        finally:
            running.output = process.communicate(timeout=PATIENCE)[0].decode()
            running.errors = running.told()


_PROGRAM = "import sys; from server.__main__ import main; sys.exit(main(sys.argv[1:]))"


def _begun(
    process: subprocess.Popen[bytes], complaints: IO[bytes], tls: ssl.SSLContext | None
) -> Process:
    """A server that has told its address."""
    assert process.stdout is not None
    line = process.stdout.readline().decode()
    found = re.search(r":(\d+)/\S*$", line)
    running = Process(int(found[1]) if found else 0, line, process, complaints, tls)
    if not found:
        process.kill()
        process.communicate()
        raise AssertionError(f"no address: {line!r}, {running.told()!r}")
    return running


def run_server(*arguments: str, **environment: str) -> tuple[int, str, str]:
    """Run `python -m server` to its end; returns status, standard output and standard error."""
    kept = {name: value for name, value in os.environ.items() if name != "DATA_STORE_ROOT"}
    done = subprocess.run(
        [sys.executable, "-m", "server", *arguments],
        capture_output=True, text=True, timeout=PATIENCE, env=kept | environment, cwd=PROJECT,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


@dataclass(frozen=True)
class Pair:
    """A certificate for localhost and its key, as files, and a client that trusts it."""

    cert: Path
    key: Path

    @property
    def options(self) -> tuple[str, ...]:
        """How the server is told."""
        return ("--cert", str(self.cert), "--key", str(self.key))

    def client(self) -> ssl.SSLContext:
        """How a client speaks to it."""
        return ssl.create_default_context(cafile=str(self.cert))


def make_pair(directory: Path, name: str) -> Pair:
    """A certificate that signs itself; skips the test where there is no openssl."""
    if not shutil.which("openssl"):
        pytest.skip("the command openssl is not installed: no certificates")
    pair = Pair(directory / f"{name}.pem", directory / f"{name}.key")
    subprocess.run(
        [
            "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
            "-noenc", "-days", "3650", "-subj", "/CN=localhost",
            "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
            "-keyout", str(pair.key), "-out", str(pair.cert),
        ],
        check=True, capture_output=True,
    )  # fmt: skip
    return pair


def one_file(root: Path, data: bytes) -> Path:
    """A store of plain files with FILE, of these bytes, and nothing else."""
    fileset = write_fileset(root, "gpc1", "f", [SampleFile("image.fits", data, "fits")])
    write_product_list(root, "gpc1", [fileset], [])
    write_root_list(root, [])
    return root


def check_limit(server: Process, limit: int, file: str) -> None:
    """Beside as many connections as may be, one more is told to come later; then there is room."""
    held = [server.connect() for _ in range(limit)]
    for client in held:
        client.sendall(b"HEAD / HTTP/1.1\r\n" + HOST + b"\r\n")
        assert status_of(client.recv(4096)) == 200
    refused = server.ask(f"GET {file} HTTP/1.1\r\n".encode() + HOST + b"\r\n")
    assert status_of(refused) == 503
    assert re.search(rb"\r\nRetry-After: \d+\r\n", refused)
    for client in held:
        client.close()
    wait_for(lambda: server.get(file).status == 200)
