"""From a structure to its features, and how features are put on one scale."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from ase import Atoms

from otf.arrays import Floats, Ints
from otf.kernels.descriptor import Basis, Neighbours, feature_count, make_basis
from otf.kernels.rows import Standard, all_features
from otf.model.neighbours import NeighbourCache
from otf.model.one_thread import in_one_thread
from otf.model.sharing import Sharing, SpeciesSharing

DISPLACEMENT_A = 0.05
"""Width of the random displacements that set the feature scales; about a 300 K amplitude."""

_SMALLEST_SCALE = 1e-3
"""Features that hardly move are not blown up beyond this fraction of the liveliest one."""


@dataclass(frozen=True)
class DescriptorSettings:
    """Sizes and ranges of the descriptor (Angstrom)."""

    cutoff_two: float = 6.0
    cutoff_three: float = 4.0
    r_min: float = 0.0
    radial_two: int = 8
    radial_three: int = 3
    l_max: int = 3


class Descriptor:
    """Two- and three-body features of the atoms of a fixed set of species.

    Parameters
    ----------
    numbers
        Atomic numbers that may occur; each is a channel of its own.
    settings
        Sizes and ranges.
    """

    def __init__(self, numbers: Ints, settings: DescriptorSettings) -> None:
        self.species: Ints = np.unique(numbers)
        self.settings = settings
        self.basis: Basis = make_basis(
            n_species=len(self.species),
            r_min=settings.r_min,
            cutoff_two=settings.cutoff_two,
            cutoff_three=settings.cutoff_three,
            n_two=settings.radial_two,
            n_three=settings.radial_three,
            l_max=settings.l_max,
        )
        self.n_features = feature_count(self.basis)
        self._channels = SpeciesSharing(self.species)
        self._neighbours = NeighbourCache(max(settings.cutoff_two, settings.cutoff_three))

    def channels(self, atoms: Atoms) -> Ints:
        """Channel (index into ``species``) of each atom.

        Raises
        ------
        ValueError
            If an atom's species is not among those of the descriptor.
        """
        return self._channels.groups(atoms)

    def neighbours(self, atoms: Atoms) -> tuple[Floats, Neighbours]:
        """Full-rank cell and neighbour list."""
        return self._neighbours.of(atoms)

    def features(self, atoms: Atoms) -> Floats:
        """Raw features (N, n_features)."""
        cell, neighbours = self.neighbours(atoms)
        return all_features(atoms.positions, cell, self.channels(atoms), neighbours, self.basis)


def displaced(atoms: Atoms, *, seed: int) -> list[Atoms]:
    """Random displacements of a structure, enough to see how its features vary."""
    rng = np.random.default_rng(seed)
    out = []
    for _ in range(max(8, int(np.ceil(400 / len(atoms))))):
        moved = atoms.copy()
        moved.positions += rng.normal(scale=DISPLACEMENT_A, size=moved.positions.shape)
        out.append(moved)
    return out


@in_one_thread
def standardise(
    descriptor: Descriptor, sharing: Sharing, samples: Iterable[Atoms], *, components: int
) -> Standard:
    """Means, scales and principal components of the features of each group.

    In a run the samples are displacements of the starting structure: nothing it will see later
    enters, so the first model and the last share one feature space.

    Parameters
    ----------
    descriptor, sharing
        The features, and the groups they are standardised in.
    samples
        Structures that show how features vary.
    components
        Principal components to keep (fewer where there are fewer features).

    Returns
    -------
    Standard
        ``components`` has orthonormal rows scaled so that the first component has unit variance.
    """
    features: list[Floats] = []
    groups: list[Ints] = []
    for atoms in samples:
        features.append(descriptor.features(atoms))
        groups.append(sharing.groups(atoms))
    everything, group = np.concatenate(features), np.concatenate(groups)
    components = min(components, descriptor.n_features)
    mean = np.zeros((sharing.n_groups, descriptor.n_features))
    scale = np.ones((sharing.n_groups, descriptor.n_features))
    axes = np.zeros((sharing.n_groups, components, descriptor.n_features))
    for g in np.unique(group):
        values = everything[group == g]
        mean[g] = values.mean(axis=0)
        spread = values.std(axis=0)
        largest = spread.max()
        if largest == 0.0:  # an atom without neighbours: its features never move
            continue
        scale[g] = np.maximum(spread, _SMALLEST_SCALE * largest)
        standard = (values - mean[g]) / scale[g]
        variance, vectors = np.linalg.eigh(standard.T @ standard / len(standard))
        first = vectors[:, ::-1][:, :components].T
        # eigh leaves the sign free; fixing it keeps the columns the same on every machine.
        first *= np.sign(first[np.arange(components), np.abs(first).argmax(axis=1)])[:, None]
        axes[g] = first / np.sqrt(variance[-1])
    return Standard(mean, scale, axes)
