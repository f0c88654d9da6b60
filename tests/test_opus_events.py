"""When time wakes a process, and what an event puts into the environment; no clock is looked at
(OPUS, "Process resource files", time triggers)."""

from collections.abc import Sequence
from datetime import datetime, time, timedelta, tzinfo
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from formats.triggers import TimeTrigger
from server.opus.board_records import Entry, Key
from server.opus.events import (
    ClaimedFile,
    Event,
    Kind,
    Now,
    Ticks,
    begin,
    event_variables,
    look,
    taken,
    without_event,
)

HOUR, DAY = 3600, 86400
MORNING = datetime(2026, 3, 10, 8, 0, 0)

DELTA = TimeTrigger(1, None, None, HOUR)
DAILY = TimeTrigger(1, None, time(12), None)
HOURLY = TimeTrigger(1, None, time(12), HOUR)


class Clocks:
    """The two clocks of a process; `set` moves the one that can be set."""

    def __init__(self, wall: datetime) -> None:
        self.wall, self.monotonic = wall, 1000.0

    def now(self) -> Now:
        return Now(self.wall, self.monotonic)

    def passes(self, seconds: float) -> Now:
        """Time goes by, whatever the calendar says."""
        self.monotonic += seconds
        zone: tzinfo | None = self.wall.tzinfo
        later = datetime.fromtimestamp(self.wall.timestamp() + seconds, zone)
        self.wall = later
        return self.now()

    def set(self, by: timedelta) -> None:
        self.wall += by


def ticks_of(ticks: Ticks, clocks: Clocks, waits: Sequence[float]) -> tuple[Ticks, list[int]]:
    """The looks, by their numbers, at which there was an event."""
    found = []
    for number, seconds in enumerate(waits):
        ticks = look(ticks, clocks.passes(seconds))
        if ticks.pending:
            found.append(number)
            ticks = taken(ticks)
    return ticks, found


# Each look is half an hour after the one before; the process starts at 08:00.
@pytest.mark.parametrize(
    ("trigger", "began", "expected"),
    [
        pytest.param(DELTA, MORNING, [1, 3, 5, 7, 9], id="delta alone counts from the start"),
        pytest.param(DAILY, MORNING, [7], id="START alone is daily at that local time"),
        pytest.param(HOURLY, MORNING, [7, 9], id="both: every delta from START on"),
        pytest.param(
            HOURLY, MORNING.replace(hour=14, minute=15), [1, 3, 5, 7, 9],
            id="START has passed: the slots that are left",
        ),
        pytest.param(
            DAILY, MORNING.replace(hour=12), [], id="START is now: due at the first look",
        ),
    ],
)  # fmt: skip
def test_ticks(trigger: TimeTrigger, began: datetime, expected: list[int]) -> None:
    clocks = Clocks(began)
    ticks = begin(trigger, clocks.now())
    first = look(ticks, clocks.now())
    assert first.pending is (began.hour == 12)
    assert ticks_of(taken(first), clocks, [HOUR / 2] * 10)[1] == expected


def test_daily_goes_on_from_day_to_day() -> None:
    clocks = Clocks(MORNING)
    found = ticks_of(begin(DAILY, clocks.now()), clocks, [HOUR] * 72)[1]
    assert found == [3, 27, 51]


@pytest.mark.parametrize("trigger", [DELTA, HOURLY, DAILY], ids=["delta", "hourly", "daily"])
def test_missed_ticks_collapse_into_one(trigger: TimeTrigger) -> None:
    clocks = Clocks(MORNING)
    ticks, found = ticks_of(begin(trigger, clocks.now()), clocks, [5 * DAY + 60, 1, 1])
    assert found == [0]
    assert not ticks.pending


def test_a_tick_waits_until_it_is_taken() -> None:
    clocks = Clocks(MORNING)
    ticks = look(begin(DELTA, clocks.now()), clocks.passes(HOUR))
    for _ in range(3):
        ticks = look(ticks, clocks.passes(2 * HOUR))
        assert ticks.pending
    assert not look(taken(ticks), clocks.passes(1)).pending


def test_a_clock_that_is_set_does_not_move_a_delta_alone() -> None:
    clocks = Clocks(MORNING)
    ticks = begin(DELTA, clocks.now())
    for by in (timedelta(days=400), timedelta(days=-800)):
        clocks.set(by)
        ticks, found = ticks_of(ticks, clocks, [HOUR / 2] * 4)
        assert found == [1, 3]


@pytest.mark.parametrize("trigger", [HOURLY, DAILY], ids=["hourly", "daily"])
@pytest.mark.parametrize("back", [1, 60, 600], ids=["by a second", "by a minute", "by 10 minutes"])
def test_a_clock_set_back_does_not_tick_twice(trigger: TimeTrigger, back: int) -> None:
    clocks = Clocks(MORNING)
    ticks, found = ticks_of(begin(trigger, clocks.now()), clocks, [4 * HOUR, 0.5])
    assert found == [0]
    clocks.set(timedelta(seconds=-back))
    ticks, found = ticks_of(ticks, clocks, [1] * (back + 5))
    assert found == []
    # The next one comes when the calendar has it.
    _, found = ticks_of(ticks, clocks, [HOUR / 4] * 96)
    assert len(found) == (24 if trigger is HOURLY else 1)


def test_a_clock_set_back_before_start_waits_for_start() -> None:
    clocks = Clocks(MORNING)
    ticks, found = ticks_of(begin(HOURLY, clocks.now()), clocks, [HOUR] * 5)
    assert found == [3, 4]
    # It is 07:00 again; noon and one o'clock come a second time, long after they came first.
    clocks.set(timedelta(hours=-6))
    assert ticks_of(ticks, clocks, [HOUR] * 6)[1] == [4, 5]


@pytest.mark.parametrize("trigger", [HOURLY, DAILY], ids=["hourly", "daily"])
def test_a_clock_set_forward_ticks_once(trigger: TimeTrigger) -> None:
    clocks = Clocks(MORNING)
    ticks = begin(trigger, clocks.now())
    clocks.set(timedelta(days=3, hours=5))
    _, found = ticks_of(ticks, clocks, [1] * 10)
    assert found == [0]


@pytest.mark.parametrize("trigger", [HOURLY, DAILY], ids=["hourly", "daily"])
def test_a_clock_that_was_a_year_ahead_stops_nothing(trigger: TimeTrigger) -> None:
    clocks = Clocks(MORNING.replace(hour=14, minute=15))
    ticks = begin(trigger, clocks.now())
    clocks.set(timedelta(days=365))
    ticks, found = ticks_of(ticks, clocks, [10])
    assert found == [0]
    clocks.set(timedelta(days=-365))
    delta = trigger.delta or DAY
    _, found = ticks_of(ticks, clocks, [delta / 4] * 20)
    assert len(found) == 5


@pytest.mark.parametrize("early", [HOUR, 20 * HOUR], ids=["soon", "just before"])
def test_a_clock_that_is_right_again_loses_no_night(early: int) -> None:
    """However shortly before the tick that is due the wrong one came."""
    clocks = Clocks(MORNING)
    ticks = begin(DAILY, clocks.now())
    clocks.set(timedelta(days=365))
    ticks, found = ticks_of(ticks, clocks, [early])
    assert found == [0]
    clocks.set(timedelta(days=-365))
    _, found = ticks_of(ticks, clocks, [HOUR] * 72)
    assert len(found) == 3


def test_start_on_a_day_of_the_year() -> None:
    clocks = Clocks(datetime(2026, 3, 10, 8))
    ticks = begin(TimeTrigger(1, 70, time(12), 2 * DAY), clocks.now())
    # Day 70 of 2026 is 11 March.
    assert ticks.start == datetime(2026, 3, 11, 12)
    assert ticks_of(ticks, clocks, [HOUR] * 24 * 5)[1] == [27, 75]


@pytest.mark.parametrize(
    ("trigger", "hour", "due"),
    [
        pytest.param(DELTA, 8, False, id="a delta alone is not"),
        pytest.param(DAILY, 8, False, id="START is still to come"),
        pytest.param(DAILY, 13, True, id="START has come today"),
        pytest.param(HOURLY, 13, True, id="START has come today, with a delta"),
        pytest.param(HOURLY, 11, False, id="START is still to come, with a delta"),
    ],
)
def test_what_is_due_at_once(trigger: TimeTrigger, hour: int, due: bool) -> None:
    now = Now(MORNING.replace(hour=hour), 5.0)
    assert look(begin(trigger, now, once=True), now).pending is due


ZURICH = ZoneInfo("Europe/Zurich")


@pytest.mark.parametrize(
    ("start", "when"),
    [
        pytest.param(time(2, 30), datetime(2026, 3, 28, 20, tzinfo=ZURICH), id="a time left out"),
        pytest.param(time(2, 30), datetime(2026, 10, 24, 20, tzinfo=ZURICH), id="a time twice"),
        pytest.param(time(12), datetime(2026, 3, 28, 20, tzinfo=ZURICH), id="noon, in spring"),
        pytest.param(time(12), datetime(2026, 10, 24, 20, tzinfo=ZURICH), id="noon, in autumn"),
    ],
)
def test_daily_is_once_a_day_when_summer_time_changes(start: time, when: datetime) -> None:
    clocks = Clocks(when)
    ticks = begin(TimeTrigger(1, None, start, None), clocks.now())
    hours = []
    for _ in range(72 * 4):
        ticks = look(ticks, clocks.passes(HOUR / 4))
        if ticks.pending:
            hours.append((clocks.wall.day, clocks.wall.hour))
            ticks = taken(ticks)
    assert len(hours) == 3
    assert len({day for day, _ in hours}) == 3
    assert {hour for _, hour in hours} <= {start.hour, start.hour + 1}


def test_hourly_is_hourly_when_summer_time_changes() -> None:
    clocks = Clocks(datetime(2026, 10, 24, 12, 30, tzinfo=ZURICH))
    found = ticks_of(begin(HOURLY, clocks.now()), clocks, [HOUR / 2] * 48)[1]
    assert found == list(range(0, 48, 2))


# The environment


def test_what_a_file_event_puts_into_the_environment() -> None:
    files = tuple(
        ClaimedFile(Path(f"/in/{name}"), Path(f"/in/{name}_proc")) for name in ("a b", "c", "d")
    )
    assert event_variables(Event(Kind.FILE, files=files)) == {
        "EVENT_TYPE": "EVENT_FILE_EVENT",
        "EVENT_NUM": "3",
        "EVENT_NAME": "/in/a b_proc",
        "EVENT_NAME1": "/in/c_proc",
        "EVENT_NAME2": "/in/d_proc",
    }


def test_what_an_osf_event_puts_into_the_environment() -> None:
    entries = (
        Entry(Key("o1", "fst"), "2026-01-01T00:00:00Z", {}),
        Entry(Key("o2", "raw", "001"), "2026-01-02T00:00:00Z", {}),
    )
    assert event_variables(Event(Kind.OSF, entries=entries)) == {
        "EVENT_TYPE": "EVENT_OSF_EVENT",
        "EVENT_NUM": "2",
        "OSF_DATASET": "o1",
        "OSF_DATA_ID": "fst",
        "OSF_DCF_NUM": "000",
        "OSF_START_TIME": "2026-01-01T00:00:00Z",
        "OSF_DATASET1": "o2",
        "OSF_DATA_ID1": "raw",
        "OSF_DCF_NUM1": "001",
        "OSF_START_TIME1": "2026-01-02T00:00:00Z",
    }


def test_a_time_event_has_no_items() -> None:
    assert event_variables(Event(Kind.TIME)) == {"EVENT_TYPE": "EVENT_TIME_EVENT", "EVENT_NUM": "0"}


def test_an_event_inherits_nothing_of_another_one() -> None:
    kept = {"EVENT_STATE_FILE": "s", "OSF_HOME": "h", "EVENT_NAMES": "n", "PATH": "/bin"}
    old = {"EVENT_NAME": "a", "EVENT_NAME17": "b", "OSF_DATASET": "c", "OSF_DCF_NUM3": "d"}
    assert without_event({**old, **kept, "EVENT_TYPE": "e", "EVENT_NUM": "1"}) == kept


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (Event(Kind.TIME), "time"),
        (Event(Kind.OSF, entries=(Entry(Key("o1", "fst"), "", {}),)), "o1 fst 000"),
        (Event(Kind.FILE, files=(ClaimedFile(Path("/i/a"), Path("/i/a_p")),) * 3), "a and 2 more"),
    ],
    ids=["time", "an entry", "three files"],
)
def test_what_a_process_is_said_to_work_on(event: Event, text: str) -> None:
    assert str(event) == text
