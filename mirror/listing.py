"""The three lists of a Data Store: parse and write (PROTOCOL section 2, seed 001).

The client reads with this room, the server writes with it. Lists grow without bound, so both
directions are streams: a reader takes the chunks of an answer as they come and yields one row at
a time, a writer formats one row at a time into columns whose widths are known beforehand.
Nothing here touches disk or network.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from operator import itemgetter

from mirror.errors import ListError

INDEX = "index.txt"
"""The name of a list on all three levels; so no file can have it."""

NULL = "null"
"""What a list prints where a column has no value."""

MAX_LINE = 65536
"""Bytes in a line of a list; a longer one is no list but a fault or an attack."""

MAX_BYTES = 2**63 - 1
"""The largest size a file can have anywhere we run (off_t)."""

PRODUCT_COLUMNS = ("productID", "Most recent", "Time registered", "type", "Description")
FILESET_COLUMNS = ("filesetID", "time registered", "type")
FILE_COLUMNS = ("fileID", "bytes", "md5sum", "type")

_NAME = re.compile(r"[A-Za-z0-9_+.: -]+")
_SAFE_NAME = re.compile(
    r"(?!\.\.?$)[A-Za-z0-9_+.:](?:[A-Za-z0-9_+.: -]{0,253}[A-Za-z0-9_+.:-])?", re.ASCII
)
# 60 is a leap second, which UTC has.
_TIME = re.compile(r"(\d{4}-\d\d-\d\d)T(?:[01]\d|2[0-3]):[0-5]\d:(?:[0-5]\d|60)Z", re.ASCII)
_MD5 = re.compile(r"[0-9a-f]{32}")
_BYTES = re.compile(r"[0-9]+")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Header:
    """A header line: the names of the columns, in order, and where the fixed ones stand."""

    names: tuple[str, ...]
    fixed: tuple[int, ...]
    text: str
    pick: Callable[[tuple[str, ...]], tuple[str, ...]] = field(init=False, compare=False)
    """The cells of the fixed columns, in the order of the protocol."""

    last: int = field(init=False, compare=False)
    """The last of the fixed columns in this list's order."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "pick", itemgetter(*self.fixed))
        object.__setattr__(self, "last", max(self.fixed))


@dataclass(frozen=True, slots=True)
class Row:
    """What the rows of all three lists share: their header, cells, line number and raw text."""

    header: Header
    cells: tuple[str, ...]
    line: int
    text: str

    def columns(self) -> dict[str, str | None]:
        """Every column of the row by its header name; `null` and absent cells are None."""
        values = (*self.cells, *(NULL,) * (len(self.header.names) - len(self.cells)))
        return {
            name: None if value == NULL else value
            for name, value in zip(self.header.names, values, strict=False)
        }

    def extra(self) -> tuple[str, ...]:
        """The cells beyond the fixed columns, as printed, in the order of the list."""
        fixed = self.header.fixed
        return tuple(cell for at, cell in enumerate(self.cells) if at not in fixed)


@dataclass(frozen=True, slots=True)
class ProductRow(Row):
    """A row of the root list. `most_recent` is None for an empty product."""

    name: str
    most_recent: str | None
    registered: str
    type: str
    description: str


@dataclass(frozen=True, slots=True)
class FilesetRow(Row):
    """A row of a product's list. `registered` is UTC, `YYYY-MM-DDThh:mm:ssZ`."""

    name: str
    registered: str
    type: str


@dataclass(frozen=True, slots=True)
class FileRow(Row):
    """A row of a fileset's list. `size` in bytes; `md5` is None where the list leaves it blank."""

    name: str
    size: int
    md5: str | None
    type: str


@dataclass(frozen=True, slots=True)
class Malformed:
    """A row that the rules of section 2 refuse. `cut`: the list ended inside this line."""

    line: int
    reason: str
    text: str
    cut: bool = False


class _Refused(Exception):
    """Why the row under the reader's eye is malformed."""


def check_name(name: str) -> str | None:
    """Say why `name` cannot be a product, fileset or file name, or None if it can (section 2).

    Names become path segments here and URL segments there, so this is the one gate that
    everything from the network passes before it is joined to a directory.
    """
    if _SAFE_NAME.fullmatch(name):
        return None
    if not name:
        return "an empty name"
    if not _NAME.fullmatch(name):
        return f"a name with characters outside A-Z a-z 0-9 _ + . : - and blank: {name!r}"
    if name in (".", ".."):
        return f"{name!r} as a name"
    if name.startswith("-"):
        return f"a name that begins with '-': {name!r}"
    if name != name.strip():
        return f"a name that begins or ends with a blank: {name!r}"
    return f"a name of {len(name)} bytes (at most 255)"


@lru_cache(maxsize=4096)
def _is_day(day: str) -> bool:
    try:
        datetime.strptime(day, "%Y-%m-%d")
    except ValueError:
        return False
    return True


def check_time(text: str) -> str | None:
    """Say why `text` is not a time of section 2 (`YYYY-MM-DDThh:mm:ssZ`), or None if it is."""
    match = _TIME.fullmatch(text)
    if match and _is_day(match[1]):
        return None
    return f"a time like 2009-04-15T01:22:12Z expected, not {text!r}"


def read_products(chunks: Iterable[bytes]) -> Iterator[ProductRow | Malformed]:
    """Read the root list from the chunks of an answer, row by row.

    Raises ListError where the answer as a whole cannot be a root list.
    """
    for row in _rows(chunks, PRODUCT_COLUMNS):
        if isinstance(row, Malformed):
            yield row
            continue
        header, cells, line, text = row
        name, recent, registered, kind, description = header.pick(cells)
        reason = check_name(name) or check_time(registered)
        if not reason and recent != "none":
            reason = check_name(recent)
        if reason:
            yield Malformed(line, reason, text)
            continue
        last = None if recent == "none" else recent
        yield ProductRow(header, cells, line, text, name, last, registered, kind, description)


def read_filesets(chunks: Iterable[bytes]) -> Iterator[FilesetRow | Malformed]:
    """Read a product's list from the chunks of an answer, row by row.

    Raises ListError where the answer as a whole cannot be a product's list.
    """
    for row in _rows(chunks, FILESET_COLUMNS):
        if isinstance(row, Malformed):
            yield row
            continue
        header, cells, line, text = row
        name, registered, kind = header.pick(cells)
        reason = check_name(name) or check_time(registered)
        if reason:
            yield Malformed(line, reason, text)
        else:
            yield FilesetRow(header, cells, line, text, name, registered, kind)


def read_files(chunks: Iterable[bytes]) -> Iterator[FileRow | Malformed]:
    """Read a fileset's list from the chunks of an answer, row by row.

    Raises ListError where the answer as a whole cannot be a fileset's list.
    """
    for row in _rows(chunks, FILE_COLUMNS):
        if isinstance(row, Malformed):
            yield row
            continue
        header, cells, line, text = row
        name, size, md5, kind = header.pick(cells)
        reason = check_name(name) or _check_sums(size, md5)
        if not reason and name == INDEX:
            reason = "a file named index.txt, which is the list's own name"
        if reason:
            yield Malformed(line, reason, text)
        else:
            yield FileRow(header, cells, line, text, name, int(size), md5 or None, kind)


def _check_sums(size: str, md5: str) -> str | None:
    if not _BYTES.fullmatch(size) or len(size) > 19 or int(size) > MAX_BYTES:
        return f"a size in bytes expected, not {size!r}"
    if md5 and not _MD5.fullmatch(md5):
        return f"an md5 sum of 32 lower-case hexadecimal digits expected, not {md5!r}"
    return None


def _rows(
    chunks: Iterable[bytes], required: tuple[str, ...]
) -> Iterator[tuple[Header, tuple[str, ...], int, str] | Malformed]:
    """Split a list into rows and follow its headers, which may change in mid-list.

    A row is its header, cells, line number and text; lists have millions of them, so nothing is
    made here that the readers would take apart again.
    """
    header = Header(required, tuple(range(len(required))), "")
    need = len(required)
    for number, raw, ended in _lines(chunks):
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError:
            yield Malformed(number, "bytes that are not UTF-8", raw.decode("utf-8", "replace"))
            continue
        stripped = text.strip()
        if not stripped:
            continue
        if not ended:
            yield Malformed(number, "the list ends inside this line", text, cut=True)
        elif stripped[0] == "#":
            header = _header(text, required, number) or header
        elif stripped[0] == "<" and "|" not in text:
            raise ListError(f"line {number}: a list expected, not HTML: {stripped[:60]!r}")
        else:
            try:
                yield header, _cells(stripped, need, header), number, text
            except _Refused as refused:
                yield Malformed(number, str(refused), text)


def _cells(stripped: str, need: int, header: Header) -> tuple[str, ...]:
    """The cells of one row, or _Refused."""
    if stripped[-1] != "|":
        raise _Refused("the line does not end with '|'")
    if "#" in stripped:
        raise _Refused("a field holds '#'")
    if not stripped.isprintable() and _CONTROL.search(stripped):
        raise _Refused("a field holds a control character")
    cells = tuple([cell.strip() for cell in stripped[:-1].split("|")])
    if len(cells) < need:
        raise _Refused(f"at least {need} columns expected, not {len(cells)}")
    if len(cells) <= header.last:
        raise _Refused(f"the row ends before column {header.names[header.last]!r}")
    return cells


def _header(text: str, required: tuple[str, ...], number: int) -> Header | None:
    """Read a `#` line as a header, or None if it is a plain comment.

    A comment that ends with `|` and has as many cells as the list has fixed columns is taken for
    a header, so that a renamed column is an error and not a silent shift of meaning.
    """
    stripped = text.strip()
    if not stripped.endswith("|"):
        return None
    names = tuple(name.strip() for name in stripped[1:-1].split("|"))
    folded = [name.lower() for name in names]
    wanted = [name.lower() for name in required]
    if wanted[0] not in folded and len(names) < len(required):
        return None
    missing = [name for name in required if name.lower() not in folded]
    if missing:
        raise ListError(
            f"line {number}: the header has no column {', '.join(map(repr, missing))}; "
            f"it has {', '.join(map(repr, names))}"
        )
    return Header(names, tuple(folded.index(name) for name in wanted), text)


def _lines(chunks: Iterable[bytes]) -> Iterator[tuple[int, bytes, bool]]:
    """Yield (number, line without its end, whether it had one) in bounded memory."""
    number = 0
    rest = b""
    for chunk in chunks:
        lines = (rest + chunk).split(b"\n")
        rest = lines.pop()
        for line in lines:
            number += 1
            yield number, _bounded(line, number), True
        _bounded(rest, number + 1)
    if rest:
        yield number + 1, _bounded(rest, number + 1), False


def _bounded(line: bytes, number: int) -> bytes:
    if len(line) > MAX_LINE:
        raise ListError(f"line {number} is longer than {MAX_LINE} bytes")
    if number == 1 and line.startswith(_BOM):
        line = line[len(_BOM) :]
    return line[:-1] if line.endswith(b"\r") else line


def header_line(names: Sequence[str], widths: Sequence[int]) -> str:
    """Format a header; `widths` come from `widen` and include the leading `# `."""
    return row_line((f"# {names[0]}", *names[1:]), widths)


def row_line(values: Sequence[str], widths: Sequence[int]) -> str:
    """Format one row, every column padded with blanks to its width and closed by `|`."""
    return "".join(f"{v:<{w}}|" for v, w in zip(values, widths, strict=True)) + "\n"


def widen(names: Sequence[str], rows: Iterable[Sequence[str]]) -> list[int]:
    """The width of each column that holds its header and every value of `rows`."""
    widths = [len(name) for name in (f"# {names[0]}", *names[1:])]
    for row in rows:
        widths = [max(w, len(v)) for w, v in zip(widths, row, strict=True)]
    return widths


def format_list(names: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A whole short list: its header, then its rows, padded to common widths."""
    widths = widen(names, rows)
    return header_line(names, widths) + "".join(row_line(row, widths) for row in rows)


def product_values(
    name: str, most_recent: str | None, registered: str, kind: str, description: str
) -> tuple[str, ...]:
    """The printed values of a root list's row."""
    return (name, most_recent or "none", registered, kind, description)


def print_columns(columns: Mapping[str, str | None]) -> tuple[str, ...]:
    """The printed values of columns by name: a missing one is `null`."""
    return tuple(NULL if value is None else value for value in columns.values())
