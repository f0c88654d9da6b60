"""Path files as seed 003 shows them, and everything that files in use do differently."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from formats.keywords import read_keywords, read_line
from formats.path_file import PathFile, find_path_file, named_path_file, read_path_file
from mirror.errors import ConfigError

COMPLETE = """\
!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!
! this is a comment line
!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!(so is this)!!!!!!!!!!!!!!!!
STAGE_FILE             = OPUS_DEFINITIONS_DIR:blue_pipeline.stage
OPUS_OBSERVATIONS_DIR  = /home/mydir/blue/observations/
"""


def write(directory: Path, name: str, text: str) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / name
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    return path


def blue(tmp_path: Path, text: str, environ: dict[str, str] | None = None) -> PathFile:
    """blue.path with the two required keywords and `text`."""
    return read_path_file(write(tmp_path, "blue.path", COMPLETE + text), environ or {})


def problems_of(path: Path, environ: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(ConfigError) as raised:
        read_path_file(path, environ or {})
    return raised.value.problems


@pytest.mark.parametrize(
    ("line", "name", "value", "comment"),
    [
        pytest.param(
            "   gif_data   =  /home/mydir/opus_test/dat/",
            "gif_data", "/home/mydir/opus_test/dat/", None, id="seed 003"),
        pytest.param(
            "   KEYWORD     =     value          !comment",
            "KEYWORD", "value", "comment", id="seed 003, comment"),
        pytest.param(
            "   OPUS_DB   =   OPUSTEST            !Database for testing",
            "OPUS_DB", "OPUSTEST", "Database for testing", id="comment of words"),
        pytest.param("GETKW.OK_TO_UPDATE_DATABASE  =  FALSE  !in the path file",
            "GETKW.OK_TO_UPDATE_DATABASE", "FALSE", "in the path file", id="process"),
        pytest.param("*.OK_TO_UPDATE_DATABASE  =  FALSE",
            "*.OK_TO_UPDATE_DATABASE", "FALSE", None, id="all processes"),
        pytest.param("OUTPATH = BLUE->OUTPATH", "OUTPATH", "BLUE->OUTPATH", None, id="reference"),
        pytest.param("KEYWORD = 'value with spaces' !An example",
            "KEYWORD", "value with spaces", "An example", id="seed 004, quotes"),
        pytest.param("K = 'a ! b'", "K", "a ! b", None, id="! in quotes"),
        pytest.param("K = ''", "K", "", None, id="empty quotes"),
        pytest.param("TASK = < xpoll -p $PATH_FILE -r taskname > !the OPUS method",
            "TASK", "xpoll -p $PATH_FILE -r taskname", "the OPUS method", id="seed 004, task"),
        pytest.param("TASK=<a ! b>", "TASK", "a ! b", None, id="! in a task"),
        pytest.param("K=v", "K", "v", None, id="no blanks"),
        pytest.param("\tK\t=\tv\t!\tc\t", "K", "v", "c", id="tabs"),
        pytest.param("K = v\r", "K", "v", None, id="CRLF"),
        pytest.param("K = v!", "K", "v", "", id="empty comment"),
        pytest.param("K = a=b", "K", "a=b", None, id="= in the value"),
        pytest.param("OSF_TRIGGER1.DATA_ID = zzz ! = ", "OSF_TRIGGER1.DATA_ID", "zzz", "=",
            id="= in the comment"),
    ],
)  # fmt: skip
def test_line(line: str, name: str, value: str, comment: str | None) -> None:
    keyword = read_line(line, 7)
    assert keyword is not None
    assert (keyword.name, keyword.value, keyword.comment, keyword.line) == (name, value, comment, 7)


@pytest.mark.parametrize("line", ["", "  \t ", "!", "  ! K = v", "\r", "!!!!(so is this)!!!!"])
def test_line_without_keyword(line: str) -> None:
    assert read_line(line) is None


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("DATOUT /mydisk/mydata/", "KEYWORD = VALUE expected"),
        ("K ! = v", "KEYWORD = VALUE expected"),
        ("= v", "a keyword"),
        ("two words = v", "a keyword"),
        ("K =", "K: a value expected"),
        ("K = ! comment", "K: a value expected"),
        ("K = a b", "K: a value with blanks in single quotes"),
        ("K = 'a b", "K: a closing '"),
        ("K = <a b", "K: a closing >"),
        ("K = 'a' b", "K: nothing but a ! comment"),
        ("K = a\0b", "K: a value without control characters"),
        ("K = a\udcffb", "K: a value in UTF-8"),
    ],
)
def test_line_refused(line: str, message: str) -> None:
    with pytest.raises(ValueError, match="expected") as raised:
        read_line(line)
    assert str(raised.value).startswith(message)


@given(st.binary())
def test_any_bytes_are_read(data: bytes) -> None:
    read = read_keywords(data, "any")
    assert all(keyword.line >= 1 for keyword in read.by_name.values())


@given(st.text(alphabet="Kk.=!'<> \t\r\n*-äé\0"))
def test_any_text_is_read(text: str) -> None:
    read_keywords(text.encode(), "any")


def test_comment_in_another_code_is_no_problem(tmp_path: Path) -> None:
    assert blue(tmp_path, "K = v ! caf\udce9\n").value("K") == "v"


def test_byte_order_mark_and_crlf(tmp_path: Path) -> None:
    path = write(tmp_path, "blue.path", "\ufeff" + COMPLETE.replace("\n", "\r\n"))
    paths = read_path_file(path, {"OPUS_DEFINITIONS_DIR": "/defs"})
    assert paths.value("STAGE_FILE") == "/defs/blue_pipeline.stage"


def test_seed_complete_example(tmp_path: Path) -> None:
    paths = blue(tmp_path, "", {"OPUS_DEFINITIONS_DIR": "/defs"})
    assert paths.name == "blue"
    assert paths.keywords() == ["STAGE_FILE", "OPUS_OBSERVATIONS_DIR"]
    assert paths.value("OPUS_OBSERVATIONS_DIR") == "/home/mydir/blue/observations/"
    assert paths.value("STAGE_FILE") == "/defs/blue_pipeline.stage"
    assert paths.warnings == ()


def test_keyword_twice_last_stands_with_warning(tmp_path: Path) -> None:
    paths = blue(tmp_path, "K = one\nK = two\n")
    assert paths.value("K") == "two"
    (warning,) = paths.warnings
    assert warning == f"{tmp_path}/blue.path:7: K: given in line 6 too; this one stands"


def test_all_problems_at_once(tmp_path: Path) -> None:
    path = write(tmp_path, "samplepipe.path", "nonsense\nK = a b\n")
    text = "\n".join(problems_of(path))
    for part in (":1: KEYWORD = VALUE", ":2: K: ", "at most 9 characters",
                 "OPUS_OBSERVATIONS_DIR: required", "STAGE_FILE: required"):  # fmt: skip
        assert part in text
    assert all(line.startswith(str(path)) for line in text.splitlines())


@pytest.mark.parametrize("name", ["babylon5.path", "xfiles.path", "nine_char.path"])
def test_name_correct(tmp_path: Path, name: str) -> None:
    assert read_path_file(write(tmp_path, name, COMPLETE), {}).name + ".path" == name


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("samplepipe.path", "at most 9 characters"),
        ("more_than_nine_char.path", "at most 9 characters"),
        ("blue.txt", "ends in .path"),
        (".path", "ends in .path"),
    ],
)
def test_name_incorrect(tmp_path: Path, name: str, message: str) -> None:
    (problem,) = problems_of(write(tmp_path, name, COMPLETE))
    assert message in problem


def test_name_may_be_longer_if_configured(tmp_path: Path) -> None:
    path = write(tmp_path, "samplepipe.path", COMPLETE)
    assert read_path_file(path, {}, longest_name=10).name == "samplepipe"


def test_stage_file_found_on_definitions_path(tmp_path: Path) -> None:
    text = "OPUS_OBSERVATIONS_DIR = /obs\n"
    path = write(tmp_path, "blue.path", text)
    first, second = tmp_path / "first", tmp_path / "second"
    write(second, "blue_pipeline.stage", "")
    environ = {"OPUS_DEFINITIONS_DIR": f"{first}:{second}"}
    assert read_path_file(path, environ).keywords() == ["OPUS_OBSERVATIONS_DIR"]
    (problem,) = problems_of(path, {"OPUS_DEFINITIONS_DIR": str(first)})
    assert "STAGE_FILE: required" in problem


def test_missing_file_named(tmp_path: Path) -> None:
    (problem,) = problems_of(tmp_path / "blue.path")
    assert problem == f"{tmp_path}/blue.path: a path file expected: No such file or directory"


@pytest.mark.parametrize(
    ("text", "environ", "value"),
    [
        pytest.param("SUB[DPATH]", {"DPATH": "/data"}, "/data", id="seed: in total"),
        pytest.param("/home/SUB[USER]", {"USER": "opus"}, "/home/opus", id="seed: in part"),
        pytest.param("SUB[A]/SUB[B]/SUB[A]", {"A": "x", "B": "y"}, "x/y/x", id="several"),
        pytest.param("SUB[A]", {"A": "SUB[A]"}, "SUB[A]", id="not read again"),
        pytest.param("SUB[A]", {"A": "OTHER->KEY"}, "OTHER->KEY", id="no reference from it"),
        pytest.param("SUB[A]", {"A": "B:rest", "B": "/b"}, "B:rest", id="no prefix from it"),
        pytest.param("OPUS_WORK:nrtscw/obs/", {"OPUS_WORK": "/w"}, "/w/nrtscw/obs/", id="prefix"),
        pytest.param("OPUS_WORK:/x", {"OPUS_WORK": "/w"}, "/w/x", id="stays below the directory"),
        pytest.param("OPUS_WORK:", {"OPUS_WORK": "/w"}, "/w", id="prefix alone"),
        pytest.param("W:SUB[A]/b", {"W": "/w", "A": "a"}, "/w/a/b", id="prefix and SUB"),
        pytest.param("W:a", {"W": "/none:/w"}, "/none/a", id="search path, found nowhere"),
        pytest.param("path://MIRROR/a", {"path": "/w"}, "path://MIRROR/a", id="an address"),
        pytest.param("nomad:5432", {"nomad": "/w"}, "nomad:5432", id="host and port"),
        pytest.param("NOMAD:5432", {}, "NOMAD:5432", id="host and port in capitals"),
        pytest.param("OPUS_WORK:2026", {"OPUS_WORK": "/w"}, "/w/2026", id="a year"),
        pytest.param("12:00:00", {}, "12:00:00", id="a time"),
        pytest.param("lower:case", {}, "lower:case", id="no variable"),
    ],
)
def test_value(tmp_path: Path, text: str, environ: dict[str, str], value: str) -> None:
    paths = blue(tmp_path, f"K = {text}\n", environ)
    assert paths.value("K") == value
    assert paths.resolve(text) == value


def test_prefix_with_search_path_takes_the_directory_that_has_it(tmp_path: Path) -> None:
    write(tmp_path / "second", "blue_pipeline.stage", "")
    environ = {"OPUS_DEFINITIONS_DIR": f"{tmp_path}/first:{tmp_path}/second"}
    paths = blue(tmp_path, "", environ)
    assert paths.value("STAGE_FILE") == f"{tmp_path}/second/blue_pipeline.stage"


def test_environment_is_asked_each_time(tmp_path: Path) -> None:
    environ = {"USER": "first"}
    paths = blue(tmp_path, "USER_HOME_DIR = /home/SUB[USER]\n", environ)
    assert paths.value("USER_HOME_DIR") == "/home/first"
    environ["USER"] = "second"
    assert paths.value("USER_HOME_DIR") == "/home/second"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("/home/SUB[USER]", "SUB[USER]: the environment variable USER is not set"),
        ("SUB[]", "SUB[]: the environment variable  is not set"),
        ("OPUS_WORK:obs", "the environment variable OPUS_WORK is not set"),
        ("EMPTY:obs", "the environment variable EMPTY is empty"),
        ("RED->OUT", "RED: RED.path expected in"),
        ("../blue->OUT", "../blue: the name of a path expected"),
    ],
)
def test_value_refused_with_file_line_keyword(tmp_path: Path, text: str, message: str) -> None:
    paths = blue(tmp_path, f"K = {text}\n", {"EMPTY": ""})
    with pytest.raises(ConfigError) as raised:
        paths.value("K")
    assert str(raised.value).startswith(f"{tmp_path}/blue.path:6: K: ")
    assert message in str(raised.value)


def test_unknown_keyword_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="NOSUCH: no such keyword; the file has STAGE_FILE"):
        blue(tmp_path, "").value("NOSUCH")


class TestReference:
    """`OTHER->KEY`, as the seed's OUTPATH = BLUE->OUTPATH."""

    def red(self, tmp_path: Path, **environ: str) -> PathFile:
        text = COMPLETE + "OUTPATH = BLUE->OUTPATH\n"
        return read_path_file(write(tmp_path / "here", "red.path", text), environ)

    def test_upper_case_names_the_lower_case_file(self, tmp_path: Path) -> None:
        write(tmp_path / "here", "blue.path", "OUTPATH  = SUB[OUTPUT_DIR]\n")
        assert self.red(tmp_path, OUTPUT_DIR="/out").value("OUTPATH") == "/out"

    def test_exact_name_anywhere_before_lower_case(self, tmp_path: Path) -> None:
        write(tmp_path / "defs", "blue.path", "OUTPATH = /lower\n")
        write(tmp_path / "here", "BLUE.path", "OUTPATH = /exact\n")
        paths = self.red(tmp_path, OPUS_DEFINITIONS_DIR=f"{tmp_path}/defs")
        assert paths.value("OUTPATH") == "/exact"

    def test_definitions_path_before_the_file_beside(self, tmp_path: Path) -> None:
        write(tmp_path / "here", "BLUE.path", "OUTPATH = /beside\n")
        write(tmp_path / "defs", "BLUE.path", "OUTPATH = /along\n")
        paths = self.red(tmp_path, OPUS_DEFINITIONS_DIR=f"{tmp_path}/none:{tmp_path}/defs")
        assert paths.value("OUTPATH") == "/along"

    def test_chain(self, tmp_path: Path) -> None:
        write(tmp_path / "here", "blue.path", "OUTPATH = green->OUT\n")
        write(tmp_path / "here", "green.path", "OUT = /green\n")
        assert self.red(tmp_path).value("OUTPATH") == "/green"

    @pytest.mark.parametrize("back", ["red->OUTPATH", "blue->OUTPATH", "BLUE->OUTPATH"])
    def test_circle_is_an_error(self, tmp_path: Path, back: str) -> None:
        write(tmp_path / "here", "blue.path", f"OUTPATH = {back}\n")
        with pytest.raises(ConfigError, match=r"leads back to itself: red\.path OUTPATH"):
            self.red(tmp_path).value("OUTPATH")

    def test_endless_chain_is_an_error(self, tmp_path: Path) -> None:
        steps = "".join(f"K{n} = blue->K{n + 1}\n" for n in range(2000))
        write(tmp_path / "here", "blue.path", "OUTPATH = blue->K0\n" + steps)
        with pytest.raises(ConfigError, match="at most 32 references"):
            self.red(tmp_path).value("OUTPATH")

    def test_faulty_other_file_named(self, tmp_path: Path) -> None:
        write(tmp_path / "here", "blue.path", "OUTPATH = a b\n")
        with pytest.raises(ConfigError, match=r"blue\.path:1: OUTPATH: a value with blanks"):
            self.red(tmp_path).value("OUTPATH")

    def test_missing_keyword_names_the_other_file(self, tmp_path: Path) -> None:
        write(tmp_path / "here", "blue.path", "K = v\n")
        with pytest.raises(ConfigError, match=r"blue\.path: OUTPATH: no such keyword"):
            self.red(tmp_path).value("OUTPATH")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        pytest.param("MIRROR_DIR", "/base/mirror", id="a keyword"),
        pytest.param("SUB[BASE]/mirror", "/base/mirror", id="SUB"),
        pytest.param("blue->MIRROR_DIR", "/base/mirror", id="reference"),
        pytest.param("/somewhere/else", "/somewhere/else", id="a path"),
        pytest.param("path://MIRROR", "path://MIRROR", id="a prefix that is no directory"),
        pytest.param("mirror_dir", "mirror_dir", id="no keyword: another case"),
        pytest.param("/a dir/with ! and 'quotes'", "/a dir/with ! and 'quotes'", id="no syntax"),
    ],
)
def test_resolve_values_of_mirror_yaml(tmp_path: Path, text: str, value: str) -> None:
    paths = blue(tmp_path, "MIRROR_DIR = SUB[BASE]/mirror\n", {"BASE": "/base"})
    assert paths.resolve(text) == value


def test_resolve_refuses_unset_variable(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="variable BASE is not set"):
        blue(tmp_path, "").resolve("SUB[BASE]/mirror")


def test_find_path_file_along_definitions_path(tmp_path: Path) -> None:
    first = write(tmp_path / "a", "blue.path", "")
    write(tmp_path / "b", "blue.path", "")
    environ = {"OPUS_DEFINITIONS_DIR": f"{tmp_path}/none::{tmp_path}/a:{tmp_path}/b"}
    assert find_path_file("blue", environ) == first
    assert find_path_file("blue.path", environ) == first
    assert find_path_file("BLUE", environ) == first


@pytest.mark.parametrize("name", ["red", "../blue", "", "a/b", "a\0b", "-x"])
def test_find_path_file_refuses(tmp_path: Path, name: str) -> None:
    write(tmp_path, "blue.path", "")
    with pytest.raises(ConfigError, match="expected"):
        find_path_file(name, {"OPUS_DEFINITIONS_DIR": str(tmp_path / "defs")})


def test_find_path_file_says_when_nothing_is_set() -> None:
    with pytest.raises(ConfigError, match="OPUS_DEFINITIONS_DIR, which is not set"):
        find_path_file("blue", {})


@pytest.mark.parametrize("given", ["blue", "blue.path", "./blue.path", "{here}/blue.path"])
def test_a_path_by_name_or_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    """As every command takes it: what looks like a file is one, even if a name leads elsewhere."""
    along = write(tmp_path / "along", "blue.path", "")
    here = write(tmp_path / "here", "blue.path", "")
    monkeypatch.chdir(here.parent)
    found = named_path_file(
        given.format(here=here.parent), {"OPUS_DEFINITIONS_DIR": str(along.parent)}
    )
    assert found.resolve() == (along if given == "blue" else here)


def test_a_name_that_is_no_file_here_is_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    along = write(tmp_path / "along", "blue.path", "")
    monkeypatch.chdir(tmp_path)
    assert named_path_file("blue.path", {"OPUS_DEFINITIONS_DIR": str(along.parent)}) == along


@given(st.text(max_size=40))
def test_resolving_any_text_only_raises_config_error(text: str) -> None:
    paths = PathFile(Path("/nowhere/blue.path"), {"A": "/a"}, (), {})
    try:
        paths.resolve(text)
    except ConfigError:
        pass
