"""A short training on photographs, or on a synthetic coast."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from outcrop.generative.run import VaeGanRun
from outcrop.generative.settings import VaeGan, VaeGanRecipe
from outcrop.generative.training import train_vaegan
from outcrop.models.architectures import ResidualNet
from outcrop.patches.collection import from_collection
from outcrop.patches.cut import cut
from outcrop.patches.patchset import PatchSet
from outcrop.sources.collections import read_collection
from outcrop.splits import BlockSplit, RandomSplit, Split
from outcrop.synthetic.coast import make_coast
from outcrop.training.engine import train
from outcrop.training.recipe import Augmentation, Recipe
from tests.shared import DATA, some_photographs
from tests.tiny_generative import CPU

PHOTOGRAPHS, PATCHES = 300, 500


@dataclass(frozen=True, eq=False)
class Learnt:
    """A run, its held-out images and as many samples, from -1 to 1."""

    run: VaeGanRun
    held_out: np.ndarray
    samples: np.ndarray


def photographs(folder: Path) -> tuple[PatchSet, Split]:
    some = from_collection(read_collection(some_photographs(folder / "photographs", PHOTOGRAPHS)))
    return some, RandomSplit().assign(some)


def ground(folder: Path) -> tuple[PatchSet, Split]:
    coast = make_coast(folder / "coast", images=3, size=300, seed=1)
    patches = cut(
        coast.scenes, labels=coast.labels, column="class", size=32, per_class=PATCHES // 6, stride=2
    )
    return patches, BlockSplit(block=500).assign(patches)


SOURCES: dict[str, Callable[[Path], tuple[PatchSet, Split]]] = {
    "photographs": photographs,
    "ground": ground,
}


@pytest.fixture(
    scope="module",
    params=["photographs" if (DATA / "cifar10-jpeg.tar.xz").exists() else "ground"],
)
def learnt(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Learnt:
    folder = tmp_path_factory.mktemp(request.param)
    patches, split = SOURCES[request.param](folder)
    usual = Recipe(epochs=3, batch=32, augmentation=Augmentation(rotate=False, gain=0), machine=CPU)
    judge = train(patches, split, folder / "judge", ResidualNet(8), usual, graph=False)
    run = train_vaegan(
        patches,
        split,
        folder / "run",
        VaeGan(filters=16, latent=32),
        VaeGanRecipe(epochs=10, batch=16, average=0.98, machine=CPU),
        judge=judge,
    )
    model, held_out = run.model, patches.take(split.validation)
    samples = model.sample(len(held_out), seed=1)
    return Learnt(run, model.normalised(held_out), model.normalised(samples))


def test_reconstructions_of_held_out_images_improve(learnt: Learnt) -> None:
    errors = [epoch.feature_error for epoch in learnt.run.metrics]
    # Other seeds give 0.4 to 0.8 of the first error; it varies between epochs.
    assert np.median(errors[len(errors) // 2 :]) < 0.9 * errors[0], errors


def test_samples_have_the_colours_and_the_roughness_of_real_images(learnt: Learnt) -> None:
    real, drawn = learnt.held_out, learnt.samples
    np.testing.assert_allclose(drawn.mean((0, 2, 3)), real.mean((0, 2, 3)), atol=0.25)
    assert 0.3 < drawn.std() / real.std() < 2
    assert 0.5 < roughness(drawn) / roughness(real) < 2


def roughness(images: np.ndarray) -> float:
    """Mean difference of neighbouring pixels, 0 to 2: small for blur, large for noise."""
    return float(np.abs(np.diff(images, axis=3)).mean())
