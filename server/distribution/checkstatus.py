"""`checkstatus`: read what destinations report, and mark what they have received.

A destination with a status_uri keeps a status product in a Data Store of its own: one empty
fileset for each that it received, or failed to, with the columns `fileset name` and `fault`
(PROTOCOL section 4). Each call reads what came after the last one that was read.

Exit status: 0 done; 1 something is wrong with a destination (the others are read all the same),
or another process does this now; 2 usage, or this machine is in the way; 3 configuration.
"""

import argparse
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import IO

from mirror.errors import ConfigError, ListError, LocalError, MirrorError
from mirror.listing import FilesetRow, Header, Malformed, read_filesets
from mirror.report import printable, say
from server.addstatus import FAULT_LABEL, MAX_FAULT, NAME_LABEL
from server.catalogue import catalogue
from server.command import about, tell
from server.database import Database
from server.distribution.status_list import MAX_SECONDS, Source, fetched, read_source
from server.site import add_site_options, read_site
from server.store_lock import hold_work

PAGE = 500
"""Reports that are marked in one transaction."""

MAX_TOLD = 3
"""Malformed rows of one list that are told one by one."""

NEW, FULL = "new", "full"
"""States of an rcRun: a fileset is on its way, or has arrived."""

_CHUNK = 1 << 16

_Known = tuple[int, str | None, int | None, str | None]


@dataclass(frozen=True, slots=True)
class Destination:
    """A destination that reports. `last`: the last status fileset that was read."""

    id: int
    name: str
    status_uri: str
    last: str | None


@dataclass(frozen=True, slots=True)
class Report:
    """A row of a status product: the status fileset, what it is about, and its fault."""

    status_name: str
    fileset: str
    fault: int


@dataclass(slots=True)
class News:
    """What reading one destination's list brought; `full` and `faulty` count what is marked."""

    full: int = 0
    faulty: int = 0
    unknown: int = 0
    malformed: int = 0
    problems: list[str] = field(default_factory=list)

    def problem(self, text: str) -> None:
        """A row that cannot be read; the last fileset stops before it."""
        self.malformed += 1
        if self.malformed <= MAX_TOLD:
            self.problems.append(text)


def main(argv: list[str]) -> int:
    """Read every destination's reports, and tell what is new; returns the exit status."""
    options = _parser().parse_args(argv)
    site = read_site(options)
    trouble = False
    with catalogue(site.database) as database, hold_work(site.root, "checkstatus"):
        for destination in destinations(database):
            news = News()
            try:
                check(database, destination, news, options.timeout)
            except LocalError:
                raise
            except MirrorError as error:
                news.problems.append(str(error))
            _tell(destination, news, verbose=options.verbose)
            trouble = trouble or bool(news.problems)
    return int(trouble)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="checkstatus", allow_abbrev=False, description=about(__doc__),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add = parser.add_argument
    add("--timeout", "-timeout", metavar="SECONDS", type=_seconds, default=30.0,
        help="how long a server may be silent (default 30); in all it has ten times as long, at"
        f" most {MAX_SECONDS:.0f}")  # fmt: skip
    add("-v", "--verbose", action="store_true", help="also tell where there is nothing to mark")
    add_site_options(parser)
    return parser


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value <= 86400:
        raise argparse.ArgumentTypeError(f"seconds, up to 86400, expected, not {text!r}")
    return value


def _tell(destination: Destination, news: News, *, verbose: bool) -> None:
    name = destination.name
    if news.full or news.faulty:
        faulty = f", {news.faulty} faulty" if news.faulty else ""
        tell(f"{name}: {news.full} full{faulty}")
    elif verbose and not news.problems:
        tell(f"{name}: nothing new")
    if verbose and news.unknown:
        tell(f"{name}: {news.unknown} reports of filesets that are not distributed to it")
    for problem in news.problems:
        say(f"checkstatus: {printable(f'{name}: {problem}')}")
    if news.malformed > MAX_TOLD:
        say(f"checkstatus: {name}: and {news.malformed - MAX_TOLD} more malformed rows")


def destinations(database: Database) -> list[Destination]:
    """The enabled destinations that have a status_uri."""
    rows = database.rows(
        """SELECT dest_id, name, status_uri, last_fileset FROM rcDestination
        WHERE state = 'enabled' AND status_uri IS NOT NULL AND status_uri <> ''
        ORDER BY dest_id"""
    )
    return [Destination(*row) for row in rows]


def check(database: Database, destination: Destination, news: News, timeout: float = 30.0) -> None:
    """Read what a destination reports after `last`, mark it, and add up `news`.

    Marks and the last fileset change together, page by page. Raises ConfigError for its
    status_uri, TransportError, RefusedError or ListError for what the server answers, LocalError
    where the database fails.
    """
    with fetched(_source(destination), destination.last, timeout) as file:
        skip = _position(file, destination.last) if destination.last else 0
        reports = _reports(islice(_rows(file), skip, None), news)
        while page := list(islice(reports, PAGE)):
            _take(database, destination, page, news)


def _source(destination: Destination) -> Source:
    try:
        return read_source(destination.status_uri)
    except ConfigError as error:
        mending = "disttool -updatedestination mends it"
        raise ConfigError([f"{problem}; {mending}" for problem in error.problems]) from None


def _rows(file: IO[bytes]) -> Iterator[FilesetRow | Malformed]:
    file.seek(0)
    return read_filesets(iter(lambda: file.read(_CHUNK), b""))


def _position(file: IO[bytes], last: str) -> int:
    """How many rows are known already: those up to `last`, where the server sent the whole list."""
    known = 0
    for count, row in enumerate(_rows(file), 1):
        if isinstance(row, FilesetRow) and row.name == last:
            known = count
    return known


def _reports(rows: Iterator[FilesetRow | Malformed], news: News) -> Iterator[tuple[Report, bool]]:
    """The reports of a list, and whether the last fileset may move to each.

    It stops before what cannot be read, so that this is read again until it is mended. Raises
    ListError where the list has not the columns of a status product.
    """
    header: Header | None = None
    places = (0, 0)
    for row in rows:
        if isinstance(row, Malformed):
            news.problem(f"line {row.line} of its list is malformed: {row.reason}")
            continue
        if row.header is not header:
            header, places = row.header, _places(row.header)
        name, fault = (row.cells[at] if at < len(row.cells) else "null" for at in places)
        if name in ("", "null"):
            news.problem(f"line {row.line} of its list is malformed: no {NAME_LABEL!r}")
        elif not _is_fault(fault):
            news.problem(
                f"line {row.line} of its list is malformed: a fault from 0 to {MAX_FAULT} expected,"
                f" not {fault!r}"
            )
        else:
            yield Report(row.name, name, int(fault)), not news.malformed


def _is_fault(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 10 and int(text) <= MAX_FAULT


def _places(header: Header) -> tuple[int, int]:
    """Where the two columns stand, in whatever order."""
    folded = [name.lower() for name in header.names]
    missing = [label for label in (NAME_LABEL, FAULT_LABEL) if label not in folded]
    if missing:
        raise ListError(
            f"this is no status product: its list has no column {', '.join(map(repr, missing))}; it"
            f" has {', '.join(map(repr, header.names))}"
        )
    return folded.index(NAME_LABEL), folded.index(FAULT_LABEL)


def _take(
    database: Database,
    destination: Destination,
    page: list[tuple[Report, bool]],
    news: News,
) -> None:
    """Mark a page of reports; of one fileset the latest counts."""
    latest = {report.fileset: report for report, _ in page}
    passed = [report.status_name for report, may_pass in page if may_pass]
    with database.write():
        known = _known(database, destination, latest)
        marks = list(_marks(destination, latest.values(), known))
        database.change_many(
            """INSERT INTO rcRun (fs_id, dest_id, state, status_fs_name, fault, message)
            VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (fs_id) DO UPDATE SET state = excluded.state,
            status_fs_name = excluded.status_fs_name, fault = excluded.fault,
            message = excluded.message""",
            marks,
        )
        if passed:
            database.change(
                "UPDATE rcDestination SET last_fileset = ? WHERE dest_id = ?",
                passed[-1], destination.id,
            )  # fmt: skip
    faulty = sum(mark[2] == NEW for mark in marks)
    news.full += len(marks) - faulty
    news.faulty += faulty
    news.unknown += len(latest) - len(known)


def _marks(
    destination: Destination, reports: Iterable[Report], known: Mapping[str, _Known]
) -> Iterator[tuple[object, ...]]:
    """The rows of rcRun that reports change: (fs_id, dest_id, state, report, fault, message)."""
    for report in reports:
        if report.fileset not in known:
            continue
        number, *before = known[report.fileset]
        state = NEW if report.fault else FULL
        if before != [state, report.fault, report.status_name]:
            said = f"fault {report.fault} reported by {report.status_name}"
            message = said if report.fault else None
            yield number, destination.id, state, report.status_name, report.fault, message


def _known(
    database: Database, destination: Destination, names: Mapping[str, Report]
) -> dict[str, _Known]:
    """Of the filesets that are distributed to it: number, and state, fault and report so far."""
    rows = database.rows(
        f"""SELECT f.name, f.fs_id, r.state, r.fault, r.status_fs_name FROM rcDSFileset f
        LEFT JOIN rcRun r ON r.fs_id = f.fs_id
        WHERE f.dest_id = ? AND f.name IN ({", ".join("?" * len(names))}) ORDER BY f.fs_id""",
        destination.id, *names,
    )  # fmt: skip
    return {row[0]: (row[1], row[2], row[3], row[4]) for row in rows}
