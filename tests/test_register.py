"""Registering and withdrawing filesets: in a list with everything that belongs to them, or not."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from filesets import CONTENT, MODES, O1, Store, new_store

from mirror.errors import ConfigError, IntegrityError, LocalError
from server import register as register_room
from server.catalogue import Fileset, NewFileset, add_fileset, catalogue, find_product
from server.contents import filesets_after
from server.database import Duplicate
from server.fileset_files import SCRATCH, Mode
from server.register import Wanted, Withdrawn, read_list, register, withdraw
from server.site import Place, SqliteFile
from server.store_lock import ConflictError, hold_fileset, hold_product


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A store whose catalogue is a file."""
    with new_store(SqliteFile(tmp_path / "catalogue.db"), tmp_path) as ready:
        yield ready


@pytest.fixture
def any_store(place: Place, tmp_path: Path) -> Iterator[Store]:
    """A store, once for each database."""
    with new_store(place, tmp_path) as ready:
        yield ready


# The list of files


def test_a_list_is_read() -> None:
    text = (
        "\ufeff# FILE|BYTES|MD5|TYPE|\r\n"
        "/d/a.tgz |12| d41d8cd98f00b204e9800998ecf8427e |tgz| XY01 |\r\n"
        "\n   \n  # a comment\n"
        "b#1/c.fits|||fits|\n"
        "d||x|tgz||null|2||"
    )
    assert read_list(text.encode()) == (
        [
            Wanted("/d/a.tgz", "tgz", ("XY01",), 12, "d41d8cd98f00b204e9800998ecf8427e", 2),
            Wanted("b#1/c.fits", "fits", (), None, None, 6),
            Wanted("d", "tgz", (None, None, "2"), None, "x", 7),
        ],
        [],
    )


def test_every_wrong_line_is_told() -> None:
    files, problems = read_list(b"a|1||fits\na|1|fits|\na|-1||fits|\na|1||fits|\na|\xb2||fits|\n")
    assert [file.line for file in files] == [4]
    assert [problem.partition(":")[0] for problem in problems] == [
        "line 1", "line 2", "line 3", "line 5",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("path", "mode", "datapath", "reason"),
    [
        ("a.fits", Mode.COPY, None, "an absolute path expected"),
        ("/d/a.fits", Mode.COPY, "/d", "a path below /d expected"),
        ("../a.fits", Mode.LINK, "/d", "a path below /d expected"),
        ("x/../../a.fits", Mode.COPY, "/d", "a path below /d expected"),
        ("/d/a\0.fits/b", Mode.COPY, None, "control characters"),
        ("/d/", Mode.COPY, None, "an empty name"),
        ("/d/..", Mode.COPY, None, "'..' as a name"),
        ("/d/index.txt", Mode.LINK, None, "the list's own name"),
        ("/d/.a", Mode.LINK, None, "begins with '.'"),
        ("x/a.fits", Mode.IN_PLACE, None, "characters outside"),
        ("..", Mode.IN_PLACE, None, "'..' as a name"),
        (SCRATCH, Mode.IN_PLACE, None, "begins with '.'"),
    ],
)
def test_paths_are_refused(
    store: Store, path: str, mode: Mode, datapath: str | None, reason: str
) -> None:
    below = Path(datapath) if datapath else None
    files = [Wanted(path, "fits", line=7)]
    with pytest.raises(ConfigError, match=f"^line 7: .*{reason}"):
        register(store.site, store.database, "gpc1", O1, files, mode=mode, datapath=below)
    store.nothing_begun()


def test_everything_wrong_is_told_at_once(store: Store) -> None:
    files = [
        Wanted("/d/a.fits", "fits", ("1",), line=1),
        Wanted("a b", "fit", size=-1, md5="x", line=2),
        Wanted("/e/A.fits", "fits", line=3),
    ]
    wrong = NewFileset("o 1", "dist", ("1", "2", "3", "4"))
    with pytest.raises(ConfigError) as raised:
        register(store.site, store.database, "gpc1", wrong, files, mode=Mode.COPY)
    assert len(raised.value.problems) == 7
    store.nothing_begun()


# Files and rows


@pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
def test_a_fileset_is_registered(any_store: Store, mode: Mode) -> None:
    any_store.register(mode)
    any_store.whole()
    found = any_store.found()
    assert found
    assert (found.type, found.values, found.hidden) == ("IPP-DIST", ("3", None, "11955"), False)
    assert [file.values for file in any_store.rows()] == [(), ("XY01",), ()]
    links = [path.is_symlink() for path in any_store.directory.iterdir()]
    assert links == [mode is Mode.LINK] * 3


def test_a_fileset_is_registered_in_place(any_store: Store) -> None:
    any_store.put()
    (any_store.directory / "other").write_bytes(b"")
    any_store.in_place()
    assert any_store.held() == {**CONTENT, "other": b""}
    (any_store.directory / "other").unlink()
    any_store.whole()


def test_a_fileset_may_be_empty(store: Store) -> None:
    done = register(store.site, store.database, "gpc1", replace(O1, hidden=True))
    assert (done.files, done.bytes) == (0, 0)
    assert store.held() == {}
    found = store.found()
    assert found
    assert found.hidden


def test_paths_are_relative_to_the_data_path(store: Store) -> None:
    files = [Wanted(f"source/{name}", "fits") for name in CONTENT]
    above = store.source.parent
    register(store.site, store.database, "gpc1", O1, files, mode=Mode.COPY, datapath=above)
    store.whole()


# A fileset that is there already; leftovers


def test_what_is_registered_is_never_overwritten(any_store: Store) -> None:
    any_store.register()
    for name in CONTENT:
        # Whoever looks at the files first, sees that they are gone.
        (any_store.source / name).unlink()
    for fileset in (O1, replace(O1, name="O1")):
        with pytest.raises(ConflictError, match="registered already"):
            register(
                any_store.site, any_store.database, "gpc1", fileset, any_store.wanted(),
                mode=Mode.COPY,
            )  # fmt: skip
    any_store.whole()


def test_who_is_second_at_the_commit_touches_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Should the locks fail, as on a file system without any, the catalogue decides."""

    def second(*args: object) -> Fileset:
        monkeypatch.undo()
        add_fileset(store.database, "gpc1", O1, [])
        raise Duplicate

    monkeypatch.setattr(register_room, "add_fileset", second)
    with pytest.raises(ConflictError, match="registered already"):
        store.register()
    assert store.held() == CONTENT


@pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
def test_a_leftover_is_taken_over(store: Store, mode: Mode) -> None:
    store.directory.mkdir()
    (store.directory / "a.fits").write_bytes(b"half")
    (store.directory / "b.tgz").symlink_to("/gone")
    (store.directory / SCRATCH).write_bytes(b"half")
    (store.directory / "other").write_bytes(b"of somebody")
    store.register(mode)
    (store.directory / "other").unlink()
    store.whole()


def test_without_its_product_nothing_is_registered(store: Store) -> None:
    for name in ("gpc2", "../gpc1", "x'; DROP TABLE dsProduct; --"):
        with pytest.raises(ConflictError, match="dsprodtool --add"):
            register(store.site, store.database, name, O1)
    store.nothing_begun()


def test_nothing_is_left_when_the_catalogue_fails(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*args: object) -> Fileset:
        raise LocalError("catalogue: database or disk is full")

    monkeypatch.setattr(register_room, "add_fileset", failing)
    with pytest.raises(LocalError, match="disk is full"):
        store.register()
    store.nothing()


def test_files_stay_while_it_is_not_known_whether_the_rows_are_there(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(*args: object) -> Fileset:
        raise LocalError("catalogue: the connection was lost")

    monkeypatch.setattr(register_room, "add_fileset", lost)
    monkeypatch.setattr(register_room, "find_fileset", lost)
    with pytest.raises(LocalError, match="lost"):
        store.register()
    assert store.held() == CONTENT


@pytest.mark.parametrize("moment", ["before", "after"])
def test_an_interruption_leaves_all_or_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    def interrupted(*args: object) -> Fileset:
        if moment == "after":
            add_fileset(*args)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    monkeypatch.setattr(register_room, "add_fileset", interrupted)
    with pytest.raises(KeyboardInterrupt):
        store.register()
    if moment == "before":
        store.nothing()
    else:
        store.whole()


# Others at work


def test_one_process_at_a_time_works_on_a_fileset(store: Store) -> None:
    with hold_fileset(store.site.root, "gpc1", "O1"):
        with pytest.raises(ConflictError, match="another process is working on it"):
            store.register()
        with pytest.raises(ConflictError, match="another process is working on it"):
            withdraw(store.site, store.database, "gpc1", "o1")
        with pytest.raises(ConflictError), hold_product(store.site.root, "gpc1"):
            pass
        store.nothing()
        store.register(fileset=replace(O1, name="o2"))
    with hold_product(store.site.root, "gpc1"), pytest.raises(ConflictError, match="product gpc1"):
        store.register()
    store.register()
    store.whole()


def test_of_two_that_register_one_fileset_one_wins(any_store: Store) -> None:
    store = any_store
    outcomes: list[str] = []
    ready = threading.Barrier(4)

    def attempt() -> None:
        with catalogue(store.site.database) as database:
            ready.wait()
            try:
                register(store.site, database, "gpc1", O1, store.wanted(), mode=Mode.COPY)
                outcomes.append("registered")
            except ConflictError:
                outcomes.append("conflict")

    threads = [threading.Thread(target=attempt) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["conflict"] * 3 + ["registered"]
    store.whole()


# Withdrawing


def test_a_fileset_is_withdrawn_and_its_files_stay(any_store: Store) -> None:
    any_store.register()
    done = withdraw(any_store.site, any_store.database, "gpc1", "o1")
    assert done == Withdrawn(registered=True, removed=False)
    assert any_store.found() is None
    assert any_store.held() == CONTENT
    any_store.in_place()
    any_store.whole()


def test_a_fileset_is_withdrawn_with_its_directory_but_not_what_links_lead_to(
    store: Store,
) -> None:
    store.register(Mode.LINK)
    (store.directory / "away").symlink_to(store.source)
    done = withdraw(store.site, store.database, "gpc1", "o1", remove=True)
    assert done == Withdrawn(registered=True, removed=True)
    store.nothing()
    assert {path.name for path in store.source.iterdir()} == {*CONTENT}


def test_what_is_not_registered_is_an_error_unless_forced(store: Store) -> None:
    with pytest.raises(ConflictError, match=r"gpc1/o1: not registered$"):
        withdraw(store.site, store.database, "gpc1", "o1", remove=True)
    store.put()
    with pytest.raises(ConflictError, match=r"its directory is there: .*/gpc1/o1; .*--force"):
        withdraw(store.site, store.database, "gpc1", "o1", remove=True)
    assert store.held() == CONTENT
    nothing = Withdrawn(registered=False, removed=False)
    assert withdraw(store.site, store.database, "gpc1", "o1", force=True) == nothing
    assert store.held() == CONTENT
    left = withdraw(store.site, store.database, "gpc1", "o1", remove=True, force=True)
    assert left == Withdrawn(registered=False, removed=True)
    store.nothing()
    done = withdraw(store.site, store.database, "gpc9", "o1", remove=True, force=True)
    assert done == nothing


@pytest.mark.parametrize(
    ("product", "name"),
    [("gpc1", ".."), ("..", "source"), (".", "gpc1"), ("gpc1", ""), ("gpc1", "."), ("/", "x")],
)
def test_nothing_but_a_fileset_is_withdrawn(store: Store, product: str, name: str) -> None:
    with pytest.raises(ConfigError):
        withdraw(store.site, store.database, product, name, remove=True, force=True)
    assert (store.site.root / "gpc1").is_dir()
    assert store.source.is_dir()


def test_the_list_is_in_the_order_of_registration(store: Store) -> None:
    for name in ("z", "m", "a"):
        store.register(fileset=replace(O1, name=name))
    product = find_product(store.database, "gpc1")
    assert product
    listed = [fileset.name for fileset in filesets_after(store.database, product, 0, 9)]
    assert listed == ["z", "m", "a"]


# Sums that are trusted


def trusted(store: Store, size: int | None = 8991, md5: str | None = "0" * 32) -> list[Wanted]:
    """One of the files that lie ready, summed up by whoever wrote it, or so they say."""
    return [replace(store.wanted()[0], size=size, md5=md5, trusted=True)]


@pytest.mark.parametrize("mode", [Mode.LINK, Mode.IN_PLACE])
def test_a_trusted_file_is_not_read(store: Store, mode: Mode) -> None:
    files = trusted(store)
    if mode is Mode.IN_PLACE:
        store.put()
        files = [replace(files[0], path="a.fits")]
    register(store.site, store.database, "gpc1", O1, files, mode=mode)
    assert [(file.size, file.md5) for file in store.rows()] == [(8991, "0" * 32)]
    assert store.held()["a.fits"] == CONTENT["a.fits"]


def test_a_trusted_file_of_another_size_is_refused(store: Store) -> None:
    with pytest.raises(IntegrityError, match="has 8991 bytes, but its line says 8990"):
        register(
            store.site, store.database, "gpc1", O1, trusted(store, size=8990), mode=Mode.LINK
        )  # fmt: skip
    store.nothing()


def test_what_is_trusted_must_still_be_a_file_and_below_the_link_roots(store: Store) -> None:
    (store.source / "a.fits").unlink()
    (store.source / "a.fits").mkdir()
    with pytest.raises(IntegrityError, match="a regular file expected, not a directory"):
        register(store.site, store.database, "gpc1", O1, trusted(store), mode=Mode.LINK)
    elsewhere = replace(store.site, link_roots=(store.site.root,))
    with pytest.raises(IntegrityError, match="LINK_ROOTS allows"):
        register(elsewhere, store.database, "gpc1", O1, trusted(store), mode=Mode.LINK)
    store.nothing()


@pytest.mark.parametrize(
    ("mode", "size", "md5"),
    [(Mode.COPY, 8991, "0" * 32), (Mode.LINK, None, "0" * 32), (Mode.LINK, 8991, None)],
    ids=["copied", "without size", "without md5"],
)
def test_what_cannot_be_trusted_is_refused(
    store: Store, mode: Mode, size: int | None, md5: str | None
) -> None:
    files = trusted(store, size, md5)
    with pytest.raises(ConfigError, match="to be trusted it needs size and md5"):
        register(store.site, store.database, "gpc1", O1, files, mode=mode)
    store.nothing_begun()
