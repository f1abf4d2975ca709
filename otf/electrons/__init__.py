"""Models of Hamiltonians, density matrices and densities trained on labels."""
