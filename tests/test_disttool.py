"""disttool: from finished runs to what is pending, as it is typed; and what is refused."""

import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest
from distruns import GROUP, WORKDIR, Disttool, Part, new_site

from parse_config import load_mdc
from server.catalogue import catalogue, find_product
from server.distribution.call import MODES
from server.distribution.queue import Selection
from server.distribution.revert import revert_runs
from server.runs.resolve import file_resolve, host_name
from server.site import CATALOGUE, Place, SqliteFile, read_site
from server.store_lock import hold_work

QUERY = ("-definebyquery", "-stage", "chip", "-workdir", WORKDIR)


@pytest.fixture
def fresh(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Disttool:
    """The command for a site without a catalogue."""
    return new_site(tmp_path, SqliteFile(tmp_path / CATALOGUE), monkeypatch, capsys)


def wanted(tool: Disttool) -> Disttool:
    """Let somebody be interested in the chip runs of GROUP, all of them."""
    tool.target()
    tool.destination()
    tool.interest()
    return tool


@pytest.fixture
def tool(fresh: Disttool) -> Disttool:
    """The command for a site with chip runs 1 and 2, and somebody who wants them."""
    fresh.chip(1, label="A")
    fresh.chip(2, label="B", filter_="g.00000")
    return wanted(fresh)


def test_from_a_finished_run_to_a_pending_fileset(
    place: Place,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    tool = new_site(tmp_path, place, monkeypatch, capsys)
    tool.chip(11955)
    wanted(tool)
    outdir = f"{WORKDIR}/chip.11955.1"
    row = f"1 1 chip 11955 L {outdir} F new 0 NULL o11955o G r.00000"
    assert tool.lines(*QUERY) == [row]
    assert tool.lines(*QUERY) == []
    assert tool.lines("-pendingcomponent") == [
        f"1 XY01 {outdir} chip 11955 F L",
        f"1 XY02 {outdir} chip 11955 F L",
    ]
    tool.change("UPDATE distComponent SET state = 'full', name = 'b.tgz', bytes = 5, md5sum = 'a'")
    assert tool.lines("-processedcomponent", "-limit", "1") == [
        f"1 XY01 chip 11955 L {outdir} b.tgz 5 a"
    ]
    assert tool.lines("-toadvance") == [row]
    tool.change("UPDATE distRun SET state = 'full'")
    assert tool.lines("-pendingfileset") == ["1 1 MPG gpc1 1 chip 11955 L o11955o"]
    name = "o11955o.chip.11955.1.1"
    tool.change(
        "INSERT INTO rcDSFileset (dist_id, dest_id, name, state) VALUES (1, 1, ?, 'full')", name
    )
    assert tool.lines("-pendingfileset") == []
    assert tool.lines("-listfilesets", "-dest_name", "MPG") == [
        f"1 1 1 MPG {name} chip 11955 L full 0 NULL NULL NULL"
    ]
    tool.change(
        """INSERT INTO rcRun (fs_id, dest_id, state, fault, message)
        VALUES (1, 1, 'new', 4, 'disk full')"""
    )
    assert tool.lines("-listfilesets") == [f"1 1 1 MPG {name} chip 11955 L full 0 new 4 disk full"]


DOCUMENTS: dict[str, tuple[Sequence[str], str]] = {
    "-definebyquery": (QUERY, "distRun"),
    "-pendingcomponent": (["-pendingcomponent"], "distComponent"),
    "-processedcomponent": (["-processedcomponent"], "distComponent"),
    "-toadvance": (["-toadvance"], "distRun"),
    "-pendingfileset": (["-pendingfileset"], "rcDSFileset"),
    "-listfilesets": (["-listfilesets"], "rcDSFileset"),
    "-listfaults": (["-listfaults"], "distFault"),
}


@pytest.mark.parametrize(("call", "name"), DOCUMENTS.values(), ids=DOCUMENTS)
def test_rows_are_mdc(tool: Disttool, call: Sequence[str], name: str) -> None:
    # One run in every stage of its way, beside those that are defined by the call.
    for number in (3, 4, 5):
        tool.chip(number)
    tool.done(*QUERY, "-label", "L")
    tool.change("UPDATE distComponent SET state = 'full' WHERE dist_id > 1")
    tool.change("UPDATE distRun SET state = 'full' WHERE dist_id = 3")
    tool.change("UPDATE distComponent SET fault = 5 WHERE dist_id = 1 AND component = 'XY01'")
    tool.done("-definedestination", "-name", "other", "-product", "gpc2")
    tool.interest(1, 2)
    tool.change(
        "INSERT INTO rcDSFileset (dist_id, dest_id, name, state) VALUES (3, 1, 'f', 'full')"
    )
    text = tool.done(*call)
    assert text.startswith(f"{name} MULTI\n\n{name} METADATA\n   ")
    rows = load_mdc(text)[name]
    assert rows
    assert all(row["dist_id"] for row in rows)


def test_a_product_of_two_destinations_is_told(tool: Disttool) -> None:
    code, _, err = tool("-definedestination", "-name", "other", "-product", "gpc1")
    assert code == 0
    assert err == (
        "disttool: product gpc1 is that of MPG, too: who reads it gets the filesets of all of"
        " them\n"
    )


def test_pretending_shows_and_changes_nothing(tool: Disttool) -> None:
    before = tool.content()
    assert tool.lines(*QUERY, "-pretend") == [
        "NULL 1 chip 1 A NULL F new 0 NULL o1o G r.00000",
        "NULL 1 chip 2 B NULL F new 0 NULL o2o G g.00000",
    ]
    rows = load_mdc(tool.done(*QUERY, "-pretend", "-label", "B"))["distRun"]
    assert [row["stage_id"] for row in rows] == [2]
    assert tool.content() == before


CHOSEN: dict[str, tuple[Sequence[str], list[int]]] = {
    "all": ((), [1, 2]),
    "label": (("-label", "A"), [1]),
    "labels": (("-label", "B", "-label", "A"), [1, 2]),
    "limit": (("-limit", "1"), [1]),
    "group": (("-dist_group", GROUP), [1, 2]),
    "no such group": (("-dist_group", "%"), []),
}


@pytest.mark.parametrize(("options", "expected"), CHOSEN.values(), ids=CHOSEN)
def test_a_query_chooses(tool: Disttool, options: Sequence[str], expected: list[int]) -> None:
    tool.done(*QUERY, *options, "-set_label", "tonight")
    assert tool.rows("SELECT stage_id, label FROM distRun ORDER BY dist_id") == [
        (number, "tonight") for number in expected
    ]


def test_a_run_that_was_distributed_goes_again_if_asked(tool: Disttool) -> None:
    tool.done(*QUERY)
    told = "left out: defined before and still new; disttool -droprun forgets what nobody has yet\n"
    assert tool(*QUERY, "-rerun") == (0, "", f"disttool: 2 finished chip runs {told}")
    assert tool(*QUERY) == (0, "", "")
    tool.change("UPDATE distRun SET state = 'full' WHERE stage_id = 2")
    code, out, err = tool(*QUERY, "-rerun", "-simple")
    assert (code, err) == (0, f"disttool: 1 finished chip run {told}")
    assert [line.split()[3] for line in out.splitlines()] == ["2"]
    assert tool.done("-droprun", "-stage_id", "1") == "dropped 1 run\n"
    assert [line.split()[3] for line in tool.lines(*QUERY)] == ["1"]


WORKDIRS: dict[str, tuple[Sequence[str], str | None, str]] = {
    "given": (("-workdir", "neb://any/a/"), None, "neb://any/a"),
    "plain": (("-workdir", "/data/a"), None, "/data/a"),
    "path": (("-workdir", "path://WORK/a"), None, "path://WORK/a"),
    "path alone": (("-workdir", "path://WORK"), None, "path://WORK"),
    "path alone, slashes": (("-workdir", "path://WORK//"), None, "path://WORK"),
    "any volume": (("-workdir", "neb://any"), None, "neb://any"),
    "any volume, slash": (("-workdir", "neb://any/"), None, "neb://any"),
    "no volume": (("-workdir", "neb://"), None, "neb://"),
    "no volume, slashes": (("-workdir", "neb:////"), None, "neb://"),
    "no volume, a path": (("-workdir", "neb:///a//"), None, "neb:///a"),
    "file": (("-workdir", "file:///data/a/"), None, "file:///data/a"),
    "all files": (("-workdir", "file:///"), None, "file://"),
    "no file": (("-workdir", "file://"), None, "file://"),
    "all of this host": (("-workdir", "/"), None, ""),
    "slashes": (("-workdir", "/data/a//"), None, "/data/a"),
    "of the site": ((), "neb://any/site", "neb://any/site"),
    "given, not the site's": (("-workdir", "/data/a"), "neb://any/site", "/data/a"),
    "of this host": (("-workdir", "neb://@HOST@.0/a"), None, f"neb://{host_name()}.0/a"),
}


@pytest.mark.parametrize(("options", "of_site", "expected"), WORKDIRS.values(), ids=WORKDIRS)
def test_where_bundles_go(
    tool: Disttool,
    monkeypatch: pytest.MonkeyPatch,
    options: Sequence[str],
    of_site: str | None,
    expected: str,
) -> None:
    monkeypatch.setenv("DISTRIBUTION_ROOT", of_site or "")
    tool.done("-definebyquery", "-stage", "chip", *options, "-label", "A")
    outdir = f"{expected}/chip.1.1"
    assert tool.rows("SELECT outdir FROM distRun") == [(outdir,)]
    assert tool.rows("SELECT DISTINCT outdir FROM distComponent") == [(outdir,)]
    # What is stored can be resolved, and is below what was asked for.
    roots = read_site(Namespace(dsroot=None, dbname=None, site=None)).roots
    asked = options[1] if options else str(of_site)
    assert file_resolve(outdir, roots) == file_resolve(asked, roots) / "chip.1.1"


def test_what_is_left_out_is_told_beside(tool: Disttool) -> None:
    tool.chip(3, dist_group=None)
    tool.chip(4, parts=[Part("XY01", fault=5)])
    code, out, err = tool(*QUERY, "-simple")
    assert (code, len(out.splitlines())) == (0, 2)
    assert err == (
        "disttool: 1 finished chip run left out: without a dist_group no target takes a run\n"
        "disttool: 1 finished chip run left out: chipProcessedImfile has no good row of a run\n"
    )


@pytest.mark.parametrize("stage", ["chip", "warp", "SSdiff", "ff"])
def test_no_match_prints_nothing(fresh: Disttool, stage: str) -> None:
    wanted(fresh)
    assert fresh.done("-definebyquery", "-stage", stage, "-workdir", WORKDIR) == ""
    assert fresh.done("-definebyquery", "-stage", stage, "-workdir", WORKDIR, "-simple") == ""


# Faults


FAULTY = {
    "component": ("-revertcomponent", "UPDATE distComponent SET fault = 5, message = 'no file'"),
    "run": ("-revertrun", "UPDATE distRun SET fault = 5, message = 'no file'"),
    "fileset": (
        "-revertfileset",
        """INSERT INTO rcDSFileset (dist_id, dest_id, name, state, fault, message)
        SELECT dist_id, 1, 'f', 'new', 5, 'no file' FROM distRun""",
    ),
}
REVERTED: dict[str, tuple[Sequence[str], int]] = {
    "run": (("-dist_id", "1"), 1),
    "stage": (("-stage", "chip"), 2),
    "another stage": (("-stage", "warp"), 0),
    "stage_id": (("-stage_id", "2"), 1),
    "label": (("-label", "A"), 1),
    "labels": (("-label", "A", "-label", "B"), 2),
    "fault": (("-fault", "5"), 2),
    "another fault": (("-fault", "4"), 0),
    "several": (("-fault", "5", "-label", "A"), 1),
    "all": (("-all",), 2),
}


@pytest.mark.parametrize(("options", "count"), REVERTED.values(), ids=REVERTED)
@pytest.mark.parametrize(("mode", "sql"), FAULTY.values(), ids=FAULTY)
def test_what_is_reverted_is_counted(
    tool: Disttool, mode: str, sql: str, options: Sequence[str], count: int
) -> None:
    for number in (1, 2):
        tool.chip(number, parts=[Part("XY01")], label="AB"[number - 1])
    tool.change("DELETE FROM \"chipProcessedImfile\" WHERE class_id = 'XY02'")
    tool.done(*QUERY)
    assert tool.done(mode, "-all") == f"reverted 0 {mode[7:]}s\n"
    tool.change(sql)
    assert len(tool.lines("-listfaults")) == 2
    assert tool.done(mode, *options) == f"reverted {count} {mode[7:]}{'s' * (count != 1)}\n"
    assert len(tool.lines("-listfaults")) == 2 - count


def test_filesets_are_reverted_for_one_destination(tool: Disttool) -> None:
    tool.destination("other", "gpc2")
    tool.done(*QUERY)
    for number in (1, 2):
        tool.change(
            """INSERT INTO rcDSFileset (dist_id, dest_id, name, state, fault)
            SELECT dist_id, ?, 'f', 'new', 5 FROM distRun""",
            number,
        )
    # What got there was another one of this name.
    tool.change("INSERT INTO rcRun (fs_id, dest_id, state) VALUES (1, 1, 'full')")
    assert tool.done("-revertfileset", "-dest_name", "MPG") == "reverted 2 filesets\n"
    assert tool.rows("SELECT DISTINCT dest_id FROM rcDSFileset") == [(2,)]
    assert tool.done("-revertfileset", "-dest_id", "2", "-label", "A") == "reverted 1 fileset\n"


ELSEWHERE = "path://WORK/elsewhere"
MOVED: dict[str, tuple[Sequence[str], list[int], str]] = {
    "all": (("-all",), [1, 2], "moved 2 runs below "),
    "without a fault": (("-dist_id", "1"), [1], "moved 1 run below "),
    "with a fault": (("-fault", "5"), [2], "moved 1 run below "),
    "another fault": (("-fault", "4"), [], "moved 0 runs below "),
    "full": (("-dist_id", "3"), [], "moved 0 runs below "),
}


@pytest.mark.parametrize(("options", "moved", "told"), MOVED.values(), ids=MOVED)
def test_runs_that_are_not_full_are_moved(
    tool: Disttool, options: Sequence[str], moved: list[int], told: str
) -> None:
    tool.chip(3)
    tool.done(*QUERY)
    tool.change("UPDATE distRun SET fault = 5 WHERE dist_id = 2")
    tool.change("UPDATE distRun SET state = 'full', fault = 5 WHERE dist_id = 3")
    tool.change("UPDATE distComponent SET state = 'full', name = 'x', bytes = 1, md5sum = 'y'")
    if "-fault" in options:
        tool.change("UPDATE distRun SET fault = 0 WHERE dist_id = 3")
    assert tool.done("-revertrun", *options, "-workdir", ELSEWHERE) == f"{told}{ELSEWHERE}\n"
    rows = tool.rows("SELECT dist_id FROM distRun WHERE outdir LIKE ?", f"{ELSEWHERE}/chip.%")
    assert sorted(row[0] for row in rows) == moved
    anew = tool.rows(
        "SELECT DISTINCT dist_id FROM distComponent WHERE state = 'new' AND outdir LIKE ?"
        " AND name IS NULL ORDER BY dist_id", f"{ELSEWHERE}/%",
    )  # fmt: skip
    assert [row[0] for row in anew] == moved
    if moved:
        ids = ", ".join(map(str, moved))
        assert tool.rows(f"SELECT * FROM distRun WHERE fault <> 0 AND dist_id IN ({ids})") == []


DROPPED: dict[str, tuple[Sequence[str], list[int], str]] = {
    "all": (("-all",), [1, 2, 4], "dropped 3 runs, left 1 that has filesets"),
    "run": (("-dist_id", "1"), [1], "dropped 1 run"),
    "fault": (("-fault", "5"), [2], "dropped 1 run"),
    "stage": (("-stage", "warp"), [], "dropped 0 runs"),
    "distributed": (("-stage_id", "3"), [], "dropped 0 runs, left 1 that has filesets"),
    "full, and nobody has it": (("-label", "M"), [4], "dropped 1 run"),
}


@pytest.fixture
def four(tool: Disttool) -> Disttool:
    """Four distRuns: new, faulty, distributed, and full with a faulty fileset."""
    tool.chip(3)
    tool.chip(4, label="M")
    tool.done(*QUERY)
    tool.change("UPDATE distRun SET fault = 5 WHERE dist_id = 2")
    tool.change("UPDATE distRun SET state = 'full' WHERE dist_id > 2")
    for values in ((3, "full", 0), (4, "new", 2)):
        tool.change(
            """INSERT INTO rcDSFileset (dist_id, dest_id, name, state, fault)
            VALUES (?, 1, 'f', ?, ?)""",
            *values,
        )
        tool.change("INSERT INTO rcRun (fs_id, dest_id, state) VALUES (?, 1, 'new')", values[0] - 2)
    return tool


@pytest.mark.parametrize(("options", "dropped", "told"), DROPPED.values(), ids=DROPPED)
def test_runs_that_nobody_has_are_forgotten(
    four: Disttool, options: Sequence[str], dropped: list[int], told: str
) -> None:
    advice = " (dsreg --del withdraws them)" if "left" in told else ""
    assert four.done("-droprun", *options) == f"{told}{advice}\n"
    for table in ("distRun", "distComponent"):
        left = {row[0] for row in four.rows(f"SELECT dist_id FROM {table}")}
        assert left == {1, 2, 3, 4} - set(dropped)
    assert four.rows("SELECT 1 FROM rcDSFileset WHERE dist_id = 3") == [(1,)]
    assert [int(line.split()[3]) for line in four.lines(*QUERY)] == dropped


def test_what_is_registered_or_withdrawn_is_known_by_the_catalogue(four: Disttool) -> None:
    # Registered by a coordinator that was killed before it could say so.
    with catalogue(four.place) as database:
        product = find_product(database, "gpc1")
        assert product
        four.change(
            """INSERT INTO dsFileset (prod_id, fileset_name, reg_time, type)
            VALUES (?, 'o4o.chip.4.4.1', '2009-04-15T01:22:12Z', 'IPP-DIST')""",
            product.id,
        )
    assert four.done("-droprun", "-all") == (
        "dropped 2 runs, left 2 that have filesets (dsreg --del withdraws them)\n"
    )
    four.change("INSERT INTO dsWithdrawn VALUES ('gpc1', 'f', 1)")
    assert four.done("-droprun", "-dist_id", "3") == "dropped 1 run\n"


def test_runs_in_work_are_neither_moved_nor_forgotten(tool: Disttool) -> None:
    tool.done(*QUERY)
    with hold_work(tool.root, "disttool run 2"):
        assert tool.done("-revertrun", "-all", "-workdir", ELSEWHERE) == (
            f"moved 1 run below {ELSEWHERE}, left 1 that another process works on\n"
        )
        assert tool.done("-droprun", "-all") == (
            "dropped 1 run, left 1 that another process works on\n"
        )
    assert tool.rows("SELECT dist_id, outdir FROM distRun") == [(2, f"{WORKDIR}/chip.2.2")]


def test_faults_are_shown_with_what_they_say(tool: Disttool) -> None:
    tool.done(*QUERY)
    tool.change(
        """UPDATE distComponent SET fault = 2, message = 'XY01.fits: not there'
        WHERE dist_id = 1 AND component = 'XY01'"""
    )
    tool.change("UPDATE distRun SET fault = 4, message = 'disk full' WHERE dist_id = 2")
    assert tool.lines("-listfaults") == [
        "component 1 XY01 chip 1 A 2 XY01.fits: not there",
        f"run 2 {WORKDIR}/chip.2.2 chip 2 B 4 disk full",
    ]
    assert len(tool.lines("-listfaults", "-fault", "4")) == 1
    assert len(tool.lines("-listfaults", "-label", "A")) == 1
    with catalogue(tool.place) as database:
        assert revert_runs(database, Selection()) == 1
    assert len(tool.lines("-listfaults")) == 1


# Doing it


RUNS: dict[str, tuple[Sequence[str], tuple[object, ...]]] = {
    "plain": ((), ([], None, None, None, None)),
    "everything": (
        ("-label", "A", "-label", "B", "-limit", "5", "-jobs", "2", "-gzip_level", "1",
            "-scheduler", "tcp://h:8786"),
        (["A", "B"], 5, 2, 1, "tcp://h:8786"),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("options", "expected"), RUNS.values(), ids=RUNS)
def test_the_coordinator_is_told_what_to_do(
    tool: Disttool,
    monkeypatch: pytest.MonkeyPatch,
    options: Sequence[str],
    expected: tuple[object, ...],
) -> None:
    called: list[tuple[object, ...]] = []

    def main_run(site: object, database: object, *arguments: object) -> int:
        called.append(arguments)
        return 1

    module = SimpleNamespace(main_run=main_run)
    monkeypatch.setitem(sys.modules, "server.distribution.run", module)
    assert tool("-run", *options) == (1, "", "")
    assert called == [expected]


# Refusals


REFUSALS: dict[str, tuple[Sequence[str], int, str]] = {
    "no mode": ((), 3, "one of -definetarget, "),
    "two modes": (("-toadvance", "-listtargets"), 3, ", not 2"),
    "unknown option": (("-toadvance", "-what"), 2, "unrecognized arguments: -what"),
    "no abbreviation": (("-toadv",), 2, "unrecognized arguments: -toadv"),
    "another mode's option": (("-toadvance", "-workdir", "x"), 3,
        "-workdir does not go with -toadvance"),
    "no stage": (("-definebyquery", "-workdir", WORKDIR), 3, "-definebyquery: -stage is missing"),
    "unknown stage": (("-definebyquery", "-stage", "Chip", "-workdir", WORKDIR), 3,
        "-stage: one of raw, chip, chip_bg, camera, "),
    "unknown stage of a list": (("-pendingcomponent", "-stage", "x"), 3, "-stage: one of raw"),
    "no workdir": (QUERY[:3], 3,
        "-workdir is missing, and the site key DISTRIBUTION_ROOT is not set"),
    "workdir of an unknown name": ((*QUERY[:4], "path://X/a"), 3,
        "-workdir: path path://X/a: DATAPATH has no 'X'; it has WORK"),
    "relative workdir": ((*QUERY[:4], "a/b"), 3, "-workdir: path 'a/b': neb://VOLUME/…, path://"),
    "workdir that climbs": ((*QUERY[:4], "neb://any/../a"), 3, "'..' is not allowed"),
    "workdir of another scheme": ((*QUERY[:4], "s3://a/b"), 3,
        "-workdir: path 's3://a/b': neb://"),
    "workdir with #": ((*QUERY[:4], "/a#b"), 3, "-workdir: a text without '#'"),
    "limit": ((*QUERY, "-limit", "many"), 2, "a whole number expected, not 'many'"),
    "negative limit": ((*QUERY, "--limit=-1"), 2, "a whole number expected, not '-1'"),
    "stage_id": (("-toadvance", "-stage_id", "o1"), 2, "a whole number expected"),
    "destination": (("-pendingfileset", "-dest_id", "7"), 1, "destination 7: there is none"),
    "destination's name": (("-listfilesets", "-dest_name", "x"), 1, "destination x: there is none"),
    "revert of anything": (("-revertcomponent",), 3,
        "-revertcomponent: -dist_id or -stage or -stage_id or -label or -fault or -all is missing"),
    "revert of any run": (("-revertrun",), 3, "-revertrun: -dist_id or "),
    "revert of any fileset": (("-revertfileset",), 3, "-revertfileset: -dist_id or "),
    "revert of all of one destination": (("-revertfileset", "-all", "-dest_id", "1"), 3,
        "-all: everything, and"),
    "drop of any run": (("-droprun",), 3, "-droprun: -dist_id or "),
    "drop of a destination's": (("-droprun", "-dest_id", "1"), 3, "-droprun: -dist_id or "),
    "revert to nowhere": (("-revertrun", "-all", "-workdir", "path://"), 3, "DATAPATH has no ''"),
    "revert of all of one": (("-revertrun", "-all", "-dist_id", "0"), 3, "-all: everything, and"),
    "revert of a stage": (("-revertrun", "-stage", "x"), 3, "-stage: one of raw"),
    "gzip level": (("-run", "-gzip_level", "10"), 3, "-gzip_level: 1 to 9 expected, not 10"),
    "no jobs": (("-run", "-jobs", "0"), 3, "-jobs: at least 1 expected"),
}  # fmt: skip


@pytest.mark.parametrize(("call", "code", "reason"), REFUSALS.values(), ids=REFUSALS)
def test_what_is_wrong_is_refused(
    tool: Disttool, call: Sequence[str], code: int, reason: str
) -> None:
    before = tool.content()
    status, out, err = tool(*call)
    assert (status, out) == (code, "")
    assert reason in err
    assert "Traceback" not in err
    assert tool.content() == before


def test_neb_paths_need_their_directory(tool: Disttool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SITE_CONFIG", "")
    code, _, err = tool(*QUERY)
    assert code == 3
    assert f"-workdir: path {WORKDIR}: NEB_ROOT is not set" in err
    monkeypatch.setenv("DISTRIBUTION_ROOT", WORKDIR)
    assert f"DISTRIBUTION_ROOT: path {WORKDIR}: NEB_ROOT is not set" in tool(*QUERY[:3])[2]
    assert tool.rows("SELECT * FROM distRun") == []


READING = sorted(set(MODES) - {"definetarget", "definedestination"})


@pytest.mark.parametrize("mode", READING)
def test_without_a_catalogue_there_is_nothing_to_look_at(fresh: Disttool, mode: str) -> None:
    needed = [need if isinstance(need, str) else need[0] for need in MODES[mode].needs]
    values = {"stage": "chip", "set_state": "enabled", "dist_id": "1", "dest_id": "1"}
    words = [word for name in needed for word in (f"-{name}", values.get(name, "1"))]
    code, out, err = fresh(f"-{mode}", *words, *(QUERY[3:] if mode == "definebyquery" else ()))
    assert (code, out) == (3, "")
    assert "no catalogue at " in err
    assert fresh.content() is None
