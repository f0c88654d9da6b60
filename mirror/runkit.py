"""What one run works with, made once by mirror.run and handed to its steps."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mirror.datastore import DataStore
from mirror.halt import Halt
from mirror.report import Report
from mirror.state import State
from mirror.tree import Tree

if TYPE_CHECKING:
    from formats.mirror_yaml import Config


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says of a run."""

    products: tuple[str, ...] = ()
    limit: int | None = None
    verify: bool = False
    repair: bool = False


@dataclass(frozen=True, slots=True)
class Run:
    """What one run works with."""

    config: "Config"
    options: Options
    report: Report
    tree: Tree
    state: State
    store: DataStore
    halt: Halt
