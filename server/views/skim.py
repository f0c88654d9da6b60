"""The rows of one page out of a list that stands in a file, however long it is.

A list must be read through to be counted, but only as lines; taken apart are the rows of the page
alone, unless the list is short enough to be sorted here.
"""

import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from mirror.errors import ListError
from mirror.listing import (
    FileRow,
    Malformed,
    Row,
    read_files,
    read_filesets,
    read_products,
)
from server.http.lines import blocks_of, chunks_of, last_header
from server.views.view import (
    PAGE,
    SORTED,
    Part,
    View,
    own_labels,
    parse_view,
    settle,
    sort_rows,
    sortable_keys,
)

_Rows = Iterator[Row | Malformed]

_READERS: tuple[Callable[[Iterable[bytes]], _Rows], ...] = (
    read_products, read_filesets, read_files,
)  # fmt: skip

# A line that is neither blank nor a comment, and the beginning of one that may be either. What the
# list is cut in is taken for a row, as readers do.
_ROW = re.compile(rb"\n(?:\xef\xbb\xbf)?[ \t\r\v\f]*(?:[^\s#]|#[^\n]*\Z)")
_ODD = re.compile(rb"\n[\s#\xef]")


@dataclass(frozen=True, slots=True)
class Mark:
    """A place in a list: before its row number `row` and its line number `line`, both from 0.

    `offset` in bytes; `header` is the header line in force there, blank if there was none yet.
    """

    row: int
    line: int
    offset: int
    header: bytes


def part_of(descriptor: int, level: int, query: str) -> Part:
    """The part of an open list that the page with this query shows.

    `level` is the number of names that the list's URL has. Raises LocalError for what has lines
    too long for a list.
    """
    stop = os.fstat(descriptor).st_size
    view = parse_view(query)
    marks, total = skim(descriptor, stop)
    if total <= PAGE or (view.key and total <= SORTED):
        rows, trouble = _read(descriptor, stop, level, marks[0])
        sortable = _keys(level, rows)
        view = settle(view, total, sortable)
        size = sum(row.size for row in rows if isinstance(row, FileRow)) if level == 2 else None
        at = PAGE * (view.page - 1)
        shown = sort_rows(rows, view)[at : at + PAGE]
        return Part(view, shown, total, sortable, size, trouble=trouble)
    view = settle(View(page=view.page), total, frozenset())
    mark = _seek(descriptor, stop, marks, PAGE * (view.page - 1))
    rows, trouble = _read(descriptor, stop, level, mark, PAGE)
    sortable = _keys(level, rows) if total <= SORTED else frozenset[str]()
    return Part(view, rows, total, sortable, trouble=trouble)


def skim(descriptor: int, stop: int) -> tuple[list[Mark], int]:
    """Marks at many places of the first `stop` bytes of an open list, and its number of rows."""
    row = line = 0
    header = b""
    marks: list[Mark] = []
    for offset, lines in blocks_of(descriptor, stop):
        marks.append(Mark(row, line, offset + 1, header))
        if _ODD.search(lines):
            row += sum(1 for _ in _ROW.finditer(lines))
            header = last_header(lines) or header
        else:
            row += lines.count(b"\n") - (lines.endswith(b"\n"))
        line += lines.count(b"\n") - 1
    return marks, row


def _seek(descriptor: int, stop: int, marks: Sequence[Mark], row: int) -> Mark:
    """The mark before row number `row`, which the list has."""
    near = max((mark for mark in marks if mark.row <= row), key=lambda mark: mark.offset)
    after = next((mark.offset for mark in marks if mark.offset > near.offset), stop)
    lines = b"\n" + os.pread(descriptor, after - near.offset, near.offset)
    found = next(islice(_ROW.finditer(lines), row - near.row, None))
    before = lines[: found.start()]
    header = last_header(before + b"\n") or near.header
    return Mark(row, near.line + before.count(b"\n"), near.offset + found.start(), header)


def _read(
    descriptor: int, stop: int, level: int, mark: Mark, count: int | None = None
) -> tuple[list[Row | Malformed], str]:
    """At most `count` rows from a mark on (None: all), and why the list cannot be read further."""
    rows: list[Row | Malformed] = []
    # The header is one line more than the mark knows of.
    skipped = mark.line - bool(mark.header)
    try:
        chunks = chunks_of(descriptor, mark.offset, stop, mark.header)
        read = islice(_READERS[level](chunks), count)
        # What was read before a fault stays.
        rows.extend(replace(row, line=row.line + skipped) for row in read)
    except ListError as fault:
        return rows, str(fault)
    return rows, ""


def _keys(level: int, rows: Iterable[Row | Malformed]) -> frozenset[str]:
    headers = {id(row.header): row.header for row in rows if isinstance(row, Row)}
    labels = (label for header in headers.values() for label in own_labels(header))
    return sortable_keys(level, list(labels))
