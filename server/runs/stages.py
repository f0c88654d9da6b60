"""The stages of the pipeline: which tables hold their runs, and what their components are.

Facts of PROTOCOL section 3. The tables themselves come with the imported runs
(`server.runs.imported`).
"""

from collections.abc import Mapping
from dataclasses import dataclass

EXPOSURE = "exposure"
"""The one component of a camera run."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage. `id_column` names its runs in all their tables.

    `component_table` has a row a component, named by its `component_column`; None: the run has
    one component, which `component` tells.
    """

    name: str
    run_table: str
    id_column: str
    component_table: str
    component_column: str | None

    @property
    def named_bundles(self) -> bool:
        """Whether a bundle's name ends with the component: path_base does not name it then."""
        return self.name in ("raw", "chip", "chip_bg", "camera", "fake")

    @property
    def named_dumps(self) -> bool:
        """Whether the config dump's name ends with the component."""
        return self.name in ("chip", "chip_bg", "fake")


_TABLE = (
    Stage("raw", "rawExp", "exp_id", "rawImfile", "class_id"),
    Stage("chip", "chipRun", "chip_id", "chipProcessedImfile", "class_id"),
    Stage("chip_bg", "chipBackgroundRun", "chip_bg_id", "chipBackgroundImfile", "class_id"),
    Stage("camera", "camRun", "cam_id", "camProcessedExp", None),
    Stage("fake", "fakeRun", "fake_id", "fakeProcessedImfile", "class_id"),
    Stage("warp", "warpRun", "warp_id", "warpSkyfile", "skycell_id"),
    Stage("warp_bg", "warpBackgroundRun", "warp_bg_id", "warpBackgroundSkyfile", "skycell_id"),
    Stage("diff", "diffRun", "diff_id", "diffSkyfile", "skycell_id"),
    Stage("SSdiff", "diffRun", "diff_id", "diffSkyfile", "skycell_id"),
    Stage("stack", "stackRun", "stack_id", "stackSumSkyfile", None),
    Stage("sky", "staticskyRun", "sky_id", "staticskyResult", None),
    Stage("skycal", "skycalRun", "skycal_id", "skycalResult", None),
    Stage("ff", "fullForceRun", "ff_id", "fullForceSummary", None),
)

STAGES: Mapping[str, Stage] = {stage.name: stage for stage in _TABLE}
"""Every stage by its name, in the order of the pipeline."""

FINISHED = ("full", "cleaned")
"""States of a run that is finished."""


def component(stage: Stage, run: Mapping[str, object], row: Mapping[str, object]) -> str:
    """The component that `row` of the stage's component table is about; `run` is its run's row."""
    if stage.component_column is not None:
        return str(row[stage.component_column])
    if stage.name == "camera":
        return EXPOSURE
    # For stack runs the run's row has it; the later stages name theirs in dirinfo alone.
    return str(run.get("skycell_id") or row.get("skycell_id") or stage.name)
