"""A site that publishes: its Data Store, filled by the commands that people type."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from client import PATIENCE, PROJECT, Ran

from mirror.listing import (
    FileRow,
    FilesetRow,
    ProductRow,
    read_files,
    read_filesets,
    read_products,
)


class Publisher:
    """A Data Store at `directory`/datastore with the catalogue that `environ` names."""

    def __init__(self, directory: Path, environ: Mapping[str, str] | None = None) -> None:
        self.root = directory / "datastore"
        self.root.mkdir(parents=True)
        self._environ = dict(environ or {})

    def command(
        self, *arguments: str, stdin: str = "", program: Sequence[str] = ("-m", "server")
    ) -> Ran:
        """Run `python -m server …`, or another `program` of Python, to its end."""
        ended = subprocess.run(
            [sys.executable, *program, *arguments],
            cwd=PROJECT,
            env=self.environment(),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        return Ran(ended.returncode, ended.stdout, ended.stderr)

    def must(self, *arguments: str, stdin: str = "") -> str:
        """Run a command that has to succeed; returns what it printed."""
        ran = self.command(*arguments, stdin=stdin)
        assert ran.exit == 0, ran.stderr
        assert ran.stderr == ""
        return ran.stdout

    def environment(self) -> dict[str, str]:
        """The environment of a command: the store and catalogue of this site."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("DS_")}
        return {**kept, **self._environ, "DATA_STORE_ROOT": str(self.root)}

    def product(self, name: str, kind: str, *labels: str, options: Sequence[str] = ()) -> None:
        """Add a product with columns of its own."""
        columns = [part for n, label in enumerate(labels) for part in (f"--ps{n}", label)]
        self.must(
            "dsprodtool", "--add", name, "--type", kind, "--description", f"{name} of the tests",
            *columns, *options,
        )  # fmt: skip

    def register(
        self, product: str, name: str, source: Path, lines: str, *options: str, kind: str
    ) -> None:
        """Register a fileset whose files are copied from `source`."""
        self.must(
            "dsreg", "--add", name, "--product", product, "--type", kind, "--list", "-",
            "--copy", "--datapath", str(source), *options, stdin=lines,
        )  # fmt: skip

    def publish(self, tree: Path, *products: str) -> None:
        """Register everything that a store of plain files holds, in its order."""
        for product in read_products([(tree / "index.txt").read_bytes()]):
            assert isinstance(product, ProductRow)
            if products and product.name not in products:
                continue
            data = (tree / product.name / "index.txt").read_bytes()
            rows = [row for row in read_filesets([data]) if isinstance(row, FilesetRow)]
            self.product(product.name, product.type, *(rows[0].header.names[3:] if rows else ()))
            for row in rows:
                self._republish(product.name, row, tree / product.name / row.name)

    def _republish(self, product: str, row: FilesetRow, source: Path) -> None:
        files = [
            file
            for file in read_files([(source / "index.txt").read_bytes()])
            if isinstance(file, FileRow)
        ]
        lines = "".join("|".join(file.cells) + "|\n" for file in files)
        values = [
            part
            for number, value in enumerate(row.extra())
            if value != "null"
            for part in (f"--ps{number}", value)
        ]
        self.register(product, row.name, source, lines, *values, kind=row.type)

    @contextmanager
    def serving(self, *options: str) -> Iterator[str]:
        """Serve the store by `python -m server serve`; gives the URL."""
        with serving_process(self.environment(), *options) as (url, _):
            yield url


@contextmanager
def serving_process(
    environ: Mapping[str, str], *options: str
) -> Iterator[tuple[str, "subprocess.Popen[str]"]]:
    """`python -m server serve` on a port that the system picks; gives its URL and the process."""
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "server", "serve", "--port", "0", *options],
        cwd=PROJECT,
        env=dict(environ),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout
        line = process.stdout.readline()
        if not line:
            raise AssertionError(f"no server: {process.communicate(timeout=PATIENCE)[1]}")
        yield line.split()[-1], process
    finally:
        process.terminate()
        process.communicate(timeout=PATIENCE)
