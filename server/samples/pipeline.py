"""What a run of the pipeline is, for samples: its rows, its components and their files.

Names, directories and documents follow PROTOCOL section 3. What becomes of a run, a fileset or
files as the pipeline leaves them, is told elsewhere (`sample_filesets`, `finished`).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from server.runs.stages import STAGES
from server.samples.documents import Field, Paths, Tables, dump
from server.samples.store_writer import compress, format_time

SEED = 20090415
"""What everything random comes from, if nothing else is said."""

CLASSES = ("XY01", "XY02", "XY10")
"""The chips of a sample exposure that have files."""

POOR_CLASS = "XY33"
"""A chip of too poor a quality to have any: a row in dbinfo, and no bundle."""

FILTERS = ("g.00000", "r.00000", "i.00000", "z.00000", "y.00000")
NIGHT = "20090415"
DATA_GROUP = f"sample.{NIGHT}"
TESS = "RINGS.V3"

_OPENED = 1239764531
"""When the shutter opened for the first exposure: 2009-04-15T03:02:11Z."""

_APART = 55


@dataclass(frozen=True, slots=True)
class Exposure:
    """The exposure that a cycle of the sequence is about, and the numbers that follow from it."""

    cycle: int

    @property
    def name(self) -> str:
        """As the camera names it: its night (MJD without its first digit) and number."""
        night, number = divmod(self.cycle + 234, 10_000)
        return f"o{4936 + night}g{number:04d}o"

    @property
    def filter(self) -> str:
        """The filter of the exposure."""
        return FILTERS[self.cycle % len(FILTERS)]

    @property
    def opened(self) -> int:
        """When the shutter opened, in seconds since 1970."""
        return _OPENED + _APART * self.cycle

    @property
    def dateobs(self) -> str:
        """When the shutter opened, UTC."""
        return format_time(self.opened)

    def number(self, first: int) -> int:
        """An id that counts up with the exposures."""
        return first + self.cycle

    @property
    def exp_id(self) -> int:
        """The id of the raw exposure."""
        return self.number(68114)

    @property
    def chip_id(self) -> int:
        """The id of its chip run."""
        return self.number(14517)

    @property
    def cam_id(self) -> int:
        """The id of its camera run."""
        return self.number(9120)

    @property
    def fake_id(self) -> int:
        """The id of its fake run."""
        return self.number(8210)

    @property
    def warp_id(self) -> int:
        """The id of its warp run."""
        return self.number(7040)

    @property
    def stack_id(self) -> int:
        """The id of the stack that it went into."""
        return self.number(421)

    @property
    def diff_id(self) -> int:
        """The id of its diff run."""
        return self.number(3310)

    @property
    def directory(self) -> str:
        """Where the files of its runs are, below their destdir."""
        return f"{self.name}.{self.exp_id}"

    @property
    def skycells(self) -> tuple[str, str, str]:
        """The patches of sky that it covers."""
        first, second, third = (f"skycell.1566.{(self.cycle + at) % 1000:03d}" for at in range(3))
        return first, second, third


@dataclass(frozen=True, slots=True)
class Work:
    """Where a program worked and under which names its files go out."""

    volume: str
    destdir: str
    directory: str
    base: str

    @property
    def workdir(self) -> str:
        """The run's workdir."""
        return f"neb://{self.volume}/{self.destdir}"

    @property
    def path_base(self) -> str:
        """How the paths of the files begin."""
        return f"{self.workdir}/{self.directory}/{self.base}"

    def path(self, name: str) -> str:
        """The path of a file."""
        return f"{self.workdir}/{self.directory}/{name}"


@dataclass(frozen=True, slots=True)
class Output:
    """A file that a program wrote: its rule, its name, its bytes."""

    rule: str
    name: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Component:
    """A component of a run. `packed`: its config dump is gzipped despite its name."""

    name: str
    work: Work
    program: str
    inputs: Paths
    outputs: Sequence[Output]
    packed: bool = False


@dataclass(frozen=True, slots=True)
class Run:
    """A run of one stage; `exp_name` is None where it is not of one exposure."""

    exposure: Exposure
    stage: str
    stage_id: int
    exp_name: str | None
    tables: Tables
    components: tuple[Component, ...]


def members(run: Run, component: Component, further: Paths = ()) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of each file of a component, its config dump last (a raw run has none).

    `further`: rules and names of files that the dump names besides.
    """
    for output in component.outputs:
        yield output.name, output.data
    if run.stage == "raw":
        return
    work = component.work
    named = [(output.rule, output.name) for output in component.outputs]
    paths = [(rule, work.path(name)) for rule, name in (*named, *further)]
    text = dump(f"{component.program} for {run.stage} {run.stage_id}", component.inputs, paths)
    name = f"{work.base}.{component.name}" if STAGES[run.stage].named_dumps else work.base
    yield f"{name}.mdc", compress(text) if component.packed else text


def run_fields(work: Work, data_group: str = DATA_GROUP) -> list[Field]:
    """The columns that the rows of all runs have but for their ids."""
    return [
        ("state", "STR", "full"), ("workdir", "STR", work.workdir),
        ("label", "STR", "sample.nightly"), ("data_group", "STR", data_group),
        ("dist_group", "STR", "sample"),
    ]  # fmt: skip
