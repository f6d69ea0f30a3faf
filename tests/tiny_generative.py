"""Small images, a split, generative networks and a recipe for tests."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from outcrop.generative.run import VaeGanRun
from outcrop.generative.settings import VaeGan, VaeGanRecipe
from outcrop.generative.training import train_vaegan
from outcrop.patches.patchset import PatchSet
from outcrop.splits.split import Split
from outcrop.training.recipe import Machine
from tests.tiny import MEASURED, some_split

SIZE = 32
TINY_NETWORK = VaeGan(filters=4, latent=4)
CPU = Machine(device="cpu", precision="32-true")
TINY_RECIPE = VaeGanRecipe(epochs=2, batch=10, learning_rate=1e-3, balance=0.0, machine=CPU)


def some_images(dtype: str = "uint8", bands: int = 2, number: int = 48) -> PatchSet:
    """Three classes that differ in brightness and in the direction of their stripes."""
    rng = np.random.default_rng(0)
    labels = np.arange(number) % 3
    images = rng.normal(90, 20, (number, bands, SIZE, SIZE)) + 15 * labels[:, None, None, None]
    images[labels == 1, :, ::2] += 40
    names = ("red", "nir", "swir", "green", "blue", "coastal", "cirrus")[:bands]
    return PatchSet(images.clip(0, 255).astype(dtype), labels, ("sea", "rice", "town"), names)


IMAGES = some_images()
IMAGE_SPLIT = some_split(IMAGES)  # 36 for training, in steps of 9; 8 held out


def weights_of(run: VaeGanRun) -> dict[str, Tensor]:
    return run.model.networks.state_dict()


def lines_of(folder: Path) -> list[dict]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key not in MEASURED} for row in rows]


def assert_same_runs(one: VaeGanRun, other: VaeGanRun) -> None:
    """Assert equal weights and metrics to the last bit, except time and memory."""
    assert weights_of(one).keys() == weights_of(other).keys()
    for name, tensor in weights_of(one).items():
        assert torch.equal(tensor, weights_of(other)[name]), name
    assert lines_of(one.folder) == lines_of(other.folder)


def with_images(change: Callable[[np.ndarray], np.ndarray]) -> PatchSet:
    """The images after a change."""
    return replace(IMAGES, images=change(IMAGES.images.astype(np.float32)))


STEPS = 4  # in an epoch

# With every component that has a state.
RICH_NETWORK = replace(TINY_NETWORK, spectral=True)
RICH_RECIPE = replace(
    TINY_RECIPE, optimiser="adam", average=0.9, balance=0.6, kl_warm_up=1.5, seed=4
)
WAYS = {"plain": (TINY_NETWORK, TINY_RECIPE), "rich": (RICH_NETWORK, RICH_RECIPE)}


def learn(
    folder: Path,
    network: VaeGan = TINY_NETWORK,
    recipe: VaeGanRecipe = TINY_RECIPE,
    patches: PatchSet = IMAGES,
    split: Split = IMAGE_SPLIT,
    **further: Any,
) -> VaeGanRun:
    if split is IMAGE_SPLIT:
        # The same patches may have other pixels.
        split = replace(split, fingerprint=patches.fingerprint)
    return train_vaegan(patches, split, folder, network, recipe, **further)


def assert_same_weights(one: VaeGanRun, other: VaeGanRun) -> None:
    for name, tensor in weights_of(one).items():
        assert torch.equal(tensor, weights_of(other)[name]), name


def differ(one: VaeGanRun, other: VaeGanRun) -> bool:
    name = "decoder.picture.weight"
    return not torch.equal(weights_of(one)[name], weights_of(other)[name])


def vae_of(gan: VaeGanRun, folder: Path, **changes: Any) -> VaeGanRun:
    network = replace(gan.model.network, parts="vae-dis", latent=3)
    return learn(folder, network, replace(TINY_RECIPE, **changes), similarity=gan)
