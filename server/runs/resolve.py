"""Where files are: the paths that runs are written with, as paths of this host.

neb://VOLUME/a/b, path://NAME/a/b, file:///a/b and plain absolute paths (DESIGN, site keys NEB_ROOT
and DATAPATH). Nothing here looks at the disk.
"""

import re
import socket
from pathlib import Path

from mirror.errors import ConfigError
from server.site import Roots

HOST = "@HOST@"
"""What stands for this host's name in a workdir."""

_SCHEME = re.compile(r"([a-z]+)://([^/]*)(.*)", re.DOTALL)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def file_resolve(path: str, roots: Roots) -> Path:
    """The file or directory that `path` names on this host.

    neb://VOLUME/a/b is NEB_ROOT/a/b, whatever the volume; path://NAME/a/b is below what DATAPATH
    says of NAME; file:///a/b and /a/b are themselves. `@HOST@` stands for this host's name.
    Raises ConfigError, which names path and key, for any other path, for one that climbs with
    `..`, and where the key is not set.
    """
    told = path.replace(HOST, host_name())
    if _CONTROL.search(told):
        raise ConfigError([f"path {path!r}: control characters"])
    if ".." in told.split("/"):
        raise ConfigError([f"path {path}: '..' is not allowed in it"])
    matched = _SCHEME.fullmatch(told)
    if not matched:
        if told.startswith("/"):
            return Path(told)
        raise ConfigError(
            [
                f"path {path!r}: neb://VOLUME/…, path://NAME/…, file:///… or an absolute path"
                " expected"
            ]
        )
    scheme, volume, rest = matched[1], matched[2], matched[3].strip("/")
    return _base(path, scheme, volume, roots) / rest


def _base(path: str, scheme: str, volume: str, roots: Roots) -> Path:
    if scheme == "neb":
        if roots.neb_root is None:
            raise ConfigError([f"path {path}: NEB_ROOT is not set, the directory that neb:// is"])
        return roots.neb_root
    if scheme == "path":
        if volume not in roots.datapath:
            known = ", ".join(roots.datapath) or "nothing"
            raise ConfigError([f"path {path}: DATAPATH has no {volume!r}; it has {known}"])
        return roots.datapath[volume]
    if scheme == "file":
        return Path("/") / volume
    raise ConfigError([f"path {path}: neb://, path:// or file:// expected, not {scheme}://"])


def host_name() -> str:
    """This host's name without its domain, as `@HOST@` stands for it."""
    return socket.gethostname().partition(".")[0]
