"""Postprocessing of runs."""
