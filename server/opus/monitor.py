"""The monitor of `serve --monitor`: the boards of all paths under /monitor/, for the browser.

Every page is made from the boards as they are; nobody can change anything here. What was made a
moment ago is shown again, so that any number of browsers on a page cost no more than one, and that
one, however large the board, a part of a core.
"""

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from urllib.parse import unquote, unquote_plus

from formats.path_file import read_path_file
from formats.stage_file import NOT_SET, StageFile
from mirror.errors import ConfigError, MirrorError
from server.blackboard import Filter, History, Key
from server.http.front import MONITOR
from server.opus.monitor_pages import (
    EVERY,
    Chosen,
    Trouble,
    front_page,
    path_page,
    trouble_page,
)
from server.opus.night import Change, Picture, draw, picture
from server.opus.overview import Overview, look, opened, overview, path_files
from server.opus.status import chosen_by
from server.views.answers import HTML, Absent, Answer, Moved, Stream, Visitor

DATASETS = 500
"""Datasets on a page, the last ones that fit."""

CHANGES = 20_000
"""Changes that a picture is made of, the last ones."""

NIGHT = 24 * 3600.0
"""Seconds that a picture goes back at most; it begins with the first change in them."""

SHORTEST = 10.0
"""Seconds that a picture goes back at least."""

LASTS = 1.0
"""Seconds for which a page that was made is good, at least."""

REST = 4
"""A page is good for so many times the time that it took to make it, too."""

_KEPT = 32


class Monitor:
    """A store (see `server.views.answers`) of pages under /monitor/; safe to ask from threads.

    `names`: paths, by name or file; none: all along OPUS_DEFINITIONS_DIR, whenever it is asked.
    """

    def __init__(self, names: Sequence[str], environ: Mapping[str, str]) -> None:
        self._names = tuple(names)
        self._environ = environ
        self._lock = threading.Lock()
        self._made: dict[tuple[str, str], tuple[float, bytes | None]] = {}
        # Said at once, not when the first reader comes.
        path_files(self._names, environ)

    @contextmanager
    def find(self, path: str, query: str, visitor: Visitor) -> Iterator[Answer]:
        """The answer for a path under /monitor/. What is wrong with a board stands on its page.

        Raises ConfigError where there are no paths any more.
        """
        yield self._answer(path, query)

    def _answer(self, path: str, query: str) -> Answer:
        if path == MONITOR:
            return Moved(f"{MONITOR}/")
        name = path.removeprefix(f"{MONITOR}/")
        if name and not name.endswith("/"):
            return Moved(f"{path}/") if self._file(name) else _absent()
        if name == "/":
            return _absent()
        page = self._page(name.removesuffix("/"), query)
        return Stream(HTML, iter([page]), len(page)) if page is not None else _absent()

    def _file(self, name: str) -> Path | None:
        wanted = unquote(name)
        files = path_files(self._names, self._environ)
        return next((file for file in files if file.stem == wanted), None)

    def _page(self, name: str, query: str) -> bytes | None:
        """A page, made now or a moment ago; None if there is no such path."""
        with self._lock:
            until, page = self._made.get((name, query), (0.0, None))
            began = time.monotonic()
            if began < until:
                return page
            page = self._make(name, parse(query))
            if len(self._made) >= _KEPT:
                self._made.clear()
            now = time.monotonic()
            self._made[name, query] = (now + max(LASTS, REST * (now - began)), page)
            return page

    def _make(self, name: str, chosen: Chosen) -> bytes | None:
        if name:
            file = self._file(name)
            return _path_page(file, self._environ, chosen) if file else None
        files = path_files(self._names, self._environ)
        return front_page([_seen(file, self._environ) for file in files], chosen)


def parse(query: str) -> Chosen:
    """What was chosen, from a query still percent-encoded; what means nothing is as none."""
    pairs = (pair.partition("=") for pair in query.split("&"))
    given = {name: unquote_plus(value).strip() for name, _, value in pairs}
    every = next((one for one in EVERY if str(one) == given.get("every")), EVERY[0])
    return Chosen(given.get("f", ""), given.get("t", ""), given.get("s", ""), every)


def changes_of(history: Sequence[History], stages: StageFile) -> list[Change]:
    """What a picture needs to know of changes, newest first; `history`: the oldest first.

    That an entry was deleted says nothing of its letters: these are in what it says before.
    """
    titles = set(stages.titles())
    letters: dict[Key, dict[str, str]] = {}
    found: list[Change] = []
    for one in history:
        at = datetime.fromisoformat(one.at).timestamp()
        if one.what == "deleted":
            gone = letters.pop(one.key, {})
            found += [Change(at, title, letter, NOT_SET) for title, letter in gone.items()]
        elif one.stage in titles:
            before, after = one.before or NOT_SET, one.after or NOT_SET
            letters.setdefault(one.key, {})[one.stage] = after
            found.append(Change(at, one.stage, before, after))
    found.reverse()
    return found


def night_of(history: Sequence[History], seen: Overview, now: float) -> Picture:
    """The picture of the last NIGHT before `now`, seconds since 1970; of less, if the first change
    that is known is later."""
    changes = changes_of(history, seen.stages)
    begin = now - NIGHT
    if changes:
        begin = max(begin, changes[-1].at)
    # A picture wants some width, and what begins it is to be seen.
    begin = min(begin - (now - begin) / 50, now - SHORTEST)
    return picture(seen.stages.stages, seen.counts, changes, begin, now)


def _absent() -> Absent:
    return Absent("no path of this name")


def _seen(file: Path, environ: Mapping[str, str]) -> Overview | Trouble:
    try:
        return look(file, environ, limit=0)
    except MirrorError as error:
        return _trouble(file, error)


def _trouble(file: Path, error: MirrorError) -> Trouble:
    return Trouble(file.stem, tuple(str(error).splitlines()))


def _path_page(file: Path, environ: Mapping[str, str], chosen: Chosen) -> bytes:
    trouble: list[str] = []
    try:
        paths = read_path_file(file, environ)
        with opened(paths, environ) as board:
            seen = overview(board, paths, Filter(), DATASETS)
            history = board.history(limit=CHANGES) if board else []
            shown = seen
            try:
                wanted = _filter(chosen)
                if wanted != Filter():
                    shown = overview(board, paths, wanted, DATASETS)
            except ConfigError as error:
                trouble = error.problems
    except MirrorError as error:
        return trouble_page(_trouble(file, error), chosen)
    svg = draw(night_of(history, seen, time.time()))
    return path_page(seen, shown, svg, chosen, trouble)


def _filter(chosen: Chosen) -> Filter:
    states = [chosen.states] if chosen.states else []
    return chosen_by(chosen.dataset or None, chosen.data_id or None, None, states)
