"""Sums of files that are there, and the comparison of a file with its manifest entry."""

import hashlib
import zlib
from pathlib import Path

from mirror import disk
from mirror.manifest import Entry

PIECE = 1024 * 1024


def md5_of(path: Path) -> str:
    """The md5 sum of a file, in hexadecimal digits. Raises LocalError."""
    with disk.told(path), path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def crc_of(path: Path) -> tuple[int, int]:
    """Size in bytes and CRC-32 of a file. Raises LocalError."""
    size = total = 0
    with disk.told(path), path.open("rb", buffering=0) as file:
        while piece := file.read(PIECE):
            total = zlib.crc32(piece, total)
            size += len(piece)
    return size, total


def matches(path: Path, entry: Entry) -> bool:
    """Whether the file at `path` is what the entry says, read whole. Raises LocalError."""
    with disk.told(path):
        if path.stat().st_size != entry.size:
            return False
    kind, _, value = entry.sum.partition(":")
    if kind == "md5":
        return md5_of(path) == value
    return not kind or crc_of(path)[1] == int(value, 16)
