"""FAULTS T1 to T8, end to end: bundles and dirinfos that would hurt, each with sums that fit.

One store holds them all, each in a fileset of its own among good ones; one run meets them. What
each of them is to `unpack` alone stands in the table of test_unpack; here it is what the site
sees: one line that names the bundle, nothing visible of its fileset, the others mirrored.
"""

import gzip
import os
import re
import stat
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from inject import Forks
from runs import chip_run, noise
from simulator import Simulator
from trial import Outcome, Told, Trial, ground

TIME = 1239758532
ESCAPED = Path("/tmp/mirror-bundle-escaped")
IMAGE = b"SIMPLE  =                    T".ljust(80)


def member(name: str, data: bytes = IMAGE, kind: bytes = tarfile.REGTYPE, link: str = "") -> bytes:
    """One member as the standard library writes it, headers before it where it needs them."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mtime = kind, link, TIME
    info.size = len(data) if kind == tarfile.REGTYPE else 0
    return info.tobuf(tarfile.GNU_FORMAT) + (padded(data) if info.size else b"")


def pax(name: str, data: bytes = IMAGE, **records: str) -> bytes:
    """One member with a pax header of `records` before it; `_` in a keyword stands for `.`."""
    info = tarfile.TarInfo(name)
    info.size, info.mtime = len(data), TIME
    info.pax_headers = {key.replace("_", "."): value for key, value in records.items()}
    return info.tobuf(tarfile.PAX_FORMAT) + padded(data)


def special(name: str, **fields: int) -> bytes:
    """One member with fields of its header set: mode, uid, gid, size."""
    info = tarfile.TarInfo(name)
    info.size, info.mtime = len(IMAGE), TIME
    for field, value in fields.items():
        setattr(info, field, value)
    return info.tobuf(tarfile.GNU_FORMAT) + padded(IMAGE)


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 512)


END = bytes(1024)
GOOD = member("./a.fits")
LINK, HARD = tarfile.SYMTYPE, tarfile.LNKTYPE


def squeeze(*parts: bytes, level: int = 6) -> bytes:
    return gzip.compress(b"".join(parts), level, mtime=0)


def archive(*members: bytes) -> bytes:
    """A whole bundle of these members."""
    return squeeze(*members, END)


def chain(count: int) -> list[bytes]:
    """Links that lead from one to the next, longer than any path may be."""
    return [member(f"l{at}", kind=LINK, link=f"l{at - 1}/" * 3) for at in range(1, count)]


def stuffed(size: int) -> bytes:
    """`size` bytes that deflate to about a fiftieth."""
    return b"".join(noise(at, 200) + bytes(9800) for at in range(size // 10_000))


@dataclass(frozen=True, slots=True)
class Bad:
    """A bundle that must be refused, and the fault that is told."""

    id: str
    bundle: bytes
    fault: str


BUNDLES = (
    # T1: names
    Bad("T1 parent", archive(GOOD, member("../x.fits")), "member '../x.fits': .*a path.*"),
    Bad("T1 parent behind ./", archive(GOOD, member("./../x.fits")), ".*a path.*"),
    Bad("T1 far parent", archive(member("../" * 12 + f"{ESCAPED}")), ".*a path.*"),
    Bad("T1 absolute", archive(GOOD, member(str(ESCAPED))), ".*a path.*"),
    Bad("T1 drive", archive(member("C:x.fits")), ".*a path.*"),
    Bad("T1 UNC", archive(member("\\\\host\\share\\x.fits")), ".*a path.*"),
    Bad("T1 backslash", archive(member("..\\x.fits")), ".*a path.*"),
    Bad("T1 subdirectory", archive(member("sub/x.fits")), ".*a path.*"),
    Bad("T1 dots alone", archive(member("..")), ".*not a name of a file.*"),
    Bad("T1 no name", archive(member("")), ".*not a name of a file.*"),
    Bad("T1 option", archive(member("-rf")), ".*begins with '-'.*"),
    Bad("T1 escape sequence", archive(member("\x1b[2J")), ".*do not print.*"),
    Bad("T1 newline", archive(member("a\nupdate_mirror: all is well")), ".*do not print.*"),
    # T2: links
    Bad("T2 symlink out", archive(member("a", kind=LINK, link="/etc/passwd")), ".*symbolic link.*"),
    Bad("T2 symlink inside", archive(GOOD, member("b", kind=LINK, link="a.fits")), ".*symbolic.*"),
    Bad("T2 hard link out", archive(member("a", kind=HARD, link="../../x")), ".*hard link.*"),
    Bad("T2 hard link inside", archive(GOOD, member("b", kind=HARD, link="./a.fits")), ".*hard.*"),
    Bad(
        "T2 link, then through it",
        archive(member("d", kind=LINK, link=str(ESCAPED)), member("d/x.fits")),
        ".*symbolic link.*",
    ),
    Bad(
        "T2 link and file of one name",
        archive(member("a", kind=LINK, link=str(ESCAPED)), member("a")),
        ".*symbolic link.*",
    ),
    Bad("T2 chain of links", archive(*chain(500)), ".*symbolic link.*"),
    # T3: what is no file
    *(
        Bad(f"T3 {what}", archive(GOOD, member("dev", kind=kind)), f".*{what}.*")
        for what, kind in (
            ("character device", tarfile.CHRTYPE),
            ("block device", tarfile.BLKTYPE),
            ("FIFO", tarfile.FIFOTYPE),
        )
    ),
    Bad("T3 directory", archive(member("sub/", kind=tarfile.DIRTYPE)), ".*a directory.*"),
    Bad("T3 unknown type", archive(member("socket", kind=b"s")), ".*unknown type.*"),
    # T5: bombs
    Bad("T5 ratio", archive(member("zeros.fits", bytes(20_000_000))), ".*expands to .* beyond .*"),
    Bad("T5 total", archive(member("big.fits", stuffed(9_000_000))), ".*beyond the 8000000 .*"),
    Bad("T5 claimed size alone", squeeze(special("a.fits", size=2**40)), ".*expands to .*"),
    # T6: not one whole archive
    Bad("T6 gzip cut", archive(GOOD, member("b", noise(6, 5000)))[:-4000], ".*(cut|ends early).*"),
    Bad("T6 gzip trailer cut", archive(GOOD)[:-4], ".*(cut|ends early).*"),
    Bad("T6 cut between members", squeeze(GOOD), ".*cut.*"),
    Bad("T6 one end block", squeeze(GOOD, bytes(512)), ".*(cut|end block).*"),
    Bad("T6 garbage behind gzip", archive(GOOD) + b"garbage", ".*follows the end of the gzip.*"),
    Bad("T6 garbage behind tar", squeeze(GOOD, END, b"x" * 512), ".*follows the two end blocks.*"),
    Bad("T6 two archives", archive(GOOD) + archive(member("b")), ".*follows the end of the gzip.*"),
    Bad("T6 two tars", squeeze(GOOD, END, member("b"), END), ".*follows the two end blocks.*"),
    Bad("T6 damaged", bytes([*archive(GOOD)[:-6], 0, 0, *archive(GOOD)[-4:]]), ".*damaged.*"),
    Bad("T6 no gzip", GOOD + END, ".*not gzip.*"),
    Bad("T6 no tar", squeeze(b"<html>not a bundle</html>" * 100), ".*checksum.*"),
    Bad("T6 empty", b"", ".*(cut|ends early|not gzip|beyond the 0 allowed).*"),
    # T7: two in one place
    Bad("T7 twice", archive(GOOD, GOOD), ".*already one of that name.*"),
    Bad("T7 twice, once without ./", archive(GOOD, member("a.fits")), ".*one of that name.*"),
    Bad("T7 by case", archive(GOOD, member("A.FITS")), ".*differs by case.*"),
    Bad("T7 by Unicode form", archive(member("Å"), member("A\u030a")), ".*differs by case.*"),
    Bad("T7 file and directory", archive(GOOD, member("a.fits/b")), ".*a path.*"),
    # T8: headers before headers
    Bad("T8 pax path", archive(pax("a.fits", path="../x.fits")), ".*a path.*"),
    Bad("T8 pax size", archive(pax("a.fits", size="9999999999")), ".*expands to .*"),
    Bad("T8 pax size negative", archive(pax("a.fits", size="-1")), ".*pax size.*"),
    Bad("T8 sparse by pax", archive(pax("a.fits", GNU_sparse_major="1")), ".*whole, plain files.*"),
    Bad("T8 sparse", archive(member("a", kind=b"S")), ".*sparse.*"),
    Bad("T8 GNU long name", archive(member("../" * 60 + "x")), ".*a path.*"),
    Bad("T8 a name of 300 bytes", archive(member("n" * 300)), ".*300 bytes.*"),
    Bad("T8 negative size", squeeze(special("a.fits", size=-512), END), ".*size of -512 bytes.*"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Place:
    """A dirinfo that would put files where they do not belong, and the fault that is told."""

    id: str
    destdir: str
    component: str
    fault: str


PLACES = (
    Place("T1 destdir parent", "../../x", "o1.1", ".*dirinfo.*: destdir: .*"),
    Place("T1 destdir absolute", str(ESCAPED), "o1.1", ".*dirinfo.*: destdir: .*absolute.*"),
    Place("T1 destdir into .mirror", "../.mirror/staging", "o1.1", ".*dirinfo.*: destdir: .*"),
    Place("T1 destdir empty segment", "gpc1//x", "o1.1", ".*dirinfo.*: destdir: .*"),
    Place("T1 destdir long", "d" * 300, "o1.1", ".*dirinfo.*: destdir: .*"),
    Place("T1 component parent", "gpc1/x", "../../..", ".*dirinfo.*: XY01: .*"),
    Place("T1 component absolute", "gpc1/x", "/etc", ".*dirinfo.*: XY01: .*absolute.*"),
    Place("T1 component dot", "gpc1/x", ".", ".*dirinfo.*: XY01: .*"),
    Place("T2 through the operator's link", "linked", "o1.1", ".*is a symbolic link.*"),
    Place("T7 path of another fileset", "gpc1/first", "o1.1", ".*exists with other content.*"),
    Place("T7 another fileset's own directory", "gpc1", "plain", ".*exists with other content.*"),
    Place("T7 a file where a directory is needed", "gpc1/plain", "a.fits", ".*is a file, .*"),
)


def fileset(number: int, bundle: bytes) -> tuple[str, dict[str, bytes]]:
    """A run of one component, with this bundle."""
    name, files = chip_run(number, ("XY01",))
    return name, {file: bundle if file.endswith(".tgz") else data for file, data in files.items()}


def misplaced(number: int, place: Place) -> tuple[str, dict[str, bytes]]:
    """A run with a good bundle, and this dirinfo."""
    dirinfo = (
        f"destdir METADATA\n\tdestdir\tSTR\t{place.destdir}\nEND\n"
        f"components METADATA\n\tXY01\tSTR\t{place.component}\nEND\n"
    )
    name, files = fileset(number, archive(member("a.fits", b"other content")))
    return name, {
        file: dirinfo.encode() if file.startswith("dirinfo.") else data
        for file, data in files.items()
    }


NAMES = {bad.id: fileset(100 + at, b"")[0] for at, bad in enumerate(BUNDLES)}
NAMES |= {place.id: fileset(300 + at, b"")[0] for at, place in enumerate(PLACES)}


@dataclass(frozen=True, slots=True)
class Met:
    """What the run over all of them told, and what was visible after it."""

    told: Told
    seen: Mapping[str, bytes]
    files: Mapping[str, Path]

    def of(self, name: str) -> list[str]:
        """What is visible of a fileset: by its own directory, or by that of its exposure."""
        exposure = name.partition(".")[0]
        return [path for path in self.seen if name in path or f"/{exposure}." in path]

    def fault_of(self, name: str) -> str:
        """The one line about a fileset, from the file that it names on."""
        (line,) = [line for line in self.told.lines if line.startswith(f"gpc1/{name}")]
        return line.removeprefix(f"gpc1/{name}")


def first_there(number: int) -> tuple[str, dict[str, bytes]]:
    """A good run whose files stand where a misplaced one would put its own."""
    place = Place("", "gpc1/first", "o1.1", "")
    name, files = misplaced(number, place)
    return name, {
        file: archive(GOOD) if file.endswith(".tgz") else data for file, data in files.items()
    }


def odd() -> tuple[str, dict[str, bytes]]:
    """T4, T5: a run whose members have modes and owners of their own, and an archive inside."""
    members = [
        special("setuid.fits", mode=0o6777, uid=12345, gid=12345),
        special("sticky.fits", mode=0o1777),
        special("unreadable.fits", mode=0),
        member("nested.tgz", archive(member("../x.fits"))),
    ]
    return fileset(2, archive(*members))


@pytest.fixture(scope="module")
def met() -> Iterator[Met]:
    """A site with good filesets meets all the bad ones at once; then they are mended."""
    assert not ESCAPED.exists()
    with ground() as directory, Simulator() as store, Forks() as forks:
        product = store.product("gpc1")
        product.add("plain", {"a.fits": IMAGE})
        product.add(*first_there(1))
        trial = Trial(store, directory, forks, max_unpacked=8_000_000)
        trial.converges()
        aside, link = directory / "aside", trial.site.root / "data/linked"
        aside.mkdir()
        link.symlink_to(aside)
        trial.allow("data/linked", b"symbolic link to " + os.fsencode(aside))
        trial.hostile |= set(NAMES.values())
        for at, bad in enumerate(BUNDLES):
            product.add(*fileset(100 + at, bad.bundle))
        for at, place in enumerate(PLACES):
            product.add(*misplaced(300 + at, place))
        product.add(*odd())
        trial.learn()
        told = trial.run()
        assert not list(aside.iterdir())
        modes = {path.name: path for path in (trial.site.root / "data").rglob("*.fits")}
        yield Met(told, trial.site.visible(), modes)
        link.unlink()
        trial.hostile.clear()
        for number in (*range(100, 100 + len(BUNDLES)), *range(300, 300 + len(PLACES))):
            product.alter(*fileset(number, archive(GOOD)))
        trial.converges()
        assert not ESCAPED.exists()


def test_the_run_as_a_whole(met: Met) -> None:
    assert met.told.exit == Outcome.REJECT.status
    assert len(met.told.lines) == len(NAMES), "one line a fileset"
    assert met.told.count("failed") == met.told.count("queued") == len(NAMES)
    assert met.told.count("done") == 1


@pytest.mark.parametrize("bad", BUNDLES, ids=lambda bad: bad.id)
def test_hostile_bundle(met: Met, bad: Bad) -> None:
    name = NAMES[bad.id]
    fault = met.fault_of(name)
    assert re.fullmatch(rf"/[^/ ]*\.XY01\.tgz: {bad.fault}", fault), fault
    assert fault.isprintable()
    assert not met.of(name)


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.id)
def test_hostile_dirinfo(met: Met, place: Place) -> None:
    name = NAMES[place.id]
    fault = met.fault_of(name)
    assert re.fullmatch(f": {place.fault}", fault), fault
    assert not met.of(name)


def test_t4_modes_and_owners_are_the_sites_own(met: Met) -> None:
    umask = os.umask(0)
    os.umask(umask)
    for name in ("setuid.fits", "sticky.fits", "unreadable.fits"):
        about = met.files[name].stat()
        assert stat.S_IMODE(about.st_mode) == 0o666 & ~umask
        assert (about.st_uid, about.st_gid) == (os.geteuid(), os.getegid())
        assert about.st_mtime == TIME


def test_t5_an_archive_inside_a_bundle_is_a_file(met: Met) -> None:
    (nested,) = [data for path, data in met.seen.items() if path.endswith("/nested.tgz")]
    assert nested == archive(member("../x.fits"))
