"""Lanes, and settings shared by all tests.

``pytest`` runs what needs no further program in a few minutes; ``pytest --all`` adds what is marked
``full``, and ``pytest --all -m full`` runs that alone.
"""

import os
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

if "PYTEST_XDIST_WORKER" in os.environ:  # workers share the cores: one thread each
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")

_FULL_MODULE = re.compile(r"^pytestmark = (\[\n    )?pytest\.mark\.full", re.MULTILINE)

settings.register_profile(
    "otf",
    deadline=None,  # the first example compiles kernels
    max_examples=25,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
settings.load_profile("otf")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--all", action="store_true", help="run the tests marked full, too")
    parser.addoption("--long", action="store_true", help="run the slow physics at full length")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Do not import modules that are marked as a whole: what they need may not be there."""
    if config.getoption("--all") or not collection_path.match("test_*.py"):
        return None
    return bool(_FULL_MODULE.search(collection_path.read_text(encoding="utf-8"))) or None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    left_out = set()
    if not config.getoption("--long"):
        left_out.add("thorough")
    if not config.getoption("--all"):
        left_out.add("full")
    further = [i for i in items if any(i.get_closest_marker(name) for name in left_out)]
    items[:] = [item for item in items if item not in further]
    config.hook.pytest_deselected(items=further)


@pytest.fixture(scope="session")
def long(request: pytest.FixtureRequest) -> bool:
    """Whether slow tests run at full length."""
    return bool(request.config.getoption("--long"))
