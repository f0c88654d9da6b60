"""A reader that never looks away: what is visible in a mirror must be complete at any moment."""

import os
import stat
import threading
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Self

VISIBLE = ("data", "info", "store")
"""The directories of a mirror that other people read."""

TEMPORARY = (".tmp", ".temp", ".part", ".partial", ".new", ".swp", "~")

Allowed = bytes | Collection[bytes] | None
"""What a file may hold: one content, one of several, or anything (None)."""


def snapshot(root: Path) -> dict[str, bytes]:
    """Every file below data/, info/ and store/ with its content, by path relative to `root`.

    A symbolic link is there as the text of its target, so that it equals no file.
    """
    found = {}
    for path, entry in _walk(root):
        if entry.is_symlink():
            found[path] = b"symbolic link to " + os.fsencode(os.readlink(entry.path))
        elif not entry.is_dir():
            found[path] = Path(entry.path).read_bytes()
    return found


def open_files() -> Counter[str]:
    """What this process has open, by name, and how often; nothing where the system does not tell.

    Others may be closed at any time, as what earlier tests have left is collected.
    """
    names = Counter[str]()
    with suppress(FileNotFoundError), os.scandir("/proc/self/fd") as entries:
        for entry in entries:
            with suppress(FileNotFoundError):
                names[os.readlink(entry.path)] += 1
    return names


class TreeWatcher:
    """Scans the visible tree again and again while a `with` lasts, and once more at its end.

    `expected` maps paths relative to `root` to what they may hold. `violations` names, once each,
    every file that is not expected, is not a regular file, is shorter than it may be, or holds
    anything else; every dot or temporary name; and every file that was there and is gone, unless
    `may_vanish`. A content is read once per inode, mtime and size. `scans` counts the rounds.
    """

    def __init__(
        self, root: Path, expected: Mapping[str, Allowed], *, may_vanish: bool = False
    ) -> None:
        self.violations: list[str] = []
        self.scans = 0
        self._root = root
        self._expected = {path: _contents(allowed) for path, allowed in expected.items()}
        self._may_vanish = may_vanish
        self._seen: dict[str, tuple[int, int, int]] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._failure: Exception | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        if self._failure:
            raise self._failure
        self.scan()

    def _watch(self) -> None:
        try:
            while not self._stop.is_set():
                began = time.monotonic()
                self.scan()
                # Half of the time at most, so that what is watched gets on too.
                self._stop.wait(max(0.001, time.monotonic() - began))
        except Exception as error:
            self._failure = error

    def scan(self) -> None:
        """Look at everything once."""
        found = set()
        for path, entry in _walk(self._root):
            found.add(path)
            if path not in self._expected and _is_temporary(entry.name):
                self._report(f"{path}: a dot or temporary name")
            elif not entry.is_dir(follow_symlinks=False):
                self._look(path, entry)
        for path in [path for path in self._seen if path not in found]:
            # A directory's listing may miss a name that is being replaced; a lookup may not.
            if not os.path.lexists(self._root / path):
                del self._seen[path]
                if not self._may_vanish:
                    self._report(f"{path}: was there and is gone")
        self.scans += 1

    def _look(self, path: str, entry: os.DirEntry[str]) -> None:
        try:
            if self._seen.get(path) == _identity(entry.stat(follow_symlinks=False)):
                return
            with open(os.open(entry.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as f:
                about = os.fstat(f.fileno())
                content = f.read() if stat.S_ISREG(about.st_mode) else None
        except FileNotFoundError:
            return
        except OSError as error:
            self._report(f"{path}: cannot be read as a file: {error.strerror}")
            return
        self._seen[path] = _identity(about)
        if path not in self._expected:
            self._report(f"{path}: not expected")
        elif content is None:
            self._report(f"{path}: not a regular file")
        else:
            self._judge(path, content)

    def _judge(self, path: str, content: bytes) -> None:
        allowed = self._expected[path]
        if allowed is None or content in allowed:
            return
        least = min(map(len, allowed), default=0)
        if len(content) < least:
            self._report(f"{path}: seen with {len(content)} of {least} bytes")
        else:
            self._report(f"{path}: {len(content)} bytes that are none of the contents allowed")

    def _report(self, violation: str) -> None:
        if violation not in self.violations:
            self.violations.append(violation)


def _walk(root: Path) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Everything below the visible directories, directories before what is in them."""
    pending = list(VISIBLE)
    while pending:
        directory = pending.pop()
        with suppress(FileNotFoundError), os.scandir(root / directory) as entries:
            for entry in entries:
                path = f"{directory}/{entry.name}"
                yield path, entry
                if entry.is_dir(follow_symlinks=False):
                    pending.append(path)


def _identity(about: os.stat_result) -> tuple[int, int, int]:
    return about.st_ino, about.st_mtime_ns, about.st_size


def _contents(allowed: Allowed) -> Collection[bytes] | None:
    return (allowed,) if isinstance(allowed, bytes) else allowed


def _is_temporary(name: str) -> bool:
    return name.startswith((".", "#", "~")) or name.endswith(TEMPORARY)
