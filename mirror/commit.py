"""A fileset into the tree: flushed, moved by renames, flushed again, recorded (DESIGN).

The order is what makes a kill or a power cut at any instant harmless: data is durable before the
state says `committing`, `committing` is recorded before the first rename, and `done` only after
the directories are durable. Filesets that are ready together go together, because a flush costs
about the same for one as for fifty.
"""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from mirror import disk
from mirror.errors import LocalError
from mirror.manifest import Entry


def flush_sources(stages: Sequence[tuple[Path, Sequence[Entry]]]) -> None:
    """Make the staged files of some filesets durable: (staging directory, entries) each."""
    disk.flush(f"{base}/{entry.source}" for base, entries in stages for entry in entries)


def move_in(root: Path, stages: Sequence[tuple[Path, Sequence[Entry]]]) -> None:
    """Rename the staged files into the tree and make that durable.

    Called again after a kill it goes on where it was: what is no longer in staging is in the
    tree. Raises LocalError where a file is in neither.
    """
    touched: set[str] = set()
    for base, entries in stages:
        for entry in entries:
            source, target = f"{base}/{entry.source}", f"{root}/{entry.target}"
            try:
                disk.move(source, target)
            except LocalError:
                if os.path.lexists(source) or not is_there(target, entry):
                    raise
            touched.add(os.path.dirname(target))
    disk.flush(_with_ancestors(root, map(Path, touched)))


def is_there(target: str | Path, entry: Entry) -> bool:
    """Whether the tree has a file of the entry's size in its place."""
    try:
        return os.stat(target, follow_symlinks=False).st_size == entry.size
    except OSError:
        return False


def _with_ancestors(root: Path, directories: Iterable[Path]) -> list[Path]:
    """The directories and all above them up to the root: any of them may be new."""
    wanted: dict[Path, None] = {}
    for directory in directories:
        above = directory
        while above not in wanted:
            wanted[above] = None
            if above == root:
                break
            above = above.parent
    return list(wanted)
