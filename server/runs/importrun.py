"""`importrun`: read exported runs (dbinfo documents) into the database, all of them or none.

It is the `xxxtool -importrun` of the original, for runs of every stage (PROTOCOL section 3). A run
that is there already gets the rows that come and loses those that do not, so that importing it
again changes nothing. What a document has of other runs is left out, and told.

Exit status: 0 done; 2 usage, a file cannot be read, the database does not answer; 3 the site is
not set up; 5 a file is no exported run, or does not fit what was imported before.
"""

import argparse
import gzip
import zlib
from collections.abc import Iterator, Sequence
from typing import BinaryIO

from mirror.disk import told
from mirror.errors import IntegrityError
from mirror.run_tables import Imported, import_run
from server.catalogue import catalogue
from server.command import about, tell
from server.database import Database
from server.runs.stages import STAGES
from server.site import add_site_options, read_site

_CHUNK = 2**18
_GZIP = b"\x1f\x8b"


def main(argv: list[str]) -> int:
    """Import the files that `argv` names, and tell of each; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="importrun", allow_abbrev=False, description=about(__doc__),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument(
        "files", nargs="+", metavar="FILE.mdc", help="an exported run, gzip-compressed or not"
    )
    add_site_options(parser)
    options = parser.parse_args(argv)
    site = read_site(options)
    with catalogue(site.database, create=True) as database:
        done = import_files(database, options.files)
    tell("\n".join(map(_told, options.files, done)))
    return 0


def import_files(database: Database, paths: Sequence[str]) -> list[Imported]:
    """Import the exported runs in these files, gzip-compressed or not, in one transaction.

    Raises IntegrityError with every problem of every file, LocalError for a file that cannot be
    read; nothing is imported then.
    """
    done: list[Imported] = []
    problems: list[str] = []
    with database.write():
        for path in paths:
            try:
                done.append(import_run(database, _chunks(path), path))
            except IntegrityError as error:
                problems.append(str(error))
        if problems:
            raise IntegrityError("\n".join(problems))
    return done


def _chunks(path: str) -> Iterator[bytes]:
    """The document in a file, piece by piece."""
    with told(path), open(path, "rb") as file:
        if file.peek(2)[:2] == _GZIP:
            yield from _unpacked(file, path)
            return
        while chunk := file.read(_CHUNK):
            yield chunk


def _unpacked(file: BinaryIO, path: str) -> Iterator[bytes]:
    with gzip.GzipFile(fileobj=file) as unpacked:
        while True:
            try:
                chunk = unpacked.read(_CHUNK)
            except (gzip.BadGzipFile, zlib.error, EOFError) as error:
                raise IntegrityError(f"{path}: damaged gzip: {error}") from None
            if not chunk:
                return
            yield chunk


def _told(path: str, done: Imported) -> str:
    stage = next((one.name for one in STAGES.values() if one.run_table == done.run_table), None)
    first = f"{stage or done.run_table} {done.run_id}"
    more = f" and {done.runs - 1} more" if done.runs > 1 else ""
    rows, tables = _count(done.rows, "row"), _count(len(done.tables), "table")
    left_out = "".join(f"; left out: {one}" for one in done.left_out)
    line = f"imported {first}{more} from {path}: {rows} in {tables}{left_out}"
    return "\n".join((line, *done.changed))


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
