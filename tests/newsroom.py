"""A site that publishes detections: finished runs with files on disk, clients, a translator."""

import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from client import Ran
from commands import typed
from places import data_store, environment_of
from pubruns import VERSION

from mirror.run_tables import import_run
from server.catalogue import catalogue
from server.modes import format_rows
from server.site import Place

LABEL = "nightly"
COMMENT = "moving objects"

_TABLES = ("dsProduct", "dsFileset", "dsFile", "publishClient", "publishRun", "publishDone")

# What a translator of a site may do: its arguments are the inputs and, last, the output.
_TRANSLATOR = """\
import json, os, sys
*inputs, output = sys.argv[1:]
with open({seen!r}, "a") as file:
    file.write(json.dumps(sys.argv[1:]) + "\\n")
data = b"".join(open(name, "rb").read() for name in inputs)
print("read", len(inputs), "files")
{twist}
with open(output, "xb") as file:
    file.write(b"for moving objects: " + data)
"""


def document(tables: Mapping[str, Sequence[Mapping[str, tuple[str, object]]]]) -> bytes:
    """An exported run: of each table its rows, of each row the columns with type and value."""
    text = VERSION
    for table, rows in tables.items():
        columns = {name: kind for name, (kind, _) in rows[0].items()}
        values = [[value for _, value in row.values()] for row in rows]
        text += "\n" + format_rows(table, columns, values, simple=False)
    return text.encode()


def is_gone(pid: int) -> bool:
    """Whether a process has ended; one that nobody waits for stays as a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


class Newsroom:
    """A site below `directory`, with the commands of this process and its own environment."""

    def __init__(
        self, directory: Path, place: Place, patch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:  # fmt: skip
        self.directory = directory
        self.root = data_store(directory)
        self.place = place
        self.neb = directory / "neb"
        self.neb.mkdir()
        self.work = self.neb / "any"
        self._capsys = capsys
        self._config = directory / "site.config"
        self.environ = {"DATA_STORE_ROOT": str(self.root), "SITE_CONFIG": str(self._config)}
        self.environ.update(environment_of(place))
        for name, value in self.environ.items():
            patch.setenv(name, value)
        self.configure()

    def configure(self, *lines: str) -> None:
        """Write the site configuration."""
        self._config.write_text("\n".join((f"NEB_ROOT STR {self.neb}", *lines, "")))

    def translate(self, twist: str = "", product: str = "IPP-MOPS") -> None:
        """Translate for a product by a script that does `twist` before it writes its output."""
        script = self.directory / "translator.py"
        script.write_text(_TRANSLATOR.format(seen=str(self.directory / "seen"), twist=twist))
        words = shlex.join([sys.executable, str(script)])
        self.configure("TRANSLATE METADATA", f"  {product} STR {words}", "END")

    def __call__(self, *arguments: str) -> Ran:
        """Run a command to its end."""
        self._capsys.readouterr()
        return typed(self._capsys, *arguments)

    def must(self, *arguments: str) -> str:
        """Run a command that has to succeed without a complaint; returns what it printed."""
        ran = self(*arguments)
        assert (ran.exit, ran.stderr) == (0, "")
        return ran.stdout

    # Runs of the pipeline

    def diff(
        self, number: int, skycells: Sequence[str] = ("skycell.1", "skycell.2"), *,
        bothways: bool = True, poor: Sequence[str] = (), volume: str = "v", state: str = "full",
    ) -> None:  # fmt: skip
        """A finished difference run; the skycells that are `poor` have no files."""
        base = f"neb://{volume}/d{number}"
        rows = []
        for skycell in (*skycells, *poor):
            path_base = f"{base}/{skycell}/RINGS.{skycell}.dif.{number}"
            quality = 8006 if skycell in poor else 0
            rows.append(
                {
                    "diff_id": ("S64", number), "skycell_id": ("STR", skycell),
                    "path_base": ("STR", path_base), "quality": ("S16", quality),
                    "fault": ("S16", None),
                }
            )  # fmt: skip
            if not quality:
                self.output(
                    path_base, {"PPSUB.OUTPUT.SOURCES": ".cmf", "PPSUB.INVERSE.SOURCES": ".inv.cmf"}
                )
        run = {
            "diff_id": ("S64", number), "state": ("STR", state), "label": ("STR", LABEL),
            "bothways": ("BOOL", bothways),
        }  # fmt: skip
        self.store({"diffRun": [run], "diffSkyfile": rows})

    def camera(self, number: int, rules: Mapping[str, str] | None = None) -> None:
        """A finished camera run with the exposure that it is of."""
        path_base = f"neb://v/c{number}/o{number}o.cm.{number}"
        self.output(path_base, rules or {"PSASTRO.OUTPUT": ".smf"})
        of = {"label": ("STR", LABEL), "state": ("STR", "full")}
        self.store(
            {
                "rawExp": [
                    {
                        "exp_id": ("S64", number), "exp_name": ("STR", f"o{number}o"),
                        "camera": ("STR", "GPC1"),
                    }
                ]
            }
        )  # fmt: skip
        self.store({"chipRun": [{"chip_id": ("S64", number), "exp_id": ("S64", number), **of}]})
        run = {"cam_id": ("S64", number), "chip_id": ("S64", number), **of}
        row = {
            "cam_id": ("S64", number), "path_base": ("STR", path_base), "quality": ("S16", 0),
            "fault": ("S16", 0),
        }  # fmt: skip
        self.store({"camRun": [run], "camProcessedExp": [row]})

    def store(self, tables: Mapping[str, Sequence[Mapping[str, tuple[str, object]]]]) -> None:
        """Import an exported run."""
        with catalogue(self.place, create=True) as database, database.write():
            import_run(database, [document(tables)], "run.mdc")

    def output(self, path_base: str, rules: Mapping[str, str]) -> None:
        """Write the files of a component, each with its own path as content, and their dump."""
        base = self.path(path_base)
        base.parent.mkdir(parents=True, exist_ok=True)
        lines = "".join(f"  {rule} STR {path_base}{end}\n" for rule, end in rules.items())
        Path(f"{base}.mdc").write_text(f"FILES.OUTPUT METADATA\n{lines}END\n")
        for end in rules.values():
            Path(f"{base}{end}").write_bytes(f"{base.name}{end};".encode())

    def path(self, name: str) -> Path:
        """Where neb://VOLUME/… is."""
        return self.neb / name.split("/", 3)[3]

    # Publishing

    def client(self, product: str = "IPP-MOPS", stage: str = "diff") -> None:
        """A client with its product, and a publish run for each run that is finished."""
        self.must(
            "pubtool", "-defineclient", "-stage", stage, "-product", product,
            "-workdir", "neb://any/any/", "-comment", COMMENT,
        )  # fmt: skip
        self.must("pubtool", "-definerun", "-label", LABEL)

    def pending(self) -> list[int]:
        """The publish runs that are pending."""
        lines = self.must("pubtool", "-pending", "-all", "-simple").splitlines()
        return [int(line.split()[0]) for line in lines]

    def registered(self) -> dict[str, list[str]]:
        """Every registered fileset with the names of its files."""
        with catalogue(self.place) as database:
            rows = database.rows(
                """SELECT prod_name, fileset_name, file_name FROM dsFileset
                JOIN dsProduct ON dsProduct.prod_id = dsFileset.prod_id
                LEFT JOIN dsFile ON dsFile.fileset_id = dsFileset.fileset_id
                ORDER BY dsFileset.fileset_id, file_id"""
            )
        found: dict[str, list[str]] = {}
        for product, fileset, file in rows:
            found.setdefault(f"{product}/{fileset}", []).append(file)
        return found

    def attempts(self) -> list[tuple[int, str, str, int, str | None]]:
        """pub_id, state, path_base, fault and message of each run with an attempt."""
        with catalogue(self.place) as database:
            rows = database.rows(
                """SELECT p.pub_id, p.state, d.path_base, d.fault, d.message FROM publishRun p
                JOIN publishDone d ON d.pub_id = p.pub_id ORDER BY p.pub_id"""
            )
        return [(row[0], row[1], row[2], row[3], row[4]) for row in rows]

    def rows(self) -> dict[str, object]:
        """What the database holds of products, filesets and publishing."""
        with catalogue(self.place) as database:
            return {table: database.rows(f"SELECT * FROM {table} ORDER BY 1") for table in _TABLES}

    def files(self, directory: Path | None = None) -> dict[str, bytes]:
        """Every file of the Data Store, or below `directory`, the database's own aside."""
        top = directory or self.root
        return {
            str(path.relative_to(top)): path.read_bytes()
            for path in sorted(top.rglob("*"))
            if path.is_file() and not path.name.startswith((".datastore", "catalogue.db"))
        }

    def translations(self) -> int:
        """How often the translator was called."""
        seen = self.directory / "seen"
        return len(seen.read_text().splitlines()) if seen.exists() else 0

    def environment(self) -> dict[str, str]:
        """The environment of a command that is a process of its own."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("DS_")}
        return {**kept, **self.environ}
