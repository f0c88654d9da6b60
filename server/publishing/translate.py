"""Translating detections into a client's format by a command of the site (site block TRANSLATE).

The command gets the input files and, last, the output file as arguments, and never goes through a
shell: whatever characters a path has, it is one argument.
"""

import errno
import os
import signal
import stat
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from mirror.disk import told
from mirror.errors import ConfigError, MirrorError
from server.faults import PROGRAM

_KNOWN = range(1, 7)
_TAIL = 8192
_NOT_ITS_FAULT = (errno.E2BIG, errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE)


class TranslationError(MirrorError):
    """The command did not translate. `code`: as what it is recorded.

    The command's own exit status where that is one of the original tools' codes (1 to 6), else
    PROGRAM.
    """

    def __init__(self, message: str, code: int = PROGRAM) -> None:
        super().__init__(message)
        self.code = code


def translate(
    command: Sequence[str], inputs: Sequence[Path], output: Path, scratch: Path, said: BinaryIO
) -> None:
    """Run `command` INPUT… OUTPUT, and wait for its end, however long it takes.

    `said`: a file that takes what it prints; `scratch`: the directory for temporary files of its
    own. `output` is not there before. Raises ConfigError where there is no such command,
    TranslationError with the last line of what it said where it fails or leaves no output. Should
    this be interrupted, the command and what it has started end too.
    """
    said.flush()
    begin = said.seek(0, os.SEEK_END)
    status = _run([*command, *map(str, inputs), str(output)], scratch, said)
    if status:
        last = _last_line(said, begin)
        reason = f"signal {-status}" if status < 0 else f"exit status {status}"
        code = status if status in _KNOWN else PROGRAM
        raise TranslationError(f"{command[0]}: {reason}: {last}", code)
    _check(command[0], output)


def _run(words: Sequence[str], scratch: Path, said: BinaryIO) -> int:
    try:
        process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT,
            env={**os.environ, "TMPDIR": str(scratch)},
            # Ctrl-C on our terminal lets work in hand finish.
            start_new_session=True,
        )  # fmt: skip
    except OSError as error:
        if error.errno in _NOT_ITS_FAULT:
            raise TranslationError(f"{words[0]}: could not be started: {error.strerror}") from None
        raise ConfigError(
            [f"TRANSLATE: {words[0]}: {error.strerror}; name a command that can be run"]
        ) from None
    try:
        return process.wait()
    except BaseException:
        _end(process)
        raise


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End a command that is still running, with all it has started."""
    # Waited for only after this: the number is still its own.
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _last_line(said: BinaryIO, begin: int) -> str:
    """The last line with anything in it of what was printed since `begin`."""
    end = said.seek(0, os.SEEK_END)
    said.seek(max(begin, end - _TAIL))
    lines = said.read().decode("utf-8", "replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")


def _check(command: str, output: Path) -> None:
    with told(output):
        try:
            seen = output.lstat()
        except FileNotFoundError:
            raise TranslationError(f"{command}: ended well, but left no {output.name}") from None
    if not stat.S_ISREG(seen.st_mode) or not seen.st_size:
        raise TranslationError(f"{command}: ended well, but {output.name} is empty, or no file")
