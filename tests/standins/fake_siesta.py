"""Stand-in for the SIESTA program: reads its input file, writes its output files.

    python fake_siesta.py MODE FOLDER < otf.fdf

Runs once or as an i-PI client, according to the input. ``compute`` writes results of a Morse
potential in SIESTA's format; the other modes reproduce observed failures of the real program.
FOLDER records the calls, for modes that fail only the first time.
"""

import itertools
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

RY, BOHR = 13.60580, 0.529177
RY_5, BOHR_5 = 13.605693122994, 0.529177210903  # of SIESTA 5
GOLDEN = Path(__file__).parents[1] / "golden" / "siesta"
ATOMIC = {"C": 6, "H": 1, "O": 8, "Si": 14}


def read(text: str):
    values, blocks, name = {}, {}, None
    for line in text.splitlines():
        words = line.split()
        if not words:
            continue
        if words[0] == "%block":
            name = words[1]
            blocks[name] = []
        elif words[0] == "%endblock":
            name = None
        elif name:
            blocks[name].append(words)
        else:
            values[words[0]] = " ".join(words[1:])
    return values, blocks


def morse(positions, cell, depth=0.5, r0=1.2, rho=3.0, cut=3.0):
    """Energy, forces and stress (eV, Angstrom), with a smooth cutoff."""
    reach = [int(np.ceil(cut / h)) for h in 1 / np.linalg.norm(np.linalg.inv(cell), axis=0)]
    energy, forces, virial = 0.0, np.zeros_like(positions), np.zeros((3, 3))
    for shift in itertools.product(*(range(-n, n + 1) for n in reach)):
        d = positions[None, :, :] + np.array(shift) @ cell - positions[:, None, :]
        r = np.linalg.norm(d, axis=2)
        i, j = np.nonzero((r > 1e-9) & (r < cut))
        r, d = r[i, j], d[i, j]
        e = np.exp(-rho * (r / r0 - 1))
        x = (cut - r) / cut
        u, du = depth * (e * e - 2 * e), depth * 2 * rho / r0 * (e - e * e)
        energy += 0.5 * np.sum(u * x**3)
        slope = du * x**3 - 3 * u * x**2 / cut
        pull = (slope / r)[:, None] * d
        np.add.at(forces, i, pull)
        virial += 0.5 * d.T @ pull
    return energy - 10.0 * len(positions), forces, virial / abs(np.linalg.det(cell))


class Siesta:
    def __init__(self, values, blocks, mode):
        self.values, self.mode = values, mode
        self.name = values["SystemLabel"]
        labels = [row[2] for row in blocks["ChemicalSpeciesLabel"]]
        rows = blocks["AtomicCoordinatesAndAtomicSpecies"]
        self.species = [int(row[3]) for row in rows]
        self.labels = [labels[n - 1] for n in self.species]
        self.positions = np.array([[float(x) for x in row[:3]] for row in rows])
        self.cell = np.array(blocks["LatticeVectors"], dtype=float)
        for row in blocks["ChemicalSpeciesLabel"]:
            named = row[3] if len(row) > 3 else f"{row[2]}.psf"  # SIESTA 5
            if not (Path(named).exists() or Path(f"{named}.psml").exists()):
                replay("d_missing_pseudo")

    def message(self, level: str, text: str) -> None:
        print(text, flush=True)
        with Path("MESSAGES").open("a") as file:
            file.write(f"{level}: {text}\n")

    def compute(self) -> tuple[float, np.ndarray]:
        """Compute one structure and write SIESTA's output files."""
        matrix = Path(f"{self.name}.DM")
        warm = self.values["DM.UseSaveDM"] == "T" and matrix.exists()
        if warm and self.values.get("TS.HS.Save") == "T":
            shutil.copy(matrix, "started_from.DM")
        if warm and self.mode == "warm-corrupt":
            replay("corrupt_DM", 2)
        if self.mode == "slow":
            time.sleep(0.2)
        energy, forces, stress = morse(self.positions, self.cell)
        iterations = min(4 if warm else 9, int(self.values.get("MaxSCFIterations", 1000)))
        start = 1e-4 if self.mode == "near" else 1.0  # initial change of the density matrix
        converged = self.mode not in ("unconverged", "silent-unconverged")
        print("        iscf     Eharris(eV)        E_KS(eV)     FreeEng(eV)     dDmax")
        for i in range(1, iterations + 1):
            print(f"   scf:{i:5d}{3 * f'{energy:17.6f}'}{start * 0.1 ** (i - 1):10.6f}")
        if self.mode == "dies":
            Path("FORCE_STRESS").write_text(f"{energy / RY:30.10f}\n         -0.0000374")
            matrix.write_bytes(b"half")
            sys.stdout.flush()
            signal.raise_signal(signal.SIGKILL)
        if not converged:
            level = "FATAL" if self.mode == "unconverged" else "WARNING"
            self.message(level, "SCF_NOT_CONV: SCF did not converge in maximum number of steps.")
            if level == "FATAL":
                signal.raise_signal(signal.SIGABRT)
        else:
            print(f"\nSCF cycle converged after {iterations} iterations", flush=True)
        if self.mode == "nan":
            energy = float("nan")
        lines = [f"{energy / RY:30.10f}"]
        lines += ["   " + "".join(f"{x * BOHR**3 / RY:18.9f}" for x in row) for row in stress]
        lines += [f"  {len(forces)}"]
        for n, label, force in zip(self.species, self.labels, forces * BOHR / RY):
            numbers = "".join(f"{x:18.9f}" for x in force)
            lines.append(f"{n:3d}{ATOMIC[label]:6d}{numbers}  {label}")
        Path("FORCE_STRESS").write_text("\n".join(lines) + "\n")
        rows = ["".join(f"{x / BOHR:18.9f}" for x in v) + 3 * f"{0.0:18.9f}" for v in self.cell]
        rows += [f"{len(forces):12d}"]
        for n, label, position in zip(self.species, self.labels, self.positions):
            numbers = "".join(f"{x / BOHR:18.9f}" for x in position)
            rows.append(f"{n:3d}{ATOMIC[label]:6d}{numbers}" + 3 * f"{0.0:18.9f}")
        if self.mode == "stale":  # another structure's files
            shutil.copy(GOLDEN / "a_ch4_converged" / "siesta.XV", f"{self.name}.XV")
        else:
            Path(f"{self.name}.XV").write_text("\n".join(rows) + "\n")
        if self.values.get("TS.HS.Save") == "T":
            for end in ("TSHS", "DM", "ORB_INDX"):
                source = GOLDEN / "a_ch4_converged" / f"siesta.{end}"
                shutil.copy(source, f"{self.name}.{end}")
        elif self.mode != "without-matrix":
            matrix.write_text("matrix of " + repr(self.positions.tolist()))
        return energy, forces

    def serve(self) -> None:
        """Client side of the i-PI protocol."""
        kind, address = self.values["Master.socketType"], self.values["Master.address"]
        if kind == "unix":
            line = socket.socket(socket.AF_UNIX)
            line.connect(f"/tmp/ipi_{address}")
        else:
            line = socket.create_connection((address, int(self.values["Master.port"])))

        def receive(count: int) -> bytes:
            data = b""
            while len(data) < count:
                part = line.recv(count - len(data))
                if not part:
                    print("Error reading from socket: server has quit", file=sys.stderr)
                    sys.exit(255)
                data += part
            return data

        state = "READY"
        while True:
            header = receive(12).decode().strip()
            if header == "EXIT":
                Path("goodbye").touch()
                return
            if header == "STATUS":
                line.sendall(state.ljust(12).encode())
            elif header == "POSDATA":
                cell = np.frombuffer(receive(72)).reshape(3, 3).T
                receive(72)
                (count,) = struct.unpack("i", receive(4))
                if count != len(self.species):
                    self.message("FATAL", "coordsFromSocket ERROR: unexpected number of atoms")
                    signal.raise_signal(signal.SIGABRT)
                self.cell = cell * BOHR
                self.positions = np.frombuffer(receive(24 * count)).reshape(count, 3) * BOHR
                energy, forces = self.compute()
                state = "HAVEDATA"
            elif header == "GETFORCE":
                line.sendall(b"FORCEREADY  " + struct.pack("d", 0.5 * energy / RY))
                line.sendall(struct.pack("i", len(forces)) + bytes(24 * len(forces)) + bytes(72))
                line.sendall(struct.pack("i", 0))
                state = "READY"
                if self.mode == "leaves":  # between two labels
                    sys.exit(0)


def replay(case: str, code: int = 0):
    """Reproduce output and exit of a captured run."""
    folder = GOLDEN / case
    print((folder / "siesta.out").read_text(errors="replace"), flush=True)
    print((folder / "siesta.err").read_text(errors="replace"), file=sys.stderr, flush=True)
    shutil.copy(folder / "MESSAGES", "MESSAGES")
    sys.stdout.flush()
    if code == 6:
        signal.raise_signal(signal.SIGABRT)
    os._exit(code)


def main() -> None:
    global RY, BOHR
    mode, memory = sys.argv[1], Path(sys.argv[2])
    if mode == "five":
        RY, BOHR = RY_5, BOHR_5
        print("Executable      : siesta\nVersion         : 5.4.2\n", flush=True)
    else:
        print("Siesta Version  : v4.1-b4-133\n", flush=True)
    values, blocks = read(sys.stdin.read())
    if not blocks:
        print("Block Chemical_species_label does not exist.\nStopping Program from Node:    0")
        signal.raise_signal(signal.SIGABRT)
    with (memory / "calls").open("a") as file:
        file.write(f"{os.getpid()}\n")
    if mode.startswith("once-"):  # fails the first time only
        mark = memory / f"{mode}.called"
        mode = "compute" if mark.exists() else mode.removeprefix("once-")
        mark.touch()
    captured = re.fullmatch(r"(\w+):(\d+)", mode)
    if captured:
        replay(captured[1], int(captured[2]))
    if mode == "hang":
        child = [sys.executable, "-c", "import time; time.sleep(600)"]
        Path("child.pid").write_text(str(subprocess.Popen(child).pid))
        time.sleep(600)
    if mode == "garbage":
        Path("MESSAGES").write_text("INFO: Job completed\n")
        Path("0_NORMAL_EXIT").touch()
        return
    siesta = Siesta(values, blocks, mode)
    if values["MD.TypeOfRun"] == "Master":
        siesta.serve()
        return
    siesta.compute()
    siesta.message("INFO", "Job completed")
    Path("0_NORMAL_EXIT").touch()


if __name__ == "__main__":
    main()
