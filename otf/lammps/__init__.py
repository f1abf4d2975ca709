"""Learned models as force fields in LAMMPS."""

from otf.lammps.attach import attach

__all__ = ["attach"]
