"""Which files a component has, and which of them go out (PROTOCOL section 3, "Config dumps").

Nothing here touches the disk: a config dump comes in as bytes, and paths go out as they are
written in it.
"""

import gzip
import io
import re
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from formats import mdc
from mirror.errors import ConfigError, IntegrityError
from mirror.listing import check_name
from mirror.tarstream import folded
from server.runs.stages import Stage

MAX_DUMP = 2**26
"""Bytes of an unpacked dump: those of a night have some 10,000, and a mirror takes even more."""

_BLOCK = "FILES.OUTPUT"
_NO_FILE = ("STDOUT", "STDERR")
_LARGE = frozenset(
    {
        rule + kind
        for rule in (
            "PPIMAGE.CHIP", "PPBACKGROUND.OUTPUT", "PSWARP.OUTPUT", "PPSUB.OUTPUT",
            "PPSUB.INVERSE", "PPSTACK.UNCONV",
        )
        for kind in ("", ".MASK", ".VARIANCE")
    }
    | {"PSASTRO.OUTPUT.MASK", "PPSTACK.UNCONV.EXP", "PPSTACK.UNCONV.EXPNUM", "PPSTACK.UNCONV.EXPWT"}
)  # fmt: skip

# A word of a rule between dots; binned images are numbered (PPIMAGE.BIN1).
_MAY_MISS = re.compile(r"(?:^|\.)(?:LOG|TRACE|STATS|BIN)[0-9]*(?:\.|$)")
_TRACE = re.compile(r"(?:^|\.)TRACE(?:\.|$)")
_FITS = re.compile(r"\.fits(?:\.(?:fz|gz))?$")


@dataclass(frozen=True, slots=True)
class Output:
    """A line of FILES.OUTPUT: `path` as it is written there, `may_miss` if that is no fault."""

    rule: str
    path: str

    @property
    def name(self) -> str:
        """The base name, which becomes the member's."""
        return self.path.rpartition("/")[2]

    @property
    def may_miss(self) -> bool:
        """Whether the rule has a word LOG, TRACE, STATS or BIN, which may have a number."""
        return bool(_MAY_MISS.search(self.rule))


def dump_path(stage: Stage, component: str, path_base: str) -> str:
    """Where the config dump of a component is; raw runs have none."""
    return f"{path_base}.{component}.mdc" if stage.named_dumps else f"{path_base}.mdc"


def bundle_name(stage: Stage, component: str, path_base: str | None, uri: str | None) -> str:
    """The file name of a component's bundle (PROTOCOL section 3, item 3).

    A raw component without path_base has that of its uri: the base name without `.fits`, and
    without the component if it ends with that, so that it stands there once. Raises ConfigError
    where there is no path, and where the name is none that a list may hold.
    """
    base = _base_name(path_base) or (_raw_base(component, uri) if stage.name == "raw" else "")
    if not base:
        columns = "neither path_base nor uri" if stage.name == "raw" else "no path_base"
        raise ConfigError([f"component {component}: {columns} that names its bundle"])
    name = f"{base}.{component}.tgz" if stage.named_bundles else f"{base}.tgz"
    if reason := _name_problem(name):
        raise ConfigError([f"component {component}: its bundle would have {reason}"])
    return name


def _base_name(path: str | None) -> str:
    return (path or "").rstrip("/").rpartition("/")[2]


def _raw_base(component: str, uri: str | None) -> str:
    return _FITS.sub("", _base_name(uri)).removesuffix(f".{component}")


def _name_problem(name: str) -> str | None:
    if name.startswith("."):
        return f"a name that begins with '.': {name!r}"
    return f"a name with blanks: {name!r}" if " " in name else check_name(name)


def read_outputs(dump: bytes, name: str) -> list[Output]:
    """The files that a config dump lists in FILES.OUTPUT, in its order; `name` is for messages.

    The dump may be gzip-compressed whatever its name says. STDOUT, STDERR and NULL are no files.
    Raises IntegrityError for what is no config dump, and for a rule that repeats without MULTI:
    all but one of its files would be lost.
    """
    text = _unpacked(dump, name)
    document = _load(text, name)
    blocks = document.all(_BLOCK)
    if not blocks or not all(isinstance(block, mdc.Block) for block in blocks):
        raise IntegrityError(f"{name}: a config dump with a block {_BLOCK} expected")
    # Which of the values of a repeated name stands matters only if they differ.
    if document.warnings and _load(text, name, overwrite=True).all(_BLOCK) != blocks:
        raise IntegrityError(
            f"{name}: a rule of {_BLOCK} repeats without MULTI: {document.warnings[0]}"
        )
    return _outputs(blocks, name)


def _outputs(blocks: Iterable[Any], name: str) -> list[Output]:
    outputs = []
    for entry in (entry for block in blocks for entry in block.entries):
        if entry.type == "MULTI" or entry.value is None or entry.value in _NO_FILE:
            continue
        if entry.type != "STR" or not entry.value:
            raise IntegrityError(
                f"{name}, line {entry.line}: {_BLOCK}: {entry.name} STR PATH expected, not a"
                f" {entry.type}"
            )
        outputs.append(Output(entry.name, entry.value))
    return outputs


def _unpacked(data: bytes, name: str) -> bytes:
    if not data.startswith(b"\x1f\x8b"):
        return data
    try:
        text = gzip.GzipFile(fileobj=io.BytesIO(data)).read(MAX_DUMP + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise IntegrityError(f"{name}: damaged gzip: {error}") from None
    if len(text) > MAX_DUMP:
        raise IntegrityError(f"{name}: unpacks to more than the {MAX_DUMP} bytes of a config dump")
    return text


def _load(text: bytes, name: str, *, overwrite: bool = False) -> mdc.Document:
    try:
        return mdc.load(text, name, overwrite)
    except mdc.MdcError as error:
        more = f" (and {len(error.problems) - 1} more problems)" if error.problems[1:] else ""
        raise IntegrityError(f"a config dump expected: {error.problems[0]}{more}") from None


def shipped(outputs: Iterable[Output], *, clean: bool) -> list[Output]:
    """Those of the files that go out: no TRACE and, if `clean`, no large images.

    A path that two rules name goes out once. Raises IntegrityError for two files of one base
    name, in any case, and for a name that no mirror would take: members are flat.
    """
    wanted = []
    seen: dict[str, Output] = {}
    for output in outputs:
        if _TRACE.search(output.rule) or (clean and output.rule in _LARGE):
            continue
        if reason := check_name(output.name):
            raise IntegrityError(f"{output.rule} {output.path}: {reason}, which cannot be a member")
        other = seen.setdefault(folded(output.name), output)
        if other is output:
            wanted.append(output)
        elif other.path != output.path:
            raise IntegrityError(
                f"{output.rule} {output.path}: {other.rule} {other.path} has the same base name,"
                " and a bundle has no directories"
            )
    return wanted
