"""Bundles into files: what is taken, what is refused, and that a refusal leaves nothing behind."""

import errno
import gzip
import io
import os
import random
import subprocess
import sys
import tarfile
import tempfile
import threading
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from watcher import open_files

from mirror import tarstream
from mirror.errors import IntegrityError, LocalError
from mirror.inflate import (
    PIECE,
    Engine,
    InflateError,
    fastest,
    inflate,
    isal_engine,
    zlib_engine,
)
from mirror.unpack import MAX_TAIL, Limits, Member, limits_for, unpack

USTAR, GNU, V7 = b"ustar\x0000", b"ustar  \0", bytes(8)
END = bytes(1024)
ROOMY = Limits(max_bytes=10**8)
TIME = 1239758532


def header(
    name: bytes,
    size: int | bytes = 0,
    kind: bytes = b"0",
    *,
    magic: bytes = USTAR,
    prefix: bytes = b"",
    mtime: bytes = b"%011o\0" % TIME,
    checksum: int | None = None,
) -> bytes:
    """One header block, its fields as given, with a checksum that fits unless told otherwise."""
    number = size if isinstance(size, bytes) else b"%011o\0" % size
    block = name.ljust(100, b"\0") + b"0006777\0" + b"0000000\0" * 2 + number + mtime
    block += b" " * 8 + kind + bytes(100) + magic + b"root".ljust(80, b"\0") + prefix
    block = block.ljust(512, b"\0")
    return seal(block) if checksum is None else seal(block, checksum)


def seal(block: bytes, checksum: int | None = None) -> bytes:
    """`block` with the checksum that fits, or with `checksum`."""
    bare = block[:148] + b" " * 8 + block[156:]
    return bare[:148] + b"%06o\0 " % (sum(bare) if checksum is None else checksum) + bare[156:]


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 512)


def entry(name: bytes, data: bytes = b"", kind: bytes = b"0", magic: bytes = USTAR) -> bytes:
    return header(name, len(data), kind, magic=magic) + padded(data)


def record(key: bytes, value: bytes) -> bytes:
    """One pax record with its length, which counts itself."""
    bare = len(key) + len(value) + 3
    size = next(n for n in range(bare, bare + 9) if bare + len(str(n)) == n)
    return b"%d %s=%s\n" % (size, key, value)


def pax(raw: bytes = b"", kind: bytes = b"x", **records: bytes) -> bytes:
    data = raw + b"".join(record(key.encode(), value) for key, value in records.items())
    return entry(b"PaxHeaders/x", data, kind)


def long_name(name: bytes, kind: bytes = b"L") -> bytes:
    return entry(b"././@LongLink", name + b"\0", kind, GNU)


def squeeze(*parts: bytes) -> bytes:
    return gzip.compress(b"".join(parts), 1, mtime=0)


def listed(tar: tarfile.TarInfo, data: bytes = b"") -> tuple[tarfile.TarInfo, bytes]:
    tar.size = len(data)
    tar.mtime = TIME
    return tar, data


def well_formed(format: int, *members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    """A gzipped tar as the standard library writes it, with an entry for `./` first."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=format) as archive:
        top = tarfile.TarInfo("./")
        top.type = tarfile.DIRTYPE
        archive.addfile(top)
        for info, data in members:
            archive.addfile(info, io.BytesIO(data))
    return gzip.compress(out.getvalue(), 1)


def tree(root: Path) -> dict[str, bytes]:
    """Everything below `root`: files with their content, directories and links without."""
    return {
        str(path.relative_to(root)): path.read_bytes() if path.is_file() else b""
        for path in root.rglob("*")
    }


@pytest.fixture(scope="module", params=["isal", "zlib"])
def engine(request: pytest.FixtureRequest) -> Engine:
    found = isal_engine() if request.param == "isal" else zlib_engine()
    if not found:
        pytest.skip("isal is not installed (extra 'fast')")
    return found


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """Where a test puts its bundle: a directory deep, so that escapes would land in tmp_path."""
    (tmp_path / "inner").mkdir()
    (tmp_path / "x").write_bytes(b"not yours")
    return tmp_path / "inner" / "o1.chip.1.tgz"


def damaged(data: bytes, at: int) -> bytes:
    changed = bytearray(data)
    changed[at] ^= 0xFF
    return bytes(changed)


A = entry(b"./a", b"alpha")
B = entry(b"./b", b"beta")
GOOD = squeeze(A, B, END)
SPARSE = header(b"s", 512, b"S", magic=GNU) + bytes(512)

BAD_NAMES = [
    pytest.param(name, rule, id=id)
    for id, name, rule in [
        ("parent", b"../x", "a path"),
        ("parent-after-dot", b"./../x", "a path"),
        ("dot-dot", b"./..", "not a name"),
        ("absolute", b"/etc/x", "a path"),
        ("inner-directory", b"./a/b", "a path"),
        ("dot-twice", b"././x", "a path"),
        ("slash-after-dot", b".//x", "a path"),
        ("empty", b"", "not a name"),
        ("backslash", b"..\\x", "a path"),
        ("unc", b"\\\\host\\share", "a path"),
        ("drive", b"C:x", "a path"),
        ("newline", b"a\nb", "do not print"),
        ("escape", b"a\x1b[2Jb", "do not print"),
        ("c1-control", "a\x85b".encode(), "do not print"),
        ("right-to-left", "a\u202egpj.fits".encode(), "do not print"),
        ("not-utf8", b"caf\xe9", "not UTF-8"),
        ("overlong-utf8", b"..\xc0\xafx", "not UTF-8"),
        ("option", b"./-rf", "begins with '-'"),
        ("blank-end", b"a ", "ends with a blank"),
    ]
]

HOSTILE = [
    pytest.param(data, rule, id=id)
    for id, data, rule in [
        # T1: the name in two parts
        ("prefix", squeeze(header(b"x", prefix=b".."), END), "'../x': a path"),
        ("gnu-prefix", squeeze(header(b"x", magic=GNU, prefix=b"p"), END), "prefix"),
        ("v7-prefix", squeeze(header(b"x", magic=V7, prefix=b"p"), END), "prefix"),
        # T2, T3: what is no plain file
        ("symlink", squeeze(entry(b"a", kind=b"2"), entry(b"a", b"x"), END), "symbolic link"),
        ("hard-link", squeeze(A, entry(b"h", kind=b"1"), END), "hard link"),
        ("long-link", squeeze(long_name(b"../x", b"K"), entry(b"a", kind=b"2"), END), "symbolic"),
        ("character", squeeze(entry(b"a", kind=b"3"), END), "character device"),
        ("block", squeeze(entry(b"a", kind=b"4"), END), "block device"),
        ("fifo", squeeze(entry(b"a", kind=b"6"), END), "FIFO"),
        ("directory", squeeze(entry(b"./sub/", kind=b"5"), END), "'./sub/' is a directory"),
        ("directory-bare", squeeze(entry(b"sub", kind=b"5"), END), "a directory"),
        ("directory-v7", squeeze(entry(b"sub/", kind=b"\0", magic=V7), END), "a directory"),
        ("directory-size", squeeze(entry(b"./", b"data", b"5"), END), "a directory"),
        ("directory-or-file", squeeze(entry(b"./"), A, END), "a directory"),
        ("dump", squeeze(entry(b"./", kind=b"D", magic=GNU), END), "directory dump"),
        ("volume-label", squeeze(entry(b"v", kind=b"V", magic=GNU), END), "volume label"),
        ("volume-piece", squeeze(entry(b"v", kind=b"M", magic=GNU), END), "another volume"),
        ("unknown-type", squeeze(entry(b"a", kind=b"Z"), END), "unknown type b'Z'"),
        # T5 beyond the limits of bytes and members, which have tests of their own
        ("endless-tail", squeeze(A, END, bytes(MAX_TAIL + 1)), "of padding"),
        ("declared-huge", squeeze(header(b"a", 10**9), END), "beyond the 100000000 allowed"),
        ("pax-huge", squeeze(pax(size=b"9" * 18), A, END), "beyond the 100000000 allowed"),
        ("extended-huge", squeeze(header(b"x", 2 << 20, b"x"), END), "at most 1048576"),
        # T6
        ("empty-file", b"", "cut"),
        ("not-gzip", A + B + END, "not gzip"),
        ("zlib-wrapper", zlib.compress(A + END), "not gzip"),
        ("html", b"<html>quota exceeded</html>", "not gzip"),
        ("empty-stream", squeeze(), "cut"),
        ("gzip-header-cut", GOOD[:6], "cut"),
        ("gzip-half", GOOD[: len(GOOD) // 2], "cut"),
        ("gzip-no-trailer", GOOD[:-8], "cut"),
        ("gzip-trailer-cut", GOOD[:-1], "cut"),
        ("gzip-wrong-crc", damaged(GOOD, -8), "damaged"),
        ("gzip-wrong-length", damaged(GOOD, -1), "damaged"),
        ("cut-at-member", squeeze(A, B), "cut"),
        ("cut-in-header", squeeze(A, B[:100]), "cut"),
        ("cut-in-content", squeeze(A, header(b"b", 2000), bytes(512)), "512 of 2000 bytes"),
        ("cut-in-padding", squeeze(header(b"b", 5), b"alpha"), "padding of member 'b'"),
        ("cut-in-pax", squeeze(pax(path=b"p")[:520]), "cut"),
        ("one-end-block", squeeze(A, bytes(512)), "second end block"),
        ("lone-zeros", squeeze(A, bytes(512), B, END), "lone block of zeros"),
        ("after-end", squeeze(A, END, b"more"), "follows the two end blocks"),
        ("archive-after-end", squeeze(A, END, B, END), "follows the two end blocks"),
        ("after-gzip", GOOD + b"more", "follows the end of the gzip"),
        ("zeros-then-more", GOOD + bytes(300_000) + b"more", "follows the end of the gzip"),
        ("second-gzip", GOOD + squeeze(B, END), "follows the end of the gzip"),
        ("gzip-in-two", squeeze(A) + squeeze(B, END), "follows the end of the gzip"),
        # T7
        ("twice", squeeze(A, B, A, END), "'a': there is already one of that name"),
        ("twice-long", squeeze(entry(b"long", b"1"), entry(b"./long"), END), "already one"),
        (
            "case",
            squeeze(entry(b"Log"), entry(b"lOG"), END),
            "differs by case or Unicode form: 'Log'",
        ),
        ("unicode-form", squeeze(entry(b"\xc3\xa9"), entry(b"e\xcc\x81"), END), "Unicode form"),
        ("sharp-s", squeeze(entry("ß".encode()), entry(b"SS"), END), "differs by case"),
        # T8
        ("pax-parent", squeeze(pax(path=b"../x"), A, END), "'../x': a path"),
        ("pax-absolute", squeeze(pax(path=b"/etc/x"), A, END), "a path"),
        ("pax-directory", squeeze(pax(path=b"sub/"), A, END), "a directory"),
        ("pax-nul", squeeze(pax(path=b"a\0b"), A, END), "do not print"),
        ("pax-empty-path", squeeze(pax(path=b""), A, END), "not a name"),
        ("pax-long-path", squeeze(pax(path=b"p" * 256), A, END), "256 bytes (at most 255)"),
        ("pax-size-negative", squeeze(pax(size=b"-1"), A, END), "a pax size"),
        ("pax-size-empty", squeeze(pax(size=b""), A, END), "a pax size"),
        ("pax-size-too-large", squeeze(pax(size=b"9" * 19), A, END), "a pax size"),
        ("pax-size-digits", squeeze(pax(size=b"9" * 5000), A, END), "a pax size"),
        ("pax-size-hides", squeeze(pax(size=b"0"), A, END), "checksum"),
        ("pax-time", squeeze(pax(mtime=b"yesterday"), A, END), "a pax time"),
        ("pax-sparse", squeeze(pax(record(b"GNU.sparse.major", b"1")), A, END), "GNU.sparse"),
        ("pax-sparse-size", squeeze(pax(record(b"GNU.sparse.size", b"9")), A, END), "GNU.sparse"),
        ("pax-star-sparse", squeeze(pax(record(b"SCHILY.realsize", b"9")), A, END), "SCHILY"),
        ("pax-record-twice", squeeze(pax(record(b"path", b"p") * 2), A, END), "given twice"),
        ("pax-length-short", squeeze(pax(b"6 path=p\n"), A, END), "damaged pax record"),
        ("pax-length-long", squeeze(pax(b"99 path=p\n"), A, END), "damaged pax record"),
        ("pax-length-none", squeeze(pax(b"path=p\n"), A, END), "damaged pax record"),
        ("pax-no-equals", squeeze(pax(b"7 path\n"), A, END), "damaged pax record"),
        ("pax-no-newline", squeeze(pax(b"8 path=pq"), A, END), "damaged pax record"),
        ("pax-twice", squeeze(pax(path=b"p"), pax(path=b"q"), A, END), "two extended headers"),
        ("pax-and-long", squeeze(pax(path=b"p"), long_name(b"q"), A, END), "two extended"),
        ("long-and-pax", squeeze(long_name(b"q"), pax(path=b"p"), A, END), "two extended"),
        ("pax-alone", squeeze(A, pax(path=b"p"), END), "without its member"),
        ("global-path", squeeze(pax(kind=b"g", path=b"p"), A, END), "each member has its own"),
        ("global-size", squeeze(pax(kind=b"g", size=b"0"), A, END), "each member has its own"),
        ("global-between", squeeze(long_name(b"q"), pax(kind=b"g"), A, END), "between a member"),
        ("sparse", squeeze(SPARSE, END), "a sparse file"),
        ("long-parent", squeeze(long_name(b"../x"), A, END), "'../x': a path"),
        ("long-deep", squeeze(long_name(b"d/" * 3000 + b"x"), A, END), "a path"),
        ("long-open", squeeze(entry(b"L", b"p", b"L", GNU), A, END), "end with a NUL"),
        ("long-nul", squeeze(long_name(b"a\0b"), A, END), "do not print"),
        ("long-twice", squeeze(long_name(b"p"), long_name(b"q"), A, END), "two extended headers"),
        ("size-negative", squeeze(header(b"a", b"\xff" * 12), END), "a size of -1 bytes"),
        ("size-beyond", squeeze(header(b"a", b"\x80" + b"\xff" * 11), END), "a size of"),
        ("size-blank", squeeze(header(b"a", bytes(12)), END), "octal number expected"),
        ("size-decimal", squeeze(header(b"a", b"00000000009\0"), END), "octal number expected"),
        ("size-signed", squeeze(header(b"a", b"-0000000001\0"), END), "octal number expected"),
        ("size-trailing", squeeze(header(b"a", b"01\0\0\0\0\0\0\0\0\x001"), END), "octal number"),
        ("time-junk", squeeze(header(b"a", mtime=b"yesterday!!\0"), END), "time of 'a'"),
        ("mode-junk", squeeze(seal(damaged(header(b"a"), 100)), END), "octal number expected"),
        ("checksum", squeeze(header(b"a", checksum=1), END), "checksum"),
        ("magic", squeeze(header(b"a", magic=b"gnutar\0\0"), END), "unknown magic"),
    ]
]


def refused(data: bytes, bundle: Path, engine: Engine, limits: Limits = ROOMY) -> str:
    """The message with which `data` is refused; nothing is there that was not there before."""
    bundle.write_bytes(data)
    before = tree(bundle.parent.parent)
    with pytest.raises(IntegrityError) as caught:
        unpack(bundle, bundle.parent / "out", limits, engine)
    assert tree(bundle.parent.parent) == before
    assert str(caught.value).startswith("o1.chip.1.tgz: ")
    return str(caught.value)


@pytest.mark.parametrize(("data", "rule"), HOSTILE)
def test_hostile_bundle_is_refused(data: bytes, rule: str, bundle: Path, engine: Engine) -> None:
    assert rule in refused(data, bundle, engine)


@pytest.mark.parametrize(("name", "rule"), BAD_NAMES)
def test_bad_name_is_refused(name: bytes, rule: str, bundle: Path, engine: Engine) -> None:
    for archive in (entry(name, b"x"), pax(path=name) + A, long_name(name) + A):
        message = refused(squeeze(B, archive, END), bundle, engine)
        assert rule in message
        assert f"member {tarstream.shown(name)}" in message


def test_every_cut_of_a_bundle_is_refused(bundle: Path, engine: Engine) -> None:
    for length in range(len(GOOD)):
        refused(GOOD[:length], bundle, engine)


PLAIN = [
    pytest.param(data, expected, id=id)
    for id, data, expected in [
        ("ustar", GOOD, {"a": b"alpha", "b": b"beta"}),
        ("gnu", squeeze(entry(b"./a", b"1", magic=GNU), END), {"a": b"1"}),
        ("v7", squeeze(entry(b"a", b"1", b"\0", V7), END), {"a": b"1"}),
        ("contiguous", squeeze(entry(b"a", b"1", b"7"), END), {"a": b"1"}),
        ("top-first", squeeze(entry(b"./", kind=b"5"), A, END), {"a": b"alpha"}),
        ("top-v7", squeeze(entry(b"./", kind=b"\0", magic=V7), A, END), {"a": b"alpha"}),
        ("top-bare", squeeze(entry(b".", kind=b"5"), A, END), {"a": b"alpha"}),
        ("empty", squeeze(END), {}),
        ("empty-record", squeeze(bytes(10240)), {}),
        ("record", squeeze(A, bytes(9216)), {"a": b"alpha"}),
        ("zeros-after-gzip", GOOD + bytes(400_000), {"a": b"alpha", "b": b"beta"}),
        ("no-bytes", squeeze(entry(b"a"), B, entry(b"c"), END), {"a": b"", "b": b"beta", "c": b""}),
        ("hundred", squeeze(entry(b"n" * 100, b"1"), END), {"n" * 100: b"1"}),
        ("dot-prefix", squeeze(header(b"x", prefix=b"."), END), {"x": b""}),
        ("long", squeeze(long_name(b"./" + b"n" * 255), A, END), {"n" * 255: b"alpha"}),
        ("pax-path", squeeze(pax(path="é.fits".encode()), A, END), {"é.fits": b"alpha"}),
        ("pax-newline", squeeze(pax(comment=b"a\nb", path=b"p"), A, END), {"p": b"alpha"}),
        ("pax-once", squeeze(pax(path=b"p"), A, B, END), {"p": b"alpha", "b": b"beta"}),
        ("pax-size", squeeze(pax(size=b"5"), header(b"a"), padded(b"alpha"), END), {"a": b"alpha"}),
        ("pax-global", squeeze(pax(kind=b"g", comment=b"c"), A, END), {"a": b"alpha"}),
        ("binary-size", squeeze(header(b"a", b"\x80" + bytes(10) + b"\5"), padded(b"alpha"), END),
         {"a": b"alpha"}),
        ("blank-led-size", squeeze(header(b"a", b"          5 "), padded(b"alpha"), END),
         {"a": b"alpha"}),
        ("odd-names", squeeze(entry(b"a b"), entry(b"~"), entry(b"ab:c"), entry(b"..a"), END),
         {"a b": b"", "~": b"", "ab:c": b"", "..a": b""}),
    ]
]  # fmt: skip


@pytest.mark.parametrize(("data", "expected"), PLAIN)
def test_plain_bundle_is_unpacked(
    data: bytes, expected: dict[str, bytes], bundle: Path, engine: Engine
) -> None:
    bundle.write_bytes(data)
    members = unpack(bundle, bundle.parent / "out", ROOMY, engine)
    assert tree(bundle.parent / "out") == expected
    assert members == [Member(n, len(d), zlib.crc32(d)) for n, d in expected.items()]


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_tree_is_what_tarfile_reads(format: int, bundle: Path, engine: Engine) -> None:
    draw = random.Random(7)
    sizes = [0, 1, 511, 512, 513, 2880, PIECE - 512, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE + 77]
    stem = "o4642g0414o.19490.ch.293" + ("" if format == tarfile.USTAR_FORMAT else "." * 120)
    bundle.write_bytes(
        well_formed(
            format,
            *(
                listed(tarfile.TarInfo(f"./{stem}.{size}.fits"), draw.randbytes(size))
                for size in sizes
            ),
        )
    )
    members = unpack(bundle, bundle.parent / "out", ROOMY, engine)
    with tarfile.open(bundle) as archive:
        expected = {
            info.name.removeprefix("./"): content.read()
            for info in archive
            if (content := archive.extractfile(info))
        }
    assert tree(bundle.parent / "out") == expected
    assert {m.name: (m.size, m.crc32) for m in members} == {
        name: (len(data), zlib.crc32(data)) for name, data in expected.items()
    }


TIMES = [
    pytest.param(archive, ns, id=id)
    for id, archive, ns in [
        ("header", A, TIME * 10**9),
        ("blank", header(b"a", mtime=bytes(12)), 0),
        ("negative", header(b"a", mtime=b"\xff" * 11 + b"\x00"), 0),
        ("far", header(b"a", mtime=b"\x80" + b"\x7f" * 11), tarstream.MAX_MTIME * 10**9),
        ("pax-fraction", pax(mtime=b"1239758532.25") + A, TIME * 10**9 + 250_000_000),
        ("pax-fine", pax(mtime=b"1.1234567899") + A, 1_123_456_789),
        ("pax-point", pax(mtime=b"7.") + A, 7 * 10**9),
        ("pax-global", pax(kind=b"g", mtime=b"8") + A, 8 * 10**9),
        ("pax-over-global", pax(kind=b"g", mtime=b"8") + pax(mtime=b"9") + A, 9 * 10**9),
        ("pax-negative", pax(mtime=b"-62135596800.5") + A, 0),
        ("pax-far", pax(mtime=b"9" * 5000) + A, tarstream.MAX_MTIME * 10**9),
    ]
]


@pytest.mark.parametrize(("archive", "ns"), TIMES)
def test_times_are_kept_within_reason(archive: bytes, ns: int, bundle: Path) -> None:
    bundle.write_bytes(squeeze(archive, END))
    unpack(bundle, bundle.parent / "out", ROOMY)
    assert (bundle.parent / "out" / "a").stat().st_mtime_ns == ns


def test_modes_and_owner_are_ours(bundle: Path) -> None:
    bundle.write_bytes(GOOD)  # whose headers say 6777
    before = os.umask(0o027)
    try:
        unpack(bundle, bundle.parent / "out", ROOMY)
    finally:
        os.umask(before)
    found = (bundle.parent / "out" / "a").stat()
    assert oct(found.st_mode) == oct(0o100640)
    assert (found.st_uid, found.st_gid) == (os.geteuid(), os.getegid())
    assert oct((bundle.parent / "out").stat().st_mode) == oct(0o040750)


def test_limits_are_the_lesser_of_ratio_and_ceiling() -> None:
    assert limits_for(1000) == Limits(200_000, 100_000)
    assert limits_for(10**9).max_bytes == 100_000_000_000
    assert limits_for(1000, ratio=3, ceiling=2999).max_bytes == 2999


def test_bytes_are_counted_as_tar_has_them(bundle: Path, engine: Engine) -> None:
    used = len(A + B + END)
    message = refused(GOOD, bundle, engine, Limits(used - 1))
    assert f"{used} bytes or more, beyond the {used - 1} allowed" in message
    assert unpack(bundle, bundle.parent / "out", Limits(used), engine)


def test_headers_alone_exhaust_the_bytes(bundle: Path, engine: Engine) -> None:
    archive = [entry(b"%d" % n) for n in range(1000)]
    assert "beyond" in refused(squeeze(*archive, END), bundle, engine, Limits(100_000))
    comments = [pax(kind=b"g", comment=b"c")] * 1000
    assert "beyond" in refused(squeeze(*comments, END), bundle, engine, Limits(100_000))


def test_what_is_too_large_is_never_begun(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mirror.unpack._create", lambda *_: pytest.fail("created"))
    assert "beyond" in refused(squeeze(header(b"a", 10**9)), bundle, fastest())


def test_members_are_counted(bundle: Path, engine: Engine) -> None:
    assert "more than the 1 members" in refused(GOOD, bundle, engine, Limits(10**6, 1))
    tops = squeeze(*[entry(b"./", kind=b"5")] * 3, END)
    assert "more than the 2 members" in refused(tops, bundle, engine, Limits(10**6, 2))
    assert unpack(bundle, bundle.parent / "out", Limits(10**6, 3), engine) == []


def on_call(
    number: int, real: Callable[..., object], fault: BaseException
) -> Callable[..., object]:
    """`real`, except that call `number` raises `fault` instead."""
    calls = iter(range(1, sys.maxsize))

    def fake(*args: object, **named: object) -> object:
        if next(calls) == number:
            raise fault
        return real(*args, **named)

    return fake


@pytest.mark.parametrize("code", ["ENOSPC", "EDQUOT", "EIO", "EROFS", "EACCES"])
@pytest.mark.parametrize(
    ("call", "number", "where"),
    [("mkdir", 1, "out"), ("write", 1, "out/a"), ("write", 2, "out/b"), ("utime", 2, "out/b"),
     ("open", 4, "out/b"), ("read", 1, "o1.chip.1.tgz")],
)  # fmt: skip
def test_what_the_system_refuses_is_a_local_error(
    call: str, number: int, where: str, code: str, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle.write_bytes(GOOD)
    before = tree(bundle.parent.parent)
    error = getattr(errno, code)
    fault = OSError(error, os.strerror(error))
    with monkeypatch.context() as patch:
        patch.setattr(os, call, on_call(number, getattr(os, call), fault))
        with pytest.raises(LocalError) as caught:
            unpack(bundle, bundle.parent / "out", ROOMY)
    assert str(caught.value) == f"{bundle.parent / where}: {os.strerror(error)}"
    assert tree(bundle.parent.parent) == before


def test_interrupt_leaves_nothing(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle.write_bytes(GOOD)
    monkeypatch.setattr(os, "write", on_call(2, os.write, KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        unpack(bundle, bundle.parent / "out", ROOMY)
    assert not (bundle.parent / "out").exists()


def test_a_directory_that_cannot_be_removed_is_reported(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle.write_bytes(squeeze(A))
    fault = OSError(errno.EIO, "Input/output error")
    monkeypatch.setattr(os, "rmdir", on_call(1, os.rmdir, fault))
    with pytest.raises(LocalError, match="out: Input/output error"):
        unpack(bundle, bundle.parent / "out", ROOMY)


def test_short_writes_are_continued(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle.write_bytes(GOOD)
    write = os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda fd, data: write(fd, data[:2]))
        unpack(bundle, bundle.parent / "out", ROOMY)
    assert tree(bundle.parent / "out") == {"a": b"alpha", "b": b"beta"}


def test_an_existing_directory_is_not_touched(bundle: Path) -> None:
    bundle.write_bytes(GOOD)
    (bundle.parent / "out").mkdir()
    (bundle.parent / "out" / "kept").write_bytes(b"kept")
    with pytest.raises(LocalError, match="out: File exists"):
        unpack(bundle, bundle.parent / "out", ROOMY)
    assert tree(bundle.parent / "out") == {"kept": b"kept"}


def test_a_link_in_the_way_is_not_followed(bundle: Path) -> None:
    bundle.write_bytes(GOOD)
    (bundle.parent / "out").symlink_to(bundle.parent.parent)
    before = tree(bundle.parent.parent)
    with pytest.raises(LocalError, match="File exists"):
        unpack(bundle, bundle.parent / "out", ROOMY)
    assert tree(bundle.parent.parent) == before


def test_a_missing_bundle_is_named(bundle: Path) -> None:
    with pytest.raises(LocalError, match=r"o1\.chip\.1\.tgz: No such file"):
        unpack(bundle, bundle.parent / "out", ROOMY)
    assert not (bundle.parent / "out").exists()


def test_names_that_the_file_system_takes_for_one_are_refused(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mirror.unpack.folded", lambda name: f"{name} is unique {os.urandom(8)!r}")
    data = squeeze(A, entry(b"./a", b"again"), END)
    assert "there is already one with a name like it" in refused(data, bundle, fastest())


def test_bundles_unpack_side_by_side(tmp_path: Path, engine: Engine) -> None:
    contents = [random.Random(n).randbytes(700_000 + n) for n in range(6)]
    for n, data in enumerate(contents):
        (tmp_path / f"{n}.tgz").write_bytes(squeeze(entry(b"./f", data), END))
    found: dict[int, list[Member]] = {}

    def work(n: int) -> None:
        found[n] = unpack(tmp_path / f"{n}.tgz", tmp_path / f"out{n}", ROOMY, engine)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for n, data in enumerate(contents):
        assert found[n] == [Member("f", len(data), zlib.crc32(data))]
        assert (tmp_path / f"out{n}" / "f").read_bytes() == data


def test_no_descriptor_is_left_open(bundle: Path, engine: Engine) -> None:
    before = open_files()
    refused(squeeze(A, header(b"b", 2000), bytes(512)), bundle, engine)
    bundle.write_bytes(GOOD)
    unpack(bundle, bundle.parent / "out", ROOMY, engine)
    assert not open_files() - before


USE = """
import sys
from pathlib import Path
from mirror.inflate import isal_engine, zlib_engine
from mirror.unpack import Limits, unpack
engine = isal_engine() if sys.argv[1] == "isal" else zlib_engine()
unpack(Path(sys.argv[2]), Path(sys.argv[3]), Limits(10**9), engine)
print(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
"""


def test_memory_stays_the_same(bundle: Path, engine: Engine) -> None:
    size = 300 * 10**6
    with gzip.open(bundle, "wb", compresslevel=1) as out:
        out.write(header(b"./big", size))
        for _ in range(size // 10**6):
            out.write(bytes(10**6))
        out.write(bytes(-size % 512) + END)
    command = [sys.executable, "-c", USE, engine.name, str(bundle), str(bundle.parent / "out")]
    root = Path(__file__).parents[1]
    result = subprocess.run(command, capture_output=True, text=True, check=True, cwd=root)
    assert (bundle.parent / "out" / "big").stat().st_size == size
    # KiB. Not ru_maxrss, which begins with what the parent of the process had.
    assert int(result.stdout) < 60 * 1024
    (bundle.parent / "out" / "big").unlink()


def reader(data: bytes, most: int) -> Callable[[int], bytes]:
    stream = io.BytesIO(data)
    return lambda count: stream.read(min(count, most))


@pytest.mark.parametrize("most", [1, 7, 512, 1 << 20])
def test_inflate_takes_its_input_as_it_comes(most: int, engine: Engine) -> None:
    content = random.Random(most).randbytes(3000) * 3 + bytes(3 * PIECE)
    data = gzip.compress(content) + bytes(5)
    pieces = list(inflate(reader(data, most), engine))
    assert b"".join(pieces) == content
    assert max(map(len, pieces)) <= PIECE
    with pytest.raises(InflateError, match="cut"):
        list(inflate(reader(data[:-6], most), engine))


def run_anything(data: bytes, engine: Engine) -> dict[str, bytes] | None:
    """What is unpacked from `data`, or None: refused, with nothing left behind."""
    with tempfile.TemporaryDirectory() as name:
        bundle, out = Path(name, "b.tgz"), Path(name, "out")
        bundle.write_bytes(data)
        try:
            members = unpack(bundle, out, Limits(10**6), engine)
        except IntegrityError:
            assert os.listdir(name) == ["b.tgz"]
            return None
        assert all(path.is_file() and not path.is_symlink() for path in out.iterdir())
        assert sorted(os.listdir(out)) == sorted(member.name for member in members)
        return tree(out)


@settings(deadline=None, max_examples=200)
@given(data=st.binary(max_size=3000), wrap=st.booleans())
def test_any_bytes_are_refused(engine: Engine, data: bytes, wrap: bool) -> None:
    run_anything(squeeze(data) if wrap else data, engine)


VALID = b"".join([
    entry(b"./", kind=b"5"), A, pax(path=b"p.fits", mtime=b"1.5"), B, entry(b"./c", bytes(600)),
    long_name(b"n" * 120), entry(b"n" * 100, b"gamma", magic=GNU), END,
])  # fmt: skip
EDITS = st.lists(st.tuples(st.integers(0, len(VALID) - 1), st.binary(max_size=4)), max_size=4)


@settings(deadline=None, max_examples=300)
@given(edits=EDITS, repair=st.booleans())
def test_what_is_taken_is_what_tarfile_sees(
    engine: Engine, edits: list[tuple[int, bytes]], repair: bool
) -> None:
    tar = bytearray(VALID)
    for at, value in edits:
        tar[at : at + len(value)] = value
    blocks = [bytes(tar[at : at + 512]) for at in range(0, len(tar), 512)]
    if repair:
        blocks = [seal(b) if b[257:262] == b"ustar" else b for b in blocks]
    data = squeeze(*blocks)
    taken = run_anything(data, engine)
    if taken is not None:
        assert taken == dict(tarfile_members(data))


def tarfile_members(data: bytes) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as archive:
        for info in archive:
            content = archive.extractfile(info)
            if content and info.name != ".":
                yield info.name.removeprefix("./"), content.read()


@settings(deadline=None, max_examples=200)
@given(at=st.integers(0, len(GOOD) - 1), value=st.binary(min_size=1, max_size=3))
def test_damage_to_the_gzip_stream_is_found(engine: Engine, at: int, value: bytes) -> None:
    data = GOOD[:at] + value + GOOD[at + len(value) :]
    taken = run_anything(data, engine)
    assert taken in (None, {"a": b"alpha", "b": b"beta"})


def test_a_header_reads_back() -> None:
    found = tarstream.parse_header(header(b"a", 77, b"0", prefix=b"p"))
    assert found == tarstream.Header(b"p/a", 77, TIME, b"0")


@given(data=st.binary(max_size=200))
def test_pax_records_are_read_or_refused(data: bytes) -> None:
    try:
        found = tarstream.parse_pax(data)
    except tarstream.TarError:
        return
    assert b"".join(record(key, value) for key, value in found.items()) == data


@given(st.dictionaries(st.sampled_from([b"path", b"comment", b"a.b"]), st.binary(max_size=99)))
def test_pax_records_read_back(records: dict[bytes, bytes]) -> None:
    data = b"".join(record(key, value) for key, value in records.items())
    assert tarstream.parse_pax(data) == records
