"""Tests that every engine must pass, as a class to inherit from.

For an engine of your own, in a test file::

    from otf.engines.contract import EngineContract

    class TestMyEngine(EngineContract):
        kind = "mine"
        options = {"command": "my-dft"}

Nothing here imports pytest: the checks are plain methods with asserts, found by their names.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

import numpy as np
from ase import Atoms
from ase.build import molecule

from otf.arrays import Floats
from otf.engines.labels import EngineReport, LabelFailure, Labels
from otf.engines.protocol import Engine
from otf.engines.registry import load_engine
from otf.errors import EngineError


def _rattled(name: str) -> Atoms:
    atoms = molecule(name)
    atoms.rattle(0.03, seed=7)
    return atoms


class EngineContract:
    """Checks of one engine; override the class attributes.

    Attributes
    ----------
    kind, options
        The engine and its options, as in a configuration.
    structure
        A distorted structure to test. Periodic engines also need ``crystal``.
    crystal
        A distorted periodic structure, or None if the engine is not periodic.
    energy_eV
        Reference energy of ``known``, compared within ``energy_tolerance_eV`` to catch wrong units.
        None to skip, if there is no reference.
    force_tolerance, stress_tolerance
        Agreement with finite differences, eV/Angstrom and eV/Angstrom^3.
    noise
        How far forces may change under a translation, eV/Angstrom (real-space grids: some meV).
    step
        Displacement of the finite differences, Angstrom.
    """

    kind: ClassVar[str]
    options: ClassVar[dict[str, Any]] = {}
    structure: ClassVar[Atoms] = _rattled("CH4")
    crystal: ClassVar[Atoms | None] = None
    known: ClassVar[Atoms] = molecule("H2O")
    energy_eV: ClassVar[float | None] = None
    energy_tolerance_eV: ClassVar[float] = 0.05
    force_tolerance: ClassVar[float] = 1e-3
    stress_tolerance: ClassVar[float] = 1e-4
    noise: ClassVar[float] = 1e-4
    step: ClassVar[float] = 5e-3

    @contextmanager
    def opened(self, atoms: Atoms) -> Iterator[Engine]:
        """An engine ready for ``atoms``, closed afterwards."""
        engine_class = load_engine(self.kind)
        engine = engine_class(engine_class.Options.model_validate(self.options), charge=0, spin=0)
        with TemporaryDirectory(prefix="otf-contract-") as scratch:
            try:
                engine.open(atoms, Path(scratch))
                yield engine
            finally:
                engine.close()

    @staticmethod
    def labels(engine: Engine, atoms: Atoms, index: int = 0) -> Labels:
        """A label that must succeed."""
        answer = engine.label(atoms, index=index)
        assert isinstance(answer, Labels), f"no label: {answer.reason}"
        problem = answer.problem(len(atoms))
        assert problem is None, problem
        return answer

    def structures(self) -> list[Atoms]:
        """Structures that the checks use."""
        return [s for s in (self.structure, self.crystal) if s is not None]

    def test_labels_are_complete(self) -> None:
        """Every claimed capability is delivered, and provenance and cost are reported."""
        for atoms in self.structures():
            with self.opened(atoms) as engine:
                labels = self.labels(engine, atoms)
                claims = engine.capabilities
            assert labels.provenance
            assert labels.wall_s > 0
            if claims.atomic_energies:
                assert labels.atomic_energies is not None
                np.testing.assert_allclose(labels.atomic_energies.sum(), labels.energy, rtol=1e-8)
            if atoms.pbc.all() and claims.stress:
                assert labels.stress is not None
                np.testing.assert_allclose(labels.stress, labels.stress.T, atol=1e-8)

    def test_forces_are_minus_the_gradient(self) -> None:
        """Forces against central differences of the energy, along random directions."""
        rng = np.random.default_rng(3)
        for atoms in self.structures():
            with self.opened(atoms) as engine:
                forces = self.labels(engine, atoms).forces
                for _ in range(3):
                    direction = rng.normal(size=forces.shape)
                    direction /= np.linalg.norm(direction)
                    slope = self._slope(engine, atoms, direction)
                    assert abs(slope + np.sum(forces * direction)) < self.force_tolerance

    def _slope(self, engine: Engine, atoms: Atoms, direction: Floats) -> float:
        energies = []
        for sign in (1.0, -1.0):
            moved = atoms.copy()
            moved.positions += sign * self.step * direction
            energies.append(self.labels(engine, moved).energy)
        return (energies[0] - energies[1]) / (2.0 * self.step)

    def test_stress_is_the_strain_derivative(self) -> None:
        """Stress against the energies of strained cells."""
        if self.crystal is None:
            return
        with self.opened(self.crystal) as engine:
            stress = self.labels(engine, self.crystal).stress
            if stress is None:
                assert not engine.capabilities.stress or self.kind == "ase"
                return
            for a, b in ((0, 0), (0, 1), (2, 2)):
                energies = []
                for sign in (1.0, -1.0):
                    strain = np.eye(3)
                    strain[a, b] += 0.5 * sign * self.step
                    strain[b, a] += 0.5 * sign * self.step
                    strained = self.crystal.copy()
                    strained.set_cell(self.crystal.cell.array @ strain, scale_atoms=True)
                    energies.append(self.labels(engine, strained).energy)
                slope = (energies[0] - energies[1]) / (2.0 * self.step)
                assert abs(slope / self.crystal.get_volume() - stress[a, b]) < self.stress_tolerance

    def test_labels_are_repeatable(self) -> None:
        """The same structure gives the same label, also after the engine is opened again."""
        answers = []
        for _ in range(2):
            with self.opened(self.structure) as engine:
                answers += [self.labels(engine, self.structure) for _ in range(2)]
        for other in answers[1:]:
            assert abs(other.energy - answers[0].energy) < 1e-6
            np.testing.assert_allclose(other.forces, answers[0].forces, atol=self.noise)

    def test_label_does_not_change_the_structure(self) -> None:
        """The engine does not modify the structure it is given."""
        atoms = self.structure.copy()
        with self.opened(atoms) as engine:
            self.labels(engine, atoms)
        assert atoms == self.structure

    def test_translation_changes_nothing(self) -> None:
        """A rigid shift leaves energy and forces unchanged."""
        for atoms in self.structures():
            shifted = atoms.copy()
            shifted.positions += (0.11, -0.07, 0.05)
            with self.opened(atoms) as engine:
                one, other = self.labels(engine, atoms), self.labels(engine, shifted)
            assert abs(one.energy - other.energy) < 10 * self.noise
            np.testing.assert_allclose(one.forces, other.forces, atol=self.noise)

    def test_units_by_a_known_molecule(self) -> None:
        """The energy is in eV."""
        if self.energy_eV is None:
            return
        with self.opened(self.known) as engine:
            assert abs(self.labels(engine, self.known).energy - self.energy_eV) < (
                self.energy_tolerance_eV
            )

    def test_failure_is_a_value_with_a_reason(self) -> None:
        """Two coincident atoms: a failure with a reason, or labels that are clearly wrong."""
        broken = self.structure.copy()
        broken.positions[1] = broken.positions[0]
        with self.opened(self.structure) as engine:
            answer = engine.label(broken, index=0)
        if isinstance(answer, LabelFailure):
            assert answer.reason
            assert answer.advice
        else:
            impossible = abs(answer.energy) > 1e4 or np.abs(answer.forces).max() > 1e2
            assert answer.problem(len(broken)) is not None or impossible

    def test_labels_after_a_failure(self) -> None:
        """A failed label does not affect later ones."""
        broken = self.structure.copy()
        broken.positions[1] = broken.positions[0]
        with self.opened(self.structure) as engine:
            before = self.labels(engine, self.structure)
            engine.label(broken, index=1)
            after = self.labels(engine, self.structure, index=2)
        np.testing.assert_allclose(after.forces, before.forces, atol=self.noise)

    def test_closed_twice_and_opened_again(self) -> None:
        """Closing is idempotent and an engine can be opened again."""
        with self.opened(self.structure) as engine:
            before = self.labels(engine, self.structure)
            engine.close()
            engine.close()
            with TemporaryDirectory() as scratch:
                engine.open(self.structure, Path(scratch))
                after = self.labels(engine, self.structure)
                engine.close()  # its processes write into the directory
        np.testing.assert_allclose(after.forces, before.forces, atol=self.noise)

    def test_label_before_open_is_refused(self) -> None:
        """A label before ``open`` raises a clear error."""
        engine_class = load_engine(self.kind)
        engine = engine_class(engine_class.Options.model_validate(self.options), charge=0, spin=0)
        refusal = ""
        try:
            engine.label(self.structure, index=0)
        except EngineError as error:
            refusal = str(error)
        assert "open" in refusal

    def test_doctor_reports_the_version(self) -> None:
        """The report that ``otf doctor`` prints has a version."""
        report = load_engine(self.kind).doctor()
        assert isinstance(report, EngineReport)
        assert report.available
        assert report.version
