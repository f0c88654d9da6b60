"""What a simulated Data Store holds: files, filesets, products, and what happens to them."""

import hashlib
import re
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

Columns = Sequence[str | None]
"""Cells of a row beyond the fixed ones; None prints as `null`."""

_COMPONENT = re.compile(r"(skycell\.[\d.]+|[^.]+)\.tgz")


@dataclass(frozen=True, slots=True)
class SimFile:
    """A file of a fileset. `md5` and `size` are what its list says; None becomes the truth.

    `columns` follow the four fixed ones; their labels come from the file's type.
    """

    name: str
    data: bytes
    type: str = "fits"
    columns: Columns = ()
    md5: str | None = None
    size: int | str | None = None
    etag: str = field(init=False, default="")

    def __post_init__(self) -> None:
        digest = hashlib.md5(self.data, usedforsecurity=False).hexdigest()
        object.__setattr__(self, "etag", f'"{digest}"')
        if self.md5 is None:
            object.__setattr__(self, "md5", digest)
        if self.size is None:
            object.__setattr__(self, "size", len(self.data))


Files = Mapping[str, bytes] | Iterable[SimFile]


def guess(name: str, data: bytes) -> SimFile:
    """A file with the type and the component that its name has in distribution filesets."""
    bundle = _COMPONENT.search(name)
    if bundle:
        return SimFile(name, data, "tgz", (bundle[1],))
    if name.endswith(".mdc"):
        return SimFile(name, data, "text", (name.split(".")[0],))
    return SimFile(name, data, "fits" if name.endswith(".fits") else "notset")


@dataclass(frozen=True, slots=True)
class Fileset:
    """A registered fileset, as it was registered: a change makes a new one."""

    product: str
    name: str
    registered: str
    type: str
    columns: Columns
    files: Mapping[str, SimFile]
    hidden: bool = False

    def path(self, name: str = "index.txt") -> str:
        """The path of one of its files, for `count`, `fault` and `override`."""
        return f"/{self.product}/{self.name}/{name}"


class Product:
    """A product and what can happen to it. Made by `Simulator.product`."""

    def __init__(
        self,
        name: str,
        type: str,
        columns: Sequence[str],
        description: str,
        tick: Callable[[], str],
        lock: threading.RLock,
    ) -> None:
        self.name, self.type, self.columns = name, type, columns
        self.description = description
        self.hidden = False
        self.created = tick()
        self.path = f"/{name}/index.txt"
        self.filesets: dict[str, Fileset] = {}
        self._tick, self._lock = tick, lock
        self._frozen: dict[str, Fileset] | None = None

    def add(
        self,
        name: str,
        files: Files = (),
        registered: str | None = None,
        columns: Columns = (),
        type: str = "IPP-DIST",
    ) -> Fileset:
        """Register a fileset, at the end of the list; `registered` is else the store's clock."""
        if isinstance(files, Mapping):
            files = [guess(name, data) for name, data in files.items()]
        held = {file.name: file for file in files}
        fileset = Fileset(self.name, name, registered or self._tick(), type, columns, held)
        with self._lock:
            if name in self.filesets:
                raise ValueError(f"{self.name} already holds {name}: use register_again")
            self.filesets[name] = fileset
        return fileset

    def register_again(
        self, name: str, files: Files, registered: str | None = None, columns: Columns | None = None
    ) -> Fileset:
        """Register a fileset anew: same name and type, later time, moved to the end."""
        with self._lock:
            old = self.withdraw(name)
            return self.add(
                name, files, registered, old.columns if columns is None else columns, old.type
            )

    def alter(self, name: str, files: Files) -> Fileset:
        """Change a fileset's content behind everybody's back: same place, same time."""
        with self._lock:
            order = list(self.filesets)
            old = self.withdraw(name)
            self.add(name, files, old.registered, old.columns, old.type)
            self.filesets = {each: self.filesets[each] for each in order}
            return self.filesets[name]

    def withdraw(self, name: str) -> Fileset:
        """Take a fileset away: its list and files are 404 from now on."""
        with self._lock:
            return self.filesets.pop(name)

    def empty(self) -> None:
        """Take all filesets away; the list is its header alone."""
        with self._lock:
            self.filesets = {}

    def hide(self, name: str) -> None:
        """Leave a fileset out of the list; it answers under its own URL."""
        with self._lock:
            self.filesets[name] = replace(self.filesets[name], hidden=True)

    def freeze(self) -> None:
        """Let lists stand still: what happens from now on is not in them."""
        with self._lock:
            self._frozen = dict(self.filesets)

    def thaw(self) -> None:
        """Let lists follow again."""
        self._frozen = None

    def listed(self) -> list[Fileset]:
        """The filesets that lists know, hidden ones too, in order of registration."""
        return list((self.filesets if self._frozen is None else self._frozen).values())
