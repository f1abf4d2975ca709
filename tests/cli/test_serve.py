"""``otf serve``: a model driven by ASE's server and by i-PI over real sockets."""

import contextlib
import shutil
import socket
import subprocess
import sys
import threading

import ase.io
import numpy as np
import pytest
from ase import units
from ase.build import bulk
from ase.calculators.socketio import SocketIOCalculator
from ase.md.verlet import VelocityVerlet

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


@pytest.mark.full
def test_ipi_moves_a_ring_polymer_on_the_model(run, tmp_path):
    """Path integrals, which otf itself does not do."""
    program = shutil.which("i-pi", path=str(sys.prefix) + "/bin")
    assert program is not None
    atoms = ase.io.read(run / "start.traj")
    atoms.set_constraint()
    if not atoms.pbc.any():
        atoms.set_cell([20.0] * 3)
    ase.io.write(tmp_path / "start.extxyz", atoms, columns=["symbols", "positions"])
    address = f"otf_{tmp_path.name}"
    (tmp_path / "input.xml").write_text(IPI.replace("ADDRESS", address))
    with subprocess.Popen(
        [sys.executable, program, "input.xml"],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    ) as driver:  # fmt: skip
        client = served(run, "--unix", address)
        said, _ = driver.communicate(timeout=120)
    assert driver.returncode == 0, said
    _, error = client.communicate(timeout=30)
    assert client.returncode == 0, error
    table = np.loadtxt(tmp_path / "out.md")
    assert len(table) == 41
    assert np.ptp(table[:, 2]) > 3e-3
    assert np.ptp(table[:, 1]) < 0.05 * np.ptp(table[:, 2])
