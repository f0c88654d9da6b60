"""`python -m server network …`: networks from which products may be had.

A product with networks is for them only: the first one closes it for everybody else. If it has
users too, both are asked for.
"""

import argparse
from ipaddress import IPv4Network, IPv6Network, ip_interface, ip_network

from server.catalogue import catalogue
from server.command import about, show, tell
from server.database import Database
from server.people.grants import add_network, networks, product_named, remove_network
from server.people.user import two_columns
from server.site import add_site_options, read_site

_MAPPED = IPv6Network("::ffff:0:0/96")


def main(argv: list[str]) -> int:
    """Add, delete or list networks; returns the exit status.

    Raises ConfigError for what is unknown, or a product that would be opened.
    """
    options = _options(argv)
    with catalogue(read_site(options).database) as database:
        options.run(database, options)
    return 0


def _options(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m server network", description=about(__doc__))
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    add = commands.add_parser("add", help="let a network have a product")
    add.set_defaults(run=_add)
    delete = commands.add_parser("del", help="take a product from a network")
    delete.set_defaults(run=_delete)
    delete.add_argument("--open", action="store_true",
        help="even if the product is then open to everybody")  # fmt: skip
    for command in (add, delete):
        command.add_argument("network", metavar="CIDR", type=network_of,
            help="ADDRESS/BITS, or one address; IPv4 or IPv6")  # fmt: skip
        command.add_argument("--product", metavar="P", required=True, help="the product")
    shown = commands.add_parser("list", help="show products and their networks")
    shown.set_defaults(run=_list)
    shown.add_argument("--product", metavar="P", help="only the networks of this product")
    for command in (add, delete, shown):
        add_site_options(command)
    return parser.parse_args(argv)


def network_of(text: str) -> str:
    """A network as it is stored. Raises ArgumentTypeError for what is none, or not exactly one.

    One of IPv4 addresses inside IPv6 is stored as the IPv4 one, which is how they are looked up.
    """
    # A zone is one host's name for one of its links: no part of a network.
    if "%" in text:
        raise argparse.ArgumentTypeError(f"{text}: a network without %ZONE expected")
    try:
        return str(_unmapped(ip_network(text)))
    except ValueError:
        pass
    try:
        meant = ip_interface(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r}: ADDRESS/BITS expected, such as 192.0.2.0/24 or 2001:db8::/32"
        ) from None
    raise argparse.ArgumentTypeError(
        f"{text} has bits beyond its prefix; is {_unmapped(meant.network)} meant, or {meant.ip}?"
    )


def _unmapped(network: IPv4Network | IPv6Network) -> IPv4Network | IPv6Network:
    if isinstance(network, IPv4Network) or not network.subnet_of(_MAPPED):
        return network
    address = network.network_address.ipv4_mapped
    assert address is not None
    return IPv4Network((address, network.prefixlen - _MAPPED.prefixlen))


def _add(database: Database, options: argparse.Namespace) -> None:
    new = add_network(database, options.product, options.network)
    done = "added to" if new else "was there already for"
    tell(f"network {options.network} {done} {options.product}")


def _delete(database: Database, options: argparse.Namespace) -> None:
    opened = remove_network(database, options.product, options.network, may_open=options.open)
    warned = f"; not restricted to networks any more: {options.product}" if opened else ""
    tell(f"network {options.network} deleted from {options.product}{warned}")


def _list(database: Database, options: argparse.Namespace) -> None:
    product = product_named(database, options.product) if options.product else None
    show(two_columns([("product", "network"), *networks(database, product)]))
