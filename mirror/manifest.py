"""What a fileset consists of in the tree: every file with its size and sum.

Written before the fileset moves into the tree, so that a killed run is completed from it; kept
afterwards, so that --verify knows what ought to be there.
"""

import zlib
from collections.abc import Iterable
from dataclasses import dataclass

from mirror.listing import FileRow


@dataclass(frozen=True, slots=True)
class Entry:
    """One file: where it stands in staging, where in the tree, and what it must be.

    `source` is relative to the fileset's staging directory, `target` to MIRROR_ROOT, `size` in
    bytes. `sum` is `md5:HEX` for what the list vouches for, `crc32:HEX` for what was unpacked or
    rewritten here, empty where the list gives no sum. `origin` is the listed file it comes from.
    """

    source: str
    target: str
    size: int
    sum: str
    origin: str


def pack(entries: Iterable[Entry]) -> bytes:
    """The entries as they are kept in the state."""
    lines = (f"{e.source}\t{e.target}\t{e.size}\t{e.sum}\t{e.origin}\n" for e in entries)
    return zlib.compress("".join(lines).encode(), 1)


def unpack(packed: bytes | None) -> list[Entry]:
    """The entries of a packed manifest; none for None."""
    if packed is None:
        return []
    entries = []
    for line in zlib.decompress(packed).decode().split("\n")[:-1]:
        source, target, size, total, origin = line.split("\t")
        entries.append(Entry(source, target, int(size), total, origin))
    return entries


def as_served(row: FileRow, directory: str, source: str = "fetched") -> Entry:
    """The entry of a file that goes into `directory` as it came."""
    total = f"md5:{row.md5}" if row.md5 else ""
    return Entry(f"{source}/{row.name}", f"{directory}/{row.name}", row.size, total, row.name)
