"""The history of a blackboard: every change of every letter, as long as nobody prunes it."""

from typing import Any

from server.database import Database
from server.opus.board_records import Filter, History, Key

STEP = 1000
"""Changes that are removed in one transaction: others have to wait for the end of each."""


def changes(database: Database, path_id: int, of: Key | Filter | None, limit: int) -> list[History]:
    """The last `limit` changes of a board, the oldest first; see `Blackboard.history`."""
    given: dict[str, Any] = {}
    if isinstance(of, Key):
        given = of._asdict()
    elif of:
        given = {"dataset": of.dataset, "data_id": of.data_id, "dcf": of.dcf}
    exact = {column: value for column, value in given.items() if value is not None}
    also = "".join(f" AND {column} = ?" for column in exact)
    rows = database.rows(
        f"""SELECT at, host, process, dataset, data_id, dcf, stage, letter_before, letter_after,
            what FROM osfHistory WHERE path_id = ?{also} ORDER BY history_id DESC LIMIT ?""",
        path_id, *exact.values(), limit,
    )  # fmt: skip
    return [
        History(at, host, process, Key(*key), stage, before, after, what)
        for at, host, process, *key, stage, before, after, what in reversed(rows)
    ]


def prune(database: Database, path_id: int, before: str) -> int:
    """Remove some of the changes before a time (UTC), the oldest; returns how many, 0: all of them
    are gone. In a transaction that may write."""
    rows = database.rows(
        "SELECT history_id, at FROM osfHistory WHERE path_id = ? ORDER BY history_id LIMIT ?",
        path_id, STEP,
    )  # fmt: skip
    old = [number for number, at in rows if at < before]
    if not old:
        return 0
    return database.change(
        "DELETE FROM osfHistory WHERE path_id = ? AND history_id <= ? AND at < ?",
        path_id, old[-1], before,
    )  # fmt: skip
