"""Translating detections into a client's format by a command of the site (site block TRANSLATE).

The command gets the input files and, last, the output file as arguments, and never goes through a
shell: whatever characters a path has, it is one argument. It has a time limit, and it ends with
the process that called it, however that ends.
"""

import argparse
import errno
import os
import signal
import stat
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from mirror.disk import told
from mirror.errors import ConfigError, MirrorError
from server.faults import PROGRAM, TIMEOUT

LIMIT = 3600.0
"""Seconds that a translation may take, if nothing else is said."""

GRACE = 5.0
"""Seconds between the request to end and the end by force."""

_KNOWN = range(1, 7)
_TAIL = 8192
# Told that all is done, or to kill its group once nobody is left who could tell it so.
_WATCH = "trap '' TERM; read -r word || kill -s KILL 0"
_NOT_ITS_FAULT = (errno.E2BIG, errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE)


class TranslationError(MirrorError):
    """The command did not translate. `code`: as what it is recorded.

    The command's own exit status where that is one of the original tools' codes (1 to 6), TIMEOUT
    where it took too long, else PROGRAM.
    """

    def __init__(self, message: str, code: int = PROGRAM) -> None:
        super().__init__(message)
        self.code = code


def add_limit_option(parser: argparse.ArgumentParser) -> None:
    """Let a command take --translate-timeout SECONDS, as `translate_timeout`."""
    parser.add_argument(
        "--translate-timeout", type=_seconds, default=LIMIT, metavar="SECONDS",
        help="end a translation that takes longer, fault 6 (default: %(default)g)",
    )  # fmt: skip


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0.1 <= value < 1e9:
        raise argparse.ArgumentTypeError(f"0.1 seconds or more expected, not {text!r}")
    return value


def translate(
    command: Sequence[str],
    inputs: Sequence[Path],
    output: Path,
    scratch: Path,
    said: BinaryIO,
    limit: float = LIMIT,
) -> None:
    """Run `command` INPUT… OUTPUT, and wait for its end, at most `limit` seconds.

    `said`: a file that takes what it prints; `scratch`: the directory for temporary files of its
    own. `output` is not there before. Raises ConfigError where there is no such command,
    TranslationError with the last line of what it said where it fails, takes too long or leaves no
    output. Should this be interrupted, or its process killed, the command and what it has started
    end too.
    """
    said.flush()
    begin = said.seek(0, os.SEEK_END)
    try:
        status = _run([*command, *map(str, inputs), str(output)], scratch, said, limit)
    except subprocess.TimeoutExpired:
        raise TranslationError(
            f"{command[0]}: took longer than {limit:g} s and was ended (--translate-timeout allows"
            f" more); it said last: {_last_line(said, begin)}",
            TIMEOUT,
        ) from None
    if status:
        last = _last_line(said, begin)
        reason = f"signal {-status}" if status < 0 else f"exit status {status}"
        code = status if status in _KNOWN else PROGRAM
        raise TranslationError(f"{command[0]}: {reason}: {last}", code)
    _check(command[0], output)


def _run(words: Sequence[str], scratch: Path, said: BinaryIO, limit: float) -> int:
    """Run a command in a group of its own; raises TimeoutExpired when it has been ended."""
    with _watched(words[0]) as group:
        try:
            process = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT,
                env={**os.environ, "TMPDIR": str(scratch)}, process_group=group,
            )  # fmt: skip
        except OSError as error:
            if error.errno in _NOT_ITS_FAULT:
                raise _not_started(words[0], error) from None
            raise ConfigError(
                [f"TRANSLATE: {words[0]}: {error.strerror}; name a command that can be run"]
            ) from None
        try:
            return process.wait(limit)
        except BaseException as error:
            _end(process, group, GRACE if isinstance(error, subprocess.TimeoutExpired) else 0)
            raise


def _end(process: "subprocess.Popen[bytes]", group: int, grace: float) -> None:
    """End a command that is still running, with all it has started."""
    try:
        if grace:
            os.killpg(group, signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                process.wait(grace)
    finally:
        os.killpg(group, signal.SIGKILL)
        process.wait()


@contextmanager
def _watched(command: str) -> Iterator[int]:
    """A process group that ends with this process, as long as the block lasts; yields its number.

    A shell leads it and waits at the end of a pipe that we alone can write to. Ctrl-C on our
    terminal does not reach the group: it lets work in hand finish.
    """
    try:
        watch = subprocess.Popen(
            ["/bin/sh", "-c", _WATCH], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, process_group=0, bufsize=0,
        )  # fmt: skip
    except OSError as error:
        raise _not_started(command, error) from None
    with watch:
        try:
            # Not waited for before the block ends: the number stays its own.
            yield watch.pid
        finally:
            # It may have been killed with its group.
            with suppress(BrokenPipeError):
                assert watch.stdin is not None
                watch.stdin.write(b"\n")


def _not_started(command: str, error: OSError) -> TranslationError:
    return TranslationError(f"{command}: could not be started: {error.strerror}")


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
