"""--dry-run: the plan of a run, one line a fileset, and nothing changed on disk."""

from typing import TYPE_CHECKING, TextIO

from mirror import recover
from mirror.database import told
from mirror.datastore import DataStore
from mirror.errors import MirrorError
from mirror.halt import Halt
from mirror.job import read_raw_list
from mirror.listing import read_files
from mirror.plan import plan_fileset
from mirror.products import list_products
from mirror.report import Report, size_text
from mirror.runkit import Options, Run
from mirror.state import State
from mirror.tree import Tree

if TYPE_CHECKING:
    from formats.mirror_yaml import Config


def dry_run(config: "Config", options: Options, report: Report, out: TextIO) -> None:
    """Write to `out` what a run would fetch: product, fileset, files, bytes; then the totals."""
    tree = Tree(config.mirror_root)
    recover.check_not_lost(tree)
    halt = Halt()
    store = DataStore(config, halt)
    with told(tree.state):
        state = State.scratch(tree.state)
        try:
            list_products(Run(config, options, report, tree, state, store, halt))
            _print_plan(options, report, state, store, out)
        finally:
            state.close()


def _print_plan(
    options: Options, report: Report, state: State, store: DataStore, out: TextIO
) -> None:
    filesets = files = size = 0
    after = (-1, 0)
    while page := state.queue(1 << 60, after, 64):
        for fileset in page:
            after = (fileset.attempts, fileset.id)
            if fileset.product not in report.products or filesets == options.limit:
                continue
            filesets += 1
            try:
                plan = plan_fileset(read_files([read_raw_list(store, fileset)]))
            except MirrorError as error:
                report.fault(str(error), fileset.product, fileset.name)
                continue
            files += len(plan.files)
            size += plan.size
            print(f"{fileset.product} {fileset.name} {len(plan.files)} {plan.size}", file=out)
    print(f"total: {filesets} filesets, {files} files, {size} bytes ({size_text(size)})", file=out)
