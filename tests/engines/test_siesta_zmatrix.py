"""Z-matrices of SIESTA inputs, against the Cartesian coordinates that SIESTA 4.1 prints."""

import numpy as np
import pytest

from otf.errors import EngineError
from otf_siesta import fdf
from otf_siesta.geometry import read_structure, species_of_sites

BOHR = 0.529177  # Angstrom, in SIESTA 4.1

SPECIES = """
%block ChemicalSpeciesLabel
 1 6 C
 2 8 O
 3 1 H
%endblock ChemicalSpeciesLabel
"""
METHANOL = (
    SPECIES
    + """
NumberOfAtoms 6
ZM.UnitsLength Ang
ZM.UnitsAngle deg
%block Zmatrix
molecule
 1 0 0 0  x1 2.0 3.0  0 0 0
 2 1 0 0  CO 70.0 25.0  1 1 1
 3 2 1 0  OH COH 40.0  1 1 0
 3 1 2 3  CH OCH 180.0  1 1 1
 3 1 2 4  CH OCH twist  1 1 0
 3 1 2 4  CH OCH minus  1 1 0
constants
 x1 1.5
variables
 CO 1.42
 OH 0.96
 COH 108.5
 OCH 1.1D2
 twist 119.0
constraints
 CH OH 1.0 0.13
 minus twist -1.0 0.0
%endblock Zmatrix
"""
)
METHANOL_BOHR = [
    (2.83459, 3.77945, 5.66918),
    (5.11992, 4.84512, 6.58696),
    (5.66899, 3.88099, 8.02226),
    (2.16841, 4.84160, 4.03491),
    (3.15207, 1.83106, 5.08118),
    (1.38133, 3.86714, 7.12627),
]
MIXED = (
    SPECIES
    + """
NumberOfAtoms 8
LatticeConstant 6.0 Ang
%block LatticeVectors
 1.0 0.0 0.0
 0.2 1.1 0.0
 0.1 0.3 1.2
%endblock LatticeVectors
%block AtomicCoordinatesOrigin
 0.5 0.25 -0.5
%endblock AtomicCoordinatesOrigin
%block Zmatrix
molecule fractional
 2 0 0 0 0.25 0.5 0.125 0 0 0
 3 1 0 0 OH 0.0 0.7 0 0 0
 3 1 2 0 OH 1.83 2.1 0 0 0
cartesian
 2 4.0 5.0 6.0 0 0 0
 3 4.0 6.4 7.2 1 1 1
scaled
 3 0.6 0.9 high
molecule
 2 0 0 0 10.0 9.5 8.0
 3 1 0 0 OH 1.2 -0.4
variables
 OH 1.81
 high 0.95
%endblock Zmatrix
"""
)
MIXED_BOHR = [
    (4.11016, 6.66129, 1.70075),
    (4.11016, 6.66129, 3.51075),
    (3.81279, 8.38537, 1.23683),
    (4.50000, 5.25000, 5.50000),
    (4.50000, 6.65000, 6.70000),
    (6.80302, 10.20453, 10.77144),
    (10.50000, 9.75000, 7.50000),
    (12.05382, 9.09305, 8.15587),
]


def deck_of(text, folder):
    path = folder / "job.fdf"
    path.write_text(text)
    return fdf.read(path)


@pytest.mark.parametrize(
    ("text", "labels", "printed_bohr"),
    [(METHANOL, "COHHHH", METHANOL_BOHR), (MIXED, "OHHOHHOH", MIXED_BOHR)],
    ids=["names", "mixed"],
)
def test_coordinates_are_those_that_siesta_prints(tmp_path, text, labels, printed_bohr):
    deck = deck_of(text, tmp_path)
    assert species_of_sites(deck) == list(labels)
    atoms = read_structure(deck)
    np.testing.assert_allclose(atoms.positions / BOHR, printed_bohr, atol=1.1e-5)
    assert "".join(atoms.symbols) == labels


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (METHANOL.replace("NumberOfAtoms 6", "NumberOfAtoms 7"), "7, but Zmatrix has 6 atoms"),
        (METHANOL.replace(" OCH 1.1D2\n", ""), "'OCH' has no value"),
        (METHANOL.replace("3 1 2 3  CH", "3 1 2 2  CH"), "atom 4 of a molecule needs different"),
        (METHANOL.replace("3 1 2 3  CH", "3 1 2 5  CH"), "atom 4 of a molecule needs different"),
        (METHANOL.replace(" OH 0.96\n", " OH short\n"), "'OH short' cannot be read"),
        (METHANOL.replace("COH 108.5", "COH 108.5\n lone"), "lone' cannot be read"),
        (METHANOL.replace("UnitsAngle deg", "UnitsAngle grad"), "grad is not one of rad"),
        (MIXED.replace("LatticeConstant 6.0 Ang", ""), "need a LatticeConstant; add it"),
        (
            MIXED + "%block SuperCell\n2 0 0\n0 1 0\n0 0 1\n%endblock SuperCell\n",
            "SIESTA refuses SuperCell with Zmatrix",
        ),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, text, message):
    with pytest.raises(EngineError, match=message):
        read_structure(deck_of(text, tmp_path))
