r"""Collective variables: functions of a few atoms' positions, with their derivatives.

With vectors :math:`b_k` between pairs of atoms, of the nearest images where the cell is periodic:

==============================================================  ============================
:math:`|b_1|`                                                   ``distance`` i j
:math:`|b_1| - |b_2|`                                           ``difference`` i j k l
:math:`\arccos(-b_1 \cdot b_2 / |b_1| |b_2|)`                   ``angle`` i j k
:math:`\mathrm{atan2}(|b_2| b_1 \cdot n_2,\ n_1 \cdot n_2)`,    ``torsion`` i j k l
:math:`n_1 = b_1 \times b_2`, :math:`n_2 = b_2 \times b_3`
==============================================================  ============================

The derivatives of a torsion are those of Blondel and Karplus, J. Comput. Chem. 17, 1132 (1996).
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from ase import Atoms
from ase.geometry import find_mic

from otf.arrays import Floats

Kind = Literal["distance", "difference", "angle", "torsion"]

_PAIRS: dict[Kind, tuple[tuple[int, int], ...]] = {
    "distance": ((0, 1),),
    "difference": ((0, 1), (2, 3)),
    "angle": ((0, 1), (1, 2)),
    "torsion": ((0, 1), (1, 2), (2, 3)),
}
_YZX, _ZXY = np.array([1, 2, 0]), np.array([2, 0, 1])
_STRAIGHT = 1e-8  # sine of an angle that counts as straight


@dataclass(frozen=True, eq=False)
class Value:
    """A collective variable of a structure.

    Attributes
    ----------
    value
        Angstrom or radians.
    gradient
        (n, 3) derivatives by the positions of its n atoms.
    virial
        (3, 3) derivatives by the strain.
    """

    value: float
    gradient: Floats
    virial: Floats


@dataclass(frozen=True)
class CollectiveVariable:
    """A function of the positions of some atoms.

    Attributes
    ----------
    kind
        See the module.
    atoms
        Numbers of the atoms, from 0.
    """

    kind: Kind
    atoms: tuple[int, ...]

    @property
    def is_angle(self) -> bool:
        """Whether its unit is the radian; otherwise it is the Angstrom."""
        return self.kind in ("angle", "torsion")

    def difference(self, value: Floats | float, reference: Floats | float) -> Floats:
        """Value minus reference; of torsions the nearer way round.

        >>> round(float(CollectiveVariable("torsion", (0, 1, 2, 3)).difference(3.0, -3.0)), 6)
        -0.283185
        """
        change: Floats = np.asarray(value) - np.asarray(reference)
        if self.kind == "torsion":
            change = change - 2.0 * np.pi * np.round(change / (2.0 * np.pi))
        return change

    def of(self, atoms: Atoms) -> Value:
        """The value with its derivatives.

        Raises
        ------
        ValueError
            If the derivatives do not exist: atoms coincide, or the ends of a torsion are straight.
        """
        pairs = np.array(_PAIRS[self.kind])
        positions = atoms.positions[list(self.atoms)]
        vectors = _nearest(positions[pairs[:, 1]] - positions[pairs[:, 0]], atoms)
        value, slopes = _FUNCTIONS[self.kind](vectors)
        if not np.isfinite(slopes).all():
            raise ValueError(f"the {self.kind} of atoms {self.atoms} has no derivatives here")
        gradient = np.zeros((len(self.atoms), 3))
        np.add.at(gradient, pairs[:, 1], slopes)
        np.add.at(gradient, pairs[:, 0], -slopes)
        return Value(value, gradient, vectors.T @ slopes)


def variable_of(text: str) -> CollectiveVariable:
    """The variable that a text names, such as ``torsion 0 1 2 3``.

    Raises
    ------
    ValueError
        If it names none.

    >>> variable_of("distance 0 5").atoms
    (0, 5)
    """
    name, *numbers = text.split() or [""]
    for kind, pairs in _PAIRS.items():
        count = 1 + max(max(pair) for pair in pairs)
        if name == kind and len(numbers) == count and all(n.isdecimal() for n in numbers):
            return CollectiveVariable(kind, tuple(map(int, numbers)))
    raise ValueError(
        f"'{text}' is none of: distance I J, difference I J K L, angle I J K, torsion I J K L"
    )


def _nearest(vectors: Floats, atoms: Atoms) -> Floats:
    """The vectors to the nearest images."""
    if not atoms.pbc.any():
        return vectors
    cell = atoms.cell.complete().array
    inverse = np.linalg.inv(cell)
    near: Floats = vectors - np.round(vectors @ inverse) * atoms.pbc @ cell
    # In half the height of the cell there is one image; to search for it takes ten times as long.
    half = 0.5 / np.sqrt((inverse[:, atoms.pbc] ** 2).sum(axis=0).max())
    if (near**2).sum(axis=1).max() < half**2:
        return near
    nearest: Floats = find_mic(vectors, atoms.cell, atoms.pbc)[0]
    return nearest


def _distance(vectors: Floats) -> tuple[float, Floats]:
    length = np.linalg.norm(vectors, axis=1)
    return float(length[0]), vectors / _positive(length)


def _difference(vectors: Floats) -> tuple[float, Floats]:
    length = np.linalg.norm(vectors, axis=1)
    signs = np.array([1.0, -1.0])
    return float(length @ signs), vectors * (signs / _positive(length))[:, None]


def _angle(vectors: Floats) -> tuple[float, Floats]:
    length = _positive(np.linalg.norm(vectors, axis=1))
    first, second = vectors / length[:, None]
    cosine = float(np.clip(-first @ second, -1.0, 1.0))
    sine = np.sqrt(1.0 - cosine**2)
    # Of a straight angle the derivative is taken as zero: by symmetry it has no direction.
    scale = 0.0 if sine < _STRAIGHT else 1.0 / sine
    slopes = np.array([second + cosine * first, first + cosine * second]) * scale
    return float(np.arccos(cosine)), slopes / length[:, None]


def _torsion(vectors: Floats) -> tuple[float, Floats]:
    first, middle, last = vectors
    before, after = _cross(first, middle), _cross(middle, last)
    length = float(np.linalg.norm(middle))
    value = float(np.arctan2(length * (first @ after), before @ after))
    with np.errstate(divide="ignore", invalid="ignore"):
        at_first = before * (length / (before @ before))
        at_last = after * (length / (after @ after))
        along = (first @ middle) / length**2 * at_first + (last @ middle) / length**2 * at_last
    return value, np.array([at_first, -along, at_last])


def _cross(a: Floats, b: Floats) -> Floats:
    """Vector product; that of NumPy takes several times as long for single vectors."""
    product: Floats = a[_YZX] * b[_ZXY] - a[_ZXY] * b[_YZX]
    return product


def _positive(length: Floats) -> Floats:
    """Lengths, NaN in the place of zero."""
    return np.where(length > 0.0, length, np.nan)


_FUNCTIONS = {
    "distance": _distance,
    "difference": _difference,
    "angle": _angle,
    "torsion": _torsion,
}
