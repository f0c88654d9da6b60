"""A catalogue's or blackboard's file that is moved, replaced or robbed of its log while processes
have it open: what they or others have committed is not lost by what a process does then."""

import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from client import PROJECT

from server.database import Database, Pool, Unavailable, connect
from server.site import SqliteFile

WRITER = """
import sys
from pathlib import Path
from server.database import connect
from server.site import SqliteFile
database = connect(SqliteFile(Path(sys.argv[1])))
for line in sys.stdin:
    for _ in range(10):
        database.change("INSERT INTO t VALUES (1)")
    print("written", flush=True)
database.close()
"""


@pytest.fixture
def place(tmp_path: Path) -> SqliteFile:
    """A file with a table of one row, closed."""
    place = SqliteFile(tmp_path / "catalogue.db")
    with closing(connect(place, create=True)) as database:
        database.change("CREATE TABLE t (n INTEGER)")
        database.change("INSERT INTO t VALUES (0)")
    return place


def rows(database: Database) -> int:
    row = database.row("SELECT count(*) FROM t")
    assert row
    return int(row[0])


def counted(place: SqliteFile) -> int:
    """The rows that a process sees which has not had the file open before."""
    script = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]);"
        "assert c.execute('PRAGMA integrity_check').fetchall() == [('ok',)];"
        "print(c.execute('SELECT count(*) FROM t').fetchone()[0])"
    )
    words = [sys.executable, "-c", script, str(place.path)]
    return int(subprocess.run(words, capture_output=True, text=True, check=True).stdout)


def writer(place: SqliteFile) -> "subprocess.Popen[str]":
    """A process that commits ten rows for each line it is given."""
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(place.path)], cwd=PROJECT, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip


def write_ten(process: "subprocess.Popen[str]") -> None:
    assert process.stdin
    assert process.stdout
    process.stdin.write("\n")
    process.stdin.flush()
    assert process.stdout.readline() == "written\n"


def test_a_file_that_is_moved_away_and_back_has_all_that_was_committed(place: SqliteFile) -> None:
    """Its log, too, which nobody has removed meanwhile."""
    pool, aside = Pool(place), place.path.with_name("aside")
    with pool.borrow() as database:
        for _ in range(100):
            database.change("INSERT INTO t VALUES (1)")
    place.path.rename(aside)
    with pytest.raises(Exception, match=r"no catalogue at|it is gone"), pool.borrow():
        pass
    aside.rename(place.path)
    assert counted(place) == 101
    with pool.borrow() as database:
        assert rows(database) == 101
        database.change("INSERT INTO t VALUES (1)")
    pool.close()
    assert counted(place) == 102


def test_a_copy_that_is_brought_back_keeps_what_is_committed_then(place: SqliteFile) -> None:
    """A server has the old file open, looks once while its log is gone, and again later."""
    copy = place.path.with_name("copy")
    copy.write_bytes(place.path.read_bytes())
    pool = Pool(place)
    with pool.borrow() as database:
        database.change("INSERT INTO t VALUES (1)")
    for log in ("-wal", "-shm"):
        place.path.with_name(f"{place.path.name}{log}").unlink()
    with pytest.raises(Unavailable, match="its -wal was removed"), pool.borrow():
        pass
    os.replace(copy, place.path)
    process = writer(place)
    try:
        write_ten(process)
        with pool.borrow() as database:
            assert rows(database) == 11
        write_ten(process)
    finally:
        process.communicate()
    assert process.returncode == 0
    with pool.borrow() as database:
        assert rows(database) == 21
    pool.close()
    assert counted(place) == 21


def test_a_log_that_was_removed_is_not_written_over_what_came_after(place: SqliteFile) -> None:
    pool = Pool(place)
    with pool.borrow() as database:
        for _ in range(50):
            database.change("INSERT INTO t VALUES (1)")
    for log in ("-wal", "-shm"):
        place.path.with_name(f"{place.path.name}{log}").unlink()
    process = writer(place)
    write_ten(process)
    for _ in range(2):
        with pytest.raises(Unavailable, match="end this process and start it again"), pool.borrow():
            pass
    pool.close()
    write_ten(process)
    process.communicate()
    assert counted(place) == 21


def test_a_replaced_file_leaves_the_log_of_the_new_one_alone(place: SqliteFile) -> None:
    copy = place.path.with_name("copy")
    copy.write_bytes(place.path.read_bytes())
    with closing(connect(place)) as old:
        old.change("INSERT INTO t VALUES (1)")
        for log in ("-wal", "-shm"):
            place.path.with_name(f"{place.path.name}{log}").unlink()
        os.replace(copy, place.path)
        process = writer(place)
        write_ten(process)
    assert counted(place) == 11
    write_ten(process)
    process.communicate()
    assert counted(place) == 21
