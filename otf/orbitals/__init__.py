"""Matrices and grids of atomic orbitals."""
