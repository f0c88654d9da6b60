"""`ppmops`: the detections of an exposure's skycells, translated for the product IPP-MOPS.

INPUT: what a diff run found, one FITS file (.cmf) a skycell, those of poor quality left out, all
of one direction. OUTPUT: the table MOPS_TRANSIENT_DETECTIONS; what stood there is replaced.

Written are RA_DEG, DEC_DEG with their errors RA_SIG, DEC_SIG (degrees on the sky), FLUX, FLUX_SIG
(magnitudes with the zero point), STARPSF, and ANG, LEN with theirs (NaN: no trail is fitted).
MJD-OBS in the output is the middle of the exposure.

The files' headers have to tell FPA_ID, MJD-OBS (when the shutter opened), EXPTIME (s), FILTER,
RA, DEC (deg), OBSCODE, ZP, ZP_ERR (mag) and ASTRORMS (arcsec); the options count more.

Exit status: 0 done; 2 usage, or this machine is in the way; 3 a file given twice, or astropy is
missing; 5 a file is not what is expected, or the files are not of one exposure.
"""

import argparse
import math
from pathlib import Path

from server.command import about, tell
from server.publishing.mops import translate

_OPTIONS = {
    "zp": ("ZP", "Z", "zero point, magnitudes"),
    "zp-error": ("ZP_ERR", "E", "its error, magnitudes"),
    "astrom-rms": ("ASTRORMS", "R", "rms of the astrometry, arcsec"),
}
"""Options, and the keywords that they stand for."""


def main(argv: list[str]) -> int:
    """Translate; returns 0, and raises what `mops.translate` raises."""
    options = vars(_parser().parse_args(argv))
    given = {
        keyword: options[name]
        for name, (keyword, _, _) in _OPTIONS.items()
        if options[name] is not None
    }
    done = translate(options["inputs"], options["output"], given)
    said = f"wrote {done.detections} detections of {done.skycells} skycells to {options['output']}"
    if done.omitted:
        said += f"; left out {done.omitted} without position or magnitude"
    tell(said)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ppmops", allow_abbrev=False, description=about(__doc__),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    for name, (keyword, value, help) in _OPTIONS.items():
        parser.add_argument(
            f"--{name}", dest=name, metavar=value, help=help,
            type=_finite if keyword == "ZP" else _error,
        )  # fmt: skip
    parser.add_argument("inputs", nargs="+", type=Path, metavar="INPUT")
    parser.add_argument("output", type=Path, metavar="OUTPUT")
    return parser


def _finite(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"a number expected, not {text}")
    return value


def _error(text: str) -> float:
    value = _finite(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"a number from 0 expected, not {text}")
    return value
