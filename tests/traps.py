"""Two stores with the same contents and the same traps: plain files, and a catalogue's.

What must never be had is SECRET, or as long as it, so that no size gives a trap away.
"""

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from publisher import Publisher
from served import HOST, Process, serving

from server.samples.sample import (
    FilesetEntry,
    ProductEntry,
    SampleFile,
    write_fileset,
    write_product_list,
    write_root_list,
)

TIME = "2009-04-15T03:02:11Z"
DATA = bytes(range(256)) * 40
ETAG = f'"{hashlib.md5(DATA).hexdigest()}"'
FILE = "/gpc1/o1.chip.1.1.1/image.fits"
GET_FILE = f"GET {FILE} HTTP/1.1\r\n".encode() + HOST
SECRET = b"not for the world"
PASSWORD = "correct horse"


# --- plain files -----------------------------------------------------------------------------


def plain_store(directory: Path) -> Path:
    """Two products, one of them hidden; filesets of plain files, links and traps."""
    outside, root = directory / "outside", directory / "store"
    _set_bait(outside)
    entries = [_write_chip(root, number) for number in (1, 2, 3)]
    write_product_list(root, "gpc1", entries, ["exp_name"])
    empty = write_fileset(root, "hidden", "with blank+plus", [])
    write_product_list(root, "hidden", [empty, write_fileset(root, "hidden", "b", [])], [])
    write_root_list(root, [ProductEntry("gpc1", entries[-1].name, TIME, "ipp-dist", "<Camera> 1")])
    _set_traps(root, outside)
    return root


def _set_bait(outside: Path) -> None:
    outside.mkdir()
    (outside / "secret.fits").write_bytes(SECRET)
    (outside / "index.txt").write_bytes(SECRET)


def _write_chip(root: Path, number: int) -> FilesetEntry:
    files = [
        SampleFile("dbinfo.mdc", b"x\n", "text", {"component": "dbinfo"}),
        SampleFile("image.fits", DATA, "fits"),
        SampleFile("empty.tgz", b"", "tgz", {"component": "XY01"}),
        SampleFile("odd name:1.bin", b"odd", "table"),
    ]
    name = f"o{number}.chip.{number}.1.1"
    return write_fileset(root, "gpc1", name, files, registered=TIME, columns={"exp_name": None})


def _set_traps(root: Path, outside: Path) -> None:
    traps = root / "gpc1" / "traps"
    rows = ["escape.fits", "stays.fits", "blank.txt", ".dot", "pipe.fits", "dir.fits", "gone.fits"]
    # The size is wrong for all and the sum missing, so no file has the list's sum as its ETag.
    listed = "".join(f"{name}|1||fits|\n" for name in rows)
    traps.mkdir()
    (traps / "index.txt").write_text(f"# fileID|bytes|md5sum|type|\n{listed}")
    (traps / "stays.fits").symlink_to("../o1.chip.1.1.1/image.fits")
    (traps / "blank.txt").write_bytes(b"text")
    _set_unlisted(traps, outside)
    (traps / "dir.fits").mkdir()
    os.mkfifo(traps / "pipe.fits")
    (root / "gpc1" / "outside").symlink_to(outside)
    (root / "away").symlink_to(outside)
    (root / ".datastore.db").write_bytes(SECRET)


def _set_unlisted(traps: Path, outside: Path) -> None:
    (traps / "escape.fits").symlink_to(outside / "secret.fits")
    (traps / ".dot").write_bytes(SECRET)
    (traps / "unlisted.fits").write_bytes(SECRET)


# --- a catalogue -----------------------------------------------------------------------------

_SPOILED = ("moved", "chained", "pipe", "dir", "gone")
"""Files that were registered in order, and are not what they were any more."""


def registered_store(directory: Path) -> Publisher:
    """The same under the same names, and products for users and for networks only.

    Besides: files and a directory that were replaced after they had been registered.
    """
    outside, allowed, source = (directory / name for name in ("outside", "allowed", "source"))
    _set_bait(outside)
    for name in (allowed, source):
        name.mkdir()
        for file in (*_SPOILED, "image"):
            (name / f"{file}.fits").write_bytes(SECRET)
    (source / "image.fits").write_bytes(DATA)
    site = Publisher(directory, {"LINK_ROOTS": str(allowed)})
    _publish(site, source, allowed)
    _spoil(site.root / "gpc1", outside, allowed)
    _set_unlisted(site.root / "gpc1" / "traps", outside)
    (site.root / "gpc1" / "outside").symlink_to(outside)
    (site.root / "away").symlink_to(outside)
    return site


def _publish(site: Publisher, source: Path, allowed: Path) -> None:
    for product in ("gpc1", "hidden", "closed", "fenced"):
        site.product(product, "ipp-dist", options=["--hide"] if product == "hidden" else [])
        name = "o1.chip.1.1.1" if product == "gpc1" else f"{product[0]}1"
        site.register(product, name, source, "image.fits|||fits|\n", kind="OBJECT")
    lines = "".join(f"{name}.fits|||fits|\n" for name in _SPOILED)
    site.register("gpc1", "swapped", source, "image.fits|||fits|\n", kind="OBJECT")
    site.must(
        "dsreg", "--add", "traps", "--product", "gpc1", "--type", "OBJECT", "--list", "-",
        "--link", "--datapath", str(allowed), stdin=lines,
    )  # fmt: skip
    site.must(
        "user", "add", "jan", "--product", "closed", "--password-file", "-", stdin=f"{PASSWORD}\n"
    )
    site.must("network", "add", "192.0.2.0/24", "--product", "fenced")


def _spoil(product: Path, outside: Path, allowed: Path) -> None:
    traps = product / "traps"
    for name in _SPOILED:
        if name != "chained":
            (traps / f"{name}.fits").unlink()
    (traps / "moved.fits").symlink_to(outside / "secret.fits")
    (allowed / "chained.fits").unlink()
    (allowed / "chained.fits").symlink_to(outside / "secret.fits")
    (traps / "dir.fits").mkdir()
    os.mkfifo(traps / "pipe.fits")
    shutil.rmtree(product / "swapped")
    (outside / "image.fits").write_bytes(SECRET.ljust(len(DATA)))
    (product / "swapped").symlink_to(outside)


@contextmanager
def serving_registered(site: Publisher, *options: str) -> Iterator[Process]:
    """Serve a catalogue as its site does."""
    with serving(site.root, *options, environ=site.environment(), as_option="--dsroot") as running:
        yield running
