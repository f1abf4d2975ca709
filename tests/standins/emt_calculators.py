"""ASE's EMT with properties of other calculators."""

import os
import time
from pathlib import Path

from ase import Atoms
from ase.calculators.emt import EMT


class Forgetful(EMT):
    """EMT that rebuilds its neighbour list at each call.

    EMT keeps a list with a skin and sums in its order: last digits depend on earlier calls.
    """

    def calculate(self, atoms: Atoms, *args: object, **kwargs: object) -> None:
        self.initialize(atoms)
        super().calculate(atoms, *args, **kwargs)


class Slow(Forgetful):
    """EMT that waits; if ``stuck``, far too long until its job has been requeued."""

    def __init__(self, seconds: float, *, stuck: bool = False) -> None:
        super().__init__()
        self.seconds = seconds
        self.stuck = stuck and "SLURM_RESTART_COUNT" not in os.environ

    def calculate(self, *args: object, **kwargs: object) -> None:
        time.sleep(600.0 if self.stuck else self.seconds)
        super().calculate(*args, **kwargs)


class Noted(Forgetful):
    """EMT that waits and appends its start and end times to a file.

    Parameters
    ----------
    file
        Where it appends.
    seconds
        How long it waits.
    together
        Number of labels that wait for each other, half a minute at most, before the first end.
    """

    def __init__(self, file: str, seconds: float, together: int = 1) -> None:
        super().__init__()
        self.file = file
        self.seconds = seconds
        self.together = together

    def calculate(self, *args: object, **kwargs: object) -> None:
        began = time.monotonic()
        started = Path(f"{self.file}.started")
        with started.open("a") as stream:
            stream.write(".")
        while len(started.read_text()) < self.together and time.monotonic() < began + 30.0:
            time.sleep(0.01)
        time.sleep(self.seconds)
        super().calculate(*args, **kwargs)
        with Path(self.file).open("a") as stream:
            stream.write(f"{began} {time.monotonic()}\n")


class Stressless(EMT):
    """EMT without stress."""

    implemented_properties = ["energy", "forces"]  # noqa: RUF012

    def calculate(self, *args: object, **kwargs: object) -> None:
        super().calculate(*args, **kwargs)
        self.results.pop("stress", None)
