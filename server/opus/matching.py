"""Which entries of a blackboard a trigger may claim: found by the patterns of their states, of
which there are few, and never by a look at every entry.
"""

from collections.abc import Collection, Iterator, Mapping
from heapq import merge
from itertools import islice

from formats.triggers import OsfMatch
from server.database import Database, Row
from server.opus.board_records import Key, fits
from server.opus.reclaim import SELECT_ENTRY

_PAGE = 100

# After every text that can be a pattern, byte by byte.
_LAST = "\U0010ffff"


def matching(
    database: Database,
    path_id: int,
    match: OsfMatch,
    processing: Mapping[str, str],
    limit: int,
    skip: Collection[Key],
    after: int,
) -> list[Row]:
    """At most `limit` entries that match and may be claimed, the oldest first; none of the keys of
    `skip`, and none of a number up to `after`."""
    passed = frozenset(skip)
    found = [
        _of_pattern(database, path_id, match, processing, pattern, after, limit)
        for pattern in _patterns(database, path_id, match)
        if fits(pattern, match.columns)
    ]
    wanted = (row for row in merge(*found) if Key(*row[1:4]) not in passed)
    return list(islice(wanted, limit))


def _of_pattern(
    database: Database,
    path_id: int,
    match: OsfMatch,
    processing: Mapping[str, str],
    pattern: str,
    after: int,
    limit: int,
) -> Iterator[Row]:
    """The entries of a pattern that may be claimed, read as far as somebody asks for them."""
    of_dcf = "" if match.dcf_number is None else " AND e.dcf = ?"
    dcf = [match.dcf_number] if of_dcf else []
    marks = ", ".join("?" * len(processing))
    size = limit
    while True:
        rows = database.rows(
            f"""{SELECT_ENTRY} e WHERE path_id = ?{of_dcf} AND pattern = ?
            AND entry_id > ? AND NOT EXISTS (
                SELECT 1 FROM osfClaim c
                WHERE c.entry_id = e.entry_id AND c.stage IN ({marks}))
            ORDER BY entry_id LIMIT ?""",
            path_id, *dcf, pattern, after, *processing, size,
        )  # fmt: skip
        yield from rows
        if len(rows) < size:
            return
        # Whoever wants more than the first ones passes over many.
        after, size = rows[-1][0], max(size, _PAGE)


def _patterns(database: Database, path_id: int, match: OsfMatch) -> list[str]:
    """The patterns there are of entries of the wanted type and DCF number, one look each."""
    first, last = ("", _LAST)
    if match.data_id is not None:
        # A pattern is the type, a blank, the states; "!" comes next after the blank.
        first, last = f"{match.data_id} ", f"{match.data_id}!"
    of_dcf = "" if match.dcf_number is None else " AND e.dcf = ?"
    dcf = [match.dcf_number] if of_dcf else []
    # Not min(pattern): before its statistics are there, PostgreSQL would look at every entry.
    smallest = f"""(SELECT e.pattern FROM osfEntry e WHERE e.path_id = ?{of_dcf}
        AND e.pattern {{}} AND e.pattern < ? ORDER BY e.pattern LIMIT 1)"""
    rows = database.rows(
        f"""WITH RECURSIVE seen (pattern) AS (
            SELECT {smallest.format(">= ?")} UNION ALL
            SELECT {smallest.format("> seen.pattern")} FROM seen WHERE pattern IS NOT NULL)
        SELECT pattern FROM seen WHERE pattern IS NOT NULL""",
        path_id, *dcf, first, last, path_id, *dcf, last,
    )  # fmt: skip
    return [pattern for (pattern,) in rows]
