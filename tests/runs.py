"""Small distribution filesets for the simulator, with the documents that PROTOCOL section 3 shows.

The sample store has them with real content; these are for tests that care how many and how large.
"""

from collections.abc import Sequence
from random import Random

from server.samples.store_writer import make_bundle

GROUP = "gpc1/scitest.200807"


def chip_run(
    number: int, classes: Sequence[str] = ("XY01", "XY02"), *, size: int = 2000
) -> tuple[str, dict[str, bytes]]:
    """Name and files of chip run `number`: dbinfo, dirinfo, a bundle for each of `classes`.

    A bundle has an image of `size` bytes that do not compress, and its config dump.
    """
    exposure = f"o4642g{number:04d}o"
    place = f"{exposure}.{19000 + number}"
    base = f"{place}.ch.{number}"
    path_base = f"neb://ipp009.0/{GROUP}/{place}/{base}"
    rows = "".join(
        f"chipProcessedImfile METADATA\n"
        f"   class_id         STR     {class_id}\n"
        f"   uri              STR     {path_base}.{class_id}.ch.fits\n"
        f"   path_base        STR     {path_base}\n"
        f"END\n\n"
        for class_id in classes
    )
    dbinfo = (
        "dbversion MULTI\n\ndbversion METADATA\n   schema_version   STR     1.1.53\nEND\n\n"
        "chipRun MULTI\n\nchipRun METADATA\n"
        f"   chip_id          S64     {number}\n"
        f"   workdir          STR     neb://ipp009.0/{GROUP}\n"
        "   tess_id          STR     neb://ipp004.0/tess/RINGS.V3\n"
        f"END\n\nchipProcessedImfile MULTI\n\n{rows}"
    )
    places = "".join(f"\t{class_id}\tSTR\t{place}\n" for class_id in classes)
    dirinfo = (
        f"destdir METADATA\n\tdestdir\tSTR\t{GROUP}\nEND\n\ncomponents METADATA\n{places}END\n"
    )
    files = {
        f"dbinfo.chip.{number}.mdc": dbinfo.encode(),
        f"dirinfo.chip.{number}.mdc": dirinfo.encode(),
    }
    for class_id in classes:
        image = noise(f"{base}.{class_id}", size)
        dump = (
            f"CAMERA STR gpc1\nFILES.INPUT METADATA\n   PPIMAGE.INPUT   STR   /data/ipp005.0/r.fits"
            f"\nEND\nFILES.OUTPUT METADATA\n   PPIMAGE.CHIP   STR   {path_base}.{class_id}.ch.fits"
            "\nEND\n"
        )
        members = {f"{base}.{class_id}.ch.fits": image, f"{base}.{class_id}.mdc": dump.encode()}
        files[f"{base}.{class_id}.tgz"] = make_bundle(members)
    return f"{exposure}.chip.{number}.2.1", files


def noise(seed: object, size: int) -> bytes:
    """`size` bytes that do not compress, the same for the same seed."""
    return Random(str(seed)).randbytes(size)
