"""`dsprodtool`: add, change and delete the products of a Data Store (PROTOCOL section 4).

Exit status: 0 done; 1 what is asked for does not fit what is there; 2 usage, or this machine is in
the way; 3 an option is missing or its value refused, or the site is not configured.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mirror import disk
from mirror.errors import ConfigError
from server.accepted import description_problems, product_name_problems, product_problems
from server.catalogue import (
    Product,
    add_product,
    catalogue,
    change_product,
    count_filesets,
    find_product,
    remove_product,
    trimmed,
)
from server.command import about, chosen_action, tell
from server.database import Database, Duplicate
from server.fileset_files import check_directory, remove_directory
from server.people.grants import count_restrictions
from server.schema import COLUMNS
from server.site import Site, add_site_options, read_site
from server.store_lock import ConflictError, hold_product

_WITH = {
    "add": ("type", "description", "hide", *(f"ps{number}" for number in range(COLUMNS))),
    "update": ("description", "hide", "show"),
    "del": ("rm", "yes", "open", "force"),
}
"""Which options go with which action."""


def main(argv: list[str]) -> int:
    """Do what the options say, and tell it in one line; returns the exit status."""
    options = _parser().parse_args(argv)
    if problems := _problems(options):
        raise ConfigError(problems)
    site = read_site(options)
    if options.add is not None:
        said = _add(site, options)
    elif options.update is not None:
        said = _update(site, options)
    else:
        said = _delete(site, options)
    tell(said)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dsprodtool", allow_abbrev=False, description=about(__doc__),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--add", "-add", metavar="NAME", help="add a product")
    action.add_argument("--update", "-update", metavar="NAME", help="change what is given of it")
    action.add_argument("--del", "-del", metavar="NAME", help="delete it with all its filesets")
    add = parser.add_argument
    add("--type", "-type", metavar="T", help="the product's type")
    add("--description", "-description", metavar="D", help="one line for people")
    for number in range(COLUMNS):
        text = "labels of its filesets' own columns, up to --ps7" if not number else None
        flag = f"ps{number}"
        add(f"--{flag}", f"-{flag}", metavar="LABEL", help=text or argparse.SUPPRESS)
    shown = parser.add_mutually_exclusive_group()
    shown.add_argument("--hide", "-hide", action="store_true", help="leave it out of the root list")
    shown.add_argument("--show", "-show", action="store_true", help="show it in the root list")
    add("--rm", "-rm", action="store_true", help="with --del: remove its directory, too")
    add("--yes", "-yes", action="store_true", help="with --del: do not ask")
    add("--open", "-open", action="store_true",
        help="with --del: even if users or networks are deleted with it, so that one made again"
        " under its name is everybody's")  # fmt: skip
    add("--force", "-force", action="store_true",
        help="with --del: one that is not there is no error; --rm removes its rest")  # fmt: skip
    add_site_options(parser)
    return parser


def _problems(options: argparse.Namespace) -> list[str]:
    """Options that are missing, or that mean nothing to the action."""
    given = vars(options)
    action, problems = chosen_action(options, _WITH)
    if action == "add":
        required = ("type", "description")
        problems += [f"--{name} is missing" for name in required if given[name] is None]
    elif action == "update" and all(given[name] in (None, False) for name in _WITH[action]):
        problems.append("--update needs at least one of --description, --hide, --show")
    return problems


def _add(site: Site, options: argparse.Namespace) -> str:
    name = options.add
    labels = trimmed([getattr(options, f"ps{number}") for number in range(COLUMNS)])
    if problems := product_problems(name, options.type, options.description, labels):
        raise ConfigError(problems)
    columns = tuple(label for label in labels if label is not None)

    def check(there: Product) -> None:
        _refuse_other(there, options, columns)

    with catalogue(site.database, create=True) as database:
        made = ensure_product(
            site, database, name, options.type, options.description, columns, check,
            hidden=options.hide,
        )  # fmt: skip
    if not made:
        return f"product {name} is there already, just as asked for"
    return f"added product {name}, {options.type}, in {site.root / name}"


def ensure_product(
    site: Site,
    database: Database,
    name: str,
    kind: str,
    description: str,
    columns: Sequence[str],
    check: Callable[[Product], None],
    *,
    hidden: bool = False,
) -> bool:
    """Add a product with its directory, unless it is there; returns whether it was made.

    What is asked for has passed `product_problems`. `check` raises where the product that is there
    does not do. Raises ConflictError where another process holds the product, or one of a name
    that differs only by case is there; LocalError where directory or database fail.
    """
    with hold_product(site.root, name):
        there = find_product(database, name)
        if there:
            check(there)
            _make_directory(site.root / name)
            return False
        made = _make_directory(site.root / name)
        try:
            add_product(database, name, kind, description, columns, hidden=hidden)
        except BaseException as fault:
            if made and find_product(database, name) is None:
                disk.remove(site.root / name)
            if isinstance(fault, Duplicate):
                raise ConflictError(
                    f"product {name}: there is one whose name differs only by case"
                ) from None
            raise
    return True


def _refuse_other(there: Product, options: argparse.Namespace, columns: tuple[str, ...]) -> None:
    """Refuse to add a product that is there with anything different."""
    pairs = {
        "type": (there.type, options.type),
        "description": (there.description, options.description),
        "columns": (there.columns, columns),
        "hidden": (there.hidden, options.hide),
    }
    differences = [
        f"its {what}: {_shown(is_now)}, not {_shown(asked)}"
        for what, (is_now, asked) in pairs.items()
        if is_now != asked
    ]
    if differences:
        raise ConflictError(
            f"product {there.name}: there already, but {'; '.join(differences)}"
            " (--update changes the description and --hide)"
        )


def _shown(value: object) -> str:
    # No label holds the bar.
    return repr("|".join(value) if isinstance(value, tuple) else value)


def _make_directory(path: Path) -> bool:
    """Make a product's directory durably; returns whether it was not there."""
    with disk.told(path):
        try:
            path.mkdir()
        except FileExistsError:
            check_directory(path)
            return False
    disk.flush([path.parent])
    return True


def _update(site: Site, options: argparse.Namespace) -> str:
    name, description = options.update, options.description
    problems = product_name_problems(name)
    if description is not None:
        problems += description_problems(name, description)
    if problems:
        raise ConfigError(problems)
    hidden = True if options.hide else False if options.show else None
    with catalogue(site.database) as database:
        if not change_product(database, name, description=description, hidden=hidden):
            raise ConflictError(f"product {name}: not in the catalogue")
    return f"updated product {name}"


@dataclass(frozen=True, slots=True)
class _Doomed:
    """What a deletion takes with it; without a product, only a directory that was left."""

    name: str
    there: bool
    filesets: int = 0
    users: int = 0
    networks: int = 0

    def restricted(self) -> str:
        """To whom the product is restricted, blank for one that is everybody's."""
        parts = (_counted(self.users, "user"), _counted(self.networks, "network"))
        shown = " and ".join(part for part in parts if not part.startswith("0 "))
        return f"restricted to {shown}" if shown else ""


def _delete(site: Site, options: argparse.Namespace) -> str:
    name = getattr(options, "del")
    if problems := product_name_problems(name):
        raise ConfigError(problems)
    directory = site.root / name
    with catalogue(site.database) as database:
        doomed = _doomed(database, directory, name, options)
        if not options.yes:
            _ask(doomed, directory if options.rm else None)
        with hold_product(site.root, name):
            # A person has had time to think, and others to restrict it meanwhile.
            doomed = _doomed(database, directory, name, options)
            remove_product(database, name)
            state = "deleted already" if doomed.there else "not in the catalogue"
            finish = f"dsprodtool --del {name} --rm --force"
            removed = options.rm and remove_directory(
                directory, f"product {name} is {state}", finish
            )
    return _deleted(doomed, directory, asked=options.rm, removed=removed)


def _doomed(database: Database, directory: Path, name: str, options: argparse.Namespace) -> _Doomed:
    """Look at what is to be deleted, and refuse what is not there or not everybody's."""
    product = find_product(database, name)
    if product is None:
        if options.force:
            return _Doomed(name, there=False)
        with disk.told(directory):
            left = directory.is_symlink() or directory.is_dir()
        hint = f"; its directory is there: {directory}; --rm --force removes it" if left else ""
        raise ConflictError(f"product {name}: not in the catalogue{hint}")
    found = _Doomed(
        name, True, count_filesets(database, product), *count_restrictions(database, product)
    )
    if found.restricted() and not options.open:
        raise ConfigError(
            [
                f"product {name}: {found.restricted()}, which would be deleted with it; made again"
                " under this name it would be everybody's: give --open if that is meant"
            ]
        )
    return found


def _deleted(doomed: _Doomed, directory: Path, *, asked: bool, removed: bool) -> str:
    if not doomed.there:
        rest = "; removed its directory" if removed else ""
        return f"product {doomed.name} was not in the catalogue{rest}"
    kept = f"(its directory stays: {directory})"
    if asked:
        kept = "and its directory" if removed else "(it had no directory)"
    was = f"; it was {doomed.restricted()}" if doomed.restricted() else ""
    return f"deleted product {doomed.name} with {_counted(doomed.filesets, 'fileset')} {kept}{was}"


def _ask(doomed: _Doomed, removed: Path | None) -> None:
    """Let a person at a terminal confirm a deletion by the product's name."""
    name = doomed.name
    if sys.stdin is None or not sys.stdin.isatty():
        raise ConfigError([f"product {name}: --yes is missing; without a terminal nobody is asked"])
    what = f"what is left of product {name}"
    if doomed.there:
        what = f"product {name} with {_counted(doomed.filesets, 'fileset')}"
        what += f", {doomed.restricted()}" if doomed.restricted() else ""
    what += f", and {removed} with everything in it" if removed else ""
    # Standard output is for what was done.
    print(f"delete {what}?\ntype the product's name: ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip() != name:
        raise ConflictError(f"product {name}: not confirmed, nothing was deleted")


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
