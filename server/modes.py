"""Commands of many modes, as the original's tools are: one mode a call, each with its options.

`disttool` and `pubtool` say in a table what a mode needs and takes; here the words of a call are
held against it, and rows are printed as mdc or, with `-simple`, one a line (PROTOCOL section 4).
Options may be written with one dash, as the original has them, or with two.
"""

import argparse
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from formats.mdc_types import NULL
from mirror.errors import ConfigError
from server.command import about
from server.site import add_site_options

_UNFIT = re.compile(r"[\x00-\x1f\x7f#]")


@dataclass(frozen=True, slots=True)
class Option:
    """An option: `kind` is text, texts (it may be repeated), number, seconds or flag.

    A text may be empty in no option, and hold no `#` and no control character: it has to fit mdc.
    """

    kind: str
    help: str


@dataclass(frozen=True, slots=True)
class Mode:
    """What a mode needs, takes besides, and does.

    `needs`: options that must be given; a tuple among them is one of which at least one must.
    """

    needs: tuple[str | tuple[str, ...], ...]
    takes: tuple[str, ...]
    help: str

    def options(self) -> set[str]:
        """Every option that goes with the mode."""
        needed = {
            name for need in self.needs for name in ([need] if isinstance(need, str) else need)
        }
        return needed | set(self.takes)


Given = argparse.Namespace
"""What was given: an attribute an option; None, False for a flag, [] for texts, if it was not."""


def read_call(
    prog: str,
    summary: str,
    modes: Mapping[str, Mode],
    options: Mapping[str, Option],
    argv: Sequence[str],
) -> tuple[str, Given]:
    """The mode of a call and its options. Raises ConfigError with everything wrong with it."""
    parser = _parser(prog, summary, modes, options)
    # argparse would take abbreviations of what begins with one dash.
    known = {f"-{name}" for name in (*modes, *options, "help")}
    given = parser.parse_args([f"-{word}" if word in known else word for word in argv])
    chosen = [name for name in modes if getattr(given, f"mode_{name}")]
    if len(chosen) != 1:
        raise ConfigError(
            [f"one of -{', -'.join(modes)} expected" + (f", not {len(chosen)}" if chosen else "")]
        )
    mode = modes[chosen[0]]
    fitting = mode.options()
    problems = [
        f"-{name} does not go with -{chosen[0]}"
        for name in options
        if name not in fitting and _is_given(given, name)
    ]
    for need in mode.needs:
        names = [need] if isinstance(need, str) else list(need)
        if not any(_is_given(given, name) for name in names):
            problems.append(f"-{chosen[0]}: {' or '.join(f'-{name}' for name in names)} is missing")
    problems += [
        f"-{name}: a text without '#' and control characters expected, not {text!r}"
        for name, option in options.items()
        for text in _texts(given, name, option)
        if _UNFIT.search(text) or not text or text != text.strip() or text == NULL
    ]
    if problems:
        raise ConfigError(problems)
    return chosen[0], given


def _texts(given: Given, name: str, option: Option) -> list[str]:
    value = getattr(given, name)
    if option.kind == "text":
        return [] if value is None else [value]
    return list(value) if option.kind == "texts" else []


def _is_given(given: Given, name: str) -> bool:
    # A number may be 0.
    value = getattr(given, name)
    return value is not None and value is not False and value != []


def _parser(
    prog: str, summary: str, modes: Mapping[str, Mode], options: Mapping[str, Option]
) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog, allow_abbrev=False, description=about(summary),
        usage=f"{prog} -MODE [-OPTION …]",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    chosen = parser.add_argument_group("modes, one a call")
    for name, mode in modes.items():
        chosen.add_argument(f"--{name}", dest=f"mode_{name}", action="store_true", help=mode.help)
    kinds: dict[str, dict[str, Any]] = {
        "text": {"metavar": "TEXT"},
        "texts": {"metavar": "TEXT", "action": "append", "default": []},
        "number": {"metavar": "N", "type": whole_number},
        "seconds": {"metavar": "SECONDS", "type": _seconds},
        "flag": {"action": "store_true"},
    }
    added = parser.add_argument_group("options")
    for name, option in options.items():
        added.add_argument(f"--{name}", dest=name, help=option.help, **kinds[option.kind])
    add_site_options(parser)
    return parser


def whole_number(text: str) -> int:
    """An option's whole number, of at most 18 digits; for `type` of argparse."""
    if not (text.isascii() and text.isdecimal() and len(text) < 19):
        raise argparse.ArgumentTypeError(f"a whole number expected, not {text!r}")
    return int(text)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e9:
        raise argparse.ArgumentTypeError(f"seconds expected, not {text!r}")
    return value


# Printing


def fit(text: str) -> str:
    """A message made fit for one line of mdc: no line ends, no `#`, no outer blanks."""
    # A message about that very character would say nothing without it.
    return _UNFIT.sub(" ", text.replace("'#'", "a number sign")).strip()[:1000]


def format_rows(
    name: str, columns: Mapping[str, str], rows: Iterable[Sequence[object]], *, simple: bool
) -> str:
    """Rows as mdc, `NAME MULTI` and a block a row, or with `simple` one line a row.

    `columns`: each with its type in mdc. No rows: no text. Missing values are NULL.
    """
    if simple:
        return "\n".join(" ".join(map(_shown, row)) for row in rows)
    blocks = []
    for row in rows:
        fields = "".join(
            f"   {column:<16} {kind:<7} {_shown(value)}\n"
            for (column, kind), value in zip(columns.items(), row, strict=True)
        )
        blocks.append(f"{name} METADATA\n{fields}END\n")
    return f"{name} MULTI\n\n" + "\n".join(blocks) if blocks else ""


def _shown(value: object) -> str:
    if value is None:
        return NULL
    if isinstance(value, bool):
        return "T" if value else "F"
    return repr(value) if isinstance(value, float) else str(value)
