"""Trials of a comparison: each model on each fold with each seed; finished trials are kept."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from typing import Literal

import numpy as np

from outcrop import __version__
from outcrop.executors import Executor
from outcrop.files import decoding, new_file
from outcrop.mapping.engine import torch_threads
from outcrop.models.architectures import Network
from outcrop.models.baselines import Baseline
from outcrop.patches.patchset import PatchSet
from outcrop.patches.reopen import AnySource
from outcrop.progress import collected_log, log_again
from outcrop.splits import Folds, Split
from outcrop.training.classical import filled
from outcrop.training.device import keep_freed_memory, pick_device
from outcrop.training.engine import train
from outcrop.training.fit import in_parts, means_of
from outcrop.training.folder import is_finished
from outcrop.training.recipe import Recipe, Tuning
from outcrop.training.run import read_run
from outcrop.workflow.candidates import Answer, answer_of
from outcrop.workflow.learnt import Encoder, GivenFeatures, LearntFeatures, Measure

AT_RANDOM = "-random"
"""Suffix of the names of runs under the random folds."""

_FORMAT = "outcrop answer"
_one_at_a_time = Lock()


What = Literal["network", "encoder", "features", "codes"]


@dataclass(frozen=True)
class Trial:
    """One training, or the fits of some classical models.

    Attributes:
        what: kind of the trial: a network, an encoder, classical models on features, or classical
            models on the codes of an encoder.
        split: kind of folds: "" or `AT_RANDOM`.
        fold: number of the fold.
        seed: random seed.
        baselines: the classical models.
    """

    what: What
    split: str
    fold: int
    seed: int
    baselines: tuple[Baseline, ...] = ()


@dataclass(frozen=True)
class Setting:
    """Common settings of the trials of a comparison.

    Attributes:
        patches: the patch set.
        folds: folds by kind.
        folder: folder of the comparison.
        network: the network; None if tuning may select it.
        recipe: training recipe of the network, without the seed.
        tuning: tuning of the network.
        seeds: random seeds; runs of the first one have no seed in their names.
        gap_seeds: number of seeds that are also trained under the random folds.
        sources: see `outcrop.training.engine.train`.
        encoder: the encoder without its seed, or None.
        threads: threads of a training on the CPU; its last digits depend on them.
        features: float, `N × F`, features of all patches by name.
        baselines: the classical models on features.
        only_classical: whether no network is trained.
    """

    patches: PatchSet
    folds: Mapping[str, Folds]
    folder: Path
    network: Network | None
    recipe: Recipe
    tuning: Tuning
    seeds: tuple[int, ...]
    gap_seeds: int
    sources: Sequence[AnySource] | None
    encoder: Encoder | None
    threads: int
    features: Mapping[str, np.ndarray]
    baselines: tuple[Baseline, ...] = ()
    only_classical: bool = False

    def seeds_of(self, kind: str) -> tuple[int, ...]:
        """Random seeds of the trainings under one kind of folds."""
        return self.seeds if kind == "" else self.seeds[: self.gap_seeds]

    @property
    def learnt(self) -> LearntFeatures | None:
        """The encoder if it is trained, otherwise None."""
        return None if isinstance(self.encoder, GivenFeatures) else self.encoder

    def split(self, trial: Trial) -> Split:
        """The split of a trial."""
        return self.folds[trial.split].splits[trial.fold]

    def name(self, trial: Trial, what: str) -> str:
        """Path inside the folder, such as network, network-random-3 or fold-1/network."""
        ending = "" if trial.seed == self.seeds[0] else f"-{trial.seed}"
        fold = f"fold-{trial.fold}/" if len(self.folds[""]) > 1 else ""
        return f"{fold}{what}{trial.split}{ending}"

    def run(self, trial: Trial, what: str) -> Path:
        """Folder of the run of a network or an encoder."""
        return self.folder / self.name(trial, what)

    def answer(self, trial: Trial, baseline: Baseline) -> Path:
        """File of the predictions of a classical model."""
        model = f"{baseline.name} on {baseline.features}".replace(" ", "-").lower()
        path = self.folder / self.name(trial, f"answers/{model}")
        return path.with_name(f"{path.name}.npz")

    def is_done(self, trial: Trial) -> bool:
        """Whether all files of a trial exist."""
        if trial.baselines:
            return all(self.answer(trial, one).exists() for one in trial.baselines)
        return is_finished(self.run(trial, trial.what))


def do_all(setting: Setting, trials: Sequence[Trial], executor: Executor, what: str) -> None:
    """Run the trials that are not done yet, and log each of their messages once.

    Args:
        what: label of the progress bar.

    Raises:
        OutcropError: a trial fails; results of other trials are kept.
    """
    logged: set[tuple[int, str]] = set()
    work = _do_remotely if executor.remote else _do_here
    for records in executor.each(work, setting, trials, what):
        log_again(one for one in records if one not in logged)
        logged.update(records)


def _do_remotely(setting: Setting, trial: Trial) -> list[tuple[int, str]]:
    # Trainings draw first weights from the generator of the whole process.
    with _one_at_a_time, collected_log() as records:
        if pick_device(setting.recipe.machine.device).type == "cpu":
            keep_freed_memory()
        do(setting, trial)
    return records


def _do_here(setting: Setting, trial: Trial) -> list[tuple[int, str]]:
    do(setting, trial)
    return []


def do(setting: Setting, trial: Trial) -> None:
    """Run a trial or continue it; its result is stored in the folder.

    Raises:
        OutcropError: see `outcrop.training.engine.train`.
    """
    folder = setting.run(trial, trial.what)
    folder.parent.mkdir(exist_ok=True)
    if trial.baselines:
        _fit(setting, trial)
        return
    patches, split, sources = setting.patches, setting.split(trial), setting.sources
    resume = folder.exists()
    with torch_threads(setting.threads):
        if trial.what == "network":
            recipe = replace(setting.recipe, seed=trial.seed)
            train(
                patches, split, folder, setting.network, recipe, resume, graph=False,
                sources=sources, tuning=setting.tuning,
            )  # fmt: skip
        else:
            assert setting.learnt is not None
            setting.learnt.learn(patches, split, folder, trial.seed, sources)


def answer(setting: Setting, trial: Trial, baseline: Baseline | None = None) -> Answer:
    """Predictions of a finished trial for the validation patches.

    Args:
        baseline: a classical model of the trial; None for a network.

    Raises:
        OutcropError: the file is damaged, or belongs to other patches.
    """
    split = setting.split(trial)
    if baseline is None:
        return answer_of(read_run(setting.run(trial, "network"), "cpu"), split)
    path = setting.answer(trial, baseline)
    with decoding(path, "an answer", "remove it and continue with `outcrop.compare(resume=True)`"):
        with np.load(path, allow_pickle=False) as file:
            about = json.loads(str(file["told"]))
            probabilities = file["probabilities"]
        if about["format"] != _FORMAT:
            raise ValueError("another format")
        wanted = len(split.validation), len(setting.patches.classes)
        if about["seed"] != trial.seed or probabilities.shape != wanted:
            raise ValueError("another seed or split")
        return Answer(probabilities, float(about["seconds"]), dict(about["settings"]))


def _fit(setting: Setting, trial: Trial) -> None:
    """Fit the classical models of a trial without predictions, and write their predictions."""
    split, before = setting.split(trial), 0.0
    if trial.what == "codes":
        measure, before = _encoder(setting, trial)
        sides = tuple(
            in_parts(measure, setting.patches, side) for side in (split.train, split.validation)
        )
    for baseline in trial.baselines:
        path = setting.answer(trial, baseline)
        if path.exists():
            continue
        if trial.what == "features":
            features = setting.features[baseline.features]
            sides = features[split.train], features[split.validation]
        found = _answer(baseline, sides, setting.patches, split, trial.seed)
        path.parent.mkdir(exist_ok=True)
        about = {
            "format": _FORMAT,
            "outcrop": __version__,
            "seed": trial.seed,
            "seconds": found.seconds + before,
            "settings": dict(found.settings),
        }
        with new_file(path) as temporary:
            np.savez(temporary, told=json.dumps(about), probabilities=found.probabilities)


def _encoder(setting: Setting, trial: Trial) -> tuple[Measure, float]:
    """The function from images to features, and the seconds of its training."""
    assert setting.encoder is not None
    if isinstance(setting.encoder, GivenFeatures):
        return setting.encoder, 0.0
    return setting.encoder.read(setting.run(trial, "encoder"))


def _answer(
    baseline: Baseline, sides: tuple[np.ndarray, ...], patches: PatchSet, split: Split, seed: int
) -> Answer:
    started = time.perf_counter()
    filling = means_of(sides[0])
    training, held_out = (filled(side, filling) for side in sides)
    groups = split.groups[split.train] if split.spatial else None
    labels = patches.labels[split.train]
    fitted = baseline.fit(training, labels, groups, len(patches.classes), seed)
    probabilities = fitted.predict_proba(held_out).astype(np.float32)
    return Answer(probabilities, time.perf_counter() - started, fitted.settings)


def pooled(answers: Sequence[Answer], folds: Folds) -> Answer:
    """Combine the predictions of all folds: each patch gets that of the fold that holds it out.

    Seconds are summed; a setting that differs between folds becomes a list by fold.
    """
    if len(answers) == 1:
        return answers[0]
    classes = answers[0].probabilities.shape[1]
    probabilities = np.zeros((len(folds.groups), classes), np.float32)
    for one, split in zip(answers, folds.splits, strict=True):
        probabilities[split.validation] = one.probabilities
    settings = {}
    for name in dict.fromkeys(name for one in answers for name in one.settings):
        values = [one.settings.get(name) for one in answers]
        same = all(value == values[0] for value in values)
        settings[name] = values[0] if same else values
    return Answer(probabilities[folds.index], sum(one.seconds for one in answers), settings)
