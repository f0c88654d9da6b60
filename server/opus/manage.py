"""`halt`, `suspend`, `resume` and `start`: what the process manager does with processes (OPUS,
"The blackboard").

The first three ask, on the board, processes on any host; each does as it is asked once what it
has in work is finished. `start` runs the TASK of processes on this host, on their own, with what
they print in a log.
"""

import argparse
import math
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from formats.path_file import OBSERVATIONS, PathFile, named_path_file, read_path_file
from formats.resolution import resolve
from formats.resource_file import (
    ResourceFile,
    find_resource_file,
    read_resource_file,
    split_command,
)
from mirror.disk import told
from mirror.errors import ConfigError, LocalError
from server.blackboard import Blackboard, Process, open_blackboard
from server.command import tell
from server.opus.overview import opened
from server.opus.run_command import PASSWORD_FD
from server.store_lock import ConflictError

ENDED = ("halted", "absent")
"""States of processes that do nothing any more."""

DONE = {"halt": ENDED, "suspend": ("suspended", *ENDED), "resume": ("idle", "busy", "iowait")}
"""For each wish the states in which there is nothing left to be done."""

JOIN = 20.0
"""Seconds in which a process that was started must be on the board."""

MOST = 1000
"""Copies of a process that may be started at once."""


LONGEST_WAIT = 7 * 86400
"""Seconds."""

_LOOK = 0.1


def halt(argv: Sequence[str]) -> int:
    """Ask processes to end; returns 0."""
    return _wish("halt", "Ask processes to finish what they have in work, and end.", argv)


def suspend(argv: Sequence[str]) -> int:
    """Ask processes to begin nothing new; returns 0."""
    return _wish("suspend", "Ask processes to begin nothing new until they are resumed.", argv)


def resume(argv: Sequence[str]) -> int:
    """Ask suspended processes to go on; returns 0."""
    return _wish("resume", "Ask suspended processes to go on.", argv)


def start(argv: Sequence[str]) -> int:
    """Start processes on this host; returns 0 when all of them are on the board."""
    options = _start_parser().parse_args(argv)
    environ = os.environ
    paths = read_path_file(named_path_file(options.path, environ), environ)
    wanted = copies(options.processes)
    resources = {name: _resource(name, paths, environ) for name in wanted}
    groups = [(resources[name], count) for name, count in wanted.items()]
    passwords = ask_passwords([resource for resource, _ in groups], environ)
    with open_blackboard(paths, environ) as board:
        for resource, count in groups:
            _start_group(board, paths, resource, count, passwords)
    return 0


# Halt, suspend, resume


def _wish(wish: str, summary: str, argv: Sequence[str]) -> int:
    options = _wish_parser(wish, summary).parse_args(argv)
    paths = read_path_file(named_path_file(options.path, os.environ), os.environ)
    with opened(paths, os.environ) as board:
        chosen = chosen_processes(
            board.processes() if board else [], options.process, options.holders, paths.name
        )
        assert board
        over = [one for one in chosen if wish == "resume" and one.state in ENDED]
        asked = [one for one in chosen if one.state not in DONE[wish] and one not in over]
        for process in asked:
            board.wish(process.holder, wish)
            tell(f"{wish}: {_named(process)} was asked")
        for process in chosen:
            if process in over:
                tell(f"{wish}: {_named(process)} has ended, {process.state}; start another one")
            elif process not in asked:
                tell(f"{wish}: {_named(process)} is {process.state}")
        if len(over) == len(chosen):
            raise ConflictError(f"path {paths.name}: none of these processes is alive")
        if options.wait is not None and asked:
            _await(board, wish, {process.holder for process in asked}, options.wait)
    return 0


def chosen_processes(
    processes: Sequence[Process], name: str | None, holders: Sequence[int], path: str
) -> list[Process]:
    """The processes that are meant: those of a name, those of these numbers, or all that live.

    Raises ConfigError where a name or a number means none.
    """
    folded = name.casefold() if name is not None else None
    named = [one for one in processes if folded in (None, one.name.casefold())]
    alive = [one for one in named if one.state not in ENDED]
    if not holders:
        if not alive:
            what = f"no process {name}" if name is not None else "no process"
            raise ConfigError([f"path {path}: {what} is alive; see: status -p {path} --processes"])
        return alive
    by_holder = {one.holder: one for one in named}
    problems = [
        f"path {path}: no process {name or ''} of number {holder}".replace("  ", " ")
        for holder in holders
        if holder not in by_holder
    ]
    if problems:
        raise ConfigError(problems)
    return [by_holder[holder] for holder in dict.fromkeys(holders)]


def _await(board: Blackboard, wish: str, holders: set[int], seconds: float) -> None:
    """Wait until they have done as asked. Raises LocalError if they have not in time."""
    until = time.monotonic() + seconds
    # Who dies over it does nothing any more.
    enough = {*DONE[wish], *ENDED}
    while late := [
        one for one in board.processes() if one.holder in holders and one.state not in enough
    ]:
        if time.monotonic() >= until:
            names = ", ".join(map(_named, late))
            raise LocalError(f"{wish}: asked, but not done after {seconds:g} s: {names}")
        time.sleep(_LOOK)


def _named(process: Process) -> str:
    return f"{process.name} {process.holder} (pid {process.pid} on {process.host})"


# Start


@dataclass(frozen=True, slots=True)
class Started:
    """A process that was started: `since` is where in `log` its own lines begin."""

    child: "subprocess.Popen[bytes]"
    log: Path
    since: int


def copies(words: Sequence[str]) -> dict[str, int]:
    """How many copies of each process, from words `PROC [N] [PROC [N]]…`. Raises ConfigError."""
    wanted: dict[str, int] = {}
    problems = []
    last: str | None = None
    for word in words:
        if not (word.isascii() and word.isdecimal()):
            wanted[word] = wanted.get(word, 0) + 1
            last = word
        elif last is None or not 1 <= (count := int(word.lstrip("0")[:9] or 0)) <= MOST:
            problems.append(f"PROC N expected, N copies from 1 to {MOST}, not {word}")
        else:
            wanted[last] += count - 1
            last = None
    if problems:
        raise ConfigError(problems)
    return wanted


def task_of(resource: ResourceFile, paths: PathFile, program: str | None) -> list[str]:
    """The words of a process's TASK with $PATH_FILE replaced.

    `program`: where the command xpoll is; None: run as a part of this program. Raises ConfigError
    for a TASK that cannot be resolved now.
    """
    words = split_command(resolve(resource, paths, "TASK").value)
    words = [
        word.replace("${PATH_FILE}", "$PATH_FILE").replace("$PATH_FILE", str(paths.path))
        for word in words
    ]
    if words[0] != "xpoll":
        return words
    own = [program] if program else [sys.executable, "-m", "server", "xpoll"]
    return [*own, *words[1:]]


def log_of(paths: PathFile, process: str) -> Path:
    """Where what a process prints goes: PATH-PROC.log in OPUS_HOME_DIR, if that is set, else
    beside the blackboard."""
    home = paths.environ.get("OPUS_HOME_DIR") or paths.value(OBSERVATIONS)
    return Path(home) / f"{paths.name}-{process}.log"


def ask_passwords(
    resources: Sequence[ResourceFile], environ: Mapping[str, str]
) -> dict[str, bytes]:
    """The password of each prompt, asked for once; the answers go nowhere but to the processes.

    Without a terminal all of them are what the descriptor named by OPUS_PASSWORD_FD holds. Raises
    ConfigError if there is neither.
    """
    prompts = {one.password_prompt for one in resources if one.password_prompt is not None}
    if not prompts:
        return {}
    given = environ.get(PASSWORD_FD)
    if given is not None:
        answer = _read_password(given)
        return dict.fromkeys(prompts, answer)
    if not sys.stdin.isatty():
        raise ConfigError(
            [f"a password is asked for: start it at a terminal, or name by {PASSWORD_FD} a"
             " descriptor that has it"]
        )  # fmt: skip
    from getpass import getpass

    try:
        return {prompt: getpass(f"{prompt or 'Password'}: ").encode() for prompt in sorted(prompts)}
    except EOFError:
        raise ConfigError(["a password is asked for, and none was given"]) from None


def _read_password(descriptor: str) -> bytes:
    try:
        with open(int(descriptor), "rb") as opened_file:
            return opened_file.read(4096).rstrip(b"\r\n")
    except (OSError, ValueError) as error:
        raise ConfigError(
            [f"{PASSWORD_FD}: a descriptor that can be read expected, not {descriptor!r}: {error}"]
        ) from None


def _resource(name: str, paths: PathFile, environ: Mapping[str, str]) -> ResourceFile:
    file = find_resource_file(name, environ, paths.path.parent)
    return read_resource_file(file, paths, environ)


def _start_group(
    board: Blackboard,
    paths: PathFile,
    resource: ResourceFile,
    count: int,
    passwords: Mapping[str, bytes],
) -> None:
    words = task_of(resource, paths, shutil.which("xpoll"))
    prompt = resource.password_prompt
    password = passwords[prompt] if prompt is not None else None
    log = log_of(paths, resource.name)
    # A number of the system may be that of one who died long ago; a number of the board is not.
    there = board.processes()
    before = {one.holder for one in there}
    running = sum(one.name == resource.name and one.state not in ENDED for one in there)
    if running:
        what = "one of them runs" if running == 1 else f"{running} of them run"
        tell(f"{resource.name} on {paths.name}: {what} already")
    started = [_run(words, paths, log, password) for _ in range(count)]
    for one in started:
        where = _joined(board, one, before) if resource.external else f"pid {one.child.pid}"
        tell(f"started {resource.name} on {paths.name}: {where}, log {one.log}")


def _run(words: list[str], paths: PathFile, log: Path, password: bytes | None) -> Started:
    """Start a process that outlives this one, its terminal and its signals."""
    environ = {**paths.environ, "PATH_FILE": str(paths.path)}
    environ.pop(PASSWORD_FD, None)
    handed: tuple[int, ...] = ()
    with ExitStack() as held:
        with told(log):
            log.parent.mkdir(parents=True, exist_ok=True)
            output = held.enter_context(log.open("ab"))
        if password is not None:
            handed = (_piped(password, held.callback),)
            environ[PASSWORD_FD] = str(handed[0])
        since = os.fstat(output.fileno()).st_size
        try:
            child = subprocess.Popen(
                words, env=environ, stdin=subprocess.DEVNULL, stdout=output,
                stderr=subprocess.STDOUT, start_new_session=True, pass_fds=handed,
            )  # fmt: skip
        except OSError as error:
            raise LocalError(f"TASK {words[0]}: {error.strerror}") from None
    return Started(child, log, since)


def _piped(password: bytes, later: Callable[..., object]) -> int:
    """A descriptor from which the password can be read once; closed here `later`."""
    reading, writing = os.pipe()
    later(os.close, reading)
    # Less than a pipe holds: nobody has to read meanwhile.
    os.write(writing, password[:4096])
    os.close(writing)
    return reading


def _joined(board: Blackboard, started: Started, before: set[int]) -> str:
    """Wait until the process is on the board. Raises LocalError if it ends before, or takes
    too long."""
    child = started.child
    until = time.monotonic() + JOIN
    while True:
        status = child.poll()
        for process in board.processes():
            ours = process.pid == child.pid and process.host == board.host
            if ours and process.holder not in before:
                return f"holder {process.holder}, pid {child.pid}"
        if status is not None:
            raise LocalError(
                f"pid {child.pid} ended at once, exit status {status}{_last_words(started)};"
                f" log {started.log}"
            )
        if time.monotonic() >= until:
            raise LocalError(
                f"pid {child.pid} runs but is not on the board after {JOIN:g} s; log {started.log}"
            )
        time.sleep(_LOOK)


def _last_words(started: Started) -> str:
    with told(started.log), started.log.open("rb") as log:
        log.seek(started.since)
        lines = log.read(65536).decode("utf-8", "replace").strip().splitlines()
    return f": {lines[-1]}" if lines else ""


# Options


def _wish_parser(wish: str, summary: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=wish, allow_abbrev=False, description=summary,
        epilog="Exit status: 0 they were asked, and with --wait they have done it; 1 none of them"
        " lives any more; 2 usage, or with --wait they have not done it in time; 3 there is no"
        " such path or process.",
    )  # fmt: skip
    add = parser.add_argument
    add("-p", dest="path", required=True, metavar="PATH", help="the path, by name or file")
    add("-r", dest="process", metavar="PROC",
        help="processes of this name (default: all of the path)")  # fmt: skip
    add("holders", nargs="*", type=int, metavar="HOLDER",
        help="processes of these numbers, as status shows them")  # fmt: skip
    add("--wait", type=_seconds, metavar="SECONDS",
        help="until they have done it, at most so long")  # fmt: skip
    return parser


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= LONGEST_WAIT:
        raise argparse.ArgumentTypeError(f"seconds from 0 to {LONGEST_WAIT} expected, not {text}")
    return value


def _start_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="start", allow_abbrev=False,
        description="Start processes on this host; they go on when this command has ended.",
        epilog="Exit status: 0 all of them are on the board; 2 usage, or one has ended at once, or"
        " is not on the board in time; 3 a path or resource file is refused.",
    )  # fmt: skip
    add = parser.add_argument
    add("path", metavar="PATH", help="the path, by name or file")
    add("processes", nargs="+", metavar="PROC [N]",
        help="a process, and how many copies of it (default: 1)")  # fmt: skip
    return parser
