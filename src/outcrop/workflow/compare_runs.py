"""Comparison of finished runs, without training."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from outcrop.errors import OutcropError
from outcrop.files import check_new, new_folder
from outcrop.patches.collection import AnyPatches, open_patches
from outcrop.patches.patchset import PatchSet
from outcrop.splits import Split, read_split
from outcrop.splits.split import AnySplit
from outcrop.training.run import read_run
from outcrop.workflow.candidates import (
    Answer,
    Candidate,
    answer_of,
    compare_candidates,
    write_predictions,
)
from outcrop.workflow.comparison import Comparison, write_comparison


def compare_runs(
    patches: AnyPatches, split: AnySplit, runs: Sequence[str | Path], folder: str | Path
) -> Comparison:
    """Compare several finished runs on the validation patches.

    Runs that differ only in the seed are seeds of one model. A model is named after its network,
    and also after the folder of its first run if names would be equal otherwise.

    Args:
        patches: patch set, or its name.
        split: split of all runs, or the name of its file.
        runs: folders made by `outcrop train` on these patches and this split.
        folder: output folder for `comparison.json` and the predictions; it refers to the runs.

    Raises:
        OutcropError: the split does not fit the patches; a run is missing, unfinished, named twice,
            or has other classes, patches or another split; all runs are of one model; `folder`
            exists.
    """
    folder, patches, split = Path(folder), open_patches(patches), read_split(split)
    split.check(patches)
    check_new(folder, instead="")
    models: dict[str, list[_Finished]] = {}
    for run in map(Path, runs):
        one = _open(run, patches, split)
        same = models.setdefault(one.kind, [])
        if again := [other.folder for other in same if other.seed == one.seed]:
            raise OutcropError(run, f"equals {again[0]} with the same seed; name one of them")
        same.append(one)
    if len(models) < 2:
        raise OutcropError("`runs`", "are all of one model; add a run of another model")
    names = _names([same[0] for same in models.values()])
    candidates = [
        Candidate(
            model=name,
            features="patch",
            seeds=tuple(one.seed for one in same),
            answers=tuple(one.answer for one in same),
            runs=tuple(os.path.relpath(one.folder.resolve(), folder.resolve()) for one in same),
        )
        for name, same in zip(names, models.values(), strict=True)
    ]
    comparison = compare_candidates(candidates, patches, split)
    with new_folder(folder) as temporary:
        write_predictions(temporary / "predictions.npz", candidates, patches, split)
        write_comparison(temporary, comparison)
    return comparison


@dataclass(frozen=True)
class _Finished:
    """A finished run; runs of one kind differ only in their seed."""

    folder: Path
    title: str
    kind: str
    seed: int
    answer: Answer


def _open(folder: Path, patches: PatchSet, split: Split) -> _Finished:
    run = read_run(folder, "cpu")
    config = run.config
    try:
        _check(folder, config["patches"], patches)
        kind, seed = _kind(config), (config.get("recipe") or config["classical"])["seed"]
    except (KeyError, TypeError, AttributeError) as error:
        raise OutcropError(folder / "config.json", "is damaged; train again") from error
    if not np.array_equal(read_split(folder / "split.json").sides, split.sides):
        raise OutcropError(folder, "was trained on another split; name runs on this split")
    return _Finished(folder, run.model.title, kind, seed, answer_of(run, split))


def _check(folder: Path, trained: dict[str, Any], patches: PatchSet) -> None:
    if trained["classes"] != list(patches.classes):
        raise OutcropError(
            folder,
            f"has other classes than the patches: {', '.join(trained['classes'])}; "
            "name runs on these patches",
        )
    if trained["fingerprint"] != patches.fingerprint:
        raise OutcropError(folder, "was trained on other patches; name runs on these patches")


def _kind(config: Mapping[str, Any]) -> str:
    """Model and settings of a run as text, without the seed and the device."""
    if "classical" in config:
        return json.dumps({**config["classical"], "seed": None}, sort_keys=True)
    recipe = {name: value for name, value in config["recipe"].items() if name != "seed"}
    free = ("device", "gpu_memory")
    recipe["machine"] = {k: v for k, v in recipe.get("machine", {}).items() if k not in free}
    return json.dumps([config["network"], recipe], sort_keys=True)


def _names(firsts: Sequence[_Finished]) -> list[str]:
    """Unique names of the models, from their first runs."""
    titles = [one.title for one in firsts]
    folders = [one.folder.resolve().name for one in firsts]
    names = []
    for one, title, folder in zip(firsts, titles, folders, strict=True):
        if titles.count(title) == 1:
            names.append(title)
        elif list(zip(titles, folders, strict=True)).count((title, folder)) == 1:
            names.append(f"{title} ({folder})")
        else:
            names.append(f"{title} ({one.folder})")
    return names
