"""Construction and checks of the starting structure of a configuration."""

import difflib
from pathlib import Path
from typing import Any

import ase.build
import ase.collections
import numpy as np
from ase import Atoms
from ase.build.molecule import extra
from ase.constraints import FixAtoms, FixBondLengths, FixCartesian
from ase.neighborlist import neighbor_list

from otf.config.schema import Config, System
from otf.dynamics.timestep import usual_timestep_fs
from otf.engines.registry import load_engine
from otf.engines.sanity import CLOSEST_A
from otf.errors import ConfigError, EngineError, FileError
from otf.io.structure_file import read_structure
from otf.runs.bias import notes_on_bias

_SMALLEST_VOLUME = 1e-6  # Angstrom^3
_LONG = 2.0  # times the usual timestep
_FARTHEST_A = 1e5  # no structure is that large


def make_structure(config: Config, folder: Path) -> Atoms:
    """Create the starting structure.

    Parameters
    ----------
    folder
        Folder that relative paths of the configuration start from.

    Raises
    ------
    ConfigError
        If it cannot be read or built, or cannot be simulated.
    """
    system = config.system
    try:
        if system.from_ is not None:
            where = f"system.from: {system.from_}"
            atoms = load_engine(config.engine.kind).job(folder / system.from_).atoms
        elif system.structure is not None:
            where = f"system.structure: {system.structure}"
            atoms = read_structure(folder / system.structure)
        elif system.molecule is not None:
            where = f"system.molecule: {system.molecule}"
            names = [*ase.collections.g2.names, *extra]
            if system.molecule not in names:
                close = difflib.get_close_matches(system.molecule, names, n=1)
                hint = f"did you mean '{close[0]}'? " if close else ""
                raise ConfigError(
                    [f"{where}: is not in ASE's collection; {hint}for others use system.structure"]
                )
            atoms = ase.build.molecule(system.molecule)
        else:
            assert system.bulk is not None  # the schema demands exactly one source
            where = f"system.bulk: {system.bulk.name}"
            atoms = ase.build.bulk(
                system.bulk.name, system.bulk.lattice, a=system.bulk.a_A, cubic=system.bulk.cubic
            )
    except (ConfigError, EngineError):
        raise
    except FileError as error:
        raise ConfigError([f"{where}: {error}"]) from error
    except Exception as error:  # ase.io raises whatever the format's reader raises
        reason = f"{type(error).__name__}: {error}"
        raise ConfigError([f"{where}: cannot be read or built ({reason})"]) from error
    assert isinstance(atoms, Atoms)
    return prepared(system, atoms, where)


def counterpart(config: Config, first: Atoms, path: Path, *, where: str) -> Atoms:
    """Another structure of the same system, with its masses and constraints.

    Parameters
    ----------
    first
        The structure of the system.
    where
        What names the file, for messages.

    Raises
    ------
    ConfigError
        If it cannot be read, or has other atoms.
    """
    own = {"structure": path, "from_": None, "molecule": None, "bulk": None, "repeat": (1, 1, 1)}
    system = config.system.model_copy(update=own)
    atoms = make_structure(config.model_copy(update={"system": system}), Path())
    if not np.array_equal(atoms.numbers, first.numbers) or (atoms.pbc != first.pbc).any():
        raise ConfigError(
            [
                f"{where}: {path} holds {atoms.symbols}, and the system {first.symbols}; both need "
                "the same atoms in the same order"
            ]
        )
    return atoms


def prepared(system: System, atoms: Atoms, where: str) -> Atoms:
    """A structure as the dynamics takes it: repeated, with masses and constraints, and checked.

    Parameters
    ----------
    where
        Source of the structure, for messages.

    Raises
    ------
    ConfigError
        If it cannot be simulated.
    """
    if system.repeat != (1, 1, 1):
        if not atoms.pbc.any():
            raise ConfigError([f"{where}: system.repeat needs a periodic structure"])
        atoms = atoms.repeat(system.repeat)
    problem = _structure_problem(atoms)
    if problem is not None:
        raise ConfigError([f"{where}: {problem}"])
    bare = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    masses = [system.masses.get(a.symbol, a.mass) for a in atoms]
    for symbol in sorted(set(system.masses) - set(atoms.symbols)):
        raise ConfigError([f"system.masses: there is no {symbol} in the structure; remove it"])
    bare.set_masses(masses)
    bare.set_constraint(_constraints(system, atoms))
    if atoms.has("momenta"):
        bare.set_momenta(atoms.get_momenta())
    return bare


def _constraints(system: System, atoms: Atoms) -> list[Any]:
    """Constraints of the structure and the configuration, with bonds at their present lengths."""
    out: list[Any] = []
    pairs = [list(pair) for pair in system.fixed_bonds]
    fixed = set(system.fixed_atoms)  # each once: every constraint removes degrees of freedom
    for constraint in atoms.constraints:
        if isinstance(constraint, FixBondLengths):
            pairs += constraint.pairs.tolist()
        elif isinstance(constraint, FixAtoms):
            fixed |= set(constraint.get_indices().tolist())
        else:
            out.append(constraint)
    named = set(system.fixed_atoms) | {i for pair in pairs for i in pair}
    if any(i >= len(atoms) for i in named):
        raise ConfigError(
            [
                f"system.fixed_atoms, fixed_bonds: atom {max(named)} is not there; the "
                f"{len(atoms)} atoms are numbered from 0"
            ]
        )
    if any(fixed.intersection(constraint.get_indices().tolist()) for constraint in out):
        raise ConfigError(
            ["system.fixed_atoms: a FixCartesian of the file holds one of them, too; keep one"]
        )
    if fixed:
        out.append(FixAtoms(sorted(fixed)))
    if any(fixed.issuperset(pair) for pair in pairs):
        raise ConfigError(["system.fixed_bonds: one joins two fixed atoms; remove it"])
    if pairs:
        lengths = [atoms.get_distance(i, j, mic=bool(atoms.pbc.any())) for i, j in pairs]
        out.append(FixBondLengths(pairs, bondlengths=np.array(lengths)))
    return out


def _structure_problem(atoms: Atoms) -> str | None:
    if len(atoms) == 0:
        return "holds no atoms"
    if not np.isfinite(atoms.positions).all() or not np.isfinite(atoms.cell.array).all():
        return "holds positions or cell vectors that are not finite"
    if max(np.abs(atoms.positions).max(), np.abs(atoms.cell.array).max()) > _FARTHEST_A:
        return f"reaches beyond {_FARTHEST_A:g} Angstrom; is its unit of length right?"
    if (atoms.numbers == 0).any():
        return "holds atoms of unknown species (X)"
    for constraint in atoms.constraints:
        if not isinstance(constraint, FixAtoms | FixCartesian | FixBondLengths):
            return (
                f"has a constraint {type(constraint).__name__}; otf supports FixAtoms, "
                "FixCartesian and FixBondLengths: remove it from the file"
            )
    if (atoms.cell.lengths()[atoms.pbc] == 0).any():
        return "is periodic along a cell vector that is missing; give the cell or set pbc to F"
    if abs(np.linalg.det(atoms.cell.complete().array)) < _SMALLEST_VOLUME:
        return "has cell vectors that lie in a plane; give three independent ones"
    i, j, distances = neighbor_list("ijd", atoms, CLOSEST_A)
    if len(i):
        first = int(np.argmin(distances))
        return (
            f"atoms {i[first]} and {j[first]} ({atoms.symbols[i[first]]}, "
            f"{atoms.symbols[j[first]]}) are {distances[first]:.2f} Angstrom apart, perhaps as "
            "periodic images; remove one of them"
        )
    return None


def notes_on(config: Config, atoms: Atoms) -> list[str]:
    """What may not be meant in a starting structure, a sentence each."""
    notes = []
    if atoms.cell.rank == 3 and not atoms.pbc.any():
        notes.append(
            "the structure has a cell, but is not periodic (pbc is F F F): it is simulated as a "
            'molecule or cluster; if it is a crystal, write pbc="T T T" into its file'
        )
    moving = atoms.has("momenta") and bool(atoms.get_momenta().any())
    if moving and config.dynamics.velocities == "maxwell":
        notes.append(
            "the velocities of the structure are not used: new ones are drawn; dynamics.velocities:"
            " structure takes them"
        )
    usual_fs = usual_timestep_fs(atoms)
    if config.dynamics.timestep_fs > _LONG * usual_fs:
        notes.append(
            f"dynamics.timestep_fs: {config.dynamics.timestep_fs:g} is long for the lightest "
            f"atoms, whose vibrations need about {usual_fs:g}; use that, or heavier isotopes "
            "(system.masses)"
        )
    return notes + notes_on_bias(config.dynamics, atoms)
