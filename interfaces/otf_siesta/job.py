"""The input, files and launch command shared by all labels of a run."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from ase import Atoms

from otf.engines.input_deck import Deck
from otf.engines.label_directories import LabelDirectories
from otf.engines.labels import Labels
from otf.engines.launch import Launch
from otf.engines.process import Finished, Patience, run_program
from otf.errors import EngineError
from otf.orbitals.block_matrices import BlockMatrix
from otf_siesta.answers import ERRORS, OUTPUT, version_of
from otf_siesta.changes import NAME, apply_remedies
from otf_siesta.geometry import pseudopotentials, species, write_structure
from otf_siesta.ghosts import Ghosts
from otf_siesta.output import Answer

INPUT = f"{NAME}.fdf"
DENSITY_MATRIX = f"{NAME}.DM"

_BESSEL = -100  # atomic number of Bessel functions without an atom and a pseudopotential
_PSEUDOPOTENTIALS = ("psf", "vps", "psml")
_BASIS_FILES = ("ion", "ion.xml", "ion.nc")  # read with User.Basis


@dataclass(frozen=True, eq=False)
class Question:
    """A label to compute.

    Attributes
    ----------
    atoms
        The structure in its cell, with ghosts.
    index
        Number of the label.
    before
        Directory of the previous label, to start from its density matrix; None to start from
        scratch.
    remedies
        Remedies to apply.
    guess
        Density matrix to start from instead, or None.
    """

    atoms: Atoms
    index: int
    before: Path | None
    remedies: tuple[str, ...] = ()
    guess: BlockMatrix | None = None


@dataclass(frozen=True, eq=False)
class Ended:
    """A label, and the directory that holds its matrices."""

    labels: Labels
    directory: Path


@dataclass(frozen=True, eq=False)
class Job:
    """An input file without a structure, with what is needed to run it.

    Attributes
    ----------
    launch
        Command and environment.
    deck
        The input; every label gets a copy with its structure.
    species
        Species label of each atom and ghost.
    ghosts
        Ghosts among them.
    pseudo_path
        Folder of the pseudopotentials.
    scratch
        Parent of the directories of labels and servers.
    directories
        Directories of labels below it.
    patience
        Time limit, from the labels so far.
    """

    launch: Launch
    deck: Deck
    species: list[str]
    ghosts: Ghosts
    pseudo_path: Path
    scratch: Path
    directories: LabelDirectories
    patience: Patience

    def check_files(self) -> None:
        """Check that every species has a pseudopotential.

        Raises
        ------
        EngineError
            If one has none.
        """
        for label, nucleus in species(self.deck).values():
            self._files_of(label, nucleus)
        for named in self._named_files():
            if not (self.pseudo_path / named).is_file():
                raise EngineError(
                    f"engine.pseudo_path: {self.pseudo_path} has no {named}, which "
                    "ChemicalSpeciesLabel names"
                )

    def prepare(
        self,
        directory: Path,
        atoms: Atoms,
        keywords: Mapping[str, object],
        remedies: Collection[str],
    ) -> None:
        """Write the input file and link the pseudopotentials in a directory."""
        deck = self.deck.copy()
        write_structure(deck, atoms, self.species)
        for name, value in keywords.items():
            deck.put(name, value)
        apply_remedies(deck, remedies)
        (directory / INPUT).write_text(deck.text(), encoding="utf-8")
        for label, nucleus in species(deck).values():
            for path in self._files_of(label, nucleus):
                (directory / path.name).symlink_to(path.resolve())
        for named in self._named_files():
            link = directory / named
            link.parent.mkdir(parents=True, exist_ok=True)
            if not link.exists():
                link.symlink_to((self.pseudo_path / named).resolve())

    def run(self, directory: Path) -> Finished:
        """Run SIESTA to its end in a prepared directory."""
        return run_program(
            self.launch.words,
            directory,
            stdin=INPUT,
            stdout=OUTPUT,
            stderr=ERRORS,
            timeout_s=self.patience.limit_s,
            environment=self.launch.environment,
        )

    def labels(
        self, directory: Path, answer: Answer, done: Finished, *, cycles: int | None, how: str = ""
    ) -> Labels:
        """Labels from an answer, with their provenance."""
        method = self.deck.value("XC.Authors") or "CA"
        mesh = self.deck.value("MeshCutoff") or "default mesh"
        return Labels(
            energy=answer.energy,
            forces=self.ghosts.without(answer.forces),
            stress=answer.stress,
            scf_iterations=cycles,
            wall_s=done.wall_s,
            provenance=f"SIESTA {version_of(directory)} {method} {mesh}{how}",
        )

    def _named_files(self) -> list[Path]:
        """Pseudopotentials that the input names, relative to ``pseudo_path`` (SIESTA 5)."""
        out = []
        for name in pseudopotentials(self.deck).values():
            candidates = [Path(name), *(Path(f"{name}.{end}") for end in _PSEUDOPOTENTIALS)]
            found = [path for path in candidates if (self.pseudo_path / path).is_file()]
            out.append((found or candidates)[0])
        return [path for path in out if not path.is_absolute()]

    def _files_of(self, label: str, nucleus: int) -> list[Path]:
        """Pseudopotential of a species, and its basis file if the input requests it."""
        if nucleus == _BESSEL:
            return []
        here = [self.pseudo_path / f"{label}.{end}" for end in _PSEUDOPOTENTIALS]
        found = [path for path in here if path.is_file()]
        if self.deck.flag("User.Basis") or self.deck.flag("User.Basis.NetCDF"):
            basis = [self.pseudo_path / f"{label}.{end}" for end in _BASIS_FILES]
            found += [path for path in basis if path.is_file()]
        if not found and label not in pseudopotentials(self.deck):
            raise EngineError(
                f"engine.pseudo_path: {self.pseudo_path} has no {here[0].name} (nor .vps, .psml); "
                "pseudopotentials are named by the species label"
            )
        return found
