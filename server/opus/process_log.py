"""The log of a process: what xpoll says, a line with its time each, and what the commands that it
runs print between.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
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
                os.write(file, b"\n" + line if self._is_open_ended() else line)
        except (LocalError, OSError):
            with suppress(OSError):
                os.write(_standard_error(), line)

    @contextmanager
    def output(self) -> Iterator[int]:
        """As `opened`, but a log that cannot be opened now stops no command: standard error."""
        with ExitStack() as held:
            try:
                descriptor = held.enter_context(self.opened())
            except LocalError:
                descriptor = _standard_error()
            yield descriptor

    @contextmanager
    def opened(self) -> Iterator[int]:
        """The descriptor to which a command prints. Raises LocalError."""
        if self.file is None:
            yield _standard_error()
            return
        with told(self.file):
            file = os.open(self.file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            yield file
        finally:
            os.close(file)

    def _is_open_ended(self) -> bool:
        """Whether what a command has printed last lacks the end of its line."""
        with suppress(OSError):
            if self.file and (size := self.file.stat().st_size):
                with open(self.file, "rb") as file:
                    file.seek(size - 1)
                    return file.read(1) != b"\n"
        return False


def _standard_error() -> int:
    """Its descriptor; whoever started this may have closed it."""
    return sys.stderr.fileno() if sys.stderr else _nowhere()


@cache
def _nowhere() -> int:
    return os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)


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
