"""Running the command of an event: without a shell, ended when the process is asked to end, and
never outliving its claim.

A command inherits the descriptor by which the board sees that its process lives. So while an
orphan of a killed process, or anything that it has started, still works, the items it works on
are not returned, and nobody else gets them; the system asks it to end (PR_SET_PDEATHSIG). A
service that a command leaves behind should close what it has inherited.
"""

import ctypes
import errno
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Self

from mirror.errors import LocalError
from server.opus.outcome import NOT_STARTED
from server.opus.process_log import ProcessLog

PASSWORD_FD = "OPUS_PASSWORD_FD"
"""The variable that holds the number of the descriptor from which the password is read."""

KILL_AFTER = 10.0
"""Seconds that a command has to end when it is asked to."""

_NOT_NOW = (errno.EAGAIN, errno.ENOMEM, errno.ENFILE, errno.EMFILE, errno.E2BIG)
_LOOK = 0.05
_MOMENT = 5.0
_HEARD = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)
_PR_SET_PDEATHSIG = 1


class NotNowError(LocalError):
    """The system is too busy to start a command: to be tried again."""


class Signals:
    """SIGTERM and SIGINT as a request to end, for the length of a `with`; and waiting for them.

    `reason`: the name of the signal, None before there was one.
    """

    def __init__(self) -> None:
        self.reason: str | None = None

    def __enter__(self) -> Self:
        self._ear, self._mouth = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._wakeup = signal.set_wakeup_fd(self._mouth, warn_on_full_buffer=False)
        self._before = {number: signal.signal(number, self._hear) for number in _HEARD}
        # Whoever starts this may have them blocked, and a blocked signal wakes nobody.
        self._mask = signal.pthread_sigmask(signal.SIG_UNBLOCK, _HEARD)
        return self

    def __exit__(self, *error: object) -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup)
        os.close(self._ear)
        os.close(self._mouth)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if number != signal.SIGCHLD:
            self.reason = signal.Signals(number).name

    def wait(self, seconds: float) -> None:
        """Wait for a signal, that of a command's end too, at most so long."""
        select.select([self._ear], [], [], seconds)
        with suppress(BlockingIOError):
            while os.read(self._ear, 512):
                pass


def run_command(
    words: Sequence[str],
    environ: Mapping[str, str],
    log: ProcessLog,
    signals: Signals,
    alive: Sequence[int] = (),
    password: str | None = None,
) -> int | None:
    """Run a command and return its exit status, negative for the signal that has ended it.

    None if the process was asked to end: the command and what it has started are ended by then.
    A command that cannot be started has status 127, and the log says why. `alive`: descriptors
    that it inherits. Raises NotNowError where the system cannot start anything now, or not with so
    many items.
    """
    if signals.reason:
        return None
    with log.output() as output, _handed(password) as secret:
        given = dict(environ)
        if secret is not None:
            given[PASSWORD_FD] = str(secret)
        try:
            process = subprocess.Popen(
                list(words), env=given, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                start_new_session=True, preexec_fn=_dies_with_parent(),
                pass_fds=(*alive, *(() if secret is None else (secret,))),
            )  # fmt: skip
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            if isinstance(error, OSError) and error.errno in _NOT_NOW:
                raise NotNowError(f"{words[0]}: cannot be started: {error.strerror}") from None
            log.say(f"{words[0]}: cannot be started: {getattr(error, 'strerror', None) or error}")
            return NOT_STARTED
    while process.poll() is None:
        if signals.reason:
            _end(process, signals)
            return None
        signals.wait(_MOMENT)
    return process.returncode


def _end(process: "subprocess.Popen[bytes]", signals: Signals) -> None:
    """Ask the command and everything it has started to end; kill what is left after a time."""
    until = time.monotonic() + KILL_AFTER
    _signal_group(process.pid, signal.SIGTERM)
    while time.monotonic() < until:
        if process.poll() is not None and not _signal_group(process.pid, 0):
            return
        signals.wait(_LOOK)
    _signal_group(process.pid, signal.SIGKILL)
    process.wait()


def _signal_group(group: int, number: int) -> bool:
    """Send a signal to a group; whether there is one."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


@contextmanager
def _handed(password: str | None) -> Iterator[int | None]:
    """A descriptor from which the password can be read once, and nothing else."""
    if password is None:
        yield None
        return
    ear, mouth = os.pipe2(os.O_CLOEXEC)
    try:
        with os.fdopen(mouth, "wb") as writer:
            writer.write(os.fsencode(password))
        yield ear
    finally:
        os.close(ear)


def _dies_with_parent() -> Callable[[], None]:
    """What is done between fork and exec: the end of this process ends the command."""
    prctl = ctypes.CDLL(None).prctl
    parent = os.getpid()

    def arrange() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(NOT_STARTED)

    return arrange
