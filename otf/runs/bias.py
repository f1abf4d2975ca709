"""The bias of a run, from its configuration."""

import math

from ase import Atoms

from otf.config import bias as sections
from otf.config.dynamics import Dynamics
from otf.dynamics.bias import Bias, Metadynamics, Potential, Restraint, Walls
from otf.dynamics.collective_variables import CollectiveVariable
from otf.units import KELVIN, MEV

_FAST = 3.0  # kT a picosecond; at 12 the free energies of butane were off by 4 kT


def make_bias(dynamics: Dynamics) -> Bias:
    """Create the bias, without its hills."""
    return Bias(potentials_of(dynamics))


def potentials_of(dynamics: Dynamics) -> list[Potential]:
    """The terms of the bias."""
    return [_potential(term, dynamics) for term in dynamics.bias]


def notes_on_bias(dynamics: Dynamics, atoms: Atoms) -> list[str]:
    """What may not be meant in the metadynamics of a run, a sentence each."""
    notes = []
    thermal_meV = KELVIN * dynamics.temperature_K / MEV
    for term in dynamics.bias:
        if not isinstance(term, sections.Metadynamics) or dynamics.ensemble == "nve":
            continue
        rate = 1000.0 * term.height_meV / term.every_fs
        if rate > _FAST * thermal_meV:
            notes.append(
                f"dynamics.bias: hills add up to {rate:.0f} meV/ps to the variable, faster than "
                "other motion takes it away: free energies will be distorted; raise every_fs "
                f"above {1000.0 * term.height_meV / (_FAST * thermal_meV):.0f}"
            )
        global_thermostat = dynamics.ensemble in ("csvr", "nhc")
        if global_thermostat and not atoms.pbc.any() and not dynamics.remove_rotation:
            notes.append(
                "dynamics.bias: the work of the hills goes to vibrations and is taken from all "
                f"motion by {dynamics.ensemble}, so that the rotation of the molecule cools down; "
                "use langevin, or remove_rotation: true"
            )
    return notes


def _potential(term: sections.Term, dynamics: Dynamics) -> Potential:
    if isinstance(term, sections.Metadynamics):
        return _metadynamics(term, dynamics)
    variables = (_variable(term),)
    constant = term.constant
    assert constant is not None  # validated
    if isinstance(term, sections.Restraint):
        centre = term.in_radians("at")
        assert centre is not None
        return Restraint(variables, centre, constant)
    low, high = term.in_radians("above"), term.in_radians("below")
    return Walls(
        variables,
        -math.inf if low is None else low,
        math.inf if high is None else high,
        constant,
    )


def _metadynamics(term: sections.Metadynamics, dynamics: Dynamics) -> Metadynamics:
    widths = [along.in_radians("width") for along in term.along]
    factor = term.bias_factor
    return Metadynamics(
        tuple(_variable(along) for along in term.along),
        tuple(width for width in widths if width is not None),
        height=term.height_meV * MEV,
        every=max(1, round(term.every_fs / dynamics.timestep_fs)),
        tempering_K=math.inf if factor is None else (factor - 1.0) * dynamics.temperature_K,
    )


def _variable(section: sections.CollectiveVariable) -> CollectiveVariable:
    return CollectiveVariable(section.variable, section.atoms)
