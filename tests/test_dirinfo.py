"""Where the files of a fileset belong (PROTOCOL section 3, "dirinfo")."""

from dataclasses import FrozenInstanceError

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.dirinfo import Places, read_dirinfo
from mirror.errors import IntegrityError

DATA = "/mirror/data"
DESTDIR = "gpc1/scitest.200807"
CHIP = Places(DATA, DESTDIR, {"XY01": "o4642.1", "XY02": "o4642.2"})

DIRINFO = """\
destdir METADATA
\tdestdir\tSTR\tgpc1/scitest.200807
END

components METADATA
\tXY01\tSTR\to4642g0414o.19490
\tskycell.1566.004\tSTR\ta/b
END
"""


def dirinfo(text: str) -> Places:
    return read_dirinfo(text.encode(), "dirinfo.chip.1.mdc", DATA)


def test_a_dirinfo_tells_where_components_belong() -> None:
    places = dirinfo(DIRINFO)
    assert places == Places(DATA, DESTDIR, {"XY01": "o4642g0414o.19490", "skycell.1566.004": "a/b"})
    assert places.directory("XY01") == "gpc1/scitest.200807/o4642g0414o.19490"
    assert places.local("XY01") == "/mirror/data/gpc1/scitest.200807/o4642g0414o.19490"
    assert places.workdir() == "/mirror/data/gpc1/scitest.200807"


def test_places_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        CHIP.destdir = None  # type: ignore[misc]


def test_without_destdir_a_component_lies_below_data() -> None:
    places = dirinfo(DIRINFO.replace("gpc1/scitest.200807", "none"))
    assert places.destdir is None
    assert places.directory("skycell.1566.004") == "a/b"
    assert places.local("skycell.1566.004") == "/mirror/data/a/b"
    assert places.workdir() == "/mirror/data"


def test_a_slash_at_the_end_of_destdir_is_tolerated() -> None:
    assert dirinfo(DIRINFO.replace("200807", "200807/")).destdir == "gpc1/scitest.200807"


def test_a_fileset_may_have_no_components() -> None:
    places = dirinfo("destdir METADATA\n destdir STR a\nEND\ncomponents METADATA\nEND\n")
    assert places.components == {}
    with pytest.raises(IntegrityError, match=r"'XY01' is not in dirinfo, which has none"):
        places.directory("XY01")


def test_an_unknown_component_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(IntegrityError, match=r"'XY03' is not in dirinfo, which has XY01, XY02$"):
        CHIP.directory("XY03")
    many = Places(DATA, None, {f"XY{n}": "a" for n in range(10, 40)})
    with pytest.raises(IntegrityError, match=r"XY18, XY19 and 20 more$"):
        many.directory("XY03")


@pytest.mark.parametrize("key", ["destdir", "XY01"])
@pytest.mark.parametrize(
    ("value", "reason"),
    [
        pytest.param("/etc", "absolute", id="absolute"),
        pytest.param("../x", "segment", id="parent"),
        pytest.param("a/../../x", "segment", id="parent-inside"),
        pytest.param("a/..", "segment", id="parent-at-end"),
        pytest.param("./a", "segment", id="dot"),
        pytest.param(".", "segment", id="dot-alone"),
        pytest.param("a//b", "segment", id="empty-segment"),
        pytest.param("a//", "segment", id="two-slashes-at-end"),
        pytest.param("/", "absolute|segment", id="root"),
        pytest.param("", "segment", id="empty"),
        pytest.param("a\x00b", "control|blanks", id="nul"),
        pytest.param("a\x1bb", "control", id="escape"),
        pytest.param("a\x7fb", "control", id="delete"),
        pytest.param("a\x9bb", "control", id="c1"),
        pytest.param("x" * 256, "255", id="long-segment"),
        pytest.param("é" * 128, "255", id="long-segment-in-bytes"),
        pytest.param("/".join(["x" * 99] * 11), "1024", id="long"),
    ],
)
def test_no_directory_leads_elsewhere(key: str, value: str, reason: str) -> None:
    old = "gpc1/scitest.200807" if key == "destdir" else "o4642g0414o.19490"
    with pytest.raises(IntegrityError, match=reason) as caught:
        dirinfo(DIRINFO.replace(old, value))
    assert "dirinfo.chip.1.mdc" in str(caught.value)
    if reason != "control|blanks":
        assert key in str(caught.value)


@pytest.mark.parametrize(
    "value", ["a", "a b", "x" * 255, "/".join(["x" * 100] * 10), "é", "a.b", "...", "..a", "-x"]
)
def test_plain_directories_are_taken_as_they_are(value: str) -> None:
    places = dirinfo(DIRINFO.replace("gpc1/scitest.200807", value))
    assert places.destdir == value
    assert dirinfo(DIRINFO.replace("a/b", value)).components["skycell.1566.004"] == value


@pytest.mark.parametrize(
    ("text", "named"),
    [
        pytest.param("", "destdir METADATA", id="empty"),
        pytest.param(DIRINFO.split("\n\n")[0] + "\n", "components METADATA", id="no-components"),
        pytest.param(DIRINFO.split("\n\n")[1], "destdir METADATA", id="no-destdir"),
        pytest.param(DIRINFO.replace("\tdestdir\t", "\tother\t"), "destdir", id="destdir-empty"),
        pytest.param(DIRINFO.replace("gpc1/scitest.200807", "NULL"), "destdir", id="destdir-null"),
        pytest.param(DIRINFO.replace("STR\tgpc1/scitest.200807", "S32 5"), "destdir", id="number"),
        pytest.param(DIRINFO.replace("STR\to4642g0414o.19490", "S32 5"), "XY01", id="component"),
        pytest.param(DIRINFO.replace("o4642g0414o.19490", "NULL"), "XY01", id="component-null"),
        pytest.param(DIRINFO.replace("\tXY01", "\tXY01 MULTI\n\tXY01"), "XY01", id="multi"),
        pytest.param("destdir STR a\ncomponents STR b\n", "destdir METADATA", id="no-blocks"),
        pytest.param("<html>not found</html>\n", "dirinfo", id="html"),
        pytest.param(DIRINFO[:-4], "dirinfo", id="cut"),
    ],
)
def test_what_is_no_dirinfo_is_refused(text: str, named: str) -> None:
    with pytest.raises(IntegrityError) as caught:
        dirinfo(text)
    assert "dirinfo.chip.1.mdc" in str(caught.value)
    assert named in str(caught.value)


@given(st.binary() | st.text(alphabet="destircompnEDMTA \t\n#./SR0", max_size=200).map(str.encode))
def test_arbitrary_bytes_as_dirinfo(data: bytes) -> None:
    try:
        read_dirinfo(data, "dirinfo", DATA)
    except IntegrityError:
        pass
