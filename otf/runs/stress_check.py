"""Check of the stress of a run's engine before its first step, where the stress is learned."""

import logging

from ase import Atoms

from otf.driver.labelling import Labeller
from otf.engines.protocol import Engine
from otf.engines.stress_check import strained, stress_problem
from otf.runs.directory import RunDirectory
from otf.runs.noise import first_label_of, has_label, labelled_apart

_LOG = logging.getLogger("otf.stress")


def check_stress(run: RunDirectory, engine: Engine, labeller: Labeller, atoms: Atoms) -> None:
    """Label the strained starting structure, and warn of a stress that contradicts the energy.

    Done once, at the start of a run, with one additional engine call.

    Raises
    ------
    RunError
        If the engine gives no label of one of the two structures.
    """
    if not labeller.needs_stress or has_label(run.strained):
        return
    # First, because later labels start from the files of the latest label.
    second = labelled_apart(run.strained, engine, labeller, strained(atoms))
    first = first_label_of(labeller, atoms)
    found = stress_problem(first, second, volume=atoms.get_volume(), noise=0.0)
    if found is not None:
        _LOG.warning(
            "the results of the engine contradict each other: %s; do not use the stress, cell or "
            "pressure of this run",
            found,
        )
