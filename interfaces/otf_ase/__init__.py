"""Any ASE calculator as an engine."""
