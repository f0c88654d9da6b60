"""disttool: distribute finished runs, as bundles in filesets, to whoever is interested.

The modes and options are the original's (PROTOCOL section 4); ours besides are -listdestinations
and -listfaults, and that -workdir may be left out where the site key DISTRIBUTION_ROOT is set.
Exit status: 0 done; 1 what is asked for does not fit what is there, or with -run something has a
fault; 2 usage, or this machine is in the way; 3 an option is missing or its value refused, or the
site is not configured.
"""

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import astuple

from mirror.errors import ConfigError
from server.catalogue import catalogue
from server.command import show, tell
from server.database import Database
from server.distribution import define, queue, revert, targets
from server.distribution.queue import Selection
from server.modes import Given, Mode, Option, format_rows, read_call
from server.runs.stages import STAGES
from server.site import Site, read_site

_OPTIONS = {
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
    "status_uri": Option("text", "http://… of the product in which it reports what it has"),
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
    "all": Option("flag", "revert everything"),
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
        ((*_REVERTED, "all"),), ("workdir",), "let faulty runs be tried again, or elsewhere"),
    "revertfileset": Mode(((*_REVERTED, "all"),), (), "let faulty filesets be tried again"),
    "run": Mode(
        (), ("label", "limit", "jobs", "gzip_level", "scheduler"), "do all that is pending"),
}  # fmt: skip

_BEGINNING = ("definetarget", "definedestination")
"""Modes that begin a catalogue where there is none."""

_RUN = {
    "dist_id": "S64", "target_id": "S64", "stage": "STR", "stage_id": "S64", "label": "STR",
    "outdir": "STR", "clean": "BOOL", "state": "STR", "fault": "S32", "message": "STR",
    "exp_name": "STR", "data_group": "STR", "filter": "STR",
}  # fmt: skip


def main(argv: list[str]) -> int:
    """Do what the mode says; returns the exit status.

    Raises ConfigError with everything wrong with the call, ConflictError for what does not fit
    what is there.
    """
    mode, given = read_call("disttool", str(__doc__), MODES, _OPTIONS, argv)
    if problems := _problems(given):
        raise ConfigError(problems)
    site = read_site(given)
    with catalogue(site.database, create=mode in _BEGINNING) as database:
        return _DO[mode](site, database, given)


def _problems(given: Given) -> list[str]:
    """Values that no option of any mode takes."""
    problems = []
    if given.stage is not None and given.stage not in STAGES:
        problems.append(f"-stage: one of {', '.join(STAGES)} expected, not {given.stage}")
    if given.set_state is not None and given.set_state not in targets.STATES:
        expected = " or ".join(targets.STATES)
        problems.append(f"-set_state: {expected} expected, not {given.set_state}")
    if given.filter is not None and "\\" in given.filter:
        problems.append(f"-filter: a pattern of %, _ and plain characters, not {given.filter}")
    if given.all and any(getattr(given, name) not in (None, []) for name in _REVERTED):
        problems.append("-all: everything, and nothing that chooses among it, expected")
    return problems


# Targets, destinations, interests


def _define_target(site: Site, database: Database, given: Given) -> int:
    target = targets.define_target(
        database, given.dist_group, given.filter, given.stage,
        clean=given.clean, state=given.set_state or targets.ENABLED, comment=given.comment,
    )  # fmt: skip
    tell(target.line())
    return 0


def _define_destination(site: Site, database: Database, given: Given) -> int:
    destination, made = targets.define_destination(
        site, database, given.name, given.product, status_uri=given.status_uri,
        state=given.set_state or targets.ENABLED, comment=given.comment,
    )  # fmt: skip
    if made:
        tell(
            f"added product {given.product}, {targets.PRODUCT_TYPE}, in {site.root / given.product}"
        )
    tell(destination.line())
    others = [
        other.name
        for other in targets.list_destinations(database)
        if other.product == destination.product and other.dest_id != destination.dest_id
    ]
    if others:
        print(
            f"disttool: product {destination.product} is that of {', '.join(others)}, too: who"
            " reads it gets the filesets of all of them",
            file=sys.stderr,
        )
    return 0


def _define_interest(site: Site, database: Database, given: Given) -> int:
    state = given.set_state or targets.ENABLED
    interest = targets.define_interest(
        database, given.dest_id, given.dest_name, given.target_id, state
    )
    tell(interest.line())
    return 0


def _update_target(site: Site, database: Database, given: Given) -> int:
    tell(targets.update_target(database, given.target_id, given.set_state).line())
    return 0


def _update_destination(site: Site, database: Database, given: Given) -> int:
    destination = targets.update_destination(
        database, given.dest_id, given.dest_name,
        state=given.set_state, status_uri=given.status_uri, comment=given.comment,
    )  # fmt: skip
    tell(destination.line())
    return 0


def _update_interest(site: Site, database: Database, given: Given) -> int:
    interest = targets.update_interest(
        database, given.dest_id, given.dest_name, given.target_id, given.set_state
    )
    tell(interest.line())
    return 0


def _list_targets(site: Site, database: Database, given: Given) -> int:
    columns = {
        "target_id": "S64", "dist_group": "STR", "filter": "STR", "stage": "STR", "clean": "BOOL",
        "state": "STR", "comment": "STR",
    }  # fmt: skip
    rows = [astuple(target) for target in targets.list_targets(database)]
    return _show(given, "distTarget", columns, rows)


def _list_destinations(site: Site, database: Database, given: Given) -> int:
    columns = {
        "dest_id": "S64", "name": "STR", "product": "STR", "status_uri": "STR",
        "last_fileset": "STR", "state": "STR", "comment": "STR",
    }  # fmt: skip
    rows = [astuple(destination) for destination in targets.list_destinations(database)]
    return _show(given, "rcDestination", columns, rows)


def _list_interests(site: Site, database: Database, given: Given) -> int:
    columns = {
        "dest_id": "S64", "name": "STR", "target_id": "S64", "stage": "STR", "dist_group": "STR",
        "filter": "STR", "clean": "BOOL", "state": "STR",
    }  # fmt: skip
    rows = [
        (
            interest.destination.dest_id, interest.destination.name, interest.target.target_id,
            interest.target.stage, interest.target.dist_group, interest.target.filter,
            interest.target.clean, interest.state,
        )
        for interest in targets.list_interests(database)
    ]  # fmt: skip
    return _show(given, "rcInterest", columns, rows)


# Runs


def _define_by_query(site: Site, database: Database, given: Given) -> int:
    query = define.Query(
        STAGES[given.stage], given.label, given.set_label, given.dist_group, given.rerun,
        given.limit,
    )  # fmt: skip
    workdir = define.check_workdir(site, given.workdir)
    for reason in define.left_out(database, query):
        print(f"disttool: {reason}", file=sys.stderr)
    if given.pretend:
        planned = define.plan_runs(database, query)
        # Numbers and directories come when they are made.
        rows = [
            (None, run.target_id, run.stage, run.stage_id, run.label, None, run.clean, "new", 0,
             None, run.exp_name, run.data_group, run.filter)
            for run in planned
        ]  # fmt: skip
        return _show(given, "distRun", _RUN, rows)
    made = define.define_runs(database, query, workdir)
    return _show(given, "distRun", _RUN, map(astuple, made))


def _pending_components(site: Site, database: Database, given: Given) -> int:
    columns = {
        "dist_id": "S64", "component": "STR", "outdir": "STR", "stage": "STR", "stage_id": "S64",
        "clean": "BOOL", "label": "STR",
    }  # fmt: skip
    found = queue.pending_components(database, _selection(database, given), given.limit)
    return _show(given, "distComponent", columns, map(astuple, found))


def _processed_components(site: Site, database: Database, given: Given) -> int:
    columns = {
        "dist_id": "S64", "component": "STR", "stage": "STR", "stage_id": "S64", "label": "STR",
        "outdir": "STR", "name": "STR", "bytes": "S64", "md5sum": "STR",
    }  # fmt: skip
    found = queue.processed_components(database, _selection(database, given), given.limit)
    return _show(given, "distComponent", columns, map(astuple, found))


def _to_advance(site: Site, database: Database, given: Given) -> int:
    found = queue.to_advance(database, _selection(database, given), given.limit)
    return _show(given, "distRun", _RUN, map(astuple, found))


def _pending_filesets(site: Site, database: Database, given: Given) -> int:
    columns = {
        "dist_id": "S64", "dest_id": "S64", "destination": "STR", "product": "STR",
        "target_id": "S64", "stage": "STR", "stage_id": "S64", "label": "STR", "exp_name": "STR",
    }  # fmt: skip
    found = queue.pending_filesets(database, _selection(database, given), given.limit)
    rows = [
        (
            pending.run.dist_id, pending.dest_id, pending.destination, pending.product,
            pending.run.target_id, pending.run.stage, pending.run.stage_id, pending.run.label,
            pending.run.exp_name,
        )
        for pending in found
    ]  # fmt: skip
    return _show(given, "rcDSFileset", columns, rows)


def _list_filesets(site: Site, database: Database, given: Given) -> int:
    columns = {
        "fs_id": "S64", "dist_id": "S64", "dest_id": "S64", "destination": "STR", "name": "STR",
        "stage": "STR", "stage_id": "S64", "label": "STR", "state": "STR", "fault": "S32",
        "received": "STR", "receive_fault": "S32", "message": "STR",
    }  # fmt: skip
    found = queue.list_filesets(database, _selection(database, given), given.limit)
    return _show(given, "rcDSFileset", columns, map(astuple, found))


def _list_faults(site: Site, database: Database, given: Given) -> int:
    columns = {
        "kind": "STR", "dist_id": "S64", "name": "STR", "stage": "STR", "stage_id": "S64",
        "label": "STR", "fault": "S32", "message": "STR",
    }  # fmt: skip
    found = queue.list_faults(database, _selection(database, given), given.limit)
    return _show(given, "distFault", columns, map(astuple, found))


def _revert_components(site: Site, database: Database, given: Given) -> int:
    return _reverted("component", revert.revert_components(database, _selection(database, given)))


def _revert_runs(site: Site, database: Database, given: Given) -> int:
    workdir = define.check_workdir(site, given.workdir) if given.workdir else None
    return _reverted("run", revert.revert_runs(database, _selection(database, given), workdir))


def _revert_filesets(site: Site, database: Database, given: Given) -> int:
    return _reverted("fileset", revert.revert_filesets(database, _selection(database, given)))


def _run(site: Site, database: Database, given: Given) -> int:
    from server.distribution.run import main_run

    return main_run(
        site, database, given.label, given.limit, given.jobs, given.gzip_level, given.scheduler
    )


def _selection(database: Database, given: Given) -> Selection:
    """What was chosen; raises ConflictError for a destination that is not known."""
    dest_id = given.dest_id
    if dest_id is not None or given.dest_name is not None:
        dest_id = targets.find_destination(database, dest_id, given.dest_name).dest_id
    return Selection(
        given.dist_id, given.stage, given.stage_id, tuple(given.label), given.fault, dest_id
    )


def _reverted(what: str, count: int) -> int:
    tell(f"reverted {count} {what}{'' if count == 1 else 's'}")
    return 0


def _show(
    given: Given, name: str, columns: dict[str, str], rows: Iterable[Sequence[object]]
) -> int:
    if text := format_rows(name, columns, rows, simple=given.simple):
        show(text.rstrip("\n"))
    return 0


_DO: dict[str, Callable[[Site, Database, Given], int]] = {
    "definetarget": _define_target,
    "definedestination": _define_destination,
    "defineinterest": _define_interest,
    "updatetarget": _update_target,
    "updatedestination": _update_destination,
    "updateinterest": _update_interest,
    "listtargets": _list_targets,
    "listdestinations": _list_destinations,
    "listinterests": _list_interests,
    "definebyquery": _define_by_query,
    "pendingcomponent": _pending_components,
    "processedcomponent": _processed_components,
    "toadvance": _to_advance,
    "pendingfileset": _pending_filesets,
    "listfilesets": _list_filesets,
    "listfaults": _list_faults,
    "revertcomponent": _revert_components,
    "revertrun": _revert_runs,
    "revertfileset": _revert_filesets,
    "run": _run,
}
