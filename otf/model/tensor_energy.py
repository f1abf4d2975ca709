r"""Compact tensor regression: the energy of a structure, linear in its coefficients.

.. math:: E = \sum_i c_g + a_g \cdot v_i + z_i^T B_g z_i

=========================================================  ==============================
formula                                                    code
=========================================================  ==============================
columns [1, v, z_p z_q] of each group g                    :mod:`otf.kernels.rows`
rows of E, F, strain derivative                            :meth:`TensorEnergy.design`
theta -> (c, a, B) acting on raw features                  :meth:`TensorEnergy.tensors`
E, F, stress                                               :meth:`TensorEnergy.evaluate`
=========================================================  ==============================

Source: "A Compact Tensor Regression Model for Accelerating First-Principle Molecular Dynamics
Simulation", OpenMX developers' meeting, ISSP (2023).
"""

from dataclasses import dataclass

import numpy as np
from ase import Atoms

from otf.arrays import Floats, Ints
from otf.kernels.energy import Tensors, energy_forces
from otf.kernels.rows import Standard, block_width, design_rows
from otf.model.descriptor import Descriptor
from otf.model.sharing import Sharing


@dataclass(frozen=True, eq=False)
class Prediction:
    """What the model says of one structure.

    Attributes
    ----------
    energy, atomic_energies
        eV, and (N,) eV.
    forces
        (N, 3), eV/Angstrom.
    stress
        (3, 3), eV/Angstrom^3; None for structures not periodic in three directions.
    """

    energy: float
    atomic_energies: Floats
    forces: Floats
    stress: Floats | None


@dataclass(frozen=True, eq=False)
class Columns:
    """What each column of the design matrix is.

    Attributes
    ----------
    rank
        (columns,) 0 for the constants, 1 for the linear part, 2 for the quadratic part.
    """

    rank: Ints

    def active(self, rank: int) -> Ints:
        """Indices of the columns of a model of this rank."""
        return np.flatnonzero(self.rank <= rank).astype(np.int64)


class TensorEnergy:
    """Rows and predictions for structures of the descriptor's species.

    Parameters
    ----------
    descriptor
        The features.
    sharing
        Which tensors each atom uses.
    standard
        How features are scaled, by group.
    """

    def __init__(self, descriptor: Descriptor, sharing: Sharing, standard: Standard) -> None:
        self.descriptor = descriptor
        self.sharing = sharing
        self.standard = standard
        components, features = standard.components.shape[1:]
        block = np.full(block_width(standard), 2, dtype=np.int64)
        block[0] = 0
        block[1 : 1 + features] = 1
        self.columns = Columns(np.tile(block, standard.mean.shape[0]))
        self._pairs = np.triu_indices(components)

    def design(self, atoms: Atoms) -> Floats:
        """Rows (1 + 3N + 9, columns): energy, forces, strain derivatives."""
        cell, neighbours = self.descriptor.neighbours(atoms)
        return design_rows(
            atoms.positions,
            cell,
            self.descriptor.channels(atoms),
            self.sharing.groups(atoms),
            neighbours,
            self.descriptor.basis,
            self.standard,
        )

    def atomic_rows(self, atoms: Atoms) -> Floats:
        """Rows (N, columns) of the energies of single atoms; they sum to the energy row."""
        groups, standard = self.sharing.groups(atoms), self.standard
        v = (self.descriptor.features(atoms) - standard.mean[groups]) / standard.scale[groups]
        z = np.einsum("npf,nf->np", standard.components[groups], v)
        quadratic = z[:, self._pairs[0]] * z[:, self._pairs[1]]
        block = np.hstack([np.ones((len(atoms), 1)), v, quadratic])
        rows = np.zeros((len(atoms), self.sharing.n_groups, block.shape[1]))
        rows[np.arange(len(atoms)), groups] = block
        return rows.reshape(len(atoms), -1)

    def tensors(self, theta: Floats, *, rank: int) -> Tensors:
        """Coefficients on raw features, from those on standardised ones.

        Parameters
        ----------
        theta
            (columns,), eV; zero where a column is not active.
        rank
            2, or 1 to leave the quadratic part out of the evaluation.
        """
        n_groups, components, features = self.standard.components.shape
        blocks = theta.reshape(n_groups, -1)
        linear = blocks[:, 1 : 1 + features] / self.standard.scale
        constant = blocks[:, 0] - (linear * self.standard.mean).sum(axis=1)
        kept = components if rank == 2 else 0
        projection = (self.standard.components / self.standard.scale[:, None, :])[:, :kept]
        offset = np.einsum("gpf,gf->gp", projection, self.standard.mean)
        quadratic = np.zeros((n_groups, kept, kept))
        if rank == 2:
            upper = np.zeros((n_groups, components, components))
            upper[:, self._pairs[0], self._pairs[1]] = blocks[:, 1 + features :]
            quadratic = 0.5 * (upper + upper.transpose(0, 2, 1))
        return Tensors(
            constant,
            linear,
            np.ascontiguousarray(projection),
            offset,
            np.ascontiguousarray(quadratic),
        )

    def evaluate(self, atoms: Atoms, tensors: Tensors) -> Prediction:
        """Energy, forces and stress of a structure."""
        cell, neighbours = self.descriptor.neighbours(atoms)
        energies, forces, virial = energy_forces(
            atoms.positions,
            cell,
            self.descriptor.channels(atoms),
            self.sharing.groups(atoms),
            neighbours,
            self.descriptor.basis,
            tensors,
        )
        stress = 0.5 * (virial + virial.T) / atoms.get_volume() if atoms.pbc.all() else None
        return Prediction(float(energies.sum()), energies, forces, stress)
