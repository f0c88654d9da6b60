"""What is to be done for the pending components of a run: decided from its rows, without the disk.

The rows are those of the imported run (`server.runs.imported`); the tasks are plain data that any
worker can do.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from mirror.errors import ConfigError, IntegrityError
from server.distribution.bundle import BundleTask
from server.distribution.outputs import bundle_name
from server.distribution.queue import DistRun
from server.faults import Fault, fault_of
from server.runs.imported import RunRow
from server.runs.stages import Stage, component
from server.site import Roots

Name = str | None | Fault


def plan_tasks(
    stage: Stage,
    dist: DistRun,
    run: RunRow,
    rows: Sequence[RunRow],
    pending: Iterable[str],
    outdir: Path,
    roots: Roots,
    gzip_level: int,
) -> tuple[list[BundleTask], dict[str, Fault]]:
    """The tasks of a run's pending components, and the faults of those that have none.

    `run` is the run's own row, `rows` those of its component table. A fault have components that
    are in no row (any more), have no path although their quality is good, or whose bundle would
    have the name of another one's.
    """
    by_name = {component(stage, run, row): row for row in rows}
    names = {name: _bundle(stage, name, row) for name, row in by_name.items()}
    taken = Counter(name.lower() for name in names.values() if isinstance(name, str))
    tasks = []
    faults = {}
    for name in pending:
        bundle = _settled(stage, dist, name, names, taken)
        if isinstance(bundle, Fault):
            faults[name] = bundle
            continue
        row = by_name[name]
        tasks.append(
            BundleTask(
                dist.dist_id, name, stage.name, _text(row, "path_base"), _text(row, "uri"),
                _quality(row), dist.clean, outdir, bundle, roots, gzip_level,
            )
        )  # fmt: skip
    return tasks, faults


def _bundle(stage: Stage, name: str, row: RunRow) -> Name:
    """The name of a component's bundle, None if it cannot have one, or what is wrong with it."""
    path_base, uri = _text(row, "path_base"), _text(row, "uri")
    if _quality(row) and not (path_base or (uri and stage.name == "raw")):
        return None
    try:
        return bundle_name(stage, name, path_base, uri)
    except ConfigError as error:
        return fault_of(error)


def _settled(
    stage: Stage, dist: DistRun, name: str, names: Mapping[str, Name], taken: Mapping[str, int]
) -> Name:
    if name not in names:
        run = f"{stage.name} run {dist.stage_id}"
        return fault_of(ConfigError([f"not in {stage.component_table} of {run}"]))
    bundle = names[name]
    if isinstance(bundle, str) and taken[bundle.lower()] > 1:
        others = ", ".join(
            other for other, its in names.items()
            if other != name and isinstance(its, str) and its.lower() == bundle.lower()
        )  # fmt: skip
        return fault_of(IntegrityError(f"its bundle {bundle} has the name of that of {others}"))
    return bundle


def _text(row: RunRow, column: str) -> str | None:
    value = row.get(column)
    return str(value) if value else None


def _quality(row: RunRow) -> int:
    return int(str(row.get("quality") or 0))
