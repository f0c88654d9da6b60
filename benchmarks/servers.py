"""What the races run against: nginx where it is installed, our own server, and a longer wire."""

import os
import pwd
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
READY = 10.0
"""Seconds in which a server must answer."""

# Debian's place for it is not on everybody's path.
_NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")

_CONFIG = """\
daemon off;
worker_processes 2;
{user}
pid {directory}/pid;
error_log {directory}/error.log;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    sendfile on;
    tcp_nopush on;
    tcp_nodelay on;
    keepalive_timeout 65;
    types {{ text/plain txt mdc; }}
    default_type application/octet-stream;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    server {{ listen 127.0.0.1:{port}; root {root}; }}
}}
"""


@dataclass(frozen=True, slots=True)
class Server:
    """Where a store is served, and by which processes."""

    url: str
    processes: tuple[int, ...]

    def memory(self) -> float:
        """MiB that the server holds in memory, its workers' included; shared pages count once."""
        total = 0
        for process in self._all():
            text = Path(f"/proc/{process}/smaps_rollup").read_text(encoding="ascii")
            pss = next(line for line in text.splitlines() if line.startswith("Pss:"))
            total += int(pss.split()[1])
        return total / 1024

    def _all(self) -> Iterator[str]:
        for process in self.processes:
            yield str(process)
            yield from Path(f"/proc/{process}/task/{process}/children").read_text().split()

    def cpu(self) -> float:
        """CPU seconds that the server has used so far, its workers' included."""
        ticks = 0
        for process in self._all():
            fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")


def best_server() -> str:
    """The name of the server that the races use on this machine."""
    return "nginx" if _NGINX else "python -m server serve"


@contextmanager
def serving(root: Path) -> Iterator[Server]:
    """Serve a store with the best server there is."""
    with nginx(root) if _NGINX else own_server(root) as server:
        yield server


@contextmanager
def nginx(root: Path) -> Iterator[Server]:
    """Serve a directory as nginx does, which knows nothing of ?LAST."""
    assert _NGINX
    with tempfile.TemporaryDirectory(prefix="nginx.") as directory:
        # The port is free when it is picked, and may be taken when nginx comes: then again.
        for _ in range(5):
            port = _free_port()
            config = Path(directory, "nginx.conf")
            config.write_text(_config(directory, root, port))
            command = [_NGINX, "-p", directory, "-c", str(config), "-e", f"{directory}/error.log"]
            with subprocess.Popen(command) as process:
                try:
                    if _answers(process, port):
                        yield Server(f"http://127.0.0.1:{port}/", (process.pid,))
                        return
                finally:
                    process.terminate()
        raise RuntimeError(f"nginx does not start: {Path(directory, 'error.log').read_text()}")


def _config(directory: str, root: Path, port: int) -> str:
    user = f"user {pwd.getpwuid(0).pw_name};" if os.geteuid() == 0 else ""
    return _CONFIG.format(directory=directory, root=root, port=port, user=user)


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def _answers(process: "subprocess.Popen[bytes]", port: int) -> bool:
    """Whether the process came to listen at the port before it ended or READY was over."""
    limit = time.monotonic() + READY
    while process.poll() is None and time.monotonic() < limit:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return True
    return False


@contextmanager
def own_server(root: Path, *options: str, kind: str = "--dsroot") -> Iterator[Server]:
    """Serve a store with `python -m server serve`, which honours ?LAST.

    `kind`: `--static` serves a tree of plain files though it has a catalogue.
    """
    command = ["server", "serve", kind, str(root), "--port", "0", *options]
    with _python(command, HERE.parent) as server:
        yield server


@contextmanager
def http_server(root: Path) -> Iterator[Server]:
    """Serve a directory with what Python brings along."""
    with _python(["http.server", "0", "--bind", "127.0.0.1"], root) as server:
        yield server


@contextmanager
def _python(arguments: list[str], directory: Path) -> Iterator[Server]:
    """A server that names its URL in the first line it prints."""
    command = [sys.executable, "-u", "-m", *arguments]
    with subprocess.Popen(
        command, cwd=directory, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout
        try:
            found = re.search(r"http://[^\s)]+", process.stdout.readline())
            assert found, "the server does not start"
            yield Server(found[0], (process.pid,))
        finally:
            process.terminate()


@contextmanager
def delayed(server: Server, seconds: float) -> Iterator[Server]:
    """The same server, with every byte of its answers `seconds` late."""
    command = [sys.executable, str(HERE / "delay.py"), server.url, str(seconds)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin
        assert process.stdout
        try:
            url = process.stdout.readline().strip()
            yield Server(url, (*server.processes, process.pid))
        finally:
            process.stdin.close()
