"""`python -m server reap -p PATH`: return what dead processes of a path have claimed (OPUS, "The
blackboard").

What a process claimed on a host that sees another lock file than this one is left alone: nobody
here can know whether it lives (see server/opus/liveness.py).
"""

import argparse
import os
from collections.abc import Sequence

from formats.path_file import named_path_file, read_path_file
from server.blackboard import open_blackboard
from server.command import tell


def main(argv: Sequence[str]) -> int:
    """Reap the paths that `argv` names, and print a line for each item; returns 0.

    Nothing is printed where nothing was claimed by the dead. Raises ConfigError for a path that
    is not there or has no blackboard, LocalError where a file cannot get its name back.
    """
    parser = argparse.ArgumentParser(
        prog="reap", description="Return what dead processes have claimed, so others may take it."
    )
    parser.add_argument(
        "-p",
        dest="paths",
        metavar="PATH",
        action="append",
        required=True,
        help="a path, looked for along OPUS_DEFINITIONS_DIR, or a path file; may be repeated",
    )
    for name in parser.parse_args(argv).paths:
        paths = read_path_file(named_path_file(name), os.environ)
        with open_blackboard(paths, os.environ, create=False) as board:
            for line in board.reap():
                tell(line)
    return 0
