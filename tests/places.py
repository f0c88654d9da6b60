"""Places for a catalogue: a file, and a database of a PostgreSQL that the tests start."""

import itertools
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from client import PATIENCE

from server.site import Place, PostgresServer, SqliteFile

NewDatabase = Callable[[], PostgresServer]


@contextmanager
def postgres_server() -> Iterator[NewDatabase]:
    """A PostgreSQL for as long as the `with` lasts; called, it gives a new, empty database.

    Skips where the package that brings it has no build for this machine.
    """
    pgserver = pytest.importorskip("pgserver", reason="pgserver has no build here: no PostgreSQL")
    psycopg = pytest.importorskip("psycopg", reason="psycopg is not installed: no PostgreSQL")
    # A socket's path must be short, whatever the tests' own directory is.
    with tempfile.TemporaryDirectory(prefix="pg") as directory:
        with _patiently(pgserver.postgres_server):
            server = pgserver.get_server(directory)
        numbers = itertools.count(1)
        with psycopg.connect(server.get_uri(), autocommit=True) as connection:
            # Nothing of it has to outlive the tests; hundreds of databases flushed take long.
            connection.execute("ALTER SYSTEM SET fsync = off")
            connection.execute("SELECT pg_reload_conf()")

        def new() -> PostgresServer:
            name = f"datastore{next(numbers)}"
            with psycopg.connect(server.get_uri(), autocommit=True) as connection:
                connection.execute(f"CREATE DATABASE {name}")
            info = psycopg.conninfo.conninfo_to_dict(server.get_uri())
            return PostgresServer(str(info["host"]), name, str(info["user"]), None)

        try:
            yield new
        finally:
            server.cleanup()


@contextmanager
def _patiently(room: Any) -> Iterator[None]:
    """Let a server take its time to come up: `pgserver` allows 10 s, few on a busy machine."""
    start = room.pg_ctl

    def pg_ctl(words: Sequence[str], **options: Any) -> Any:
        return start(words, **{**options, "timeout": PATIENCE})

    with (
        mock.patch.object(room, "pg_ctl", pg_ctl),
        mock.patch.dict(os.environ, PGCTLTIMEOUT=f"{PATIENCE:.0f}"),
    ):
        yield


def environment_of(place: Place) -> dict[str, str]:
    """The environment in which a command uses the database at `place`."""
    if isinstance(place, SqliteFile):
        return {"DS_DBNAME": str(place.path)}
    return {
        "DS_DBSERVER": place.host,
        "DS_DBNAME": place.name,
        "DS_DBUSER": place.user or "",
    }


def tell_place(monkeypatch: pytest.MonkeyPatch, root: Path, place: Place) -> None:
    """Let the environment tell commands where things are."""
    monkeypatch.setenv("DATA_STORE_ROOT", str(root))
    monkeypatch.delenv("SITE_CONFIG", raising=False)
    for name, value in environment_of(place).items():
        monkeypatch.setenv(name, value)


def data_store(directory: Path) -> Path:
    """An empty DATA_STORE_ROOT."""
    root = directory / "datastore"
    root.mkdir()
    return root
