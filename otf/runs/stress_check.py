"""Check of the stress of a run's engine before its first step, where the stress is learned."""

import logging

from ase import Atoms

from otf.driver.labelling import Labeller
from otf.engines.label_noise import LabelNoise
from otf.engines.labels import Labels
from otf.engines.protocol import Engine
from otf.engines.stress_check import strained, stress_problem
from otf.runs.directory import RunDirectory
from otf.runs.noise import first_label_of, has_label, labelled_apart

_LOG = logging.getLogger("otf.stress")


def strained_label(
    run: RunDirectory, engine: Engine, labeller: Labeller, atoms: Atoms
) -> Labels | None:
    """The label of the strained starting structure; None where no check is due.

    Taken once, before the first label: later labels start from the files of the latest one.

    Raises
    ------
    RunError
        If the engine gives no label.
    """
    if not labeller.needs_stress or run.checkpoint.exists() or has_label(run.strained):
        return None
    return labelled_apart(run.strained, engine, labeller, strained(atoms))


def warn_of_stress(
    second: Labels | None, labeller: Labeller, atoms: Atoms, noise: LabelNoise | None
) -> None:
    """Warn of a stress that contradicts the energy.

    Parameters
    ----------
    second
        The label of the strained starting structure, if there is one.
    noise
        Noise of the labels, if it was measured.

    Raises
    ------
    RunError
        If the engine gives no label of the starting structure.
    """
    if second is None:
        return
    found = stress_problem(
        first_label_of(labeller, atoms),
        second,
        volume=atoms.get_volume(),
        noise=0.0 if noise is None else noise.energy,
    )
    if found is not None:
        _LOG.warning(
            "the results of the engine contradict each other: %s; do not use the stress, cell or "
            "pressure of this run",
            found,
        )
