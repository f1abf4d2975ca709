"""Hybrid Monte Carlo on a learned model compared with long dynamics by the engine alone."""

import numpy as np
import pytest
from ase import units
from ase.build import molecule
from ase.md.langevinbaoab import LangevinBAOAB
from scipy import stats
from tblite.ase import TBLite
from threadpoolctl import threadpool_limits

from otf.config import read_config
from otf.io.read_frames import read_frames
from otf.runs.create import create_run
from otf.runs.directory import read_run
from otf.runs.session import run_session

pytestmark = pytest.mark.full  # takes minutes

CONFIG = """\
system: {{molecule: CH4}}
engine: {{kind: tblite, method: GFN2-xTB, threads: 1}}
dynamics: {{ensemble: slhmc, steps: {steps}, burn_in: 60, timestep_fs: 0.5, temperature_K: 300}}
"""


def directly(steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Energies and lengths of one bond from direct dynamics, every 0.1 ps."""
    rng = np.random.default_rng(8)
    atoms = molecule("CH4")
    atoms.calc = TBLite(method="GFN2-xTB", verbosity=0)
    width = np.sqrt(units.kB * 300 * atoms.get_masses())
    atoms.set_momenta(width[:, None] * rng.normal(size=(5, 3)))
    dynamics = LangevinBAOAB(atoms, 0.5 * units.fs, temperature_K=300, T_tau=50 * units.fs, rng=rng)
    energies, bonds = [], []
    for step in range(steps):
        dynamics.step()
        if step > 2000 and step % 200 == 0:
            energies.append(atoms.get_potential_energy())
            bonds.append(atoms.get_distance(0, 1))
    return np.array(energies), np.array(bonds)


@pytest.mark.slow
@threadpool_limits.wrap(limits=1)  # two threads are slower for five atoms
def test_methane_is_sampled_as_by_the_engine_alone(tmp_path, long):
    source = tmp_path / "ch4.yaml"
    source.write_text(CONFIG.format(steps=3000 if long else 450))
    path = create_run(read_config(source), source, tmp_path / "run").path
    assert run_session(*read_run(path)).sampling.accepted_percent > 60.0
    sampled = read_frames(path).of_stage("sample")
    energies, bonds = directly(300000 if long else 32000)
    lengths = np.linalg.norm(sampled.positions[:, 1] - sampled.positions[:, 0], axis=1)
    assert stats.ks_2samp(sampled.series["potential_energy_eV"][::5], energies).pvalue > 1e-3
    assert stats.ks_2samp(lengths[::5], bonds).pvalue > 1e-3
