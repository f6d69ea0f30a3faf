"""How much does a random split flatter on real scenes? Random folds against spatial folds.

    .venv/bin/python -m benchmarks.leak_gaps --folder leak_gaps

The scenes and their spatial folds are those of `benchmarks.real_ground`. Two classical models,
which take seconds: an SVM on the centre pixel and a random forest on patch statistics. Each is
tuned by folds inside the training side, and judged on the same patches under five spatial folds and
five random folds with the same numbers of patches. A scene that is done is not repeated;
`leak_gaps.jsonl` has a line for each scene and model.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.scenes import SCENES
from outcrop.metrics.gaps import leak_gap
from outcrop.metrics.scores import score
from outcrop.models.baselines import Baseline
from outcrop.models.features import FEATURES
from outcrop.patches.patchset import PatchSet, read_patches
from outcrop.splits import Folds, random_folds
from outcrop.training.classical import filled
from outcrop.training.fit import features_of, means_of

MODELS = (Baseline("SVM", "centre pixel"), Baseline("random forest", "patch statistics"))


def predictions(
    patches: PatchSet, folds: Folds, model: Baseline, features: np.ndarray
) -> np.ndarray:
    """The class that a model predicts for each judged patch: int, `N`, -1 for the others."""
    found = np.full(len(patches), -1)
    for split in folds.splits:
        means = means_of(features[split.train])
        groups = split.groups[split.train] if split.spatial else None
        fitted = model.fit(
            filled(features[split.train], means), patches.labels[split.train], groups,
            len(patches.classes), 0,
        )  # fmt: skip
        probabilities = fitted.predict_proba(filled(features[split.validation], means))
        found[split.validation] = probabilities.argmax(axis=1)
    return found


def markdown(lines: Sequence[dict[str, Any]]) -> str:
    """A row for each scene and model; in %."""
    said = [
        "| scene | model | spatial folds | random folds | leak gap, points |",
        "| --- | --- | --- | --- | --- |",
    ]
    for line in lines:
        spatial, random, gap = (
            [100 * one for one in line[k]] for k in ("spatial", "random", "gap")
        )
        said.append(
            f"| {line['scene']} | {line['model']} | "
            f"{spatial[0]:.1f} [{spatial[1]:.1f}, {spatial[2]:.1f}] | "
            f"{random[0]:.1f} [{random[1]:.1f}, {random[2]:.1f}] | "
            f"{gap[0]:+.1f} [{gap[1]:+.1f}, {gap[2]:+.1f}] |"
        )
    return "\n".join(said)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--scenes", default=",".join(SCENES))
    arguments = parser.parse_args()
    arguments.folder.mkdir(exist_ok=True)
    lines = arguments.folder / "leak_gaps.jsonl"
    done = {json.loads(line)["scene"] for line in lines.open()} if lines.exists() else set()
    data = Path(os.environ.get("OUTCROP_SHARED", "../shared")) / "data"
    for name in arguments.scenes.split(","):
        if name in done:
            continue
        cut = arguments.folder / f"{name}.zarr"
        patches = read_patches(cut) if cut.exists() else SCENES[name].cut(data)
        if not cut.exists():
            patches.save(cut)
        spatial = SCENES[name].splitter(5, False).assign_all(patches)
        kinds = {"spatial": spatial, "random": random_folds(patches, spatial, 0)}
        judged = spatial.judged(patches.labels)
        truth, groups = patches.labels[judged], spatial.groups[judged]
        for model in MODELS:
            assert model.features in FEATURES
            features = features_of(model.features, patches, np.arange(len(patches)))
            said = {kind: predictions(patches, folds, model, features)[judged]
                    for kind, folds in kinds.items()}  # fmt: skip
            right = {kind: one == truth for kind, one in said.items()}
            gap = leak_gap(right["random"], right["spatial"], groups)
            scores = {
                kind: score(truth, one, patches.classes, groups).overall
                for kind, one in said.items()
            }
            line = {
                "scene": name, "model": f"{model.name}, {model.features}", "patches": len(judged),
                "pieces": len(np.unique(groups)), "gap": [gap.value, gap.low, gap.high],
                **{kind: [one.value, one.low, one.high] for kind, one in scores.items()},
            }  # fmt: skip
            with lines.open("a") as file:
                file.write(json.dumps(line) + "\n")
            print(
                name,
                line["model"],
                *(f"{kind} {one}" for kind, one in scores.items()),
                f"gap {gap}",
            )


if __name__ == "__main__":
    main()
