"""after_fileset: the site's own command for every fileset that is done (DESIGN)."""

import os
import shlex
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mirror.halt import Halt, HaltedError
from mirror.records import Fileset

LOOK = 0.2
"""Seconds between two looks whether the run was interrupted."""


@dataclass(frozen=True, slots=True)
class HookResult:
    """How after_fileset ended."""

    fileset: Fileset
    fault: str | None


def run_hook(command: Sequence[str], root: Path, fileset: Fileset, halt: Halt) -> HookResult:
    """Run the command for a done fileset, without a shell; what it says is told if it fails.

    Raises HaltedError, with the command ended, when the run is interrupted; it is then run again
    with the next one.
    """
    halt.check()
    variables = {
        "MIRROR_PRODUCT": fileset.product,
        "MIRROR_FILESET": fileset.name,
        "MIRROR_INFO_DIR": str(root / (fileset.info_dir or "")),
        "MIRROR_DATA_DIR": str(root / (fileset.data_dir or "")),
    }
    shown = shlex.join(command)
    # A file and no pipe: a child that the command leaves behind must not hold up the run.
    with tempfile.TemporaryFile() as output:
        try:
            started = subprocess.Popen(
                list(command),
                env={**os.environ, **variables},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        except OSError as error:
            return HookResult(fileset, f"after_fileset {shown}: {error.strerror}")
        status = wait(started, halt)
        if status == 0:
            return HookResult(fileset, None)
        output.seek(max(0, output.seek(0, os.SEEK_END) - 4096))
        said = output.read().decode("utf-8", "replace").strip().splitlines()[-1:]
    told = f": {said[0]}" if said else ""
    return HookResult(
        fileset,
        f"after_fileset {shown} ended with status {status}{told}; it is tried again with the "
        "next run",
    )


def wait(process: "subprocess.Popen[bytes]", halt: Halt) -> int:
    """The exit status of a process. Raises HaltedError, with it ended, on an interruption."""
    while True:
        try:
            return process.wait(LOOK)
        except subprocess.TimeoutExpired:
            if halt.interrupted:
                process.terminate()
                raise HaltedError("interrupted") from None
