"""The client as a site runs it: a process, its mirror.yaml, its tree; and servers for it."""

import json
import os
import re
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from watcher import snapshot

PROJECT = Path(__file__).parent.parent
CLIENT = PROJECT / "update_mirror.py"

PATIENCE = 180.0
"""Seconds after which what should have ended is taken for hung, on however busy a machine."""

_FOREIGN = re.compile(r"(.*_proxy|NETRC|UPDATE_MIRROR_CONFIG|PYTEST.*)", re.IGNORECASE)


def wait_for(condition: Callable[[], Any]) -> None:
    """Wait, with patience, until a condition holds."""
    until = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.005)


class Ran(NamedTuple):
    """How a run of the client ended."""

    exit: int
    stdout: str
    stderr: str


class MirrorSite:
    """A site that mirrors into `root`, below `directory`, by the configuration `config`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.root = directory / "mirror"
        self.config = directory / "mirror.yaml"

    @property
    def private(self) -> Path:
        """What the client keeps for itself."""
        return self.root / ".mirror"

    def configure(self, top_uri: str | list[str] | None, **keys: object) -> None:
        """Write mirror.yaml anew. Besides `keys` it has what lets a test fail soon."""
        settings: dict[str, object] = {
            "mirror_root": str(self.root),
            "top_uri": top_uri,
            "products": ["gpc1"],
            "min_free": 0,
            "timeout": 10,
            "retries": 1,
        }
        settings |= keys
        self.config.write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")

    def environment(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        """The environment of a run: this one without what would reach into it, plus `extra`."""
        # Tests in other threads begin and end meanwhile, and pytest notes that in the environment.
        ours = [name for name in os.environ if not _FOREIGN.fullmatch(name)]
        kept = {name: os.environ[name] for name in ours}
        return {**kept, "HOME": str(self.directory), **(extra or {})}

    def command(self, *options: str) -> list[str]:
        """The command line of a run."""
        return [sys.executable, str(CLIENT), "-c", str(self.config), *options]

    def run(self, *options: str, environ: Mapping[str, str] | None = None, umask: int = -1) -> Ran:
        """Run the client as cron does, without a terminal, to its end."""
        ended = subprocess.run(
            self.command(*options),
            cwd=self.directory,
            env=self.environment(environ),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            umask=umask,
            check=False,
        )
        return Ran(ended.returncode, ended.stdout, ended.stderr)

    def report(self, *options: str) -> tuple[Ran, dict[str, Any]]:
        """Run the client with --json; returns its end and the document."""
        path = self.directory / "report.json"
        path.unlink(missing_ok=True)
        ran = self.run("--json", str(path), *options)
        return ran, json.loads(path.read_text(encoding="utf-8"))

    def start(self, *options: str) -> subprocess.Popen[str]:
        """Start the client without waiting for its end; its output is kept in pipes."""
        return subprocess.Popen(
            self.command(*options),
            cwd=self.directory,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def refusal(self, lines: str) -> str:
        """What a run says of a mirror.yaml with these lines besides, which it has to refuse."""
        self.configure("http://127.0.0.1:1/")
        with self.config.open("a", encoding="utf-8") as file:
            file.write(f"{lines}\n")
        ran = self.run()
        assert ran.exit == 3
        return ran.stderr

    def change_state(self, sql: str, *values: object) -> None:
        """Change the state, as a kill at some instant leaves it."""
        with closing(sqlite3.connect(self.private / "state.db")) as database, database:
            database.execute(sql, values)

    def visible(self) -> dict[str, bytes]:
        """Every file of data/, info/ and store/ with its content."""
        return snapshot(self.root)

    def stamps(self, *below: str) -> dict[str, tuple[int, int, int, int]]:
        """Mode, inode, size and mtime of everything below these directories of the mirror."""
        found = {}
        for top in below or ("data", "info", "store"):
            for path in sorted((self.root / top).rglob("*")):
                seen = path.lstat()
                name = str(path.relative_to(self.root))
                found[name] = (seen.st_mode, seen.st_ino, seen.st_size, seen.st_mtime_ns)
        return found

    def litter(self) -> list[str]:
        """What stands in .mirror though no run needs it any more."""
        kept = {"lock", "state.db", "state.db-journal", "staging", "partial"}
        found = [str(path.relative_to(self.private)) for path in self.private.rglob("*")]
        return sorted(name for name in found if name not in kept)


@contextmanager
def serving(directory: Path, *, static: bool = False) -> Iterator[str]:
    """Serve a tree by `python -m server serve`, or as a `static` web server does; gives the URL."""
    ours = ["server", "serve", "--static", str(directory), "--port", "0"]
    plain = ["http.server", "0", "--bind", "127.0.0.1", "--directory", str(directory)]
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", *(plain if static else ours)],
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout
        line = process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:\d+/", line)
        assert found, f"no address in the server's first line: {line!r}"
        yield found[0]
    finally:
        process.terminate()
        process.communicate(timeout=PATIENCE)
