"""What wakes a process now: the triggers in the order of their ranks, each claiming its items
(OPUS, "Process resource files").
"""

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from math import isfinite
from pathlib import Path

from formats.path_file import PathFile
from formats.resolution import resolve
from formats.resource_file import ResourceFile
from formats.triggers import FileTrigger, OsfTrigger, TimeTrigger
from server.blackboard import Blackboard, Key
from server.opus.board_records import LENGTHS
from server.opus.events import Event, Kind, Now, Ticks, begin, look, taken
from server.opus.files import Wanted, Watch, claim_files, environment_room

_MANY = 10
"""Files of which each is told that it cannot be had."""


@dataclass(slots=True)
class Sources:
    """Where the events of a process come from, and what was seen of them.

    `passed`: entries that were left as they were, and when (monotonic); for `rest` seconds they
    wake nobody here again. `after`: of each trigger the number of the last entry, where each is
    handled one time only. `say` writes to the log.
    """

    resource: ResourceFile
    paths: PathFile
    board: Blackboard
    holder: int
    say: Callable[[str], None]
    ticks: Ticks | None
    watch: Watch
    rest: float
    passed: dict[Key, float] = field(default_factory=dict)
    after: dict[int, int] = field(default_factory=dict)
    unreadable: dict[Path, str] = field(default_factory=dict)
    told: set[Path] = field(default_factory=set)
    refused: set[Path] = field(default_factory=set)

    def next_event(self, now: Now) -> Event | None:
        """Claim the items of the event that comes first; None if nothing is due.

        Raises ConfigError for a directory that has no meaning, Unavailable where the board does
        not answer.
        """
        if self.ticks:
            self.ticks = look(self.ticks, now)
        for trigger in self.resource.triggers:
            event = self._event_of(trigger, now)
            if event is not None:
                return event
        return None

    def left(self, event: Event, items: Iterable[int], now: Now) -> None:
        """Some items of an event were left as they were: let others come first for a while."""
        for item in items:
            if event.entries:
                self.passed[event.entries[item].key] = now.monotonic
            elif event.files:
                self.watch.passed[str(event.files[item].original)] = now.monotonic

    def returned(self, event: Event) -> None:
        """An event could not be begun: one that has no items is due again."""
        if self.ticks and event.kind is Kind.TIME:
            self.ticks = replace(self.ticks, pending=True)

    def _event_of(self, trigger: TimeTrigger | FileTrigger | OsfTrigger, now: Now) -> Event | None:
        if isinstance(trigger, TimeTrigger):
            return self._tick()
        if isinstance(trigger, FileTrigger):
            return self._files(trigger, now.monotonic)
        return self._entries(trigger, now.monotonic)

    def _tick(self) -> Event | None:
        if not self.ticks or not self.ticks.pending:
            return None
        self.ticks = taken(self.ticks)
        return Event(Kind.TIME)

    def _files(self, trigger: FileTrigger, now: float) -> Event | None:
        suffixes = own_suffixes(self.resource, trigger)
        searches = [
            Wanted(self._directory(search.keyword), search.pattern, search.maxtargs, suffixes)
            for search in trigger.searches
        ]
        self.watch.look(searches, now)
        files = claim_files(self.watch, trigger.processing, self.board, self.holder)
        self._tell_unreadable()
        self._tell_taken()
        self._tell_refused()
        return Event(Kind.FILE, files=files) if files else None

    def _directory(self, keyword: str) -> Path:
        return Path(os.path.abspath(resolve(self.resource, self.paths, keyword).value))

    def _tell_unreadable(self) -> None:
        """Say once that a directory cannot be read, and once that it can again."""
        now = self.watch.unreadable
        for directory, why in now.items():
            if directory not in self.unreadable:
                self.say(f"{directory}: its files cannot be had: {why}")
        for directory in self.unreadable.keys() - now.keys():
            self.say(f"{directory}: can be read again")
        self.unreadable = dict(now)

    def _tell_taken(self) -> None:
        """Say once of a file that it waits for another one of its name."""
        for path in self.watch.taken:
            if path not in self.told:
                self.say(f"{path}: waits, a file stands in its way that is called as it would be in"
                    " work; rename or remove that")  # fmt: skip
        self.told = set(self.watch.taken)

    def _tell_refused(self) -> None:
        """Say once of a file that it cannot be had; of very many, of the first and how many."""
        refused = self.watch.refused
        new = [path for path in refused if path not in self.refused]
        for path in new[:_MANY]:
            self.say(f"{path}: cannot be had, the others go on: {refused[path][0]}")
        if more := len(new[_MANY:]):
            self.say(f"{more} more files cannot be had: {refused[new[-1]][0]}")
        if new or len(refused) != len(self.refused):
            self.refused = set(refused)

    def _entries(self, trigger: OsfTrigger, now: float) -> Event | None:
        if isfinite(self.rest):
            self.passed = {key: at for key, at in self.passed.items() if now - at < self.rest}
        for match in trigger.matches:
            found = self.board.claim(
                match, trigger.processing, min(match.maxtargs, _most_entries()), self.holder,
                self.passed.keys(), self.after.get(match.number, 0),
            )  # fmt: skip
            if found:
                if not isfinite(self.rest):
                    self.after[match.number] = found[-1].number
                return Event(Kind.OSF, entries=tuple(found))
        return None


def sources_of(
    resource: ResourceFile,
    paths: PathFile,
    board: Blackboard,
    holder: int,
    say: Callable[[str], None],
    now: Now,
    *,
    once: bool,
) -> Sources:
    """The sources of a process that starts `now`; with `once` an item is handled one time only."""
    polling = resource.polling_time or 0.0
    rest = float("inf") if once else polling
    trigger = next((one for one in resource.triggers if isinstance(one, TimeTrigger)), None)
    ticks = begin(trigger, now, once=once) if trigger else None
    return Sources(resource, paths, board, holder, say, ticks, Watch(polling, rest), rest)


def _most_entries() -> int:
    """How many entries fit into the environment of a command, whatever their keys are."""
    # In UTF-8 a character has at most four bytes; there is the time too, and the variables' names.
    largest = 4 * sum(LENGTHS.values()) + 200
    return environment_room() // largest


def own_suffixes(resource: ResourceFile, trigger: FileTrigger) -> tuple[str, ...]:
    """What the process itself appends to the names of files; those were here before."""
    changes = [trigger.absent, *(outcome.file for outcome in resource.outcomes.values())]
    given = [change.suffix for change in changes if change and change.suffix]
    return tuple(dict.fromkeys((trigger.processing, *given)))
