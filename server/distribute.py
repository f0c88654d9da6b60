"""disttool: distribute finished runs, as bundles in filesets, to whoever is interested.

The modes and options are the original's (PROTOCOL section 4); ours besides are -listdestinations,
-listfaults and -droprun, and that -workdir may be left out where the site key DISTRIBUTION_ROOT is
set.
Exit status: 0 done; 1 what is asked for does not fit what is there, or with -run something has a
fault; 2 usage, or this machine is in the way; 3 an option is missing or its value refused, or the
site is not configured.
"""

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import astuple, replace

from mirror.errors import ConfigError
from server.catalogue import catalogue
from server.command import show, tell
from server.database import Database
from server.distribution import define, queue, revert, targets
from server.distribution.call import MODES, OPTIONS, wrong_values
from server.distribution.posts import RUNS
from server.distribution.queue import Selection
from server.modes import Given, format_rows, read_call
from server.run_posts import RunPosts
from server.runs.stages import STAGES
from server.site import Site, read_site

_BEGINNING = ("definetarget", "definedestination")
"""Modes that begin a catalogue where there is none."""

_LOOKING = (
    "listtargets", "listdestinations", "listinterests", "listfilesets", "listfaults",
    "pendingcomponent", "processedcomponent", "toadvance", "pendingfileset",
)  # fmt: skip
"""Modes that change nothing."""

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
    mode, given = read_call("disttool", str(__doc__), MODES, OPTIONS, argv)
    if problems := wrong_values(given):
        raise ConfigError(problems)
    site = read_site(given)
    with catalogue(site.database, create=mode in _BEGINNING) as database:
        status = _DO[mode](site, database, given)
        if mode not in _LOOKING:
            RunPosts(site, database, RUNS, "disttool").now()
        return status


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
    found = targets.list_destinations(database)
    rows = [astuple(replace(one, status_uri=one.shown_uri())) for one in found]
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
    selection = _selection(database, given)
    if given.workdir is None:
        return _reverted("run", revert.revert_runs(database, selection))
    workdir = define.check_workdir(site, given.workdir)
    moved = revert.move_runs(database, site.root, selection, workdir)
    tell(f"moved {_counted('run', moved.done)} below {given.workdir}{_left(moved)}")
    return 0


def _drop_runs(site: Site, database: Database, given: Given) -> int:
    dropped = revert.drop_runs(database, site.root, _selection(database, given))
    tell(f"dropped {_counted('run', dropped.done)}{_left(dropped)}")
    return 0


def _left(changed: revert.Changed) -> str:
    """What was left, and why."""
    text = ""
    if changed.distributed:
        have = "has" if changed.distributed == 1 else "have"
        text = f", left {changed.distributed} that {have} filesets (dsreg --del withdraws them)"
    if changed.busy:
        text += f", left {changed.busy} that another process works on"
    return text


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
    tell(f"reverted {_counted(what, count)}")
    return 0


def _counted(what: str, count: int) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


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
    "droprun": _drop_runs,
    "run": _run,
}
