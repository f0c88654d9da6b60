"""The sample Data Store: what the protocol says of it, the same every time, and valid FITS."""

import gzip
import hashlib
import io
import math
import re
import struct
import subprocess
import sys
import tarfile
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from client import PATIENCE

from mirror.errors import ConfigError, ListError
from mirror.listing import FileRow, FilesetRow, ProductRow, read_files, read_filesets, read_products
from server.samples import fits
from server.samples.fits import BLOCK, Card, Column
from server.samples.sample import (
    FilesetEntry,
    ProductEntry,
    SampleFile,
    add,
    build,
    make_bundle,
    write_fileset,
    write_product_list,
    write_root_list,
)

PROJECT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sample store as it is built by default."""
    root = tmp_path_factory.mktemp("sample")
    build(root)
    return root


def filesets(store: Path, product: str) -> list[FilesetRow]:
    rows = list(read_filesets([(store / product / "index.txt").read_bytes()]))
    kept = [row for row in rows if isinstance(row, FilesetRow)]
    assert kept == rows
    return kept


def files(store: Path, product: str, fileset: str) -> list[FileRow]:
    rows = list(read_files([(store / product / fileset / "index.txt").read_bytes()]))
    kept = [row for row in rows if isinstance(row, FileRow)]
    assert kept == rows
    return kept


def content(store: Path) -> dict[str, tuple[bytes, float]]:
    """Every file of a store but the lists' times, which are those of their writing."""
    return {
        str(path.relative_to(store)): (
            path.read_bytes(),
            path.stat().st_mtime if path.name != "index.txt" else 0.0,
        )
        for path in sorted(store.rglob("*"))
        if path.is_file()
    }


def members(bundle: Path) -> dict[str, bytes]:
    with tarfile.open(bundle) as tar:
        return {info.name: file.read() for info in tar if (file := tar.extractfile(info))}


def bundles(store: Path, stage: str) -> Iterator[tuple[FileRow, Path]]:
    for row in filesets(store, "gpc1"):
        if row.columns()["stage"] == stage:
            for file in files(store, "gpc1", row.name):
                if file.type == "tgz":
                    yield file, store / "gpc1" / row.name / file.name


# --- the store -------------------------------------------------------------------------------


def test_root_list_names_both_products_and_their_newest(store: Path) -> None:
    rows = list(read_products([(store / "index.txt").read_bytes()]))
    found = [(r.name, r.type, r.most_recent) for r in rows if isinstance(r, ProductRow)]
    assert found == [
        ("gpc1", "ipp-dist", filesets(store, "gpc1")[-1].name),
        ("IPP-MOPS", "IPP-MOPS", filesets(store, "IPP-MOPS")[-1].name),
    ]


def test_default_store_has_six_distributed_and_two_published_filesets(store: Path) -> None:
    stages = [row.columns()["stage"] for row in filesets(store, "gpc1")]
    assert stages == ["chip", "camera", "stack"] * 2
    assert len(filesets(store, "IPP-MOPS")) == 2
    assert sum(len(data) for data, _ in content(store).values()) < 5_000_000


def test_registration_times_increase(store: Path) -> None:
    rows = filesets(store, "gpc1") + filesets(store, "IPP-MOPS")
    times = sorted(row.registered for row in rows)
    assert len(set(times)) == len(times)
    for product in ("gpc1", "IPP-MOPS"):
        listed = [row.registered for row in filesets(store, product)]
        assert listed == sorted(listed)


def test_columns_are_those_of_the_protocol(store: Path) -> None:
    chip, published = filesets(store, "gpc1")[0], filesets(store, "IPP-MOPS")[0]
    own = ("target_id", "stage", "stage_id", "exp_name", "data_group", "filter")
    assert chip.header.names[3:] == own
    assert published.header.names[3:] == ("comment", "exposure")
    assert (chip.type, published.type) == ("IPP-DIST", "IPP-MOPS")
    assert published.columns()["exposure"] == chip.columns()["exp_name"]


def test_names_say_what_the_columns_say(store: Path) -> None:
    for row in filesets(store, "gpc1"):
        column = row.columns()
        run = f"{column['stage']}.{column['stage_id']}"
        plain = re.fullmatch(rf"(?:(o\d+g\d+o)\.)?{run}\.\d+\.\d+", row.name)
        assert plain, row.name
        assert column["exp_name"] == (plain[1] or run)
        assert (plain[1] is None) == (column["stage"] == "stack")
    for row in filesets(store, "IPP-MOPS"):
        assert re.fullmatch(r"pub\.\d+\.camera\.\d+", row.name)


def test_lists_give_size_and_sum_of_every_file(store: Path) -> None:
    for product in ("gpc1", "IPP-MOPS"):
        for row in filesets(store, product):
            listed = files(store, product, row.name)
            directory = store / product / row.name
            assert {f.name for f in listed} | {"index.txt"} == {p.name for p in directory.iterdir()}
            for file in listed:
                data = (directory / file.name).read_bytes()
                assert (file.size, file.md5) == (len(data), hashlib.md5(data).hexdigest())


def test_published_fileset_is_plain_tables_without_dirinfo(store: Path) -> None:
    for row in filesets(store, "IPP-MOPS"):
        for file in files(store, "IPP-MOPS", row.name):
            assert (file.type, Path(file.name).suffix) == ("IPP-MOPS", ".fits")
            hdus = read_hdus((store / "IPP-MOPS" / row.name / file.name).read_bytes())
            assert [hdu.value("XTENSION") for hdu in hdus] == ["", "'BINTABLE'"]


@pytest.mark.parametrize("stage", ["chip", "camera", "stack"])
def test_distribution_fileset_fits_together(store: Path, stage: str) -> None:
    row = next(r for r in filesets(store, "gpc1") if r.columns()["stage"] == stage)
    listed = {f.columns()["component"]: f for f in files(store, "gpc1", row.name)}
    run = f"{stage}.{row.columns()['stage_id']}.mdc"
    assert (listed["dbinfo"].name, listed["dirinfo"].name) == (f"dbinfo.{run}", f"dirinfo.{run}")
    assert listed["dbinfo"].type == listed["dirinfo"].type == "text"
    directory = store / "gpc1" / row.name
    dirinfo = (directory / f"dirinfo.{run}").read_text()
    places = dict(re.findall(r"^\t(\S+)\tSTR\t(\S+)$", dirinfo, re.MULTILINE))
    destdir = places.pop("destdir")
    dbinfo = (directory / f"dbinfo.{run}").read_text()
    assert re.search(rf"^ +workdir +STR +neb://[^/]+/{destdir}$", dbinfo, re.MULTILINE)
    path_base = re.search(r"^ +path_base +STR +(neb:\S+)$", dbinfo, re.MULTILINE)
    assert path_base
    assert set(places) == set(listed) - {"dbinfo", "dirinfo"}
    for component, place in places.items():
        base = path_base[1].rpartition("/")[2]
        tail = ".tgz" if stage == "stack" else f".{component}.tgz"
        assert listed[str(component)].name == base + tail
        assert f"/{destdir}/{place}/{base}" in path_base[1]


@pytest.mark.parametrize(
    ("stage", "table"), [("chip", "chipRun"), ("camera", "camRun"), ("stack", "stackRun")]
)
def test_dbinfo_begins_with_its_version_and_names_the_run(
    store: Path, stage: str, table: str
) -> None:
    path = next(store.glob(f"gpc1/*/dbinfo.{stage}.*.mdc"))
    assert re.findall(r"^(\w+) MULTI$", path.read_text(), re.MULTILINE)[:2] == ["dbversion", table]


def test_component_without_files_has_a_row_and_no_bundle(store: Path) -> None:
    dbinfo = next(store.glob("gpc1/*/dbinfo.chip.*.mdc")).read_text()
    poor = re.search(r"class_id +STR +XY33\n.*\n +uri +STR +NULL\n +path_base +STR +NULL", dbinfo)
    assert poor
    assert not list(store.glob("gpc1/*/*XY33*"))


@pytest.mark.parametrize("stage", ["chip", "camera", "stack"])
def test_members_are_flat_and_the_dump_names_them(store: Path, stage: str) -> None:
    for row, path in bundles(store, stage):
        found = members(path)
        assert all(re.fullmatch(r"\./[^/]+", name) for name in found)
        component = row.columns()["component"]
        base = row.name.removesuffix(".tgz")
        dump_name = f"./{base.removesuffix('.exposure')}.mdc"
        dump = found.pop(dump_name)
        text = (gzip.decompress(dump) if dump.startswith(b"\x1f\x8b") else dump).decode()
        outputs = block(text, "FILES.OUTPUT")
        assert {f"./{p.rpartition('/')[2]}" for _, p in outputs} == set(found), component
        assert all(path.startswith("neb://") for _, path in outputs)


def block(text: str, name: str) -> list[tuple[str, str]]:
    inside = text.split(f"{name} METADATA\n")[1].split("\nEND\n")[0]
    return re.findall(r"^ +(\S+) +STR +(\S+)$", inside, re.MULTILINE)


def test_dump_of_a_chip_has_paths_of_all_four_kinds(store: Path) -> None:
    _, path = next(bundles(store, "chip"))
    dump = next(data for name, data in members(path).items() if name.endswith(".mdc")).decode()
    volumes = {re.match(r"neb://|path://|file://|/data/", p) for _, p in block(dump, "FILES.INPUT")}
    assert {volume[0] for volume in volumes if volume} == {"neb://", "path://", "file://", "/data/"}


def test_one_dump_is_gzipped_despite_its_name(store: Path) -> None:
    dumps = [
        data
        for _, path in bundles(store, "chip")
        for name, data in members(path).items()
        if name.endswith(".mdc")
    ]
    assert [dump.startswith(b"\x1f\x8b") for dump in dumps].count(True) == 1


def test_every_image_and_catalogue_is_fits(store: Path) -> None:
    count = 0
    for stage in ("chip", "camera", "stack"):
        for _, path in bundles(store, stage):
            for name, data in members(path).items():
                if name.endswith((".fits", ".cmf", ".smf")):
                    read_hdus(data)
                    count += 1
    assert count == 2 * (3 * 4 + 1 + 4)


# --- the same every time ---------------------------------------------------------------------


def test_same_seed_same_bytes_and_times(store: Path, tmp_path: Path) -> None:
    build(tmp_path)
    assert content(tmp_path) == content(store)


def test_other_seed_other_data_under_the_same_names(store: Path, tmp_path: Path) -> None:
    build(tmp_path, seed=1)
    one, other = content(store), content(tmp_path)
    assert one.keys() == other.keys()
    assert all(one[name] != other[name] for name in one if name.endswith((".tgz", ".fits")))


@pytest.mark.parametrize("more", [1, 2, 4])
def test_add_goes_on_where_build_ended(tmp_path: Path, more: int) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    names = build(whole, filesets=6)
    begun = build(parts, filesets=3)
    added: list[str] = []
    while len(begun) + len(added) < len(names):
        added += add(parts, min(more, len(names) - len(begun) - len(added)))
    assert begun + added == names
    assert content(parts) == content(whole)


def test_add_keeps_what_was_there(store: Path, tmp_path: Path) -> None:
    build(tmp_path)
    before = content(tmp_path)
    added = add(tmp_path, 4)
    after = content(tmp_path)
    assert len(added) == len(set(added)) == 4
    assert {n for n in before if before[n] != after.get(n)} <= {
        "index.txt", "gpc1/index.txt", "IPP-MOPS/index.txt",
    }  # fmt: skip


def test_empty_store_has_empty_lists_and_can_grow(tmp_path: Path) -> None:
    assert build(tmp_path, filesets=0) == []
    assert filesets(tmp_path, "gpc1") == []
    rows = list(read_products([(tmp_path / "index.txt").read_bytes()]))
    assert [row.most_recent for row in rows if isinstance(row, ProductRow)] == [None, None]
    assert len(add(tmp_path, 1)) == 1


def test_build_refuses_a_store_and_add_refuses_none(store: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--add"):
        build(store)
    with pytest.raises(ConfigError, match="no sample Data Store"):
        add(tmp_path, 1)


def test_add_refuses_a_list_that_it_would_mend_by_losing_a_row(tmp_path: Path) -> None:
    build(tmp_path, filesets=1)
    path = tmp_path / "gpc1" / "index.txt"
    damaged = path.read_bytes() + b"half a row\n"
    path.write_bytes(damaged)
    with pytest.raises(ListError, match=r"gpc1/index\.txt: line 3"):
        add(tmp_path, 1)
    assert path.read_bytes() == damaged


def test_lists_are_replaced_in_one_step(tmp_path: Path) -> None:
    build(tmp_path, filesets=1)
    path = tmp_path / "gpc1" / "index.txt"
    before = path.read_bytes()
    with path.open("rb") as held:
        add(tmp_path, 3)
        assert held.read() == before
    assert path.read_bytes() != before
    assert not list(tmp_path.rglob(".*"))


def test_command_builds_and_adds(tmp_path: Path) -> None:
    def sample(*arguments: str) -> tuple[int, str, str]:
        done = subprocess.run(
            [sys.executable, "-m", "server", "sample", str(tmp_path / "s"), *arguments],
            capture_output=True, text=True, cwd=PROJECT, timeout=PATIENCE,
        )  # fmt: skip
        return done.returncode, done.stdout, done.stderr

    assert sample("--filesets", "2", "--seed", "5")[0::2] == (0, "")
    assert len(filesets(tmp_path / "s", "gpc1")) == 2
    assert sample("--add", "2") == (0, f"registered 2 filesets in {tmp_path / 's'}\n", "")
    code, _, errors = sample()
    assert (code, errors.count("\n")) == (3, 1)
    assert sample("--filesets", "-1")[0] == 2


# --- the writers -----------------------------------------------------------------------------


def test_bundle_is_reproducible_and_as_the_protocol_says() -> None:
    data = {"b.txt": b"two", "a.txt": b"", "n" * 90: b"x" * 1000}
    bundle = make_bundle(data)
    assert bundle == make_bundle(dict(data))
    with tarfile.open(fileobj=io.BytesIO(bundle)) as tar:
        infos = tar.getmembers()
    assert [info.name for info in infos] == [f"./{name}" for name in data]
    assert {(info.uid, info.gid, info.uname, info.mode) for info in infos} == {(0, 0, "", 0o644)}
    assert len({info.mtime for info in infos}) == 1
    assert bundle[4:8] == bytes(4), "a time in the gzip header"


def test_bundle_may_begin_with_its_directory() -> None:
    with tarfile.open(fileobj=io.BytesIO(make_bundle({"a": b"1"}, top=True))) as tar:
        first, second = tar.getmembers()
    assert (first.name, first.isdir(), second.name) == (".", True, "./a")


def test_fileset_list_has_a_new_header_where_columns_change(tmp_path: Path) -> None:
    given = [
        SampleFile("a", b"1", "text", {"component": "dbinfo"}),
        SampleFile("b", b"22", "tgz", {"component": None}),
        SampleFile("c", b"", "fits"),
    ]
    entry = write_fileset(tmp_path, "p", "f", given, columns={"x": "1", "y": None})
    assert entry == FilesetEntry("f", "2009-04-15T03:02:11Z", "IPP-DIST", ("1", "null"))
    text = (tmp_path / "p/f/index.txt").read_text()
    assert [line.startswith("#") for line in text.splitlines()] == [True, False, False, True, False]
    rows = files(tmp_path, "p", "f")
    assert [row.columns().get("component") for row in rows] == ["dbinfo", None, None]


def test_empty_fileset_and_lists_are_headers(tmp_path: Path) -> None:
    entry = write_fileset(tmp_path, "p", "f", [], type="notset")
    assert files(tmp_path, "p", "f") == []
    write_product_list(tmp_path, "p", [entry], [])
    write_root_list(tmp_path, [ProductEntry("p", None, entry.registered, "ipp-misc", "none yet")])
    assert [row.name for row in filesets(tmp_path, "p")] == ["f"]


@pytest.mark.parametrize("name", ["../up", "a/b", "", "..", "-rf", "a|b", "a#b", "x" * 256])
def test_names_that_no_list_may_hold_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="fileset"):
        write_fileset(tmp_path / "s", "p", name, [])
    with pytest.raises(ConfigError, match="fileset"):
        write_fileset(tmp_path / "s", "p", "f", [SampleFile(name, b"", "fits")])
    assert not (tmp_path / "s").exists()


# --- FITS ------------------------------------------------------------------------------------


@dataclass
class Hdu:
    cards: list[str]
    data: bytes

    def value(self, keyword: str) -> str:
        found = [card for card in self.cards if card.startswith(f"{keyword:<8}= ")]
        return found[0][10:].split("/")[0].strip().replace(" ", "") if found else ""


PRIMARY = ("SIMPLE", "BITPIX", "NAXIS")
TABLE = (
    "XTENSION", "BITPIX", "NAXIS", "NAXIS1", "NAXIS2", "PCOUNT", "GCOUNT", "TFIELDS",
)  # fmt: skip


def read_hdus(data: bytes) -> list[Hdu]:
    """Split a file into its HDUs, as the standard says; every rule that is broken fails."""
    hdus: list[Hdu] = []
    at = 0
    while at < len(data):
        header = data[at:]
        end = next(n for n in range(0, len(header), 80) if header[n : n + 80].rstrip() == b"END")
        size = -(-(end + 80) // BLOCK) * BLOCK
        assert header[end + 80 : size].strip(b" ") == b""
        cards = [header[n : n + 80].decode("ascii") for n in range(0, end, 80)]
        hdu = Hdu(cards, b"")
        mandatory = TABLE if hdus else PRIMARY
        keywords = [card[:8].rstrip() for card in cards]
        assert tuple(keywords[: len(mandatory)]) == mandatory
        assert len(set(keywords)) == len(keywords)
        axes = int(hdu.value("NAXIS"))
        assert keywords[3 : 3 + axes] == [f"NAXIS{n}" for n in range(1, axes + 1)]
        pixels = math.prod(int(hdu.value(f"NAXIS{n}")) for n in range(1, axes + 1)) if axes else 0
        length = pixels * abs(int(hdu.value("BITPIX"))) // 8
        at += size
        hdu.data = data[at : at + length]
        filled = -(-length // BLOCK) * BLOCK
        assert data[at + length : at + filled] == bytes(filled - length)
        at += filled
        hdus.append(hdu)
    assert at == len(data)
    return hdus


@pytest.mark.parametrize(
    ("pixels", "bitpix", "code"),
    [
        (array("h", [-32768, -1, 0, 1, 2, 32767]), "16", ">6h"),
        (array("f", [0.0, -1.5, 2.25, 1e30, -0.0, 3.0]), "-32", ">6f"),
    ],
    ids=["16 bits", "floating"],
)
def test_image(pixels: "array[int] | array[float]", bitpix: str, code: str) -> None:
    (hdu,) = read_hdus(fits.image(pixels, 3, [Card("EXPNAME", "o'1")]))
    assert (hdu.value("BITPIX"), hdu.value("NAXIS1"), hdu.value("NAXIS2")) == (bitpix, "3", "2")
    assert struct.unpack(code, hdu.data) == tuple(pixels)
    assert hdu.cards[-1].startswith("EXPNAME = 'o''1    '")


def test_image_of_unsigned_counts_is_offset() -> None:
    (hdu,) = read_hdus(fits.image(array("H", [0, 1, 32768, 65535]), 2))
    assert struct.unpack(">4h", hdu.data) == (-32768, -32767, 0, 32767)
    assert (hdu.value("BZERO"), hdu.value("BSCALE")) == ("32768", "1")


def test_table_holds_its_rows() -> None:
    columns = [
        Column("ID", "J", [1, -2]), Column("RA", "D", [150.25, 0.5], "deg"),
        Column("MAG", "E", [17.5, 18.5], "mag"), Column("Q", "I", [3, 4]),
        Column("LONG", "K", [2**40, -(2**40)]),
    ]  # fmt: skip
    data = fits.primary() + fits.table("XY01.psf", columns, [Card("FOUND", True)])
    first, table = read_hdus(data)
    assert (first.data, first.value("EXTEND")) == (b"", "T")
    rows = list(struct.iter_unpack(">idfhq", table.data))
    assert rows == [(1, 150.25, 17.5, 3, 2**40), (-2, 0.5, 18.5, 4, -(2**40))]
    assert [table.value(f"TFORM{n}") for n in range(1, 6)] == [f"'1{c}'" for c in "JDEIK"]
    assert (table.value("TUNIT2"), table.value("EXTNAME")) == ("'deg'", "'XY01.psf'")


def test_table_without_rows_is_a_header() -> None:
    _, table = read_hdus(fits.primary() + fits.table("EMPTY", [Column("ID", "J", [])]))
    assert (table.data, table.value("NAXIS2")) == (b"", "0")


def test_values_stand_in_the_fixed_columns() -> None:
    cards = [Card("A", True), Card("B", 7), Card("C", 0.25), Card("D", 1e-7), Card("E", "x", "why")]
    texts = [card.encode().decode() for card in cards]
    assert {len(text) for text in texts} == {80}
    expected = {"A": "T", "B": "7", "C": "0.25", "D": "1E-07"}
    assert [text[:30] for text in texts[:4]] == [
        f"{name:<8}= {value:>20}" for name, value in expected.items()
    ]
    assert texts[4].rstrip() == "E       = 'x       '           / why"


@pytest.mark.parametrize(
    "card",
    [Card("TOOLONGKEY", 1), Card("A", "x" * 70), Card("A", math.inf), Card("A", math.nan)],
    ids=["keyword", "string", "infinite", "not a number"],
)
def test_what_no_card_can_hold_is_refused(card: Card) -> None:
    with pytest.raises(ValueError):
        card.encode()


def test_pixels_that_fill_no_rows_and_columns_of_two_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="5 pixels"):
        fits.image(array("h", [1] * 5), 2)
    with pytest.raises(ValueError):
        fits.table("T", [Column("A", "J", [1]), Column("B", "J", [1, 2])])
