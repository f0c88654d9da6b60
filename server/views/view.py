"""How a page shows a list: sorted by which column, and which thousand of its rows.

Both stand in the query of a page's URL, `?sort=-time&page=2`. A value that means nothing is as
none at all: a page is for people, and shows something.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote, unquote_plus

from mirror.listing import NULL, FileRow, FilesetRow, Header, Malformed, Row

PAGE = 1000
"""Rows on a page."""

SORTED = 20_000
"""Rows up to which a list without a database behind it can be sorted."""

KEYS = (
    ("name", "recent", "time", "type", "description"),
    ("name", "time", "type"),
    ("name", "size", "md5", "type"),
)
"""The keys of the fixed columns of the three lists; a list's own columns have their labels."""

_ATTRIBUTES = {"recent": "most_recent", "time": "registered"} | {
    key: key for key in ("name", "type", "description", "size", "md5")
}
"""What the fixed columns are called in the records of `mirror.listing`."""

_TEXT_LAST = 1000
"""More digits than any value has: whole numbers come before other texts."""


@dataclass(frozen=True, slots=True)
class View:
    """What is wanted of a list: in the order of column `key`, or as registered if it is blank.

    `page` counts from 1.
    """

    key: str = ""
    descending: bool = False
    page: int = 1

    def at(self, page: int) -> str:
        """The reference to another page of the same order, relative to this one."""
        sort = f"sort={'-' * self.descending}{quote(self.key)}" if self.key else ""
        query = "&".join(part for part in (sort, f"page={page}" if page > 1 else "") if part)
        return f"?{query}" if query else "./"


@dataclass(frozen=True, slots=True)
class Part:
    """The rows on a page, and what they are part of.

    `total` is the number of rows of the whole list, `size` the bytes of all its files where known,
    `sortable` the keys it can be sorted by. `about`: a line about the product or fileset.
    `trouble`: why there are no more rows, of a list that cannot be read to its end.
    """

    view: View
    rows: Sequence[Row | Malformed]
    total: int
    sortable: frozenset[str]
    size: int | None = None
    about: str = ""
    trouble: str = ""


def parse_view(query: str) -> View:
    """The view asked for by a query that is still percent-encoded."""
    pairs = (pair.partition("=") for pair in query.split("&"))
    given = {name: unquote_plus(value, "utf-8") for name, _, value in pairs}
    sort, page = given.get("sort", ""), given.get("page", "")
    number = int(page) if page.isascii() and page.isdecimal() and len(page) < 10 else 1
    return View(sort.removeprefix("-"), sort.startswith("-"), max(1, number))


def settle(view: View, total: int, sortable: frozenset[str]) -> View:
    """The nearest view that there is of a list of `total` rows."""
    page = min(view.page, pages_of(total))
    return View(view.key, view.descending, page) if view.key in sortable else View("", False, page)


def pages_of(total: int) -> int:
    """How many pages a list of `total` rows has; an empty one has one."""
    return max(1, -(-total // PAGE))


def own_labels(header: Header) -> list[str]:
    """The labels of a list's own columns; of one that comes again, each has its number."""
    labels: list[str] = []
    for at, name in enumerate(header.names):
        if at not in header.fixed:
            again = labels.count(name)
            labels.append(f"{name} ({again + 1})" if again else name)
    return labels


def sortable_keys(level: int, labels: Sequence[str]) -> frozenset[str]:
    """The keys of a list's columns; a column of its own with a fixed one's key has none."""
    return frozenset((*KEYS[level], *(label for label in labels if label)))


def sort_rows(rows: Sequence[Row | Malformed], view: View) -> list[Row | Malformed]:
    """`rows` in the order of a view, as the catalogue's database would sort them.

    Rows without a value, and those that cannot be read, come last in either direction.
    """
    if not view.key:
        return list(rows)
    ranked: list[tuple[tuple[int, str], int]] = []
    rest: list[Row | Malformed] = []
    for at, row in enumerate(rows):
        rank = None if isinstance(row, Malformed) else _rank(row, view.key)
        if rank is None:
            rest.append(row)
        else:
            ranked.append((rank, at))
    ranked.sort(reverse=view.descending)
    return [rows[at] for _, at in ranked] + rest[:: -1 if view.descending else 1]


def _rank(row: Row, key: str) -> tuple[int, str] | None:
    if key in KEYS[_level(row)]:
        value = getattr(row, _ATTRIBUTES[key])
        if value is None or isinstance(value, int):
            return None if value is None else (value, "")
        return 0, value
    own = dict(zip(own_labels(row.header), row.extra(), strict=False)).get(key)
    if own is None or own == NULL:
        return None
    return (len(own) if own.isascii() and own.isdecimal() else _TEXT_LAST), own


def _level(row: Row) -> int:
    return 2 if isinstance(row, FileRow) else 1 if isinstance(row, FilesetRow) else 0
