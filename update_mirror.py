#!/usr/bin/env python3
"""Mirror the products of a Pan-STARRS Data Store: one run, from options to exit status.

Exit status: 0 everything wanted is mirrored; 1 something failed and stays queued, or needs the
operator; 2 wrong usage; 3 configuration; 4 no wanted product could be listed; 5 this machine
(disk, permission); 75 another run holds the lock.
"""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - so that an older one is told, not a traceback
    sys.exit("update_mirror: Python 3.11 or newer is needed, this is " + sys.version.split()[0])

import argparse
import gc
import os
from pathlib import Path

from mirror import __version__
from mirror.errors import ConfigError, LocalError, LockedError, MirrorError
from mirror.report import (
    EXIT_CONFIG,
    EXIT_LOCAL,
    EXIT_LOCKED,
    EXIT_TROUBLE,
    EXIT_USAGE,
    Report,
    say,
    write_json,
)


def make_parser() -> argparse.ArgumentParser:
    """The options of the command."""
    parser = argparse.ArgumentParser(
        prog="update_mirror.py",
        description="Mirror the products of a Data Store, once. Made to be run from cron.",
        epilog="exit status: 0 mirrored, 1 failed or needs the operator, 2 usage, "
        "3 configuration, 4 nothing could be listed, 5 this machine, 75 another run",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("-c", "--config", metavar="FILE", type=Path, help="configuration (default: see README)")
    add("--product", metavar="P", action="append", default=[], help="only this product or glob")
    add("--limit", metavar="N", type=_count, help="mirror at most N filesets")
    add("--dry-run", action="store_true", help="print what would be fetched; change nothing")
    add("--verify", action="store_true", help="read everything again and compare")
    add("--repair", action="store_true", help="with --verify: fetch again what is wrong")
    add("--status", action="store_true", help="print the state; the network is not asked")
    add("--json", metavar="FILE", help="write the result as JSON ('-': standard output)")
    volume = parser.add_mutually_exclusive_group()
    volume.add_argument("-q", "--quiet", action="store_true", help="trouble only")
    volume.add_argument("-v", "--verbose", action="store_true", help="every fileset")
    add("--version", action="version", version=f"update_mirror {__version__}")
    return parser


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"a whole number expected, not {text!r}")
    return int(text)


def find_config(given: Path | None) -> Path:
    """The configuration file: -c, else $UPDATE_MIRROR_CONFIG, else mirror.yaml beside the
    script, else in the current directory. Raises ConfigError."""
    if given:
        return given
    if named := os.environ.get("UPDATE_MIRROR_CONFIG"):
        return Path(named)
    places = [Path(__file__).resolve().parent / "mirror.yaml", Path.cwd() / "mirror.yaml"]
    for place in places:
        if place.is_file():
            return place
    looked = " or ".join(str(place) for place in places)
    raise ConfigError(
        [f"no configuration: {looked} is not there; copy mirror.yaml.example, or use -c FILE"]
    )


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = make_parser()
    options = parser.parse_args(arguments)
    if options.repair and not options.verify:
        parser.error("--repair goes with --verify")
    if options.dry_run and (options.verify or options.status):
        parser.error("--dry-run goes with neither --verify nor --status")
    if options.json and options.json != "-" and Path(options.json).is_dir():
        parser.error(f"--json {options.json}: the name of a file expected, this is a directory")
    if options.status and options.verify:
        parser.error("--status does not go with --verify")
    report = Report(quiet=options.quiet, verbose=options.verbose)
    try:
        return _act(options, report)
    except ConfigError as error:
        for problem in error.problems:
            report.fault(problem, status=EXIT_CONFIG)
    except LockedError as error:
        report.fault(str(error), status=EXIT_LOCKED)
    except ModuleNotFoundError as error:
        name = {"yaml": "PyYAML"}.get(error.name or "", error.name)
        report.fault(f"the Python package {name} is needed: pip install {name}", status=EXIT_LOCAL)
    except LocalError as error:
        report.local(error)
    except MirrorError as error:
        report.fault(str(error))
    except KeyboardInterrupt:
        report.fault("interrupted")
    except BrokenPipeError:
        report.fault("standard output was closed before everything was written")
    except Exception as error:
        if options.verbose:
            raise
        report.fault(
            f"a fault of this program, please report it ({type(error).__name__}: {error}); "
            "-v shows where"
        )
    return _finish(options, report)


def _act(options: argparse.Namespace, report: Report) -> int:
    from parse_config import read_config

    config = read_config(find_config(options.config))
    if options.status:
        from mirror.status import show_status

        return show_status(config, options.json, options.product)
    from mirror.run import run
    from mirror.runkit import Options

    chosen = Options(tuple(options.product), options.limit, options.verify, options.repair)
    if options.dry_run:
        from mirror.dryrun import dry_run

        # The document alone goes to standard output where it is asked for there.
        dry_run(config, chosen, report, sys.stderr if options.json == "-" else sys.stdout)
    else:
        run(config, chosen, report)
    return _finish(options, report)


def _finish(options: argparse.Namespace, report: Report) -> int:
    if options.json:
        try:
            write_json(options.json, report.document())
        except LocalError as error:
            report.fault(f"--json {error}", status=EXIT_LOCAL)
    told = report.terminal or report.verbose
    if told and not options.dry_run and report.status not in (EXIT_CONFIG, EXIT_LOCKED):
        say(report.summary())
    return report.status


def _leave(status: int) -> None:
    """End at once: a transfer thread that waits for a silent server holds nothing up."""
    try:
        sys.stdout.flush()
    except OSError:
        status = status or EXIT_LOCAL
    os._exit(status)


def command() -> None:
    """The command as installed."""
    # A run makes many small records and few cycles: looking for these so often is time lost.
    gc.set_threshold(100_000)
    try:
        status = main()
    except SystemExit as leaving:
        status = leaving.code if isinstance(leaving.code, int) else EXIT_USAGE
    except BaseException:
        import traceback

        traceback.print_exc()
        status = EXIT_TROUBLE
    _leave(status)


if __name__ == "__main__":
    command()
