"""DFT labels for molecules by PySCF, warm-started from earlier labels."""

import os
import time
import warnings
from collections.abc import Collection
from contextlib import suppress
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from ase import Atoms
from pydantic import BaseModel, ConfigDict, Field

from otf.engines.extras import install_command
from otf.engines.failures import FROM_SCRATCH
from otf.engines.labels import EngineReport, LabelFailure, Labels
from otf.engines.protocol import (
    Capabilities,
    DensityGuess,
    Engine,
    FinishedCalculation,
    ForceCheck,
    WarmStart,
)
from otf.errors import EngineError
from otf.orbitals.block_matrices import Matrices
from otf.units import BOHR, HARTREE
from otf_pyscf.finished import matrices_of, read_finished
from otf_pyscf.one_shot import FORCE_ERROR_PER_ROTATION, take_as_answer
from otf_pyscf.orbitals import from_blocks, shells_of

if TYPE_CHECKING:
    from otf.arrays import Floats

LEVEL_SHIFT = "level shift and more iterations"


class Options(BaseModel):
    """Keys of the ``engine`` section."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    xc: str = Field("pbe", description="functional, as PySCF names it")
    basis: str = Field("def2-svp", description="orbital basis, as PySCF names it")
    grid_level: Annotated[int, Field(ge=0, le=9)] = Field(3, description="integration grid")
    grid_response: bool = Field(
        True,
        description="include the response of the grid in the forces; without it they deviate "
        "from the derivative of the energy by some meV/Angstrom",
    )
    density_fitting: bool = Field(
        False, description="faster Coulomb integrals, for pure functionals"
    )
    tolerance_eV: Annotated[float, Field(gt=0)] = Field(
        1e-7, description="SCF tolerance of the energy"
    )
    max_iterations: Annotated[int, Field(gt=0)] = 50
    warm_start: WarmStart = Field(
        "auto",
        description="initial density guess: the density matrix of the last label (previous), one "
        "fitted to the latest overlaps (extrapolate), one from the matrices learned so far "
        "(learned), or whichever was closest recently (auto); open shells use previous only",
    )
    mode: Literal["scf", "one_shot"] = Field(
        "scf",
        description="one_shot: if the estimated force error of the learned density matrix is below "
        "one_shot_error_meV_A, forces are computed from it without self-consistency",
    )
    one_shot_error_meV_A: Annotated[float, Field(gt=0, allow_inf_nan=False)] = Field(
        1.0, description="largest error of a force component that mode one_shot accepts"
    )
    threads: Annotated[int, Field(gt=0)] | None = Field(
        None,
        description="default: all; with 1, a label that is repeated after a kill is bitwise "
        "identical",
    )


class PyscfEngine(Engine):
    """PySCF, in this process."""

    kind: ClassVar[str] = "pyscf"
    Options: ClassVar[type[BaseModel]] = Options
    with_matrices: ClassVar[dict[str, str | bool]] = {"warm_start": "learned"}
    may_change: ClassVar[tuple[str, ...]] = (
        "warm_start", "mode", "one_shot_error_meV_A", "threads", "max_iterations",
    )  # fmt: skip
    without_effect: ClassVar[tuple[str, ...]] = ("warm_start", "threads", "max_iterations")

    def __init__(self, options: BaseModel, *, charge: int, spin: int) -> None:
        assert isinstance(options, Options)
        self._options = options
        self._charge = charge
        self._spin = spin
        self._scratch: Path | None = None
        self._molecule: Any = None
        self._matrices: Matrices | None = None

    @property
    def warm_start(self) -> WarmStart:
        """Open shells start from the label before: only closed shells are learned."""
        return "previous" if self._spin else self._options.warm_start

    @property
    def capabilities(self) -> Capabilities:
        """Molecules only."""
        return Capabilities(
            periodic=False,
            stress=False,
            atomic_energies=False,
            level="DFT",
            matrices=self.warm_start != "previous",
            force_check=self.warm_start in ("auto", "learned"),
        )

    def open(self, atoms: Atoms, scratch: Path) -> None:
        """Set up the molecule, basis and functional.

        Raises
        ------
        EngineError
            If PySCF is missing or rejects the molecule, the basis or the functional.
        """
        try:
            from pyscf import dft, gto, lib
        except ImportError as error:
            raise EngineError(
                f"engine 'pyscf' needs PySCF ({error}): {install_command('dft')}"
            ) from error
        if self._options.mode == "one_shot" and self.warm_start == "previous":
            raise EngineError(
                "engine.mode: one_shot needs learned density matrices: closed shells, and "
                "engine.warm_start auto or learned"
            )
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # PySCF recommends basis-set-exchange
                self._molecule = gto.M(
                    atom=_geometry(atoms),
                    unit="Angstrom",
                    basis=self._options.basis,
                    ecp=_core_potentials(self._options.basis, set(atoms.symbols)),
                    charge=self._charge,
                    spin=self._spin,
                    verbose=0,
                )
            dft.libxc.parse_xc(self._options.xc)
        except (RuntimeError, KeyError, ValueError, AssertionError) as error:
            # PySCF signals a bad basis, functional, charge or spin with any of these.
            raise EngineError(
                f"PySCF rejects this molecule: {type(error).__name__}: {error}; check "
                "engine.basis, engine.xc, system.charge and system.spin (unpaired electrons)"
            ) from error
        if self._options.threads is not None:
            lib.num_threads(self._options.threads)
        self._scratch = scratch
        scratch.mkdir(parents=True, exist_ok=True)

    def label(
        self,
        atoms: Atoms,
        *,
        index: int,
        remedies: Collection[str] = (),
        guess: DensityGuess | None = None,
    ) -> Labels | LabelFailure:
        """See :class:`otf.engines.protocol.LabelSource`."""
        if self._scratch is None:
            raise EngineError("the pyscf engine was not opened")
        self._matrices = None
        began = time.perf_counter()
        self._molecule.set_geom_(_geometry(atoms), unit="Angstrom")
        if guess is not None and not self._is_of_this_basis(guess):
            guess = None  # the first label after a change of the basis
        if guess is not None and self._options.mode == "one_shot" and not remedies:
            labels = self._one_shot(guess, index, began)
            if labels is not None:
                return labels
        mean_field = self._mean_field(remedies)
        cycles = [0]

        def count(environment: dict[str, Any]) -> None:
            cycles[0] = int(environment["cycle"]) + 1

        mean_field.callback = count
        start = None
        if FROM_SCRATCH not in remedies:
            start = self._density_before(index)
            if guess is not None:
                start = from_blocks(guess.density_matrix, self._molecule)
        if start is not None:
            # A plain step from a good initial guess overshoots: DIIS must start at once.
            mean_field.diis_start_cycle = 0
        try:
            mean_field.kernel(dm0=start)
        except (RuntimeError, ValueError, np.linalg.LinAlgError) as error:
            return LabelFailure(
                f"PySCF: {type(error).__name__}: {error}", "look at the structure at this step"
            )
        if not mean_field.converged:
            first = start is not None
            return LabelFailure(
                f"PySCF: the SCF did not converge in {mean_field.max_cycle} cycles",
                "look at the structure at this step; engine.max_iterations can be raised",
                remedy=FROM_SCRATCH if first else LEVEL_SHIFT,
            )
        labels = self._labels(mean_field, index, cycles[0], began)
        self._matrices = None if self._spin else _matrices(mean_field, self._options.basis)
        return labels

    def check_forces(
        self, atoms: Atoms, *, index: int, guess: DensityGuess | None = None
    ) -> ForceCheck | None:
        """See :class:`otf.engines.protocol.LabelSource`."""
        if guess is None or not self._is_of_this_basis(guess):
            return None
        self._molecule.set_geom_(_geometry(atoms), unit="Angstrom")
        mean_field, within = self._taken(guess)
        return ForceCheck(self._forces(mean_field), within)

    def one_step(self, atoms: Atoms, *, index: int, guess: DensityGuess) -> Matrices | LabelFailure:
        """See :meth:`otf.engines.protocol.Engine.one_step`."""
        self._molecule.set_geom_(_geometry(atoms), unit="Angstrom")
        mean_field = self._mean_field(())
        density = from_blocks(guess.density_matrix, self._molecule)
        hamiltonian = mean_field.get_fock(dm=density)
        energies, orbitals = mean_field.eig(hamiltonian, mean_field.get_ovlp())
        mean_field.mo_energy, mean_field.mo_coeff = energies, orbitals
        mean_field.mo_occ = mean_field.get_occ(energies, orbitals)
        return _matrices(mean_field, self._options.basis)

    def matrices(self) -> Matrices | None:
        """See :class:`otf.engines.protocol.LabelSource`."""
        return self._matrices

    def close(self) -> None:
        """Release the molecule."""
        self._matrices = None
        self._scratch = None
        self._molecule = None

    @classmethod
    def finished(cls, folder: Path) -> FinishedCalculation | None:
        """See :meth:`otf.engines.protocol.Engine.finished`."""
        return read_finished(folder)

    @classmethod
    def doctor(cls) -> EngineReport:
        """Version and threads."""
        try:
            found = version("pyscf")
        except PackageNotFoundError:
            return EngineReport(False, "", [install_command("dft")])
        threads = os.environ.get("OMP_NUM_THREADS", f"{os.cpu_count()} (OMP_NUM_THREADS not set)")
        return EngineReport(True, found, ["DFT, molecules only", f"threads: {threads}"])

    def _is_of_this_basis(self, guess: DensityGuess) -> bool:
        return guess.density_matrix.has_shells(shells_of(self._molecule))

    def _one_shot(self, guess: DensityGuess, index: int, began: float) -> Labels | None:
        """Label from an initial density guess without SCF; None if that is not accurate enough.

        Its matrices are not reported, as the model would learn its own prediction.
        """
        mean_field, within = self._taken(guess)
        if not 1e3 * within < self._options.one_shot_error_meV_A:
            return None
        how = f" (one shot, forces within {1e3 * within:.2f} meV/A)"
        return self._labels(mean_field, index, 0, began, how)

    def _taken(self, guess: DensityGuess) -> tuple[Any, float]:
        """Calculation at an initial density guess, and a bound on its force errors, eV/Angstrom."""
        mean_field = self._mean_field(())
        rotation = take_as_answer(mean_field, from_blocks(guess.density_matrix, self._molecule))
        return mean_field, FORCE_ERROR_PER_ROTATION * rotation

    def _forces(self, mean_field: Any) -> "Floats":
        """Forces (N, 3) of a finished calculation, eV/Angstrom."""
        gradient = mean_field.nuc_grad_method()
        gradient.grid_response = self._options.grid_response
        return -np.asarray(gradient.kernel()) * (HARTREE / BOHR)

    def _labels(
        self, mean_field: Any, index: int, cycles: int, began: float, how: str = ""
    ) -> Labels:
        """Energy and forces of a finished calculation; its density matrix is kept."""
        forces = self._forces(mean_field)
        self._keep_density(index, np.asarray(mean_field.make_rdm1()))
        method = f"{self._options.xc}/{self._options.basis}"
        return Labels(
            energy=float(mean_field.e_tot) * HARTREE,
            forces=forces,
            scf_iterations=cycles,
            wall_s=time.perf_counter() - began,
            provenance=f"pyscf {version('pyscf')} {method}{how}",
        )

    def _mean_field(self, remedies: Collection[str]) -> Any:
        from pyscf import dft

        options = self._options
        mean_field = (dft.UKS if self._spin else dft.RKS)(self._molecule, xc=options.xc)
        if options.density_fitting:
            mean_field = mean_field.density_fit()
        mean_field.grids.level = options.grid_level
        mean_field.conv_tol = options.tolerance_eV / HARTREE
        mean_field.max_cycle = options.max_iterations
        # The energy error is quadratic in the gradient: waiting for the energy to settle as well
        # would cost every warm-started label another iteration.
        mean_field.check_convergence = _is_stationary
        if LEVEL_SHIFT in remedies:
            mean_field.level_shift = 0.3
            mean_field.max_cycle = 4 * options.max_iterations
        return mean_field

    def _density_file(self, index: int) -> Path:
        assert self._scratch is not None
        return self._scratch / f"density_{index:06d}.npy"

    def _density_before(self, index: int) -> "Floats | None":
        """Density matrix of label index - 1; None if missing, damaged, or of another molecule."""
        orbitals = int(self._molecule.nao)
        shape = (2, orbitals, orbitals) if self._spin else (orbitals, orbitals)
        try:
            density: Floats = np.load(self._density_file(index - 1), allow_pickle=False)
        except (OSError, ValueError, EOFError):
            return None
        return density if density.shape == shape and np.isfinite(density).all() else None

    def _keep_density(self, index: int, density: "Floats") -> None:
        """Keep this density and the one before it, which a resumed run may need again."""
        target = self._density_file(index)
        aside = target.with_suffix(".new.npy")
        np.save(aside, density)
        aside.replace(target)
        self._density_file(index - 2).unlink(missing_ok=True)


def _is_stationary(environment: dict[str, Any]) -> bool:
    """Whether the orbital gradient is below its tolerance, the square root of the energy's."""
    return bool(environment["norm_gorb"] < environment["conv_tol_grad"])


def _matrices(mean_field: Any, basis: str) -> Matrices:
    """Matrices of a converged closed shell."""
    found = matrices_of(
        mean_field.mol,
        np.asarray(mean_field.get_ovlp()),
        mean_field.mo_energy,
        mean_field.mo_coeff,
        mean_field.mo_occ,
    )
    return replace(found, basis=basis)


def _core_potentials(basis: str, symbols: Collection[str]) -> dict[str, str]:
    """Elements whose basis requires an effective core potential."""
    from pyscf.gto.basis import load_ecp

    found = {}
    for symbol in symbols:
        with suppress(KeyError, RuntimeError, ValueError):  # PySCF has none
            if load_ecp(basis, symbol):
                found[symbol] = basis
    return found


def _geometry(atoms: Atoms) -> list[tuple[str, Any]]:
    return list(zip(atoms.get_chemical_symbols(), atoms.positions.tolist(), strict=True))
