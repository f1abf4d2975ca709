"""``otf serve``: a model driven by ASE's server and by i-PI over real sockets."""

import contextlib
import re
import shutil
import socket
import subprocess
import sys
import threading

import ase.io
import numpy as np
import pytest
from ase import units
from ase.build import bulk, molecule
from ase.calculators.socketio import SocketIOCalculator
from ase.md.verlet import VelocityVerlet
from tblite.ase import TBLite

import otf as package
from tests.cli.command import otf

CRYSTAL = """\
system: {bulk: {name: Al, a_A: 4.05, cubic: true}}
engine: {kind: ase, calculator: "ase.calculators.emt:EMT"}
dynamics: {ensemble: npt, steps: 60, timestep_fs: 2.0}
policy: {force_target_meV_A: 20}
"""
MOLECULE = """\
system: {molecule: CH4}
engine: {kind: tblite}
dynamics: {steps: 60, timestep_fs: 0.5}
"""


@pytest.fixture(scope="module", params=[CRYSTAL, MOLECULE], ids=["crystal", "molecule"])
def run(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("serve")
    (folder / "c.yaml").write_text(request.param)
    otf("run", folder / "c.yaml", "--output", folder / "run")
    return folder / "run"


def served(*arguments: object) -> subprocess.Popen[str]:
    words = [sys.executable, "-m", "otf", "serve", *map(str, arguments)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


@pytest.mark.parametrize("kind", ["unix", "inet"])
def test_ase_drives_a_model_and_gets_what_the_model_says(run, kind, tmp_path):
    name, port = tmp_path.name, free_port()
    where = ("--unix", name) if kind == "unix" else ("--port", port)
    atoms, calculator = ase.io.read(run / "start.traj"), package.load_model(run / "model.h5")
    atoms.set_constraint()
    rng = np.random.default_rng(2)
    client = served(run, *where)
    asked = {"unixsocket": name} if kind == "unix" else {"port": port}
    with SocketIOCalculator(**asked, timeout=60) as driver:
        for _ in range(3):
            atoms.calc = driver
            atoms.positions += rng.normal(scale=0.02, size=atoms.positions.shape)
            if atoms.pbc.all():
                atoms.set_cell(atoms.cell.array + rng.normal(scale=0.02, size=(3, 3)))
            found = [atoms.get_potential_energy(), atoms.get_forces()]
            found += [atoms.get_stress()] if atoms.pbc.all() else []
            atoms.calc = calculator
            expected = [atoms.get_potential_energy(), atoms.get_forces()]
            expected += [atoms.get_stress()] if atoms.pbc.all() else []
            for a, b in zip(found, expected):
                np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-10)
        if kind == "unix":
            atoms.calc = driver
            VelocityVerlet(atoms, 0.5 * units.fs).run(10)
    said, error = client.communicate(timeout=30)
    assert client.returncode == 0, error
    assert said.endswith("structures computed\n")


@pytest.mark.full
def test_what_cannot_be_served_is_named(run, tmp_path):
    model = run / "model.h5"
    assert "--structure FILE" in otf("serve", model, rc=1).stderr
    other = tmp_path / "other.xyz"
    ase.io.write(other, bulk("Si"))
    assert "has not learned Si" in otf("serve", model, "--structure", other, rc=1).stderr
    port = free_port()
    nobody = served(run, "--port", port, "--wait", 0).communicate(timeout=30)[1]
    assert f"localhost:{port}: no program listens" in nobody
    more = tmp_path / "more.traj"
    start = ase.io.read(run / "start.traj")
    ase.io.write(more, start + start)
    with SocketIOCalculator(port=port, timeout=60) as driver:
        client = served(run, "--port", port)
        other = ase.io.read(more)
        other.calc = driver
        with contextlib.suppress(Exception):
            other.get_potential_energy()
        assert "does not have the" in client.communicate(timeout=30)[1]
    assert "cannot be read" in otf("serve", model, "--structure", tmp_path, rc=1).stderr


IPI = """\
<simulation verbosity='low'>
  <output prefix='out'>
    <properties stride='1' filename='md'>[step, conserved{electronvolt}, potential{electronvolt}]\
</properties>
  </output>
  <total_steps>40</total_steps>
  <ffsocket name='otf' mode='unix' pbc='false'><address>ADDRESS</address></ffsocket>
  <system>
    <initialize nbeads='2'>
      <file mode='ase' units='ase'>start.extxyz</file>
      <velocities mode='thermal' units='kelvin'>300</velocities>
    </initialize>
    <forces><force forcefield='otf'></force></forces>
    <motion mode='dynamics'>
      <dynamics mode='nve'><timestep units='femtosecond'>0.25</timestep></dynamics>
    </motion>
    <ensemble><temperature units='kelvin'>300</temperature></ensemble>
  </system>
</simulation>
"""


EXCHANGE = """\
<simulation verbosity='low'>
  <output prefix='out'>
    <properties stride='1' filename='md'>[step, potential{electronvolt}]</properties>
  </output>
  <total_steps>60</total_steps>
  <ffsocket name='otf' mode='unix' pbc='false'><address>ADDRESS</address></ffsocket>
  <system_template>
    <labels>[NAME, TEMPERATURE]</labels>
    <instance>[a, 300]</instance>
    <instance>[b, 320]</instance>
    <template>
      <system prefix='NAME'>
        <initialize nbeads='1'>
          <file mode='ase' units='ase'>start.extxyz</file>
          <velocities mode='thermal' units='kelvin'>TEMPERATURE</velocities>
        </initialize>
        <forces><force forcefield='otf'></force></forces>
        <motion mode='dynamics'>
          <dynamics mode='nvt'>
            <timestep units='femtosecond'>0.25</timestep>
            <thermostat mode='langevin'><tau units='femtosecond'>50</tau></thermostat>
          </dynamics>
        </motion>
        <ensemble><temperature units='kelvin'>TEMPERATURE</temperature></ensemble>
      </system>
    </template>
  </system_template>
  <smotion mode='remd'><remd><stride>3</stride><swapfile>swaps</swapfile></remd></smotion>
</simulation>
"""


GARBAGE = {
    "text": b"GARBAGE\xff\x00" * 10,
    "huge": b"POSDATA     " + bytes(144) + (2**31 - 1).to_bytes(4, "little") + bytes(100),
    "negative": b"POSDATA     " + bytes(144) + (2**32 - 5).to_bytes(4, "little") + bytes(100),
    "nan": b"POSDATA     " + bytes(144) + (5).to_bytes(4, "little") + b"\xff" * 120,
}


@pytest.mark.parametrize("name", GARBAGE)
def test_a_driver_that_sends_garbage_is_named(run, name):
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(1)

        def answer():
            connection, _ = server.accept()
            with connection, contextlib.suppress(OSError):
                connection.sendall(GARBAGE[name])
                connection.recv(1)

        thread = threading.Thread(target=answer)
        thread.start()
        port = server.getsockname()[1]
        said = otf("serve", run, "--host", "127.0.0.1", "--port", port, rc=1).stderr
        thread.join(10.0)
    expected = "does not have the" if name == "negative" else "not of the i-PI protocol"
    assert expected in said


def driven_by_ipi(folder, start, simulation, *arguments):
    """Run i-PI with a client, in the folder; what the client said."""
    program = shutil.which("i-pi", path=str(sys.prefix) + "/bin")
    assert program is not None
    atoms = start.copy()
    atoms.set_constraint()
    if not atoms.pbc.any():
        atoms.set_cell([20.0] * 3)
    ase.io.write(folder / "start.extxyz", atoms, columns=["symbols", "positions"])
    address = f"otf_{folder.name}"
    (folder / "input.xml").write_text(simulation.replace("ADDRESS", address))
    with subprocess.Popen(
        [sys.executable, program, "input.xml"],
        cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    ) as driver:  # fmt: skip
        client = served(*arguments, "--unix", address)
        said, _ = driver.communicate(timeout=120)
    assert driver.returncode == 0, said
    said, error = client.communicate(timeout=30)
    assert client.returncode == 0, error
    return said


def ring_polymer(folder, start, *arguments):
    """Conserved and potential energies (steps, 2) of path integrals, and what the client said."""
    said = driven_by_ipi(folder, start, IPI, *arguments)
    table = np.loadtxt(folder / "out.md")
    assert len(table) == 41
    return table[:, 1:], said


@pytest.mark.full
def test_ipi_moves_a_ring_polymer_on_the_model(run, tmp_path):
    """Path integrals, which otf itself does not do."""
    energies, _ = ring_polymer(tmp_path, ase.io.read(run / "start.traj"), run)
    assert np.ptp(energies[:, 1]) > 3e-3
    assert np.ptp(energies[:, 0]) < 0.05 * np.ptp(energies[:, 1])


@pytest.mark.full
def test_a_ring_polymer_teaches_the_model_that_moves_it(tmp_path):
    methane = molecule("CH4")
    ase.io.write(tmp_path / "methane.xyz", methane)
    learn = [tmp_path / "methane.xyz", "--learn", "--directory", tmp_path / "labels"]
    energies, said = ring_polymer(tmp_path, methane, *learn, "--check-every", 10)
    assert np.ptp(energies[:, 1]) > 3e-3
    error, checks = map(float, re.findall("MAE ([0-9.]+) meV/A at ([0-9]+)", said)[0])
    assert checks >= 2
    assert error < 20.0
    labels = len(ase.io.read(tmp_path / "labels/labels.extxyz", index=":"))
    assert f"{labels} labels" in said
    assert labels - checks <= 12  # of 41 steps with two beads


@pytest.mark.full
def test_replicas_that_exchange_temperatures_teach_one_model(tmp_path):
    methane = molecule("CH4")
    ase.io.write(tmp_path / "methane.xyz", methane)
    learn = [tmp_path / "methane.xyz", "--learn", "--directory", tmp_path / "labels"]
    said = driven_by_ipi(tmp_path, methane, EXCHANGE, *learn, "--check-every", 10)
    assert (tmp_path / "out.swaps").read_text().strip()
    error, checks = map(float, re.findall("MAE ([0-9.]+) meV/A at ([0-9]+)", said)[0])
    assert checks >= 2
    assert error < 20.0
    labels = int(re.findall("([0-9]+) labels", said)[0])
    assert labels - checks <= 25  # of 61 steps of two replicas


def test_a_driver_of_ase_teaches_the_model_and_goes_on_with_its_labels(tmp_path):
    atoms = molecule("H2O")
    ase.io.write(tmp_path / "water.xyz", atoms)
    labels, found = [], []
    for _ in range(2):
        name, moved = f"{tmp_path.name}{len(labels)}", atoms.copy()
        learn = ("--learn", "--directory", tmp_path / "labels", "--check-every", 0)
        client = served(tmp_path / "water.xyz", *learn, "--unix", name)
        with SocketIOCalculator(unixsocket=name, timeout=60) as moved.calc:
            VelocityVerlet(moved, 0.5 * units.fs).run(30)
            found.append(moved.get_forces())
        said, error = client.communicate(timeout=30)
        assert client.returncode == 0, error
        labels.append(int(re.findall("([0-9]+) labels", said)[0]))
        moved.calc = TBLite(method="GFN2-xTB", verbosity=0)
        assert np.abs(moved.get_forces() - found[-1]).mean() < 2 * 0.02  # the limit of an atom
    assert 2 <= labels[0] < 10
    assert labels[1] <= labels[0] + 1


def test_options_that_do_not_belong_together_are_refused(run, tmp_path):
    assert "need --learn" in otf("serve", run, "--engine", "tblite", rc=2).stderr
    structure = ("--learn", "--structure", tmp_path / "a.xyz")
    assert "SOURCE has the atoms" in otf("serve", "a.yaml", *structure, rc=2).stderr
