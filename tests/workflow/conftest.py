"""A finished study, trained once, that the tests of a worker share or copy."""

from pathlib import Path

import pytest
from study_runs import SMALLEST, STUDY, Sandbox


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.workflow)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Sandbox:
    """STUDY, run to its end. Not to be changed: dry runs and reading only."""
    sandbox = Sandbox(tmp_path_factory.mktemp("finished"))
    sandbox.run(STUDY)
    return sandbox


@pytest.fixture(scope="session")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Sandbox:
    """SMALLEST, run to its tables. Not to be changed."""
    sandbox = Sandbox(tmp_path_factory.mktemp("uninterrupted"))
    sandbox.run(SMALLEST, "results/smallest/tables/metrics.parquet")
    return sandbox
