"""A list in a file of any length, read in constant memory: its bytes, and the rows after one."""

import os
import re
from collections.abc import Iterator

from mirror.errors import LocalError
from mirror.listing import MAX_LINE

CHUNK = 1 << 18
"""Bytes read, and sent, at a time."""

_BOM = b"\xef\xbb\xbf"


def chunks_of(descriptor: int, start: int, stop: int, prefix: bytes = b"") -> Iterator[bytes]:
    """Yield `prefix` and then the bytes of an open file from `start` up to `stop`.

    Ends early, without a fault, where the file has become shorter.
    """
    while start < stop or prefix:
        chunk = os.pread(descriptor, min(CHUNK, stop - start), start)
        if not chunk and not prefix:
            return
        yield prefix + chunk
        start += len(chunk)
        prefix = b""


def rows_after(descriptor: int, stop: int, name: bytes) -> tuple[bytes, int] | None:
    """Find the row of fileset `name` in the first `stop` bytes of an open list.

    Returns the header line that is in force there and the offset of the line after the row, or
    None if the list does not hold the fileset. Of a fileset that stands there twice the first row
    counts: to list something once more does no harm, to leave something out does.
    Raises LocalError where a line is too long for a list.
    """
    # The newline in front is what keeps this at a fraction of a second for a million rows: the
    # search leaps from line to line, whatever the name.
    row = re.compile(b"\n(?:" + _BOM + b")?[ \t]*" + re.escape(name) + rb"[ \t]*\|[^\n]*\n?")
    header = b""
    for offset, lines in blocks_of(descriptor, stop):
        found = row.search(lines)
        header = last_header(lines[: found.start()] if found else lines) or header
        if found:
            return header, offset + found.end()
    return None


def blocks_of(descriptor: int, stop: int) -> Iterator[tuple[int, bytes]]:
    """Yield whole lines, many at a time, each begun by the newline before it.

    The offset that comes with them is where the first byte of the block stands in the file: -1 for
    the first block, whose first newline is not in the file.
    """
    offset, rest = -1, b"\n"
    for chunk in chunks_of(descriptor, 0, stop):
        rest += chunk
        # The last newline stays behind, as the beginning of the line after it.
        end = rest.rfind(b"\n")
        if end > 0:
            yield offset, rest[: end + 1]
            offset, rest = offset + end, rest[end:]
        if len(rest) > MAX_LINE + 2:
            raise LocalError(
                f"the list has a line of more than {MAX_LINE} bytes after byte {offset + 1}; "
                "it is no list: write it anew"
            )
    yield offset, rest


def last_header(lines: bytes) -> bytes:
    """The last header line among `lines` with its line end, or nothing."""
    end = len(lines)
    # No field holds a '#', so a search from the end meets comments only.
    while (at := lines.rfind(b"#", 0, end)) >= 0:
        start = lines.rfind(b"\n", 0, at) + 1
        stop = lines.find(b"\n", at) + 1 or len(lines)
        line = lines[start:stop]
        bare = line.removeprefix(_BOM).strip()
        if bare.startswith(b"#") and bare.endswith(b"|"):
            return line if line.endswith(b"\n") else line + b"\n"
        end = start
    return b""
