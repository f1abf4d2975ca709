"""What a DFT interface is built of."""
