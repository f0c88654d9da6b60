"""The log of a process: what xpoll says, a line with its time each, and what the commands that it
runs print between.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from mirror.disk import told
from mirror.errors import LocalError


@dataclass(frozen=True, slots=True)
class ProcessLog:
    """PATH-PROC.log in OPUS_HOME_DIR; `file` is None without that: standard error.

    The file is opened for every line and every command, so it may be renamed at any time. `who`
    tells the copies of a process apart.
    """

    file: Path | None
    who: str

    def say(self, text: str) -> None:
        """Write a line. What cannot be written ends no work: it goes to standard error."""
        moment = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        line = os.fsencode(f"{moment} {self.who}: {one_line(text)}\n")
        try:
            with self.opened() as file:
                os.write(file, line)
        except (LocalError, OSError):
            with suppress(OSError):
                os.write(sys.stderr.fileno(), line)

    @contextmanager
    def opened(self) -> Iterator[int]:
        """The descriptor to which a command prints. Raises LocalError."""
        if self.file is None:
            yield sys.stderr.fileno()
            return
        with told(self.file):
            file = os.open(self.file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            yield file
        finally:
            os.close(file)


def log_of(home: str | None, path: str, process: str, holder: int) -> ProcessLog:
    """The log of a process of a path, with OPUS_HOME_DIR as given."""
    file = Path(os.path.abspath(home)) / f"{path}-{process}.log" if home else None
    return ProcessLog(file, f"{process} {holder}")


def one_line(text: str) -> str:
    """A text without control characters, which names of files may have, and fit for any store."""
    plain = "".join(one if one.isprintable() else _escaped(one) for one in text)
    return plain.encode("utf-8", "backslashreplace").decode()


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
