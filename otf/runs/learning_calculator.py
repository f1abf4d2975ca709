"""An ASE calculator that learns: it answers by the model, or by the engine where it must."""

import logging
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Self

import numpy as np
import yaml
from ase import Atoms
from ase.calculators.calculator import CalculationFailed, Calculator, all_changes
from ase.stress import full_3x3_to_voigt_6_stress

from otf.arrays import Floats
from otf.config import Config
from otf.config.reader import config_of
from otf.config.schema import STRESS_NOISE_GPA
from otf.driver.expected import expected_by
from otf.engines.labels import LabelFailure, Labels
from otf.engines.protocol import Engine
from otf.errors import FileError, RunError
from otf.io.durable import replace_file, sole_owner
from otf.io.labels import LabelFile
from otf.learning.calculator import ModelCalculator
from otf.learning.trainer import Trainer
from otf.model.descriptor import displaced
from otf.runs.assemble import make_labeller, make_trainer
from otf.runs.baseline import make_baseline
from otf.runs.directory import RunDirectory
from otf.runs.earlier import digest_of
from otf.runs.run import EngineSpec, engine_of, engine_section
from otf.units import MEV

_LOG = logging.getLogger("otf.calculator")

_FEWEST = 2  # labels, before which the model has no errors
_WORST = 2.0  # targets that the predicted error of an atom may reach
_SHARE = 0.5  # of the largest force: errors beyond it would lead astray


class NoAnswerError(RunError, CalculationFailed):  # type: ignore[misc]  # ase is not typed
    """The engine gives no label of a structure, or the model cannot describe it."""


class LearningCalculator(Calculator):  # type: ignore[misc]  # ase is not typed
    """Energy, forces and stress by a model that is trained on the engine's answers as needed.

    The engine is asked where the predicted error of an atom exceeds twice the target, or half of
    the largest force, so that a relaxation ends where the engine's would. Any driver of ASE can use
    it: relaxations, nudged elastic bands (one calculator for all images, with
    ``allow_shared_calculator=True``), finite displacements, molecular dynamics of one's own.

    Parameters
    ----------
    engine
        See :data:`otf.runs.run.EngineSpec`.
    directory
        Folder of the labels; those already there are learned first, and none is computed twice.
    force_target_meV_A
        Error of a force component that is small enough.
    check_every
        Number of answers of the model, on average, between those that the engine checks at random;
        0 for no checks.
    config
        Further sections of a configuration: ``{"model": {…}, "system": {"charge": 1}}``.

    Attributes
    ----------
    answers
        How often the model has answered.
    checked_errors
        Mean absolute force errors of the answers that were checked at random, eV/Angstrom.

    Raises
    ------
    ConfigError, EngineError
        If the engine or the model cannot be made.
    FileError
        If the directory is in use, or has labels of another engine.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> from ase.build import molecule
    >>> from ase.optimize import BFGS
    >>> atoms = molecule("H2O")
    >>> with TemporaryDirectory() as folder, LearningCalculator("tblite", folder) as atoms.calc:
    ...     converged = BFGS(atoms, logfile=None).run(fmax=0.02)
    ...     confirmed = atoms.calc.by_engine(atoms).forces
    >>> bool(converged), bool(np.abs(confirmed).max() < 0.04)
    (True, True)
    """

    implemented_properties: ClassVar[list[str]] = ["energy", "free_energy", "forces", "stress"]

    def __init__(
        self,
        engine: EngineSpec,
        directory: str | Path,
        *,
        force_target_meV_A: float = 20.0,
        check_every: int = 0,
        config: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
    ) -> None:
        super().__init__()
        sections: dict[str, Any] = {name: dict(part) for name, part in config.items()}
        sections["engine"] = engine_section(engine)
        sections["system"] = {"molecule": "H", **sections.get("system", {})}
        self._config = config_of({"dynamics": {"steps": 1}, **sections}, Path())
        self._engine: Engine = engine_of(self._config, engine)
        self._files = RunDirectory(Path(directory))
        self._target = force_target_meV_A * MEV
        self._trainer: Trainer | None = None
        self._opened_for: tuple[bytes, bytes] | None = None
        self._known: dict[bytes, Labels] = {}
        self.answers = 0
        self.checked_errors: list[float] = []
        self._check_every = check_every
        self._files.path.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            stack.enter_context(sole_owner(self._files.lock))
            self._require_same_engine()
            self._labels = stack.enter_context(closing(LabelFile(self._files.labels)))
            stack.callback(self._engine.close)
            self._open_files = stack.pop_all()
        self._random = np.random.default_rng(self.n_labels)

    @property
    def n_labels(self) -> int:
        """Number of answers of the engine, with those of earlier sessions."""
        return len(self._labels)

    @property
    def model(self) -> ModelCalculator:
        """The present model, as a calculator that learns no more.

        Raises
        ------
        NoAnswerError
            If it has learned nothing yet.
        """
        if self._trainer is None or not self._trainer.has_learned:
            raise NoAnswerError("there is no model yet: nothing was learned")
        return ModelCalculator(self._trainer.force_model)

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = tuple(all_changes),
    ) -> None:
        """Fill ``results``; called by ASE.

        Raises
        ------
        NoAnswerError
            If the engine gives no label.
        """
        super().calculate(atoms, list(properties), list(system_changes))
        trainer = self._trainer_for(self.atoms)
        known = self._known.get(_key(self.atoms))
        if known is None and trainer.n_labels >= _FEWEST:
            predicted = trainer.predict(self.atoms)
            limit = min(_WORST * self._target, _SHARE * _largest(predicted.forces, self.atoms))
            limit /= max(1.0, trainer.force_model.scale.factor)
            if trainer.worst_error(self.atoms, enough=limit, turn=self.answers) <= limit:
                self.answers += 1
                if self._check_every and self._random.random() < 1.0 / self._check_every:
                    error = predicted.forces - self.by_engine(self.atoms).forces
                    self.checked_errors.append(float(np.abs(error).mean()))
                self._answer(predicted.energy, predicted.forces, predicted.stress)
                return
        labels = self.by_engine(self.atoms) if known is None else known
        self._answer(labels.energy, labels.forces, labels.stress)

    def by_engine(self, atoms: Atoms) -> Labels:
        """The label of a structure, which is learned; to confirm where a relaxation has ended.

        Raises
        ------
        NoAnswerError
            If the engine gives none.
        """
        trainer = self._trainer_for(atoms)
        known = self._known.get(_key(atoms))
        if known is not None:
            return known
        self._open(atoms)
        index = len(self._labels)
        labels = make_labeller(self._config, self._engine, self._labels).label(
            atoms, index=index, step=index, expected=expected_by(trainer, atoms, noise=0.0)
        )
        if isinstance(labels, LabelFailure):
            raise NoAnswerError(f"{labels.reason}. {labels.advice}")
        self._learn(trainer, index, atoms, labels)
        return labels

    def __enter__(self) -> Self:
        """Return the calculator, which is closed at the end of the context."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def close(self) -> None:
        """End the engine, and let others use the directory."""
        self._open_files.close()

    def _require_same_engine(self) -> None:
        """Refuse a folder with labels that are not of this engine with these settings.

        Raises
        ------
        FileError
            If it is one, or a run.
        """
        folder, system = self._files.path, self._config.system
        if self._files.config.exists():
            raise FileError(f"{folder}: is a run; choose another directory")
        engine = {
            "engine": self._config.engine.kind,
            "settings": digest_of(self._config),
            "charge": system.charge,
            "spin": system.spin,
        }
        file = folder / "engine.yaml"
        if not file.exists():
            replace_file(file, lambda aside: aside.write_text(yaml.safe_dump(engine)))
        elif yaml.safe_load(file.read_text()) != engine:
            raise FileError(
                f"{folder}: has labels of another engine, or of other settings (engine.yaml); "
                "choose another directory"
            )

    def _trainer_for(self, atoms: Atoms) -> Trainer:
        """The trainer, made at the first structure, with the stored labels learned."""
        if self._trainer is None:
            section = self._config.model
            if atoms.pbc.all() and self._engine.capabilities.stress:
                section = section.model_copy(update={"stress_noise_GPa": STRESS_NOISE_GPA})
            system = self._config.system
            baseline = make_baseline(section, atoms, charge=system.charge, spin=system.spin)
            self._open_files.callback(baseline.close)
            self._trainer = make_trainer(section, displaced(atoms, seed=0), baseline=baseline)
            for stored in (self._labels[i] for i in range(len(self._labels))):
                self._learn(self._trainer, stored.index, stored.atoms, stored.labels)
        species = self._trainer.model.descriptor.species
        unknown = sorted(set(atoms.numbers.tolist()) - set(np.asarray(species).tolist()))
        if unknown:
            names = " ".join(Atoms(unknown).get_chemical_symbols())
            raise NoAnswerError(
                f"the model in {self._files.path} has no {names}; use another LearningCalculator, "
                "in another directory"
            )
        return self._trainer

    def _learn(self, trainer: Trainer, index: int, atoms: Atoms, labels: Labels) -> None:
        # Each a trajectory of its own: structures of different images follow each other.
        bare = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
        trainer.learn(bare, labels, time_fs=0.0, audited=True, trajectory=index)
        self._known[_key(atoms)] = labels
        _LOG.info("label %d: %d answers of the model so far", index, self.answers)

    def _open(self, atoms: Atoms) -> None:
        """Open the engine for structures like this one, if it is not."""
        kind = atoms.numbers.tobytes(), atoms.pbc.tobytes()
        if self._opened_for != kind:
            self._engine.close()
            bare = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
            self._engine.open(bare, self._files.scratch)
            self._opened_for = kind

    def _answer(self, energy: float, forces: Floats, stress: Floats | None) -> None:
        self.results = {"energy": energy, "free_energy": energy, "forces": forces.copy()}
        if stress is not None:
            self.results["stress"] = full_3x3_to_voigt_6_stress(stress)


def learning(
    config: Config, directory: Path, *, check_every: int = 0, target_meV_A: float | None = None
) -> LearningCalculator:
    """A calculator with engine, model and target of a configuration; see its parameters.

    Parameters
    ----------
    target_meV_A
        Replaces that of the configuration.

    Raises
    ------
    ConfigError, EngineError, FileError
        If it cannot be made.
    """
    system = config.system
    return LearningCalculator(
        {"kind": config.engine.kind, **config.engine.options},
        directory,
        force_target_meV_A=target_meV_A or config.policy.force_target_meV_A,
        check_every=check_every,
        config={
            "system": {"charge": system.charge, "spin": system.spin},
            "model": config.model.model_dump(mode="json", exclude_unset=True),
        },
    )


def _key(atoms: Atoms) -> bytes:
    parts = (atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc)
    return b"".join(np.ascontiguousarray(part).tobytes() for part in parts)


def _largest(forces: Floats, atoms: Atoms) -> float:
    """Largest force on an atom that may move, eV/Angstrom."""
    free = forces.copy()
    for constraint in atoms.constraints:
        constraint.adjust_forces(atoms, free)
    return float(np.sqrt((free**2).sum(axis=1)).max())
