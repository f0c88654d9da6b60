"""Where the files of a distribution fileset belong: its dirinfo, checked (PROTOCOL section 3)."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from formats import mdc
from mirror.errors import IntegrityError

MAX_DIRECTORY = 1024
"""Bytes in a destdir or a component's directory."""

MAX_SEGMENT = 255
"""Bytes between two `/` of a directory: what file systems allow."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


@dataclass(frozen=True, slots=True)
class Places:
    """Where the files of a distribution fileset are on this site.

    `data_prefix`: how local paths begin, for example /mirror/data or path://MIRROR. It goes into
    mdc documents as it is, so it must hold no `#`, no line end and no blank at its ends; whoever
    reads it from the configuration sees to that. `destdir`: the directory below it, None for
    `none`. `components`: component → directory below destdir.
    """

    data_prefix: str
    destdir: str | None
    components: Mapping[str, str]

    def directory(self, component: str) -> str:
        """The directory of a component's files below data/, without slashes at its ends.

        Raises IntegrityError for a component that dirinfo does not have.
        """
        directory = self.components.get(component)
        if directory is None:
            raise IntegrityError(
                f"component {show(component)} is not in dirinfo, which has {some(self.components)}"
            )
        return directory if self.destdir is None else f"{self.destdir}/{directory}"

    def workdir(self) -> str:
        """The new value of workdir: the data directory joined with destdir, if there is one."""
        return self.data_prefix if self.destdir is None else self._below(self.destdir)

    def local(self, component: str) -> str:
        """How the paths of a component begin on this site; raises what `directory` raises."""
        return self._below(self.directory(component))

    def _below(self, directory: str) -> str:
        slash = "" if self.data_prefix.endswith("/") else "/"
        return f"{self.data_prefix}{slash}{directory}"


def read_dirinfo(data: bytes, source: str, data_prefix: str) -> Places:
    """Read a dirinfo document; `source` names it in errors, `data_prefix` is that of Places.

    The directories become local paths, so they must be relative, of plain segments (no empty one,
    no `.` or `..`, no control character, at most MAX_SEGMENT bytes) and at most MAX_DIRECTORY
    bytes long; one slash at the end of destdir is tolerated. Raises IntegrityError for anything
    else, and for what is no dirinfo.
    """
    try:
        document = mdc.load(data, source)
    except mdc.MdcError as error:
        raise IntegrityError(f"a dirinfo expected: {_first(error.problems)}") from error
    destdir = _block(document, source, "destdir").get("destdir")
    if not isinstance(destdir, str):
        raise IntegrityError(f"{source}: destdir: a STR in the block destdir expected")
    components = _block(document, source, "components")
    for component, directory in components.items():
        _check_directory(directory, source, component)
    if destdir == "none":
        return Places(data_prefix, None, components)
    destdir = destdir.removesuffix("/")
    _check_directory(destdir, source, "destdir")
    return Places(data_prefix, destdir, components)


def _block(document: mdc.Document, source: str, name: str) -> dict[str, Any]:
    """The values of one of the document's blocks."""
    block = document.get(name)
    if not isinstance(block, mdc.Block):
        raise IntegrityError(f"{source}: one block '{name} METADATA' expected")
    return {key: block[key] for key in block}


def _first(problems: list[str]) -> str:
    more = f" (and {len(problems) - 1} more problems)" if len(problems) > 1 else ""
    return problems[0] + more


def _check_directory(directory: object, source: str, key: str) -> None:
    """Raise IntegrityError unless `directory` may become a path below data/."""
    reason = _reason(directory) if isinstance(directory, str) else "no STR"
    if reason:
        raise IntegrityError(
            f"{source}: {key}: a relative directory expected, not {show(str(directory))} ({reason})"
        )


def _reason(directory: str) -> str | None:
    """Why a directory is refused, or None."""
    segments = directory.split("/")
    if directory.startswith("/"):
        return "absolute"
    if any(segment in ("", ".", "..") for segment in segments):
        return "a segment that is empty, '.' or '..'"
    if _CONTROL.search(directory):
        return "a control character"
    if len(encode(directory)) > MAX_DIRECTORY:
        return f"more than {MAX_DIRECTORY} bytes"
    if any(len(encode(segment)) > MAX_SEGMENT for segment in segments):
        return f"a segment of more than {MAX_SEGMENT} bytes"
    return None


def encode(text: str) -> bytes:
    """The bytes of a path or name as they stand in documents and on disk."""
    return text.encode("utf-8", "surrogateescape")


def show(value: str | bytes) -> str:
    """A value as an error shows it: quoted, printable ASCII, short whatever came."""
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
    return ascii(text if len(text) <= 200 else text[:200] + "...")


def some(names: Collection[str]) -> str:
    """The first ten of the names, and how many more there are."""
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return (", ".join(list(names)[:10]) or "none") + more
