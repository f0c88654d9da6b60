"""`osf post`: many entries of a blackboard brought to their letters, by whoever follows datasets.

A line of the list, `DATASET|XX=s,YY=s|`, makes the entry or changes those letters of it; what it
has already is no change, so a list may be posted again. `DATASET|XX=s,YY=s|anew|` removes an entry
that is there first: the dataset came again, and nothing that was done with it holds any more.
"""

import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from mirror.disk import told
from mirror.errors import ConfigError
from server.blackboard import Blackboard, Key, Post
from server.command import tell
from server.opus.board_records import check_key
from server.store_lock import ConflictError

BATCH = 500
"""Entries that are written in one transaction."""

REFUSED = "refused"
"""What is said of a line whose entry cannot be one."""

ANEW = "anew"

_STATE = re.compile(r"([^=,|]{2})=([^|])")


def post_list(
    board: Blackboard, data_id: str, dcf: str, source: str, by: str = "osf",
    parent: int | None = None,
) -> int:  # fmt: skip
    """Post the list in the file `source` (`-`: standard input) and print, for each of its lines,
    `DATASET|WHAT|WHY|`, WHAT being created, updated, unchanged or refused.

    `by`: who posts, for the history. `parent`: the process for which this is done; once it has
    ended nothing more is written, for whoever comes after it knows better. Returns 1 if a line was
    refused, which stops no other; else 0. What is printed is durable. Raises ConfigError, nothing
    posted, for lines that are none, and for letters or stages that the path does not have: they
    would be wrong in every line; ConflictError without the parent.
    """
    lines, problems = read_posts(_read(source), data_id, dcf)
    # Each set of states once: a list may have them in hundreds of thousands of lines.
    first = {tuple(one.states.items()): number for number, one in reversed(lines.items())}
    for states, number in first.items():
        try:
            board.check(dict(states))
        except ConfigError as error:
            problems += [(number, problem) for problem in error.problems]
    if problems:
        raise ConfigError([f"line {number}: {problem}" for number, problem in sorted(problems)])
    posts = list(lines.values())
    refused = False
    for begin in range(0, len(posts), BATCH):
        answers = _post(board, posts[begin : begin + BATCH], by, parent)
        refused |= any(what == REFUSED for _, what, _ in answers)
        tell("\n".join("|".join(answer) + "|" for answer in answers))
    return int(refused)


def read_posts(
    data: bytes, data_id: str, dcf: str
) -> tuple[dict[int, Post], list[tuple[int, str]]]:
    """Read a list: by its number what each line posts, and what is wrong with it. Comments and
    blank lines are skipped."""
    posts: dict[int, Post] = {}
    problems: list[tuple[int, str]] = []
    for number, raw in enumerate(data.decode("utf-8-sig", "backslashreplace").split("\n"), 1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        dataset, *cells = (cell.strip() for cell in line.split("|"))
        states = [_STATE.fullmatch(part.strip()) for part in cells[0].split(",")] if cells else []
        found = {state[1]: state[2] for state in states if state}
        if cells[1:] not in ([""], [ANEW, ""]) or not states or len(found) != len(states):
            problems.append((number, f"DATASET|XX=s,YY=s| expected, not {line!r}"))
        else:
            posts[number] = Post(Key(dataset, data_id, dcf), found, len(cells) > 2)
    return posts, problems


def _post(
    board: Blackboard, posts: Sequence[Post], by: str, parent: int | None
) -> list[tuple[str, str, str]]:
    """Post a batch; of each what became of it, and why."""

    def check() -> None:
        if parent not in (None, os.getppid()):
            raise ConflictError(f"process {parent}, which has asked for it, has ended")

    refused: dict[int, str] = {}
    for number, one in enumerate(posts):
        try:
            check_key(one.key)
        except ConfigError as error:
            refused[number] = "; ".join(error.problems).replace("|", " ")
    wanted = [one for number, one in enumerate(posts) if number not in refused]
    done = iter(board.post(wanted, by, check))
    return [
        (one.key.dataset, REFUSED, refused[number])
        if number in refused
        else (one.key.dataset, next(done), "")
        for number, one in enumerate(posts)
    ]


def _read(source: str) -> bytes:
    with told("standard input" if source == "-" else source):
        return sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()
