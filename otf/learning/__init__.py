"""Learning along the trajectory: training of the model and its predicted errors."""
