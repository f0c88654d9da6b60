"""Finished sample runs: consistent with each other, importable, their files where they say."""

import gzip
import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from mirror.dirinfo import Places
from mirror.errors import ConfigError
from mirror.rewrite import rewrite_dbinfo
from mirror.run_tables import import_run
from parse_config import Block, load_mdc, load_mdc_file
from server.__main__ import main
from server.database import Database, connect
from server.runs.imported import find, select
from server.runs.resolve import file_resolve
from server.runs.stages import STAGES, component
from server.samples.finished import FinishedRuns, build_runs
from server.schema import migrate
from server.site import Roots, SqliteFile

PIPELINE = ["raw", "chip", "camera", "fake", "warp", "stack", "diff"]

LARGE = {
    "chip": {"PPIMAGE.CHIP", "PPIMAGE.CHIP.MASK", "PPIMAGE.CHIP.VARIANCE"},
    "camera": set(),
    "fake": set(),
    "warp": {"PSWARP.OUTPUT", "PSWARP.OUTPUT.MASK", "PSWARP.OUTPUT.VARIANCE"},
    "stack": {"PPSTACK.UNCONV", "PPSTACK.UNCONV.MASK", "PPSTACK.UNCONV.VARIANCE"},
    "diff": {"PPSUB.OUTPUT", "PPSUB.OUTPUT.MASK", "PPSUB.OUTPUT.VARIANCE", "PPSUB.INVERSE"},
}
"""What a clean distribution leaves out (PROTOCOL section 3), as far as a stage here has it."""

SMALL = {
    "chip": {"PSPHOT.OUTPUT", "LOG.IMFILE", "TRACE.IMFILE", "PPIMAGE.STATS"},
    "camera": {"PSASTRO.OUTPUT", "LOG.EXP", "TRACE.EXP"},
    "fake": {"PSPHOT.OUTPUT", "LOG.IMFILE", "TRACE.IMFILE"},
    "warp": {"PSWARP.OUTPUT.SOURCES", "LOG.SKYCELL", "TRACE.SKYCELL"},
    "stack": {"PSPHOT.OUTPUT", "LOG.SKYCELL", "TRACE.SKYCELL"},
    "diff": {
        "PPSUB.OUTPUT.SOURCES", "PPSUB.INVERSE.SOURCES", "LOG.SKYCELL", "TRACE.SKYCELL",
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> FinishedRuns:
    """Two exposures with all their runs."""
    return build_runs(tmp_path_factory.mktemp("finished"), exposures=2)


@pytest.fixture(scope="module")
def database(runs: FinishedRuns, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """The runs, imported."""
    database = connect(SqliteFile(tmp_path_factory.mktemp("db") / "c.db"), create=True)
    migrate(database)
    with database.write():
        for document in runs.exports:
            with document.open("rb") as source:
                import_run(database, source, document.name)
    yield database
    database.close()


def rows_of(document: Block, table: str) -> list[Block]:
    rows = document[table]
    assert isinstance(rows, list)
    return [row for row in rows if isinstance(row, Block)]


def parts(runs: FinishedRuns) -> Iterator[tuple[str, Mapping[str, Any], Mapping[str, Any], str]]:
    """Stage, run row, component row and component, of everything that was exported."""
    for path in runs.exports:
        stage, document = STAGES[path.name.split(".")[0]], load_mdc_file(path)
        (run,) = rows_of(document, stage.run_table)
        for row in rows_of(document, stage.component_table):
            run_values = {name: run[name] for name in run}
            values = {name: row[name] for name in row}
            yield stage.name, run_values, values, component(stage, run_values, values)


def outputs(runs: FinishedRuns, stage: str, row: Mapping[str, Any], name: str) -> dict[str, Path]:
    """Rule and place of each file that a component's dump has, and its dump."""
    named = f".{name}" if STAGES[stage].named_dumps else ""
    roots = Roots(runs.neb_root)
    dump = file_resolve(f"{row['path_base']}{named}.mdc", roots)
    data = dump.read_bytes()
    block = load_mdc(gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data)["FILES.OUTPUT"]
    assert isinstance(block, Block)
    return {rule: file_resolve(str(block[rule]), roots) for rule in block} | {"dump": dump}


def content(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file()
    }


def test_runs_come_in_the_order_of_the_pipeline(runs: FinishedRuns) -> None:
    assert [path.name.split(".")[0] for path in runs.exports] == PIPELINE * 2
    assert len(set(runs.exports)) == len(runs.exports)


def test_export_begins_with_its_version_and_names_the_run(runs: FinishedRuns) -> None:
    for path in runs.exports:
        stage, number, _ = path.name.split(".")
        document = load_mdc_file(path)
        assert not document.warnings
        names = document.names()
        assert list(dict.fromkeys(names))[:2] == ["dbversion", STAGES[stage].run_table]
        (run,) = rows_of(document, STAGES[stage].run_table)
        assert run[STAGES[stage].id_column] == int(number)


def test_every_run_is_full_and_labelled(runs: FinishedRuns) -> None:
    for _, run, _, _ in parts(runs):
        told = (run["state"], run["label"], run["dist_group"], run["data_group"])
        assert told == ("full", "sample.nightly", "sample", "sample.20090415")
        assert str(run["workdir"]).startswith("neb://ipp")


def test_each_run_is_the_input_of_a_later_one(database: Database) -> None:
    for diff_run in select(database, "diffRun"):
        assert diff_run["bothways"] in (1, True)
        inputs = select(database, "diffInputSkyfile", diff_id=diff_run["diff_id"])
        cells = select(database, "diffSkyfile", diff_id=diff_run["diff_id"])
        assert [row["skycell_id"] for row in inputs] == [row["skycell_id"] for row in cells]
        (warp_id,) = {row["warp1"] for row in inputs}
        (stack_id,) = {row["stack2"] for row in inputs}
        assert {(row["warp2"], row["stack1"]) for row in inputs} == {(None, None)}
        assert find(database, "stackInputSkyfile", stack_id=stack_id, warp_id=warp_id)
        found: dict[str, object] = {"warp_id": warp_id}
        for table, key in [
            ("warpRun", "fake_id"), ("fakeRun", "cam_id"), ("camRun", "chip_id"),
            ("chipRun", "exp_id"), ("rawExp", "exp_name"),
        ]:  # fmt: skip
            row = find(database, table, **found)
            assert row, table
            found = {key: row[key]}
        assert row
        assert (row["camera"], row["obs_mode"]) == ("GPC1", "3PI")
        assert str(found["exp_name"]) in str(cells[0]["path_base"])
        stack_run = find(database, "stackRun", stack_id=stack_id)
        assert stack_run
        assert stack_run["filter"] == row["filter"]


def test_component_has_its_dump_and_the_dump_its_files(runs: FinishedRuns) -> None:
    seen = set()
    for stage, _, row, name in parts(runs):
        if stage == "raw" or row["path_base"] is None:
            continue
        files = outputs(runs, stage, row, name)
        assert set(files) == LARGE[stage] | SMALL[stage] | {"dump"}
        assert {rule for rule, path in files.items() if not path.is_file()} <= {"PPIMAGE.STATS"}
        assert len({path.name for path in files.values()}) == len(files)
        seen.add(stage)
    assert seen == set(PIPELINE) - {"raw"}


def test_statistics_of_a_chip_are_missing(runs: FinishedRuns) -> None:
    for stage, _, row, name in parts(runs):
        if stage == "chip" and row["path_base"] is not None:
            assert not outputs(runs, stage, row, name)["PPIMAGE.STATS"].exists()


def test_paths_in_rows_are_files(runs: FinishedRuns) -> None:
    for _, _, row, _ in parts(runs):
        if row["uri"] is not None:
            assert file_resolve(str(row["uri"]), Roots(runs.neb_root)).is_file()


@pytest.mark.parametrize("stage", ["chip", "warp", "diff"])
def test_poor_component_has_a_row_and_no_files(runs: FinishedRuns, stage: str) -> None:
    poor = [
        (row["uri"], row["path_base"])
        for of, _, row, _ in parts(runs)
        if of == stage and row["quality"]
    ]
    assert poor == [(None, None)] * 2


def test_nothing_is_there_that_no_run_has(runs: FinishedRuns) -> None:
    known = set()
    for stage, _, row, name in parts(runs):
        if row["uri"] is not None:
            known.add(file_resolve(str(row["uri"]), Roots(runs.neb_root)))
        if stage != "raw" and row["path_base"] is not None:
            known.update(outputs(runs, stage, row, name).values())
    assert {path for path in runs.neb_root.rglob("*") if path.is_file()} <= known


def test_exports_can_be_rewritten_for_a_mirror(runs: FinishedRuns) -> None:
    for path in runs.exports:
        components = {
            name: "of/some/directory"
            for stage, _, row, name in parts(runs)
            if stage == path.name.split(".")[0] and (row.get("path_base") or row["uri"])
        }
        target = io.BytesIO()
        with path.open("rb") as source:
            rewrite_dbinfo(source, target, Places("/mirror", None, components), path.name)
        assert b"neb://" not in target.getvalue()


def test_same_seed_same_files(runs: FinishedRuns, tmp_path: Path) -> None:
    build_runs(tmp_path / "r", exposures=2)
    assert content(tmp_path / "r") == content(runs.neb_root.parent)


def test_other_seed_other_data_under_the_same_names(runs: FinishedRuns, tmp_path: Path) -> None:
    build_runs(tmp_path / "r", exposures=2, seed=1)
    one, other = content(runs.neb_root.parent), content(tmp_path / "r")
    assert one.keys() == other.keys()
    assert all(one[name] != other[name] for name in one if name.endswith((".fits", ".cmf")))


def test_an_exposure_is_small(runs: FinishedRuns) -> None:
    assert sum(map(len, content(runs.neb_root.parent).values())) < 2 * 600_000


def test_first_exposure_is_the_same_with_others_after_it(
    runs: FinishedRuns, tmp_path: Path
) -> None:
    one = build_runs(tmp_path / "r")
    assert len(one.exports) == len(PIPELINE)
    assert content(tmp_path / "r").items() <= content(runs.neb_root.parent).items()


def test_runs_are_not_written_over_others(tmp_path: Path) -> None:
    build_runs(tmp_path)
    before = content(tmp_path)
    with pytest.raises(ConfigError, match="neb is there already"):
        build_runs(tmp_path, seed=2)
    assert content(tmp_path) == before


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory = tmp_path / "r"
    assert main(["sample", "--runs", str(directory), "--exposures", "2", "--seed", "7"]) == 0
    said = capsys.readouterr()
    wanted = f"wrote 14 runs: files in {directory}/neb, exported in {directory}/exports\n"
    assert (said.out, said.err) == (wanted, "")
    again = tmp_path / "again"
    build_runs(again, exposures=2, seed=7)
    assert content(directory) == content(again)
    assert main(["sample", "--runs", str(directory)]) == 3


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--exposures", "2"], "--exposures goes with --runs only"),
        (["--runs", "--add", "1"], "do not go with --runs"),
        (["--runs", "--filesets", "1"], "do not go with --runs"),
        (["--runs", "--exposures", "-1"], "a number from 0 to 100000 expected"),
    ],
    ids=["exposures of a store", "add", "filesets", "negative"],
)
def test_options_that_do_not_go_together(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["sample", str(tmp_path / "r"), *words])
    assert ended.value.code == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "r").exists()
