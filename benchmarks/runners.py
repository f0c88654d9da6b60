"""Who runs in the races: this client, and what a site would otherwise chain together.

Every chain ends with the same: all files fetched, their md5 sums compared with the list's, and
bundles unpacked. The peers are given ready lists of URLs and sums, where the client has to read
up to 201 lists first; and only the client makes what it has durable, and moves it into place.
Chains work with as many processes as there are processors wherever that helps them.
"""

import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from benchmarks.stores import Store

HERE = Path(__file__).resolve().parent
_CORES = os.cpu_count() or 1


@dataclass(frozen=True, slots=True)
class Runner:
    """A command that makes a copy of a store in the directory in which it is started."""

    name: str
    command: list[str]
    tree: str = "."
    ours: bool = False
    files: Mapping[str, str] = field(default_factory=dict)
    """What is to be in its directory beforehand, by name."""

    environ: Mapping[str, str] = field(default_factory=dict)
    parallel: bool = True
    """Whether it works over several connections at once."""


def client(
    store: Store, url: str, connections: int, extra: str = "", *, isal: bool | None = None
) -> Runner:
    """This client, with isal or without it; None: no matter, nothing is to be inflated."""
    config = (
        f"mirror_root: mirror\ntop_uri: {url}\nproducts: [{store.product}]\n"
        f"connections: {connections}\n{extra}"
    )
    name = "this client" if isal is None else f"this client, {'isal' if isal else 'zlib'}"
    command = [sys.executable, str(HERE.parent / "update_mirror.py"), "-q", "-c", "mirror.yaml"]
    # A package of that name that cannot be imported, found before the installed one.
    files = {"mirror.yaml": config, "hidden/isal/__init__.py": "raise ImportError\n"}
    environ = {"PYTHONPATH": "hidden"} if isal is False else {}
    return Runner(name, command, "mirror/data", True, files, environ)


def clients(store: Store, url: str, connections: int) -> list[Runner]:
    """The client in every way that makes a difference for this store."""
    if not store.bundled:
        return [client(store, url, connections)]
    ways = [True, False] if find_spec("isal") else [False]
    return [client(store, url, connections, isal=way) for way in ways]


def peers(store: Store, url: str, connections: int, lists: Path) -> list[Runner]:
    """The chains whose tools are installed here; writes their lists into `lists`."""
    _write_lists(store, url, lists)
    return [
        Runner(name, ["sh", "-c", " && ".join(steps)], parallel=parallel)
        for name, parallel, steps in _chains(store, url, connections, lists)
        if all(shutil.which(tool) for tool in _tools(name))
    ]


def _tools(name: str) -> Iterator[str]:
    """The programs that a chain's name speaks of."""
    for step in name.split("; "):
        yield step.split()[0]
        if "pigz" in step:
            yield "pigz"


Chain = tuple[str, bool, list[str]]


def _chains(store: Store, url: str, connections: int, lists: Path) -> Iterator[Chain]:
    """Name, whether it is parallel, and steps of every chain for this store."""
    many = len(store.served) > 1
    wide = store.bytes > 10**8 and many
    fetches = _fetches(url, connections, lists, many)
    sums = _sums(lists, wide)
    for name, parallel, fetch, summed in fetches:
        steps = [fetch] if summed else [fetch, sums]
        named = name if summed else f"{name}; md5sum -c"
        if not store.bundled:
            yield named, parallel, steps
            continue
        yield f"{named}; tar xz", parallel, [*steps, _untar(lists, "-z")]
        yield f"{named}; tar -I pigz", parallel, [*steps, _untar(lists, "-I pigz")]


def _fetches(
    url: str, connections: int, lists: Path, many: bool
) -> Iterator[tuple[str, bool, str, bool]]:
    """Name, whether it is parallel, command, and whether that compares the sums itself."""
    wget = "wget -nv -x -nH -i"
    yield "wget -i", False, f"{wget} {lists}/urls.txt 2>wget.log", False
    if many:
        split = f"split -n r/{connections} {lists}/urls.txt .u."
        several = f"ls .u.* | xargs -P{connections} -n1 {wget} 2>wget.log"
        yield f"wget -i x{connections}", True, f"{split} && {several}", False
        curl = f"curl -sS -Z --parallel-max {connections} --create-dirs -K {lists}/curl.cfg"
        yield f"curl -Z {connections}", True, curl, False
    else:
        yield "curl", False, f"curl -sS --create-dirs -K {lists}/curl.cfg", False
    aria = (
        "aria2c -q --no-conf --file-allocation=none --auto-file-renaming=false"
        " --console-log-level=error"
    )
    if many:
        jobs = f"{aria} -j {connections} -x 1 -s 1"
        yield f"aria2c -j {connections} checksum", True, f"{jobs} -i {lists}/aria2-md5.txt", True
        yield f"aria2c -j {connections}", True, f"{jobs} -i {lists}/aria2.txt", False
    else:
        at_once = min(connections, 16)
        yield "aria2c checksum", False, f"{aria} -i {lists}/aria2-md5.txt", True
        parts = f"{aria} -x {at_once} -s {at_once} -i {lists}/aria2.txt"
        yield f"aria2c -x {at_once}", True, parts, False
    rclone = (
        f"rclone copy --config /dev/null --http-url {url} :http: . --transfers {connections}"
        f" --checkers {connections} --files-from {lists}/files.txt --no-traverse"
    )
    yield f"rclone {connections}", True, f"{rclone} 2>rclone.log", False


def _sums(lists: Path, wide: bool) -> str:
    """Compare the sums, in as many processes as there are processors if there is much to read."""
    if not wide:
        return f"md5sum --quiet -c {lists}/md5sums.txt"
    split = f"split -n r/{_CORES} {lists}/md5sums.txt .m."
    return f"{split} && ls .m.* | xargs -P{_CORES} -n1 md5sum --quiet -c"


def _untar(lists: Path, how: str) -> str:
    return f"xargs -P{_CORES} -L1 tar -x {how} < {lists}/tarballs.txt"


def _write_lists(store: Store, url: str, lists: Path) -> None:
    """What the peers are given: URLs, sums, bundles, each in the form of its reader."""
    lists.mkdir(parents=True, exist_ok=True)

    def write(name: str, lines: Iterable[str]) -> None:
        (lists / name).write_text("".join(f"{line}\n" for line in lines))

    served = store.served
    write("urls.txt", (f"{url}{one.path}" for one in served))
    write("files.txt", (one.path for one in served))
    write("md5sums.txt", (f"{one.md5}  {one.path}" for one in served))
    write("curl.cfg", (f"url={url}{one.path}\noutput={one.path}" for one in served))
    write("aria2.txt", (f"{url}{one.path}\n  out={one.path}" for one in served))
    summed = (f"{url}{one.path}\n  out={one.path}\n  checksum=md5={one.md5}" for one in served)
    write("aria2-md5.txt", summed)
    bundles = (one.path for one in served if one.path.endswith(".tgz"))
    write("tarballs.txt", (f"-f {path} -C {path.rpartition('/')[0]}" for path in bundles))
