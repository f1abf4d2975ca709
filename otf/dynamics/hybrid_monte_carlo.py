r"""Self-learning hybrid Monte Carlo: proposals by the model, acceptance by the engine's energy.

A proposal (x', p') is generated from (x, p), with p drawn anew, by n steps of velocity Verlet on
the model, which are reversible and preserve phase-space volume for any model. With the acceptance
probability :math:`\min(1, e^{-\Delta / kT})`, :math:`\Delta = E(x') + K(p') - E(x) - K(p)` by the
engine, the samples are exact for the engine if model and lengths do not depend on the history
(Duane et al., Phys. Lett. B 195, 216 (1987); Nagai et al., Phys. Rev. B 102, 041124 (2020)).
"""

import math
from dataclasses import dataclass, replace

import numpy as np

from otf.units import KELVIN

_WANTED = 0.7  # target acceptance rate
_GAIN = 0.5  # initial gain of the adaptation of the length
_SETTLING = 30  # proposals after which the gain is halved
_SHORTEST = 0.5  # shortest segment as a fraction of the longest: a fixed length has resonances


@dataclass(frozen=True)
class SamplerSettings:
    """Parameters of a sampling run.

    Attributes
    ----------
    burn_in
        Number of proposals during which the model is trained and the segment length adapted.
    segment_max
        Maximum length of a segment, steps.
    """

    temperature_K: float
    burn_in: int
    segment_max: int


@dataclass(frozen=True)
class SamplerState:
    """State of the sampler, besides structure and model.

    Attributes
    ----------
    length
        Current maximum length of a segment; a real number, so that small changes accumulate.
    current
        Index of the label of the current sample.
    accepted, tried
        Numbers of proposals since the end of the burn-in.
    """

    length: float
    current: int = 0
    accepted: int = 0
    tried: int = 0


def acceptance(change: float, temperature_K: float) -> float:
    """Metropolis probability of accepting a proposal that changes the energy by ``change`` (eV).

    >>> acceptance(-0.1, 300.0), round(acceptance(0.0179, 300.0), 2)
    (1.0, 0.5)
    """
    return math.exp(min(0.0, -change / (KELVIN * temperature_K)))


def segment_length(state: SamplerState, rng: np.random.Generator) -> int:
    """Draw the number of steps of the next segment."""
    longest = int(state.length)
    return int(rng.integers(max(1, math.ceil(_SHORTEST * longest)), longest + 1))


def adapted(
    state: SamplerState, settings: SamplerSettings, *, accepted: float, proposals: int
) -> SamplerState:
    """Adapt the segment length to an acceptance rate of 70 %.

    Robbins-Monro iteration with a gain that decreases with the number of proposals;
    ``accepted`` is the acceptance probability of the last one.

    >>> settings = SamplerSettings(300.0, burn_in=100, segment_max=50)
    >>> adapted(SamplerState(10.0), settings, accepted=1.0, proposals=1).length > 11.0
    True
    >>> adapted(SamplerState(10.0), settings, accepted=0.0, proposals=90).length > 9.0
    True
    """
    gain = _GAIN / (1.0 + proposals / _SETTLING)
    length = state.length * math.exp(gain * (accepted - _WANTED))
    return replace(state, length=min(float(settings.segment_max), max(1.0, length)))
