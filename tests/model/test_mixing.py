"""Mixing of species into channels."""

import numpy as np
import pytest
from ase.build import molecule

from otf.model.descriptor import Descriptor, DescriptorSettings, displaced
from otf.model.mixing import mixing

SPECIES = np.array([28, 29, 46, 47, 78, 79])


@pytest.mark.parametrize("channels", range(1, 6))
def test_channels_are_orthogonal_and_of_equal_size(channels):
    u = mixing(SPECIES, channels)
    np.testing.assert_allclose(u @ u.T, 6.0 * np.eye(channels), atol=1e-9)
    np.testing.assert_allclose(u[0], 1.0)


def test_elements_of_equal_radius_differ_by_their_number():
    assert len(np.unique(mixing(SPECIES, 3).round(6), axis=1).T) == 6  # Pt and Au: both 1.36 A


def test_as_many_channels_as_species_are_the_species():
    assert np.array_equal(mixing(SPECIES), np.eye(6))
    assert np.array_equal(mixing(SPECIES, 6), np.eye(6))


def test_mixed_features_are_combinations_of_those_of_the_species():
    atoms = molecule("CH3CH2OH")
    samples = displaced(atoms, seed=0)
    plain, mixed = (
        np.concatenate(
            [
                Descriptor(atoms.numbers, DescriptorSettings(radial_three=1, channels=k)).features(
                    a
                )
                for a in samples
            ]
        )
        for k in (0, 2)
    )
    assert mixed.shape[1] < plain.shape[1]
    left = mixed - plain @ np.linalg.lstsq(plain, mixed, rcond=None)[0]
    assert np.abs(left).max() < 1e-8 * np.abs(mixed).max()
