"""mirror.yaml (DESIGN, "The client's command"): every key, every problem, all in one go."""

import re
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import Any

import pytest

from formats.mirror_yaml import DEFAULTS, KEYS
from mirror.errors import ConfigError
from parse_config import Config, read_config

ROOT = Path(__file__).resolve().parent.parent
MINIMAL = "mirror_root: /data/MIRROR\ntop_uri: http://host/ds/index.txt\nproducts: [gpc1]\n"


def config(tmp_path: Path, text: str, environ: dict[str, str] | None = None) -> Config:
    path = tmp_path / "mirror.yaml"
    path.write_text(text, encoding="utf-8")
    return read_config(path, environ or {})


def problems(tmp_path: Path, text: str, environ: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        config(tmp_path, text, environ)
    return [one.replace(str(tmp_path) + "/", "") for one in caught.value.problems]


def test_the_three_required_keys_suffice_and_the_rest_has_its_default(tmp_path: Path) -> None:
    read = config(tmp_path, MINIMAL)
    assert read.mirror_root == Path("/data/MIRROR")
    assert read.top_uri == ("http://host/ds/",)
    assert read.products == ("gpc1",)
    assert read.data_prefix == "/data/MIRROR/data"
    assert (read.connections, read.timeout, read.retries) == (8, 30, 5)
    assert (read.min_free, read.resume_free) == (10**9, 10**9)
    assert (read.unpack, read.keep_bundles, read.deadline, read.rate_limit) == (
        True,
        False,
        None,
        None,
    )


@pytest.mark.parametrize(
    ("line", "key", "value"),
    [
        ("top_uri: [http://a/ds, https://b:8443/ds/index.txt]", "top_uri",
         ("http://a/ds/", "https://b:8443/ds/")),
        ("products: gpc1", "products", ("gpc1",)),
        ('products: ["gpc*", IPP-MOPS]', "products", ("gpc*", "IPP-MOPS")),
        ("hidden_products: [x, y]", "hidden_products", ("x", "y")),
        ("select: {stage: [chip, camera], stage_id: 12}", "select",
         {"stage": ("chip", "camera"), "stage_id": ("12",)}),
        ("since: 2026-01-31T12:00:00Z", "since", datetime(2026, 1, 31, 12, tzinfo=UTC)),
        ("since: '2026-01-31 12:00:00'", "since", datetime(2026, 1, 31, 12, tzinfo=UTC)),
        ("since: 2026-01-31T12:00:00+02:00", "since", datetime(2026, 1, 31, 10, tzinfo=UTC)),
        ("since: 2026-01-31", "since", datetime(2026, 1, 31, tzinfo=UTC)),
        ("since: o4741g0234o.fake.2799.11.1", "since", "o4741g0234o.fake.2799.11.1"),
        ("connections: 3", "connections", 3),
        ("timeout: 2m", "timeout", 120.0),
        ("timeout: 0.5", "timeout", 0.5),
        ("rate_limit: 20MB", "rate_limit", 20_000_000),
        ("rate_limit: 20MB/s", "rate_limit", 20_000_000),
        ("rate_limit: 1MiB", "rate_limit", 2**20),
        ("rate_limit: 1500", "rate_limit", 1500),
        ("min_free: 0", "min_free", 0),
        ("deadline: 06:00", "deadline", time(6)),
        ("deadline: 23:59", "deadline", time(23, 59)),
        ("deadline: '23:59:30'", "deadline", time(23, 59, 30)),
        ("deadline: 90s", "deadline", timedelta(seconds=90)),
        ("deadline: 4h", "deadline", timedelta(hours=4)),
        ("after_fileset: 'ingest --name \"two words\"'", "after_fileset",
         ("ingest", "--name", "two words")),
        ("after_fileset: [ingest, $HOME]", "after_fileset", ("ingest", "$HOME")),
        ("netrc: false", "netrc", False),
        ("data_prefix: path://MIRROR/", "data_prefix", "path://MIRROR"),
        ("user_agent: us", "user_agent", "us"),
        ("rate_limit:", "rate_limit", None),
    ],
)  # fmt: skip
def test_values(tmp_path: Path, line: str, key: str, value: Any) -> None:
    kept = [one for one in MINIMAL.splitlines() if not one.startswith(f"{key}:")]
    assert getattr(config(tmp_path, "\n".join([*kept, line, ""])), key) == value


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("conections: 4", "conections: no such key; did you mean 'connections'? allowed are"),
        ("connections: 0", "connections: a whole number from 1 to 64 expected, not 0"),
        ("connections: true", "connections: a whole number"),
        ("connections: '8'", "connections: a whole number"),
        ("retries: -1", "retries: a whole number from 0 to 100"),
        ("timeout: 0", "timeout: seconds, or a duration"),
        ("timeout: soon", "timeout: seconds, or a duration"),
        ("rate_limit: fast", "rate_limit: bytes a second like 20MB"),
        ("rate_limit: 0", "rate_limit: bytes a second like 20MB"),
        ("min_free: 1XB", "min_free: a size like 1GB"),
        ("deadline: 25:00", "deadline: a local time like 06:00"),
        ("deadline: 90", "deadline: a local time like 06:00"),
        ("deadline: noon", "deadline: a local time like 06:00"),
        ("since: 2026-13-01", "since: a UTC time like"),
        ("unpack: 1", "unpack: true or false expected"),
        ("select: chip", "select: column: glob"),
        ("select: {stage: []}", "select: a glob or a list of globs"),
        ("after_fileset: 'a \"b'", "after_fileset: a command that can be split"),
        ("after_fileset: []", "after_fileset: a command as a string or a list"),
        ("hidden_products: [../x]", "hidden_products: product names or globs expected"),
        ("ca_bundle: /no/such/file", "ca_bundle: an existing file expected"),
        ("netrc: /no/such/file", "netrc: an existing file expected"),
        ("data_prefix: 'a#b'", "data_prefix: a path without '#'"),
        ("resume_free: 1kB", "resume_free: at least min_free"),
        ("connections: 1\nconnections: 2", "connections: given twice (before in line 4)"),
    ],
)
def test_what_is_refused_with_file_line_and_key(tmp_path: Path, line: str, told: str) -> None:
    (problem,) = problems(tmp_path, MINIMAL + line + "\n")
    number = 4 + line.count("\n")
    assert problem.startswith(f"mirror.yaml:{number}: {told}")


@pytest.mark.parametrize(
    "uri",
    ["ftp://h/", "http://", "host/ds", "http://h/?x", "http://h/ a", "http://h:x/", "file:///x"],
)
def test_addresses_that_are_none(tmp_path: Path, uri: str) -> None:
    text = f"mirror_root: /m\ntop_uri: '{uri}'\nproducts: [gpc1]\n"
    (problem,) = problems(tmp_path, text)
    assert problem.startswith("mirror.yaml:2: top_uri: an http:// or https:// address")


def test_all_problems_of_a_file_are_told_at_once(tmp_path: Path) -> None:
    told = problems(tmp_path, "top_uri: nowhere\nconections: 4\ntimeout: never\nretries: x\n")
    assert [one.split(": ")[0:2] for one in told] == [
        ["mirror.yaml:1", "top_uri"],
        ["mirror.yaml:2", "conections"],
        ["mirror.yaml:3", "timeout"],
        ["mirror.yaml:4", "retries"],
        ["mirror.yaml", "mirror_root"],
        ["mirror.yaml", "products"],
    ]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "mirror.yaml: mirror_root: required"),
        ("- a\n- b\n", "mirror.yaml:1: `key: value` lines expected"),
        ("a: [\n", "mirror.yaml: not YAML: line 2"),
        ("a: b: c\n", "mirror.yaml: not YAML: line 1"),
    ],
)
def test_files_that_are_no_configuration(tmp_path: Path, text: str, told: str) -> None:
    assert problems(tmp_path, text)[0].startswith(told)


def test_a_missing_or_binary_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_config(tmp_path / "none.yaml")
    (tmp_path / "bin.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="UTF-8 expected"):
        read_config(tmp_path / "bin.yaml")


def test_relative_paths_start_at_the_file(tmp_path: Path) -> None:
    read = config(tmp_path, MINIMAL.replace("/data/MIRROR", "here"))
    assert read.mirror_root == tmp_path / "here"
    assert read.data_prefix == str(tmp_path / "here" / "data")


def test_no_product_at_all_is_refused(tmp_path: Path) -> None:
    text = MINIMAL.replace("[gpc1]", "[]")
    (problem,) = problems(tmp_path, text)
    assert problem.startswith("mirror.yaml:3: products: at least one product expected")
    assert config(tmp_path, text + "hidden_products: [x]\n").hidden_products == ("x",)


def test_a_password_in_an_address_is_not_told(tmp_path: Path) -> None:
    text = MINIMAL.replace("http://host/ds/index.txt", "http://me:s3cret@host/ds/?x")
    (problem,) = problems(tmp_path, text)
    assert "s3cret" not in problem


def test_unpack_false_implies_keep_bundles(tmp_path: Path) -> None:
    assert config(tmp_path, MINIMAL + "unpack: false\n").keep_bundles


def test_resume_free_follows_min_free(tmp_path: Path) -> None:
    assert config(tmp_path, MINIMAL + "min_free: 5GB\n").resume_free == 5 * 10**9


def test_a_path_file_binds_root_and_prefix(tmp_path: Path) -> None:
    (tmp_path / "night.path").write_text(
        "OPUS_OBSERVATIONS_DIR = /obs\nSTAGE_FILE = /obs/x.stage\n"
        "MIRROR_DIR = SUB[BASE]/mirror ! the tree\n",
        encoding="ascii",
    )
    text = "path_file: night.path\nmirror_root: MIRROR_DIR\ntop_uri: http://h/\nproducts: x\n"
    read = config(tmp_path, text, {"BASE": "/big"})
    assert read.mirror_root == Path("/big/mirror")
    assert read.data_prefix == "/big/mirror/data"
    (problem,) = problems(tmp_path, text, {})
    assert problem.startswith("mirror.yaml:2: mirror_root: ")
    assert "BASE" in problem


def example_keys() -> list[str]:
    text = (ROOT / "mirror.yaml.example").read_text(encoding="utf-8")
    return re.findall(r"^(?:# )?([a-z_]+): ", text, re.MULTILINE)


def test_example_documentation_and_loader_have_the_same_keys() -> None:
    documented = re.findall(
        r"^\| `([a-z_]+)` \|", (ROOT / "docs/configuration.md").read_text("utf-8"), re.MULTILINE
    )
    assert sorted(example_keys()) == sorted(KEYS)
    assert sorted(documented) == sorted(KEYS)


def test_the_example_shows_the_defaults(tmp_path: Path) -> None:
    text = (ROOT / "mirror.yaml.example").read_text(encoding="utf-8")
    read = config(tmp_path, text)
    given = {"mirror_root", "top_uri", "products", "data_prefix"}
    for key, default in DEFAULTS.items():
        if key not in given and key != "select":
            assert getattr(read, key) == default, key


def test_every_key_that_the_example_hides_is_right_when_uncommented(tmp_path: Path) -> None:
    text = (ROOT / "mirror.yaml.example").read_text(encoding="utf-8")
    for line in re.findall(r"^# ([a-z_]+: .+)$", text, re.MULTILINE):
        key = line.split(":")[0]
        if key in KEYS and key not in ("path_file", "status_site", "ca_bundle", "client_cert"):
            config(tmp_path, text + line + "\n")
