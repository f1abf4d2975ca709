"""Files of a run: exact, cleanly truncated after a kill, refused by name when damaged."""

import errno
import fcntl
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import ase.io
import h5py
import numpy as np
import pytest
from ase.build import bulk, molecule
from hypothesis import given
from hypothesis import strategies as st

from otf.engines.labels import Labels
from otf.errors import FileError
from otf.io.array_file import read_arrays, write_arrays
from otf.io.committed import MODEL, Frame
from otf.io.durable import is_owned, sole_owner
from otf.io.labels import LabelFile
from otf.io.trajectory import TrajectoryWriter, read_scalars, read_trajectory


def structure(periodic: bool, seed: int):
    atoms = bulk("NaCl", "rocksalt", a=5.6, cubic=True) if periodic else molecule("CH3OH")
    atoms.rattle(0.1, seed=seed)
    rng = np.random.default_rng(seed)
    labels = Labels(
        energy=rng.normal(),
        forces=rng.normal(size=(len(atoms), 3)) * 10.0 ** rng.integers(-12, 3),
        stress=rng.normal(size=(3, 3)) if periodic else None,
        atomic_energies=rng.normal(size=len(atoms)) if seed % 2 else None,
        scf_iterations=7 if seed % 3 else None,
        wall_s=0.125,
        provenance='an "engine" 1.0',
    )
    if labels.stress is not None:
        labels.stress[:] = labels.stress + labels.stress.T
    return atoms, labels


@given(periodic=st.booleans(), seed=st.integers(0, 10**6))
def test_labels_read_back_to_the_same_bits(tmp_path, periodic, seed):
    path = tmp_path / "labels.extxyz"
    path.unlink(missing_ok=True)
    atoms, labels = structure(periodic, seed)
    with closing(LabelFile(path)) as file:
        file.append(3, atoms, labels)
    with closing(LabelFile(path)) as file:
        back = file[0]
    assert back.step == 3
    assert back.atoms.positions.tobytes() == atoms.positions.tobytes()
    assert back.atoms.cell.array.tobytes() == atoms.cell.array.tobytes()
    assert (back.atoms.pbc == atoms.pbc).all()
    assert back.labels.energy == labels.energy
    assert back.labels.forces.tobytes() == labels.forces.tobytes()
    assert back.labels.scf_iterations == labels.scf_iterations
    if periodic:
        assert back.labels.stress.tobytes() == labels.stress.tobytes()
    if labels.atomic_energies is not None:
        assert back.labels.atomic_energies.tobytes() == labels.atomic_energies.tobytes()


def three_labels(path):
    with closing(LabelFile(path)) as file:
        for i in range(3):
            file.append(10 * i, *structure(periodic=False, seed=i))
    return path.read_bytes()


def test_cut_end_is_forgotten_at_every_byte(tmp_path):
    path = tmp_path / "labels.extxyz"
    text = three_labels(path)
    frame = text.index(b"\n6\n", 10) + 1
    last = text.index(b"\n6\n", frame + 1) + 1
    for cut in range(last, len(text), 37):
        path.write_bytes(text[:cut])
        with closing(LabelFile(path)) as file:
            assert len(file) == 2
            file.append(20, *structure(periodic=False, seed=2))
        assert path.read_bytes() == text


def test_damage_in_the_middle_is_named(tmp_path):
    path = tmp_path / "labels.extxyz"
    text = bytearray(three_labels(path))
    text[text.index(b"\n6\n", 10) + 1] = ord("x")
    path.write_bytes(text)
    with pytest.raises(FileError, match="damaged at byte"):
        LabelFile(path)
    assert path.read_bytes() == bytes(text)


def test_labels_of_another_course_are_set_aside(tmp_path):
    path = tmp_path / "labels.extxyz"
    text = three_labels(path)
    atoms, _ = structure(periodic=False, seed=1)
    with closing(LabelFile(path)) as file:
        assert file.find(1, 10, atoms) is not None
        assert file.find(3, 30, atoms) is None
        atoms.positions[0, 0] += 1e-12
        assert file.find(1, 10, atoms) is None
        assert len(file) == 1
        file.append(10, *structure(periodic=False, seed=7))
    unused = (tmp_path / "labels.unused.extxyz").read_bytes()
    assert path.read_bytes()[: len(text) - len(unused)] + unused == text
    with closing(LabelFile(path)) as file:
        assert [file[i].step for i in range(len(file))] == [0, 10]


def frames(atoms, steps):
    rng = np.random.default_rng(4)
    n = len(atoms)
    return [
        Frame(
            step=s,
            time_fs=0.5 * s,
            cell=atoms.cell.array,
            positions=rng.normal(size=(n, 3)),
            momenta=rng.normal(size=(n, 3)),
            forces=rng.normal(size=(n, 3)),
            potential_energy=-1.0 - s,
            kinetic_energy=0.1 * s,
            temperature_K=300.0 + s,
            source=MODEL,
            labels=2,
            conserved_energy=-1.0 - s,
            energy_discontinuity=0.1 * s,
            heat=0.2,
            work=0.3,
            barostat=0.4,
            pressure_GPa=0.1 * s,
            stage=s // 2,
        )
        for s in steps
    ]


@pytest.mark.parametrize("atoms", [molecule("H2O"), bulk("Si", cubic=True)], ids=["H2O", "Si8"])
def test_trajectory_is_cut_to_the_checkpoint(tmp_path, atoms):
    path = tmp_path / "trajectory.h5"
    written = frames(atoms, range(30))
    with closing(TrajectoryWriter(path, atoms)) as trajectory:
        trajectory.append(written[:10])
        trajectory.append(written[10:20])
    with closing(TrajectoryWriter(path, atoms, keep=15)) as trajectory:
        assert trajectory.n_frames == 15
        trajectory.append(written[15:])
    back = read_trajectory(path)
    assert back.step.tolist() == list(range(30))
    assert back.positions.tobytes() == np.array([f.positions for f in written]).tobytes()
    np.testing.assert_allclose(back.frame(7).get_momenta(), written[7].momenta, rtol=1e-12)
    with pytest.raises(FileError, match="30 frames, the checkpoint was made with 31"):
        TrajectoryWriter(path, atoms, keep=31)


def test_trajectory_is_h5md(tmp_path):
    path = tmp_path / "trajectory.h5"
    atoms = bulk("Si", cubic=True)
    with closing(TrajectoryWriter(path, atoms)) as trajectory:
        trajectory.append(frames(atoms, range(3)))
    with h5py.File(path) as file:
        assert file["h5md"].attrs["version"].tolist() == [1, 1]
        assert file["h5md/creator"].attrs["name"] == "otf"
        particles = file["particles/all"]
        assert particles["box"].attrs["dimension"] == 3
        for name in ("position", "velocity", "force", "species"):
            assert {"step", "time", "value"} <= set(particles[name])
        assert particles["velocity/step"] == particles["position/step"]  # one object, linked
        assert particles["species/value"][:].tolist() == [[14] * 8] * 3


def test_trajectory_of_others_is_refused(tmp_path):
    path = tmp_path / "trajectory.h5"
    path.write_text("not HDF5")
    with pytest.raises(FileError, match="not a trajectory"):
        read_trajectory(path)


def steps_of(path):
    return read_trajectory(path).step.tolist()


def test_frames_are_safe_before_they_are_folded(tmp_path):
    path, atoms = tmp_path / "trajectory.h5", molecule("H2O")
    writer = TrajectoryWriter(path, atoms)
    writer.append(frames(atoms, range(2000)))  # enough to be merged
    writer.append(frames(atoms, range(2000, 2010)))
    assert (tmp_path / "trajectory.tail").stat().st_size > 0
    writer._stream.close()  # the process dies here, without close()
    assert steps_of(path) == list(range(2010))


def test_some_frames_are_those_of_all_of_them(tmp_path):
    path, atoms = tmp_path / "trajectory.h5", molecule("H2O")
    writer = TrajectoryWriter(path, atoms)
    writer.append(frames(atoms, range(2500)))  # of several chunks
    writer.append(frames(atoms, range(2500, 2510)))  # in the tail
    whole = read_trajectory(path)
    for rows in ([], [0], [1023, 1024, 2499, 2500, 2509], [2505], range(0, 2510, 7)):
        some = read_trajectory(path, np.array(rows, dtype=np.int64))
        assert some.step.tolist() == list(rows)
        for name in ("positions", "forces", "cells", "potential_energy", "stage"):
            np.testing.assert_array_equal(getattr(some, name), getattr(whole, name)[list(rows)])
    assert read_scalars(path).step.tolist() == whole.step.tolist()
    writer.close()


def test_frames_of_a_run_killed_before_the_first_fold_are_there(tmp_path):
    path, atoms = tmp_path / "trajectory.h5", molecule("H2O")
    writer = TrajectoryWriter(path, atoms, stages=("warm", "produce"))
    assert steps_of(path) == []
    writer.append(frames(atoms, range(7)))
    writer._stream.close()  # the process dies here
    assert steps_of(path) == list(range(7))
    assert read_trajectory(path).stages == ("warm", "produce")


def test_kill_between_folding_and_emptying_the_tail(tmp_path):
    path, atoms = tmp_path / "trajectory.h5", molecule("H2O")
    tail = tmp_path / "trajectory.tail"
    writer = TrajectoryWriter(path, atoms)
    writer.append(frames(atoms, range(30)))
    before = tail.read_bytes()
    writer.close()
    tail.write_bytes(before)  # already merged, but not yet removed
    assert steps_of(path) == list(range(30))
    with closing(TrajectoryWriter(path, atoms, keep=25)) as again:
        again.append(frames(atoms, range(25, 40)))
    assert steps_of(path) == list(range(40))
    assert not tail.exists()


def test_kill_in_the_middle_of_a_record(tmp_path):
    path, atoms = tmp_path / "trajectory.h5", molecule("H2O")
    tail = tmp_path / "trajectory.tail"
    with closing(TrajectoryWriter(path, atoms)) as writer:
        writer.append(frames(atoms, range(10)))
    writer = TrajectoryWriter(path, atoms, keep=10)
    writer.append(frames(atoms, range(10, 20)))
    writer._stream.close()  # the process dies here
    tail.write_bytes(tail.read_bytes()[:-100])
    assert steps_of(path) == list(range(19))
    with closing(TrajectoryWriter(path, atoms, keep=15)) as again:
        again.append(frames(atoms, range(15, 18)))
    assert steps_of(path) == list(range(18))


def test_checkpoint_is_exact_and_replaced_whole(tmp_path):
    path = tmp_path / "checkpoint.h5"
    state = np.random.default_rng(3).bit_generator.state
    array = np.random.default_rng(4).normal(size=(5, 3))
    write_arrays(path, "checkpoint", {"old": 1}, {})
    write_arrays(
        path, "checkpoint", {"random": state, "x": 0.1 + 0.2, "nan": float("nan")}, {"a": array}
    )
    scalars, arrays = read_arrays(path, "checkpoint")
    assert scalars["random"] == state
    assert scalars["x"] == 0.1 + 0.2
    assert scalars["nan"] != scalars["nan"]
    assert arrays["a"].tobytes() == array.tobytes()
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint.h5"]


@given(cut=st.floats(0, 0.999))
def test_truncated_checkpoint_is_named(tmp_path, cut):
    path = tmp_path / "checkpoint.h5"
    write_arrays(path, "checkpoint", {"step": 1}, {"a": np.ones(100)})
    text = path.read_bytes()
    path.write_bytes(text[: int(cut * len(text))])
    with pytest.raises(FileError, match="is damaged or not a checkpoint"):
        read_arrays(path, "checkpoint")


def test_checkpoint_of_a_later_version_is_refused(tmp_path):
    path = tmp_path / "checkpoint.h5"
    write_arrays(path, "checkpoint", {}, {})
    with h5py.File(path, "r+") as file:
        file.attrs["format"] = 99
    with pytest.raises(FileError, match="has format 99"):
        read_arrays(path, "checkpoint")


def test_labels_are_what_ase_reads(tmp_path):
    path = tmp_path / "labels.extxyz"
    three_labels(path)
    read = ase.io.read(path, ":")
    assert len(read) == 3
    atoms, labels = structure(periodic=False, seed=1)
    assert read[1].get_potential_energy() == labels.energy
    np.testing.assert_array_equal(read[1].get_forces(), labels.forces)
    np.testing.assert_array_equal(read[1].positions, atoms.positions)


def test_file_of_another_kind_is_refused(tmp_path):
    path = tmp_path / "model.h5"
    write_arrays(path, "model", {}, {})
    with pytest.raises(FileError, match="is a model file, not a checkpoint file"):
        read_arrays(path, "checkpoint")


def test_files_of_one_name_may_be_written_at_once(tmp_path):
    """Replicas write matrix files of the same name in separate directories."""
    array = {"x": np.zeros(200_000)}

    def write(folder):
        folder.mkdir()
        for _ in range(20):
            write_arrays(folder / "same.h5", "test", {}, array)
        return read_arrays(folder / "same.h5", "test")[1]["x"].shape

    with ThreadPoolExecutor(4) as pool:
        shapes = list(pool.map(write, [tmp_path / str(k) for k in range(4)]))
    assert shapes == [(200_000,)] * 4


def test_a_directory_has_one_owner(tmp_path):
    lock = tmp_path / "lock"
    with sole_owner(lock):
        assert is_owned(lock)
        with pytest.raises(FileError, match="another otf is running here"), sole_owner(lock):
            pass
    assert not is_owned(lock)


def test_a_file_system_without_locks_is_good_enough(tmp_path, monkeypatch, caplog):
    def refused(*_):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", refused)  # as on Lustre
    with sole_owner(tmp_path / "lock"):
        assert not is_owned(tmp_path / "lock")
    assert "has no locks (Function not implemented)" in caplog.text
