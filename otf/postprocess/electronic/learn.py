"""A model of matrices from runs and from folders of finished calculations."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from ase.data import chemical_symbols

from otf.electrons.bond_features import BondFeatures
from otf.electrons.density_guesses import describe
from otf.electrons.environment import shortest_period
from otf.electrons.filling import Filling
from otf.electrons.learned_matrices import LearnedMatrices, MatrixEnsemble
from otf.electrons.matrix_features import Description
from otf.electrons.matrix_model import MatrixModel
from otf.engines.registry import installed_engines, load_engine
from otf.errors import EngineError, RunError
from otf.io.matrices import LabelMatrices, read_matrices
from otf.model.one_thread import in_one_thread
from otf.orbitals.block_matrices import BlockMatrix, Matrices, RadialFunctions, Shells
from otf.postprocess.electronic.learned_matrices import (
    blocks_of,
    model_of,
    names_of,
    of_which_tested,
    orbitals_of,
    overlaps_of,
)
from otf.postprocess.electronic.model_file import StoredModel
from otf.runs.directory import RunDirectory

_FEWEST = 3
_SAMPLES = 4
DECAY_A = 0.7  # measured for GaAs and Al: see docs/results/matrices.md
_FINER = 10.0
FINER_IF_SHORT = 20.0  # fewer effects can be told apart if images move together
_BUDGET = 5
_MOST_FEATURES = 3000


@in_one_thread
def learn(paths: Sequence[Path]) -> StoredModel:
    """Learn the matrices of structures of any size and composition.

    Parameters
    ----------
    paths
        Run directories, folders of calculations of an engine, or folders of such folders.

    Raises
    ------
    RunError
        If there are too few structures, or their bases differ.
    FileError, EngineError
        If a file cannot be used.
    """
    labels, functions = _labels(paths)
    if len(labels) < _FEWEST:
        raise RunError(
            f"{len(labels)} structures with matrices are too few, {_FEWEST} are needed: give more "
            "runs or folders"
        )
    order = np.random.default_rng(0).permutation(len(labels))
    labels = [labels[k] for k in order]
    shells = _shells(labels)
    labels = [replace(label, matrices=_with_shells(label, shells)) for label in labels]
    overlaps = overlaps_of(functions, labels[0])
    shortest = min(shortest_period(label.atoms) for label in labels)
    short = shortest < 2.0 * Description().around.cutoff
    description = _describe(labels, short=short)
    tested = of_which_tested(len(labels))
    names = names_of(overlaps)
    model = model_of(labels[:-tested], overlaps, description)
    unseen = [(label.atoms, blocks_of(label, names)) for label in labels[-tested:]]
    calibration = model.calibration(unseen)
    left_out = _error(model, labels[-tested:])
    for atoms, matrices in unseen:
        model.learn(atoms, matrices)
    filling = Filling.of([(label.atoms, label.matrices) for label in labels])
    mean = LearnedMatrices(model.fitted(), filling, model.n_labels, overlaps)
    ensemble = MatrixEnsemble(mean, model.samples(_SAMPLES, calibration))
    return StoredModel(
        ensemble, functions, overlaps is not None, left_out, shortest if short else None
    )


def _describe(labels: Sequence[LabelMatrices], *, short: bool) -> Description:
    """Description for structures other than the learned ones.

    Nearby atoms and low degrees are preferred more strongly than where errors at structures like
    the learned ones decide.
    """
    usual = describe(labels[0].matrices.hamiltonian)
    n_species = len(labels[0].matrices.hamiltonian.shells)
    budget = usual.bond_budget
    if any(label.atoms.pbc.any() for label in labels):
        for tried in range(budget, _BUDGET + 1):
            features = BondFeatures(
                usual.bond.count, n_species, usual.around.count, usual.l_max, tried
            )
            if len(features.degrees(0)) < _MOST_FEATURES:
                budget = tried
    return replace(
        usual,
        bond_budget=budget,
        around=replace(usual.around, decay_A=DECAY_A),
        finer=FINER_IF_SHORT if short else _FINER,
    )


def _labels(
    paths: Sequence[Path],
) -> tuple[list[LabelMatrices], Mapping[int, RadialFunctions] | None]:
    """Labels of all paths, and radial functions of all their elements if known."""
    labels: list[LabelMatrices] = []
    functions: dict[int, RadialFunctions] = {}
    complete = True
    for path in paths:
        found = list(matrices_in(path))
        if not found:
            raise RunError(
                f"{path}: has no matrices; runs keep them with engine.warm_start: auto (OpenMX: "
                "engine.keep_matrices: true) or get them by `otf electrons fetch`, folders of "
                "SIESTA need .fdf, .TSHS, .DM and .ORB_INDX, of OpenMX the input and .scfout, of "
                "PySCF a .chk file"
            )
        for label in found:
            known = label.matrices.orbitals
            complete = complete and known is not None
            for z, own in (known or {}).items():
                if not _alike(functions.setdefault(z, own), own):
                    raise RunError(
                        f"{path}: its orbitals of {chemical_symbols[z]} are not those of the "
                        "structures before: learn those of one basis"
                    )
        labels += found
    return labels, functions if complete else None


def matrices_in(path: Path) -> Iterator[LabelMatrices]:
    """Matrices of a run or of a calculation, or of those in the folders of a folder.

    Raises
    ------
    RunError
        If the path is no folder.
    FileError, EngineError
        If a file cannot be used.
    """
    if not path.is_dir():
        raise RunError(f"{path}: is not a folder")
    found = list(_of_folder(path))
    if found:
        yield from found
        return
    for folder in sorted(p for p in path.iterdir() if p.is_dir()):
        yield from _of_folder(folder)


def _of_folder(path: Path) -> Iterator[LabelMatrices]:
    """Matrices of a run, of its latest basis, or of one calculation."""
    labels = [read_matrices(f) for f in sorted(RunDirectory(path).matrices.glob("[0-9]*.h5"))]
    for label in labels:
        if label.matrices.basis == labels[-1].matrices.basis:
            functions = orbitals_of(path, label)
            yield replace(label, matrices=replace(label.matrices, orbitals=functions))
    found = None if labels else _calculation(path)
    if found is not None:
        yield found


def _calculation(folder: Path) -> LabelMatrices | None:
    """The calculation in a folder, by whichever engine it is of."""
    for kind in sorted(installed_engines()):
        try:
            engine = load_engine(kind)
        except EngineError:  # of another distribution, and broken
            continue
        found = engine.finished(folder)
        if found is not None:
            return LabelMatrices(found.atoms, found.matrices, "", None, {})
    return None


def _alike(one: RadialFunctions, other: RadialFunctions) -> bool:
    """Whether radial functions are the same."""
    return one.values.shape == other.values.shape and bool(
        np.allclose(one.distances, other.distances) and np.allclose(one.values, other.values)
    )


def _shells(labels: Sequence[LabelMatrices]) -> Shells:
    """Shells of all elements.

    Raises
    ------
    RunError
        If those of an element differ between labels.
    """
    found: dict[int, tuple[int, ...]] = {}
    for label in labels:
        for z, degrees in label.matrices.hamiltonian.shells.items():
            if found.setdefault(z, degrees) != degrees:
                raise RunError(
                    f"the structures have different bases (shells of {chemical_symbols[z]} "
                    f"{found[z]} and {degrees}): learn those of one basis"
                )
    return found


def _with_shells(label: LabelMatrices, shells: Shells) -> Matrices:
    def changed(matrix: BlockMatrix) -> BlockMatrix:
        return replace(matrix, shells=shells)

    m = label.matrices
    return replace(
        m,
        hamiltonian=changed(m.hamiltonian),
        overlap=changed(m.overlap),
        density=changed(m.density),
    )


def _error(model: MatrixModel, labels: Sequence[LabelMatrices]) -> float:
    """Root mean square error of the Hamiltonian, meV."""
    squares, count = 0.0, 0
    for label in labels:
        truth = label.matrices.hamiltonian
        found = model.predict(label.atoms, truth.pairs)["hamiltonian"]
        filled = truth.values != 0.0
        squares += float(((found.values - truth.values)[filled] ** 2).sum())
        count += int(filled.sum())
    return 1e3 * float(np.sqrt(squares / count))
