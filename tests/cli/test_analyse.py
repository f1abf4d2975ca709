"""``otf analyse`` and ``otf compare`` on a run and on the file of another program."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from tests.cli.command import otf

GOLDEN = Path(__file__).parents[1] / "golden"
CONFIG = """\
system: {bulk: {name: Al, a_A: 4.05, cubic: true}, repeat: [2, 2, 2]}
engine: {kind: ase, calculator: "ase.calculators.emt:EMT"}
dynamics: {ensemble: csvr, steps: 700, timestep_fs: 2.0}
policy: {force_target_meV_A: 20}
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("analyse")
    (folder / "al.yaml").write_text(CONFIG)
    otf("run", folder / "al.yaml", "--output", folder / "al")
    return folder / "al"


@pytest.mark.parametrize(
    ("kind", "options", "column"),
    [
        ("rdf", ["--cutoff", 9], "g_Al_Al"),
        ("adf", ["--cutoff", 3.6], "density_Al_Al_Al"),
        ("msd", [], "msd_Al_A2"),
        ("vacf", [], "vacf"),
        ("vdos", ["--longest", 400], "vdos_cm"),
        ("structure-factor", ["--every", 10], "s"),
        ("bonds", [], "density_Al_Al_per_A"),
        ("energy", [], "conserved_energy_eV"),
        ("temperature", [], "temperature_K"),
    ],
)
def test_every_analysis_prints_a_table(run, kind, options, column):
    lines = otf("analyse", kind, run, "--from", 200, *options).stdout.splitlines()
    names = [line for line in lines if line.startswith("#")][-1].split()[1:]
    assert column in names
    table = np.loadtxt(lines)
    assert table.shape[1] == len(names)
    assert np.isfinite(table).all()


def test_tables_and_pictures_are_written(run, tmp_path):
    files = [tmp_path / f"rdf.{ending}" for ending in ("csv", "txt", "h5", "svg", "png")]
    otf("analyse", "rdf", run, *(x for f in files for x in ("--output", f)))
    header, first = [
        line for line in files[0].read_text().splitlines() if not line.startswith("#")
    ][:2]
    assert header.split(",")[:3] == ["r_A", "g_Al_Al", "g_Al_Al_error"]
    assert first.startswith("0.025,")
    with h5py.File(files[2]) as file:
        np.testing.assert_allclose(file["g_Al_Al"][()], np.loadtxt(files[1])[:, 1], atol=1e-7)
    assert b"<svg" in files[3].read_bytes()[:1000]
    assert files[4].read_bytes().startswith(b"\x89PNG")


@pytest.mark.full
def test_reweighting_to_the_engine(run, tmp_path):
    few = otf("analyse", "rdf", run, "--reweight").stdout
    assert "# correction to the engine: none;" in few
    config = CONFIG.replace("target_meV_A: 20", "target_meV_A: 20, gap_max: 8")
    (tmp_path / "often.yaml").write_text(config)
    otf("run", tmp_path / "often.yaml", "--output", tmp_path / "often")
    out = otf("analyse", "rdf", tmp_path / "often", "--reweight").stdout
    assert "# correction to the engine: exponential;" in out
    names = next(line for line in out.splitlines() if line.startswith("# r_A")).split()
    assert {"g_Al_Al_error", "g_Al_Al_shift", "g_Al_Al_shift_error"} <= set(names)
    plain = np.loadtxt(otf("analyse", "rdf", tmp_path / "often").stdout.splitlines())[:, 1]
    table = np.loadtxt(out.splitlines())
    shift = table[:, names.index("g_Al_Al_shift") - 1]
    np.testing.assert_allclose(table[:, 1], plain + shift, atol=1e-6)
    for kind, number in (("bonds", "length_Al_Al_A"), ("energy", "mean_potential_energy_eV")):
        told = dict(
            line.removeprefix("# ").split(" = ")
            for line in otf("analyse", kind, tmp_path / "often", "--reweight").stdout.splitlines()
            if " = " in line
        )
        plain = otf("analyse", kind, tmp_path / "often").stdout
        before = float(plain.split(f"{number} = ")[1].split()[0])
        shift, _, error = told[f"{number}_shift"].split()
        assert float(told[number].split()[0]) == pytest.approx(before + float(shift), rel=1e-5)
        assert 0.0 < float(error) < 1.0
    assert "needs the labels" in otf("analyse", "rdf", run, run, "--reweight", rc=2).stderr


@pytest.mark.full
def test_labels_of_other_stages_do_not_reweight(tmp_path):
    text = CONFIG.replace(
        "{ensemble: csvr, steps: 700, timestep_fs: 2.0}",
        "{timestep_fs: 2.0, stages: [{name: hot, ensemble: csvr, steps: 200, temperature_K: 900}, "
        "{name: cold, ensemble: npt, steps: 200}]}",
    ).replace("target_meV_A: 20", "target_meV_A: 20, gap_max: 6")
    text = text.replace(", repeat: [2, 2, 2]", "")
    (tmp_path / "c.yaml").write_text(text)
    otf("run", tmp_path / "c.yaml", "--output", tmp_path / "run")
    counts = {}
    for stage in ("hot", "cold", "all"):
        said = otf("analyse", "energy", tmp_path / "run", "--reweight", "--stage", stage).stdout
        counts[stage] = int(said.split(" kT over ")[1].split()[0])
    assert counts["hot"] + counts["cold"] in (counts["all"], counts["all"] + 1)
    assert min(counts.values()) > 20
    factor = otf("analyse", "structure-factor", tmp_path / "run", "--reweight").stdout
    assert "s_shift" in factor
    mine = tmp_path / "run/trajectory.h5"
    before = mine.read_bytes()
    refused = otf("analyse", "rdf", tmp_path / "run", "--output", mine, rc=2).stderr
    assert "is a file of the run" in refused
    assert mine.read_bytes() == before


def test_the_same_command_serves_other_programs(run):
    source = GOLDEN / "openmx/f_nve20/ch4.md"
    out = otf("analyse", "rdf", source, "--cutoff", 2).stdout
    assert "coordination_C_H" in out
    assert "mean_potential_energy_eV = -223." in otf("analyse", "energy", source).stdout


def test_mistakes_are_named(run, tmp_path):
    assert "does not exist" in otf("analyse", "rdf", tmp_path / "no", rc=1).stderr
    assert "no frame is between" in otf("analyse", "rdf", run, "--from", 1e9, rc=1).stderr
    assert "at least 64 frames" in otf("analyse", "vdos", run, "--longest", 9, rc=1).stderr
    assert "choose another" in otf("analyse", "rdf", run, "--output", "/no/a.csv", rc=1).stderr
    assert "choose another" in otf("analyse", "rdf", run, "--output", "/no/a.svg", rc=1).stderr
    foo = otf("analyse", "rdf", run, "--output", tmp_path / "a.foo", rc=1)
    assert "tables end in .csv" in foo.stderr
    assert otf("analyse", "rdf", run, "--bin", -1, rc=2).stderr


@pytest.mark.full
def test_compare_says_equal_and_not(run, tmp_path):
    picture = tmp_path / "both.svg"
    same = otf("compare", run, run, "--output", picture)
    assert same.stdout.startswith("equal within errors: p = ")
    assert picture.exists()
    hot = CONFIG.replace("timestep_fs", "temperature_K: 900, timestep_fs")
    (tmp_path / "hot.yaml").write_text(hot)
    otf("run", tmp_path / "hot.yaml", "--output", tmp_path / "hot")
    assert otf("compare", run, tmp_path / "hot", "--from", 200, rc=1).stdout.startswith("NOT equal")
