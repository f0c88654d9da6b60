"""Runs of disttool and pubtool on a blackboard: entries follow what the database says of them."""

import multiprocessing
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
from boards import BoardSite, board_site, letters
from client import PATIENCE
from distruns import Disttool, new_site
from observatory import BLACKBOARD, STEPS, stage_text
from places import data_store, tell_place
from pubruns import Pubtool

from server import run_posts
from server.blackboard import Key
from server.catalogue import catalogue
from server.database import Database
from server.publishing.posts import RUNS
from server.run_posts import DOUBT, RunPosts, Runs
from server.site import Place, read_site
from server.store_lock import hold_work

STAGES = stage_text(*STEPS, "IN")
DEFINE = ("-definebyquery", "-stage", "chip", "-workdir", "neb://any/dist")
ANY = ("-updatetarget", "-target_id", "1", "-set_state", "enabled")
"""A call that changes something else: each one posts what is owed."""

CLIENT = ("-defineclient", "-stage", "diff", "-product", "IPP-MOPS", "-workdir", "neb://any/where")

INTERRUPTED = 130
NO_OPTIONS = Namespace(dsroot=None, dbname=None, site=None)


@pytest.fixture
def site(tmp_path: Path, place: Place) -> BoardSite:
    """A path with a column for each step of runs, and one of a process of the site."""
    return board_site(tmp_path, place, STAGES)


@pytest.fixture
def disttool(
    site: BoardSite, place: Place, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Disttool:  # fmt: skip
    """A chip run that MPG is interested in; runs are posted."""
    tool = new_site(site.directory, place, monkeypatch, capsys)
    with (site.directory / "site.config").open("a") as config:
        config.write(BLACKBOARD.format(site.directory / "blue.path"))
    tool.chip(1)
    tool.target()
    tool.destination()
    tool.interest()
    return tool


@pytest.fixture
def pubtool(
    site: BoardSite, place: Place, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Pubtool:  # fmt: skip
    """Two difference runs that are to be published; runs are posted."""
    root = data_store(site.directory)
    tell_place(monkeypatch, root, place)
    config = site.directory / "site.config"
    config.write_text(f"NEB_ROOT STR {root}\n{BLACKBOARD.format(site.directory / 'blue.path')}")
    monkeypatch.setenv("SITE_CONFIG", str(config))
    tool = Pubtool(root, place, capsys)
    tool.done(*CLIENT)
    tool.diffs(7, 8)
    return tool


def shown(site: BoardSite) -> dict[str, str]:
    """The letters of every entry, by type and dataset."""
    with site.board() as board:
        return {f"{e.key.data_id} {e.key.dataset}": letters(e) for e in board.entries()}


def kinds(site: BoardSite) -> list[str]:
    """What was done to entries, one for each stage, the oldest first."""
    with site.board() as board:
        return [change.what for change in board.history()]


def test_a_distribution_run_is_posted_step_by_step(site: BoardSite, disttool: Disttool) -> None:
    disttool.done(*DEFINE)
    assert shown(site) == {"dst dist.1.chip.1": "ww__"}
    disttool.change("UPDATE distComponent SET state = 'full'")
    disttool.change("UPDATE distRun SET state = 'full'")
    disttool.done(*ANY)
    assert shown(site) == {"dst dist.1.chip.1": "cw__"}
    disttool.change(
        "INSERT INTO rcDSFileset (dist_id, dest_id, name, state) VALUES (1, 1, 'f', 'full')"
    )
    disttool.done(*ANY)
    assert shown(site) == {"dst dist.1.chip.1": "cc__"}
    with site.board() as board:
        assert {change.process for change in board.history()} == {"disttool"}


@pytest.mark.parametrize(
    ("trouble", "mode", "faulty"),
    [
        ("UPDATE distComponent SET fault = 5 WHERE component = 'XY01'", "component", "xw__"),
        ("UPDATE distRun SET fault = 3", "run", "xw__"),
        (
            "INSERT INTO rcDSFileset (dist_id, dest_id, name, state, fault)"
            " VALUES (1, 1, 'f', 'new', 2)",
            "fileset", "wx__",
        ),
    ],
    ids=["component", "run", "fileset"],
)  # fmt: skip
def test_a_fault_is_trouble_until_it_is_reverted(
    site: BoardSite, disttool: Disttool, trouble: str, mode: str, faulty: str
) -> None:
    disttool.done(*DEFINE)
    disttool.change(trouble)
    disttool.done(*ANY)
    assert shown(site) == {"dst dist.1.chip.1": faulty}
    disttool.done(f"-revert{mode}", "-dist_id", "1")
    assert shown(site) == {"dst dist.1.chip.1": "ww__"}


def test_a_run_nobody_has_a_fileset_of_is_not_registered(
    site: BoardSite, disttool: Disttool
) -> None:
    disttool.done(*DEFINE)
    disttool.change("UPDATE distRun SET state = 'full'")
    disttool.done("-updateinterest", "-dest_id", "1", "-target_id", "1", "-set_state", "disabled")
    assert shown(site) == {"dst dist.1.chip.1": "cw__"}


def test_a_run_is_registered_when_all_who_are_interested_have_their_fileset(
    site: BoardSite, disttool: Disttool
) -> None:
    disttool.done(*DEFINE)
    disttool.change("UPDATE distRun SET state = 'full'")
    disttool.change(
        "INSERT INTO rcDSFileset (dist_id, dest_id, name, state) VALUES (1, 1, 'f', 'full')"
    )
    disttool.destination("CFA", "cfa")
    assert shown(site) == {"dst dist.1.chip.1": "cc__"}
    disttool.interest(1, 2)
    assert shown(site) == {"dst dist.1.chip.1": "cw__"}


def test_the_entry_of_a_dropped_run_goes(site: BoardSite, disttool: Disttool) -> None:
    disttool.done(*DEFINE)
    disttool.done("-droprun", "-dist_id", "1")
    assert shown(site) == {}
    assert disttool.rows("SELECT * FROM runPost") == []


def test_an_entry_that_somebody_has_removed_is_in_nobodys_way(
    site: BoardSite, disttool: Disttool
) -> None:
    disttool.done(*DEFINE)
    with site.board() as board:
        board.delete(Key("dist.1.chip.1", "dst"))
    disttool.done("-droprun", "-dist_id", "1")
    assert disttool.rows("SELECT * FROM runPost") == []


@pytest.mark.parametrize(
    ("mode", "letter"),
    [
        (("-add", "-pub_id", "1", "-path_base", "x"), "c"),
        (("-add", "-pub_id", "1", "-path_base", "x", "-fault", "5"), "x"),
        (("-updaterun", "-pub_id", "1", "-set_state", "full"), "x"),
    ],
    ids=["published", "fault", "given up"],
)
def test_a_publish_run_is_posted(
    site: BoardSite, pubtool: Pubtool, mode: tuple[str, ...], letter: str
) -> None:
    pubtool.done("-definerun", "-label", "L")
    assert shown(site) == {"pub pub.1.diff.7": "__w_", "pub pub.2.diff.8": "__w_"}
    pubtool.done(*mode)
    assert shown(site) == {"pub pub.1.diff.7": f"__{letter}_", "pub pub.2.diff.8": "__w_"}


def test_what_is_published_anew_comes_again(site: BoardSite, pubtool: Pubtool) -> None:
    """Nothing that was done with it holds any more."""
    pubtool.done("-definerun", "-label", "L")
    pubtool.done("-add", "-pub_id", "1", "-path_base", "x")
    with site.board() as board:
        board.update(Key("pub.1.diff.7", "pub"), {"IN": "c"})
        board.update(Key("pub.2.diff.8", "pub"), {"IN": "c"})
    pubtool.done("-updaterun", "-pub_id", "1", "-set_state", "new")
    assert shown(site) == {"pub pub.2.diff.8": "__wc", "pub pub.1.diff.7": "__w_"}


def test_a_fault_that_is_reverted_leaves_the_other_letters(
    site: BoardSite, pubtool: Pubtool
) -> None:
    pubtool.done("-definerun", "-label", "L", "-limit", "1")
    pubtool.done("-add", "-pub_id", "1", "-path_base", "x", "-fault", "5")
    with site.board() as board:
        board.update(Key("pub.1.diff.7", "pub"), {"IN": "c"})
    pubtool.done("-revert", "-pub_id", "1")
    assert shown(site) == {"pub pub.1.diff.7": "__wc"}


def test_what_is_posted_is_not_posted_again(site: BoardSite, pubtool: Pubtool) -> None:
    for _ in range(3):
        pubtool.done("-definerun", "-label", "L")
    assert kinds(site) == ["created"] * 2


def test_looking_posts_nothing(site: BoardSite, pubtool: Pubtool) -> None:
    pubtool.done("-pending", "-all")
    assert not site.observations.exists()


def test_a_blackboard_that_is_in_the_way_stops_nothing_and_is_told(
    site: BoardSite, pubtool: Pubtool
) -> None:
    path = site.directory / "blue.path"
    path.rename(site.directory / "away")
    code, out, err = pubtool("-definerun", "-label", "L")
    assert code == 0
    assert "diff" in out
    assert err.startswith(f"pubtool: blackboard {path}: ")
    assert err.endswith("; the next call posts what is owed\n")
    assert err.count("\n") == 1
    (site.directory / "away").rename(path)
    pubtool.done("-definerun", "-label", "L")
    assert shown(site) == {"pub pub.1.diff.7": "__w_", "pub pub.2.diff.8": "__w_"}


def test_stages_without_the_steps_are_told(site: BoardSite, pubtool: Pubtool) -> None:
    (site.directory / "blue.stage").write_text("NSTAGE = 1\nSTAGE01.TITLE = IN\n")
    code, _, err = pubtool("-definerun", "-label", "L")
    assert code == 0
    assert "PB" in err


def test_a_call_that_is_killed_after_posting_is_made_up_for(
    site: BoardSite, pubtool: Pubtool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The blackboard has it, and nobody knows: posted again, it changes nothing."""

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(run_posts, "_note", die)
        assert pubtool("-definerun", "-label", "L")[0] == INTERRUPTED
    before = shown(site)
    pubtool.done("-definerun", "-label", "L")
    assert shown(site) == before
    assert kinds(site) == ["created"] * 2


class TestKilledAfterPostingAnew:
    """The blackboard has the new entry, and nobody knows."""

    @pytest.fixture
    def killed(self, site: BoardSite, pubtool: Pubtool, monkeypatch: pytest.MonkeyPatch) -> Pubtool:
        pubtool.done("-definerun", "-label", "L", "-limit", "1")
        pubtool.done("-add", "-pub_id", "1", "-path_base", "x")
        note = run_posts._note

        def die(database: Database, runs: Runs, place: str, noted: list[tuple[Any, str]]) -> None:
            if not noted[0][1].startswith(DOUBT):
                raise KeyboardInterrupt
            note(database, runs, place, noted)

        with monkeypatch.context() as patch:
            patch.setattr(run_posts, "_note", die)
            call = ("-updaterun", "-pub_id", "1", "-set_state", "new")
            assert pubtool(*call)[0] == INTERRUPTED
        assert shown(site) == {"pub pub.1.diff.7": "__w_"}
        return pubtool

    def test_what_was_done_since_is_not_lost(self, site: BoardSite, killed: Pubtool) -> None:
        with site.board() as board:
            board.update(Key("pub.1.diff.7", "pub"), {"IN": "c"})
        killed.done("-definerun", "-label", "none")
        assert shown(site) == {"pub pub.1.diff.7": "__wc"}

    def test_a_run_that_is_complete_again_is_posted(self, site: BoardSite, killed: Pubtool) -> None:
        killed.done("-add", "-pub_id", "1", "-path_base", "x")
        assert shown(site) == {"pub pub.1.diff.7": "__c_"}


def test_several_problems_are_one_line(site: BoardSite, pubtool: Pubtool) -> None:
    (site.directory / "blue.path").write_text("one\ntwo\n")
    code, _, err = pubtool("-definerun", "-label", "L")
    assert (code, err.count("\n")) == (0, 1)
    assert "; " in err.partition("; the next call")[0]


def test_nobody_waits_long_for_who_writes_the_blackboard(
    site: BoardSite, pubtool: Pubtool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if site.environ:
        pytest.skip("a server lets its clients wait")
    monkeypatch.setattr("server.database.BUSY", float("inf"))
    monkeypatch.setattr("server.database.GRACE", 0.0)
    monkeypatch.setattr(run_posts, "BOARD_PATIENCE", 0.0)
    with site.board() as other, other._write():
        code, _, err = pubtool("-definerun", "-label", "L")
    assert code == 0
    assert "another process has been writing" in err
    pubtool.done("-definerun", "-label", "L")
    assert len(shown(site)) == 2


def test_runs_are_posted_page_by_page(
    site: BoardSite, pubtool: Pubtool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_posts, "PAGE", 2)
    pubtool.diffs(*range(20, 25))
    pubtool.done("-definerun", "-label", "L")
    assert len(shown(site)) == 7


def test_another_board_gets_everything(site: BoardSite, pubtool: Pubtool) -> None:
    pubtool.done("-definerun", "-label", "L", "-limit", "1")
    config = site.directory / "site.config"
    config.write_text(config.read_text().replace("pub STR pub", "pub STR new"))
    pubtool.done("-definerun", "-label", "L", "-limit", "1")
    assert shown(site) == {
        "pub pub.1.diff.7": "__w_", "new pub.1.diff.7": "__w_", "new pub.2.diff.8": "__w_"
    }  # fmt: skip


def test_without_a_type_nothing_is_posted(site: BoardSite, pubtool: Pubtool) -> None:
    config = site.directory / "site.config"
    config.write_text(config.read_text().replace("  pub STR pub\n", ""))
    pubtool.done("-definerun", "-label", "L")
    assert not site.observations.exists()


def test_one_posts_after_the_other(
    site: BoardSite, pubtool: Pubtool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_posts, "PATIENCE", 0.0)
    with hold_work(pubtool.root, "pub runs on the blackboard"):
        _, _, err = pubtool("-definerun", "-label", "L")
    assert "another process has posted for 0 s" in err
    pubtool.done("-definerun", "-label", "L")
    assert len(shown(site)) == 2


def _post_all(queue: "multiprocessing.Queue[int]") -> None:
    from server.__main__ import main

    queue.put(main(["pubtool", "-updaterun", "-set_state", "new", "-state", "full"]))


def test_two_that_post_at_once_leave_the_truth(site: BoardSite, pubtool: Pubtool) -> None:
    pubtool.diffs(*range(100, 150))
    pubtool.done("-definerun", "-label", "L", "-limit", "1")
    with catalogue(pubtool.place) as database, database.write():
        database.change(
            """INSERT INTO publishRun (client_id, stage_id, label, state)
            SELECT 1, diff_id, 'L', 'full' FROM "diffRun" WHERE diff_id >= 100"""
        )
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    both = [context.Process(target=_post_all, args=(queue,)) for _ in range(2)]
    for one in both:
        one.start()
    assert [queue.get(timeout=PATIENCE) for _ in both] == [0, 0]
    for one in both:
        one.join()
    assert set(shown(site).values()) == {"__w_"}
    assert kinds(site) == ["created"] * 51


@pytest.mark.parametrize(
    "block",
    [
        "BLACKBOARD METADATA\n  path STR mirror\nEND\n",
        "BLACKBOARD METADATA\n  dist STR dst\nEND\n",
        "BLACKBOARD METADATA\n  path STR mirror\n  pub STR pub\n  raw STR raw\nEND\n",
        "BLACKBOARD METADATA\n  path STR\n  pub STR pub\nEND\n",
    ],
    ids=["no type", "no path", "another kind", "empty"],
)
def test_a_block_that_is_not_whole_is_refused(
    pubtool: Pubtool, site: BoardSite, block: str
) -> None:
    (site.directory / "site.config").write_text(block)
    code, _, err = pubtool("-pending", "-all")
    assert code == 3
    assert "BLACKBOARD: path, and one or both of dist and pub expected" in err


def test_trouble_is_told_once_a_command(
    site: BoardSite, pubtool: Pubtool, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """However often it posts; and it does so once in a while."""
    (site.directory / "blue.path").unlink()
    pubtool("-definerun", "-label", "L")
    with catalogue(pubtool.place) as database:
        posts = RunPosts(read_site(NO_OPTIONS), database, RUNS, "publish")
        posts.sometimes()
        assert capsys.readouterr().err == ""
        monkeypatch.setattr(run_posts, "EVERY", 0.0)
        posts.sometimes()
        assert capsys.readouterr().err.startswith("publish: blackboard")
        posts.now()
        assert capsys.readouterr().err == ""
