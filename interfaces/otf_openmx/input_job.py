"""The molecular dynamics of an OpenMX input file: ensemble, constraints, velocities.

Manual, chapter "Molecular dynamics". Velocities are in m/s, pressures in GPa; temperatures of
``MD.TempControl`` are those of the steps it names, linear in between.
"""

from collections.abc import Sequence

import numpy as np
from ase import Atoms, units

from otf.arrays import Floats
from otf.engines.input_deck import Deck
from otf.engines.job import Given, InputJob, fix_components
from otf.errors import EngineError
from otf_openmx.deck import OpenmxDeck
from otf_openmx.geometry import atom_rows, read_structure

_ENSEMBLES = {
    "nve": "nve",
    "nvt_vs": "csvr",
    "nvt_vs2": "csvr",
    "nvt_vs4": "csvr",
    "nvt_nh": "nhc",
    "nvt_langevin": "langevin",
    "npt_vs_pr": "npt_full",
    "npt_vs_wv": "npt_full",
    "npt_nh_pr": "npt_full",
    "npt_nh_wv": "npt_full",
}
_SCALED = ("nvt_vs", "nvt_vs2", "nvt_vs4", "npt_vs_pr", "npt_vs_wv")
_PER_PS = 1.0 / 2.4188843e-5  # an inverse atomic unit of time
_M_PER_S = units.m / units.second


def read_job(deck: OpenmxDeck) -> InputJob:
    """The job of an input file.

    Raises
    ------
    EngineError
        If the structure or a block cannot be read.
    """
    atoms = read_structure(deck)
    of_atoms = [*_constrain(deck, atoms), *_set_velocities(deck, atoms)]
    dynamics, left = _dynamics(deck)
    if atoms.has("momenta"):
        dynamics["velocities"] = Given("structure", "MD.Init.Velocity")
    return InputJob(atoms, tuple(of_atoms), dynamics, (*left, *deck.repeated))


def _constrain(deck: Deck, atoms: Atoms) -> list[str]:
    """Set the constraints of ``MD.Fixed.XYZ``, and return them in words."""
    rows = _rows(deck, "MD.Fixed.XYZ", 4, atoms)
    return [] if rows is None else fix_components(atoms, rows != 0, "MD.Fixed.XYZ")


def _set_velocities(deck: Deck, atoms: Atoms) -> list[str]:
    """Set the velocities of ``MD.Init.Velocity``; fixed components do not move."""
    velocities = _rows(deck, "MD.Init.Velocity", 4, atoms)
    if velocities is None:
        return []
    fixed = _rows(deck, "MD.Fixed.XYZ", 4, atoms)
    if fixed is not None:
        velocities[fixed != 0] = 0.0
    momenta = velocities * _M_PER_S * atoms.get_masses()[:, None]
    atoms.set_momenta(momenta, apply_constraint=False)
    return ["initial velocities (MD.Init.Velocity)"]


def _rows(deck: Deck, name: str, width: int, atoms: Atoms) -> Floats | None:
    """Columns after the first of a block with a row for each site; None without the block."""
    block = deck.block(name)
    if block is None:
        return None
    try:
        chosen = [block[i] for i in atom_rows(deck)]
        rows = np.array([[float(x) for x in line.split()[:width]] for line in chosen])
        if rows.shape != (len(atoms), width):
            raise ValueError(f"{len(rows)} complete rows for {len(atoms)} atoms")
    except (ValueError, IndexError) as error:
        raise EngineError(f"{deck.source}: {name} cannot be read ({error})") from error
    return np.asarray(rows[:, 1:])


def _dynamics(deck: Deck) -> tuple[dict[str, Given], list[str]]:
    """Keys of the ``dynamics`` section, and what is left out."""
    kind = (deck.value("MD.Type") or "nomd").split()[0]
    if kind.lower() not in _ENSEMBLES:
        none = kind.lower() == "nomd"
        return {}, [] if none else [f"MD.Type {kind}: is not molecular dynamics"]
    ensemble = _ENSEMBLES[kind.lower()]
    out, left = {"ensemble": Given(ensemble, f"MD.Type {kind}")}, list[str]()
    if kind.lower() in _SCALED:
        left.append(
            f"MD.Type {kind}: scaling of velocities samples no canonical ensemble; {ensemble} does"
        )
    _take(deck, "MD.maxIter", int, "steps", out)
    _take(deck, "MD.TimeStep", float, "timestep_fs", out)
    if ensemble == "langevin":
        friction = _number(deck, "Langevin.Friction.Factor", float)
        if friction is not None:
            line = f"Langevin.Friction.Factor {friction:g}"
            out["friction_per_ps"] = Given(round(friction * _PER_PS, 6), line)
    if "nh" in kind.lower() and deck.value("NH.Mass.HeatBath") is not None:
        left.append("NH.Mass.HeatBath: give the relaxation time, dynamics.time_constant_fs")
    column = 2 if kind.lower() in _SCALED else 1
    if ensemble != "nve":
        left += _ramp(deck, "MD.TempControl", column, ("temperature_K", "temperature_end_K"), out)
    if ensemble == "npt_full":
        keys = ("pressure_GPa", "pressure_end_GPa")
        left += _ramp(deck, "MD.CellPressureControl", 1, keys, out)
    return out, left


def _number(deck: Deck, name: str, kind: type[int] | type[float]) -> int | float | None:
    words = (deck.value(name) or "").split()
    if not words:
        return None
    try:
        return kind(words[0])
    except ValueError as error:
        raise EngineError(f"{deck.source}: {name} {words[0]} is not a number") from error


def _take(
    deck: Deck, name: str, kind: type[int] | type[float], key: str, out: dict[str, Given]
) -> None:
    value = _number(deck, name, kind)
    if value is not None:
        out[key] = Given(value, f"{name} {value:g}")


def _ramp(
    deck: Deck, name: str, column: int, keys: Sequence[str], out: dict[str, Given]
) -> list[str]:
    """Take the first and the last value of a table of steps; return what is left out."""
    block = deck.block(name)
    if block is None:
        return []
    try:
        count = int(block[0].split()[0])
        values = [float(line.split()[column]) for line in block[1 : 1 + count]]
        if not values:
            raise ValueError("it has no rows")
    except (ValueError, IndexError) as error:
        raise EngineError(f"{deck.source}: {name} cannot be read ({error})") from error
    out[keys[0]] = Given(values[0], name)
    if len(set(values)) == 1:
        return []
    if len(values) == 2:
        out[keys[1]] = Given(values[1], name)
        return []
    return [f"{name}: only its first value; give the others as dynamics.stages"]
