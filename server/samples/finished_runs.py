"""The stages that a sample store has no filesets of: raw, fake, warp and diff runs."""

from server.samples.documents import Field, Row, Tables, log
from server.samples.pipeline import (
    CLASSES,
    DATA_GROUP,
    TESS,
    Component,
    Exposure,
    Output,
    Run,
    Work,
    run_fields,
)
from server.samples.sample_runs import nightly, raw_work, warp_work
from server.samples.sample_sky import Cards, Sky, catalogue, detections

EXPOSURE_SECONDS = 45.0
OBSCODE = "F51"
"""The Minor Planet Center's code of Pan-STARRS 1."""

_POINTING = (150.0, 2.2)
_MJD_1970 = 40587


def raw(exposure: Exposure, sky: Sky) -> Run:
    """A raw exposure: three images as the camera left them, without config dumps."""
    work = raw_work(exposure, CLASSES[0])
    exp_row: list[Field] = [
        ("exp_id", "S64", exposure.exp_id), ("exp_name", "STR", exposure.name),
        ("camera", "STR", "GPC1"), ("telescope", "STR", "PS1"),
        ("dateobs", "UTC", exposure.dateobs), ("exp_type", "STR", "OBJECT"),
        *run_fields(work), ("filter", "STR", exposure.filter), ("obs_mode", "STR", "3PI"),
        ("comment", "STR", "a made-up patch of sky"), ("airmass", "F32", "1.12"),
        ("ra", "F64", _POINTING[0]), ("decl", "F64", _POINTING[1]),
        ("exp_time", "F32", EXPOSURE_SECONDS), ("fault", "S16", 0),
    ]  # fmt: skip
    rows = [_raw_row(exposure, class_id) for class_id in CLASSES]
    components = tuple(_raw(exposure, class_id, sky) for class_id in CLASSES)
    tables: Tables = {"rawExp": [exp_row], "rawImfile": rows}
    return Run(exposure, "raw", exposure.exp_id, exposure.name, tables, components)


def _raw_row(exposure: Exposure, class_id: str) -> Row:
    return [
        ("exp_id", "S64", exposure.exp_id), ("exp_name", "STR", exposure.name),
        ("camera", "STR", "GPC1"), ("class_id", "STR", class_id),
        ("uri", "STR", f"{raw_work(exposure, class_id).path_base}.fits"),
        ("data_state", "STR", "full"), ("filter", "STR", exposure.filter), ("fault", "S16", 0),
    ]  # fmt: skip


def _raw(exposure: Exposure, class_id: str, sky: Sky) -> Component:
    work = raw_work(exposure, class_id)
    cards = [("EXPNAME", exposure.name), ("EXTNAME", class_id.lower())]
    image = sky.raw_image(sky.stars(), cards)
    return Component(class_id, work, "", [], [Output("", f"{work.base}.fits", image)])


def fake(exposure: Exposure, sky: Sky) -> Run:
    """A fake run: what would have been found of stars that were put in."""
    work = nightly(exposure, f"fk.{exposure.fake_id}")
    run_row: list[Field] = [
        ("fake_id", "S64", exposure.fake_id), ("cam_id", "S64", exposure.cam_id),
        *run_fields(work), ("tess_id", "STR", TESS),
    ]  # fmt: skip
    rows: list[Row] = [
        [
            ("fake_id", "S64", exposure.fake_id), ("exp_id", "S64", exposure.exp_id),
            ("class_id", "STR", class_id), ("uri", "STR", "NULL"),
            ("path_base", "STR", work.path_base), ("fault", "S16", 0),
        ]
        for class_id in CLASSES
    ]  # fmt: skip
    components = tuple(_fake(exposure, work, class_id, sky) for class_id in CLASSES)
    tables: Tables = {"fakeRun": [run_row], "fakeProcessedImfile": rows}
    return Run(exposure, "fake", exposure.fake_id, exposure.name, tables, components)


def _fake(exposure: Exposure, work: Work, class_id: str, sky: Sky) -> Component:
    stars, name = sky.stars(8), f"{work.base}.{class_id}"
    outputs = (
        Output("PSPHOT.OUTPUT", f"{name}.cmf", catalogue(stars, [], class_id)),
        Output("LOG.IMFILE", f"{name}.log", log("ppSim", name, len(stars))),
    )
    camera = nightly(exposure, f"cm.{exposure.cam_id}").path_base
    return Component(class_id, work, "ppSim", [("PSPHOT.INPUT", f"{camera}.smf")], outputs)


def warp(exposure: Exposure, sky: Sky) -> Run:
    """A warp run: the exposure on two patches of sky, and on one that it hardly touches."""
    run_row: list[Field] = [
        ("warp_id", "S64", exposure.warp_id), ("fake_id", "S64", exposure.fake_id),
        ("mode", "STR", "warp"), *run_fields(warp_work(exposure, exposure.skycells[0])),
        ("tess_id", "STR", TESS), ("magicked", "S64", 0),
    ]  # fmt: skip
    covered: list[Row] = [
        [
            ("warp_id", "S64", exposure.warp_id), ("skycell_id", "STR", skycell),
            ("tess_id", "STR", TESS), ("class_id", "STR", class_id), ("fault", "S16", 0),
        ]
        for skycell, class_id in zip(exposure.skycells, CLASSES, strict=True)
    ]  # fmt: skip
    rows = [_warp_row(exposure, skycell) for skycell in exposure.skycells]
    components = tuple(_warp(exposure, skycell, sky) for skycell in exposure.skycells[:-1])
    tables: Tables = {"warpRun": [run_row], "warpSkyCellMap": covered, "warpSkyfile": rows}
    return Run(exposure, "warp", exposure.warp_id, exposure.name, tables, components)


def _warp_row(exposure: Exposure, skycell: str) -> Row:
    poor = skycell == exposure.skycells[-1]
    path_base = warp_work(exposure, skycell).path_base
    return [
        ("warp_id", "S64", exposure.warp_id), ("skycell_id", "STR", skycell),
        ("tess_id", "STR", TESS), ("data_state", "STR", "full"),
        ("uri", "STR", "NULL" if poor else f"{path_base}.fits"),
        ("path_base", "STR", "NULL" if poor else path_base),
        ("good_frac", "F32", "0.0012" if poor else "0.8150"),
        ("quality", "S16", 8007 if poor else 0), ("fault", "S16", 0),
    ]  # fmt: skip


def _warp(exposure: Exposure, skycell: str, sky: Sky) -> Component:
    work, stars = warp_work(exposure, skycell), sky.stars()
    base = work.base
    cards = [("SKYCELL", skycell), ("FILTER", exposure.filter)]
    outputs = (
        Output("PSWARP.OUTPUT", f"{base}.fits", sky.float_image(stars, cards)),
        Output("PSWARP.OUTPUT.MASK", f"{base}.mask.fits", sky.mask_image(cards)),
        Output("PSWARP.OUTPUT.VARIANCE", f"{base}.wt.fits", sky.variance_image(cards)),
        Output("PSWARP.OUTPUT.SOURCES", f"{base}.cmf", catalogue(stars, cards, "SkyChip")),
        Output("LOG.SKYCELL", f"{base}.log", log("pswarp", base, len(stars))),
    )
    chips = nightly(exposure, f"ch.{exposure.chip_id}").path_base
    inputs = [("PSWARP.INPUT", f"{chips}.{class_id}.ch.fits") for class_id in CLASSES]
    return Component(skycell, work, "pswarp", inputs, outputs)


def diff(exposure: Exposure, sky: Sky, zero_point: float) -> Run:
    """A diff run of the warps against a stack, in both directions; one patch of sky is poor.

    `zero_point`, in magnitudes, goes into the headers of what was found.
    """
    run_row: list[Field] = [
        ("diff_id", "S64", exposure.diff_id),
        *run_fields(_diff_work(exposure, exposure.skycells[0])),
        ("tess_id", "STR", TESS), ("bothways", "BOOL", "T"), ("exposure", "BOOL", "T"),
        ("magicked", "S64", 0),
    ]  # fmt: skip
    inputs: list[Row] = [
        [
            ("diff_id", "S64", exposure.diff_id), ("skycell_id", "STR", skycell),
            ("warp1", "S64", exposure.warp_id), ("stack1", "S64", "NULL"),
            ("warp2", "S64", "NULL"), ("stack2", "S64", exposure.stack_id),
            ("tess_id", "STR", TESS),
        ]
        for skycell in exposure.skycells
    ]  # fmt: skip
    rows = [_diff_row(exposure, skycell) for skycell in exposure.skycells]
    components = tuple(
        _diff(exposure, skycell, sky, zero_point) for skycell in exposure.skycells[:-1]
    )
    tables: Tables = {"diffRun": [run_row], "diffInputSkyfile": inputs, "diffSkyfile": rows}
    return Run(exposure, "diff", exposure.diff_id, exposure.name, tables, components)


def _diff_work(exposure: Exposure, skycell: str) -> Work:
    base = f"{TESS}.{skycell}.dif.{exposure.diff_id}"
    return Work("ipp009.0", f"gpc1/{DATA_GROUP}", f"{exposure.directory}/{skycell}", base)


def _diff_row(exposure: Exposure, skycell: str) -> Row:
    poor = skycell == exposure.skycells[-1]
    path_base = _diff_work(exposure, skycell).path_base
    return [
        ("diff_id", "S64", exposure.diff_id), ("skycell_id", "STR", skycell),
        ("data_state", "STR", "full"), ("uri", "STR", "NULL" if poor else f"{path_base}.fits"),
        ("path_base", "STR", "NULL" if poor else path_base), ("sources", "S32", 0 if poor else 12),
        ("quality", "S16", 8008 if poor else 0), ("fault", "S16", 0),
    ]  # fmt: skip


def _diff(exposure: Exposure, skycell: str, sky: Sky, zero_point: float) -> Component:
    work, stars = _diff_work(exposure, skycell), sky.stars(12)
    base = work.base
    cards = [("SKYCELL", skycell), *exposure_cards(exposure)]
    measured: Cards = [("ZP", zero_point), ("ZP_ERR", 0.015), ("ASTRORMS", 0.1)]
    # Nothing vanished from the second patch of sky.
    gone = sky.stars(7) if skycell == exposure.skycells[0] else []
    outputs = (
        Output("PPSUB.OUTPUT", f"{base}.fits", sky.float_image(stars, cards)),
        Output("PPSUB.OUTPUT.MASK", f"{base}.mask.fits", sky.mask_image(cards)),
        Output("PPSUB.OUTPUT.VARIANCE", f"{base}.wt.fits", sky.variance_image(cards)),
        Output("PPSUB.OUTPUT.SOURCES", f"{base}.cmf", detections(stars, sky.rng, cards, measured)),
        Output("PPSUB.INVERSE", f"{base}.inv.fits", sky.float_image(gone, cards)),
        Output(
            "PPSUB.INVERSE.SOURCES", f"{base}.inv.cmf", detections(gone, sky.rng, cards, measured)
        ),
        Output("LOG.SKYCELL", f"{base}.log", log("ppSub", base, len(stars))),
    )
    inputs = [("PPSUB.INPUT", f"{warp_work(exposure, skycell).path_base}.fits")]
    return Component(skycell, work, "ppSub", inputs, outputs)


def exposure_cards(exposure: Exposure) -> Cards:
    """The keywords that tell of the exposure: MJD-OBS is when the shutter opened."""
    return [
        ("FPA_ID", exposure.name),
        ("MJD-OBS", _MJD_1970 + exposure.opened / 86400),
        ("EXPTIME", EXPOSURE_SECONDS),
        ("FILTER", exposure.filter),
        ("RA", _POINTING[0]),
        ("DEC", _POINTING[1]),
        ("OBSCODE", OBSCODE),
    ]
