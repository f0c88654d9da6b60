"""One component into one bundle: a gzipped tar of its files, the same bytes for the same files.

A function of plain data that touches files only, for workers (PROTOCOL section 3; DESIGN, "When
one machine is not enough"). A bundle is written under a temporary name, flushed, and renamed: what
has its name is whole and durable, whoever was killed when.
"""

import os
import secrets
import stat
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import md5
from pathlib import Path
from pwd import getpwuid

from mirror.disk import flush, told
from mirror.errors import ConfigError, IntegrityError, LocalError
from server.distribution.outputs import MAX_DUMP, Output, dump_path, read_outputs, shipped
from server.runs.resolve import file_resolve
from server.runs.stages import STAGES
from server.site import Roots

GZIP_LEVEL = 1
"""1 is fastest, 9 smallest: the noise of images is packed to the same size by all of them, by the
first five times as fast."""

MEMBER_TIME = 1230768000
"""The time of every member, in seconds since 1970: 2009-01-01T00:00:00Z. That of a file would make
other bytes of a copy, and tar warns of 1970."""

SCRATCH = (".bundle.", ".new")
"""How names of what is not whole yet begin and end. No two attempts share one: the worker of a
killed coordinator may live a moment longer."""

_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class BundleTask:
    """A component that is to be bundled, as its row in the run's tables has it.

    `name`: of the bundle, below `outdir`; None where the row has no path at all. `quality`: not 0
    is poor, and may have left nothing. `gzip_level`: 1 to 9.
    """

    dist_id: int
    component: str
    stage: str
    path_base: str | None
    uri: str | None
    quality: int
    clean: bool
    outdir: Path
    name: str | None
    roots: Roots
    gzip_level: int = GZIP_LEVEL


@dataclass(frozen=True, slots=True)
class Bundled:
    """A component's bundle: its size in bytes and md5 sum; all None if there is nothing in it."""

    name: str | None = None
    bytes: int | None = None
    md5: str | None = None


NOTHING = Bundled()


def bundle_component(task: BundleTask) -> Bundled:
    """Bundle a component: its files in the order of its config dump, the dump last.

    A component of poor quality may lack any of its files. Where none is left, by its quality or
    because the distribution is clean, there is no bundle; the dump alone is none. Raises
    IntegrityError for a dump that is none, or a file that is missing, odd, or that changes
    meanwhile; ConfigError for paths that cannot be resolved; LocalError where the disk is in the
    way.
    """
    if task.name is None:
        return NOTHING
    files = _raw_files(task) if task.stage == "raw" else _files(task)
    return _write(task.outdir / task.name, files, task.gzip_level) if files else NOTHING


def check_writable(directory: Path) -> None:
    """Raises LocalError where this process may not write in a directory that is there."""
    allowed = os.access(directory, os.R_OK | os.W_OK | os.X_OK)
    with told(directory):
        # What is read-only for everybody is found out when it is written to.
        if not (allowed or os.statvfs(directory).f_flag & os.ST_RDONLY):
            raise _not_writable(directory)


@contextmanager
def writing(target: Path) -> Iterator[None]:
    """As `told`, for what changes a directory: says who may, if this process may not."""
    with told(target):
        try:
            yield
        except PermissionError:
            raise _not_writable(target.parent) from None


def _not_writable(directory: Path) -> LocalError:
    owner = _user(directory.stat().st_uid)
    return LocalError(
        f"{directory}: belongs to {owner}, and {_user(os.geteuid())} may not write there; call this"
        f" as {owner}, or make the directory writable"
    )


def _user(number: int) -> str:
    try:
        return f"user {getpwuid(number).pw_name}"
    except KeyError:
        return f"user {number}"


def scratch_files(outdir: Path) -> Iterator[Path]:
    """What attempts that were killed have left in a directory of bundles."""
    begin, end = SCRATCH
    with told(outdir):
        names = [name for name in os.listdir(outdir) if name.startswith(begin)]
    return (outdir / name for name in names if name.endswith(end))


# Which files


def _raw_files(task: BundleTask) -> list[Path]:
    if task.uri is None and task.quality:
        return []
    if task.uri is None:
        raise ConfigError([f"component {task.component}: a raw component without uri"])
    return _present(task, [Output("uri", task.uri)])


def _files(task: BundleTask) -> list[Path]:
    assert task.path_base is not None
    dump = Output("config dump", dump_path(STAGES[task.stage], task.component, task.path_base))
    found = _present(task, [dump])
    if not found:
        return []
    outputs = shipped(read_outputs(_read(found[0]), dump.path), clean=task.clean)
    files = _present(task, outputs)
    if all(path == found[0] for path in files):
        return []
    if found[0] in files:
        return files
    # Not a second member of the dump's name.
    shipped([*outputs, dump], clean=False)
    return files + found


def _read(path: Path) -> bytes:
    with _opened(path) as (file, seen), told(path):
        if seen.st_size > MAX_DUMP:
            raise IntegrityError(
                f"{path}: has {seen.st_size} bytes; a config dump has at most {MAX_DUMP}"
            )
        return os.pread(file, seen.st_size, 0)


def _present(task: BundleTask, outputs: list[Output]) -> list[Path]:
    """Those of the files that are there; raises IntegrityError for others, unless they may miss."""
    files = []
    for output in outputs:
        path = file_resolve(output.path, task.roots)
        if _is_there(path):
            files.append(path)
        elif not (task.quality or output.may_miss):
            raise IntegrityError(
                f"component {task.component}: {output.rule} {output.path}: no such file: {path}"
            )
    return files


def _is_there(path: Path) -> bool:
    with told(path):
        try:
            path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return False
    return True


# The archive


def _write(target: Path, files: list[Path], level: int) -> Bundled:
    """Write the bundle whole and durably, and return what it is."""
    begin, end = SCRATCH
    scratch = target.with_name(f"{begin}{secrets.token_hex(8)}{end}")
    try:
        with writing(target):
            file = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
            with os.fdopen(file, "wb", buffering=_CHUNK) as output:
                size, digest = _archive(files, level, output.write)
        flush([scratch])
        with writing(target):
            os.replace(scratch, target)
        flush([target.parent])
    except BaseException:
        with suppress(OSError):
            scratch.unlink(missing_ok=True)
        raise
    return Bundled(target.name, size, digest)


def _archive(files: list[Path], level: int, write: Callable[[bytes], object]) -> tuple[int, str]:
    """Write a gzipped tar of the files; its size in bytes and its md5 sum."""
    # zlib's own gzip header has neither a name nor a time in it.
    packer = zlib.compressobj(level, wbits=31)
    digest = md5(usedforsecurity=False)
    size = 0

    def put(data: bytes) -> None:
        nonlocal size
        if data:
            size += len(data)
            digest.update(data)
            write(data)

    for piece in _tar(files):
        put(packer.compress(piece))
    put(packer.flush())
    return size, digest.hexdigest()


def _tar(files: list[Path]) -> Iterator[bytes | memoryview]:
    """The archive in pieces: each file with its header, then zeros to the end of a record."""
    total = 0
    for path in files:
        with _opened(path) as (file, seen):
            header = _header(path.name, seen.st_size)
            yield header
            yield from _content(path, file, seen)
            padding = bytes(-seen.st_size % tarfile.BLOCKSIZE)
            yield padding
            total += len(header) + seen.st_size + len(padding)
    end = 2 * tarfile.BLOCKSIZE
    yield bytes(end + -(total + end) % tarfile.RECORDSIZE)


def _header(name: str, size: int) -> bytes:
    member = tarfile.TarInfo(f"./{name}")
    member.size = size
    member.mode = 0o644
    member.mtime = MEMBER_TIME
    # Plain ustar, but for long names and what has 8 GiB or more: those get a pax header before.
    return member.tobuf(tarfile.PAX_FORMAT, "ascii")


def _content(path: Path, file: int, seen: os.stat_result) -> Iterator[memoryview]:
    """A file's bytes, as many as it had; raises IntegrityError where they become others."""
    buffer = memoryview(bytearray(min(_CHUNK, seen.st_size + 1)))
    left = seen.st_size
    while True:
        with told(path):
            count = os.readv(file, [buffer])
        if count > left:
            raise _changed(path)
        if not count:
            break
        left -= count
        yield buffer[:count]
    if left or _identity(os.fstat(file)) != _identity(seen):
        raise _changed(path)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[int, os.stat_result]]:
    """Open a regular file, or a link to one, for reading: no pipe that would make us wait."""
    with told(path):
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        seen = os.fstat(file)
        if not stat.S_ISREG(seen.st_mode):
            raise IntegrityError(f"{path}: a regular file expected")
        yield file, seen
    finally:
        os.close(file)


def _identity(seen: os.stat_result) -> tuple[int, int]:
    return seen.st_size, seen.st_mtime_ns


def _changed(path: Path) -> IntegrityError:
    return IntegrityError(f"{path}: changed while it was bundled; is the run really finished?")
