"""Analysis of trajectories: distributions, transport and spectra, with statistical errors."""
