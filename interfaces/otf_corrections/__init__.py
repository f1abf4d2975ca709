"""Cheap terms of an energy that need no electrons: dispersion and the repulsion of cores."""
