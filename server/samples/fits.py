"""FITS files, written: an image HDU and a binary table HDU, as much as samples and catalogues need.

Follows the FITS standard 4.0: 2880-byte blocks, 80-character cards, big-endian data.
"""

import math
import sys
from array import array
from collections.abc import Sequence
from dataclasses import dataclass

BLOCK = 2880
"""Bytes in a FITS block; headers and data each fill whole blocks."""

_CARD = 80
_SIZES = {"I": 2, "J": 4, "K": 8, "E": 4, "D": 8}
_ARRAYS = {"I": "h", "J": "i", "K": "q", "E": "f", "D": "d"}
_PIXELS = {"h": 16, "H": 16, "f": -32}

Value = bool | int | float | str


@dataclass(frozen=True, slots=True)
class Card:
    """A keyword with its value and, if there is room, a comment."""

    keyword: str
    value: Value
    comment: str = ""

    def encode(self) -> bytes:
        """The 80 bytes of the card. Raises ValueError for what no card can hold."""
        if isinstance(self.value, float) and not math.isfinite(self.value):
            raise ValueError(f"{self.keyword}: a card holds no {self.value}")
        text = f"{self.keyword:<8}= {_fixed(self.value)}"
        if self.comment:
            text = f"{text} / {self.comment}"[:_CARD]
        if len(self.keyword) > 8 or len(text) > _CARD or len(_fixed(self.value)) > _CARD - 10:
            raise ValueError(f"a card of more than {_CARD} characters: {text!r}")
        return text.ljust(_CARD).encode("ascii")


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a binary table with one number a row.

    `form` is the letter of TFORM: I, J, K (16, 32, 64 bits), E or D (32, 64 bits floating).
    """

    name: str
    form: str
    values: Sequence[float]
    unit: str = ""


def primary(cards: Sequence[Card] = ()) -> bytes:
    """A primary HDU without data, for a file whose data stand in extensions."""
    return _header(
        Card("SIMPLE", True, "conforms to the FITS standard"),
        Card("BITPIX", 8, "bits per data value"),
        Card("NAXIS", 0, "no data"),
        Card("EXTEND", True, "extensions follow"),
        *cards,
    )


def image(pixels: "array[int] | array[float]", width: int, cards: Sequence[Card] = ()) -> bytes:
    """A primary HDU with an image, row after row from the bottom.

    `pixels` of typecode h (16 bits), H (16 bits unsigned, by BZERO) or f (32 bits floating).
    Raises ValueError where they do not fill rows of `width`.
    """
    height, rest = divmod(len(pixels), width)
    if rest:
        raise ValueError(f"{len(pixels)} pixels do not fill rows of {width}")
    unsigned = pixels.typecode == "H"
    scale = (Card("BZERO", 32768, "unsigned 16 bits"), Card("BSCALE", 1)) if unsigned else ()
    header = _header(
        Card("SIMPLE", True, "conforms to the FITS standard"),
        Card("BITPIX", _PIXELS[pixels.typecode], "bits per data value"),
        Card("NAXIS", 2, "number of axes"),
        Card("NAXIS1", width),
        Card("NAXIS2", height),
        *scale,
        *cards,
    )
    stored = array("h", (int(pixel) - 32768 for pixel in pixels)) if unsigned else pixels
    return header + _filled(_big_endian(stored), b"\0")


def table(name: str, columns: Sequence[Column], cards: Sequence[Card] = ()) -> bytes:
    """A binary table extension (BINTABLE) called `name`; it follows a primary HDU.

    Raises ValueError where the columns are not of one length.
    """
    width = sum(_SIZES[column.form] for column in columns)
    described: list[Card] = []
    for number, column in enumerate(columns, 1):
        described.append(Card(f"TTYPE{number}", column.name))
        described.append(Card(f"TFORM{number}", f"1{column.form}"))
        if column.unit:
            described.append(Card(f"TUNIT{number}", column.unit))
    cells = [_cells(column) for column in columns]
    rows = b"".join(b"".join(row) for row in zip(*cells, strict=True))
    header = _header(
        Card("XTENSION", "BINTABLE", "binary table extension"),
        Card("BITPIX", 8, "bytes"),
        Card("NAXIS", 2, "number of axes"),
        Card("NAXIS1", width, "bytes in a row"),
        Card("NAXIS2", len(cells[0]), "rows"),
        Card("PCOUNT", 0),
        Card("GCOUNT", 1),
        Card("TFIELDS", len(columns), "columns"),
        *described,
        Card("EXTNAME", name),
        *cards,
    )
    return header + _filled(rows, b"\0")


def _cells(column: Column) -> list[bytes]:
    """The bytes of each value of a column."""
    code, size = _ARRAYS[column.form], _SIZES[column.form]
    whole = column.form in "IJK"
    values = [int(value) if whole else value for value in column.values]
    packed = _big_endian(array(code, values))
    return [packed[at : at + size] for at in range(0, len(packed), size)]


def _big_endian(values: "array[int] | array[float]") -> bytes:
    swapped = array(values.typecode, values)
    if sys.byteorder == "little":
        swapped.byteswap()
    return swapped.tobytes()


def _header(*cards: Card) -> bytes:
    return _filled(b"".join(card.encode() for card in cards) + b"END".ljust(_CARD), b" ")


def _filled(data: bytes, filler: bytes) -> bytes:
    return data + filler * (-len(data) % BLOCK)


def _fixed(value: Value) -> str:
    """A value in the fixed format: numbers end in column 30, strings have 8 characters or more."""
    if isinstance(value, bool):
        return f"{'T' if value else 'F':>20}"
    if isinstance(value, str):
        doubled = value.replace("'", "''")
        return f"'{doubled:<8}'".ljust(20)
    return f"{value!r:>20}".upper() if isinstance(value, float) else f"{value:>20}"
