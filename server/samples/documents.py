"""The documents of a sample run: its rows as an exported run has them, and config dumps.

Their forms are those of PROTOCOL sections 3 and 5.
"""

from collections.abc import Mapping, Sequence

Field = tuple[str, str, object]
"""A column of a row: name, type, value."""

Row = Sequence[Field]

Tables = Mapping[str, Sequence[Row]]
"""The rows of a run, by table."""

Paths = Sequence[tuple[str, str]]
"""Rules and the paths of their files."""

_RECIPE: Row = (
    ("REFERENCE", "STR", "neb://ipp004.0/catalogs/synth.grizy  # not a file of this run"),
    ("NSIGMA", "F32", "5.0"), ("SAVE.LOG", "BOOL", "T"),
)  # fmt: skip


def exported(tables: Tables) -> str:
    """The rows of a run as it is exported (dbinfo): the database's version, then the tables."""
    version = _table("dbversion", [[("schema_version", "STR", "1.1.53")]])
    return version + "".join(_table(name, rows) for name, rows in tables.items())


def dump(title: str, inputs: Paths, outputs: Paths) -> bytes:
    """The configuration a program ran with; of its paths, only the two FILES blocks are ours."""
    text = (
        f"# {title}\n"
        f"CAMERA           STR     gpc1\n"
        f"RECIPE METADATA\n{_fields(_RECIPE)}END\n\n"
        f"FILES.INPUT METADATA\n{_paths(inputs)}END\n\n"
        f"FILES.OUTPUT METADATA\n{_paths(outputs)}END\n"
    )
    return text.encode()


def log(program: str, name: str, count: int) -> bytes:
    """What a program wrote into its log: that it measured `count` stars."""
    return f"{program}: begins with {name}\n{program}: {count} stars measured\n".encode()


def _table(name: str, rows: Sequence[Row]) -> str:
    blocks = "".join(f"{name} METADATA\n{_fields(row)}END\n\n" for row in rows)
    return f"{name} MULTI\n\n{blocks}"


def _fields(row: Row) -> str:
    return "".join(f"   {name:<16} {kind:<7} {value}\n" for name, kind, value in row)


def _paths(paths: Paths) -> str:
    rules = [rule for rule, _ in paths]
    repeated = "".join(
        f"   {rule} MULTI\n" for rule in dict.fromkeys(rules) if rules.count(rule) > 1
    )
    return repeated + _fields([(rule, "STR", path) for rule, path in paths])
