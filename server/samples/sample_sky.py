"""The sky of a sample store: stars, images of them and catalogues, as FITS files."""

import math
import random
from array import array
from collections.abc import Sequence
from dataclasses import dataclass

from server.samples import fits
from server.samples.fits import Card, Column

SIDE = 96
"""Pixels along a side of an image, if nothing else is said."""

_SKY = 600.0
_NOISE = 22.0
_REACH = 4
_SIGMA = 1.4
_ZERO_POINT = 24.5
_PIXEL_DEGREES = 0.26 / 3600

Cards = Sequence[tuple[str, fits.Value]]


@dataclass(frozen=True, slots=True)
class Star:
    """A star: position in pixels, flux in counts."""

    x: float
    y: float
    flux: float

    @property
    def magnitude(self) -> float:
        """Its magnitude."""
        return _ZERO_POINT - 2.5 * math.log10(self.flux)

    @property
    def sky(self) -> tuple[float, float]:
        """Right ascension and declination, in degrees."""
        return 150.0 + self.x * _PIXEL_DEGREES, 2.2 + self.y * _PIXEL_DEGREES


@dataclass(frozen=True, slots=True)
class Sky:
    """A piece of sky, `side` pixels wide and high; everything about it is drawn from `rng`."""

    rng: random.Random
    side: int = SIDE

    def stars(self, count: int = 16) -> list[Star]:
        """Some stars, more faint ones than bright."""
        rng, far = self.rng, self.side - 1
        return [
            Star(rng.uniform(0, far), rng.uniform(0, far), 800 * rng.paretovariate(1.2))
            for _ in range(count)
        ]

    def raw_image(self, stars: Sequence[Star], cards: Cards) -> bytes:
        """An image of the stars in unsigned counts of 16 bits."""
        counts = (min(65535, max(0, round(pixel))) for pixel in self._pixels(stars))
        return fits.image(array("H", counts), self.side, _cards(cards))

    def float_image(self, stars: Sequence[Star], cards: Cards) -> bytes:
        """An image of the stars in floating numbers, its sky subtracted."""
        pixels = array("f", (pixel - _SKY for pixel in self._pixels(stars)))
        return fits.image(pixels, self.side, _cards(cards))

    def mask_image(self, cards: Cards) -> bytes:
        """A mask of 16 bits: a few bad pixels and a bad column."""
        pixels = array("h", bytes(2 * self.side * self.side))
        bad = self.rng.randrange(self.side)
        pixels[bad :: self.side] = array("h", [1] * self.side)
        for _ in range(20):
            pixels[self.rng.randrange(len(pixels))] = 8
        return fits.image(pixels, self.side, _cards(cards))

    def variance_image(self, cards: Cards) -> bytes:
        """The variance of an image, in floating numbers."""
        pixels = array("f", [_NOISE**2 + level for level in self._noise()])
        return fits.image(pixels, self.side, _cards(cards))

    def _noise(self) -> list[float]:
        """Noise for every pixel, drawn from a few values: good enough to look at, and quick."""
        levels = [self.rng.gauss(0, _NOISE) for _ in range(256)]
        return [levels[byte] for byte in self.rng.randbytes(self.side * self.side)]

    def _pixels(self, stars: Sequence[Star]) -> list[float]:
        pixels = [_SKY + level for level in self._noise()]
        for star in stars:
            for y in self._around(star.y):
                for x in self._around(star.x):
                    far = (x - star.x) ** 2 + (y - star.y) ** 2
                    shape = math.exp(-far / (2 * _SIGMA**2)) / (2 * math.pi * _SIGMA**2)
                    pixels[y * self.side + x] += star.flux * shape
        return pixels

    def _around(self, position: float) -> range:
        middle = round(position)
        return range(max(0, middle - _REACH), min(self.side, middle + _REACH + 1))


def catalogue(stars: Sequence[Star], cards: Cards, *chips: str) -> bytes:
    """A catalogue (.cmf, .smf): a table of the stars for each chip, shared out among them."""
    tables = []
    for at, chip in enumerate(chips):
        found = stars[at :: len(chips)]
        columns = [
            Column("IPP_IDET", "J", range(len(found))),
            Column("X_PSF", "E", [star.x for star in found], "pixels"),
            Column("Y_PSF", "E", [star.y for star in found], "pixels"),
            Column("PSF_INST_MAG", "E", [star.magnitude for star in found], "mag"),
            Column("RA_PSF", "D", [star.sky[0] for star in found], "deg"),
            Column("DEC_PSF", "D", [star.sky[1] for star in found], "deg"),
            Column("FLAGS", "J", [0] * len(found)),
        ]
        tables.append(fits.table(f"{chip}.psf", columns))
    return fits.primary(_cards(cards)) + b"".join(tables)


def detections(stars: Sequence[Star], rng: random.Random, cards: Cards, further: Cards) -> bytes:
    """What was found in the difference of two images: the table `SkyChip.psf`.

    `cards` go into the primary header, `further` into the table's. After the stars comes one row
    whose magnitude could not be measured.
    """
    fluxes = [star.flux for star in stars]
    places = [star.sky for star in (*stars, Star(0.0, 0.0, 1.0))]
    rows = range(len(places))
    columns = [
        Column("IPP_IDET", "J", rows),
        Column("RA_PSF", "D", [ra for ra, _ in places], "deg"),
        Column("DEC_PSF", "D", [dec for _, dec in places], "deg"),
        Column("X_PSF_SIG", "E", [rng.uniform(0.05, 0.4) for _ in rows], "pixels"),
        Column("Y_PSF_SIG", "E", [rng.uniform(0.05, 0.4) for _ in rows], "pixels"),
        Column("POSANGLE", "E", [rng.gauss(30, 0.1) for _ in rows], "deg"),
        Column("PLTSCALE", "E", [_PIXEL_DEGREES * 3600 for _ in rows], "arcsec/pixel"),
        Column("PSF_INST_MAG", "E", [*(-2.5 * math.log10(flux) for flux in fluxes), math.nan]),
        Column("PSF_INST_MAG_SIG", "E", [*(_NOISE / flux for flux in fluxes), math.nan]),
        Column("EXT_NSIGMA", "E", [rng.gauss(0, 1) for _ in rows]),
        Column("FLAGS", "J", [0] * len(rows)),
    ]
    table = fits.table("SkyChip.psf", columns, _cards(further))
    return fits.primary(_cards(cards)) + table


def detection_table(stars: Sequence[Star], cards: Cards) -> bytes:
    """Detections as they are published for the search for moving objects."""
    columns = [
        Column("RA_DEG", "D", [star.sky[0] for star in stars], "deg"),
        Column("DEC_DEG", "D", [star.sky[1] for star in stars], "deg"),
        Column("MAG", "E", [star.magnitude for star in stars], "mag"),
        Column("MAG_SIG", "E", [_NOISE / star.flux for star in stars], "mag"),
    ]
    table = fits.table("MOPS_TRANSIENT_DETECTIONS", columns)
    return fits.primary(_cards(cards)) + table


def _cards(cards: Cards) -> list[Card]:
    return [Card(keyword, value) for keyword, value in cards]
