"""One Slurm daemon for all tests of this folder, which one worker runs."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import slurm_daemon
from cluster_runs import TROUBLED, Folder

_MISSING = pytest.StashKey[list[str]]()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark the tests; leave them out, and say why, where no Slurm can run (in CI: fail)."""
    here = Path(__file__).parent
    own = [item for item in items if here in item.path.parents]
    for item in own:
        item.add_marker(pytest.mark.cluster)
        item.add_marker(pytest.mark.xdist_group("cluster"))
    missing = slurm_daemon.missing() if own else []
    config.stash[_MISSING] = missing
    if missing and os.environ.get("CI"):
        raise pytest.UsageError(f"tests/cluster cannot run: {'; '.join(missing)}")
    if missing:
        items[:] = [item for item in items if item not in own]
        config.hook.pytest_deselected(items=own)


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    for line in config.stash.get(_MISSING, []):
        terminalreporter.write_line(f"tests/cluster was left out; missing: {line}", yellow=True)


@pytest.fixture(scope="session", autouse=True)
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with slurm_daemon.running(tmp_path_factory.mktemp("slurm")):
        yield


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Folder]:
    folder = Folder(tmp_path)
    yield folder
    folder.end()


@pytest.fixture(scope="session")
def untroubled(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """TROUBLED, run on this machine without Slurm and without trouble."""
    folder = Folder(tmp_path_factory.mktemp("untroubled"))
    folder.run(TROUBLED, "metrics", profile=None)
    return folder
