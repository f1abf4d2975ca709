"""Assembly of the parts of a run from its configuration."""

import math
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from ase import Atoms

from otf.config.dynamics import Dynamics
from otf.config.schema import Config, Model, Policy
from otf.driver.adaptive_policy import AdaptivePolicy
from otf.driver.labelling import Labeller, LabelStore
from otf.driver.policy import FixedPolicy
from otf.driver.policy import Policy as SwitchPolicy
from otf.driver.records import Parts
from otf.dynamics.bias import AddedForces
from otf.dynamics.ensembles import EnsembleSettings
from otf.dynamics.hybrid_monte_carlo import SamplerSettings
from otf.dynamics.stages import Stage, StagedEnsemble
from otf.dynamics.velocities import draw_velocities, remove_motion
from otf.engines.label_noise import LabelNoise
from otf.engines.protocol import Engine, LabelSource
from otf.engines.registry import load_engine
from otf.errors import ConfigError, RunError
from otf.learning.baseline import NO_BASELINE, Baseline
from otf.learning.learner import Learner
from otf.learning.regression import Taught, TrainerSettings
from otf.learning.trainer import Trainer
from otf.model.blueprint import Blueprint, Choices
from otf.model.descriptor import DescriptorSettings, displaced
from otf.model.tensor_energy import Ranks
from otf.model.workers import Workers
from otf.runs.bias import make_bias
from otf.runs.check import removed_motion
from otf.units import GPA, MEV

_Value = TypeVar("_Value", int, float)

_MANY_SPECIES = 5
_FEWEST_MIXED = 3  # number of species from which on they are mixed
_EARLIER_SAMPLES = 24  # structures of earlier runs for the spread of the features
_MOST_COLUMNS = 20000  # more than a workstation solves in a minute


def make_engine(config: Config) -> Engine:
    """Create the engine of a configuration, not opened.

    Raises
    ------
    EngineError
        If there is no such engine.
    """
    engine_class = load_engine(config.engine.kind)
    options = engine_class.Options.model_validate(config.engine.options)
    return engine_class(options, charge=config.system.charge, spin=config.system.spin)


def with_matrices(config: Config) -> Config:
    """The same with the options of the engine by which labels have matrices.

    Raises
    ------
    RunError
        If its labels never have.
    """
    options = load_engine(config.engine.kind).with_matrices
    if not options:
        raise RunError(f"engine '{config.engine.kind}' has no Hamiltonian to give")
    return config.model_copy(update={"engine": config.engine.model_copy(update=options)})


def make_trainer(
    model: Model,
    samples: Sequence[Atoms],
    *,
    keep_blocks: int = 12,
    ranks: Ranks | None = None,
    noise: LabelNoise | None = None,
    earlier: Sequence[Taught] = (),
    baseline: Baseline = NO_BASELINE,
) -> Trainer:
    """Create a trainer without any learned label.

    Parameters
    ----------
    samples
        Structures that define the species, the periodicity and the spread of the features.
    keep_blocks
        Blocks of labels kept for cross-validation.
    ranks
        MPI ranks that share the work on atoms.
    noise
        Noise of the labels, if it was measured.
    earlier
        Labels of earlier runs, learned when the run begins.
    baseline
        What the model corrects.
    """
    samples = [*samples, *_spread(earlier)]
    periodic = any(a.pbc.any() for a in samples)
    # One species leaves room for a finer description at the same number of coefficients.
    n_species = len({int(z) for a in samples for z in a.numbers})
    single = n_species == 1
    descriptor = DescriptorSettings(
        r_min=model.r_min_A,
        radial_two=model.radial_two,
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
        cutoff_two=_options(model.cutoff_two_A, (5.0, 3.8, 6.0) if periodic else (6.0, 4.5)),
        cutoff_three=_options(
            model.cutoff_three_A, (5.0, 3.8, 3.0) if periodic else (4.0, 3.0, 5.0)
        ),
        radial_three=_options(model.radial_three, _radial_three(n_species)),
        decay=_options(model.decay, (0.0, 2.0, 4.0)),
        channels=_options(model.channels, _channels(n_species)),
    )
    blueprint = Blueprint(
        descriptor,
        samples,
        choices,
        coupling=model.coupling,
        depth=model.environment_depth,
        # MPI ranks replace threads.
        workers=Workers(model.threads if ranks is None else model.threads or 1),
        ranks=ranks,
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
    settings = _trainer_settings(model, keep_blocks, noise)
    return Trainer(blueprint, settings, earlier, baseline=baseline)


def _spread(earlier: Sequence[Taught]) -> list[Atoms]:
    """A few structures of earlier runs, evenly spread."""
    chosen = np.unique(np.linspace(0, len(earlier) - 1, _EARLIER_SAMPLES).round().astype(int))
    return [earlier[i].atoms for i in chosen] if earlier else []


def _trainer_settings(model: Model, keep_blocks: int, noise: LabelNoise | None) -> TrainerSettings:
    """Weights of the labels: misfit and noise of a label add up as variances."""
    energy, force = (0.0, 0.0) if noise is None else (noise.energy, noise.force_rms)
    return TrainerSettings(
        energy_noise=math.hypot(model.energy_noise_meV * MEV, energy),
        force_noise=math.hypot(model.force_noise_meV_A * MEV, force),
        stress_noise=None if model.stress_noise_GPa is None else model.stress_noise_GPa * GPA,
        atomic_energy_noise=None
        if model.atomic_energy_noise_meV is None
        else model.atomic_energy_noise_meV * MEV,
        forgetting=model.forgetting,
        annealing_labels=model.annealing_labels,
        keep_blocks=keep_blocks,
        orders=(1, 2) if model.order == "auto" else (model.order,),
    )


def _options(given: _Value | None, options: tuple[_Value, ...]) -> tuple[_Value, ...]:
    """What to choose from: only the given value, if there is one."""
    return options if given is None else (given,)


def _radial_three(n_species: int) -> tuple[int, ...]:
    """Numbers of radial functions of triples to choose from: their pairs are many for many species.

    >>> _radial_three(1), _radial_three(3), _radial_three(6)
    ((5, 3, 8), (3, 5), (2, 3, 5))
    """
    if n_species == 1:
        return (5, 3, 8)
    return (3, 5) if n_species < _MANY_SPECIES else (2, 3, 5)


def _channels(n_species: int) -> tuple[int, ...]:
    """Numbers of channels of species to choose from; few learn more from the first labels.

    >>> _channels(2), _channels(3), _channels(4), _channels(6)
    ((), (3, 2), (3, 4), (3, 4, 6))
    """
    if n_species < _FEWEST_MIXED:
        return ()
    if n_species == _FEWEST_MIXED:
        return (3, 2)
    return tuple(dict.fromkeys((3, 4, n_species)))


def _components(model: Model) -> tuple[int, ...]:
    """Numbers of principal components to choose from; (0,) for a linear model."""
    if model.order == 1:
        return (0,)
    return (10, 20, 30, 60) if model.components == "auto" else (model.components,)


def make_policy(policy: Policy, timestep_fs: float) -> SwitchPolicy:
    """Create the labelling policy."""
    if policy.kind == "fixed":
        return FixedPolicy(train_steps=round(policy.train_fs / timestep_fs), every=policy.every)
    return AdaptivePolicy(
        target=policy.force_target_meV_A * MEV,
        gap_max=policy.gap_max,
        labels_share=0.01 * policy.labels_percent_max,
        unreachable=policy.unreachable,
        guard=policy.guard,
        guard_every=policy.guard_every,
        audit_fraction=policy.audit_fraction,
    )


def make_ensemble(
    dynamics: Dynamics, atoms: Atoms, bias: AddedForces | None = None
) -> StagedEnsemble:
    """Create the integrators of ``atoms``, and set its initial velocities.

    Parameters
    ----------
    bias
        By default that of ``dynamics.bias``.
    """
    stages = dynamics.staged()
    rng = np.random.default_rng(dynamics.seed)
    translation, rotation = removed_motion(dynamics, atoms)
    if dynamics.velocities == "maxwell":
        draw_velocities(
            atoms,
            next(iter(stages.values())).temperature_K,
            rng,
            remove_translation=translation,
            remove_rotation=rotation,
        )
    remove_motion(atoms, translation=translation, rotation=rotation)
    return StagedEnsemble(
        atoms,
        [_stage(name, stage) for name, stage in stages.items()],
        rng,
        translation=translation,
        rotation=rotation,
        bias=bias or make_bias(dynamics),
    )


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


def make_labeller(config: Config, engine: LabelSource, file: LabelStore) -> Labeller:
    """Create what takes the labels of a run."""
    return Labeller(
        engine,
        file,
        needs_stress=config.effective_model.stress_noise_GPa is not None,
        subtracts_net_force=config.model.net_force == "subtract",
    )


def trainer_of(
    config: Config,
    atoms: Atoms,
    *,
    ranks: Ranks | None = None,
    noise: LabelNoise | None = None,
    earlier: Sequence[Taught] = (),
    baseline: Baseline = NO_BASELINE,
) -> Trainer:
    """Create the trainer of a run that starts with ``atoms``; see :func:`make_trainer`."""
    return make_trainer(
        config.effective_model,
        displaced(atoms, seed=config.dynamics.seed),
        ranks=ranks,
        noise=noise,
        earlier=earlier,
        baseline=baseline,
    )


def make_parts(
    config: Config,
    atoms: Atoms,
    engine: LabelSource,
    file: LabelStore,
    *,
    trainer: Learner | None = None,
    noise: LabelNoise | None = None,
    bias: AddedForces | None = None,
) -> Parts:
    """Create the parts of a run for the loop.

    Parameters
    ----------
    atoms
        The starting structure, moved in place by the loop.
    engine
        The opened engine.
    file
        Storage of the labels.
    trainer
        By default a new one, without baseline and labels of earlier runs.
    noise
        Noise of the labels, if it was measured.
    bias
        By default that of ``dynamics.bias``.
    """
    if trainer is None:
        trainer = trainer_of(config, atoms, noise=noise)
    return Parts(
        ensemble=make_ensemble(config.dynamics, atoms, bias),
        trainer=trainer,
        policy=make_policy(config.policy, config.dynamics.timestep_fs),
        labeller=make_labeller(config, engine, file),
        timestep_fs=config.dynamics.timestep_fs,
        frame_every=config.output.every,
        continue_on_failure=config.policy.on_engine_failure == "continue",
        residual=config.model.residual,
        seed=config.dynamics.seed,
        force_check=config.policy.force_check,
        label_noise=0.0 if noise is None else noise.force_mae,
        stop_if_unreachable=config.policy.unreachable == "stop",
        stop_if_contradictory=config.policy.contradictions == "stop",
        sampler=_sampler(config.dynamics),
    )
