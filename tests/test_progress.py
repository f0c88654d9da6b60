"""What a person sees: the progress display on a terminal of 80 columns, and its end."""

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time

import pytest
from client import PATIENCE, MirrorSite
from runs import chip_run, noise
from simulator import Action, Simulator
from wire import Answer, Connection, Request

COLUMNS = 80
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def in_pieces(pause: float) -> Action:
    """The right answer in ten pieces with a pause after each."""

    def act(connection: Connection, _request: Request, answer: Answer) -> None:
        connection.write(answer.head())
        piece = len(answer.body) // 10 + 1
        for at in range(0, len(answer.body), piece):
            connection.write(answer.body[at : at + piece])
            connection.wait(pause)

    return act


def on_a_terminal(site: MirrorSite, *options: str) -> tuple[int, str]:
    """Run the client on a terminal; returns its exit status and all that it wrote there."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, COLUMNS, 0, 0))
    with os.fdopen(ours, "rb", buffering=0) as screen:
        process = subprocess.Popen(
            site.command(*options), cwd=site.directory, env=site.environment({"TERM": "xterm"}),
            stdin=theirs, stdout=theirs, stderr=theirs,
        )  # fmt: skip
        os.close(theirs)
        written = b""
        until = time.monotonic() + PATIENCE
        while select.select([screen], [], [], max(0.0, until - time.monotonic()))[0]:
            try:
                piece = screen.read(65536)
            except OSError:  # how Linux says that the other side has been closed
                break
            written += piece or b""
        return process.wait(PATIENCE), written.decode()


def shown(written: str) -> list[str]:
    """Every state in which a line of the terminal was to be seen."""
    return [
        line.rstrip() for line in re.split(r"[\r\n]+", _CONTROL.sub("", written)) if line.strip()
    ]


@pytest.fixture
def slow_store(simulator: Simulator) -> Simulator:
    """A store whose files take about a second in all."""
    product = simulator.product("gpc1")
    for number in range(3):
        product.add(*chip_run(number, ["XY01"], size=400_000))
    product.add("plain", {"large.fits": noise("large", 2_000_000)})
    simulator.fault("*.tgz", in_pieces(0.05), times=None)
    simulator.fault("*.fits", in_pieces(0.05), times=None)
    return simulator


def test_display_and_summary(mirror_site: MirrorSite, slow_store: Simulator) -> None:
    mirror_site.configure(slow_store.url, connections=2)
    status, written = on_a_terminal(mirror_site)
    assert status == 0
    lines = shown(written)
    assert max(map(len, lines)) <= COLUMNS
    bars = [line for line in lines if "filesets:" in line]
    assert len(bars) > 3
    form = re.compile(
        r"\d/4 filesets: +\d+%\|.+\| [\d.]+[kM]?/[\d.]+[kM]? "
        r"\[\d\d:\d\d<[\d:?]+, +[\d.?]+[kM]?B/s\]"
    )
    complete = [line for line in bars if form.fullmatch(line)]
    assert complete, bars
    done = [int(line[0]) for line in bars]
    assert done == sorted(done)
    # The display is taken away at the end; what stays are two lines of summary.
    assert re.match(r"gpc1: 4 done, 0 failed, 0 queued, 3\.\d MB in \d+\.\d s$", lines[-2])
    assert lines[-1] == "mirrored 4 filesets, 0 queued, no faults; exit status 0"


def test_trouble_has_a_line_of_its_own(mirror_site: MirrorSite, slow_store: Simulator) -> None:
    slow_store.products["gpc1"].add("bad", {"a.txt": b"right"})
    slow_store.override("/gpc1/bad/a.txt", b"wrong")
    mirror_site.configure(slow_store.url, connections=2)
    status, written = on_a_terminal(mirror_site)
    assert status == 1
    text = _CONTROL.sub("", written).replace("\r\n", "\n")
    told = [line for line in text.split("\n") if "gpc1/bad/a.txt: " in line]
    assert len(told) == 1
    assert told[0].rpartition("\r")[2].startswith("update_mirror: gpc1/bad/a.txt: md5 ")
    assert "mirrored 4 filesets, 1 queued, 1 fault; exit status 1" in text


def test_quiet_on_a_terminal(mirror_site: MirrorSite, simulator: Simulator) -> None:
    simulator.product("gpc1").add("one", {"a.fits": b"SIMPLE"})
    mirror_site.configure(simulator.url)
    assert on_a_terminal(mirror_site, "-q") == (0, "")


def test_no_news_on_a_terminal(mirror_site: MirrorSite, simulator: Simulator) -> None:
    """A person who types the command learns that it has worked, though there was nothing to do."""
    simulator.product("gpc1")
    mirror_site.configure(simulator.url)
    status, written = on_a_terminal(mirror_site)
    assert status == 0
    assert shown(written)[-1] == "mirrored 0 filesets, 0 queued, no faults; exit status 0"
