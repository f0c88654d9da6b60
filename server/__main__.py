"""`python -m server COMMAND …`: the commands of the server half, loaded when they are called."""

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module

from mirror.disk import told
from mirror.errors import MirrorError
from server.faults import code_of


@dataclass(frozen=True, slots=True)
class Command:
    """Where a command's function (argv) -> exit status lives, and one line of what it does."""

    module: str
    summary: str
    function: str = "main"


COMMANDS = {
    "dsprodtool": Command("server.dsprodtool", "add, change and delete products"),
    "dsreg": Command("server.dsreg", "register filesets, and withdraw them"),
    "serve": Command("server.serve", "serve a Data Store over HTTP"),
    "user": Command("server.people.user", "add, change, delete and list users"),
    "network": Command(
        "server.people.network", "add, delete and list networks that may have products"
    ),
    "nginx-conf": Command("server.nginx", "print a configuration for nginx in front of serve"),
    "importrun": Command("server.runs.importrun", "read exported runs into the database"),
    "disttool": Command("server.distribute", "distribute finished runs: bundles and filesets"),
    "pubtool": Command("server.publish", "publish detections: clients, runs, attempts"),
    "publish_file": Command("server.publishing.publish_file", "do one publish run"),
    "publish": Command("server.publishing.unattended", "publish by itself what is finished"),
    "ppmops": Command("server.publishing.ppmops", "translate detections for IPP-MOPS"),
    "checkstatus": Command("server.distribution.checkstatus", "read what destinations report"),
    "addstatus": Command("server.addstatus", "report mirrored filesets in a status product"),
    "opus-check": Command(
        "server.opus.check", "check path, resource and stage files, and tell what they mean"
    ),
    "xpoll": Command("server.process", "be a process of a path: wait for events, run its command"),
    "start": Command("server.opus.manage", "start processes of a path on this host", "start"),
    "halt": Command("server.opus.manage", "ask processes to end", "halt"),
    "suspend": Command("server.opus.manage", "ask processes to begin nothing new", "suspend"),
    "resume": Command("server.opus.manage", "ask suspended processes to go on", "resume"),
    "status": Command("server.opus.status", "show the boards: datasets and processes"),
    "osf": Command("server.opus.osf", "make, list, change and remove entries of a blackboard"),
    "reap": Command("server.opus.reap", "return what dead processes have claimed"),
    "sample": Command("server.samples.sample", "build a sample Data Store, or add filesets to it"),
    "demo-opus": Command("server.samples.demo_opus", "show processes at work, and their boards"),
    "demo": Command("server.samples.demo", "show it all: serve a sample store and mirror it"),
}

USAGE = 2
SYSTEM = 2
INTERRUPTED = 130
"""What a shell says of a command that Ctrl-C has ended."""


def main(argv: list[str] | None = None) -> int:
    """Run the command that `argv` (default: the process's) names; returns the exit status."""
    _open_streams()
    arguments = sys.argv[1:] if argv is None else argv
    if arguments[:1] in (["-h"], ["--help"]):
        return _guarded("server", _help)
    if not arguments or arguments[0] not in COMMANDS:
        if arguments:
            _complain(f"server: no command {arguments[0]!r}")
        _complain(usage())
        return USAGE
    return run(arguments[0], arguments[1:])


def run(name: str, arguments: list[str]) -> int:
    """Run one command and turn what it raises into a line on standard error and a status."""

    def loaded() -> int:
        command = COMMANDS[name]
        status: int = getattr(import_module(command.module), command.function)(arguments)
        return status

    return _guarded(name, loaded)


def _guarded(name: str, work: Callable[[], int]) -> int:
    try:
        status = _flushed(work)
    except MirrorError as fault:
        _complain(f"{name}: {fault}")
        status = code_of(fault)
    except (OSError, UnicodeError) as fault:
        # The last resort, for a part of this machine that nobody has thought of.
        where = getattr(fault, "filename", None)
        reason = getattr(fault, "strerror", None) or fault
        _complain(f"{name}: {where}: {reason}" if where else f"{name}: {reason}")
        status = SYSTEM
    except KeyboardInterrupt:
        status = INTERRUPTED
    _give_up_output()
    return status


def _flushed(work: Callable[[], int]) -> int:
    """Do `work`, and be sure that what it printed before it ended the process is out."""
    try:
        return work()
    except SystemExit:
        with told("standard output"):
            sys.stdout.flush()
        raise


def _help() -> int:
    from server.command import show

    show(usage())
    return 0


def _open_streams() -> None:
    """Open what is closed of standard input, output and error on /dev/null.

    Else the next file to be opened would get the number of one, and be what others print into.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            # The lowest number that is free: with those before it open, its own.
            stream = open(os.devnull, mode, encoding="utf-8", errors="surrogateescape")  # noqa: SIM115
            os.set_inheritable(stream.fileno(), True)
            setattr(sys, name, stream)


def _complain(text: str) -> None:
    """Print to standard error; if nobody can read that, there is nobody to tell."""
    with suppress(OSError, UnicodeError):
        print(text, file=sys.stderr, flush=True)


def _give_up_output() -> None:
    """What standard output has refused is not tried again at the end of this process."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def installed() -> int:
    """Every installed command (pyproject.toml): the one that it was called as."""
    _open_streams()
    return main([os.path.basename(sys.argv[0]), *sys.argv[1:]])


def usage() -> str:
    """How to call the server half, with a line for each command."""
    lines = [f"  {name:<12} {command.summary}" for name, command in COMMANDS.items()]
    return "\n".join(("usage: python -m server COMMAND [OPTION…]", "", "commands:", *lines))


if __name__ == "__main__":
    sys.exit(main())
