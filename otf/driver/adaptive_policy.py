"""The policy that adapts the gap between labels to the measured error."""

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from otf.driver.policy import LabelError, PolicyState
from otf.units import MEV

_FASTEST, _SLOWEST = 3.0, 0.3  # factors by which a gap grows and shrinks at most
_FASTEST_HARMLESS = 5.0  # factor by which it grows where the error is a small share of the aim
_SHORTER = 0.8  # factor by which a gap shrinks while the forecast is too large
_LONG, _CAUTIOUS = 200.0, 1.5  # gap above which it grows at most by this factor,
_HARMLESS = 0.1  # unless the error is below this share of the aim;
_LONGEST, _DOUBLED = 1000.0, 2.0  # gaps longer than this are only reached so, step by step
_MISFIT_LABELS = 6  # labels right after another one that show whether a target can be reached
_SOON = 2  # steps after a label within which its error is misfit and noise, not extrapolation
_FAR, _BEGUN = 5.0, 12  # targets, beyond which no error is accepted before so many labels
_MARGIN, _FLOOR_MARGIN = 1.5, 1.25  # accepted error relative to that after labels, to the floor
_LEAST_ROOM, _LEAST_EXCESS = 0.3, 0.1  # of the aim and of the error, above the floor
# Least gap where shorter ones do not help: a share of the number of labels, up to so many steps.
_BRAKE, _LONGEST_BRAKE = 0.2, 20.0
_DECAY = 0.97  # of the accepted error at each label, as the model may have become better
_AIM = 0.75  # error of the trajectory that is aimed at, relative to the target
_GUESSED_RATIO = 0.6  # of committed errors to those at the ends of gaps, before any audit
_LEAST_RATIO, _LARGEST_RATIO = 0.2, 1.5
_AUDITS = 8  # latest audits that the ratio is measured by; later ones are rarer
_SIMILAR = 2.0  # factor between the lengths of segments that halves their weight in the ratio
_SMALL = 0.1  # of the target: smaller errors are audited as if they were this large
_SHORT = 30.0  # steps; the mean length of segments by which they are audited, at least
_UNLIMITED = 20  # first labels, which no budget limits
_FALSE_ALARM, _TRUE_ALARM = 1.25, 0.8  # factors on the threshold of the guard
# Largest error of a component in a true alarm, relative to the configured threshold. That of
# hundreds of components is four times their mean without any fault.
_WORST = 2.0
_UNUSUAL = 1.5  # error relative to the latest ones that makes an alarm a true one
_DOUBTFUL = 2.0  # predicted error of a replay relative to the threshold of the guard
_MOST_PATIENT = 10.0  # of the threshold of the guard, relative to the configured one


@dataclass(frozen=True)
class AdaptivePolicy:
    """Adapts the gap between labels to the measured error.

    gap <- clip(gap * clip((aim^2 - floor^2) / (error^2 - floor^2), 0.3, 3), 1, gap_max), the
    controller of an adaptive integrator: beyond misfit and noise (the floor), the error of a
    segment grows about as the square root of its length. It grows up to fivefold where the error
    is below a tenth of the aim; beyond 1000 steps only there, by doubling. The aim is the error at
    the end of a gap at which the committed trajectory errs by 0.75 targets; audits measure the
    ratio of the two.

    Parameters
    ----------
    target
        Mean absolute force error of the trajectory to stay below, eV/Angstrom.
    gap_max
        Longest gap, steps.
    guard
        The guard fires when the predicted error of an atom exceeds this many aims.
    guard_every
        Steps between checks of the guard.
    audit_fraction
        Share of the committed segments that are labelled at a random step, if their errors are as
        large as the target; and the least share of the steps that are in such segments. While the
        error is as small as aimed at, it falls in inverse proportion to the number of audits.
    unreachable
        What to do about a target that the model cannot reach; see :meth:`_followed`.
    labels_share
        Largest share of the steps that are labelled.
    """

    target: float
    gap_max: int
    guard: float
    guard_every: int
    audit_fraction: float = 0.2
    unreachable: Literal["accept", "engine", "stop"] = "accept"
    labels_share: float = 1.0

    def after_label(self, state: PolicyState, label: LabelError) -> PolicyState:
        """See :class:`Policy`.

        >>> policy = AdaptivePolicy(target=0.02, gap_max=100, guard=3.0, guard_every=10)
        >>> state = PolicyState(10, False)
        >>> policy.after_label(state, LabelError(50, 0.01, elapsed=10, reason="scheduled")).gap
        30.0
        >>> policy.after_label(state, LabelError(50, 0.08, elapsed=10, reason="scheduled")).gap
        3.0
        """
        if math.isnan(label.error):  # nothing was predicted, so nothing was measured
            return state
        if label.reason == "audit":
            return self._audited(state, label)
        state = self._followed(state, label)
        aim = self._aim(state)
        # Only what exceeds misfit and noise grows with the gap, and shrinks with it.
        room = max(aim**2 - state.floor**2, (_LEAST_ROOM * aim) ** 2)
        excess = max(label.error**2 - state.floor**2, (_LEAST_EXCESS * label.error) ** 2, 1e-24)
        harmless = label.error <= _HARMLESS * aim
        fastest = _FASTEST_HARMLESS if harmless else _FASTEST
        factor = min(fastest, max(_SLOWEST, room / excess))
        if label.reason in ("guard", "bond", "explosion"):
            # An early label can show that the gap was too long, never that it was too short.
            gap = state.gap if factor >= 1.0 else min(state.gap, label.elapsed) * factor
        else:
            careful = state.gap >= _LONG and not harmless
            gap = state.gap * (min(factor, _CAUTIOUS) if careful else factor)
            gap = min(gap, max(_LONGEST, _DOUBLED * state.gap) if harmless else _LONGEST)
        if label.forecast is not None:
            while gap > 1.0 and label.forecast(gap) > aim:
                gap *= _SHORTER
        if state.accepted or self._useless(state):  # labels do not take over the run
            gap = max(gap, min(_LONGEST_BRAKE, _BRAKE * label.n_labels))
        allowed_at = 0
        if label.n_labels >= _UNLIMITED:
            allowed_at = math.ceil((label.n_labels + 1) / self.labels_share) - 1
            gap = max(gap, float(allowed_at - label.step))
        patience = state.patience
        if label.reason == "guard":
            usual = _UNUSUAL * float(np.median(state.errors))
            true_alarm = label.worst > _WORST * self.guard * aim or label.error > max(aim, usual)
            patience *= _TRUE_ALARM if true_alarm else _FALSE_ALARM
            patience = min(_MOST_PATIENT, max(1.0, patience))
        return self._with_gap(replace(state, patience=patience, allowed_at=allowed_at), gap)

    def _useless(self, state: PolicyState) -> bool:
        """Whether no gap is short enough: the model errs by the aim right after a label, too."""
        if self.unreachable == "engine" or len(state.misfits) < _MISFIT_LABELS:
            return False
        return float(np.median(state.misfits)) > self._aim(state)

    def _with_gap(self, state: PolicyState, gap: float) -> PolicyState:
        gap = min(float(self.gap_max), max(1.0, gap))
        return replace(state, gap=gap, by_engine=gap < 2.0)

    def _audited(self, state: PolicyState, label: LabelError) -> PolicyState:
        """The state with the error at a random step of the latest segment, as committed."""
        known = replace(
            state,
            audits=state.audits + 1,
            audited=state.audited + label.elapsed,
            lengths=(*state.lengths, label.elapsed)[-_AUDITS:],
            ends=(*state.ends, state.errors[-1])[-_AUDITS:],
            committed=(*state.committed, label.error)[-_AUDITS:],
        )
        factor = (self._aim(known) / self._aim(state)) ** 2
        gap = state.gap * min(_FASTEST, max(_SLOWEST, factor))
        return self._with_gap(known, min(gap, max(_LONGEST, state.gap)))

    def _followed(self, state: PolicyState, label: LabelError) -> PolicyState:
        """The state with an error added, and with the error that is accepted.

        If misfit and noise exceed the target and no larger model was found, neither shorter gaps
        nor more labels help. The same holds for errors right after a label, which are not
        extrapolation; the smallest that the model has shown lately is what it can reach. Noise of
        the labels above the target is accepted as soon as the errors show it.
        """
        misfits, errors = state.misfits, (*state.errors, label.error)[-_MISFIT_LABELS:]
        if label.elapsed <= _SOON and label.step:  # at step 0, the model is of earlier runs
            misfits = (*misfits, label.error)[-_MISFIT_LABELS:]
        accepted, ratio, floor = state.accepted * _DECAY, self._ratio(state), label.floor
        noisy = label.noise > self.target
        # The grid's part of the noise does not show before the atoms have moved over the grid.
        shown = min(label.noise, float(np.median(errors))) if noisy else 0.0
        floor = max(floor, shown)
        lasting = floor if label.saturated else shown  # labels reduce the misfit of a growing model
        if ratio * float(np.median(errors)) <= self.target:
            accepted = 0.0
        elif self.unreachable == "engine":
            pass
        elif lasting > self.target and len(errors) == _MISFIT_LABELS:
            accepted = max(accepted, _FLOOR_MARGIN * lasting)
        elif label.elapsed <= _SOON and len(misfits) == _MISFIT_LABELS:
            reached = ratio * min(float(np.median(misfits)), float(np.median(errors)))
            early = reached > _FAR * self.target and label.n_labels < _BEGUN
            if reached > self.target and not early:
                accepted = max(accepted, _MARGIN * reached)
            else:
                accepted = 0.0
        if accepted <= self.target:
            accepted = 0.0
        mean_length = label.step / max(1, label.n_labels)
        return replace(
            state,
            misfits=misfits,
            errors=errors,
            accepted=accepted,
            floor=floor,
            mean_length=mean_length,
            driven=label.step,
        )

    def _ratio(self, state: PolicyState) -> float:
        """Error of the committed trajectory relative to that at the end of a gap.

        A short segment interpolates between its ends, a long one does not: segments of about the
        present length count most.
        """
        ends, committed = self.target, _GUESSED_RATIO * self.target
        for length, end, error in zip(state.lengths, state.ends, state.committed, strict=True):
            weight = 1.0 / (1.0 + math.log(length / state.gap, _SIMILAR) ** 2)
            ends, committed = ends + weight * end, committed + weight * error
        return min(_LARGEST_RATIO, max(_LEAST_RATIO, committed / ends))

    def _aim(self, state: PolicyState) -> float:
        """Error at the end of a gap that is aimed at, eV/Angstrom."""
        return _AIM * max(self.target, state.accepted) / self._ratio(state)

    def audit_share(self, state: PolicyState, *, length: int) -> float:
        """See :class:`Policy`."""
        size = min(1.0, max(_SMALL, state.errors[-1] / self.target))
        fraction = self.audit_fraction
        if state.audits and float(np.mean(state.committed)) <= _AIM * self.target:
            fraction *= min(1.0, _AUDITS / state.audits)  # more would only narrow the bounds
        share = fraction * size * length / max(_SHORT, state.mean_length)
        if state.audited < fraction * state.driven:
            return 1.0  # otherwise chance may leave out the segments that make up the run
        return min(1.0, share)

    def guard_fires(self, state: PolicyState, predicted_error: float, *, step: int) -> bool:
        """See :class:`Policy`."""
        if step < state.allowed_at:
            return False
        return not predicted_error <= self.guard_level(state)

    def guard_level(self, state: PolicyState) -> float:
        """See :class:`Policy`."""
        return self.guard * state.patience * self._aim(state)

    def trusted_level(self, state: PolicyState, *, step: int) -> float:
        """See :class:`Policy`."""
        if step < state.allowed_at:
            return math.inf
        return _DOUBTFUL * self.guard * state.patience * max(self.target, state.accepted)

    def bond_fires(self, state: PolicyState, predicted_error: float) -> bool:
        """See :class:`Policy`."""
        return not predicted_error <= self._aim(state)


def unreachable(state: PolicyState, noise: float) -> str:
    """That a target cannot be reached, why, and what helps.

    Parameters
    ----------
    noise
        Noise of the labels, eV/Angstrom; 0 if it was not measured.
    """
    if state.floor:
        why = f"misfit of the model and noise of the labels are {state.floor / MEV:.1f} meV/A"
    else:
        misfit = float(np.median(state.misfits)) / MEV
        why = f"the model errs by {misfit:.1f} meV/A right after a label"
    if noise:
        why += f" (noise of the labels: {noise / MEV:.1f} meV/A)"
    return (
        f"this target cannot be reached: {why}; a larger model (model.body_order, "
        "model.radial_three), smoother engine forces (otf doctor CONFIG --try measures noise) or "
        f"a larger policy.force_target_meV_A help; going on at {state.accepted / MEV:.1f} meV/A"
    )
