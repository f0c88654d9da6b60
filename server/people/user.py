"""`python -m server user …`: users that may have products which are not everybody's.

A product with users is for them only: the first one closes it for everybody else. HTTP Basic sends
name and password readable by everybody on the way: serve such products with --cert and --key, or
behind a web server that speaks TLS.
"""

import argparse
import sys
from collections.abc import Sequence

from mirror.errors import ConfigError
from server.catalogue import catalogue
from server.command import about, show, tell
from server.database import Database
from server.people.access import MAX_PASSWORD, hash_password, password_fault
from server.people.grants import (
    USER_NAME,
    check_user,
    has_user,
    product_named,
    remove_user,
    revoke,
    save_user,
    set_password,
    users,
)
from server.site import add_site_options, read_site

STANDARD_INPUT = "-"


def main(argv: list[str]) -> int:
    """Add, change, delete or list users; returns the exit status.

    Raises ConfigError for what is unknown, no good password, or a product that would be opened.
    """
    options = _options(argv)
    with catalogue(read_site(options).database) as database:
        options.run(database, options)
    return 0


def _options(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m server user", description=about(__doc__))
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    add = commands.add_parser(
        "add", help="add a user, or give one more products", description=about(__doc__)
    )
    add.set_defaults(run=_add)
    _name(add)
    _products(add, "a product to grant; may be repeated", required=True)
    _password_file(add, "; without it one that is there keeps its own")
    change = commands.add_parser("password", help="change a user's password")
    change.set_defaults(run=_change)
    _name(change)
    _password_file(change, "")
    delete = commands.add_parser("del", help="delete a user, or take products from one")
    delete.set_defaults(run=_delete)
    _name(delete)
    _products(delete, "take only this product; may be repeated", required=False)
    delete.add_argument("--open", action="store_true",
        help="even if a product is then open to everybody")  # fmt: skip
    shown = commands.add_parser("list", help="show users and their products")
    shown.set_defaults(run=_list)
    shown.add_argument("--product", metavar="P", help="only the users of this product")
    for command in (add, change, delete, shown):
        add_site_options(command)
    return parser.parse_args(argv)


def _name(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", type=_user_name, help="the user")


def _products(parser: argparse.ArgumentParser, told: str, *, required: bool) -> None:
    parser.add_argument("--product", metavar="P", dest="products", action="append", default=[],
        required=required, help=told)  # fmt: skip


def _password_file(parser: argparse.ArgumentParser, told: str) -> None:
    parser.add_argument("--password-file", metavar="FILE",
        help=f"the password is its first line, - for standard input (else asked for){told}",
    )  # fmt: skip


def _user_name(text: str) -> str:
    if not USER_NAME.fullmatch(text):
        raise argparse.ArgumentTypeError(
            f"1 to 64 characters of A-Z a-z 0-9 _ . @ - expected, not {text!r}"
        )
    return text


def _add(database: Database, options: argparse.Namespace) -> None:
    # Before anybody is asked for a password in vain.
    for product in options.products:
        product_named(database, product)
    password = None
    if options.password_file is not None or not has_user(database, options.name):
        password = hash_password(_read_password(options.name, options.password_file))
    saved = save_user(database, options.name, password, options.products)
    granted = _joined(saved.granted)
    if saved.new:
        tell(f"user {options.name} added, granted {granted}")
    else:
        kept = "changed" if password else "kept"
        tell(f"user {options.name} was there: password {kept}, granted {granted or 'nothing new'}")


def _change(database: Database, options: argparse.Namespace) -> None:
    check_user(database, options.name)
    password = _read_password(options.name, options.password_file)
    set_password(database, options.name, hash_password(password))
    tell(f"user {options.name}: password changed")


def _delete(database: Database, options: argparse.Namespace) -> None:
    if options.products:
        opened = revoke(database, options.name, options.products, may_open=options.open)
        lost = _joined(dict.fromkeys(options.products))
        tell(f"user {options.name}: no grant for {lost} any more{_warned(opened)}")
        return
    had, opened = remove_user(database, options.name, may_open=options.open)
    tell(f"user {options.name} deleted, had {_joined(had) or 'no grants'}{_warned(opened)}")


def _warned(opened: Sequence[str]) -> str:
    return f"; not restricted to users any more: {_joined(opened)}" if opened else ""


def _list(database: Database, options: argparse.Namespace) -> None:
    product = product_named(database, options.product) if options.product else None
    rows = [(name, _joined(had) or "-") for name, had in users(database, product).items()]
    show(two_columns([("user", "products"), *rows]))


def two_columns(rows: Sequence[tuple[str, str]]) -> str:
    """Pairs below one another."""
    width = max(len(first) for first, _ in rows)
    return "\n".join(f"{first:<{width}}  {second}" for first, second in rows)


def _joined(names: Sequence[str] | dict[str, None]) -> str:
    return ", ".join(names)


def _read_password(name: str, source: str | None) -> str:
    """A password from a file's first line, standard input's for `-`, else asked for.

    Raises ConfigError where there is none, or no good one; it is in no message.
    """
    password = _asked(name) if source is None else _first_line(source)
    fault = password_fault(password)
    if fault:
        raise ConfigError([f"user {name}: {fault}; nothing was changed"])
    return password


def _asked(name: str) -> str:
    if sys.stdin is None or not sys.stdin.isatty():
        raise ConfigError(
            ["no terminal to ask for a password: give --password-file FILE, - for standard input"]
        )
    from getpass import getpass

    try:
        first = getpass(f"password of {name}: ")
        second = getpass("once more: ")
    except EOFError:
        raise ConfigError(["no password came; nothing was changed"]) from None
    if first != second:
        raise ConfigError(["the two passwords differ; nothing was changed"])
    return first


def _first_line(source: str) -> str:
    shown = "standard input" if source == STANDARD_INPUT else source
    # A longer line is cut to one that is still too long.
    bound = MAX_PASSWORD + 100
    try:
        if source == STANDARD_INPUT:
            line = sys.stdin.buffer.readline(bound)
        else:
            with open(source, "rb") as file:
                line = file.readline(bound)
        return line.decode("utf-8-sig").rstrip("\r\n")
    except OSError as fault:
        raise ConfigError([f"the password in {shown} cannot be read: {fault.strerror}"]) from None
    except UnicodeDecodeError:
        raise ConfigError([f"the password in {shown} is not UTF-8"]) from None
