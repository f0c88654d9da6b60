"""A larger file: grows in `.mirror/partial`, resumed after a cut of the connection or of the run.

Size and md5 are taken while the bytes pass, on a thread of its own where the file is large, so
that nothing is read a second time (except what an earlier run left: that is read once, here).
"""

import hashlib
import os
import queue
import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mirror import disk
from mirror.body import Body
from mirror.datastore import DataStore
from mirror.errors import IntegrityError, MirrorError, TransportError
from mirror.listing import FileRow

if TYPE_CHECKING:
    from mirror.address import Address

PIECE = 256 * 1024
"""Bytes that are written and summed at once: what stays in a processor's cache meanwhile."""

THREADED = 16 * 1024 * 1024
"""Bytes from which md5 has a thread of its own: it is slower than the network can be."""

_buffers = threading.local()
_RANGE = re.compile(r"bytes ([0-9]+)-([0-9]+)/([0-9]+|\*)")


@dataclass(frozen=True, slots=True)
class Source:
    """Where the files of one fileset come from and go to."""

    store: DataStore
    product: str
    fileset: str
    fetched: Path
    partial: Path
    progress: Callable[[int], None]

    def segments(self, name: str) -> Sequence[str]:
        """The path of a file below the store's root."""
        return (self.product, self.fileset, name)


class MismatchError(IntegrityError):
    """Size or sum are not the list's; a fresh download may be right (FAULTS N10)."""


def check_size(row: FileRow, got: int, body: Body) -> None:
    """Compare what came, and what was announced, with the list."""
    if got > row.size or (body.length is not None and body.length != row.size):
        came = f"{body.length}" if body.length is not None else f"more than {row.size}"
        raise MismatchError(f"{row.size} bytes expected, {came} came{hint(body)}")
    if got < row.size:
        raise TransportError(f"the file ended after {got} of {row.size} bytes")


def check_sum(row: FileRow, md5: str, body: Body) -> None:
    """Compare the md5 sum of what came with the list's, if it has one."""
    if row.md5 and md5 != row.md5:
        raise MismatchError(f"md5 {row.md5} expected, {md5} came{hint(body)}")


def hint(body: Body) -> str:
    """What the answer says it is, where that explains why it is not the file."""
    kind = body.headers.get("content-type", "")
    coding = body.headers.get("content-encoding", "")
    told = f" (the answer is of type {kind})" if "html" in kind.lower() else ""
    return told + (f" (the answer is encoded as {coding})" if coding else "")


@dataclass(slots=True)
class Download:
    """A larger file on its way: how much is there, and the sum of that."""

    source: Source
    row: FileRow
    have: int = -1
    origin: str = ""
    sum: Any = field(default_factory=lambda: hashlib.md5(usedforsecurity=False))

    @property
    def path(self) -> Path:
        """Where the file grows."""
        return self.source.partial / "files" / self.row.name

    @property
    def note(self) -> Path:
        """Where its validator is kept for the next run (If-Range)."""
        return self.source.partial / "validators" / self.row.name

    def resume(self, address: "Address") -> None:
        """One try: ask for what is missing, and finish the file if all of it came."""
        if self.have < 0:
            self._find()
        if self.have == self.row.size and self._is_right():
            self._finish()  # the run was killed between the last byte and the name
            return
        validator = self._validator()
        if self.have and not (validator or self.row.md5):
            self._restart()  # nothing would tell two versions apart
        headers = {}
        if self.have:
            headers["Range"] = f"bytes={self.have}-"
            # Addresses of one store validate the same file differently; the md5 tells them apart.
            elsewhere = self.origin not in ("", address.url) and self.row.md5
            if validator and not elsewhere:
                headers["If-Range"] = validator
        self.origin = address.url
        with self.source.store.get(
            address, self.source.segments(self.row.name), headers=headers
        ) as body:
            self._begin(body)
            self._receive(body)
            self._check_complete()
            self._check(body)
            self._finish()

    def _is_right(self) -> bool:
        if self.row.md5 and self.sum.hexdigest() == self.row.md5:
            return True
        self._restart()
        return False

    def _check(self, body: Body) -> None:
        try:
            check_sum(self.row, self.sum.hexdigest(), body)
        except IntegrityError:
            self._restart()
            raise

    def _check_complete(self) -> None:
        if self.have < self.row.size:
            raise TransportError(f"the file ended after {self.have} of {self.row.size} bytes")

    def _find(self) -> None:
        """Take up what an earlier run has left; its sum is taken in this one reading."""
        self.have = 0
        with disk.told(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.note.parent.mkdir(parents=True, exist_ok=True)
            if not self.path.exists():
                return
            if self.path.stat().st_size > self.row.size or not self.row.md5:
                # Without a sum nothing would tell what a power cut has done to it.
                self._restart()
                return
            with self.path.open("rb", buffering=0) as file:
                while piece := file.read(PIECE):
                    self.sum.update(piece)
                    self.have += len(piece)

    def _validator(self) -> str | None:
        if not self.have:
            return None
        try:
            return self.note.read_text(encoding="latin-1") or None
        except OSError:
            return None

    def _restart(self) -> None:
        """Begin the file anew."""
        self.source.progress(-max(self.have, 0))
        self.have = 0
        self.sum = hashlib.md5(usedforsecurity=False)
        with disk.told(self.path):
            self.path.unlink(missing_ok=True)
            self.note.unlink(missing_ok=True)

    def _begin(self, body: Body) -> None:
        """See where in the file the answer begins (FAULTS N11 to N13)."""
        if body.status == 416:
            self._restart()
            raise TransportError("the server has no bytes where the file was to go on")
        if body.status == 206:
            said = _RANGE.fullmatch(body.headers.get("content-range", ""))
            if not said or int(said[1]) != self.have or self.have == 0:
                self._restart()
                raise TransportError("the server sent another range than was asked for")
        else:
            if self.have:
                self._restart()
            with disk.told(self.note):
                self.note.write_text(strong_validator(body), encoding="latin-1")
        missing = self.row.size - self.have
        if body.length is not None and body.length != missing:
            size = self.have + body.length
            self._restart()
            raise MismatchError(f"{self.row.size} bytes expected, {size} came{hint(body)}")

    def _receive(self, body: Body) -> None:
        """Write and sum the body, up to one byte more than the list says."""
        with disk.told(self.path):
            file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
        try:
            if self.row.size - self.have >= THREADED:
                with _Summer(self.sum) as summer:
                    self._pump(body, file, summer.take, summer.buffer)
            else:
                buffer = _own_buffer()
                self._pump(body, file, self.sum.update, lambda: buffer)
        finally:
            with disk.told(self.path):
                os.close(file)

    def _pump(
        self,
        body: Body,
        file: int,
        add: Callable[[memoryview], None],
        next_buffer: Callable[[], memoryview],
    ) -> None:
        while self.have <= self.row.size:
            buffer = next_buffer()[: self.row.size + 1 - self.have]
            got, stopped = _fill(body, buffer)
            if self.have + got > self.row.size:
                self._restart()
                raise MismatchError(f"more than the expected {self.row.size} bytes came")
            data = buffer[:got]
            add(data)
            self._write(file, data)
            self.have += got
            self.source.progress(got)
            if stopped:
                raise stopped
            if got < len(buffer):
                return

    def _write(self, file: int, data: memoryview) -> None:
        with disk.told(self.path):
            while data:
                data = data[os.write(file, data) :]

    def _finish(self) -> None:
        disk.move(self.path, self.source.fetched / self.row.name)
        with disk.told(self.note):
            self.note.unlink(missing_ok=True)


def _own_buffer() -> memoryview:
    """This thread's buffer, kept from file to file: fresh memory costs as much as filling it."""
    if not hasattr(_buffers, "view"):
        _buffers.view = memoryview(bytearray(PIECE))
    view: memoryview = _buffers.view
    return view


def strong_validator(body: Body) -> str:
    """What identifies this version of the file for If-Range; empty if nothing does (RFC 9110)."""
    etag = body.headers.get("etag", "")
    return etag if etag.startswith('"') else body.headers.get("last-modified", "")


def _fill(body: Body, buffer: memoryview) -> tuple[int, MirrorError | None]:
    """Read until `buffer` is full or the body ends; what stopped it comes with what was read.

    The bytes before a cut are good: they are kept, and the file is resumed behind them.
    """
    got = 0
    while got < len(buffer):
        try:
            count = body.readinto(buffer[got:])
        except MirrorError as error:
            return got, error
        if not count:
            break
        got += count
    return got, None


class _Summer:
    """md5 on a thread of its own, through a few buffers that go round."""

    def __init__(self, total: Any) -> None:
        self._sum = total
        self._free: queue.SimpleQueue[memoryview] = queue.SimpleQueue()
        self._full: queue.SimpleQueue[tuple[memoryview, memoryview] | None] = queue.SimpleQueue()
        for _ in range(4):
            self._free.put(memoryview(bytearray(PIECE)))
        self._current = memoryview(b"")
        self._thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self) -> "_Summer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._full.put(None)
        self._thread.join()

    def buffer(self) -> memoryview:
        """A buffer that is free to be filled."""
        self._current = self._free.get()
        return self._current

    def take(self, data: memoryview) -> None:
        """Sum `data`, the filled part of the last buffer, which stays unchanged until then."""
        self._full.put((data, self._current))

    def _work(self) -> None:
        while item := self._full.get():
            data, whole = item
            self._sum.update(data)
            self._free.put(whole)
