"""What a fault is recorded as: a code and a message (exit codes of the original tools, PROTOCOL 4).

The same codes are the exit statuses of the server's commands.
"""

from dataclasses import dataclass

from mirror.errors import ConfigError, IntegrityError, LocalError, MirrorError

UNKNOWN, SYSTEM, CONFIGURATION, PROGRAM, DATA, TIMEOUT = 1, 2, 3, 4, 5, 6

_CODES: tuple[tuple[type[BaseException], int], ...] = (
    (ConfigError, CONFIGURATION),
    (LocalError, SYSTEM),
    (IntegrityError, DATA),
    (MirrorError, UNKNOWN),
    (OSError, SYSTEM),
)


@dataclass(frozen=True, slots=True)
class Fault:
    """What went wrong with a component, a run or a fileset: `code` is never 0."""

    code: int
    message: str


def code_of(error: BaseException) -> int:
    """The code of an error: what the operator has to look at."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), PROGRAM)


def fault_of(error: BaseException) -> Fault:
    """An error as it is recorded: its message on one line, fit for mdc."""
    from server.modes import fit

    code = code_of(error)
    text = str(error) if code != PROGRAM else f"{type(error).__name__}: {error}"
    return Fault(code, fit(text) or type(error).__name__)
