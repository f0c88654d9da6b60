"""`osf create|list|update|delete|history|post -p PATH …`: entries of a blackboard by hand, or from
a script (OPUS, "The blackboard").
"""

import argparse
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from formats.path_file import named_path_file, read_path_file
from formats.stage_file import NOT_SET, StageFile
from mirror.errors import ConfigError
from server.blackboard import NO_DCF, Blackboard, Filter, History, Key, open_blackboard
from server.command import show, tell
from server.opus import post
from server.opus.overview import utc

HISTORY = 1000
"""Changes that are shown if nobody says how many."""


def main(argv: Sequence[str]) -> int:
    """Do what `argv` says and print what was done, or asked for; returns 0, and 1 if a line of
    post was refused.

    Raises ConfigError for a call that has no meaning, a path or a state that is not there,
    ConflictError for an entry that is there already, or is not.
    """
    if argv and argv[0] in _ACTIONS and {"-h", "--help"} & set(argv[1:]):
        _parser(argv[0]).parse_args(["--help"])
    given = _parser().parse_args(argv)
    if problems := [
        f"osf {given.action}: {option} does not go with it"
        for option, value, action in (
            ("--list", given.list, "post"), ("--by", given.by, "post"),
            ("--prune", given.prune, "history"),
        )
        if value is not None and given.action != action
    ]:  # fmt: skip
        raise ConfigError(problems)
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
    states = parse_states(given.states, board.stages)
    entry = board.update(key, states)
    tell(f"updated {key}: {_letters(entry.states)}")
    for line in board.claimants(key, states):
        tell(f"{line}, which writes its own letter when it is done")


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
    if given.prune is not None:
        if any(value is not None for value in (given.dataset, given.data_id, given.dcf)):
            raise ConfigError(["osf history: --prune goes without -f, -t and -n"])
        removed = board.prune(utc(time.time() - given.prune * 86400))
        tell(f"removed {removed} changes older than {given.prune} days; no entry was touched")
        return
    # A dataset and a type name an entry, with the DCF number that it has if nobody says another.
    named = given.dataset is not None and given.data_id is not None
    dcf = NO_DCF if named and given.dcf is None else given.dcf
    changes = board.history(Filter(given.dataset, given.data_id, dcf), given.limit)
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
    return post.post_list(board, given.data_id, dcf, given.list, given.by or "osf", given.parent)


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


_NAMES = ("dataset", "data_id", "dcf")
_HELP: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "create": (
        "Make an entry, named by -f, -t and -n; stages that -s does not name are not set.",
        (*_NAMES, "states"),
    ),
    "list": (
        "Print a line an entry. -f is a pattern such as 'fs*', and what is not given is any.",
        (*_NAMES, "states"),
    ),
    "update": (
        "Set letters of an entry. A claim on one of these stages ends if its process is dead; a"
        " process that lives is told, and writes its own letter when it is done.",
        (*_NAMES, "states"),
    ),
    "delete": ("Remove an entry, even one that a process has in work.", _NAMES),
    "history": (
        "Print the changes of the blackboard, the last ones, or those of what -f, -t and -n name;"
        " or remove old ones.",
        (*_NAMES, "limit", "prune"),
    ),
    "post": (
        "Make or change many entries, from lines DATASET|XX=s,YY=s|; with anew| behind it, an entry"
        " that is there is removed first. It answers DATASET|WHAT|WHY| for each, WHAT being"
        " created, updated, unchanged or refused.",
        ("data_id", "dcf", "list", "by", "parent"),
    ),
}
"""Of each action what it does, and the options that go with it."""

_STATUSES = (
    "Exit status: 0 done; 1 an entry is there already, or is not, or a line of post was refused; 2"
    " usage, or this machine or the database is in the way; 3 a file, a stage or a letter is"
    " refused."
)


def _parser(action: str | None = None) -> argparse.ArgumentParser:
    """The options; of one action for its help only."""
    summary = "Make, list, change and remove entries of a path's blackboard."
    parser = argparse.ArgumentParser(
        prog=f"osf {action}" if action else "osf",
        description=_HELP[action][0] if action else summary,
        epilog=f"{'' if action else 'osf ACTION --help tells more of each action. '}{_STATUSES}",
    )
    if action is None:
        parser.add_argument("action", choices=_ACTIONS)

    def add(*words: str, dest: str, help: str, **more: Any) -> None:
        fits = action is None or dest in (*_HELP[action][1], "path")
        text = help if fits else argparse.SUPPRESS
        parser.add_argument(*words, dest=dest, help=text, **more)

    add("-p", dest="path", metavar="PATH", required=True,
        help="a path, looked for along OPUS_DEFINITIONS_DIR, or a path file")  # fmt: skip
    add("-f", dest="dataset", metavar="DATASET", help="the dataset")
    add("-t", dest="data_id", metavar="TYPE", help="its data type, the DATA_ID")
    add("-n", dest="dcf", metavar="DCF", help=f"its DCF number (default in an entry: {NO_DCF})")
    add("-s", dest="states", metavar="STATES",
        help="a letter for each stage in their order (cw____), or XX=s,YY=s")  # fmt: skip
    add("-l", dest="limit", metavar="N", type=_count, default=HISTORY,
        help=f"history: at most the last N changes (default {HISTORY})")  # fmt: skip
    add("--prune", dest="prune", metavar="DAYS", type=_count,
        help="history: remove the changes that are older")  # fmt: skip
    add("--by", dest="by", metavar="NAME", help="post: who does, for the history (default osf)")
    add("--parent", dest="parent", metavar="PID", type=_count,
        help="post: the process that has started it; once it has ended, write no more")  # fmt: skip
    add("--list", dest="list", metavar="FILE",
        help="post: what is to be posted; -: standard input")  # fmt: skip
    return parser


def _count(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and 0 < len(text) < 10):
        raise argparse.ArgumentTypeError(f"a whole number expected, not {text!r}")
    return int(text)
