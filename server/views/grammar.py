"""What a URL of a Data Store names (PROTOCOL section 1), whatever the store keeps it in.

    /index.txt   /PRODUCT/index.txt   /PRODUCT/FILESET/index.txt     lists
    /            /PRODUCT/            /PRODUCT/FILESET/              the same as pages
                 /PRODUCT             /PRODUCT/FILESET               directories without their slash
                                      /PRODUCT/FILESET/FILE          files

A URL is a grammar here and not a path: every segment is decoded once and checked before a disk or
a database is asked, and whatever is not one of these is nothing (FAULTS S1).
"""

import os
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import quote, unquote

from mirror.listing import INDEX, check_name
from server.views.answers import TEXT, Absent, Moved

NOTHING = Absent("nothing of this name")
"""The answer for what is not there, and for what must not be known to be there."""

MEDIA = {
    ".fits": "image/fits",
    ".cmf": "application/fits",
    ".smf": "application/fits",
    ".tgz": "application/gzip",
    ".gz": "application/gzip",
    ".mdc": TEXT,
    ".txt": TEXT,
    ".log": TEXT,
}
"""Content types by suffix; anything else is application/octet-stream."""


@dataclass(frozen=True, slots=True)
class ListUrl:
    """The list of the root (no names), of a product (one) or of a fileset (two)."""

    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PageUrl:
    """The page of the root (no names), of a product (one) or of a fileset (two)."""

    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DirectoryUrl:
    """A product (one name) or a fileset (two) without the slash at its end."""

    names: tuple[str, ...]

    def moved(self) -> Moved:
        """The answer that leads to the page."""
        return Moved(quoted(self.names) + "/")


@dataclass(frozen=True, slots=True)
class FileUrl:
    """A file: product, fileset, file."""

    names: tuple[str, str, str]


Url = ListUrl | PageUrl | DirectoryUrl | FileUrl


# A mirror asks for the same few paths again and again; bounded, because others ask for anything.
@lru_cache(maxsize=1024)
def parse_url(path: str) -> Url | None:
    """What a path names that begins with `/` and is still percent-encoded; None: nothing."""
    *parents, last = (unquote(segment, "latin-1") for segment in path[1:].split("/"))
    names = tuple(parents)
    if len(names) > 2 or not all(map(is_name, names)):
        return None
    if not last:
        return PageUrl(names)
    # No file can be named as the list is.
    if last == INDEX:
        return ListUrl(names)
    if not is_name(last):
        return None
    return FileUrl((*names, last)) if len(names) == 2 else DirectoryUrl((*names, last))


def parse_last(url: ListUrl, query: str) -> str:
    """The fileset after which a product's list is wanted; blank: all of it."""
    return unquote(query, "latin-1") if len(url.names) == 1 else ""


def not_listed(product: str, fileset: str) -> Absent:
    """The answer to a question for what came after a fileset that the product does not hold."""
    return Absent(f"product {product} lists no fileset {fileset[:255]!r}")


def quoted(names: tuple[str, ...]) -> str:
    """The path to what is named, percent-encoded, with a leading `/`."""
    return "".join(f"/{quote(name, safe='')}" for name in names)


def media_of(name: str) -> str:
    """The Content-Type of a file, by its suffix."""
    return MEDIA.get(os.path.splitext(name)[1], "application/octet-stream")


def is_visible(name: str) -> bool:
    """Say whether a name may be seen at all: dot files are the store's own."""
    return not name.startswith(".")


def is_name(name: str) -> bool:
    """Say whether a decoded segment may name a product, fileset or file."""
    return is_visible(name) and check_name(name) is None
