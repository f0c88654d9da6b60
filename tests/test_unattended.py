"""Publishing unattended: everything that is finished, by one process or several, until stopped."""

import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import pytest
from client import PATIENCE, PROJECT, Ran, wait_for
from newsroom import LABEL, Newsroom, is_gone

from mirror.errors import LocalError
from server.database import Database
from server.publishing import attempt, define, unattended
from server.publishing.attempt import work_name
from server.publishing.define import RunQuery
from server.publishing.runs import PendingQuery, PublishRun, pending_runs
from server.publishing.work import Outcome
from server.site import Place, Site, SqliteFile
from server.store_lock import hold_fileset, hold_work

ONCE = ("publish", "--label", LABEL, "--once", "--jobs", "2")
SILENT = Ran(0, "", "")


@pytest.fixture
def newsroom(
    tmp_path: Path,
    place: Place,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Newsroom:
    """A site with both databases in turn, that translates; its client is there, and no run."""
    return filled(Newsroom(tmp_path, place, monkeypatch, capsys))


@pytest.fixture
def small(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Newsroom:
    """Such a site, with a catalogue in a file."""
    place = SqliteFile(tmp_path / "catalogue.db")
    return filled(Newsroom(tmp_path, place, monkeypatch, capsys))


def filled(newsroom: Newsroom) -> Newsroom:
    newsroom.translate()
    newsroom.client()
    return newsroom


@contextmanager
def started(newsroom: Newsroom, *options: str) -> Iterator["subprocess.Popen[str]"]:
    """A process that publishes; it must have ended when the block ends."""
    process = subprocess.Popen(
        [sys.executable, "-m", "server", "publish", "--label", LABEL, *options],
        cwd=PROJECT, env=newsroom.environment(), text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        yield process
        process.wait(timeout=PATIENCE)
    finally:
        process.kill()
        process.communicate()


def ended(process: "subprocess.Popen[str]") -> Ran:
    out, err = process.communicate(timeout=PATIENCE)
    return Ran(process.returncode, out, err)


def filesets(*numbers: int) -> set[str]:
    return {f"IPP-MOPS/pub.{place}.diff.{number}" for place, number in enumerate(numbers, 1)}


def states(newsroom: Newsroom) -> list[tuple[int, str, int]]:
    return [(number, state, fault) for number, state, _, fault, _ in newsroom.attempts()]


# One round after the other


def test_everything_that_is_finished_is_published_once(newsroom: Newsroom) -> None:
    for number in (11, 12, 13):
        newsroom.diff(number)
    newsroom.diff(14, state="new")
    assert newsroom(*ONCE) == SILENT
    assert set(newsroom.registered()) == filesets(11, 12, 13)
    assert states(newsroom) == [(number, "full", 0) for number in (1, 2, 3)]
    assert newsroom.translations() == 6
    assert (newsroom.work / "IPP-MOPS.1.log").is_file()
    before = newsroom.rows(), newsroom.files()
    assert newsroom(*ONCE) == SILENT
    assert (newsroom.rows(), newsroom.files()) == before


def test_runs_of_other_labels_are_not_touched(small: Newsroom) -> None:
    small.diff(11)
    small.must("pubtool", "-definerun", "-label", LABEL, "-set_label", "other")
    assert small(*ONCE) == SILENT
    assert small.pending() == [1]
    assert small(*ONCE, "--label", "other") == SILENT
    assert set(small.registered()) == filesets(11)


def test_faults_do_not_stop_the_others(newsroom: Newsroom) -> None:
    for number in (11, 12, 13):
        newsroom.diff(number)
    next(newsroom.neb.rglob("*.2.dif.12.mdc")).unlink()
    ran = newsroom(*ONCE)
    assert (ran.exit, ran.stdout) == (1, "")
    (line,) = ran.stderr.splitlines()
    assert line.startswith("publish: publish run 2 (IPP-MOPS/pub.2.diff.12): ")
    assert line.endswith("it is the config dump of skycell.2, which lists its files")
    assert states(newsroom) == [(1, "full", 0), (2, "new", 5), (3, "full", 0)]


def test_a_run_that_cannot_be_planned(small: Newsroom) -> None:
    small.diff(11, [], poor=["skycell.1"])
    small.diff(12)
    ran = small(*ONCE)
    assert ran.exit == 1
    assert "diff run 11: no component of good quality among 1" in ran.stderr
    assert states(small) == [(1, "new", 5), (2, "full", 0)]


def test_failed_runs_are_tried_again_after_a_while(small: Newsroom) -> None:
    small.diff(11)
    small.translate("sys.exit(5)")
    assert small(*ONCE).exit == 1
    small.translate()
    calls = small.translations()
    ran = small(*ONCE)
    assert (ran.exit, ran.stdout) == (1, "")
    assert ran.stderr == (
        "publish: 1 run waits with a fault from before (pubtool -listfaults); a call tries it"
        " again 3600 s after it failed, or after pubtool -revert\n"
    )
    assert small.translations() == calls, "tried again too soon"
    assert small(*ONCE, "--revert-after", "0") == SILENT
    assert states(small) == [(1, "full", 0)]


def test_what_fails_again_and_again_is_tried_once_a_call(small: Newsroom) -> None:
    small.diff(11)
    small.translate("sys.exit(5)")
    for calls in (1, 2, 3):
        assert small(*ONCE, "--revert-after", "0").exit == 1
        assert small.translations() == calls


def test_a_run_that_another_process_holds_is_left_to_it(small: Newsroom) -> None:
    small.diff(11)
    small.diff(12)
    small.must("pubtool", "-definerun", "-label", LABEL)
    with hold_work(small.root, work_name(1)):
        assert small(*ONCE) == SILENT
    assert small.pending() == [1]
    assert states(small) == [(2, "full", 0)]


def test_a_fileset_that_is_held_for_good_is_left_for_the_next_call(newsroom: Newsroom) -> None:
    newsroom.diff(11)
    newsroom.diff(12)
    with hold_fileset(newsroom.root, "IPP-MOPS", "pub.1.diff.11"):
        ran = newsroom(*ONCE)
    assert ran == Ran(
        0, "", "publish: 1 run stays pending: another process works on the fileset or the"
        " product; the next call or round tries again\n",
    )  # fmt: skip
    assert states(newsroom) == [(2, "full", 0)]
    assert newsroom.pending() == [1]
    assert newsroom(*ONCE) == SILENT
    assert states(newsroom) == [(1, "full", 0), (2, "full", 0)]


def test_a_fileset_that_is_held_for_a_while_is_registered_at_the_end(
    small: Newsroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    small.diff(11)
    small.diff(12)
    recorded: list[int] = []
    with ExitStack() as opened:
        opened.enter_context(hold_fileset(small.root, "IPP-MOPS", "pub.1.diff.11"))

        def record(
            database: Database, site: Site, run: PublishRun, outcome: Outcome
        ) -> attempt.Recorded:
            recorded.append(run.pub_id)
            if len(recorded) == 3:
                opened.close()
            return attempt.record(database, site, run, outcome)

        monkeypatch.setattr(unattended, "record", record)
        assert small(*ONCE) == SILENT
    assert (sorted(recorded[:2]), recorded[2:]) == ([1, 2], [1])
    assert small.translations() == 4, "made anew"
    assert states(small) == [(1, "full", 0), (2, "full", 0)]


def test_more_runs_than_are_asked_for_at_once(
    small: Newsroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unattended, "BATCH", 2)
    small.configure()
    for number in range(11, 18):
        small.diff(number)
    small.must("pubtool", "-definerun", "-label", LABEL)
    with hold_work(small.root, work_name(1)), hold_work(small.root, work_name(2)):
        assert small(*ONCE) == SILENT
    assert small.pending() == [1, 2]
    assert len(small.registered()) == 5


def test_an_attempt_that_was_recorded_by_hand_stays(
    small: Newsroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    small.diff(11)
    small.diff(12)

    def late(database: Database, site: Site, run: PublishRun, outcome: Outcome) -> attempt.Recorded:
        if run.pub_id == 1:
            small.must("pubtool", "-add", "-pub_id", "1", "-path_base", "neb://x/y", "-fault", "6")
        return attempt.record(database, site, run, outcome)

    monkeypatch.setattr(unattended, "record", late)
    ran = small(*ONCE)
    assert ran.exit == 1
    assert ran.stderr.startswith("publish: publish run 1 (IPP-MOPS/pub.1.diff.11): publish run 1:")
    assert "it has an attempt already, with fault 6" in ran.stderr
    assert states(small) == [(1, "new", 6), (2, "full", 0)]


def test_a_run_that_was_done_since_it_was_listed_is_not_done_again(
    small: Newsroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    small.diff(11)

    def listed(database: Database, query: PendingQuery) -> list[PublishRun]:
        found = pending_runs(database, query)
        for run in found:
            small.must("publish_file", "--pub_id", str(run.pub_id))
        return found

    monkeypatch.setattr(unattended, "pending_runs", listed)
    assert small(*ONCE) == SILENT
    assert small.translations() == 2
    assert states(small) == [(1, "full", 0)]


# What is said


def test_a_summary_for_those_who_ask(small: Newsroom) -> None:
    small.diff(11)
    assert small(*ONCE, "-v") == Ran(0, "", "publish: published 1 run, 0 faults\n")
    assert small(*ONCE, "-v") == SILENT


def test_progress_on_a_terminal(small: Newsroom) -> None:
    small.diff(11)
    small.diff(12)
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "server", *ONCE],
        cwd=PROJECT, env=small.environment(), stdout=subprocess.DEVNULL, stderr=theirs,
    )  # fmt: skip
    os.close(theirs)
    assert process.wait(timeout=PATIENCE) == 0
    said = os.read(ours, 65536).decode()
    os.close(ours)
    assert "publishing: 2/2 runs, 0 faults" in said
    assert said.endswith("publish: published 2 runs, 0 faults\r\n")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        pytest.param(["--poll", "0"], "--poll: 0.1 seconds or more expected, not 0", id="poll"),
        pytest.param(["--poll", "inf"], "--poll: 0.1 seconds or more", id="endless"),
        pytest.param(["--revert-after", "-1"], "--revert-after: 0 seconds or more", id="revert"),
        pytest.param(["--jobs", "0"], "--jobs: 1 or more expected, not 0", id="no jobs"),
    ],
)
def test_options_that_make_no_sense(small: Newsroom, options: list[str], said: str) -> None:
    ran = small(*ONCE, *options)
    assert (ran.exit, said in ran.stderr) == (3, True)


@pytest.mark.parametrize("limit", ["0", "-1", "nan", "soon"])
def test_time_limits_that_are_none(small: Newsroom, limit: str) -> None:
    ran = small(*ONCE, "--translate-timeout", limit)
    assert (ran.exit, "--translate-timeout: 0.1 seconds or more" in ran.stderr) == (2, True)


def test_a_translation_that_takes_too_long_is_a_fault(small: Newsroom) -> None:
    small.translate("if 'IPP-MOPS.1.' in output: import time; time.sleep(600)")
    small.diff(11)
    small.diff(12)
    # Time enough for the other one, however busy the machine is.
    ran = small(*ONCE, "--translate-timeout", "5")
    assert (ran.exit, len(ran.stderr.splitlines())) == (1, 1)
    assert "took longer than 5 s and was ended" in ran.stderr
    assert states(small) == [(1, "new", 6), (2, "full", 0)]


def test_a_label_is_needed(small: Newsroom) -> None:
    assert small("publish", "--once").exit == 2


# Until stopped


def test_it_goes_on_until_it_is_stopped(small: Newsroom) -> None:
    small.diff(11)
    with started(small, "--jobs", "1", "--poll", "0.1") as process:
        wait_for(lambda: states(small) == [(1, "full", 0)])
        small.diff(12)
        wait_for(lambda: len(states(small)) == 2)
        process.send_signal(signal.SIGTERM)
        assert ended(process) == SILENT
    assert set(small.registered()) == filesets(11, 12)


# The translator waits until it may go on.
_WAIT = "import time\nopen({0!r} + '.there', 'w')\nwhile not os.path.exists({0!r}): time.sleep(.01)"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_stopped_it_finishes_what_is_in_work(small: Newsroom, number: signal.Signals) -> None:
    go = small.directory / "go"
    small.translate(_WAIT.format(str(go)))
    small.diff(11)
    small.diff(12)
    with started(small, "--jobs", "1", "--poll", "600") as process:
        wait_for(Path(f"{go}.there").exists)
        process.send_signal(number)
        wait_for(partial(_caught, process.pid))
        go.touch()
        assert ended(process) == SILENT
    assert states(small) == [(1, "full", 0), (2, "full", 0)]


def test_stopped_twice_it_ends_at_once(small: Newsroom) -> None:
    go = small.directory / "go"
    pid_file = Path(f"{go}.pid")
    small.translate(
        f"open({str(pid_file)!r}, 'w').write(str(os.getpid()))\n{_WAIT.format(str(go))}"
    )
    small.diff(11)
    with started(small, "--jobs", "1") as process:
        wait_for(Path(f"{go}.there").exists)
        pid = int(pid_file.read_text())
        process.send_signal(signal.SIGTERM)
        wait_for(lambda: _caught(process.pid))
        process.send_signal(signal.SIGTERM)
        ran = ended(process)
    assert (ran.exit, ran.stdout, ran.stderr) == (143, "", "")
    wait_for(lambda: is_gone(pid))
    assert small.pending() == [1]
    assert not list(small.work.rglob("*.fits"))
    go.touch()
    assert small(*ONCE) == SILENT
    assert states(small) == [(1, "full", 0)]


def test_translators_die_with_the_process_that_publishes(small: Newsroom) -> None:
    pid_file = small.directory / "pid"
    small.translate(
        f"import time; open({str(pid_file)!r}, 'w').write(f'{{os.getpid()}} .'); time.sleep(600)"
    )
    small.diff(11, bothways=False)
    with started(small, "--jobs", "1") as process:
        wait_for(lambda: pid_file.exists() and pid_file.read_text().endswith("."))
        process.kill()
    wait_for(lambda: is_gone(int(pid_file.read_text().split()[0])))
    small.translate()
    assert small(*ONCE) == SILENT
    assert states(small) == [(1, "full", 0)]


def _caught(pid: int) -> bool:
    """Whether no signal waits for the process any more, and it waits for its worker again."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    said = {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
    pending = int(said["SigPnd"], 16) | int(said["ShdPnd"], 16)
    return said["State"].startswith("S") and not pending


def test_trouble_with_the_database_passes(small: Newsroom, monkeypatch: pytest.MonkeyPatch) -> None:
    small.diff(11)
    calls: list[RunQuery] = []

    def define_runs(database: Database, query: RunQuery) -> object:
        calls.append(query)
        if len(calls) == 1:
            raise LocalError("catalogue: gone")
        if len(calls) == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return define.define_runs(database, query)

    monkeypatch.setattr(unattended, "define_runs", define_runs)
    ran = small("publish", "--label", LABEL, "--poll", "0.1", "--jobs", "1")
    assert ran == Ran(0, "", "publish: catalogue: gone; next try in 0.1 s\n")
    assert states(small) == [(1, "full", 0)]


# Several, and killed ones


def test_two_at_once_do_not_double_the_work(newsroom: Newsroom) -> None:
    numbers = list(range(11, 31))
    for number in numbers:
        newsroom.diff(number, ["skycell.1"], bothways=False)
    options = ("--once", "--jobs", "1")
    with started(newsroom, *options) as one, started(newsroom, *options) as other:
        assert [ended(one), ended(other)] == [SILENT, SILENT]
    assert newsroom(*ONCE) == SILENT
    assert set(newsroom.registered()) == filesets(*numbers)
    assert states(newsroom) == [(place, "full", 0) for place in range(1, 21)]
    assert newsroom.translations() == 20


def test_killed_and_started_again(small: Newsroom) -> None:
    numbers = list(range(11, 19))
    for number in numbers:
        small.diff(number, ["skycell.1"], bothways=False)
    for count in (1, 3, 6):
        with started(small, "--once", "--jobs", "2") as process:
            wait_for(partial(_has_translated, small, count))
            process.kill()
        assert count > 1 or process.returncode == -signal.SIGKILL
    assert small(*ONCE) == SILENT
    assert set(small.registered()) == filesets(*numbers)
    assert states(small) == [(place, "full", 0) for place in range(1, 9)]
    left = {path.name for path in small.work.iterdir()}
    assert left == {f"IPP-MOPS.{n}.{kind}" for n in range(1, 9) for kind in ("fits", "log")}
    assert set(small.files()) == {
        f"{fileset}/{names[0]}" for fileset, names in small.registered().items()
    }


def _has_translated(newsroom: Newsroom, count: int) -> bool:
    return newsroom.translations() >= count


# On a cluster


def test_a_cluster_publishes_as_well(newsroom: Newsroom) -> None:
    distributed = pytest.importorskip("distributed")
    newsroom.diff(11)
    newsroom.diff(12)
    newsroom.diff(13)
    next(newsroom.neb.rglob("*.2.dif.12.mdc")).unlink()
    once = ("publish", "--label", LABEL, "--once")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None,
        host="127.0.0.1", silence_logs=50,
    ) as cluster:  # fmt: skip
        ran = newsroom(*once, "--scheduler", cluster.scheduler_address)
    assert (ran.exit, ran.stdout, len(ran.stderr.splitlines())) == (1, "", 1)
    assert "it is the config dump of skycell.2, which lists its files" in ran.stderr
    assert states(newsroom) == [(1, "full", 0), (2, "new", 5), (3, "full", 0)]
    assert newsroom.translations() == 4
    assert (newsroom.root / "IPP-MOPS/pub.3.diff.13/IPP-MOPS.3.positive.fits").is_file()


def test_an_odd_address_is_refused_even_when_nothing_is_pending(small: Newsroom) -> None:
    ran = small(*ONCE, "--scheduler", "nowhere")
    assert (ran.exit, "tcp://HOST:PORT expected, not 'nowhere'" in ran.stderr) == (3, True)
