"""The work of one publish run, as far as it touches files: what a worker process does.

A task is plain data and so is its outcome; nothing here knows the database or the Data Store.
What is written stands in a directory of this attempt's own until all of it is there; a killed
attempt leaves no more than that directory, which the next one removes.
"""

import os
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from mirror.disk import flush, told
from mirror.errors import ConfigError, IntegrityError, MirrorError
from server.accepted import clashes
from server.distribution.outputs import Output, read_outputs
from server.faults import Fault, fault_of
from server.publishing.inputs import Source, pick, translated_names
from server.publishing.translate import LIMIT, TranslationError, translate
from server.runs.resolve import file_resolve, host_name
from server.site import Roots


@dataclass(frozen=True, slots=True)
class Manner:
    """How the work is done.

    `log`: what it says goes to the file TARGET.log, which is begun anew. `verbose`: each step is
    said, on standard output if there is no log. `save_temps`: temporary files stay.
    `translate_timeout`: seconds that each translation may take.
    """

    log: bool = False
    verbose: bool = False
    save_temps: bool = False
    translate_timeout: float = LIMIT


@dataclass(frozen=True, slots=True)
class PublishTask:
    """A publish run that is to be worked on.

    `target`: path_base on this host; files that are made begin with it. `command`: the words of
    the translator; None: the sources' own files go out. `directions` and `sources`: see
    `server.publishing.inputs`.
    """

    pub_id: int
    stage: str
    target: Path
    roots: Roots
    sources: tuple[Source, ...]
    directions: tuple[str, ...]
    command: tuple[str, ...] | None
    manner: Manner


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt ended: the files that go out, or a fault.

    `hostname`: where it was made; `seconds` it took; `kept`: the directory of temporary files
    that stayed.
    """

    hostname: str
    seconds: float
    files: tuple[Path, ...] = ()
    fault: Fault | None = None
    kept: Path | None = None


Note = Callable[[str], None]


def publish_files(task: PublishTask) -> Outcome:
    """Find the files of a run, translate them if it says so; a fault comes back in the outcome."""
    begun = time.monotonic()
    files: tuple[Path, ...] = ()
    fault = None
    try:
        with _output(task) as out:
            files = _publish(task, out)
    except Exception as error:
        fault = _fault(error)
    kept = _scratch_parent(task)
    return Outcome(
        host_name(), round(time.monotonic() - begun, 3), files, fault,
        kept if task.manner.save_temps and kept.is_dir() else None,
    )  # fmt: skip


def _fault(error: Exception) -> Fault:
    fault = fault_of(error)
    return Fault(error.code, fault.message) if isinstance(error, TranslationError) else fault


def _publish(task: PublishTask, out: BinaryIO | None) -> tuple[Path, ...]:
    note = _noter(task, out)
    try:
        found = _find(task, note)
        if task.command is None:
            files = tuple(path for paths in found for path in paths)
            if problems := clashes(path.name for path in files):
                raise IntegrityError("; ".join(problems))
            return files
        return _translate(task, task.command, found, out, note)
    except Exception as error:
        note(f"fault {_fault(error).code}: {error}")
        raise


# What is said


@contextmanager
def _output(task: PublishTask) -> Iterator[BinaryIO | None]:
    """The log, empty, if there is to be one."""
    if not task.manner.log:
        yield None
        return
    path = Path(f"{task.target}.log")
    with told(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        # What an attempt that was killed has started may still write into the old file.
        path.unlink(missing_ok=True)
        file = open(path, "xb+")  # noqa: SIM115 - closed below
    with file:
        yield file


def _noter(task: PublishTask, out: BinaryIO | None) -> Note:
    def note(text: str) -> None:
        if out is not None:
            moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            with told(f"{task.target}.log"):
                out.seek(0, os.SEEK_END)
                out.write(f"{moment} {text}\n".encode("utf-8", "surrogateescape"))
                out.flush()
        elif task.manner.verbose:
            with told("standard output"):
                print(text.encode("utf-8", "replace").decode(), flush=True)

    return note


# Which files


def _find(task: PublishTask, note: Note) -> list[list[Path]]:
    """The files of each direction, in the order of the components."""
    found: list[list[Path]] = [[] for _ in task.directions]
    for source in task.sources:
        dump = file_resolve(source.dump, task.roots)
        outputs = _read_outputs(dump, source.component)
        for files, direction in zip(found, task.directions, strict=True):
            output = pick(task.stage, direction, outputs, str(dump), source.component)
            file = _resolved(output, dump, task.roots)
            note(f"{source.component}: {direction}: {file}")
            files.append(file)
    return found


def _resolved(output: Output, dump: Path, roots: Roots) -> Path:
    try:
        file = file_resolve(output.path, roots)
    except ConfigError as error:
        problems = [f"{dump}: {output.rule}: {problem}" for problem in error.problems]
        raise ConfigError(problems) from None
    _need_file(file, f"{dump} names it as {output.rule}")
    return file


def _need_file(path: Path, why: str) -> None:
    with told(path):
        try:
            mode = os.stat(path).st_mode
        except (FileNotFoundError, NotADirectoryError):
            raise IntegrityError(f"{path}: not there, but {why}") from None
    if not stat.S_ISREG(mode):
        raise IntegrityError(f"{path}: a regular file expected; {why}")


def _read_outputs(dump: Path, component: str) -> list[Output]:
    _need_file(dump, f"it is the config dump of {component}, which lists its files")
    with told(dump):
        data = dump.read_bytes()
    return read_outputs(data, str(dump))


# Translating


def _translate(
    task: PublishTask, command: Sequence[str], found: list[list[Path]],
    out: BinaryIO | None, note: Note,
) -> tuple[Path, ...]:  # fmt: skip
    """Translate each direction; no file has its own name before all of them are there."""
    names = translated_names(task.target.name, task.directions)
    with _scratch(task) as scratch:
        with _said(scratch, out) as said:
            for name, inputs in zip(names, found, strict=True):
                note(f"translating {len(inputs)} files into {name}: {' '.join(command)}")
                try:
                    limit = task.manner.translate_timeout
                    translate(command, inputs, scratch / name, scratch, said, limit)
                finally:
                    _repeat(task, out, said)
        return _settle([scratch / name for name in names], task.target.parent)


def _scratch_parent(task: PublishTask) -> Path:
    return task.target.with_name(f".{task.target.name}.work")


@contextmanager
def _scratch(task: PublishTask) -> Iterator[Path]:
    """A directory of this attempt alone; what former ones have left is removed.

    It has a new name each time: what a killed attempt has started, and is still running, writes
    below a directory that is no longer there.
    """
    parent = _scratch_parent(task)
    with told(parent):
        shutil.rmtree(parent, ignore_errors=True)
        parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(dir=parent))
    try:
        yield scratch
    finally:
        if not task.manner.save_temps:
            shutil.rmtree(parent, ignore_errors=True)


@contextmanager
def _said(scratch: Path, out: BinaryIO | None) -> Iterator[BinaryIO]:
    """The file for what the translator prints: the log, or one beside its other files."""
    if out is not None:
        yield out
        return
    with told(scratch), open(scratch / "translate.log", "wb+") as file:
        yield file


def _repeat(task: PublishTask, out: BinaryIO | None, said: BinaryIO) -> None:
    """With `verbose` and no log, say what the translator said."""
    if out is not None or not task.manner.verbose:
        return
    said.seek(0)
    with told("standard output"):
        sys.stdout.write(said.read().decode("utf-8", "replace"))
        sys.stdout.flush()
    said.truncate(0)


def _settle(made: Sequence[Path], directory: Path) -> tuple[Path, ...]:
    """Give files that are whole their own names, durably: all of them, or none."""
    targets = tuple(directory / path.name for path in made)
    flush(made)
    try:
        for path, target in zip(made, targets, strict=True):
            with told(target):
                os.replace(path, target)
    except MirrorError:
        for target in targets:
            target.unlink(missing_ok=True)
        raise
    flush([directory])
    return targets
