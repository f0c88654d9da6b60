"""--help of every command of the server half: for who types it, not for who builds it."""

import re

import pytest

from server.__main__ import COMMANDS, main
from server.command import about


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_help_is_for_who_types_it(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code in (0, None)
    said = capsys.readouterr().out
    assert said.startswith("usage: ")
    assert not re.search(r"\bseed 00|\(PROTOCOL|\(DESIGN|\(OPUS", said)


@pytest.mark.parametrize(
    ("doc", "text"),
    [
        ("Registers (PROTOCOL section 4).", "Registers."),
        ("As it was (OPUS, \"Processes\";\nseed 004).\nMore (of it).", "As it was.\nMore (of it)."),
        (None, ""),
    ],
)  # fmt: skip
def test_sources_are_left_out(doc: str | None, text: str) -> None:
    assert about(doc) == text
