"""What `disttool` understands: its options, its modes, and values that no option takes."""

from server.distribution import targets
from server.modes import Given, Mode, Option
from server.runs.stages import STAGES

OPTIONS = {
    "stage": Option("text", f"one of {', '.join(STAGES)}"),
    "stage_id": Option("number", "the run's id in its stage"),
    "dist_id": Option("number", "the distRun's id"),
    "dist_group": Option("text", "exactly the dist_group of the runs"),
    "filter": Option("text", "the runs' filter, as SQL LIKE: %% is every one"),
    "clean": Option("flag", "without the large images; else cleaned runs do not match"),
    "set_state": Option("text", f"{' or '.join(targets.STATES)}; new ones are enabled"),
    "comment": Option("text", "for people"),
    "name": Option("text", "the destination's name"),
    "product": Option("text", "its product in the Data Store, made if it is not there"),
    "status_uri": Option(
        "text", "http://… of the product in which it reports what it has; none: no more"
    ),
    "dest_id": Option("number", "the destination's id"),
    "dest_name": Option("text", "the destination's name"),
    "target_id": Option("number", "the target's id"),
    "workdir": Option("text", "where the runs' bundles go (else the key DISTRIBUTION_ROOT)"),
    "label": Option("texts", "of the runs; repeated: any of them"),
    "set_label": Option("text", "the distRuns' label (else the runs' own)"),
    "rerun": Option("flag", "those too that are distributed already"),
    "pretend": Option("flag", "show what would be made, and change nothing"),
    "limit": Option("number", "at most so many"),
    "simple": Option("flag", "one line a row instead of mdc"),
    "fault": Option("number", "only with this fault code"),
    "all": Option("flag", "everything"),
    "jobs": Option("number", "so many worker processes (else one a core)"),
    "gzip_level": Option("number", "1 (fast, the default) to 9 (small)"),
    "scheduler": Option("text", "tcp://HOST:PORT of a Dask cluster that works instead"),
}

_DESTINATION = ("dest_id", "dest_name")
_WHICH = ("dist_id", "stage", "stage_id", "label")
_LISTED = (*_WHICH, "limit", "simple")
_REVERTED = (*_WHICH, "fault")

MODES = {
    "definetarget": Mode(
        ("dist_group", "filter", "stage"), ("clean", "set_state", "comment"),
        "say which finished runs go out"),
    "definedestination": Mode(
        ("name", "product"), ("status_uri", "comment", "set_state"), "add a site that receives"),
    "defineinterest": Mode(
        (_DESTINATION, "target_id"), ("set_state",), "let a destination have a target's runs"),
    "updatetarget": Mode(("target_id", "set_state"), (), "enable or disable a target"),
    "updatedestination": Mode(
        (_DESTINATION, ("set_state", "status_uri", "comment")), (), "change a destination"),
    "updateinterest": Mode(
        (_DESTINATION, "target_id", "set_state"), (), "enable or disable an interest"),
    "listtargets": Mode((), ("simple",), "show the targets"),
    "listdestinations": Mode((), ("simple",), "show the destinations"),
    "listinterests": Mode((), ("simple",), "show the interests"),
    "definebyquery": Mode(
        ("stage",),
        ("workdir", "label", "set_label", "dist_group", "rerun", "pretend", "limit", "simple"),
        "queue the finished runs that somebody wants"),
    "pendingcomponent": Mode((), _LISTED, "show the components to be bundled"),
    "processedcomponent": Mode((), _LISTED, "show the components that are bundled"),
    "toadvance": Mode((), _LISTED, "show the runs whose components are all bundled"),
    "pendingfileset": Mode((), (*_LISTED, *_DESTINATION), "show the filesets to be registered"),
    "listfilesets": Mode((), (*_LISTED, *_DESTINATION), "show the filesets that were registered"),
    "listfaults": Mode((), (*_LISTED, "fault"), "show what has a fault and waits for a revert"),
    "revertcomponent": Mode(((*_REVERTED, "all"),), (), "let faulty components be tried again"),
    "revertrun": Mode(
        ((*_REVERTED, "all"),), ("workdir",),
        "let faulty runs be tried again; with -workdir all that are not done, below that"),
    "revertfileset": Mode(
        ((*_REVERTED, *_DESTINATION, "all"),), (), "let faulty filesets be tried again"),
    "droprun": Mode(
        ((*_REVERTED, "all"),), (), "forget runs that nobody has, to define them anew"),
    "run": Mode(
        (), ("label", "limit", "jobs", "gzip_level", "scheduler"), "do all that is pending"),
}  # fmt: skip


def wrong_values(given: Given) -> list[str]:
    """Values that no option of any mode takes."""
    problems = []
    if given.stage is not None and given.stage not in STAGES:
        problems.append(f"-stage: one of {', '.join(STAGES)} expected, not {given.stage}")
    if given.set_state is not None and given.set_state not in targets.STATES:
        expected = " or ".join(targets.STATES)
        problems.append(f"-set_state: {expected} expected, not {given.set_state}")
    if given.filter is not None and "\\" in given.filter:
        problems.append(f"-filter: a pattern of %, _ and plain characters, not {given.filter}")
    chosen = (getattr(given, name) for name in (*_REVERTED, *_DESTINATION))
    if given.all and any(value not in (None, []) for value in chosen):
        problems.append("-all: everything, and nothing that chooses among it, expected")
    return problems
