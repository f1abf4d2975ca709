"""Summary of a run: errors, labels, energy conservation and cost."""

from dataclasses import dataclass

from otf.config import Config
from otf.driver.records import ForceChecks, LabelRecord, RunState
from otf.driver.statistics import (
    Contract,
    LabelStatistics,
    Sampling,
    TrajectoryError,
    by_kind,
    sampling,
    trajectory_error,
)
from otf.driver.thermodynamics import (
    EnergyConservation,
    MeanTemperature,
    energy_conservation,
    explosions,
    mean_temperature,
)
from otf.engines.protocol import Engine
from otf.io.committed import Trajectory
from otf.io.trajectory import read_scalars
from otf.runs.cost import Cost, cost_of, labelled_percent
from otf.runs.directory import RunDirectory
from otf.runs.earlier import read_earlier
from otf.runs.noise import further_labels, stored_noise
from otf.runs.warm_start import Gains, gains
from otf.units import MEV


@dataclass(frozen=True, eq=False)
class Outcome:
    """Last state of a session, and the reason if it ended before the run did.

    Attributes
    ----------
    wall_s
        Wall time of this session and all before it, s.
    """

    state: RunState | None
    stopped_by: str | None
    wall_s: float = 0.0


@dataclass(frozen=True)
class Summary:
    """Summary of a run.

    Attributes
    ----------
    steps, steps_wanted
        Steps committed and requested; proposals, for hybrid Monte Carlo.
    simulated_fs
        Simulated time.
    labels, labels_percent
        Engine calls, and their share of the timesteps.
    error
        Error of the committed trajectory; None with fewer than three audits.
    by_kind
        Errors before learning by kind of label: scheduled, audits, triggered, proposals.
    model
        Size and order of the model.
    scf_first, scf_later
        SCF iterations of the first label, which starts from scratch, and the mean of the others;
        None if the engine does not report them.
    gains
        Savings by initial density guesses; None if none were used.
    force_checks
        Non-self-consistent force checks, and those that spared a label.
    energy_conservation
        Energy conservation and drift, or None without energies.
    temperature
        Mean temperature of the last stage; None before any step.
    cost
        Wall time over all sessions, and that of the engine alone.
    contract
        Whether the target was kept; None without a target or with fewer than three audits.
    floor_meV_A
        Misfit of the model and noise of the labels: the part of the error that more labels do not
        reduce; None if unknown.
    noise_meV_A
        Noise of the forces by translating all atoms at the start, by one more engine call; None if
        it was not measured.
    earlier
        Labels of earlier runs that it started with, by their source.
    kept_apart
        Labels that are not learned: not believed, or dropped.
    accepted_meV_A
        Error that is accepted because the target cannot be reached, or None.
    sampling
        Statistics of hybrid Monte Carlo, or None for dynamics.
    stopped_by
        Reason for an early end, or None.
    """

    directory: str
    engine: str
    level: str
    steps: int
    steps_wanted: int
    simulated_fs: float
    labels: int
    labels_percent: float
    error: TrajectoryError | None
    by_kind: dict[str, LabelStatistics]
    model: str
    scf_first: int | None
    scf_later: float | None
    gains: Gains | None
    force_checks: ForceChecks
    energy_conservation: EnergyConservation | None
    temperature: MeanTemperature | None
    contract: Contract | None
    floor_meV_A: float | None
    noise_meV_A: float | None
    earlier: dict[str, int]
    kept_apart: int
    accepted_meV_A: float | None
    sampling: Sampling | None
    cost: Cost
    stopped_by: str | None


def error_of(config: Config, history: tuple[LabelRecord, ...]) -> TrajectoryError | None:
    """Error of the trajectory of a run so far; None for hybrid Monte Carlo."""
    if config.dynamics.ensemble == "slhmc":
        return None
    return trajectory_error(history, confidence_percent=config.policy.confidence_percent)


def contract_of(
    config: Config, history: tuple[LabelRecord, ...], t: Trajectory | None = None
) -> Contract | None:
    """Whether the target of a run was kept so far; None without a target.

    Parameters
    ----------
    t
        Scalar quantities of the trajectory, by which it is judged whether it is physical.
    """
    error = error_of(config, history)
    if error is None or config.policy.kind != "adaptive":
        return None
    unphysical = explosions(history)
    if t is not None and not unphysical:
        energy, temperature = energy_conservation(t, history), temperature_of(config, t)
        unphysical = (energy.problem if energy else "") or (
            temperature.problem if temperature else ""
        )
    return Contract(config.policy.force_target_meV_A, error, unphysical)


def temperature_of(config: Config, t: Trajectory) -> MeanTemperature | None:
    """Mean temperature of the last stage, beside that of its thermostat; None without frames."""
    last = list(config.dynamics.staged().values())[-1]
    held = last.ensemble not in ("nve", "slhmc") and last.temperature_end_K is None
    return mean_temperature(t, target_K=last.temperature_K if held else None)


def summarise(
    run: RunDirectory,
    config: Config,
    engine: Engine,
    outcome: Outcome,
) -> Summary:
    """Summarise a run from its last state."""
    state = outcome.state
    history = state.history if state is not None else ()
    steps = state.step if state is not None else 0
    noise, (kept_apart, further_s) = stored_noise(run), further_labels(run)
    t = read_scalars(run.trajectory) if steps else None
    sampled = state is not None and state.sampler is not None
    moves = sum(r.elapsed for r in history) if sampled else steps
    return Summary(
        directory=str(run.path),
        engine=engine.kind,
        level=engine.capabilities.level,
        steps=steps,
        steps_wanted=config.dynamics.total_steps,
        simulated_fs=moves * config.dynamics.timestep_fs,
        labels=len(history),
        labels_percent=labelled_percent(len(history), moves),
        error=error_of(config, history),
        by_kind=by_kind(history),
        model=model_in_words(config, state),
        scf_first=history[0].scf_iterations if history else None,
        scf_later=_mean_cycles(history[1:]),
        gains=gains(run.matrices, history),
        force_checks=ForceChecks() if state is None else state.force_checks,
        contract=contract_of(config, history, t),
        floor_meV_A=None if state is None else _known(state.policy.floor),
        noise_meV_A=None if noise is None else noise.force_mae / MEV,
        earlier={source.of: len(source.labels) for source in read_earlier(run)},
        kept_apart=kept_apart,
        accepted_meV_A=None if state is None else _known(state.policy.accepted),
        sampling=sampling(history, state.sampler, steps=steps) if state is not None else None,
        energy_conservation=None if t is None else energy_conservation(t, history),
        temperature=None if t is None else temperature_of(config, t),
        cost=cost_of(
            history,
            wall_s=outcome.wall_s,
            steps=moves,
            further_s=further_s,
        ),
        stopped_by=outcome.stopped_by,
    )


def model_in_words(config: Config, state: RunState | None) -> str:
    """Size of the model, and the baseline that it corrects."""
    if state is None or not state.history:
        return "nothing learned yet"
    size = f"{state.history[-1].size}, order {state.history[-1].order}"
    if state.trainer.gain is not None:
        return f"{size}; {state.trainer.gain}"
    terms = " + ".join(term.kind for term in config.model.baseline)
    return f"{size}; baseline {terms}" if terms else size


def _known(error: float) -> float | None:
    """An error in meV/Angstrom; None if it is zero."""
    return error / MEV if error else None


def _mean_cycles(history: tuple[LabelRecord, ...]) -> float | None:
    cycles = [r.scf_iterations for r in history if r.scf_iterations is not None]
    return sum(cycles) / len(cycles) if cycles else None
