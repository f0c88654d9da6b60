"""FAULTS L1 to L14: lists that are cut, contradict themselves, go back, or hold what no list may.

Most rows begin with a mirror that is complete; then the store changes or lies, and the run that
meets it ends as the row says. Mended, one more run must complete the tree without a word.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path

import faults
import pytest
from inject import Forks
from simulator import Action, Product, Request, SimFile, Simulator
from trial import Outcome, Told, Trial, expect_lines, ground, side_by_side
from watcher import Allowed, TreeWatcher
from wire import Answer, Connection

FINE, RETRY, REJECT, HOLD = Outcome.FINE, Outcome.RETRY, Outcome.REJECT, Outcome.HOLD
UNLISTED = Outcome.UNLISTED

ROOT, LIST, FILES = "/index.txt", "/gpc1/index.txt", "/gpc1/o2/index.txt"
DATA = b"SIMPLE  =                    T"
NEW = b"XTENSION= 'IMAGE   '"

Step = Callable[[Trial], None]


def nothing(_trial: Trial) -> None:
    """No further step."""


def gpc1(trial: Trial) -> Product:
    return trial.store.products["gpc1"]


@dataclass(frozen=True, slots=True)
class Row:
    """What is done to lists, and how the run that meets it ends.

    `mirrored`: whether a clean run came before; `static`: two, from a server that ignores the
    query. `told` are the lines of the run, `missing` the
    filesets that it does not show (None: the tree is as it was before). `again`: it is told in
    every run until it is mended. `mend` is what the operator of the store does.
    """

    id: str
    change: Step
    outcome: Outcome
    told: Sequence[str] = ()
    missing: tuple[str, ...] | None = ()
    mirrored: bool = False
    static: bool = False
    again: bool = False
    options: tuple[str, ...] = ()
    keys: Mapping[str, object] = field(default_factory=dict)
    also: Step = nothing
    mend: Step = nothing


# What is done to lists.


def spoil(path: str, action: Action, times: int | None = None) -> Step:
    def step(trial: Trial) -> None:
        trial.store.fault(path, action, times)

    return step


def edit(path: str, change: Callable[[list[bytes]], list[bytes]]) -> Step:
    """Answer `path` with its list as it is now, its lines changed."""

    def step(trial: Trial) -> None:
        lines = change(trial.store.read(path).splitlines(keepends=True))
        trial.store.override(path, b"".join(lines))

    return step


def swap(path: str, old: bytes, new: bytes) -> Step:
    """Answer `path` with its list as it is now, with `old` wherever it stands made `new`."""

    def change(lines: list[bytes]) -> list[bytes]:
        assert any(old in line for line in lines), f"{old!r} is not in {lines}"
        return [line.replace(old, new) for line in lines]

    return edit(path, change)


def switch(**switches: object) -> Step:
    """Set switches of the store."""

    def step(trial: Trial) -> None:
        for name, value in switches.items():
            setattr(trial.store, name, value)
        trial.learn()

    return step


def steps(*each: Step) -> Step:
    def step(trial: Trial) -> None:
        for one in each:
            one(trial)

    return step


def add(name: str, registered: str | None = None) -> Step:
    def step(trial: Trial) -> None:
        gpc1(trial).add(name, {f"{name}.fits": DATA}, registered)
        trial.learn()

    return step


def add_back(name: str) -> Step:
    """Register a withdrawn fileset as it was, in its old place and with its old time."""

    def step(trial: Trial) -> None:
        product = gpc1(trial)
        product.add(name, {f"{name}.fits": DATA}, f"2009-04-15T01:22:1{2 + int(name[1:])}Z")
        product.filesets = dict(sorted(product.filesets.items()))

    return step


def withdraw(*names: str) -> Step:
    def step(trial: Trial) -> None:
        for name in names:
            gpc1(trial).withdraw(name)

    return step


def shuffle(*names: str) -> Step:
    """Let the product list its filesets in this order."""

    def step(trial: Trial) -> None:
        product = gpc1(trial)
        product.filesets = {name: product.filesets[name] for name in names}

    return step


def register_again(registered: str | None = None) -> Step:
    def step(trial: Trial) -> None:
        gpc1(trial).register_again("o2", {"o2.fits": NEW}, registered)
        trial.learn()

    return step


def alter(data: bytes) -> Step:
    """Change o2 behind everybody's back: same place in the list, same time."""

    def step(trial: Trial) -> None:
        gpc1(trial).alter("o2", {"o2.fits": data})

    return step


def altered_meanwhile(files: Mapping[str, bytes]) -> Step:
    """L6: o2 gets other files between the reading of its list and the request for its file."""

    def step(trial: Trial) -> None:
        def act(connection: Connection, request: Request, answer: Answer) -> None:
            gpc1(trial).alter("o2", files)
            trial.learn()
            name = request.path.rpartition("/")[2]
            if name in files:
                faults.changed(files[name])(connection, request, answer)
            else:
                faults.status(404)(connection, request, answer)

        trial.store.fault("/gpc1/o2/o2.fits", act)

    return step


def cursor(name: str | None) -> Step:
    """The last fileset is this one."""

    def look(trial: Trial) -> None:
        assert trial.state()[0]["gpc1"] == name

    return look


def twice(path: str, number: int, change: Callable[[bytes], bytes] = lambda line: line) -> Step:
    """The line of that number (from 0) a second time, perhaps changed, behind the first."""

    def insert(lines: list[bytes]) -> list[bytes]:
        return [*lines[: number + 1], change(lines[number]), *lines[number + 1 :]]

    return edit(path, insert)


def turned(line: bytes) -> bytes:
    """A line with its columns in the opposite order."""
    mark = b"# " if line.startswith(b"#") else b""
    cells = line.removeprefix(mark).rstrip().split(b"|")[:-1]
    return mark + b"|".join(reversed(cells)) + b"|\n"


def crlf(line: bytes) -> bytes:
    return line.replace(b"\n", b"\r\n")


def later(line: bytes) -> bytes:
    return re.sub(rb"T..:", b"T23:", line)


def earlier(line: bytes) -> bytes:
    return re.sub(rb"T..:", b"T00:", line)


def other_size(line: bytes) -> bytes:
    return re.sub(rb"\|(\d+)", rb"|9\1", line, count=1)


CUT = "the list ends inside this line"
MALFORMED = r"gpc1: line {} of its list is malformed: {}"
LOST = (
    r"gpc1: its list has lost {} filesets that are known here \({}\); what is mirrored .* stays.*"
)
EMPTY = r"gpc1: its list is empty, and had 3 filesets that are known here .*; nothing is changed.*"
CONTRADICTS = r"gpc1: o2 is listed with time .* it is left as it is until the list is mended"
ALL = ("gpc1/o1", "gpc1/o2", "gpc1/o3")

ROWS = (
    # L1: cut
    Row("L1 cut once", spoil(LIST, faults.cut(-20), 1), FINE),
    Row(
        "L1 cut",
        spoil(LIST, faults.cut(-20)),
        HOLD,
        (MALFORMED.format("[24]", CUT),),
        ("gpc1/o3",),
        again=True,
        also=cursor("o2"),
    ),
    Row("L1 no final newline once", spoil(LIST, faults.no_final_newline(), 1), FINE),
    Row(
        "L1 no final newline",
        spoil(LIST, faults.no_final_newline()),
        HOLD,
        (MALFORMED.format(4, CUT),),
        ("gpc1/o3",),
        also=cursor("o2"),
    ),
    Row(
        "L1 news cut",
        steps(add("o4"), add("o5"), spoil(f"{LIST}?*", faults.cut(-9))),
        HOLD,
        (MALFORMED.format(3, CUT),),
        ("gpc1/o5",),
        mirrored=True,
        also=cursor("o4"),
    ),
    Row(
        "L1 header cut",
        spoil(LIST, faults.cut(10)),
        HOLD,
        (MALFORMED.format(1, CUT),),
        ALL,
        also=cursor(None),
    ),
    Row(
        "L1 header cut, of a list that is known",
        spoil(LIST, faults.cut(10)),
        HOLD,
        (MALFORMED.format(1, CUT),),
        mirrored=True,
        also=cursor("o3"),
    ),
    Row("L1 fileset list cut once", spoil(FILES, faults.cut(-9), 1), FINE),
    Row(
        "L1 fileset list cut",
        spoil(FILES, faults.cut(-9)),
        REJECT,
        (f"gpc1/o2: malformed rows in index.txt: line 2: {CUT}",),
        ("gpc1/o2",),
    ),
    Row("L1 root list cut once", spoil(ROOT, faults.cut(-9), 1), FINE),
    Row(
        "L1 root list cut",
        spoil(ROOT, faults.cut(-9)),
        UNLISTED,
        (f"line 2 of the root list is malformed: {CUT}", "gpc1: the root list has no .*"),
        ALL,
    ),
    # L2: twice
    Row(
        "L2 a fileset twice, alike",
        twice(LIST, 2),
        FINE,
        (r"gpc1: o2 is listed twice \(again in line 4\)",),
    ),
    Row(
        "L2 a fileset twice, at odds",
        twice(LIST, 2, later),
        HOLD,
        (CONTRADICTS,),
        ("gpc1/o2",),
        again=True,
    ),
    Row(
        "L2 a mirrored fileset twice, at odds",
        twice(LIST, 2, earlier),
        HOLD,
        (CONTRADICTS,),
        mirrored=True,
        again=True,
    ),
    Row(
        "L2 a file twice, alike",
        steps(twice(FILES, 1), Trial.learn),
        FINE,
        (r"gpc1/o2: o2\.fits is listed twice \(lines 2 and 3\)",),
        mend=twice(FILES, 1),
    ),
    Row(
        "L2 a file twice, at odds",
        twice(FILES, 1, other_size),
        REJECT,
        (r"gpc1/o2: o2\.fits is listed twice with different contents .*",),
        ("gpc1/o2",),
    ),
    # L3: another order
    Row("L3 reordered from the start", shuffle("o3", "o1", "o2"), FINE),
    Row(
        "L3 a new fileset in the midst of a static list",
        steps(switch(ignore_query=True), add("o4"), shuffle("o1", "o4", "o3", "o2")),
        FINE,
        mirrored=True,
    ),
    Row(
        "L3 registered long ago, listed last",
        add("o4", "2001-01-01T00:00:00Z"),
        FINE,
        mirrored=True,
    ),
    # L4: other columns
    Row("L4 columns in another order", switch(arrange=reversed), FINE),
    Row(
        "L4 columns in another order, later",
        steps(add("o4"), edit(LIST, lambda lines: [turned(line) for line in lines])),
        FINE,
        mirrored=True,
    ),
    Row("L4 other padding", swap(LIST, b" |", b"|"), FINE),
    Row(
        "L4 further columns",
        edit(LIST, lambda lines: [line.replace(b"|\n", b"|more |\n") for line in lines]),
        FINE,
    ),
    Row("L4 no header at all", edit(LIST, lambda lines: lines[1:]), FINE),
    Row(
        "L4 a column renamed",
        swap(LIST, b"time registered", b"registered on  "),
        UNLISTED,
        ("gpc1: cannot be listed: line 1: the header has no column 'time registered'; it has .*",),
        ALL,
        again=True,
    ),
    Row(
        "L4 a column renamed, of a list that is known",
        steps(add("o4"), swap(LIST, b"time registered", b"registered on  ")),
        UNLISTED,
        ("gpc1: cannot be listed: line 1: the header has no column 'time registered'; it has .*",),
        ("gpc1/o4",),
        mirrored=True,
    ),
    Row(
        "L4 a column of a fileset's list renamed",
        swap(FILES, b"md5sum", b"sha256"),
        REJECT,
        ("gpc1/o2: line 1: the header has no column 'md5sum'; it has .*",),
        ("gpc1/o2",),
    ),
    Row(
        "L4 a row that is too short",
        edit(LIST, lambda lines: [*lines[:2], b"o2|2009-04-15T01:22:14Z|\n", lines[3]]),
        HOLD,
        (MALFORMED.format(3, "at least 3 columns expected, not 2"),),
        ("gpc1/o2",),
        also=cursor("o1"),
    ),
    Row(
        "L4 select asks for a column that is not there",
        nothing,
        HOLD,
        ("gpc1: its list has no column stage, which `select` asks for; it has .*",),
        ALL,
        again=True,
        keys={"select": {"stage": "chip"}},
    ),
    # L5: other characters
    Row("L5 CRLF", switch(crlf=True), FINE),
    Row("L5 BOM", switch(bom=True), FINE),
    Row(
        "L5 CRLF and BOM, later",
        steps(add("o4"), edit(LIST, lambda lines: [b"\xef\xbb\xbf", *map(crlf, lines)])),
        FINE,
        mirrored=True,
    ),
    *(
        Row(
            f"L5 {what}",
            swap(LIST, b"o2 ", raw),
            HOLD,
            (MALFORMED.format(3, told),),
            ("gpc1/o2",),
            also=cursor("o1"),
        )
        for what, raw, told in (
            ("bytes that are no UTF-8", b"o\xff2", "bytes that are not UTF-8"),
            ("Latin-1", b"\xe9o2", "bytes that are not UTF-8"),
            ("escape sequences", b"o\x1b[2J2", "a field holds a control character"),
            ("a carriage return", b"o\r2", "a field holds a control character"),
            ("NUL", b"o\x002", "a field holds a control character"),
            ("other scripts", "o\uff12 ".encode(), "a name with characters outside .*"),
            ("a line separator", "o\u20282 ".encode(), "a name with characters outside .*"),
        )
    ),
    # L6: changed in between
    Row("L6 a file changes after its list was read", altered_meanwhile({"o2.fits": NEW}), FINE),
    Row("L6 a file goes after its list was read", altered_meanwhile({"o2.new.fits": NEW}), FINE),
    # L7: too much
    Row(
        "L7 a fileset's list with a long line",
        edit(FILES, lambda lines: [*lines, b"#" + b"x" * 100_000 + b"\n"]),
        REJECT,
        (r"gpc1/o2: line 3 is longer than 65536 bytes",),
        ("gpc1/o2",),
    ),
    Row(
        "L7 a list compressed though not asked for",
        spoil(FILES, faults.gzipped()),
        REJECT,
        ("gpc1/o2: .*",),
        ("gpc1/o2",),
    ),
    # L8: gone back
    *(
        Row(
            f"L8 the last fileset is withdrawn{how}",
            steps(switch(**switches), withdraw("o3")),
            HOLD,
            (LOST.format(1, "o3"),),
            None,
            mirrored=True,
            mend=steps(switch(**dict.fromkeys(switches, False)), add_back("o3")),
        )
        for how, switches in (
            ("", {}),
            (", the server then sends all", {"whole_if_unknown": True}),
            (", the server is static", {"ignore_query": True}),
        )
    ),
    Row(
        "L8 the last fileset is withdrawn, and there is news",
        steps(withdraw("o3"), add("o4")),
        HOLD,
        (LOST.format(1, "o3"),),
        None,
        mirrored=True,
        also=lambda trial: expect_visible(trial, "data/gpc1/o4/o4.fits"),
        mend=add_back("o3"),
    ),
    Row(
        "L8 back to an old copy",
        withdraw("o2", "o3"),
        HOLD,
        (LOST.format(2, "o2, o3"),),
        None,
        mirrored=True,
        mend=steps(add_back("o2"), add_back("o3")),
    ),
    Row(
        "L8 the product is gone",
        spoil(LIST, faults.status(404)),
        UNLISTED,
        ("gpc1: cannot be listed: HTTP 404 from .*",),
        None,
        mirrored=True,
        again=True,
    ),
    # L9: standing still
    Row("L9 frozen", steps(lambda trial: gpc1(trial).freeze(), add("o4")), FINE, (), None, True,
        mend=lambda trial: gpc1(trial).thaw()),
    # L10: empty
    *(
        Row(
            f"L10 {what}",
            change,
            HOLD,
            (EMPTY,),
            None,
            mirrored=True,
            static=static,
            again=True,
            mend=mend,
        )
        for what, change, mend, static in (
            (
                "empty",
                lambda trial: gpc1(trial).empty(),
                steps(add_back("o1"), add_back("o2"), add_back("o3")),
                False,
            ),
            ("empty, and static", edit(LIST, lambda lines: lines[:1]), nothing, True),
            ("of no bytes, and static", edit(LIST, lambda _: []), nothing, True),
            ("of no bytes, not even a header", edit(LIST, lambda _: []), nothing, False),
        )
    ),
    # L11: registered again
    Row(
        "L11 registered again, later",
        register_again(),
        FINE,
        (r"gpc1: o2 was registered again \(.*\) and is mirrored anew",),
        mirrored=True,
    ),
    Row(
        "L11 registered again, later, and not to be had yet",
        steps(register_again(), spoil("/gpc1/o2/o2.fits", faults.status(503))),
        RETRY,
        (
            r"gpc1: o2 was registered again \(.*\) and is mirrored anew",
            r"gpc1/o2/o2\.fits: HTTP 503 .*",
        ),
        None,
        mirrored=True,
    ),
    Row(
        "L11 registered again with an older time",
        register_again("2001-01-01T00:00:00Z"),
        HOLD,
        (CONTRADICTS,),
        None,
        mirrored=True,
        again=True,
        mend=steps(withdraw("o2"), add_back("o2")),
    ),
    Row(
        "L11 other content under the same time",
        alter(NEW),
        HOLD,
        ("gpc1/o2: upstream lists other files than were mirrored; .*",),
        None,
        mirrored=True,
        again=True,
        options=("--verify",),
        mend=alter(DATA),
    ),
    # L14: times that are none, and times that are far away
    *(
        Row(
            f"L14 time {time!r}",
            add("o4", time),
            HOLD,
            (MALFORMED.format("[25]", "a time like .* expected, not .*"),),
            ("gpc1/o4",),
            mirrored=True,
            also=cursor("o3"),
            mend=steps(withdraw("o4"), add("o4")),
        )
        for time in (" ", "yesterday", "2009-02-30T00:00:00Z", "0000-01-01T00:00:00Z",
                     "2009-04-15T24:00:00Z", "2009-04-15 01:22:12", "٢٠٠٩-04-15T01:22:12Z")
    ),
    Row(
        "L14 far-away years",
        steps(
            add("o4", "9999-12-31T23:59:59Z"), add("o5", "0001-01-01T00:00:00Z"), add("o6")
        ),
        FINE,
        mirrored=True,
        also=cursor("o6"),
    ),
)  # fmt: skip


def expect_visible(trial: Trial, path: str) -> None:
    assert path in trial.site.visible()


def conduct(row: Row, directory: Path, forks: Forks) -> None:
    """One row: perhaps a clean run, then the change, the run that meets it, and mended again."""
    with Simulator() as store:
        product = store.product("gpc1")
        for name in ("o1", "o2", "o3"):
            product.add(name, {f"{name}.fits": DATA})
        trial = Trial(store, directory, forks)
        trial.learn()
        store.ignore_query = row.static
        for _ in range(row.mirrored + row.static):
            trial.converges()
        before = trial.site.visible()
        row.change(trial)
        trial.configure(**row.keys)
        for _ in range(1 + row.again):
            told = trial.run(*row.options)
            trial.ends(told, row.outcome, row.told, row.missing)
            if row.missing is None:
                kept = {path: trial.site.visible().get(path) for path in before}
                assert kept == before, "what was mirrored did not stay as it was"
        row.also(trial)
        store.mend()
        row.mend(trial)
        trial.converges()


@pytest.fixture(scope="module")
def conducted(request: pytest.FixtureRequest) -> Iterator[Mapping[str, Future[None]]]:
    """All rows, under way."""
    with side_by_side(request, "row", lambda row: row.id, conduct) as futures:
        yield futures


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_list_fault(row: Row, conducted: Mapping[str, Future[None]]) -> None:
    conducted[row.id].result()


# Many faults in one store: each in a fileset of its own, all met by one run.


@dataclass(frozen=True, slots=True)
class Met:
    """What one run over many faults left behind."""

    told: Told
    seen: Mapping[str, bytes]
    state: tuple[dict[str, str | None], dict[str, set[str]]]

    def lines(self, about: str) -> list[str]:
        """The lines that begin so."""
        return [line for line in self.told.lines if line.startswith(about)]


@pytest.fixture(scope="module")
def forks() -> Iterator[Forks]:
    with Forks() as forks:
        yield forks


ABSOLUTE = "/tmp/mirror-names-escaped"

NAMES = {
    "parent": "../x",
    "far parent": "../../../../../../canary",
    "absolute": ABSOLUTE,
    "encoded": "%2e%2e%2fcanary",
    "backslash": "..\\canary",
    "drive": "C:\\canary",
    "NUL": "canary\0.fits",
    "tab": "a\tb",
    "empty": "",
    "dot": ".",
    "dots": "..",
    "300 bytes": "n" * 300,
    "option": "-rf",
    "home": "~root",
    "variable": "$HOME",
    "command": "a;rm b",
    "glob": "*",
    "hash": "a#b",
    "bar": "a|b",
    "question mark": "a?b",
    "ampersand": "a&b",
    "other scripts": "Å.fits",
    "decomposed": "A\u030a.fits",
    "invisible": "a\u200b.fits",
    "right to left": "a\u202estif",
}
"""L12, L13: names that no list may hold, as files, as filesets and as products."""

TOLERATED = {
    "blank": "a b.fits",
    "colon": "a:b.fits",
    "plus": "a+b",
    "dots in it": "a..b",
    "dot first": ".profile",
    "255 bytes": "n" * 255,
    "upper case": "SAME.fits",
    "lower case": "same.fits",
}
"""L13: names that are odd and allowed: quoted in URLs, and mirrored."""


def in_files(forks: Forks, bad: Mapping[str, SimFile]) -> Iterator[Met]:
    """One run over filesets that each hold a bad row beside a good one; then all are mended."""
    with ground() as directory, Simulator() as store:
        product = store.product("gpc1")
        good = SimFile("good.fits", DATA)
        product.add("first", [good])
        for name, file in bad.items():
            product.add(name, [good, file])
        product.add("last", [SimFile(name, name.encode()) for name in TOLERATED.values()])
        trial = Trial(store, directory, forks)
        trial.hostile |= bad.keys()
        trial.learn()
        told = trial.run()
        assert told.exit == 1
        assert told.count("done") == 2
        assert told.count("queued") == len(told.lines) == len(bad)
        yield Met(told, trial.site.visible(), trial.state())
        trial.hostile.clear()
        for name in bad:
            product.alter(name, [good])
        trial.converges()
        assert not Path(ABSOLUTE).exists()


@pytest.fixture(scope="module")
def bad_file_names(forks: Forks) -> Iterator[Met]:
    yield from in_files(
        forks, {f"bad{at}": SimFile(name, DATA) for at, name in enumerate(NAMES.values())}
    )


@pytest.mark.parametrize("at", range(len(NAMES)), ids=list(NAMES))
def test_l12_l13_name_of_a_file(bad_file_names: Met, at: int) -> None:
    (line,) = bad_file_names.lines(f"gpc1/bad{at}: ")
    assert re.match(r".*: malformed rows in index\.txt: line 3: ", line)
    assert line.isprintable()
    assert not [path for path in bad_file_names.seen if f"/bad{at}/" in path]


@pytest.mark.parametrize("name", TOLERATED.values(), ids=TOLERATED)
def test_l13_odd_names_of_files_are_mirrored(bad_file_names: Met, name: str) -> None:
    assert bad_file_names.seen[f"data/gpc1/last/{name}"] == name.encode()


@pytest.fixture(scope="module")
def bad_fileset_names(forks: Forks) -> Iterator[Met]:
    """A product for each bad name, with a good fileset before it and one after it."""
    with ground() as directory, Simulator() as store:
        for at, name in enumerate(NAMES.values()):
            product = store.product(f"p{at}", description="of names")
            product.add("before", {"before.fits": DATA})
            product.add(name, {"bad.fits": DATA})
            product.add("after", {"after.fits": DATA})
        trial = Trial(store, directory, forks, products=["p*"])
        trial.hostile |= set(NAMES.values())
        trial.learn()
        told = trial.run()
        assert told.exit == 1
        assert len(told.lines) == len(NAMES)
        yield Met(told, trial.site.visible(), trial.state())
        trial.hostile.clear()
        for at, name in enumerate(NAMES.values()):
            store.products[f"p{at}"].withdraw(name)
        trial.converges()
        assert not Path(ABSOLUTE).exists()


@pytest.mark.parametrize("at", range(len(NAMES)), ids=list(NAMES))
def test_l12_l13_name_of_a_fileset(bad_fileset_names: Met, at: int) -> None:
    (line,) = bad_fileset_names.lines(f"p{at}: ")
    assert re.match(r".*: line 3 of its list is malformed: ", line)
    assert line.isprintable()
    mine = {path for path in bad_fileset_names.seen if path.startswith(f"data/p{at}/")}
    assert mine == {f"data/p{at}/before/before.fits", f"data/p{at}/after/after.fits"}
    cursors, held = bad_fileset_names.state
    assert cursors[f"p{at}"] == "before", "the cursor stops before the malformed row"
    assert held[f"p{at}"] == {"before", "after"}


def test_l12_l13_names_of_products(forks: Forks) -> None:
    with ground() as directory, Simulator() as store:
        good = store.product("gpc1")
        good.add("o1", {"o1.fits": DATA})
        for name in NAMES.values():
            store.product(name)
        trial = Trial(store, directory, forks, products=["*"])
        trial.learn()
        told = trial.run()
        expected = [rf"line {at + 3} of the root list is malformed: .*" for at in range(len(NAMES))]
        trial.ends(told, HOLD, expected)
        assert store.count() == 4, "nothing was asked of the bad ones"
        for name in NAMES.values():
            del store.products[name]
        trial.converges()


ROWS_OF_FILES = {
    "negative size": SimFile("x.fits", DATA, size=-1),
    "a size in words": SimFile("x.fits", DATA, size="many"),
    "no size": SimFile("x.fits", DATA, size=" "),
    "a size with a sign": SimFile("x.fits", DATA, size="+29"),
    "a size with a point": SimFile("x.fits", DATA, size="29.0"),
    "an exponent": SimFile("x.fits", DATA, size="3e1"),
    "a hexadecimal size": SimFile("x.fits", DATA, size="0x1d"),
    "a size in other digits": SimFile("x.fits", DATA, size="٢٩"),
    "a size with underscores": SimFile("x.fits", DATA, size="2_9"),
    "2**63": SimFile("x.fits", DATA, size=2**63),
    "a size of 5000 digits": SimFile("x.fits", DATA, size="9" * 5000),
    "md5 too short": SimFile("x.fits", DATA, md5="0" * 31),
    "md5 too long": SimFile("x.fits", DATA, md5="0" * 33),
    "md5 in upper case": SimFile("x.fits", DATA, md5="A" * 32),
    "md5 of no digits": SimFile("x.fits", DATA, md5="x" * 32),
    "index.txt": SimFile("index.txt", DATA),
}
"""L14: rows of a fileset's list that say nothing that can be true."""


@pytest.fixture(scope="module")
def bad_rows(forks: Forks) -> Iterator[Met]:
    yield from in_files(forks, {f"bad{at}": row for at, row in enumerate(ROWS_OF_FILES.values())})


@pytest.mark.parametrize("at", range(len(ROWS_OF_FILES)), ids=list(ROWS_OF_FILES))
def test_l14_row_of_a_file(bad_rows: Met, at: int) -> None:
    (line,) = bad_rows.lines(f"gpc1/bad{at}: ")
    assert re.match(r".*: malformed rows in index\.txt: line 3: ", line)
    assert not [path for path in bad_rows.seen if f"/bad{at}/" in path]


def test_l14_a_file_larger_than_any_disk_holds_up_its_own_fileset_alone(forks: Forks) -> None:
    with ground() as directory, Simulator() as store:
        product = store.product("gpc1")
        product.add("huge", [SimFile("huge.fits", DATA, size=2**62)])
        for at in range(20):
            product.add(f"o{at}", {f"o{at}.fits": DATA})
        trial = Trial(store, directory, forks)
        trial.hostile.add("huge")
        trial.learn()
        told = trial.run()
        assert told.exit in (1, 5)
        assert len(told.lines) == 1
        assert told.count("done") == 20, "the other filesets wait for room that never comes"
        trial.hostile.clear()
        product.alter("huge", {"huge.fits": DATA})
        trial.converges()


def test_l7_a_long_list_in_bounded_memory(forks: Forks) -> None:
    """`Trial.examine` holds the bound for this run as for all others."""
    with ground() as directory, Simulator() as store:
        product = store.product("gpc1")
        for at in range(30_000):
            product.add(f"o4741g{at:05d}o.chip.{at}.2.1")
        trial = Trial(store, directory, forks, since="2030-01-01")
        trial.incomplete = True
        told = trial.run()
        assert (told.exit, told.lines) == (0, ())
        assert told.count("listed") == 30_000
        assert told.count("new") == 0
        assert not trial.site.visible()
        assert store.count() == 2


def test_l9_a_list_that_stands_still_shows_in_the_status(forks: Forks) -> None:
    with ground() as directory, Simulator() as store:
        store.product("gpc1").add("o1", {"o1.fits": DATA}, "2009-04-15T01:22:12Z")
        trial = Trial(store, directory, forks)
        trial.converges()
        status = trial.site.run("--status")
        assert status.exit == 0
        header, line = status.stdout.splitlines()
        assert "newest" in header
        assert re.search(r"gpc1 .* [0-9]{4} days ago .*o1", line)


def test_l11_readers_see_the_old_fileset_or_the_new_one(forks: Forks) -> None:
    with ground() as directory, Simulator() as store:
        product = store.product("gpc1")
        old = {f"f{at}.fits": f"old {at}".encode() for at in range(20)}
        new = {name: data.replace(b"old", b"newer") for name, data in old.items()}
        product.add("o1", old)
        product.add("o2", {"o2.fits": DATA})
        trial = Trial(store, directory, forks)
        trial.converges()
        product.register_again("o1", new)
        trial.learn()
        allowed: dict[str, Allowed] = {
            f"data/gpc1/o1/{name}": (old[name], new[name]) for name in old
        }
        allowed |= {"info/gpc1/o1/index.txt": None, "info/gpc1/o2/index.txt": None}
        allowed["data/gpc1/o2/o2.fits"] = DATA
        with TreeWatcher(trial.site.root, allowed) as watcher:
            told = trial.run()
        expect_lines(told, [r"gpc1: o1 was registered again .*"])
        assert not watcher.violations
        assert watcher.scans > 1
        trial.converges()
