"""xpoll as a process: triggers, the command and its environment, outcomes, wishes, the disk guard,
passwords, and its end (OPUS, "Process resource files"; seed 004)."""

import os
import signal
import subprocess
from pathlib import Path

import pytest
from client import PATIENCE
from places import NewDatabase, environment_of
from xpolls import DONE, ENTRIES, FILES, GUARDED, SUCCESS, Pipeline, free_says, noted, stop

from server.blackboard import Key
from server.opus.board_records import Filter

# Files


def test_each_file_is_an_event(pipeline: Pipeline) -> None:
    pipeline.resource('echo "$EVENT_TYPE $EVENT_NUM $EVENT_NAME" >> $OUT/seen', FILES + SUCCESS)
    pipeline.drop("b.in", "a.in", "c.out", "d.in_proc")
    assert pipeline.once() == (0, "", "")
    assert noted(pipeline) == [
        f"EVENT_FILE_EVENT 1 {pipeline.inbox}/{name}_proc" for name in ("a.in", "b.in")
    ]
    assert pipeline.inboxed() == ["a.in_ok", "b.in_ok", "c.out", "d.in_proc"]


def test_many_files_an_event(pipeline: Pipeline) -> None:
    script = (
        'echo "$EVENT_NUM ${EVENT_NAME##*/} ${EVENT_NAME1##*/} ${EVENT_NAME2##*/}" >> $OUT/seen'
    )
    pipeline.resource(script, FILES + SUCCESS + "FILE_MAXTARGS1 = 2\n")
    pipeline.drop("a.in", "b.in", "c.in")
    assert pipeline.once() == (0, "", "")
    assert noted(pipeline) == ["2 a.in_proc b.in_proc ", "1 c.in_proc  "]


def test_an_error_and_the_next_file(pipeline: Pipeline) -> None:
    pipeline.resource("case $EVENT_NAME in *a.in*) exit 7;; esac", FILES + SUCCESS)
    pipeline.drop("a.in", "b.in")
    assert pipeline.once() == (0, "", "")
    assert pipeline.inboxed() == ["a.in_bad", "b.in_ok"]
    assert "a.in: error 1: exit status 7 is in no XPOLL_STATE" in pipeline.log()


def test_directories_keep_the_processing_suffix(pipeline: Pipeline) -> None:
    files = FILES.replace("FILE_SUCCESS = _ok", "FILE_SUCCESS.DIRECTORY = DONE")
    pipeline.path(f"DONE = {pipeline.directory}/done\n")
    pipeline.resource("", files + SUCCESS)
    pipeline.drop("a.in")
    assert pipeline.once() == (0, "", "")
    assert os.listdir(pipeline.directory / "done") == ["a.in_proc"]


def test_a_notification_starts_another_path(pipeline: Pipeline) -> None:
    """`ENV.OUTDIR = blue->INPUT_DIR` (seed 003): what one pipeline drops wakes the other."""
    (pipeline.directory / "blue.path").write_text(f"INPUT_DIR = {pipeline.directory}/blue\n")
    (pipeline.directory / "blue").mkdir()
    more = "ENV.OUTDIR = BLUE->INPUT_DIR\n"
    pipeline.resource('echo "$PROCESS_NAME" > $OUTDIR/note.in', FILES + SUCCESS + more, "first")
    blue = FILES.replace("INDIR", f"{pipeline.directory}/blue")
    pipeline.resource("cat $EVENT_NAME >> $OUT/seen", blue + SUCCESS, "second")
    pipeline.drop("a.in")
    assert pipeline.once("first") == (0, "", "")
    assert pipeline.once("second") == (0, "", "")
    assert noted(pipeline) == ["first"]


def test_null_leaves_a_file_as_it_was_and_lets_others_come(pipeline: Pipeline) -> None:
    script = "echo ${EVENT_NAME##*/} >> $OUT/seen; case $EVENT_NAME in *a.in*) exit 4;; esac"
    pipeline.resource(script, FILES + SUCCESS + "XPOLL_STATE.04 = NULL\n")
    pipeline.drop("a.in", "b.in")
    assert pipeline.once() == (0, "", "")
    assert noted(pipeline) == ["a.in_proc", "b.in_proc"]
    assert pipeline.inboxed() == ["a.in", "b.in_ok"]


def test_a_file_whose_name_in_work_is_taken_waits_and_is_told(pipeline: Pipeline) -> None:
    pipeline.resource("", FILES + SUCCESS)
    pipeline.drop("a.in", "a.in_proc")
    assert pipeline.once() == (0, "", "")
    assert pipeline.inboxed() == ["a.in", "a.in_proc"]
    assert f"{pipeline.inbox}/a.in: waits, a file stands in its way" in pipeline.log()


# Entries


def test_an_entry_is_claimed_and_settled(pipeline: Pipeline) -> None:
    script = 'echo "$EVENT_TYPE $EVENT_NUM $OSF_DATASET $OSF_DATA_ID $OSF_DCF_NUM" >> $OUT/seen'
    pipeline.resource(script, ENTRIES + DONE)
    pipeline.post("o1", "o2")
    with pipeline.board() as board:
        board.create(Key("o3", "raw"), {"GC": "w"})
    assert pipeline.once() == (0, "", "")
    assert noted(pipeline) == [f"EVENT_OSF_EVENT 1 {name} fst 000" for name in ("o1", "o2")]
    assert pipeline.letters() == {"o1": "cw", "o2": "cw", "o3": "w_"}


def test_an_entry_in_work_has_the_processing_letter(pipeline: Pipeline) -> None:
    pipeline.resource(
        "touch $OUT/begun; while [ ! -e $OUT/go ]; do sleep 0.01; done", ENTRIES + DONE
    )
    pipeline.post("o1")
    with pipeline.running() as process:
        pipeline.wait((pipeline.directory / "begun").exists)
        assert pipeline.letters() == {"o1": "p_"}
        mine = pipeline.processes()[-1]
        assert (mine.name, mine.state, mine.working_on) == ("proc", "busy", "o1 fst 000")
        (pipeline.directory / "go").touch()
        pipeline.wait_for_state("idle")
        assert pipeline.letters() == {"o1": "cw"}
        assert stop(process) == (0, "", "")


def test_an_error_of_an_entry(pipeline: Pipeline) -> None:
    pipeline.resource("exit 9", ENTRIES + DONE)
    pipeline.post("o1")
    assert pipeline.once() == (0, "", "")
    assert pipeline.letters() == {"o1": "x_"}


def test_null_leaves_an_entry_as_it_was_and_lets_others_come(pipeline: Pipeline) -> None:
    script = "echo $OSF_DATASET >> $OUT/seen; [ $OSF_DATASET != o1 ] || exit 4"
    pipeline.resource(script, ENTRIES + DONE + "XPOLL_STATE.04 = NULL\n")
    pipeline.post("o1", "o2")
    assert pipeline.once() == (0, "", "")
    assert noted(pipeline) == ["o1", "o2"]
    assert pipeline.letters() == {"o1": "w_", "o2": "cw"}


def test_an_entry_of_a_board_in_postgresql(pipeline: Pipeline, postgres: NewDatabase) -> None:
    pipeline.database.update(environment_of(postgres()))
    pipeline.resource("", FILES + ENTRIES + DONE + "XPOLL_STATE.01 = FILE_SUCCESS\n")
    pipeline.post("o1", "o2")
    assert pipeline.once() == (0, "", "")
    assert pipeline.letters() == {"o1": "cw", "o2": "cw"}
    assert not list(pipeline.directory.rglob("*.db"))


# What is checked for each item


CHECKED = """\
XPOLL_STATE.01 = CHECK_FILE
XPOLL_STATE.02 = NULL
ENV.EVENT_STATE_FILE = states
"""


def test_check_file_of_entries(pipeline: Pipeline) -> None:
    script = (
        'echo "$EVENT_NUM $OSF_DATASET2" >> $OUT/seen\n'
        'printf "OSF_STATUS = 00\\nOSF_STATUS1 = 02\\nOSF_STATUS2 = 55\\n"'
        ' > "$OPUS_HOME_DIR/$EVENT_STATE_FILE"; exit 1'
    )
    pipeline.resource(script, ENTRIES + DONE + CHECKED + "OSF_TRIGGER1.MAXTARGS = 3\n")
    pipeline.post("o1", "o2", "o3")
    assert pipeline.once() == (0, "", "")
    assert noted(pipeline) == ["3 o3"]
    assert pipeline.letters() == {"o1": "cw", "o2": "w_", "o3": "x_"}


def test_check_file_of_files_does_not_read_what_an_earlier_event_has_left(
    pipeline: Pipeline,
) -> None:
    script = (
        'case $EVENT_NAME in *a.in*) echo "EVENT_STATUS = 0"'
        ' > "$OPUS_HOME_DIR/$EVENT_STATE_FILE";; esac; exit 1'
    )
    pipeline.resource(script, FILES + SUCCESS + CHECKED)
    pipeline.drop("a.in", "b.in")
    assert pipeline.once() == (0, "", "")
    assert pipeline.inboxed() == ["a.in_ok", "b.in_bad"]
    assert "EVENT_STATE_FILE has no status of it" in pipeline.log()


# Time, ranks


def test_what_is_due_goes_by_rank(pipeline: Pipeline) -> None:
    time = "TIME_RANK = 3\nSTART_TIME = 00:00:00\n"
    pipeline.resource("echo $EVENT_TYPE $EVENT_NUM >> $OUT/seen", FILES + ENTRIES + time + SUCCESS)
    pipeline.post("o1")
    pipeline.drop("a.in")
    assert pipeline.once() == (0, "", "")
    assert noted(pipeline) == ["EVENT_FILE_EVENT 1", "EVENT_OSF_EVENT 1", "EVENT_TIME_EVENT 0"]


def test_lower_numbers_of_a_type_go_first(pipeline: Pipeline) -> None:
    more = "FILE_DIRECTORY2 = INDIR\nFILE_OBJECT2 = *.low\nFILE_DIRECTORY10 = INDIR\n"
    pipeline.resource(
        "echo ${EVENT_NAME##*/} >> $OUT/seen", FILES + SUCCESS + more + "FILE_OBJECT10 = *.last\n"
    )
    pipeline.drop("a.last", "b.low", "c.in")
    assert pipeline.once() == (0, "", "")
    assert noted(pipeline) == ["c.in_proc", "b.low_proc", "a.last_proc"]


def test_a_delta_alone_is_not_due_at_once(pipeline: Pipeline) -> None:
    pipeline.resource("touch $OUT/seen", "TIME_RANK = 1\nDELTA_TIME = 000:00:00:01\n" + SUCCESS)
    assert pipeline.once() == (0, "", "")
    assert not (pipeline.directory / "seen").exists()


def test_a_delta_alone_wakes_a_process_that_waits(pipeline: Pipeline) -> None:
    pipeline.resource("touch $OUT/seen", "TIME_RANK = 1\nDELTA_TIME = 000:00:00:01\n" + SUCCESS)
    with pipeline.running() as process:
        pipeline.wait((pipeline.directory / "seen").exists)
        assert stop(process) == (0, "", "")


# The environment


def test_what_the_command_has_in_its_environment(pipeline: Pipeline) -> None:
    more = "ENV.GIVEN = 'two words'\nENV.PLACE = INDIR\nENV.BOUND = OUT:sub\n"
    pipeline.resource("env -0 > $OUT/environ", FILES + SUCCESS + more)
    pipeline.drop("a.in")
    stale = {"EVENT_NAME5": "old", "OSF_DATASET": "old", "KEPT": "kept", "OPUS_PASSWORD_FD": "99"}
    assert pipeline.once(more=stale) == (0, "", "")
    text = (pipeline.directory / "environ").read_text()
    seen = dict(line.split("=", 1) for line in text.split("\0") if line)
    expected = {
        "GIVEN": "two words",
        "PLACE": str(pipeline.inbox),
        "BOUND": str(pipeline.directory / "sub"),
        "PATH_FILE_NAME": str(pipeline.directory / "night.path"),
        "PROCESS_NAME": "proc",
        "EVENT_TYPE": "EVENT_FILE_EVENT",
        "EVENT_NUM": "1",
        "EVENT_NAME": f"{pipeline.inbox}/a.in_proc",
        "KEPT": "kept",
    }
    assert {name: seen.get(name) for name in expected} == expected
    assert not {"EVENT_NAME5", "OSF_DATASET", "OPUS_PASSWORD_FD"} & seen.keys()


# Nothing reaches a shell

HOSTILE = (
    "two words", "it's", 'say "it"', "a;touch PWNED", "$(touch PWNED)", "`touch PWNED`",
    "-rf", "--help", "new\nline", "a|touch PWNED", "a>PWNED", "\\", "$HOME", "*", "^f", "&", "é",
)  # fmt: skip

SHOW = """\
import os, sys
with open(os.environ["OUT"] + "/" + sys.argv[1], "ab") as file:
    file.write(repr([*sys.argv[2:], os.environ["EVENT_NAME"]]).encode() + b"\\n")
"""


def show(pipeline: Pipeline) -> Path:
    """A program that notes its arguments and EVENT_NAME."""
    program = pipeline.directory / "show.py"
    program.write_text(SHOW)
    return program


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_arrives_as_one_argument(pipeline: Pipeline, name: str) -> None:
    program = show(pipeline)
    action = f"FILE_ACTION = 'python3 {program} action ^f --in=^F'\nFILE_ACTION_OK = 0\n"
    pipeline.resource(f'exec python3 {program} command "$EVENT_NAME"', FILES + SUCCESS + action)
    pipeline.drop(f"{name}.in")
    assert pipeline.once() == (0, "", "")
    work, done = (str(pipeline.inbox / f"{name}.in{end}") for end in ("_proc", "_ok"))
    assert noted(pipeline, "command") == [repr([work, work])]
    assert noted(pipeline, "action") == [repr([done, f"--in={done}", work])]
    assert pipeline.inboxed() == [f"{name}.in_ok"]
    assert not list(pipeline.directory.rglob("PWNED"))
    assert not Path("PWNED").exists()


@pytest.mark.parametrize("word", ["$(touch PWNED)", "a;touch", "`x`", "$HOME", "*", ">PWNED", "&"])
def test_a_word_of_command_reaches_no_shell(pipeline: Pipeline, word: str) -> None:
    program = show(pipeline)
    pipeline.resource("", FILES + SUCCESS)
    resource = pipeline.directory / "proc.resource"
    text = resource.read_text().replace(
        "COMMAND = proc\n", f"COMMAND = 'python3 {program} command \"{word}\" SUB[WORD]'\n"
    )
    resource.write_text(text)
    pipeline.drop("a.in")
    assert pipeline.once(more={"WORD": word}) == (0, "", "")
    work = str(pipeline.inbox / "a.in_proc")
    assert noted(pipeline, "command")[0].startswith(repr([word])[:-1])
    assert noted(pipeline, "command")[0].endswith(repr([word.split(" ")[-1], work])[1:])


# FILE_ACTION


def test_an_action_runs_after_success_alone(pipeline: Pipeline) -> None:
    more = "FILE_ACTION = '/bin/rm -f ^f'\nXPOLL_STATE.02 = FILE_ERROR\n"
    pipeline.resource("case $EVENT_NAME in *b.in*) exit 2;; esac", FILES + SUCCESS + more)
    pipeline.drop("a.in", "b.in")
    assert pipeline.once() == (0, "", "")
    assert pipeline.inboxed() == ["b.in_bad"]


def test_an_action_alone(pipeline: Pipeline) -> None:
    more = "FILE_ACTION = 'rm ^f'\nXPOLL_STATE.00 = FILE_ACTION\n"
    pipeline.resource("", FILES + more)
    pipeline.drop("a.in")
    assert pipeline.once() == (0, "", "")
    assert pipeline.inboxed() == []


@pytest.mark.parametrize(
    ("ok", "told"),
    [("", False), ("FILE_ACTION_OK = 3\n", False), ("FILE_ACTION_OK = 0\n", True)],
    ids=["not asked for", "as it must", "another one"],
)
def test_the_status_of_an_action(pipeline: Pipeline, ok: str, told: bool) -> None:
    more = "FILE_ACTION = 'sh -c \"exit 3\"'\n"
    pipeline.resource("", FILES + SUCCESS + more + ok)
    pipeline.drop("a.in")
    assert pipeline.once() == (0, "", "")
    said = f"error: FILE_ACTION for {pipeline.inbox}/a.in_ok: exit status 3, 0 expected"
    assert (said in pipeline.log()) is told


# Errors that end the process


@pytest.mark.parametrize(("count", "handled"), [(0, 1), (2, 3)])
def test_one_error_too_many(pipeline: Pipeline, count: int, handled: int) -> None:
    pipeline.resource("exit 9", FILES + SUCCESS + f"XPOLL_ERROR_COUNT = {count}\n")
    names = [f"{number}.in" for number in range(5)]
    pipeline.drop(*names)
    assert pipeline.once().exit == 1
    assert pipeline.inboxed() == sorted(
        [f"{name}_bad" for name in names[:handled]] + names[handled:]
    )
    assert pipeline.processes()[-1].state == "absent"


@pytest.mark.parametrize("status", [100, 127])
def test_a_fatal_status_ends_the_process_and_the_items_go_back(
    pipeline: Pipeline, status: int
) -> None:
    pipeline.resource(f"echo >> $OUT/seen; exit {status}", FILES + ENTRIES + SUCCESS)
    pipeline.drop("a.in", "b.in")
    assert pipeline.once().exit == 1
    assert pipeline.inboxed() == ["a.in", "b.in"]
    assert len(noted(pipeline)) == 1
    assert f"exit status {status} is fatal" in pipeline.log()


def test_a_command_that_is_not_there_is_fatal(pipeline: Pipeline) -> None:
    pipeline.resource("", ENTRIES + DONE)
    (pipeline.directory / "bin" / "proc").unlink()
    pipeline.post("o1")
    assert pipeline.once().exit == 1
    assert pipeline.letters() == {"o1": "w_"}
    assert "proc: cannot be started: No such file or directory" in pipeline.log()


def test_going_absent_with_items(pipeline: Pipeline) -> None:
    pipeline.resource("exit 101", ENTRIES + DONE + "OSF_ABSENT = a\n", "entries")
    pipeline.resource("exit 101", FILES + SUCCESS + "FILE_ABSENT = _abs\n", "files")
    pipeline.post("o1")
    pipeline.drop("a.in")
    assert (pipeline.once("entries").exit, pipeline.once("files").exit) == (1, 1)
    assert pipeline.letters() == {"o1": "a_"}
    assert pipeline.inboxed() == ["a.in_abs"]


# Its end


BEGUN = "echo $$ > $OUT/begun.new; mv $OUT/begun.new $OUT/begun\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
@pytest.mark.parametrize(
    ("absent", "left", "letters"),
    [("", "a.in", "w_"), ("OSF_ABSENT = a\nFILE_ABSENT = _abs\n", "a.in_abs", "a_")],
    ids=["items go back", "items are marked absent"],
)
@pytest.mark.parametrize("kind", ["file", "entry"])
def test_a_signal_ends_it_in_order(
    pipeline: Pipeline, number: int, absent: str, left: str, letters: str, kind: str
) -> None:
    trap = "trap 'echo asked >> $OUT/seen; exit 0' TERM\n" + BEGUN
    script = trap + "while :; do sleep 0.01; done"
    pipeline.resource(script, FILES + ENTRIES + SUCCESS + absent)
    if kind == "file":
        pipeline.drop("a.in")
    else:
        pipeline.post("o1")
    with pipeline.running() as process:
        pipeline.wait((pipeline.directory / "begun").exists)
        process.send_signal(number)
        assert process.communicate(timeout=PATIENCE) == ("", "")
        assert process.returncode == 0
    assert noted(pipeline) == ["asked"]
    assert pipeline.inboxed() == ([left] if kind == "file" else [])
    assert pipeline.letters() == ({} if kind == "file" else {"o1": letters})
    assert pipeline.processes()[-1].state == "absent"


def test_a_command_that_does_not_listen_is_killed(pipeline: Pipeline) -> None:
    soon = "import server.opus.run_command as room; room.KILL_AFTER = 0.1; "
    pipeline.resource("trap '' TERM\n" + BEGUN + "while :; do sleep 0.01; done", ENTRIES + DONE)
    pipeline.post("o1")
    process = pipeline.start(program=soon + GUARDED)
    pipeline.wait((pipeline.directory / "begun").exists)
    assert stop(process) == (0, "", "")
    pid = int(noted(pipeline, "begun")[0])
    assert not Path(f"/proc/{pid}").exists()
    assert pipeline.letters() == {"o1": "w_"}


def test_halt_lets_the_event_in_work_end(pipeline: Pipeline) -> None:
    pipeline.resource(BEGUN + "while [ ! -e $OUT/go ]; do sleep 0.01; done", ENTRIES + DONE)
    pipeline.post("o1", "o2")
    with pipeline.running() as process:
        pipeline.wait((pipeline.directory / "begun").exists)
        with pipeline.board() as board:
            board.wish(pipeline.processes()[-1].holder, "halt")
        (pipeline.directory / "go").touch()
        assert process.wait(PATIENCE) == 0
    assert pipeline.letters() == {"o1": "cw", "o2": "w_"}
    assert pipeline.processes()[-1].state == "halted"


def test_suspend_and_resume(pipeline: Pipeline) -> None:
    pipeline.resource("", ENTRIES + DONE)
    with pipeline.running() as process:
        pipeline.wait_for_state("idle")
        holder = pipeline.processes()[-1].holder
        with pipeline.board() as board:
            board.wish(holder, "suspend")
        pipeline.wait_for_state("suspended")
        pipeline.post("o1")
        assert pipeline.letters() == {"o1": "w_"}
        with pipeline.board() as board:
            board.wish(holder, "resume")
        pipeline.wait(lambda: pipeline.letters() == {"o1": "cw"})
        assert stop(process) == (0, "", "")


def test_two_copies_share_the_work(pipeline: Pipeline) -> None:
    script = "echo ${OSF_DATASET:-${EVENT_NAME##*/}} >> $OUT/seen"
    pipeline.resource(script, FILES + ENTRIES + SUCCESS)
    files, entries = [f"{n:02}.in" for n in range(20)], [f"o{n:02}" for n in range(20)]
    with pipeline.running(), pipeline.running():
        pipeline.wait(lambda: [one.state for one in pipeline.processes()] == ["idle"] * 2)
        pipeline.drop(*files)
        pipeline.post(*entries)
        pipeline.wait(lambda: len(noted(pipeline)) >= 40)
        pipeline.wait(lambda: [one.state for one in pipeline.processes()] == ["idle"] * 2)
    assert sorted(noted(pipeline)) == sorted([f"{name}_proc" for name in files] + entries)
    assert pipeline.inboxed() == [f"{name}_ok" for name in files]


# The disk guard


def guard(blocks: int, pipeline: Pipeline) -> str:
    return f"MINBLOCKS = {blocks}\nOUTPATH = {pipeline.directory}\n"


def test_too_little_disk(pipeline: Pipeline) -> None:
    pipeline.resource("", FILES + SUCCESS + guard(10**14, pipeline))
    pipeline.drop("a.in")
    ran = pipeline.once()
    assert ran.exit == 2
    assert ran.stderr.startswith(f"xpoll: iowait: {pipeline.directory} has ")
    assert pipeline.inboxed() == ["a.in"]


def test_a_small_file_system(pipeline: Pipeline) -> None:
    """A tmpfs of 2,048 blocks, 1,500 of which must be free."""
    place = pipeline.directory / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    if subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("this user may not mount a file system")
    try:
        more = f"MINBLOCKS = 1500\nOUTPATH = {place}\n"
        pipeline.resource("", FILES + SUCCESS + more)
        pipeline.drop("a.in")
        (place / "data").write_bytes(bytes(512 * 1024))
        assert pipeline.once().exit == 2
        assert f"{place} has 1024 blocks of 512 bytes free, not 1500" in pipeline.log()
        assert pipeline.inboxed() == ["a.in"]
        (place / "data").unlink()
        assert pipeline.once().exit == 0
        assert pipeline.inboxed() == ["a.in_ok"]
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_it_waits_for_the_disk_and_loses_nothing(pipeline: Pipeline) -> None:
    """What is free is what a file says."""
    free = pipeline.directory / "free"
    free.write_text("99")
    more = f"MINBLOCKS = 100\nRESUME_BLOCKS = 200\nOUTPATH = {pipeline.directory}\n"
    pipeline.resource("", FILES + SUCCESS + more)
    pipeline.drop("a.in")
    process = pipeline.start(program=free_says(free) + GUARDED)
    try:
        pipeline.wait_for_state("iowait")
        free.write_text("199")
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.1)
        assert pipeline.inboxed() == ["a.in"]
        free.write_text("200")
        pipeline.wait(lambda: pipeline.inboxed() == ["a.in_ok"])
        assert stop(process) == (0, "", "")
    finally:
        process.kill()


# Passwords


def test_a_password_is_handed_on_by_a_descriptor(pipeline: Pipeline) -> None:
    script = (
        'read -r secret < /dev/fd/$OPUS_PASSWORD_FD || true; echo "$secret" >> $OUT/seen\n'
        'tr "\\0" "\\n" < /proc/$PPID/cmdline > $OUT/parent; env > $OUT/environ'
    )
    pipeline.resource(script, FILES + SUCCESS + "PASSWORD = yes\nPASSWORD_PROMPT = 'Archive'\n")
    pipeline.drop("a.in", "b.in")
    ear, mouth = os.pipe()
    os.write(mouth, b"ge heim$x\n")
    os.close(mouth)
    assert pipeline.once(more={"OPUS_PASSWORD_FD": str(ear)}, fds=[ear]) == (0, "", "")
    os.close(ear)
    assert noted(pipeline) == ["ge heim$x"] * 2
    for name in ("parent", "environ"):
        assert "ge heim" not in (pipeline.directory / name).read_text()
    assert "ge heim" not in pipeline.log()


def test_a_password_is_asked_for_on_a_terminal(pipeline: Pipeline) -> None:
    script = "cat /dev/fd/$OPUS_PASSWORD_FD >> $OUT/seen"
    pipeline.resource(script, FILES + SUCCESS + "PASSWORD = yes\nPASSWORD_PROMPT = 'Archive'\n")
    pipeline.drop("a.in")
    master, terminal = os.openpty()
    try:
        process = pipeline.start("--once", program=GUARDED, stdin=terminal)
        assert process.stderr
        assert process.stderr.read(len("Archive: ")) == "Archive: "
        os.write(master, b"geheim\n")
        assert process.communicate(timeout=PATIENCE) == ("", "\n")
        assert process.returncode == 0
    finally:
        os.close(master)
        os.close(terminal)
    assert noted(pipeline) == ["geheim"]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({}, "PASSWORD: a terminal to ask for it expected"),
        ({"OPUS_PASSWORD_FD": "x"}, "OPUS_PASSWORD_FD: a descriptor's number expected, not 'x'"),
        ({"OPUS_PASSWORD_FD": "77"}, "OPUS_PASSWORD_FD: descriptor 77: Bad file descriptor"),
    ],
    ids=["nobody to ask", "no number", "no descriptor"],
)
def test_a_password_that_nobody_gives(pipeline: Pipeline, more: dict[str, str], said: str) -> None:
    pipeline.resource("", FILES + SUCCESS + "PASSWORD = yes\n")
    ran = pipeline.once(more=more)
    assert ran.exit in (2, 3)
    assert said in ran.stderr
    assert "Traceback" not in ran.stderr


# What is refused


def test_all_that_is_wrong_is_told_at_once(pipeline: Pipeline) -> None:
    pipeline.resource("", FILES.replace("FILE_RANK = 1\n", "") + "XPOLL_ERROR_COUNT = many\n")
    ran = pipeline.once()
    assert ran.exit == 3
    for name in ("FILE_RANK", "XPOLL_ERROR_COUNT", "XPOLL_STATE.NN"):
        assert name in ran.stderr


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("< xpoll -p $PATH_FILE -r proc >", "< other >", "proc.resource:2: TASK: < xpoll -p "),
        ("OSF_DONE.GC = c", "OSF_DONE.GC = q", "proc.resource:8: OSF_DONE.GC: 'q' has no meaning"),
        ("OSF_DONE.CA = w", "OSF_DONE.ZZ = w", "proc.resource:9: OSF_DONE.ZZ: a stage of"),
    ],
    ids=["TASK starts something else", "a letter of no stage", "no stage"],
)
def test_what_cannot_work_is_refused_at_the_start(
    pipeline: Pipeline, old: str, new: str, said: str
) -> None:
    pipeline.resource("", ENTRIES + DONE)
    file = pipeline.directory / "proc.resource"
    file.write_text(file.read_text().replace(old, new))
    pipeline.post("o1")
    ran = pipeline.once()
    assert ran.exit == 3
    assert said in ran.stderr
    assert pipeline.letters() == {"o1": "w_"}


@pytest.mark.parametrize("option", [["-p", "night"], ["-r", "proc"], []])
def test_usage(pipeline: Pipeline, option: list[str]) -> None:
    from server.process import main

    with pytest.raises(SystemExit) as ended:
        main(option)
    assert ended.value.code == 2


def test_without_a_home_the_log_is_standard_error(pipeline: Pipeline) -> None:
    pipeline.resource("echo from the command", FILES + SUCCESS)
    pipeline.drop("a.in")
    ran = pipeline.once(more={"OPUS_HOME_DIR": ""})
    assert ran.exit == 0
    # Cron sends by mail what it finds there: no more than what the command says.
    assert ran.stderr == "from the command\n"
    assert ran.stdout == ""


def test_a_log_that_cannot_be_written_is_told(pipeline: Pipeline) -> None:
    pipeline.resource("", FILES + SUCCESS)
    ran = pipeline.once(more={"OPUS_HOME_DIR": str(pipeline.directory / "gone")})
    assert ran.exit == 2
    assert ran.stderr == (
        f"xpoll: {pipeline.directory}/gone/night-proc.log: No such file or directory\n"
    )


def test_an_entry_that_is_deleted_in_work_ends_nothing(pipeline: Pipeline) -> None:
    pipeline.resource(BEGUN + "while [ ! -e $OUT/go ]; do sleep 0.01; done", ENTRIES + DONE)
    pipeline.post("o1", "o2")
    with pipeline.running() as process:
        pipeline.wait((pipeline.directory / "begun").exists)
        with pipeline.board() as board:
            board.delete(Key("o1", "fst"))
        (pipeline.directory / "go").touch()
        pipeline.wait(lambda: pipeline.letters() == {"o2": "cw"})
        assert stop(process) == (0, "", "")
    assert "nothing was written: o1 fst 000" in pipeline.log()
    with pipeline.board() as board:
        assert not list(board.entries(Filter(dataset="o1")))
