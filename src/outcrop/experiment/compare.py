"""A network and the classical baselines on the same patches and the same split."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from outcrop.errors import OutcropError
from outcrop.experiment.comparison import (
    Comparison,
    is_compared,
    read_comparison,
    write_comparison,
)
from outcrop.experiment.entrants import (
    Answer,
    Entrant,
    answer_of,
    hold_against_each_other,
    write_predictions,
)
from outcrop.files import check_new
from outcrop.models.architectures import ResidualNet
from outcrop.models.baselines import BASELINES, Baseline
from outcrop.models.features import FEATURES
from outcrop.patches.patchset import PatchSet
from outcrop.patches.reopen import AnySource
from outcrop.progress import track
from outcrop.splits import Split, random_counterpart
from outcrop.training.device import pick_device
from outcrop.training.engine import train
from outcrop.training.parallel import refuse_several
from outcrop.training.recipe import Recipe

_PART = 4096


def compare(
    patches: PatchSet,
    split: Split,
    folder: str | Path,
    network: ResidualNet = ResidualNet(),
    recipe: Recipe = Recipe(),
    resume: bool = False,
    sources: Sequence[AnySource] | None = None,
    seeds: Sequence[int] | None = None,
) -> Comparison:
    """Train the network and every baseline, score each, and say which is shown to be better.

    Everything that is learned (normalisation, features' scales, tuning) is learned on the
    training side; nothing is chosen by the validation side, so that its scores hold. If the split
    is by ground all is done again under a split at random of the same patches in the same
    numbers, and the difference is the leak gap. With several seeds all models are trained once
    for each: the baselines draw too, the folds of their tuning and some of them trees.

    Args:
        folder: gets `comparison.json`, the predictions, and the runs `network` and
            `network-random` with the first seed, `network-K` and `network-random-K` with any
            other seed K.
        resume: go on with a comparison that was interrupted; finished runs are kept. More seeds
            may be named than before, after those of before.
        sources: see `outcrop.training.engine.train`.
        seeds: of the trainings, instead of the recipe's one. The first also deals the split at
            random.

    Raises:
        OutcropError: the split does not fit the patches; no such device; a seed named twice;
            `folder` exists and `resume` is false, or was made with other seeds or settings.
    """
    folder = Path(folder)
    split.check(patches)
    recipes = _recipes(recipe, seeds)
    pick_device(recipe.machine.device)
    refuse_several(recipe.machine, "a comparison")
    if not (resume and folder.exists()):
        check_new(folder, instead="--resume")
    finished = _finished(folder, recipes)
    splits = {"": split}
    if split.by_ground:
        splits["-random"] = random_counterpart(patches, split, recipes[0].seed)
    folder.mkdir(exist_ok=True)
    try:
        entrants = [_networks(patches, splits, folder, network, recipes, sources)]
    except OutcropError:
        if not any(folder.iterdir()):
            folder.rmdir()
        raise
    if finished is not None:
        # Its networks are there and were trained with these settings, or they had said so.
        return finished
    entrants += _baselines(patches, splits, entrants[0].seeds)
    comparison = hold_against_each_other(entrants, patches, split, splits.get("-random"))
    write_predictions(folder / "predictions.npz", entrants, patches, split)
    write_comparison(folder, comparison)
    return comparison


def _recipes(recipe: Recipe, seeds: Sequence[int] | None) -> list[Recipe]:
    """One for each seed."""
    if seeds is None:
        return [recipe]
    if not seeds:
        raise OutcropError("--seeds", "names none; take 0, or several such as 0,1,2")
    if twice := [seed for seed in seeds if list(seeds).count(seed) > 1]:
        raise OutcropError("--seeds", f"names {twice[0]} twice; name each once")
    if recipe.seed not in (Recipe().seed, *seeds):
        raise OutcropError("--seeds", f"takes the place of --seed {recipe.seed}; leave one out")
    return [replace(recipe, seed=seed) for seed in seeds]


def _finished(folder: Path, recipes: Sequence[Recipe]) -> Comparison | None:
    """What is in the folder, if nothing is to be added.

    Raises:
        OutcropError: the folder holds a comparison of finished runs, or of seeds not asked for.
    """
    if not is_compared(folder):
        return None
    found = read_comparison(folder)
    if not (folder / "network").exists():
        raise OutcropError(folder, "compares finished runs; choose another folder")
    before = found.rows[0].seeds or (recipes[0].seed,)
    asked = [recipe.seed for recipe in recipes]
    if lost := set(before) - set(asked):
        raise OutcropError(
            folder,
            f"has been made with seed {min(lost)} too; name all of "
            f"--seeds {','.join(map(str, before))}, or choose another folder",
        )
    return found if found.contests and len(before) == len(asked) else None


def _networks(
    patches: PatchSet,
    splits: Mapping[str, Split],
    folder: Path,
    network: ResidualNet,
    recipes: Sequence[Recipe],
    sources: Sequence[AnySource] | None,
) -> Entrant:
    answers: dict[str, list[Answer]] = {name: [] for name in splits}
    endings = ["", *(f"-{recipe.seed}" for recipe in recipes[1:])]
    for recipe, ending in zip(recipes, endings, strict=True):
        for name, one in splits.items():
            where = folder / f"network{name}{ending}"
            answers[name].append(_network(patches, one, where, network, recipe, sources))
    return Entrant(
        model=network.title,
        features="patch",
        seeds=tuple(recipe.seed for recipe in recipes),
        answers=tuple(answers[""]),
        random=tuple(answers.get("-random", ())),
        runs=tuple(f"network{ending}" for ending in endings),
    )


def _network(
    patches: PatchSet,
    split: Split,
    folder: Path,
    network: ResidualNet,
    recipe: Recipe,
    sources: Sequence[AnySource] | None,
) -> Answer:
    resume = folder.exists()
    run = train(patches, split, folder, network, recipe, resume, sources=sources)
    return answer_of(run, split)


def _baselines(
    patches: PatchSet, splits: Mapping[str, Split], seeds: tuple[int, ...]
) -> list[Entrant]:
    answers = {
        name: list(_answers(patches, split, seeds, f"baselines{name}"))
        for name, split in splits.items()
    }
    at_random = answers.get("-random", [()] * len(BASELINES))
    return [
        Entrant(baseline.name, baseline.features, seeds, ground, random)
        for baseline, ground, random in zip(BASELINES, answers[""], at_random, strict=True)
    ]


def _answers(
    patches: PatchSet, split: Split, seeds: Sequence[int], what: str
) -> Iterator[tuple[Answer, ...]]:
    """Of each baseline in turn, one for each seed."""
    features = {
        name: tuple(_measure(measure, patches, side) for side in (split.train, split.validation))
        for name, measure in FEATURES.items()
    }
    for baseline in track(BASELINES, what, len(BASELINES)):
        seen, unseen = features[baseline.features]
        yield tuple(_baseline(baseline, seen, unseen, patches, split, seed) for seed in seeds)


def _measure(
    measure: Callable[[np.ndarray], np.ndarray], patches: PatchSet, index: np.ndarray
) -> np.ndarray:
    """Features of some of the patches, without holding more than a part of the images."""
    parts = np.array_split(index, max(1, len(index) // _PART))
    return np.concatenate([measure(patches.take(part)) for part in parts])


def _baseline(
    baseline: Baseline,
    seen: np.ndarray,
    unseen: np.ndarray,
    patches: PatchSet,
    split: Split,
    seed: int,
) -> Answer:
    started = time.perf_counter()
    groups = split.groups[split.train] if split.by_ground else None
    fitted = baseline.fit(seen, patches.labels[split.train], groups, len(patches.classes), seed)
    predicted = fitted.predict(unseen)
    return Answer(predicted, time.perf_counter() - started, fitted.settings)
