"""What may be answered for a URL: the seam between what knows the data and what speaks HTTP.

A *store* is anything with a `find` like the one of `Store` below. It knows products, filesets and
files and nothing of methods, headers or sockets; `server.web` knows those and nothing of where a
list comes from.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

TEXT = "text/plain; charset=utf-8"
HTML = "text/html; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who asks: the client's address, and what its Authorization field says (None without one)."""

    address: str
    authorization: str | None = None


@dataclass(frozen=True, slots=True)
class Stream:
    """A list or a page, made while it is sent.

    `length` is in bytes, None where it is not known beforehand. `etag` comes with its quotes, and
    changes whenever the bytes do; None where nobody asks twice.
    """

    media: str
    chunks: Iterator[bytes]
    length: int | None = None
    etag: str | None = None


@dataclass(frozen=True, slots=True)
class File:
    """A file of a fileset, open: `descriptor` is closed by the store, not by the reader.

    `path` is where it stands below the store's directory, percent-encoded, with a leading `/`.
    `size` in bytes, `modified` in seconds since 1970, `etag` with its quotes. `private`: only some
    may have it, so that no cache which others use too may keep it.
    """

    path: str

    descriptor: int
    size: int
    modified: float
    etag: str
    media: str
    private: bool = False


@dataclass(frozen=True, slots=True)
class Moved:
    """The URL of a directory without its slash. `location` is an absolute path, quoted."""

    location: str


@dataclass(frozen=True, slots=True)
class Absent:
    """Nothing answers under this URL; `reason` is one line for the reader."""

    reason: str


@dataclass(frozen=True, slots=True)
class Denied:
    """Not for this visitor. `challenge`: one that names a user and a password may be let in."""

    reason: str
    challenge: bool


Answer = Stream | File | Moved | Absent | Denied


class Store(Protocol):
    """Who knows what stands under a URL (PROTOCOL section 1)."""

    def find(self, path: str, query: str, visitor: Visitor) -> AbstractContextManager[Answer]:
        """The answer for a path that begins with `/` and a query, both still percent-encoded.

        What the answer needs stays open inside the `with`. Raises Unavailable where the same
        question may be answered in a moment, any other MirrorError where the store's own files
        are at fault.
        """
