"""Any program that speaks the i-PI protocol as an engine: Quantum ESPRESSO, CP2K and others."""
