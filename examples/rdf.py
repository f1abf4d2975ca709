"""Radial distribution function from Python: python examples/rdf.py runs/silicon [CUTOFF_A].

`otf analyse rdf runs/silicon` does the same, and more, from the command line.
"""

import sys
from pathlib import Path

from otf.analysis.rdf import rdf
from otf.io.read_frames import read_frames

path, cutoff = Path(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 6.0
frames = read_frames(path)
if frames.time_fs is None:
    raise SystemExit(f"{path}: its frames have no times")
second_half = frames.between(0.5 * frames.time_fs[-1], None, every=5)
curves = rdf([second_half], cutoff_A=cutoff, bin_A=0.05)

for name, g in curves.y.items():
    print(f"# {curves.x_name} {name} standard_error")
    for r, mean, error in zip(curves.x, g.mean, g.error, strict=True):
        print(f"{r:.3f} {mean:.4f} {error:.4f}")
