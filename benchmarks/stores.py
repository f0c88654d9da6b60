"""The Data Stores of the races, and what is known of their files: made once, kept in a directory.

`small`: many plain filesets of small files. `bundles`: runs of chips, a bundle each. `large`: one
file. `lists`: a product with a million filesets, of which only the list is there.
"""

import hashlib
import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product as pairs
from pathlib import Path

from benchmarks import bundles
from benchmarks.bundles import Content
from mirror.listing import FILE_COLUMNS, FILESET_COLUMNS, format_list, header_line, row_line
from server.samples.store_writer import (
    FilesetEntry,
    ProductEntry,
    format_time,
    write_product_list,
    write_root_list,
)

VERSION = 1
"""Changes when the stores do, so that those kept from before are made anew."""

SMALL_FILESETS, SMALL_FILES = 200, 10
RUNS, COMPONENTS = 2, 60
LARGE_SIZE = 1 << 30
LISTED = 1_000_000

_FIRST = 1239764531
_WIDTH, _HEIGHT = 2176, 1024
_PIECES = 2 * _WIDTH * _HEIGHT // bundles.PIECE
_SIGMA = 28.5
"""Units of noise in an image: with it a bundle is deflated to 1 / 1.77 of its contents."""

_CLASSES = [f"XY{x}{y}" for x, y in pairs(range(8), range(8))][:COMPONENTS]


@dataclass(frozen=True, slots=True)
class Known:
    """A file: where it is below the store, its bytes, and its md5 sum (empty: it may change)."""

    path: str
    size: int
    md5: str

    @property
    def name(self) -> str:
        """The base name."""
        return self.path.rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class Store:
    """A Data Store. `usable`: the files of a usable copy; where those of bundles stand they have
    the directory of their fileset, here and (below data/) in the client's tree."""

    root: Path
    product: str
    served: Sequence[Known]
    usable: Sequence[Known]
    sampled: int
    """Every so many usable files are summed after a run; of the others, the size counts."""

    @property
    def bundled(self) -> bool:
        """Whether there is something to unpack."""
        return any(one.path.endswith(".tgz") for one in self.served)

    @property
    def bytes(self) -> int:
        """Bytes to be fetched."""
        return sum(one.size for one in self.served)


def prepare(directory: Path, name: str) -> Store:
    """The store of that name below `directory`; it is made if it is not there from before."""
    root = directory / f"{name}.{VERSION}"
    note = directory / f"{name}.{VERSION}.json"
    if not note.exists():
        root.mkdir(parents=True, exist_ok=True)
        product, served, usable = _MAKERS[name](root)
        made = {"product": product, "served": served, "usable": usable}
        note.write_text(json.dumps(made, default=asdict))
    known = json.loads(note.read_text())
    served, usable = ([Known(**one) for one in known[kind]] for kind in ("served", "usable"))
    return Store(root, known["product"], served, usable, 8 if name == "bundles" else 1)


Made = tuple[str, list[Known], list[Known]]


def _small(root: Path) -> Made:
    """Plain filesets of files of about 2 kB."""
    chance = random.Random(2)
    served: list[Known] = []
    entries = []
    for number in range(SMALL_FILESETS):
        fileset = f"pub.{101 + number}.camera.{9120 + number}"
        made = [
            _put(root, f"tables/{fileset}/o{4741 + number}g{file:04d}o.mops.fits", one)
            for file in range(SMALL_FILES)
            for one in [[chance.randbytes(chance.randrange(1200, 2900))]]
        ]
        _write_files(root / "tables" / fileset, [(*_row(one), "table") for one in made], ())
        entries.append(FilesetEntry(fileset, format_time(_FIRST + 60 * number), "table"))
        served += made
    _write_lists(root, "tables", "table", entries, ())
    return "tables", served, served


def _large(root: Path) -> Made:
    """One plain file: noise, the same piece of it again and again from another place."""
    chance = random.Random(3)
    block = chance.randbytes(1 << 24)
    starts = [chance.randrange(len(block)) for _ in range(LARGE_SIZE // len(block))]
    pieces = (part for start in starts for part in (block[start:], block[:start]))
    known = _put(root, "stacks/stack.421.33.1/RINGS.V3.skycell.1566.004.stk.421.fits", pieces)
    _write_files(root / "stacks" / "stack.421.33.1", [(*_row(known), "fits")], ())
    _write_lists(
        root,
        "stacks",
        "ipp-misc",
        [FilesetEntry("stack.421.33.1", format_time(_FIRST), "table")],
        (),
    )
    return "stacks", [known], [known]


def _bundles(root: Path) -> Made:
    """Runs of chips as a distribution has them, with dbinfo and dirinfo."""
    chance = random.Random(4)
    sky = bundles.noise(48, _SIGMA, 4)
    served: list[Known] = []
    usable: list[Known] = []
    entries = []
    for run in range(RUNS):
        exposure, chip = f"o4741g{239 + run:04d}o", 11955 + run
        fileset = f"{exposure}.chip.{chip}.{2 + run}.1"
        base = f"{exposure}.{68114 + run}.ch.{chip}"
        place = f"gpc1/{fileset}"
        made = [
            (_put(root, f"{place}/{name}", [text]), "text", kind)
            for name, kind, text in _documents(fileset, chip, base)
        ]
        for component in _CLASSES:
            members = _members(f"{base}.{component}", sky, chance)
            packed = bundles.bundle(members)
            made.append((_put(root, f"{place}/{base}.{component}.tgz", [packed]), "tgz", component))
            usable += [_member(place, one) for one in members]
        rows = [(*_row(known), kind, component) for known, kind, component in made]
        _write_files(root / place, rows, ("component",))
        columns = ("1", "chip", str(chip), exposure)
        entries.append(FilesetEntry(fileset, format_time(_FIRST + run), "IPP-DIST", columns))
        served += [known for known, _, _ in made]
    _write_lists(root, "gpc1", "ipp-dist", entries, ("target_id", "stage", "stage_id", "exp_name"))
    return "gpc1", served, usable


def _members(base: str, sky: Sequence[bundles.Piece], chance: random.Random) -> list[Content]:
    """The files of one chip: an image and its variance, and three small ones."""
    images = [bundles.image(_WIDTH, _HEIGHT, chance.choices(sky, k=_PIECES)) for _ in range(2)]
    dump = (
        f"# ppImage\nFILES.INPUT METADATA\n   PPIMAGE.INPUT STR neb://ipp014.0/raw/{base}.fits\n"
        f"END\nFILES.OUTPUT METADATA\n   PPIMAGE.CHIP STR neb://ipp009.0/gpc1/x/{base}.ch.fits\n"
        f"   PPIMAGE.CHIP.VARIANCE STR neb://ipp009.0/gpc1/x/{base}.ch.wt.fits\nEND\n"
    )
    log = "".join(f"ppImage: row {row} of {base}: {chance.random()}\n" for row in range(400))
    return [
        Content(f"{base}.ch.fits", images[0]),
        Content(f"{base}.ch.wt.fits", images[1]),
        Content(f"{base}.ch.mk.fits", bundles.image(256, 256, [bundles.piece(bytes(1 << 17))])),
        Content(f"{base}.log", [bundles.piece(log.encode())]),
        Content(f"{base}.mdc", [bundles.piece(dump.encode())]),
    ]


def _member(place: str, content: Content) -> Known:
    """What is known of an unpacked file. The paths in a dump are made local by the client."""
    if content.name.endswith(".mdc"):
        return Known(f"{place}/{content.name}", 0, "")
    total = hashlib.md5(usedforsecurity=False)
    for one in content.pieces:
        total.update(one.raw)
    size = sum(len(one.raw) for one in content.pieces)
    return Known(f"{place}/{content.name}", size, total.hexdigest())


def _documents(fileset: str, chip: int, base: str) -> Iterator[tuple[str, str, bytes]]:
    """Name, component and text of dbinfo and dirinfo; destdir and directory are the fileset's."""
    path = f"neb://ipp009.0/gpc1/{fileset}/{base}"
    rows = "".join(
        f"chipProcessedImfile METADATA\n   chip_id S64 {chip}\n   class_id STR {component}\n"
        f"   uri STR {path}.{component}.ch.fits\n   path_base STR {path}\nEND\n\n"
        for component in _CLASSES
    )
    dbinfo = (
        "dbversion MULTI\ndbversion METADATA\n   schema_version STR 1.1.60\nEND\n\n"
        f"chipRun MULTI\nchipRun METADATA\n   chip_id S64 {chip}\n"
        "   workdir STR neb://ipp009.0/gpc1\n   tess_id STR RINGS.V3\nEND\n\n"
        f"chipProcessedImfile MULTI\n{rows}"
    )
    places = "".join(f"   {component} STR {fileset}\n" for component in _CLASSES)
    dirinfo = f"destdir METADATA\n   destdir STR gpc1\nEND\n\ncomponents METADATA\n{places}END\n"
    for kind, text in (("dbinfo", dbinfo), ("dirinfo", dirinfo)):
        yield f"{kind}.chip.{chip}.mdc", kind, text.encode()


def _lists(root: Path) -> Made:
    """A product of which there is a list of a million rows, 98 bytes each, and nothing else."""
    names = (*FILESET_COLUMNS, "target_id", "stage", "stage_id", "exp_name")
    widths = [29, 21, 9, 10, 6, 9, 12]
    path = root / "chips" / "index.txt"
    path.parent.mkdir(exist_ok=True)
    with path.open("w", encoding="ascii") as file:
        file.write(header_line(names, widths))
        for number in range(LISTED):
            exposure = f"o{4741 + number // 9000}g{number % 9000:04d}o"
            fileset = f"{exposure}.chip.{number}.{number}.1"
            registered = format_time(_FIRST + 7 * number)
            row = (fileset, registered, "IPP-DIST", "2", "chip", str(number), exposure)
            file.write(row_line(row, widths))
    write_root_list(root, [ProductEntry("chips", fileset, registered, "ipp-dist", "A long list")])
    size = path.stat().st_size
    return "chips", [Known("chips/index.txt", size, "")], []


_MAKERS: Mapping[str, Callable[[Path], Made]] = {
    "small": _small, "bundles": _bundles, "large": _large, "lists": _lists,
}  # fmt: skip


def _put(root: Path, path: str, pieces: Iterator[bytes] | Sequence[bytes]) -> Known:
    """Write a file of the store."""
    target = root / path
    target.parent.mkdir(parents=True, exist_ok=True)
    total = hashlib.md5(usedforsecurity=False)
    size = 0
    with target.open("wb") as file:
        for one in pieces:
            file.write(one)
            total.update(one)
            size += len(one)
    return Known(path, size, total.hexdigest())


def _row(known: Known) -> tuple[str, str, str]:
    return known.name, str(known.size), known.md5


def _write_files(directory: Path, rows: Sequence[Sequence[str]], labels: tuple[str, ...]) -> None:
    (directory / "index.txt").write_text(format_list((*FILE_COLUMNS, *labels), rows))


def _write_lists(
    root: Path, product: str, kind: str, entries: Sequence[FilesetEntry], labels: Sequence[str]
) -> None:
    write_product_list(root, product, entries, labels)
    last = entries[-1]
    write_root_list(root, [ProductEntry(product, last.name, last.registered, kind, "A race")])


def check(store: Store, tree: Path, round_number: int) -> None:
    """Compare what a run left below `tree` with the store. Raises AssertionError.

    Every usable file must be there with its size; the sums of a sample, another one each round.
    """
    for number, known in enumerate(store.usable):
        path = tree / known.path
        if not path.is_file() or (known.md5 and path.stat().st_size != known.size):
            raise AssertionError(f"{path}: missing, or not of {known.size} bytes")
        if known.md5 and (number + round_number) % store.sampled == 0:
            with path.open("rb") as file:
                if hashlib.file_digest(file, "md5").hexdigest() != known.md5:
                    raise AssertionError(f"{path}: another content than in the store")
