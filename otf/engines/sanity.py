"""Plausibility checks of structures and of the results of engines."""

import numpy as np
from ase import Atoms

from otf.arrays import Floats
from otf.engines.labels import LabelFailure

CLOSEST_A = 0.3
"""Smallest plausible distance of two nuclei, Angstrom."""
LARGEST_FORCE = 1000.0
"""Largest plausible force component, eV/Angstrom."""


def too_close(atoms: Atoms, program: str) -> LabelFailure | None:
    """Why a structure must not be given to a DFT program, or None.

    >>> too_close(Atoms("H2", positions=[(0, 0, 0), (0, 0, 0.1)]), "OpenMX").reason
    'two atoms are 0.10 Angstrom apart; OpenMX would return nonsense'
    >>> too_close(Atoms("H2", positions=[(0, 0, 0), (0, 0, 0.7)]), "OpenMX")
    """
    if len(atoms) < 2:
        return None
    distances = atoms.get_all_distances(mic=bool(atoms.pbc.any()))
    near = float(distances[np.triu_indices(len(atoms), 1)].min())
    if near >= CLOSEST_A:
        return None
    return LabelFailure(
        f"two atoms are {near:.2f} Angstrom apart; {program} would return nonsense",
        "look at the trajectory before this step",
    )


def impossible(energy: float, forces: Floats, n_atoms: int) -> str | None:
    """Why energy and forces cannot be those of ``n_atoms`` atoms in their ground state, or None.

    Parameters
    ----------
    energy
        eV.
    forces
        (N, 3) eV/Angstrom.
    """
    if forces.shape != (n_atoms, 3):
        return f"forces on {len(forces)} atoms instead of {n_atoms}"
    if not np.isfinite(energy) or not np.isfinite(forces).all():
        return "energy or forces are not finite"
    if energy > 0.0:
        return f"the energy is {energy:.3g} eV; it is negative for bound electrons"
    largest = float(np.abs(forces).max())
    if largest > LARGEST_FORCE:
        return f"a force of {largest:.3g} eV/Angstrom is not possible"
    return None


def misplaced(atoms: Atoms, echoed: Floats, tolerance_A: float) -> str | None:
    """Why an output with these positions (N, 3) belongs to another structure, or None."""
    if echoed.shape != atoms.positions.shape:
        return f"positions of {len(echoed)} atoms were echoed back instead of {len(atoms)}"
    moved = echoed - atoms.positions
    fractional = np.linalg.solve(atoms.cell.array.T, moved.T).T
    off = np.abs((fractional - np.round(fractional)) @ atoms.cell.array).max()
    if off > tolerance_A:
        return f"the positions echoed back are off by {off:.1e} Angstrom: another run's output"
    return None


LARGEST_STEP_A = 0.5
"""Largest plausible displacement component in one timestep, Angstrom."""


def blown_up(before: Floats, after: Floats, forces: Floats) -> bool:
    """Whether the dynamics diverged in a timestep between two sets of positions (N, 3).

    >>> blown_up(np.zeros((2, 3)), np.full((2, 3), 0.01), np.zeros((2, 3)))
    False
    >>> blown_up(np.zeros((2, 3)), np.full((2, 3), np.nan), np.zeros((2, 3)))
    True
    """
    moved = np.abs(after - before).max()
    return not moved < LARGEST_STEP_A or not bool(np.isfinite(forces).all())
