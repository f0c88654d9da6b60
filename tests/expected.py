"""What a mirror must look like, worked out from the Data Store without any of the client's code.

PROTOCOL sections 2 and 3 read a second time, with `tarfile` and a line at a time. It knows just
what the stores of these tests hold, and is no reader of lists or mdc in general.
"""

import gzip
import io
import os
import re
import tarfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

Read = Callable[[str], bytes]
"""The bytes at a path of a store: `Simulator.read`, or `below(directory)`."""

Tree = dict[str, bytes]

_FIELD = re.compile(r"(\s*(\S+)\s+STR\s+)(.*)")
_VOLUME = re.compile(r"(?:neb://[^/]*|path://[^/]*|file://(?:/data/|data/)[^/]*|/data/[^/]*)(?=/)")


def below(directory: Path) -> Read:
    """Reads a store that stands as files below `directory`."""
    return lambda path: (directory / path.lstrip("/")).read_bytes()


def rows(raw: bytes) -> list[list[str]]:
    """The rows of a list, their cells without padding."""
    lines = raw.decode().splitlines()
    return [
        [cell.strip() for cell in line.split("|")[:-1]]
        for line in lines
        if line and not line.startswith("#")
    ]


def expected_tree(
    read: Read, products: Iterable[str], prefix: str, *, keep: bool = False, unpack: bool = True
) -> Tree:
    """Every visible file of a mirror of all of `products`; gzipped dumps as `opened` has them.

    `prefix` is the configuration's data_prefix; `keep` and `unpack` its keys of these names.
    """
    tree: Tree = {}
    for product in products:
        for fileset, *_ in rows(read(f"/{product}/index.txt")):
            tree |= expected_fileset(read, product, fileset, prefix, keep=keep, unpack=unpack)
        if keep:
            tree[f"store/{product}/index.txt"] = read(f"/{product}/index.txt")
    if keep:
        tree["store/index.txt"] = read("/index.txt")
    return tree


def expected_fileset(
    read: Read, product: str, fileset: str, prefix: str, *, keep: bool = False, unpack: bool = True
) -> Tree:
    """The visible files of one fileset."""
    base = f"/{product}/{fileset}"
    listed = rows(read(f"{base}/index.txt"))
    served = {name: read(f"{base}/{name}") for name, *_ in listed}
    info = f"info/{product}/{fileset}"
    tree: Tree = {f"{info}/index.txt": read(f"{base}/index.txt")}
    if keep:
        tree[f"store/{product}/{fileset}/index.txt"] = tree[f"{info}/index.txt"]
        tree |= {f"store/{product}/{fileset}/{name}": data for name, data in served.items()}
    named = [name for name in served if name.startswith("dirinfo.")]
    if not named:
        return tree | {f"data/{product}/{fileset}/{name}": data for name, data in served.items()}
    destdir, places = _dirinfo(served[named[0]].decode())
    for name, _bytes, _md5, kind, *columns in listed:
        if kind == "tgz" and unpack:
            for member, data in _members(served[name]).items():
                tree[_join("data", destdir, places[columns[0]], member)] = local_dump(
                    member, data, prefix
                )
        elif kind != "tgz":
            data = served[name]
            if name.startswith("dbinfo."):
                data = _local_dbinfo(data.decode(), prefix, destdir, places).encode()
            tree[f"{info}/{name}"] = data
    return tree


def opened(tree: Mapping[str, bytes]) -> Tree:
    """A tree with the gzipped among its config dumps inflated: how they are packed is free."""
    return {
        path: b"gzip:" + gzip.decompress(data)
        if path.endswith(".mdc") and data.startswith(b"\x1f\x8b")
        else data
        for path, data in tree.items()
    }


def local_dump(name: str, data: bytes, prefix: str) -> bytes:
    """A member of a bundle as the mirror has it; a gzipped dump as `opened` has it."""
    if not name.endswith(".mdc"):
        return data
    packed = data.startswith(b"\x1f\x8b")
    text = (gzip.decompress(data) if packed else data).decode()
    inside = False
    lines = []
    for line in text.splitlines(keepends=True):
        if line.startswith(("FILES.INPUT METADATA", "FILES.OUTPUT METADATA")):
            inside = True
        elif line.startswith("END"):
            inside = False
        elif inside and (field := _FIELD.fullmatch(line.rstrip("\n"))):
            line = field[1] + _VOLUME.sub(prefix, field[3], count=1) + "\n"
        lines.append(line)
    return (b"gzip:" if packed else b"") + "".join(lines).encode()


def _members(bundle: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(bundle)) as tar:
        files = {info.name: tar.extractfile(info) for info in tar}
        return {name.removeprefix("./"): file.read() for name, file in files.items() if file}


def _dirinfo(text: str) -> tuple[str, dict[str, str]]:
    """destdir (empty for none) and the directory of each component."""
    first, second = text.split("END", 1)
    destdir = dict(_strings(first))["destdir"]
    return ("" if destdir == "none" else destdir), dict(_strings(second))


def _strings(text: str) -> list[tuple[str, str]]:
    fields = [_FIELD.fullmatch(line) for line in text.splitlines()]
    return [(field[2], field[3].strip()) for field in fields if field]


def _local_dbinfo(text: str, prefix: str, destdir: str, places: Mapping[str, str]) -> str:
    component = "exposure"
    lines = []
    for line in text.splitlines(keepends=True):
        field = _FIELD.fullmatch(line.rstrip("\n"))
        if field:
            before, name, value = field.groups()
            if name in ("class_id", "skycell_id"):
                component = value
            if value != "NULL":
                line = before + _local(name, value, prefix, destdir, places.get(component)) + "\n"
        lines.append(line)
    return "".join(lines)


def _local(name: str, value: str, prefix: str, destdir: str, place: str | None) -> str:
    base = value.rpartition("/")[2]
    if name == "workdir":
        return _join(prefix, destdir)
    if name in ("uri", "path_base"):
        assert place is not None
        return _join(prefix, destdir, place, base)
    return base if name == "tess_id" else value


def _join(*parts: str) -> str:
    return "/".join(part for part in parts if part)


def flip(path: Path) -> None:
    """Change one bit in the midst of a file, and hide the traces."""
    seen = path.stat()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(seen.st_atime_ns, seen.st_mtime_ns))
