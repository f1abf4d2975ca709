"""The stand-in for SIESTA, and the captured outputs it replays."""

import sys
from pathlib import Path

GOLDEN = Path(__file__).parents[1] / "golden" / "siesta"
STANDIN = Path(__file__).parents[1] / "standins" / "fake_siesta.py"


def pseudopotentials(folder: Path) -> Path:
    """Empty pseudopotential files: otf checks only that they exist."""
    folder.mkdir(parents=True, exist_ok=True)
    for label in ("C", "H", "O", "Si"):
        (folder / f"{label}.psf").write_text("")
    return folder


def siesta_options(folder: Path, how: str = "compute", /, **changes: object) -> dict[str, object]:
    """Options of the engine that start the stand-in, which counts its calls in the folder."""
    (folder / "memory").mkdir(exist_ok=True)
    return {
        "command": f"{sys.executable} {STANDIN} {how} {folder / 'memory'}",
        "pseudo_path": str(pseudopotentials(folder / "pseudos")),
    } | changes
