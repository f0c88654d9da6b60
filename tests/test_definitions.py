"""Where path, resource and stage files are found (OPUS, "Path files": "looked for along
OPUS_DEFINITIONS_DIR, a search path like PATH")."""

from pathlib import Path

import pytest

from formats import definitions
from formats.path_file import named_path_file
from mirror.errors import ConfigError


@pytest.fixture
def along(tmp_path: Path) -> dict[str, str]:
    """A search path of two directories, with one between them that is not there."""
    for name in ("a", "b", "beside"):
        (tmp_path / name).mkdir()
    return {"OPUS_DEFINITIONS_DIR": f"{tmp_path}/none:{tmp_path}/a::{tmp_path}/gone:{tmp_path}/b"}


def test_every_file_of_a_kind(tmp_path: Path, along: dict[str, str]) -> None:
    """The first of each name counts; what is no file, or only an ending, is none."""
    for name in ("a/z.path", "a/m.path", "b/m.path", "b/c.path", "beside/d.path", "beside/z.path",
                 "a/.path", "a/x.stage", "b/path"):  # fmt: skip
        (tmp_path / name).touch()
    (tmp_path / "b" / "e.path").mkdir()
    found = ["b/c.path", "beside/d.path", "a/m.path", "a/z.path"]
    assert definitions.every(".path", along, tmp_path / "beside") == [
        tmp_path / one for one in found
    ]
    assert definitions.every(".stage", along) == [tmp_path / "a" / "x.stage"]
    assert definitions.every(".path", {}) == []


def test_a_directory_is_no_definition(tmp_path: Path, along: dict[str, str]) -> None:
    (tmp_path / "a" / "blue.path").mkdir()
    (tmp_path / "b" / "blue.path").touch()
    assert definitions.find("blue", ".path", along) == tmp_path / "b" / "blue.path"


def test_a_file_or_the_name_of_a_path(
    tmp_path: Path, along: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name is looked for, unless a file is called so: what ends in .path, or has a directory."""
    (tmp_path / "a" / "blue.path").touch()
    monkeypatch.chdir(tmp_path / "b")
    assert named_path_file("blue.path", along) == tmp_path / "a" / "blue.path"
    assert named_path_file("none/blue", along) == Path("none/blue")
    Path("blue.path").touch()
    Path("blue").touch()
    assert named_path_file("blue.path", along) == Path("blue.path")
    assert named_path_file("blue", along) == tmp_path / "a" / "blue.path"


@pytest.mark.parametrize(
    ("name", "ending", "text"),
    [
        ("red", ".path", "red: red.path expected in {0}/none, {0}/a, {0}/gone, {0}/b, but"),
        ("Red.path", ".path", "Red.path: Red.path expected in {0}/none"),
        ("../red", ".path", "../red: the name of a path expected, like blue or blue.path"),
        ("../red", ".resource", "the name of a process expected, like blue or blue.resource"),
        ("../red", ".stage", "the name of a stage file expected, like blue or blue.stage"),
    ],
)
def test_what_is_not_there(
    tmp_path: Path, along: dict[str, str], name: str, ending: str, text: str
) -> None:
    with pytest.raises(ConfigError) as raised:
        definitions.find(name, ending, along)
    assert text.format(tmp_path) in str(raised.value)
