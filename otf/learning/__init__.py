"""Learning along the trajectory: what the model knows and how far to trust it."""
