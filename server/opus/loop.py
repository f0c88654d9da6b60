"""A process at work: looking for events, one at a time, running its command, and telling the board
how it is (OPUS, "Process resource files"; seed 004).
"""

import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path

from formats.outcomes import CHECK_FILE, FILE_ACTION
from formats.path_file import PathFile
from formats.resolution import environment_of, resolve
from formats.resource_file import ResourceFile, split_command
from mirror.errors import ConfigError, LocalError, MirrorError
from server.blackboard import Blackboard
from server.database import Unavailable
from server.opus.events import ClaimedFile, Event, Kind, Now, event_variables, without_event
from server.opus.guard import enough, free_blocks
from server.opus.outcome import (
    NOT_STARTED,
    Rules,
    Verdict,
    is_fatal,
    item_statuses,
    said,
    substituted,
    verdicts,
)
from server.opus.process_log import ProcessLog, one_line
from server.opus.run_command import PASSWORD_FD, NotNowError, Signals, run_command
from server.opus.settle import Settlement
from server.opus.state_file import StateFile, own_state_file, text_of
from server.opus.waking import Sources, sources_of

LOOK = 5.0
"""Seconds, at most, between two looks at what was asked of a process that waits."""

WENT_ABSENT = 1


@dataclass(frozen=True, slots=True)
class End:
    """The process ends, as halted or absent, with an exit status."""

    state: str
    status: int = 0


@dataclass(slots=True)
class Process:
    """A process of a path that has joined the board as `holder`.

    `wish`: what was asked of it at the last look; `trouble`: what keeps it from looking for
    events, `why` with figures; `shown`: what the board says it works on; `unsure`: the board may
    hold claims of ours that we do not know of; `connections`: to the board, the first left out;
    `low`: RESUME_BLOCKS are waited for; `begun`: the command of the event in work was started;
    `given`: the environment of that command.
    """

    resource: ResourceFile
    paths: PathFile
    environ: Mapping[str, str]
    board: Blackboard
    holder: int
    log: ProcessLog
    signals: Signals
    password: str | None
    once: bool
    clock: Callable[[], Now]
    free: Callable[[Path], int] = free_blocks
    errors: int = 0
    state: str = "idle"
    wish: str | None = None
    trouble: str = ""
    why: str = ""
    shown: str | None = None
    unsure: bool = False
    connections: int = 0
    low: bool = False
    begun: bool = False
    given: Mapping[str, str] = field(default_factory=dict)
    rules: Rules = field(init=False)
    settlement: Settlement = field(init=False)
    sources: Sources = field(init=False)

    def __post_init__(self) -> None:
        self.rules = Rules.of(self.resource)
        self.settlement = Settlement(
            self.resource, self.paths, self.board, self.holder, self.log.say, self.signals,
            self._act, self._made,
        )  # fmt: skip
        self.sources = sources_of(
            self.resource, self.paths, self.board, self.holder, self.log.say, self.clock(),
            once=self.once,
        )  # fmt: skip
        self.sources.watch.ended = lambda: self.signals.reason

    def run(self) -> int:
        """Work until the process is to end; returns the exit status.

        Raises what ends it: with `once` ConfigError for a value that has no meaning any more, and
        LocalError where the disk guard keeps it from working. Its items are returned then.
        """
        self._say_if_asked(f"starts on path {self.paths.name}, process {os.getpid()}")
        try:
            for line in self.board.reap():
                self.log.say(line)
            end = None
            while end is None:
                end = self._turn()
        except MirrorError as error:
            self.log.say(f"goes absent: {error}")
            with suppress(MirrorError):
                self._leave("absent")
            raise
        self._say_if_asked(f"ends, {end.state}")
        self._leave(end.state)
        return end.status

    def _say_if_asked(self, text: str) -> None:
        """Say what is no trouble; not from cron, which would send it by mail."""
        if not (self.once and self.log.file is None):
            self.log.say(text)

    def _leave(self, state: str) -> None:
        self.settlement.end()
        self.board.leave(self.holder, state)

    # One turn

    def _turn(self) -> End | None:
        """One look, and the event that it has found; None to go on."""
        if self.signals.reason:
            self.log.say(f"{self.signals.reason}: is asked to end")
            return End("absent")
        try:
            return self._looked()
        except Unavailable as error:
            # The board may be back in a moment; events wait for us.
            if self.once:
                raise
            self._in_trouble("waiting for the board", f"waiting for the board: {error}")
            self.unsure = True
            self.signals.wait(min(self._polling(), LOOK))
            return None
        except (ConfigError, NotNowError) as error:
            # A file that others refer to may be half written at this moment; memory comes back.
            if self.once:
                raise
            self._in_trouble(str(error), f"waiting, events stay where they are: {error}")
            self._rest("idle", self.trouble)
            return None

    def _looked(self) -> End | None:
        self.wish = self.board.wishes(self.holder)
        if self.connections != self.board.reconnected:
            # It may be another file, which says something else of us.
            self.connections, self.unsure, self.state = self.board.reconnected, True, ""
        if self.unsure:
            # It may have claimed something for us, and the answer was lost.
            self.settlement.release()
            self.unsure = False
        if self.wish == "halt":
            return End("halted")
        # What is in work is finished first; it may be what the disk waits for.
        self.given = {}
        more = self.settlement.retry(self.clock().monotonic)
        if self.wish == "suspend":
            self._rest("suspended")
            return None
        if not self._disk_allows():
            if self.once:
                raise LocalError(f"{self.why}; events stay where they are")
            self._rest("iowait", self.trouble)
            return None
        # What has no meaning now is seen before anything is claimed.
        words, environ = self._words("COMMAND"), self._environment()
        event = self.sources.next_event(self.clock())
        if event is not None:
            return self._worked_on(event, words, environ)
        self._in_trouble("", "")
        if more:
            return None
        if self.once:
            self.settlement.finish()
            return End("halted")
        self._rest("idle")
        return None

    def _be(self, state: str, working_on: str | None = None) -> None:
        self.board.report(self.holder, state, working_on)
        self.state, self.shown = state, working_on

    def _rest(self, state: str, why: str | None = None) -> None:
        """Wait POLLING_TIME, or until a signal, or a wish that was not there before."""
        if (state, why) != (self.state, self.shown):
            self._be(state, why)
        until = self.clock().monotonic + self._polling()
        while (left := until - self.clock().monotonic) > 0 and not self.signals.reason:
            self.signals.wait(min(left, LOOK))
            if left > LOOK and self.board.wishes(self.holder) != self.wish:
                return

    def _polling(self) -> float:
        return self.resource.polling_time or LOOK

    def _in_trouble(self, trouble: str, text: str) -> None:
        """Say once what is in the way, as `text`, and once that it is gone."""
        if trouble and trouble != self.trouble:
            self.log.say(text)
        elif self.trouble and not trouble:
            self.log.say("goes on")
        self.trouble, self.why = trouble, text

    def _disk_allows(self) -> bool:
        least, resume = self.resource.min_blocks, self.resource.resume_blocks
        if least is None:
            return True
        place = Path(resolve(self.resource, self.paths, "OUTPATH").value)
        needed = (resume or least) if self.low else least
        try:
            free = self.free(place)
        except LocalError as error:
            self._in_trouble(str(error), f"iowait: {error}")
            return False
        self.low = not enough(free, least, resume or least, waiting=self.low)
        if not self.low:
            return True
        self._in_trouble(
            f"less than {needed} blocks free on {place}",
            f"iowait: {place} has {free} blocks of 512 bytes free, not {needed}",
        )
        return False

    # One event

    def _worked_on(self, event: Event, words: list[str], environ: Mapping[str, str]) -> End | None:
        """Handle an event. What keeps it from being begun now leaves everything as it was before;
        what else is raised makes the process absent with its items held, and with `once` all."""
        try:
            return self._handled(event, words, environ)
        except MirrorError as error:
            waits = isinstance(error, ConfigError | NotNowError | Unavailable)
            if waits and not (self.begun or self.once):
                self.sources.returned(event)
                self.settlement.settle(event, [Verdict({}, back=True)] * len(event))
                raise
            with suppress(MirrorError):
                self.settlement.abandon(event)
            raise

    def _handled(self, event: Event, words: list[str], environ: Mapping[str, str]) -> End | None:
        """Run the command, and apply what its exit status means."""
        self.begun = False
        self._be("busy", one_line(str(event)))
        self.given = {**environ, **event_variables(event)}
        with self._state_file() as states:
            status = self._run(words, self.given, self.password, states)
            self.begun = True
            self._in_trouble("", "")
            if status is None:
                self.settlement.abandon(event)
                return None
            if is_fatal(status):
                self.log.say(f"{event}: {said(status)} is fatal")
                self.settlement.abandon(event)
                return End("absent", WENT_ABSENT)
            judged = self._judged(status, len(event), text_of(states))
        self._settle(event, judged)
        return self._count_errors(event, judged)

    def _settle(self, event: Event, judged: list[Verdict]) -> None:
        back = [item for item, verdict in enumerate(judged) if verdict.back]
        self.sources.left(event, back, self.clock())
        self.settlement.settle(event, judged[: len(event)])

    def _count_errors(self, event: Event, judged: list[Verdict]) -> End | None:
        """XPOLL_ERROR_COUNT events with an error are borne; the next one ends the process."""
        why = next((verdict.error for verdict in judged if verdict.error), "")
        if not why:
            return None
        self.errors += 1
        self.log.say(f"{event}: error {self.errors}: {why}")
        borne = self.resource.error_count
        if borne is None or self.errors <= borne:
            return None
        self.log.say(f"goes absent: XPOLL_ERROR_COUNT is {borne}")
        return End("absent", WENT_ABSENT)

    def _judged(self, status: int, items: int, states: str) -> list[Verdict]:
        """A verdict for each item; for an event without items one too."""
        if items and self.rules.checks_file(status):
            return verdicts(self.rules, item_statuses(states, items))
        if self.rules.checks_file(status):
            return [Verdict({})]
        return [self.rules.verdict(status)] * max(items, 1)

    def _environment(self) -> dict[str, str]:
        """The environment of a command, but for what its event puts there."""
        environ = without_event(self.environ)
        environ.pop(PASSWORD_FD, None)
        environ.update(environment_of(self.resource, self.paths, self.environ))
        environ["PATH_FILE_NAME"] = str(self.paths.path)
        environ["PROCESS_NAME"] = self.resource.name
        return environ

    def _words(self, keyword: str) -> list[str]:
        """The words of a command. Raises ConfigError for one that is none any more."""
        text = resolve(self.resource, self.paths, keyword).value
        try:
            return split_command(text)
        except ValueError as error:
            raise ConfigError([f"{self.resource.path}: {keyword}: {error}: {text}"]) from None

    def _run(
        self, words: list[str], given: Mapping[str, str], password: str | None = None,
        states: StateFile | None = None,
    ) -> int | None:  # fmt: skip
        # A command that outlives this process keeps its items, and its turn.
        alive = (self.board.alive_descriptor(), *((states.lock,) if states else ()))
        return run_command(words, given, self.log, self.signals, alive, password)

    def _act(self, file: Path) -> bool:
        """Run FILE_ACTION, if there is one, for a file of which a command has made a success;
        False if it was ended: it is due again when a process of this name starts."""
        if self.resource.find(FILE_ACTION) is None:
            return True
        given = self.given
        if not given:
            # The event is over, perhaps that of an earlier process.
            event = Event(Kind.FILE, (ClaimedFile(file, file),))
            self._be("busy", one_line(str(event)))
            given = {**self._environment(), **event_variables(event)}
        words = substituted(self._words(FILE_ACTION), str(file))
        status = self._run(words, given)
        if status == NOT_STARTED:
            raise LocalError(f"{words[0]}: cannot be started")
        expected = self.resource.action_ok
        if status is None:
            self.log.say(f"FILE_ACTION for {file}: was ended, and is due at the next start")
        elif expected is not None and status != expected:
            self.log.say(f"error: FILE_ACTION for {file}: {said(status)}, {expected} expected")
        return status is not None

    def _made(self, file: Path) -> None:
        """With `once`, what this process has made is none of its events, whatever it is called."""
        if self.once:
            self.sources.watch.passed[str(file)] = self.clock().monotonic

    def _state_file(self) -> AbstractContextManager[StateFile | None]:
        """EVENT_STATE_FILE, where there is a CHECK_FILE that needs it."""
        name, home = self.given.get("EVENT_STATE_FILE"), self.given.get("OPUS_HOME_DIR")
        if CHECK_FILE not in self.resource.states.values() or not name:
            return nullcontext()
        if not home and not os.path.isabs(name):
            raise ConfigError(
                [f"OPUS_HOME_DIR: required, the directory of EVENT_STATE_FILE {name}"]
            )
        return own_state_file(Path(os.path.abspath(os.path.join(home or "", name))), self.signals)
