"""Settings shared by all tests."""

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "otf",
    deadline=None,  # the first example compiles kernels
    max_examples=25,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
settings.load_profile("otf")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="run the slow physics at full length")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--long"):
        return
    further = [item for item in items if item.get_closest_marker("thorough")]
    items[:] = [item for item in items if item not in further]
    config.hook.pytest_deselected(items=further)


@pytest.fixture(scope="session")
def long(request: pytest.FixtureRequest) -> bool:
    """Whether slow tests run at full length."""
    return bool(request.config.getoption("--long"))
