"""Keys of the ``engine`` section."""

import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from otf.engines.launch import LaunchOptions

FilePath = Annotated[Path, Field(strict=False)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Options(LaunchOptions):
    """Keys of the ``engine`` section."""

    command: str = Field(
        description="the program; without ranks, the whole command: mpirun -np 16 pw.x. {input}, "
        "{address} (name of a unix socket, or host:port), {host} and {port} are filled in; pw.x "
        "and cp2k need none of them",
    )
    template: FilePath = Field(
        description="an input file you already use; for pw.x and cp2k, everything except the "
        "structure and the type of the run is taken from it; for other programs, {address}, {host} "
        "and {port} in it are filled in"
    )
    program: str | None = Field(
        None,
        description="one of those otf describes (quantum-espresso, cp2k, fhi-aims, dftb+, nwchem), "
        "or other; default: by the name of the executable",
    )
    files_path: FilePath | None = Field(
        None,
        description="folder that relative names of files in the input start from; default: that "
        "of the template",
    )
    structure_file: str | None = Field(
        None,
        description="file from which the input reads the structure, such as geometry.in: otf "
        "writes it (for programs other than pw.x and cp2k)",
    )
    structure_format: str | None = Field(
        None, description="format of structure_file, as ASE names it; default: by its name"
    )
    failures: dict[str, str] = Field(
        default_factory=dict,
        description="further failures: a name, and the regular expression in the output that shows "
        "it; a label with it is not used",
    )
    converged: str | None = Field(
        None,
        description="regular expression in the output of every converged label; a label without it "
        "is not used",
    )
    connection: Literal["unix", "inet"] = "unix"
    host: str = Field("localhost", description="name of this machine for an inet connection")
    level: str = Field("DFT", description="level of theory, for the reports")
    vacuum_A: PositiveFloat = Field(5.0, description="vacuum around a molecule without a cell")
    timeout_s: PositiveFloat | None = Field(
        None,
        description="time limit of a label; default: ten times the median so far, at least 10 min",
    )

    @model_validator(mode="before")
    @classmethod
    def _files_beside_the_template(cls, given: Any) -> Any:
        if isinstance(given, dict) and "files_path" not in given and "template" in given:
            return {**given, "files_path": str(Path(str(given["template"])).parent)}
        return given

    @field_validator("failures", "converged")
    @classmethod
    def _regular(cls, given: dict[str, str] | str | None) -> dict[str, str] | str | None:
        patterns = given.values() if isinstance(given, dict) else [given]
        for pattern in patterns:
            try:
                re.compile(pattern or "")
            except re.error as error:
                raise ValueError(f"'{pattern}' is no regular expression: {error}") from error
        return given

    @model_validator(mode="after")
    def _structure(self) -> Self:
        if self.structure_format is not None and self.structure_file is None:
            raise ValueError("structure_format is that of structure_file, which is missing")
        return self

    @property
    def takes_cell(self) -> bool:
        """Whether a molecule without a cell takes that of the template."""
        return "vacuum_A" not in self.model_fields_set
