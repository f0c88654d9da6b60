"""import_runs and status_product under fire: killed, or failed, at every statement they send.

After each the next run must bring catalogue.db and the status product to what they would be.
"""

import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from client import MirrorSite
from inject import STATEMENTS, Ended, Forks, Plan
from places import data_store
from simulator import Simulator
from test_import_runs import night
from trial import WORKERS, ground

STATUS = "mirror-status"
FILESETS = [night(number)[0] for number in (1, 2)]


@pytest.fixture(scope="module")
def forks() -> Iterator[Forks]:
    with Forks() as forks:
        yield forks


@dataclass(frozen=True)
class Mirror:
    """A mirror of two runs that imports, and reports if it is asked to."""

    site: MirrorSite
    forks: Forks

    def run(self, plan: Plan | None = None) -> Ended:
        environ = self.site.environment({"DATA_STORE_ROOT": f"{self.site.directory}/datastore"})
        arguments = ["-c", str(self.site.config)]
        return self.forks.run(arguments, self.site.directory, environ, plan)

    def ask(self, path: str, sql: str) -> list[tuple[object, ...]]:
        with closing(sqlite3.connect(self.site.directory / path)) as database:
            return database.execute(sql).fetchall()

    def converges(self, *, reports: bool) -> None:
        """One clean run brings what is missing, and nothing twice."""
        ended = self.run()
        assert (ended.exit, ended.stdout, ended.stderr) == (0, "", "")
        sql = "SELECT chip_id, class_id FROM chipProcessedImfile ORDER BY chip_id, class_id"
        assert self.ask("mirror/catalogue.db", sql) == [
            (1, "XY01"), (1, "XY02"), (2, "XY01"), (2, "XY02"),
        ]  # fmt: skip
        assert self.ask("mirror/.mirror/state.db", "SELECT DISTINCT imported FROM fileset") == [
            (1,)
        ]
        if reports:
            sql = "SELECT fileset_name, prod_col_0, prod_col_1 FROM dsFileset ORDER BY fileset_id"
            found = self.ask("datastore/.datastore.db", sql)
            assert sorted(map(str, found)) == [str((name, name, "0")) for name in FILESETS]
            sql = "SELECT DISTINCT reports, reporting, reported FROM fileset"
            assert self.ask("mirror/.mirror/state.db", sql) == [(1, None, 0)]


def mirror_at(directory: Path, store: Simulator, forks: Forks, *, reports: bool) -> Mirror:
    gpc1 = store.product("gpc1")
    for number in (1, 2):
        gpc1.add(*night(number))
    site = MirrorSite(directory)
    keys = {"status_product": STATUS} if reports else {}
    site.configure(store.url, import_runs=True, connections=1, **keys)
    data_store(directory)
    return Mirror(site, forks)


def statements(forks: Forks, *, reports: bool) -> list[str]:
    """What a run without faults sends to SQLite, in its order."""
    with ground() as directory, Simulator() as store:
        mirror = mirror_at(directory, store, forks, reports=reports)
        trace = directory / "trace"
        assert mirror.run(Plan(trace=str(trace))).exit == 0
        lines = trace.read_text(encoding="utf-8").splitlines()
        mirror.converges(reports=reports)
    return [line for line in lines if line.startswith("sqlite")]


def one(forks: Forks, at: int, error: str, where: str, *, reports: bool) -> str | None:
    """A run that meets the fault at statement `at`, and the next: what did not hold, or None."""
    with ground() as directory, Simulator() as store:
        mirror = mirror_at(directory, store, forks, reports=reports)
        ended = mirror.run(Plan(STATEMENTS, at, error, where))
        try:
            if error != "kill":
                assert ended.exit == 1, f"exit {ended.exit}"
                assert len(ended.stderr.splitlines()) == 1, ended.stderr
                assert "import_runs: " in ended.stderr
            mirror.converges(reports=reports)
        except AssertionError as failed:
            return f"statement {at}: {failed}"
    return None


def hold(forks: Forks, numbers: range, error: str, where: str, *, reports: bool) -> None:
    with ThreadPoolExecutor(WORKERS) as pool:
        told = pool.map(lambda at: one(forks, at, error, where, reports=reports), numbers)
        assert [line for line in told if line] == []


def test_killed_at_any_statement_every_run_is_imported(forks: Forks) -> None:
    count = sum("catalogue.db: " in line for line in statements(forks, reports=False))
    assert count > 10
    hold(forks, range(1, count + 1), "kill", "catalogue.db", reports=False)


def test_killed_at_any_statement_around_a_report_it_is_sent_once(forks: Forks) -> None:
    sent = statements(forks, reports=True)
    first = next(at for at, line in enumerate(sent, 1) if "SET reporting" in line)
    hold(forks, range(first - 1, len(sent) + 1), "kill", "", reports=True)


def test_a_disk_that_is_full_for_the_catalogue_alone_is_one_line(forks: Forks) -> None:
    # Its own tables are made before; from then on nothing may be half done.
    count = sum("catalogue.db: " in line for line in statements(forks, reports=False))
    hold(forks, range(2, count), "ENOSPC", "catalogue.db", reports=False)
