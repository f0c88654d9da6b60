"""The monitor's pages: paths, processes, datasets and the picture of the night, as plain HTML.

They run and fetch nothing. The browser asks again by itself (`meta refresh`); what the reader has
chosen is in the page's address, and so stays.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from urllib.parse import quote, urlencode

from formats.path_file import OBSERVATIONS
from formats.stage_file import NOT_SET, Stage
from server.opus.night import KINDS, NAMES, kind_of
from server.opus.overview import Overview, Worker
from server.opus.status import kinds_of, letters_of, meaning
from server.views.pages import STYLE

_OWN = """
:root{--done:#2f855a;--work:#2b6cb0;--trouble:#c53030;--yet:#a9b4c2}
@media(prefers-color-scheme:dark){:root{--done:#48a97a;--work:#4d94dd;--trouble:#e5605f;
--yet:#566273}}
h2{font-size:1.1rem;margin:1.8rem 0 .5rem}
.kC{--k:var(--done)}.kP{--k:var(--work)}.kT{--k:var(--trouble)}.kN{--k:var(--yet)}
b{display:inline-block;min-width:1.45em;padding:0 .3em;border-radius:4px;text-align:center;
background:var(--k,none);color:#fff;font:600 .92em ui-monospace,monospace}
b:not([class]),.kN b,b.kN{color:var(--ink)}
.legend span{white-space:nowrap}.letters{white-space:normal}
.letters span{display:inline-block;margin-right:1.1em;white-space:nowrap}
.busy{color:var(--work)}.iowait,.suspended,.absent{color:var(--bad);font-weight:600}
.night{display:block;width:100%;height:auto;margin:.3rem 0}
.night text{fill:var(--soft);font:12px system-ui,sans-serif}
.night .stage{fill:var(--ink);font-weight:600;font-size:14px}
.night .count{text-anchor:end;fill:var(--ink);font-size:14px}.night .time{text-anchor:middle}
.night path{fill:var(--k)}.night .ground{fill:var(--band)}
.night .tick{stroke:var(--line);fill:none}
form{display:flex;flex-wrap:wrap;gap:.5rem .9rem;margin:.5rem 0;align-items:end}
label{color:var(--soft);font-size:.85em}
input{display:block;font:14px ui-monospace,monospace;padding:.25rem .4rem;width:11rem;
color:var(--ink);background:var(--paper);border:1px solid var(--line);border-radius:6px}
form button{padding:.25rem .8rem;border:1px solid var(--line);border-radius:6px;
background:var(--band)}
"""

EVERY = (5, 30, 0)
"""Seconds after which a page may ask again; 0: never."""

_NUMBER = ' class="number"'

_PROCESSES = ("Process", "Class", "State", "Since (UTC)", "Host", "PID", "Asked to", "Working on")


@dataclass(frozen=True, slots=True)
class Chosen:
    """What the reader has chosen: which datasets, as the options of `status` say it, and how often
    the page asks again, in seconds."""

    dataset: str = ""
    data_id: str = ""
    states: str = ""
    every: int = EVERY[0]

    def query(self, every: int) -> str:
        """The address of the same page that asks again after `every` seconds."""
        given = {"f": self.dataset, "t": self.data_id, "s": self.states}
        pairs = {name: text for name, text in given.items() if text}
        if every != EVERY[0]:
            pairs["every"] = str(every)
        return f"?{urlencode(pairs)}" if pairs else "./"


@dataclass(frozen=True, slots=True)
class Trouble:
    """A path that cannot be looked at, and why."""

    name: str
    problems: tuple[str, ...]


def front_page(seen: Sequence[Overview | Trouble], chosen: Chosen) -> bytes:
    """The page of all paths: of each its processes, and how many datasets are how far."""
    parts = [_top("Monitor", "", chosen)]
    for one in seen:
        if isinstance(one, Trouble):
            parts += [f"<h2>{escape(one.name)}</h2>\n", _problems(one.problems)]
            continue
        name = one.paths.name
        parts += [
            f'<h2><a href="{quote(name)}/">{escape(name)}</a></h2>\n',
            f'<div class="facts">{_facts(one)}</div>\n',
            _stages(one),
            f"<p></p>{_workers(one.workers)}" if one.workers else "",
        ]
    return _page(parts)


def path_page(
    seen: Overview, shown: Overview, svg: str, chosen: Chosen, trouble: Sequence[str]
) -> bytes:
    """The page of a path: `seen` is all of it, `shown` what the reader wants of its datasets.

    `svg`: the picture of the night. `trouble`: what is wrong with what was chosen.
    """
    legend = "".join(f'<span><b class="k{kind}">&nbsp;</b> {NAMES[kind]}</span>' for kind in KINDS)
    return _page(
        [
            _top(seen.paths.name, seen.paths.value(OBSERVATIONS), chosen, up=True),
            f'<div class="facts">{_facts(seen)}</div>\n',
            f'<h2>The night (UTC)</h2>\n<div class="facts legend">{legend}</div>\n{svg}',
            f"<h2>Processes</h2>\n{_workers(seen.workers)}",
            f"<h2>Stages</h2>\n{_stages(seen)}",
            f"<h2>Datasets</h2>\n{_form(chosen)}{_problems(trouble)}{_entries(shown)}",
        ]
    )


def trouble_page(found: Trouble, chosen: Chosen) -> bytes:
    """The page of a path that cannot be looked at."""
    return _page([_top(found.name, "", chosen, up=True), _problems(found.problems)])


def _page(parts: Sequence[str]) -> bytes:
    return "".join((*parts, "</html>\n")).encode("utf-8", "surrogateescape")


def _top(title: str, about: str, chosen: Chosen, *, up: bool = False) -> str:
    refresh = f'<meta http-equiv="refresh" content="{chosen.every}">\n' if chosen.every else ""
    trail = '<a href="../">Monitor</a><i>/</i>' if up else ""
    choices = "".join(
        f"<span>{_often(every)}</span>"
        if every == chosen.every
        else f'<a href="{escape(chosen.query(every))}">{_often(every)}</a>'
        for every in EVERY
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width">\n'
        f"{refresh}<title>{escape(title)}</title>\n<style>{STYLE}{_OWN}</style>\n"
        f'<nav aria-label="Where this is">{trail}</nav>\n<h1>{escape(title)}</h1>\n'
        + (f'<p class="about">{escape(about)}</p>\n' if about else "")
        + f'<div class="facts"><span>Looks again</span>{choices}</div>\n'
    )


def _often(every: int) -> str:
    return f"every {every} s" if every else "never"


def _facts(seen: Overview) -> str:
    facts = (f"At {_time(seen.at)}", f"{seen.total:,} datasets", f"processes {_told(seen.workers)}")
    return "".join(f"<span>{fact}</span>" for fact in facts)


def _told(workers: Sequence[Worker]) -> str:
    return escape(kinds_of(workers))


def _problems(problems: Sequence[str]) -> str:
    return "".join(f'<p class="bad">{escape(problem)}</p>\n' for problem in problems)


def _stages(seen: Overview) -> str:
    rows = [
        f"<tr><td>{escape(stage.title)}</td><td>{escape(stage.description)}</td>"
        f'<td class="letters">{_letters(stage, seen)}</td></tr>\n'
        for stage in seen.stages.stages
    ]
    return _table(("Stage", "Description", "Datasets"), rows)


def _letters(stage: Stage, seen: Overview) -> str:
    return "".join(
        f"<span>{_letter(stage, letter)} {count:,} {escape(text)}</span>"
        for letter, text, count in letters_of(stage, seen.counts[stage.title])
    )


def _letter(stage: Stage, letter: str) -> str:
    kind = kind_of(stage, letter)
    coloured = f' class="k{kind}"' if kind else ""
    return f'<b{coloured} title="{escape(meaning(stage, letter))}">{escape(letter)}</b>'


def _workers(workers: Sequence[Worker]) -> str:
    if not workers:
        return '<p class="empty">No processes yet</p>\n'
    return f'<div class="processes">{_table(_PROCESSES, [_worker(one) for one in workers])}</div>'


def _worker(worker: Worker) -> str:
    process, display = worker.process, worker.display
    about = f' title="{escape(display.description)}"' if display.description else ""
    return (
        f"<tr><td{about}>{escape(process.name)} <code>{process.holder}</code></td>"
        f"<td>{escape(display.class_)}</td>"
        f'<td class="{escape(process.state)}">{escape(process.state)}</td>'
        f"<td>{_time(process.since)}</td><td>{escape(process.host)}</td>"
        f"<td{_NUMBER}>{process.pid}</td><td>{escape(worker.asked or '')}</td>"
        f'<td class="text">{escape(process.working_on or "")}</td></tr>\n'
    )


def _form(chosen: Chosen) -> str:
    fields = (
        ("f", "Dataset (* and ? fit anything)", chosen.dataset),
        ("t", "Type (DATA_ID)", chosen.data_id),
        ("s", "States (XX=s,YY=s)", chosen.states),
    )
    inputs = "".join(
        f'<label>{label}<input name="{name}" value="{escape(value)}"></label>'
        for name, label, value in fields
    )
    hidden = f'<input type="hidden" name="every" value="{chosen.every}">'
    every = hidden if chosen.every != EVERY[0] else ""
    return f'<form method="get">{inputs}{every}<button>Show</button></form>\n'


def _entries(seen: Overview) -> str:
    if not seen.entries:
        return '<p class="empty">No such datasets</p>\n'
    stages = seen.stages.stages
    rows = []
    # Whoever looks wants to see first what came last.
    for entry in reversed(seen.entries):
        letters = "".join(
            f"<td>{_letter(stage, entry.states.get(stage.title, NOT_SET))}</td>" for stage in stages
        )
        rows.append(
            f"<tr><td>{escape(entry.key.dataset)}</td><td>{escape(entry.key.data_id)}</td>"
            f"<td>{escape(entry.key.dcf)}</td><td>{_time(entry.start)}</td>{letters}</tr>\n"
        )
    left_out = seen.total - len(seen.entries)
    told = f"{seen.total:,} datasets" + (f", the last {len(rows):,}" if left_out else "")
    titles = tuple(stage.title for stage in stages)
    table = _table(("Dataset", "Type", "DCF", "Start (UTC)", *titles), rows)
    return f'<div class="facts"><span>{told}</span></div>\n{table}'


def _table(heads: Sequence[str], rows: Sequence[str]) -> str:
    shown = "".join(
        f'<th scope="col"{_NUMBER if head == "PID" else ""}>{escape(head)}</th>' for head in heads
    )
    return (
        f'<div class="wide"><table>\n<thead><tr>{shown}</tr></thead>\n<tbody>\n'
        f"{''.join(rows)}</tbody></table></div>\n"
    )


def _time(text: str) -> str:
    shown = text.replace("T", " ").removesuffix("Z")
    return f'<time datetime="{escape(text)}">{escape(shown)}</time>'
