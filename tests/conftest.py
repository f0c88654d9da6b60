"""Fixtures that more than one file uses: a site that mirrors, stores, databases."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from boards import BoardSite, board_site
from client import MirrorSite
from hypothesis import HealthCheck, settings
from places import NewDatabase, postgres_server
from served import Process, serving
from simulator import Simulator
from traps import plain_store
from xpolls import Pipeline

from mirror.state import State
from server.blackboard import Blackboard
from server.samples import sample
from server.site import Place, PostgresServer, SqliteFile

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


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sample store, built once; nobody writes to it."""
    store = tmp_path_factory.mktemp("built") / "store"
    sample.build(store)
    return store


@pytest.fixture(scope="module")
def board_server(postgres: NewDatabase) -> PostgresServer:
    """A PostgreSQL for the boards of many paths, as a site has it."""
    return postgres()


@pytest.fixture(params=["sqlite", "postgres"])
def board_place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Where the board of a new path may be, once for each database that can hold one."""
    if request.param == "sqlite":
        return SqliteFile(tmp_path / "board.db")
    shared: PostgresServer = request.getfixturevalue("board_server")
    return shared


@pytest.fixture
def site(tmp_path: Path, board_place: Place) -> BoardSite:
    """A path whose board is in a file, and once more one in PostgreSQL; a file with another
    subject has its own."""
    return board_site(tmp_path, board_place)


@pytest.fixture
def board(site: BoardSite) -> Iterator[Blackboard]:
    """The board of the site, open."""
    with site.board() as opened:
        yield opened


@pytest.fixture(params=["renameat2", "link"])
def either_rename(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways in which a file gets a name that must be free."""
    if request.param == "link":
        monkeypatch.setattr("server.opus.moving._renameat2", lambda: None)
    return str(request.param)


@pytest.fixture
def pipeline(tmp_path: Path) -> Pipeline:
    """A path with an empty board and an empty inbox."""
    return Pipeline(tmp_path)


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    """A client's state without any product."""
    one = State.open(tmp_path / "state.db")
    yield one
    one.close()
