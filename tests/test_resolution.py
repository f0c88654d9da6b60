"""What value a process sees for a keyword of its resource file (OPUS, "What value does a process
see"), and the files that belong to a path."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import parse_config
from formats.keywords import read_keywords
from formats.path_file import PathFile, examine_path_file, read_path_file
from formats.resolution import Resource, Rule, environment_of, resolve
from mirror.errors import ConfigError

REQUIRED = "STAGE_FILE = /blue.stage\nOPUS_OBSERVATIONS_DIR = /obs\n"


def blue(directory: Path, text: str, environ: dict[str, str] | None = None) -> PathFile:
    """blue.path: `text` from line 3 on."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "blue.path"
    path.write_text(REQUIRED + text, encoding="utf-8")
    return read_path_file(path, environ or {})


def resource(directory: Path, text: str, name: str = "getkw") -> Resource:
    """PROC.resource with `text`."""
    path = directory / f"{name}.resource"
    read = read_keywords(text.encode(), str(path))
    assert not read.problems
    return Resource(path, read.by_name, read.warnings)


@pytest.mark.parametrize(
    ("written", "path", "keyword", "value", "line", "found", "rule"),
    [
        # 1. PROC.KEY in the path file, if there (PROC compared without case).
        pytest.param("K = a", "getkw.K = 1\n*.K = 2\na = 3\nK = 4",
            "K", "1", 3, "getkw.K", Rule.PROCESS, id="1 before 2, 3 and 4"),
        pytest.param("K = a", "GETKW.K = 1",
            "K", "1", 3, "GETKW.K", Rule.PROCESS, id="1, in upper case"),
        pytest.param("K = a", "GetKW.K = 1\ngetkw.K = 2\nGETKW.K = 3",
            "K", "2", 4, "getkw.K", Rule.PROCESS, id="1, written as the process is"),
        pytest.param("K = a", "GetKW.K = 1\nGETKW.K = 3",
            "K", "3", 4, "GETKW.K", Rule.PROCESS, id="1, the last one stands"),
        pytest.param("K = a", "getkw = 1\nGETKW = 2",
            "K", "a", 1, "K", Rule.UNALTERED, id="1, a keyword called as the process"),
        pytest.param("K = a", "OTHER.K = 1",
            "K", "a", 1, "K", Rule.UNALTERED, id="1, of another process"),
        pytest.param("K = a", "getkw.k = 1",
            "K", "a", 1, "K", Rule.UNALTERED, id="1, KEY is compared with case"),
        pytest.param("ENV.K = a", "GETKW.K = 1",
            "ENV.K", "1", 3, "GETKW.K", Rule.PROCESS, id="1, ENV. is no part of the name"),
        pytest.param("ENV.K = a", "GETKW.ENV.K = 1",
            "ENV.K", "a", 1, "ENV.K", Rule.UNALTERED, id="1, ENV. is not in the path file"),
        pytest.param("A.B = a", "GETKW.A.B = 1",
            "A.B", "1", 3, "GETKW.A.B", Rule.PROCESS, id="1, KEY with a dot"),
        pytest.param("K = a", "getkw.K = a\na = b\nb = c",
            "K", "a", 3, "getkw.K", Rule.PROCESS, id="1, its value is no keyword again"),
        # 2. else *.KEY in the path file.
        pytest.param("K = a", "*.K = 2\na = 3\nK = 4",
            "K", "2", 3, "*.K", Rule.ALL, id="2 before 3 and 4"),
        pytest.param("ENV.K = a", "*.K = 2",
            "ENV.K", "2", 3, "*.K", Rule.ALL, id="2, ENV. is no part of the name"),
        # 3. else the resource value; a keyword of the path file: that value; one step.
        pytest.param("K = a", "a = 3\nK = 4",
            "K", "3", 3, "a", Rule.KEYWORD, id="3 before 4"),
        pytest.param("K = a", "a = b\nb = c",
            "K", "b", 3, "a", Rule.KEYWORD, id="3, one step, not repeated"),
        pytest.param("K = 'a b'", "a = 3",
            "K", "a b", 1, "K", Rule.UNALTERED, id="3, the whole value"),
        pytest.param("K = A", "a = 3",
            "K", "A", 1, "K", Rule.UNALTERED, id="3, with case"),
        # 4. else unaltered; a keyword in both files: the resource file wins.
        pytest.param("K = a", "K = 4",
            "K", "a", 1, "K", Rule.UNALTERED, id="4, the resource file wins"),
        pytest.param("ENV.K = W:in/x", "",
            "ENV.K", "/data/in/x", 1, "ENV.K", Rule.JOINED, id="4, PREFIX:rest"),
        pytest.param("ENV.K = W:/in/x", "",
            "ENV.K", "/data/in/x", 1, "ENV.K", Rule.JOINED, id="4, with a leading slash"),
        pytest.param("ENV.K = W:", "",
            "ENV.K", "/data", 1, "ENV.K", Rule.JOINED, id="4, PREFIX alone"),
        pytest.param("ENV.K = NOT_SET:in", "",
            "ENV.K", "NOT_SET:in", 1, "ENV.K", Rule.UNALTERED, id="4, PREFIX not set"),
        pytest.param("K = W://host/x", "",
            "K", "W://host/x", 1, "K", Rule.UNALTERED, id="4, an address"),
        pytest.param("K = W:SUB[S]", "",
            "K", "/data/SUB[S]", 1, "K", Rule.JOINED, id="SUB not after PREFIX either"),
        pytest.param("K = SUB[W]", "",
            "K", "SUB[W]", 1, "K", Rule.UNALTERED, id="SUB not in resource values"),
        # SUB[VAR] works in path values and in COMMAND, TASK and FILE_ACTION.
        pytest.param("K = a", "a = SUB[W]/SUB[W]/x",
            "K", "/data//data/x", 3, "a", Rule.KEYWORD, id="SUB in path values"),
        pytest.param("K = a", "a = 'SUB[ W ]/x'",
            "K", "/data/x", 3, "a", Rule.KEYWORD, id="SUB, blanks around VAR"),
        pytest.param("K = a", "*.K = SUB[W]",
            "K", "/data", 3, "*.K", Rule.ALL, id="SUB in overrides"),
        pytest.param("COMMAND = 'SUB[W]/run -x'", "",
            "COMMAND", "/data/run -x", 1, "COMMAND", Rule.SUBSTITUTED, id="SUB in COMMAND"),
        pytest.param("TASK = < nice SUB[W]/xpoll >", "",
            "TASK", "nice /data/xpoll", 1, "TASK", Rule.SUBSTITUTED, id="SUB in TASK"),
        pytest.param("FILE_ACTION = 'SUB[W]/rm ^f'", "",
            "FILE_ACTION", "/data/rm ^f", 1, "FILE_ACTION", Rule.SUBSTITUTED, id="SUB in action"),
        pytest.param("COMMAND = W:SUB[S]", "",
            "COMMAND", "/data/SUB[W]", 1, "COMMAND", Rule.JOINED, id="SUB after PREFIX, not again"),
        # Each keyword of a path file is accessible to the tasks of the path (seed 003).
        pytest.param("K = a", "DB = SUB[W]",
            "DB", "/data", 3, "DB", Rule.PATH, id="only in the path file"),
        pytest.param("K = a", "getkw.DB = x\nDB = y",
            "DB", "x", 3, "getkw.DB", Rule.PROCESS, id="only in the path file, for the process"),
        pytest.param("ENV.K = a", "",
            "K", "a", 1, "ENV.K", Rule.UNALTERED, id="asked for without ENV."),
        pytest.param("ENV.K = a\nK = b", "",
            "K", "b", 2, "K", Rule.UNALTERED, id="the plain one, asked for without ENV."),
        pytest.param("K = b\nENV.K = a", "",
            "ENV.K", "a", 2, "ENV.K", Rule.UNALTERED, id="the other one, asked for with ENV."),
    ],
)  # fmt: skip
def test_rules(
    tmp_path: Path, written: str, path: str, keyword: str, value: str, line: int, found: str,
    rule: Rule,
) -> None:  # fmt: skip
    environ = {"W": "/data", "S": "SUB[W]"}
    process = resource(tmp_path, written)
    resolved = resolve(process, blue(tmp_path, path, environ), keyword)
    origin = resolved.origin
    assert (resolved.value, origin.line, origin.keyword, origin.rule) == (value, line, found, rule)
    own = rule in (Rule.UNALTERED, Rule.JOINED, Rule.SUBSTITUTED)
    assert origin.path == (process.path if own else tmp_path / "blue.path")


class TestOther:
    """`OTHER->KEY` looks in OTHER.path."""

    def red(self, directory: Path, text: str = "OUT = SUB[W]/out\n") -> Path:
        directory.mkdir(exist_ok=True)
        path = directory / "red.path"
        path.write_text(text, encoding="utf-8")
        return path

    def test_value_and_origin(self, tmp_path: Path) -> None:
        red = self.red(tmp_path / "defs", "A = b\nOUT = SUB[W]/out\n")
        environ = {"W": "/data", "OPUS_DEFINITIONS_DIR": str(tmp_path / "defs")}
        paths = blue(tmp_path / "here", "", environ)
        found = resolve(resource(tmp_path, "ENV.OUTDIR = RED->OUT"), paths,
            "ENV.OUTDIR")  # fmt: skip
        assert found.value == "/data/out"
        assert str(found.origin) == f"{red}:2: OUT, OTHER->KEY"

    def test_looked_for_beside_the_file_that_refers_to_it(self, tmp_path: Path) -> None:
        """The resource file refers here, a path file in the values of its own."""
        self.red(tmp_path / "there", "OUT = path\n")
        paths = blue(tmp_path / "there", "out = red->OUT\n", {"W": "/data"})
        self.red(tmp_path)
        process = resource(tmp_path, "A = red->OUT\nB = out")
        assert resolve(process, paths, "A").value == "/data/out"
        assert resolve(process, paths, "B").value == "path"

    def test_needs_no_path_file(self, tmp_path: Path) -> None:
        self.red(tmp_path)
        process = resource(tmp_path, "A = red->OUT")
        assert resolve(process, None, "A", {"W": "/w"}).value == "/w/out"

    @pytest.mark.parametrize(
        ("value", "message"),
        [
            ("green->OUT", "green: green.path expected in "),
            ("red->NONE", "red.path: NONE: no such keyword"),
            ("red->OUT", "red.path:1: OUT: SUB[W]: the environment variable W is not set"),
            ("../red->OUT", "../red: the name of a path expected"),
        ],
    )
    def test_unknown_reference(self, tmp_path: Path, value: str, message: str) -> None:
        self.red(tmp_path)
        with pytest.raises(ConfigError) as raised:
            resolve(resource(tmp_path, f"\nK = {value}"), blue(tmp_path, ""), "K")
        assert str(raised.value).startswith(f"{tmp_path}/getkw.resource:2: K: ")
        assert message in str(raised.value)


def test_sub_is_replaced_every_time_a_value_is_asked_for(tmp_path: Path) -> None:
    environ = {"USER": "first"}
    paths = blue(tmp_path, "home = /home/SUB[USER]\n", environ)
    process = resource(tmp_path, "ENV.HOME_DIR = home\nCOMMAND = SUB[USER]/run")
    for user in ("first", "second"):
        environ["USER"] = user
        assert resolve(process, paths, "HOME_DIR").value == f"/home/{user}"
        assert resolve(process, paths, "COMMAND").value == f"{user}/run"


def test_environment_may_be_another_than_that_of_the_path_file(tmp_path: Path) -> None:
    paths = blue(tmp_path, "home = SUB[USER]\n", {"USER": "first"})
    process = resource(tmp_path, "K = home")
    assert resolve(process, paths, "K", {"USER": "second"}).value == "second"
    assert resolve(process, paths, "K").value == "first"


@pytest.mark.parametrize(
    ("written", "path", "keyword", "message"),
    [
        pytest.param("A = b", "", "K",
            "getkw.resource: K: no such keyword, nor has", id="in neither file"),
        pytest.param("COMMAND = SUB[X]", "", "COMMAND",
            "getkw.resource:1: COMMAND: SUB[X]: the environment variable X is not set", id="SUB"),
        pytest.param("K = a", "a = SUB[X]", "K",
            "blue.path:3: a: SUB[X]: the environment variable X is not set", id="SUB in the path"),
        pytest.param("K = EMPTY:a", "", "K",
            "getkw.resource:1: K: EMPTY:a: the environment variable EMPTY is empty", id="prefix"),
        pytest.param("K = a", "GETKW.K = OPUS:a", "K",
            "blue.path:3: GETKW.K: OPUS:a: the environment variable OPUS is not set", id="1"),
    ],
)  # fmt: skip
def test_refused_with_file_line_keyword(
    tmp_path: Path, written: str, path: str, keyword: str, message: str
) -> None:
    with pytest.raises(ConfigError) as raised:
        resolve(resource(tmp_path, written), blue(tmp_path, path, {"EMPTY": ":"}), keyword)
    assert str(raised.value).startswith(f"{tmp_path}/{message}")


def test_without_a_path_file(tmp_path: Path) -> None:
    process = resource(tmp_path, "K = a")
    assert resolve(process, None, "K", {}).value == "a"
    with pytest.raises(ConfigError, match=r"getkw\.resource: DB: no such keyword$"):
        resolve(process, None, "DB", {})


class TestEnvironment:
    """Every `ENV.KEY` is set in the command's environment, resolved as above."""

    def test_names_without_env(self, tmp_path: Path) -> None:
        process = resource(tmp_path, "ENV.A = in\nENV.B = b\nC = in\nENV.D = d\nENV.E = ''")
        paths = blue(tmp_path, "in = /in\nin2 = x\n*.D = 2\nF = f\n")
        assert environment_of(process, paths) == {"A": "/in", "B": "b", "D": "2", "E": ""}

    def test_all_that_has_no_meaning_in_one_go(self, tmp_path: Path) -> None:
        process = resource(tmp_path, "ENV.A = x->y\nENV.B = b\nENV.C = c")
        with pytest.raises(ConfigError) as raised:
            environment_of(process, blue(tmp_path, "c = SUB[D]\n"))
        first, second = raised.value.problems
        assert ":1: ENV.A: x: x.path expected" in first
        assert "blue.path:3: c: SUB[D]: the environment variable D is not set" in second


class TestStageFile:
    """STAGE_FILE, unless `NAME_pipeline.stage` stands on the definitions path."""

    def paths(self, directory: Path, text: str, *definitions: Path) -> PathFile:
        path = directory / "blue.path"
        path.write_text(f"OPUS_OBSERVATIONS_DIR = /obs\n{text}", encoding="utf-8")
        along = ":".join(map(str, definitions))
        paths, _ = examine_path_file(path, {"OPUS_DEFINITIONS_DIR": along})
        return paths

    def test_stage_file_given(self, tmp_path: Path) -> None:
        (tmp_path / "blue_pipeline.stage").touch()
        paths = self.paths(tmp_path, "STAGE_FILE = /other.stage\n", tmp_path)
        assert paths.stage_file() == Path("/other.stage")

    def test_first_one_along_the_definitions_path(self, tmp_path: Path) -> None:
        first, second = tmp_path / "first", tmp_path / "second"
        for place in (first, second):
            place.mkdir()
        (second / "blue_pipeline.stage").touch()
        paths = self.paths(tmp_path, "", tmp_path / "none", first, second)
        assert paths.stage_file() == second / "blue_pipeline.stage"
        (first / "blue_pipeline.stage").touch()
        assert paths.stage_file() == first / "blue_pipeline.stage"

    def test_not_beside_the_path_file(self, tmp_path: Path) -> None:
        (tmp_path / "blue_pipeline.stage").touch()
        paths = self.paths(tmp_path, "", tmp_path / "none")
        with pytest.raises(ConfigError, match="STAGE_FILE: required, because no blue_pipeline"):
            paths.stage_file()


class TestNameLength:
    """Root names of at most 9 characters, by default; OPUS_PATH_NAME_LENGTH says otherwise."""

    @pytest.mark.parametrize(
        ("name", "environ", "problem"),
        [
            pytest.param("nine_char", {}, "", id="9"),
            pytest.param("samplepipe", {}, "at most 9 characters", id="10"),
            pytest.param("samplepipe", {"OPUS_PATH_NAME_LENGTH": "10"}, "", id="10 allowed"),
            pytest.param("blue", {"OPUS_PATH_NAME_LENGTH": "3"}, "at most 3", id="3 allowed"),
            pytest.param("blue", {"OPUS_PATH_NAME_LENGTH": ""}, "", id="empty: not set"),
            pytest.param("blue", {"OPUS_PATH_NAME_LENGTH": "0"}, "a number from 1", id="0"),
            pytest.param("blue", {"OPUS_PATH_NAME_LENGTH": "200"}, "a number from 1", id="200"),
            pytest.param("blue", {"OPUS_PATH_NAME_LENGTH": "nine"}, "not 'nine'", id="a word"),
        ],
    )
    def test_length(self, tmp_path: Path, name: str, environ: dict[str, str], problem: str) -> None:
        path = tmp_path / f"{name}.path"
        path.write_text(REQUIRED, encoding="utf-8")
        _, problems = examine_path_file(path, environ)
        assert [problem in one for one in problems] == ([True] if problem else [])


_VALUES = st.text(alphabet="aKW:->[]SUB/ .*é", max_size=12)


@given(st.sampled_from(["K", "ENV.K", "COMMAND"]), _VALUES, _VALUES, _VALUES)
def test_resolving_anything_only_raises_config_error(
    name: str, value: str, entry: str, override: str
) -> None:
    text = f"a = '{entry}'\n*.K = '{override}'\n".encode()
    paths = PathFile(
        Path("/nowhere/blue.path"), {"W": "/w"}, (), read_keywords(text, "blue").by_name
    )
    process = Resource(
        Path("/nowhere/p.resource"), read_keywords(f"{name} = '{value}'".encode(), "p").by_name, ()
    )
    try:
        resolve(process, paths, name)
    except ConfigError:
        pass


@pytest.mark.parametrize("name", parse_config.__all__)
def test_every_name_of_the_door_opens(name: str) -> None:
    assert getattr(parse_config, name) is not None
