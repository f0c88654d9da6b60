"""The catalogue's tables in both databases: what is registered, its order, its versions."""

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from mirror.errors import ConfigError, LocalError
from server import catalogue as catalogue_room
from server import database as database_room
from server.catalogue import (
    NewFile,
    NewFileset,
    add_fileset,
    add_product,
    catalogue,
    change_product,
    find_file,
    find_fileset,
    find_product,
    first_id,
    open_catalogue,
    remove_fileset,
    remove_product,
)
from server.contents import (
    Window,
    count_listed,
    count_products,
    files,
    files_after,
    filesets,
    filesets_after,
    measure_files,
    measure_filesets,
    products,
    type_columns,
)
from server.database import Database, Duplicate, Pool, connect
from server.schema import VERSION, migrate, version_of
from server.site import Place, PostgresServer, SqliteFile

MD5 = "d41d8cd98f00b204e9800998ecf8427e"
DISTRIBUTION = ("target_id", "stage", "stage_id", "exp_name")


@pytest.fixture
def database(place: Place) -> Iterator[Database]:
    """An open catalogue without products."""
    with catalogue(place, create=True) as opened:
        yield opened


@pytest.fixture
def gpc1(database: Database) -> Database:
    """A catalogue with the empty distribution product gpc1."""
    add_product(database, "gpc1", "ipp-dist", "Test exposures", DISTRIBUTION)
    return database


def register(database: Database, *names: str, product: str = "gpc1", hidden: bool = False) -> None:
    for name in names:
        add_fileset(database, product, NewFileset(name, "IPP-DIST", hidden=hidden), [])


def listed(database: Database, product: str = "gpc1", after: str | None = None) -> list[str]:
    owner = find_product(database, product)
    assert owner
    last = find_fileset(database, owner, after) if after else None
    return [f.name for f in filesets_after(database, owner, last.id if last else 0, 100)]


def last_of(database: Database, product: str = "gpc1") -> str | None:
    owner = find_product(database, product)
    assert owner
    return owner.last_fileset


def test_a_product_keeps_what_was_said_of_it(gpc1: Database) -> None:
    product = find_product(gpc1, "gpc1")
    assert product
    assert (product.type, product.description, product.hidden) == (
        "ipp-dist", "Test exposures", False,
    )  # fmt: skip
    assert product.columns == DISTRIBUTION
    assert product.last_fileset is None


@pytest.mark.parametrize("name", ["gpc1", "GPC1"])
def test_a_product_of_the_same_name_in_any_case_is_a_duplicate(gpc1: Database, name: str) -> None:
    with pytest.raises(Duplicate):
        add_product(gpc1, name, "ipp-dist", "another")
    assert [product.description for product in products(gpc1)] == ["Test exposures"]


def test_products_are_in_the_order_of_their_making_without_hidden_ones(gpc1: Database) -> None:
    add_product(gpc1, "zz", "table", "later")
    add_product(gpc1, "secret", "table", "unseen", hidden=True)
    add_product(gpc1, "aa", "table", "last")
    assert [product.name for product in products(gpc1)] == ["gpc1", "zz", "aa"]
    assert count_products(gpc1) == 3
    assert find_product(gpc1, "secret")


def test_a_product_can_change_its_description_and_be_hidden(gpc1: Database) -> None:
    assert change_product(gpc1, "gpc1", description="Survey")
    assert change_product(gpc1, "gpc1", hidden=True)
    assert not change_product(gpc1, "gpc2", hidden=True)
    product = find_product(gpc1, "gpc1")
    assert product
    assert (product.description, product.hidden) == ("Survey", True)


def test_a_fileset_is_found_with_all_its_files(gpc1: Database) -> None:
    written = [
        NewFile("a.tgz", 2**40, MD5, "tgz", ("XY01",)),
        NewFile("b.txt", 0, MD5, "notset"),
        NewFile("c.tgz", 7, MD5, "tgz", (None, "second")),
    ]
    values = ("12", None, "293")
    made = add_fileset(gpc1, "gpc1", NewFileset("o1.chip.1.2.3", "IPP-DIST", values), written)
    product = find_product(gpc1, "gpc1")
    assert product
    found = find_fileset(gpc1, product, "o1.chip.1.2.3")
    assert found == made
    assert found.values == values
    assert [entry.file for entry in files_after(gpc1, found, 0, 100)] == written
    assert find_file(gpc1, found, "b.txt") == written[1]
    assert find_file(gpc1, found, "B.txt") is None
    assert measure_files(gpc1, found) == (3, 2**40 + 7)


def test_filesets_are_listed_in_the_order_of_registration(gpc1: Database) -> None:
    register(gpc1, "zz", "mm", "aa")
    assert listed(gpc1) == ["zz", "mm", "aa"]
    assert listed(gpc1, after="mm") == ["aa"]
    assert listed(gpc1, after="aa") == []
    assert last_of(gpc1) == "aa"


def test_the_list_comes_in_pieces(gpc1: Database) -> None:
    register(gpc1, *(f"f{n}" for n in range(7)))
    product = find_product(gpc1, "gpc1")
    assert product
    seen: list[str] = []
    after = 0
    while piece := filesets_after(gpc1, product, after, 3):
        seen += [fileset.name for fileset in piece]
        after = piece[-1].id
    assert seen == [f"f{n}" for n in range(7)]


def test_a_hidden_fileset_is_found_but_in_no_list_and_never_the_newest(gpc1: Database) -> None:
    register(gpc1, "seen")
    register(gpc1, "unseen", hidden=True)
    product = find_product(gpc1, "gpc1")
    assert product
    assert find_fileset(gpc1, product, "unseen")
    assert listed(gpc1) == ["seen"]
    assert count_listed(gpc1, product) == 1
    assert last_of(gpc1) == "seen"


@pytest.mark.parametrize("name", ["o1", "O1"])
def test_a_fileset_of_the_same_name_in_any_case_is_a_duplicate(gpc1: Database, name: str) -> None:
    register(gpc1, "o1")
    with pytest.raises(Duplicate):
        register(gpc1, name)
    assert listed(gpc1) == ["o1"]


def test_two_products_may_hold_filesets_of_one_name(gpc1: Database) -> None:
    add_product(gpc1, "gpc2", "ipp-dist", "another")
    register(gpc1, "o1")
    register(gpc1, "o1", product="gpc2")
    assert listed(gpc1) == listed(gpc1, "gpc2") == ["o1"]


def test_of_a_fileset_with_a_file_twice_nothing_is_registered(gpc1: Database) -> None:
    twice = [NewFile("a", 1, MD5, "fits"), NewFile("A", 1, MD5, "fits")]
    with pytest.raises(Duplicate):
        add_fileset(gpc1, "gpc1", NewFileset("o1", "IPP-DIST"), twice)
    assert listed(gpc1) == []
    assert last_of(gpc1) is None


def test_without_its_product_nothing_is_registered(database: Database) -> None:
    with pytest.raises(LocalError, match="gpc1"):
        register(database, "o1")


def test_removing_the_newest_moves_the_last_fileset_back(gpc1: Database) -> None:
    register(gpc1, "o1", "o2")
    register(gpc1, "hidden", hidden=True)
    register(gpc1, "o3")
    assert remove_fileset(gpc1, "gpc1", "o3")
    assert last_of(gpc1) == "o2"
    assert remove_fileset(gpc1, "gpc1", "o1")
    assert last_of(gpc1) == "o2"
    assert remove_fileset(gpc1, "gpc1", "o2")
    assert last_of(gpc1) is None
    assert not remove_fileset(gpc1, "gpc1", "o2")
    assert not remove_fileset(gpc1, "gpc9", "o2")


def test_what_is_registered_again_comes_behind_everything(gpc1: Database) -> None:
    register(gpc1, "o1", "o2")
    remove_fileset(gpc1, "gpc1", "o2")
    register(gpc1, "o3", "o2")
    assert listed(gpc1) == ["o1", "o3", "o2"]


def test_whoever_saw_a_fileset_before_it_was_registered_again_misses_nothing(
    gpc1: Database,
) -> None:
    register(gpc1, "o1", "o2")
    for _ in range(2):
        remove_fileset(gpc1, "gpc1", "o1")
        register(gpc1, "o1")
    product = find_product(gpc1, "gpc1")
    assert product
    again = find_fileset(gpc1, product, "o1")
    second = find_fileset(gpc1, product, "o2")
    assert again
    assert second
    first = first_id(gpc1, product, again)
    assert [f.name for f in filesets_after(gpc1, product, first, 100)] == ["o2", "o1"]
    assert first_id(gpc1, product, second) == second.id


def test_whoever_saw_a_product_before_it_was_made_again_misses_nothing(gpc1: Database) -> None:
    register(gpc1, "o1")
    remove_product(gpc1, "gpc1")
    add_product(gpc1, "gpc1", "ipp-dist", "Test exposures")
    register(gpc1, "o2", "o1", "o3")
    product = find_product(gpc1, "gpc1")
    assert product
    again = find_fileset(gpc1, product, "o1")
    assert again
    first = first_id(gpc1, product, again)
    assert [f.name for f in filesets_after(gpc1, product, first, 100)] == ["o2", "o1", "o3"]


def test_removing_a_product_removes_all_of_it(gpc1: Database) -> None:
    add_fileset(gpc1, "gpc1", NewFileset("o1", "IPP-DIST"), [NewFile("a", 1, MD5, "fits")])
    assert remove_product(gpc1, "gpc1")
    assert not remove_product(gpc1, "gpc1")
    assert gpc1.row("SELECT (SELECT count(*) FROM dsFileset), (SELECT count(*) FROM dsFile)") == (
        0, 0,
    )  # fmt: skip


def test_windows_are_sorted_and_cut(gpc1: Database) -> None:
    for number, stage in enumerate(("warp", "chip", "stack", "chip")):
        values = (str(number), stage)
        add_fileset(gpc1, "gpc1", NewFileset(f"o{9 - number}", "IPP-DIST", values), [])
    product = find_product(gpc1, "gpc1")
    assert product

    def names(window: Window) -> list[str]:
        return [fileset.name for fileset in filesets(gpc1, product, window)]

    assert names(Window()) == ["o9", "o8", "o7", "o6"]
    assert names(Window(descending=True, limit=2)) == ["o6", "o7"]
    assert names(Window("fileset_name", limit=3, offset=1)) == ["o7", "o8", "o9"]
    assert names(Window(1)) == ["o8", "o6", "o7", "o9"]


def test_files_are_sorted_by_number_of_bytes(gpc1: Database) -> None:
    sizes = [NewFile(f"f{size}", size, MD5, "fits") for size in (100, 20, 3)]
    made = add_fileset(gpc1, "gpc1", NewFileset("o1", "IPP-DIST"), sizes)
    shown = files(gpc1, made, Window("bytes", descending=True))
    assert [file.size for file in shown] == [100, 20, 3]


def test_a_list_is_measured_from_any_place(gpc1: Database) -> None:
    register(gpc1, "o1", "o2")
    register(gpc1, "hidden", hidden=True)
    register(gpc1, "o3")
    product = find_product(gpc1, "gpc1")
    assert product
    second, third = (find_fileset(gpc1, product, name) for name in ("o2", "o3"))
    assert second
    assert third
    assert measure_filesets(gpc1, product, 0) == (3, third.id)
    assert measure_filesets(gpc1, product, second.id) == (1, third.id)
    assert measure_filesets(gpc1, product, third.id) == (0, 0)


def test_type_columns_are_those_of_the_protocol(database: Database) -> None:
    columns = type_columns(database)
    assert columns["tgz"] == columns["text"] == ("component",)
    assert columns["chip"] == ("chipname",)
    assert "fits" not in columns


def test_a_reader_sees_one_moment(place: Place, gpc1: Database) -> None:
    register(gpc1, "o1")
    with catalogue(place) as other, other.read():
        before = listed(other)
        register(gpc1, "o2")
        assert listed(other) == before
    assert listed(gpc1) == ["o1", "o2"]


def test_an_error_inside_a_transaction_undoes_all_of_it(gpc1: Database) -> None:
    def fail() -> None:
        with gpc1.write():
            gpc1.change("UPDATE dsProduct SET description = ?", "changed")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    product = find_product(gpc1, "gpc1")
    assert product
    assert product.description == "Test exposures"
    register(gpc1, "o1")


def test_metacharacters_of_sql_are_only_text(gpc1: Database) -> None:
    nasty = "x'); DROP TABLE dsFile; -- %s %(a)s ? \" \\"
    change_product(gpc1, "gpc1", description=nasty)
    product = find_product(gpc1, "gpc1")
    assert product
    assert product.description == nasty
    assert find_product(gpc1, nasty) is None


def test_a_later_registration_waits_for_an_earlier_one(place: Place, gpc1: Database) -> None:
    """Ids are given in the order in which registrations become visible, also by PostgreSQL."""
    begun = threading.Event()
    done: list[str] = []

    def second() -> None:
        with catalogue(place) as other:
            begun.set()
            register(other, "second")
            done.append("second")

    with gpc1.write():
        gpc1.change("UPDATE dsProduct SET last_fs = last_fs WHERE prod_name = ?", "gpc1")
        thread = threading.Thread(target=second)
        thread.start()
        begun.wait()
        thread.join(0.1)
        assert not done
    thread.join()
    assert listed(gpc1) == ["second"]


def test_migration_from_the_version_before_keeps_everything(place: Place) -> None:
    database = connect(place, create=True)
    migrate(database, target=VERSION - 1)
    assert version_of(database) == VERSION - 1
    add_product(database, "gpc1", "ipp-dist", "old", DISTRIBUTION)
    register(database, "o1", "o2")
    database.close()
    with catalogue(place) as opened:
        assert version_of(opened) == VERSION
        assert listed(opened) == ["o1", "o2"]
        register(opened, "o3")
        remove_fileset(opened, "gpc1", "o1")
        assert opened.rows("SELECT fileset_name FROM dsWithdrawn") == [("o1",)]


def test_tables_of_a_newer_program_are_refused(place: Place) -> None:
    with catalogue(place, create=True) as opened, opened.write():
        opened.change("UPDATE dsVersion SET version = ?", VERSION + 1)
    with pytest.raises(LocalError, match="newer version"):
        open_catalogue(place)


def test_many_can_begin_one_catalogue_at_once(place: Place) -> None:
    faults: list[Exception] = []

    def begin() -> None:
        try:
            open_catalogue(place, create=True).close()
        except Exception as fault:
            faults.append(fault)

    threads = [threading.Thread(target=begin) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    with catalogue(place) as opened:
        assert version_of(opened) == VERSION
        assert "tgz" in type_columns(opened)


def test_a_pool_gives_its_connections_again(place: Place, gpc1: Database) -> None:
    pool = Pool(place, size=1)
    with pool.borrow() as first:
        assert listed(first) == []
    with pool.borrow() as second:
        assert second is first
    with pytest.raises(LocalError), pool.borrow() as third:
        third.rows("SELECT nothing FROM nowhere")
    with pool.borrow() as fourth:
        assert listed(fourth) == []
    pool.close()


def test_a_connection_that_was_cut_is_made_anew(
    gpc1: Database, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    if gpc1.kind != "postgres":
        pytest.skip("a file does not hang up")
    monkeypatch.setattr("server.database._STALE", -1.0)
    pool = Pool(place)
    with pool.borrow() as first:
        row = first.row("SELECT pg_backend_pid()")
    assert row
    gpc1.row("SELECT pg_terminate_backend(?)", row[0])
    with pool.borrow() as second:
        assert listed(second) == []
    pool.close()


@pytest.mark.parametrize("how", ["replaced", "removed"])
def test_a_file_that_was_replaced_or_removed_is_noticed(tmp_path: Path, how: str) -> None:
    place = SqliteFile(tmp_path / "catalogue.db")
    copy = tmp_path / "copy.db"
    with catalogue(place, create=True) as opened:
        add_product(opened, "old", "table", "in the copy")
        opened.row("PRAGMA wal_checkpoint(TRUNCATE)")
        shutil.copy(place.path, copy)
        add_product(opened, "new", "table", "not in the copy")
    pool = Pool(place)
    with pool.borrow() as first:
        assert count_products(first) == 2
    for suffix in ("", "-wal", "-shm"):
        Path(f"{place.path}{suffix}").unlink(missing_ok=True)
    if how == "replaced":
        copy.rename(place.path)
        with pool.borrow() as second:
            assert count_products(second) == 1
    else:
        with pytest.raises(ConfigError, match="no catalogue"), pool.borrow():
            pass
    pool.close()


def test_a_disk_that_fails_is_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a busy file is worth waiting for."""
    waited: list[float] = []
    monkeypatch.setattr("server.database.time.sleep", waited.append)
    (tmp_path / "catalogue.db").mkdir()
    with pytest.raises(LocalError, match=r"catalogue\.db"):
        open_catalogue(SqliteFile(tmp_path / "catalogue.db"), create=True)
    assert waited == []


@pytest.mark.parametrize(
    ("server", "host", "port"),
    [
        ("db.site", "db.site", None),
        ("db.site:5433", "db.site", "5433"),
        ("192.0.2.7:5433", "192.0.2.7", "5433"),
        ("::1", "::1", None),
        ("fe80::1", "fe80::1", None),
        ("[::1]", "::1", None),
        ("[::1]:5433", "::1", "5433"),
        ("/run/postgresql", "/run/postgresql", None),
    ],
)
def test_addresses_of_a_server(server: str, host: str, port: str | None) -> None:
    assert database_room._address(server) == (host, port)


def test_a_catalogue_that_is_not_there_says_how_to_make_one(place: Place) -> None:
    if isinstance(place, SqliteFile):
        with pytest.raises(ConfigError, match="dsprodtool --add"):
            open_catalogue(place)
        return
    missing = PostgresServer(place.host, "nosuch", place.user, None)
    with pytest.raises(LocalError, match="nosuch"):
        open_catalogue(missing)


def test_time_is_utc_as_lists_print_it(gpc1: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue_room, "utc_now", lambda: "2026-01-02T03:04:05Z")
    register(gpc1, "o1")
    product = find_product(gpc1, "gpc1")
    assert product
    assert product.updated == "2026-01-02T03:04:05Z"
    assert filesets(gpc1, product, Window())[0].registered == product.updated
