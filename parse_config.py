"""The door to every file that people and pipelines write: mirror.yaml, .mdc, .path,
.resource, .stage.

Both halves of the project read such files through the names here; the grammars themselves are
rooms of formats/, each loaded when its first name is asked for, because a run without news needs
only one of them.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from formats.mdc import MdcError
    from formats.mdc import load as load_mdc
    from formats.mdc import load_file as load_mdc_file
    from formats.mdc import stream as stream_mdc
    from formats.mdc_block import Block, Document, Entry
    from formats.mdc_dump import dump as dump_mdc
    from formats.mirror_yaml import Config, read_config
    from formats.path_file import PathFile, find_path_file, read_path_file
    from formats.resolution import Origin, Resolved, environment_of, resolve
    from formats.resource_file import ResourceFile, find_resource_file, read_resource_file
    from formats.stage_file import Stage, StageFile, read_stage_file

__all__ = [
    "Block",
    "Config",
    "Document",
    "Entry",
    "MdcError",
    "Origin",
    "PathFile",
    "Resolved",
    "ResourceFile",
    "Stage",
    "StageFile",
    "dump_mdc",
    "environment_of",
    "find_path_file",
    "find_resource_file",
    "load_mdc",
    "load_mdc_file",
    "read_config",
    "read_path_file",
    "read_resource_file",
    "read_stage_file",
    "resolve",
    "stream_mdc",
]

_ROOMS = {
    "Block": ("formats.mdc_block", "Block"),
    "Config": ("formats.mirror_yaml", "Config"),
    "Document": ("formats.mdc_block", "Document"),
    "Entry": ("formats.mdc_block", "Entry"),
    "MdcError": ("formats.mdc", "MdcError"),
    "Origin": ("formats.resolution", "Origin"),
    "PathFile": ("formats.path_file", "PathFile"),
    "Resolved": ("formats.resolution", "Resolved"),
    "ResourceFile": ("formats.resource_file", "ResourceFile"),
    "Stage": ("formats.stage_file", "Stage"),
    "StageFile": ("formats.stage_file", "StageFile"),
    "dump_mdc": ("formats.mdc_dump", "dump"),
    "environment_of": ("formats.resolution", "environment_of"),
    "find_path_file": ("formats.path_file", "find_path_file"),
    "find_resource_file": ("formats.resource_file", "find_resource_file"),
    "load_mdc": ("formats.mdc", "load"),
    "load_mdc_file": ("formats.mdc", "load_file"),
    "read_config": ("formats.mirror_yaml", "read_config"),
    "read_path_file": ("formats.path_file", "read_path_file"),
    "read_resource_file": ("formats.resource_file", "read_resource_file"),
    "read_stage_file": ("formats.stage_file", "read_stage_file"),
    "resolve": ("formats.resolution", "resolve"),
    "stream_mdc": ("formats.mdc", "stream"),
}


def __getattr__(name: str) -> Any:
    """The name from its room (PEP 562)."""
    if name not in _ROOMS:
        raise AttributeError(f"parse_config has no {name!r}; it has {', '.join(__all__)}")
    module, own = _ROOMS[name]
    return getattr(import_module(module), own)
