"""The experiment that `outcrop demo` runs."""

from __future__ import annotations

from pathlib import Path

from outcrop.experiment.plan import Experiment
from outcrop.models.architectures import ResidualNet
from outcrop.sources.coast import coast_in, make_coast
from outcrop.training.recipe import Machine, Recipe


def demo_experiment(folder: Path, seed: int) -> Experiment:
    """A coast of seven images in `folder`, and an experiment on it of minutes, not hours.

    A coast that is there from an interrupted demo is used again.
    """
    made = coast_in(folder, 7) if folder.exists() else make_coast(folder, 7, 400, seed)
    return Experiment(
        scenes=[str(path) for path in made.scenes],
        labels=[str(made.labels)],
        column="class",
        truth=[str(path) for path in made.truths],
        size=16,
        stride=3,
        block=1_500,  # metres; the coast's regions look alike over 500 to 1500
        maps=1,
        network=ResidualNet(depth=14),
        # float32 gives the same figures on every machine, and pictures this small gain little.
        recipe=Recipe(epochs=25, seed=seed, machine=Machine(precision="32-true")),
    )
