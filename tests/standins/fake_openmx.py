"""Stand-in for the OpenMX program: reads its input file, writes its output files.

    python fake_openmx.py MODE NAME.dat -nt T

``compute`` writes results of a Morse potential in OpenMX's format; the other modes reproduce
observed failures of the real program. A state file next to the program counts the calls for modes
that fail only the first time.
"""

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.calculators.morse import MorsePotential
from ase.units import Hartree

BOHR = 0.529177249
GOLDEN = Path(__file__).parents[1] / "golden" / "openmx"


def read(path: Path):
    values, blocks, name = {}, {}, None
    for line in path.read_text().splitlines():
        if name:
            if line.strip() == f"{name}>":
                name = None
            else:
                blocks[name].append(line.split())
        elif line.startswith("<"):
            name = line[1:].split()[0]
            blocks[name] = []
        elif line.strip():
            key, *rest = line.split()
            values[key] = " ".join(rest)
    elements = {row[0]: row[2].split("_")[0] for row in blocks["Definition.of.Atomic.Species"]}
    sites = blocks["Atoms.SpeciesAndCoordinates"]
    rows = [row for row in sites if elements[row[1]] != "E"]
    atoms = Atoms(
        [elements[row[1]] for row in rows],
        positions=np.array([[float(x) for x in row[2:5]] for row in rows]),
        cell=np.array(blocks["Atoms.UnitVectors"], dtype=float),
        pbc=True,
    )
    atoms.info["empty"] = [[float(x) for x in row[2:5]] for row in sites[len(rows) :]]
    return values, atoms


def cycle(count: int, last_change: float, norm: float, criterion: float) -> str:
    lines = []
    for i in range(1, count + 1):
        change = last_change if i == count else 1.0 / i
        residual = norm if i == count else 1.0 / i
        lines += [
            f"<DFT>  Uele   =   -3.300000000000  dUele     = {change:16.12f}",
            f"<DFT>  NormRD = {residual:16.12f}  Criterion = {criterion:16.12f}",
        ]
    return "\n".join(lines)


def compute(name: str, values, atoms, *, converged: bool = True) -> None:
    atoms.calc = MorsePotential(epsilon=0.5, r0=1.2, rho0=3.0, rcut1=2.2, rcut2=3.0)
    energy = atoms.get_potential_energy() - 10.0 * len(atoms)
    forces = atoms.get_forces() * BOHR / Hartree
    warm = Path(f"{name}_rst").is_dir() and any(Path(f"{name}_rst").glob("*.rst"))
    criterion = float(values["scf.criterion"])
    ok = (5 if warm else 12, 0.1 * criterion, 0.1 * criterion**0.5)
    bad = (int(values["scf.maxIter"]), 1e-3, 1e-2)
    text = " Welcome to OpenMX   Ver. 3.9  \n\n" + cycle(*(ok if converged else bad), criterion)
    if values.get("scf.stress.tensor") == "on":
        stress = atoms.get_stress(voigt=False) * BOHR**3 / Hartree
        rows = "\n".join("".join(f"{x:18.8f}" for x in row) + " " for row in stress)
        stars = "*" * 55
        text += f"\n{stars}\n               Stress tensor (Hartree/bohr^3)            \n{stars}\n"
        text += f"\n{rows}\n"
    out = f"\n  Utot.  {energy / Hartree:20.12f}\n"
    if values.get("Energy.Decomposition") == "on":
        out += "\n  Decomposed.energies.(Hartree).with.respect.to.atom\n\n      Utot   Utot(up)\n"
        share = energy / Hartree / len(atoms)
        for i, symbol in enumerate(atoms.symbols, start=1):
            out += f"     {i}    {symbol}  {share:18.12f}   0.0\n"
    empty = atoms.info["empty"]
    symbols = [*atoms.symbols, *["E"] * len(empty)]
    positions = [*atoms.positions.tolist(), *empty]
    forces = [*forces.tolist(), *[[0.1, 0.2, 0.3]] * len(empty)]
    out += f"\n<coordinates.forces\n  {len(symbols)}\n"
    for i, (symbol, x, f) in enumerate(zip(symbols, positions, forces, strict=True), start=1):
        out += f"  {i:3d}  {symbol:3s}" + "".join(f"{v:12.5f}" for v in x)
        out += "".join(f"{v:18.12f}" for v in f) + "\n"
    Path(f"{name}.out").write_text(out + "coordinates.forces>\n")
    rst = Path(f"{name}_rst")
    rst.mkdir(exist_ok=True)
    (rst / f"{name}.rst").write_text("density")
    (rst / "C.ft1").write_text("table")
    first, last = rst / f"{name}.crst0_0_0", rst / f"{name}.crst0_1_0"  # as two ranks share a grid
    if not first.exists():
        first.write_bytes(bytes(8 * 8 * 9 * 10 // 2))
        last.write_bytes(bytes(8 * 8 * 9 * 10 // 2))
    text += "\nNum. of grids of a-, b-, and c-axes = 8, 9, 10\n"
    if values.get("HS.fileout") == "on":
        shutil.copy(GOLDEN / "a_ch4" / "ch4.scfout", f"{name}.scfout")
    print(text + "\n\nThe calculation was normally finished.")


def main() -> None:
    mode, file = sys.argv[1], Path(sys.argv[2])
    name = file.stem
    if not file.exists():
        print(f"\ninput_open: can not open {file}")
        return
    values, atoms = read(file)
    memory = Path(sys.argv[0]).parent / f"{mode}.called"
    if mode.startswith("once-"):  # fails the first time only
        if memory.exists():
            mode = "compute"
        else:
            memory.touch()
            mode = mode.removeprefix("once-")
    if mode == "warm-fails":
        mode = "unconverged" if any(Path(f"{name}_rst").glob("*.rst")) else "compute"
    if mode == "compute":
        compute(name, values, atoms)
    elif mode == "unconverged":
        compute(name, values, atoms, converged=False)
    elif mode == "hang":
        child = [sys.executable, "-c", "import time; time.sleep(600)"]
        Path("child.pid").write_text(str(subprocess.Popen(child).pid))
        time.sleep(600)
    elif mode == "dies":
        print(" Welcome to OpenMX   Ver. 3.9  \n\n" + cycle(3, 1e-1, 1e-1, 1e-7), flush=True)
        Path(f"{name}.out").write_text("\n  Utot.   -8.0\n\n<coordinates.forces\n  5\n    1  C  0")
        signal.raise_signal(signal.SIGKILL)
    elif mode == "garbage":
        print("The calculation was normally finished.")
    elif mode == "stale":  # another structure's complete output
        shutil.copy(GOLDEN / "a_ch4" / "ch4.out", f"{name}.out")
        print((GOLDEN / "a_ch4" / "ch4.std").read_text())
    elif mode.endswith(".out"):  # a captured run
        shutil.copy(GOLDEN / mode, f"{name}.out")
        print((GOLDEN / mode).with_suffix(".std").read_text())
    else:  # a captured standard output, without an .out file
        print((GOLDEN / mode).read_text())


if __name__ == "__main__":
    main()
