"""Electrons of a structure, and the k points and widths of its occupations."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols

from otf.arrays import Floats
from otf.electrons import bloch
from otf.errors import RunError
from otf.orbitals.block_matrices import Matrices

_SAME = 1e-3  # electrons
_ROUNDING = 0.05  # of a division of the Brillouin zone: cells of nearly equal size get equal grids
_HALF = 0.5


@dataclass(frozen=True, eq=False)
class Filling:
    """Filling of the orbitals of any structure, as in the labels it was taken from.

    Attributes
    ----------
    valence
        Electrons that a neutral atom brings, by atomic number.
    charge
        Charge of a structure, in elementary charges.
    spacing_1_A
        Largest distance between k points, for crystals; None if no label had k points.
    shifted
        Whether k points of even grids are shifted by half their distance.
    compositions
        If the electrons of each element are not known, unit vectors that span the compositions for
        which the sum is; counts of atoms in the order of ``valence``.
    smearing_eV, methfessel_paxton
        See :class:`otf.orbitals.block_matrices.Matrices`.
    fixed
        (K, 3) k points of all structures; None to derive them from the spacing.
    """

    valence: Mapping[int, float]
    charge: float
    spacing_1_A: float | None = None
    shifted: bool = False
    compositions: tuple[tuple[float, ...], ...] = ()
    smearing_eV: float = 0.0
    methfessel_paxton: int | None = None
    fixed: Floats | None = None

    @classmethod
    def of(cls, labels: Sequence[tuple[Atoms, Matrices]]) -> "Filling":
        """Filling of labels.

        Raises
        ------
        RunError
            If the labels differ in their charge or in the width of their occupations.
        """
        valence, compositions = _valence(labels)
        charges = [sum(valence[int(z)] for z in atoms.numbers) - m.electrons for atoms, m in labels]
        if max(charges) - min(charges) > _SAME:
            raise RunError(
                f"the structures have charges from {min(charges):.3f} to {max(charges):.3f}; "
                "learn those of one charge"
            )
        crystals = [(atoms, m) for atoms, m in labels if m.kpoints is not None]
        widths = {(m.smearing_eV, m.methfessel_paxton) for _, m in crystals}
        if len(widths) > 1:
            raise RunError(
                "the structures have different electronic temperatures or occupations; learn "
                "those with one"
            )
        filling = cls(valence, round(charges[0], 6), compositions=compositions)
        if not crystals:
            return filling
        spacings = [_spacing(atoms, _points(m)) for atoms, m in crystals]
        width, order = widths.pop()
        return replace(
            filling,
            spacing_1_A=float(min(spacings)),
            shifted=any(not (np.abs(_points(m)) < 1e-9).all(axis=1).any() for _, m in crystals),
            smearing_eV=width,
            methfessel_paxton=order,
        )

    def electrons(self, atoms: Atoms) -> float:
        """Number of electrons of a structure.

        Raises
        ------
        RunError
            If it has an element that no label had, or its electrons are not known.
        """
        strange = sorted(set(atoms.numbers.tolist()) - set(self.valence))
        if strange:
            names = ", ".join(chemical_symbols[z] for z in strange)
            raise RunError(f"the structure has {names}, which no learned structure had")
        if self.compositions:
            counts = np.array([float(np.sum(atoms.numbers == z)) for z in self.valence])
            spanned = np.array(self.compositions)
            if np.abs(counts - (counts @ spanned.T) @ spanned).max() > _SAME:
                raise RunError(
                    "the number of valence electrons of each element is not known, only that of "
                    "structures composed like the learned ones; learn other compositions, too"
                )
        return float(sum(self.valence[int(z)] for z in atoms.numbers) - self.charge)

    def cores(self, atoms: Atoms) -> Floats:
        """Charges (N,) of the atoms without the electrons described; NaN if unknown."""
        found = np.array([self.valence[int(z)] for z in atoms.numbers])
        return np.full(len(found), np.nan) if self.compositions else found

    def kpoints(self, atoms: Atoms) -> Floats | None:
        """K points (K, 3), fractional, of a crystal; None for a molecule."""
        if not atoms.pbc.any():
            return None
        if self.fixed is not None or self.spacing_1_A is None:
            return self.fixed
        lengths = np.linalg.norm(np.asarray(atoms.cell.reciprocal()), axis=1)
        needed = np.ceil(lengths / self.spacing_1_A - _ROUNDING).astype(int)
        a, b, c = np.where(atoms.pbc, np.maximum(needed, 1), 1).tolist()
        x, y, z = (_HALF if self.shifted and n % 2 == 0 else 0.0 for n in (a, b, c))
        return bloch.grid((a, b, c), (x, y, z))


def counts_of(kpoints: Floats) -> tuple[int, int, int]:
    """Numbers of different values along each axis of a whole grid.

    >>> counts_of(bloch.grid((4, 2, 1), (0.0, 0.5, 0.0)))
    (4, 2, 1)
    """
    a, b, c = (len(np.unique(np.round(axis % 1.0, 6) % 1.0)) for axis in kpoints.T)
    return a, b, c


def _valence(
    labels: Sequence[tuple[Atoms, Matrices]],
) -> tuple[dict[int, float], tuple[tuple[float, ...], ...]]:
    """Electrons of a neutral atom by element, and the compositions for which they are known.

    The latter are empty if they are known for all.
    """
    species = sorted({int(z) for atoms, _ in labels for z in atoms.numbers})
    found = {
        int(z): float(core)
        for atoms, m in labels
        for z, core in zip(atoms.numbers, m.cores, strict=True)
    }
    if np.isfinite(list(found.values())).all():
        return found, ()
    counts = np.array([[float(np.sum(a.numbers == z)) for z in species] for a, _ in labels])
    electrons = np.array([m.electrons for _, m in labels])
    solved, _, rank, _ = np.linalg.lstsq(counts, electrons, rcond=None)
    rows = np.linalg.svd(counts)[2][: int(rank)]
    spanned = () if rank == len(species) else tuple(tuple(row) for row in rows.tolist())
    return dict(zip(species, solved.tolist(), strict=True)), spanned


def _points(matrices: Matrices) -> Floats:
    assert matrices.kpoints is not None
    return matrices.kpoints


def _spacing(atoms: Atoms, kpoints: Floats) -> float:
    """Largest distance between neighbouring k points along a periodic direction, 1/Angstrom."""
    lengths = np.linalg.norm(np.asarray(atoms.cell.reciprocal()), axis=1)
    each = lengths / np.array(counts_of(kpoints))
    return float(each[atoms.pbc].max())
