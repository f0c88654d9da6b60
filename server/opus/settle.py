"""Applying what was decided about the items of an event: to the board, and to the files (OPUS,
"After the command").

The claim of an item ends with what becomes of it: for an entry in one transaction, for a file by
its rename, after which the board forgets it. What cannot be applied to a file now, the disk being
full perhaps, is tried again at every poll; what is left of that is returned when the process ends.
A FILE_ACTION that could not be run to its end stays on the board, for the next start.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from formats.outcomes import FILE_ACTION
from formats.path_file import PathFile
from formats.resolution import resolve
from formats.resource_file import ResourceFile
from formats.triggers import FileTrigger, OsfTrigger
from mirror.disk import flush
from mirror.errors import ConfigError, LocalError, MirrorError
from server.blackboard import Blackboard, Key
from server.database import Unavailable
from server.opus.events import ClaimedFile, Event
from server.opus.moving import add_suffix, finish_move, move_file, return_file
from server.opus.outcome import Verdict
from server.opus.run_command import Signals
from server.store_lock import ConflictError

RETRY = 1.0
"""Seconds between two tries where the board does not answer."""

_Result = TypeVar("_Result")


@dataclass(slots=True)
class _Work:
    """A file, and what becomes of it.

    `noted`: under which name the board has it. `directory`: where it is moved to, once its copy
    there, which is `noted` then, is the file; `removed`: what it is a copy of is removed.
    `path`: the file's new one, once it has it. `why`: what kept it from being done.
    """

    file: ClaimedFile
    verdict: Verdict
    noted: Path
    directory: Path | None = None
    removed: bool = False
    path: Path | None = None
    why: str = ""


@dataclass(slots=True)
class Settlement:
    """Where the items of a process go.

    `act` runs FILE_ACTION for a file by its new path; False if it was ended before its own end.
    `made` is told of every name that a file has got. `pending`: what could not be applied to files
    yet, by the names that they have in work; `due`: the files whose FILE_ACTION has not returned,
    with what kept it from that; `taken`: among them those that earlier processes of this name have
    left. `tried`: when that was tried last.
    """

    resource: ResourceFile
    paths: PathFile
    board: Blackboard
    holder: int
    say: Callable[[str], None]
    signals: Signals
    act: Callable[[Path], bool]
    made: Callable[[Path], None] = lambda path: None
    pending: dict[Path, _Work] = field(default_factory=dict)
    due: dict[Path, str] = field(default_factory=dict)
    taken: bool = False
    tried: float = float("-inf")

    def settle(self, event: Event, verdicts: Sequence[Verdict]) -> None:
        """Apply a verdict to each item, in their order.

        Raises Unavailable where the board does not answer and the process is to end.
        """
        if event.entries:
            for key, verdict in zip(event.keys(), verdicts, strict=True):
                self._entry(key, verdict)
        elif event.files:
            for file, verdict in zip(event.files, verdicts, strict=True):
                if file.claimed not in self.pending:
                    self._file(_Work(file, verdict, file.claimed))

    def abandon(self, event: Event) -> None:
        """The process ends over an event: OSF_ABSENT or FILE_ABSENT, else all is as before."""
        self.settle(event, [self._absence(event)] * len(event))

    def retry(self, now: float) -> None:
        """Once a poll, apply what could not be applied before, and run the FILE_ACTIONs that are
        due still, at first those that an earlier process of this name has left.

        `now`: seconds of a clock that is never set. Raises Unavailable.
        """
        if not self.taken:
            left = self.board.take_actions(self.holder, self.resource.name)
            self.due.update(dict.fromkeys(left, ""))
            self.taken = True
        elif now - self.tried < (self.resource.polling_time or 0.0):
            return
        self.tried = now
        for path in list(self.due):
            self._act(path)
        for work in list(self.pending.values()):
            self._file(work)

    def finish(self) -> None:
        """Nothing more is to come: try once more what is left. Raises LocalError if it stays."""
        self.tried = float("-inf")
        self.retry(0.0)
        left = [f"{work.file.original}: {work.why}" for work in self.pending.values()]
        left += [f"FILE_ACTION for {path}: {why}" for path, why in self.due.items()]
        if left:
            raise LocalError(f"{len(left)} could not be brought to an end: {'; '.join(left)}")

    def release(self) -> None:
        """Return what is held though no event is in work: what the board may have claimed for us
        without our knowing."""
        entries, _ = self.board.held(self.holder)
        nothing = Verdict({}, back=True)
        for entry in entries:
            self._entry(entry.key, nothing)
        known = {work.noted for work in self.pending.values()}
        for row in self.board.file_rows(self.holder):
            # Of what has begun to become another file the next reap makes an end.
            if row.claimed not in known and row.due is None and row.spare is None:
                self._file(_Work(ClaimedFile(row.original, row.claimed), nothing, row.claimed))

    def end(self) -> None:
        """Return all that is held, as the process ends: what could not be settled too."""
        for work in list(self.pending.values()):
            if work.path is None and work.directory is None:
                self._file(_Work(work.file, Verdict({}, back=True), work.noted, why=work.why))
        self.release()

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

    # Files

    def _file(self, work: _Work) -> None:
        """Apply what becomes of a file, or keep it for the next poll."""
        acts = work.verdict.action and self.resource.find(FILE_ACTION) is not None
        try:
            path = work.path = work.path or self._changed(work, acts=acts)
            # What the board forgets must not come back after a power cut.
            flush(dict.fromkeys((path.parent, work.file.claimed.parent)))
        except Unavailable:
            raise
        except (LocalError, ConfigError) as error:
            self._failed(work, str(error))
            return
        if acts:
            self._insist(lambda: self.board.begin_action(self.holder, work.noted, path))
        else:
            self._insist(lambda: self.board.forget_file(self.holder, work.noted))
        self.pending.pop(work.file.claimed, None)
        if work.why:
            done = "is returned" if work.verdict.back else "the outcome of its event is applied now"
            self.say(f"{path}: {done}")
        self.made(path)
        if acts:
            self._act(path)

    def _failed(self, work: _Work, why: str) -> None:
        """Keep for the next poll what could not be applied, unless the command has removed it."""
        claimed = work.file.claimed
        if work.noted == claimed and work.path is None and not os.path.lexists(claimed):
            self.say(f"nothing becomes of a file: {why}")
            self._insist(lambda: self.board.forget_file(self.holder, claimed))
            self.pending.pop(claimed, None)
            return
        if not work.why:
            self.say(f"the file stays as it is, and is tried again at every poll: {why}")
        work.why = why
        self.pending[claimed] = work

    def _changed(self, work: _Work, *, acts: bool) -> Path:
        """Do what becomes of a file; returns its new path."""
        file, change = work.file, work.verdict.change
        diary = _Diary(self, work, acts=acts)
        if work.verdict.back:
            return return_file(file)
        if work.directory:
            return finish_move(file, work.directory, work.noted, diary, removed=work.removed)
        if change is None:
            return file.claimed
        if change.suffix is not None:
            return add_suffix(file, change.suffix, diary.renaming)
        value = resolve(self.resource, self.paths, change.keyword).value
        return move_file(file, Path(os.path.abspath(value)), diary)

    def _act(self, path: Path) -> None:
        """Run FILE_ACTION, and have the board forget the file; without an end it stays due."""
        before = self.due.setdefault(path, "")
        try:
            if not self.act(path):
                return
        except Unavailable:
            raise
        except MirrorError as error:
            if not before:
                self.say(f"FILE_ACTION for {path}: is tried again at every poll: {error}")
            self.due[path] = str(error)
            return
        del self.due[path]
        self._insist(lambda: self.board.forget_file(self.holder, path))

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


@dataclass(frozen=True, slots=True)
class _Diary:
    """What the board is told of a file; `acts`: FILE_ACTION is due once it has its name."""

    settlement: Settlement
    work: _Work
    acts: bool

    def renaming(self, path: Path) -> None:
        """See moving.Diary."""
        if self.acts:
            one, noted = self.settlement, self.work.noted
            one._insist(lambda: one.board.note_action(one.holder, noted, path))

    def copying(self, hidden: Path) -> None:
        """See moving.Diary."""
        one, noted = self.settlement, self.work.noted
        one._insist(lambda: one.board.note_copy(one.holder, noted, hidden))

    def copied(self, final: Path, hidden: Path) -> None:
        """See moving.Diary."""
        one, work, due = self.settlement, self.work, final if self.acts else None
        one._insist(lambda: one.board.move_file(one.holder, work.noted, final, hidden, due))
        work.noted, work.directory = hidden, final.parent

    def removed(self) -> None:
        """See moving.Diary."""
        self.work.removed = True
