"""A network and the classical baselines on the same patches and the same split."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from outcrop.errors import OutcropError
from outcrop.experiment.classical import on_codes, on_features
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
from outcrop.patches.patchset import PatchSet
from outcrop.patches.reopen import AnySource
from outcrop.splits import Split, random_counterpart
from outcrop.training.device import pick_device
from outcrop.training.engine import train
from outcrop.training.parallel import refuse_several
from outcrop.training.recipe import Recipe
from outcrop.training.vaegan.engine import train_vaegan
from outcrop.training.vaegan.recipe import VaeGanPlan
from outcrop.training.vaegan.run import VaeGanRun

Made = TypeVar("Made")


def compare(
    patches: PatchSet,
    split: Split,
    folder: str | Path,
    network: ResidualNet = ResidualNet(),
    recipe: Recipe = Recipe(),
    resume: bool = False,
    sources: Sequence[AnySource] | None = None,
    seeds: Sequence[int] | None = None,
    encoder: VaeGanPlan | None = None,
) -> Comparison:
    """Train the network and every baseline, score each, and say which is shown to be better.

    Everything that is learned (normalisation, features' scales, tuning) is learned on the
    training side; nothing is chosen by the validation side, so that its scores hold. If the split
    is by ground all is done again under a split at random of the same patches in the same
    numbers, and the difference is the leak gap. With several seeds all models are trained once
    for each: the baselines draw too, the folds of their tuning and some of them trees.

    With an encoder every kind of baseline takes part once more and sees the code of a patch: the
    mean of its posterior, given by networks that have learnt the pictures of the training side of
    the same split with the same seed. More models make the correction for all pairs stricter.

    Args:
        folder: gets `comparison.json`, the predictions, and the runs `network` and
            `network-random` with the first seed, `network-K` and `network-random-K` with any
            other seed K; with an encoder `encoder`, `encoder-random` and so on too.
        resume: go on with a comparison that was interrupted; finished runs are kept. More seeds
            may be named than before, after those of before.
        sources: see `outcrop.training.engine.train`.
        seeds: of the trainings, instead of the recipe's one. The first also deals the split at
            random.
        encoder: a VAE or a VAE-GAN, and how it is trained, but for the seed.

    Raises:
        OutcropError: the split does not fit the patches; no such device; a seed named twice;
            `folder` exists and `resume` is false, or was made with other seeds or settings; the
            encoder is none, or the patches are no squares that it can learn.
    """
    folder = Path(folder)
    split.check(patches)
    if encoder is not None:
        _check_encoder(encoder, patches)
    recipes = _recipes(recipe, seeds)
    pick_device(recipe.machine.device)
    refuse_several(recipe.machine, "a comparison")
    if not (resume and folder.exists()):
        check_new(folder, instead="--resume")
    finished = _finished(folder, recipes, encoder)
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
    encoders = (
        {} if encoder is None else _encoders(patches, splits, folder, encoder, recipes, sources)
    )
    if finished is not None:
        if finished.fingerprint not in ("", patches.fingerprint):
            raise OutcropError(
                folder, "compares models on another patch set; choose another folder"
            )
        # Its runs are there and were trained with these settings, or they had said so.
        return finished
    seeds = entrants[0].seeds
    entrants += on_features(patches, splits, seeds)
    if encoders:
        entrants += on_codes(patches, splits, encoders, seeds)
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


def _check_encoder(plan: VaeGanPlan, patches: PatchSet) -> None:
    network = plan.picture_network
    if network.parts not in ("vaegan", "vae"):
        lacks = "a similarity run" if network.has_encoder else "an encoder"
        raise OutcropError(
            "--model", f"{network.parts} lacks {lacks} that a comparison needs; take vaegan or vae"
        )
    network.check_size(patches.size)
    refuse_several(plan.picture_recipe.machine, "a comparison")


def _finished(
    folder: Path, recipes: Sequence[Recipe], encoder: VaeGanPlan | None
) -> Comparison | None:
    """What is in the folder, if nothing is to be added.

    Raises:
        OutcropError: the folder holds a comparison of finished runs, of seeds not asked for, or
            with an encoder that is not asked for.
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
    coded = any(row.runs and row.features != "patch" for row in found.rows)
    if coded and encoder is None:
        raise OutcropError(
            folder, "has been made with an encoder too; give --model, or choose another folder"
        )
    whole = found.contests and len(before) == len(asked) and coded == (encoder is not None)
    return found if whole else None


def _networks(
    patches: PatchSet,
    splits: Mapping[str, Split],
    folder: Path,
    network: ResidualNet,
    recipes: Sequence[Recipe],
    sources: Sequence[AnySource] | None,
) -> Entrant:
    def make(split: Split, where: Path, recipe: Recipe) -> Answer:
        return _network(patches, split, where, network, recipe, sources)

    answers = _trained("network", splits, folder, recipes, make)
    return Entrant(
        model=network.title,
        features="patch",
        seeds=tuple(recipe.seed for recipe in recipes),
        answers=tuple(answers[""]),
        random=tuple(answers.get("-random", ())),
        runs=tuple(f"network{ending}" for ending in _endings(recipes)),
    )


def _encoders(
    patches: PatchSet,
    splits: Mapping[str, Split],
    folder: Path,
    plan: VaeGanPlan,
    recipes: Sequence[Recipe],
    sources: Sequence[AnySource] | None,
) -> dict[str, list[VaeGanRun]]:
    def make(split: Split, where: Path, recipe: Recipe) -> VaeGanRun:
        how = replace(plan.picture_recipe, seed=recipe.seed)
        resume = where.exists()
        return train_vaegan(
            patches, split, where, plan.picture_network, how, resume, sources=sources
        )

    return _trained("encoder", splits, folder, recipes, make)


def _trained(
    what: str,
    splits: Mapping[str, Split],
    folder: Path,
    recipes: Sequence[Recipe],
    make: Callable[[Split, Path, Recipe], Made],
) -> dict[str, list[Made]]:
    """By the name of the split, one for each seed."""
    made: dict[str, list[Made]] = {name: [] for name in splits}
    for recipe, ending in zip(recipes, _endings(recipes), strict=True):
        for name, split in splits.items():
            made[name].append(make(split, folder / f"{what}{name}{ending}", recipe))
    return made


def _endings(recipes: Sequence[Recipe]) -> list[str]:
    """Of the folders, by seed."""
    return ["", *(f"-{recipe.seed}" for recipe in recipes[1:])]


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
