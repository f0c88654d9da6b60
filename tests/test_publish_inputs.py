"""Which files a run publishes, and under which names: decided from rows and dumps alone."""

import pytest

from mirror.errors import IntegrityError
from server.accepted import LABEL_LENGTH, text_problem
from server.distribution.outputs import Output
from server.publishing.inputs import (
    directions,
    exposure_text,
    file_type,
    fileset_name,
    fileset_type,
    good_sources,
    pick,
    translated_names,
)
from server.runs.stages import STAGES

Row = dict[str, object]

DIFF = STAGES["diff"]
CAMERA = STAGES["camera"]


def skyfile(skycell: str, **columns: object) -> Row:
    return {"skycell_id": skycell, "path_base": f"neb://v/{skycell}", **columns}


@pytest.mark.parametrize(
    ("stage", "run", "expected"),
    [
        pytest.param("diff", {"bothways": 1}, ("positive", "negative"), id="both ways"),
        pytest.param("diff", {"bothways": 0}, ("positive",), id="one way"),
        pytest.param("diff", {"bothways": None}, ("positive",), id="NULL"),
        pytest.param("diff", {}, ("positive",), id="never exported"),
        pytest.param("camera", {"bothways": 1}, ("positive",), id="no difference"),
    ],
)
def test_directions(stage: str, run: Row, expected: tuple[str, ...]) -> None:
    assert directions(STAGES[stage], run) == expected


@pytest.mark.parametrize(
    ("columns", "good"),
    [
        pytest.param({}, True, id="neither column"),
        pytest.param({"quality": 0, "fault": 0}, True, id="good"),
        pytest.param({"quality": None, "fault": None}, True, id="NULL counts as 0"),
        pytest.param({"quality": 8006, "fault": 0}, False, id="poor quality"),
        pytest.param({"quality": 0, "fault": 5}, False, id="a fault"),
    ],
)
def test_components_of_good_quality_go_out(columns: Row, good: bool) -> None:
    rows = [skyfile("a", **columns), skyfile("b")]
    found = [source.component for source in good_sources(DIFF, {"diff_id": 1}, rows)]
    assert found == (["a", "b"] if good else ["b"])


def test_where_the_dump_is() -> None:
    (source,) = good_sources(DIFF, {"diff_id": 1}, [skyfile("a")])
    assert source.dump == "neb://v/a.mdc"
    (source,) = good_sources(CAMERA, {"cam_id": 1}, [{"path_base": "neb://v/o1.cm.1"}])
    assert (source.component, source.dump) == ("exposure", "neb://v/o1.cm.1.mdc")


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        pytest.param([], "no component of good quality among 0", id="no components"),
        pytest.param(
            [skyfile("a", quality=1), skyfile("b", fault=2)],
            "diff run 456: no component of good quality among 2", id="none is good",
        ),
        pytest.param(
            [skyfile("a") | {"path_base": None}], "diff run 456: a is of good quality and has no"
            " path_base", id="no path_base",
        ),
    ],
)  # fmt: skip
def test_runs_without_anything_to_publish(rows: list[Row], said: str) -> None:
    with pytest.raises(IntegrityError, match=said):
        good_sources(DIFF, {"diff_id": 456}, rows)


OUTPUTS = [
    Output("PPSUB.OUTPUT", "neb://v/a.fits"),
    Output("PPSUB.OUTPUT.SOURCES", "neb://v/a.cmf"),
    Output("PPSUB.INVERSE.SOURCES", "neb://v/a.inv.cmf"),
    Output("PSASTRO.OUTPUT", "neb://v/o1.smf"),
]
CMF = Output("PSASTRO.OUTPUT.CMF", "neb://v/o1.cmf")
SOURCES = Output("PSASTRO.OUTPUT.SOURCES", "neb://v/o1.src")


@pytest.mark.parametrize(
    ("stage", "direction", "outputs", "path"),
    [
        pytest.param("diff", "positive", OUTPUTS, "neb://v/a.cmf", id="positive"),
        pytest.param("diff", "negative", OUTPUTS, "neb://v/a.inv.cmf", id="negative"),
        pytest.param("camera", "positive", OUTPUTS, "neb://v/o1.smf", id="smf"),
        pytest.param("camera", "positive", [*OUTPUTS, SOURCES], "neb://v/o1.src", id="sources"),
        pytest.param("camera", "positive", [*OUTPUTS, SOURCES, CMF], "neb://v/o1.cmf", id="cmf"),
    ],
)
def test_which_rule_has_the_detections(
    stage: str, direction: str, outputs: list[Output], path: str
) -> None:
    assert pick(stage, direction, outputs, "a.mdc", "a").path == path


@pytest.mark.parametrize(
    ("outputs", "said"),
    [
        pytest.param(
            OUTPUTS[:1], "a.mdc: FILES.OUTPUT of sky has no PPSUB.OUTPUT.SOURCES", id="no rule"
        ),
        pytest.param([OUTPUTS[1]] * 2, "has 2 files of PPSUB.OUTPUT.SOURCES", id="two files"),
    ],
)
def test_dumps_without_one_file_of_detections(outputs: list[Output], said: str) -> None:
    with pytest.raises(IntegrityError, match=said):
        pick("diff", "positive", outputs, "a.mdc", "sky")


@pytest.mark.parametrize(
    ("product", "fileset", "file"),
    [
        pytest.param("IPP-MOPS", "IPP-MOPS", "IPP-MOPS", id="IPP-MOPS"),
        pytest.param("IPP-MOPS-TEST", "IPP-MOPS", "IPP-MOPS", id="begins with IPP-MOPS"),
        pytest.param("IPP-PSPS", "IPP_PSPS", "IPP-PSPS", id="IPP-PSPS"),
        pytest.param("ipp-mops", "notset", "ipp-mops", id="a file type alone"),
        pytest.param("transients", "notset", "fits", id="any other"),
    ],
)
def test_types(product: str, fileset: str, file: str) -> None:
    assert (fileset_type(product), file_type(product)) == (fileset, file)


def test_names() -> None:
    assert fileset_name(123, "diff", 456) == "pub.123.diff.456"
    assert translated_names("IPP-MOPS.123", ("positive",)) == ("IPP-MOPS.123.fits",)
    assert translated_names("IPP-MOPS.123", ("positive", "negative")) == (
        "IPP-MOPS.123.positive.fits",
        "IPP-MOPS.123.negative.fits",
    )


@pytest.mark.parametrize(
    ("exposures", "text"),
    [
        pytest.param([], None, id="none known"),
        pytest.param(["o1"], "o1", id="one"),
        pytest.param(["o1", "o2"], "o1 o2", id="two"),
    ],
)
def test_exposures(exposures: list[str], text: str | None) -> None:
    assert exposure_text(exposures) == text


@pytest.mark.parametrize("count", [22, 23, 24, 500])
def test_exposures_that_are_too_many_for_a_column(count: int) -> None:
    text = exposure_text([f"o5000g{number:04d}" for number in range(count)])
    assert text
    assert text_problem(text) is None
    shown = [word for word in text.split(" ") if word.startswith("o")]
    left = int(text.rpartition("+")[2]) if "+" in text else 0
    assert len(shown) + left == count
    assert not left or len(text) + len(" o5000g0000") > LABEL_LENGTH, "one more would have fitted"
