"""Molecular dynamics by ase.md, with exact capture and restoration of its state."""
