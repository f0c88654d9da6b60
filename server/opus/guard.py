"""The disk guard: no event while too little is free on OUTPATH's device (OPUS, MINBLOCKS and
RESUME_BLOCKS, 512-byte blocks).
"""

import os
from collections.abc import Callable
from pathlib import Path

from formats.resource_file import BLOCK
from mirror.disk import told


def enough(free: int, least: int, resume: int, *, waiting: bool) -> bool:
    """Whether work may begin with `free` blocks: MINBLOCKS, and where the process waits already
    RESUME_BLOCKS, must be free."""
    return free >= (resume if waiting else least)


def free_blocks(path: Path, look: Callable[[Path], os.statvfs_result] = os.statvfs) -> int:
    """The 512-byte blocks that this user may still write on the device of a directory.

    Raises LocalError where it cannot be looked at.
    """
    with told(path):
        seen = look(path)
    return seen.f_bavail * seen.f_frsize // BLOCK
