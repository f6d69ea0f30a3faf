"""By how much must a part of the multi-scale network be better before it is taken?

    .venv/bin/python -m benchmarks.tuning_margin --folder real_ground

Of a folder of `benchmarks.real_ground`: what each view of its networks says of the patches that
their folds hold out, without any training. Four fifths of the pieces of a scene, drawn at random,
choose a part by the balanced accuracy on all of them; the others judge it. 300 draws of each scene;
points of balanced accuracy gained over taking all views, the mean and the worst scene.

Networks that tuning made one of other views are left out, with the patches of their folds.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from outcrop.models.multiscale import MultiScaleNetwork
from outcrop.patches.patchset import PatchSet, read_patches
from outcrop.splits import Folds
from outcrop.training.recipe import Recipe
from outcrop.training.run import read_run
from outcrop.training.tuning import AS_GIVEN, Variant, parts_of
from outcrop.workflow.compare import compared_folds

MARGINS = (0.0, 0.01, 0.02, 0.03, 0.05, 0.07, 0.1)
DRAWS, CHOOSING = 300, 0.8


def said_by_parts(
    folder: Path, patches: PatchSet, folds: Folds
) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """The classes that all views and each part say, those of the patches, and their pieces."""
    said: dict[str, list[np.ndarray]] = {}
    truth, groups = [], []
    for number, split in enumerate(folds.splits):
        run = read_run(folder / f"fold-{number}" / "network", "cpu")
        module = run.classifier.module
        if not isinstance(module, MultiScaleNetwork):
            continue
        given = Variant(AS_GIVEN, run.classifier.network, Recipe())
        parts = parts_of(given, patches.size[0])
        if not parts:
            continue
        images = patches.take(split.validation)
        for name, views in [("all", module.used), *((p.name, p.network.views) for p in parts)]:
            module.used = views
            said.setdefault(name, []).append(run.model.predict_proba(images).argmax(axis=1))
        truth.append(patches.labels[split.validation])
        groups.append(folds.groups[split.validation])
    every = {name: np.concatenate(each) for name, each in said.items()}
    return every, np.concatenate(truth), np.concatenate(groups)


def balanced(said: np.ndarray, truth: np.ndarray) -> float:
    """Balanced accuracy over the classes that there are."""
    return float(np.mean([(said[truth == k] == k).mean() for k in np.unique(truth)]))


def gains(
    said: dict[str, np.ndarray], truth: np.ndarray, groups: np.ndarray, seed: int = 0
) -> np.ndarray:
    """What each margin gains over all views, mean over the draws."""
    random, pieces = np.random.default_rng(seed), np.unique(groups)
    found = np.zeros(len(MARGINS))
    for _ in range(DRAWS):
        chosen = random.permutation(pieces)[: int(CHOOSING * len(pieces))]
        mine = np.isin(groups, chosen)
        here = {name: balanced(one[mine], truth[mine]) for name, one in said.items()}
        there = {name: balanced(one[~mine], truth[~mine]) for name, one in said.items()}
        best = max(here, key=here.__getitem__)
        taken = [best if here[best] - here["all"] > margin else "all" for margin in MARGINS]
        found += [there[name] - there["all"] for name in taken]
    return found / DRAWS


def main() -> None:
    """Print the table."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--folder", type=Path, required=True, help="of benchmarks.real_ground")
    folder = options.parse_args().folder
    rows = {}
    for here in sorted(folder.glob("*/comparison/comparison.json")):
        compared = here.parent
        patches = read_patches(compared.parent / "patches.zarr")
        said, truth, groups = said_by_parts(compared, patches, compared_folds(compared))
        rows[compared.parent.name] = 100 * gains(said, truth, groups)
    print(f"| scene | {' | '.join(f'{100 * margin:g} points' for margin in MARGINS)} |")
    print("| --- " * (len(MARGINS) + 1) + "|")
    table = np.array(list(rows.values()))
    summary = {"mean": table.mean(axis=0), "worst": table.min(axis=0)}
    for name, row in {**rows, **summary}.items():
        print(f"| {name} | {' | '.join(f'{value:+.1f}' for value in row)} |")


if __name__ == "__main__":
    main()
