"""The addresses of a Data Store, and which transport each one needs."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from mirror.errors import ConfigError

if TYPE_CHECKING:
    from formats.mirror_yaml import Config


@dataclass(frozen=True, slots=True)
class Address:
    """One address of the store: its URL with credentials, and without them for messages."""

    url: str
    name: str
    host: str
    path: str
    direct: bool
    """Whether mirror.wire can speak to it; otherwise requests does (TLS, proxy, netrc)."""


def read_address(uri: str, config: "Config") -> Address:
    """The address at `uri`, and whether the configuration and environment let it be spoken to
    directly."""
    parts = urlsplit(uri)
    host = parts.netloc.rpartition("@")[2]
    direct = (
        parts.scheme == "http"
        and "@" not in parts.netloc
        and not _has_proxy()
        and not _in_netrc(parts.hostname or "", config)
    )
    return Address(uri, f"{parts.scheme}://{host}{parts.path}", host, parts.path, direct)


def _has_proxy() -> bool:
    """Whether a proxy may apply to plain http; requests then decides, by no_proxy too."""
    names = ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY")
    return any(os.environ.get(name) for name in names)


def _in_netrc(host: str, config: "Config") -> bool:
    """Whether requests would find credentials for `host` in a netrc file."""
    if config.netrc is False:
        return False
    usual = [Path.home() / ".netrc", Path.home() / "_netrc"]
    files = [config.netrc] if config.netrc is not True else usual
    if config.netrc is True and os.environ.get("NETRC"):
        files = [Path(os.environ["NETRC"])]
    for path in files:
        try:
            if not path.is_file():
                continue
            from netrc import NetrcParseError, netrc

            if netrc(str(path)).authenticators(host):
                return True
        except NetrcParseError as error:
            # Its own message may hold a password.
            problem = f"{error.filename}:{error.lineno}: not a netrc file; `netrc: false` passes it"
            raise ConfigError([problem]) from None
        except OSError as error:
            problem = f"{path}: {error.strerror}; `netrc: false` in mirror.yaml passes it over"
            raise ConfigError([problem]) from None
    return False
