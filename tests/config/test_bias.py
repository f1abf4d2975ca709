"""The bias section: every mistake is named with its place and remedy."""

import math

import pytest

from otf.config.reader import read_config
from otf.errors import ConfigError
from otf.runs.bias import make_bias, potentials_of

BASE = """\
system: {molecule: CH3CH2OH}
engine: {kind: tblite}
dynamics:
  ensemble: csvr
  steps: 10
  bias:
"""
RESTRAINT = (
    "    - {kind: restraint, torsion: [0, 1, 2, 3], at_degrees: 60, constant_eV_rad2: 2.0}\n"
)
WALLS = "    - {kind: walls, distance: [0, 1], below_A: 1.7, constant_eV_A2: 10}\n"
HILLS = """\
    - kind: metadynamics
      along: [{torsion: [0, 1, 2, 3], width_degrees: 15}, {angle: [0, 1, 2], width_degrees: 5}]
      height_meV: 20
      every_fs: 50
"""


def read(tmp_path, text):
    path = tmp_path / "c.yaml"
    path.write_text(BASE + text)
    return read_config(path)


def test_terms_are_in_angstrom_and_radians(tmp_path):
    dynamics = read(tmp_path, RESTRAINT + WALLS + HILLS).dynamics
    restraint, walls, hills = potentials_of(dynamics)
    assert restraint.centre == pytest.approx(math.pi / 3)
    assert (walls.low, walls.high) == (-math.inf, 1.7)
    assert hills.widths == pytest.approx((math.pi / 12, math.pi / 36))
    assert (hills.height, hills.every) == (pytest.approx(0.02), 100)
    assert hills.tempering_K == pytest.approx(9.0 * 300.0)
    plain = read(tmp_path, HILLS + "      bias_factor: null\n").dynamics
    assert potentials_of(plain)[0].tempering_K == math.inf
    single = read(tmp_path, HILLS.replace("- kind", "  kind")).dynamics  # no list for one
    assert make_bias(single).hills.shape == (0, 3)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (RESTRAINT.replace("at_degrees", "at_A"), "7:7: dynamics.bias.0: at_A does not have the"),
        (RESTRAINT.replace("at_degrees: 60, ", ""), "7:7: dynamics.bias.0: at_degrees is missing"),
        (RESTRAINT.replace(", constant_eV_rad2: 2.0", ""), "constant_eV_rad2 is missing"),
        (RESTRAINT.replace("at_degrees", "at_degree"), "7:48: dynamics.bias.0.at_degree: unknown"),
        (RESTRAINT.replace("torsion", "angle"), "angle needs 3 atoms"),
        (RESTRAINT.replace("torsion: [0, 1, 2, 3], ", ""), "give exactly one of distance,"),
        (RESTRAINT.replace("[0, 1, 2, 3]", "[0, 1, 2, 0]"), "an atom is named twice"),
        (RESTRAINT.replace("[0, 1, 2, 3]", "[0, 1, 2, -3]"), "bias.0.torsion.3: input should be"),
        (WALLS.replace("walls", "wall"), "does not match any of the expected tags"),
        (WALLS.replace("below_A: 1.7, ", ""), "there is no wall"),
        (WALLS.replace("below_A", "above_A: 2, below_A"), "above must be smaller than below"),
        (RESTRAINT.replace("restraint", "walls").replace("at_deg", "below_deg"), "give both above"),
        (
            RESTRAINT.replace("restraint", "walls").replace(
                "at_degrees: 60", "above_degrees: -180, below_degrees: 180"
            ),
            "less than 360 degrees apart",
        ),
        (HILLS.replace("width_degrees: 15", "width_deg: 15"), "did you mean 'width_degrees'?"),
        (HILLS.replace("every_fs", "every"), "7:7: dynamics.bias.0.every_fs: is missing"),
        (HILLS + HILLS, "give metadynamics once"),
        (HILLS + "      bias_factor: 1.0\n", "bias_factor: input should be greater than 1"),
        (HILLS + "  temperature_K: 0\n", "temperature_K must be above 0"),
    ],
)
def test_mistakes_are_named(tmp_path, text, problem):
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text)
    assert problem in "\n".join(caught.value.problems)


def test_it_needs_dynamics(tmp_path):
    (tmp_path / "c.yaml").write_text((BASE + WALLS).replace("csvr", "slhmc"))
    with pytest.raises(ConfigError, match="bias needs dynamics"):
        read_config(tmp_path / "c.yaml")
