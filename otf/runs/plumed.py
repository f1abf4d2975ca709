"""Biases by PLUMED: its files in the run directory, and the forces that it adds.

A segment is integrated several times, and PLUMED cannot take back what it has added to a bias. It
is therefore started anew for every integration, from its output files as they were committed: they
are cut to their committed length before. What PLUMED reads back from them is all that a bias
remembers, in an undisturbed run as in one that was killed and resumed.

PLUMED: Tribello, Bonomi, Branduardi, Camilloni and Bussi, Comput. Phys. Commun. 185, 604 (2014).
"""

import importlib
import os
from collections.abc import Iterator, Mapping
from contextlib import chdir, closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from ase import Atoms

from otf.arrays import Floats
from otf.config import Config
from otf.config.dynamics import Dynamics
from otf.dynamics.bias import AddedForces, BiasState, Pushed
from otf.dynamics.integrators import Acting
from otf.errors import ConfigError, FileError, RunError
from otf.runs.plumed_input import INPUT, keep_input, paces, problem_of, read_by
from otf.units import KELVIN, KJ_PER_MOL

_LOG_FILE = "plumed.log"
_INSTALL = (
    "install it with its Python module (conda install -c conda-forge py-plumed), or install the "
    "module (pip install plumed) and set PLUMED_KERNEL to the path of libplumedKernel.so"
)
_FIELDS = b"#! FIELDS time "
_FAR_A = 1e4  # between images where there are none


def with_plumed(config: Config, folder: Path, atoms: Atoms) -> Config:
    """The configuration with the path of PLUMED's input, if it has one, which is checked.

    Parameters
    ----------
    folder
        That of the configuration.

    Raises
    ------
    ConfigError
        If PLUMED is missing, or cannot use the input or be returned to an earlier state.
    """
    if config.dynamics.plumed is None:
        return config
    path = folder / config.dynamics.plumed
    _check(path, config.dynamics, atoms)
    dynamics = config.dynamics.model_copy(update={"plumed": path})
    return config.model_copy(update={"dynamics": dynamics})


def _check(path: Path, dynamics: Dynamics, atoms: Atoms) -> None:
    where = f"dynamics.plumed: {path}"
    if not path.is_file():
        raise ConfigError([f"{where}: there is no such file"])
    problem = problem_of(path)
    if problem:
        raise ConfigError([f"{where}: {problem}"])
    with TemporaryDirectory(prefix="otf-plumed-") as name:
        folder = Path(name)
        keep_input(path, folder)
        bias = PlumedBias(folder, dynamics, n_atoms=len(atoms))
        try:
            bias.begin(Pushed(np.zeros((len(atoms), 3)), None), atoms, 0)
        except (RuntimeError, RunError) as error:
            raise ConfigError([f"{where}: {_text(error)}"]) from error
        finally:
            bias.close()


@contextmanager
def bias_by_plumed(config: Config, folder: Path, atoms: Atoms) -> Iterator["PlumedBias | None"]:
    """The bias of PLUMED in the folder of a run; None if it has none."""
    if config.dynamics.plumed is None:
        yield None
        return
    with closing(PlumedBias(folder, config.dynamics, n_atoms=len(atoms))) as bias:
        yield bias


class PlumedBias(AddedForces):
    """The bias of PLUMED.

    Parameters
    ----------
    folder
        Has its input and gets its output, see :func:`keep_input`.
    dynamics
        Timestep, and the temperature for ``kBT``.

    Raises
    ------
    ConfigError
        If PLUMED is not installed.
    """

    def __init__(self, folder: Path, dynamics: Dynamics, *, n_atoms: int) -> None:
        self._folder = folder.absolute()
        self._inputs = {INPUT, _LOG_FILE, *read_by(folder / INPUT)}
        self._dynamics = dynamics
        self._n_atoms = n_atoms
        self._paces = paces(folder / INPUT)
        self._module = _module()
        self._plumed: Any = None
        self._committed: Mapping[str, int] = {}
        self._work = self._energy = 0.0

    @property
    def work(self) -> float:
        """See :class:`otf.dynamics.bias.AddedForces`."""
        return self._work

    def begin(self, acting: Acting, atoms: Atoms, step: int) -> Acting:
        """See :class:`otf.dynamics.bias.AddedForces`."""
        self.close()
        self._open()
        self._work = 0.0
        pushed = self._pushed_by(acting, atoms, step)
        self._plumed.cmd("update")  # nothing is added at its first step
        return pushed

    def moved(self, acting: Acting, atoms: Atoms, step: int) -> Acting:
        """See :class:`otf.dynamics.bias.AddedForces`."""
        before = self._energy
        pushed = self._pushed_by(acting, atoms, step)
        self._work = before - self._energy
        return pushed

    def grown(self, atoms: Atoms, step: int) -> Acting:
        """See :class:`otf.dynamics.bias.AddedForces`."""
        self._plumed.cmd("update")
        if any(step % pace == 0 for pace in self._paces):
            return self._pushed_by(self._bare, atoms, step)
        return self._pushed

    def capture(self) -> BiasState:
        """See :class:`otf.dynamics.bias.AddedForces`; the files are complete afterwards."""
        if self._plumed is not None:
            self.close()
            self._committed = {
                name: _tidied(self._folder / name, self._committed.get(name, 0))
                for name in self._outputs()
            }
        return BiasState(np.zeros((0, 0)), self._committed)

    def restore(self, state: BiasState) -> None:
        """See :class:`otf.dynamics.bias.AddedForces`.

        Raises
        ------
        FileError
            If a file is shorter than it was.
        """
        self.close()
        for name in set(self._outputs()) - set(state.files):
            (self._folder / name).unlink()
        for name, length in state.files.items():
            path = self._folder / name
            if not path.exists() or path.stat().st_size < length:
                raise FileError(
                    f"{path}: has fewer than the {length} bytes that belong to the checkpoint; "
                    "restore it from a backup"
                )
            os.truncate(path, length)
        self._committed = dict(state.files)

    def close(self) -> None:
        """End PLUMED, which completes its files."""
        if self._plumed is not None:
            self._plumed.finalize()
            self._plumed = None

    def _outputs(self) -> list[str]:
        files = (path for path in self._folder.rglob("*") if path.is_file())
        names = (str(path.relative_to(self._folder)) for path in files)
        return sorted(name for name in names if name not in self._inputs)

    def _open(self) -> None:
        log, dynamics = self._folder / _LOG_FILE, self._dynamics
        self._plumed = plumed = self._module.Plumed(kernel=os.environ.get("PLUMED_KERNEL"))
        for command, value in (
            ("setMDEngine", "otf"),
            ("setMDLengthUnits", 0.1),  # nm
            ("setMDEnergyUnits", 1.0 / KJ_PER_MOL),
            ("setMDTimeUnits", 1e-3),  # ps
            ("setNatoms", self._n_atoms),
            ("setTimestep", dynamics.timestep_fs),
            ("setKbT", KELVIN * dynamics.temperature_K),
            ("setRestart", int(bool(self._committed))),
            ("setPlumedDat", INPUT),
            ("setLogFile", os.devnull if log.exists() else str(log)),
        ):
            plumed.cmd(command, value)
        with chdir(self._folder):  # where PLUMED opens its files
            plumed.cmd("init")

    def _pushed_by(self, acting: Acting, atoms: Atoms, step: int) -> Acting:
        """What moves the atoms with the bias, of which the energy is kept."""
        plumed, positions = self._plumed, atoms.get_positions()
        forces, virial, energy = acting.forces.copy(), np.zeros((3, 3)), np.zeros(1)
        masses, charges, box = atoms.get_masses(), np.zeros(len(atoms)), _box(atoms)
        plumed.cmd("setStep", step)
        for command, array in (  # which PLUMED reads and writes in place below
            ("setMasses", masses),
            ("setCharges", charges),
            ("setPositions", positions),
            ("setBox", box),
            ("setForces", forces),  # to which it adds its own
            ("setVirial", virial),
        ):
            plumed.cmd(command, array)
        try:
            plumed.cmd("prepareCalc")
            plumed.cmd("performCalcNoUpdate")
        except RuntimeError as error:
            raise RunError(f"step {step}: PLUMED: {_text(error)}") from error
        plumed.cmd("getBias", energy)
        stress = acting.stress
        if stress is not None:
            stress = stress + 0.5 * (virial + virial.T) / atoms.get_volume()
        self._bare, self._energy = acting, float(energy[0])
        self._pushed = Pushed(forces, stress)
        return self._pushed


def _tidied(path: Path, before: int) -> int:
    """Length of a file without what PLUMED repeats after a restart: headers, and the first line."""
    with path.open("rb+") as file:
        head = file.read(before)
        new = file.read().splitlines(keepends=True)
        if before and head.startswith(b"#!"):
            known = {line for line in head.splitlines(keepends=True) if line.startswith(b"#!")}
            new = [line for line in new if line not in known]
            last = head.rstrip().rsplit(b"\n", 1)[-1].split(maxsplit=1)
            in_time = head.startswith(_FIELDS) and last and not last[0].startswith(b"#")
            if in_time and new and new[0].split(maxsplit=1)[:1] == last[:1]:
                new = new[1:]
            file.seek(before)
            file.writelines(new)
            file.truncate()
        file.flush()
        os.fsync(file.fileno())
    return before + sum(map(len, new))


def _box(atoms: Atoms) -> Floats:
    """Lattice vectors (3, 3) for PLUMED, which has either three of them or none, Angstrom."""
    if not atoms.pbc.any():
        return np.zeros((3, 3))
    vectors = np.array(atoms.cell.complete().array)
    for axis in np.flatnonzero(~atoms.pbc):
        vectors[axis] *= _FAR_A / np.linalg.norm(vectors[axis])
    return vectors


def _module() -> Any:
    """The Python module, with the library.

    Raises
    ------
    ConfigError
        If either is missing.
    """
    try:
        module = importlib.import_module("plumed")
        module.Plumed(kernel=os.environ.get("PLUMED_KERNEL")).finalize()
    except (ImportError, RuntimeError) as error:
        raise ConfigError([f"dynamics.plumed: PLUMED is missing ({error}): {_INSTALL}"]) from error
    return module


def _text(error: Exception) -> str:
    """An error of PLUMED without the place in its source."""
    lines = [line for line in str(error).split("\n") if line and not line.startswith("(")]
    return " ".join(lines) or str(error)
