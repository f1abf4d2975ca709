"""ASE's effective-medium theory with noise added to the forces."""

import hashlib
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.emt import EMT


class NoisyEMT(EMT):  # type: ignore[misc]  # ase is not typed
    """EMT with Gaussian noise on every force component, as of an engine of limited precision.

    The noise is seeded by the positions: the same structure always has the same forces. Energies
    are exact.

    Parameters
    ----------
    noise_meV_A
        Standard deviation of the noise.
    """

    def __init__(self, noise_meV_A: float) -> None:
        super().__init__()
        self._noise = 1e-3 * noise_meV_A

    def calculate(self, atoms: Atoms, *args: Any, **kwargs: Any) -> None:
        """Fill ``results``; called by ASE."""
        self.initialize(atoms)  # no neighbour list of an earlier call: it changes the last digits
        super().calculate(atoms, *args, **kwargs)
        digest = hashlib.sha256(np.ascontiguousarray(atoms.positions).tobytes()).digest()
        rng = np.random.default_rng(int.from_bytes(digest[:8], "little"))
        self.results["forces"] = self.results["forces"] + rng.normal(
            scale=self._noise, size=(len(atoms), 3)
        )
