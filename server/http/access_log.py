"""The access log, in the combined format that web servers share and log readers know."""

import binascii
import os
import stat
import sys
import threading
import time

from mirror.errors import LocalError
from server.http.request import Request

STANDARD_OUTPUT = "-"

# Without waiting: a pipe that nobody reads must not stop the server.
_NEVER_WAIT = os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC
_APPEND = _NEVER_WAIT | os.O_APPEND | os.O_CREAT


class AccessLog:
    """Lines appended to a file, or to standard output for `-`. Safe to use from many threads.

    Several processes may write to one file: each line is one write(2) at its end. A file that was
    moved away or removed, as logrotate does, is made anew by the next line. Raises LocalError where
    the file cannot be opened at first; later trouble is told once on standard error, and nobody's
    request fails or waits for it: lines that a pipe has no room for are lost.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._well = True
        self._descriptor = _standard_output() if path == STANDARD_OUTPUT else self._opened(path)

    @staticmethod
    def _opened(path: str) -> int:
        try:
            return os.open(path, _APPEND, 0o666)
        except OSError as fault:
            raise LocalError(
                f"the access log {path} cannot be written ({fault.strerror}); "
                "check the directory and its mode, or name another --access-log"
            ) from fault

    def write(self, line: str) -> None:
        """Add one line, given without its newline."""
        data = line.encode("ascii", "backslashreplace") + b"\n"
        with self._lock:
            try:
                self._follow()
                while data:
                    data = data[os.write(self._descriptor, data) :]
                self._well = True
            except (OSError, LocalError) as fault:
                self._complain(fault)

    def _follow(self) -> None:
        """Open the file anew if its name no longer leads to it."""
        if self._path == STANDARD_OUTPUT:
            return
        try:
            named = os.stat(self._path)
        except FileNotFoundError:
            pass
        else:
            if os.path.samestat(named, os.fstat(self._descriptor)):
                return
        fresh = self._opened(self._path)
        os.close(self._descriptor)
        self._descriptor = fresh

    def _complain(self, fault: Exception) -> None:
        if self._well:
            print(f"server serve: access log {self._path}: {fault}", file=sys.stderr, flush=True)
        self._well = False


def _standard_output() -> int:
    """Standard output; a pipe opened once more, so that not waiting for it is ours alone."""
    own = sys.stdout.fileno()
    if not stat.S_ISFIFO(os.fstat(own).st_mode):
        return own
    try:
        return os.open(f"/proc/self/fd/{own}", _NEVER_WAIT)
    except OSError:
        return own


def combined(address: str, request: Request | None, status: int, sent: int) -> str:
    """A line of the log; what a client wrote is made harmless. `sent`: bytes of the body.

    The user is the one that the request names: whether it is that one only the status tells.
    """
    fields = request.fields if request else {}
    asked = (request.line if request else "-", fields.get("referer"), fields.get("user-agent"))
    line, referer, agent = (f'"{_harmless(text or "-")}"' for text in asked)
    user = _user(fields.get("authorization", ""))
    moment = time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime())
    return f"{address} - {user} [{moment}] {line} {status} {sent} {referer} {agent}"


def _user(authorization: str) -> str:
    """The name in a Basic Authorization field (RFC 7617), `-` without one."""
    scheme, _, given = authorization.partition(" ")
    if scheme.lower() != "basic":
        return "-"
    try:
        name = binascii.a2b_base64(given).partition(b":")[0].decode("utf-8", "backslashreplace")
    except ValueError:
        return "-"
    # The field has no quotes around it: a blank would be its end.
    return _harmless(name).replace(" ", r"\x20") or "-"


def _harmless(text: str) -> str:
    quoted = text.replace("\\", r"\x5c").replace('"', r"\x22")
    if not quoted.isprintable():
        quoted = "".join(one if one.isprintable() else _escaped(one) for one in quoted)
    return quoted.encode("ascii", "backslashreplace").decode()


def _escaped(one: str) -> str:
    code = ord(one)
    return (
        f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}" if code < 65536 else f"\\U{code:08x}"
    )
