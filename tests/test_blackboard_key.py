"""blackboard: what the client posts for each fileset, and `osf post`, which writes it."""

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from pathlib import Path

import faults
import pytest
from boards import FETCHING, TYPE, WAITING, BoardSite, board_site, join, letters, named_site
from client import PATIENCE, PROJECT, MirrorSite, Ran
from inject import STATEMENTS, Ended, Forks, Plan
from runs import chip_run
from simulator import Product, Simulator
from states import queue
from trial import WORKERS, ground
from xpolls import GUARDED

from formats.path_file import read_path_file
from mirror import database as tables
from mirror.errors import ConfigError
from mirror.owed import _UNPOSTED
from mirror.records import DONE, QUEUED, SKIPPED, NewFileset, Post
from mirror.state import State
from server.blackboard import Blackboard, Key, open_blackboard
from server.opus import osf, post
from server.site import Place, SqliteFile
from server.store_lock import ConflictError

SILENT = Ran(0, "", "")
_EXAMPLE = (PROJECT / "examples/opus/mirror_pipeline.stage").read_text(encoding="utf-8")
STAGE_FILE = _EXAMPLE.partition("STAGE07")[0].replace("NSTAGE = 7", "NSTAGE = 6")
"""The steps of the mirror and IN, a stage of the site's own."""
SMALL = {"a.fits": b"SIMPLE"}
LISTED, MIRRORED = "cwwww_", "ccccc_"


# osf post


class Osf:
    """`osf post` on the path blue, whose stages are LI, FE and DN."""

    def __init__(self, site: BoardSite, capsys: pytest.CaptureFixture[str]) -> None:
        self.site = site
        self._capsys = capsys

    def __call__(self, lines: str, status: int = 0, more: Sequence[str] = ()) -> list[str]:
        """Post a list; returns the answers."""
        path = self.site.directory / "list"
        path.write_text(lines, encoding="utf-8")
        call = ["post", "-p", "blue", "-t", TYPE, "--list", str(path), *more]
        assert osf.main(call) == status
        said = self._capsys.readouterr()
        assert said.err == ""
        return said.out.splitlines()

    def letters(self, dataset: str) -> str:
        with self.site.board() as board:
            return letters(board.find(Key(dataset, TYPE)))

    def history(self) -> list[tuple[str, str]]:
        with self.site.board() as board:
            return [(one.what, one.key.dataset) for one in board.history()]


@pytest.fixture
def command(
    tmp_path: Path,
    board_place: Place,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Osf:
    return Osf(named_site(tmp_path, board_place, monkeypatch), capsys)


class TestPost:
    def test_an_entry_is_made_then_changed_then_left_as_it_is(self, command: Osf) -> None:
        assert command("fs0|LI=c,FE=w|\n") == ["fs0|created||"]
        assert command("# ours\n\nfs0|FE=c|\nfs1|LI=c|\n") == ["fs0|updated||", "fs1|created||"]
        assert command("fs0|LI=C,FE=c|\nfs1|LI=c|\n") == ["fs0|unchanged||", "fs1|unchanged||"]
        assert (command.letters("fs0"), command.letters("fs1")) == ("cc_", "c__")
        assert command.history() == [
            ("created", "fs0"), ("created", "fs0"), ("updated", "fs0"), ("created", "fs1"),
        ]  # fmt: skip

    def test_anew_every_letter_and_every_claim_is_gone(self, command: Osf) -> None:
        command("fs0|LI=c,FE=w,DN=c|\n")
        with command.site.board() as board:
            holder = join(board)
            assert board.claim(WAITING, FETCHING, 1, holder)
            assert command("fs0|LI=w|anew|\nfs1|LI=w|anew|\n") == [
                "fs0|created||", "fs1|created||",
            ]  # fmt: skip
            with pytest.raises(ConflictError):
                board.settle(holder, Key("fs0", TYPE), {"FE": "c"})
        assert (command.letters("fs0"), command.letters("fs1")) == ("w__", "w__")

    def test_a_line_that_can_be_no_entry_stops_no_other(self, command: Osf) -> None:
        said = command(f"f s|LI=c|\nfs1|LI=c|\n{'f' * 256}|LI=c|\nfs2|LI=c|\n", status=1)
        assert [line.split("|")[1] for line in said] == ["refused", "created"] * 2
        assert said[0].startswith("f s|refused|dataset: a name without blanks")
        assert (command.letters("fs1"), command.letters("fs2")) == ("c__", "c__")

    @pytest.mark.parametrize(
        ("line", "told"),
        [
            pytest.param("fs0|LI=c", "line 2: DATASET|XX=s,YY=s| expected", id="no end"),
            pytest.param("fs0|", "line 2: DATASET|XX=s,YY=s| expected", id="no states"),
            pytest.param("fs0", "line 2: DATASET|XX=s,YY=s| expected", id="no cell"),
            pytest.param("fs0||", "line 2: DATASET|XX=s,YY=s| expected", id="empty states"),
            pytest.param("fs0|LI=cc|", "line 2: DATASET|XX=s,YY=s| expected", id="two letters"),
            pytest.param("fs0|LI=c,LI=w|", "line 2: DATASET|XX=s,YY=s| expected", id="twice"),
            pytest.param("fs0|LI=c|new|", "line 2: DATASET|XX=s,YY=s| expected", id="no anew"),
            pytest.param("fs0|LI=c|anew", "line 2: DATASET|XX=s,YY=s| expected", id="anew, no end"),
            pytest.param("fs0|UN=c|", "line 2: UN: a stage of ", id="no such stage"),
            pytest.param("fs0|DN=w|", "line 2: DN=w: a letter of ", id="no such letter"),
        ],
    )
    def test_nothing_is_posted_of_a_list_with_a_wrong_line(
        self, command: Osf, line: str, told: str
    ) -> None:
        with pytest.raises(ConfigError) as caught:
            command(f"fs1|LI=c|\n{line}\nfs2|LI=c|\n")
        assert len(caught.value.problems) == 1
        assert told in str(caught.value)
        assert command.history() == []

    def test_nothing_is_written_for_a_process_that_has_ended(self, command: Osf) -> None:
        assert command("fs0|LI=c|\n", more=["--parent", str(os.getppid())])
        with pytest.raises(ConflictError, match="has ended"):
            command("fs1|LI=c|\n", more=["--parent", str(os.getpid())])
        assert command.history() == [("created", "fs0")]

    def test_a_batch_is_one_transaction_and_answered_when_it_is_durable(
        self, command: Osf, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert post.BATCH == 500
        monkeypatch.setattr(post, "BATCH", 2)
        bring = Blackboard._bring

        def broken(*given: object) -> str:
            if given[2].key.dataset == "fs3":  # type: ignore[attr-defined]
                raise ConflictError("fs3")
            return bring(*given)  # type: ignore[arg-type]

        lines = "".join(f"fs{number}|LI=c|\n" for number in range(5))
        with monkeypatch.context() as patched:
            patched.setattr(Blackboard, "_bring", broken)
            with pytest.raises(ConflictError):
                command(lines)
        assert capsys.readouterr().out == "fs0|created||\nfs1|created||\n"
        assert command.history() == [("created", "fs0"), ("created", "fs1")]
        assert [line.split("|")[1] for line in command(lines)] == ["unchanged"] * 2 + [
            "created"
        ] * 3


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["post", "-t", TYPE], "--list is missing"),
        (["post", "--list", "-"], "-t is missing"),
        (["post", "-t", TYPE, "--list", "-", "-f", "fs0"], "-f does not go with it"),
        (["post", "-t", TYPE, "--list", "-", "-s", "LI=c"], "-s does not go with it"),
        (["list", "--list", "-"], "--list does not go with it"),
    ],
    ids=lambda given: given if isinstance(given, str) else "",
)
def test_options_of_a_call_that_has_no_meaning_are_told(
    tmp_path: Path, words: list[str], told: str
) -> None:
    board_site(tmp_path, SqliteFile(tmp_path))
    with pytest.raises(ConfigError, match=told):
        osf.main([*words, "-p", str(tmp_path / "blue.path")])


def test_the_list_comes_by_standard_input_and_anybody_may_begin_the_board(tmp_path: Path) -> None:
    board_site(tmp_path, SqliteFile(tmp_path))
    ran = subprocess.run(
        [sys.executable, "-m", "server", "osf", "post", "-p", f"{tmp_path}/blue.path",
         "-t", TYPE, "--list", "-"],
        input="\N{BYTE ORDER MARK}fs0|LI=c|\r\nf s|LI=c|\n", cwd=PROJECT, capture_output=True,
        text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert (ran.returncode, ran.stderr) == (1, "")
    assert ran.stdout.splitlines()[0] == "fs0|created||"


# The client


class Observatory:
    """A mirror that posts to the path `mirror`, which has stages of the ready-made one."""

    def __init__(self, site: MirrorSite, url: str) -> None:
        self.site = site
        self.url = url
        self.opus = site.directory / "opus"
        self.opus.mkdir()
        (self.opus / "mirror.path").write_text(f"OPUS_OBSERVATIONS_DIR = {self.opus}/obs\n")
        self.stages(STAGE_FILE)
        self.configure()

    @property
    def environ(self) -> dict[str, str]:
        return {"OPUS_DEFINITIONS_DIR": str(self.opus)}

    def stages(self, text: str) -> None:
        (self.opus / "mirror_pipeline.stage").write_text(text, encoding="utf-8")

    def configure(self, **keys: object) -> None:
        given = {"blackboard": {"path": "mirror", "type": "fst"}, "connections": 1} | keys
        self.site.configure(self.url, **given)

    def run(self, *options: str, **environ: str) -> Ran:
        return self.site.run(*options, environ=self.environ | environ)

    def patched(self, change: str) -> Ran:
        """Run with a change of mirror.blackboard, in the words of Python."""
        script = (
            f"import sys; from mirror import blackboard; {change};"
            "import update_mirror; sys.exit(update_mirror.main())"
        )
        ran = subprocess.run(
            [sys.executable, "-c", script, "-c", str(self.site.config)],
            env=self.site.environment(self.environ | {"PYTHONPATH": str(PROJECT)}),
            capture_output=True, text=True, timeout=PATIENCE, check=False,
        )  # fmt: skip
        return Ran(ran.returncode, ran.stdout, ran.stderr)

    def board(self) -> dict[str, str]:
        """The entries, in their order, and their letters."""
        with self._opened() as board:
            assert {entry.key[1:] for entry in board.entries()} <= {("fst", "000")}
            return {entry.key.dataset: letters(entry) for entry in board.entries()}

    def history(self, dataset: str) -> list[tuple[str, str | None, str | None]]:
        with self._opened() as board:
            changes = board.history(Key(dataset, "fst"))
            return [(change.what, change.stage, change.after) for change in changes]

    def update(self, dataset: str, **states: str) -> None:
        """What a process of the site does to an entry."""
        with self._opened() as board:
            board.update(Key(dataset, "fst"), states)

    def _opened(self) -> AbstractContextManager[Blackboard]:
        return open_blackboard(read_path_file(self.opus / "mirror.path", self.environ), {})


@pytest.fixture
def gpc1(simulator: Simulator) -> Product:
    product = simulator.product("gpc1")
    product.add("o1", SMALL)
    product.add("o2", SMALL)
    return product


@pytest.fixture
def mirror(mirror_site: MirrorSite, simulator: Simulator, gpc1: Product) -> Observatory:
    return Observatory(mirror_site, simulator.url)


def test_each_fileset_has_an_entry_with_a_letter_for_each_step(mirror: Observatory) -> None:
    assert mirror.run("--limit", "1") == SILENT
    assert mirror.board() == {"o1": MIRRORED, "o2": LISTED}
    assert mirror.run() == SILENT
    assert mirror.board() == {"o1": MIRRORED, "o2": MIRRORED}


def test_nothing_new_is_posted_and_nobody_is_asked(mirror: Observatory) -> None:
    assert mirror.run() == SILENT
    (mirror.opus / "mirror.path").rename(mirror.opus / "away")
    assert mirror.run() == SILENT


def test_the_path_may_be_a_file_below_the_configuration(mirror: Observatory) -> None:
    mirror.configure(blackboard={"path": "opus/mirror.path", "type": "fst"})
    with (mirror.opus / "mirror.path").open("a") as file:
        file.write(f"STAGE_FILE = {mirror.opus}/mirror_pipeline.stage\n")
    assert mirror.run(OPUS_DEFINITIONS_DIR="") == SILENT
    assert mirror.board() == {"o1": MIRRORED, "o2": MIRRORED}


def broken(number: int, ending: str, data: bytes) -> tuple[str, dict[str, bytes]]:
    """A chip run in which the file with this ending is no good, though it is what is listed."""
    name, files = chip_run(number, ("XY01",))
    return name, {file: data if ending in file else good for file, good in files.items()}


@pytest.mark.parametrize(
    ("fileset", "states"),
    [
        pytest.param(broken(3, ".tgz", b"\x1f\x8b no"), "ccxww_", id="unpacked"),
        pytest.param(
            broken(3, "dbinfo", b"chipRun METADATA\n chip_id S64 3\n"), "cccxw_", id="rewritten"
        ),
        pytest.param(("in the way", {"b.fits": b"1"}), "ccccx_", id="moved in"),
    ],
)
def test_the_step_that_failed_is_known(
    mirror: Observatory, gpc1: Product, fileset: tuple[str, dict[str, bytes]], states: str
) -> None:
    name = fileset[0].replace(" ", "_")
    gpc1.add(name, fileset[1])
    there = mirror.site.root / "data/gpc1/in_the_way/b.fits"
    there.parent.mkdir(parents=True)
    there.write_bytes(b"ours")
    assert mirror.run().exit == 1
    assert mirror.board() == {"o1": MIRRORED, "o2": MIRRORED, name: states}


def test_a_fetch_that_fails_is_posted_once_and_its_end_too(
    mirror: Observatory, simulator: Simulator
) -> None:
    simulator.fault("/gpc1/o1/a.fits", faults.status(500), times=None)
    for _ in range(2):
        assert mirror.run().exit == 1
        assert mirror.board() == {"o1": "cxwww_", "o2": MIRRORED}
    assert mirror.history("o1")[-1] == ("updated", "FE", "x")
    simulator.mend()
    assert mirror.run() == SILENT
    assert mirror.board() == {"o1": MIRRORED, "o2": MIRRORED}


def test_a_fileset_registered_again_begins_anew(mirror: Observatory, gpc1: Product) -> None:
    assert mirror.run() == SILENT
    mirror.update("o1", IN="c")
    mirror.update("o2", IN="c")
    gpc1.register_again("o1", {"a.fits": b"XTENSION"})
    assert mirror.run("--limit", "0").exit == 0
    assert mirror.board() == {"o2": "cccccc", "o1": LISTED}
    assert mirror.run() == SILENT
    assert mirror.board() == {"o2": "cccccc", "o1": MIRRORED}


def test_what_is_posted_again_after_a_kill_changes_nothing(mirror: Observatory) -> None:
    assert mirror.run() == SILENT
    mirror.update("o1", IN="c")
    before = mirror.history("o1")
    mirror.site.change_state("UPDATE fileset SET posted = 0")
    assert mirror.run() == SILENT
    assert mirror.history("o1") == before


def test_a_registration_that_was_posted_and_not_recorded_is_not_done_twice(
    mirror: Observatory, gpc1: Product
) -> None:
    # The second time it begins anew too, but nobody has seen it done in between.
    assert mirror.run() == SILENT
    mirror.site.change_state("UPDATE fileset SET posted = -1 WHERE name = 'o1'")
    assert mirror.patched("blackboard.PAGE = 1") == SILENT
    done = [change for change in mirror.history("o1") if change == ("updated", "DN", "c")]
    assert len(done) == 2, "by the first registration and by the second"
    assert mirror.board()["o1"] == MIRRORED


def test_what_was_mirrored_before_the_key_was_set_is_posted_too(mirror: Observatory) -> None:
    mirror.configure(blackboard=None)
    assert mirror.run() == SILENT
    mirror.configure()
    assert mirror.run() == SILENT
    assert mirror.board() == {"o1": MIRRORED, "o2": MIRRORED}


def test_another_board_is_told_everything(mirror: Observatory) -> None:
    assert mirror.run() == SILENT
    (mirror.opus / "north.path").write_text(
        f"OPUS_OBSERVATIONS_DIR = {mirror.opus}/north\nSTAGE_FILE = "
        f"{mirror.opus}/mirror_pipeline.stage\n"
    )
    mirror.configure(blackboard={"path": "north", "type": "fst"})
    assert mirror.run() == SILENT
    (mirror.opus / "north.path").replace(mirror.opus / "mirror.path")
    assert mirror.board() == {"o1": MIRRORED, "o2": MIRRORED}


def test_every_dataset_may_tell_its_product(mirror: Observatory) -> None:
    """Else the plain name may be that of two filesets on disk; changed, all is posted anew."""
    assert mirror.run("--limit", "1") == SILENT
    mirror.configure(blackboard={"path": "mirror", "type": "fst", "product": True})
    assert mirror.run() == SILENT
    assert mirror.board() == {
        "o1": MIRRORED, "o2": LISTED, "o1@gpc1": MIRRORED, "o2@gpc1": MIRRORED
    }  # fmt: skip


def test_a_state_built_anew_changes_nothing_on_the_board(mirror: Observatory) -> None:
    assert mirror.run() == SILENT
    mirror.update("o1", IN="c")
    (mirror.site.private / "state.db").unlink()
    assert mirror.run("--verify", "--repair").exit == 0
    assert mirror.run() == SILENT
    assert mirror.board() == {"o1": "cccccc", "o2": MIRRORED}


def test_filesets_of_one_name_have_an_entry_each(mirror: Observatory, simulator: Simulator) -> None:
    simulator.product("gpc2").add("o2", SMALL)
    mirror.configure(products=["gpc2", "gpc1"])
    assert mirror.run() == SILENT
    assert mirror.board() == {"o2": MIRRORED, "o1": MIRRORED, "o2@gpc1": MIRRORED}
    simulator.product("gpc3").add("o2", SMALL)
    mirror.configure(products=["gpc1", "gpc3"])
    assert mirror.run() == SILENT
    assert mirror.board().keys() == {"o2", "o1", "o2@gpc1", "o2@gpc3"}


@pytest.mark.parametrize(
    ("stages", "told"),
    [
        pytest.param("NSTAGE = x\n", "NSTAGE", id="unreadable"),
        pytest.param(STAGE_FILE.replace("= UN", "= UV"), "UN: a stage of ", id="a stage short"),
        pytest.param(
            STAGE_FILE.replace("STAGE05.CSTATUS.C = Done", ""), "DN=c: a letter", id="a letter"
        ),
    ],
)
def test_a_board_that_cannot_be_written_is_one_line_and_owed(
    mirror: Observatory, stages: str, told: str
) -> None:
    mirror.stages(stages)
    for _ in range(2):
        ran = mirror.run()
        assert ran.exit == 1
        assert len(ran.stderr.splitlines()) == 1
        assert "update_mirror: blackboard mirror: osf: " in ran.stderr
        assert told in ran.stderr
        assert ran.stderr.endswith("; posted with the next run\n")
    assert len(mirror.site.visible()) == 4, "all is mirrored"
    mirror.stages(STAGE_FILE)
    assert mirror.run() == SILENT
    assert mirror.board() == {"o1": MIRRORED, "o2": MIRRORED}


def test_a_name_that_no_entry_may_have_is_trouble_and_stops_no_other(
    mirror: Observatory, gpc1: Product
) -> None:
    gpc1.add("o 3", SMALL)
    gpc1.add("o4", SMALL)
    for _ in range(2):
        ran = mirror.run()
        assert ran.exit == 1
        assert len(ran.stderr.splitlines()) == 1
        assert "gpc1/o 3: blackboard mirror: dataset: a name without blanks" in ran.stderr
    assert mirror.board() == dict.fromkeys(("o1", "o2", "o4"), MIRRORED)


def test_more_than_a_page_is_posted_in_one_run_and_some_while_it_goes_on(
    mirror: Observatory, gpc1: Product
) -> None:
    for number in range(3, 10):
        gpc1.add(f"o{number}", SMALL)
    # What is posted at the end would hide what was not before: here nothing is.
    ran = mirror.patched(
        "blackboard.PAGE, blackboard.EVERY = 4, 3; blackboard.Poster.finish = lambda _: None"
    )
    assert ran == SILENT
    seen = mirror.board()
    assert list(seen) == [f"o{number}" for number in range(1, 10)]
    assert mirror.run() == SILENT
    assert set(mirror.board().values()) == {MIRRORED}


@pytest.mark.parametrize("options", [["--verify"], ["--dry-run"], ["--status"]], ids=" ".join)
def test_who_only_looks_posts_nothing(mirror: Observatory, options: list[str]) -> None:
    mirror.configure(blackboard=None)
    assert mirror.run() == SILENT
    mirror.configure()
    assert mirror.run(*options).exit == 0
    assert not (mirror.opus / "obs").exists()


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("mirror", "{path: PATH, type: TYPE} expected, not 'mirror'"),
        ("{path: mirror}", "{path: PATH, type: TYPE} expected"),
        ("{path: mirror, type: fst, dcf: 1}", "{path: PATH, type: TYPE} expected"),
        ("{path: mirror, product: true}", "{path: PATH, type: TYPE} expected"),
        ("{path: mirror, type: fst, product: 1}", "product: true or false expected, not 1"),
        ("{path: mirror, type: f t}", "type: a data type without blanks and '|' expected"),
        ("{path: mirror, type: 3}", "type: a data type without blanks and '|' expected, not 3"),
        ("{path: '', type: fst}", "path: the name of a path, or a path file, expected"),
        ("{path: -x, type: fst}", "path: the name of a path, or a path file, expected"),
        ("{path: no/mirror.path, type: fst}", "an existing file expected"),
    ],
)
def test_a_wrong_key_is_refused(mirror_site: MirrorSite, value: str, told: str) -> None:
    assert told in mirror_site.refusal(f"blackboard: {value}")


def test_a_process_wakes_once_on_each_mirrored_fileset(mirror: Observatory, gpc1: Product) -> None:
    seen = mirror.opus / "seen"
    (mirror.opus / "note").write_text(f'#!/bin/sh\necho "$OSF_DATASET" >> {seen}\n')
    (mirror.opus / "note").chmod(0o755)
    (mirror.opus / "note.resource").write_text(
        "POLLING_TIME = 0.05\nTASK = < xpoll -p $PATH_FILE -r note >\n"
        f"COMMAND = {mirror.opus}/note\nOSF_RANK = 1\nOSF_TRIGGER1.DATA_ID = fst\n"
        "OSF_TRIGGER1.DN = c\nOSF_TRIGGER1.IN = _\nOSF_PROCESSING.IN = p\n"
        "XPOLL_STATE.00 = OSF_OK\nOSF_OK.IN = c\n"
    )

    def wake() -> list[str]:
        subprocess.run(
            [sys.executable, "-c", GUARDED, "-p", "mirror", "-r", "note", "--once"],
            env=mirror.site.environment(mirror.environ | {"PYTHONPATH": str(PROJECT)}),
            timeout=PATIENCE, check=True,
        )  # fmt: skip
        return seen.read_text().split()

    assert mirror.run("--limit", "1") == SILENT
    assert wake() == ["o1"]
    assert mirror.run() == SILENT
    assert wake() == ["o1", "o2"]
    gpc1.register_again("o1", {"a.fits": b"XTENSION"})
    assert mirror.run().exit == 0
    assert wake() == ["o1", "o2", "o1"]
    assert mirror.board() == {"o2": "cccccc", "o1": "cccccc"}


# Killed at any statement


@dataclass(frozen=True)
class Night:
    """A mirror of two filesets, the first one registered again, and of a new one, that posts."""

    mirror: Observatory
    forks: Forks

    def run(self, plan: Plan | None = None) -> Ended:
        environ = self.mirror.site.environment(self.mirror.environ)
        arguments = ["-c", str(self.mirror.site.config)]
        return self.forks.run(arguments, self.mirror.site.directory, environ, plan)

    def converges(self) -> None:
        assert self.run().exit == 0
        assert self.mirror.board() == {"o1": MIRRORED, "o2": "cccccc", "o3": MIRRORED}
        assert self.mirror.history("o3")[-1] == ("updated", "DN", "c")
        done = {
            name: sum(one[1:] == ("DN", "c") for one in self.mirror.history(name))
            for name in ("o1", "o2", "o3")
        }
        assert done == {"o1": 2, "o2": 1, "o3": 1}, "once for each registration"


@pytest.fixture(scope="module")
def forks() -> Iterator[Forks]:
    with Forks() as forks:
        yield forks


def night_at(directory: Path, store: Simulator, forks: Forks) -> Night:
    gpc1 = store.product("gpc1")
    gpc1.add("o1", SMALL)
    gpc1.add("o2", SMALL)
    night = Night(Observatory(MirrorSite(directory), store.url), forks)
    assert night.run().exit == 0
    for dataset in ("o1", "o2"):
        night.mirror.update(dataset, IN="c")
    gpc1.register_again("o1", {"a.fits": b"XTENSION"})
    gpc1.add("o3", SMALL)
    return night


def test_killed_at_any_statement_all_is_posted_and_nothing_begins_anew_twice(forks: Forks) -> None:
    with ground() as directory, Simulator() as store:
        night = night_at(directory, store, forks)
        assert night.run(Plan(trace=str(directory / "trace"))).exit == 0
        sent = (directory / "trace").read_text(encoding="utf-8").split("sqlite ")
        night.converges()
    first = next(at for at, text in enumerate(sent) if "SET full_name" in text)

    def one(at: int) -> str | None:
        with ground() as directory, Simulator() as store:
            night = night_at(directory, store, forks)
            night.run(Plan(STATEMENTS, at, "kill"))
            try:
                night.converges()
            except AssertionError as failed:
                return f"statement {at}: {failed}"
        return None

    with ThreadPoolExecutor(WORKERS) as pool:
        told = pool.map(one, range(first - 2, len(sent)))
        assert [line for line in told if line] == []


# What is owed


def owed(state: State) -> list[tuple[str, str]]:
    return [(one.dataset, "".join(one.states.values())) for one in state.owed.posts(10)]


def settle(state: State) -> None:
    state.owed.posted(state.owed.posts(10))


def test_what_nobody_wants_is_not_posted(state: State) -> None:
    queue(state, "o1", kind=SKIPPED)
    (number,) = queue(state, "o2")
    state.mark_gone([number])
    assert owed(state) == []


@pytest.mark.parametrize(
    ("stand", "expected"),
    [(0, "cwwww"), (1, "cxwww"), (2, "ccxww"), (3, "cccxw"), (4, "ccccx"), (5, "ccccc")],
)
def test_the_letters_of_each_stand(stand: int, expected: str) -> None:
    given = Post(1, "gpc1", "o1", False, stand, False).states
    assert given == dict(zip(("LI", "FE", "UN", "RW", "DN"), expected, strict=True))


def test_only_what_has_moved_is_owed(state: State) -> None:
    (number,) = queue(state, "o1")
    assert owed(state) == [("o1", "cwwww")]
    settle(state)
    assert owed(state) == []
    state.fail(number, 1, "no such host", None)
    assert owed(state) == [("o1", "cxwww")]
    settle(state)
    state.fail(number, 2, "another", None)
    assert owed(state) == []
    state.fail(number, 3, "no gzip", "a.tgz", 2)
    assert owed(state) == [("o1", "ccxww")]
    state.set_states([(DONE, number)])
    assert owed(state) == [("o1", "ccccc")]
    settle(state)
    state.mark_gone([number])
    assert owed(state) == []


def test_a_later_registration_is_posted_as_listed_before_it_is_done(state: State) -> None:
    (number,) = queue(state, "o1")
    state.set_states([(DONE, number)])
    settle(state)
    header = state.header_id("")
    state.replace(number, NewFileset(9, "o1", "later", "", header, "", QUEUED))
    state.set_states([(DONE, 9)])
    (first,) = state.owed.posts(10)
    assert (first.anew, first.stand) == (True, 0)
    settle(state)
    (second,) = state.owed.posts(10)
    assert (second.anew, second.stand) == (False, 5)


def test_what_is_owed_is_found_without_a_look_at_the_rest(tmp_path: Path) -> None:
    State.open(tmp_path / "state.db").close()
    with closing(sqlite3.connect(tmp_path / "state.db")) as database:
        plan = database.execute(f"EXPLAIN QUERY PLAN {_UNPOSTED}", (10,)).fetchall()
    assert any("USING INDEX fileset_unposted" in row[3] for row in plan), plan


def second_format(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """A state as the second format had it."""
    with closing(sqlite3.connect(path)) as database:
        database.executescript(f"{tables._STEPS[0]}{tables._STEPS[1]}PRAGMA user_version = 2")
        database.execute("INSERT INTO product (id, name) VALUES (1, 'gpc1')")
        database.execute("INSERT INTO header VALUES (1, '')")
        for number, row in enumerate(rows, 1):
            given: dict[str, object] = {"id": number, "product": 1, "name": f"o{number}"}
            given |= {"registered": "", "type": "", "header": 1, "row": ""} | dict(row)
            marks = ", ".join("?" * len(given))
            database.execute(
                f"INSERT INTO fileset ({', '.join(given)}) VALUES ({marks})", tuple(given.values())
            )
        database.commit()


def test_a_state_of_the_second_format_is_brought_up_to_date(tmp_path: Path) -> None:
    second_format(
        tmp_path / "state.db",
        [{"state": DONE}, {"state": QUEUED}, {"state": QUEUED, "attempts": 2, "fault": "no"}],
    )
    one = State.open(tmp_path / "state.db")
    assert owed(one) == [("o1", "ccccc"), ("o2", "cwwww"), ("o3", "cxwww")]
    one.close()
