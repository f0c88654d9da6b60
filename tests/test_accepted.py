"""What may be registered: the rules of the lists' readers, and those that we add to them."""

import pytest

from mirror.listing import MAX_BYTES
from server.accepted import (
    DESCRIPTION_LENGTH,
    FILE_TYPES,
    LABEL_LENGTH,
    clashes,
    file_problems,
    fileset_problems,
    product_problems,
    text_problem,
)

MD5 = "d41d8cd98f00b204e9800998ecf8427e"
LABELS = ("target_id", "stage")
TYPES = {"tgz": ("component",), "fits": ()}


def refused(problems: list[str], *reasons: str) -> None:
    """Each problem holds its reason, and there are no others."""
    assert len(problems) == len(reasons), problems
    for problem, reason in zip(problems, reasons, strict=True):
        assert reason in problem


def test_what_the_protocol_shows_is_accepted() -> None:
    labels = ("target_id", "stage", "stage_id", "exp_name", "data_group", "filter")
    values = ("3", "chip", "11955", None, "SweetSpot.1", "r.00000")
    assert product_problems("gpc1", "ipp-dist", "Giga Pixel Camera 1, Ω", labels) == []
    assert fileset_problems("o4741g0239o.chip.11955.2.1", "IPP-DIST", values, labels) == []
    assert file_problems("a.XY01.tgz", 0, MD5, "tgz", ("XY01",), TYPES) == []
    assert file_problems("a.fits", None, None, "fits", (), TYPES) == []
    assert product_problems("status", "table", "x", ("fileset name", "fault")) == []


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "an empty name"),
        (".", "'.' as a name"),
        ("..", "'..' as a name"),
        (".hidden", "begins with '.'"),
        ("-add", "begins with '-'"),
        ("a b", "a name with blanks"),
        (" a", "begins or ends with a blank"),
        ("a/b", "characters outside"),
        ("../b", "characters outside"),
        ("a|b", "characters outside"),
        ("a#b", "characters outside"),
        ("a~", "characters outside"),
        ("a\nb", "characters outside"),
        ("a\n", "characters outside"),
        ("a\0b", "characters outside"),
        ("a%2fb", "characters outside"),
        ("a\\b", "characters outside"),
        ("ä", "characters outside"),
        ("a'; DROP TABLE dsFile; --", "characters outside"),
        ("a" * 256, "256 bytes"),
        ("index.txt", "the list's own name"),
        ("INDEX.TXT", "the list's own name"),
    ],
)
def test_names_are_refused(name: str, reason: str) -> None:
    refused(product_problems(name, "table", "x", ()), reason)
    refused(fileset_problems(name, "OBJECT", (), ()), reason)
    refused(file_problems(name, 1, MD5, "fits", (), TYPES), reason)


@pytest.mark.parametrize("name", ["a", "A.b_c+d:e-f", "1", "a" * 255])
def test_names_are_accepted(name: str) -> None:
    assert product_problems(name, "table", "x", ()) == []
    assert fileset_problems(name, "OBJECT", (), ()) == []
    assert file_problems(name, 1, MD5, "fits", (), TYPES) == []


@pytest.mark.parametrize("name", ["healthz", "metrics", "Metrics"])
def test_a_product_has_not_the_name_of_a_page(name: str) -> None:
    refused(product_problems(name, "table", "x", ()), "a page of this name")


def test_a_fileset_is_not_called_none() -> None:
    refused(fileset_problems("none", "OBJECT", (), ()), "'none' for a product without filesets")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is empty"),
        (" x", "begins or ends with a blank"),
        ("x\t", "begins or ends with a blank"),
        ("a|b", "holds '|' or '#'"),
        ("#a", "holds '|' or '#'"),
        ("a\nb", "cannot be printed"),
        ("a\tb", "cannot be printed"),
        ("a\x1b[2Jb", "cannot be printed"),
        ("a\0b", "cannot be printed"),
        ("a\u2028b", "cannot be printed"),
        ("a\udc80b", "cannot be printed"),
        ("x" * (LABEL_LENGTH + 1), "256 characters (at most 255)"),
    ],
)
def test_texts_are_refused(text: str, reason: str) -> None:
    assert reason in (text_problem(text) or "accepted")
    refused(fileset_problems("o1", "OBJECT", (text,), LABELS), "column target_id")
    refused(file_problems("a", 1, MD5, "tgz", (text,), TYPES), "column component")
    refused(product_problems("gpc1", "table", "x", (text,)), "column 0")


@pytest.mark.parametrize(
    "text", ["x", "x" * LABEL_LENGTH, "a b", "Ω µ", "x'); DROP TABLE dsFile; -- %s ? \" \\"]
)
def test_texts_are_accepted(text: str) -> None:
    assert text_problem(text) is None


def test_a_description_may_be_longer() -> None:
    assert product_problems("gpc1", "table", "x" * DESCRIPTION_LENGTH, ()) == []
    refused(
        product_problems("gpc1", "table", "x" * (DESCRIPTION_LENGTH + 1), ()),
        "the description has 1025 characters",
    )


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        (("a", None, "b"), "column 1 is missing"),
        (("a", "a"), "that of column 0"),
        (("a", "A"), "that of column 0"),
        (("filesetid",), "fixed column 'filesetID'"),
        (("Time registered",), "fixed column 'time registered'"),
        (("type",), "fixed column 'type'"),
        (("a", "-b"), "the label of column 1 begins with '-'"),
        (tuple("abcdefghi"), "9 columns (at most 8)"),
    ],
)
def test_labels_are_refused(labels: tuple[str | None, ...], reason: str) -> None:
    refused(product_problems("gpc1", "table", "x", labels), reason)


def test_more_values_than_columns_name_the_columns() -> None:
    problems = fileset_problems("o1", "OBJECT", ("1", "2", "3"), LABELS)
    refused(problems, "3 values, but its product has the columns target_id, stage")
    refused(fileset_problems("o1", "OBJECT", ("1",), ()), "no columns of its own")
    problems = file_problems("a", 1, MD5, "tgz", ("1", "2"), TYPES)
    refused(problems, "2 values, but type tgz has the columns component")
    refused(file_problems("a", 1, MD5, "fits", ("1",), TYPES), "type fits has no columns")


def test_null_is_not_a_value() -> None:
    refused(fileset_problems("o1", "OBJECT", (None, "null"), LABELS), "column stage is 'null'")


@pytest.mark.parametrize("kind", ["", "fit", "FITS", "fits|"])
def test_unknown_types_name_the_known_ones(kind: str) -> None:
    refused(file_problems("a", 1, MD5, kind, (), TYPES), f"{', '.join(FILE_TYPES)} expected")
    refused(product_problems("a", kind, "x", ()), "image, dump,")
    refused(fileset_problems("a", kind, (), ()), "OBJECT, BIAS,")


@pytest.mark.parametrize(
    ("size", "md5", "reason"),
    [
        (-1, MD5, "a size from 0"),
        (MAX_BYTES + 1, MD5, "a size from 0"),
        (1, MD5[:-1], "an md5 sum of 32"),
        (1, MD5.upper(), "an md5 sum of 32"),
        (1, "", "an md5 sum of 32"),
        (1, MD5 + "\n", "an md5 sum of 32"),
    ],
)
def test_sizes_and_sums_are_refused(size: int, md5: str, reason: str) -> None:
    refused(file_problems("a", size, md5, "fits", (), TYPES), reason)


def test_names_of_one_fileset_differ_by_more_than_case() -> None:
    refused(clashes(["a", "b", "A", "b"]), "A: differs from a only by case", "b: is there twice")
    assert clashes(["a", "b", "c"]) == []


def test_everything_wrong_is_said_at_once() -> None:
    refused(product_problems("a b", "x", "", ("a", "a")), "blank", "types", "empty", "column 0")
    refused(fileset_problems(".a", "x", ("", ""), ("s",)), "'.'", "types", "2 values", "empty")
    refused(file_problems("a", -1, "x", "x", (), TYPES), "types", "size", "md5")
