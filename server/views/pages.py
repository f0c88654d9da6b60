"""The three lists as HTML pages for people: no scripts, readable by day and by night.

The pages of a list are linked, so that a crawler reaches everything; its orders are buttons of a
form, so that no crawler wanders through them.
"""

from collections.abc import Iterator, Sequence
from html import escape
from urllib.parse import quote

from mirror.listing import NULL, FileRow, FilesetRow, Malformed, ProductRow, Row
from server.views.view import KEYS, PAGE, Part, View, own_labels, pages_of

STYLE = """
:root{color-scheme:light dark;--ink:#1d2430;--soft:#5b6675;--line:#dfe3e8;--paper:#fff;
--band:#f6f7f9;--link:#0b57b0;--bad:#a4262c}
@media(prefers-color-scheme:dark){:root{--ink:#dde3ea;--soft:#93a0b0;--line:#2f3742;
--paper:#14181d;--band:#1b2027;--link:#7db4ff;--bad:#ff8f8f}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:86rem;padding:2rem 1.25rem;background:var(--paper);color:var(--ink);
font:14px/1.5 system-ui,sans-serif}
a{color:var(--link);text-decoration:none}a:hover,a:focus{text-decoration:underline}
nav,.about,.facts{color:var(--soft)}nav i{font-style:normal;padding:0 .4em}
h1{font-size:1.5rem;line-height:1.25;margin:.4rem 0 .3rem;overflow-wrap:anywhere}
.about{margin:0}.facts{margin:.9rem 0 .5rem;display:flex;flex-wrap:wrap;gap:.2rem 1.1rem}
.wide{overflow-x:auto;border:1px solid var(--line);border-radius:8px}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{text-align:left;padding:.4rem .7rem;white-space:nowrap}
th{background:var(--band);color:var(--soft);font-weight:600;font-size:.85em}
td{border-top:1px solid var(--line)}tr:hover td{background:var(--band)}
button{font:inherit;color:inherit;background:none;border:0;margin:0;padding:0;cursor:pointer}
button:hover,th[aria-sort] button{color:var(--ink)}.plain{color:var(--link)}
button:hover{text-decoration:underline}
th:not([aria-sort]) button::after{content:" \\2195";opacity:.4}
a:focus-visible,button:focus-visible{outline:2px solid var(--link);outline-offset:2px}
.text{white-space:normal;min-width:14rem}.number{text-align:right}
code{font:.87em ui-monospace,monospace;color:var(--soft)}
.none{color:var(--soft)}.bad{color:var(--bad);white-space:normal}
.empty{margin:0;padding:2.5rem 1rem;text-align:center;color:var(--soft)}
.pages{display:flex;flex-wrap:wrap;gap:.3rem 1.1rem;margin:.9rem 0}[aria-disabled]{opacity:.5}
@media(max-width:40rem){body{padding:1rem .75rem}th,td{padding:.45rem .55rem}
td:first-child{white-space:normal;overflow-wrap:anywhere;min-width:9.5rem}
code{display:block;max-width:8ch;overflow:hidden;text-overflow:ellipsis}.text{min-width:11rem}}
"""
"""How every page of the server looks."""

_NOUNS = ("product", "fileset", "file")
_TITLES = {
    "recent": "Most recent",
    "time": "Registered (UTC)",
    "type": "Type",
    "description": "Description",
    "size": "Size",
    "md5": "MD5 sum",
}
_FALLING = ("time", "size")
"""Columns of which people want to see the largest first."""

_NONE = '<td class="none">&ndash;</td>'


def page(names: Sequence[str], part: Part) -> bytes:
    """The page of a part of a list, in UTF-8: `names` are the product and fileset it belongs to.

    Everything from the list is escaped; names become links only as checked by mirror.listing.
    """
    pages = _pages(part)
    return "".join(
        (
            _top(names, part.about),
            f'<form method="get">\n{_facts(names, part)}',
            pages,
            f'<div class="wide">{_table(len(names), part)}</div></form>\n',
            f'<p class="bad">{escape(part.trouble)}</p>\n' if part.trouble else "",
            pages,
            "</html>\n",
        )
    ).encode()


def _top(names: Sequence[str], about: str) -> str:
    title = names[-1] if names else "Data Store"
    trail = [("../" * len(names), "Data Store")] if names else []
    trail += [("../" * (len(names) - at), names[at - 1]) for at in range(1, len(names))]
    links = "".join(f'<a href="{href}">{escape(text)}</a><i>/</i>' for href, text in trail)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n"
        f'<nav aria-label="Where this is">{links}</nav>\n<h1>{escape(title)}</h1>\n'
        + (f'<p class="about">{escape(about)}</p>\n' if about else "")
    )


def _facts(names: Sequence[str], part: Part) -> str:
    """How much there is, which of it is shown and in what order, and the list itself."""
    noun = _NOUNS[len(names)]
    facts = [f"{part.total:,} {noun}{'' if part.total == 1 else 's'}"]
    if part.size is not None:
        facts.append(f'<span title="{part.size:,} bytes">{human_size(part.size)}</span>')
    if part.total > PAGE:
        first = PAGE * (part.view.page - 1) + 1
        facts.append(f"rows {first:,}&ndash;{min(first + PAGE - 1, part.total):,}")
    if part.view.key:
        facts.append('<button class="plain" name="sort" value="">as registered</button>')
    facts.append('<a href="index.txt">index.txt</a>')
    return f'<div class="facts">{"".join(f"<span>{fact}</span>" for fact in facts)}</div>\n'


def _pages(part: Part) -> str:
    """Links to the other pages of the list; nothing where there is only one."""
    last, view = pages_of(part.total), part.view
    if last == 1:
        return ""
    places = [("First", 1, view.page > 1), ("Previous", view.page - 1, view.page > 1)]
    places += [("", 0, False)]
    places += [("Next", view.page + 1, view.page < last), ("Last", last, view.page < last)]
    shown = [
        _place(view, text, number, there)
        if text
        else f"<span>Page {view.page:,} of {last:,}</span>"
        for text, number, there in places
    ]
    return f'<nav class="pages" aria-label="Pages">{"".join(shown)}</nav>\n'


def _place(view: View, text: str, number: int, there: bool) -> str:
    if not there:
        return f'<span aria-disabled="true">{text}</span>'
    return f'<a href="{escape(view.at(number))}">{text}</a>'


def _table(level: int, part: Part) -> str:
    if not part.rows:
        return f'<p class="empty">No {_NOUNS[level]}s yet</p>'
    own = list(dict.fromkeys(label for row in part.rows for label in _own_of(row)))
    return "".join(
        (
            f"<table>\n<thead><tr>{''.join(_heads(level, own, part))}</tr></thead>\n<tbody>\n",
            *(_row(row, own, len(KEYS[level])) for row in part.rows),
            "</tbody></table>",
        )
    )


def _own_of(row: Row | Malformed) -> list[str]:
    """The labels of a row's own columns; of cells beyond the header, their numbers."""
    if isinstance(row, Malformed):
        return []
    surplus = range(len(row.header.names), len(row.cells))
    return own_labels(row.header) + [f"column {at + 1}" for at in surplus]


def _heads(level: int, own: Sequence[str], part: Part) -> Iterator[str]:
    for key in KEYS[level]:
        title = _NOUNS[level].capitalize() if key == "name" else _TITLES[key]
        yield _head(key, title, part)
    for label in own:
        # A key means the fixed column of that key, if there is one.
        yield _head("" if label in KEYS[level] else label, label, part)


def _head(key: str, title: str, part: Part) -> str:
    """A column's head: a button that sorts by it, or in the other direction."""
    kind = _class("number" if key == "size" else "")
    if key not in part.sortable:
        return f'<th scope="col"{kind}>{escape(title)}</th>'
    view = part.view
    falling = not view.descending if key == view.key else key in _FALLING
    state = mark = ""
    if key == view.key:
        state = f' aria-sort="{"descending" if view.descending else "ascending"}"'
        mark = f' <span aria-hidden="true">{"&#9660;" if view.descending else "&#9650;"}</span>'
    value = escape(f"{'-' * falling}{key}")
    button = f'<button name="sort" value="{value}">{escape(title)}{mark}</button>'
    return f'<th scope="col"{kind}{state}>{button}</th>'


def _row(row: Row | Malformed, own: Sequence[str], fixed: int) -> str:
    match row:
        case Malformed():
            reason = escape(f"line {row.line}: {row.reason}")
            return f'<tr><td class="bad" colspan="{fixed + len(own)}">{reason}</td></tr>\n'
        case ProductRow():
            recent = _link(f"{row.name}/{row.most_recent}") if row.most_recent else _NONE
            shown = [_link(row.name), recent, _time(row.registered), _cell(row.type)]
            shown.append(_cell(row.description, "text"))
        case FilesetRow():
            shown = [_link(row.name), _time(row.registered), _cell(row.type)]
        case FileRow():
            shown = [_link(row.name, ""), _size(row.size), _sum(row.md5), _cell(row.type)]
        case _:
            shown = []
    values = dict(zip(_own_of(row), row.extra(), strict=False))
    shown += [_cell(values.get(label, "")) for label in own]
    return f"<tr>{''.join(shown)}</tr>\n"


def _link(path: str, end: str = "/") -> str:
    """A cell that links to a product, fileset (`/` at its end) or file; named by its last part."""
    name = path.rpartition("/")[2]
    # quote() escapes ':' as well, so that no name reads as a scheme.
    return f'<td><a href="{quote(path)}{end}">{escape(name)}</a></td>'


def _time(text: str) -> str:
    shown = text.replace("T", " ").removesuffix("Z")
    return f'<td><time datetime="{text}" title="{text}">{shown}</time></td>'


def _size(size: int) -> str:
    return f'<td class="number" title="{size:,} bytes">{human_size(size)}</td>'


def _sum(md5: str | None) -> str:
    return f'<td><code title="{md5}">{md5}</code></td>' if md5 else _NONE


def _cell(text: str, kind: str = "") -> str:
    return _NONE if text in (NULL, "") else f"<td{_class(kind)}>{escape(text)}</td>"


def _class(kind: str) -> str:
    return f' class="{kind}"' if kind else ""


def human_size(size: int) -> str:
    """A size in bytes as people read it: `1.2 MB`, powers of 1000 as everywhere in the project."""
    if size < 1000:
        return f"{size} B"
    value = float(size)
    for unit in ("kB", "MB", "GB", "TB"):
        value /= 1000
        # 999.95 and more would print as 1000.0.
        if value < 999.95:
            return f"{value:.1f} {unit}"
    return f"{value / 1000:.1f} PB"
