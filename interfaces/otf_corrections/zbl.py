r"""Repulsion of atoms that are far too close (Ziegler, Biersack and Littmark, 1985).

.. math::

   V(r) = \frac{Z_1 Z_2 e^2}{4 \pi \varepsilon_0 r}\, \varphi(r / a)\, s(r), \qquad
   a = \frac{0.4685\,\mathrm{A}}{Z_1^{0.23} + Z_2^{0.23}}, \qquad
   \varphi(x) = \sum_k c_k e^{-d_k x}

==========  ==================
formula     code
==========  ==================
phi         :func:`_screening`
s           :func:`_switch`
V           :func:`repulsion`
==========  ==================

Coefficients: The Stopping and Range of Ions in Solids, vol. 1 (Pergamon, 1985). The switch s is 1
up to 0.7 of the range and 0 beyond it, with two continuous derivatives.
"""

import time
from collections.abc import Collection
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, ClassVar, NamedTuple

import numpy as np
from ase import Atoms
from ase.data import covalent_radii
from ase.neighborlist import neighbor_list
from pydantic import BaseModel, ConfigDict, Field

from otf.arrays import Floats
from otf.engines.labels import EngineReport, Labels
from otf.engines.protocol import Capabilities, DensityGuess, Engine
from otf.errors import EngineError
from otf.units import BOHR, HARTREE

_WEIGHTS = np.array([0.18175, 0.50986, 0.28022, 0.02817])
_DECAYS = np.array([3.19980, 0.94229, 0.40290, 0.20162])
_LENGTH_A = 0.4685
_PROVENANCE = f"zbl {version('otf-aimd')}"
_FULL = 0.7  # of the range, up to which nothing is switched


class Options(BaseModel):
    """Keys of the ``engine`` section."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    range: Annotated[float, Field(gt=0, le=2)] = Field(
        0.5, description="range of the repulsion of two atoms, in sums of their covalent radii"
    )


class ZblEngine(Engine):
    """Screened repulsion of nuclei at short distances; zero for atoms as far as in a bond."""

    kind: ClassVar[str] = "zbl"
    Options: ClassVar[type[BaseModel]] = Options
    has_charge: ClassVar[bool] = False

    def __init__(self, options: BaseModel, *, charge: int, spin: int) -> None:
        assert isinstance(options, Options)
        self._range = options.range
        self._opened = False

    @property
    def capabilities(self) -> Capabilities:
        """Molecules and crystals, with stress."""
        return Capabilities(
            periodic=True, stress=True, atomic_energies=True, level="repulsion of cores"
        )

    def open(self, atoms: Atoms, scratch: Path) -> None:
        """Allow labels; there is nothing to set up."""
        self._opened = True

    def close(self) -> None:
        """Do nothing: it holds nothing."""

    @classmethod
    def doctor(cls) -> EngineReport:
        """It is part of the package."""
        return EngineReport(True, version("otf-aimd"), [])

    def label(
        self,
        atoms: Atoms,
        *,
        index: int,
        remedies: Collection[str] = (),
        guess: DensityGuess | None = None,
    ) -> Labels:
        """See :class:`otf.engines.protocol.LabelSource`."""
        if not self._opened:
            raise EngineError("the zbl engine was not opened")
        began = time.perf_counter()
        z, radii = atoms.numbers.astype(float), self._range * covalent_radii[atoms.numbers]
        # Both directions of a pair, each with half of its energy.
        first, second, distances, vectors = neighbor_list("ijdD", atoms, 2.0 * radii.max())
        pair = repulsion(distances, z[first], z[second], radii[first] + radii[second])
        pulls = (pair.slopes / np.maximum(distances, 1e-9))[:, None] * vectors
        forces, atomic = np.zeros((len(atoms), 3)), np.zeros(len(atoms))
        np.add.at(forces, first, pulls)
        np.add.at(atomic, first, 0.5 * pair.energies)
        stress = None
        if atoms.pbc.all():
            stress = 0.5 * vectors.T @ pulls / atoms.get_volume()
        return Labels(
            energy=float(atomic.sum()),
            forces=forces,
            stress=stress,
            atomic_energies=atomic,
            wall_s=time.perf_counter() - began,
            provenance=_PROVENANCE,
        )


class Repulsion(NamedTuple):
    """Energies of pairs, eV, and their derivatives by the distance, eV/Angstrom."""

    energies: Floats
    slopes: Floats


def repulsion(distances: Floats, z_first: Floats, z_second: Floats, ranges: Floats) -> Repulsion:
    """Repulsion of pairs of atoms.

    Parameters
    ----------
    distances
        (pairs,) Angstrom.
    z_first, z_second
        (pairs,) atomic numbers.
    ranges
        (pairs,) distances from which on there is none, Angstrom.
    """
    r = np.maximum(distances, 1e-9)
    length = _LENGTH_A / (z_first**0.23 + z_second**0.23)
    phi, phi_slope = _screening(r / length)
    s, s_slope = _switch(r, ranges)
    coulomb = z_first * z_second * HARTREE * BOHR / r
    slopes = coulomb * (phi_slope / length * s + phi * s_slope - phi * s / r)
    return Repulsion(coulomb * phi * s, slopes)


def _screening(x: Floats) -> tuple[Floats, Floats]:
    """The screening function and its derivative."""
    terms = _WEIGHTS * np.exp(-np.outer(x, _DECAYS))
    return terms.sum(axis=1), -terms @ _DECAYS


def _switch(r: Floats, ranges: Floats) -> tuple[Floats, Floats]:
    """The switch and its derivative."""
    width = (1.0 - _FULL) * ranges
    t = np.clip((r - _FULL * ranges) / width, 0.0, 1.0)
    return 1.0 - t**3 * (10.0 - 15.0 * t + 6.0 * t**2), -30.0 * t**2 * (1.0 - t) ** 2 / width
