"""`osf create|list|update|delete|history|post -p PATH …`: entries of a blackboard by hand, or from
a script (OPUS, "The blackboard").
"""

import argparse
import os
from collections.abc import Callable, Iterable, Mapping, Sequence

from formats.path_file import named_path_file, read_path_file
from formats.stage_file import NOT_SET, StageFile
from mirror.errors import ConfigError
from server.blackboard import NO_DCF, Blackboard, Filter, History, Key, open_blackboard
from server.command import show, tell
from server.opus import post

HISTORY = 1000
"""Changes that are shown if nobody says how many."""


def main(argv: Sequence[str]) -> int:
    """Do what `argv` says and print what was done, or asked for; returns 0, and 1 if a line of
    post was refused.

    Raises ConfigError for a call that has no meaning, a path or a state that is not there,
    ConflictError for an entry that is there already, or is not.
    """
    given = _parser().parse_args(argv)
    if given.list is not None and given.action != "post":
        raise ConfigError([f"osf {given.action}: --list does not go with it"])
    paths = read_path_file(named_path_file(given.path), os.environ)
    # Only what may be the first entry of all begins a blackboard.
    making = given.action in ("create", "post")
    with open_blackboard(paths, os.environ, create=making) as board:
        return _ACTIONS[given.action](board, given) or 0


def parse_states(text: str, stages: StageFile) -> dict[str, str]:
    """The states that `-s` names: one letter a stage in their order (`cw____`), or `XX=s,YY=s`.

    Raises ConfigError for a text of neither form; whether there are such stages and letters is
    the blackboard's to say.
    """
    titles = stages.titles()
    parts = text.split(",")
    if all(len(part) == 4 and part[2] == "=" for part in parts):
        states = {part[:2]: part[3] for part in parts}
        if len(states) == len(parts):
            return states
    elif len(text) == len(titles):
        return dict(zip(titles, text, strict=True))
    raise ConfigError(
        [
            f"-s {text}: one letter for each of the {len(titles)} stages {' '.join(titles)}"
            f" expected, or {titles[0]}=s,…, each stage once ({NOT_SET}: not set)"
        ]
    )


def list_lines(board: Blackboard, wanted: Filter) -> Iterable[str]:
    """A line an entry, after one that says what the columns are."""
    yield " ".join(("#", "start", "dataset", "DATA_ID", "DCF", *board.stages.titles()))
    for entry in board.entries(wanted):
        yield " ".join((entry.start, *entry.key, *entry.states.values()))


def history_line(change: History) -> str:
    """A change in one line: when, where, who, what, of which entry, which stage from what to what;
    `-` where it was of no stage."""
    stage = f"{change.stage} {change.before} {change.after}" if change.stage else "- - -"
    # Hosts and processes may have any name.
    by = "_".join(change.process.split()) or "-"
    return f"{change.at} {change.host} {by} {change.what} {' '.join(change.key)} {stage}"


def _create(board: Blackboard, given: argparse.Namespace) -> None:
    key = _key(given, "create")
    states = parse_states(given.states, board.stages) if given.states is not None else {}
    entry = board.create(key, states)
    tell(f"created {key}: {_letters(entry.states)}")


def _update(board: Blackboard, given: argparse.Namespace) -> None:
    key = _key(given, "update")
    if given.states is None:
        raise ConfigError(["osf update: -s is missing, the states to set, such as XX=c"])
    entry = board.update(key, parse_states(given.states, board.stages))
    tell(f"updated {key}: {_letters(entry.states)}")


def _delete(board: Blackboard, given: argparse.Namespace) -> None:
    key = _key(given, "delete")
    if given.states is not None:
        raise ConfigError(["osf delete: -s does not go with it"])
    board.delete(key)
    tell(f"deleted {key}")


def _list(board: Blackboard, given: argparse.Namespace) -> None:
    states = parse_states(given.states, board.stages) if given.states is not None else {}
    lines: list[str] = []
    for line in list_lines(board, Filter(given.dataset, given.data_id, given.dcf, states)):
        lines.append(line)
        if len(lines) == 1000:
            show("\n".join(lines))
            lines.clear()
    if lines:
        show("\n".join(lines))


def _history(board: Blackboard, given: argparse.Namespace) -> None:
    if given.states is not None:
        raise ConfigError(["osf history: -s does not go with it"])
    whole_board = given.dataset is given.data_id is given.dcf is None
    changes = board.history(None if whole_board else _key(given, "history"), given.limit)
    head = "# at host process what dataset DATA_ID DCF stage before after"
    show("\n".join((head, *map(history_line, changes))))


def _post(board: Blackboard, given: argparse.Namespace) -> int:
    problems = [
        f"osf post: {option} does not go with it, its list says that"
        for option, value in (("-f", given.dataset), ("-s", given.states))
        if value is not None
    ]
    problems += [
        f"osf post: {option} is missing"
        for option, value in (("-t", given.data_id), ("--list", given.list))
        if value is None
    ]
    if problems:
        raise ConfigError(problems)
    dcf = NO_DCF if given.dcf is None else given.dcf
    return post.post_list(board, given.data_id, dcf, given.list, given.parent)


_ACTIONS: Mapping[str, Callable[[Blackboard, argparse.Namespace], int | None]] = {
    "create": _create,
    "list": _list,
    "update": _update,
    "delete": _delete,
    "history": _history,
    "post": _post,
}


def _key(given: argparse.Namespace, action: str) -> Key:
    """The entry that -f, -t and -n name together."""
    if problems := [
        f"osf {action}: {option} is missing: -f, -t and -n (else {NO_DCF}) name an entry"
        for option, value in (("-f", given.dataset), ("-t", given.data_id))
        if value is None
    ]:
        raise ConfigError(problems)
    return Key(given.dataset, given.data_id, NO_DCF if given.dcf is None else given.dcf)


def _letters(states: Mapping[str, str]) -> str:
    return " ".join(f"{title}={letter}" for title, letter in states.items())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="osf",
        description="Make, list, change and remove entries of a path's blackboard.",
        epilog="In list, -f is a pattern such as 'fs*', and what is not given is any. post reads"
        " lines DATASET|XX=s,YY=s| and makes or changes the entries; with anew| behind it, one that"
        " is there is removed first. It answers DATASET|WHAT|WHY| for each, WHAT being created,"
        " updated, unchanged or refused.",
    )
    parser.add_argument("action", choices=_ACTIONS)
    add = parser.add_argument
    add("-p", dest="path", metavar="PATH", required=True,
        help="a path, looked for along OPUS_DEFINITIONS_DIR, or a path file")  # fmt: skip
    add("-f", dest="dataset", metavar="DATASET", help="the dataset")
    add("-t", dest="data_id", metavar="TYPE", help="its data type, the DATA_ID")
    add("-n", dest="dcf", metavar="DCF", help=f"its DCF number (default in an entry: {NO_DCF})")
    add("-s", dest="states", metavar="STATES",
        help="a letter for each stage in their order (cw____), or XX=s,YY=s")  # fmt: skip
    add("-l", dest="limit", metavar="N", type=_count, default=HISTORY,
        help=f"history: at most the last N changes (default {HISTORY})")  # fmt: skip
    add("--parent", metavar="PID", type=_count,
        help="post: the process that has started it; once it has ended, write no more")  # fmt: skip
    add("--list", metavar="FILE", help="post: what is to be posted; -: standard input")
    return parser


def _count(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and 0 < len(text) < 10):
        raise argparse.ArgumentTypeError(f"a whole number expected, not {text!r}")
    return int(text)
