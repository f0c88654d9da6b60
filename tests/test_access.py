"""Who may have what: networks, users, grants, and passwords that are right, wrong or changed."""

import base64
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from client import PATIENCE

from mirror.errors import ConfigError, LocalError
from server.catalogue import add_product, catalogue, find_product, remove_product
from server.database import Database, connect
from server.people import access, grants
from server.people.access import (
    Cost,
    Gate,
    Verdict,
    hash_password,
    lies_in,
    password_fault,
    user_of,
    verify_password,
)
from server.people.grants import (
    Rules,
    add_network,
    has_user,
    networks,
    product_named,
    remove_network,
    remove_user,
    revoke,
    rules_of,
    save_user,
    set_password,
    users,
)
from server.site import Place
from server.views.answers import Visitor

CHEAP = Cost(n=2, r=1, p=1)
HOME = "192.0.2.7"
ABROAD = "203.0.113.9"


def stored(password: str) -> str:
    return hash_password(password, CHEAP)


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


@pytest.fixture
def database(place: Place) -> Iterator[Database]:
    """A catalogue with the products gpc1 and gpc2, everybody's."""
    with catalogue(place, create=True) as opened:
        add_product(opened, "gpc1", "ipp-dist", "one")
        add_product(opened, "gpc2", "ipp-dist", "two")
        yield opened


@pytest.fixture
def gate() -> Gate:
    return Gate(cost=CHEAP)


@pytest.fixture
def verified(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The passwords that scrypt was run for."""
    asked: list[bytes] = []
    derive = access._derived

    def count(password: bytes, salt: bytes, cost: Cost) -> bytes:
        asked.append(password)
        return derive(password, salt, cost)

    monkeypatch.setattr(access, "_derived", count)
    return asked


def judged(
    gate: Gate, database: Database, authorization: str | None = None, address: str = HOME
) -> str:
    """The status that a verdict on gpc1 comes to."""
    verdict = gate.judge(database, product_named(database, "gpc1"), Visitor(address, authorization))
    if verdict.denied is None:
        return "private" if verdict.private else "public"
    assert verdict.private
    return "401" if verdict.denied.challenge else "403"


# The decision

ALICE = basic("alice", "correct horse")
WRONG = basic("alice", "correct horsf")
BOB = basic("bob", "tr0ub4dor&3")
MALLORY = basic("mallory", "correct horse")
BOTH = [HOME, ABROAD]


@pytest.mark.parametrize(
    ("by_network", "by_user", "address", "authorization", "expected"),
    [
        *((False, False, address, who, "public") for address in BOTH for who in (None, WRONG)),
        *((True, False, HOME, who, "private") for who in (None, ALICE, WRONG)),
        *((True, False, ABROAD, who, "403") for who in (None, ALICE, WRONG)),
        *((False, True, address, ALICE, "private") for address in BOTH),
        *((False, True, HOME, who, "401") for who in (None, WRONG, BOB, MALLORY, "Bearer x")),
        (True, True, HOME, ALICE, "private"),
        *((True, True, HOME, who, "401") for who in (None, WRONG, BOB, MALLORY, "Basic !")),
        *((True, True, ABROAD, who, "403") for who in (None, ALICE, WRONG, BOB)),
    ],
)
def test_who_may_have_it(
    gate: Gate, database: Database, by_network: bool, by_user: bool, address: str,
    authorization: str | None, expected: str,
) -> None:  # fmt: skip
    save_user(database, "bob", stored("tr0ub4dor&3"), ["gpc2"])
    if by_network:
        add_network(database, "gpc1", "198.51.100.0/24")
        add_network(database, "gpc1", "192.0.2.0/24")
    if by_user:
        save_user(database, "alice", stored("correct horse"), ["gpc1"])
    assert judged(gate, database, authorization, address) == expected


def test_whom_the_other_product_is_for_does_not_matter(gate: Gate, database: Database) -> None:
    save_user(database, "alice", stored("correct horse"), ["gpc2"])
    add_network(database, "gpc2", "198.51.100.0/24")
    assert judged(gate, database) == "public"


def test_a_no_does_not_tell_which_part_was_wrong(gate: Gate) -> None:
    rules = Rules("gpc1", by_user=True)
    alice = replace(rules, password=stored("correct horse"))
    denials = {
        gate.decide(known, Visitor(HOME, who)).denied
        for known, who in [
            (rules, None), (rules, MALLORY), (replace(alice, granted=True), WRONG), (alice, ALICE),
        ]
    }  # fmt: skip
    assert len(denials) == 1


@pytest.mark.parametrize("who", [MALLORY, WRONG, BOB], ids=["unknown", "wrong", "not granted"])
def test_a_no_takes_as_long_whatever_was_wrong(
    gate: Gate, database: Database, verified: list[bytes], who: str
) -> None:
    save_user(database, "alice", stored("correct horse"), ["gpc1"])
    save_user(database, "bob", stored("tr0ub4dor&3"), ["gpc2"])
    verified.clear()
    assert judged(gate, database, who) == "401"
    assert len(verified) == 1


def test_a_product_that_is_everybodys_costs_one_query(
    database: Database, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    product = product_named(database, "gpc1")
    asked: list[str] = []
    run = database._run

    def count(sql: str, *values: Sequence[object]) -> object:
        asked.append(sql)
        return run(sql, *values)

    monkeypatch.setattr(database, "_run", count)
    assert gate.judge(database, product, Visitor(HOME, ALICE)) == Verdict(None, private=False)
    assert len(asked) == 1


def test_a_password_that_waits_for_its_turn_does_not_hold_the_database(
    place: Place, database: Database, gate: Gate
) -> None:
    save_user(database, "alice", stored("correct horse"), ["gpc1"])
    with catalogue(place) as other:
        decide = gate.look_up(other, product_named(other, "gpc1"), Visitor(HOME, ALICE))
    assert callable(decide)
    assert decide() == Verdict(None, private=True)


def test_what_needs_no_password_is_decided_at_once(database: Database, gate: Gate) -> None:
    product = product_named(database, "gpc1")
    assert gate.look_up(database, product, Visitor(HOME, ALICE)) == Verdict(None, private=False)
    save_user(database, "alice", stored("correct horse"), ["gpc1"])
    unknown = gate.look_up(database, product, Visitor(HOME))
    assert isinstance(unknown, Verdict)
    assert unknown.denied
    assert callable(gate.look_up(database, product, Visitor(HOME, ALICE)))
    gate.judge(database, product, Visitor(HOME, ALICE))
    assert gate.look_up(database, product, Visitor(HOME, ALICE)) == Verdict(None, private=True)


@pytest.mark.parametrize("stands", ["", "10.0.0.1/8", "everywhere"])
def test_a_network_that_cannot_be_read_lets_nobody_in(gate: Gate, stands: str) -> None:
    verdict = gate.decide(Rules("gpc1", networks=(stands,)), Visitor("10.0.0.1"))
    assert verdict.denied
    assert not verdict.denied.challenge


@pytest.mark.parametrize(
    ("address", "network", "inside"),
    [
        ("192.0.2.7", "192.0.2.0/24", True),
        ("192.0.3.7", "192.0.2.0/24", False),
        ("192.0.2.7", "192.0.2.7/32", True),
        ("192.0.2.7", "0.0.0.0/0", True),
        ("192.0.2.7", "::/0", False),
        ("::ffff:127.0.0.1", "127.0.0.0/8", True),
        ("::ffff:127.0.0.1", "::/0", False),
        ("2001:db8::1", "2001:db8::/32", True),
        ("2001:db9::1", "2001:db8::/32", False),
        ("2001:db8::1", "0.0.0.0/0", False),
        ("fe80::1%eth0", "fe80::/10", True),
        ("", "0.0.0.0/0", False),
        ("localhost", "0.0.0.0/0", False),
        ("192.0.2.7:80", "0.0.0.0/0", False),
        ("192.0.2.7, 10.0.0.1", "0.0.0.0/0", False),
        ("0300.0.2.7", "0.0.0.0/0", False),
    ],
)
def test_an_address_lies_in_a_network_or_not(address: str, network: str, inside: bool) -> None:
    assert lies_in(address, ("198.51.100.0/24", network)) is inside


# What a visitor says


@pytest.mark.parametrize(
    ("authorization", "user"),
    [
        (None, None),
        ("", None),
        ("Basic", None),
        ("Basic ", None),
        (basic("alice", "x"), "alice"),
        (basic("alice", "x").replace("Basic", "bASIC"), "alice"),
        (basic("alice", ""), "alice"),
        (basic("alice", "a:b"), "alice"),
        (basic("a.b_c-d@example.org", "x"), "a.b_c-d@example.org"),
        (basic("", "x"), None),
        (basic("a" * 64, "x" * 1024), "a" * 64),
        (basic("a" * 65, "x"), None),
        (basic("alice", "x" * 4000), None),
        (basic("al ice", "x"), None),
        (basic("alice\0", "x"), None),
        (basic("alice\n", "x"), None),
        (basic("älice", "x"), None),
        ("Basic " + base64.b64encode(b"alice").decode(), None),
        ("Basic " + base64.b64encode(b"alice:\xff").decode(), None),
        ("Basic YWxpY2U6eA", None),
        ("Basic YWxp*Y2U6eA==", None),
        ("Basic YWxpY2U6eA==, Basic YWxpY2U6eA==", None),
        ("Basic \xff\u0100", None),
        ("Digest username=alice", None),
        ("Bearer YWxpY2U6eA==", None),
    ],
)
def test_the_user_that_is_claimed(authorization: str | None, user: str | None) -> None:
    assert user_of(authorization) == user


def test_what_is_claimed_hides_its_password() -> None:
    assert "horse" not in repr(access.credentials_of(ALICE))


# Passwords


def test_what_is_stored_says_how_it_was_made_and_never_comes_twice() -> None:
    first, second = stored("correct horse"), stored("correct horse")
    assert first.startswith("scrypt$2$1$1$")
    assert first != second
    assert verify_password("correct horse", first)
    assert not verify_password("correct horsf", first)


def test_stored_parameters_are_the_ones_that_count() -> None:
    assert verify_password("correct horse", hash_password("correct horse", Cost(4, 2, 3)))
    assert hash_password("correct horse").startswith("scrypt$32768$8$3$")


def test_a_letter_typed_in_two_ways_is_one() -> None:
    assert verify_password("e\u0301ducation", stored("\xe9ducation"))


@pytest.mark.parametrize(
    "broken",
    [
        "",
        "correct horse",
        "scrypt$2$1$1$$",
        "scrypt$3$1$1$AAAA$AAAA",
        "scrypt$1$1$1$AAAA$AAAA",
        "scrypt$0$1$1$AAAA$AAAA",
        "scrypt$2$0$1$AAAA$AAAA",
        "scrypt$2$1$0$AAAA$AAAA",
        "scrypt$16777216$128$1$AAAA$AAAA",
        "scrypt$2$1$1$*$AAAA",
        "scrypt$2$1$1$AAAA$A",
        "md5$2$1$1$AAAA$AAAA",
    ],
)
def test_what_was_never_stored_is_nobodys_password(broken: str) -> None:
    assert not verify_password("correct horse", broken)


def test_memory_that_is_missing_is_this_machines_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "_MAX_MEMORY", 2**10)
    with pytest.raises(LocalError, match="cannot be hashed") as caught:
        hash_password("correct horse")
    assert "horse" not in str(caught.value)


@pytest.mark.parametrize(
    ("password", "fault"),
    [
        ("eight888", None),
        ("seven77", "at least 8"),
        ("", "at least 8"),
        ("x" * 1024, None),
        ("x" * 1025, "at most 1024"),
        ("ä" * 512, None),
        ("ä" * 513, "at most 1024"),
        ("with blanks : and colons", None),
        ("tab\tulated", "control"),
        ("nul\0 inside", "control"),
        ("half \udcff sign", "control"),
    ],
)
def test_what_can_be_a_password(password: str, fault: str | None) -> None:
    told = password_fault(password)
    assert (told is None) if fault is None else (told is not None and fault in told)


# What is remembered


@pytest.fixture
def alice(database: Database) -> Database:
    """gpc1 is alice's."""
    save_user(database, "alice", stored("correct horse"), ["gpc1"])
    return database


def test_a_right_password_is_verified_once(
    gate: Gate, alice: Database, verified: list[bytes]
) -> None:
    assert [judged(gate, alice, ALICE) for _ in range(3)] == ["private"] * 3
    assert len(verified) == 1


def test_a_wrong_password_is_verified_every_time(
    gate: Gate, alice: Database, verified: list[bytes]
) -> None:
    assert [judged(gate, alice, WRONG) for _ in range(3)] == ["401"] * 3
    assert len(verified) == 3


def change(database: Database) -> None:
    set_password(database, "alice", stored("battery staple"))


def delete(database: Database) -> None:
    save_user(database, "bob", stored("tr0ub4dor&3"), ["gpc1"])
    remove_user(database, "alice")


def take(database: Database) -> None:
    save_user(database, "bob", stored("tr0ub4dor&3"), ["gpc1"])
    revoke(database, "alice", ["gpc1"])


@pytest.mark.parametrize("act", [change, delete, take])
def test_what_changes_holds_at_once(
    gate: Gate, alice: Database, act: Callable[[Database], None]
) -> None:
    assert judged(gate, alice, ALICE) == "private"
    act(alice)
    assert judged(gate, alice, ALICE) == "401"
    if act is change:
        assert judged(gate, alice, basic("alice", "battery staple")) == "private"


def test_as_many_are_remembered_as_is_said_the_last_used_ones(
    verified: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access, "_REMEMBERED", 2)
    gate = Gate(cost=CHEAP)

    def ask(user: str) -> None:
        rules = Rules("gpc1", by_user=True, password=known[user], granted=True)
        assert gate.decide(rules, Visitor(HOME, basic(user, f"password {user}"))).denied is None

    known = {user: stored(f"password {user}") for user in "abc"}
    verified.clear()
    for user in "abacab":
        ask(user)
    # b made room for c, being the one not used for longest, and came again in place of c.
    assert [password.decode()[-1] for password in verified] == ["a", "b", "c", "b"]


def test_many_that_bring_the_same_password_at_once_have_it_verified_once(
    verified: list[bytes],
) -> None:
    gate = Gate(cost=Cost(2**12, 8, 1))
    rules = Rules("gpc1", by_user=True, password=stored("correct horse"), granted=True)
    verified.clear()
    together = threading.Barrier(16)

    def ask(_: int) -> Verdict:
        together.wait()
        return gate.decide(rules, Visitor(HOME, ALICE))

    with ThreadPoolExecutor(16) as threads:
        verdicts = set(threads.map(ask, range(16)))
    assert verdicts == {Verdict(None, private=True)}
    assert len(verified) == 1


def test_right_and_wrong_and_unknown_ones_at_once_each_get_their_answer(gate: Gate) -> None:
    known = {f"user{number}": stored(f"password {number}") for number in range(8)}

    def ask(number: int) -> bool:
        user = f"user{number % 10}"
        rules = Rules("gpc1", by_user=True, password=known.get(user), granted=user in known)
        said = f"password {number % 10}" if number % 3 else "something else"
        verdict = gate.decide(rules, Visitor(HOME, basic(user, said)))
        return (verdict.denied is None) == bool(user in known and number % 3)

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(ask, range(2000)))


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator["Held"]:
    """From now on nobody's scrypt ends, until it is let go."""
    held = Held()
    monkeypatch.setattr(access, "_derived", held)
    yield held
    held.go.set()


class Held:
    def __init__(self) -> None:
        self.go = threading.Event()
        self.begun = threading.Semaphore(0)
        self.most = 0
        self._now = 0
        self._lock = threading.Lock()

    def __call__(self, password: bytes, salt: bytes, cost: Cost) -> bytes:
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)
        self.begun.release()
        assert self.go.wait(PATIENCE)
        with self._lock:
            self._now -= 1
        return bytes(32)


def alices() -> Rules:
    return Rules("gpc1", by_user=True, password=stored("correct horse"), granted=True)


@pytest.mark.parametrize("at_once", [1, 3])
def test_only_so_many_passwords_are_verified_at_a_time(
    at_once: int, request: pytest.FixtureRequest
) -> None:
    gate, rules = Gate(cost=CHEAP, at_once=at_once), alices()
    held: Held = request.getfixturevalue("held")
    with ThreadPoolExecutor(8) as threads:
        guesses = [threads.submit(gate.decide, rules, Visitor(HOME, WRONG)) for _ in range(8)]
        for _ in range(at_once):
            assert held.begun.acquire(timeout=PATIENCE)
        assert not held.begun.acquire(timeout=0.05)
        held.go.set()
        denied = [guess.result().denied for guess in guesses]
    assert all(one and one.challenge for one in denied)
    assert held.most == at_once


def test_while_others_guess_who_is_remembered_goes_on_and_who_is_not_waits_for_so_long(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, rules = Gate(cost=CHEAP), alices()
    assert gate.decide(rules, Visitor(HOME, ALICE)).denied is None
    held: Held = request.getfixturevalue("held")
    monkeypatch.setattr(access, "_TURN", 0.01)
    with ThreadPoolExecutor(1) as threads:
        guess = threads.submit(gate.decide, rules, Visitor(HOME, WRONG))
        assert held.begun.acquire(timeout=PATIENCE)
        assert gate.decide(rules, Visitor(HOME, ALICE)).denied is None
        with pytest.raises(LocalError, match="too many passwords"):
            gate.decide(rules, Visitor(HOME, WRONG))
        held.go.set()
        assert guess.result().denied
    # Its turn was given back.
    assert gate.decide(rules, Visitor(HOME, WRONG)).denied


# In the database


def test_a_user_is_found_with_the_products_it_may_have(database: Database) -> None:
    save_user(database, "zoe", stored("correct horse"), [])
    assert save_user(database, "alice", stored("correct horse"), ["gpc2", "gpc1", "gpc2"]).new
    save_user(database, "bob", stored("tr0ub4dor&3"), ["gpc2"])
    assert users(database) == {"alice": ["gpc1", "gpc2"], "bob": ["gpc2"], "zoe": []}
    assert users(database, find_product(database, "gpc1")) == {"alice": ["gpc1", "gpc2"]}


def test_a_user_that_is_there_keeps_its_password_unless_it_gets_another(
    database: Database,
) -> None:
    save_user(database, "alice", "first", ["gpc1"])
    assert save_user(database, "alice", None, ["gpc1", "gpc2"]) == grants.Saved(False, ("gpc2",))
    product = product_named(database, "gpc2")
    assert rules_of(database, product, "alice").password == "first"
    assert save_user(database, "alice", "second", ["gpc2"]) == grants.Saved(False, ())
    assert rules_of(database, product, "alice").password == "second"


def test_an_unknown_product_leaves_no_user_behind(database: Database) -> None:
    with pytest.raises(ConfigError, match="no product 'gpc9'; known are: gpc1, gpc2"):
        save_user(database, "alice", "hash", ["gpc1", "gpc9"])
    assert users(database) == {}


@pytest.mark.parametrize("name", ["", "gpc9", "GPC1", "../gpc1", "gpc\udcff1", "gpc\0"])
def test_no_product_of_that_name(database: Database, name: str) -> None:
    with pytest.raises(ConfigError, match="no product"):
        product_named(database, name)


def test_known_names_are_told_up_to_a_number(database: Database) -> None:
    for number in range(30):
        save_user(database, f"user{number:02}", "hash", [])
    with pytest.raises(ConfigError, match=r"user00, .*, user19, and more$"):
        set_password(database, "nobody", "hash")


@pytest.mark.parametrize("left", ["nobody", "a network", "another user"])
@pytest.mark.parametrize("act", ["revoke", "remove_user"])
def test_the_last_user_goes_only_if_it_is_meant(alice: Database, act: str, left: str) -> None:
    if left == "a network":
        add_network(alice, "gpc1", "10.0.0.0/8")
    if left == "another user":
        save_user(alice, "bob", "hash", ["gpc1"])

    def go(may_open: bool) -> list[str]:
        if act == "revoke":
            return revoke(alice, "alice", ["gpc1"], may_open=may_open)
        had, opened = remove_user(alice, "alice", may_open=may_open)
        assert had == ["gpc1"]
        return opened

    if left == "another user":
        assert go(may_open=False) == []
    else:
        whom = "everybody in its networks" if left == "a network" else "everybody may"
        with pytest.raises(ConfigError, match=f"alice is the last .* {whom} .*--open"):
            go(may_open=False)
        assert users(alice) == {"alice": ["gpc1"]}
        assert go(may_open=True) == ["gpc1"]
    assert has_user(alice, "alice") is (act == "revoke")
    assert "gpc1" not in users(alice).get("alice", [])


def test_what_was_never_granted_cannot_be_taken_and_nothing_else_is(alice: Database) -> None:
    save_user(alice, "bob", "hash", ["gpc1", "gpc2"])
    with pytest.raises(ConfigError, match="alice has no grant for gpc2"):
        revoke(alice, "alice", ["gpc1", "gpc2"])
    assert users(alice)["alice"] == ["gpc1"]


@pytest.mark.parametrize("with_user", [False, True])
def test_the_last_network_goes_only_if_it_is_meant(database: Database, with_user: bool) -> None:
    if with_user:
        save_user(database, "alice", "hash", ["gpc1"])
    assert add_network(database, "gpc1", "10.0.0.0/8")
    assert not add_network(database, "gpc1", "10.0.0.0/8")
    assert add_network(database, "gpc1", "2001:db8::/32")
    assert not remove_network(database, "gpc1", "10.0.0.0/8")
    whom = "its users, from anywhere," if with_user else "everybody"
    with pytest.raises(ConfigError, match=f"without it {whom} may have it: give --open"):
        remove_network(database, "gpc1", "2001:db8::/32")
    assert networks(database) == [("gpc1", "2001:db8::/32")]
    with pytest.raises(ConfigError, match=r"no network 10\.0\.0\.0/8; known are: 2001:db8::/32"):
        remove_network(database, "gpc1", "10.0.0.0/8")
    assert remove_network(database, "gpc1", "2001:db8::/32", may_open=True)
    assert networks(database) == []


def test_networks_are_listed_by_product(database: Database) -> None:
    add_network(database, "gpc2", "10.0.0.0/8")
    add_network(database, "gpc1", "192.0.2.0/24")
    assert networks(database) == [("gpc1", "192.0.2.0/24"), ("gpc2", "10.0.0.0/8")]
    assert networks(database, product_named(database, "gpc2")) == [("gpc2", "10.0.0.0/8")]


def test_a_product_goes_with_its_grants_and_networks(alice: Database) -> None:
    add_network(alice, "gpc1", "10.0.0.0/8")
    remove_product(alice, "gpc1")
    assert users(alice) == {"alice": []}
    assert networks(alice) == []


def test_two_that_take_away_the_last_two_at_once_do_not_open_it(
    place: Place, database: Database
) -> None:
    together = threading.Barrier(2)

    def drop(user: str) -> bool:
        connection = connect(place)
        try:
            together.wait()
            remove_user(connection, user)
        except ConfigError:
            return False
        finally:
            connection.close()
        return True

    for _ in range(20):
        save_user(database, "alice", "hash", ["gpc1"])
        save_user(database, "bob", "hash", ["gpc1"])
        with ThreadPoolExecutor(2) as threads:
            done = list(threads.map(drop, ["alice", "bob"]))
        assert sorted(done) == [False, True]
        assert len(users(database)) == 1
