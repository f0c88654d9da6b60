"""`pubtool`: publish detections of finished runs to clients (PROTOCOL section 4, seed 000).

  pubtool -defineclient -stage diff -product IPP-MOPS -workdir neb://any/where/
  pubtool -definerun -label LABEL
  pubtool -pending -label LABEL
  pubtool -add -pub_id 123 -path_base neb://any/where/IPP-MOPS.123
  pubtool -revert -pub_id 123

A client is active from the beginning; `pubtool -updateclient -inactive` changes that, and
-listclients, which is ours, shows the ids. In -comment and -filter, % stands for any text and _
for any character, in any case.

Exit status: 0 done; 1 what is asked for does not fit what is there; 2 usage, or this machine is in
the way; 3 an option is missing or its value refused, or the site is not configured.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import astuple

from mirror.errors import ConfigError
from server.catalogue import catalogue, find_product
from server.command import show, tell
from server.database import Database
from server.dsprodtool import ensure_product
from server.modes import Given, Mode, Option, format_rows, read_call
from server.publishing import clients, define, runs
from server.publishing.clients import Client, ClientQuery, NewClient
from server.publishing.posts import RUNS
from server.publishing.runs import PublishRun
from server.run_posts import RunPosts
from server.runs.resolve import host_name
from server.site import Site, read_site
from server.store_lock import ConflictError

_OPTIONS = {
    "client_id": Option("number", "a client, see -listclients"),
    "stage": Option("text", "the client's stage: diff or camera"),
    "product": Option("text", "the client's product in the Data Store"),
    "workdir": Option("text", "where files made for it go: neb://, path://, file:///, a directory"),
    "comment": Option("text", "the client's comment; where it selects, a pattern (SQL LIKE)"),
    "name": Option("text", "the client's name"),
    "output_format": Option("text", "the format that the client wants, for the translation"),
    "active": Option("flag", "publish to it"),
    "inactive": Option("flag", "do not publish to it"),
    "label": Option("texts", "runs of this label; may be repeated"),
    "data_group": Option("texts", "runs of this data group; may be repeated"),
    "dateobs_begin": Option("text", "observed at this UTC time or later"),
    "dateobs_end": Option("text", "observed at this UTC time or before"),
    "filter": Option("text", "the filter, a pattern (SQL LIKE)"),
    "obs_mode": Option("text", "the observation mode"),
    "set_label": Option("text", "the label of what is made, instead of the run's own"),
    "rerun": Option("flag", "also what was published before"),
    "pretend": Option("flag", "show what would be made, and make nothing"),
    "pub_id": Option("number", "a publish run"),
    "path_base": Option("text", "how the paths of what was published begin"),
    "hostname": Option("text", "where it was done (else this host)"),
    "dtime_script": Option("seconds", "how long it took"),
    "fault": Option("number", "the fault; 0, if it is not given to -add: none"),
    "state": Option("text", "runs of this state: new or full"),
    "set_state": Option("text", "the new state: new or full"),
    "limit": Option("number", "no more than so many"),
    "all": Option("flag", "whatever is pending"),
    "simple": Option("flag", "one line a row instead of mdc"),
}

_MODES = {
    "defineclient": Mode(
        ("stage", "product", "workdir"), ("comment", "name", "output_format"), "add a client"
    ),
    "updateclient": Mode(
        (("active", "inactive"), ("client_id", "stage", "product", "comment")), (),
        "switch clients on or off",
    ),
    "listclients": Mode((), ("simple",), "show the clients"),
    "definerun": Mode(
        (),
        (
            "label", "set_label", "client_id", "data_group", "comment", "dateobs_begin",
            "dateobs_end", "filter", "obs_mode", "rerun", "pretend", "simple", "limit",
        ),
        "make publish runs of finished runs, and show them",
    ),
    "pending": Mode(
        (("client_id", "stage", "comment", "name", "label", "all"),), ("limit", "simple"),
        "show the runs that are to be done",
    ),
    "listfaults": Mode(
        (), ("client_id", "stage", "comment", "name", "label", "fault", "limit", "simple"),
        "show the runs that failed and wait for a revert",
    ),
    "add": Mode(
        ("pub_id", "path_base"), ("hostname", "dtime_script", "fault"),
        "record an attempt at a run: without a fault it is full",
    ),
    "revert": Mode(
        (), ("pub_id", "fault", "client_id", "comment", "label"),
        "forget failed attempts, all if nothing is said: their runs are pending again",
    ),
    "updaterun": Mode(
        ("set_state", ("pub_id", "client_id", "state", "label", "fault")), (),
        "give runs another state; to publish anew what is full, withdraw its fileset first: dsreg"
        " --del FILESET --product PRODUCT, then -set_state new",
    ),
}  # fmt: skip

_MAX_FAULT = 32767

_CLIENT_COLUMNS = {
    "client_id": "S64", "active": "BOOL", "product": "STR", "stage": "STR", "workdir": "STR",
    "comment": "STR", "name": "STR", "output_format": "STR",
}  # fmt: skip
_LOOKING = ("listclients", "pending", "listfaults")
"""Modes that change nothing."""

_RUN_COLUMNS = {
    "pub_id": "S64", "client_id": "S64", "product": "STR", "stage": "STR", "stage_id": "S64",
    "workdir": "STR", "camera": "STR", "label": "STR", "comment": "STR", "output_format": "STR",
}  # fmt: skip
_FAULT_COLUMNS = {
    "pub_id": "S64", "client_id": "S64", "product": "STR", "stage": "STR", "stage_id": "S64",
    "label": "STR", "path_base": "STR", "attempted": "UTC", "fault": "S32", "message": "STR",
}  # fmt: skip
# Where a run comes from is looked up for what is pending alone.
_MADE_COLUMNS = {name: kind for name, kind in _RUN_COLUMNS.items() if name != "camera"}


def main(argv: Sequence[str]) -> int:
    """Do what the mode says, and print what it shows or has done; returns the exit status."""
    mode, given = read_call("pubtool", __doc__, _MODES, _OPTIONS, argv)
    if problems := _problems(mode, given):
        raise ConfigError(problems)
    site = read_site(given)
    if mode == "defineclient" and (problems := clients.client_problems(_asked(given), site.roots)):
        raise ConfigError(problems)
    with catalogue(site.database, create=mode == "defineclient") as database:
        _ACTIONS[mode](site, database, given)
        if mode not in _LOOKING:
            RunPosts(site, database, RUNS, "pubtool").now()
    return 0


def _problems(mode: str, given: Given) -> list[str]:
    """Values that can be refused without looking at anything."""
    # A new client's is looked at with the rest of it.
    problems = clients.stage_problems(given.stage) if mode != "defineclient" else []
    if given.active and given.inactive:
        problems.append("-active and -inactive: one of them expected")
    for name in ("state", "set_state"):
        value = getattr(given, name)
        if value is not None and value not in runs.STATES:
            problems.append(f"-{name}: {' or '.join(runs.STATES)} expected, not {value!r}")
    if given.fault is not None and given.fault > _MAX_FAULT:
        problems.append(f"-fault: 0 to {_MAX_FAULT} expected, not {given.fault}")
    if mode == "revert" and given.fault == 0:
        problems.append("-fault: an attempt that failed has another one than 0")
    if mode != "defineclient":
        problems += clients.like_problems("comment", given.comment)
    return problems + clients.like_problems("filter", given.filter)


# Clients


def _asked(given: Given) -> NewClient:
    return NewClient(
        given.product, given.stage, given.workdir, given.comment, given.name, given.output_format
    )


def _defineclient(site: Site, database: Database, given: Given) -> None:
    asked = _asked(given)
    made = _ensure_product(site, database, asked)
    client, added = clients.add_client(database, asked)
    there = "" if added else " is there already, just as asked for"
    state = "active" if client.active else "inactive"
    tell(
        f"client {client.client_id}{there}: {asked.product}, stage {asked.stage}, workdir"
        f" {asked.workdir}, {state}{made}"
    )


def _ensure_product(site: Site, database: Database, asked: NewClient) -> str:
    """Make the client's product where there is none; returns what is to be said of it."""
    name, kind = asked.product, clients.product_type(asked.product)
    if there := find_product(database, name):
        clients.check_columns(there)
        return ""
    description = clients.product_description(asked)
    made = ensure_product(
        site, database, name, kind, description, clients.PRODUCT_COLUMNS, clients.check_columns
    )
    return f"; made product {name}, {kind}, in {site.root / name}" if made else ""


def _updateclient(site: Site, database: Database, given: Given) -> None:
    query = ClientQuery(given.client_id, given.stage, given.product, given.comment)
    ids = clients.update_clients(database, query, active=given.active)
    if not ids:
        raise ConflictError("no client fits; pubtool -listclients shows them")
    state = "active" if given.active else "inactive"
    tell(f"{state}: client{'s' if len(ids) > 1 else ''} {', '.join(map(str, ids))}")


def _listclients(site: Site, database: Database, given: Given) -> None:
    _show("publishClient", _CLIENT_COLUMNS, map(_client_row, clients.find_clients(database)), given)


def _client_row(client: Client) -> Sequence[object]:
    asked = client.asked
    return (
        client.client_id, client.active, asked.product, asked.stage, asked.workdir, asked.comment,
        asked.name, asked.output_format,
    )  # fmt: skip


# Runs


def _definerun(site: Site, database: Database, given: Given) -> None:
    if given.client_id is not None:
        _check_client(database, given.client_id)
    query = define.RunQuery(
        client_id=given.client_id, comment=given.comment, labels=tuple(given.label),
        data_groups=tuple(given.data_group), dateobs_begin=given.dateobs_begin,
        dateobs_end=given.dateobs_end, filter=given.filter, obs_mode=given.obs_mode,
        rerun=given.rerun, set_label=given.set_label, limit=given.limit,
    )  # fmt: skip
    made = define.define_runs(database, query, pretend=given.pretend)
    _show("publishRun", _MADE_COLUMNS, (_run_row(run, _MADE_COLUMNS) for run in made), given)


def _check_client(database: Database, client_id: int) -> None:
    """Refuse a client that was named and has nothing published to it."""
    found = clients.find_clients(database, ClientQuery(client_id))
    if not found:
        raise ConflictError(f"client {client_id}: not there; pubtool -listclients shows them")
    if not found[0].active:
        raise ConflictError(
            f"client {client_id}: it is inactive; first"
            f" pubtool -updateclient -active -client_id {client_id}"
        )


def _pending(site: Site, database: Database, given: Given) -> None:
    query = runs.PendingQuery(
        given.client_id, given.stage, given.comment, given.name, tuple(given.label), given.limit
    )
    found = runs.pending_runs(database, query)
    _show("publishRun", _RUN_COLUMNS, (_run_row(run, _RUN_COLUMNS) for run in found), given)


def _listfaults(site: Site, database: Database, given: Given) -> None:
    query = runs.PendingQuery(
        given.client_id, given.stage, given.comment, given.name, tuple(given.label), given.limit
    )
    found = runs.faulty_runs(database, query, given.fault)
    _show("publishDone", _FAULT_COLUMNS, map(astuple, found), given)


def _run_row(run: PublishRun, columns: Iterable[str]) -> Sequence[object]:
    # Of a run that is only shown, not made, the id is not known.
    return [getattr(run, name) if name != "pub_id" else run.pub_id or None for name in columns]


def _show(
    name: str, columns: dict[str, str], rows: Iterable[Sequence[object]], given: Given
) -> None:
    if text := format_rows(name, columns, rows, simple=given.simple):
        show(text.rstrip("\n"))


def _add(site: Site, database: Database, given: Given) -> None:
    number, fault = given.pub_id, given.fault or 0
    hostname = given.hostname or host_name()
    runs.add_attempt(database, number, given.path_base, hostname, given.dtime_script, fault)
    if fault:
        tell(f"publish run {number}: fault {fault}; pubtool -revert -pub_id {number} to try again")
    else:
        tell(f"publish run {number}: full")


def _revert(site: Site, database: Database, given: Given) -> None:
    _check_run(database, given.pub_id)
    query = runs.RevertQuery(
        given.pub_id, given.fault, given.client_id, given.comment, tuple(given.label)
    )
    count = runs.revert(database, query)
    tell(f"reverted {count} failed attempt{'' if count == 1 else 's'}")


def _updaterun(site: Site, database: Database, given: Given) -> None:
    _check_run(database, given.pub_id)
    query = runs.UpdateQuery(
        given.pub_id, given.client_id, given.state, tuple(given.label), given.fault
    )
    count = runs.update_runs(database, query, given.set_state)
    tell(f"{count} run{' is' if count == 1 else 's are'} {given.set_state} now")


def _check_run(database: Database, pub_id: int | None) -> None:
    if pub_id is not None and runs.find_run(database, pub_id) is None:
        raise ConflictError(f"publish run {pub_id}: not there")


_ACTIONS: dict[str, Callable[[Site, Database, Given], None]] = {
    "defineclient": _defineclient,
    "updateclient": _updateclient,
    "listclients": _listclients,
    "definerun": _definerun,
    "pending": _pending,
    "listfaults": _listfaults,
    "add": _add,
    "revert": _revert,
    "updaterun": _updaterun,
}
