"""What an exit status means for the items of an event (OPUS, "After the command")."""

import pytest

from formats.outcomes import FileChange, Outcome
from server.opus.outcome import (
    Rules,
    Verdict,
    is_fatal,
    item_statuses,
    said,
    substituted,
    verdicts,
)

DONE = FileChange("FILE_SUCCESS", "_ok", None)
BAD = FileChange("FILE_ERROR.DIRECTORY", None, "/bad")
IGNORED = FileChange("FILE_IGNORE", "_ign", None)

RULES = Rules(
    {
        0: "SUCCESS", 1: "OSF_SUCCESS1", 2: "FILE_SUCCESS", 3: "FILE_ERROR", 4: "NULL",
        5: "CHECK_FILE", 6: "XPOLL_ERROR", 7: "FILE_IGNORE", 8: "NOTHING", 9: "FILE_ACTION",
        100: "SUCCESS", 200: "SUCCESS",
    },
    {
        "OSF_SUCCESS1": Outcome({"GC": "c", "CA": "n"}, None),
        "FILE_SUCCESS": Outcome({}, DONE),
        "FILE_ERROR": Outcome({}, BAD),
        "FILE_IGNORE": Outcome({}, IGNORED),
        "XPOLL_ERROR": Outcome({"GC": "x"}, None),
    },
)  # fmt: skip


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        pytest.param(0, Verdict({}), id="SUCCESS: nothing more"),
        pytest.param(1, Verdict({"GC": "c", "CA": "n"}), id="every XX of a set is written"),
        pytest.param(2, Verdict({}, DONE, action=True), id="FILE_SUCCESS, then FILE_ACTION"),
        pytest.param(3, Verdict({}, BAD), id="FILE_ERROR moves, and is no error"),
        pytest.param(4, Verdict({}, back=True), id="NULL: as it was before"),
        pytest.param(7, Verdict({}, IGNORED), id="any name will do"),
        pytest.param(8, Verdict({}), id="a set without keywords does nothing"),
        pytest.param(9, Verdict({}, action=True), id="FILE_ACTION alone"),
        pytest.param(200, Verdict({}), id="a status above 127 is looked up"),
    ],
)
def test_a_status_in_the_map(status: int, expected: Verdict) -> None:
    assert RULES.verdict(status) == expected


@pytest.mark.parametrize(
    ("status", "why"),
    [
        pytest.param(99, "exit status 99 is in no XPOLL_STATE", id="not in the map"),
        pytest.param(6, "exit status 6 is an XPOLL_ERROR", id="mapped to XPOLL_ERROR"),
        pytest.param(-9, "end by signal 9 is in no XPOLL_STATE", id="ended by a signal"),
        pytest.param(100, "exit status 100 is in no XPOLL_STATE", id="fatal: not looked up"),
        pytest.param(5, "exit status 5 of an item is CHECK_FILE again", id="CHECK_FILE again"),
    ],
)
def test_an_error(status: int, why: str) -> None:
    assert RULES.verdict(status) == Verdict({"GC": "x"}, BAD, error=why)


def test_an_error_of_a_process_that_says_nothing_of_errors_leaves_all_as_it_is() -> None:
    assert Rules({}, {}).verdict(1) == Verdict({}, error="exit status 1 is in no XPOLL_STATE")


@pytest.mark.parametrize(
    ("status", "fatal"), [(99, False), (100, True), (127, True), (128, False), (-15, False)]
)
def test_fatal_statuses(status: int, fatal: bool) -> None:
    assert is_fatal(status) is fatal


def test_check_file_is_asked_for_by_a_status() -> None:
    assert [status for status in range(256) if RULES.checks_file(status)] == [5]
    assert not Rules({100: "CHECK_FILE"}, {}).checks_file(100)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("OSF_STATUS = 1\nOSF_STATUS1 = 3\nOSF_STATUS2 = 5\n", [1, 3, 5], id="entries"),
        pytest.param("EVENT_STATUS = 1\nEVENT_STATUS1 = 3\nEVENT_STATUS2 = 0", [1, 3, 0],
            id="files, the last line without its end"),
        pytest.param("OSF_STATUS2=07\r\n\tOSF_STATUS  =  00 ! well\r\n", [0, None, 7],
            id="any order, blanks, comments, CRLF; one is missing"),
        pytest.param("OSF_STATUS = 1\nOSF_STATUS = 2\n", [2, None, None], id="the last one counts"),
        pytest.param("OSF_STATUS = 256\nOSF_STATUS1 = x\nOSF_STATUS3 = 1\nNO = 1\n",
            [None, None, None], id="no statuses, and one of no item"),
        pytest.param("", [None, None, None], id="nothing"),
    ],
)  # fmt: skip
def test_the_statuses_of_items(text: str, expected: list[int | None]) -> None:
    assert item_statuses(text, 3) == expected


def test_each_item_is_mapped_on_its_own() -> None:
    found = verdicts(RULES, [1, None, 4])
    assert found[0] == Verdict({"GC": "c", "CA": "n"})
    assert found[1] == Verdict(
        {"GC": "x"}, BAD, error="EVENT_STATE_FILE has no status of it, EVENT_STATUS1 = NN"
    )
    assert found[2] == Verdict({}, back=True)


NAMES = (
    "plain", "two words", "it's", 'say "it"', "a;rm -rf b", "$(touch c)", "`touch d`", "-rf",
    "new\nline", "a|b>c&d", "\\", "$HOME", "*", "^f", "\\1",
)  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("token", ["^f", "^F"])
def test_the_file_of_an_action_is_one_argument(name: str, token: str) -> None:
    assert substituted(["rm", "-f", token], name) == ["rm", "-f", name]
    assert substituted(["x", f"--in={token}.bak"], name) == ["x", f"--in={name}.bak"]


def test_a_status_for_people() -> None:
    assert [said(status) for status in (3, 0, -1, -15)] == [
        "exit status 3", "exit status 0", "end by signal 1", "end by signal 15",
    ]  # fmt: skip
