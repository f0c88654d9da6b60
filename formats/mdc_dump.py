"""Writing mdc: every block as text that reads back as equal (PROTOCOL section 5)."""

from collections.abc import Callable
from functools import partial

from formats.mdc_block import Block, Comment, Entry
from formats.mdc_types import (
    MAX_DEPTH,
    NULL,
    MdcError,
    Value,
    check_name,
    check_record,
    find_type,
    write_record,
)

_INDENT = "    "


def dump(block: Block) -> str:
    """Write a block as a document: `load(dump(block)) == block`.

    Raises MdcError with everything in it that no mdc can hold, such as a text with `#`; each
    problem names the entry by its path (`dump:chipRun.comment`).
    """
    lines: list[str] = []
    problems: list[str] = []
    _block(block, (), lines, problems)
    if problems:
        raise MdcError([f"dump:{problem}" for problem in problems])
    return "".join(lines)


def _block(block: Block, path: tuple[str, ...], lines: list[str], problems: list[str]) -> None:
    """Append the lines of a block; `path` names the blocks that it stands in."""
    if len(path) > MAX_DEPTH:
        problems.append(f"{'.'.join(path)}: at most {MAX_DEPTH} blocks within each other expected")
        return
    indent = _INDENT * len(path)
    records: dict[str, tuple[str, ...]] = {}
    multi: set[str] = set()
    seen: set[str] = set()
    for line in block.lines:
        try:
            if isinstance(line, Comment):
                lines.append(f"{indent}{_comment(line.text).lstrip(' ')}\n")
                continue
            _declare(line, records, multi, seen)
            text = f"{indent}{_entry(line, records)}"
            lines.append(f"{text}{_comment(line.comment)}\n")
        except ValueError as error:
            name = "comment" if isinstance(line, Comment) else line.name
            problems.append(f"{'.'.join((*path, name))}: {error}")
            continue
        if line.type == "METADATA":
            _block(line.value, (*path, line.name), lines, problems)
            lines.append(f"{indent}END\n")


def _declare(
    entry: Entry, records: dict[str, tuple[str, ...]], multi: set[str], seen: set[str]
) -> None:
    """Hold an entry against the rules of its block: what is declared when, what may repeat."""
    name = entry.name
    check_name(name)
    if entry.type == "TYPE":
        check_record(name, entry.value)
        if name in records:
            raise ValueError("one TYPE of a name in a block expected, this is another")
        records[name] = entry.value
    elif entry.type == "MULTI":
        if name in multi or entry.value is not None:
            raise ValueError("one MULTI of a name in a block expected, without a value")
        multi.add(name)
    elif name in seen and name not in multi:
        raise ValueError("a MULTI before a name that repeats expected")
    else:
        seen.add(name)


def _entry(entry: Entry, records: dict[str, tuple[str, ...]]) -> str:
    """An entry's line without indent and comment; of a block, its first line."""
    name, kind, value = entry.name, entry.type, entry.value
    if kind == "MULTI":
        return f"{name} MULTI"
    if kind == "TYPE":
        return f"TYPE {name} {' '.join(value)}"
    if kind == "METADATA":
        if not isinstance(value, Block):
            raise ValueError(f"a Block expected, not {value!r}")
        return f"{name} METADATA"
    if kind in records:
        expects = f"a record of {', '.join(records[kind])}, each without blanks"
        text = _written(partial(write_record, records[kind]), value, expects)
        return f"{name:<15}  {kind:<8}  {text}"
    word = f"@{name}" if kind.startswith("@") else name
    type_ = find_type(word, kind.removeprefix("@"))
    text = NULL if value is None else _written(type_.write, value, type_.expects)
    return f"{word:<15}  {type_.name.removeprefix('@'):<8}  {text}".rstrip(" ")


def _written(write: Callable[[Value], str], value: Value, expects: str) -> str:
    try:
        return write(value)
    except ValueError:
        raise ValueError(f"{expects} expected, not {value!r}") from None


def _comment(text: str | None) -> str:
    if text is None:
        return ""
    if "\n" in text or text != text.strip(" \t\r"):
        raise ValueError(f"a comment of one line, without outer blanks, expected, not {text!r}")
    text.encode()
    return f"  # {text}".rstrip(" ")
