"""Which processes of a path live: each holds a byte of one file for as long as it does.

The file is `.blackboard.lock` below OPUS_OBSERVATIONS_DIR, the byte that of its number. The
system lets go of it however the process ends; the lock belongs to the opened file (OFD locks),
which the command of an event inherits (`alive_descriptor`), and NFS knows it. The file holds a
random word: who sees another one there, or the same in a file of another number (a copy), sees
another file, in which a free byte says nothing. Then, and only on the host of the process, what is
known of it beside that decides: its number in the system and when it began, and the locks that the
system still lists. Whom its own system knows as alive is never dead.
"""

import errno
import fcntl
import os
import secrets
import socket
import struct
from contextlib import suppress
from enum import Enum
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote, unquote_to_bytes

from mirror.disk import told
from mirror.errors import LocalError

LOCK_FILE = ".blackboard.lock"
"""A dot file beside the entries."""

# struct flock: type, whence, start, length, pid.
_FLOCK = struct.Struct("hhqqi4x")
_WORD = 32
_BAR = "|"
# Of /proc/PID/stat behind the name: the state, and when the process began.
_STATE, _STARTED = 0, 19


class Life(Enum):
    """What is known of a process: COMMAND: it is dead, but its command still runs."""

    LIVES = 1
    COMMAND = 2
    DEAD = 3
    UNKNOWN = 4


class Birth(NamedTuple):
    """What tells a process from any other: its host and that one's machine, how often that had
    been started, the name space of its number, the number, when it began; its lock file, and the
    directory of that (quoted)."""

    host: str
    machine: str
    boot: str
    space: str
    pid: str
    started: str
    file: str
    directory: str = ""

    def same_system(self, other: "Birth") -> bool:
        """Whether what the system here says of the process means something."""
        return self[:4] == other[:4]

    def ended(self) -> bool:
        """Whether the process is no more; on its own system."""
        return _started(self.pid) != self.started

    def lives(self) -> bool:
        """Whether the system knows it as alive; on its own system."""
        return self.started != "" and not self.ended()


_FORCED = f"dead{_BAR}"


def forced(token: str) -> str:
    """The token of a process of which somebody knows that it is dead."""
    return _FORCED + token.removeprefix(_FORCED)


def open_lock_file(directory: Path) -> int:
    """The file's descriptor; the file is made if it is missing. Raises LocalError."""
    with told(directory / LOCK_FILE):
        return os.open(directory / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)


def word_of(file: int) -> str:
    """The word that tells this lock file from any other, written if it is new."""
    with told(LOCK_FILE):
        # Numbers of processes begin with 1.
        _set(file, fcntl.F_OFD_SETLKW, fcntl.F_WRLCK, 0)
        try:
            word = os.pread(file, _WORD, 0)
            if len(word) < _WORD:
                word = secrets.token_hex(_WORD // 2).encode("ascii")
                os.pwrite(file, word, 0)
                os.fsync(file)
        finally:
            _set(file, fcntl.F_OFD_SETLK, fcntl.F_UNLCK, 0)
    return word.decode("ascii", "replace")


def token_of(directory: Path, file: int, host: str, pid: int) -> str:
    """What the board keeps of a process, for whoever is to judge whether it lives: `file` is the
    lock file of the board in `directory`."""
    birth = _birth(host, pid)._replace(file=_number_of(file), directory=_quoted(directory))
    return _BAR.join((word_of(file), *birth))


def is_replaced(directory: Path, file: int) -> bool:
    """Whether the lock file in `directory` is there and another one than the opened `file`."""
    with suppress(OSError):
        return not os.path.samestat(os.stat(directory / LOCK_FILE), os.fstat(file))
    return False


def hold(file: int, holder: int) -> bool:
    """Take the byte of `holder`; False if another process has it: that of a board which is no
    more. Raises LocalError where it cannot be locked."""
    try:
        _set(file, fcntl.F_OFD_SETLK, fcntl.F_WRLCK, holder)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):
            return False
        raise LocalError(f"{LOCK_FILE}: no lock on it: {error.strerror}") from None
    return True


def let_go(file: int, holder: int) -> None:
    """Let go of the byte of `holder`."""
    # A process forked meanwhile may have the file open too: closing would not let go.
    with suppress(OSError):
        _set(file, fcntl.F_OFD_SETLK, fcntl.F_UNLCK, holder)


class Witness:
    """Who lives, as the lock file in `directory` says it. Close it after use."""

    def __init__(self, directory: Path) -> None:
        self._file: int | None = None
        self._word = ""
        self._number = ""
        self._directory = _quoted(directory)
        self._here = _birth(socket.gethostname(), os.getpid())
        with told(directory / LOCK_FILE), suppress(FileNotFoundError):
            # Whoever only looks need not be allowed to write.
            self._file = os.open(directory / LOCK_FILE, os.O_RDONLY | os.O_CLOEXEC)
            self._word = os.pread(self._file, _WORD, 0).decode("ascii", "replace")
            self._number = _number_of(self._file)

    def dead(self, holder: int, token: str) -> bool:
        """Whether the process `holder`, of which the board has `token`, is dead for certain."""
        return self.judge(holder, token) is Life.DEAD

    def judge(self, holder: int, token: str) -> Life:
        """What is known of the process `holder`, of which the board has `token`."""
        if token.startswith(_FORCED):
            return Life.DEAD
        word, birth = _parsed(token)
        here = birth is not None and birth.same_system(self._here)
        if self._file is not None and word == self._word and self._is_held(holder):
            return Life.COMMAND if here and birth and birth.ended() else Life.LIVES
        if self._is_file_of(word, birth):
            # A server may lose locks.
            return Life.LIVES if here and birth and birth.lives() else Life.DEAD
        return _judged_here(birth, holder, self._here) if birth else Life.UNKNOWN

    def elsewhere(self, token: str) -> Path | None:
        """The directory of the board on which a process has joined, if that is another one than
        this: a copy of the whole directory knows of files that are not its own."""
        word, birth = _parsed(token.removeprefix(_FORCED))
        if birth is None or birth.directory in ("", self._directory):
            return None
        # Hosts may have different names for a shared directory, and a directory may be moved.
        if self._is_file_of(word, birth):
            return None
        return Path(os.fsdecode(unquote_to_bytes(birth.directory)))

    def _is_file_of(self, word: str, birth: Birth | None) -> bool:
        """Whether the lock file here is the one that the process knew, and no copy of it."""
        same = birth is None or birth.file == self._number
        return self._file is not None and word == self._word and same

    def _is_held(self, holder: int) -> bool:
        assert self._file is not None
        asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, holder, 1, 0)
        with told(LOCK_FILE):
            answer = fcntl.fcntl(self._file, fcntl.F_OFD_GETLK, asked)
        kind: int = _FLOCK.unpack(answer)[0]
        return kind != fcntl.F_UNLCK

    def close(self) -> None:
        """Close the file; locks that others hold on it stay."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _set(file: int, how: int, kind: int, offset: int) -> None:
    fcntl.fcntl(file, how, _FLOCK.pack(kind, os.SEEK_SET, offset, 1, 0))


# What the system says of its own processes


def _judged_here(birth: Birth, holder: int, here: Birth) -> Life:
    """What is known without the lock file that the process knew."""
    if birth[:2] == here[:2] and birth.machine and birth.boot != here.boot:
        return Life.DEAD
    if not birth.same_system(here):
        return Life.UNKNOWN
    if not birth.ended():
        return Life.LIVES
    held = _listed(birth.file, holder)
    if held is None:
        return Life.UNKNOWN
    return Life.COMMAND if held else Life.DEAD


def _parsed(token: str) -> tuple[str, Birth | None]:
    """The word of a token, and what else it says."""
    word, *parts = token.split(_BAR)
    whole = len(parts) in (len(Birth._fields) - 1, len(Birth._fields))
    return word, Birth(*parts) if whole else None


def _number_of(file: int) -> str:
    return str(os.fstat(file).st_ino)


def _quoted(directory: Path) -> str:
    return quote(os.fsencode(os.path.realpath(directory)))


def _birth(host: str, pid: int) -> Birth:
    space = ""
    with suppress(OSError):
        space = os.readlink("/proc/self/ns/pid")
    machine, boot = _line("/etc/machine-id"), _line("/proc/sys/kernel/random/boot_id")
    return Birth(host, machine, boot, space, str(pid), _started(str(pid)), "")


def _started(pid: str) -> str:
    """When a process of this system began, in ticks; nothing if there is none, or if it has ended
    and its parent has not seen that yet."""
    # The name of a program may hold anything.
    words = _line(f"/proc/{pid}/stat").rpartition(")")[2].split()
    if len(words) <= _STARTED or words[_STATE] in "ZX":
        return ""
    return words[_STARTED]


def _listed(inode: str, holder: int) -> bool | None:
    """Whether the byte of `holder` in a lost lock file is locked; None where nobody says it."""
    try:
        with open("/proc/locks", encoding="ascii", errors="replace") as file:
            locks = [line.split() for line in file]
    except OSError:
        return None
    return any(
        words[1] == "OFDLCK"
        and words[5].rpartition(":")[2] == inode
        and words[6:8] == [str(holder)] * 2
        for words in locks
        if len(words) >= 8
    )


def _line(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.readline().strip().replace(_BAR, "_")
    except OSError:
        return ""
