"""A Data Store written as plain files: bundles, filesets and the three lists (PROTOCOL 2 and 3).

Every list comes into place by rename, so that a reader sees the old one or the new one, whole.
"""

import calendar
import hashlib
import io
import os
import tarfile
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import TypeVar

from mirror.errors import ConfigError, ListError
from mirror.listing import (
    FILE_COLUMNS,
    FILESET_COLUMNS,
    INDEX,
    PRODUCT_COLUMNS,
    Malformed,
    Row,
    check_name,
    format_list,
    print_columns,
    product_values,
    read_filesets,
    read_products,
)

MEMBER_TIME = 1239764531
"""The time of every member of a bundle, in seconds since 1970: 2009-04-15T03:02:11Z."""

_R = TypeVar("_R", bound=Row)

_TIME = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True, slots=True)
class SampleFile:
    """A file of a fileset: `type` as in the list, `columns` the type's own by name."""

    name: str
    data: bytes
    type: str
    columns: Mapping[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FilesetEntry:
    """A row of a product's list; `values` are the product's own columns, as printed."""

    name: str
    registered: str
    type: str
    values: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ProductEntry:
    """A row of the root list. `most_recent` is None for an empty product."""

    name: str
    most_recent: str | None
    registered: str
    type: str
    description: str


def format_time(seconds: int) -> str:
    """Seconds since 1970 as the lists print a time."""
    return time.strftime(_TIME, time.gmtime(seconds))


def make_bundle(members: Mapping[str, bytes], *, top: bool = False) -> bytes:
    """A gzipped tar of `./NAME` members in the order given, always the same bytes for the same.

    `top`: begin with an entry for `./` itself, as some tools do.
    """
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.USTAR_FORMAT) as bundle:
        if top:
            directory = tarfile.TarInfo("./")
            directory.type = tarfile.DIRTYPE
            directory.mode = 0o755
            directory.mtime = MEMBER_TIME
            bundle.addfile(directory)
        for name, data in members.items():
            member = tarfile.TarInfo(f"./{name}")
            member.size = len(data)
            member.mtime = MEMBER_TIME
            bundle.addfile(member, io.BytesIO(data))
    return compress(raw.getvalue())


def compress(data: bytes) -> bytes:
    """`data` as one gzip member without name and time: the same bytes every time."""
    packer = zlib.compressobj(6, wbits=31)
    return packer.compress(data) + packer.flush()


def write_fileset(
    store: Path,
    product: str,
    name: str,
    files: Sequence[SampleFile],
    *,
    registered: str = "2009-04-15T03:02:11Z",
    type: str = "IPP-DIST",
    columns: Mapping[str, str | None] | None = None,
) -> FilesetEntry:
    """Write a fileset's files and its list; returns its row for `write_product_list`.

    The files get the time of registration as their own, so that a store built twice is served
    the same twice. `columns` are the product's own, by name. Raises ConfigError for a name that
    the lists do not allow.
    """
    for checked in (product, name, *(file.name for file in files)):
        reason = check_name(checked)
        if reason:
            raise ConfigError([f"fileset {name!r} of {product!r}: {reason}"])
    directory = store / product / name
    directory.mkdir(parents=True, exist_ok=True)
    stamp = calendar.timegm(time.strptime(registered, _TIME))
    for file in files:
        path = directory / file.name
        path.write_bytes(file.data)
        os.utime(path, (stamp, stamp))
    _put(directory / INDEX, _file_list(files))
    return FilesetEntry(name, registered, type, print_columns(columns or {}))


def _file_list(files: Iterable[SampleFile]) -> str:
    """A fileset's list, with a new header wherever the columns of the types change."""
    groups = [(names, list(group)) for names, group in groupby(files, _labels)]
    return "".join(
        format_list((*FILE_COLUMNS, *names), [_file_values(file) for file in group])
        for names, group in groups or [((), [])]
    )


def _labels(file: SampleFile) -> tuple[str, ...]:
    return tuple(file.columns)


def _file_values(file: SampleFile) -> tuple[str, ...]:
    digest = hashlib.md5(file.data, usedforsecurity=False).hexdigest()
    return (file.name, str(len(file.data)), digest, file.type, *print_columns(file.columns))


def write_product_list(
    store: Path, product: str, entries: Sequence[FilesetEntry], labels: Sequence[str]
) -> None:
    """Write a product's list anew: `entries` oldest first, `labels` name its own columns."""
    rows = [(entry.name, entry.registered, entry.type, *entry.values) for entry in entries]
    _put(store / product / INDEX, format_list((*FILESET_COLUMNS, *labels), rows))


def write_root_list(store: Path, entries: Sequence[ProductEntry]) -> None:
    """Write the root list anew."""
    rows = [
        product_values(
            entry.name, entry.most_recent, entry.registered, entry.type, entry.description
        )
        for entry in entries
    ]
    _put(store / INDEX, format_list(PRODUCT_COLUMNS, rows))


def read_product_list(store: Path, product: str) -> list[FilesetEntry]:
    """The rows of a product's list; none without a list. Raises ListError for a malformed row."""
    path = store / product / INDEX
    return [
        FilesetEntry(row.name, row.registered, row.type, row.extra())
        for row in _whole(path, read_filesets)
    ]


def read_root_list(store: Path) -> list[ProductEntry]:
    """The rows of the root list; none without a list. Raises ListError for a malformed row."""
    return [
        ProductEntry(row.name, row.most_recent, row.registered, row.type, row.description)
        for row in _whole(store / INDEX, read_products)
    ]


def _whole(path: Path, read: Callable[[list[bytes]], Iterator[_R | Malformed]]) -> Iterator[_R]:
    if not path.exists():
        return
    for row in read([path.read_bytes()]):
        # A list is about to be written anew from these rows: none may get lost on the way.
        if isinstance(row, Malformed):
            raise ListError(f"{path}: line {row.line}: {row.reason}; mend or remove the line")
        yield row


def _put(path: Path, text: str) -> None:
    """Put a file in the place of another, or of none, in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.new")
    new.write_text(text)
    new.rename(path)
