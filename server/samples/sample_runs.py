"""What the filesets of a sample store hold: runs of the pipeline with their rows, dumps and data.

Names, directories and documents follow PROTOCOL section 3; the sky in the images is made up.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from server.samples.sample_sky import (
    catalogue,
    detection_table,
    draw_stars,
    float_image,
    mask_image,
    raw_image,
    variance_image,
)
from server.samples.store_writer import SampleFile, compress, make_bundle

CLASSES = ("XY01", "XY02", "XY10")
"""The chips of a sample exposure that have files."""

POOR_CLASS = "XY33"
"""A chip of too poor a quality to have any: a row in dbinfo, and no bundle."""

FILTERS = ("g.00000", "r.00000", "i.00000", "z.00000", "y.00000")
DATA_GROUP = "sample.20090415"
DEST_ID = 1

_TESS = "RINGS.V3"

Field = tuple[str, str, object]
Paths = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Fileset:
    """A fileset before it is registered: `values` are those of the product's own columns."""

    name: str
    values: tuple[str | None, ...]
    files: list[SampleFile]


@dataclass(frozen=True, slots=True)
class Exposure:
    """The exposure that a cycle of the sequence is about, and the numbers that follow from it."""

    cycle: int
    dist_id: int

    @property
    def name(self) -> str:
        """As the camera names it: its night (MJD without its first digit) and number."""
        night, number = divmod(self.cycle + 234, 10_000)
        return f"o{4936 + night}g{number:04d}o"

    @property
    def filter(self) -> str:
        """The filter of the exposure."""
        return FILTERS[self.cycle % len(FILTERS)]

    def number(self, first: int) -> int:
        """An id that counts up with the exposures."""
        return first + self.cycle


@dataclass(frozen=True, slots=True)
class _Run:
    """A run of one stage: where it worked and under which names its files go out."""

    exposure: Exposure
    stage: str
    stage_id: int
    target_id: int
    volume: str
    destdir: str
    directory: str
    base: str

    @property
    def workdir(self) -> str:
        return f"neb://{self.volume}/{self.destdir}"

    @property
    def path_base(self) -> str:
        return f"{self.workdir}/{self.directory}/{self.base}"

    def fileset(self, exp_name: str | None, files: list[SampleFile]) -> Fileset:
        origin = exp_name or f"{self.stage}.{self.stage_id}"
        parts = (self.stage, self.stage_id, self.exposure.dist_id, DEST_ID)
        name = ".".join(map(str, (exp_name, *parts) if exp_name else parts))
        values = (
            str(self.target_id), self.stage, str(self.stage_id), origin,
            DATA_GROUP, self.exposure.filter,
        )  # fmt: skip
        return Fileset(name, values, files)

    def documents(self, tables: str, components: Sequence[str]) -> list[SampleFile]:
        """Dbinfo and dirinfo."""
        version = _table("dbversion", [[("schema_version", "STR", "1.1.53")]])
        places = "".join(f"\t{component}\tSTR\t{self.directory}\n" for component in components)
        dirinfo = (
            f"destdir METADATA\n\tdestdir\tSTR\t{self.destdir}\nEND\n\n"
            f"components METADATA\n{places}END\n"
        )
        return [
            self._document("dbinfo", version + tables),
            self._document("dirinfo", dirinfo),
        ]

    def _document(self, kind: str, text: str) -> SampleFile:
        name = f"{kind}.{self.stage}.{self.stage_id}.mdc"
        return SampleFile(name, text.encode(), "text", {"component": kind})

    def bundle(self, component: str, members: Mapping[str, bytes], *, top: bool) -> SampleFile:
        named = component in CLASSES or component == "exposure"
        name = f"{self.base}.{component}.tgz" if named else f"{self.base}.tgz"
        return SampleFile(name, make_bundle(members, top=top), "tgz", {"component": component})


def chip(exposure: Exposure, rng: random.Random) -> Fileset:
    """A chip run: three chips with a bundle each, the dump of one gzipped despite its name."""
    exp_id, chip_id = exposure.number(68114), exposure.number(14517)
    directory = f"{exposure.name}.{exp_id}"
    run = _Run(
        exposure, "chip", chip_id, 1, "ipp009.0", f"gpc1/{DATA_GROUP}",
        directory, f"{directory}.ch.{chip_id}",
    )  # fmt: skip
    run_row: list[Field] = [
        ("chip_id", "S64", chip_id), ("exp_id", "S64", exp_id), ("state", "STR", "full"),
        ("workdir", "STR", run.workdir), ("workdir_state", "STR", "NULL"),
        ("label", "STR", "sample.nightly"), ("data_group", "STR", DATA_GROUP),
        ("reduction", "STR", "DEFAULT"), ("expgroup", "STR", "NULL"),
        ("dvodb", "STR", "NULL"), ("tess_id", "STR", _TESS), ("end_stage", "STR", "warp"),
        ("magicked", "S64", 0),
    ]  # fmt: skip
    rows = [_chip_row(run, exp_id, class_id, rng) for class_id in (*CLASSES, POOR_CLASS)]
    tables = _table("chipRun", [run_row]) + _table("chipProcessedImfile", rows)
    files = run.documents(tables, CLASSES)
    for class_id in CLASSES:
        packed = exposure.cycle == 0 and class_id == "XY02"
        files.append(run.bundle(class_id, _chip_members(run, class_id, rng, packed), top=False))
    return run.fileset(exposure.name, files)


def _chip_row(run: _Run, exp_id: int, class_id: str, rng: random.Random) -> list[Field]:
    poor = class_id == POOR_CLASS
    return [
        ("chip_id", "S64", run.stage_id), ("exp_id", "S64", exp_id),
        ("class_id", "STR", class_id), ("data_state", "STR", "full"),
        ("uri", "STR", "NULL" if poor else f"{run.path_base}.{class_id}.ch.fits"),
        ("path_base", "STR", "NULL" if poor else run.path_base),
        ("bg", "F64", f"{rng.uniform(400, 900):.6f}"),
        ("bg_stdev", "F64", f"{rng.uniform(15, 30):.6f}"),
        ("quality", "S16", 8006 if poor else 0), ("fault", "S16", 0),
        ("hostname", "STR", f"ipp{rng.randrange(4, 40):03d}"),
    ]  # fmt: skip


def _chip_members(run: _Run, class_id: str, rng: random.Random, packed: bool) -> dict[str, bytes]:
    stars = draw_stars(rng)
    cards = [("EXPNAME", run.exposure.name), ("CHIPNAME", class_id)]
    cards.append(("FILTER", run.exposure.filter))
    image = raw_image(stars, rng, cards)
    name = f"{run.base}.{class_id}"
    members = {
        f"{name}.ch.fits": image,
        f"{name}.ch.mk.fits": mask_image(rng, cards),
        f"{name}.ch.wt.fits": variance_image(rng, cards),
        f"{name}.cmf": catalogue(stars, cards, class_id),
        f"{name}.log": _log("ppImage", name, len(stars)),
    }
    rules = ("PPIMAGE.CHIP", "PPIMAGE.CHIP.MASK", "PPIMAGE.CHIP.VARIANCE", "PSPHOT.OUTPUT")
    raw = f"gpc1/20090415/{run.exposure.name}"
    ota = f"{run.exposure.name}.ota{class_id[2:]}.fits"
    inputs = [
        ("PPIMAGE.INPUT", f"neb://ipp014.0/{raw}/{ota}"),
        ("PPIMAGE.MASK", f"path://GPC1.DETRENDS/mask/mask.{class_id}.fits"),
        ("PPIMAGE.DARK", f"file://data/ipp005.0/detrends/dark/dark.{class_id}.fits"),
        ("PPIMAGE.FLAT", f"/data/ipp006.0/detrends/flat/flat.{class_id}.fits"),
    ]
    dump = _dump(run, "ppImage", inputs, _outputs(run, members, (*rules, "LOG.IMFILE")))
    members[f"{name}.mdc"] = compress(dump) if packed else dump
    return members


def camera(exposure: Exposure, rng: random.Random) -> Fileset:
    """A camera run: one bundle with the catalogue of the whole exposure."""
    exp_id, cam_id = exposure.number(68114), exposure.number(9120)
    directory = f"{exposure.name}.{exp_id}"
    run = _Run(
        exposure, "camera", cam_id, 2, "ipp009.0", f"gpc1/{DATA_GROUP}",
        directory, f"{directory}.cm.{cam_id}",
    )  # fmt: skip
    run_row: list[Field] = [
        ("cam_id", "S64", cam_id), ("chip_id", "S64", exposure.number(14517)),
        ("state", "STR", "full"), ("workdir", "STR", run.workdir),
        ("label", "STR", "sample.nightly"), ("data_group", "STR", DATA_GROUP),
        ("tess_id", "STR", f"neb://ipp004.0/tess/{_TESS}"), ("dvodb", "STR", "NULL"),
    ]  # fmt: skip
    row: list[Field] = [
        ("cam_id", "S64", cam_id), ("uri", "STR", "NULL"), ("path_base", "STR", run.path_base),
        ("n_stars", "S32", 48), ("zpt_obs", "F32", f"{rng.gauss(24.5, 0.05):.4f}"),
        ("quality", "S16", 0), ("fault", "S16", 0),
    ]  # fmt: skip
    tables = _table("camRun", [run_row]) + _table("camProcessedExp", [row])
    members = _camera_members(run, exp_id, rng)
    files = run.documents(tables, ["exposure"])
    files.append(run.bundle("exposure", members, top=True))
    return run.fileset(exposure.name, files)


def _camera_members(run: _Run, exp_id: int, rng: random.Random) -> dict[str, bytes]:
    stars = draw_stars(rng, 48)
    cards = [("EXPNAME", run.exposure.name), ("FILTER", run.exposure.filter)]
    members = {
        f"{run.base}.smf": catalogue(stars, cards, *CLASSES),
        f"{run.base}.log": _log("psastro", run.base, len(stars)),
    }
    chip_base = f"{run.directory}/{run.exposure.name}.{exp_id}.ch.{run.exposure.number(14517)}"
    inputs = [
        ("PSASTRO.INPUT", f"{run.workdir}/{chip_base}.{class_id}.cmf") for class_id in CLASSES
    ]
    outputs = _outputs(run, members, ("PSASTRO.OUTPUT", "LOG.EXP"))
    members[f"{run.base}.mdc"] = _dump(run, "psastro", inputs, outputs)
    return members


def stack(exposure: Exposure, rng: random.Random) -> Fileset:
    """A stack of one patch of sky: one bundle, named by its path_base alone."""
    stack_id, skycell = exposure.number(421), f"skycell.1566.{exposure.cycle % 100:03d}"
    run = _Run(
        exposure, "stack", stack_id, 3, "ipp010.0", "gpc1/sample.stacks",
        f"{_TESS}/{skycell}", f"{_TESS}.{skycell}.stk.{stack_id}",
    )  # fmt: skip
    run_row: list[Field] = [
        ("stack_id", "S64", stack_id), ("state", "STR", "full"), ("workdir", "STR", run.workdir),
        ("label", "STR", "sample.stack"), ("data_group", "STR", DATA_GROUP),
        ("skycell_id", "STR", skycell), ("tess_id", "STR", f"/data/ipp004.0/tess/{_TESS}"),
        ("filter", "STR", exposure.filter),
    ]  # fmt: skip
    inputs: list[list[Field]] = [
        [("stack_id", "S64", stack_id), ("warp_id", "S64", exposure.number(7040) + at)]
        for at in range(3)
    ]
    row: list[Field] = [
        ("stack_id", "S64", stack_id), ("uri", "STR", f"{run.path_base}.unconv.fits"),
        ("path_base", "STR", run.path_base), ("good_frac", "F32", f"{rng.uniform(0.8, 1):.4f}"),
        ("quality", "S16", 0), ("fault", "S16", 0),
    ]  # fmt: skip
    tables = _table("stackRun", [run_row]) + _table("stackInputSkyfile", inputs)
    files = run.documents(tables + _table("stackSumSkyfile", [row]), [skycell])
    files.append(run.bundle(skycell, _stack_members(run, skycell, rng), top=False))
    return run.fileset(None, files)


def _stack_members(run: _Run, skycell: str, rng: random.Random) -> dict[str, bytes]:
    stars = draw_stars(rng, 30)
    cards = [("SKYCELL", skycell), ("FILTER", run.exposure.filter)]
    members = {
        f"{run.base}.unconv.fits": float_image(stars, rng, cards),
        f"{run.base}.unconv.mask.fits": mask_image(rng, cards),
        f"{run.base}.unconv.wt.fits": variance_image(rng, cards),
        f"{run.base}.cmf": catalogue(stars, cards, "SkyChip"),
        f"{run.base}.log": _log("ppStack", run.base, len(stars)),
    }
    rules = ("PPSTACK.UNCONV", "PPSTACK.UNCONV.MASK", "PPSTACK.UNCONV.VARIANCE", "PSPHOT.OUTPUT")
    warps = [
        ("PPSTACK.INPUT", f"neb://ipp011.0/gpc1/sample.warps/{skycell}/{name}.wrp.fits")
        for name in (run.exposure.name, "o4935g0102o", "o4935g0117o")
    ]
    dump = _dump(run, "ppStack", warps, _outputs(run, members, (*rules, "LOG.SKYCELL")))
    members[f"{run.base}.mdc"] = dump
    return members


def detections(exposure: Exposure, rng: random.Random) -> Fileset:
    """A publication of one exposure's detections: a plain FITS table, nothing to unpack."""
    pub_id, cam_id = exposure.number(101), exposure.number(9120)
    cards = [("EXPNAME", exposure.name), ("FILTER", exposure.filter)]
    data = detection_table(draw_stars(rng, 60), cards)
    file = SampleFile(f"{exposure.name}.cm.{cam_id}.mops.fits", data, "IPP-MOPS")
    values = ("nightly detections", exposure.name)
    return Fileset(f"pub.{pub_id}.camera.{cam_id}", values, [file])


def _table(name: str, rows: Sequence[Sequence[Field]]) -> str:
    """Rows of a database table as an mdc document has them (PROTOCOL section 5)."""
    blocks = "".join(f"{name} METADATA\n{_fields(row)}END\n\n" for row in rows)
    return f"{name} MULTI\n\n{blocks}"


def _fields(row: Sequence[Field]) -> str:
    return "".join(f"   {name:<16} {kind:<7} {value}\n" for name, kind, value in row)


def _outputs(run: _Run, members: Mapping[str, bytes], rules: Sequence[str]) -> Paths:
    """Rule and path of each member, in the order of the members."""
    place = run.path_base.rpartition("/")[0]
    return [(rule, f"{place}/{name}") for rule, name in zip(rules, members, strict=True)]


def _dump(run: _Run, program: str, inputs: Paths, outputs: Paths) -> bytes:
    """The configuration a program ran with; of its paths, only the two FILES blocks are ours."""
    recipe: list[Field] = [
        ("REFERENCE", "STR", "neb://ipp004.0/catalogs/synth.grizy  # not a file of this run"),
        ("NSIGMA", "F32", "5.0"), ("SAVE.LOG", "BOOL", "T"),
    ]  # fmt: skip
    text = (
        f"# {program} for {run.stage} {run.stage_id}\n"
        f"CAMERA           STR     gpc1\n"
        f"RECIPE METADATA\n{_fields(recipe)}END\n\n"
        f"FILES.INPUT METADATA\n{_paths(inputs)}END\n\n"
        f"FILES.OUTPUT METADATA\n{_paths(outputs)}END\n"
    )
    return text.encode()


def _paths(paths: Paths) -> str:
    rules = [rule for rule, _ in paths]
    repeated = "".join(
        f"   {rule} MULTI\n" for rule in dict.fromkeys(rules) if rules.count(rule) > 1
    )
    return repeated + _fields([(rule, "STR", path) for rule, path in paths])


def _log(program: str, name: str, count: int) -> bytes:
    return f"{program}: begins with {name}\n{program}: {count} stars measured\n".encode()
