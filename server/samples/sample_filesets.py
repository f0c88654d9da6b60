"""What the filesets of a sample store hold: distributed runs, and published detections."""

from dataclasses import dataclass

from server.runs.stages import STAGES
from server.samples.documents import exported
from server.samples.pipeline import DATA_GROUP, Component, Exposure, Run, members
from server.samples.sample_sky import Sky, detection_table
from server.samples.store_writer import SampleFile, make_bundle

DEST_ID = 1

_TARGETS = {"chip": 1, "camera": 2, "stack": 3}


@dataclass(frozen=True, slots=True)
class Fileset:
    """A fileset before it is registered: `values` are those of the product's own columns."""

    name: str
    values: tuple[str | None, ...]
    files: list[SampleFile]


def distribution(run: Run, dist_id: int) -> Fileset:
    """A run as it is distributed: dbinfo, dirinfo and a bundle for each component."""
    origin = run.exp_name or f"{run.stage}.{run.stage_id}"
    parts = (run.stage, run.stage_id, dist_id, DEST_ID)
    name = ".".join(map(str, (run.exp_name, *parts) if run.exp_name else parts))
    values = (
        str(_TARGETS[run.stage]), run.stage, str(run.stage_id), origin,
        DATA_GROUP, run.exposure.filter,
    )  # fmt: skip
    documents = [
        _document(run, "dbinfo", exported(run.tables)),
        _document(run, "dirinfo", _dirinfo(run)),
    ]
    return Fileset(name, values, documents + [_bundle(run, one) for one in run.components])


def _document(run: Run, kind: str, text: str) -> SampleFile:
    name = f"{kind}.{run.stage}.{run.stage_id}.mdc"
    return SampleFile(name, text.encode(), "text", {"component": kind})


def _dirinfo(run: Run) -> str:
    places = "".join(f"\t{one.name}\tSTR\t{one.work.directory}\n" for one in run.components)
    return (
        f"destdir METADATA\n\tdestdir\tSTR\t{run.components[0].work.destdir}\nEND\n\n"
        f"components METADATA\n{places}END\n"
    )


def _bundle(run: Run, component: Component) -> SampleFile:
    base = component.work.base
    name = f"{base}.{component.name}" if STAGES[run.stage].named_bundles else base
    # An entry for the directory itself comes with one stage, as with some tools.
    data = make_bundle(dict(members(run, component)), top=run.stage == "camera")
    return SampleFile(f"{name}.tgz", data, "tgz", {"component": component.name})


def detections(exposure: Exposure, sky: Sky) -> Fileset:
    """A publication of one exposure's detections: a plain FITS table, nothing to unpack."""
    pub_id, cam_id = exposure.number(101), exposure.cam_id
    cards = [("EXPNAME", exposure.name), ("FILTER", exposure.filter)]
    data = detection_table(sky.stars(60), cards)
    file = SampleFile(f"{exposure.name}.cm.{cam_id}.mops.fits", data, "IPP-MOPS")
    values = ("nightly detections", exposure.name)
    return Fileset(f"pub.{pub_id}.camera.{cam_id}", values, [file])
