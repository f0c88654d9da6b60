"""Finished runs, as a pipeline leaves them: files, config dumps, and the runs as exported.

What the distribution and the publishing of a site begin with, in small, for the same seed the
same (PROTOCOL section 3).
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mirror.disk import told
from mirror.errors import ConfigError
from server.samples import finished_runs, sample_runs
from server.samples.documents import Paths, exported
from server.samples.pipeline import SEED, Component, Exposure, Run, members
from server.samples.sample_sky import Sky

SIDE = 48
"""Pixels along a side of the images: an exposure with all its runs is half a megabyte."""

STAGES = ("raw", "chip", "camera", "fake", "warp", "stack", "diff")
"""The stages that an exposure goes through here, in the order of the pipeline."""


@dataclass(frozen=True, slots=True)
class FinishedRuns:
    """Where the runs are: `neb_root` stands for neb://VOLUME/ (site key NEB_ROOT).

    `exports`: the runs as exported, one document a run (for `importrun`), in the order of the
    pipeline.
    """

    neb_root: Path
    exports: tuple[Path, ...]


def build_runs(directory: Path, *, exposures: int = 1, seed: int = SEED) -> FinishedRuns:
    """Write the runs of `exposures` exposures: files below DIR/neb, documents in DIR/exports.

    Every run is full, with the label `sample.nightly` and the dist_group `sample`; of chip, warp
    and diff runs one component is of poor quality and without files. Raises ConfigError where the
    directory holds runs already, LocalError where it cannot be written.
    """
    neb_root, documents = directory / "neb", directory / "exports"
    for taken in (neb_root, documents):
        if taken.exists():
            raise ConfigError([f"{taken} is there already: choose another directory"])
    exports = []
    with told(directory):
        documents.mkdir(parents=True)
        for cycle in range(exposures):
            for run in runs_of(Exposure(cycle), seed):
                _write_files(neb_root, run)
                document = documents / f"{run.stage}.{run.stage_id}.mdc"
                document.write_text(exported(run.tables), encoding="utf-8")
                exports.append(document)
    return FinishedRuns(neb_root, tuple(exports))


def runs_of(exposure: Exposure, seed: int) -> Iterator[Run]:
    """The runs of one exposure, each the input of a later one."""

    def sky(stage: str) -> Sky:
        return Sky(random.Random(f"{seed} {exposure.cycle} {stage}"), SIDE)

    yield finished_runs.raw(exposure, sky("raw"))
    yield sample_runs.chip(exposure, sky("chip"))
    camera = sample_runs.camera(exposure, sky("camera"))
    yield camera
    yield finished_runs.fake(exposure, sky("fake"))
    yield finished_runs.warp(exposure, sky("warp"))
    yield sample_runs.stack(exposure, sky("stack"), [exposure])
    measured = {name: value for name, _, value in camera.tables["camProcessedExp"][0]}
    yield finished_runs.diff(exposure, sky("diff"), float(str(measured["zpt_obs"])))


def _write_files(neb_root: Path, run: Run) -> None:
    for component in run.components:
        work = component.work
        directory = neb_root / work.destdir / work.directory
        directory.mkdir(parents=True, exist_ok=True)
        traces, missing = _left(component)
        for name, data in members(run, component, (*traces, *missing)):
            (directory / name).write_bytes(data)
        for _, name in traces:
            (directory / name).write_bytes(b"entered, and left again\n" * 4)


def _left(component: Component) -> tuple[Paths, Paths]:
    """Files that stay where they are: traces; and statistics that a chip was to have."""
    traces, missing = [], []
    for output in component.outputs:
        if output.rule.startswith("LOG."):
            name = output.name.removesuffix(".log")
            traces.append((output.rule.replace("LOG.", "TRACE."), f"{name}.trace"))
            if component.program == "ppImage":
                missing.append(("PPIMAGE.STATS", f"{name}.stats"))
    return traces, missing
