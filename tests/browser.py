"""A headless Chromium, where there is one."""

import shutil
import subprocess
from pathlib import Path

import pytest
from client import PATIENCE

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


def browse(directory: Path, *options: str) -> bytes:
    """What Chromium says of a page, with a profile of its own in `directory`."""
    if CHROMIUM is None:
        pytest.skip("no chromium here to look at a page with")
    return subprocess.run(
        [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
         f"--user-data-dir={directory / 'profile'}", *options],
        capture_output=True, timeout=PATIENCE, check=True,
    ).stdout  # fmt: skip
