"""Learned models inside LAMMPS: its domains, its integrators, our forces."""

from otf.lammps.attach import attach

__all__ = ["attach"]
