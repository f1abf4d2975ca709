"""``otf analyse phonons``, of the model and of its engine."""

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.units import _amu, _e

from otf.postprocess.phonons import _atoms, _displaced
from tests.cli.command import otf

pytestmark = pytest.mark.full  # phonopy

pytest.importorskip("phonopy")
CONFIG = """\
system: {bulk: {name: Al, a_A: 4.0, cubic: true}, repeat: [2, 2, 2]}
engine: {kind: ase, calculator: "ase.calculators.emt:EMT"}
dynamics: {ensemble: csvr, steps: 200, timestep_fs: 2.0, temperature_K: 150}
policy: {force_target_meV_A: 5}
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("phonons")
    (folder / "al.yaml").write_text(CONFIG)
    otf("run", folder / "al.yaml", "--output", folder / "run")
    return folder / "run"


def numbers(said: str) -> dict[str, float]:
    lines = [line for line in said.splitlines() if " = " in line]
    return {k: float(v.split()[0]) for k, v in (x.lstrip("# ").split(" = ") for x in lines)}


def highest_THz() -> float:
    """Highest frequency of the whole supercell, from the Hessian of all atoms."""
    atoms = bulk("Al", a=4.0, cubic=True) * (2, 2, 2)
    atoms.calc = EMT()
    hessian = []
    for k in range(3 * len(atoms)):
        sides = []
        for step in (0.01, -0.01):
            atoms.positions[divmod(k, 3)] += step
            sides.append(atoms.get_forces().ravel())
            atoms.positions[divmod(k, 3)] -= step
        hessian.append((sides[1] - sides[0]) / 0.02)
    eigenvalue = np.linalg.eigvalsh(np.array(hessian))[-1] / atoms.get_masses()[0]
    return float(np.sqrt(eigenvalue * _e / _amu * 1e20) / (2e12 * np.pi))


def test_phonons_of_model_and_engine(run, tmp_path):
    said = otf(
        "analyse", "phonons", run, "--by-engine", "--mesh", 2, "--output", tmp_path / "p.csv"
    )
    found = numbers(said.stdout)
    assert found["highest_THz_engine"] == pytest.approx(highest_THz(), rel=1e-3)
    assert found["highest_THz_model"] == pytest.approx(found["highest_THz_engine"], rel=0.05)
    assert 0.0 < found["rms_difference_THz_model"] < 0.3
    for name in ("engine", "model"):
        assert abs(found[f"lowest_THz_{name}"]) < 1e-4  # translations of the whole crystal
    names = "frequency_THz,states_per_THz_model,states_per_THz_engine"
    assert names in (tmp_path / "p.csv").read_text()
    one = numbers(otf("analyse", "phonons", run, "--mesh", 9).stdout)
    assert set(one) == {"lowest_THz_model", "highest_THz_model"}


def test_displaced_atoms_come_in_the_order_of_the_cell_that_engines_are_opened_with():
    salt = bulk("NaCl", "rocksalt", a=5.6, cubic=True)
    salt.set_masses(salt.get_masses() + 1.0)
    phonon = _displaced(salt, (2, 2, 2), 0.01)
    opened = list(_atoms(phonon.supercell).symbols)
    cells = phonon.supercells_with_displacements
    assert all(list(_atoms(cell).symbols) == opened for cell in cells)
    assert opened != list((salt * (2, 2, 2)).symbols)
    assert set(phonon.masses) == set(salt.get_masses())


def test_what_has_no_phonons_says_so(tmp_path):
    (tmp_path / "h2.yaml").write_text(
        "system: {molecule: H2}\nengine: {kind: tblite}\ndynamics: {steps: 2}\n"
    )
    otf("run", tmp_path / "h2.yaml", "--output", tmp_path / "run")
    error = otf("analyse", "phonons", tmp_path / "run", rc=1).stderr
    assert "periodic in all directions" in error
