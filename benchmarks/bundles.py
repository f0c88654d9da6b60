"""Bundles made quickly: one gzip stream out of pieces that were deflated before.

Real bundles are deflated at level 6, which takes minutes for a gigabyte of noise. Deflate lets a
stream be cut where the compressor was flushed in full, so a pool of deflated pieces can be put
together in ever new orders, and what comes out inflates as a stream of gzip's own does.
"""

import io
import random
import tarfile
import zlib
from array import array
from collections.abc import Sequence
from dataclasses import dataclass

from server.samples import fits

PIECE = 1 << 18
"""Bytes of a piece of noise."""

_HEAD = b"\x1f\x8b\x08\0\0\0\0\0\0\x03"
_LAST = b"\x03\0"


@dataclass(frozen=True, slots=True)
class Piece:
    """Some bytes, as they are and deflated."""

    raw: bytes
    deflated: bytes


@dataclass(frozen=True, slots=True)
class Content:
    """A member of a bundle: its base name and the pieces it consists of."""

    name: str
    pieces: Sequence[Piece]


def piece(raw: bytes) -> Piece:
    """Deflate some bytes so that they can follow, and be followed by, any others."""
    packer = zlib.compressobj(6, wbits=-15)
    return Piece(raw, packer.compress(raw) + packer.flush(zlib.Z_FULL_FLUSH))


def noise(count: int, sigma: float, seed: int) -> list[Piece]:
    """`count` pieces of 16-bit pixels of a dark sky: quantised noise of `sigma` units."""
    chance = random.Random(seed)
    pixels = array("h", (round(chance.gauss(1000, sigma)) for _ in range(1 << 20)))
    pixels.byteswap()
    sky = pixels.tobytes()
    # Cut from anywhere, and longer than deflate looks back: to gunzip it is all new.
    return [piece(_collage(sky, chance)) for _ in range(count)]


def _collage(sky: bytes, chance: random.Random) -> bytes:
    width = 4096
    starts = (2 * chance.randrange((len(sky) - width) // 2) for _ in range(PIECE // width))
    return b"".join(sky[start : start + width] for start in starts)


def image(width: int, height: int, sky: Sequence[Piece]) -> list[Piece]:
    """A FITS image with the noise of `sky`, which fills it exactly, as pieces."""
    size = 2 * width * height
    blank = fits.image(array("h", bytes(size)), width)
    header = len(blank) - (size + -size % fits.BLOCK)
    return [piece(blank[:header]), *sky, piece(blank[header + size :])]


def bundle(members: Sequence[Content]) -> bytes:
    """A gzipped tar of `./NAME` members: one gzip stream."""
    pieces = []
    size = 0
    for member in members:
        length = sum(len(one.raw) for one in member.pieces)
        header = tarfile.TarInfo(f"./{member.name}")
        header.size, header.mtime = length, 1239764531
        pieces += [piece(header.tobuf(tarfile.USTAR_FORMAT)), *member.pieces]
        pieces.append(piece(bytes(-length % tarfile.BLOCKSIZE)))
        size += tarfile.BLOCKSIZE + length + -length % tarfile.BLOCKSIZE
    end = 2 * tarfile.BLOCKSIZE
    pieces.append(piece(bytes(end + -(size + end) % tarfile.RECORDSIZE)))
    return _gzipped(pieces)


def _gzipped(pieces: Sequence[Piece]) -> bytes:
    packed = io.BytesIO()
    packed.write(_HEAD)
    crc = size = 0
    for one in pieces:
        packed.write(one.deflated)
        crc = zlib.crc32(one.raw, crc)
        size += len(one.raw)
    packed.write(_LAST + crc.to_bytes(4, "little") + (size % (1 << 32)).to_bytes(4, "little"))
    return packed.getvalue()
