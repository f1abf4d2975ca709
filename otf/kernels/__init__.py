"""Compiled numerics on bare arrays: no structures, no files, no control flow of the run."""
