"""What follows a done fileset while the run goes on: after_fileset, import_runs, blackboard.

Each has a thread of its own. What is owed is in the state, so that whatever fails, or is cut off
by a kill, is done by the next run; the fileset stays mirrored in any case.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from mirror.errors import MirrorError
from mirror.halt import Halt, HaltedError
from mirror.hook import HookResult, run_hook
from mirror.loop import Loop
from mirror.records import Fileset
from mirror.report import Report
from mirror.state import State

if TYPE_CHECKING:
    from mirror.blackboard import Poster
    from mirror.import_runs import Importer


class Aftercare:
    """Begins it, and records what came of it; the coordinator's thread calls it."""

    def __init__(
        self,
        loop: Loop,
        root: Path,
        state: State,
        report: Report,
        halt: Halt,
        *,
        hook: Sequence[str],
        import_runs: bool,
        poster: "Poster | None",
    ) -> None:
        self._loop = loop
        self._root = root
        self._state = state
        self._report = report
        self._halt = halt
        self._command = hook
        self._hooks = ThreadPoolExecutor(1, "hook")
        self._poster = poster
        self._importer: Importer | None = None
        if import_runs:
            # Few sites ask for it.
            from mirror import import_runs as room

            self._importer = room.Importer(loop, root, state, report, halt)

    def begin(self) -> None:
        """Begin with what earlier runs have left."""
        for fileset in self._state.hooks():
            self._hook(fileset)
        if self._importer:
            self._importer.begin()

    def add(self, fileset: int) -> None:
        """A fileset that is done now."""
        if self._command:
            self._hook(self._state.by_id(fileset))
        if self._importer:
            self._importer.add(fileset)
        if self._poster:
            self._poster.add()

    def start(self) -> None:
        """Go on with what waits for its turn."""
        if self._importer:
            self._importer.start()
        if self._poster:
            self._poster.start(self._loop)

    def close(self) -> None:
        """Begin nothing more."""
        self._hooks.shutdown(wait=False, cancel_futures=True)
        if self._importer:
            self._importer.close()
        if self._poster:
            self._poster.close()

    def _hook(self, fileset: Fileset) -> None:
        if not self._command:
            return
        self._loop.submit(
            self._hooks,
            partial(run_hook, self._command, self._root, fileset, self._halt),
            self._hooked,
            partial(self._report_error, fileset),
        )

    def _hooked(self, result: HookResult) -> None:
        if result.fault is None:
            self._state.hook_done(result.fileset.id)
        else:
            self._report.fault(result.fault, result.fileset.product, result.fileset.name)

    def _report_error(self, fileset: Fileset, error: MirrorError) -> None:
        if isinstance(error, HaltedError):
            return
        self._report.fault(str(error), fileset.product, fileset.name)
