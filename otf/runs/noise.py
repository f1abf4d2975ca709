"""Noise of the labels of a run, measured before it starts where the engine uses a grid."""

import logging
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from ase import Atoms

from otf.driver.labelling import Labeller, unlabelled
from otf.engines.label_noise import LabelNoise, noise_between, translated
from otf.engines.labels import LabelFailure, Labels
from otf.engines.protocol import Engine
from otf.io.labels import LabelFile, first_label, read_labels
from otf.runs.directory import RunDirectory
from otf.units import MEV

_LOG = logging.getLogger("otf.noise")


def measured_noise(
    run: RunDirectory, engine: Engine, labeller: Labeller, atoms: Atoms, *, target: float
) -> LabelNoise | None:
    """Noise of the labels: from the files of the run, or by an additional engine call.

    The first label of the run is computed along with it, so that the noise is known before
    anything is learned.

    Parameters
    ----------
    engine
        The engine; the additional call leaves no files that later labels start from.
    labeller
        Takes the labels of the run, which may start from learned densities.
    target
        Force error wanted, eV/Angstrom; noise above it is warned of.

    Returns
    -------
    None if the engine's labels do not depend on the position of the atoms in space.

    Raises
    ------
    RunError
        If the engine gives no label of the starting structure.
    """
    if not engine.capabilities.grid:
        return None
    if run.checkpoint.exists() and not len(labeller.file):
        return None  # the labels were lost, which the restored run reports
    known = has_label(run.translated)
    # First, because later labels start from the files of the latest label.
    second = labelled_apart(run.translated, engine, labeller, translated(atoms))
    first = first_label_of(labeller, atoms)
    noise = noise_between(first, second)
    if not known:
        _LOG.info(
            "noise of the labels: forces %.1f meV/A, energy %.1f meV, by translating all atoms",
            noise.force_mae / MEV,
            noise.energy / MEV,
        )
        if noise.force_mae > target:
            _LOG.warning(
                "the noise of the labels, %.1f meV/A, is above the target of %.1f meV/A, which no "
                "model reaches: labels depend on where the atoms are on a grid, or are not "
                "reproducible; a finer grid of the engine, tighter convergence or a larger "
                "policy.force_target_meV_A help",
                noise.force_mae / MEV,
                target / MEV,
            )
    return noise


def stored_noise(run: RunDirectory) -> LabelNoise | None:
    """Noise of the labels of a run; None if it was not measured."""
    if not (has_label(run.translated) and has_label(run.labels)):
        return None
    first, second = (first_label(path).labels for path in (run.labels, run.translated))
    return noise_between(first, second)


def further_labels(run: RunDirectory) -> tuple[int, float]:
    """Labels that were kept apart, and the seconds of all engine calls that are not learned."""
    kept = read_labels(run.quarantine) if has_label(run.quarantine) else []
    other = [first_label(path) for path in (run.translated, run.strained) if has_label(path)]
    return len(kept), sum(stored.labels.wall_s for stored in [*kept, *other])


def labelled_apart(path: Path, engine: Engine, labeller: Labeller, atoms: Atoms) -> Labels:
    """The label of a structure that is not of the trajectory, from a file of its own.

    Raises
    ------
    RunError
        If the engine gives no label.
    """
    with closing(LabelFile(path)) as file:
        other = replace(labeller, engine=engine, file=file, warns_of_net_force=False)
        return _label(other, atoms)


def first_label_of(labeller: Labeller, atoms: Atoms) -> Labels:
    """The first label of the run, computed if it is not there yet.

    A resumed run has it; one of another geometry is found when it is restored.
    """
    return labeller.file[0].labels if len(labeller.file) else _label(labeller, atoms)


def has_label(path: Path) -> bool:
    """Whether a file of labels has any."""
    return path.exists() and path.stat().st_size > 0


def _label(labeller: Labeller, atoms: Atoms) -> Labels:
    answer = labeller.label(atoms, index=0, step=0)
    if isinstance(answer, LabelFailure):
        raise unlabelled(0, answer)
    return answer
