"""`python -m server COMMAND …`: the commands of the server half, loaded when they are called."""

import sys
from dataclasses import dataclass
from importlib import import_module

from mirror.errors import ConfigError, IntegrityError, LocalError, MirrorError


@dataclass(frozen=True, slots=True)
class Command:
    """Where a command's `main(argv) -> exit status` lives, and one line of what it does."""

    module: str
    summary: str


COMMANDS = {
    "dsprodtool": Command("server.dsprodtool", "add, change and delete products"),
    "dsreg": Command("server.dsreg", "register filesets, and withdraw them"),
    "serve": Command("server.serve", "serve a Data Store over HTTP"),
    "user": Command("server.user", "add, change, delete and list users"),
    "network": Command("server.network", "add, delete and list networks that may have products"),
    "nginx-conf": Command("server.nginx", "print a configuration for nginx in front of serve"),
    "sample": Command("server.sample", "build a sample Data Store, or add filesets to it"),
    "demo": Command("server.demo", "show it all: serve a sample store and mirror it"),
}

USAGE = 2
INTERRUPTED = 130
"""What a shell says of a command that Ctrl-C has ended."""

# The exit codes of the original tools (PROTOCOL section 4).
_EXITS: tuple[tuple[type[MirrorError], int], ...] = (
    (ConfigError, 3),
    (LocalError, 2),
    (IntegrityError, 5),
    (MirrorError, 1),
)


def main(argv: list[str] | None = None) -> int:
    """Run the command that `argv` (default: the process's) names; returns the exit status."""
    arguments = sys.argv[1:] if argv is None else argv
    if arguments[:1] in (["-h"], ["--help"]):
        print(usage())
        return 0
    if not arguments or arguments[0] not in COMMANDS:
        if arguments:
            print(f"server: no command {arguments[0]!r}", file=sys.stderr)
        print(usage(), file=sys.stderr)
        return USAGE
    return run(arguments[0], arguments[1:])


def run(name: str, arguments: list[str]) -> int:
    """Run one command and turn what it raises into a line on standard error and a status."""
    try:
        status: int = import_module(COMMANDS[name].module).main(arguments)
    except MirrorError as fault:
        print(f"{name}: {fault}", file=sys.stderr)
        return next(code for kind, code in _EXITS if isinstance(fault, kind))
    except KeyboardInterrupt:
        return INTERRUPTED
    return status


def dsprodtool() -> int:
    """The installed command of this name."""
    return run("dsprodtool", sys.argv[1:])


def dsreg() -> int:
    """The installed command of this name."""
    return run("dsreg", sys.argv[1:])


def usage() -> str:
    """How to call the server half, with a line for each command."""
    lines = [f"  {name:<12} {command.summary}" for name, command in COMMANDS.items()]
    return "\n".join(("usage: python -m server COMMAND [OPTION…]", "", "commands:", *lines))


if __name__ == "__main__":
    sys.exit(main())
