"""The translator of a site: how it is called, and every way in which it can fail."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from client import PATIENCE, PROJECT, wait_for
from newsroom import is_gone
from watcher import open_files

from mirror.errors import ConfigError
from server.faults import TIMEOUT
from server.publishing import translate as room
from server.publishing.translate import LIMIT, TranslationError, translate

_COPY = """\
import json, os, sys
*inputs, output = sys.argv[1:]
print(json.dumps([sys.argv[1:], os.environ["TMPDIR"], sys.stdin.read()]))
open(output, "w").write("".join(open(name).read() for name in inputs))
"""


def call(
    directory: Path, code: str, *inputs: Path, output: str = "out.fits", limit: float = LIMIT
) -> tuple[Path, bytes]:
    """Translate by a script of this code; returns the output and what was said."""
    script = directory / "script.py"
    script.write_text(code)
    target = directory / output
    with open(directory / "said", "wb+") as said:
        said.write(b"said before\n")
        translate((sys.executable, str(script)), inputs, target, directory, said, limit)
        said.seek(0)
        return target, said.read()


NAMES = {
    "blanks": "two  words",
    "quotes": 'it\'s "quoted"',
    "commands": "$(touch made); `touch made`; touch made & | made",
    "patterns": "*?[a-z]{x,y}~",
    "a dash": "-rf",
    "no UTF-8": os.fsdecode(b"caf\xe9"),
}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES.keys())
def test_every_path_arrives_as_one_argument(tmp_path: Path, name: str) -> None:
    place = tmp_path / name
    place.mkdir()
    inputs = [place / "a", place / "b"]
    for path in inputs:
        path.write_text(path.name)
    output, said = call(tmp_path, _COPY, *inputs, output=f"{name}.fits")
    assert output.read_text() == "ab"
    before, line = said.splitlines()
    assert before == b"said before"
    arguments, scratch, stdin = json.loads(line)
    assert arguments == [*map(str, inputs), str(output)]
    assert (scratch, stdin) == (str(tmp_path), "")
    assert not list(tmp_path.rglob("made"))


def test_nobody_is_asked_anything(tmp_path: Path) -> None:
    kept = os.dup(0)
    (tmp_path / "typed").write_text("typed at the terminal")
    with open(tmp_path / "typed", "rb") as typed:
        os.dup2(typed.fileno(), 0)
        try:
            _, said = call(tmp_path, _COPY, tmp_path / "typed")
        finally:
            os.dup2(kept, 0)
            os.close(kept)
    assert json.loads(said.splitlines()[1])[2] == ""


FAILURES: dict[str, tuple[str, int, str]] = {
    "a code of the original's": (
        "import sys; print('first'); sys.exit('no SkyChip.psf in a.cmf')",
        1, "exit status 1: no SkyChip.psf in a.cmf",
    ),
    "data": ("import sys; print('bad\\n\\n  '); sys.exit(5)", 5, "exit status 5: bad"),
    "any other code": ("import sys; sys.exit(77)", 4, "exit status 77: it said nothing"),
    "a signal": (
        "import os; os.kill(os.getpid(), 9)", 4, "signal 9: it said nothing",
    ),
    "no UTF-8": (
        "import os, sys; os.write(2, b'\\xff bad'); sys.exit(3)", 3, "exit status 3: \ufffd bad",
    ),
    "a long line": (
        "import sys; print('x' * 100000 + ' end'); sys.exit(2)", 2, "x end",
    ),
    "no output": ("print('fine')", 4, "ended well, but left no out.fits"),
    "an empty output": (
        "import sys; open(sys.argv[-1], 'w')", 4, "out.fits is empty, or no file",
    ),
    "a directory": (
        "import os, sys; os.mkdir(sys.argv[-1])", 4, "out.fits is empty, or no file",
    ),
    "a link": (
        "import os, sys; os.symlink('/etc/passwd', sys.argv[-1])", 4, "is empty, or no file",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("code", "status", "said"), FAILURES.values(), ids=FAILURES.keys())
def test_failures(tmp_path: Path, code: str, status: int, said: str) -> None:
    with pytest.raises(TranslationError) as caught:
        call(tmp_path, code)
    assert caught.value.code == status
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("mode", "said"),
    [
        pytest.param(None, "No such file or directory", id="not there"),
        pytest.param(0o644, "Permission denied", id="not to be run"),
        pytest.param(0o755, "Exec format error", id="no program"),
    ],
)
def test_commands_that_cannot_be_run(tmp_path: Path, mode: int | None, said: str) -> None:
    command = tmp_path / "command"
    if mode:
        command.write_bytes(b"\x00")
        command.chmod(mode)
    with (
        open(tmp_path / "said", "wb+") as file,
        pytest.raises(ConfigError, match=f"TRANSLATE: {command}: {said}"),
    ):
        translate((str(command),), [], tmp_path / "out", tmp_path, file)


def test_more_inputs_than_a_call_may_have(tmp_path: Path) -> None:
    inputs = [Path("/" + "x" * 250)] * 100_000
    with (
        open(tmp_path / "said", "wb+") as said,
        pytest.raises(TranslationError, match="could not be started: Argument list too long"),
    ):
        translate(("true",), inputs, tmp_path / "out", tmp_path, said)


def test_what_goes_on_in_the_background_is_not_waited_for(tmp_path: Path) -> None:
    # It holds our file open, as it would hold a pipe.
    code = _COPY + "import subprocess\nprint(subprocess.Popen(['sleep', '600']).pid)\n"
    source = tmp_path / "a"
    source.write_text("a")
    output, said = call(tmp_path, code, source)
    assert output.read_text() == "a"
    os.kill(int(said.splitlines()[-1]), 9)


def test_an_interrupted_translation_ends_with_all_it_has_started(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    script = tmp_path / "script.py"
    script.write_text(
        "import os, subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"open({str(pids)!r}, 'w').write(f'{{os.getpid()}} {{child.pid}} .')\n"
        "time.sleep(600)\n"
    )
    code = (
        "import sys\nfrom pathlib import Path\n"
        "from server.publishing.translate import translate\n"
        f"place = Path({str(tmp_path)!r})\n"
        "with open(place / 'said', 'wb+') as said:\n"
        f"    translate((sys.executable, {str(script)!r}), [], place / 'out', place, said)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd=PROJECT, stderr=subprocess.DEVNULL)
    wait_for(lambda: pids.exists() and pids.read_text().endswith("."))
    process.send_signal(2)
    process.wait(timeout=PATIENCE)
    both = [int(pid) for pid in pids.read_text().split()[:2]]
    wait_for(lambda: all(map(is_gone, both)))


# A command that takes long, and has started another one; `{twist}` is what it does before.
_BUSY = """\
import os, signal, subprocess, sys, time
{twist}
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print("both are there", flush=True)
open({pids!r}, "w").write(f"{{os.getpid()}} {{child.pid}} .")
time.sleep(600)
"""
_IGNORE = "signal.signal(signal.SIGTERM, signal.SIG_IGN)"
_CLEAN = "signal.signal(signal.SIGTERM, lambda *_: sys.exit('cleaned up'))"


@pytest.mark.parametrize(
    ("twist", "said"),
    [
        pytest.param("", "both are there", id="ends at once"),
        pytest.param(_CLEAN, "cleaned up", id="cleans up"),
        pytest.param(_IGNORE, "both are there", id="does not listen"),
    ],
)
def test_what_takes_too_long_ends_with_all_it_has_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, twist: str, said: str
) -> None:
    pids = tmp_path / "pids"
    monkeypatch.setattr(room, "GRACE", PATIENCE if twist == _CLEAN else 0.2)
    wait = subprocess.Popen.wait

    def wait_once_begun(process: "subprocess.Popen[bytes]", timeout: float | None = None) -> int:
        """The time begins when both are there: on a busy machine that alone takes a while."""
        wait_for(lambda: pids.exists() and pids.read_text().endswith("."))
        return wait(process, timeout)

    monkeypatch.setattr(subprocess.Popen, "wait", wait_once_begun)
    with pytest.raises(TranslationError) as caught:
        call(tmp_path, _BUSY.format(twist=twist, pids=str(pids)), limit=0.1)
    assert caught.value.code == TIMEOUT
    assert str(caught.value) == (
        f"{sys.executable}: took longer than 0.1 s and was ended (--translate-timeout allows more);"
        f" it said last: {said}"
    )
    both = [int(pid) for pid in pids.read_text().split()[:2]]
    wait_for(lambda: all(map(is_gone, both)))


def test_a_command_dies_with_its_caller_however_that_ends(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    code = (
        "import sys\nfrom pathlib import Path\nsys.path.append('tests')\n"
        "from test_translate import call, _BUSY, _IGNORE\n"
        f"call(Path({str(tmp_path)!r}), _BUSY.format(twist=_IGNORE, pids={str(pids)!r}))\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd=PROJECT)
    wait_for(lambda: pids.exists() and pids.read_text().endswith("."))
    process.kill()
    process.wait(timeout=PATIENCE)
    both = [int(pid) for pid in pids.read_text().split()[:2]]
    wait_for(lambda: all(map(is_gone, both)))


def test_nobody_watches_a_command_that_has_ended(tmp_path: Path) -> None:
    source = tmp_path / "a"
    source.write_text("a")
    children = Path(f"/proc/self/task/{threading.get_native_id()}/children")
    opened, started = open_files(), set(children.read_text().split())
    call(tmp_path, _COPY, source)
    with pytest.raises(TranslationError):
        call(tmp_path, "raise SystemExit(3)", output="other.fits")
    assert not open_files() - opened
    assert set(children.read_text().split()) <= started


def test_threads_may_translate_at_once(tmp_path: Path) -> None:
    done = []

    def one(number: int) -> None:
        place = tmp_path / str(number)
        place.mkdir()
        source = place / "a"
        source.write_text(str(number))
        done.append(call(place, _COPY, source)[0].read_text() == str(number))

    threads = [threading.Thread(target=one, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert done == [True] * 4
