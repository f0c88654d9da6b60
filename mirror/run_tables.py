"""Runs of the pipeline as tables: what an exported run (a dbinfo) becomes in SQL.

The tables are named and typed as in the document (PROTOCOL section 3); two more of ours say which
tables belong to a kind of run, and which type each column had, so that a run can be exported as
it came. A document is taken in row by row, in the memory of a few of them.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from mirror import run_store
from mirror.dirinfo import show
from mirror.errors import IntegrityError
from mirror.run_columns import (
    VERSION_TABLE,
    Cast,
    Refused,
    alike,
    cast_of,
    check_table,
    column_problems,
    declared_key,
    insert,
    key_of,
    quoted,
    wider_columns,
)
from mirror.run_store import SCHEMA, SqlDatabase, Table
from parse_config import Entry, MdcError, stream_mdc

__all__ = ["SCHEMA", "VERSION_TABLE", "Imported", "SqlDatabase", "import_run", "quoted"]

BATCH = 1000
"""Rows that are written at once."""

MAX_TABLES = 100
"""Tables in a document; real ones have up to five."""

MAX_COLUMNS = 500
"""Columns of a table, all documents together; real ones have up to 120."""

MAX_PROBLEMS = 1000
"""Problems that are listed: a document with more is no exported run."""

_MAX_SHAPES = 1000


@dataclass(frozen=True, slots=True)
class Imported:
    """What a document brought: how many `rows` in which `tables`, dbversion not counted.

    `run_table` names the kind of run; `run_id` is the id in its first row, `runs` how many rows
    it had (an exported run has one). `left_out`: its tables that were not imported, each with the
    reason; `changed`: the columns that have another type from now on, each with both.
    """

    run_table: str
    rows: int
    tables: tuple[str, ...]
    run_id: object
    runs: int
    left_out: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()


def import_run(database: SqlDatabase, source: BinaryIO | Iterable[bytes], name: str) -> Imported:
    """Read an exported run into its tables, created and widened as needed.

    `source` is a binary file or the chunks of one, `name` stands for it in errors. The run's rows
    are those of the document afterwards, and no other: what it had before is removed. Tables of
    another kind of run, and unknown ones that do not say which run their rows are of, are left
    out. To be called inside a transaction, which the caller rolls back if this raises.

    Raises IntegrityError with every problem of a document that is no exported run, that has rows
    of a run it is not about, or that does not fit what was imported before; each names document,
    line, table and column.
    """
    reader = _Import(database, name)
    warnings: list[str] = []
    found: list[str] = []
    try:
        for entry in stream_mdc(source, name, warnings):
            reader.take(entry)
            if len(reader.problems) >= MAX_PROBLEMS:
                break
    except MdcError as error:
        found = error.problems
        if not reader.began:
            found = [f"{name}:1: an exported run (mdc) expected; this is none:", *found]
    # What repeats without MULTI is left out by the reader: a row, or a value, would be lost.
    problems = [*found, *warnings, *reader.problems]
    if not problems:
        problems = reader.finish()
    if problems:
        raise IntegrityError("\n".join(problems[:MAX_PROBLEMS]))
    return reader.imported()


@dataclass(frozen=True, slots=True)
class _Shape:
    """How rows of one table with the same columns are written.

    `key` is where the key's columns are, `run` where the id of the run is; dbversion has neither.
    """

    table: Table
    sql: str
    casts: tuple[tuple[int, Cast], ...]
    key: tuple[int, ...]
    run: int | None


class _Import:
    """One document on its way into the database. With the first problem it writes no more."""

    def __init__(self, database: SqlDatabase, name: str) -> None:
        self.problems: list[str] = []
        self._database = database
        self._name = name
        self._run_table = ""
        self._id_column = ""
        self._run_id: object = None
        self._ids: set[object] = set()
        self._new_ids: list[object] = []
        self._tables: dict[str, Table | None] = {}
        self._held: dict[str, None] = {}
        self._foreign: set[str] = set()
        self._left_out: dict[str, str] = {}
        self._changed: dict[tuple[str, str], tuple[str, str]] = {}
        self._shapes: dict[tuple[str, tuple[str, ...], tuple[str, ...]], _Shape | None] = {}
        self._shape: _Shape | None = None
        self._batch: list[list[object]] = []
        self._lines: list[int] = []
        run_store.lock(database)
        self._folded = run_store.known_tables(database)

    @property
    def began(self) -> bool:
        """Whether anything of a run was seen."""
        return bool(self._tables)

    def take(self, entry: Entry) -> None:
        """Take in one entry of the document's top level."""
        name = entry.name
        if entry.type not in ("MULTI", "METADATA"):
            expected = "a table's row (NAME METADATA … END) expected"
            self._problem(entry.line, name, None, f"{expected}, not {entry.type}")
            return
        if name not in self._tables:
            self._begin(entry)
        if entry.type == "METADATA":
            if table := self._tables.get(name):
                self._row(table, entry)
            elif name in self._foreign and name not in self._left_out:
                self._leave_out(name, entry.value.columns[0])

    def finish(self) -> list[str]:
        """Write what is left; returns what is missing from the document."""
        self._flush()
        run = self._tables.get(self._run_table)
        if run is None or run.rows == 0:
            came = f"no row of {self._run_table}" if self._run_table else "no table"
            self.problems.append(f"{self._name}:1: an exported run expected; it has {came}")
        if not self.problems:
            run_store.enlist(self._database, self._run_table, (one.name for one in self._came()))
        return self.problems

    def imported(self) -> Imported:
        """What came, once `finish` has found nothing missing."""
        tables = self._came()
        run = self._tables.get(self._run_table)
        assert run is not None
        changed = (
            f"column {column} of {table}: {now} from now on, {before} before"
            for (table, column), (before, now) in self._changed.items()
        )
        return Imported(
            self._run_table, sum(one.rows for one in tables), tuple(one.name for one in tables),
            self._run_id, run.rows, tuple(self._left_out.values()), tuple(changed),
        )  # fmt: skip

    def _came(self) -> list[Table]:
        return [one for one in self._tables.values() if one and one.rows and one.key]

    def _problem(self, line: int, table: str, column: str | None, text: str) -> None:
        where = f"table {show(table)[1:-1]}"
        if column is not None:
            where += f": column {show(column)[1:-1]}"
        self.problems.append(f"{self._name}:{line}: {where}: {text}")

    def _begin(self, entry: Entry) -> None:
        """A table that the document has not named before: look it up."""
        name = entry.name
        self._tables[name] = None
        if len(self._tables) > MAX_TABLES:
            if len(self._tables) == MAX_TABLES + 1:
                self._problem(entry.line, name, None, f"at most {MAX_TABLES} tables expected")
            return
        is_run = not self._run_table and name != VERSION_TABLE
        if is_run:
            self._run_table = name
        try:
            check_table(name, self._folded)
            table = run_store.find(self._database, name)
            if is_run:
                self._begin_run(table)
        except Refused as refused:
            self._problem(entry.line, name, None, str(refused))
            return
        self._folded[name.lower()] = name
        # Where the kind is refused, the others are looked at for more problems.
        any_kind = name == VERSION_TABLE or self._tables.get(self._run_table) is None
        if not any_kind and not run_store.is_of_kind(table, self._run_table, self._id_column):
            self._foreign.add(name)
            return
        self._tables[name] = table
        if table.columns and name not in self._held and name != VERSION_TABLE:
            self._held[name] = None
            if not self.problems:
                self._remove([name], self._ids)

    def _begin_run(self, table: Table) -> None:
        """The table that names the kind of run: which others there are of it, by which id."""
        key = declared_key(table.name)
        others = sorted(table.owners - {table.name})
        if others and not key:
            raise Refused(f"a kind of run expected; it was imported as a table of {others[0]}")
        self._id_column = (key or table.key or ("",))[0]
        for one in run_store.tables_of(self._database, table.name):
            if run_store.is_of_kind(one, table.name, self._id_column):
                self._held[one.name] = None

    def _leave_out(self, name: str, columns: tuple[str, ...]) -> None:
        """Note why a table is not imported."""
        self._tables[name] = None
        run_id = self._id_column
        lacks = run_id and run_id not in columns
        why = f"which has no {run_id}" if lacks else "whose rows are of other runs"
        self._left_out[name] = f"{name}, {why}"

    def _row(self, table: Table, entry: Entry) -> None:
        """A row of a table: into the batch, which is written when it is full."""
        names, kinds, values = entry.value.columns
        mark = (entry.name, names, kinds)
        try:
            shape = self._shapes[mark]
        except KeyError:
            shape = self._make_shape(table, entry, names, kinds)
            self._shapes[mark] = shape
        if shape is None:
            return
        row = list(values)
        self._convert(shape, row, entry)
        table.rows += 1
        if shape.run is not None:
            self._check_run(row[shape.run], shape.run, entry)
        elif entry.name == VERSION_TABLE and table.rows > 1:
            self._problem(entry.line, entry.name, None, "one row expected, this is another")
        if shape is not self._shape or len(self._batch) == BATCH:
            self._flush()
            self._shape = shape
        self._batch.append(row)
        self._lines.append(entry.line)

    def _convert(self, shape: _Shape, row: list[object], entry: Entry) -> None:
        for at, cast in shape.casts:
            if row[at] is not None:
                try:
                    row[at] = cast(row[at])
                except Refused as refused:
                    self._problem_at(entry, at, str(refused))
        for at in shape.key:
            if row[at] is None:
                self._problem_at(entry, at, "a value expected in a key, not NULL")

    def _check_run(self, run_id: object, at: int, entry: Entry) -> None:
        """A row of the run's table tells an id, one of another table names one of them."""
        if run_id in self._ids or run_id is None:
            return
        if entry.name == self._run_table:
            if not self._ids:
                self._run_id = run_id
            self._ids.add(run_id)
            self._new_ids.append(run_id)
            return
        came = f"{next(iter(self._ids))!r}" if len(self._ids) == 1 else f"{len(self._ids)} ids"
        text = (
            f"the id of a run that {self._run_table} has expected ({came} so far), not {run_id!r}"
        )
        self._problem_at(entry, at, text)

    def _problem_at(self, entry: Entry, at: int, text: str) -> None:
        column = entry.value.entries[at]
        self._problem(column.line, entry.name, column.name, text)

    def _flush(self) -> None:
        """Write the batch; of runs that are new in it, nothing older stays."""
        shape, batch, lines = self._shape, self._batch, self._lines
        self._batch, self._lines = [], []
        if shape is None or not batch or self.problems:
            return
        table = shape.table
        self._remove(self._held, self._new_ids)
        self._new_ids = []
        if not table.key:
            self._database.change(f"DELETE FROM {quoted(VERSION_TABLE)}")
        repeated = run_store.insert_rows(self._database, shape.sql, batch, table, shape.key)
        for number in repeated:
            pairs = zip(table.key, shape.key, strict=True)
            key = ", ".join(f"{column} {batch[number][at]!r}" for column, at in pairs)
            self._problem(lines[number], table.name, None, f"one row with this key expected: {key}")

    def _remove(self, tables: Iterable[str], ids: Iterable[object]) -> None:
        run_store.remove_runs(self._database, tables, self._id_column, tuple(ids))

    def _make_shape(
        self, table: Table, entry: Entry, names: tuple[str, ...], kinds: tuple[str, ...]
    ) -> _Shape | None:
        """Hold the columns of a row against its table, which gets those it has not."""
        self._flush()
        if len(self._shapes) >= _MAX_SHAPES:
            self._shapes.clear()
        before = len(self.problems)
        try:
            key = self._key(table, names)
        except Refused as refused:
            self._problem(entry.line, table.name, None, str(refused))
            return None
        if key is None:
            self._leave_out(table.name, names)
            return None
        columns = tuple(zip(names, kinds, strict=True))
        self._check(entry, table, key, columns)
        if len(self.problems) > before:
            return None
        self._widen(table, key, dict(columns))
        casts = (
            (at, cast_of(kind, table.columns[column], column in key))
            for at, (column, kind) in enumerate(columns)
        )
        run = names.index(self._id_column) if self._id_column in key else None
        needed = tuple((at, cast) for at, cast in casts if cast)
        return _Shape(table, insert(table.name, names), needed, tuple(map(names.index, key)), run)

    def _key(self, table: Table, names: tuple[str, ...]) -> tuple[str, ...] | None:
        """The key of a table; None for one that does not say which run its rows are of."""
        if table.name == self._run_table:
            key = table.key or key_of(table.name, names, ())
            self._id_column = key[0]
            return key
        known = table.key or declared_key(table.name)
        if known or table.name == VERSION_TABLE:
            return known
        if not self._id_column:
            raise Refused(f"a row of {self._run_table} expected before")
        if self._id_column not in names:
            return None
        return key_of(table.name, names, (self._id_column,))

    def _check(
        self, entry: Entry, table: Table, key: Sequence[str], columns: Sequence[tuple[str, str]]
    ) -> None:
        """Note what the table cannot take: names, types, too many columns."""
        for at, text in column_problems(table.columns, key, columns, self._database.kind):
            self._problem_at(entry, at, text)
        names = {column for column, _ in columns}
        for column in key:
            if column not in names:
                self._problem(entry.line, table.name, column, "expected in a row: it is of the key")
        if not names:
            self._problem(entry.line, table.name, None, "columns expected, there are none")
        count = len(table.columns.keys() | names)
        if count > MAX_COLUMNS:
            text = f"at most {MAX_COLUMNS} columns expected, not {count}"
            self._problem(entry.line, table.name, None, text)

    def _widen(self, table: Table, key: tuple[str, ...], kinds: Mapping[str, str]) -> None:
        """Give the table the columns, and types, that it has not."""
        new = {column: kind for column, kind in kinds.items() if column not in table.columns}
        changed = wider_columns(table.columns, kinds)
        if not self.problems:
            if new or not table.columns:
                run_store.define(self._database, table, key, new)
            run_store.change_types(self._database, table, changed)
        for column, kind in changed.items():
            before = table.columns[column]
            if not alike(before, kind):
                first, _ = self._changed.get((table.name, column), (before, kind))
                self._changed[table.name, column] = (first, kind)
                # How rows of it were written until now will not do for the next.
                self._shapes.clear()
        table.key = key
        table.columns |= new | changed
