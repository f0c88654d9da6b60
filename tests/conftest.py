"""Fixtures that more than one file uses: a site that mirrors, and a store that it mirrors."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from client import MirrorSite
from simulator import Simulator


@pytest.fixture
def mirror_site(tmp_path: Path) -> MirrorSite:
    """A site with no mirror yet. `configure` writes its mirror.yaml, `run` runs the client."""
    return MirrorSite(tmp_path)


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    """A Data Store in memory, empty, with a server of its own."""
    with Simulator() as store:
        yield store
