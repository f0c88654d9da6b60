"""From a product's list to the queue: what is new goes into state.db with the last fileset.

One transaction a list: either all of it is queued and the last fileset moved, or nothing was
(DESIGN, "The mirror tree"). The list is a stream and may have millions of rows; what is known of
them is asked of the state in pages, and which of the known ones it showed is kept as one bit each.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, islice

from mirror.body import Body
from mirror.datastore import DataStore
from mirror.errors import IntegrityError, ListError, RefusedError
from mirror.listing import FilesetRow, Malformed, read_filesets
from mirror.plan import Known, Selection, Verdict, judge
from mirror.records import QUEUED, SKIPPED, NewFileset, Product
from mirror.state import State

PAGE = 500
MAX_TOLD = 20
"""Problems of one list that are told one by one; a broken list may have a million."""


@dataclass(slots=True)
class Listing:
    """What reading one product's list brought."""

    product: str
    listed: int = 0
    new: int = 0
    problems: list[str] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    hints: list[str] = field(default_factory=list)
    untold: int = 0

    def problem(self, text: str) -> None:
        """Something the operator must see; the run ends with status 1."""
        if len(self.problems) < MAX_TOLD:
            self.problems.append(text)
        else:
            self.untold += 1


class _CutListError(Exception):
    """The list ended within a line: it is read once more before that line is malformed."""


class _NotWholeError(Exception):
    """An answer to ?LAST that is neither what is new nor surely the whole list."""


def queue_product(store: DataStore, state: State, name: str, selection: Selection) -> Listing:
    """Read a product's list and queue what is new and wanted of it.

    Raises TransportError, RefusedError or ListError where the product could not be listed, and
    IntegrityError where `select` or `since` do not fit it; the state is then as it was.
    """
    product = state.product(name)
    if product.selection not in (None, selection.key):
        with state.transaction():
            _judge_again(state, product, selection)
    query = product.last_fileset or ""
    if product.relist or state.has_held(product.id):
        query = ""
    if query:
        try:
            return _read(store, state, product, selection, query)
        except _NotWholeError:
            pass
        except RefusedError as error:
            # The last fileset may have been withdrawn (section 1); or it is the product.
            if error.status != 404:
                raise
    return _read(store, state, product, selection, "")


def _read(
    store: DataStore, state: State, product: Product, selection: Selection, query: str
) -> Listing:
    """One reading of the list; a second one if the first was cut within a line."""

    def consume(body: Body, final: bool) -> Listing:
        kind = body.headers.get("content-type", "")
        if "html" in kind.lower():
            raise ListError(f"a list expected, not an answer of type {kind!r}")
        intake = _Intake(state, product, selection, query, final)
        modified = body.headers.get("last-modified")
        chunks = body.chunks()
        first = next(chunks, b"")
        if query and not first:
            raise _NotWholeError  # even "nothing newer" has a header
        with state.transaction():
            intake.take(read_filesets(chain([first], chunks)))
            intake.settle(modified)
        return intake.listing

    for final in (False, True):
        try:
            return store.read_list([product.name], partial(consume, final=final), query=query)
        except _CutListError:
            continue
    raise AssertionError("the second reading takes a cut line for a malformed one")


class _Intake:
    """One list on its way into the state, within one transaction."""

    def __init__(
        self, state: State, product: Product, selection: Selection, query: str, final: bool
    ) -> None:
        self.listing = Listing(product.name)
        self._state = state
        self._product = product
        self._selection = selection
        self._query = query
        self._final = final
        self._next_id = state.next_id()
        self._seen = bytearray(self._next_id // 8 + 1)
        self._headers: dict[str, int] = {}
        self._added: list[NewFileset] = []
        self._cursor: str | None = None
        self._blocked = False
        self._malformed = False
        self._newest = product.newest or ""
        self._previous = ""
        self._disorder = self._emptied = False
        self._last_id = self._id_of(product.last_fileset)
        self._older_seen = self._last_seen = False
        since = selection.since_name
        self._passed = since is None or self._id_of(since) is not None

    def _id_of(self, name: str | None) -> int | None:
        known = self._state.known(self._product.id, [name]) if name else {}
        return known[name].id if name and name in known else None

    def take(self, rows: Iterator[FilesetRow | Malformed]) -> None:
        """Take in the rows, page by page."""
        while page := list(islice(rows, PAGE)):
            names = [row.name for row in page if isinstance(row, FilesetRow)]
            known = self._state.known(self._product.id, names)
            for row in page:
                if isinstance(row, Malformed):
                    self._refuse(row)
                else:
                    self._row(row, known)
            self._flush()

    def _flush(self) -> None:
        added, self._added = self._added, []
        self._state.add(self._product.id, added)

    def _refuse(self, row: Malformed) -> None:
        if row.cut and not self._final:
            raise _CutListError
        self._blocked = self._malformed = True
        self.listing.problem(f"line {row.line} of its list is malformed: {row.reason}")

    def _row(self, row: FilesetRow, known: dict[str, Known]) -> None:
        if self.listing.listed == 0:
            self._check_columns(row)
        self.listing.listed += 1
        one = known.get(row.name)
        verdict = judge(row, one)
        if one is None:
            known[row.name] = self._add(row)
        elif self._mark(one.id):
            self._twice(row, one, verdict)
        else:
            self._older_seen |= self._last_id is not None and one.id < self._last_id
            # With a later time it is there because it came again, not because all is.
            self._last_seen |= one.id == self._last_id and verdict is not Verdict.AGAIN
            if verdict is Verdict.SAME and (one.held or one.gone):
                self._state.release(one.id)
            elif verdict is Verdict.FOUND:
                self._state.adopt(one.id, self._new(row))
                self.listing.new -= 1
            elif verdict is Verdict.AGAIN:
                known[row.name] = self._replace(row, one)
            elif verdict is Verdict.CONFLICT:
                self._hold(row, one, "state.db has it")
        if row.name == self._selection.since_name:
            self._passed = True
        if not self._blocked:
            self._cursor = row.name
        self._disorder |= row.registered < self._previous
        self._previous = row.registered
        self._newest = max(self._newest, row.registered)

    def _check_columns(self, row: FilesetRow) -> None:
        if missing := self._selection.missing_columns(row.header):
            raise _no_column(missing, row)

    def _new(self, row: FilesetRow) -> NewFileset:
        header = row.header.text
        if header not in self._headers:
            self._headers[header] = self._state.header_id(header)
        wanted = self._passed and self._selection.wants(row)
        self.listing.new += wanted
        number, self._next_id = self._next_id, self._next_id + 1
        self._mark(number)
        return NewFileset(
            number, row.name, row.registered, row.type, self._headers[header], row.text,
            QUEUED if wanted else SKIPPED,
        )  # fmt: skip

    def _add(self, row: FilesetRow) -> Known:
        new = self._new(row)
        self._added.append(new)
        return Known(new.id, new.registered, new.type, new.state, False, False)

    def _replace(self, row: FilesetRow, one: Known) -> Known:
        new = self._new(row)
        self._state.replace(one.id, new)
        self.listing.notices.append(
            f"{row.name} was registered again ({row.registered}, before {one.registered}) and is "
            "mirrored anew"
        )
        return Known(new.id, new.registered, new.type, new.state, False, False)

    def _twice(self, row: FilesetRow, one: Known, verdict: Verdict) -> None:
        if verdict is Verdict.SAME:
            self.listing.notices.append(f"{row.name} is listed twice (again in line {row.line})")
        else:
            self._hold(row, one, "an earlier line of the list has it")

    def _hold(self, row: FilesetRow, one: Known, where: str) -> None:
        self._blocked = True
        fault = (
            f"listed with time {row.registered} and type {row.type} (line {row.line}), while "
            f"{where} with {one.registered} and {one.type}; it is left as it is until the list "
            "is mended"
        )
        self._flush()  # the one to be held may stand in this very page
        self._state.hold(one.id, fault)
        self.listing.problem(f"{row.name} is {fault}")

    def _mark(self, number: int) -> bool:
        """Note that the list showed this fileset; tell whether it had before."""
        at, bit = number >> 3, 1 << (number & 7)
        if at >= len(self._seen):
            self._seen.extend(bytes(max(4096, at + 1 - len(self._seen))))
        before = bool(self._seen[at] & bit)
        self._seen[at] |= bit
        return before

    def settle(self, modified: str | None) -> None:
        """After the last row: what is missing, and the last fileset.

        `modified`: the answer's Last-Modified. Where it is another than before although nothing
        is listed, the list may be a file that was emptied, on a server that ignores the query.
        """
        product, listing = self._product, self.listing
        if not self._passed:
            raise IntegrityError(
                f"it does not hold the fileset {self._selection.since_name} that `since` names; "
                "the product is not mirrored"
            )
        if self._query and self._older_seen and not self._last_seen:
            raise _NotWholeError
        whole = not self._query or self._last_seen
        suspicious = product.ignores_query or modified not in (None, product.modified)
        if self._query and not listing.listed and suspicious:
            raise _NotWholeError
        if whole and not self._malformed:
            missing = self._lost()
            # Behind its first place a server may list a fileset again that came again.
            if missing and self._query:
                raise _NotWholeError
            self._report_gone(missing)
        if self._disorder:
            listing.hints.append("its list is not in the order of registration")
        ignores = product.ignores_query
        if self._query and listing.listed:
            ignores = self._last_seen
        self._state.set_product(
            product.id,
            last_fileset=self._cursor or product.last_fileset,
            modified=modified,
            selection=self._selection.key,
            relist=int(self._emptied),
            ignores_query=int(ignores),
            newest=self._newest or None,
        )

    def _lost(self) -> list[int]:
        """What is known, was in the list before, and was not shown this time."""
        missing = [one for one in self._state.numbers(self._product.id) if not self._mark(one)]
        return [one for one in missing if not self._state.is_gone(one)]

    def _report_gone(self, lost: list[int]) -> None:
        if not lost:
            return
        names = [self._state.by_id(one).name for one in lost[:3]]
        told = ", ".join(names) + (f" and {len(lost) - 3} more" if len(lost) > 3 else "")
        if not self.listing.listed:
            self._emptied = True
            self.listing.problem(
                f"its list is empty, and had {len(lost)} filesets that are known here ({told}); "
                "nothing is changed here"
            )
            return
        self._state.mark_gone(lost)
        self.listing.problem(
            f"its list has lost {len(lost)} filesets that are known here ({told}); what is "
            "mirrored of them stays, what was queued is not fetched"
        )


def _judge_again(state: State, product: Product, selection: Selection) -> None:
    """Apply a changed `select` or `since` to what is known of a product and not yet mirrored."""
    since: int | None = None
    if selection.since_name:
        known = state.known(product.id, [selection.since_name])
        since = known[selection.since_name].id if known else None
        if since is None:
            return
    changes = []
    checked = False
    for fileset in state.of_product(product.id, QUEUED, SKIPPED):
        row = _parsed(fileset.header, fileset.row)
        if not checked and (missing := selection.missing_columns(row.header)):
            raise _no_column(missing, row)
        checked = True
        if fileset.info_dir:
            continue  # it is in the tree, and waits to be mirrored anew or repaired
        wanted = selection.wants(row) and (since is None or fileset.id > since)
        new = QUEUED if wanted else SKIPPED
        if new != fileset.state:
            changes.append((new, fileset.id))
    state.set_states(changes)
    state.set_product(product.id, selection=selection.key)


def _no_column(missing: list[str], row: FilesetRow) -> IntegrityError:
    return IntegrityError(
        f"its list has no column {', '.join(missing)}, which `select` asks for; "
        f"it has {', '.join(row.header.names)}; the product is not mirrored"
    )


def _parsed(header: str, row: str) -> FilesetRow:
    """A row as the state keeps it, read again."""
    lines: Iterable[bytes] = [f"{header}\n{row}\n".encode()]
    parsed = next(read_filesets(lines))
    assert isinstance(parsed, FilesetRow)
    return parsed
