"""Commands of many modes: what a call may say, and how rows are printed."""

from collections.abc import Sequence

import pytest

from mirror.errors import ConfigError
from parse_config import load_mdc
from server.modes import Given, Mode, Option, fit, format_rows, read_call

OPTIONS = {
    "stage": Option("text", "the stage"),
    "label": Option("texts", "a label; may be repeated"),
    "pub_id": Option("number", "the run's id"),
    "dtime_script": Option("seconds", "how long it took"),
    "pretend": Option("flag", "change nothing"),
}
MODES = {
    "definerun": Mode(("stage", ("label", "pub_id")), ("pretend",), "define runs"),
    "add": Mode(("pub_id",), ("dtime_script",), "add a result"),
}


def call(*argv: str) -> tuple[str, Given]:
    return read_call("tool", "What it does.", MODES, OPTIONS, argv)


def problems(*argv: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        call(*argv)
    return caught.value.problems


def test_one_dash_or_two_are_the_same() -> None:
    mode, given = call("-definerun", "--stage", "diff", "-label", "a", "--label", "b")
    assert (mode, given.stage, given.label, given.pretend) == (
        "definerun",
        "diff",
        ["a", "b"],
        False,
    )
    mode, given = call("--add", "-pub_id", "0", "-dtime_script", "2.5")
    assert (mode, given.pub_id, given.dtime_script, given.stage) == ("add", 0, 2.5, None)


REFUSED = {
    "no mode": ([], ["one of -definerun, -add expected"]),
    "two modes": (
        ["-add", "-definerun", "-pub_id", "1"], ["one of -definerun, -add expected, not 2"],
    ),
    "everything that is missing": (
        ["-definerun"],
        ["-definerun: -stage is missing", "-definerun: -label or -pub_id is missing"],
    ),
    "an option of another mode": (
        ["-add", "-pub_id", "1", "-stage", "diff", "-pretend"],
        ["-stage does not go with -add", "-pretend does not go with -add"],
    ),
    "a text that no mdc can hold": (
        ["-definerun", "-stage", "a#b", "-label", "c\nd"],
        [
            "-stage: a text without '#' and control characters expected, not 'a#b'",
            "-label: a text without '#' and control characters expected, not 'c\\nd'",
        ],
    ),
    "an empty text": (
        ["-definerun", "-stage", "", "-label", "c"],
        ["-stage: a text without '#' and control characters expected, not ''"],
    ),
    "a text that says there is none": (
        ["-definerun", "-stage", "NULL", "-label", "c"],
        ["-stage: a text without '#' and control characters expected, not 'NULL'"],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("argv", "told"), REFUSED.values(), ids=REFUSED)
def test_what_is_refused(argv: Sequence[str], told: Sequence[str]) -> None:
    assert problems(*argv) == list(told)


@pytest.mark.parametrize(
    "argv",
    [
        ["-add", "-pub_id", "-1"],
        ["-add", "-pub_id", "1e3"],
        ["-add", "-pub_id", "٣"],
        ["-add", "-pub_id", "99999999999999999999"],
        ["-add", "-pub_id", "1", "-dtime_script", "nan"],
        ["-add", "-pub_id", "1", "-dtime_script", "soon"],
        ["-add", "-pub", "1"],
    ],
    ids=["negative", "exponent", "other digits", "too large", "nan", "no number", "abbreviated"],
)
def test_wrong_numbers_and_options_are_wrong_usage(
    argv: Sequence[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        call(*argv)
    assert caught.value.code == 2
    assert "usage: tool -MODE" in capsys.readouterr().err


COLUMNS = {"pub_id": "S64", "label": "STR", "seconds": "F64", "active": "BOOL"}
ROWS = [(1, "nightly science", 2.5, True), (2, None, None, False)]


def test_rows_are_mdc_that_reads_back() -> None:
    text = format_rows("publishRun", COLUMNS, ROWS, simple=False)
    assert text.startswith("publishRun MULTI\n\npublishRun METADATA\n")
    first, second = load_mdc(text)["publishRun"]
    assert {name: first[name] for name in first} == {
        "pub_id": 1, "label": "nightly science", "seconds": 2.5, "active": True,
    }  # fmt: skip
    assert (second["label"], second["seconds"], second["active"]) == (None, None, False)


def test_simple_rows_are_lines() -> None:
    assert format_rows("publishRun", COLUMNS, ROWS, simple=True) == (
        "1 nightly science 2.5 T\n2 NULL NULL F"
    )


@pytest.mark.parametrize("simple", [True, False], ids=["simple", "mdc"])
def test_no_rows_no_text(simple: bool) -> None:
    assert format_rows("publishRun", COLUMNS, [], simple=simple) == ""


def test_a_message_is_made_fit_for_a_line() -> None:
    assert fit("  file #3:\nnot there\t ") == "file  3: not there"
    assert len(fit("x" * 5000)) == 1000
