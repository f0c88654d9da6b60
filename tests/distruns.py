"""Finished runs in a catalogue, whoever wants them, and `disttool` typed for them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from commands import Tool
from places import data_store, tell_place
from pubruns import store_rows

from server.catalogue import catalogue
from server.database import Database, Row
from server.site import Place, PostgresServer

EXPOSURE = {
    "exp_id": "S64", "exp_name": "STR", "camera": "STR", "filter": "STR", "dateobs": "UTC",
}  # fmt: skip
CHIP = {
    "chip_id": "S64", "exp_id": "S64", "state": "STR", "workdir": "STR", "label": "STR",
    "data_group": "STR", "dist_group": "STR",
}  # fmt: skip
IMFILE = {
    "chip_id": "S64", "class_id": "STR", "data_state": "STR", "path_base": "STR",
    "quality": "S16", "fault": "S16",
}  # fmt: skip
CAMERA = {
    "cam_id": "S64", "chip_id": "S64", "state": "STR", "label": "STR", "dist_group": "STR",
}  # fmt: skip
STACK = {
    "stack_id": "S64", "skycell_id": "STR", "state": "STR", "label": "STR", "filter": "STR",
    "dist_group": "STR",
}  # fmt: skip

GROUP = "SweetSpot"
WORKDIR = "neb://any/dist"
TABLES = (
    "distTarget", "rcDestination", "rcInterest", "distRun", "distComponent", "rcDSFileset", "rcRun",
)  # fmt: skip


@dataclass(frozen=True)
class Part:
    """A component as its row tells it."""

    name: str
    data_state: str | None = "full"
    fault: int | None = 0


TWO = (Part("XY01"), Part("XY02"))


def store_chip(
    database: Database, number: int, *, state: str = "full", label: str | None = "L",
    dist_group: str | None = GROUP, filter_: str | None = "r.00000", parts: Sequence[Part] = TWO,
) -> None:  # fmt: skip
    """Import a chip run of exposure oNUMBERo; without a filter, its exposure is not imported."""
    if filter_:
        exposure = (number, f"o{number}o", "GPC1", filter_, "2009-04-15T01:22:12Z")
        store_rows(database, "rawExp", EXPOSURE, [exposure])
    run = (number, number, state, "neb://any/runs", label, "G", dist_group)
    store_rows(database, "chipRun", CHIP, [run])
    rows = [
        (number, part.name, part.data_state, f"neb://any/runs/{number}", 0, part.fault)
        for part in parts
    ]
    if rows:
        store_rows(database, "chipProcessedImfile", IMFILE, rows)


def content(database: Database) -> list[list[Row]]:
    """What the tables of distribution hold."""
    return [database.rows(f"SELECT * FROM {table} ORDER BY 1, 2") for table in TABLES]


class Disttool(Tool):
    """The command, for a site whose place the environment tells."""

    name = "disttool"

    def lines(self, *arguments: str) -> list[str]:
        """The lines that a call with `-simple` prints."""
        return self.done(*arguments, "-simple").splitlines()

    def target(self, *options: str, filter_: str = "%", stage: str = "chip") -> str:
        """Define a target of GROUP."""
        return self.done(
            "-definetarget", "-dist_group", GROUP, "-filter", filter_, "-stage", stage, *options
        )

    def destination(self, name: str = "MPG", product: str = "gpc1", *options: str) -> str:
        """Define a destination."""
        return self.done("-definedestination", "-name", name, "-product", product, *options)

    def interest(self, target: int = 1, destination: int = 1, *options: str) -> str:
        """Define an interest."""
        numbers = ("-dest_id", str(destination), "-target_id", str(target))
        return self.done("-defineinterest", *numbers, *options)

    def chip(
        self, number: int, *, state: str = "full", label: str | None = "L",
        dist_group: str | None = GROUP, filter_: str | None = "r.00000",
        parts: Sequence[Part] = TWO,
    ) -> None:  # fmt: skip
        """Import a chip run."""
        with catalogue(self.place, create=True) as database:
            store_chip(
                database, number, state=state, label=label, dist_group=dist_group,
                filter_=filter_, parts=parts,
            )  # fmt: skip

    def change(self, sql: str, *values: object) -> None:
        """Change the catalogue by hand."""
        with catalogue(self.place) as database, database.write():
            database.change(sql, *values)

    def rows(self, sql: str, *values: object) -> list[Row]:
        """Look at the catalogue."""
        with catalogue(self.place) as database:
            return database.rows(sql, *values)

    def content(self) -> list[list[Row]] | None:
        """What the tables of distribution hold, and which products there are."""
        if not isinstance(self.place, PostgresServer) and not self.place.path.exists():
            return None
        with catalogue(self.place) as database:
            products = database.rows("SELECT prod_name, last_fs FROM dsProduct ORDER BY prod_id")
            return [products, *content(database)]


def new_site(
    tmp_path: Path, place: Place, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Disttool:  # fmt: skip
    """The command for a site with an empty Data Store, neb:// and path://WORK/ somewhere."""
    root = data_store(tmp_path)
    tell_place(monkeypatch, root, place)
    config = tmp_path / "site.config"
    config.write_text(
        f"NEB_ROOT STR {tmp_path}/neb\nDATAPATH METADATA\n  WORK STR {tmp_path}/work\nEND\n"
    )
    monkeypatch.setenv("SITE_CONFIG", str(config))
    return Disttool(root, place, capsys)
