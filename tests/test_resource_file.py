"""Process resource files: triggers, outcomes, and everything that can be wrong in them (OPUS,
"Process resource files"). The examples of the seeds are in test_opus_seeds."""

from datetime import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from formats.outcomes import FileChange, Outcome
from formats.path_file import PathFile, read_path_file
from formats.resource_file import (
    ResourceFile,
    examine_resource_file,
    find_resource_file,
    read_resource_file,
    split_command,
)
from formats.triggers import FileSearch, FileTrigger, OsfMatch, OsfTrigger, TimeTrigger
from mirror.errors import ConfigError

BASE = """\
POLLING_TIME = 60
TASK = < xpoll -p $PATH_FILE -r g2f >
COMMAND = g2f.pl
XPOLL_STATE.00 = SUCCESS
"""
TIME = "TIME_RANK = 1\nDELTA_TIME = 000:00:10:00\n"
FILE = """\
FILE_RANK = 2
FILE_DIRECTORY1 = /in
FILE_OBJECT1 = *.trigger
FILE_PROCESSING = _work
FILE_SUCCESS = _done
FILE_ERROR = _bad
"""
OSF = """\
OSF_RANK = 3
OSF_TRIGGER1.SF = w
OSF_PROCESSING.SF = p
"""


def write(directory: Path, text: str, name: str = "g2f.resource") -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / name
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    return path


def blue(directory: Path, text: str, environ: dict[str, str] | None = None) -> PathFile:
    required = "STAGE_FILE = /blue.stage\nOPUS_OBSERVATIONS_DIR = /obs\n"
    return read_path_file(write(directory, required + text, "blue.path"), environ or {})


def read(directory: Path, text: str, paths: PathFile | None = None) -> ResourceFile:
    return read_resource_file(write(directory, text), paths)


def problems_of(directory: Path, text: str, paths: PathFile | None = None) -> list[str]:
    with pytest.raises(ConfigError) as raised:
        read(directory, text, paths)
    return raised.value.problems


class TestTime:
    """TIME_RANK, START_TIME, DELTA_TIME: `DDD:HH:MM:SS`, or `HH:MM:SS` for START_TIME."""

    @pytest.mark.parametrize(
        ("text", "day", "start", "delta"),
        [
            pytest.param("DELTA_TIME = 000:00:30:00", None, None, 1800, id="every half hour"),
            pytest.param("DELTA_TIME = 001:00:00:00", None, None, 86400, id="every day"),
            pytest.param("DELTA_TIME = 999:23:59:59", None, None, 86399999, id="longest"),
            pytest.param("DELTA_TIME = 0:1:00:00", None, None, 3600, id="without zeros"),
            pytest.param("START_TIME = 08:00:00", None, time(8), None, id="daily"),
            pytest.param("START_TIME = 8:00:01", None, time(8, 0, 1), None, id="one digit"),
            pytest.param("START_TIME = 000:08:00:00", None, time(8), None, id="no day"),
            pytest.param("START_TIME = 366:23:59:59", 366, time(23, 59, 59), None, id="a day"),
            pytest.param("START_TIME = 12:00:00\nDELTA_TIME = 000:01:00:00",
                None, time(12), 3600, id="every hour from noon on"),
        ],
    )  # fmt: skip
    def test_read(
        self, tmp_path: Path, text: str, day: int | None, start: time | None, delta: int | None
    ) -> None:
        resource = read(tmp_path, f"{BASE}TIME_RANK = 1\n{text}\n")
        assert resource.triggers == (TimeTrigger(1, day, start, delta),)

    @pytest.mark.parametrize("key", ["DELTA_TIME", "START_TIME"])
    @pytest.mark.parametrize(
        "value",
        ["000:24:00:00", "000:00:60:00", "000:00:00:60", "00:00", "'noon time'", "-1:00:00:00",
         "1000:00:00:00", "000:0:0:0", "0:00:00:00.5", "''"],
    )  # fmt: skip
    def test_bad_time_refused(self, tmp_path: Path, key: str, value: str) -> None:
        (problem,) = problems_of(tmp_path, f"{BASE}TIME_RANK = 1\n{key} = {value}\n")
        assert problem.startswith(f"{tmp_path}/g2f.resource:6: {key}: a time")

    @pytest.mark.parametrize(
        ("line", "problem"),
        [
            pytest.param("DELTA_TIME = 000:00:00:00", "DELTA_TIME: a time above 0", id="nothing"),
            pytest.param("DELTA_TIME = 00:30:00", "DELTA_TIME: a time above 0", id="no days"),
            pytest.param("START_TIME = 367:00:00:00", "START_TIME: a time as HH", id="day 367"),
        ],
    )
    def test_time_without_meaning_refused(self, tmp_path: Path, line: str, problem: str) -> None:
        (found,) = problems_of(tmp_path, f"{BASE}TIME_RANK = 1\n{line}\n")
        assert f":6: {problem}" in found


class TestFile:
    """FILE_RANK, FILE_DIRECTORYn, FILE_OBJECTn, FILE_PROCESSING, FILE_SUCCESS, FILE_ERROR."""

    def test_read(self, tmp_path: Path) -> None:
        more = "FILE_DIRECTORY11 = /b\nFILE_OBJECT11 = b*\nFILE_MAXTARGS11 = 5\nFILE_ABSENT = _gone"
        (trigger,) = read(tmp_path, f"{BASE}{FILE}{more}\n").triggers
        assert trigger == FileTrigger(
            2,
            (
                FileSearch("FILE_DIRECTORY1", "/in", "*.trigger", 1),
                FileSearch("FILE_DIRECTORY11", "/b", "b*", 5),
            ),
            "_work",
            FileChange("FILE_ABSENT", "_gone", None),
        )

    def test_triggers_of_one_type_go_in_order_of_n(self, tmp_path: Path) -> None:
        more = "".join(f"FILE_DIRECTORY{n} = /d{n}\nFILE_OBJECT{n} = o{n}\n" for n in (10, 9, 2))
        (trigger,) = read(tmp_path, BASE + FILE + more).triggers
        assert isinstance(trigger, FileTrigger)
        assert [one.directory for one in trigger.searches] == ["/in", "/d2", "/d9", "/d10"]

    def test_dangle_is_the_suffix_written_otherwise(self, tmp_path: Path) -> None:
        text = FILE.replace("FILE_PROCESSING", "FILE_PROCESSING.DANGLE").replace(
            "FILE_ERROR", "FILE_ERROR.DANGLE"
        )
        resource = read(tmp_path, BASE + text)
        (trigger,) = resource.triggers
        assert isinstance(trigger, FileTrigger)
        assert trigger.processing == "_work"
        change = FileChange("FILE_ERROR.DANGLE", "_bad", None)
        assert resource.outcomes["FILE_ERROR"] == Outcome({}, change)

    @pytest.mark.parametrize(
        ("old", "new", "problem"),
        [
            pytest.param("FILE_RANK = 2\n", "", ": FILE_RANK: required", id="rank"),
            pytest.param("FILE_DIRECTORY1 = /in\n", "", ": FILE_DIRECTORY1: required", id="dir"),
            pytest.param("FILE_OBJECT1 = *.trigger\n", "", ": FILE_OBJECT1: required", id="object"),
            pytest.param("FILE_DIRECTORY1 = /in\nFILE_OBJECT1 = *.trigger\n", "",
                ": FILE_DIRECTORY1: required, with FILE_OBJECT1", id="no search at all"),
            pytest.param("FILE_PROCESSING = _work\n", "", ": FILE_PROCESSING: required", id="work"),
            pytest.param("FILE_SUCCESS = _done\n", "", ": FILE_SUCCESS: required", id="success"),
            pytest.param("FILE_ERROR = _bad\n", "", ": FILE_ERROR: required", id="error"),
            pytest.param("FILE_RANK = 2", "FILE_RANK = 0", ":5: FILE_RANK: a whole", id="rank 0"),
            pytest.param("= *.trigger", "= a/*", ":7: FILE_OBJECT1: a name or", id="/ in a name"),
            pytest.param("= *.trigger", "= ''", ":7: FILE_OBJECT1: a name or", id="no name"),
            pytest.param("= /in", "= ''", ":6: FILE_DIRECTORY1: a directory", id="no directory"),
            pytest.param("= _work", "= a/b", ":8: FILE_PROCESSING: a suffix", id="/ in a suffix"),
            pytest.param("= _work", "= ''", ":8: FILE_PROCESSING: a suffix", id="no suffix"),
            pytest.param("= _work", "= _work\nFILE_PROCESSING.DANGLE = _w",
                ":9: FILE_PROCESSING.DANGLE: either", id="two suffixes"),
            pytest.param("= _done", "= _done\nFILE_SUCCESS.DIRECTORY = /d",
                ":10: FILE_SUCCESS.DIRECTORY: only one of", id="suffix and directory"),
            pytest.param("= _done", "= _done\nFILE_SUCCESS.DIR = /d",
                ":10: FILE_SUCCESS.DIR: the two letters", id="neither"),
            pytest.param("FILE_ERROR = _bad", "FILE_ERROR.DIRECTORY = ''",
                ":10: FILE_ERROR.DIRECTORY: a directory", id="no directory to move to"),
            pytest.param("= _bad", "= _bad\nFILE_ACTION = 'rm \"^f'",
                ":11: FILE_ACTION: a command", id="open quote in an action"),
            pytest.param("= _bad", "= _bad\nFILE_MAXTARGS1 = 0",
                ":11: FILE_MAXTARGS1: a whole number of 1 or more", id="no targets"),
            pytest.param("= _bad", "= _bad\nFILE_MAXTARGS2 = 3",
                ": FILE_DIRECTORY2: required", id="targets of nothing"),
            pytest.param("FILE_OBJECT1", "FILE_OBJECT", ":7: FILE_OBJECT: a number", id="no n"),
            pytest.param("FILE_OBJECT1", "FILE_OBJECT0", ":7: FILE_OBJECT0: a number", id="n = 0"),
        ],
    )  # fmt: skip
    def test_refused(self, tmp_path: Path, old: str, new: str, problem: str) -> None:
        assert old in FILE
        found = problems_of(tmp_path, BASE + FILE.replace(old, new))
        assert any(f"g2f.resource{problem}" in one for one in found), found


class TestOsf:
    """OSF_RANK, OSF_TRIGGERn.XX and OSF_PROCESSING.XX are required (seed 004)."""

    def test_read(self, tmp_path: Path) -> None:
        more = (
            "OSF_TRIGGER2.SF = W\nOSF_TRIGGER2.CL = _\nOSF_TRIGGER2.DATA_ID = scw\n"
            "OSF_TRIGGER2.DCF_NUMBER = 000\nOSF_TRIGGER2.MAXTARGS = 20\nOSF_ABSENT = a\n"
        )
        (trigger,) = read(tmp_path, BASE + OSF + more).triggers
        assert trigger == OsfTrigger(
            3,
            (
                OsfMatch(1, {"SF": "w"}, None, None, 1),
                OsfMatch(2, {"SF": "W", "CL": "_"}, "scw", "000", 20),
            ),
            {"SF": "p"},
            "a",
        )

    @pytest.mark.parametrize(
        ("old", "new", "problem"),
        [
            pytest.param("OSF_RANK = 3\n", "", ": OSF_RANK: required", id="rank"),
            pytest.param("OSF_TRIGGER1.SF = w\n", "", ": OSF_TRIGGER1.XX: required", id="trigger"),
            pytest.param("OSF_PROCESSING.SF = p\n", "", ": OSF_PROCESSING.XX: required", id="work"),
            pytest.param("R1.SF = w", "R1.DATA_ID = scw", ": OSF_TRIGGER1.XX: required", id="id"),
            pytest.param("= w", "= w8?", ":6: OSF_TRIGGER1.SF: one letter", id="a word"),
            pytest.param("= w", "= ''", ":6: OSF_TRIGGER1.SF: one letter", id="no letter"),
            pytest.param("= p", "= ' '", ":7: OSF_PROCESSING.SF: one letter", id="a blank"),
            pytest.param("R1.SF", "R1.SFX", ":6: OSF_TRIGGER1.SFX: the two letters", id="stage"),
            pytest.param("R1.SF", "R.SF", ":6: OSF_TRIGGER.SF: OSF_TRIGGERn.XX", id="no n"),
            pytest.param("R1.SF", "R0.SF", ":6: OSF_TRIGGER0.SF: OSF_TRIGGERn.XX", id="n = 0"),
            pytest.param("G.SF", "G.S", ":7: OSF_PROCESSING.S: OSF_PROCESSING.XX", id="stage too"),
            pytest.param("= p", "= p\nOSF_TRIGGER1.MAXTARGS = 1.5",
                ":8: OSF_TRIGGER1.MAXTARGS: a whole", id="half a target"),
        ],
    )  # fmt: skip
    def test_refused(self, tmp_path: Path, old: str, new: str, problem: str) -> None:
        assert old in OSF
        found = problems_of(tmp_path, BASE + OSF.replace(old, new))
        assert any(f"g2f.resource{problem}" in one for one in found), found

    @pytest.mark.parametrize(
        ("processing", "warned"),
        [
            pytest.param("OSF_PROCESSING.SF = p", False, id="the stage of the trigger"),
            pytest.param("OSF_PROCESSING.CL = p", True, id="another stage"),
            pytest.param("OSF_PROCESSING.SF = W", True, id="the same state"),
            pytest.param("OSF_PROCESSING.SF = p\nOSF_PROCESSING.CL = w", False, id="and another"),
        ],
    )
    def test_claim_that_does_not_prevent_the_next_one_is_warned_of(
        self, tmp_path: Path, processing: str, warned: bool
    ) -> None:
        resource = read(tmp_path, BASE + OSF.replace("OSF_PROCESSING.SF = p", processing))
        assert any("a claimed entry matches again" in one for one in resource.warnings) is warned


class TestRanks:
    """Ranks 1…N order the event types of one process, lowest first."""

    def test_lowest_first(self, tmp_path: Path) -> None:
        ranks = TIME.replace("RANK = 1", "RANK = 7")
        triggers = read(tmp_path, BASE + ranks + FILE + OSF).triggers
        assert [trigger.rank for trigger in triggers] == [2, 3, 7]

    def test_rank_twice_refused(self, tmp_path: Path) -> None:
        (problem,) = problems_of(tmp_path, BASE + FILE + OSF.replace("RANK = 3", "RANK = 2"))
        assert problem.startswith(f"{tmp_path}/g2f.resource:11: OSF_RANK: a rank of its own")
        assert "FILE_RANK is 2 too" in problem

    @pytest.mark.parametrize("rank", ["0", "-1", "1.0", "' '", "1x"])
    def test_bad_rank_refused(self, tmp_path: Path, rank: str) -> None:
        (problem,) = problems_of(tmp_path, BASE + TIME.replace("RANK = 1", f"RANK = {rank}"))
        assert ":5: TIME_RANK: a whole number of 1 or more expected" in problem


class TestOutcomes:
    """XPOLL_STATE.NN names a set of keywords, any name will do."""

    def test_sets(self, tmp_path: Path) -> None:
        text = (
            "XPOLL_STATE.01 = OSF_OK\nXPOLL_STATE.05 = FILE_IGNORE\nXPOLL_STATE.99 = XPOLL_ERROR\n"
            "OSF_OK.SF = c\nOSF_OK.CL = W\nFILE_IGNORE = _done\nXPOLL_ERROR.SF = x\n"
            "XPOLL_STATE.06 = BOTH\nBOTH.SF = c\nBOTH.DIRECTORY = /done\nXPOLL_ERROR_COUNT = 10\n"
        )
        resource = read(tmp_path, BASE + TIME + text)
        assert resource.states == {
            0: "SUCCESS", 1: "OSF_OK", 5: "FILE_IGNORE", 99: "XPOLL_ERROR", 6: "BOTH"
        }  # fmt: skip
        assert resource.outcomes == {
            "OSF_OK": Outcome({"SF": "c", "CL": "W"}, None),
            "FILE_IGNORE": Outcome({}, FileChange("FILE_IGNORE", "_done", None)),
            "XPOLL_ERROR": Outcome({"SF": "x"}, None),
            "BOTH": Outcome({"SF": "c"}, FileChange("BOTH.DIRECTORY", None, "/done")),
        }
        assert resource.error_count == 10
        assert resource.warnings == ()

    def test_without_error_count_errors_never_stop_it(self, tmp_path: Path) -> None:
        assert read(tmp_path, BASE + TIME).error_count is None

    def test_set_without_keyword_does_nothing_and_is_warned_of(self, tmp_path: Path) -> None:
        resource = read(tmp_path, BASE + TIME + "XPOLL_STATE.01 = OSF_OKK\nOSF_OK.SF = c\n")
        assert resource.outcomes == {}
        (warning,) = resource.warnings
        assert warning.startswith(f"{tmp_path}/g2f.resource:7: XPOLL_STATE.01: OSF_OKK has no")

    @pytest.mark.parametrize("name", ["SUCCESS", "NULL", "XPOLL_ERROR", "FILE_ACTION"])
    def test_names_with_a_meaning_of_their_own(self, tmp_path: Path, name: str) -> None:
        assert read(tmp_path, f"{BASE}{TIME}XPOLL_STATE.01 = {name}\n").warnings == ()

    @pytest.mark.parametrize("name", ["SUCCESS", "NULL", "CHECK_FILE", "FILE_ACTION"])
    def test_no_keyword_makes_a_set_of_them(self, tmp_path: Path, name: str) -> None:
        text = f"{BASE}{TIME}XPOLL_STATE.01 = {name}\n{name}.SF = c\nENV.EVENT_STATE_FILE = s\n"
        assert read(tmp_path, text).outcomes == {}

    @pytest.mark.parametrize(
        "line",
        ["OSF_OK.SF = cc", "OSF_OK = a/b", "OSF_OK.DIRECTORY = ''", "OSF_OK.DIRECTORY = a->b"],
    )
    def test_what_is_wrong_is_no_part_of_a_set(self, tmp_path: Path, line: str) -> None:
        text = f"{BASE}{TIME}XPOLL_STATE.01 = OSF_OK\nOSF_OK.CL = c\n{line}\n"
        resource, problems = examine_resource_file(write(tmp_path, text), blue(tmp_path, ""))
        assert len(problems) == 1
        assert resource.outcomes == {"OSF_OK": Outcome({"CL": "c"}, None)}

    def test_check_file_wants_a_state_file(self, tmp_path: Path) -> None:
        text = BASE + TIME + "XPOLL_STATE.01 = CHECK_FILE\n"
        (warning,) = read(tmp_path, text).warnings
        assert ":7: XPOLL_STATE.01: CHECK_FILE reads the file that ENV.EVENT_STATE_FILE" in warning
        assert read(tmp_path, text + "ENV.EVENT_STATE_FILE = state\n").warnings == ()

    @pytest.mark.parametrize("number", ["128", "255", "99"])
    def test_statuses(self, tmp_path: Path, number: str) -> None:
        resource = read(tmp_path, f"{BASE}{TIME}XPOLL_STATE.{number} = NULL\n")
        assert resource.states[int(number)] == "NULL"
        assert resource.warnings == ()

    @pytest.mark.parametrize("number", ["100", "127"])
    def test_fatal_statuses_are_warned_of(self, tmp_path: Path, number: str) -> None:
        (warning,) = read(tmp_path, f"{BASE}{TIME}XPOLL_STATE.{number} = NULL\n").warnings
        assert f":7: XPOLL_STATE.{number}: statuses 100 to 127" in warning

    @pytest.mark.parametrize(
        ("line", "problem"),
        [
            pytest.param("XPOLL_STATE.1 = NULL", "XPOLL_STATE.1: XPOLL_STATE.NN", id="one digit"),
            pytest.param("XPOLL_STATE.256 = NULL", "XPOLL_STATE.256: XPOLL", id="no status"),
            pytest.param("XPOLL_STATE.012 = NULL", "XPOLL_STATE.012: XPOLL", id="three digits"),
            pytest.param("XPOLL_STATE = NULL", "XPOLL_STATE: XPOLL_STATE.NN", id="no number"),
            pytest.param("XPOLL_STATE.01 = 'a b'", "XPOLL_STATE.01: the name of", id="no name"),
            pytest.param("XPOLL_ERROR.SF = 1x", "XPOLL_ERROR.SF: one letter", id="a word"),
            pytest.param("XPOLL_ERROR.STAGE = x", "XPOLL_ERROR.STAGE: the two", id="no stage"),
            pytest.param("XPOLL_ERROR_COUNT = -1", "XPOLL_ERROR_COUNT: a whole", id="count"),
        ],
    )
    def test_refused(self, tmp_path: Path, line: str, problem: str) -> None:
        (found,) = problems_of(tmp_path, f"{BASE}{TIME}{line}\n")
        assert found.startswith(f"{tmp_path}/g2f.resource:7: {problem}")


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        pytest.param("POLLING_TIME = 60\n", "", ": POLLING_TIME: required", id="no polling time"),
        pytest.param("= 60", "= 0", ":1: POLLING_TIME: a number of seconds", id="0 s"),
        pytest.param("= 60", "= 1e3", ":1: POLLING_TIME: a number of seconds", id="1e3 s"),
        pytest.param("= 60", "= -5", ":1: POLLING_TIME: a number of seconds", id="-5 s"),
        pytest.param("TASK = < xpoll -p $PATH_FILE -r g2f >\n", "", ": TASK: required", id="task"),
        pytest.param("-r g2f >", "-r 'g2f >", ":2: TASK: a command", id="quotation"),
        pytest.param("COMMAND = g2f.pl\n", "", ": COMMAND: required", id="no command"),
        pytest.param("= g2f.pl", "= ''", ":3: COMMAND: a command", id="empty command"),
        pytest.param("= g2f.pl", "= 'g2f.pl \"x'", ":3: COMMAND: a command", id="open quote"),
        pytest.param("XPOLL_STATE.00 = SUCCESS\n", "", ": XPOLL_STATE.NN: required", id="states"),
        pytest.param("TIME_RANK = 1\nDELTA_TIME = 000:00:10:00\n", "",
            ": TIME_RANK or FILE_RANK or OSF_RANK: required", id="no trigger"),
        pytest.param("DELTA_TIME = 000:00:10:00\n", "", ": DELTA_TIME: required", id="no time"),
        pytest.param("TIME_RANK = 1\n", "", ": TIME_RANK: required", id="no rank"),
        pytest.param("TIME_RANK", "MINBLOCKS = 5\nTIME_RANK", ": OUTPATH: required", id="outpath"),
        pytest.param("TIME_RANK", "MINBLOCKS = 5k\nTIME_RANK", ":5: MINBLOCKS: a whole", id="5k"),
        pytest.param("TIME_RANK", "RESUME_BLOCKS = 5\nTIME_RANK", ": MINBLOCKS: req", id="resume"),
        pytest.param("TIME_RANK", "DISPLAY_ORDER = a-b\nTIME_RANK", ":5: DISPLAY_", id="order"),
        pytest.param("TIME_RANK", "ENV. = b\nTIME_RANK", ":5: ENV.: the name of", id="ENV. alone"),
        pytest.param("TIME_RANK", "FILE_ACTION_OK = 256\nTIME_RANK", ":5: FILE_ACT", id="256"),
        pytest.param("TIME_RANK", "nonsense\nTIME_RANK", ":5: KEYWORD = VALUE", id="syntax"),
        pytest.param("TIME_RANK", "K = a b ! c\nTIME_RANK", ":5: K: a value with blanks in single"
            " quotes expected", id="blanks without quotes"),
    ],
)  # fmt: skip
def test_refused(tmp_path: Path, old: str, new: str, problem: str) -> None:
    text = BASE + TIME
    assert old in text
    found = problems_of(tmp_path, text.replace(old, new))
    assert any(f"g2f.resource{problem}" in one for one in found), found


@pytest.mark.parametrize(
    ("line", "missing"),
    [
        ("START_TIME = 12:00:00", ["TIME_RANK"]),
        ("DELTA_TIME = 000:01:00:00", ["TIME_RANK"]),
        ("TIME_RANK = 1", ["DELTA_TIME"]),
        ("FILE_PROCESSING = _p", ["FILE_RANK", "FILE_DIRECTORY1"]),
        ("FILE_PROCESSING.DANGLE = _p", ["FILE_RANK", "FILE_DIRECTORY1"]),
        ("FILE_ABSENT = _a", ["FILE_RANK", "FILE_DIRECTORY1", "FILE_PROCESSING"]),
        ("FILE_OBJECT1 = *", ["FILE_RANK", "FILE_PROCESSING", "FILE_DIRECTORY1"]),
        ("FILE_DIRECTORY1 = /in", ["FILE_RANK", "FILE_PROCESSING", "FILE_OBJECT1"]),
        ("FILE_MAXTARGS1 = 2", ["FILE_RANK", "FILE_PROCESSING", "FILE_DIRECTORY1", "FILE_OBJECT1"]),
        ("OSF_ABSENT = a", ["OSF_RANK", "OSF_TRIGGER1.XX", "OSF_PROCESSING.XX"]),
        ("OSF_PROCESSING.SF = p", ["OSF_RANK", "OSF_TRIGGER1.XX"]),
        ("OSF_PROCESSING.S = p", ["OSF_TRIGGER1.XX"]),
    ],
)
def test_one_keyword_of_a_trigger_wants_the_others(
    tmp_path: Path, line: str, missing: list[str]
) -> None:
    """Beside another trigger that is whole: nobody would see that this one is none."""
    other = OSF if line.startswith(("TIME", "START", "DELTA")) else TIME
    rank = "OSF_RANK = 2\n" if "PROCESSING.S " in line else ""
    done = "FILE_SUCCESS = _s\nFILE_ERROR = _e\n" if line.startswith("FILE") else ""
    found = problems_of(tmp_path, f"{BASE}{other}{rank}{done}{line}\n")
    required = [one.split(": ")[1] for one in found if ": required" in one]
    assert required == missing
    if rank:
        assert len(found) == 2, "what is wrong with OSF_PROCESSING.S is said once"


def test_the_smallest_numbers(tmp_path: Path) -> None:
    more = "FILE_MAXTARGS1 = 1\nOSF_TRIGGER1.MAXTARGS = 1\nXPOLL_ERROR_COUNT = 0\n"
    text = BASE + TIME.replace("= 1", "= 9") + FILE + OSF.replace("RANK = 3", "RANK = 1") + more
    resource = read(tmp_path, text + "MINBLOCKS = 0\nOUTPATH = /\n")
    assert [trigger.rank for trigger in resource.triggers] == [1, 2, 9]
    assert (resource.error_count, resource.min_blocks) == (0, 0)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("TIME_RANK = 1\n", id="no time"),
        pytest.param("DELTA_TIME = 000:00:10:00\n", id="no rank of a time"),
        pytest.param("TIME_RANK = first\nDELTA_TIME = 000:00:10:00\n", id="a rank to come"),
        pytest.param("TIME_RANK = 1\nDELTA_TIME = ten\n", id="a time to come"),
        pytest.param(FILE.replace("FILE_RANK = 2\n", ""), id="no rank of a file"),
        pytest.param(FILE.replace("FILE_PROCESSING = _work\n", ""), id="no processing"),
        pytest.param(FILE.replace("FILE_OBJECT1 = *.trigger\n", ""), id="no object"),
        pytest.param(FILE.replace("FILE_DIRECTORY1 = /in\n", ""), id="no directory"),
        pytest.param(OSF.replace("OSF_RANK = 3\n", ""), id="no rank of an entry"),
        pytest.param(OSF.replace("OSF_TRIGGER1.SF = w\n", ""), id="no trigger"),
        pytest.param(OSF.replace("OSF_TRIGGER1.SF = w\n", "OSF_TRIGGER1.SF = wait\n"),
            id="a letter to come"),
        pytest.param(OSF.replace("OSF_PROCESSING.SF = p\n", ""), id="no claim"),
    ],
)  # fmt: skip
def test_trigger_that_lacks_a_partner_is_left_out(tmp_path: Path, text: str) -> None:
    resource, _ = examine_resource_file(write(tmp_path, BASE + text))
    assert resource.triggers == ()


def test_all_problems_of_a_file_in_one_go(tmp_path: Path) -> None:
    text = "nonsense\nPOLLING_TIME = -1\nOSF_RANK = 1\nFILE_RANK = 1\nDELTA_TIME = x:y\n"
    text = "\n".join(problems_of(tmp_path, text))
    for part in (":1: KEYWORD", ":2: POLLING_TIME", ": TASK: required", ": OSF_TRIGGER1.XX: req",
                 ":3: OSF_RANK: a rank of its own", ": FILE_DIRECTORY1: req", ":5: DELTA_TIME: a",
                 ": OSF_PROCESSING.XX: req", ": FILE_PROCESSING: req", ": FILE_SUCCESS: req",
                 ": FILE_ERROR: req", ": TIME_RANK: req"):  # fmt: skip
        assert part in text, part
    assert len(text.splitlines()) == 12


def test_process_that_knows_itself_what_to_do_needs_no_command(tmp_path: Path) -> None:
    text = f"TASK = <osfdelete -p $PATH_FILE -r g2f>\nPOLLING_TIME = 5\n{OSF}"
    resource = read(tmp_path, text)
    assert not resource.external
    assert resource.polling_time == 5


@pytest.mark.parametrize(
    "task",
    ["< /usr/bin/nice -15 xpoll -p $PATH_FILE -r g2f >", "'xpoll -r G2F'", "</opt/bin/xpoll>",
     "< python -m server xpoll -p $PATH_FILE -r g2f >"],
)  # fmt: skip
def test_task_that_runs_xpoll(tmp_path: Path, task: str) -> None:
    text = f"TASK = {task}\n" + BASE.replace("TASK", "DESCRIPTION") + TIME
    resource = read(tmp_path, text)
    assert resource.external
    assert resource.warnings == ()


def test_task_of_another_process_is_warned_of(tmp_path: Path) -> None:
    (warning,) = read(tmp_path, BASE.replace("-r g2f", "-r f2g") + TIME).warnings
    assert warning == f"{tmp_path}/g2f.resource:2: TASK: -r g2f expected, not -r f2g"


@pytest.mark.parametrize(
    ("lines", "blocks"),
    [
        pytest.param("", (None, None), id="no guard"),
        pytest.param("MINBLOCKS = 50\nOUTPATH = out", (50, 50), id="resumes at MINBLOCKS"),
        pytest.param("MINBLOCKS = 50\nOUTPATH = out\nRESUME_BLOCKS = 50", (50, 50), id="same"),
        pytest.param("MINBLOCKS = 50\nENV.OUTPATH = out\nRESUME_BLOCKS = 70", (50, 70), id="both"),
    ],
)
def test_blocks(tmp_path: Path, lines: str, blocks: tuple[int | None, int | None]) -> None:
    resource = read(tmp_path, f"{BASE}{TIME}{lines}\n")
    assert (resource.min_blocks, resource.resume_blocks) == blocks
    assert resource.warnings == ()


def test_leftovers_are_warned_of(tmp_path: Path) -> None:
    text = (
        "MINBLOCKS = 9\nOUTPATH = /o\nRESUME_BLOCKS = 8\nFILE_ACTION_OK = 255\n"
        "PASSWORD_PROMPT = who\nENV.A = SUB[B]\nENV.A = SUB[B]\n"
    )
    text = "\n".join(read(tmp_path, BASE + TIME + text).warnings)
    for part in (":9: RESUME_BLOCKS: at least MINBLOCKS", ":10: FILE_ACTION_OK: means nothing",
                 ":11: PASSWORD_PROMPT: means nothing", ":13: ENV.A: SUB[] is replaced in",
                 ":13: ENV.A: given in line 12 too"):  # fmt: skip
        assert part in text, part
    (warning,) = read(tmp_path, BASE + TIME + "FILE_ACTION = rm\n").warnings
    assert "FILE_ACTION: without a file trigger it is never run" in warning


def test_display(tmp_path: Path) -> None:
    shown = read(tmp_path, BASE + TIME).display
    assert (shown.class_, shown.system, shown.order, shown.description) == ("PRO", "", 0, "")
    assert shown.process_name == "g2f"
    more = "CLASS = adp\nSYSTEM = 'ADP Pipeline'\nDISPLAY_ORDER=4\nDESCRIPTION = 'Start it'\n"
    shown = read(tmp_path, BASE + TIME + more + "PROCESS_NAME = Gee\n").display
    assert (shown.class_, shown.system, shown.order) == ("adp", "ADP Pipeline", 4)
    assert (shown.description, shown.process_name) == ("Start it", "Gee")


def test_sorted_by_system_then_display_order_then_name(tmp_path: Path) -> None:
    def key(name: str, more: str) -> tuple[str, int, str]:
        text = BASE.replace("-r g2f", f"-r {name}") + TIME + more
        return read_resource_file(write(tmp_path, text, f"{name}.resource")).sort_key()

    keys = [
        key("d", "SYSTEM = 'B'\nDISPLAY_ORDER = 1\n"),
        key("c", "SYSTEM = 'A'\nDISPLAY_ORDER = 10\n"),
        key("b", "SYSTEM = 'A'\nDISPLAY_ORDER = 9\n"),
        key("a", "SYSTEM = 'A'\nDISPLAY_ORDER = 10\n"),
    ]
    assert [name for _, _, name in sorted(keys)] == ["b", "a", "c", "d"]


@pytest.mark.parametrize(
    ("lines", "prompt"),
    [
        pytest.param("", None, id="no password"),
        pytest.param("PASSWORD = YES", "", id="without a prompt"),
        pytest.param("PASSWORD = YES\nPASSWORD_PROMPT = 'Database?'", "Database?", id="prompt"),
    ],
)
def test_password_prompt(tmp_path: Path, lines: str, prompt: str | None) -> None:
    assert read(tmp_path, f"{BASE}{TIME}{lines}\n").password_prompt == prompt


class TestOnAPath:
    """With a path file every value is the one that the process sees there."""

    def test_values_and_their_overrides(self, tmp_path: Path) -> None:
        paths = blue(
            tmp_path,
            "in = OPUS_WORK:in\n*.POLLING_TIME = 5\nG2F.OSF_TRIGGER1.SF = t\nten = 000:00:10:00\n",
            {"OPUS_WORK": "/w"},
        )
        text = BASE + FILE.replace("= /in", "= in") + OSF + "TIME_RANK = 1\nDELTA_TIME = ten\n"
        resource = read(tmp_path, text, paths)
        assert resource.polling_time == 5
        first, second, third = resource.triggers
        assert first == TimeTrigger(1, None, None, 600)
        assert isinstance(second, FileTrigger)
        assert second.searches[0].directory == "/w/in"
        assert isinstance(third, OsfTrigger)
        assert third.matches[0].columns == {"SF": "t"}

    def test_problem_says_where_the_value_is_from(self, tmp_path: Path) -> None:
        paths = blue(tmp_path, "*.POLLING_TIME = often\n")
        (problem,) = problems_of(tmp_path, BASE + TIME, paths)
        assert problem == (
            f"{tmp_path}/g2f.resource:1: POLLING_TIME: a number of seconds above 0 expected, not"
            f" 'often' (value from {tmp_path}/blue.path:3: *.POLLING_TIME, *.KEY of the path file)"
        )

    def test_references_to_nothing_are_problems(self, tmp_path: Path) -> None:
        paths = blue(tmp_path, "out = SUB[NOWHERE]\n")
        text = "ENV.A = red->OUT\nENV.B = out\nENV.C = blue->none\n"
        found = problems_of(tmp_path, BASE + TIME + text, paths)
        assert len(found) == 3
        assert found[0].startswith(f"{tmp_path}/g2f.resource:7: ENV.A: red: red.path expected in")
        assert "out: SUB[NOWHERE]: the environment variable NOWHERE is not set" in found[1]
        assert f"ENV.C: {tmp_path}/blue.path: none: no such keyword" in found[2]

    def test_a_status_that_leads_to_nothing_is_one_problem(self, tmp_path: Path) -> None:
        text = f"{BASE}{TIME}XPOLL_STATE.01 = red->STATE\n"
        (problem,) = problems_of(tmp_path, text, blue(tmp_path, ""))
        assert problem.startswith(f"{tmp_path}/g2f.resource:7: XPOLL_STATE.01: red: red.path exp")

    @pytest.mark.parametrize("value", ["blocks", "red->BLOCKS"])
    def test_without_a_path_a_symbol_cannot_be_judged(self, tmp_path: Path, value: str) -> None:
        text = f"{BASE}{TIME}OUTPATH = out\nMINBLOCKS = {value}\n"
        resource = read(tmp_path, text)
        assert resource.min_blocks is None
        (warning,) = resource.warnings
        assert ":8: MINBLOCKS: a whole number of 0 or more expected; only a path file" in warning
        write(tmp_path, "BLOCKS = 70\n", "red.path")
        assert read(tmp_path, text, blue(tmp_path, "blocks = 70\n")).min_blocks == 70


def test_tolerant_of_what_observatories_write(tmp_path: Path) -> None:
    text = "\ufeff" + (BASE + FILE + OSF + TIME + "CLASS = scw\t!caf\udce9\n")
    same = read(tmp_path, text)
    for old, new in ((" = ", "="), ("\n", "\t! comment\r\n"), ("\n", "\n\n  \t")):
        text = text.replace(old, new)
        other = read(tmp_path, text)
        assert (other.triggers, other.outcomes, other.display) == (
            same.triggers, same.outcomes, same.display
        )  # fmt: skip
    assert same.display.class_ == "scw"


def test_variables_of_the_environment_may_be_called_like_triggers(tmp_path: Path) -> None:
    text = "ENV.OSF_TRIGGER_TYPE = a\nENV.FILE_OBJECTS = b\nENV.XPOLL_STATE = c\n"
    assert len(read(tmp_path, BASE + TIME + text).triggers) == 1


def test_keyword_with_env_counts_where_it_is_required(tmp_path: Path) -> None:
    """`ENV.` is no part of the name; the plain keyword goes before the one with it."""
    text = BASE.replace("POLLING_TIME = 60", "ENV.POLLING_TIME = 7") + TIME
    assert read(tmp_path, text).polling_time == 7
    assert read(tmp_path, text + "POLLING_TIME = 8\n").polling_time == 8
    assert read(tmp_path, "POLLING_TIME = 8\n" + text).polling_time == 8


@pytest.mark.parametrize("name", ["g2f.txt", "g2f", ".resource"])
def test_name_of_the_file(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=r"a file name that ends in \.resource expected"):
        read_resource_file(write(tmp_path, BASE + TIME, name))


def test_missing_file_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as raised:
        read_resource_file(tmp_path / "no.resource")
    said = "a process resource file expected: No such file or directory"
    assert str(raised.value) == f"{tmp_path}/no.resource: {said}"


def test_first_of_a_name_counts(tmp_path: Path) -> None:
    own = write(tmp_path / "own", "", "g2f.resource")
    write(tmp_path / "system", "", "g2f.resource")
    environ = {"OPUS_DEFINITIONS_DIR": f"{tmp_path}/own:{tmp_path}/system"}
    assert find_resource_file("g2f", environ) == own
    assert find_resource_file("G2F", environ) == own
    with pytest.raises(ConfigError, match=r"f2g\.resource expected in"):
        find_resource_file("f2g", environ)


def test_words_of_a_command() -> None:
    assert split_command("""run 'a b' "c d" e\\ f $HOME `x` ;""") == [
        "run", "a b", "c d", "e f", "$HOME", "`x`", ";"
    ]  # fmt: skip


_NAMES = [
    "POLLING_TIME", "TASK", "COMMAND", "TIME_RANK", "START_TIME", "DELTA_TIME", "FILE_RANK",
    "FILE_OBJECT1", "FILE_DIRECTORY1", "FILE_PROCESSING", "FILE_SUCCESS", "FILE_ERROR.DIRECTORY",
    "OSF_RANK", "OSF_TRIGGER1.XX", "OSF_TRIGGER", "OSF_PROCESSING.XX", "XPOLL_STATE.01", "X.YY",
    "ENV.A", "ENV.", "MINBLOCKS", "FILE_ACTION", "FILE_ABSENT", "XPOLL_ERROR.XX", "PASSWORD",
]  # fmt: skip
_VALUES = ["1", "w", "000:00:10:00", "X", "_bad", "''", "'a \"b'", "<xpoll>", "blue->K", "A:b", "é"]


@given(st.lists(st.tuples(st.sampled_from(_NAMES), st.sampled_from(_VALUES))))
def test_any_keywords_are_read(
    tmp_path_factory: pytest.TempPathFactory, lines: list[tuple[str, str]]
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.resource"
    path.write_text("".join(f"{name} = {value}\n" for name, value in lines), encoding="utf-8")
    for paths in (None, PathFile(path.with_suffix(".path"), {"A": "/a"}, (), {})):
        resource, problems = examine_resource_file(path, paths)
        assert all(problem.startswith(str(path)) for problem in problems)
        assert problems or (resource.polling_time and (resource.triggers or not resource.external))
