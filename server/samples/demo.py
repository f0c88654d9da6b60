"""`python -m server demo`: what the README shows. A sample store, served, mirrored, caught up.

Everything happens in a directory of its own (demo/ in the checkout), over loopback, with the real
commands as processes; what is typed is printed before what it prints.
"""

import argparse
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mirror.errors import ConfigError

CHECKOUT = Path(__file__).resolve().parents[2]
SHOWN = 28
"""Lines of the tree that are shown; it goes on likewise."""

_CONFIG = """\
mirror_root: mirror
top_uri: {uri}
products: [gpc1, IPP-MOPS]
min_free: 100MB
"""


def main(argv: list[str]) -> int:
    """Run the demonstration; returns 0 if every step did what it should."""
    parser = argparse.ArgumentParser(prog="python -m server demo", description=__doc__)
    parser.add_argument("dir", type=Path, nargs="?", default=CHECKOUT / "demo", metavar="DIR")
    directory = parser.parse_args(argv).dir.resolve()
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    _say("A sample Data Store: chip, camera and stack runs, and published detections")
    _call(directory, "-m", "server", "sample", "store")
    with _serving(directory) as uri:
        (directory / "mirror.yaml").write_text(_CONFIG.format(uri=uri), encoding="utf-8")
        _say("mirror.yaml, all of it")
        print((directory / "mirror.yaml").read_text(encoding="utf-8"), end="")
        _say("The first run")
        _mirror(directory, "--verbose")
        _say("What people use")
        _show_tree(directory / "mirror")
        _say("Two filesets more are registered; the next run catches up")
        _call(directory, "-m", "server", "sample", "store", "--add", "2")
        _mirror(directory, "--verbose")
        _say("A run without news says nothing, as under cron")
        _mirror(directory)
        _say("Everything is read again and compared")
        _mirror(directory, "--verify")
        _mirror(directory, "--status")
    print(f"\nAll of it is in {_shown(directory)}; have a look, then remove it.")
    return 0


def _mirror(directory: Path, *options: str) -> None:
    _call(directory, str(CHECKOUT / "update_mirror.py"), "-c", "mirror.yaml", *options)


def _call(directory: Path, *arguments: str) -> None:
    """Run one of the commands, its words shown first; a failure ends the demonstration."""
    shown = [Path(one).name if one.endswith(".py") else one for one in arguments]
    print(f"$ python {shlex.join(shown)}", flush=True)
    status = subprocess.run(
        [sys.executable, *arguments], cwd=directory, env=_environment(), check=False
    ).returncode
    if status:
        raise ConfigError([f"the demonstration stops: exit status {status}"])


def _environment() -> dict[str, str]:
    import os

    # Loopback needs no proxy, and the checkout need not be installed.
    return {**os.environ, "PYTHONPATH": str(CHECKOUT), "no_proxy": "127.0.0.1"}


@contextmanager
def _serving(directory: Path) -> Iterator[str]:
    """Serve the store on a port that the system picks, while the block runs."""
    command = ["-m", "server", "serve", "--dsroot", "store", "--port", "0"]
    print(f"$ python {shlex.join(command)} &", flush=True)
    with subprocess.Popen(
        [sys.executable, *command],
        cwd=directory, env=_environment(), stdout=subprocess.PIPE, text=True,
    ) as server:  # fmt: skip
        try:
            assert server.stdout is not None
            line = server.stdout.readline()
            if " at " not in line:
                raise ConfigError(["the server did not start"])
            print(line, end="")
            yield line.rpartition(" at ")[2].strip()
        finally:
            server.terminate()


def _show_tree(root: Path) -> None:
    lines = [
        "    " * (len(path.relative_to(root).parts) - 1) + path.name + ("/" * path.is_dir())
        for path in sorted(root.rglob("*"))
        if ".mirror" not in path.parts
    ]
    print("\n".join([f"{root.name}/", *("    " + line for line in lines[:SHOWN])]))
    if len(lines) > SHOWN:
        print(f"    … {len(lines) - SHOWN} more")


def _say(what: str) -> None:
    print(f"\n── {what}", flush=True)


def _shown(path: Path) -> str:
    return str(path.relative_to(CHECKOUT)) if path.is_relative_to(CHECKOUT) else str(path)
