"""Which files a run publishes, and under which names they go out.

Decided from the run's rows and the config dumps of its components (PROTOCOL sections 3 and 4, seed
000); nothing here touches disk or database.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from mirror.errors import IntegrityError
from server.accepted import FILE_TYPES, FILESET_TYPES, LABEL_LENGTH
from server.distribution.outputs import Output, dump_path
from server.runs.stages import Stage, component

POSITIVE, NEGATIVE = "positive", "negative"
"""The directions of a difference: what the later exposure has more, and what it has less."""

RULES: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "diff": {POSITIVE: ("PPSUB.OUTPUT.SOURCES",), NEGATIVE: ("PPSUB.INVERSE.SOURCES",)},
    "camera": {POSITIVE: ("PSASTRO.OUTPUT.CMF", "PSASTRO.OUTPUT.SOURCES", "PSASTRO.OUTPUT")},
}
"""Of the stages that can be published, and their directions, the rules in FILES.OUTPUT of a config
dump under which the detections are: the first one that the dump has."""


@dataclass(frozen=True, slots=True)
class Source:
    """A component whose detections go out, and its config dump, as its row has the path."""

    component: str
    dump: str


def directions(stage: Stage, run: Mapping[str, object]) -> tuple[str, ...]:
    """The directions that a run has: both for a difference with `bothways` set in its row."""
    if stage.name == "diff" and run.get("bothways"):
        return POSITIVE, NEGATIVE
    return (POSITIVE,)


def good_sources(
    stage: Stage, run: Mapping[str, object], rows: Iterable[Mapping[str, object]]
) -> tuple[Source, ...]:
    """The components whose detections go out: those with quality 0 and fault 0 (NULL is 0).

    `run` is the run's row, `rows` are its components' rows. Raises IntegrityError where there is
    none, for a client has no use for a fileset without files, or where one has no path_base.
    """
    name = f"{stage.name} run {run.get(stage.id_column)}"
    found = []
    count = 0
    for row in rows:
        count += 1
        if row.get("quality") or row.get("fault"):
            continue
        part = component(stage, run, row)
        path_base = row.get("path_base")
        if not path_base:
            raise IntegrityError(
                f"{name}: {part} is of good quality and has no path_base; import the run again when"
                " it is finished"
            )
        found.append(Source(part, dump_path(stage, part, str(path_base))))
    if not found:
        raise IntegrityError(
            f"{name}: no component of good quality among {count} (quality 0 and fault 0); there is"
            " nothing to publish"
        )
    return tuple(found)


def pick(
    stage: str, direction: str, outputs: Iterable[Output], dump: str, component: str
) -> Output:
    """The detections of a component among the `outputs` of its config dump.

    Raises IntegrityError, which names `dump` and `component`, where no rule has a file, or one has
    several.
    """
    rules = RULES[stage][direction]
    files: dict[str, list[Output]] = {}
    for output in outputs:
        files.setdefault(output.rule, []).append(output)
    found = next((rule for rule in rules if rule in files), None)
    if found is None:
        raise IntegrityError(
            f"{dump}: FILES.OUTPUT of {component} has no {' or '.join(rules)}, the {direction}"
            " detections"
        )
    if len(files[found]) > 1:
        raise IntegrityError(
            f"{dump}: FILES.OUTPUT of {component} has {len(files[found])} files of {found}; one"
            " expected"
        )
    return files[found][0]


def translated_names(base: str, directions: Sequence[str]) -> tuple[str, ...]:
    """The names of translated files, one a direction; `base` is the base name of path_base."""
    if len(directions) == 1:
        return (f"{base}.fits",)
    return tuple(f"{base}.{direction}.fits" for direction in directions)


def fileset_name(pub_id: int, stage: str, stage_id: int) -> str:
    """The name of a published fileset (PROTOCOL section 4)."""
    return f"pub.{pub_id}.{stage}.{stage_id}"


_FILESET_FAMILIES = (("IPP-MOPS", "IPP-MOPS"), ("IPP-PSPS", "IPP_PSPS"))
_FILE_FAMILIES = (("IPP-MOPS", "IPP-MOPS"), ("IPP-PSPS", "IPP-PSPS"))


def fileset_type(product: str) -> str:
    """The type of a product's filesets: the product's name where clients know that as a type.

    `IPP-MOPS` and `IPP_PSPS` for products that begin with these names, else `notset`.
    """
    return _type(product, FILESET_TYPES, _FILESET_FAMILIES, "notset")


def file_type(product: str) -> str:
    """The type of a product's files, likewise; else `fits`."""
    return _type(product, FILE_TYPES, _FILE_FAMILIES, "fits")


def _type(
    product: str, known: Sequence[str], families: Sequence[tuple[str, str]], other: str
) -> str:
    if product in known:
        return product
    return next((kind for begin, kind in families if product.startswith(begin)), other)


def exposure_text(exposures: Sequence[str]) -> str | None:
    """The names of exposures as one value of a fileset's row, blanks between them.

    Where they are too many for a value, as many as fit and how many more there are: `o1 o2 +14`.
    None where there is none.
    """
    text = " ".join(exposures)
    shown = len(exposures)
    while len(text) > LABEL_LENGTH and shown > 1:
        shown -= 1
        text = " ".join((*exposures[:shown], f"+{len(exposures) - shown}"))
    return text or None
