"""Run a command and tell what it cost: `python -I -S benchmarks/launch.py RESULT COMMAND…`.

A process of its own, because the system counts to a child's memory what its parent had when it
began: here that is a bare interpreter, and no row of the table can be below its few MiB. Writes
status, wall seconds, CPU seconds and KiB of the largest process, of the command and of all its
descendants that were waited for.
"""

import os
import sys
import time


def main() -> None:
    """Run, wait, write."""
    result, *command = sys.argv[1:]
    start = time.monotonic()
    child = os.fork()
    if child == 0:
        try:
            os.execvp(command[0], command)
        finally:
            os._exit(127)
    _, status, used = os.wait4(child, 0)
    wall = time.monotonic() - start
    with open(result, "w") as file:
        code = os.waitstatus_to_exitcode(status)
        print(code, wall, used.ru_utime + used.ru_stime, used.ru_maxrss, file=file)


if __name__ == "__main__":
    main()
