"""Runs of the pipeline with their rows and files: chip, camera and stack; the sky is made up."""

from collections.abc import Sequence

from server.samples.documents import Field, Tables, log
from server.samples.pipeline import (
    CLASSES,
    DATA_GROUP,
    NIGHT,
    POOR_CLASS,
    TESS,
    Component,
    Exposure,
    Output,
    Run,
    Work,
    run_fields,
)
from server.samples.sample_sky import Sky, catalogue


def nightly(exposure: Exposure, kind: str) -> Work:
    """Where a program works that treats the exposure as a whole; `kind` ends its path_base."""
    directory = exposure.directory
    return Work("ipp009.0", f"gpc1/{DATA_GROUP}", directory, f"{directory}.{kind}")


def chip(exposure: Exposure, sky: Sky) -> Run:
    """A chip run: three chips, the dump of one gzipped despite its name; and a poor one."""
    work = nightly(exposure, f"ch.{exposure.chip_id}")
    run_row: list[Field] = [
        ("chip_id", "S64", exposure.chip_id), ("exp_id", "S64", exposure.exp_id),
        *run_fields(work), ("workdir_state", "STR", "NULL"),
        ("reduction", "STR", "DEFAULT"), ("expgroup", "STR", "NULL"),
        ("dvodb", "STR", "NULL"), ("tess_id", "STR", TESS), ("end_stage", "STR", "warp"),
        ("magicked", "S64", 0),
    ]  # fmt: skip
    rows = [_chip_row(exposure, work, class_id, sky) for class_id in (*CLASSES, POOR_CLASS)]
    tables: Tables = {"chipRun": [run_row], "chipProcessedImfile": rows}
    components = tuple(_chip(exposure, work, class_id, sky) for class_id in CLASSES)
    return Run(exposure, "chip", exposure.chip_id, exposure.name, tables, components)


def _chip_row(exposure: Exposure, work: Work, class_id: str, sky: Sky) -> list[Field]:
    poor = class_id == POOR_CLASS
    return [
        ("chip_id", "S64", exposure.chip_id), ("exp_id", "S64", exposure.exp_id),
        ("class_id", "STR", class_id), ("data_state", "STR", "full"),
        ("uri", "STR", "NULL" if poor else f"{work.path_base}.{class_id}.ch.fits"),
        ("path_base", "STR", "NULL" if poor else work.path_base),
        ("bg", "F64", f"{sky.rng.uniform(400, 900):.6f}"),
        ("bg_stdev", "F64", f"{sky.rng.uniform(15, 30):.6f}"),
        ("quality", "S16", 8006 if poor else 0), ("fault", "S16", 0),
        ("hostname", "STR", f"ipp{sky.rng.randrange(4, 40):03d}"),
    ]  # fmt: skip


def _chip(exposure: Exposure, work: Work, class_id: str, sky: Sky) -> Component:
    stars = sky.stars()
    cards = [("EXPNAME", exposure.name), ("CHIPNAME", class_id), ("FILTER", exposure.filter)]
    name = f"{work.base}.{class_id}"
    outputs = (
        Output("PPIMAGE.CHIP", f"{name}.ch.fits", sky.raw_image(stars, cards)),
        Output("PPIMAGE.CHIP.MASK", f"{name}.ch.mk.fits", sky.mask_image(cards)),
        Output("PPIMAGE.CHIP.VARIANCE", f"{name}.ch.wt.fits", sky.variance_image(cards)),
        Output("PSPHOT.OUTPUT", f"{name}.cmf", catalogue(stars, cards, class_id)),
        Output("LOG.IMFILE", f"{name}.log", log("ppImage", name, len(stars))),
    )
    inputs = [
        ("PPIMAGE.INPUT", raw_uri(exposure, class_id)),
        ("PPIMAGE.MASK", f"path://GPC1.DETRENDS/mask/mask.{class_id}.fits"),
        ("PPIMAGE.DARK", f"file://data/ipp005.0/detrends/dark/dark.{class_id}.fits"),
        ("PPIMAGE.FLAT", f"/data/ipp006.0/detrends/flat/flat.{class_id}.fits"),
    ]
    packed = exposure.cycle == 0 and class_id == "XY02"
    return Component(class_id, work, "ppImage", inputs, outputs, packed)


def raw_work(exposure: Exposure, class_id: str) -> Work:
    """Where a raw image is."""
    base = f"{exposure.name}.ota{class_id[2:]}"
    return Work("ipp014.0", f"gpc1/{NIGHT}", exposure.name, base)


def raw_uri(exposure: Exposure, class_id: str) -> str:
    """The path of a raw image."""
    return f"{raw_work(exposure, class_id).path_base}.fits"


def camera(exposure: Exposure, sky: Sky) -> Run:
    """A camera run: one component with the catalogue of the whole exposure."""
    work = nightly(exposure, f"cm.{exposure.cam_id}")
    run_row: list[Field] = [
        ("cam_id", "S64", exposure.cam_id), ("chip_id", "S64", exposure.chip_id),
        *run_fields(work),
        ("tess_id", "STR", f"neb://ipp004.0/tess/{TESS}"), ("dvodb", "STR", "NULL"),
    ]  # fmt: skip
    row: list[Field] = [
        ("cam_id", "S64", exposure.cam_id), ("uri", "STR", "NULL"),
        ("path_base", "STR", work.path_base), ("n_stars", "S32", 48),
        ("zpt_obs", "F32", f"{sky.rng.gauss(24.5, 0.05):.4f}"), ("zpt_stdev", "F32", "0.0150"),
        ("sigma_ra", "F32", "0.0600"), ("sigma_dec", "F32", "0.0800"),
        ("quality", "S16", 0), ("fault", "S16", 0),
    ]  # fmt: skip
    tables: Tables = {"camRun": [run_row], "camProcessedExp": [row]}
    component = _camera(exposure, work, sky)
    return Run(exposure, "camera", exposure.cam_id, exposure.name, tables, (component,))


def _camera(exposure: Exposure, work: Work, sky: Sky) -> Component:
    stars = sky.stars(48)
    cards = [("EXPNAME", exposure.name), ("FILTER", exposure.filter)]
    outputs = (
        Output("PSASTRO.OUTPUT", f"{work.base}.smf", catalogue(stars, cards, *CLASSES)),
        Output("LOG.EXP", f"{work.base}.log", log("psastro", work.base, len(stars))),
    )
    chips = nightly(exposure, f"ch.{exposure.chip_id}").path_base
    inputs = [("PSASTRO.INPUT", f"{chips}.{class_id}.cmf") for class_id in CLASSES]
    return Component("exposure", work, "psastro", inputs, outputs)


def stack(exposure: Exposure, sky: Sky, inputs: Sequence[Exposure] = ()) -> Run:
    """A stack of one patch of sky, out of the warps of `inputs` (default: of three exposures)."""
    stack_id, skycell = exposure.stack_id, exposure.skycells[0]
    base = f"{TESS}.{skycell}.stk.{stack_id}"
    work = Work("ipp010.0", "gpc1/sample.stacks", f"{TESS}/{skycell}", base)
    run_row: list[Field] = [
        ("stack_id", "S64", stack_id), *run_fields(work),
        ("skycell_id", "STR", skycell), ("tess_id", "STR", f"/data/ipp004.0/tess/{TESS}"),
        ("filter", "STR", exposure.filter),
    ]  # fmt: skip
    warped = inputs or [Exposure(exposure.cycle + at) for at in range(3)]
    warps: list[list[Field]] = [
        [("stack_id", "S64", stack_id), ("warp_id", "S64", one.warp_id)] for one in warped
    ]
    row: list[Field] = [
        ("stack_id", "S64", stack_id), ("uri", "STR", f"{work.path_base}.unconv.fits"),
        ("path_base", "STR", work.path_base),
        ("good_frac", "F32", f"{sky.rng.uniform(0.8, 1):.4f}"),
        ("quality", "S16", 0), ("fault", "S16", 0),
    ]  # fmt: skip
    tables: Tables = {"stackRun": [run_row], "stackInputSkyfile": warps, "stackSumSkyfile": [row]}
    component = _stack(exposure, work, skycell, sky, warped)
    return Run(exposure, "stack", stack_id, None, tables, (component,))


def _stack(
    exposure: Exposure, work: Work, skycell: str, sky: Sky, warped: Sequence[Exposure]
) -> Component:
    stars, base = sky.stars(30), work.base
    cards = [("SKYCELL", skycell), ("FILTER", exposure.filter)]
    outputs = (
        Output("PPSTACK.UNCONV", f"{base}.unconv.fits", sky.float_image(stars, cards)),
        Output("PPSTACK.UNCONV.MASK", f"{base}.unconv.mask.fits", sky.mask_image(cards)),
        Output("PPSTACK.UNCONV.VARIANCE", f"{base}.unconv.wt.fits", sky.variance_image(cards)),
        Output("PSPHOT.OUTPUT", f"{base}.cmf", catalogue(stars, cards, "SkyChip")),
        Output("LOG.SKYCELL", f"{base}.log", log("ppStack", base, len(stars))),
    )
    inputs = [("PPSTACK.INPUT", warp_work(one, skycell).path_base + ".fits") for one in warped]
    return Component(skycell, work, "ppStack", inputs, outputs)


def warp_work(exposure: Exposure, skycell: str) -> Work:
    """Where a warp of the exposure onto a patch of sky is."""
    base = f"{exposure.directory}.wrp.{exposure.warp_id}.{skycell}"
    return Work("ipp011.0", f"gpc1/{DATA_GROUP}", exposure.directory, base)
