"""`xpoll -p PATH -r PROC`: wait for time, files or entries of the blackboard, run the command of
the process for each event, and apply what its exit status means (OPUS, "Process resource files";
seed 004).

The process looks for an event every POLLING_TIME seconds, and does not wait while there is one.
What it says, and what its command prints, goes to PATH-PROC.log in OPUS_HOME_DIR, without that to
standard error. SIGTERM and SIGINT end it in order: the command is asked to end (and killed after
10 s), and its items go back, or get OSF_ABSENT or FILE_ABSENT. What a killed one held is returned
when the next xpoll of its path starts, or by reap, as soon as its command has ended.

A PASSWORD is asked for once, on the terminal, or read to the end from the descriptor whose number
OPUS_PASSWORD_FD holds; the command reads it from the descriptor of its own OPUS_PASSWORD_FD.

Exit status: 0 ended in order; 1 it went absent: too many errors, or a fatal exit status (100 to
127) of the command; 2 usage, or this machine is in the way; 3 something in a path or resource file
is refused.
"""

import argparse
import os
import shlex
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime

from formats.path_file import PathFile, named_path_file, read_path_file
from formats.resolution import environment_of
from formats.resource_file import ResourceFile, find_resource_file, read_resource_file
from formats.stage_file import read_stage_file
from mirror.errors import ConfigError, LocalError
from server.blackboard import Blackboard, open_blackboard
from server.command import about
from server.opus.columns import check_columns
from server.opus.doubts import HOME, homeless_state_file, unbound_directories
from server.opus.events import Now
from server.opus.loop import Process
from server.opus.process_log import log_of
from server.opus.run_command import PASSWORD_FD, Signals

LONGEST_PASSWORD = 4096
"""Bytes; less than a pipe takes at once."""


@dataclass(frozen=True, slots=True)
class Task:
    """A process of a path, and the environment it was started in."""

    paths: PathFile
    resource: ResourceFile
    environ: Mapping[str, str]


def main(argv: Sequence[str]) -> int:
    """Be the process that `argv` names, until it is to end; returns the exit status."""
    options = _parser().parse_args(argv)
    task = read_task(options.path, options.process, os.environ)
    password = _password(task)
    words = ["xpoll", *argv]
    with Signals() as signals, _board(task, signals) as board:
        name, path, home = task.resource.name, task.paths.name, _home(task)
        with log_of(home, path, name, 0).opened():
            pass  # a log that cannot be written is told now, and to whoever starts the process
        holder = board.join(name, path, socket.gethostname(), os.getpid(), shlex.join(words))
        log = log_of(home, path, name, holder)
        with board.hold_alive(holder):
            process = Process(
                task.resource, task.paths, task.environ, board, holder, log, signals, password,
                once=options.once, clock=_now,
            )  # fmt: skip
            return process.run()


def _board(task: Task, signals: Signals) -> AbstractContextManager[Blackboard]:
    """The blackboard of the path; nobody waits long for it who is to end."""
    return open_blackboard(task.paths, task.environ, ended=lambda: signals.reason is not None)


def read_task(path: str, process: str, environ: Mapping[str, str]) -> Task:
    """Read the path file, by name or file, and the resource file of a process on it.

    Raises ConfigError with every problem of them, if TASK does not run xpoll, and for directories
    that would be wherever it is started.
    """
    # The command is told where the file is, and may run elsewhere.
    paths = read_path_file(os.path.abspath(named_path_file(path, environ)), environ)
    found = find_resource_file(process, environ, paths.path.parent)
    resource = read_resource_file(found, paths)
    if not resource.external:
        task = resource.find("TASK")
        where = resource.where(task) if task else f"{found}: TASK"
        raise ConfigError(
            [f"{where}: < xpoll -p $PATH_FILE -r {resource.name} > expected; it starts a program"
             " that waits for events by itself"]
        )  # fmt: skip
    environment_of(resource, paths)
    problems = unbound_directories(resource, paths, environ)
    problems += homeless_state_file(resource, paths, environ)
    problems += check_columns(resource, read_stage_file(paths.stage_file()))[0]
    if problems:
        raise ConfigError(problems)
    return Task(paths, resource, environ)


def _home(task: Task) -> str | None:
    """OPUS_HOME_DIR as the command sees it."""
    return environment_of(task.resource, task.paths).get(HOME) or task.environ.get(HOME) or None


def _password(task: Task) -> str | None:
    """The password, if the resource file asks for one. Raises ConfigError where nobody gives it."""
    prompt, given = task.resource.password_prompt, task.environ.get(PASSWORD_FD)
    if prompt is None:
        return None
    if given:
        return _read_password(given)
    if sys.stdin is None or not sys.stdin.isatty():
        raise ConfigError(
            [f"{task.resource.path}: PASSWORD: a terminal to ask for it expected, or the number of"
             f" a descriptor to read it from in the environment variable {PASSWORD_FD}"]
        )  # fmt: skip
    import getpass

    try:
        return getpass.getpass(f"{prompt or f'Password for {task.resource.name}'}: ")
    except EOFError:
        raise ConfigError([f"{task.resource.path}: PASSWORD: none was given"]) from None


def _read_password(given: str) -> str:
    """Read a descriptor to its end; a line end at the end is no part of the password."""
    try:
        with os.fdopen(int(given), "rb") as file:
            secret = file.read(LONGEST_PASSWORD + 1)
    except (ValueError, OverflowError):
        raise ConfigError(
            [f"{PASSWORD_FD}: a descriptor's number expected, not {given!r}"]
        ) from None
    except OSError as error:
        raise LocalError(f"{PASSWORD_FD}: descriptor {given}: {error.strerror}") from None
    if len(secret) > LONGEST_PASSWORD:
        raise ConfigError(
            [f"{PASSWORD_FD}: a password of at most {LONGEST_PASSWORD} bytes expected"]
        )
    return os.fsdecode(secret.removesuffix(b"\n").removesuffix(b"\r"))


def _now() -> Now:
    return Now(datetime.now(), time.monotonic())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="xpoll", allow_abbrev=False, description=about(__doc__),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add = parser.add_argument
    add("-p", dest="path", metavar="PATH", required=True,
        help="the name of a path, looked for along OPUS_DEFINITIONS_DIR, or its file")  # fmt: skip
    add("-r", dest="process", metavar="PROC", required=True,
        help="the process: PROC.resource, looked for along OPUS_DEFINITIONS_DIR, then beside the"
        " path file")  # fmt: skip
    add("--once", action="store_true",
        help="handle every event that is due now, then end; a START_TIME that has come today is"
        " due, a DELTA_TIME alone is not")  # fmt: skip
    return parser
