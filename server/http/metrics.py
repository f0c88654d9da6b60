"""What the server has done, in numbers: counted by each worker, told as the sum over all.

The numbers stand in memory that was shared before the workers were forked: a row of 64-bit counters
for each, which only its own worker writes. So a worker that dies takes nothing with it, and any of
them can answer for all. The text is Prometheus's, version 0.0.4.
"""

import mmap
import threading
import time
from bisect import bisect_left
from collections.abc import Iterator

MEDIA = "text/plain; version=0.0.4; charset=utf-8"

METHODS = ("GET", "HEAD", "other")
CLASSES = ("2xx", "3xx", "4xx", "5xx")
BOUNDS = (0.005, 0.025, 0.1, 0.5, 2.5, 10.0, 60.0)
"""Upper bounds of the histogram of durations, in seconds; one more bucket is without bound."""

_OPEN, _ACCEPTED, _REFUSED, _SENT, _MICROSECONDS, _REQUESTS = range(6)
_BUCKETS = _REQUESTS + len(METHODS) * len(CLASSES)
_ROW = _BUCKETS + len(BOUNDS) + 1


class Counts:
    """One worker's row. Safe to use from many threads of that worker."""

    def __init__(self, board: "Board", row: "memoryview[int]") -> None:
        self._board = board
        self._row = row
        self._lock = threading.Lock()
        # The connections of the one that wrote here before have ended with it.
        row[_OPEN] = 0

    def opened(self) -> None:
        """Count a connection that is served, or refused with care."""
        with self._lock:
            self._row[_ACCEPTED] += 1
            self._row[_OPEN] += 1

    def closed(self) -> None:
        """Count its end."""
        with self._lock:
            self._row[_OPEN] -= 1

    def refused(self) -> None:
        """Count a connection for which there was no room."""
        with self._lock:
            self._row[_REFUSED] += 1

    def answered(self, method: str, status: int, sent: int, seconds: float) -> None:
        """Count a request with its status, the bytes sent for its body, and its duration."""
        kind = METHODS.index(method) if method in METHODS else len(METHODS) - 1
        request = _REQUESTS + kind * len(CLASSES) + status // 100 - 2
        bucket = _BUCKETS + bisect_left(BOUNDS, seconds)
        row = self._row
        with self._lock:
            row[request] += 1
            row[bucket] += 1
            row[_SENT] += sent
            row[_MICROSECONDS] += int(seconds * 1e6)

    def open_everywhere(self) -> int:
        """The connections that all workers together have open."""
        return self._board.total(_OPEN)


class Board:
    """The rows of all workers; made before the first of them starts."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._started = time.time()
        self._cells = memoryview(mmap.mmap(-1, workers * _ROW * 8)).cast("Q")

    def counts(self, number: int) -> Counts:
        """The row of worker `number`, from 0 on; called by that worker alone."""
        return Counts(self, self._cells[number * _ROW : (number + 1) * _ROW])

    def total(self, column: int) -> int:
        """The sum of one counter over all workers."""
        return sum(self._cells[column::_ROW])

    def text(self) -> str:
        """All numbers, as Prometheus reads them."""
        return "\n".join((*self._lines(), ""))

    def _lines(self) -> Iterator[str]:
        yield from _told("datastore_requests_total", "counter", "Requests answered.")
        for at in range(_BUCKETS - _REQUESTS):
            method, code = METHODS[at // len(CLASSES)], CLASSES[at % len(CLASSES)]
            count = self.total(_REQUESTS + at)
            yield f'datastore_requests_total{{method="{method}",code="{code}"}} {count}'
        for name, kind, said, value in (
            ("sent_bytes_total", "counter", "Bytes of bodies sent.", self.total(_SENT)),
            ("connections_open", "gauge", "Connections open now.", self.total(_OPEN)),
            ("connections_accepted_total", "counter", "Connections taken.", self.total(_ACCEPTED)),
            ("connections_refused_total", "counter", "Connections told 503.", self.total(_REFUSED)),
            ("workers", "gauge", "Processes that serve.", self.workers),
        ):
            yield from _told(f"datastore_{name}", kind, said)
            yield f"datastore_{name} {value}"
        yield from self._durations("datastore_request_duration_seconds")
        yield from _told("process_start_time_seconds", "gauge", "Start, in seconds since 1970.")
        yield f"process_start_time_seconds {self._started:.3f}"

    def _durations(self, name: str) -> Iterator[str]:
        yield from _told(name, "histogram", "From a request's head to the end of its answer.")
        count = 0
        for at, bound in enumerate((*BOUNDS, None)):
            count += self.total(_BUCKETS + at)
            yield f'{name}_bucket{{le="{"+Inf" if bound is None else f"{bound:g}"}"}} {count}'
        yield f"{name}_sum {self.total(_MICROSECONDS) / 1e6:.6f}"
        yield f"{name}_count {count}"


def _told(name: str, kind: str, said: str) -> tuple[str, str]:
    return f"# HELP {name} {said}", f"# TYPE {name} {kind}"
