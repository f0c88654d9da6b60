"""The examples of seeds 003 and 004, quoted, when a process runs: what the seeds say that happens.
What their keywords mean as they are read is in test_opus_seeds."""

import os
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from quoted import FILE, OSF, STATUSES
from xpoll_here import xpoll
from xpolls import FILES, Pipeline, noted

from formats.resource_file import read_resource_file
from formats.triggers import TimeTrigger
from server.blackboard import Key
from server.opus.events import Now, begin, look, taken
from server.opus.outcome import item_statuses


def stages(pipeline: Pipeline, *titles: str) -> None:
    """A stage file whose stages have the letters of the seeds."""
    text = f"NSTAGE = {len(titles)}\n"
    for number, title in enumerate(titles, 1):
        text += f"STAGE{number:02}.TITLE = {title}\n"
        text += "".join(f"STAGE{number:02}.NSTATUS.{letter} = l\n" for letter in "wpcnex")
    (pipeline.directory / "night.stage").write_text(text)


class TestSeed003:
    """Path files."""

    def test_one_pipeline_feeds_another(self, pipeline: Pipeline) -> None:
        """Seed: that first task need only create a notification file in blue's directory."""
        notify = pipeline.directory / "notify"
        notify.mkdir()
        (pipeline.directory / "blue.path").write_text(
            "   INPUT_DIR   =   /home/mydir/blue/notify/ !notification directory\n".replace(
                "/home/mydir/blue/notify/", f"{notify}/"
            )
        )
        given = "   ENV.OUTDIR = blue->INPUT_DIR !Send data to another pipeline\n"
        script = "touch $OUTDIR/F93874592_notification.fnd"
        pipeline.resource(script, FILES + "XPOLL_STATE.00 = FILE_SUCCESS\n" + given)
        pipeline.drop("a.in")
        assert xpoll(pipeline) == 0
        assert os.listdir(notify) == ["F93874592_notification.fnd"]

    @pytest.mark.parametrize(
        ("in_path", "seen"),
        [("   TTAG_CALIB_DIR  =  /home/opus/ttag_data/calib/  !calibration directory\n",
            "/home/opus/ttag_data/calib/"),
         ("", "TTAG_CALIB_DIR")],
        ids=["defined", "literally that"],
    )  # fmt: skip
    def test_translated_before_the_task_is_started(
        self, pipeline: Pipeline, in_path: str, seen: str
    ) -> None:
        """Seed: the task can use $OUTDIR, which is there only for the process(es) in whose resource
        file it is defined; the entry found in the path file becomes no environment variable."""
        pipeline.path(in_path)
        given = "   ENV.OUTDIR = TTAG_CALIB_DIR       !The timetag calibration directory\n"
        script = "echo $OUTDIR ${TTAG_CALIB_DIR-none} > $OUT/"
        for name, more in (("with", given), ("without", "")):
            timer = "TIME_RANK = 1\nSTART_TIME = 00:00:00\nXPOLL_STATE.00 = SUCCESS\n"
            pipeline.resource(script + name, timer + more, name)
            assert xpoll(pipeline, name) == 0
        assert noted(pipeline, "with") == [f"{seen} none"]
        assert noted(pipeline, "without") == ["none"]


class TestSeed004:
    """Process resource files."""

    def test_osf_trigger(self, pipeline: Pipeline) -> None:
        """Seed: the other columns of the OSF do not matter; column XX will be set to "p"; this will
        also prevent the same OSF from triggering other copies of this process."""
        stages(pipeline, "XX", "YY", "ZZ")
        pipeline.resource("echo $OSF_DATASET >> $OUT/seen", OSF + "XPOLL_STATE.01 = SUCCESS\n"
            "XPOLL_STATE.00 = SUCCESS\n")  # fmt: skip
        with pipeline.board() as board:
            for name, data_id, letters in (
                ("fits", "zzz", "wcx"), ("fits2", "zzz", "wc_"), ("column", "zzz", "ww_"),
                ("id", "yyy", "wc_"), ("taken", "zzz", "pc_"),
            ):  # fmt: skip
                board.create(
                    Key(name, data_id), dict(zip(("XX", "YY", "ZZ"), letters, strict=True))
                )
        assert xpoll(pipeline) == 0
        assert noted(pipeline) == ["fits", "fits2"]
        assert pipeline.letters() == {
            "fits": "pcx", "fits2": "pc_", "column": "ww_", "id": "wc_", "taken": "pc_",
        }  # fmt: skip
        assert xpoll(pipeline) == 0
        assert noted(pipeline) == ["fits", "fits2"]

    def test_file_trigger(self, pipeline: Pipeline) -> None:
        """Seed: if successful, file is moved here (still has _proc on name); if not, there."""
        more = "XPOLL_STATE.01 = FILE_SUCCESS\nXPOLL_STATE.02 = FILE_ERROR\n"
        text = (FILE + more).replace("/mydisk", f"{pipeline.directory}/mydisk")
        pipeline.resource("case $EVENT_NAME in *good*) exit 1;; *bad*) exit 2;; esac", text)
        (pipeline.directory / "mydisk" / "mydata").mkdir(parents=True)
        for name in ("good.incoming", "bad.incoming", "odd.incoming", "good.other"):
            (pipeline.directory / "mydisk" / "mydata" / name).touch()
        assert xpoll(pipeline) == 0
        assert {
            place: sorted(os.listdir(pipeline.directory / "mydisk" / place))
            for place in ("mydata", "done", "bad")
        } == {
            "mydata": ["good.other"], "done": ["good.incoming_proc"],
            "bad": ["bad.incoming_proc", "odd.incoming_proc"],
        }  # fmt: skip

    def test_files_of_a_mask(self, pipeline: Pipeline) -> None:
        """Seed: a process could be triggered when files named f*.pod appear in the directory."""
        text = FILES.replace("*.in", "f*.pod") + "XPOLL_STATE.00 = FILE_SUCCESS\n"
        pipeline.resource("", text)
        pipeline.drop("f1.pod", "f.pod", "g1.pod", "f1.pods", "F1.pod")
        assert xpoll(pipeline) == 0
        assert pipeline.inboxed() == ["F1.pod", "f.pod_ok", "f1.pod_ok", "f1.pods", "g1.pod"]

    def test_exit_statuses(self, pipeline: Pipeline) -> None:
        """Seed: 1: GC is c and CA is n; 5: GC is c and CA is w; 3: GC is e, CA not changed; else:
        GC is x."""
        stages(pipeline, "GC", "CA")
        trigger = "OSF_RANK = 1\nOSF_TRIGGER1.GC = w\nOSF_PROCESSING.GC = p\n"
        pipeline.resource("exit $OSF_DATASET", trigger + STATUSES)
        pipeline.post("1", "3", "5", "0", "2", "42")
        assert xpoll(pipeline) == 0
        assert pipeline.letters() == {
            "1": "cn", "3": "e_", "5": "cw", "0": "x_", "2": "x_", "42": "x_",
        }  # fmt: skip

    @pytest.mark.parametrize("kind", ["OSF", "EVENT"])
    def test_the_lines_of_a_check_file(self, kind: str) -> None:
        """Seed: the OSF_STATUS or EVENT_STATUS definitions in the file correspond to the items
        defined in the environment of the same name: the first has no number."""
        text = f"{kind}_STATUS = 01 \n{kind}_STATUS1 = 05\n{kind}_STATUS2 = 3\n"
        assert item_statuses(text, 3) == [1, 5, 3]

    def test_check_file(self, pipeline: Pipeline) -> None:
        """Seed: the external poller should exit with a value of 1 to have the file read."""
        stages(pipeline, "GC", "CA")
        more = "XPOLL_STATE.02 = OSF_SUCCESS1\nOSF_SUCCESS1.GC = c\nENV.EVENT_STATE_FILE = f\n"
        trigger = "OSF_RANK = 1\nOSF_TRIGGER1.GC = w\nOSF_PROCESSING.GC = p\n"
        script = "echo 'OSF_STATUS = 02' > $OPUS_HOME_DIR/f; exit $OSF_DATASET"
        pipeline.resource(
            script, trigger + more + "XPOLL_STATE.01 = CHECK_FILE\nXPOLL_ERROR.GC=x\n"
        )
        pipeline.post("1", "3")
        assert xpoll(pipeline) == 0
        assert pipeline.letters() == {"1": "c_", "3": "x_"}

    def test_file_action(self, pipeline: Pipeline) -> None:
        """Seed: this file action results in deletion of the file."""
        more = "FILE_ACTION = '/bin/rm -f ^f'\nXPOLL_STATE.00 = FILE_SUCCESS\n"
        pipeline.resource("", FILES + more)
        pipeline.drop("a.in", "b c.in")
        assert xpoll(pipeline) == 0
        assert pipeline.inboxed() == []

    def test_a_symbol_of_the_path(self, pipeline: Pipeline) -> None:
        """Seed: the value of OUTPATH is translated; without the entry it remains "DATOUT"."""
        timer = "TIME_RANK = 1\nSTART_TIME = 00:00:00\nXPOLL_STATE.00 = SUCCESS\n"
        pipeline.resource("echo $OUTPATH >> $OUT/seen", timer + "ENV.OUTPATH = DATOUT\n")
        for entry in ("DATOUT = /mydisk/mydata/\n", ""):
            pipeline.path(entry)
            assert xpoll(pipeline) == 0
        assert noted(pipeline) == ["/mydisk/mydata/", "DATOUT"]

    @pytest.mark.parametrize(
        ("keys", "woken"),
        [
            pytest.param("START_TIME = 08:00:00\n", ["10 08:00", "11 08:00", "12 08:00"],
                id="a process could trigger every day at 08:00 AM"),
            pytest.param("DELTA_TIME = 000:00:15:00\n", ["09 18:45", "09 19:00", "09 19:15"],
                id="while another might trigger every 15 minutes around the clock"),
            pytest.param("START_TIME = 074:00:00:00\nDELTA_TIME = 000:01:00:00\n",
                ["15 00:00", "15 01:00", "15 02:00"],
                id="yet another process every hour starting the following Sunday"),
            pytest.param("START_TIME = 12:00:00 !start triggering at 12 noon, local time\n"
                "DELTA_TIME = 000:01:00:00 !trigger every hour from the START_TIME\n"
                "                          !onward\n",
                ["09 19:00", "09 20:00", "09 21:00"], id="noon has passed"),
            pytest.param("DELTA_TIME = 001:00:00:00 !trigger every 24 hours from the initial\n"
                "                          !time at which the process is started\n",
                ["10 18:30", "11 18:30", "12 18:30"], id="every 24 hours"),
        ],
    )  # fmt: skip
    def test_time_triggers(self, tmp_path: Path, keys: str, woken: list[str]) -> None:
        """The examples of a process that is started on Monday, 9 March 2026, at 18:30."""
        path = tmp_path / "proc.resource"
        path.write_text(
            "POLLING_TIME = 10\nTASK = < xpoll -p $PATH_FILE -r proc >\nCOMMAND = c\n"
            f"XPOLL_STATE.01 = SUCCESS\nTIME_RANK = 1\n{keys}"
        )
        (trigger,) = read_resource_file(path).triggers
        assert isinstance(trigger, TimeTrigger)
        began = datetime(2026, 3, 9, 18, 30)
        state = begin(trigger, Now(began, 0.0))
        found = []
        for minutes in range(0, 7 * 24 * 60, 15):
            now = began + timedelta(minutes=minutes)
            state = look(state, Now(now, minutes * 60.0))
            if state.pending:
                found.append(f"{now:%d %H:%M}")
                state = taken(state)
        assert found[:3] == woken
