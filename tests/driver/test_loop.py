"""The loop on a Morse cluster through ASE: labels, committed frames and refusals."""

import re
from dataclasses import replace
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms, units
from ase.build import molecule
from ase.cluster import Icosahedron
from ase.constraints import FixAtoms, FixedLine
from ase.data import covalent_radii
from ase.md.verlet import VelocityVerlet

import otf
from otf.cli.summary_text import describe
from otf.config import read_config
from otf.driver.records import Segment
from otf.driver.statistics import trajectory_error
from otf.errors import ConfigError, EngineError, FileError, RunError
from otf.io.committed import ENGINE, MODEL
from otf.io.trajectory import read_trajectory
from otf.runs.create import create_run
from otf.runs.directory import change_steps, read_run
from otf.runs.session import run_session
from otf.runs.stopping import ENOUGH

MORSE = """\
system:
  structure: cluster.xyz
engine:
  kind: ase
  calculator: {calculator}
  keywords: {{{keywords}epsilon: 0.3, r0: 2.6, rho0: 4.0}}
dynamics:
  ensemble: {ensemble}
  steps: {steps}
  timestep_fs: 2.0
  temperature_K: 150
model:
  radial_three: 2
  l_max: 2
{model}
policy:
{policy}
"""
ADAPTIVE = "  force_target_meV_A: 5\n  gap_max: 50"


def make(tmp_path: Path, name: str = "run", **changes: object) -> Path:
    values = {
        "calculator": "ase.calculators.morse:MorsePotential",
        "keywords": "",
        "ensemble": "nve",
        "steps": 150,
        "policy": ADAPTIVE,
        "model": "",
    } | changes
    atoms = Icosahedron("Ar", 2, latticeconstant=3.7)
    atoms.rattle(0.02, seed=1)
    ase.io.write(tmp_path / "cluster.xyz", atoms)
    source = tmp_path / f"{name}.yaml"
    source.write_text(MORSE.format(**values))
    return create_run(read_config(source), source, tmp_path / name).path


def sit(path: Path, **dynamics: object):
    run, config, atoms = read_run(path)
    if dynamics:
        changed = config.dynamics.model_copy(update=dynamics)
        config = config.model_copy(update={"dynamics": changed})
    records = []
    summary = run_session(run, config, atoms, records.append)
    return summary, records


@pytest.mark.parametrize("ensemble", ["nve", "csvr", "langevin"])
def test_run_saves_labels_and_commits_every_step_once(tmp_path, ensemble):
    path = make(tmp_path, ensemble=ensemble)
    summary, records = sit(path)
    trajectory = read_trajectory(path / "trajectory.h5")
    assert trajectory.step.tolist() == list(range(151))
    assert summary.labels == len(ase.io.read(path / "labels.extxyz", ":")) < 60
    assert summary.error.force_mae_meV_A < 10
    assert summary.stopped_by is None
    segments = [r for r in records if isinstance(r, Segment)]
    assert sum(len(s.frames) for s in segments) == 151
    assert segments[-1].label.reason == "end"
    assert set(trajectory.source) == {ENGINE, MODEL}
    assert np.isfinite(trajectory.temperature).all()


def test_start_is_on_the_engines_forces(tmp_path):
    path = make(tmp_path, steps=60)
    sit(path)
    trajectory = read_trajectory(path / "trajectory.h5")
    labels = ase.io.read(path / "labels.extxyz", ":")
    by_engine = np.flatnonzero(trajectory.source == ENGINE)
    assert by_engine[0] == 0
    for i in by_engine:
        np.testing.assert_allclose(trajectory.forces[i], labels[i].get_forces(), rtol=1e-14)
        np.testing.assert_array_equal(trajectory.positions[i], labels[i].positions)


def test_replayed_segment_is_a_trajectory_of_the_model_that_learned_its_label(tmp_path):
    path = make(tmp_path, steps=100)
    _, records = sit(path)
    segments = [r for r in records if isinstance(r, Segment)]
    grown = [s for s in segments if s.frames and s.frames[-1].source == MODEL]
    for segment in grown:
        energy = [f.potential_energy + f.kinetic_energy for f in segment.frames]
        # A single potential: the total energy is constant to integrator error.
        assert np.ptp(energy) < 2e-3
        assert {f.labels for f in segment.frames} == {segment.label.index + 1}


@pytest.mark.parametrize("ensemble", ["nve", "csvr", "langevin", "nhc"])
def test_books_balance_whatever_is_learned(tmp_path, ensemble):
    """The conserved energy scatters with a model update every five steps as with a frozen model."""
    policy = "  kind: fixed\n  train_fs: 20\n  every: 5"
    path = make(tmp_path, policy=policy, ensemble=ensemble, steps=300)
    summary = run_session(*read_run(path))
    told = read_trajectory(path / "trajectory.h5")
    kinetic_and_potential = told.kinetic_energy + told.potential_energy
    np.testing.assert_allclose(
        told.conserved_energy,
        kinetic_and_potential - told.energy_discontinuity - told.heat - told.work,
        atol=1e-12,
    )
    assert np.abs(np.diff(told.energy_discontinuity)).max() > 1e-5  # the models do differ
    atoms = told.frame(0)
    atoms.calc = otf.load_model(path / "model.h5")
    frozen = []
    with VelocityVerlet(atoms, timestep=2.0 * units.fs) as dynamics:
        frozen += [atoms.get_total_energy() for _ in dynamics.irun(300)]
    assert np.std(told.conserved_energy) < 3.0 * np.std(frozen)
    assert (np.abs(told.heat[-1]) > 1e-3) == (ensemble != "nve")
    assert summary.energy_conservation.discontinuity_meV == pytest.approx(
        1e3 * told.energy_discontinuity[-1]
    )
    labels = ase.io.read(path / "labels.extxyz", ":")
    if ensemble == "nve":  # total energy by the engine, between the first and the last label
        assert abs(summary.energy_conservation.total_change_meV) < 50.0
        assert len(labels) == summary.labels


@pytest.mark.parametrize("ensemble", ["nve", "csvr", "nhc", "langevin"])
def test_constraints_hold_and_the_books_balance(tmp_path, ensemble):
    """Fixed atoms, a fixed bond and a mass are kept; a resumed run is identical."""
    held = "  structure: cluster.xyz\n  fixed_atoms: [0, 3]\n"
    if ensemble != "langevin":
        held += "  fixed_bonds: [[5, 6]]\n"
    runs = []
    for name in ("whole", "halves"):
        make(tmp_path, f"plain-{name}", ensemble=ensemble)
        source = tmp_path / f"{name}.yaml"
        text = (tmp_path / f"plain-{name}.yaml").read_text()
        text = text.replace("  structure: cluster.xyz\n", held + "  masses: {Ar: 80.0}\n")
        source.write_text(text + ("stop: {labels: 6}\n" if name == "halves" else ""))
        runs.append(create_run(read_config(source), source, tmp_path / name).path)
        assert (run_session(*read_run(runs[-1])).steps == 150) == (name == "whole")
    resolved = runs[1] / "config.resolved.yaml"
    resolved.write_text(resolved.read_text().replace("labels: 6", "labels: 600"))
    run_session(*read_run(runs[1]))
    told, again = (read_trajectory(run / "trajectory.h5") for run in runs)
    assert told.atoms.get_masses()[0] == 80.0
    assert np.ptp(told.positions[:, [0, 3]], axis=0).max() == 0.0
    bond = np.linalg.norm(told.positions[:, 5] - told.positions[:, 6], axis=1)
    assert (np.ptp(bond) < 1e-10) == (ensemble != "langevin")
    assert np.std(told.conserved_energy) < 2e-3
    assert again.positions.tobytes() == told.positions.tobytes()
    forces = ase.io.read(runs[0] / "labels.extxyz", "1").get_forces()
    assert np.abs(forces[[0, 3]]).max() > 1e-3  # labels have unconstrained forces


def test_broken_bond_is_labelled_at_once(tmp_path):
    """A hydrogen leaves its water: labelled when its bond is broken, independent of the gap."""
    atoms = molecule("H2O")
    along = atoms.positions[1] - atoms.positions[0]
    momenta = np.zeros((3, 3))
    momenta[1] = along / np.linalg.norm(along) * np.sqrt(2.0 * 9.0)  # 9 eV for a mass of 1
    atoms.set_momenta(momenta)
    ase.io.write(tmp_path / "water.traj", atoms)
    source = tmp_path / "run.yaml"
    source.write_text(
        "system: {structure: water.traj}\nengine: {kind: tblite}\n"
        "dynamics: {steps: 40, timestep_fs: 0.1, velocities: structure}\n"
        "policy: {force_target_meV_A: 200, guard: 1.0e+6, guard_every: 2, audit_fraction: 0}\n"
    )
    run = create_run(read_config(source), source, tmp_path / "run").path
    run_session(*read_run(run))
    found = re.search(r"label \d+ step (\d+) bond", (run / "run.log").read_text())
    at = read_trajectory(run / "trajectory.h5").positions[int(found[1])]
    reach = np.linalg.norm(at[1] - at[0]) / sum(covalent_radii[z] for z in (8, 1))
    assert 1.25 < reach < 1.7


@pytest.mark.parametrize("ensemble", ["csvr", "langevin"])
def test_thermostat_follows_its_ramp(tmp_path, ensemble):
    make(tmp_path, "plain", ensemble=ensemble, steps=600)
    source = tmp_path / "run.yaml"
    text = (tmp_path / "plain.yaml").read_text()
    ramp = "temperature_K: 20\n  temperature_end_K: 80\n  time_constant_fs: 20\n"
    ramp += "  friction_per_ps: 50\n"
    source.write_text(text.replace("temperature_K: 150\n", ramp))
    run = create_run(read_config(source), source, tmp_path / "run").path
    run_session(*read_run(run))
    temperature = read_trajectory(run / "trajectory.h5").temperature
    assert temperature[100:200].mean() == pytest.approx(35.0, rel=0.35)
    assert temperature[-100:].mean() == pytest.approx(75.0, rel=0.35)
    resolved = run / "config.resolved.yaml"
    resolved.write_text(resolved.read_text().replace("steps: 600", "steps: 700"))
    with pytest.raises(ConfigError, match="a ramp depends on the length"):
        run_session(*read_run(run))
    resolved.write_text(resolved.read_text().replace("steps: 700", "steps: 600"))
    before = resolved.read_bytes()
    with pytest.raises(ConfigError, match="a ramp depends on the length"):
        change_steps(run, 700)
    assert resolved.read_bytes() == before  # a refused change is not written


@pytest.mark.parametrize(
    ("system", "ensemble", "message"),
    [
        ("fixed_atoms: [13]", "nve", "atom 13 is not there; the 13 atoms are numbered from 0"),
        ("fixed_bonds: [[0, 1]]", "langevin", "langevin cannot keep bond lengths"),
        ("masses: {Xe: 1.0}", "nve", "there is no Xe in the structure"),
        (f"fixed_atoms: {list(range(13))}", "nve", "nothing is left to move"),
    ],
)
def test_constraints_that_cannot_be_are_named(tmp_path, system, ensemble, message):
    make(tmp_path, "plain", ensemble=ensemble)
    source = tmp_path / "run.yaml"
    text = (tmp_path / "plain.yaml").read_text()
    source.write_text(text.replace("cluster.xyz\n", f"cluster.xyz\n  {system}\n"))
    with pytest.raises(ConfigError, match=message):
        create_run(read_config(source), source, tmp_path / "run")


def test_atoms_fixed_twice_are_counted_once(tmp_path):
    make(tmp_path, "plain")
    atoms = ase.io.read(tmp_path / "cluster.xyz")
    atoms.set_constraint(FixAtoms([0, 1, 2]))
    ase.io.write(tmp_path / "held.traj", atoms)
    source = tmp_path / "run.yaml"
    text = (tmp_path / "plain.yaml").read_text()
    source.write_text(text.replace("cluster.xyz\n", "held.traj\n  fixed_atoms: [2, 3]\n"))
    _, _, opened = read_run(create_run(read_config(source), source, tmp_path / "run").path)
    assert opened.get_number_of_degrees_of_freedom() == 3 * (13 - 4)
    source.write_text(source.read_text() + "\n")
    text = source.read_text().replace("[2, 3]", "[2, 3]\n  fixed_bonds: [[0, 3]]")
    source.write_text(text)
    with pytest.raises(ConfigError, match="one joins two fixed atoms"):
        create_run(read_config(source), source, tmp_path / "refused")


def test_a_run_with_enough_labels_has_nothing_left_to_do(tmp_path):
    path = make(tmp_path, policy=ADAPTIVE + "\nstop: {labels: 8}")
    sit(path)
    before = (path / "labels.extxyz").read_bytes()
    summary, records = sit(path)
    assert summary.stopped_by == ENOUGH
    assert records == []
    assert (path / "labels.extxyz").read_bytes() == before


def test_fixed_policy_labels_on_schedule(tmp_path):
    path = make(tmp_path, policy="  kind: fixed\n  train_fs: 20\n  every: 10", steps=50)
    _, records = sit(path)
    steps = [r.label.step for r in records if isinstance(r, Segment)]
    assert steps == [*range(11), 20, 30, 40, 50]


@pytest.mark.parametrize("residual", ["forecast", "propagate"])
def test_residual_run_resumes_to_the_last_bit(tmp_path, residual):
    policy = {
        "forecast": ADAPTIVE,
        "propagate": "  kind: fixed\n  train_fs: 20\n  every: 10",
    }[residual]
    changes = {"policy": policy, "model": f"  residual: {residual}\n  order: 1", "steps": 80}
    whole, parts = (make(tmp_path, name=name, **changes) for name in ("whole", "parts"))
    summary, _ = sit(whole)
    segments, stop = [], {"forecast": 6, "propagate": 13}[residual]

    def pull_the_plug(record):
        segments.append(record) if isinstance(record, Segment) else None
        if len(segments) == stop:
            raise RuntimeError("no power")

    with pytest.raises(RuntimeError, match="no power"):
        run_session(*read_run(parts), pull_the_plug)
    again, _ = sit(parts)
    one, other = (read_trajectory(p / "trajectory.h5") for p in (whole, parts))
    assert one.positions.tobytes() == other.positions.tobytes()
    assert again.energy_conservation == summary.energy_conservation
    log = (whole / "run.log").read_text()
    assert ("may heat or cool" in log) == (residual == "propagate")
    assert (summary.energy_conservation.work_meV != 0.0) == (residual == "propagate")


def test_impossible_target_is_said_and_the_error_that_is_reached_accepted(tmp_path, caplog):
    path = make(tmp_path, policy="  force_target_meV_A: 1e-6", steps=150)
    summary, _ = sit(path)
    assert summary.labels < 100
    (warning,) = [r for r in caplog.records if "cannot be reached" in r.getMessage()]
    assert warning.levelname == "WARNING"
    assert summary.accepted_meV_A > 1e-6
    assert "the target cannot be reached" in describe(summary)


def test_impossible_target_stops_the_run_if_asked(tmp_path):
    policy = "  force_target_meV_A: 1e-6\n  unreachable: stop"
    with pytest.raises(RunError, match="cannot be reached"):
        sit(make(tmp_path, policy=policy, steps=60))


def test_impossible_target_hands_back_to_the_engine_if_asked(tmp_path):
    policy = "  force_target_meV_A: 1e-6\n  unreachable: engine"
    path = make(tmp_path, policy=policy, steps=15)
    summary, _ = sit(path)
    assert summary.labels == 16
    assert set(read_trajectory(path / "trajectory.h5").source) == {ENGINE}


def test_engine_takes_over_again_where_the_model_fails(tmp_path):
    path = make(tmp_path, policy="  kind: fixed\n  train_fs: 0\n  every: 5", steps=20)
    run, config, atoms = read_run(path)
    adaptive = config.policy.model_copy(update={"kind": "adaptive", "force_target_meV_A": 1e-6})
    sit(path)  # the model moves the atoms with little training …
    config = config.model_copy(
        update={
            "policy": adaptive,
            "dynamics": config.dynamics.model_copy(update={"steps": 40}),
        }
    )
    records = []
    run_session(run, config, atoms, records.append)
    reasons = [r.label.reason for r in records if isinstance(r, Segment)]
    assert "engine" in reasons  # … and an adaptive policy returns to the engine
    trajectory = read_trajectory(path / "trajectory.h5")
    assert trajectory.step.tolist() == list(range(41))
    assert ENGINE in trajectory.source[21:]


def test_frames_are_thinned(tmp_path):
    path = make(tmp_path, steps=60)
    thin = tmp_path / "thin.yaml"
    thin.write_text((tmp_path / "run.yaml").read_text() + "output:\n  every: 7\n")
    other = create_run(read_config(thin), thin, tmp_path / "thin").path
    sit(path)
    sit(other)
    full, some = read_trajectory(path / "trajectory.h5"), read_trajectory(other / "trajectory.h5")
    assert some.step.tolist() == list(range(0, 61, 7))
    assert some.positions.tobytes() == full.positions[::7].tobytes()


def test_longer_run_continues_the_shorter_one(tmp_path):
    path = make(tmp_path, steps=40)
    sit(path)
    before = read_trajectory(path / "trajectory.h5").positions
    summary, _ = sit(path, steps=70)
    after = read_trajectory(path / "trajectory.h5")
    assert summary.steps == 70
    assert after.positions[:41].tobytes() == before.tobytes()


FLAKY = "flaky_calculator:Flaky"


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("error", "SCFError: not converged in 100 cycles"),
        ("crash", "CalculationFailed: killed by signal 9"),
        ("nan", "forces are not finite"),
    ],
)
@pytest.mark.parametrize("first", [0, 1, 5], ids=["first", "start", "segment"])
def test_failed_label_stops_the_run_and_it_resumes(tmp_path, how, reason, first):
    last = first if how == "nan" else first + 1  # an error is tried once more
    keywords = f"first: {first}, last: {last}, how: {how}, "
    path = make(tmp_path, calculator=FLAKY, keywords=keywords, steps=60)
    with pytest.raises(RunError, match=reason):
        sit(path)
    assert len((path / "labels.extxyz").read_text().split("provenance")) - 1 == first
    config = path / "config.resolved.yaml"
    config.write_text(config.read_text().replace(f"last: {last}", "last: -1"))
    sit(path)  # the engine no longer fails
    whole = make(tmp_path, "whole", steps=60)
    sit(whole)
    one, other = (read_trajectory(p / "trajectory.h5") for p in (path, whole))
    assert one.positions.tobytes() == other.positions.tobytes()


FLAKY = "flaky_calculator:Flaky"


def labelled(run):
    return ase.io.read(run / "labels.extxyz", ":")


@pytest.mark.parametrize(("how", "last"), [("astray", 5), ("elsewhere", 6), ("elsewhere", 10**6)])
def test_unbelievable_energy_is_asked_for_twice(tmp_path, caplog, how, last):
    """A single wrong energy is corrected; that of another electronic state is not learned."""
    keywords = f"first: 5, last: {last}, how: {how}, "
    run = make(tmp_path, calculator=FLAKY, keywords=keywords)
    summary = run_session(*read_run(run))
    assert summary.steps == 150
    assert caplog.text.count("asking again from scratch") == 1  # the state is known afterwards
    assert caplog.text.count("another electronic state") == (how == "elsewhere")
    right = run_session(*read_run(make(tmp_path, "right")))
    energies = [a.get_potential_energy() for a in labelled(run)]
    plain = [a.get_potential_energy() for a in labelled(tmp_path / "right")]
    off = energies[5] - plain[5]
    assert off == pytest.approx(50.0 if how == "elsewhere" else 0.0, abs=1e-6)
    assert abs(right.labels - summary.labels) <= 1
    assert summary.contract.error.energy_mae_meV_atom < 5.0


def test_a_wrong_force_is_asked_for_again(tmp_path, caplog):
    run = make(tmp_path, calculator=FLAKY, keywords="first: 6, last: 6, how: spiky, ")
    assert run_session(*read_run(run)).steps == 150
    right = make(tmp_path, "right")
    run_session(*read_run(right))
    assert caplog.text.count("(2 atoms are off); asking again from scratch") == 1
    one, other = (labelled(path)[6].get_forces() for path in (run, right))
    np.testing.assert_allclose(one, other, atol=1e-12)


def test_a_wrong_force_that_is_reproduced_is_kept_apart(tmp_path, caplog):
    """A structure whose label is always wrong: the run goes past it, and resumed as well."""
    keywords = "first: 6, last: 8, how: spiky, "
    run = make(tmp_path, calculator=FLAKY, keywords=keywords)
    summary, _ = sit(run)
    assert (summary.steps, summary.kept_apart) == (150, 1)
    assert "1 more are not learned: see" in describe(summary)
    assert "the forces are not the derivatives of the energy" in caplog.text
    kept = ase.io.read(run / "labels.quarantine.extxyz", ":")
    assert len(kept) == 1
    assert "where the model expects" in kept[0].info["not_learned"]
    assert np.abs(kept[0].get_forces()).max() > 10.0
    assert max(np.abs(a.get_forces()).max() for a in labelled(run)) < 10.0
    temperatures = read_trajectory(run / "trajectory.h5").temperature
    sit(make(tmp_path, "right"))
    right = read_trajectory(tmp_path / "right" / "trajectory.h5").temperature
    assert temperatures.max() < 1.2 * right.max()


def test_a_run_stopped_at_a_label_that_is_kept_apart_resumes_exactly(tmp_path):
    keywords = "first: 6, last: 8, how: spiky, "
    whole, run = (make(tmp_path, name, calculator=FLAKY, keywords=keywords) for name in "ab")
    sit(whole)

    def interrupt(record):
        if (run / "labels.quarantine.extxyz").exists() and not isinstance(record, Segment):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_session(*read_run(run), interrupt)
    config = run / "config.resolved.yaml"
    config.write_text(config.read_text().replace("last: 8", "last: -1"))
    sit(run)
    one, other = (read_trajectory(p / "trajectory.h5").positions for p in (whole, run))
    assert one.tobytes() == other.tobytes()
    assert len(ase.io.read(run / "labels.quarantine.extxyz", ":")) == 1


def test_an_unexpected_true_force_is_learned(tmp_path, caplog):
    keywords = "first: 6, last: 1000000, how: stiffer, "
    run = make(tmp_path, calculator=FLAKY, keywords=keywords, steps=60)
    assert run_session(*read_run(run)).steps == 60
    assert "label 6: learned as it is, although the force on atom" in caplog.text
    assert not (run / "labels.quarantine.extxyz").exists()


def test_a_net_force_of_its_own_stops_no_run(tmp_path, caplog):
    """Slabs, gates and coarse grids have one at every label; it is said once."""
    run = make(tmp_path, calculator=FLAKY, keywords="first: 0, last: 1000, how: pushed, ")
    assert run_session(*read_run(run)).steps == 150
    assert caplog.text.count("the forces add up to 0.200 eV/A per atom") == 1
    assert "asking again" not in caplog.text


def test_a_net_force_is_subtracted_if_wanted(tmp_path, caplog):
    """The run is then that of the same engine without it."""
    # Of one size, since rounding errors decide between equals.
    size = ("order: 1", "body_order: 3", "decay: 0.0", "cutoff_two_A: 5.0", "cutoff_three_A: 4.0")
    model = "\n".join(f"  {line}" for line in ("net_force: subtract", *size))
    keywords = "first: 0, last: 1000, how: pushed, "
    pushed = make(tmp_path, calculator=FLAKY, keywords=keywords, model=model)
    plain = make(tmp_path, "plain", model=model)
    assert run_session(*read_run(pushed)).steps == 150
    assert "it is subtracted from every label" in caplog.text
    run_session(*read_run(plain))
    one, other = (read_trajectory(p / "trajectory.h5").positions for p in (pushed, plain))
    np.testing.assert_allclose(one, other, atol=1e-4)
    forces = ase.io.read(pushed / "labels.extxyz", 5).get_forces()
    assert np.abs(forces.mean(axis=0)).max() < 1e-12


@pytest.mark.parametrize(("last", "pushed"), [(5, 0.0), (6, 0.2)])
def test_an_unusual_net_force_is_asked_for_twice(tmp_path, caplog, last, pushed):
    run = make(tmp_path, calculator=FLAKY, keywords=f"first: 5, last: {last}, how: pushed, ")
    assert run_session(*read_run(run)).steps == 150
    assert "at most 0.020 is usual here; asking again from scratch" in caplog.text
    assert ("label 5: learned as it is, although" in caplog.text) == bool(pushed)
    forces = ase.io.read(run / "labels.extxyz", 5).get_forces()
    assert forces.mean(axis=0)[0] == pytest.approx(pushed, abs=1e-9)


def test_two_answers_to_one_structure_are_no_label(tmp_path):
    run = make(tmp_path, calculator=FLAKY, keywords="first: 5, last: 500, how: astray, ")
    with pytest.raises(RunError, match=r"two answers to one structure, .* and the model expects"):
        run_session(*read_run(run))
    assert len(ase.io.read(run / "labels.extxyz", ":")) == 5


@pytest.mark.parametrize("how", ["error", "crash"])
def test_a_failure_of_a_calculator_is_tried_once_more(tmp_path, caplog, how):
    path = make(tmp_path, calculator=FLAKY, keywords=f"first: 5, last: 5, how: {how}, ", steps=60)
    with caplog.at_level("WARNING"):
        assert sit(path)[0].steps == 60
    assert caplog.text.count("trying: once more") == 1
    whole = make(tmp_path, "whole", steps=60)
    sit(whole)
    one, other = (read_trajectory(p / "trajectory.h5") for p in (path, whole))
    assert one.positions.tobytes() == other.positions.tobytes()


def test_a_failure_shows_what_the_program_of_the_calculator_wrote(tmp_path, caplog):
    source = tmp_path / "broken.yaml"
    source.write_text(
        "system: {molecule: H2}\nengine: {kind: ase, calculator: 'flaky_calculator:Broken'}\n"
        "dynamics: {steps: 2}\n"
    )
    run = create_run(read_config(source), source, tmp_path / "broken")
    with pytest.raises(RunError, match=r"job.out ends with:\nthe grid is too coarse"):
        run_session(*read_run(run.path))
    assert caplog.text.count("trying: once more") == 1


def test_run_may_continue_without_a_label(tmp_path):
    policy = ADAPTIVE + "\n  on_engine_failure: continue"
    path = make(
        tmp_path, calculator=FLAKY, keywords="first: 8, last: 11, how: error, ", policy=policy
    )
    summary, records = sit(path)
    assert summary.steps == 150
    assert sum(r.label is None for r in records if isinstance(r, Segment)) == 2
    assert "going on with the model" in (path / "run.log").read_text()


def test_run_that_may_continue_stops_at_the_third_failure_in_a_row(tmp_path):
    policy = "  force_target_meV_A: 5\n  gap_max: 5\n  on_engine_failure: continue"
    path = make(
        tmp_path, calculator=FLAKY, keywords="first: 8, last: 99, how: error, ", policy=policy
    )
    with pytest.raises(RunError, match="not converged"):
        sit(path)


def test_engine_that_cannot_do_the_structure_is_refused_at_start(tmp_path):
    source = tmp_path / "si.yaml"
    source.write_text(
        "system:\n  bulk: {name: Si}\nengine:\n  kind: pyscf\ndynamics:\n  steps: 5\n"
    )
    with pytest.raises(EngineError, match="molecules only"):
        create_run(read_config(source), source, tmp_path / "si")
    assert not (tmp_path / "si").exists()


def test_existing_directory_is_refused_with_the_remedy(tmp_path):
    path = make(tmp_path, steps=3)
    source = tmp_path / "run.yaml"
    create_run(read_config(source), source, path)  # there are no labels yet
    sit(path)
    with pytest.raises(FileError, match="otf resume"):
        create_run(read_config(source), source, path)


@pytest.mark.parametrize(
    ("atoms", "message"),
    [
        (molecule("H2O")[:0], "holds no atoms"),
        (Atoms("H", [[0, 0, np.nan]]), "not finite"),
        (Atoms("X"), "unknown species"),
        (Atoms("H", pbc=True), "cell vector that is missing"),
        (Atoms("H", cell=[[1, 0, 0], [2, 0, 0], [0, 0, 1]]), "lie in a plane"),
        (Atoms("H2", [(0, 0, 0), (1, 0, 0)], constraint=FixedLine(0, (1, 0, 0))), "FixedLine"),
    ],
    ids=["empty", "nan", "dummy", "no cell", "flat cell", "constraints"],
)
def test_impossible_structures_are_named(tmp_path, atoms, message):
    ase.io.write(tmp_path / "bad.traj", atoms)
    source = tmp_path / "bad.yaml"
    source.write_text(
        "system:\n  structure: bad.traj\nengine:\n  kind: tblite\ndynamics:\n  steps: 5\n"
    )
    with pytest.raises(ConfigError, match=f"bad.yaml: system.structure: bad.traj: .*{message}"):
        create_run(read_config(source), source, tmp_path / "bad")
    assert not (tmp_path / "bad").exists()


def test_unknown_molecule_is_guessed(tmp_path):
    source = tmp_path / "c.yaml"
    source.write_text("system:\n  molecule: CH5\nengine:\n  kind: tblite\ndynamics:\n  steps: 5\n")
    with pytest.raises(ConfigError, match="did you mean 'C2H5'"):
        create_run(read_config(source), source, tmp_path / "run")


def test_run_killed_while_its_directory_was_made_begins_again(tmp_path):
    run = make(tmp_path)
    (run / "config.resolved.yaml").unlink()  # the file written last
    (run / "run.log").unlink()  # and what is written after it
    assert sorted(p.name for p in run.iterdir()) == ["start.traj"]
    source = tmp_path / "run.yaml"
    assert create_run(read_config(source), source, run).config.exists()


def test_directory_of_others_is_not_touched(tmp_path):
    source = tmp_path / "run.yaml"
    path = make(tmp_path)
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis/chapter1.tex").write_text("years of work")
    with pytest.raises(FileError, match="not a run of otf"):
        create_run(read_config(source), source, tmp_path / "thesis")
    assert path.exists()


def test_labels_file_of_another_run_is_refused(tmp_path):
    path = make(tmp_path, steps=30)
    sit(path)
    labels = path / "labels.extxyz"
    labels.write_text(labels.read_text().replace("energy=-", "energy=-1"))
    with pytest.raises(RunError, match="labels"):
        sit(path, steps=40)


def test_label_of_a_course_not_taken_is_set_aside_and_the_run_goes_on(tmp_path):
    path = make(tmp_path, steps=60)
    sit(path)
    (path / "checkpoint.h5").unlink()
    sit(path, steps=90)  # the last label of the shorter run is not part of the longer one
    whole = make(tmp_path, "whole", steps=90)
    sit(whole)
    one, other = (read_trajectory(p / "trajectory.h5") for p in (path, whole))
    assert one.positions.tobytes() == other.positions.tobytes()
    assert "provenance" in (path / "labels.unused.extxyz").read_text()


def test_text_that_looks_like_a_number_survives_in_the_resolved_config(tmp_path):
    path = make(tmp_path, keywords="note: '1e3', ")
    assert read_run(path)[1].engine.options["keywords"]["note"] == "1e3"


def test_summary_counts_what_the_files_hold(tmp_path):
    path = make(tmp_path, steps=60)
    summary, records = sit(path)
    again, _ = sit(path)  # already complete
    labels = [label for r in records if isinstance(r, Segment) for label in r.labels]
    assert again.labels == summary.labels == len(labels)
    assert summary.error == trajectory_error(tuple(labels), confidence_percent=95.0)
    # No session is forgotten; this one computed nothing.
    assert replace(again, cost=summary.cost) == summary
    assert again.cost.wall_s == pytest.approx(summary.cost.wall_s, abs=0.5)
