"""Building blocks of interfaces to DFT programs."""
