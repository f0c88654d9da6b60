"""The whole circle: finished runs, filesets, a mirror, its database, and the status back.

Every command is a process of its own, as people and cron run them; what must come out is worked
out here from the pipeline's own files, by none of the code that moved them.
"""

import gzip
import re
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from client import MirrorSite, Ran
from observatory import LABEL, STAGES, Observatory
from publisher import Publisher, serving_process

SILENT = Ran(0, "", "")
PREFIX = "path://NORTH"
_PATH_COLUMNS = {"workdir", "uri", "path_base", "tess_id"}
_OUTPUT = re.compile(r"FILES\.OUTPUT\s+METADATA\n(.*?)\nEND", re.DOTALL)
_RULE = re.compile(r"^\s*(\S+)\s+STR\s+(neb://\S+)", re.MULTILINE)
_VOLUME = re.compile(r"(?:neb|path)://[^/]*|(?:file://(?:/data/|data/)|/data/)[^/]*")


@dataclass(frozen=True)
class Circle:
    """Everything, after one turn. `told`: what the mirroring site's run said."""

    observatory: Observatory
    site: MirrorSite
    partner: Publisher
    told: Ran
    came_back: str


@pytest.fixture(scope="module")
def circle(tmp_path_factory: pytest.TempPathFactory) -> Circle:
    """One turn of the circle, two exposures."""
    top = tmp_path_factory.mktemp("circle")
    observatory = Observatory(top / "observatory", exposures=2)
    partner = Publisher(top / "partner")
    (top / "north").mkdir()
    site = MirrorSite(top / "north")
    site_file = top / "partner" / "site.config"
    site_file.write_text(f"DATA_STORE_ROOT STR {partner.root}\n")
    observatory.import_runs()
    with observatory.serving() as url:
        site.configure(
            url, products=["gpc1", "IPP-MOPS"], data_prefix=PREFIX, import_runs=True,
            status_product="north-status", status_site=str(site_file),
        )  # fmt: skip
        observatory.define_distribution("north", "gpc1", "http://127.0.0.1:1/north-status")
        observatory.distribute()
        observatory.publish_detections()
        told = site.run()
    with serving_process(partner.environment()) as (partner_url, _):
        observatory.must(
            "disttool", "-updatedestination", "-dest_name", "north",
            "-status_uri", f"{partner_url}north-status",
        )  # fmt: skip
        came_back = observatory.must("checkstatus")
    return Circle(observatory, site, partner, told, came_back)


def rows_of(database: Path, table: str) -> list[dict[str, object]]:
    with sqlite3.connect(database) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute(f'SELECT * FROM "{table}"')]


def run_tables(database: Path) -> list[str]:
    return [str(row["table_name"]) for row in rows_of(database, "runTable")]


def opened(data: bytes) -> bytes:
    return gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data


def test_the_mirror_had_nothing_to_complain_of(circle: Circle) -> None:
    assert circle.told == SILENT


def test_every_stage_was_distributed(circle: Circle) -> None:
    listed = circle.observatory.must("disttool", "-listfilesets", "-simple")
    stages = {stage for stage in STAGES if f".{stage}." in listed or f" {stage}." in listed}
    assert stages == set(STAGES)


def dumps(neb: Path) -> Iterator[tuple[Path, str]]:
    """Every config dump of the pipeline, by its path below neb://VOLUME/, and its text."""
    for path in sorted(neb.rglob("*.mdc")):
        if not path.is_relative_to(neb / "dist") and "FILES.OUTPUT" in (
            text := opened(path.read_bytes()).decode()
        ):
            yield path.relative_to(neb), text


def test_every_file_at_the_mirror_is_its_source(circle: Circle) -> None:
    neb, data = circle.observatory.neb, circle.site.root / "data"
    shipped = 0
    for _, text in dumps(neb):
        block = _OUTPUT.search(text)
        assert block
        for rule, uri in _RULE.findall(block[1]):
            name = _VOLUME.sub("", uri).lstrip("/")
            if uri.endswith(".mdc"):
                continue
            arrived = data / name
            if "TRACE" in rule.split("."):
                assert not arrived.exists(), name
            elif (neb / name).exists():
                assert arrived.read_bytes() == (neb / name).read_bytes(), name
                shipped += 1
    assert shipped > 30


def test_config_dumps_differ_by_their_paths_alone(circle: Circle) -> None:
    neb, data = circle.observatory.neb, circle.site.root / "data"
    seen = 0
    for name, text in dumps(neb):
        expected = []
        inside = False
        for line in text.split("\n"):
            if re.match(r"FILES\.(INPUT|OUTPUT)\s+METADATA", line.strip()):
                inside = True
            elif line.strip() == "END":
                inside = False
            if inside and (found := re.match(r"(\s*\S+\s+STR\s+)(\S.*)", line)):
                line = found[1] + _VOLUME.sub(PREFIX, found[2], count=1)
            expected.append(line)
        arrived = opened((data / name).read_bytes()).decode()
        assert arrived == "\n".join(expected), name
        seen += 1
    assert seen > 10


def test_raw_files_are_their_sources(circle: Circle) -> None:
    catalogue = circle.observatory.root / ".datastore.db"
    rows = rows_of(catalogue, "rawImfile")
    assert rows
    for row in rows:
        name = _VOLUME.sub("", str(row["uri"])).lstrip("/")
        source = circle.observatory.neb / name
        assert (circle.site.root / "data" / name).read_bytes() == source.read_bytes()


def test_rows_at_the_mirror_are_those_of_the_observatory_except_their_paths(
    circle: Circle,
) -> None:
    there = circle.observatory.root / ".datastore.db"
    here = circle.site.root / "catalogue.db"
    tables = run_tables(there)
    assert sorted(run_tables(here)) == sorted(tables)
    assert len(tables) > 12
    for table in tables:
        ours, theirs = rows_of(here, table), rows_of(there, table)
        assert len(ours) == len(theirs) > 0, table
        for mine, original in zip(ordered(ours), ordered(theirs), strict=True):
            for column, value in original.items():
                if column in _PATH_COLUMNS and value is not None:
                    assert mine[column] == local(column, str(value), table), (table, column)
                else:
                    assert mine[column] == value, (table, column)


def ordered(rows: list[dict[str, object]]) -> list[dict[str, object]]:
    keys = [name for name in rows[0] if name.endswith("_id") and name != "tess_id"]
    return sorted(rows, key=lambda row: [str(row[key]) for key in keys])


def local(column: str, value: str, table: str) -> str:
    """What PROTOCOL section 3 makes of a path: its volume is the mirror's data directory."""
    if column == "tess_id":
        return value.rpartition("/")[2]
    if column == "workdir" and table == "rawExp":
        return PREFIX
    return _VOLUME.sub(PREFIX, value, count=1)


def test_detections_are_mirrored_as_published(circle: Circle) -> None:
    published = {
        path.relative_to(circle.observatory.root / "IPP-MOPS"): path.read_bytes()
        for path in (circle.observatory.root / "IPP-MOPS").rglob("*.fits")
    }
    assert len(published) == 4  # two exposures, two directions
    for name, data in published.items():
        assert (circle.site.root / "data" / "IPP-MOPS" / name).read_bytes() == data


def test_every_run_is_on_the_blackboard_with_all_its_steps(circle: Circle) -> None:
    listed = circle.observatory.must("osf", "list", "-p", str(circle.observatory.path))
    entries = [line.split() for line in listed.splitlines()[1:]]
    steps = {kind: letters for _, _, kind, _, *letters in entries}
    assert steps == {"dst": ["c", "c", "_"], "pub": ["_", "_", "c"]}
    catalogue = circle.observatory.root / ".datastore.db"
    names = [
        f"dist.{r['dist_id']}.{r['stage']}.{r['stage_id']}" for r in rows_of(catalogue, "distRun")
    ]
    assert sorted(e[1] for e in entries if e[2] == "dst") == sorted(names)
    published = {path.name for path in (circle.observatory.root / "IPP-MOPS").iterdir()}
    assert {e[1] for e in entries if e[2] == "pub"} == {n for n in published if n[:1] != "."}
    assert all(e[4:] == steps[e[2]] for e in entries)


def test_the_status_came_back(circle: Circle) -> None:
    catalogue = circle.observatory.root / ".datastore.db"
    rows = rows_of(catalogue, "rcRun")
    filesets = rows_of(catalogue, "rcDSFileset")
    assert len(rows) == len(filesets) > len(STAGES)
    assert {row["state"] for row in filesets} == {"full"}
    assert {(row["state"], row["fault"]) for row in rows} == {("full", 0)}
    assert f"north: {len(rows)} full" in circle.came_back


def test_another_turn_finds_nothing_to_do(circle: Circle) -> None:
    for stage in STAGES:
        assert not circle.observatory.must(
            "disttool", "-definebyquery", "-stage", stage, "-workdir", "neb://x/dist",
            "-label", LABEL,
        )  # fmt: skip
    assert not circle.observatory.must("disttool", "-run")
    assert not circle.observatory.must("publish", "--label", LABEL, "--once")
