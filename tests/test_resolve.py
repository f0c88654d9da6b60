"""Where files are: paths of runs as paths of this host, and paths that are refused."""

from pathlib import Path

import pytest

from mirror.errors import ConfigError
from server.runs.resolve import file_resolve, host_name
from server.site import Roots

ROOTS = Roots(Path("/neb"), {"GPC1": Path("/detrends/gpc1"), "SKY": Path("/sky")})

FOUND = {
    "neb": ("neb://ipp009.0/gpc1/o1.ch.fits", "/neb/gpc1/o1.ch.fits"),
    "neb, any volume": ("neb://any/where/", "/neb/where"),
    "neb, no volume": ("neb:///gpc1/o1.fits", "/neb/gpc1/o1.fits"),
    "neb, the volume alone": ("neb://ipp009.0", "/neb"),
    "path": ("path://GPC1/mask/a.fits", "/detrends/gpc1/mask/a.fits"),
    "path, another": ("path://SKY/a", "/sky/a"),
    "path, the name alone": ("path://GPC1", "/detrends/gpc1"),
    "file": ("file:///data/a.fits", "/data/a.fits"),
    "file with two slashes": ("file://data/ipp005.0/a.fits", "/data/ipp005.0/a.fits"),
    "plain": ("/data/ipp005.0/a.fits", "/data/ipp005.0/a.fits"),
    "dots in names": ("neb://any/a..b/...", "/neb/a..b/..."),
    "blanks in names": ("/data/a b", "/data/a b"),
    "a second scheme is a directory": ("neb://any/neb://a", "/neb/neb:/a"),
    "slashes twice stay below": ("neb://any//etc/passwd", "/neb/etc/passwd"),
}


@pytest.mark.parametrize(("path", "expected"), FOUND.values(), ids=FOUND)
def test_found(path: str, expected: str) -> None:
    assert file_resolve(path, ROOTS) == Path(expected)


@pytest.mark.parametrize("path", ["/data/@HOST@.0/a", "file://data/@HOST@.0/a"])
def test_this_host(path: str) -> None:
    assert file_resolve(path, ROOTS) == Path(f"/data/{host_name()}.0/a")


def test_a_host_has_no_domain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "ipp009.ifa.hawaii.edu")
    assert host_name() == "ipp009"


NO_ROOTS = Roots()
REFUSED = {
    "NEB_ROOT not set": ("neb://any/a", NO_ROOTS, "path neb://any/a: NEB_ROOT is not set"),
    "DATAPATH empty": ("path://GPC1/a", NO_ROOTS, "DATAPATH has no 'GPC1'; it has nothing"),
    "not in DATAPATH": ("path://GPC2/a", ROOTS, "DATAPATH has no 'GPC2'; it has GPC1, SKY"),
    "no name": ("path:///a", ROOTS, "DATAPATH has no ''"),
    "by another case": ("path://gpc1/a", ROOTS, "DATAPATH has no 'gpc1'"),
    "another scheme": ("http://host/a", ROOTS, "neb://, path:// or file:// expected, not http://"),
    "scheme in capitals": ("NEB://any/a", ROOTS, "an absolute path expected"),
    "relative": ("gpc1/a.fits", ROOTS, "path 'gpc1/a.fits': neb://VOLUME/"),
    "empty": ("", ROOTS, "path '': neb://VOLUME/"),
    "NULL": ("NULL", ROOTS, "path 'NULL'"),
    "the home directory": ("~/a", ROOTS, "path '~/a'"),
    "climbing": ("neb://any/../../etc/passwd", ROOTS, "'..' is not allowed"),
    "climbing at the end": ("neb://any/a/..", ROOTS, "'..' is not allowed"),
    "climbing in the volume": ("neb://../a", ROOTS, "'..' is not allowed"),
    "climbing, plain": ("/data/../etc/passwd", ROOTS, "'..' is not allowed"),
    "climbing, file": ("file:///../etc", ROOTS, "'..' is not allowed"),
    "NUL": ("neb://any/a\0b", ROOTS, "control characters"),
    "a line end": ("/data/a\n", ROOTS, "control characters"),
    "DEL": ("/data/\x7f", ROOTS, "control characters"),
}  # fmt: skip


@pytest.mark.parametrize(("path", "roots", "told"), REFUSED.values(), ids=REFUSED)
def test_refused(path: str, roots: Roots, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        file_resolve(path, roots)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "\0" not in str(caught.value)
