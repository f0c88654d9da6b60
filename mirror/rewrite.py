"""Paths in dbinfo and config dumps, made this site's (PROTOCOL sections 3 and 5).

Bytes in, bytes out, in constant memory whatever the size: a document is read in blocks that are
cut at line ends, one compiled pattern finds the few lines that matter in a block, and every byte
outside the values replaced goes through as it came. The values of other lines are not judged
here; `formats.mdc` does that for whoever reads the document.

What was written is complete only when the function returns: on an error the target holds a part,
so it must be a file that nobody sees yet.
"""

import re
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import BinaryIO

from mirror.dirinfo import Places, encode, read_dirinfo, show, some
from mirror.errors import IntegrityError

__all__ = [
    "Places", "base_name", "local_path", "local_value",
    "read_dirinfo", "rewrite_dbinfo", "rewrite_dump", "without_volume",
]  # fmt: skip

MAX_LINE = 2**20
"""Bytes in a line of a dbinfo or dump; a longer one is a fault or an attack."""

MAX_DUMP = 2**30
"""Bytes that a gzip-compressed dump may unpack to at most."""

SMALL = 2**24
"""Bytes that a document may always come to, whatever the two ratios below say."""

MAX_RATIO = 200
"""How many times its compressed size a dump may unpack to."""

MAX_GROWTH = 16
"""How many times its size a document may come to with its new paths in it."""

_BLOCK = 2**17
_GZIP_BLOCK = 2**14

_NULL = b"NULL"
_PATHS = (b"uri", b"path_base")
_COMPONENT_COLUMN = {
    b"rawExp": b"class_id",
    b"chipRun": b"class_id",
    b"chipBackgroundRun": b"class_id",
    b"fakeRun": b"class_id",
    b"warpRun": b"skycell_id",
    b"warpBackgroundRun": b"skycell_id",
    b"diffRun": b"skycell_id",
    b"stackRun": b"skycell_id",
}

# A carriage return before the line end is a blank here, so that CRLF needs no case of its own.
# The repetitions are possessive (++, *+): no line, however odd, can make the search backtrack.
_START = rb"\n(?:\xef\xbb\xbf)?[ \t]*+"
_NAME = rb"[A-Za-z0-9_][A-Za-z0-9_.-]*+"
_NO_MORE = rb"(?=[ \t\r]*+(?:[#\n]|\Z))"
_VALUE = rb"(?P<value>[^\n#]*[^\n# \t\r])"
_STRUCTURE = rb"(?P<keyword>(?i:METADATA|MULTI))" + _NO_MORE
_END = rb"(?P<end>(?i:END))" + _NO_MORE

_DBINFO_LINE = re.compile(
    _START + rb"(?:"
    rb"(?P<column>workdir|uri|path_base|tess_id|class_id|skycell_id)[ \t]++STR(?:ING)?[ \t]++"
    + _VALUE
    + rb"|(?P<name>" + _NAME + rb")[ \t]++" + _STRUCTURE
    + rb"|" + _END + rb")"
)  # fmt: skip
_DUMP_LINE = re.compile(
    _START + rb"(?:"
    rb"(?P<name>" + _NAME + rb")[ \t]++(?:"
    rb"STR(?:ING)?[ \t]++(?=neb://|path://|file://|/data/)" + _VALUE
    + rb"|" + _STRUCTURE + rb")"
    rb"|" + _END + rb")"
)  # fmt: skip

_VOLUME = re.compile(rb"(?:neb|path)://[^/]*|(?:file:///?|/)data/[^/]+")


class _Refused(Exception):
    """Why the line under the reader's eye cannot be rewritten."""


def base_name(value: bytes) -> bytes:
    """What follows the last `/` of a value; slashes at its very end do not count.

    Raises IntegrityError where that names no file: only slashes, `.`, `..`, or a name with a
    blank at its ends, which a STR could not carry.
    """
    name = value.rstrip(b"/").rpartition(b"/")[2]
    if name in (b"", b".", b"..") or name != name.strip(b" \t\r"):
        raise IntegrityError(f"a path with a base name expected, not {show(value)}")
    return name


def local_value(column: bytes, old: bytes, workdir: bytes, directory: bytes) -> bytes:
    """The new value of a dbinfo column (the table of PROTOCOL section 3).

    `workdir` is the new value of that column, `directory` how the paths of the row's component
    begin. NULL stays NULL, and a column that the table does not name stays as it is. Raises what
    `base_name` raises.
    """
    if old == _NULL:
        return old
    if column in _PATHS:
        return directory + b"/" + base_name(old)
    if column == b"tess_id":
        return base_name(old)
    return workdir if column == b"workdir" else old


def local_path(path: bytes, data_prefix: bytes) -> bytes:
    """A path of a config dump with its volume replaced (PROTOCOL, "Config dumps inside bundles").

    A path that begins with no volume, which STDOUT, STDERR and relative paths do not, stays as it
    is, and so does an absolute one outside /data/HOST. An empty volume (`neb:///a/b`) is one.
    """
    if not (volume := _VOLUME.match(path)):
        return path
    rest = path[volume.end() :]
    return data_prefix.removesuffix(b"/") + rest if rest else data_prefix


def without_volume(path: str) -> str:
    """What a directory of dirinfo is made of: a path without its volume and outer slashes.

    A path outside every volume is taken from the root of its file system.
    """
    text = encode(path)
    volume = _VOLUME.match(text)
    rest = text[volume.end() :] if volume else text.removeprefix(b"file://")
    return rest.strip(b"/").decode("utf-8", "surrogateescape")


def rewrite_dbinfo(source: BinaryIO, target: BinaryIO, places: Places, name: str) -> None:
    """Copy a dbinfo with the paths of its tables made local; `name` stands for it in errors.

    Rewritten are the columns of the table in PROTOCOL section 3 where they are a STR that is
    neither NULL nor empty, in the rows of every table but dbversion; blocks inside a row are no
    columns of it. A row without a component column of its own has the component of its run: that
    of the stackRun row, `exposure`, or the only one of dirinfo. The latter goes for sky and
    skycal, and for kinds of runs that PROTOCOL does not know: their files can be nowhere else.

    Raises IntegrityError, naming line, table and value, for a path whose component is unknown,
    a value without base name, a line over MAX_LINE, blocks that do not close, and paths that
    make the document grow beyond MAX_GROWTH.
    """
    _rewrite(_chunks(source, _BLOCK), target.write, _Dbinfo(name, places))


def rewrite_dump(source: BinaryIO, target: BinaryIO, data_prefix: str, name: str) -> None:
    """Copy a config dump with the volumes of its paths replaced; `name` stands for it in errors.

    Everything between the METADATA of a top-level FILES.INPUT or FILES.OUTPUT and its END counts
    as in the block, blocks inside it too. A gzip-compressed dump, recognised by its first bytes,
    is compressed again, the same for the same contents.

    Raises IntegrityError for a line over MAX_LINE, blocks that do not close, gzip that is damaged
    or followed by something else, and for a dump that comes to more bytes than MAX_DUMP,
    MAX_RATIO and MAX_GROWTH allow.
    """
    reader = _Dump(name, data_prefix)
    head = source.read(2)
    if len(head) == 1:
        head += source.read(1)
    if head != b"\x1f\x8b":
        _rewrite(chain((head,), _chunks(source, _BLOCK)), target.write, reader)
        return
    packed = chain((head,), _chunks(source, _GZIP_BLOCK))
    # zlib's own gzip header has no name and no time in it.
    packer = zlib.compressobj(wbits=31)
    _rewrite(_gunzip(packed, name), lambda text: target.write(packer.compress(text)), reader)
    target.write(packer.flush())


class _Reader(ABC):
    """Where in a document the reader stands: how deep, and in which block of the top level."""

    pattern: re.Pattern[bytes]

    def __init__(self, name: str) -> None:
        self.name = name
        self.depth = 0
        self.block = b""

    def see(self, match: re.Match[bytes]) -> bytes | None:
        """Take in a line that the pattern found; the new value if it has one, or _Refused."""
        kind = match.lastgroup
        if kind == "value":
            # The first group of both patterns is the name that the value belongs to.
            return self.value(match[1], match["value"]) if self.depth else None
        if kind == "end":
            self.depth -= 1
            if self.depth < 0:
                raise _Refused("END without a block that it ends")
        else:
            self.open(match["name"], match["keyword"].upper() == b"METADATA")
        return None

    def open(self, name: bytes, is_block: bool) -> None:
        """Take in `name METADATA`, or `name MULTI`."""
        if is_block:
            self.depth += 1
            if self.depth == 1:
                self.block = name

    @abstractmethod
    def value(self, name: bytes, old: bytes) -> bytes | None:
        """The new value of `name`, None to leave it; called inside blocks only."""

    def finish(self) -> None:
        """The document has ended."""
        if self.depth:
            raise IntegrityError(f"{self.name}: the block {show(self.block)} has no END")


class _Dbinfo(_Reader):
    pattern = _DBINFO_LINE

    def __init__(self, name: str, places: Places) -> None:
        super().__init__(name)
        self.places = places
        self.workdir = encode(places.workdir())
        self.directories = {encode(c): encode(places.local(c)) for c in places.components}
        self.run = b""
        self.column = b""
        self.run_component: bytes | None = None
        self.component: bytes | None = None
        self.directory: bytes | None = None
        self.named = False

    def open(self, name: bytes, is_block: bool) -> None:
        if self.depth == 0:
            if not self.run and name != b"dbversion":
                self._start(name)
            self._set_component(self.run_component)
            self.named = False
        super().open(name, is_block)

    def _start(self, run: bytes) -> None:
        """The first table after dbversion tells what names a component."""
        self.run = run
        self.column = _COMPONENT_COLUMN.get(run, b"")
        if run == b"camRun":
            self.run_component = b"exposure"
        elif not self.column and len(self.directories) == 1:
            (self.run_component,) = self.directories

    def value(self, name: bytes, old: bytes) -> bytes | None:
        if self.depth > 1 or self.block == b"dbversion":
            return None
        if name == self.column:
            self._name_component(old)
            return None
        directory = self.directory
        if directory is None and name in _PATHS and old != _NULL:
            raise _Refused(self._no_directory(name, old))
        try:
            return local_value(name, old, self.workdir, directory or b"")
        except IntegrityError as error:
            raise _Refused(f"table {show(self.block)}: {name.decode()}: {error}") from error

    def _name_component(self, component: bytes) -> None:
        # A name that repeats without MULTI keeps its first value (section 5).
        if self.named:
            return
        self.named = True
        self._set_component(None if component == _NULL else component)
        if self.block == self.run == b"stackRun":
            self.run_component = self.component

    def _set_component(self, component: bytes | None) -> None:
        self.component = component
        self.directory = None if component is None else self.directories.get(component)

    def _no_directory(self, column: bytes, old: bytes) -> str:
        if self.component is not None:
            why = f"component {show(self.component)} is not in dirinfo, which has"
        elif self.column:
            why = f"its row names no {self.column.decode()} before it; dirinfo has"
        else:
            why = f"a {show(self.run)} needs exactly one component; dirinfo has"
        what = f"table {show(self.block)}: no directory for {column.decode()} {show(old)}"
        return f"{what}: {why} {some(self.places.components)}"


class _Dump(_Reader):
    pattern = _DUMP_LINE

    def __init__(self, name: str, data_prefix: str) -> None:
        super().__init__(name)
        self.prefix = encode(data_prefix)

    def value(self, name: bytes, old: bytes) -> bytes | None:
        inside = self.block in (b"FILES.INPUT", b"FILES.OUTPUT")
        return local_path(old, self.prefix) if inside else None


def _rewrite(chunks: Iterable[bytes], write: Callable[[bytes], object], reader: _Reader) -> None:
    """Copy a document, with the values for which the reader has new ones replaced."""
    # The first block begins with a line end that the document has not.
    at = 1
    taken = given = 0
    for lines, text in _blocks(chunks, reader.name):
        parts: list[bytes] = []
        for match in reader.pattern.finditer(text):
            try:
                new = reader.see(match)
            except _Refused as refused:
                line = lines + text.count(b"\n", 0, match.start() + 1)
                raise IntegrityError(f"{reader.name}, line {line}: {refused}") from refused
            if new is not None:
                start, end = match.span("value")
                parts += (text[at:start], new)
                at = end
        parts.append(text[at:])
        at = 0
        new_text = b"".join(parts)
        taken += len(text)
        given += len(new_text)
        if given > max(SMALL, MAX_GROWTH * taken):
            raise IntegrityError(
                f"{reader.name}: {taken} bytes become {given} with their new paths; "
                f"at most {MAX_GROWTH} times as many are accepted"
            )
        write(new_text)
    reader.finish()


def _blocks(chunks: Iterable[bytes], name: str) -> Iterator[tuple[int, bytes]]:
    """Yield (number of lines before, whole lines), each line with the line end *before* it.

    So every line of every block begins with a literal newline, which is what makes the search
    fast. No chunk may be longer than MAX_LINE: then only a block's first line can be.
    """
    lines, carry = 0, b"\n"
    for chunk in chunks:
        text = carry + chunk
        end = text.find(b"\n", len(carry))
        if (end if end >= 0 else len(text)) > MAX_LINE + 1:
            raise IntegrityError(f"{name}, line {lines + 1}: longer than {MAX_LINE} bytes")
        if end < 0:
            carry = text
            continue
        cut = text.rfind(b"\n")
        yield lines, text[:cut]
        lines += text.count(b"\n", 0, cut)
        carry = text[cut:]
    yield lines, carry


def _chunks(source: BinaryIO, size: int) -> Iterator[bytes]:
    return iter(lambda: source.read(size), b"")


def _gunzip(chunks: Iterable[bytes], name: str) -> Iterator[bytes]:
    """Unpack gzip of one or more members, in pieces of at most _BLOCK bytes."""
    unzip = zlib.decompressobj(wbits=31)
    taken = given = 0
    for chunk in chunks:
        taken += len(chunk)
        while chunk:
            if unzip.eof:
                unzip = zlib.decompressobj(wbits=31)
            try:
                piece = unzip.decompress(chunk, _BLOCK)
            except zlib.error as error:
                raise IntegrityError(f"{name}: damaged gzip: {error}") from error
            chunk = unzip.unused_data if unzip.eof else unzip.unconsumed_tail
            given += len(piece)
            if given > min(MAX_DUMP, max(SMALL, MAX_RATIO * taken)):
                raise IntegrityError(
                    f"{name}: {taken} bytes of gzip unpack to more than {given} bytes; "
                    f"at most {MAX_RATIO} times the size and {MAX_DUMP} bytes are accepted"
                )
            yield piece
    if not unzip.eof:
        raise IntegrityError(f"{name}: damaged gzip: it ends before its end mark")
