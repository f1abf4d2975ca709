"""Cholesky factors of symmetric matrices, and solutions by them, in place where possible."""

import numpy as np
from scipy.linalg.blas import dsyrk, dtrsm, dtrsv
from scipy.linalg.lapack import dpotrf, dtrtri

from otf.arrays import Floats


def add_outer(matrix: Floats, rows: Floats, sign: float, *, beta: float = 1.0) -> Floats:
    """Lower triangle of beta * matrix + sign * rows^T rows, in place."""
    columns = np.ascontiguousarray(rows).T
    return np.asarray(dsyrk(sign, columns, beta=beta, c=matrix, lower=1, overwrite_c=1))


def cholesky(matrix: Floats) -> Floats | None:
    """Lower factor, in place (the upper triangle is not cleared); None if not positive definite."""
    factor, failed = dpotrf(matrix, lower=1, overwrite_a=1, clean=0)
    return None if failed else np.asarray(factor)


def forward(factor: Floats, vectors: Floats) -> Floats:
    """L^-1 v of a vector (n,) or of columns (n, m)."""
    if vectors.ndim == 1:
        return np.asarray(dtrsv(factor, vectors, lower=1))
    return np.asarray(dtrsm(1.0, factor, vectors, lower=1))


def back(factor: Floats, vectors: Floats) -> Floats:
    """L^-T v of a vector (n,) or of columns (n, m)."""
    if vectors.ndim == 1:
        return np.asarray(dtrsv(factor, vectors, lower=1, trans=1))
    return np.asarray(dtrsm(1.0, factor, vectors, lower=1, trans_a=1))


def solve(factor: Floats, vectors: Floats) -> Floats:
    """(L L^T)^-1 v of a vector (n,) or of columns (n, m)."""
    return back(factor, forward(factor, vectors))


def inverse_factor(factor: Floats) -> Floats:
    """L^-1, with zeros above the diagonal."""
    inverse, _ = dtrtri(factor, lower=1)
    return np.tril(inverse)


def solved(matrix: Floats, vector: Floats) -> Floats | None:
    """Solution of a small general system, or None if it is singular."""
    try:
        return np.asarray(np.linalg.solve(matrix, vector))
    except np.linalg.LinAlgError:
        return None
