"""What the configuration says about putting filesets together."""

from dataclasses import dataclass

from mirror.tree import Tree


@dataclass(frozen=True, slots=True)
class Rules:
    """The keys that decide what becomes of a fetched fileset, and where."""

    tree: Tree
    data_prefix: str
    unpack: bool
    keep_bundles: bool
    max_expansion: int
    max_unpacked: int
