"""Applying what was decided about the items of an event: to the board, and to the files (OPUS,
"After the command").

The claim of an item ends with what becomes of it: for an entry in one transaction, for a file by
its rename, after which the board forgets it. What cannot be applied to a file leaves it claimed;
it is returned when the process ends.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from formats.path_file import PathFile
from formats.resolution import resolve
from formats.resource_file import ResourceFile
from formats.triggers import FileTrigger, OsfTrigger
from mirror.disk import flush
from mirror.errors import LocalError
from server.blackboard import Blackboard, Key
from server.database import Unavailable
from server.opus.events import ClaimedFile, Event
from server.opus.files import add_suffix, move_file, return_file
from server.opus.outcome import Verdict
from server.opus.run_command import Signals
from server.store_lock import ConflictError

RETRY = 1.0
"""Seconds between two tries where the board does not answer."""

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Settlement:
    """Where the items of a process go. `act` runs FILE_ACTION for a file by its new path."""

    resource: ResourceFile
    paths: PathFile
    board: Blackboard
    holder: int
    say: Callable[[str], None]
    signals: Signals
    act: Callable[[Path], None]

    def settle(self, event: Event, verdicts: Sequence[Verdict]) -> None:
        """Apply a verdict to each item, in their order.

        Raises Unavailable where the board does not answer and the process is to end.
        """
        if event.entries:
            for key, verdict in zip(event.keys(), verdicts, strict=True):
                self._entry(key, verdict)
        elif event.files:
            for file, verdict in zip(event.files, verdicts, strict=True):
                self._file(file, verdict)

    def abandon(self, event: Event) -> None:
        """The process ends over an event: OSF_ABSENT or FILE_ABSENT, else all is as before."""
        self.settle(event, [self._absence(event)] * len(event))

    def release(self) -> None:
        """Return what is held though no event is in work: what could not be settled."""
        entries, files = self.board.held(self.holder)
        nothing = Verdict({}, back=True)
        for entry in entries:
            self._entry(entry.key, nothing)
        for original, claimed in files:
            self._file(ClaimedFile(original, claimed), nothing)

    def _absence(self, event: Event) -> Verdict:
        for trigger in self.resource.triggers:
            if isinstance(trigger, OsfTrigger) and event.entries and trigger.absent:
                return Verdict(dict.fromkeys(trigger.processing, trigger.absent))
            if isinstance(trigger, FileTrigger) and event.files and trigger.absent:
                return Verdict({}, trigger.absent)
        return Verdict({}, back=True)

    def _entry(self, key: Key, verdict: Verdict) -> None:
        def apply() -> None:
            if verdict.back:
                self.board.give_back(self.holder, key)
            else:
                self.board.settle(self.holder, key, verdict.letters)

        try:
            self._insist(apply)
        except ConflictError as error:
            self.say(f"nothing was written: {error}")

    def _file(self, file: ClaimedFile, verdict: Verdict) -> None:
        try:
            path = self._changed(file, verdict)
        except Unavailable:
            raise
        except LocalError as error:
            self.say(f"the file stays as it is, until this process ends: {error}")
            return
        if verdict.action:
            self.act(path)

    def _changed(self, file: ClaimedFile, verdict: Verdict) -> Path:
        """Do what becomes of a file; returns its new path."""
        change, noted = verdict.change, file.claimed
        if verdict.back:
            self._insist(lambda: return_file(file, self.board, self.holder))
            return file.original
        if change is None:
            path = file.claimed
        elif change.suffix is not None:
            path = add_suffix(file, change.suffix)
        else:
            value = resolve(self.resource, self.paths, change.keyword).value
            path, noted = move_file(file, Path(os.path.abspath(value)), self._recorder(file))
        # What the board forgets must not come back after a power cut.
        flush(dict.fromkeys((path.parent, file.claimed.parent)))
        self._insist(lambda: self.board.forget_file(self.holder, noted))
        return path

    def _recorder(self, file: ClaimedFile) -> Callable[[Path, Path], None]:
        def record(final: Path, hidden: Path) -> None:
            self._insist(lambda: self.board.move_file(self.holder, file.claimed, final, hidden))

        return record

    def _insist(self, call: Callable[[], _Result]) -> _Result:
        """Do it, again and again where the board does not answer, until the process is to end."""
        told = False
        while True:
            try:
                return call()
            except Unavailable as error:
                if self.signals.reason:
                    raise
                if not told:
                    self.say(f"waiting for the board: {error}")
                told = True
                self.signals.wait(RETRY)


def letters_of(resource: ResourceFile) -> Iterable[dict[str, str]]:
    """Every set of stages and letters that the process may write or look for."""
    for outcome in resource.outcomes.values():
        yield dict(outcome.osf)
    for trigger in resource.triggers:
        if isinstance(trigger, OsfTrigger):
            yield dict(trigger.processing)
            if trigger.absent:
                yield dict.fromkeys(trigger.processing, trigger.absent)
