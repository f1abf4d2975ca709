"""Initial velocities, and removal of centre-of-mass motion and rotation."""

import numpy as np
from ase import Atoms
from ase.md.velocitydistribution import Stationary

from otf.arrays import Floats
from otf.units import KELVIN


def draw_velocities(
    atoms: Atoms,
    temperature_K: float,
    rng: np.random.Generator,
    *,
    remove_translation: bool,
    remove_rotation: bool,
) -> None:
    """Set Maxwell-Boltzmann momenta, rescaled to the exact kinetic temperature.

    Parameters
    ----------
    temperature_K
        Kinetic temperature of the remaining degrees of freedom; without rescaling that of a small
        molecule could be off by a factor of three.
    remove_translation, remove_rotation
        What to remove; see :func:`remove_motion`.
    """
    atoms.set_momenta(thermal_momenta(atoms, temperature_K, rng, translation=False))
    conserved = remove_motion(atoms, translation=remove_translation, rotation=remove_rotation)
    degrees = atoms.get_number_of_degrees_of_freedom() - conserved
    kinetic = float(atoms.get_kinetic_energy())
    if kinetic > 0.0:
        wanted = 0.5 * degrees * KELVIN * temperature_K
        atoms.set_momenta(atoms.get_momenta() * np.sqrt(wanted / kinetic))


def thermal_momenta(
    atoms: Atoms, temperature_K: float, rng: np.random.Generator, *, translation: bool
) -> Floats:
    """Momenta (N, 3) from the Maxwell-Boltzmann distribution, without rescaling.

    Parameters
    ----------
    translation
        Whether to remove the centre-of-mass motion.
    """
    drawn = atoms.copy()
    width = np.sqrt(KELVIN * temperature_K * atoms.get_masses())
    drawn.set_momenta(width[:, None] * rng.standard_normal((len(atoms), 3)))
    remove_motion(drawn, translation=translation, rotation=False)
    momenta: Floats = drawn.get_momenta()
    return momenta


def remove_motion(atoms: Atoms, *, translation: bool, rotation: bool) -> int:
    """Remove centre-of-mass motion and rotation from the momenta.

    Returns
    -------
    int
        Number of degrees of freedom removed.
    """
    conserved = 0
    if translation:
        Stationary(atoms, preserve_temperature=False)
        conserved += 3
    if rotation:
        conserved += _stop_rotation(atoms)
    return conserved


def _stop_rotation(atoms: Atoms) -> int:
    """Remove rigid rotation: 3 degrees of freedom, 2 for a linear molecule.

    ase.md's ZeroRotation divides by zero for linear molecules.
    """
    arm = atoms.positions - atoms.get_center_of_mass()
    masses = atoms.get_masses()[:, None]
    inertia = np.sum(masses * arm**2) * np.eye(3) - arm.T @ (masses * arm)
    angular_momentum = np.cross(arm, atoms.get_momenta()).sum(axis=0)
    omega = np.linalg.pinv(inertia, rcond=1e-6, hermitian=True) @ angular_momentum
    atoms.set_momenta(atoms.get_momenta() - masses * np.cross(omega, arm))
    return int(np.linalg.matrix_rank(inertia, tol=1e-6 * np.trace(inertia), hermitian=True))
