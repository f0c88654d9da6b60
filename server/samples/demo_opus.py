"""`python -m server demo-opus`: examples/opus at work for less than a minute, and its boards.

A process publishes what a pipeline has finished, one mirrors it on time, two hand over what has
arrived; everything in a directory of its own (demo-opus/ in the checkout), over loopback, with
the real commands.
"""

import argparse
import math
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from urllib.request import ProxyHandler, build_opener

from formats.path_file import named_path_file, read_path_file
from mirror.errors import ConfigError
from server.command import about
from server.opus.overview import opened
from server.samples.demo import (
    CHECKOUT,
    clear,
    distribution,
    finished_runs,
    say,
    server,
    serving,
    shown,
)

PATIENCE = 180.0
"""Seconds in which everything must have arrived."""

WAIT = "30"
"""Seconds that processes get to end."""

_LATER = """\

! For the demonstration:
NIGHTLY.START_TIME = 00:00:00
NIGHTLY.DELTA_TIME = 000:00:00:10
NIGHTLY.MINBLOCKS = 200000
NIGHTLY.RESUME_BLOCKS = 200000
PUBLISH.DELTA_TIME = 000:00:00:02
*.POLLING_TIME = 0.2
"""
_BOARD = """\
BLACKBOARD METADATA
  path STR mirror
  pub  STR pub
END
"""
_CONFIG = """\
mirror_root: mirror
top_uri: {uri}
products: [gpc1, IPP-MOPS]
min_free: 100MB
blackboard: {{path: mirror, type: fst, product: true}}
"""


def main(argv: list[str]) -> int:
    """Run the demonstration; returns 0 if everything that was published has been handed over."""
    parser = argparse.ArgumentParser(prog="python -m server demo-opus", description=about(__doc__))
    parser.add_argument("dir", type=Path, nargs="?", default=CHECKOUT / "demo-opus", metavar="DIR")
    directory = parser.parse_args(argv).dir.resolve()
    clear(directory)
    for name in ("datastore", "partner", "mirror"):
        (directory / name).mkdir(parents=True)
    finished_runs(directory)
    distribution(directory)
    say("Detections are to be published; nobody does it yet")
    where = ("-product", "IPP-MOPS", "-workdir", "neb://any/pub/")
    server(directory, "pubtool", "-defineclient", "-stage", "diff", *where)
    _definitions(directory)
    with (directory / "site.config").open("a", encoding="utf-8") as site:
        site.write(_BOARD)
    say("The site configuration names the blackboard: publish runs have entries there, too")
    print(_BOARD, end="")
    with serving(directory, "site.config", "--monitor") as uri:
        _a_night(directory, uri)
    print(f"\nAll of it is in {shown(directory)}; have a look, then remove it.")
    return 0


def _definitions(directory: Path) -> None:
    """The path, its stages and its processes, as a site would have them."""
    definitions = directory / "definitions"
    shutil.copytree(CHECKOUT / "examples" / "opus", definitions)
    with (definitions / "mirror.path").open("a", encoding="utf-8") as path_file:
        path_file.write(_LATER)
    os.environ |= {
        "OPUS_DEFINITIONS_DIR": str(definitions),
        "OPUS_WORK": str(directory),
        "OPUS_SOFTWARE": str(CHECKOUT),
        "OPUS_PYTHON": sys.executable,
        "OPUS_HOME_DIR": str(directory / "logs"),
    }
    say("The path file: where everything is, and what differs here from examples/opus")
    print((definitions / "mirror.path").read_text(encoding="utf-8"), end="")


def _a_night(directory: Path, uri: str) -> None:
    (directory / "mirror.yaml").write_text(_CONFIG.format(uri=uri), encoding="utf-8")
    for file, what in (
        ("mirror.yaml", "The mirror's configuration: each fileset gets an entry on the blackboard"),
        ("definitions/ingest.resource", "A process that wakes on such an entry, and its command"),
        ("definitions/ingest", ""),
    ):
        if what:
            say(what)
        print((directory / file).read_text(encoding="utf-8"), end="")
    say("The processes start; each fileset goes to one of the two that ingest")
    try:
        server(directory, "start", "mirror", "nightly", "publish", "ingest", "2")
        say(f"The boards, while they work; for the browser: {uri}monitor/")
        _wait(lambda done: done > 0)
        server(directory, "status", "-p", "mirror", "--limit", "8")
        say("Until everything that is published has arrived, and was handed over")
        _wait(lambda done: done >= _published(uri))
    finally:
        server(directory, "halt", "-p", "mirror", "--wait", WAIT)
    server(directory, "status", "-p", "mirror")
    say("What is known of each fileset")
    server(directory, "osf", "history", "-p", "mirror", "-l", "6")
    (directory / "monitor.html").write_bytes(_get(f"{uri}monitor/mirror/?every=0"))
    say(f"The monitor's page, with the picture of the night: {shown(directory / 'monitor.html')}")


def _published(uri: str) -> float:
    """How many filesets the Data Store has; any number while the publishing has not begun."""
    lists = [_get(f"{uri}{product}/index.txt") for product in ("gpc1", "IPP-MOPS")]
    counts = [sum(line[:1] not in b"#" for line in body.splitlines()) for body in lists]
    return sum(counts) if counts[1] else math.inf


def _wait(enough: Callable[[int], bool]) -> None:
    """Wait until so many filesets are handed over. Raises ConfigError if they are not in time."""
    paths = read_path_file(named_path_file("mirror"))
    until = time.monotonic() + PATIENCE
    while True:
        with opened(paths, os.environ) as board:
            entries = board.entries() if board else iter(())
            done = sum(entry.states["IN"].upper() == "C" for entry in entries)
        if enough(done):
            return
        if time.monotonic() > until:
            raise ConfigError(
                [f"after {PATIENCE:g} s {done} filesets are handed over, not all; see the logs"]
            )
        time.sleep(0.3)


def _get(url: str) -> bytes:
    # Loopback needs no proxy.
    with build_opener(ProxyHandler({})).open(url, timeout=10) as answer:
        body: bytes = answer.read()
    return body
