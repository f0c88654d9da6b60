"""Registering a fileset with its files, and withdrawing it: what `dsreg` does (PROTOCOL section 4).

First everything is decided, without touching anything; then the files come into the fileset's
directory, where nobody can see them; then one transaction makes the fileset visible, whole. A
crash at any instant leaves it in no list, or complete; the directory of a crashed attempt is
taken over by the next one.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mirror.disk import told
from mirror.errors import ConfigError, MirrorError
from mirror.listing import NULL
from server.accepted import (
    clashes,
    file_problems,
    fileset_name_problems,
    fileset_problems,
    product_name_problems,
)
from server.catalogue import (
    Fileset,
    NewFile,
    NewFileset,
    Product,
    Values,
    add_fileset,
    find_fileset,
    find_product,
    remove_fileset,
    trimmed,
)
from server.contents import type_columns
from server.database import Database, Duplicate
from server.fileset_files import Mode, Shelf, Step, remove_directory
from server.site import Site
from server.store_lock import ConflictError, hold_fileset

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_DIGITS = re.compile(r"[0-9]{1,30}", re.ASCII)
_FIXED = 4


@dataclass(frozen=True, slots=True)
class Wanted:
    """A file that is to be registered.

    `path`: with a data path relative to that, without one absolute, in place a plain name; its
    last part becomes the file's name. `size` in bytes and `md5` are computed where they are None.
    `line`: where a list says so, for messages; 0: no list does. `trusted`: whoever wrote the file
    has summed it up and flushed it; it stays where it is and is not read again (see Step).
    """

    path: str
    type: str
    values: Values = ()
    size: int | None = None
    md5: str | None = None
    line: int = 0
    trusted: bool = False


@dataclass(frozen=True, slots=True)
class Registered:
    """A fileset that is visible now, the number of its files and of their bytes."""

    fileset: Fileset
    files: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """What a withdrawal found: whether it was registered, and whether a directory was removed."""

    registered: bool
    removed: bool


# What is wanted


def read_list(data: bytes) -> tuple[list[Wanted], list[str]]:
    """Read a list of files, `FILE|BYTES|MD5|TYPE|COL…|` a line, and what is wrong with its lines.

    BYTES and MD5 may be blank, and so may a column that is missing, or `null`. Comments and blank
    lines are skipped.
    """
    wanted = []
    problems = []
    # A path may hold any bytes; a name or a column with such ones is refused later.
    text = data.decode("utf-8-sig", "surrogateescape")
    for number, raw in enumerate(text.split("\n"), 1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        try:
            wanted.append(_wanted(line, number))
        except ValueError as error:
            problems.append(f"line {number}: {error}")
    return wanted, problems


def _wanted(line: str, number: int) -> Wanted:
    if not line.endswith("|"):
        raise ValueError("the line does not end with '|'")
    path, *cells = (cell.strip() for cell in line[:-1].split("|"))
    if len(cells) < _FIXED - 1:
        raise ValueError(f"at least FILE|BYTES|MD5|TYPE| expected, not {line!r}")
    size, md5, kind, *own = cells
    if size and not _DIGITS.fullmatch(size):
        raise ValueError(f"a size in bytes expected, not {size!r}")
    values = trimmed([None if value in ("", NULL) else value for value in own])
    return Wanted(path, kind, values, int(size) if size else None, md5 or None, number)


def check(
    product: Product,
    types: Mapping[str, Sequence[str]],
    fileset: NewFileset,
    files: Sequence[Wanted],
    mode: Mode,
    datapath: Path | None,
) -> list[str]:
    """What is wrong with a registration, all of it; `types` come from `contents.type_columns`."""
    problems = fileset_problems(fileset.name, fileset.type, fileset.values, product.columns)
    for file in files:
        where = f"line {file.line}: " if file.line else ""
        name = _name(file, mode)
        reason = _path_problem(file.path, mode, datapath)
        found = [f"file {name}: {reason}"] if reason else []
        found += file_problems(name, file.size, file.md5, file.type, file.values, types)
        if file.trusted and (mode is Mode.COPY or file.size is None or file.md5 is None):
            found.append(
                f"file {name}: to be trusted it needs size and md5, and must not be copied"
            )
        problems += [where + problem for problem in found]
    return problems + clashes(_name(file, mode) for file in files)


def _name(file: Wanted, mode: Mode) -> str:
    return file.path if mode is Mode.IN_PLACE else file.path.rpartition("/")[2]


def _path_problem(path: str, mode: Mode, datapath: Path | None) -> str | None:
    if mode is Mode.IN_PLACE:
        # The name's own rules leave no room for more.
        return None
    if _CONTROL.search(path):
        return f"a path with control characters: {path!r}"
    absolute = path.startswith("/")
    if datapath is None:
        return None if absolute else f"an absolute path expected, not {path!r}"
    if absolute or ".." in path.split("/"):
        return f"a path below {datapath} expected, not {path!r}"
    return None


def _step(file: Wanted, mode: Mode, base: Path) -> Step:
    return Step(_name(file, mode), base / file.path, file.size, file.md5, file.trusted)


# What is done


def register(
    site: Site,
    database: Database,
    product: str,
    fileset: NewFileset,
    files: Sequence[Wanted] = (),
    *,
    mode: Mode = Mode.IN_PLACE,
    datapath: Path | None = None,
) -> Registered:
    """Register a fileset with its files; with the return it is visible, whole and durable.

    `datapath`: the directory that paths are relative to; None: they are absolute. In place, a
    directory is needed only where there are files, and they stay there whatever happens.

    Raises ConfigError with everything that is wrong with what is asked for, ConflictError where
    the fileset is registered, or being registered, already, IntegrityError for a file that is not
    what its line says or that changed meanwhile, LocalError where disk or database fail. Then
    nothing is registered, and nothing left behind.
    """
    owner = find_product(database, product)
    if owner is None:
        raise ConflictError(f"product {product}: not in the catalogue; dsprodtool --add makes it")
    if problems := check(owner, type_columns(database), fileset, files, mode, datapath):
        raise ConfigError(problems)
    with hold_fileset(site.root, product, fileset.name):
        _refuse_taken(database, owner, fileset.name)
        shelf = Shelf(site.root / product / fileset.name, mode, site.link_roots)
        base = shelf.directory if mode is Mode.IN_PLACE else datapath or Path("/")
        return _fill(database, owner, fileset, shelf, [(_step(f, mode, base), f) for f in files])


def _refuse_taken(database: Database, product: Product, name: str) -> None:
    taken = database.row(
        "SELECT fileset_name FROM dsFileset WHERE prod_id = ? AND lower(fileset_name) = lower(?)",
        product.id, name,
    )  # fmt: skip
    if taken:
        raise _taken(product.name, name, taken[0])


def _taken(product: str, name: str, other: str) -> ConflictError:
    other_name = "" if other == name else f", as {other}"
    return ConflictError(
        f"{product}/{name}: registered already{other_name}; register it under another name, or"
        f" withdraw that one: dsreg --del {other} --product {product}"
    )


def _fill(
    database: Database,
    product: Product,
    fileset: NewFileset,
    shelf: Shelf,
    steps: Sequence[tuple[Step, Wanted]],
) -> Registered:
    """Bring the files in, then the rows; on failure neither."""
    entered = False
    try:
        shelf.open()
        files = []
        for step, file in steps:
            found = shelf.put(step)
            files.append(NewFile(step.name, found.size, found.md5, file.type, file.values))
        shelf.settle()
        entered = True
        made = add_fileset(database, product.name, fileset, files)
    except BaseException as fault:
        # An interruption, or a lost connection, leaves it open whether the rows are there.
        if not entered or _is_absent(database, product, fileset.name):
            shelf.clear()
        if isinstance(fault, Duplicate):
            raise _taken(product.name, fileset.name, fileset.name) from None
        raise
    return Registered(made, len(files), sum(file.size for file in files))


def _is_absent(database: Database, product: Product, name: str) -> bool:
    """Whether the catalogue says for certain that the fileset is not registered."""
    try:
        return find_fileset(database, product, name) is None
    except MirrorError:
        return False


def withdraw(
    site: Site,
    database: Database,
    product: str,
    name: str,
    *,
    remove: bool = False,
    force: bool = False,
) -> Withdrawn:
    """Take a fileset out of its product's list; its files stay, unless `remove`.

    `force`: one that is not registered is no error, and with `remove` the directory that a crashed
    attempt may have left goes too. Raises ConfigError for what cannot be a name, ConflictError
    where it is not registered or in the hands of another process, LocalError where disk or
    database fail.
    """
    if problems := product_name_problems(product) + fileset_name_problems(name):
        raise ConfigError(problems)
    directory = site.root / product / name
    with hold_fileset(site.root, product, name):
        was = remove_fileset(database, product, name)
        if not was and not force:
            raise ConflictError(_not_registered(directory, product, name))
        # Rows first: what is in a list can be had.
        removed = remove and remove_directory(
            directory,
            f"{product}/{name} is {'withdrawn already' if was else 'not registered'}",
            f"dsreg --del {name} --product {product} --rm --force",
        )
    return Withdrawn(was, removed)


def _not_registered(directory: Path, product: str, name: str) -> str:
    said = f"{product}/{name}: not registered"
    with told(directory):
        if not directory.is_dir():
            return said
    return (
        f"{said}, but its directory is there: {directory}; dsreg --add takes it over, --del with"
        " --rm --force removes it"
    )
