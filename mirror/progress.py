"""The progress display on a terminal: bytes with rate and time left, filesets done of total."""

import threading
import time
from typing import Any


class Progress:
    """Counts what comes; on a terminal it shows that, in one line that fits 80 columns.

    The sizes of filesets are known only when their lists have been read, so the total of bytes,
    and with it the time left, is an estimate from those that were.
    """

    def __init__(self, filesets: int, *, visible: bool) -> None:
        self._lock = threading.Lock()
        self._bytes = 0
        self._shown = 0
        self._filesets = filesets
        self._done = 0
        self._opened = 0
        self._known = 0
        self._bar: Any = None
        self._drawn = 0.0
        if visible:
            from tqdm import tqdm

            self._bar = tqdm(
                total=None, unit="B", unit_scale=True, dynamic_ncols=True, leave=False,
                desc=self._description(), smoothing=0.1,
            )  # fmt: skip

    def add(self, count: int) -> None:
        """Bytes that came (or, negative, that have to come again); from any thread."""
        with self._lock:
            self._bytes += count

    def opened(self, size: int) -> None:
        """A fileset's list was read: so many bytes are to come."""
        self._opened += 1
        self._known += size
        self.draw()

    def finished(self) -> None:
        """A fileset is done, or has failed."""
        self._done += 1
        self.draw()

    def draw(self) -> None:
        """Bring the display up to date, a few times a second at most."""
        now = time.monotonic()
        if self._bar is None or now - self._drawn < 0.1:
            return
        self._drawn = now
        if self._opened:
            rest = self._filesets - self._opened
            self._bar.total = self._known + rest * (self._known // self._opened)
        self._bar.set_description(self._description(), refresh=False)
        came = max(0, self._bytes - self._shown)
        self._shown += came
        self._bar.update(came)
        self._bar.refresh()

    def clear(self) -> None:
        """Make room for a line of text."""
        if self._bar is not None:
            self._bar.clear()

    def close(self) -> None:
        """Take the display away."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _description(self) -> str:
        return f"{self._done}/{self._filesets} filesets"
