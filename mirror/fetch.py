"""Files: fetched, resumed, counted and summed while the bytes pass, never read a second time.

A small file is received whole, verified in memory and written once. A larger one grows in
`.mirror/partial` and is resumed there after a cut, of the connection or of the run. Either way a
file gets its name in `fetched/` only when size and md5 are those of the list.
"""

import contextlib
import hashlib
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mirror import disk
from mirror.body import Body
from mirror.download import Download, MismatchError, Source, check_size, check_sum
from mirror.errors import IntegrityError, MirrorError, TransportError
from mirror.listing import FileRow
from mirror.sums import md5_of

if TYPE_CHECKING:
    from mirror.address import Address

SMALL = 256 * 1024
"""Bytes up to which a file is received whole before anything is written."""

_buffers = threading.local()


def fetch_file(source: Source, row: FileRow) -> None:
    """Fetch one file into `fetched/`, verified.

    Raises IntegrityError where size or md5 are wrong twice in a row, and what
    DataStore.attempt raises where the file cannot be had.
    """
    download = Download(source, row) if row.size > SMALL else None
    faults: list[str] = []
    while True:
        try:
            if download:
                source.store.attempt(download.resume)
            else:
                source.store.attempt(lambda address: _fetch_small(source, row, address))
            return
        except MismatchError as error:
            faults.append(str(error))
            if len(faults) == 2:
                told = faults[1] if faults[0] == faults[1] else "; then ".join(faults)
                raise IntegrityError(f"{told} (twice in a row)") from None
            source.store.turn()


def fetch_batch(source: Source, rows: Sequence[FileRow]) -> list[tuple[FileRow, MirrorError]]:
    """Fetch several small files, on one connection where that works, and tell what failed.

    What goes wrong in the short cut is no failure yet: those files are then fetched one by one.
    """
    left = list(rows)
    failed = []
    if len(left) > 1 and not source.store.can_burst():
        first = left.pop(0)
        if error := _try(source, first):
            failed.append((first, error))
    if len(left) > 1 and source.store.can_burst():
        left = _burst(source, left)
    return failed + [(row, error) for row in left if (error := _try(source, row))]


def _try(source: Source, row: FileRow) -> MirrorError | None:
    try:
        fetch_file(source, row)
    except MirrorError as error:
        return error
    return None


def _burst(source: Source, rows: list[FileRow]) -> list[FileRow]:
    """Fetch the rows in one go; returns those that are still to be fetched."""
    done = 0
    paths = [source.segments(row.name) for row in rows]
    try:
        with contextlib.closing(source.store.burst(paths)) as bodies:
            for row, body in zip(rows, bodies, strict=True):
                _take_small(source, row, body)
                done += 1
    except (TransportError, IntegrityError):
        pass
    return rows[done:]


def _fetch_small(source: Source, row: FileRow, address: "Address") -> None:
    with source.store.get(address, source.segments(row.name)) as body:
        _take_small(source, row, body)


def _take_small(source: Source, row: FileRow, body: Body) -> None:
    """Read, verify, write. The write is of verified bytes, so a short file is a killed one."""
    if body.status != 200:
        raise TransportError(f"HTTP {body.status} instead of the file")
    view = memoryview(_buffer(SMALL + 1))[: row.size + 1]
    got = 0
    while got < len(view) and (count := body.readinto(view[got:])):
        got += count
    check_size(row, got, body)
    data = view[:got]
    check_sum(row, hashlib.md5(data, usedforsecurity=False).hexdigest(), body)
    disk.write_file(f"{source.fetched}/{row.name}", data)
    source.progress(got)


def _buffer(size: int) -> bytearray:
    """This thread's buffer, kept from file to file."""
    if not hasattr(_buffers, "bytes"):
        _buffers.bytes = bytearray(size)
    held: bytearray = _buffers.bytes
    return held


def verified(directory: Path, rows: Iterable[FileRow], trusted: bool) -> set[str]:
    """The names among `rows` that `directory` holds verified from an earlier run.

    A file gets its name there only after it was verified; what a power cut may have done to it
    is found by reading it again (`trusted` false), and a killed write by its size.
    """
    good = set()
    for row in rows:
        path = directory / row.name
        try:
            if path.stat().st_size != row.size:
                continue
        except OSError:
            continue
        if trusted or (row.md5 and md5_of(path) == row.md5):
            good.add(row.name)
    return good
