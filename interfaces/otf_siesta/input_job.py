"""The molecular dynamics job of a SIESTA input file: start, constraints, ensemble.

Manual, sections "Structural information", "Molecular dynamics" and "Constraints". Saved structures
are in bohr and bohr/fs (``.XV``), or in Angstrom and fractional (``.STRUCT_IN``).
"""

from pathlib import Path

import numpy as np
from ase import Atoms, units

from otf.arrays import Floats
from otf.engines.input_deck import Deck
from otf.engines.job import Given, InputJob
from otf.errors import EngineError
from otf_siesta.constraints import constrain
from otf_siesta.geometry import (
    labels_of,
    read_structure,
    set_masses,
    species_of_sites,
    symbols_of,
)
from otf_siesta.output import BOHR_A
from otf_siesta.values import (
    PRESSURE_GPA,
    TEMPERATURE_K,
    TIME_FS,
    quantity,
    real,
    whole,
    words_of,
)

_ENSEMBLES = {
    "verlet": "nve",
    "nose": "nhc",
    "noseparrinellorahman": "npt_full",
}


def read_job(deck: Deck, folder: Path) -> InputJob:
    """The job of an input file.

    Parameters
    ----------
    folder
        Folder of the input file, where its ``.XV`` or ``.STRUCT_IN`` file is.

    Raises
    ------
    EngineError
        If something cannot be read, or a constraint has no equivalent.
    """
    atoms, labels, said = _start(deck, folder)
    fixed = constrain(deck, atoms, labels)  # which counts ghosts, too
    ghosts = [i for i, number in enumerate(atoms.numbers) if number == 0]
    if ghosts:
        del atoms[ghosts]
        said.append(f"{len(ghosts)} ghosts, which stay where they are")
    dynamics, left = _dynamics(deck)
    if atoms.has("momenta"):
        dynamics["velocities"] = Given("structure", ".XV file")
    return InputJob(atoms, (*said, *fixed), dynamics, tuple(left))


def _start(deck: Deck, folder: Path) -> tuple[Atoms, list[str], list[str]]:
    """Structure with ghosts, species labels of its sites, and their source if not the input.

    As in SIESTA, a ``.XV`` file that the input asks for takes precedence if it is there, and a
    ``.STRUCT_IN`` file over the blocks of the input.
    """
    label = (deck.value("SystemLabel") or "siesta").strip()
    saved, given = folder / f"{label}.XV", folder / f"{label}.STRUCT_IN"
    asks = "MD.UseSaveXV" if deck.value("MD.UseSaveXV") is not None else "UseSaveData"
    if deck.flag(asks):
        if saved.is_file():
            atoms, labels = _read_xv(deck, saved)
            return atoms, labels, [f"structure and velocities of {saved.name} ({asks})"]
        missing = [f"{asks}: there is no {saved.name}, so the input's own structure counts"]
    else:
        missing = []
    if deck.flag("MD.UseStructFile") or deck.flag("UseStructFile"):
        atoms, labels = _read_struct(deck, given)
        return atoms, labels, [*missing, f"structure of {given.name} (MD.UseStructFile)"]
    return read_structure(deck), species_of_sites(deck), missing


def _read_xv(deck: Deck, path: Path) -> tuple[Atoms, list[str]]:
    cell, rows = _saved_rows(path)
    try:
        values = np.array([[real(x) for x in words[2:8]] for words in rows]) * BOHR_A
        if values.shape != (len(rows), 6):
            raise ValueError("rows are not 'species Z x y z vx vy vz'")
    except ValueError as error:
        raise EngineError(f"{path}: cannot be read ({error})") from error
    atoms, labels = _atoms_of(deck, rows)
    atoms.set_cell(cell * BOHR_A)
    atoms.set_positions(values[:, :3])
    if values[:, 3:].any():
        atoms.set_velocities(values[:, 3:] / units.fs)
    return atoms, labels


def _read_struct(deck: Deck, path: Path) -> tuple[Atoms, list[str]]:
    cell, rows = _saved_rows(path)
    try:
        scaled = np.array([[real(x) for x in words[2:5]] for words in rows])
        if scaled.shape != (len(rows), 3):
            raise ValueError("rows are not 'species Z x y z'")
    except ValueError as error:
        raise EngineError(f"{path}: cannot be read ({error})") from error
    atoms, labels = _atoms_of(deck, rows)
    atoms.set_cell(cell)
    atoms.set_scaled_positions(scaled)
    return atoms, labels


def _saved_rows(path: Path) -> tuple[Floats, list[list[str]]]:
    """Cell vectors and words of the rows of the atoms of a saved structure."""
    try:
        lines = [line.split() for line in path.read_text(encoding="utf-8").splitlines()]
        cell = np.array([[real(x) for x in words[:3]] for words in lines[:3]])
        rows = lines[4 : 4 + int(lines[3][0])]
        if cell.shape != (3, 3) or len(rows) != int(lines[3][0]):
            raise ValueError("it is incomplete")
    except (OSError, ValueError, IndexError) as error:
        raise EngineError(f"{path}: cannot be read ({error})") from error
    return cell, rows


def _atoms_of(deck: Deck, rows: list[list[str]]) -> tuple[Atoms, list[str]]:
    """Atoms by the species numbers of saved rows, with their masses, and their labels."""
    labels = labels_of(deck, [words[0] for words in rows])
    atoms = Atoms(symbols_of(deck, labels), pbc=True)
    set_masses(deck, atoms, labels)
    return atoms, labels


def _ensemble(deck: Deck) -> tuple[str | None, list[str]]:
    """The ensemble of ``MD.TypeOfRun``, None if there is none, and what is left out."""
    kind = next(iter(words_of(deck.value("MD.TypeOfRun") or "")), "")
    if kind.lower() == "anneal":
        option = (deck.value("MD.AnnealOption") or "TemperatureAndPressure").split()[0].lower()
        scaling = f"MD.TypeOfRun {kind}: scaling of velocities and cell samples no ensemble"
        if option == "temperature":
            return "csvr", [f"{scaling}; csvr does"]
        if option == "temperatureandpressure":
            return "npt_full", [f"{scaling}; npt_full does"]
        return None, [f"MD.AnnealOption {option}: otf has no constant pressure without temperature"]
    if kind.lower() == "parrinellorahman":
        return None, [f"MD.TypeOfRun {kind}: otf has no constant pressure without temperature"]
    if kind.lower() in _ENSEMBLES:
        return _ENSEMBLES[kind.lower()], []
    return None, [f"MD.TypeOfRun {kind}: is not molecular dynamics"] if kind else []


def _dynamics(deck: Deck) -> tuple[dict[str, Given], list[str]]:
    """Keys of the ``dynamics`` section, and what is left out."""
    ensemble, left = _ensemble(deck)
    if ensemble is None:
        return {}, left
    out = {"ensemble": Given(ensemble, f"MD.TypeOfRun {deck.value('MD.TypeOfRun')}")}
    first, last = whole(deck, "MD.InitialTimeStep"), whole(deck, "MD.FinalTimeStep")
    if last is not None:
        out["steps"] = Given(last - (first or 1) + 1, f"MD.FinalTimeStep {last}")
    step_fs = quantity(deck, "MD.LengthTimeStep", TIME_FS, "fs")
    out["timestep_fs"] = Given(
        1.0 if step_fs is None else step_fs,
        "SIESTA's default" if step_fs is None else f"MD.LengthTimeStep {step_fs:g} fs",
    )
    names = ("MD.InitialTemperature", "MD.TargetTemperature")
    initial_K, target_K = (quantity(deck, name, TEMPERATURE_K, "k") for name in names)
    temperature_K, name = (initial_K, names[0]) if ensemble == "nve" else (target_K, names[1])
    if temperature_K is not None:
        out["temperature_K"] = Given(temperature_K, f"{name} {temperature_K:g} K")
    if initial_K is not None and initial_K != temperature_K:
        left.append(
            f"{names[0]} {initial_K:g} K: initial velocities are drawn at dynamics.temperature_K"
        )
    relaxation_fs = quantity(deck, "MD.TauRelax", TIME_FS, "fs")
    if relaxation_fs is not None and ensemble != "nve":
        out["time_constant_fs"] = Given(relaxation_fs, f"MD.TauRelax {relaxation_fs:g} fs")
    if deck.value("MD.NoseMass") is not None:
        left.append("MD.NoseMass: give the relaxation time, dynamics.time_constant_fs")
    pressure_GPa = quantity(deck, "MD.TargetPressure", PRESSURE_GPA, "ry/bohr**3")
    if pressure_GPa is not None and ensemble == "npt_full":
        out["pressure_GPa"] = Given(pressure_GPa, f"MD.TargetPressure {pressure_GPa:g} GPa")
    return out, left
