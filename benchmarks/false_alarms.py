"""How often equally good models are called different, in simulated areas.

    python -m benchmarks.false_alarms --worlds 1000

The patches of a spatial group have the difficulty of the group. It varies from group to group for
each model, and every training has an effect of its random seed. No model is better than another.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import numpy as np

from outcrop.metrics.gaps import paired_gain
from outcrop.metrics.pairwise import pairwise_tests

CLASSES = 4


@dataclass(frozen=True)
class World:
    """Spatial groups, and models that are compared on them.

    Attributes:
        groups, patches: number of spatial groups, and mean number of patches in a group.
        uneven: standard deviation of the logarithm of the number of patches of a group.
        models, seeds: number of models, and of seeds of each.
        local: standard deviation, between groups, of the accuracy of one model.
        seed_effect: standard deviation of the accuracy between seeds.
        gain: accuracy of the first model minus that of the others.
    """

    groups: int = 25
    patches: int = 20
    uneven: float = 0.0
    models: int = 2
    seeds: int = 1
    local: float = 0.1
    seed_effect: float = 0.0
    gain: float = 0.0

    def predictions(self, seed: int) -> tuple[np.ndarray, dict[str, np.ndarray], np.ndarray]:
        """True classes, predictions of every model with each seed, and spatial groups."""
        rng = np.random.default_rng(seed)
        sizes = self.patches * rng.lognormal(-(self.uneven**2) / 2, self.uneven, self.groups)
        groups = np.repeat(np.arange(self.groups), np.maximum(1, sizes.round().astype(int)))
        truth = rng.integers(0, CLASSES, len(groups))
        hard = 0.75 + rng.normal(0, 0.15, self.groups)
        predicted = {}
        for model in range(self.models):
            chance = (hard + rng.normal(0, self.local, self.groups))[groups]
            chance += self.gain * (model == 0)
            chance = np.clip(chance + rng.normal(0, self.seed_effect, (self.seeds, 1)), 0.02, 0.98)
            right = rng.random(chance.shape) < chance
            predicted[str(model)] = np.where(right, truth, (truth + 1) % CLASSES)
        return truth, predicted, groups


WORLDS = {
    "25 spatial groups": World(),
    "10 spatial groups": World(groups=10),
    "100 spatial groups": World(groups=100, patches=8),
    "25 uneven spatial groups": World(uneven=1.0),
    "25 very uneven spatial groups": World(uneven=1.5),
    "patches independent": World(local=0.0),
    "3 seeds": World(seeds=3, seed_effect=0.02),
    "3 seeds, effect of the seed alone": World(seeds=3, seed_effect=0.05, local=0.0, patches=40),
    "2 seeds, effect of the seed alone": World(seeds=2, seed_effect=0.05, local=0.0, patches=40),
    "9 models": World(models=9),
    "9 models, 12 spatial groups": World(models=9, groups=12),
}


def false_alarms(world: World, worlds: int) -> tuple[float, float, float]:
    """Shares of worlds with a difference: by pairwise tests, intervals of pairs, McNemar's test."""
    found = np.zeros(3)
    for seed in range(worlds):
        truth, predicted, groups = world.predictions(seed)
        tests = pairwise_tests(truth, predicted, groups, CLASSES, draws=500, seed=seed)
        plain = [
            paired_gain(
                truth, predicted[one.one][0], predicted[one.other][0], groups, CLASSES, 500, seed
            )
            for one in tests
        ]
        found += (
            any(one.verdict != "no difference shown" for one in tests),
            any(one.low > 0 or one.high < 0 for one in plain),
            any(one.mcnemar.p < 0.05 for one in tests),
        )
    return tuple(found / worlds)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--worlds", type=int, default=1000)
    worlds = parser.parse_args().worlds
    print("| worlds | `outcrop compare` | intervals of pairs, first seed | McNemar |")
    print("| --- | --- | --- | --- |")
    for name, world in WORLDS.items():
        shares = (f"{100 * share:.1f} %" for share in false_alarms(world, worlds))
        print(f"| {name} | {' | '.join(shares)} |", flush=True)


if __name__ == "__main__":
    main()
