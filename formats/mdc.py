"""mdc, the metadata config format: read and write (PROTOCOL section 5).

`load` reads a whole document, `stream` its top-level entries one at a time in the memory of the
largest of them, `dump` writes what both read back as equal. formats.mdc_types has the types and
what their values are in Python, formats.mdc_block what a document is once read.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from os import PathLike
from typing import Protocol, runtime_checkable

from formats.mdc_block import Block, Comment, Document, Entry
from formats.mdc_dump import dump
from formats.mdc_types import (
    MAX_DEPTH,
    NULL,
    TYPES,
    MdcError,
    Time,
    Type,
    Value,
    check_name,
    check_record,
    find_type,
    read_record,
)

__all__ = [
    "Block", "Comment", "Document", "Entry", "MdcError", "Time", "Value",
    "dump", "load", "load_file", "stream",
]  # fmt: skip

MAX_LINE = 16 * 2**20
"""Bytes of a line that runs over more than one chunk: a vector may be long, but has an end."""

MAX_PROBLEMS = 1000
"""Problems, and warnings, that are listed: a file with more is no mdc."""

CHUNK = 2**18
"""Bytes that are split into lines at once."""

_BLANKS = " \t"
_OUTER_BLANKS = " \t\r"
_BETWEEN = re.compile(r"[ \t]+")
_OTHER_BLANK = re.compile(r"[^\S \t\n]")
_ASCII_BLANKS = "\r\x0b\x0c\x1c\x1d\x1e\x1f"
_BOM = b"\xef\xbb\xbf"
_SCALARS = {word: (one.name, one.read) for word, one in TYPES.items() if word[0] != "@"}
_MAX_NAMES = 10_000


@runtime_checkable
class Readable(Protocol):
    """A binary file, as far as `stream` needs one."""

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes, none at the end."""
        ...


def load(data: bytes | str, source: str = "mdc", overwrite: bool = False) -> Document:
    """Read a whole document; `source` is what its problems are reported under.

    Of a name that repeats without MULTI the first value stands, with `overwrite` the last; the
    document's warnings say so. Raises MdcError with every problem of the document.
    """
    raw = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
    reader = _Reader(source, overwrite)
    for _ in reader.read(raw[at : at + CHUNK] for at in range(0, len(raw), CHUNK)):
        pass
    return reader.document()


def load_file(path: str | PathLike[str], overwrite: bool = False) -> Document:
    """Read the document in a file, as `load` does. Raises MdcError, also if there is no file."""
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        raise MdcError([f"{path}: a file that can be read expected: {error.strerror}"]) from error
    return load(data, str(path), overwrite)


def stream(
    data: Iterable[bytes] | Readable, source: str = "mdc", warnings: list[str] | None = None
) -> Iterator[Entry]:
    """Yield the top-level entries of a document as they are complete, declarations too.

    `data` is a binary file or the chunks of one. Memory is bounded by the largest entry (in a
    dbinfo, a row of a table) and one chunk. Warnings are appended to `warnings` as they come.
    After the first problem nothing more is yielded, but the rest is read, so that the MdcError
    raised at the end has every problem.
    """
    reader = _Reader(source, warnings=warnings)
    for _ in reader.read(_chunks(data)):
        yield from reader.take()
    yield from reader.document().entries


def _chunks(data: Iterable[bytes] | Readable) -> Iterable[bytes]:
    if isinstance(data, Readable):
        return iter(lambda: data.read(CHUNK), b"")
    return data


class _Stop(Exception):
    """Reading on would not help; the problem is noted."""


@dataclass(slots=True)
class _Open:
    """A block whose END has not come: its METADATA line, and what its lines declared so far."""

    block: Block
    name: str = ""
    comment: str | None = None
    line: int = 0
    declared: set[str] = field(default_factory=set)
    records: dict[str, tuple[str, ...]] = field(default_factory=dict)
    # Of the entries that _settle has been through: position and line by name, and MULTI names.
    seen: dict[str, tuple[int, int]] = field(default_factory=dict)
    multi: set[str] = field(default_factory=set)


class _Reader:
    """Takes a document in chunks; the blocks that are open, innermost last, are its state."""

    def __init__(
        self, source: str, overwrite: bool = False, warnings: list[str] | None = None
    ) -> None:
        self._source = source
        self._overwrite = overwrite
        self._problems: list[tuple[int, str]] = []
        self._warnings: list[str] = [] if warnings is None else warnings
        self._line = 0
        self._document = Document(source, self._warnings)
        self._open = [_Open(self._document)]
        self._names: dict[str, str] = {}

    def read(self, chunks: Iterable[bytes]) -> Iterator[None]:
        """Read the chunks to the end; pauses after each piece of them that ends with a line."""
        try:
            for piece in self._pieces(chunks):
                self._piece(piece)
                yield
            for frame in self._open[1:]:
                self._problem(frame.line, f"METADATA {frame.name}: an END expected, none came")
        except _Stop:
            pass

    def take(self) -> tuple[Entry, ...]:
        """The top-level entries that are complete, which the reader then forgets."""
        top = self._open[0]
        self._settle(top)
        entries = () if self._problems else top.block.entries
        top.block._clear()
        return entries

    def document(self) -> Document:
        """The document, once all is read; raises MdcError if it has problems."""
        if self._problems:
            raise MdcError([f"{self._source}:{at}: {text}" for at, text in sorted(self._problems)])
        self._settle(self._open[0])
        return self._document

    def _problem(self, line: int, text: str) -> None:
        self._problems.append((line, text))
        if len(self._problems) == MAX_PROBLEMS:
            self._problems.append((line, f"reading stopped after {MAX_PROBLEMS} problems"))
            raise _Stop

    def _warn(self, line: int, text: str) -> None:
        if len(self._warnings) < MAX_PROBLEMS:
            self._warnings.append(f"{self._source}:{line}: {text}")

    def _pieces(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """The chunks cut anew, so that each piece ends with a line."""
        held: list[bytes] = []
        size = 0
        for chunk in chunks:
            end = chunk.rfind(b"\n") + 1
            held.append(chunk[:end] if end else chunk)
            size += len(chunk)
            if end:
                yield b"".join(held)
                held = [chunk[end:]]
                size = len(chunk) - end
            if size > MAX_LINE:
                self._problem(self._line + 1, f"a line of at most {MAX_LINE} bytes expected")
                raise _Stop
        yield b"".join(held)

    def _piece(self, piece: bytes) -> None:
        """Decode whole lines and read them."""
        if self._line == 0:
            piece = piece.removeprefix(_BOM)
        try:
            text = piece.decode()
        except UnicodeDecodeError:
            text = self._salvage(piece)
        if "\r" in text:
            # Not needed for the meaning, but a CR would send the lines the longer way.
            text = text.replace("\r\n", "\n")
        lines = text.split("\n")
        if not lines[-1]:
            lines.pop()
        odd = any(map(text.__contains__, _ASCII_BLANKS))
        if odd or (not text.isascii() and _OTHER_BLANK.search(text)):
            for line in lines:
                self._line += 1
                self._any_line(line)
        else:
            self._plain_lines(lines)

    def _salvage(self, piece: bytes) -> str:
        """Decode line by line, to say which line is not UTF-8."""
        lines = []
        for number, raw in enumerate(piece.split(b"\n"), self._line + 1):
            try:
                lines.append(raw.decode())
            except UnicodeDecodeError as error:
                self._problem(number, f"UTF-8 expected, not the byte 0x{raw[error.start]:02x}")
                lines.append("")
        return "\n".join(lines)

    def _plain_lines(self, lines: list[str]) -> None:
        """Read lines without odd blanks, nearly all of which are NAME TYPE VALUE.

        This loop is where the time goes. It takes names that have passed _entry before and the
        types of the one table; all else, problems too, it leaves to _any_line, which knows the
        whole grammar. str.split and str.rstrip are faster than a pattern, but know more blanks
        than the format has: hence no odd blanks.
        """
        names, scalars = self._names, _SCALARS
        block = self._open[-1].block
        start = self._line
        for number, line in enumerate(lines, start + 1):
            text, comment = line, None
            if "#" in line:
                text, _, comment = line.partition("#")
            try:
                word, kind, text = text.split(None, 2)
                name = names[word]
                kind, read = scalars[kind]
                text = text.rstrip()
                value = None if text == NULL else read(text)
            except (ValueError, KeyError):
                self._line = number
                self._any_line(line)
                block = self._open[-1].block
            else:
                block._names.append(name)
                block._kinds.append(kind)
                block._values.append(value)
                block._numbers.append(number)
                if comment is not None:
                    block._comments[len(block._names) - 1] = comment.strip(_BLANKS)
        self._line = start + len(lines)

    def _any_line(self, line: str) -> None:
        """Read one line of any form, into the innermost open block."""
        text, mark, after = line.partition("#")
        text = text.strip(_OUTER_BLANKS)
        comment = after.strip(_OUTER_BLANKS) if mark else None
        name, kind, rest = (*_BETWEEN.split(text, 2), "", "")[:3]
        try:
            if not text:
                if comment is not None:
                    self._open[-1].block._add(Comment(comment, self._line))
            elif name.upper() == "END":
                self._end(text[3:].lstrip(_BLANKS), comment)
            elif name.upper() == "TYPE":
                self._declare_record(kind, rest, comment)
            elif kind.upper() == "METADATA":
                self._begin(name, rest, comment)
            elif kind.upper() == "MULTI":
                self._declare_multi(name, rest, comment)
            else:
                self._entry(name, kind, rest, comment)
        except ValueError as error:
            self._problem(self._line, str(error))

    def _add(self, name: str, kind: str, value: Value, comment: str | None) -> None:
        self._open[-1].block._add(Entry(name, kind, value, comment, self._line))

    def _begin(self, name: str, rest: str, comment: str | None) -> None:
        if len(self._open) > MAX_DEPTH:
            self._problem(self._line, f"at most {MAX_DEPTH} blocks within each other expected")
            raise _Stop
        # Opened even if the line is faulty, so that its END finds it.
        self._open.append(_Open(Block(), name, comment, self._line))
        check_name(name)
        _check_nothing("METADATA", rest)

    def _end(self, rest: str, comment: str | None) -> None:
        if len(self._open) == 1:
            raise ValueError("an entry expected, not an END: no METADATA is open")
        if comment is not None:
            self._open[-1].block._add(Comment(comment, self._line))
        frame = self._open.pop()
        self._settle(frame)
        entry = Entry(frame.name, "METADATA", frame.block, frame.comment, frame.line)
        self._open[-1].block._add(entry)
        _check_nothing("END", rest)

    def _declare_multi(self, name: str, rest: str, comment: str | None) -> None:
        check_name(name)
        _check_nothing("MULTI", rest)
        declared = self._open[-1].declared
        if name in declared:
            raise ValueError(f"{name}: one MULTI in a block expected, this is another")
        declared.add(name)
        self._add(name, "MULTI", None, comment)

    def _declare_record(self, name: str, rest: str, comment: str | None) -> None:
        records = self._open[-1].records
        fields = tuple(_BETWEEN.split(rest))
        check_record(name, fields)
        if name in records:
            raise ValueError(f"TYPE {name}: a new name expected, this one is declared already")
        records[name] = fields
        self._add(name, "TYPE", fields, comment)

    def _entry(self, word: str, kind: str, text: str, comment: str | None) -> None:
        """A scalar, a vector or a record."""
        name = word.removeprefix("@")
        check_name(name)
        fields = self._open[-1].records.get(kind)
        if fields and name == word:
            self._add(name, kind, read_record(name, fields, text), comment)
            return
        type_ = find_type(word, kind)
        try:
            value = None if text == NULL else _read(type_, text)
        except ValueError:
            raise ValueError(f"{word}: {type_.expects} expected, not {text[:60]!r}") from None
        if len(self._names) == _MAX_NAMES:
            self._names.clear()
        self._names[name] = name
        self._add(name, type_.name, value, comment)

    def _settle(self, frame: _Open) -> None:
        """Leave one entry of each name that repeats without MULTI, and warn."""
        block = frame.block
        if frame.line and len(set(block._names)) == len(block._names):
            return
        drop = set()
        for position, (name, kind) in enumerate(zip(block._names, block._kinds, strict=True)):
            line = block._numbers[position]
            if kind == "MULTI":
                frame.multi.add(name)
            elif kind == "TYPE" or name in frame.multi:
                continue
            elif name not in frame.seen:
                frame.seen[name] = (position, line)
            else:
                first, first_line = frame.seen[name]
                stands = line if self._overwrite else first_line
                self._warn(line, f"{name} repeats without MULTI; line {stands} stands")
                drop.add(first if self._overwrite else position)
                if self._overwrite:
                    frame.seen[name] = (position, line)
        if drop:
            block._drop(drop)


def _check_nothing(after: str, rest: str) -> None:
    if rest:
        raise ValueError(f"nothing after {after} expected, not {rest[:60]!r}")


def _read(type_: Type, text: str) -> Value:
    # int() and float() pass over blanks that the format has not.
    if type_.name != "STR" and _OTHER_BLANK.search(text):
        raise ValueError
    return type_.read(text)
