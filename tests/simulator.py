"""A Data Store in memory that answers as PROTOCOL sections 1 and 2 say, until told to lie.

    with Simulator() as store:
        gpc1 = store.product("gpc1", columns=("target_id", "stage"))
        gpc1.add("o4741g0239o.chip.11955.2.1", {"a.fits": b"SIMPLE"}, columns=("1", "chip"))
        store.fault("/gpc1/*/a.fits", reset(3))
        ...  # run the client against store.url

Lists are written here and not by `mirror.listing`, so that a mistake there meets another opinion.
"""

import hashlib
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from fnmatch import fnmatchcase
from functools import lru_cache
from itertools import groupby, zip_longest
from typing import Self
from urllib.parse import quote

from holdings import Columns, Fileset, Product, SimFile
from relay import Relay
from wire import Answer, Connection, Request, Server, plain, represent

__all__ = ["Action", "Fault", "Fileset", "Product", "Relay", "Request", "SimFile", "Simulator"]

Action = Callable[[Connection, Request, Answer], None]
"""A scripted fault: gets the answer that would have been right and writes what it likes."""

_LABELS = {
    "tgz": ("component",), "text": ("component",), "dbinfo": ("component",), "chip": ("chipname",),
}  # fmt: skip

Table = tuple[Sequence[str], Sequence[Columns]]


@dataclass(slots=True)
class Fault:
    """A scripted fault; `hits` counts the requests it spoiled."""

    glob: str
    action: Action
    times: int | None
    after: int
    hits: int = 0

    def claims(self, request: Request) -> bool:
        """Whether this request is one to spoil; counts down `after` and counts up `hits`."""
        if not _matches(self.glob, request) or self.hits == self.times:
            return False
        self.after -= 1
        if self.after >= 0:
            return False
        self.hits += 1
        return True


def _matches(glob: str, request: Request) -> bool:
    if fnmatchcase(request.path, glob):
        return True
    return bool(request.query) and fnmatchcase(f"{request.path}?{request.query}", glob)


class Simulator:
    """The store: its content, its switches, its record of requests, and its server.

    Paths are below the store, decoded, and begin with `/`: `/index.txt`, `/gpc1/index.txt`. A path
    outside the store keeps its whole length. Globs are those of fnmatch, `*` passing slashes; one
    with a query in it (`/gpc1/index.txt?*`) matches requests with a query only.

    Switches: `ignore_query` (a static web server), `whole_if_unknown` (older servers: the whole
    list for a `?NAME` they do not hold), `crlf`, `bom`, `arrange` (the order of the columns, from
    their names), `labels` (the further columns of each file type).
    """

    def __init__(self, base: str = "/ds", tls: ssl.SSLContext | None = None) -> None:
        self.ignore_query = self.whole_if_unknown = self.crlf = self.bom = False
        self.arrange: Callable[[Sequence[str]], Iterable[str]] | None = None
        self.labels: dict[str, tuple[str, ...]] = dict(_LABELS)
        self.clock = datetime(2009, 4, 15, 1, 22, 11, tzinfo=UTC)
        self.products: dict[str, Product] = {}
        self.lock = threading.RLock()
        self.base = base
        self._overrides: dict[str, bytes] = {}
        self._faults: list[Fault] = []
        self._requests: list[Request] = []
        self.server = Server(self._respond, tls)
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.server.port}{base}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            self.server.close()
        except ExceptionGroup:
            if kind is None:
                raise

    def tick(self) -> str:
        """The next second of the store's clock, as lists print it."""
        with self.lock:
            self.clock += timedelta(seconds=1)
            return self.clock.strftime("%Y-%m-%dT%H:%M:%SZ")

    def product(
        self,
        name: str,
        type: str = "ipp-dist",
        columns: Sequence[str] = (),
        description: str = "a product",
    ) -> Product:
        """Make an empty product; `columns` are the labels of its own columns."""
        made = Product(name, type, columns, description, self.tick, self.lock)
        with self.lock:
            if name in self.products:
                raise ValueError(f"the store already holds product {name}")
            self.products[name] = made
        return made

    @property
    def requests(self) -> list[Request]:
        """The requests so far, in the order in which they came."""
        return self._requests.copy()

    def count(self, glob: str = "*") -> int:
        """How many requests so far match `glob`."""
        return sum(_matches(glob, request) for request in self.requests)

    def clear(self) -> None:
        """Forget the requests so far."""
        self._requests.clear()

    def fault(self, glob: str, action: Action, times: int | None = 1, after: int = 0) -> Fault:
        """Spoil `times` requests (None: all) that match, after the first `after` went well.

        Of several faults that match, the one set first and not yet used up gets the request.
        """
        made = Fault(glob, action, times, after)
        with self.lock:
            self._faults.append(made)
        return made

    def mend(self) -> None:
        """Take back all faults and overrides."""
        with self.lock:
            self._faults.clear()
            self._overrides.clear()

    def override(self, path: str, data: bytes | None) -> None:
        """Answer `path` with `data`, whatever its query; None takes the override back."""
        with self.lock:
            self._overrides.pop(path, None)
            if data is not None:
                self._overrides[path] = data

    def read(self, path: str, query: str = "") -> bytes:
        """The bytes with which a path is answered now. Raises LookupError where that is 404."""
        with self.lock:
            return self._find(path, query)[0]

    def _respond(self, connection: Connection, request: Request) -> None:
        if request.path.startswith(self.base + "/"):
            request = replace(request, path=request.path[len(self.base) :])
        with self.lock:
            self._requests.append(request)
            answer = self._answer(request)
            fault = next((fault for fault in self._faults if fault.claims(request)), None)
        if fault:
            fault.action(connection, request, answer)
        else:
            connection.send(request, answer)

    def _answer(self, request: Request) -> Answer:
        if request.method not in ("GET", "HEAD"):
            return plain(405, f"{request.method} is not for mirrors", ("Allow", "GET, HEAD"))
        try:
            data, kind, etag, registered = self._find(request.path, request.query)
        except LookupError as error:
            return plain(404, str(error.args[0]))
        answer = represent(request, data, kind, etag, _http_date(registered))
        return replace(answer, body=b"") if request.method == "HEAD" else answer

    def _find(self, path: str, query: str) -> tuple[bytes, str, str, str]:
        """What a path holds: bytes, content type, ETag, time. Raises LookupError."""
        if path in self._overrides:
            return _listed(self._overrides[path])
        match path.split("/")[1:]:
            case ["index.txt"]:
                return _listed(self._print([self._root()]))
            case [""]:
                shown = [each.name for each in self.products.values() if not each.hidden]
                return _page(path, [f"{name}/" for name in shown])
            case [product, "index.txt"]:
                return _listed(self._print([self._newer(self._product(product), query)]))
            case [product, ""]:
                shown = [each.name for each in self._product(product).listed() if not each.hidden]
                return _page(path, [f"{name}/" for name in shown])
            case [product, fileset, name]:
                return self._below(self._fileset(product, fileset), path, name)
        raise LookupError(f"nothing is at {path}")

    def _below(self, fileset: Fileset, path: str, name: str) -> tuple[bytes, str, str, str]:
        if name == "index.txt":
            return _listed(self._print(self._files(fileset)))
        if not name:
            return _page(path, fileset.files)
        if name not in fileset.files:
            raise LookupError(f"fileset {fileset.name} holds no file {name}")
        file = fileset.files[name]
        return file.data, "application/octet-stream", file.etag, fileset.registered

    def _product(self, name: str) -> Product:
        if name not in self.products:
            raise LookupError(f"there is no product {name}")
        return self.products[name]

    def _fileset(self, product: str, name: str) -> Fileset:
        filesets = self._product(product).filesets
        if name not in filesets:
            raise LookupError(f"product {product} holds no fileset {name}")
        return filesets[name]

    def _root(self) -> Table:
        rows = []
        for product in self.products.values():
            shown = [each for each in product.listed() if not each.hidden]
            last = (shown[-1].name, shown[-1].registered) if shown else ("none", product.created)
            if not product.hidden:
                rows.append((product.name, *last, product.type, product.description))
        return ("productID", "Most recent", "Time registered", "type", "Description"), rows

    def _newer(self, product: Product, query: str) -> Table:
        """The list of a product, after the fileset that `query` names if it names one."""
        filesets = product.listed()
        names = [each.name for each in filesets]
        if query and not self.ignore_query:
            if query in names:
                filesets = filesets[names.index(query) + 1 :]
            elif not self.whole_if_unknown:
                raise LookupError(f"product {product.name} holds no fileset {query}")
        rows = [(f.name, f.registered, f.type, *f.columns) for f in filesets if not f.hidden]
        return ("filesetID", "time registered", "type", *product.columns), rows

    def _files(self, fileset: Fileset) -> Iterator[Table]:
        """The list of a fileset: a new header wherever the labels change, at least one."""
        fixed = ("fileID", "bytes", "md5sum", "type")
        if not fileset.files:
            yield fixed, ()
        for labels, files in groupby(
            fileset.files.values(), key=lambda file: self.labels.get(file.type, ())
        ):
            rows = [(f.name, str(f.size), f.md5, f.type, *f.columns) for f in files]
            yield (*fixed, *labels), rows

    def _print(self, tables: Iterable[Table]) -> bytes:
        lines = []
        for names, rows in tables:
            order = list(range(len(names)))
            if self.arrange:
                order = [names.index(name) for name in self.arrange(names)]
            lines += _lines(names, rows, order)
        text = "".join(line + ("\r\n" if self.crlf else "\n") for line in lines)
        return text.encode("utf-8-sig" if self.bom else "utf-8", "surrogateescape")


def _lines(names: Sequence[str], rows: Sequence[Columns], order: Sequence[int]) -> list[str]:
    """The header and the rows, columns in `order`, each padded to its widest cell."""
    table = []
    for row in (names, *rows):
        cells = ["null" if cell is None else cell for cell in row]
        if list(order) != sorted(order):
            cells += ["null"] * (len(names) - len(cells))
        table.append([cells[at] for at in order if at < len(cells)] + cells[len(names) :])
    table[0][0] = f"# {table[0][0]}"
    widths = [max(map(len, column)) for column in zip_longest(*table, fillvalue="")]
    return ["|".join(map(str.ljust, cells, widths)) + "|" for cells in table]


def _listed(data: bytes) -> tuple[bytes, str, str, str]:
    etag = f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"'
    return data, "text/plain", etag, ""


def _page(path: str, names: Iterable[str]) -> tuple[bytes, str, str, str]:
    """A directory as HTML, with links."""
    links = "".join(f'<li><a href="{quote(name)}">{name}</a></li>\n' for name in names)
    text = f"<!DOCTYPE html>\n<title>{path}</title>\n<ul>\n{links}</ul>\n"
    return text.encode(), "text/html; charset=utf-8", '"page"', ""


@lru_cache(maxsize=1024)
def _http_date(registered: str) -> str:
    """A time of a list as HTTP prints it; a fixed one where the list lies about its time."""
    try:
        when = datetime.strptime(registered, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except ValueError:
        when = datetime(2009, 4, 15, 1, 22, 12, tzinfo=UTC)
    return format_datetime(when, usegmt=True)
