"""Free energy of a finished run with metadynamics, beside that of its engine alone.

    otf run examples/validation/butane_metadynamics.yaml
    python examples/validation/metadynamics.py runs/butane_metadynamics

The same dynamics, bias and number of steps again, with the engine at every step; the hills are
those of each trajectory.
"""

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from ase import Atoms

from otf.analysis.blocks import Estimate
from otf.analysis.free_energy import free_energy
from otf.arrays import Floats, Ints
from otf.driver.generators import exhausted
from otf.driver.segment import EngineForces, SegmentIntegrator
from otf.dynamics.bias import Bias
from otf.dynamics.collective_variables import CollectiveVariable
from otf.engines.labels import LabelFailure, Labels
from otf.errors import RunError
from otf.io.read_frames import read_frames
from otf.runs.assemble import make_engine, make_ensemble
from otf.runs.bias import make_bias, potentials_of
from otf.runs.checkpoint import read_checkpoint
from otf.runs.directory import read_run

_LEFT_OUT = 0.25  # of the trajectory, in which the wells are filled
_EDGES = np.linspace(-np.pi, np.pi, 25)


def main() -> None:
    """Print both free energies with their errors."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="directory of a finished run")
    arguments = parser.parse_args()
    run, config, _ = read_run(arguments.run)
    if not config.dynamics.bias:
        raise RunError(f"{arguments.run}: has no bias")
    bias = make_bias(config.dynamics)
    variable = potentials_of(config.dynamics)[-1].variables[0]
    bias.hills = read_checkpoint(run.checkpoint).state.dynamics.hills
    frames = read_frames(arguments.run)
    assert frames.time_fs is not None  # those of a run
    steps = np.rint(frames.time_fs / config.dynamics.timestep_fs).astype(int)
    ours = _free_energy(variable, bias, frames.positions, steps, run.path)
    positions, steps, bias = _by_engine(arguments.run)
    theirs = _free_energy(variable, bias, positions, steps, run.path)
    print("| degrees | engine alone, meV | otf, meV |\n|---|---|---|")
    for k, middle in enumerate(np.degrees(0.5 * (_EDGES[1:] + _EDGES[:-1]))):
        one, other = (f"{1000 * e.mean[k]:.1f} ± {1000 * e.error[k]:.1f}" for e in (theirs, ours))
        print(f"| {middle:.1f} | {one} | {other} |")
    error = np.hypot(ours.error, theirs.error)
    off = ours.mean - theirs.mean
    off -= np.average(off, weights=error**-2)
    print(f"\nroot mean square of difference / error: {np.sqrt(np.mean((off / error) ** 2)):.2f}")
    print(f"root mean square difference: {1000 * np.sqrt(np.mean(off**2)):.1f} meV")


def _free_energy(
    variable: CollectiveVariable, bias: Bias, positions: Floats, steps: Ints, run: Path
) -> Estimate:
    """Free energy in the bins, from the later part of a trajectory."""
    _, config, atoms = read_run(run)
    first = round(_LEFT_OUT * len(positions))
    frames = [Atoms(atoms, positions=one) for one in positions[first:]]
    values = np.array([variable.of(frame).value for frame in frames])
    temperature_K = config.dynamics.temperature_K
    energies = bias.energies_of(frames, steps[first:], temperature_K)
    return free_energy(values, energies, _EDGES, temperature_K=temperature_K)


def _by_engine(run: Path) -> tuple[Floats, Ints, Bias]:
    """Positions and steps of the frames by the engine alone, and the bias at their end."""
    _, config, atoms = read_run(run)
    dynamics, engine = config.dynamics, make_engine(config)
    bias = make_bias(dynamics)
    ensemble = make_ensemble(dynamics, atoms, bias)
    motion = SegmentIntegrator(
        ensemble, timestep_fs=dynamics.timestep_fs, frame_every=config.output.every
    )
    with TemporaryDirectory() as scratch:
        engine.open(atoms, Path(scratch))

        def label(step: int) -> Labels:
            labels = engine.label(atoms, index=step)
            if isinstance(labels, LabelFailure):
                raise RunError(labels.reason)
            return labels

        forces = EngineForces(label(0), label)
        done = exhausted(motion.integrate(motion.position, ensemble.steps, forces, keep=(0, 0)))
        engine.close()
    positions = np.array([frame.positions for frame in done.frames])
    return positions, np.array([frame.step for frame in done.frames]), bias


if __name__ == "__main__":
    main()
