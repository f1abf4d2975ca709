"""Hamiltonians and density matrices learned from those of the labels."""
