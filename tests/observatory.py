"""An observatory with finished runs: its files, its site configuration, its Data Store."""

import sys
from pathlib import Path

from publisher import Publisher

from server.samples.finished import FinishedRuns, build_runs

STAGES = ("raw", "chip", "camera", "fake", "warp", "diff", "stack")
LABEL = "sample.nightly"
GROUP = "sample"

STAGE = """\
STAGE{0:02}.TITLE = {1}
STAGE{0:02}.NSTATUS.W = Waiting
STAGE{0:02}.CSTATUS.C = Done
STAGE{0:02}.TSTATUS.X = Trouble
"""
STEPS = ("BN", "RG", "PB")
"""The columns of the blackboard that steps of runs are posted to."""
BLACKBOARD = "BLACKBOARD METADATA\n  path STR {}\n  dist STR dst\n  pub STR pub\nEND\n"
TRANSLATE = f"TRANSLATE METADATA\n  IPP-MOPS STR {sys.executable} -m server ppmops\nEND\n"


def stage_text(*titles: str) -> str:
    """A stage file with these columns."""
    count = len(titles)
    return f"NSTAGE = {count}\n" + "".join(map(STAGE.format, range(1, count + 1), titles))


class Observatory(Publisher):
    """A publisher below `directory` whose pipeline has finished some runs.

    `neb` stands for neb://VOLUME/; runs are posted to the blackboard of `path`. Nothing is imported
    or defined yet.
    """

    def __init__(self, directory: Path, *, exposures: int = 1) -> None:
        self.directory = directory
        self.runs: FinishedRuns = build_runs(directory / "pipeline", exposures=exposures)
        self.neb = self.runs.neb_root
        self.path = directory / "runs.path"
        stages = directory / "runs.stage"
        self.path.write_text(f"OPUS_OBSERVATIONS_DIR = {directory}/board\nSTAGE_FILE = {stages}\n")
        stages.write_text(stage_text(*STEPS))
        config = directory / "site.config"
        board = BLACKBOARD.format(self.path)
        config.write_text(f"NEB_ROOT STR {self.neb}\n{TRANSLATE}{board}")
        super().__init__(directory, {"SITE_CONFIG": str(config)})

    def import_runs(self) -> None:
        """Read every exported run into the database."""
        self.must("importrun", *map(str, self.runs.exports))

    def define_distribution(self, name: str, product: str, status_uri: str) -> None:
        """A destination that is interested in every stage of every filter."""
        self.must(
            "disttool", "-definedestination", "-name", name, "-product", product,
            "-status_uri", status_uri,
        )  # fmt: skip
        for number, stage in enumerate(STAGES, 1):
            self.must(
                "disttool", "-definetarget", "-dist_group", GROUP, "-filter", "%",
                "-stage", stage,
            )  # fmt: skip
            self.must("disttool", "-defineinterest", "-dest_name", name, "-target_id", str(number))

    def distribute(self) -> None:
        """Make filesets of whatever is finished."""
        for stage in STAGES:
            self.must(
                "disttool", "-definebyquery", "-stage", stage,
                "-workdir", f"neb://@HOST@.0/dist/{stage}", "-label", LABEL, "-simple",
            )  # fmt: skip
        self.must("disttool", "-run", "-label", LABEL)

    def publish_detections(self) -> None:
        """Publish the detections of whatever is finished to a client."""
        self.must(
            "pubtool", "-defineclient", "-stage", "diff", "-product", "IPP-MOPS",
            "-workdir", "neb://any/pub/", "-comment", "moving objects",
        )  # fmt: skip
        self.must("publish", "--label", LABEL, "--once")
