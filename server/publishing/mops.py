"""Detections for the search for moving objects (product IPP-MOPS): one table out of all skycells.

The table `MOPS_TRANSIENT_DETECTIONS`, a row a detection, in the order of the skycells as given:

    RA_DEG, DEC_DEG     position, degrees
    RA_SIG, DEC_SIG     their errors, degrees on the sky: the errors in pixels times the plate
                        scale, turned by the position angle. RA_SIG is measured along the sky,
                        towards the east, as the pixels are: it is not divided by cos(DEC), which
                        would be the error of the coordinate, and is without bound at the pole
    FLUX, FLUX_SIG      magnitude (PSF_INST_MAG and the zero point) and its error
    STARPSF             EXT_NSIGMA: by how many sigma it is not a star
    ANG, ANG_SIG, LEN, LEN_SIG
                        direction and length of a trail. None is fitted: NaN, as FITS has it for
                        what is not defined, because 0 with an error of 0 would be a measurement

The table's header has the exposure's keywords (`skycells.KEYWORDS`), MJD-OBS at the middle of the
exposure, and NSKYCELL, NDETECT and NOMITTED: skycells, detections in them, and those that were
left out because position or magnitude is not a number. The primary header has nothing.
"""

import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mirror.disk import replace_file
from mirror.errors import ConfigError, IntegrityError
from server.publishing.skycells import KEYWORDS, Facts, Skycell, fits_library, read_skycell

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

EXTENSION = "MOPS_TRANSIENT_DETECTIONS"

COLUMNS: Mapping[str, tuple[str, str]] = {
    "RA_DEG": ("D", "deg"), "RA_SIG": ("D", "deg"),
    "DEC_DEG": ("D", "deg"), "DEC_SIG": ("D", "deg"),
    "FLUX": ("E", "mag"), "FLUX_SIG": ("E", "mag"), "STARPSF": ("E", ""),
    "ANG": ("E", "deg"), "ANG_SIG": ("E", "deg"), "LEN": ("E", "deg"), "LEN_SIG": ("E", "deg"),
}  # fmt: skip
"""The columns of the table: form (TFORM) and unit."""

_DAY = 86400.0


@dataclass(frozen=True, slots=True)
class Translated:
    """What was written: `detections` of `skycells`, without `omitted` ones."""

    skycells: int
    detections: int
    omitted: int


def translate(inputs: Sequence[Path], output: Path, given: Mapping[str, float]) -> Translated:
    """Write the detections of all `inputs` into `output`, in one step and durably.

    `given`: values of ZP, ZP_ERR, ASTRORMS that count more than those of the files. The same
    inputs give the same bytes. Raises ConfigError where a file is given twice, what
    `read_skycell` raises, IntegrityError where two skycells are not of one exposure, LocalError
    where the output cannot be written; nothing is written then.
    """
    _check_names(inputs, output)
    first: Skycell | None = None
    tables = []
    read = 0
    for path in inputs:
        skycell = read_skycell(path, given)
        first = first or skycell
        check_same(first, skycell)
        read += len(skycell.columns["RA_PSF"])
        tables.append(convert(skycell))
    if first is None:
        raise ConfigError(["no skycell to translate"])
    kept = {name: [table[name] for table in tables] for name in COLUMNS}
    rows = sum(len(table["RA_DEG"]) for table in tables)
    counts = {"NSKYCELL": len(inputs), "NDETECT": read, "NOMITTED": read - rows}
    replace_file(output, _encode(kept, first.facts, counts))
    return Translated(len(inputs), rows, read - rows)


def _check_names(inputs: Sequence[Path], output: Path) -> None:
    seen: set[str] = set()
    problems = []
    for path in (*inputs, output):
        place = os.path.realpath(path)
        if place in seen:
            problems.append(f"{path} is given twice")
        seen.add(place)
    if problems:
        raise ConfigError(problems)


def check_same(one: Skycell, other: Skycell) -> None:
    """Raise IntegrityError, naming both, where two skycells are not of one exposure."""
    problems = [
        f"{one.path} and {other.path} are not of one exposure: {name} is {one.facts[name]!r} and"
        f" {other.facts[name]!r}"
        for name, keyword in KEYWORDS.items()
        if not _agree(one.facts[name], other.facts[name], keyword.tolerance)
    ]
    if problems:
        raise IntegrityError("\n".join(problems))


def _agree(one: str | float, other: str | float, tolerance: float | None) -> bool:
    if tolerance is None or isinstance(one, str) or isinstance(other, str):
        return one == other
    return abs(one - other) <= tolerance


def convert(skycell: Skycell) -> "dict[str, NDArray[np.float64]]":
    """The detections of a skycell as COLUMNS, without those that have no position or magnitude."""
    import numpy as np

    found = skycell.columns
    with np.errstate(all="ignore"):
        # Finite also in the 32 bits that it is written with.
        magnitude = (found["PSF_INST_MAG"] + float(skycell.facts["ZP"])).astype(np.float32)
        kept = np.isfinite(found["RA_PSF"]) & np.isfinite(found["DEC_PSF"]) & np.isfinite(magnitude)
        angle = np.radians(found["POSANGLE"])
        degrees = found["PLTSCALE"] / 3600
        x, y = found["X_PSF_SIG"] * degrees, found["Y_PSF_SIG"] * degrees
        east = np.hypot(x * np.cos(angle), y * np.sin(angle))
        north = np.hypot(x * np.sin(angle), y * np.cos(angle))
    none = np.full(len(angle), np.nan)
    columns = {
        "RA_DEG": found["RA_PSF"], "RA_SIG": east, "DEC_DEG": found["DEC_PSF"], "DEC_SIG": north,
        "FLUX": magnitude.astype(np.float64), "FLUX_SIG": found["PSF_INST_MAG_SIG"],
        "STARPSF": found["EXT_NSIGMA"],
        "ANG": none, "ANG_SIG": none, "LEN": none, "LEN_SIG": none,
    }  # fmt: skip
    return {name: values[kept] for name, values in columns.items()}


def _encode(
    tables: "Mapping[str, Sequence[NDArray[np.float64]]]", facts: Facts, counts: Mapping[str, int]
) -> bytes:
    """The FITS file; nothing in it but what it is made of, no date and no name."""
    import numpy as np

    fits = fits_library()
    with np.errstate(all="ignore"):
        columns = [
            fits.Column(name, form, unit or None, array=np.concatenate(tables[name]))
            for name, (form, unit) in COLUMNS.items()
        ]
        table = fits.BinTableHDU.from_columns(columns, name=EXTENSION)
    for name, value in facts.items():
        table.header[name] = (value, KEYWORDS[name].meaning)
    middle = float(facts["MJD-OBS"]) + float(facts["EXPTIME"]) / 2 / _DAY
    table.header["MJD-OBS"] = (middle, "middle of the exposure, MJD")
    table.header["NSKYCELL"] = (counts["NSKYCELL"], "skycells")
    table.header["NDETECT"] = (counts["NDETECT"], "detections in them")
    table.header["NOMITTED"] = (counts["NOMITTED"], "left out: position or magnitude no number")
    target = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), table]).writeto(target, output_verify="exception")
    return target.getvalue()
