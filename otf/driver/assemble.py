"""Configuration to objects: the only place that knows both."""

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ase.build
import ase.collections
import ase.io
import numpy as np
import yaml
from ase import Atoms
from ase.build.molecule import extra
from ase.constraints import FixAtoms, FixBondLengths, FixCartesian

from otf.config.reader import looks_like_no_text
from otf.config.schema import (
    CONSTANT_PRESSURE,
    Config,
    Dynamics,
    EnsembleName,
    Model,
    Policy,
    System,
)
from otf.driver.labelling import Labeller
from otf.driver.policy import AdaptivePolicy, FixedPolicy
from otf.driver.policy import Policy as SwitchPolicy
from otf.driver.records import Parts
from otf.dynamics.ensembles import EnsembleSettings
from otf.dynamics.hybrid_monte_carlo import SamplerSettings
from otf.dynamics.stages import Stage, StagedEnsemble
from otf.dynamics.velocities import draw_velocities, remove_motion
from otf.engine import Engine, load_engine, path_options, read_input
from otf.errors import ConfigError, EngineError
from otf.io.labels import LabelFile
from otf.learning.regression import TrainerSettings
from otf.learning.trainer import Trainer
from otf.model.blueprint import Blueprint, Choices
from otf.model.descriptor import DescriptorSettings, displaced
from otf.model.workers import Workers
from otf.units import GPA, MEV

_MOST_COLUMNS = 20000  # more than a workstation solves in a minute
_SMALLEST_VOLUME = 1e-6  # Angstrom^3
_FARTHEST_A = 1e5  # no structure is that large


def make_structure(config: Config, folder: Path) -> Atoms:
    """The starting structure.

    Parameters
    ----------
    folder
        Where relative paths of the configuration start.

    Raises
    ------
    ConfigError
        If it cannot be read or built, or cannot be simulated.
    """
    system = config.system
    try:
        if system.from_ is not None:
            where = f"system.from: {system.from_}"
            atoms = read_input(config.engine.kind, folder / system.from_)
        elif system.structure is not None:
            where = f"system.structure: {system.structure}"
            atoms = ase.io.read(folder / system.structure)
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
    except Exception as error:  # ase.io raises whatever the format's reader raises
        reason = f"{type(error).__name__}: {error}"
        raise ConfigError([f"{where}: cannot be read or built ({reason})"]) from error
    assert isinstance(atoms, Atoms)
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
    """Those of the structure and of the configuration; lengths of bonds are fixed here and now."""
    out: list[Any] = []
    pairs = [list(pair) for pair in system.fixed_bonds]
    fixed = set(system.fixed_atoms)  # each once: every constraint takes degrees of freedom away
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
                f"has a constraint {type(constraint).__name__}; otf knows FixAtoms, FixCartesian "
                "and FixBondLengths: remove it from the file"
            )
    if (atoms.cell.lengths()[atoms.pbc] == 0).any():
        return "is periodic along a cell vector that is missing; give the cell or set pbc to F"
    if abs(np.linalg.det(atoms.cell.complete().array)) < _SMALLEST_VOLUME:
        return "has cell vectors that lie in a plane; give three independent ones"
    return None


def make_engine(config: Config, atoms: Atoms) -> Engine:
    """The engine, checked against the structure but not opened."""
    engine_class = load_engine(config.engine.kind)
    options = engine_class.Options.model_validate(config.engine.options)
    engine = engine_class(options, charge=config.system.charge, spin=config.system.spin)
    if atoms.pbc.any() and not engine.capabilities.periodic:
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
    if config.dynamics.constant_pressure:
        if not atoms.pbc.all():
            raise ConfigError(
                [
                    "dynamics.ensemble: constant pressure needs a structure that is periodic in "
                    f"all three directions, and its pbc is {atoms.pbc.tolist()}"
                ]
            )
        if not engine.capabilities.stress:
            raise EngineError(
                f"engine '{config.engine.kind}' gives no stress, and constant pressure needs it; "
                "switch the stress on in its options (stress: true) or use another ensemble"
            )
    return engine


def make_trainer(model: Model, samples: Sequence[Atoms], *, keep_blocks: int = 12) -> Trainer:
    """A model that has learned nothing yet.

    Parameters
    ----------
    samples
        Structures that show the species, the periodicity and how the features vary.
    keep_blocks
        Blocks of labels kept for judging the model without them.
    """
    periodic = any(a.pbc.any() for a in samples)
    # One species leaves room for a finer description at the same number of coefficients.
    single = len({int(z) for a in samples for z in a.numbers}) == 1
    settings = DescriptorSettings(
        cutoff_two=model.cutoff_two_A or (5.0 if periodic else 6.0),
        cutoff_three=model.cutoff_three_A or (5.0 if periodic else 4.0),
        r_min=model.r_min_A,
        radial_two=model.radial_two,
        radial_three=model.radial_three or (5 if single else 3),
        l_max=model.l_max if model.l_max is not None else (4 if single else 3),
        radial_four=4 if single else 2,
        l_four=4 if single else 2,
        degree_four=10 if single else 6,
    )
    choices = Choices(
        sharing=("species", "environment") if model.sharing == "auto" else (model.sharing,),
        components=_components(model),
        four_body={"auto": (False, True), 3: (False,), 4: (True,)}[model.body_order],
        most_columns=model.most_columns if model.sharing == "auto" else _MOST_COLUMNS,
    )
    blueprint = Blueprint(
        settings,
        samples,
        choices,
        coupling=model.coupling,
        depth=model.environment_depth,
        workers=Workers(model.threads),
    )
    needed = blueprint.n_columns(blueprint.choices.smallest())
    if needed > _MOST_COLUMNS:
        raise ConfigError(
            [
                f"model.sharing: {needed} coefficients would need "
                f"{2e-9 * 8 * needed**2:.0f} GB; share by species or environment, or make the "
                "descriptor smaller (radial_two, radial_three, l_max)"
            ]
        )
    return Trainer(
        blueprint,
        TrainerSettings(
            energy_noise=model.energy_noise_meV * MEV,
            force_noise=model.force_noise_meV_A * MEV,
            stress_noise=None if model.stress_noise_GPa is None else model.stress_noise_GPa * GPA,
            atomic_energy_noise=None
            if model.atomic_energy_noise_meV is None
            else model.atomic_energy_noise_meV * MEV,
            forgetting=model.forgetting,
            annealing_labels=model.annealing_labels,
            keep_blocks=keep_blocks,
            ranks=(1, 2) if model.rank == "auto" else (model.rank,),
        ),
    )


def _components(model: Model) -> tuple[int, ...]:
    """Numbers of principal components to choose from; none where nothing is quadratic."""
    if model.rank == 1:
        return (0,)
    return (10, 20, 30) if model.components == "auto" else (model.components,)


def make_policy(policy: Policy, timestep_fs: float) -> SwitchPolicy:
    """The switch between engine and model."""
    if policy.kind == "fixed":
        return FixedPolicy(train_steps=round(policy.train_fs / timestep_fs), every=policy.every)
    return AdaptivePolicy(
        target=policy.force_target_meV_A * MEV,
        gap_max=policy.gap_max,
        guard=policy.guard,
        guard_every=policy.guard_every,
        audit_fraction=policy.audit_fraction,
    )


def make_ensemble(dynamics: Dynamics, atoms: Atoms) -> StagedEnsemble:
    """The integrators on ``atoms``, which gets its initial velocities."""
    stages = dynamics.staged()
    kinds = {stage.ensemble for stage in stages.values()}
    _check_constraints(kinds, atoms)
    rng = np.random.default_rng(dynamics.seed)
    held = any(isinstance(c, FixAtoms | FixCartesian) for c in atoms.constraints)
    translation = dynamics.remove_translation and len(atoms) > 1 and not held
    rotation = dynamics.remove_rotation and len(atoms) > 1 and not atoms.pbc.any() and not held
    if rotation and "slhmc" in kinds:
        raise ConfigError(
            ["dynamics.remove_rotation: slhmc draws all momenta anew; remove the key"]
        )
    if dynamics.velocities == "maxwell":
        draw_velocities(
            atoms,
            next(iter(stages.values())).temperature_K,
            rng,
            remove_translation=translation,
            remove_rotation=rotation,
        )
    elif not atoms.has("momenta"):
        raise ConfigError(
            ["dynamics.velocities: the structure has none; use 'maxwell', or add momenta to it"]
        )
    remove_motion(atoms, translation=translation, rotation=rotation)
    first = next(iter(stages.values())).ensemble
    if first not in ("nve", "langevin", "slhmc") and atoms.get_kinetic_energy() < 1e-12:
        raise ConfigError(
            [f"dynamics.ensemble: {first} scales velocities and there are none; use 'maxwell'"]
        )
    return StagedEnsemble(
        atoms,
        [_stage(name, stage) for name, stage in stages.items()],
        rng,
        translation=translation,
        rotation=rotation,
    )


def _check_constraints(kinds: set[EnsembleName], atoms: Atoms) -> None:
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


def _sampler(dynamics: Dynamics) -> SamplerSettings | None:
    if dynamics.ensemble != "slhmc":
        return None
    return SamplerSettings(dynamics.temperature_K, dynamics.burn_in, dynamics.segment_max)


def _stage(name: str, dynamics: Dynamics) -> Stage:
    return Stage(
        name=name,
        steps=dynamics.total_steps,
        settings=EnsembleSettings(
            kind="nve" if dynamics.ensemble == "slhmc" else dynamics.ensemble,
            timestep_fs=dynamics.timestep_fs,
            temperature_K=dynamics.temperature_K,
            time_constant_fs=dynamics.time_constant_fs,
            friction_per_ps=dynamics.friction_per_ps,
            pressure_GPa=dynamics.pressure_GPa,
            pressure_constant_fs=dynamics.pressure_constant_fs,
        ),
        temperature_end_K=dynamics.temperature_end_K,
        pressure_end_GPa=dynamics.pressure_end_GPa,
    )


def make_parts(config: Config, atoms: Atoms, engine: Engine, file: LabelFile) -> Parts:
    """Everything the loop needs.

    Parameters
    ----------
    atoms
        The starting structure, moved in place by the loop.
    engine
        Opened.
    file
        Where labels are kept.
    """
    trainer = make_trainer(config.learned, displaced(atoms, seed=config.dynamics.seed))
    return Parts(
        ensemble=make_ensemble(config.dynamics, atoms),
        trainer=trainer,
        policy=make_policy(config.policy, config.dynamics.timestep_fs),
        labeller=Labeller(engine, file, needs_stress=config.learned.stress_noise_GPa is not None),
        timestep_fs=config.dynamics.timestep_fs,
        frame_every=config.output.every,
        continue_on_failure=config.policy.on_engine_failure == "continue",
        residual=config.model.residual,
        seed=config.dynamics.seed,
        sampler=_sampler(config.dynamics),
    )


def engine_files(config: Config) -> dict[str, Path]:
    """Files the engine's options name; they belong to the run."""
    options = config.engine.options
    named = path_options(load_engine(config.engine.kind).Options)
    paths = {name: Path(options[name]) for name in named if options.get(name) is not None}
    return {name: path for name, path in paths.items() if path.is_file()}


def resolved_yaml(config: Config, structure: str, files: Mapping[str, str]) -> str:
    """The configuration with every default filled in, reading the structure kept in the run.

    Parameters
    ----------
    structure
        Name of the structure file in the run directory.
    files
        Names there of the files of :func:`engine_files`, by option.
    """
    data: dict[str, Any] = config.model_dump(mode="json", exclude_none=True)
    data["system"] = {
        "structure": structure,
        "charge": config.system.charge,
        "spin": config.system.spin,
    }
    data["engine"].update(files)
    data["output"].pop("directory", None)
    return yaml.dump(data, Dumper=_ExactDumper, sort_keys=False)


class _ExactDumper(yaml.SafeDumper):
    """Quotes every text that the configuration's reader would take for something else."""


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    style = "'" if looks_like_no_text(text) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_ExactDumper.add_representer(str, _represent_text)
