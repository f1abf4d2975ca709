"""A run's state to and from its checkpoint."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from otf.arrays import Floats
from otf.driver.policy import PolicyState
from otf.driver.records import LabelRecord, Opinions, RunState
from otf.dynamics.ensembles import DynamicsState
from otf.dynamics.hybrid_monte_carlo import SamplerState
from otf.dynamics.ledger import Ledger
from otf.errors import FileError
from otf.io.state_file import read_state, write_state
from otf.learning.regularisation import Regularisation
from otf.learning.trainer import TrainerState
from otf.learning.uncertainty import ErrorScale
from otf.model.blueprint import Size


def save_state(path: Path, state: RunState, *, n_frames: int, settings: Mapping[str, Any]) -> None:
    """Write the checkpoint that belongs to ``n_frames`` committed frames.

    Parameters
    ----------
    settings
        Those the run was made with, see :mod:`otf.driver.continuity`.
    """
    choice = state.trainer.choice
    scalars: dict[str, Any] = {
        "step": state.step,
        "n_frames": n_frames,
        "settings": dict(settings),
        "failures": state.failures,
        "ledger": asdict(state.ledger),
        "opinions": asdict(state.opinions),
        "sampler": None if state.sampler is None else asdict(state.sampler),
        "random": dict(state.dynamics.random),
        "stage": state.dynamics.stage,
        "policy": asdict(state.policy),
        "n_labels": state.trainer.n_labels,
        "reference_energy": state.trainer.reference_energy,
        "size": asdict(state.trainer.size),
        "tried_at": state.trainer.tried_at,
        "order": list(state.trainer.order),
        "error_level": state.trainer.scale.level,
        "choice": {
            "rank": choice.rank,
            "position": list(choice.position.items()),
            "searched_at": choice.searched_at,
            "score": choice.score,
        },
        "history": [vars(record) for record in state.history],  # asdict would copy for seconds
    }
    arrays: dict[str, Floats] = {
        "positions": state.dynamics.positions,
        "momenta": state.dynamics.momenta,
        "cell": state.dynamics.cell,
        "baths": state.dynamics.baths,
        "theta": state.trainer.theta,
        "error_total": state.trainer.scale.total,
        "error_weight": state.trainer.scale.weight,
        "error_ratios": state.trainer.scale.ratios,
        "residuals": state.trainer.residuals,
    }
    write_state(path, "checkpoint", scalars, arrays)


def load_state(path: Path) -> tuple[RunState, int, dict[str, Any]]:
    """The state of a checkpoint, the frames committed with it, and the settings it was made with.

    Raises
    ------
    FileError
        If the checkpoint is damaged.
    """
    scalars, arrays = read_state(path, "checkpoint")
    try:
        choice = scalars["choice"]
        trainer = TrainerState(
            n_labels=scalars["n_labels"],
            reference_energy=scalars["reference_energy"],
            choice=Regularisation(
                choice["rank"], dict(choice["position"]), choice["searched_at"], choice["score"]
            ),
            size=Size(**scalars["size"]),
            tried_at=scalars["tried_at"],
            scale=ErrorScale(
                arrays["error_total"],
                arrays["error_weight"],
                arrays["error_ratios"],
                scalars["error_level"],
            ),
            residuals=arrays["residuals"],
            theta=arrays["theta"],
            order=tuple(scalars.get("order", ())),
        )
        state = RunState(
            step=scalars["step"],
            dynamics=DynamicsState(
                positions=arrays["positions"],
                momenta=arrays["momenta"],
                cell=arrays["cell"],
                random=scalars["random"],
                baths=arrays["baths"],
                stage=scalars["stage"],
            ),
            policy=PolicyState(**scalars["policy"]),
            trainer=trainer,
            history=tuple(LabelRecord(**record) for record in scalars["history"]),
            failures=scalars["failures"],
            ledger=Ledger(**scalars["ledger"]),
            sampler=None if scalars["sampler"] is None else SamplerState(**scalars["sampler"]),
            opinions=Opinions(**scalars.get("opinions", {})),
        )
        return state, int(scalars["n_frames"]), dict(scalars["settings"])
    except (KeyError, TypeError, ValueError) as error:
        raise FileError(
            f"{path}: lacks what this version of otf needs ({error}); resume with the version "
            "that wrote it"
        ) from error
