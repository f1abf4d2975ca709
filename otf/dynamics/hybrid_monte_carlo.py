r"""Self-learning hybrid Monte Carlo: trajectories on a model, judged by the engine's energy.

A proposal (x', p') comes from (x, p), with p drawn anew, by n steps of velocity Verlet on the
model, which are reversible and keep volumes in phase space whatever the model is. Accepted with
probability :math:`\min(1, e^{-\Delta / kT})`, :math:`\Delta = E(x') + K(p') - E(x) - K(p)` by the
engine, the samples are exact for the engine as long as model and lengths do not depend on the past
(Duane et al., Phys. Lett. B 195, 216 (1987); Nagai et al., Phys. Rev. B 102, 041124 (2020)).
"""

import math
from dataclasses import dataclass, replace

import numpy as np

from otf.units import KELVIN

_WANTED = 0.7  # share of proposals to accept
_GAIN = 0.5  # how fast the length follows at first
_SETTLING = 30  # proposals over which the gain halves
_SHORTEST = 0.5  # share of the length that a segment has at least: one length has resonances


@dataclass(frozen=True)
class SamplerSettings:
    """Constants of a sampling run.

    Attributes
    ----------
    burn_in
        Proposals the model learns from, and the length of segments with it.
    segment_max
        Longest segment, steps.
    """

    temperature_K: float
    burn_in: int
    segment_max: int


@dataclass(frozen=True)
class SamplerState:
    """What the next proposal depends on, besides structure and model.

    Attributes
    ----------
    length
        Longest segment that is drawn now, a real number so that small factors add up.
    current
        Index of the label of the present sample.
    accepted, tried
        Since the end of the burn-in.
    """

    length: float
    current: int = 0
    accepted: int = 0
    tried: int = 0


def acceptance(change: float, temperature_K: float) -> float:
    """Probability to accept a proposal whose total energy is higher by ``change`` (eV).

    >>> acceptance(-0.1, 300.0), round(acceptance(0.0179, 300.0), 2)
    (1.0, 0.5)
    """
    return math.exp(min(0.0, -change / (KELVIN * temperature_K)))


def segment_length(state: SamplerState, rng: np.random.Generator) -> int:
    """Steps of the next segment."""
    longest = int(state.length)
    return int(rng.integers(max(1, math.ceil(_SHORTEST * longest)), longest + 1))


def adapted(
    state: SamplerState, settings: SamplerSettings, *, accepted: float, proposals: int
) -> SamplerState:
    """The length after so many proposals, the last one accepted with a probability.

    Longer segments where more than 70 % are accepted, shorter ones where fewer are, by less and
    less (Robbins and Monro).

    >>> settings = SamplerSettings(300.0, burn_in=100, segment_max=50)
    >>> adapted(SamplerState(10.0), settings, accepted=1.0, proposals=1).length > 11.0
    True
    >>> adapted(SamplerState(10.0), settings, accepted=0.0, proposals=90).length > 9.0
    True
    """
    gain = _GAIN / (1.0 + proposals / _SETTLING)
    length = state.length * math.exp(gain * (accepted - _WANTED))
    return replace(state, length=min(float(settings.segment_max), max(1.0, length)))
