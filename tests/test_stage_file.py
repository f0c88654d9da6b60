"""Stage files: the columns of a path's blackboard, and what their letters mean (OPUS, "Stage
files")."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from formats.stage_file import Letter, StageFile, examine_stage_file, read_stage_file
from mirror.errors import ConfigError

TWO = """\
NSTAGE = 2
STAGE01.TITLE = FE
 STAGE01.DESCRIPTION = 'Fetch'
 STAGE01.NSTATUS.W = 'Waiting for a fileset'
 STAGE01.PSTATUS.P = 'Being fetched'
 STAGE01.CSTATUS.C = 'Fetched'
 STAGE01.TSTATUS.X = 'Trouble'
STAGE02.TITLE = CL
 STAGE02.NSTATUS.- = 'Not to be deleted'
 STAGE02.NSTATUS.D = 'Marked for deletion'
"""


def write(directory: Path, text: str, name: str = "blue_pipeline.stage") -> Path:
    path = directory / name
    path.write_text(text, encoding="utf-8", newline="")
    return path


def read(directory: Path, text: str = TWO) -> StageFile:
    return read_stage_file(write(directory, text))


def problems_of(directory: Path, text: str) -> list[str]:
    with pytest.raises(ConfigError) as raised:
        read(directory, text)
    return raised.value.problems


def test_stages_in_order_with_their_letters(tmp_path: Path) -> None:
    stages = read(tmp_path)
    assert stages.titles() == ["FE", "CL"]
    fetch = stages.stage("FE")
    assert fetch is not None
    assert fetch.description == "Fetch"
    assert fetch.letters == {
        "W": Letter("N", "Waiting for a fileset"),
        "P": Letter("P", "Being fetched"),
        "C": Letter("C", "Fetched"),
        "X": Letter("T", "Trouble"),
    }
    assert stages.stages[1].description == ""
    assert stages.stage("XX") is None
    assert stages.warnings == ()


@pytest.mark.parametrize(
    ("letter", "known"),
    [
        pytest.param("w", True, id="without case"),
        pytest.param("W", True, id="as written"),
        pytest.param("_", True, id="not set, in every stage"),
        pytest.param("-", False, id="of another stage"),
        pytest.param("q", False, id="none"),
    ],
)
def test_letters_are_compared_without_case(tmp_path: Path, letter: str, known: bool) -> None:
    fetch = read(tmp_path).stages[0]
    assert fetch.knows(letter) is known
    assert (fetch.meaning(letter) is not None) is (known and letter != "_")


def test_stages_may_stand_in_any_order(tmp_path: Path) -> None:
    lines = TWO.splitlines(keepends=True)
    assert read(tmp_path, "".join(reversed(lines))).titles() == ["FE", "CL"]


def test_tabs_crlf_and_no_blanks(tmp_path: Path) -> None:
    text = TWO.replace(" = ", "=").replace("\n ", "\n\t").replace("\n", "\t! note\r\n")
    assert read(tmp_path, text).stages == read(tmp_path).stages


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        pytest.param("NSTAGE = 2\n", "", ": NSTAGE: required", id="no NSTAGE"),
        pytest.param("NSTAGE = 2", "NSTAGE = two", ":1: NSTAGE: the number", id="no number"),
        pytest.param("NSTAGE = 2", "NSTAGE = 0", ":1: NSTAGE: the number", id="no stages"),
        pytest.param("NSTAGE = 2", "NSTAGE = 3", ":1: NSTAGE: 3 stages expected, there is no"
            " STAGE03", id="too few"),
        pytest.param("NSTAGE = 2", "NSTAGE = 1", ":1: NSTAGE: 1 stages expected, there is STAGE02"
            " too", id="too many"),
        pytest.param("NSTAGE = 2", "NSTAGE = 999", "STAGE03, STAGE04, STAGE05, STAGE06, STAGE07 …",
            id="many too few"),
        pytest.param("STAGE01.TITLE = FE\n", "", ": STAGE01.TITLE: required", id="no title"),
        pytest.param("= FE", "= FET", ":2: STAGE01.TITLE: two letters", id="title too long"),
        pytest.param("= FE", "= F_", ":2: STAGE01.TITLE: two letters", id="title not letters"),
        pytest.param("= CL", "= FE", ":8: STAGE02.TITLE: a title of its own expected, 'FE' is that"
            " of line 2 too", id="title twice"),
        pytest.param("= CL", "= fe", ":8: STAGE02.TITLE: a title of its own", id="title as well"),
        pytest.param("TSTATUS.X", "TSTATUS.w", ":7: STAGE01.TSTATUS.w: one meaning of a letter"
            " expected", id="letter twice"),
        pytest.param("NSTATUS.D", "NSTATUS._", ":10: STAGE02.NSTATUS._: _ means not set", id="_"),
        pytest.param("NSTATUS.D", "NSTATUS.DD", ":10: STAGE02.NSTATUS.DD: STAGEnn.", id="letters"),
        pytest.param("STAGE02.TITLE", "STAGE2.TITLE", ":8: STAGE2.TITLE: STAGEnn.", id="1 digit"),
        pytest.param("02.NSTATUS.D", "02.NSTATUS.D ", "", id="nothing wrong"),
    ],
)  # fmt: skip
def test_refused_with_file_line_keyword(tmp_path: Path, old: str, new: str, problem: str) -> None:
    assert old in TWO
    text = TWO.replace(old, new)
    if not problem:
        assert read(tmp_path, text).titles() == ["FE", "CL"]
        return
    found = problems_of(tmp_path, text)
    assert any(problem in one for one in found), found
    assert all(one.startswith(f"{tmp_path}/blue_pipeline.stage:") for one in found)


def test_all_problems_at_once(tmp_path: Path) -> None:
    text = "\n".join(problems_of(tmp_path, "nonsense\nSTAGE01.TITLE = FET\nSTAGEX = 1\n"))
    for part in (":1: KEYWORD = VALUE", ":3: STAGEX:", ":2: STAGE01.TITLE:", ": NSTAGE: required"):
        assert part in text
    assert len(text.splitlines()) == 4


def test_keyword_of_nothing_and_keyword_twice_are_warnings(tmp_path: Path) -> None:
    stages = read(tmp_path, TWO + "AUTHOR = me\nNSTAGE = 2\n")
    assert stages.warnings == (
        f"{tmp_path}/blue_pipeline.stage:12: NSTAGE: given in line 1 too; this one stands",
        f"{tmp_path}/blue_pipeline.stage:11: AUTHOR: no keyword of a stage file; nothing reads it",
    )


def test_missing_file_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as raised:
        read_stage_file(tmp_path / "no.stage")
    assert (
        str(raised.value)
        == f"{tmp_path}/no.stage: a stage file expected: No such file or directory"
    )


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["NSTAGE", "STAGE01.TITLE", "STAGE02.NSTATUS.W", "STAGE2", "A"]),
            st.sampled_from(["1", "2", "FE", "''", "'a b'", "", "x y"]),
        )
    )
)
def test_any_lines_are_read(
    tmp_path_factory: pytest.TempPathFactory, lines: list[tuple[str, str]]
) -> None:
    text = "".join(f"{name} = {value}\n" for name, value in lines)
    path = write(tmp_path_factory.mktemp("any"), text)
    stages, problems = examine_stage_file(path)
    assert problems or len(stages.stages) == len(set(stages.titles()))
