"""Results of an engine: labels, or the reason why a label failed."""

from dataclasses import dataclass, field, replace

import numpy as np

from otf.arrays import Floats


@dataclass(frozen=True, eq=False)
class Labels:
    """Energy and its derivatives for one structure, as computed by an engine.

    Attributes
    ----------
    energy
        Energy consistent with the forces (the free energy with smearing), eV.
    forces
        (N, 3), eV/Angstrom.
    stress
        (3, 3), eV/Angstrom^3, ASE's sign: +(1/V) dE/dstrain. None if the engine has none.
    atomic_energies
        (N,), eV, or None.
    scf_iterations
        SCF iterations, or None if the engine does not report them.
    wall_s
        Wall time of the label, seconds.
    provenance
        Engine, version and method in one line.
    level
        Energy of its electronic state above that of the other labels, eV, with the same forces; 0
        if it is the same state. The energy of another state is not learned.
    """

    energy: float
    forces: Floats
    stress: Floats | None = None
    atomic_energies: Floats | None = None
    scf_iterations: int | None = None
    wall_s: float = 0.0
    provenance: str = ""
    level: float = 0.0

    @property
    def net_force(self) -> float:
        """Largest component of the mean force, eV/Angstrom; zero for exact forces of free atoms.

        >>> Labels(0.0, np.array([[0.5, 0.0, 0.0], [-0.25, 0.0, 0.0]])).net_force
        0.125
        """
        return float(np.abs(self.forces.mean(axis=0)).max())

    def without_net_force(self) -> "Labels":
        """The labels with the mean force subtracted from that of every atom.

        >>> Labels(0.0, np.array([[0.5, 0.0, 0.0], [0.0, 0.0, 0.0]])).without_net_force().forces
        array([[ 0.25,  0.  ,  0.  ],
               [-0.25,  0.  ,  0.  ]])
        """
        return replace(self, forces=self.forces - self.forces.mean(axis=0))

    def problem(self, n_atoms: int) -> str | None:
        """Why these labels must not be learned (a wrong shape, a NaN), or None.

        >>> import numpy as np
        >>> Labels(1.0, np.zeros((2, 3))).problem(2)
        >>> Labels(1.0, np.zeros((2, 3))).problem(3)
        'forces have shape (2, 3), expected (3, 3)'
        >>> Labels(float("nan"), np.zeros((2, 3))).problem(2)
        'energy is not finite'
        """
        expected = {
            "energy": ((), np.asarray(self.energy)),
            "forces": ((n_atoms, 3), self.forces),
            "stress": ((3, 3), self.stress),
            "atomic_energies": ((n_atoms,), self.atomic_energies),
        }
        for name, (shape, value) in expected.items():
            if value is None:
                continue
            verb = "is" if name in ("energy", "stress") else "are"
            if value.shape != shape:
                has = "has" if verb == "is" else "have"
                return f"{name} {has} shape {value.shape}, expected {shape}"
            if not np.isfinite(value).all():
                return f"{name} {verb} not finite"
        return None


@dataclass(frozen=True)
class LabelFailure:
    """A label that could not be computed: an expected outcome, not an exception.

    Attributes
    ----------
    reason
        What happened, in the engine's terms.
    advice
        What the user can do when no remedy helps.
    remedy
        Name of the one remedy the engine can apply to this failure, or None. The caller asks again
        with the remedy added, at most once per remedy.
    """

    reason: str
    advice: str
    remedy: str | None = None


class Disbelieved(LabelFailure):
    """A label that was computed, but cannot be true; it is kept apart from the others."""


@dataclass(frozen=True)
class EngineReport:
    """State of an engine, as printed by ``otf doctor``.

    Attributes
    ----------
    available
        Whether a label could be computed here and now.
    version
        Version of the underlying program, empty if it is missing.
    notes
        One line each: threads, data paths, what is missing and how to get it.
    """

    available: bool
    version: str
    notes: list[str] = field(default_factory=list)
