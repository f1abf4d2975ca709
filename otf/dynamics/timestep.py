"""Timesteps that resolve the vibrations of atoms."""

from ase import Atoms

_LIGHT_AMU, _MEDIUM_AMU = 3.0, 20.0


def usual_timestep_fs(atoms: Atoms) -> float:
    """Timestep for the vibrations of the lightest atoms: some 20 steps a period.

    >>> [usual_timestep_fs(Atoms(formula)) for formula in ("OH", "CO", "Si")]
    [0.5, 1.0, 2.0]
    """
    lightest = float(atoms.get_masses().min())
    return 0.5 if lightest < _LIGHT_AMU else 1.0 if lightest < _MEDIUM_AMU else 2.0
