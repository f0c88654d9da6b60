"""Applying what was decided about the items of an event: to the board, and to the files (OPUS,
"After the command").

The claim of an item ends with what becomes of it: for an entry in one transaction, for a file by
its rename, after which the board forgets it. What cannot be applied to a file now, the disk being
full perhaps, is tried again at every poll; what is left of that is returned when the process ends.
A FILE_ACTION that could not be run to its end stays on the board, for the next start.
"""

import os
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from formats.outcomes import FILE_ACTION
from formats.path_file import PathFile
from formats.resolution import resolve
from formats.resource_file import ResourceFile
from formats.triggers import FileTrigger, OsfTrigger
from mirror.errors import ConfigError, LocalError, MirrorError
from server.blackboard import Blackboard, Key
from server.database import Unavailable
from server.opus.events import ClaimedFile, Event
from server.opus.moving import (
    add_suffix,
    finish_move,
    flush_directories,
    is_gone,
    move_file,
    return_file,
)
from server.opus.outcome import Verdict
from server.opus.run_command import Signals
from server.store_lock import ConflictError

RETRY = 1.0
"""Seconds between two tries where the board does not answer."""

TOLD = 10
"""Of what is in the way of files so many are told one by one."""

A_TURN = 100
"""Files that are tried again before the process looks for signals, wishes, and events."""

_Result = TypeVar("_Result")


@dataclass(slots=True)
class _Work:
    """A file, and what becomes of it.

    `noted`: under which name the board has it. `directory`: where it is moved to, once its copy
    there, which is `noted` then, is the file; `removed`: what it is a copy of is removed.
    `path`: the file's new one, once it has it. `why`: what kept it from being done. `target`: the
    directory into which it is to go.
    """

    file: ClaimedFile
    verdict: Verdict
    noted: Path
    directory: Path | None = None
    removed: bool = False
    path: Path | None = None
    why: str = ""
    target: Path | None = None


@dataclass(slots=True)
class Settlement:
    """Where the items of a process go.

    `act` runs FILE_ACTION for a file by its new path; False if it was ended before its own end.
    `made` is told of every name that a file has got. `pending`: what could not be applied to files
    yet, by the identity of the file, as a name may be that of another by now; `renamed`: those of
    them that have their new names, by what the board calls them; `due`: the files whose FILE_ACTION
    has not returned, with what kept it from that. `tried`: when a round of tries was begun last;
    `actions`, `files`: what is left of it; `full`: directories that had no room in it. `untold`:
    how many files had something in their way of which nothing was said yet.
    """

    resource: ResourceFile
    paths: PathFile
    board: Blackboard
    holder: int
    say: Callable[[str], None]
    signals: Signals
    act: Callable[[Path], bool]
    made: Callable[[Path], None] = lambda path: None
    pending: dict[int, _Work] = field(default_factory=dict)
    renamed: dict[Path, _Work] = field(default_factory=dict)
    due: dict[Path, str] = field(default_factory=dict)
    tried: float = float("-inf")
    actions: deque[Path] = field(default_factory=deque)
    files: deque[_Work] = field(default_factory=deque)
    full: set[Path] = field(default_factory=set)
    untold: int = 0

    def settle(self, event: Event, verdicts: Sequence[Verdict]) -> None:
        """Apply a verdict to each item, in their order.

        Raises Unavailable where the board does not answer and the process is to end.
        """
        if event.entries:
            for key, verdict in zip(event.keys(), verdicts, strict=True):
                self._entry(key, verdict)
        elif event.files:
            for file, verdict in zip(event.files, verdicts, strict=True):
                # What has a verdict already keeps it when the process is to end over its event.
                if id(file) not in self.pending:
                    self._claimed_again(file.claimed)
                    self._file(_Work(file, verdict, file.claimed))
            self._tell_more()

    def abandon(self, event: Event) -> None:
        """The process ends over an event: OSF_ABSENT or FILE_ABSENT, else all is as before."""
        self.settle(event, [self._absence(event)] * len(event))

    def retry(self, now: float) -> bool:
        """Once a poll, begin a round: apply what could not be applied before, and run the
        FILE_ACTIONs that are due still, those too that dead processes of this name have left.

        A call runs one FILE_ACTION and tries some files; True if there is more of this round.
        `now`: seconds of a clock that is never set. Raises Unavailable.
        """
        if not (self.actions or self.files):
            if now - self.tried < (self.resource.polling_time or 0.0):
                return False
            self.tried = now
            for path in self.board.take_actions(self.holder, self.resource.name):
                self.due.setdefault(path, "")
            self.actions.extend(self.due)
            self.files.extend(self.pending.values())
            self.full.clear()
        if self.actions and not self.signals.reason:
            path = self.actions.popleft()
            if path in self.due:
                self._act(path)
        for _ in range(min(A_TURN, len(self.files))):
            if self.signals.reason:
                return False
            work = self.files.popleft()
            if id(work.file) in self.pending and work.target not in self.full:
                self._file(work, later=True)
        self._tell_more()
        return bool(self.actions or self.files)

    def finish(self) -> None:
        """Nothing more is to come: try once more what is left. Raises LocalError if it stays."""
        self.tried = float("-inf")
        self.actions.clear()
        self.files.clear()
        while self.retry(0.0) and not self.signals.reason:
            pass
        left = [f"{work.file.original}: {work.why}" for work in self.pending.values()]
        left += [f"FILE_ACTION for {path}: {why}" for path, why in self.due.items()]
        if not left or self.signals.reason:
            return
        told = "; ".join(left[:TOLD]) + (f"; and {len(left) - TOLD} more" if left[TOLD:] else "")
        raise LocalError(f"{len(left)} could not be brought to an end: {told}")

    def release(self) -> None:
        """Return what is held though no event is in work: what the board may have claimed for us
        without our knowing."""
        entries, _ = self.board.held(self.holder)
        nothing = Verdict({}, back=True)
        for entry in entries:
            self._entry(entry.key, nothing)
        known = {work.noted for work in self.pending.values() if work.path is None}
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

    def _file(self, work: _Work, *, later: bool = False) -> None:
        """Apply what becomes of a file, or keep it for the next poll; `later`: its FILE_ACTION is
        run in its turn."""
        acts = work.verdict.action and self.resource.find(FILE_ACTION) is not None
        try:
            path = work.path = work.path or self._changed(work, acts=acts)
            # What the board forgets must not come back after a power cut.
            flush_directories(dict.fromkeys((path.parent, work.file.claimed.parent)))
        except Unavailable:
            raise
        except (LocalError, ConfigError) as error:
            self._failed(work, str(error), full=isinstance(error, LocalError) and error.full)
            return
        if acts:
            self._insist(lambda: self.board.begin_action(self.holder, work.noted, path))
        else:
            self._insist(lambda: self.board.forget_file(self.holder, work.noted))
        self._over(work)
        if work.why:
            done = "is returned" if work.verdict.back else "the outcome of its event is applied now"
            self.say(f"{path}: {done}")
        self.made(path)
        if acts and later:
            self.due.setdefault(path, "")
            self.actions.append(path)
        elif acts:
            self._act(path)

    def _failed(self, work: _Work, why: str, *, full: bool) -> None:
        """Keep for the next poll what could not be applied, unless the command has removed it."""
        claimed = work.file.claimed
        if work.noted == claimed and work.path is None and is_gone(claimed):
            self.say(f"nothing becomes of a file: {why}")
            self._insist(lambda: self.board.forget_file(self.holder, claimed))
            self._over(work)
            return
        if not work.why and len(self.pending) < TOLD:
            self.say(f"the file stays as it is, and is tried again at every poll: {why}")
        elif not work.why:
            self.untold += 1
        work.why = why
        self.pending[id(work.file)] = work
        if work.path:
            self.renamed[work.noted] = work
        if full and work.target:
            self.full.add(work.target)

    def _over(self, work: _Work) -> None:
        """Nothing more is to be done to a file."""
        self.pending.pop(id(work.file), None)
        if self.renamed.get(work.noted) is work:
            del self.renamed[work.noted]

    def _claimed_again(self, claimed: Path) -> None:
        """A file that had its new name, though perhaps not for ever, has left its name in work to
        another: what the board has under that is the other one's."""
        before = self.renamed.pop(claimed, None)
        if before and before.path:
            before.noted = before.path
            self.renamed[before.noted] = before

    def _tell_more(self) -> None:
        if self.untold:
            self.say(
                f"{self.untold} more files stay as they are, and are tried again at every poll"
            )
        self.untold = 0

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
        work.target = Path(os.path.abspath(value))
        return move_file(file, work.target, diary)

    def _act(self, path: Path) -> None:
        """Run FILE_ACTION, and have the board forget the file; without an end it stays due."""
        before = self.due.setdefault(path, "")
        if self.signals.reason:
            # It was not begun: the board has it for the next start.
            return
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
