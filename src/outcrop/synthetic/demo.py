"""What `outcrop demo` runs: an experiment on a coast, or the story of patches of a cube."""

from __future__ import annotations

from pathlib import Path

from outcrop.models.architectures import ResidualNet
from outcrop.synthetic.coast import coast_in, make_coast
from outcrop.synthetic.story import Story
from outcrop.training.recipe import Augmentation, Machine, Recipe, Tuning
from outcrop.workflow.plan import Experiment


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
        size=17,
        stride=4,
        block=1_500.0,  # metres; the coast's regions look alike over 500 to 1500
        folds=3,
        maps=1,
        # Small, because it is trained seven times: for each fold, also at random, and for the map.
        network=ResidualNet(depth=8),
        tuning=Tuning(trials=0),
        # float32 gives the same figures on every machine, and pictures this small gain little.
        # The images of the coast differ in radiometry, band by band.
        recipe=Recipe(
            epochs=20,
            augmentation=Augmentation(gain=0.2),
            seed=seed,
            machine=Machine(precision="32-true"),
        ),
    )


def demo_story(seed: int) -> Story:
    """A cube, and 3000 patches of it, that two cores have done with in minutes."""
    return Story(
        shape=(300, 240, 300),
        size=48,
        per_class=750,
        share=0.75,
        network=ResidualNet(depth=14, width=8),
        recipe=Recipe(epochs=20, seed=seed, machine=Machine(precision="32-true")),
    )
