"""The rules of what a process is, what wakes it and what its command is told: a test each, which
quotes the rule (OPUS, "Process resource files", up to "After the command")."""

import os
import time
from datetime import datetime, timedelta
from pathlib import Path
from unittest import mock

import pytest
from xpoll_here import xpoll
from xpolls import DONE, ENTRIES, FILES, SUCCESS, Pipeline, noted

from formats.resource_file import ResourceFile, read_resource_file
from formats.triggers import TimeTrigger
from mirror.errors import ConfigError
from server.blackboard import Key
from server.opus.events import Now, begin, look, taken
from server.opus.manage import task_of
from server.process import main

BASE = """\
POLLING_TIME = 10
TASK = < xpoll -p $PATH_FILE -r g2f >
COMMAND = g2f.pl
XPOLL_STATE.00 = SUCCESS
"""
TIMER = "TIME_RANK = 1\nDELTA_TIME = 000:00:10:00\n"
HOUR, DAY = 3600, 86400


def read(directory: Path, text: str, name: str = "g2f") -> ResourceFile:
    path = directory / f"{name}.resource"
    path.write_text(text)
    return read_resource_file(path)


class TestRequired:
    """OPUS, "Process resource files": what is required, and what is for display."""

    @pytest.mark.parametrize("key", ["POLLING_TIME", "TASK", "COMMAND", "XPOLL_STATE.NN"])
    def test_of_an_external_poller(self, tmp_path: Path, key: str) -> None:
        """Rule: Required: POLLING_TIME (s), TASK; for external pollers also COMMAND and the
        XPOLL_STATE map."""
        assert read(tmp_path, BASE + TIMER).polling_time == 10
        lines = BASE.splitlines(keepends=True)
        text = "".join(line for line in lines if not line.startswith(key.removesuffix("NN")))
        with pytest.raises(ConfigError, match=f"g2f.resource: {key}: required"):
            read(tmp_path, text + TIMER)

    def test_of_a_process_that_waits_by_itself(self, tmp_path: Path) -> None:
        """The same rule: without xpoll in TASK neither COMMAND nor XPOLL_STATE."""
        resource = read(tmp_path, "POLLING_TIME = 2.5\nTASK = < ingest -p $PATH_FILE -r g2f >\n")
        assert (resource.external, resource.polling_time) == (False, 2.5)

    def test_outpath(self, tmp_path: Path) -> None:
        """Rule: OUTPATH if MINBLOCKS."""
        with pytest.raises(ConfigError, match=r"g2f\.resource: OUTPATH: required"):
            read(tmp_path, BASE + TIMER + "MINBLOCKS = 50000\n")

    def test_task_is_how_a_process_starts(self, pipeline: Pipeline) -> None:
        """Rule: TASK = < xpoll -p $PATH_FILE -r PROC > is how a process starts: our xpoll takes -p
        and -r."""
        pipeline.resource("touch $OUT/seen", FILES + SUCCESS)
        resource = read_resource_file(pipeline.directory / "proc.resource", pipeline.paths())
        file = str(pipeline.directory / "night.path")
        words = task_of(resource, pipeline.paths(), "/opt/bin/xpoll")
        assert words == ["/opt/bin/xpoll", "-p", file, "-r", "proc"]
        pipeline.drop("a.in")
        with mock.patch.dict(os.environ, pipeline.environment(), clear=True):
            assert main([*words[1:], "--once"]) == 0
        assert pipeline.inboxed() == ["a.in_ok"]

    def test_defaults_of_the_display(self, tmp_path: Path) -> None:
        """Rule: CLASS, DESCRIPTION, SYSTEM, DISPLAY_ORDER, PROCESS_NAME are for display (default
        CLASS PRO)."""
        shown = read(tmp_path, BASE + TIMER).display
        assert (shown.class_, shown.process_name) == ("PRO", "g2f")
        more = "CLASS = fst\nSYSTEM = 'A B'\nDISPLAY_ORDER = 2\nDESCRIPTION = d\nPROCESS_NAME = n\n"
        shown = read(tmp_path, BASE + TIMER + more).display
        assert (shown.class_, shown.system, shown.order) == ("fst", "A B", 2)
        assert (shown.description, shown.process_name) == ("d", "n")

    def test_order_of_the_display(self, tmp_path: Path) -> None:
        """Rule: sorted by SYSTEM, then DISPLAY_ORDER, then name."""
        given = {"d": ("A", 2), "c": ("A", 10), "a": ("B", 1), "b": ("A", 10)}
        keys = [
            read(
                tmp_path,
                BASE.replace("-r g2f", f"-r {name}")
                + TIMER + f"SYSTEM = {system}\nDISPLAY_ORDER = {order}\n",
                name,
            ).sort_key()
            for name, (system, order) in given.items()
        ]  # fmt: skip
        assert [name for _, _, name in sorted(keys)] == ["d", "b", "c", "a"]


def environ_of(pipeline: Pipeline, name: str = "environ") -> dict[str, str]:
    """What `env -0` has left in $OUT/NAME."""
    text = (pipeline.directory / name).read_text()
    return dict(line.split("=", 1) for line in text.split("\0") if line)


class TestEnvironment:
    """OPUS, "Process resource files": what is set in the command's environment."""

    def test_every_env_key(self, pipeline: Pipeline) -> None:
        """Rule: Every ENV.KEY is set in the command's environment, resolved as above, before it
        starts. Also set: PATH_FILE_NAME, PROCESS_NAME, EVENT_TYPE, EVENT_NUM."""
        pipeline.path("bound = /bound\nproc.D = of_proc\n*.E = of_all\nENV.F = f\n")
        given = "ENV.A = plain\nENV.B = bound\nENV.C = OUT:sub\nENV.D = x\nENV.E = x\nG = g\n"
        time = "TIME_RANK = 3\nSTART_TIME = 00:00:00\n"
        pipeline.resource("env -0 > $OUT/environ", time + given + "XPOLL_STATE.00 = SUCCESS\n")
        assert xpoll(pipeline, EVENT_NAME="stale", OSF_DATASET1="stale") == 0
        seen = environ_of(pipeline)
        expected = {
            "A": "plain", "B": "/bound", "C": f"{pipeline.directory}/sub", "D": "of_proc",
            "E": "of_all", "PATH_FILE_NAME": str(pipeline.directory / "night.path"),
            "PROCESS_NAME": "proc", "EVENT_TYPE": "EVENT_TIME_EVENT", "EVENT_NUM": "0",
        }  # fmt: skip
        assert {name: seen.get(name) for name in expected} == expected
        assert not {"F", "G", "ENV.A", "EVENT_NAME", "OSF_DATASET1"} & seen.keys()

    def test_of_a_file_event(self, pipeline: Pipeline) -> None:
        """Rule: EVENT_TYPE = EVENT_FILE_EVENT, EVENT_NUM = number of items; for file events
        EVENT_NAME (the full path of the file as claimed, with its processing suffix), then
        EVENT_NAME1…"""
        more = "FILE_MAXTARGS1 = 3\n"
        pipeline.resource("env -0 > $OUT/environ", FILES + SUCCESS + more)
        pipeline.drop("a.in", "b.in", "c.in")
        assert xpoll(pipeline) == 0
        seen = {name: text for name, text in environ_of(pipeline).items() if name[:6] == "EVENT_"}
        assert seen == {
            "EVENT_TYPE": "EVENT_FILE_EVENT", "EVENT_NUM": "3",
            "EVENT_NAME": f"{pipeline.inbox}/a.in_proc",
            "EVENT_NAME1": f"{pipeline.inbox}/b.in_proc",
            "EVENT_NAME2": f"{pipeline.inbox}/c.in_proc",
        }  # fmt: skip

    def test_of_an_osf_event(self, pipeline: Pipeline) -> None:
        """Rule: EVENT_OSF_EVENT; for OSF events OSF_DATASET, OSF_DATA_ID, OSF_DCF_NUM,
        OSF_START_TIME, then the same with 1, 2, …"""
        pipeline.resource("env -0 > $OUT/environ", ENTRIES + DONE + "OSF_TRIGGER1.MAXTARGS = 3\n")
        with pipeline.board() as board:
            entries = [
                board.create(Key(name, "fst", dcf), {"GC": "w"})
                for name, dcf in (("o1", "000"), ("o1", "7"), ("o2", "000"))
            ]
        assert xpoll(pipeline) == 0
        seen = environ_of(pipeline)
        assert (seen["EVENT_TYPE"], seen["EVENT_NUM"]) == ("EVENT_OSF_EVENT", "3")
        for suffix, entry in zip(("", "1", "2"), entries, strict=True):
            names = ("OSF_DATASET", "OSF_DATA_ID", "OSF_DCF_NUM", "OSF_START_TIME")
            assert [seen[name + suffix] for name in names] == [*entry.key, entry.start]
        assert not any(name.startswith("EVENT_NAME") for name in seen)


def ticks(trigger: TimeTrigger, began: datetime, hours: int) -> list[int]:
    """In which hours after its start a process that looks every half hour is woken."""
    state = begin(trigger, Now(began, 0.0))
    found = []
    for half in range(1, 2 * hours + 1):
        state = look(state, Now(began + timedelta(hours=half / 2), half * HOUR / 2))
        if state.pending:
            found.append(half // 2)
            state = taken(state)
    return found


class TestTime:
    """OPUS, the table of triggers: time."""

    @pytest.mark.parametrize(
        ("keys", "woken"),
        [
            pytest.param("DELTA_TIME = 000:08:00:00\n", [8, 16, 24, 32, 40, 48],
                id="DELTA alone: every delta from process start"),
            pytest.param("START_TIME = 12:00:00\n", [4, 28], id="START alone: daily at that time"),
            pytest.param("START_TIME = 12:00:00\nDELTA_TIME = 000:10:00:00\n", [4, 14, 24, 34, 44],
                id="both: every delta from START on"),
            pytest.param("START_TIME = 070:00:00:00\nDELTA_TIME = 000:12:00:00\n", [16, 28, 40],
                id="on a day of the year"),
        ],
    )  # fmt: skip
    def test_when(self, tmp_path: Path, keys: str, woken: list[int]) -> None:
        """Rule: DELTA alone: every delta from process start. START alone: daily at that local time.
        Both: every delta from START on (DDD:HH:MM:SS, or HH:MM:SS for START_TIME)."""
        (trigger,) = read(tmp_path, f"{BASE}TIME_RANK = 1\n{keys}").triggers
        assert isinstance(trigger, TimeTrigger)
        # 08:00 of day 69 of the year.
        assert ticks(trigger, datetime(2026, 3, 10, 8), 48) == woken

    def test_missed_ticks(self) -> None:
        """Rule: Missed ticks collapse into one."""
        state = begin(TimeTrigger(1, None, None, HOUR), Now(datetime(2026, 3, 10), 0.0))
        later = Now(datetime(2026, 3, 12), 2.0 * DAY)
        state = look(state, later)
        assert state.pending
        assert not look(taken(state), later).pending

    @pytest.mark.parametrize(("after", "woken"), [(-1, 1), (1, 0)], ids=["has come", "to come"])
    def test_start_is_local(
        self, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, after: int, woken: int
    ) -> None:
        """Rule: daily at that local time; xpoll --once handles every event that is due now."""
        utc = time.gmtime().tm_hour
        local = 12 if abs(utc - 12) > 3 else 4
        monkeypatch.setenv("TZ", f"SITE{utc - local}")
        time.tzset()
        try:
            trigger = f"TIME_RANK = 1\nSTART_TIME = {local + after:02}:30:00\n"
            pipeline.resource(
                "echo $EVENT_TYPE >> $OUT/seen", trigger + "XPOLL_STATE.00 = SUCCESS\n"
            )
            assert xpoll(pipeline) == 0
        finally:
            monkeypatch.undo()
            time.tzset()
        assert noted(pipeline) == ["EVENT_TIME_EVENT"] * woken


class TestFiles:
    """OPUS, the table of triggers: file. Two copies of a process: test_opus_files."""

    def test_a_file_that_matches_appears(self, pipeline: Pipeline) -> None:
        """Rule: a file that matches appears; FILE_PROCESSING is the suffix while in work;
        FILE_SUCCESS a suffix that replaces it."""
        pipeline.resource("ls $(dirname $EVENT_NAME) > $OUT/seen", FILES + SUCCESS)
        pipeline.drop("a.in", "a.out", ".a.in")
        assert xpoll(pipeline) == 0
        assert noted(pipeline) == ["a.in_proc", "a.out"]
        assert pipeline.inboxed() == [".a.in", "a.in_ok", "a.out"]

    @pytest.mark.parametrize("key", ["FILE_SUCCESS", "FILE_ERROR"])
    def test_directories(self, pipeline: Pipeline, key: str) -> None:
        """Rule: FILE_SUCCESS.DIRECTORY / FILE_ERROR.DIRECTORY (move there, processing suffix
        kept; a suffix instead replaces the processing suffix)."""
        old = {"FILE_SUCCESS": "FILE_SUCCESS = _ok", "FILE_ERROR": "FILE_ERROR = _bad"}
        files = FILES.replace(old[key], f"{key}.DIRECTORY = {pipeline.directory}/there")
        pipeline.resource("case $EVENT_NAME in *b.in*) exit 9;; esac", files + SUCCESS)
        pipeline.drop("a.in", "b.in")
        assert xpoll(pipeline) == 0
        moved, stays = (
            ("a.in_proc", "b.in_bad") if key == "FILE_SUCCESS" else ("b.in_proc", "a.in_ok")
        )
        assert os.listdir(pipeline.directory / "there") == [moved]
        assert pipeline.inboxed() == [stays]

    def test_maxtargs(self, pipeline: Pipeline) -> None:
        """Rule: FILE_MAXTARGSn; without it one file an event (seed 004)."""
        more = f"FILE_DIRECTORY2 = {pipeline.directory}/two\nFILE_OBJECT2 = *\nFILE_MAXTARGS2 = 2\n"
        pipeline.resource("echo $EVENT_NUM >> $OUT/seen", FILES + SUCCESS + more)
        pipeline.drop("a.in", "b.in")
        (pipeline.directory / "two").mkdir()
        for name in "cde":
            (pipeline.directory / "two" / name).touch()
        assert xpoll(pipeline) == 0
        assert noted(pipeline) == ["1", "1", "2", "1"]


class TestEntries:
    """OPUS, the table of triggers: OSF. Many processes at once: test_opus_rules_board."""

    def test_named_columns_alone_matter(self, pipeline: Pipeline) -> None:
        """Rule: an entry on the blackboard matches all named columns; other columns do not matter.
        Keys OSF_TRIGGERn.XX, .DATA_ID, .DCF_NUMBER, .MAXTARGS."""
        more = "OSF_TRIGGER1.DCF_NUMBER = 000\nOSF_TRIGGER1.MAXTARGS = 2\n"
        pipeline.resource(
            'echo "$EVENT_NUM $OSF_DATASET $OSF_DATASET1" >> $OUT/seen', ENTRIES + DONE + more
        )
        with pipeline.board() as board:
            for name, data_id, dcf, states in (
                ("yes1", "fst", "000", {"GC": "w"}),
                ("state", "fst", "000", {"GC": "c"}),
                ("unset", "fst", "000", {"CA": "w"}),
                ("type", "raw", "000", {"GC": "w"}),
                ("dcf", "fst", "001", {"GC": "w"}),
                ("yes2", "fst", "000", {"GC": "W", "CA": "n"}),
                ("yes3", "fst", "000", {"GC": "w", "CA": "c"}),
            ):
                board.create(Key(name, data_id, dcf), states)
        assert xpoll(pipeline) == 0
        assert noted(pipeline) == ["2 yes1 yes2", "1 yes3 "]

    def test_claiming_sets_osf_processing(self, pipeline: Pipeline) -> None:
        """Rule: Claiming sets OSF_PROCESSING atomically."""
        pipeline.resource("", ENTRIES + DONE + "OSF_PROCESSING.CA = n\n")
        pipeline.post("o1")
        assert xpoll(pipeline) == 0
        with pipeline.board() as board:
            history = [(one.what, one.stage, one.before, one.after) for one in board.history()]
        assert sorted(history[1:3]) == [("claimed", "CA", "_", "n"), ("claimed", "GC", "w", "p")]
        assert sorted(history[3:]) == [("updated", "CA", "n", "w"), ("updated", "GC", "p", "c")]


def test_ranks(pipeline: Pipeline) -> None:
    """Rule: Ranks 1…N order the event types of one process, lowest first; triggers of one type go
    in order of n (OPUS, "Process resource files")."""
    time = "TIME_RANK = 1\nSTART_TIME = 00:00:00\n"
    files = FILES.replace("RANK = 1", "RANK = 30") + "".join(
        f"FILE_DIRECTORY{n} = INDIR\nFILE_OBJECT{n} = *.{n}\n" for n in (10, 9)
    )
    entries = "OSF_TRIGGER10.GC = w\nOSF_TRIGGER10.DATA_ID = ten\n" + ENTRIES + (
        "OSF_TRIGGER9.GC = w\nOSF_TRIGGER9.DATA_ID = nine\n"
    )  # fmt: skip
    script = "echo $EVENT_TYPE ${EVENT_NAME##*.} $OSF_DATA_ID >> $OUT/seen"
    pipeline.resource(script, files + entries + time + SUCCESS)
    pipeline.drop("a.10", "b.9", "c.in")
    with pipeline.board() as board:
        for data_id in ("ten", "nine", "fst"):
            board.create(Key("o1", data_id), {"GC": "w"})
    assert xpoll(pipeline) == 0
    assert noted(pipeline) == [
        "EVENT_TIME_EVENT",
        *(f"EVENT_OSF_EVENT {data_id}" for data_id in ("fst", "nine", "ten")),
        *(f"EVENT_FILE_EVENT {end}_proc" for end in ("in", "9", "10")),
    ]
