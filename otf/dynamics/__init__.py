"""Moving the atoms: ase.md with exact capture and restore of state."""
