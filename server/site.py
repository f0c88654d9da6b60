"""Where a site keeps things: from options, else the environment, else its configuration.

The site configuration is an mdc file named by `--site` or `$SITE_CONFIG` (DESIGN, "The server's
commands"). It may hold any other keys besides: a site has one such file for all its programs.
"""

import argparse
import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mirror.disk import told
from mirror.errors import ConfigError

CATALOGUE = ".datastore.db"
"""The catalogue's file in DATA_STORE_ROOT; a dot file, so that it is never served."""


@dataclass(frozen=True, slots=True)
class SqliteFile:
    """A catalogue in a file of this host."""

    path: Path


@dataclass(frozen=True, slots=True)
class PostgresServer:
    """A catalogue in PostgreSQL. `host` may be HOST, HOST:PORT or the directory of a socket."""

    host: str
    name: str
    user: str | None
    password: str | None


BOARD_KINDS = ("dist", "pub")
"""Runs that may have entries on a blackboard: those of disttool, those of pubtool."""

Place = SqliteFile | PostgresServer


@dataclass(frozen=True, slots=True)
class Roots:
    """What paths begin with on this host: site keys NEB_ROOT and DATAPATH (NAME → directory)."""

    neb_root: Path | None = None
    datapath: Mapping[str, Path] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BoardPath:
    """The path on whose blackboard runs have entries, by name or file; `types`: which runs, by
    keys of BOARD_KINDS, and the DATA_ID of theirs."""

    path: str
    types: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Site:
    """What a command needs to know of its site.

    `link_roots`: the directories below which the targets of links must lie; None if any may do.
    `roots`: where the files of runs are. `distribution_root`: where bundles are built if nothing
    else is said. `translate`: of a product, the words of the command that translates for it.
    `blackboard`: where runs are posted, if anywhere.
    """

    root: Path
    database: Place
    link_roots: tuple[Path, ...] | None
    roots: Roots = field(default_factory=Roots)
    distribution_root: str | None = None
    translate: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    blackboard: BoardPath | None = None


def add_site_options(parser: "argparse._ActionsContainer") -> None:
    """The options by which every command can be told where things are."""
    add = parser.add_argument
    add("--dsroot", metavar="DIR", help="the Data Store's directory (else DATA_STORE_ROOT)")
    add("--dbname", metavar="FILE",
        help="the catalogue: a file, or a PostgreSQL database (else DS_DBNAME)")  # fmt: skip
    add("--site", metavar="FILE", help="the site configuration (else SITE_CONFIG)")


def read_site(options: argparse.Namespace, environ: Mapping[str, str] | None = None) -> Site:
    """The site as told by options (see `add_site_options`), environment and configuration.

    Raises ConfigError with every problem found, LocalError for a path that cannot be looked at.
    """
    given = os.environ if environ is None else environ
    chosen = {"DATA_STORE_ROOT": options.dsroot, "DS_DBNAME": options.dbname}
    settings = _Settings(chosen, given, options.site or given.get("SITE_CONFIG"))
    root = settings.directory("DATA_STORE_ROOT")
    database = _place(settings, root)
    link_roots = settings.directories("LINK_ROOTS")
    roots = Roots(settings.path("NEB_ROOT"), _datapath(settings))
    distribution_root = settings.text("DISTRIBUTION_ROOT")
    translate = _translate(settings)
    blackboard = _blackboard(settings)
    if settings.problems or root is None or database is None:
        raise ConfigError(settings.problems)
    return Site(root, database, link_roots, roots, distribution_root, translate, blackboard)


def names_store(options: argparse.Namespace, environ: Mapping[str, str] | None = None) -> bool:
    """Whether options, environment or configuration name a Data Store at all, a fit one or not.

    Raises ConfigError for a configuration that cannot be read.
    """
    given = os.environ if environ is None else environ
    chosen = {"DATA_STORE_ROOT": options.dsroot, "DS_DBNAME": options.dbname}
    settings = _Settings(chosen, given, options.site or given.get("SITE_CONFIG"))
    return settings.value("DATA_STORE_ROOT")[0] is not None


def read_server(environ: Mapping[str, str]) -> PostgresServer | None:
    """The site's PostgreSQL (DS_DBSERVER …), if environment or configuration name one.

    For what a site keeps beside its Data Store. Raises ConfigError with every problem found.
    """
    settings = _Settings({}, environ, environ.get("SITE_CONFIG"))
    place = _place(settings, None) if settings.text("DS_DBSERVER") else None
    if settings.problems:
        raise ConfigError(settings.problems)
    return place if isinstance(place, PostgresServer) else None


def _datapath(settings: "_Settings") -> dict[str, Path]:
    found = {}
    for name, text in settings.block("DATAPATH").items():
        if os.path.isabs(text):
            found[name] = Path(text)
        else:
            settings.problems.append(f"DATAPATH {name}: an absolute path expected, not {text}")
    return found


def _translate(settings: "_Settings") -> dict[str, tuple[str, ...]]:
    found = {}
    for name, text in settings.block("TRANSLATE").items():
        try:
            words = tuple(shlex.split(text))
        except ValueError as error:
            settings.problems.append(f"TRANSLATE {name}: {error}: {text}")
            continue
        if words:
            found[name] = words
    return found


def _blackboard(settings: "_Settings") -> BoardPath | None:
    block = settings.block("BLACKBOARD")
    if not block:
        return None
    wanted = f"path, and one or both of {' and '.join(BOARD_KINDS)}"
    problem = f"BLACKBOARD: {wanted} expected, each with a value"
    if set(block) - {"path", *BOARD_KINDS} or not all(block.values()):
        settings.problems.append(f"{problem}, not {' '.join(block)}")
        return None
    types = {kind: block[kind] for kind in BOARD_KINDS if kind in block}
    if "path" not in block or not types:
        settings.problems.append(f"{problem}; there is only {' '.join(block)}")
        return None
    return BoardPath(block["path"], types)


def _place(settings: "_Settings", root: Path | None) -> Place | None:
    server = settings.text("DS_DBSERVER")
    if server is None:
        named = settings.path("DS_DBNAME")
        if named:
            return SqliteFile(named)
        return SqliteFile(root / CATALOGUE) if root else None
    name = settings.text("DS_DBNAME")
    if name is None:
        settings.problems.append("DS_DBNAME: the name of the PostgreSQL database is missing")
        return None
    return PostgresServer(server, name, settings.text("DS_DBUSER"), settings.text("DS_DBPASSWORD"))


def _load(site: str) -> Mapping[str, object]:
    from parse_config import load_mdc_file

    block = load_mdc_file(Path(site))
    return {name: block[name] for name in block}


_OPTIONS = {"DATA_STORE_ROOT": "--dsroot", "DS_DBNAME": "--dbname"}


class _Settings:
    """Keys looked up in three places, first found first; an empty value is none."""

    def __init__(
        self, options: Mapping[str, str | None], environ: Mapping[str, str], site: str | None
    ) -> None:
        self.problems: list[str] = []
        self._options = options
        self._environ = environ
        self._source = site
        self._file = _load(site) if site else {}

    def value(self, key: str) -> tuple[object, str]:
        """The value of a key and where it comes from; None and blank if it is nowhere."""
        if self._options.get(key):
            return self._options[key], _OPTIONS[key]
        if self._environ.get(key):
            return self._environ[key], f"the environment's {key}"
        if self._file.get(key):
            return self._file[key], f"{self._source}: {key}"
        return None, ""

    def text(self, key: str) -> str | None:
        """A key whose value is one text."""
        value, source = self.value(key)
        if value is None or isinstance(value, str):
            return value
        self.problems.append(f"{source}: one STR expected")
        return None

    def path(self, key: str) -> Path | None:
        """A key whose value is one path; in a configuration file it must be absolute."""
        text = self.text(key)
        return self._absolute(text, key) if text else None

    def directory(self, key: str) -> Path | None:
        """A required key that names a directory."""
        text = self.text(key)
        if text is None:
            self.problems.append(
                f"{key}: not set; give the option, set it in the environment, or in the site"
                " configuration"
            )
            return None
        path = self._absolute(text, key)
        if path is None:
            return None
        with told(path):
            there = path.is_dir()
        if not there:
            self.problems.append(f"{self.value(key)[1]}: a directory expected, but {path} is none")
        return path

    def directories(self, key: str) -> tuple[Path, ...] | None:
        """A key that names directories: one text with `:` between them, or several values."""
        value, source = self.value(key)
        if value is None:
            return None
        texts = value.split(":") if isinstance(value, str) else value
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            self.problems.append(f"{source}: directories expected, DIR:DIR or a MULTI of STR")
            return None
        paths = [self._absolute(text, key) for text in texts if text]
        return tuple(path for path in paths if path)

    def block(self, key: str) -> dict[str, str]:
        """A key of the configuration file whose value is a block of STR."""
        from parse_config import Block

        value, source = self._file.get(key), f"{self._source}: {key}"
        if value is None:
            return {}
        if not isinstance(value, Block):
            self.problems.append(f"{source}: a block expected, {key} METADATA … END")
            return {}
        odd = [name for name in value if not isinstance(value[name], str)]
        self.problems += [f"{source}: {name}: one STR expected" for name in odd]
        return {name: value[name] for name in value if name not in odd}

    def _absolute(self, text: str, key: str) -> Path | None:
        _, source = self.value(key)
        if os.path.isabs(text) or not (self._source and source.startswith(f"{self._source}:")):
            with told(f"{source}: {text}, below the current directory"):
                return Path(os.path.abspath(text))
        # Read by many programs, each in a directory of its own.
        self.problems.append(f"{source}: an absolute path expected, not {text}")
        return None
