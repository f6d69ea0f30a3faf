import pytest
import torch

from outcrop.training.engine import train
from outcrop.training.run import Run
from tests.tiny import NETWORK, PATCHES, RECIPE, SPLIT


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    # Nets as small as those of the tests only wait for one another's threads.
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished training, to be looked at only."""
    return train(PATCHES, SPLIT, tmp_path_factory.mktemp("runs") / "run", NETWORK, RECIPE)
