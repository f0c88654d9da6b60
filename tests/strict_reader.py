"""A reader as strict as the old client tools, written from what they accept (PROTOCOL section 2).

It shares nothing with the project's own reader, so that what both accept is accepted for a reason.
"""

import re
from collections.abc import Iterator

# One line a list: types of products, of filesets, of files.
TYPES = """\
image dump psrequest psresults table ipp-dist ipp-misc dqresults IPP-MOPS IPP-PSPS PSRESULTS
OBJECT BIAS DARK SKYFLAT DOMEFLAT OOF SHACKHARTMANN PSREQUEST PSRESULTS IPP-MOPS XRAY FOCUS \
MOPS_DETECTABILITY_QUERY MOPS_DETECTABILITY_RESPONSE MOPS_TRANSIENT_DETECTIONS LED notset \
IPP_PSPS IPP-DIST table
chip psrequest psresults pstamp chipproc warp stack diff ipp-mops table text xml tgz fits \
IPP-MOPS IPP-PSPS ipp-psps notset
"""

HEADERS = (
    ["productID", "Most recent", "Time registered", "type", "Description"],
    ["filesetID", "time registered", "type"],
    ["fileID", "bytes", "md5sum", "type"],
)


class Unacceptable(Exception):
    """A line that the old tools would not take."""


def read_strictly(body: bytes, level: int) -> list[dict[str, str]]:
    """The rows of a list by column: the root's (level 0), a product's (1) or a fileset's (2).

    Raises Unacceptable for the first thing wrong, be it only the padding.
    """
    text = body.decode("utf-8")
    if not text.endswith("\n") or "\r" in text or "\t" in text:
        raise Unacceptable("the list is cut, or has other ends of lines than \\n")
    rows = []
    header = ""
    for line in text.split("\n")[:-1]:
        if not line.endswith("|"):
            raise Unacceptable(f"no | at the end of {line!r}")
        if line.startswith("#"):
            header = line
            continue
        cells = dict(zip(_names(header, level), _cells(line, header), strict=True))
        _check(cells, level)
        rows.append(cells)
    if not header:
        raise Unacceptable("no header")
    return rows


def headers_of(body: bytes) -> list[list[str]]:
    """The names of the columns in every header line, in order."""
    lines = body.decode("utf-8").splitlines()
    return [[name.strip() for name in line[1:-1].split("|")] for line in lines if line[0] == "#"]


def types_of(level: int) -> list[str]:
    """The types that a list of this level may name."""
    return TYPES.splitlines()[level].split()


def _names(header: str, level: int) -> list[str]:
    fixed = HEADERS[level]
    names = [name.strip() for name in header[1:-1].split("|")] if header else []
    if names[: len(fixed)] != fixed or (level == 0 and names != fixed):
        raise Unacceptable(f"a row below the header {header!r}")
    if len(names) > len(fixed) + 8 or len(set(names)) != len(names):
        raise Unacceptable(f"too many columns, or one of them twice: {names}")
    return names


def _cells(line: str, header: str) -> Iterator[str]:
    bars = [at for at, character in enumerate(line) if character == "|"]
    if bars != [at for at, character in enumerate(header) if character == "|"]:
        raise Unacceptable(f"{line!r} is not in the columns of {header!r}")
    for cell in line[:-1].split("|"):
        if "#" in cell or not cell.isprintable():
            raise Unacceptable(f"a field that readers do not take: {cell!r}")
        yield cell.rstrip(" ")


def _check(cells: dict[str, str], level: int) -> None:
    identifier = cells[HEADERS[level][0]]
    _expect(identifier, r"(?!-|\.\.?$)[A-Za-z0-9_+.: -]{1,255}", "id")
    if cells["type"] not in types_of(level):
        raise Unacceptable(f"{identifier}: an unknown type {cells['type']!r}")
    moment = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"
    match level:
        case 0:
            _expect(cells["Most recent"], r"(?!-)[A-Za-z0-9_+.: -]+", "id")
            _expect(cells["Time registered"], moment, "time")
        case 1:
            _expect(cells["time registered"], moment, "time")
        case _:
            _expect(cells["bytes"], r"[0-9]+", "number of bytes")
            _expect(cells["md5sum"], r"[0-9a-f]{32}|", "md5 sum")
            if identifier == "index.txt":
                raise Unacceptable("a file that is called as its list is")
    if any(cell == "" for name, cell in cells.items() if name != "md5sum"):
        raise Unacceptable(f"{identifier}: an empty field")


def _expect(text: str, pattern: str, what: str) -> None:
    if not re.fullmatch(pattern, text, re.ASCII):
        raise Unacceptable(f"no {what}: {text!r}")
