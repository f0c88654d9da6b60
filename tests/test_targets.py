"""disttool: targets, destinations and interests defined, changed, listed, and what is refused."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from distruns import Disttool, new_site

from parse_config import load_mdc
from server.catalogue import catalogue, find_product
from server.distribution.targets import PRODUCT_COLUMNS
from server.site import Place

TARGET = ("-definetarget", "-dist_group", "SweetSpot", "-filter", "r.%", "-stage", "chip")
DESTINATION = ("-definedestination", "-name", "MPG", "-product", "gpc1")
INTEREST = ("-defineinterest", "-dest_name", "MPG", "-target_id", "1")


@pytest.fixture
def tool(
    place: Place,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Disttool:
    """The command for a site where nothing was ever defined."""
    return new_site(tmp_path, place, monkeypatch, capsys)


@pytest.fixture
def defined(tool: Disttool) -> Disttool:
    """The command for a site with one target, one destination and its interest."""
    tool.done(*TARGET)
    tool.done(*DESTINATION)
    tool.done(*INTEREST)
    return tool


TARGETS: dict[str, tuple[Sequence[str], str]] = {
    "full": (TARGET, "chip, filter r.%, dist_group SweetSpot, full, enabled"),
    "clean": ((*TARGET, "-clean"), "chip, filter r.%, dist_group SweetSpot, clean, enabled"),
    "disabled": (
        (*TARGET, "-set_state", "disabled", "-comment", "for later"),
        "chip, filter r.%, dist_group SweetSpot, full, disabled",
    ),
    "two dashes": (
        ("--definetarget", "--dist_group", "A B", "--filter", "%", "--stage", "SSdiff"),
        "SSdiff, filter %, dist_group A B, full, enabled",
    ),
}


@pytest.mark.parametrize(("call", "told"), TARGETS.values(), ids=TARGETS)
def test_a_target_is_told_in_one_line(tool: Disttool, call: Sequence[str], told: str) -> None:
    assert tool.done(*call) == f"target 1: {told}\n"
    listed = tool.done("-listtargets")
    assert load_mdc(listed)["distTarget"][0]["target_id"] == 1


def test_full_and_clean_are_two_targets(tool: Disttool) -> None:
    tool.done(*TARGET)
    assert tool.done(*TARGET, "-clean", "-comment", "small").startswith("target 2: ")
    assert tool.lines("-listtargets") == [
        "1 SweetSpot r.% chip F enabled NULL",
        "2 SweetSpot r.% chip T enabled small",
    ]


def test_a_destination_gets_its_product(tool: Disttool) -> None:
    uri = "https://mirror.example/status/index.txt"
    assert tool.done(*DESTINATION, "-status_uri", uri, "-comment", "a partner") == (
        f"added product gpc1, ipp-dist, in {tool.root / 'gpc1'}\n"
        f"destination 1: MPG, product gpc1, status at {uri}, enabled\n"
    )
    assert (tool.root / "gpc1").is_dir()
    with catalogue(tool.place) as database:
        product = find_product(database, "gpc1")
    assert product
    assert (product.type, product.description) == ("ipp-dist", "a partner")
    assert product.columns == PRODUCT_COLUMNS
    assert tool.lines("-listdestinations") == [f"1 MPG gpc1 {uri} NULL enabled a partner"]


def test_without_a_comment_the_product_says_whom_it_is_for(tool: Disttool) -> None:
    tool.done(*DESTINATION)
    with catalogue(tool.place) as database:
        product = find_product(database, "gpc1")
    assert product
    assert product.description == "distribution to MPG"


def test_two_destinations_may_share_a_product(defined: Disttool) -> None:
    other = ("-definedestination", "-name", "other", "-product", "gpc1")
    code, out, err = defined(*other)
    assert (code, out) == (0, "destination 2: other, product gpc1, no status_uri, enabled\n")
    assert "product gpc1 is that of MPG, too" in err


@pytest.mark.parametrize(
    ("columns", "fit"),
    [
        (PRODUCT_COLUMNS, True),
        ((*PRODUCT_COLUMNS, "more"), True),
        (PRODUCT_COLUMNS[:5], False),
        ((), False),
        ((*PRODUCT_COLUMNS[1:], "target_id"), False),
    ],
    ids=["the same", "one more", "one less", "none", "in another order"],
)
def test_a_product_that_is_there_needs_the_columns(
    tool: Disttool, columns: Sequence[str], fit: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    from server.dsprodtool import main as dsprodtool

    labels = [part for n, label in enumerate(columns) for part in (f"--ps{n}", label)]
    assert dsprodtool(["--add", "gpc1", "--type", "ipp-dist", "--description", "x", *labels]) == 0
    before = tool.content()
    capsys.readouterr()
    code, out, err = tool(*DESTINATION)
    if fit:
        assert (code, out) == (0, "destination 1: MPG, product gpc1, no status_uri, enabled\n")
        return
    assert (code, out) == (3, "")
    assert f"product gpc1: it is there with the columns {', '.join(columns) or 'none'}" in err
    assert "name another -product" in err
    assert tool.content() == before


def test_an_interest_joins_both(defined: Disttool) -> None:
    assert defined.lines("-listinterests") == ["1 MPG 1 chip SweetSpot r.% F enabled"]
    rows = load_mdc(defined.done("-listinterests"))["rcInterest"]
    assert [row["dest_id"] for row in rows] == [1]


CHANGES: dict[str, tuple[Sequence[str], str, str]] = {
    "target": (
        ("-updatetarget", "-target_id", "1", "-set_state", "disabled"),
        "target 1: chip, filter r.%, dist_group SweetSpot, full, disabled\n",
        "-listtargets",
    ),
    "destination by its id": (
        ("-updatedestination", "-dest_id", "1", "-set_state", "disabled"),
        "destination 1: MPG, product gpc1, no status_uri, disabled\n",
        "-listdestinations",
    ),
    "destination by its name": (
        ("-updatedestination", "-dest_name", "MPG", "-status_uri", "http://h/s", "-comment", "c"),
        "destination 1: MPG, product gpc1, status at http://h/s, enabled\n",
        "-listdestinations",
    ),
    "interest": (
        ("-updateinterest", "-dest_id", "1", "-target_id", "1", "-set_state", "disabled"),
        "interest: destination 1 (MPG) in target 1 (chip), disabled\n",
        "-listinterests",
    ),
}


@pytest.mark.parametrize(("call", "told", "listing"), CHANGES.values(), ids=CHANGES)
def test_what_is_defined_can_be_changed(
    defined: Disttool, call: Sequence[str], told: str, listing: str
) -> None:
    before = defined.lines(listing)
    assert defined.done(*call) == told
    after = defined.lines(listing)
    assert len(after) == len(before)
    assert after != before


def test_a_change_leaves_the_others_alone(defined: Disttool) -> None:
    defined.done(*TARGET, "-clean")
    defined.done("-definedestination", "-name", "other", "-product", "p2")
    defined.done("-defineinterest", "-dest_id", "2", "-target_id", "2")
    for call in CHANGES.values():
        defined.done(*call[0])
    assert defined.lines("-listtargets")[1] == "2 SweetSpot r.% chip T enabled NULL"
    assert defined.lines("-listdestinations")[1] == "2 other p2 NULL NULL enabled NULL"
    assert defined.lines("-listinterests")[1] == "2 other 2 chip SweetSpot r.% T enabled"


URI = "https://me:se%2Fcret@north.example/ds/status/index.txt"
SHOWN = "https://***@north.example/ds/status/index.txt"


def test_credentials_in_a_status_uri_are_never_shown(tool: Disttool) -> None:
    told = [
        tool.done(*DESTINATION, "-status_uri", URI),
        tool.done("-updatedestination", "-dest_id", "1", "-status_uri", URI),
        tool.done("-listdestinations"),
        tool.done("-listdestinations", "-simple"),
    ]
    assert all(SHOWN in text and "cret" not in text for text in told)
    assert tool.rows("SELECT status_uri FROM rcDestination") == [(URI,)]
    # Where an address is none, it is not known where its credentials end.
    for uri in (
        "ftp://me:secret@h/s",
        "http:/me:secret@h/s",
        "http://me:se/cret@h:x/s",
        "me:cret@",
    ):
        code, _, err = tool("-updatedestination", "-dest_id", "1", "-status_uri", uri)
        assert (code, "cret" in err) == (3, False)
        assert "***@" in err


def test_a_status_uri_is_taken_back(tool: Disttool) -> None:
    tool.done(*DESTINATION, "-status_uri", "http://h/s")
    assert tool.done("-updatedestination", "-dest_id", "1", "-comment", "c") == (
        "destination 1: MPG, product gpc1, status at http://h/s, enabled\n"
    )
    assert tool.done("-updatedestination", "-dest_id", "1", "-status_uri", "none") == (
        "destination 1: MPG, product gpc1, no status_uri, enabled\n"
    )
    assert tool.rows("SELECT status_uri FROM rcDestination") == [(None,)]
    assert tool.lines("-listdestinations") == ["1 MPG gpc1 NULL NULL enabled c"]


@pytest.mark.parametrize("mode", ["-listtargets", "-listdestinations", "-listinterests"])
def test_of_nothing_nothing_is_shown(tool: Disttool, mode: str) -> None:
    tool.chip(1)
    assert tool.done(mode) == ""
    assert tool.done(mode, "-simple") == ""


NEW = ("-definedestination", "-name", "new")
REFUSALS: dict[str, tuple[Sequence[str], int, str]] = {
    "stage": ((*TARGET[:-1], "chips"), 3, "-stage: one of raw, chip, chip_bg, "),
    "state": ((*TARGET, "-set_state", "full"), 3, "-set_state: enabled or disabled expected, not"),
    "backslash": (("-definetarget", "-dist_group", "x", "-filter", "r\\", "-stage", "chip"),
        3, "-filter: a pattern of %, _"),
    "nothing": (("-definetarget",), 3,
        "-dist_group is missing\n-definetarget: -filter is missing\n-definetarget: -stage is"),
    "empty group": (("-definetarget", "-dist_group", "", "-filter", "%", "-stage", "chip"), 3,
        "-dist_group: a text without"),
    "target twice": (TARGET, 1, "target 1: chip, filter r.%, dist_group SweetSpot, full, enabled:"),
    "target twice, other state": ((*TARGET, "-set_state", "disabled"), 1,
        "there already; disttool -updatetarget changes its state"),
    "destination twice": ((*DESTINATION[:-1], "other"), 1, "destination 1: MPG, product gpc1"),
    "no product": (NEW, 3, "-definedestination: -product is missing"),
    "product's name": ((*NEW, "-product", "../x"), 3, "product: a name with characters outside"),
    "product of the server": ((*NEW, "-product", "metrics"), 3, "a page of this name"),
    "product by case": ((*NEW, "-product", "GPC1"), 1, "differs only by case"),
    "description": ((*NEW, "-product", "p2", "-comment", "a|b"), 3, "holds '|' or '#'"),
    "ftp": ((*NEW, "-product", "p2", "-status_uri", "ftp://h/s"), 3,
        "status_uri: an address like http://host/ds/PRODUCT/index.txt expected"),
    "no product in it": ((*NEW, "-product", "p2", "-status_uri", "http://h/"), 3, "status_uri: an"),
    "query": ((*NEW, "-product", "p2", "-status_uri", "http://h/s?x"), 3, "status_uri: an address"),
    "port": ((*NEW, "-product", "p2", "-status_uri", "http://h:x/s"), 3, "status_uri: an address"),
    "no uri at all": ((*NEW, "-product", "p2", "-status_uri", "none"), 3, "query, not none"),
    "no host": ((*NEW, "-product", "p2", "-status_uri", "http:///s"), 3, "status_uri: an address"),
    "no address": ((*NEW, "-product", "p2", "-status_uri", "http://[::1/s"), 3, "status_uri: an"),
    "all at once": ((*NEW, "-product", "a/b", "-status_uri", "x"), 3, "\nstatus_uri: "),
    "interest twice": (INTEREST, 1, "interest: destination 1 (MPG) in target 1 (chip), enabled:"),
    "interest of nobody": (("-defineinterest", "-target_id", "1"), 3, "-dest_id or -dest_name is"),
    "interest of unknown": (("-defineinterest", "-dest_id", "7", "-target_id", "1"), 1,
        "destination 7: there is none; disttool -listdestinations"),
    "interest in unknown": (("-defineinterest", "-dest_id", "1", "-target_id", "7"), 1,
        "target 7: there is none with this id; disttool -listtargets"),
    "two destinations in one": (
        ("-defineinterest", "-dest_id", "1", "-dest_name", "other", "-target_id", "1"), 1,
        "destination 1 other: there is none"),
    "update of unknown target": (("-updatetarget", "-target_id", "7", "-set_state", "disabled"), 1,
        "target 7: there is none"),
    "update of nothing": (("-updatetarget", "-target_id", "1"), 3, "-set_state is missing"),
    "update of nothing there": (("-updatedestination", "-dest_id", "1"), 3,
        "-updatedestination: -set_state or -status_uri or -comment is missing"),
    "another product": (
        ("-updatedestination", "-dest_id", "1", "-set_state", "enabled", "-product", "p2"), 3,
        "-product does not go with -updatedestination"),
    "update of unknown destination": (
        ("-updatedestination", "-dest_name", "x", "-set_state", "disabled"), 1, "destination x:"),
    "update to ftp": (("-updatedestination", "-dest_id", "1", "-status_uri", "ftp://h/s"), 3,
        "status_uri: an address"),
    "update of no interest": (
        ("-updateinterest", "-dest_id", "1", "-target_id", "2", "-set_state", "disabled"), 1,
        "destination 1 (MPG): no interest in target 2; disttool -defineinterest makes it"),
    "id": (("-updatetarget", "-target_id", "x", "-set_state", "enabled"), 2, "whole number"),
}  # fmt: skip


@pytest.mark.parametrize(("call", "code", "reason"), REFUSALS.values(), ids=REFUSALS)
def test_what_is_wrong_is_refused(
    defined: Disttool, call: Sequence[str], code: int, reason: str
) -> None:
    defined.done(*TARGET, "-clean")
    before = defined.content()
    status, out, err = defined(*call)
    assert (status, out) == (code, "")
    assert reason in err
    assert "Traceback" not in err
    assert defined.content() == before
    assert {path.name for path in defined.root.iterdir() if path.is_dir()} == {"gpc1"}
