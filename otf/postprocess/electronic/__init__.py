"""Electronic structure along a trajectory, from learned matrices and densities."""
