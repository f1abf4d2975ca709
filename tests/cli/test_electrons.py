"""``otf electrons learn`` on folders of calculations, and ``otf analyse --model``."""

import lzma
import shutil
from pathlib import Path

import numpy as np
import pytest
from ase.build import molecule
from ase.io import write

from otf.engines.registry import load_engine
from otf.errors import EngineError
from otf.io.volumes import read_cube
from tests.cli.command import otf

pytestmark = pytest.mark.full

GOLDEN = Path(__file__).parents[1] / "golden"


def unpacked(source: Path, target: Path) -> Path:
    """A copy of folders with their .xz files decompressed."""
    for path in source.rglob("*"):
        if path.is_file():
            there = target / path.relative_to(source)
            there.parent.mkdir(parents=True, exist_ok=True)
            if path.suffix == ".xz":
                there.with_suffix("").write_bytes(lzma.decompress(path.read_bytes()))
            else:
                shutil.copy(path, there)
    return target


def table(said: str) -> np.ndarray:
    return np.loadtxt(said.splitlines(), ndmin=2)


def test_water_by_siesta(tmp_path):
    pytest.importorskip("sisl")
    runs = unpacked(GOLDEN / "siesta" / "n_h2o_folders", tmp_path / "runs")
    model = tmp_path / "h2o.h5"
    said = otf("electrons", "learn", runs, "--output", model).stdout
    assert "learned 5 structures" in said
    assert "own images" not in said  # a molecule in a box
    found = load_engine("siesta").finished(runs / "002")
    write(tmp_path / "seen.xyz", found.atoms)
    said = otf("analyse", "gap", "--model", model, tmp_path / "seen.xyz").stdout
    from otf.electrons.levels import levels_of

    m = found.matrices
    truth = levels_of(m.hamiltonian, m.overlap, m.electrons).gap
    assert m.electrons == pytest.approx(8.0)
    assert table(said)[0, 1] == pytest.approx(truth, abs=0.02)
    assert "expected error (two standard deviations) of the gap" in said
    # Radial functions are needed for densities, and these folders have none.
    wanted = ("analyse", "density", "--model", model, tmp_path / "seen.xyz")
    error = otf(*wanted, "--volume", tmp_path / "r.cube", rc=1).stderr
    assert "radial functions" in error
    write(tmp_path / "other.xyz", molecule("CH4"))
    error = otf("analyse", "gap", "--model", model, tmp_path / "other.xyz", rc=1).stderr
    assert "the structure has C, which no learned structure had" in error
    apart = found.atoms.copy()
    apart.positions += (0.0, 0.0, 3.0)
    write(tmp_path / "two.xyz", found.atoms + apart)
    error = otf("analyse", "gap", "--model", model, tmp_path / "two.xyz", rc=1).stderr
    assert "apart in the structure" in error
    assert "learn larger ones, or more molecules together" in error
    error = otf("analyse", "gap", tmp_path / "seen.xyz", "--kpoints", 2, 2, 2, rc=2).stderr
    assert "--kpoints needs --model" in error


def test_matrices_belong_to_the_last_structure(tmp_path):
    """Of a relaxation, the input has the first one."""
    pytest.importorskip("sisl")
    runs = unpacked(GOLDEN / "siesta" / "n_h2o_folders", tmp_path / "runs")
    first, (deck,) = load_engine("siesta").finished(runs / "002"), (runs / "002").glob("*.fdf")
    lines = deck.read_text().splitlines()
    row = 1 + next(k for k, line in enumerate(lines) if "AtomicCoordinatesAndAtomic" in line)
    lines[row] = "0.4 0.4 0.4 " + lines[row].split()[-1]
    deck.write_text("\n".join(lines) + "\n")
    moved = load_engine("siesta").finished(runs / "002")
    np.testing.assert_allclose(moved.atoms.positions, first.atoms.positions, atol=1e-5)
    (path,) = (runs / "002").glob("*.TSHS")
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(EngineError, match="002"):
        load_engine("siesta").finished(runs / "002")


def test_sums_over_images_are_refused(tmp_path):
    pytest.importorskip("sisl")
    folder = unpacked(GOLDEN / "siesta" / "b2_si8_gamma", tmp_path / "si8")
    error = otf("electrons", "learn", folder, "--output", tmp_path / "m.h5", rc=1).stderr
    assert "ForceAuxCell T" in error
    whole = load_engine("siesta").finished(
        unpacked(GOLDEN / "siesta" / "b_si8_k222", tmp_path / "k")
    )
    assert whole.matrices.electrons == pytest.approx(32.0)
    assert whole.atoms.pbc.all()


def test_a_calculation_of_openmx(tmp_path):
    folder = unpacked(GOLDEN / "openmx" / "a_ch4", tmp_path / "runs" / "ch4")
    engine = load_engine("openmx")
    with pytest.raises(EngineError, match=r"DATA.PATH: correct the path"):
        engine.finished(folder)
    data = tmp_path / "DFT_DATA19"
    (data / "VPS").mkdir(parents=True)
    for name, electrons in (("C_PBE19", 4.0), ("H_PBE19", 1.0)):
        (data / "VPS" / f"{name}.vps").write_text(f"valence.electron  {electrons}\n")
    deck = folder / "ch4.dat"
    lines = [line for line in deck.read_text().splitlines() if "DATA.PATH" not in line]
    deck.write_text("\n".join(["DATA.PATH ../../DFT_DATA19", *lines]) + "\n")
    found = engine.finished(folder)
    assert found.matrices.electrons == pytest.approx(8.0)
    m = found.matrices
    assert np.vdot(m.overlap.values, m.density.on(m.overlap.pairs).values) == pytest.approx(8.0)
    assert str(found.atoms.symbols) == "CH4"


def test_water_by_pyscf(tmp_path):
    pytest.importorskip("pyscf")
    from pyscf import dft, gto

    rng = np.random.default_rng(2)
    for k in range(6):
        atoms = molecule("H2O")
        atoms.rattle(0.05, rng=rng)
        geometry = list(zip(atoms.get_chemical_symbols(), atoms.positions.tolist()))
        mean_field = dft.RKS(gto.M(atom=geometry, basis="6-31g", verbose=0), xc="pbe")
        folder = tmp_path / "runs" / f"{k}"
        folder.mkdir(parents=True)
        mean_field.chkfile = str(folder / "water.chk")
        mean_field.kernel()
    found = load_engine("pyscf").finished(folder)
    np.testing.assert_allclose(found.atoms.positions, atoms.positions, atol=1e-6)
    model = tmp_path / "h2o.h5"
    otf("electrons", "learn", tmp_path / "runs", "--output", model)
    write(tmp_path / "seen.xyz", atoms)
    energies = np.sort(mean_field.mo_energy)
    gap = 27.211386 * (energies[5] - energies[4])
    said = otf("analyse", "gap", "--model", model, tmp_path / "seen.xyz").stdout
    assert table(said)[0, 1] == pytest.approx(gap, abs=0.05)
    said = otf("analyse", "charges", "--model", model, tmp_path / "seen.xyz").stdout
    populations = mean_field.mulliken_pop(verbose=0)[1]
    assert table(said)[0, 1] == pytest.approx(populations[0], abs=0.01)
    said = otf("analyse", "dipole", "--model", model, tmp_path / "seen.xyz").stdout
    truth = mean_field.dip_moment(verbose=0)
    assert table(said)[0, 1:4] == pytest.approx(truth, abs=0.03)
    cube = tmp_path / "r.cube"
    otf("analyse", "density", "--model", model, tmp_path / "seen.xyz", "--volume", cube)
    _, grid, density = read_cube(cube)
    assert density.sum() * grid.volume == pytest.approx(10.0, abs=0.02)


def test_labels_kept_without_matrices_are_computed_again(tmp_path):
    pytest.importorskip("pyscf")
    config, run = tmp_path / "h2o.yaml", tmp_path / "run"
    config.write_text(
        "system: {molecule: H2O}\n"
        "engine: {kind: pyscf, basis: 6-31g, grid_level: 1, threads: 1, warm_start: previous}\n"
        "dynamics: {ensemble: nve, steps: 24, timestep_fs: 0.5}\n"
        "policy: {force_target_meV_A: 1, gap_max: 4}\n"
    )
    otf("run", config, "--output", run)
    error = otf("analyse", "gap", run, rc=1).stderr
    assert "otf electrons fetch" in error
    labels = (run / "labels.extxyz").read_bytes()
    said = otf("electrons", "fetch", run, "--count", 6).stdout
    assert "6 of 6" in said
    assert len(list((run / "matrices").glob("0*.h5"))) == 6
    error = otf("electrons", "fetch", run, "--count", 6, rc=1).stderr
    assert "all of these labels have their matrices" in error
    assert (run / "labels.extxyz").read_bytes() == labels
    assert "of the gap" in otf("analyse", "gap", run, "--every", 12).stdout
    otf("electrons", "learn", run, "--output", tmp_path / "h.h5")


def test_an_engine_without_matrices_says_so(tmp_path):
    config, run = tmp_path / "al.yaml", tmp_path / "run"
    config.write_text(
        "system: {bulk: {name: Al, cubic: true}}\n"
        "engine: {kind: ase, calculator: ase.calculators.emt:EMT}\n"
        "dynamics: {ensemble: nve, steps: 3, timestep_fs: 1.0, temperature_K: 100}\n"
    )
    otf("run", config, "--output", run)
    error = otf("electrons", "fetch", run, "--trust", rc=1).stderr
    assert "engine 'ase' has no Hamiltonian" in error
