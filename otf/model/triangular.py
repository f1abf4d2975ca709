"""Cholesky factors of symmetric matrices, and solutions by them, in place where possible.

The expensive ones release the interpreter lock, so that threads can work on several models at once:
``scipy.linalg`` holds it. They call the same LAPACK and BLAS.
"""

import ctypes
from collections.abc import Callable

import numpy as np
from numba.extending import get_cython_function_address
from scipy.linalg.blas import dsyrk, dtrsv
from scipy.linalg.lapack import dtrtri

from otf.arrays import Floats


def _routine(module: str, name: str) -> Callable[..., None]:
    """A routine of Fortran, all of whose arguments are pointers."""
    return ctypes.CFUNCTYPE(None)(get_cython_function_address(f"scipy.linalg.{module}", name))


_DPOTRF = _routine("cython_lapack", "dpotrf")
_DTRSM = _routine("cython_blas", "dtrsm")


def _integer(value: int) -> object:
    return ctypes.byref(ctypes.c_int(value))


def add_outer(matrix: Floats, rows: Floats, sign: float, *, beta: float = 1.0) -> Floats:
    """Lower triangle of beta * matrix + sign * rows^T rows, in place."""
    columns = np.ascontiguousarray(rows).T
    return np.asarray(dsyrk(sign, columns, beta=beta, c=matrix, lower=1, overwrite_c=1))


def cholesky(matrix: Floats) -> Floats | None:
    """Lower factor (the upper triangle is not cleared); None if not positive definite.

    In place where the matrix is in the order of Fortran.
    """
    matrix, failed = np.asfortranarray(matrix), ctypes.c_int()
    n = _integer(len(matrix))
    _DPOTRF(b"L", n, matrix.ctypes, n, ctypes.byref(failed))
    return None if failed.value else matrix


def forward(factor: Floats, vectors: Floats) -> Floats:
    """L^-1 v of a vector (n,) or of columns (n, m)."""
    if vectors.ndim == 1:
        return np.asarray(dtrsv(factor, vectors, lower=1))
    return _solved_in_place(factor, vectors.copy(order="F"), b"N")


def back(factor: Floats, vectors: Floats) -> Floats:
    """L^-T v of a vector (n,) or of columns (n, m)."""
    if vectors.ndim == 1:
        return np.asarray(dtrsv(factor, vectors, lower=1, trans=1))
    return _solved_in_place(factor, vectors.copy(order="F"), b"T")


def _solved_in_place(factor: Floats, columns: Floats, transposed: bytes) -> Floats:
    factor, one = np.asfortranarray(factor), ctypes.byref(ctypes.c_double(1.0))
    n, m = _integer(len(columns)), _integer(columns.shape[1])
    _DTRSM(b"L", b"L", transposed, b"N", n, m, one, factor.ctypes, n, columns.ctypes, n)
    return columns


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
