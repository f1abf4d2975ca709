"""``otf analyse``: distributions, transport and spectra of trajectories, with block errors."""

import functools
from pathlib import Path
from typing import TYPE_CHECKING

import click

from otf.cli import analyse_electronic
from otf.cli.analyse_options import of_frames, positive, reweightable, reweighted_by_run

if TYPE_CHECKING:
    from otf.analysis.curves import Curves
    from otf.dynamics.collective_variables import CollectiveVariable
    from otf.io.frames import Frames


@click.group("analyse")
def command() -> None:
    """Distributions, transport and spectra, each with block errors.

    A PATH is a run directory or any trajectory: extxyz, XDATCAR, OpenMX .md, SIESTA .MD and .ANI,
    and all other formats of ASE. Several are analysed together.
    """


@command.command("rdf")
@positive("--cutoff", "cutoff_A", 6.0, "Largest distance, Angstrom; may exceed the cell.")
@positive("--bin", "bin_A", 0.05, "Bin width, Angstrom.")
@reweightable
@of_frames
def rdf(runs: list["Frames"], cutoff_A: float, bin_A: float, reweight: Path | None) -> "Curves":
    """Radial distribution functions of all pairs of species, and coordination numbers."""
    from otf.analysis.rdf import rdf as analyse

    return reweighted_by_run(
        reweight, runs, functools.partial(analyse, cutoff_A=cutoff_A, bin_A=bin_A)
    )


@command.command("adf")
@positive("--cutoff", "cutoff_A", 3.0, "Largest distance of neighbours, Angstrom.")
@positive("--bin", "bin_degrees", 2.0, "Bin width, degrees.")
@of_frames
def adf(runs: list["Frames"], cutoff_A: float, bin_degrees: float) -> "Curves":
    """Distributions of the angles between neighbours."""
    from otf.analysis.adf import adf as analyse

    return analyse(runs, cutoff_A=cutoff_A, bin_degrees=bin_degrees)


@command.command("msd")
@positive("--longest", "longest_fs", None, "Longest lag, fs; default: a tenth of the run.")
@of_frames
def msd(runs: list["Frames"], longest_fs: float | None) -> "Curves":
    """Mean square displacements and diffusion coefficients."""
    from otf.analysis.transport import msd as analyse

    return analyse(runs, longest_fs=longest_fs)


@command.command("vacf")
@positive("--longest", "longest_fs", 200.0, "Longest lag, fs.")
@of_frames
def vacf(runs: list["Frames"], longest_fs: float) -> "Curves":
    """Velocity autocorrelation function."""
    from otf.analysis.spectra import vacf as analyse

    return analyse(runs, longest_fs=longest_fs)


@command.command("vdos")
@positive("--longest", "longest_fs", 1000.0, "Segment length, fs; the resolution is its inverse.")
@of_frames
def vdos(runs: list["Frames"], longest_fs: float) -> "Curves":
    """Vibrational density of states, by species."""
    from otf.analysis.spectra import vdos as analyse

    return analyse(runs, longest_fs=longest_fs)


@command.command("structure-factor")
@positive("--q-max", "q_max", 10.0, "Largest wave number, 1/Angstrom.")
@positive("--bin", "bin_width", 0.1, "Bin width, 1/Angstrom.")
@reweightable
@of_frames
def structure_factor(
    runs: list["Frames"], q_max: float, bin_width: float, reweight: Path | None
) -> "Curves":
    """Static structure factor of a crystal or liquid."""
    from otf.analysis.structure_factor import structure_factor as analyse

    chosen = functools.partial(analyse, q_max=q_max, bin_width=bin_width, reference=runs[0])
    return reweighted_by_run(reweight, runs, chosen)


@command.command("bonds")
@positive("--bin", "bin_A", 0.02, "Bin width, Angstrom.")
@reweightable
@of_frames
def bonds(runs: list["Frames"], bin_A: float, reweight: Path | None) -> "Curves":
    """Lengths of the bonds of the first frame, and how many are broken."""
    from otf.analysis.bonds import bonds as analyse

    return reweighted_by_run(
        reweight, runs, functools.partial(analyse, bin_A=bin_A, reference=runs[0])
    )


@command.command("energy")
@reweightable
@of_frames
def energy(runs: list["Frames"], reweight: Path | None) -> "Curves":
    """Potential, kinetic and conserved energy over time, and their means."""
    from otf.analysis.series import series

    names = ("potential_energy_eV", "kinetic_energy_eV", "conserved_energy_eV")
    return reweighted_by_run(reweight, runs, functools.partial(series, names=names))


@command.command("temperature")
@of_frames
def temperature(runs: list["Frames"]) -> "Curves":
    """Temperature, and pressure if available, over time, and their means."""
    from otf.analysis.series import series

    return series(runs, ("temperature_K", "pressure_GPa"))


def _variable(
    _context: click.Context, _option: click.Parameter, text: str | None
) -> "CollectiveVariable | None":
    """A collective variable, such as ``torsion 0 1 2 3``."""
    from otf.dynamics.collective_variables import variable_of

    try:
        return None if text is None else variable_of(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


@command.command("variable")
@click.option("--along", callback=_variable, required=True, help="Such as 'distance 0 5'.")
@of_frames
def variable(runs: list["Frames"], along: "CollectiveVariable") -> "Curves":
    """A distance, difference of distances, angle or torsion over time."""
    from otf.postprocess.collective_variables import over_time

    return over_time(runs, along)


@command.command("free-energy")
@click.option(
    "--along",
    callback=_variable,
    help="Such as 'torsion 0 1 2 3'; default: the first one of the bias.",
)
@click.option("--bins", type=click.IntRange(min=2), default=60, show_default=True)
@functools.partial(of_frames, with_paths=True, removes_bias=True)
def free_energy(
    paths: tuple[Path, ...], runs: list["Frames"], along: "CollectiveVariable | None", bins: int
) -> "Curves":
    """Free energy of a run along a variable, with its bias taken out.

    Variables are distance, difference, angle and torsion, followed by their atoms, from 0. With
    metadynamics, leave out the time in which the wells are filled: --from 20000.
    """
    from otf.postprocess.collective_variables import free_energy_along

    if len(paths) > 1:
        raise click.UsageError("free-energy takes one run: others have another bias")
    return free_energy_along(paths[0], runs[0], along, bins=bins)


for _electronic in analyse_electronic.COMMANDS:
    command.add_command(_electronic)
