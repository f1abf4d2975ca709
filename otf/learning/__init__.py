"""Learning along the trajectory: what the model knows, how strongly it is held, how far to trust it."""
