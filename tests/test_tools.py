"""The small tools (PROTOCOL section 4): output lines and exit codes, as processes."""

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest
from client import PATIENCE, PROJECT
from faults import stall, status
from simulator import SimFile, Simulator

DATA = b"SIMPLE  =                    T" * 100
MD5 = hashlib.md5(DATA).hexdigest()


def tool(*words: str) -> tuple[int, list[str], str]:
    """Exit code, lines of standard output, standard error."""
    ended = subprocess.run(
        [sys.executable, "-m", "mirror", *words],
        cwd=PROJECT, capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    return ended.returncode, ended.stdout.splitlines(), ended.stderr


@pytest.fixture
def store(simulator: Simulator) -> Simulator:
    gpc1 = simulator.product("gpc1", columns=("stage", "exp_name"), description="Giga Pixel")
    for number in (1, 2):
        gpc1.add(
            f"o{number}.chip.1.1.1",
            [SimFile("a.fits", DATA, type="chip", columns=("XY01",))],
            registered=f"2009-04-15T03:02:1{number}Z",
            columns=("chip", f"o{number}"),
        )
    return simulator


def test_dsrootls(store: Simulator) -> None:
    code, lines, _ = tool("dsrootls", "--uri", f"{store.url}/index.txt")
    assert code == 0
    assert lines[0] == "# uri product last time type desc"
    assert lines[1].split(" ")[:4] == [
        f"{store.url}/gpc1/index.txt", "gpc1", "o2.chip.1.1.1", "2009-04-15T03:02:12Z",
    ]  # fmt: skip
    assert lines[1].endswith(" Giga Pixel")


@pytest.mark.parametrize("end", ["", "/", "/index.txt"])
def test_dsproductls(store: Simulator, end: str) -> None:
    code, lines, _ = tool("dsproductls", "--uri", f"{store.url}/gpc1{end}")
    assert code == 0
    assert lines == [
        "# uri fileset datetime type",
        f"{store.url}/gpc1/o1.chip.1.1.1/index.txt o1.chip.1.1.1 2009-04-15T03:02:11Z IPP-DIST",
        f"{store.url}/gpc1/o2.chip.1.1.1/index.txt o2.chip.1.1.1 2009-04-15T03:02:12Z IPP-DIST",
    ]


def test_dsproductls_after_the_last_fileset_with_the_columns(store: Simulator) -> None:
    words = ["--uri", f"{store.url}/gpc1", "--last_fileset", "o1.chip.1.1.1", "--extra"]
    code, lines, _ = tool("dsproductls", *words)
    assert code == 0
    assert [line.split(" ")[1:] for line in lines[1:]] == [
        ["o2.chip.1.1.1", "2009-04-15T03:02:12Z", "IPP-DIST", "chip", "o2"]
    ]


def test_dsfilesetls(store: Simulator) -> None:
    code, lines, _ = tool("dsfilesetls", "--uri", f"{store.url}/gpc1/o1.chip.1.1.1")
    assert code == 0
    assert lines[0] == "# uri fileid bytes md5sum type"
    place = f"{store.url}/gpc1/o1.chip.1.1.1/a.fits"
    assert lines[1] == f"{place} a.fits {len(DATA)} {MD5} chip XY01"


def test_dsget_takes_what_is_right_and_only_that(store: Simulator, tmp_path: Path) -> None:
    uri = f"{store.url}/gpc1/o1.chip.1.1.1/a.fits"
    target = tmp_path / "here.fits"
    words = ["--uri", uri, "--filename", str(target)]
    assert tool("dsget", *words, "--bytes", "7")[0] == 5
    assert tool("dsget", *words, "--bytes", "99999")[0] == 5
    assert tool("dsget", *words, "--md5", "0" * 32)[0] == 5
    assert list(tmp_path.iterdir()) == []
    assert tool("dsget", *words, "--bytes", str(len(DATA)), "--md5", MD5) == (0, [], "")
    assert target.read_bytes() == DATA
    assert [path.name for path in tmp_path.iterdir()] == ["here.fits"]


@pytest.mark.parametrize(
    ("name", "words", "code", "told"),
    [
        ("dsrootls", [], 3, "Required options: --uri"),
        ("dsproductls", ["--last_fileset", "x"], 3, "Required options: --uri"),
        ("dsget", [], 3, "Required options: --uri --filename"),
        ("dsrootls", ["--uri", "ftp://h/"], 3, "an http:// or https:// address"),
        ("dsrootls", ["--nonsense"], 3, "Required options"),
        ("dsrootls", ["--uri", "http://127.0.0.1:1/", "--timeout", "soon"], 2, "--timeout"),
        ("dsrootls", ["--uri", "http://127.0.0.1:1/"], 2, "Connection refused"),
    ],
)
def test_usage_and_unreachable(name: str, words: list[str], code: int, told: str) -> None:
    ended = tool(name, *words)
    assert ended[0] == code
    assert told in ended[2]
    assert ended[2].startswith(f"{name}: ")


@pytest.mark.parametrize(("answer", "code"), [(404, 104), (403, 103), (401, 101), (410, 110)])
def test_a_refusal_is_http_status_less_300(store: Simulator, answer: int, code: int) -> None:
    store.fault("/gpc1/index.txt", status(answer), times=None)
    assert tool("dsproductls", "--uri", f"{store.url}/gpc1")[0] == code


def test_an_unknown_last_fileset_is_404(store: Simulator) -> None:
    assert tool("dsproductls", "--uri", f"{store.url}/gpc1", "--last_fileset", "x")[0] == 104


def test_a_silent_server_is_a_time_out(store: Simulator) -> None:
    store.fault("/index.txt", stall(20))
    assert tool("dsrootls", "--uri", store.url, "--timeout", "0.3")[0] == 6


def test_a_malformed_row_is_told_and_the_rest_is_listed(store: Simulator) -> None:
    raw = store.read("/gpc1/index.txt")
    store.override("/gpc1/index.txt", raw + b"../x|2009-04-15T03:02:13Z|t|\n")
    code, lines, told = tool("dsproductls", "--uri", f"{store.url}/gpc1")
    assert (code, len(lines)) == (5, 3)
    assert told.startswith("line 4: ")


def test_no_tool_of_that_name() -> None:
    code, _, told = tool("dsnonsense")
    assert code == 2
    assert "dsrootls|dsproductls|dsfilesetls|dsget" in told
