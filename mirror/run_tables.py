"""Runs of the pipeline as tables: what an exported run (a dbinfo) becomes in SQL.

The tables are named and typed as in the document (PROTOCOL section 3); two more of ours say which
tables belong to a kind of run, and which type each column had, so that a run can be exported as
it came. A document is taken in row by row, in the memory of a few of them.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Protocol

from mirror.dirinfo import show
from mirror.errors import IntegrityError
from mirror.run_columns import (
    VERSION_TABLE,
    Cast,
    Refused,
    cast_of,
    check_column,
    check_table,
    key_of,
    known_names,
    quoted,
    sql_list,
    sql_type,
    upsert,
    wider,
)
from parse_config import Entry, MdcError, stream_mdc

__all__ = ["SCHEMA", "VERSION_TABLE", "Imported", "SqlDatabase", "import_run", "quoted"]

SCHEMA = """
CREATE TABLE runTable (
    run_table TEXT NOT NULL,
    table_name TEXT NOT NULL,
    position INTEGER NOT NULL,
    PRIMARY KEY (run_table, table_name)
);
CREATE TABLE runColumn (
    table_name TEXT NOT NULL,
    column_name TEXT NOT NULL,
    type TEXT NOT NULL,
    position INTEGER NOT NULL,
    is_key INTEGER NOT NULL,
    PRIMARY KEY (table_name, column_name)
)
"""
"""`run_table`: the table that names the kind of run (chipRun); `table_name`: one of its tables, in
the order of the documents. `type`: as the document has it (S32, STR, …); `is_key`: the column is
part of the table's key."""

BATCH = 1000
"""Rows that are written at once."""

MAX_TABLES = 100
"""Tables in a document; real ones have up to five."""

MAX_COLUMNS = 500
"""Columns of a table, all documents together; real ones have up to 120."""

MAX_PROBLEMS = 1000
"""Problems that are listed: a document with more is no exported run."""

_MAX_SHAPES = 1000
_LOCK = 1129595220


class SqlDatabase(Protocol):
    """A connection with a transaction open, SQLite or PostgreSQL; `?` stands for a value."""

    kind: str
    """`sqlite` or `postgres`."""

    def rows(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """Every row of a query."""
        ...

    def change(self, sql: str, *values: object) -> int:
        """Run a statement; returns the number of rows it touched."""
        ...

    def change_many(self, sql: str, rows: Iterable[Sequence[object]]) -> None:
        """Run a statement once for each of `rows`."""
        ...


@dataclass(frozen=True, slots=True)
class Imported:
    """What a document brought: how many `rows` in which `tables`, dbversion not counted.

    `run_table` names the kind of run; `run_id` is the id in its first row, `runs` how many rows
    it had (an exported run has one).
    """

    run_table: str
    rows: int
    tables: tuple[str, ...]
    run_id: object
    runs: int


def import_run(database: SqlDatabase, source: BinaryIO | Iterable[bytes], name: str) -> Imported:
    """Read an exported run into its tables, created and widened as needed.

    `source` is a binary file or the chunks of one, `name` stands for it in errors. A row that is
    there already, by its key, gets the values that come; columns that do not come keep theirs.
    To be called inside a transaction, which the caller rolls back if this raises.

    Raises IntegrityError with every problem of a document that is no exported run, or that does
    not fit what was imported before; each names document, line, table and column.
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
    # What repeats without MULTI is left out by the reader: a row, or a value, would be lost.
    problems = [*found, *warnings, *reader.problems]
    if not problems:
        problems = reader.finish()
    if problems:
        raise IntegrityError("\n".join(problems[:MAX_PROBLEMS]))
    return reader.imported()


# What is written


@dataclass(slots=True)
class _Table:
    """A table as it is in the database; `columns` with their types. Without a key: dbversion."""

    name: str
    key: tuple[str, ...] = ()
    columns: dict[str, str] = field(default_factory=dict)
    rows: int = 0


@dataclass(frozen=True, slots=True)
class _Shape:
    """How rows of one table with the same columns are written."""

    table: _Table
    columns: tuple[str, ...]
    sql: str
    casts: tuple[tuple[int, Cast], ...]
    key: tuple[int, ...]


class _Import:
    """One document on its way into the database. With the first problem it writes no more."""

    def __init__(self, database: SqlDatabase, name: str) -> None:
        self.problems: list[str] = []
        self._database = database
        self._name = name
        self._run_table = ""
        self._run_id: object = None
        self._tables: dict[str, _Table | None] = {}
        self._shapes: dict[tuple[object, ...], _Shape | None] = {}
        self._shape: _Shape | None = None
        self._batch: list[list[object]] = []
        if database.kind == "postgres":
            # Two that create the same table at once would be in each other's way.
            database.rows(f"SELECT pg_advisory_xact_lock({_LOCK})")
        known = database.rows("SELECT DISTINCT table_name FROM runColumn")
        self._folded = known_names(row[0] for row in known)

    def take(self, entry: Entry) -> None:
        """Take in one entry of the document's top level."""
        table = entry.name
        if entry.type not in ("MULTI", "METADATA"):
            expected = "a table's row (NAME METADATA … END) expected"
            self._problem(entry.line, table, None, f"{expected}, not {entry.type}")
            return
        if table not in self._tables:
            self._begin(entry)
        if entry.type == "METADATA" and self._tables.get(table):
            self._row(entry)

    def finish(self) -> list[str]:
        """Write what is left; returns what is missing from the document."""
        self._flush()
        run = self._tables.get(self._run_table)
        if run is None or run.rows == 0:
            came = f"no row of {self._run_table}" if self._run_table else "no table"
            self.problems.append(f"{self._name}:1: an exported run expected; it has {came}")
        if not self.problems:
            self._enlist()
        return self.problems

    def imported(self) -> Imported:
        """What came, once `finish` has found nothing missing."""
        tables = [one for one in self._tables.values() if one and one.rows and one.key]
        run = self._tables.get(self._run_table)
        assert run is not None
        rows = sum(one.rows for one in tables)
        names = tuple(one.name for one in tables)
        return Imported(self._run_table, rows, names, self._run_id, run.rows)

    def _problem(self, line: int, table: str, column: str | None, text: str) -> None:
        where = f"table {show(table)[1:-1]}"
        if column is not None:
            where += f": column {show(column)[1:-1]}"
        self.problems.append(f"{self._name}:{line}: {where}: {text}")

    def _begin(self, entry: Entry) -> None:
        """A table that the document has not named before: look it up."""
        name = entry.name
        if name != VERSION_TABLE:
            self._run_table = self._run_table or name
        self._tables[name] = None
        if len(self._tables) > MAX_TABLES:
            if len(self._tables) == MAX_TABLES + 1:
                self._problem(entry.line, name, None, f"at most {MAX_TABLES} tables expected")
            return
        try:
            check_table(name, self._folded)
        except Refused as refused:
            self._problem(entry.line, name, None, str(refused))
            return
        self._folded[name.lower()] = name
        known = self._database.rows(
            "SELECT column_name, type, is_key FROM runColumn WHERE table_name = ?"
            " ORDER BY position",
            name,
        )
        key = tuple(row[0] for row in known if row[2])
        self._tables[name] = _Table(name, key, {row[0]: row[1] for row in known})

    def _row(self, entry: Entry) -> None:
        """A row of a table: into the batch, which is written when it is full."""
        names, kinds, values = entry.value.columns
        mark = (entry.name, names, kinds)
        try:
            shape = self._shapes[mark]
        except KeyError:
            shape = self._shapes[mark] = self._make_shape(entry, names, kinds)
        if shape is None:
            return
        row = list(values)
        self._convert(shape, row, entry)
        shape.table.rows += 1
        if shape.table.rows == 1 and entry.name == self._run_table:
            self._run_id = row[shape.key[0]]
        if entry.name == VERSION_TABLE and shape.table.rows > 1:
            self._problem(entry.line, entry.name, None, "one row expected, this is another")
        if shape is not self._shape or len(self._batch) == BATCH:
            self._flush()
            self._shape = shape
        self._batch.append(row)

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

    def _problem_at(self, entry: Entry, at: int, text: str) -> None:
        column = entry.value.entries[at]
        self._problem(column.line, entry.name, column.name, text)

    def _flush(self) -> None:
        """Write the batch."""
        if self._shape is not None and self._batch and not self.problems:
            if not self._shape.table.key:
                self._database.change(f"DELETE FROM {quoted(VERSION_TABLE)}")
            self._database.change_many(self._shape.sql, self._batch)
        self._batch = []

    def _make_shape(
        self, entry: Entry, names: tuple[str, ...], kinds: tuple[str, ...]
    ) -> _Shape | None:
        """Hold the columns of a row against its table, which gets those it has not."""
        table = self._tables[entry.name]
        assert table is not None
        self._flush()
        if len(self._shapes) == _MAX_SHAPES:
            self._shapes.clear()
        before = len(self.problems)
        self._check(entry, table, names, kinds)
        try:
            run = self._tables.get(self._run_table)
            key = table.key or key_of(table.name, names, run.key[:1] if run else ())
        except Refused as refused:
            self._problem(entry.line, table.name, None, str(refused))
            return None
        for column in key:
            if column not in names:
                self._problem(entry.line, table.name, column, "expected in a row: it is of the key")
        if len(self.problems) > before:
            return None
        self._widen(table, key, dict(zip(names, kinds, strict=True)))
        casts = ((at, cast_of(kind, names[at] in key)) for at, kind in enumerate(kinds))
        return _Shape(
            table, names, upsert(table.name, key, names),
            tuple((at, cast) for at, cast in casts if cast), tuple(map(names.index, key)),
        )  # fmt: skip

    def _check(
        self, entry: Entry, table: _Table, names: tuple[str, ...], kinds: tuple[str, ...]
    ) -> None:
        """Note what the table cannot take: names, types, too many columns."""
        folded = {column.lower(): column for column in table.columns}
        for at, (column, kind) in enumerate(zip(names, kinds, strict=True)):
            known = folded.setdefault(column.lower(), column)
            try:
                if known != column:
                    raise Refused(f"differs from column {known} by case alone")
                check_column(column, kind, self._database.kind)
                before = table.columns.get(column, kind)
                if wider(before, kind) is None:
                    raise Refused(f"{before} expected, as it was imported before, not {kind}")
            except Refused as refused:
                self._problem_at(entry, at, str(refused))
        if not names:
            self._problem(entry.line, table.name, None, "columns expected, there are none")
        if len(folded) > MAX_COLUMNS:
            text = f"at most {MAX_COLUMNS} columns expected, not {len(folded)}"
            self._problem(entry.line, table.name, None, text)

    def _widen(self, table: _Table, key: tuple[str, ...], columns: dict[str, str]) -> None:
        """Give the table the columns, and types, that it has not."""
        new = {column: kind for column, kind in columns.items() if column not in table.columns}
        held = {
            column: str(wider(before, columns[column]))
            for column, before in table.columns.items()
            if column in columns
        }
        changed = {column: kind for column, kind in held.items() if table.columns[column] != kind}
        if not self.problems:
            self._define(table, key, new)
            for column, kind in changed.items():
                self._database.change(
                    "UPDATE runColumn SET type = ? WHERE table_name = ? AND column_name = ?",
                    kind, table.name, column,
                )  # fmt: skip
        table.key = key
        table.columns |= new | changed

    def _define(self, table: _Table, key: tuple[str, ...], new: Mapping[str, str]) -> None:
        """Create the table with these columns, or add them to it."""
        name, change = quoted(table.name), self._database.change
        sql = {column: sql_type(kind, self._database.kind) for column, kind in new.items()}
        if table.columns:
            for column in new:
                change(f"ALTER TABLE {name} ADD COLUMN {quoted(column)} {sql[column]}")
        else:
            lines = [f"{quoted(c)} {sql[c]}{' NOT NULL' * (c in key)}" for c in new]
            lines += [f"PRIMARY KEY ({sql_list(key)})"] if key else []
            change(f"CREATE TABLE {name} ({', '.join(lines)})")
        first = len(table.columns)
        self._database.change_many(
            "INSERT INTO runColumn (table_name, column_name, type, position, is_key)"
            " VALUES (?, ?, ?, ?, ?)",
            [
                (table.name, column, kind, position, int(column in key))
                for position, (column, kind) in enumerate(new.items(), first)
            ],
        )

    def _enlist(self) -> None:
        """Remember which tables the kind of run has."""
        known = self._database.rows(
            "SELECT table_name, position FROM runTable WHERE run_table = ?", self._run_table
        )
        names = {row[0] for row in known}
        position = max((row[1] for row in known), default=-1)
        for table in self._tables.values():
            if table and table.rows and table.key and table.name not in names:
                position += 1
                self._database.change(
                    "INSERT INTO runTable (run_table, table_name, position) VALUES (?, ?, ?)",
                    self._run_table, table.name, position,
                )  # fmt: skip
