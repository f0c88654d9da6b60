"""Whether a visitor may have a product, and passwords: how they are stored and verified.

A network is asked for before a user, so that who is outside is never asked for a password. HTTP
Basic (RFC 7617) sends a password readable by everybody on the way: it belongs inside TLS.
"""

import base64
import hashlib
import hmac
import re
import secrets
import threading
import unicodedata
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from mirror.errors import LocalError
from server.catalogue import Product
from server.database import Database, Unavailable
from server.people.grants import USER_NAME, Rules, rules_of
from server.views.answers import Denied, Visitor

MIN_PASSWORD = 8
"""Characters that a password has at least."""

MAX_PASSWORD = 1024
"""Bytes in UTF-8 that a password has at most."""

_MAX_FIELD = 2048
"""Characters of an Authorization field: more than the longest name and password come to."""

_REMEMBERED = 1024
"""Credentials that a process remembers as right."""

_TURN = 10.0
"""Seconds that a password waits for its turn to be verified."""

_MAX_MEMORY = 256 * 2**20
"""Bytes that verifying one password may take, whatever its stored parameters say."""

_STORED = re.compile(r"scrypt\$([0-9]{1,8})\$([0-9]{1,3})\$([0-9]{1,2})\$([^$]+)\$([^$]+)")


@dataclass(frozen=True, slots=True)
class Cost:
    """Parameters of scrypt (RFC 7914): 128·n·r bytes of memory, time in proportion to n·r·p."""

    n: int = 2**15
    r: int = 8
    p: int = 3


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a visitor says of itself; the password is what scrypt is given."""

    user: str
    password: bytes

    def __repr__(self) -> str:
        return f"Credentials({self.user!r})"


@dataclass(frozen=True, slots=True)
class Verdict:
    """`denied` is None for who may have it. `private`: only some may."""

    denied: Denied | None
    private: bool


_EVERYBODY = Verdict(None, private=False)
_ADMITTED = Verdict(None, private=True)


def _challenged(rules: Rules) -> Verdict:
    reason = f"{rules.product} is for its users: a name and the right password are needed"
    return Verdict(Denied(reason, challenge=True), private=True)


# Passwords


def password_fault(password: str) -> str | None:
    """Say why `password` cannot be one, or None if it can."""
    if _has_control(password):
        return "a password without control characters expected"
    if len(password) < MIN_PASSWORD:
        return f"a password of at least {MIN_PASSWORD} characters expected"
    if len(_encoded(password)) > MAX_PASSWORD:
        return f"a password of at most {MAX_PASSWORD} bytes expected"
    return None


def hash_password(password: str, cost: Cost | None = None) -> str:
    """What is stored of a password: `scrypt$n$r$p$salt$hash`, salt and hash in base64.

    `cost`: by default what is thought enough today; what is stored keeps the parameters it has.
    """
    cost = cost or Cost()
    salt = secrets.token_bytes(16)
    return _stored(cost, salt, _derived(_encoded(password), salt, cost))


def verify_password(password: str, stored: str) -> bool:
    """Say whether `stored` is of this password; never true for what `hash_password` never made."""
    return _verified(_encoded(password), stored)


def _has_control(password: str) -> bool:
    return any(unicodedata.category(sign) in ("Cc", "Cs") for sign in password)


def _encoded(password: str) -> bytes:
    # RFC 7617 section 2.1: systems differ in how they type one and the same letter.
    return unicodedata.normalize("NFC", password).encode("utf-8")


def _stored(cost: Cost, salt: bytes, derived: bytes) -> str:
    texts = (base64.b64encode(value).decode("ascii") for value in (salt, derived))
    return "$".join(("scrypt", str(cost.n), str(cost.r), str(cost.p), *texts))


def _derived(password: bytes, salt: bytes, cost: Cost) -> bytes:
    try:
        return hashlib.scrypt(
            password, salt=salt, n=cost.n, r=cost.r, p=cost.p, dklen=32, maxmem=2 * _MAX_MEMORY
        )
    except (ValueError, MemoryError):
        raise LocalError(
            f"a password cannot be hashed: {128 * cost.n * cost.r} bytes of memory are missing"
        ) from None


def _verified(password: bytes, stored: str) -> bool:
    matched = _STORED.fullmatch(stored)
    if not matched:
        return False
    cost = Cost(*map(int, matched.groups()[:3]))
    power = cost.n > 1 and not cost.n & (cost.n - 1)
    if not (power and cost.r and cost.p and 128 * cost.n * cost.r <= _MAX_MEMORY):
        return False
    try:
        salt, wanted = (base64.b64decode(text, validate=True) for text in matched.groups()[3:])
    except ValueError:
        return False
    return hmac.compare_digest(_derived(password, salt, cost), wanted)


# What a visitor says


def user_of(authorization: str | None) -> str | None:
    """The user that an Authorization field claims, None if it names none that there can be."""
    claimed = credentials_of(authorization)
    return claimed.user if claimed else None


def credentials_of(authorization: str | None) -> Credentials | None:
    """User and password of HTTP Basic (RFC 7617), in UTF-8; None for anything else."""
    if authorization is None or len(authorization) > _MAX_FIELD:
        return None
    scheme, _, given = authorization.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        text = base64.b64decode(given.strip(" "), validate=True).decode("utf-8")
    except ValueError:
        return None
    user, colon, password = text.partition(":")
    # scrypt takes a password with NULs behind it for the one without: no password has such signs.
    if not colon or not USER_NAME.fullmatch(user) or _has_control(password):
        return None
    return Credentials(user, _encoded(password))


# The decision


class Gate:
    """Decides, and remembers which credentials were right. Safe to use from many threads.

    Verifying a password takes a good part of a second, and a mirror sends it with thousands of
    requests: a right one is remembered, by a digest that nobody outside this process can make and
    that what is stored is part of, so that it is forgotten when that changes. At most `at_once`
    passwords are verified at a time, so that guessing cannot take the whole machine.
    """

    def __init__(self, *, cost: Cost | None = None, at_once: int = 1) -> None:
        # Of nobody's password: what an unknown user's takes the same time with.
        self._nobody = _stored(cost or Cost(), secrets.token_bytes(16), secrets.token_bytes(32))
        self._key = secrets.token_bytes(32)
        self._right: OrderedDict[bytes, None] = OrderedDict()
        self._lock = threading.Lock()
        self._turns = threading.BoundedSemaphore(at_once)

    def judge(self, database: Database, product: Product, visitor: Visitor) -> Verdict:
        """Whether the visitor may have the product.

        Raises Unavailable where the database fails, or a password waits too long for its turn.
        """
        rules = rules_of(database, product, user_of(visitor.authorization))
        return self.decide(rules, visitor)

    def look_up(
        self, database: Database, product: Product, visitor: Visitor
    ) -> "Verdict | Callable[[], Verdict]":
        """`judge`, without keeping the database while a password is verified.

        What takes its time comes back as something to be called when the database is given back.
        """
        rules = rules_of(database, product, user_of(visitor.authorization))
        return self._at_once(rules, visitor) or (lambda: self.decide(rules, visitor))

    def decide(self, rules: Rules, visitor: Visitor) -> Verdict:
        """Whether `rules`, looked up for the visitor's `user_of`, let it have the product."""
        verdict = self._at_once(rules, visitor)
        if verdict is None:
            admitted = self._admits(rules, visitor.authorization)
            verdict = _ADMITTED if admitted else _challenged(rules)
        return verdict

    def _at_once(self, rules: Rules, visitor: Visitor) -> Verdict | None:
        """The verdict, unless a password has to be verified for it."""
        if not rules.networks and not rules.by_user:
            return _EVERYBODY
        if rules.networks and not lies_in(visitor.address, rules.networks):
            reason = f"{rules.product} is not for the network that this request comes from"
            return Verdict(Denied(reason, challenge=False), private=True)
        if not rules.by_user:
            return _ADMITTED
        claimed = credentials_of(visitor.authorization)
        if claimed is None:
            return _challenged(rules)
        if rules.granted and rules.password is not None:
            digest = self._digest(claimed.password, rules.password)
            return _ADMITTED if self._remembers(digest) else None
        return None

    def _admits(self, rules: Rules, authorization: str | None) -> bool:
        claimed = credentials_of(authorization)
        if claimed is None:
            return False
        # Verified even if nothing can come of it: how long a no takes tells nothing.
        right = self._right_password(claimed.password, rules.password or self._nobody)
        return right and rules.granted and rules.password is not None

    def _right_password(self, password: bytes, stored: str) -> bool:
        digest = self._digest(password, stored)
        if self._remembers(digest):
            return True
        if not self._turns.acquire(timeout=_TURN):
            raise Unavailable("too many passwords wait to be verified; try again in a minute")
        try:
            # Whoever went before may have brought the same one.
            right = self._remembers(digest) or _verified(password, stored)
        finally:
            self._turns.release()
        if right:
            self._remember(digest)
        return right

    def _digest(self, password: bytes, stored: str) -> bytes:
        return hmac.digest(self._key, stored.encode() + b"\0" + password, "sha256")

    def _remembers(self, digest: bytes) -> bool:
        with self._lock:
            if digest not in self._right:
                return False
            self._right.move_to_end(digest)
            return True

    def _remember(self, digest: bytes) -> None:
        with self._lock:
            self._right[digest] = None
            self._right.move_to_end(digest)
            if len(self._right) > _REMEMBERED:
                self._right.popitem(last=False)


def lies_in(address: str, networks: tuple[str, ...]) -> bool:
    """Say whether an address lies in one of the networks; what is no address lies in none.

    An IPv4 address inside IPv6 (`::ffff:a.b.c.d`, how a socket for both shows it) is an IPv4 one.
    """
    try:
        here = ip_address(address)
    except ValueError:
        return False
    if isinstance(here, IPv6Address):
        here = here.ipv4_mapped or here
    return any(here in network for network in map(_network, networks) if network)


@lru_cache(maxsize=4096)
def _network(text: str) -> IPv4Network | IPv6Network | None:
    try:
        return ip_network(text)
    except ValueError:
        return None
