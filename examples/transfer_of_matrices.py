"""True errors of a model of matrices in other structures, beside those that it expects.

otf electrons learn SMALL --output h.h5
python examples/transfer_of_matrices.py h.h5 LARGE

LARGE is a folder of calculations by SIESTA, OpenMX or PySCF in the same basis, as for
`otf electrons learn`. Errors are root mean squares; expected ones are one standard deviation.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt

from otf.electrons.levels import levels_of
from otf.postprocess.electronic.learn import matrices_in
from otf.postprocess.electronic.model_file import read_model


def rms(values: npt.ArrayLike) -> float:
    """Root mean square, in thousandths."""
    return 1e3 * float(np.sqrt(np.mean(np.asarray(values) ** 2)))


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("model", type=Path)
parser.add_argument("runs", type=Path)
options = parser.parse_args()

model = read_model(options.model)
print(f"left out: Hamiltonian {model.left_out_meV:.2f} meV where not zero")
print("                       Hamiltonian, meV   occupied levels, meV   gap, meV")
print("atoms   s per atom     true  expected       true  expected      true  expected")
for label in matrices_in(options.runs):
    began = time.perf_counter()
    model.ensemble.mean.of(label.atoms)
    each = (time.perf_counter() - began) / len(label.atoms)
    mean, samples = model.ensemble.of(label.atoms)
    m, filling = label.matrices, mean.filling
    truth = levels_of(
        m.hamiltonian, m.overlap, m.electrons, m.kpoints,
        smearing_eV=filling.smearing_eV, methfessel_paxton=filling.methfessel_paxton,
    )  # fmt: skip
    sampled = [s.levels for s in samples]
    occupied = slice(0, truth.occupied)
    matrix = m.hamiltonian.on(mean.hamiltonian.pairs)
    filled = matrix.values != 0.0

    row = [
        rms((mean.hamiltonian.values - matrix.values)[filled]),
        rms([(s.hamiltonian.values - mean.hamiltonian.values)[filled] for s in samples]),
        rms((mean.levels.energies - truth.energies)[occupied]),
        rms([(s.energies - mean.levels.energies)[occupied] for s in sampled]),
        rms(mean.levels.gap - truth.gap),
        rms([s.gap - mean.levels.gap for s in sampled]),
    ]
    numbers = "  ".join(f"{value:9.2f}" for value in row)
    print(f"{len(label.atoms):5d}   {each:10.4f} {numbers}", flush=True)
