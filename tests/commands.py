"""Commands of the server half in this process, as a shell would call them."""

from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import pytest
from client import Ran

from server.__main__ import main
from server.site import Place

Capture = pytest.CaptureFixture[str]


def typed(capsys: Capture, *words: str) -> Ran:
    """How a command ends, and what is printed until then."""
    try:
        code = main(list(words))
    except SystemExit as ended:
        code = int(str(ended.code))
    said = capsys.readouterr()
    return Ran(code, said.out, said.err)


def printed(capsys: Capture, command: Callable[[list[str]], int], *words: str) -> str:
    """What the `main` of a command prints; it must succeed."""
    assert command(list(words)) == 0
    return capsys.readouterr().out


class Tool:
    """A command in this process, for a site whose place the environment tells."""

    name: ClassVar[str]

    def __init__(self, root: Path, place: Place, capsys: Capture) -> None:
        self.root = root
        self.place = place
        self._capsys = capsys

    def __call__(self, *arguments: str) -> Ran:
        """Exit status, standard output, standard error."""
        return typed(self._capsys, self.name, *arguments)

    def done(self, *arguments: str) -> str:
        """What a call prints that must succeed without a complaint."""
        code, out, err = self(*arguments)
        assert (code, err) == (0, "")
        return out
