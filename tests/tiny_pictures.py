"""Pictures, a split, networks and a recipe for them, as small as networks of pictures can be."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from outcrop.generative.network import VaeGan
from outcrop.generative.recipe import VaeGanRecipe
from outcrop.generative.run import VaeGanRun
from outcrop.generative.training.engine import train_vaegan
from outcrop.patches.patchset import PatchSet
from outcrop.splits.split import Split
from outcrop.training.recipe import Machine
from tests.tiny import MEASURED, some_split

SIZE = 32
PICTURE_NETWORK = VaeGan(filters=4, latent=4)
CPU = Machine(device="cpu", precision="32-true")
PICTURE_RECIPE = VaeGanRecipe(epochs=2, batch=10, learning_rate=1e-3, balance=0.0, machine=CPU)


def some_pictures(dtype: str = "uint8", bands: int = 2, number: int = 48) -> PatchSet:
    """Three classes that differ in brightness and in the direction of their stripes."""
    random = np.random.default_rng(0)
    labels = np.arange(number) % 3
    images = random.normal(90, 20, (number, bands, SIZE, SIZE)) + 15 * labels[:, None, None, None]
    images[labels == 1, :, ::2] += 40
    names = ("red", "nir", "swir", "green", "blue", "coastal", "cirrus")[:bands]
    return PatchSet(images.clip(0, 255).astype(dtype), labels, ("sea", "rice", "town"), names)


PICTURES = some_pictures()
PICTURE_SPLIT = some_split(PICTURES)  # 36 to train on, in steps of 9; 8 are held out


def picture_weights(run: VaeGanRun) -> dict[str, Tensor]:
    return run.model.networks.state_dict()


def picture_lines(folder: Path) -> list[dict]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key not in MEASURED} for row in rows]


def assert_same_pictures(one: VaeGanRun, other: VaeGanRun) -> None:
    """Bit-identical weights and metrics, but for clock and memory."""
    assert picture_weights(one).keys() == picture_weights(other).keys()
    for name, tensor in picture_weights(one).items():
        assert torch.equal(tensor, picture_weights(other)[name]), name
    assert picture_lines(one.folder) == picture_lines(other.folder)


def with_images(change: Callable[[np.ndarray], np.ndarray]) -> PatchSet:
    """The pictures after a change, as the same set: a split of one fits the other."""
    return replace(PICTURES, images=change(PICTURES.images.astype(np.float32)))


STEPS = 4  # in an epoch

# All that has a state of its own.
RICH_NETWORK = replace(PICTURE_NETWORK, spectral=True)
RICH_RECIPE = replace(
    PICTURE_RECIPE, optimiser="adam", average=0.9, balance=0.6, kl_warm_up=1.5, seed=4
)
WAYS = {"plain": (PICTURE_NETWORK, PICTURE_RECIPE), "rich": (RICH_NETWORK, RICH_RECIPE)}


def learn(
    folder: Path,
    network: VaeGan = PICTURE_NETWORK,
    recipe: VaeGanRecipe = PICTURE_RECIPE,
    patches: PatchSet = PICTURES,
    split: Split = PICTURE_SPLIT,
    **further: Any,
) -> VaeGanRun:
    if split is PICTURE_SPLIT:
        # Of the same patches with other pixels.
        split = replace(split, fingerprint=patches.fingerprint)
    return train_vaegan(patches, split, folder, network, recipe, **further)


def assert_same_weights(one: VaeGanRun, other: VaeGanRun) -> None:
    for name, tensor in picture_weights(one).items():
        assert torch.equal(tensor, picture_weights(other)[name]), name


def differ(one: VaeGanRun, other: VaeGanRun) -> bool:
    name = "decoder.picture.weight"
    return not torch.equal(picture_weights(one)[name], picture_weights(other)[name])


def vae_of(gan: VaeGanRun, folder: Path, **changes: Any) -> VaeGanRun:
    network = replace(gan.model.network, parts="vae-dis", latent=3)
    return learn(folder, network, replace(PICTURE_RECIPE, **changes), similarity=gan)
