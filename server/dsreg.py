"""`dsreg`: register filesets in a product of a Data Store, and withdraw them (PROTOCOL section 4).

Exit status: 0 done; 1 the fileset is registered, or is not, or another process works on it;
2 usage, or this machine is in the way; 3 an option is missing or something asked for is refused;
5 a file is not what its line says, or changed meanwhile. SIGTERM and Ctrl-C undo what was begun.
"""

import argparse
import sys
from pathlib import Path

from mirror.disk import told
from mirror.errors import ConfigError
from mirror.listing import NULL
from server.catalogue import NewFileset, Product, catalogue, find_product, trimmed
from server.command import about, chosen_action, interruptible, tell
from server.contents import type_columns
from server.database import Database
from server.fileset_files import Mode
from server.register import Wanted, check, read_list, register, withdraw
from server.schema import COLUMNS
from server.site import Site, add_site_options, read_site

_VALUES = tuple(f"ps{number}" for number in range(COLUMNS))
_WITH = {
    "add": (
        "type", "list", "empty", "copy", "link", "datapath", "abspath", "hide", *_VALUES,
    ),
    "del": ("rm", "force"),
}  # fmt: skip
"""Which options go with which action."""


def main(argv: list[str]) -> int:
    """Do what the options say, and tell it in one line; returns the exit status."""
    options = _parser().parse_args(argv)
    if problems := _problems(options):
        raise ConfigError(problems)
    site = read_site(options)
    with interruptible(), catalogue(site.database) as database:
        work = _withdraw if options.add is None else _register
        said = work(site, database, options)
    tell(said)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dsreg", allow_abbrev=False, description=about(__doc__),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--add", "-add", metavar="FILESET", help="register a fileset")
    action.add_argument("--del", "-del", metavar="FILESET", help="withdraw a fileset")
    add = parser.add_argument
    add("--product", "-product", metavar="P", help="its product")
    add("--type", "-type", metavar="T", help="the fileset's type")
    files = parser.add_mutually_exclusive_group()
    files.add_argument("--list", "-list", metavar="FILE",
        help="its files, FILE|BYTES|MD5|TYPE|COL…| a line; blank bytes and md5 are computed;"
        " -: standard input")  # fmt: skip
    files.add_argument("--empty", "-empty", action="store_true", help="it has no files")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--copy", "-copy", action="store_true", help="copy the files")
    how.add_argument("--link", "-link", action="store_true",
        help="make symbolic links to them; else they stand in the fileset's directory")  # fmt: skip
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--datapath", "-datapath", metavar="DIR", help="where FILE is relative to")
    where.add_argument("--abspath", "-abspath", action="store_true", help="FILE is absolute")
    for number, flag in enumerate(_VALUES):
        text = None if number else "values of the product's own columns, up to --ps7"
        add(f"--{flag}", f"-{flag}", metavar="VALUE", help=text or argparse.SUPPRESS)
    add("--hide", "-hide", action="store_true", help="leave it out of its product's list")
    add("--rm", "-rm", action="store_true", help="with --del: remove its directory, too")
    add("--force", "-force", action="store_true",
        help="with --del: one that is not there is no error")  # fmt: skip
    add_site_options(parser)
    return parser


def _problems(options: argparse.Namespace) -> list[str]:
    """Options that are missing, or that mean nothing to the action."""
    action, problems = chosen_action(options, _WITH)
    if options.product is None:
        problems.append("--product is missing")
    return problems + (_missing(options) if action == "add" else [])


def _missing(options: argparse.Namespace) -> list[str]:
    problems = ["--type is missing"] if options.type is None else []
    moved = options.copy or options.link
    placed = options.datapath is not None or options.abspath
    if options.list is None and not options.empty:
        problems.append("--list is missing (or --empty, for a fileset without files)")
    if options.empty and (moved or placed):
        problems.append("--empty goes with none of --copy, --link, --datapath, --abspath")
    elif moved and not placed:
        problems.append("--datapath DIR, or --abspath, is missing: where are the files?")
    elif placed and not moved:
        problems.append("--copy or --link is missing: files in place have plain names")
    return problems


def _register(site: Site, database: Database, options: argparse.Namespace) -> str:
    values = [None if value == NULL else value for value in _given(options)]
    fileset = NewFileset(options.add, options.type, trimmed(values), options.hide)
    mode = Mode.COPY if options.copy else Mode.LINK if options.link else Mode.IN_PLACE
    datapath = None
    if options.datapath is not None:
        with told(f"--datapath {options.datapath}, below the current directory"):
            datapath = Path(options.datapath).absolute()
    files = []
    if not options.empty:
        product = find_product(database, options.product)
        files = _files(database, product, fileset, options.list, mode, datapath)
    done = register(site, database, options.product, fileset, files, mode=mode, datapath=datapath)
    count = f"{done.files} file" if done.files == 1 else f"{done.files} files"
    return f"registered {options.product}/{fileset.name}: {count}, {done.bytes} bytes"


def _given(options: argparse.Namespace) -> list[str | None]:
    return [getattr(options, flag) for flag in _VALUES]


def _files(
    database: Database,
    product: Product | None,
    fileset: NewFileset,
    source: str,
    mode: Mode,
    datapath: Path | None,
) -> list[Wanted]:
    """The files that the list names. Raises ConfigError with everything wrong in it."""
    with told("standard input" if source == "-" else source):
        data = sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()
    files, problems = read_list(data)
    if product and problems:
        problems += check(product, type_columns(database), fileset, files, mode, datapath)
    if not files and not problems:
        problems.append("the list names no file; --empty registers a fileset without files")
    if problems:
        raise ConfigError(problems)
    return files


def _withdraw(site: Site, database: Database, options: argparse.Namespace) -> str:
    name, product = getattr(options, "del"), options.product
    done = withdraw(site, database, product, name, remove=options.rm, force=options.force)
    if not done.registered:
        removed = "; removed its directory" if done.removed else ""
        return f"{product}/{name} was not registered{removed}"
    if done.removed:
        return f"withdrew {product}/{name} and removed its directory"
    kept = ", which had no directory" if options.rm else " and left its directory as it is"
    return f"withdrew {product}/{name}{kept}"
