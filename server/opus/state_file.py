"""EVENT_STATE_FILE: where a command tells the status of each item of its event (OPUS, CHECK_FILE).

Copies of a process have the same file: they take turns, and each begins with none.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from mirror.disk import told
from mirror.errors import LocalError
from server.opus.run_command import NotNowError, Signals

LONGEST = 1 << 20
"""Bytes of it that are read."""

_LOOK = 0.1


class StateFile(NamedTuple):
    """The file, and the descriptor of its lock, which the command inherits: while an orphan of it
    may still write the file, it is nobody else's turn."""

    path: Path
    lock: int


@contextmanager
def own_state_file(file: Path, signals: Signals) -> Iterator[StateFile | None]:
    """The file, removed, and this process's alone for the length of a `with`.

    Waits for its turn; None if the process is to end before that: the file is then another's.
    Raises NotNowError where it cannot be locked or removed: its directory may be back soon.
    """
    lock = file.with_name(f".{file.name}.lock")
    with _now(), told(lock):
        held = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        turn = False
        while not (turn or signals.reason):
            turn = _locked(lock, held)
            if not turn:
                signals.wait(_LOOK)
        if turn:
            with _now(), told(file):
                file.unlink(missing_ok=True)
        yield StateFile(file, held) if turn else None
    finally:
        os.close(held)


@contextmanager
def _now() -> Iterator[None]:
    try:
        yield
    except LocalError as error:
        raise NotNowError(str(error)) from None


def text_of(states: StateFile | None) -> str:
    """What the command has written; nothing if it has written nothing."""
    try:
        with open(states.path if states else os.devnull, "rb") as opened:
            return opened.read(LONGEST).decode("utf-8", "replace")
    except OSError:
        return ""


def _locked(lock: Path, held: int) -> bool:
    """Whether the lock could be had at once."""
    with _now(), told(lock):
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True
