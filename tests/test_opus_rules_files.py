"""The rules of files, of paths, of the values that a process sees and of stages: a test each, which
quotes the rule (OPUS, "Syntax shared by .path, .resource and .stage files", "Path files", "What
value does a process see", "Stage files")."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from formats.keywords import read_keywords, read_line
from formats.path_file import PathFile, find_path_file, read_path_file
from formats.resolution import Resource, environment_of, resolve
from formats.resource_file import read_resource_file
from formats.stage_file import Letter, read_stage_file
from mirror.errors import ConfigError

KINDS = {
    "blue.path": "OPUS_OBSERVATIONS_DIR = /obs\nSTAGE_FILE = /blue.stage\nK = 'a ! b' ! note\n",
    "getkw.resource": (
        "POLLING_TIME = 10\nTASK = < xpoll -p $PATH_FILE -r getkw >\nCOMMAND = 'run it' ! note\n"
        "XPOLL_STATE.01 = SUCCESS\nTIME_RANK = 1\nDELTA_TIME = 000:00:10:00\n"
    ),
    "blue.stage": (
        "NSTAGE = 1\nSTAGE01.TITLE = FE\nSTAGE01.DESCRIPTION = 'Fetch ! it' ! note\n"
        "STAGE01.NSTATUS.W = 'Waiting'\n"
    ),
}
"""A complete file of each kind."""


def write(directory: Path, name: str, text: str) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / name
    path.write_text(text, encoding="utf-8", newline="")
    return path


def warnings_of(path: Path) -> tuple[str, ...]:
    """Read a file of any kind, which must have no problem; returns its warnings."""
    if path.suffix == ".path":
        return read_path_file(path, {}).warnings
    if path.suffix == ".resource":
        return read_resource_file(path).warnings
    return read_stage_file(path).warnings


def values_in(path: Path) -> dict[str, str]:
    """The keywords of a file of any kind, which must have neither problem nor warning."""
    assert warnings_of(path) == ()
    read = read_keywords(path.read_bytes(), str(path))
    return {name: keyword.value for name, keyword in read.by_name.items()}


def blue(directory: Path, text: str = "", environ: Mapping[str, str] | None = None) -> PathFile:
    """blue.path: the two required keywords, and `text` from line 3 on."""
    required = "OPUS_OBSERVATIONS_DIR = /obs\nSTAGE_FILE = /blue.stage\n"
    return read_path_file(write(directory, "blue.path", required + text), environ or {})


def seen(
    directory: Path,
    written: str,
    in_path: str,
    key: str = "K",
    environ: dict[str, str] | None = None,
) -> str:
    """What the process getkw sees for `key`."""
    read = read_keywords(written.encode(), "getkw.resource")
    process = Resource(directory / "getkw.resource", read.by_name, read.warnings)
    return resolve(process, blue(directory, in_path, environ), key).value


@pytest.mark.parametrize("kind", KINDS)
class TestSyntax:
    """OPUS, "Syntax shared by .path, .resource and .stage files"."""

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            pytest.param("\n", "\n! K = v\n  \t!!! (so is this) !!!\n",
                id="a line whose first non-blank is ! is a comment"),
            pytest.param("\n", "\n\n \t \n", id="blank lines are fine"),
            pytest.param(" = ", "\t=\t", id="tabs"),
            pytest.param(" = ", "   =  ", id="spaces around ="),
            pytest.param(" = ", "=", id="or none"),
            pytest.param("\n", "\n \t ", id="leading blanks"),
            pytest.param("\n", " \t \n", id="trailing blanks"),
            pytest.param("\n", "\r\n", id="CRLF"),
            pytest.param("\n", " \t! comment\n", id="KEYWORD = VALUE ! comment"),
        ],
    )  # fmt: skip
    def test_accept_them_all(self, tmp_path: Path, kind: str, old: str, new: str) -> None:
        """Rule: Files in use hold tabs, spaces around = or none, …: accept them all."""
        text = KINDS[kind]
        expected = values_in(write(tmp_path, kind, text))
        assert values_in(write(tmp_path / "other", kind, text.replace(old, new))) == expected

    def test_quotes(self, tmp_path: Path, kind: str) -> None:
        """Rule: A value with blanks stands in single quotes; ! inside quotes is no comment."""
        quoted = {"blue.path": "a ! b", "getkw.resource": "run it", "blue.stage": "Fetch ! it"}
        assert quoted[kind] in values_in(write(tmp_path, kind, KINDS[kind])).values()
        for blank in (" ", "\t"):
            with pytest.raises(ConfigError, match="a value with blanks in single quotes expected"):
                warnings_of(write(tmp_path, kind, f"{KINDS[kind]}X = a{blank}b\n"))

    def test_a_keyword_given_twice(self, tmp_path: Path, kind: str) -> None:
        """Rule: A keyword given twice in one file: the last one stands, with a warning."""
        text = KINDS[kind]
        name, value = text.splitlines()[0].split(" = ")
        path = write(tmp_path, kind, f"{name} = 7\n{text}")
        assert warnings_of(path) == (f"{path}:2: {name}: given in line 1 too; this one stands",)
        assert read_keywords(path.read_bytes(), kind).by_name[name].value == value

    def test_errors_name_file_line_keyword(self, tmp_path: Path, kind: str) -> None:
        """Rule: Errors name file, line, keyword."""
        path = write(tmp_path, kind, KINDS[kind] + "\nSTAGE09.WHAT = 'open\n")
        line = len(KINDS[kind].splitlines()) + 2
        with pytest.raises(ConfigError) as raised:
            warnings_of(path)
        (problem,) = raised.value.problems
        assert problem.startswith(f"{path}:{line}: STAGE09.WHAT: a closing ' expected")


@pytest.mark.parametrize(
    "name",
    ["OSF_TRIGGER1.DATA_ID", "XPOLL_STATE.01", "ENV.OUTPATH", "GETKW.OK_TO_UPDATE", "*.DATABASE"],
)
def test_keywords_are_dotted(name: str) -> None:
    """OPUS, "Syntax shared": "Keywords are dotted", and the examples there."""
    keyword = read_line(f"{name} = v")
    assert keyword
    assert (keyword.name, keyword.value) == (name, "v")


def test_blanks_in_quotes_are_kept() -> None:
    """OPUS, "Syntax shared": "A value with blanks stands in single quotes"."""
    keyword = read_line("K = ' a ' ! comment")
    assert keyword
    assert keyword.value == " a "


def test_task_is_taken_to_its_closing_bracket() -> None:
    """OPUS, "Syntax shared": "`< … >` (the TASK value) is taken to its `>`"."""
    keyword = read_line("TASK = < nice xpoll -p $PATH_FILE -r 'a ! b' > ! so > it is")
    assert keyword
    assert keyword.value == "nice xpoll -p $PATH_FILE -r 'a ! b'"
    assert keyword.comment == "so > it is"


class TestPathFiles:
    """OPUS, "Path files"."""

    def test_root_name(self, tmp_path: Path) -> None:
        """Rule: root name at most 9 characters by default"""
        text = KINDS["blue.path"]
        assert read_path_file(write(tmp_path, "nine_char.path", text), {}).name == "nine_char"
        with pytest.raises(ConfigError, match="at most 9 characters expected, 'samplepipe' has 10"):
            read_path_file(write(tmp_path, "samplepipe.path", text), {})

    def test_the_first_one_found_is_the_file(self, tmp_path: Path) -> None:
        """Rule: Looked for along OPUS_DEFINITIONS_DIR … The first NAME.path found is the file: path
        files do not override each other."""
        mine = write(tmp_path / "mine", "blue.path", "OPUS_OBSERVATIONS_DIR = /mine\n")
        write(tmp_path / "theirs", "blue.path", "OPUS_OBSERVATIONS_DIR = /theirs\nK = v\n")
        write(tmp_path / "theirs", "blue_pipeline.stage", "")
        write(tmp_path / "theirs", "red.path", "")
        along = {"OPUS_DEFINITIONS_DIR": f"{tmp_path}/none:{tmp_path}/mine:{tmp_path}/theirs"}
        assert find_path_file("blue", along) == mine
        assert find_path_file("red", along) == tmp_path / "theirs" / "red.path"
        paths = read_path_file(mine, along)
        assert paths.keywords() == ["OPUS_OBSERVATIONS_DIR"]
        with pytest.raises(ConfigError, match="K: no such keyword"):
            paths.value("K")

    def test_required(self, tmp_path: Path) -> None:
        """Rule: Required: OPUS_OBSERVATIONS_DIR. STAGE_FILE is required unless NAME_pipeline.stage
        stands on the definitions path."""
        path = write(tmp_path, "blue.path", "K = v\n")
        for environ, missing in (
            ({}, ["OPUS_OBSERVATIONS_DIR", "STAGE_FILE"]),
            ({"OPUS_DEFINITIONS_DIR": str(tmp_path / "defs")}, ["OPUS_OBSERVATIONS_DIR"]),
        ):
            write(tmp_path / "defs", "blue_pipeline.stage", "")
            with pytest.raises(ConfigError) as raised:
                read_path_file(path, environ)
            assert [one.split(": ")[1] for one in raised.value.problems] == missing

    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            ("OPUS_DEFINITIONS_DIR:blue_pipeline.stage", "{0}/b/blue_pipeline.stage"),
            ("OPUS_WORK:nrtscw/obs/", "/data/nrtscw/obs/"),
        ],
    )
    def test_prefix(self, tmp_path: Path, value: str, expected: str) -> None:
        """Rule: PREFIX:rest, where PREFIX is an environment variable holding a directory (or a
        search path): the directory joined with rest."""
        write(tmp_path / "b", "blue_pipeline.stage", "")
        (tmp_path / "a").mkdir()
        environ = {"OPUS_DEFINITIONS_DIR": f"{tmp_path}/a:{tmp_path}/b", "OPUS_WORK": "/data"}
        assert blue(tmp_path, f"K = {value}\n", environ).value("K") == expected.format(tmp_path)

    def test_sub(self, tmp_path: Path) -> None:
        """Rule: SUB[VAR] is replaced, every time a value is asked for, by the environment variable
        VAR; several may stand in one value. An unset VAR is an error that names it."""
        environ = {"A": "1", "B": "2"}
        paths = blue(tmp_path, "K = /SUB[A]/SUB[B]/SUB[A]\n", environ)
        assert paths.value("K") == "/1/2/1"
        environ["B"] = "3"
        assert paths.value("K") == "/1/3/1"
        del environ["A"]
        with pytest.raises(ConfigError, match=r"blue\.path:3: K: SUB\[A\]: .* A is not set"):
            paths.value("K")

    def test_other(self, tmp_path: Path) -> None:
        """Rule: OTHER->KEY is KEY of OTHER.path, looked for along OPUS_DEFINITIONS_DIR, then beside
        the file that refers to it; if there is no OTHER.path, of other.path in lower case."""
        environ = {"OPUS_DEFINITIONS_DIR": f"{tmp_path}/defs"}
        paths = blue(tmp_path / "here", "K = RED->OUT\n", environ)
        for directory, name in (
            ("here", "red.path"), ("defs", "red.path"), ("here", "RED.path"), ("defs", "RED.path"),
        ):  # fmt: skip
            write(tmp_path / directory, name, f"OUT = /{directory}/{name}\n")
            assert paths.value("K") == f"/{directory}/{name}"

    def test_any_other_keyword_is_free(self, tmp_path: Path) -> None:
        """Rule: Any other keyword is free for the processes of the path to use."""
        assert seen(tmp_path, "X = y", "OPUS_DB = OPUSTEST\n", "OPUS_DB") == "OPUSTEST"
        assert blue(tmp_path, "any.thing-at$all = 1\n").warnings == ()


class TestValues:
    """OPUS, "What value does a process see for KEY of its resource file?"."""

    @pytest.mark.parametrize("process", ["getkw", "GETKW", "GetKw"])
    def test_rule_1(self, tmp_path: Path, process: str) -> None:
        """Rule: 1. PROC.KEY in the path file, if there (PROC = the process name, compared without
        case)"""
        in_path = f"*.K = all\na = symbol\nK = plain\n{process}.K = mine\n"
        assert seen(tmp_path, "K = a", in_path) == "mine"

    @pytest.mark.parametrize("process", ["g2f.new", "G2F.NEW", "G2f.New"])
    @pytest.mark.parametrize("file", ["g2f.new.resource", "G2F.New.resource"])
    def test_rule_1_of_a_process_with_a_dot(self, tmp_path: Path, process: str, file: str) -> None:
        """The same rule: the name of a process may have a dot, as a keyword may, and any case."""
        paths = blue(tmp_path, f"{process}.A.K = mine\n*.A.K = all\n")
        read = read_keywords(b"A.K = a", file)
        assert resolve(Resource(tmp_path / file, read.by_name, ()), paths, "A.K").value == "mine"

    def test_rule_2(self, tmp_path: Path) -> None:
        """Rule: 2. else *.KEY in the path file"""
        assert seen(tmp_path, "K = a", "K = plain\na = symbol\nother.K = x\n*.K = all\n") == "all"

    def test_rule_3(self, tmp_path: Path) -> None:
        """Rule: 3. else the resource value, and if that value is itself a keyword of the path file,
        the path file's value (OTHER->KEY looks in OTHER.path); one step, not repeated."""
        assert seen(tmp_path, "K = a", "a = b\nb = c\nK = plain\n") == "b"
        write(tmp_path, "red.path", "OUT = b\n")
        assert seen(tmp_path, "K = red->OUT", "b = c\n") == "b"

    def test_rule_4(self, tmp_path: Path) -> None:
        """Rule: 4. else the resource value unaltered, except that PREFIX:rest with PREFIX a set
        environment variable is joined as in path files"""
        environ = {"OPUS_MISC_REP": "/rep"}
        line = "ENV.ECS_DIR = OPUS_MISC_REP:ifts/outbox"
        assert seen(tmp_path, line, "", "ECS_DIR", environ) == "/rep/ifts/outbox"
        assert seen(tmp_path, line, "", "ECS_DIR", {}) == "OPUS_MISC_REP:ifts/outbox"
        assert seen(tmp_path, "K = TTAG_DIR", "") == "TTAG_DIR"

    def test_the_resource_file_wins_over_a_plain_path_entry(self, tmp_path: Path) -> None:
        """Rule: A keyword in both files: the resource file wins over a plain path entry."""
        assert seen(tmp_path, "ENV.DSQUERY = nomad", "DSQUERY = daneel\n", "DSQUERY") == "nomad"

    @pytest.mark.parametrize("override", ["getkw.K", "*.K"])
    def test_env_is_no_part_of_the_name(self, tmp_path: Path, override: str) -> None:
        """Rule: For 1 and 2 the ENV. in front of the resource keyword is not part of the name."""
        paths = blue(tmp_path, f"{override} = new\n{override.replace('K', 'ENV.K')} = other\n")
        read = read_keywords(b"ENV.K = old", "getkw.resource")
        resource = Resource(tmp_path / "getkw.resource", read.by_name, ())
        assert environment_of(resource, paths) == {"K": "new"}

    @pytest.mark.parametrize("key", ["COMMAND", "TASK", "FILE_ACTION"])
    def test_sub_in_commands(self, tmp_path: Path, key: str) -> None:
        """Rule: SUB[VAR] works in path values and in COMMAND, TASK and FILE_ACTION."""
        environ = {"BIN": "/opt"}
        written = f"{key} = 'SUB[BIN]/run SUB[BIN]'\nK = SUB[BIN]\nL = bin"
        assert seen(tmp_path, written, "", key, environ) == "/opt/run /opt"
        assert seen(tmp_path, written, "", "K", environ) == "SUB[BIN]"
        assert seen(tmp_path, written, "bin = SUB[BIN]\n", "L", environ) == "/opt"


class TestStageFiles:
    """OPUS, "Stage files"."""

    TEXT = """\
NSTAGE = 2
STAGE01.TITLE = FE
STAGE01.DESCRIPTION = 'Fetch'
STAGE01.NSTATUS.W = 'Waiting…'
STAGE01.PSTATUS.P = 'Processing'
STAGE01.CSTATUS.C = 'Complete'
STAGE01.TSTATUS.X = 'Trouble'
STAGE02.TITLE = CL
STAGE02.NSTATUS.n = 'Not needed'
"""

    def test_stages_and_their_letters(self, tmp_path: Path) -> None:
        """Rule: NSTAGE = n; for each stage STAGEnn.TITLE = XX (two letters: the OSF column),
        STAGEnn.DESCRIPTION, and the meaning of each state letter: NSTATUS.W (not yet), PSTATUS.P
        (in progress), CSTATUS.C (complete), TSTATUS.X (trouble)"""
        stages = read_stage_file(write(tmp_path, "blue.stage", self.TEXT))
        assert stages.titles() == ["FE", "CL"]
        assert stages.stages[0].description == "Fetch"
        assert stages.stages[0].letters == {
            "W": Letter("N", "Waiting…"), "P": Letter("P", "Processing"),
            "C": Letter("C", "Complete"), "X": Letter("T", "Trouble"),
        }  # fmt: skip

    @pytest.mark.parametrize(
        ("old", "new", "problem"),
        [
            ("NSTAGE = 2", "NSTAGE = 3", "3 stages expected, there is no STAGE03"),
            ("NSTAGE = 2\n", "", "NSTAGE: required"),
            ("= FE", "= F", "two letters"),
            ("= FE", "= FET", "two letters"),
            ("STAGE02.TITLE = CL\n", "", r"STAGE02\.TITLE: required"),
            ("NSTATUS.n", "QSTATUS.n", r"STAGEnn\.TITLE, STAGEnn\.DESCRIPTION or"),
        ],
    )
    def test_what_is_no_stage_file(self, tmp_path: Path, old: str, new: str, problem: str) -> None:
        """The same rule, broken."""
        with pytest.raises(ConfigError, match=problem):
            read_stage_file(write(tmp_path, "blue.stage", self.TEXT.replace(old, new)))

    def test_not_set(self, tmp_path: Path) -> None:
        """Rule: `_` is "not set": in every stage, and nothing else."""
        stages = read_stage_file(write(tmp_path, "blue.stage", self.TEXT))
        assert [stage.knows("_") for stage in stages.stages] == [True, True]
        with pytest.raises(ConfigError, match="_ means not set in every stage"):
            read_stage_file(write(tmp_path, "blue.stage", self.TEXT.replace("US.n", "US._")))

    @pytest.mark.parametrize("letter", ["n", "N"])
    def test_letters_are_compared_without_case(self, tmp_path: Path, letter: str) -> None:
        """OPUS, "Process resource files": "State letters are compared without case"."""
        stages = read_stage_file(write(tmp_path, "blue.stage", self.TEXT))
        assert stages.stages[1].meaning(letter) == Letter("N", "Not needed")
