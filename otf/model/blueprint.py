"""Construction of energy models of a system in any of several sizes.

A model may change during a run: ranges and resolution of the descriptor, more principal components
in the quadratic part, blocks for the environments of atoms, four-body features. The model of a size
depends only on the samples and on the environments in the labels, in their order: a resumed run
with the same labels builds the same model.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Literal

import numpy as np
from ase import Atoms

from otf.arrays import Ints
from otf.model.bond_graph import BondGraph, longest_bond_A
from otf.model.descriptor import Descriptor, DescriptorSettings, displaced, standardise
from otf.model.sharing import Groups, Sharing, splitting
from otf.model.tensor_energy import Coupling, Ranks, TensorEnergy
from otf.model.workers import Workers

SharingKind = Literal["species", "environment", "atom"]

_ROOM_OF_DUAL = 4  # times the columns, where there are fewer rows,
_MOST_NUMBERS = 24_000_000  # and at most so many numbers in them: 0.2 GB
_STEADY = 0.9  # share of atoms of a steady class from which on environments are tried
MOST_CLASSES = 32
"""Most environments with a block of their own; a liquid has arbitrarily many."""

RESOLUTION = ("channels", "cutoff_three", "decay", "cutoff_two", "radial_three")
"""What a resolution consists of, in the order in which it is searched."""


@dataclass(frozen=True)
class Resolution:
    """Ranges (Angstrom) and radial resolution of the descriptor; see :class:`DescriptorSettings`.

    None stands for the value of the settings.
    """

    cutoff_two: float | None = None
    cutoff_three: float | None = None
    radial_three: int | None = None
    decay: float | None = None
    channels: int | None = None

    def applied(self, settings: DescriptorSettings) -> DescriptorSettings:
        """The settings with these values."""
        given = {name: value for name, value in asdict(self).items() if value is not None}
        return replace(settings, **given)

    def __str__(self) -> str:
        given = {name: value for name, value in asdict(self).items() if value is not None}
        return ", ".join(f"{name} {value:g}" for name, value in given.items())


@dataclass(frozen=True)
class Size:
    """Size of a model, with the resolution of its descriptor.

    Attributes
    ----------
    sharing
        Blocks of coefficients: for species; also for environments; also for single atoms.
    components
        Number of principal components in the quadratic part.
    four_body
        Whether four-body features are used.
    """

    sharing: SharingKind = "species"
    components: int = 10
    four_body: bool = False
    resolution: Resolution = Resolution()

    def __str__(self) -> str:
        body = "four-body" if self.four_body else "three-body"
        size = f"{body}, {self.components} components, shared by {self.sharing}"
        resolution = str(self.resolution)
        return f"{size}, {resolution}" if resolution else size


@dataclass(frozen=True)
class Choices:
    """Possible sizes of a model, which starts with the first of each.

    Attributes
    ----------
    cutoff_two, cutoff_three, radial_three, decay, channels
        Values to choose from; empty for that of the descriptor's settings.
    most_columns
        Maximum number of unknowns of the equations: coefficients, or rows if they are fewer.
    """

    sharing: tuple[SharingKind, ...] = ("species", "environment")
    components: tuple[int, ...] = (10, 20, 30, 60)
    four_body: tuple[bool, ...] = (False, True)
    most_columns: int = 5000
    cutoff_two: tuple[float, ...] = ()
    cutoff_three: tuple[float, ...] = ()
    radial_three: tuple[int, ...] = ()
    decay: tuple[float, ...] = ()
    channels: tuple[int, ...] = ()

    def smallest(self) -> Size:
        """Initial size."""
        first = {name: getattr(self, name)[0] for name in RESOLUTION if getattr(self, name)}
        return Size(self.sharing[0], self.components[0], self.four_body[0], Resolution(**first))


def steadiness(graph: BondGraph, atoms: Atoms) -> float:
    """Share of the atoms whose class survives random displacements; in metals many do not."""
    start = np.array(graph.classes(atoms))
    moved = displaced(atoms, seed=0)[:8]
    return float(np.mean([np.array(graph.classes(other)) == start for other in moved]))


class Blueprint:
    """Builds energy models of one system.

    Parameters
    ----------
    settings
        The descriptor, four-body features included.
    samples
        Structures that contain all species and show the variation of the features.
    choices
        Possible sizes.
    coupling
        See :data:`otf.model.tensor_energy.Coupling`.
    depth
        1 for classes by the bonded elements, 0 for the elements alone.
    workers
        Threads for the forces; all cores by default.
    """

    def __init__(
        self,
        settings: DescriptorSettings,
        samples: Sequence[Atoms],
        choices: Choices | None = None,
        *,
        coupling: Coupling = "joint",
        depth: Literal[0, 1] = 1,
        workers: Workers | None = None,
        ranks: Ranks | None = None,
    ) -> None:
        self.settings = settings
        numbers = sorted({int(z) for atoms in samples for z in atoms.numbers})
        self._species = tuple(numbers)
        self._counted: dict[DescriptorSettings, int] = {}
        choices = choices or Choices()
        most = self._features(choices.smallest().resolution, four_body=False)
        components = tuple(dict.fromkeys(min(c, most) for c in choices.components))
        self.choices = replace(choices, components=components)
        self.most_columns = choices.most_columns
        self.coupling = coupling
        self.workers = workers or Workers()
        self.ranks = ranks
        self._samples = list(samples)
        self._further: list[Atoms] = []
        self._watches = any(s != "species" for s in self.choices.sharing)
        self._classes: list[str] = []
        self._start: tuple[str, ...] = ()
        if self._watches:
            cutoffs = (*self.choices.cutoff_two, settings.cutoff_two)
            self._graph = BondGraph(longest_bond_A(min(cutoffs)) if depth else 0.0)
            seen = Counter(name for atoms in samples for name in self._graph.classes(atoms))
            common = sorted(seen, key=lambda name: (-seen[name], name))
            self._classes = common[:MOST_CLASSES]
            self._start = self._graph.classes(samples[0])
            self._steady = steadiness(self._graph, samples[0]) > _STEADY

    @property
    def _numbers(self) -> Ints:
        return np.array(self._species, dtype=np.int64)

    def make_room(self, rows: int) -> None:
        """Allow as many coefficients as equations of so many rows have room for.

        With few rows the dual form is solved, whose cost hardly depends on the coefficients.
        """
        most = self.choices.most_columns
        in_dual = min(_ROOM_OF_DUAL * most, _MOST_NUMBERS // rows) if 0 < rows <= most else 0
        self.most_columns = max(most, in_dual)

    def see(self, atoms: Atoms) -> bool:
        """Register a labelled structure; return whether it has new environments."""
        if not self._watches or len(self._classes) >= MOST_CLASSES:
            return False
        new = sorted(set(self._graph.classes(atoms)) - set(self._classes))
        if new:
            self._classes = (self._classes + new)[:MOST_CLASSES]
            self._further += [atoms, *displaced(atoms, seed=len(self._further))]
        return bool(new)

    def build(self, size: Size) -> TensorEnergy:
        """Build the model of a size for the environments registered so far."""
        settings = self._settings(size.resolution, four_body=size.four_body)
        descriptor = Descriptor(self._numbers, settings)
        sharing = Sharing(self.groups(size))
        standard = standardise(
            descriptor,
            sharing,
            self._samples,
            components=size.components,
            further=self._further,
        )
        return TensorEnergy(
            descriptor,
            sharing,
            standard,
            coupling=self.coupling,
            workers=self.workers,
            ranks=self.ranks,
        )

    def resolved_otherwise(self, size: Size, name: str) -> list[Size]:
        """Sizes within the limits that differ in one quantity of :data:`RESOLUTION`."""
        others = [
            replace(size, resolution=replace(size.resolution, **{name: value}))
            for value in getattr(self.choices, name)
            if value != getattr(size.resolution, name)
        ]
        return [s for s in others if self.n_columns(s) <= self.most_columns]

    def fits(self, size: Size) -> bool:
        """Whether there is room for a model of this size with all its environments."""
        complete = size.sharing == "species" or self.groups(size).classes == splitting(
            set(self._classes)
        )
        return complete and self.n_columns(size) <= self.most_columns

    def smallest(self, resolution: Resolution) -> Size:
        """The smallest size of a resolution."""
        return replace(self.choices.smallest(), resolution=resolution)

    def larger(self, size: Size) -> list[Size]:
        """The next larger sizes within the limits.

        Environments and four-body features come with fewer components where there is no room for
        as many, and environments without four-body features where there is no room for both.
        """
        choices = self.choices
        at = choices.components.index(size.components)
        # Two steps: the gain of a single one may be below the margin.
        out = [replace(size, components=c) for c in choices.components[at + 1 :][:2]]
        fewer = choices.components[at::-1]
        if size.sharing == "species" and "environment" in choices.sharing and self._steady:
            shared = [replace(size, sharing="environment", components=c) for c in fewer]
            simpler = [
                replace(size, sharing="environment", four_body=False, components=c)
                for c in reversed(choices.components)
            ]
            roomy = [s for s in (*shared, *simpler) if self.fits(s)]
            out += [s for s in (*roomy, *shared) if self.groups(s).classes][:1]
        if not size.four_body and True in choices.four_body:
            larger = [replace(size, four_body=True, components=c) for c in fewer]
            out += [s for s in larger if self.n_columns(s) <= self.most_columns][:1]
        return [s for s in out if self.n_columns(s) <= self.most_columns]

    def n_columns(self, size: Size) -> int:
        """Number of coefficients of a model of this size."""
        groups = self.groups(size)
        blocks = len(groups.species) + len(groups.classes) + len(groups.atoms)
        return blocks * self._width(size)

    def groups(self, size: Size) -> Groups:
        """Groups with blocks of their own in a model of this size, as registered so far.

        Classes are omitted, latest first, if the model would exceed ``most_columns``.
        """
        atoms = self._start if size.sharing == "atom" else ()
        classes: tuple[str, ...] = ()
        if size.sharing != "species":
            room = self.most_columns // self._width(size) - len(self._species) - len(atoms)
            for count in range(len(self._classes), 0, -1):
                classes = splitting(set(self._classes[:count]))
                if len(classes) <= room:
                    break
            else:
                classes = ()
        if not self._watches:
            return Groups(self._species)
        return Groups(self._species, classes, atoms, self._graph.longest_A)

    def _width(self, size: Size) -> int:
        """Number of columns of a block."""
        features = self._features(size.resolution, four_body=size.four_body)
        return 1 + features + size.components * (size.components + 1) // 2

    def _settings(self, resolution: Resolution, *, four_body: bool) -> DescriptorSettings:
        settings = resolution.applied(self.settings)
        return settings if four_body else replace(settings, degree_four=-1)

    def _features(self, resolution: Resolution, *, four_body: bool) -> int:
        """Number of features of a descriptor."""
        settings = replace(self._settings(resolution, four_body=four_body), decay=0.0)
        if settings not in self._counted:
            self._counted[settings] = Descriptor(self._numbers, settings).n_features
        return self._counted[settings]
