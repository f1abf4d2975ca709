"""Keys of the ``engine`` section, and the input file made from them."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from otf.engines.input_deck import Deck
from otf.engines.launch import LaunchOptions
from otf.engines.protocol import WarmStart
from otf.errors import EngineError
from otf_openmx.deck import OpenmxDeck, read
from otf_openmx.geometry import species_elements, valence_electrons

FilePath = Annotated[Path, Field(strict=False)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
PositiveInt = Annotated[int, Field(gt=0)]

_XC = {"pbe": ("GGA-PBE", "PBE19"), "lda": ("LDA", "CA19")}
WARM_MIXING = {
    "scf.Mixing.Type": "rmm-diish",
    "scf.Init.Mixing.Weight": 0.5,
    "scf.Max.Mixing.Weight": 0.9,
    "scf.Mixing.StartPulay": 2,
}
"""Near convergence, mixing the Hamiltonian is better and larger steps are safe: 8 instead of 11
cycles for CH4 and H2O displaced by 0.02 A, 8 instead of 9 for Si2."""

_GIVEN_BY_TEMPLATE = (
    "xc", "basis", "energy_cutoff_ry", "kpoints", "electronic_temperature_K",
)  # fmt: skip


class Options(LaunchOptions):
    """Keys of the ``engine`` section."""

    template: FilePath | None = Field(
        None,
        description="an OpenMX input file you already use: everything except the geometry and the "
        "output keywords is taken from it",
    )
    command: str = Field("openmx", description="the program; without ranks, the whole command")
    data_path: FilePath | None = Field(
        None, description="folder with PAO and VPS (DFT_DATA19); default: DATA.PATH of the template"
    )
    xc: Literal["pbe", "lda"] = "pbe"
    basis: dict[str, str] = Field(
        default_factory=dict, description="basis of each element, such as {C: C6.0-s2p2d1}"
    )
    energy_cutoff_ry: PositiveFloat = 200.0
    kpoints: tuple[PositiveInt, PositiveInt, PositiveInt] = Field((1, 1, 1), strict=False)
    electronic_temperature_K: PositiveFloat = 300.0
    keywords: dict[str, str | int | float] = Field(
        default_factory=dict, description="further OpenMX keywords, passed on unchanged"
    )
    known_keywords: list[str] = Field(
        default_factory=list, description="keywords of your OpenMX that are not in otf's list"
    )
    stress: bool = Field(False, description="compute the stress (periodic structures)")
    atomic_energies: bool = Field(False, description="decompose the energy into atomic energies")
    vacuum_A: PositiveFloat = Field(5.0, description="vacuum around a molecule without a cell")
    warm_start: bool | WarmStart = Field(
        True,
        description="initial density of each label: that of the last label (true or previous), of "
        "the learned density matrix (learned), of one fitted to the latest overlaps "
        "(extrapolate), or of whichever was closest recently (auto)",
    )
    keep_matrices: bool = Field(
        False,
        description="keep the Hamiltonian and density matrix of every label, for `otf analyse` "
        "gap, dos, bands and charges; implied by warm_start auto, learned and extrapolate",
    )
    timeout_s: PositiveFloat | None = Field(
        None,
        description="time limit of a label; default: ten times the median so far, at least 10 min",
    )

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if self.template is not None:
            both = [name for name in _GIVEN_BY_TEMPLATE if name in self.model_fields_set]
            if both:
                raise ValueError(
                    f"{both[0]} comes from the template; change it there, or use keywords"
                )
        elif self.data_path is None or not self.basis:
            missing = "data_path" if self.data_path is None else "basis"
            raise ValueError(f"{missing} is missing: give it, or a template")
        return self

    @property
    def takes_cell(self) -> bool:
        """Whether a molecule without a cell takes that of the template."""
        return self.template is not None and "vacuum_A" not in self.model_fields_set


def make_deck(options: Options, elements: list[str], *, charge: int, spin: int) -> OpenmxDeck:
    """The input file without a structure.

    Parameters
    ----------
    elements
        Elements of the structure.

    Raises
    ------
    EngineError
        If the template or the options are not usable; unknown keywords are named.
    """
    deck = _short(options, elements) if options.template is None else read(options.template)
    for name, value in options.keywords.items():
        deck.put(name, value)
    deck.refuse_unknown(options.known_keywords)
    if options.data_path is not None:
        deck.put("DATA.PATH", options.data_path)
    folder = deck.value("DATA.PATH")
    if folder is None or not Path(folder).is_absolute():
        raise EngineError(
            f"{deck.source}: DATA.PATH is {folder or 'missing'}; each label runs in its own "
            "directory: give an absolute path there or in engine.data_path"
        )
    if charge:
        deck.put("scf.system.charge", charge)
    if spin and (deck.value("scf.SpinPolarization") or "off").lower() == "off":
        deck.put("scf.SpinPolarization", "on")
    return deck


def _short(options: Options, elements: list[str]) -> OpenmxDeck:
    functional, suffix = _XC[options.xc]
    missing = [e for e in elements if e not in options.basis]
    if missing:
        raise EngineError(
            f"engine.basis: no basis for {', '.join(missing)}; give one such as "
            f"{missing[0]}: {missing[0]}7.0-s2p2d1 (the files are in data_path/PAO)"
        )
    deck = OpenmxDeck([], "engine section")
    deck.put("Species.Number", len(elements))
    deck.put_block(
        "Definition.of.Atomic.Species",
        [f" {e}  {options.basis[e]}  {e}_{suffix}" for e in elements],
    )
    deck.put("scf.XcType", functional)
    deck.put("scf.energycutoff", options.energy_cutoff_ry)
    deck.put("scf.Kgrid", " ".join(str(k) for k in options.kpoints))
    deck.put("scf.ElectronicTemperature", options.electronic_temperature_K)
    deck.put("scf.EigenvalueSolver", "cluster" if options.kpoints == (1, 1, 1) else "band")
    deck.put("scf.maxIter", 100)
    deck.put("scf.criterion", 1e-7)
    deck.put("scf.Mixing.Type", "rmm-diis")
    deck.put("scf.Init.Mixing.Weight", 0.3)
    deck.put("scf.Min.Mixing.Weight", 0.001)
    deck.put("scf.Max.Mixing.Weight", 0.5)
    deck.put("scf.Mixing.History", 20)
    deck.put("scf.Mixing.StartPulay", 5)
    return deck


def valence_of_species(deck: Deck) -> dict[str, float]:
    """Valence electrons of each species, from its pseudopotential file."""
    folder = Path(str(deck.value("DATA.PATH"))) / "VPS"
    lines = deck.block("Definition.of.Atomic.Species") or ()
    elements = species_elements(deck)
    files = {name: file for name, _, file, *_ in map(str.split, lines) if name in elements}
    return {name: valence_electrons(folder / f"{file}.vps") for name, file in files.items()}
