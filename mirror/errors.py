"""The errors that are reported without a traceback, each class named by whose fault it is.

A message names the thing (product, fileset, file, line, key), what was expected, what came, and
what to do. They are raised where the fact is known and caught where the work they end is known:
one file, one fileset, one product, or the run.
"""


class MirrorError(Exception):
    """Root of everything that is reported without a traceback.

    `step`: the step of its way at which a fileset met it (mirror.records); fetching, the first
    that may fail, where nobody knows.
    """

    step = 1


class ConfigError(MirrorError):
    """A file that people write has problems; all of them, so that one edit mends it."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class LockedError(MirrorError):
    """Another run works on the same mirror."""


class LocalError(MirrorError):
    """This machine is in the way: disk full, permission, read-only, damaged state.

    `full`: it is a full disk, which whoever writes next meets as well.
    """

    def __init__(self, message: str, *, full: bool = False) -> None:
        super().__init__(message)
        self.full = full


class TransportError(MirrorError):
    """The network or the server failed; the same request may succeed later.

    `permanent`: trying again in this run cannot help (a certificate that does not fit).
    `late`: nothing, or too little, came in time.
    `retry_after`: seconds that the server asked us to wait, if it did.
    """

    def __init__(
        self,
        message: str,
        *,
        permanent: bool = False,
        late: bool = False,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.permanent = permanent
        self.late = late
        self.retry_after = retry_after


class RefusedError(MirrorError):
    """The server answered, and the answer is no: 401, 403, 404, 410, any other 4xx."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class IntegrityError(MirrorError):
    """What came is not what was announced, or is something that must not be taken in."""


class ListError(IntegrityError):
    """A list cannot be used as a whole: not a list, a column missing, a line without end."""
