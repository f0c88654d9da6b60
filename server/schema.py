"""The tables of the catalogue, and how a database gets from one version of them to the next.

Names and columns of the ds* tables are the original's (PROTOCOL section 4); what we add to them
is said beside it.
"""

from mirror import run_tables
from mirror.errors import LocalError
from server.database import Database

COLUMNS = 8
"""Columns of its own that a product, and a file type, can have (PROTOCOL section 2)."""


def _texts(name: str) -> str:
    return ", ".join(f"{name}_{number} TEXT" for number in range(COLUMNS))


# {serial}: a number that is never given twice, even if its row is deleted.
_STORE = f"""
CREATE TABLE dsProduct (
    prod_id {{serial}},
    prod_name TEXT NOT NULL,
    last_update TEXT NOT NULL,
    last_fs TEXT,
    type TEXT NOT NULL,
    description TEXT NOT NULL,
    hide INTEGER NOT NULL DEFAULT 0,
    {_texts("prod_col")},
    UNIQUE (prod_name)
);
CREATE UNIQUE INDEX dsProduct_folded ON dsProduct (lower(prod_name));
CREATE TABLE dsFileset (
    fileset_id {{serial}},
    prod_id BIGINT NOT NULL REFERENCES dsProduct (prod_id) ON DELETE CASCADE,
    fileset_name TEXT NOT NULL,
    reg_time TEXT NOT NULL,
    hide INTEGER NOT NULL DEFAULT 0,
    type TEXT NOT NULL,
    {_texts("prod_col")},
    UNIQUE (prod_id, fileset_name)
);
CREATE UNIQUE INDEX dsFileset_folded ON dsFileset (prod_id, lower(fileset_name));
CREATE INDEX dsFileset_listed ON dsFileset (prod_id, hide, fileset_id);
CREATE TABLE dsFile (
    file_id {{serial}},
    fileset_id BIGINT NOT NULL REFERENCES dsFileset (fileset_id) ON DELETE CASCADE,
    file_name TEXT NOT NULL,
    bytes BIGINT NOT NULL,
    md5sum TEXT NOT NULL,
    type TEXT NOT NULL,
    {_texts("type_col")},
    UNIQUE (fileset_id, file_name)
);
CREATE UNIQUE INDEX dsFile_folded ON dsFile (fileset_id, lower(file_name));
CREATE INDEX dsFile_listed ON dsFile (fileset_id, file_id);
CREATE TABLE dsFileType (type TEXT PRIMARY KEY, {_texts("type_col")});
INSERT INTO dsFileType (type, type_col_0) VALUES
    ('chip', 'chipname'), ('tgz', 'component'), ('text', 'component'), ('table', NULL),
    ('chipproc', NULL), ('warp', NULL), ('stack', NULL), ('diff', NULL), ('psrequest', NULL),
    ('psresults', NULL), ('pstamp', NULL), ('ipp-mops', NULL), ('xml', NULL), ('fits', NULL),
    ('IPP-MOPS', NULL), ('IPP-PSPS', NULL), ('ipp-psps', NULL), ('notset', NULL)
"""

# Who may have what of a product: nobody named means everybody.
_ACCESS = """
CREATE TABLE dsUser (user_name TEXT PRIMARY KEY, password TEXT NOT NULL);
CREATE TABLE dsGrant (
    prod_id BIGINT NOT NULL REFERENCES dsProduct (prod_id) ON DELETE CASCADE,
    user_name TEXT NOT NULL REFERENCES dsUser (user_name) ON DELETE CASCADE,
    PRIMARY KEY (prod_id, user_name)
);
CREATE TABLE dsNetwork (
    prod_id BIGINT NOT NULL REFERENCES dsProduct (prod_id) ON DELETE CASCADE,
    network TEXT NOT NULL,
    PRIMARY KEY (prod_id, network)
)
"""

# What was withdrawn, with the first id it ever had: a client whose last fileset it is has seen
# nothing of what came after that, even if it was registered again since.
_WITHDRAWN = """
CREATE TABLE dsWithdrawn (
    prod_name TEXT NOT NULL,
    fileset_name TEXT NOT NULL,
    fileset_id BIGINT NOT NULL,
    PRIMARY KEY (prod_name, fileset_name)
)
"""

# Whom finished runs are distributed to, and how far that is. Beyond the columns of PROTOCOL
# section 4: comments, what a fault said, and what a run is called in the product's list.
_DISTRIBUTION = """
CREATE TABLE distTarget (
    target_id {serial},
    dist_group TEXT NOT NULL,
    filter TEXT NOT NULL,
    stage TEXT NOT NULL,
    clean INTEGER NOT NULL,
    state TEXT NOT NULL,
    comment TEXT,
    UNIQUE (dist_group, filter, stage, clean)
);
CREATE TABLE rcDestination (
    dest_id {serial},
    name TEXT NOT NULL UNIQUE,
    product TEXT NOT NULL,
    status_uri TEXT,
    last_fileset TEXT,
    state TEXT NOT NULL,
    comment TEXT
);
CREATE TABLE rcInterest (
    dest_id BIGINT NOT NULL REFERENCES rcDestination (dest_id),
    target_id BIGINT NOT NULL REFERENCES distTarget (target_id),
    state TEXT NOT NULL,
    PRIMARY KEY (dest_id, target_id)
);
CREATE INDEX rcInterest_target ON rcInterest (target_id);
CREATE TABLE distRun (
    dist_id {serial},
    target_id BIGINT NOT NULL REFERENCES distTarget (target_id),
    stage TEXT NOT NULL,
    stage_id BIGINT NOT NULL,
    label TEXT,
    outdir TEXT NOT NULL,
    clean INTEGER NOT NULL,
    state TEXT NOT NULL,
    fault INTEGER NOT NULL DEFAULT 0,
    message TEXT,
    exp_name TEXT,
    data_group TEXT,
    filter TEXT
);
CREATE INDEX distRun_of ON distRun (target_id, stage_id);
CREATE INDEX distRun_state ON distRun (state, dist_id);
CREATE TABLE distComponent (
    dist_id BIGINT NOT NULL REFERENCES distRun (dist_id) ON DELETE CASCADE,
    component TEXT NOT NULL,
    bytes BIGINT,
    md5sum TEXT,
    outdir TEXT NOT NULL,
    name TEXT,
    state TEXT NOT NULL,
    fault INTEGER NOT NULL DEFAULT 0,
    message TEXT,
    PRIMARY KEY (dist_id, component)
);
CREATE INDEX distComponent_state ON distComponent (state, dist_id);
CREATE TABLE rcDSFileset (
    fs_id {serial},
    dist_id BIGINT NOT NULL REFERENCES distRun (dist_id),
    dest_id BIGINT NOT NULL REFERENCES rcDestination (dest_id),
    name TEXT NOT NULL,
    state TEXT NOT NULL,
    fault INTEGER NOT NULL DEFAULT 0,
    message TEXT,
    UNIQUE (dist_id, dest_id)
);
CREATE INDEX rcDSFileset_name ON rcDSFileset (dest_id, name);
CREATE TABLE rcRun (
    rc_id {serial},
    fs_id BIGINT NOT NULL UNIQUE REFERENCES rcDSFileset (fs_id),
    dest_id BIGINT NOT NULL REFERENCES rcDestination (dest_id),
    state TEXT NOT NULL,
    status_fs_name TEXT,
    fault INTEGER NOT NULL DEFAULT 0,
    message TEXT
)
"""

# Whom detections are published to. `attempted`: when, in UTC; `message`: what a fault said.
_PUBLISHING = """
CREATE TABLE publishClient (
    client_id {serial},
    active INTEGER NOT NULL,
    product TEXT NOT NULL,
    stage TEXT NOT NULL,
    workdir TEXT NOT NULL,
    comment TEXT,
    name TEXT,
    output_format TEXT
);
CREATE TABLE publishRun (
    pub_id {serial},
    client_id BIGINT NOT NULL REFERENCES publishClient (client_id),
    stage_id BIGINT NOT NULL,
    label TEXT,
    state TEXT NOT NULL
);
CREATE INDEX publishRun_of ON publishRun (client_id, stage_id);
CREATE INDEX publishRun_state ON publishRun (state, pub_id);
CREATE TABLE publishDone (
    pub_id BIGINT PRIMARY KEY REFERENCES publishRun (pub_id),
    path_base TEXT NOT NULL,
    hostname TEXT,
    dtime_script DOUBLE PRECISION,
    fault INTEGER NOT NULL,
    message TEXT,
    attempted TEXT NOT NULL
)
"""

# What a blackboard was told of runs (site block BLACKBOARD). `place`: which one, and the type.
_POSTS = """
CREATE TABLE runPost (
    kind TEXT NOT NULL,
    run_id BIGINT NOT NULL,
    place TEXT NOT NULL,
    dataset TEXT NOT NULL,
    letters TEXT NOT NULL,
    PRIMARY KEY (kind, run_id)
)
"""

STEPS = (_STORE, _ACCESS, _WITHDRAWN, run_tables.SCHEMA, _DISTRIBUTION, _PUBLISHING, _POSTS)
"""What leads from each version to the next; a database that runs all of them is of the newest."""

VERSION = len(STEPS)

_SERIAL = {
    "sqlite": "INTEGER PRIMARY KEY AUTOINCREMENT",
    "postgres": "BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY",
}


def migrate(database: Database, target: int = VERSION) -> None:
    """Bring the tables to version `target`, from an empty database or any earlier version.

    All or nothing, and once only, however many processes begin it together. Raises LocalError for
    a database that a newer version has written.
    """
    if version_of(database) == target:
        return
    with database.write():
        _lock(database)
        version = version_of(database)
        for number in range(version, target):
            for statement in STEPS[number].split(";"):
                database.change(statement.replace("{serial}", _SERIAL[database.kind]))
        if version < target:
            database.change("DELETE FROM dsVersion")
            database.change("INSERT INTO dsVersion (version) VALUES (?)", target)


def version_of(database: Database) -> int:
    """The version of the tables, 0 where there are none."""
    if not _has_versions(database):
        return 0
    row = database.row("SELECT version FROM dsVersion")
    version = int(row[0]) if row else 0
    if version > VERSION:
        raise LocalError(
            f"the catalogue was written by a newer version of this program (tables {version},"
            f" known are {VERSION}); install that version, nothing was changed"
        )
    return version


def _has_versions(database: Database) -> bool:
    if database.kind == "sqlite":
        return bool(database.row("SELECT 1 FROM sqlite_master WHERE name = 'dsVersion'"))
    return bool(database.row("SELECT 1 WHERE to_regclass('dsversion') IS NOT NULL"))


def _lock(database: Database) -> None:
    if database.kind == "postgres":
        # Held to the end of the transaction; any number that nobody else here uses.
        database.row("SELECT pg_advisory_xact_lock(1129595219)")
    database.change("CREATE TABLE IF NOT EXISTS dsVersion (version INTEGER NOT NULL)")
