"""The grammar of tar headers, pure: blocks of bytes in, records or a TarError out.

It reads what V7, ustar, pax and GNU tar write, and keeps what a bundle may hold (PROTOCOL
section 3): plain files with plain base names, and an entry for `./` itself. Wherever two readers
of tar are known to disagree about an archive the answer here is a refusal, so that what was
checked is what everybody else will see too. Nothing here touches disk or decides where to write.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

BLOCK = 512
"""Bytes in a block: every header is one, every content is padded to whole ones."""

MAX_EXTENDED = 1 << 20
"""Bytes of one pax or long-name header; real ones hold a few hundred."""

MAX_MTIME = 2**32 - 1
"""The latest modification time kept, in seconds (2106): what every file system can hold."""

EXTENDED = (b"x", b"g", b"L", b"K")
"""Types whose content describes the members after it: pax, pax global, GNU long name and link."""

_PLAIN = (b"0", b"\0", b"7")  # POSIX: contiguous files are plain where the system has no others.
_OTHERS = {
    b"1": "a hard link", b"2": "a symbolic link", b"3": "a character device",
    b"4": "a block device", b"5": "a directory", b"6": "a FIFO", b"S": "a sparse file",
    b"D": "a directory dump", b"M": "a piece of another volume's file", b"V": "a volume label",
}  # fmt: skip
_REFUSED_KEYS = (b"GNU.sparse.", b"GNU.volume.", b"GNU.dumpdir", b"SCHILY.realsize")
_EACH_ITS_OWN = (b"path", b"size", b"linkpath")

_UNUSED = ((100, 108), (108, 116), (116, 124), (329, 337), (337, 345))
_MAX_SIZE = 2**63 - 1
_OCTAL = re.compile(rb" *([0-7]+)[ \0]*")
_RECORD = re.compile(rb"([1-9][0-9]{0,6}) ([^=\n]+)=")
_DECIMAL = re.compile(rb"[0-9]{1,19}")
_TIME = re.compile(rb"(-?)([0-9]+)(?:\.([0-9]*))?")
_DRIVE = re.compile(r"[A-Za-z]:")


class TarError(Exception):
    """A rule that an archive breaks: which member, what was expected, what came."""


@dataclass(frozen=True, slots=True)
class Header:
    """One header block as it stands. `size` in bytes, `mtime` in seconds, `type` one byte."""

    name: bytes
    size: int
    mtime: int
    type: bytes


@dataclass(frozen=True, slots=True)
class Extended:
    """What extended headers say: `records` of the next member, `common` of all that follow.

    `types` are the types of the headers that `records` came from, in order.
    """

    records: Mapping[bytes, bytes] = field(default_factory=dict)
    common: Mapping[bytes, bytes] = field(default_factory=dict)
    types: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Entry:
    """A plain file as it will be written: base name, bytes, modification time in nanoseconds."""

    name: str
    size: int
    mtime_ns: int


def shown(name: bytes) -> str:
    """A name for a message: quoted, escaped, not longer than a line."""
    text = name[:100].decode("utf-8", "backslashreplace")
    return repr(text) + ("..." if len(name) > 100 else "")


def parse_header(block: bytes) -> Header:
    """Read one header block of 512 bytes.

    Raises TarError: wrong checksum, an unknown magic, a number that is none, is negative or too
    large. Mode, owner and device must be numbers but mean nothing to a mirror.
    """
    summed = sum(block) - sum(block[148:156]) + 8 * 0x20
    if _number(block[148:156], "checksum") != summed:
        raise TarError("a header whose checksum does not fit: damaged, or no tar archive")
    name = block[:100].split(b"\0", 1)[0]
    magic = block[257:265]
    prefix = block[345:500].split(b"\0", 1)[0]
    if magic[:6] == b"ustar\0":
        name = prefix + b"/" + name if prefix else name
    elif magic not in (b"ustar  \0", bytes(8)):
        raise TarError(f"header of {shown(name)}: unknown magic {magic!r}")
    elif prefix:
        # GNU's incremental dumps keep times there, which other readers take for a path.
        raise TarError(f"header of {shown(name)}: a prefix, which only POSIX headers have")
    kind = block[156:157]
    for start, end in _UNUSED:
        _number_or_blank(block[start:end], f"header of {shown(name)}")
    size = _number(block[124:136], f"size of {shown(name)}")
    if not 0 <= size <= _MAX_SIZE:
        raise TarError(f"header of {shown(name)}: a size of {size} bytes")
    if kind in EXTENDED and size > MAX_EXTENDED:
        raise TarError(f"an extended header of {size} bytes (at most {MAX_EXTENDED})")
    mtime = _number_or_blank(block[136:148], f"time of {shown(name)}")
    return Header(name, size, mtime, kind)


def _number_or_blank(raw: bytes, what: str) -> int:
    return _number(raw, what) if raw.strip(b" \0") else 0


def _number(raw: bytes, what: str) -> int:
    """A number field: octal digits, or GNU's binary form for what octal cannot hold."""
    if raw[0] in (0x80, 0xFF):
        return int.from_bytes(b"\0" + raw[1:] if raw[0] == 0x80 else raw, "big", signed=True)
    octal = _OCTAL.fullmatch(raw)
    if not octal:
        raise TarError(f"{what}: an octal number expected, not {raw!r}")
    return int(octal[1], 8)


def parse_pax(data: bytes) -> dict[bytes, bytes]:
    """Read the records of a pax header (`LENGTH KEY=VALUE` and a newline, each).

    Raises TarError for a record that does not fit its length, one given twice, and those that
    would change what a member is (sparse files, volumes).
    """
    records: dict[bytes, bytes] = {}
    at = 0
    while at < len(data):
        head = _RECORD.match(data, at)
        end = at + int(head[1]) if head else 0
        # The length covers itself: a record that ends inside its own key is damaged as well.
        if not head or not head.end() < end <= len(data) or data[end - 1] != 0x0A:
            raise TarError(f"a damaged pax record: {shown(data[at : at + 60])}")
        key = head[2]
        if key in records:
            raise TarError(f"the pax record {shown(key)} given twice")
        if key.startswith(_REFUSED_KEYS):
            raise TarError(f"the pax record {shown(key)}: only whole, plain files are taken")
        records[key] = data[head.end() : end - 1]
        at = end
    return records


def extend(before: Extended, header: Header, data: bytes) -> Extended:
    """Add the extended header `header` with its content to what is known of the next member.

    Raises TarError for two that speak of the same thing: readers differ in which one they obey.
    """
    if header.type in before.types or (before.types and b"x" in (*before.types, header.type)):
        raise TarError("two extended headers before one member")
    if header.type == b"g":
        if before.types:
            raise TarError("a global extended header between a member and its own")
        common = parse_pax(data)
        for key in _EACH_ITS_OWN:
            if key in common:
                raise TarError(f"a global pax record {shown(key)}: each member has its own")
        return Extended(common={**before.common, **common})
    if header.type == b"x":
        records: Mapping[bytes, bytes] = parse_pax(data)
    elif data.endswith(b"\0"):
        key = b"path" if header.type == b"L" else b"linkpath"
        records = {**before.records, key: data[:-1]}
    else:
        # Some readers go on to the next NUL, whatever the size says.
        raise TarError(f"the long name {shown(data)} does not end with a NUL")
    return Extended(records, before.common, (*before.types, header.type))


def effective(header: Header, extended: Extended) -> Entry | None:
    """The member that `header` stands for once `extended` is applied; None for `./` itself.

    Raises TarError for everything that is not a plain file with a plain base name.
    """
    records = {**extended.common, **extended.records}
    name = records.get(b"path", header.name)
    label = f"member {shown(name)}"
    size = _size(records[b"size"], label) if b"size" in records else header.size
    plain = header.type in _PLAIN
    # V7 had no type for directories: a name that ends in '/' is one.
    if header.type == b"5" or (plain and name.endswith(b"/")):
        if name in (b"./", b".") and size == 0 and header.type in (b"5", b"\0"):
            return None
        raise TarError(f"{label} is a directory; only plain files are taken")
    if not plain:
        kind = _OTHERS.get(header.type, f"of the unknown type {header.type!r}")
        raise TarError(f"{label} is {kind}; only plain files are taken")
    text = _base_name(name, label)
    if b"mtime" in records:
        return Entry(text, size, _time_ns(records[b"mtime"], label))
    return Entry(text, size, min(max(header.mtime, 0), MAX_MTIME) * 10**9)


def _size(value: bytes, label: str) -> int:
    if not _DECIMAL.fullmatch(value) or int(value) > _MAX_SIZE:
        raise TarError(f"{label}: a pax size in bytes expected, not {shown(value)}")
    return int(value)


def _time_ns(value: bytes, label: str) -> int:
    """Seconds with a fraction as nanoseconds, clamped to 1970 and MAX_MTIME."""
    parts = _TIME.fullmatch(value)
    if not parts:
        raise TarError(f"{label}: a pax time in seconds expected, not {shown(value)}")
    sign, whole, fraction = parts.groups(b"")
    if sign:
        return 0
    if len(whole) > 19 or int(whole) >= MAX_MTIME:
        return MAX_MTIME * 10**9
    return int(whole) * 10**9 + int(fraction[:9].ljust(9, b"0"))


def _base_name(name: bytes, label: str) -> str:
    """The name under which a member is written, or TarError (FAULTS T1, L12, L13)."""
    raw = name.removeprefix(b"./")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise TarError(f"{label}: a name that is not UTF-8") from None
    reason = check_base_name(text)
    if reason:
        raise TarError(f"{label}: {reason}; plain base names are taken, after one './'")
    return text


def check_base_name(name: str) -> str | None:
    """Say why `name` cannot be the name of an unpacked file, or None if it can.

    Wider than the names of lists (letters of any script are fine), but as strict in what would
    hurt those who use the files: no path of any system, no option, nothing invisible.
    """
    if name in ("", ".", ".."):
        return "not a name of a file"
    if "/" in name or "\\" in name or _DRIVE.match(name):
        return "a path"
    if not name.isprintable():
        return "a name with characters that do not print"
    if name.startswith("-"):
        return "a name that begins with '-'"
    if name != name.strip():
        return "a name that begins or ends with a blank"
    if len(name.encode()) > 255:
        return f"a name of {len(name.encode())} bytes (at most 255)"
    return None


def folded(name: str) -> str:
    """What `name` is to a file system without case, or one that normalises Unicode (T7)."""
    if name.isascii():
        return name.lower()
    from unicodedata import normalize

    return normalize("NFC", normalize("NFD", name).casefold())
