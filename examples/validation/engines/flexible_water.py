"""Flexible TIP3P water.

TIP3P charges and Lennard-Jones parameters: W. L. Jorgensen et al., J. Chem. Phys. 79, 926 (1983).
Harmonic bonds and angles of the AMBER force fields: W. D. Cornell et al., J. Am. Chem. Soc. 117,
5179 (1995). Electrostatics without a lattice sum, by the damped shifted force: C. J. Fennell and
J. D. Gezelter, J. Chem. Phys. 124, 234104 (2006).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, CalculatorSetupError, all_changes
from ase.stress import full_3x3_to_voigt_6_stress
from ase.units import Bohr, Hartree, kcal, mol
from numpy.typing import NDArray
from scipy.special import erfc

KCAL_MOL = kcal / mol
COULOMB = Hartree * Bohr  # eV Angstrom / e^2
BOND, BOND_LENGTH = 553.0 * KCAL_MOL, 0.9572  # energy k (r - r0)^2, k in eV/Angstrom^2
ANGLE, EQUILIBRIUM_ANGLE = 100.0 * KCAL_MOL, np.deg2rad(104.52)  # k in eV/rad^2
CHARGES = np.array([-0.834, 0.417, 0.417])  # of O, H, H, e
EPSILON, SIGMA = 0.1521 * KCAL_MOL, 3.15061  # between oxygen atoms

Array = NDArray[np.float64]
Indices = NDArray[np.intp]


@dataclass(frozen=True)
class _Term:
    """A part of the energy that depends on vectors from atoms ``i`` to atoms ``j``."""

    energy: float
    i: Indices
    j: Indices
    vectors: Array  # (pairs, 3), Angstrom
    gradient: Array  # of the energy by the vectors


class FlexibleWater(Calculator):  # type: ignore[misc]  # ase is not typed
    """Energy, forces and stress of water molecules in a periodic orthorhombic cell.

    The atoms are in the order O, H, H of each molecule. The pair interactions act between
    molecules only; they and their forces vanish at the cutoff.

    Parameters
    ----------
    cutoff_A
        Range of the pair interactions, at most half of the shortest cell length.
    damping_per_A
        Damping parameter of the Coulomb interaction.
    """

    implemented_properties: ClassVar[list[str]] = ["energy", "free_energy", "forces", "stress"]

    def __init__(self, cutoff_A: float = 4.9, damping_per_A: float = 0.3) -> None:
        super().__init__()
        self._cutoff = cutoff_A
        self._damping = damping_per_A
        self._i, self._j = _pairs_between_molecules(0)

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = tuple(all_changes),
    ) -> None:
        """Fill ``results``; called by ASE.

        Raises
        ------
        CalculatorSetupError
            If the atoms are not in the order O, H, H of each molecule, or the cell does not fit.
        """
        super().calculate(atoms, list(properties), list(system_changes))
        positions, cell, count = self.atoms.positions, self.atoms.cell, len(self.atoms)
        if count % 3 or not np.array_equal(self.atoms.numbers, [8, 1, 1] * (count // 3)):
            raise CalculatorSetupError("the atoms must be in the order O, H, H of each molecule")
        lengths = cell.lengths()
        if not (self.atoms.pbc.all() and cell.orthorhombic) or self._cutoff > lengths.min() / 2:
            raise CalculatorSetupError(
                "the cell must be periodic, orthorhombic and at least twice as long as the cutoff"
            )
        if "numbers" in system_changes:
            self._i, self._j = _pairs_between_molecules(count // 3)
        energy, forces, virial = 0.0, np.zeros((count, 3)), np.zeros((3, 3))
        for term in (self._within(positions, lengths), self._between(positions, lengths)):
            energy += term.energy
            virial += term.vectors.T @ term.gradient
            for axis in range(3):
                component = term.gradient[:, axis]
                forces[:, axis] += np.bincount(term.i, component, count)
                forces[:, axis] -= np.bincount(term.j, component, count)
        self.results = {
            "energy": energy,
            "free_energy": energy,
            "forces": forces,
            "stress": full_3x3_to_voigt_6_stress(virial / cell.volume),
        }

    @staticmethod
    def _within(positions: Array, lengths: Array) -> _Term:
        """Bonds and angles; the vectors are those of the first bonds, then of the second."""
        oxygen = np.arange(0, len(positions), 3)
        i = np.concatenate([oxygen, oxygen])
        j = np.concatenate([oxygen + 1, oxygen + 2])
        vectors = _nearest_image(positions[j] - positions[i], lengths)
        bond = np.linalg.norm(vectors, axis=1)
        unit = vectors / bond[:, None]
        first, second = np.split(unit, 2)
        cosine = np.einsum("ij,ij->i", first, second)
        angle = np.arccos(cosine)
        # Derivative by the cosine, then by the vectors
        slope = -2.0 * ANGLE * (angle - EQUILIBRIUM_ANGLE) / np.sin(angle)
        across = np.concatenate(
            [second - cosine[:, None] * first, first - cosine[:, None] * second]
        )
        gradient = (2.0 * BOND * (bond - BOND_LENGTH))[:, None] * unit
        gradient += (np.tile(slope, 2) / bond)[:, None] * across
        energy = BOND * np.sum((bond - BOND_LENGTH) ** 2)
        energy += ANGLE * np.sum((angle - EQUILIBRIUM_ANGLE) ** 2)
        return _Term(float(energy), i, j, vectors, gradient)

    def _between(self, positions: Array, lengths: Array) -> _Term:
        """Coulomb interactions, and Lennard-Jones interactions between oxygen atoms."""
        vectors = _nearest_image(positions[self._j] - positions[self._i], lengths)
        squared = np.einsum("ij,ij->i", vectors, vectors)
        near = np.flatnonzero(squared < self._cutoff**2)
        i, j, vectors = self._i[near], self._j[near], vectors[near]
        distance = np.sqrt(squared[near])
        charges = COULOMB * CHARGES[i % 3] * CHARGES[j % 3]
        energy, slope = self._shifted(_damped_coulomb, distance, self._damping)
        energy, slope = charges * energy, charges * slope
        both = np.flatnonzero((i % 3 == 0) & (j % 3 == 0))
        attraction, its_slope = self._shifted(_lennard_jones, distance[both], SIGMA)
        energy[both] += 4.0 * EPSILON * attraction
        slope[both] += 4.0 * EPSILON * its_slope
        return _Term(float(energy.sum()), i, j, vectors, (slope / distance)[:, None] * vectors)

    def _shifted(
        self, function: Callable[[Array, float], tuple[Array, Array]], r: Array, parameter: float
    ) -> tuple[Array, Array]:
        """Value and derivative of a function of distance, shifted to vanish at the cutoff."""
        value, slope = function(r, parameter)
        value_end, slope_end = function(np.array([self._cutoff]), parameter)
        return value - value_end - slope_end * (r - self._cutoff), slope - slope_end


def _damped_coulomb(r: Array, damping: float) -> tuple[Array, Array]:
    """``erfc(damping r) / r`` and its derivative."""
    value = erfc(damping * r) / r
    gaussian = 2.0 * damping / np.sqrt(np.pi) * np.exp(-((damping * r) ** 2))
    return value, -(value + gaussian) / r


def _lennard_jones(r: Array, sigma: float) -> tuple[Array, Array]:
    """``(sigma / r)^12 - (sigma / r)^6`` and its derivative."""
    sixth = (sigma / r) ** 6
    return sixth**2 - sixth, (6.0 * sixth - 12.0 * sixth**2) / r


def _nearest_image(vectors: Array, lengths: Array) -> Array:
    return np.asarray(vectors - lengths * np.round(vectors / lengths))


def _pairs_between_molecules(molecules: int) -> tuple[Indices, Indices]:
    i, j = np.triu_indices(3 * molecules, k=1)
    different = i // 3 != j // 3
    return i[different], j[different]
