"""The examples of seeds 003 (path files) and 004 (process resource files), quoted, and what the
seeds say that they mean."""

from datetime import time
from pathlib import Path

import pytest
from quoted import FILE, OSF, STATUSES

from formats.outcomes import FileChange, Outcome
from formats.path_file import PathFile, read_path_file
from formats.resolution import environment_of, resolve
from formats.resource_file import (
    ResourceFile,
    examine_resource_file,
    read_resource_file,
    split_command,
)
from formats.triggers import FileSearch, FileTrigger, OsfMatch, OsfTrigger, TimeTrigger
from mirror.errors import ConfigError

BLUE = """\
   STAGE_FILE             = OPUS_DEFINITIONS_DIR:blue_pipeline.stage
   OPUS_OBSERVATIONS_DIR  = /home/mydir/blue/observations/
"""
EXTERNAL = """\
POLLING_TIME = 10 !seconds between tests for a new event
TASK = < xpoll -p $PATH_FILE -r taskname > !the OPUS method for invoking
                                           !the process
COMMAND = name_of_script !the script (in your path) that
                         !runs this pipeline process
XPOLL_STATE.01 = SUCCESS !maps a successful exit status (01 in this
                         !case) from the process
"""
TIME = """\
TIME_RANK = 1 !if multiple trigger types are used in
              !combination, this determines what order
DELTA_TIME = 000:00:30:00 !trigger every 30 minutes from the initial
                          !time at which the process is started
"""


def write(directory: Path, name: str, text: str) -> Path:
    path = directory / name
    path.write_text(text, encoding="utf-8")
    return path


def path_file(
    directory: Path, text: str, environ: dict[str, str] | None = None, name: str = "blue"
) -> PathFile:
    """A complete path file with `text`, along OPUS_DEFINITIONS_DIR."""
    environ = {"OPUS_DEFINITIONS_DIR": str(directory), **(environ or {})}
    return read_path_file(write(directory, f"{name}.path", BLUE + text), environ)


def process(
    directory: Path, text: str, paths: PathFile | None = None, name: str = "taskname"
) -> ResourceFile:
    """A process that polls, with `text`, which must have no problem."""
    return read_resource_file(write(directory, f"{name}.resource", EXTERNAL + text), paths)


def value(
    directory: Path,
    written: str,
    keyword: str,
    in_path: str,
    environ: dict[str, str] | None = None,
    name: str = "g2f",
) -> str:
    """What the process sees for `keyword`, from its resource file and the path file."""
    file = write(directory, f"{name}.resource", written)
    paths = path_file(directory, in_path, environ)
    resource, _ = examine_resource_file(file, paths)
    return resolve(resource, paths, keyword).value


class TestPathFiles:
    """Seed 003."""

    @pytest.mark.parametrize(
        ("keyword", "bound"),
        [("INPATH", "/home/mydir/opus_test/dat/"), ("OUTPATH", "/home/mydir/pipe/out/")],
    )
    def test_path_file_binds_logical_names_to_directories(
        self, tmp_path: Path, keyword: str, bound: str
    ) -> None:
        written = """\
   INPATH     = gif_data   ! Directory where the input files are found
   OUTPATH    = fits_data  ! Directory where output files are written
"""
        in_path = """\
   gif_data   =  /home/mydir/opus_test/dat/
   fits_data  =  /home/mydir/pipe/out/
"""
        assert value(tmp_path, written, keyword, in_path) == bound

    @pytest.mark.parametrize(
        ("line", "correct"),
        [
            ("babylon5.path                        ! correct", True),
            ("xfiles.path                          ! correct", True),
            ("nine_char.path                       ! correct", True),
            ("samplepipe.path                      ! incorrect", False),
            ("more_than_nine_char.path             ! incorrect", False),
        ],
    )
    def test_root_names_are_limited_to_nine_characters(
        self, tmp_path: Path, line: str, correct: bool
    ) -> None:
        file = write(tmp_path, line.split()[0], BLUE)
        if correct:
            assert read_path_file(file, {}).path == file
            return
        with pytest.raises(ConfigError, match="at most 9 characters"):
            read_path_file(file, {})

    def test_comments_and_keywords(self, tmp_path: Path) -> None:
        paths = path_file(
            tmp_path,
            """\
   !!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!
   ! this is a comment line
   !!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!(so is this)!!!!!!!!!!!!!!!!
   KEYWORD     =     value          !comment
""",
        )
        assert paths.keywords() == ["STAGE_FILE", "OPUS_OBSERVATIONS_DIR", "KEYWORD"]
        assert paths.value("KEYWORD") == "value"

    def test_keyword_of_the_path_file_is_accessible_to_its_tasks(self, tmp_path: Path) -> None:
        """… unless the resource file has the same keyword."""
        in_path = "   OPUS_DB   =   OPUSTEST            !Database for testing\n"
        assert value(tmp_path, "", "OPUS_DB", in_path) == "OPUSTEST"
        assert value(tmp_path, "OPUS_DB = MINE", "OPUS_DB", in_path) == "MINE"

    @pytest.mark.parametrize(
        ("written", "in_path", "name", "seen"),
        [
            pytest.param(
                "ENV.OK_TO_UPDATE_DATABASE = TRUE       !in the getkw process resource file",
                "GETKW.OK_TO_UPDATE_DATABASE  =  FALSE  !in the path file",
                "OK_TO_UPDATE_DATABASE", "FALSE", id="rule 1"),
            pytest.param(
                "ENV.OK_TO_UPDATE_DATABASE = TRUE       !in the process resource file",
                "*.OK_TO_UPDATE_DATABASE  =  FALSE      !in the path file",
                "OK_TO_UPDATE_DATABASE", "FALSE", id="rule 2"),
            pytest.param(
                "ENV.OUTDIR = fits_directory            !in process resource file",
                "fits_directory  =  /home/test/fits/    !in the path file",
                "OUTDIR", "/home/test/fits/", id="rule 3"),
            pytest.param(
                "ENV.DSQUERY = nomad                    !in the process resource file",
                "DSQUERY = daneel                       !in the path file",
                "DSQUERY", "nomad", id="rule 4"),
        ],
    )  # fmt: skip
    def test_precedence_rules(
        self, tmp_path: Path, written: str, in_path: str, name: str, seen: str
    ) -> None:
        assert value(tmp_path, written, name, in_path, name="getkw") == seen
        resource, _ = examine_resource_file(tmp_path / "getkw.resource")
        assert environment_of(resource, path_file(tmp_path, in_path)) == {name: seen}

    def test_environment_in_total_or_in_part(self, tmp_path: Path) -> None:
        text = "DATA_PATH = SUB[DPATH]\nUSER_HOME_DIR = /home/SUB[USER]\n"
        paths = path_file(tmp_path, text, {"DPATH": "/data", "USER": "opus"})
        assert paths.value("DATA_PATH") == "/data"
        assert paths.value("USER_HOME_DIR") == "/home/opus"

    def test_outpath_in_both_files_is_the_value_of_output_dir(self, tmp_path: Path) -> None:
        in_path, environ = "OUTPATH  = SUB[OUTPUT_DIR]\n", {"OUTPUT_DIR": "/products"}
        assert (
            value(tmp_path, "OUTPATH = BLUE->OUTPATH", "OUTPATH", in_path, environ) == "/products"
        )
        assert path_file(tmp_path, in_path, environ).value("OUTPATH") == "/products"

    @pytest.mark.parametrize(
        ("in_path", "seen"),
        [
            pytest.param(
                "   TTAG_CALIB_DIR  =  /home/opus/ttag_data/calib/  !calibration directory\n",
                "/home/opus/ttag_data/calib/", id="defined"),
            pytest.param("", "TTAG_CALIB_DIR", id="not defined: literally that"),
        ],
    )  # fmt: skip
    def test_symbolic_name_in_the_environment(
        self, tmp_path: Path, in_path: str, seen: str
    ) -> None:
        written = "   ENV.OUTDIR = TTAG_CALIB_DIR       !The timetag calibration directory\n"
        paths = path_file(tmp_path, in_path)
        resource, _ = examine_resource_file(write(tmp_path, "ttag.resource", written))
        assert environment_of(resource, paths) == {"OUTDIR": seen}

    def test_one_pipeline_feeds_another(self, tmp_path: Path) -> None:
        """The first task notifies the blue path, whatever path it runs in itself."""
        path_file(tmp_path, "   INPUT_DIR   =   /home/mydir/blue/notify/ !notification directory\n")
        red = path_file(tmp_path, "", name="red")
        written = "   ENV.OUTDIR = blue->INPUT_DIR !Send data to another pipeline\n"
        resource, _ = examine_resource_file(write(tmp_path, "first.resource", written))
        assert environment_of(resource, red) == {"OUTDIR": "/home/mydir/blue/notify/"}

    def test_required_keywords(self, tmp_path: Path) -> None:
        paths = path_file(tmp_path, "")
        assert paths.stage_file() == tmp_path / "blue_pipeline.stage"
        assert paths.value("OPUS_OBSERVATIONS_DIR") == "/home/mydir/blue/observations/"
        with pytest.raises(ConfigError, match="OPUS_OBSERVATIONS_DIR: required"):
            read_path_file(write(tmp_path, "red.path", BLUE.splitlines()[0]), {})

    def test_stage_file_of_the_path_s_name_need_not_be_given(self, tmp_path: Path) -> None:
        file = write(tmp_path, "blue.path", BLUE.splitlines()[1])
        with pytest.raises(ConfigError, match="STAGE_FILE: required"):
            read_path_file(file, {"OPUS_DEFINITIONS_DIR": str(tmp_path)})
        stages = write(tmp_path, "blue_pipeline.stage", "")
        paths = read_path_file(file, {"OPUS_DEFINITIONS_DIR": str(tmp_path)})
        assert paths.stage_file() == stages


class TestResourceFiles:
    """Seed 004."""

    def test_value_with_spaces_stands_in_single_quotes(self, tmp_path: Path) -> None:
        line = "KEYWORD = 'value with spaces' !An example which includes spaces\n"
        assert value(tmp_path, line, "KEYWORD", "") == "value with spaces"
        with pytest.raises(ConfigError, match="KEYWORD: a value with blanks in single quotes"):
            process(tmp_path, TIME + line.replace("'", ""))

    def test_external_poller(self, tmp_path: Path) -> None:
        resource = process(tmp_path, TIME)
        assert resource.external
        assert resource.polling_time == 10
        assert resource.states == {1: "SUCCESS"}
        task = resolve(resource, None, "TASK").value
        assert split_command(task) == ["xpoll", "-p", "$PATH_FILE", "-r", "taskname"]
        assert resolve(resource, None, "COMMAND").value == "name_of_script"

    @pytest.mark.parametrize(
        ("lines", "blocks", "device"),
        [
            pytest.param(
                """\
MINBLOCKS = 50000 !disk space in 512-byte blocks required for
                  !the process to begin execution
OUTPATH = output_directory !defines the disk device where MINBLOCKS of
                           !free space must exist
""",
                50000, "/products", id="a symbolic name"),
            pytest.param(
                """\
MINBLOCKS = 50000 !number of free 512-byte blocks required on
                  !output device
OUTPATH = /mydir/outgoing !directory where output products are placed
""",
                50000, "/mydir/outgoing", id="a directory"),
        ],
    )  # fmt: skip
    def test_disk_space_check(self, tmp_path: Path, lines: str, blocks: int, device: str) -> None:
        paths = path_file(tmp_path, "output_directory = /products\n")
        resource = process(tmp_path, TIME + lines, paths)
        assert (resource.min_blocks, resource.resume_blocks) == (blocks, blocks)
        assert resolve(resource, paths, "OUTPATH").value == device

    def test_outpath_must_be_there_with_minblocks(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="OUTPATH: required"):
            process(tmp_path, TIME + "MINBLOCKS = 50000\n")

    def test_osf_trigger(self, tmp_path: Path) -> None:
        (trigger,) = process(tmp_path, OSF).triggers
        match = OsfMatch(1, {"XX": "w", "YY": "c"}, "zzz", None, 1)
        assert trigger == OsfTrigger(1, (match,), {"XX": "p"}, None)

    @pytest.mark.parametrize("key", ["OSF_RANK", "OSF_TRIGGER1.XX", "OSF_PROCESSING.XX"])
    def test_keys_of_an_osf_trigger_are_required(self, tmp_path: Path, key: str) -> None:
        lines = OSF.splitlines(keepends=True)
        text = "".join(line for line in lines if not line.startswith((key, "OSF_TRIGGER1.YY")))
        with pytest.raises(ConfigError, match=f"{key}: required"):
            process(tmp_path, text)

    def test_file_trigger(self, tmp_path: Path) -> None:
        resource = process(tmp_path, FILE)
        search = FileSearch("FILE_DIRECTORY1", "/mydisk/mydata/", "*.incoming", 1)
        assert resource.triggers == (FileTrigger(1, (search,), "_proc", None),)
        assert resource.outcomes == {
            name: Outcome({}, FileChange(f"{name}.DIRECTORY", None, directory))
            for name, directory in (
                ("FILE_SUCCESS", "/mydisk/done/"), ("FILE_ERROR", "/mydisk/bad/"),
            )
        }  # fmt: skip

    @pytest.mark.parametrize(
        "key",
        ["FILE_RANK", "FILE_DIRECTORY1", "FILE_OBJECT1", "FILE_PROCESSING", "FILE_SUCCESS",
         "FILE_ERROR"],
    )  # fmt: skip
    def test_keys_of_a_file_trigger_are_required(self, tmp_path: Path, key: str) -> None:
        lines = FILE.splitlines(keepends=True)
        text = "".join(line for line in lines if not line.startswith(key))
        with pytest.raises(ConfigError, match=f"{key}: required"):
            process(tmp_path, text)

    @pytest.mark.parametrize(
        ("lines", "start", "delta"),
        [
            pytest.param("DELTA_TIME = 000:00:30:00 !trigger every 30 minutes from the initial\n",
                None, 30 * 60, id="every 30 minutes"),
            pytest.param("DELTA_TIME = 001:00:00:00 !trigger every 24 hours from the initial\n",
                None, 24 * 3600, id="every 24 hours"),
            pytest.param(
                "START_TIME = 12:00:00 !start triggering at 12 noon, local time\n"
                "DELTA_TIME = 000:01:00:00 !trigger every hour from the START_TIME\n",
                time(12), 3600, id="every hour from noon onward"),
        ],
    )  # fmt: skip
    def test_time_triggers(
        self, tmp_path: Path, lines: str, start: time | None, delta: int
    ) -> None:
        resource = process(tmp_path, TIME.splitlines()[0] + "\n" + lines)
        assert resource.triggers == (TimeTrigger(1, None, start, delta),)

    def test_exit_statuses(self, tmp_path: Path) -> None:
        """1: GC is c and CA is n; 5: GC is c and CA is w; 3: GC is e; any other: GC is x."""
        resource = process(tmp_path, OSF + STATUSES)
        meant = {status: resource.outcomes[name].osf for status, name in resource.states.items()}
        assert meant == {1: {"GC": "c", "CA": "n"}, 3: {"GC": "e"}, 5: {"GC": "c", "CA": "w"}}
        assert resource.outcomes["XPOLL_ERROR"].osf == {"GC": "x"}

    def test_check_file(self, tmp_path: Path) -> None:
        text = "ENV.EVENT_STATE_FILE = states\nXPOLL_STATE.01 = CHECK_FILE\n"
        resource = process(tmp_path, TIME + text)
        assert resource.states == {1: "CHECK_FILE"}
        assert environment_of(resource, None) == {"EVENT_STATE_FILE": "states"}

    def test_file_action(self, tmp_path: Path) -> None:
        resource = process(tmp_path, FILE + "FILE_ACTION = '/bin/rm -f ^f'\nFILE_ACTION_OK = 0\n")
        action = resolve(resource, None, "FILE_ACTION").value
        assert split_command(action) == ["/bin/rm", "-f", "^f"]
        assert resource.action_ok == 0

    def test_path_file_entry_translates_a_value(self, tmp_path: Path) -> None:
        """The seed prints the entry without its equal sign: as printed, it is refused."""
        written = "ENV.OUTPATH = DATOUT"
        assert value(tmp_path, written, "OUTPATH", "DATOUT = /mydisk/mydata/") == "/mydisk/mydata/"
        assert value(tmp_path, written, "OUTPATH", "") == "DATOUT"
        with pytest.raises(ConfigError, match=r"blue\.path:3: KEYWORD = VALUE expected"):
            path_file(tmp_path, "DATOUT /mydisk/mydata/")

    def test_env_is_for_resource_files_only(self, tmp_path: Path) -> None:
        """A keyword of a path file cannot be set in the environment directly."""
        resource = process(tmp_path, TIME)
        assert environment_of(resource, path_file(tmp_path, "ENV.A = b\n")) == {}

    @pytest.mark.parametrize(
        ("in_path", "seen"),
        [
            pytest.param("PATH_DATABASE = REQUIRED", "REQUIRED", id="symbolic name"),
            pytest.param("g2f.DATABASE = OPTIONAL", "OPTIONAL", id="of the process"),
            pytest.param("*.DATABASE = PROHIBITED", "PROHIBITED", id="of all processes"),
        ],
    )
    def test_values_of_a_path(self, tmp_path: Path, in_path: str, seen: str) -> None:
        assert value(tmp_path, "DATABASE = PATH_DATABASE", "DATABASE", in_path) == seen

    @pytest.mark.parametrize("keyword", ["COMMAND", "TASK", "FILE_ACTION"])
    def test_sub_in_commands(self, tmp_path: Path, keyword: str) -> None:
        written, environ = f"{keyword} = 'SUB[BIN]/tool -v'\nK = SUB[BIN]", {"BIN": "/opt"}
        assert value(tmp_path, written, keyword, "", environ) == "/opt/tool -v"
        assert value(tmp_path, written, "K", "", environ) == "SUB[BIN]"
        assert value(tmp_path, written + "\nL = bin", "L", "bin = SUB[BIN]", environ) == "/opt"
