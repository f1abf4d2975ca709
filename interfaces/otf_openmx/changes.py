"""Changes of otf to an OpenMX input."""

from collections.abc import Collection

from otf.engines.failures import MORE_ITERATIONS, SAFE_MIXING
from otf.engines.input_deck import Deck

NAME = "otf"
"""``System.Name``, which the names of all files begin with."""

_COSTLY = {
    "Dos.fileout": "off",
    "MO.fileout": "off",
    "Band.dispersion": "off",
    "Voronoi.charge": "off",
    "Voronoi.orbital.moment": "off",
    "CntOrb.fileout": "off",
    "Wannier.Func.Calc": "off",
    "NBO.switch": "off",
    "CDDF.start": "off",
    "HS.fileout": "off",
    "Unfolding.Electronic.Band": "off",
}
"""Results that a label does not need."""

NOT_OF_THE_METHOD = (
    *_COSTLY,
    "System.*", "level.of.*", "DATA.PATH", "Species.Number", "Atoms.*", "MD.*",
    "scf.restart", "scf.restart.filename", "scf.stress.tensor", "Energy.Decomposition",
)  # fmt: skip
"""Structure, dynamics and output, which may differ between labels that are learned together."""

_DROPPED = ("MD.Fixed.XYZ", "MD.Init.Velocity", "MD.Init.Velocity.Prev", "scf.restart.filename")


def set_output(
    deck: Deck,
    *,
    stress: bool,
    atomic_energies: bool,
    matrices: bool,
    kept: Collection[str] = (),
) -> None:
    """Set the keywords that otf requires, whatever the template has.

    Parameters
    ----------
    stress, atomic_energies, matrices
        Whether they are to be computed and written.
    kept
        Keywords that are not switched off although a label does not need them.
    """
    deck.switch_off(_COSTLY, kept)
    deck.put("System.CurrrentDirectory", "./")
    deck.put("System.Name", NAME)
    deck.put("level.of.stdout", 1)
    deck.put("level.of.fileout", 0)
    deck.put("MD.Type", "nomd")
    deck.put("MD.maxIter", 1)
    deck.put("scf.stress.tensor", "on" if stress else "off")
    deck.put("Energy.Decomposition", "on" if atomic_energies else "off")
    if matrices:
        deck.put("HS.fileout", "on")
    # Without a fixed origin the grid moves with the atoms, and energies are discontinuous.
    deck.put("scf.fixed.grid", "0.0 0.0 0.0")
    for name in _DROPPED:
        deck.drop(name)


def apply_remedies(deck: Deck, remedies: Collection[str]) -> None:
    """Apply the remedies to the input."""
    iterations = int(deck.value("scf.maxIter") or 40)
    if SAFE_MIXING in remedies:
        deck.put("scf.Mixing.Type", "rmm-diis")
        deck.put("scf.Init.Mixing.Weight", 0.05)
        deck.put("scf.Max.Mixing.Weight", 0.15)
        deck.put("scf.Mixing.History", 30)
        deck.put("scf.Mixing.StartPulay", 20)
        iterations *= 2
    if MORE_ITERATIONS in remedies:
        iterations *= 4
    deck.put("scf.maxIter", iterations)
