"""How often models that are equally good are said to differ, on made-up ground.

    python -m benchmarks.false_alarms --worlds 1000

Every patch of a piece of ground is as hard as its piece, a little harder for the one model and a
little easier for the other, and every training has its luck. Truth is known: no model is better.
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
    """What is judged on, and by whom.

    Attributes:
        pieces, patches: of ground, and on each on average.
        uneven: standard deviation of the logarithm of a piece's number of patches.
        models, seeds: that are held against each other, and of each.
        ground: standard deviation between pieces of what one model has right.
        luck: standard deviation between seeds.
        gain: how much more than the others the first model has right.
    """

    pieces: int = 25
    patches: int = 20
    uneven: float = 0.0
    models: int = 2
    seeds: int = 1
    ground: float = 0.1
    luck: float = 0.0
    gain: float = 0.0

    def judged(self, seed: int) -> tuple[np.ndarray, dict[str, np.ndarray], np.ndarray]:
        """Truth, what every model says with each seed, and the pieces."""
        rng = np.random.default_rng(seed)
        sizes = self.patches * rng.lognormal(-(self.uneven**2) / 2, self.uneven, self.pieces)
        groups = np.repeat(np.arange(self.pieces), np.maximum(1, sizes.round().astype(int)))
        truth = rng.integers(0, CLASSES, len(groups))
        hard = 0.75 + rng.normal(0, 0.15, self.pieces)
        said = {}
        for model in range(self.models):
            chance = (hard + rng.normal(0, self.ground, self.pieces))[groups]
            chance += self.gain * (model == 0)
            chance = np.clip(chance + rng.normal(0, self.luck, (self.seeds, 1)), 0.02, 0.98)
            right = rng.random(chance.shape) < chance
            said[str(model)] = np.where(right, truth, (truth + 1) % CLASSES)
        return truth, said, groups


WORLDS = {
    "25 pieces": World(),
    "10 pieces": World(pieces=10),
    "100 pieces": World(pieces=100, patches=8),
    "25 uneven pieces": World(uneven=1.0),
    "25 very uneven pieces": World(uneven=1.5),
    "patches independent": World(ground=0.0),
    "3 seeds": World(seeds=3, luck=0.02),
    "3 seeds, luck alone": World(seeds=3, luck=0.05, ground=0.0, patches=40),
    "2 seeds, luck alone": World(seeds=2, luck=0.05, ground=0.0, patches=40),
    "9 models": World(models=9),
    "9 models, 12 pieces": World(models=9, pieces=12),
}


def false_alarms(world: World, worlds: int) -> tuple[float, float, float]:
    """Shares of worlds with a difference: by pairwise tests, intervals of pairs, McNemar's test."""
    found = np.zeros(3)
    for seed in range(worlds):
        truth, said, groups = world.judged(seed)
        held = pairwise_tests(truth, said, groups, CLASSES, draws=500, seed=seed)
        plain = [
            paired_gain(truth, said[one.one][0], said[one.other][0], groups, CLASSES, 500, seed)
            for one in held
        ]
        found += (
            any(one.verdict != "no difference shown" for one in held),
            any(one.low > 0 or one.high < 0 for one in plain),
            any(one.mcnemar.p < 0.05 for one in held),
        )
    return tuple(found / worlds)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--worlds", type=int, default=1000)
    worlds = parser.parse_args().worlds
    print("| ground and models | `outcrop compare` | intervals of pairs, first seed | McNemar |")
    print("| --- | --- | --- | --- |")
    for name, world in WORLDS.items():
        shares = (f"{100 * share:.1f} %" for share in false_alarms(world, worlds))
        print(f"| {name} | {' | '.join(shares)} |", flush=True)


if __name__ == "__main__":
    main()
