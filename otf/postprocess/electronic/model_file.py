"""File of a model of matrices, with samples of its posterior distribution."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from otf.arrays import Floats
from otf.electrons import bloch
from otf.electrons.density.overlap import Overlaps
from otf.electrons.environment import Reach
from otf.electrons.filling import Filling
from otf.electrons.fitted_matrices import FittedMatrices
from otf.electrons.learned_matrices import LearnedMatrices, MatrixEnsemble
from otf.electrons.matrix_features import Description, MatrixFeatures, Problem
from otf.errors import FileError
from otf.io.array_file import read_arrays, write_arrays
from otf.orbitals.block_matrices import RadialFunctions

_KIND = "matrix model"


@dataclass(frozen=True, eq=False)
class StoredModel:
    """A model of matrices for any structure of its elements.

    Attributes
    ----------
    ensemble
        The matrices, and samples of them for their errors.
    orbitals
        Radial functions of each element, if known.
    exact_overlaps
        Whether overlaps are computed from the radial functions, not learned.
    left_out_meV
        Root mean square error of the Hamiltonian at the structures left out.
    shortest_A
        Shortest period of the learned cells if atoms see their own images in it, else None.
    """

    ensemble: MatrixEnsemble
    orbitals: Mapping[int, RadialFunctions] | None
    exact_overlaps: bool
    left_out_meV: float
    shortest_A: float | None

    def with_grid(self, counts: tuple[int, int, int]) -> "StoredModel":
        """The same with another grid of k points for crystals, with the Gamma point."""
        points = bloch.grid(counts, (0.0, 0.0, 0.0))

        mean = self.ensemble.mean
        changed = replace(mean, filling=replace(mean.filling, fixed=points))
        return replace(self, ensemble=replace(self.ensemble, mean=changed))


def write_model(path: Path, model: StoredModel) -> None:
    """Write a model, replacing the file if it exists.

    Raises
    ------
    FileError
        If the file cannot be written.
    """
    mean = model.ensemble.mean
    predictor, filling = mean.predictor, mean.filling
    problems = list(predictor.coefficients)
    scalars = {
        "shells": [[z, list(degrees)] for z, degrees in predictor.features.shells.items()],
        "names": list(predictor.names),
        "description": asdict(predictor.features.description),
        "problems": problems,
        "longest": [[*species, length] for species, length in predictor.longest.items()],
        "farthest": [[*species, length] for species, length in predictor.farthest.items()],
        "n_labels": mean.n_labels,
        "valence": [[z, count] for z, count in filling.valence.items()],
        "filling": {
            "charge": filling.charge,
            "spacing_1_A": filling.spacing_1_A,
            "shifted": filling.shifted,
            "compositions": filling.compositions,
            "smearing_eV": filling.smearing_eV,
            "methfessel_paxton": filling.methfessel_paxton,
        },
        "exact_overlaps": model.exact_overlaps,
        "left_out_meV": model.left_out_meV,
        "shortest_A": model.shortest_A,
        "samples": len(model.ensemble.samples),
        "orbitals": list(model.orbitals or {}),
    }
    arrays: dict[str, npt.NDArray[Any]] = {}
    for k, problem in enumerate(problems):
        known = predictor.coefficients[problem]
        arrays[f"coefficients-{k}"] = known
        off = [s.coefficients[problem] - known for s in model.ensemble.samples]
        arrays[f"deviations-{k}"] = np.array(off, dtype=np.float32)
    for z, functions in (model.orbitals or {}).items():
        arrays[f"distances-{z}"] = functions.distances
        arrays[f"values-{z}"] = functions.values
    write_arrays(path, _KIND, scalars, arrays)


def read_model(path: Path) -> StoredModel:
    """Read a model.

    Raises
    ------
    FileError
        If the file is missing, damaged or of another kind.
    """
    if not path.is_file():
        raise FileError(f"{path}: is missing; `otf electrons learn` writes such a file")
    scalars, arrays = read_arrays(path, _KIND)
    try:
        return _model(scalars, arrays)
    except (KeyError, ValueError, TypeError) as error:
        raise FileError(
            f"{path}: is of another version of otf ({error!r}); learn it again"
        ) from error


def _model(scalars: dict[str, Any], arrays: dict[str, npt.NDArray[Any]]) -> StoredModel:
    shells = {int(z): tuple(degrees) for z, degrees in scalars["shells"]}
    described = dict(scalars["description"])
    described |= {name: Reach(**described[name]) for name in ("around", "bond")}
    features = MatrixFeatures(shells, Description(**described))
    problems = [_problem(key) for key in scalars["problems"]]
    longest, farthest = (
        {(one, other): length for one, other, length in scalars[name]}
        for name in ("longest", "farthest")
    )
    functions = {
        z: RadialFunctions(arrays[f"distances-{z}"], arrays[f"values-{z}"])
        for z in scalars["orbitals"]
    }
    overlaps = Overlaps(shells, functions) if scalars["exact_overlaps"] else None
    filled = dict(scalars["filling"])
    filled["compositions"] = tuple(tuple(row) for row in filled["compositions"])
    filling = Filling({int(z): count for z, count in scalars["valence"]}, **filled)

    def predictor(coefficients: Sequence[Floats]) -> FittedMatrices:
        by_problem = dict(zip(problems, coefficients, strict=True))
        return FittedMatrices(features, scalars["names"], by_problem, longest, farthest)

    known = [arrays[f"coefficients-{k}"] for k in range(len(problems))]
    samples = [
        predictor([c + arrays[f"deviations-{k}"][s] for k, c in enumerate(known)])
        for s in range(scalars["samples"])
    ]
    mean = LearnedMatrices(predictor(known), filling, scalars["n_labels"], overlaps)
    return StoredModel(
        MatrixEnsemble(mean, samples),
        functions or None,
        scalars["exact_overlaps"],
        scalars["left_out_meV"],
        scalars["shortest_A"],
    )


def _problem(key: list[Any]) -> Problem:
    """The key of a problem, whose tuples are lists in JSON."""
    of, kind = key
    if isinstance(of, int):
        return of, (int(kind[0]), int(kind[1]))
    return (int(of[0]), int(of[1])), kind
