"""The three lists as HTML pages for people: no scripts, readable by day and by night."""

from collections.abc import Iterable, Iterator, Sequence
from html import escape
from urllib.parse import quote

from mirror.errors import ListError
from mirror.listing import FileRow, FilesetRow, Header, Malformed, ProductRow, Row

_BATCH = 200
"""Rows that are sent at a time."""

_STYLE = """
:root{color-scheme:light dark;--ink:#1d2430;--soft:#5b6675;--line:#dfe3e8;--paper:#fff;
--band:#f6f7f9;--link:#0b57b0;--bad:#a4262c}
@media(prefers-color-scheme:dark){:root{--ink:#dde3ea;--soft:#93a0b0;--line:#2f3742;
--paper:#14181d;--band:#1b2027;--link:#7db4ff;--bad:#ff8f8f}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:86rem;padding:2rem 1.25rem;background:var(--paper);color:var(--ink);
font:14px/1.5 system-ui,sans-serif}
a{color:var(--link);text-decoration:none}a:hover,a:focus{text-decoration:underline}
nav,footer{color:var(--soft)}nav i{font-style:normal;padding:0 .4em}
h1{font-size:1.5rem;margin:.4rem 0 1.25rem;overflow-wrap:anywhere}
.wide{overflow-x:auto;border:1px solid var(--line);border-radius:8px}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{text-align:left;padding:.4rem .7rem;white-space:nowrap}
th{background:var(--band);color:var(--soft);font-weight:600;font-size:.85em}
td{border-top:1px solid var(--line)}tr:hover td{background:var(--band)}
.text{white-space:normal;min-width:14rem}.number{text-align:right}
code{font:.87em ui-monospace,monospace;color:var(--soft)}
.none{color:var(--soft)}.bad{color:var(--bad);white-space:normal}
footer{margin-top:1rem;font-size:.9em}
"""

_NOUNS = ("product", "fileset", "file")


def page(names: Sequence[str], rows: Iterable[Row | Malformed]) -> Iterator[bytes]:
    """Yield the page of a list, in UTF-8: `names` are the product and fileset it belongs to.

    Everything from the list is escaped; names become links only as checked by mirror.listing.
    """
    yield _top(names).encode()
    batch: list[str] = []
    header: Header | None = None
    count = 0
    trouble = ""
    try:
        for row in rows:
            if isinstance(row, Row) and row.header is not header:
                header = row.header
                batch.append(_head(row))
            batch.append(_row(row))
            count += 1
            if len(batch) >= _BATCH:
                yield "".join(batch).encode()
                batch.clear()
    except ListError as fault:
        trouble = f'<p class="bad">{escape(str(fault))}</p>'
    noun = _NOUNS[len(names)]
    batch.append("</table></div>" + trouble)
    total = f"{count:,} {noun}{'' if count == 1 else 's'}" if count else f"No {noun}s yet"
    batch.append(f'<footer>{total} · <a href="index.txt">index.txt</a></footer>\n</html>\n')
    yield "".join(batch).encode()


def _top(names: Sequence[str]) -> str:
    title = names[-1] if names else "Data Store"
    trail = [("../" * len(names), "Data Store")] if names else []
    trail += [("../" * (len(names) - at), names[at - 1]) for at in range(1, len(names))]
    links = "".join(f'<a href="{href}">{escape(text)}</a><i>/</i>' for href, text in trail)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n"
        f"<nav>{links}</nav>\n<h1>{escape(title)}</h1>\n"
        '<div class="wide"><table>\n'
    )


def _head(row: Row) -> str:
    sized = row.header.fixed[1] if isinstance(row, FileRow) else -1
    cells = "".join(
        f"<th{_class('number' if at == sized else '')}>{escape(name)}</th>"
        for at, name in enumerate(row.header.names)
    )
    return f"<tr>{cells}</tr>\n"


def _row(row: Row | Malformed) -> str:
    match row:
        case Malformed():
            reason = f"line {row.line}: {row.reason}"
            return f'<tr><td class="bad" colspan="99">{escape(reason)}</td></tr>\n'
        case ProductRow():
            recent = f"{row.name}/{row.most_recent}" if row.most_recent else ""
            special = (_link(row.name), _link(recent), "", "", _cell(row.description, "text"))
        case FilesetRow():
            special = (_link(row.name), "", "", "", "")
        case FileRow():
            special = (_link(row.name, ""), _size(row.size), _sum(row.md5), "", "")
        case _:
            special = ("", "", "", "", "")
    shown = [_cell(cell) for cell in row.cells]
    for at, html in zip(row.header.fixed, special, strict=False):
        shown[at] = html or shown[at]
    return f"<tr>{''.join(shown)}</tr>\n"


def _link(path: str, end: str = "/") -> str:
    """A cell that links to a product, fileset (`/` at its end) or file; named by its last part."""
    if not path:
        return ""
    name = path.rpartition("/")[2]
    # quote() escapes ':' as well, so that no name reads as a scheme.
    return f'<td><a href="{quote(path)}{end}">{escape(name)}</a></td>'


def _size(size: int) -> str:
    return f'<td class="number" title="{size:,} bytes">{human_size(size)}</td>'


def _sum(md5: str | None) -> str:
    return f"<td><code>{md5}</code></td>" if md5 else _cell("")


def _cell(text: str, kind: str = "") -> str:
    if text in ("null", "none", ""):
        return '<td class="none">&ndash;</td>'
    return f"<td{_class(kind)}>{escape(text)}</td>"


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
