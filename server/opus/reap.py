"""`python -m server reap -p PATH`: return what dead processes of a path have claimed (OPUS, "The
blackboard").

What a process claimed on a host that sees another lock file than this one is told, and left alone
unless --force says that it is dead: nobody here can know (see server/opus/liveness.py).
"""

import argparse
import os
from collections.abc import Sequence

from formats.path_file import named_path_file, read_path_file
from mirror.errors import ConfigError
from server.blackboard import open_blackboard
from server.command import tell
from server.modes import whole_number

_STATUSES = (
    "Exit status: 0 done, whether there was anything to return or not; 1 --force names a process"
    " that lives; 2 usage, or this machine or the database is in the way; 3 a path file is refused,"
    " or there is no blackboard or no such process."
)


def main(argv: Sequence[str]) -> int:
    """Reap the paths that `argv` names, and print a line for each item; returns 0.

    Nothing is printed where nothing was claimed by the dead; what cannot be returned now is told.
    Raises ConfigError for a path that is not there or has no blackboard, ConflictError for a
    process that is to be taken for dead and lives.
    """
    options = _parser().parse_args(argv)
    if options.force is not None and len(options.paths) > 1:
        raise ConfigError(["reap: --force names a process of one path, so one -p goes with it"])
    for name in options.paths:
        paths = read_path_file(named_path_file(name), os.environ)
        with open_blackboard(paths, os.environ, create=False) as board:
            for line in (*board.reap(options.force), *board.unreturned()):
                tell(line)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="reap",
        description="Return what dead processes have claimed, so others may take it.",
        epilog=_STATUSES,
    )
    parser.add_argument(
        "-p",
        dest="paths",
        metavar="PATH",
        action="append",
        required=True,
        help="a path, looked for along OPUS_DEFINITIONS_DIR, or a path file; may be repeated",
    )
    parser.add_argument(
        "--force",
        metavar="HOLDER",
        type=whole_number,
        help="a process of which nobody here can say whether it lives: it is dead",
    )
    return parser
