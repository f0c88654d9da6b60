"""`publish_file`: do one publish run, as the pipeline's tasks call it (seed 000, PROTOCOL 4).

Finds the files of the run, translates them if the site has a command for the product (site block
TRANSLATE), registers the fileset pub.PUB_ID.STAGE.STAGE_ID in the product, and records path_base,
host, seconds and fault. Exit status: 0 published; 1 the run is full, has an attempt already, or
another process works on it or on its fileset; else the code of the fault that was recorded, or of
what kept this from beginning: 2 usage or this machine, 3 configuration, 4 program, 5 data, 6 a
translation took too long.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from mirror.disk import remove, told
from mirror.errors import ConfigError
from server.catalogue import catalogue
from server.command import about, interruptible, show, tell
from server.database import Database
from server.faults import Fault
from server.modes import whole_number
from server.publishing.attempt import (
    base_of,
    check_open,
    check_registration,
    place_of,
    plan_or_record,
    plan_publish,
    record,
    work_name,
)
from server.publishing.posts import RUNS
from server.publishing.runs import PublishRun, find_run
from server.publishing.translate import add_limit_option
from server.publishing.work import Manner, publish_files
from server.run_posts import RunPosts
from server.site import Site, add_site_options, read_site
from server.store_lock import ConflictError, hold_work


def main(argv: list[str]) -> int:
    """Do one publish run, and tell the result in one line; returns the exit status."""
    options = _parser().parse_args(argv)
    site = read_site(options)
    manner = Manner(
        options.redirect_output, options.verbose, options.save_temps, options.translate_timeout
    )
    with interruptible(), catalogue(site.database) as database:
        if options.no_update:
            return _rehearse(database, site, _asked_run(database, options), manner)
        # Asked before the lock too: a wrong number is no work that anybody could hold.
        _asked_run(database, options)
        with hold_work(site.root, work_name(options.pub_id)):
            run = _asked_run(database, options)
            check_open(run)
            status = _publish(database, site, run, manner)
        RunPosts(site, database, RUNS, "publish_file").now()
        return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="publish_file", allow_abbrev=False, description=about(__doc__),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add = parser.add_argument
    add("--pub_id", type=whole_number, required=True, metavar="N", help="the publish run")
    known = parser.add_argument_group("what the database says of the run; refused if it differs")
    known.add_argument("--camera", metavar="C", help="the camera of its exposures")
    known.add_argument("--workdir", metavar="DIR", help="its client's working directory")
    known.add_argument("--product", metavar="P", help="its client's product")
    known.add_argument("--stage", metavar="S", help="diff or camera")
    known.add_argument("--stage_id", type=whole_number, metavar="N", help="the run of that stage")
    add("--redirect-output", action="store_true",
        help="what the work says goes to the file PATH_BASE.log")  # fmt: skip
    add("--verbose", action="store_true", help="say each step")
    add("--no-update", action="store_true",
        help="change neither database nor Data Store, and say what would be done; the work is done"
        " in a temporary directory")  # fmt: skip
    add("--save-temps", action="store_true", help="keep temporary files, and say where they are")
    add_limit_option(parser)
    add_site_options(parser)
    return parser


def _asked_run(database: Database, options: argparse.Namespace) -> PublishRun:
    """The run that is asked for. Raises ConfigError where the options say something else of it."""
    run = find_run(database, options.pub_id)
    if run is None:
        raise ConflictError(
            f"publish run {options.pub_id}: not in the database; pubtool -pending -all lists them"
        )
    if problems := mismatches(run, options):
        raise ConfigError(problems)
    return run


def mismatches(run: PublishRun, options: argparse.Namespace) -> list[str]:
    """Where options say something else than the database does of a run."""
    pairs: list[tuple[str, object, object]] = [
        ("stage", options.stage, run.stage),
        ("stage_id", options.stage_id, run.stage_id),
        ("product", options.product, run.product),
        ("workdir", _plain(options.workdir), _plain(run.workdir)),
    ]
    # A camera is GPC1 to some programs and gpc1 to others.
    if run.camera and options.camera and run.camera.casefold() != options.camera.casefold():
        pairs.append(("camera", options.camera, run.camera))
    return [
        f"publish run {run.pub_id}: --{name} is {asked}, but the database says {known}"
        for name, asked, known in pairs
        if asked is not None and asked != known
    ]


def _plain(workdir: str | None) -> str | None:
    return None if workdir is None else workdir.rstrip("/")


def _publish(database: Database, site: Site, run: PublishRun, manner: Manner) -> int:
    task = plan_or_record(database, site, run, manner)
    if isinstance(task, Fault):
        return _failed(run, task)
    outcome = publish_files(task)
    try:
        done = record(database, site, run, outcome)
    finally:
        _tell_kept(outcome.kept)
    if done.fault:
        return _failed(run, done.fault)
    again = ", which an attempt before had registered" if done.adopted else ""
    tell(f"published {place_of(run)}{again}: {_count(done.files)}, {done.bytes} bytes")
    return 0


def _count(files: int) -> str:
    return "1 file" if files == 1 else f"{files} files"


def _failed(run: PublishRun, fault: Fault) -> int:
    print(f"publish_file: publish run {run.pub_id}: {fault.message}", file=sys.stderr, flush=True)
    return fault.code


def _tell_kept(kept: Path | None) -> None:
    if kept:
        tell(f"temporary files are kept in {kept}")


def _rehearse(database: Database, site: Site, run: PublishRun, manner: Manner) -> int:
    """Do the work in a directory of its own, and say what would be registered and recorded."""
    with told("a temporary directory"):
        below = Path(tempfile.mkdtemp(prefix="publish_file."))
    try:
        outcome = publish_files(plan_publish(database, site, run, manner, below))
        if outcome.fault:
            return _failed(run, outcome.fault)
        fileset, wanted = check_registration(database, run, outcome.files)
        values = " ".join(f"{value!r}" for value in fileset.values)
        lines = [f"would register {place_of(run)}, type {fileset.type}: {values}"]
        for file, path in zip(wanted, outcome.files, strict=True):
            with told(path):
                lines.append(f"   {path.name} {path.stat().st_size} {file.type}")
        lines.append(f"would record publish run {run.pub_id}: path_base {base_of(run)}, fault 0")
        show("\n".join(lines))
        return 0
    finally:
        if manner.save_temps:
            _tell_kept(below)
        else:
            remove(below)
