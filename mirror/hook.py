"""after_fileset: the site's own command for every fileset that is done (DESIGN)."""

import os
import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mirror.records import Fileset


@dataclass(frozen=True, slots=True)
class HookResult:
    """How after_fileset ended."""

    fileset: Fileset
    fault: str | None


def run_hook(command: Sequence[str], root: Path, fileset: Fileset) -> HookResult:
    """Run the command for a done fileset, without a shell; what it says is told if it fails."""
    variables = {
        "MIRROR_PRODUCT": fileset.product,
        "MIRROR_FILESET": fileset.name,
        "MIRROR_INFO_DIR": str(root / (fileset.info_dir or "")),
        "MIRROR_DATA_DIR": str(root / (fileset.data_dir or "")),
    }
    try:
        ended = subprocess.run(
            list(command),
            env={**os.environ, **variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
    except OSError as error:
        return HookResult(fileset, f"after_fileset {shlex.join(command)}: {error.strerror}")
    if ended.returncode == 0:
        return HookResult(fileset, None)
    said = ended.stdout.decode("utf-8", "replace").strip().splitlines()[-1:]
    told = f": {said[0]}" if said else ""
    return HookResult(
        fileset,
        f"after_fileset {shlex.join(command)} ended with status {ended.returncode}{told}; "
        "it is tried again with the next run",
    )
