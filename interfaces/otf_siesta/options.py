"""Keys of the ``engine`` section, and the input file made from them."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from ase.data import atomic_numbers
from pydantic import Field, model_validator

from otf.engines.input_deck import Deck
from otf.engines.launch import LaunchOptions
from otf.engines.protocol import WarmStart
from otf.errors import EngineError
from otf_siesta.fdf import Fdf, read

FilePath = Annotated[Path, Field(strict=False)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
PositiveInt = Annotated[int, Field(gt=0)]

_XC = {"pbe": ("GGA", "PBE"), "pbesol": ("GGA", "PBEsol"), "lda": ("LDA", "CA")}
_GIVEN_BY_TEMPLATE = ("xc", "basis", "mesh_cutoff_ry", "kpoints", "electronic_temperature_K")
_GRIDS = ("kgrid_Monkhorst_Pack", "kgrid.MonkhorstPack")


class Options(LaunchOptions):
    """Keys of the ``engine`` section."""

    template: FilePath | None = Field(
        None,
        description="a SIESTA input file you already use: everything except the geometry and the "
        "output keywords is taken from it",
    )
    command: str = Field("siesta", description="the program; without ranks, the whole command")
    pseudo_path: FilePath | None = Field(
        None, description="folder with the pseudopotentials; default: that of the template"
    )
    xc: Literal["pbe", "pbesol", "lda"] = "pbe"
    basis: Literal["SZ", "DZ", "SZP", "DZP", "TZP"] = Field(
        "DZP", description="PAO.BasisSize; another basis goes into keywords"
    )
    mesh_cutoff_ry: PositiveFloat = 200.0
    kpoints: tuple[PositiveInt, PositiveInt, PositiveInt] = Field((1, 1, 1), strict=False)
    electronic_temperature_K: PositiveFloat = 300.0
    keywords: dict[str, str | int | float | list[str]] = Field(
        default_factory=dict,
        description="further SIESTA keywords, passed on unchanged; a list of lines is a block",
    )
    known_keywords: list[str] = Field(
        default_factory=list, description="keywords of your SIESTA that are not in otf's list"
    )
    connection: Literal["unix", "inet", "process"] = Field(
        "unix",
        description="how SIESTA is run: as a server over a unix or an inet socket, or as a new "
        "process for each label",
    )
    host: str = Field("localhost", description="name of this machine for an inet connection")
    vacuum_A: PositiveFloat = Field(5.0, description="vacuum around a molecule without a cell")
    warm_start: bool | WarmStart = Field(
        True,
        description="initial density guess: the density matrix of the last label (true or "
        "previous), one from the matrices learned so far (learned), for molecules also one fitted "
        "to the latest overlaps (extrapolate), or whichever was closest recently (auto); needs "
        "sisl except for true and previous",
    )
    mode: Literal["scf", "one_shot"] = Field(
        "scf",
        description="one_shot: SCF starts from the learned density matrix and stops after one "
        "diagonalisation if the estimated force error is then below one_shot_error_meV_A",
    )
    one_shot_error_meV_A: PositiveFloat = Field(
        10.0, description="largest error of a force component that mode one_shot accepts"
    )
    history_depth: Annotated[int, Field(ge=0)] = Field(
        0,
        description="number of density matrices the server extrapolates from (Gamma point only); "
        "0: the last one is used, so that a resumed run repeats its labels exactly",
    )
    timeout_s: PositiveFloat | None = Field(
        None,
        description="time limit of a label; default: ten times the median so far, at least 10 min",
    )

    @model_validator(mode="before")
    @classmethod
    def _pseudopotentials_beside_the_template(cls, given: Any) -> Any:
        if isinstance(given, dict) and "pseudo_path" not in given and "template" in given:
            return {**given, "pseudo_path": str(Path(str(given["template"])).parent)}
        return given

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.template is not None:
            both = [name for name in _GIVEN_BY_TEMPLATE if name in self.model_fields_set]
            if both:
                raise ValueError(
                    f"{both[0]} comes from the template; change it there, or use keywords"
                )
        elif self.pseudo_path is None:
            raise ValueError("pseudo_path is missing: give it, or a template")
        if self.mode == "one_shot" and self.warm_start not in ("auto", "learned"):
            raise ValueError("mode one_shot needs learned matrices: warm_start auto or learned")
        if self.history_depth and not isinstance(self.warm_start, bool):
            raise ValueError("history_depth extrapolates by itself; leave warm_start at true")
        if self.history_depth and self.connection == "process":
            raise ValueError("history_depth needs a server: connection unix or inet")
        return self

    @property
    def takes_cell(self) -> bool:
        """Whether a molecule without a cell takes that of the template."""
        return self.template is not None and "vacuum_A" not in self.model_fields_set


def make_deck(options: Options, elements: list[str], *, charge: int, spin: int) -> Deck:
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
        if isinstance(value, list):
            deck.put_block(name, value)
        else:
            deck.put(name, value)
    deck.refuse_unknown(options.known_keywords)
    if charge:
        deck.put("NetCharge", charge)
    if spin:
        deck.put("Spin", "polarized")
        deck.put("Spin.Fix", "T")
        deck.put("Spin.Total", spin)
    if options.history_depth > 1 and not gamma_only(deck):
        raise EngineError(
            "engine.history_depth: SIESTA 4.1 aborts when it extrapolates density matrices with "
            "k points; leave it at 0"
        )
    return deck


def gamma_only(deck: Deck) -> bool:
    """Whether only the Gamma point is sampled, which keeps the auxiliary supercell fixed."""
    if deck.value("kgrid_cutoff") is not None:
        return False
    for name in _GRIDS:
        lines = deck.block(name)
        if lines is not None:
            rows = [[float(x) for x in line.split()] for line in lines[:3]]
            return all(row[:3] == [float(i == j) for j in range(3)] for i, row in enumerate(rows))
    return True


def _short(options: Options, elements: list[str]) -> Deck:
    functional, authors = _XC[options.xc]
    deck = Fdf([], "engine section")
    deck.put("NumberOfSpecies", len(elements))
    deck.put_block(
        "ChemicalSpeciesLabel",
        [f" {i} {atomic_numbers[element]} {element}" for i, element in enumerate(elements, 1)],
    )
    deck.put("XC.Functional", functional)
    deck.put("XC.Authors", authors)
    deck.put("PAO.BasisSize", options.basis)
    deck.put("MeshCutoff", f"{options.mesh_cutoff_ry} Ry")
    deck.put("ElectronicTemperature", f"{options.electronic_temperature_K} K")
    if options.kpoints != (1, 1, 1):
        rows = [
            " ".join(str(k if i == j else 0) for j in range(3)) + " 0.0"
            for i, k in enumerate(options.kpoints)
        ]
        deck.put_block("kgrid_Monkhorst_Pack", rows)
    deck.put("DM.Tolerance", 1e-5)
    deck.put("MaxSCFIterations", 200)
    deck.put("SCF.Mixer.History", 6)  # SIESTA's default of two is slow
    return deck
