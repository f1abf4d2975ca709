"""Noise of an engine's labels: their change when all atoms are translated.

Energies and forces do not depend on where the atoms are in space. Those of a program with a grid
in real space do, by the error of the grid (the egg-box effect). The model has this symmetry, so its
error cannot be smaller.
"""

from dataclasses import dataclass

import numpy as np
from ase import Atoms

from otf.engines.labels import Labels

_SHIFT_A = (0.83, -1.27, 1.71)  # by many spacings of a grid: atoms of a crystal share their phases


@dataclass(frozen=True)
class LabelNoise:
    """Noise of one label; two labels of translated structures differ by 2**0.5 times as much.

    Attributes
    ----------
    force_mae, force_rms
        Mean absolute and root mean square noise of a force component, eV/Angstrom.
    energy
        Of the energy of the structure, eV.
    """

    force_mae: float
    force_rms: float
    energy: float


def translated(atoms: Atoms) -> Atoms:
    """The structure with all atoms translated by the same vector."""
    out = atoms.copy()
    out.set_constraint()
    out.positions += _SHIFT_A
    return out


def noise_between(first: Labels, second: Labels) -> LabelNoise:
    """Noise by the labels of a structure and of the translated one.

    >>> one = Labels(-1.0, np.zeros((2, 3)))
    >>> noise_between(one, Labels(-1.0, np.full((2, 3), 2.0**0.5)))
    LabelNoise(force_mae=1.0, force_rms=1.0, energy=0.0)
    """
    change = (second.forces - first.forces) / np.sqrt(2.0)
    return LabelNoise(
        float(np.abs(change).mean()),
        float(np.sqrt(np.mean(change**2))),
        float(abs(second.energy - first.energy) / np.sqrt(2.0)),
    )
