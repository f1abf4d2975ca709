"""Doctests of modules that import an optional package are left out where it is missing."""

from importlib.util import find_spec

collect_ignore = [] if find_spec("sisl") else ["otf_siesta/matrices.py", "otf_siesta/orbitals.py"]
