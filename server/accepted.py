"""What may be registered: only what every reader of our lists accepts (PROTOCOL section 2).

Nothing here touches disk or database. Each function returns every problem that it finds, as text
that names the thing, so that whoever asked can mend all of them at once; none: it is accepted.
"""

import re
from collections.abc import Iterable, Mapping, Sequence

from mirror.listing import FILESET_COLUMNS, INDEX, MAX_BYTES, NULL, check_name
from server.nginx import ACCEL
from server.schema import COLUMNS

PRODUCT_TYPES = (
    "image", "dump", "psrequest", "psresults", "table", "ipp-dist", "ipp-misc", "dqresults",
    "IPP-MOPS", "IPP-PSPS", "PSRESULTS",
)  # fmt: skip
FILESET_TYPES = (
    "OBJECT", "BIAS", "DARK", "SKYFLAT", "DOMEFLAT", "OOF", "SHACKHARTMANN", "PSREQUEST",
    "PSRESULTS", "IPP-MOPS", "XRAY", "FOCUS", "MOPS_DETECTABILITY_QUERY",
    "MOPS_DETECTABILITY_RESPONSE", "MOPS_TRANSIENT_DETECTIONS", "LED", "notset", "IPP_PSPS",
    "IPP-DIST", "table",
)  # fmt: skip
FILE_TYPES = (
    "chip", "psrequest", "psresults", "pstamp", "chipproc", "warp", "stack", "diff", "ipp-mops",
    "table", "text", "xml", "tgz", "fits", "IPP-MOPS", "IPP-PSPS", "ipp-psps", "notset",
)  # fmt: skip

LABEL_LENGTH = 255
"""Characters in a column's label or value; with all columns a line stays far below its bound."""

DESCRIPTION_LENGTH = 1024
"""Characters in a product's description."""

# What stands beside the products: the server's own pages, and what nginx keeps from everybody.
_BESIDE = {
    "healthz": "the server has a page of this name",
    "metrics": "the server has a page of this name",
    ACCEL.strip("/"): "nginx in front of the server has the files under this name",
}
_EMPTY = "none"
_MD5 = re.compile(r"[0-9a-f]{32}")


def name_problem(name: str) -> str | None:
    """Say why `name` cannot be registered as any name, or None if it can.

    Stricter than what readers accept: no blanks, and nothing that begins with a dot, for such
    files are never served.
    """
    if reason := check_name(name):
        return reason
    if " " in name:
        return f"a name with blanks: {name!r}"
    if name.startswith("."):
        return f"a name that begins with '.': {name!r}"
    if name.lower() == INDEX:
        return f"{name!r}, which is the list's own name"
    return None


def text_problem(text: str, limit: int = LABEL_LENGTH) -> str | None:
    """Say why a cell of a list cannot hold `text` of at most `limit` characters, or None."""
    if not text:
        return "is empty"
    if text != text.strip():
        return f"begins or ends with a blank: {text!r}"
    if len(text) > limit:
        return f"has {len(text)} characters (at most {limit})"
    if "|" in text or "#" in text:
        return f"holds '|' or '#': {text!r}"
    if not text.isprintable():
        return f"holds characters that cannot be printed: {text!r}"
    return None


def product_problems(
    name: str, kind: str, description: str, labels: Sequence[str | None]
) -> list[str]:
    """What is wrong with a new product; `labels` are those of its own columns, in order."""
    problems = product_name_problems(name)
    if reason := _BESIDE.get(name.lower()):
        problems.append(f"product {name}: {reason}")
    problems += _type_problem(f"product {name}", kind, PRODUCT_TYPES)
    problems += description_problems(name, description)
    return problems + _label_problems(name, labels)


def product_name_problems(name: str) -> list[str]:
    """What is wrong with a product's name, whether it is there already or not."""
    reason = name_problem(name)
    return [f"product: {reason}"] if reason else []


def description_problems(name: str, description: str) -> list[str]:
    """What is wrong with the description of product `name`."""
    reason = text_problem(description, DESCRIPTION_LENGTH)
    return [f"product {name}: the description {reason}"] if reason else []


def _label_problems(product: str, labels: Sequence[str | None]) -> list[str]:
    """Labels are what clients select by: each one of its own, none hiding a fixed column."""
    problems = []
    if len(labels) > COLUMNS:
        problems.append(f"product {product}: {len(labels)} columns (at most {COLUMNS})")
    seen = {name.lower(): f"fixed column {name!r}" for name in FILESET_COLUMNS}
    for number, label in enumerate(labels):
        where = f"product {product}: the label of column {number}"
        if label is None:
            problems.append(f"{where} is missing, but a later column has one")
        elif reason := text_problem(label):
            problems.append(f"{where} {reason}")
        elif label.startswith("-"):
            problems.append(f"{where} begins with '-', which sorts pages downwards: {label!r}")
        elif label.lower() in seen:
            problems.append(f"{where} is that of {seen[label.lower()]}: {label!r}")
        else:
            seen[label.lower()] = f"column {number}"
    return problems


def fileset_problems(
    name: str, kind: str, values: Sequence[str | None], labels: Sequence[str]
) -> list[str]:
    """What is wrong with a new fileset of a product whose own columns have these `labels`."""
    problems = fileset_name_problems(name)
    problems += _type_problem(f"fileset {name}", kind, FILESET_TYPES)
    return problems + _value_problems(f"fileset {name}", values, labels, "its product")


def fileset_name_problems(name: str) -> list[str]:
    """What is wrong with a fileset's name."""
    if reason := name_problem(name):
        return [f"fileset: {reason}"]
    if name.lower() == _EMPTY:
        return [f"fileset {name}: the root list says {_EMPTY!r} for a product without filesets"]
    return []


def file_problems(
    name: str,
    size: int | None,
    md5: str | None,
    kind: str,
    values: Sequence[str | None],
    types: Mapping[str, Sequence[str]],
) -> list[str]:
    """What is wrong with a new file; `types` are the labels of each file type's columns.

    `size` in bytes and `md5` are None where they are yet to be computed.
    """
    if reason := name_problem(name):
        return [f"file: {reason}"]
    problems = _type_problem(f"file {name}", kind, FILE_TYPES)
    if size is not None and not 0 <= size <= MAX_BYTES:
        problems.append(f"file {name}: a size from 0 to {MAX_BYTES} bytes expected, not {size}")
    if md5 is not None and not _MD5.fullmatch(md5):
        problems.append(
            f"file {name}: an md5 sum of 32 lower-case hexadecimal digits expected, not {md5!r}"
        )
    if kind in FILE_TYPES:
        labels = types.get(kind, ())
        problems += _value_problems(f"file {name}", values, labels, f"type {kind}")
    return problems


def clashes(names: Iterable[str]) -> list[str]:
    """The names of one fileset that are there twice, or differ only by case."""
    seen: dict[str, str] = {}
    problems = []
    for name in names:
        other = seen.get(name.lower())
        if other is None:
            seen[name.lower()] = name
            continue
        what = "is there twice" if other == name else f"differs from {other} only by case"
        problems.append(f"file {name}: {what}")
    return problems


def _type_problem(what: str, kind: str, known: Sequence[str]) -> list[str]:
    if kind in known:
        return []
    return [f"{what}: one of the types {', '.join(known)} expected, not {kind!r}"]


def _value_problems(
    what: str, values: Sequence[str | None], labels: Sequence[str], owner: str
) -> list[str]:
    problems = []
    if len(values) > len(labels):
        has = f"the columns {', '.join(labels)}" if labels else "no columns of its own"
        problems.append(f"{what}: {len(values)} values, but {owner} has {has}")
    for label, value in zip(labels, values, strict=False):
        if value is None:
            continue
        if value == NULL:
            problems.append(f"{what}: column {label} is {NULL!r}, which says that it is missing")
        elif reason := text_problem(value):
            problems.append(f"{what}: column {label} {reason}")
    return problems
