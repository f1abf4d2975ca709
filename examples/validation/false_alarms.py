"""How often a correct label would be doubted: predicted structures of runs, labelled and judged.

    python examples/validation/false_alarms.py NAME.yaml... [--every STEPS] [--steps STEPS]

Runs the configurations in a temporary directory. While the model moves the atoms, a second engine
labels the predicted structures, and each of these labels is compared with what the model expects
(otf/driver/expected.py), as a label of the run would be. None of them is learned.
"""

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from otf.config.reader import read_config
from otf.driver.expected import expected_by
from otf.driver.records import Activity
from otf.engines.labels import Labels
from otf.runs.assemble import make_engine
from otf.runs.create import create_run
from otf.runs.directory import read_run
from otf.runs.session import open_session


class Judged(NamedTuple):
    """Largest deviations of a label, divided by the largest believable ones."""

    force: float
    energy: float

    @property
    def doubted(self) -> bool:
        """Whether the run would have doubted the label."""
        return max(self) > 1.0


def judged_labels(source: Path, folder: Path, *, every: int, steps: int | None) -> Iterator[Judged]:
    """Labels of every so many predicted structures of a run, judged by its model at that time."""
    config = read_config(source)
    if steps is not None and not config.dynamics.stages:
        dynamics = config.dynamics.model_copy(update={"steps": steps})
        config = config.model_copy(update={"dynamics": dynamics})
    run, config, atoms = read_run(create_run(config, source, folder / source.stem).path)
    second = make_engine(config)
    second.open(atoms, folder / "second")
    with open_session(run, config, atoms) as session:
        parts = session.parts
        for record in session.records():
            if isinstance(record, Activity) and steps is not None and record.step > steps:
                break
            if not isinstance(record, Activity) or record.phase != "predict" or record.step % every:
                continue
            structure = parts.ensemble.atoms
            expected = expected_by(parts.trainer, structure, noise=parts.label_noise)
            if expected is None:
                continue
            labels = second.label(structure, index=record.step)
            if isinstance(labels, Labels):
                excess = np.abs(expected.deviation(labels)) / expected.force_bounds
                energy = abs(labels.energy - expected.energy) / expected.energy_bound
                yield Judged(float(excess.max()), float(energy))
    second.close()


def main() -> None:
    """Print, for each configuration, how many labels were judged and how far off they were."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("configurations", nargs="+", type=Path)
    parser.add_argument("--every", type=int, default=1, help="label one step in so many")
    parser.add_argument(
        "--steps", type=int, help="replaces dynamics.steps; runs with stages end there"
    )
    arguments = parser.parse_args()
    print("| run | labels | doubted | largest deviation of a force | of an energy |")
    print("|---|---|---|---|---|", flush=True)
    for source in arguments.configurations:
        with tempfile.TemporaryDirectory() as folder:
            found = list(
                judged_labels(source, Path(folder), every=arguments.every, steps=arguments.steps)
            )
        forces = max((judged.force for judged in found), default=0.0)
        energies = max((judged.energy for judged in found), default=0.0)
        doubted = sum(judged.doubted for judged in found)
        print(
            f"| {source.stem} | {len(found)} | {doubted} | {forces:.2f} | {energies:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
