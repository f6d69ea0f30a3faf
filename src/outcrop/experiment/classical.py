"""The classical baselines as entrants of a comparison: on simple features, and on codes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from outcrop.experiment.entrants import Answer, Entrant
from outcrop.models.baselines import BASELINES, Baseline
from outcrop.models.features import FEATURES
from outcrop.patches.patchset import PatchSet
from outcrop.progress import track
from outcrop.splits import Split
from outcrop.training.vaegan.run import VaeGanRun

_PART = 4096

Answers = list[tuple[Answer, ...]]
Sides = tuple[np.ndarray, np.ndarray]


def on_features(
    patches: PatchSet, splits: Mapping[str, Split], seeds: tuple[int, ...]
) -> list[Entrant]:
    """Every baseline on the features of its own."""
    answers = {
        name: list(_on_features(patches, split, seeds, f"baselines{name}"))
        for name, split in splits.items()
    }
    return _entrants(BASELINES, answers, seeds)


def on_codes(
    patches: PatchSet,
    splits: Mapping[str, Split],
    encoders: Mapping[str, Sequence[VaeGanRun]],
    seeds: tuple[int, ...],
) -> list[Entrant]:
    """Every kind of baseline on the means of the codes that encoders give the patches.

    Args:
        encoders: by the name of the split whose training side they have learnt, one for each seed.
            Their training counts among the seconds of each baseline.
    """
    runs = tuple(run.folder.name for run in encoders[""])
    feature = f"{encoders[''][0].model.network.title} code"
    baselines = [Baseline(kind, feature) for kind in dict.fromkeys(b.name for b in BASELINES)]
    answers = {
        name: list(_on_codes(patches, split, encoders[name], baselines, seeds, f"codes{name}"))
        for name, split in splits.items()
    }
    return _entrants(baselines, answers, seeds, runs)


def _entrants(
    baselines: Sequence[Baseline],
    answers: Mapping[str, Answers],
    seeds: tuple[int, ...],
    runs: tuple[str, ...] = (),
) -> list[Entrant]:
    at_random = answers.get("-random", [()] * len(baselines))
    return [
        Entrant(baseline.name, baseline.features, seeds, ground, random, runs)
        for baseline, ground, random in zip(baselines, answers[""], at_random, strict=True)
    ]


def _on_features(
    patches: PatchSet, split: Split, seeds: Sequence[int], what: str
) -> Iterator[tuple[Answer, ...]]:
    """Of each baseline in turn, one for each seed."""
    features = {name: _sides(measure, patches, split) for name, measure in FEATURES.items()}
    for baseline in track(BASELINES, what, len(BASELINES)):
        sides = features[baseline.features]
        yield tuple(_answer(baseline, sides, patches, split, seed) for seed in seeds)


def _on_codes(
    patches: PatchSet,
    split: Split,
    encoders: Sequence[VaeGanRun],
    baselines: Sequence[Baseline],
    seeds: Sequence[int],
    what: str,
) -> Iterator[tuple[Answer, ...]]:
    """Of each baseline in turn, one for each seed, on the code of that seed's encoder."""
    codes = [_codes(run, patches, split) for run in encoders]
    training = [sum(epoch.seconds for epoch in run.metrics) for run in encoders]
    for baseline in track(baselines, what, len(baselines)):
        answers = [
            _answer(baseline, sides, patches, split, seed)
            for sides, seed in zip(codes, seeds, strict=True)
        ]
        yield tuple(
            replace(answer, seconds=answer.seconds + seconds)
            for answer, seconds in zip(answers, training, strict=True)
        )


def _codes(encoder: VaeGanRun, patches: PatchSet, split: Split) -> Sides:
    """The means of the codes of the training and of the validation side."""
    return _sides(lambda images: encoder.model.encode(images)[0], patches, split)


def _sides(measure: Callable[[np.ndarray], np.ndarray], patches: PatchSet, split: Split) -> Sides:
    """Features of the training and of the validation side."""
    return _measured(measure, patches, split.train), _measured(measure, patches, split.validation)


def _measured(
    measure: Callable[[np.ndarray], np.ndarray], patches: PatchSet, index: np.ndarray
) -> np.ndarray:
    """Features of some of the patches, without holding more than a part of the images."""
    parts = np.array_split(index, max(1, len(index) // _PART))
    return np.concatenate([measure(patches.take(part)) for part in parts])


def _answer(baseline: Baseline, sides: Sides, patches: PatchSet, split: Split, seed: int) -> Answer:
    started = time.perf_counter()
    seen, unseen = sides
    groups = split.groups[split.train] if split.by_ground else None
    fitted = baseline.fit(seen, patches.labels[split.train], groups, len(patches.classes), seed)
    predicted = fitted.predict(unseen)
    return Answer(predicted, time.perf_counter() - started, fitted.settings)
