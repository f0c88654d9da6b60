"""`opus-check`: every problem, every value and where it comes from."""

from pathlib import Path

import pytest

from mirror.errors import ConfigError
from server.faults import CONFIGURATION, code_of
from server.opus.check import Report, check, main

STAGES = """\
NSTAGE = 2
STAGE01.TITLE = FE
STAGE01.DESCRIPTION = 'Fetch'
STAGE01.NSTATUS.W = 'Waiting'
STAGE01.PSTATUS.P = 'Being fetched'
STAGE02.TITLE = CL
STAGE02.CSTATUS.C = 'Cleaned'
"""
BLUE = """\
OPUS_OBSERVATIONS_DIR = WORK:blue/obs
inbox = WORK:blue/in
*.POLLING_TIME = 5
FETCH.WHO = me
"""
FETCH = """\
POLLING_TIME = 60
TASK = < xpoll -p $PATH_FILE -r fetch >
COMMAND = 'SUB[BIN]/fetch it'
XPOLL_STATE.00 = OSF_OK
OSF_OK.FE = p
OSF_RANK = 1
OSF_TRIGGER1.FE = w
OSF_PROCESSING.FE = p
ENV.INBOX = inbox
WHO = you
"""


FILES = """\
FILE_RANK = 2
FILE_DIRECTORY1 = inbox
FILE_PROCESSING = _proc
FILE_SUCCESS = _ok
FILE_ERROR = _bad
"""


class Definitions:
    """A definitions directory with a complete path blue, and the environment that names it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.environ = {
            "OPUS_DEFINITIONS_DIR": str(root / "defs"), "WORK": "/data", "BIN": str(root / "bin"),
        }  # fmt: skip
        (root / "bin").mkdir()
        (root / "bin" / "fetch").touch(0o755)
        self.write("blue.path", BLUE)
        self.write("blue_pipeline.stage", STAGES)
        self.write("fetch.resource", FETCH)

    def write(self, name: str, text: str, directory: str = "defs") -> str:
        path = self.root / directory / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return str(path)

    def check(self, *names: str, only: tuple[str, ...] = ()) -> Report:
        return check(names, self.environ, only)


@pytest.fixture
def definitions(tmp_path: Path) -> Definitions:
    return Definitions(tmp_path)


def test_path_without_problems(definitions: Definitions) -> None:
    report = definitions.check("blue")
    defs = f"{definitions.root}/defs"
    assert report.problems == []
    assert report.warnings == []
    assert report.lines == [
        f"path blue: {defs}/blue.path",
        "  OPUS_OBSERVATIONS_DIR = /data/blue/obs    (line 1)",
        "  inbox = /data/blue/in    (line 2)",
        "  *.POLLING_TIME = 5    (line 3)",
        "  FETCH.WHO = me    (line 4)",
        "",
        f"stages: {defs}/blue_pipeline.stage",
        "  FE Fetch: W Waiting (N), P Being fetched (P)",
        "  CL : C Cleaned (C)",
        "",
        f"process fetch on blue: {defs}/fetch.resource",
        f"  POLLING_TIME = 5    ({defs}/blue.path:3: *.POLLING_TIME, *.KEY of the path file)",
        "  TASK = xpoll -p $PATH_FILE -r fetch    (line 2)",
        f"  COMMAND = {definitions.root}/bin/fetch it    (line 3, SUB[VAR] replaced)",
        "  XPOLL_STATE.00 = OSF_OK    (line 4)",
        "  OSF_OK.FE = p    (line 5)",
        "  OSF_RANK = 1    (line 6)",
        "  OSF_TRIGGER1.FE = w    (line 7)",
        "  OSF_PROCESSING.FE = p    (line 8)",
        f"  ENV.INBOX = /data/blue/in    ({defs}/blue.path:2: inbox, the value is a keyword of the"
        " path file)",
        f"  WHO = me    ({defs}/blue.path:4: FETCH.WHO, PROC.KEY of the path file)",
    ]


@pytest.mark.parametrize(
    ("name", "titles"),
    [
        ("blue", ["path blue", "stages", "process fetch on blue"]),
        ("BLUE", ["path blue", "stages", "process fetch on blue"]),
        ("blue.path", ["path blue", "stages", "process fetch on blue"]),
        ("defs/blue.path", ["path blue", "stages", "process fetch on blue"]),
        ("defs/fetch.resource", ["process fetch"]),
        ("defs/blue_pipeline.stage", ["stages"]),
    ],
)
def test_names_of_paths_and_files_of_the_three_kinds(
    definitions: Definitions, name: str, titles: list[str]
) -> None:
    report = definitions.check(str(definitions.root / name) if "/" in name else name)
    heads = [line.partition(": ")[0] for line in report.lines if not line.startswith(" ")]
    assert [head for head in heads if head] == titles


def test_resource_files_along_the_definitions_path_then_beside(definitions: Definitions) -> None:
    """The first of a name counts."""
    definitions.write("fetch.resource", "nonsense", "beside")
    definitions.write("tell.resource", FETCH.replace("-r fetch", "-r tell"), "beside")
    file = definitions.write("green.path", BLUE, "beside")
    definitions.write("green_pipeline.stage", STAGES)
    report = definitions.check(file)
    assert report.problems == []
    found = [line for line in report.lines if line.startswith("process")]
    assert found == [
        f"process fetch on green: {definitions.root}/defs/fetch.resource",
        f"process tell on green: {definitions.root}/beside/tell.resource",
    ]


def test_one_process_only(definitions: Definitions) -> None:
    definitions.write("broken.resource", "nonsense")
    assert definitions.check("blue", only=("fetch",)).problems == []
    (problem,) = definitions.check("blue", only=("fetch", "none")).problems
    assert problem.startswith("none: none.resource expected in ")


def test_every_problem_of_every_file(definitions: Definitions) -> None:
    definitions.write("blue.path", BLUE.replace("WORK:blue/in", "SUB[INBOX]") + "nonsense\n")
    definitions.write("blue_pipeline.stage", STAGES.replace("NSTAGE = 2", "NSTAGE = 3"))
    definitions.write("fetch.resource", FETCH.replace("OSF_RANK = 1", "OSF_RANK = first"))
    definitions.write("other.resource", FETCH.replace("FE", "GE"))
    report = definitions.check("blue", "none", str(definitions.root / "no.stage"))
    expected = (
        "/blue.path:5: KEYWORD = VALUE expected",
        "/blue.path:2: inbox: SUB[INBOX]: the environment variable INBOX is not set",
        "/blue_pipeline.stage:1: NSTAGE: 3 stages expected",
        "/fetch.resource:6: OSF_RANK: a whole number",
        "/other.resource:7: OSF_TRIGGER1.GE: a stage of ",
        "/other.resource:8: OSF_PROCESSING.GE: a stage of ",
        "/other.resource:5: OSF_OK.GE: a stage of ",
        "none: none.path expected in ",
        "/no.stage: a stage file expected",
    )
    for part in expected:
        assert any(part in problem for problem in report.problems), part
    assert len(report.problems) == len(expected)


@pytest.mark.parametrize(
    ("name", "old", "new", "warning"),
    [
        pytest.param("fetch.resource", "TRIGGER1.FE = w", "TRIGGER1.FE = q",
            "fetch.resource:7: OSF_TRIGGER1.FE: 'q' has no meaning in ", id="unknown letter"),
        pytest.param("fetch.resource", "WHO = you", "XPOLL_ERROR_CUONT = 1\nWHO = you",
            "fetch.resource:10: XPOLL_ERROR_CUONT: is XPOLL_ERROR_COUNT meant?", id="misspelt"),
        pytest.param("fetch.resource", "WHO = you", "FILE_MAXTRAGS2 = 1\nWHO = you",
            "FILE_MAXTRAGS2: is FILE_MAXTARGS meant? nothing reads", id="misspelt with a number"),
        pytest.param("fetch.resource", "WHO = you", "OSF_NEVER.FE = p\nWHO = you",
            "fetch.resource:10: OSF_NEVER.FE: no XPOLL_STATE names OSF_NEVER", id="unused set"),
        pytest.param("fetch.resource", "/fetch it", "/gone it",
            "/bin/gone is not there, or cannot be run", id="no command"),
        pytest.param("fetch.resource", "'SUB[BIN]/fetch it'", "bin/fetch",
            "COMMAND: bin/fetch begins wherever the process is started", id="relative command"),
        pytest.param("fetch.resource", "WHO = you", "OUTPATH = /gone\nMINBLOCKS = 1\nWHO = you",
            "fetch.resource:10: OUTPATH: /gone is not there; with MINBLOCKS", id="no disk"),
        pytest.param("fetch.resource", "WHO = you", f"{FILES}FILE_OBJECT1 = *_bad\nWHO = you",
            "FILE_OBJECT1: *_bad asks for files that this process itself has given _bad",
            id="files of its own"),
        pytest.param("fetch.resource", "WHO = you",
            "XPOLL_STATE.02 = CHECK_FILE\nENV.EVENT_STATE_FILE = states\nWHO = you",
            "ENV.EVENT_STATE_FILE: OPUS_HOME_DIR is not set, the directory of states",
            id="no home"),
        pytest.param("blue.path", "FETCH.WHO = me", "FETCH.ENV.INBOX = /in",
            "blue.path:4: FETCH.ENV.INBOX: FETCH.INBOX expected", id="override with ENV"),
        pytest.param("fetch.resource", "WHO = you", "ENV.OUTPATH = out\nWHO = you",
            "fetch.resource:10: ENV.OUTPATH: 'out' is no keyword of ", id="unbound directory"),
        pytest.param("fetch.resource", "WHO = you", "XPOLL_STATE.01 = NO\nWHO = you",
            "fetch.resource:10: XPOLL_STATE.01: NO has no keyword", id="set without keyword"),
        pytest.param("fetch.resource", "WHO = you", "",
            "blue.path:4: FETCH.WHO: FETCH.resource has no WHO", id="override of nothing"),
        pytest.param("blue.path", "*.POLLING_TIME", "*.POLING_TIME",
            "blue.path:3: *.POLING_TIME: no process has POLING_TIME", id="override of nobody"),
        pytest.param("blue.path", "FETCH.WHO = me", "FETCH.WHO = me\ninbox = /in",
            "blue.path:5: inbox: given in line 2 too", id="keyword twice"),
        pytest.param("blue_pipeline.stage", "NSTAGE", "A = b\nNSTAGE",
            "blue_pipeline.stage:1: A: no keyword of a stage file", id="keyword of nothing"),
    ],
)  # fmt: skip
def test_warnings(definitions: Definitions, name: str, old: str, new: str, warning: str) -> None:
    text = {"fetch.resource": FETCH, "blue.path": BLUE, "blue_pipeline.stage": STAGES}[name]
    assert old in text
    definitions.write(name, text.replace(old, new))
    report = definitions.check("blue")
    assert report.problems == []
    assert [warning in one for one in report.warnings] == [True]


def test_an_empty_value_is_shown_as_it_is_written(definitions: Definitions) -> None:
    definitions.write("fetch.resource", FETCH + "ENV.NONE = ''\n")
    assert "  ENV.NONE = ''    (line 11)" in definitions.check("blue").lines


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ("OSF_ABSENT = a\n", "fetch.resource:11: OSF_ABSENT: 'a' has no meaning in "),
        ("OSF_PROCESSING.FE = a\n", "fetch.resource:11: OSF_PROCESSING.FE: 'a' has no meaning"),
        ("XPOLL_ERROR.FE = a\n", "fetch.resource:11: XPOLL_ERROR.FE: 'a' has no meaning"),
        (
            FILES.replace("inbox", "nowhere") + "FILE_OBJECT1 = *\n",
            "FILE_DIRECTORY1: 'nowhere' is no keyword of",
        ),
        (
            FILES.replace("SUCCESS = _ok", "SUCCESS.DIRECTORY = out") + "FILE_OBJECT1 = *\n",
            "FILE_SUCCESS.DIRECTORY: 'out' is no keyword of",
        ),
    ],
    ids=["absent", "processing", "outcome", "where files come from", "where files go"],
)
def test_what_the_process_would_refuse(definitions: Definitions, more: str, told: str) -> None:
    definitions.write("fetch.resource", FETCH + more)
    report = definitions.check("blue")
    assert [told in problem for problem in report.problems] == [True]


def test_a_relative_directory_that_is_there_is_a_warning(
    definitions: Definitions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(definitions.root)
    definitions.write("fetch.resource", FETCH + "OUTPATH = defs\n")
    report = definitions.check("blue")
    assert report.problems == []
    assert ["'defs' is no keyword of" in one for one in report.warnings] == [True]


def test_a_board_that_would_be_wherever_processes_start(definitions: Definitions) -> None:
    definitions.write("blue.path", BLUE.replace("WORK:blue/obs", "board"))
    (problem,) = definitions.check("blue").problems
    assert problem.endswith(
        "blue.path:1: OPUS_OBSERVATIONS_DIR: an absolute directory expected, not 'board'"
    )


def test_letters_without_case_and_not_set_are_known(definitions: Definitions) -> None:
    definitions.write("fetch.resource", FETCH.replace("FE = w", "FE = W\nOSF_TRIGGER1.CL = _"))
    assert definitions.check("blue").warnings == []


def test_path_files_do_not_override_each_other(definitions: Definitions) -> None:
    other = definitions.write("blue.path", BLUE, "other")
    definitions.environ["OPUS_DEFINITIONS_DIR"] += f":{definitions.root}/other"
    (warning,) = definitions.check("blue").warnings
    assert f"blue.path: {other} has the same name" in warning


def test_a_file_by_two_names_is_one(definitions: Definitions) -> None:
    """Where the definitions path leads to a directory twice, nothing is there twice."""
    (definitions.root / "link").symlink_to(definitions.root / "defs")
    definitions.environ["OPUS_DEFINITIONS_DIR"] += f":{definitions.root}/link"
    report = definitions.check("blue", str(definitions.root / "link" / "blue.path"))
    assert report.problems == []
    assert not [one for one in report.warnings if "same name" in one]


def test_each_path_uses_a_directory_of_its_own(definitions: Definitions) -> None:
    definitions.write("green_pipeline.stage", STAGES)
    definitions.write("green.path", BLUE.replace("blue/obs", "blue/./obs/"))
    (problem,) = definitions.check("blue", "green").problems
    assert "/green.path:1: OPUS_OBSERVATIONS_DIR: a directory of its own expected" in problem
    assert definitions.check("blue", "blue").problems == []


def test_resource_file_alone(definitions: Definitions) -> None:
    file = definitions.write("fetch.resource", FETCH + "ENV.OUT = red->OUT\n")
    report = definitions.check(file)
    assert "  ENV.INBOX = inbox    (line 9)" in report.lines
    (problem,) = report.problems
    assert problem.startswith(f"{file}:11: ENV.OUT: red: red.path expected in ")


def test_directory_is_not_judged_without_a_path(definitions: Definitions) -> None:
    file = definitions.write("fetch.resource", FETCH + "OUTPATH = out\n")
    assert definitions.check(file).warnings == []


def test_override_of_what_is_in_the_environment_changes_something(
    definitions: Definitions,
) -> None:
    definitions.write("blue.path", BLUE + "FETCH.INBOX = /in\n*.INBOX = /in\n")
    assert not [one for one in definitions.check("blue").warnings if "changes nothing" in one]


def test_override_of_all_is_not_judged_by_one_process(definitions: Definitions) -> None:
    definitions.write("blue.path", BLUE + "*.NOBODY = 1\n")
    assert definitions.check("blue", only=("fetch",)).warnings == []


def test_stage_file_that_is_not_there(definitions: Definitions) -> None:
    definitions.write("blue.path", BLUE + "STAGE_FILE = WORK:no.stage\n")
    (problem,) = definitions.check("blue").problems
    assert problem == "/data/no.stage: a stage file expected: No such file or directory"


class TestCommand:
    """What main prints and returns."""

    @pytest.fixture(autouse=True)
    def _environment(self, definitions: Definitions, monkeypatch: pytest.MonkeyPatch) -> None:
        for name, value in definitions.environ.items():
            monkeypatch.setenv(name, value)

    def test_nothing_wrong(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["blue", "-r", "fetch"]) == 0
        out, error = capsys.readouterr()
        assert out.startswith("path blue: ")
        assert not out.endswith("\n\n")
        assert error == ""

    def test_warnings_after_the_values(
        self, definitions: Definitions, capsys: pytest.CaptureFixture[str]
    ) -> None:
        definitions.write("fetch.resource", FETCH + "WHO = us\n")
        assert main(["blue"]) == 0
        last = capsys.readouterr().out.splitlines()[-2:]
        assert last[0] == ""
        assert last[1].startswith(f"warning: {definitions.root}/defs/fetch.resource:11: WHO: given")

    @pytest.mark.parametrize(
        ("names", "count"), [(["none"], "1 problem:"), (["none", "red"], "2 problems:")]
    )
    def test_problems_are_raised_with_the_exit_status_of_configuration(
        self, names: list[str], count: str
    ) -> None:
        with pytest.raises(ConfigError) as raised:
            main(names)
        assert code_of(raised.value) == CONFIGURATION == 3
        assert raised.value.problems[0] == count
        assert len(raised.value.problems) == 1 + len(names)

    def test_values_are_printed_with_problems_too(
        self, definitions: Definitions, capsys: pytest.CaptureFixture[str]
    ) -> None:
        definitions.write("fetch.resource", FETCH.replace("OSF_RANK = 1", "OSF_RANK = 0"))
        with pytest.raises(ConfigError, match=r"fetch\.resource:6: OSF_RANK: a whole number"):
            main(["blue"])
        assert "  OSF_RANK = 0    (line 6)" in capsys.readouterr().out
