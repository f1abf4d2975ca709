"""Labels by one SIESTA process each: self-consistent, or by a single diagonalisation."""

import shutil
from pathlib import Path

import numpy as np

from otf.engines.labels import LabelFailure
from otf.engines.process import Finished
from otf_siesta.answers import completed, read_label, read_one_shot
from otf_siesta.changes import HAMILTONIAN_OF_DENSITY, NAME, ONE_CYCLE
from otf_siesta.guesses import begin_from, write_guess
from otf_siesta.job import DENSITY_MATRIX, Ended, Job, Question
from otf_siesta.output import Answer

_SINGLE_POINT: dict[str, object] = {"MD.TypeOfRun": "CG", "MD.Steps": 0}


class ByProcess:
    """Starts a new SIESTA process for each label."""

    def __init__(self, job: Job) -> None:
        self._job = job

    def label(self, question: Question) -> Ended | LabelFailure:
        """A self-consistent label."""
        job, before = self._job, question.before
        directory = job.directories.fresh(question.index)
        job.prepare(directory, question.atoms, _SINGLE_POINT, question.remedies)
        if before is not None:
            shutil.copyfile(before / DENSITY_MATRIX, directory / DENSITY_MATRIX)
        begin_from(question.guess, before, directory, NAME)
        done = job.run(directory)
        found = read_label(
            directory,
            question.atoms,
            done,
            question.remedies,
            warm=before is not None,
            completed=completed(directory),
        )
        if isinstance(found, LabelFailure):
            return found
        answer, cycles = found
        return Ended(job.labels(directory, answer, done, cycles=cycles), directory)

    def stop(self) -> None:
        """Do nothing: no process outlives its label."""


def diagonalise_once(job: Job, question: Question) -> tuple[Answer | None, float, Finished]:
    """One diagonalisation from a density matrix, in the directory of a label.

    Returns
    -------
    The answer or None, the bound on the error of its forces (eV/Angstrom), and the exit status.
    """
    directory = job.directories.fresh(question.index)
    job.prepare(directory, question.atoms, {**_SINGLE_POINT, **ONE_CYCLE}, ())
    begin_from(question.guess, question.before, directory, NAME)
    done = job.run(directory)
    answer, error = read_one_shot(directory, question.atoms) or (None, np.inf)
    return answer, error, done


def one_cycle(job: Job, question: Question) -> Path | LabelFailure:
    """The directory with the Hamiltonian of a density matrix, or of atomic densities without.

    Raises
    ------
    EngineError
        If the density matrix is of another basis.
    """
    directory = job.directories.fresh(question.index)
    job.prepare(directory, question.atoms, {**_SINGLE_POINT, **HAMILTONIAN_OF_DENSITY}, ())
    guess, before = question.guess, question.before
    if guess is not None and before is not None:
        write_guess(guess, before, directory, NAME)
    done = job.run(directory)
    found = read_label(
        directory,
        question.atoms,
        done,
        (),
        warm=guess is not None,
        completed=completed(directory),
    )
    return found if isinstance(found, LabelFailure) else directory
