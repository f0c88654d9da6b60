"""What values mean besides themselves: OTHER->KEY, PREFIX:rest and SUB[VAR] (OPUS, "Path files";
seed 003).

The form of a value is that of the text as written: what the environment puts in is never read as
syntax again.
"""

import os
import re
from collections.abc import Mapping

_REFERENCE = re.compile(r"\s*(\S+?)\s*->\s*(\S+)\s*")
_PREFIXED = re.compile(r"([A-Za-z_][A-Za-z0-9_]*):(.*)", re.DOTALL)
_SUB = re.compile(r"SUB\[([^\[\]]*)\]")


class UnresolvedError(Exception):
    """Why a value has no meaning now; becomes a ConfigError with file, line and keyword."""


def split_reference(text: str) -> tuple[str, str] | None:
    """OTHER and KEY, if that is what the value is."""
    match = _REFERENCE.fullmatch(text)
    return (match[1], match[2]) if match else None


def split_prefix(text: str) -> tuple[str, str] | None:
    """PREFIX and rest, if that is what the value may be; not of an address, nor of a host and its
    port: hosts are not written in capitals."""
    match = _PREFIXED.fullmatch(text)
    if not match or match[2].startswith("//"):
        return None
    if match[2].isdigit() and not match[1].isupper():
        return None
    return match[1], match[2]


def has_sub(text: str) -> bool:
    """Whether there is a SUB[VAR] in the value."""
    return _SUB.search(text) is not None


def substitute(text: str, environ: Mapping[str, str]) -> str:
    """The value with every SUB[VAR] replaced. Raises UnresolvedError if one is not set."""

    def replace(match: re.Match[str]) -> str:
        variable = match[1].strip()
        if variable not in environ:
            raise UnresolvedError(f"{match[0]}: the environment variable {variable} is not set")
        return environ[variable]

    return _SUB.sub(replace, text)


def join(prefix: str, rest: str, environ: Mapping[str, str]) -> str:
    """The directory that the variable `prefix` holds, joined with `rest`, if there is any.

    With or without a slash in front, `rest` stays below the directory. Of a search path it is the
    first directory that holds `rest`; if none does, the first. Raises UnresolvedError if the
    variable is empty; it must be set.
    """
    places = [place for place in environ[prefix].split(os.pathsep) if place]
    if not places:
        raise UnresolvedError(f"{prefix}:{rest}: the environment variable {prefix} is empty")
    candidates = [os.path.join(place, rest.lstrip("/")) if rest else place for place in places]
    return next((one for one in candidates if os.path.exists(one)), candidates[0])
