"""Kohn-Sham DFT for molecules through PySCF."""
