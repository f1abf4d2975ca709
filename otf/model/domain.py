"""Forces on the atoms of a domain, from these atoms and those in a halo around them.

The force on an atom depends on the energies of all atoms within a cutoff, and each of these on the
atoms within a cutoff of that one. So the halo is two cutoffs wide: energies are computed in the
domain and in the inner half of the halo, and no forces are communicated back.
"""

from dataclasses import dataclass

import numpy as np
from ase import Atoms
from scipy.spatial import cKDTree

from otf.arrays import Floats, Ints
from otf.kernels.descriptor import Neighbours
from otf.kernels.energy import Tensors, energies_and_pairs, scatter_forces
from otf.kernels.neighbours import neighbour_list
from otf.model.tensor_energy import TensorEnergy

_NO_CELL = np.eye(3)


@dataclass(frozen=True, eq=False)
class DomainPrediction:
    """Prediction of the model for the atoms of a domain.

    Attributes
    ----------
    energies
        (own,), eV.
    forces
        (own, 3), eV/Angstrom.
    virial
        (3, 3) derivative of the sum of these energies by the strain, eV; summed over all domains,
        that of the system.
    """

    energies: Floats
    forces: Floats
    virial: Floats


@dataclass(frozen=True, eq=False)
class _Layout:
    """Atoms in the order of the kernels: own, inner halo, outer halo.

    Attributes
    ----------
    positions
        Positions for which it was made, in the order of the caller.
    """

    positions: Floats
    numbers: Ints
    n_own: int
    n_centres: int
    order: Ints
    neighbours: Neighbours


class Domain:
    """Evaluates a model on successive domains, reusing the neighbour list while it is valid.

    Parameters
    ----------
    model, tensors
        The model and its coefficients.
    skin
        Skin of the neighbour list, Angstrom.

    Raises
    ------
    ValueError
        If the model has coefficients for single atoms, which cannot be identified in another
        system, or forces without a potential.
    """

    def __init__(self, model: TensorEnergy, tensors: Tensors, *, skin: float = 0.5) -> None:
        if model.sharing.groups.atoms:
            raise ValueError("the model has coefficients for single atoms (sharing: atom)")
        if model.coupling == "self":
            raise ValueError("the forces of the model have no potential (coupling: self)")
        self._model = model
        self._tensors = tensors
        self._skin = skin
        self._layout: _Layout | None = None
        settings = model.descriptor.settings
        self.cutoff = max(settings.cutoff_two, settings.cutoff_three)

    @property
    def halo(self) -> float:
        """Width of the halo required for forces, Angstrom."""
        return 2.0 * self.cutoff

    def evaluate(self, numbers: Ints, positions: Floats, n_own: int) -> DomainPrediction:
        """Energies and forces of the first ``n_own`` atoms; the others are the halo.

        Parameters
        ----------
        numbers
            (all,) atomic numbers.
        positions
            (all, 3), Angstrom, with periodic images as separate atoms.
        """
        if n_own == 0:
            return DomainPrediction(np.zeros(0), np.zeros((0, 3)), np.zeros((3, 3)))
        layout = self._laid_out(numbers, positions, n_own)
        placed = np.ascontiguousarray(positions[layout.order])
        kinds = layout.numbers[layout.order]
        atoms = Atoms(kinds, placed)
        descriptor, neighbours = self._model.descriptor, layout.neighbours
        channels = descriptor.channels(atoms)
        membership = self._model.sharing.membership(atoms, neighbours, 0, layout.n_centres)
        components = self._tensors.offset.shape[1]
        pages = descriptor.pages(neighbours, count=1, components=components)[0]
        energies = np.empty(layout.n_centres)
        pairs = np.empty((neighbours.first[layout.n_centres], 3))
        forces = np.zeros((len(placed), 3))
        own, other = np.empty((3, 3)), np.empty((3, 3))
        for start, stop, virial in ((0, n_own, own), (n_own, layout.n_centres, other)):
            energies_and_pairs(
                start,
                stop,
                placed,
                channels,
                membership,
                neighbours,
                descriptor.basis,
                self._tensors,
                pages,
                energies,
                pairs,
                virial,
            )
        scatter_forces(0, layout.n_centres, neighbours, pairs, forces)
        return DomainPrediction(energies[:n_own], forces[:n_own], 0.5 * (own + own.T))

    def _laid_out(self, numbers: Ints, positions: Floats, n_own: int) -> _Layout:
        kept = self._layout
        if (
            kept is not None
            and kept.n_own == n_own
            and np.array_equal(kept.numbers, numbers)
            and np.max(np.sum((positions - kept.positions) ** 2, axis=1), initial=0.0)
            < (0.5 * self._skin) ** 2
        ):
            return kept
        reach = self.cutoff + self._skin
        inner = np.zeros(len(positions) - n_own, dtype=bool)
        if len(inner):
            nearest = cKDTree(positions[:n_own]).query(
                positions[n_own:], distance_upper_bound=reach
            )[0]
            inner = np.isfinite(nearest)
        halo = np.arange(n_own, len(positions))
        order = np.concatenate([np.arange(n_own), halo[inner], halo[~inner]])
        first, index, shift = neighbour_list(
            np.ascontiguousarray(positions[order]),
            _NO_CELL,
            _NO_CELL,
            np.zeros(3, dtype=np.int64),
            reach,
        )
        neighbours = Neighbours(first, index, np.zeros(shift.shape), np.zeros(0, dtype=np.int64))
        self._layout = _Layout(
            positions.copy(),
            np.array(numbers, dtype=np.int64),
            n_own,
            n_own + int(inner.sum()),
            order,
            neighbours,
        )
        return self._layout
