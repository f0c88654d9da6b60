"""What an mdc document is once read: blocks of entries and comments (PROTOCOL section 5)."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from formats.mdc_types import Time, Value, infer


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a block.

    `type` is a type's name (STRING as STR), `@S32` for a vector, METADATA for a block, the name
    of a declared record, or MULTI or TYPE for a declaration, whose value is None or the names of
    the record's fields. `line` is 0 for an entry that was not read.
    """

    name: str
    type: str
    value: Value
    comment: str | None = None
    line: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Comment:
    """A line with nothing but a comment; `text` without its # and outer blanks."""

    text: str
    line: int = field(default=0, compare=False)


class Block:
    """The entries of a METADATA block, or of a document, in their order.

    `block["NAME"]` is a value; if NAME was declared MULTI, the list of its values, even of one
    or none. Two blocks are equal if order, names, types, values and comments are.
    """

    # A busy run has a million entries: they are kept as columns, and become Entry when asked for.
    # The reader in formats.mdc fills the columns; nobody else touches them.
    __slots__ = ("_comments", "_index", "_kinds", "_names", "_numbers", "_remarks", "_values")

    def __init__(self) -> None:
        self._clear()

    def _clear(self) -> None:
        self._names: list[str] = []
        self._kinds: list[str] = []
        self._values: list[Value] = []
        self._numbers: list[int] = []
        self._comments: dict[int, str] = {}
        self._remarks: list[tuple[int, Comment]] = []
        self._index: dict[str, Value] | None = None

    @classmethod
    def from_items(cls, items: "Mapping[str, Any] | Iterable[Any]") -> "Block":
        """A block of Python values, for dump.

        `items` is a mapping of names to values, or yields Entry, Comment, (name, value) and
        (name, type, value). A type that is not given is inferred (mdc_types.infer); a mapping
        as a value becomes a block, a list becomes a MULTI declaration and an entry for each of
        its elements. Raises ValueError for a value without a type.
        """
        block = cls()
        for item in items.items() if isinstance(items, Mapping) else items:
            for line in _lines_of(item):
                block._add(line)
        return block

    @property
    def entries(self) -> tuple[Entry, ...]:
        """Every entry in order, declarations too."""
        rows = zip(self._names, self._kinds, self._values, self._numbers, strict=True)
        comment = self._comments.get
        return tuple(Entry(n, k, v, comment(i), at) for i, (n, k, v, at) in enumerate(rows))

    @property
    def columns(self) -> tuple[tuple[str, ...], tuple[str, ...], tuple[Value, ...]]:
        """Names, types and values of every entry: `entries`, where a table has a million rows."""
        return tuple(self._names), tuple(self._kinds), tuple(self._values)

    @property
    def lines(self) -> tuple[Entry | Comment, ...]:
        """Every entry and every line that is a comment alone, in order."""
        entries = self.entries
        lines: list[Entry | Comment] = []
        done = 0
        for position, remark in self._remarks:
            lines += [*entries[done:position], remark]
            done = position
        return (*lines, *entries[done:])

    @property
    def comments(self) -> tuple[Comment, ...]:
        """The lines that are comments alone."""
        return tuple(remark for _, remark in self._remarks)

    def names(self) -> list[str]:
        """The names that have a value, or were declared MULTI, each once, in order."""
        return list(self._values_by_name())

    def get(self, name: str, default: Value = None) -> Value:
        """`block[name]`, or `default` where there is none; a NULL is None."""
        return self._values_by_name().get(name, default)

    def all(self, name: str) -> list[Value]:
        """The values of `name` as a list, whether it was declared MULTI or not."""
        rows = zip(self._names, self._kinds, self._values, strict=True)
        return [v for n, kind, v in rows if n == name and kind not in ("MULTI", "TYPE")]

    def __getitem__(self, name: str) -> Value:
        return self._values_by_name()[name]

    def __contains__(self, name: object) -> bool:
        return name in self._values_by_name()

    def __iter__(self) -> Iterator[str]:
        return iter(self._values_by_name())

    def __len__(self) -> int:
        return len(self._names)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Block):
            return NotImplemented
        return (
            self._names == other._names
            and self._kinds == other._kinds
            and self._comments == other._comments
            and self._remarks == other._remarks
            and all(map(_same, self._values, other._values))
        )

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {len(self)} entries: {', '.join(self.names()[:8])}>"

    def _values_by_name(self) -> dict[str, Value]:
        if self._index is None:
            self._index = self._make_index()
        return self._index

    def _make_index(self) -> dict[str, Value]:
        if "MULTI" not in self._kinds and "TYPE" not in self._kinds:
            return dict(zip(self._names, self._values, strict=True))
        index: dict[str, Value] = {}
        multi: set[str] = set()
        for name, kind, value in zip(self._names, self._kinds, self._values, strict=True):
            if kind == "MULTI":
                index[name] = [index[name]] if name in index else []
                multi.add(name)
            elif kind != "TYPE" and name in multi:
                index[name].append(value)
            elif kind != "TYPE":
                index[name] = value
        return index

    def _add(self, line: Entry | Comment) -> None:
        if isinstance(line, Comment):
            self._remarks.append((len(self._names), line))
            return
        if line.comment is not None:
            self._comments[len(self._names)] = line.comment
        self._names.append(line.name)
        self._kinds.append(line.type)
        self._values.append(line.value)
        self._numbers.append(line.line)

    def _drop(self, positions: set[int]) -> None:
        """Forget the entries at these positions."""
        lines, position = self.lines, -1
        self._clear()
        for line in lines:
            position += isinstance(line, Entry)
            if isinstance(line, Comment) or position not in positions:
                self._add(line)


class Document(Block):
    """A whole document: a block with the `source` it came from, and what was doubtful in it."""

    __slots__ = ("source", "warnings")

    def __init__(self, source: str = "mdc", warnings: list[str] | None = None) -> None:
        super().__init__()
        self.source = source
        self.warnings: list[str] = [] if warnings is None else warnings


def _same(one: Value, other: Value) -> bool:
    if one == other:
        return True
    # nan differs from itself, but is written the same.
    return not isinstance(one, Block) and repr(one) == repr(other)


def _lines_of(item: Any) -> list[Entry | Comment]:
    """The lines that one item of Block.from_items stands for."""
    if isinstance(item, Comment):
        return [Comment(item.text.strip(" \t\r"), item.line)]
    if isinstance(item, Entry):
        comment = item.comment if item.comment is None else item.comment.strip(" \t\r")
        return [replace(_entry(item.name, item.type, item.value), comment=comment, line=item.line)]
    name, *kinds, value = item
    kind = kinds[0] if kinds else None
    if isinstance(value, list) and not (kind or "").startswith("@"):
        each = [_entry(name, kind, one) for one in value]
        return [Entry(name, "MULTI", None), *each]
    return [_entry(name, kind, value)]


def _entry(name: str, kind: str | None, value: Value) -> Entry:
    if kind is None:
        kind = "METADATA" if isinstance(value, Mapping | Block) else infer(value)
    if kind == "METADATA" and isinstance(value, Iterable) and not isinstance(value, Block):
        value = Block.from_items(value)
    elif isinstance(value, datetime):
        value = Time.of(value)
    elif isinstance(value, list):
        value = tuple(value)
    return Entry(name, "STR" if kind == "STRING" else kind, value)
