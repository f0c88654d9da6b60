"""Finished runs in a catalogue, and `pubtool` typed for it."""

from collections.abc import Mapping, Sequence

from commands import Tool

from mirror.run_tables import import_run
from parse_config import load_mdc
from server.catalogue import catalogue
from server.database import Database
from server.modes import format_rows
from server.site import PostgresServer

VERSION = format_rows("dbversion", {"schema_version": "STR"}, [("1.1.53",)], simple=False)

DIFF = {"diff_id": "S64", "state": "STR", "label": "STR", "data_group": "STR"}
CAMERA = {"cam_id": "S64", "chip_id": "S64", "state": "STR", "label": "STR"}
CHIP = {"chip_id": "S64", "exp_id": "S64", "data_group": "STR"}
EXPOSURE = {
    "exp_id": "S64", "exp_name": "STR", "camera": "STR", "filter": "STR", "dateobs": "UTC",
    "obs_mode": "STR",
}  # fmt: skip


def store_rows(
    database: Database, table: str, columns: Mapping[str, str], rows: Sequence[Sequence[object]]
) -> None:
    """Import rows of an exported run's table, given in the order of `columns`."""
    document = f"{VERSION}\n{format_rows(table, columns, rows, simple=False)}"
    with database.write():
        import_run(database, [document.encode()], f"{table}.mdc")


def store_diffs(
    database: Database, *numbers: int, state: str = "full", label: str | None = "L",
    data_group: str | None = "G",
) -> None:  # fmt: skip
    """Import difference runs of these ids."""
    store_rows(database, "diffRun", DIFF, [(n, state, label, data_group) for n in numbers])


def store_exposure(
    database: Database, number: int, dateobs: str | None = "2009-04-15T01:22:12Z",
    filter_: str | None = "r.00000", obs_mode: str | None = "SS", data_group: str | None = "G",
) -> None:  # fmt: skip
    """Import a camera run with what it comes from: an exposure, a chip run; one id for all."""
    exposure = (number, f"o{number}o", "GPC1", filter_, dateobs, obs_mode)
    store_rows(database, "rawExp", EXPOSURE, [exposure])
    store_rows(database, "chipRun", CHIP, [(number, number, data_group)])
    store_rows(database, "camRun", CAMERA, [(number, number, "full", "L")])


def rows_of(printed: str, name: str) -> list[dict[str, object]]:
    """The rows that a command has printed as mdc."""
    if not printed:
        return []
    return [{column: row[column] for column in row} for row in load_mdc(printed)[name]]


class Pubtool(Tool):
    """The command, for a site whose place the environment tells."""

    name = "pubtool"

    def lines(self, *arguments: str) -> list[list[str]]:
        """The words of each line that a call with `-simple` prints."""
        return [line.split(" ") for line in self.done(*arguments, "-simple").splitlines()]

    def diffs(self, *numbers: int, state: str = "full", label: str | None = "L") -> None:
        """Import difference runs."""
        with catalogue(self.place) as database:
            store_diffs(database, *numbers, state=state, label=label)

    def content(self) -> object:
        """What the tables of publishing hold, and the names of the products."""
        if not isinstance(self.place, PostgresServer) and not self.place.path.exists():
            return None
        tables = ("publishClient", "publishRun", "publishDone")
        with catalogue(self.place) as database:
            products = database.rows("SELECT prod_name, type FROM dsProduct ORDER BY prod_id")
            return [
                database.rows(f"SELECT * FROM {table} ORDER BY 1") for table in tables
            ], products
