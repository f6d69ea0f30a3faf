"""A patch set, a split, a network and a recipe as small as they can be."""

import json
import os
from pathlib import Path

import numpy as np
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from outcrop.models.architectures import ResidualNet
from outcrop.patches.patchset import PatchSet
from outcrop.splits.split import Split
from outcrop.training.recipe import Machine, Recipe
from outcrop.training.run import Run

DEVICE = os.environ.get("OUTCROP_TEST_DEVICE", "cpu")
"""What the tests of training run on, but for those of several processes."""

NETWORK = ResidualNet(depth=8, width=4)
RECIPE = Recipe(epochs=3, batch=16, machine=Machine(device=DEVICE))
CLASSES = ("water", "rice field", "built-up")
MEASURED = ("seconds", "images_per_second", "peak_memory")


def some_patches(dtype: str = "uint8", seed: int = 0) -> PatchSet:
    """Three classes that differ in brightness and in the direction of their stripes."""
    random = np.random.default_rng(seed)
    labels = np.arange(96) % 3
    images = random.normal(100, 20, (96, 2, 8, 8)) + 15 * labels[:, None, None, None]
    images[labels == 1, :, ::2] += 40
    return PatchSet(images.astype(dtype), labels, CLASSES, ("red", "nir"))


def some_split(patches: PatchSet) -> Split:
    """Every fourth patch judges, every twelfth is left for the test."""
    sides = np.zeros(len(patches), dtype=np.int8)
    sides[::4] = 1
    sides[::12] = 2
    return Split(sides, np.arange(len(patches)), patches.fingerprint, {"splitter": "by hand"})


PATCHES = some_patches()
SPLIT = some_split(PATCHES)


def weights(run: Run) -> dict[str, torch.Tensor]:
    """On the CPU, wherever the run was trained or read."""
    return {name: tensor.cpu() for name, tensor in run.classifier.module.state_dict().items()}


def assert_same(one: Run, other: Run) -> None:
    """Bit-identical weights, predictions, temperature, area of applicability and metrics.

    Clock and memory apart.
    """
    for name, tensor in weights(one).items():
        assert torch.equal(tensor, weights(other)[name]), name
    np.testing.assert_array_equal(one.predictions.probabilities, other.predictions.probabilities)
    assert one.classifier.temperature == other.classifier.temperature
    trust, same = ((run.folder / "trust.safetensors").read_bytes() for run in (one, other))
    assert trust == same
    assert lines(one.folder) == lines(other.folder)


def lines(folder: Path) -> list[dict]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key not in MEASURED} for row in rows]


def read_events(folder: Path) -> EventAccumulator:
    events = EventAccumulator(str(folder / "events"))
    events.Reload()
    return events
