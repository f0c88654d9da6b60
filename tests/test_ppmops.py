"""ppmops: detections of skycells into one table, what they become, and what is refused."""

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from astropy.io import fits as astropy_fits
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mirror.errors import IntegrityError, LocalError
from server.__main__ import main
from server.publishing.mops import Translated, translate
from server.samples import fits
from server.samples.finished import build_runs
from server.samples.fits import Card, Column, Value

EXPOSURE: Mapping[str, Value] = {
    "FPA_ID": "o4936g0234o", "MJD-OBS": 54936.25, "EXPTIME": 43.2, "FILTER": "r.00000",
    "RA": 150.0, "DEC": 2.2, "OBSCODE": "F51", "ZP": 24.5, "ZP_ERR": 0.015, "ASTRORMS": 0.1,
}  # fmt: skip

ONE: Mapping[str, float] = {
    "RA_PSF": 150.25, "DEC_PSF": 60.5, "PSF_INST_MAG": -7.25, "PSF_INST_MAG_SIG": 0.125,
    "EXT_NSIGMA": -0.5, "X_PSF_SIG": 0.25, "Y_PSF_SIG": 0.5, "PLTSCALE": 0.2, "POSANGLE": 0.0,
}  # fmt: skip
"""A detection; every number of it is exact in 32 bits but PLTSCALE."""

NAMES = [
    "RA_DEG", "RA_SIG", "DEC_DEG", "DEC_SIG", "FLUX", "FLUX_SIG", "STARPSF",
    "ANG", "ANG_SIG", "LEN", "LEN_SIG",
]  # fmt: skip

NAN = math.nan


@dataclass(frozen=True)
class Cell:
    """A skycell to be written: `table` goes into the header of the table."""

    rows: Sequence[Mapping[str, float]] = (ONE,)
    primary: Mapping[str, Value | None] = field(default_factory=dict)
    table: Mapping[str, Value] = field(default_factory=dict)
    name: str = "SkyChip.psf"
    without: tuple[str, ...] = ()

    def encode(self) -> bytes:
        """The file: after the exposure's own keywords, those of `primary` count; None removes."""
        told = {**EXPOSURE, **self.primary}
        columns = [
            Column(
                name, "D" if name in ("RA_PSF", "DEC_PSF") else "E", [r[name] for r in self.rows]
            )
            for name in ONE
            if name not in self.without
        ]
        ids = Column("IPP_IDET", "J", range(len(self.rows)))
        cards = [Card(name, value) for name, value in told.items() if value is not None]
        further = [Card(name, value) for name, value in self.table.items()]
        return fits.primary(cards) + fits.table(self.name, [ids, *columns], further)


def write(directory: Path, *cells: Cell) -> list[Path]:
    """Write skycells into files: a.cmf, b.cmf, …"""
    paths = [directory / f"{chr(97 + at)}.cmf" for at in range(len(cells))]
    for path, cell in zip(paths, cells, strict=True):
        path.write_bytes(cell.encode())
    return paths


def one_row(directory: Path, **values: float) -> dict[str, float]:
    """What a single detection becomes."""
    inputs = write(directory, Cell([{**ONE, **values}]))
    translate(inputs, directory / "out.fits", {})
    _, rows = read(directory / "out.fits")
    (row,) = rows
    return row


def read(path: Path) -> tuple[dict[str, Any], list[dict[str, float]]]:
    """Header and rows of the table; the whole file keeps to the FITS standard."""
    with astropy_fits.open(path) as hdus:
        hdus.verify("exception")
        assert [hdu.name for hdu in hdus] == ["PRIMARY", "MOPS_TRANSIENT_DETECTIONS"]
        table = hdus[1]
        assert table.columns.names == NAMES
        rows = [
            {name: float(value) for name, value in zip(NAMES, row, strict=True)}
            for row in table.data
        ]
        return dict(table.header), rows


# --- what becomes of a detection -------------------------------------------------------------


def test_values_of_a_detection(tmp_path: Path) -> None:
    row = one_row(tmp_path)
    assert (row["RA_DEG"], row["DEC_DEG"]) == (150.25, 60.5)
    assert (row["FLUX"], row["FLUX_SIG"], row["STARPSF"]) == (17.25, 0.125, -0.5)
    # A quarter of a pixel of 0.2 arcsec is 0.05 arcsec; along the sky, so nothing of cos(60.5°).
    assert row["RA_SIG"] == pytest.approx(0.05 / 3600, rel=1e-6)
    assert row["DEC_SIG"] == pytest.approx(0.1 / 3600, rel=1e-6)


def test_no_trail_is_fitted(tmp_path: Path) -> None:
    row = one_row(tmp_path)
    assert all(math.isnan(row[name]) for name in ("ANG", "ANG_SIG", "LEN", "LEN_SIG"))


@pytest.mark.parametrize(
    ("angle", "east", "north"),
    [
        (0.0, 3.0, 4.0),
        (90.0, 4.0, 3.0),
        (-90.0, 4.0, 3.0),
        (180.0, 3.0, 4.0),
        # cos² is 3/4, sin² is 1/4
        (30.0, math.sqrt(9 * 0.75 + 16 * 0.25), math.sqrt(9 * 0.25 + 16 * 0.75)),
        (45.0, math.sqrt(12.5), math.sqrt(12.5)),
    ],
    ids=["north up", "on its side", "other side", "upside down", "30 degrees", "halfway"],
)
def test_errors_turn_with_the_position_angle(
    tmp_path: Path, angle: float, east: float, north: float
) -> None:
    row = one_row(tmp_path, X_PSF_SIG=3.0, Y_PSF_SIG=4.0, PLTSCALE=0.5, POSANGLE=angle)
    assert row["RA_SIG"] == pytest.approx(east * 0.5 / 3600, rel=1e-6)
    assert row["DEC_SIG"] == pytest.approx(north * 0.5 / 3600, rel=1e-6)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("RA_PSF", NAN), ("DEC_PSF", math.inf), ("PSF_INST_MAG", NAN),
        ("PSF_INST_MAG", -math.inf),
    ],
    ids=["no right ascension", "no declination", "no magnitude", "infinitely bright"],
)  # fmt: skip
def test_detection_without_position_or_magnitude_is_left_out(
    tmp_path: Path, column: str, value: float
) -> None:
    inputs = write(tmp_path, Cell([ONE, {**ONE, column: value}, {**ONE, "RA_PSF": 151.0}]))
    done = translate(inputs, tmp_path / "out.fits", {})
    header, rows = read(tmp_path / "out.fits")
    assert done == Translated(skycells=1, detections=2, omitted=1)
    assert [row["RA_DEG"] for row in rows] == [150.25, 151.0]
    assert (header["NSKYCELL"], header["NDETECT"], header["NOMITTED"]) == (1, 3, 1)


def test_detection_whose_errors_are_unknown_stays(tmp_path: Path) -> None:
    row = one_row(tmp_path, PSF_INST_MAG_SIG=NAN, X_PSF_SIG=NAN, EXT_NSIGMA=NAN)
    assert row["FLUX"] == 17.25
    assert all(math.isnan(row[name]) for name in ("FLUX_SIG", "RA_SIG", "DEC_SIG", "STARPSF"))


MAGNITUDES = st.floats(-20, 0, width=32) | st.sampled_from([NAN, math.inf])


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(skycells=st.lists(st.lists(MAGNITUDES, max_size=6), min_size=1, max_size=4))
def test_finite_detections_of_all_skycells_in_their_order(
    tmp_path: Path, skycells: list[list[float]]
) -> None:
    cells = [Cell([{**ONE, "PSF_INST_MAG": one} for one in cell]) for cell in skycells]
    done = translate(write(tmp_path, *cells), tmp_path / "out.fits", {})
    every = [one for cell in skycells for one in cell]
    finite = [one for one in every if math.isfinite(one)]
    assert done == Translated(len(skycells), len(finite), len(every) - len(finite))
    header, rows = read(tmp_path / "out.fits")
    assert [row["FLUX"] for row in rows] == pytest.approx([one + 24.5 for one in finite], rel=1e-6)
    assert (header["NAXIS2"], header["NDETECT"]) == (len(finite), len(every))


# --- the exposure ----------------------------------------------------------------------------


def test_header_tells_of_the_exposure(tmp_path: Path) -> None:
    translate(write(tmp_path, Cell(), Cell()), tmp_path / "out.fits", {})
    header, _ = read(tmp_path / "out.fits")
    told = {name: header[name] for name in EXPOSURE}
    # Half of 43.2 seconds is a quarter of a thousandth of a day.
    assert told.pop("MJD-OBS") == pytest.approx(54936.25025, abs=1e-9)
    assert told == {name: value for name, value in EXPOSURE.items() if name != "MJD-OBS"}
    assert (header["NSKYCELL"], header["NDETECT"], header["NOMITTED"]) == (2, 2, 0)
    assert "DATE" not in header


def test_keywords_may_be_those_of_the_table(tmp_path: Path) -> None:
    nothing = dict.fromkeys(EXPOSURE, None)
    both = Cell(table={"ZP": 25.5})
    inputs = write(tmp_path, Cell(primary=nothing, table={**EXPOSURE, "ZP": 25.5}), both)
    translate(inputs, tmp_path / "out.fits", {})
    header, rows = read(tmp_path / "out.fits")
    assert header["FPA_ID"] == "o4936g0234o"
    assert (header["ZP"], [row["FLUX"] for row in rows]) == (25.5, [18.25, 18.25])


def test_what_is_told_counts_more_than_the_files(tmp_path: Path) -> None:
    cells = Cell(primary={"ZP": None, "ZP_ERR": None}), Cell(primary={"ASTRORMS": 0.9})
    inputs = map(str, write(tmp_path, *cells))
    out = str(tmp_path / "out.fits")
    told = ("--zp", "23.5", "--zp-error", "0.5", "--astrom-rms", "0.25")
    assert main(["ppmops", *told, *inputs, out]) == 0
    header, rows = read(Path(out))
    assert (header["ZP"], header["ZP_ERR"], header["ASTRORMS"]) == (23.5, 0.5, 0.25)
    assert [row["FLUX"] for row in rows] == [16.25, 16.25]


def test_code_of_digits_is_a_text(tmp_path: Path) -> None:
    translate(write(tmp_path, Cell(primary={"OBSCODE": 568})), tmp_path / "out.fits", {})
    assert read(tmp_path / "out.fits")[0]["OBSCODE"] == "568"


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("FPA_ID", "o4936g0235o"), ("MJD-OBS", 54936.25001), ("EXPTIME", 43.202),
        ("FILTER", "i.00000"), ("RA", 150.0001), ("DEC", 2.2001), ("OBSCODE", "F52"),
        ("ZP", 24.501), ("ZP_ERR", 0.016), ("ASTRORMS", 0.101),
    ],
)  # fmt: skip
def test_skycells_of_two_exposures_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], keyword: str, value: Value
) -> None:
    inputs = write(tmp_path, Cell(), Cell(), Cell(primary={keyword: value}))
    assert main(["ppmops", *map(str, inputs), str(tmp_path / "out.fits")]) == 5
    said = capsys.readouterr().err
    told = f"{keyword} is {EXPOSURE[keyword]!r} and {value!r}"
    assert said == (f"ppmops: {inputs[0]} and {inputs[2]} are not of one exposure: {told}\n")
    assert not (tmp_path / "out.fits").exists()


def test_numbers_that_differ_by_their_last_digits_are_the_same(tmp_path: Path) -> None:
    almost = {
        "MJD-OBS": 54936.2500004, "EXPTIME": 43.2004, "RA": 150.000004, "DEC": 2.200004,
        "ZP": 24.50004, "ZP_ERR": 0.01504, "ASTRORMS": 0.10004,
    }  # fmt: skip
    inputs = write(tmp_path, Cell(), Cell(primary=almost))
    translate(inputs, tmp_path / "out.fits", {})
    assert read(tmp_path / "out.fits")[0]["ZP"] == 24.5


# --- files that are not what is expected -----------------------------------------------------


REFUSED: dict[str, tuple[Cell, str]] = {
    "no table": (Cell(name="SkyChip.hdr"), "no extension SkyChip.psf; it has SkyChip.hdr"),
    "a column missing": (
        Cell(without=("POSANGLE",)),
        "table SkyChip.psf has no column POSANGLE",
    ),
    "columns missing": (
        Cell(without=("RA_PSF", "PLTSCALE")),
        "table SkyChip.psf has no column RA_PSF, PLTSCALE",
    ),
    "a keyword missing": (
        Cell(primary={"OBSCODE": None}),
        "keyword OBSCODE (observatory, code of the Minor Planet Center): a text expected,"
        " it is missing",
    ),
    "keyword is blank": (
        Cell(primary={"FPA_ID": "   "}),
        "keyword FPA_ID (name of the exposure): a text expected, not ''",
    ),
    "text for a number": (
        Cell(primary={"ZP": "24.5"}),
        "keyword ZP (zero point, mag): a number expected, not '24.5'",
    ),
    "truth for a number": (
        Cell(primary={"EXPTIME": True}),
        "keyword EXPTIME (exposure time, s): a number expected, not True",
    ),
    "number for a text": (
        Cell(primary={"FILTER": 1.5}),
        "keyword FILTER (filter): a text expected, not 1.5",
    ),
}


@pytest.mark.parametrize(("cell", "said"), REFUSED.values(), ids=REFUSED.keys())
def test_skycell_that_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], cell: Cell, said: str
) -> None:
    inputs = write(tmp_path, Cell(), cell)
    out = tmp_path / "out.fits"
    out.write_bytes(b"what was there")
    assert main(["ppmops", *map(str, inputs), str(out)]) == 5
    assert capsys.readouterr().err == f"ppmops: {inputs[1]}: {said}\n"
    assert out.read_bytes() == b"what was there"


def test_all_keywords_that_are_missing_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inputs = write(tmp_path, Cell(primary=dict.fromkeys(EXPOSURE, None)))
    assert main(["ppmops", *map(str, inputs), str(tmp_path / "o")]) == 5
    said = capsys.readouterr().err.splitlines()
    assert [line.split("keyword ")[1].split()[0] for line in said] == list(EXPOSURE)


def bad_column(form: str, width: int) -> bytes:
    """A skycell whose RA_PSF has another form."""
    return Cell().encode().replace(b"'1D      '", form.encode().ljust(width), 1)


DAMAGED: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "a FITS file expected"),
    "text": (b"o4936g0234o 150.25 2.5\n" * 99, "a FITS file expected"),
    "compressed": (b"\x1f\x8b\x08\x00" + bytes(99), "a FITS file expected"),
    "an image only": (fits.primary(), "no extension SkyChip.psf; it has none with a name"),
    "cut in its header": (Cell().encode()[:2000], "FITS"),
    "cut before the table": (Cell().encode()[:2880], "no extension SkyChip.psf"),
    "cut in the table's header": (Cell().encode()[:4000], "SkyChip.psf"),
    "cut in the table": (Cell([ONE] * 99).encode()[: 2880 * 3 + 700], "the file ends within"),
    "table is twice in it": (
        Cell().encode() + Cell().encode()[2880:],
        "more than one extension SkyChip.psf",
    ),
    "texts for numbers": (bad_column("'8A      '", 10), "column RA_PSF: a number a row expected"),
    "four numbers for one": (
        bad_column("'4I      '", 10), "column RA_PSF: a number a row expected",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("data", "said"), DAMAGED.values(), ids=DAMAGED.keys())
def test_file_that_is_no_whole_skycell(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], data: bytes, said: str
) -> None:
    path = tmp_path / "a.cmf"
    path.write_bytes(data)
    assert main(["ppmops", str(path), str(tmp_path / "out.fits")]) == 5
    errors = capsys.readouterr().err
    assert errors.startswith(f"ppmops: {path}: ")
    assert said in errors
    assert errors.count("\n") == 1
    assert list(tmp_path.iterdir()) == [path]


WHOLE = Cell([ONE] * 3).encode()


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    at=st.integers(0, len(WHOLE) - 1),
    put=st.binary(min_size=1, max_size=8),
    length=st.integers(0, len(WHOLE)) | st.just(len(WHOLE)),
)
def test_damage_is_told_or_does_no_harm(tmp_path: Path, at: int, put: bytes, length: int) -> None:
    path = tmp_path / "a.cmf"
    path.write_bytes((WHOLE[:at] + put + WHOLE[at + len(put) :])[:length])
    try:
        translate([path], tmp_path / "out.fits", {})
    except IntegrityError as error:
        assert str(path) in str(error)  # noqa: PT017
    else:
        read(tmp_path / "out.fits")


# --- the command -----------------------------------------------------------------------------


def test_command_says_what_it_wrote(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    inputs = write(tmp_path, Cell(), Cell([ONE, {**ONE, "RA_PSF": NAN}]))
    out = tmp_path / "out.fits"
    assert main(["ppmops", *map(str, inputs), str(out)]) == 0
    said = capsys.readouterr()
    left = "; left out 1 without position or magnitude"
    assert (said.out, said.err) == (f"wrote 2 detections of 2 skycells to {out}{left}\n", "")


def test_no_detections_make_an_empty_table(tmp_path: Path) -> None:
    done = translate(write(tmp_path, Cell([]), Cell([])), tmp_path / "out.fits", {})
    assert done == Translated(2, 0, 0)
    header, rows = read(tmp_path / "out.fits")
    assert (rows, header["NAXIS2"], header["NSKYCELL"]) == ([], 0, 2)


def test_same_files_same_bytes(tmp_path: Path) -> None:
    inputs = write(tmp_path, Cell([ONE] * 50), Cell())
    translate(inputs, tmp_path / "one.fits", {})
    translate(inputs, tmp_path / "other.fits", {})
    assert (tmp_path / "one.fits").read_bytes() == (tmp_path / "other.fits").read_bytes()


def test_output_is_replaced_in_one_step(tmp_path: Path) -> None:
    inputs = write(tmp_path, Cell())
    out = tmp_path / "out.fits"
    out.write_bytes(b"what was there")
    with out.open("rb") as held:
        translate(inputs, out, {})
        assert held.read() == b"what was there"
    assert len(read(out)[1]) == 1
    assert {path.name for path in tmp_path.iterdir()} == {"a.cmf", "out.fits"}


@pytest.mark.parametrize(
    "names", [["a.cmf", "a.cmf", "o"], ["a.cmf", "a.cmf"], ["a.cmf", "link", "o"]],
    ids=["two inputs", "input and output", "by a link"],
)  # fmt: skip
def test_file_given_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], names: list[str]
) -> None:
    (path,) = write(tmp_path, Cell())
    before = path.read_bytes()
    (tmp_path / "link").symlink_to(path)
    assert main(["ppmops", *(str(tmp_path / name) for name in names)]) == 3
    assert capsys.readouterr().err.endswith(f"{names[1]} is given twice\n")
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["a.cmf"], "OUTPUT"),
        (["--zp", "bright", "a.cmf", "o"], "a number expected, not bright"),
        (["--zp", "nan", "a.cmf", "o"], "a number expected, not nan"),
        (["--zp-error", "-0.1", "a.cmf", "o"], "a number from 0 expected, not -0.1"),
        (["--astrom-rms", "-1", "a.cmf", "o"], "a number from 0 expected, not -1"),
    ],
    ids=["no output", "no number", "not a number", "negative error", "negative rms"],
)
def test_usage(capsys: pytest.CaptureFixture[str], words: list[str], said: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["ppmops", *words])
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_zero_point_may_be_negative(tmp_path: Path) -> None:
    (path,) = write(tmp_path, Cell())
    assert main(["ppmops", "--zp", "-1.5", str(path), str(tmp_path / "out.fits")]) == 0
    assert read(tmp_path / "out.fits")[1][0]["FLUX"] == -8.75


@pytest.mark.parametrize("missing", ["input", "directory of the output"])
def test_file_that_is_not_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], missing: str
) -> None:
    (path,) = write(tmp_path, Cell())
    nowhere = tmp_path / "no" / "where"
    paths = [nowhere, tmp_path / "o"] if missing == "input" else [path, nowhere]
    assert main(["ppmops", *map(str, paths)]) == 2
    assert f"{nowhere.parent}" in capsys.readouterr().err


def test_disk_that_is_full_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = write(tmp_path, Cell())

    def full(number: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mirror.disk.os.write", full)
    with pytest.raises(LocalError, match="No space left"):
        translate(inputs, tmp_path / "out.fits", {})
    assert list(tmp_path.iterdir()) == inputs


def test_astropy_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (path,) = write(tmp_path, Cell())
    monkeypatch.setitem(sys.modules, "astropy.io", None)
    assert main(["ppmops", str(path), str(tmp_path / "o")]) == 3
    assert "pip install 'update-mirror[mops]'" in capsys.readouterr().err


# --- real runs -------------------------------------------------------------------------------


def test_detections_of_a_sample_run(tmp_path: Path) -> None:
    runs = build_runs(tmp_path / "r")
    inputs = sorted(path for path in runs.neb_root.rglob("*.cmf") if ".dif." in path.name)
    positive = [path for path in inputs if not path.name.endswith(".inv.cmf")]
    negative = [path for path in inputs if path.name.endswith(".inv.cmf")]
    assert translate(positive, tmp_path / "p.fits", {}) == Translated(2, 24, 2)
    assert translate(negative, tmp_path / "n.fits", {}) == Translated(2, 7, 2)
    header, rows = read(tmp_path / "p.fits")
    # The shutter opened 2009-04-15T03:02:11Z, for 45 s; that day began with MJD 54936.
    seconds = 3 * 3600 + 2 * 60 + 11 + 22.5
    assert header["MJD-OBS"] == pytest.approx(54936 + seconds / 86400, abs=1e-9)
    assert (header["FPA_ID"], header["OBSCODE"]) == ("o4936g0234o", "F51")
    found = iter(rows)
    for path in positive:
        with astropy_fits.open(path) as hdus:
            for one in hdus["SkyChip.psf"].data[:-1]:
                row = next(found)
                assert (row["RA_DEG"], row["DEC_DEG"]) == (one["RA_PSF"], one["DEC_PSF"])
                magnitude = float(one["PSF_INST_MAG"]) + header["ZP"]
                assert row["FLUX"] == pytest.approx(magnitude, rel=1e-6)
    assert next(found, None) is None
