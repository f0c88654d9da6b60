"""Detections in skycells, read: what a diff run found, one FITS file (.cmf) a patch of sky.

Each has the binary table `SkyChip.psf`, and the exposure's keywords in the header of that table
or, if they are not there, in the primary header. Read with astropy (extra `mops`), loaded when it
is needed.
"""

import io
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from mirror.disk import told
from mirror.errors import ConfigError, IntegrityError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

EXTENSION = "SkyChip.psf"

COLUMNS = (
    "RA_PSF", "DEC_PSF", "PSF_INST_MAG", "PSF_INST_MAG_SIG", "EXT_NSIGMA",
    "X_PSF_SIG", "Y_PSF_SIG", "PLTSCALE", "POSANGLE",
)  # fmt: skip
"""What is read of a detection: degrees, magnitudes, pixels, arcsec/pixel, degrees."""

_MAGIC = b"SIMPLE  ="


@dataclass(frozen=True, slots=True)
class Keyword:
    """A keyword of the exposure. `tolerance`: by how much two skycells may differ in a number, in
    its own unit; None for a text, which must be the same."""

    meaning: str
    tolerance: float | None = None


KEYWORDS: Mapping[str, Keyword] = {
    "FPA_ID": Keyword("name of the exposure"),
    "MJD-OBS": Keyword("when the shutter opened, MJD", 1e-6),
    "EXPTIME": Keyword("exposure time, s", 1e-3),
    "FILTER": Keyword("filter"),
    "RA": Keyword("right ascension of the boresight, deg", 1e-5),
    "DEC": Keyword("declination of the boresight, deg", 1e-5),
    "OBSCODE": Keyword("observatory, code of the Minor Planet Center"),
    "ZP": Keyword("zero point, mag", 1e-4),
    "ZP_ERR": Keyword("its error, mag", 1e-4),
    "ASTRORMS": Keyword("rms of the astrometry, arcsec", 1e-4),
}
"""What a skycell tells of its exposure, in the order of the output."""

Facts = Mapping[str, str | float]
"""The values of KEYWORDS."""


@dataclass(frozen=True, slots=True)
class Skycell:
    """The detections of a skycell: `columns` has an array for each of COLUMNS."""

    path: Path
    facts: Facts
    columns: "Mapping[str, NDArray[np.float64]]"


def fits_library() -> ModuleType:
    """astropy.io.fits. Raises ConfigError where it is not installed."""
    try:
        from astropy.io import fits
    except ImportError:
        raise ConfigError(
            ["ppmops reads and writes FITS tables: needs: pip install 'update-mirror[mops]'"]
        ) from None
    module: ModuleType = fits
    return module


def read_skycell(path: Path, given: Mapping[str, float]) -> Skycell:
    """The detections of a file and what it tells of its exposure.

    `given`: values of keywords that are not looked for in the file. Raises LocalError where it
    cannot be read, IntegrityError, which names file and what is missing or wrong, where it is no
    whole FITS file with the table, the columns and the keywords.
    """
    fits = fits_library()
    with told(path):
        data = path.read_bytes()
    if not data.startswith(_MAGIC):
        raise IntegrityError(f"{path}: a FITS file expected, which begins with SIMPLE")
    with warnings.catch_warnings():
        # Of what astropy only warns, a file that ends too early is an error here; the rest is
        # the way in which pipelines write.
        warnings.simplefilter("ignore")
        try:
            with fits.open(io.BytesIO(data), memmap=False) as hdus:
                return _skycell(path, hdus, len(data), given)
        except IntegrityError:
            raise
        except Exception as error:
            # A damaged header leads astropy into errors of every kind.
            said = " ".join(str(error).split()) or type(error).__name__
            raise IntegrityError(f"{path}: a damaged FITS file: {said}") from None


def _skycell(path: Path, hdus: Any, size: int, given: Mapping[str, float]) -> Skycell:
    table = _table(path, hdus)
    if table.fileinfo()["datLoc"] + table.size > size:
        raise IntegrityError(f"{path}: the file ends within the table {EXTENSION}")
    return Skycell(path, _facts(path, (table.header, hdus[0].header), given), _columns(path, table))


def _table(path: Path, hdus: Any) -> Any:
    names = [str(hdu.header.get("EXTNAME", "")).strip() for hdu in hdus]
    found = [at for at, name in enumerate(names) if name.upper() == EXTENSION.upper()]
    if len(found) != 1:
        has = ", ".join(name for name in names if name) or "none with a name"
        wrong = "more than one" if found else "no"
        raise IntegrityError(f"{path}: {wrong} extension {EXTENSION}; it has {has}")
    table = hdus[found[0]]
    if table.header.get("XTENSION") != "BINTABLE":
        raise IntegrityError(f"{path}: extension {EXTENSION}: a binary table expected")
    return table


def _columns(path: Path, table: Any) -> "dict[str, NDArray[np.float64]]":
    import numpy as np

    named = {name.upper(): name for name in table.columns.names}
    missing = [name for name in COLUMNS if name not in named]
    if missing:
        raise IntegrityError(f"{path}: table {EXTENSION} has no column {', '.join(missing)}")
    columns = {}
    for name in COLUMNS:
        values = np.asarray(table.data.field(named[name]))
        if values.ndim != 1 or values.dtype.kind not in "fiu":
            raise IntegrityError(
                f"{path}: table {EXTENSION}, column {name}: a number a row expected, not"
                f" {table.columns[named[name]].format}"
            )
        columns[name] = values.astype(np.float64)
    return columns


def _facts(path: Path, headers: Sequence[Any], given: Mapping[str, float]) -> Facts:
    """What the headers tell, the first one first. Raises IntegrityError for all that is wrong."""
    facts: dict[str, str | float] = {}
    problems = []
    for name, keyword in KEYWORDS.items():
        if name in given:
            facts[name] = given[name]
            continue
        value = next((header[name] for header in headers if name in header), None)
        fact = _text(value) if keyword.tolerance is None else _number(value)
        if fact is None:
            came = "it is missing" if value is None else f"not {value!r}"
            kind = "a text" if keyword.tolerance is None else "a number"
            problems.append(f"{path}: keyword {name} ({keyword.meaning}): {kind} expected, {came}")
        else:
            facts[name] = fact
    if problems:
        raise IntegrityError("\n".join(problems))
    return facts


def _text(value: object) -> str | None:
    # Codes of observatories may have digits only, and stand in a header as a number.
    if not isinstance(value, str | int) or isinstance(value, bool):
        return None
    text = str(value).strip()
    return text if text and text.isascii() and text.isprintable() else None


def _number(value: object) -> float | None:
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        return None
    return float(value)
