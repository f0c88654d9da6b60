"""mirror.yaml: read, checked as a whole, settled into one frozen record (DESIGN, "The client's
command").

Every key stands once in KEYS with its default and its reader; nothing past this module sees what
YAML made of the file. All problems are reported in one go, each with file, line, key and what is
allowed.
"""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime, time, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from formats import values
from mirror.errors import ConfigError

if TYPE_CHECKING:
    import yaml


@dataclass(frozen=True, slots=True)
class BoardPlace:
    """A blackboard, and what our entries there are: a path or its file, a data type; `product`:
    whether every dataset tells its product."""

    path: str
    type: str
    product: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """One mirror's configuration, checked. Times in seconds, sizes in bytes."""

    mirror_root: Path
    top_uri: tuple[str, ...]
    products: tuple[str, ...]
    hidden_products: tuple[str, ...] = ()
    select: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    since: datetime | str | None = None
    unpack: bool = True
    keep_bundles: bool = False
    data_prefix: str
    path_file: Path | None = None
    connections: int = 8
    timeout: float = 30.0
    retries: int = 5
    min_speed: int = 100
    rate_limit: int | None = None
    deadline: time | timedelta | None = None
    min_free: int = 10**9
    resume_free: int = 10**9
    max_expansion: int = 200
    max_unpacked: int = 100 * 10**9
    after_fileset: tuple[str, ...] = ()
    import_runs: bool = False
    status_product: str | None = None
    status_site: Path | None = None
    blackboard: BoardPlace | None = None
    redirect_hosts: tuple[str, ...] = ()
    user_agent: str | None = None
    ca_bundle: Path | None = None
    client_cert: tuple[Path, ...] = ()
    netrc: Path | bool = True


@dataclass(frozen=True, slots=True)
class _Written:
    """A value of the file: what YAML made of it, its text, its line, the directory of the file."""

    value: Any
    text: str
    line: int
    directory: Path


_NOT_PLAIN = "<something that is no plain YAML>"
_REQUIRED = ("mirror_root", "top_uri", "products")
_PRODUCT_NAME = re.compile(r"[A-Za-z0-9_+:][A-Za-z0-9_+.:-]{0,254}")
_DATA_ID = re.compile(r"[!-{}~]{1,64}")
_PRODUCT_GLOB = re.compile(r"[A-Za-z0-9_+.: \-*?\[\]!]+")


def _text(written: _Written) -> str:
    if not isinstance(written.value, str) or not written.value.strip():
        raise ValueError(f"a text expected, not {written.value!r}")
    return written.value.strip()


def _texts(written: _Written) -> tuple[str, ...]:
    """One text or a list of them."""
    given = written.value if isinstance(written.value, list) else [written.value]
    if not all(isinstance(one, str) and one.strip() for one in given):
        raise ValueError(f"a text or a list of texts expected, not {written.value!r}")
    return tuple(one.strip() for one in given)


def _globs(written: _Written) -> tuple[str, ...]:
    names = _texts(written)
    for name in names:
        if not _PRODUCT_GLOB.fullmatch(name) or name in (".", "..") or name.startswith("-"):
            raise ValueError(f"product names or globs expected, not {name!r}")
    return names


def _product(written: _Written) -> str:
    name = _text(written)
    if not _PRODUCT_NAME.fullmatch(name):
        raise ValueError(f"the name of a product expected, not {name!r}")
    return name


def _board(written: _Written) -> BoardPlace:
    value = written.value
    if not isinstance(value, dict) or set(value) - {"product"} != {"path", "type"}:
        raise ValueError(f"{{path: PATH, type: TYPE}} expected, not {value!r}")
    product = value.get("product", False)
    if not isinstance(product, bool):
        raise ValueError(f"product: true or false expected, not {product!r}")
    kind = value["type"]
    if not isinstance(kind, str) or not _DATA_ID.fullmatch(kind):
        raise ValueError(f"type: a data type without blanks and '|' expected, not {kind!r}")
    if not isinstance(value["path"], str) or not value["path"].strip():
        raise ValueError(
            f"path: the name of a path, or a path file, expected, not {value['path']!r}"
        )
    path = value["path"].strip()
    if path.startswith("-"):
        raise ValueError(f"path: the name of a path, or a path file, expected, not {path!r}")
    if os.sep in path or path.endswith(".path"):
        path = str(_existing(_Written(path, path, written.line, written.directory)).absolute())
    return BoardPlace(path, kind, product)


def _flag(written: _Written) -> bool:
    if not isinstance(written.value, bool):
        raise ValueError(f"true or false expected, not {written.value!r}")
    return written.value


def _whole(lowest: int, highest: int) -> Callable[[_Written], int]:
    def read(written: _Written) -> int:
        value = written.value
        if isinstance(value, bool) or not isinstance(value, int) or not lowest <= value <= highest:
            raise ValueError(f"a whole number from {lowest} to {highest} expected, not {value!r}")
        return value

    return read


def _path(written: _Written) -> Path:
    """A path; a relative one starts at the configuration file, because cron starts anywhere."""
    return written.directory / Path(_text(written)).expanduser()


def _existing(written: _Written) -> Path:
    path = _path(written)
    if not path.exists():
        raise ValueError(f"an existing file expected, and {path} does not exist")
    return path


def _certificate(written: _Written) -> tuple[Path, ...]:
    names = _texts(written)
    if len(names) > 2:
        raise ValueError("one file, or a certificate and its key, expected")
    return tuple(_existing(_Written(name, name, written.line, written.directory)) for name in names)


def _netrc(written: _Written) -> Path | bool:
    return written.value if isinstance(written.value, bool) else _existing(written)


def _select(written: _Written) -> dict[str, tuple[str, ...]]:
    value = written.value
    if not isinstance(value, dict) or not value:
        raise ValueError(f"column: glob, or column: [globs], expected, not {value!r}")
    chosen: dict[str, tuple[str, ...]] = {}
    for column, wanted in value.items():
        given = wanted if isinstance(wanted, list) else [wanted]
        if not given or any(isinstance(one, dict | list | None) for one in given):
            raise ValueError(f"a glob or a list of globs expected for column {column!r}")
        chosen[str(column)] = tuple(str(one) for one in given)
    return chosen


def _uris(written: _Written) -> tuple[str, ...]:
    given = written.value if isinstance(written.value, list) else [written.value]
    if not given:
        raise ValueError("at least one address expected")
    return tuple(values.read_uri(one) for one in given)


KEYS: Mapping[str, Callable[[_Written], Any]] = {
    "mirror_root": _text,
    "top_uri": _uris,
    "products": _globs,
    "hidden_products": _globs,
    "select": _select,
    "since": lambda written: values.read_since(written.text),
    "unpack": _flag,
    "keep_bundles": _flag,
    "data_prefix": _text,
    "path_file": _existing,
    "connections": _whole(1, 64),
    "timeout": lambda written: values.read_seconds(written.value),
    "retries": _whole(0, 100),
    "min_speed": lambda written: values.read_size(written.value),
    "rate_limit": lambda written: values.read_rate(written.value),
    "deadline": lambda written: values.read_deadline(written.text),
    "min_free": lambda written: values.read_size(written.value),
    "resume_free": lambda written: values.read_size(written.value),
    "max_expansion": _whole(1, 1_000_000),
    "max_unpacked": lambda written: values.read_size(written.value),
    "after_fileset": lambda written: values.read_command(written.value),
    "import_runs": _flag,
    "status_product": _product,
    "status_site": _existing,
    "blackboard": _board,
    "redirect_hosts": _texts,
    "user_agent": _text,
    "ca_bundle": _existing,
    "client_cert": _certificate,
    "netrc": _netrc,
}
"""Every key of mirror.yaml and the function that reads its value or says what is allowed."""

DEFAULTS: Mapping[str, Any] = {one.name: one.default for one in fields(Config) if one.name in KEYS}
"""The defaults of the keys that have one, as Config holds them."""


def read_config(path: Path, environ: Mapping[str, str] | None = None) -> Config:
    """Read and check the configuration file at `path`.

    Returns the configuration with every default filled in. Raises ConfigError with all problems
    of the file, each as `FILE:LINE: KEY: what is allowed, what came`.
    """
    problems: list[str] = []
    written = _read_yaml(path, problems)
    settled: dict[str, Any] = {}
    for key, one in written.items():
        reader = KEYS.get(key)
        if reader is None:
            problems.append(f"{path}:{one.line}: {key}: {_unknown(key)}")
        elif one.value is not None:
            try:
                settled[key] = reader(one)
            except ValueError as error:
                problems.append(f"{path}:{one.line}: {key}: {error}")
    problems += [
        f"{path}: {key}: required, and not there (see mirror.yaml.example)"
        for key in _REQUIRED
        if key not in written or written[key].value is None
    ]
    if not problems:
        _settle(path, written, settled, problems, os.environ if environ is None else environ)
    if problems:
        raise ConfigError(problems)
    return Config(**settled)


def _unknown(key: str) -> str:
    from difflib import get_close_matches

    close = get_close_matches(key, KEYS, 1)
    meant = f"did you mean {close[0]!r}? " if close else ""
    return f"no such key; {meant}allowed are {', '.join(KEYS)}"


def _settle(
    path: Path,
    written: Mapping[str, _Written],
    settled: dict[str, Any],
    problems: list[str],
    environ: Mapping[str, str],
) -> None:
    """The keys that depend on others: path_file, data_prefix, resume_free, keep_bundles."""

    def problem(key: str, message: str) -> None:
        at = written.get(key) or written["mirror_root"]
        problems.append(f"{path}:{at.line}: {key}: {message}")

    if "path_file" in settled:
        _resolve(settled, problem, environ)
    root = Path(settled["mirror_root"]).expanduser()
    settled["mirror_root"] = root = Path(os.path.abspath(path.parent / root))
    prefix = settled.setdefault("data_prefix", str(root / "data"))
    if any(sign in prefix for sign in "#\n\r\0") or prefix != prefix.strip():
        problem("data_prefix", f"a path without '#' or line ends expected, not {prefix!r}")
    settled["data_prefix"] = prefix.rstrip("/") or "/"
    settled.setdefault("min_free", Config.__dataclass_fields__["min_free"].default)
    settled.setdefault("resume_free", settled["min_free"])
    if settled["resume_free"] < settled["min_free"]:
        problem("resume_free", f"at least min_free ({settled['min_free']} bytes) expected")
    if not settled["products"] and not settled.get("hidden_products"):
        problem("products", "at least one product expected, here or in hidden_products")
    if "status_site" in settled and "status_product" not in settled:
        problem("status_site", "status_product, whose site this is, expected too")
    if settled.get("unpack") is False:
        settled["keep_bundles"] = True


def _resolve(
    settled: dict[str, Any], problem: Callable[[str, str], None], environ: Mapping[str, str]
) -> None:
    """Let an OPUS path file say what mirror_root and data_prefix mean (OPUS, "Path files")."""
    from formats.path_file import read_path_file

    try:
        paths = read_path_file(settled["path_file"], environ=environ)
    except ConfigError as error:
        for line in error.problems:
            problem("path_file", line)
        return
    for key in ("mirror_root", "data_prefix"):
        try:
            if key in settled:
                settled[key] = paths.resolve(settled[key])
        except ConfigError as error:
            problem(key, str(error))


def _read_yaml(path: Path, problems: list[str]) -> dict[str, _Written]:
    """The top level of the file: key to value, text and line. Says what is wrong as YAML."""
    import yaml

    try:
        text = path.read_bytes().decode("utf-8-sig")
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except OSError as error:
        raise ConfigError([f"{path}: cannot be read: {error.strerror}"]) from None
    except UnicodeDecodeError as error:
        raise ConfigError([f"{path}: UTF-8 expected: {error}"]) from None
    except yaml.YAMLError as error:
        raise ConfigError([f"{path}: not YAML: {_yaml_fault(error)}"]) from None
    if root is None:
        return {}
    if not isinstance(root, yaml.MappingNode):
        raise ConfigError([f"{path}:{root.start_mark.line + 1}: `key: value` lines expected"])
    written: dict[str, _Written] = {}
    for key_node, node in root.value:
        line = key_node.start_mark.line + 1
        key = str(key_node.value)
        if key in written:
            problems.append(
                f"{path}:{line}: {key}: given twice (before in line {written[key].line})"
            )
            continue
        written[key] = _Written(*_construct(node), line, path.parent)
    return written


def _construct(node: "yaml.Node") -> tuple[Any, str]:
    """The value of a node and its text as written.

    A text that YAML takes for something it then cannot make (a date with a 13th month) stays the
    text: the key's reader says what is wrong with it.
    """
    import yaml

    text = str(node.value) if isinstance(node, yaml.ScalarNode) else ""
    try:
        value = yaml.constructor.SafeConstructor().construct_document(node)
    except (yaml.YAMLError, ValueError, TypeError, RecursionError):
        value = text or [_NOT_PLAIN]
    return value, text or repr(value)


def _yaml_fault(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    place = f"line {mark.line + 1}: " if mark else ""
    return place + str(getattr(error, "problem", None) or error).replace("\n", " ")
