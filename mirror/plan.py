"""What is new and wanted: products, filesets after the last one, the files of a fileset.

Pure decisions: rows in, decisions out. Nothing here touches disk, network or state.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from fnmatch import fnmatchcase

from mirror.errors import IntegrityError
from mirror.listing import FileRow, FilesetRow, Header, Malformed

MAX_SHOWN = 3
"""Malformed rows of one fileset that are told one by one."""


def is_glob(pattern: str) -> bool:
    """Whether a name of `products` is to be matched, not taken as it stands."""
    return any(sign in pattern for sign in "*?[")


def wanted_products(
    shown: Iterable[str], patterns: Sequence[str], hidden: Sequence[str]
) -> tuple[list[str], list[str]]:
    """The products to mirror, in the order they are asked for, and the patterns nothing matches.

    `shown` are the products of the root list; `hidden` are asked for although it has them not.
    """
    shown = list(shown)
    names: dict[str, None] = {}
    unmatched = []
    for pattern in patterns:
        found = [name for name in shown if fnmatchcase(name, pattern)]
        if not found:
            unmatched.append(pattern)
        names.update(dict.fromkeys(found))
    names.update(dict.fromkeys(hidden))
    return list(names), [one for one in unmatched if one not in hidden]


@dataclass(frozen=True, slots=True)
class Selection:
    """Which filesets of a product are wanted: `select` and `since` of the configuration."""

    select: Mapping[str, tuple[str, ...]]
    since: datetime | str | None

    @property
    def key(self) -> str:
        """A text that changes when the selection does."""
        return repr((sorted(self.select.items()), str(self.since)))

    @property
    def since_name(self) -> str | None:
        """The fileset after which filesets are wanted, if `since` names one."""
        return self.since if isinstance(self.since, str) else None

    def missing_columns(self, header: Header) -> list[str]:
        """The columns that `select` asks for and the list does not have."""
        return [column for column in self.select if column not in header.names]

    def wants(self, row: FilesetRow) -> bool:
        """Whether the columns of `row` fit `select` and its time fits a `since` time."""
        if isinstance(self.since, datetime):
            oldest = self.since.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            if row.registered < oldest:
                return False
        if not self.select:
            return True
        columns = row.columns()
        return all(
            any(fnmatchcase(columns.get(column) or "null", glob) for glob in globs)
            for column, globs in self.select.items()
        )


class Verdict(Enum):
    """What a row of a product's list is, next to what we know of that fileset."""

    NEW = "new"
    SAME = "same"
    AGAIN = "registered again, later"
    CONFLICT = "registered otherwise, not later"
    FOUND = "found in the tree, its registration not known yet"


@dataclass(frozen=True, slots=True)
class Known:
    """What state.db holds of a fileset that a list shows again."""

    id: int
    registered: str
    type: str
    state: str
    held: bool
    gone: bool


def judge(row: FilesetRow, known: Known | None) -> Verdict:
    """Compare a listed fileset with the known one of that name (FAULTS L2, L11)."""
    if known is None:
        return Verdict.NEW
    if not known.registered:
        return Verdict.FOUND
    if (row.registered, row.type) == (known.registered, known.type):
        return Verdict.SAME
    return Verdict.AGAIN if row.registered > known.registered else Verdict.CONFLICT


class Kind(Enum):
    """What a listed file is to a mirror (PROTOCOL section 3)."""

    BUNDLE = "bundle"
    DBINFO = "dbinfo"
    DIRINFO = "dirinfo"
    BESIDE = "beside dbinfo"
    PLAIN = "plain"


@dataclass(frozen=True, slots=True)
class PlannedFile:
    """One file of a fileset, what it is, and the component it belongs to."""

    row: FileRow
    kind: Kind
    component: str | None


@dataclass(frozen=True, slots=True)
class FilesetPlan:
    """The files of a fileset; `has_dirinfo` tells a distribution fileset from plain files."""

    files: tuple[PlannedFile, ...]
    has_dirinfo: bool
    warnings: tuple[str, ...]

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return sum(one.row.size for one in self.files)


def plan_fileset(rows: Iterable[FileRow | Malformed]) -> FilesetPlan:
    """Decide what each listed file is.

    Raises IntegrityError for a malformed row, or one name with two contents (FAULTS L2, L14).
    """
    files: dict[str, FileRow] = {}
    bad: list[Malformed] = []
    warnings = []
    for row in rows:
        if isinstance(row, Malformed):
            bad.append(row)
        elif (first := files.setdefault(row.name, row)) is not row:
            if first.cells != row.cells:
                raise IntegrityError(
                    f"{row.name} is listed twice with different contents "
                    f"(lines {first.line} and {row.line} of index.txt)"
                )
            warnings.append(f"{row.name} is listed twice (lines {first.line} and {row.line})")
    if bad:
        told = "; ".join(f"line {one.line}: {one.reason}" for one in bad[:MAX_SHOWN])
        more = f"; and {len(bad) - MAX_SHOWN} more" if len(bad) > MAX_SHOWN else ""
        raise IntegrityError(f"malformed rows in index.txt: {told}{more}")
    return _plan(list(files.values()), tuple(warnings))


def _plan(rows: list[FileRow], warnings: tuple[str, ...]) -> FilesetPlan:
    infos = [_info_kind(row) for row in rows]
    if Kind.DIRINFO not in infos:
        plain = tuple(PlannedFile(row, Kind.PLAIN, None) for row in rows)
        return FilesetPlan(plain, False, warnings)
    for kind in (Kind.DIRINFO, Kind.DBINFO):
        if infos.count(kind) > 1:
            raise IntegrityError(f"index.txt lists {infos.count(kind)} files that are {kind.value}")
    files = []
    seen: dict[str, str] = {}
    for row, info in zip(rows, infos, strict=True):
        component = _component(row)
        kind = info or (Kind.BUNDLE if row.type.lower() == "tgz" else Kind.BESIDE)
        if kind is Kind.BUNDLE:
            if not component:
                raise IntegrityError(f"{row.name}: a bundle without a component in index.txt")
            if component in seen:
                raise IntegrityError(
                    f"{row.name} and {seen[component]} are bundles of the same component "
                    f"{component}"
                )
            seen[component] = row.name
        files.append(PlannedFile(row, kind, component))
    return FilesetPlan(tuple(files), True, warnings)


def _component(row: FileRow) -> str | None:
    """The component column; where the header does not name it, the first one after the fixed."""
    for name, value in row.columns().items():
        if name.lower() == "component":
            return value
    extra = row.extra()
    return extra[0] if extra and extra[0] and extra[0] != "null" else None


def _info_kind(row: FileRow) -> Kind | None:
    """DBINFO or DIRINFO, by component, or by name where a list has no such column."""
    if row.type.lower() not in ("text", "mdc", "notset"):
        return None
    component = _component(row)
    for kind in (Kind.DBINFO, Kind.DIRINFO):
        named = row.name.startswith(f"{kind.value}.") and row.name.endswith(".mdc")
        if component == kind.value or (component is None and named):
            return kind
    return None
