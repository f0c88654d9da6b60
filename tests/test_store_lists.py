"""The catalogue's store: lists, what came after a fileset, files; in both databases."""

import hashlib
import itertools
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from registered import (
    MOMENT,
    VISITOR,
    Registry,
    answer_of,
    body_of,
    file_of,
    reason_of,
)
from strict_reader import Unacceptable, headers_of, read_strictly, types_of
from watcher import open_files

from mirror.errors import LocalError
from mirror.listing import Malformed, read_files, read_filesets, read_products
from server.catalogue import (
    NewFile,
    NewFileset,
    Product,
    add_fileset,
    add_product,
    catalogue,
    remove_fileset,
    remove_product,
)
from server.database import Database, Pool
from server.people.access import Verdict
from server.site import Place
from server.views.answers import Absent, Denied, File, Moved, Stream, Visitor
from server.views.lists import PIECE
from server.views.store import RegisteredStore

MD5 = "0123456789abcdef0123456789abcdef"
LABELS = ("target_id", "stage", "stage_id", "exp_name", "data_group", "filter", "seven", "eight")


@pytest.fixture
def registry(place: Place, tmp_path: Path) -> Iterator[Registry]:
    """A catalogue with the product gpc1 of four columns, and no fileset."""
    root = tmp_path / "root"
    root.mkdir()
    with catalogue(place, create=True) as database:
        add_product(database, "gpc1", "ipp-dist", "Test exposures", LABELS[:4])
        yield Registry(database, place, root)


@pytest.fixture
def store(registry: Registry) -> Iterator[RegisteredStore]:
    with registry.store() as opened:
        yield opened


def names_of(rows: list[dict[str, str]]) -> list[str]:
    return [next(iter(row.values())) for row in rows]


# --- lists -----------------------------------------------------------------------------------


def test_lists_are_those_of_the_protocol(registry: Registry, store: RegisteredStore) -> None:
    assert body_of(store, "/gpc1/index.txt") == (
        b"# filesetID|time registered|type|target_id|stage|stage_id|exp_name|\n"
    )
    add_product(registry.database, "empty", "table", "Nothing in it yet")
    registry.fill("gpc1", [("o4936g0234o.chip.14518.35.1", "3", "chip", None, None)], "IPP-DIST")
    assert body_of(store, "/gpc1/index.txt").decode().splitlines() == [
        "# filesetID                |time registered     |type    "
        "|target_id|stage|stage_id|exp_name|",
        "o4936g0234o.chip.14518.35.1|2026-11-21T03:04:05Z|IPP-DIST"
        "|3        |chip |null    |null    |",
    ]
    rows = read_strictly(body_of(store, "/index.txt"), 0)
    assert [(row["productID"], row["Most recent"]) for row in rows] == [
        ("gpc1", "none"), ("empty", "none"),
    ]  # fmt: skip


def test_a_fileset_has_a_new_header_wherever_its_columns_change(
    registry: Registry, store: RegisteredStore
) -> None:
    files = [
        NewFile("dbinfo.mdc", 12, MD5, "text", ("dbinfo",)),
        NewFile("XY01.tgz", 3 * 10**12, MD5, "tgz", (None,)),
        NewFile("a.fits", 7, MD5, "fits"),
        NewFile("b.fits", 7, MD5, "chip", ("XY01",)),
        NewFile("c.fits", 7, MD5, "chip", ("XY02",)),
    ]
    add_fileset(registry.database, "gpc1", NewFileset("o1", "OBJECT"), files)
    assert body_of(store, "/gpc1/o1/index.txt").decode() == (
        "# fileID  |bytes        |md5sum                          |type|component|\n"
        f"dbinfo.mdc|12           |{MD5}|text|dbinfo   |\n"
        f"XY01.tgz  |3000000000000|{MD5}|tgz |null     |\n"
        "# fileID  |bytes        |md5sum                          |type|\n"
        f"a.fits    |7            |{MD5}|fits|\n"
        "# fileID  |bytes        |md5sum                          |type|chipname|\n"
        f"b.fits    |7            |{MD5}|chip|XY01    |\n"
        f"c.fits    |7            |{MD5}|chip|XY02    |\n"
    )


@pytest.mark.parametrize("count", [0, 1, PIECE, PIECE + 1, 2500])
@pytest.mark.parametrize("columns", [0, 8])
def test_strict_readers_accept_every_fileset_list(
    registry: Registry, store: RegisteredStore, columns: int, count: int
) -> None:
    add_product(registry.database, "p", "table", "é", LABELS[:columns])
    values = itertools.cycle(["a", None, "longer than its label", "é+ü", "x" * 40])
    rows = [(f"o{n}", *itertools.islice(values, columns)) for n in range(count)]
    registry.fill("p", rows)
    body = body_of(store, "/p/index.txt")
    read = read_strictly(body, 1)
    assert [tuple(row.values()) for row in read] == [
        (name, MOMENT, "OBJECT", *("null" if value is None else value for value in own))
        for name, *own in rows
    ]
    assert headers_of(body) == [["filesetID", "time registered", "type", *LABELS[:columns]]]
    assert not [row for row in read_filesets([body]) if isinstance(row, Malformed)]


@pytest.mark.parametrize("count", [0, 1, PIECE, PIECE + 1, 2500])
def test_strict_readers_accept_every_file_list(
    registry: Registry, store: RegisteredStore, count: int
) -> None:
    own = {"tgz": ("XY01",), "text": (None,), "chip": ("a chip of a long name",)}
    kinds = list(itertools.islice(itertools.cycle(types_of(2)), count))
    files = [NewFile(f"f{n}", n**4, MD5, kind, own.get(kind, ())) for n, kind in enumerate(kinds)]
    add_fileset(registry.database, "gpc1", NewFileset("o1", "OBJECT"), files)
    body = body_of(store, "/gpc1/o1/index.txt")
    read = read_strictly(body, 2)
    assert [(row["fileID"], row["bytes"], row["type"]) for row in read] == [
        (file.name, str(file.size), file.type) for file in files
    ]
    headers = headers_of(body)
    assert all(one != next_one for one, next_one in itertools.pairwise(headers))
    assert not [row for row in read_files([body]) if isinstance(row, Malformed)]


@pytest.mark.parametrize("count", [1, PIECE + 1])
def test_a_missing_value_fits_below_a_short_label(
    registry: Registry, store: RegisteredStore, count: int
) -> None:
    add_product(registry.database, "p", "table", "short", ("a", "b"))
    registry.fill("p", [(f"o{n}", None, "1") for n in range(count)])
    rows = read_strictly(body_of(store, "/p/index.txt"), 1)
    assert {(row["a"], row["b"]) for row in rows} == {("null", "1")}


def test_strict_readers_accept_every_type(registry: Registry, store: RegisteredStore) -> None:
    for number, kind in enumerate(types_of(0)):
        add_product(registry.database, f"p{number}", kind, "é <b> & so on")
    for number, kind in enumerate(types_of(1)):
        registry.fill("p0", [(f"o{number}",)], kind)
    products = read_strictly(body_of(store, "/index.txt"), 0)
    assert [row["type"] for row in products] == ["ipp-dist", *types_of(0)]
    assert [row["type"] for row in read_strictly(body_of(store, "/p0/index.txt"), 1)] == types_of(1)
    assert len(list(read_products([body_of(store, "/index.txt")]))) == 1 + len(types_of(0))


@pytest.mark.parametrize("count", [3, 2500])
def test_what_came_after_a_fileset(registry: Registry, store: RegisteredStore, count: int) -> None:
    names = [f"o{n}" for n in range(count)]
    registry.fill("gpc1", [(name, "1", "chip", "2", None) for name in names])
    for at in (0, 1, count - 1):
        body = body_of(store, "/gpc1/index.txt", names[at])
        assert names_of(read_strictly(body, 1)) == names[at + 1 :]
    assert body.count(b"\n") == 1
    assert body_of(store, "/gpc1/index.txt", "o%31") == body_of(store, "/gpc1/index.txt", "o1")


@pytest.mark.parametrize("query", ["o9", "O1", "o1%0a", "%ff", "x" * 9000, "o1&o2", "' OR 1 = 1"])
def test_after_what_is_not_there_comes_a_reason(
    registry: Registry, store: RegisteredStore, query: str
) -> None:
    registry.fill("gpc1", [("o1",) + (None,) * 4])
    reason = reason_of(store, "/gpc1/index.txt", query)
    assert reason.startswith("product gpc1 lists no fileset ")
    assert "\n" not in reason


def test_queries_of_other_lists_mean_nothing(registry: Registry, store: RegisteredStore) -> None:
    registry.register("gpc1", "o1", {"a": b"1"})
    assert body_of(store, "/index.txt", "gpc1") == body_of(store, "/index.txt")
    assert body_of(store, "/gpc1/o1/index.txt", "a") == body_of(store, "/gpc1/o1/index.txt")


def test_what_is_hidden_answers_and_is_in_no_list(
    registry: Registry, store: RegisteredStore
) -> None:
    add_product(registry.database, "secret", "table", "unseen", hidden=True)
    registry.register("secret", "s1", {"a": b"1"})
    registry.register("gpc1", "o1")
    registry.register("gpc1", "unseen", {"a": b"1"}, hidden=True)
    registry.register("gpc1", "o2")
    assert names_of(read_strictly(body_of(store, "/index.txt"), 0)) == ["gpc1"]
    assert names_of(read_strictly(body_of(store, "/secret/index.txt"), 1)) == ["s1"]
    assert names_of(read_strictly(body_of(store, "/gpc1/index.txt"), 1)) == ["o1", "o2"]
    assert names_of(read_strictly(body_of(store, "/gpc1/index.txt", "unseen"), 1)) == ["o2"]
    assert names_of(read_strictly(body_of(store, "/gpc1/unseen/index.txt"), 2)) == ["a"]
    assert file_of(store, "/gpc1/unseen/a")[1] == file_of(store, "/secret/s1/a")[1] == b"1"
    assert b"unseen" not in body_of(store, "/gpc1/")


def test_a_list_has_a_strong_etag_that_changes_with_it(
    registry: Registry, store: RegisteredStore
) -> None:
    def etag(path: str, query: str = "") -> str | None:
        answer = answer_of(store, path, query)
        assert isinstance(answer, Stream)
        return answer.etag

    registry.register("gpc1", "o1")
    before = etag("/index.txt"), etag("/gpc1/index.txt"), etag("/gpc1/index.txt", "o1")
    assert before[1] == etag("/gpc1/index.txt")
    assert all(tag and re.fullmatch(r'"[0-9a-f]+"', tag) for tag in before)
    registry.register("gpc1", "o2")
    after = etag("/index.txt"), etag("/gpc1/index.txt"), etag("/gpc1/index.txt", "o1")
    assert len({*before, *after}) == 6


# --- long lists ------------------------------------------------------------------------------


def test_a_long_list_is_of_its_first_moment(registry: Registry, store: RegisteredStore) -> None:
    registry.fill("gpc1", [(f"o{n}", "1", "chip", "2", None) for n in range(2500)])
    with store.find("/gpc1/index.txt", "", VISITOR) as answer:
        assert isinstance(answer, Stream)
        begun = next(answer.chunks)
        registry.fill("gpc1", [("n" * 200, "9" * 200, None, None, None)])
        body = begun + b"".join(answer.chunks)
    assert names_of(read_strictly(body, 1)) == [f"o{n}" for n in range(2500)]


@pytest.mark.parametrize("withdrawn", ["o2499", "o1500"])
def test_a_long_list_breaks_off_where_something_was_withdrawn(
    registry: Registry, store: RegisteredStore, withdrawn: str
) -> None:
    registry.fill("gpc1", [(f"o{n}", "1", "chip", "2", None) for n in range(2500)])
    with store.find("/gpc1/index.txt", "", VISITOR) as answer:
        assert isinstance(answer, Stream)
        next(answer.chunks)
        remove_fileset(registry.database, "gpc1", withdrawn)
        registry.fill("gpc1", [("new",) + (None,) * 4])
        with pytest.raises(LocalError, match=r"gpc1 .* 2499 of 2500 rows"):
            list(answer.chunks)


def test_a_long_list_of_files_breaks_off_where_its_fileset_was_withdrawn(
    registry: Registry, store: RegisteredStore
) -> None:
    files = [NewFile(f"f{n}", n, MD5, "tgz", ("XY01",)) for n in range(2500)]
    add_fileset(registry.database, "gpc1", NewFileset("o1", "OBJECT"), files)
    with store.find("/gpc1/o1/index.txt", "", VISITOR) as answer:
        assert isinstance(answer, Stream)
        next(answer.chunks)
        remove_fileset(registry.database, "gpc1", "o1")
        with pytest.raises(LocalError, match=r"gpc1/o1 .* 1000 of 2500 rows"):
            list(answer.chunks)


def test_slow_readers_of_long_lists_hold_no_connection(registry: Registry) -> None:
    registry.fill("gpc1", [(f"o{n}", "1", "chip", "2", None) for n in range(2500)])
    with registry.store() as store:
        streams = [answer_of(store, "/gpc1/index.txt") for _ in range(10)]
        chunks = [stream.chunks for stream in streams if isinstance(stream, Stream)]
        for _ in range(3):
            assert len({next(chunk) for chunk in chunks}) == 1


def plans(database: Database, asked: list[tuple[str, tuple[object, ...]]]) -> str:
    """How the database means to find what was asked for."""
    if database.kind == "sqlite":
        explained = [database.rows(f"EXPLAIN QUERY PLAN {sql}", *values) for sql, values in asked]
        return "\n".join(str(row[-1]) for rows in explained for row in rows)
    # The few rows of a test it would rather read and sort all.
    for way in ("seqscan", "sort", "incremental_sort", "bitmapscan"):
        database.change(f"SET enable_{way} = off")
    explained = [database.rows(f"EXPLAIN {sql}", *values) for sql, values in asked]
    return "\n".join(str(row[0]) for rows in explained for row in rows)


@pytest.mark.parametrize(
    ("path", "query"),
    [("/gpc1/index.txt", "o1"), ("/gpc1/o1/index.txt", ""), ("/gpc1/o1/a", "")],
    ids=["after", "files", "file"],
)
def test_nothing_is_searched_for_without_an_index(
    registry: Registry,
    store: RegisteredStore,
    monkeypatch: pytest.MonkeyPatch,
    path: str,
    query: str,
) -> None:
    registry.register("gpc1", "o1", {"a": b"1"})
    asked: list[tuple[str, tuple[object, ...]]] = []
    kind = type(registry.database)
    run = kind._run

    def record(database: Database, sql: str, values: tuple[object, ...] = ()) -> object:
        if sql.lstrip().startswith("SELECT") and "dsFileType" not in sql:
            asked.append((sql, tuple(values)))
        return run(database, sql, values)

    monkeypatch.setattr(kind, "_run", record)
    answer_of(store, path, query)
    monkeypatch.undo()
    assert any("dsFileset" in sql for sql, _ in asked)
    plan = plans(registry.database, asked)
    assert not re.search(r"\bSCAN\b|Seq Scan|TEMP B-TREE", plan), plan
    if query:
        # By all three columns of the index, so that what other products hold costs nothing.
        found = {
            "sqlite": r"dsFileset_listed \(prod_id=\? AND hide=\? AND fileset_id>\?",
            "postgres": r"dsfileset_listed .*\n.*ROW\(prod_id, hide, fileset_id\) > ROW",
        }
        assert re.search(found[registry.database.kind], plan), plan


# --- files -----------------------------------------------------------------------------------


def test_a_file_is_what_was_registered(registry: Registry, store: RegisteredStore) -> None:
    data = b"SIMPLE"
    registry.register("gpc1", "o1", {"a b+c:1.fits": data})
    path = registry.root / "gpc1/o1/a b+c:1.fits"
    os.utime(path, (1e9, 1e9))
    answer, read = file_of(store, "/gpc1/o1/a%20b+c%3A1.fits")
    assert (read, answer.size, answer.modified) == (data, 6, 1e9)
    assert answer.etag == f'"{hashlib.md5(data).hexdigest()}"'
    assert (answer.media, answer.private) == ("image/fits", False)
    assert answer.path == "/gpc1/o1/a%20b%2Bc%3A1.fits"


@pytest.mark.parametrize(
    "path",
    [
        "/gpc1/o1/unlisted", "/gpc1/o1/.dot", "/gpc1/o1/A", "/gpc1/o1/a/", "/gpc1/o1/a/b",
        "/gpc1/o1//a", "//gpc1/o1/a", "/gpc1/o1/%2e%2e/o1/a", "/gpc1/../gpc1/o1/a",
        "/gpc1/o1/a%00", "/gpc1/o1/%252e", "/gpc1%2fo1/a", "/gpc1/o1/..%2fo1%2fa", "/gpc1/o9/a",
        "/gpc9/o1/a", "/GPC1/o1/a", "/gpc1/o1/a;x", "/gpc1/o1/a%0a", "/.datastore.db", "/gpc9",
        "/gpc9/", "/gpc1/o9/", "/gpc1/o9", "/gpc9/index.txt", "/gpc1/o9/index.txt", "/index.txt/",
        "/gpc1/o1/-x", "/gpc1/o1/" + "a" * 256,
    ],
)  # fmt: skip
def test_only_what_is_registered_can_be_had(
    registry: Registry, store: RegisteredStore, path: str
) -> None:
    registry.register("gpc1", "o1", {"a": b"1", ".dot": b"secret", "-x": b"secret"})
    (registry.root / "gpc1/o1/unlisted").write_bytes(b"secret")
    assert reason_of(store, path) == "nothing of this name"


@pytest.mark.parametrize("path", ["/gpc1", "/gpc1/o1", "/gpc1/o%31"])
def test_a_directory_without_its_slash_moves_to_it(
    registry: Registry, store: RegisteredStore, path: str
) -> None:
    registry.register("gpc1", "o1")
    answer = answer_of(store, path)
    assert answer == Moved("/gpc1/" if path == "/gpc1" else "/gpc1/o1/")


def grow(path: Path) -> None:
    path.write_bytes(b"12")


def become_a_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def become_a_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def lead_nowhere(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.parent / "nowhere")


def lead_in_a_circle(path: Path) -> None:
    path.unlink()
    path.symlink_to(path)


def lead_to_a_directory(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.parent)


def move_the_fileset(path: Path) -> None:
    path.parent.rename(path.parent.with_name("elsewhere"))
    path.parent.symlink_to("elsewhere")


def move_the_product(path: Path) -> None:
    product = path.parent.parent
    product.rename(product.with_name("elsewhere"))
    product.symlink_to("elsewhere")


@pytest.mark.parametrize(
    "spoil",
    [
        Path.unlink, grow, become_a_directory, become_a_fifo, lead_nowhere, lead_in_a_circle,
        lead_to_a_directory, move_the_fileset, move_the_product,
    ],
    ids=lambda spoil: spoil.__name__,
)  # fmt: skip
def test_a_file_that_is_not_as_registered_is_a_fault_of_the_store(
    registry: Registry, store: RegisteredStore, spoil: Callable[[Path], None]
) -> None:
    registry.register("gpc1", "o1", {"a": b"1"})
    spoil(registry.root / "gpc1/o1/a")
    with pytest.raises(LocalError, match=r"^gpc1/o1/a: .* dsreg --del o1 --product gpc1$"):
        answer_of(store, "/gpc1/o1/a")


def test_a_file_that_was_withdrawn_meanwhile_is_only_absent(
    registry: Registry, store: RegisteredStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.register("gpc1", "o1", {"a": b"1"})
    opening = RegisteredStore._open

    def withdraw_first(self: RegisteredStore, *arguments: object) -> File:
        remove_fileset(registry.database, "gpc1", "o1")
        (registry.root / "gpc1/o1/a").unlink()
        return opening(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(RegisteredStore, "_open", withdraw_first)
    assert isinstance(answer_of(store, "/gpc1/o1/a"), Absent)


@pytest.mark.parametrize("allowed", [True, False, None], ids=["below", "outside", "any"])
def test_links_lead_below_link_roots_only(
    registry: Registry, tmp_path: Path, allowed: bool | None
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "database").mkdir()
    (tmp_path / "linked").symlink_to("data")
    (tmp_path / "data/a").write_bytes(b"1")
    registry.register("gpc1", "o1", {"a": b"1"})
    path = registry.root / "gpc1/o1/a"
    path.unlink()
    path.symlink_to(tmp_path / "linked/a")
    roots = {
        True: (tmp_path / "other", tmp_path / "linked"),
        False: (tmp_path / "dat",),
        None: None,
    }
    with registry.store(roots[allowed]) as store:
        if allowed is False:
            with pytest.raises(LocalError, match="LINK_ROOTS"):
                answer_of(store, "/gpc1/o1/a")
        else:
            assert file_of(store, "/gpc1/o1/a")[1] == b"1"


def test_the_root_may_be_a_link(registry: Registry, tmp_path: Path) -> None:
    registry.register("gpc1", "o1", {"a": b"1"})
    (tmp_path / "link").symlink_to(registry.root)
    with Registry(registry.database, registry.place, tmp_path / "link").store() as store:
        assert file_of(store, "/gpc1/o1/a")[1] == b"1"


def test_nothing_stays_open(registry: Registry, store: RegisteredStore) -> None:
    registry.register("gpc1", "o1", {"a": b"1"})
    answer_of(store, "/gpc1/o1/a")
    before = open_files()
    for _ in range(5):
        answer_of(store, "/gpc1/o1/a")
    assert not open_files() - before


# --- who may have it -------------------------------------------------------------------------

NOT_YOU = Denied("gpc1 is not for this network", challenge=False)


@pytest.mark.parametrize(
    "path",
    ["/gpc1/index.txt", "/gpc1/", "/gpc1", "/gpc1/o1/index.txt", "/gpc1/o1/", "/gpc1/o1",
     "/gpc1/o1/a", "/gpc1/o9/a"],
)  # fmt: skip
def test_the_judge_is_asked_for_everything_of_a_product(registry: Registry, path: str) -> None:
    registry.register("gpc1", "o1", {"a": b"1"})
    seen: list[tuple[str, Visitor]] = []

    def judge(database: Database, product: Product, visitor: Visitor) -> Callable[[], Verdict]:
        seen.append((product.name, visitor))
        return lambda: Verdict(NOT_YOU, private=True)

    store = RegisteredStore(registry.root, Pool(registry.place), None, judge)
    assert answer_of(store, path) == NOT_YOU
    assert seen == [("gpc1", VISITOR)]
    assert isinstance(answer_of(store, "/index.txt"), Stream)


def test_files_of_a_private_product_are_private(registry: Registry) -> None:
    registry.register("gpc1", "o1", {"a": b"1"})

    def judge(database: Database, product: Product, visitor: Visitor) -> Callable[[], Verdict]:
        return lambda: Verdict(None, private=True)

    store = RegisteredStore(registry.root, Pool(registry.place), None, judge)
    assert file_of(store, "/gpc1/o1/a")[0].private


def test_a_slow_judge_holds_no_connection(registry: Registry) -> None:
    pool = Pool(registry.place, size=1)

    def judge(database: Database, product: Product, visitor: Visitor) -> Callable[[], Verdict]:
        def decide() -> Verdict:
            with pool.borrow():
                return Verdict(None, private=False)

        return decide

    assert isinstance(
        answer_of(RegisteredStore(registry.root, pool, None, judge), "/gpc1/"), Stream
    )


def test_a_verdict_is_not_for_another_product_of_the_same_name(registry: Registry) -> None:
    def judge(database: Database, product: Product, visitor: Visitor) -> Callable[[], Verdict]:
        def decide() -> Verdict:
            remove_product(registry.database, "gpc1")
            add_product(registry.database, "gpc1", "table", "for others")
            return Verdict(None, private=False)

        return decide

    store = RegisteredStore(registry.root, Pool(registry.place), None, judge)
    assert isinstance(answer_of(store, "/gpc1/index.txt"), Absent)


# --- the reader ------------------------------------------------------------------------------

GOOD = "# filesetID|time registered     |type  |n|\n" + f"o1         |{MOMENT}|OBJECT|1|\n"


def test_the_strict_reader_accepts_a_good_list() -> None:
    assert len(read_strictly(GOOD.encode(), 1)) == 1


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("1|\n", "1\n"), ("1|\n", "1|"), ("|1|", "|#|"), ("o1 ", "o/ "), ("o1 ", "-1 "),
        ("o1 ", ".. "), ("OBJECT", "OBJEKT"), ("03:04:05Z", "03:04:05 "), ("|1|", "||"),
        ("|1|", "|"), ("|1|", "|1|1|"), ("o1  ", "o1 "), ("# fileset", "# Fileset"), ("o1", "é1"),
        ("\n", "\r\n"), ("|n|", "|type|"), ("# ", "  "),
    ],
)  # fmt: skip
def test_the_strict_reader_refuses(old: str, new: str) -> None:
    assert old in GOOD
    with pytest.raises((Unacceptable, ValueError)):
        read_strictly(GOOD.replace(old, new).encode(), 1)
