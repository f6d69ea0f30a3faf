"""Trainings of a comparison: each model on each fold with each seed, once; what is done stays."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from typing import Literal

import numpy as np

from outcrop import __version__
from outcrop.executors import Executor
from outcrop.files import decoding, new_file
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
"""What the names of runs under the folds at random have; those under the others have nothing."""

_FORMAT = "outcrop answer"
_one_at_a_time = Lock()


What = Literal["network", "encoder", "features", "codes"]


@dataclass(frozen=True)
class Trial:
    """One training, or the fits of some classical models.

    Attributes:
        what: a network, an encoder, classical models on features, or on the codes of an encoder.
        split: the kind of folds: "" or `AT_RANDOM`.
        fold: its number.
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
    """What the trials of a comparison share.

    Attributes:
        patches: the patch set.
        folds: by kind.
        folder: of the comparison.
        network, recipe: how the network is trained, but for the seed; None for one that tuning may
            choose.
        tuning: of the network.
        seeds: the first one's runs have no seed in their names.
        gap_seeds: how many of them train under the folds at random too.
        sources: see `outcrop.training.engine.train`.
        encoder: how features are learnt, but for the seed, or what gives them; or None.
        threads: of a training on the CPU; its last digits depend on them.
        features: float, `N × F`, of all patches, by name.
        baselines: the classical models on features.
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

    def seeds_of(self, kind: str) -> tuple[int, ...]:
        """The random seeds of the trainings under one kind of folds."""
        return self.seeds if kind == "" else self.seeds[: self.gap_seeds]

    @property
    def learnt(self) -> LearntFeatures | None:
        """The encoder, if it is trained."""
        return None if isinstance(self.encoder, GivenFeatures) else self.encoder

    def split(self, trial: Trial) -> Split:
        """The split that a trial trains and judges on."""
        return self.folds[trial.split].splits[trial.fold]

    def name(self, trial: Trial, what: str) -> str:
        """A path inside the folder, such as network, network-random-3 or fold-1/network."""
        ending = "" if trial.seed == self.seeds[0] else f"-{trial.seed}"
        fold = f"fold-{trial.fold}/" if len(self.folds[""]) > 1 else ""
        return f"{fold}{what}{trial.split}{ending}"

    def run(self, trial: Trial, what: str) -> Path:
        """The folder of the run of a network or an encoder."""
        return self.folder / self.name(trial, what)

    def answer(self, trial: Trial, baseline: Baseline) -> Path:
        """The file of what a classical model says."""
        model = f"{baseline.name} on {baseline.features}".replace(" ", "-").lower()
        path = self.folder / self.name(trial, f"answers/{model}")
        return path.with_name(f"{path.name}.npz")

    def is_done(self, trial: Trial) -> bool:
        """Whether a trial has left all that it leaves."""
        if trial.baselines:
            return all(self.answer(trial, one).exists() for one in trial.baselines)
        return is_finished(self.run(trial, trial.what))


def do_all(setting: Setting, trials: Sequence[Trial], executor: Executor, what: str) -> None:
    """Do the trials that are not done yet; each log message is shown once.

    Args:
        what: for the progress bar.

    Raises:
        OutcropError: a trial cannot be done; what others have done stays.
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
    """Train and judge, or go on with it; the result is kept in the folder.

    Raises:
        OutcropError: see `outcrop.training.engine.train`.
    """
    setting.run(trial, trial.what).parent.mkdir(exist_ok=True)
    if trial.baselines:
        _fit(setting, trial)
        return
    folder = setting.run(trial, trial.what)
    patches, split, sources = setting.patches, setting.split(trial), setting.sources
    resume = folder.exists()
    with _threads(setting.threads):
        if trial.what == "network":
            recipe = replace(setting.recipe, seed=trial.seed)
            train(
                patches, split, folder, setting.network, recipe, resume, graph=False,
                sources=sources, tuning=setting.tuning,
            )  # fmt: skip
        else:
            assert setting.learnt is not None
            setting.learnt.learn(patches, split, folder, trial.seed, sources)


@contextmanager
def _threads(number: int) -> Iterator[None]:
    """A block in which a training on the CPU has so many threads, wherever it runs."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def answer(setting: Setting, trial: Trial, baseline: Baseline | None = None) -> Answer:
    """What a trial that is done has said of the validation side.

    Args:
        baseline: one of the trial's; None for a network.

    Raises:
        OutcropError: it is damaged, or of other patches.
    """
    split = setting.split(trial)
    if baseline is None:
        return answer_of(read_run(setting.run(trial, "network"), "cpu"), split)
    path = setting.answer(trial, baseline)
    with decoding(path, "an answer", "remove it, and go on with `outcrop compare --resume`"):
        with np.load(path, allow_pickle=False) as file:
            told = json.loads(str(file["told"]))
            probabilities = file["probabilities"]
        if told["format"] != _FORMAT:
            raise ValueError("another format")
        wanted = len(split.validation), len(setting.patches.classes)
        if told["seed"] != trial.seed or probabilities.shape != wanted:
            raise ValueError("another seed or split")
        return Answer(probabilities, float(told["seconds"]), dict(told["settings"]))


def _fit(setting: Setting, trial: Trial) -> None:
    """Fit the classical models of a trial that have not answered yet, and write their answers."""
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
        told = {
            "format": _FORMAT,
            "outcrop": __version__,
            "seed": trial.seed,
            "seconds": found.seconds + before,
            "settings": dict(found.settings),
        }
        with new_file(path) as temporary:
            np.savez(temporary, told=json.dumps(told), probabilities=found.probabilities)


def _encoder(setting: Setting, trial: Trial) -> tuple[Measure, float]:
    """What turns images into features, and how many seconds it took to learn them."""
    assert setting.encoder is not None
    if isinstance(setting.encoder, GivenFeatures):
        return setting.encoder, 0.0
    return setting.encoder.read(setting.run(trial, "encoder"))


def _answer(
    baseline: Baseline,
    sides: tuple[np.ndarray, ...],
    patches: PatchSet,
    split: Split,
    seed: int,
) -> Answer:
    started = time.perf_counter()
    filling = means_of(sides[0])
    seen, unseen = (filled(side, filling) for side in sides)
    groups = split.groups[split.train] if split.by_ground else None
    fitted = baseline.fit(seen, patches.labels[split.train], groups, len(patches.classes), seed)
    probabilities = fitted.predict_proba(unseen).astype(np.float32)
    return Answer(probabilities, time.perf_counter() - started, fitted.settings)


def pooled(answers: Sequence[Answer], folds: Folds) -> Answer:
    """The answers of all folds as one: of every patch what the fold says that holds it out.

    Seconds are summed; a setting that differs from fold to fold is a list by fold.
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
