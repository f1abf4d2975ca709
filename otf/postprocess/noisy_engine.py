"""An engine with noise that depends on where the atoms are, like that of a grid in real space."""

import hashlib
import math
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
from ase import Atoms
from pydantic import BaseModel

from otf.engines.labels import EngineReport, LabelFailure, Labels
from otf.engines.protocol import Capabilities, DensityGuess, Engine


class NoisyEngine(Engine):
    """An engine whose forces have noise.

    Parameters
    ----------
    inner
        The engine.
    noise
        Mean absolute noise of a force component, eV/Angstrom.
    """

    kind: ClassVar[str] = "noisy"
    Options: ClassVar[type[BaseModel]] = BaseModel

    def __init__(self, inner: Engine, noise: float) -> None:
        self._inner = inner
        self._deviation = noise * math.sqrt(0.5 * math.pi)

    @property
    def capabilities(self) -> Capabilities:
        """Those of the engine, on a grid."""
        return replace(self._inner.capabilities, grid=True)

    def open(self, atoms: Atoms, scratch: Path) -> None:
        """Open the engine."""
        self._inner.open(atoms, scratch)

    def label(
        self,
        atoms: Atoms,
        *,
        index: int,
        remedies: Collection[str] = (),
        guess: DensityGuess | None = None,
    ) -> Labels | LabelFailure:
        """A label with noise, the same for the same structure."""
        labels = self._inner.label(atoms, index=index, remedies=remedies, guess=guess)
        if isinstance(labels, LabelFailure):
            return labels
        seed = int.from_bytes(hashlib.sha256(atoms.positions.tobytes()).digest()[:8])
        noise = np.random.default_rng(seed).normal(scale=self._deviation, size=(len(atoms), 3))
        return replace(labels, forces=labels.forces + noise)

    def close(self) -> None:
        """Close the engine."""
        self._inner.close()

    @classmethod
    def doctor(cls) -> EngineReport:
        """Not listed: it is only for estimates."""
        return EngineReport(True, "", [])
