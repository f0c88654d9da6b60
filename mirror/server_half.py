"""The server half, run as a process of its own by those parts of the client that need it."""

import importlib.util
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from mirror.errors import LocalError
from mirror.halt import Halt
from mirror.hook import wait

_Item = TypeVar("_Item")


@dataclass(frozen=True, slots=True)
class Answer:
    """How a command of the server half ended: its status, what it said, what it complained of."""

    status: int
    said: bytes
    complaint: str


def ask_server(arguments: Sequence[str], given: str, halt: Halt) -> Answer:
    """Run `python -m server` with `arguments`, and `given` on its standard input, to its end.

    Raises LocalError where the server half is not there, or cannot be run; HaltedError, with it
    ended, when the run is interrupted.
    """
    # Files and no pipes, so that neither side can wait for the other to read.
    with (
        tempfile.TemporaryFile() as asked,
        tempfile.TemporaryFile() as said,
        tempfile.TemporaryFile() as complaints,
    ):
        asked.write(given.encode())
        asked.seek(0)
        try:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "server", *arguments],
                env=_environment(), stdin=asked, stdout=said, stderr=complaints,
            )  # fmt: skip
        except OSError as error:
            raise LocalError(f"{sys.executable}: {error.strerror}") from None
        status = wait(process, halt)
        said.seek(0)
        complaints.seek(0)
        lines = complaints.read().decode("utf-8", "replace").strip().splitlines()
        return Answer(status, said.read(), " ".join(lines[-10:])[:2000])


def read_answers(said: bytes, asked: Sequence[tuple[str, _Item]]) -> list[tuple[_Item, str, str]]:
    """The answers to a list of (name, item), `NAME|WHAT|WHY|` for each: item, what, why.

    What does not answer the item in its place, and all after it, is no answer.
    """
    answers: list[tuple[_Item, str, str]] = []
    for (name, item), line in zip(asked, said.decode("utf-8", "replace").split("\n"), strict=False):
        found, _, rest = line.partition("|")
        what, _, why = rest.partition("|")
        if found != name or not why.endswith("|"):
            break
        answers.append((item, what, why[:-1]))
    return answers


def _environment() -> dict[str, str]:
    """The environment of the server half: this one, and where its modules are.

    A client that runs from its directory finds them beside it, whatever cron's directory is.
    Raises LocalError where they are not installed.
    """
    found = importlib.util.find_spec("server")
    place = Path(found.origin).parent if found and found.origin else None
    if place is None or not (place / "addstatus.py").is_file():
        raise LocalError(
            "needs the server half, which is not installed here; run update_mirror.py from its"
            " whole directory, or: pip install update-mirror"
        )
    paths = [str(place.parent), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
