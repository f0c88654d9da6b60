"""The picture of the night: how many datasets were how far, stage by stage, over time; as SVG.

It is worked out backwards, from what the board shows now and what its history says has changed:
so a history that begins late makes a picture that begins late, and none that is wrong.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

from formats.stage_file import NOT_SET, Stage

KINDS = ("C", "P", "T", "N")
"""Kinds of states (OPUS, "Stage files"), from the bottom of a band to its top."""

NAMES = {"C": "complete", "P": "in progress", "T": "trouble", "N": "not yet"}

STEPS = 240
"""Moments between the begin and the end of a picture."""

WIDTH, LEFT, RIGHT = 960, 150, 36
BAND, GAP, TOP = 54, 16, 6
"""Sizes in units of the picture: a band for each stage, one below the other, and the time."""

_TICKS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600)
"""Seconds that may lie between two marks of the time; at most `_MARKS` marks."""

_MARKS = 9


@dataclass(frozen=True, slots=True)
class Change:
    """At `at`, seconds since 1970, a dataset's stage went from a letter to another.

    `before` or `after` is `_` where the dataset was not there.
    """

    at: float
    title: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Band:
    """A stage: for each of KINDS, how many datasets there were at every moment."""

    stage: Stage
    layers: tuple[tuple[int, ...], ...]

    def last(self) -> dict[str, int]:
        """How many there are now, by kind."""
        return {kind: layer[-1] for kind, layer in zip(KINDS, self.layers, strict=True)}


@dataclass(frozen=True, slots=True)
class Picture:
    """Bands from `begin` to `end`, seconds since 1970; `most`: datasets at the height of one."""

    begin: float
    end: float
    bands: tuple[Band, ...]
    most: int


def kind_of(stage: Stage, letter: str) -> str:
    """The kind of a letter, or blank for one that is not set or that the stage does not have."""
    meaning = None if letter == NOT_SET else stage.meaning(letter)
    return meaning.kind if meaning else ""


def picture(
    stages: Sequence[Stage],
    counts: Mapping[str, Mapping[str, int]],
    changes: Iterable[Change],
    begin: float,
    end: float,
) -> Picture:
    """The night from `begin` to `end`.

    `counts`: title → letter → how many datasets have it at `end`. `changes`: newest first; what
    is older than `begin` is not looked at.
    """
    by_title = {stage.title: stage for stage in stages}
    now = {title: _kinds(stage, counts.get(title, {})) for title, stage in by_title.items()}
    rows: dict[str, list[dict[str, int]]] = {title: [] for title in by_title}
    newest_first = iter(changes)
    change = next(newest_first, None)
    for step in range(STEPS, -1, -1):
        moment = begin + (end - begin) * step / STEPS
        while change is not None and change.at > moment:
            if stage := by_title.get(change.title):
                _undo(
                    now[change.title], kind_of(stage, change.before), kind_of(stage, change.after)
                )
            change = next(newest_first, None)
        for title, row in rows.items():
            row.append(dict(now[title]))
    bands = tuple(Band(stage, _layers(rows[title])) for title, stage in by_title.items())
    most = max((sum(row.values()) for several in rows.values() for row in several), default=0)
    return Picture(begin, end, bands, max(1, most))


def _kinds(stage: Stage, counts: Mapping[str, int]) -> dict[str, int]:
    kinds = dict.fromkeys(KINDS, 0)
    for letter, count in counts.items():
        if kind := kind_of(stage, letter):
            kinds[kind] += count
    return kinds


def _undo(now: dict[str, int], before: str, after: str) -> None:
    if after:
        now[after] = max(0, now[after] - 1)
    if before:
        now[before] += 1


def _layers(newest_first: Sequence[Mapping[str, int]]) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(row[kind] for row in reversed(newest_first)) for kind in KINDS)


# As SVG


def draw(shown: Picture) -> str:
    """The picture as an `svg` element for a page: no scripts, colours by the page's classes."""
    height = TOP + len(shown.bands) * (BAND + GAP) + 20
    parts = [
        f'<svg class="night" role="img" viewBox="0 0 {WIDTH} {height}"'
        ' aria-label="Datasets by stage over time">'
    ]
    parts += _times(shown, height)
    for at, band in enumerate(shown.bands):
        parts += _band(shown, band, TOP + at * (BAND + GAP))
    return "".join((*parts, "</svg>\n"))


def _band(shown: Picture, band: Band, top: int) -> list[str]:
    stage, floor = band.stage, top + BAND
    last = ", ".join(f"{count} {NAMES[kind]}" for kind, count in band.last().items() if count)
    parts = [
        f"<g><title>{escape(stage.title)} {escape(stage.description)}: {last or 'none'}</title>",
        f'<rect class="ground" x="{LEFT}" y="{top}" width="{_plot()}" height="{BAND}"/>',
    ]
    below = [0] * (STEPS + 1)
    for kind, layer in zip(KINDS, band.layers, strict=True):
        above = [low + count for low, count in zip(below, layer, strict=True)]
        if any(layer):
            line = _outline(below, above, lambda n: floor - BAND * n / shown.most)
            parts.append(f'<path class="k{kind}" d="{line}"/>')
        below = above
    done, every = band.last()["C"], sum(band.last().values())
    parts += [
        f'<text class="stage" x="0" y="{top + 20}">{escape(stage.title)}</text>',
        f'<text x="0" y="{top + 38}">{escape(_short(stage.description))}</text>',
        f'<text class="count" x="{LEFT - 8}" y="{top + 20}">{done}/{every}</text>',
        f'<text x="{WIDTH - RIGHT + 6}" y="{top + 9}">{shown.most}</text></g>',
    ]
    return parts


def _outline(below: Sequence[int], above: Sequence[int], y: Callable[[int], float]) -> str:
    """The path around what lies between two lines, each of them level between two changes."""
    there = _steps(above, range(STEPS + 1), y)
    back = _steps(below, range(STEPS, -1, -1), y)
    return f"M{there[1:]}L{back[1:]}Z"


def _steps(line: Sequence[int], moments: Sequence[int], y: Callable[[int], float]) -> str:
    """A line in steps. Forwards a level lasts until the next one, and backwards it does too."""
    first, last = moments[0], moments[-1]
    parts = [f"L{_x(first)} {y(line[first]):.1f}"]
    for before, moment in pairwise(moments):
        if line[moment] != line[before]:
            parts.append(f"H{_x(max(before, moment))}V{y(line[moment]):.1f}")
    return "".join((*parts, f"H{_x(last)}"))


def _times(shown: Picture, height: int) -> list[str]:
    """Marks of the time, in UTC as everything on these pages."""
    span = max(1.0, shown.end - shown.begin)
    every = next((tick for tick in _TICKS if span / tick <= _MARKS), 86400)
    form = "%H:%M:%S" if every < 60 else "%H:%M"
    parts = []
    moment = -(-shown.begin // every) * every
    while moment <= shown.end:
        x = f"{LEFT + _plot() * (moment - shown.begin) / span:.1f}"
        told = time.strftime(form, time.gmtime(moment))
        parts.append(f'<path class="tick" d="M{x} {TOP}V{height - 20}"/>')
        parts.append(f'<text class="time" x="{x}" y="{height - 5}">{told}</text>')
        moment += every
    return parts


def _x(step: int) -> str:
    return f"{LEFT + _plot() * step / STEPS:.1f}"


def _plot() -> int:
    return WIDTH - LEFT - RIGHT


def _short(text: str) -> str:
    return text if len(text) <= 20 else f"{text[:19]}\N{HORIZONTAL ELLIPSIS}"
