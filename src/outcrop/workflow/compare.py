"""Comparison of a network and classical baselines on the same patches and folds."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from outcrop.errors import OutcropError
from outcrop.executors import Scheduler, Serial, cores, process_executor
from outcrop.files import check_new, sweep
from outcrop.models.architectures import Factory, Network, network_of
from outcrop.models.baselines import BASELINES, Baseline, baseline_of
from outcrop.models.features import FEATURES
from outcrop.patches.collection import AnyPatches, open_patches
from outcrop.patches.reopen import AnySource
from outcrop.progress import tell
from outcrop.splits import Folds, random_folds, read_folds
from outcrop.splits.folds import AnyFolds
from outcrop.training.device import pick_device
from outcrop.training.engine import default_network
from outcrop.training.fit import features_of
from outcrop.training.parallel.process_group import refuse_several
from outcrop.training.recipe import Recipe, Tuning
from outcrop.workflow.candidates import (
    Answer,
    Candidate,
    compare_candidates,
    write_predictions,
)
from outcrop.workflow.comparison import Comparison, is_compared, read_comparison, write_comparison
from outcrop.workflow.learnt import Encoder, GivenFeatures, LearntFeatures, Measure, encoder_of
from outcrop.workflow.trials import AT_RANDOM, Setting, Trial, What, answer, do_all, pooled

FOLDS, SPLIT = "folds.json", "split.json"


def compare(
    patches: AnyPatches,
    split: AnyFolds,
    folder: str | Path,
    network: Network | Factory | nn.Module | None = None,
    recipe: Recipe = Recipe(),
    resume: bool = False,
    sources: Sequence[AnySource] | None = None,
    seeds: Sequence[int] | None = None,
    encoder: LearntFeatures | Measure | None = None,
    workers: int | None = None,
    scheduler: Scheduler | None = None,
    *,
    baselines: Sequence[Baseline | Any] | None = None,
    gap_seeds: int | None = None,
    tuning: Tuning = Tuning(),
    only_classical: bool = False,
) -> Comparison:
    """Train the network and every baseline, score them, and test which are better.

    With several folds (`Splitter.assign_all`, `default_folds`) each model is trained once for each
    fold. Scores, intervals and tests use the held-out patches of all folds together.

    Normalisation, scales of features and tuned settings are learned from the training patches only.
    Nothing is selected with the validation patches, so their scores are unbiased. For a spatial
    split, everything is repeated under a random split with the same number of patches in each fold;
    the difference of the scores is the leak gap. With several seeds, all models are trained once
    for each seed, because the baselines use random numbers too.

    With an encoder, every kind of baseline is also trained on the features of the encoder. A
    `LearntFeatures` is trained on the training patches of the same split with the same seed; a
    function from images to features is used as it is. More models make the correction for all pairs
    stricter.

    Args:
        patches: patch set, or its name.
        split: one fold or several, or the name of their file.
        folder: output folder. It gets `comparison.json`, the predictions, the folds, and the runs
            `network` and `network-random` of the first seed, `network-K` and `network-random-K` of
            every other seed K; with a trained encoder also `encoder`, `encoder-random` and so on;
            and in `answers` the predictions of the baselines. With several folds these are in
            `fold-0`, `fold-1` and so on.
        resume: continue a comparison that was interrupted; finished trainings are kept. Further
            seeds may be appended, and missing baselines and leak gaps are added.
        network, recipe, sources: see `outcrop.training.engine.train`.
        seeds: random seeds of the trainings, instead of the recipe's one. The first one is also the
            seed of the random split.
        encoder: plan of an encoder without its seed, such as `outcrop.VaeGanPlan()`; or a function
            from images, `N × bands × height × width`, to features, `N × F`. The function is named
            in the results and must be the same whenever the comparison is resumed.
        workers: number of trainings at the same time, each in its own process; None for the number
            of cores, or 1 on a GPU. Results do not depend on it: on a CPU each training uses the
            number of cores divided by the number of trainings.
        scheduler: executor instead of local processes: address of a Dask cluster, `local[N]`, or a
            `concurrent.futures.Executor` with processes (`outcrop.executors.executor`). The
            workers must be able to access `folder`.
        baselines: classical models, all by default. A scikit-learn classifier gets the centre pixel
            as features; see `outcrop.models.baselines.Baseline`.
        gap_seeds: number of seeds, from the first, for which the leak gap is measured; 0 for none,
            all by default.
        tuning: tuning of the network, repeated in each training. With `network=None` it may also
            select the network.
        only_classical: train no network. Of the recipe, only seed and hardware are used.

    Raises:
        OutcropError: the split does not fit the patches; there is no such device; a seed occurs
            twice; `gap_seeds` is larger than the number of seeds; `folder` exists and `resume` is
            false, or was made with other seeds, folds or settings; the encoder does not work with
            these patches; a worker was killed.
    """
    patches, folds, folder = open_patches(patches), read_folds(split), Path(folder).resolve()
    folds.check(patches, "`split`")
    described = None if network is None else network_of(network)
    if only_classical:
        _check_only_classical(network, recipe, tuning, baselines)
    else:
        (described or default_network(patches)).check_size(patches.size)
    learnt = encoder_of(encoder)
    if learnt is not None:
        learnt.check(patches)
    seeds = _seeds(recipe, seeds)
    gap_seeds = len(seeds) if gap_seeds is None else gap_seeds
    if not 0 <= gap_seeds <= len(seeds):
        raise OutcropError(
            "`gap_seeds`", f"must be from 0 to {len(seeds)}, the number of seeds, not {gap_seeds}"
        )
    on_cpu = pick_device(recipe.machine.device).type == "cpu"
    refuse_several(recipe.machine, "a comparison")
    if workers is None:
        workers = cores() if on_cpu else 1
    begun = resume and folder.exists()
    if not begun:
        check_new(folder, instead="resume")
    finished = _finished(folder, seeds, learnt, only_classical)
    kinds = {"": folds}
    if folds.spatial and gap_seeds:
        kinds[AT_RANDOM] = random_folds(patches, folds, seeds[0])
    trainings = sum(map(len, kinds.values())) * len(seeds)
    if learnt is not None and not isinstance(learnt, GivenFeatures):
        trainings *= 2
    setting = Setting(
        patches=patches,
        folds=kinds,
        folder=folder,
        network=described,
        recipe=recipe,
        tuning=tuning,
        seeds=seeds,
        gap_seeds=gap_seeds,
        sources=sources,
        encoder=learnt,
        threads=max(1, torch.get_num_threads() // trainings),
        features={},
        baselines=tuple(map(baseline_of, BASELINES if baselines is None else baselines)),
        only_classical=only_classical,
    )
    folder.mkdir(exist_ok=True)
    try:
        _keep_folds(folder, folds)
        _do(setting, scheduler, workers)
    except OutcropError:
        if not begun and _is_empty(folder):
            shutil.rmtree(folder)
        raise
    if finished is not None:
        if finished.fingerprint not in ("", patches.fingerprint):
            raise OutcropError(folder, "has a comparison on another patch set; use another folder")
        # Runs with other settings raise an error when they are opened above.
        if _covers(finished, setting):
            return finished
    candidates = [] if only_classical else [_networks(setting)]
    candidates += _classical(setting, "features", setting.baselines)
    if learnt is not None:
        candidates += _classical(setting, "codes", _coded(learnt))
    comparison = compare_candidates(candidates, patches, folds, kinds.get(AT_RANDOM))
    write_predictions(folder / "predictions.npz", candidates, patches, folds)
    write_comparison(folder, comparison)
    return comparison


def _check_only_classical(
    network: Any, recipe: Recipe, tuning: Tuning, baselines: Sequence[Any] | None
) -> None:
    if network is not None:
        raise OutcropError("`network`", "has no meaning with `only_classical=True`; leave it out")
    used = replace(Recipe(), seed=recipe.seed, machine=recipe.machine)
    if recipe != used or tuning not in (Tuning(), Tuning(0)):
        raise OutcropError(
            "`only_classical`",
            "accepts only seed and hardware of the options of a training; leave the others out",
        )
    if baselines is not None and not baselines:
        raise OutcropError("baselines", "are none, and no network is trained; pass some")


def compared_folds(folder: str | Path, run: str = "network") -> Folds:
    """The folds of a comparison, finished or not.

    Args:
        folder: folder of the comparison.
        run: one of its runs. Its split is read if the comparison has no file of folds: comparisons
            of finished runs, and those of old versions.

    Raises:
        OutcropError: they are missing or damaged.
    """
    for path in (Path(folder) / FOLDS, Path(folder) / SPLIT):
        if path.exists():
            return read_folds(path)
    return read_folds(Path(folder) / run / SPLIT)


def _keep_folds(folder: Path, folds: Folds) -> None:
    """Write the folds, or check that those in the folder are the same."""
    path, other = folder / SPLIT, folder / FOLDS
    if len(folds) > 1:
        path, other = other, path
    if other.exists() or (path.exists() and not _alike(read_folds(path), folds)):
        there = other if other.exists() else path
        raise OutcropError(
            folder,
            f"was made with other patches or folds; continue with `split={there}`, or use another "
            "folder",
        )
    if not path.exists():
        folds.save(path)


def _alike(one: Folds, other: Folds) -> bool:
    if one.fingerprint != other.fingerprint or len(one) != len(other):
        return False
    return all(
        np.array_equal(a.sides, b.sides) and np.array_equal(a.groups, b.groups)
        for a, b in zip(one.splits, other.splits, strict=True)
    )


def _is_empty(folder: Path) -> bool:
    """Whether a folder contains no file except the folds."""
    return all(path.name in (FOLDS, SPLIT) for path in folder.rglob("*") if path.is_file())


def _seeds(recipe: Recipe, seeds: Sequence[int] | None) -> tuple[int, ...]:
    """The seeds of the trainings: those of the user, or that of the recipe."""
    if seeds is None:
        return (recipe.seed,)
    if not seeds:
        raise OutcropError("`seeds`", "is empty; use 0, or several such as 0,1,2")
    if twice := [seed for seed in seeds if list(seeds).count(seed) > 1]:
        raise OutcropError("`seeds`", f"names {twice[0]} twice; name each once")
    if recipe.seed not in (Recipe().seed, *seeds):
        raise OutcropError("`seeds`", f"replaces `seed={recipe.seed}`; leave one of them out")
    # A bad seed is refused before the first training.
    return tuple(replace(recipe, seed=seed).seed for seed in seeds)


def _finished(
    folder: Path, seeds: Sequence[int], encoder: Encoder | None, only_classical: bool
) -> Comparison | None:
    """The comparison in the folder, if it is complete.

    Raises:
        OutcropError: the folder has a comparison of finished runs, of seeds that were not
            requested, with another encoder, or with a network if none is wanted.
    """
    if not is_compared(folder):
        return None
    found = read_comparison(folder)
    if not any((folder / name).exists() for name in ("network", "fold-0", "answers")):
        raise OutcropError(folder, "has a comparison of finished runs; use another folder")
    if only_classical and found.network is not None:
        raise OutcropError(
            folder, "was made with a network; leave `only_classical` out, or use another folder"
        )
    before = found.rows[0].seeds or (seeds[0],)
    if lost := set(before) - set(seeds):
        raise OutcropError(
            folder,
            f"was also made with seed {min(lost)}; pass all of "
            f"`seeds={list(before)}`, or use another folder",
        )
    coded = [row.features for row in found.rows if row.features not in ("patch", *FEATURES)]
    if coded and encoder is None:
        raise OutcropError(
            folder,
            "was made with an encoder; continue with `outcrop.compare(encoder=encoder)`, or use "
            "another folder",
        )
    if coded and encoder is not None and encoder.title != coded[0]:
        raise OutcropError(
            folder,
            f"was made with the features {coded[0]}, not {encoder.title}; use another folder",
        )
    same = len(before) == len(seeds) and bool(coded) == (encoder is not None)
    return found if found.pairwise_tests and same else None


def _covers(finished: Comparison, setting: Setting) -> bool:
    """Whether a comparison has all baselines and leak gaps of a setting."""
    coded = () if setting.encoder is None else _coded(setting.encoder)
    wanted = {(one.name, one.features) for one in (*setting.baselines, *coded)}
    if not wanted <= {(row.model, row.features) for row in finished.rows}:
        return False
    if not setting.only_classical and finished.network is None:
        return False
    if AT_RANDOM not in setting.folds:
        return True
    # Confusion matrices are sums over the seeds, of equal numbers of patches.
    return all(
        row.random is not None
        and row.random.confusion.sum() * len(setting.seeds)
        >= row.scores.confusion.sum() * setting.gap_seeds
        for row in finished.rows
    )


def _coded(encoder: Encoder) -> tuple[Baseline, ...]:
    """Every kind of baseline on the features of an encoder."""
    kinds = dict.fromkeys(b.name for b in BASELINES)
    return tuple(Baseline(kind, encoder.title) for kind in kinds)


def _trials(
    setting: Setting, what: What, baselines: Sequence[Baseline] = (), together: bool = False
) -> list[Trial]:
    """Trials by seed, kind of folds and fold.

    Args:
        together: whether all classical models of a fold are in one trial.
    """
    sets = [tuple(baselines)] if together or not baselines else [(one,) for one in baselines]
    return [
        Trial(what, name, fold, seed, some)
        for seed in setting.seeds
        for name, folds in setting.folds.items()
        if seed in setting.seeds_of(name)
        for fold in range(len(folds))
        for some in sets
    ]


def _do(setting: Setting, scheduler: Scheduler | None, workers: int) -> None:
    """Run unfinished trials: first the networks, which take longest; codes after their encoders."""
    for folder in (setting.folder, *setting.folder.glob("fold-*")):
        sweep(folder / "answers")
    networks = [] if setting.only_classical else _trials(setting, "network")
    codes = []
    if setting.learnt is not None:
        networks += _trials(setting, "encoder")
    if setting.encoder is not None:
        codes = _trials(setting, "codes", _coded(setting.encoder), together=True)
    features = _trials(setting, "features", setting.baselines)
    done = [one for one in networks if setting.is_done(one)]
    do_all(setting, done, Serial(), "networks")  # Opened only, to check their settings.
    left = [one for one in (*networks, *features) if not setting.is_done(one)]
    if any(one.what == "features" for one in left):
        every = np.arange(len(setting.patches))
        found = {name: features_of(name, setting.patches, every) for name in FEATURES}
        setting = replace(setting, features=found)
    later = [one for one in codes if not setting.is_done(one)]
    if not left and not later:
        return
    many = min(workers, max(len(left), len(later)))
    with process_executor(scheduler, workers if workers < 1 else many) as executor:
        if setting.tuning.tries and any(one.what == "network" for one in left):
            tell(
                f"each training of the network begins with tuning: up to {setting.tuning.trials} "
                f"variants with {setting.tuning.tuning_folds} folds of its training patches; "
                "`trials=0` switches tuning off"
            )
        for trials, what in ((left, "models"), (later, "codes")):
            do_all(setting, trials, executor, what)


def _networks(setting: Setting) -> Candidate:
    usual = (setting.network or default_network(setting.patches)).title
    answers = _answers(setting, "network", "")
    random = _answers(setting, "network", AT_RANDOM)
    # For each seed, a title or a list of titles by fold.
    chosen = [one.settings.get("network", usual) for one in answers]
    titles = {name for one in chosen for name in ([one] if isinstance(one, str) else one)}
    model = titles.pop() if len(titles) == 1 else "tuned network"
    return Candidate(model, "patch", setting.seeds, answers, random, _runs(setting, "network"))


def _classical(setting: Setting, what: What, baselines: Sequence[Baseline]) -> list[Candidate]:
    return [
        Candidate(
            model=baseline.name,
            features=baseline.features,
            seeds=setting.seeds,
            answers=_answers(setting, what, "", baseline),
            random=_answers(setting, what, AT_RANDOM, baseline),
            runs=_runs(setting, "encoder") if what == "codes" and setting.learnt else (),
        )
        for baseline in baselines
    ]


def _answers(
    setting: Setting, what: What, split: str, baseline: Baseline | None = None
) -> tuple[Answer, ...]:
    """Predictions of all folds together for each seed; none without folds of this kind."""
    folds = setting.folds.get(split)
    if folds is None:
        return ()
    trials = [one for one in _trials(setting, what) if one.split == split]
    return tuple(
        pooled([answer(setting, one, baseline) for one in trials if one.seed == seed], folds)
        for seed in setting.seeds_of(split)
    )


def _runs(setting: Setting, what: What) -> tuple[str, ...]:
    """Names of the run folders under the split itself, by seed and fold."""
    return tuple(setting.name(one, what) for one in _trials(setting, what) if not one.split)
