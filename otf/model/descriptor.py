"""Features of structures and their standardisation."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms

from otf.arrays import Floats, Ints
from otf.kernels.descriptor import (
    Basis,
    Neighbours,
    Workspace,
    feature_count,
    low_count,
    make_basis,
    make_workspace,
)
from otf.kernels.pages import Pages, make_pages
from otf.kernels.rows import Standard, all_features
from otf.model.mixing import mixing
from otf.model.neighbours import NeighbourCache
from otf.model.one_thread import in_one_thread
from otf.model.sharing import Groups, Sharing

DISPLACEMENT_A = 0.05
"""Width of the random displacements that set the feature scales; about the amplitude at 300 K."""

_SMALLEST_SCALE = 1e-3
"""Smallest scale of a feature relative to the largest, for features that hardly vary."""

_ROUNDING = 1e-8
"""Features with a relative variation below this are constant."""

_ENOUGH = 30
"""Fewest atoms of a class in the samples to standardise it separately from its species."""


@dataclass(frozen=True)
class DescriptorSettings:
    """Sizes and ranges of the descriptor (Angstrom).

    Four-body features use the first ``radial_four`` radial polynomials, angular momenta up to
    ``l_four``, and products with a sum of the three n and the three l up to ``degree_four``; there
    are none if ``degree_four`` is negative. ``decay`` is that of the distance coordinate, see
    :mod:`otf.kernels.radial`. ``channels`` mix the species, see :mod:`otf.model.mixing`; 0 for a
    channel of each.
    """

    cutoff_two: float = 6.0
    cutoff_three: float = 4.0
    r_min: float = 0.0
    radial_two: int = 8
    radial_three: int = 3
    l_max: int = 3
    radial_four: int = 0
    l_four: int = 0
    degree_four: int = -1
    decay: float = 0.0
    channels: int = 0


class Descriptor:
    """Features of the atoms of a fixed set of species.

    Parameters
    ----------
    numbers
        Atomic numbers that may occur; each has a channel.
    settings
        Sizes and ranges of the descriptor.
    """

    def __init__(self, numbers: Ints, settings: DescriptorSettings) -> None:
        self.species: Ints = np.unique(numbers).astype(np.int64)
        self.settings = settings
        self.basis: Basis = make_basis(
            mixing=mixing(self.species, settings.channels),
            r_min=settings.r_min,
            cutoff_two=settings.cutoff_two,
            cutoff_three=settings.cutoff_three,
            decay=settings.decay,
            n_two=settings.radial_two,
            n_three=settings.radial_three,
            l_max=settings.l_max,
            n_four=settings.radial_four,
            l_four=settings.l_four,
            degree_four=settings.degree_four,
        )
        self.n_features = feature_count(self.basis)
        self.n_low = low_count(self.basis)
        self._species = Sharing(Groups(tuple(int(z) for z in self.species)))
        self._neighbours = NeighbourCache(max(settings.cutoff_two, settings.cutoff_three))
        self._workspace: Workspace | None = None
        self._pages: list[Pages] = []
        self._sizes = (0, 0)
        self._first: Ints = np.zeros(0, np.int64)  # of the list with self._most neighbours
        self._most = 0

    def channels(self, atoms: Atoms) -> Ints:
        """Channel (index into ``species``) of each atom.

        Raises
        ------
        ValueError
            If an atom's species is not among those of the descriptor.
        """
        return self._species.channels(atoms)

    def neighbours(self, atoms: Atoms) -> Neighbours:
        """Neighbour list of a structure."""
        return self._neighbours.of(atoms)

    def workspace(self, neighbours: Neighbours) -> Workspace:
        """Buffers for features and rows, kept between calls and reallocated only to grow."""
        most = self._most_neighbours(neighbours)
        if self._workspace is None or most > len(self._workspace.distance):
            self._workspace = make_workspace(self.basis, most)
        return self._workspace

    def pages(self, neighbours: Neighbours, *, count: int, components: int) -> list[Pages]:
        """Buffers for energies by ``count`` workers, reallocated only to grow."""
        most = self._most_neighbours(neighbours)
        if most > self._sizes[0] or components > self._sizes[1]:
            self._sizes = (max(most, self._sizes[0]), max(components, self._sizes[1]))
            self._pages = []
        while len(self._pages) < count:
            self._pages.append(make_pages(self.basis, *self._sizes))
        return self._pages

    def _most_neighbours(self, neighbours: Neighbours) -> int:
        if neighbours.first is not self._first:
            self._first = neighbours.first
            self._most = int(np.diff(neighbours.first).max(initial=1))
        return self._most

    def features(self, atoms: Atoms) -> Floats:
        """Raw features (N, n_features)."""
        neighbours = self.neighbours(atoms)
        return all_features(
            atoms.positions,
            self.channels(atoms),
            neighbours,
            self.basis,
            self.workspace(neighbours),
        )


def displaced(atoms: Atoms, *, seed: int) -> list[Atoms]:
    """Randomly displaced copies of a structure, enough to sample the variation of its features."""
    rng = np.random.default_rng(seed)
    out = []
    for _ in range(max(8, int(np.ceil(600 / len(atoms))))):
        moved = atoms.copy()
        moved.positions += rng.normal(scale=DISPLACEMENT_A, size=moved.positions.shape)
        out.append(moved)
    return out


@in_one_thread
def standardise(
    descriptor: Descriptor,
    sharing: Sharing,
    samples: Sequence[Atoms],
    *,
    components: int,
    further: Sequence[Atoms] = (),
) -> Standard:
    """Means, scales and principal components of the features of each block.

    In a run the samples are displaced copies of the initial structure only, so that all models of
    the run share one feature space.

    Parameters
    ----------
    descriptor, sharing
        The features, and the blocks in which they are standardised.
    samples
        Structures that sample the variation of the features.
    components
        Number of principal components of the two- and three-body features (fewer if there are
        fewer features).
    further
        Structures for blocks that are rare in the samples.

    Returns
    -------
    Standard
        ``components`` has orthonormal rows scaled so that the first component has unit variance.
    """
    components = min(components, descriptor.n_low)
    mean = np.zeros((sharing.n_blocks, descriptor.n_features))
    scale = np.ones((sharing.n_blocks, descriptor.n_features))
    axes = np.zeros((sharing.n_blocks, components, descriptor.n_low))
    known: set[int] = set()
    for structures in (samples, further):
        if not structures:
            continue
        features = np.concatenate([descriptor.features(atoms) for atoms in structures])
        blocks = np.concatenate([sharing.blocks(atoms) for atoms in structures])
        for g in set(range(sharing.n_blocks)) - known:
            values = features[(blocks == g).any(axis=1)]
            if len(values) >= (_ENOUGH if g >= len(descriptor.species) else 1):
                mean[g], scale[g], axes[g] = _standard(values, descriptor.n_low, components)
                known.add(g)
    for g in set(range(len(descriptor.species), sharing.n_blocks)) - known:
        s = sharing.species_of_block[g]
        mean[g], scale[g], axes[g] = mean[s], scale[s], axes[s]
    return Standard(mean, scale, axes)


def _standard(values: Floats, low: int, components: int) -> tuple[Floats, Floats, Floats]:
    """Mean, scale and principal axes of the features (samples, features) of one block."""
    mean, spread = values.mean(axis=0), values.std(axis=0)
    largest = spread.max()
    if largest <= _ROUNDING * np.abs(values).max(initial=0.0):  # variation by rounding only
        return mean, np.ones_like(mean), np.zeros((components, low))
    scale = np.maximum(spread, _SMALLEST_SCALE * largest)
    standard = ((values - mean) / scale)[:, :low]
    variance, vectors = np.linalg.eigh(standard.T @ standard / len(standard))
    axes = vectors[:, ::-1][:, :components].T
    # The sign from eigh is arbitrary; fixing it gives the same columns on every machine.
    axes *= np.sign(axes[np.arange(components), np.abs(axes).argmax(axis=1)])[:, None]
    return mean, scale, axes / np.sqrt(variance[-1])
