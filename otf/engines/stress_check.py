r"""Whether an engine's stress is the derivative of its energy, by a label of a strained structure.

.. math::

   E_1 - E_0 = V\, \tfrac12 (\sigma_0 + \sigma_1) : \varepsilon + O(\varepsilon^3)

The shear strains differ in sign and size, so that a wrong order of the components shows as well as
a wrong sign or unit.
"""

import numpy as np
from ase import Atoms

from otf.arrays import Floats
from otf.engines.labels import Labels
from otf.units import GPA, MEV

_SYMMETRIC: Floats = 0.01 * np.array([[0.3, -0.6, -0.3], [-0.6, -0.2, 1.0], [-0.3, 1.0, 0.1]])
_SHARE = 0.3  # of the energies, by which they may differ: plane waves are those of one cell
_LEAST = 2.0 * MEV  # noise of converged energies
_PERMUTED = (0, 1, 2, 5, 4, 3)  # of the last three components of Voigt's order
_PAIRS = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))  # Voigt's order


def strained(atoms: Atoms) -> Atoms:
    """The structure with cell and atoms strained by up to one per cent."""
    out = atoms.copy()
    out.set_constraint()
    out.set_cell(atoms.cell.array @ (np.eye(3) + _SYMMETRIC), scale_atoms=True)
    return out


def stress_problem(first: Labels, second: Labels, *, volume: float, noise: float) -> str | None:
    """What is wrong with the stress, by labels of a structure and of the strained one; or None.

    Parameters
    ----------
    volume
        Of the first structure, Angstrom^3.
    noise
        Noise of the energy, eV.
    """
    if first.stress is None or second.stress is None:
        return None
    mean = 0.5 * (first.stress + second.stress)
    work = volume * float(np.vdot(mean, _SYMMETRIC))
    change = second.energy - first.energy
    allowed = _SHARE * max(abs(work), abs(change)) + _LEAST + 4.0 * noise
    if abs(change - work) <= allowed:
        return None
    voigt = mean[tuple(zip(*_PAIRS, strict=True))]
    other = np.zeros((3, 3))
    for pair, value in zip(_PAIRS, voigt[list(_PERMUTED)], strict=True):
        other[pair] = other[pair[::-1]] = value
    reason = ""
    for known, text in (
        (-work, "it has the wrong sign"),
        (volume * float(np.vdot(other, _SYMMETRIC)), "its shear components are in another order"),
        (work * GPA, "it is in GPa instead of eV/Angstrom^3"),
        (work / GPA, "it was converted from GPa twice"),
    ):
        if not reason and abs(change - known) < 0.5 * allowed:
            reason = f" ({text})"
    return (
        f"by a strain of the cell the energy changes by {change / MEV:.1f} meV, where the stress "
        f"does work of {work / MEV:.1f} meV: the stress is not the derivative of the energy{reason}"
    )
