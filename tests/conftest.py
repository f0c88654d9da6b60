"""Fixtures that more than one file uses: a site that mirrors, stores, databases."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from client import MirrorSite
from hypothesis import HealthCheck, settings
from places import NewDatabase, postgres_server
from served import Process, serving
from simulator import Simulator
from traps import plain_store

from server.site import Place, SqliteFile

# On a busy machine any example may take any time; and what passes once passes every time. Others
# are tried by `pytest --hypothesis-profile=default`.
settings.register_profile(
    "suite",
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("suite")


@pytest.fixture
def mirror_site(tmp_path: Path) -> MirrorSite:
    """A site with no mirror yet. `configure` writes its mirror.yaml, `run` runs the client."""
    return MirrorSite(tmp_path)


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    """A Data Store in memory, empty, with a server of its own."""
    with Simulator() as store:
        yield store


@pytest.fixture(scope="session")
def postgres() -> Iterator[NewDatabase]:
    """A PostgreSQL server; called, it gives a new database."""
    with postgres_server() as new:
        yield new


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Where a new catalogue may be, once for each database that can hold one."""
    if request.param == "sqlite":
        return SqliteFile(tmp_path / "catalogue.db")
    new: NewDatabase = request.getfixturevalue("postgres")
    return new()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Plain files, links and traps, to be served; a file with another subject has its own."""
    return plain_store(tmp_path_factory.mktemp("plain"))


@pytest.fixture(scope="module")
def server(store: Path) -> Iterator[Process]:
    """A server that must end in order, and have had nothing to complain of."""
    with serving(store) as running:
        yield running
    assert running.process.returncode == 0
    assert running.errors == ""
