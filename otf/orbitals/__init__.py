"""Matrices in bases of atomic orbitals, densities of atoms, and real-space grids."""
