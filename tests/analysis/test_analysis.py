"""Analyses compared with their definition, a known result or another program."""

import warnings

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from hypothesis import given
from hypothesis import strategies as st

from otf.analysis.adf import adf
from otf.analysis.blocks import BlockSum, autocorrelation_time, block_estimate
from otf.analysis.bonds import bonds
from otf.analysis.compare import compare
from otf.analysis.rdf import RdfSum, rdf
from otf.analysis.series import series
from otf.analysis.spectra import vacf, vdos
from otf.analysis.structure_factor import structure_factor
from otf.analysis.transport import msd
from otf.errors import FileError, RunError
from otf.io.frames import Frames, unwrapped
from otf.io.read_frames import read_frames
from tests.oracles.slow_descriptor import pairs

CELLS = {
    "cubic": 4.0 * np.eye(3),
    "tiny": 1.7 * np.eye(3),
    "triclinic": np.array([[4.0, 0.3, -0.2], [1.9, 3.5, 0.4], [-1.5, 1.2, 4.2]]),
    "sheared": np.array([[3.0, 0.0, 0.0], [2.9, 3.0, 0.0], [0.0, 2.9, 3.0]]),
}


def frames_of(atoms: Atoms, positions: np.ndarray, **more) -> Frames:
    cells = np.tile(atoms.cell.array, (len(positions), 1, 1))
    return Frames("test", atoms, positions, cells, **more)


def shaken(atoms: Atoms, n: int, width: float = 0.1, seed: int = 0) -> Frames:
    rng = np.random.default_rng(seed)
    return frames_of(atoms, atoms.positions + rng.normal(scale=width, size=(n, len(atoms), 3)))


@pytest.mark.parametrize("name", CELLS)
@given(
    seed=st.integers(0, 10**6),
    n=st.integers(1, 9),
    pbc=st.tuples(*[st.booleans()] * 3),
    cutoff=st.floats(1.0, 5.5),
)
def test_pairs_are_those_of_trying_every_image(name, seed, n, pbc, cutoff):
    rng = np.random.default_rng(seed)
    positions = rng.uniform(-3, 6, (n, 3))
    numbers = rng.choice([1, 8], n)
    total = RdfSum(Atoms(numbers, cell=CELLS[name], pbc=pbc), cutoff, 7)
    total.add(positions, CELLS[name])
    found = total.result()
    distances: dict[tuple[int, int], list[float]] = {}
    for i, j, vector in pairs(positions, CELLS[name], pbc, cutoff):
        distances.setdefault((numbers[i], numbers[j]), []).append(np.linalg.norm(vector))
    symbol = {1: "H", 8: "O"}
    for a in set(numbers):
        for b in set(numbers):
            counts = np.histogram(distances.get((a, b), []), np.linspace(0, cutoff, 8))[0]
            mean = np.cumsum(counts) / np.sum(numbers == a)
            np.testing.assert_allclose(found.coordination[symbol[a], symbol[b]].mean, mean)


@pytest.mark.full
def test_rdf_of_silicon_is_freuds():
    import freud

    """Equal to the last digits, for positions exact in the single precision of freud."""
    atoms = bulk("Si", cubic=True, a=5.0) * (4, 4, 4)
    run = shaken(atoms, 3)
    run.positions[:] = np.round(run.positions * 256) / 256
    edges = np.linspace(0.0, 5.0, 81)  # bins of 1/16
    ours = rdf([run], cutoff_A=5.0, bin_A=1 / 16).y["g_Si_Si"].mean
    theirs = freud.density.RDF(bins=80, r_max=5.0)
    box = freud.box.Box.from_matrix(atoms.cell.array.T)
    for positions in run.positions:
        theirs.compute((box, positions - 10.0), reset=False)
    counts = theirs.bin_counts / (3 * 512)
    g = counts / (512 / atoms.get_volume() * 4 / 3 * np.pi * np.diff(edges**3))
    np.testing.assert_allclose(ours, g, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(ours, theirs.rdf, rtol=2e-6)


@pytest.mark.full
def test_rdf_beyond_the_cell_is_right_where_mdanalysis_is_not():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # from its dependencies
        import MDAnalysis
        from MDAnalysis.analysis.rdf import InterRDF
    """Eight atoms in 5.43 Angstrom, up to 6, against the middle one of 27 copies of the cell."""
    atoms = bulk("Si", cubic=True)
    run = shaken(atoms, 5, width=0.05)
    ours = rdf([run], cutoff_A=6.0, bin_A=0.1)
    exact = np.zeros(60)
    for positions in run.positions:
        copies = np.array(list(np.ndindex(5, 5, 5))) - 2
        around = (positions + (copies @ atoms.cell.array)[:, None]).reshape(-1, 3)
        distances = np.linalg.norm(around[None] - positions[:, None], axis=2).ravel()
        exact += np.histogram(distances[distances > 0], np.linspace(0, 6, 61))[0]
    exact /= len(run)
    edges = np.linspace(0, 6, 61)
    shell = 4 / 3 * np.pi * np.diff(edges**3)
    exact /= 8 * 8 / atoms.get_volume() * shell
    np.testing.assert_allclose(ours.y["g_Si_Si"].mean, exact, atol=1e-12)

    universe = MDAnalysis.Universe.empty(8, trajectory=True)
    universe.load_new(run.positions.astype(np.float32))
    for step in universe.trajectory:
        step.dimensions = atoms.cell.cellpar()
    group = universe.atoms
    theirs = InterRDF(group, group, nbins=60, range=(0.0, 6.0), exclusion_block=(1, 1))
    universe.trajectory.add_transformations(_boxed(atoms.cell.cellpar()))
    theirs.run()
    near = ours.x < 2.6  # below half the cell MDAnalysis is right
    found = theirs.results.rdf * 7 / 8  # it divides by N (N - 1) without self-pairs
    np.testing.assert_allclose(found[near], exact[near], rtol=1e-4)
    assert np.abs(found - exact)[~near].max() > 0.5


def _boxed(dimensions):
    def transform(step):
        step.dimensions = dimensions
        return step

    return transform


def test_rdf_of_an_ideal_gas_is_one_within_its_errors():
    rng = np.random.default_rng(3)
    atoms = Atoms("H30O20", cell=CELLS["triclinic"] * 2.5, pbc=True)
    positions = rng.uniform(size=(400, 50, 3)) @ atoms.cell.array
    found = rdf([frames_of(atoms, positions)], cutoff_A=7.0, bin_A=0.5)
    for pair in ("H_H", "H_O", "O_O"):
        g = found.y[f"g_{pair}"]
        n = {"H": 30, "O": 20}
        ideal = 1.0 if pair == "H_O" else 1.0 - 1.0 / n[pair[0]]  # an atom is not its own neighbour
        z = (g.mean[4:] - ideal) / g.error[4:]
        # An atom's own images are at fixed distances: those bins differ from an ideal gas.
        assert np.median(np.abs(z)) < 1.5


def test_rdf_of_runs_together_is_their_mean():
    atoms = bulk("Al", cubic=True)
    one, two = shaken(atoms, 20, seed=1), shaken(atoms, 20, seed=2)
    both = rdf([one, two], cutoff_A=6.0, bin_A=0.1).y["g_Al_Al"].mean
    apart = [rdf([r], cutoff_A=6.0, bin_A=0.1).y["g_Al_Al"].mean for r in (one, two)]
    np.testing.assert_allclose(both, np.mean(apart, axis=0))
    other = shaken(bulk("Si", cubic=True), 2)
    with pytest.raises(RunError, match="holds other atoms"):
        rdf([one, other], cutoff_A=6.0, bin_A=0.1)


def test_block_error_of_independent_and_of_correlated_samples():
    rng = np.random.default_rng(0)
    free = block_estimate(rng.normal(size=(20000, 50)))
    assert np.mean(free.error) == pytest.approx(1 / np.sqrt(20000), rel=0.1)
    x, samples = np.zeros(200), []
    for _ in range(20000):  # correlated over 10 samples
        x = 0.9 * x + np.sqrt(1 - 0.81) * rng.normal(size=200)
        samples.append(x)
    slow = block_estimate(np.array(samples))
    assert np.mean(slow.error) == pytest.approx(np.sqrt(19 / 20000), rel=0.1)
    assert np.std(slow.mean) == pytest.approx(np.mean(slow.error), rel=0.2)


def autoregressive(n: int, components: int, memory: float, seed: int = 0) -> np.ndarray:
    """Samples whose integrated autocorrelation time is (1 + memory) / (1 - memory)."""
    rng = np.random.default_rng(seed)
    x, samples = rng.normal(size=components), []
    for _ in range(n):
        x = memory * x + np.sqrt(1 - memory**2) * rng.normal(size=components)
        samples.append(x)
    return np.array(samples)


@pytest.mark.parametrize("memory", [0.0, 0.5, 0.9, 0.98])
def test_autocorrelation_time_of_an_autoregressive_process(memory):
    found = autocorrelation_time(autoregressive(20000, 20, memory))
    assert found == pytest.approx((1 + memory) / (1 - memory), rel=0.1)


@pytest.mark.parametrize(("memory", "least"), [(0.0, 0.9), (0.8, 0.9), (0.95, 0.9), (0.99, 0.75)])
def test_errors_of_short_series(memory, least):
    """True to 15 % from 40 autocorrelation times on; with eight, nearer than by ten blocks."""
    n, true = 1600, np.sqrt((1 + memory) / (1 - memory) / 1600)
    series_ = [autoregressive(n, 1, memory, seed) for seed in range(60)]
    errors = np.array([block_estimate(x).error[0] for x in series_])
    known = errors[np.isfinite(errors)]
    assert len(known) >= 0.85 * len(errors)
    found = np.sqrt(np.mean(known**2)) / true
    assert least < found < 1.15
    fixed = [x.reshape(10, -1).mean(axis=1).std(ddof=1) / np.sqrt(10) for x in series_]
    assert found > np.sqrt(np.mean(np.square(fixed))) / true - 0.1


@pytest.mark.parametrize("n", [3, 20, 320, 321, 640, 1000, 5000])
def test_sums_in_bounded_memory_give_the_same(n):
    samples = autoregressive(n, 30, 0.6, seed=n)
    total = BlockSum()
    for sample in samples:
        total.add(sample)
    found, direct = total.estimate(), block_estimate(samples)
    np.testing.assert_allclose(found.mean, direct.mean)
    assert np.isnan(found.error).all() == (n < 20)
    if n >= 320:
        assert np.mean(found.error) == pytest.approx(np.mean(direct.error), rel=0.15)
    assert len(total._sums) <= 320


def test_angles_of_diamond_and_of_water():
    found = adf([shaken(bulk("Si", cubic=True), 20, width=1e-3)], cutoff_A=2.6, bin_degrees=1.0)
    density = found.y["density_Si_Si_Si"].mean
    assert found.x[density.argmax()] == pytest.approx(109.5, abs=0.6)
    assert density.sum() * 1.0 == pytest.approx(1.0)
    water = Atoms("OH2", [(0, 0, 0), (0.96, 0, 0), (-0.24, 0.93, 0)])
    found = adf([shaken(water, 20, width=1e-4)], cutoff_A=1.2, bin_degrees=1.0)
    assert list(found.y) == ["density_H_O_H"]
    assert found.x[found.y["density_H_O_H"].mean.argmax()] == pytest.approx(104.5, abs=1.1)


def walk(n_frames: int, n_atoms: int, width: float, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(scale=width, size=(n_frames, n_atoms, 3)).cumsum(axis=0)


def test_msd_is_its_definition():
    positions = walk(60, 4, 0.1)
    run = frames_of(Atoms("He4"), positions, time_fs=2.0 * np.arange(60.0))
    found = msd([run], longest_fs=20.0)
    moved = positions - positions.mean(axis=1, keepdims=True)
    pieces = np.array_split(moved, 3)
    expected = [
        np.mean([np.mean(np.sum((p[t:] - p[: len(p) - t]) ** 2, axis=2)) for p in pieces])
        for t in range(10)
    ]
    np.testing.assert_allclose(found.y["msd_He_A2"].mean, expected, atol=1e-12)


def test_diffusion_of_a_random_walk():
    run = frames_of(Atoms("He200"), walk(4000, 200, 0.05), time_fs=10.0 * np.arange(4000.0))
    found = msd([run], longest_fs=2500.0).numbers["diffusion_He_cm2_per_s"]
    exact = 0.05**2 / 2 * 0.01 * (199 / 200)  # half the variance of a step, Angstrom^2 in 10 fs
    assert abs(found.mean - exact) < 4 * found.error
    assert found.error < 0.05 * exact


def test_no_diffusion_coefficient_where_nothing_diffuses():
    """Of a picosecond of a liquid, and of the vibrations of a crystal at any time."""
    short = frames_of(Atoms("He200"), walk(1650, 200, 0.05), time_fs=np.arange(1650.0))
    found = msd([short])
    assert found.numbers == {}
    assert "lags of 1000 fs and more are needed (--longest above 2000" in found.notes[0]
    rng = np.random.default_rng(1)
    still = frames_of(
        Atoms("He50"), rng.normal(size=(4000, 50, 3)), time_fs=10.0 * np.arange(4000.0)
    )
    assert "grow as the time to the power of" in msd([still], longest_fs=2500.0).notes[0]


def breathing_crystal(seed: int = 0):
    """Frames of a crystal with a breathing cell: as they are, and wrapped into the cell."""
    rng = np.random.default_rng(seed)
    crystal = bulk("Al", cubic=True, a=4.05).repeat((3, 3, 3))
    scaled = crystal.get_scaled_positions(wrap=False)
    for i in range(400):
        factor = 1.0 + 0.01 * np.sin(2 * np.pi * i / 37) + 0.003 * rng.normal()
        atoms = crystal.copy()
        atoms.set_cell(crystal.cell.array * factor)
        atoms.set_scaled_positions(scaled + 0.006 * rng.normal(size=scaled.shape))
        atoms.info["time_fs"] = 5.0 * i
        inside = atoms.copy()
        inside.wrap()
        yield atoms, inside


@pytest.mark.parametrize("name", ["wrapped.extxyz", "wrapped.traj", "XDATCAR"])
def test_wrapped_frames_of_a_varying_cell_are_analysed_as_if_they_were_not(tmp_path, name):
    plain, inside = zip(*breathing_crystal(), strict=True)
    ase.io.write(tmp_path / "plain.extxyz", plain)
    ase.io.write(tmp_path / name, inside, format="vasp-xdatcar" if name == "XDATCAR" else None)
    given = 5.0 if name == "XDATCAR" else None
    one, other = (
        read_frames(tmp_path / file, timestep_fs=step)
        for file, step in (("plain.extxyz", None), (name, given))
    )
    curves = [rdf([frames], cutoff_A=6.0, bin_A=0.05).y["g_Al_Al"].mean for frames in (one, other)]
    np.testing.assert_allclose(*curves, atol=0.05)
    assert curves[0].max() > 7.0
    moved = [msd([frames], longest_fs=100.0).y["msd_Al_A2"].mean for frames in (one, other)]
    # An atom in another image is moved otherwise by a breathing cell.
    np.testing.assert_allclose(*moved, rtol=0.03, atol=1e-4)


def test_positions_that_were_not_wrapped_stay_as_they_are():
    """Also where atoms move by more than half a cell between frames."""
    path = walk(300, 40, 2.0)
    cells = np.tile(10.0 * np.eye(3), (300, 1, 1))
    assert np.abs(np.diff(path, axis=0)).max() > 5.0
    pbc = np.ones(3, dtype=bool)
    np.testing.assert_array_equal(unwrapped(path, cells, pbc), path)
    slow = walk(300, 40, 0.5)
    np.testing.assert_allclose(
        np.diff(unwrapped(slow % 10.0, cells, pbc), axis=0), np.diff(slow, axis=0), atol=1e-9
    )
    # A molecule that is kept whole: its atoms leave the cell together.
    whole = slow - 10.0 * np.floor(slow[:, :1] / 10.0)
    np.testing.assert_allclose(
        np.diff(unwrapped(whole, cells, pbc), axis=0), np.diff(slow, axis=0), atol=1e-9
    )


def test_times_are_not_guessed(tmp_path):
    frames = [Atoms("He2", positions=[(0, 0, 0), (0, 0, 3 + 0.1 * i)]) for i in range(5)]
    for i, atoms in enumerate(frames):
        atoms.info["time"] = 0.5 * i  # in an unknown unit
    ase.io.write(tmp_path / "a.extxyz", frames)
    assert read_frames(tmp_path / "a.extxyz").time_fs is None
    assert read_frames(tmp_path / "a.extxyz", timestep_fs=2.0).time_fs[-1] == 8.0
    for i, atoms in enumerate(frames):
        atoms.info["time_fs"] = 0.5 * i
    ase.io.write(tmp_path / "b.extxyz", frames)
    assert read_frames(tmp_path / "b.extxyz", timestep_fs=0.5).time_fs[-1] == 2.0
    with pytest.raises(FileError, match=r"0\.5 fs apart, not 2; leave --timestep-fs out"):
        read_frames(tmp_path / "b.extxyz", timestep_fs=2.0)


def test_msd_of_what_cannot_be():
    run = frames_of(Atoms("He2"), walk(15, 2, 0.1), time_fs=np.arange(15.0))
    with pytest.raises(RunError, match="15 frames are too few for displacements"):
        msd([run])
    with pytest.raises(RunError, match="have no times; give --timestep-fs"):
        msd([frames_of(Atoms("He2"), walk(500, 2, 0.1))])


def oscillators(with_velocities: bool) -> Frames:
    """Hydrogen at 3000 cm^-1 and silicon at 500, random phases."""
    rng = np.random.default_rng(0)
    atoms = Atoms("H40Si40")
    wave = np.where(atoms.numbers == 1, 3000.0, 500.0)
    omega = 2 * np.pi * wave * 2.99792458e10 * 1e-15
    time = 0.5 * np.arange(8000.0)
    phase = rng.uniform(0, 2 * np.pi, (80, 3))
    angle = omega[None, :, None] * time[:, None, None] + phase
    amplitude = (0.1 / (omega * np.sqrt(atoms.get_masses())))[None, :, None]  # equal energies
    velocities = -amplitude * omega[None, :, None] * np.sin(angle)
    more = {"velocities": velocities} if with_velocities else {}
    return frames_of(atoms, amplitude * np.cos(angle), time_fs=time, **more)


@pytest.mark.parametrize("with_velocities", [True, False])
def test_density_of_states_has_the_modes_with_equal_weight(with_velocities):
    found = vdos([oscillators(with_velocities)], longest_fs=400.0)
    width = found.x[1]
    assert found.y["vdos_cm"].mean.sum() * width == pytest.approx(1.0)
    for symbol, wave in (("H", 3000.0), ("Si", 500.0)):
        mine = found.y[f"vdos_{symbol}_cm"].mean
        assert found.x[mine.argmax()] == pytest.approx(wave, abs=width)
        assert mine.sum() * width == pytest.approx(0.5, abs=0.04)
    total = found.y["vdos_H_cm"].mean + found.y["vdos_Si_cm"].mean
    np.testing.assert_allclose(total, found.y["vdos_cm"].mean)


def test_autocorrelation_of_an_oscillator_is_a_cosine():
    run = oscillators(True)
    slow = run.atoms.numbers == 14
    part = frames_of(
        run.atoms[slow],
        run.positions[:, slow],
        time_fs=run.time_fs,
        velocities=run.velocities[:, slow],
    )
    found = vacf([part], longest_fs=150.0)
    expected = np.cos(2 * np.pi * 500.0 * 2.99792458e-5 * found.x)
    np.testing.assert_allclose(found.y["vacf"].mean, expected, atol=0.05)


def test_structure_factor_is_its_definition_and_bragg_peaks_are_n():
    atoms = bulk("Al", cubic=True, a=4.0) * (2, 2, 2)
    still = frames_of(atoms, np.tile(atoms.positions, (12, 1, 1)))
    found = structure_factor([still], q_max=4.0, bin_width=0.01)
    s = found.y["s"].mean
    at = np.argmin(np.abs(found.x - 2 * np.pi / 4.0 * np.sqrt(3)))
    assert s[at] == pytest.approx(32.0)  # (111)
    between = np.abs(found.x - 2 * np.pi / 8.0) < 0.02  # (1/2 0 0)
    assert s[between] == pytest.approx(0.0, abs=1e-20)
    rng = np.random.default_rng(1)
    gas = frames_of(atoms, rng.uniform(0, 8, (500, 32, 3)))
    found = structure_factor([gas], q_max=3.0, bin_width=0.5).y["s"]
    assert np.abs((found.mean - 1) / found.error).max() < 4
    with pytest.raises(RunError, match="periodic in three directions"):
        structure_factor([frames_of(Atoms("He"), np.zeros((3, 1, 3)))], q_max=1.0, bin_width=0.1)


def test_bonds_of_ethanol_and_one_that_breaks():
    from ase.build import molecule

    atoms = molecule("CH3CH2OH")
    run = shaken(atoms, 40, width=0.01)
    found = bonds([run], bin_A=0.02)
    assert found.numbers["length_H_C_A"].mean == pytest.approx(1.10, abs=0.02)
    assert found.numbers["length_C_C_A"].mean == pytest.approx(1.51, abs=0.02)
    assert found.numbers["broken_H_O"].mean == 0.0
    for density in found.y.values():
        assert density.mean.sum() * 0.02 == pytest.approx(1.0)
    hydrogen = 3
    assert atoms.symbols[hydrogen] == "H"
    run.positions[20:, hydrogen] += 5.0
    assert bonds([run], bin_A=0.02).numbers["broken_H_O"].mean == pytest.approx(0.5)


def test_series_have_means_with_errors():
    values = 300.0 + np.random.default_rng(0).normal(scale=10.0, size=1000)
    run = frames_of(Atoms("He"), np.zeros((1000, 1, 3)), series={"temperature_K": values})
    found = series([run], ("temperature_K", "pressure_GPa"))
    mean = found.numbers["mean_temperature_K"]
    assert abs(mean.mean - 300.0) < 4 * mean.error
    with pytest.raises(RunError, match="have none of pressure_GPa"):
        series([run], ("pressure_GPa",))


def vibrating(n: int, seed: int, stretch: float = 1.0) -> Frames:
    """A crystal with an autocorrelation time of nine frames."""
    rng = np.random.default_rng(seed)
    atoms = bulk("Al", cubic=True)
    u, positions = np.zeros((4, 3)), []
    for _ in range(n):
        u = 0.8 * u + 0.06 * rng.normal(size=(4, 3))
        positions.append(atoms.positions + stretch * u)
    return frames_of(atoms, np.array(positions))


@pytest.mark.full
def test_equal_runs_are_found_equal_as_often_as_they_should_be():
    p = [
        compare(vibrating(600, 2 * i), vibrating(400, 2 * i + 1), cutoff_A=4.0, bin_A=0.1).p_value
        for i in range(40)
    ]
    assert 0.3 < np.mean(p) < 0.7
    assert np.mean(np.array(p) < 0.1) < 0.25


def test_another_distribution_is_found_out():
    found = compare(vibrating(600, 1), vibrating(600, 2, stretch=1.5), cutoff_A=4.0, bin_A=0.1)
    assert not found.equal
    assert found.difference_percent > 3.0
    with pytest.raises(RunError, match="holds other atoms"):
        compare(vibrating(20, 1), shaken(bulk("Si", cubic=True), 20), cutoff_A=4.0, bin_A=0.1)
    with pytest.raises(RunError, match="8 samples do not make 5 independent blocks"):
        compare(vibrating(8, 1), vibrating(400, 1), cutoff_A=4.0, bin_A=0.1)


@pytest.mark.parametrize(
    "analyse",
    [
        lambda runs: rdf(runs, cutoff_A=4.0, bin_A=0.1),
        lambda runs: adf(runs, cutoff_A=4.0, bin_degrees=5.0),
        lambda runs: msd(runs, longest_fs=20.0),
        lambda runs: vacf(runs, longest_fs=40.0),
        lambda runs: vdos(runs, longest_fs=80.0),
        lambda runs: structure_factor(runs, q_max=4.0, bin_width=0.5),
        lambda runs: bonds(runs, bin_A=0.05),
    ],
    ids=["rdf", "adf", "msd", "vacf", "vdos", "structure-factor", "bonds"],
)
def test_runs_that_do_not_belong_together_are_refused(analyse):
    time = {"time_fs": np.arange(200.0)}
    atoms = bulk("Cu", cubic=True)
    run = frames_of(atoms, shaken(atoms, 200).positions, **time)
    analyse([run, run])
    big = atoms * (2, 1, 1)
    other = frames_of(big, shaken(big, 200).positions, **time)
    with pytest.raises(RunError, match="holds other atoms"):
        analyse([run, other])
    gold = atoms.copy()
    gold.symbols[0] = "Au"
    with pytest.raises(RunError, match="holds other atoms"):
        analyse([run, frames_of(gold, run.positions, **time)])
    free = atoms.copy()
    free.pbc = False
    with pytest.raises(RunError, match="has other periodic directions"):
        analyse([run, frames_of(free, run.positions, **time)])


def test_spectra_of_what_cannot_be():
    atoms = bulk("Cu", cubic=True)
    positions = shaken(atoms, 200).positions
    runs = [frames_of(atoms, positions, time_fs=dt * np.arange(200.0)) for dt in (1.0, 2.0)]
    with pytest.raises(RunError, match="another time between frames"):
        vdos(runs, longest_fs=80.0)
    alone = frames_of(Atoms("He"), positions[:, :1], time_fs=np.arange(200.0))
    with pytest.raises(RunError, match="a single atom has no vibrations"):
        vacf([alone], longest_fs=40.0)
    with pytest.raises(RunError, match="no wave vector of the cell"):
        structure_factor([runs[0]], q_max=0.1, bin_width=0.05)


def test_bonds_of_a_run_that_was_wrapped_otherwise():
    atoms = bulk("Cu", cubic=True)
    run = shaken(atoms, 20, width=0.01)
    moved = run.positions.copy()
    moved[:, 2] += atoms.cell.array[0] - atoms.cell.array[2]
    both = bonds([run, frames_of(atoms, moved)], bin_A=0.02)
    alone = bonds([run], bin_A=0.02)
    assert both.numbers["broken_Cu_Cu"].mean == 0.0
    length = both.numbers["length_Cu_Cu_A"].mean
    assert length == pytest.approx(float(alone.numbers["length_Cu_Cu_A"].mean), abs=1e-9)
