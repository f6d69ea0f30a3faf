import os

# There is a process of pytest for each core. More threads than cores wait for one another, and
# those of NumPy, scikit-learn and torch are as many as this says when they are first imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import warnings
from collections.abc import Generator, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from outcrop.generative.run import VaeGanRun
from outcrop.models import baselines
from outcrop.progress import log_to_console
from outcrop.training.engine import train
from outcrop.training.log import Log
from outcrop.training.run import Run
from outcrop.workflow import compare
from tests.rasters import ramp, write_raster
from tests.tiny import DEVICE, NETWORK, PATCHES, RECIPE, SPLIT
from tests.tiny_generative import WAYS, learn

# Their imports are those of QGIS's own Python (tests/gis.py).
collect_ignore = ["qgis_child.py", "qgis_plugin_child.py"]

# An exception that nobody foresaw is an error of outcrop, and fails the test.
os.environ["OUTCROP_DEBUG"] = "1"
if DEVICE == "cpu":
    # Where a device is not named it is then the CPU too, and in processes that a test starts.
    os.environ["CUDA_VISIBLE_DEVICES"] = ""


# A busy machine is no fault of the code.
settings.register_profile("outcrop", deadline=None)
settings.load_profile("outcrop")

# Files that take longest. One process of pytest-xdist takes a whole file, and with one of these at
# the end the other has nothing to do.
_FIRST = (
    "test_vaegan_real_images.py",
    "test_end_to_end.py",
    "test_cross_validation.py",
    "test_qgis_plugin.py",
    "test_parallel.py",
    "test_bad_input.py",
    "test_audit_ground.py",
    "test_locate_limits.py",
    "test_vaegan_page.py",
    "test_vaegan_resume.py",
    "test_vaegan_training.py",
    "test_estimator.py",
    "test_package.py",
    "test_memory.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    rank = {name: number for number, name in enumerate(_FIRST)}
    items.sort(key=lambda item: rank.get(item.path.name, len(rank)))


_FILTERS = list(warnings.filters)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol() -> Generator[None, object, object]:
    # Threads that leave `catch_warnings` out of turn put back the filters of a test that has ended,
    # and a warning would be an error in the next one.
    warnings.resetwarnings()
    warnings.filters[:] = _FILTERS
    return (yield)


@pytest.fixture(autouse=True, scope="session")
def _log() -> Iterator[None]:
    # As on the command line; pytest's own handler would take the messages otherwise.
    with log_to_console():
        yield


@pytest.fixture(autouse=True, scope="session")
def _one_worker() -> Iterator[None]:
    # Processes take seconds to start; the tests that need some ask for them.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compare, "cores", lambda: 1)
        yield


_DRAWN = {name: getattr(Log, name) for name in ("graph", "confusion")}


def _draw(patch: pytest.MonkeyPatch) -> None:
    for name, method in _DRAWN.items():
        patch.setattr(Log, name, method)


@pytest.fixture(autouse=True, scope="session")
def _without_pictures() -> Iterator[None]:
    # They take two thirds of the time of a small training. The session's `run` has them, and so
    # have trainings in processes of their own and the tests that ask for them.
    with pytest.MonkeyPatch.context() as patch:
        for name in _DRAWN:
            patch.setattr(Log, name, lambda *_: None)
        yield


@pytest.fixture
def pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """The graph and the confusion matrices of a training are drawn for TensorBoard."""
    _draw(monkeypatch)


@pytest.fixture(scope="module")
def forked_workers() -> Iterator[None]:
    """Workers of clusters are forks too of a process that has imported the libraries."""
    import dask
    import distributed.utils

    import tests.command_line  # noqa: F401  (what is imported)

    distributed.utils._forkserver_preload_set = True
    with dask.config.set({"distributed.worker.multiprocessing-method": "forkserver"}):
        yield


@pytest.fixture(scope="module")
def small_models() -> Iterator[None]:
    """Classical models with few trees, tuned over two folds; in this process alone."""

    def few(name: str, trees: dict[str, int], **changes: Any) -> None:
        recipe = baselines._RECIPES[name]

        def estimator(seed: int, shape: tuple[int, int]) -> Any:
            return recipe.estimator(seed, shape).set_params(**trees)

        patch.setitem(baselines._RECIPES, name, replace(recipe, estimator=estimator, **changes))

    with pytest.MonkeyPatch.context() as patch:
        few("random forest", {"n_estimators": 5}, final={"n_estimators": 10})
        few("gradient boosting", {"max_iter": 10})
        two = partial(baselines.spatial_folds, wanted=2)
        patch.setattr(baselines, "spatial_folds", two)
        yield


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished training, to be looked at only."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    with pytest.MonkeyPatch.context() as patch:
        _draw(patch)
        return train(PATCHES, SPLIT, folder, NETWORK, RECIPE)


@pytest.fixture(scope="session")
def learnt(tmp_path_factory: pytest.TempPathFactory) -> dict[str, VaeGanRun]:
    """A finished run of each way, to be looked at only."""
    folder = tmp_path_factory.mktemp("learnt")
    return {name: learn(folder / name, *way) for name, way in WAYS.items()}


@pytest.fixture
def beside_a_scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The working directory is a new folder with a small `scene.tif`."""
    monkeypatch.chdir(tmp_path)
    write_raster("scene.tif", ramp())
