"""Changes of otf to a SIESTA input, and the settings that density matrices depend on."""

import json
from collections.abc import Collection

from otf.engines.failures import MORE_ITERATIONS, SAFE_MIXING
from otf.engines.input_deck import Deck

NAME = "otf"
"""``SystemLabel``, which the names of all files begin with."""
CHANGE_INPUT = (SAFE_MIXING, MORE_ITERATIONS)
"""Remedies that change the input."""
ONE_CYCLE = {"MaxSCFIterations": 1, "SCF.MustConverge": "F"}
"""Keywords for a single diagonalisation."""
HAMILTONIAN_OF_DENSITY = {
    **ONE_CYCLE,
    "SCF.Mix": "density",
    "SCF.DM.Converge": "T",
    "SCF.DM.Tolerance": 1e6,
    "SCF.H.Converge": "F",
    "SCF.EDM.Converge": "F",
    "SCF.FreeE.Converge": "F",
    "SCF.Harris.Converge": "F",
    "MinSCFIterations": 0,
}
"""Keywords for the Hamiltonian of the initial density matrix. SIESTA writes a Hamiltonian only if
the cycle counts as converged, and with mixing of density matrices it is that of the initial one."""

_DROPPED = (
    "GeometryConstraints", "MaxWalltime", "MD.MaxWalltime", "UseSaveData", "UseStructFile",
    "MD.UseStructFile", "MD.Steps", "MD.NumCGSteps",
)  # fmt: skip
_COSTLY = {
    "BandLines": None,
    "BandPoints": None,
    "BornCharge": "F",
    "ComputeDOS": "F",
    "LocalDensityOfStates": None,
    "OpticalCalculation": "F",
    "PolarizationGrids": None,
    "ProjectedDensityOfStates": None,
    "SaveBaderCharge": "F",
    "SaveDeltaRho": "F",
    "SaveElectrostaticPotential": "F",
    "SaveInitialChargeDensity": "F",
    "SaveIonicCharge": "F",
    "SaveNeutralAtomPotential": "F",
    "SaveRho": "F",
    "SaveRhoXC": "F",
    "SaveTotalCharge": "F",
    "SaveTotalPotential": "F",
    "WaveFuncKPoints": None,
    "WriteDenchar": "F",
    "WriteHirshfeldPop": "F",
    "WriteMullikenPop": "0",
    "WriteVoronoiPop": "F",
    "WriteWaveFunctions": "F",
}
"""Results that a label does not need."""
_DEFAULT_ITERATIONS = 1000

NOT_OF_THE_METHOD = (
    *_COSTLY,
    "SystemName", "SystemLabel", "NumberOfAtoms", "NumberOfSpecies", "LatticeConstant",
    "LatticeVectors", "LatticeParameters", "AtomicCoordinatesFormat", "AtomicCoordinatesOrigin",
    "AtomicCoordinatesAndAtomicSpecies", "SuperCell", "Zmatrix", "ZM.*", "GeometryConstraints",
    "AtomicMass", "MD.*", "UseSaveData", "UseStructFile", "DM.UseSaveDM", "Write*",
)  # fmt: skip
"""Structure, dynamics and output, which may differ between labels that are learned together."""


def set_output(
    deck: Deck, *, history_depth: int, hamiltonian: bool, kept: Collection[str] = ()
) -> None:
    """Set the keywords that otf requires, whatever the template has.

    Parameters
    ----------
    history_depth
        Number of density matrices that a server extrapolates from.
    hamiltonian
        Whether the Hamiltonian is to be written.
    kept
        Keywords that are not switched off although a label does not need them.
    """
    deck.switch_off(_COSTLY, kept)
    for name in _DROPPED:
        deck.drop(name)
    for name, value in {
        "SystemLabel": NAME,
        "SCF.MustConverge": "T",
        "DM.UseSaveDM": "T",
        "WriteDM": "T",
        "DM.History.Depth": history_depth,
        "MD.UseSaveXV": "F",
        "MD.UseSaveZM": "F",
    }.items():
        deck.put(name, value)
    if hamiltonian:
        deck.put("TS.HS.Save", "T")


def apply_remedies(deck: Deck, remedies: Collection[str]) -> None:
    """Apply the remedies to the input."""
    if not any(remedy in CHANGE_INPUT for remedy in remedies):
        return
    iterations = int(deck.value("MaxSCFIterations") or _DEFAULT_ITERATIONS)
    if SAFE_MIXING in remedies:
        deck.drop("SCF.Mixers")
        deck.put("SCF.Mixer.Method", "Pulay")
        deck.put("SCF.Mixer.Weight", 0.05)
        deck.put("SCF.Mixer.History", 8)
        iterations *= 2
    if MORE_ITERATIONS in remedies:
        iterations *= 4
    deck.put("MaxSCFIterations", iterations)


def fingerprint(deck: Deck, species: list[str]) -> str:
    """Settings that a density matrix depends on, besides the positions.

    Parameters
    ----------
    species
        Species label of each atom.
    """
    names = ("PAO.BasisSize", "PAO.EnergyShift", "Spin", "SpinPolarized", "NetCharge")
    blocks = ("ChemicalSpeciesLabel", "PAO.Basis", "PAO.BasisSizes", "kgrid_Monkhorst_Pack")
    return json.dumps(
        {
            "atoms": species,
            **{name: deck.value(name) for name in names},
            **{name: deck.block(name) for name in blocks},
        }
    )
