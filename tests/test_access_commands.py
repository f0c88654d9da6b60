"""`server user` and `server network`: what they do, say, ask and refuse."""

import io
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from client import PATIENCE, PROJECT
from places import data_store, environment_of

from server.__main__ import main
from server.catalogue import add_product, catalogue
from server.people.access import Cost, Gate, hash_password, verify_password
from server.people.grants import networks, product_named, rules_of, users
from server.site import CATALOGUE, Place, SqliteFile
from server.views.answers import Visitor

PASSWORD = "correct horse"

Command = Callable[..., int]


@pytest.fixture
def store(tmp_path: Path) -> SqliteFile:
    """The catalogue of a store with the products gpc1 and gpc2."""
    place = SqliteFile(data_store(tmp_path) / CATALOGUE)
    with catalogue(place, create=True) as database:
        add_product(database, "gpc1", "ipp-dist", "one")
        add_product(database, "gpc2", "ipp-dist", "two")
    return place


@pytest.fixture
def server(store: SqliteFile, monkeypatch: pytest.MonkeyPatch) -> Command:
    """`server(COMMAND, …)` runs a command at that store, without a terminal."""
    for name in ("SITE_CONFIG", "DS_DBNAME", "DS_DBSERVER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DATA_STORE_ROOT", str(store.path.parent))
    monkeypatch.setattr(
        "server.people.user.hash_password", partial(hash_password, cost=Cost(2, 1, 1))
    )
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"")))
    return lambda *words: main(list(words))


@pytest.fixture
def secret(tmp_path: Path) -> str:
    """A file with a password in it."""
    path = tmp_path / "secret"
    path.write_text(f"{PASSWORD}\nsecond line\n")
    return str(path)


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A terminal at which these lines are typed; the questions take their place."""
    lines: list[str] = []

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    def answer(question: str) -> str:
        if not lines:
            raise EOFError
        return lines.pop(0)

    monkeypatch.setattr(sys, "stdin", Terminal())
    monkeypatch.setattr("getpass.getpass", answer)
    return lines


def is_password(place: Place, user: str, password: str) -> bool:
    with catalogue(place) as database:
        found = rules_of(database, product_named(database, "gpc1"), user)
    assert found.password
    return verify_password(password, found.password)


def all_users(place: Place) -> dict[str, list[str]]:
    with catalogue(place) as database:
        return users(database)


def all_networks(place: Place) -> list[tuple[str, str]]:
    with catalogue(place) as database:
        return networks(database)


def test_a_new_user_gets_the_password_of_the_first_line(
    server: Command, store: SqliteFile, secret: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--product", "gpc1", "--product", "gpc2", "--password-file", secret)
    assert server("user", "add", "alice", *words) == 0
    assert capsys.readouterr() == ("user alice added, granted gpc1, gpc2\n", "")
    assert all_users(store) == {"alice": ["gpc1", "gpc2"]}
    assert is_password(store, "alice", PASSWORD)


def test_who_is_there_gets_products_and_a_password_only_if_one_is_given(
    server: Command, store: SqliteFile, secret: str, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    server("user", "add", "alice", "--product", "gpc1", "--password-file", secret)
    other = tmp_path / "other"
    other.write_bytes(b"\xef\xbb\xbfbattery staple\r\n")
    capsys.readouterr()
    assert server("user", "add", "alice", "--product", "gpc2") == 0
    assert is_password(store, "alice", PASSWORD)
    words = ("--product", "gpc2", "--password-file", str(other))
    assert server("user", "add", "alice", *words) == 0
    assert is_password(store, "alice", "battery staple")
    assert capsys.readouterr().out.splitlines() == [
        "user alice was there: password kept, granted gpc2",
        "user alice was there: password changed, granted nothing new",
    ]


def test_at_a_terminal_a_password_is_asked_for_twice(
    server: Command, store: SqliteFile, typed: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    typed += [PASSWORD, PASSWORD]
    assert server("user", "add", "alice", "--product", "gpc1") == 0
    typed += ["battery staple", "battery staple"]
    assert server("user", "password", "alice") == 0
    assert capsys.readouterr().out.splitlines()[-1] == "user alice: password changed"
    assert is_password(store, "alice", "battery staple")


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ([PASSWORD, "correct horsf"], "differ"),
        ([PASSWORD], "no password came"),
        (["short", "short"], "at least 8"),
        (["tab\tulated", "tab\tulated"], "control characters"),
    ],
)
def test_what_is_typed_badly_changes_nothing(
    server: Command, store: SqliteFile, typed: list[str], lines: list[str], told: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    typed += lines
    assert server("user", "add", "alice", "--product", "gpc1") == 3
    out, err = capsys.readouterr()
    assert out == ""
    assert told in err
    assert not any(line in err for line in lines)
    assert all_users(store) == {}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "at least 8"),
        (b"\ncorrect horse\n", "at least 8"),
        (b"short12\n", "at least 8"),
        (b"x" * 1025, "at most 1024"),
        (b"x" * 5000, "at most 1024"),
        (b"correct\x00horse\n", "control"),
        (b"correct \xff horse\n", "not UTF-8"),
        (None, "cannot be read"),
    ],
)
def test_a_file_without_a_good_password_changes_nothing(
    server: Command, store: SqliteFile, tmp_path: Path, content: bytes | None, told: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    path = tmp_path / "secret"
    if content is not None:
        path.write_bytes(content)
    words = ("--product", "gpc1", "--password-file", str(path))
    assert server("user", "add", "alice", *words) == 3
    assert told in capsys.readouterr().err
    assert all_users(store) == {}


@pytest.mark.parametrize("words", [("add", "alice", "--product", "gpc1"), ("password", "bob")])
def test_without_a_terminal_a_password_comes_from_a_file(
    server: Command, store: SqliteFile, secret: str, words: tuple[str, ...],
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    server("user", "add", "bob", "--product", "gpc1", "--password-file", secret)
    before = all_users(store)
    assert server("user", *words) == 3
    assert "--password-file" in capsys.readouterr().err
    monkeypatch.setattr(sys, "stdin", None)
    assert server("user", *words) == 3
    assert all_users(store) == before


def test_standard_input_can_bring_it(
    server: Command, store: SqliteFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b" battery staple \nmore\n")))
    assert server("user", "add", "alice", "--product", "gpc1", "--password-file", "-") == 0
    assert is_password(store, "alice", " battery staple ")


def test_an_unknown_product_is_told_before_a_password_is_asked_for(
    server: Command, store: SqliteFile, typed: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    typed += [PASSWORD, PASSWORD]
    assert server("user", "add", "alice", "--product", "gpc9") == 3
    assert capsys.readouterr().err == "user: no product 'gpc9'; known are: gpc1, gpc2\n"
    assert len(typed) == 2


@pytest.mark.parametrize(
    "words",
    [("password", "bob"), ("del", "bob"), ("del", "bob", "--product", "gpc1")],
    ids=["password", "del", "take"],
)
def test_an_unknown_user_is_told_with_the_known_ones(
    server: Command, secret: str, words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    server("user", "add", "alice", "--product", "gpc1", "--password-file", secret)
    assert server("user", *words) == 3
    assert capsys.readouterr().err == "user: no user 'bob'; known are: alice\n"


@pytest.mark.parametrize(
    "words",
    [
        ("user",),
        ("user", "add", "alice"),
        ("user", "add", "al:ice", "--product", "gpc1"),
        ("user", "add", "", "--product", "gpc1"),
        ("user", "add", "a" * 65, "--product", "gpc1"),
        ("user", "add", "älice", "--product", "gpc1"),
        ("network",),
        ("network", "add", "10.0.0.0/8"),
    ],
)
def test_wrong_usage(server: Command, store: SqliteFile, words: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit) as ended:
        server(*words)
    assert ended.value.code == 2
    assert all_users(store) == {}


@pytest.mark.parametrize("words", [(), ("add",)], ids=["user", "add"])
def test_help_warns_of_a_password_that_everybody_can_read(
    server: Command, words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        server("user", *words, "--help")
    told = " ".join(capsys.readouterr().out.split())
    assert "sends name and password readable by everybody on the way" in told


def test_the_last_user_is_deleted_only_with_open(
    server: Command, store: SqliteFile, secret: str, capsys: pytest.CaptureFixture[str]
) -> None:
    products = ("--product", "gpc1", "--product", "gpc2")
    server("user", "add", "alice", *products, "--password-file", secret)
    server("user", "add", "bob", "--product", "gpc2", "--password-file", secret)
    capsys.readouterr()
    assert server("user", "del", "alice") == 3
    out, err = capsys.readouterr()
    assert out == ""
    assert "last one that gpc1 is restricted to; without it everybody may have it" in err
    assert "gpc2" not in err
    assert server("user", "del", "alice", "--product", "gpc1") == 3
    assert server("user", "del", "alice", "--product", "gpc2") == 0
    assert all_users(store) == {"alice": ["gpc1"], "bob": ["gpc2"]}
    assert server("user", "del", "alice", "--open") == 0
    assert server("user", "del", "bob", "--product", "gpc2", "--open") == 0
    assert server("user", "del", "bob") == 0
    assert capsys.readouterr().out.splitlines() == [
        "user alice: no grant for gpc2 any more",
        "user alice deleted, had gpc1; not restricted to users any more: gpc1",
        "user bob: no grant for gpc2 any more; not restricted to users any more: gpc2",
        "user bob deleted, had no grants",
    ]
    assert all_users(store) == {}


def test_users_are_listed(server: Command, secret: str, capsys: pytest.CaptureFixture[str]) -> None:
    products = ("--product", "gpc1", "--product", "gpc2")
    server("user", "add", "alice", *products, "--password-file", secret)
    server("user", "add", "bob@example.org", "--product", "gpc2", "--password-file", secret)
    server("user", "del", "bob@example.org", "--product", "gpc2")
    capsys.readouterr()
    assert server("user", "list") == 0
    assert capsys.readouterr().out.splitlines() == [
        "user             products",
        "alice            gpc1, gpc2",
        "bob@example.org  -",
    ]
    assert server("user", "list", "--product", "gpc2") == 0
    assert capsys.readouterr().out.splitlines() == ["user   products", "alice  gpc1, gpc2"]


@pytest.mark.parametrize(
    ("given", "network"),
    [
        ("192.0.2.0/24", "192.0.2.0/24"),
        ("192.0.2.0/255.255.255.0", "192.0.2.0/24"),
        ("192.0.2.7", "192.0.2.7/32"),
        ("0.0.0.0/0", "0.0.0.0/0"),
        ("2001:0DB8:0::/32", "2001:db8::/32"),
        ("::1", "::1/128"),
        ("::ffff:192.0.2.0/120", "192.0.2.0/24"),
        ("::ffff:0:0/96", "0.0.0.0/0"),
    ],
)
def test_a_network_is_kept_in_one_spelling(
    server: Command, store: SqliteFile, given: str, network: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    assert server("network", "add", given, "--product", "gpc1") == 0
    assert server("network", "add", network, "--product", "gpc1") == 0
    assert all_networks(store) == [("gpc1", network)]
    assert server("network", "del", given, "--product", "gpc1", "--open") == 0
    assert capsys.readouterr().out.splitlines() == [
        f"network {network} added to gpc1",
        f"network {network} was there already for gpc1",
        f"network {network} deleted from gpc1; not restricted to networks any more: gpc1",
    ]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("192.0.2.7/24", "is 192.0.2.0/24 meant, or 192.0.2.7?"),
        ("2001:db8::1/32", "is 2001:db8::/32 meant, or 2001:db8::1?"),
        ("192.0.2.0/33", "ADDRESS/BITS expected"),
        ("192.0.2/24", "ADDRESS/BITS expected"),
        ("example.org", "ADDRESS/BITS expected"),
        ("", "ADDRESS/BITS expected"),
        ("fe80::%eth0/10", "without %ZONE"),
    ],
)
def test_what_is_not_exactly_a_network_is_refused(
    server: Command, store: SqliteFile, given: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        server("network", "add", given, "--product", "gpc1")
    assert ended.value.code == 2
    assert told in capsys.readouterr().err
    assert all_networks(store) == []


def test_networks_are_listed_and_the_last_is_deleted_only_with_open(
    server: Command, store: SqliteFile, capsys: pytest.CaptureFixture[str]
) -> None:
    for network, product in [("10.0.0.0/8", "gpc2"), ("::1", "gpc1"), ("192.0.2.7", "gpc2")]:
        assert server("network", "add", network, "--product", product) == 0
    capsys.readouterr()
    assert server("network", "list") == 0
    assert capsys.readouterr().out.splitlines() == [
        "product  network",
        "gpc1     ::1/128",
        "gpc2     10.0.0.0/8",
        "gpc2     192.0.2.7/32",
    ]
    assert server("network", "list", "--product", "gpc1") == 0
    assert capsys.readouterr().out.splitlines() == ["product  network", "gpc1     ::1/128"]
    assert server("network", "del", "10.0.0.0/8", "--product", "gpc2") == 0
    assert server("network", "del", "192.0.2.7", "--product", "gpc2") == 3
    assert "give --open" in capsys.readouterr().err
    assert server("network", "del", "10.0.0.0/8", "--product", "gpc2") == 3
    assert "known are: 192.0.2.7/32" in capsys.readouterr().err
    assert all_networks(store) == [("gpc1", "::1/128"), ("gpc2", "192.0.2.7/32")]


@pytest.mark.parametrize("words", [("add", "::1"), ("del", "::1"), ("list",)], ids=lambda w: w[0])
def test_networks_of_an_unknown_product(
    server: Command, words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert server("network", *words, "--product", "gpc9") == 3
    assert capsys.readouterr().err == "network: no product 'gpc9'; known are: gpc1, gpc2\n"


def test_a_command_makes_no_catalogue(
    server: Command, store: SqliteFile, capsys: pytest.CaptureFixture[str]
) -> None:
    store.path.unlink()
    assert server("user", "list") == 3
    assert "no catalogue" in capsys.readouterr().err
    assert not store.path.exists()


def test_as_a_process_with_either_database(place: Place, tmp_path: Path) -> None:
    with catalogue(place, create=True) as database:
        add_product(database, "gpc1", "ipp-dist", "one")
    environ = {"PATH": os.environ["PATH"], "DATA_STORE_ROOT": str(data_store(tmp_path))}
    environ |= environment_of(place)

    def run(*words: str, stdin: str = "") -> tuple[int, str, str]:
        ended = subprocess.run(
            [sys.executable, "-m", "server", *words],
            cwd=PROJECT, env=environ, input=stdin, capture_output=True, text=True,
            timeout=PATIENCE, check=False,
        )  # fmt: skip
        return ended.returncode, ended.stdout, ended.stderr

    words = ("user", "add", "alice", "--product", "gpc1")
    code, out, err = run(*words)
    assert (code, out) == (3, "")
    assert "no terminal" in err
    added = run(*words, "--password-file", "-", stdin=f"{PASSWORD}\n")
    assert added == (0, "user alice added, granted gpc1\n", "")
    with catalogue(place) as database:
        product = product_named(database, "gpc1")
        alice = Visitor("127.0.0.1", "Basic YWxpY2U6Y29ycmVjdCBob3JzZQ==")
        assert Gate().judge(database, product, alice).denied is None
        assert Gate().judge(database, product, Visitor("127.0.0.1")).denied
