"""The electron density, point by point."""
