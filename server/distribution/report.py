"""What `disttool -run` tells: faults, progress on a terminal, and a line at the end."""

import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field

from server.command import tell
from server.distribution.bundle import Bundled
from server.faults import Fault


@dataclass(slots=True)
class Report:
    """What was done, for the line at the end and, on a terminal, while it goes on.

    `held`: filesets that another process is working on.
    """

    runs_left: int
    components: int = 0
    bytes: int = 0
    advanced: int = 0
    registered: int = 0
    faults: int = 0
    held: int = 0
    _runs: set[int] = field(default_factory=set)
    _drawn: float = 0.0

    def bundled(self, dist_id: int, result: Bundled) -> None:
        """A component is done."""
        self.components += 1
        self.bytes += result.bytes or 0
        self._runs.add(dist_id)

    def fault(self, what: str, fault: Fault) -> None:
        """Tell of a fault, in a line of its own."""
        self.faults += 1
        self._clear()
        _complain(f"{what}: {fault.message}")

    def component_fault(self, dist_id: int, component: str, fault: Fault) -> None:
        """Tell of a fault of a component, whose message may begin with its name."""
        where = f"component {component}: "
        self.fault(
            f"run {dist_id}, component {component}",
            Fault(fault.code, fault.message.removeprefix(where)),
        )

    def draw(self) -> None:
        """Bring the line on the terminal up to date, a few times a second at most."""
        now = time.monotonic()
        if sys.stderr.isatty() and now - self._drawn > 0.2:
            self._drawn = now
            with suppress(OSError):
                left = f"{_count(self.runs_left, 'run')} to go"
                print(f"\r\x1b[K{self._done()}; {left}", end="", file=sys.stderr, flush=True)

    def end(self) -> None:
        """Tell what was done, if anything was, and what was left. Raises what `tell` raises."""
        self._clear()
        if self.held:
            filesets, them = ("fileset is", "it") if self.held == 1 else ("filesets are", "them")
            _complain(
                f"{self.held} {filesets} worked on by another process; the next call registers"
                f" {them}"
            )
        if self.components or self.advanced or self.registered or self.faults:
            tell(self._done())

    def _done(self) -> str:
        parts = []
        if self.components:
            of = f"{_count(len(self._runs), 'run')} ({_size(self.bytes)})"
            parts.append(f"bundled {_count(self.components, 'component')} of {of}")
        elif self.advanced:
            parts.append(f"advanced {_count(self.advanced, 'run')}")
        if self.registered:
            parts.append(f"registered {_count(self.registered, 'fileset')}")
        faults = [_count(self.faults, "fault")] if self.faults else []
        return "; ".join([", ".join(parts) or "nothing done", *faults])

    def _clear(self) -> None:
        if self._drawn:
            self._drawn = 0.0
            with suppress(OSError):
                print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def tell_standing(count: int) -> None:
    """Tell that faults of earlier calls are still there: nobody else will."""
    faults = "1 fault stands" if count == 1 else f"{count} faults stand"
    _complain(
        f"{faults} from before; disttool -listfaults shows what, disttool -revertcomponent,"
        " -revertrun and -revertfileset let it be tried again"
    )


def _complain(text: str) -> None:
    with suppress(OSError):
        print(f"disttool: {text}", file=sys.stderr, flush=True)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _size(number: int) -> str:
    """Bytes as people read them: powers of ten."""
    size = float(number)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 999.5:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"
