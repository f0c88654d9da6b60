"""`dsprodtool`: add, change and delete the products of a Data Store (PROTOCOL section 4).

Exit status: 0 done; 1 what is asked for does not fit what is there; 2 usage, or this machine is in
the way; 3 an option is missing or its value refused, or the site is not configured.
"""

import argparse
import sys
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
from server.database import Database, Duplicate
from server.schema import COLUMNS
from server.site import Site, add_site_options, read_site
from server.store_lock import ConflictError, hold_product

_WITH = {
    "add": ("type", "description", "hide", *(f"ps{number}" for number in range(COLUMNS))),
    "update": ("description", "hide", "show"),
    "del": ("rm", "yes"),
}
"""Which options go with which action."""


def main(argv: list[str]) -> int:
    """Do what the options say, and tell it in one line; returns the exit status."""
    options = _parser().parse_args(argv)
    problems = _misplaced(options)
    if problems:
        raise ConfigError(problems)
    site = read_site(options)
    if options.add is not None:
        said = _add(site, options)
    elif options.update is not None:
        said = _update(site, options)
    else:
        said = _delete(site, options)
    print(said)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dsprodtool", allow_abbrev=False, description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    action = parser.add_mutually_exclusive_group(required=True)
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
    add_site_options(parser)
    return parser


def _misplaced(options: argparse.Namespace) -> list[str]:
    """Options that are missing, or that mean nothing to the action."""
    given = vars(options)
    action = next(action for action in _WITH if given[action] is not None)
    others = {option for group in _WITH.values() for option in group} - set(_WITH[action])
    problems = [
        f"--{option} does not go with --{action}"
        for option in sorted(others)
        if given[option] not in (None, False)
    ]
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
    with catalogue(site.database, create=True) as database, hold_product(site.root, name):
        there = find_product(database, name)
        if there:
            _refuse_other(there, options, columns)
            _make_directory(site.root / name)
            return f"product {name} is there already, just as asked for"
        made = _make_directory(site.root / name)
        try:
            add_product(
                database, name, options.type, options.description, columns, hidden=options.hide
            )
        except BaseException as fault:
            if made and find_product(database, name) is None:
                disk.remove(site.root / name)
            if isinstance(fault, Duplicate):
                raise ConflictError(
                    f"product {name}: there is one whose name differs only by case"
                ) from None
            raise
    return f"added product {name}, {options.type}, in {site.root / name}"


def _refuse_other(there: Product, options: argparse.Namespace, columns: tuple[str, ...]) -> None:
    """Refuse to add a product that is there with anything different."""
    pairs = {
        "type": (there.type, options.type),
        "description": (there.description, options.description),
        "columns": (" ".join(there.columns), " ".join(columns)),
        "hidden": (there.hidden, options.hide),
    }
    differences = [
        f"its {what}: {is_now!r}, not {asked!r}"
        for what, (is_now, asked) in pairs.items()
        if is_now != asked
    ]
    if differences:
        raise ConflictError(
            f"product {there.name}: there already, but {'; '.join(differences)}"
            " (--update changes the description and --hide)"
        )


def _make_directory(path: Path) -> bool:
    """Make a product's directory durably; returns whether it was not there."""
    with disk.told(path):
        try:
            path.mkdir()
        except FileExistsError:
            if path.is_dir():
                return False
            raise
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


def _delete(site: Site, options: argparse.Namespace) -> str:
    name = getattr(options, "del")
    if problems := product_name_problems(name):
        raise ConfigError(problems)
    directory = site.root / name
    with catalogue(site.database) as database:
        count = _count(database, directory, name)
        if not options.yes:
            _ask(name, count, directory if options.rm else None)
        with hold_product(site.root, name):
            remove_product(database, name)
            if options.rm:
                disk.remove(directory)
                disk.flush([site.root])
    kept = "and its directory" if options.rm else f"(its directory stays: {directory})"
    return f"deleted product {name} with {_filesets(count)} {kept}"


def _count(database: Database, directory: Path, name: str) -> int:
    product = find_product(database, name)
    if product is None:
        left = f"; a directory of this name is there: {directory}" if directory.is_dir() else ""
        raise ConflictError(f"product {name}: not in the catalogue{left}")
    return count_filesets(database, product)


def _ask(name: str, count: int, removed: Path | None) -> None:
    """Let a person at a terminal confirm a deletion by the product's name."""
    if not sys.stdin.isatty():
        raise ConfigError([f"product {name}: --yes is missing; without a terminal nobody is asked"])
    what = f"product {name} with {_filesets(count)}"
    what += f", and {removed} with everything in it" if removed else ""
    # Standard output is for what was done.
    print(f"delete {what}?\ntype the product's name: ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip() != name:
        raise ConflictError(f"product {name}: not confirmed, nothing was deleted")


def _filesets(count: int) -> str:
    return f"{count} fileset" if count == 1 else f"{count} filesets"
