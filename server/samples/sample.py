"""`python -m server sample`: a small Data Store with real content, the same for the same seed.

Its filesets follow one upon the other without end: of each exposure a chip run, a camera run, a
stack that it went into, and a publication of its detections. Without --add it writes the first
ones of this sequence, with it the next ones. With --runs: finished runs, before anything is
distributed.
"""

import argparse
import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mirror.errors import ConfigError
from server.command import about
from server.samples import sample_runs
from server.samples.pipeline import SEED, Exposure
from server.samples.sample_filesets import Fileset, detections, distribution
from server.samples.sample_sky import Sky
from server.samples.store_writer import (
    FilesetEntry,
    ProductEntry,
    SampleFile,
    format_time,
    make_bundle,
    read_product_list,
    read_root_list,
    write_fileset,
    write_product_list,
    write_root_list,
)

__all__ = [
    "PRODUCTS", "FilesetEntry", "ProductEntry", "SampleFile", "add", "build", "make_bundle",
    "write_fileset", "write_product_list", "write_root_list",
]  # fmt: skip

FILESETS = 6

_FIRST = 1239764531
"""When the first fileset was registered: 2009-04-15T03:02:11Z."""


@dataclass(frozen=True, slots=True)
class _Product:
    type: str
    fileset_type: str
    description: str
    labels: tuple[str, ...]


PRODUCTS: Mapping[str, _Product] = {
    "gpc1": _Product(
        "ipp-dist", "IPP-DIST", "Giga Pixel Camera 1 distribution",
        ("target_id", "stage", "stage_id", "exp_name", "data_group", "filter"),
    ),
    "IPP-MOPS": _Product(
        "IPP-MOPS", "IPP-MOPS", "Detections for moving objects", ("comment", "exposure")
    ),
}  # fmt: skip
"""The products of a sample store, in the order of its root list."""

_RUNS = (sample_runs.chip, sample_runs.camera, sample_runs.stack)


def main(argv: list[str]) -> int:
    """Build or extend a sample store; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m server sample", description=about(__doc__))
    parser.add_argument("dir", type=Path, metavar="DIR", help="where the store is, or will be")
    parser.add_argument(
        "--filesets", type=_count, metavar="N",
        help="distribution filesets to build, and one published for every three of them "
        f"(default: {FILESETS})",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=SEED, metavar="S", help="of all that is random")
    parser.add_argument(
        "--add", type=_count, metavar="K", help="register K more filesets in a store that is there"
    )
    parser.add_argument(
        "--runs", action="store_true",
        help="write finished runs instead: files in DIR/neb, exported runs in DIR/exports",
    )  # fmt: skip
    parser.add_argument(
        "--exposures", type=_count, metavar="N", help="of --runs: so many exposures (default: 1)"
    )
    options = parser.parse_args(argv)
    if options.runs:
        return _finished(parser, options)
    if options.exposures is not None:
        parser.error("--exposures goes with --runs only")
    if options.add is None:
        filesets = FILESETS if options.filesets is None else options.filesets
        names = build(options.dir, filesets=filesets, seed=options.seed)
    else:
        names = add(options.dir, options.add, seed=options.seed)
    print(f"registered {len(names)} filesets in {options.dir}")
    return 0


def _finished(parser: argparse.ArgumentParser, options: argparse.Namespace) -> int:
    if options.add is not None or options.filesets is not None:
        parser.error("--add and --filesets do not go with --runs")
    from server.samples.finished import build_runs

    exposures = 1 if options.exposures is None else options.exposures
    runs = build_runs(options.dir, exposures=exposures, seed=options.seed)
    print(
        f"wrote {len(runs.exports)} runs: files in {runs.neb_root}, exported in {options.dir}"
        "/exports"
    )
    return 0


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) > 100_000:
        raise argparse.ArgumentTypeError(f"a number from 0 to 100000 expected, not {text}")
    return int(text)


def build(directory: Path, *, filesets: int = FILESETS, seed: int = SEED) -> list[str]:
    """Build a sample store with `filesets` distribution filesets and a third as many published.

    Returns `PRODUCT/FILESET` of each, in the order of registration.
    Raises ConfigError where the directory holds a store already.
    """
    if (directory / "index.txt").exists():
        raise ConfigError([f"{directory} holds a Data Store already: --add K adds to it"])
    return _register(directory, filesets + filesets // 3, seed)


def add(directory: Path, count: int, *, seed: int = SEED) -> list[str]:
    """Register `count` more filesets in a sample store, as `build` would have gone on.

    Returns `PRODUCT/FILESET` of each. Raises ConfigError where there is no sample store.
    """
    listed = {product.name for product in read_root_list(directory)}
    if not listed.issuperset(PRODUCTS):
        raise ConfigError([f"{directory} holds no sample Data Store: build one without --add"])
    return _register(directory, count, seed)


def _register(store: Path, count: int, seed: int) -> list[str]:
    """Write the next `count` filesets of the sequence, then the lists that name them."""
    entries = {product: read_product_list(store, product) for product in PRODUCTS}
    first = sum(map(len, entries.values()))
    names = []
    for number in range(first, first + count):
        product, fileset = _fileset(number, seed)
        known = PRODUCTS[product]
        entry = write_fileset(
            store, product, fileset.name, fileset.files,
            registered=_registered(number), type=known.fileset_type,
            columns=dict(zip(known.labels, fileset.values, strict=True)),
        )  # fmt: skip
        entries[product].append(entry)
        names.append(f"{product}/{fileset.name}")
    for product, known in PRODUCTS.items():
        write_product_list(store, product, entries[product], known.labels)
    write_root_list(store, [_root_row(product, entries[product]) for product in PRODUCTS])
    return names


def _fileset(number: int, seed: int) -> tuple[str, Fileset]:
    """The product and content of a fileset of the sequence, out of its number and the seed."""
    cycle, step = divmod(number, len(_RUNS) + 1)
    exposure, sky = Exposure(cycle), Sky(random.Random(f"{seed} {number}"))
    if step == len(_RUNS):
        return "IPP-MOPS", detections(exposure, sky)
    return "gpc1", distribution(_RUNS[step](exposure, sky), dist_id=31 + number)


def _registered(number: int) -> str:
    # Always later, by intervals that are not all the same.
    return format_time(_FIRST + 61 * number + (number * number) % 47)


def _root_row(product: str, entries: list[FilesetEntry]) -> ProductEntry:
    known = PRODUCTS[product]
    last = entries[-1] if entries else None
    registered = last.registered if last else format_time(_FIRST)
    return ProductEntry(
        product, last.name if last else None, registered, known.type, known.description
    )
