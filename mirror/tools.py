"""The small tools that the seeds use by name: dsrootls, dsproductls, dsfilesetls, dsget.

Their output lines and exit codes are those of PROTOCOL section 4: 0 success, 1 unknown, 2 system
and usage, 3 configuration and missing options, 5 data, 6 time-out, and HTTP status - 300 when the
server refuses.
"""

import argparse
import hashlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from mirror import disk
from mirror.body import Body
from mirror.errors import ConfigError, IntegrityError, LocalError, RefusedError, TransportError
from mirror.listing import (
    FileRow,
    FilesetRow,
    Malformed,
    ProductRow,
    Row,
    check_name,
    read_files,
    read_filesets,
    read_products,
)

if TYPE_CHECKING:
    from mirror.address import Address
    from mirror.datastore import DataStore

UNKNOWN, SYSTEM, CONFIG, DATA, TIMEOUT = 1, 2, 3, 5, 6


class _Parser(argparse.ArgumentParser):
    """Says what is missing as the original tools do, with their exit code."""

    def error(self, message: str) -> NoReturn:
        """Usage: 2; a missing option is a missing configuration: 3."""
        missing = "the following arguments are required: "
        if message.startswith(missing):
            named = message.removeprefix(missing).replace(", ", " ")
            self.exit(CONFIG, f"{self.prog}: Required options: {named}\n")
        self.exit(SYSTEM, f"{self.prog}: {message}\n{self.format_usage()}")


def _parser(name: str, description: str) -> _Parser:
    parser = _Parser(prog=name, description=description, allow_abbrev=False)
    parser.add_argument("--uri", required=True, help="the list, with or without index.txt")
    parser.add_argument("--timeout", type=float, default=30.0, metavar="S", help="seconds")
    parser.add_argument("--no-proxy", action="store_true", help="go past any proxy")
    return parser


def _run(name: str, work: Callable[[], int]) -> int:
    """Do the work; every failure is one line and one exit code."""
    try:
        return work()
    except RefusedError as error:
        return _fail(name, str(error), error.status - 300)
    except TransportError as error:
        return _fail(name, str(error), TIMEOUT if error.late else SYSTEM)
    except IntegrityError as error:
        return _fail(name, str(error), DATA)
    except ConfigError as error:
        return _fail(name, str(error), CONFIG)
    except LocalError as error:
        return _fail(name, str(error), SYSTEM)
    except BrokenPipeError:
        sys.stderr.close()
        return SYSTEM


def _fail(name: str, message: str, status: int) -> int:
    print(f"{name}: {message}", file=sys.stderr)
    return status


def _store(options: argparse.Namespace) -> "tuple[DataStore, str]":
    """A store whose one address is the --uri; returns it and that address, with its slash."""
    from formats.mirror_yaml import Config
    from formats.values import read_uri
    from mirror.datastore import DataStore
    from mirror.halt import Halt

    try:
        uri = read_uri(options.uri)
    except ValueError as error:
        raise ConfigError([f"--uri: {error}"]) from None
    if options.no_proxy:
        os.environ["no_proxy"] = os.environ["NO_PROXY"] = "*"
    config = Config(
        mirror_root=Path(),
        top_uri=(uri,),
        products=(),
        data_prefix="",
        timeout=options.timeout,
        retries=0,
    )
    return DataStore(config, Halt()), uri


def _list(
    options: argparse.Namespace,
    title: str,
    read: Callable[[Iterable[bytes]], Iterator[Row | Malformed]],
    line: Callable[[str, Row], Sequence[str]],
    query: str = "",
) -> int:
    """Print a list, a line a row; malformed rows are told and make the exit code 5."""
    store, uri = _store(options)

    def consume(body: Body) -> int:
        print(title)
        status = 0
        for row in read(body.chunks()):
            if isinstance(row, Malformed):
                print(f"line {row.line}: {row.reason}", file=sys.stderr)
                status = DATA
            else:
                print(" ".join(line(uri, row)))
        return status

    return store.read_list([], consume, query=query)


def dsrootls(arguments: list[str] | None = None) -> int:
    """List the products of a Data Store: `# uri product last time type desc`."""
    parser = _parser("dsrootls", dsrootls.__doc__ or "")
    options = parser.parse_args(arguments)

    def line(uri: str, row: Row) -> Sequence[str]:
        assert isinstance(row, ProductRow)
        last = row.most_recent or "none"
        target = f"{uri}{row.name}/index.txt"
        return target, row.name, last, row.registered, row.type, row.description

    title = "# uri product last time type desc"
    return _run("dsrootls", lambda: _list(options, title, read_products, line))


def dsproductls(arguments: list[str] | None = None) -> int:
    """List the filesets of a product: `# uri fileset datetime type`."""
    parser = _parser("dsproductls", dsproductls.__doc__ or "")
    parser.add_argument("--last_fileset", default="", metavar="F", help="only what is after it")
    parser.add_argument("--extra", action="store_true", help="also the product's own columns")
    options = parser.parse_args(arguments)

    def line(uri: str, row: Row) -> Sequence[str]:
        assert isinstance(row, FilesetRow)
        extra = row.extra() if options.extra else ()
        return f"{uri}{row.name}/index.txt", row.name, row.registered, row.type, *extra

    title = "# uri fileset datetime type"
    return _run(
        "dsproductls",
        lambda: _list(options, title, read_filesets, line, options.last_fileset),
    )


def dsfilesetls(arguments: list[str] | None = None) -> int:
    """List the files of a fileset: `# uri fileid bytes md5sum type`, then further columns."""
    options = _parser("dsfilesetls", dsfilesetls.__doc__ or "").parse_args(arguments)

    def line(uri: str, row: Row) -> Sequence[str]:
        assert isinstance(row, FileRow)
        return (
            f"{uri}{row.name}",
            row.name,
            str(row.size),
            row.md5 or "null",
            row.type,
            *row.extra(),
        )

    title = "# uri fileid bytes md5sum type"
    return _run("dsfilesetls", lambda: _list(options, title, read_files, line))


def dsget(arguments: list[str] | None = None) -> int:
    """Fetch one file, verified: it stands under its name complete, or not at all."""
    parser = _parser("dsget", dsget.__doc__ or "")
    parser.add_argument("--filename", required=True, metavar="F", help="where to put it")
    parser.add_argument("--bytes", type=int, metavar="N", help="its size")
    parser.add_argument("--md5", metavar="HEX", help="its md5 sum")
    options = parser.parse_args(arguments)
    return _run("dsget", lambda: _get(options))


def _get(options: argparse.Namespace) -> int:
    directory, _, name = options.uri.rpartition("/")
    reason = check_name(name)
    if reason:
        raise ConfigError([f"--uri: the address of a file expected, which ends with {reason}"])
    options.uri = directory
    store, _ = _store(options)
    target = Path(options.filename)
    with disk.told(target):
        file, new = tempfile.mkstemp(prefix=f".{target.name[:200]}.", dir=target.parent)
    try:
        store.attempt(lambda address: _receive(store, address, name, file, options))
        with disk.told(target):
            mask = os.umask(0)
            os.umask(mask)
            os.chmod(new, 0o666 & ~mask)
            os.replace(new, target)
    except BaseException:
        Path(new).unlink(missing_ok=True)
        raise
    finally:
        os.close(file)
    return 0


def _receive(
    store: "DataStore", address: "Address", name: str, file: int, options: argparse.Namespace
) -> None:
    """Write the file, counted and summed while it passes; wrong ones are an IntegrityError."""
    md5 = hashlib.md5(usedforsecurity=False)
    size = 0
    with store.get(address, [name]) as body:
        for piece in body.chunks():
            size += len(piece)
            if options.bytes is not None and size > options.bytes:
                break
            md5.update(piece)
            with disk.told(options.filename):
                os.write(file, piece)
    if options.bytes is not None and size != options.bytes:
        came = "more" if size > options.bytes else f"{size}"
        raise IntegrityError(f"{options.bytes} bytes expected, {came} came")
    if options.md5 and md5.hexdigest() != options.md5.lower():
        raise IntegrityError(f"md5 {options.md5} expected, {md5.hexdigest()} came")


TOOLS = {
    "dsrootls": dsrootls,
    "dsproductls": dsproductls,
    "dsfilesetls": dsfilesetls,
    "dsget": dsget,
}


def main(arguments: list[str]) -> int:
    """`python -m mirror TOOL …`, for a site that copied the files instead of installing them."""
    if not arguments or arguments[0] not in TOOLS:
        print(f"usage: python -m mirror {'|'.join(TOOLS)} …", file=sys.stderr)
        return SYSTEM
    return TOOLS[arguments[0]](arguments[1:])
