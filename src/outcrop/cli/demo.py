"""The experiment that `outcrop demo` runs."""

from __future__ import annotations

from pathlib import Path

from outcrop.experiment.plan import Experiment
from outcrop.models.architectures import ResidualNet
from outcrop.sources.coast import make_coast
from outcrop.training.recipe import Recipe


def demo_experiment(folder: Path, seed: int) -> Experiment:
    """A coast of seven images in `folder`, and an experiment on it of minutes, not hours."""
    made = make_coast(folder, images=7, size=400, seed=seed)
    return Experiment(
        scenes=[str(path) for path in made.scenes],
        labels=[str(made.labels)],
        column="class",
        truth=[str(path) for path in made.truths],
        size=16,
        stride=3,
        maps=1,
        step=2,
        network=ResidualNet(depth=14),
        recipe=Recipe(epochs=25, seed=seed),
    )
