"""The values of a resource file as its process sees them, asked for one by one; what is wrong
with them is gathered, so that all of it can be said at once.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import time

from formats.keywords import Keyword
from formats.path_file import PathFile
from formats.path_values import has_sub, split_reference
from formats.resolution import ENV, SUBSTITUTED, Resource, resolve
from mirror.errors import ConfigError

TITLE = re.compile(r"[A-Za-z][A-Za-z0-9]")
"""The title of a stage, as it stands after the dot of OSF_TRIGGER1.XX."""

_WHOLE = re.compile(r"[0-9]{1,15}")
_SECONDS = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,6})?")
_LETTER = re.compile(r"[!-~]")
_SYMBOL = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")
_CLOCK = re.compile(r"(?:([0-9]{1,3}):)?([0-9]{1,2}):([0-9]{2}):([0-9]{2})")


@dataclass(frozen=True, slots=True)
class _Seen:
    keyword: Keyword
    text: str
    origin: str


@dataclass(slots=True)
class SeenValues:
    """The values by name, without ENV., which is no part of it; a plain keyword goes before it.

    `settled`: a path file has had its say. Without one, a value that may be the name of something
    in a path file cannot be judged: it is None, with a warning.
    """

    resource: Resource
    settled: bool
    by_name: dict[str, _Seen] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def __contains__(self, name: str) -> bool:
        return self.resource.find(name) is not None

    def names(self) -> Iterable[str]:
        """The names of the keywords without ENV. in front, in the order of the file.

        Names that are a matter of patterns, as OSF_TRIGGER1.XX, are looked for among these: what
        a command has in its environment may be called like that by chance.
        """
        return (name for name in self.resource.by_name if not name.startswith(ENV))

    def wrong(self, name: str, text: str) -> None:
        """Add a problem of a keyword; it says too where the value is from, if not from here."""
        self.problems.append(self._message(name, text))

    def doubt(self, name: str, text: str) -> None:
        """Add a warning about a keyword."""
        self.warnings.append(self._message(name, text))

    def missing(self, name: str, text: str) -> None:
        """Add the problem that a keyword is not there."""
        self.problems.append(f"{self.resource.path}: {name}: required, {text}")

    def text(self, name: str, default: str | None = None) -> str | None:
        """The value as it is, or `default` if there is none."""
        seen = self.by_name.get(name)
        return seen.text if seen else default

    def whole(self, name: str, least: int = 0, most: int | None = None) -> int | None:
        """A whole number of at least `least` and at most `most`; None if there is none."""
        text = self.text(name)
        if text is None:
            return None
        number = int(text) if _WHOLE.fullmatch(text) else None
        if number is not None and least <= number and (most is None or number <= most):
            return number
        span = f"of {least} or more" if most is None else f"from {least} to {most}"
        self._refused(name, text, f"a whole number {span}")
        return None

    def seconds(self, name: str) -> float | None:
        """A number of seconds above 0, with decimals or without."""
        text = self.text(name)
        if text is None:
            return None
        if _SECONDS.fullmatch(text) and float(text) > 0:
            return float(text)
        self._refused(name, text, "a number of seconds above 0")
        return None

    def letter(self, name: str) -> str | None:
        """The letter of a state, as it was written."""
        text = self.text(name)
        if text is None or _LETTER.fullmatch(text):
            return text
        self._refused(name, text, "one letter, the state of a stage,")
        return None

    def suffix(self, name: str) -> str | None:
        """What is added to the name of a file."""
        text = self.text(name)
        if text is None or (text and "/" not in text and text == text.strip()):
            return text
        self._refused(name, text, "a suffix for the names of files, without / or blanks,")
        return None

    def span(self, name: str) -> int | None:
        """Seconds, above 0, of a `DDD:HH:MM:SS`."""
        text = self.text(name)
        if text is None:
            return None
        clock = _read_clock(text)
        if clock and clock[0] is not None and clock[1] + clock[0] * 86400 > 0:
            return clock[0] * 86400 + clock[1]
        self._refused(name, text, "a time above 0 as DDD:HH:MM:SS")
        return None

    def moment(self, name: str) -> tuple[int | None, time] | None:
        """The day of the year (None: any) and the time of a `HH:MM:SS` or `DDD:HH:MM:SS`."""
        text = self.text(name)
        if text is None:
            return None
        clock = _read_clock(text)
        if clock and (clock[0] or 0) <= 366:
            minutes, second = divmod(clock[1], 60)
            return clock[0] or None, time(minutes // 60, minutes % 60, second)
        self._refused(name, text, "a time as HH:MM:SS, or DDD:HH:MM:SS of day 001 to 366,")
        return None

    def _refused(self, name: str, text: str, expected: str) -> None:
        """A value that is not as it must be: wrong, or not to be judged without a path file."""
        if not self.settled and (_SYMBOL.fullmatch(text) or split_reference(text)):
            self.doubt(name, f"{expected} expected; only a path file can tell whether {text!r} is")
        else:
            self.wrong(name, f"{expected} expected, not {text!r}".replace(",,", ","))

    def _message(self, name: str, text: str) -> str:
        keyword = self.resource.find(name)
        where = self.resource.where(keyword) if keyword else f"{self.resource.path}: {name}"
        seen = self.by_name.get(name)
        return f"{where}: {text}" + (f" (value from {seen.origin})" if seen and seen.origin else "")


def see_values(
    resource: Resource, paths: PathFile | None, environ: Mapping[str, str] | None
) -> SeenValues:
    """Look at every value of a resource file, as its process sees it on the path `paths`.

    Without a path file the values are as written. One that has no meaning now is a problem, and
    is not there.
    """
    values = SeenValues(resource, paths is not None)
    for name, keyword in resource.by_name.items():
        key = name.removeprefix(ENV)
        if has_sub(keyword.value) and key not in SUBSTITUTED:
            values.warnings.append(
                f"{resource.where(keyword)}: SUB[] is replaced in the values of path files and in"
                f" {', '.join(SUBSTITUTED)} only"
            )
        text, origin = keyword.value, ""
        if paths is not None:
            try:
                resolved = resolve(resource, paths, name, environ)
            except ConfigError as error:
                values.problems.extend(error.problems)
                continue
            text = resolved.value
            origin = "" if resolved.origin.path == resource.path else str(resolved.origin)
        if name == key or key not in resource.by_name:
            values.by_name[key] = _Seen(keyword, text, origin)
    return values


def _read_clock(text: str) -> tuple[int | None, int] | None:
    """Days (None if they are not given) and the seconds after them; None if it is no time."""
    match = _CLOCK.fullmatch(text)
    if not match:
        return None
    hours, minutes, seconds = (int(part) for part in match.groups()[1:])
    if hours > 23 or minutes > 59 or seconds > 59:
        return None
    return (int(match[1]) if match[1] else None), (hours * 60 + minutes) * 60 + seconds
