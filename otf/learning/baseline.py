"""Baseline of the model: engines whose energy it corrects instead of learning all of it.

E = sum of the baseline's terms + tensor model. The labels are learned minus the baseline, which is
added again to each prediction. The difference is smaller and smoother than the energy, so that it
takes fewer labels (Ramakrishnan et al., J. Chem. Theory Comput. 11, 2087 (2015)).
"""

import logging
import shutil
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from ase import Atoms

from otf.arrays import Floats
from otf.engines.asking import ask
from otf.engines.labels import LabelFailure, Labels
from otf.engines.protocol import Engine
from otf.engines.registry import load_engine
from otf.errors import EngineError
from otf.model.tensor_energy import Prediction
from otf.units import MEV

_LOG = logging.getLogger("otf.baseline")

_KEPT = 4  # structures whose values are kept: those of a label are used several times


class BaselineError(EngineError, FloatingPointError):
    """The baseline has no value at a structure, so the model has none either."""


@dataclass(frozen=True, eq=False)
class TermSettings:
    """What defines a term of a baseline.

    Attributes
    ----------
    kind, options
        Engine and its options, as in a configuration.
    charge, spin
        Total charge (e) and number of unpaired electrons.
    """

    kind: str
    options: Mapping[str, Any]
    charge: int = 0
    spin: int = 0


class Term(Protocol):
    """A term of a baseline."""

    @property
    def name(self) -> str:
        """Name for messages."""
        ...

    def label(self, atoms: Atoms) -> Labels:
        """Energy, forces and stress of a structure, by these alone.

        Raises
        ------
        EngineError
            If there are none for this structure.
        """
        ...

    def close(self) -> None:
        """Release resources; it may be used again."""
        ...


class EngineTerm:
    """An engine as a term of a baseline, opened at its first use.

    Every label starts from scratch, so that it depends on its structure only.

    Parameters
    ----------
    settings
        Engine and options.
    scratch
        Folder for the engine's files; by default a temporary one.
    """

    def __init__(self, settings: TermSettings, scratch: Path | None = None) -> None:
        self.settings = settings
        self._scratch = scratch
        self._engine: Engine | None = None
        self._opened_for: tuple[bytes, ...] = ()

    @property
    def name(self) -> str:
        """Kind of the engine."""
        return self.settings.kind

    def label(self, atoms: Atoms) -> Labels:
        """Energy, forces and stress of a structure.

        Raises
        ------
        EngineError
            If the engine cannot be opened for such structures.
        BaselineError
            If it fails at this one.
        """
        answer = ask(self.engine_for(atoms), atoms, index=0)
        if isinstance(answer, LabelFailure):
            _LOG.warning("model.baseline: %s gives no forces: %s", self.name, answer.reason)
            raise BaselineError(
                f"model.baseline, {self.settings.kind}: no forces at this structure: "
                f"{answer.reason}. {answer.advice}; or leave the baseline out"
            )
        return answer

    def engine_for(self, atoms: Atoms) -> Engine:
        """The engine, opened for structures like this one.

        Raises
        ------
        EngineError
            If it cannot be opened.
        """
        kind = (atoms.numbers.tobytes(), atoms.pbc.tobytes())
        if self._engine is None or self._opened_for != kind:
            self.close()
            if self._scratch is None:
                self._scratch = Path(tempfile.mkdtemp(prefix="otf-baseline-"))
                weakref.finalize(self, shutil.rmtree, self._scratch, ignore_errors=True)
            settings = self.settings
            engine_class = load_engine(settings.kind)
            charge, spin = (settings.charge, settings.spin) if engine_class.has_charge else (0, 0)
            engine = engine_class(
                engine_class.Options.model_validate(dict(settings.options)),
                charge=charge,
                spin=spin,
            )
            bare = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
            try:
                engine.open(bare, self._scratch)
            except EngineError as error:
                raise EngineError(f"model.baseline, {settings.kind}: {error}") from error
            self._engine, self._opened_for = engine, kind
            weakref.finalize(self, engine.close)
        return self._engine

    def close(self) -> None:
        """Close the engine; it is opened again where it is needed."""
        if self._engine is not None:
            self._engine.close()
        self._engine = None

    def __getstate__(self) -> dict[str, Any]:
        """State without the open engine."""
        return {"settings": self.settings, "_scratch": None, "_engine": None, "_opened_for": ()}


@dataclass(frozen=True)
class BaselineGain:
    """Errors at labels that were left out of the fit, with and without a baseline.

    Attributes
    ----------
    terms
        The engines of the baseline.
    error, error_without
        Mean absolute error of a force component, eV/Angstrom.
    dropped
        Whether the baseline is not used any more.
    """

    terms: str
    error: float
    error_without: float
    dropped: bool

    def __str__(self) -> str:
        return (
            f"baseline {self.terms}: left-out error {self.error / MEV:.1f} meV/A, without it "
            f"{self.error_without / MEV:.1f}{'; it is dropped' if self.dropped else ''}"
        )


@dataclass(frozen=True, eq=False)
class Stepping:
    """Multiple time steps of the dynamics: engines of a baseline are not evaluated at every one.

    Attributes
    ----------
    fast
        The baseline of the steps between, with models of these engines in their place.
    every
        Most steps between evaluations of the engines.
    most_change
        Largest usual change of the other forces between evaluations, root mean square, eV/Angstrom.
        The engines are evaluated more often where it is exceeded.
    """

    fast: "Baseline"
    every: int
    most_change: float = float("inf")


@dataclass(frozen=True, eq=False)
class Baseline:
    """Sum of terms that the model corrects; without terms it is zero and costs nothing.

    Attributes
    ----------
    terms
        Engines, and models of engines.
    optional
        Whether it is dropped where it does not make the left-out errors smaller.
    stepping
        Multiple time steps of the dynamics; None if it is evaluated at every step.
    """

    terms: Sequence[Term] = ()
    optional: bool = False
    stepping: Stepping | None = None
    _latest: dict[tuple[bytes, ...], Labels] = field(default_factory=dict, repr=False)

    def __str__(self) -> str:
        return " + ".join(term.name for term in self.terms)

    def added_to(self, prediction: Prediction, atoms: Atoms) -> Prediction:
        """A prediction of the tensor model with the baseline of the structure added.

        Raises
        ------
        EngineError
            If the baseline cannot be computed.
        """
        if not self.terms:
            return prediction
        mine = self._labels(atoms)
        stress = None
        if prediction.stress is not None and mine.stress is not None:
            stress = prediction.stress + mine.stress
        return Prediction(
            prediction.energy + mine.energy,
            prediction.atomic_energies + _atomic(mine),
            prediction.forces + mine.forces,
            stress,
        )

    def subtracted_from(self, labels: Labels, atoms: Atoms, *, needs_stress: bool) -> Labels:
        """What is left of the labels of a structure for the tensor model.

        Parameters
        ----------
        needs_stress
            Whether the stress is to be learned.

        Raises
        ------
        EngineError
            If the baseline cannot be computed, or has no stress where it is needed.
        """
        if not self.terms:
            return labels
        mine = self._labels(atoms)
        if needs_stress and labels.stress is not None and mine.stress is None:
            raise EngineError(
                f"model.baseline ({self}): gives no stress, and the model is to learn it; use "
                "another baseline, or leave out constant pressure and model.stress_noise_GPa"
            )
        stress, atomic = None, None
        if labels.stress is not None and mine.stress is not None:
            stress = labels.stress - mine.stress
        if labels.atomic_energies is not None:
            atomic = labels.atomic_energies - _atomic(mine)
        return replace(
            labels,
            energy=labels.energy - mine.energy,
            forces=labels.forces - mine.forces,
            stress=stress,
            atomic_energies=atomic,
        )

    def _labels(self, atoms: Atoms) -> Labels:
        """The sum of the terms."""
        key = (
            atoms.numbers.tobytes(),
            atoms.positions.tobytes(),
            atoms.cell.array.tobytes(),
            atoms.pbc.tobytes(),
        )
        found = self._latest.get(key)
        if found is None:
            found = _sum([term.label(atoms) for term in self.terms])
            if len(self._latest) >= _KEPT:
                self._latest.pop(next(iter(self._latest)))
            self._latest[key] = found
        return found

    def close(self) -> None:
        """Close the engines."""
        for term in self.terms:
            term.close()


NO_BASELINE = Baseline()
"""Zero: the model learns all of the labels."""


def _sum(labels: Sequence[Labels]) -> Labels:
    stresses = [one.stress for one in labels if one.stress is not None]
    stress = np.sum(stresses, axis=0) if len(stresses) == len(labels) else None
    return Labels(
        energy=sum(one.energy for one in labels),
        forces=np.sum([one.forces for one in labels], axis=0),
        stress=stress,
        atomic_energies=np.sum([_atomic(one) for one in labels], axis=0),
    )


def _atomic(labels: Labels) -> Floats:
    """Atomic energies (N,), eV; equal shares where the engine has none."""
    if labels.atomic_energies is not None:
        return labels.atomic_energies
    n = len(labels.forces)
    return np.full(n, labels.energy / n)
