"""Files on their way into a fileset: what is refused, and that nothing is left of a failure."""

import errno
import os
from collections.abc import Iterator
from dataclasses import replace
from hashlib import md5
from pathlib import Path

import pytest
from filesets import CONTENT, MODES, O1, Store, new_store

from mirror.disk import flush
from mirror.errors import ConfigError, IntegrityError, LocalError, MirrorError
from server import fileset_files
from server.fileset_files import Mode
from server.register import Wanted, register
from server.site import SqliteFile


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A store whose catalogue is a file."""
    with new_store(SqliteFile(tmp_path / "catalogue.db"), tmp_path) as ready:
        yield ready


@pytest.mark.parametrize("mode", Mode, ids=lambda mode: mode.value)
def test_bytes_and_md5_are_those_that_were_said(store: Store, mode: Mode) -> None:
    if mode is Mode.IN_PLACE:
        store.put()
    base = "" if mode is Mode.IN_PLACE else f"{store.source}/"
    files = [
        Wanted(base + name, "fits", (), len(data), md5(data).hexdigest())
        for name, data in CONTENT.items()
    ]
    register(store.site, store.database, "gpc1", O1, files, mode=mode)
    store.whole()


def test_links_lead_to_the_file_itself(store: Store) -> None:
    elsewhere = store.source.parent / "elsewhere"
    elsewhere.symlink_to(store.source)
    (store.source / "z.fits").symlink_to("a.fits")
    files = [Wanted(f"{elsewhere}/z.fits", "fits")]
    register(store.site, store.database, "gpc1", O1, files, mode=Mode.LINK)
    assert os.readlink(store.directory / "z.fits") == str(store.source / "a.fits")


def test_new_files_have_the_modes_that_the_umask_leaves(store: Store) -> None:
    before = os.umask(0o027)
    try:
        store.register()
    finally:
        os.umask(before)
    modes = {path.stat().st_mode & 0o777 for path in store.directory.iterdir()}
    assert (store.directory.stat().st_mode & 0o777, modes) == (0o750, {0o640})


# What is refused, and that nothing is left of it

OTHER_MD5 = md5(b"other").hexdigest()
WRONG = {
    "md5": ({"md5": OTHER_MD5}, f"its md5 sum is {md5(CONTENT['a.fits']).hexdigest()}, but .*"
            + OTHER_MD5),
    "too small": ({"size": 8990}, "has 8991 bytes, but its line says 8990"),
    "too large": ({"size": 8992}, "has 8991 bytes, but its line says 8992"),
}  # fmt: skip


@pytest.mark.parametrize(("said", "reason"), WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("mode", Mode, ids=lambda mode: mode.value)
def test_a_file_that_is_not_what_was_said_is_refused(
    store: Store, mode: Mode, said: dict[str, str | int], reason: str
) -> None:
    files = store.wanted()
    files = [*files[1:], replace(files[0], **said)]  # type: ignore[arg-type]
    if mode is Mode.IN_PLACE:
        store.put()
        files = [replace(file, path=Path(file.path).name) for file in files]
    with pytest.raises(IntegrityError, match=reason):
        register(store.site, store.database, "gpc1", O1, files, mode=mode)
    if mode is Mode.IN_PLACE:
        assert store.held() == CONTENT
    else:
        store.nothing()


def fifo(path: Path) -> None:
    os.mkfifo(path)


def loop(path: Path) -> None:
    path.symlink_to(path.name)


STRANGE = {
    "missing": (lambda path: None, LocalError, "No such file"),
    "directory": (Path.mkdir, IntegrityError, "a regular file expected, not a directory"),
    "pipe": (fifo, IntegrityError, "a regular file expected, not a pipe"),
    "device": (lambda path: path.symlink_to("/dev/zero"), IntegrityError, "not a pipe, a socket"),
    "dangling link": (lambda path: path.symlink_to("gone"), LocalError, "No such file"),
    "loop of links": (loop, LocalError, "Too many levels"),
}


@pytest.mark.parametrize(("make", "kind", "reason"), STRANGE.values(), ids=STRANGE)
@pytest.mark.parametrize("mode", Mode, ids=lambda mode: mode.value)
def test_only_regular_files_are_registered(
    store: Store, mode: Mode, make: object, kind: type[MirrorError], reason: str
) -> None:
    assert callable(make)
    if mode is Mode.IN_PLACE:
        store.put()
        make(store.directory / "x.fits")
        with pytest.raises(kind, match=reason):
            store.in_place("a.fits", "x.fits")
        assert store.found() is None
        assert {*CONTENT} <= {path.name for path in store.directory.iterdir()}
        return
    make(store.source / "x.fits")
    files = [*store.wanted(), Wanted(f"{store.source}/x.fits", "fits")]
    with pytest.raises(kind, match=reason):
        register(store.site, store.database, "gpc1", O1, files, mode=mode)
    store.nothing()


CHANGES = {
    "grows": lambda path: path.open("ab").write(b"more"),
    "shrinks": lambda path: os.truncate(path, 10),
    "is written": lambda path: os.utime(path, ns=(0, 1)),
    "is replaced": lambda path: os.replace(path.with_name("c.text"), path),
    "goes away": lambda path: path.unlink(),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("mode", Mode, ids=lambda mode: mode.value)
@pytest.mark.parametrize("moment", ["while it is read", "before the commit"])
def test_a_source_that_changes_is_found_out(
    store: Store, monkeypatch: pytest.MonkeyPatch, mode: Mode, change: object, moment: str
) -> None:
    assert callable(change)
    base = store.source
    if mode is Mode.IN_PLACE:
        store.put()
        base = store.directory
    room, call = (os, "readv") if moment == "while it is read" else (fileset_files, "flush")
    real = getattr(room, call)
    calls: list[object] = []

    def disturbed(*args: object) -> object:
        done = real(*args)
        calls.append(args)
        # Of the flushes, the one of the directory.
        if call == "readv" or (isinstance(args[0], list) and store.directory in args[0]):
            monkeypatch.undo()
            change(base / "a.fits")
        return done

    monkeypatch.setattr(room, call, disturbed)
    name = "a.fits" if mode is Mode.IN_PLACE else f"{store.source}/a.fits"
    files = [Wanted(name, "fits", md5=md5(CONTENT["a.fits"]).hexdigest())]
    with pytest.raises((IntegrityError, LocalError), match=r"a.fits: (changed|No such file)"):
        register(store.site, store.database, "gpc1", O1, files, mode=mode)
    assert calls
    assert store.found() is None
    if mode is not Mode.IN_PLACE:
        store.nothing()


def test_a_source_that_grows_for_ever_does_not_keep_us(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.readv
    source = (store.source / "a.fits").open("ab", buffering=0)

    def growing(file: int, buffers: list[memoryview]) -> int:
        source.write(b"x" * 100_000)
        return real(file, buffers)

    monkeypatch.setattr(os, "readv", growing)
    with pytest.raises(IntegrityError, match="changed while it was read"):
        store.register()
    source.close()
    monkeypatch.undo()
    store.nothing()


# LINK_ROOTS


@pytest.fixture
def rooted(store: Store) -> Store:
    """A store of a site that allows links to its `source` alone."""
    store.site = replace(store.site, link_roots=(store.source,))
    outside = store.source.parent / "outside"
    outside.mkdir()
    (outside / "x.fits").write_bytes(b"secret")
    (store.source.parent / "source2").mkdir()
    (store.source.parent / "source2" / "x.fits").write_bytes(b"secret")
    (store.source / "out.fits").symlink_to("../outside/x.fits")
    (store.source / "chain.fits").symlink_to("out.fits")
    (store.source / "away").symlink_to("../outside")
    (outside / "in.fits").symlink_to("../source/a.fits")
    return store


OUT = ("out.fits", "chain.fits", "away/x.fits", "../outside/x.fits", "../source2/x.fits")


@pytest.mark.parametrize("path", OUT)
def test_links_out_of_the_link_roots_are_refused(rooted: Store, path: str) -> None:
    files = [*rooted.wanted(), Wanted(f"{rooted.source}/{path}", "fits")]
    with pytest.raises(IntegrityError, match=r"LINK_ROOTS allows links to .*/source$"):
        register(rooted.site, rooted.database, "gpc1", O1, files, mode=Mode.LINK)
    rooted.nothing()


@pytest.mark.parametrize("path", ["a.fits", "../outside/in.fits", "./../source/a.fits"])
def test_links_into_the_link_roots_are_made(rooted: Store, path: str) -> None:
    files = [Wanted(f"{rooted.source}/{path}", "fits")]
    register(rooted.site, rooted.database, "gpc1", O1, files, mode=Mode.LINK)
    assert [*rooted.held().values()] == [CONTENT["a.fits"]]


def test_a_link_that_is_led_elsewhere_meanwhile_is_found_out(
    rooted: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    (rooted.source / "night").mkdir()
    (rooted.source / "night" / "a.fits").write_bytes(b"the same file, moved")

    def move(paths: list[Path]) -> None:
        flush(paths)
        monkeypatch.undo()
        (rooted.source / "night").rename(rooted.source.parent / "outside" / "night")
        (rooted.source / "night").symlink_to("../outside/night")

    monkeypatch.setattr(fileset_files, "flush", move)
    files = [Wanted(f"{rooted.source}/night/a.fits", "fits")]
    with pytest.raises(IntegrityError, match=r"a\.fits: changed"):
        register(rooted.site, rooted.database, "gpc1", O1, files, mode=Mode.LINK)
    rooted.nothing()


def test_a_link_root_may_itself_be_a_link(rooted: Store) -> None:
    alias = rooted.source.parent / "alias"
    alias.symlink_to(rooted.source)
    rooted.site = replace(rooted.site, link_roots=(alias,))
    rooted.register(Mode.LINK)
    rooted.whole()


@pytest.mark.parametrize("path", OUT)
def test_links_in_place_keep_to_the_link_roots_too(rooted: Store, path: str) -> None:
    rooted.put()
    (rooted.directory / "l.fits").symlink_to(rooted.source / path)
    with pytest.raises(IntegrityError, match="LINK_ROOTS"):
        rooted.in_place("a.fits", "l.fits")
    assert rooted.found() is None


def test_copies_and_files_in_place_need_no_link_root(rooted: Store) -> None:
    rooted.site = replace(rooted.site, link_roots=())
    rooted.register()
    rooted.whole()


# Its own directory


def test_a_file_is_not_copied_onto_itself(store: Store) -> None:
    store.put()
    alias = store.source.parent / "alias"
    alias.symlink_to(store.directory)
    for base in (store.directory, alias):
        for mode in MODES.values():
            files = [Wanted(f"{base}/a.fits", "fits")]
            with pytest.raises(ConfigError, match="in place"):
                register(store.site, store.database, "gpc1", O1, files, mode=mode)
    assert store.held() == CONTENT


@pytest.mark.parametrize("mode", Mode, ids=lambda mode: mode.value)
def test_a_directory_that_is_none_is_refused(store: Store, mode: Mode) -> None:
    elsewhere = store.source.parent / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "a.fits").write_bytes(b"")
    store.directory.symlink_to(elsewhere)
    name = "a.fits" if mode is Mode.IN_PLACE else f"{store.source}/a.fits"
    with pytest.raises(LocalError, match="a directory expected"):
        register(store.site, store.database, "gpc1", O1, [Wanted(name, "fits")], mode=mode)
    assert [path.name for path in elsewhere.iterdir()] == ["a.fits"]


@pytest.mark.parametrize("mode", Mode, ids=lambda mode: mode.value)
def test_a_product_s_directory_that_is_a_link_is_refused(store: Store, mode: Mode) -> None:
    elsewhere = store.source.parent / "elsewhere"
    (elsewhere / "o1").mkdir(parents=True)
    (elsewhere / "o1/a.fits").write_bytes(b"")
    store.directory.parent.rmdir()
    store.directory.parent.symlink_to(elsewhere)
    name = "a.fits" if mode is Mode.IN_PLACE else f"{store.source}/a.fits"
    with pytest.raises(LocalError, match=r"/gpc1: a directory expected, not a link; .*mount"):
        register(store.site, store.database, "gpc1", O1, [Wanted(name, "fits")], mode=mode)
    assert store.found() is None
    assert [path.name for path in (elsewhere / "o1").iterdir()] == ["a.fits"]


def test_a_link_root_that_leads_nowhere_allows_nothing(rooted: Store) -> None:
    loop(rooted.source.parent / "loop")
    rooted.site = replace(rooted.site, link_roots=(rooted.source.parent / "loop",))
    with pytest.raises(IntegrityError, match="LINK_ROOTS"):
        rooted.register(Mode.LINK)
    rooted.nothing()


# Failures of the disk


CALLS = [
    (mode, call)
    for mode in MODES.values()
    for call in ("write", "symlink", "replace", "fsync", "mkdir", "readv")
    if call != ("symlink" if mode is Mode.COPY else "write")
]


@pytest.mark.parametrize(("mode", "call"), CALLS, ids=lambda part: getattr(part, "value", part))
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO], ids=errno.errorcode.get)
def test_nothing_is_left_when_the_disk_fails(
    store: Store, monkeypatch: pytest.MonkeyPatch, mode: Mode, call: str, code: int
) -> None:
    real = getattr(os, call)
    # The first succeeds, that there is something to clear.
    left: list[int] = [] if call == "mkdir" else [1]

    def failing(*args: object, **keywords: object) -> object:
        if left:
            left.pop()
            return real(*args, **keywords)
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, call, failing)
    with pytest.raises(LocalError, match=f"(gpc1|source).*: {os.strerror(code)}"):
        store.register(mode)
    monkeypatch.undo()
    store.nothing()
    store.register(mode)
    store.whole()
