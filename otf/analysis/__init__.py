"""What a trajectory says: distributions, transport, spectra, each with its statistical error."""
