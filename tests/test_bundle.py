"""Bundles: the same bytes for the same files, and never less than the whole of them."""

import gzip
import os
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from hashlib import md5
from pathlib import Path
from pwd import getpwuid
from typing import Any

import pytest
from client import PROJECT
from finished_runs import members

from mirror import disk
from mirror.errors import ConfigError, IntegrityError, LocalError
from mirror.tarstream import EXTENDED, Extended, effective, extend, parse_header
from mirror.unpack import Limits, unpack
from server.distribution import bundle as bundle_room
from server.distribution import outputs as outputs_room
from server.distribution.bundle import (
    MEMBER_TIME,
    NOTHING,
    SCRATCH,
    Bundled,
    BundleTask,
    bundle_component,
    scratch_files,
)
from server.site import Roots

FILES = {"o1.fits": b"SIMPLE  =" * 99_999, "o1.cmf": b"", "o1.log": bytes(512)}
RULES = {"o1.fits": "PPIMAGE.CHIP", "o1.cmf": "PSPHOT.OUTPUT", "o1.log": "LOG.IMFILE"}
BASE = "neb://v/w/o1.ch.7"
DUMP = "o1.ch.7.XY01.mdc"


class Chip:
    """A chip's files and its config dump below `neb`, and where its bundle goes."""

    def __init__(self, directory: Path) -> None:
        self.work = directory / "neb" / "w"
        self.work.mkdir(parents=True)
        self.outdir = directory / "out"
        self.outdir.mkdir()
        self.roots = Roots(directory / "neb")
        for name, data in FILES.items():
            (self.work / name).write_bytes(data)
        self.dump({rule: f"neb://other/w/{name}" for name, rule in RULES.items()})

    def dump(self, outputs: Mapping[str, str]) -> None:
        """Write the config dump."""
        lines = "".join(f"{rule} STR {path}\n" for rule, path in outputs.items())
        (self.work / DUMP).write_text(f"FILES.OUTPUT METADATA\n{lines}END\n")

    def task(self, **changes: Any) -> BundleTask:
        """What a worker is told."""
        values: dict[str, Any] = {
            "dist_id": 3, "component": "XY01", "stage": "chip", "path_base": BASE, "uri": None,
            "quality": 0, "clean": False, "outdir": self.outdir, "name": "b.tgz",
            "roots": self.roots,
        }  # fmt: skip
        return BundleTask(**{**values, **changes})

    def bundle(self, **changes: Any) -> Bundled:
        """Make the bundle, and look whether it is what the result says."""
        done = bundle_component(self.task(**changes))
        assert [path.name for path in self.outdir.iterdir()] == ([done.name] if done.name else [])
        if done.name:
            data = (self.outdir / done.name).read_bytes()
            assert (done.bytes, done.md5) == (len(data), md5(data).hexdigest())
        return done

    def members(self) -> dict[str, bytes]:
        """What is in the bundle, in its order."""
        return members(self.outdir / "b.tgz")

    def whole(self) -> dict[str, bytes]:
        """What should be in it."""
        return {**FILES, DUMP: (self.work / DUMP).read_bytes()}


@pytest.fixture
def chip(tmp_path: Path) -> Chip:
    """A chip with three files."""
    return Chip(tmp_path)


def test_a_bundle_holds_the_files_in_the_order_of_the_dump_and_the_dump_last(chip: Chip) -> None:
    assert chip.bundle().name == "b.tgz"
    assert list(chip.members().items()) == list(chip.whole().items())


def test_a_mirror_unpacks_it(chip: Chip, tmp_path: Path) -> None:
    chip.bundle()
    unpack(chip.outdir / "b.tgz", tmp_path / "unpacked", Limits(10**8))
    found = {path.name: path.read_bytes() for path in (tmp_path / "unpacked").iterdir()}
    assert found == chip.whole()


def test_owner_time_and_mode_are_always_the_same(chip: Chip) -> None:
    (chip.work / "o1.fits").chmod(0o4777)
    chip.bundle()
    with tarfile.open(chip.outdir / "b.tgz") as archive:
        for one in archive:
            seen = (one.uid, one.gid, one.uname, one.gname, one.mtime, one.mode, one.pax_headers)
            assert seen == (0, 0, "", "", MEMBER_TIME, 0o644, {})
    head = (chip.outdir / "b.tgz").read_bytes()[:10]
    assert head[3:8] == bytes(5), "a gzip header with a name or a time"


def test_gnu_tar_reads_it_without_complaint(chip: Chip, tmp_path: Path) -> None:
    chip.bundle()
    done = subprocess.run(
        ["tar", "xzf", chip.outdir / "b.tgz", "-C", tmp_path], capture_output=True, check=True
    )
    assert done.stderr == b""
    assert (tmp_path / "o1.fits").read_bytes() == FILES["o1.fits"]


ELSEWHERE = """
import os, sys, time
from pathlib import Path
sys.path.insert(0, "tests")
from test_bundle import Chip
os.environ["TZ"] = "Pacific/Honolulu"
os.umask(0)
chip = Chip(Path(sys.argv[1]))
print(chip.bundle().md5)
"""


def test_the_same_files_make_the_same_bytes(chip: Chip, tmp_path: Path) -> None:
    first = chip.bundle()
    assert chip.bundle() == first
    for path in chip.work.iterdir():
        os.utime(path, (1, 1))
        path.chmod(0o600)
    assert chip.bundle() == first
    other = tmp_path / "other"
    other.mkdir()
    environ = {**os.environ, "PYTHONHASHSEED": "5"}
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, str(other)],
        cwd=PROJECT, env=environ, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == first.md5


def test_levels_differ_in_bytes_but_not_in_content(chip: Chip) -> None:
    sums = {chip.bundle(gzip_level=level).md5 for level in (1, 9)}
    assert len(sums) == 2
    assert chip.members() == chip.whole()


def test_a_clean_bundle_has_no_large_images(chip: Chip) -> None:
    chip.bundle(clean=True)
    assert list(chip.members()) == ["o1.cmf", "o1.log", DUMP]


def test_a_dump_among_the_files_is_not_added_again(chip: Chip) -> None:
    chip.dump({"CONFIG": f"neb://v/w/{DUMP}", "PPIMAGE.CHIP": "neb://v/w/o1.fits"})
    chip.bundle()
    assert list(chip.members()) == [DUMP, "o1.fits"]


def test_a_dump_that_came_gzipped_stays_so(chip: Chip) -> None:
    data = gzip.compress((chip.work / DUMP).read_bytes())
    (chip.work / DUMP).write_bytes(data)
    chip.bundle()
    assert chip.members() == {**FILES, DUMP: data}


def test_links_are_followed_to_files(chip: Chip) -> None:
    (chip.work / "o1.fits").rename(chip.work / "stored")
    (chip.work / "o1.fits").symlink_to("stored")
    chip.bundle()
    assert chip.members() == chip.whole()


@pytest.mark.parametrize("missing", [True, False], ids=["missing", "there"])
def test_a_log_may_be_missing(chip: Chip, missing: bool) -> None:
    if missing:
        (chip.work / "o1.log").unlink()
    chip.bundle()
    assert ("o1.log" in chip.members()) is not missing


def test_a_raw_component_is_its_uri(chip: Chip) -> None:
    raw = {"stage": "raw", "path_base": None, "uri": "neb://v/w/o1.fits"}
    for clean in (False, True):
        chip.bundle(**raw, clean=clean)
        assert chip.members() == {"o1.fits": FILES["o1.fits"]}
    with pytest.raises(IntegrityError, match="component XY01: uri neb://v/w/gone: no such file"):
        chip.bundle(**{**raw, "uri": "neb://v/w/gone"})
    with pytest.raises(ConfigError, match="component XY01: a raw component without uri"):
        chip.bundle(**{**raw, "uri": None})


def test_a_camera_run_has_its_dump_without_a_component(chip: Chip) -> None:
    (chip.work / DUMP).rename(chip.work / "o1.ch.7.mdc")
    chip.bundle(stage="camera", component="exposure")
    assert list(chip.members()) == [*FILES, "o1.ch.7.mdc"]


# Nothing to bundle


@pytest.mark.parametrize(
    ("changes", "gone"),
    [
        ({"name": None, "path_base": None, "quality": 8}, ()),
        ({"quality": 8}, (DUMP,)),
        ({"quality": 8}, tuple(FILES)),
        ({"clean": True}, ("o1.cmf", "o1.log")),
        ({"quality": 8, "stage": "raw", "uri": "neb://v/w/gone"}, ()),
        ({"quality": 8, "stage": "raw"}, ()),
    ],
    ids=["no path", "no dump", "no files", "clean", "no raw file", "no uri"],
)
def test_no_files_no_bundle(chip: Chip, changes: dict[str, Any], gone: tuple[str, ...]) -> None:
    for name in gone:
        (chip.work / name).unlink()
    if "clean" in changes:
        chip.dump({"PPIMAGE.CHIP": "neb://v/w/o1.fits"})
    assert chip.bundle(**changes) == NOTHING


def test_poor_quality_with_some_files_is_bundled(chip: Chip) -> None:
    (chip.work / "o1.fits").unlink()
    chip.bundle(quality=8)
    assert list(chip.members()) == ["o1.cmf", "o1.log", DUMP]


# Faults: nothing is left of them


def test_a_missing_dump_is_told(chip: Chip) -> None:
    (chip.work / DUMP).unlink()
    said = f"component XY01: config dump {BASE}.XY01.mdc: no such file: {chip.work / DUMP}"
    with pytest.raises(IntegrityError) as raised:
        chip.bundle()
    assert str(raised.value) == said


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def loop(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


@pytest.mark.parametrize(
    ("name", "damage", "reason"),
    [
        ("o1.cmf", Path.unlink, "PSPHOT.OUTPUT neb://other/w/o1.cmf: no such file"),
        ("o1.cmf", pipe, "o1.cmf: a regular file expected"),
        ("o1.log", directory, "o1.log: a regular file expected"),
        ("o1.log", loop, "o1.log: Too many levels of symbolic links"),
        (DUMP, pipe, f"{DUMP}: a regular file expected"),
    ],
    ids=["missing", "pipe", "directory", "loop", "dump a pipe"],
)
def test_odd_files_are_refused(chip: Chip, name: str, damage: Any, reason: str) -> None:
    damage(chip.work / name)
    with pytest.raises((IntegrityError, LocalError), match=reason):
        chip.bundle()
    assert list(chip.outdir.iterdir()) == []


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzipped"])
def test_a_dump_without_end_is_refused(
    chip: Chip, monkeypatch: pytest.MonkeyPatch, *, packed: bool
) -> None:
    data = (chip.work / DUMP).read_bytes()
    most = len(data) + 1000
    for room in (bundle_room, outputs_room):
        monkeypatch.setattr(room, "MAX_DUMP", most)
    for length in (most, most + 1):
        whole = data.ljust(length)
        (chip.work / DUMP).write_bytes(gzip.compress(whole) if packed else whole)
        if length == most:
            chip.bundle()
            (chip.outdir / "b.tgz").unlink()
    with pytest.raises(IntegrityError, match=rf"{DUMP}: .* {most}( bytes of a config dump)?$"):
        chip.bundle()


def test_a_directory_of_another_user_says_whose_it_is(
    chip: Chip, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, flags: int, *mode: int) -> int:
        if flags & os.O_CREAT:
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, flags, *mode)

    opened = os.open
    monkeypatch.setattr(os, "open", refuse)
    user = f"user {getpwuid(os.geteuid()).pw_name}"
    with pytest.raises(LocalError) as raised:
        chip.bundle()
    assert str(raised.value) == (
        f"{chip.outdir}: belongs to {user}, and {user} may not write there; call this as {user},"
        " or make the directory writable"
    )


def test_a_user_without_a_name_is_a_number() -> None:
    assert bundle_room._user(2**31 - 5) == f"user {2**31 - 5}"


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("o1.fits", "an absolute path expected"),
        ("path://GONE/o1.fits", "DATAPATH has no 'GONE'"),
        ("neb://v/w/../o1.fits", "'..' is not allowed"),
    ],
    ids=["relative", "unknown name", "climbing"],
)
def test_paths_that_do_not_resolve(chip: Chip, path: str, reason: str) -> None:
    chip.dump({"PPIMAGE.CHIP": path})
    with pytest.raises(ConfigError, match=reason):
        chip.bundle()


def test_a_file_with_the_name_of_the_dump_is_refused(chip: Chip) -> None:
    (chip.work / "sub").mkdir()
    (chip.work / "sub" / DUMP).write_bytes(b"other")
    chip.dump({"PPIMAGE.CHIP": f"neb://v/w/sub/{DUMP}"})
    with pytest.raises(IntegrityError, match="has the same base name"):
        chip.bundle()


@pytest.mark.parametrize("change", [b"more", b""], ids=["grown", "cut"])
def test_a_file_that_changes_meanwhile_is_found_out(
    chip: Chip, monkeypatch: pytest.MonkeyPatch, change: bytes
) -> None:
    header = bundle_room._header

    def changed(name: str, size: int) -> bytes:
        if name == "o1.fits":
            (chip.work / name).write_bytes(FILES[name] + change if change else b"cut")
        return header(name, size)

    monkeypatch.setattr(bundle_room, "_header", changed)
    with pytest.raises(IntegrityError, match=r"o1\.fits: changed while it was bundled"):
        chip.bundle()
    assert list(chip.outdir.iterdir()) == []


def test_a_file_that_is_written_to_without_growing_is_found_out(
    chip: Chip, monkeypatch: pytest.MonkeyPatch
) -> None:
    header = bundle_room._header

    def changed(name: str, size: int) -> bytes:
        if name == "o1.fits":
            (chip.work / name).write_bytes(b"T" * size)
            os.utime(chip.work / name, ns=(1, 1))
        return header(name, size)

    monkeypatch.setattr(bundle_room, "_header", changed)
    with pytest.raises(IntegrityError, match="changed while"):
        chip.bundle()


def test_a_directory_that_is_not_there_is_told(chip: Chip) -> None:
    with pytest.raises(LocalError, match="No such file or directory"):
        bundle_component(chip.task(outdir=chip.outdir / "gone"))


def test_an_interruption_leaves_nothing(chip: Chip, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(name: str, size: int) -> bytes:
        raise SystemExit

    monkeypatch.setattr(bundle_room, "_header", interrupted)
    with pytest.raises(SystemExit):
        bundle_component(chip.task())
    assert list(chip.outdir.iterdir()) == []


def test_an_older_bundle_is_replaced_at_once(chip: Chip, monkeypatch: pytest.MonkeyPatch) -> None:
    (chip.outdir / "b.tgz").write_bytes(b"older")
    seen = []

    def flushed(paths: list[Path]) -> None:
        seen.append((chip.outdir / "b.tgz").read_bytes() == b"older")
        disk.flush(paths)

    monkeypatch.setattr(bundle_room, "flush", flushed)
    chip.bundle()
    # The file is flushed while the older one has the name, the directory when it has not.
    assert seen == [True, False]


def test_what_killed_attempts_left_is_found(chip: Chip) -> None:
    begin, end = SCRATCH
    left = chip.outdir / f"{begin}x{end}"
    for path in (left, chip.outdir / "b.tgz", chip.outdir / f"{begin}tgz", chip.outdir / f"x{end}"):
        path.touch()
    assert list(scratch_files(chip.outdir)) == [left]


@pytest.mark.parametrize("size", [8 * 2**30 - 1, 8 * 2**30, 2**40])
@pytest.mark.parametrize("name", ["a.fits", "a" * 255])
def test_headers_of_large_files_and_long_names_are_read_by_a_mirror(name: str, size: int) -> None:
    data = bundle_room._header(name, size)
    extended = Extended()
    while (header := parse_header(data[:512])).type in EXTENDED:
        end = 512 + header.size + -header.size % 512
        extended = extend(extended, header, data[512 : 512 + header.size])
        data = data[end:]
    entry = effective(header, extended)
    assert entry
    assert (entry.name, entry.size, len(data)) == (name, size, 512)
