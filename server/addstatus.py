"""`addstatus`: report mirrored filesets in a status product of this site's own Data Store.

A line of the list, STATUS_FILESET|FILESET|FAULT|, becomes one empty fileset, whose columns
`fileset name` and `fault` tell the publisher what became of FILESET (0: it is mirrored). One that
is there already with the same values is done. The product is made if it is not there.

Exit status: 0 done; 1 a name is taken by something else, or another process works on it; 2 usage,
or this machine is in the way; 3 something in the list, or the product, is refused.
"""

import argparse
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from mirror.disk import told
from mirror.errors import ConfigError
from server.accepted import fileset_problems, product_problems
from server.catalogue import NewFileset, Product, Values, catalogue, find_fileset, find_product
from server.command import about, tell
from server.database import Database
from server.dsprodtool import ensure_product
from server.register import register
from server.site import Site, add_site_options, read_site
from server.store_lock import ConflictError

NAME_LABEL = "fileset name"
FAULT_LABEL = "fault"
LABELS = (NAME_LABEL, FAULT_LABEL)
"""The columns of a status product (PROTOCOL section 4)."""

KIND = "notset"
PRODUCT_TYPE = "ipp-misc"
DESCRIPTION = "what became of mirrored filesets"

MAX_FAULT = 2**31 - 1
"""The largest fault that every database holds."""

_FAULT = re.compile(r"[0-9]{1,10}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Status:
    """A line of the list: what the status fileset is called, what it is about, and its fault."""

    name: str
    fileset: str
    fault: int
    line: int


def main(argv: list[str]) -> int:
    """Register what the list says, and tell how much; returns the exit status."""
    options = _parser().parse_args(argv)
    site = read_site(options)
    statuses, problems = read_statuses(_read(options.list))
    if problems:
        raise ConfigError(problems)
    with catalogue(site.database, create=True) as database:
        product = _product(site, database, options.product)
        if options.each:
            return _register_each(site, database, product, statuses)
        return _register_all(site, database, product, statuses)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="addstatus", allow_abbrev=False, description=about(__doc__),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add = parser.add_argument
    add("--product", "-product", metavar="P", required=True, help="the status product")
    add("--list", "-list", metavar="FILE", required=True,
        help="the reports, a line each; -: standard input")  # fmt: skip
    add("--each", action="store_true",
        help="print STATUS_FILESET|WHAT|WHY| for each line, WHAT being registered (it was, or is"
        " now), taken or refused; none of them stops the others")  # fmt: skip
    add_site_options(parser)
    return parser


def _read(source: str) -> bytes:
    with told("standard input" if source == "-" else source):
        return sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()


def read_statuses(data: bytes) -> tuple[list[Status], list[str]]:
    """Read a list, and what is wrong with its lines. Comments and blank lines are skipped."""
    statuses, problems = [], []
    for number, raw in enumerate(data.decode("utf-8-sig", "backslashreplace").split("\n"), 1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        *cells, end = (cell.strip() for cell in line.split("|"))
        if end or len(cells) != 3:
            problems.append(f"line {number}: STATUS_FILESET|FILESET|FAULT| expected, not {line!r}")
        elif not _FAULT.fullmatch(cells[2]) or int(cells[2]) > MAX_FAULT:
            problems.append(
                f"line {number}: a fault from 0 (none) to {MAX_FAULT} expected, not {cells[2]!r}"
            )
        else:
            statuses.append(Status(cells[0], cells[1], int(cells[2]), number))
    return statuses, problems


def _product(site: Site, database: Database, name: str) -> Product:
    """The status product, made if it is not there; its columns may stand in any order."""
    there = find_product(database, name)
    if there is None:
        if problems := product_problems(name, PRODUCT_TYPE, DESCRIPTION, LABELS):
            raise ConfigError(problems)
        ensure_product(site, database, name, PRODUCT_TYPE, DESCRIPTION, LABELS, _check_product)
        there = find_product(database, name)
    if there is None:
        raise ConflictError(f"product {name}: was deleted meanwhile")
    _check_product(there)
    return there


def _check_product(product: Product) -> None:
    """Raise ConfigError unless the product has the columns of a status product."""
    missing = [label for label in LABELS if label not in product.columns]
    if missing:
        has = ", ".join(map(repr, product.columns)) or "none"
        raise ConfigError(
            [
                f"product {product.name} is no status product: its columns are {has}, and"
                f" {', '.join(map(repr, missing))} expected among them; give another name"
            ]
        )


def _fileset(product: Product, status: Status) -> NewFileset:
    said = {NAME_LABEL: status.fileset, FAULT_LABEL: str(status.fault)}
    last = max(map(product.columns.index, LABELS))
    values: Values = tuple(said.get(label) for label in product.columns[: last + 1])
    return NewFileset(status.name, KIND, values)


def _check(product: Product, status: Status) -> list[str]:
    fileset = _fileset(product, status)
    return fileset_problems(fileset.name, fileset.type, fileset.values, product.columns)


def _register_all(
    site: Site, database: Database, product: Product, statuses: Iterable[Status]
) -> int:
    seen: dict[str, Status] = {}
    problems = []
    for status in statuses:
        where = f"line {status.line}: "
        problems += [where + problem for problem in _check(product, status)]
        first = seen.setdefault(status.name.lower(), status)
        if replace(first, line=status.line) != status:
            problems.append(f"{where}{status.name}: line {first.line} has another report so called")
    if problems:
        raise ConfigError(problems)
    added = sum(_register(site, database, product, status) for status in seen.values())
    there = len(seen) - added
    were = f" ({there} more {'was' if there == 1 else 'were'} there)" if there else ""
    tell(f"registered {added} report{'' if added == 1 else 's'} in {product.name}{were}")
    return 0


def _register_each(
    site: Site, database: Database, product: Product, statuses: Iterable[Status]
) -> int:
    """As `--each` has it. What is in the way of all of them is raised."""
    status_code = 0
    for status, what, why in _outcomes(site, database, product, statuses):
        tell(f"{status.name}|{what}|{why}|")
        status_code = status_code or int(what != "registered")
    return status_code


def _outcomes(
    site: Site, database: Database, product: Product, statuses: Iterable[Status]
) -> Iterator[tuple[Status, str, str]]:
    for status in statuses:
        if problems := _check(product, status):
            yield status, "refused", "; ".join(problems).replace("|", " ")
            continue
        try:
            _register(site, database, product, status)
        except _Taken:
            yield status, "taken", "by another report"
        else:
            yield status, "registered", ""


class _Taken(ConflictError):
    """The name belongs to another fileset of the product."""


def _register(site: Site, database: Database, product: Product, status: Status) -> bool:
    """Register a report; returns whether it was not there already. Raises _Taken."""
    fileset = _fileset(product, status)
    if _is_there(database, product, fileset):
        return False
    try:
        register(site, database, product.name, fileset)
    except ConflictError:
        # Another process may have registered it meanwhile, or works on it now.
        if _is_there(database, product, fileset):
            return False
        raise
    return True


def _is_there(database: Database, product: Product, fileset: NewFileset) -> bool:
    # Names that differ only by case are one name to the catalogue.
    taken = database.row(
        "SELECT fileset_name FROM dsFileset WHERE prod_id = ? AND lower(fileset_name) = lower(?)",
        product.id, fileset.name,
    )  # fmt: skip
    if taken is None:
        return False
    there = find_fileset(database, product, fileset.name)
    if there is None or there.values != fileset.values:
        raise _Taken(
            f"{product.name}/{taken[0]}: registered already, and says something else; register the"
            " report under another name"
        )
    return True
