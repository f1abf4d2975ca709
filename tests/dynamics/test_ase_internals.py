"""Private attributes of ASE that the integrators use; a new ASE without one fails here by name."""

import re
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.md import nose_hoover_chain as nhc
from ase.md.langevinbaoab import LangevinBAOAB

from otf.dynamics import integrators

NPT = {"_q", "_p", "_p_eps", "_eps", "_cell0", "_volume0", "_kT", "_pressure_au"}
FULL_NPT = {"_q", "_p", "_p_g", "_h", "_kT", "_pressure_au"}
SET = {"_num_atoms_global", "_thermostat", "_barostat"}
CHAIN = {"_eta", "_p_eta", "_kT"}
CELL_CHAIN = {"_xi", "_p_xi", "_kT"}
FULL_CELL_CHAIN = CELL_CHAIN | {"_cell_dof"}


def objects():
    atoms = bulk("Al", cubic=True)
    masses = atoms.get_masses()[:, None]
    npt = (atoms, 1.0, 300.0, 0.0, 100.0, 1000.0)
    return {
        "IsotropicMTKNPT": (nhc.IsotropicMTKNPT(*npt), NPT | SET),
        "MTKNPT": (nhc.MTKNPT(*npt), FULL_NPT | SET),
        "NoseHooverChainThermostat": (
            nhc.NoseHooverChainThermostat(4, masses, 300.0, 100.0), CHAIN
        ),
        "IsotropicMTKBarostat": (nhc.IsotropicMTKBarostat(4, 300.0, 1000.0), CELL_CHAIN),
        "MTKBarostat": (nhc.MTKBarostat(4, 300.0, 1000.0), FULL_CELL_CHAIN),
    }  # fmt: skip


@pytest.mark.parametrize("name", objects())
def test_private_attributes_are_there(name):
    found, needed = objects()[name]
    assert {attribute for attribute in needed if not hasattr(found, attribute)} == set()


def test_the_list_is_complete():
    text = Path(integrators.__file__).read_text(encoding="utf-8")
    used = set(re.findall(r"\b(?:md|bath|atoms|cell|_md)\.(_\w+)", text))
    assert used == NPT | FULL_NPT | SET | CHAIN | FULL_CELL_CHAIN


def test_langevin_takes_its_acceleration_from_outside():
    atoms, rng = bulk("Al", cubic=True), np.random.default_rng(0)
    atoms.calc = EMT()
    md = LangevinBAOAB(atoms, 1.0, temperature_K=300.0, T_tau=100.0, rng=rng)
    assert hasattr(md, "accel")
    assert hasattr(md, "set_temperature")
