"""Checks of a configuration against its structure and its engine before a run."""

from ase import Atoms
from ase.constraints import FixAtoms, FixBondLengths, FixCartesian

from otf.config.dynamics import CONSTANT_PRESSURE, Dynamics
from otf.config.schema import Config
from otf.dynamics.velocities import remove_motion
from otf.engines.protocol import Capabilities
from otf.errors import ConfigError, EngineError
from otf.runs.bias import potentials_of


def check(config: Config, atoms: Atoms, capabilities: Capabilities) -> None:
    """Raise an error if the configuration cannot run.

    Parameters
    ----------
    atoms
        The starting structure, with its constraints.
    capabilities
        Capabilities of the engine with its options.

    Raises
    ------
    ConfigError, EngineError
        With the key to change.
    """
    _check_periodicity(config, atoms, capabilities)
    if config.policy.force_check:
        _check_force_check(config, capabilities)
    if config.dynamics.constant_pressure:
        _check_pressure(config, atoms, capabilities)
    _check_constraints(config, atoms)
    _check_bias(config, atoms)
    _check_velocities(config, atoms)


def removed_motion(dynamics: Dynamics, atoms: Atoms) -> tuple[bool, bool]:
    """Whether translation and rotation are removed: not where atoms are fixed in space."""
    held = any(isinstance(c, FixAtoms | FixCartesian) for c in atoms.constraints)
    free = len(atoms) > 1 and not held
    translation = dynamics.remove_translation and free
    return translation, dynamics.remove_rotation and free and not bool(atoms.pbc.any())


def _check_periodicity(config: Config, atoms: Atoms, capabilities: Capabilities) -> None:
    if atoms.pbc.any() and not capabilities.periodic:
        raise EngineError(
            f"engine '{config.engine.kind}' does molecules only, and the structure is periodic "
            f"(pbc = {atoms.pbc.tolist()}); use another engine or a structure without pbc"
        )
    if config.stop.rdf_error is not None and not atoms.pbc.all():
        raise ConfigError(
            [
                "stop.rdf_error: g(r) needs a density, and the structure's pbc is "
                f"{atoms.pbc.tolist()}; remove it"
            ]
        )


def _check_bias(config: Config, atoms: Atoms) -> None:
    """The variables exist, and have derivatives at the start."""
    for number, potential in enumerate(potentials_of(config.dynamics)):
        for variable in potential.variables:
            key = f"dynamics.bias.{number}: {variable.kind} of atoms {list(variable.atoms)}"
            if max(variable.atoms) >= len(atoms):
                last = len(atoms) - 1
                raise ConfigError([f"{key}: the atoms are numbered from 0 to {last}"])
            try:
                variable.of(atoms)
            except ValueError as error:
                raise ConfigError([f"{key}: {error}; choose other atoms"]) from error


def _check_force_check(config: Config, capabilities: Capabilities) -> None:
    in_processes = config.replicas.count > 1 and config.replicas.backend == "executorlib"
    if in_processes or not capabilities.force_check:
        raise ConfigError(
            [
                "policy.force_check: needs an engine that learns density matrices in this process: "
                "pyscf (closed shells) or siesta, engine.warm_start auto or learned, and not "
                "replicas.backend executorlib; remove it"
            ]
        )


def _check_pressure(config: Config, atoms: Atoms, capabilities: Capabilities) -> None:
    if not atoms.pbc.all():
        raise ConfigError(
            [
                "dynamics.ensemble: constant pressure needs a structure that is periodic in all "
                f"three directions, and its pbc is {atoms.pbc.tolist()}"
            ]
        )
    if not capabilities.stress:
        raise EngineError(
            f"engine '{config.engine.kind}' gives no stress, and constant pressure needs it; "
            "switch the stress on in its options (stress: true) or use another ensemble"
        )


def _check_constraints(config: Config, atoms: Atoms) -> None:
    kinds = {stage.ensemble for stage in config.dynamics.staged().values()}
    bonds = any(isinstance(c, FixBondLengths) for c in atoms.constraints)
    if "langevin" in kinds and bonds:
        raise ConfigError(
            ["dynamics.ensemble: langevin cannot keep bond lengths; use csvr or nhc with them"]
        )
    if bonds and "slhmc" in kinds:
        raise ConfigError(
            ["dynamics.ensemble: slhmc cannot keep bond lengths; fix atoms, or use csvr or nhc"]
        )
    if atoms.constraints and not kinds.isdisjoint(CONSTANT_PRESSURE):
        raise ConfigError(
            [
                "dynamics.ensemble: nothing can be fixed while the cell moves; remove the "
                "constraints (system.fixed_atoms, fixed_bonds, those of the file) or keep the cell"
            ]
        )
    if atoms.get_number_of_degrees_of_freedom() < 1:
        raise ConfigError(["system.fixed_atoms: nothing is left to move"])


def _check_velocities(config: Config, atoms: Atoms) -> None:
    dynamics = config.dynamics
    first = next(iter(dynamics.staged().values()))
    kinds = {stage.ensemble for stage in dynamics.staged().values()}
    translation, rotation = removed_motion(dynamics, atoms)
    if rotation and "slhmc" in kinds:
        raise ConfigError(
            ["dynamics.remove_rotation: slhmc draws all momenta anew; remove the key"]
        )
    if dynamics.velocities == "maxwell":
        at_rest = first.temperature_K == 0
    elif not atoms.has("momenta"):
        raise ConfigError(
            ["dynamics.velocities: the structure has none; use 'maxwell', or add momenta to it"]
        )
    else:
        moving = atoms.copy()
        remove_motion(moving, translation=translation, rotation=rotation)
        at_rest = moving.get_kinetic_energy() < 1e-12
    if at_rest and first.ensemble not in ("nve", "langevin", "slhmc"):
        raise ConfigError(
            [
                f"dynamics.ensemble: {first.ensemble} scales velocities and there are none; "
                "use 'maxwell'"
            ]
        )
