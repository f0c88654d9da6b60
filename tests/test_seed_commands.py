"""The walk-through of the publishing document (seed 000), typed as it stands there."""

import shlex
from pathlib import Path

import pytest
from places import data_store, tell_place
from pubruns import Pubtool, rows_of, store_diffs

from server.catalogue import catalogue, find_product
from server.publishing.runs import find_run
from server.site import Place

# "An entry in the publishClient table is set up manually:"
DEFINECLIENT = (
    'pubtool -defineclient -stage diff -comment "This is an aid to memory" -product IPP-MOPS'
    " -workdir neb://any/where/"
)
# "pantasks (task publish.trigger) regularly looks for data that is ready to be published. It does
# so with:"
DEFINERUN = "pubtool -definerun -label LABEL"
# "Pending publishRuns are recognised by pantasks (task publish.load) using:"
PENDING = "pubtool -pending -label LABEL"
# "Finally, it adds the result:"
ADD = "pubtool -add -pub_id 123 -path_base neb://any/where/IPP-MOPS.123"
# "In the event of an error, the fault code is added. The run can be retried following reversion:"
REVERT = "pubtool -revert -pub_id 123"


@pytest.fixture
def pubtool(
    place: Place,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Pubtool:
    root = data_store(tmp_path)
    tell_place(monkeypatch, root, place)
    monkeypatch.setenv("NEB_ROOT", str(tmp_path / "neb"))
    return Pubtool(root, place, capsys)


def typed(pubtool: Pubtool, command: str, *more: str) -> str:
    """What a command prints, typed by a person at a shell; it must succeed."""
    program, *words = shlex.split(command)
    assert program == "pubtool"
    return pubtool.done(*words, *more)


def pending(pubtool: Pubtool) -> list[dict[str, object]]:
    return rows_of(typed(pubtool, PENDING), "publishRun")


def test_the_walk_through_is_typed_as_it_stands(pubtool: Pubtool) -> None:
    assert typed(pubtool, DEFINECLIENT) == (
        "client 1: IPP-MOPS, stage diff, workdir neb://any/where/, active; made product IPP-MOPS,"
        f" IPP-MOPS, in {pubtool.root / 'IPP-MOPS'}\n"
    )
    with catalogue(pubtool.place) as database:
        product = find_product(database, "IPP-MOPS")
        # As many as there must be for one to have the id of the document.
        store_diffs(database, *range(1, 124), label="LABEL")
        store_diffs(database, 124, label="OTHER")
        store_diffs(database, 125, label="LABEL", state="new")
    assert product
    assert (product.type, product.columns) == ("IPP-MOPS", ("comment", "exposure"))

    made = rows_of(typed(pubtool, DEFINERUN), "publishRun")
    assert [row["pub_id"] for row in made] == list(range(1, 124))
    assert typed(pubtool, DEFINERUN) == ""

    waiting = pending(pubtool)
    assert len(waiting) == 123
    assert waiting[-1] == {
        "pub_id": 123, "client_id": 1, "product": "IPP-MOPS", "stage": "diff", "stage_id": 123,
        "workdir": "neb://any/where/", "camera": None, "label": "LABEL",
        "comment": "This is an aid to memory", "output_format": None,
    }  # fmt: skip

    assert typed(pubtool, ADD, "-fault", "4").startswith("publish run 123: fault 4")
    assert len(pending(pubtool)) == 122
    assert typed(pubtool, REVERT) == "reverted 1 failed attempt\n"
    assert len(pending(pubtool)) == 123

    assert typed(pubtool, ADD) == "publish run 123: full\n"
    assert len(pending(pubtool)) == 122
    with catalogue(pubtool.place) as database:
        run = find_run(database, 123)
    assert run
    assert run.attempt
    assert (run.state, run.attempt.fault) == ("full", 0)
    assert run.attempt.path_base == "neb://any/where/IPP-MOPS.123"
