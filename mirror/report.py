"""What a run tells: trouble as it comes, a summary, the JSON document, one exit status.

Under cron a run without trouble prints nothing; trouble goes to standard error, one line each.
On a terminal there is a progress display as well (mirror.progress).
"""

import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from mirror.errors import LocalError

EXIT_OK = 0
EXIT_TROUBLE = 1
EXIT_USAGE = 2
EXIT_CONFIG = 3
EXIT_UNLISTED = 4
EXIT_LOCAL = 5
EXIT_LOCKED = 75


@dataclass(slots=True)
class Count:
    """The figures of one product in this run; `queued` is what is left, `bytes` were fetched."""

    listed: int = 0
    new: int = 0
    done: int = 0
    failed: int = 0
    queued: int = 0
    bytes: int = 0
    seconds: float = 0.0
    last_fileset: str | None = None


@dataclass(frozen=True, slots=True)
class Fault:
    """What went wrong with what."""

    product: str | None
    fileset: str | None
    file: str | None
    fault: str

    def line(self) -> str:
        """The fault as one line: where, then what."""
        place = "/".join(part for part in (self.product, self.fileset, self.file) if part)
        return f"{place}: {self.fault}" if place else self.fault


def utc_now() -> str:
    """The time as the documents have it, UTC ISO 8601."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def printable(text: str) -> str:
    """`text` on one line, with control characters escaped: it may come from the network."""
    return "".join(
        sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text
    )


def say(text: str) -> None:
    """A line on standard error. If whoever listened has gone, the run goes on all the same."""
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - for good


class Report:
    """Collects what happens in a run. `quiet`: trouble only; `verbose`: every fileset too."""

    def __init__(self, *, quiet: bool = False, verbose: bool = False) -> None:
        self.started = utc_now()
        self.products: dict[str, Count] = {}
        self.faults: list[Fault] = []
        self.terminal = sys.stderr.isatty() and not quiet
        self.verbose = verbose
        self.status = EXIT_OK
        self._full = False
        self._clear: Callable[[], None] = lambda: None

    def count(self, product: str) -> Count:
        """The figures of a product."""
        return self.products.setdefault(product, Count())

    def fault(
        self,
        fault: str,
        product: str | None = None,
        fileset: str | None = None,
        file: str | None = None,
        status: int = EXIT_TROUBLE,
    ) -> None:
        """Something went wrong: told at once, kept for the document, heard in the exit status."""
        one = Fault(product, fileset, file, fault)
        self.faults.append(one)
        self.status = max(self.status, status)
        self._tell(one.line())

    def local(self, error: LocalError) -> None:
        """This machine is in the way. A full disk is told once, whoever else has no room on it."""
        if not (error.full and self._full):
            self.fault(str(error), status=EXIT_LOCAL)
        self._full |= error.full

    def notice(self, text: str) -> None:
        """Something the operator should read, though it is no trouble."""
        self._tell(text)

    def detail(self, text: str) -> None:
        """Something for those who asked for details (-v)."""
        if self.verbose:
            self._tell(text)

    def _tell(self, text: str) -> None:
        self._clear()
        say(f"update_mirror: {printable(text)}")

    def before_lines(self, clear: Callable[[], None]) -> None:
        """Call `clear` before a line is printed: a progress display makes room."""
        self._clear = clear

    def document(self) -> dict[str, object]:
        """What --json writes (DESIGN)."""
        return make_document(self.started, utc_now(), self.status, self.products, self.faults)

    def summary(self) -> str:
        """The run in a few lines, for a terminal."""
        lines = [
            f"{name}: {one.done} done, {one.failed} failed, {one.queued} queued, "
            f"{size_text(one.bytes)} in {one.seconds:.1f} s"
            for name, one in self.products.items()
        ]
        total = sum(one.done for one in self.products.values())
        left = sum(one.queued for one in self.products.values())
        faults = len(self.faults)
        told = "1 fault" if faults == 1 else f"{faults or 'no'} faults"
        lines.append(f"mirrored {total} filesets, {left} queued, {told}; exit status {self.status}")
        return "\n".join(lines)


def make_document(
    started: str,
    finished: str,
    status: int,
    products: Mapping[str, Count],
    faults: Iterable[Fault],
) -> dict[str, object]:
    """The document of a run, or of the state."""
    return {
        "started": started,
        "finished": finished,
        "exit": status,
        "products": {name: asdict(one) for name, one in products.items()},
        "faults": [asdict(one) for one in faults],
    }


def write_json(target: str, document: Mapping[str, object]) -> None:
    """Write a document to a file, or to standard output for `-`. Raises LocalError."""
    from pathlib import Path

    from mirror import disk

    text = json.dumps(document, indent=2) + "\n"
    if target == "-":
        with disk.told("standard output"):
            sys.stdout.write(text)
            sys.stdout.flush()
    else:
        disk.replace_file(Path(target), text.encode())


def size_text(size: float) -> str:
    """Bytes as people read them: powers of ten, as in the configuration."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def table(header: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> str:
    """Columns aligned with blanks, the first to the left, figures to the right."""
    texts = [header, *(tuple("-" if cell is None else str(cell) for cell in row) for row in rows)]
    widths = [max(len(row[at]) for row in texts) for at in range(len(header))]
    lines = []
    for row in texts:
        cells = [
            f"{cell:>{width}}"
            if cell[:1].isdigit() or (row is header and at)
            else f"{cell:<{width}}"
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
