"""The door to every file that people and pipelines write: mirror.yaml, .mdc, .path.

Both halves of the project read such files through the names here; the grammars themselves are
in formats/.
"""

from formats.mirror_yaml import Config, read_config

__all__ = ["Config", "read_config"]
