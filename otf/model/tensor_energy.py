"""The energy model, linear in its coefficients, so that training is one linear solve.

Design-matrix rows and predictions of structures, computed by :mod:`otf.kernels`.
"""

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from ase import Atoms

from otf.arrays import Floats
from otf.kernels.descriptor import Neighbours
from otf.kernels.energy import Tensors, energies_and_pairs, gather_forces, scatter_forces
from otf.kernels.four_body import term_weights
from otf.kernels.rows import Standard, design_rows, linear_width, quadratic_width
from otf.model.descriptor import Descriptor
from otf.model.sharing import Sharing
from otf.model.workers import CHUNK, Workers

Coupling = Literal["joint", "self"]
"""Joint: forces are minus the gradient of the energy. Self: the force on an atom is minus the
derivative of its own energy alone; such forces have no potential."""


class Ranks(Protocol):
    """Evaluation distributed over several processes; see :mod:`otf.model.ranks`."""

    def design(self, model: "TensorEnergy", atoms: Atoms) -> Floats:
        """As :meth:`TensorEnergy.design`."""
        ...

    def evaluate(
        self, model: "TensorEnergy", atoms: Atoms, tensors: Tensors
    ) -> tuple[Floats, Floats, Floats]:
        """Energies (N,), forces (N, 3) and virial (3, 3)."""
        ...


_MOST_KEPT = 2**26  # bytes of a design matrix that is kept
_CONSTANT_PRIOR = (
    1e-3  # of the energy zero of a species; in the dual form a weaker one costs digits
)


@dataclass(frozen=True, eq=False)
class Prediction:
    """Prediction of the model for one structure.

    Attributes
    ----------
    energy, atomic_energies
        eV, and (N,) eV; NaN if the forces have no potential.
    forces
        (N, 3), eV/Angstrom.
    stress
        (3, 3), eV/Angstrom^3; None for structures not periodic in three directions.
    """

    energy: float
    atomic_energies: Floats
    forces: Floats
    stress: Floats | None


@dataclass(eq=False)
class _Buffers:
    """Arrays kept between calls, reallocated only to grow."""

    energies: Floats
    pairs: Floats
    virials: Floats


class TensorEnergy:
    """Energy model for structures of the descriptor's species.

    Parameters
    ----------
    descriptor
        The features.
    sharing
        Assignment of blocks of coefficients to atoms.
    standard
        Standardisation of the features in each block.
    coupling
        See :data:`Coupling`.
    workers
        Threads to use; all cores by default.
    ranks
        MPI ranks to distribute over; None for a single process.
    """

    def __init__(
        self,
        descriptor: Descriptor,
        sharing: Sharing,
        standard: Standard,
        *,
        coupling: Coupling = "joint",
        workers: Workers | None = None,
        ranks: Ranks | None = None,
    ) -> None:
        self.descriptor = descriptor
        self.sharing = sharing
        self.standard = standard
        self.coupling = coupling
        self.workers = workers or Workers()
        self.ranks = ranks
        self._upper = np.triu_indices(standard.components.shape[1])
        self._buffers = _Buffers(np.empty(0), np.empty((0, 3)), np.empty((0, 3, 3)))
        self._latest: tuple[bytes, Floats] = b"", np.empty((0, 0))

    @property
    def n_columns(self) -> int:
        """Total number of coefficients."""
        return self.leading(2)

    def leading(self, order: int) -> int:
        """Number of columns of a model of this order; they are the leading ones."""
        width = linear_width(self.standard)
        if order == 2:
            width += quadratic_width(self.standard)
        return self.sharing.n_blocks * width

    @property
    def prior(self) -> Floats:
        """Relative strength of the prior of each column."""
        n_species = len(self.descriptor.species)
        linear = np.tile(self.sharing.prior[:, None], linear_width(self.standard))
        linear[:n_species, 0] = _CONSTANT_PRIOR
        quadratic = np.tile(self.sharing.prior[:, None], quadratic_width(self.standard))
        return np.concatenate([linear.ravel(), quadratic.ravel()])

    def design(self, atoms: Atoms) -> Floats:
        """Design-matrix rows (1 + 3N + 9, columns): energy, forces, strain derivatives.

        Read-only: those of the latest structure are kept unless they are large, as its error is
        predicted before its label is learned.
        """
        arrays = (atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc)
        key = b"".join(array.tobytes() for array in arrays)
        if self._latest[0] == key:
            return self._latest[1]
        ranks = self.ranks
        rows = ranks.design(self, atoms) if ranks else self.design_of(atoms, 0, len(atoms))
        rows.flags.writeable = False
        self._latest = (key, rows) if rows.nbytes <= _MOST_KEPT else (b"", np.empty((0, 0)))
        return rows

    def design_of(self, atoms: Atoms, start: int, stop: int) -> Floats:
        """Contribution of the energies of atoms start to stop to the rows of a structure."""
        neighbours = self.descriptor.neighbours(atoms)
        membership = self.sharing.membership(atoms, neighbours, start, stop)
        return design_rows(
            start,
            stop,
            atoms.positions,
            self.descriptor.channels(atoms),
            self.sharing.blocks(atoms),
            membership.weight,
            membership.slope,
            self.coupling == "self",
            neighbours,
            self.descriptor.basis,
            self.standard,
            self.descriptor.workspace(neighbours),
        )

    def atomic_rows(self, atoms: Atoms) -> Floats:
        """Rows (N, columns) of the atomic energies; they sum to the energy row."""
        n, n_blocks = len(atoms), self.sharing.n_blocks
        linear = np.zeros((n, n_blocks, linear_width(self.standard)))
        quadratic = np.zeros((n, n_blocks, quadratic_width(self.standard)))
        features, standard = self.descriptor.features(atoms), self.standard
        neighbours = self.descriptor.neighbours(atoms)
        weights = self.sharing.membership(atoms, neighbours, 0, n).weight
        for level, blocks in enumerate(self.sharing.blocks(atoms).T):
            mine = np.flatnonzero(blocks >= 0)
            g, share = blocks[mine], weights[mine, None] if level else 1.0
            v = (features[mine] - standard.mean[g]) / standard.scale[g]
            z = np.einsum("npf,nf->np", standard.components[g], v[:, : self.descriptor.n_low])
            linear[mine, g] = share * np.hstack([np.ones((len(mine), 1)), v])
            quadratic[mine, g] = share * z[:, self._upper[0]] * z[:, self._upper[1]]
        return np.hstack([linear.reshape(n, -1), quadratic.reshape(n, -1)])

    def tensors(self, theta: Floats, *, order: int) -> Tensors:
        """Convert coefficients of standardised features to those of raw features.

        Parameters
        ----------
        theta
            (columns,), eV; zero for columns that are not used.
        order
            2, or 1 to omit the quadratic part.
        """
        standard, leaves = self.standard, self.sharing.leaves
        n_blocks, components, low = standard.components.shape
        split = self.leading(1)
        linear = theta[:split].reshape(n_blocks, -1)
        slope = linear[:, 1:] / standard.scale
        constant = linear[:, 0] - (slope * standard.mean).sum(axis=1)
        kept = components if order == 2 else 0
        projection = (standard.components / standard.scale[:, None, :low])[:, :kept]
        offset = np.einsum("gpf,gf->gp", projection, standard.mean[:, :low])
        quadratic = np.zeros((n_blocks, kept, kept))
        if order == 2:
            upper = np.zeros((n_blocks, components, components))
            upper[:, self._upper[0], self._upper[1]] = theta[split:].reshape(n_blocks, -1)
            quadratic = 0.5 * (upper + upper.transpose(0, 2, 1))
        n_leaves, levels = leaves.shape
        out = Tensors(
            constant=np.zeros(n_leaves),
            linear=np.zeros((n_leaves, low)),
            projection=np.zeros((n_leaves, levels * kept, low)),
            offset=np.zeros((n_leaves, levels * kept)),
            quadratic=np.zeros((n_leaves, levels * kept, levels * kept)),
            four=np.zeros((n_leaves, len(self.descriptor.basis.four.third))),
        )
        for leaf, blocks in enumerate(leaves):
            for level, g in enumerate(blocks):
                if g < 0:
                    continue
                span = slice(level * kept, (level + 1) * kept)
                out.constant[leaf] += constant[g]
                out.linear[leaf] += slope[g, :low]
                out.four[leaf] += term_weights(self.descriptor.basis.four, slope[g, low:])
                out.projection[leaf, span] = projection[g]
                out.offset[leaf, span] = offset[g]
                out.quadratic[leaf, span, span] = quadratic[g]
        return out

    def evaluate(self, atoms: Atoms, tensors: Tensors) -> Prediction:
        """Energy, forces and stress of a structure.

        With self coupling there is no energy (NaN), and no stress.
        """
        n, own_only = len(atoms), self.coupling == "self"
        if self.ranks is not None:
            energies, forces, virial = self.ranks.evaluate(self, atoms, tensors)
        else:
            neighbours, buffers = self._differentiate(atoms, tensors, 0, n)
            forces = np.empty((n, 3))

            def gather(_worker: int, _chunk: int, start: int, stop: int) -> None:
                gather_forces(start, stop, neighbours, buffers.pairs, own_only, forces)

            self.workers.each_range(n, gather)
            virial = buffers.virials[: -(-n // CHUNK)].sum(axis=0)
            energies = buffers.energies[:n].copy()
        if own_only:
            return Prediction(float("nan"), np.full(n, np.nan), forces, None)
        stress = None
        if atoms.pbc.all():
            stress = 0.5 * (virial + virial.T) / atoms.get_volume()
        return Prediction(float(energies.sum()), energies, forces, stress)

    def share(
        self, atoms: Atoms, tensors: Tensors, start: int, stop: int
    ) -> tuple[Floats, Floats, Floats]:
        """Contribution of the energies of atoms start to stop to a structure.

        Returns
        -------
        energies, forces, virial
            (N,), (N, 3) and (3, 3); over all ranges they sum to those of the structure.
        """
        neighbours, buffers = self._differentiate(atoms, tensors, start, stop)
        energies, forces = np.zeros(len(atoms)), np.zeros((len(atoms), 3))
        energies[start:stop] = buffers.energies[start:stop]
        if self.coupling == "self":
            gather_forces(start, stop, neighbours, buffers.pairs, True, forces)
        else:
            scatter_forces(start, stop, neighbours, buffers.pairs, forces)
        virial: Floats = buffers.virials[: -(-(stop - start) // CHUNK)].sum(axis=0)
        return energies, forces, virial

    def _differentiate(
        self, atoms: Atoms, tensors: Tensors, begin: int, end: int
    ) -> tuple[Neighbours, _Buffers]:
        """Compute energies of atoms begin to end and their derivatives into the buffers."""
        neighbours = self.descriptor.neighbours(atoms)
        positions, channels = atoms.positions, self.descriptor.channels(atoms)
        membership = self.sharing.membership(atoms, neighbours, begin, end)
        basis = self.descriptor.basis
        buffers = self._buffers_for(len(atoms), len(neighbours.indices))
        pages = self.descriptor.pages(
            neighbours, count=self.workers.threads, components=tensors.offset.shape[1]
        )

        def differentiate(worker: int, chunk: int, start: int, stop: int) -> None:
            energies_and_pairs(
                begin + start,
                begin + stop,
                positions,
                channels,
                membership,
                neighbours,
                basis,
                tensors,
                pages[worker],
                buffers.energies,
                buffers.pairs,
                buffers.virials[chunk],
            )

        self.workers.each_range(end - begin, differentiate)
        return neighbours, buffers

    def _buffers_for(self, n: int, pairs: int) -> _Buffers:
        buffers = self._buffers
        if len(buffers.energies) < n:
            buffers.energies = np.empty(n)
            buffers.virials = np.empty((-(-n // CHUNK), 3, 3))
        if len(buffers.pairs) < pairs:
            buffers.pairs = np.empty((pairs + pairs // 8, 3))
        return buffers
