"""pubtool: what its modes print and do, and what is refused."""

import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from places import data_store, tell_place
from pubruns import Pubtool, rows_of

from server.__main__ import main
from server.catalogue import add_product, catalogue, find_product
from server.publishing.runs import find_run
from server.runs.resolve import host_name
from server.site import CATALOGUE, SqliteFile

CLIENT = ("-defineclient", "-stage", "diff", "-product", "IPP-MOPS", "-workdir", "neb://any/where/")


@pytest.fixture
def command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Pubtool:
    """The command, for a site without a catalogue."""
    root = data_store(tmp_path)
    place = SqliteFile(root / CATALOGUE)
    tell_place(monkeypatch, root, place)
    monkeypatch.setenv("NEB_ROOT", str(tmp_path / "neb"))
    return Pubtool(root, place, capsys)


@pytest.fixture
def pubtool(command: Pubtool) -> Pubtool:
    """The command, for a site with two clients and two runs of the first one, one of them full."""
    command.done(*CLIENT, "-comment", "an aid to memory", "-name", "MOPS")
    command.done("-defineclient", "-stage", "camera", "-product", "other", "-workdir", "/any/where")
    command.diffs(11, 12)
    command.done("-definerun")
    command.done("-add", "-pub_id", "1", "-path_base", "neb://any/where/IPP-MOPS.1")
    return command


# Clients


def test_clients_are_listed(pubtool: Pubtool) -> None:
    assert rows_of(pubtool.done("-listclients"), "publishClient") == [
        {
            "client_id": 1, "active": True, "product": "IPP-MOPS", "stage": "diff",
            "workdir": "neb://any/where/", "comment": "an aid to memory", "name": "MOPS",
            "output_format": None,
        },
        {
            "client_id": 2, "active": True, "product": "other", "stage": "camera",
            "workdir": "/any/where", "comment": None, "name": None, "output_format": None,
        },
    ]  # fmt: skip
    assert pubtool.lines("-listclients")[1] == [
        "2", "T", "other", "camera", "/any/where", "NULL", "NULL", "NULL",
    ]  # fmt: skip


def test_a_client_asked_for_again_is_the_same_one(command: Pubtool) -> None:
    first = command.done(*CLIENT)
    assert first.startswith(
        "client 1: IPP-MOPS, stage diff, workdir neb://any/where/, active; made"
    )
    assert command.done(*CLIENT) == (
        "client 1 is there already, just as asked for: IPP-MOPS, stage diff, workdir"
        " neb://any/where/, active\n"
    )
    assert command.done(*CLIENT, "-output_format", "2").startswith("client 2: ")
    command.done("-updateclient", "-inactive", "-client_id", "1")
    assert command.done(*CLIENT).endswith(" neb://any/where/, inactive\n")


@pytest.mark.parametrize(
    ("product", "kind"),
    [
        ("IPP-MOPS", "IPP-MOPS"), ("IPP-MOPS-TEST", "IPP-MOPS"), ("IPP-PSPS.2", "IPP-PSPS"),
        ("table", "table"), ("ipp-mops", "ipp-misc"), ("detections", "ipp-misc"),
    ],
)  # fmt: skip
def test_the_product_is_made_of_its_type(command: Pubtool, product: str, kind: str) -> None:
    said = command.done(*CLIENT[:3], "-product", product, *CLIENT[5:])
    assert said.endswith(f", active; made product {product}, {kind}, in {command.root / product}\n")
    with catalogue(command.place) as database:
        found = find_product(database, product)
    assert found
    assert (found.type, found.columns) == (kind, ("comment", "exposure"))
    assert found.description == "detections published from diff runs"
    assert (command.root / product).is_dir()


def test_a_product_that_is_there_stays_as_it_is(command: Pubtool) -> None:
    with catalogue(command.place, create=True) as database:
        add_product(database, "IPP-MOPS", "table", "of old", ("remark", "seen in", "more"))
        before = find_product(database, "IPP-MOPS")
    assert command.done(*CLIENT).endswith(", active\n")
    with catalogue(command.place) as database:
        assert find_product(database, "IPP-MOPS") == before


@pytest.mark.parametrize(
    ("selected", "active"),
    [
        (("-client_id", "1"), "FT"), (("-stage", "camera"), "TF"), (("-product", "other"), "TF"),
        (("-comment", "AN AID%"), "FT"), (("-comment", "an aid_to memory"), "FT"),
        (("-client_id", "1", "-stage", "diff", "-product", "IPP-MOPS"), "FT"),
    ],
)  # fmt: skip
def test_clients_are_switched_off_and_on(
    pubtool: Pubtool, selected: Sequence[str], active: str
) -> None:
    number = active.index("F") + 1
    assert pubtool.done("-updateclient", "-inactive", *selected) == f"inactive: client {number}\n"
    assert "".join(words[1] for words in pubtool.lines("-listclients")) == active
    assert pubtool.done("-updateclient", "-active", *selected) == f"active: client {number}\n"
    assert "".join(words[1] for words in pubtool.lines("-listclients")) == "TT"


def test_several_clients_are_switched_off_at_once(pubtool: Pubtool) -> None:
    pubtool.done(*CLIENT)
    assert (
        pubtool.done("-updateclient", "-inactive", "-stage", "diff") == "inactive: clients 1, 3\n"
    )


# Runs


def test_what_would_be_made_is_shown_and_not_made(pubtool: Pubtool) -> None:
    pubtool.diffs(13, 14)
    before = pubtool.content()
    shown = pubtool.done("-definerun", "-pretend", "-label", "L", "-limit", "1")
    assert rows_of(shown, "publishRun") == [
        {
            "pub_id": None, "client_id": 1, "product": "IPP-MOPS", "stage": "diff", "stage_id": 13,
            "workdir": "neb://any/where/", "label": "L", "comment": "an aid to memory",
            "output_format": None,
        }
    ]  # fmt: skip
    assert pubtool.content() == before
    assert [words[:5] for words in pubtool.lines("-definerun", "-set_label", "S")] == [
        ["3", "1", "IPP-MOPS", "diff", "13"],
        ["4", "1", "IPP-MOPS", "diff", "14"],
    ]
    assert [words[0] for words in pubtool.lines("-pending", "-label", "S")] == ["3", "4"]


@pytest.mark.parametrize(
    ("selected", "found"),
    [
        (("-all",), ["2"]), (("-client_id", "1"), ["2"]), (("-client_id", "2"), []),
        (("-stage", "diff"), ["2"]), (("-stage", "camera"), []), (("-name", "MOPS"), ["2"]),
        (("-name", "MOP%"), []), (("-comment", "%memory"), ["2"]), (("-comment", "memory"), []),
        (("-label", "X", "-label", "L"), ["2"]), (("-label", "X"), []),
        (("-all", "-limit", "0"), []),
    ],
    ids=" ".join,
)  # fmt: skip
def test_pending_runs_are_shown(
    pubtool: Pubtool, selected: Sequence[str], found: Sequence[str]
) -> None:
    assert [words[0] for words in pubtool.lines("-pending", *selected)] == found


def test_nothing_pending_prints_nothing(pubtool: Pubtool) -> None:
    assert pubtool.done("-pending", "-label", "X") == ""


def test_an_attempt_is_recorded_with_where_and_how_long(pubtool: Pubtool) -> None:
    more = ("-hostname", "h", "-dtime_script", "1.5", "-fault", "5")
    pubtool.done("-add", "-pub_id", "2", "-path_base", "p", *more)
    with catalogue(pubtool.place) as database:
        first, second = find_run(database, 1), find_run(database, 2)
    assert first
    assert second
    assert first.attempt
    assert second.attempt
    assert (first.state, first.attempt.hostname, first.attempt.seconds) == (
        "full", host_name(), None,
    )  # fmt: skip
    attempt = second.attempt
    assert (second.state, attempt.path_base, attempt.hostname, attempt.seconds, attempt.fault) == (
        "new", "p", "h", 1.5, 5,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("selected", "count"),
    [
        ((), 2), (("-pub_id", "2"), 1), (("-fault", "5"), 1), (("-fault", "6"), 0),
        (("-client_id", "1"), 2), (("-client_id", "2"), 0), (("-comment", "%aid%"), 2),
        (("-comment", "aid"), 0), (("-label", "L", "-label", "M"), 2), (("-label", "M"), 1),
        (("-label", "M", "-fault", "5"), 0), (("-pub_id", "1"), 0),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)  # fmt: skip
def test_failed_attempts_are_reverted(
    pubtool: Pubtool, selected: Sequence[str], count: int
) -> None:
    pubtool.diffs(13, label="M")
    pubtool.done("-definerun")
    pubtool.done("-add", "-pub_id", "2", "-path_base", "p", "-fault", "5")
    pubtool.done("-add", "-pub_id", "3", "-path_base", "p", "-fault", "4")
    assert pubtool.lines("-pending", "-all") == []
    told = "reverted 1 failed attempt\n" if count == 1 else f"reverted {count} failed attempts\n"
    assert pubtool.done("-revert", *selected) == told
    assert len(pubtool.lines("-pending", "-all")) == count


def test_a_full_run_that_is_set_to_new_is_pending_again(pubtool: Pubtool) -> None:
    said = pubtool.done("-updaterun", "-set_state", "new", "-pub_id", "1")
    assert said == "1 run is new now\n"
    assert [words[0] for words in pubtool.lines("-pending", "-all")] == ["1", "2"]
    pubtool.done("-add", "-pub_id", "1", "-path_base", "p")
    assert pubtool.done("-updaterun", "-set_state", "full", "-state", "full") == (
        "0 runs are full now\n"
    )
    assert pubtool.done("-updaterun", "-set_state", "full", "-label", "L") == "1 run is full now\n"
    assert pubtool.lines("-pending", "-all") == []


# Refusals

REFUSALS: dict[str, tuple[Sequence[str], int, str]] = {
    "no mode": ([], 3, "one of -defineclient, "),
    "two modes": (["-pending", "-revert", "-all"], 3, "expected, not 2"),
    "an unknown option": (["-listclients", "-what"], 2, "unrecognized arguments: -what"),
    "an abbreviation": (["-listc"], 2, "unrecognized arguments: -listc"),
    "a client of nothing": (
        ["-defineclient"], 3,
        "-defineclient: -stage is missing\n-defineclient: -product is missing\n"
        "-defineclient: -workdir is missing",
    ),
    "an unknown stage": (
        ["-defineclient", "-stage", "warp", *CLIENT[3:]], 3,
        "-stage: diff or camera expected, not 'warp'",
    ),
    "pending of an unknown stage": (
        ["-pending", "-stage", "chip"], 3, "-stage: diff or camera expected, not 'chip'",
    ),
    "everything that is wrong with a client": (
        ["-defineclient", "-stage", "x", "-product", "healthz", "-workdir", "y", "-comment", "a|b"],
        3,
        "-stage: diff or camera expected, not 'x'\nproduct healthz: the server has a page of this"
        " name\n-comment: holds '|' or '#': 'a|b'\n-workdir: path 'y': neb://",
    ),
    "a workdir that does not resolve": (
        [*CLIENT[:-1], "path://DATA/x"], 3,
        "-workdir: path path://DATA/x: DATAPATH has no 'DATA'; it has nothing",
    ),
    "a relative workdir": ([*CLIENT[:-1], "any/where"], 3, "-workdir: path 'any/where': neb://"),
    "a workdir that climbs": ([*CLIENT[:-1], "neb://a/../b"], 3, "'..' is not allowed in it"),
    "a comment that no list can hold": (
        [*CLIENT, "-comment", "a|b"], 3, "-comment: holds '|' or '#'",
    ),
    "a comment that no mdc can hold": ([*CLIENT, "-comment", "a#b"], 3, "-comment: a text without"),
    "a product that is no name": (
        [*CLIENT[:3], "-product", "../x", *CLIENT[5:]], 3, "characters outside",
    ),
    "a product that differs by case": (
        [*CLIENT[:3], "-product", "ipp-mops", *CLIENT[5:]], 1, "differs only by case",
    ),
    "a product without the columns": (
        [*CLIENT[:3], "-product", "narrow", *CLIENT[5:]], 1,
        "product narrow: it has 1 columns of its own, but comment and exposure of a published"
        " fileset need two",
    ),
    "on and off": (
        ["-updateclient", "-active", "-inactive", "-client_id", "1"], 3,
        "-active and -inactive: one of them expected",
    ),
    "neither on nor off": (
        ["-updateclient", "-client_id", "1"], 3,
        "-updateclient: -active or -inactive is missing",
    ),
    "every client": (
        ["-updateclient", "-active"], 3,
        "-updateclient: -client_id or -stage or -product or -comment is missing",
    ),
    "no such client": (["-updateclient", "-active", "-client_id", "9"], 1, "no client fits"),
    "half an escape": (
        ["-updateclient", "-active", "-comment", "a\\"], 3, "-comment: a pattern that ends in",
    ),
    "half an escape in a filter": (["-definerun", "-filter", "r\\"], 3, "-filter: a pattern that"),
    "runs of no client": (["-definerun", "-client_id", "9"], 1, "client 9: not there"),
    "runs of an inactive client": (
        ["-definerun", "-client_id", "3"], 1,
        "client 3: it is inactive; first pubtool -updateclient -active -client_id 3",
    ),
    "no time": (
        ["-definerun", "-dateobs_begin", "yesterday"], 3,
        "dateobs_begin: a UTC time YYYY-MM-DDThh:mm:ssZ expected, not 'yesterday'",
    ),
    "an end before the begin": (
        ["-definerun", "-dateobs_begin", "2009-04-16", "-dateobs_end", "2009-04-15"], 3,
        "comes after dateobs_end",
    ),
    "no number": (["-definerun", "-limit", "-1"], 2, "-limit"),
    "pending without a restriction": (
        ["-pending"], 3,
        "-pending: -client_id or -stage or -comment or -name or -label or -all is missing",
    ),
    "pending with a limit only": (["-pending", "-limit", "5", "-simple"], 3, "or -all is missing"),
    "an attempt at nothing": (
        ["-add"], 3, "-add: -pub_id is missing\n-add: -path_base is missing",
    ),
    "an attempt at an unknown run": (
        ["-add", "-pub_id", "99", "-path_base", "p"], 1, "publish run 99: not there",
    ),
    "an attempt at a full run": (
        ["-add", "-pub_id", "1", "-path_base", "p"], 1,
        "publish run 1: full already; to publish it anew, withdraw its fileset first: dsreg --del"
        " pub.1.diff.",
    ),
    "an attempt at a full run with a fault": (
        ["-add", "-pub_id", "1", "-path_base", "p", "-fault", "3"], 1, "full already",
    ),
    "an attempt beside an attempt": (
        ["-add", "-pub_id", "2", "-path_base", "p"], 1,
        "publish run 2: it has an attempt already, with fault 4; first pubtool -revert -pub_id 2",
    ),
    "a fault out of range": (
        ["-add", "-pub_id", "2", "-path_base", "p", "-fault", "32768"], 3, "-fault: 0 to 32767",
    ),
    "no seconds": (
        ["-add", "-pub_id", "2", "-path_base", "p", "-dtime_script", "nan"], 2, "seconds expected",
    ),
    "reverting an unknown run": (["-revert", "-pub_id", "99"], 1, "publish run 99: not there"),
    "reverting what did not fail": (["-revert", "-fault", "0"], 3, "-fault: an attempt that"),
    "no new state": (["-updaterun", "-pub_id", "1"], 3, "-updaterun: -set_state is missing"),
    "an unknown new state": (
        ["-updaterun", "-set_state", "drop", "-pub_id", "1"], 3,
        "-set_state: new or full expected, not 'drop'",
    ),
    "an unknown state": (
        ["-updaterun", "-set_state", "new", "-state", "old"], 3,
        "-state: new or full expected, not 'old'",
    ),
    "every run": (
        ["-updaterun", "-set_state", "new"], 3,
        "-updaterun: -pub_id or -client_id or -state or -label or -fault is missing",
    ),
    "updating an unknown run": (
        ["-updaterun", "-set_state", "new", "-pub_id", "99"], 1, "publish run 99: not there",
    ),
    "an option of another mode": (
        ["-pending", "-all", "-pretend"], 3, "-pretend does not go with -pending",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("arguments", "code", "reason"), REFUSALS.values(), ids=REFUSALS)
def test_what_is_wrong_is_refused(
    pubtool: Pubtool, arguments: Sequence[str], code: int, reason: str
) -> None:
    pubtool.done("-add", "-pub_id", "2", "-path_base", "p", "-fault", "4")
    pubtool.done(*CLIENT, "-name", "a client that has nothing")
    pubtool.done("-updateclient", "-inactive", "-client_id", "3")
    with catalogue(pubtool.place) as database:
        add_product(database, "narrow", "ipp-misc", "with one column", ("comment",))
    before, there = pubtool.content(), set(os.listdir(pubtool.root))
    exit_status, out, err = pubtool(*arguments)
    assert (exit_status, out) == (code, "")
    assert reason in err
    assert pubtool.content() == before
    assert set(os.listdir(pubtool.root)) == there


def test_without_neb_root_a_workdir_is_refused_before_anything_is_made(
    command: Pubtool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NEB_ROOT")
    assert command(*CLIENT) == (
        3, "",
        "pubtool: -workdir: path neb://any/where/: NEB_ROOT is not set, the directory that neb://"
        " is\n",
    )  # fmt: skip
    assert os.listdir(command.root) == []


@pytest.mark.parametrize(
    "arguments",
    [("-listclients",), ("-definerun",), ("-pending", "-all"), ("-revert",)],
    ids=" ".join,
)
def test_without_a_catalogue_nothing_is_made(command: Pubtool, arguments: Sequence[str]) -> None:
    code, out, err = command(*arguments)
    assert (code, out) == (3, "")
    assert "no catalogue at" in err
    assert os.listdir(command.root) == []


def test_help_names_every_mode(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["pubtool", "--help"])
    said = capsys.readouterr().out
    for mode in ("defineclient", "updateclient", "definerun", "pending", "add", "revert"):
        assert f"-{mode}" in said


# Faults


def test_what_failed_is_listed_until_it_is_reverted(pubtool: Pubtool) -> None:
    assert pubtool.done("-listfaults") == ""
    pubtool.done("-add", "-pub_id", "2", "-path_base", "neb://any/where/IPP-MOPS.2", "-fault", "5")
    (row,) = rows_of(pubtool.done("-listfaults"), "publishDone")
    assert (row["pub_id"], row["product"], row["stage"], row["stage_id"], row["fault"]) == (
        2, "IPP-MOPS", "diff", 12, 5,
    )  # fmt: skip
    assert (row["path_base"], row["message"]) == ("neb://any/where/IPP-MOPS.2", None)
    assert pubtool.lines("-listfaults", "-stage", "diff", "-fault", "5")
    for nobody in (("-stage", "camera"), ("-fault", "4"), ("-client_id", "2"), ("-label", "x")):
        assert pubtool.done("-listfaults", *nobody) == ""
    pubtool.done("-revert", "-pub_id", "2")
    assert pubtool.done("-listfaults") == ""
