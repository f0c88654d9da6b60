"""What an event is, and when time makes one: nothing here looks at a clock, a disk or a board
(OPUS, "Process resource files"; seed 004).

A time trigger has numbered slots. DELTA_TIME alone counts on the clock that cannot be set, from
the start of the process. With START_TIME slots are times of the local calendar: START alone is
daily at that time; with a delta of whole days it is that far apart on the calendar, with any other
delta that many seconds after START, whatever summer time does. START is that of today, or of the
given day of this year; if it has passed, the slots that are left count.

Slots that nobody looked at collapse into one tick. A clock that is set back makes no second tick:
a slot that was had already ticks again only a whole delta, by the clock that cannot be set, after
the last tick. One that was ahead by more than a delta, and is right again, loses no tick: what
counts then is whether there was one, by the clock that cannot be set, within the slot of now.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from enum import Enum
from pathlib import Path

from formats.triggers import TimeTrigger
from server.opus.board_records import Entry, Key

DAY = 86400

_OF_AN_EVENT = re.compile(
    r"EVENT_(TYPE|NUM|NAME[0-9]*)|OSF_(DATASET|DATA_ID|DCF_NUM|START_TIME)[0-9]*"
)


class Kind(Enum):
    """What woke the process; the value is what EVENT_TYPE says."""

    TIME = "EVENT_TIME_EVENT"
    FILE = "EVENT_FILE_EVENT"
    OSF = "EVENT_OSF_EVENT"


@dataclass(frozen=True, slots=True)
class ClaimedFile:
    """A file in work: what it was called, and what it is called now, with the processing suffix."""

    original: Path
    claimed: Path


@dataclass(frozen=True, slots=True)
class Event:
    """An event with the items that were claimed for it, either files or entries, or none."""

    kind: Kind
    files: tuple[ClaimedFile, ...] = ()
    entries: tuple[Entry, ...] = ()

    def __len__(self) -> int:
        return len(self.files) + len(self.entries)

    def __str__(self) -> str:
        """What the process works on, for people."""
        names = [one.original.name for one in self.files] + [str(one.key) for one in self.entries]
        if not names:
            return "time"
        return names[0] + (f" and {len(names) - 1} more" if len(names) > 1 else "")

    def keys(self) -> list[Key]:
        """The entries' keys."""
        return [entry.key for entry in self.entries]


def event_variables(event: Event) -> dict[str, str]:
    """What an event puts into the environment of its command: the first item's variables have no
    number, the second's 1, and so on."""
    variables = {"EVENT_TYPE": event.kind.value, "EVENT_NUM": str(len(event))}
    for number, file in enumerate(event.files):
        variables[f"EVENT_NAME{number or ''}"] = str(file.claimed)
    for number, entry in enumerate(event.entries):
        suffix = str(number or "")
        variables[f"OSF_DATASET{suffix}"] = entry.key.dataset
        variables[f"OSF_DATA_ID{suffix}"] = entry.key.data_id
        variables[f"OSF_DCF_NUM{suffix}"] = entry.key.dcf
        variables[f"OSF_START_TIME{suffix}"] = entry.start
    return variables


def without_event(environ: Mapping[str, str]) -> dict[str, str]:
    """An environment without what an event of another process has put there."""
    return {name: text for name, text in environ.items() if not _OF_AN_EVENT.fullmatch(name)}


# Time


@dataclass(frozen=True, slots=True)
class Now:
    """`wall`: the local time, naive for that of the system; `monotonic`: seconds of a clock that
    is never set."""

    wall: datetime
    monotonic: float


@dataclass(frozen=True, slots=True)
class Ticks:
    """Where a time trigger stands.

    `start`: of slot 0, local; None: `began` alone counts. `delta`: seconds. `seen`: the slot of
    the last look, `handled`: the highest one that ticked, -1 before the first; `ticked`: when, by
    the monotonic clock. `pending`: a tick waits to be handled.
    """

    start: datetime | None
    delta: int
    began: float
    seen: int
    handled: int
    ticked: float
    pending: bool = False


def begin(trigger: TimeTrigger, now: Now, *, once: bool = False) -> Ticks:
    """The state of a time trigger whose process starts `now`.

    With `once` a START that has come today (or since its day of the year) is due; a delta alone
    is not, its first tick being one delta away. Without, only slots from now on are.
    """
    if trigger.start is None:
        return Ticks(None, trigger.delta or DAY, now.monotonic, 0, 0, now.monotonic)
    day = now.wall.date()
    if trigger.day is not None:
        day = date(day.year, 1, 1) + timedelta(days=trigger.day - 1)
    start = datetime.combine(day, trigger.start, tzinfo=now.wall.tzinfo)
    ticks = Ticks(start, trigger.delta or DAY, now.monotonic, -1, -1, now.monotonic)
    if once:
        return ticks
    before = max(math.ceil(_slots(ticks, now)) - 1, -1)
    return replace(ticks, seen=before, handled=before)


def look(ticks: Ticks, now: Now) -> Ticks:
    """The state after a look at the clocks; `pending` says whether there is a tick to handle."""
    slots = _slots(ticks, now)
    slot = max(math.floor(slots), -1)
    if slot < ticks.seen - 1:
        # Set back by more than a delta: what ticked by the wrong time is none of these slots,
        # unless that was within this one.
        within = now.monotonic - ticks.ticked < (slots - slot) * ticks.delta
        ticks = replace(ticks, handled=slot if within else max(slot - 1, -1))
    again = now.monotonic - ticks.ticked >= ticks.delta
    if slot > ticks.handled or (slot != ticks.seen and slot >= 0 and again):
        return replace(ticks, seen=slot, handled=slot, ticked=now.monotonic, pending=True)
    return replace(ticks, seen=slot)


def taken(ticks: Ticks) -> Ticks:
    """The state once the pending tick was made an event."""
    return replace(ticks, pending=False)


def _slots(ticks: Ticks, now: Now) -> float:
    """How many slots, and parts of one, after slot 0 it is."""
    if ticks.start is None:
        return (now.monotonic - ticks.began) / ticks.delta
    if ticks.delta % DAY == 0:
        passed = now.wall.replace(tzinfo=None) - ticks.start.replace(tzinfo=None)
        return passed.total_seconds() / ticks.delta
    return (now.wall.timestamp() - ticks.start.timestamp()) / ticks.delta
