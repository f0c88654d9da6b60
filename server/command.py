"""What the commands have in common: options that belong to an action, and saying what was done."""

import argparse
import re
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from mirror.disk import told
from mirror.errors import ConfigError, LocalError

_SOURCES = re.compile(r"\s*\((?:OPUS|PROTOCOL|DESIGN|seed)[^()]*\)")


def chosen_action(
    options: argparse.Namespace, actions: Mapping[str, Sequence[str]]
) -> tuple[str, list[str]]:
    """The action that was asked for, and which of the other options do not go with it.

    `actions`: each with the options that belong to it; at most one of them is given. Raises
    ConfigError where none is.
    """
    given = vars(options)
    action = next((action for action in actions if given[action] is not None), None)
    if action is None:
        raise ConfigError([f"one of {', '.join(f'--{name}' for name in actions)} is missing"])
    others = {option for group in actions.values() for option in group} - set(actions[action])
    problems = [
        f"--{option} does not go with --{action}"
        for option in sorted(others)
        if given[option] not in (None, False)
    ]
    return action, problems


def tell(done: str) -> None:
    """Print what was done. Raises LocalError, which says it too, where it cannot be printed."""
    try:
        print(done, flush=True)
    except (OSError, UnicodeError) as fault:
        reason = getattr(fault, "strerror", None) or fault
        raise LocalError(f"done, but it could not be printed ({reason}): {done}") from None


def show(text: str) -> None:
    """Print what was asked for. Raises LocalError where it cannot be printed."""
    with told("standard output"):
        print(text, flush=True)


@contextmanager
def interruptible() -> Iterator[None]:
    """Let SIGTERM unwind what was begun, as Ctrl-C does."""

    def stop(number: int, frame: FrameType | None) -> NoReturn:
        # What a shell says of a command that the signal has ended.
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def about(doc: str | None) -> str:
    """What the --help of a command says of it: its docstring without its sources."""
    return _SOURCES.sub("", doc or "")
