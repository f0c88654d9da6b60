"""`python -m server demo`: what the README shows, from finished runs to a mirror and back.

Everything happens in a directory of its own (demo/ in the checkout), over loopback, with the real
commands as processes; what is typed is printed before what it prints.
"""

import argparse
import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mirror.errors import ConfigError
from server.command import about

CHECKOUT = Path(__file__).resolve().parents[2]
SHOWN = 24
"""Lines of the tree that are shown; it goes on likewise."""

STAGES = ("raw", "chip", "camera", "diff")
"""Stages that are distributed; the other runs of the sample are there to be followed."""

MARK = ".update-mirror-demo"
"""A file by which a demonstration knows its own directory: that one may be removed."""

_SITE = """\
DATA_STORE_ROOT STR {directory}/datastore
NEB_ROOT        STR {directory}/pipeline/neb
"""
_TRANSLATE = """\
TRANSLATE METADATA
    IPP-MOPS STR {python} -m server ppmops
END
"""
_PARTNER = "DATA_STORE_ROOT STR {directory}/partner\n"
_CONFIG = """\
mirror_root: mirror
top_uri: {uri}
products: [gpc1, IPP-MOPS]
min_free: 100MB
import_runs: true
status_product: north-status
status_site: partner.config
"""
_OURS = ("DS_", "SITE_CONFIG", "DATA_STORE_ROOT", "NEB_ROOT", "LINK_ROOTS", "DISTRIBUTION_ROOT")
_QUERY = """\
SELECT e.exp_name, c.class_id, c.path_base
FROM rawExp e JOIN chipProcessedImfile c ON c.exp_id = e.exp_id WHERE c.quality = 0"""


def main(argv: list[str]) -> int:
    """Run the demonstration; returns 0 if every step did what it should."""
    parser = argparse.ArgumentParser(prog="python -m server demo", description=about(__doc__))
    parser.add_argument("dir", type=Path, nargs="?", default=CHECKOUT / "demo", metavar="DIR")
    directory = parser.parse_args(argv).dir.resolve()
    clear(directory)
    for name in ("datastore", "partner"):
        (directory / name).mkdir(parents=True)
    finished_runs(directory)
    distribution(directory)
    _publication(directory)
    _a_night_at_the_mirror(directory)
    _status(directory)
    print(f"\nAll of it is in {shown(directory)}; have a look, then remove it.")
    return 0


def clear(directory: Path) -> None:
    """Remove an earlier demonstration, and nothing else. Raises ConfigError for anything else."""
    mark = directory / MARK
    if directory.exists() and not mark.exists() and any(directory.iterdir()):
        raise ConfigError(
            [f"{directory}: a new or empty directory expected; remove it, or name one"]
        )
    if mark.exists():
        shutil.rmtree(directory)
    directory.mkdir(parents=True, exist_ok=True)
    mark.touch()


def finished_runs(directory: Path) -> None:
    """Make a pipeline's finished runs, site configurations, and a database that has the runs."""
    say("Finished runs of a pipeline: their files, and their rows as it exports them")
    call(directory, "-m", "server", "sample", "--runs", "pipeline", "--exposures", "2")
    text = _SITE.format(directory=directory)
    if importlib.util.find_spec("astropy"):
        text += _TRANSLATE.format(python=sys.executable)
    else:
        say("Without astropy (extra: mops) detections are published as the pipeline wrote them")
    (directory / "site.config").write_text(text, encoding="utf-8")
    (directory / "partner.config").write_text(_PARTNER.format(directory=directory), "utf-8")
    say("The site configuration: where the Data Store is, and where the pipeline's files are")
    print(text, end="")
    say("The runs go into the database")
    exports = sorted(path.relative_to(directory) for path in directory.glob("pipeline/exports/*"))
    typed = "python -m server importrun pipeline/exports/*.mdc"
    call(directory, "-m", "server", "importrun", *map(str, exports), typed=typed)


def distribution(directory: Path) -> None:
    """Distribute the finished runs: filesets of the product gpc1."""
    say("Who gets what: north wants four stages, in every filter")
    server(directory, "disttool", "-definedestination", "-name", "north", "-product", "gpc1")
    for number, stage in enumerate(STAGES, 1):
        group = ("-dist_group", "sample", "-filter", "%", "-stage", stage)
        server(directory, "disttool", "-definetarget", *group)
        interest = ("-dest_name", "north", "-target_id", str(number))
        server(directory, "disttool", "-defineinterest", *interest)
    say("What is finished becomes filesets of bundles")
    for stage in STAGES:
        where = ("-stage", stage, "-workdir", "neb://any/dist", "-simple")
        server(directory, "disttool", "-definebyquery", *where)
    server(directory, "disttool", "-run")


def _publication(directory: Path) -> None:
    say("Detections of moving objects are published, too")
    where = ("-product", "IPP-MOPS", "-workdir", "neb://any/pub/")
    server(directory, "pubtool", "-defineclient", "-stage", "diff", *where)
    server(directory, "publish", "--label", "sample.nightly", "--once", "--verbose")


def _a_night_at_the_mirror(directory: Path) -> None:
    with serving(directory, "site.config") as uri:
        (directory / "mirror.yaml").write_text(_CONFIG.format(uri=uri), encoding="utf-8")
        say("The partner's mirror.yaml, all of it")
        print((directory / "mirror.yaml").read_text(encoding="utf-8"), end="")
        say("The first night")
        _mirror(directory, "--verbose")
        say("What people use")
        _show_tree(directory / "mirror")
        say("The same in SQL, with paths of this site")
        _query(directory / "mirror" / "catalogue.db")
        say("A night without news says nothing, as under cron")
        _mirror(directory)
        say("Everything is read again and compared")
        _mirror(directory, "--verify")
        _mirror(directory, "--status")


def _status(directory: Path) -> None:
    say("The partner has reported what it mirrored in a Data Store of its own")
    with serving(directory, "partner.config") as uri:
        where = ("-dest_name", "north", "-status_uri", f"{uri}north-status")
        server(directory, "disttool", "-updatedestination", *where)
        server(directory, "checkstatus")


def _query(database: Path) -> None:
    import sqlite3

    print(f"sqlite> {_QUERY}")
    connection = sqlite3.connect(database)
    try:
        for row in connection.execute(_QUERY):
            print("  ".join(map(str, row)))
    finally:
        connection.close()


def server(directory: Path, *words: str) -> None:
    """Run a command of the server half; see `call`."""
    call(directory, "-m", "server", *words)


def _mirror(directory: Path, *options: str) -> None:
    call(directory, str(CHECKOUT / "update_mirror.py"), "-c", "mirror.yaml", *options)


def call(directory: Path, *arguments: str, typed: str | None = None) -> None:
    """Run one of the commands, its words shown first; a failure ends the demonstration.

    `typed`: what people would type to the same end, with a pattern that a shell expands.
    """
    shown = [Path(one).name if one.endswith(".py") else one for one in arguments]
    print(f"$ {typed or f'python {shlex.join(shown)}'}", flush=True)
    status = subprocess.run(
        [sys.executable, *arguments], cwd=directory, env=environment(), check=False
    ).returncode
    if status:
        raise ConfigError([f"the demonstration stops: exit status {status}"])


def environment() -> dict[str, str]:
    """The environment of everything that is run."""
    # Loopback needs no proxy, the checkout need not be installed, and the demonstration's own
    # configuration is the only one.
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
    ours = {"PYTHONPATH": str(CHECKOUT), "no_proxy": "127.0.0.1", "SITE_CONFIG": "site.config"}
    return kept | ours


@contextmanager
def serving(directory: Path, site: str, *options: str) -> Iterator[str]:
    """Serve a Data Store on a port that the system picks, while the block runs."""
    command = ["-m", "server", "serve", "--site", site, "--port", "0", *options]
    print(f"$ python {shlex.join(command)} &", flush=True)
    with subprocess.Popen(
        [sys.executable, *command],
        cwd=directory, env=environment(), stdout=subprocess.PIPE, text=True,
    ) as server:  # fmt: skip
        try:
            assert server.stdout is not None
            line = server.stdout.readline()
            if " at " not in line:
                raise ConfigError(["the server did not start"])
            print(line, end="")
            yield line.rpartition(" at ")[2].strip()
        finally:
            server.terminate()


def _show_tree(root: Path) -> None:
    lines = [
        "    " * (len(path.relative_to(root).parts) - 1) + path.name + ("/" * path.is_dir())
        for path in sorted(root.rglob("*"))
        if ".mirror" not in path.parts
    ]
    print("\n".join([f"{root.name}/", *("    " + line for line in lines[:SHOWN])]))
    if len(lines) > SHOWN:
        print(f"    … {len(lines) - SHOWN} more")


def say(what: str) -> None:
    """Print what comes next."""
    print(f"\n── {what}", flush=True)


def shown(path: Path) -> str:
    """A path as people are told it: below the checkout, if it is there."""
    return str(path.relative_to(CHECKOUT)) if path.is_relative_to(CHECKOUT) else str(path)
