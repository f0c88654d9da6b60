"""A site with finished runs of few small files, and what is to be distributed of them."""

import gzip
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import md5
from pathlib import Path

from client import PROJECT
from places import data_store, environment_of

from mirror.run_tables import import_run
from server.catalogue import add_product, catalogue, find_fileset, find_product
from server.contents import files_after, filesets_after
from server.database import Database
from server.site import Place, Roots, Site

LABELS = ("target_id", "stage", "stage_id", "exp_name", "data_group", "filter")
WORKDIR = "neb://ipp009.0/gpc1/night"

_VERSION = "dbversion MULTI\ndbversion METADATA\n  schema_version STR 1.1.70\nEND\n"
_RUN = """chipRun MULTI
chipRun METADATA
  chip_id S64 {run}
  state STR full
  workdir STR {workdir}
  label STR nightly
END
chipProcessedImfile MULTI
"""
_ROW = """chipProcessedImfile METADATA
  chip_id S64 {run}
  class_id STR {component}
  data_state STR full
  uri STR NULL
  path_base STR {path_base}
  quality S16 {quality}
END
"""


@dataclass(frozen=True)
class Component:
    """A component of a chip run: the names of its outputs by rule, and whether it is poor."""

    name: str
    outputs: tuple[tuple[str, str], ...]
    quality: int = 0


def usual(name: str) -> Component:
    """A component with an image, a catalogue and a log, named for `name`."""
    return Component(
        name,
        (
            ("PPIMAGE.CHIP", f"o1.{name}.ch.fits"),
            ("PSPHOT.OUTPUT", f"o1.{name}.cmf"),
            ("LOG.IMFILE", f"o1.{name}.log"),
        ),
    )


class Finished:
    """The site: `neb` stands for neb://VOLUME/, `bundles` for the directory of all outdirs."""

    def __init__(self, directory: Path, place: Place, database: Database) -> None:
        self.directory = directory
        self.neb = directory / "neb"
        self.bundles = self.neb / "dist"
        self.database = database
        self.site = Site(data_store(directory), place, None, Roots(self.neb))
        config = directory / "site.config"
        config.write_text(f"NEB_ROOT STR {self.neb}\n")
        self.environ = {**os.environ, "SITE_CONFIG": str(config)}
        self.environ["DATA_STORE_ROOT"] = str(self.site.root)
        self.environ.update(environment_of(place))
        for product in ("one", "two"):
            add_product(database, product, "ipp-dist", "a destination", LABELS)
            (self.site.root / product).mkdir()

    # What there is

    def chip_run(self, run: int, components: Sequence[Component]) -> None:
        """Import a chip run and write its files and its config dumps."""
        rows = ""
        for one in components:
            path_base = f"{WORKDIR}/o1.{run}/o1.ch.{run}"
            self.write(run, one)
            rows += _ROW.format(
                run=run, component=one.name, path_base=path_base, quality=one.quality
            )  # fmt: skip
        document = _VERSION + _RUN.format(run=run, workdir=WORKDIR) + rows
        with self.database.write():
            import_run(self.database, [document.encode()], f"chip {run}")

    def work(self, run: int) -> Path:
        """Where the files of a chip run are."""
        return self.neb / f"gpc1/night/o1.{run}"

    def write(self, run: int, component: Component) -> None:
        """The files of a component, each of its own bytes, and its dump, gzipped as many are."""
        directory = self.work(run)
        directory.mkdir(parents=True, exist_ok=True)
        lines = ""
        for rule, name in component.outputs:
            (directory / name).write_bytes(f"{run} {name}\n".encode() * 99)
            lines += f"  {rule} STR {WORKDIR}/o1.{run}/{name}\n"
        dump = f"FILES.OUTPUT METADATA\n{lines}  TRACE.IMFILE STR /gone\nEND\n"
        path = directory / f"o1.ch.{run}.{component.name}.mdc"
        path.write_bytes(gzip.compress(dump.encode(), mtime=0))

    def destination(self, product: str, target: int) -> int:
        """A destination with that product, interested in the target; its dest_id."""
        with self.database.write():
            row = self.database.row(
                "INSERT INTO rcDestination (name, product, state) VALUES (?, ?, 'enabled')"
                " RETURNING dest_id",
                product, product,
            )  # fmt: skip
            assert row
            self.database.change("INSERT INTO rcInterest VALUES (?, ?, 'enabled')", row[0], target)
        return int(row[0])

    def target(self, *, clean: bool = False) -> int:
        """A target of chip runs; its target_id."""
        with self.database.write():
            row = self.database.row(
                "INSERT INTO distTarget (dist_group, filter, stage, clean, state)"
                " VALUES ('all', ?, 'chip', ?, 'enabled') RETURNING target_id",
                "%", int(clean),
            )  # fmt: skip
        assert row
        return int(row[0])

    def define(
        self, run: int, components: Sequence[Component], target: int, *, clean: bool = False
    ) -> int:
        """A distRun of a chip run with components to be bundled; its dist_id."""
        outdir = f"neb://any/dist/chip.{run}"
        with self.database.write():
            row = self.database.row(
                """INSERT INTO distRun (target_id, stage, stage_id, label, outdir, clean, state,
                exp_name, data_group, filter)
                VALUES (?, 'chip', ?, 'nightly', ?, ?, 'new', 'o1', NULL, 'r.00000')
                RETURNING dist_id""",
                target, run, outdir, int(clean),
            )  # fmt: skip
            assert row
            self.database.change_many(
                "INSERT INTO distComponent (dist_id, component, outdir, state)"
                " VALUES (?, ?, ?, 'new')",
                [(row[0], one.name, outdir) for one in components],
            )
        return int(row[0])

    def night(self, runs: Sequence[int], components: Sequence[str]) -> list[int]:
        """Runs of usual components for both products, all to be distributed; their dist_ids."""
        target = self.target()
        for product in ("one", "two"):
            self.destination(product, target)
        some = [usual(name) for name in components]
        for run in runs:
            self.chip_run(run, some)
        return [self.define(run, some, target) for run in runs]

    # What is done

    def start(self, *options: str) -> "subprocess.Popen[str]":
        """`disttool -run` as a process."""
        return subprocess.Popen(
            [sys.executable, "-m", "server", "disttool", "-run", *options],
            cwd=PROJECT, env=self.environ, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    # What came of it

    def state(self, dist_id: int) -> tuple[str, int]:
        """State and fault of a distRun."""
        row = self.database.row("SELECT state, fault FROM distRun WHERE dist_id = ?", dist_id)
        assert row
        return row[0], row[1]

    def faults(self, dist_id: int) -> dict[str, tuple[int, str]]:
        """Code and message of each component with a fault."""
        rows = self.database.rows(
            "SELECT component, fault, message FROM distComponent WHERE dist_id = ? AND fault <> 0",
            dist_id,
        )
        return {row[0]: (row[1], row[2]) for row in rows}

    def filesets(self, product: str) -> list[str]:
        """The filesets of a product, in the order of its list."""
        owner = find_product(self.database, product)
        assert owner
        return [one.name for one in filesets_after(self.database, owner, 0, 10_000)]

    def files(self, product: str, fileset: str) -> list[tuple[str, str, str | None]]:
        """Name, type and component of each file of a fileset; what is served has its sum."""
        owner = find_product(self.database, product)
        there = owner and find_fileset(self.database, owner, fileset)
        assert there
        files = [one.file for one in files_after(self.database, there, 0, 10_000)]
        for file in files:
            data = (self.site.root / product / fileset / file.name).read_bytes()
            assert (len(data), md5(data).hexdigest()) == (file.size, file.md5), file.name
        return [(file.name, file.type, file.values[0]) for file in files]

    def is_whole(self, run: int, dist_id: int, components: Sequence[str]) -> None:
        """The run is registered for both products, and its bundles hold what the run does."""
        bundles = [(f"o1.ch.{run}.{name}.tgz", "tgz", name) for name in components]
        documents = [(f"{kind}.chip.{run}.mdc", "text", kind) for kind in ("dbinfo", "dirinfo")]
        assert self.state(dist_id) == ("full", 0)
        for number, product in enumerate(("one", "two"), 1):
            name = f"o1.chip.{run}.{dist_id}.{number}"
            assert self.files(product, name) == documents + bundles
        for bundle, _, component in bundles:
            names = [
                *(name for _, name in usual(component).outputs),
                f"o1.ch.{run}.{component}.mdc",
            ]
            assert members(self.bundles / f"chip.{run}" / bundle) == {
                name: (self.work(run) / name).read_bytes() for name in names
            }

    def litter(self) -> list[str]:
        """What is left of attempts: files with temporary names."""
        places = (self.bundles, self.site.root / "one", self.site.root / "two")
        return [str(path) for place in places for path in place.rglob(".*")]


def members(bundle: Path) -> dict[str, bytes]:
    """The members of a bundle by their base names, as tar reads them."""
    found = {}
    with tarfile.open(bundle, "r:gz") as archive:
        for member in archive:
            file = archive.extractfile(member)
            assert file
            assert member.name.startswith("./")
            found[member.name[2:]] = file.read()
    return found


@contextmanager
def finished(directory: Path, place: Place) -> Iterator[Finished]:
    """A site without any run, for the length of a `with`."""
    with catalogue(place, create=True) as database:
        yield Finished(directory, place, database)
